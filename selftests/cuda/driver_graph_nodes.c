// SPDX-License-Identifier: Apache-2.0
/* Every kind of graph node: made, asked about, changed, in the graph and in executable ones; and what is refused. */
#include <unistd.h>

#include "driver.h"

#define N 1024u

static const char ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".extern .func cudaGraphSetConditional (.param .b64 handle, .param .b32 value);\n"
	PTX_ADD
	/* The condition is whether the counter is below the limit. */
	".visible .entry test(.param .u64 handle, .param .u64 where, .param .u32 limit)\n"
	"{\n"
	"	.reg .b64 %rd<3>;\n"
	"	.reg .b32 %r<4>;\n"
	"	.reg .pred %p1;\n"
	"	ld.param.u64 %rd1, [handle];\n"
	"	ld.param.u64 %rd2, [where];\n"
	"	ld.param.u32 %r1, [limit];\n"
	"	ld.global.u32 %r2, [%rd2];\n"
	"	setp.lt.u32 %p1, %r2, %r1;\n"
	"	selp.u32 %r3, 1, 0, %p1;\n"
	"	{\n"
	"	.param .b64 p0;\n"
	"	.param .b32 p1;\n"
	"	st.param.b64 [p0], %rd1;\n"
	"	st.param.b32 [p1], %r3;\n"
	"	call.uni cudaGraphSetConditional, (p0, p1);\n"
	"	}\n"
	"	ret;\n"
	"}\n";

static CUcontext ctx;
static CUstream stream;
static CUfunction add, test;
static CUdeviceptr d;
static unsigned int *pinned;

static unsigned int value_at(CUdeviceptr p)
{
	unsigned int v = 0;

	CU(cuMemcpyDtoH(&v, p, 4));
	return v;
}

static void run(CUgraph g)
{
	CUgraphExec x;

	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuGraphExecDestroy(x));
}

static CUDA_KERNEL_NODE_PARAMS one(CUfunction f, void **params)
{
	return (CUDA_KERNEL_NODE_PARAMS){ .func = f, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1,
					  .blockDimY = 1, .blockDimZ = 1, .kernelParams = params };
}

static void kernels(void)
{
	unsigned int five = 5, seven = 7, enabled = 2;
	void *params[] = { &d, &five }, *other[] = { &d, &seven };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params), got = { 0 }, k7 = one(add, other);
	CUkernelNodeAttrValue v = { 0 };
	CUgraphNode a, b, e;
	CUgraphNodeType type;
	CUgraphExec x;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	GIVES(cuGraphCreate(NULL, 0), CUDA_ERROR_INVALID_VALUE, "a graph to nowhere");
	GIVES(cuGraphCreate(&g, 1), CUDA_ERROR_INVALID_VALUE, "a graph with flags");
	CU(cuGraphAddKernelNode(&a, g, NULL, 0, &k));
	CU(cuGraphAddKernelNode(&b, g, &a, 1, &k7));
	CU(cuGraphAddEmptyNode(&e, g, &b, 1));
	CU(cuGraphNodeGetType(a, &type));
	ok(type == CU_GRAPH_NODE_TYPE_KERNEL, "a kernel node says so");
	CU(cuGraphKernelNodeGetParams(b, &got));
	ok((got.func == add || (CUfunction)got.kern == add) && got.gridDimX == 1 && got.kernelParams &&
	   *(CUdeviceptr *)got.kernelParams[0] == d && *(unsigned int *)got.kernelParams[1] == 7,
	   "it tells its kernel and parameters");
	CU(cuGraphKernelNodeSetParams(a, &got));
	CU(cuMemsetD32(d, 0, 1));
	run(g);
	ok(value_at(d) == 14, "parameters can be changed: %u", value_at(d));
	GIVES(cuGraphKernelNodeGetParams(e, &got), CUDA_ERROR_INVALID_VALUE, "a node of another kind");
	GIVES(cuGraphKernelNodeGetParams(a, NULL), CUDA_ERROR_INVALID_VALUE, "parameters to nowhere");
	GIVES(cuGraphAddKernelNode(&e, g, NULL, 0, NULL), CUDA_ERROR_INVALID_VALUE, "no parameters");
	k.gridDimX = 0;
	GIVES(cuGraphAddKernelNode(&e, g, NULL, 0, &k), CUDA_ERROR_INVALID_VALUE, "a grid of nothing");
	k.gridDimX = 1;

	v.priority = -1;
	CU(cuGraphKernelNodeSetAttribute(a, CU_LAUNCH_ATTRIBUTE_PRIORITY, &v));
	CU(cuGraphKernelNodeCopyAttributes(b, a));
	v.priority = 0;
	CU(cuGraphKernelNodeGetAttribute(b, CU_LAUNCH_ATTRIBUTE_PRIORITY, &v));
	ok(v.priority == -1, "attributes are kept and copied");
	GIVES(cuGraphKernelNodeSetAttribute(a, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &v), CUDA_ERROR_INVALID_VALUE,
	      "an attribute that streams have");
	GIVES(cuGraphKernelNodeGetAttribute(e, CU_LAUNCH_ATTRIBUTE_PRIORITY, &v), CUDA_ERROR_INVALID_VALUE,
	      "an attribute of another kind of node");

	CU(cuGraphInstantiateWithFlags(&x, g, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
	cuuint64_t flags = 0;
	CU(cuGraphExecGetFlags(x, &flags));
	ok(flags == CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH, "an executable graph tells its flags");
	CU(cuGraphExecKernelNodeSetParams(x, a, &k));
	CU(cuGraphNodeSetEnabled(x, b, 0));
	CU(cuGraphNodeGetEnabled(x, b, &enabled));
	ok(enabled == 0, "a node can be disabled");
	GIVES(cuGraphNodeSetEnabled(x, e, 0), CUDA_ERROR_INVALID_VALUE, "an empty node can't");
	CU(cuMemsetD32(d, 0, 1));
	CU(cuGraphUpload(x, stream));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d) == 5, "an executable graph's nodes change without the graph's: %u", value_at(d));
	GIVES(cuGraphInstantiateWithFlags(&x, g, 1 << 9), CUDA_ERROR_INVALID_VALUE, "unknown flags");
	OURS(cuGraphInstantiateWithFlags(&x, g, CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH), CUDA_ERROR_NOT_SUPPORTED,
	     "one for kernels to launch");
	GIVES(cuGraphLaunch((CUgraphExec)g, stream), CUDA_ERROR_INVALID_VALUE, "a graph that is not executable");
	CU(cuGraphExecDestroy(x));
	GIVES(cuGraphExecDestroy(x), CUDA_ERROR_INVALID_VALUE, "destroy it twice");
	GIVES(cuGraphLaunch(x, stream), CUDA_ERROR_INVALID_VALUE, "launch it after that");
	CU(cuGraphDestroy(g));
	OURS(cuGraphNodeGetType(a, &type), CUDA_ERROR_INVALID_VALUE, "a node of a graph that is gone");
}

