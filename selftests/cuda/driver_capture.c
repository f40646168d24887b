// SPDX-License-Identifier: Apache-2.0
/* Stream capture: its graph while it lasts, what threads may do meanwhile, and how it goes wrong. */
#include <pthread.h>

#include "driver.h"

#define N 256u

static const char ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	PTX_ADD;


static CUcontext ctx;
static CUstream s, t;
static CUfunction add;
static CUdeviceptr d;

static void launch(CUstream stream, unsigned int by)
{
	void *params[] = { &d, &by };

	CU(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL));
}

static unsigned int value(void)
{
	unsigned int v = 0;

	CU(cuMemcpyDtoH(&v, d, 4));
	return v;
}

static CUstreamCaptureStatus status(CUstream stream)
{
	CUstreamCaptureStatus st = 99;

	CU(cuStreamIsCapturing(stream, &st));
	return st;
}

static void begin(CUstreamCaptureMode mode)
{
	CU(cuStreamBeginCapture(s, mode));
}

/* The capture is broken: ending it says so, and the stream works again. */
static void broken(const char *what)
{
	CUgraph g = (CUgraph)1;

	ok(status(s) == CU_STREAM_CAPTURE_STATUS_INVALIDATED, "%s: the capture is invalid", what);
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, what);
	ok(!g && status(s) == CU_STREAM_CAPTURE_STATUS_NONE, "%s: and over", what);
}

/* Unless another thread could end it, which NVIDIA's driver allows now and then, also of one that is broken. */
static void end_capture(void)
{
	CUgraph g;

	if (on_driver()) {
		if (status(s) != CU_STREAM_CAPTURE_STATUS_NONE && cuStreamEndCapture(s, &g) == CUDA_SUCCESS)
			CU(cuGraphDestroy(g));
		return;
	}
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphDestroy(g));
}

static void launch_graph(CUgraph g, int times)
{
	CUgraphExec x;

	CU(cuGraphInstantiate(&x, g, 0));
	while (times--)
		CU(cuGraphLaunch(x, t));
	CU(cuStreamSynchronize(t));
	CU(cuGraphExecDestroy(x));
}

