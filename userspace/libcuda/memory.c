// SPDX-License-Identifier: Apache-2.0
/* Device memory. Its addresses are the worker's own; here they are reserved and noted in the range map. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "advice.h"
#include "array.h"
#include "capture.h"
#include "graph.h"
#include "ipc.h"
#include "mapped.h"
#include "memory.h"
#include "reserve.h"
#include "shim_gen.h"

/* How often to ask for other memory when the worker's address is in use by host memory here. */
#define CLASHES_MAX	16
#define GONE_WAIT_MS	1000	/* for word from the worker that is on its way */

/* Where a graph had its memory, and the dispatcher is about to be told that it has no more: the driver gave it out again. */
static int insert(const struct range *r)
{
	int err = range_insert(r);

	for (int i = 0; err == -EEXIST && i < GONE_WAIT_MS; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		err = range_insert(r);
	}
	return err;
}

static CUresult note(uint64_t addr, uint64_t size, enum range_kind kind, void *owner)
{
	struct object *ctx = context_current(thread_self());
	const struct object *pool = object_get(owner, VGPU_H_MEMPOOL);
	struct range r = { .base = addr, .size = size, .kind = kind, .ctx = ctx, .owner = owner,
			   .device = pool ? pool->pool.device : ctx ? context_device(ctx) : 0 };

	return insert(&r) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult memory_note(uint64_t addr, uint64_t size, enum range_kind kind, void *owner)
{
	struct range r;

	if (kind == RANGE_GLOBAL && range_covers(addr, size, &r))
		return CUDA_SUCCESS;	/* a variable asked for twice */
	if (reserve_addresses(addr, size))
		return CUDA_ERROR_OUT_OF_MEMORY;
	return note(addr, size, kind, owner);
}

/* One allocation, whichever call makes it. */
struct request {
	CUresult (*call)(struct request *q, CUdeviceptr *p);
	size_t size, width, height, pitch;
	unsigned int element;
	CUmemoryPool pool, from;	/* @from: what the pool is in any case */
	CUstream stream;
};

/*
 * An address that clashes with host memory is kept until another one is found, so that the worker can't give the
 * same one again, and then freed.
 */
static CUresult allocate(struct request *q, CUdeviceptr *out)
{
	CUdeviceptr clashed[CLASHES_MAX], p = 0;
	unsigned int n = 0;
	CUresult r;

	for (;;) {
		int err;

		r = q->call(q, &p);
		if (r != CUDA_SUCCESS)
			break;
		err = reserve_addresses(p, q->size);
		if (!err) {
			r = note(p, q->size, RANGE_DEVICE, q->from);
			if (r == CUDA_SUCCESS)
				*out = p;
			else
				call_cuMemFree_v2(p);
			break;
		}
		if (n == CLASHES_MAX || err != -EEXIST) {
			call_cuMemFree_v2(p);
			fprintf(stderr, "vgpu: device memory at %#llx, %zu bytes: the program has memory of its own there\n",
				(unsigned long long)p, q->size);
			r = CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
		clashed[n++] = p;
	}
	while (n)
		call_cuMemFree_v2(clashed[--n]);
	return r;
}

static CUresult plain(struct request *q, CUdeviceptr *p)
{
	return call_cuMemAlloc_v2(p, q->size);
}

static CUresult pitched(struct request *q, CUdeviceptr *p)
{
	CUresult r = call_cuMemAllocPitch_v2(p, &q->pitch, q->width, q->height, q->element);

	if (r == CUDA_SUCCESS && __builtin_mul_overflow(q->pitch, q->height, &q->size))
		return CUDA_ERROR_UNKNOWN;
	return r;
}

static CUresult ordered(struct request *q, CUdeviceptr *p)
{
	return call_cuMemAllocAsync(p, q->size, q->stream);
}

static CUresult from_pool(struct request *q, CUdeviceptr *p)
{
	return call_cuMemAllocFromPoolAsync(p, q->size, q->pool, q->stream);
}

VGPU_EXPORT CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
	struct request q = { .call = plain, .size = bytesize };
	CUresult r = session_check();

	if (r == CUDA_SUCCESS)
		r = capture_unsafe();
	if (r != CUDA_SUCCESS)
		return r;
	if (!dptr || !bytesize)
		return CUDA_ERROR_INVALID_VALUE;
	return allocate(&q, dptr);
}

VGPU_EXPORT CUresult CUDAAPI cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
						unsigned int ElementSizeBytes)
{
	struct request q = { .call = pitched, .width = WidthInBytes, .height = Height, .element = ElementSizeBytes };
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!dptr || !pPitch || !WidthInBytes || !Height ||
	    (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16))
		return CUDA_ERROR_INVALID_VALUE;
	r = capture_unsafe();
	if (r == CUDA_SUCCESS)
		r = allocate(&q, dptr);
	if (r == CUDA_SUCCESS)
		*pPitch = q.pitch;
	return r;
}

/*
 * In a stream that captures: memory of the graph. Its address stays the graph's, and so does the record of it, until
 * the worker says that no graph has it any more.
 */
