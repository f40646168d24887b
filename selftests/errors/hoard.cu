// SPDX-License-Identifier: Apache-2.0
// A client that takes as much of the driver domain as it is given. Says "ready" when it has what it wants, or gets no more.
//	hoard streams N [SECONDS]	N streams with work in each: threads of the worker, with the software GPU
//	hoard events N [SECONDS]	N events: memory of the worker
// It then works on for as long, with what it has. A refusal is no failure; a wrong result is.
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"

__global__ void add(unsigned int *x)
{
	atomicAdd(x, 1);
}

int main(int argc, char **argv)
{
	bool streams = argc > 2 && !strcmp(argv[1], "streams");
	unsigned int wanted = argc > 2 ? atoi(argv[2]) : 0, n, sum = 0, *x;
	time_t end;
	cudaError_t err = cudaSuccess;

	show_device("a client that wants much");
	CUDA(cudaMalloc(&x, sizeof(*x)));
	CUDA(cudaMemset(x, 0, sizeof(*x)));
	CUDA(cudaDeviceSynchronize());
	for (n = 0; n < wanted && !err; n += !err) {
		cudaStream_t s;
		cudaEvent_t e;

		err = streams ? cudaStreamCreate(&s) : cudaEventCreate(&e);
		if (err || !streams)
			continue;
		add<<<1, 1, 0, s>>>(x);
		err = cudaGetLastError();
	}
	printf("# %u %s: %s\n", n, streams ? "streams" : "events", cudaGetErrorName(err));
	printf("ready\n");
	fflush(stdout);
	err = cudaDeviceSynchronize();
	for (end = time(NULL) + (argc > 3 ? atoi(argv[3]) : 0); time(NULL) < end && !err; usleep(100000))
		err = cudaDeviceSynchronize();
	if (!err)
		err = cudaMemcpy(&sum, x, sizeof(sum), cudaMemcpyDeviceToHost);
	ok(!err && sum == (streams ? n : 0), "what it was given works: %s, %u", cudaGetErrorName(err), sum);
	return tap_done();
}
