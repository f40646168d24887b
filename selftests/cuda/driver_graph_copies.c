// SPDX-License-Identifier: Apache-2.0
/* Graph nodes that copy and fill, above all copies of pageable memory, which the GPU cannot reach. */
#include <string.h>

#include "driver.h"

#define N	1024u
#define WORDS	64

static CUcontext ctx;
static CUstream stream;
static CUdeviceptr d;
static unsigned int *pinned;

static unsigned int value_at(CUdeviceptr p)
{
	unsigned int v = 0;

	CU(cuMemcpyDtoH(&v, p, 4));
	return v;
}

static void copies(void)
{
	static unsigned int pageable[64], back[64];
	CUDA_MEMCPY3D c = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = pageable, .dstMemoryType = CU_MEMORYTYPE_DEVICE,
			    .dstDevice = d, .WidthInBytes = sizeof(pageable), .Height = 1, .Depth = 1 };
	CUDA_MEMSET_NODE_PARAMS s = { .dst = d + 1024, .elementSize = 2, .width = 8, .height = 1, .value = 0x1234 }, sgot;
	CUDA_MEMCPY3D out = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .dstMemoryType = CU_MEMORYTYPE_HOST,
			      .dstHost = back, .WidthInBytes = sizeof(back), .Height = 1, .Depth = 1 }, got;
	CUstreamBatchMemOpParams ops[2] = { 0 };
	CUDA_BATCH_MEM_OP_NODE_PARAMS b = { .ctx = ctx, .count = 2, .paramArray = ops }, bgot;
	CUgraphNode in, outn, setn, batch, list[4];
	CUgraphExec x;
	size_t count;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemcpyNode(&in, g, NULL, 0, &c, ctx));
	CU(cuGraphAddMemcpyNode(&outn, g, &in, 1, &out, ctx));
	CU(cuGraphAddMemsetNode(&setn, g, NULL, 0, &s, ctx));
	CU(cuGraphGetNodes(g, NULL, &count));
	ok(count == 3, "copies of pageable memory are one node each: %zu", count);
	CU(cuGraphGetEdges(g, NULL, NULL, NULL, &count));
	ok(count == 1, "with one edge between them: %zu", count);
	count = 4;
	CU(cuGraphGetRootNodes(g, list, &count));
	ok(count == 2 && (list[0] == in || list[1] == in), "the first is a root");
	count = 4;
	CU(cuGraphNodeGetDependencies(outn, list, NULL, &count));
	ok(count == 1 && list[0] == in, "and the other one's dependency");
	CU(cuGraphMemcpyNodeGetParams(in, &got));
	ok(got.srcHost == pageable && got.dstDevice == d && got.WidthInBytes == sizeof(pageable),
	   "they tell the program's own addresses");
	CU(cuGraphMemsetNodeGetParams(setn, &sgot));
	ok(sgot.dst == d + 1024 && sgot.value == 0x1234 && sgot.elementSize == 2 && sgot.width == 8, "a fill tells what it fills");
	CU(cuGraphInstantiate(&x, g, 0));
	for (unsigned int round = 1; round <= 2; round++) {
		for (unsigned int i = 0; i < 64; i++)
			pageable[i] = round * 1000 + i;
		CU(cuGraphLaunch(x, stream));
		CU(cuStreamSynchronize(stream));
		ok(back[0] == round * 1000 && back[63] == round * 1000 + 63,
		   "pageable memory is read and written when the graph runs: %u", back[63]);
	}
	s.value = 0x4321;
	CU(cuGraphExecMemsetNodeSetParams(x, setn, &s, ctx));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d + 1024) == 0x43214321, "a fill in an executable graph can change");
	s.height = 2;
	s.pitch = 64;
	GIVES(cuGraphExecMemsetNodeSetParams(x, setn, &s, ctx), CUDA_ERROR_INVALID_VALUE, "but not to two dimensions");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroyNode(in));
	CU(cuGraphGetNodes(g, NULL, &count));
	ok(count == 2, "such a copy can be destroyed: %zu left", count);
	s.elementSize = 3;
	GIVES(cuGraphAddMemsetNode(&setn, g, NULL, 0, &s, ctx), CUDA_ERROR_INVALID_VALUE, "elements of three bytes");
	s.elementSize = 4;
	s.dst = 64;
	GIVES(cuGraphAddMemsetNode(&setn, g, NULL, 0, &s, ctx), CUDA_ERROR_INVALID_VALUE, "memory that is none");

	/* Pinned memory, changed in the executable graph. */
	out.dstHost = pinned;
	CU(cuGraphAddMemcpyNode(&in, g, NULL, 0, &out, ctx));
	ops[0].writeValue.operation = ops[1].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
	ops[0].writeValue.address = d;
	ops[0].writeValue.value = 77;
	ops[1].writeValue.address = d + 4;
	ops[1].writeValue.value = 78;
	CU(cuGraphAddBatchMemOpNode(&batch, g, NULL, 0, &b));
	CU(cuGraphAddDependencies(g, &batch, &in, NULL, 1));
	CU(cuGraphBatchMemOpNodeGetParams(batch, &bgot));
	ok(bgot.count == 2 && bgot.paramArray[1].writeValue.value == 78, "memory operations are told");
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(pinned[0] == 77 && pinned[1] == 78, "and done, before what depends on them: %u %u", pinned[0], pinned[1]);
	out.dstHost = pinned + 256;
	CU(cuGraphExecMemcpyNodeSetParams(x, in, &out, ctx));
	ops[0].writeValue.value = 99;
	CU(cuGraphExecBatchMemOpNodeSetParams(x, batch, &b));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	ok(pinned[256] == 99 && pinned[0] == 77, "both can change: %u %u", pinned[256], pinned[0]);
	b.count = 0;
	OURS(cuGraphAddBatchMemOpNode(&batch, g, NULL, 0, &b), CUDA_ERROR_INVALID_VALUE, "no memory operations");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
}

