// SPDX-License-Identifier: Apache-2.0
// 256 bins: shared-memory atomics in the block, global atomics between blocks.
#include "runtime.h"

__global__ void histogram(const unsigned char *in, int n, unsigned int *bins)
{
	__shared__ unsigned int mine[256];

	mine[threadIdx.x] = 0;
	__syncthreads();
	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
		atomicAdd(&mine[in[i]], 1);
	__syncthreads();
	if (mine[threadIdx.x])
		atomicAdd(&bins[threadIdx.x], mine[threadIdx.x]);
}

__global__ void cas_max(const unsigned char *in, int n, unsigned int *out)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	unsigned int v = i < n ? in[i] * 3u : 0, old = *out, seen;

	/* atomicMax by hand: compare and swap until nobody came between. */
	while (old < v) {
		seen = atomicCAS(out, old, v);
		if (seen == old)
			break;
		old = seen;
	}
}

int main(int argc, char **argv)
{
	int n = (int)size_arg(argc, argv, 100000), wrong = 0;
	unsigned char *in = (unsigned char *)malloc(n), *din;
	unsigned int want[256] = { 0 }, got[256], *dbins, *dmax, most = 0, got_most, seed = 4;

	show_device("histogram");
	for (int i = 0; i < n; i++) {
		/* Uneven on purpose: some bins are fought for. */
		in[i] = (unsigned char)((noise(&seed) & 0xff) & (noise(&seed) & 0xff));
		want[in[i]]++;
		most = in[i] * 3u > most ? in[i] * 3u : most;
	}
	CUDA(cudaMalloc(&din, n));
	CUDA(cudaMalloc(&dbins, sizeof(want)));
	CUDA(cudaMalloc(&dmax, sizeof(*dmax)));
	CUDA(cudaMemcpy(din, in, n, cudaMemcpyHostToDevice));
	CUDA(cudaMemset(dbins, 0, sizeof(want)));
	CUDA(cudaMemset(dmax, 0, sizeof(*dmax)));
	histogram<<<24, 256>>>(din, n, dbins);
	CUDA(cudaGetLastError());
	cas_max<<<(n + 255) / 256, 256>>>(din, n, dmax);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(got, dbins, sizeof(got), cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(&got_most, dmax, sizeof(got_most), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 256; i++)
		wrong += got[i] != want[i];
	ok(!wrong, "histogram of %d bytes, %d bins wrong", n, wrong);
	ok(got_most == most, "compare and swap: maximum %u, expected %u", got_most, most);
	CUDA(cudaFree(din));
	CUDA(cudaFree(dbins));
	CUDA(cudaFree(dmax));
	return tap_done();
}
