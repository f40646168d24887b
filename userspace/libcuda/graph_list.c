// SPDX-License-Identifier: Apache-2.0
/* Nodes as the worker tells of them, and the edges between them. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "shim_gen.h"

/* --- objects -------------------------------------------------------------------------------------------------------- */

static struct object *object_of(uint64_t h, enum vgpu_handle_type type)
{
	struct object *o = VGPU_HANDLE_INDEX(h) < OBJECTS ? &objects[VGPU_HANDLE_INDEX(h)] : NULL;

	return o && h && o->wire == h && o->type == (uint32_t)type ? o : NULL;
}

static void adopt(struct object *o, struct object *parent)
{
	o->parent = parent;
	o->sibling = parent->children;
	parent->children = o;
}

struct object *graph_node_object(uint64_t h, struct object *graph, uint32_t type)
{
	struct object *o = object_of(h, VGPU_H_GRAPHNODE);

	if (!o)
		return NULL;
	o->node.type = type;
	if (!o->parent && graph)
		adopt(o, graph);
	return o;
}

struct object *graph_child_object(uint64_t h, struct object *node)
{
	struct object *o = object_of(h, VGPU_H_GRAPH);

	if (o && !o->parent && node)
		adopt(o, node);
	return o;
}

static void orphan(struct object *o)
{
	struct object **p;

	if (!o->parent)
		return;
	for (p = &o->parent->children; *p && *p != o; p = &(*p)->sibling)
		;
	if (*p)
		*p = o->sibling;
	o->parent = NULL;
}

static void children_delete(struct object *o)
{
	struct object *c = o->children, *next;

	o->children = NULL;
	for (; c; c = next) {
		next = c->sibling;
		children_delete(c);
		if (c->type == VGPU_H_GRAPHNODE) {
			free(c->node.told);
			free(c->node.bodies);
		}
		object_delete(c);
	}
}

void graph_node_delete(struct object *o)
{
	orphan(o);
	children_delete(o);
	free(o->node.told);
	free(o->node.bodies);
	object_delete(o);
}

void graph_objects_delete(struct object *graph)
{
	orphan(graph);
	children_delete(graph);
	object_delete(graph);
}

bool graph_fresh(uint64_t *handles, size_t n, enum vgpu_handle_type type)
{
	for (size_t i = 0; i < n; i++) {
		void *o = object_new(type);

		if (!o) {
			graph_fresh_done(handles, i);
			return false;
		}
		handles[i] = object_wire(o);
	}
	return true;
}

void graph_fresh_done(const uint64_t *handles, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct object *o = &objects[VGPU_HANDLE_INDEX(handles[i])];

		if (o->wire == handles[i] && !o->parent)
			object_delete(o);
	}
}

/* --- lists ---------------------------------------------------------------------------------------------------------- */

/* As many entries as fit an answer, whatever size the rings have. */
static uint32_t page(void)
{
	uint64_t n = shim.inline_max / sizeof(struct vgpu_graph_entry);

	return n > VGPU_GRAPH_ROOM_MAX / 4 ? VGPU_GRAPH_ROOM_MAX / 4 : n < 4 ? 4 : n;
}

CUresult graph_list(uint32_t what, struct object *of, struct object *graph, const struct object *node,
		    struct vgpu_graph_entry **entries, size_t *n)
{
	uint32_t room = entries ? page() : 0;
	size_t cap = sizeof(struct vgpu_graph_list_reply) + room * sizeof(struct vgpu_graph_entry), got;
	struct vgpu_graph_list_request *rq = malloc(sizeof(*rq) + 2 * room * sizeof(uint64_t));
	struct vgpu_graph_list_reply *rp = malloc(cap);
	struct vgpu_graph_entry *all = NULL, *grown;
	CUresult r = CUDA_ERROR_OUT_OF_MEMORY;
	size_t have = 0;

