// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of boxes: two and three dimensions, arrays. Host rows are packed into staging chunks, or described in place if
 * they are pinned.
 */
#include <string.h>

#include "array.h"
#include "capture.h"
#include "copy.h"
#include "graph.h"
#include "managed.h"
#include "memory.h"
#include "registered.h"
#include "shim_gen.h"
#include "staging.h"

/* One side of the copy; x, y and z of what is no array are folded into its address. */
struct side {
	enum { SIDE_HOST, SIDE_DEVICE, SIDE_ARRAY } kind;
	uint64_t at;		/* an array's handle */
	uint64_t pitch, rows;
	uint64_t x, y, z;
};

struct extent {
	size_t width, height, depth;
};

/* Where it begins, and how many bytes lie between its first and its last. */
static bool fold(struct side *s, const struct extent *e, uint64_t *span)
{
	uint64_t slice, skip, n;

	/* One row needs no pitch, one slice no height. */
	if ((e->height > 1 || e->depth > 1) && (s->pitch < e->width || s->x > s->pitch - e->width))
		return false;
	if (e->depth > 1 && (s->rows < e->height || s->y > s->rows - e->height))
		return false;
	if (__builtin_mul_overflow(s->pitch, s->rows, &slice) || __builtin_mul_overflow(slice, s->z, &skip) ||
	    __builtin_mul_overflow(s->pitch, s->y, &n) || __builtin_add_overflow(skip, n, &skip) ||
	    __builtin_add_overflow(skip, s->x, &skip) || __builtin_add_overflow(s->at, skip, &s->at))
		return false;
	s->x = s->y = s->z = 0;
	return !__builtin_mul_overflow(slice, e->depth - 1, span) && !__builtin_mul_overflow(s->pitch, e->height - 1, &n) &&
	       !__builtin_add_overflow(*span, n, span) && !__builtin_add_overflow(*span, e->width, span);
}

static CUresult side_init(struct side *s, CUmemorytype type, const void *host, CUdeviceptr device, CUarray array,
			  const struct extent *e)
{
	uint64_t span, home;
	size_t element, in_one;

	switch (type) {
	case CU_MEMORYTYPE_HOST:
		s->at = (uintptr_t)host;
		s->kind = SIDE_HOST;
		break;
	case CU_MEMORYTYPE_DEVICE:
		s->at = device;
		s->kind = SIDE_DEVICE;
		break;
	case CU_MEMORYTYPE_UNIFIED:
		s->at = device;
		s->kind = copy_is_device(device) ? SIDE_DEVICE : SIDE_HOST;
		break;
	case CU_MEMORYTYPE_ARRAY:
		element = array_element(array);
		if (!element)
			return CUDA_ERROR_INVALID_HANDLE;
		s->kind = SIDE_ARRAY;
		s->at = object_wire(array);
		return s->x % element || e->width % element || !array_holds(array, s->x, s->y, s->z, e->width, e->height, e->depth) ?
			CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (!s->at || !fold(s, e, &span) || (s->kind == SIDE_DEVICE && !memory_on_device(s->at, span)))
		return CUDA_ERROR_INVALID_VALUE;
	home = s->at;
	in_one = vmm_home(&home, span);
	if (!in_one)
		return CUDA_ERROR_INVALID_VALUE;
	if (in_one == span)
		s->at = home;
	return s->kind == SIDE_HOST && copy_is_device(s->at) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static void rows(char *dst, size_t dst_pitch, const char *src, size_t src_pitch, size_t width, size_t height)
{
	for (size_t i = 0; i < height; i++)
		memmove(dst + i * dst_pitch, src + i * src_pitch, width);
}

static char *host_at(const struct side *s, uint64_t x, uint64_t y, uint64_t z)
{
	return (char *)(uintptr_t)(s->at + z * s->rows * s->pitch + y * s->pitch + x);
}

/* The other side's part that begins at (x, y, z) of the box. */
static struct vgpu_box_side part(const struct side *s, uint64_t x, uint64_t y, uint64_t z)
{
	struct vgpu_box_side b = { .pitch = s->pitch, .rows = s->rows };

	if (s->kind == SIDE_ARRAY) {
		b.type = CU_MEMORYTYPE_ARRAY;
		b.at = s->at;
		b.x = s->x + x;
		b.y = s->y + y;
		b.z = s->z + z;
	} else {
		b.type = CU_MEMORYTYPE_DEVICE;
		b.at = s->at + z * s->rows * s->pitch + y * s->pitch + x;
	}
	return b;
}

/* A chunk's worth: so many bytes of so many rows. The chunk is *@slot, taken if there is none, NULL when it was left. */
static CUresult piece(struct vgpu_copy_box *rq, const struct side *dst, const struct side *src, uint64_t x, uint64_t y,
		      uint64_t z, struct slot **slot)
{
	struct vgpu_box_side chunk = { .type = CU_MEMORYTYPE_HOST, .pitch = rq->width, .rows = rq->height };
	CUresult r = CUDA_SUCCESS;

	if (!*slot)
		*slot = staging_get(true, rq->call.ctx, rq->stream, &r);
	if (!*slot)
		return r;
	chunk.at = (*slot)->offset;
	if (src->kind == SIDE_HOST) {
		rows((*slot)->base, rq->width, host_at(src, x, y, z), src->pitch, rq->width, rq->height);
		rq->src = chunk;
		rq->dst = part(dst, x, y, z);
		rq->call.reserved = rq->async ? VGPU_CALL_UNREAD : 0;
		r = staging_submit(*slot, rq->stream, VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq));
		if (r == CUDA_SUCCESS && rq->async) {
			staging_leave(*slot);
			*slot = NULL;
			return r;
		}
		return r == CUDA_SUCCESS ? staging_wait(*slot) : r;
	}
	rq->dst = chunk;
	rq->src = part(src, x, y, z);
	r = staging_submit(*slot, rq->stream, VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq));
	if (r == CUDA_SUCCESS)
		r = staging_wait(*slot);
	if (r == CUDA_SUCCESS)
		rows(host_at(dst, x, y, z), dst->pitch, (*slot)->base, rq->width, rq->width, rq->height);
	return r;
}

