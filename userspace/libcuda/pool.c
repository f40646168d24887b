// SPDX-License-Identifier: Apache-2.0
/* Memory pools: each device's default one, which is what cudaMallocAsync uses, and a program's own. */
#include <pthread.h>

#include "ipc.h"
#include "memory.h"
#include "shim_gen.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static CUmemoryPool current[VGPU_DEVICES_MAX];	/* cuDeviceSetMemPool; NULL: the default one. Under the lock */

/* The device whose memory is in @pool. @return false if it is no pool. */
static bool pool_device(CUmemoryPool pool, uint32_t *device)
{
	const struct object *o = object_get(pool, VGPU_H_MEMPOOL);

	if (o)
		*device = o->pool.device;
	return o;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
	CUresult r = session_check();
	CUmemoryPool pool;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pool_out)
		return CUDA_ERROR_INVALID_VALUE;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	if (!shim.devices[dev].pool) {
		r = call_cuDeviceGetDefaultMemPool(&pool, dev);
		if (r == CUDA_SUCCESS) {
			shim.devices[dev].pool = (struct object *)pool;
			shim.devices[dev].pool->pool.device = dev;
		}
	}
	if (r == CUDA_SUCCESS)
		*pool_out = (CUmemoryPool)shim.devices[dev].pool;
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	CUresult r = cuDeviceGetDefaultMemPool(pool, dev);

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	if (current[dev])
		*pool = current[dev];
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
	CUresult r = session_check();
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pool_device(pool, &device) || (CUdevice)device != dev || ((struct object *)pool)->pool.imported)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	current[dev] = (struct object *)pool == shim.devices[dev].pool ? NULL : pool;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* The same by location. */
static CUresult located(const CUmemLocation *location, CUmemAllocationType type, CUdevice *dev)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (type == CU_MEM_ALLOCATION_TYPE_MANAGED && location)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (!location || location->type == CU_MEM_LOCATION_TYPE_INVALID || type != CU_MEM_ALLOCATION_TYPE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	if (location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return REFUSE("memory pools of host memory", "pools");
	*dev = location->id;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemGetDefaultMemPool(CUmemoryPool *pool_out, CUmemLocation *location,
						    CUmemAllocationType type)
{
	CUdevice dev = -1;
	CUresult r = located(location, type, &dev);

	return r == CUDA_SUCCESS ? cuDeviceGetDefaultMemPool(pool_out, dev) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
	CUdevice dev = -1;
	CUresult r = located(location, type, &dev);

	return r == CUDA_SUCCESS ? cuDeviceGetMemPool(pool, dev) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool)
{
	CUdevice dev = -1;
	CUresult r = located(location, type, &dev);

	return r == CUDA_SUCCESS ? cuDeviceSetMemPool(dev, pool) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps)
{
	struct vgpu_pool_create rq = { .max_size = 0 };
	CUresult r = call_begin(&rq.call, false);
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	/* As every device without CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS. */
	if (pool && poolProps && poolProps->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (!pool || !poolProps || poolProps->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return REFUSE("memory pools of host memory", "pools");
	if (poolProps->handleTypes & ~(unsigned int)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return REFUSE("memory pools for sharing otherwise than by descriptor", "external");
	if (poolProps->location.id < 0 || (uint32_t)poolProps->location.id >= shim.ndevices)
		return CUDA_ERROR_INVALID_VALUE;
	o = object_new(VGPU_H_MEMPOOL);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = o->wire;
	rq.max_size = poolProps->maxSize;
	rq.device = poolProps->location.id;
	rq.handle_types = poolProps->handleTypes;
	r = call_reply(VGPU_MSG_cuMemPoolCreate, &rq, sizeof(rq), NULL, 0);
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r;
	}
	o->pool.device = rq.device;
	o->pool.access = 0;
	o->pool.shareable = rq.handle_types;
	o->pool.imported = false;
	*pool = (CUmemoryPool)o;
	return CUDA_SUCCESS;
}

/* --- pools of several processes --- */

VGPU_EXPORT CUresult CUDAAPI cuMemPoolExportToShareableHandle(void *handle, CUmemoryPool pool,
							      CUmemAllocationHandleType type, unsigned long long flags)
{
	struct object *o = object_get(pool, VGPU_H_MEMPOOL);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!handle || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !o || !o->pool.shareable)
		return CUDA_ERROR_INVALID_VALUE;
	return ipc_export(o->wire, o->pool.device, handle);
}

VGPU_EXPORT CUresult CUDAAPI cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle,
								CUmemAllocationHandleType type, unsigned long long flags)
{
	struct vgpu_ipc_memory_reply reply;
	CUresult r = session_check();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pool || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	o = object_new(VGPU_H_MEMPOOL);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = ipc_import(o->wire, handle, &reply);
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r;
	}
	o->pool.device = reply.device;
	o->pool.access = 0;
	o->pool.shareable = false;
	o->pool.imported = true;
	*pool = (CUmemoryPool)o;
	return CUDA_SUCCESS;
}

/* Nothing new comes from another process's pool. */
static bool only_imported(CUmemoryPool pool)
{
	const struct object *o = object_get(pool, VGPU_H_MEMPOOL);

	return o && o->pool.imported;
}

VGPU_EXPORT CUresult CUDAAPI cuMemPoolDestroy(CUmemoryPool pool)
{
	CUresult r = session_check();
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pool_device(pool, &device) || shim.devices[device].pool == (struct object *)pool)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (current[device] == pool)
		current[device] = NULL;
	pthread_mutex_unlock(&lock);
	return call_cuMemPoolDestroy(pool);
}

