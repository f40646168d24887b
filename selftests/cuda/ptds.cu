// SPDX-License-Identifier: Apache-2.0
// Compiled with --default-stream per-thread: every thread's stream 0 is its own.
#include <pthread.h>

#include "runtime.h"

#define N 1024

__global__ void step(unsigned int *x, unsigned int factor, unsigned int term)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	x[i] = x[i] * factor + term;
}

static int wrong[4];

static void *run(void *arg)
{
	long me = (long)arg;
	unsigned int host[N], *device;

	CUDA(cudaMalloc(&device, sizeof(host)));
	for (int r = 0; r < 10; r++) {
		for (int i = 0; i < N; i++)
			host[i] = (unsigned int)(me * 7 + i);
		CUDA(cudaMemcpyAsync(device, host, sizeof(host), cudaMemcpyHostToDevice, 0));
		step<<<N / 128, 128>>>(device, 3, 1);
		step<<<N / 128, 128, 0, cudaStreamPerThread>>>(device, 5, (unsigned int)me);
		CUDA(cudaMemcpy(host, device, sizeof(host), cudaMemcpyDeviceToHost));
		for (int i = 0; i < N; i++)
			wrong[me] += host[i] != ((unsigned int)(me * 7 + i) * 3 + 1) * 5 + (unsigned int)me;
	}
	CUDA(cudaStreamSynchronize(0));
	CUDA(cudaFree(device));
	return NULL;
}

int main(void)
{
	pthread_t threads[4];
	unsigned int value = 1, *x;

	show_device("per-thread default streams");
	for (long i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, run, (void *)i))
			bail("cannot start a thread");
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		ok(!wrong[i], "thread %d in its default stream, %d wrong", i, wrong[i]);
	}
	/* The legacy stream can still be named, and waits for this one. */
	CUDA(cudaMalloc(&x, sizeof(*x)));
	CUDA(cudaMemcpy(x, &value, sizeof(value), cudaMemcpyHostToDevice));
	step<<<1, 1>>>(x, 10, 1);
	step<<<1, 1, 0, cudaStreamLegacy>>>(x, 10, 2);
	CUDA(cudaStreamSynchronize(cudaStreamLegacy));
	CUDA(cudaMemcpy(&value, x, sizeof(value), cudaMemcpyDeviceToHost));
	ok(value == 112, "legacy and per-thread default stream keep order: %u", value);
	CUDA(cudaFree(x));
	return tap_done();
}
