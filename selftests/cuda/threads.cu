// SPDX-License-Identifier: Apache-2.0
// Host threads, each with a stream and memory of its own. Argument: how many (4).
#include <pthread.h>

#include "runtime.h"

#define N 2048
#define ROUNDS 20
#define THREADS_MAX 64

__global__ void step(unsigned int *x, unsigned int factor, unsigned int term)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	x[i] = x[i] * factor + term;
}

struct job {
	pthread_t thread;
	unsigned int number;
	int wrong;
};

static void *run(void *arg)
{
	struct job *job = (struct job *)arg;
	unsigned int host[N], *device;
	cudaStream_t stream;

	CUDA(cudaStreamCreate(&stream));
	for (int r = 0; r < ROUNDS; r++) {
		unsigned int seed = job->number * 1000 + r;

		CUDA(cudaMalloc(&device, sizeof(host)));
		for (int i = 0; i < N; i++)
			host[i] = seed + i;
		CUDA(cudaMemcpyAsync(device, host, sizeof(host), cudaMemcpyHostToDevice, stream));
		for (unsigned int k = 0; k < 4; k++)
			step<<<N / 128, 128, 0, stream>>>(device, 2 * job->number + 3, k);
		CUDA(cudaGetLastError());
		CUDA(cudaMemcpyAsync(host, device, sizeof(host), cudaMemcpyDeviceToHost, stream));
		CUDA(cudaStreamSynchronize(stream));
		CUDA(cudaFree(device));
		for (int i = 0; i < N; i++) {
			unsigned int want = seed + i;

			for (unsigned int k = 0; k < 4; k++)
				want = want * (2 * job->number + 3) + k;
			job->wrong += host[i] != want;
		}
	}
	CUDA(cudaStreamDestroy(stream));
	return NULL;
}

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	static struct job jobs[THREADS_MAX];

	if (n > THREADS_MAX)
		bail("at most %d threads", THREADS_MAX);
	show_device("host threads");
	for (long i = 0; i < n; i++) {
		jobs[i].number = (unsigned int)i;
		if (pthread_create(&jobs[i].thread, NULL, run, &jobs[i]))
			bail("cannot start thread %ld", i);
	}
	for (long i = 0; i < n; i++) {
		pthread_join(jobs[i].thread, NULL);
		ok(!jobs[i].wrong, "thread %ld: %d rounds in its own stream, %d wrong", i, ROUNDS, jobs[i].wrong);
	}
	return tap_done();
}
