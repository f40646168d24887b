// SPDX-License-Identifier: Apache-2.0
/*
 * Stream capture. While one is under way, streams that capture must not be asked whether they are idle (that would
 * end the capture), so context.c asks capture_active() first. The driver is always told to capture in the relaxed mode:
 * one thread of the worker speaks for all of the client's, and the modes are about threads. The shim enforces them.
 */
#include <stdlib.h>

#include "graph.h"

/* Not less than there are: streams that have joined in may go on when the one where a capture began is destroyed. */
static unsigned int captures;

/* struct capturing - a capture, by the stream where it began: the graph is the driver's until it ends well. */
static struct capturing {
	CUstream stream;
	const struct wctx *ctx;
	CUgraph graph;
	bool into;		/* a graph of the client's */
	struct capturing *next;
} *list;

bool capture_forbids(CUstream s)
{
	CUstreamCaptureStatus status;

	return captures && D.cuStreamIsCapturing &&
	       D.cuStreamIsCapturing(s, &status) == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
}

bool capture_active(CUstream s)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	return captures && D.cuStreamIsCapturing && D.cuStreamIsCapturing(s, &status) == CUDA_SUCCESS &&
	       status != CU_STREAM_CAPTURE_STATUS_NONE;
}

CUgraph capture_graph(CUstream s)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	const CUgraphEdgeData *data;
	const CUgraphNode *nodes;
	CUgraph graph = NULL;
	cuuint64_t id;
	size_t n;

	if (!captures || !D.cuStreamGetCaptureInfo_v3 ||
	    D.cuStreamGetCaptureInfo_v3(s, &status, &id, &graph, &nodes, &data, &n) != CUDA_SUCCESS)
		return NULL;
	return status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? graph : NULL;
}

static void begun(const struct wstream *stream, bool into)
{
	CUstream s = stream->real;
	struct capturing *c = calloc(1, sizeof(*c));

	captures++;
	if (!c)
		return;
	*c = (struct capturing){ .stream = s, .ctx = stream->ctx, .graph = capture_graph(s), .into = into,
				 .next = list };
	list = c;
}

/* It is over. Names that it had meanwhile are void if there is no graph. */
static void over(struct worker *w, struct capturing **p, bool well)
{
	struct capturing *c = *p;
	uint64_t name = !well && !c->into && c->graph ? graph_known(c->graph) : 0;

	*p = c->next;
	if (name)
		graph_forget(w, name);
	free(c);
}

static struct capturing **find(CUstream s)
{
	struct capturing **p;

	for (p = &list; *p && (*p)->stream != s; p = &(*p)->next)
		;
	return p;
}

void capture_stream_ends(struct worker *w, CUstream s)
{
	struct capturing **p = find(s);

	if (*p)
		over(w, p, false);
}

void capture_context_ends(struct worker *w, const struct wctx *ctx)
{
	struct capturing **p = &list;

	while (*p) {
		if ((*p)->ctx == ctx)
			over(w, p, false);
		else
			p = &(*p)->next;
	}
}

/*
 * A driver may keep a context in which something captures, or what a capture has made so far. Ours are relaxed, so that any
 * thread can end them.
 */
void capture_context_settle(struct worker *w, const struct wctx *ctx)
{
	struct capturing **p = &list;

	while (*p) {
		const struct wctx *c = (*p)->ctx;
		CUstream s = (*p)->stream;
		bool into = (*p)->into;
		CUgraph graph = NULL;

		if (c != ctx && c->root != ctx) {
			p = &(*p)->next;
			continue;
		}
		over(w, p, false);
		context_visit(c);
		if (D.cuStreamEndCapture && D.cuStreamEndCapture(s, &graph) == CUDA_SUCCESS && graph && !into &&
		    D.cuGraphDestroy)
			D.cuGraphDestroy(graph);
		if (!capture_active(s))
			captures--;
		context_leave(c);
	}
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
		begun(s, false);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_capture_begin(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_capture_begin *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraphNode *deps = NULL;
	const uint64_t *handles;
	struct wstream *s;
	void *graph;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (!payload_ends(m, sizeof(*q), 16ull * q->ndeps)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	handles = (const uint64_t *)(q + 1);
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->stream, &s);
	graph = err ? NULL : worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!err && !graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err)
		deps = graph_nodes(w, handles, q->ndeps, true, &err);
	if (!err && D.cuStreamBeginCaptureToGraph)
		r = D.cuStreamBeginCaptureToGraph(s->real, graph, deps, (const CUgraphEdgeData *)(handles + q->ndeps),
						  q->ndeps, CU_STREAM_CAPTURE_MODE_RELAXED);
	if (!err && r == CUDA_SUCCESS)
		begun(s, true);
	free(deps);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_capture_end(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_capture_end *q = m->payload;
	struct vgpu_capture_end_reply rp = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraph graph = NULL;
	struct capturing **p;
	struct wstream *s;
	struct fresh f;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->stream, &s);
	if (err || !D.cuStreamEndCapture)
		goto out;
	r = D.cuStreamEndCapture(s->real, &graph);
	p = find(s->real);
	if (*p && !capture_active(s->real)) {
		over(w, p, r == CUDA_SUCCESS);
		captures--;
	}
	f = (struct fresh){ .handles = &q->fresh, .n = 1 };
	if (r == CUDA_SUCCESS && graph)
		rp.graph = graph_name_graph(w, graph, 0, &f);
	if (r == CUDA_SUCCESS && !rp.graph)
		r = graph ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
out:
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