static void the_graph(void)
{
	CUstreamCaptureStatus st;
	/* From when the kernel before allows it, not from its end. */
	const CUgraphEdgeData early = { .from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC,
					.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC };
	const CUgraphEdgeData *edges;
	const CUgraphNode *deps;
	CUgraphNode first, extra, nodes[8], into;
	cuuint64_t id = 0, again = 0;
	CUgraph g, during, own;
	size_t n = 99;

	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_ILLEGAL_STATE, "an end without a beginning");
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_ILLEGAL_STATE, "a second beginning");
	CU(cuStreamGetCaptureInfo(s, &st, &id, &during, &deps, &edges, &n));
	ok(st == CU_STREAM_CAPTURE_STATUS_ACTIVE && id && during && n == 0, "a capture has a graph with nothing in it");
	launch(s, 1);
	CU(cuStreamGetCaptureInfo(s, &st, &again, &g, &deps, &edges, &n));
	ok(id == again && g == during && n == 1 && deps && deps[0], "the same one later, where the next depends on one node");
	first = deps[0];
	/* A node of the program's own, which what follows is to depend on as well. */
	CU(cuGraphAddEmptyNode(&extra, during, &first, 1));
	CU(cuStreamUpdateCaptureDependencies(s, &extra, NULL, 1, CU_STREAM_ADD_CAPTURE_DEPENDENCIES));
	CU(cuStreamGetCaptureInfo(s, &st, NULL, NULL, &deps, &edges, &n));
	ok(n == 2, "a program can add to what the next depends on: %zu", n);
	launch(s, 2);
	CU(cuStreamGetCaptureInfo(s, &st, NULL, NULL, &deps, &edges, &n));
	n = n == 1 ? 8 : 0;
	CU(cuGraphNodeGetDependencies(deps[0], nodes, NULL, &n));
	ok(n == 2 && (nodes[0] == extra || nodes[1] == extra), "and so it does");
	if (!on_driver()) {	/* not seen there yet */
		CU(cuStreamUpdateCaptureDependencies(s, (CUgraphNode *)deps, &early, 1,
						     CU_STREAM_SET_CAPTURE_DEPENDENCIES));
		OURS(cuStreamGetCaptureInfo(s, &st, NULL, NULL, &deps, NULL, &n), CUDA_ERROR_LOSSY_QUERY,
		     "who does not ask how the next depends on it is told that there is more to know");
		CU(cuStreamGetCaptureInfo(s, &st, NULL, NULL, &deps, &edges, &n));
		ok(n == 1 && edges[0].type == early.type && edges[0].from_port == early.from_port, "who asks is told");
		CU(cuStreamUpdateCaptureDependencies(s, (CUgraphNode *)deps, NULL, 1,
						     CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	}
	GIVES(cuStreamUpdateCaptureDependencies(s, &extra, NULL, 1, 7), CUDA_ERROR_INVALID_VALUE, "unknown flags");
	GIVES(cuGraphDestroy(during), CUDA_ERROR_ILLEGAL_STATE, "destroying a graph that is being captured");
	CU(cuStreamEndCapture(s, &g));
	ok(g == during, "the graph of the end is the one from before");
	GIVES(cuStreamUpdateCaptureDependencies(s, &extra, NULL, 1, 0), CUDA_ERROR_ILLEGAL_STATE, "no capture to add to");
	CU(cuMemsetD32(d, 0, 1));
	launch_graph(g, 2);
	ok(value() == 6, "it does what was captured: %u", value());
	CU(cuGraphDestroy(g));

	/* Into a graph that there is already. */
	CU(cuGraphCreate(&own, 0));
	CU(cuGraphAddEmptyNode(&into, own, NULL, 0));
	CU(cuStreamBeginCaptureToGraph(s, own, &into, NULL, 1, CU_STREAM_CAPTURE_MODE_GLOBAL));
	launch(s, 5);
	CU(cuStreamEndCapture(s, &g));
	n = 8;
	CU(cuGraphGetNodes(own, nodes, &n));
	ok(g == own && n == 2, "a capture can add to a graph");
	n = 1;
	CU(cuGraphNodeGetDependencies(nodes[1], &first, NULL, &n));
	ok(n == 1 && first == into, "behind the nodes that it is told");
	CUgraphExec x;
	CU(cuGraphInstantiate(&x, own, 0));
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	GIVES(cuGraphLaunch(x, s), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a launch of a graph in a capture");
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "which ends the capture");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(own));
}

static int called;

static void count_call(void *data)
{
	called += *(int *)data;
}

static void CUDA_CB callback(CUstream stream, CUresult r, void *data)
{
	(void)stream;
	(void)r;
	(void)data;
}

