// SPDX-License-Identifier: Apache-2.0
/*
 * Nodes made from parameters, and parameters told from nodes. What a node does is captured from the call that does the
 * same in a stream, so that both have the same checks.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* --- parameters to node --------------------------------------------------------------------------------------------- */

/* What a kernel was given as one buffer is told as one, as NVIDIA's driver does. */
static bool point_buffer(struct sg_node *n)
{
	const struct sg_kernel *k = n->op->u.launch.handle;
	size_t *size;

	n->pointers = malloc(5 * sizeof(*n->pointers) + sizeof(*size));
	if (!n->pointers)
		return false;
	size = (size_t *)(n->pointers + 5);
	*size = k->info.param_bytes;
	n->pointers[0] = CU_LAUNCH_PARAM_BUFFER_POINTER;
	n->pointers[1] = n->op + 1;
	n->pointers[2] = CU_LAUNCH_PARAM_BUFFER_SIZE;
	n->pointers[3] = size;
	n->pointers[4] = CU_LAUNCH_PARAM_END;
	n->params.kernel.extra = n->pointers;
	return true;
}

static bool point(struct sg_node *n, bool buffer)
{
	const struct sg_kernel *k = n->op->u.launch.handle;
	CUDA_KERNEL_NODE_PARAMS_v3 *p = &n->params.kernel;

	free(n->pointers);
	n->pointers = NULL;
	p->kernelParams = NULL;
	p->extra = NULL;
	if (!k->info.nparams)
		return true;
	if (buffer)
		return point_buffer(n);
	n->pointers = malloc(k->info.nparams * sizeof(*n->pointers));
	if (!n->pointers)
		return false;
	for (size_t i = 0; i < k->info.nparams; i++)
		n->pointers[i] = (char *)(n->op + 1) + k->info.params[i].offset;
	p->kernelParams = n->pointers;
	return true;
}

static bool own_op(struct sg_node *n, struct sg_node *recorded)
{
	if (!recorded)
		return false;
	free(n->op);
	n->op = recorded->op;
	n->bytes = recorded->bytes;
	recorded->op = NULL;
	sg_node_free(recorded);
	return true;
}

static CUresult record(struct sg_node *n, CUcontext ctx, CUresult (*call)(const CUgraphNodeParams *p, CUstream s),
		       const CUgraphNodeParams *p)
{
	struct sg_ctx *c = ctx ? sg_object_check(&sg_ctx_table, ctx) : sg_tls.top, *before;
	struct sg_recording r;
	struct sg_node *done;
	CUresult e;

	if (!c)
		return ctx ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_CONTEXT;
	before = sg_ctx_swap(c);
	e = sg_record_begin(&r);
	if (!e) {
		e = call(p, (CUstream)r.stream);
		done = sg_record_end(&r);
		if (!own_op(n, done) && !e)
			e = CUDA_ERROR_INVALID_VALUE;
	}
	sg_ctx_swap(before);
	return e;
}

static CUresult launch(const CUgraphNodeParams *p, CUstream s)
{
	const CUDA_KERNEL_NODE_PARAMS_v3 *k = &p->kernel;

	return cuLaunchKernel(k->func ? k->func : (CUfunction)k->kern, k->gridDimX, k->gridDimY, k->gridDimZ, k->blockDimX,
			      k->blockDimY, k->blockDimZ, k->sharedMemBytes, s, k->kernelParams, k->extra);
}

static CUresult copy(const CUgraphNodeParams *p, CUstream s)
{
	return cuMemcpy3DAsync_v2(&p->memcpy.copyParams, s);
}

