// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual memory management. Which addresses are reserved, what physical memory there is and where it is mapped is kept
 * here too, so that mistakes are told at once although most of this is posted.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "ipc.h"
#include "memory.h"
#include "reserve.h"
#include "shim_gen.h"

#define CLASHES_MAX	16

/* struct mapping - in a list by address; there are few enough to walk along. */
struct mapping {
	uint64_t base, size, id;
	struct object *physical;
	unsigned long long *access;	/* of each device */
	struct mapping *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;
static uint64_t granularity[VGPU_DEVICES_MAX][2];

/* A host function may change nothing of this: what it would change may be what the GPU is working on. */
static CUresult permitted(void)
{
	CUresult r = session_check();

	return r == CUDA_SUCCESS && thread_self()->in_callback ? CUDA_ERROR_NOT_PERMITTED : r;
}

static CUresult begin(struct vgpu_vmm *rq)
{
	CUresult r = permitted();

	return r == CUDA_SUCCESS ? call_begin(&rq->call, false) : r;
}

/* Of host memory the granularity is told, and nothing else. */
static bool on_host(const CUmemAllocationProp *prop)
{
	return prop->location.type == CU_MEM_LOCATION_TYPE_HOST || prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
	       prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

static CUresult check_prop(const CUmemAllocationProp *prop)
{
	CUresult r = permitted();

	if (r != CUDA_SUCCESS)
		return r;
	if (!prop || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE && !on_host(prop)))
		return CUDA_ERROR_INVALID_VALUE;
	if (prop->requestedHandleTypes & ~(unsigned int)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return REFUSE("cuMemCreate for sharing otherwise than by descriptor", "external");
	return on_host(prop) || (prop->location.id >= 0 && (uint32_t)prop->location.id < shim.ndevices) ? CUDA_SUCCESS :
		CUDA_ERROR_INVALID_DEVICE;
}

/* Of host memory it is the device's: NCCL takes a refusal from cuMemCreate(), but none here. */
VGPU_EXPORT CUresult CUDAAPI cuMemGetAllocationGranularity(size_t *out, const CUmemAllocationProp *prop,
							   CUmemAllocationGranularity_flags option)
{
	struct vgpu_vmm rq = { .flags = option };
	struct vgpu_vmm_reply reply;
	CUresult r = check_prop(prop);
	uint64_t *known;
	uint32_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!out || (unsigned int)option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
		return CUDA_ERROR_INVALID_VALUE;
	device = on_host(prop) ? 0 : prop->location.id;
	known = &granularity[device][option];
	if (!__atomic_load_n(known, __ATOMIC_RELAXED)) {
		rq.device = device;
		r = begin(&rq);
		if (r == CUDA_SUCCESS)
			r = call_reply(VGPU_MSG_cuMemGetAllocationGranularity, &rq, sizeof(rq), &reply, sizeof(reply));
		if (r != CUDA_SUCCESS)
			return r;
		__atomic_store_n(known, reply.value, __ATOMIC_RELAXED);
	}
	*out = *known;
	return CUDA_SUCCESS;
}

/* --- addresses --- */

static void unreserve(uint64_t base, uint64_t size)
{
	struct vgpu_vmm rq = { .address = base, .size = size };

	if (begin(&rq) == CUDA_SUCCESS)
		call_post(VGPU_MSG_cuMemAddressFree, &rq, sizeof(rq));
}

/* As with device memory: addresses at which the program has something itself are kept until others are found. */
VGPU_EXPORT CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr addr,
						 unsigned long long flags)
{
	struct vgpu_vmm rq = { .address = addr, .size = size, .offset = alignment };
	struct range range = { .size = size, .kind = RANGE_RESERVED };
	uint64_t clashed[CLASHES_MAX];
	struct vgpu_vmm_reply reply;
	CUresult r = begin(&rq);
	unsigned int n = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (!ptr || !size || flags || alignment & (alignment - 1))
		return CUDA_ERROR_INVALID_VALUE;
	for (;;) {
		int err;

		r = call_reply(VGPU_MSG_cuMemAddressReserve, &rq, sizeof(rq), &reply, sizeof(reply));
		if (r != CUDA_SUCCESS)
			break;
		err = reserve_addresses(reply.value, size);
		if (!err) {
			range.base = reply.value;
			if (range_insert(&range)) {
				unreserve(reply.value, size);
				r = CUDA_ERROR_OUT_OF_MEMORY;
			}
			break;
		}
		if (err != -EEXIST || n == CLASHES_MAX) {
			unreserve(reply.value, size);
			r = CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
		clashed[n++] = reply.value;
		rq.address = 0;
	}
	while (n)
		unreserve(clashed[--n], size);
	if (r == CUDA_SUCCESS)
		*ptr = reply.value;
	return r;
}

/* The mapping that holds @addr, or the first one behind it. Under the lock. */
static struct mapping **at_or_behind(uint64_t addr)
{
	struct mapping **p = &mappings;

	while (*p && (*p)->base + (*p)->size <= addr)
		p = &(*p)->next;
	return p;
}

bool vmm_mapped(uint64_t addr, struct vmm_mapped *out)
{
	struct mapping *m;
	bool found;

	pthread_mutex_lock(&lock);
	m = *at_or_behind(addr);
	found = m && m->base <= addr;
	if (found)
		*out = (struct vmm_mapped){ m->base, m->size, m->id, m->physical->physical.id,
					    m->physical->physical.device, m->physical->physical.handle_types };
	pthread_mutex_unlock(&lock);
	return found;
}

static bool anything_in(uint64_t base, uint64_t size)
{
	struct mapping *m = *at_or_behind(base);

	return m && m->base < base + size;
}

/* Do mappings, whole ones, cover just [base, base + size)? Under the lock. */
static bool whole(uint64_t base, uint64_t size)
{
	struct mapping *m = *at_or_behind(base);
	uint64_t at = base;

	while (m && m->base == at && at < base + size) {
		at += m->size;
		m = m->next;
	}
	return size && at == base + size;
}

VGPU_EXPORT CUresult CUDAAPI cuMemAddressFree(CUdeviceptr ptr, size_t size)
{
	CUresult r = permitted();
	struct range range;
	bool ok;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	ok = range_find(ptr, &range) && range.kind == RANGE_RESERVED && range.base == ptr && range.size == size &&
	     !anything_in(ptr, size) && range_remove(ptr, 1 << RANGE_RESERVED, NULL);
	pthread_mutex_unlock(&lock);
	if (!ok)
		return CUDA_ERROR_INVALID_VALUE;
	unreserve(ptr, size);
	return CUDA_SUCCESS;
}

/* --- memory --- */

VGPU_EXPORT CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
					 const CUmemAllocationProp *prop, unsigned long long flags)
{
	struct vgpu_vmm rq = { .size = size };
	CUresult r = check_prop(prop);
	struct vgpu_vmm_reply reply;
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (on_host(prop))
		return REFUSE("cuMemCreate in host memory", "virtual-memory");
	if (!handle || !size || flags)
		return CUDA_ERROR_INVALID_VALUE;
	o = object_new(VGPU_H_MEMALLOC);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = o->wire;
	rq.device = prop->location.id;
	rq.handle_types = prop->requestedHandleTypes;
	r = begin(&rq);
	if (r == CUDA_SUCCESS)
		r = call_reply(VGPU_MSG_cuMemCreate, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r;
	}
	o->physical.size = size;
	o->physical.id = range_new_id();
	o->physical.device = prop->location.id;
	o->physical.handles = 1;
	o->physical.mappings = 0;
	o->physical.handle_types = prop->requestedHandleTypes;
	*handle = (uintptr_t)o;
	return CUDA_SUCCESS;
}

/* Under the lock. The worker keeps memory that is still mapped by itself, but its handle is wanted for mapping again. */
static void put(struct object *o)
{
	struct vgpu_vmm rq = { .handle = o->wire };

	if (o->physical.handles || o->physical.mappings)
		return;
	if (begin(&rq) == CUDA_SUCCESS)
		call_post(VGPU_MSG_cuMemRelease, &rq, sizeof(rq));
	object_delete(o);
}

/* Under the lock. */
static struct object *physical_of(CUmemGenericAllocationHandle handle)
{
	struct object *o = object_get((void *)(uintptr_t)handle, VGPU_H_MEMALLOC);