static CUgraphNodeParams to_device(const unsigned int *from, CUdeviceptr to)
{
	return (CUgraphNodeParams){ .type = CU_GRAPH_NODE_TYPE_MEMCPY, .memcpy = { .copyCtx = ctx, .copyParams = {
		.srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = from, .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = to,
		.WidthInBytes = WORDS * 4, .Height = 1, .Depth = 1 } } };
}

static CUgraphNodeParams to_host(CUdeviceptr from, unsigned int *to)
{
	return (CUgraphNodeParams){ .type = CU_GRAPH_NODE_TYPE_MEMCPY, .memcpy = { .copyCtx = ctx, .copyParams = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = from, .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = to,
		.WidthInBytes = WORDS * 4, .Height = 1, .Depth = 1 } } };
}

static unsigned int one[WORDS], two[WORDS], back[WORDS], elsewhere[WORDS];

static void fill(unsigned int first, unsigned int second)
{
	for (unsigned int i = 0; i < WORDS; i++) {
		one[i] = first + i;
		two[i] = second + i;
	}
	memset(back, 0, sizeof(back));
	memset(elsewhere, 0, sizeof(elsewhere));
}

static void launch(CUgraphExec x)
{
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
}

/* New addresses for both ends, in the graph and in executable graphs, each of which has its own. */
static void changed(CUgraph g, CUgraphNode in, CUgraphNode out)
{
	CUgraphNodeParams from_two = to_device(two, d), from_pinned = to_device(pinned, d), to_elsewhere = to_host(d, elsewhere);
	CUgraphExec x, y;

	CU(cuGraphInstantiate(&x, g, 0));
	fill(1000, 2000);
	launch(x);
	ok(back[0] == 1000 && back[WORDS - 1] == 1000 + WORDS - 1, "before: %u", back[0]);
	GIVES(cuGraphNodeSetParams(in, &from_two), CUDA_SUCCESS, "a copy from other pageable memory");
	GIVES(cuGraphNodeSetParams(out, &to_elsewhere), CUDA_SUCCESS, "and to other");
	CU(cuGraphInstantiate(&y, g, 0));
	fill(3000, 4000);
	launch(x);
	ok(back[0] == 3000 && back[WORDS - 1] == 3000 + WORDS - 1 && !elsewhere[0],
	   "an executable graph of before is as before: %u", back[0]);
	fill(5000, 6000);
	launch(y);
	ok(elsewhere[0] == 6000 && elsewhere[WORDS - 1] == 6000 + WORDS - 1 && !back[0], "one of after is not: %u", elsewhere[0]);
	GIVES(cuGraphExecNodeSetParams(x, in, &from_two), CUDA_SUCCESS, "the same in an executable graph");
	GIVES(cuGraphExecNodeSetParams(x, out, &to_elsewhere), CUDA_SUCCESS, "with both");
	for (unsigned int round = 7; round < 9; round++) {
		fill(0, round * 1000);
		launch(x);
		ok(elsewhere[0] == round * 1000 && elsewhere[WORDS - 1] == round * 1000 + WORDS - 1 && !back[0],
		   "from the next launch on: %u", elsewhere[0]);
	}
	/* For a GPU that reaches all memory it is nothing new. */
	if (!counts_apart() && !on_driver()) {
		GIVES(cuGraphExecNodeSetParams(x, in, &from_pinned), CUDA_ERROR_NOT_SUPPORTED, "to be of pinned memory, though");
		launch(x);
		ok(elsewhere[0] == 8000, "and it is as it was: %u", elsewhere[0]);
	}
	CU(cuGraphExecDestroy(x));
	CU(cuGraphExecDestroy(y));
}

static void new_addresses(void)
{
	CUgraphNodeParams from_one = to_device(one, d), to_back = to_host(d, back), from_pinned = to_device(pinned, d);
	CUgraphNode in, out, plain, nodes[4];
	size_t n = 4;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddNode(&in, g, NULL, NULL, 0, &from_one));
	CU(cuGraphAddNode(&out, g, &in, NULL, 1, &to_back));
	changed(g, in, out);
	CU(cuGraphAddNode(&plain, g, NULL, NULL, 0, &from_pinned));
	if (!counts_apart() && !on_driver())
		GIVES(cuGraphNodeSetParams(plain, &from_one), CUDA_ERROR_NOT_SUPPORTED, "a copy of pinned memory comes to be of other");
	CU(cuGraphDestroy(g));

	/* Nodes that the program has not made. */
	CU(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	CU(cuMemcpyHtoDAsync(d, one, WORDS * 4, stream));
	CU(cuMemcpyDtoHAsync(back, d, WORDS * 4, stream));
	CU(cuStreamEndCapture(stream, &g));
	CU(cuGraphGetNodes(g, nodes, &n));
	CU(cuGraphGetRootNodes(g, &in, &(size_t){ 1 }));
	ok(n == 2, "captured, they are two nodes: %zu", n);
	changed(g, in, nodes[0] == in ? nodes[1] : nodes[0]);
	CU(cuGraphDestroy(g));
}

int main(void)
{
	CUdevice dev;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&d, N * 4));
	CU(cuMemHostAlloc((void **)&pinned, N * 4, 0));
	copies();
	new_addresses();
	CU(cuMemFree(d));
	CU(cuMemFreeHost(pinned));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
