// SPDX-License-Identifier: Apache-2.0
// Errors as CUDA gives them; after each the program goes on working. The last one is an illegal address, which
// breaks the context for good. Argument "mild": leave that one out.
#include "runtime.h"

__global__ void step(int *x)
{
	x[threadIdx.x] += 1;
}

__global__ void wild(int *x)
{
	*x = 1;
}

static int *counter, steps;

/* The proof that an error has not broken anything. */
static void goes_on(const char *after)
{
	int value = -1;

	steps++;
	step<<<1, 1>>>(counter);
	cudaError_t err = cudaGetLastError();
	if (!err)
		err = cudaMemcpy(&value, counter, sizeof(value), cudaMemcpyDeviceToHost);
	ok(!err && value == steps, "goes on after %s%s%s", after, err ? ": " : "", err ? cudaGetErrorName(err) : "");
	(void)cudaGetLastError();
}

static void launches(void)
{
	step<<<1, 2048>>>(counter);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "2048 threads in a block, at once");
	step<<<0, 32>>>(counter);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "no blocks, at once");
	step<<<1, 0>>>(counter);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "no threads, at once");
	step<<<dim3(1, 70000), 32>>>(counter);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "70000 blocks in y, at once");
	step<<<1, dim3(1, 1, 65)>>>(counter);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "65 threads in z, at once");
	step<<<1, 1, 1 << 24>>>(counter);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "16 MiB of shared memory, at once");
	goes_on("bad launch configurations");
}

static void memory(void)
{
	size_t before, left, total, unit = 2 << 20;
	void *most, *rest, *last;

	CUDA(cudaMemGetInfo(&before, &total));
	GIVES(cudaMalloc(&most, before + 1), cudaErrorMemoryAllocation, "one byte more than is free");
	(void)cudaGetLastError();
	GIVES(cudaMalloc(&most, total + (1ull << 40)), cudaErrorMemoryAllocation, "a TiB more than there is");
	(void)cudaGetLastError();
	goes_on("being refused memory");

	/* Whole units, as GPUs hand memory out. */
	size_t keep = on_driver() ? 64 : 8;	/* a whole GPU's page tables are in it, too */
	size_t whole = (before / unit - keep) * unit;
	GIVES(cudaMalloc(&most, whole), cudaSuccess, "all but a few units at once");
	CUDA(cudaMemGetInfo(&left, &total));
	ok(left == before - whole || on_driver(), "what is free is what was left: %zu MiB", left >> 20);
	/* Exactly that is what a quota promises; a whole GPU keeps some for itself. */
	if (!on_driver()) {
		GIVES(cudaMalloc(&rest, left / unit * unit), cudaSuccess, "exactly what is left");
		GIVES(cudaMalloc(&last, unit), cudaErrorMemoryAllocation, "a unit more");
		(void)cudaGetLastError();
		goes_on("using everything up");
		CUDA(cudaFree(rest));
	}
	GIVES(cudaMalloc(&last, unit), cudaSuccess, "a unit after something was freed");
	CUDA(cudaFree(last));
	CUDA(cudaFree(most));
	CUDA(cudaMemGetInfo(&left, &total));
	ok(left == before || on_driver(), "everything freed is free again: %zu of %zu bytes", left, before);
}

static void pointers(void)
{
	char host[64] = "x";
	char *p;

	CUDA(cudaMalloc(&p, 1 << 20));
	GIVES(cudaFree((void *)0x123456789000ull), cudaErrorInvalidValue, "free of an address that is nobody's");
	GIVES(cudaFree(host), cudaErrorInvalidValue, "free of host memory");
	GIVES(cudaFree(p + 4096), cudaErrorInvalidValue, "free of the middle");
	GIVES(cudaFree(NULL), cudaSuccess, "free of nothing");
	GIVES(cudaFree(p), cudaSuccess, "free");
	GIVES(cudaFree(p), cudaErrorInvalidValue, "free a second time");
	(void)cudaGetLastError();
	goes_on("bad frees");
	GIVES(cudaMemcpy((void *)0x123456789000ull, host, 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue,
	      "copy in to a wild address");
	GIVES(cudaMemcpy(host, (void *)0x123456789000ull, 64, cudaMemcpyDeviceToHost), cudaErrorInvalidValue,
	      "copy out from a wild address");
	GIVES(cudaMemcpy(host, p, 64, cudaMemcpyDeviceToHost), cudaErrorInvalidValue, "copy out from freed memory");
	GIVES(cudaMemset((void *)0x123456789000ull, 0, 64), cudaErrorInvalidValue, "memset of a wild address");
	CUDA(cudaMalloc(&p, 1000));
	GIVES(cudaMemcpy(p, p, 8ull << 30, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue, "copy past the end");
	GIVES(cudaMemset(p, 0, 8ull << 30), cudaErrorInvalidValue, "memset past the end");
	CUDA(cudaFree(p));
	(void)cudaGetLastError();
	goes_on("wild copies");
}

static void names(void)
{
	int value;

	GIVES(cudaSetDevice(99), cudaErrorInvalidDevice, "an unknown device");
	GIVES(cudaSetDevice(-1), cudaErrorInvalidDevice, "a negative device");
	GIVES(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 77), cudaErrorInvalidDevice, "attribute of an unknown device");
	(void)cudaGetLastError();
	ok(!strcmp(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation") &&
	   strstr(cudaGetErrorString(cudaErrorMemoryAllocation), "memory"), "errors have names and texts");
	goes_on("unknown devices");
}

int main(int argc, char **argv)
{
	int value = 0;
	void *p;

	show_device("errors");
	CUDA(cudaMalloc(&counter, 4096));
	CUDA(cudaMemset(counter, 0, 4096));
	goes_on("nothing at all");
	launches();
	memory();
	pointers();
	names();
	if (argc > 1 && !strcmp(argv[1], "mild"))
		return tap_done();

	wild<<<1, 1>>>((int *)0x123456789000ull);
	GIVES(cudaGetLastError(), cudaSuccess, "the launch itself");
	GIVES(cudaDeviceSynchronize(), cudaErrorIllegalAddress, "a kernel that writes to a wild address");
	GIVES(cudaMalloc(&p, 100), cudaErrorIllegalAddress, "the next call");
	GIVES(cudaMemcpy(&value, counter, sizeof(value), cudaMemcpyDeviceToHost), cudaErrorIllegalAddress,
	      "and the one after that");
	return tap_done();
}
