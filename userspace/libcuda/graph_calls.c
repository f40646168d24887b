// SPDX-License-Identifier: Apache-2.0
/* The calls for one kind of node each, in terms of the general ones. */
#include <string.h>

#include "graph.h"
#include "shim_gen.h"

static CUresult add(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n, const void *given,
		    CUgraphNodeParams *p)
{
	return cuGraphAddNode_v2(given ? out : NULL, graph, deps, NULL, n, p);
}

/* Parameters whose structure the call names; @given NULL: none. */
static CUresult change(CUgraphNode node, const void *given, CUgraphNodeParams *p)
{
	return cuGraphNodeSetParams(node, given ? p : NULL);
}

static CUresult change_exec(CUgraphExec exec, CUgraphNode node, const void *given, CUgraphNodeParams *p)
{
	return cuGraphExecNodeSetParams(exec, node, given ? p : NULL);
}

static CUresult get(CUgraphNode node, CUgraphNodeType type, const void *out, CUgraphNodeParams *p)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return out ? graph_get(node, type, p) : CUDA_ERROR_INVALID_VALUE;
}

#define PARAMS_OF(which, type_, given)							\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_ };			\
	if (given)									\
		memcpy(&p.which, given, sizeof(*(given)))

/* Add, get, set, set in an executable graph: all structures are the beginning of the newest one's. */
#define NODE_CALLS(add_name, name, exec_name, suffix, which, type_, struct_)						\
VGPU_EXPORT CUresult CUDAAPI add_name##suffix(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,		\
					      const struct_ *given)							\
{															\
	PARAMS_OF(which, type_, given);											\
	return add(out, g, deps, n, given, &p);										\
}															\
VGPU_EXPORT CUresult CUDAAPI name##GetParams##suffix(CUgraphNode node, struct_ *out)					\
{															\
	CUgraphNodeParams p;												\
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_##type_, out, &p);							\
	if (r == CUDA_SUCCESS)												\
		memcpy(out, &p.which, sizeof(*out));									\
	return r;													\
}															\
VGPU_EXPORT CUresult CUDAAPI name##SetParams##suffix(CUgraphNode node, const struct_ *given)				\
{															\
	PARAMS_OF(which, type_, given);											\
	return change(node, given, &p);											\
}															\
VGPU_EXPORT CUresult CUDAAPI exec_name##SetParams##suffix(CUgraphExec exec, CUgraphNode node, const struct_ *given)	\
{															\
	PARAMS_OF(which, type_, given);											\
	return change_exec(exec, node, given, &p);									\
}

NODE_CALLS(cuGraphAddKernelNode, cuGraphKernelNode, cuGraphExecKernelNode, _v2, kernel, KERNEL, CUDA_KERNEL_NODE_PARAMS_v2)
NODE_CALLS(cuGraphAddHostNode, cuGraphHostNode, cuGraphExecHostNode, , host, HOST, CUDA_HOST_NODE_PARAMS)
NODE_CALLS(cuGraphAddBatchMemOpNode, cuGraphBatchMemOpNode, cuGraphExecBatchMemOpNode, , memOp, BATCH_MEM_OP,
	   CUDA_BATCH_MEM_OP_NODE_PARAMS)

