// SPDX-License-Identifier: Apache-2.0
/*
 * Nodes from the client's parameters. They come as CUDA's own structure; whatever in it is an object is looked up, and
 * whatever is memory must be the session's, before the driver sees any of it.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

_Static_assert(sizeof(CUgraphNodeParams) == sizeof(((struct vgpu_node *)0)->params), "what the wire format is made for");
_Static_assert(sizeof(CUstreamBatchMemOpParams) == 48, "the size that the wire format is made for");

/* struct made - parameters for the driver, and what must go if it does not want them. */
struct made {
	CUgraphNodeParams p;
	void *extra[5];
	size_t bytes;
	struct hook *hook;
	uint64_t charge;
	uint64_t body_handles;
};

static uint64_t number(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

/* The context of a node: the one named, or the caller's. */
static int context(struct worker *w, CUcontext *ctx)
{
	struct wctx *c = *ctx ? context_find(w, number(*ctx)) : w->current;

	if (!c)
		return IDM_ERROR_INVALID_HANDLE;
	*ctx = c->real;
	return 0;
}

static int kernel(struct worker *w, const struct vgpu_node *v, const void *more, struct made *d)
{
	CUDA_KERNEL_NODE_PARAMS_v3 *k = &d->p.kernel;
	uint64_t h = number(k->func);
	bool is_kernel = VGPU_HANDLE_TYPE(h) == VGPU_H_KERNEL;
	void *f = worker_handle(w, h, is_kernel ? VGPU_H_KERNEL : VGPU_H_FUNCTION);

	if (!f || v->more > VGPU_PARAM_BYTES_MAX)
		return IDM_ERROR_INVALID_HANDLE;
	k->func = is_kernel ? NULL : f;
	k->kern = is_kernel ? f : NULL;
	d->bytes = v->more;
	d->extra[0] = CU_LAUNCH_PARAM_BUFFER_POINTER;
	d->extra[1] = (void *)more;
	d->extra[2] = CU_LAUNCH_PARAM_BUFFER_SIZE;
	d->extra[3] = &d->bytes;
	d->extra[4] = CU_LAUNCH_PARAM_END;
	k->kernelParams = NULL;
	k->extra = v->more ? d->extra : NULL;
	return context(w, &k->ctx);
}

/*
 * One side of a copy. An array is a handle; memory is checked from the first byte that is touched to the last. Pitch
 * and rows that mean nothing, because there is one row or slice, are told the driver so that it can only come to the same.
 */
static CUresult side(struct worker *w, CUmemorytype type, uint64_t at, CUarray *array, struct box_place *b,
		     const struct box_size *s)
{
	uint64_t first, bytes;

	if (type == CU_MEMORYTYPE_ARRAY) {
		*array = worker_handle(w, number(*array), VGPU_H_ARRAY);
		return *array ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
	}
	*array = NULL;
	if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED)
		return CUDA_ERROR_INVALID_VALUE;
	if (!box_extent(b, s, &first, &bytes) || __builtin_add_overflow(at, first, &at) || !address_ok(w, at, bytes))
		return CUDA_ERROR_INVALID_VALUE;
	if (b->pitch < b->x + s->width)
		b->pitch = b->x + s->width;
	if (b->rows < b->y + s->height)
		b->rows = b->y + s->height;
	return CUDA_SUCCESS;
}