static CUresult staged(struct vgpu_copy_box *rq, const struct side *dst, const struct side *src, const struct extent *e)
{
	uint64_t width = e->width < SLOT_SIZE ? e->width : SLOT_SIZE, chunk = SLOT_SIZE / width;
	CUresult r = CUDA_SUCCESS;
	struct slot *slot = NULL;

	rq->depth = 1;
	for (uint64_t z = 0; z < e->depth && r == CUDA_SUCCESS; z++) {
		for (uint64_t y = 0; y < e->height && r == CUDA_SUCCESS; y += rq->height) {
			rq->height = e->height - y < chunk ? e->height - y : chunk;
			for (uint64_t x = 0; x < e->width && r == CUDA_SUCCESS; x += rq->width) {
				rq->width = e->width - x < width ? e->width - x : width;
				r = piece(rq, dst, src, x, y, z, &slot);
			}
		}
	}
	if (slot)
		staging_put(slot);
	thread_self()->touched = NULL;
	if (rq->async)
		return staging_left(r);
	return r == CUDA_SUCCESS ? latched_take(thread_self()) : r;
}

static CUresult between_host(const struct side *dst, const struct side *src, const struct extent *e, uint64_t stream)
{
	CUresult r = copy_barrier(stream);

	for (uint64_t z = 0; z < e->depth && r == CUDA_SUCCESS; z++)
		rows(host_at(dst, 0, 0, z), dst->pitch, host_at(src, 0, 0, z), src->pitch, e->width, e->height);
	return r;
}

/* By a buffer that holds the rows side by side. @return false if there is none */
static bool in_turn(struct vgpu_copy_box *rq, const struct side *host, struct vgpu_box_side *place, const struct extent *e,
		    CUresult *r)
{
	const struct host_rows rows = { host_at(host, 0, 0, 0), host->pitch, host->rows, e->width, e->height, e->depth };
	struct vgpu_box_side packed = { .type = CU_MEMORYTYPE_HOST, .pitch = e->width, .rows = e->height };
	struct buffered *b = registered_buffer(&rows, &packed.at);

	if (!b)
		return false;
	*place = packed;
	if (place == &rq->src) {
		*r = registered_fill(rq->stream, b);
		if (*r == CUDA_SUCCESS)
			*r = registered_filled(rq->stream, b, call_post(VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq)));
	} else {
		*r = registered_land(rq->stream, b, call_post(VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq)));
	}
	return true;
}

/* How many bytes lie between the first and the last. */
static uint64_t span_of(const struct side *s, const struct extent *e)
{
	return (e->depth - 1) * s->rows * s->pitch + (e->height - 1) * s->pitch + e->width;
}

