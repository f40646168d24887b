// SPDX-License-Identifier: Apache-2.0
/* Fills: posted, after a look at the range map. */
#include "copy.h"
#include "managed.h"
#include "memory.h"
#include "shim_gen.h"

static CUresult check(CUdeviceptr dst, size_t n, size_t element)
{
	CUresult r = session_check();
	size_t bytes;

	if (r != CUDA_SUCCESS)
		return r;
	if (dst % element || __builtin_mul_overflow(n, element, &bytes) || (bytes && !memory_on_device(dst, bytes)))
		return CUDA_ERROR_INVALID_VALUE;
	managed_before(stream_default(thread_self()));
	return CUDA_SUCCESS;
}

static CUresult check_2d(CUdeviceptr dst, size_t pitch, size_t width, size_t height, size_t element)
{
	CUresult r = session_check();
	size_t row, bytes;

	if (r != CUDA_SUCCESS || !width || !height)
		return r;
	if (dst % element || __builtin_mul_overflow(width, element, &row) || (height > 1 && (pitch < row || pitch % element)) ||
	    __builtin_mul_overflow(pitch, height - 1, &bytes) || __builtin_add_overflow(bytes, row, &bytes) ||
	    !memory_on_device(dst, bytes))
		return CUDA_ERROR_INVALID_VALUE;
	managed_before(stream_default(thread_self()));
	return CUDA_SUCCESS;
}

/* Host memory that the device reaches has its value when a call without a stream returns. */
static CUresult settled(CUdeviceptr dst, CUresult r)
{
	struct range range;

	if (r != CUDA_SUCCESS || !range_find(dst, &range) || RANGE_ON_DEVICE(range.kind))
		return r;
	return copy_barrier(stream_default(thread_self()));
}

/* One mapping of host memory after the other: @call fills @part elements at @at. */
#define PIECES(r, dst, n, element, call) do {								\
	size_t done_ = 0, part;										\
													\
	for (; done_ < (n) && (r) == CUDA_SUCCESS; done_ += part) {					\
		uint64_t at = (dst) + done_ * (element);						\
													\
		part = vmm_home(&at, ((n) - done_) * (element)) / (element);				\
		(r) = part ? call : CUDA_ERROR_INVALID_VALUE;						\
	}												\
} while (0)

/* A box that lies in one. */
static CUdeviceptr home(CUdeviceptr dst, size_t pitch, size_t width, size_t height, size_t element)
{
	size_t bytes = pitch * (height - 1) + width * element;
	uint64_t at = dst;

	return vmm_home(&at, bytes) == bytes ? at : dst;
}

#define FILL(bits, type)										\
VGPU_EXPORT CUresult CUDAAPI cuMemsetD##bits##Async(CUdeviceptr dst, type value, size_t n, CUstream stream) \
{													\
	CUresult r = check(dst, n, sizeof(type));							\
													\
	PIECES(r, dst, n, sizeof(type), call_cuMemsetD##bits##Async(at, value, part, stream));		\
	return r;											\
}													\
													\
VGPU_EXPORT CUresult CUDAAPI cuMemsetD##bits##_v2(CUdeviceptr dst, type value, size_t n)		\
{													\
	CUresult r = check(dst, n, sizeof(type));							\
													\
	if (r != CUDA_SUCCESS || !n)									\
		return r;										\
	if (stream_default(thread_self()))								\
		PIECES(r, dst, n, sizeof(type), call_cuMemsetD##bits##Async(at, value, part, CU_STREAM_PER_THREAD)); \
	else												\
		PIECES(r, dst, n, sizeof(type), call_cuMemsetD##bits##_v2(at, value, part));		\
	return settled(dst, r);										\
}													\
													\
VGPU_EXPORT CUresult CUDAAPI cuMemsetD2D##bits##Async(CUdeviceptr dst, size_t pitch, type value, size_t width, \
						      size_t height, CUstream stream)			\
{													\
	CUresult r = check_2d(dst, pitch, width, height, sizeof(type));				\
													\
	return r != CUDA_SUCCESS || !width || !height ? r :						\
		call_cuMemsetD2D##bits##Async(home(dst, pitch, width, height, sizeof(type)), pitch, value, width, \
					      height, stream);						\
}													\
													\
VGPU_EXPORT CUresult CUDAAPI cuMemsetD2D##bits##_v2(CUdeviceptr dst, size_t pitch, type value, size_t width, \
						    size_t height)					\
{													\
	CUresult r = check_2d(dst, pitch, width, height, sizeof(type));				\
													\
	if (r != CUDA_SUCCESS || !width || !height)							\
		return r;										\
	dst = home(dst, pitch, width, height, sizeof(type));						\
	if (stream_default(thread_self()))								\
		return settled(dst, call_cuMemsetD2D##bits##Async(dst, pitch, value, width, height, CU_STREAM_PER_THREAD)); \
	return settled(dst, call_cuMemsetD2D##bits##_v2(dst, pitch, value, width, height));		\
}

FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned int)
