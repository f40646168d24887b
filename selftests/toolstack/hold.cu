// SPDX-License-Identifier: Apache-2.0
// A client that does what it is told, one command a line, and says how each ended: "1 alloc 40: ok".
//	alloc MIB	allocate and keep;	free	what was allocated last
//	work N		N launches, waited for;	spin N	one that takes long: N times 4096 steps a thread, 256 blocks of 256
//	end
// Ends with 0 unless a launch fails.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>

__global__ void touch(unsigned int *x)
{
	x[threadIdx.x]++;
}

__global__ void spin(unsigned int *x, unsigned long n)
{
	unsigned int v = threadIdx.x;

	for (unsigned long i = 0; i < n; i++)
		v = v * 1664525 + 1013904223;
	x[threadIdx.x] = v;
}

int main()
{
	static void *kept[64];
	unsigned int *device, n = 0, line = 0;
	char command[64];

	if (cudaMalloc(&device, 4096) != cudaSuccess) {
		printf("not ok - no device\n");
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(command, sizeof(command), stdin)) {
		cudaError_t r = cudaErrorInvalidValue;
		unsigned long many;

		command[strcspn(command, "\n")] = '\0';
		if (sscanf(command, "alloc %lu", &many) == 1) {
			r = n < 64 ? cudaMalloc(&kept[n], many << 20) : cudaErrorInvalidValue;
			n += r == cudaSuccess;
		} else if (!strcmp(command, "free") && n) {
			r = cudaFree(kept[--n]);
		} else if (sscanf(command, "work %lu", &many) == 1 || sscanf(command, "spin %lu", &many) == 1) {
			if (*command == 's')
				spin<<<256, 256>>>(device, many * 4096);
			else
				for (unsigned long i = 0; i < many; i++)
					touch<<<1, 256>>>(device);
			r = cudaDeviceSynchronize();
			if (r != cudaSuccess) {
				printf("%u %s: %s\n", ++line, command, cudaGetErrorName(r));
				return 1;
			}
		} else if (!strcmp(command, "end")) {
			printf("%u end: ok\n", ++line);
			return 0;
		}
		printf("%u %s: %s\n", ++line, command, r == cudaSuccess ? "ok" : cudaGetErrorName(r));
		fflush(stdout);
		cudaGetLastError();
	}
	return 0;
}
