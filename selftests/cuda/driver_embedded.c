// SPDX-License-Identifier: Apache-2.0
/*
 * What driver_sweep does to arguments, done to what lies in the structures that calls are given: handles of another type,
 * destroyed, invented; addresses that are nobody's. Each structure is taken as it is first, so that what is wrong is what
 * the test made wrong.
 */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <signal.h>
#include <unistd.h>

#include "objects.h"

static struct objects good, gone;
static CUdeviceptr memory, freed;
static CUcontext ctx;
static CUstream stream;
static const char *now;

static void died(int sig)
{
	printf("not ok - %s: %s\n", now, sig == SIGALRM ? "it hangs" : "it crashes");
	fflush(stdout);
	_exit(1);
}

static bool refused(CUresult r)
{
	return r == CUDA_ERROR_INVALID_VALUE || r == CUDA_ERROR_INVALID_HANDLE || r == CUDA_ERROR_INVALID_CONTEXT ||
	       r == CUDA_ERROR_INVALID_DEVICE || r == CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

static CUresult works(void)
{
	static unsigned int value;
	unsigned int back = 0;
	CUresult r;

	value++;
	r = cuMemsetD32_v2(memory, value, 1);
	if (r == CUDA_SUCCESS)
		r = cuMemcpyDtoH_v2(&back, memory, sizeof(back));
	return r != CUDA_SUCCESS ? r : back == value ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

/* One field of a structure, all of whose wrong values @call must refuse. */
struct field {
	const char *what;
	CUresult (*call)(void *structure);
	void *structure, *at;	/* the whole, and the field in it */
	char kind;		/* as in objects.h; d: an address, n: a node */
	bool null;		/* which may be NULL */
};

static void try(const struct field *f, uint64_t value, const char *how, int *wrong)
{
	uint64_t before;
	CUresult r, after;

	memcpy(&before, f->at, sizeof(before));
	memcpy(f->at, &value, sizeof(value));
	alarm(60);
	r = f->call(f->structure);
	after = works();
	alarm(0);
	memcpy(f->at, &before, sizeof(before));
	if (refused(r) && after == CUDA_SUCCESS)
		return;
	printf("# %s, %s: %s, and then %s\n", f->what, how, cu_name(r), cu_name(after));
	(*wrong)++;
}

static void field(const char *what, CUresult (*call)(void *), void *structure, void *at, char kind, bool null)
{
	struct field f = { what, call, structure, at, kind, null };
	int wrong = 0;
	CUresult r;

	now = what;
	alarm(60);
	r = call(structure);
	alarm(0);
	if (r != CUDA_SUCCESS)
		printf("# %s, as it should be: %s\n", what, cu_name(r));
	if (kind == 'd') {
		try(&f, 0x123456789000, "nobody's", &wrong);
		try(&f, freed, "freed", &wrong);
		try(&f, memory + OBJECT_BYTES, "past the end", &wrong);
	} else {
		try(&f, (uintptr_t)good.of[kind == 'E' ? 'S' : 'E'], "of another type", &wrong);
		try(&f, 0xdeadbeef0, "invented", &wrong);
		try(&f, (uintptr_t)good.of[(int)kind] + 8, "8 bytes off", &wrong);
		try(&f, (uintptr_t)gone.of[(int)kind], "destroyed", &wrong);
	}
	if (!null)
		try(&f, 0, "NULL", &wrong);
	ok(r == CUDA_SUCCESS && !wrong, "%s", what);
}

/* --- the calls ---------------------------------------------------------------------------------------------------------- */

static CUgraph graph;
static CUgraphNode last;

/* A node is taken out again: the graph stays empty. */
static CUresult dropped(CUresult r)
{
	if (r == CUDA_SUCCESS)
		CU(cuGraphDestroyNode(last));
	return r;
}

static CUresult copy_2d(void *p) { return cuMemcpy2D_v2(p); }
static CUresult copy_2d_async(void *p) { return cuMemcpy2DAsync_v2(p, stream); }
static CUresult copy_3d(void *p) { return cuMemcpy3D_v2(p); }
static CUresult copy_peer(void *p) { return cuMemcpy3DPeer(p); }
static CUresult copy_node(void *p) { return dropped(cuGraphAddMemcpyNode(&last, graph, NULL, 0, p, ctx)); }
static CUresult kernel_node(void *p) { return dropped(cuGraphAddKernelNode_v2(&last, graph, NULL, 0, p)); }
static CUresult memset_node(void *p) { return dropped(cuGraphAddMemsetNode(&last, graph, NULL, 0, p, ctx)); }
static CUresult operations_node(void *p) { return dropped(cuGraphAddBatchMemOpNode(&last, graph, NULL, 0, p)); }
static CUresult operation(void *p) { return cuStreamBatchMemOp_v2(stream, 1, p, 0); }
static CUresult any_node(void *p) { return dropped(cuGraphAddNode_v2(&last, graph, NULL, NULL, 0, p)); }
static CUresult launch(void *p) { return cuLaunchKernelEx(p, good.of['F'], NULL, NULL); }
static CUresult batch_3d(void *p) { return cuMemcpy3DBatchAsync_v2(1, p, 0, stream); }
static CUresult depends(void *p) { return dropped(cuGraphAddEmptyNode(&last, good.of['G'], p, 1)); }

static CUresult launch_attribute(void *p)
{
	CUlaunchConfig c = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1,
			     .hStream = stream, .attrs = p, .numAttrs = 1 };

	return cuLaunchKernelEx(&c, good.of['F'], NULL, NULL);
}

static CUresult texture(void *p)
{
	CUDA_TEXTURE_DESC d = { .addressMode = { CU_TR_ADDRESS_MODE_CLAMP }, .flags = CU_TRSF_NORMALIZED_COORDINATES };
	CUtexObject t;
	CUresult r = cuTexObjectCreate(&t, p, &d, NULL);

	if (r == CUDA_SUCCESS)
		CU(cuTexObjectDestroy(t));
	return r;
}

static CUresult surface(void *p)
{
	CUsurfObject s;
	CUresult r = cuSurfObjectCreate(&s, p);

	if (r == CUDA_SUCCESS)
		CU(cuSurfObjectDestroy(s));
	return r;
}

static CUresult list_launch(void *p) { return cuLaunchCooperativeKernelMultiDevice(p, 1, 0); }

/* --- the structures --------------------------------------------------------------------------------------------------- */

static void copies(void)
{
	CUDA_MEMCPY2D in = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = memory, .srcPitch = 32,
			     .dstMemoryType = CU_MEMORYTYPE_ARRAY, .dstArray = good.of['A'], .WidthInBytes = 32, .Height = 8 };
	CUDA_MEMCPY2D out = { .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = good.of['A'], .dstMemoryType = CU_MEMORYTYPE_DEVICE,
			      .dstDevice = memory, .dstPitch = 32, .WidthInBytes = 32, .Height = 8 };
	CUDA_MEMCPY3D box = { .srcMemoryType = CU_MEMORYTYPE_ARRAY, .srcArray = good.of['A'], .dstMemoryType = CU_MEMORYTYPE_DEVICE,
			      .dstDevice = memory, .dstPitch = 32, .dstHeight = 8, .WidthInBytes = 32, .Height = 8, .Depth = 1 };
	CUDA_MEMCPY3D_PEER peer = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = memory, .srcPitch = 32, .srcHeight = 1,
				    .srcContext = ctx, .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = memory + 4096,
				    .dstPitch = 32, .dstHeight = 1, .dstContext = ctx, .WidthInBytes = 32, .Height = 1, .Depth = 1 };
	CUDA_MEMCPY3D_BATCH_OP op = { .src = { .type = CU_MEMCPY_OPERAND_TYPE_ARRAY, .op.array.array = good.of['A'] },
				      .dst = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER, .op.ptr.ptr = memory },
				      .extent = { 8, 8, 1 }, .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };

	field("the array that rows are copied to", copy_2d, &in, &in.dstArray, 'A', false);
	field("the memory they are copied from", copy_2d, &in, &in.srcDevice, 'd', false);
	field("the array they are copied from in a stream", copy_2d_async, &out, &out.srcArray, 'A', false);
	field("the memory they are copied to", copy_2d_async, &out, &out.dstDevice, 'd', false);
	field("a box's array", copy_3d, &box, &box.srcArray, 'A', false);
	field("a box's memory", copy_3d, &box, &box.dstDevice, 'd', false);
	field("the context that a box is copied from", copy_peer, &peer, &peer.srcContext, 'C', true);
	field("the memory it is copied to", copy_peer, &peer, &peer.dstDevice, 'd', false);
	field("the array in a list of boxes", batch_3d, &op, &op.src.op.array.array, 'A', false);
	field("a copying node's array", copy_node, &box, &box.srcArray, 'A', false);
	field("a copying node's memory", copy_node, &box, &box.dstDevice, 'd', false);
}

