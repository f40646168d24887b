// SPDX-License-Identifier: Apache-2.0
/*
 * Nodes that need no answer. The handle is the client's choice and the node a piece of paper until its graph is
 * instantiated, which is waited for; so a node of a common kind whose parameters are plainly right is posted. In doubt
 * it is not: then the driver's answer is the call's. If the driver refuses a posted one all the same, that is what
 * instantiating the graph says.
 *
 * The same for parameters of kernels in executable graphs, which programs change before each launch: what CUDA lets
 * change about a kernel is all but its function and its context, of which it says what may follow on what.
 */
#include "graph.h"
#include "launch.h"
#include "memory.h"

#define DEPENDENCIES	32	/* as many are compared each with each */

static bool zero(const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((const char *)p)[i])
			return false;
	return true;
}

/* The caller's current context, if work can be done in it and it is no green one. */
static const struct object *usable_context(void)
{
	const struct thread *t = thread_self();
	const struct object *ctx = context_top(t);

	return ctx && !context_ended(t) && !ctx->context->green && context_active(ctx) && !t->in_callback ? ctx : NULL;
}

static bool kernel_certain(const CUDA_KERNEL_NODE_PARAMS_v3 *k, const struct object *ctx)
{
	struct object *f = object_function(k->func ? (void *)k->func : (void *)k->kern);
	const struct launch l = { .grid = { k->gridDimX, k->gridDimY, k->gridDimZ },
				  .block = { k->blockDimX, k->blockDimY, k->blockDimZ }, .shared = k->sharedMemBytes };

	return f && !k->extra && (f->type == VGPU_H_KERNEL || (f->parent && f->parent->ctx == ctx)) &&
	       launch_check(&l, kernel_on(f, context_device(ctx)), context_device(ctx)) == CUDA_SUCCESS;
}

static bool set_certain(const CUDA_MEMSET_NODE_PARAMS_v2 *s, const struct object *ctx)
{
	uint64_t row, bytes;
	struct range range;

	if ((s->elementSize != 1 && s->elementSize != 2 && s->elementSize != 4) || !s->width || !s->height ||
	    (s->elementSize < 4 && s->value >> 8 * s->elementSize) || s->dst % s->elementSize ||
	    __builtin_mul_overflow(s->width, (uint64_t)s->elementSize, &row) ||
	    (s->height > 1 && (s->pitch < row || s->pitch % s->elementSize)) ||
	    __builtin_mul_overflow(s->height > 1 ? s->pitch : 0, s->height - 1, &bytes) ||
	    __builtin_add_overflow(bytes, row, &bytes))
		return false;
	return range_covers(s->dst, bytes, &range) && range.kind == RANGE_DEVICE && range.device == context_device(ctx);
}

static bool side_certain(CUmemorytype type, uint64_t device, const void *host, uint64_t bytes, const struct object *ctx,
			 bool *on_device)
{
	uint64_t at = type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : device;
	struct range range;

	if ((type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED) ||
	    !range_covers(at, bytes, &range))
		return false;
	if (range.kind == RANGE_DEVICE) {
		*on_device = true;
		return type != CU_MEMORYTYPE_HOST && range.device == context_device(ctx);
	}
	return range.kind == RANGE_PINNED && type != CU_MEMORYTYPE_DEVICE;
}

/* One row between places that are known, and not from host to host. */
static bool copy_certain(const CUDA_MEMCPY_NODE_PARAMS *p, const struct object *ctx)
{
	const CUDA_MEMCPY3D *c = &p->copyParams;
	bool on_device = false;

	if (p->flags || p->reserved || !c->WidthInBytes || c->Height != 1 || c->Depth != 1 || c->srcXInBytes || c->srcY ||
	    c->srcZ || c->srcLOD || c->dstXInBytes || c->dstY || c->dstZ || c->dstLOD || c->reserved0 || c->reserved1 ||
	    c->srcMemoryType == CU_MEMORYTYPE_ARRAY || c->dstMemoryType == CU_MEMORYTYPE_ARRAY ||
	    (c->srcPitch && c->srcPitch < c->WidthInBytes) || (c->dstPitch && c->dstPitch < c->WidthInBytes))
		return false;
	return side_certain(c->srcMemoryType, c->srcDevice, c->srcHost, c->WidthInBytes, ctx, &on_device) &&
	       side_certain(c->dstMemoryType, c->dstDevice, c->dstHost, c->WidthInBytes, ctx, &on_device) && on_device;
}

