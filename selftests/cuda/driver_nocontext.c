// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that are right but for the context: none is current. driver_sweep gives blank structures, and what is wrong with those
 * may be said first; here the rest is right, or the stream is the default one, which is the current context's. And calls whose
 * documentation speaks of CUDA_ERROR_INVALID_CONTEXT, though what they are given says all: a device, an object, an address.
 */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <fcntl.h>

#include "driver.h"

static const char ptx[] = ".version 8.0\n.target sm_75\n.address_size 64\n.visible .entry nothing()\n{\n	ret;\n}\n";

static struct {
	CUcontext ctx;
	CUstream stream;
	CUevent event;
	CUfunction function;
	CUkernel kernel;
	CUgraph graph;
	CUdeviceptr memory, managed;
	void *pinned, *registered;
	CUmodule module;
	CUtexref reference;
} have;

static void make(void)
{
	CUlibrary library;

	have.ctx = primary_context(NULL);
	CU(cuStreamCreate(&have.stream, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&have.event, CU_EVENT_DISABLE_TIMING));
	CU(cuModuleLoadData(&have.module, ptx));
	CU(cuModuleGetFunction(&have.function, have.module, "nothing"));
	CU(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetKernel(&have.kernel, library, "nothing"));
	CU(cuGraphCreate(&have.graph, 0));
	CU(cuMemAlloc_v2(&have.memory, 65536));
	CU(cuMemAllocManaged(&have.managed, 65536, CU_MEM_ATTACH_GLOBAL));
	CU(cuMemHostAlloc(&have.pinned, 65536, CU_MEMHOSTALLOC_DEVICEMAP));
	have.registered = aligned_alloc(4096, 65536);
	CU(cuMemHostRegister_v2(have.registered, 65536, 0));
	CU(cuTexRefCreate(&have.reference));
	CU(cuFuncSetBlockShape(have.function, 1, 1, 1));
}

static void CUDA_CB callback(CUstream stream, CUresult status, void *data)
{
	(void)stream;
	(void)status;
	(void)data;
}

#define NONE(call)	GIVES(call, CUDA_ERROR_INVALID_CONTEXT, #call)

static void streams(void)
{
	CUgreenCtx green;
	unsigned int flags;
	CUcontext ctx;
	CUdevice dev;
	int priority;

	NONE(cuStreamQuery(NULL));
	NONE(cuStreamGetCtx(NULL, &ctx));
	NONE(cuStreamGetCtx_v2(NULL, &ctx, &green));
	NONE(cuStreamGetDevice(NULL, &dev));
	NONE(cuStreamGetFlags(NULL, &flags));
	NONE(cuStreamGetPriority(NULL, &priority));
	NONE(cuStreamGetGreenCtx(NULL, &green));
	NONE(cuStreamAddCallback(NULL, callback, NULL, 0));
	NONE(cuStreamAttachMemAsync(NULL, have.managed, 0, CU_MEM_ATTACH_GLOBAL));
	NONE(cuStreamWaitEvent(NULL, have.event, 0));
	NONE(cuEventRecordWithFlags(have.event, NULL, 0));
}

static void functions(void)
{
	CUDA_LAUNCH_PARAMS params = { .function = have.function, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1,
				      .blockDimY = 1, .blockDimZ = 1, .hStream = have.stream };
	CUfunction function;

	NONE(cuLaunch(have.function));
	NONE(cuLaunchGrid(have.function, 1, 1));
	NONE(cuLaunchGridAsync(have.function, 1, 1, NULL));
	NONE(cuLaunchCooperativeKernelMultiDevice(&params, 1, 0));
	NONE(cuKernelGetFunction(&function, have.kernel));
	NONE(cuParamSetTexRef(have.function, CU_PARAM_TR_DEFAULT, have.reference));
	NONE(cuFuncSetAttribute(have.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1024));
}

static void memory(void)
{
	CUDA_MEMSET_NODE_PARAMS set = { .dst = have.memory, .elementSize = 4, .width = 1, .height = 1 };
	CUgraphNodeParams node = { .type = CU_GRAPH_NODE_TYPE_MEMSET,
				   .memset = { .dst = have.memory, .elementSize = 4, .width = 1, .height = 1 } };
	size_t pitch;
	CUmem_range_attribute which = CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY;
	CUgraphNode made;
	unsigned int flags;
	void *data = &flags;
	size_t four = 4;
	CUdeviceptr p;
	CUcontext ctx;

	NONE(cuMemRangeGetAttributes(&data, &four, &which, 1, have.managed, 65536));
	NONE(cuMemHostGetDevicePointer_v2(&p, have.pinned, 0));
	NONE(cuMemHostGetFlags(&flags, have.pinned));

	NONE(cuMemAllocPitch_v2(&p, &pitch, 100, 10, 4));
	NONE(cuGraphAddMemsetNode(&made, have.graph, NULL, 0, &set, NULL));
	NONE(cuGraphAddNode_v2(&made, have.graph, NULL, NULL, 0, &node));
	NONE(cuCtxAttach(&ctx, 0));
}

static void files(void)
{
	char path[] = "/tmp/driver_nocontext.XXXXXX";
	int fd = mkstemp(path);
	CUmodule module;

	if (fd < 0 || write(fd, ptx, sizeof(ptx)) != sizeof(ptx))
		bail("%s: cannot be written", path);
	close(fd);
	NONE(cuModuleLoad(&module, path));
	unlink(path);
}

