// SPDX-License-Identifier: Apache-2.0
/*
 * Waiting for the GPU without holding up the client's other threads.
 *
 * A call that has to wait becomes a wait: events recorded behind all it must wait for, and what to do then. The
 * dispatching thread polls young waits itself between messages, since most are over within microseconds; older ones
 * go to a waiter thread, which blocks in the driver and replies.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker.h"

#define WAITERS_MAX	64
/* What a client may have under way. One that wants more is made to wait, with all its threads. */
#define PENDING_MAX	4096u
#define PENDING_BYTES	(64ull << 20)
#define PUT_BY_MAX	65536u	/* frees that are put by, which cost the driver nothing */
/* Fences for frees that a context has under way, each with an event in all of its busy streams. */
#define FREES_MAX	8

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct wait *head, **tail;
	unsigned int threads, idle, queued, max;
};

/* Who replies, and, apart from them so as not to keep them busy, who only gives things back. */
static struct crew repliers = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, &repliers.head, 0, 0, 0,
				WAITERS_MAX };
static struct crew returners = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, &returners.head, 0, 0, 0, 1 };

static int settlers;	/* atomic */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t less;
	unsigned int waits, put_by;
	uint64_t bytes;
} pending = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0 };

/* Frees that are deferred, in the order in which they were begun; under pending.lock. */
static TAILQ_HEAD(, wait) frees = TAILQ_HEAD_INITIALIZER(frees);
static uint64_t frees_begun, frees_over, frees_oldest = 1;	/* atomic; the last is one more than all if none is left */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* In the driver's current context, which @c is the root of: so the event ends with it. */
static CUevent pool_get(struct wctx *c, CUresult *r)
{
	CUevent e = NULL;

	pthread_mutex_lock(&c->pool_lock);
	if (c->npool)
		e = c->pool[--c->npool];
	pthread_mutex_unlock(&c->pool_lock);
	*r = CUDA_SUCCESS;
	if (!e)
		*r = D.cuEventCreate(&e, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC);
	return *r == CUDA_SUCCESS ? e : NULL;
}

static void pool_put(struct wctx *c, CUevent e)
{
	if (c->dead)
		return;
	pthread_mutex_lock(&c->pool_lock);
	if (c->npool < EVENT_POOL) {
		c->pool[c->npool++] = e;
		e = NULL;
	}
	pthread_mutex_unlock(&c->pool_lock);
	if (e)
		D.cuEventDestroy_v2(e);
}

static struct wait *wait_new(struct wctx *c, unsigned int events, CUresult *r)
{
	struct wait *f = calloc(1, sizeof(*f) + events * sizeof(f->events[0]));

	if (!f) {
		*r = CUDA_ERROR_OUT_OF_MEMORY;
		return NULL;
	}
	f->ctx = c;
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	if (c->root != c)
		__atomic_add_fetch(&c->root->refs, 1, __ATOMIC_RELAXED);
	return f;
}

static void wait_free(struct wait *f)
{
	struct wctx *root = f->ctx->root;
	unsigned int i;

	for (i = 0; !f->user && i < f->nevents; i++)
		pool_put(root, f->events[i]);
	if (f->user)
		event_put(f->user);
	if (root != f->ctx)
		context_put(root);
	context_put(f->ctx);
	free(f->buffer);
	free(f);
}

static CUresult add_event(struct wait *f, CUstream stream)
{
	CUresult r;
	CUevent e = pool_get(f->ctx->root, &r);

	if (!e)
		return r;
	r = D.cuEventRecord(e, stream);
	if (r != CUDA_SUCCESS) {
		pool_put(f->ctx->root, e);
		return r;
	}
	f->events[f->nevents++] = e;
	return CUDA_SUCCESS;
}

/*
 * An event in the legacy stream would have every blocking stream wait for all the others, which the client has not asked
 * for: one may be held up by what another is to do. In a blocking stream of its own it comes behind what is in the
 * legacy stream by now, and behind nothing else.
 */
static CUresult add_legacy(struct wait *f, struct wctx *c)
{
	CUresult r = c->behind_legacy ? CUDA_SUCCESS : D.cuStreamCreate(&c->behind_legacy, CU_STREAM_DEFAULT);

	if (r == CUDA_SUCCESS)
		return add_event(f, c->behind_legacy);
	c->behind_legacy = NULL;
	return r;
}

struct wait *fence_stream(struct wstream *s, CUresult *r)
{
	struct wait *f = wait_new(s->ctx, 1, r);

	if (!f)
		return NULL;
	context_visit(s->ctx);
	*r = add_event(f, s->real);
	context_leave(s->ctx);
	if (*r == CUDA_SUCCESS)
		return f;
	wait_free(f);
	return NULL;
}

