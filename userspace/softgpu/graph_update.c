// SPDX-License-Identifier: Apache-2.0
/* Changing executable graphs: one node's parameters, whether it runs, or all at once. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

static void keep_state(struct sg_graph *to, const struct sg_graph *from);

static CUresult find(CUgraphExec exec, CUgraphNode node, struct sg_exec **x, struct sg_node **n)
{
	struct sg_node *original = sg_node_check(node);
	CUresult e = sg_exec_check(exec, x);

	if (e)
		return e;
	*n = original ? sg_graph_find((*x)->graph, original) : NULL;
	return *n ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool one_dimensional(const CUDA_MEMCPY3D *c)
{
	return c->Height <= 1 && c->Depth <= 1 && !c->srcArray && !c->dstArray;
}

/* May @n, executable, become @p? */
static bool may_become(const struct sg_node *n, const CUgraphNodeParams *p, CUgraphExecUpdateResult *why)
{
	*why = CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
	switch (n->type) {
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return !memcmp(&n->params.memcpy.copyParams, &p->memcpy.copyParams, sizeof(CUDA_MEMCPY3D)) ||
		       (one_dimensional(&n->params.memcpy.copyParams) && one_dimensional(&p->memcpy.copyParams));
	case CU_GRAPH_NODE_TYPE_MEMSET:
		return (n->params.memset.height <= 1 && p->memset.height <= 1) ||
		       (n->params.memset.height == p->memset.height && n->params.memset.width == p->memset.width &&
			n->params.memset.elementSize == p->memset.elementSize);
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		if (n->params.memOp.count != p->memOp.count)
			return false;
		for (unsigned int i = 0; i < p->memOp.count; i++)
			if (n->params.memOp.paramArray[i].operation != p->memOp.paramArray[i].operation)
				return false;
		return true;
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
		return n->params.conditional.type == p->conditional.type &&
		       n->params.conditional.size == p->conditional.size;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		return n->params.alloc.dptr == p->alloc.dptr;
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		return n->params.free.dptr == p->free.dptr;
	default:
		return true;
	}
}

static bool has_body(const struct sg_graph *g)
{
	for (const struct sg_node *n = g->first; n; n = n->next)
		if (n->bodies || (n->child && has_body(n->child)))
			return true;
	return false;
}

/* A launch has its own copy of all that it does, but for bodies of conditional nodes, which it reads as it goes. */
static bool is_read(const struct sg_node *n)
{
	if (n->child && has_body(n->child))
		return true;
	while (n && !n->bodies)
		n = n->graph->owner;
	return n;
}

/* What is launched from now on is @fresh. Launches under way hold what they were launched with. */
static CUresult replace(struct sg_exec *x, struct sg_graph *fresh)
{
	struct sg_node *bad, **order = fresh ? sg_graph_order(fresh, &bad) : NULL;

	if (!order) {
		if (fresh)
			sg_graph_free(fresh);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	keep_state(fresh, x->graph);
	sg_graph_free(x->graph);
	free(x->order);
	x->graph = fresh;
	x->order = order;
	return CUDA_SUCCESS;
}

/*
 * Before *@n, a copy of @node, changes: if a launch that is not over reads it, @x gets a copy of the graph, and *@n is
 * the node there. Waiting for the launch would not do: the caller may be the one who brings about what it waits for.
 */
static CUresult detach(struct sg_exec *x, CUgraphNode node, struct sg_node **n)
{
	CUresult e;

	/* Each launch that is not over has a reference. */
	if (!is_read(*n) || atomic_load_explicit(&x->graph->object.refs, memory_order_acquire) == 1)
		return CUDA_SUCCESS;
	e = replace(x, sg_graph_copy(x->graph, true));
	if (!e)
		*n = sg_graph_find(x->graph, sg_node_check(node));
	return e;
}

static CUresult compare(struct sg_graph *mine, struct sg_graph *new, CUgraphExecUpdateResultInfo *info);

CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *p)
{
	CUgraphExecUpdateResultInfo info;
	CUgraphExecUpdateResult why;
	struct sg_node *n, *fresh;
	struct sg_exec *x;
	CUresult e = find(exec, node, &x, &n);

	if (e || !p || p->type != n->type)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	switch (n->type) {
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
		return CUDA_ERROR_NOT_SUPPORTED;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
	case CU_GRAPH_NODE_TYPE_MEMSET:
		if (!may_become(n, p, &why))
			return CUDA_ERROR_INVALID_VALUE;
		break;
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		if (p->memOp.paramArray && !may_become(n, p, &why))
			return CUDA_ERROR_INVALID_VALUE;
		break;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		if (!sg_graph_check(p->graph.graph) || compare(n->child, sg_graph_check(p->graph.graph), &info))
			return CUDA_ERROR_INVALID_VALUE;
		p->graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE;
		break;
	default:
		break;
	}
	fresh = sg_node_new(n->type);
	if (!fresh)
		return CUDA_ERROR_OUT_OF_MEMORY;
	e = sg_node_set(fresh, p, NULL);
	if (!e)
		e = detach(x, node, &n);
	if (!e) {
		/* Nodes inside are still found by what the graph has. */
		struct sg_node *a = n->child ? n->child->first : NULL, *b = fresh->child ? fresh->child->first : NULL;

		for (; a && b; a = a->next, b = b->next)
			b->origin = a->origin;
		sg_node_swap(n, fresh);
	}
	sg_node_free(fresh);
	return e;
}