static bool dependencies_certain(const CUgraphNode *deps, size_t n)
{
	if (n > DEPENDENCIES)
		return false;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			if (deps[i] == deps[k])
				return false;
	return true;
}

bool graph_node_certain(const struct object *graph, const CUgraphNode *deps, size_t ndeps, const CUgraphNodeParams *p)
{
	const struct object *ctx = usable_context();

	/* Graphs inside of nodes do not take everything. */
	if (!ctx || graph->parent || !dependencies_certain(deps, ndeps) || !zero(p->reserved0, sizeof(p->reserved0)) ||
	    p->reserved2)
		return false;
	switch ((int)p->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		return (!p->kernel.ctx || (const struct object *)p->kernel.ctx == ctx) && kernel_certain(&p->kernel, ctx);
	case CU_GRAPH_NODE_TYPE_MEMSET:
		return (!p->memset.ctx || (const struct object *)p->memset.ctx == ctx) && set_certain(&p->memset, ctx);
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return (!p->memcpy.copyCtx || (const struct object *)p->memcpy.copyCtx == ctx) && copy_certain(&p->memcpy, ctx);
	case CU_GRAPH_NODE_TYPE_HOST:
		return p->host.fn;
	case CU_GRAPH_NODE_TYPE_EMPTY:
		return true;
	default:
		return false;
	}
}

/* --- in executable graphs --- */

static uint64_t added;

uint64_t graph_last_added(void)
{
	return __atomic_load_n(&added, __ATOMIC_RELAXED);
}

void graph_node_added(struct object *node, const CUgraphNodeParams *p)
{
	const struct object *f, *ctx = context_top(thread_self());

	node->node.added = __atomic_add_fetch(&added, 1, __ATOMIC_RELAXED);
	node->node.function = 0;
	if (p->type != CU_GRAPH_NODE_TYPE_KERNEL)
		return;
	f = object_function(p->kernel.func ? (void *)p->kernel.func : (void *)p->kernel.kern);
	if (p->kernel.ctx)
		ctx = (const struct object *)p->kernel.ctx;
	if (f && ctx) {
		node->node.function = f->wire;
		node->node.ctx = ctx->wire;
	}
}

void graph_exec_made(struct object *exec, const struct object *graph, uint64_t last)
{
	exec->exec.graph = graph->wire;
	exec->exec.last = last;
}

/* Is the node one of those that @exec was made of? Nodes that another call told of are not known to be. */
static bool made_of(const struct object *exec, const struct object *node)
{
	const struct object *graph = node->parent;

	return graph && graph->type == VGPU_H_GRAPH && graph->wire == exec->exec.graph && node->node.added &&
	       node->node.added <= exec->exec.last;
}

bool graph_set_certain(const struct object *exec, const struct object *node, const CUgraphNodeParams *p)
{
	const struct object *ctx = usable_context(), *f;

	if (!ctx || p->type != CU_GRAPH_NODE_TYPE_KERNEL || !made_of(exec, node) || node->node.ctx != ctx->wire ||
	    (p->kernel.ctx && (const struct object *)p->kernel.ctx != ctx) ||
	    !zero(p->reserved0, sizeof(p->reserved0)) || p->reserved2)
		return false;
	f = object_function(p->kernel.func ? (void *)p->kernel.func : (void *)p->kernel.kern);
	return f && f->wire == node->node.function && !kernel_in_clusters(f->kernel) && kernel_certain(&p->kernel, ctx);
}
