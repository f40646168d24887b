// SPDX-License-Identifier: Apache-2.0
/* A client's session: opening, the arena's address and growth, closing, fork. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client.h"
#include "wire.h"

#define REQUEST_SIZE	(256 * 1024)
#define REPLY_SIZE	(64 * 1024)
#define ARENA_SIZE	(1024 * 1024)
#define ARENA_STEP_MAX	(64ull << 20)	/* the arena doubles until it grows by this much at a time */
#define TIMEOUT_MS	10000
#define RUN_DIR		"/run/vgpu"

/* --- opening --------------------------------------------------------------------------------------------------- */

static int defaults(struct idm_client_params *p, char *path, size_t cap, struct idm_error *e)
{
	uint64_t ring = idm_parse_size(getenv("VGPU_RING_SIZE"));
	uint64_t arena = idm_parse_size(getenv("VGPU_ARENA_SIZE"));

	if (getenv("VGPU_RING_SIZE") && (ring < IDM_RING_MIN || ring > IDM_RING_MAX || (ring & (ring - 1))))
		return idm_error_set(e, EINVAL, "VGPU_RING_SIZE=%s: it must be a power of two from %u to %u",
				     getenv("VGPU_RING_SIZE"), IDM_RING_MIN, IDM_RING_MAX);
	if (!p->request_size)
		p->request_size = ring ? ring : REQUEST_SIZE;
	if (!p->reply_size)
		p->reply_size = ring ? ring : REPLY_SIZE;
	if (!p->arena_size)
		p->arena_size = arena ? arena : ARENA_SIZE;
	p->arena_size = (p->arena_size + IDM_PAGE_SIZE - 1) & ~(uint64_t)(IDM_PAGE_SIZE - 1);
	if (!p->timeout_ms)
		p->timeout_ms = TIMEOUT_MS;
	if (!p->transport)
		p->transport = getenv("VGPU_TRANSPORT");
	if (p->transport && *p->transport)
		return 0;
	if (!access("/dev/vgpu", F_OK)) {
		p->transport = "xen:/dev/vgpu";
		return 0;
	}
	snprintf(path, cap, "local:%s/vgpu.sock", getenv("VGPU_RUN_DIR") ? getenv("VGPU_RUN_DIR") : RUN_DIR);
	p->transport = path;
	return 0;
}

static bool map_arena(struct idm_client *c, uint64_t base, uint64_t from, uint64_t to)
{
	void *want = (void *)(base + from), *got;

	got = mmap(want, to - from, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE,
		   c->layout.fd, c->layout.arena_offset + from);
	if (got == want) {
		if (!c->layout.xen)
			madvise(got, to - from, MADV_HUGEPAGE);
		return true;
	}
	if (got != MAP_FAILED) {	/* a kernel that does not know MAP_FIXED_NOREPLACE */
		munmap(got, to - from);
		errno = EEXIST;
	}
	return false;
}

static int hello(struct idm_client *c, uint64_t table_hash, uint64_t base, struct idm_pending *p)
{
	struct vgpu_hello h = { .table_hash = table_hash, .arena_base = base, .pid = getpid() };
	struct iovec iov = { &h, sizeof(h) };

	snprintf(h.program, sizeof(h.program), "%s", program_invocation_short_name);
	return idm_call(c, IDM_HELLO, &iov, 1, p);
}

/* Agree with the worker on an address that is free on both sides. */
static int place_arena(struct idm_client *c, uint64_t table_hash, struct idm_error *e)
{
	for (unsigned int i = 0; i < IDM_ARENA_SLOTS; i++) {
		struct idm_pending p = { 0 };
		uint64_t base = IDM_SLOT(i);
		int rc;

		if (!map_arena(c, base, 0, c->layout.arena_map)) {
			if (errno == EEXIST)
				continue;
			return idm_error_set(e, errno, "session %u: cannot map %llu MiB of arena: %s",
					     c->layout.session, (unsigned long long)(c->layout.arena_map >> 20),
					     strerror(errno));
		}
		rc = hello(c, table_hash, base, &p);
		if (!rc && !p.response.error) {
			c->arena = (char *)base;
			return 0;
		}
		munmap((void *)base, c->layout.arena_map);
		if (rc)
			return idm_error_set(e, -rc, "session %u was refused: %s", c->layout.session,
					     idm_client_ended(c) ? idm_client_ended(c) : strerror(-rc));
		if (p.response.error != IDM_ERROR_INVALID_SIZE)
			return idm_error_set(e, EPROTO, "session %u: the worker refused the arena (error %u)",
					     c->layout.session, p.response.error);
	}
	return idm_error_set(e, ENOMEM, "session %u: no address range is free in both client and worker for the arena",
			     c->layout.session);
}

