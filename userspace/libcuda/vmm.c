// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual memory management. Which addresses are reserved, what physical memory there is and where it is mapped is kept
 * here too, so that mistakes are told at once although most of this is posted.
 *
 * Host memory is arena memory, as pinned memory is. Where it is mapped both sides show its pages at the reserved address,
 * too, for which the worker takes that reservation from the driver: it is one of host memory from then on. Kernels use it by
 * that address; copies by the one that it has in the arena, which no program knows of.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "ipc.h"
#include "memory.h"
#include "reserve.h"
#include "shim_gen.h"

#define CLASHES_MAX	16
#define BUSY_NAP_NS	200000	/* between asking whether host memory can be unmapped */
#define BUSY_NAPS	500	/* until it is done in any case: somebody is always busy */

/* struct mapping - in a list by address; there are few enough to walk along. */
struct mapping {
	uint64_t base, size, id;
	struct object *physical;
	unsigned long long *access;	/* of each device, and behind them of the host */
	struct mapping *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;
static uint64_t granularity[VGPU_DEVICES_MAX][2];
unsigned int vmm_hosts;

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

static bool is_host(const CUmemLocation *l)
{
	return l->type == CU_MEM_LOCATION_TYPE_HOST || l->type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
	       l->type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

static bool on_host(const CUmemAllocationProp *prop)
{
	return is_host(&prop->location);
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

/* Of host memory it is the device's: either may be mapped at addresses that were reserved for it. */
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
					    m->physical->physical.arena ? 0 : m->physical->physical.device,
					    m->physical->physical.handle_types };
	pthread_mutex_unlock(&lock);
	return found;
}

size_t vmm_home_slow(uint64_t *p, size_t n)
{
	struct mapping *m;
	struct range r;

	if (!n || !range_find(*p, &r) || r.kind != RANGE_HOST)
		return n;
	pthread_mutex_lock(&lock);
	m = *at_or_behind(*p);
	if (m && m->base <= *p) {
		uint64_t at = *p - m->base;

		n = n < m->size - at ? n : m->size - at;
		*p = (uintptr_t)m->physical->physical.arena + at;
	} else {
		n = 0;
	}
	pthread_mutex_unlock(&lock);
	return n;
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
	ok = range_find(ptr, &range) && range.base == ptr && range.size == size && !anything_in(ptr, size) &&
	     range_remove(ptr, 1 << RANGE_RESERVED | 1 << RANGE_HOST, NULL);
	if (ok && range.kind == RANGE_HOST)
		__atomic_sub_fetch(&vmm_hosts, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock);
	if (!ok)
		return CUDA_ERROR_INVALID_VALUE;
	unreserve(ptr, size);
	return CUDA_SUCCESS;
}

/* --- memory --- */

/* Pinned memory as far as copies go. Nodes are the driver domain's, so which one is asked for changes nothing. */
static CUresult create_on_host(struct object *o, size_t size, const CUmemAllocationProp *prop)
{
	size_t unit = 0;
	CUresult r;
	void *p;

	if (prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT ||
	    (prop->location.type == CU_MEM_LOCATION_TYPE_HOST ? prop->requestedHandleTypes != 0 : prop->location.id < 0))
		return CUDA_ERROR_INVALID_VALUE;
	if (prop->requestedHandleTypes)
		return REFUSE("cuMemCreate of host memory that can be shared", "virtual-memory");
	r = cuMemGetAllocationGranularity(&unit, prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	if (r != CUDA_SUCCESS)
		return r;
	if (!unit || size % unit || size % IDM_PAGE_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	p = idm_arena_alloc(shim.client, size);
	if (!p)
		return idm_client_ended(shim.client) ? session_failed(-EPIPE) : CUDA_ERROR_OUT_OF_MEMORY;
	if (range_insert(&(struct range){ .base = (uintptr_t)p, .size = size, .kind = RANGE_PINNED })) {
		idm_arena_free(shim.client, p);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	memset(p, 0, size);
	o->physical.arena = p;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
					 const CUmemAllocationProp *prop, unsigned long long flags)
{
	struct vgpu_vmm rq = { .size = size };
	CUresult r = check_prop(prop);
	struct vgpu_vmm_reply reply;
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!handle || !size || flags)
		return CUDA_ERROR_INVALID_VALUE;
	o = object_new(VGPU_H_MEMALLOC);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = o->wire;
	rq.device = prop->location.id;
	rq.handle_types = prop->requestedHandleTypes;
	o->physical.arena = NULL;
	r = begin(&rq);
	if (r == CUDA_SUCCESS)
		r = on_host(prop) ? create_on_host(o, size, prop) :
			call_reply(VGPU_MSG_cuMemCreate, &rq, sizeof(rq), &reply, sizeof(reply));
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
	o->physical.location = prop->location.type;
	*handle = (uintptr_t)o;
	return CUDA_SUCCESS;
}

/* Under the lock. The worker keeps memory that is still mapped by itself, but its handle is wanted for mapping again. */
static void put(struct object *o)
{
	struct vgpu_vmm rq = { .handle = o->wire };

	if (o->physical.handles || o->physical.mappings)
		return;
	if (o->physical.arena) {
		range_remove((uintptr_t)o->physical.arena, 1 << RANGE_PINNED, NULL);
		idm_arena_free(shim.client, o->physical.arena);
	} else if (begin(&rq) == CUDA_SUCCESS) {
		call_post(VGPU_MSG_cuMemRelease, &rq, sizeof(rq));
	}
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
	o->physical.location = CU_MEM_LOCATION_TYPE_DEVICE;
	o->physical.arena = NULL;
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
			.location = { .type = (CUmemLocationType)o->physical.location, .id = (int)o->physical.device },
		};
	pthread_mutex_unlock(&lock);
	return o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* --- mappings --- */

static bool of_host(const struct mapping *m)
{
	return m->physical->physical.arena;
}

/* Nothing is there for the host. */
static void hide(uint64_t base, uint64_t size)
{
	mmap((void *)(uintptr_t)base, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static CUresult unmap_host(uint64_t base, uint64_t size, uint64_t wait)
{
	struct vgpu_vmm rq = { .address = base, .size = size, .flags = VGPU_VMM_HOST | wait };
	CUresult r = begin(&rq);

	if (r == CUDA_SUCCESS)
		r = call_reply(VGPU_MSG_cuMemUnmap, &rq, sizeof(rq), NULL, 0);
	if (r == CUDA_SUCCESS)
		hide(base, size);
	return r;
}

/* Under the lock. The host may use it when cuMemSetAccess() says so. */
static CUresult map_host(const struct object *o, uint64_t base, uint64_t size, const struct range *range)
{
	struct vgpu_vmm rq = { .address = base, .size = size, .flags = VGPU_VMM_HOST,
			       .offset = (uint64_t)(o->physical.arena - (char *)idm_arena_base(shim.client)) };
	void *at = (void *)(uintptr_t)base;
	struct vgpu_vmm_reply reply;
	CUresult r = begin(&rq);

	if (r != CUDA_SUCCESS)
		return r;
	if ((base | size) & (IDM_PAGE_SIZE - 1))
		return CUDA_ERROR_INVALID_VALUE;
	if (range->kind == RANGE_RESERVED && anything_in(range->base, range->size))
		return REFUSE("host memory beside a device's in one cuMemAddressReserve", "reserve other addresses for it");
	r = call_reply(VGPU_MSG_cuMemMap, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r == CUDA_ERROR_NOT_SUPPORTED)
		return REFUSE("host memory at an address of the GPU driver's", "the broker's log says which");
	if (r != CUDA_SUCCESS)
		return r;
	if (range_becomes_host(range->base))
		__atomic_add_fetch(&vmm_hosts, 1, __ATOMIC_RELAXED);
	if (reserve_holds(base) && !idm_arena_alias(shim.client, o->physical.arena, size, at, PROT_READ | PROT_WRITE) &&
	    !mprotect(at, size, PROT_NONE))
		return CUDA_SUCCESS;
	unmap_host(base, size, VGPU_VMM_HOST_WAIT);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Under the lock. */
static CUresult map_device(const struct object *o, uint64_t base, uint64_t size, uint64_t offset, const struct range *range)
{
	struct vgpu_vmm rq = { .handle = o->wire, .address = base, .size = size, .offset = offset };
	struct vgpu_vmm_reply reply;
	CUresult r = begin(&rq);

	if (r != CUDA_SUCCESS)
		return r;
	if (range->kind == RANGE_HOST)
		return REFUSE("a device's memory beside host memory in one cuMemAddressReserve", "reserve other addresses for it");
	return call_reply(VGPU_MSG_cuMemMap, &rq, sizeof(rq), &reply, sizeof(reply));
}

VGPU_EXPORT CUresult CUDAAPI cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
				      unsigned long long flags)
{
	struct mapping *m = NULL, **at;
	CUresult r = permitted();
	struct range range;
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (flags || !size)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!range_find(ptr, &range) || (range.kind != RANGE_RESERVED && range.kind != RANGE_HOST) ||
	    size > range.size - (ptr - range.base)) {
		r = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	o = physical_of(handle);
	if (o && (offset || size > o->physical.size)) {
		r = CUDA_ERROR_NOT_SUPPORTED;	/* as NVIDIA's driver says */
		goto out;
	}
	if (!o || anything_in(ptr, size)) {
		r = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	m = calloc(1, sizeof(*m) + (shim.ndevices + 1) * sizeof(*m->access));
	if (!m) {
		r = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	r = o->physical.arena ? map_host(o, ptr, size, &range) : map_device(o, ptr, size, offset, &range);
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

/* Of mappings that lie side by side from @base to @end, where those end that one message is for. Under the lock. */
static uint64_t run_end(uint64_t base, uint64_t end)
{
	struct mapping *m = *at_or_behind(base);
	struct range range;

	if (of_host(m))
		return m->base + m->size;
	if (range_find(base, &range) && end > range.base + range.size)
		end = range.base + range.size;
	return end;
}

/* The mappings from @base to @end are no more. Under the lock. */
static void drop(uint64_t base, uint64_t end)
{
	struct mapping **at, *m;

	for (at = at_or_behind(base); (m = *at) && m->base < end;) {
		*at = m->next;
		m->physical->physical.mappings--;
		put(m->physical);
		free(m);
	}
}

/* One run. @naps: how often it has been too early. Under the lock. */
static CUresult unmap(uint64_t base, uint64_t end, unsigned int naps)
{
	struct vgpu_vmm rq = { .address = base, .size = end - base };
	CUresult r;

	if (of_host(*at_or_behind(base))) {
		r = unmap_host(base, end - base, naps < BUSY_NAPS ? 0 : VGPU_VMM_HOST_WAIT);
	} else {
		r = begin(&rq);
		if (r == CUDA_SUCCESS)
			r = call_post(VGPU_MSG_cuMemUnmap, &rq, sizeof(rq));
	}
	if (r == CUDA_SUCCESS)
		drop(base, end);
	return r;
}

/* Host memory is the program's to use again as it likes, so nothing may be under way that uses it, in whatever context. */
VGPU_EXPORT CUresult CUDAAPI cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	uint64_t at = ptr, end = ptr + size, next;
	CUresult r = permitted();
	unsigned int naps = 0;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	if (!whole(ptr, size))
		r = CUDA_ERROR_INVALID_VALUE;
	while (r == CUDA_SUCCESS && at < end) {
		if (!anything_in(at, 1)) {	/* unmapped meanwhile */
			r = CUDA_ERROR_INVALID_VALUE;
			break;
		}
		next = run_end(at, end);
		r = unmap(at, next, naps);
		if (r == CUDA_ERROR_NOT_READY) {
			pthread_mutex_unlock(&lock);
			nanosleep(&(struct timespec){ .tv_nsec = BUSY_NAP_NS }, NULL);
			pthread_mutex_lock(&lock);
			naps++;
			r = CUDA_SUCCESS;
		} else {
			at = next;
		}
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/* --- access --- */

static int protection(CUmemAccess_flags flags)
{
	return flags == CU_MEM_ACCESS_FLAGS_PROT_NONE ? PROT_NONE :
		flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

/* Under the lock, as below. */
static CUresult host_access(uint64_t ptr, uint64_t end, const CUmemAccessDesc *desc)
{
	struct mapping *m;

	for (m = *at_or_behind(ptr); m && m->base < end; m = m->next)
		if (!of_host(m))
			return desc->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ? CUDA_ERROR_INVALID_VALUE :
				REFUSE("cuMemSetAccess for the host, of a device's memory", "virtual-memory");
	for (m = *at_or_behind(ptr); m && m->base < end; m = m->next) {
		if (mprotect((void *)(uintptr_t)m->base, m->size, protection(desc->flags)))
			return CUDA_ERROR_OUT_OF_MEMORY;
		m->access[shim.ndevices] = desc->flags;
	}
	return CUDA_SUCCESS;
}

/* Every device reaches host memory, all the time, as it does the rest of the arena. */
static CUresult device_access(uint64_t ptr, uint64_t end, const CUmemAccessDesc *desc)
{
	struct vgpu_vmm rq = { .device = desc->location.id, .flags = desc->flags };
	CUresult r = CUDA_SUCCESS;
	struct mapping *m;

	for (uint64_t next; ptr < end && r == CUDA_SUCCESS; ptr = next) {
		next = run_end(ptr, end);
		m = *at_or_behind(ptr);
		if (!of_host(m)) {
			rq.address = ptr;
			rq.size = next - ptr;
			r = begin(&rq);
			if (r == CUDA_SUCCESS)
				r = call_post(VGPU_MSG_cuMemSetAccess, &rq, sizeof(rq));
		}
		for (; m && m->base < next; m = m->next)
			m->access[desc->location.id] = desc->flags;
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	CUresult r = permitted();

	if (r != CUDA_SUCCESS)
		return r;
	if (!desc || !count)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE && !is_host(&desc[i].location))
			return CUDA_ERROR_INVALID_VALUE;
		if (is_host(&desc[i].location))
			continue;
		if (desc[i].location.id < 0 || (uint32_t)desc[i].location.id >= shim.ndevices)
			return CUDA_ERROR_INVALID_DEVICE;
	}
	pthread_mutex_lock(&lock);
	if (!whole(ptr, size))
		r = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && r == CUDA_SUCCESS; i++)
		r = is_host(&desc[i].location) ? host_access(ptr, ptr + size, &desc[i]) : device_access(ptr, ptr + size, &desc[i]);
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr)
{
	CUresult r = permitted();
	struct mapping *m;

	if (r != CUDA_SUCCESS)
		return r;
	if (!flags || !location)
		return CUDA_ERROR_INVALID_VALUE;
	if (location->type != CU_MEM_LOCATION_TYPE_DEVICE && !is_host(location))
		return CUDA_ERROR_INVALID_VALUE;
	if (!is_host(location) && (location->id < 0 || (uint32_t)location->id >= shim.ndevices))
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	m = *at_or_behind(ptr);
	if (!m || m->base > ptr)
		r = CUDA_ERROR_INVALID_VALUE;
	else if (is_host(location) && !of_host(m))
		r = REFUSE("cuMemGetAccess for the host, of a device's memory", "virtual-memory");
	else
		*flags = m->access[is_host(location) ? shim.ndevices : (uint32_t)location->id];
	pthread_mutex_unlock(&lock);
	return r;
}
