// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual memory management: reserved addresses, physical memory, and mappings of one onto the other. Physical memory
 * lies in a file without a name, at the offset that its place in the heap has: allocated there, it counts as used. What
 * may be exported has a file of its own, so that whoever imports it gets nothing else; and so has memory of the host, which
 * does not count. Its mappings can be used by the host before cuMemSetAccess() says so, since kernels are the host's, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "share.h"

#define GRANULE	(2ul << 20)

struct reservation {
	uint64_t base, size;
	struct reservation *next;
};

/* @home: 0 if it does not count: the host's, or another process's, where it does. @fd: its own file, -1: it is in the common one */
struct physical {
	uint64_t home, size, id;
	int fd;
	CUmemAllocationProp prop;
	unsigned int handles, mappings;
	struct physical *next;
};

struct mapping {
	uint64_t base, size, offset, id;
	struct physical *physical;
	CUmemAccess_flags access, host_access;
	struct mapping *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct reservation *reservations;
static struct physical *physicals;
static struct mapping *mappings;
static uint64_t next_id = 1ull << 49;	/* host memory has those from 1 << 48 */
static int file = -1;

/* Before a sandbox can be in the way. */
void sg_vmm_init(void)
{
	if (file >= 0)
		return;
	file = memfd_create("softgpu", MFD_CLOEXEC);
	if (file >= 0 && ftruncate(file, (off_t)SG_HEAP_SIZE)) {
		close(file);
		file = -1;
	}
}

static bool granular(uint64_t a, uint64_t b)
{
	return a && b && !((a | b) & (GRANULE - 1));
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
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!prop || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE && !on_host(prop)))
		return CUDA_ERROR_INVALID_VALUE;
	if (file < 0 || prop->requestedHandleTypes & ~(unsigned int)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_NOT_SUPPORTED;
	return on_host(prop) || (prop->location.id >= 0 && prop->location.id < sg_devices) ? CUDA_SUCCESS :
		CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags option)
{
	CUresult e = check_prop(prop);

	if (e)
		return e;
	if (!granularity || (unsigned int)option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
		return CUDA_ERROR_INVALID_VALUE;
	*granularity = GRANULE;
	return CUDA_SUCCESS;
}

/* --- addresses ----------------------------------------------------------------------------------------------------- */

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr addr, unsigned long long flags)
{
	struct reservation *r;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!ptr || flags || !granular(size, size) || alignment & (alignment - 1))
		return CUDA_ERROR_INVALID_VALUE;
	if (file < 0)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = malloc(sizeof(*r));
	if (!r)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r->base = sg_heap_reserve(size, alignment > GRANULE ? alignment : GRANULE, addr);
	r->size = size;
	if (!r->base) {
		free(r);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_lock(&lock);
	r->next = reservations;
	reservations = r;
	pthread_mutex_unlock(&lock);
	*ptr = r->base;
	return CUDA_SUCCESS;
}

static struct mapping *first_in(uint64_t base, uint64_t size)
{
	struct mapping *m;

	for (m = mappings; m && (m->base >= base + size || base >= m->base + m->size); m = m->next)
		;
	return m;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size)
{
	struct reservation **p, *r = NULL;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	pthread_mutex_lock(&lock);
	for (p = &reservations; *p && ((*p)->base != ptr || (*p)->size != size); p = &(*p)->next)
		;
	if (*p && !first_in(ptr, size)) {
		r = *p;
		*p = r->next;
	}
	pthread_mutex_unlock(&lock);
	if (!r)
		return CUDA_ERROR_INVALID_VALUE;
	sg_heap_unreserve(ptr);
	free(r);
	return CUDA_SUCCESS;
}

/* --- memory -------------------------------------------------------------------------------------------------------- */

/* Under the lock. */
static struct physical *check(CUmemGenericAllocationHandle h)
{
	struct physical *p;

	for (p = physicals; p && ((uintptr_t)p != h || !p->handles); p = p->next)
		;
	return p;
}

/* Under the lock. */
static void put(struct physical *p)
{
	struct physical **at;
	void *window;

	if (p->handles || p->mappings)
		return;
	for (at = &physicals; *at != p; at = &(*at)->next)
		;
	*at = p->next;
	if (p->fd >= 0) {
		close(p->fd);
		if (p->home)
			sg_heap_free(p->home);
		free(p);
		return;
	}
	window = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)(p->home - SG_HEAP_BASE));
	if (window != MAP_FAILED) {
		if (madvise(window, p->size, MADV_REMOVE))
			memset(window, 0, p->size);	/* the next owner must not see it */
		munmap(window, p->size);
	}
	sg_heap_free(p->home);
	free(p);
}

