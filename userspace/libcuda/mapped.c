// SPDX-License-Identifier: Apache-2.0
/*
 * Pods lend no memory: what a program registers for mapping cannot be shown to the driver domain. So the pages change
 * sides. Arena pages with the same contents take the place of the program's, at the same address; the GPU knows them by
 * their address in the arena, which is therefore the device address (CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
 * is 0). Both sides see what either writes, at once.
 *
 * Whole pages change, also where the range begins or ends inside one. What other threads write to their part of such a
 * page in that moment is found in the old page afterwards, which a pipe keeps for us, and carried over.
 *
 * It can't be done with memory shared with other processes or devices, whose pages others hold too, with stacks, and with
 * a page that another registered range has taken already. Then registering for mapping is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mapped.h"

#define PAGE	((uint64_t)IDM_PAGE_SIZE)

struct mapped {
	uint64_t base, size;		/* as registered */
	uint64_t first, bytes;		/* the pages */
	char *arena;
	int prot;
	char file[64];			/* of /proc/self/maps: what is mapped there now */
	void *snapshot;			/* for a child */
	struct mapped *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapped *list;
static unsigned int count;		/* atomic: almost always 0 */

/* What lies in [first, first + bytes): one protection, no gap. @file: device, inode and offset at its start */
struct place {
	int prot;
	bool whole, private_, special;
	char file[64];
};

static bool look(uint64_t first, uint64_t bytes, struct place *out)
{
	FILE *f = fopen("/proc/self/maps", "re");
	uint64_t at = first;
	char line[512];

	*out = (struct place){ .private_ = true };
	if (!f)
		return false;
	while (at < first + bytes && fgets(line, sizeof(line), f)) {
		unsigned long long from, to, offset, inode;
		char perm[8], dev[16], name[256] = "";
		int prot;

		if (sscanf(line, "%llx-%llx %7s %llx %15s %llu %255s", &from, &to, perm, &offset, dev, &inode, name) < 6 ||
		    to <= at)
			continue;
		if (from > at)
			break;
		prot = (perm[0] == 'r' ? PROT_READ : 0) | (perm[1] == 'w' ? PROT_WRITE : 0) | (perm[2] == 'x' ? PROT_EXEC : 0);
		if (at == first) {
			out->prot = prot;
			snprintf(out->file, sizeof(out->file), "%s %llu %llx", dev, inode, offset + (first - from));
		}
		if (prot != out->prot)
			break;
		if (perm[3] != 'p')
			out->private_ = false;
		if (name[0] == '[' && strcmp(name, "[heap]") && strncmp(name, "[anon:", 6))
			out->special = true;
		at = to;
	}
	fclose(f);
	out->whole = at >= first + bytes;
	return true;
}

/* The stack that we run on: its pages are in use while they would change. */
static bool is_stack(uint64_t first, uint64_t bytes)
{
	uint64_t here = (uintptr_t)__builtin_frame_address(0);
	pthread_attr_t attr;
	size_t size = 0;
	void *low = NULL;

	if (here - first < bytes)
		return true;
	if (pthread_getattr_np(pthread_self(), &attr))
		return false;
	pthread_attr_getstack(&attr, &low, &size);
	pthread_attr_destroy(&attr);
	return (uintptr_t)low < first + bytes && first < (uintptr_t)low + size;
}

/* An old page that stays readable after it has been replaced. */
struct held {
	int pipe[2];
	bool ok;
};

static void hold(struct held *h, uint64_t page)
{
	struct iovec iov = { (void *)page, PAGE };

	h->ok = false;
	if (pipe2(h->pipe, O_CLOEXEC | O_NONBLOCK))
		return;
	h->ok = vmsplice(h->pipe[1], &iov, 1, 0) == (ssize_t)PAGE;
}

/* What was written to the old page after it was copied: @copied is what the copy was. */
static void catch_up(struct held *h, unsigned char *page, const unsigned char *copied)
{
	unsigned char old[PAGE];

	if (h->ok && read(h->pipe[0], old, PAGE) == (ssize_t)PAGE)
		for (uint64_t i = 0; i < PAGE; i++)
			if (old[i] != copied[i])
				page[i] = old[i];
	if (h->pipe[0] >= 0) {
		close(h->pipe[0]);
		close(h->pipe[1]);
	}
}

