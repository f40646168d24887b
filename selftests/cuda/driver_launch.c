// SPDX-License-Identifier: Apache-2.0
/* Launches with all that CUDA lets them have: 32 KB of parameters, attributes, events in attributes; and their errors. */
#include "driver.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define BIG 32756u	/* and 8 more: as much as a kernel may have */

static const char ptx[] =
	".version 8.1\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .entry big(.param .u64 where, .param .align 8 .b8 block[32756])\n"
	"{\n"
	"	.reg .b64 %rd<3>;\n"
	"	.reg .b32 %r<3>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.param.u32 %r1, [block];\n"
	"	ld.param.u32 %r2, [block+32752];\n"
	"	st.global.u32 [%rd1], %r1;\n"
	"	st.global.u32 [%rd1+4], %r2;\n"
	"	ret;\n"
	"}\n"
	".visible .entry plain()\n"
	"{\n"
	"	ret;\n"
	"}\n";

/* More shared memory than there is. A compiler for GPUs would refuse it; on the software GPU a launch finds it out. */
static const char hoarder_ptx[] =
	".version 8.1\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .entry hoarder()\n"
	"{\n"
	"	.shared .align 4 .b8 heap[200000];\n"
	"	.reg .b32 %r<2>;\n"
	"	ld.shared.u32 %r1, [heap];\n"
	"	st.shared.u32 [heap+199996], %r1;\n"
	"	ret;\n"
	"}\n";

#define LIVE	240u	/* registers */

/* A kernel that needs so many registers that a block of 1024 threads has not enough. */
static char *greedy_ptx(void)
{
	size_t size = 1 << 16;
	char *text = malloc(size);
	int n = snprintf(text, size, ".version 7.0\n.target sm_75\n.address_size 64\n"
			 ".visible .entry greedy(.param .u64 where)\n{\n"
			 "	.reg .b64 %%rd<2>;\n	.reg .b32 %%r<%u>;\n	ld.param.u64 %%rd1, [where];\n", LIVE);

	/* All are loaded before the first is stored, and volatile: no compiler may load one again. */
	for (unsigned int i = 0; i < LIVE; i++)
		n += snprintf(text + n, size - n, "	ld.volatile.global.u32 %%r%u, [%%rd1+%u];\n", i, 4 * i);
	for (unsigned int i = 0; i < LIVE; i++)
		n += snprintf(text + n, size - n, "	st.volatile.global.u32 [%%rd1+%u], %%r%u;\n",
			      4 * (LIVE - 1 - i), i);
	snprintf(text + n, size - n, "	ret;\n}\n");
	return text;
}

static void resources(CUstream s)
{
	char *text = greedy_ptx();
	CUdeviceptr d;
	void *params[] = { &d };
	CUmodule module;
	CUfunction f;
	CUresult r;
	int most;

	CU(cuMemAlloc(&d, 4 * LIVE));
	CU(cuModuleLoadData(&module, text));
	CU(cuModuleGetFunction(&f, module, "greedy"));
	CU(cuFuncGetAttribute(&most, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
	if (most < 1024)
		GIVES(cuLaunchKernel(f, 1, 1, 1, 1024, 1, 1, 0, s, params, NULL), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
		      "a block with more registers than there are");
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, params, NULL));
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "a block that has enough runs");
	CU(cuModuleUnload(module));
	CU(cuMemFree(d));
	free(text);
	if (!ON_SOFTWARE())
		return;
	CU(cuModuleLoadData(&module, hoarder_ptx));
	CU(cuModuleGetFunction(&f, module, "hoarder"));
	r = cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL);
	if (r == CUDA_SUCCESS)
		r = cuStreamSynchronize(s);
	ok(r == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "a block with more shared memory than there is: %s", cu_name(r));
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "which is told once");
	CU(cuModuleUnload(module));
}

static unsigned int first(CUdeviceptr d, CUstream s)
{
	unsigned int out[2];

	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(out, d, 8));
	return out[0];
}

