// SPDX-License-Identifier: Apache-2.0
/*
 * Stream capture. While one is under way, streams that capture must not be asked whether they are idle (that would
 * end the capture), so context.c asks capture_active() first. The driver is always told to capture in the relaxed mode:
 * one thread of the worker speaks for all of the client's, and the modes are about threads.
 */
#include "worker.h"

static unsigned int captures;

bool capture_active(CUstream s)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	return captures && D.cuStreamIsCapturing && D.cuStreamIsCapturing(s, &status) == CUDA_SUCCESS &&
	       status != CU_STREAM_CAPTURE_STATUS_NONE;
}

void worker_hand_cuStreamBeginCapture_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuStreamBeginCapture_v2 *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct wstream *s;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->hStream, &s);
	if (!err && D.cuStreamBeginCapture_v2)
		r = D.cuStreamBeginCapture_v2(s->real, CU_STREAM_CAPTURE_MODE_RELAXED);
	if (!err && r == CUDA_SUCCESS)
		captures++;
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuStreamEndCapture(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuStreamEndCapture *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraph graph = NULL;
	struct wstream *s;
	bool was;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->hStream, &s);
	if (!err)
		err = worker_handle_free(w, q->phGraph, VGPU_H_GRAPH);
	if (err || !D.cuStreamEndCapture)
		goto out;
	was = capture_active(s->real);
	r = D.cuStreamEndCapture(s->real, &graph);
	if (was && !capture_active(s->real))
		captures--;
	if (r == CUDA_SUCCESS && graph)
		err = worker_handle_add(w, q->phGraph, VGPU_H_GRAPH, graph);
	else if (r == CUDA_SUCCESS)
		r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_graph_nodes(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_nodes *q = m->payload;
	struct vgpu_graph_nodes_reply rp = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	size_t n = 0;
	void *graph;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	graph = err ? NULL : worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!err && !graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && D.cuGraphGetNodes)
		r = D.cuGraphGetNodes(graph, NULL, &n);
	rp.count = n;
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

