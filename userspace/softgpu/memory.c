// SPDX-License-Identifier: Apache-2.0
/* Allocation and questions about pointers. */
#include <string.h>

#include "both.h"
#include "graph.h"
#include "mempool.h"
#include "share.h"

#include "../libcuda/advice.h"

static CUresult alloc(struct sg_ctx *c, CUdeviceptr *dptr, size_t size, unsigned int flags)
{
	uint64_t p;

	if (!dptr || !size)
		return CUDA_ERROR_INVALID_VALUE;
	p = sg_heap_alloc_on(c->device, c, size, 0, flags);
	if (!p && sg_pools_trim())	/* what pools keep of freed memory is had by those who need it */
		p = sg_heap_alloc_on(c->device, c, size, 0, flags);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*dptr = p;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t size)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (!e)
		e = sg_capture_unsafe();
	return e ? e : alloc(c, dptr, size, 0);
}

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t size, unsigned int flags)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	e = sg_capture_unsafe();
	if (e)
		return e;
	if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)
		return CUDA_ERROR_INVALID_VALUE;
	return alloc(c, dptr, size, SG_ALLOC_MANAGED);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pitch, size_t width, size_t height, unsigned int element)
{
	struct sg_ctx *c;
	size_t p, size;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!pitch || !width || !height || (element != 4 && element != 8 && element != 16) || width > SG_MAX_PITCH)
		return CUDA_ERROR_INVALID_VALUE;
	p = (width + SG_PITCH_ALIGN - 1) & ~(size_t)(SG_PITCH_ALIGN - 1);
	if (__builtin_mul_overflow(p, height, &size))
		return CUDA_ERROR_INVALID_VALUE;
	e = sg_capture_unsafe();
	if (!e)
		e = alloc(c, dptr, size, 0);
	if (!e)
		*pitch = p;
	return e;
}

/* What cuIpcOpenMemHandle() gave, cuIpcCloseMemHandle() takes back; a pool's imported memory is freed like any other. */
static bool foreign(const struct sg_allocation *a)
{
	return a->flags & SG_ALLOC_IMPORTED && !(a->flags & SG_ALLOC_ASYNC);
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	struct sg_allocation a;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	/* Without a context, in its own. */
	if (e == CUDA_ERROR_INVALID_CONTEXT && sg_heap_info(dptr, &a) && a.base == dptr && a.ctx) {
		c = a.ctx;
		e = CUDA_SUCCESS;
	}
	if (e)
		return e;
	e = sg_capture_unsafe();
	if (e || !dptr)
		return e;
	if (sg_graph_memory_owns(dptr, &e)) {
		sg_queue_sync_ctx(c);
		return e;
	}
	if (sg_graph_memory_outlived(dptr)) {
		sg_queue_sync_ctx(c);
		return sg_heap_free(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	}
	/* Module variables have no context of their own here and are freed with their module. */
	if (!sg_heap_info(dptr, &a) || a.base != dptr || !a.ctx || foreign(&a) || a.flags & SG_ALLOC_FREEING)
		return CUDA_ERROR_INVALID_VALUE;
	if (a.flags & SG_ALLOC_IMPORTED && !sg_ipc_last(dptr))
		return CUDA_SUCCESS;
	sg_queue_sync_ctx(a.ctx);
	e = (CUresult)atomic_load(&c->fault);
	if (e)
		return e;
	if (a.flags & SG_ALLOC_MANAGED)
		advice_forget(a.base, a.size);
	return sg_heap_free(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total)
{
	struct sg_ctx *c;
	uint64_t f, t;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!free && !total)
		return CUDA_ERROR_INVALID_VALUE;
	sg_heap_usage(c->device, &f, &t);
	if (free)
		*free = f;
	if (total)
		*total = t;
	return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr dptr)
{
	struct sg_host_range r;
	struct sg_allocation a;
	struct sg_mapped m;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!sg_heap_info(dptr, &a)) {
		if (!sg_host_info(dptr, &r))
			return CUDA_ERROR_NOT_FOUND;
		a.base = r.base;
		a.size = r.size;
	} else if (a.reserved) {
		if (!sg_vmm_mapped(dptr, &m))
			return CUDA_ERROR_NOT_FOUND;
		a.base = m.base;
		a.size = m.size;
	}
	if (base)
		*base = a.base;
	if (size)
		*size = a.size;
	return CUDA_SUCCESS;
}

