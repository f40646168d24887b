// SPDX-License-Identifier: Apache-2.0
/* Two-dimensional copies. Host rows are packed into staging chunks, or described in place if they are pinned. */
#include <string.h>

#include "capture.h"
#include "copy.h"
#include "graph.h"
#include "memory.h"
#include "shim_gen.h"
#include "staging.h"

/* One side of the copy, its offsets folded into the address. */
struct side {
	bool device;
	uint64_t at;
	uint64_t pitch;
};

static CUresult side_init(struct side *s, CUmemorytype type, const void *host, CUdeviceptr device, size_t x, size_t y,
			  size_t pitch, size_t width, size_t height)
{
	uint64_t skip, span;

	switch (type) {
	case CU_MEMORYTYPE_HOST:
		s->at = (uintptr_t)host;
		s->device = false;
		break;
	case CU_MEMORYTYPE_DEVICE:
		s->at = device;
		s->device = true;
		break;
	case CU_MEMORYTYPE_UNIFIED:
		s->at = device;
		s->device = copy_is_device(device);
		break;
	case CU_MEMORYTYPE_ARRAY:
		return REFUSE("cuMemcpy2D with an array", "arrays");
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (!s->at || (height > 1 && pitch < width) || x > pitch + width)
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_mul_overflow(y, pitch, &skip) || __builtin_add_overflow(skip, x, &skip) ||
	    __builtin_add_overflow(s->at, skip, &s->at) || __builtin_mul_overflow(height - 1, pitch, &span) ||
	    __builtin_add_overflow(span, width, &span))
		return CUDA_ERROR_INVALID_VALUE;
	s->pitch = pitch;
	if (s->device && !memory_on_device(s->at, span))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static void rows(char *dst, size_t dst_pitch, const char *src, size_t src_pitch, size_t width, size_t height)
{
	for (size_t i = 0; i < height; i++)
		memmove(dst + i * dst_pitch, src + i * src_pitch, width);
}

/* Rows that are wider than a chunk go one by one. */
static CUresult wide(const struct side *dst, const struct side *src, const struct vgpu_copy_2d *rq)
{
	CUresult r = CUDA_SUCCESS;

	for (uint64_t i = 0; i < rq->height && r == CUDA_SUCCESS; i++) {
		uint64_t to = dst->at + i * dst->pitch, from = src->at + i * src->pitch;

		if (dst->device)
			r = copy_to_device(to, (void *)(uintptr_t)from, rq->width, rq->stream, rq->async);
		else
			r = copy_from_device((void *)(uintptr_t)to, from, rq->width, rq->stream, rq->async);
	}
	return r;
}

static CUresult staged(const struct side *dst, const struct side *src, struct vgpu_copy_2d *rq)
{
	uint64_t height = rq->height, chunk = SLOT_SIZE / rq->width;
	CUresult r = CUDA_SUCCESS;
	struct slot *s = NULL;

	for (uint64_t row = 0; row < height && r == CUDA_SUCCESS; row += rq->height) {
		if (!s)
			s = staging_get(true, &r);
		if (!s)
			return r;
		rq->height = height - row < chunk ? height - row : chunk;
		if (dst->device) {
			rows(s->base, rq->width, (char *)(uintptr_t)src->at + row * src->pitch, src->pitch, rq->width,
			     rq->height);
			rq->src = s->offset;
			rq->src_pitch = rq->width;
			rq->dst = dst->at + row * dst->pitch;
			r = staging_submit(s, VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq));
			if (r == CUDA_SUCCESS && rq->async) {
				staging_leave(s);
				s = NULL;
			} else if (r == CUDA_SUCCESS) {
				r = staging_wait(s);
			}
		} else {
			rq->dst = s->offset;
			rq->dst_pitch = rq->width;
			rq->src = src->at + row * src->pitch;
			r = staging_submit(s, VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq));
			if (r == CUDA_SUCCESS)
				r = staging_wait(s);
			if (r == CUDA_SUCCESS)
				rows((char *)(uintptr_t)dst->at + row * dst->pitch, dst->pitch, s->base, rq->width,
				     rq->width, rq->height);
		}
	}
	if (s)
		staging_put(s);
	return r;
}