/* An edge from where a kernel allows it, not from its end: who asks for nodes alone is told that there is more. */
static void early(void)
{
	const CUgraphEdgeData how = { .from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC,
				      .type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC };
	CUgraphEdgeData told[8] = { { 0 } };
	CUgraphNode a, b, from[8], to[8];
	unsigned int five = 5, seven = 7;
	void *params[] = { &d, &five }, *other[] = { &d, &seven };
	CUDA_KERNEL_NODE_PARAMS k5 = one(add, params), k7 = one(add, other);
	size_t n = 8;
	CUgraph g;

	if (native("edges that are not from the end of a node"))
		return;
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddKernelNode(&a, g, NULL, 0, &k5));
	CU(cuGraphAddKernelNode(&b, g, NULL, 0, &k7));
	CU(cuGraphAddDependencies(g, &a, &b, &how, 1));
	GIVES(cuGraphGetEdges(g, from, to, NULL, &n), CUDA_ERROR_LOSSY_QUERY, "a graph's edges without what they are");
	n = 8;
	GIVES(cuGraphNodeGetDependencies(b, from, NULL, &n), CUDA_ERROR_LOSSY_QUERY, "what one depends on without how");
	n = 8;
	GIVES(cuGraphNodeGetDependentNodes(a, to, NULL, &n), CUDA_ERROR_LOSSY_QUERY, "what depends on it without how");
	n = 0;
	CU(cuGraphGetEdges(g, NULL, NULL, NULL, &n));
	ok(n == 1, "how many there are loses nothing: %zu", n);
	n = 8;
	CU(cuGraphGetEdges(g, from, to, told, &n));
	ok(n == 1 && from[0] == a && to[0] == b && told[0].type == how.type && told[0].from_port == how.from_port,
	   "with what it is an edge is told");
	CU(cuMemsetD32(d, 0, 1));
	run(g);
	ok(value_at(d) == 12, "and the graph runs: %u", value_at(d));
	CU(cuGraphDestroy(g));
}