static int tell_arena(struct idm_client *c, uint64_t size)
{
	struct vgpu_arena_grown g = { .arena_size = size };
	struct iovec iov = { &g, sizeof(g) };
	struct idm_pending p = { 0 };
	int rc = idm_call(c, IDM_ARENA_GROWN, &iov, 1, &p);

	if (rc)
		return rc;
	return p.response.error ? -ENOMEM : 0;
}

int idm_client_open(struct idm_client **out, const struct idm_client_params *params, struct idm_error *e)
{
	struct idm_client_params p = *params;
	struct idm_client *c;
	char path[256];
	char *base;
	int rc;

	rc = defaults(&p, path, sizeof(path), e);
	if (rc)
		return rc;
	c = aligned_alloc(64, (sizeof(*c) + 63) / 64 * 64);
	if (!c)
		return idm_error_set(e, ENOMEM, "no memory for a session");
	memset(c, 0, sizeof(*c));
	c->layout.fd = c->layout.life = -1;
	c->on_output = p.on_output;
	c->told_end = &c->told;
	c->text = malloc(IDM_PAYLOAD_MAX);
	if (!c->text) {
		rc = idm_error_set(e, ENOMEM, "no memory for a session");
		goto fail;
	}
	if (!strncmp(p.transport, "xen:", 4))
		rc = idm_xen_connect(p.transport + 4, &p, &c->layout, e);
	else if (!strncmp(p.transport, "local:", 6))
		rc = idm_local_connect(p.transport + 6, &p, &c->layout, e);
	else
		rc = idm_error_set(e, EINVAL, "transport \"%s\": it must be xen:PATH or local:PATH (VGPU_TRANSPORT)",
				   p.transport);
	if (rc)
		goto fail;

	/* Populated: a fault at the first touch of each page would be 1 in 40 calls at first. */
	base = mmap(NULL, c->layout.rings_end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, c->layout.fd, 0);
	if (base == MAP_FAILED) {
		rc = idm_error_set(e, errno, "session %u: cannot map its rings: %s", c->layout.session,
				   strerror(errno));
		goto fail;
	}
	/* A forked child has nothing to look for in the rings. */
	madvise(base, c->layout.rings_end, MADV_DONTFORK);
	c->page = (struct idm_session *)base;
	idm_link_init(&c->link, &c->page->client, &c->page->worker, true);
	if (c->layout.xen) {
		c->link.fd = c->layout.fd;
		idm_xen_ioctls(&c->link);
	}
	idm_queue_init(&c->tx, &c->page->request, base + c->layout.request_offset, c->layout.request_size);
	idm_queue_init(&c->rx, &c->page->reply, base + c->layout.reply_offset, c->layout.reply_size);

	c->deadline = idm_now_ns() + p.timeout_ms * 1000000ll;
	rc = place_arena(c, p.table_hash, e);
	if (rc)
		goto fail;
	c->deadline = 0;
	if (!c->layout.xen) {
		rc = tell_arena(c, c->layout.arena_size);
		if (rc) {
			rc = idm_error_set(e, -rc, "session %u: the worker cannot use %llu KiB of arena: %s",
					   c->layout.session, (unsigned long long)(c->layout.arena_size >> 10),
					   idm_client_ended(c) ? idm_client_ended(c) : strerror(-rc));
			goto fail;
		}
	}
	c->arena_size = c->layout.arena_size;
	c->heap = idm_heap_new(c->arena_size);
	if (!c->heap) {
		rc = idm_error_set(e, ENOMEM, "no memory for a session");
		goto fail;
	}
	*out = c;
	return 0;
fail:
	idm_client_close(c);
	return rc;
}

void idm_client_close(struct idm_client *c)
{
	if (!c)
		return;
	if (c->arena)
		munmap(c->arena, c->layout.xen ? c->arena_size : c->layout.arena_map);
	if (c->page)
		munmap(c->page, c->layout.rings_end);
	if (c->layout.life >= 0)
		close(c->layout.life);
	if (c->layout.fd >= 0)
		close(c->layout.fd);
	idm_heap_delete(c->heap);
	while (c->told) {
		struct idm_told *t = c->told;

		c->told = t->next;
		free(t);
	}
	free(c->text);
	free(c);
}

void idm_client_abandon(struct idm_client *c)
{
	/*
	 * Other threads of the parent may have held any lock, and do not exist here. The rings were not inherited;
	 * the arena stays mapped, because the program may look at its pinned memory in the child. What must
	 * go are the descriptors: they would keep the parent's session alive after the parent.
	 */
	if (c->layout.life >= 0)
		close(c->layout.life);
	if (c->layout.fd >= 0)
		close(c->layout.fd);
	c->layout.life = c->layout.fd = -1;
	c->page = NULL;
}

