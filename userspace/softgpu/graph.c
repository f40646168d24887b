// SPDX-License-Identifier: Apache-2.0
/*
 * Stream capture and graphs. A stream that captures hands its operations to a graph instead of its ring. The order in
 * which they are captured, over all streams that take part, is one that respects every dependency, so a graph is a list
 * and launching it means to queue all of the list in one stream.
 */
#include <stdlib.h>
#include <string.h>

#include "both.h"
#include "softgpu.h"

#define SPARE_BYTES	(64u << 10)	/* for an operation for which there is no memory; staged copies are shorter */

struct node {
	struct node *next;
	size_t bytes;
	struct sg_op *op;
};

struct CUgraph_st {
	bool executable;
	struct node *first, **last;
	size_t count;
	struct CUgraph_st *next;	/* of all graphs */
};

/* struct sg_capture - while it lasts. @streams take part; the one where it began ends it. */
struct sg_capture {
	uint64_t id;
	struct CUgraph_st *graph;
	struct sg_stream *origin;
	struct node *open;		/* between sg_capture_begin() and _end() */
	struct sg_op *spare;
	bool invalid;
	pthread_mutex_t lock;		/* held between the two */
	struct sg_capture *next;
};

static struct CUgraph_st *graphs;
static struct sg_capture *captures;
static uint64_t last_id;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static CUgraph graph_new(bool executable)
{
	CUgraph g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->executable = executable;
	g->last = &g->first;
	pthread_mutex_lock(&lock);
	g->next = graphs;
	graphs = g;
	pthread_mutex_unlock(&lock);
	return g;
}

static void node_free(struct node *n)
{
	free(n->op);
	free(n);
}

static void graph_free(CUgraph g)
{
	struct CUgraph_st **p;

	pthread_mutex_lock(&lock);
	for (p = &graphs; *p != g; p = &(*p)->next)
		;
	*p = g->next;
	pthread_mutex_unlock(&lock);
	while (g->first) {
		struct node *n = g->first;

		g->first = n->next;
		node_free(n);
	}
	free(g);
}

/* @return @h if it is a graph (or an executable one), else NULL */
static CUgraph check(const void *h, bool executable)
{
	CUgraph g;

	pthread_mutex_lock(&lock);
	for (g = graphs; g && (const void *)g != h; g = g->next)
		;
	pthread_mutex_unlock(&lock);
	return g && g->executable == executable ? g : NULL;
}

static struct node *node_new(size_t bytes)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->bytes = bytes;
	n->op = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
	if (!n->op) {
		free(n);
		return NULL;
	}
	return n;
}

static void append(CUgraph g, struct node *n)
{
	n->next = NULL;
	*g->last = n;
	g->last = &n->next;
	g->count++;
}

static void copy_op(struct sg_op *to, const struct sg_op *from, size_t bytes)
{
	uint32_t size = to->size;	/* of the place, in a ring */

	memcpy(to, from, bytes);
	to->size = size;
	/* A staged copy reads what stands behind it. */
	if (from->type == SG_OP_COPY && from->u.copy.src == (const char *)(from + 1))
		to->u.copy.src = (const char *)(to + 1);
}

static CUgraph graph_copy(CUgraph from, bool executable)
{
	CUgraph g = graph_new(executable);
	struct node *n, *c;

	for (n = g ? from->first : NULL; n; n = n->next) {
		c = node_new(n->bytes);
		if (!c) {
			graph_free(g);
			return NULL;
		}
		c->op->size = 0;
		copy_op(c->op, n->op, n->bytes);
		append(g, c);
	}
	return g;
}

/* --- capture ------------------------------------------------------------------------------------------------------- */

struct sg_op *sg_capture_begin(struct sg_capture *c, enum sg_op_type type, size_t bytes)
{
	struct sg_op *op;

	pthread_mutex_lock(&c->lock);
	c->open = node_new(bytes);
	op = c->open ? c->open->op : c->spare;
	if (!c->open)
		c->invalid = true;
	op->type = type;
	op->size = 0;
	return op;
}

void sg_capture_end(struct sg_capture *c)
{
	if (c->open)
		append(c->graph, c->open);
	c->open = NULL;
	pthread_mutex_unlock(&c->lock);
}

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