static bool in_arena(const struct side *s, const struct extent *e, struct vgpu_box_side *place)
{
	uint64_t offset;

	if (!memory_arena((void *)(uintptr_t)s->at, span_of(s, e), &offset))
		return false;
	*place = part(s, 0, 0, 0);
	place->type = CU_MEMORYTYPE_UNIFIED;
	place->at = (uintptr_t)idm_arena_base(shim.client) + offset;
	return true;
}

/* In a stream that captures. */
static CUresult captured(const struct side *dst, const struct side *src, const struct extent *e, uint64_t stream)
{
	CUDA_MEMCPY3D box = {
		.srcMemoryType = CU_MEMORYTYPE_UNIFIED, .srcDevice = src->at, .srcPitch = src->pitch,
		.srcHeight = src->rows ? src->rows : e->height, .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
		.dstDevice = dst->at, .dstPitch = dst->pitch, .dstHeight = dst->rows ? dst->rows : e->height,
		.WidthInBytes = e->width, .Height = e->height, .Depth = e->depth,
	};

	if (src->kind == SIDE_ARRAY || dst->kind == SIDE_ARRAY)
		return REFUSE("a copy between pageable memory and an array in a graph", "allocate it with cuMemHostAlloc");
	return pageable_capture(&box, copy_stream(stream));
}

static CUresult transfer(struct vgpu_copy_box *rq, struct side *dst, struct side *src, const struct extent *e)
{
	struct vgpu_box_side *place;
	const struct side *host;
	struct range range;
	uint64_t span;
	CUresult r;

	rq->width = e->width;
	rq->height = e->height;
	rq->depth = e->depth;
	if (dst->kind == SIDE_HOST && src->kind == SIDE_HOST) {
		if (!rq->async || !copy_in_turn(dst->at, src->at, rq->stream))
			return between_host(dst, src, e, rq->stream);
		if (in_arena(dst, e, &rq->dst) && in_arena(src, e, &rq->src))
			return call_post(VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq));
		return capture_active(rq->stream) ? captured(dst, src, e, rq->stream) : between_host(dst, src, e, rq->stream);
	}
	rq->src = part(src, 0, 0, 0);
	rq->dst = part(dst, 0, 0, 0);
	if (dst->kind != SIDE_HOST && src->kind != SIDE_HOST)
		return call_post(VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq));
	host = dst->kind == SIDE_HOST ? dst : src;
	place = dst->kind == SIDE_HOST ? &rq->dst : &rq->src;
	span = span_of(host, e);
	if (memory_arena((void *)(uintptr_t)host->at, span, &place->at)) {
		place->type = CU_MEMORYTYPE_HOST;
		return rq->async ? call_post(VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq)) :
			call_reply(VGPU_MSG_cuMemcpy2D_v2, rq, sizeof(*rq), NULL, 0);
	}
	/* Several mappings of host memory: when what is queued has been done, like memory of the program's own. */
	if (range_find(host->at, &range) && range.kind == RANGE_HOST) {
		if (rq->async && capture_active(rq->stream))
			return REFUSE("a box in several mappings of host memory, in a graph", "copy it row by row");
		r = copy_barrier(rq->stream);
		return r == CUDA_SUCCESS ? staged(rq, dst, src, e) : r;
	}
	if (rq->async && capture_active(rq->stream))
		return captured(dst, src, e, rq->stream);
	if (rq->async && registered_covers((void *)(uintptr_t)host->at, span) &&
	    (host == dst || !registered_now(rq->stream))) {
		if (in_turn(rq, host, place, e, &r))
			return r;
		r = copy_barrier(rq->stream);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return staged(rq, dst, src, e);
}

static CUresult copy_box(const CUDA_MEMCPY3D *c, CUstream s, bool async, bool unaligned)
{
	struct vgpu_copy_box rq = { .async = async, .unaligned = unaligned };
	CUresult r = call_begin(&rq.call, true);
	struct side dst, src;
	struct extent e;

	if (r != CUDA_SUCCESS)
		return r;
	if (!c || c->srcLOD || c->dstLOD)
		return CUDA_ERROR_INVALID_VALUE;
	if (!stream_handle(s, &rq.stream))
		return CUDA_ERROR_INVALID_HANDLE;
	e = (struct extent){ c->WidthInBytes, c->Height, c->Depth };
	if (!e.width || !e.height || !e.depth)
		return CUDA_SUCCESS;
	dst = (struct side){ .pitch = c->dstPitch, .rows = c->dstHeight, .x = c->dstXInBytes, .y = c->dstY, .z = c->dstZ };
	src = (struct side){ .pitch = c->srcPitch, .rows = c->srcHeight, .x = c->srcXInBytes, .y = c->srcY, .z = c->srcZ };
	r = side_init(&dst, c->dstMemoryType, c->dstHost, c->dstDevice, c->dstArray, &e);
	if (r == CUDA_SUCCESS)
		r = side_init(&src, c->srcMemoryType, c->srcHost, c->srcDevice, c->srcArray, &e);
	if (r != CUDA_SUCCESS)
		return r;
	managed_before(rq.stream);
	r = transfer(&rq, &dst, &src, &e);
	if (!async)
		managed_after();
	return r;
}

