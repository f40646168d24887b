// SPDX-License-Identifier: Apache-2.0
/*
 * The worker's messages: one thread receives, any thread replies. Nothing is allocated per message.
 *
 * After idm_server_open(), system calls are confined to: futex (local) or ioctl on the session file (Xen) for
 * sleeping and waking; mmap, madvise and munmap of the session file in answer to IDM_HELLO and IDM_ARENA_GROWN; poll,
 * in the thread that watches the client's life; and in idm_server_close() shutdown, close and munmap. clock_gettime and
 * getcpu are the vDSO's, but may become real calls where the clock source is none it knows.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "linux/vgpu_back.h"
#include "wire.h"

#define OUTPUT_CHUNK	4096

struct idm_server {
	struct idm_server_params params;
	struct idm_layout layout;
	struct idm_session *page;
	struct idm_link link;

	struct idm_queue rx;		/* the receiving thread's */
	unsigned char *payload;
	bool adopt;
	struct vgpu_hello hello;
	uint64_t called, posted, grown;

	struct idm_lock reply;
	struct idm_queue tx;		/* under `reply` */

	char *arena;			/* NULL before IDM_HELLO */
	uint64_t mapped;		/* bytes behind it that are mapped */
	uint64_t arena_size;		/* bytes of it that may be used */

	pthread_t watcher;
	bool watching;
};

/* --- set-up ------------------------------------------------------------------------------------------------------ */

/* A thread of its own, because the receiver may be asleep on the futex in page 0 when the client dies. */
static void *watch(void *arg)
{
	struct idm_server *s = arg;
	struct pollfd p = { .fd = s->params.life, .events = POLLRDHUP };

	while (poll(&p, 1, -1) < 0 && (errno == EINTR || errno == EAGAIN))
		;
	__atomic_store_n(&s->link.over, 1, __ATOMIC_SEQ_CST);
	idm_side_alarm(&s->page->worker);
	return NULL;
}

static int layout_xen(struct idm_server *s, struct idm_error *e)
{
	struct vgpu_back_info info;

	if (ioctl(s->params.fd, VGPU_BACK_IOC_INFO, &info))
		return idm_error_set(e, errno, "zone %u: what was given to the worker is no session of vgpu-back: %s",
				     s->params.zone, strerror(errno));
	s->layout = (struct idm_layout){
		.xen = true, .session = info.session, .request_size = info.request_size,
		.reply_size = info.reply_size, .request_offset = info.request_offset,
		.reply_offset = info.reply_offset, .rings_end = info.arena_offset, .arena_offset = info.arena_offset,
		.arena_map = info.arena_size, .arena_size = info.arena_size, .arena_max = IDM_ARENA_SLOT_SIZE,
	};
	/* The driver's word on who the client is. */
	s->params.zone = info.zone;
	s->params.own_zone = info.own_zone;
	s->link.fd = s->params.fd;
	s->link.kick = VGPU_BACK_IOC_KICK;
	s->link.wait = VGPU_BACK_IOC_WAIT;
	return 0;
}

static int layout_local(struct idm_server *s, struct idm_error *e)
{
	struct stat st;

	idm_local_layout(&s->layout, s->params.request_size, s->params.reply_size, s->params.arena_size);
	if (fstat(s->params.fd, &st) || (uint64_t)st.st_size < s->layout.arena_offset + s->layout.arena_max)
		return idm_error_set(e, EINVAL, "zone %u: session memory is shorter than its layout", s->params.zone);
	return 0;
}

