// SPDX-License-Identifier: Apache-2.0
/* The older forms of calls about graphs, captures, streams and memory, which libraries of older CUDA versions ask for. */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <unistd.h>

#include "driver.h"

static const char ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n"
	PTX_ADD;

static CUcontext ctx;
static CUdevice dev;
static CUstream stream;
static CUfunction add;
static CUdeviceptr d;

static unsigned int value_at(CUdeviceptr p)
{
	unsigned int v = 0;

	CU(cuMemcpyDtoH_v2(&v, p, 4));
	return v;
}

/* What is at @p after a launch of @x, if it was 0 before. */
static unsigned int after(CUgraphExec x, CUdeviceptr p)
{
	CU(cuMemsetD8_v2(d, 0, 4096));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(stream));
	return value_at(p);
}

static void kernel_nodes(void)
{
	unsigned int five = 5, seven = 7;
	void *params[] = { &d, &five }, *other[] = { &d, &seven };
	CUDA_KERNEL_NODE_PARAMS_v1 k = { .func = add, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
					 .blockDimZ = 1, .kernelParams = params }, got = { 0 };
	CUgraphNode a, b, failed, from[2], to[2], deps[2];
	CUDA_GRAPH_INSTANTIATE_PARAMS how = { .flags = 0 };
	CUgraphExecUpdateResult result;
	CUgraphExec x, y;
	char log[64] = "?";
	size_t n = 2;
	CUgraph g, h;

	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddKernelNode(&a, g, NULL, 0, &k));
	CU(cuGraphAddKernelNode(&b, g, NULL, 0, &k));
	CU(cuGraphAddDependencies(g, &a, &b, 1));
	CU(cuGraphGetEdges(g, from, to, &n));
	ok(n == 1 && from[0] == a && to[0] == b, "an edge");
	n = 2;
	CU(cuGraphNodeGetDependencies(b, deps, &n));
	ok(n == 1 && deps[0] == a, "what a node depends on");
	n = 2;
	CU(cuGraphNodeGetDependentNodes(a, deps, &n));
	ok(n == 1 && deps[0] == b, "what depends on a node");
	GIVES(cuGraphAddDependencies(g, &a, &b, 1), CUDA_ERROR_INVALID_VALUE, "an edge that is there already");
	CU(cuGraphRemoveDependencies(g, &a, &b, 1));
	n = 2;
	CU(cuGraphGetEdges(g, NULL, NULL, &n));
	ok(n == 0, "and is not any more");
	CU(cuGraphAddDependencies(g, &a, &b, 1));
	CU(cuGraphKernelNodeGetParams(a, &got));
	ok(got.func == add && *(unsigned int *)got.kernelParams[1] == 5, "a kernel node's parameters");
	CU(cuGraphInstantiate(&x, g, &failed, log, sizeof(log)));
	ok(after(x, d) == 10, "instantiated by the first form: %u", value_at(d));
	k.kernelParams = other;
	CU(cuGraphExecKernelNodeSetParams(x, a, &k));
	ok(after(x, d) == 12, "a node changed in what is instantiated: %u", value_at(d));
	CU(cuGraphKernelNodeSetParams(b, &k));
	CU(cuGraphInstantiate_v2(&y, g, &failed, log, sizeof(log)));
	ok(after(y, d) == 12 && after(x, d) == 12, "and in the graph, by the second: %u", value_at(d));
	CU(cuGraphExecDestroy(y));
	CU(cuGraphInstantiateWithParams(&y, g, &how));
	ok(after(y, d) == 12 && how.result_out == CUDA_GRAPH_INSTANTIATE_SUCCESS, "with parameters");
	CU(cuGraphExecUpdate(x, g, &failed, &result));
	ok(result == CU_GRAPH_EXEC_UPDATE_SUCCESS && after(x, d) == 12, "updated from the graph: %u", value_at(d));
	CU(cuGraphCreate(&h, 0));
	ok(cuGraphExecUpdate(x, h, &failed, &result) == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE && result != CU_GRAPH_EXEC_UPDATE_SUCCESS,
	   "but not from another one: %d", result);
	CU(cuGraphDestroy(h));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphExecDestroy(y));
	CU(cuGraphDestroy(g));
}

