// SPDX-License-Identifier: Apache-2.0
/*
 * The client's messages: many threads write into one request ring, one thread at a time reads the reply ring.
 *
 * Sending: a lock orders the writers, and the order of the ring is the program's order. A request that wants a reply
 * is put on a list before it becomes visible to the worker.
 *
 * Receiving: a thread that waits takes the receiver's role if it is free and hands every reply to whoever awaits
 * it, until its own has come; then it passes the role to another sleeper. A thread that finds the role taken
 * sleeps on its own word. So there is no receiver thread, and a single-threaded client enters no kernel
 * while the worker is awake.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client.h"
#include "wire.h"

#define SLICE_MIN_NS	50000000ll	/* a sleeping client looks after its worker this often at first, */
#define SLICE_MAX_NS	1000000000ll	/* and this often in the end */
#define ROOM_SLICE_NS	2000000ll	/* see wait_room() */

/* struct idm_pending.done */
#define WAITING		0
#define DONE		1
#define ASLEEP		2	/* its thread sleeps on the word */
#define PROMOTED	3	/* its thread has been handed the receiver's role */

/* --- the end of a session ------------------------------------------------------------------------------------ */

static void end_session(struct idm_client *c, const char *why)
{
	idm_lock(&c->end);
	if (!c->ended) {
		const struct idm_session *page = c->page;

		if (__atomic_load_n(&page->state, __ATOMIC_ACQUIRE) == IDM_STATE_ENDED && page->reason[0]) {
			memcpy(c->reason, page->reason, sizeof(c->reason));
			c->reason[sizeof(c->reason) - 1] = '\0';
		} else {
			snprintf(c->reason, sizeof(c->reason), "%s", why);
		}
		__atomic_store_n(&c->link.over, 1, __ATOMIC_RELEASE);
		__atomic_store_n(&c->ended, 1, __ATOMIC_RELEASE);
	}
	idm_unlock(&c->end);
}

static bool session_over(struct idm_client *c)
{
	if (__atomic_load_n(&c->ended, __ATOMIC_ACQUIRE))
		return true;
	if (__atomic_load_n(&c->page->state, __ATOMIC_ACQUIRE) != IDM_STATE_ENDED)
		return false;
	end_session(c, "the session was ended by the driver domain");
	return true;
}

/* After a sleep that nobody ended: is anybody left on the other side? */
static void look_after_worker(struct idm_client *c)
{
	struct pollfd p = { .fd = c->layout.life, .events = POLLRDHUP };

	if (c->layout.xen) {
		p.fd = c->layout.fd;
		p.events = 0;
	}
	if (c->deadline && idm_now_ns() > c->deadline)
		end_session(c, "no worker took it up in time (the broker's log says why)");
	if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL))
		end_session(c, "the worker of this session has died (the broker's log says why)");
}

const char *idm_client_ended(struct idm_client *c)
{
	return session_over(c) ? c->reason : NULL;
}

/* --- receiving; the receiver's role is held ------------------------------------------------------------------- */

static void collect_incoming(struct idm_client *c)
{
	struct idm_pending *p = __atomic_exchange_n(&c->incoming, NULL, __ATOMIC_ACQUIRE);

	while (p) {
		struct idm_pending *next = p->next;
		struct idm_pending **bucket = &c->buckets[p->seq % IDM_BUCKETS];

		p->next = *bucket;
		*bucket = p;
		p = next;
	}
}

static struct idm_pending *unlink_pending(struct idm_client *c, uint64_t seq)
{
	for (int pass = 0; pass < 2; pass++) {
		for (struct idm_pending **at = &c->buckets[seq % IDM_BUCKETS]; *at; at = &(*at)->next)
			if ((*at)->seq == seq) {
				struct idm_pending *p = *at;

				*at = p->next;
				return p;
			}
		if (!pass)
			collect_incoming(c);
	}
	return NULL;
}

static void finish(struct idm_client *c, struct idm_pending *p)
{
	/* Release: the reply is read after `done`. The frame that @p lives in may be gone right after this. */
	if (__atomic_exchange_n(&p->done, DONE, __ATOMIC_SEQ_CST) == ASLEEP) {
		__atomic_fetch_sub(&c->sleepers, 1, __ATOMIC_SEQ_CST);
		idm_futex_wake_private(&p->done, 1);
	}
}