static CUmemGenericAllocationHandle enter(struct physical *p)
{
	p->handles = 1;
	pthread_mutex_lock(&lock);
	p->id = next_id++;
	p->next = physicals;
	physicals = p;
	pthread_mutex_unlock(&lock);
	return (uintptr_t)p;
}

/* Of the one node that there is; and not the device's memory. */
static CUresult create_on_host(struct physical *p, size_t size, const CUmemAllocationProp *prop)
{
	if (prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT ||
	    (prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ? prop->location.id != 0 : prop->requestedHandleTypes != 0))
		return CUDA_ERROR_INVALID_VALUE;
	if (prop->requestedHandleTypes)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (size / (size_t)sysconf(_SC_PAGESIZE) > (size_t)sysconf(_SC_PHYS_PAGES))
		return CUDA_ERROR_OUT_OF_MEMORY;
	p->fd = memfd_create("softgpu-host", MFD_CLOEXEC);
	if (p->fd >= 0 && !ftruncate(p->fd, (off_t)size)) {
		p->size = size;
		p->prop = *prop;
		return CUDA_SUCCESS;
	}
	if (p->fd >= 0)
		close(p->fd);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop,
		     unsigned long long flags)
{
	CUresult e = check_prop(prop);
	struct physical *p;

	if (e)
		return e;
	if (!handle || flags || !granular(size, size))
		return CUDA_ERROR_INVALID_VALUE;
	p = calloc(1, sizeof(*p));
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (on_host(prop)) {
		e = create_on_host(p, size, prop);
		if (e)
			free(p);
		else
			*handle = enter(p);
		return e;
	}
	p->home = sg_heap_alloc_on(prop->location.id, NULL, size, GRANULE, SG_ALLOC_WRITTEN);
	if (!p->home) {
		free(p);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	p->size = size;
	p->prop = *prop;
	p->fd = -1;
	if (prop->requestedHandleTypes) {
		struct sg_name name;

		e = sg_share_new(SG_SHARE_PHYSICAL, size, prop->location.id, NULL, &name, &p->fd);
		if (e) {
			sg_heap_free(p->home);
			free(p);
			return e;
		}
	}
	*handle = enter(p);
	return CUDA_SUCCESS;
}

/* --- other processes ------------------------------------------------------------------------------------------------ */

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
				      unsigned long long flags)
{
	struct physical *p;
	int fd = -1;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!shareable || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	p = check(handle);
	if (p && !p->prop.requestedHandleTypes)
		p = NULL;
	if (p)
		fd = sg_share_copy(p->fd);
	pthread_mutex_unlock(&lock);
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	if (fd < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*(int *)shareable = fd;
	return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
					CUmemAllocationHandleType type)
{
	int fd = (int)(intptr_t)shareable;
	struct physical *p;
	struct sg_name name;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (handle && (type == CU_MEM_HANDLE_TYPE_WIN32 || type == CU_MEM_HANDLE_TYPE_WIN32_KMT || type == CU_MEM_HANDLE_TYPE_FABRIC))
		return CUDA_ERROR_NOT_SUPPORTED;
	if (!handle || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    !sg_share_describe(fd, SG_SHARE_PHYSICAL, &name) || name.size & (GRANULE - 1) ||
	    name.device >= (uint32_t)sg_devices)
		return CUDA_ERROR_INVALID_VALUE;
	p = calloc(1, sizeof(*p));
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p->fd = sg_share_copy(fd);
	if (p->fd < 0) {
		free(p);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	p->size = name.size;
	p->prop = (CUmemAllocationProp){ .type = CU_MEM_ALLOCATION_TYPE_PINNED,
					 .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = (int)name.device } };
	*handle = enter(p);
	return CUDA_SUCCESS;
}

bool sg_vmm_mapped(uint64_t addr, struct sg_mapped *out)
{
	struct mapping *m;

	pthread_mutex_lock(&lock);
	m = first_in(addr, 1);
	if (m)
		*out = (struct sg_mapped){ m->base, m->size, m->id, m->physical->id,
					   m->physical->prop.requestedHandleTypes, on_host(&m->physical->prop) };
	pthread_mutex_unlock(&lock);
	return m;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct physical *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	pthread_mutex_lock(&lock);
	p = check(handle);
	if (p) {
		p->handles--;
		put(p);
	}
	pthread_mutex_unlock(&lock);
	return p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr)
{
	struct mapping *m;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	m = first_in((uintptr_t)addr, 1);
	if (m) {
		m->physical->handles++;
		*handle = (uintptr_t)m->physical;
	}
	pthread_mutex_unlock(&lock);
	return m ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop, CUmemGenericAllocationHandle handle)
{
	struct physical *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	pthread_mutex_lock(&lock);
	p = prop ? check(handle) : NULL;
	if (p)
		*prop = p->prop;
	pthread_mutex_unlock(&lock);
	return p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* --- mappings ------------------------------------------------------------------------------------------------------ */

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
		  unsigned long long flags)
{
	CUresult e = CUDA_ERROR_INVALID_VALUE;
	struct mapping *m = NULL;
	struct reservation *r;
	struct physical *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (flags || !granular(ptr, size))
		return e;
	pthread_mutex_lock(&lock);
	for (r = reservations; r && (ptr < r->base || ptr - r->base > r->size || size > r->size - (ptr - r->base)); r = r->next)
		;
	p = check(handle);
	if (p && (offset || size > p->size)) {
		e = CUDA_ERROR_NOT_SUPPORTED;	/* as NVIDIA's driver says */
		goto out;
	}
	if (!r || !p || first_in(ptr, size))
		goto out;
	e = CUDA_ERROR_OUT_OF_MEMORY;
	m = malloc(sizeof(*m));
	if (!m)
		goto out;
	if (mmap((void *)ptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, p->fd < 0 ? file : p->fd,
		 (off_t)((p->fd < 0 ? p->home - SG_HEAP_BASE : 0) + offset)) == MAP_FAILED)
		goto out;
	*m = (struct mapping){ ptr, size, offset, next_id++, p, CU_MEM_ACCESS_FLAGS_PROT_NONE,
			       CU_MEM_ACCESS_FLAGS_PROT_NONE, mappings };
	mappings = m;
	m = NULL;
	p->mappings++;
	e = CUDA_SUCCESS;
out:
	pthread_mutex_unlock(&lock);
	free(m);
	return e;
}

/* Do mappings, whole ones, cover just this? Under the lock. */
static bool whole(uint64_t base, uint64_t size)
{
	uint64_t at = base;

	while (at < base + size) {
		struct mapping *m = first_in(at, 1);

		if (!m || m->base != at)
			return false;
		at += m->size;
	}
	return at == base + size;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	struct mapping **at, *m;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!granular(ptr, size))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!whole(ptr, size)) {
		pthread_mutex_unlock(&lock);
		return CUDA_ERROR_INVALID_VALUE;
	}
	sg_heap_access(ptr, size, false);
	mmap((void *)ptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	for (at = &mappings; (m = *at);) {
		if (m->base < ptr || m->base >= ptr + size) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		m->physical->mappings--;
		put(m->physical);
		free(m);
	}
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* The host's part. Memory of a device is none that it could be let to. */
static CUresult set_host_access(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc)
{
	struct mapping *m;

	for (m = mappings; m; m = m->next)
		if (m->base >= ptr && m->base < ptr + size && !on_host(&m->physical->prop))
			return desc->location.type == CU_MEM_LOCATION_TYPE_HOST ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
	for (m = mappings; m; m = m->next)
		if (m->base >= ptr && m->base < ptr + size)
			m->host_access = desc->flags;
	return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	CUresult e = CUDA_SUCCESS;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!desc || !count || !granular(ptr, size))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!whole(ptr, size))
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && !e; i++) {
		if (is_host(&desc[i].location)) {
			e = set_host_access(ptr, size, &desc[i]);
			continue;
		}
		if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || desc[i].location.id < 0 ||
		    desc[i].location.id >= sg_devices) {
			e = CUDA_ERROR_INVALID_DEVICE;
			break;
		}
		/* Memory is one for all devices here; that kernels only read is left to them. */
		for (struct mapping *m = mappings; m; m = m->next)
			if (m->base >= ptr && m->base < ptr + size)
				m->access = desc[i].flags;
		sg_heap_access(ptr, size, desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE);
	}
	pthread_mutex_unlock(&lock);
	return e;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr)
{
	CUresult e = CUDA_SUCCESS;
	struct mapping *m;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!flags || !location || (location->type != CU_MEM_LOCATION_TYPE_DEVICE && !is_host(location)))
		return CUDA_ERROR_INVALID_VALUE;
	if (!is_host(location) && (location->id < 0 || location->id >= sg_devices))
		return CUDA_ERROR_INVALID_DEVICE;
	pthread_mutex_lock(&lock);
	m = first_in(ptr, 1);
	if (!m)
		e = CUDA_ERROR_INVALID_VALUE;
	else if (is_host(location) && !on_host(&m->physical->prop))
		e = CUDA_ERROR_NOT_SUPPORTED;
	else
		*flags = is_host(location) ? m->host_access : m->access;
	pthread_mutex_unlock(&lock);
	return e;
}
