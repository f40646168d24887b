// SPDX-License-Identifier: Apache-2.0
// What one client leaves in GPU memory, the next must not be able to read.
//	residue leave [PERCENT]	fill most of the free memory with a pattern, of every kind of allocation, and just end
//	residue look [PERCENT]	allocate as much and look for the pattern; also says how much was not zero
#include <stdint.h>
#include <string.h>

#include "runtime.h"

#define PATTERN 0x7665727973656372ull
#define CHUNK (64ull << 20)

__global__ void fill(uint64_t *p, size_t n)
{
	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
		p[i] = PATTERN;
}

__global__ void look(const uint64_t *p, size_t n, unsigned long long *found, unsigned long long *other)
{
	unsigned long long f = 0, o = 0;

	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
		f += p[i] == PATTERN;
		o += p[i] != 0;
	}
	if (f)
		atomicAdd(found, f);
	if (o)
		atomicAdd(other, o);
}

/* Shared memory and registers of the next kernel: what the last block on this multiprocessor left there. */
__global__ void fill_shared(void)
{
	__shared__ volatile uint64_t s[4096];

	for (int i = threadIdx.x; i < 4096; i += blockDim.x)
		s[i] = PATTERN;
}

__global__ void look_shared(unsigned long long *found)
{
	__shared__ volatile uint64_t s[4096];

	for (int i = threadIdx.x; i < 4096; i += blockDim.x)
		if (s[i] == PATTERN)
			atomicAdd(found, 1ull);
}

int main(int argc, char **argv)
{
	bool leave = argc > 1 && !strcmp(argv[1], "leave");
	unsigned int percent = argc > 2 ? atoi(argv[2]) : 80;
	unsigned long long *counts, said[3] = {};
	size_t avail, total, taken = 0;

	if (!leave && (argc < 2 || strcmp(argv[1], "look"))) {
		fprintf(stderr, "usage: residue leave|look [PERCENT]\n");
		return 2;
	}
	CUDA(cudaMalloc(&counts, sizeof(said)));
	CUDA(cudaMemset(counts, 0, sizeof(said)));
	CUDA(cudaMemGetInfo(&avail, &total));
	for (unsigned int i = 0; taken + CHUNK <= avail / 100 * percent; i++) {
		uint64_t *p;
		cudaError_t e = i % 2 ? cudaMallocAsync(&p, CHUNK, 0) : cudaMalloc(&p, CHUNK);

		if (e == cudaErrorMemoryAllocation) {
			cudaGetLastError();
			break;
		}
		CUDA(e);
		taken += CHUNK;
		if (leave)
			fill<<<256, 256>>>(p, CHUNK / sizeof(*p));
		else
			look<<<256, 256>>>(p, CHUNK / sizeof(*p), &counts[0], &counts[1]);
	}
	if (leave)
		fill_shared<<<1024, 256>>>();
	else
		look_shared<<<1024, 256>>>(&counts[2]);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(said, counts, sizeof(said), cudaMemcpyDeviceToHost));
	if (leave) {
		ok(taken > 0, "left a pattern in %zu MiB", taken >> 20);
	} else {
		ok(taken > 0, "looked at %zu MiB", taken >> 20);
		ok(!said[0], "words of another client's in them: %llu", said[0]);
		printf("# words that were not zero: %llu\n", said[1]);
		ok(!said[2], "words of another client's in shared memory: %llu", said[2]);
	}
	return tap_done();
}
