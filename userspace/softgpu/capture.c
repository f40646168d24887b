// SPDX-License-Identifier: Apache-2.0
/*
 * Stream capture. A stream that captures hands its operations to a graph instead of its ring. Each stream that takes part
 * knows its tips, the nodes that its next one depends on; events remember the tips of the stream they were recorded in.
 */
#include <stdlib.h>
#include <string.h>

#include "both.h"
#include "graph.h"

#define SPARE_BYTES	(64u << 10)	/* for an operation for which there is no memory */

/** struct sg_tips - nodes, and the kind of edge that leads on from each. */
struct sg_tips {
	size_t n, cap;
	CUgraphNode *nodes;
	CUgraphEdgeData *data;
};

struct member {
	struct sg_stream *stream;	/* with a reference */
	struct member *next;
};

/* struct sg_capture - while it lasts. The stream where it began ends it. */
struct sg_capture {
	uint64_t id;
	struct sg_graph *graph;
	struct sg_stream *origin;
	struct member *members;
	CUstreamCaptureMode mode;
	const void *thread;
	bool invalid;
	struct sg_graph *into;		/* a graph of the program's, with a reference */
	bool recording;			/* see struct sg_recording */
	struct sg_node *recorded;
	unsigned int nrecorded;
	struct sg_node *open;		/* between sg_capture_begin() and _end() */
	struct sg_op *spare;
	pthread_mutex_t lock;		/* held between the two */
	struct sg_capture *next;
};

_Atomic unsigned int sg_captures;

static struct sg_capture *captures;
static uint64_t last_id;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- tips ----------------------------------------------------------------------------------------------------------- */

static bool tips_add(struct sg_tips *t, CUgraphNode node, const CUgraphEdgeData *data)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->nodes[i] == node)
			return true;
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 4;
		CUgraphNode *nodes = realloc(t->nodes, cap * sizeof(*nodes));
		CUgraphEdgeData *edges;

		if (!nodes)
			return false;
		t->nodes = nodes;
		edges = realloc(t->data, cap * sizeof(*edges));
		if (!edges)
			return false;
		t->data = edges;
		t->cap = cap;
	}
	t->nodes[t->n] = node;
	t->data[t->n++] = data ? *data : (CUgraphEdgeData){ 0 };
	return true;
}

void sg_tips_free(struct sg_tips *t)
{
	if (!t)
		return;
	free(t->nodes);
	free(t->data);
	free(t);
}

struct sg_tips *sg_capture_tips(struct sg_stream *s)
{
	struct sg_tips *t = calloc(1, sizeof(*t));

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; t && s->tips && i < s->tips->n; i++)
		tips_add(t, s->tips->nodes[i], &s->tips->data[i]);
	pthread_mutex_unlock(&s->lock);
	return t;
}

/* --- operations ----------------------------------------------------------------------------------------------------- */

static struct sg_node *op_node(enum sg_op_type type, size_t bytes)
{
	static const CUgraphNodeType types[] = {
		[SG_OP_LAUNCH] = CU_GRAPH_NODE_TYPE_KERNEL, [SG_OP_COPY] = CU_GRAPH_NODE_TYPE_MEMCPY,
		[SG_OP_SET] = CU_GRAPH_NODE_TYPE_MEMSET, [SG_OP_HOST] = CU_GRAPH_NODE_TYPE_HOST,
		[SG_OP_WRITE] = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, [SG_OP_POLL] = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
	};
	struct sg_node *n = sg_node_new(types[type]);

	if (!n)
		return NULL;
	n->op = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
	n->bytes = bytes;
	if (!n->op) {
		sg_node_free(n);
		return NULL;
	}
	return n;
}

CUresult sg_capture_check(struct sg_stream *s)
{
	const struct sg_capture *c;
	CUresult e = CUDA_SUCCESS;

	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	if (c && c->invalid)
		e = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	pthread_mutex_unlock(&lock);
	return e;
}

struct sg_op *sg_capture_begin(struct sg_stream *s, enum sg_op_type type, size_t bytes)
{
	struct sg_capture *c = atomic_load(&s->capture);
	struct sg_op *op;

