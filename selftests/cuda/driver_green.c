// SPDX-License-Identifier: Apache-2.0
/* Green contexts and the parts of a device they are made of; events of whole contexts. */
#include <unistd.h>

#include "driver.h"

static void slow(void *data)
{
	usleep(50000);
	*(volatile int *)data = 1;
}

int main(void)
{
	CUdevResource all, part[2], rest, got, bad = { 0 };
	CUgreenCtx green, none, back;
	CUdevResourceDesc desc;
	unsigned long long id = 0;
	unsigned int n, value = 0;
	volatile int done = 0;
	CUstream s, plain, other;
	CUdeviceptr d;
	CUcontext ctx;
	CUdevice dev;
	CUevent ev;
	CUresult r;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuMemAlloc(&d, 4));
	CU(cuStreamCreate(&plain, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&ev, 0));

	/* All that is under way in a context. */
	CU(cuLaunchHostFunc(plain, slow, (void *)&done));
	CU(cuCtxRecordEvent(ctx, ev));
	r = cuEventQuery(ev);
	ok(r == CUDA_ERROR_NOT_READY || done, "an event of a context waits for its streams: %s", cu_name(r));
	CU(cuEventSynchronize(ev));
	ok(done, "all of them");
	done = 0;
	CU(cuLaunchHostFunc(plain, slow, (void *)&done));
	CU(cuEventRecord(ev, plain));
	CU(cuCtxWaitEvent(ctx, ev));
	CU(cuMemsetD32Async(d, 5, 1, NULL));
	CU(cuStreamSynchronize(NULL));
	ok(done, "and a context can wait for an event, with all its streams");
	OURS(cuCtxRecordEvent((CUcontext)plain, ev), CUDA_ERROR_INVALID_CONTEXT, "an event of no context");
	OURS(cuCtxWaitEvent(ctx, (CUevent)plain), CUDA_ERROR_INVALID_HANDLE, "no event");

	r = cuDeviceGetDevResource(dev, &all, CU_DEV_RESOURCE_TYPE_SM);
	ok(r == CUDA_SUCCESS && all.type == CU_DEV_RESOURCE_TYPE_SM && all.sm.smCount, "a device has %u multiprocessors",
	   all.sm.smCount);
	GIVES(cuDeviceGetDevResource(dev, &got, 77), CUDA_ERROR_INVALID_RESOURCE_TYPE, "other parts it has not");
	GIVES(cuDeviceGetDevResource(dev, NULL, CU_DEV_RESOURCE_TYPE_SM), CUDA_ERROR_INVALID_VALUE, "to nowhere");
	CU(cuDevSmResourceSplitByCount(NULL, &n, &all, NULL, 0, all.sm.minSmPartitionSize));
	ok(n >= 1, "which can be split into %u", n);
	n = 1;
	CU(cuDevSmResourceSplitByCount(part, &n, &all, &rest, 0, all.sm.minSmPartitionSize));
	ok(n == 1 && part[0].sm.smCount >= all.sm.minSmPartitionSize &&
	   part[0].sm.smCount + (rest.type == CU_DEV_RESOURCE_TYPE_SM ? rest.sm.smCount : 0) == all.sm.smCount,
	   "one part and the rest are the whole");
	GIVES(cuDevSmResourceSplitByCount(part, &n, &all, NULL, 0, all.sm.smCount + 1),
	      CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "a part larger than the whole");
	GIVES(cuDevSmResourceSplitByCount(part, &n, &bad, NULL, 0, 1), CUDA_ERROR_INVALID_RESOURCE_TYPE, "a part of nothing");
	GIVES(cuDevResourceGenerateDesc(&desc, &bad, 1), CUDA_ERROR_INVALID_RESOURCE_TYPE, "a description of nothing");
	CU(cuDevResourceGenerateDesc(&desc, part, 1));
	GIVES(cuGreenCtxCreate(&none, desc, dev, 0), CUDA_ERROR_INVALID_VALUE, "without the flag it must have");
	CU(cuGreenCtxCreate(&green, desc, dev, CU_GREEN_CTX_DEFAULT_STREAM));
	CU(cuGreenCtxGetDevResource(green, &got, CU_DEV_RESOURCE_TYPE_SM));
	ok(got.sm.smCount == part[0].sm.smCount, "a green context has its part: %u", got.sm.smCount);
	CU(cuGreenCtxGetId(green, &id));
	ok(id != 0, "and a number");
	CU(cuGreenCtxStreamCreate(&s, green, CU_STREAM_NON_BLOCKING, 0));
	GIVES(cuGreenCtxStreamCreate(&other, green, CU_STREAM_DEFAULT, 0), CUDA_ERROR_INVALID_VALUE, "a blocking stream in it");
	CU(cuStreamGetGreenCtx(s, &back));
	ok(back == green, "a stream of it says so");
	CU(cuStreamGetGreenCtx(plain, &back));
	ok(!back, "others are of none");
	CU(cuMemsetD32Async(d, 99, 1, s));
	CU(cuGreenCtxRecordEvent(green, ev));
	CU(cuGreenCtxWaitEvent(green, ev));
	CU(cuEventSynchronize(ev));
	CU(cuMemcpyDtoH(&value, d, 4));
	ok(value == 99, "work in it is done: %u", value);
	CU(cuStreamDestroy(s));
	CU(cuGreenCtxDestroy(green));
	OURS(cuGreenCtxGetId(green, &id), CUDA_ERROR_INVALID_CONTEXT, "a green context that is gone");
	OURS(cuGreenCtxDestroy(green), CUDA_ERROR_INVALID_CONTEXT, "destroying it twice");

	/* A green context holds its device's primary context, whatever is current. */
	CU(cuCtxSetCurrent(NULL));
	GIVES(cuGreenCtxCreate(&green, desc, dev, CU_GREEN_CTX_DEFAULT_STREAM), CUDA_SUCCESS, "without a current one");
	GIVES(cuGreenCtxGetId(green, &id), CUDA_SUCCESS, "its number");
	GIVES(cuGreenCtxRecordEvent(green, ev), CUDA_SUCCESS, "an event of it");
	GIVES(cuGreenCtxWaitEvent(green, ev), CUDA_SUCCESS, "which it waits for");
	GIVES(cuGreenCtxDestroy(green), CUDA_SUCCESS, "and its end");
	CU(cuCtxSetCurrent(ctx));
	CU(cuMemFree(d));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