static void topology(void)
{
	CUgraphNode n[4], list[8], from[8], to[8], copy[4], last;
	CUgraphExecUpdateResultInfo info;
	CUgraphEdgeData data[8];
	size_t count;
	CUgraph g, c, other;
	CUgraphExec x;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddEmptyNode(&n[0], g, NULL, 0));
	CU(cuGraphAddEmptyNode(&n[1], g, &n[0], 1));
	CU(cuGraphAddEmptyNode(&n[2], g, &n[0], 1));
	CU(cuGraphAddEmptyNode(&n[3], g, &n[1], 2));
	count = 8;
	CU(cuGraphGetRootNodes(g, list, &count));
	ok(count == 1 && list[0] == n[0] && list[1] == NULL, "one root");
	CU(cuGraphGetEdges(g, NULL, NULL, NULL, &count));
	ok(count == 4, "%zu edges", count);
	count = 8;
	CU(cuGraphGetEdges(g, from, to, data, &count));
	bool good = count == 4 && !from[4] && !to[4];
	for (size_t i = 0; i < count; i++)
		good &= (from[i] == n[0] && (to[i] == n[1] || to[i] == n[2])) ||
			((from[i] == n[1] || from[i] == n[2]) && to[i] == n[3]);
	ok(good, "they lead where they were made to");
	count = 1;
	CU(cuGraphNodeGetDependencies(n[3], list, NULL, &count));
	ok(count == 1 && (list[0] == n[1] || list[0] == n[2]), "as much of an answer as there is room for");
	CU(cuGraphNodeGetDependentNodes(n[0], NULL, NULL, &count));
	ok(count == 2, "two come after the first");
	CU(cuGraphAddDependencies(g, &n[0], &n[3], NULL, 1));
	GIVES(cuGraphAddDependencies(g, &n[0], &n[3], NULL, 1), CUDA_ERROR_INVALID_VALUE, "a dependency that is there already");
	CU(cuGraphRemoveDependencies(g, &n[0], &n[3], NULL, 1));
	GIVES(cuGraphRemoveDependencies(g, &n[0], &n[3], NULL, 1), CUDA_ERROR_INVALID_VALUE, "one that is not there");
	GIVES(cuGraphAddDependencies(g, &n[0], &n[0], NULL, 1), CUDA_ERROR_INVALID_VALUE, "a node that depends on itself");
	GIVES(cuGraphGetEdges(g, from, NULL, NULL, &count), CUDA_ERROR_INVALID_VALUE, "half a place for edges");

	CU(cuGraphClone(&c, g));
	good = true;
	for (int i = 0; i < 4; i++)
		good &= cuGraphNodeFindInClone(&copy[i], n[i], c) == CUDA_SUCCESS && copy[i] != n[i];
	CU(cuGraphNodeGetDependentNodes(copy[0], NULL, NULL, &count));
	ok(good && count == 2, "a clone has a node for each, and its edges");
	CU(cuGraphNodeFindInClone(&last, n[3], c));
	ok(last == copy[3], "which is the same one whenever it is asked for");
	GIVES(cuGraphNodeFindInClone(&last, copy[0], c), CUDA_ERROR_INVALID_VALUE, "a node that was not cloned");
	CU(cuGraphDestroyNode(copy[1]));
	CU(cuGraphGetNodes(c, NULL, &count));
	ok(count == 3, "a node can be destroyed");
	OURS(cuGraphDestroyNode(copy[1]), CUDA_ERROR_INVALID_VALUE, "but once");
	CU(cuGraphGetEdges(c, NULL, NULL, NULL, &count));
	ok(count == 2, "and its edges go with it: %zu", count);

	CU(cuGraphInstantiate(&x, g, 0));
	GIVES(cuGraphExecUpdate(x, c, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "an update by another form");
	ok(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, "is told why: %d", info.result);
	CU(cuGraphExecUpdate(x, g, &info));
	ok(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS, "one by the same form works");
	CU(cuGraphCreate(&other, 0));
	CUDA_HOST_NODE_PARAMS h = { .fn = (CUhostFn)(void (*)(void))abort };
	CU(cuGraphAddEmptyNode(&copy[0], other, NULL, 0));
	CU(cuGraphAddEmptyNode(&copy[1], other, &copy[0], 1));
	CU(cuGraphAddHostNode(&copy[2], other, &copy[0], 1, &h));
	CU(cuGraphAddEmptyNode(&copy[3], other, &copy[1], 2));
	GIVES(cuGraphExecUpdate(x, other, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "an update by other kinds");
	ok(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED && info.errorNode == copy[2],
	   "is told which node is to blame");
	CU(cuGraphExecDestroy(x));

	CUDA_GRAPH_INSTANTIATE_PARAMS p = { 0 };
	CU(cuGraphAddDependencies(g, &n[3], &n[0], NULL, 1));
	GIVES(cuGraphInstantiateWithParams(&x, g, &p), CUDA_ERROR_INVALID_VALUE, "a cycle");
	ok(p.result_out == CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE && p.hErrNode_out, "is told as such");
	CU(cuGraphDestroy(other));
	CU(cuGraphDestroy(c));
	CU(cuGraphDestroy(g));
}

static int calls;

static void count_call(void *data)
{
	calls += *(int *)data;
}

static void host_and_events(void)
{
	int by = 3, other = 10;
	CUDA_HOST_NODE_PARAMS h = { .fn = count_call, .userData = &by }, got = { 0 };
	CUgraphNode a, b, w, r;
	CUevent before, after, back;
	CUgraphExec x;
	CUgraph g;

	CU(cuEventCreate(&before, 0));
	CU(cuEventCreate(&after, 0));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddEventWaitNode(&w, g, NULL, 0, before));
	CU(cuGraphAddHostNode(&a, g, &w, 1, &h));
	CU(cuGraphAddHostNode(&b, g, &a, 1, &h));
	CU(cuGraphAddEventRecordNode(&r, g, &b, 1, after));
	CU(cuGraphHostNodeGetParams(b, &got));
	ok(got.fn == count_call && got.userData == &by, "a host node tells its function");
	h.userData = &other;
	CU(cuGraphHostNodeSetParams(b, &h));
	CU(cuGraphEventRecordNodeGetEvent(r, &back));
	ok(back == after, "an event node tells its event");
	CU(cuGraphEventWaitNodeSetEvent(w, after));
	CU(cuGraphEventWaitNodeSetEvent(w, before));
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuEventRecord(before, stream));
	for (int i = 0; i < 5; i++)
		CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(calls == 65, "host nodes run with every launch: %d", calls);
	GIVES(cuEventQuery(after), CUDA_SUCCESS, "the event was recorded by the graph");
	calls = 0;
	CU(cuGraphExecHostNodeSetParams(x, a, &h));
	CU(cuGraphDestroy(g));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(calls == 20, "also after the graph is gone, with what they were given since: %d", calls);
	CU(cuGraphExecDestroy(x));
	CU(cuGraphCreate(&g, 0));
	h.fn = NULL;
	GIVES(cuGraphAddHostNode(&a, g, NULL, 0, &h), CUDA_ERROR_INVALID_VALUE, "a host node without a function");
	CU(cuEventDestroy(before));
	OURS(cuGraphAddEventWaitNode(&w, g, NULL, 0, before), CUDA_ERROR_INVALID_VALUE, "an event that is gone");
	CU(cuGraphDestroy(g));
	CU(cuEventDestroy(after));
}