/* Under the lock. */
static CUresult replace(struct mapped *m)
{
	static unsigned char edges[2][4096];
	struct held held[2] = { { { -1, -1 }, false }, { { -1, -1 }, false } };
	uint64_t last = m->first + m->bytes - PAGE;
	struct place p;
	int err;

	if (!look(m->first, m->bytes, &p) || !p.whole || !(p.prot & PROT_READ) || p.prot & PROT_EXEC || !p.private_ ||
	    p.special || is_stack(m->first, m->bytes))
		return REFUSE("mapping memory that is shared with others, on a stack, or not memory",
			      "allocate it with cuMemHostAlloc, or register it without CU_MEMHOSTREGISTER_DEVICEMAP");
	m->prot = p.prot;
	m->arena = idm_arena_alloc(shim.client, m->bytes);
	if (!m->arena)
		return CUDA_ERROR_OUT_OF_MEMORY;
	hold(&held[0], m->first);
	if (last != m->first)
		hold(&held[1], last);
	memcpy(m->arena, (void *)m->first, m->bytes);
	memcpy(edges[0], m->arena, PAGE);
	memcpy(edges[1], m->arena + m->bytes - PAGE, PAGE);
	err = idm_arena_alias(shim.client, m->arena, m->bytes, (void *)m->first, m->prot);
	catch_up(&held[0], (unsigned char *)m->arena, edges[0]);
	catch_up(&held[1], (unsigned char *)m->arena + m->bytes - PAGE, edges[1]);
	if (err) {
		idm_arena_free(shim.client, m->arena);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (look(m->first, m->bytes, &p))
		memcpy(m->file, p.file, sizeof(m->file));
	return CUDA_SUCCESS;
}

static struct mapped *find(uint64_t base)
{
	struct mapped *m;

	for (m = list; m && m->base != base; m = m->next)
		;
	return m;
}

CUresult mapped_device_address(uint64_t base, uint64_t *device)
{
	CUresult r = CUDA_SUCCESS;
	struct range range, alias;
	struct mapped *m;

	if (!range_find(base, &range) || range.kind != RANGE_REGISTERED || range.base != base)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	m = find(base);
	if (!m) {
		m = calloc(1, sizeof(*m));
		if (!m) {
			r = CUDA_ERROR_OUT_OF_MEMORY;
			goto out;
		}
		m->base = base;
		m->size = range.size;
		m->first = base & ~(PAGE - 1);
		m->bytes = ((base + range.size + PAGE - 1) & ~(PAGE - 1)) - m->first;
		r = replace(m);
		if (r != CUDA_SUCCESS) {
			free(m);
			goto out;
		}
		/* The GPU's address of it: known, and nobody's to free. */
		alias = (struct range){ .base = (uintptr_t)m->arena + (base - m->first), .size = range.size,
					.kind = RANGE_ALIAS, .flags = range.flags, .device = range.device, .ctx = range.ctx,
					.alias = base };
		range_insert(&alias);
		m->next = list;
		list = m;
		__atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
	}
	*device = (uintptr_t)m->arena + (base - m->first);
out:
	pthread_mutex_unlock(&lock);
	return r;
}

bool mapped_arena(uint64_t p, uint64_t n, uint64_t *arena)
{
	struct mapped *m = NULL;

	if (!__atomic_load_n(&count, __ATOMIC_RELAXED))
		return false;
	pthread_mutex_lock(&lock);
	for (m = list; m && (p < m->base || p - m->base > m->size || n > m->size - (p - m->base)); m = m->next)
		;
	if (m)
		*arena = (uintptr_t)m->arena + (p - m->first);
	pthread_mutex_unlock(&lock);
	return m;
}

/* Ordinary pages with @contents at the place of @m's. */
static bool restore(const struct mapped *m, void *contents)
{
	mprotect(contents, m->bytes, m->prot);
	return mremap(contents, m->bytes, m->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)m->first) != MAP_FAILED;
}

static void *copy_of(const struct mapped *m)
{
	void *p = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	memcpy(p, m->arena, m->bytes);
	return p;
}

void mapped_drop(uint64_t base)
{
	struct mapped **at, *m = NULL;
	struct place p;
	void *contents;

	if (!__atomic_load_n(&count, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&lock);
	for (at = &list; *at && (*at)->base != base; at = &(*at)->next)
		;
	m = *at;
	if (m) {
		*at = m->next;
		__atomic_sub_fetch(&count, 1, __ATOMIC_RELAXED);
		range_remove((uintptr_t)m->arena + (m->base - m->first), 1 << RANGE_ALIAS, NULL);
		/* Unless the program has put something else there meanwhile. */
		if (look(m->first, m->bytes, &p) && p.whole && !strcmp(p.file, m->file)) {
			contents = copy_of(m);
			/* Without memory for that the arena's pages stay where they are, for good. */
			if (!contents || !restore(m, contents)) {
				free(m);
				m = NULL;
			}
		}
	}
	if (m)
		idm_arena_free(shim.client, m->arena);
	pthread_mutex_unlock(&lock);
	free(m);
}

void mapped_fork_prepare(void)
{
	pthread_mutex_lock(&lock);
	for (struct mapped *m = list; m; m = m->next)
		m->snapshot = copy_of(m);
}

void mapped_fork_parent(void)
{
	for (struct mapped *m = list; m; m = m->next)
		if (m->snapshot)
			munmap(m->snapshot, m->bytes);
	pthread_mutex_unlock(&lock);
}

void mapped_fork_child(void)
{
	for (struct mapped *m = list; m; m = m->next)
		if (m->snapshot)
			restore(m, m->snapshot);
	list = NULL;
	count = 0;
	pthread_mutex_unlock(&lock);
}