/* A buffer with no more than the kernel reads of its parameters, as NCCL gives them: in each way to launch. */
static void shorter(CUfunction big, CUdeviceptr d, CUstream s)
{
	struct { CUdeviceptr where; unsigned int word; } given = { d, 44 };
	size_t size = 12;
	void *less[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, &given, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END };
	CUlaunchConfig c = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1, .hStream = s };
	CUDA_KERNEL_NODE_PARAMS p = { .func = big, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
				      .blockDimZ = 1, .extra = less };
	CUgraphExec x;
	CUgraphNode n;
	CUgraph g;

	GIVES(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, NULL, less), CUDA_SUCCESS, "a buffer that is shorter than the parameters");
	ok(first(d, s) == 44, "what it has arrives");
	given.word = 45;
	CU(cuLaunchKernelEx(&c, big, NULL, less));
	ok(first(d, s) == 45, "with cuLaunchKernelEx");
	if (native("such a buffer in a graph"))
		return;
	given.word = 46;
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	CU(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, NULL, less));
	CU(cuStreamEndCapture(s, &g));
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphLaunch(x, s));
	ok(first(d, s) == 46, "captured");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	given.word = 47;
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddKernelNode(&n, g, NULL, 0, &p));
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphLaunch(x, s));
	ok(first(d, s) == 47, "as a node");
	given.word = 48;
	CU(cuGraphExecKernelNodeSetParams(x, n, &p));
	CU(cuGraphLaunch(x, s));
	ok(first(d, s) == 48, "and as its new parameters");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
}

/*
 * What a kernel broke is broken for every launch after it, at once, until the context ends. The driver itself would not let
 * the process go on in another context.
 */
static void broken(CUdevice dev, CUdeviceptr d)
{
	static const char breaks[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry breaks()\n{\n	trap;\n	ret;\n}\n"
				     ".visible .entry nothing()\n{\n	ret;\n}\n";
	CUDA_LAUNCH_PARAMS params = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1 };
	CUlaunchConfig c = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1 };
	CUcontext ctx, other;
	CUfunction bad, good;
	CUdeviceptr p;
	CUmodule m;
	CUstream s;

	if (native("launches after a kernel that failed"))
		return;
	CU(cuCtxCreate(&ctx, NULL, 0, dev));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&m, breaks));
	CU(cuModuleGetFunction(&bad, m, "breaks"));
	CU(cuModuleGetFunction(&good, m, "nothing"));
	CU(cuFuncSetBlockShape(good, 1, 1, 1));
	c.hStream = params.hStream = s;
	params.function = good;
	CU(cuLaunchKernel(bad, 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL));
	GIVES(cuStreamSynchronize(s), CUDA_ERROR_LAUNCH_FAILED, "a kernel that fails");
	GIVES(cuLaunchKernel(good, 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_LAUNCH_FAILED, "the next launch is told, too");
	CU(cuCtxCreate(&other, NULL, 0, dev));
	CU(cuMemAlloc(&p, 4));
	GIVES(cuMemsetD32Async(p, 7, 1, NULL), CUDA_SUCCESS, "another context works");
	CU(cuCtxDestroy(other));
	GIVES(cuLaunchKernelEx(&c, good, NULL, NULL), CUDA_ERROR_LAUNCH_FAILED, "by every call");
	GIVES(cuLaunchCooperativeKernel(good, 1, 1, 1, 1, 1, 1, 0, s, NULL), CUDA_ERROR_LAUNCH_FAILED, "of blocks together");
	GIVES(cuLaunchCooperativeKernelMultiDevice(&params, 1, 0), CUDA_ERROR_LAUNCH_FAILED, "on a list of devices");
	GIVES(cuLaunch(good), CUDA_ERROR_LAUNCH_FAILED, "of old");
	GIVES(cuLaunchGrid(good, 1, 1), CUDA_ERROR_LAUNCH_FAILED, "with a grid");
	GIVES(cuLaunchGridAsync(good, 1, 1, s), CUDA_ERROR_LAUNCH_FAILED, "in a stream");
	GIVES(cuMemsetD32Async(d, 0, 1, s), CUDA_ERROR_LAUNCH_FAILED, "and so is what only fills memory");
	CU(cuCtxDestroy(ctx));
	GIVES(cuMemsetD32Async(d, 0, 1, NULL), CUDA_SUCCESS, "its end is the error's");
}