CUresult copy_3d(const CUDA_MEMCPY3D *c, CUstream stream, bool async)
{
	return copy_box(c, stream, async, false);
}

static CUresult copy_2d(const CUDA_MEMCPY2D *c, CUstream stream, bool async, bool unaligned)
{
	CUDA_MEMCPY3D box;

	if (!c)
		return copy_box(NULL, stream, async, unaligned);
	box = (CUDA_MEMCPY3D){
		.srcXInBytes = c->srcXInBytes, .srcY = c->srcY, .srcMemoryType = c->srcMemoryType, .srcHost = c->srcHost,
		.srcDevice = c->srcDevice, .srcArray = c->srcArray, .srcPitch = c->srcPitch,
		.dstXInBytes = c->dstXInBytes, .dstY = c->dstY, .dstMemoryType = c->dstMemoryType, .dstHost = c->dstHost,
		.dstDevice = c->dstDevice, .dstArray = c->dstArray, .dstPitch = c->dstPitch,
		.WidthInBytes = c->WidthInBytes, .Height = c->Height, .Depth = 1,
	};
	return copy_box(&box, stream, async, unaligned);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy)
{
	return copy_2d(pCopy, NULL, false, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy)
{
	return copy_2d(pCopy, NULL, false, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
	return copy_2d(pCopy, hStream, true, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy)
{
	return copy_3d(pCopy, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
	return copy_3d(pCopy, hStream, true);
}

/* --- arrays of one dimension: so many bytes, from a byte on --- */

static CUresult line(CUDA_MEMCPY3D c, size_t n, CUstream stream, bool async)
{
	c.WidthInBytes = n;
	c.Height = c.Depth = 1;
	c.srcPitch = c.dstPitch = n;
	if (c.srcArray)
		c.srcMemoryType = CU_MEMORYTYPE_ARRAY;
	if (c.dstArray)
		c.dstMemoryType = CU_MEMORYTYPE_ARRAY;
	return copy_box(&c, stream, async, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice, size_t ByteCount)
{
	return line((CUDA_MEMCPY3D){ .dstMemoryType = CU_MEMORYTYPE_ARRAY, .dstArray = dstArray, .dstXInBytes = dstOffset,
				     .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = srcDevice }, ByteCount, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset, size_t ByteCount)
{
	return line((CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = srcArray, .srcXInBytes = srcOffset,
				     .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = dstDevice }, ByteCount, NULL, false);
}

static CUresult to_array(CUarray array, size_t offset, const void *src, size_t n, CUstream stream, bool async)
{
	return line((CUDA_MEMCPY3D){ .dstMemoryType = CU_MEMORYTYPE_ARRAY, .dstArray = array, .dstXInBytes = offset,
				     .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = src }, n, stream, async);
}

static CUresult from_array(void *dst, CUarray array, size_t offset, size_t n, CUstream stream, bool async)
{
	return line((CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = array, .srcXInBytes = offset,
				     .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = dst }, n, stream, async);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount)
{
	return to_array(dstArray, dstOffset, srcHost, ByteCount, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyAtoH_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount)
{
	return from_array(dstHost, srcArray, srcOffset, ByteCount, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void *srcHost,
						  size_t ByteCount, CUstream hStream)
{
	return to_array(dstArray, dstOffset, srcHost, ByteCount, hStream, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyAtoHAsync_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount,
						  CUstream hStream)
{
	return from_array(dstHost, srcArray, srcOffset, ByteCount, hStream, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
					     size_t ByteCount)
{
	return line((CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = srcArray, .srcXInBytes = srcOffset,
				     .dstMemoryType = CU_MEMORYTYPE_ARRAY, .dstArray = dstArray, .dstXInBytes = dstOffset },
		    ByteCount, NULL, false);
}
