// SPDX-License-Identifier: Apache-2.0
// A client that always has work: launches kernels of about a millisecond, two ahead, for so many seconds, and says how many
// were done. Two of them side by side show how a GPU is shared.
//	share SECONDS [ROUNDS]		of such a size; found out if it is not given, which wants the GPU for itself
#include <time.h>

#include "runtime.h"

__global__ void work(float *p, int rounds)
{
	float x = p[blockIdx.x * blockDim.x + threadIdx.x];

	for (int i = 0; i < rounds; i++)
		x = x * 1.0000001f + 1e-7f;
	p[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 2, start;
	int blocks, rounds = argc > 2 ? atoi(argv[2]) : 64, done_ = 0, n = 0;
	cudaEvent_t ahead[2];
	float *p;

	CUDA(cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, 0));
	CUDA(cudaMalloc(&p, (size_t)blocks * 1024 * sizeof(*p)));
	CUDA(cudaMemset(p, 0, (size_t)blocks * 1024 * sizeof(*p)));
	for (int i = 0; i < 2; i++)
		CUDA(cudaEventCreateWithFlags(&ahead[i], cudaEventDisableTiming));
	/* The first launch loads the kernel. */
	work<<<blocks, 1024>>>(p, rounds);
	CUDA(cudaDeviceSynchronize());
	/* As many rounds as take a millisecond here. */
	for (; argc < 3; rounds *= 2) {
		start = now();
		work<<<blocks, 1024>>>(p, rounds);
		CUDA(cudaDeviceSynchronize());
		if (now() - start > 1e-3)
			break;
	}
	printf("ready\n");
	fflush(stdout);
	start = now();
	while (now() - start < seconds) {
		if (n >= 2) {
			CUDA(cudaEventSynchronize(ahead[n % 2]));
			done_++;
		}
		work<<<blocks, 1024>>>(p, rounds);
		CUDA(cudaEventRecord(ahead[n++ % 2]));
	}
	CUDA(cudaDeviceSynchronize());
	ok(done_ > 0, "kernels of %d rounds a second: %.1f", rounds, done_ / seconds);
	return tap_done();
}
