// SPDX-License-Identifier: Apache-2.0
// c = a + b, every element checked.
#include "runtime.h"

__global__ void add(const float *a, const float *b, float *c, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		c[i] = a[i] + b[i];
}

int main(int argc, char **argv)
{
	int n = (int)size_arg(argc, argv, 50000), wrong = 0;
	size_t bytes = n * sizeof(float);
	float *a = (float *)malloc(bytes), *b = (float *)malloc(bytes), *c = (float *)malloc(bytes);
	float *da, *db, *dc;
	unsigned int seed = 1;

	show_device("vector add");
	for (int i = 0; i < n; i++) {
		a[i] = (float)(noise(&seed) & 0xffff) / 16;
		b[i] = (float)(noise(&seed) & 0xffff) / 8;
		c[i] = -1;
	}
	CUDA(cudaMalloc(&da, bytes));
	CUDA(cudaMalloc(&db, bytes));
	CUDA(cudaMalloc(&dc, bytes));
	CUDA(cudaMemcpy(da, a, bytes, cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy(db, b, bytes, cudaMemcpyHostToDevice));
	add<<<(n + 255) / 256, 256>>>(da, db, dc, n);
	CUDA(cudaGetLastError());
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaMemcpy(c, dc, bytes, cudaMemcpyDeviceToHost));
	for (int i = 0; i < n; i++)
		wrong += c[i] != a[i] + b[i];
	ok(!wrong, "vector add of %d elements, %d wrong", n, wrong);

	/* Unified addressing tells the direction by itself. */
	memset(c, 0, bytes);
	CUDA(cudaMemcpy(c, da, bytes, cudaMemcpyDefault));
	ok(!memcmp(a, c, bytes), "what was copied in comes out unchanged");
	CUDA(cudaFree(da));
	CUDA(cudaFree(db));
	CUDA(cudaFree(dc));
	free(a);
	free(b);
	free(c);
	return tap_done();
}
