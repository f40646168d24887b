// SPDX-License-Identifier: Apache-2.0
/*
 * Streams as queues (struct sg_stream in softgpu.h).
 *
 * Who executes: the stream's thread, made when the first operation has to wait for nobody else to do it; and any
 * thread that waits for an operation, if nobody executes the stream already: it would only sleep, and on a machine
 * with few CPUs doing the work at once is cheaper than waking another thread to do it. Host functions are left to
 * stream threads, since a program may hold locks while it waits.
 *
 * Waiting on one another cannot deadlock: an operation waits only for operations that were queued before it, and a
 * thread that helps executes only what it waits for.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "softgpu.h"

/*
 * A stream's thread that has run out of work looks again every POLL_NS, POLLS times, before it sleeps for good: while
 * it does, appending an operation costs no system call.
 */
enum sg_thread_state { RUNNING, POLLING, ASLEEP };
#define POLL_NS	30000
#define POLLS	20

#define NOBODY	UINT64_MAX

static void futex_wait(_Atomic uint32_t *word, uint32_t value, long ns)
{
	struct timespec t = { .tv_nsec = ns };

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns ? &t : NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static bool try_own(struct sg_stream *s)
{
	uint32_t free = 0;

	return atomic_load_explicit(&s->owner, memory_order_relaxed) == 0 &&
	       atomic_compare_exchange_strong(&s->owner, &free, 1);
}

static void stream_put(struct sg_stream *s)
{
	sg_object_put(&sg_stream_table, s);
}

static void stream_destroy(void *object)
{
	struct sg_stream *s = object;

	munmap(s->ring, SG_RING_BYTES);
	sg_tips_free(s->tips);
	free(s->kept);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->wake_lock);
}

void sg_queue_init(void)
{
	sg_stream_table.destroy = stream_destroy;
}

static void wake_waiters(struct sg_stream *s)
{
	pthread_mutex_lock(&s->wake_lock);
	atomic_store(&s->wake_at, NOBODY);
	atomic_fetch_add(&s->wakeups, 1);
	pthread_mutex_unlock(&s->wake_lock);
	futex_wake(&s->wakeups, INT_MAX);
}

/* Operations that depend on what the program does, or another one, and so must not run in a thread of the program. */
static bool waits_for_program(uint32_t type)
{
	return type == SG_OP_HOST || type == SG_OP_CALLBACK || type == SG_OP_POLL || type == SG_OP_AWAIT;
}

/* Execute up to operation @target (queued already). Caller owns @s. Stops early at what it may not run. */
static void run(struct sg_stream *s, uint64_t target)
{
	uint64_t head = atomic_load_explicit(&s->head, memory_order_relaxed);
	uint64_t done = atomic_load_explicit(&s->completed, memory_order_relaxed);

	while (done < target) {
		struct sg_op *op = (struct sg_op *)(s->ring + (head & (SG_RING_BYTES - 1)));

		if (op->type == SG_OP_PAD) {
			head += op->size;
			continue;
		}
		if (!sg_tls.driver_thread && waits_for_program(op->type))
			break;
		if (op->type == SG_OP_WAIT) {
			sg_queue_wait(op->u.wait.stream, op->u.wait.seq);
			stream_put(op->u.wait.stream);
		} else {
			sg_execute(s, op);
		}
		head += op->size;
		atomic_store_explicit(&s->head, head, memory_order_release);
		/* Pairs with sg_queue_wait(): either it sees this, or we see its wake_at. */
		atomic_store(&s->completed, ++done);
		if (unlikely(done >= atomic_load(&s->wake_at)))
			wake_waiters(s);
	}
}

static void nudge(struct sg_stream *s, bool now);

static void release(struct sg_stream *s)
{
	/* Pairs with sleeper(): either we see that it sleeps, or it sees that nobody owns the stream. */
	atomic_store(&s->owner, 0);
	if (unlikely(!sg_stream_idle(s)))
		nudge(s, true);
}

static bool work(struct sg_stream *s)
{
	return atomic_load(&s->completed) != atomic_load(&s->enqueued) && atomic_load(&s->owner) == 0;
}

/* Take @s off its context once its handle is gone and all is done. Only its thread, or who dropped it without one. */
static void reap(struct sg_stream *s)
{
	struct sg_ctx *c = s->home;

	pthread_mutex_lock(&c->lock);
	for (struct sg_stream **p = &c->streams; *p; p = &(*p)->next) {
		if (*p == s) {
			*p = s->next;
			atomic_fetch_sub(&c->nstreams, 1);
			break;
		}
	}
	pthread_mutex_unlock(&c->lock);
	stream_put(s);
}