/* An executable graph's function is given new data before each launch; each launch has what it was launched with. */
static void updates(int n)
{
	static int one = 1, two = 2;
	CUDA_HOST_NODE_PARAMS h = { .fn = count_call, .userData = &one };
	int wanted = 0, failed = 0;
	CUgraphNode a, b;
	CUgraphExec x;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddHostNode(&a, g, NULL, 0, &h));
	CU(cuGraphAddHostNode(&b, g, &a, 1, &h));
	CU(cuGraphInstantiate(&x, g, 0));
	calls = 0;
	for (int i = 0; i < n; i++) {
		h.userData = i & 1 ? &two : &one;
		failed += cuGraphExecHostNodeSetParams(x, a, &h) != CUDA_SUCCESS;
		if (i % 10 == 0) {
			CU(cuGraphLaunch(x, stream));
			wanted += 1 + (i & 1 ? two : one);
		}
		if (i % 100 == 0)
			CU(cuStreamSynchronize(stream));
	}
	/* The last launches are still under way. */
	CU(cuGraphExecDestroy(x));
	CU(cuStreamSynchronize(stream));
	ok(!failed && calls == wanted, "a host node's function can be changed %d times: %d of %d, %d failed", n, calls, wanted,
	   failed);
	/* What was never launched goes with its executable graph. */
	for (int i = 0; i < n; i += 100) {
		CU(cuGraphInstantiate(&x, g, 0));
		for (int k = 0; k < 100; k++)
			failed += cuGraphExecHostNodeSetParams(x, b, &h) != CUDA_SUCCESS;
		CU(cuGraphExecDestroy(x));
	}
	ok(!failed && calls == wanted, "also without a launch, in one executable graph after the other: %d failed", failed);
	CU(cuGraphDestroy(g));
}

/* Launches of an executable graph come one after the other, whatever their streams. */
static void one_at_a_time(void)
{
	CUDA_HOST_NODE_PARAMS h = { .fn = count_call };
	int first = 1, second = 10;
	CUdeviceptr gate;
	CUgraphNode a;
	CUgraphExec x;
	CUstream s;
	CUgraph g;

	if (getenv("VGPU_SYNC"))	/* every call waits then, so that nobody could open the gate */
		return;
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemsetD32(gate, 0, 1));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuGraphCreate(&g, 0));
	h.userData = &first;
	CU(cuGraphAddHostNode(&a, g, NULL, 0, &h));
	CU(cuGraphInstantiate(&x, g, 0));
	calls = 0;
	CU(cuGraphExecHostNodeSetParams(x, a, &h));
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuGraphLaunch(x, stream));
	h.userData = &second;
	CU(cuGraphExecHostNodeSetParams(x, a, &h));
	CU(cuGraphLaunch(x, s));
	usleep(20000);
	ok(!calls && cuStreamQuery(s) == CUDA_ERROR_NOT_READY, "a launch waits for the one before it in another stream");
	CU(cuMemsetD32(gate, 1, 1));
	CU(cuStreamSynchronize(s));
	ok(calls == 11, "and each calls what it was launched with: %d", calls);
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	CU(cuStreamDestroy(s));
	CU(cuMemFree(gate));
}

/* Whatever walked the nodes before, what may be depended on is the same. */
static void dependencies(void)
{
	enum { NODES = 2000 };
	static CUgraphNode n[NODES];
	CUgraphNode more, twice[2];
	size_t count = NODES;
	int failed = 0;
	CUgraph g, c;

	CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
	for (int i = 0; i < NODES; i++)
		CU(cuMemsetD32Async(d, i, 1, stream));
	CU(cuStreamEndCapture(stream, &g));
	CU(cuGraphGetNodes(g, n, &count));
	for (int pass = 0; pass < 2; pass++) {
		CU(cuGraphClone(&c, g));
		CU(cuGraphDestroy(c));
		if (pass)
			CU(cuGraphAddEmptyNode(&more, g, &n[0], 1));
		for (int i = NODES; i-- > 800;)
			failed += cuGraphAddEmptyNode(&more, g, &n[i], 1) != CUDA_SUCCESS;
	}
	ok(!failed, "each node of a graph that was cloned can be depended on: %d cannot", failed);
	twice[0] = twice[1] = n[5];
	GIVES(cuGraphAddEmptyNode(&more, g, twice, 2), CUDA_ERROR_INVALID_VALUE, "but not twice by one node");
	CU(cuGraphDestroy(g));
}

