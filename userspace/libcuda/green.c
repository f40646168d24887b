// SPDX-License-Identifier: Apache-2.0
/* Parts of devices and green contexts. A part is known to the worker by a number, which travels in the structure's padding. */
#include <string.h>

#include "shim.h"
#include "shim_gen.h"

static void resource_out(CUdevResource *out, const struct vgpu_resource *r)
{
	memset(out, 0, sizeof(*out));
	out->type = r->type;
	if (r->type != CU_DEV_RESOURCE_TYPE_SM)
		return;
	memcpy(out->_internal_padding, &r->id, sizeof(r->id));
	out->sm = (CUdevSmResource){ .smCount = r->sm_count, .minSmPartitionSize = r->sm_min,
				     .smCoscheduledAlignment = r->sm_alignment };
}

static uint64_t resource_in(const CUdevResource *r)
{
	uint64_t id;

	memcpy(&id, r->_internal_padding, sizeof(id));
	return r->type == CU_DEV_RESOURCE_TYPE_SM ? id : 0;
}

static CUresult get(uint64_t handle, CUdevice dev, CUdevResource *out, CUdevResourceType type)
{
	struct vgpu_resource_get rq = { .handle = handle, .device = dev, .type = type };
	struct vgpu_resource reply;
	CUresult r = call_begin(&rq.call, false);

	if (r != CUDA_SUCCESS || !out)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	r = call_reply(VGPU_MSG_cuDeviceGetDevResource, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r == CUDA_SUCCESS)
		resource_out(out, &reply);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetDevResource(CUdevice device, CUdevResource *resource, CUdevResourceType type)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return device < 0 || (uint32_t)device >= shim.ndevices ? CUDA_ERROR_INVALID_DEVICE : get(0, device, resource, type);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetDevResource(CUcontext hCtx, CUdevResource *resource, CUdevResourceType type)
{
	const struct object *ctx = hCtx ? object_get(hCtx, VGPU_H_CTX) : context_top(thread_self());
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return ctx ? get(ctx->wire, 0, resource, type) : CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxGetDevResource(CUgreenCtx hCtx, CUdevResource *resource, CUdevResourceType type)
{
	uint64_t h = object_handle(hCtx, VGPU_H_GREENCTX);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return h ? get(h, 0, resource, type) : CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuDevSmResourceSplitByCount(CUdevResource *result, unsigned int *nbGroups,
							 const CUdevResource *input, CUdevResource *remaining,
							 unsigned int useFlags, unsigned int minCount)
{
	struct vgpu_resource_split rq = { .flags = useFlags, .minimum = minCount };
	struct vgpu_resource_split_reply reply;
	CUresult r = call_begin(&rq.call, false);

	if (r != CUDA_SUCCESS)
		return r;
	if (!nbGroups || !input || (result && !*nbGroups))
		return CUDA_ERROR_INVALID_VALUE;
	rq.id = resource_in(input);
	if (!rq.id)
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	rq.groups = !result ? 0 : *nbGroups < VGPU_RESOURCE_GROUPS ? *nbGroups : VGPU_RESOURCE_GROUPS;
	r = call_reply(VGPU_MSG_cuDevSmResourceSplitByCount, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r != CUDA_SUCCESS)
		return r;
	*nbGroups = reply.groups;
	for (unsigned int i = 0; result && i < reply.groups && i < rq.groups; i++)
		resource_out(&result[i], &reply.group[i]);
	if (remaining)
		resource_out(remaining, &reply.remaining);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDevResourceGenerateDesc(CUdevResourceDesc *phDesc, CUdevResource *list, unsigned int n)
{
	struct vgpu_resource_desc rq = { .n = n };
	CUresult r = call_begin(&rq.call, false);
	struct object *desc;

	if (r != CUDA_SUCCESS)
		return r;
	if (!phDesc || !list || !n || n > VGPU_RESOURCE_GROUPS)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < n; i++) {
		rq.ids[i] = resource_in(&list[i]);
		if (!rq.ids[i])
			return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	}
	desc = object_new(VGPU_H_RESDESC);
	if (!desc)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = desc->wire;
	r = call_reply(VGPU_MSG_cuDevResourceGenerateDesc, &rq, sizeof(rq), NULL, 0);
	if (r == CUDA_SUCCESS)
		*phDesc = (CUdevResourceDesc)desc;
	else
		object_delete(desc);
	return r;
}

/* --- green contexts ------------------------------------------------------------------------------------------------- */

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxCreate(CUgreenCtx *phCtx, CUdevResourceDesc desc, CUdevice dev, unsigned int flags)
{
	CUcontext primary;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!phCtx || !object_get(desc, VGPU_H_RESDESC) || flags != CU_GREEN_CTX_DEFAULT_STREAM)
		return CUDA_ERROR_INVALID_VALUE;
	r = cuDevicePrimaryCtxRetain(&primary, dev);
	if (r != CUDA_SUCCESS)
		return r;
	r = call_cuGreenCtxCreate(phCtx, desc, dev, flags);
	if (r == CUDA_SUCCESS) {
		struct object *g = (struct object *)*phCtx;

		g->green.device = dev;
		g->green.id = context_next_id();
		g->green.ctx = NULL;
	} else {
		cuDevicePrimaryCtxRelease_v2(dev);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxDestroy(CUgreenCtx hCtx)
{
	struct object *g = object_get(hCtx, VGPU_H_GREENCTX), *ctx;
	CUresult r = session_check();
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!g)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (thread_self()->in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	context_green_settle(g);
	ctx = g->green.ctx;
	device = g->green.device;
	r = call_cuGreenCtxDestroy(hCtx);
	if (r != CUDA_SUCCESS)
		return r;
	context_green_gone(g, ctx);
	return cuDevicePrimaryCtxRelease_v2(device);
}

static CUresult alive(CUgreenCtx h)
{
	CUresult r = session_check();

	return r != CUDA_SUCCESS ? r : object_get(h, VGPU_H_GREENCTX) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxGetId(CUgreenCtx greenCtx, unsigned long long *greenCtxId)
{
	CUresult r = alive(greenCtx);

	if (r != CUDA_SUCCESS)
		return r;
	if (!greenCtxId)
		return CUDA_ERROR_INVALID_VALUE;
	*greenCtxId = ((const struct object *)greenCtx)->green.id;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxFromGreenCtx(CUcontext *pContext, CUgreenCtx hCtx)
{
	CUresult r = alive(hCtx);

	if (r != CUDA_SUCCESS)
		return r;
	return pContext ? context_of_green(pContext, (struct object *)hCtx) : CUDA_ERROR_INVALID_VALUE;
}

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxRecordEvent(CUgreenCtx hCtx, CUevent hEvent)
{
	CUresult r = alive(hCtx);

	if (r == CUDA_SUCCESS)
		r = call_cuGreenCtxRecordEvent(hCtx, hEvent);
	if (r == CUDA_SUCCESS)
		event_recorded((struct object *)hEvent, NO_STREAM);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxWaitEvent(CUgreenCtx hCtx, CUevent hEvent)
{
	CUresult r = alive(hCtx);

	return r != CUDA_SUCCESS ? r : call_cuGreenCtxWaitEvent(hCtx, hEvent);
}

VGPU_EXPORT CUresult CUDAAPI cuGreenCtxStreamCreate(CUstream *phStream, CUgreenCtx greenCtx, unsigned int flags, int priority)
{
	struct object *g = object_get(greenCtx, VGPU_H_GREENCTX), *o;
	CUresult r = alive(greenCtx);

	if (r != CUDA_SUCCESS)
		return r;
	if (!phStream || flags != CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	r = call_cuGreenCtxStreamCreate(phStream, greenCtx, flags, priority);
	if (r != CUDA_SUCCESS)
		return r;
	o = (struct object *)*phStream;
	/* It ends with the primary context, which the green one holds. */
	o->ctx = context_primary(g->green.device);
	o->stream.flags = flags;
	o->stream.priority = priority;
	o->stream.green = g;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetGreenCtx(CUstream hStream, CUgreenCtx *phCtx)
{
	const struct object *o = (uintptr_t)hStream > 2 ? object_get(hStream, VGPU_H_STREAM) : NULL;
	CUresult r = session_check();

	if (r == CUDA_SUCCESS)
		r = stream_has_context(hStream);
	if (r != CUDA_SUCCESS)
		return r;
	if ((uintptr_t)hStream > 2 && !o)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!phCtx)
		return CUDA_ERROR_INVALID_VALUE;
	*phCtx = (CUgreenCtx)(o ? o->stream.green : context_green(thread_self()));
	return CUDA_SUCCESS;
}
