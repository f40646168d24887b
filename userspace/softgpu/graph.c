// SPDX-License-Identifier: Apache-2.0
/* Graphs and nodes as objects: made, joined by edges, copied, ended. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* --- nodes ---------------------------------------------------------------------------------------------------------- */

struct sg_node *sg_node_new(CUgraphNodeType type)
{
	static _Atomic uint64_t ids;
	struct sg_node *n = sg_object_new(&sg_node_table);

	if (!n)
		return NULL;
	n->id = atomic_fetch_add(&ids, 1) + 1;
	n->type = type;
	n->params.type = type;
	atomic_store_explicit(&n->object.live, sg_node_table.magic, memory_order_release);
	return n;
}

static void node_unlink(struct sg_node *n)
{
	struct sg_graph *g = n->graph;

	if (!g)
		return;
	*n->prev = n->next;
	if (n->next)
		n->next->prev = n->prev;
	else
		g->last = n->prev;
	g->count--;
	g->memory_nodes -= n->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || n->type == CU_GRAPH_NODE_TYPE_MEM_FREE;
	n->graph = NULL;
}

/* A capture into it may still go on. */
static void free_owned(struct sg_graph *g)
{
	g->owner = NULL;
	sg_graph_free(g);
}

void sg_node_free(struct sg_node *n)
{
	node_unlink(n);
	if (n->child)
		free_owned(n->child);
	for (unsigned int i = 0; n->bodies && i < n->params.conditional.size; i++)
		if (n->bodies[i])
			free_owned(n->bodies[i]);
	if (n->memory)
		sg_graph_memory_put(n->memory);
	if (n->type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP)
		free(n->params.memOp.paramArray);
	if (n->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		free((void *)n->params.alloc.accessDescs);
	free(n->bodies);
	free(n->pointers);
	free(n->attrs);
	free(n->op);
	free(n->in);
	atomic_store(&n->object.live, 0);
	sg_object_put(&sg_node_table, n);
}

void sg_node_append(struct sg_graph *g, struct sg_node *n)
{
	n->graph = g;
	n->next = NULL;
	n->prev = g->last;
	*g->last = n;
	g->last = &n->next;
	g->count++;
	g->memory_nodes += n->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || n->type == CU_GRAPH_NODE_TYPE_MEM_FREE;
}

struct sg_edge *sg_node_edge(struct sg_node *n, const struct sg_node *from)
{
	for (size_t i = 0; i < n->nedges; i++)
		if (n->in[i].from == from)
			return &n->in[i];
	return NULL;
}

bool sg_node_depend(struct sg_node *n, struct sg_node *on, const CUgraphEdgeData *data)
{
	struct sg_edge *grown;
	size_t cap;

	if (n->nedges == n->edges_cap) {
		cap = n->edges_cap ? 2 * n->edges_cap : 4;
		grown = realloc(n->in, cap * sizeof(*grown));
		if (!grown)
			return false;
		n->in = grown;
		n->edges_cap = cap;
	}
	n->in[n->nedges++] = (struct sg_edge){ .from = on, .data = data ? *data : (CUgraphEdgeData){ 0 } };
	return true;
}

CUresult sg_deps_ok(struct sg_graph *g, const CUgraphNode *deps, const CUgraphEdgeData *edges, size_t n)
{
	if (n && !deps)
		return CUDA_ERROR_INVALID_VALUE;
	/* Whoever walked the graph before left marks. */
	for (size_t i = 0; i < n; i++) {
		struct sg_node *d = sg_node_check(deps[i]);

		if (!d || d->graph != g)
			return CUDA_ERROR_INVALID_VALUE;
		d->mark = 0;
	}
	for (size_t i = 0; i < n; i++) {
		struct sg_node *d = sg_node_check(deps[i]);
		const CUgraphEdgeData *e = edges ? &edges[i] : NULL;

		if (d->mark)	/* the same dependency twice */
			return CUDA_ERROR_INVALID_VALUE;
		d->mark = 1;
		if (!e)
			continue;
		if (e->to_port || e->type > CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC ||
		    e->from_port > CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER ||
		    (e->from_port && d->type != CU_GRAPH_NODE_TYPE_KERNEL) ||
		    (e->type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC && !e->from_port))
			return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

void sg_copy_op(struct sg_op *to, const struct sg_op *from, size_t bytes)
{
	uint32_t size = to->size;	/* of the place, in a ring */

	memcpy(to, from, bytes);
	to->size = size;
}

/* --- graphs --------------------------------------------------------------------------------------------------------- */

static void graph_destroy(void *object)
{
	struct sg_graph *g = object;

	while (g->first)
		sg_node_free(g->first);
	sg_users_drop(g);
	sg_cond_forget(g);
}

struct sg_graph *sg_graph_new(void)
{
	struct sg_graph *g = sg_object_new(&sg_graph_table);

	if (!g)
		return NULL;
	sg_graph_table.destroy = graph_destroy;
	g->last = &g->first;
	atomic_store_explicit(&g->object.live, sg_graph_table.magic, memory_order_release);
	return g;
}

void sg_graph_free(struct sg_graph *g)
{
	atomic_store(&g->object.live, 0);
	sg_object_put(&sg_graph_table, g);
}

static bool copy_node(struct sg_node *to, const struct sg_node *from, bool executable)
{
	if (!sg_node_clone_params(to, from))
		return false;
	to->disabled = from->disabled;
	if (from->child) {
		to->child = sg_graph_copy(from->child, executable);
		if (!to->child)
			return false;
		to->child->owner = to;
		to->params.graph.graph = (CUgraph)to->child;
	}
	if (from->bodies) {
		to->cond = from->cond;
		to->bodies = calloc(from->params.conditional.size, sizeof(*to->bodies));
		if (!to->bodies)
			return false;
		to->params.conditional.phGraph_out = (CUgraph *)to->bodies;
		for (unsigned int i = 0; i < from->params.conditional.size; i++) {
			to->bodies[i] = sg_graph_copy(from->bodies[i], executable);
			if (!to->bodies[i])
				return false;
			to->bodies[i]->owner = to;
		}
	}
	if (from->memory) {
		sg_graph_memory_get(from->memory);
		to->memory = from->memory;
	}
	return true;
}

struct sg_graph *sg_graph_copy(struct sg_graph *from, bool executable)
{
	struct sg_graph *g = sg_graph_new();
	struct sg_node **copies, *n, *c;
	uint32_t i = 0;

	if (!g)
		return NULL;
	g->origin = from;
	copies = malloc((from->count + 1) * sizeof(*copies));
	if (!copies || !sg_users_copy(g, from))
		goto fail;
	for (n = from->first; n; n = n->next) {
		c = sg_node_new(n->type);
		if (!c)
			goto fail;
		sg_node_append(g, c);
		c->origin = n->id;
		n->mark = i;
		copies[i++] = c;
		if (!copy_node(c, n, executable))
			goto fail;
	}
	for (n = from->first, i = 0; n; n = n->next, i++)
		for (size_t k = 0; k < n->nedges; k++)
			if (!sg_node_depend(copies[i], copies[n->in[k].from->mark], &n->in[k].data))
				goto fail;
	free(copies);
	return g;
fail:
	free(copies);
	sg_graph_free(g);
	return NULL;
}

struct sg_node **sg_graph_order(struct sg_graph *g, struct sg_node **bad)
{
	struct sg_node **order = malloc((g->count + 1) * sizeof(*order)), *n;
	size_t *waits = calloc(g->count + 1, sizeof(*waits));
	size_t *first = calloc(g->count + 2, sizeof(*first)), *next = NULL;
	size_t edges = 0, done = 0, ready = 0;
	uint32_t i = 0;

	*bad = NULL;
	if (!order || !waits || !first)
		goto fail;
	for (n = g->first; n; n = n->next) {
		n->mark = i++;
		edges += n->nedges;
	}
	/* Outgoing edges, by the node they leave: first[i] .. first[i + 1]. */
	next = malloc((edges + 1) * sizeof(*next));
	if (!next)
		goto fail;
	for (n = g->first; n; n = n->next)
		for (size_t k = 0; k < n->nedges; k++)
			first[n->in[k].from->mark + 2]++;
	for (i = 2; i <= g->count; i++)
		first[i] += first[i - 1];
	{
		struct sg_node **by_mark = malloc((g->count + 1) * sizeof(*by_mark));

		if (!by_mark)
			goto fail;
		for (n = g->first; n; n = n->next) {
			by_mark[n->mark] = n;
			waits[n->mark] = n->nedges;
			for (size_t k = 0; k < n->nedges; k++)
				next[first[n->in[k].from->mark + 1]++] = n->mark;
			if (!n->nedges)
				order[ready++] = n;
		}
		while (done < ready) {
			uint32_t m = order[done++]->mark;

			for (size_t k = first[m]; k < first[m + 1]; k++)
				if (!--waits[next[k]])
					order[ready++] = by_mark[next[k]];
		}
		free(by_mark);
	}
	if (done != g->count) {
		for (n = g->first; n && !waits[n->mark]; n = n->next)
			;
		*bad = n;
		goto fail;
	}
	free(waits);
	free(first);
	free(next);
	return order;
fail:
	free(order);
	free(waits);
	free(first);
	free(next);
	return NULL;
}

struct sg_node *sg_graph_find(struct sg_graph *g, const struct sg_node *original)
{
	struct sg_node *n, *in;

	for (n = g->first; n; n = n->next) {
		if (n->origin == original->id)
			return n;
		in = n->child ? sg_graph_find(n->child, original) : NULL;
		for (unsigned int i = 0; !in && n->bodies && i < n->params.conditional.size; i++)
			in = sg_graph_find(n->bodies[i], original);
		if (in)
			return in;
	}
	return NULL;
}

/* --- the calls ------------------------------------------------------------------------------------------------------ */

static CUresult enter(CUgraph h, struct sg_graph **g)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*g = sg_graph_check(h);
	return *g ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphCreate(CUgraph *out, unsigned int flags)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || flags)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUgraph)sg_graph_new();
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphClone(CUgraph *out, CUgraph original)
{
	struct sg_graph *g;
	CUresult e = enter(original, &g);

	if (e || !out)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	if (g->memory_nodes)
		return CUDA_ERROR_NOT_SUPPORTED;
	*out = (CUgraph)sg_graph_copy(g, false);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	struct sg_graph *g;
	CUresult e = enter(graph, &g);

	if (e)
		return e;
	if (g->capture)
		return CUDA_ERROR_ILLEGAL_STATE;
	if (g->owner)	/* its node's */
		return CUDA_ERROR_INVALID_VALUE;
	sg_graph_free(g);
	return CUDA_SUCCESS;
}

CUresult cuGraphDestroyNode(CUgraphNode node)
{
	struct sg_node *n = sg_node_check(node), *o;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!n)
		return CUDA_ERROR_INVALID_VALUE;
	if (n->graph->capture)	/* streams go on from nodes of it */
		return CUDA_ERROR_ILLEGAL_STATE;
	if (n->graph->memory_nodes)
		return CUDA_ERROR_NOT_SUPPORTED;
	for (o = n->graph->first; o; o = o->next) {
		struct sg_edge *e = sg_node_edge(o, n);

		if (e)
			*e = o->in[--o->nedges];
	}
	sg_node_free(n);
	return CUDA_SUCCESS;
}

