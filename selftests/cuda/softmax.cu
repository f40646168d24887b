// SPDX-License-Identifier: Apache-2.0
// Softmax over rows: expf, two reductions in dynamic shared memory; and functions of double precision.
#include <math.h>

#include "runtime.h"

__global__ void softmax(const float *in, float *out, int cols)
{
	extern __shared__ float buf[];
	const float *x = in + (size_t)blockIdx.x * cols;
	float *y = out + (size_t)blockIdx.x * cols;
	int t = threadIdx.x;
	float m = -INFINITY, s = 0;

	for (int i = t; i < cols; i += blockDim.x)
		m = fmaxf(m, x[i]);
	buf[t] = m;
	__syncthreads();
	for (int d = blockDim.x / 2; d; d /= 2) {
		if (t < d)
			buf[t] = fmaxf(buf[t], buf[t + d]);
		__syncthreads();
	}
	m = buf[0];
	__syncthreads();
	for (int i = t; i < cols; i += blockDim.x)
		s += expf(x[i] - m);
	buf[t] = s;
	__syncthreads();
	for (int d = blockDim.x / 2; d; d /= 2) {
		if (t < d)
			buf[t] += buf[t + d];
		__syncthreads();
	}
	s = buf[0];
	for (int i = t; i < cols; i += blockDim.x)
		y[i] = expf(x[i] - m) / s;
}

__global__ void functions(const double *in, double *out, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		out[i] = sqrt(in[i]) * sin(in[i]) + log(in[i] + 1) / cos(in[i] / 64) + (double)sinf((float)in[i]);
}

int main(int argc, char **argv)
{
	int rows = 24, cols = (int)size_arg(argc, argv, 300), wrong = 0, n = rows * cols;
	float *in = (float *)malloc(sizeof(float) * n), *out = (float *)malloc(sizeof(float) * n), *din, *result;
	double x[128], y[128], worst = 0, *dx, *dy;
	unsigned int seed = 5;

	show_device("softmax");
	for (int i = 0; i < n; i++)
		in[i] = (float)(noise(&seed) % 4000) / 200 - 10;
	CUDA(cudaMalloc(&din, sizeof(float) * n));
	CUDA(cudaMalloc(&result, sizeof(float) * n));
	CUDA(cudaMemcpy(din, in, sizeof(float) * n, cudaMemcpyHostToDevice));
	softmax<<<rows, 64, 64 * sizeof(float)>>>(din, result, cols);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(out, result, sizeof(float) * n, cudaMemcpyDeviceToHost));
	for (int r = 0; r < rows; r++) {
		double m = -1e30, s = 0;

		for (int i = 0; i < cols; i++)
			m = fmax(m, in[r * cols + i]);
		for (int i = 0; i < cols; i++)
			s += exp(in[r * cols + i] - m);
		for (int i = 0; i < cols; i++) {
			double want = exp(in[r * cols + i] - m) / s, off = fabs(out[r * cols + i] - want) / want;

			if (!(off < 1e-5))
				wrong++;
			worst = fmax(worst, off);
		}
	}
	ok(!wrong, "softmax of %d rows of %d, %d wrong, largest relative deviation %.2g", rows, cols, wrong, worst);

	for (int i = 0; i < 128; i++)
		x[i] = i * 0.75 + 0.01;
	CUDA(cudaMalloc(&dx, sizeof(x)));
	CUDA(cudaMalloc(&dy, sizeof(y)));
	CUDA(cudaMemcpy(dx, x, sizeof(x), cudaMemcpyHostToDevice));
	functions<<<2, 64>>>(dx, dy, 128);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(y, dy, sizeof(y), cudaMemcpyDeviceToHost));
	wrong = 0;
	for (int i = 0; i < 128; i++) {
		double want = sqrt(x[i]) * sin(x[i]) + log(x[i] + 1) / cos(x[i] / 64) + sinf((float)x[i]);

		if (!(fabs(want - y[i]) < 1e-6 * (1 + fabs(want))))
			wrong++;
	}
	ok(!wrong, "sqrt, sin, log, cos, division: %d of 128 wrong", wrong);
	CUDA(cudaFree(din));
	CUDA(cudaFree(result));
	CUDA(cudaFree(dx));
	CUDA(cudaFree(dy));
	return tap_done();
}