/* The listener's place among the requests: sequence numbers count from 1 and never get there. */
#define LISTENER	UINT64_MAX

static void heard(struct idm_client *c, struct idm_pending *p, uint64_t id, const void *data, size_t len)
{
	p->seq = id;
	p->reply_len = len < p->reply_cap ? len : p->reply_cap;
	if (p->reply_len)
		memcpy(p->reply, data, p->reply_len);
}

static bool callback(struct idm_client *c, const struct idm_header *h, uint32_t at)
{
	struct idm_told *t = malloc(sizeof(*t));
	struct idm_pending *p;

	if (!t || h->payload_len > sizeof(t->data)) {
		free(t);
		return false;
	}
	*t = (struct idm_told){ .id = h->seq, .len = h->payload_len };
	idm_queue_read(&c->rx, at, t->data, t->len);
	idm_lock(&c->told_lock);
	p = unlink_pending(c, LISTENER);
	if (!p) {
		*c->told_end = t;
		c->told_end = &t->next;
	}
	idm_unlock(&c->told_lock);
	if (p) {
		heard(c, p, t->id, t->data, t->len);
		free(t);
		finish(c, p);
	}
	return true;
}

static bool deliver(struct idm_client *c, const struct idm_header *h, uint32_t at)
{
	struct idm_pending *p;
	size_t len;

	if (h->type == IDM_CALLBACK)
		return callback(c, h, at);

	if (h->type == IDM_OUTPUT) {
		idm_queue_read(&c->rx, at, c->text, h->payload_len);
		if (c->on_output)
			c->on_output(c->text, h->payload_len);
		else if (h->seq == 2)
			fwrite(c->text, 1, h->payload_len, stderr);
		else if (fwrite(c->text, 1, h->payload_len, stdout) == h->payload_len)
			fflush(stdout);
		return true;
	}
	if (h->type != IDM_RESPONSE_OK && h->type != IDM_RESPONSE_ERROR)
		return false;
	if (h->payload_len < sizeof(struct idm_response))
		return false;
	p = unlink_pending(c, h->seq);
	if (!p)
		return false;
	len = h->payload_len - sizeof(struct idm_response);
	idm_queue_read(&c->rx, at, &p->response, sizeof(p->response));
	p->reply_len = len;
	if (len > p->reply_cap) {
		p->response.error = IDM_ERROR_INVALID_SIZE;
		p->reply_cap = SIZE_MAX;	/* idm_wait() says -EPROTO */
	} else {
		idm_queue_read(&c->rx, at + sizeof(struct idm_response), p->reply, len);
	}
	finish(c, p);
	return true;
}

/* Take all replies that are there. */
static void receive(struct idm_client *c)
{
	struct idm_header h;
	int n = idm_queue_readable(&c->rx);

	while (n > 0) {
		uint32_t size;

		if (idm_queue_header(&c->rx, n, c->layout.own_zone, c->layout.zone, &h)) {
			n = -1;
			break;
		}
		if (!deliver(c, &h, c->rx.pos + sizeof(h))) {
			n = -1;
			break;
		}
		size = idm_message_size(h.payload_len);
		c->rx.pos += size;
		n -= size;
	}
	if (n < 0)
		end_session(c, "the worker sent a reply that cannot be (library and worker of different versions?)");
	if (c->rx.pos != c->rx.told) {
		idm_queue_release(&c->rx);
		idm_link_wake(&c->link, IDM_SLEEP_SPACE);
	}
}

static bool data_ready(void *arg)
{
	struct idm_client *c = arg;

	return __atomic_load_n(&c->rx.ring->prod, __ATOMIC_SEQ_CST) != c->rx.pos || session_over(c);
}