static CUresult pairs_ok(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t n, struct sg_graph **g)
{
	CUresult e = enter(graph, g);

	if (e)
		return e;
	if (n && (!from || !to))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n; i++) {
		struct sg_node *a = sg_node_check(from[i]), *b = sg_node_check(to[i]);

		if (!a || !b || a == b || a->graph != *g || b->graph != *g)
			return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				   const CUgraphEdgeData *data, size_t n)
{
	struct sg_graph *g;
	CUresult e = pairs_ok(graph, from, to, n, &g);
	size_t i;

	for (i = 0; !e && i < n; i++) {
		struct sg_node *a = sg_node_check(from[i]), *b = sg_node_check(to[i]);

		e = sg_deps_ok(g, &from[i], data ? &data[i] : NULL, 1);
		if (!e && sg_node_edge(b, a))
			e = CUDA_ERROR_INVALID_VALUE;
		else if (!e && !sg_node_depend(b, a, data ? &data[i] : NULL))
			e = CUDA_ERROR_OUT_OF_MEMORY;
		if (e)
			break;
	}
	/* All of them or none. */
	while (e && i-- > 0)
		sg_node_check(to[i])->nedges--;
	return e;
}

CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t n)
{
	return cuGraphAddDependencies_v2(graph, from, to, NULL, n);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				      const CUgraphEdgeData *data, size_t n)
{
	struct sg_graph *g;
	CUresult e = pairs_ok(graph, from, to, n, &g);

	if (e)
		return e;
	if (n && g->memory_nodes)
		return CUDA_ERROR_NOT_SUPPORTED;
	for (size_t i = 0; i < n; i++) {
		struct sg_edge *edge = sg_node_edge(sg_node_check(to[i]), sg_node_check(from[i]));

		if (!edge || memcmp(&edge->data, data ? &data[i] : &(CUgraphEdgeData){ 0 }, sizeof(edge->data)))
			return CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t i = 0; i < n; i++) {
		struct sg_node *b = sg_node_check(to[i]);
		struct sg_edge *edge = sg_node_edge(b, sg_node_check(from[i]));

		if (edge)
			*edge = b->in[--b->nedges];
	}
	return CUDA_SUCCESS;
}

CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t n)
{
	return cuGraphRemoveDependencies_v2(graph, from, to, NULL, n);
}