	if (!rq || !rp)
		goto out;
	do {
		struct iovec iov = { rq, sizeof(*rq) + 2 * room * sizeof(uint64_t) };
		uint64_t *fresh = (uint64_t *)(rq + 1);
		size_t part;

		r = call_begin(&rq->call, false);
		if (r != CUDA_SUCCESS)
			break;
		rq->handle = of->wire;
		rq->node = node ? node->wire : 0;
		rq->first = have;
		rq->what = what;
		rq->room = room;
		if (!graph_fresh(fresh, 2 * room, VGPU_H_GRAPHNODE)) {
			r = CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
		r = call_replyv(VGPU_MSG_cuGraphGetNodes, &iov, 1, rp, cap, &got);
		if (r == CUDA_SUCCESS && (got < sizeof(*rp) || (got - sizeof(*rp)) % sizeof(*all)))
			r = session_failed(-71);
		part = r == CUDA_SUCCESS ? (got - sizeof(*rp)) / sizeof(*all) : 0;
		for (size_t i = 0; i < part; i++) {
			graph_node_object(rp->entries[i].node, graph, rp->entries[i].type);
			if (rp->entries[i].to)
				graph_node_object(rp->entries[i].to, graph, rp->entries[i].to_type);
		}
		graph_fresh_done(fresh, 2 * room);
		grown = part ? realloc(all, (have + part) * sizeof(*all)) : all;
		if (part && !grown) {
			r = CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
		all = grown;
		if (part)
			memcpy(all + have, rp->entries, part * sizeof(*all));
		have += part;
		if (!room && r == CUDA_SUCCESS)
			have = rp->total;
		if (!part)
			break;
	} while (r == CUDA_SUCCESS && room && have < rp->total);
out:
	free(rq);
	free(rp);
	if (r != CUDA_SUCCESS || !entries) {
		free(all);
		all = NULL;
	}
	if (entries)
		*entries = all;
	*n = have;
	return r;
}

/* --- the calls ------------------------------------------------------------------------------------------------------ */

static CUgraphNode node_of(uint64_t h)
{
	return (CUgraphNode)object_of(h, VGPU_H_GRAPHNODE);
}

static bool plain(const struct vgpu_graph_entry *e)
{
	CUgraphEdgeData d;

	memcpy(&d, e->edge, sizeof(d));
	return !d.from_port && !d.to_port && !d.type;
}

/* As much as there is room for, and NULL behind the end. */
static CUresult fill(const struct vgpu_graph_entry *e, size_t n, CUgraphNode *nodes, CUgraphNode *to, CUgraphEdgeData *data,
		     bool edges, size_t *count)
{
	size_t room = *count;

	for (size_t i = 0; edges && !data && i < n; i++)
		if (!plain(&e[i]))
			return CUDA_ERROR_LOSSY_QUERY;
	for (size_t i = 0; i < room; i++) {
		nodes[i] = i < n ? node_of(e[i].node) : NULL;
		if (to)
			to[i] = i < n ? node_of(e[i].to) : NULL;
		if (data && i < n)
			memcpy(&data[i], e[i].edge, sizeof(*data));
	}
	*count = n < room ? n : room;
	return CUDA_SUCCESS;
}

static CUresult list(uint32_t what, struct object *of, struct object *graph, CUgraphNode *nodes, CUgraphNode *to,
		     CUgraphEdgeData *data, size_t *count)
{
	struct vgpu_graph_entry *entries;
	CUresult r = session_check();
	size_t n;

	if (r != CUDA_SUCCESS)
		return r;
	if (!of || !count || (data && !nodes))
		return CUDA_ERROR_INVALID_VALUE;
	r = graph_list(what, of, graph, NULL, nodes ? &entries : NULL, &n);
	if (r != CUDA_SUCCESS)
		return r;
	if (!nodes) {
		*count = n;
		return CUDA_SUCCESS;
	}
	r = fill(entries, n, nodes, to, data, what >= VGPU_LIST_EDGES, count);
	free(entries);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH);

	return list(VGPU_LIST_NODES, g, g, nodes, NULL, NULL, numNodes);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH);