/* Why an update failed is an answer too. */
void worker_hand_graph_update(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_update *q = m->payload;
	struct vgpu_graph_update_reply rp = { 0 };
	CUgraphExecUpdateResultInfo info = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *exec = NULL, *graph = NULL;
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
	if (!err && D.cuGraphExecUpdate_v2)
		r = D.cuGraphExecUpdate_v2(exec, graph, &info);
	rp.result = info.result;
	worker_reply_always(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

/* --- explicit nodes ------------------------------------------------------------------------------------------------ */

static bool is_node_of(struct handle *e, void *arg)
{
	return VGPU_HANDLE_TYPE(e->value) == VGPU_H_GRAPHNODE && e->parent == *(const uint64_t *)arg;
}

void worker_hand_cuGraphDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphDestroy *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	uint64_t handle;
	void *graph;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err) {
		handle = q->hGraph;
		graph = worker_handle_del(w, handle, VGPU_H_GRAPH);
		if (!graph)
			err = IDM_ERROR_INVALID_HANDLE;
		else if (D.cuGraphDestroy)
			r = D.cuGraphDestroy(graph);
		if (graph)
			handle_purge(&w->handles, is_node_of, &handle);
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

static bool span_ok(struct worker *w, uint64_t at, uint64_t pitch, uint64_t slice, const struct vgpu_graph_node *q)
{
	uint64_t rows, slices, bytes;

	if (!q->width || !q->height || !q->depth)
		return false;
	if (q->height > 1 && pitch < q->width)
		return false;
	return !__builtin_mul_overflow(pitch, (uint64_t)q->height - 1, &rows) &&
	       !__builtin_mul_overflow(slice, (uint64_t)q->depth - 1, &slices) &&
	       !__builtin_add_overflow(rows, slices, &bytes) && !__builtin_add_overflow(bytes, q->width, &bytes) &&
	       address_ok(w, at, bytes);
}

static CUresult add_kernel(struct worker *w, const struct vgpu_graph_node *q, void *f, const void *params, CUgraph graph,
			   const CUgraphNode *deps, CUgraphNode *out)
{
	size_t bytes = q->param_bytes;
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, (void *)params, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
			  CU_LAUNCH_PARAM_END };
	CUDA_KERNEL_NODE_PARAMS_v2 p = {
		.gridDimX = q->grid[0], .gridDimY = q->grid[1], .gridDimZ = q->grid[2],
		.blockDimX = q->block[0], .blockDimY = q->block[1], .blockDimZ = q->block[2],
		.sharedMemBytes = q->shared, .extra = bytes ? extra : NULL,
	};

	if (VGPU_HANDLE_TYPE(q->function) == VGPU_H_KERNEL)
		p.kern = f;
	else
		p.func = f;
	return D.cuGraphAddKernelNode_v2 ? D.cuGraphAddKernelNode_v2(out, graph, deps, q->ndeps, &p) :
					   CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult add_copy(struct worker *w, const struct vgpu_graph_node *q, CUgraph graph, const CUgraphNode *deps,
			 CUgraphNode *out)
{
	CUDA_MEMCPY3D c = {
		.srcMemoryType = CU_MEMORYTYPE_UNIFIED, .srcDevice = q->src, .srcPitch = q->src_pitch,
		.srcHeight = q->src_height, .dstMemoryType = CU_MEMORYTYPE_UNIFIED, .dstDevice = q->dst,
		.dstPitch = q->dst_pitch, .dstHeight = q->dst_height, .WidthInBytes = q->width, .Height = q->height,
		.Depth = q->depth,
	};
	uint64_t src_slice, dst_slice;

	if (__builtin_mul_overflow(q->src_pitch, q->src_height, &src_slice) ||
	    __builtin_mul_overflow(q->dst_pitch, q->dst_height, &dst_slice) ||
	    !span_ok(w, q->src, q->src_pitch, src_slice, q) || !span_ok(w, q->dst, q->dst_pitch, dst_slice, q))
		return CUDA_ERROR_INVALID_VALUE;
	return D.cuGraphAddMemcpyNode ? D.cuGraphAddMemcpyNode(out, graph, deps, q->ndeps, &c, w->current->real) :
					CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult add_set(struct worker *w, const struct vgpu_graph_node *q, CUgraph graph, const CUgraphNode *deps,
			CUgraphNode *out)
{
	struct vgpu_graph_node bytes = *q;
	CUDA_MEMSET_NODE_PARAMS p = { .dst = q->dst, .pitch = q->dst_pitch, .value = q->value,
				      .elementSize = q->element, .width = q->width, .height = q->height };

	bytes.depth = 1;
	if ((q->element != 1 && q->element != 2 && q->element != 4) ||
	    __builtin_mul_overflow(q->width, (uint64_t)q->element, &bytes.width) ||
	    !span_ok(w, q->dst, q->dst_pitch, 0, &bytes))
		return CUDA_ERROR_INVALID_VALUE;
	return D.cuGraphAddMemsetNode ? D.cuGraphAddMemsetNode(out, graph, deps, q->ndeps, &p, w->current->real) :
					CUDA_ERROR_NOT_SUPPORTED;
}

void worker_hand_graph_node(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_node *q = m->payload;
	CUgraphNode deps[VGPU_GRAPH_DEPS_MAX], node = NULL;
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	void *graph, *f = NULL;
	const uint64_t *from;
	struct handle *e;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (q->ndeps > VGPU_GRAPH_DEPS_MAX || q->param_bytes > VGPU_PARAM_BYTES_MAX ||
	    !payload_ends(m, sizeof(*q) + q->ndeps * sizeof(uint64_t), q->param_bytes)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	from = (const uint64_t *)(q + 1);
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->node, VGPU_H_GRAPHNODE);
	if (err)
		goto out;
	err = IDM_ERROR_INVALID_HANDLE;
	graph = worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!graph || !w->current)
		goto out;
	for (uint32_t i = 0; i < q->ndeps; i++) {
		deps[i] = worker_handle(w, from[i], VGPU_H_GRAPHNODE);
		if (!deps[i])
			goto out;
	}
	if (q->kind == VGPU_NODE_KERNEL) {
		f = worker_handle(w, q->function, VGPU_HANDLE_TYPE(q->function) == VGPU_H_KERNEL ? VGPU_H_KERNEL :
						  VGPU_H_FUNCTION);
		if (!f)
			goto out;
	}
	err = 0;
	switch (q->kind) {
	case VGPU_NODE_KERNEL:
		r = add_kernel(w, q, f, from + q->ndeps, graph, deps, &node);
		break;
	case VGPU_NODE_COPY:
		r = add_copy(w, q, graph, deps, &node);
		break;
	case VGPU_NODE_SET:
		r = add_set(w, q, graph, deps, &node);
		break;
	case VGPU_NODE_EMPTY:
		r = D.cuGraphAddEmptyNode ? D.cuGraphAddEmptyNode(&node, graph, deps, q->ndeps) : CUDA_ERROR_NOT_SUPPORTED;
		break;
	}
	if (r == CUDA_SUCCESS) {
		err = worker_handle_add(w, q->node, VGPU_H_GRAPHNODE, node);
		e = err ? NULL : object_find(w, q->node, VGPU_H_GRAPHNODE);
		if (e)
			e->parent = q->graph;
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
