// SPDX-License-Identifier: Apache-2.0
// What a program can ask: device, memory, kernel attributes, occupancy, launch with attributes.
#include "runtime.h"

__global__ void plain(int *out)
{
	__shared__ int s[64];

	s[threadIdx.x % 64] = threadIdx.x;
	__syncthreads();
	out[blockIdx.x * blockDim.x + threadIdx.x] = s[63 - threadIdx.x % 64] + (int)gridDim.x;
}

extern __shared__ int dynamic[];
__global__ void __launch_bounds__(128) bounded(int *out, int words)
{
	dynamic[words - 1] = words;
	__syncthreads();
	if (!threadIdx.x)
		*out = dynamic[words - 1];
}

__global__ void coordinates(uint3 *out)
{
	int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
	int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
	int i = block * blockDim.x * blockDim.y * blockDim.z + thread;

	out[i] = make_uint3(blockIdx.x * 100 + threadIdx.x, blockIdx.y * 100 + threadIdx.y, blockIdx.z * 100 + threadIdx.z);
}

int main(void)
{
	int count, value, host[256], *d, wrong = 0, driver, runtime;
	cudaFuncAttributes attr;
	cudaDeviceProp prop;
	size_t free_bytes, free_later, total;
	uint3 *dc, hc[2 * 3 * 2 * 4 * 2 * 2];

	CUDA(cudaGetDeviceCount(&count));
	CUDA(cudaDriverGetVersion(&driver));
	CUDA(cudaRuntimeGetVersion(&runtime));
	ok(count >= 1 && driver >= runtime, "%d device(s), driver %d, runtime %d", count, driver, runtime);
	CUDA(cudaGetDeviceProperties(&prop, 0));
	ok(prop.warpSize == 32 && prop.maxThreadsPerBlock >= 1024 && prop.multiProcessorCount > 0 && prop.name[0] &&
	   prop.totalGlobalMem > 0, "%s: %d multiprocessors, %zu MiB", prop.name, prop.multiProcessorCount,
	   prop.totalGlobalMem >> 20);
	CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlock, 0));
	ok(value == (int)prop.sharedMemPerBlock && value >= 48 * 1024, "%d bytes of shared memory per block", value);

	CUDA(cudaMemGetInfo(&free_bytes, &total));
	ok(free_bytes <= total && total <= prop.totalGlobalMem, "%zu of %zu MiB free", free_bytes >> 20, total >> 20);
	CUDA(cudaMalloc(&d, 8 << 20));
	CUDA(cudaMemGetInfo(&free_later, &total));
	ok(free_later + (8 << 20) <= free_bytes, "8 MiB allocated are 8 MiB less free");

	CUDA(cudaFuncGetAttributes(&attr, plain));
	ok(attr.sharedSizeBytes == 256 && attr.maxThreadsPerBlock >= 64 && attr.numRegs > 0,
	   "kernel attributes: %zu bytes shared, %d registers", attr.sharedSizeBytes, attr.numRegs);
	CUDA(cudaFuncGetAttributes(&attr, bounded));
	ok(attr.maxThreadsPerBlock == 128, "__launch_bounds__ limit threads to %d", attr.maxThreadsPerBlock);
	CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, plain, 64, 0));
	ok(value >= 1 && value <= prop.maxBlocksPerMultiProcessor, "occupancy %d blocks", value);

	plain<<<4, 64>>>(d);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(host, d, sizeof(host), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 256; i++)
		wrong += host[i] != 63 - i % 64 + 4;
	ok(!wrong, "static shared memory, %d wrong", wrong);

	/* More dynamic shared memory than 48 KiB must be asked for. */
	bounded<<<1, 32, 60 * 1024>>>(d, 15 * 1024);
	GIVES(cudaGetLastError(), cudaErrorInvalidValue, "60 KiB of shared memory without asking");
	if (prop.sharedMemPerBlockOptin >= 60 * 1024) {
		CUDA(cudaFuncSetAttribute(bounded, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 * 1024));
		bounded<<<1, 32, 60 * 1024>>>(d, 15 * 1024);
		CUDA(cudaGetLastError());
		CUDA(cudaMemcpy(&value, d, sizeof(value), cudaMemcpyDeviceToHost));
		ok(value == 15 * 1024, "60 KiB of shared memory after asking");
	}

	/* cudaLaunchKernelEx, and grids and blocks in three dimensions. */
	cudaLaunchConfig_t config = {};
	cudaLaunchAttribute attribute = {};
	cudaStream_t stream;
	CUDA(cudaStreamCreate(&stream));
	CUDA(cudaMalloc(&dc, sizeof(hc)));
	config.gridDim = dim3(2, 3, 2);
	config.blockDim = dim3(4, 2, 2);
	config.stream = stream;
	attribute.id = cudaLaunchAttributePriority;
	attribute.val.priority = 0;
	config.attrs = &attribute;
	config.numAttrs = 1;
	CUDA(cudaLaunchKernelEx(&config, coordinates, dc));
	CUDA(cudaStreamSynchronize(stream));
	CUDA(cudaMemcpy(hc, dc, sizeof(hc), cudaMemcpyDeviceToHost));
	wrong = 0;
	for (unsigned int b = 0; b < 12; b++) {
		for (unsigned int t = 0; t < 16; t++) {
			uint3 got = hc[b * 16 + t];

			wrong += got.x != b % 2 * 100 + t % 4 || got.y != b / 2 % 3 * 100 + t / 4 % 2 ||
				 got.z != b / 6 * 100 + t / 8;
		}
	}
	ok(!wrong, "cudaLaunchKernelEx over 2x3x2 blocks of 4x2x2 threads, %d wrong", wrong);
	CUDA(cudaFree(d));
	CUDA(cudaFree(dc));
	CUDA(cudaStreamDestroy(stream));
	CUDA(cudaDeviceReset());
	CUDA(cudaMalloc(&d, 1000));
	CUDA(cudaMemset(d, 0, 1000));
	GIVES(cudaDeviceSynchronize(), cudaSuccess, "after a reset the device can be used again");
	CUDA(cudaFree(d));
	return tap_done();
}
