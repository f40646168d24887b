// SPDX-License-Identifier: Apache-2.0
/* Calls that are several others in one. */
#include "array.h"
#include "both.h"
#include "copy_attributes.h"
#include "graph.h"

static inline CUstream of(CUstream stream, bool ptds)
{
	return !stream && ptds ? CU_STREAM_PER_THREAD : stream;
}

BOTH(cuMemcpyBatchAsync_v2,
     (CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count, CUmemcpyAttributes *attrs, size_t *indices,
      size_t n, CUstream stream),
     (dsts, srcs, sizes, count, attrs, indices, n, stream, ptds))
{
	CUresult e = sg_devices ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
	bool read = false;

	if (!e && (!dsts || !srcs || !sizes || !count || !copy_attributes_ok(attrs, indices, n, count)))
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0, k = 0; !e && i < count; i++) {
		if (k + 1 < n && indices[k + 1] == i)
			k++;
		read = read || attrs[k].srcAccessOrder == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
		e = cuMemcpyAsync(dsts[i], srcs[i], sizes[i], of(stream, ptds));
	}
	return !e && read ? cuStreamSynchronize(of(stream, ptds)) : e;
}

BOTH(cuMemcpyBatchAsync,
     (CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count, CUmemcpyAttributes *attrs, size_t *indices,
      size_t n, size_t *failed, CUstream stream),
     (dsts, srcs, sizes, count, attrs, indices, n, failed, stream, ptds))
{
	if (failed)
		*failed = SIZE_MAX;
	return cuMemcpyBatchAsync_v2_do(dsts, srcs, sizes, count, attrs, indices, n, stream, ptds);
}

static CUDA_MEMCPY3D plain(const CUDA_MEMCPY3D_PEER *p)
{
	return (CUDA_MEMCPY3D){
		.srcXInBytes = p->srcXInBytes, .srcY = p->srcY, .srcZ = p->srcZ, .srcLOD = p->srcLOD,
		.srcMemoryType = p->srcMemoryType, .srcHost = p->srcHost, .srcDevice = p->srcDevice,
		.srcArray = p->srcArray, .srcPitch = p->srcPitch, .srcHeight = p->srcHeight,
		.dstXInBytes = p->dstXInBytes, .dstY = p->dstY, .dstZ = p->dstZ, .dstLOD = p->dstLOD,
		.dstMemoryType = p->dstMemoryType, .dstHost = p->dstHost, .dstDevice = p->dstDevice,
		.dstArray = p->dstArray, .dstPitch = p->dstPitch, .dstHeight = p->dstHeight,
		.WidthInBytes = p->WidthInBytes, .Height = p->Height, .Depth = p->Depth,
	};
}

BOTH_DS(cuMemcpy3DPeer, (const CUDA_MEMCPY3D_PEER *p), (p, ptds))
{
	CUDA_MEMCPY3D c;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sg_peers(p->dstContext, p->srcContext))
		return CUDA_ERROR_INVALID_CONTEXT;
	c = plain(p);
	return ptds ? cuMemcpy3D_v2_ptds(&c) : cuMemcpy3D_v2(&c);
}

BOTH(cuMemcpy3DPeerAsync, (const CUDA_MEMCPY3D_PEER *p, CUstream stream), (p, stream, ptds))
{
	CUDA_MEMCPY3D c;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sg_peers(p->dstContext, p->srcContext))
		return CUDA_ERROR_INVALID_CONTEXT;
	c = plain(p);
	return cuMemcpy3DAsync_v2(&c, of(stream, ptds));
}

/* --- 3D: everything counts in elements, which are bytes where no array says otherwise ---------------------------------- */

static CUresult operation(const CUDA_MEMCPY3D_BATCH_OP *o, CUDA_MEMCPY3D *c)
{
	const CUmemcpy3DOperand *side[2] = { &o->src, &o->dst };
	struct sg_array *array[2];
	size_t n = 1;

	for (int i = 0; i < 2; i++) {
		bool is_array = side[i]->type == CU_MEMCPY_OPERAND_TYPE_ARRAY;

		array[i] = is_array ? sg_array_check(side[i]->op.array.array) : NULL;
		if (is_array && !array[i])
			return CUDA_ERROR_INVALID_HANDLE;
		if (array[i])
			n = array[i]->element;
	}
	if ((array[0] && array[1] && array[0]->element != array[1]->element) || !o->extent.width || !o->extent.height ||
	    !o->extent.depth || !copy_order_ok(o->srcAccessOrder, o->flags))
		return CUDA_ERROR_INVALID_VALUE;
	*c = (CUDA_MEMCPY3D){ .srcMemoryType = array[0] ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_UNIFIED,
			      .dstMemoryType = array[1] ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_UNIFIED,
			      .WidthInBytes = o->extent.width * n, .Height = o->extent.height, .Depth = o->extent.depth };
	if (array[0]) {
		c->srcArray = (CUarray)array[0];
		c->srcXInBytes = o->src.op.array.offset.x * n;
		c->srcY = o->src.op.array.offset.y;
		c->srcZ = o->src.op.array.offset.z;
	} else {
		c->srcDevice = o->src.op.ptr.ptr;
		c->srcPitch = o->src.op.ptr.rowLength * n;
		c->srcHeight = o->src.op.ptr.layerHeight;
	}
	if (array[1]) {
		c->dstArray = (CUarray)array[1];
		c->dstXInBytes = o->dst.op.array.offset.x * n;
		c->dstY = o->dst.op.array.offset.y;
		c->dstZ = o->dst.op.array.offset.z;
	} else {
		c->dstDevice = o->dst.op.ptr.ptr;
		c->dstPitch = o->dst.op.ptr.rowLength * n;
		c->dstHeight = o->dst.op.ptr.layerHeight;
	}
	return CUDA_SUCCESS;
}

