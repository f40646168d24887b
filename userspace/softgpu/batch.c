// SPDX-License-Identifier: Apache-2.0
/* Calls that are several others in one. */
#include "both.h"
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

	if (!e && (!dsts || !srcs || !sizes || !count || !attrs || !indices || !n || n > count))
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; !e && i < count; i++)
		e = cuMemcpyAsync(dsts[i], srcs[i], sizes[i], of(stream, ptds));
	return e;
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
	if (!sg_object_check(&sg_ctx_table, p->srcContext) || !sg_object_check(&sg_ctx_table, p->dstContext))
		return CUDA_ERROR_INVALID_CONTEXT;
	c = plain(p);
	return cuMemcpy3D_v2(&c);
}

BOTH(cuMemcpy3DPeerAsync, (const CUDA_MEMCPY3D_PEER *p, CUstream stream), (p, stream, ptds))
{
	CUDA_MEMCPY3D c;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sg_object_check(&sg_ctx_table, p->srcContext) || !sg_object_check(&sg_ctx_table, p->dstContext))
		return CUDA_ERROR_INVALID_CONTEXT;
	c = plain(p);
	return cuMemcpy3DAsync_v2(&c, of(stream, ptds));
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
			e = CUDA_ERROR_NOT_SUPPORTED;
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