	pthread_mutex_lock(&c->lock);
	c->open = op_node(type, bytes);
	op = c->open ? c->open->op : c->spare;
	if (!c->open)
		c->invalid = true;
	memset(op, 0, sizeof(*op));
	op->type = type;
	return op;
}

/* @n follows what @s did so far. Both locks are held. */
static CUresult attach(struct sg_capture *c, struct sg_stream *s, struct sg_node *n)
{
	for (size_t i = 0; s->tips && i < s->tips->n; i++)
		if (!sg_node_depend(n, (struct sg_node *)s->tips->nodes[i], &s->tips->data[i]))
			return CUDA_ERROR_OUT_OF_MEMORY;
	if (!s->tips)
		s->tips = calloc(1, sizeof(*s->tips));
	if (!s->tips)
		return CUDA_ERROR_OUT_OF_MEMORY;
	s->tips->n = 0;
	if (!tips_add(s->tips, (CUgraphNode)n, NULL))
		return CUDA_ERROR_OUT_OF_MEMORY;
	sg_node_append(c->graph, n);
	return CUDA_SUCCESS;
}

void sg_capture_end(struct sg_stream *s)
{
	struct sg_capture *c = atomic_load(&s->capture);
	struct sg_node *n = c->open;

	c->open = NULL;
	if (n && c->recording) {
		if (c->recorded)
			sg_node_free(c->recorded);
		c->recorded = n;
		c->nrecorded++;
	} else if (n) {
		sg_node_describe(n);
		if (n->type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP) {
			free(n->op);
			n->op = NULL;
		}
		if (attach(c, s, n)) {
			sg_node_free(n);
			c->invalid = true;
		}
	}
	pthread_mutex_unlock(&c->lock);
}

