// SPDX-License-Identifier: Apache-2.0
/*
 * Memory pools. All memory comes from one heap that keeps what it needs for itself, so a pool is a handle with
 * attributes: what is freed into it is free at once.
 */
#include "both.h"
#include "softgpu.h"

struct sg_pool {
	struct sg_object object;
	int device;
	bool is_default;
	_Atomic int reuse[4];
	_Atomic uint64_t threshold;
};

static struct sg_pool *defaults[SG_DEVICES_MAX];
static struct sg_pool *current[SG_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_pool *pool_new(int device)
{
	struct sg_pool *p = sg_object_new(&sg_pool_table);

	if (!p)
		return NULL;
	p->device = device;
	for (int i = 0; i < 4; i++)
		p->reuse[i] = 1;
	atomic_store_explicit(&p->object.live, sg_pool_table.magic, memory_order_release);
	return p;
}

static CUresult device_pool(CUmemoryPool *out, CUdevice dev, struct sg_pool **which)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (dev < 0 || dev >= sg_devices)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!defaults[dev]) {
		defaults[dev] = pool_new(dev);
		if (defaults[dev])
			defaults[dev]->is_default = true;
		current[dev] = defaults[dev];
	}
	*out = (CUmemoryPool)which[dev];
	pthread_mutex_unlock(&lock);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice dev)
{
	return device_pool(pool, dev, defaults);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	return device_pool(pool, dev, current);
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
	struct sg_pool *p = sg_object_check(&sg_pool_table, pool);
	CUmemoryPool old;
	CUresult e = device_pool(&old, dev, current);

	if (e)
		return e;
	if (!p || p->device != dev)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	current[dev] = p;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	struct sg_pool *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!pool || !props || props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	if (props->location.type != CU_MEM_LOCATION_TYPE_DEVICE || props->handleTypes)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (props->location.id < 0 || props->location.id >= sg_devices)
		return CUDA_ERROR_INVALID_DEVICE;
	p = pool_new(props->location.id);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pool = (CUmemoryPool)p;
	return CUDA_SUCCESS;
}

static CUresult pool_enter(CUmemoryPool pool, const void *arg, struct sg_pool **p)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*p = sg_object_check(&sg_pool_table, pool);
	return *p && arg ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, pool, &p);

	if (e)
		return e;
	if (p->is_default)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (current[p->device] == p)
		current[p->device] = defaults[p->device];
	pthread_mutex_unlock(&lock);
	atomic_store(&p->object.live, 0);
	sg_object_put(&sg_pool_table, p);
	return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	struct sg_pool *p;

	return pool_enter(pool, pool, &p);
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, value, &p);

	if (e)
		return e;
	switch (attr) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		p->reuse[attr] = *(int *)value;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		p->threshold = *(cuuint64_t *)value;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		return *(cuuint64_t *)value ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	uint64_t free, total;
	struct sg_pool *p;
	CUresult e = pool_enter(pool, value, &p);

	if (e)
		return e;
	switch (attr) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		*(int *)value = p->reuse[attr];
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		*(cuuint64_t *)value = p->threshold;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:	/* the device's: there is one heap */
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		sg_heap_usage(p->device, &free, &total);
		*(cuuint64_t *)value = total - free;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t n)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, map, &p);

	for (size_t i = 0; !e && i < n; i++)
		if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || map[i].location.id != p->device)
			e = CUDA_ERROR_INVALID_DEVICE;
	return e;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, flags && location ? flags : NULL, &p);

	if (e)
		return e;
	*flags = location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id == p->device ?
		 CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
	return CUDA_SUCCESS;
}

BOTH(cuMemAllocFromPoolAsync, (CUdeviceptr *dptr, size_t size, CUmemoryPool pool, CUstream stream),
     (dptr, size, pool, stream, ptds))
{
	struct sg_pool *p;
	struct sg_stream *s;
	CUresult e = pool_enter(pool, dptr, &p);

	if (!e)
		e = sg_stream_of(stream, ptds, &s);
	if (e)
		return e;
	if (s->ctx->device != p->device)
		return CUDA_ERROR_INVALID_DEVICE;
	return cuMemAllocAsync(dptr, size, (CUstream)s == (CUstream)s->ctx->legacy ? CU_STREAM_LEGACY :
			       s->per_thread ? CU_STREAM_PER_THREAD : (CUstream)s);
}