static unsigned int pending_streams(const struct wctx *c)
{
	unsigned int n = 0;

	for (const struct wstream *s = c->dirty; s; s = s->next)
		n++;
	return n;
}

static CUresult add_streams(struct wait *f, struct wctx *c)
{
	unsigned int blocking = 0;
	CUresult r = CUDA_SUCCESS;

	for (const struct wstream *s = c->dirty; s; s = s->next)
		blocking += !s->nonblocking;
	if (c->dirty)
		context_visit(c);
	for (const struct wstream *s = c->dirty; s && r == CUDA_SUCCESS; s = s->next)
		if (!capture_active(s->real) && !capture_forbids(s->real))
			r = s == &c->legacy && blocking > 1 ? add_legacy(f, c) : add_event(f, s->real);
	if (c->dirty)
		context_leave(c);
	return r;
}

struct wait *fence_context(struct wctx *c, CUresult *r)
{
	unsigned int n = pending_streams(c);
	struct wait *f;

	for (const struct wctx *g = c->greens; g; g = g->sibling)
		n += pending_streams(g);
	f = wait_new(c, n, r);
	if (!f)
		return NULL;
	*r = add_streams(f, c);
	for (struct wctx *g = c->greens; g && *r == CUDA_SUCCESS; g = g->sibling)
		*r = add_streams(f, g);
	if (*r == CUDA_SUCCESS)
		return f;
	wait_free(f);
	return NULL;
}

/*
 * A stream that is held up takes events only until it is full, and then whoever records one waits, with all the client's
 * threads. So no more than a few fences for frees are under way, and what is to be freed meanwhile is put by until one of
 * them is over. Then one fence serves all of it.
 */
static struct {
	struct wait *first, **last;	/* the dispatching thread's */
	uint64_t over;			/* frees, when it was looked at last */
} put_by = { .last = &put_by.first };

struct wait *fence_frees(struct wctx *c, CUresult *r)
{
	bool full = __atomic_load_n(&c->frees, __ATOMIC_ACQUIRE) >= FREES_MAX;
	struct wait *f = full ? wait_new(c, 0, r) : fence_context(c, r);

	if (f) {
		f->put_by = full;
		f->frees_context = !full;
		*r = CUDA_SUCCESS;
	}
	return f;
}

struct wait *fence_event(struct wctx *c, struct wevent *e)
{
	CUresult r;
	struct wait *f = wait_new(c, 1, &r);

	if (!f)
		return NULL;
	__atomic_add_fetch(&e->refs, 1, __ATOMIC_RELAXED);
	f->user = e;
	f->events[f->nevents++] = e->real;
	return f;
}

void fence_for(struct wait *f, const struct idm_message *m)
{
	f->hdr = m->header;
	memcpy(&f->call, m->payload, sizeof(f->call));
	f->reply = true;
}

static void free_over(struct wait *f)
{
	pthread_mutex_lock(&pending.lock);
	TAILQ_REMOVE(&frees, f, frees);
	__atomic_store_n(&frees_oldest, TAILQ_EMPTY(&frees) ? frees_begun + 1 : TAILQ_FIRST(&frees)->number,
			 __ATOMIC_RELEASE);
	__atomic_add_fetch(&frees_over, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&pending.lock);
}

/* What was waited for has happened, or failed. In any thread. */
static void finish(struct worker *w, struct wait *f, CUresult r)
{
	bool deferred_free = f->deferred_free, put_by = f->put_by;
	struct wait *followers = f->followers;
	size_t size = f->size;

	if (f->free_addr) {
		CUresult r2 = f->close ? D.cuIpcCloseMemHandle(f->free_addr) : D.cuMemFree_v2(f->free_addr);

		if (r2 != CUDA_SUCCESS) {
			worker_complain(w, "a free that had to wait failed: CUresult %d", r2);
			__atomic_add_fetch(&f->ctx->stuck, f->uncharge, __ATOMIC_RELAXED);
			f->uncharge = 0;
		}
	}
	if (f->pooled)
		pool_freed(w, f->uncharge);
	else
		lease_uncharge(w, f->uncharge);
	ipc_drop(f->shared);
	if (f->output)
		output_forward(w);
	if (f->reply)
		worker_reply(w, &f->hdr, &f->call, 0, r, f->send ? f->buffer : NULL, f->send ? f->size : 0);
	/* In this order: fence_start_frees() looks when more frees are over. */
	if (f->frees_context)
		__atomic_sub_fetch(&f->ctx->frees, 1, __ATOMIC_RELEASE);
	if (deferred_free)
		free_over(f);
	/* Before anybody is told who may wait for just that. */
	wait_free(f);
	pthread_mutex_lock(&pending.lock);
	*(put_by ? &pending.put_by : &pending.waits) -= 1;
	pending.bytes -= size;
	if (deferred_free)
		__atomic_sub_fetch(&w->deferred_frees, 1, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&pending.less);
	pthread_mutex_unlock(&pending.lock);
	while ((f = followers)) {
		followers = f->next;
		finish(w, f, r);
	}
}

