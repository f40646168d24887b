// SPDX-License-Identifier: Apache-2.0
/*
 * The stream API. Functions that take a stream exist twice: as named, where stream 0 is the legacy default stream, and
 * with _ptsz, where it is the calling thread's own. BOTH() makes the two from one body that has `ptds`.
 */
#include <stdlib.h>
#include <string.h>

#include "both.h"
#include "softgpu.h"

void sg_thread_remember(void);

static CUresult own_stream(struct sg_ctx *c, struct sg_stream **out)
{
	struct sg_stream *s;

	for (struct sg_stream **p = &sg_tls.own; (s = *p);) {
		if (s->ctx == c && atomic_load_explicit(&s->object.live, memory_order_relaxed) == sg_stream_table.magic) {
			*out = s;
			return CUDA_SUCCESS;
		}
		/* Its context ended. */
		if (!atomic_load_explicit(&s->object.live, memory_order_relaxed)) {
			*p = s->next_own;
			sg_object_put(&sg_stream_table, s);
			continue;
		}
		p = &s->next_own;
	}
	s = sg_stream_new(c, 0, 0, true);
	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sg_object_get(s);
	s->next_own = sg_tls.own;
	sg_tls.own = s;
	sg_thread_remember();
	pthread_mutex_lock(&c->lock);
	s->next = c->streams;
	c->streams = s;
	atomic_fetch_add(&c->nstreams, 1);
	pthread_mutex_unlock(&c->lock);
	*out = s;
	return CUDA_SUCCESS;
}

CUresult sg_stream_ask(CUstream h, bool ptds, struct sg_stream **out)
{
	struct sg_ctx *c;
	CUresult e;

	if ((uintptr_t)h > 2) {
		struct sg_stream *s = sg_object_check(&sg_stream_table, h);

		if (unlikely(!s || s->home->legacy == s))
			return sg_devices ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_NOT_INITIALIZED;
		*out = s;
		return (CUresult)atomic_load_explicit(&s->ctx->fault, memory_order_relaxed);
	}
	e = sg_enter(&c);
	if (unlikely(e))
		return e;
	if (h == CU_STREAM_PER_THREAD || (!h && ptds))
		return sg_tls.top == c ? own_stream(c, out) : CUDA_ERROR_INVALID_HANDLE;
	*out = sg_tls.top->legacy;
	return CUDA_SUCCESS;
}

CUresult sg_stream_of(CUstream h, bool ptds, struct sg_stream **out)
{
	CUresult e = sg_stream_ask(h, ptds, out);

	if (unlikely(e))
		return e;
	if (unlikely(atomic_load_explicit(&(*out)->capture, memory_order_relaxed) != NULL))
		return sg_capture_check(*out);
	if (likely(*out != (*out)->home->legacy))
		return CUDA_SUCCESS;
	return sg_capture_legacy((*out)->home, false);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
	struct sg_stream *s;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!stream || flags & ~(unsigned int)CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
	c = sg_tls.top;
	s = sg_stream_new(c, flags, priority, false);
	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&c->lock);
	s->next = c->streams;
	c->streams = s;
	atomic_fetch_add(&c->nstreams, 1);
	pthread_mutex_unlock(&c->lock);
	*stream = (CUstream)s;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	return cuStreamCreateWithPriority(stream, flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
	struct sg_stream *s = sg_object_check(&sg_stream_table, stream);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if ((uintptr_t)stream <= 2 || !s || s->per_thread || s->home->legacy == s)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sg_capturing(s))
		sg_capture_stream_ends(s);
	sg_stream_drop(s);
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream)
{
	return cuStreamDestroy_v2(stream);
}

