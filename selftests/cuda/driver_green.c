// SPDX-License-Identifier: Apache-2.0
/* Green contexts and the parts of a device they are made of; events of whole contexts. */
#include <unistd.h>

#include "driver.h"

static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n" PTX_ADD;

static void slow(void *data)
{
	usleep(50000);
	*(volatile int *)data = 1;
}

static volatile int late;	/* until() has given up */

static void until(void *data)
{
	for (int i = 0; i < 5000 && !*(volatile int *)data; i++)
		usleep(1000);
	late = !*(volatile int *)data;
}

static void add(CUfunction f, CUdeviceptr d, unsigned int n, CUstream s)
{
	void *args[] = { &d, &n };

	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, args, NULL));
}

static unsigned int word(CUdeviceptr d)
{
	unsigned int value = 0;

	CU(cuMemcpyDtoH(&value, d, 4));
	return value;
}

/* Its default stream and those made in it are its own. */
static void its_streams(CUgreenCtx green, CUcontext ctx, CUcontext primary, CUfunction f, CUdeviceptr d, CUevent ev,
			CUstream plain)
{
	CUcontext of = NULL;
	CUgreenCtx back = NULL;
	volatile int go = 0, done = 0;
	CUevent mark = ev;
	CUstream s;

	/* Whether one that the primary one has may be in its streams CUDA does not say. */
	if (!ON_SOFTWARE())
		CU(cuEventCreate(&mark, 0));
	CU(cuStreamGetGreenCtx(NULL, &back));
	ok(back == green, "its default stream is in it");
	CU(cuStreamGetCtx(NULL, &of));
	ok(of == ctx, "so the context of that is");
	CU(cuStreamCreate(&s, CU_STREAM_DEFAULT));
	CU(cuStreamGetCtx(s, &of));
	CU(cuStreamGetGreenCtx(s, &back));
	ok(of == ctx && back == green, "a stream that is made while it is current is in it");
	CU(cuStreamGetCtx_v2(s, &of, &back));
	ok(of == primary && back == green, "which the later form of the question tells apart");
	GIVES(cuStreamGetCtx_v2(CU_STREAM_PER_THREAD, &of, &back), CUDA_ERROR_INVALID_HANDLE, "a default stream of each thread");

	/* Blocking streams and the default stream keep order as in any context. */
	CU(cuLaunchHostFunc(s, slow, (void *)&done));
	add(f, d, 10, NULL);
	CU(cuEventRecord(mark, NULL));
	CU(cuStreamSynchronize(NULL));
	ok(done && word(d) == 15, "its default stream waits for it: %u", word(d));
	CU(cuEventSynchronize(mark));

	/* Another's work is not waited for. */
	CU(cuLaunchHostFunc(plain, until, (void *)&go));
	add(f, d, 100, s);
	CU(cuCtxSynchronize());
	go = 1;
	CU(cuStreamSynchronize(plain));
	ok(!late || on_driver(), "waiting for it is not waiting for the primary one");
	done = 0;
	CU(cuLaunchHostFunc(s, slow, (void *)&done));
	CU(cuCtxPushCurrent(primary));
	CU(cuCtxSynchronize());
	ok(done, "but that is waiting for all its green ones");
	CU(cuCtxPopCurrent(NULL));
	CU(cuStreamDestroy(s));
}

/* What is captured in it is launched anywhere. */
static void capturing(CUfunction f, CUdeviceptr d, CUstream plain)
{
	CUgraphExec exec;
	CUgraph graph;
	CUstream s;

	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	add(f, d, 1000, s);
	CU(cuStreamEndCapture(s, &graph));
	CU(cuGraphInstantiate(&exec, graph, 0));
	CU(cuGraphLaunch(exec, plain));
	CU(cuStreamSynchronize(plain));
	ok(word(d) == 1115, "a graph of what was captured in it works: %u", word(d));
	CU(cuGraphExecDestroy(exec));
	CU(cuGraphDestroy(graph));
	CU(cuStreamDestroy(s));
}