static void *waiter(void *arg)
{
	struct crew *c = arg;
	struct worker *w = &worker;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		CUresult r = CUDA_SUCCESS;
		struct wait *f;

		c->idle++;
		while (!c->head)
			pthread_cond_wait(&c->work, &c->lock);
		c->idle--;
		f = c->head;
		c->head = f->next;
		c->queued--;
		if (!c->head)
			c->tail = &c->head;
		pthread_mutex_unlock(&c->lock);

		/* A green context may be current in one thread only, which is the dispatching one. */
		D.cuCtxSetCurrent(f->ctx->root->real);
		for (; f->done < f->nevents && r == CUDA_SUCCESS; f->done++)
			r = D.cuEventSynchronize(f->events[f->done]);
		finish(w, f, r);
		pthread_mutex_lock(&c->lock);
	}
	return NULL;
}

static void hand_over(struct worker *w, struct wait *f)
{
	struct crew *c = f->reply && !(f->hdr.flags & IDM_FLAG_POSTED) ? &repliers : &returners;
	pthread_t t;

	f->next = NULL;
	pthread_mutex_lock(&c->lock);
	*c->tail = f;
	c->tail = &f->next;
	c->queued++;
	if (c->queued > c->idle && c->threads < c->max) {
		if (!pthread_create(&t, NULL, waiter, c)) {
			pthread_detach(t);
			c->threads++;
		} else if (!c->threads) {
			worker_violation(w, "its worker cannot start a thread");
		}
	}
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
}

static void hand_over_all(struct worker *w)
{
	struct wait *f;

	while ((f = w->young)) {
		w->young = f->next;
		hand_over(w, f);
	}
}

/* Under the lock. */
static bool too_many(const struct wait *f)
{
	if (f->put_by)
		return pending.put_by >= PUT_BY_MAX;
	return pending.waits && !f->followers && (pending.waits >= PENDING_MAX || pending.bytes + f->size > PENDING_BYTES);
}