/* --- stream-ordered allocation ------------------------------------------------------------------------------------- */

/* Captured, they are nodes of the graph. */
static CUresult capture_alloc(struct sg_stream *s, CUdeviceptr *dptr, size_t size)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEM_ALLOC };
	struct sg_node *n;
	CUresult e;

	if (dptr && !size) {
		*dptr = 0;
		return CUDA_SUCCESS;
	}
	p.alloc.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
	p.alloc.poolProps.location = (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = s->ctx->device };
	p.alloc.bytesize = size;
	n = dptr ? sg_node_new(p.type) : NULL;
	if (!n)
		return dptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
	e = sg_node_set(n, &p, NULL);
	if (e) {
		sg_node_free(n);
		return e;
	}
	e = sg_capture_node(s, n);
	if (!e)
		*dptr = p.alloc.dptr;
	return e;
}

static CUresult capture_free(struct sg_stream *s, CUdeviceptr dptr)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = { dptr } };
	struct sg_node *n = sg_node_new(p.type);
	CUresult e;

	if (!n)
		return CUDA_ERROR_OUT_OF_MEMORY;
	e = sg_node_set(n, &p, NULL);
	if (e) {
		/* Memory that the graph did not allocate. */
		sg_node_free(n);
		sg_capture_invalidate(s);
		return e;
	}
	return sg_capture_node(s, n);
}

/* Memory is there at once, which is earlier than the order asks for; it goes in stream order. */
BOTH(cuMemAllocAsync, (CUdeviceptr *dptr, size_t size, CUstream stream), (dptr, size, stream, ptds))
{
	struct sg_stream *s;
	struct sg_pool *pool;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (sg_capturing(s))
		return capture_alloc(s, dptr, size);
	pool = sg_pool_current(s->ctx->device);
	return pool ? sg_pool_alloc_ordered(pool, s, dptr, size) : CUDA_ERROR_OUT_OF_MEMORY;
}

BOTH(cuMemFreeAsync, (CUdeviceptr dptr, CUstream stream), (dptr, stream, ptds))
{
	struct sg_allocation a;
	struct sg_stream *s;
	struct sg_op *op;
	uint64_t id;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (sg_capturing(s))
		return capture_free(s, dptr);
	if (sg_graph_memory_owns(dptr, &e))
		return e;
	if (!sg_graph_memory_outlived(dptr)) {
		if (!dptr || !sg_heap_info(dptr, &a) || a.base != dptr || !a.ctx || foreign(&a) ||
		    a.flags & SG_ALLOC_FREEING)
			return dptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
		if (a.flags & SG_ALLOC_IMPORTED && !sg_ipc_last(dptr))
			return CUDA_SUCCESS;
	}
	if (sg_queue_lock_idle(s)) {
		size_t size = sg_heap_free(dptr);

		sg_queue_unlock(s);
		return size ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	}
	id = sg_heap_freeing(dptr);
	if (!id)
		return CUDA_ERROR_INVALID_VALUE;
	op = sg_queue_begin(s, SG_OP_FREE, 0);
	op->u.free.addr = dptr;
	op->u.free.id = id;
	sg_queue_end(s, op, false);
	return CUDA_SUCCESS;
}

/* --- pointers ------------------------------------------------------------------------------------------------------ */

/* @m: of host memory and of an allocation, all of it */
struct pointer {
	bool device, host;
	struct sg_allocation a;
	struct sg_host_range r;
	struct sg_mapped m;
};

