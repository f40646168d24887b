// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <pthread.h>

#include "staging.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct slot slots[SLOTS];
static unsigned int made;		/* slots that have a chunk */
static struct slot *idle;		/* last in, first out: the warmest first */
static struct slot *flying, **flying_end = &flying;	/* left to their requests, oldest first */

static struct slot *pop_flying(void)
{
	struct slot *s = flying;

	if (s) {
		flying = s->next;
		if (!flying)
			flying_end = &flying;
	}
	return s;
}

/* Under the lock. */
static struct slot *make(void)
{
	struct slot *s = &slots[made];

	if (made == SLOTS)
		return NULL;
	s->base = idm_arena_alloc(shim.client, SLOT_SIZE);
	if (!s->base)
		return NULL;
	s->offset = (char *)s->base - (char *)idm_arena_base(shim.client);
	made++;
	return s;
}

/* Under the lock: a chunk that is free, or can be had without waiting. */
static struct slot *at_hand(void)
{
	struct slot *s = idle;

	if (!s)
		return make();
	idle = s->next;
	return s;
}

void staging_init(void)
{
	for (unsigned int i = 0; i < SLOTS_KEPT; i++) {
		struct slot *s = make();

		if (s)
			staging_put(s);
	}
}

/* The answer to a request nobody waited for (VGPU_CALL_UNREAD). The worker keeps a failure for the thread that sent it. */
static int reap(struct slot *s)
{
	return idm_wait(shim.client, &s->pending);
}

struct slot *staging_get(bool must, CUresult *r)
{
	struct slot *s;
	int err;

	*r = CUDA_SUCCESS;
	pthread_mutex_lock(&lock);
	for (;;) {
		s = at_hand();
		if (!s && flying && (must || idm_test(shim.client, &flying->pending))) {
			s = pop_flying();
			pthread_mutex_unlock(&lock);
			err = reap(s);
			if (!err)
				return s;
			staging_put(s);
			*r = session_failed(err);
			return NULL;
		}
		if (s || !must)
			break;
		if (!made) {	/* not even one chunk: the quota for lent memory is used up */
			*r = idm_client_ended(shim.client) ? session_failed(-EPIPE) : CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
		pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
	return s;
}

void staging_put(struct slot *s)
{
	pthread_mutex_lock(&lock);
	s->next = idle;
	idle = s;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

CUresult staging_submit(struct slot *s, uint16_t type, const void *rq, size_t len)
{
	struct iovec iov = { (void *)rq, len };
	struct object *touched;
	int err;

	s->thread = thread_self();
	s->pending = (struct idm_pending){ 0 };
	touched = s->thread->touched;
	err = idm_submit(shim.client, type, &iov, 1, &s->pending);
	if (err)
		return session_failed(err);
	stream_sent(s->thread);
	s->thread->touched = touched;	/* the next part is for it, too */
	return CUDA_SUCCESS;
}

CUresult staging_wait(struct slot *s)
{
	int err = idm_wait(shim.client, &s->pending);

	return err ? session_failed(err) : call_result(s->thread, &s->pending.response, false);
}

void staging_leave(struct slot *s)
{
	pthread_mutex_lock(&lock);
	s->next = NULL;
	*flying_end = s;
	flying_end = &s->next;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}