static void other_nodes(void)
{
	CUDA_MEMSET_NODE_PARAMS fill = { .dst = d, .value = 3, .elementSize = 4, .width = 4, .height = 1 };
	CUDA_MEMCPY3D copy = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .srcPitch = 4, .srcHeight = 1,
			       .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = d + 64, .dstPitch = 4, .dstHeight = 1,
			       .WidthInBytes = 4, .Height = 1, .Depth = 1 };
	CUstreamBatchMemOpParams op = { .writeValue = { .operation = CU_STREAM_MEM_OP_WRITE_VALUE_32, .address = d + 128 } };
	CUDA_BATCH_MEM_OP_NODE_PARAMS ops = { .ctx = ctx, .count = 1, .paramArray = &op };
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMSET };
	CUgraphNode f, c, b, record, wait, more;
	CUevent one, two, got;
	CUgraphExec x;
	CUgraph g;

	CU(cuEventCreate(&one, 0));
	CU(cuEventCreate(&two, 0));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemsetNode(&f, g, NULL, 0, &fill, ctx));
	CU(cuGraphAddMemcpyNode(&c, g, &f, 1, &copy, ctx));
	op.writeValue.value = 9;
	CU(cuGraphAddBatchMemOpNode(&b, g, &c, 1, &ops));
	CU(cuGraphAddEventRecordNode(&record, g, &b, 1, one));
	CU(cuGraphAddEventWaitNode(&wait, g, &record, 1, one));
	p.memset.dst = d + 192;
	p.memset.value = 21;
	p.memset.elementSize = 4;
	p.memset.width = p.memset.height = 1;
	p.memset.ctx = ctx;
	CU(cuGraphAddNode(&more, g, &wait, 1, &p));
	/* Each of them changed before it is used. */
	fill.value = 4;
	CU(cuGraphMemsetNodeSetParams(f, &fill));
	copy.dstDevice = d + 68;
	CU(cuGraphMemcpyNodeSetParams(c, &copy));
	op.writeValue.value = 10;
	CU(cuGraphBatchMemOpNodeSetParams(b, &ops));
	CU(cuGraphEventRecordNodeSetEvent(record, two));
	CU(cuGraphEventWaitNodeSetEvent(wait, two));
	CU(cuGraphEventRecordNodeGetEvent(record, &got));
	ok(got == two, "the event that is recorded");
	got = NULL;
	CU(cuGraphEventWaitNodeGetEvent(wait, &got));
	ok(got == two, "and the one that is waited for");
	p.memset.value = 22;
	CU(cuGraphNodeSetParams(more, &p));
	CU(cuGraphInstantiateWithFlags(&x, g, 0));
	ok(after(x, d) == 4 && value_at(d + 64) == 0 && value_at(d + 68) == 4 && value_at(d + 128) == 10 && value_at(d + 192) == 22,
	   "nodes of five kinds, changed in the graph: %u %u %u %u", value_at(d), value_at(d + 68), value_at(d + 128), value_at(d + 192));
	GIVES(cuEventQuery(two), CUDA_SUCCESS, "the event was recorded");
	fill.value = 6;
	CU(cuGraphExecMemsetNodeSetParams(x, f, &fill, ctx));
	copy.srcDevice = d + 4;
	CU(cuGraphExecMemcpyNodeSetParams(x, c, &copy, ctx));
	CU(cuGraphExecEventRecordNodeSetEvent(x, record, one));
	CU(cuGraphExecEventWaitNodeSetEvent(x, wait, one));
	p.memset.value = 23;
	CU(cuGraphExecNodeSetParams(x, more, &p));
	ok(after(x, d) == 6 && value_at(d + 68) == 6 && value_at(d + 192) == 23, "and in what is instantiated: %u %u %u", value_at(d),
	   value_at(d + 68), value_at(d + 192));
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	CU(cuEventDestroy(one));
	CU(cuEventDestroy(two));
}

