// SPDX-License-Identifier: Apache-2.0
/*
 * What came with compute capability 9.0: kernels that begin before the one ahead of them has ended (programmatic stream
 * serialization, and events from within a kernel), and clusters of blocks that read each other's shared memory.
 */
#include "driver.h"

#define CHAIN	200u
#define BLOCKS	8u

static const char serial_ptx[] =
	".version 7.8\n.target sm_90\n.address_size 64\n"
	/* Begins when the kernel ahead lets it, waits for what that has written, and lets the next one begin. */
	".visible .entry step(.param .u64 where, .param .u32 factor)\n"
	"{\n"
	"	.reg .b64 %rd<2>;\n"
	"	.reg .b32 %r<3>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.param.u32 %r1, [factor];\n"
	"	griddepcontrol.wait;\n"
	"	ld.global.u32 %r2, [%rd1];\n"
	"	mad.lo.u32 %r2, %r2, %r1, 1;\n"
	"	st.global.u32 [%rd1], %r2;\n"
	"	membar.gl;\n"
	"	griddepcontrol.launch_dependents;\n"
	"	ret;\n"
	"}\n";

static const char cluster_ptx[] =
	".version 7.8\n.target sm_90\n.address_size 64\n"
	/* out[block] = rank | size of the cluster << 8 | what the neighbour has in its shared memory << 16 */
	".visible .entry meet(.param .u64 out)\n"
	"{\n"
	"	.reg .b64 %rd<4>;\n"
	"	.reg .b32 %r<10>;\n"
	"	.shared .align 4 .b32 mine;\n"
	"	ld.param.u64 %rd1, [out];\n"
	"	mov.u32 %r1, %cluster_ctarank;\n"
	"	mov.u32 %r2, %cluster_nctarank;\n"
	"	add.u32 %r3, %r1, 100;\n"
	"	st.shared.u32 [mine], %r3;\n"
	"	barrier.cluster.arrive;\n"
	"	barrier.cluster.wait;\n"
	"	xor.b32 %r4, %r1, 1;\n"
	"	mov.u32 %r5, mine;\n"
	"	mapa.shared::cluster.u32 %r6, %r5, %r4;\n"
	"	ld.shared::cluster.u32 %r7, [%r6];\n"
	"	barrier.cluster.arrive;\n"	/* nobody ends while others read */
	"	barrier.cluster.wait;\n"
	"	shl.b32 %r8, %r2, 8;\n"
	"	or.b32 %r8, %r8, %r1;\n"
	"	shl.b32 %r7, %r7, 16;\n"
	"	or.b32 %r8, %r8, %r7;\n"
	"	mov.u32 %r9, %ctaid.x;\n"
	"	mul.wide.u32 %rd2, %r9, 4;\n"
	"	add.u64 %rd3, %rd1, %rd2;\n"
	"	st.global.u32 [%rd3], %r8;\n"
	"	ret;\n"
	"}\n";

static CUdevice dev;
static CUstream s, other;

static int attribute(CUdevice_attribute a)
{
	int v = 0;

	CU(cuDeviceGetAttribute(&v, a, dev));
	return v;
}

static CUlaunchConfig config(unsigned int blocks, CUlaunchAttribute *attrs, unsigned int n)
{
	return (CUlaunchConfig){ .gridDimX = blocks, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
				 .blockDimZ = 1, .hStream = s, .attrs = attrs, .numAttrs = n };
}

static unsigned int chained(unsigned int value)
{
	for (unsigned int i = 0; i < CHAIN; i++)
		value = value * (2 * i + 3) + 1;
	return value;
}

static void chain(CUfunction step, CUdeviceptr d, CUlaunchConfig *c)
{
	for (unsigned int i = 0; i < CHAIN; i++) {
		unsigned int factor = 2 * i + 3;
		void *params[] = { &d, &factor };

		CU(cuLaunchKernelEx(c, step, params, NULL));
	}
}

static unsigned int value_at(CUdeviceptr d)
{
	unsigned int v = 0;

	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(&v, d, sizeof(v)));
	return v;
}

