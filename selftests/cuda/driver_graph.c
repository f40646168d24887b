// SPDX-License-Identifier: Apache-2.0
/* A graph put together node by node. */
#include "driver.h"

#define N	4096u

static const char ptx[] = PTX_HEAD
	PTX_EACH("add", "	ld.global.u32 %r6, [%rd3];\n	add.u32 %r6, %r6, %r1;\n	st.global.u32 [%rd3], %r6;\n");

int main(void)
{
	CUgraphNode set, kernel, twice, out, nothing, deps[2], bad;
	unsigned int value = 5, *host, wrong = 0;
	CUDA_KERNEL_NODE_PARAMS k = { .gridDimX = N / 256, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 256,
				      .blockDimY = 1, .blockDimZ = 1 };
	CUDA_MEMSET_NODE_PARAMS s = { .elementSize = 4, .width = N, .height = 1, .value = 100 };
	CUDA_MEMCPY3D c = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .dstMemoryType = CU_MEMORYTYPE_HOST,
			    .WidthInBytes = N * 4, .Height = 1, .Depth = 1 };
	CUgraph graph, copy;
	CUgraphExec exec, second;
	void *params[2];
	CUstream stream;
	CUmodule module;
	CUdeviceptr d;
	CUcontext ctx;
	CUdevice dev;
	size_t n = 0;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&k.func, module, "add"));
	CU(cuMemAlloc(&d, N * 4));
	CU(cuMemHostAlloc((void **)&host, N * 4, 0));
	memset(host, 0, N * 4);
	params[0] = &d;
	params[1] = &value;
	k.kernelParams = params;
	s.dst = c.srcDevice = d;
	c.dstHost = host;

	CU(cuGraphCreate(&graph, 0));
	CU(cuGraphAddMemsetNode(&set, graph, NULL, 0, &s, ctx));
	CU(cuGraphAddKernelNode(&kernel, graph, &set, 1, &k));
	value = 7;	/* the node has its own copy */
	CU(cuGraphAddKernelNode(&twice, graph, &kernel, 1, &k));
	CU(cuGraphAddEmptyNode(&nothing, graph, &kernel, 1));
	deps[0] = twice;
	deps[1] = nothing;
	CU(cuGraphAddMemcpyNode(&out, graph, deps, 2, &c, ctx));
	CU(cuGraphGetNodes(graph, NULL, &n));
	ok(n == 5, "a graph of %zu nodes", n);
	CU(cuGraphClone(&copy, graph));
	GIVES(cuGraphAddEmptyNode(&bad, copy, &kernel, 1), CUDA_ERROR_INVALID_VALUE, "a dependency of another graph");
	CU(cuGraphInstantiate(&exec, graph, 0));
	CU(cuGraphInstantiate(&second, copy, 0));
	CU(cuGraphDestroy(graph));
	CU(cuGraphDestroy(copy));
	GIVES(cuGraphDestroy(copy), CUDA_ERROR_INVALID_VALUE, "destroy a second time");
	CU(cuGraphLaunch(exec, stream));
	CU(cuStreamSynchronize(stream));
	for (unsigned int i = 0; i < N; i++)
		wrong += host[i] != 112;
	ok(!wrong, "fill, two kernels, copy: %u instead of 112 in %u places", host[0], wrong);
	memset(host, 0, N * 4);
	CU(cuGraphLaunch(second, stream));
	CU(cuStreamSynchronize(stream));
	wrong = 0;
	for (unsigned int i = 0; i < N; i++)
		wrong += host[i] != 112;
	ok(!wrong, "a clone does the same: %u wrong", wrong);
	CU(cuGraphExecDestroy(exec));
	CU(cuGraphExecDestroy(second));
	CU(cuMemFree(d));
	CU(cuMemFreeHost(host));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
