// SPDX-License-Identifier: Apache-2.0
/* The calls for one kind of node each: add, get, set; in the graph and, where CUDA allows, in an executable one. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

static CUresult add(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n, const void *given,
		    CUgraphNodeParams *p)
{
	return cuGraphAddNode_v2(given ? out : NULL, graph, deps, NULL, n, p);
}

static CUresult find(CUgraphNode h, CUgraphNodeType type, const void *arg, struct sg_node **n)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*n = sg_node_check(h);
	return *n && (*n)->type == type && arg ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult change(CUgraphNode h, const void *given, CUgraphNodeParams *p)
{
	struct sg_node *n;
	CUresult e = find(h, p->type, given, &n);

	return e ? e : cuGraphNodeSetParams(h, p);
}

CUresult cuGraphNodeSetParams(CUgraphNode h, CUgraphNodeParams *p)
{
	struct sg_node *n, *fresh;
	CUresult e;

	if (!p)
		return sg_devices ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_INITIALIZED;
	e = find(h, p->type, p, &n);
	if (e)
		return e;
	if (n->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || n->type == CU_GRAPH_NODE_TYPE_MEM_FREE ||
	    n->type == CU_GRAPH_NODE_TYPE_CONDITIONAL || n->type == CU_GRAPH_NODE_TYPE_GRAPH)
		return CUDA_ERROR_NOT_SUPPORTED;
	fresh = sg_node_new(n->type);
	if (!fresh)
		return CUDA_ERROR_OUT_OF_MEMORY;
	e = sg_node_set(fresh, p, NULL);
	if (!e)
		sg_node_swap(n, fresh);
	sg_node_free(fresh);
	return e;
}

/* --- kernels -------------------------------------------------------------------------------------------------------- */

static CUgraphNodeParams of_kernel(const CUDA_KERNEL_NODE_PARAMS_v2 *k)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };

	if (k)
		memcpy(&p.kernel, k, sizeof(*k));	/* v3 has the same layout */
	return p;
}

static CUgraphNodeParams of_kernel_v1(const CUDA_KERNEL_NODE_PARAMS_v1 *k)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };

	if (k)
		memcpy(&p.kernel, k, sizeof(*k));	/* the beginning of it */
	return p;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
				 const CUDA_KERNEL_NODE_PARAMS_v2 *k)
{
	CUgraphNodeParams p = of_kernel(k);

	return add(out, g, deps, n, k, &p);
}

CUresult cuGraphAddKernelNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
			      const CUDA_KERNEL_NODE_PARAMS_v1 *k)
{
	CUgraphNodeParams p = of_kernel_v1(k);

	return add(out, g, deps, n, k, &p);
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode h, CUDA_KERNEL_NODE_PARAMS_v2 *k)
{
	struct sg_node *n;
	CUresult e = find(h, CU_GRAPH_NODE_TYPE_KERNEL, k, &n);

	if (!e)
		memcpy(k, &n->params.kernel, sizeof(*k));
	return e;
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode h, CUDA_KERNEL_NODE_PARAMS_v1 *k)
{
	struct sg_node *n;
	CUresult e = find(h, CU_GRAPH_NODE_TYPE_KERNEL, k, &n);

	if (!e)
		memcpy(k, &n->params.kernel, sizeof(*k));
	if (!e && !k->func)
		k->func = (CUfunction)n->params.kernel.kern;
	return e;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode h, const CUDA_KERNEL_NODE_PARAMS_v2 *k)
{
	CUgraphNodeParams p = of_kernel(k);

	return change(h, k, &p);
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode h, const CUDA_KERNEL_NODE_PARAMS_v1 *k)
{
	CUgraphNodeParams p = of_kernel_v1(k);

	return change(h, k, &p);
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec x, CUgraphNode h, const CUDA_KERNEL_NODE_PARAMS_v2 *k)
{
	CUgraphNodeParams p = of_kernel(k);

	return cuGraphExecNodeSetParams(x, h, k ? &p : NULL);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec x, CUgraphNode h, const CUDA_KERNEL_NODE_PARAMS_v1 *k)
{
	CUgraphNodeParams p = of_kernel_v1(k);

	return cuGraphExecNodeSetParams(x, h, k ? &p : NULL);
}

