// SPDX-License-Identifier: Apache-2.0
// Parameters of every shape, constants, device globals, functions that nvcc does not inline.
#include "runtime.h"

struct mixed {
	char c;
	short s;
	int i;
	double d;
	unsigned long long u;
	float v[5];
	const int *table;
};

struct large {
	int v[500];
};

__constant__ int coefficients[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
__constant__ struct { float scale; int shift; } setting;
__device__ int counter = 40;
__device__ double results[4];
__device__ int table[16];

__global__ void unpack(struct mixed m, char tail, double *out)
{
	double sum = m.c + m.s + m.i + m.d + (double)m.u + tail;

	for (int i = 0; i < 5; i++)
		sum += m.v[i] * (i + 1);
	out[0] = sum + m.table[3];
}

__global__ void add_up(struct large l, int *out)
{
	int sum = 0;

	for (int i = 0; i < 500; i++)
		sum += l.v[i] * (i % 7);
	*out = sum;
}

__global__ void constants(int *out)
{
	out[threadIdx.x] = coefficients[threadIdx.x] * (int)setting.scale + setting.shift + table[threadIdx.x];
	if (!threadIdx.x)
		counter += 2;
	results[threadIdx.x % 4] = threadIdx.x % 4 + 0.5;
}

__noinline__ __device__ int fibonacci(int n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

__noinline__ __device__ int choose(int what, int x)
{
	switch (what) {
	case 0: return x + 1;
	case 1: return x * x;
	case 2: return -x;
	case 3: return x << 3;
	case 4: return x / 3;
	case 5: return x % 7;
	default: return 99;
	}
}

__global__ void calls(int *out)
{
	int local[8], t = threadIdx.x;

	for (int i = 0; i < 8; i++)
		local[(i * 5 + t) % 8] = choose(i, t + 10);
	out[t] = local[out[t] & 7] + fibonacci(t % 8);
}

static int host_choose(int what, int x)
{
	int all[] = { x + 1, x * x, -x, x << 3, x / 3, x % 7 };

	return what < 6 ? all[what] : 99;
}

static int host_fibonacci(int n)
{
	return n < 2 ? n : host_fibonacci(n - 1) + host_fibonacci(n - 2);
}

__global__ void many(int a, long long b, char c, float d, short e, double f, unsigned char g, float4 h, long long *out)
{
	out[0] = a + b + c + (long long)d + e + (long long)f + g;
	out[1] = (long long)(h.x + h.y * 10 + h.z * 100 + h.w * 1000);
}

int main(void)
{
	struct { float scale; int shift; } s = { 10, 7 };
	int ints[32], host_table[16], *dints, value, wrong = 0, sum = 0;
	struct mixed m = { 'x', -300, 1 << 20, 0.25, 1ull << 40, { 1, 2, 3, 4, 5 } };
	struct large l;
	double *sum_out, got, want, four[4];
	long long two[2], *dtwo;
	void *address;
	size_t size;

	show_device("parameters and symbols");
	CUDA(cudaMalloc(&dints, sizeof(ints)));
	CUDA(cudaMalloc(&sum_out, sizeof(double)));
	CUDA(cudaMalloc(&dtwo, sizeof(two)));

	for (int i = 0; i < 32; i++)
		ints[i] = i * 11;
	CUDA(cudaMemcpy(dints, ints, sizeof(ints), cudaMemcpyHostToDevice));
	m.table = dints;
	unpack<<<1, 1>>>(m, 9, sum_out);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(&got, sum_out, sizeof(got), cudaMemcpyDeviceToHost));
	want = 'x' - 300 + (1 << 20) + 0.25 + (double)(1ull << 40) + 9 + (1 + 4 + 9 + 16 + 25) + 33;
	ok(got == want, "a structure by value: %f, expected %f", got, want);

	for (int i = 0; i < 500; i++) {
		l.v[i] = i * 3 - 700;
		sum += l.v[i] * (i % 7);
	}
	add_up<<<1, 1>>>(l, dints);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(&value, dints, sizeof(value), cudaMemcpyDeviceToHost));
	ok(value == sum, "a structure of 2000 bytes by value: %d, expected %d", value, sum);

	many<<<1, 1>>>(1, 1ll << 33, 3, 4.5f, -5, 6.5, 200, make_float4(1, 2, 3, 4), dtwo);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(two, dtwo, sizeof(two), cudaMemcpyDeviceToHost));
	ok(two[0] == 1 + (1ll << 33) + 3 + 4 - 5 + 6 + 200 && two[1] == 4321, "nine parameters of nine types");

	for (int i = 0; i < 16; i++)
		host_table[i] = i * i;
	CUDA(cudaMemcpyToSymbol(setting, &s, sizeof(s)));
	CUDA(cudaMemcpyToSymbol(table, host_table, sizeof(host_table)));
	constants<<<1, 8>>>(dints);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(ints, dints, 8 * sizeof(int), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 8; i++)
		wrong += ints[i] != (i + 1) * 10 + 7 + i * i;
	ok(!wrong, "__constant__ with and without initial values, and a __device__ array: %d wrong", wrong);
	CUDA(cudaMemcpyFromSymbol(&value, counter, sizeof(value)));
	ok(value == 42, "a __device__ variable keeps what a kernel wrote: %d", value);
	CUDA(cudaMemcpyFromSymbol(four, results, sizeof(four)));
	ok(four[0] == 0.5 && four[3] == 3.5, "a __device__ array is read back");
	CUDA(cudaGetSymbolAddress(&address, table));
	CUDA(cudaGetSymbolSize(&size, table));
	ok(address && size == sizeof(host_table), "a symbol has an address and %zu bytes", size);
	CUDA(cudaMemcpyToSymbol(table, host_table + 4, 4 * sizeof(int), 8 * sizeof(int)));
	CUDA(cudaMemcpy(&value, (char *)address + 9 * sizeof(int), sizeof(value), cudaMemcpyDeviceToHost));
	ok(value == 25, "a copy into the middle of a symbol");

	for (int i = 0; i < 32; i++)
		ints[i] = i * 3;
	CUDA(cudaMemcpy(dints, ints, sizeof(ints), cudaMemcpyHostToDevice));
	calls<<<1, 32>>>(dints);
	CUDA(cudaGetLastError());
	CUDA(cudaMemcpy(ints, dints, sizeof(ints), cudaMemcpyDeviceToHost));
	wrong = 0;
	for (int t = 0; t < 32; t++) {
		int local[8];

		for (int i = 0; i < 8; i++)
			local[(i * 5 + t) % 8] = host_choose(i, t + 10);
		wrong += ints[t] != local[(t * 3) & 7] + host_fibonacci(t % 8);
	}
	ok(!wrong, "device functions, recursion, a switch and a local array: %d wrong", wrong);
	CUDA(cudaFree(dints));
	CUDA(cudaFree(sum_out));
	CUDA(cudaFree(dtwo));
	return tap_done();
}