	return o && o->physical.handles ? o : NULL;
}

VGPU_EXPORT CUresult CUDAAPI cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
							  CUmemAllocationHandleType type, unsigned long long flags)
{
	CUresult r = permitted();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!shareable || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	o = physical_of(handle);
	if (o && o->physical.handle_types & type)
		r = ipc_export(o->wire, o->physical.device, shareable);
	else
		r = CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
							    CUmemAllocationHandleType type)
{
	struct vgpu_ipc_memory_reply reply;
	CUresult r = permitted();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	if (type == CU_MEM_HANDLE_TYPE_WIN32 || type == CU_MEM_HANDLE_TYPE_WIN32_KMT || type == CU_MEM_HANDLE_TYPE_FABRIC)
		return REFUSE("cuMemImportFromShareableHandle of anything but a descriptor", "external");
	if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	o = object_new(VGPU_H_MEMALLOC);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = ipc_import(o->wire, shareable, &reply);
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r;
	}
	o->physical.size = reply.size;
	o->physical.id = range_new_id();
	o->physical.device = reply.device;
	o->physical.handle_types = type;
	o->physical.mappings = 0;
	o->physical.handles = 1;
	*handle = (uintptr_t)o;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle handle)
{
	CUresult r = permitted();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	o = physical_of(handle);
	if (o) {
		o->physical.handles--;
		put(o);
	}
	pthread_mutex_unlock(&lock);
	return o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

VGPU_EXPORT CUresult CUDAAPI cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr)
{
	CUresult r = permitted();
	struct mapping *m;

	if (r != CUDA_SUCCESS)
		return r;
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	m = *at_or_behind((uintptr_t)addr);
	if (m && m->base <= (uintptr_t)addr) {
		m->physical->physical.handles++;
		*handle = (uintptr_t)m->physical;
	} else {
		r = CUDA_ERROR_INVALID_VALUE;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop,
								    CUmemGenericAllocationHandle handle)
{
	CUresult r = permitted();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	o = prop ? physical_of(handle) : NULL;
	if (o)
		*prop = (CUmemAllocationProp){
			.type = CU_MEM_ALLOCATION_TYPE_PINNED,
			.requestedHandleTypes = (CUmemAllocationHandleType)o->physical.handle_types,
			.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = o->physical.device },
		};
	pthread_mutex_unlock(&lock);
	return o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* --- mappings --- */

VGPU_EXPORT CUresult CUDAAPI cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
				      unsigned long long flags)
{
	struct vgpu_vmm rq = { .address = ptr, .size = size, .offset = offset };
	struct vgpu_vmm_reply reply;
	struct mapping *m = NULL, **at;
	CUresult r = begin(&rq);
	struct range range;
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (flags || !size || !range_covers(ptr, size, &range) || range.kind != RANGE_RESERVED)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	o = physical_of(handle);
	if (o && (offset || size > o->physical.size)) {
		r = CUDA_ERROR_NOT_SUPPORTED;	/* as NVIDIA's driver says */
		goto out;
	}
	if (!o || anything_in(ptr, size)) {
		r = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	m = calloc(1, sizeof(*m) + shim.ndevices * sizeof(*m->access));
	if (!m) {
		r = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	rq.handle = o->wire;
	r = call_reply(VGPU_MSG_cuMemMap, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r != CUDA_SUCCESS)
		goto out;
	*m = (struct mapping){ .base = ptr, .size = size, .id = range_new_id(), .physical = o,
			       .access = (unsigned long long *)(m + 1) };
	at = at_or_behind(ptr);
	m->next = *at;
	*at = m;
	m = NULL;
	o->physical.mappings++;
out:
	pthread_mutex_unlock(&lock);
	free(m);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	struct vgpu_vmm rq = { .address = ptr, .size = size };
	CUresult r = begin(&rq);
	struct mapping **at, *m;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	if (!whole(ptr, size))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		r = call_post(VGPU_MSG_cuMemUnmap, &rq, sizeof(rq));
	for (at = at_or_behind(ptr); r == CUDA_SUCCESS && (m = *at) && m->base < ptr + size;) {
		*at = m->next;
		m->physical->physical.mappings--;
		put(m->physical);
		free(m);
	}
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	struct vgpu_vmm rq = { .address = ptr, .size = size };
	CUresult r = begin(&rq);
	struct mapping *m;

	if (r != CUDA_SUCCESS)
		return r;
	if (!desc || !count)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		if (desc[i].location.type == CU_MEM_LOCATION_TYPE_INVALID)
			return CUDA_ERROR_INVALID_VALUE;
		if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE)
			return REFUSE("cuMemSetAccess for the host", "virtual-memory");
		if (desc[i].location.id < 0 || (uint32_t)desc[i].location.id >= shim.ndevices)
			return CUDA_ERROR_INVALID_DEVICE;
	}
	pthread_mutex_lock(&lock);
	if (!whole(ptr, size))
		r = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && r == CUDA_SUCCESS; i++) {
		rq.device = desc[i].location.id;
		rq.flags = desc[i].flags;
		r = call_post(VGPU_MSG_cuMemSetAccess, &rq, sizeof(rq));
		for (m = *at_or_behind(ptr); m && m->base < ptr + size; m = m->next)
			m->access[desc[i].location.id] = desc[i].flags;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr)
{
	CUresult r = permitted();
	struct mapping *m;

	if (r != CUDA_SUCCESS)
		return r;
	if (!flags || !location || location->type == CU_MEM_LOCATION_TYPE_INVALID)
		return CUDA_ERROR_INVALID_VALUE;
	if (location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return REFUSE("cuMemGetAccess of the host", "virtual-memory");
	if (location->id < 0 || (uint32_t)location->id >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	m = *at_or_behind(ptr);
	if (m && m->base <= ptr)
		*flags = m->access[location->id];
	else
		r = CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&lock);
	return r;
}
