// SPDX-License-Identifier: Apache-2.0
/*
 * Copies. Where a side lies is told by its address: in the heap, in registered host memory, or else in the program's
 * own memory. What a function's name calls a device address has to be one of the first two.
 */
#include <string.h>

#include "both.h"
#include "array.h"

#define INLINE_BYTES	(64u << 10)	/* done on the spot when nothing is queued before it */
#define HEAVY_BYTES	(256u << 10)
#define STAGED_BYTES	(32u << 10)	/* of pageable memory, copied into the queue with the operation */

/* May a copy read (write) @len bytes at @addr? @device: the caller says that it is a device address. */
static bool side_ok(uint64_t addr, size_t len, bool device, bool write)
{
	if (!len)
		return true;
	if (sg_in_heap(addr))
		return sg_heap_range(addr, len, write);
	if (addr + len < addr || !addr)
		return false;
	return !device || sg_host_range(addr, len);
}

static size_t span(size_t pitch, size_t width, size_t height)
{
	return height ? pitch * (height - 1) + width : 0;
}

static CUresult queue_copy(struct sg_stream *s, const struct sg_copy2d *copy, bool async)
{
	size_t bytes = copy->width * copy->height * copy->depth;
	struct sg_op *op;

	if (!async && sg_capturing(s)) {
		sg_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	if (!async) {
		if (sg_tls.in_callback)
			return CUDA_ERROR_NOT_PERMITTED;
		if (!sg_queue_done(s)) {
			sg_queue_sync(s);
			if (atomic_load(&s->ctx->fault))
				return (CUresult)atomic_load(&s->ctx->fault);
		}
		sg_print_flush();
		sg_do_copy(copy);
		return CUDA_SUCCESS;
	}
	if (bytes <= INLINE_BYTES && sg_queue_lock_idle(s)) {
		sg_do_copy(copy);
		sg_queue_unlock(s);
		return CUDA_SUCCESS;
	}
	op = sg_queue_begin(s, SG_OP_COPY, 0);
	op->u.copy = *copy;
	sg_queue_end(s, op, bytes >= HEAVY_BYTES);
	return CUDA_SUCCESS;
}

/* From memory that is the program's own again when the call returns. */
static void queue_staged(struct sg_stream *s, struct sg_copy2d *copy)
{
	struct sg_op *op;

	if (sg_queue_lock_idle(s)) {
		sg_do_copy(copy);
		sg_queue_unlock(s);
		return;
	}
	op = sg_queue_begin(s, SG_OP_COPY, copy->width);
	memcpy(op + 1, copy->src, copy->width);
	copy->src = (const char *)(op + 1);
	op->u.copy = *copy;
	sg_queue_end(s, op, false);
}

static bool pageable(uint64_t addr, size_t n)
{
	return !sg_in_heap(addr) && !sg_host_range(addr, n);
}

/*
 * A linear copy. As in CUDA, an asynchronous one from pageable memory has read it when the call returns (large ones
 * wait for what is queued), and one to pageable memory is synchronous.
 */
static CUresult linear(uint64_t dst, bool dst_device, uint64_t src, bool src_device, size_t n, CUstream stream,
		       bool async, bool ptds)
{
	struct sg_copy2d copy = { .dst = (char *)dst, .src = (const char *)src, .dst_pitch = n, .src_pitch = n,
				  .width = n, .height = 1, .depth = 1 };
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (unlikely(e))
		return e;
	if (!side_ok(dst, n, dst_device, true) || !side_ok(src, n, src_device, false))
		return CUDA_ERROR_INVALID_VALUE;
	if (!n)
		return CUDA_SUCCESS;
	/* In a graph pageable memory is read and written when the graph runs. */
	if (async && !sg_capturing(s) && pageable(dst, n))
		async = false;
	if (async && !sg_capturing(s) && pageable(src, n)) {
		if (n <= STAGED_BYTES) {
			queue_staged(s, &copy);
			return CUDA_SUCCESS;
		}
		async = false;
	}
	return queue_copy(s, &copy, async);
}

BOTH_DS(cuMemcpy, (CUdeviceptr dst, CUdeviceptr src, size_t n), (dst, src, n, ptds))
{
	return linear(dst, false, src, false, n, NULL, false, ptds);
}

BOTH_DS(cuMemcpyHtoD_v2, (CUdeviceptr dst, const void *src, size_t n), (dst, src, n, ptds))
{
	return linear(dst, true, (uint64_t)src, false, n, NULL, false, ptds);
}

BOTH_DS(cuMemcpyDtoH_v2, (void *dst, CUdeviceptr src, size_t n), (dst, src, n, ptds))
{
	return linear((uint64_t)dst, false, src, true, n, NULL, false, ptds);
}

/* Between device addresses cuMemcpyDtoD does not wait on the host's side. */
BOTH_DS(cuMemcpyDtoD_v2, (CUdeviceptr dst, CUdeviceptr src, size_t n), (dst, src, n, ptds))
{
	return linear(dst, true, src, true, n, NULL, true, ptds);
}

BOTH(cuMemcpyAsync, (CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream), (dst, src, n, stream, ptds))
{
	return linear(dst, false, src, false, n, stream, true, ptds);
}

BOTH(cuMemcpyHtoDAsync_v2, (CUdeviceptr dst, const void *src, size_t n, CUstream stream), (dst, src, n, stream, ptds))
{
	return linear(dst, true, (uint64_t)src, false, n, stream, true, ptds);
}

BOTH(cuMemcpyDtoHAsync_v2, (void *dst, CUdeviceptr src, size_t n, CUstream stream), (dst, src, n, stream, ptds))
{
	return linear((uint64_t)dst, false, src, true, n, stream, true, ptds);
}

BOTH(cuMemcpyDtoDAsync_v2, (CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream), (dst, src, n, stream, ptds))
{
	return linear(dst, true, src, true, n, stream, true, ptds);
}

/* Each is NULL for the current one. */
bool sg_peers(CUcontext dst, CUcontext src)
{
	return (!dst || sg_object_check(&sg_ctx_table, dst)) && (!src || sg_object_check(&sg_ctx_table, src));
}

BOTH_DS(cuMemcpyPeer, (CUdeviceptr dst, CUcontext dst_ctx, CUdeviceptr src, CUcontext src_ctx, size_t n),
	(dst, dst_ctx, src, src_ctx, n, ptds))
{
	if (!sg_peers(dst_ctx, src_ctx))
		return CUDA_ERROR_INVALID_CONTEXT;
	return linear(dst, true, src, true, n, NULL, true, ptds);
}

BOTH(cuMemcpyPeerAsync,
     (CUdeviceptr dst, CUcontext dst_ctx, CUdeviceptr src, CUcontext src_ctx, size_t n, CUstream stream),
     (dst, dst_ctx, src, src_ctx, n, stream, ptds))
{
	if (!sg_peers(dst_ctx, src_ctx))
		return CUDA_ERROR_INVALID_CONTEXT;
	return linear(dst, true, src, true, n, stream, true, ptds);
}

/* --- 2D and 3D ----------------------------------------------------------------------------------------------------- */

/* One side of a copy, as CUDA_MEMCPY3D describes it; a 2D copy is one with depth 1. */
struct side {
	CUmemorytype type;
	uint64_t address;
	CUarray array;
	size_t x, y, z, pitch, rows;
	bool device;
};

/* A box in an array: its memory lies in rows as any other, but its borders are the array's. */
static CUresult array_start(struct side *d, size_t width, size_t height, size_t depth, uint64_t *start, size_t *slice)
{
	struct sg_array *a = sg_array_check(d->array);
	size_t rows, slices;

	if (!a)
		return CUDA_ERROR_INVALID_HANDLE;
	rows = a->desc.Height ? a->desc.Height : 1;
	slices = a->desc.Depth ? a->desc.Depth : 1;
	if (d->x % a->element || width % a->element || d->x > a->pitch || width > a->pitch - d->x || d->y > rows ||
	    height > rows - d->y || d->z > slices || depth > slices - d->z)
		return CUDA_ERROR_INVALID_VALUE;
	d->pitch = a->pitch;
	*slice = a->slice;
	*start = a->base + d->z * a->slice + d->y * a->pitch + d->x;
	return CUDA_SUCCESS;
}

/* @return 0 and the address of the first byte, or the error. */
static CUresult side_start(struct side *d, size_t width, size_t height, size_t depth, bool write, uint64_t *start,
			   size_t *slice)
{
	size_t len, offset;

	switch (d->type) {
	case CU_MEMORYTYPE_HOST:
	case CU_MEMORYTYPE_UNIFIED:
		break;
	case CU_MEMORYTYPE_DEVICE:
		d->device = true;
		break;
	case CU_MEMORYTYPE_ARRAY:
		return array_start(d, width, height, depth, start, slice);
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (!d->pitch)
		d->pitch = d->x + width;
	if (!d->rows)
		d->rows = d->y + height;
	if (d->pitch > SG_MAX_PITCH || d->x > d->pitch || width > d->pitch - d->x || d->y > SG_HEAP_SIZE ||
	    d->rows > SG_HEAP_SIZE || (depth > 1 && height > d->rows - d->y))
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_mul_overflow(d->pitch, d->rows, slice) ||
	    __builtin_mul_overflow(*slice, d->z, &offset) ||
	    __builtin_add_overflow(offset, d->y * d->pitch + d->x, &offset) ||
	    __builtin_mul_overflow(*slice, depth - 1, &len) ||
	    __builtin_add_overflow(len, span(d->pitch, width, height), &len) ||
	    __builtin_add_overflow(d->address, offset, start))
		return CUDA_ERROR_INVALID_VALUE;
	return side_ok(*start, len, d->device, write) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static uint64_t side_address(CUmemorytype type, const void *host, CUdeviceptr device)
{
	return type == CU_MEMORYTYPE_HOST ? (uint64_t)host : device;
}

static CUresult box(struct side *dst, struct side *src, size_t width, size_t height, size_t depth, CUstream stream,
		    bool async, bool ptds)
{
	struct sg_copy2d copy = { .width = width, .height = height, .depth = depth };
	uint64_t from, to;
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (!width || !height || !depth)
		return CUDA_SUCCESS;
	if (width > SG_MAX_PITCH || height > SG_HEAP_SIZE || depth > SG_HEAP_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	e = side_start(dst, width, height, depth, true, &to, &copy.dst_slice);
	if (!e)
		e = side_start(src, width, height, depth, false, &from, &copy.src_slice);
	if (e)
		return e;
	copy.dst = (char *)to;
	copy.src = (const char *)from;
	copy.dst_pitch = dst->pitch;
	copy.src_pitch = src->pitch;
	/* Device to device is asynchronous even where the call is not. */
	if (!async)
		async = sg_in_heap(to) && sg_in_heap(from);
	else if (!sg_capturing(s) && (pageable(to, 1) || pageable(from, 1)))
		async = false;
	return queue_copy(s, &copy, async);
}

static CUresult copy2d(const CUDA_MEMCPY2D *p, CUstream stream, bool async, bool ptds)
{
	struct side dst, src;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	dst = (struct side){ .type = p->dstMemoryType, .x = p->dstXInBytes, .y = p->dstY, .pitch = p->dstPitch, .array = p->dstArray,
			     .address = side_address(p->dstMemoryType, p->dstHost, p->dstDevice) };
	src = (struct side){ .type = p->srcMemoryType, .x = p->srcXInBytes, .y = p->srcY, .pitch = p->srcPitch, .array = p->srcArray,
			     .address = side_address(p->srcMemoryType, p->srcHost, p->srcDevice) };
	return box(&dst, &src, p->WidthInBytes, p->Height, 1, stream, async, ptds);
}

BOTH_DS(cuMemcpy2D_v2, (const CUDA_MEMCPY2D *p), (p, ptds))
{
	return copy2d(p, NULL, false, ptds);
}

BOTH_DS(cuMemcpy2DUnaligned_v2, (const CUDA_MEMCPY2D *p), (p, ptds))
{
	return copy2d(p, NULL, false, ptds);
}

BOTH(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *p, CUstream stream), (p, stream, ptds))
{
	return copy2d(p, stream, true, ptds);
}

static CUresult copy3d(const CUDA_MEMCPY3D *p, CUstream stream, bool async, bool ptds)
{
	struct side dst, src;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->srcLOD || p->dstLOD)
		return CUDA_ERROR_INVALID_VALUE;
	dst = (struct side){ .type = p->dstMemoryType, .x = p->dstXInBytes, .y = p->dstY, .z = p->dstZ,
			     .pitch = p->dstPitch, .array = p->dstArray, .rows = p->dstHeight,
			     .address = side_address(p->dstMemoryType, p->dstHost, p->dstDevice) };
	src = (struct side){ .type = p->srcMemoryType, .x = p->srcXInBytes, .y = p->srcY, .z = p->srcZ,
			     .pitch = p->srcPitch, .array = p->srcArray, .rows = p->srcHeight,
			     .address = side_address(p->srcMemoryType, p->srcHost, p->srcDevice) };
	return box(&dst, &src, p->WidthInBytes, p->Height, p->Depth, stream, async, ptds);
}

BOTH_DS(cuMemcpy3D_v2, (const CUDA_MEMCPY3D *p), (p, ptds))
{
	return copy3d(p, NULL, false, ptds);
}

BOTH(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *p, CUstream stream), (p, stream, ptds))
{
	return copy3d(p, stream, true, ptds);
}