CUresult sg_capture_node(struct sg_stream *s, struct sg_node *n)
{
	CUresult e = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	struct sg_capture *c;

	pthread_mutex_lock(&s->lock);
	c = atomic_load(&s->capture);
	if (c) {
		pthread_mutex_lock(&c->lock);
		e = c->recording ? CUDA_ERROR_NOT_SUPPORTED : attach(c, s, n);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_unlock(&s->lock);
	if (e)
		sg_node_free(n);
	return e;
}

CUresult sg_capture_event(struct sg_stream *s, struct sg_event *ev, bool record)
{
	struct sg_node *n = sg_node_new(record ? CU_GRAPH_NODE_TYPE_EVENT_RECORD : CU_GRAPH_NODE_TYPE_WAIT_EVENT);

	if (!n)
		return CUDA_ERROR_OUT_OF_MEMORY;
	n->params.eventRecord.event = (CUevent)ev;
	return sg_capture_node(s, n);
}

/* --- one operation on its own --------------------------------------------------------------------------------------- */

CUresult sg_record_begin(struct sg_recording *r)
{
	struct sg_capture *c = calloc(1, sizeof(*c));

	r->stream = sg_stream_new(sg_tls.ctx, CU_STREAM_NON_BLOCKING, 0, false);
	if (c)
		c->spare = malloc(SPARE_BYTES);
	if (!c || !c->spare || !r->stream) {
		if (r->stream)
			sg_object_put(&sg_stream_table, r->stream);
		if (c)
			free(c->spare);
		free(c);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	c->recording = true;
	pthread_mutex_init(&c->lock, NULL);
	r->capture = c;
	atomic_store(&r->stream->capture, c);
	return CUDA_SUCCESS;
}

struct sg_node *sg_record_end(struct sg_recording *r)
{
	struct sg_capture *c = r->capture;
	struct sg_node *n = c->recorded;

	atomic_store(&r->stream->capture, NULL);
	atomic_store(&r->stream->object.live, 0);
	sg_object_put(&sg_stream_table, r->stream);
	if (n && (c->nrecorded != 1 || c->invalid)) {
		sg_node_free(n);
		n = NULL;
	}
	pthread_mutex_destroy(&c->lock);
	free(c->spare);
	free(c);
	return n;
}

/* --- what must not be done meanwhile -------------------------------------------------------------------------------- */

void sg_capture_invalidate(struct sg_stream *s)
{
	struct sg_capture *c;

	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	if (c)
		c->invalid = true;
	pthread_mutex_unlock(&lock);
}

uint64_t sg_capture_id(struct sg_stream *s)
{
	struct sg_capture *c;
	uint64_t id;

	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	id = c ? c->id : 0;
	pthread_mutex_unlock(&lock);
	return id;
}

void sg_capture_invalidate_id(uint64_t id)
{
	pthread_mutex_lock(&lock);
	for (struct sg_capture *c = captures; c; c = c->next)
		if (c->id == id)
			c->invalid = true;
	pthread_mutex_unlock(&lock);
}

CUresult sg_capture_unsafe_slow(void)
{
	CUresult e = CUDA_SUCCESS;

	if (sg_tls.capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_SUCCESS;
	pthread_mutex_lock(&lock);
	for (struct sg_capture *c = captures; c; c = c->next) {
		if (c->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
			continue;
		if (c->thread != &sg_tls && (sg_tls.capture_mode != CU_STREAM_CAPTURE_MODE_GLOBAL ||
					     c->mode != CU_STREAM_CAPTURE_MODE_GLOBAL))
			continue;
		c->invalid = true;
		e = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	pthread_mutex_unlock(&lock);
	return e;
}

CUresult sg_capture_legacy_slow(struct sg_ctx *ctx, bool sync, bool invalidate)
{
	CUresult e = CUDA_SUCCESS;

	pthread_mutex_lock(&lock);
	for (struct sg_capture *c = captures; c; c = c->next) {
		for (struct member *m = c->members; m; m = m->next) {
			if ((sync && ctx == ctx->root ? m->stream->ctx : m->stream->home) != ctx || (!sync && !m->stream->blocking))
				continue;
			if (invalidate)
				c->invalid = true;
			e = sync ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
		}
	}
	pthread_mutex_unlock(&lock);
	return e;
}

/* --- beginning, joining, ending ------------------------------------------------------------------------------------- */

/* Under the lock. */
static bool take_part(struct sg_capture *c, struct sg_stream *s)
{
	struct member *m = malloc(sizeof(*m));

	if (!m)
		return false;
	sg_object_get(s);
	*m = (struct member){ s, c->members };
	c->members = m;
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->capture, c);
	pthread_mutex_unlock(&s->lock);
	return true;
}

CUresult sg_capture_join(struct sg_stream *s, uint64_t id, const struct sg_tips *tips)
{
	CUresult e = CUDA_SUCCESS;
	struct sg_capture *c, *own;

	pthread_mutex_lock(&lock);
	for (c = captures; c && c->id != id; c = c->next)
		;
	own = atomic_load(&s->capture);
	if (!c) {
		e = CUDA_ERROR_CAPTURED_EVENT;
	} else if (s == s->home->legacy) {
		e = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
		c->invalid = true;
	} else if (!own && !take_part(c, s)) {
		e = CUDA_ERROR_OUT_OF_MEMORY;
	} else if (own && own != c) {
		e = CUDA_ERROR_STREAM_CAPTURE_MERGE;
		own->invalid = c->invalid = true;
	}
	if (!e) {
		pthread_mutex_lock(&s->lock);
		if (!s->tips)
			s->tips = calloc(1, sizeof(*s->tips));
		for (size_t i = 0; s->tips && tips && i < tips->n; i++)
			tips_add(s->tips, tips->nodes[i], &tips->data[i]);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&lock);
	return e;
}

static void capture_free(struct sg_capture *c)
{
	if (c->into)
		sg_object_put(&sg_graph_table, c->into);
	pthread_mutex_destroy(&c->lock);
	free(c->spare);
	free(c);
}

static CUresult begin(CUstream stream, bool ptds, struct sg_graph *into, const CUgraphNode *deps,
		      const CUgraphEdgeData *data, size_t n, CUstreamCaptureMode mode)
{
	struct sg_tips *tips = NULL;
	struct sg_capture *c;
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	if (s == s->home->legacy)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (atomic_load(&s->capture) || (into && into->capture))
		return CUDA_ERROR_ILLEGAL_STATE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_init(&c->lock, NULL);
	c->graph = into ? into : sg_graph_new();
	c->into = into;
	if (into)	/* it may go with a node that owns it */
		sg_object_get(into);
	c->spare = malloc(SPARE_BYTES);
	tips = calloc(1, sizeof(*tips));
	for (size_t i = 0; tips && i < n; i++)
		tips_add(tips, deps[i], data ? &data[i] : NULL);
	if (!c->graph || !c->spare || !tips) {
		if (c->graph && !into)
			sg_graph_free(c->graph);
		sg_tips_free(tips);
		capture_free(c);	/* and its reference */
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	c->origin = s;
	c->mode = mode;
	c->thread = &sg_tls;
	c->graph->capture = c;
	s->tips = tips;
	pthread_mutex_lock(&lock);
	c->id = ++last_id;
	c->next = captures;
	captures = c;
	take_part(c, s);
	atomic_fetch_add(&sg_captures, 1);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

BOTH(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode), (stream, mode, ptds))
{
	return begin(stream, ptds, NULL, NULL, NULL, 0, mode);
}

BOTH(cuStreamBeginCapture, (CUstream stream), (stream, ptds))
{
	return begin(stream, ptds, NULL, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

BOTH(cuStreamBeginCaptureToGraph,
     (CUstream stream, CUgraph graph, const CUgraphNode *deps, const CUgraphEdgeData *data, size_t n,
      CUstreamCaptureMode mode),
     (stream, graph, deps, data, n, mode, ptds))
{
	struct sg_graph *g = sg_graph_check(graph);
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!g)
		return CUDA_ERROR_INVALID_VALUE;
	e = sg_deps_ok(g, deps, data, n);
	return e ? e : begin(stream, ptds, g, deps, data, n, mode);
}

static void mark_ancestors(struct sg_node *n, uint32_t mark)
{
	struct sg_node **stack = malloc((n->graph->count + 1) * sizeof(*stack));
	size_t depth = 0;

	if (!stack || n->mark == mark) {
		free(stack);
		return;
	}
	n->mark = mark;
	stack[depth++] = n;
	while (depth) {
		n = stack[--depth];
		for (size_t i = 0; i < n->nedges; i++) {
			if (n->in[i].from->mark == mark)
				continue;
			n->in[i].from->mark = mark;
			stack[depth++] = n->in[i].from;
		}
	}
	free(stack);
}

/* Does all that other streams captured come before what the origin did last? */
static bool joined(struct sg_capture *c)
{
	for (struct sg_node *n = c->graph->first; n; n = n->next)
		n->mark = 0;
	for (size_t i = 0; c->origin->tips && i < c->origin->tips->n; i++)
		mark_ancestors((struct sg_node *)c->origin->tips->nodes[i], 1);
	for (struct member *m = c->members; m; m = m->next)
		for (size_t i = 0; m->stream->tips && i < m->stream->tips->n; i++)
			if (((struct sg_node *)m->stream->tips->nodes[i])->mark != 1)
				return false;
	return true;
}

/* Under the lock: @c is over. */
static void dissolve(struct sg_capture *c)
{
	struct sg_capture **p;

	for (p = &captures; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	while (c->members) {
		struct member *m = c->members;

		c->members = m->next;
		pthread_mutex_lock(&m->stream->lock);
		atomic_store(&m->stream->capture, NULL);
		sg_tips_free(m->stream->tips);
		m->stream->tips = NULL;
		pthread_mutex_unlock(&m->stream->lock);
		sg_object_put(&sg_stream_table, m->stream);
		free(m);
	}
	c->graph->capture = NULL;
	atomic_fetch_sub(&sg_captures, 1);
}

void sg_capture_stream_ends(struct sg_stream *s)
{
	struct sg_capture *c;

	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	if (c && c->origin == s) {
		dissolve(c);
		if (!c->into)
			sg_graph_free(c->graph);
		capture_free(c);
	}
	/* Of another that takes part what it has captured stays, to be joined or not. */
	pthread_mutex_unlock(&lock);
}

BOTH(cuStreamEndCapture, (CUstream stream, CUgraph *out), (stream, out, ptds))
{
	struct sg_capture *c;
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (out)
		*out = NULL;
	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	if (!c)
		e = CUDA_ERROR_ILLEGAL_STATE;
	else if (c->origin != s)
		e = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
	else if (c->mode != CU_STREAM_CAPTURE_MODE_RELAXED && c->thread != &sg_tls)
		e = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	else if (!out && !c->into)
		e = CUDA_ERROR_INVALID_VALUE;
	if (e == CUDA_ERROR_STREAM_CAPTURE_UNMATCHED)
		c->invalid = true;
	if (e) {
		pthread_mutex_unlock(&lock);
		return e;
	}
	if (c->invalid)
		e = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	else if (!joined(c))
		e = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
	dissolve(c);
	pthread_mutex_unlock(&lock);
	if (!e && out)
		*out = (CUgraph)c->graph;
	else if (e && !c->into)
		sg_graph_free(c->graph);
	capture_free(c);
	return e;
}

/* --- questions ------------------------------------------------------------------------------------------------------ */

static CUresult info(CUstream stream, bool ptds, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
		     const CUgraphNode **nodes, const CUgraphEdgeData **edges, size_t *n)
{
	struct sg_capture *c;
	struct sg_stream *s;
	CUresult e = sg_stream_ask(stream, ptds, &s);

	if (e)
		return e;
	if (!status)
		return CUDA_ERROR_INVALID_VALUE;
	if (s == s->home->legacy && atomic_load(&sg_captures)) {
		e = sg_capture_legacy_slow(s->home, false, false);
		if (e)
			return e;
	}
	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	*status = !c ? CU_STREAM_CAPTURE_STATUS_NONE : c->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED :
		  CU_STREAM_CAPTURE_STATUS_ACTIVE;
	if (c && id)
		*id = c->id;
	if (c && !c->invalid) {
		if (graph)
			*graph = (CUgraph)c->graph;
		if (nodes)
			*nodes = s->tips ? s->tips->nodes : NULL;
		if (edges)
			*edges = s->tips ? s->tips->data : NULL;
		if (n)
			*n = s->tips ? s->tips->n : 0;
		for (size_t i = 0; nodes && !edges && s->tips && i < s->tips->n; i++)
			if (s->tips->data[i].from_port || s->tips->data[i].type)
				e = CUDA_ERROR_LOSSY_QUERY;
	}
	pthread_mutex_unlock(&lock);
	return e;
}

BOTH(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus *status), (stream, status, ptds))
{
	return info(stream, ptds, status, NULL, NULL, NULL, NULL, NULL);
}

BOTH(cuStreamGetCaptureInfo, (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id),
     (stream, status, id, ptds))
{
	return info(stream, ptds, status, id, NULL, NULL, NULL, NULL);
}

BOTH(cuStreamGetCaptureInfo_v2,
     (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      size_t *n),
     (stream, status, id, graph, nodes, n, ptds))
{
	return info(stream, ptds, status, id, graph, nodes, NULL, n);
}

BOTH(cuStreamGetCaptureInfo_v3,
     (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      const CUgraphEdgeData **edges, size_t *n),
     (stream, status, id, graph, nodes, edges, n, ptds))
{
	return info(stream, ptds, status, id, graph, nodes, edges, n);
}

BOTH(cuStreamUpdateCaptureDependencies_v2,
     (CUstream stream, CUgraphNode *nodes, const CUgraphEdgeData *data, size_t n, unsigned int flags),
     (stream, nodes, data, n, flags, ptds))
{
	struct sg_capture *c;
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	if (!c)
		e = CUDA_ERROR_ILLEGAL_STATE;
	else if (c->invalid)
		e = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	else
		e = sg_deps_ok(c->graph, nodes, data, n);
	if (!e) {
		pthread_mutex_lock(&s->lock);
		if (!s->tips)
			s->tips = calloc(1, sizeof(*s->tips));
		if (s->tips && flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
			s->tips->n = 0;
		for (size_t i = 0; s->tips && i < n; i++)
			tips_add(s->tips, nodes[i], data ? &data[i] : NULL);
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&lock);
	return e;
}

BOTH(cuStreamUpdateCaptureDependencies, (CUstream stream, CUgraphNode *nodes, size_t n, unsigned int flags),
     (stream, nodes, n, flags, ptds))
{
	return cuStreamUpdateCaptureDependencies_v2_do(stream, nodes, NULL, n, flags, ptds);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUstreamCaptureMode old = sg_tls.capture_mode;

	if (!mode || (unsigned int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	sg_tls.capture_mode = *mode;
	*mode = old;
	return CUDA_SUCCESS;
}
