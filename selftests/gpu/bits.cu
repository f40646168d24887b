// SPDX-License-Identifier: Apache-2.0
// Results to the bit: prints a checksum of what each kernel computed, for comparing a GPU's with the same GPU's through
// a virtual one. Integer, float, double and half arithmetic, special functions, shared memory, warps, atomics, textures
// of nothing: all in an order that does not depend on scheduling.
#include <cuda_fp16.h>
#include <stdint.h>

#include "runtime.h"

#define N (1 << 18)
#define BLOCK 256

__device__ uint32_t mix(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

__device__ float unit(uint32_t i) { return (mix(i) >> 8) * (1.0f / (1 << 24)); }

__global__ void integers(uint64_t *out)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

	out[i] = ((uint64_t)mix(i) << 32 | mix(~i)) / (i | 1) + __popc(i) + __clz(i) * __brev(i);
}

__global__ void floats(uint64_t *out)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	float x = unit(i) * 20 - 10, y = unit(i + N) + 0.5f, z = sinf(x) * expf(-y) + sqrtf(y) / (1 + x * x);

	z += logf(y) + powf(y, 1.7f) + tanhf(x) + rsqrtf(y) + fmaf(x, y, z) + erff(x) + __sinf(x);
	out[i] = __float_as_uint(z);
}

__global__ void doubles(uint64_t *out)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	double x = unit(i) * 20 - 10, y = unit(i + N) + 0.5;

	out[i] = __double_as_longlong(sin(x) * exp(-y) + sqrt(y) / (1 + x * x) + log(y) + cbrt(x) + fma(x, y, 1.0 / y));
}

__global__ void halves(uint64_t *out)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	__half x = __float2half(unit(i)), y = __float2half(unit(i + N));

	out[i] = __half_as_ushort(__hfma(x, y, __hadd(x, hsqrt(y))));
}

__global__ void sums(uint64_t *out)
{
	__shared__ float part[BLOCK];
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	float v = unit(i);

	for (int d = 16; d; d /= 2)
		v += __shfl_xor_sync(~0u, v, d);
	part[threadIdx.x] = v;
	__syncthreads();
	for (int s = BLOCK / 2; s; s /= 2) {
		if ((int)threadIdx.x < s)
			part[threadIdx.x] += part[threadIdx.x + s];
		__syncthreads();
	}
	out[i] = __float_as_uint(part[0]) + __ballot_sync(~0u, v > 8.0f);
}

__global__ void counts(uint64_t *out)
{
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;

	/* Sums and maxima of different words: of the same one, their order would matter. */
	atomicAdd((unsigned long long *)&out[128 + mix(i) % (N - 128)], 1ull + i);
	atomicMax((unsigned long long *)&out[i % 97], (unsigned long long)mix(i));
}

static void run(const char *name, void (*kernel)(uint64_t *))
{
	uint64_t *device, *host = (uint64_t *)malloc(N * sizeof(*host)), sum = 14695981039346656037ull;

	CUDA(cudaMalloc(&device, N * sizeof(*device)));
	CUDA(cudaMemset(device, 0, N * sizeof(*device)));
	kernel<<<N / BLOCK, BLOCK>>>(device);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(host, device, N * sizeof(*host), cudaMemcpyDeviceToHost));
	CUDA(cudaFree(device));
	for (int i = 0; i < N; i++)
		sum = (sum ^ host[i]) * 1099511628211ull;
	ok(1, "%s: %016llx", name, (unsigned long long)sum);
	free(host);
}

int main(void)
{
	run("integers", integers);
	run("floats", floats);
	run("doubles", doubles);
	run("halves", halves);
	run("sums in blocks", sums);
	run("atomics", counts);
	return tap_done();
}
