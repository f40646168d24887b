// SPDX-License-Identifier: Apache-2.0
/* Executable graphs: made, launched, ended. */
#include <stdlib.h>
#include <string.h>

#include "both.h"
#include "graph.h"

CUresult sg_exec_check(CUgraphExec h, struct sg_exec **out)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*out = sg_object_check(&sg_exec_table, h);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Memory nodes anywhere in @g? */
static bool has_memory(const struct sg_graph *g)
{
	if (g->memory_nodes)
		return true;
	for (const struct sg_node *n = g->first; n; n = n->next)
		if (n->child && has_memory(n->child))
			return true;
	return false;
}

/* An executable graph of @g. @bad: the node for which there can be none */
static CUresult make(struct sg_graph *g, cuuint64_t flags, struct sg_exec **out, struct sg_node **bad)
{
	struct sg_node **order = sg_graph_order(g, bad), *in_copy;
	bool memory = has_memory(g);
	struct sg_exec *x;

	if (!order)
		return *bad ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
	free(order);
	for (struct sg_node *n = g->first; n; n = n->next) {
		struct sg_node **inner = n->child ? sg_graph_order(n->child, bad) : NULL;

		free(inner);
		if (n->child && !inner)
			return *bad ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
		for (unsigned int i = 0; n->bodies && i < n->params.conditional.size; i++) {
			inner = sg_graph_order(n->bodies[i], bad);
			free(inner);
			if (!inner)
				return *bad ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	/* Of a graph with memory of its own there is one at a time. */
	if (memory && g->instances)
		return CUDA_ERROR_NOT_SUPPORTED;
	x = sg_object_new(&sg_exec_table);
	if (!x)
		return CUDA_ERROR_OUT_OF_MEMORY;
	x->graph = sg_graph_copy(g, true);
	x->order = x->graph ? sg_graph_order(x->graph, &in_copy) : NULL;
	if (!x->order) {
		if (x->graph)
			sg_graph_free(x->graph);
		sg_object_put(&sg_exec_table, x);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	x->source = g;
	x->flags = flags;
	x->memory = memory;
	g->instances += memory;
	atomic_store_explicit(&x->object.live, sg_exec_table.magic, memory_order_release);
	*out = x;
	return CUDA_SUCCESS;
}

static CUresult instantiate(CUgraphExec *out, CUgraph graph, cuuint64_t flags, CUgraphInstantiateResult *why,
			    CUgraphNode *where)
{
	struct sg_graph *g = sg_graph_check(graph);
	struct sg_node *bad = NULL;
	struct sg_exec *x;
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*why = CUDA_GRAPH_INSTANTIATE_ERROR;
	if (!out || !g || g->capture ||
	    flags & ~(cuuint64_t)(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
				  CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) ||
	    (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH && flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH))
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)	/* kernels here launch nothing */
		return CUDA_ERROR_NOT_SUPPORTED;
	if (sg_cond_unused(g)) {
		*why = CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED;
		return CUDA_ERROR_INVALID_VALUE;
	}
	e = make(g, flags, &x, &bad);
	if (bad) {
		*why = CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
		*where = (CUgraphNode)bad;
	}
	if (e)
		return e;
	*why = CUDA_GRAPH_INSTANTIATE_SUCCESS;
	*out = (CUgraphExec)x;
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags)
{
	CUgraphInstantiateResult why;
	CUgraphNode where;

	/* Uploading takes a stream, which this form has no place for. */
	if (sg_devices && flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD)
		return CUDA_ERROR_INVALID_VALUE;
	return instantiate(out, graph, flags, &why, &where);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
	CUgraphInstantiateResult why;
	CUgraphNode where = NULL;
	CUresult e = instantiate(out, graph, 0, &why, &where);

	if (error)
		*error = where;
	if (log && size) {
		static const char text[] = "the graph has a cycle";

		log[0] = '\0';
		if (where && size >= sizeof(text))
			memcpy(log, text, sizeof(text));
	}
	return e;
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
	return cuGraphInstantiate_v2(out, graph, error, log, size);
}

BOTH(cuGraphInstantiateWithParams, (CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params),
     (out, graph, params, ptds))
{
	struct sg_stream *s;
	CUresult e;

	if (!params)
		return sg_devices ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_INITIALIZED;
	params->hErrNode_out = NULL;
	params->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
	e = params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD ? sg_stream_of(params->hUploadStream, ptds, &s) : CUDA_SUCCESS;
	return e ? e : instantiate(out, graph, params->flags, &params->result_out, &params->hErrNode_out);
}

CUresult cuGraphExecGetFlags(CUgraphExec exec, cuuint64_t *flags)
{
	struct sg_exec *x;
	CUresult e = sg_exec_check(exec, &x);

	if (e || !flags)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*flags = x->flags & ~(cuuint64_t)CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
	return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	struct sg_exec *x;
	CUresult e = sg_exec_check(exec, &x);

	if (e)
		return e;
	if (x->memory && sg_graph_check(x->source) && x->source->instances)
		x->source->instances--;
	atomic_store(&x->object.live, 0);
	free(x->order);
	if (x->last)
		sg_object_put(&sg_stream_table, x->last);
	sg_graph_free(x->graph);	/* launches under way still have it */
	sg_object_put(&sg_exec_table, x);
	return CUDA_SUCCESS;
}

/* --- launching ------------------------------------------------------------------------------------------------------ */

BOTH(cuGraphUpload, (CUgraphExec exec, CUstream stream), (exec, stream, ptds))
{
	struct sg_stream *s;
	struct sg_exec *x;
	CUresult e = sg_exec_check(exec, &x);

	return e ? e : sg_stream_of(stream, ptds, &s);
}

/* @return its number in the stream */
static uint64_t queue_call(struct sg_stream *s, enum sg_op_type type, void (*fn)(struct sg_stream *s, void *arg), void *arg)
{
	struct sg_op *op = sg_queue_begin(s, type, 0);
	uint64_t seq = atomic_load_explicit(&s->enqueued, memory_order_relaxed) + 1;

	op->u.call.fn = fn;
	op->u.call.arg = arg;
	sg_queue_end(s, op, true);
	return seq;
}

static void release(struct sg_stream *s, void *graph)
{
	sg_object_put(&sg_graph_table, graph);
}

static void queue_graph(struct sg_graph *g, struct sg_node **order, struct sg_stream *s)
{
	for (size_t i = 0; i < g->count; i++) {
		struct sg_node *n = order[i], *bad;
		struct sg_op *op;

		if (n->disabled)
			continue;
		switch (n->type) {
		case CU_GRAPH_NODE_TYPE_GRAPH: {
			struct sg_node **inner = sg_graph_order(n->child, &bad);

			if (inner)
				queue_graph(n->child, inner, s);
			free(inner);
			break;
		}
		case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
			if (sg_object_check(&sg_event_table, n->params.eventRecord.event))
				sg_event_record((struct sg_event *)n->params.eventRecord.event, s);
			break;
		case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
			if (sg_object_check(&sg_event_table, n->params.eventWait.event))
				sg_event_wait((struct sg_event *)n->params.eventWait.event, s);
			break;
		case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
			cuStreamBatchMemOp_v2((CUstream)s, n->params.memOp.count, n->params.memOp.paramArray, 0);
			break;
		case CU_GRAPH_NODE_TYPE_CONDITIONAL:
			queue_call(s, SG_OP_CALL, sg_cond_execute, n);
			break;
		default:
			if (!n->op)
				break;
			op = sg_queue_begin(s, (enum sg_op_type)n->op->type, n->bytes - sizeof(*op));
			sg_copy_op(op, n->op, n->bytes);
			sg_queue_end(s, op, false);
		}
	}
}

/* What this launch has and gives back of the graph's memory. */
static CUresult memory(struct sg_graph *g, struct sg_node **order, bool again)
{
	for (size_t i = 0; i < g->count; i++) {
		struct sg_node *n = order[i], *bad;

		if (n->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && !sg_graph_memory_take(n->memory, again))
			return CUDA_ERROR_INVALID_VALUE;
		if (n->type == CU_GRAPH_NODE_TYPE_MEM_FREE && !sg_graph_memory_give(n->memory))
			return CUDA_ERROR_INVALID_VALUE;
		if (n->child && has_memory(n->child)) {
			struct sg_node **inner = sg_graph_order(n->child, &bad);
			CUresult e = inner ? memory(n->child, inner, again) : CUDA_ERROR_OUT_OF_MEMORY;

			free(inner);
			if (e)
				return e;
		}
	}
	return CUDA_SUCCESS;
}

/* An executable graph is never under way twice: in another stream the next launch waits for the last one. */
static void in_turn(struct sg_exec *x, struct sg_stream *s)
{
	struct sg_op *op;

	if (x->last == s)
		return;
	sg_object_get(s);
	if (x->last) {
		op = sg_queue_begin(s, SG_OP_WAIT, 0);
		op->u.wait.stream = x->last;	/* with its reference */
		op->u.wait.seq = x->last_seq;
		sg_queue_end(s, op, false);
	}
	x->last = s;
}

static bool has_condition(const struct sg_graph *g)
{
	for (const struct sg_node *n = g->first; n; n = n->next)
		if (n->bodies)
			return true;
	return false;
}

BOTH(cuGraphLaunch, (CUgraphExec exec, CUstream stream), (exec, stream, ptds))
{
	struct sg_stream *s;
	struct sg_exec *x;
	CUresult e = sg_exec_check(exec, &x);

	if (!e)
		e = sg_stream_of(stream, ptds, &s);
	if (e)
		return e;
	if (sg_capturing(s)) {
		sg_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	if (x->memory) {
		e = memory(x->graph, x->order, x->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
		if (e)
			return e;
	}
	sg_object_get(x->graph);
	in_turn(x, s);
	if (has_condition(x->graph))
		queue_call(s, SG_OP_CALL, sg_cond_reset, x->graph);
	queue_graph(x->graph, x->order, s);
	x->last_seq = queue_call(s, SG_OP_RELEASE, release, x->graph);
	return CUDA_SUCCESS;
}

void sg_graph_run(struct sg_stream *s, struct sg_graph *g)
{
	struct sg_node *bad, **order = sg_graph_order(g, &bad);

	for (size_t i = 0; order && i < g->count; i++) {
		struct sg_node *n = order[i];

		if (n->disabled)
			continue;
		if (n->child)
			sg_graph_run(s, n->child);
		else if (n->bodies)
			sg_cond_execute(s, n);
		else if (n->op)
			sg_execute(s, n->op);
	}
	free(order);
}