static CUresult batch_3d(size_t n, const CUDA_MEMCPY3D_BATCH_OP *ops, size_t *failed, unsigned long long flags, CUstream stream)
{
	CUresult e = sg_devices ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
	bool read = false;
	CUDA_MEMCPY3D c;

	if (failed)
		*failed = SIZE_MAX;
	if (!e && (!n || !ops || flags))
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; !e && i < n; i++) {
		e = operation(&ops[i], &c);
		if (!e)
			e = cuMemcpy3DAsync_v2(&c, stream);
		if (e && failed)
			*failed = i;
		read = read || ops[i].srcAccessOrder == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
	}
	return !e && read ? cuStreamSynchronize(stream) : e;
}

BOTH(cuMemcpy3DBatchAsync_v2, (size_t n, CUDA_MEMCPY3D_BATCH_OP *ops, unsigned long long flags, CUstream stream),
     (n, ops, flags, stream, ptds))
{
	return batch_3d(n, ops, NULL, flags, of(stream, ptds));
}

BOTH(cuMemcpy3DBatchAsync,
     (size_t n, CUDA_MEMCPY3D_BATCH_OP *ops, size_t *failed, unsigned long long flags, CUstream stream),
     (n, ops, failed, flags, stream, ptds))
{
	return batch_3d(n, ops, failed, flags, of(stream, ptds));
}

/* Captured, they are one node. */
static CUresult capture_batch(struct sg_stream *s, unsigned int count, CUstreamBatchMemOpParams *ops)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP };
	struct sg_node *n = sg_node_new(p.type);
	CUresult e;

	if (!n)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p.memOp.ctx = (CUcontext)s->ctx;
	p.memOp.count = count;
	p.memOp.paramArray = ops;
	e = sg_node_set(n, &p, NULL);
	if (e) {
		sg_node_free(n);
		return e;
	}
	return sg_capture_node(s, n);
}

BOTH(cuStreamBatchMemOp_v2, (CUstream stream, unsigned int count, CUstreamBatchMemOpParams *p, unsigned int flags),
     (stream, count, p, flags, ptds))
{
	CUstream s = of(stream, ptds);
	struct sg_stream *to;
	CUresult e = sg_devices ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;

	if (!e && (!p || !count || count > 256 || flags))
		e = CUDA_ERROR_INVALID_VALUE;
	if (!e)
		e = sg_stream_of(stream, ptds, &to);
	if (!e && count > 1 && sg_capturing(to))
		return capture_batch(to, count, p);
	for (; !e && count; count--, p++) {
		switch (p->operation) {
		case CU_STREAM_MEM_OP_WAIT_VALUE_32:
			e = cuStreamWaitValue32_v2(s, p->waitValue.address, p->waitValue.value, p->waitValue.flags);
			break;
		case CU_STREAM_MEM_OP_WAIT_VALUE_64:
			e = cuStreamWaitValue64_v2(s, p->waitValue.address, p->waitValue.value64, p->waitValue.flags);
			break;
		case CU_STREAM_MEM_OP_WRITE_VALUE_32:
			e = cuStreamWriteValue32_v2(s, p->writeValue.address, p->writeValue.value, p->writeValue.flags);
			break;
		case CU_STREAM_MEM_OP_WRITE_VALUE_64:
			e = cuStreamWriteValue64_v2(s, p->writeValue.address, p->writeValue.value64, p->writeValue.flags);
			break;
		case CU_STREAM_MEM_OP_BARRIER:	/* a stream's operations are in order here */
			break;
		default:
			e = p->operation == CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
		}
	}
	return e;
}

BOTH(cuStreamBatchMemOp, (CUstream stream, unsigned int count, CUstreamBatchMemOpParams *p, unsigned int flags),
     (stream, count, p, flags, ptds))
{
	return cuStreamBatchMemOp_v2_do(stream, count, p, flags, ptds);
}

#define FIRST_FORM(name, type)										\
BOTH(name, (CUstream stream, CUdeviceptr addr, type value, unsigned int flags), (stream, addr, value, flags, ptds)) \
{													\
	return name##_v2(of(stream, ptds), addr, value, flags);						\
}

FIRST_FORM(cuStreamWaitValue32, cuuint32_t)
FIRST_FORM(cuStreamWaitValue64, cuuint64_t)
FIRST_FORM(cuStreamWriteValue32, cuuint32_t)
FIRST_FORM(cuStreamWriteValue64, cuuint64_t)