int main(void)
{
	static unsigned int block[BIG / 4];
	static unsigned char buffer[8 + BIG];
	CUlaunchAttribute attrs[3] = { 0 };
	CUlaunchConfig c = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1 };
	size_t bytes = sizeof(buffer);
	unsigned int out[2] = { 0 };
	CUlaunchAttributeValue v = { 0 };
	CUevent ev, timed;
	CUfunction big, plain;
	CUstream s, t;
	CUmodule module;
	CUdeviceptr d;
	CUdevice dev;
	float ms;
	void *params[] = { &d, block };
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END };
	void *wrong[] = { (void *)77, buffer, CU_LAUNCH_PARAM_END };

	primary_context(&dev);
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreateWithPriority(&t, CU_STREAM_NON_BLOCKING, -1));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&big, module, "big"));
	CU(cuModuleGetFunction(&plain, module, "plain"));
	CU(cuMemAlloc(&d, 8));
	CU(cuEventCreate(&ev, CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&timed, 0));

	block[0] = 11;
	block[BIG / 4 - 1] = 22;
	CU(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, params, NULL));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(out, d, 8));
	ok(out[0] == 11 && out[1] == 22, "32764 bytes of parameters arrive: %u %u", out[0], out[1]);
	block[0] = 33;
	memcpy(buffer, &d, 8);
	memcpy(buffer + 8, block, BIG);
	CU(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, NULL, extra));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(out, d, 8));
	ok(out[0] == 33 && out[1] == 22, "also as one buffer: %u %u", out[0], out[1]);
	GIVES(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, params, extra), CUDA_ERROR_INVALID_VALUE, "both at once");
	GIVES(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "neither");
	GIVES(cuLaunchKernel(big, 1, 1, 1, 1, 1, 1, 0, s, NULL, wrong), CUDA_ERROR_INVALID_VALUE, "an unknown kind of extra");
	shorter(big, d, s);

	/* Attributes, of which some hold an event. */
	c.hStream = s;
	c.attrs = attrs;
	c.numAttrs = 3;
	attrs[0].id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
	attrs[0].value.priority = -1;
	attrs[1].id = CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT;
	attrs[1].value.launchCompletionEvent.event = ev;
	attrs[2].id = CU_LAUNCH_ATTRIBUTE_IGNORE;
	CU(cuLaunchKernelEx(&c, plain, NULL, NULL));
	GIVES(cuEventSynchronize(ev), CUDA_SUCCESS, "an event in a launch's attributes is recorded by it");
	attrs[1].value.launchCompletionEvent.event = timed;
	GIVES(cuLaunchKernelEx(&c, plain, NULL, NULL), CUDA_ERROR_NOT_SUPPORTED, "an event with a time can't be");
	attrs[1].value.launchCompletionEvent.event = (CUevent)s;
	OURS(cuLaunchKernelEx(&c, plain, NULL, NULL), CUDA_ERROR_INVALID_HANDLE, "what is no event neither");
	attrs[1].id = (CUlaunchAttributeID)15;
	OURS(cuLaunchKernelEx(&c, plain, NULL, NULL), CUDA_ERROR_NOT_SUPPORTED, "an attribute that is none yet");
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "which was said at once");
	attrs[1].id = CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING;
	attrs[1].value.nvlinkUtilCentricScheduling = 0;
	/* A driver of NVIDIA's may be older than the attribute. */
	if (ON_SOFTWARE()) {
		CU(cuLaunchKernelEx(&c, plain, NULL, NULL));
		GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "a launch that says how links are used");
	}
	c.attrs = NULL;
	GIVES(cuLaunchKernelEx(&c, plain, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "attributes that are not there");
	GIVES(cuLaunchKernelEx(NULL, plain, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "no configuration");
	GIVES(cuLaunchCooperativeKernel(plain, 1 << 20, 1, 1, 32, 1, 1, 0, s, NULL), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
	      "a cooperative grid that does not fit at once");
	GIVES(cuLaunchKernel(plain, 0, 1, 1, 1, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "a grid of nothing");
	GIVES(cuLaunchCooperativeKernel(plain, 0, 1, 1, 1, 1, 1, 0, s, NULL), CUDA_ERROR_INVALID_VALUE, "of no blocks together");
	GIVES(cuLaunchKernel(plain, 1, 70000, 1, 1, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "a grid too high");
	GIVES(cuLaunchKernel(plain, 1, 1, 1, 2048, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "a block too wide");
	GIVES(cuLaunchKernel(plain, 1, 1, 1, 1, 1, 1, 1 << 28, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE,
	      "more shared memory than there is");
	OURS(cuLaunchKernel((CUfunction)s, 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_INVALID_HANDLE, "no function");

	resources(s);

	/* Attributes of streams. */
	CU(cuStreamGetAttribute(t, CU_LAUNCH_ATTRIBUTE_PRIORITY, &v));
	ok(v.priority == -1, "a stream tells its priority");
	CU(cuStreamCopyAttributes(s, t));
	CU(cuStreamGetAttribute(s, CU_LAUNCH_ATTRIBUTE_PRIORITY, &v));
	ok(v.priority == -1, "attributes can be copied");
	v.syncPolicy = CU_SYNC_POLICY_YIELD;
	CU(cuStreamSetAttribute(s, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &v));
	memset(&v, 0, sizeof(v));
	CU(cuStreamGetAttribute(s, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &v));
	ok(v.syncPolicy == CU_SYNC_POLICY_YIELD, "and set");
	GIVES(cuStreamGetAttribute(s, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &v), CUDA_ERROR_INVALID_VALUE,
	      "one that streams have not");
	OURS(cuStreamGetAttribute(s, CU_LAUNCH_ATTRIBUTE_PRIORITY, NULL), CUDA_ERROR_INVALID_VALUE, "one to nowhere");

	GIVES(cuEventElapsedTime(&ms, ev, ev), CUDA_ERROR_INVALID_HANDLE, "the time of an event without one");
	GIVES(cuEventElapsedTime(&ms, timed, timed), CUDA_ERROR_INVALID_HANDLE, "of one that was not recorded");
	CU(cuEventRecord(timed, s));
	CU(cuStreamSynchronize(s));
	CU(cuEventElapsedTime(&ms, timed, timed));
	ok(ms == 0, "no time between an event and itself");

	/* The device is asked once how many blocks of a kernel fit; selftests/run-local counts, by VGPU_TRACE. */
	for (int i = 0; i < 101; i++)
		CU(cuLaunchCooperativeKernel(plain, 1, 1, 1, 64, 1, 1, 0, s, NULL));
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "cooperative grids that fit");
	GIVES(cuLaunchCooperativeKernel(plain, 1 << 20, 1, 1, 64, 1, 1, 0, s, NULL),
	      CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "one that does not is told so at once even then");

	/* selftests/run-local sees, by VGPU_TRACE, that what is known of an event has not changed. */
	CU(cuEventRecord(ev, s));
	CU(cuEventSynchronize(ev));
	attrs[0].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
	attrs[0].value.cooperative = 1;
	attrs[1].id = CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT;
	attrs[1].value.launchCompletionEvent.event = ev;
	c.attrs = attrs;
	c.gridDimX = 1 << 20;
	OURS(cuLaunchKernelEx(&c, plain, NULL, NULL), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "a launch that fails with its event");
	GIVES(cuEventQuery(ev), CUDA_SUCCESS, "which is complete as before");
	broken(dev, d);
	CU(cuMemFree(d));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