static void capture(void)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	const CUgraphNode *nodes;
	cuuint64_t id = 0;
	size_t n = 99;
	CUgraph g;

	CU(cuStreamBeginCapture(stream));
	CU(cuMemsetD8Async(d, 1, 64, stream));
	CU(cuStreamGetCaptureInfo(stream, &status, &id));
	ok(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id, "a capture begun by the first form");
	CU(cuStreamGetCaptureInfo_v2(stream, &status, &id, &g, &nodes, &n));
	ok(n == 1, "depends on one node");
	CU(cuStreamUpdateCaptureDependencies(stream, NULL, 0, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	CU(cuStreamGetCaptureInfo_v2(stream, &status, &id, NULL, NULL, &n));
	ok(n == 0, "or on none");
	CU(cuStreamEndCapture(stream, &g));
	CU(cuGraphDestroy(g));
}

static void streams(void)
{
	CUstreamBatchMemOpParams op = { .writeValue = { .operation = CU_STREAM_MEM_OP_WRITE_VALUE_32, .address = d, .value = 3 } };
	CUstream s;
	CUevent a, b;
	float ms = -1;

	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&a, 0));
	CU(cuEventCreate(&b, 0));
	CU(cuEventRecord(a, s));
	if (!on_driver()) {	/* which has these forms only if its kernel module is told so */
		CU(cuStreamWriteValue32(s, d, 1, 0));
		CU(cuStreamWaitValue32(s, d, 1, CU_STREAM_WAIT_VALUE_EQ));
		CU(cuStreamWriteValue64(s, d + 8, 2, 0));
		CU(cuStreamWaitValue64(s, d + 8, 2, CU_STREAM_WAIT_VALUE_EQ));
		CU(cuStreamBatchMemOp(s, 1, &op, 0));
	}
	CU(cuEventRecord(b, s));
	CU(cuEventSynchronize(b));
	CU(cuEventElapsedTime(&ms, a, b));
	ok((on_driver() || (value_at(d) == 3 && value_at(d + 8) == 2)) && ms >= 0, "values in memory, and the time it took: %g ms", ms);
	CU(cuEventDestroy(a));
	CU(cuEventDestroy(b));
	CU(cuStreamDestroy(s));
}

static void memory(void)
{
	CUDA_MEMCPY3D_BATCH_OP op = { .src = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER, .op.ptr.ptr = d },
				      .dst = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER, .op.ptr.ptr = d + 1024 },
				      .extent = { 16, 2, 1 }, .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUDA_MEMCPY3D_PEER peer = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .srcPitch = 64, .srcHeight = 1, .srcContext = ctx,
				    .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = d + 2048, .dstPitch = 64, .dstHeight = 1,
				    .dstContext = ctx, .WidthInBytes = 32, .Height = 1, .Depth = 1 };
	CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUdeviceptr m, line_to = d + 3072, line_from = d;
	unsigned int *own = aligned_alloc(4096, 8192);
	size_t failed = 7, size = 64, index = 0;
	int value;

	CU(cuMemsetD32_v2(d, 77, 64));
	CU(cuMemcpy3DBatchAsync(1, &op, &failed, 0, stream));
	CU(cuMemcpy3DPeerAsync(&peer, stream));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d + 1024 + 28) == 77 && value_at(d + 2048 + 28) == 77, "boxes copied by a list, and between contexts");
	CU(cuMemcpyBatchAsync(&line_to, &line_from, &size, 1, &how, &index, 1, &failed, stream));
	CU(cuStreamSynchronize(stream));
	ok(value_at(d + 3072 + 28) == 77 && (failed == SIZE_MAX || on_driver()), "a list of lines, none of which failed");
	line_to = 0;
	OURS(cuMemcpyBatchAsync(&line_to, &line_from, &size, 1, &how, &index, 1, &failed, stream),
	     CUDA_ERROR_INVALID_VALUE, "a line to nowhere");
	if (!on_driver() && !counts_apart())
		ok(!failed, "is the one that failed: %zu", failed);
	CU(cuMemHostRegister(own, 8192, 0));
	CU(cuMemcpyDtoHAsync_v2(own, d, 64, stream));
	CU(cuStreamSynchronize(stream));
	ok(own[3] == 77, "memory of the program's own, registered");
	CU(cuMemHostUnregister(own));
	free(own);
	CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, dev));
	if (!value)
		return;
	CU(cuMemAllocManaged(&m, 8192, CU_MEM_ATTACH_GLOBAL));
	CU(cuStreamAttachMemAsync(stream, m, 0, CU_MEM_ATTACH_SINGLE));
	CU(cuStreamSynchronize(stream));
	CU(cuMemAdvise(m, 8192, CU_MEM_ADVISE_SET_READ_MOSTLY, dev));
	CU(cuMemPrefetchAsync(m, 8192, CU_DEVICE_CPU, stream));
	CU(cuStreamSynchronize(stream));
	GIVES(cuMemAdvise(m, 8192, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, 99), CUDA_ERROR_INVALID_DEVICE, "advice about no device");
	GIVES(cuMemPrefetchAsync(m, 8192, 99, stream), CUDA_ERROR_INVALID_DEVICE, "prefetching to none");
	CU(cuMemFree_v2(m));
}