static void what_is_captured(void)
{
	static unsigned int in[N], out[N];
	CUstreamBatchMemOpParams ops[2] = { 0 };
	CUdeviceptr scratch = 0, more;
	CUgraphNodeType type;
	CUgraphNode nodes[8];
	int three = 3;
	CUevent ev;
	CUgraph g;
	size_t n;
	CUgraphExec x;

	CU(cuEventCreate(&ev, 0));
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	CU(cuMemcpyHtoDAsync(d, in, sizeof(in), s));
	launch(s, 1);
	CU(cuLaunchHostFunc(s, count_call, &three));
	CU(cuMemcpyDtoHAsync(out, d, sizeof(out), s));
	CU(cuEventRecordWithFlags(ev, s, CU_EVENT_RECORD_EXTERNAL));
	CU(cuStreamEndCapture(s, &g));
	n = 8;
	CU(cuGraphGetNodes(g, nodes, &n));
	ok(n == 5, "pageable copies, a kernel, a function and an event are five nodes: %zu", n);
	CU(cuGraphNodeGetType(nodes[4], &type));
	ok(n == 5 && type == CU_GRAPH_NODE_TYPE_EVENT_RECORD, "of which the last records the event");
	CU(cuGraphInstantiate(&x, g, 0));
	for (unsigned int i = 1; i <= 3; i++) {
		in[0] = 10 * i;
		CU(cuGraphLaunch(x, t));
		CU(cuEventSynchronize(ev));
		ok(out[0] == 10 * i + 1 && called == (int)(3 * i), "each launch copies, computes, calls, copies: %u", out[0]);
	}
	CU(cuStreamSynchronize(t));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	GIVES(cuEventRecordWithFlags(ev, s, CU_EVENT_RECORD_EXTERNAL), CUDA_ERROR_ILLEGAL_STATE, "external, without a capture");
	GIVES(cuStreamWaitEvent(s, ev, CU_EVENT_WAIT_EXTERNAL), CUDA_ERROR_ILLEGAL_STATE, "the same for waiting");

	/* Memory of the graph's own. */
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	CU(cuMemAllocAsync(&scratch, 4096, s));
	CU(cuMemsetD32Async(scratch, 42, 1, s));
	CU(cuMemcpyDtoDAsync(d, scratch, 4, s));
	CU(cuMemFreeAsync(scratch, s));
	CU(cuStreamEndCapture(s, &g));
	n = 8;
	CU(cuGraphGetNodes(g, nodes, &n));
	CU(cuGraphNodeGetType(nodes[0], &type));
	ok(n == 4 && type == CU_GRAPH_NODE_TYPE_MEM_ALLOC, "memory is allocated and freed by nodes");
	CU(cuMemsetD32(d, 0, 1));
	launch_graph(g, 3);
	ok(value() == 42, "with every launch: %u", value());
	GIVES(cuGraphClone(&g, g), CUDA_ERROR_NOT_SUPPORTED, "a clone of a graph with memory");
	CU(cuGraphDestroy(g));

	ops[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
	ops[0].writeValue.address = d;
	ops[0].writeValue.value = 7;
	ops[1] = ops[0];
	ops[1].writeValue.address = d + 4;
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	CU(cuStreamBatchMemOp(s, 2, ops, 0));
	CU(cuStreamEndCapture(s, &g));
	n = 8;
	CU(cuGraphGetNodes(g, nodes, &n));
	CU(cuGraphNodeGetType(nodes[0], &type));
	ok(n == 1 && type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, "memory operations of one call are one node");
	launch_graph(g, 1);
	ok(value() == 7, "which does them");
	CU(cuGraphDestroy(g));

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuStreamAddCallback(s, callback, NULL, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a callback with a status");
	broken("a callback in a capture");
	CU(cuMemAlloc(&more, 16));
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuMemFreeAsync(more, s), CUDA_ERROR_INVALID_VALUE, "freeing memory that the graph did not allocate");
	cuStreamEndCapture(s, &g);
	CU(cuMemFree(more));
	CU(cuEventDestroy(ev));
}

/* What streams go on from stays while they do. */
static void taken_away(void)
{
	CUgraphNode first, node;
	const CUgraphNode *tips;
	CUstreamCaptureStatus st;
	CUgraph g, child, owned;
	size_t n;

	if (native("what is taken away from a capture"))
		return;
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	launch(s, 1);
	CU(cuStreamGetCaptureInfo(s, &st, NULL, NULL, &tips, NULL, &n));
	first = tips[0];
	GIVES(cuGraphDestroyNode(first), CUDA_ERROR_ILLEGAL_STATE, "destroy a node of a graph that is captured");
	launch(s, 2);
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphGetNodes(g, NULL, &n));
	ok(n == 2, "the capture goes on: %zu nodes", n);
	CU(cuGraphDestroyNode(first));
	CU(cuGraphDestroy(g));

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphCreate(&child, 0));
	CU(cuGraphAddChildGraphNode(&node, g, NULL, 0, child));
	CU(cuGraphChildGraphNodeGetGraph(node, &owned));
	CU(cuStreamBeginCaptureToGraph(s, owned, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_RELAXED));
	launch(s, 1);
	CU(cuGraphDestroy(g));
	launch(s, 2);
	cuStreamEndCapture(s, &g);
	ok(status(s) == CU_STREAM_CAPTURE_STATUS_NONE, "a graph that is captured into goes with its owner");
	CU(cuGraphDestroy(child));
}

