// SPDX-License-Identifier: Apache-2.0
// A client whose worker dies. Says "ready", waits for a line on stdin (by then its worker has been killed), and
// then every call must fail soon and none may hang.
//	orphan		the worker dies between two calls
//	orphan busy	the worker dies while the client waits inside cudaDeviceSynchronize()
#include <time.h>
#include <unistd.h>

#include "runtime.h"

#define LIMIT_S 10

__global__ void endless(volatile int *x)
{
	while (!*x)
		;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void expect_failure(const char *what, cudaError_t err, double since)
{
	double s = now() - since;

	ok(err != cudaSuccess && s < LIMIT_S, "%s fails within %d s: %s after %.2f s", what, LIMIT_S, cudaGetErrorName(err), s);
}

int main(int argc, char **argv)
{
	bool busy = argc > 1 && !strcmp(argv[1], "busy");
	char line[64];
	int value = 0, *x, *y;
	double start;

	show_device(busy ? "a worker that dies during a call" : "a worker that dies between calls");
	CUDA(cudaMalloc(&x, 4096));
	CUDA(cudaMemset(x, 0, 4096));
	CUDA(cudaDeviceSynchronize());
	if (busy)
		endless<<<1, 1>>>(x);
	printf("ready\n");
	fflush(stdout);
	if (busy) {
		/* The kernel never ends by itself: only the worker's death brings this call back. */
		cudaError_t err = cudaDeviceSynchronize();

		ok(err != cudaSuccess, "the call that was waiting comes back: %s", cudaGetErrorName(err));
	}
	if (!fgets(line, sizeof(line), stdin))
		bail("nobody said that the worker is dead");
	start = now();
	expect_failure("a copy", cudaMemcpy(&value, x, sizeof(value), cudaMemcpyDeviceToHost), start);
	start = now();
	expect_failure("an allocation", cudaMalloc(&y, 100), start);
	start = now();
	expect_failure("synchronisation", cudaDeviceSynchronize(), start);
	return tap_done();
}