void sg_attrs_set(struct sg_node *n, CUlaunchAttributeID id, const CUlaunchAttributeValue *value)
{
	n->attrs->set |= 1u << id;
	n->attrs->value[id] = *value;
	if (id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
		n->op->u.launch.cooperative = value->cooperative;
}

static bool node_attribute(CUkernelNodeAttrID id)
{
	switch (id) {
	case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
	case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
	case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
	case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
	case CU_LAUNCH_ATTRIBUTE_PRIORITY:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
	case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		return true;
	default:
		return false;
	}
}

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode h, CUkernelNodeAttrID id, CUkernelNodeAttrValue *value)
{
	struct sg_node *n;
	CUresult e = find(h, CU_GRAPH_NODE_TYPE_KERNEL, value, &n);

	if (e || !node_attribute(id))
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	memset(value, 0, sizeof(*value));
	if (n->attrs && n->attrs->set & 1u << id)
		*value = n->attrs->value[id];
	else if (id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
		value->cooperative = n->op->u.launch.cooperative;
	return CUDA_SUCCESS;
}

static CUresult attribute_ok(CUkernelNodeAttrID id, const CUkernelNodeAttrValue *v)
{
	if (!node_attribute(id))
		return CUDA_ERROR_INVALID_VALUE;
	/* As for launches: clusters of one block are all that there is here. */
	if (id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION && v->clusterDim.x * v->clusterDim.y * v->clusterDim.z > 1)
		return CUDA_ERROR_NOT_SUPPORTED;
	return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode h, CUkernelNodeAttrID id, const CUkernelNodeAttrValue *value)
{
	struct sg_node *n;
	CUresult e = find(h, CU_GRAPH_NODE_TYPE_KERNEL, value, &n);

	if (!e)
		e = attribute_ok(id, value);
	if (!e && !n->attrs) {
		n->attrs = calloc(1, sizeof(*n->attrs));
		if (!n->attrs)
			e = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (!e)
		sg_attrs_set(n, id, value);
	return e;
}

CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode dst, CUgraphNode src)
{
	struct sg_node *to, *from;
	CUresult e = find(dst, CU_GRAPH_NODE_TYPE_KERNEL, dst, &to);

	if (!e)
		e = find(src, CU_GRAPH_NODE_TYPE_KERNEL, src, &from);
	if (e || !from->attrs || to == from)
		return e;
	if (!to->attrs)
		to->attrs = malloc(sizeof(*to->attrs));
	if (!to->attrs)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*to->attrs = *from->attrs;
	to->op->u.launch.cooperative = from->op->u.launch.cooperative;
	return CUDA_SUCCESS;
}

/* --- copies and fills ----------------------------------------------------------------------------------------------- */

static CUgraphNodeParams of_copy(const CUDA_MEMCPY3D *c, CUcontext ctx)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMCPY };

	if (c)
		p.memcpy.copyParams = *c;
	p.memcpy.copyCtx = ctx;
	return p;
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n, const CUDA_MEMCPY3D *c,
			      CUcontext ctx)
{
	CUgraphNodeParams p = of_copy(c, ctx);

	return add(out, g, deps, n, c, &p);
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode h, CUDA_MEMCPY3D *c)
{
	struct sg_node *n;
	CUresult e = find(h, CU_GRAPH_NODE_TYPE_MEMCPY, c, &n);

	if (!e)
		*c = n->params.memcpy.copyParams;
	return e;
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode h, const CUDA_MEMCPY3D *c)
{
	struct sg_node *n = sg_node_check(h);
	CUgraphNodeParams p = of_copy(c, n && n->type == CU_GRAPH_NODE_TYPE_MEMCPY ? n->params.memcpy.copyCtx : NULL);

	return change(h, c, &p);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec x, CUgraphNode h, const CUDA_MEMCPY3D *c, CUcontext ctx)
{
	CUgraphNodeParams p = of_copy(c, ctx);

	return cuGraphExecNodeSetParams(x, h, c ? &p : NULL);
}

static CUgraphNodeParams of_set(const CUDA_MEMSET_NODE_PARAMS *m, CUcontext ctx)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMSET };

	if (m)
		memcpy(&p.memset, m, sizeof(*m));
	p.memset.ctx = ctx;
	return p;
}

CUresult cuGraphAddMemsetNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
			      const CUDA_MEMSET_NODE_PARAMS *m, CUcontext ctx)
{
	CUgraphNodeParams p = of_set(m, ctx);

	return add(out, g, deps, n, m, &p);
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode h, CUDA_MEMSET_NODE_PARAMS *m)
{
	struct sg_node *n;
	CUresult e = find(h, CU_GRAPH_NODE_TYPE_MEMSET, m, &n);

	if (!e)
		memcpy(m, &n->params.memset, sizeof(*m));
	return e;
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode h, const CUDA_MEMSET_NODE_PARAMS *m)
{
	struct sg_node *n = sg_node_check(h);
	CUgraphNodeParams p = of_set(m, n && n->type == CU_GRAPH_NODE_TYPE_MEMSET ? n->params.memset.ctx : NULL);

	return change(h, m, &p);
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec x, CUgraphNode h, const CUDA_MEMSET_NODE_PARAMS *m, CUcontext ctx)
{
	CUgraphNodeParams p = of_set(m, ctx);

	return cuGraphExecNodeSetParams(x, h, m ? &p : NULL);
}

