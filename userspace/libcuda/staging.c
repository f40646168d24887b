// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "capture.h"
#include "staging.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct slot slots[SLOTS];
static unsigned int made;		/* slots that have a chunk */
static struct slot *idle;		/* last in, first out: the warmest first */
static struct slot *flying, **flying_end = &flying;	/* left to their requests, oldest first */

/* Under the lock: @at's chunk leaves the list. */
static struct slot *take(struct slot **at)
{
	struct slot *s = *at;

	*at = s->next;
	if (!s->next)
		flying_end = at;
	return s;
}

static bool is_of(const struct slot *s, uint64_t ctx, uint64_t stream)
{
	if (s->stream != stream)
		return false;
	/* The default streams are others in each context, and one of them in each thread. */
	return stream > 2 || (s->ctx == ctx && (stream != 2 || s->thread == thread_self()));
}

/* Under the lock: the oldest chunk of the stream's own, and how many it has. */
static struct slot **own(uint64_t ctx, uint64_t stream, unsigned int *n)
{
	struct slot **oldest = NULL;

	*n = 0;
	for (struct slot **at = &flying; *at; at = &(*at)->next) {
		if (!is_of(*at, ctx, stream))
			continue;
		oldest = oldest ? oldest : at;
		++*n;
	}
	return oldest;
}

/* Under the lock: one whose request is done. */
static struct slot **landed(void)
{
	struct slot **at = &flying;

	while (*at && !idm_test(shim.client, &(*at)->pending))
		at = &(*at)->next;
	return *at ? at : NULL;
}

static bool chunk(struct slot *s)
{
	s->base = idm_arena_alloc(shim.client, SLOT_SIZE);
	if (s->base)
		s->offset = (char *)s->base - (char *)idm_arena_base(shim.client);
	return s->base;
}

/* Under the lock. */
static struct slot *make(void)
{
	struct slot *s = &slots[made];

	if (made == SLOTS || !chunk(s))
		return NULL;
	made++;
	return s;
}

/* Others have them all, and may have them until this copy is done. */
static struct slot *make_extra(void)
{
	struct slot *s = calloc(1, sizeof(*s));

	if (!s || !chunk(s)) {
		free(s);
		return NULL;
	}
	s->extra = true;
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

/*
 * The answer to a request nobody waited for (VGPU_CALL_UNREAD). The worker keeps a failure for the thread that sent it.
 * Who has to wait waits for room, as in the ring: that is no round trip of the call's, and not the same each time.
 */
static int reap(struct slot *s)
{
	return idm_wait(shim.client, &s->pending);
}

struct slot *staging_get(bool must, uint64_t ctx, uint64_t stream, CUresult *r)
{
	struct slot **from, **mine, *s = NULL;
	unsigned int n;
	int err;

	*r = CUDA_SUCCESS;
	pthread_mutex_lock(&lock);
	for (;;) {
		mine = own(ctx, stream, &n);
		if (n < SLOTS_LEFT)
			s = at_hand();
		if (s)
			break;
		from = landed();
		if (!from && !must)
			break;
		if (!from)
			from = mine;
		if (!from)
			s = make_extra();
		if (s)
			break;
		if (!from && flying)	/* the quota for lent memory is used up */
			from = &flying;
		if (from) {
			s = take(from);
			pthread_mutex_unlock(&lock);
			err = reap(s);
			if (!err)
				return s;
			staging_put(s);
			*r = session_failed(err);
			return NULL;
		}
		if (!made) {	/* not even one chunk */
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
	if (s->extra) {
		idm_arena_free(shim.client, s->base);
		free(s);
	} else {
		s->next = idle;
		idle = s;
	}
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

CUresult staging_submit(struct slot *s, uint64_t stream, uint16_t type, const void *rq, size_t len)
{
	struct iovec iov = { (void *)rq, len };
	struct object *touched;
	int err;

	s->thread = thread_self();
	s->ctx = ((const struct vgpu_call *)rq)->ctx;
	s->stream = stream;
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
	CUresult r = err ? session_failed(err) : call_result(s->thread, &s->pending.response, false);

	capture_told(r);
	thread_self()->waited++;
	board_heard();
	return r;
}

CUresult staging_left(CUresult r)
{
	struct vgpu_call rq = { .thread = thread_self()->number };
	struct vgpu_info_reply info;

	if (r != CUDA_SUCCESS || !shim.sync || thread_self()->in_callback)
		return r;
	r = call_reply(IDM_GPU_GET_INFO, &rq, sizeof(rq), &info, sizeof(info));
	return r == CUDA_SUCCESS ? latched_take(thread_self()) : r;
}

void staging_leave(struct slot *s)
{
	/* A load counts once: how many parts of its image are sent depends on what others of the zone have sent. */
	if (s->stream != STAGING_NO_STREAM)
		s->thread->posted++;
	pthread_mutex_lock(&lock);
	s->next = NULL;
	*flying_end = s;
	flying_end = &s->next;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}