/* --- what needs none ------------------------------------------------------------------------------------------------- */

#define NEEDS_NONE(call)	OURS(call, CUDA_SUCCESS, #call)

static void devices(void)
{
	size_t total, width;
	char name[64];
	CUdevprop p;
	int n, minor;
	CUdevice dev;
	CUcontext ctx;

	GIVES(cuDeviceGetCount(&n), CUDA_SUCCESS, "devices");
	GIVES(cuDeviceGet(&dev, 0), CUDA_SUCCESS, "the first of them");
	GIVES(cuDeviceGetName(name, sizeof(name), dev), CUDA_SUCCESS, "its name");
	GIVES(cuDeviceGetAttribute(&n, CU_DEVICE_ATTRIBUTE_WARP_SIZE, dev), CUDA_SUCCESS, "an attribute");
	GIVES(cuDeviceTotalMem_v2(&total, dev), CUDA_SUCCESS, "its memory");
	GIVES(cuDeviceComputeCapability(&n, &minor, dev), CUDA_SUCCESS, "what it can");
	GIVES(cuDeviceGetProperties(&p, dev), CUDA_SUCCESS, "its properties");
	GIVES(cuDeviceGetExecAffinitySupport(&n, CU_EXEC_AFFINITY_TYPE_SM_COUNT, dev), CUDA_SUCCESS, "affinity");
	GIVES(cuDeviceGetTexture1DLinearMaxWidth(&width, CU_AD_FORMAT_FLOAT, 1, dev), CUDA_SUCCESS, "textures");
	GIVES(cuDevicePrimaryCtxRetain(&ctx, dev), CUDA_SUCCESS, "the primary context");
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	GIVES(cuCtxCreate_v2(&ctx, 0, dev), CUDA_SUCCESS, "a context is made");
	CU(cuCtxDestroy_v2(ctx));
	CU(cuCtxSetCurrent(NULL));
}

static void objects(void)
{
	CUfunction function;
	CUmodule module;
	int n;

	if (!counts_apart())	/* the shim tells what it knows; the software GPU by itself wants a context */
		NEEDS_NONE(cuModuleGetFunction(&function, have.module, "nothing"));
	NEEDS_NONE(cuModuleEnumerateFunctions(&function, 1, have.module));
	NEEDS_NONE(cuFuncGetModule(&module, have.function));
	GIVES(cuFuncGetAttribute(&n, CU_FUNC_ATTRIBUTE_NUM_REGS, have.function), CUDA_SUCCESS, "what a function is");
	NEEDS_NONE(cuFuncSetBlockShape(have.function, 1, 1, 1));
	NEEDS_NONE(cuFuncSetSharedSize(have.function, 4));
	NEEDS_NONE(cuParamSetSize(have.function, 8));
	NEEDS_NONE(cuParamSetv(have.function, 0, &n, 4));
	NEEDS_NONE(cuParamSeti(have.function, 0, 1));
	NEEDS_NONE(cuParamSetf(have.function, 4, 1));
	NEEDS_NONE(cuEventSynchronize(have.event));
}

static void addresses(void)
{
	CUpointer_attribute type = CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
	unsigned int flags, one = 1;
	size_t size;
	void *data = &flags;
	CUdeviceptr p;

	NEEDS_NONE(cuPointerGetAttribute(&flags, type, have.memory));
	NEEDS_NONE(cuPointerGetAttributes(1, &type, &data, have.memory));
	NEEDS_NONE(cuPointerSetAttribute(&one, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, have.memory));
	if (!counts_apart())
		NEEDS_NONE(cuMemGetAddressRange_v2(&p, &size, have.memory));
	NEEDS_NONE(cuMemHostUnregister(have.registered));
	NEEDS_NONE(cuMemFreeHost(have.pinned));
	GIVES(cuMemFree_v2(have.memory), CUDA_SUCCESS, "memory is freed");
}

/* The text of a map, and its device if there is one: nothing is sent to it. */
static void maps(void)
{
	cuuint64_t dim[3] = { 64, 64, 64 }, strides[2] = { 256, 16384 };
	cuuint32_t box[3] = { 8, 8, 8 }, step[3] = { 1, 1, 1 };
	CUtensorMap map __attribute__((aligned(64)));
	void *at = (void *)(uintptr_t)have.memory;
	int corner[1] = { 0 };

	NEEDS_NONE(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 3, at, dim, strides, box, step,
					  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
					  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
	NEEDS_NONE(cuTensorMapEncodeIm2col(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 3, at, dim, strides, corner, corner, 8, 8, step,
					   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
					   CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
	NEEDS_NONE(cuTensorMapReplaceAddress(&map, (char *)at + 4096));
}

/* They end in the context that they were made in. */
static void ends(void)
{
	NEEDS_NONE(cuEventDestroy_v2(have.event));
	NEEDS_NONE(cuStreamDestroy_v2(have.stream));
	NEEDS_NONE(cuModuleUnload(have.module));
}

int main(void)
{
	make();
	CU(cuCtxSetCurrent(NULL));
	streams();
	functions();
	memory();
	files();
	devices();
	objects();
	maps();
	addresses();
	ends();
	CU(cuCtxSetCurrent(have.ctx));
	CU(cuCtxSynchronize());
	return tap_done();
}