static void others(void)
{
	CUDA_ARRAY3D_DESCRIPTOR desc = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_UNSIGNED_INT32, .NumChannels = 1,
					 .Flags = CUDA_ARRAY3D_SURFACE_LDST };
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY }, got = { .resType = CU_RESOURCE_TYPE_LINEAR };
	char path[] = "/tmp/driver_forms.XXXXXX";
	int fd = mkstemp(path);
	CUsurfObject surface;
	CUarray a;

	CU(cuArray3DCreate_v2(&a, &desc));
	res.res.array.hArray = a;
	CU(cuSurfObjectCreate(&surface, &res));
	CU(cuSurfObjectGetResourceDesc(&got, surface));
	ok(got.resType == CU_RESOURCE_TYPE_ARRAY && got.res.array.hArray == a, "a surface tells its array");
	CU(cuSurfObjectDestroy(surface));
	CU(cuArrayDestroy(a));
	if (fd < 0)
		bail("cannot make %s", path);
	close(fd);
	CU(cuLogsDumpToFile(NULL, path, 0));
	ok(!access(path, R_OK), "the log goes to a file");
	unlink(path);
}

/* What a copy engine is told of a tensor, with a window that moves over it. */
static void tensors(void)
{
	cuuint64_t dims[4] = { 16, 8, 8, 2 }, strides[3] = { 64, 512, 4096 };
	int lower[2] = { 0, 0 }, upper[2] = { 0, 0 };
	cuuint32_t ones[4] = { 1, 1, 1, 1 };
	CUtensorMap a, b;
	CUdeviceptr t;
	CUresult r;
	int major;

	CU(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, dev));
	CU(cuMemAlloc_v2(&t, 65536));
	r = cuTensorMapEncodeIm2col(&a, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, (void *)(uintptr_t)t, dims, strides, lower, upper, 16, 32, ones,
				    CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
				    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	ok(major < 9 || r == CUDA_SUCCESS, "a map for windows: %s", cu_name(r));
	r = cuTensorMapEncodeIm2colWide(&b, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, (void *)(uintptr_t)t, dims, strides, 0, 0, 16, 32, ones,
					CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_IM2COL_WIDE_MODE_W, CU_TENSOR_MAP_SWIZZLE_128B,
					CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	ok(major < 10 || r == CUDA_SUCCESS, "and for wide ones: %s", cu_name(r));
	r = cuTensorMapEncodeIm2col(&a, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, (void *)(uintptr_t)(t + 4), dims, strides, lower, upper, 16, 32,
				    ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
				    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	ok(r == (major < 9 ? r : CUDA_ERROR_INVALID_VALUE), "memory at an odd place: %s", cu_name(r));
	CU(cuMemFree_v2(t));
}

int main(void)
{
	CUmodule module;

	ctx = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	CU(cuMemAlloc_v2(&d, 4096));
	kernel_nodes();
	other_nodes();
	capture();
	streams();
	memory();
	others();
	tensors();
	return tap_done();
}