void fence_start(struct worker *w, struct wait *f)
{
	pthread_mutex_lock(&pending.lock);
	while (too_many(f)) {
		pthread_mutex_unlock(&pending.lock);
		hand_over_all(w);
		pthread_mutex_lock(&pending.lock);
		if (too_many(f))
			pthread_cond_wait(&pending.less, &pending.lock);
	}
	*(f->put_by ? &pending.put_by : &pending.waits) += 1;
	pending.bytes += f->size;
	if (f->deferred_free) {
		f->number = __atomic_add_fetch(&frees_begun, 1, __ATOMIC_RELAXED);
		if (TAILQ_EMPTY(&frees))
			__atomic_store_n(&frees_oldest, f->number, __ATOMIC_RELAXED);
		TAILQ_INSERT_TAIL(&frees, f, frees);
		__atomic_add_fetch(&w->deferred_frees, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&pending.lock);
	f->since_ns = now_ns();
	if (f->put_by) {
		f->next = NULL;
		*put_by.last = f;
		put_by.last = &f->next;
		return;
	}
	if (f->frees_context)
		__atomic_add_fetch(&f->ctx->frees, 1, __ATOMIC_RELAXED);
	f->next = w->young;
	w->young = f;
}

/* What is put by of @c. */
static struct wait *take_put_by(struct wctx *c)
{
	struct wait *taken = NULL, **end = &taken, **p = &put_by.first, *f;

	while ((f = *p)) {
		if (f->ctx != c) {
			p = &f->next;
			continue;
		}
		*p = f->next;
		f->next = NULL;
		*end = f;
		end = &f->next;
	}
	put_by.last = p;
	return taken;
}

/* Without a fence the driver waits by itself, in this thread. */
static void start_frees(struct worker *w, struct wctx *c)
{
	struct wait *f, *followers = take_put_by(c);
	CUresult r = CUDA_SUCCESS;

	f = fence_context(c, &r);
	if (f) {
		f->frees_context = true;
		f->followers = followers;
		fence_start(w, f);
	}
	if (!f)
		context_visit(c);
	while (!f && followers) {
		struct wait *next = followers->next;

		finish(w, followers, r);
		followers = next;
	}
	if (!f)
		context_leave(c);
}

static struct wctx *startable(void)
{
	for (struct wait *f = put_by.first; f; f = f->next)
		if (__atomic_load_n(&f->ctx->frees, __ATOMIC_ACQUIRE) < FREES_MAX)
			return f->ctx;
	return NULL;
}

bool fence_start_frees(struct worker *w)
{
	uint64_t over = fence_frees_over();
	struct wctx *c;

	if (!put_by.first)
		return false;
	if (put_by.over != over) {
		put_by.over = over;
		while ((c = startable()))
			start_frees(w, c);
	}
	return put_by.first;
}

/* cuMemFree() waits for all of the context, also for what has come after the fence: no business of the dispatching thread's. */
static bool may_block(struct worker *w, const struct wait *f)
{
	return (f->free_addr || f->followers) && (f->ctx != context_root(w) || !context_idle(f->ctx));
}

/* @return true when it is over, or somebody else's. */
static bool poll_one(struct worker *w, struct wait *f)
{
	CUresult r = CUDA_SUCCESS;

	for (; f->done < f->nevents; f->done++) {
		r = D.cuEventQuery(f->events[f->done]);
		if (r == CUDA_ERROR_NOT_READY)
			return false;
		if (r != CUDA_SUCCESS)
			break;
	}
	/* By asking the driver writes nothing that was printed. */
	if (r == CUDA_SUCCESS && f->output && f->nevents)
		r = D.cuEventSynchronize(f->events[f->nevents - 1]);
	if (may_block(w, f))
		hand_over(w, f);
	else
		finish(w, f, r);
	return true;
}

int fence_poll(struct worker *w)
{
	struct wait **p = &w->young, *f;
	uint64_t now;

	if (!w->young)
		return -1;
	now = now_ns();
	while ((f = *p)) {
		struct wait *next = f->next;

		if (poll_one(w, f)) {
			*p = next;
		} else if (now - f->since_ns > w->poll_ns) {
			*p = next;
			hand_over(w, f);
		} else {
			p = &f->next;
		}
	}
	return w->young ? 0 : -1;
}

void fence_settle(struct worker *w, int *count, int to)
{
	if (__atomic_load_n(count, __ATOMIC_ACQUIRE) <= to)
		return;
	hand_over_all(w);
	/* Full barrier, partner of the one in fence_let_go(). */
	__atomic_add_fetch(&settlers, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&pending.lock);
	while (__atomic_load_n(count, __ATOMIC_SEQ_CST) > to)
		pthread_cond_wait(&pending.less, &pending.lock);
	pthread_mutex_unlock(&pending.lock);
	__atomic_sub_fetch(&settlers, 1, __ATOMIC_SEQ_CST);
}

void fence_let_go(int *count)
{
	if (count)
		__atomic_sub_fetch(count, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&settlers, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&pending.lock);
	pthread_cond_broadcast(&pending.less);
	pthread_mutex_unlock(&pending.lock);
}

void fence_drain_frees(struct worker *w)
{
	while (__atomic_load_n(&w->deferred_frees, __ATOMIC_ACQUIRE)) {
		uint64_t over = fence_frees_over();

		fence_start_frees(w);
		hand_over_all(w);
		pthread_mutex_lock(&pending.lock);
		if (__atomic_load_n(&w->deferred_frees, __ATOMIC_ACQUIRE) && over == fence_frees_over())
			pthread_cond_wait(&pending.less, &pending.lock);
		pthread_mutex_unlock(&pending.lock);
	}
}

uint64_t fence_frees_begun(void)
{
	return __atomic_load_n(&frees_begun, __ATOMIC_RELAXED);
}

uint64_t fence_frees_over(void)
{
	return __atomic_load_n(&frees_over, __ATOMIC_ACQUIRE);
}

bool fence_freed(uint64_t count)
{
	return __atomic_load_n(&frees_oldest, __ATOMIC_ACQUIRE) > count;
}

static bool has_happened(const struct wait *f)
{
	for (unsigned int i = 0; i < f->nevents; i++)
		if (D.cuEventQuery(f->events[i]) == CUDA_ERROR_NOT_READY)
			return false;
	return true;
}

bool fence_freed_due(uint64_t count)
{
	const struct wait *f;
	bool due = false;

	pthread_mutex_lock(&pending.lock);
	TAILQ_FOREACH(f, &frees, frees) {
		if (f->number > count)
			break;
		due = f->free_addr || has_happened(f);
		if (due)
			break;
	}
	pthread_mutex_unlock(&pending.lock);
	return !due;
}
