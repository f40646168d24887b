// SPDX-License-Identifier: Apache-2.0
/* Graphs as objects: executable ones, updates, and the end. */
#include <stdlib.h>

#include "graph.h"
#include "launch_attributes.h"

void worker_hand_cuGraphDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphDestroy *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *graph;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	graph = err ? NULL : worker_handle(w, q->hGraph, VGPU_H_GRAPH);
	if (!err && !graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && D.cuGraphDestroy)
		r = D.cuGraphDestroy(graph);
	/* Nobody waits for a posted one, so its handle is free for the client in any case. */
	if (!err && (r == CUDA_SUCCESS || m->header.flags & IDM_FLAG_POSTED))
		graph_forget(w, q->hGraph);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* The client has a handle of it, if it made the node and not a capture. */
static void destroy_hidden(struct worker *w, CUgraphNode node)
{
	uint64_t handle = graph_node_known(node);

	if (D.cuGraphDestroyNode(node) == CUDA_SUCCESS && handle)
		graph_forget_node(w, handle);
}

void worker_hand_cuGraphDestroyNode(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphDestroyNode *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraphNode before, after;
	void *node;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	node = err ? NULL : worker_handle(w, q->hNode, VGPU_H_GRAPHNODE);
	if (!err && !node)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && D.cuGraphDestroyNode) {
		before = graph_hidden(node, false);
		after = graph_hidden(node, true);
		r = D.cuGraphDestroyNode(node);
		if (r == CUDA_SUCCESS && before)
			destroy_hidden(w, before);
		if (r == CUDA_SUCCESS && after)
			destroy_hidden(w, after);
	}
	if (!err && r == CUDA_SUCCESS)
		graph_forget_node(w, q->hNode);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuGraphCreate(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphCreate *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraph graph;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->phGraph, VGPU_H_GRAPH);
	if (!err && D.cuGraphCreate)
		r = D.cuGraphCreate(&graph, q->flags);
	if (!err && r == CUDA_SUCCESS)
		err = graph_enter_graph(w, q->phGraph, graph, 0);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuGraphClone(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphClone *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *original = NULL;
	CUgraph graph;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->phGraphClone, VGPU_H_GRAPH);
	if (!err) {
		original = worker_handle(w, q->originalGraph, VGPU_H_GRAPH);
		err = original ? 0 : IDM_ERROR_INVALID_HANDLE;
	}
	if (!err && D.cuGraphClone)
		r = graph_incomplete(w, q->originalGraph);
	if (!err && D.cuGraphClone && r == CUDA_SUCCESS)
		r = D.cuGraphClone(&graph, original);
	if (!err && r == CUDA_SUCCESS)
		err = graph_enter_graph(w, q->phGraphClone, graph, 0);
	if (!err && r == CUDA_SUCCESS)
		hook_copy_holds(q->originalGraph, q->phGraphClone);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* Which node is to blame, as the client knows it. */
static uint64_t blamed(struct worker *w, CUgraphNode node, uint64_t graph, struct fresh *f, uint32_t *type)
{
	CUgraphNodeType t = 0;

	if (!node)
		return 0;
	node = graph_visible(node);
	if (D.cuGraphNodeGetType)
		D.cuGraphNodeGetType(node, &t);
	*type = t;
	return graph_name_node(w, node, graph, f);
}

/* Does @graph allocate or free memory? */
static bool has_memory(CUgraph graph)
{
	CUgraphNode *nodes;
	CUgraphNodeType type;
	bool found = false;
	CUgraph child;
	size_t n = 0;

	if (D.cuGraphGetNodes(graph, NULL, &n) != CUDA_SUCCESS || !n)
		return false;
	nodes = calloc(n, sizeof(*nodes));
	if (!nodes || D.cuGraphGetNodes(graph, nodes, &n) != CUDA_SUCCESS)
		n = 0;
	for (size_t i = 0; i < n && !found; i++) {
		if (D.cuGraphNodeGetType(nodes[i], &type) != CUDA_SUCCESS)
			continue;
		if (type == CU_GRAPH_NODE_TYPE_GRAPH && D.cuGraphChildGraphNodeGetGraph(nodes[i], &child) == CUDA_SUCCESS)
			found = has_memory(child);
		else
			found = type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || type == CU_GRAPH_NODE_TYPE_MEM_FREE;
	}
	free(nodes);
	return found;
}