/* The first form of kernel nodes knows functions only. */
VGPU_EXPORT CUresult CUDAAPI cuGraphAddKernelNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
						  const CUDA_KERNEL_NODE_PARAMS_v1 *given)
{
	PARAMS_OF(kernel, KERNEL, given);
	return add(out, g, deps, n, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1 *out)
{
	CUgraphNodeParams p;
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_KERNEL, out, &p);

	if (r != CUDA_SUCCESS)
		return r;
	memcpy(out, &p.kernel, sizeof(*out));
	if (!out->func)
		out->func = (CUfunction)p.kernel.kern;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *given)
{
	PARAMS_OF(kernel, KERNEL, given);
	return change(node, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
							    const CUDA_KERNEL_NODE_PARAMS_v1 *given)
{
	PARAMS_OF(kernel, KERNEL, given);
	return change_exec(exec, node, given, &p);
}

/* --- copies and fills: the context is an argument of its own -------------------------------------------------------- */

VGPU_EXPORT CUresult CUDAAPI cuGraphAddMemcpyNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
						  const CUDA_MEMCPY3D *given, CUcontext ctx)
{
	PARAMS_OF(memcpy.copyParams, MEMCPY, given);
	p.memcpy.copyCtx = ctx;
	return add(out, g, deps, n, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D *out)
{
	CUgraphNodeParams p;
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_MEMCPY, out, &p);

	if (r == CUDA_SUCCESS)
		*out = p.memcpy.copyParams;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D *given)
{
	PARAMS_OF(memcpy.copyParams, MEMCPY, given);
	return change(node, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D *given,
							    CUcontext ctx)
{
	PARAMS_OF(memcpy.copyParams, MEMCPY, given);
	p.memcpy.copyCtx = ctx;
	return change_exec(exec, node, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddMemsetNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
						  const CUDA_MEMSET_NODE_PARAMS *given, CUcontext ctx)
{
	PARAMS_OF(memset, MEMSET, given);
	p.memset.ctx = ctx;
	return add(out, g, deps, n, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS *out)
{
	CUgraphNodeParams p;
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_MEMSET, out, &p);

	if (r == CUDA_SUCCESS)
		memcpy(out, &p.memset, sizeof(*out));
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *given)
{
	PARAMS_OF(memset, MEMSET, given);
	return change(node, given, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
							    const CUDA_MEMSET_NODE_PARAMS *given, CUcontext ctx)
{
	PARAMS_OF(memset, MEMSET, given);
	p.memset.ctx = ctx;
	return change_exec(exec, node, given, &p);
}

/* --- events --------------------------------------------------------------------------------------------------------- */

static CUresult is_event(CUevent event)
{
	CUresult r = session_check();

	return r != CUDA_SUCCESS || object_get(event, VGPU_H_EVENT) ? r : CUDA_ERROR_INVALID_HANDLE;
}

#define EVENT_CALLS(name, which, type_)											\
VGPU_EXPORT CUresult CUDAAPI cuGraphAddEvent##name##Node(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,	\
							 CUevent event)							\
{															\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_, .which = { event } };				\
	return add(out, g, deps, n, out, &p);										\
}															\
VGPU_EXPORT CUresult CUDAAPI cuGraphEvent##name##NodeGetEvent(CUgraphNode node, CUevent *out)				\
{															\
	CUgraphNodeParams p;												\
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_##type_, out, &p);							\
	if (r == CUDA_SUCCESS)												\
		*out = p.which.event;											\
	return r;													\
}															\
VGPU_EXPORT CUresult CUDAAPI cuGraphEvent##name##NodeSetEvent(CUgraphNode node, CUevent event)				\
{															\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_, .which = { event } };				\
	CUresult r = is_event(event);											\
	return r == CUDA_SUCCESS ? change(node, node, &p) : r;								\
}															\
VGPU_EXPORT CUresult CUDAAPI cuGraphExecEvent##name##NodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)	\
{															\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_, .which = { event } };				\
	return change_exec(exec, node, node, &p);									\
}

EVENT_CALLS(Record, eventRecord, EVENT_RECORD)
EVENT_CALLS(Wait, eventWait, WAIT_EVENT)

/* --- memory, child graphs, nothing ---------------------------------------------------------------------------------- */

VGPU_EXPORT CUresult CUDAAPI cuGraphAddMemAllocNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
						    CUDA_MEM_ALLOC_NODE_PARAMS *given)
{
	CUresult r;

	PARAMS_OF(alloc, MEM_ALLOC, given);
	r = add(out, g, deps, n, given, &p);
	if (r == CUDA_SUCCESS)
		given->dptr = p.alloc.dptr;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *out)
{
	CUgraphNodeParams p;
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_MEM_ALLOC, out, &p);

	if (r == CUDA_SUCCESS)
		memcpy(out, &p.alloc, sizeof(*out));
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddMemFreeNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
						   CUdeviceptr dptr)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = { dptr } };

	return add(out, g, deps, n, out, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *out)
{
	CUgraphNodeParams p;
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_MEM_FREE, out, &p);

	if (r == CUDA_SUCCESS)
		*out = p.free.dptr;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddChildGraphNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
						      CUgraph child)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = { .graph = child } };

	return add(out, g, deps, n, out, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *out)
{
	CUgraphNodeParams p;
	CUresult r = get(node, CU_GRAPH_NODE_TYPE_GRAPH, out, &p);

	if (r == CUDA_SUCCESS)
		*out = p.graph.graph;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = { .graph = child } };

	return change_exec(exec, node, node, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddEmptyNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_EMPTY };

	return add(out, g, deps, n, out, &p);
}