static CUresult attribute(const struct pointer *p, CUdeviceptr ptr, CUpointer_attribute attr, void *data)
{
	struct sg_ctx *ctx = p->device ? p->a.ctx : p->r.ctx;
	bool host = !p->device || p->m.host;

	if (p->device && !ctx)
		ctx = sg_primary(p->a.device);
	switch (attr) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		*(CUcontext *)data = (CUcontext)ctx;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		*(unsigned int *)data = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		*(CUdeviceptr *)data = ptr;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		if (!host && !(p->a.flags & SG_ALLOC_MANAGED) && !sg_managed_variable(ptr))
			return CUDA_ERROR_INVALID_VALUE;
		*(void **)data = (void *)ptr;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
		*(int *)data = p->device && p->a.flags & SG_ALLOC_SYNC;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
		*(unsigned long long *)data = p->m.id;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		*(unsigned long long *)data = p->m.block;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		*(CUdeviceptr *)data = p->m.base;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		*(size_t *)data = p->m.size;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		*(int *)data = p->device && (p->a.flags & SG_ALLOC_MANAGED || sg_managed_variable(ptr));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)data = p->device && !p->a.reserved ? p->a.device : ctx ? ctx->device : 0;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		*(int *)data = p->device && p->a.ctx && !p->a.reserved &&
			       !(p->a.flags & (SG_ALLOC_MANAGED | SG_ALLOC_ASYNC | SG_ALLOC_IMPORTED));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
		*(int *)data = 0;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
		*(CUdeviceptr *)data = p->device ? p->a.base : p->r.base;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
		*(size_t *)data = p->device ? p->a.size : p->r.size;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MAPPED:
		*(int *)data = !p->device || sg_heap_range(ptr, 1, false);
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		*(unsigned long long *)data = p->device && p->a.reserved ? p->m.handle_types :
			p->device && p->a.pool && sg_pool_key(p->a.pool) ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : 0;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		*(unsigned int *)data = CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		*(CUmemoryPool *)data = p->device ? p->a.pool : NULL;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

static void look(CUdeviceptr ptr, struct pointer *p)
{
	memset(p, 0, sizeof(*p));
	p->device = sg_heap_info(ptr, &p->a);
	p->host = !p->device && sg_host_info(ptr, &p->r);
	if (p->device && p->a.reserved)
		p->device = sg_vmm_mapped(ptr, &p->m);	/* only reserved: nothing yet */
	else if (p->device)
		p->m = (struct sg_mapped){ p->a.base, p->a.size, p->a.id, p->a.id, 0, false };
	else
		p->m = (struct sg_mapped){ p->r.base, p->r.size, p->r.id, p->r.id, 0, true };
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attr, CUdeviceptr ptr)
{
	struct pointer p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!data)
		return CUDA_ERROR_INVALID_VALUE;
	look(ptr, &p);
	return p.device || p.host ? attribute(&p, ptr, attr, data) : CUDA_ERROR_INVALID_VALUE;
}

/* Bytes that each attribute's value takes. */
static size_t attribute_size(CUpointer_attribute attr)
{
	switch (attr) {
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_MAPPED:
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
		return 4;	/* truth values are int: the runtime reads all of it */
	case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
		return sizeof(CUDA_POINTER_ATTRIBUTE_P2P_TOKENS);
	default:
		return 8;
	}
}

/* Several at once never fail for a pointer that is not known: what does not apply is zero. */
CUresult cuPointerGetAttributes(unsigned int n, CUpointer_attribute *attrs, void **data, CUdeviceptr ptr)
{
	struct pointer p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!n || !attrs || !data)
		return CUDA_ERROR_INVALID_VALUE;
	look(ptr, &p);
	for (unsigned int i = 0; i < n; i++) {
		if (!data[i] || attrs[i] < CU_POINTER_ATTRIBUTE_CONTEXT)
			return CUDA_ERROR_INVALID_VALUE;
		if ((!p.device && !p.host) || attribute(&p, ptr, attrs[i], data[i])) {
			memset(data[i], 0, attribute_size(attrs[i]));
			if (attrs[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
				*(int *)data[i] = -2;	/* as CUDA answers for memory it does not know */
		}
	}
	return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attr, CUdeviceptr ptr)
{
	struct sg_allocation a;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!value || attr != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || !sg_heap_info(ptr, &a) || a.reserved)
		return CUDA_ERROR_INVALID_VALUE;
	sg_heap_set_sync(ptr, *(const unsigned int *)value);
	return CUDA_SUCCESS;
}
