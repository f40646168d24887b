// SPDX-License-Identifier: Apache-2.0
/*
 * Managed memory: here device memory is in the program's reach anyway, so there is nothing to migrate and advice
 * moves nothing; what was advised can be asked for (libcuda/advice.h).
 */
#include <stdlib.h>

#include "both.h"
#include "softgpu.h"

#include "../libcuda/advice.h"

/* struct variable - a __managed__ variable that a program has asked for. Device memory like others, by another name. */
struct variable {
	uint64_t base, size;
	const void *library;
	struct variable *next;
};

static struct variable *variables;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool sg_managed_variable(uint64_t addr)
{
	struct variable *v;

	pthread_mutex_lock(&lock);
	for (v = variables; v && addr - v->base >= v->size; v = v->next)
		;
	pthread_mutex_unlock(&lock);
	return v;
}

bool sg_managed_note(uint64_t base, uint64_t size, const void *library)
{
	struct variable *v;

	if (sg_managed_variable(base))
		return true;
	v = malloc(sizeof(*v));
	if (!v)
		return false;
	pthread_mutex_lock(&lock);
	*v = (struct variable){ base, size, library, variables };
	variables = v;
	pthread_mutex_unlock(&lock);
	return true;
}

void sg_managed_forget(const void *library)
{
	struct variable **p, *v;

	pthread_mutex_lock(&lock);
	for (p = &variables; (v = *p);) {
		if (v->library != library) {
			p = &v->next;
			continue;
		}
		*p = v->next;
		free(v);
	}
	pthread_mutex_unlock(&lock);
}

static CUresult managed(CUdeviceptr ptr, size_t n)
{
	struct sg_allocation a;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!n || !sg_heap_range(ptr, n, false) || !sg_heap_info(ptr, &a) || (!(a.flags & SG_ALLOC_MANAGED) && !sg_managed_variable(ptr)))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult cuMemAdvise_v2(CUdeviceptr ptr, size_t n, CUmem_advise advice, CUmemLocation location)
{
	CUresult e = managed(ptr, n);

	return e ? e : advice_set(ptr, n, advice, location, sg_devices);
}

CUresult cuMemAdvise(CUdeviceptr ptr, size_t n, CUmem_advise advice, CUdevice device)
{
	return advice_old_error(cuMemAdvise_v2(ptr, n, advice, advice_device(device)), device, sg_devices);
}

static CUresult prefetch(CUdeviceptr ptr, size_t n, CUmemLocation location, unsigned int flags, CUstream stream, bool ptds)
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (!e && flags)
		e = CUDA_ERROR_INVALID_VALUE;
	if (!e)
		e = managed(ptr, n);
	return e ? e : advice_prefetched(ptr, n, location, sg_devices);
}

BOTH(cuMemPrefetchAsync, (CUdeviceptr ptr, size_t n, CUdevice dev, CUstream stream), (ptr, n, dev, stream, ptds))
{
	return prefetch(ptr, n, advice_device(dev), 0, stream, ptds);
}

BOTH(cuMemPrefetchAsync_v2,
     (CUdeviceptr ptr, size_t n, CUmemLocation location, unsigned int flags, CUstream stream),
     (ptr, n, location, flags, stream, ptds))
{
	return prefetch(ptr, n, location, flags, stream, ptds);
}

/* All of a batch is checked before any of it counts. */
static CUresult batch(CUdeviceptr *ptrs, size_t *sizes, size_t count, CUmemLocation *locations, size_t *first,
		      size_t nlocations, unsigned long long flags, CUstream stream, bool prefetches, bool ptds)
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);
	size_t l = 0;

	if (e)
		return e;
	if (!ptrs || !sizes || !count || flags ||
	    (prefetches && (!locations || !first || !nlocations || nlocations > count || first[0])))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 1; prefetches && i < nlocations; i++)
		if (first[i] <= first[i - 1] || first[i] >= count)
			return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; prefetches && !e && i < nlocations; i++)
		e = advice_location(locations[i], sg_devices);
	for (size_t i = 0; !e && i < count; i++)
		e = managed(ptrs[i], sizes[i]);
	for (size_t i = 0; prefetches && !e && i < count; i++) {
		while (l + 1 < nlocations && i >= first[l + 1])
			l++;
		e = advice_prefetched(ptrs[i], sizes[i], locations[l], sg_devices);
	}
	return e;
}

BOTH(cuMemPrefetchBatchAsync,
     (CUdeviceptr *ptrs, size_t *sizes, size_t count, CUmemLocation *locations, size_t *first, size_t n,
      unsigned long long flags, CUstream stream),
     (ptrs, sizes, count, locations, first, n, flags, stream, ptds))
{
	return batch(ptrs, sizes, count, locations, first, n, flags, stream, true, ptds);
}

/* What is discarded may keep its value: until it is written again it has any. */
BOTH(cuMemDiscardBatchAsync, (CUdeviceptr *ptrs, size_t *sizes, size_t count, unsigned long long flags, CUstream stream),
     (ptrs, sizes, count, flags, stream, ptds))
{
	return batch(ptrs, sizes, count, NULL, NULL, 0, flags, stream, false, ptds);
}

BOTH(cuMemDiscardAndPrefetchBatchAsync,
     (CUdeviceptr *ptrs, size_t *sizes, size_t count, CUmemLocation *locations, size_t *first, size_t n,
      unsigned long long flags, CUstream stream),
     (ptrs, sizes, count, locations, first, n, flags, stream, ptds))
{
	return batch(ptrs, sizes, count, locations, first, n, flags, stream, true, ptds);
}

CUresult cuMemRangeGetAttribute(void *data, size_t size, CUmem_range_attribute attribute, CUdeviceptr ptr, size_t n)
{
	CUresult e = managed(ptr, n);

	return e ? e : advice_get(data, size, attribute, ptr, n);
}

CUresult cuMemRangeGetAttributes(void **data, size_t *sizes, CUmem_range_attribute *attributes, size_t count,
				 CUdeviceptr ptr, size_t n)
{
	CUresult e = managed(ptr, n);

	if (!e && (!data || !sizes || !attributes || !count))
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; !e && i < count; i++)
		e = advice_get(data[i], sizes[i], attributes[i], ptr, n);
	return e;
}

BOTH(cuStreamAttachMemAsync, (CUstream stream, CUdeviceptr ptr, size_t n, unsigned int flags),
     (stream, ptr, n, flags, ptds))
{
	struct sg_allocation a;
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (!e)
		e = managed(ptr, n ? n : 1);
	if (e)
		return e;
	if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
		return CUDA_ERROR_INVALID_VALUE;
	/* All of an allocation, or (0) what the address says. */
	return sg_heap_info(ptr, &a) && a.base == ptr && (!n || n == a.size) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