static void serialization(void)
{
	CUlaunchAttribute attrs[2] = { { .id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
					 .value.programmaticStreamSerializationAllowed = 1 } };
	CUlaunchConfig c = config(1, attrs, 1);
	unsigned int two = 2;
	CUgraphExec exec;
	CUmodule module;
	CUfunction step;
	CUdeviceptr d;
	void *params[] = { &d, &two };
	CUgraph graph;
	CUevent e;

	CU(cuModuleLoadData(&module, serial_ptx));
	CU(cuModuleGetFunction(&step, module, "step"));
	CU(cuMemAlloc(&d, 4));
	CU(cuMemsetD32Async(d, 7, 1, s));
	chain(step, d, &c);
	ok(value_at(d) == chained(7), "%u kernels that may begin early take turns: %u", CHAIN, value_at(d));

	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	CU(cuMemsetD32Async(d, 9, 1, s));
	chain(step, d, &c);
	CU(cuStreamEndCapture(s, &graph));
	CU(cuGraphInstantiate(&exec, graph, 0));
	CU(cuGraphLaunch(exec, s));
	ok(value_at(d) == chained(9), "as a graph, too: %u", value_at(d));
	CU(cuGraphExecDestroy(exec));
	CU(cuGraphDestroy(graph));

	CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	attrs[1] = (CUlaunchAttribute){ .id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT,
					.value.programmaticEvent = { .event = e, .triggerAtBlockStart = 0 } };
	c = config(1, attrs + 1, 1);
	CU(cuMemsetD32Async(d, 20, 1, s));
	CU(cuLaunchKernelEx(&c, step, params, NULL));
	CU(cuStreamWaitEvent(other, e, 0));
	CU(cuMemsetD32Async(d, 5, 1, other));
	CU(cuStreamSynchronize(other));
	CU(cuEventSynchronize(e));
	ok(value_at(d) == 5, "another stream waits for an event from within a kernel: %u", value_at(d));
	CU(cuEventDestroy(e));
	CU(cuMemFree(d));
	CU(cuModuleUnload(module));
}

static void clusters(void)
{
	CUlaunchAttribute attr = { .id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = { 2, 1, 1 } };
	CUlaunchConfig c = config(BLOCKS, &attr, 1);
	unsigned int out[BLOCKS] = { 0 }, wrong = 0;
	int size = 0, active = 0;
	CUfunction meet;
	CUmodule module;
	CUdeviceptr d;
	void *params[] = { &d };

	CU(cuModuleLoadData(&module, cluster_ptx));
	CU(cuModuleGetFunction(&meet, module, "meet"));
	CU(cuMemAlloc(&d, sizeof(out)));
	CU(cuMemsetD8(d, 0, sizeof(out)));
	CU(cuLaunchKernelEx(&c, meet, params, NULL));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(out, d, sizeof(out)));
	for (unsigned int i = 0; i < BLOCKS; i++)
		wrong += out[i] != (i % 2 | 2 << 8 | (100 + (i ^ 1) % 2) << 16);
	ok(!wrong, "blocks in clusters of two read each other's shared memory: %#x %#x", out[0], out[1]);
	CU(cuOccupancyMaxPotentialClusterSize(&size, meet, &c));
	ok(size >= 2, "clusters may have up to %d blocks", size);
	CU(cuOccupancyMaxActiveClusters(&active, meet, &c));
	ok(active > 0, "and %d of two blocks run at once", active);
	CU(cuMemFree(d));
	CU(cuModuleUnload(module));
}

/* Of the launch, or what it left for the next call to say. */
static CUresult launched(CUfunction f, unsigned int x, unsigned int y, unsigned int z)
{
	CUlaunchAttribute attrs[2] = { { .id = CU_LAUNCH_ATTRIBUTE_PRIORITY, .value.priority = 0 },
				       { .id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = { x, y, z } } };
	CUlaunchConfig c = config(BLOCKS, attrs, 2);
	CUdeviceptr d = 0;
	void *params[] = { &d };
	CUresult r;

	c.gridDimY = 6;
	c.gridDimZ = 5;
	r = cuLaunchKernelEx(&c, f, params, NULL);
	return r == CUDA_SUCCESS ? cuStreamSynchronize(s) : r;
}

/* For the null GPU, which runs nothing but looks at the sizes of clusters: 8 blocks at most, whole ones in the grid. */
static void sizes(void)
{
	CUfunction meet;
	CUmodule module;

	CU(cuModuleLoadData(&module, cluster_ptx));
	CU(cuModuleGetFunction(&meet, module, "meet"));
	ok(launched(meet, 4, 2, 1) == CUDA_SUCCESS, "clusters of 4 x 2 blocks");
	ok(launched(meet, 1, 1, 5) == CUDA_SUCCESS, "and of 5, in the third dimension");
	GIVES(launched(meet, 8, 2, 1), CUDA_ERROR_INVALID_CLUSTER_SIZE, "16 blocks are too many");
	GIVES(launched(meet, 3, 1, 1), CUDA_ERROR_INVALID_CLUSTER_SIZE, "3 do not divide the grid's first dimension");
	GIVES(launched(meet, 1, 4, 1), CUDA_ERROR_INVALID_CLUSTER_SIZE, "nor 4 the second");
	GIVES(launched(meet, 1, 1, 2), CUDA_ERROR_INVALID_CLUSTER_SIZE, "nor 2 the third");
	ok(launched(meet, 2, 3, 1) == CUDA_SUCCESS, "after that all is well");
	CU(cuModuleUnload(module));
}

/* driver_cluster [sizes] */
int main(int argc, char **argv)
{

	primary_context(&dev);
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	if (argc > 1 && !strcmp(argv[1], "sizes")) {
		sizes();
		return tap_done();
	}
	if (attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) >= 9)
		serialization();
	else
		ok(true, "kernels that begin early # SKIP not before compute capability 9.0");
	if (attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH))
		clusters();
	else
		ok(true, "clusters of blocks # SKIP this GPU has none");
	CU(cuStreamDestroy(s));
	CU(cuStreamDestroy(other));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
