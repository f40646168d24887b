// SPDX-License-Identifier: Apache-2.0
/* What a stream captures can be launched again and again. */
#include "runtime.h"

__global__ void add(float *a, const float *b, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		a[i] += b[i];
}

__global__ void scale(float *a, float by, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		a[i] *= by;
}

static bool all(const float *p, int n, float value)
{
	for (int i = 0; i < n; i++)
		if (p[i] != value) {
			printf("# %d: %g instead of %g\n", i, p[i], value);
			return false;
		}
	return true;
}

int main(void)
{
	const int n = 10000, blocks = (n + 255) / 256;
	cudaStream_t stream, side;
	cudaGraphExec_t exec;
	cudaStreamCaptureStatus status;
	cudaGraph_t graph;
	cudaEvent_t fork, join;
	float *host, *out, *a, *b;
	unsigned long long id = 0;
	size_t nodes = 0;

	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	CUDA(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
	CUDA(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
	CUDA(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
	CUDA(cudaMallocHost(&host, n * sizeof(float)));
	CUDA(cudaMallocHost(&out, n * sizeof(float)));
	CUDA(cudaMalloc(&a, n * sizeof(float)));
	CUDA(cudaMalloc(&b, n * sizeof(float)));
	for (int i = 0; i < n; i++) {
		host[i] = 1;
		out[i] = -1;
	}

	/* Two streams, joined by events: a = host, b = 0 + 3 in the side stream, a = (a + b) * 2. */
	CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
	CUDA(cudaStreamIsCapturing(stream, &status));
	ok(status == cudaStreamCaptureStatusActive, "the stream captures");
	CUDA(cudaStreamIsCapturing(side, &status));
	ok(status == cudaStreamCaptureStatusNone, "another one does not");
	CUDA(cudaMemcpyAsync(a, host, n * sizeof(float), cudaMemcpyHostToDevice, stream));
	CUDA(cudaEventRecord(fork, stream));
	CUDA(cudaStreamWaitEvent(side, fork, 0));
	CUDA(cudaStreamIsCapturing(side, &status));
	ok(status == cudaStreamCaptureStatusActive, "until it waits for the first");
	CUDA(cudaMemsetAsync(b, 0, n * sizeof(float), side));
	add<<<blocks, 256, 0, side>>>(b, a, n);
	scale<<<blocks, 256, 0, side>>>(b, 3, n);
	CUDA(cudaEventRecord(join, side));
	CUDA(cudaStreamWaitEvent(stream, join, 0));
	add<<<blocks, 256, 0, stream>>>(a, b, n);
	scale<<<blocks, 256, 0, stream>>>(a, 2, n);
	CUDA(cudaMemcpyAsync(out, a, n * sizeof(float), cudaMemcpyDeviceToHost, stream));
	CUDA(cudaStreamGetCaptureInfo(stream, &status, &id));
	ok(status == cudaStreamCaptureStatusActive && id, "a capture has a number: %llu", id);
	CUDA(cudaStreamEndCapture(stream, &graph));
	CUDA(cudaStreamIsCapturing(side, &status));
	ok(graph && status == cudaStreamCaptureStatusNone, "the capture has ended in both streams");
	CUDA(cudaGraphGetNodes(graph, NULL, &nodes));
	ok(nodes == 7, "a graph of %zu nodes", nodes);
	CUDA(cudaDeviceSynchronize());
	ok(all(out, n, -1), "nothing has been done so far");

	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaGraphLaunch(exec, stream));
	CUDA(cudaStreamSynchronize(stream));
	ok(all(out, n, 8), "a launch does it");
	for (int i = 0; i < n; i++)
		host[i] = 2;
	for (int i = 0; i < 20; i++)
		CUDA(cudaGraphLaunch(exec, side));
	CUDA(cudaStreamSynchronize(side));
	ok(all(out, n, 16), "and more launches, in another stream, with new input");

	/* The same with another factor, into the executable graph that there is. */
	cudaGraphExecUpdateResultInfo info;
	cudaGraph_t other;

	CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	CUDA(cudaMemcpyAsync(a, host, n * sizeof(float), cudaMemcpyHostToDevice, stream));
	CUDA(cudaMemsetAsync(b, 0, n * sizeof(float), stream));
	add<<<blocks, 256, 0, stream>>>(b, a, n);
	scale<<<blocks, 256, 0, stream>>>(b, 9, n);
	add<<<blocks, 256, 0, stream>>>(a, b, n);
	scale<<<blocks, 256, 0, stream>>>(a, 5, n);
	CUDA(cudaStreamEndCapture(stream, &other));
	ok(cudaGraphExecUpdate(exec, other, &info) == cudaErrorGraphExecUpdateFailure &&
	   info.result != cudaGraphExecUpdateSuccess, "an update to a graph of another form is refused");
	cudaGetLastError();
	CUDA(cudaGraphDestroy(other));
	CUDA(cudaGraphExecDestroy(exec));
	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaGraphDestroy(graph));
	CUDA(cudaGraphLaunch(exec, stream));
	CUDA(cudaStreamSynchronize(stream));
	ok(all(out, n, 16), "an executable graph outlives its graph");
	CUDA(cudaGraphExecDestroy(exec));

	/* A capturing stream must not be waited for. */
	CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
	add<<<blocks, 256, 0, stream>>>(a, b, n);
	GIVES(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported, "waiting for a stream that captures");
	GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated, "the capture is broken by it");
	cudaGetLastError();
	add<<<blocks, 256, 0, stream>>>(a, b, n);
	CUDA(cudaStreamSynchronize(stream));
	ok(true, "the stream works again");
	GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState, "an end without a beginning");
	cudaGetLastError();
	CUDA(cudaFreeHost(host));
	CUDA(cudaFreeHost(out));
	CUDA(cudaFree(a));
	CUDA(cudaFree(b));
	return tap_done();
}