static void moved_children(void)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH };
	CUgraph a, b, c;
	CUgraphNode node;

	if (native("graphs moved into each other"))
		return;
	CU(cuGraphCreate(&a, 0));
	CU(cuGraphCreate(&b, 0));
	CU(cuGraphCreate(&c, 0));
	p.graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
	p.graph.graph = b;
	CU(cuGraphAddNode(&node, a, NULL, NULL, 0, &p));
	p.graph.graph = c;
	CU(cuGraphAddNode(&node, b, NULL, NULL, 0, &p));
	p.graph.graph = a;
	GIVES(cuGraphAddNode(&node, c, NULL, NULL, 0, &p), CUDA_ERROR_INVALID_VALUE, "a graph moved into a part of itself");
	run(a);
	CU(cuGraphDestroy(a));
}

static void children(void)
{
	unsigned int one_more = 1, ten = 10;
	void *params[] = { &d, &one_more }, *tens[] = { &d, &ten };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params), kt = one(add, tens);
	CUgraphNode node, inner, in_child;
	CUgraph g, child, owned, again;
	CUgraphExec x;
	size_t count = 1;

	CU(cuGraphCreate(&child, 0));
	CU(cuGraphAddKernelNode(&inner, child, NULL, 0, &k));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddChildGraphNode(&node, g, NULL, 0, child));
	CU(cuGraphChildGraphNodeGetGraph(node, &owned));
	CU(cuGraphChildGraphNodeGetGraph(node, &again));
	ok(owned != child && owned == again, "a child graph node has a copy of its own");
	CU(cuGraphGetNodes(owned, &in_child, &count));
	ok(count == 1 && in_child && in_child != inner, "with nodes of its own");
	GIVES(cuGraphDestroy(owned), CUDA_ERROR_INVALID_VALUE, "which is not the program's to destroy");
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuMemsetD32(d, 0, 1));
	CU(cuGraphLaunch(x, stream));
	CU(cuGraphKernelNodeSetParams(inner, &kt));
	CU(cuGraphExecChildGraphNodeSetParams(x, node, child));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d) == 11, "it runs, and can be changed as a whole: %u", value_at(d));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(child));
	CU(cuGraphDestroy(g));
	GIVES(cuGraphGetNodes(owned, NULL, &count), CUDA_ERROR_INVALID_VALUE, "the copy goes with its graph");
	GIVES(cuGraphChildGraphNodeGetGraph(node, &owned), CUDA_ERROR_INVALID_VALUE, "and the node");
}

/* A handle is for its graph and what is in that: @body is in @g, in which there is no other. */
static void nested(CUgraph g, CUgraph body)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_CONDITIONAL };
	CUgraphConditionalHandle handle;
	CUgraphNode node;
	CUgraph other;

	CU(cuGraphConditionalHandleCreate(&handle, g, ctx, 0, CU_GRAPH_COND_ASSIGN_DEFAULT));
	p.conditional = (CUDA_CONDITIONAL_NODE_PARAMS){ .handle = handle, .type = CU_GRAPH_COND_TYPE_IF, .size = 1, .ctx = ctx };
	CU(cuGraphCreate(&other, 0));
	GIVES(cuGraphAddNode(&node, other, NULL, NULL, 0, &p), CUDA_ERROR_INVALID_VALUE, "a handle of another graph");
	GIVES(cuGraphAddNode(&node, body, NULL, NULL, 0, &p), CUDA_SUCCESS, "one of the graph that has this one in a node");
	CU(cuGraphDestroy(other));
}

static void conditions(void)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_CONDITIONAL };
	unsigned int one_more = 1, limit = 7;
	CUgraphConditionalHandle handle;
	void *params[] = { &d, &one_more }, *test_params[] = { &handle, &d, &limit };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params), t = one(test, test_params);
	CUgraphNode node, a;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphConditionalHandleCreate(&handle, g, ctx, 1, CU_GRAPH_COND_ASSIGN_DEFAULT));
	p.conditional = (CUDA_CONDITIONAL_NODE_PARAMS){ .handle = handle, .type = CU_GRAPH_COND_TYPE_WHILE, .size = 1, .ctx = ctx };
	CU(cuGraphAddNode(&node, g, NULL, NULL, 0, &p));
	ok(p.conditional.phGraph_out && p.conditional.phGraph_out[0], "a conditional node has a graph");
	CU(cuGraphAddKernelNode(&a, p.conditional.phGraph_out[0], NULL, 0, &k));
	CU(cuGraphAddKernelNode(&a, p.conditional.phGraph_out[0], &a, 1, &t));
	CU(cuMemsetD32(d, 0, 1));
	run(g);
	ok(value_at(d) == 7, "which runs while a kernel in it says so: %u", value_at(d));
	GIVES(cuGraphAddNode(&node, g, NULL, NULL, 0, &p), CUDA_ERROR_INVALID_VALUE, "a handle is for one node");
	CU(cuGraphDestroy(g));

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphConditionalHandleCreate(&handle, g, ctx, 0, CU_GRAPH_COND_ASSIGN_DEFAULT));
	p.conditional = (CUDA_CONDITIONAL_NODE_PARAMS){ .handle = handle, .type = CU_GRAPH_COND_TYPE_IF, .size = 2, .ctx = ctx };
	CU(cuGraphAddNode(&node, g, NULL, NULL, 0, &p));
	CU(cuGraphAddKernelNode(&a, p.conditional.phGraph_out[1], NULL, 0, &k));
	run(g);
	ok(value_at(d) == 8, "if not, the other graph: %u", value_at(d));
	nested(g, p.conditional.phGraph_out[0]);
	CU(cuGraphDestroy(g));
}

