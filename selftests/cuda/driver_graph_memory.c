// SPDX-License-Identifier: Apache-2.0
/* Memory that graphs allocate: while they have it, when it is given out again, and when it outlives them. */
#include <unistd.h>

#include "driver.h"

#define AGAIN	200
#define SIZE	(1 << 20)

static CUdeviceptr d;
static CUcontext ctx;
static CUstream s;

static void launch_graph(CUgraph g, int times)
{
	CUgraphExec x;

	CU(cuGraphInstantiate(&x, g, 0));
	for (int i = 0; i < times; i++)
		CU(cuGraphLaunch(x, s));
	CU(cuStreamSynchronize(s));
	CU(cuGraphExecDestroy(x));
}

/* What a graph had is given out again before word of its end is through. */
static void given_out_again(void)
{
	CUDA_MEM_ALLOC_NODE_PARAMS a = { .poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } }, .bytesize = 1 << 16 };
	CUdeviceptr plain;
	CUgraphNode n;
	int good = 0;
	CUgraph g;

	for (int i = 0; i < AGAIN; i++) {
		CU(cuGraphCreate(&g, 0));
		CU(cuGraphAddMemAllocNode(&n, g, NULL, 0, &a));
		CU(cuGraphDestroy(g));
		if (cuMemAlloc(&plain, 1 << 16) != CUDA_SUCCESS)
			continue;
		good += cuMemsetD8(plain, 1, 1 << 16) == CUDA_SUCCESS;
		CU(cuMemFree(plain));
	}
	CU(cuCtxSynchronize());
	ok(good == AGAIN, "memory that a graph had can be had at once: %d of %d times", good, AGAIN);
}

static void graph_memory(void)
{
	CUDA_MEM_ALLOC_NODE_PARAMS a = { .poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } }, .bytesize = 1 << 20 }, told;
	CUDA_MEMSET_NODE_PARAMS m = { .elementSize = 4, .width = 4, .height = 1, .value = 9 };
	CUgraphNode alloc, set, give;
	cuuint64_t used = 1, zero = 0, high = 0;
	CUdeviceptr p = 0;
	unsigned int v = 0;
	CUgraphExec x, y;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemAllocNode(&alloc, g, NULL, 0, &a));
	ok(a.dptr, "an allocation node tells its address at once");
	m.dst = a.dptr;
	CU(cuGraphAddMemsetNode(&set, g, &alloc, 1, &m, ctx));
	CU(cuGraphMemAllocNodeGetParams(alloc, &told));
	ok(told.dptr == a.dptr && told.bytesize == a.bytesize, "and later");
	GIVES(cuGraphDestroyNode(set), CUDA_ERROR_NOT_SUPPORTED, "taking nodes out of such a graph");
	GIVES(cuGraphRemoveDependencies(g, &alloc, &set, NULL, 1), CUDA_ERROR_NOT_SUPPORTED, "or edges");
	CU(cuGraphInstantiate(&x, g, 0));
	GIVES(cuGraphInstantiate(&y, g, 0), CUDA_ERROR_NOT_SUPPORTED, "a second executable graph");
	CU(cuGraphLaunch(x, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(&v, a.dptr, 4));
	ok(v == 9, "memory that a graph does not free is there after it: %u", v);
	CU(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
	ok(used >= 1 << 20, "and counts: %llu", (unsigned long long)used);
	GIVES(cuGraphLaunch(x, s), CUDA_ERROR_INVALID_VALUE, "a launch that would allocate it twice");
	CU(cuMemFreeAsync(a.dptr, s));
	CU(cuGraphLaunch(x, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemFree(a.dptr));
	CU(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
	ok(used >= 1 << 20, "what has been freed is the graph's still: %llu", (unsigned long long)used);
	CU(cuDeviceGraphMemTrim(0));
	CU(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
	ok(used == 0 || !ON_SOFTWARE(), "until it is trimmed: both ways of freeing it work");
	CU(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &zero));
	CU(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &high));
	ok(high == 0 || !ON_SOFTWARE(), "high-water marks can be put back");
	GIVES(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &zero), CUDA_ERROR_INVALID_VALUE,
	      "what is used can't be set");
	GIVES(cuDeviceGraphMemTrim(99), CUDA_ERROR_INVALID_DEVICE, "no such device");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemAllocNode(&alloc, g, NULL, 0, &a));
	m.dst = a.dptr;
	CU(cuGraphAddMemsetNode(&set, g, &alloc, 1, &m, ctx));
	CU(cuGraphAddMemFreeNode(&give, g, &set, 1, a.dptr));
	CU(cuGraphMemFreeNodeGetParams(give, &p));
	ok(p == a.dptr, "a free node tells what it frees");
	GIVES(cuGraphAddMemFreeNode(&give, g, &set, 1, a.dptr), CUDA_ERROR_INVALID_VALUE, "freeing it twice");
	GIVES(cuGraphAddMemFreeNode(&give, g, &set, 1, d), CUDA_ERROR_INVALID_VALUE, "freeing other memory");
	launch_graph(g, 3);
	ok(true, "a graph that frees what it allocates can be launched at will");
	CU(cuGraphDestroy(g));
	CU(cuDeviceGraphMemTrim(0));
	a.bytesize = 0;
	CU(cuGraphCreate(&g, 0));
	GIVES(cuGraphAddMemAllocNode(&alloc, g, NULL, 0, &a), CUDA_ERROR_INVALID_VALUE, "an allocation of nothing");
	CU(cuGraphDestroy(g));
}

