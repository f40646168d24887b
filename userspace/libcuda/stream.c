// SPDX-License-Identifier: Apache-2.0
/* Streams: made and ended without waiting; what they are is known here. */
#include "capture.h"
#include "managed.h"
#include "shim.h"
#include "shim_gen.h"

CUresult stream_has_context(CUstream s)
{
	const struct thread *t = thread_self();

	if ((uintptr_t)s > 2 || context_top(t))
		return CUDA_SUCCESS;
	return t->in_callback ? CUDA_ERROR_NOT_PERMITTED : CUDA_ERROR_INVALID_CONTEXT;
}

/* @return the stream's object, NULL for the special ones; @*r if it is neither. */
static struct object *find(CUstream s, CUresult *r)
{
	struct object *o;

	*r = session_check();
	if (*r == CUDA_SUCCESS)
		*r = stream_has_context(s);
	if (*r != CUDA_SUCCESS || (uintptr_t)s <= 2)
		return NULL;
	o = object_get(s, VGPU_H_STREAM);
	if (!o)
		*r = CUDA_ERROR_INVALID_HANDLE;
	return o;
}

static void made(CUstream s, unsigned int flags, int priority)
{
	struct object *o = (struct object *)s;

	o->ctx = context_current(thread_self());
	o->stream.flags = flags;
	o->stream.priority = priority;
	o->stream.green = context_green(thread_self());
}

VGPU_EXPORT CUresult CUDAAPI cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
	CUresult r;

	if (Flags & ~(unsigned int)CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	r = call_cuStreamCreate(phStream, Flags);
	if (r == CUDA_SUCCESS)
		made(*phStream, Flags, 0);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
	int low, high;
	CUresult r;

	if (flags & ~(unsigned int)CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	r = cuCtxGetStreamPriorityRange(&low, &high);
	if (r != CUDA_SUCCESS)
		return r;
	/* Out of range is brought into range, as CUDA does. Lower numbers are higher priorities. */
	priority = priority > low ? low : priority < high ? high : priority;
	r = call_cuStreamCreateWithPriority(phStream, flags, priority);
	if (r == CUDA_SUCCESS)
		made(*phStream, flags, priority);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamDestroy_v2(CUstream hStream)
{
	CUresult r = session_check();
	uint64_t wire = object_handle(hStream, VGPU_H_STREAM);

	if (r != CUDA_SUCCESS)
		return r;
	if (__atomic_load_n(&captures, __ATOMIC_RELAXED) && wire)
		capture_stream_ends(wire);
	return call_cuStreamDestroy_v2(hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamDestroy(CUstream hStream)
{
	return cuStreamDestroy_v2(hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetPriority(CUstream hStream, int *priority)
{
	CUresult r;
	struct object *o = find(hStream, &r);

	if (r != CUDA_SUCCESS || !priority)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*priority = o ? o->stream.priority : 0;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetFlags(CUstream hStream, unsigned int *flags)
{
	CUresult r;
	struct object *o = find(hStream, &r);

	if (r != CUDA_SUCCESS || !flags)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*flags = o ? o->stream.flags : CU_STREAM_DEFAULT;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetId(CUstream hStream, unsigned long long *streamId)
{
	CUresult r;
	struct object *o = find(hStream, &r);

	if (r != CUDA_SUCCESS || !streamId)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	/* Per-thread streams are a different one in each thread; 0 and the legacy handle are one. */
	if (o)
		*streamId = o->wire;
	else
		*streamId = hStream == CU_STREAM_PER_THREAD ? 2 + thread_self()->number : 1;
	return CUDA_SUCCESS;
}

/* A question is no work: it does not count as sent to the stream. */
static CUresult ask_idle(CUstream hStream)
{
	struct vgpu_rq_cuStreamQuery rq = { .hStream = object_wire(hStream) };
	CUresult r = call_begin(&rq.call, true);

	return r == CUDA_SUCCESS ? call_reply(VGPU_MSG_cuStreamQuery, &rq, sizeof(rq), NULL, 0) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamSynchronize(CUstream hStream)
{
	struct object *o = object_get(hStream, VGPU_H_STREAM);
	uint32_t sent = o ? __atomic_load_n(&o->stream.sent, __ATOMIC_ACQUIRE) : 0;
	CUresult r = call_cuStreamSynchronize(hStream);

	/* The question itself was counted, and the next one need not be asked. */
	if (o && r == CUDA_SUCCESS && __atomic_load_n(&o->stream.sent, __ATOMIC_RELAXED) == sent + 1)
		__atomic_store_n(&o->stream.idle, sent + 1, __ATOMIC_RELAXED);
	managed_after();
	return r;
}

static CUresult seen_idle(struct object *o, uint32_t sent)
{
	__atomic_store_n(&o->stream.idle, sent, __ATOMIC_RELAXED);
	managed_after();
	return CUDA_SUCCESS;
}

/* Of a stream of the program's own it is known whether anything was sent since it was last idle. */
VGPU_EXPORT CUresult CUDAAPI cuStreamQuery(CUstream hStream)
{
	CUresult r;
	struct object *o = find(hStream, &r);
	uint32_t sent;

	if (r != CUDA_SUCCESS)
		return r;
	if (!o || __atomic_load_n(&captures, __ATOMIC_RELAXED)) {
		r = call_cuStreamQuery(hStream);
		if (r == CUDA_SUCCESS)
			managed_after();
		return r;
	}
	sent = __atomic_load_n(&o->stream.sent, __ATOMIC_ACQUIRE);
	if (sent == __atomic_load_n(&o->stream.idle, __ATOMIC_RELAXED))
		return CUDA_SUCCESS;
	r = ask_idle(hStream);
	if (r == CUDA_SUCCESS)
		return seen_idle(o, sent);
	return r;
}

/* *@green: the green one that it is in; may be NULL. */
static CUresult context_of(CUstream hStream, struct object **ctx, struct object **green)
{
	CUresult r;
	struct object *o = find(hStream, &r);
	uint64_t wire;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(hStream, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	*ctx = o ? o->ctx : context_current(thread_self());
	*green = o ? o->stream.green : context_green(thread_self());
	return *ctx ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCtx(CUstream hStream, CUcontext *pctx)
{
	struct object *ctx, *green;
	CUresult r = context_of(hStream, &ctx, &green);

	if (r != CUDA_SUCCESS || !pctx)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	if (green)
		return context_of_green(pctx, green);
	*pctx = (CUcontext)ctx;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCtx_v2(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx)
{
	struct object *ctx, *green;
	CUresult r = context_of(hStream, &ctx, &green);

	if (r != CUDA_SUCCESS || !pCtx)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*pCtx = (CUcontext)ctx;
	if (pGreenCtx)
		*pGreenCtx = (CUgreenCtx)green;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetDevice(CUstream hStream, CUdevice *device)
{
	struct object *ctx, *green;
	CUresult r = context_of(hStream, &ctx, &green);

	if (r != CUDA_SUCCESS || !device)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*device = context_device(ctx);
	return CUDA_SUCCESS;
}