/* Streams of a capture that end before it does. */
static void ended_streams(void)
{
	CUstream other;
	CUevent fork, join;
	CUgraph g;
	size_t n;

	CU(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
	/* Of a stream that ends during a capture CUDA's documentation says nothing. */
	for (int joined = ON_SOFTWARE() ? 1 : -1; joined >= 0; joined--) {
		CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
		begin(CU_STREAM_CAPTURE_MODE_RELAXED);
		launch(s, 1);
		CU(cuEventRecord(fork, s));
		CU(cuStreamWaitEvent(other, fork, 0));
		launch(other, 2);
		CU(cuEventRecord(join, other));
		if (joined)
			CU(cuStreamWaitEvent(s, join, 0));
		CU(cuStreamDestroy(other));
		launch(s, 3);
		if (!joined) {
			GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "if not, it is missed");
			continue;
		}
		GIVES(cuStreamEndCapture(s, &g), CUDA_SUCCESS, "a stream whose part is joined may end during the capture");
		CU(cuGraphGetNodes(g, NULL, &n));
		ok(n == 3, "and its part is there: %zu nodes", n);
		CU(cuGraphDestroy(g));
	}
	CU(cuEventDestroy(fork));
	CU(cuEventDestroy(join));

	CU(cuGraphCreate(&g, 0));
	CU(cuStreamBeginCaptureToGraph(s, g, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_RELAXED));
	launch(s, 1);
	if (on_driver())	/* not seen there yet */
		CU(cuStreamEndCapture(s, &g));
	OURS(cuStreamEndCapture(s, NULL), CUDA_SUCCESS, "nobody need be told the graph that was captured into");
	CU(cuGraphGetNodes(g, NULL, &n));
	ok(n == 1 && status(s) == CU_STREAM_CAPTURE_STATUS_NONE, "it has %zu node", n);
	CU(cuGraphDestroy(g));
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	OURS(cuStreamEndCapture(s, NULL), CUDA_ERROR_INVALID_VALUE, "but any other");
	cuStreamEndCapture(s, &g);
	cuGraphDestroy(g);
}