static bool can_be_disabled(const struct sg_node *n)
{
	return n->type == CU_GRAPH_NODE_TYPE_KERNEL || n->type == CU_GRAPH_NODE_TYPE_MEMSET ||
	       n->type == CU_GRAPH_NODE_TYPE_MEMCPY;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int enabled)
{
	struct sg_exec *x;
	struct sg_node *n;
	CUresult e = find(exec, node, &x, &n);

	if (e || !can_be_disabled(n))
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	e = detach(x, node, &n);
	if (!e)
		n->disabled = !enabled;
	return e;
}

CUresult cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int *enabled)
{
	struct sg_exec *x;
	struct sg_node *n;
	CUresult e = find(exec, node, &x, &n);

	if (e || !enabled || !can_be_disabled(n))
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*enabled = !n->disabled;
	return CUDA_SUCCESS;
}

/* --- all at once ---------------------------------------------------------------------------------------------------- */

static CUresult differs(CUgraphExecUpdateResultInfo *info, CUgraphExecUpdateResult result, struct sg_node *to,
			struct sg_node *from)
{
	*info = (CUgraphExecUpdateResultInfo){ .result = result, .errorNode = (CUgraphNode)to,
					       .errorFromNode = (CUgraphNode)from };
	return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

static void number(struct sg_graph *mine, struct sg_graph *new)
{
	struct sg_node *a = mine->first, *b = new->first;

	for (uint32_t i = 0; a && b; a = a->next, b = b->next)
		a->mark = b->mark = i++;
}

/* Could @new take the place of @mine? Nodes correspond in the order in which they were added. */
static CUresult compare(struct sg_graph *mine, struct sg_graph *new, CUgraphExecUpdateResultInfo *info)
{
	CUgraphExecUpdateResult why;
	struct sg_node *a, *b;
	CUresult e;

	for (a = mine->first, b = new->first; a && b; a = a->next, b = b->next)
		;
	if (a || b)
		return differs(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, b, NULL);
	number(mine, new);
	for (a = mine->first, b = new->first; a; a = a->next, b = b->next) {
		if (a->type != b->type)
			return differs(info, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, b, NULL);
		if (a->nedges != b->nedges)
			return differs(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, b, NULL);
		for (size_t k = 0; k < a->nedges; k++)
			if (a->in[k].from->mark != b->in[k].from->mark)
				return differs(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, b, b->in[k].from);
		if (!may_become(a, &b->params, &why))
			return differs(info, why, b, NULL);
		e = a->child ? compare(a->child, b->child, info) : CUDA_SUCCESS;
		for (unsigned int i = 0; !e && a->bodies && i < a->params.conditional.size; i++)
			e = compare(a->bodies[i], b->bodies[i], info);
		if (e)
			return e;
	}
	*info = (CUgraphExecUpdateResultInfo){ .result = CU_GRAPH_EXEC_UPDATE_SUCCESS };
	return CUDA_SUCCESS;
}

static void keep_state(struct sg_graph *to, const struct sg_graph *from)
{
	struct sg_node *a = to->first;

	for (const struct sg_node *b = from->first; a && b; a = a->next, b = b->next) {
		a->origin = b->origin;
		a->disabled = b->disabled;
		if (a->child)
			keep_state(a->child, b->child);
		for (unsigned int i = 0; a->bodies && i < a->params.conditional.size; i++)
			keep_state(a->bodies[i], b->bodies[i]);
	}
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
	struct sg_graph *g = sg_graph_check(graph);
	struct sg_exec *x;
	CUresult e = sg_exec_check(exec, &x);

	if (e || !g || !info)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*info = (CUgraphExecUpdateResultInfo){ .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	e = compare(x->graph, g, info);
	if (e)
		return e;
	e = replace(x, sg_graph_copy(g, true));
	if (e)
		info->result = CU_GRAPH_EXEC_UPDATE_ERROR;
	return e;
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *error, CUgraphExecUpdateResult *result)
{
	CUgraphExecUpdateResultInfo info = { .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	CUresult e = result ? cuGraphExecUpdate_v2(exec, graph, &info) : CUDA_ERROR_INVALID_VALUE;

	if (error)
		*error = info.errorNode;
	if (result)
		*result = info.result;
	return e;
}