/* The first attributes are ints, the others cuuint64_t. */
static bool is_int(CUmemPool_attribute attr)
{
	return attr <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
}

VGPU_EXPORT CUresult CUDAAPI cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	uint64_t v;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	r = call_cuMemPoolGetAttribute(pool, attr, &v);
	if (r != CUDA_SUCCESS)
		return r;
	if (is_int(attr))
		*(int *)value = v;
	else
		*(cuuint64_t *)value = v;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	CUresult r = session_check();
	uint64_t v;

	if (r != CUDA_SUCCESS)
		return r;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	v = is_int(attr) ? (uint64_t)*(int *)value : *(cuuint64_t *)value;
	return call_cuMemPoolSetAttribute(pool, attr, &v);
}

VGPU_EXPORT CUresult CUDAAPI cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool, CUmemLocation *location)
{
	CUresult r = session_check();
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!flags || !location || !pool_device(memPool, &device) || location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
	    location->id < 0 || (uint32_t)location->id >= shim.ndevices)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = location->id == (int)device || ((struct object *)memPool)->pool.access >> location->id & 1 ?
		CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
	return CUDA_SUCCESS;
}

/* A pool's own device has access, and can't lose it. */
VGPU_EXPORT CUresult CUDAAPI cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t count)
{
	struct object *o = (struct object *)pool;
	struct vgpu_vmm rq = { 0 };
	CUresult r = call_begin(&rq.call, false);
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pool_device(pool, &device) || !map)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || map[i].location.id < 0 ||
		    (uint32_t)map[i].location.id >= shim.ndevices)
			return CUDA_ERROR_INVALID_DEVICE;
		if ((map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) ||
		    (map[i].location.id == (int)device && !map[i].flags))
			return CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t i = 0; i < count && r == CUDA_SUCCESS; i++) {
		if (map[i].location.id == (int)device)
			continue;
		rq.handle = o->wire;
		rq.device = map[i].location.id;
		rq.flags = map[i].flags;
		r = call_reply(VGPU_MSG_cuMemPoolSetAccess, &rq, sizeof(rq), NULL, 0);
		if (r == CUDA_SUCCESS && map[i].flags)
			o->pool.access |= 1u << rq.device;
		else if (r == CUDA_SUCCESS)
			o->pool.access &= ~(1u << rq.device);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
						     CUstream hStream)
{
	CUresult r = session_check();
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!dptr || !pool_device(pool, &device) || only_imported(pool))
		return CUDA_ERROR_INVALID_VALUE;
	return memory_from_pool(dptr, bytesize, pool, pool, hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	const struct object *ctx = context_current(thread_self());
	CUresult r = session_check();
	CUmemoryPool pool = NULL, usual = NULL;

	if (r != CUDA_SUCCESS)
		return r;
	if (!dptr)
		return CUDA_ERROR_INVALID_VALUE;
	if (ctx) {
		r = cuDeviceGetDefaultMemPool(&usual, context_device(ctx));
		if (r != CUDA_SUCCESS)
			return r;
		pthread_mutex_lock(&lock);
		pool = current[context_device(ctx)];
		pthread_mutex_unlock(&lock);
	}
	return memory_from_pool(dptr, bytesize, pool, pool ? pool : usual, hStream);
}