static CUresult copy(struct worker *w, struct made *d)
{
	CUDA_MEMCPY3D *c = &d->p.memcpy.copyParams;
	const struct box_size size = { c->WidthInBytes, c->Height, c->Depth };
	struct box_place src = { c->srcPitch, c->srcHeight, c->srcXInBytes, c->srcY, c->srcZ };
	struct box_place dst = { c->dstPitch, c->dstHeight, c->dstXInBytes, c->dstY, c->dstZ };
	CUresult r;

	if (d->p.memcpy.flags || d->p.memcpy.reserved || c->srcLOD || c->dstLOD || c->reserved0 || c->reserved1)
		return CUDA_ERROR_INVALID_VALUE;
	r = side(w, c->srcMemoryType, c->srcMemoryType == CU_MEMORYTYPE_HOST ? number(c->srcHost) : c->srcDevice,
		 &c->srcArray, &src, &size);
	if (r == CUDA_SUCCESS)
		r = side(w, c->dstMemoryType, c->dstMemoryType == CU_MEMORYTYPE_HOST ? number(c->dstHost) : c->dstDevice,
			 &c->dstArray, &dst, &size);
	c->srcPitch = src.pitch;
	c->srcHeight = src.rows;
	c->dstPitch = dst.pitch;
	c->dstHeight = dst.rows;
	return r;
}

static CUresult set(struct worker *w, const CUDA_MEMSET_NODE_PARAMS_v2 *s)
{
	uint64_t row, rows, bytes;

	if ((s->elementSize != 1 && s->elementSize != 2 && s->elementSize != 4) || !s->width || !s->height ||
	    __builtin_mul_overflow(s->width, (uint64_t)s->elementSize, &row) || (s->height > 1 && s->pitch < row) ||
	    __builtin_mul_overflow(s->pitch, s->height - 1, &rows) || __builtin_add_overflow(rows, row, &bytes) ||
	    !address_ok(w, s->dst, bytes))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

/* Addresses in a list of memory operations. @return false if one is none of the session's */
bool graph_batch_ok(struct worker *w, const CUstreamBatchMemOpParams *ops, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		switch (ops[i].operation) {
		case CU_STREAM_MEM_OP_WAIT_VALUE_32:
		case CU_STREAM_MEM_OP_WRITE_VALUE_32:
			if (!address_ok(w, ops[i].waitValue.address, 4))
				return false;
			break;
		case CU_STREAM_MEM_OP_WAIT_VALUE_64:
		case CU_STREAM_MEM_OP_WRITE_VALUE_64:
			if (!address_ok(w, ops[i].waitValue.address, 8))
				return false;
			break;
		case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
		case CU_STREAM_MEM_OP_BARRIER:
			break;
		default:
			return false;
		}
	}
	return true;
}

static CUresult batch(struct worker *w, const struct vgpu_node *v, const void *more, struct made *d, int *err)
{
	CUDA_BATCH_MEM_OP_NODE_PARAMS_v2 *b = &d->p.memOp;

	if (!b->count || b->count > VGPU_BATCH_MAX || v->more != b->count * sizeof(*b->paramArray) ||
	    !graph_batch_ok(w, more, b->count))
		return CUDA_ERROR_INVALID_VALUE;
	b->paramArray = (CUstreamBatchMemOpParams *)more;
	*err = context(w, &b->ctx);
	return CUDA_SUCCESS;
}