/* --- arena ------------------------------------------------------------------------------------------------------- */

void *idm_arena_base(const struct idm_client *c)
{
	return c->arena;
}

uint64_t idm_arena_size(const struct idm_client *c)
{
	return __atomic_load_n(&c->arena_size, __ATOMIC_ACQUIRE);
}

static uint64_t heap_alloc(struct idm_client *c, uint64_t size)
{
	uint64_t off;

	idm_lock(&c->heap_lock);
	off = idm_heap_alloc(c->heap, size, size >= IDM_PAGE_SIZE ? IDM_PAGE_SIZE : 64);
	idm_unlock(&c->heap_lock);
	return off;
}

/* Make the arena at least @more bytes longer. */
static bool grow(struct idm_client *c, uint64_t more)
{
	uint64_t old = c->arena_size, step = old < ARENA_STEP_MAX ? old : ARENA_STEP_MAX, want, least;

	if (more > c->layout.arena_max || old > c->layout.arena_max - more)
		return false;
	least = (old + more + IDM_PAGE_SIZE - 1) & ~(uint64_t)(IDM_PAGE_SIZE - 1);
	want = old + (more > step ? more : step);
	want = (want + IDM_PAGE_SIZE - 1) & ~(uint64_t)(IDM_PAGE_SIZE - 1);
	if (want > c->layout.arena_max)
		want = c->layout.arena_max;
	if (least > want)
		return false;
	if (c->layout.xen) {
		uint64_t lent = want;

		/* The generous wish first, then what is really needed. */
		if (idm_xen_grow(c->layout.fd, &lent)) {
			lent = least;
			if (idm_xen_grow(c->layout.fd, &lent))
				return false;
		}
		want = lent;
		if (!map_arena(c, (uint64_t)c->arena, old, want))
			return false;
	}
	if (tell_arena(c, want)) {
		/* It stays lent, for the next try to map. */
		if (c->layout.xen)
			munmap(c->arena + old, want - old);
		return false;
	}
	idm_lock(&c->heap_lock);
	if (!idm_heap_grow(c->heap, want)) {
		idm_unlock(&c->heap_lock);
		return false;
	}
	idm_unlock(&c->heap_lock);
	__atomic_store_n(&c->arena_size, want, __ATOMIC_RELEASE);
	c->grown++;
	return true;
}

void *idm_arena_alloc(struct idm_client *c, uint64_t size)
{
	uint64_t off;

	if (!size || size > c->layout.arena_max)
		return NULL;
	if (size >= IDM_PAGE_SIZE)
		size = (size + IDM_PAGE_SIZE - 1) & ~(uint64_t)(IDM_PAGE_SIZE - 1);
	off = heap_alloc(c, size);
	if (off == IDM_HEAP_NONE) {
		idm_lock(&c->grow_lock);
		/* Another thread may have grown it meanwhile. */
		off = heap_alloc(c, size);
		while (off == IDM_HEAP_NONE && grow(c, size))
			off = heap_alloc(c, size);
		idm_unlock(&c->grow_lock);
	}
	return off == IDM_HEAP_NONE ? NULL : c->arena + off;
}

uint64_t idm_arena_free(struct idm_client *c, void *p)
{
	uint64_t off = (uint64_t)p - (uint64_t)c->arena, size;

	if (off >= idm_arena_size(c))
		return 0;
	idm_lock(&c->heap_lock);
	size = idm_heap_free(c->heap, off);
	idm_unlock(&c->heap_lock);
	return size;
}

bool idm_arena_lookup(struct idm_client *c, const void *p, void **base, uint64_t *size)
{
	uint64_t off = (uint64_t)p - (uint64_t)c->arena, start = 0;
	bool found;

	if (off >= idm_arena_size(c))
		return false;
	idm_lock(&c->heap_lock);
	found = idm_heap_lookup(c->heap, off, &start, size);
	idm_unlock(&c->heap_lock);
	if (found)
		*base = c->arena + start;
	return found;
}

int idm_arena_alias(struct idm_client *c, const void *p, uint64_t size, void *at, int prot)
{
	uint64_t off = (uint64_t)p - (uint64_t)c->arena;
	void *fresh;

	if (off >= idm_arena_size(c) || size > idm_arena_size(c) - off || (off | size | (uint64_t)at) & (IDM_PAGE_SIZE - 1))
		return -EINVAL;
	/* Mapped somewhere first and moved then, so that what may fail fails before anything is lost. */
	fresh = mmap(NULL, size, prot, MAP_SHARED | MAP_NORESERVE, c->layout.fd, c->layout.arena_offset + off);
	if (fresh == MAP_FAILED)
		return -errno;
	if (mremap(fresh, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
		int err = errno;

		munmap(fresh, size);
		return -err;
	}
	return 0;
}