	return list(VGPU_LIST_ROOTS, g, g, rootNodes, NULL, NULL, numRootNodes);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
						CUgraphEdgeData *edgeData, size_t *numEdges)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH);

	if (!from != !to)
		return session_check() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : session_check();
	return list(VGPU_LIST_EDGES, g, g, from, to, edgeData, numEdges);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, size_t *numEdges)
{
	return cuGraphGetEdges_v2(hGraph, from, to, NULL, numEdges);
}

static CUresult neighbours(uint32_t what, CUgraphNode h, CUgraphNode *nodes, CUgraphEdgeData *data, size_t *n)
{
	struct object *node = graph_node(h);

	return list(what, node, node ? node->parent : NULL, nodes, NULL, data, n);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies,
							   CUgraphEdgeData *edgeData, size_t *numDependencies)
{
	return neighbours(VGPU_LIST_BEFORE, hNode, dependencies, edgeData, numDependencies);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies,
							size_t *numDependencies)
{
	return neighbours(VGPU_LIST_BEFORE, hNode, dependencies, NULL, numDependencies);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes,
							     CUgraphEdgeData *edgeData, size_t *numDependentNodes)
{
	return neighbours(VGPU_LIST_AFTER, hNode, dependentNodes, edgeData, numDependentNodes);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes,
							  size_t *numDependentNodes)
{
	return neighbours(VGPU_LIST_AFTER, hNode, dependentNodes, NULL, numDependentNodes);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type)
{
	const struct object *node = graph_node(hNode);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!node || !type)
		return CUDA_ERROR_INVALID_VALUE;
	*type = node->node.type;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeFindInClone(CUgraphNode *phNode, CUgraphNode hOriginalNode, CUgraph hClonedGraph)
{
	struct object *g = object_get(hClonedGraph, VGPU_H_GRAPH), *node = graph_node(hOriginalNode);
	struct vgpu_graph_entry *entries;
	CUresult r = session_check();
	size_t n;

	if (r != CUDA_SUCCESS)
		return r;
	if (!phNode || !g || !node)
		return CUDA_ERROR_INVALID_VALUE;
	r = graph_list(VGPU_LIST_IN_CLONE, g, g, node, &entries, &n);
	if (r != CUDA_SUCCESS)
		return r;
	*phNode = n ? node_of(entries[0].node) : NULL;
	free(entries);
	return *phNode ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult edges(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to, const CUgraphEdgeData *data, size_t n,
		      bool remove)
{
	const struct object *g = object_get(hGraph, VGPU_H_GRAPH);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!g || (n && (!from || !to)))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n; i++) {
		const struct object *a = graph_node(from[i]), *b = graph_node(to[i]);

		if (!a || !b || a == b || a->parent != g || b->parent != g)
			return CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t done = 0, part; r == CUDA_SUCCESS && done < n; done += part) {
		struct { struct vgpu_graph_edges rq; uint64_t words[3 * 64]; } m;

		part = n - done < 64 ? n - done : 64;
		if (part * 24 > shim.inline_max)
			part = shim.inline_max / 24;
		memset(&m.rq, 0, sizeof(m.rq));
		r = call_begin(&m.rq.call, false);
		m.rq.graph = g->wire;
		m.rq.n = part;
		m.rq.remove = remove;
		for (size_t i = 0; i < part; i++) {
			m.words[i] = object_wire(from[done + i]);
			m.words[part + i] = object_wire(to[done + i]);
			m.words[2 * part + i] = 0;
			if (data)
				memcpy(&m.words[2 * part + i], &data[done + i], sizeof(uint64_t));
		}
		if (r == CUDA_SUCCESS)
			r = call_reply(VGPU_MSG_cuGraphAddDependencies_v2, &m, sizeof(m.rq) + part * 24, NULL, 0);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
						       const CUgraphEdgeData *edgeData, size_t numDependencies)
{
	return edges(hGraph, from, to, edgeData, numDependencies, false);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
						    size_t numDependencies)
{
	return edges(hGraph, from, to, NULL, numDependencies, false);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
							  const CUgraphEdgeData *edgeData, size_t numDependencies)
{
	return edges(hGraph, from, to, edgeData, numDependencies, true);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
						       size_t numDependencies)
{
	return edges(hGraph, from, to, NULL, numDependencies, true);
}