static void nodes(void)
{
	CUDA_KERNEL_NODE_PARAMS kernel = { .func = good.of['F'], .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1,
					   .blockDimY = 1, .blockDimZ = 1 };
	CUDA_MEMSET_NODE_PARAMS fill = { .dst = memory, .value = 1, .elementSize = 4, .width = 4, .height = 1 };
	CUstreamBatchMemOpParams op = { .writeValue = { .operation = CU_STREAM_MEM_OP_WRITE_VALUE_32, .address = memory, .value = 1 } };
	CUDA_BATCH_MEM_OP_NODE_PARAMS ops = { .ctx = ctx, .count = 1, .paramArray = &op };
	CUgraphNodeParams any = { .type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord.event = good.of['E'] };
	CUgraphNodeParams child = { .type = CU_GRAPH_NODE_TYPE_GRAPH, .graph.graph = good.of['G'] };
	CUgraphNodeParams wait = { .type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait.event = good.of['E'] };
	CUgraphNode node = good.of['N'];

	field("a kernel node's function", kernel_node, &kernel, &kernel.func, 'F', false);
	field("what a memset node fills", memset_node, &fill, &fill.dst, 'd', false);
	field("where a node writes a value", operations_node, &ops, &op.writeValue.address, 'd', false);
	field("the context in which it does", operations_node, &ops, &ops.ctx, 'C', true);
	field("the event that a node records", any_node, &any, &any.eventRecord.event, 'E', false);
	field("the one that a node waits for", any_node, &wait, &wait.eventWait.event, 'E', false);
	field("a node's graph", any_node, &child, &child.graph.graph, 'G', false);
	field("what a node depends on", depends, &node, &node, 'N', false);
}

