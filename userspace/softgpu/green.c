// SPDX-License-Identifier: Apache-2.0
/*
 * Green contexts. Multiprocessors here are threads of one pool, which is not divided: a green context says which part of
 * the device a program counts on, and its kernels get what is free, which may be more.
 */
#include <string.h>

#include "softgpu.h"

#define MAGIC	0x6e656572

/* What CUdevResource has room for beside what programs read. */
struct inside {
	uint32_t magic;
	int device;
};

struct sg_desc {
	struct sg_object object;
	int device;
	unsigned int sms;
};

struct sg_green {
	struct sg_object object;
	struct sg_ctx *ctx;		/* it as an ordinary context */
	int device;
	unsigned int sms;
	uint64_t id;
};

static void fill(CUdevResource *r, int device, unsigned int sms)
{
	memset(r, 0, sizeof(*r));
	if (!sms)
		return;
	r->type = CU_DEV_RESOURCE_TYPE_SM;
	memcpy(r->_internal_padding, &(struct inside){ MAGIC, device }, sizeof(struct inside));
	r->sm = (CUdevSmResource){ .smCount = sms, .minSmPartitionSize = 1, .smCoscheduledAlignment = 1 };
}

static bool valid(const CUdevResource *r, int *device)
{
	struct inside in;

	memcpy(&in, r->_internal_padding, sizeof(in));
	*device = in.device;
	return r->type == CU_DEV_RESOURCE_TYPE_SM && in.magic == MAGIC && in.device >= 0 && in.device < sg_devices &&
	       r->sm.smCount && r->sm.smCount <= sg_cpus;
}

static CUresult get(CUdevResource *out, CUdevResourceType type, int device, unsigned int sms)
{
	if (!out || type != CU_DEV_RESOURCE_TYPE_SM)
		return out ? CUDA_ERROR_INVALID_RESOURCE_TYPE : CUDA_ERROR_INVALID_VALUE;
	fill(out, device, sms);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetDevResource(CUdevice dev, CUdevResource *out, CUdevResourceType type)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return dev < 0 || dev >= sg_devices ? CUDA_ERROR_INVALID_DEVICE : get(out, type, dev, sg_cpus);
}

CUresult cuCtxGetDevResource(CUcontext ctx, CUdevResource *out, CUdevResourceType type)
{
	struct sg_ctx *c = ctx ? sg_object_check(&sg_ctx_table, ctx) : sg_tls.top;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return c ? get(out, type, c->device, c->green ? c->green->sms : sg_cpus) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuDevSmResourceSplitByCount(CUdevResource *result, unsigned int *groups, const CUdevResource *input,
				     CUdevResource *remaining, unsigned int flags, unsigned int minimum)
{
	unsigned int size = minimum ? minimum : 1, n;
	int device;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!groups || !input || flags & ~3u)
		return CUDA_ERROR_INVALID_VALUE;
	if (!valid(input, &device))
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	if (size > input->sm.smCount)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	n = input->sm.smCount / size;
	if (result && *groups < n)
		n = *groups;
	*groups = n;
	for (unsigned int i = 0; result && i < n; i++)
		fill(&result[i], device, size);
	if (remaining)
		fill(remaining, device, input->sm.smCount - n * size);
	return CUDA_SUCCESS;
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *out, CUdevResource *resources, unsigned int n)
{
	struct sg_desc *d;
	int device;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || !resources || !n)
		return CUDA_ERROR_INVALID_VALUE;
	if (!valid(resources, &device))
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	if (n > 1)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	d = sg_object_new(&sg_desc_table);
	if (!d)
		return CUDA_ERROR_OUT_OF_MEMORY;
	d->device = device;
	d->sms = resources->sm.smCount;
	atomic_store_explicit(&d->object.live, sg_desc_table.magic, memory_order_release);
	*out = (CUdevResourceDesc)d;
	return CUDA_SUCCESS;
}

CUresult cuGreenCtxCreate(CUgreenCtx *out, CUdevResourceDesc desc, CUdevice dev, unsigned int flags)
{
	const struct sg_desc *d = sg_object_check(&sg_desc_table, desc);
	struct sg_green *g;
	CUcontext ctx;
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (dev < 0 || dev >= sg_devices)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!out || !d || d->device != dev || flags != CU_GREEN_CTX_DEFAULT_STREAM)
		return CUDA_ERROR_INVALID_VALUE;
	e = cuDevicePrimaryCtxRetain(&ctx, dev);
	if (e)
		return e;
	g = sg_object_new(&sg_green_table);
	if (g)
		g->ctx = sg_ctx_new_green((struct sg_ctx *)ctx, g);
	if (!g || !g->ctx) {
		if (g)
			sg_object_put(&sg_green_table, g);
		cuDevicePrimaryCtxRelease_v2(dev);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	g->device = dev;
	g->sms = d->sms;
	g->id = g->ctx->id;
	atomic_store_explicit(&g->object.live, sg_green_table.magic, memory_order_release);
	*out = (CUgreenCtx)g;
	return CUDA_SUCCESS;
}

static CUresult enter(CUgreenCtx h, struct sg_green **g)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*g = sg_object_check(&sg_green_table, h);
	return *g ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuGreenCtxDestroy(CUgreenCtx h)
{
	struct sg_green *g;
	CUresult e = enter(h, &g);
	int device;

	if (e)
		return e;
	device = g->device;
	sg_ctx_end_green(g->ctx);
	atomic_store(&g->object.live, 0);
	sg_object_put(&sg_green_table, g);
	return cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuGreenCtxGetDevResource(CUgreenCtx h, CUdevResource *out, CUdevResourceType type)
{
	struct sg_green *g;
	CUresult e = enter(h, &g);

	return e ? e : get(out, type, g->device, g->sms);
}

CUresult cuGreenCtxGetId(CUgreenCtx h, unsigned long long *id)
{
	struct sg_green *g;
	CUresult e = enter(h, &g);

	if (e || !id)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*id = g->id;
	return CUDA_SUCCESS;
}

CUresult cuCtxFromGreenCtx(CUcontext *out, CUgreenCtx h)
{
	struct sg_green *g;
	CUresult e = enter(h, &g);

	if (e || !out)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*out = (CUcontext)g->ctx;
	return CUDA_SUCCESS;
}

CUresult cuGreenCtxStreamCreate(CUstream *out, CUgreenCtx h, unsigned int flags, int priority)
{
	struct sg_ctx *before;
	struct sg_green *g;
	CUresult e = enter(h, &g);

	if (e)
		return e;
	if (!out || flags != CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	before = sg_ctx_swap(g->ctx);
	e = cuStreamCreateWithPriority(out, flags, priority);
	sg_ctx_swap(before);
	return e;
}

CUresult cuStreamGetGreenCtx(CUstream stream, CUgreenCtx *out)
{
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, false, &s);

	if (e || !out)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*out = (CUgreenCtx)s->home->green;
	return CUDA_SUCCESS;
}

CUresult cuGreenCtxRecordEvent(CUgreenCtx h, CUevent event)
{
	struct sg_green *g;
	CUresult e = enter(h, &g);

	return e ? e : cuCtxRecordEvent((CUcontext)g->ctx, event);
}

CUresult cuGreenCtxWaitEvent(CUgreenCtx h, CUevent event)
{
	struct sg_green *g;
	CUresult e = enter(h, &g);

	return e ? e : cuCtxWaitEvent((CUcontext)g->ctx, event);
}
