// SPDX-License-Identifier: Apache-2.0
// Block reduction: warp shuffles, shared memory between warps, atomics between blocks. Integer sums are exact.
#include <limits.h>
#include <math.h>

#include "runtime.h"

template <typename T> __device__ T warp_sum(T v)
{
	for (int d = 16; d; d /= 2)
		v += __shfl_down_sync(0xffffffffu, v, d);
	return v;
}

template <typename T> __global__ void sum(const T *in, int n, T *out)
{
	__shared__ T part[32];
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	T v = 0;

	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
		v += in[i];
	v = warp_sum(v);
	if (!lane)
		part[warp] = v;
	__syncthreads();
	if (!warp) {
		v = lane < blockDim.x / 32 ? part[lane] : 0;
		v = warp_sum(v);
		if (!lane)
			atomicAdd(out, v);
	}
}

__global__ void extremes(const int *in, int n, int *out)
{
	int v = in[(blockIdx.x * blockDim.x + threadIdx.x) % n], low = v, high = v;

	for (int m = 16; m; m /= 2) {
		low = min(low, __shfl_xor_sync(0xffffffffu, low, m));
		high = max(high, __shfl_xor_sync(0xffffffffu, high, m));
	}
	if (threadIdx.x % 32 == 0) {
		atomicMin(&out[0], low);
		atomicMax(&out[1], high);
	}
	/* Votes: how many lanes hold an odd number. */
	if (__popc(__ballot_sync(0xffffffffu, v & 1)) == 32)
		atomicInc((unsigned int *)&out[2], 0xffffffffu);
	if (__any_sync(0xffffffffu, v == 12345))
		atomicExch(&out[3], 1);
}

template <typename T> static T run_sum(const T *host, int n)
{
	T *in, *out, result;

	CUDA(cudaMalloc(&in, n * sizeof(T)));
	CUDA(cudaMalloc(&out, sizeof(T)));
	CUDA(cudaMemcpy(in, host, n * sizeof(T), cudaMemcpyHostToDevice));
	CUDA(cudaMemset(out, 0, sizeof(T)));
	sum<T><<<32, 256>>>(in, n, out);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(&result, out, sizeof(T), cudaMemcpyDeviceToHost));
	CUDA(cudaFree(in));
	CUDA(cudaFree(out));
	return result;
}

int main(int argc, char **argv)
{
	int n = (int)size_arg(argc, argv, 100003);
	int *ints = (int *)malloc(n * sizeof(int)), *dints, *result, out[4] = { INT_MAX, INT_MIN, 0, 0 };
	unsigned long long *longs = (unsigned long long *)malloc(n * sizeof(*longs)), want_long = 0;
	float *floats = (float *)malloc(n * sizeof(float));
	double want_float = 0;
	unsigned int seed = 3;
	int want = 0, low = INT_MAX, high = INT_MIN, rounded = (n + 255) / 256 * 256, found = 0;

	show_device("block reduction");
	for (int i = 0; i < n; i++) {
		ints[i] = (int)(noise(&seed) % 20001) - 10000;
		if (i == n / 2)
			ints[i] = 12345;
		longs[i] = (unsigned long long)noise(&seed) << 20;
		floats[i] = (float)(noise(&seed) % 1000) / 1000;
		want += ints[i];
		want_long += longs[i];
		want_float += floats[i];
		low = ints[i] < low ? ints[i] : low;
		high = ints[i] > high ? ints[i] : high;
		found |= ints[i] == 12345;
	}
	int got = run_sum(ints, n);
	ok(got == want, "sum of %d int: %d, expected %d", n, got, want);
	unsigned long long got_long = run_sum(longs, n);
	ok(got_long == want_long, "sum of %d 64-bit: %llu, expected %llu", n, got_long, want_long);
	float got_float = run_sum(floats, n);
	ok(fabs(got_float - want_float) < 1e-4 * want_float, "sum of %d float: %f, expected %f", n, got_float, want_float);

	CUDA(cudaMalloc(&dints, n * sizeof(int)));
	CUDA(cudaMalloc(&result, sizeof(out)));
	CUDA(cudaMemcpy(dints, ints, n * sizeof(int), cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy(result, out, sizeof(out), cudaMemcpyHostToDevice));
	extremes<<<rounded / 256, 256>>>(dints, n, result);
	CUDA(cudaMemcpy(out, result, sizeof(out), cudaMemcpyDeviceToHost));
	ok(out[0] == low && out[1] == high, "minimum %d and maximum %d", out[0], out[1]);
	int odd = 0;
	for (int w = 0; w < rounded / 32; w++) {
		int all = 1;

		for (int l = 0; l < 32; l++)
			all &= ints[(w * 32 + l) % n] & 1;
		odd += all;
	}
	ok(out[2] == odd, "%d warps with nothing but odd numbers, expected %d", out[2], odd);
	ok(out[3] == found, "a vote finds the one element looked for");
	CUDA(cudaFree(dints));
	CUDA(cudaFree(result));
	return tap_done();
}