static CUresult alloc(struct worker *w, const struct vgpu_node *v, const void *more, struct made *d)
{
	CUDA_MEM_ALLOC_NODE_PARAMS_v2 *a = &d->p.alloc;
	CUmemAccessDesc *descs = (CUmemAccessDesc *)more;
	CUresult r;

	if (!a->bytesize || a->accessDescCount > VGPU_DEVICES_MAX || v->more != a->accessDescCount * sizeof(*descs) ||
	    a->poolProps.handleTypes || a->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	a->poolProps.location.id = worker_device(w, a->poolProps.location.id);
	for (size_t i = 0; i < a->accessDescCount; i++)
		descs[i].location.id = worker_device(w, descs[i].location.id);
	a->accessDescs = descs;
	if (__builtin_add_overflow(a->bytesize, 511, &d->charge))
		return CUDA_ERROR_OUT_OF_MEMORY;
	d->charge &= ~511ull;
	/* As long as some graph has the memory it counts, whether a launch has it just now or not. */
	if (!memory_charge(w, d->charge)) {
		d->charge = 0;
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	d->hook = hook_memory(v->id, &r);
	if (!d->hook) {
		lease_uncharge(w, d->charge);
		d->charge = 0;
	}
	return r;
}

/* @return 0 or IDM_ERROR_*; *@r what the driver would say. */
static int translate(struct worker *w, const struct vgpu_node *v, const void *more, struct made *d, CUresult *r)
{
	struct handle *e;
	int err = 0;

	memset(d, 0, sizeof(*d));
	memcpy(&d->p, v->params, sizeof(d->p));
	*r = CUDA_SUCCESS;
	switch ((int)d->p.type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		return kernel(w, v, more, d);
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		*r = copy(w, d);
		return *r ? 0 : context(w, &d->p.memcpy.copyCtx);
	case CU_GRAPH_NODE_TYPE_MEMSET:
		*r = set(w, &d->p.memset);
		return *r ? 0 : context(w, &d->p.memset.ctx);
	case CU_GRAPH_NODE_TYPE_HOST:
		d->hook = hook_new(w, number(d->p.host.fn), number(d->p.host.userData), v->hook, r);
		d->p.host.fn = hook_run;
		d->p.host.userData = d->hook;
		return 0;
	case CU_GRAPH_NODE_TYPE_EMPTY:
		return 0;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		d->p.graph.graph = worker_handle(w, number(d->p.graph.graph), VGPU_H_GRAPH);
		return d->p.graph.graph ? 0 : IDM_ERROR_INVALID_HANDLE;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		e = object_find(w, number(d->p.eventWait.event), VGPU_H_EVENT);
		if (!e)
			return IDM_ERROR_INVALID_HANDLE;
		d->p.eventWait.event = e->object;
		return 0;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		*r = alloc(w, v, more, d);
		return 0;
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		if (!address_ok(w, d->p.free.dptr, 1))
			*r = CUDA_ERROR_INVALID_VALUE;
		return 0;
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		*r = batch(w, v, more, d, &err);
		return err;
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
		d->p.conditional.phGraph_out = NULL;
		return context(w, &d->p.conditional.ctx);
	default:
		*r = CUDA_ERROR_NOT_SUPPORTED;	/* what it holds is not known here */
		return 0;
	}
}

/* Of a copy's new parameters: what follows them. */
static const struct vgpu_node_half *half_of(const struct vgpu_node *v)
{
	return v->hook != VGPU_HOOK_PLAIN && v->more == sizeof(struct vgpu_node_half) ? (const void *)(v + 1) : NULL;
}

/* Nothing has come of parameters with which the client had sent a number. */
static void refused(struct worker *w, const struct vgpu_node *v)
{
	const CUgraphNodeParams *p = (const CUgraphNodeParams *)v->params;

	if (p->type == CU_GRAPH_NODE_TYPE_HOST)
		hook_refuse(w, number(p->host.fn));
	else if (p->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		hook_refuse(w, v->id);
	else if (p->type == CU_GRAPH_NODE_TYPE_MEMCPY && half_of(v))
		hook_refuse(w, half_of(v)->id);
}

static void discard(struct worker *w, struct made *d)
{
	if (d->hook)
		hook_drop(d->hook);
	lease_uncharge(w, d->charge);
}

/* Memory of a graph: the session's until no graph names it. */
CUresult graph_note_memory(struct worker *w, CUgraph graph, CUdeviceptr addr, uint64_t size, uint64_t charge,
			   struct hook *h)
{
	/* The graph has the memory and goes on to have it: then it stays charged. */
	if (memory_range_add(w, addr, size, RANGE_GRAPH, 0, charge)) {
		hook_drop(h);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return hook_keep_memory(h, graph, addr);
}

/* The node is there: names for it and what comes with it. */
static CUresult added(struct worker *w, const struct vgpu_graph_node *q, CUgraph graph, CUgraphNode node,
		      const uint64_t *bodies, struct made *d, struct vgpu_graph_node_reply *rp, int *err)
{
	CUresult r = CUDA_SUCCESS;

	if (d->p.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
		rp->address = d->p.alloc.dptr;
		r = graph_note_memory(w, graph, rp->address, d->p.alloc.bytesize, d->charge, d->hook);
	} else if (d->hook) {
		r = hook_keep(d->hook, graph);
	}
	*err = graph_enter_node(w, q->handle, node, q->graph);
	/* For its own copy of a graph, which may be asked for when that one is gone. */
	if (!*err && d->p.type == CU_GRAPH_NODE_TYPE_GRAPH && d->p.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE)
		hook_copy_holds(number(((CUgraphNodeParams *)q->node.params)->graph.graph), q->handle);
	if (d->p.type == CU_GRAPH_NODE_TYPE_GRAPH && d->p.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE)
		graph_moved(w, number(((CUgraphNodeParams *)q->node.params)->graph.graph), q->handle);
	for (uint32_t i = 0; !*err && d->p.type == CU_GRAPH_NODE_TYPE_CONDITIONAL && i < q->nbodies; i++)
		*err = graph_enter_graph(w, bodies[i], d->p.conditional.phGraph_out[i], q->handle);
	/* With what has been named of it, or is now part of it. */
	if ((*err || r != CUDA_SUCCESS) && D.cuGraphDestroyNode(node) == CUDA_SUCCESS)
		graph_forget_node(w, q->handle);
	return r;
}

CUresult graph_incomplete(struct worker *w, uint64_t graph)
{
	const struct handle *e = handle_find(&w->handles, graph, VGPU_H_GRAPH);

	return e ? (CUresult)e->failed : CUDA_SUCCESS;
}

static void not_added(struct worker *w, uint64_t graph, CUresult why)
{
	struct handle *e = handle_find(&w->handles, graph, VGPU_H_GRAPH);

	if (e && !e->failed)
		e->failed = why;
}

void worker_hand_graph_node(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_node *q = m->payload;
	struct vgpu_graph_node_reply rp = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	const uint64_t *handles, *bodies;
	const CUgraphEdgeData *edges;
	CUgraphNode *deps = NULL, node = NULL;
	bool taken = false;
	struct made d;
	void *graph;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (q->nbodies > VGPU_GRAPH_BODIES_MAX ||
	    !payload_ends(m, sizeof(*q), 16ull * q->ndeps + 8ull * q->nbodies + q->node.more)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	handles = (const uint64_t *)(q + 1);
	edges = (const CUgraphEdgeData *)(handles + q->ndeps);
	bodies = (const uint64_t *)(edges + q->ndeps);
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, VGPU_H_GRAPHNODE);
	for (uint32_t i = 0; !err && i < q->nbodies; i++)
		err = worker_handle_free(w, bodies[i], VGPU_H_GRAPH);
	if (err || !D.cuGraphAddNode_v2)
		goto out;
	graph = worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err)
		deps = graph_nodes(w, handles, q->ndeps, true, &err);
	if (err)
		goto out;
	err = translate(w, &q->node, bodies + q->nbodies, &d, &r);
	if (!err && r == CUDA_SUCCESS && d.p.type == CU_GRAPH_NODE_TYPE_GRAPH)
		r = graph_incomplete(w, number(((const CUgraphNodeParams *)q->node.params)->graph.graph));
	if (!err && r == CUDA_SUCCESS && d.p.type == CU_GRAPH_NODE_TYPE_CONDITIONAL && d.p.conditional.size != q->nbodies)
		r = CUDA_ERROR_INVALID_VALUE;
	if (!err && r == CUDA_SUCCESS) {
		r = D.cuGraphAddNode_v2(&node, graph, deps, edges, q->ndeps, &d.p);
		if (r == CUDA_SUCCESS) {
			taken = true;
			r = added(w, q, graph, node, bodies, &d, &rp, &err);
		} else {
			taken = d.hook;
			discard(w, &d);
		}
	}
out:
	if ((err || r != CUDA_SUCCESS) && !taken)
		refused(w, &q->node);
	if ((err || r != CUDA_SUCCESS) && m->header.flags & IDM_FLAG_POSTED)
		not_added(w, q->graph, err ? CUDA_ERROR_INVALID_HANDLE : r);
	free(deps);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

static CUresult set_params(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *p)
{
	return exec ? D.cuGraphExecNodeSetParams(exec, node, p) : D.cuGraphNodeSetParams(node, p);
}

/*
 * A copy, whose other half must come along if it has one, and only then. When the copy's parameters are right the half's
 * are; if the driver refuses them all the same, the half's hook stays, with the client's buffer, which the copy uses.
 */
static CUresult set_copy(struct worker *w, const struct vgpu_graph_set *q, CUgraphNode node, CUgraphExec exec, struct made *d,
			 bool *taken)
{
	CUgraphNode before = graph_hidden(node, false), after = before ? NULL : graph_hidden(node, true);
	enum vgpu_hook kind = before ? VGPU_HOOK_BEFORE : after ? VGPU_HOOK_AFTER : VGPU_HOOK_PLAIN;
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_HOST, .host.fn = hook_run };
	CUgraph graph = worker_handle(w, graph_of_node(w, q->handle), VGPU_H_GRAPH);
	const struct vgpu_node_half *half = half_of(&q->node);
	struct hook *h;
	CUresult r;

	if (kind != q->node.hook)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (kind == VGPU_HOOK_PLAIN)
		return set_params(exec, node, &d->p);
	h = half ? hook_new(w, half->id, half->ack, kind, &r) : NULL;
	if (!h)
		return half ? r : CUDA_ERROR_INVALID_VALUE;
	*taken = true;
	r = exec ? CUDA_SUCCESS : hook_keep(h, graph);
	if (r != CUDA_SUCCESS)
		return r;
	r = set_params(exec, node, &d->p);
	if (r != CUDA_SUCCESS && exec)
		hook_drop(h);
	else if (r != CUDA_SUCCESS)
		hook_unkeep(h, graph);
	if (r != CUDA_SUCCESS)
		return r;
	p.host.userData = h;
	r = set_params(exec, before ? before : after, &p);
	if (r == CUDA_SUCCESS && exec)
		hook_leave(h, exec, before ? before : after);
	return r;
}

void worker_hand_graph_set(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_set *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *node, *exec = NULL, *graph = NULL;
	bool taken = false;
	struct made d;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (!payload_ends(m, sizeof(*q), q->node.more)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	err = worker_enter(w, &q->call);
	if (err || !D.cuGraphNodeSetParams || !D.cuGraphExecNodeSetParams)
		goto out;
	node = worker_handle(w, q->handle, VGPU_H_GRAPHNODE);
	if (q->exec)
		exec = worker_handle(w, q->exec, VGPU_H_GRAPHEXEC);
	if (!node || (q->exec && !exec)) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	err = translate(w, &q->node, q + 1, &d, &r);
	if (err || r != CUDA_SUCCESS)
		goto out;
	if (d.p.type == CU_GRAPH_NODE_TYPE_MEMCPY) {
		r = set_copy(w, q, node, exec, &d, &taken);
		goto out;
	}
	taken = d.hook;
	if (d.hook && !exec) {
		graph = worker_handle(w, graph_of_node(w, q->handle), VGPU_H_GRAPH);
		r = hook_keep(d.hook, graph);
	}
	if (r == CUDA_SUCCESS)
		r = set_params(exec, node, &d.p);
	else
		d.hook = NULL;
	lease_uncharge(w, d.charge);	/* memory nodes do not change */
	if (d.hook && r == CUDA_SUCCESS && exec)
		hook_leave(d.hook, exec, node);
	else if (d.hook && r != CUDA_SUCCESS && exec)
		hook_drop(d.hook);
	else if (d.hook && r != CUDA_SUCCESS)
		hook_unkeep(d.hook, graph);
out:
	if ((err || r != CUDA_SUCCESS) && !taken)
		refused(w, &q->node);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
