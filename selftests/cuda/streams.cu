// SPDX-License-Identifier: Apache-2.0
// Two streams with events: order within a stream, order between streams, queries, elapsed time.
#include "runtime.h"

__global__ void step(unsigned int *x, int n, unsigned int factor, unsigned int term)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		x[i] = x[i] * factor + term;
}

__global__ void spin(unsigned int *x, int rounds)
{
	unsigned int v = *x;

	for (int i = 0; i < rounds; i++)
		v = v * 1664525u + 1013904223u;
	*x = v;
}

int main(int argc, char **argv)
{
	int n = (int)size_arg(argc, argv, 4096), wrong = 0, low, high, rounds = 12;
	size_t bytes = n * sizeof(unsigned int);
	cudaEvent_t begin, end, done_a, done_b;
	cudaStream_t a, b, c, urgent;
	unsigned int *host, *device, *other, *slow, want = 0;
	float ms = -1;

	show_device("streams and events");
	CUDA(cudaStreamCreate(&a));
	CUDA(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
	CUDA(cudaDeviceGetStreamPriorityRange(&low, &high));
	CUDA(cudaStreamCreateWithPriority(&urgent, cudaStreamNonBlocking, high));
	CUDA(cudaEventCreate(&begin));
	CUDA(cudaEventCreate(&end));
	CUDA(cudaEventCreateWithFlags(&done_a, cudaEventDisableTiming));
	CUDA(cudaEventCreateWithFlags(&done_b, cudaEventDisableTiming));
	CUDA(cudaHostAlloc(&host, bytes, cudaHostAllocDefault));
	CUDA(cudaMalloc(&device, bytes));
	CUDA(cudaMalloc(&other, bytes));
	CUDA(cudaMalloc(&slow, sizeof(*slow)));
	CUDA(cudaMemset(slow, 0, sizeof(*slow)));

	for (int i = 0; i < n; i++)
		host[i] = (unsigned int)i;
	CUDA(cudaEventRecord(begin, a));
	CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, a));
	for (int r = 0; r < rounds; r++) {
		/* Multiplication and addition do not commute: a step out of order shows. */
		step<<<(n + 127) / 128, 128, 0, a>>>(device, n, 3, (unsigned int)r);
		CUDA(cudaEventRecord(done_a, a));
		CUDA(cudaStreamWaitEvent(b, done_a, 0));
		step<<<(n + 127) / 128, 128, 0, b>>>(device, n, 5, 1);
		CUDA(cudaEventRecord(done_b, b));
		CUDA(cudaStreamWaitEvent(a, done_b, 0));
	}
	CUDA(cudaMemcpyAsync(other, device, bytes, cudaMemcpyDeviceToDevice, a));
	memset(host, 0, bytes);
	CUDA(cudaMemcpyAsync(host, other, bytes, cudaMemcpyDeviceToHost, a));
	CUDA(cudaEventRecord(end, a));
	CUDA(cudaEventSynchronize(end));
	for (int i = 0; i < n; i++) {
		want = (unsigned int)i;
		for (int r = 0; r < rounds; r++)
			want = (want * 3 + (unsigned int)r) * 5 + 1;
		wrong += host[i] != want;
	}
	ok(!wrong, "%d steps that alternate between two streams, %d of %d wrong", 2 * rounds, wrong, n);
	CUDA(cudaEventElapsedTime(&ms, begin, end));
	ok(ms > 0 && ms < 600000, "%.3f ms elapsed between the two events", ms);
	ok(cudaEventQuery(end) == cudaSuccess && cudaStreamQuery(a) == cudaSuccess, "event and stream are done");
	GIVES(cudaEventElapsedTime(&ms, done_a, done_b), cudaErrorInvalidResourceHandle, "elapsed time of events without timing");

	/* A stream that is busy says so; waiting for another stream does not wait for it. */
	CUDA(cudaStreamCreateWithFlags(&c, cudaStreamNonBlocking));
	spin<<<1, 1, 0, c>>>(slow, 50000);
	CUDA(cudaEventRecord(done_a, c));
	step<<<1, 32, 0, urgent>>>(device, 32, 1, 1);
	CUDA(cudaStreamSynchronize(urgent));
	cudaError_t busy = cudaStreamQuery(c);
	ok(busy == cudaErrorNotReady || busy == cudaSuccess, "a query does not wait (%s)", cudaGetErrorName(busy));
	CUDA(cudaStreamSynchronize(c));
	GIVES(cudaEventQuery(done_a), cudaSuccess, "after synchronising the stream its event is done");
	(void)cudaGetLastError();

	/* The legacy default stream comes after blocking streams, and they after it. */
	CUDA(cudaMemsetAsync(device, 0, bytes, a));
	step<<<(n + 127) / 128, 128>>>(device, n, 1, 7);
	step<<<(n + 127) / 128, 128, 0, a>>>(device, n, 2, 1);
	CUDA(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
	wrong = 0;
	for (int i = 0; i < n; i++)
		wrong += host[i] != 15;
	ok(!wrong, "the default stream keeps order with a blocking stream, %d wrong", wrong);

	CUDA(cudaStreamDestroy(a));
	CUDA(cudaStreamDestroy(b));
	CUDA(cudaStreamDestroy(c));
	CUDA(cudaStreamDestroy(urgent));
	CUDA(cudaEventDestroy(begin));
	CUDA(cudaEventDestroy(end));
	CUDA(cudaEventDestroy(done_a));
	CUDA(cudaEventDestroy(done_b));
	CUDA(cudaFreeHost(host));
	CUDA(cudaFree(device));
	CUDA(cudaFree(other));
	CUDA(cudaFree(slow));
	return tap_done();
}
