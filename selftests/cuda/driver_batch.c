// SPDX-License-Identifier: Apache-2.0
/* Several copies, or several operations on values in memory, by one call; three-dimensional copies between contexts. */
#include "driver.h"

int main(void)
{
	CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUstreamBatchMemOpParams ops[4] = { { 0 } };
	unsigned int *host, got[2] = { 0 }, wrong = 0;
	CUDA_MEMCPY3D_PEER c = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .dstMemoryType = CU_MEMORYTYPE_DEVICE,
				 .srcPitch = 64, .dstPitch = 64, .srcHeight = 4, .dstHeight = 4,
				 .WidthInBytes = 32, .Height = 2, .Depth = 3 };
	size_t sizes[3], index = 0;
	CUdeviceptr d, e, to[3], from[3];
	CUstream stream;
	CUcontext ctx;
	CUdevice dev;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&d, 4096));
	CU(cuMemAlloc(&e, 4096));
	CU(cuMemHostAlloc((void **)&host, 8192, 0));
	for (unsigned int i = 0; i < 2048; i++)
		host[i] = i;

	/* In, on the device, and out again. */
	to[0] = d;
	from[0] = (CUdeviceptr)(uintptr_t)host;
	to[1] = e;
	from[1] = d;
	to[2] = (CUdeviceptr)(uintptr_t)(host + 1024);
	from[2] = e;
	sizes[0] = sizes[1] = sizes[2] = 4096;
	CU(cuMemcpyBatchAsync(to, from, sizes, 3, &how, &index, 1, stream));
	CU(cuStreamSynchronize(stream));
	for (unsigned int i = 0; i < 1024; i++)
		wrong += host[1024 + i] != i;
	ok(!wrong, "three copies by one call: %u wrong", wrong);
	GIVES(cuMemcpyBatchAsync(to, from, sizes, 0, &how, &index, 1, stream), CUDA_ERROR_INVALID_VALUE, "no copies");

	ops[0].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
	ops[0].writeValue.address = d;
	ops[0].writeValue.value = 77;
	ops[1].operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
	ops[1].waitValue.address = d;
	ops[1].waitValue.value = 77;
	ops[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
	ops[2].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
	ops[2].writeValue.address = d + 4;
	ops[2].writeValue.value = 78;
	CU(cuStreamBatchMemOp(stream, 3, ops, 0));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(got, d, 8));
	ok(got[0] == 77 && got[1] == 78, "write, wait, write: %u %u", got[0], got[1]);

	c.srcDevice = d;
	c.dstDevice = e;
	c.srcContext = c.dstContext = ctx;
	CU(cuMemsetD8(d, 0xab, 4096));
	CU(cuMemsetD8(e, 0, 4096));
	CU(cuMemcpy3DPeer(&c));
	CU(cuMemcpyDtoH(host, e, 4096));
	wrong = 0;
	for (unsigned int i = 0; i < 4096; i++) {
		bool inside = i % 64 < 32 && i / 64 % 4 < 2 && i / 256 < 3;

		wrong += ((unsigned char *)host)[i] != (inside ? 0xab : 0);
	}
	ok(!wrong, "a box of bytes: %u wrong", wrong);
	c.dstContext = NULL;
	GIVES(cuMemcpy3DPeer(&c), CUDA_SUCCESS, "no context is the current one");
	CU(cuMemFreeHost(host));
	CU(cuMemFree(d));
	CU(cuMemFree(e));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