BOTH(cuStreamSynchronize, (CUstream stream), (stream, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (sg_tls.in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	if (sg_capturing(s)) {
		sg_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	if (!sg_queue_done(s))
		sg_queue_sync(s);
	sg_print_flush();
	return (CUresult)atomic_load_explicit(&s->ctx->fault, memory_order_acquire);
}

BOTH(cuStreamQuery, (CUstream stream), (stream, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (sg_capturing(s)) {
		sg_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	if (!sg_queue_done(s)) {
		sg_queue_nudge(s);
		return CUDA_ERROR_NOT_READY;
	}
	sg_print_flush();
	return (CUresult)atomic_load_explicit(&s->ctx->fault, memory_order_acquire);
}

BOTH(cuStreamGetPriority, (CUstream stream, int *priority), (stream, priority, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!priority)
		return CUDA_ERROR_INVALID_VALUE;
	*priority = s->priority;
	return CUDA_SUCCESS;
}

BOTH(cuStreamGetFlags, (CUstream stream, unsigned int *flags), (stream, flags, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = s->flags;
	return CUDA_SUCCESS;
}

BOTH(cuStreamGetId, (CUstream stream, unsigned long long *id), (stream, id, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!id)
		return CUDA_ERROR_INVALID_VALUE;
	*id = s->id;
	return CUDA_SUCCESS;
}

BOTH(cuStreamGetCtx, (CUstream stream, CUcontext *ctx), (stream, ctx, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	*ctx = (CUcontext)s->home;
	return CUDA_SUCCESS;
}

BOTH(cuStreamGetCtx_v2, (CUstream stream, CUcontext *ctx, CUgreenCtx *green), (stream, ctx, green, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	*ctx = (CUcontext)s->ctx;
	if (green)
		*green = (CUgreenCtx)s->home->green;
	return CUDA_SUCCESS;
}

BOTH(cuStreamGetDevice, (CUstream stream, CUdevice *device), (stream, device, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = s->ctx->device;
	return CUDA_SUCCESS;
}

/* --- host functions ------------------------------------------------------------------------------------------------ */

BOTH(cuLaunchHostFunc, (CUstream stream, CUhostFn fn, void *data), (stream, fn, data, ptds))
{
	struct sg_stream *s;
	struct sg_op *op;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (!fn)
		return CUDA_ERROR_INVALID_VALUE;
	op = sg_queue_begin(s, SG_OP_HOST, 0);
	op->u.host.fn = fn;
	op->u.host.data = data;
	sg_queue_end(s, op, true);
	return CUDA_SUCCESS;
}

BOTH(cuStreamAddCallback, (CUstream stream, CUstreamCallback callback, void *data, unsigned int flags),
     (stream, callback, data, flags, ptds))
{
	struct sg_stream *s;
	struct sg_op *op;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (!callback || flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (sg_capturing(s)) {
		sg_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	op = sg_queue_begin(s, SG_OP_CALLBACK, 0);
	op->u.host.callback = callback;
	op->u.host.data = data;
	op->u.host.handle = stream;
	sg_queue_end(s, op, true);
	return CUDA_SUCCESS;
}

/* --- attributes ---------------------------------------------------------------------------------------------------- */

#define KEPT	(CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN + 1)

static bool keep(struct sg_stream *s)
{
	if (s->kept)
		return true;
	s->kept = calloc(KEPT, sizeof(*s->kept));
	if (s->kept)
		s->kept[CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY].syncPolicy = CU_SYNC_POLICY_AUTO;
	return s->kept;
}

BOTH(cuStreamGetAttribute, (CUstream stream, CUstreamAttrID attr, CUstreamAttrValue *value),
     (stream, attr, value, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	*value = (CUstreamAttrValue){ 0 };
	switch (attr) {
	case CU_LAUNCH_ATTRIBUTE_PRIORITY:
		value->priority = s->priority;
		return CUDA_SUCCESS;
	case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
	case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
		if (s->kept)
			*value = s->kept[attr];
		else if (attr == CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY)
			value->syncPolicy = CU_SYNC_POLICY_AUTO;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

BOTH(cuStreamSetAttribute, (CUstream stream, CUstreamAttrID attr, const CUstreamAttrValue *value),
     (stream, attr, value, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	switch (attr) {
	case CU_LAUNCH_ATTRIBUTE_PRIORITY:
		s->priority = value->priority > 0 ? 0 : value->priority < -5 ? -5 : value->priority;
		return CUDA_SUCCESS;
	case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:		/* hints that change nothing here */
	case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
		if (!keep(s))
			return CUDA_ERROR_OUT_OF_MEMORY;
		s->kept[attr] = *value;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

BOTH(cuStreamCopyAttributes, (CUstream dst, CUstream src), (dst, src, ptds))
{
	struct sg_stream *to, *from;
	CUresult e = sg_stream_of(dst, ptds, &to);

	if (!e)
		e = sg_stream_of(src, ptds, &from);
	if (e)
		return e;
	to->priority = from->priority;
	if (from->kept && !keep(to))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (from->kept)
		memcpy(to->kept, from->kept, KEPT * sizeof(*to->kept));
	return CUDA_SUCCESS;
}