/* Last: its end leaves memory and all else that was made in it to the primary one. */
static void ending(CUgreenCtx green, CUcontext ctx, CUdeviceptr d)
{
	unsigned int flags = 0;
	CUdeviceptr none;
	CUcontext now;
	CUstream s;

	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemsetD32Async(d, 7, 1, s));
	CU(cuStreamSynchronize(s));
	if (on_driver())
		CU(cuStreamDestroy(s));
	OURS(cuCtxDestroy(ctx), CUDA_ERROR_INVALID_CONTEXT, "it is no context to destroy");
	if (on_driver())
		CU(cuCtxPopCurrent(&now));
	CU(cuGreenCtxDestroy(green));
	OURS(cuMemAlloc(&none, 4), CUDA_ERROR_CONTEXT_IS_DESTROYED, "when it has ended while current, nothing can be done");
	OURS(cuStreamGetFlags(s, &flags), CUDA_ERROR_INVALID_HANDLE, "its streams are gone");
	if (!on_driver())
		CU(cuCtxPopCurrent(&now));
	OURS(cuCtxSetCurrent(ctx), CUDA_ERROR_INVALID_CONTEXT, "it can't be made current any more");
	ok(word(d) == 7, "memory that was allocated in it is still there: %u", word(d));
}

static void as_context(CUcontext primary, CUdevice dev, CUdevResourceDesc desc, unsigned int sms, CUstream plain, CUevent ev)
{
	CUcontext ctx, again, now = NULL, owner = NULL;
	unsigned long long id = 0;
	CUdevResource got;
	CUgreenCtx green;
	CUdeviceptr d;
	CUfunction f;
	CUdevice its;
	CUmodule m;

	CU(cuModuleLoadData(&m, ptx));
	CU(cuModuleGetFunction(&f, m, "add"));
	CU(cuGreenCtxCreate(&green, desc, dev, CU_GREEN_CTX_DEFAULT_STREAM));
	OURS(cuCtxFromGreenCtx(NULL, green), CUDA_ERROR_INVALID_VALUE, "a green context as an ordinary one, to nowhere");
	OURS(cuCtxFromGreenCtx(&ctx, (CUgreenCtx)plain), CUDA_ERROR_INVALID_CONTEXT, "of no green context");
	CU(cuCtxFromGreenCtx(&ctx, green));
	CU(cuCtxFromGreenCtx(&again, green));
	ok((ctx == again && ctx != primary) || on_driver(), "it is a context, and always the same");
	CU(cuCtxPushCurrent(ctx));
	CU(cuCtxGetCurrent(&now));
	CU(cuCtxGetDevice(&its));
	CU(cuCtxGetId(NULL, &id));
	ok(now == ctx && its == dev && id, "which can be current, and has a device and a number");
	CU(cuCtxGetDevResource(ctx, &got, CU_DEV_RESOURCE_TYPE_SM));
	ok(got.sm.smCount == sms, "and its part of the device: %u", got.sm.smCount);
	CU(cuMemAlloc(&d, 4));
	CU(cuMemsetD32(d, 0, 1));
	CU(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, d));
	ok(on_driver() || owner == primary, "memory that is allocated in it is the primary one's");
	add(f, d, 5, NULL);
	CU(cuCtxSynchronize());
	ok(word(d) == 5, "a kernel of the primary one runs in it: %u", word(d));
	its_streams(green, ctx, primary, f, d, ev, plain);
	capturing(f, d, plain);
	ending(green, ctx, d);
	add(f, d, 1, plain);
	CU(cuStreamSynchronize(plain));
	ok(word(d) == 8, "and the primary one goes on: %u", word(d));
	CU(cuMemFree(d));
	CU(cuModuleUnload(m));
}

/* An event of all its streams cannot be captured by one of them. */
static void while_capturing(CUgreenCtx green, CUstream s, CUevent ev)
{
	CUgraph g;

	if (native("events of a green context whose stream captures"))
		return;
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	GIVES(cuGreenCtxRecordEvent(green, ev), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "an event of it while a stream of it captures");
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "ends the capture");
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	GIVES(cuGreenCtxWaitEvent(green, ev), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "waiting for one");
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "as well");
}

int main(void)
{
	CUdevResource all, part[2], twice[2], rest, got, bad = { 0 };
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

	ctx = primary_context(&dev);
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
	twice[0] = twice[1] = part[0];
	GIVES(cuDevResourceGenerateDesc(&desc, twice, 2), CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "of the same part twice");
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
	while_capturing(green, s, ev);
	CU(cuStreamDestroy(s));
	CU(cuGreenCtxDestroy(green));
	OURS(cuGreenCtxGetId(green, &id), CUDA_ERROR_INVALID_CONTEXT, "a green context that is gone");
	OURS(cuGreenCtxDestroy(green), CUDA_ERROR_INVALID_CONTEXT, "destroying it twice");

	as_context(ctx, dev, desc, part[0].sm.smCount, plain, ev);

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
