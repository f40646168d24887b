// SPDX-License-Identifier: Apache-2.0
// cudaDeviceReset: what there was is gone, and everything can begin anew, kernels that were launched before included.
#include "runtime.h"

#define N 1024

__device__ unsigned int counter = 5;

__global__ void add(unsigned int *x, unsigned int by)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	x[i] += by;
	if (!i)
		counter += by;
}

/* A round of work: whether it came out right, and the counter with it. */
static bool round_of(unsigned int by, cudaStream_t stream, unsigned int *count)
{
	unsigned int host[N], *x, wrong = 0;

	CUDA(cudaMalloc(&x, sizeof(host)));
	CUDA(cudaMemset(x, 0, sizeof(host)));
	CUDA(cudaDeviceSynchronize());
	add<<<N / 128, 128, 0, stream>>>(x, by);
	CUDA(cudaGetLastError());
	CUDA(cudaStreamSynchronize(stream));
	CUDA(cudaMemcpy(host, x, sizeof(host), cudaMemcpyDeviceToHost));
	for (int i = 0; i < N; i++)
		wrong += host[i] != by;
	CUDA(cudaMemcpyFromSymbol(count, counter, sizeof(*count)));
	return !wrong;	/* and x is left to the reset */
}

int main(void)
{
	size_t before, after, total;
	cudaStream_t stream;
	unsigned int count;
	cudaEvent_t event;
	int active;

	show_device("resetting the device");
	before = 0;
	for (unsigned int r = 1; r <= 5; r++) {
		CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
		CUDA(cudaEventCreate(&event));
		CUDA(cudaEventRecord(event, stream));
		ok(round_of(r, stream, &count) && count == 5 + r, "round %u, and its variable begins anew: %u", r, count);
		CUDA(cudaEventQuery(event));
		GIVES(cudaDeviceReset(), cudaSuccess, "reset");
		/* What the program's own code takes is taken from the first round on. */
		if (r == 1)
			CUDA(cudaMemGetInfo(&before, &total));
	}
	CUDA(cudaGetDevice(&active));
	CUDA(cudaFree(0));
	/* The driver itself follows such a handle, to where something else may be by now. */
	if (!native("handles of before")) {
		ok(cudaEventQuery(event) != cudaSuccess, "an event of before is none");
		ok(cudaStreamSynchronize(stream) != cudaSuccess, "nor is a stream");
		(void)cudaGetLastError();
	}
	CUDA(cudaMemGetInfo(&after, &total));
	ok(after + N * sizeof(count) > before, "all memory is back: %zu of %zu bytes", after, before);
	ok(round_of(9, 0, &count) && count == 14, "and the program goes on");
	return tap_done();
}
