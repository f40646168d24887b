// SPDX-License-Identifier: Apache-2.0
// Tiled matrix product in shared memory; sizes that are no multiple of the tile.
#include <math.h>

#include "runtime.h"

#define TILE 16

__global__ void matmul(const float *a, const float *b, float *c, int m, int n, int k)
{
	__shared__ float sa[TILE][TILE], sb[TILE][TILE];
	int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
	float sum = 0;

	for (int t = 0; t < (k + TILE - 1) / TILE; t++) {
		int ka = t * TILE + threadIdx.x, kb = t * TILE + threadIdx.y;

		sa[threadIdx.y][threadIdx.x] = row < m && ka < k ? a[row * k + ka] : 0;
		sb[threadIdx.y][threadIdx.x] = kb < k && col < n ? b[kb * n + col] : 0;
		__syncthreads();
		for (int i = 0; i < TILE; i++)
			sum += sa[threadIdx.y][i] * sb[i][threadIdx.x];
		__syncthreads();
	}
	if (row < m && col < n)
		c[row * n + col] = sum;
}

int main(int argc, char **argv)
{
	int k = (int)size_arg(argc, argv, 90), m = k - k / 5 + 1, n = k + 7, wrong = 0;
	float *a = (float *)malloc(sizeof(float) * m * k), *b = (float *)malloc(sizeof(float) * k * n);
	float *c = (float *)malloc(sizeof(float) * m * n), *da, *db, *dc;
	double worst = 0;
	unsigned int seed = 2;

	show_device("tiled matrix product");
	for (int i = 0; i < m * k; i++)
		a[i] = (float)(noise(&seed) % 2001) / 1000 - 1;
	for (int i = 0; i < k * n; i++)
		b[i] = (float)(noise(&seed) % 2001) / 1000 - 1;
	CUDA(cudaMalloc(&da, sizeof(float) * m * k));
	CUDA(cudaMalloc(&db, sizeof(float) * k * n));
	CUDA(cudaMalloc(&dc, sizeof(float) * m * n));
	CUDA(cudaMemcpy(da, a, sizeof(float) * m * k, cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy(db, b, sizeof(float) * k * n, cudaMemcpyHostToDevice));
	CUDA(cudaMemset(dc, 0xff, sizeof(float) * m * n));
	matmul<<<dim3((n + TILE - 1) / TILE, (m + TILE - 1) / TILE), dim3(TILE, TILE)>>>(da, db, dc, m, n, k);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(c, dc, sizeof(float) * m * n, cudaMemcpyDeviceToHost));
	for (int i = 0; i < m; i++) {
		for (int j = 0; j < n; j++) {
			double sum = 0, off;

			for (int l = 0; l < k; l++)
				sum += (double)a[i * k + l] * b[l * n + j];
			off = fabs(sum - c[i * n + j]);
			if (!(off <= 1e-4 * sqrt(k)))
				wrong++;
			if (off > worst)
				worst = off;
		}
	}
	ok(!wrong, "%dx%d times %dx%d: %d wrong, largest deviation %.2g", m, k, k, n, wrong, worst);
	CUDA(cudaFree(da));
	CUDA(cudaFree(db));
	CUDA(cudaFree(dc));
	return tap_done();
}