static void *thread_main(void *arg)
{
	struct sg_stream *s = arg;
	unsigned int polls = 0;

	sg_tls.driver_thread = true;
	for (;;) {
		uint32_t next;

		if (work(s) && try_own(s)) {
			run(s, atomic_load_explicit(&s->enqueued, memory_order_acquire));
			release(s);
			polls = 0;
			continue;
		}
		if (atomic_load(&s->destroyed) && sg_stream_idle(s))
			break;
		next = polls++ < POLLS ? POLLING : ASLEEP;
		atomic_store(&s->state, next);
		if (!work(s) && !(atomic_load(&s->destroyed) && sg_stream_idle(s)))
			futex_wait(&s->state, next, next == POLLING ? POLL_NS : 0);
		if (next == ASLEEP && atomic_load(&s->state) == RUNNING)
			polls = 0;
		atomic_store(&s->state, RUNNING);
	}
	reap(s);
	return NULL;
}

bool sg_thread_start(void *(*thread)(void *arg), void *arg)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t t;
	int err;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);	/* move.c */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 4u << 20);
	err = pthread_create(&t, &attr, thread, arg);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return !err;
}

static bool start_thread(struct sg_stream *s)
{
	bool has;

	pthread_mutex_lock(&s->wake_lock);
	has = s->has_thread || sg_thread_start(thread_main, s);
	s->has_thread = has;
	pthread_mutex_unlock(&s->wake_lock);
	return has;
}

static void nudge(struct sg_stream *s, bool now)
{
	uint32_t state;

	if (unlikely(!s->has_thread)) {
		/* No thread to be had: do it here. Host functions then wait until one can be made. */
		if (!start_thread(s) && try_own(s)) {
			run(s, atomic_load_explicit(&s->enqueued, memory_order_acquire));
			atomic_store(&s->owner, 0);
		}
		return;
	}
	state = atomic_load(&s->state);
	if (state == ASLEEP || (state == POLLING && now)) {
		if (atomic_compare_exchange_strong(&s->state, &state, RUNNING))
			futex_wake(&s->state, 1);
	}
}

void sg_queue_nudge(struct sg_stream *s)
{
	if (!sg_stream_idle(s))
		nudge(s, true);
}

void sg_queue_wait(struct sg_stream *s, uint64_t seq)
{
	while (atomic_load_explicit(&s->completed, memory_order_acquire) < seq) {
		uint32_t word;

		if (try_own(s)) {
			run(s, seq);
			release(s);
			if (atomic_load_explicit(&s->completed, memory_order_acquire) >= seq)
				return;
		}
		pthread_mutex_lock(&s->wake_lock);
		if (seq < atomic_load(&s->wake_at))
			atomic_store(&s->wake_at, seq);
		word = atomic_load(&s->wakeups);
		pthread_mutex_unlock(&s->wake_lock);
		if (atomic_load(&s->completed) >= seq)
			return;
		futex_wait(&s->wakeups, word, 0);
	}
}

/* Room for @bytes in one piece; @s is locked. */
static struct sg_op *reserve(struct sg_stream *s, uint32_t bytes)
{
	uint32_t off = (uint32_t)s->tail & (SG_RING_BYTES - 1), pad = 0;
	struct sg_op *op;

	if (off + bytes > SG_RING_BYTES)
		pad = SG_RING_BYTES - off;
	while (s->tail + pad + bytes - atomic_load_explicit(&s->head, memory_order_acquire) > SG_RING_BYTES) {
		uint64_t done = atomic_load_explicit(&s->completed, memory_order_relaxed);
		uint64_t all = atomic_load_explicit(&s->enqueued, memory_order_relaxed);

		/* Full: wait for a quarter, helping. */
		sg_queue_wait(s, done + (all - done + 3) / 4);
	}
	if (pad) {
		op = (struct sg_op *)(s->ring + off);
		op->type = SG_OP_PAD;
		op->size = pad;
		s->tail += pad;
		off = 0;
	}
	op = (struct sg_op *)(s->ring + off);
	op->size = bytes;
	return op;
}

static uint32_t op_bytes(size_t extra)
{
	return (uint32_t)((sizeof(struct sg_op) + extra + 63) & ~63ul);
}

static uint64_t publish(struct sg_stream *s, struct sg_op *op)
{
	uint64_t seq = atomic_load_explicit(&s->enqueued, memory_order_relaxed) + 1;

	s->tail += op->size;
	atomic_store(&s->enqueued, seq);
	return seq;
}

/* Make @s, locked, wait for what is queued on @on. */
static void wait_for(struct sg_stream *s, struct sg_stream *on, uint64_t seq)
{
	struct sg_op *op = reserve(s, op_bytes(0));

	op->type = SG_OP_WAIT;
	op->u.wait.stream = on;
	op->u.wait.seq = seq;
	sg_object_get(on);
	publish(s, op);
}