static CUgraph conditional(unsigned int size, unsigned int nodes, CUgraphNode *first)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_CONDITIONAL };
	unsigned int one_more = 1;
	CUgraphConditionalHandle handle;
	void *params[] = { &d, &one_more };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params);
	CUgraphNode node;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphConditionalHandleCreate(&handle, g, ctx, 1, CU_GRAPH_COND_ASSIGN_DEFAULT));
	p.conditional = (CUDA_CONDITIONAL_NODE_PARAMS){ .handle = handle, .type = CU_GRAPH_COND_TYPE_IF, .size = size, .ctx = ctx };
	CU(cuGraphAddNode(&node, g, NULL, NULL, 0, &p));
	for (unsigned int i = 0; i < nodes; i++)
		CU(cuGraphAddKernelNode(i ? &node : first, p.conditional.phGraph_out[0], NULL, 0, &k));
	return g;
}

/* An executable graph with a condition is only given another one of the same form, down to its bodies. */
static void condition_updates(void)
{
	unsigned int ten = 10;
	void *tens[] = { &d, &ten };
	CUDA_KERNEL_NODE_PARAMS kt = one(add, tens);
	CUgraphExecUpdateResultInfo info;
	CUgraphNode first, unused;
	CUgraph g = conditional(1, 1, &first), larger = conditional(2, 1, &unused), other = conditional(1, 2, &unused),
		same = conditional(1, 1, &unused);
	CUgraphExec x;

	CU(cuGraphInstantiate(&x, larger, 0));
	GIVES(cuGraphExecUpdate(x, g, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "an update by fewer bodies");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphInstantiate(&x, g, 0));
	GIVES(cuGraphExecUpdate(x, larger, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "one by more bodies");
	GIVES(cuGraphExecUpdate(x, other, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "one by another body");
	CU(cuMemsetD32(d, 0, 1));
	CU(cuGraphLaunch(x, stream));
	/* Whether a node of a body is one of the graph's that can change, and one handle stands for another, CUDA does not say. */
	if (ON_SOFTWARE()) {
		CU(cuGraphExecKernelNodeSetParams(x, first, &kt));
		CU(cuGraphLaunch(x, stream));
		CU(cuStreamSynchronize(stream));
		ok(value_at(d) == 11, "a body's kernel is changed for launches to come: %u", value_at(d));
		CU(cuGraphExecUpdate(x, same, &info));
		CU(cuGraphLaunch(x, stream));
	}
	CU(cuStreamSynchronize(stream));
	ok(value_at(d) == (ON_SOFTWARE() ? 12 : 1), "an update by the same form works: %u", value_at(d));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	CU(cuGraphDestroy(larger));
	CU(cuGraphDestroy(other));
	CU(cuGraphDestroy(same));
}

/* A change in a body waits for no launch, and no launch before it notices. */
static void changes_under_way(void)
{
	unsigned int ten = 10, wanted = 11, enabled = 2;
	void *tens[] = { &d, &ten };
	CUDA_KERNEL_NODE_PARAMS kt = one(add, tens);
	CUgraphNode first;
	CUgraph g = conditional(1, 1, &first);
	CUdeviceptr gate;
	CUgraphExec x;

	/* Every call waits then, so that nobody could open the gate. For the rest see condition_updates(). */
	if (getenv("VGPU_SYNC") || !ON_SOFTWARE()) {
		CU(cuGraphDestroy(g));
		return;
	}
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemsetD32(gate, 0, 1));
	CU(cuMemsetD32(d, 0, 1));
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuGraphLaunch(x, stream));
	CU(cuGraphExecKernelNodeSetParams(x, first, &kt));
	CU(cuGraphLaunch(x, stream));
	CU(cuGraphNodeSetEnabled(x, first, 0));
	CU(cuGraphLaunch(x, stream));
	CU(cuGraphNodeGetEnabled(x, first, &enabled));
	ok(!enabled, "a body's kernel is disabled");
	CU(cuGraphNodeSetEnabled(x, first, 1));
	CU(cuGraphLaunch(x, stream));
	wanted += 10;
	GIVES(cuStreamQuery(stream), CUDA_ERROR_NOT_READY, "while bodies change no launch is over");
	CU(cuMemsetD32(gate, 1, 1));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d) == wanted, "and each does what it was launched with: %u", value_at(d));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d) == wanted + 10, "as the next one does: %u", value_at(d));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	CU(cuMemFree(gate));
}

static int ended;

static void end_of_object(void *data)
{
	__atomic_fetch_add(&ended, *(int *)data, __ATOMIC_RELEASE);
}