static void streams(void)
{
	const CUgraphNode *of_s, *of_t;
	CUevent fork, join, plain;
	CUstreamCaptureStatus st;
	CUgraphNode node;
	CUgraph g;
	CUdeviceptr more;
	CUstream u;
	size_t n;

	CU(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&plain, CU_EVENT_DISABLE_TIMING));
	CU(cuStreamCreate(&u, CU_STREAM_NON_BLOCKING));
	CU(cuEventRecord(plain, t));

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	launch(s, 1);
	CU(cuEventRecord(fork, s));
	GIVES(cuEventQuery(fork), CUDA_ERROR_CAPTURED_EVENT, "asking a captured event how far it is");
	broken("asking a captured event");

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	launch(s, 1);
	CU(cuEventRecord(fork, s));
	CU(cuStreamWaitEvent(t, fork, 0));
	ok(status(t) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "a stream that waits for the capture takes part");
	launch(t, 2);
	CU(cuStreamGetCaptureInfo(s, &st, NULL, NULL, &of_s, NULL, &n));
	node = of_s[0];
	CU(cuStreamGetCaptureInfo(t, &st, NULL, NULL, &of_t, NULL, &n));
	/* The driver keeps what it told of a stream until that is asked again, or no longer. */
	ok((on_driver() || (of_s != of_t && of_s[0] == node)) && of_t[0] != node, "what each depends on is told apart");
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "without having joined");
	ok(status(s) == CU_STREAM_CAPTURE_STATUS_NONE && status(t) == CU_STREAM_CAPTURE_STATUS_NONE, "all of it is over");

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	launch(s, 1);
	CU(cuEventRecord(fork, s));
	CU(cuStreamWaitEvent(t, fork, 0));
	GIVES(cuStreamEndCapture(t, &g), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "ending it where it did not begin");
	broken("ending it in another stream");

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuStreamWaitEvent(s, plain, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "waiting for what is not captured");
	broken("waiting for what is not captured");

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	CU(cuEventRecord(fork, s));
	CU(cuStreamBeginCapture(u, CU_STREAM_CAPTURE_MODE_GLOBAL));
	GIVES(cuStreamWaitEvent(u, fork, 0), CUDA_ERROR_STREAM_CAPTURE_MERGE, "two captures in one");
	cuStreamEndCapture(u, &g);
	cuStreamEndCapture(s, &g);

	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	GIVES(cuStreamSynchronize(s), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "waiting for a stream that captures");
	broken("waiting for a stream that captures");
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	GIVES(cuCtxSynchronize(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "waiting for its context");
	broken("waiting for its context");
	if (!on_driver()) {	/* not seen there yet */
		begin(CU_STREAM_CAPTURE_MODE_RELAXED);
		GIVES(cuCtxRecordEvent(ctx, plain), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "an event of its context");
		broken("an event of its context");
		begin(CU_STREAM_CAPTURE_MODE_RELAXED);
		GIVES(cuCtxWaitEvent(ctx, plain), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "its context that waits");
		broken("its context that waits");
	}

	/* The legacy stream waits for blocking streams, which can't be while one captures. */
	CU(cuStreamDestroy(u));
	CU(cuStreamCreate(&u, CU_STREAM_DEFAULT));
	if (!on_driver()) {	/* not seen there yet */
		CU(cuMemAlloc(&more, 16));
		CU(cuMemsetD32Async(d, 0, 1, CU_STREAM_LEGACY));
		CU(cuStreamBeginCapture(u, CU_STREAM_CAPTURE_MODE_RELAXED));
		GIVES(cuMemFree(more), CUDA_SUCCESS, "memory is freed after work in the legacy stream");
		ok(status(u) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "and a blocking stream captures on");
		cuStreamEndCapture(u, &g);
		CU(cuGraphDestroy(g));
	}
	CU(cuStreamBeginCapture(u, CU_STREAM_CAPTURE_MODE_RELAXED));
	GIVES(cuStreamIsCapturing(CU_STREAM_LEGACY, &st), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "asking the legacy stream");
	GIVES(cuStreamGetCaptureInfo(CU_STREAM_LEGACY, &st, NULL, NULL, NULL, NULL, NULL), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
	      "or what it captures");
	ok(status(u) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "does the capture no harm");
	GIVES(cuMemsetD32Async(d, 0, 1, CU_STREAM_LEGACY), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "using it");
	ok(status(u) == CU_STREAM_CAPTURE_STATUS_INVALIDATED, "does");
	GIVES(cuStreamEndCapture(u, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the end of it");
	GIVES(cuStreamBeginCapture(CU_STREAM_LEGACY, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
	      "a capture of the legacy stream");
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	CU(cuMemsetD32Async(d, 0, 1, NULL));
	ok(status(s) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "a stream that does not wait for the legacy one captures on");
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphDestroy(g));

	CU(cuStreamBeginCapture(u, CU_STREAM_CAPTURE_MODE_RELAXED));
	CU(cuStreamDestroy(u));
	CU(cuCtxSynchronize());
	ok(true, "a capture ends with its stream");
	CU(cuEventDestroy(fork));
	CU(cuEventDestroy(join));
	CU(cuEventDestroy(plain));
}

struct other {
	CUstreamCaptureMode mode;
	CUresult alloc, end;
	CUdeviceptr p;
	CUgraph g;
};

static void *other_thread(void *data)
{
	struct other *o = data;

	CU(cuCtxSetCurrent(ctx));
	CU(cuThreadExchangeStreamCaptureMode(&o->mode));
	o->alloc = cuMemAlloc(&o->p, 64);
	o->end = cuStreamEndCapture(s, &o->g);
	return NULL;
}

/* What another thread with @theirs hears when it allocates while this one captures with @mine. */
static struct other meanwhile(CUstreamCaptureMode mine, CUstreamCaptureMode theirs)
{
	struct other o = { .mode = theirs };
	pthread_t thread;

	begin(mine);
	pthread_create(&thread, NULL, other_thread, &o);
	pthread_join(thread, NULL);
	return o;	/* its memory goes with the context */
}

static void threads(void)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUdeviceptr p;
	struct other o;
	CUgraph g;

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuMemAlloc(&p, 64), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "an allocation while this thread captures");
	broken("an allocation");
	begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	GIVES(cuMemAlloc(&p, 64), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the same with a capture of the thread's own");
	broken("an allocation in the capture's thread");
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	CU(cuMemAlloc(&p, 64));
	CU(cuMemFree(p));
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphDestroy(g));
	ok(true, "a relaxed capture allows it");
	CU(cuThreadExchangeStreamCaptureMode(&mode));
	ok(mode == CU_STREAM_CAPTURE_MODE_GLOBAL, "a thread's mode is global first");
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	CU(cuMemAlloc(&p, 64));
	CU(cuMemFree(p));
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphDestroy(g));
	ok(true, "and so does a relaxed thread");
	CU(cuThreadExchangeStreamCaptureMode(&mode));
	ok(mode == CU_STREAM_CAPTURE_MODE_RELAXED, "which is what it was set to");
	mode = 9;
	OURS(cuThreadExchangeStreamCaptureMode(&mode), CUDA_ERROR_INVALID_VALUE, "there is no such mode");

	o = meanwhile(CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_GLOBAL);
	ok(o.alloc == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a global capture forbids it to other threads: %s", cu_name(o.alloc));
	if (!on_driver()) {	/* where the wrong thread can end what is broken */
		ok(o.end == CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "which can't end it either: %s", cu_name(o.end));
		broken("an allocation elsewhere");
	} else {
		end_capture();
	}
	o = meanwhile(CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	ok(o.alloc == CUDA_SUCCESS, "but not if they look at their own captures only: %s", cu_name(o.alloc));
	end_capture();
	o = meanwhile(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_GLOBAL);
	ok(o.alloc == CUDA_SUCCESS, "a thread's own capture forbids others nothing: %s", cu_name(o.alloc));
	end_capture();
	o = meanwhile(CU_STREAM_CAPTURE_MODE_RELAXED, CU_STREAM_CAPTURE_MODE_GLOBAL);
	ok(o.alloc == CUDA_SUCCESS && o.end == CUDA_SUCCESS, "a relaxed one can be ended by any thread: %s", cu_name(o.end));
	CU(cuGraphDestroy(o.g));
}

/* Host memory that is freed meanwhile: refused, it stays; where it is allowed, the capture goes on. */
static void freeing(void)
{
	static unsigned int mine[N];
	unsigned int *pinned, *more, flags;
	CUdeviceptr managed, managed_more;
	CUgraph g;

	if (native("freeing host memory while a stream captures"))
		return;
	CU(cuMemHostAlloc((void **)&pinned, 4096, 0));
	CU(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
	CU(cuMemHostRegister(mine, sizeof(mine), 0));
	*pinned = 5;
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuMemHostAlloc((void **)&more, 4096, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "pinned memory in a capture");
	broken("pinned memory");
	begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	GIVES(cuMemAllocManaged(&managed_more, 4096, CU_MEM_ATTACH_GLOBAL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
	      "managed memory in a capture");
	broken("managed memory");
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	launch(s, 1);
	GIVES(cuMemHostAlloc((void **)&more, 4096, 0), CUDA_SUCCESS, "a relaxed capture lets pinned memory be allocated");
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphDestroy(g));
	CU(cuMemFreeHost(more));
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuMemFreeHost(pinned), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "freeing pinned memory in a capture");
	broken("freeing pinned memory");
	GIVES(cuMemHostGetFlags(&flags, pinned), CUDA_SUCCESS, "the memory is there");
	CU(cuMemcpyHtoD(d, pinned, 4));
	ok(value() == 5, "with what is in it: %u", value());
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	GIVES(cuMemFree(managed), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "freeing managed memory in a capture");
	broken("freeing managed memory");
	GIVES(cuMemsetD32(managed, 6, 1), CUDA_SUCCESS, "that is there, too");
	begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	GIVES(cuMemHostUnregister(mine), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "unregistering memory in a capture");
	broken("unregistering memory");
	GIVES(cuMemHostRegister(mine, sizeof(mine), 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "it is registered as before");

	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	launch(s, 1);
	GIVES(cuMemFreeHost(pinned), CUDA_SUCCESS, "a relaxed capture lets pinned memory be freed");
	GIVES(cuMemFreeHost(pinned), CUDA_ERROR_INVALID_VALUE, "once");
	GIVES(cuMemFree(managed), CUDA_SUCCESS, "and managed memory");
	GIVES(cuMemHostUnregister(mine), CUDA_SUCCESS, "and memory be unregistered");
	ok(status(s) == CU_STREAM_CAPTURE_STATUS_ACTIVE, "and goes on");
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphDestroy(g));
	CU(cuMemHostAlloc((void **)&pinned, 4096, 0));
	GIVES(cuMemFreeHost(pinned), CUDA_SUCCESS, "later memory is freed as ever");
}

/* Copies between memory that the CPU reaches, which are nodes like others. */
static void host_to_host(void)
{
	static unsigned char ordinary[4096];
	unsigned char *from, *to;
	CUDA_MEMCPY3D box = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcPitch = 64, .srcHeight = 4,
			      .dstMemoryType = CU_MEMORYTYPE_HOST, .dstPitch = 64, .dstHeight = 4, .dstXInBytes = 8,
			      .WidthInBytes = 32, .Height = 4, .Depth = 1 };
	CUgraphExec exec;
	CUgraph graph;
	size_t n = 0;

	if (native("copies from host to host in a capture"))
		return;
	CU(cuMemHostAlloc((void **)&from, 4096, 0));
	CU(cuMemHostAlloc((void **)&to, 4096, 0));
	box.srcHost = from;
	box.dstHost = to + 2048;
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	GIVES(cuMemcpyAsync((CUdeviceptr)to, (CUdeviceptr)from, 1024, s), CUDA_SUCCESS, "a copy from pinned to pinned memory");
	GIVES(cuMemcpy3DAsync(&box, s), CUDA_SUCCESS, "a box");
	GIVES(cuMemcpyAsync((CUdeviceptr)to + 1024, (CUdeviceptr)ordinary, 1024, s), CUDA_SUCCESS, "from ordinary memory");
	GIVES(cuStreamEndCapture(s, &graph), CUDA_SUCCESS, "are captured");
	CU(cuGraphGetNodes(graph, NULL, &n));
	ok(n == 3, "as a node each: %zu", n);
	CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
	for (unsigned char round = 1; round < 3; round++) {
		memset(from, round, 4096);
		memset(ordinary, round + 10, sizeof(ordinary));
		memset(to, 0, 4096);
		CU(cuGraphLaunch(exec, s));
		CU(cuStreamSynchronize(s));
		ok(to[0] == round && to[1023] == round && to[1024] == round + 10 && to[2047] == round + 10 && !to[2048] &&
		   to[2048 + 8] == round && to[2048 + 3 * 64 + 39] == round && !to[2048 + 40], "and made each time");
	}
	CU(cuGraphExecDestroy(exec));
	CU(cuGraphDestroy(graph));
	CU(cuMemFreeHost(from));
	CU(cuMemFreeHost(to));
}

int main(void)
{
	CUmodule module;
	CUdevice dev;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	CU(cuMemAlloc(&d, N * 4));
	CU(cuMemsetD32(d, 0, N));
	the_graph();
	what_is_captured();
	streams();
	ended_streams();
	taken_away();
	threads();
	freeing();
	host_to_host();
	CU(cuMemFree(d));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