/* --- arrays of one dimension, which are addressed by byte ---------------------------------------------------------- */

static struct side in_array(CUarray array, size_t offset)
{
	return (struct side){ .type = CU_MEMORYTYPE_ARRAY, .array = array, .x = offset };
}

static struct side in_memory(CUmemorytype type, uint64_t address, size_t n)
{
	return (struct side){ .type = type, .address = address, .pitch = n };
}

static CUresult line(struct side dst, struct side src, size_t n, CUstream stream, bool async, bool ptds)
{
	return box(&dst, &src, n, 1, 1, stream, async, ptds);
}

BOTH_DS(cuMemcpyDtoA_v2, (CUarray dst, size_t at, CUdeviceptr src, size_t n), (dst, at, src, n, ptds))
{
	return line(in_array(dst, at), in_memory(CU_MEMORYTYPE_DEVICE, src, n), n, NULL, false, ptds);
}

BOTH_DS(cuMemcpyAtoD_v2, (CUdeviceptr dst, CUarray src, size_t at, size_t n), (dst, src, at, n, ptds))
{
	return line(in_memory(CU_MEMORYTYPE_DEVICE, dst, n), in_array(src, at), n, NULL, false, ptds);
}

BOTH_DS(cuMemcpyHtoA_v2, (CUarray dst, size_t at, const void *src, size_t n), (dst, at, src, n, ptds))
{
	return line(in_array(dst, at), in_memory(CU_MEMORYTYPE_HOST, (uint64_t)src, n), n, NULL, false, ptds);
}

BOTH_DS(cuMemcpyAtoH_v2, (void *dst, CUarray src, size_t at, size_t n), (dst, src, at, n, ptds))
{
	return line(in_memory(CU_MEMORYTYPE_HOST, (uint64_t)dst, n), in_array(src, at), n, NULL, false, ptds);
}

BOTH_DS(cuMemcpyAtoA_v2, (CUarray dst, size_t to, CUarray src, size_t from, size_t n), (dst, to, src, from, n, ptds))
{
	return line(in_array(dst, to), in_array(src, from), n, NULL, false, ptds);
}

BOTH(cuMemcpyHtoAAsync_v2, (CUarray dst, size_t at, const void *src, size_t n, CUstream stream),
     (dst, at, src, n, stream, ptds))
{
	return line(in_array(dst, at), in_memory(CU_MEMORYTYPE_HOST, (uint64_t)src, n), n, stream, true, ptds);
}

BOTH(cuMemcpyAtoHAsync_v2, (void *dst, CUarray src, size_t at, size_t n, CUstream stream),
     (dst, src, at, n, stream, ptds))
{
	return line(in_memory(CU_MEMORYTYPE_HOST, (uint64_t)dst, n), in_array(src, at), n, stream, true, ptds);
}
