// SPDX-License-Identifier: Apache-2.0
/* Graphs, as far as they come from capture: made executable, launched, updated. Their nodes are not shown. */
#include "managed.h"
#include "shim.h"
#include "shim_gen.h"

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode,
						   char *logBuffer, size_t bufferSize)
{
	if (phErrorNode)
		*phErrorNode = NULL;
	if (logBuffer && bufferSize)
		logBuffer[0] = '\0';
	return cuGraphInstantiateWithFlags(phGraphExec, hGraph, 0);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode,
						char *logBuffer, size_t bufferSize)
{
	return cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
							  CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
	CUresult r;

	if (!instantiateParams)
		return CUDA_ERROR_INVALID_VALUE;
	r = cuGraphInstantiateWithFlags(phGraphExec, hGraph,
					instantiateParams->flags & ~(cuuint64_t)CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD);
	instantiateParams->hErrNode_out = NULL;
	instantiateParams->result_out = r == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS :
		CUDA_GRAPH_INSTANTIATE_ERROR;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
{
	uint64_t stream;

	if (stream_handle(hStream, &stream))
		managed_before(stream);
	return call_cuGraphLaunch(hGraphExec, hStream);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes)
{
	struct vgpu_graph_nodes rq = { .graph = object_handle(hGraph, VGPU_H_GRAPH) };
	CUresult r = call_begin(&rq.call, false);
	struct vgpu_graph_nodes_reply reply;

	if (r != CUDA_SUCCESS)
		return r;
	if (!rq.graph || !numNodes)
		return CUDA_ERROR_INVALID_VALUE;
	if (nodes)
		return REFUSE("cuGraphGetNodes but for their number", "graphs");
	r = call_reply(VGPU_MSG_cuGraphGetNodes, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r == CUDA_SUCCESS)
		*numNodes = reply.count;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
						  CUgraphExecUpdateResultInfo *resultInfo)
{
	struct vgpu_graph_update rq = { .exec = object_handle(hGraphExec, VGPU_H_GRAPHEXEC),
					.graph = object_handle(hGraph, VGPU_H_GRAPH) };
	struct vgpu_graph_update_reply reply = { .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	CUresult r = call_begin(&rq.call, false);
	struct iovec iov = { &rq, sizeof(rq) };
	size_t len = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (!rq.exec || !rq.graph || !resultInfo)
		return CUDA_ERROR_INVALID_VALUE;
	r = call_replyv(VGPU_MSG_cuGraphExecUpdate_v2, &iov, 1, &reply, sizeof(reply), &len);
	*resultInfo = (CUgraphExecUpdateResultInfo){ .result = (CUgraphExecUpdateResult)reply.result };
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode *hErrorNode_out,
					       CUgraphExecUpdateResult *updateResult_out)
{
	CUgraphExecUpdateResultInfo info = { .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	CUresult r = cuGraphExecUpdate_v2(hGraphExec, hGraph, &info);

	if (hErrorNode_out)
		*hErrorNode_out = NULL;
	if (updateResult_out)
		*updateResult_out = info.result;
	return r;
}
