// SPDX-License-Identifier: Apache-2.0
// malloc(), free(), new, delete and virtual functions in kernels: memory of the context's heap, which outlives the kernel.
#include <new>

#include "runtime.h"

#define BLOCKS	8
#define THREADS	96
#define NODES	(BLOCKS * THREADS)

struct shape {
	int size;
	__device__ shape(int n) : size(n) {}
	__device__ virtual ~shape() {}
	__device__ virtual long area() const = 0;
};

struct square : shape {
	__device__ square(int n) : shape(n) {}
	__device__ long area() const override { return (long)size * size; }
};

struct oblong : shape {
	int *sides;
	__device__ oblong(int n) : shape(n), sides(new int[2])
	{
		sides[0] = n;
		sides[1] = n + 1;
	}
	__device__ ~oblong() override { delete[] sides; }
	__device__ long area() const override { return (long)sides[0] * sides[1]; }
};

__global__ void make(shape **at)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	at[i] = i % 3 ? (shape *)new square(i) : new oblong(i);
}

__global__ void measure(shape **at, long *area)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	area[i] = at[i]->area();
	delete at[i];
}

__global__ void in_shared(int *out)
{
	__shared__ alignas(square) unsigned char room[sizeof(square)];
	__shared__ shape *s;

	if (!threadIdx.x)
		s = new (room) square(7);
	__syncthreads();
	out[threadIdx.x] = (int)s->area() + threadIdx.x;
}

// How many blocks of @size there are, until there is no more; and again when all are freed.
__global__ void exhaust(size_t size, int *got, int *again)
{
	void *last = NULL;

	for (int pass = 0; pass < 2; pass++) {
		int n = 0;

		while (void *p = malloc(size)) {
			*(void **)p = last;
			last = p;
			n++;
		}
		*(pass ? again : got) = n;
		while (last) {
			void *before = *(void **)last;

			free(last);
			last = before;
		}
	}
}

__global__ void odd(int *bad)
{
	char *p = (char *)malloc(1), *q = (char *)malloc(17), *r = (char *)malloc(33);

	*bad = !p || !q || !r || (size_t)p % 16 || (size_t)q % 16 || (size_t)r % 16;
	if (!*bad) {
		memset(p, 1, 1);
		memset(q, 2, 17);
		memset(r, 3, 33);
		*bad = p[0] != 1 || q[0] != 2 || q[16] != 2 || r[0] != 3 || r[32] != 3;
	}
	free(q);
	free(NULL);
	free(p);
	free(r);
}

__global__ void free_twice(void)
{
	void *p = malloc(64);

	free(p);
	free(p);
}

int main(void)
{
	long area[NODES], *darea;
	int wrong = 0, host[THREADS], *out;
	shape **at;
	size_t size;

	show_device("malloc and new in kernels");
	GIVES(cudaDeviceSetLimit(cudaLimitMallocHeapSize, 16 << 20), cudaSuccess, "the heap is made larger");
	CUDA(cudaDeviceGetLimit(&size, cudaLimitMallocHeapSize));
	ok(size >= 16 << 20, "it is, %zu bytes", size);
	CUDA(cudaMalloc(&at, NODES * sizeof(*at)));
	CUDA(cudaMalloc(&darea, sizeof(area)));
	CUDA(cudaMalloc(&out, sizeof(host)));
	make<<<BLOCKS, THREADS>>>(at);
	CUDA(cudaDeviceSynchronize());
	measure<<<BLOCKS, THREADS>>>(at, darea);
	CUDA(cudaMemcpy(area, darea, sizeof(area), cudaMemcpyDeviceToHost));
	for (int i = 0; i < NODES; i++)
		wrong += area[i] != (long)i * (i % 3 ? i : i + 1);
	ok(!wrong, "objects that one kernel made are another one's to use and to delete");
	in_shared<<<1, THREADS>>>(out);
	CUDA(cudaMemcpy(host, out, sizeof(host), cudaMemcpyDeviceToHost));
	for (int i = 0; i < THREADS; i++)
		wrong += host[i] != 49 + i;
	ok(!wrong, "an object in shared memory has virtual functions, too");
	odd<<<1, 1>>>(out);
	CUDA(cudaMemcpy(host, out, sizeof(int), cudaMemcpyDeviceToHost));
	ok(!host[0], "any size is aligned");
	exhaust<<<1, 1>>>(1 << 20, out, out + 1);
	CUDA(cudaMemcpy(host, out, 2 * sizeof(int), cudaMemcpyDeviceToHost));
	ok(host[0] > 4 && host[0] <= (int)(size >> 20), "malloc() says when there is no more: %d MiB", host[0]);
	ok(host[1] * 2 >= host[0], "what is freed can be had again: %d MiB", host[1]);
	GIVES(cudaDeviceSetLimit(cudaLimitMallocHeapSize, 32 << 20), cudaErrorInvalidValue, "its size is fixed by now");
	if (!native("memory that a kernel frees twice")) {
		free_twice<<<1, 1>>>();
		GIVES(cudaDeviceSynchronize(), cudaErrorLaunchFailure, "memory that is freed twice");
	}
	return tap_done();
}