static CUresult set(const CUgraphNodeParams *p, CUstream s)
{
	const CUDA_MEMSET_NODE_PARAMS_v2 *m = &p->memset;

	if (!m->width || !m->height)
		return CUDA_ERROR_INVALID_VALUE;
	switch (m->elementSize) {
	case 1:
		return cuMemsetD2D8Async(m->dst, m->pitch, (unsigned char)m->value, m->width, m->height, s);
	case 2:
		return cuMemsetD2D16Async(m->dst, m->pitch, (unsigned short)m->value, m->width, m->height, s);
	case 4:
		return cuMemsetD2D32Async(m->dst, m->pitch, m->value, m->width, m->height, s);
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult host(const CUgraphNodeParams *p, CUstream s)
{
	return cuLaunchHostFunc(s, p->host.fn, p->host.userData);
}

static CUresult child(struct sg_node *n, const CUgraphNodeParams *p, struct sg_graph *into)
{
	struct sg_graph *from = sg_graph_check(p->graph.graph), *g = from;
	struct sg_node *o;

	/* Into itself, or one that a capture owns. */
	if (!from || from == into || from->capture)
		return CUDA_ERROR_INVALID_VALUE;
	for (o = from->first; o; o = o->next)
		if (o->type == CU_GRAPH_NODE_TYPE_CONDITIONAL)
			return CUDA_ERROR_NOT_SUPPORTED;
	if (p->graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE) {
		/* One that another node owns, or that @into is part of. */
		if (from->owner)
			return CUDA_ERROR_INVALID_VALUE;
		for (const struct sg_graph *up = into; up; up = up->owner ? up->owner->graph : NULL)
			if (up == from)
				return CUDA_ERROR_INVALID_VALUE;
	} else if (p->graph.ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE) {
		return CUDA_ERROR_INVALID_VALUE;
	} else {
		if (from->memory_nodes)
			return CUDA_ERROR_NOT_SUPPORTED;
		g = sg_graph_copy(from, false);
		if (!g)
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	g->owner = n;
	n->child = g;
	n->params.graph.graph = (CUgraph)g;
	n->params.graph.ownership = p->graph.ownership;
	return CUDA_SUCCESS;
}

static CUresult event(struct sg_node *n, const CUgraphNodeParams *p)
{
	CUevent ev = n->type == CU_GRAPH_NODE_TYPE_WAIT_EVENT ? p->eventWait.event : p->eventRecord.event;

	if (!sg_object_check(&sg_event_table, ev))
		return CUDA_ERROR_INVALID_VALUE;
	n->params.eventWait.event = ev;	/* the first field of both */
	return CUDA_SUCCESS;
}

static CUresult alloc(struct sg_node *n, CUgraphNodeParams *p)
{
	CUDA_MEM_ALLOC_NODE_PARAMS_v2 *a = &p->alloc;
	CUmemAccessDesc *descs = NULL;
	CUresult e;

	if (!a->bytesize || a->poolProps.allocType != CU_MEM_ALLOCATION_TYPE_PINNED || a->poolProps.handleTypes ||
	    (a->accessDescCount && !a->accessDescs) || a->accessDescCount > (size_t)sg_devices)
		return CUDA_ERROR_INVALID_VALUE;
	if (a->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (a->poolProps.location.id < 0 || a->poolProps.location.id >= sg_devices)
		return CUDA_ERROR_INVALID_VALUE;
	if (a->accessDescCount) {
		descs = malloc(a->accessDescCount * sizeof(*descs));
		if (!descs)
			return CUDA_ERROR_OUT_OF_MEMORY;
		memcpy(descs, a->accessDescs, a->accessDescCount * sizeof(*descs));
	}
	e = sg_graph_memory_new(a->bytesize, a->poolProps.location.id, &n->memory, &a->dptr);
	if (e) {
		free(descs);
		return e;
	}
	n->params.alloc = *a;
	n->params.alloc.accessDescs = descs;
	return CUDA_SUCCESS;
}

static CUresult release(struct sg_node *n, const CUgraphNodeParams *p, struct sg_graph *g)
{
	/* In the same graph it is freed once at most. */
	for (struct sg_node *o = g ? g->first : NULL; o; o = o->next)
		if (o->type == CU_GRAPH_NODE_TYPE_MEM_FREE && o->params.free.dptr == p->free.dptr)
			return CUDA_ERROR_INVALID_VALUE;
	n->memory = sg_graph_memory_find(p->free.dptr);
	if (!n->memory)
		return CUDA_ERROR_INVALID_VALUE;
	n->params.free = p->free;
	return CUDA_SUCCESS;
}

static CUresult value_op(const CUgraphNodeParams *p, CUstream s)
{
	return cuStreamBatchMemOp_v2(s, 1, p->memOp.paramArray, 0);
}

static CUresult batch(struct sg_node *n, const CUgraphNodeParams *p)
{
	const CUDA_BATCH_MEM_OP_NODE_PARAMS_v2 *b = &p->memOp;
	CUresult e = CUDA_SUCCESS;
	struct sg_node *probe;
	CUgraphNodeParams one = { .type = n->type };
	CUstreamBatchMemOpParams *ops;

	if (!b->count || b->count > 256 || !b->paramArray || b->flags)
		return CUDA_ERROR_INVALID_VALUE;
	/* Each is checked as the call in a stream would. */
	for (unsigned int i = 0; !e && i < b->count; i++) {
		if (b->paramArray[i].operation == CU_STREAM_MEM_OP_BARRIER)
			continue;
		probe = sg_node_new(n->type);
		if (!probe)
			return CUDA_ERROR_OUT_OF_MEMORY;
		one.memOp.paramArray = &b->paramArray[i];
		e = record(probe, b->ctx, value_op, &one);
		sg_node_free(probe);
	}
	if (e)
		return e;
	ops = malloc(b->count * sizeof(*ops));
	if (!ops)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(ops, b->paramArray, b->count * sizeof(*ops));
	n->params.memOp = *b;
	n->params.memOp.paramArray = ops;
	return CUDA_SUCCESS;
}

CUresult sg_node_set(struct sg_node *n, CUgraphNodeParams *p, struct sg_graph *g)
{
	CUresult e;

	switch (n->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		e = record(n, p->kernel.ctx, launch, p);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		if (p->memcpy.flags || p->memcpy.reserved)
			return CUDA_ERROR_INVALID_VALUE;
		e = record(n, p->memcpy.copyCtx, copy, p);
		break;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		e = record(n, p->memset.ctx, set, p);
		break;
	case CU_GRAPH_NODE_TYPE_HOST:
		e = record(n, NULL, host, p);
		break;
	case CU_GRAPH_NODE_TYPE_EMPTY:
		return CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		return child(n, p, g);
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		return event(n, p);
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		return alloc(n, p);
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		return release(n, p, g);
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		return batch(n, p);
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
		return sg_cond_node(n, &p->conditional, g);
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
	if (e)
		return e;
	/* What was given is what is told, but for pointers into the caller's memory. */
	if (n->type == CU_GRAPH_NODE_TYPE_MEMCPY || n->type == CU_GRAPH_NODE_TYPE_MEMSET)
		n->params = *p;
	else
		sg_node_describe(n);
	if (n->type == CU_GRAPH_NODE_TYPE_KERNEL && p->kernel.extra && !point(n, true))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (n->type == CU_GRAPH_NODE_TYPE_KERNEL)
		n->params.kernel.ctx = p->kernel.ctx ? p->kernel.ctx : (CUcontext)sg_tls.top;
	if (n->type == CU_GRAPH_NODE_TYPE_KERNEL && !p->kernel.func) {
		n->params.kernel.func = NULL;
		n->params.kernel.kern = p->kernel.kern;
	}
	return CUDA_SUCCESS;
}

#define SWAP(a, b) do { __typeof__(a) t_ = (a); (a) = (b); (b) = t_; } while (0)

void sg_node_swap(struct sg_node *n, struct sg_node *from)
{
	SWAP(n->op, from->op);
	SWAP(n->bytes, from->bytes);
	SWAP(n->pointers, from->pointers);
	SWAP(n->params, from->params);
	SWAP(n->memory, from->memory);
	SWAP(n->child, from->child);
	if (n->child)
		n->child->owner = n;
	if (from->child)
		from->child->owner = from;
	/* Attributes are the node's, whatever it launches. */
	if (n->type == CU_GRAPH_NODE_TYPE_KERNEL && n->attrs && n->attrs->set & 1u << CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
		n->op->u.launch.cooperative = n->attrs->value[CU_LAUNCH_ATTRIBUTE_COOPERATIVE].cooperative;
}

/* --- node to parameters --------------------------------------------------------------------------------------------- */

static void side(const void *at, size_t pitch, size_t slice, CUmemorytype *type, const void **host_at,
		 CUdeviceptr *device, size_t *pitch_out, size_t *rows)
{
	*type = sg_in_heap((uint64_t)at) ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
	if (*type == CU_MEMORYTYPE_DEVICE)
		*device = (CUdeviceptr)at;
	else
		*host_at = at;
	*pitch_out = pitch;
	*rows = pitch ? slice / pitch : 0;
}

static void describe_copy(struct sg_node *n)
{
	const struct sg_copy2d *c = &n->op->u.copy;
	CUDA_MEMCPY3D *p = &n->params.memcpy.copyParams;
	const void *host_dst = NULL;

	memset(p, 0, sizeof(*p));
	side(c->src, c->src_pitch, c->src_slice, &p->srcMemoryType, &p->srcHost, &p->srcDevice, &p->srcPitch,
	     &p->srcHeight);
	side(c->dst, c->dst_pitch, c->dst_slice, &p->dstMemoryType, &host_dst, &p->dstDevice, &p->dstPitch,
	     &p->dstHeight);
	p->dstHost = (void *)host_dst;
	p->WidthInBytes = c->width;
	p->Height = c->height;
	p->Depth = c->depth;
	n->params.memcpy.copyCtx = (CUcontext)sg_tls.top;
}

static void describe_value(struct sg_node *n)
{
	CUstreamBatchMemOpParams *b = calloc(1, sizeof(*b));
	bool wide = n->op->u.write.size == 8;

	if (b && n->op->type == SG_OP_WRITE) {
		b->operation = wide ? CU_STREAM_MEM_OP_WRITE_VALUE_64 : CU_STREAM_MEM_OP_WRITE_VALUE_32;
		b->writeValue.address = n->op->u.write.addr;
		b->writeValue.value64 = n->op->u.write.value;
		b->writeValue.flags = n->op->u.write.condition;
	} else if (b) {
		b->operation = wide ? CU_STREAM_MEM_OP_WAIT_VALUE_64 : CU_STREAM_MEM_OP_WAIT_VALUE_32;
		b->waitValue.address = n->op->u.write.addr;
		b->waitValue.value64 = n->op->u.write.value;
		b->waitValue.flags = n->op->u.write.condition;
	}
	n->params.memOp = (CUDA_BATCH_MEM_OP_NODE_PARAMS_v2){ .ctx = (CUcontext)sg_tls.top, .count = b ? 1 : 0,
							      .paramArray = b };
}

void sg_node_describe(struct sg_node *n)
{
	const struct sg_op *op = n->op;

	n->params = (CUgraphNodeParams){ .type = n->type };
	switch (op->type) {
	case SG_OP_LAUNCH:
		n->params.kernel = (CUDA_KERNEL_NODE_PARAMS_v3){
			.func = (CUfunction)op->u.launch.handle,
			.gridDimX = op->u.launch.grid[0], .gridDimY = op->u.launch.grid[1],
			.gridDimZ = op->u.launch.grid[2], .blockDimX = op->u.launch.block[0],
			.blockDimY = op->u.launch.block[1], .blockDimZ = op->u.launch.block[2],
			.sharedMemBytes = op->u.launch.shared, .ctx = (CUcontext)sg_tls.top,
		};
		point(n, false);
		break;
	case SG_OP_COPY:
		describe_copy(n);
		break;
	case SG_OP_SET:
		n->params.memset = (CUDA_MEMSET_NODE_PARAMS_v2){
			.dst = (CUdeviceptr)op->u.set.dst, .pitch = op->u.set.pitch, .value = op->u.set.value,
			.elementSize = op->u.set.element, .width = op->u.set.width, .height = op->u.set.height,
			.ctx = (CUcontext)sg_tls.top,
		};
		break;
	case SG_OP_HOST:
		n->params.host.fn = op->u.host.fn;
		n->params.host.userData = op->u.host.data;
		break;
	case SG_OP_WRITE:
	case SG_OP_POLL:
		describe_value(n);
		break;
	}
}

bool sg_node_clone_params(struct sg_node *to, const struct sg_node *from)
{
	to->params = from->params;
	if (from->op) {
		to->op = aligned_alloc(64, (from->bytes + 63) & ~(size_t)63);
		if (!to->op)
			return false;
		to->op->size = 0;
		sg_copy_op(to->op, from->op, from->bytes);
		to->bytes = from->bytes;
	}
	if (from->attrs) {
		to->attrs = malloc(sizeof(*to->attrs));
		if (!to->attrs)
			return false;
		*to->attrs = *from->attrs;
	}
	if (from->type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP) {
		size_t bytes = from->params.memOp.count * sizeof(CUstreamBatchMemOpParams);

		to->params.memOp.paramArray = malloc(bytes + 1);
		if (!to->params.memOp.paramArray)
			return false;
		memcpy(to->params.memOp.paramArray, from->params.memOp.paramArray, bytes);
	}
	if (from->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && from->params.alloc.accessDescs) {
		size_t bytes = from->params.alloc.accessDescCount * sizeof(CUmemAccessDesc);
		CUmemAccessDesc *descs = malloc(bytes);

		to->params.alloc.accessDescs = descs;
		if (!descs)
			return false;
		memcpy(descs, from->params.alloc.accessDescs, bytes);
	}
	return from->type != CU_GRAPH_NODE_TYPE_KERNEL || point(to, from->params.kernel.extra);
}

/* --- adding --------------------------------------------------------------------------------------------------------- */

static bool zero(const void *p, size_t n)
{
	const char *c = p;

	while (n--)
		if (*c++)
			return false;
	return true;
}

CUresult cuGraphAddNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, const CUgraphEdgeData *edges,
			   size_t ndeps, CUgraphNodeParams *params)
{
	struct sg_graph *g = sg_graph_check(graph);
	struct sg_node *n;
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || !g || !params || !zero(params->reserved0, sizeof(params->reserved0)) || params->reserved2)
		return CUDA_ERROR_INVALID_VALUE;
	e = sg_deps_ok(g, deps, edges, ndeps);
	if (e)
		return e;
	n = sg_node_new(params->type);
	if (!n)
		return CUDA_ERROR_OUT_OF_MEMORY;
	e = sg_node_set(n, params, g);
	for (size_t i = 0; !e && i < ndeps; i++)
		if (!sg_node_depend(n, sg_node_check(deps[i]), edges ? &edges[i] : NULL))
			e = CUDA_ERROR_OUT_OF_MEMORY;
	if (e) {
		sg_node_free(n);
		return e;
	}
	sg_node_append(g, n);
	*out = (CUgraphNode)n;
	return CUDA_SUCCESS;
}

CUresult cuGraphAddNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t ndeps, CUgraphNodeParams *params)
{
	return cuGraphAddNode_v2(out, graph, deps, NULL, ndeps, params);
}
