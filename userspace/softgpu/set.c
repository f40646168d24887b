// SPDX-License-Identifier: Apache-2.0
/* Memset, and values written in stream order. */
#include "both.h"
#include "softgpu.h"

#define INLINE_BYTES	(64u << 10)
#define HEAVY_BYTES	(256u << 10)

static CUresult set(CUdeviceptr dst, size_t pitch, uint32_t value, uint32_t element, size_t width, size_t height,
		    CUstream stream, bool ptds)
{
	struct sg_set op_set = { .dst = (char *)dst, .pitch = pitch, .width = width, .height = height, .value = value,
				 .element = element };
	size_t row, len;
	struct sg_stream *s;
	struct sg_op *op;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (unlikely(e))
		return e;
	if (__builtin_mul_overflow(width, element, &row) || dst % element || (height > 1 && (row > pitch || pitch % element)))
		return CUDA_ERROR_INVALID_VALUE;
	if (!width || !height)
		return CUDA_SUCCESS;
	if (__builtin_mul_overflow(pitch, height - 1, &len) || __builtin_add_overflow(len, row, &len))
		return CUDA_ERROR_INVALID_VALUE;
	if (sg_in_heap(dst) ? !sg_heap_range(dst, len, true) : !sg_host_range(dst, len))
		return CUDA_ERROR_INVALID_VALUE;
	if (height > 1 && pitch == row) {
		op_set.width *= height;
		op_set.height = 1;
	}
	if (len <= INLINE_BYTES && sg_queue_lock_idle(s)) {
		sg_do_set(&op_set);
		sg_queue_unlock(s);
		return CUDA_SUCCESS;
	}
	op = sg_queue_begin(s, SG_OP_SET, 0);
	op->u.set = op_set;
	sg_queue_end(s, op, len >= HEAVY_BYTES);
	return CUDA_SUCCESS;
}

/* Host memory that the device reaches has its value when a call without a stream returns. */
static CUresult settled(CUdeviceptr dst, bool ptds, CUresult e)
{
	struct sg_allocation a;
	struct sg_mapped m;

	if (e || (sg_heap_info(dst, &a) && !(a.flags & SG_ALLOC_MANAGED) &&
		  !(a.reserved && sg_vmm_mapped(dst, &m) && m.host)))
		return e;
	return cuStreamSynchronize(ptds ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY);
}

#define SET(bits, type)											\
BOTH_DS(cuMemsetD##bits##_v2, (CUdeviceptr dst, type v, size_t n), (dst, v, n, ptds))				\
{														\
	return settled(dst, ptds, set(dst, 0, v, bits / 8, n, 1, NULL, ptds));					\
}														\
BOTH(cuMemsetD##bits##Async, (CUdeviceptr dst, type v, size_t n, CUstream stream), (dst, v, n, stream, ptds))	\
{														\
	return set(dst, 0, v, bits / 8, n, 1, stream, ptds);							\
}														\
BOTH_DS(cuMemsetD2D##bits##_v2, (CUdeviceptr dst, size_t pitch, type v, size_t w, size_t h),			\
	(dst, pitch, v, w, h, ptds))										\
{														\
	return settled(dst, ptds, set(dst, pitch, v, bits / 8, w, h, NULL, ptds));				\
}														\
BOTH(cuMemsetD2D##bits##Async, (CUdeviceptr dst, size_t pitch, type v, size_t w, size_t h, CUstream stream),	\
     (dst, pitch, v, w, h, stream, ptds))									\
{														\
	return set(dst, pitch, v, bits / 8, w, h, stream, ptds);						\
}

SET(8, unsigned char)
SET(16, unsigned short)
SET(32, unsigned int)

static CUresult value_op(CUstream stream, enum sg_op_type type, CUdeviceptr addr, uint64_t value, uint32_t size,
			 unsigned int flags, unsigned int allowed, bool ptds)
{
	struct sg_stream *s;
	struct sg_op *op;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (flags & ~allowed || addr % size ||
	    (sg_in_heap(addr) ? !sg_heap_range(addr, size, type == SG_OP_WRITE) : !sg_host_range(addr, size)))
		return CUDA_ERROR_INVALID_VALUE;
	op = sg_queue_begin(s, type, 0);
	op->u.write.addr = addr;
	op->u.write.value = value;
	op->u.write.size = size;
	op->u.write.condition = flags;
	sg_queue_end(s, op, type == SG_OP_POLL);
	return CUDA_SUCCESS;
}

#define VALUE(bits)											\
BOTH(cuStreamWriteValue##bits##_v2,									\
     (CUstream stream, CUdeviceptr addr, cuuint##bits##_t value, unsigned int flags),			\
     (stream, addr, value, flags, ptds))								\
{													\
	return value_op(stream, SG_OP_WRITE, addr, value, bits / 8, flags,				\
			CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER, ptds);					\
}													\
BOTH(cuStreamWaitValue##bits##_v2,									\
     (CUstream stream, CUdeviceptr addr, cuuint##bits##_t value, unsigned int flags),			\
     (stream, addr, value, flags, ptds))								\
{													\
	return value_op(stream, SG_OP_POLL, addr, value, bits / 8, flags, 3, ptds);			\
}

VALUE(32)
VALUE(64)
