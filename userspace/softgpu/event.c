// SPDX-License-Identifier: Apache-2.0
/* Events. A record is the number of an operation in a stream; waiting for it is waiting for that operation. */
#include <stdlib.h>

#include "both.h"
#include "share.h"

static struct sg_event *event_check(CUevent h)
{
	return sg_object_check(&sg_event_table, h);
}

static CUresult enter(CUevent h, struct sg_event **ev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*ev = event_check(h);
	return *ev ? (CUresult)atomic_load(&(*ev)->ctx->fault) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
	struct sg_event *ev;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!event || flags & ~(unsigned int)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS))
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CU_EVENT_INTERPROCESS && !(flags & CU_EVENT_DISABLE_TIMING))
		return CUDA_ERROR_INVALID_VALUE;
	ev = sg_object_new(&sg_event_table);
	if (!ev)
		return CUDA_ERROR_OUT_OF_MEMORY;
	ev->ctx = c;
	ev->flags = flags;
	pthread_mutex_init(&ev->lock, NULL);
	e = flags & CU_EVENT_INTERPROCESS ? sg_shared_event_new(ev) : CUDA_SUCCESS;
	if (e) {
		sg_object_put(&sg_event_table, ev);
		return e;
	}
	atomic_store_explicit(&ev->object.live, sg_event_table.magic, memory_order_release);
	*event = (CUevent)ev;
	return CUDA_SUCCESS;
}

/* At the last reference: an operation that records it may be queued still. */
static void release(void *object)
{
	sg_shared_event_free(object);
}

void sg_events_init(void)
{
	sg_event_table.destroy = release;
}

static void destroy(struct sg_event *ev)
{
	struct sg_stream *s;

	pthread_mutex_lock(&ev->lock);
	atomic_store(&ev->object.live, 0);
	s = ev->stream;
	ev->stream = NULL;
	sg_tips_free(ev->tips);
	ev->tips = NULL;
	pthread_mutex_unlock(&ev->lock);
	if (s)
		sg_object_put(&sg_stream_table, s);
	sg_object_put(&sg_event_table, ev);
}

CUresult cuEventDestroy_v2(CUevent event)
{
	struct sg_event *ev = event_check(event);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!ev)
		return CUDA_ERROR_INVALID_HANDLE;
	destroy(ev);
	return CUDA_SUCCESS;
}

void sg_events_end_ctx(struct sg_ctx *c)
{
	uint32_t n = atomic_load(&sg_event_table.used);

	for (uint32_t i = 0; i < n; i++) {
		struct sg_event *ev = event_check((CUevent)(sg_event_table.base + (size_t)i * sg_event_table.size));

		if (ev && ev->ctx == c)
			destroy(ev);
	}
}

CUresult cuEventDestroy(CUevent event)
{
	return cuEventDestroy_v2(event);
}

/* The newest record, with a reference to its stream; NULL if there is none or it is known to be done. */
static struct sg_stream *pending(struct sg_event *ev, uint64_t *seq)
{
	struct sg_stream *s;

	pthread_mutex_lock(&ev->lock);
	s = ev->stream;
	*seq = ev->seq;
	if (s && atomic_load_explicit(&s->completed, memory_order_acquire) >= *seq)
		s = NULL;
	if (s)
		sg_object_get(s);
	pthread_mutex_unlock(&ev->lock);
	return s;
}

CUresult sg_event_record(struct sg_event *ev, struct sg_stream *s)
{
	struct sg_stream *old = NULL;
	struct sg_op *op;
	uint64_t generation;

	if (unlikely(ev->shared))
		return sg_shared_event_record(ev, s);
	if (sg_queue_lock_idle(s)) {
		pthread_mutex_lock(&ev->lock);
		ev->generation++;
		ev->seq = atomic_load_explicit(&s->completed, memory_order_relaxed);
		atomic_store_explicit(&ev->time, sg_now(), memory_order_relaxed);
		if (ev->stream != s) {
			old = ev->stream;
			ev->stream = s;
			sg_object_get(s);
		}
		pthread_mutex_unlock(&ev->lock);
		sg_queue_unlock(s);
		if (old)
			sg_object_put(&sg_stream_table, old);
		return CUDA_SUCCESS;
	}
	op = sg_queue_begin(s, SG_OP_EVENT, 0);
	pthread_mutex_lock(&ev->lock);
	generation = ++ev->generation;
	/* The number that sg_queue_end() will give it: the stream is locked. */
	ev->seq = atomic_load_explicit(&s->enqueued, memory_order_relaxed) + 1;
	if (ev->stream != s) {
		old = ev->stream;
		ev->stream = s;
		sg_object_get(s);
	}
	pthread_mutex_unlock(&ev->lock);
	op->u.event.event = ev;
	op->u.event.generation = generation;
	sg_object_get(ev);
	sg_queue_end(s, op, false);
	if (old)
		sg_object_put(&sg_stream_table, old);
	return CUDA_SUCCESS;
}