/* --- host functions, events, memory operations: the same five calls ------------------------------------------------- */

#define PARAMS_OF(which, type_, given)							\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_ };			\
	if (given)									\
		memcpy(&p.which, given, sizeof(*(given)))

CUresult cuGraphAddHostNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n, const CUDA_HOST_NODE_PARAMS *h)
{
	PARAMS_OF(host, HOST, h);
	return add(out, g, deps, n, h, &p);
}

CUresult cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS *h)
{
	struct sg_node *n;
	CUresult e = find(node, CU_GRAPH_NODE_TYPE_HOST, h, &n);

	if (!e)
		memcpy(h, &n->params.host, sizeof(*h));
	return e;
}

CUresult cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS *h)
{
	PARAMS_OF(host, HOST, h);
	return change(node, h, &p);
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec x, CUgraphNode node, const CUDA_HOST_NODE_PARAMS *h)
{
	PARAMS_OF(host, HOST, h);
	return cuGraphExecNodeSetParams(x, node, h ? &p : NULL);
}

CUresult cuGraphAddBatchMemOpNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
				  const CUDA_BATCH_MEM_OP_NODE_PARAMS *b)
{
	PARAMS_OF(memOp, BATCH_MEM_OP, b);
	return add(out, g, deps, n, b, &p);
}

CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS *b)
{
	struct sg_node *n;
	CUresult e = find(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, b, &n);

	if (!e)
		memcpy(b, &n->params.memOp, sizeof(*b));
	return e;
}

CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *b)
{
	PARAMS_OF(memOp, BATCH_MEM_OP, b);
	return change(node, b, &p);
}

CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec x, CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *b)
{
	PARAMS_OF(memOp, BATCH_MEM_OP, b);
	return cuGraphExecNodeSetParams(x, node, b ? &p : NULL);
}

#define EVENT_CALLS(name, which, type_)								\
CUresult cuGraphAddEvent##name##Node(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n, CUevent ev)	\
{												\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_, .which = { ev } };		\
	return add(out, g, deps, n, out, &p);							\
}												\
CUresult cuGraphEvent##name##NodeGetEvent(CUgraphNode node, CUevent *out)			\
{												\
	struct sg_node *n;									\
	CUresult e = find(node, CU_GRAPH_NODE_TYPE_##type_, out, &n);				\
	if (!e)											\
		*out = n->params.which.event;							\
	return e;										\
}												\
CUresult cuGraphEvent##name##NodeSetEvent(CUgraphNode node, CUevent ev)				\
{												\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_, .which = { ev } };		\
	return change(node, node, &p);								\
}												\
CUresult cuGraphExecEvent##name##NodeSetEvent(CUgraphExec x, CUgraphNode node, CUevent ev)	\
{												\
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_##type_, .which = { ev } };		\
	return cuGraphExecNodeSetParams(x, node, &p);						\
}

EVENT_CALLS(Record, eventRecord, EVENT_RECORD)
EVENT_CALLS(Wait, eventWait, WAIT_EVENT)

/* --- memory, child graphs, nothing ---------------------------------------------------------------------------------- */

CUresult cuGraphAddMemAllocNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n,
				CUDA_MEM_ALLOC_NODE_PARAMS *a)
{
	CUresult e;

	PARAMS_OF(alloc, MEM_ALLOC, a);
	e = add(out, g, deps, n, a, &p);
	if (!e)
		a->dptr = p.alloc.dptr;
	return e;
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *a)
{
	struct sg_node *n;
	CUresult e = find(node, CU_GRAPH_NODE_TYPE_MEM_ALLOC, a, &n);

	if (!e)
		memcpy(a, &n->params.alloc, sizeof(*a));
	return e;
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n, CUdeviceptr dptr)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = { dptr } };

	return add(out, g, deps, n, out, &p);
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *dptr)
{
	struct sg_node *n;
	CUresult e = find(node, CU_GRAPH_NODE_TYPE_MEM_FREE, dptr, &n);

	if (!e)
		*dptr = n->params.free.dptr;
	return e;
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n, CUgraph child)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = { .graph = child } };

	return add(out, g, deps, n, out, &p);
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *out)
{
	struct sg_node *n;
	CUresult e = find(node, CU_GRAPH_NODE_TYPE_GRAPH, out, &n);

	if (!e)
		*out = (CUgraph)n->child;
	return e;
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec x, CUgraphNode node, CUgraph child)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = { .graph = child } };

	return cuGraphExecNodeSetParams(x, node, &p);
}

CUresult cuGraphAddEmptyNode(CUgraphNode *out, CUgraph g, const CUgraphNode *deps, size_t n)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_EMPTY };

	return add(out, g, deps, n, out, &p);
}
