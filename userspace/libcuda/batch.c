// SPDX-License-Identifier: Apache-2.0
/* Calls that are several others in one: each of them is posted, so that one message for all would save nothing. */
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "capture.h"
#include "copy.h"
#include "copy_attributes.h"
#include "memory.h"
#include "shim_gen.h"

static CUresult check(CUstream stream, const void *list, size_t count)
{
	CUresult r = session_check();
	uint64_t wire;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(stream, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	return list && count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* --- sources that have been read when the call returns (CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL) --- */

#define READ_BYTES	(1u << 20)	/* of host memory, read at a time */

/* A device's memory has been read when the stream has come so far. While it captures, this says what that means. */
static CUresult read_by_now(CUstream stream)
{
	uint64_t wire;

	return stream_handle(stream, &wire) ? copy_barrier(wire) : CUDA_ERROR_INVALID_HANDLE;
}

static bool captures_now(CUstream stream)
{
	uint64_t wire;

	return stream_handle(stream, &wire) && capture_active(wire);
}

/* Host memory that a copy would read when its turn has come. What CUDA knows nothing of is read by now as it is. */
static bool read_later(CUdeviceptr src)
{
	struct range range;

	return !copy_is_device(src) && range_find(src, &range);
}

/* By way of memory that CUDA knows nothing of. Nothing that comes before it in the stream is waited for. */
static CUresult copy_read(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream)
{
	size_t most = n < READ_BYTES ? n : READ_BYTES;
	CUresult r = CUDA_SUCCESS;
	char *own = malloc(most);

	if (!own)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t at = 0, part; at < n && r == CUDA_SUCCESS; at += part) {
		uint64_t from = src + at;

		part = vmm_home(&from, n - at < most ? n - at : most);
		if (part)
			memcpy(own, (const char *)(uintptr_t)from, part);
		r = part ? cuMemcpyAsync(dst + at, (uintptr_t)own, part, stream) : CUDA_ERROR_INVALID_VALUE;
	}
	free(own);
	return r;
}

static CUresult copy_read_3d(const CUDA_MEMCPY3D *c, CUstream stream)
{
	size_t most = c->WidthInBytes < READ_BYTES ? READ_BYTES / c->WidthInBytes : 1;
	CUDA_MEMCPY3D part = *c;
	CUresult r = CUDA_SUCCESS;
	char *own;

	most = most < c->Height ? most : c->Height;
	own = malloc(most * c->WidthInBytes);
	if (!own)
		return CUDA_ERROR_OUT_OF_MEMORY;
	part.srcDevice = (uintptr_t)own;
	part.srcPitch = c->WidthInBytes;
	part.Depth = 1;
	for (size_t z = 0; z < c->Depth; z++) {
		for (size_t y = 0; y < c->Height && r == CUDA_SUCCESS; y += part.Height) {
			const char *from = (const char *)(uintptr_t)c->srcDevice + (z * c->srcHeight + y) * c->srcPitch;

			part.Height = part.srcHeight = c->Height - y < most ? c->Height - y : most;
			for (size_t i = 0; i < part.Height; i++)
				memcpy(own + i * c->WidthInBytes, from + i * c->srcPitch, c->WidthInBytes);
			part.dstY = c->dstY + y;
			part.dstZ = c->dstZ + z;
			r = copy_3d(&part, stream, true);
		}
	}
	free(own);
	return r;
}

/* --- copies by the batch --- */

/* *@unread: a source will be read by the device when its turn has come. */
static CUresult copy_one(CUdeviceptr dst, CUdeviceptr src, size_t n, CUmemcpySrcAccessOrder order, CUstream stream,
			 bool *unread)
{
	if (order != CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL || !n)
		return cuMemcpyAsync(dst, src, n, stream);
	/* A graph reads its sources whenever it is launched. */
	if (captures_now(stream))
		return read_by_now(stream);
	if (read_later(src))
		return copy_read(dst, src, n, stream);
	*unread |= copy_is_device(src);
	return cuMemcpyAsync(dst, src, n, stream);
}

static CUresult batch(const CUdeviceptr *dsts, const CUdeviceptr *srcs, const size_t *sizes, size_t count,
		      const CUmemcpyAttributes *attrs, const size_t *indices, size_t n, size_t *failed, CUstream stream)
{
	CUresult r = check(stream, dsts, count);
	bool unread = false;

	if (failed)
		*failed = SIZE_MAX;
	/* Hints say where things are, which the range map knows. */
	if (r == CUDA_SUCCESS && (!srcs || !sizes || !copy_attributes_ok(attrs, indices, n, count)))
		r = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0, k = 0; i < count && r == CUDA_SUCCESS; i++) {
		if (k + 1 < n && indices[k + 1] == i)
			k++;
		r = copy_one(dsts[i], srcs[i], sizes[i], attrs[k].srcAccessOrder, stream, &unread);
		if (r != CUDA_SUCCESS && failed)
			*failed = i;
	}
	return r == CUDA_SUCCESS && unread ? read_by_now(stream) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyBatchAsync_v2(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
						   CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs,
						   CUstream hStream)
{
	return batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, NULL, hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyBatchAsync(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,
						CUmemcpyAttributes *attrs, size_t *attrsIdxs, size_t numAttrs,
						size_t *failIdx, CUstream hStream)
{
	return batch(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, failIdx, hStream);
}

static CUresult peer(const CUDA_MEMCPY3D_PEER *p, CUDA_MEMCPY3D *c)
{
	CUresult r = session_check();

	if (r == CUDA_SUCCESS)
		r = p ? copy_peers(p->dstContext, p->srcContext) : CUDA_ERROR_INVALID_VALUE;
	if (r != CUDA_SUCCESS)
		return r;
	*c = (CUDA_MEMCPY3D){
		.srcXInBytes = p->srcXInBytes, .srcY = p->srcY, .srcZ = p->srcZ, .srcLOD = p->srcLOD,
		.srcMemoryType = p->srcMemoryType, .srcHost = p->srcHost, .srcDevice = p->srcDevice,
		.srcArray = p->srcArray, .srcPitch = p->srcPitch, .srcHeight = p->srcHeight,
		.dstXInBytes = p->dstXInBytes, .dstY = p->dstY, .dstZ = p->dstZ, .dstLOD = p->dstLOD,
		.dstMemoryType = p->dstMemoryType, .dstHost = p->dstHost, .dstDevice = p->dstDevice,
		.dstArray = p->dstArray, .dstPitch = p->dstPitch, .dstHeight = p->dstHeight,
		.WidthInBytes = p->WidthInBytes, .Height = p->Height, .Depth = p->Depth,
	};
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER *pCopy)
{
	CUDA_MEMCPY3D c;
	CUresult r = peer(pCopy, &c);

	return r == CUDA_SUCCESS ? cuMemcpy3D_v2(&c) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *pCopy, CUstream hStream)
{
	CUDA_MEMCPY3D c;
	CUresult r = peer(pCopy, &c);

	return r == CUDA_SUCCESS ? cuMemcpy3DAsync_v2(&c, hStream) : r;
}

/* --- 3D copies by the batch: everything counts in elements, which are bytes where no array says otherwise --- */

static size_t element_of(const CUmemcpy3DOperand *o)
{
	return o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY ? array_element(o->op.array.array) : 0;
}

/* Of memory, rows and layers are as long as the copy is wide and high, or longer. */
static bool operand_ok(const CUmemcpy3DOperand *o, const CUextent3D *e)
{
	if (o->type != CU_MEMCPY_OPERAND_TYPE_POINTER)
		return o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY;
	return (!o->op.ptr.rowLength || o->op.ptr.rowLength >= e->width) &&
	       (!o->op.ptr.layerHeight || o->op.ptr.layerHeight >= e->height);
}

static CUresult operation(const CUDA_MEMCPY3D_BATCH_OP *o, CUDA_MEMCPY3D *c)
{
	size_t dst = element_of(&o->dst), src = element_of(&o->src), n = dst ? dst : src ? src : 1;

	if ((o->dst.type == CU_MEMCPY_OPERAND_TYPE_ARRAY && !dst) || (o->src.type == CU_MEMCPY_OPERAND_TYPE_ARRAY && !src))
		return CUDA_ERROR_INVALID_HANDLE;
	if ((dst && src && dst != src) || !o->extent.width || !o->extent.height || !o->extent.depth ||
	    !copy_order_ok(o->srcAccessOrder, o->flags) || !operand_ok(&o->src, &o->extent) ||
	    !operand_ok(&o->dst, &o->extent))
		return CUDA_ERROR_INVALID_VALUE;
	*c = (CUDA_MEMCPY3D){ .WidthInBytes = o->extent.width * n, .Height = o->extent.height, .Depth = o->extent.depth };
	if (src) {
		c->srcMemoryType = CU_MEMORYTYPE_ARRAY;
		c->srcArray = o->src.op.array.array;
		c->srcXInBytes = o->src.op.array.offset.x * n;
		c->srcY = o->src.op.array.offset.y;
		c->srcZ = o->src.op.array.offset.z;
	} else {
		c->srcMemoryType = CU_MEMORYTYPE_UNIFIED;
		c->srcDevice = o->src.op.ptr.ptr;
		c->srcPitch = o->src.op.ptr.rowLength ? o->src.op.ptr.rowLength * n : c->WidthInBytes;
		c->srcHeight = o->src.op.ptr.layerHeight ? o->src.op.ptr.layerHeight : c->Height;
	}
	if (dst) {
		c->dstMemoryType = CU_MEMORYTYPE_ARRAY;
		c->dstArray = o->dst.op.array.array;
		c->dstXInBytes = o->dst.op.array.offset.x * n;
		c->dstY = o->dst.op.array.offset.y;
		c->dstZ = o->dst.op.array.offset.z;
	} else {
		c->dstMemoryType = CU_MEMORYTYPE_UNIFIED;
		c->dstDevice = o->dst.op.ptr.ptr;
		c->dstPitch = o->dst.op.ptr.rowLength ? o->dst.op.ptr.rowLength * n : c->WidthInBytes;
		c->dstHeight = o->dst.op.ptr.layerHeight ? o->dst.op.ptr.layerHeight : c->Height;
	}
	return CUDA_SUCCESS;
}

static CUresult copy_box(const CUDA_MEMCPY3D *c, CUmemcpySrcAccessOrder order, CUstream stream, bool *unread)
{
	bool memory = c->srcMemoryType != CU_MEMORYTYPE_ARRAY;

	if (order != CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL)
		return copy_3d(c, stream, true);
	if (captures_now(stream))
		return read_by_now(stream);
	if (memory && read_later(c->srcDevice))
		return copy_read_3d(c, stream);
	*unread |= !memory || copy_is_device(c->srcDevice);
	return copy_3d(c, stream, true);
}

static CUresult batch_3d(size_t n, const CUDA_MEMCPY3D_BATCH_OP *ops, size_t *failed, unsigned long long flags, CUstream stream)
{
	CUresult r = check(stream, ops, n);
	bool unread = false;
	CUDA_MEMCPY3D c;

	if (failed)
		*failed = SIZE_MAX;
	if (r == CUDA_SUCCESS && flags)
		r = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n && r == CUDA_SUCCESS; i++) {
		r = operation(&ops[i], &c);
		if (r == CUDA_SUCCESS)
			r = copy_box(&c, ops[i].srcAccessOrder, stream, &unread);
		if (r != CUDA_SUCCESS && failed)
			*failed = i;
	}
	return r == CUDA_SUCCESS && unread ? read_by_now(stream) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3DBatchAsync(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, size_t *failIdx,
						  unsigned long long flags, CUstream hStream)
{
	return batch_3d(numOps, opList, failIdx, flags, hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy3DBatchAsync_v2(size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList,
						     unsigned long long flags, CUstream hStream)
{
	return batch_3d(numOps, opList, NULL, flags, hStream);
}

/* --- values in memory --- */

#define WAIT_FLAGS	(CU_STREAM_WAIT_VALUE_NOR | CU_STREAM_WAIT_VALUE_FLUSH)	/* all bits of those below */

static bool is_word(CUdeviceptr addr, size_t bytes)
{
	return addr % bytes == 0 && memory_on_device(addr, bytes);
}

static CUresult check_value(CUstream stream, CUdeviceptr addr, size_t bytes, unsigned int flags, unsigned int known)
{
	CUresult r = check(stream, &stream, 1);

	if (r != CUDA_SUCCESS)
		return r;
	return flags & ~known || !is_word(addr, bytes) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUresult check_operation(const CUstreamBatchMemOpParams *p)
{
	switch (p->operation) {
	case CU_STREAM_MEM_OP_WAIT_VALUE_32:
	case CU_STREAM_MEM_OP_WRITE_VALUE_32:
		return is_word(p->waitValue.address, 4) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_STREAM_MEM_OP_WAIT_VALUE_64:
	case CU_STREAM_MEM_OP_WRITE_VALUE_64:
		return is_word(p->waitValue.address, 8) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_STREAM_MEM_OP_BARRIER:
		return CUDA_SUCCESS;
	case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
		return REFUSE("flushing remote writes", "the GPU says that it can't");
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBatchMemOp_v2(CUstream stream, unsigned int count,
						   CUstreamBatchMemOpParams *paramArray, unsigned int flags)
{
	struct { struct vgpu_batch rq; CUstreamBatchMemOpParams ops[VGPU_BATCH_MAX]; } m;
	CUresult r = check(stream, paramArray, count);

	if (r == CUDA_SUCCESS)
		r = call_begin(&m.rq.call, true);
	if (r != CUDA_SUCCESS)
		return r;
	if (count > VGPU_BATCH_MAX || flags)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count && r == CUDA_SUCCESS; i++)
		r = check_operation(&paramArray[i]);
	if (r != CUDA_SUCCESS)
		return r;
	stream_handle(stream, &m.rq.stream);
	m.rq.count = count;
	m.rq.flags = flags;
	memcpy(m.ops, paramArray, count * sizeof(*paramArray));
	return call_post(VGPU_MSG_cuStreamBatchMemOp_v2, &m, sizeof(m.rq) + count * sizeof(*paramArray));
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBatchMemOp(CUstream stream, unsigned int count,
						CUstreamBatchMemOpParams *paramArray, unsigned int flags)
{
	return cuStreamBatchMemOp_v2(stream, count, paramArray, flags);
}

#define VALUE(what, bits, known)									\
VGPU_EXPORT CUresult CUDAAPI cuStream##what##Value##bits##_v2(CUstream stream, CUdeviceptr addr, cuuint##bits##_t value, \
							      unsigned int flags)			\
{													\
	CUresult r = check_value(stream, addr, bits / 8, flags, known);				\
													\
	return r == CUDA_SUCCESS ? call_cuStream##what##Value##bits##_v2(stream, addr, value, flags) : r; \
}													\
													\
/* The first form differs only in what the driver had to be told before it could be used. */		\
VGPU_EXPORT CUresult CUDAAPI cuStream##what##Value##bits(CUstream stream, CUdeviceptr addr, cuuint##bits##_t value, \
							 unsigned int flags)				\
{													\
	return cuStream##what##Value##bits##_v2(stream, addr, value, flags);				\
}

VALUE(Wait, 32, WAIT_FLAGS)
VALUE(Wait, 64, WAIT_FLAGS)
VALUE(Write, 32, CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER)
VALUE(Write, 64, CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER)
