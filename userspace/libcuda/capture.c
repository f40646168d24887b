// SPDX-License-Identifier: Apache-2.0
/*
 * Stream capture. The driver keeps the graph; here it is known which captures there are, in which thread they began and
 * in which mode. So the question whether a stream captures, which libraries ask before every operation, costs nothing
 * while none does, and the modes, which are about the program's threads, are enforced where those are.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "graph.h"
#include "shim_gen.h"

unsigned int captures;

struct capture {
	uint64_t stream;		/* where it began */
	uint32_t thread;		/* which thread began it */
	CUstreamCaptureMode mode;
	bool into;			/* a graph of the program's */
	const struct object *ctx, *green;
	cuuint64_t id;			/* once asked for; 0: not known */
	struct capture *next;
};

/* struct answer - the arrays of a stream's last cuStreamGetCaptureInfo. They last until the next one, or until it ends. */
struct answer {
	uint64_t stream;
	uint32_t thread;		/* of a per-thread default stream */
	CUgraphNode *nodes;
	CUgraphEdgeData *edges;
	struct answer *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct capture *list;
static struct answer *answers;

/*
 * Captures come and go in times: from the first that begins to the last that ends. A stream becomes part of a capture by
 * being its origin, or by waiting for an event of one, which is asked about at the time.
 */
static uint32_t now = 1;
static bool doubt;	/* in this time something went wrong */

/* Work that any capturing stream takes: it becomes a node, or what is wrong with it has been said already. */
static bool is_plain(uint16_t type)
{
	switch (type) {
	case VGPU_MSG_cuLaunchKernel:
	case VGPU_MSG_cuMemcpyHtoD_v2:
	case VGPU_MSG_cuMemcpyDtoH_v2:
	case VGPU_MSG_cuMemcpyDtoDAsync_v2:
	case VGPU_MSG_cuMemsetD8Async:
	case VGPU_MSG_cuMemsetD16Async:
	case VGPU_MSG_cuMemsetD32Async:
	case VGPU_MSG_cuMemsetD2D8Async:
	case VGPU_MSG_cuMemsetD2D16Async:
	case VGPU_MSG_cuMemsetD2D32Async:
	case VGPU_MSG_cuEventRecord:
		return true;
	default:
		return false;
	}
}

bool capture_may_post(const struct object *stream, uint16_t type)
{
	if (!stream || stream->type != VGPU_H_STREAM || __atomic_load_n(&doubt, __ATOMIC_RELAXED))
		return false;
	if (type == VGPU_MSG_cuStreamWaitEvent) {
		__atomic_store_n(&((struct object *)stream)->stream.joined, __atomic_load_n(&now, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
		return false;
	}
	if (__atomic_load_n(&stream->stream.joined, __ATOMIC_RELAXED) == __atomic_load_n(&now, __ATOMIC_RELAXED))
		return false;
	return __atomic_load_n(&stream->stream.origin, __ATOMIC_RELAXED) ? is_plain(type) : true;
}

void capture_told_slow(CUresult r)
{
	if (__atomic_load_n(&captures, __ATOMIC_RELAXED))
		__atomic_store_n(&doubt, true, __ATOMIC_RELAXED);
}

/* Where @stream's capture stands in the list; a per-thread default stream is another one in each thread. */
static struct capture **at(uint64_t stream, uint32_t thread)
{
	struct capture **p;

	for (p = &list; *p; p = &(*p)->next)
		if ((*p)->stream == stream && (stream > 2 || (*p)->thread == thread))
			break;
	return p;
}

/* Under the lock. */
static void answers_forget(uint64_t stream, uint32_t thread, bool all)
{
	struct answer **p = &answers, *a;

	while ((a = *p)) {
		if (!all && (a->stream != stream || (stream <= 2 && a->thread != thread))) {
			p = &a->next;
			continue;
		}
		*p = a->next;
		free(a->nodes);
		free(a->edges);
		free(a);
	}
}

static void begun(uint64_t stream, CUstreamCaptureMode mode, bool into)
{
	struct thread *t = thread_self();
	struct capture *c = calloc(1, sizeof(*c));
	const struct object *o = stream > 2 ? &objects[VGPU_HANDLE_INDEX(stream)] : NULL;

	__atomic_add_fetch(&captures, 1, __ATOMIC_RELAXED);
	if (stream > 2)
		__atomic_store_n(&objects[VGPU_HANDLE_INDEX(stream)].stream.origin, true, __ATOMIC_RELAXED);
	if (!c)
		return;
	*c = (struct capture){ .stream = stream, .thread = t->number, .mode = mode, .into = into,
			       .ctx = o ? o->ctx : context_current(t),
			       .green = o ? o->stream.green : context_green(t) };
	pthread_mutex_lock(&lock);
	c->next = list;
	list = c;
	pthread_mutex_unlock(&lock);
}

/* Under the lock: there is one less. */
static void one_less(void)
{
	if (__atomic_load_n(&captures, __ATOMIC_RELAXED) && !__atomic_sub_fetch(&captures, 1, __ATOMIC_RELAXED)) {
		__atomic_add_fetch(&now, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&doubt, false, __ATOMIC_RELAXED);
		answers_forget(0, 0, true);
	}
}

static void ended(uint64_t stream)
{
	struct capture **p, *c;

	pthread_mutex_lock(&lock);
	p = at(stream, thread_self()->number);
	c = *p;
	if (c)
		*p = c->next;
	if (stream > 2)
		__atomic_store_n(&objects[VGPU_HANDLE_INDEX(stream)].stream.origin, false, __ATOMIC_RELAXED);
	one_less();
	pthread_mutex_unlock(&lock);
	free(c);
}

void capture_stream_ends(uint64_t stream)
{
	bool there;

	pthread_mutex_lock(&lock);
	answers_forget(stream, 0, false);
	there = *at(stream, thread_self()->number);
	pthread_mutex_unlock(&lock);
	if (there)
		ended(stream);
}

void capture_context_ends(const struct object *ctx)
{
	struct capture **p = &list, *c;

	pthread_mutex_lock(&lock);
	while ((c = *p)) {
		if (c->ctx != ctx) {
			p = &c->next;
			continue;
		}
		*p = c->next;
		free(c);
		one_less();
	}
	pthread_mutex_unlock(&lock);
}

/* --- what captures forbid ------------------------------------------------------------------------------------------- */

/* Asking a capturing stream how far it is ends its capture, which is what is wanted. */
static void invalidate(const struct capture *c)
{
	struct vgpu_rq_cuStreamQuery rq = { .hStream = c->stream };

	rq.call.ctx = c->ctx ? c->ctx->wire : 0;
	/* Its default stream, if that is the one; else errors of another thread would come here. */
	rq.call.thread = c->stream == 2 ? c->thread : thread_self()->number;
	own_begin();
	call_reply(VGPU_MSG_cuStreamQuery, &rq, sizeof(rq), NULL, 0);
	own_end();
}

/* The captures that @forbids says yes to are over. */
static CUresult forbid(bool (*forbids)(const struct capture *c, const void *arg), const void *arg)
{
	struct capture found[16];
	unsigned int n = 0;

	pthread_mutex_lock(&lock);
	for (const struct capture *c = list; c && n < 16; c = c->next)
		if (forbids(c, arg))
			found[n++] = *c;
	pthread_mutex_unlock(&lock);
	if (n)
		__atomic_store_n(&doubt, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < n; i++)
		invalidate(&found[i]);
	return n ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

static bool of_mode(const struct capture *c, const void *arg)
{
	const struct thread *t = arg;

	if (t->capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED || c->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return false;
	return c->thread == t->number ||
	       (t->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult capture_unsafe_slow(void)
{
	return forbid(of_mode, thread_self());
}

static bool in_context(const struct capture *c, const void *context)
{
	const struct object *ctx = context;

	return ctx->context->green ? c->green == ctx->context->green : c->ctx == ctx;
}

bool capture_in_slow(const struct object *ctx)
{
	const struct capture *c;

	pthread_mutex_lock(&lock);
	for (c = list; c && c->ctx != ctx; c = c->next)
		;
	pthread_mutex_unlock(&lock);
	return c;
}

CUresult capture_wait_slow(const struct object *ctx)
{
	return forbid(in_context, ctx);
}

/* --- beginning and ending ------------------------------------------------------------------------------------------- */

static CUresult check_begin(CUstreamCaptureMode mode)
{
	CUresult r = session_check();

	return r != CUDA_SUCCESS ? r : (unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED ? CUDA_ERROR_INVALID_VALUE :
	       CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
{
	CUresult r = check_begin(mode);
	uint64_t stream;

	if (r == CUDA_SUCCESS && !stream_handle(hStream, &stream))
		r = CUDA_ERROR_INVALID_HANDLE;
	if (r == CUDA_SUCCESS)
		r = call_cuStreamBeginCapture_v2(hStream, mode);
	if (r == CUDA_SUCCESS)
		begun(stream, mode, false);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBeginCapture(CUstream hStream)
{
	return cuStreamBeginCapture_v2(hStream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

static uint64_t *words_of(const CUgraphNode *nodes, const CUgraphEdgeData *data, size_t n, const struct object *graph,
			  CUresult *r)
{
	uint64_t *words = calloc(2 * n + 1, sizeof(*words));

	*r = words ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; words && i < n; i++) {
		const struct object *o = nodes ? graph_node(nodes[i]) : NULL;

		if (!o || (graph && o->parent != graph)) {
			free(words);
			*r = CUDA_ERROR_INVALID_VALUE;
			return NULL;
		}
		words[i] = o->wire;
		if (data)
			memcpy(&words[n + i], &data[i], sizeof(*words));
	}
	return words;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph, const CUgraphNode *dependencies,
							 const CUgraphEdgeData *dependencyData, size_t numDependencies,
							 CUstreamCaptureMode mode)
{
	const struct object *g = object_get(hGraph, VGPU_H_GRAPH);
	struct vgpu_capture_begin rq = { .graph = g ? g->wire : 0, .ndeps = numDependencies };
	CUresult r = check_begin(mode);
	struct iovec iov[2];
	uint64_t *words;

	if (r == CUDA_SUCCESS)
		r = call_begin(&rq.call, true);
	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(hStream, &rq.stream))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!g)
		return CUDA_ERROR_INVALID_VALUE;
	words = words_of(dependencies, dependencyData, numDependencies, g, &r);
	if (!words)
		return r;
	iov[0] = (struct iovec){ &rq, sizeof(rq) };
	iov[1] = (struct iovec){ words, 2 * numDependencies * sizeof(*words) };
	r = call_replyv(VGPU_MSG_cuStreamBeginCaptureToGraph, iov, 2, NULL, 0, NULL);
	free(words);
	if (r == CUDA_SUCCESS)
		begun(rq.stream, mode, true);
	return r;
}

/* May this thread end the capture? */
static CUresult my_capture(uint64_t stream, bool want_graph)
{
	struct thread *t = thread_self();
	const struct capture *c;
	CUresult r = CUDA_SUCCESS;

	pthread_mutex_lock(&lock);
	c = *at(stream, t->number);
	if (c && c->mode != CU_STREAM_CAPTURE_MODE_RELAXED && c->thread != t->number)
		r = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	else if (!want_graph && (!c || !c->into))
		r = CUDA_ERROR_INVALID_VALUE;	/* nobody would have it */
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
{
	struct vgpu_capture_end rq = { 0 };
	struct vgpu_capture_end_reply reply = { 0 };
	CUresult r = call_begin(&rq.call, true);
	struct object *g;

	if (r != CUDA_SUCCESS)
		return r;
	if (phGraph)
		*phGraph = NULL;
	if (!stream_handle(hStream, &rq.stream))
		return CUDA_ERROR_INVALID_HANDLE;
	r = my_capture(rq.stream, phGraph);
	if (r == CUDA_SUCCESS && !graph_fresh(&rq.fresh, 1, VGPU_H_GRAPH))
		r = CUDA_ERROR_OUT_OF_MEMORY;
	if (r != CUDA_SUCCESS)
		return r;
	r = call_reply(VGPU_MSG_cuStreamEndCapture, &rq, sizeof(rq), &reply, sizeof(reply));
	/* The fresh handle has found its use, or there was one already. */
	if (reply.graph != rq.fresh)
		graph_fresh_done(&rq.fresh, 1);
	g = r == CUDA_SUCCESS ? graph_child_object(reply.graph, NULL) : NULL;
	if (r == CUDA_SUCCESS || r == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED || r == CUDA_ERROR_STREAM_CAPTURE_UNJOINED)
		ended(rq.stream);
	if (phGraph)
		*phGraph = (CUgraph)g;
	return r;
}

/* --- questions ------------------------------------------------------------------------------------------------------ */

static CUresult none(CUstream s, CUstreamCaptureStatus *status)
{
	CUresult r = session_check();
	uint64_t wire;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(s, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!status)
		return CUDA_ERROR_INVALID_VALUE;
	*status = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

/* A stream of the program's own that no capture began in, and that waited for nothing since captures began. */
static bool has_no_part(uint64_t stream)
{
	const struct object *o = stream > 2 ? &objects[VGPU_HANDLE_INDEX(stream)] : NULL;

	return o && !__atomic_load_n(&o->stream.origin, __ATOMIC_RELAXED) &&
	       __atomic_load_n(&o->stream.joined, __ATOMIC_RELAXED) != __atomic_load_n(&now, __ATOMIC_RELAXED);
}

static bool surely_none(CUstream s)
{
	return !__atomic_load_n(&captures, __ATOMIC_RELAXED) || has_no_part(object_handle(s, VGPU_H_STREAM));
}

/* Where a capture began it goes on until it ends, or something is wrong. */
static bool surely_active(CUstream s)
{
	const struct object *o = object_get(s, VGPU_H_STREAM);

	return o && session_check() == CUDA_SUCCESS && __atomic_load_n(&o->stream.origin, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&doubt, __ATOMIC_RELAXED);
}

static bool known_id(CUstream s, cuuint64_t *id)
{
	uint64_t stream = object_handle(s, VGPU_H_STREAM);
	const struct capture *c;

	pthread_mutex_lock(&lock);
	c = stream ? *at(stream, 0) : NULL;
	*id = c ? c->id : 0;
	pthread_mutex_unlock(&lock);
	return *id;
}

static void learn_id(CUstream s, cuuint64_t id)
{
	uint64_t stream = object_handle(s, VGPU_H_STREAM);
	struct capture *c;

	pthread_mutex_lock(&lock);
	c = stream ? *at(stream, 0) : NULL;
	if (c)
		c->id = id;
	pthread_mutex_unlock(&lock);
}

bool capture_asks(uint64_t stream)
{
	CUstream s = stream <= 2 ? (CUstream)(uintptr_t)stream : (CUstream)&objects[VGPU_HANDLE_INDEX(stream)];
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	if (stream > 2 && objects[VGPU_HANDLE_INDEX(stream)].stream.origin)
		return true;
	return !has_no_part(stream) && call_cuStreamIsCapturing(s, &status) == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
	if (surely_none(hStream))
		return none(hStream, captureStatus);
	if (!captureStatus || !surely_active(hStream))
		return call_cuStreamIsCapturing(hStream, captureStatus);
	*captureStatus = CU_STREAM_CAPTURE_STATUS_ACTIVE;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
						    cuuint64_t *id_out)
{
	cuuint64_t id;
	CUresult r;

	if (surely_none(hStream))
		return none(hStream, captureStatus_out);
	if (!captureStatus_out || !surely_active(hStream) || !known_id(hStream, &id)) {
		id = 0;
		r = call_cuStreamGetCaptureInfo(hStream, captureStatus_out, &id);
		if (r != CUDA_SUCCESS || *captureStatus_out == CU_STREAM_CAPTURE_STATUS_NONE)
			return r;
		learn_id(hStream, id);
	} else {
		*captureStatus_out = CU_STREAM_CAPTURE_STATUS_ACTIVE;
	}
	if (id_out)
		*id_out = id;
	return CUDA_SUCCESS;
}

static CUresult keep(uint64_t stream, CUgraphNode *nodes, CUgraphEdgeData *edges)
{
	struct answer *a = nodes && edges ? malloc(sizeof(*a)) : NULL;
	uint32_t thread = thread_self()->number;

	if (!a) {
		free(nodes);
		free(edges);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_lock(&lock);
	answers_forget(stream, thread, false);
	*a = (struct answer){ stream, thread, nodes, edges, answers };
	answers = a;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
						       cuuint64_t *id_out, CUgraph *graph_out,
						       const CUgraphNode **dependencies_out,
						       const CUgraphEdgeData **edgeData_out,
						       size_t *numDependencies_out)
{
	struct { struct vgpu_capture_info rq; uint64_t fresh[VGPU_GRAPH_ROOM_MAX]; } m = { .rq.room = 8 };
	struct vgpu_capture_info_reply *rp;
	CUgraphEdgeData *edges;
	CUgraphNode *nodes;
	struct iovec iov;
	struct object *g;
	CUresult r;
	size_t len;

	if (surely_none(hStream))
		return none(hStream, captureStatus_out);
	if (!graph_out && !dependencies_out && !edgeData_out && !numDependencies_out)
		return cuStreamGetCaptureInfo(hStream, captureStatus_out, id_out);
	if (!captureStatus_out)
		return CUDA_ERROR_INVALID_VALUE;
	rp = malloc(sizeof(*rp) + VGPU_GRAPH_ROOM_MAX * sizeof(rp->entries[0]));
	if (!rp)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (;;) {
		r = call_begin(&m.rq.call, true);
		if (r == CUDA_SUCCESS && !stream_handle(hStream, &m.rq.stream))
			r = CUDA_ERROR_INVALID_HANDLE;
		if (r == CUDA_SUCCESS && (!graph_fresh(&m.rq.fresh, 1, VGPU_H_GRAPH) ||
					  !graph_fresh(m.fresh, m.rq.room, VGPU_H_GRAPHNODE)))
			r = CUDA_ERROR_OUT_OF_MEMORY;
		if (r != CUDA_SUCCESS)
			goto out;
		iov = (struct iovec){ &m, sizeof(m.rq) + m.rq.room * sizeof(uint64_t) };
		r = call_replyv(VGPU_MSG_cuStreamGetCaptureInfo_v3, &iov, 1, rp,
				sizeof(*rp) + m.rq.room * sizeof(rp->entries[0]), &len);
		g = r == CUDA_SUCCESS ? graph_child_object(rp->graph, NULL) : NULL;
		for (size_t i = 0; g && i < rp->total && i < m.rq.room; i++)
			graph_node_object(rp->entries[i].node, g, rp->entries[i].type);
		if (!g || rp->graph != m.rq.fresh)
			graph_fresh_done(&m.rq.fresh, 1);
		graph_fresh_done(m.fresh, m.rq.room);
		if (r != CUDA_SUCCESS || rp->total <= m.rq.room || m.rq.room == VGPU_GRAPH_ROOM_MAX)
			break;
		m.rq.room = VGPU_GRAPH_ROOM_MAX;
	}
	if (r != CUDA_SUCCESS)
		goto out;
	*captureStatus_out = rp->status;
	if (id_out && rp->status != CU_STREAM_CAPTURE_STATUS_NONE)
		*id_out = rp->id;
	if (!g)
		goto out;
	if (rp->total > m.rq.room) {
		r = REFUSE("a capture whose next operation depends on more than 512 nodes", "graphs");
		goto out;
	}
	nodes = calloc(rp->total + 1, sizeof(*nodes));
	edges = calloc(rp->total + 1, sizeof(*edges));
	for (size_t i = 0; nodes && edges && i < rp->total; i++) {
		nodes[i] = (CUgraphNode)graph_node_object(rp->entries[i].node, g, rp->entries[i].type);
		memcpy(&edges[i], rp->entries[i].edge, sizeof(edges[i]));
		if (dependencies_out && !edgeData_out && (edges[i].from_port || edges[i].type))
			r = CUDA_ERROR_LOSSY_QUERY;
	}
	if (keep(m.rq.stream, nodes, edges) != CUDA_SUCCESS) {
		r = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	if (graph_out)
		*graph_out = (CUgraph)g;
	if (dependencies_out)
		*dependencies_out = nodes;
	if (edgeData_out)
		*edgeData_out = edges;
	if (numDependencies_out)
		*numDependencies_out = rp->total;
out:
	free(rp);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
						       cuuint64_t *id_out, CUgraph *graph_out,
						       const CUgraphNode **dependencies_out,
						       size_t *numDependencies_out)
{
	return cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, graph_out, dependencies_out, NULL,
					 numDependencies_out);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode *dependencies,
								  const CUgraphEdgeData *dependencyData,
								  size_t numDependencies, unsigned int flags)
{
	struct vgpu_capture_update rq = { .n = numDependencies, .flags = flags };
	CUresult r = call_begin(&rq.call, true);
	struct iovec iov[2];
	uint64_t *words;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(hStream, &rq.stream))
		return CUDA_ERROR_INVALID_HANDLE;
	if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES)
		return CUDA_ERROR_INVALID_VALUE;
	words = words_of(dependencies, dependencyData, numDependencies, NULL, &r);
	if (!words)
		return r;
	iov[0] = (struct iovec){ &rq, sizeof(rq) };
	iov[1] = (struct iovec){ words, 2 * numDependencies * sizeof(*words) };
	r = call_replyv(VGPU_MSG_cuStreamUpdateCaptureDependencies_v2, iov, 2, NULL, 0, NULL);
	free(words);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode *dependencies,
							       size_t numDependencies, unsigned int flags)
{
	return cuStreamUpdateCaptureDependencies_v2(hStream, dependencies, NULL, numDependencies, flags);
}

VGPU_EXPORT CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUresult r = session_check();
	CUstreamCaptureMode old;

	if (r != CUDA_SUCCESS)
		return r;
	if (!mode || (unsigned int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	old = thread_self()->capture_mode;
	thread_self()->capture_mode = *mode;
	*mode = old;
	return CUDA_SUCCESS;
}
