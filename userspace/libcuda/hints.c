// SPDX-License-Identifier: Apache-2.0
/*
 * Advice about managed memory, prefetching and discarding it. It is coherent where it is, so all of this is checked,
 * remembered, and moves nothing.
 */
#include "advice.h"
#include "memory.h"

static bool managed(uint64_t p, uint64_t n)
{
	struct range r;

	return n && range_covers(p, n, &r) && (r.kind == RANGE_MANAGED || (r.kind == RANGE_GLOBAL && r.flags));
}

static CUresult check(CUdeviceptr p, size_t count)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return managed(p, count) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check_stream(CUstream stream)
{
	CUresult r = session_check();
	uint64_t wire;

	if (r == CUDA_SUCCESS)
		r = stream_has_context(stream);
	if (r != CUDA_SUCCESS)
		return r;
	return stream_handle(stream, &wire) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

VGPU_EXPORT CUresult CUDAAPI cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise adv, CUmemLocation location)
{
	CUresult r = check(devPtr, count);

	return r == CUDA_SUCCESS ? advice_set(devPtr, count, adv, location, shim.ndevices) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise adv, CUdevice device)
{
	CUresult r = cuMemAdvise_v2(devPtr, count, adv, advice_device(device));

	return advice_old_error(r, device, shim.ndevices);
}

/* Whoever it is attached to, every stream and the program see the same bytes. */
VGPU_EXPORT CUresult CUDAAPI cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned int flags)
{
	CUresult r = check_stream(hStream);
	struct range range;

	if (r != CUDA_SUCCESS)
		return r;
	if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
		return CUDA_ERROR_INVALID_VALUE;
	/* To one stream, of which there may be one only. */
	if (flags == CU_MEM_ATTACH_SINGLE && (uintptr_t)hStream <= 1)
		return CUDA_ERROR_INVALID_VALUE;
	/* All of an allocation, or (length 0) what the address says. */
	if (!managed(dptr, 1) || !range_find(dptr, &range) || range.base != dptr || (length && length != range.size))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static CUresult prefetch(CUdeviceptr p, size_t n, CUmemLocation where, unsigned int flags, CUstream stream)
{
	CUresult r = check_stream(stream);

	if (r == CUDA_SUCCESS)
		r = check(p, n);
	if (r == CUDA_SUCCESS && flags)
		r = CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? advice_prefetched(p, n, where, shim.ndevices) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream)
{
	return prefetch(devPtr, count, advice_device(dstDevice), 0, hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location,
						   unsigned int flags, CUstream hStream)
{
	return prefetch(devPtr, count, location, flags, hStream);
}

/* All of a batch is checked before any of it counts. @locations NULL: nothing is prefetched */
static CUresult batch(CUdeviceptr *p, size_t *n, size_t count, CUmemLocation *locations, size_t *first, size_t nlocations,
		      unsigned long long flags, CUstream stream, bool prefetches)
{
	CUresult r = check_stream(stream);
	size_t l = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (!p || !n || !count || flags ||
	    (prefetches && (!locations || !first || !nlocations || nlocations > count || first[0])))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 1; prefetches && i < nlocations; i++)
		if (first[i] <= first[i - 1] || first[i] >= count)
			return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; prefetches && i < nlocations && r == CUDA_SUCCESS; i++)
		r = advice_location(locations[i], shim.ndevices);
	for (size_t i = 0; i < count && r == CUDA_SUCCESS; i++)
		r = check(p[i], n[i]);
	for (size_t i = 0; prefetches && i < count && r == CUDA_SUCCESS; i++) {
		while (l + 1 < nlocations && i >= first[l + 1])
			l++;
		r = advice_prefetched(p[i], n[i], locations[l], shim.ndevices);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemPrefetchBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count,
						     CUmemLocation *prefetchLocs, size_t *prefetchLocIdxs,
						     size_t numPrefetchLocs, unsigned long long flags, CUstream hStream)
{
	return batch(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, flags, hStream, true);
}

/* What is discarded may keep its value: until it is written again it has any. */
VGPU_EXPORT CUresult CUDAAPI cuMemDiscardBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count,
						    unsigned long long flags, CUstream hStream)
{
	return batch(dptrs, sizes, count, NULL, NULL, 0, flags, hStream, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr *dptrs, size_t *sizes, size_t count,
							       CUmemLocation *prefetchLocs, size_t *prefetchLocIdxs,
							       size_t numPrefetchLocs, unsigned long long flags,
							       CUstream hStream)
{
	return batch(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, flags, hStream, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemRangeGetAttribute(void *data, size_t dataSize, CUmem_range_attribute attribute,
						    CUdeviceptr devPtr, size_t count)
{
	CUresult r = check(devPtr, count);

	return r == CUDA_SUCCESS ? advice_get(data, dataSize, attribute, devPtr, count) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemRangeGetAttributes(void **data, size_t *dataSizes, CUmem_range_attribute *attributes,
						     size_t numAttributes, CUdeviceptr devPtr, size_t count)
{
	CUresult r = check(devPtr, count);

	if (r == CUDA_SUCCESS && (!data || !dataSizes || !attributes || !numAttributes))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS && !context_top(thread_self()))
		r = CUDA_ERROR_INVALID_CONTEXT;
	for (size_t i = 0; i < numAttributes && r == CUDA_SUCCESS; i++)
		r = advice_get(data[i], dataSizes[i], attributes[i], devPtr, count);
	return r;
}
