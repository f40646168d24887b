// SPDX-License-Identifier: Apache-2.0
// printf and assert in kernels: the text arrives at the client's own stdout and stderr.
#include <assert.h>

#include "capture.h"
#include "runtime.h"

__global__ void hello(int base)
{
	printf("block %d thread %d of %s: %5.2f %#x %c %llu\n", blockIdx.x, threadIdx.x, "hello", threadIdx.x * 1.5,
	       base + threadIdx.x, 'a' + threadIdx.x, 1ull << 40);
}

__global__ void checked(const int *x)
{
	assert(x[threadIdx.x] != 3);
}

/* Waiting for an event brings what was printed, also one that is known to be complete: others were asked about, too. */
static void by_event(size_t want)
{
	cudaEvent_t e;
	char text[8192];

	CUDA(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
	for (int i = 0; i < 3; i++) {
		capture_begin();
		hello<<<1, 2>>>(256);
		CUDA(cudaEventRecord(e));
		while (i && cudaEventQuery(e) == cudaErrorNotReady)
			;
		cudaError_t err = cudaEventSynchronize(e);
		size_t n = capture_end(text, sizeof(text));
		ok(err == cudaSuccess && n == want, "waiting for an event brings what was printed%s: %zu of %zu bytes",
		   i ? ", when it has been seen complete" : "", n, want);
	}
	CUDA(cudaEventDestroy(e));
}

int main(void)
{
	char text[8192], line[256];
	int missing = 0, x[8] = { 0, 1, 2, 4, 5, 6, 7, 8 }, *dx;

	show_device("printf and assert");
	CUDA(cudaMalloc(&dx, sizeof(x)));
	CUDA(cudaMemcpy(dx, x, sizeof(x), cudaMemcpyHostToDevice));

	capture_begin();
	hello<<<2, 4>>>(256);
	cudaError_t err = cudaDeviceSynchronize();
	size_t n = capture_end(text, sizeof(text));
	ok(err == cudaSuccess, "a kernel that prints: %s", cudaGetErrorName(err));
	size_t want = 0;
	for (int b = 0; b < 2; b++) {
		for (int t = 0; t < 4; t++) {
			want += snprintf(line, sizeof(line), "block %d thread %d of hello: %5.2f %#x %c %llu\n", b, t,
					 t * 1.5, 256 + t, 'a' + t, 1ull << 40);
			missing += !strstr(text, line);
		}
	}
	ok(!missing && n == want, "all 8 lines arrived by the time of the synchronisation (%d missing, %zu of %zu bytes)",
	   missing, n, want);
	if (missing)
		printf("# got: %.2000s\n", text);

	checked<<<1, 8>>>(dx);
	GIVES(cudaDeviceSynchronize(), cudaSuccess, "an assertion that holds");
	by_event(want / 4);

	capture_begin();
	hello<<<1, 2>>>(256);
	err = cudaDeviceReset();
	n = capture_end(text, sizeof(text));
	ok(err == cudaSuccess && n == want / 4 && !strncmp(text, "block 0 thread 0", 16),
	   "what was printed last arrives when the device is reset: %zu bytes", n);

	CUDA(cudaMalloc(&dx, sizeof(x)));
	x[5] = 3;
	CUDA(cudaMemcpy(dx, x, sizeof(x), cudaMemcpyHostToDevice));
	capture_begin();
	checked<<<1, 8>>>(dx);
	err = cudaDeviceSynchronize();
	capture_end(text, sizeof(text));
	ok(err == cudaErrorAssert, "an assertion that fails: %s", cudaGetErrorName(err));
	ok(strstr(text, "Assertion `x[threadIdx.x] != 3` failed") && strstr(text, "thread: [5,0,0]"),
	   "its message names condition and thread");
	if (!strstr(text, "Assertion"))
		printf("# got: %.500s\n", text);
	GIVES(cudaMemcpy(x, dx, sizeof(x), cudaMemcpyDeviceToHost), cudaErrorAssert, "the context stays broken");
	return tap_done();
}