static void others(void)
{
	CUDA_RESOURCE_DESC array = { .resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = good.of['A'] };
	CUDA_RESOURCE_DESC levels = { .resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY, .res.mipmap.hMipmappedArray = good.of['I'] };
	CUDA_RESOURCE_DESC rows = { .resType = CU_RESOURCE_TYPE_PITCH2D, .res.pitch2D = { memory, CU_AD_FORMAT_FLOAT, 1, 8, 8, 512 } };
	CUDA_RESOURCE_DESC line = { .resType = CU_RESOURCE_TYPE_LINEAR, .res.linear = { memory, CU_AD_FORMAT_FLOAT, 1, 256 } };
	CUstreamBatchMemOpParams op = { .waitValue = { .operation = CU_STREAM_MEM_OP_WAIT_VALUE_32, .address = memory,
						       .value = 0, .flags = CU_STREAM_WAIT_VALUE_GEQ } };
	CUlaunchConfig config = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1,
				  .hStream = stream };
	CUlaunchAttribute attribute = { .id = CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT,
					.value.launchCompletionEvent.event = good.of['E'] };
	CUDA_LAUNCH_PARAMS list = { .function = good.of['F'], .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
				    .blockDimZ = 1, .hStream = stream };

	field("a texture's array", texture, &array, &array.res.array.hArray, 'A', false);
	field("a texture's array of levels", texture, &levels, &levels.res.mipmap.hMipmappedArray, 'I', false);
	field("a texture's rows", texture, &rows, &rows.res.pitch2D.devPtr, 'd', false);
	field("a texture's line", texture, &line, &line.res.linear.devPtr, 'd', false);
	field("a surface's array", surface, &array, &array.res.array.hArray, 'A', false);
	field("where a stream waits for a value", operation, &op, &op.waitValue.address, 'd', false);
	field("a launch's stream", launch, &config, &config.hStream, 'S', true);
	field("the event that a launch records", launch_attribute, &attribute, &attribute.value.launchCompletionEvent.event, 'E', false);
	field("a function in a list of launches", list_launch, &list, &list.function, 'F', false);
	field("a stream in it", list_launch, &list, &list.hStream, 'S', false);
}

int main(void)
{
	CUdevice dev;

	signal(SIGSEGV, died);
	signal(SIGALRM, died);
	ctx = primary_context(&dev);
	CU(cuMemAlloc_v2(&memory, OBJECT_BYTES));
	CU(cuMemsetD8_v2(memory, 0, OBJECT_BYTES));
	CU(cuMemAlloc_v2(&freed, OBJECT_BYTES));
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuGraphCreate(&graph, 0));
	objects_make(&good, dev);
	gone = good;
	for (const char *k = KINDS; *k; k++)
		gone.of[(int)*k] = object_make(&gone, *k);
	for (size_t k = strlen(KINDS); k--;)
		object_end(KINDS[k], gone.of[(int)KINDS[k]]);
	CU(cuMemFree_v2(freed));
	copies();
	nodes();
	others();
	CU(cuStreamSynchronize(stream));
	return tap_done();
}