static CUresult copy_2d(const CUDA_MEMCPY2D *c, uint64_t stream, bool async, bool unaligned)
{
	struct vgpu_copy_2d rq = { .stream = stream, .async = async, .unaligned = unaligned };
	struct side dst, src, *host;
	CUresult r = call_begin(&rq.call, true);
	uint64_t span;

	if (r != CUDA_SUCCESS)
		return r;
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;
	if (!c->WidthInBytes || !c->Height)
		return CUDA_SUCCESS;
	r = side_init(&dst, c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes, c->dstY, c->dstPitch,
		      c->WidthInBytes, c->Height);
	if (r == CUDA_SUCCESS)
		r = side_init(&src, c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes, c->srcY, c->srcPitch,
			      c->WidthInBytes, c->Height);
	if (r != CUDA_SUCCESS)
		return r;
	rq.width = c->WidthInBytes;
	rq.height = c->Height;
	if (!dst.device && !src.device) {
		r = copy_barrier(stream);
		if (r == CUDA_SUCCESS)
			rows((char *)(uintptr_t)dst.at, dst.pitch, (char *)(uintptr_t)src.at, src.pitch, rq.width,
			     rq.height);
		return r;
	}
	rq.src = src.at;
	rq.dst = dst.at;
	rq.src_pitch = src.pitch;
	rq.dst_pitch = dst.pitch;
	rq.src_type = src.device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
	rq.dst_type = dst.device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
	if (dst.device && src.device)
		return call_post(VGPU_MSG_cuMemcpy2D_v2, &rq, sizeof(rq));
	host = dst.device ? &src : &dst;
	if (copy_is_device(host->at))
		return CUDA_ERROR_INVALID_VALUE;
	span = (rq.height - 1) * host->pitch + rq.width;
	if (memory_arena((void *)(uintptr_t)host->at, span, dst.device ? &rq.src : &rq.dst))
		return async ? call_post(VGPU_MSG_cuMemcpy2D_v2, &rq, sizeof(rq)) :
			call_reply(VGPU_MSG_cuMemcpy2D_v2, &rq, sizeof(rq), NULL, 0);
	if (async && capture_active(stream)) {
		CUDA_MEMCPY3D box = {
			.srcMemoryType = CU_MEMORYTYPE_UNIFIED, .srcDevice = src.at, .srcPitch = src.pitch,
			.srcHeight = rq.height, .dstMemoryType = CU_MEMORYTYPE_UNIFIED, .dstDevice = dst.at,
			.dstPitch = dst.pitch, .dstHeight = rq.height, .WidthInBytes = rq.width, .Height = rq.height,
			.Depth = 1,
		};

		return pageable_capture(&box, copy_stream(stream));
	}
	return rq.width > SLOT_SIZE ? wide(&dst, &src, &rq) : staged(&dst, &src, &rq);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy)
{
	return copy_2d(pCopy, stream_default(thread_self()), false, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy)
{
	return copy_2d(pCopy, stream_default(thread_self()), false, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
	uint64_t stream;

	if (!stream_handle(hStream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return copy_2d(pCopy, stream, true, false);
}

/* --- three dimensions: one plane after the other --- */

static CUresult copy_3d(const CUDA_MEMCPY3D *c, CUstream stream, bool async)
{
	CUresult r = session_check();
	CUDA_MEMCPY2D plane;
	size_t src_step, dst_step;

	if (r != CUDA_SUCCESS)
		return r;
	if (!c || c->srcLOD || c->dstLOD)
		return CUDA_ERROR_INVALID_VALUE;
	if (c->Depth > 1 && (c->srcHeight < c->Height || c->dstHeight < c->Height))
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_mul_overflow(c->srcPitch, c->srcHeight, &src_step) ||
	    __builtin_mul_overflow(c->dstPitch, c->dstHeight, &dst_step))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t z = 0; z < c->Depth && r == CUDA_SUCCESS; z++) {
		size_t src, dst;

		if (__builtin_mul_overflow(c->srcZ + z, src_step, &src) ||
		    __builtin_mul_overflow(c->dstZ + z, dst_step, &dst))
			return CUDA_ERROR_INVALID_VALUE;
		plane = (CUDA_MEMCPY2D){
			.srcXInBytes = c->srcXInBytes, .srcY = c->srcY, .srcMemoryType = c->srcMemoryType,
			.srcHost = (const char *)c->srcHost + src, .srcDevice = c->srcDevice + src,
			.srcArray = c->srcArray, .srcPitch = c->srcPitch,
			.dstXInBytes = c->dstXInBytes, .dstY = c->dstY, .dstMemoryType = c->dstMemoryType,
			.dstHost = (char *)c->dstHost + dst, .dstDevice = c->dstDevice + dst,
			.dstArray = c->dstArray, .dstPitch = c->dstPitch,
			.WidthInBytes = c->WidthInBytes, .Height = c->Height,
		};
		r = async ? cuMemcpy2DAsync_v2(&plane, stream) : cuMemcpy2DUnaligned_v2(&plane);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy)
{
	return copy_3d(pCopy, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
	return copy_3d(pCopy, hStream, true);
}