static CUresult captured(struct request *q, CUdeviceptr *dptr)
{
	struct vgpu_rq_cuMemAllocAsync rq = { .bytesize = q->size };
	struct vgpu_rp_cuMemAllocAsync rp;
	CUresult r = call_begin(&rq.call, true);
	struct hook *h;

	if (r != CUDA_SUCCESS)
		return r;
	if (!dptr || !q->size)
		return CUDA_ERROR_INVALID_VALUE;
	if (!stream_handle(q->stream, &rq.hStream))
		return CUDA_ERROR_INVALID_HANDLE;
	h = graph_memory_hook();
	if (!h)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.call.reserved = h->index + 1;
	r = call_reply(VGPU_MSG_cuMemAllocAsync, &rq, sizeof(rq), &rp, sizeof(rp));
	if (r == CUDA_SUCCESS)
		r = graph_memory_note(h, rp.dptr, q->size);
	if (r == CUDA_SUCCESS)
		*dptr = rp.dptr;
	return r;
}

/* Memory of a graph is given back for this launch, but stays the graph's. */
static bool is(CUdeviceptr dptr, enum range_kind kind, const struct range *r)
{
	return r->kind == kind && r->base == dptr;
}

static bool of_graph(CUdeviceptr dptr)
{
	struct range r;

	return range_find(dptr, &r) && is(dptr, RANGE_GRAPH, &r) && !(r.flags & RANGE_OUTLIVED);
}

/* Device memory that is freed with its address, out of the map. */
static bool take(CUdeviceptr dptr)
{
	return range_remove(dptr, 1 << RANGE_DEVICE | 1 << RANGE_GRAPH, NULL);
}

CUresult memory_from_pool(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUmemoryPool from, CUstream stream)
{
	struct request q = { .call = pool ? from_pool : ordered, .size = bytesize, .pool = pool, .from = from,
			     .stream = stream };
	struct vgpu_call call;
	uint64_t wire;
	CUresult r;

	if (!stream_handle(stream, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	if (dptr && !bytesize) {
		/* Nothing, which can be freed. */
		r = call_begin(&call, true);
		if (r == CUDA_SUCCESS)
			*dptr = 0;
		return r;
	}
	if (capture_active(wire)) {
		/* A pool that is not the device's has no part in a graph's memory, which is the graph's own. */
		return captured(&q, dptr);
	}
	return allocate(&q, dptr);
}

/* Memory leaves the map before the call that frees it, so that call has to be one that the context allows. */
static CUresult may_free(void)
{
	struct vgpu_call call;

	return call_begin(&call, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemFree_v2(CUdeviceptr dptr)
{
	CUresult r = may_free();
	struct range old;

	/* Without a context, in its own. */
	if (r == CUDA_ERROR_INVALID_CONTEXT && range_find(dptr, &old) && old.ctx &&
	    cuCtxPushCurrent_v2(old.ctx) == CUDA_SUCCESS) {
		r = cuMemFree_v2(dptr);
		cuCtxPopCurrent_v2(NULL);
		return r;
	}
	if (r == CUDA_SUCCESS)
		r = capture_unsafe();
	if (r != CUDA_SUCCESS || !dptr)
		return r;
	if (!range_find(dptr, &old))
		return CUDA_ERROR_INVALID_VALUE;
	if (of_graph(dptr))
		return call_cuMemFree_v2(dptr);
	if (is(dptr, RANGE_MANAGED, &old))
		return pinned_free(dptr, 1 << RANGE_MANAGED);
	/* Out of the map first: the worker may give the address to another thread as soon as it has the message. */
	if (!take(dptr))
		return CUDA_ERROR_INVALID_VALUE;
	return call_cuMemFree_v2(dptr);
}

VGPU_EXPORT CUresult CUDAAPI cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)
{
	uint64_t wire;
	CUresult r = may_free();

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(hStream, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	if (of_graph(dptr) || capture_active(wire))
		return call_cuMemFreeAsync(dptr, hStream);
	if (!dptr)
		return CUDA_SUCCESS;
	if (!take(dptr))
		return CUDA_ERROR_INVALID_VALUE;
	return call_cuMemFreeAsync(dptr, hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr)
{
	CUresult r = session_check();
	struct vmm_mapped m;
	struct range range;

	if (r != CUDA_SUCCESS)
		return r;
	if (!range_find(dptr, &range) || range.kind == RANGE_REGISTERED)
		return CUDA_ERROR_NOT_FOUND;
	if (range.kind == RANGE_RESERVED || range.kind == RANGE_HOST) {
		/* Of addresses that were reserved, the mapping. */
		if (!vmm_mapped(dptr, &m))
			return CUDA_ERROR_NOT_FOUND;
		range.base = m.base;
		range.size = m.size;
	}
	if (pbase)
		*pbase = range.base;
	if (psize)
		*psize = range.size;
	return CUDA_SUCCESS;
}

static void forget(const struct range *r)
{
	if (r->kind == RANGE_MANAGED)
		advice_forget(r->base, r->size);
	if (RANGE_IN_ARENA(r->kind))
		idm_arena_free(shim.client, (void *)(uintptr_t)r->base);
}

void memory_forget(const struct object *ctx)
{
	range_remove_context(ctx, forget);
	pinned_forget(ctx);
	ipc_forget(ctx);
	texture_forget(ctx);
	array_forget(ctx);
}

bool memory_arena(const void *p, uint64_t len, uint64_t *offset)
{
	struct range r;

	uint64_t at = (uintptr_t)p;

	if (!range_covers(at, len, &r))
		return false;
	if (r.kind == RANGE_REGISTERED ? !mapped_arena(at, len, &at) : !RANGE_IN_ARENA(r.kind) && r.kind != RANGE_ALIAS)
		return false;
	*offset = at - (uintptr_t)idm_arena_base(shim.client);
	return true;
}