static bool ended_is(int n)
{
	for (int i = 0; i < 2000 && __atomic_load_n(&ended, __ATOMIC_ACQUIRE) != n; i++)
		usleep(1000);
	return __atomic_load_n(&ended, __ATOMIC_ACQUIRE) == n;
}

/* A copy that a node has of a graph has the graph's objects, too. */
static void embedded_objects(void)
{
	CUgraph g, child, owned;
	CUgraphNode node;
	CUuserObject u;
	int by = 10, was = ended;

	CU(cuUserObjectCreate(&u, &by, end_of_object, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	CU(cuGraphCreate(&child, 0));
	CU(cuGraphRetainUserObject(child, u, 1, CU_GRAPH_USER_OBJECT_MOVE));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddChildGraphNode(&node, g, NULL, 0, child));
	CU(cuGraphDestroy(child));
	CU(cuGraphChildGraphNodeGetGraph(node, &owned));
	ok(ended == was, "a user object of a graph that is gone lives in its copy");
	if (ON_SOFTWARE())
		GIVES(cuGraphReleaseUserObject(owned, u, 2), CUDA_ERROR_INVALID_VALUE, "more references than that has");
	GIVES(cuGraphReleaseUserObject(owned, u, 1), CUDA_SUCCESS, "which can let go of it");
	ok(ended_is(was + 10), "and then it ends");
	CU(cuGraphDestroy(g));
}

static void user_objects(void)
{
	CUuserObject u, v;
	CUgraphExec x;
	CUgraph g;
	int by = 1;

	CU(cuUserObjectCreate(&u, &by, end_of_object, 2, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	CU(cuUserObjectRetain(u, 1));
	CU(cuUserObjectRelease(u, 2));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphRetainUserObject(g, u, 1, CU_GRAPH_USER_OBJECT_MOVE));
	if (ON_SOFTWARE()) {
		GIVES(cuUserObjectRelease(u, 1), CUDA_ERROR_INVALID_VALUE, "a reference that has moved to a graph");
		GIVES(cuGraphRetainUserObject(g, u, 1, CU_GRAPH_USER_OBJECT_MOVE), CUDA_ERROR_INVALID_VALUE,
		      "cannot move again");
	}
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphDestroy(g));
	ok(!ended, "a user object lives as long as an executable graph");
	CU(cuGraphExecDestroy(x));
	ok(ended_is(1), "and ends with it");
	CU(cuUserObjectCreate(&v, &by, end_of_object, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphRetainUserObject(g, v, 2, 0));
	if (ON_SOFTWARE())
		GIVES(cuGraphReleaseUserObject(g, v, 3), CUDA_ERROR_INVALID_VALUE, "more references than the graph has");
	CU(cuGraphReleaseUserObject(g, v, 2));
	if (ON_SOFTWARE())
		GIVES(cuUserObjectRelease(v, 2), CUDA_ERROR_INVALID_VALUE, "more than the program has");
	ok(ended == 1, "it is still there");
	CU(cuUserObjectRelease(v, 1));
	ok(ended_is(2), "until the last reference goes");
	GIVES(cuUserObjectCreate(&u, &by, NULL, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC), CUDA_ERROR_INVALID_VALUE,
	      "a user object that cannot end");
	GIVES(cuUserObjectCreate(&u, &by, end_of_object, 1, 0), CUDA_ERROR_INVALID_VALUE, "without the flag it must have");
	CU(cuGraphDestroy(g));
}

static void picture(void)
{
	unsigned int v = 1;
	void *params[] = { &d, &v };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params);
	char path[64], text[4096] = "";
	CUgraphNode a, b;
	CUgraph g;
	FILE *f;

	snprintf(path, sizeof(path), "graph-%d.dot", (int)getpid());
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddKernelNode(&a, g, NULL, 0, &k));
	CU(cuGraphAddEmptyNode(&b, g, &a, 1));
	if (cuGraphDebugDotPrint(g, path, CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE) == CUDA_ERROR_OPERATING_SYSTEM) {
		snprintf(path, sizeof(path), "/tmp/graph-%d.dot", (int)getpid());
		CU(cuGraphDebugDotPrint(g, path, CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE));
	}
	f = fopen(path, "r");
	ok(f && fread(text, 1, sizeof(text) - 1, f) && strstr(text, "digraph") && strstr(text, "add") && strstr(text, "->"),
	   "a picture of the graph, in a file here");
	if (f)
		fclose(f);
	unlink(path);
	GIVES(cuGraphDebugDotPrint(g, "/no such folder/x", 0), CUDA_ERROR_OPERATING_SYSTEM, "a file that can't be made");
	CU(cuGraphDestroy(g));
}

static void CUDA_CB count(void *data)
{
	++*(int *)data;
}