/* The legacy stream's rules: it waits for all blocking streams, and they for it. */
static void order(struct sg_stream *s)
{
	struct sg_ctx *c = s->home;

	if (!s->blocking)
		return;
	if (s != c->legacy) {
		if (!sg_stream_idle(c->legacy)) {
			uint64_t seq = atomic_load_explicit(&c->legacy->enqueued, memory_order_acquire);

			if (seq > s->legacy_waited) {
				s->legacy_waited = seq;
				wait_for(s, c->legacy, seq);
			}
		}
		return;
	}
	if (!atomic_load_explicit(&c->nstreams, memory_order_acquire))
		return;
	for (;;) {
		struct sg_stream *busy[16];
		unsigned int n = 0;

		/* reserve() may have to wait, and what it waits for may want the context's lock: collect first. */
		pthread_mutex_lock(&c->lock);
		for (struct sg_stream *o = c->streams; o && n < 16; o = o->next) {
			uint64_t seq = atomic_load_explicit(&o->enqueued, memory_order_acquire);

			if (!o->blocking || sg_stream_idle(o) || seq <= o->waited_by_legacy)
				continue;
			o->waited_by_legacy = seq;
			sg_object_get(o);
			busy[n++] = o;
		}
		pthread_mutex_unlock(&c->lock);
		for (unsigned int i = 0; i < n; i++) {
			wait_for(s, busy[i], busy[i]->waited_by_legacy);
			stream_put(busy[i]);
		}
		if (n < 16)
			return;
	}
}

struct sg_op *sg_queue_begin(struct sg_stream *s, enum sg_op_type type, size_t extra)
{
	struct sg_op *op;

	pthread_mutex_lock(&s->lock);
	if (sg_capturing(s))
		return sg_capture_begin(s, type, sizeof(*op) + extra);
	order(s);
	op = reserve(s, op_bytes(extra));
	op->type = type;
	return op;
}

uint64_t sg_queue_end(struct sg_stream *s, struct sg_op *op, bool heavy)
{
	uint64_t seq;

	if (sg_capturing(s)) {
		sg_capture_end(s);
		pthread_mutex_unlock(&s->lock);
		return 0;
	}
	seq = publish(s, op);
	pthread_mutex_unlock(&s->lock);
	nudge(s, heavy);
	return seq;
}

/* Is everything done that operations queued on @s from now on must wait for, besides what is in @s? */
static bool others_done(struct sg_stream *s)
{
	struct sg_ctx *c = s->home;
	bool idle = true;

	if (!s->blocking)
		return true;
	if (s != c->legacy)
		return sg_stream_idle(c->legacy);
	if (!atomic_load_explicit(&c->nstreams, memory_order_acquire))
		return true;
	pthread_mutex_lock(&c->lock);
	for (struct sg_stream *o = c->streams; o && idle; o = o->next)
		idle = !o->blocking || sg_stream_idle(o);
	pthread_mutex_unlock(&c->lock);
	return idle;
}

bool sg_queue_done(struct sg_stream *s)
{
	return sg_stream_idle(s) && others_done(s);
}

bool sg_queue_lock_idle(struct sg_stream *s)
{
	pthread_mutex_lock(&s->lock);
	if (!sg_capturing(s) && sg_queue_done(s))
		return true;
	pthread_mutex_unlock(&s->lock);
	return false;
}

void sg_queue_unlock(struct sg_stream *s)
{
	pthread_mutex_unlock(&s->lock);
}

/* Wait for the streams of @c that @all or the legacy stream's rules include, as far as they are queued now. */
static void sync_streams(struct sg_ctx *c, bool all)
{
	if (!atomic_load_explicit(&c->nstreams, memory_order_acquire))
		return;
	for (;;) {
		struct sg_stream *busy = NULL;
		uint64_t seq = 0;

		pthread_mutex_lock(&c->lock);
		for (struct sg_stream *o = c->streams; o; o = o->next) {
			if ((all || o->blocking) && !sg_stream_idle(o)) {
				busy = o;
				seq = atomic_load(&o->enqueued);
				sg_object_get(o);
				break;
			}
		}
		pthread_mutex_unlock(&c->lock);
		if (!busy)
			return;
		sg_queue_wait(busy, seq);
		stream_put(busy);
	}
}

void sg_queue_sync(struct sg_stream *s)
{
	struct sg_stream *legacy = s->home->legacy;

	if (s->blocking) {
		if (s == legacy)
			sync_streams(s->home, false);
		else
			sg_queue_wait(legacy, atomic_load_explicit(&legacy->enqueued, memory_order_acquire));
	}
	sg_queue_wait(s, atomic_load_explicit(&s->enqueued, memory_order_acquire));
}