int idm_server_open(struct idm_server **out, const struct idm_server_params *params, struct idm_error *e)
{
	struct idm_server *s = calloc(1, sizeof(*s));
	uint32_t state = IDM_STATE_NEW;
	char *base;
	int rc;

	if (!s)
		return idm_error_set(e, ENOMEM, "no memory for a session");
	s->params = *params;
	if (params->kind == IDM_SERVER_XEN) {
		s->params.life = -1;
		rc = layout_xen(s, e);
	} else {
		rc = layout_local(s, e);
	}
	if (rc)
		goto fail;
	s->payload = aligned_alloc(64, IDM_PAYLOAD_MAX);
	if (!s->payload) {
		rc = idm_error_set(e, ENOMEM, "no memory for a session");
		goto fail;
	}
	/* Populated: a fault at the first touch of each page would be 1 in 40 calls at first. */
	base = mmap(NULL, s->layout.rings_end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, s->params.fd, 0);
	if (base == MAP_FAILED) {
		rc = idm_error_set(e, errno, "zone %u: cannot map the rings: %s", params->zone, strerror(errno));
		goto fail;
	}
	s->page = (struct idm_session *)base;
	idm_link_init(&s->link, &s->page->worker, &s->page->client, false);
	idm_queue_init(&s->rx, &s->page->request, base + s->layout.request_offset, s->layout.request_size);
	idm_queue_init(&s->tx, &s->page->reply, base + s->layout.reply_offset, s->layout.reply_size);
	__atomic_compare_exchange_n(&s->page->state, &state, IDM_STATE_RUNNING, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_RELAXED);
	if (s->params.life >= 0) {
		rc = pthread_create(&s->watcher, NULL, watch, s);
		if (rc) {
			rc = idm_error_set(e, rc, "zone %u: cannot start a thread: %s", params->zone, strerror(rc));
			goto fail;
		}
		s->watching = true;
	}
	*out = s;
	return 0;
fail:
	idm_server_close(s);
	return rc;
}

void idm_server_close(struct idm_server *s)
{
	if (!s)
		return;
	if (s->watching) {
		shutdown(s->params.life, SHUT_RDWR);
		pthread_join(s->watcher, NULL);
	}
	if (s->arena && !s->adopt)
		munmap(s->arena, s->mapped);
	if (s->page)
		munmap(s->page, s->layout.rings_end);
	if (s->params.life >= 0)
		close(s->params.life);
	if (s->params.fd >= 0)
		close(s->params.fd);
	free(s->payload);
	free(s);
}

void idm_server_adopt_arena(struct idm_server *s)
{
	s->adopt = true;
}

/* --- the messages that libidm answers itself --------------------------------------------------------- */

static bool map_arena(struct idm_server *s, char *at, uint64_t from, uint64_t to)
{
	void *want = at + from, *got;

	if (s->adopt || from == to)
		return true;
	got = mmap(want, to - from, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE,
		   s->params.fd, s->layout.arena_offset + from);
	if (got == want && !s->layout.xen)
		madvise(got, to - from, MADV_HUGEPAGE);
	else if (got != MAP_FAILED && got != want)
		munmap(got, to - from);
	return got == want;
}

/* Let more of the mapped arena be used. */
static int use_arena(struct idm_server *s, uint64_t size)
{
	uint64_t old = s->arena_size;
	int rc = 0;

	if (size > old && s->params.arena_mapped)
		rc = s->params.arena_mapped(s->params.opaque, s->arena + old, size - old);
	if (!rc)
		__atomic_store_n(&s->arena_size, size, __ATOMIC_RELEASE);
	return rc;
}

static int answer(struct idm_server *s, uint64_t seq, uint32_t error)
{
	struct idm_response r = { .error = error };

	return idm_server_reply(s, seq, &r, NULL, 0);
}