/* Nodes by the hundred, one below the other: selftests/run-local counts, by VGPU_TRACE, that none is waited for. */
static void many(void)
{
	unsigned int one_more = 1, start = 1000;
	void *params[] = { &d, &one_more };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params);
	CUDA_MEMSET_NODE_PARAMS s = { .dst = d, .elementSize = 4, .width = 1, .height = 1, .value = start };
	CUDA_MEMCPY3D out = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .dstMemoryType = CU_MEMORYTYPE_HOST,
			      .dstHost = pinned, .WidthInBytes = 4, .Height = 1, .Depth = 1 };
	CUgraphNode last, twice[2];
	int called = 0;
	CUDA_HOST_NODE_PARAMS h = { count, &called };
	CUgraph g;

	*pinned = 0;
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemsetNode(&last, g, NULL, 0, &s, ctx));
	for (int i = 0; i < 100; i++)
		CU(cuGraphAddKernelNode(&last, g, &last, 1, &k));
	CU(cuGraphAddMemcpyNode(&last, g, &last, 1, &out, ctx));
	CU(cuGraphAddHostNode(&last, g, &last, 1, &h));
	CU(cuGraphAddEmptyNode(&last, g, &last, 1));
	run(g);
	ok(*pinned == start + 100 && called == 1, "104 nodes in a row do what they are for, in their order");
	/* What is wrong is said at once all the same. */
	k.blockDimX = 1u << 20;
	OURS(cuGraphAddKernelNode(&last, g, NULL, 0, &k), CUDA_ERROR_INVALID_VALUE, "a node of an impossible shape");
	k.blockDimX = 1;
	twice[0] = twice[1] = last;
	GIVES(cuGraphAddKernelNode(&last, g, twice, 2, &k), CUDA_ERROR_INVALID_VALUE, "a node that depends twice on the same");
	s.width = 1u << 20;
	OURS(cuGraphAddMemsetNode(&last, g, NULL, 0, &s, ctx), CUDA_ERROR_INVALID_VALUE, "a fill beyond its memory");
	run(g);
	ok(*pinned == start + 100 && called == 2, "and nothing of it is in the graph");
	CU(cuGraphDestroy(g));
}

/*
 * A program that changes its kernels' parameters before each launch: selftests/run-local counts, by VGPU_TRACE, that
 * nobody waits, and that graphs end without an answer. What could be wrong is said at once all the same.
 */
static void changes(void)
{
	unsigned int more = 1, before;
	void *params[] = { &d, &more }, *three[] = { &d, &d, &more };
	CUDA_KERNEL_NODE_PARAMS k = one(add, params), wrong;
	CUgraphNode nodes[10], late;
	CUgraphExec x, y;
	CUgraph g, other;

	CU(cuMemsetD32(d, 0, 1));
	CU(cuGraphCreate(&other, 0));
	CU(cuGraphAddKernelNode(&late, other, NULL, 0, &k));
	CU(cuGraphInstantiate(&y, other, 0));
	CU(cuGraphCreate(&g, 0));
	for (int i = 0; i < 10; i++)
		CU(cuGraphAddKernelNode(&nodes[i], g, i ? &nodes[i - 1] : NULL, i ? 1 : 0, &k));
	CU(cuGraphInstantiate(&x, g, 0));
	for (more = 2; more < 12; more++) {
		for (int i = 0; i < 10; i++)
			CU(cuGraphExecKernelNodeSetParams(x, nodes[i], &k));
		CU(cuGraphLaunch(x, stream));
	}
	CU(cuStreamSynchronize(stream));
	before = value_at(d);
	ok(before == 10 * (2 + 11) * 10 / 2, "each launch has the parameters that it was given: %u", before);
	wrong = k;
	wrong.blockDimX = 1u << 20;
	OURS(cuGraphExecKernelNodeSetParams(x, nodes[0], &wrong), CUDA_ERROR_INVALID_VALUE, "an impossible shape");
	OURS(cuGraphExecKernelNodeSetParams(x, late, &k), CUDA_ERROR_INVALID_VALUE, "another graph's node");
	CU(cuGraphAddKernelNode(&late, g, NULL, 0, &k));
	OURS(cuGraphExecKernelNodeSetParams(x, late, &k), CUDA_ERROR_INVALID_VALUE, "a node that was not there yet");
	GIVES(cuStreamSynchronize(stream), CUDA_SUCCESS, "and nothing of it comes later");
	/* Another function, and back. */
	wrong = one(test, three);
	CU(cuGraphExecKernelNodeSetParams(x, nodes[0], &wrong));
	CU(cuGraphExecKernelNodeSetParams(x, nodes[0], &k));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphExecDestroy(y));
	CU(cuGraphDestroy(g));
	CU(cuGraphDestroy(other));
	OURS(cuGraphDestroy(g), CUDA_ERROR_INVALID_VALUE, "a graph that has ended");
}

int main(int argc, char **argv)
{
	CUmodule module;
	CUdevice dev;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	CU(cuModuleGetFunction(&test, module, "test"));
	CU(cuMemAlloc(&d, N * 4));
	CU(cuMemHostAlloc((void **)&pinned, N * 4, 0));
	kernels();
	topology();
	early();
	host_and_events();
	updates(size_arg(argc, argv, 300));	/* selftests/run-local: more than there may be functions in graphs */
	one_at_a_time();
	children();
	moved_children();
	dependencies();
	conditions();
	condition_updates();
	changes_under_way();
	user_objects();
	embedded_objects();
	picture();
	changes();
	many();
	CU(cuMemFree(d));
	CU(cuMemFreeHost(pinned));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