/* With a reference: another thread may be ending @c. NULL: it has. */
static struct sg_stream *legacy_of(struct sg_ctx *c)
{
	struct sg_stream *s;

	pthread_mutex_lock(&c->lock);
	s = c->legacy;
	if (s)
		sg_object_get(s);
	pthread_mutex_unlock(&c->lock);
	return s;
}

static void sync_home(struct sg_ctx *c)
{
	struct sg_stream *legacy;

	sync_streams(c, true);
	legacy = legacy_of(c);
	if (!legacy)
		return;
	sg_queue_wait(legacy, atomic_load_explicit(&legacy->enqueued, memory_order_acquire));
	stream_put(legacy);
}

void sg_queue_sync_ctx(struct sg_ctx *c)
{
	struct sg_ctx **greens = sg_ctx_greens(c);

	sync_home(c);
	for (struct sg_ctx **p = greens; p && *p; p++) {
		sync_home(*p);
		sg_object_put(&sg_ctx_table, *p);
	}
	free(greens);
}

void sg_queue_sync_all(void)
{
	uint32_t n = atomic_load(&sg_ctx_table.used);

	for (uint32_t i = 0; i < n; i++) {
		struct sg_ctx *c = sg_object_check(&sg_ctx_table, sg_ctx_table.base + (size_t)i * sg_ctx_table.size);

		if (c && atomic_load(&c->fault) != CUDA_ERROR_CONTEXT_IS_DESTROYED)
			sg_queue_sync_ctx(c);
	}
}

bool sg_queue_all_idle(void)
{
	uint32_t n = atomic_load(&sg_ctx_table.used);
	bool idle = true;

	for (uint32_t i = 0; i < n && idle; i++) {
		struct sg_ctx *c = sg_object_check(&sg_ctx_table, sg_ctx_table.base + (size_t)i * sg_ctx_table.size);

		if (!c || atomic_load(&c->fault) == CUDA_ERROR_CONTEXT_IS_DESTROYED)
			continue;
		pthread_mutex_lock(&c->lock);
		idle = !c->legacy || sg_stream_idle(c->legacy);
		for (struct sg_stream *o = c->streams; o && idle; o = o->next)
			idle = sg_stream_idle(o);
		pthread_mutex_unlock(&c->lock);
	}
	return idle;
}

struct sg_stream *sg_stream_new(struct sg_ctx *c, unsigned int flags, int priority, bool per_thread)
{
	static _Atomic uint64_t next_id = 1;
	char *ring = mmap(NULL, SG_RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct sg_stream *s;

	if (ring == MAP_FAILED)
		return NULL;
	s = sg_object_new(&sg_stream_table);
	if (!s) {
		munmap(ring, SG_RING_BYTES);
		return NULL;
	}
	s->ring = ring;
	s->ctx = c->root;
	s->home = c;
	s->flags = flags;
	s->priority = priority;
	s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
	s->per_thread = per_thread;
	s->id = atomic_fetch_add(&next_id, 1);
	atomic_store(&s->wake_at, NOBODY);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->wake_lock, NULL);
	atomic_store_explicit(&s->object.live, sg_stream_table.magic, memory_order_release);
	return s;
}

void sg_stream_drop(struct sg_stream *s)
{
	bool has_thread;

	sg_object_get(s);
	atomic_store(&s->object.live, 0);
	/* No thread: nothing was ever queued, or all was done by others. start_thread() takes the same lock. */
	if (!s->has_thread)
		sg_queue_wait(s, atomic_load(&s->enqueued));
	pthread_mutex_lock(&s->wake_lock);
	has_thread = s->has_thread;
	atomic_store(&s->destroyed, true);
	pthread_mutex_unlock(&s->wake_lock);
	if (!has_thread) {
		reap(s);
	} else if (atomic_exchange(&s->state, RUNNING) != RUNNING) {
		/* Its thread takes it down. */
		futex_wake(&s->state, 1);
	}
	stream_put(s);
}

void sg_queue_end_ctx(struct sg_ctx *c)
{
	struct sg_stream *legacy;

	for (;;) {
		struct sg_stream *s;

		pthread_mutex_lock(&c->lock);
		for (s = c->streams; s && !atomic_load(&s->object.live); s = s->next)
			;
		if (s)
			sg_object_get(s);
		pthread_mutex_unlock(&c->lock);
		if (!s)
			break;
		if (sg_capturing(s))
			sg_capture_stream_ends(s);
		sg_stream_drop(s);
		stream_put(s);
	}
	pthread_mutex_lock(&c->lock);
	legacy = c->legacy;
	c->legacy = NULL;
	pthread_mutex_unlock(&c->lock);
	if (legacy)
		sg_stream_drop(legacy);
}