/* Recorded in a capture: @tips says behind what; or not any more. */
static void captured(struct sg_event *ev, uint64_t capture, struct sg_tips *tips)
{
	struct sg_tips *old;

	pthread_mutex_lock(&ev->lock);
	ev->capture = capture;
	old = ev->tips;
	ev->tips = tips;
	pthread_mutex_unlock(&ev->lock);
	sg_tips_free(old);
}

BOTH(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned int flags), (event, stream, flags, ptds))
{
	struct sg_stream *s;
	struct sg_event *ev;
	struct sg_tips *tips;
	CUresult e = enter(event, &ev);

	if (e)
		return e;
	e = sg_stream_of(stream, ptds, &s);
	if (e)
		return e;
	if (flags & ~(unsigned int)CU_EVENT_RECORD_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags && !sg_capturing(s))
		return CUDA_ERROR_ILLEGAL_STATE;
	if (s->ctx != ev->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	if (flags)
		return sg_capture_event(s, ev, true);
	if (sg_capturing(s)) {
		tips = sg_capture_tips(s);
		if (!tips)
			return CUDA_ERROR_OUT_OF_MEMORY;
		captured(ev, sg_capture_id(s), tips);
		return CUDA_SUCCESS;
	}
	if (unlikely(ev->capture))
		captured(ev, 0, NULL);
	return sg_event_record(ev, s);
}

BOTH(cuEventRecord, (CUevent event, CUstream stream), (event, stream, ptds))
{
	return cuEventRecordWithFlags_do(event, stream, 0, ptds);
}

/* An event of a capture has no state to ask for, and others not while captures forbid it. */
static CUresult unsafe(struct sg_event *ev)
{
	if (likely(!ev->capture))
		return sg_capture_unsafe();
	sg_capture_invalidate_id(ev->capture);
	return CUDA_ERROR_CAPTURED_EVENT;
}

CUresult cuEventQuery(CUevent event)
{
	struct sg_event *ev;
	struct sg_stream *s;
	uint64_t seq;
	CUresult e = enter(event, &ev);

	if (e)
		return e;
	e = unsafe(ev);
	if (!e && unlikely(ev->shared))
		e = sg_shared_event_query(ev);
	if (e)
		return e;
	s = pending(ev, &seq);
	if (!s)
		return (CUresult)atomic_load(&ev->ctx->fault);
	sg_queue_nudge(s);
	sg_object_put(&sg_stream_table, s);
	return CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event)
{
	struct sg_event *ev;
	struct sg_stream *s;
	uint64_t seq;
	CUresult e = enter(event, &ev);

	if (e)
		return e;
	if (sg_tls.in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	e = unsafe(ev);
	if (!e && unlikely(ev->shared))
		e = sg_shared_event_sync(ev);
	if (e)
		return e;
	s = pending(ev, &seq);
	if (s) {
		sg_queue_wait(s, seq);
		sg_object_put(&sg_stream_table, s);
	}
	sg_print_flush();
	return (CUresult)atomic_load(&ev->ctx->fault);
}

CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end)
{
	struct sg_event *a, *b;
	struct sg_stream *s;
	uint64_t seq;
	CUresult e = enter(start, &a);

	if (!e)
		e = enter(end, &b);
	if (e)
		return e;
	if (!ms)
		return CUDA_ERROR_INVALID_VALUE;
	if ((a->flags | b->flags) & CU_EVENT_DISABLE_TIMING || !a->generation || !b->generation || a->ctx != b->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	for (int i = 0; i < 2; i++) {
		s = pending(i ? b : a, &seq);
		if (s) {
			sg_queue_nudge(s);
			sg_object_put(&sg_stream_table, s);
			return CUDA_ERROR_NOT_READY;
		}
	}
	*ms = (float)((double)((int64_t)atomic_load(&b->time) - (int64_t)atomic_load(&a->time)) * 1e-6);
	return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
	return cuEventElapsedTime_v2(ms, start, end);
}

void sg_event_wait(struct sg_event *ev, struct sg_stream *s)
{
	struct sg_stream *on;
	struct sg_op *op;
	uint64_t seq;

	if (unlikely(ev->shared)) {
		sg_shared_event_wait(ev, s);
		return;
	}
	on = pending(ev, &seq);
	if (!on)
		return;
	if (on == s) {
		sg_object_put(&sg_stream_table, on);
		return;
	}
	op = sg_queue_begin(s, SG_OP_WAIT, 0);
	op->u.wait.stream = on;		/* with pending()'s reference */
	op->u.wait.seq = seq;
	sg_queue_end(s, op, false);
}

BOTH(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags), (stream, event, flags, ptds))
{
	struct sg_stream *s;
	struct sg_event *ev;
	CUresult e = enter(event, &ev);

	if (e)
		return e;
	e = sg_stream_of(stream, ptds, &s);
	if (e)
		return e;
	if (flags & ~(unsigned int)CU_EVENT_WAIT_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags && !sg_capturing(s))
		return CUDA_ERROR_ILLEGAL_STATE;
	if (flags)
		return sg_capture_event(s, ev, false);
	if (ev->capture)
		return sg_capture_join(s, ev->capture, ev->tips);
	if (sg_capturing(s)) {
		sg_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
	}
	sg_event_wait(ev, s);
	return CUDA_SUCCESS;
}

/* --- events of whole contexts --------------------------------------------------------------------------------------- */

static CUresult whole(CUcontext ctx, CUevent event, struct sg_ctx **c, struct sg_event **ev)
{
	CUresult e = enter(event, ev);

	if (e)
		return e;
	*c = sg_object_check(&sg_ctx_table, ctx);
	if (!*c)
		return CUDA_ERROR_INVALID_CONTEXT;
	if ((*ev)->ctx != (*c)->root)
		return CUDA_ERROR_INVALID_HANDLE;
	e = (CUresult)atomic_load(&(*c)->root->fault);
	return e ? e : sg_capture_legacy(*c, true);
}

static bool add_streams(struct sg_ctx *c, struct sg_stream ***list, size_t *n)
{
	struct sg_stream **more;
	size_t room = *n + 2;

	pthread_mutex_lock(&c->lock);
	for (struct sg_stream *s = c->streams; s; s = s->next)
		room++;
	more = realloc(*list, room * sizeof(*more));
	if (more) {
		*list = more;
		for (struct sg_stream *s = c->streams; s; s = s->next)
			more[(*n)++] = s;
		if (c->legacy)
			more[(*n)++] = c->legacy;
		for (size_t i = 0; i < *n; i++)
			if (more[i]->home == c)
				sg_object_get(more[i]);
		more[*n] = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return more;
}

/* The streams of @c and its green ones, each with a reference, legacy ones too. malloc()ed, NULL at the end. */
static struct sg_stream **streams_of(struct sg_ctx *c)
{
	struct sg_ctx **greens = sg_ctx_greens(c);
	struct sg_stream **list = NULL;
	size_t n = 0;
	bool all = add_streams(c, &list, &n);

	for (struct sg_ctx **p = greens; p && *p; p++) {
		all = all && add_streams(*p, &list, &n);
		sg_object_put(&sg_ctx_table, *p);
	}
	free(greens);
	if (all)
		return list;
	for (size_t i = 0; i < n; i++)
		sg_object_put(&sg_stream_table, list[i]);
	free(list);
	return NULL;
}

/* All that is queued in the context by now: a stream of its own waits for it. */
CUresult cuCtxRecordEvent(CUcontext ctx, CUevent event)
{
	struct sg_stream **list, *joint;
	struct sg_event *ev;
	struct sg_ctx *c;
	CUstream handle;
	CUresult e = whole(ctx, event, &c, &ev);
	struct sg_ctx *before;

	if (e)
		return e;
	before = sg_ctx_swap(c);
	e = cuStreamCreate(&handle, CU_STREAM_NON_BLOCKING);
	sg_ctx_swap(before);
	if (e)
		return e;
	joint = (struct sg_stream *)handle;
	list = streams_of(c);
	for (struct sg_stream **p = list; p && *p; p++) {
		uint64_t seq = atomic_load(&(*p)->enqueued);
		struct sg_op *op;

		if (*p == joint || sg_stream_idle(*p)) {
			sg_object_put(&sg_stream_table, *p);
			continue;
		}
		op = sg_queue_begin(joint, SG_OP_WAIT, 0);
		op->u.wait.stream = *p;		/* with its reference */
		op->u.wait.seq = seq;
		sg_queue_end(joint, op, false);
	}
	e = list ? sg_event_record(ev, joint) : CUDA_ERROR_OUT_OF_MEMORY;
	free(list);
	cuStreamDestroy_v2(handle);
	return e;
}

CUresult cuCtxWaitEvent(CUcontext ctx, CUevent event)
{
	struct sg_stream **list;
	struct sg_event *ev;
	struct sg_ctx *c;
	CUresult e = enter(event, &ev);

	if (e)
		return e;
	c = sg_object_check(&sg_ctx_table, ctx);
	if (!c)
		return CUDA_ERROR_INVALID_CONTEXT;
	e = sg_capture_legacy(c, true);
	if (e)
		return e;
	list = streams_of(c);
	for (struct sg_stream **p = list; p && *p; p++) {
		sg_event_wait(ev, *p);
		sg_object_put(&sg_stream_table, *p);
	}
	free(list);
	return list ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