/* Give the receiver's role away: to a sleeper if there is one. */
static void leave_role(struct idm_client *c)
{
	for (;;) {
		if (__atomic_load_n(&c->sleepers, __ATOMIC_SEQ_CST) > 0) {
			collect_incoming(c);
			for (int i = 0; i < IDM_BUCKETS; i++)
				for (struct idm_pending *p = c->buckets[i]; p; p = p->next) {
					uint32_t asleep = ASLEEP;

					if (!__atomic_compare_exchange_n(&p->done, &asleep, PROMOTED, false,
									 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
						continue;
					__atomic_fetch_sub(&c->sleepers, 1, __ATOMIC_SEQ_CST);
					idm_futex_wake_private(&p->done, 1);
					return;
				}
		}
		/*
		 * Full barrier: a thread that went to sleep too late to be seen above either finds the role free
		 * (it tries once more after it has counted itself), or is counted by now.
		 */
		__atomic_store_n(&c->role, 0, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&c->sleepers, __ATOMIC_SEQ_CST) <= 0)
			return;
		if (__atomic_exchange_n(&c->role, 1, __ATOMIC_SEQ_CST))
			return;	/* somebody else has it, and will pass here */
	}
}

static bool take_role(struct idm_client *c)
{
	return !__atomic_load_n(&c->role, __ATOMIC_RELAXED) && !__atomic_exchange_n(&c->role, 1, __ATOMIC_SEQ_CST);
}

static uint32_t done_state(const struct idm_pending *p)
{
	return __atomic_load_n(&p->done, __ATOMIC_ACQUIRE);
}

/* Wait for @p as the receiver. */
static int lead(struct idm_client *c, struct idm_pending *p)
{
	int64_t slice = SLICE_MIN_NS;
	int rc = 0;

	for (;;) {
		bool over = session_over(c);

		receive(c);
		if (done_state(p) == DONE)
			break;
		if (over) {
			unlink_pending(c, p->seq);
			rc = -EPIPE;
			break;
		}
		rc = idm_link_wait(&c->link, IDM_SLEEP_DATA, data_ready, c, slice);
		if (rc == -EPIPE)
			end_session(c, "the driver domain ended the session");
		if (rc == -ETIMEDOUT) {
			look_after_worker(c);
			slice = slice * 2 < SLICE_MAX_NS ? slice * 2 : SLICE_MAX_NS;
		}
		rc = 0;
	}
	leave_role(c);
	return rc;
}

/* Sleep until @p is done or this thread is made the receiver. @return true if it is the receiver now. */
static bool follow(struct idm_client *c, struct idm_pending *p)
{
	uint32_t state = WAITING;

	if (!__atomic_compare_exchange_n(&p->done, &state, ASLEEP, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
		return false;
	__atomic_fetch_add(&c->sleepers, 1, __ATOMIC_SEQ_CST);
	/* Once more, now that a leaving receiver can see this thread: partner of leave_role(). */
	if (take_role(c)) {
		state = ASLEEP;
		if (__atomic_compare_exchange_n(&p->done, &state, WAITING, false, __ATOMIC_SEQ_CST,
						__ATOMIC_ACQUIRE))
			__atomic_fetch_sub(&c->sleepers, 1, __ATOMIC_SEQ_CST);
		return true;
	}
	while ((state = done_state(p)) == ASLEEP)
		idm_futex_wait_private(&p->done, ASLEEP);
	if (state != PROMOTED)
		return false;
	__atomic_store_n(&p->done, WAITING, __ATOMIC_SEQ_CST);
	return true;
}

int idm_wait(struct idm_client *c, struct idm_pending *p)
{
	int rc = 0;

	while (done_state(p) != DONE) {
		if (!take_role(c) && !follow(c, p))
			continue;
		rc = lead(c, p);
		if (rc)
			return rc;
	}
	return p->reply_cap == SIZE_MAX ? -EPROTO : 0;
}

int idm_listen(struct idm_client *c, struct idm_pending *p)
{
	struct idm_told *t;

	/* Under the lock there is either something that came before, or a listener to be found by what comes next. */
	idm_lock(&c->told_lock);
	t = c->told;
	if (t) {
		c->told = t->next;
		if (!c->told)
			c->told_end = &c->told;
	} else {
		p->seq = LISTENER;
		p->done = WAITING;
		p->next = __atomic_load_n(&c->incoming, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(&c->incoming, &p->next, p, true, __ATOMIC_RELEASE,
						    __ATOMIC_RELAXED))
			;
	}
	idm_unlock(&c->told_lock);
	if (!t)
		return idm_wait(c, p);
	heard(c, p, t->id, t->data, t->len);
	free(t);
	return 0;
}

bool idm_test(struct idm_client *c, struct idm_pending *p)
{
	if (done_state(p) != DONE && take_role(c)) {
		receive(c);
		leave_role(c);
	}
	return done_state(p) == DONE;
}

/* --- sending --------------------------------------------------------------------------------------------------- */

struct room {
	struct idm_client *c;
	uint32_t need;
	bool data_too;
};

static bool room_ready(void *arg)
{
	struct room *r = arg;
	struct idm_queue *tx = &r->c->tx;
	uint32_t used = tx->pos - __atomic_load_n(&tx->ring->cons, __ATOMIC_SEQ_CST);

	return used > tx->size || tx->size - used >= r->need || session_over(r->c) ||
	       (r->data_too && data_ready(r->c));
}

/*
 * The request ring is full, and this thread holds the send lock. The worker may itself be waiting for room in the
 * reply ring, so somebody must go on receiving: this thread, if nobody else has the role. If somebody has, they may
 * leave it while we sleep; the short slice is for that.
 */
static int wait_room(struct idm_client *c, uint32_t need)
{
	struct room r = { .c = c, .need = need };
	int64_t slice = SLICE_MIN_NS;

	for (;;) {
		int room = idm_queue_room(&c->tx);
		int rc;

		if (room < 0) {
			end_session(c, "the worker's ring index is outside the ring");
			return -EPIPE;
		}
		if ((uint32_t)room >= need)
			return 0;
		if (session_over(c))
			return -EPIPE;
		r.data_too = take_role(c);
		if (r.data_too) {
			receive(c);
			rc = idm_link_wait(&c->link, IDM_SLEEP_SPACE | IDM_SLEEP_DATA, room_ready, &r, slice);
			leave_role(c);
			if (rc == -ETIMEDOUT) {
				look_after_worker(c);
				slice = slice * 2 < SLICE_MAX_NS ? slice * 2 : SLICE_MAX_NS;
			}
		} else {
			rc = idm_link_wait(&c->link, IDM_SLEEP_SPACE, room_ready, &r, ROOM_SLICE_NS);
		}
		if (rc == -EPIPE)
			end_session(c, "the driver domain ended the session");
	}
}

/* The longest payload that goes through the ring: several messages are to fit side by side. */
static size_t ring_max(const struct idm_client *c)
{
	size_t half = c->layout.request_size / 2 - sizeof(struct idm_header);

	return half < IDM_PAYLOAD_MAX ? half : IDM_PAYLOAD_MAX;
}

/* How much room the ring has at least once the worker has taken carried payload @i. */
static uint32_t carried_room(const struct idm_client *c, unsigned int i)
{
	uint32_t since = c->tx.pos - c->carried[i].end;

	return since < c->tx.size ? c->tx.size - since : 0;
}

/* Free the arena memory of payloads that the worker has taken; wait for the oldest if @must. Under the send lock. */
static int reap_carried(struct idm_client *c, bool must)
{
	unsigned int n = 0;
	int room, rc = 0;

	if (must && c->ncarried)
		rc = wait_room(c, carried_room(c, 0));
	room = idm_queue_room(&c->tx);
	if (rc || room < 0)
		return -EPIPE;
	while (n < c->ncarried && (uint32_t)room >= carried_room(c, n))
		idm_arena_free(c, c->carried[n++].at);
	c->ncarried -= n;
	memmove(c->carried, c->carried + n, c->ncarried * sizeof(c->carried[0]));
	return 0;
}

/* @carried: arena memory that holds the real payload, free when the worker has taken it; or NULL */
static int send_ring(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, size_t len,
		     struct idm_pending *p, void *carried)
{
	struct idm_header h = { .magic = IDM_MAGIC, .version = IDM_VERSION, .type = type,
				.src_zone = c->layout.zone, .dst_zone = c->layout.own_zone, .payload_len = len };
	uint32_t size = idm_message_size(len), at;
	int rc = 0;

	idm_lock(&c->send);
	if (session_over(c))
		rc = -EPIPE;
	if (!rc && c->ncarried)
		rc = reap_carried(c, carried && c->ncarried == IDM_CARRIED);
	if (!rc && c->tx.size - (c->tx.pos - c->tx.peer) < size)
		rc = wait_room(c, size);
	if (rc) {
		idm_unlock(&c->send);
		return rc;
	}
	h.seq = ++c->seq;
	if (p) {
		p->seq = h.seq;
		p->done = WAITING;
		p->next = __atomic_load_n(&c->incoming, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(&c->incoming, &p->next, p, true, __ATOMIC_RELEASE,
						    __ATOMIC_RELAXED))
			;
		c->called++;
	} else {
		h.flags = IDM_FLAG_POSTED;
		c->posted++;
	}
	if (carried)
		h.flags |= IDM_FLAG_ARENA;
	at = c->tx.pos;
	idm_queue_write(&c->tx, at, &h, sizeof(h));
	at += sizeof(h);
	for (int i = 0; i < n; i++) {
		idm_queue_write(&c->tx, at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	c->tx.pos += size;
	if (carried) {
		c->carried[c->ncarried].at = carried;
		c->carried[c->ncarried++].end = c->tx.pos;
	}
	idm_link_here(&c->link);
	idm_queue_publish(&c->tx);
	idm_unlock(&c->send);

	idm_link_wake(&c->link, IDM_SLEEP_DATA);
	return 0;
}

/* Too long for the ring: the payload goes into the arena, and through the ring goes where it is. */
static int send_arena(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, size_t len,
		      struct idm_pending *p)
{
	struct idm_elsewhere where = { .size = len };
	struct iovec one = { &where, sizeof(where) };
	char *at = idm_arena_alloc(c, len), *to;
	int rc = 0;

	while (!at && !rc) {
		bool last;

		/* What others sent this way may be all that is missing. */
		idm_lock(&c->send);
		last = !c->ncarried;
		rc = session_over(c) ? -EPIPE : reap_carried(c, true);
		idm_unlock(&c->send);
		at = rc ? NULL : idm_arena_alloc(c, len);
		if (!at && !rc && last)
			rc = -ENOMEM;
	}
	if (rc)
		return rc;
	where.offset = at - (char *)idm_arena_base(c);
	to = at;
	idm_arena_acquire(c->arena);
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len)
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	idm_arena_release(c->arena);
	rc = send_ring(c, type, &one, 1, sizeof(where), p, at);
	if (rc)
		idm_arena_free(c, at);
	return rc;
}

static int send_message(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, struct idm_pending *p)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		if (__builtin_add_overflow(len, iov[i].iov_len, &len))
			return -EMSGSIZE;
	if (__builtin_expect(len <= ring_max(c), 1))
		return send_ring(c, type, iov, n, len, p, NULL);
	return len > IDM_PAYLOAD_MAX ? -EMSGSIZE : send_arena(c, type, iov, n, len, p);
}

int idm_post(struct idm_client *c, uint16_t type, const struct iovec *iov, int n)
{
	return send_message(c, type, iov, n, NULL);
}

int idm_submit(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, struct idm_pending *p)
{
	return send_message(c, type, iov, n, p);
}

int idm_call(struct idm_client *c, uint16_t type, const struct iovec *iov, int n, struct idm_pending *p)
{
	int rc = send_message(c, type, iov, n, p);

	return rc ? rc : idm_wait(c, p);
}

size_t idm_payload_max(const struct idm_client *c)
{
	return IDM_PAYLOAD_MAX;
}

size_t idm_reply_max(const struct idm_client *c)
{
	size_t all = c->layout.reply_size - sizeof(struct idm_header);

	return (all < IDM_PAYLOAD_MAX ? all : IDM_PAYLOAD_MAX) - sizeof(struct idm_response);
}

uint32_t idm_client_zone(const struct idm_client *c)
{
	return c->layout.zone;
}

uint32_t idm_client_session(const struct idm_client *c)
{
	return c->layout.session;
}

void idm_client_stats(const struct idm_client *c, struct idm_stats *out)
{
	*out = (struct idm_stats){ .posted = c->posted, .called = c->called, .grown = c->grown };
	idm_stats_link(&c->link, out);
}
