// SPDX-License-Identifier: Apache-2.0
/*
 * What a capture costs: work in the stream that captures is posted like any other, and so is that of streams which have no
 * part in it (selftests/run-local counts, by VGPU_TRACE). And what goes wrong with a capture is said at once even so.
 */
#include <pthread.h>

#include "driver.h"

#define ROUNDS	100

static const char ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n"
	PTX_ADD;

static CUcontext ctx;
static CUfunction add;
static CUdeviceptr d;

static CUresult launch(CUstream s, CUdeviceptr where)
{
	unsigned int one = 1;
	void *params[] = { &where, &one };

	return cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, s, params, NULL);
}

static void *unsafe(void *arg)
{
	CUdeviceptr p;

	CU(cuCtxSetCurrent(ctx));
	*(CUresult *)arg = cuMemAlloc(&p, 4096);
	return NULL;
}

/* Not in the counted part: a capture that another thread ends by a call that captures forbid. */
static void spoiled(CUstream s, CUstream other)
{
	CUresult theirs = CUDA_SUCCESS;
	CUstreamCaptureStatus status;
	CUevent e;
	pthread_t t;
	CUgraph g;

	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	CU(launch(s, d));
	pthread_create(&t, NULL, unsafe, &theirs);
	pthread_join(t, NULL);
	ok(theirs == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "another thread's call is forbidden: %s", cu_name(theirs));
	CU(cuStreamIsCapturing(s, &status));
	ok(status == CU_STREAM_CAPTURE_STATUS_INVALIDATED, "the capture is over");
	GIVES(launch(s, d), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "and takes no more");
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "which its end says too");

	/* A stream that joins a capture is no stream that has no part in it. */
	CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	CU(launch(s, d));
	CU(cuEventRecord(e, s));
	CU(cuStreamWaitEvent(other, e, 0));
	CU(launch(other, d));
	GIVES(cuStreamSynchronize(other), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a stream that joined cannot be waited for");
	GIVES(launch(other, d), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "after which its work is refused at once");
	CU(cuStreamIsCapturing(s, &status));
	ok(status == CU_STREAM_CAPTURE_STATUS_INVALIDATED, "where the capture began says it, too");
	GIVES(launch(s, d), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "that of the first as well");
	GIVES(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "until it ends");
	CU(launch(s, d));
	CU(cuStreamSynchronize(s));
	ok(true, "then all is as before");
	CU(cuEventDestroy(e));
}

int main(void)
{
	unsigned int got[2] = { 0 }, asked = 0;
	CUstreamCaptureStatus status;
	cuuint64_t id = 0, first = 0;
	CUstream s, apart;
	CUgraphExec x;
	CUmodule module;
	size_t n = 0;
	CUevent e;
	CUgraph g, none;

	ctx = primary_context(NULL);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	CU(cuMemAlloc(&d, 4096));
	CU(cuMemsetD8(d, 0, 4096));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&apart, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	spoiled(s, apart);
	CU(cuMemsetD8(d, 0, 4096));
	CU(cuCtxSynchronize());

	/* The counted part begins with the last cuStreamBeginCapture and ends with the last cuStreamEndCapture. */
	CU(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	for (int i = 0; i < ROUNDS; i++) {
		CU(launch(s, d));
		CU(cuMemsetD32Async(d + 64, i, 1, s));
		CU(cuMemcpyDtoDAsync(d + 128, d, 4, s));
		CU(cuEventRecord(e, s));
		CU(cuStreamIsCapturing(s, &status));
		asked += status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
		CU(cuStreamGetCaptureInfo(s, &status, &id, NULL, NULL, NULL, NULL));
		asked += status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id && (!i || id == first);
		first = id;
		CU(cuStreamIsCapturing(apart, &status));
		asked += status == CU_STREAM_CAPTURE_STATUS_NONE;
		CU(cuStreamGetCaptureInfo(apart, &status, NULL, &none, NULL, NULL, NULL));
		asked += status == CU_STREAM_CAPTURE_STATUS_NONE;
		CU(launch(apart, d + 4));
	}
	CU(cuStreamEndCapture(s, &g));
	ok(asked == 4 * ROUNDS, "%u of %d answers meanwhile were right", asked, 4 * ROUNDS);

	CU(cuStreamSynchronize(apart));
	CU(cuMemcpyDtoH(got, d, 8));
	ok(got[0] == 0 && got[1] == ROUNDS, "what was captured has not happened, what was not has: %u %u", got[0], got[1]);
	CU(cuGraphGetNodes(g, NULL, &n));
	ok(n == 3 * ROUNDS, "%zu nodes", n);
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphLaunch(x, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(got, d, 8));
	ok(got[0] == ROUNDS, "now it has: %u", got[0]);
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
	return tap_done();
}