static int on_hello(struct idm_server *s, const struct idm_message *m, struct idm_error *e)
{
	const struct vgpu_hello *h = m->payload;
	bool known = false;

	if (m->header.payload_len != sizeof(*h) || m->header.flags & IDM_FLAG_POSTED || s->arena)
		return idm_error_set(e, EPROTO, "zone %u: an IDM_HELLO that is malformed or comes twice",
				     s->params.zone);
	if (h->table_hash != s->params.table_hash)
		return idm_error_set(e, EPROTO,
				     "zone %u: the pod's libcuda.so.1 and the broker are of different builds (call table %016llx, here %016llx): install the same version in both",
				     s->params.zone, (unsigned long long)h->table_hash,
				     (unsigned long long)s->params.table_hash);
	for (unsigned int i = 0; i < IDM_ARENA_SLOTS; i++)
		known |= h->arena_base == IDM_SLOT(i);
	if (!known)
		return idm_error_set(e, EPROTO, "zone %u: the arena cannot be at %#llx", s->params.zone,
				     (unsigned long long)h->arena_base);
	if (!map_arena(s, (char *)h->arena_base, 0, s->layout.arena_map)) {
		if (errno == EEXIST)
			return answer(s, m->header.seq, IDM_ERROR_INVALID_SIZE);
		return idm_error_set(e, EPROTO, "zone %u: cannot map %llu MiB of arena: %s", s->params.zone,
				     (unsigned long long)(s->layout.arena_map >> 20), strerror(errno));
	}
	s->hello = *h;
	s->hello.program[sizeof(s->hello.program) - 1] = '\0';
	for (char *p = s->hello.program; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	s->arena = (char *)h->arena_base;
	s->mapped = s->layout.arena_map;
	/* Xen: what is lent is usable. Local: the whole limit is lent, and the client says how much it begins with. */
	if (use_arena(s, s->layout.arena_size))
		return idm_error_set(e, EPROTO, "zone %u: the arena cannot be made known to the GPU library",
				     s->params.zone);
	return answer(s, m->header.seq, IDM_ERROR_NONE);
}

static int on_grown(struct idm_server *s, const struct idm_message *m, struct idm_error *e)
{
	const struct vgpu_arena_grown *g = m->payload;
	uint64_t size;

	if (m->header.payload_len != sizeof(*g) || !s->arena)
		return idm_error_set(e, EPROTO, "zone %u: a malformed IDM_ARENA_GROWN", s->params.zone);
	size = g->arena_size;
	if (s->layout.xen) {
		/* How much is lent is the driver's word, not the client's. */
		struct vgpu_back_info info;

		if (ioctl(s->params.fd, VGPU_BACK_IOC_INFO, &info))
			return -EPIPE;
		if (size > info.arena_size)
			return idm_error_set(e, EPROTO, "zone %u: claims %llu bytes of arena, %llu are lent",
					     s->params.zone, (unsigned long long)size,
					     (unsigned long long)info.arena_size);
		if (info.arena_size > s->mapped && info.arena_size <= s->layout.arena_max) {
			if (!map_arena(s, s->arena, s->mapped, info.arena_size))
				return answer(s, m->header.seq, IDM_ERROR_OUT_OF_MEMORY);
			s->mapped = info.arena_size;
		}
	}
	if (size > s->mapped || size < s->arena_size || size % IDM_PAGE_SIZE)
		return idm_error_set(e, EPROTO, "zone %u: an arena of %llu bytes: it has %llu, and can have %llu",
				     s->params.zone, (unsigned long long)size, (unsigned long long)s->arena_size,
				     (unsigned long long)s->mapped);
	s->grown++;
	if (m->header.flags & IDM_FLAG_POSTED)
		return use_arena(s, size) ? idm_error_set(e, ENOMEM, "zone %u: the arena cannot grow", s->params.zone) : 0;
	return answer(s, m->header.seq, use_arena(s, size) ? IDM_ERROR_OUT_OF_MEMORY : IDM_ERROR_NONE);
}

/* --- receiving -------------------------------------------------------------------------------------------- */

static bool request_ready(void *arg)
{
	struct idm_server *s = arg;

	return __atomic_load_n(&s->rx.ring->prod, __ATOMIC_SEQ_CST) != s->rx.pos || idm_link_over(&s->link);
}

bool idm_server_ready(struct idm_server *s)
{
	return s->rx.peer != s->rx.pos || request_ready(s);
}

static int violation(struct idm_server *s, enum idm_fault fault, const struct idm_header *h, struct idm_error *e)
{
	uint32_t zone = s->params.zone;

	switch (fault) {
	case IDM_FAULT_MAGIC:
		return idm_error_set(e, EPROTO, "zone %u: a message with magic %#x instead of %#x", zone, h->magic,
				     IDM_MAGIC);
	case IDM_FAULT_VERSION:
		return idm_error_set(e, EPROTO, "zone %u: a message of version %#x, this worker speaks %#x", zone,
				     h->version, IDM_VERSION);
	case IDM_FAULT_LENGTH:
		return idm_error_set(e, EPROTO, "zone %u: a message whose length (%u bytes of payload) cannot be", zone,
				     h->payload_len);
	case IDM_FAULT_SOURCE:
		return idm_error_set(e, EPROTO, "zone %u: a message with the forged source zone %u", zone, h->src_zone);
	case IDM_FAULT_DESTINATION:
		return idm_error_set(e, EPROTO, "zone %u: a message for zone %u, this is zone %u", zone, h->dst_zone,
				     s->params.own_zone);
	default:
		return idm_error_set(e, EPROTO, "zone %u: request ring index %u is outside the ring (at %u, size %u)",
				     zone, s->rx.ring->prod, s->rx.pos, s->rx.size);
	}
}

/* The payload is in the arena: one copy of it takes the place of what came through the ring. */
static int fetch(struct idm_server *s, struct idm_header *h, struct idm_error *e)
{
	struct idm_elsewhere at = { 0 };
	const void *from = NULL;

	if (h->payload_len == sizeof(at)) {
		memcpy(&at, s->payload, sizeof(at));
		if (at.size && at.size <= IDM_PAYLOAD_MAX)
			from = idm_server_arena(s, at.offset, at.size);
	}
	if (!from)
		return idm_error_set(e, EPROTO, "zone %u: a message whose payload (%u bytes at %#llx of the arena) cannot be",
				     s->params.zone, at.size, (unsigned long long)at.offset);
	idm_arena_acquire(s->arena);
	memcpy(s->payload, from, at.size);
	idm_arena_release(s->arena);
	h->payload_len = at.size;
	h->flags &= ~IDM_FLAG_ARENA;
	return 0;
}

/* Tell the client which bytes it may overwrite. */
static void release(struct idm_server *s)
{
	if (s->rx.pos == s->rx.told)
		return;
	idm_queue_release(&s->rx);
	idm_link_wake(&s->link, IDM_SLEEP_SPACE);
}

int idm_server_recv(struct idm_server *s, struct idm_message *m, int timeout_ms, struct idm_error *e)
{
	int64_t timeout = timeout_ms < 0 ? -1 : timeout_ms * 1000000ll;
	enum idm_fault fault;
	int rc;

	for (;;) {
		uint32_t left = s->rx.peer - s->rx.pos;

		/* Nobody is left who could want what is still in the ring. */
		if (idm_link_over(&s->link))
			return -EPIPE;
		if (!left) {
			int n;

			release(s);
			rc = idm_link_wait(&s->link, IDM_SLEEP_DATA, request_ready, s, timeout);
			if (rc)
				return rc == -ETIMEDOUT ? 0 : -EPIPE;
			n = idm_queue_readable(&s->rx);
			if (n < 0)
				return violation(s, IDM_FAULT_INDEX, NULL, e);
			if (!n)	/* nothing came, so the wait ended because the client has */
				return -EPIPE;
			left = n;
		}
		fault = idm_queue_header(&s->rx, left, s->params.zone, s->params.own_zone, &m->header);
		if (fault)
			return violation(s, fault, &m->header, e);
		idm_queue_read(&s->rx, s->rx.pos + sizeof(m->header), s->payload, m->header.payload_len);
		m->payload = s->payload;
		left = idm_message_size(m->header.payload_len);
		if (m->header.flags & IDM_FLAG_ARENA && fetch(s, &m->header, e))
			return -EPROTO;
		s->rx.pos += left;
		/* While there is more to read, room is given back in large steps. */
		if (s->rx.pos - s->rx.told >= s->rx.size / 4)
			release(s);

		if (m->header.type == IDM_HELLO)
			rc = on_hello(s, m, e);
		else if (!s->arena)
			rc = idm_error_set(e, EPROTO, "zone %u: message %#x before IDM_HELLO", s->params.zone,
					   m->header.type);
		else if (m->header.type == IDM_ARENA_GROWN)
			rc = on_grown(s, m, e);
		else
			break;
		if (rc)
			return rc == -EPIPE ? -EPIPE : -EPROTO;
	}
	if (m->header.flags & IDM_FLAG_POSTED)
		s->posted++;
	else
		s->called++;
	return 1;
}

/* --- replying --------------------------------------------------------------------------------------------- */

struct room {
	struct idm_server *s;
	uint32_t need;
};

static bool reply_room(void *arg)
{
	struct room *r = arg;
	struct idm_queue *tx = &r->s->tx;
	uint32_t used = tx->pos - __atomic_load_n(&tx->ring->cons, __ATOMIC_SEQ_CST);

	return used > tx->size || tx->size - used >= r->need || idm_link_over(&r->s->link);
}

static int send_message(struct idm_server *s, uint16_t type, uint64_t seq, const void *a, size_t alen, const void *b,
			size_t blen)
{
	struct idm_header h = { .magic = IDM_MAGIC, .version = IDM_VERSION, .type = type,
				.src_zone = s->params.own_zone, .dst_zone = s->params.zone, .seq = seq,
				.payload_len = alen + blen };
	struct room r = { .s = s };

	if (blen > IDM_PAYLOAD_MAX || alen + blen > IDM_PAYLOAD_MAX)
		return -EMSGSIZE;
	r.need = idm_message_size(alen + blen);
	if (r.need > s->tx.size)
		return -EMSGSIZE;

	idm_lock(&s->reply);
	while (s->tx.size - (s->tx.pos - s->tx.peer) < r.need) {
		int room = idm_queue_room(&s->tx);

		/* A client that lies here fools only itself, but must not make us write outside the ring. */
		if (room < 0 || idm_link_over(&s->link))
			goto gone;
		if ((uint32_t)room >= r.need)
			break;
		if (idm_link_wait(&s->link, IDM_SLEEP_SPACE, reply_room, &r, -1) == -EPIPE)
			goto gone;
	}
	idm_queue_write(&s->tx, s->tx.pos, &h, sizeof(h));
	idm_queue_write(&s->tx, s->tx.pos + sizeof(h), a, alen);
	idm_queue_write(&s->tx, s->tx.pos + sizeof(h) + alen, b, blen);
	s->tx.pos += r.need;
	idm_link_here(&s->link);
	idm_queue_publish(&s->tx);
	idm_unlock(&s->reply);

	idm_link_wake(&s->link, IDM_SLEEP_DATA);
	return 0;
gone:
	idm_unlock(&s->reply);
	return -EPIPE;
}

int idm_server_reply(struct idm_server *s, uint64_t seq, const struct idm_response *r, const void *results, size_t len)
{
	return send_message(s, r->error ? IDM_RESPONSE_ERROR : IDM_RESPONSE_OK, seq, r, sizeof(*r), results, len);
}

static int send_text(struct idm_server *s, uint64_t stream, const char *text, size_t len)
{
	size_t chunk = s->tx.size / 2 - sizeof(struct idm_header);

	if (chunk > OUTPUT_CHUNK)
		chunk = OUTPUT_CHUNK;
	while (len) {
		size_t n = len < chunk ? len : chunk;
		int rc = send_message(s, IDM_OUTPUT, stream, text, n, NULL, 0);

		if (rc)
			return rc;
		text += n;
		len -= n;
	}
	return 0;
}

int idm_server_output(struct idm_server *s, const char *text, size_t len)
{
	return send_text(s, 1, text, len);
}

int idm_server_errors(struct idm_server *s, const char *text, size_t len)
{
	return send_text(s, 2, text, len);
}

int idm_server_callback(struct idm_server *s, uint64_t id, const void *data, size_t len)
{
	return len > IDM_CALLBACK_MAX ? -EMSGSIZE : send_message(s, IDM_CALLBACK, id, data, len, NULL, 0);
}

void idm_server_end(struct idm_server *s, const char *reason)
{
	if (s->layout.xen) {
		struct vgpu_back_end end = { 0 };

		snprintf((char *)end.reason, sizeof(end.reason), "%s", reason);
		ioctl(s->params.fd, VGPU_BACK_IOC_END, &end);
	} else {
		idm_page_end(s->page, reason);
	}
}

void *idm_server_arena(struct idm_server *s, uint64_t offset, uint64_t len)
{
	uint64_t size = __atomic_load_n(&s->arena_size, __ATOMIC_ACQUIRE);

	if (offset > size || len > size - offset)
		return NULL;
	return s->arena + offset;
}

int idm_server_show(struct idm_server *s, uint64_t offset, uint64_t len, void *at)
{
	if (!idm_server_arena(s, offset, len) || !len || (offset | len | (uint64_t)at) & (IDM_PAGE_SIZE - 1))
		return -EINVAL;
	return mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, s->params.fd,
		    s->layout.arena_offset + offset) == MAP_FAILED ? -errno : 0;
}

const char *idm_server_program(const struct idm_server *s, uint32_t *pid)
{
	if (pid)
		*pid = s->hello.pid;
	return s->hello.program;
}

void idm_server_stats(const struct idm_server *s, struct idm_stats *out)
{
	*out = (struct idm_stats){ .posted = s->posted, .called = s->called, .grown = s->grown };
	idm_stats_link(&s->link, out);
}