/* Why there can be no executable graph is an answer too. */
void worker_hand_graph_instantiate(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_instantiate *q = m->payload;
	struct vgpu_graph_instantiate_reply rp = { 0 };
	CUDA_GRAPH_INSTANTIATE_PARAMS p = { 0 };
	struct fresh f;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraphExec exec = NULL;
	void *stream = NULL, *graph;
	struct life *life = NULL;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->exec, VGPU_H_GRAPHEXEC);
	graph = err ? NULL : worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!err && !graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && q->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD)
		err = worker_stream(w, &q->call, q->stream, &stream);
	if (!err && graph_incomplete(w, q->graph)) {
		r = graph_incomplete(w, q->graph);
		rp.result = CUDA_GRAPH_INSTANTIATE_ERROR;
	} else if (!err && D.cuGraphInstantiateWithParams) {
		p.flags = q->flags;
		p.hUploadStream = stream;
		r = hook_exec_begin(graph, &life);
		if (r == CUDA_SUCCESS)
			r = D.cuGraphInstantiateWithParams(&exec, graph, &p);
		else
			p.result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
		hook_exec_end(life, graph, r == CUDA_SUCCESS ? exec : NULL);
		f = (struct fresh){ .handles = &q->fresh, .n = 1 };
		rp.result = p.result_out;
		rp.node = blamed(w, p.hErrNode_out, q->graph, &f, &rp.type);
	}
	if (!err && r == CUDA_SUCCESS) {
		err = worker_handle_add(w, q->exec, VGPU_H_GRAPHEXEC, exec);
		rp.memory = hook_memories() && has_memory(graph);
	}
	worker_reply_always(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_graph_update(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_update *q = m->payload;
	struct vgpu_graph_update_reply rp = { 0 };
	CUgraphExecUpdateResultInfo info = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *exec = NULL, *graph = NULL;
	struct fresh f;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err) {
		exec = worker_handle(w, q->exec, VGPU_H_GRAPHEXEC);
		graph = worker_handle(w, q->graph, VGPU_H_GRAPH);
		if (!exec || !graph)
			err = IDM_ERROR_INVALID_HANDLE;
	}
	if (!err && graph_incomplete(w, q->graph)) {
		r = graph_incomplete(w, q->graph);
		info.result = CU_GRAPH_EXEC_UPDATE_ERROR;
	} else if (!err && D.cuGraphExecUpdate_v2) {
		r = D.cuGraphExecUpdate_v2(exec, graph, &info);
		f = (struct fresh){ .handles = q->fresh, .n = 2 };
		rp.node = blamed(w, info.errorNode, q->graph, &f, &rp.type);
		rp.from = blamed(w, info.errorFromNode, q->graph, &f, &rp.from_type);
	}
	rp.result = info.result;
	worker_reply_always(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_batch(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_batch *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUstreamBatchMemOpParams *ops;
	void *stream;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (q->count > VGPU_BATCH_MAX || !payload_ends(m, sizeof(*q), q->count * sizeof(*ops))) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	ops = (CUstreamBatchMemOpParams *)(q + 1);
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_stream(w, &q->call, q->stream, &stream);
	if (!err && D.cuStreamBatchMemOp_v2)
		r = graph_batch_ok(w, ops, q->count) ? D.cuStreamBatchMemOp_v2(stream, q->count, ops, q->flags) :
						       CUDA_ERROR_INVALID_VALUE;
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuGraphKernelNodeSetAttribute(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphKernelNodeSetAttribute *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *node;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	node = err ? NULL : worker_handle(w, q->hNode, VGPU_H_GRAPHNODE);
	if (!err && !node)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && D.cuGraphKernelNodeSetAttribute)
		r = launch_attribute_is_plain(q->attr) ? D.cuGraphKernelNodeSetAttribute(node, q->attr, &q->value) :
							 CUDA_ERROR_INVALID_VALUE;
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
