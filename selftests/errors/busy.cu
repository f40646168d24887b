// SPDX-License-Identifier: Apache-2.0
// Copies and launches without an end, for tests that kill something meanwhile. Says "ready" after the first round.
// Every result is checked: a neighbour's death must not disturb it.
//	busy [SECONDS]		0, the default: until killed
#include <time.h>

#include "runtime.h"

#define N (1 << 19)

__global__ void increment(unsigned int *x)
{
	x[blockIdx.x * blockDim.x + threadIdx.x]++;
}

int main(int argc, char **argv)
{
	unsigned int *host, *pinned, *device, rounds = 0, wrong = 0;
	time_t end = argc > 1 && atoi(argv[1]) ? time(NULL) + atoi(argv[1]) : 0;

	host = (unsigned int *)malloc(N * sizeof(*host));
	show_device("copies without an end");
	CUDA(cudaMallocHost(&pinned, N * sizeof(*pinned)));
	CUDA(cudaMalloc(&device, N * sizeof(*device)));
	do {
		for (unsigned int i = 0; i < N; i++)
			host[i] = i + rounds;
		CUDA(cudaMemcpy(device, host, N * sizeof(*host), cudaMemcpyHostToDevice));
		increment<<<16, 256>>>(device);
		CUDA(cudaGetLastError());
		CUDA(cudaMemcpyAsync(pinned, device, N * sizeof(*host), cudaMemcpyDeviceToHost));
		CUDA(cudaDeviceSynchronize());
		for (unsigned int i = 0; i < N; i++)
			wrong += pinned[i] != i + rounds + (i < 16 * 256);
		if (!rounds++) {
			printf("ready\n");
			fflush(stdout);
		}
	} while (!end || time(NULL) < end);
	ok(!wrong, "%u rounds, %u wrong", rounds, wrong);
	return tap_done();
}
