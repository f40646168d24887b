// SPDX-License-Identifier: Apache-2.0
/* Variables and memory that host and device share by one address. */
#include "runtime.h"

__managed__ int counter = 41;
__managed__ double table[1000];
__managed__ int *linked;
__device__ int plain;

__global__ void step(int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		table[i] = table[i] * 2 + 1;
	if (i == 0) {
		counter++;
		if (linked)
			*linked = counter;
	}
}

int main(void)
{
	cudaPointerAttributes attributes;
	cudaStream_t stream;
	int *shared, wrong = 0, n = 1000;

	ok(counter == 41, "a managed variable has its first value: %d", counter);
	counter = 99;
	for (int i = 0; i < n; i++)
		table[i] = i;
	step<<<4, 256>>>(n);
	CUDA(cudaDeviceSynchronize());
	for (int i = 0; i < n; i++)
		wrong += table[i] != i * 2.0 + 1;
	ok(counter == 100 && !wrong, "kernel and program see each other's values: %d, %d wrong", counter, wrong);

	CUDA(cudaMallocManaged(&shared, sizeof(int)));
	linked = shared;
	counter += 5;
	CUDA(cudaStreamCreate(&stream));
	step<<<4, 256, 0, stream>>>(n);
	step<<<4, 256, 0, stream>>>(n);
	CUDA(cudaStreamSynchronize(stream));
	ok(*shared == 107 && counter == 107, "an address in a managed variable: %d, %d", *shared, counter);
	wrong = 0;
	for (int i = 0; i < n; i++)
		wrong += table[i] != ((i * 2.0 + 1) * 2 + 1) * 2 + 1;
	ok(!wrong, "after three steps: %d wrong", wrong);

	CUDA(cudaPointerGetAttributes(&attributes, table));
	ok(attributes.type == cudaMemoryTypeManaged, "a managed variable is called managed memory");
	CUDA(cudaMemset(table, 0, sizeof(table)));
	CUDA(cudaDeviceSynchronize());
	ok(table[0] == 0 && table[999] == 0, "cudaMemset of a managed variable");
	table[7] = 7;
	CUDA(cudaMemcpyToSymbol(plain, &counter, sizeof(counter)));
	n = 0;
	CUDA(cudaMemcpyFromSymbol(&n, plain, sizeof(n)));
	ok(n == 107 && table[7] == 7, "what the program wrote stays when it waits for something else");
	CUDA(cudaFree(shared));
	CUDA(cudaStreamDestroy(stream));
	return tap_done();
}
