// SPDX-License-Identifier: Apache-2.0
/*
 * Letting the dispatching thread itself wait in the driver.
 *
 * That is the fastest way to wait: no second thread is woken, and a driver may use the waiting thread for the work.
 * But it must not hold up the client's other threads. So it is done only while one client thread speaks, and a stand-in
 * looks on: if the dispatching thread has been blocked for a moment, the stand-in takes over dispatching, and the other
 * becomes a stand-in when it comes back. One stand-in at a time sits and looks on, and only while there is something
 * to look at; when it takes over, the next sits down.
 */
#include <time.h>

#include "worker.h"

#define ALONE_NS	10000000ull	/* one client thread counts as alone when no other has spoken for this long */
#define TICK_NS		1000000		/* how often the stand-in looks, and how long it lets a wait last */
#define IDLE_TICKS	16
#define THREADS_MAX_	8	/* that dispatch, are blocked, or stand in */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool ready;		/* there is a stand-in; atomic */
	bool active;		/* it looks; atomic */
	uint64_t since;		/* when the dispatching thread blocked, 0: it has not; atomic */
	uint64_t waits;		/* atomic */
	pthread_mutex_t seat;
	unsigned int queued;	/* for the seat; atomic */
	unsigned int threads;	/* under the seat */
} block = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .seat = PTHREAD_MUTEX_INITIALIZER };

static __thread uint64_t mine;
static __thread struct wctx *held;
static __thread bool replaced;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void block_heard(struct worker *w, uint32_t thread)
{
	if (thread == w->last_thread)
		return;
	if (w->last_thread)
		w->switched_ns = now_ns();
	w->last_thread = thread;
}

bool block_begin(struct worker *w, struct wctx *c)
{
	uint64_t now;

	/* Whoever took over would have the green context current, too, which may be so in one thread only. */
	if (!__atomic_load_n(&block.ready, __ATOMIC_ACQUIRE) || (w->current && w->current->root != w->current))
		return false;
	now = now_ns();
	if (now - w->switched_ns < ALONE_NS)
		return false;
	mine = now;
	held = c;
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&block.waits, block.waits + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&block.since, now, __ATOMIC_SEQ_CST);
	/* Partner: look_on() clears `active` and then looks at `since` once more. */
	if (!__atomic_load_n(&block.active, __ATOMIC_SEQ_CST)) {
		pthread_mutex_lock(&block.lock);
		__atomic_store_n(&block.active, true, __ATOMIC_SEQ_CST);
		pthread_cond_signal(&block.wake);
		pthread_mutex_unlock(&block.lock);
	}
	return true;
}

bool block_end(void)
{
	uint64_t was = mine;

	context_put(held);
	fence_let_go(NULL);
	replaced = !__atomic_compare_exchange_n(&block.since, &was, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return !replaced;
}

bool block_replaced(void)
{
	return replaced;
}

static void *stand_in(void *arg);

static void new_stand_in(struct worker *w)
{
	pthread_t t;

	if (block.threads >= THREADS_MAX_ || pthread_create(&t, NULL, stand_in, w))
		return;
	pthread_detach(t);
	block.threads++;
}

/* Returns when the dispatching thread has been blocked for too long: the caller dispatches from now on. */
static void look_on(void)
{
	uint64_t seen = 0, since;
	unsigned int idle = 0;

	__atomic_store_n(&block.ready, true, __ATOMIC_RELEASE);
	for (;;) {
		pthread_mutex_lock(&block.lock);
		while (!__atomic_load_n(&block.active, __ATOMIC_SEQ_CST))
			pthread_cond_wait(&block.wake, &block.lock);
		pthread_mutex_unlock(&block.lock);

		nanosleep(&(struct timespec){ .tv_nsec = TICK_NS }, NULL);
		since = __atomic_load_n(&block.since, __ATOMIC_SEQ_CST);
		if (since && now_ns() - since >= TICK_NS) {
			__atomic_store_n(&block.ready, false, __ATOMIC_RELEASE);
			if (__atomic_compare_exchange_n(&block.since, &since, 0, false, __ATOMIC_SEQ_CST,
							__ATOMIC_SEQ_CST))
				return;
			__atomic_store_n(&block.ready, true, __ATOMIC_RELEASE);
			continue;
		}
		idle = since || seen != __atomic_load_n(&block.waits, __ATOMIC_RELAXED) ? 0 : idle + 1;
		seen = __atomic_load_n(&block.waits, __ATOMIC_RELAXED);
		if (idle < IDLE_TICKS)
			continue;
		idle = 0;
		__atomic_store_n(&block.active, false, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&block.since, __ATOMIC_SEQ_CST))
			__atomic_store_n(&block.active, true, __ATOMIC_SEQ_CST);
	}
}

static void *stand_in(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		__atomic_add_fetch(&block.queued, 1, __ATOMIC_RELAXED);
		pthread_mutex_lock(&block.seat);
		__atomic_sub_fetch(&block.queued, 1, __ATOMIC_RELAXED);
		look_on();
		if (!__atomic_load_n(&block.queued, __ATOMIC_RELAXED))
			new_stand_in(w);
		pthread_mutex_unlock(&block.seat);
		replaced = false;
		/* The driver's current context is the thread's; the session's goes on. */
		D.cuCtxSetCurrent(w->current ? w->current->real : NULL);
		worker_serve(w);
	}
	return NULL;
}

void block_serve(struct worker *w)
{
	block.threads = 1;
	new_stand_in(w);
	worker_serve(w);
	stand_in(w);
}