CUresult sg_capture_join(struct sg_stream *s, uint64_t id)
{
	CUresult e = CUDA_SUCCESS;
	struct sg_capture *c;

	pthread_mutex_lock(&lock);
	for (c = captures; c && c->id != id; c = c->next)
		;
	if (!c)
		e = CUDA_ERROR_CAPTURED_EVENT;
	else if (s == s->ctx->legacy)
		e = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	else if (!atomic_load(&s->capture))
		atomic_store(&s->capture, c);
	else if (atomic_load(&s->capture) != c)
		e = CUDA_ERROR_STREAM_CAPTURE_MERGE;
	pthread_mutex_unlock(&lock);
	return e;
}

BOTH(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode), (stream, mode, ptds))
{
	struct sg_capture *c;
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	if (s == s->ctx->legacy)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (atomic_load(&s->capture))
		return CUDA_ERROR_ILLEGAL_STATE;
	c = calloc(1, sizeof(*c));
	if (c) {
		c->graph = graph_new(false);
		c->spare = malloc(SPARE_BYTES);
	}
	if (!c || !c->graph || !c->spare) {
		if (c && c->graph)
			graph_free(c->graph);
		if (c)
			free(c->spare);
		free(c);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	c->origin = s;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_lock(&lock);
	c->id = ++last_id;
	c->next = captures;
	captures = c;
	atomic_store(&s->capture, c);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

BOTH(cuStreamBeginCapture, (CUstream stream), (stream, ptds))
{
	return cuStreamBeginCapture_v2_do(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, ptds);
}

BOTH(cuStreamEndCapture, (CUstream stream, CUgraph *out), (stream, out, ptds))
{
	struct sg_capture *c, **p;
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	*out = NULL;
	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	if (!c || c->origin != s) {
		pthread_mutex_unlock(&lock);
		return c ? CUDA_ERROR_STREAM_CAPTURE_UNMATCHED : CUDA_ERROR_ILLEGAL_STATE;
	}
	for (p = &captures; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	/* A stream's lock is held while an operation is put together, and comes before the context's. */
	for (struct sg_stream *o = s; o;) {
		pthread_mutex_lock(&o->lock);
		atomic_store(&o->capture, NULL);
		pthread_mutex_unlock(&o->lock);
		if (o != s)
			sg_object_put(&sg_stream_table, o);
		pthread_mutex_lock(&s->ctx->lock);
		for (o = s->ctx->streams; o && atomic_load(&o->capture) != c; o = o->next)
			;
		if (o)
			sg_object_get(o);
		pthread_mutex_unlock(&s->ctx->lock);
	}
	pthread_mutex_unlock(&lock);
	if (c->invalid) {
		graph_free(c->graph);
		e = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	} else {
		*out = c->graph;
	}
	pthread_mutex_destroy(&c->lock);
	free(c->spare);
	free(c);
	return e;
}

static CUresult info(CUstream stream, bool ptds, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph)
{
	struct sg_capture *c;
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (e)
		return e;
	if (!status)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	c = atomic_load(&s->capture);
	*status = !c ? CU_STREAM_CAPTURE_STATUS_NONE : c->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED :
		  CU_STREAM_CAPTURE_STATUS_ACTIVE;
	if (c && id)
		*id = c->id;
	if (c && graph)
		*graph = c->graph;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

BOTH(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus *status), (stream, status, ptds))
{
	return info(stream, ptds, status, NULL, NULL);
}

BOTH(cuStreamGetCaptureInfo, (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id),
     (stream, status, id, ptds))
{
	return info(stream, ptds, status, id, NULL);
}

/* Each node depends on the one before it, as far as anybody could tell. */
static CUresult frontier(CUstream stream, bool ptds, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
			 const CUgraphNode **nodes, size_t *n)
{
	static __thread CUgraphNode tip __attribute__((tls_model("initial-exec")));
	CUgraph g = NULL;
	CUresult e = info(stream, ptds, status, id, &g);

	if (e || !g)
		return e;
	if (graph)
		*graph = g;
	tip = g->count ? (CUgraphNode)((char *)g->last - offsetof(struct node, next)) : NULL;
	if (nodes)
		*nodes = &tip;
	if (n)
		*n = g->count != 0;
	return CUDA_SUCCESS;
}

BOTH(cuStreamGetCaptureInfo_v2,
     (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      size_t *n),
     (stream, status, id, graph, nodes, n, ptds))
{
	return frontier(stream, ptds, status, id, graph, nodes, n);
}

BOTH(cuStreamGetCaptureInfo_v3,
     (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      const CUgraphEdgeData **edges, size_t *n),
     (stream, status, id, graph, nodes, edges, n, ptds))
{
	if (edges)
		*edges = NULL;
	return frontier(stream, ptds, status, id, graph, nodes, n);
}

/* --- graphs -------------------------------------------------------------------------------------------------------- */

static CUresult enter(const void *h, bool executable, CUgraph *g)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*g = check(h, executable);
	return *g ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphCreate(CUgraph *out, unsigned int flags)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || flags)
		return CUDA_ERROR_INVALID_VALUE;
	*out = graph_new(false);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphClone(CUgraph *out, CUgraph original)
{
	CUgraph g;
	CUresult e = enter(original, false, &g);

	if (e || !out)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*out = graph_copy(g, false);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	CUgraph g;
	CUresult e = enter(graph, false, &g);

	if (!e)
		graph_free(g);
	return e;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *n)
{
	struct node *node;
	size_t i = 0;
	CUgraph g;
	CUresult e = enter(graph, false, &g);

	if (e || !n)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	for (node = g->first; nodes && node && i < *n; node = node->next)
		nodes[i++] = (CUgraphNode)node;
	while (nodes && i < *n)
		nodes[i++] = NULL;
	*n = g->count;
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags)
{
	CUgraph g;
	CUresult e = enter(graph, false, &g);

	if (e || !out)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	if (flags & ~(unsigned long long)(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
					  CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY))
		return CUDA_ERROR_NOT_SUPPORTED;
	*out = (CUgraphExec)graph_copy(g, true);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
	if (error)
		*error = NULL;
	if (log && size)
		log[0] = 0;
	return cuGraphInstantiateWithFlags(out, graph, 0);
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
	return cuGraphInstantiate_v2(out, graph, error, log, size);
}

BOTH(cuGraphInstantiateWithParams, (CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params),
     (out, graph, params, ptds))
{
	CUresult e;

	if (!params)
		return CUDA_ERROR_INVALID_VALUE;
	e = cuGraphInstantiateWithFlags(out, graph, params->flags);
	params->hErrNode_out = NULL;
	params->result_out = e ? CUDA_GRAPH_INSTANTIATE_ERROR : CUDA_GRAPH_INSTANTIATE_SUCCESS;
	return e;
}

BOTH(cuGraphUpload, (CUgraphExec exec, CUstream stream), (exec, stream, ptds))
{
	struct sg_stream *s;
	CUgraph g;
	CUresult e = enter(exec, true, &g);

	return e ? e : sg_stream_of(stream, ptds, &s);
}

BOTH(cuGraphLaunch, (CUgraphExec exec, CUstream stream), (exec, stream, ptds))
{
	struct sg_stream *s;
	struct node *n;
	CUgraph g;
	CUresult e = enter(exec, true, &g);

	if (!e)
		e = sg_stream_of(stream, ptds, &s);
	if (e)
		return e;
	for (n = g->first; n; n = n->next) {
		struct sg_op *op = sg_queue_begin(s, (enum sg_op_type)n->op->type, n->bytes - sizeof(*op));

		copy_op(op, n->op, n->bytes);
		sg_queue_end(s, op, !n->next);
	}
	return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	CUgraph g;
	CUresult e = enter(exec, true, &g);

	if (!e)
		graph_free(g);
	return e;
}

/* What changed does not matter: all operations are taken anew, if they are of the same kinds. */
CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *result)
{
	struct node *a, *b;
	CUgraph old, g, fresh;
	CUresult e = enter(exec, true, &old);

	if (!e)
		e = enter(graph, false, &g);
	if (e || !result)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	*result = (CUgraphExecUpdateResultInfo){ .result = CU_GRAPH_EXEC_UPDATE_SUCCESS };
	for (a = old->first, b = g->first; a && b && a->op->type == b->op->type; a = a->next, b = b->next)
		;
	if (a || b) {
		result->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
		return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
	}
	fresh = graph_copy(g, true);
	if (!fresh)
		return CUDA_ERROR_OUT_OF_MEMORY;
	a = old->first;
	old->first = fresh->first;
	old->last = fresh->first ? fresh->last : &old->first;
	fresh->first = a;
	graph_free(fresh);
	return CUDA_SUCCESS;
}

/* --- explicit nodes: each is captured on its own ------------------------------------------------------------------- */

struct recording {
	struct sg_capture capture;
	CUgraph graph;
	size_t before;
	CUstream stream;
};

static CUresult record_begin(struct recording *r, CUgraph h, const CUgraphNode *deps, size_t n, const void *params)
{
	CUresult e = enter(h, false, &r->graph);

	if (e)
		return e;
	if ((n && !deps) || !params)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n; i++) {
		struct node *d;

		for (d = r->graph->first; d && (CUgraphNode)d != deps[i]; d = d->next)
			;
		if (!d)
			return CUDA_ERROR_INVALID_VALUE;
	}
	e = cuStreamCreate(&r->stream, CU_STREAM_NON_BLOCKING);
	if (e)
		return e;
	r->before = r->graph->count;
	r->capture = (struct sg_capture){ .graph = r->graph, .spare = malloc(SPARE_BYTES) };
	if (!r->capture.spare) {
		cuStreamDestroy_v2(r->stream);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_init(&r->capture.lock, NULL);
	atomic_store(&((struct sg_stream *)r->stream)->capture, &r->capture);
	return CUDA_SUCCESS;
}

static CUresult record_end(struct recording *r, CUresult e, CUgraphNode *out)
{
	atomic_store(&((struct sg_stream *)r->stream)->capture, NULL);
	cuStreamDestroy_v2(r->stream);
	free(r->capture.spare);
	pthread_mutex_destroy(&r->capture.lock);
	if (!e && (r->capture.invalid || r->graph->count != r->before + 1))
		e = CUDA_ERROR_INVALID_VALUE;
	if (!e)
		*out = (CUgraphNode)((char *)r->graph->last - offsetof(struct node, next));
	return e;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n,
				 const CUDA_KERNEL_NODE_PARAMS_v2 *p)
{
	struct recording r;
	CUresult e = record_begin(&r, graph, deps, n, out ? p : NULL);

	if (e)
		return e;
	e = cuLaunchKernel(p->func ? p->func : (CUfunction)p->kern, p->gridDimX, p->gridDimY, p->gridDimZ, p->blockDimX,
			   p->blockDimY, p->blockDimZ, p->sharedMemBytes, r.stream, p->kernelParams, p->extra);
	return record_end(&r, e, out);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n,
			      const CUDA_MEMCPY3D *p, CUcontext ctx)
{
	struct recording r;
	CUresult e = record_begin(&r, graph, deps, n, out ? p : NULL);

	return e ? e : record_end(&r, cuMemcpy3DAsync_v2(p, r.stream), out);
}

CUresult cuGraphAddMemsetNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n,
			      const CUDA_MEMSET_NODE_PARAMS *p, CUcontext ctx)
{
	struct recording r;
	CUresult e = record_begin(&r, graph, deps, n, out ? p : NULL);

	if (e)
		return e;
	switch (p->elementSize) {
	case 1:
		e = cuMemsetD2D8Async(p->dst, p->pitch, (unsigned char)p->value, p->width, p->height, r.stream);
		break;
	case 2:
		e = cuMemsetD2D16Async(p->dst, p->pitch, (unsigned short)p->value, p->width, p->height, r.stream);
		break;
	case 4:
		e = cuMemsetD2D32Async(p->dst, p->pitch, p->value, p->width, p->height, r.stream);
		break;
	default:
		e = CUDA_ERROR_INVALID_VALUE;
	}
	return record_end(&r, e, out);
}

CUresult cuGraphAddEmptyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n)
{
	struct recording r;
	struct sg_op *op;
	CUresult e = record_begin(&r, graph, deps, n, out);

	if (e)
		return e;
	op = sg_capture_begin(&r.capture, SG_OP_SET, sizeof(*op));
	op->u.set = (struct sg_set){ .element = 1 };
	sg_capture_end(&r.capture);
	return record_end(&r, CUDA_SUCCESS, out);
}
