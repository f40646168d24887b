// SPDX-License-Identifier: Apache-2.0
/* What a program may ask about a graph: nodes, edges, neighbours, copies. */
#include <string.h>

#include "graph.h"

/* struct list - an answer that is a list: as many as there is room for, NULL behind the last. */
struct list {
	CUgraphNode *nodes;
	size_t room, n;
};

static void list_add(struct list *l, struct sg_node *n)
{
	if (l->nodes && l->n < l->room)
		l->nodes[l->n] = (CUgraphNode)n;
	l->n++;
}

static CUresult list_end(struct list *l, size_t *count)
{
	for (size_t i = l->n; l->nodes && i < l->room; i++)
		l->nodes[i] = NULL;
	*count = l->nodes && l->n > l->room ? l->room : l->n;
	return CUDA_SUCCESS;
}

static CUresult nodes(CUgraph graph, CUgraphNode *out, size_t *count, bool roots)
{
	struct list l = { .nodes = out, .room = out && count ? *count : 0 };
	struct sg_graph *g = sg_graph_check(graph);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!g || !count)
		return CUDA_ERROR_INVALID_VALUE;
	for (struct sg_node *n = g->first; n; n = n->next)
		if (!roots || !n->nedges)
			list_add(&l, n);
	return list_end(&l, count);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *out, size_t *count)
{
	return nodes(graph, out, count, false);
}

CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode *out, size_t *count)
{
	return nodes(graph, out, count, true);
}

static bool plain(const CUgraphEdgeData *d)
{
	return !d->from_port && !d->to_port && !d->type;
}

CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *data, size_t *count)
{
	struct list a = { .nodes = from, .room = from && count ? *count : 0 };
	struct list b = { .nodes = to, .room = a.room };
	struct sg_graph *g = sg_graph_check(graph);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!g || !count || !from != !to || (data && !from))
		return CUDA_ERROR_INVALID_VALUE;
	for (struct sg_node *n = g->first; n; n = n->next) {
		for (size_t i = 0; i < n->nedges; i++) {
			if (from && !data && !plain(&n->in[i].data))
				return CUDA_ERROR_LOSSY_QUERY;
			if (data && a.n < a.room)
				data[a.n] = n->in[i].data;
			list_add(&a, n->in[i].from);
			list_add(&b, n);
		}
	}
	list_end(&a, count);
	return list_end(&b, count);
}

CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
	return cuGraphGetEdges_v2(graph, from, to, NULL, count);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *deps, CUgraphEdgeData *data, size_t *count)
{
	struct list l = { .nodes = deps, .room = deps && count ? *count : 0 };
	struct sg_node *n = sg_node_check(node);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!n || !count || (data && !deps))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n->nedges; i++) {
		if (deps && !data && !plain(&n->in[i].data))
			return CUDA_ERROR_LOSSY_QUERY;
		if (data && l.n < l.room)
			data[l.n] = n->in[i].data;
		list_add(&l, n->in[i].from);
	}
	return list_end(&l, count);
}

CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *deps, size_t *count)
{
	return cuGraphNodeGetDependencies_v2(node, deps, NULL, count);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *out, CUgraphEdgeData *data, size_t *count)
{
	struct list l = { .nodes = out, .room = out && count ? *count : 0 };
	struct sg_node *n = sg_node_check(node);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!n || !count || (data && !out))
		return CUDA_ERROR_INVALID_VALUE;
	for (struct sg_node *o = n->graph->first; o; o = o->next) {
		struct sg_edge *e = sg_node_edge(o, n);

		if (!e)
			continue;
		if (out && !data && !plain(&e->data))
			return CUDA_ERROR_LOSSY_QUERY;
		if (data && l.n < l.room)
			data[l.n] = e->data;
		list_add(&l, o);
	}
	return list_end(&l, count);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *out, size_t *count)
{
	return cuGraphNodeGetDependentNodes_v2(node, out, NULL, count);
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
	struct sg_node *n = sg_node_check(node);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!n || !type)
		return CUDA_ERROR_INVALID_VALUE;
	*type = n->type;
	return CUDA_SUCCESS;
}

CUresult cuGraphNodeFindInClone(CUgraphNode *out, CUgraphNode original, CUgraph clone)
{
	struct sg_graph *g = sg_graph_check(clone);
	struct sg_node *n = sg_node_check(original);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || !g || !n || g->origin != n->graph)
		return CUDA_ERROR_INVALID_VALUE;
	n = sg_graph_find(g, n);
	if (!n)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUgraphNode)n;
	return CUDA_SUCCESS;
}