static size_t unused(void)
{
	size_t left, total;

	CU(cuMemGetInfo(&left, &total));
	return left;
}

/* A launch has allocated it, and graph and executable graph are gone: the address of memory that nobody has freed. */
static CUdeviceptr outliving(unsigned int value)
{
	CUDA_MEM_ALLOC_NODE_PARAMS a = { .poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } }, .bytesize = SIZE };
	CUDA_MEMSET_NODE_PARAMS m = { .elementSize = 4, .width = SIZE / 4, .height = 1, .value = value };
	CUgraphNode alloc, set;
	CUgraph g;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemAllocNode(&alloc, g, NULL, 0, &a));
	m.dst = a.dptr;
	CU(cuGraphAddMemsetNode(&set, g, &alloc, 1, &m, ctx));
	launch_graph(g, 1);
	CU(cuGraphDestroy(g));
	/* Word of their end comes when it comes. */
	usleep(20000);
	CU(cuCtxSynchronize());
	return a.dptr;
}

static unsigned int word(CUdeviceptr p)
{
	unsigned int value = 0;

	GIVES(cuMemcpyDtoH(&value, p + SIZE - 4, 4), CUDA_SUCCESS, "it can be copied from");
	return value;
}

static void outlives(void)
{
	size_t before, with;
	CUgraphNode give;
	CUdeviceptr p, q;
	CUgraph g;

	CU(cuDeviceGraphMemTrim(0));
	before = unused();
	p = outliving(3);
	ok(word(p) == 3, "memory that a launch allocated outlives its graph");
	with = unused();
	ok(before - with >= SIZE || on_driver(), "and counts: %zu of %zu bytes are left", with, before);
	GIVES(cuMemFree(p), CUDA_SUCCESS, "it is freed like any other");
	OURS(cuMemFree(p), CUDA_ERROR_INVALID_VALUE, "once");
	ok(unused() == before || on_driver(), "and nothing is missing: %zu of %zu", unused(), before);

	p = outliving(4);
	ok(word(p) == 4, "a second time");
	GIVES(cuMemFreeAsync(p, s), CUDA_SUCCESS, "in the order of a stream, too");
	CU(cuStreamSynchronize(s));
	ok(unused() == before || on_driver(), "and nothing is missing: %zu of %zu", unused(), before);

	/* Freed by another graph it is found out when it is needed. */
	p = outliving(5);
	CU(cuGraphCreate(&g, 0));
	GIVES(cuGraphAddMemFreeNode(&give, g, NULL, 0, p), CUDA_SUCCESS, "another graph can free it");
	launch_graph(g, 1);
	CU(cuGraphDestroy(g));
	if (on_driver())
		return;
	CU(cuMemAlloc(&q, before - SIZE / 2));
	ok(true, "then it is free");
	CU(cuMemFree(q));
}

/* Stream-ordered allocations of nothing. */
static void nothing(void)
{
	CUdeviceptr p = 5;
	size_t nodes = 1;
	CUgraph g;

	if (native("stream-ordered allocations of nothing"))
		return;
	GIVES(cuMemAllocAsync(&p, 0, s), CUDA_SUCCESS, "an allocation of nothing in a stream");
	GIVES(cuMemFreeAsync(p, s), CUDA_SUCCESS, "which can be freed");
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	GIVES(cuMemAllocAsync(&p, 0, s), CUDA_SUCCESS, "the same in one that captures");
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphGetNodes(g, NULL, &nodes));
	ok(!nodes, "is no node");
	CU(cuGraphDestroy(g));
}

int main(void)
{
	CUdevice dev;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&d, 4096));
	graph_memory();
	given_out_again();
	outlives();
	nothing();
	CU(cuMemFree(d));
	CU(cuStreamDestroy(s));
	CU(cuDevicePrimaryCtxRelease(dev));

	printf("# in a context that is not the primary one\n");
	CU(cuCtxCreate(&ctx, NULL, 0, dev));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	outlives();
	CU(cuCtxDestroy(ctx));
	return tap_done();
}
