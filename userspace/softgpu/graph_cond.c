// SPDX-License-Identifier: Apache-2.0
/*
 * Conditional nodes. A handle is a number that travels in kernels' parameters, so it is looked up, not followed. Its
 * value is one for all executions, as the handle is.
 */
#include <stdlib.h>

#include "graph.h"

struct sg_cond {
	uint64_t handle;
	struct sg_graph *graph;		/* it was made for; NULL when that is gone */
	unsigned int initial, flags;
	bool used;
	_Atomic uint32_t value;
	struct sg_cond *next;		/* of its graph */
	struct sg_cond *next_all;
};

/* Handles are few and stay: an executable graph may outlive the graph they were made for. */
static struct sg_cond *all;
static uint64_t handles;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_cond *find(uint64_t handle)
{
	struct sg_cond *c;

	pthread_mutex_lock(&lock);
	for (c = all; c && c->handle != handle; c = c->next_all)
		;
	pthread_mutex_unlock(&lock);
	return c;
}

CUresult cuGraphConditionalHandleCreate(CUgraphConditionalHandle *out, CUgraph graph, CUcontext ctx,
					unsigned int initial, unsigned int flags)
{
	struct sg_graph *g = sg_graph_check(graph);
	struct sg_cond *c;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || !g || flags & ~(unsigned int)CU_GRAPH_COND_ASSIGN_DEFAULT ||
	    (ctx ? !sg_object_check(&sg_ctx_table, ctx) : !sg_tls.ctx))
		return CUDA_ERROR_INVALID_VALUE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	c->graph = g;
	c->initial = initial;
	c->flags = flags;
	pthread_mutex_lock(&lock);
	c->handle = ++handles;
	c->next_all = all;
	all = c;
	c->next = g->conds;
	g->conds = c;
	pthread_mutex_unlock(&lock);
	ptx_set_conditional = sg_cond_set;
	*out = c->handle;
	return CUDA_SUCCESS;
}

/* Is the handle @c for use in @g, which may be the body of a node of the graph that it was made for? */
static bool is_for(const struct sg_cond *c, const struct sg_graph *g)
{
	while (g && g != c->graph)
		g = g->owner ? g->owner->graph : NULL;
	return g;
}

CUresult sg_cond_node(struct sg_node *n, const CUDA_CONDITIONAL_NODE_PARAMS *p, const struct sg_graph *g)
{
	struct sg_cond *c = find(p->handle);
	bool size_ok = p->type == CU_GRAPH_COND_TYPE_WHILE ? p->size == 1 :
		       p->type == CU_GRAPH_COND_TYPE_IF ? p->size == 1 || p->size == 2 : p->size > 0 && p->size <= 1024;

	if (!c || !c->graph || (g && !is_for(c, g)) || c->used || p->type > CU_GRAPH_COND_TYPE_SWITCH || !size_ok)
		return CUDA_ERROR_INVALID_VALUE;
	n->params.conditional = *p;
	n->bodies = calloc(p->size, sizeof(*n->bodies));
	if (!n->bodies)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (unsigned int i = 0; i < p->size; i++) {
		n->bodies[i] = sg_graph_new();
		if (!n->bodies[i])
			return CUDA_ERROR_OUT_OF_MEMORY;
		n->bodies[i]->owner = n;
	}
	n->params.conditional.phGraph_out = (CUgraph *)n->bodies;
	((CUDA_CONDITIONAL_NODE_PARAMS *)p)->phGraph_out = (CUgraph *)n->bodies;
	n->cond = c;
	c->used = true;
	return CUDA_SUCCESS;
}

bool sg_cond_unused(const struct sg_graph *g)
{
	for (const struct sg_cond *c = g->conds; c; c = c->next)
		if (!c->used)
			return true;
	return false;
}

void sg_cond_forget(struct sg_graph *g)
{
	pthread_mutex_lock(&lock);
	for (struct sg_cond *c = g->conds; c; c = c->next)
		c->graph = NULL;
	g->conds = NULL;
	pthread_mutex_unlock(&lock);
}

void sg_cond_set(uint64_t handle, uint32_t value)
{
	struct sg_cond *c = find(handle);

	if (c)
		atomic_store(&c->value, value);
}

static void reset(struct sg_graph *g)
{
	for (struct sg_node *n = g->first; n; n = n->next) {
		if (n->child)
			reset(n->child);
		if (!n->bodies)
			continue;
		if (n->cond->flags & CU_GRAPH_COND_ASSIGN_DEFAULT)
			atomic_store(&n->cond->value, n->cond->initial);
		for (unsigned int i = 0; i < n->params.conditional.size; i++)
			reset(n->bodies[i]);
	}
}

void sg_cond_reset(struct sg_stream *s, void *graph)
{
	reset(graph);
}

void sg_cond_execute(struct sg_stream *s, void *node)
{
	struct sg_node *n = node;
	const CUDA_CONDITIONAL_NODE_PARAMS *p = &n->params.conditional;
	uint32_t value = atomic_load(&n->cond->value);

	switch (p->type) {
	case CU_GRAPH_COND_TYPE_IF:
		if (value)
			sg_graph_run(s, n->bodies[0]);
		else if (p->size == 2)
			sg_graph_run(s, n->bodies[1]);
		break;
	case CU_GRAPH_COND_TYPE_WHILE:
		/* A loop whose kernels have faulted sets nothing any more. */
		while (atomic_load(&n->cond->value) && !atomic_load(&s->ctx->fault))
			sg_graph_run(s, n->bodies[0]);
		break;
	case CU_GRAPH_COND_TYPE_SWITCH:
		if (value < p->size)
			sg_graph_run(s, n->bodies[value]);
		break;
	}
}
