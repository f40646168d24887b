// SPDX-License-Identifier: Apache-2.0
// Copies of every kind and size, 2D copies, memset of every width, pinned memory, pointer attributes.
#include "runtime.h"

static void fill(unsigned char *p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)noise(&seed);
}

/* In and out with lengths around every threshold that a transport may have. */
static void lengths(size_t largest)
{
	static const size_t sizes[] = { 1, 3, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 16384, 32768, 49000, 49152, 65535,
					65536, 65537, 262143, 1048576, 1048577, 3000001 };
	unsigned char *in = (unsigned char *)malloc(largest + 64), *out = (unsigned char *)malloc(largest + 64), *d;
	int wrong = 0, tried = 0;

	CUDA(cudaMalloc(&d, largest + 64));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes) && sizes[i] <= largest; i++) {
		for (size_t shift = 0; shift < 2; shift++) {
			size_t n = sizes[i], off = shift * 13;

			fill(in, n + off, (unsigned int)n);
			memset(out, 0xa5, n + off + 1);
			CUDA(cudaMemcpy(d + off, in + off, n, cudaMemcpyHostToDevice));
			CUDA(cudaMemcpy(out + off, d + off, n, cudaMemcpyDeviceToHost));
			wrong += memcmp(in + off, out + off, n) || out[off + n] != 0xa5 || (off && out[off - 1] != 0xa5);
			tried++;
		}
	}
	ok(!wrong, "%d copies in and out up to %zu bytes, %d wrong", tried, largest, wrong);
	CUDA(cudaFree(d));
	free(in);
	free(out);
}

static void two_dimensions(void)
{
	enum { W = 37, H = 29, HP = 48 };
	unsigned char in[H][HP], out[H][HP], *d, *e;
	size_t pitch;
	int wrong = 0;

	fill(&in[0][0], sizeof(in), 9);
	CUDA(cudaMallocPitch(&d, &pitch, W, H));
	CUDA(cudaMalloc(&e, 64 * H));
	ok(pitch >= W, "pitch %zu for %d bytes", pitch, W);
	CUDA(cudaMemcpy2D(d, pitch, in, HP, W, H, cudaMemcpyHostToDevice));
	CUDA(cudaMemcpy2D(e, 64, d, pitch, W, H, cudaMemcpyDeviceToDevice));
	memset(out, 0x5a, sizeof(out));
	CUDA(cudaMemcpy2D(out, HP, e, 64, W, H, cudaMemcpyDeviceToHost));
	for (int y = 0; y < H; y++) {
		wrong += !!memcmp(in[y], out[y], W);
		for (int x = W; x < HP; x++)
			wrong += out[y][x] != 0x5a;
	}
	ok(!wrong, "2D copies in, across and out leave the rest of each row alone, %d wrong", wrong);

	cudaStream_t s;
	CUDA(cudaStreamCreate(&s));
	CUDA(cudaMemset2DAsync(e, 64, 0x3c, W, H, s));
	memset(out, 0, sizeof(out));
	CUDA(cudaMemcpy2DAsync(out, HP, e, 64, W, H, cudaMemcpyDeviceToHost, s));
	CUDA(cudaStreamSynchronize(s));
	wrong = 0;
	for (int y = 0; y < H; y++)
		for (int x = 0; x < W; x++)
			wrong += out[y][x] != 0x3c;
	ok(!wrong, "2D memset and 2D copy in a stream, %d wrong", wrong);
	CUDA(cudaStreamDestroy(s));
	CUDA(cudaFree(d));
	CUDA(cudaFree(e));
}

static void memsets(void)
{
	unsigned char host[1000], *d;
	int wrong = 0;

	CUDA(cudaMalloc(&d, sizeof(host)));
	CUDA(cudaMemset(d, 0x11, sizeof(host)));
	CUDA(cudaMemset(d + 100, 0x22, 300));
	CUDA(cudaMemsetAsync(d + 399, 0x33, 1));
	CUDA(cudaMemcpy(host, d, sizeof(host), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 1000; i++)
		wrong += host[i] != (i == 399 ? 0x33 : i >= 100 && i < 400 ? 0x22 : 0x11);
	ok(!wrong, "memset of parts, %d wrong", wrong);
	CUDA(cudaMemcpy(d + 500, d, 400, cudaMemcpyDeviceToDevice));
	CUDA(cudaMemcpy(host, d, sizeof(host), cudaMemcpyDeviceToHost));
	ok(!memcmp(host, host + 500, 400), "copy within the device");
	CUDA(cudaFree(d));
}

__global__ void increment(unsigned int *x, int n)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		x[i]++;
}

static void pinned(void)
{
	enum { N = 50000 };
	unsigned int *a, *b, *d, wrong = 0;
	cudaPointerAttributes attr;
	cudaStream_t s;
	int local;

	CUDA(cudaStreamCreate(&s));
	CUDA(cudaMallocHost(&a, N * sizeof(*a)));
	CUDA(cudaHostAlloc(&b, N * sizeof(*b), cudaHostAllocPortable | cudaHostAllocMapped));
	CUDA(cudaMalloc(&d, N * sizeof(*d)));
	for (int i = 0; i < N; i++)
		a[i] = i * 3u;
	CUDA(cudaMemcpyAsync(d, a, N * sizeof(*a), cudaMemcpyHostToDevice, s));
	increment<<<(N + 255) / 256, 256, 0, s>>>(d, N);
	CUDA(cudaMemcpyAsync(b, d, N * sizeof(*b), cudaMemcpyDeviceToHost, s));
	CUDA(cudaStreamSynchronize(s));
	for (int i = 0; i < N; i++)
		wrong += b[i] != i * 3u + 1;
	ok(!wrong, "pinned memory: asynchronous copies both ways, %u wrong", wrong);

	/* A kernel may use pinned memory where it is. */
	unsigned int *mapped = NULL;
	CUDA(cudaHostGetDevicePointer(&mapped, b, 0));
	increment<<<(N + 255) / 256, 256, 0, s>>>(mapped, N);
	CUDA(cudaGetLastError());
	CUDA(cudaStreamSynchronize(s));
	wrong = 0;
	for (int i = 0; i < N; i++)
		wrong += b[i] != i * 3u + 2;
	ok(!wrong, "a kernel writes to pinned memory in place, %u wrong", wrong);

	CUDA(cudaPointerGetAttributes(&attr, d + 5));
	ok(attr.type == cudaMemoryTypeDevice && attr.device == 0 && attr.devicePointer == d + 5,
	   "attributes of device memory, from its middle");
	CUDA(cudaPointerGetAttributes(&attr, a + 7));
	ok(attr.type == cudaMemoryTypeHost && attr.hostPointer == a + 7, "attributes of pinned memory, from its middle");
	CUDA(cudaPointerGetAttributes(&attr, &local));
	ok(attr.type == cudaMemoryTypeUnregistered, "attributes of ordinary memory");
	CUDA(cudaFreeHost(a));
	CUDA(cudaFreeHost(b));
	CUDA(cudaFree(d));
	CUDA(cudaStreamDestroy(s));
}

static void many(void)
{
	enum { N = 200 };
	unsigned char *p[N], value;
	int wrong = 0;

	for (int i = 0; i < N; i++) {
		CUDA(cudaMalloc(&p[i], 1000 + i));
		CUDA(cudaMemset(p[i], i, 1000 + i));
	}
	for (int i = 0; i < N; i += 2)
		CUDA(cudaFree(p[i]));
	for (int i = 1; i < N; i += 2) {
		CUDA(cudaMemcpy(&value, p[i] + 999 + i, 1, cudaMemcpyDeviceToHost));
		wrong += value != i;
		CUDA(cudaFree(p[i]));
	}
	ok(!wrong, "%d allocations side by side, freed in two sweeps, %d wrong", N, wrong);
}

int main(int argc, char **argv)
{
	size_t largest = (size_t)size_arg(argc, argv, 3000001);

	show_device("copies");
	lengths(largest);
	two_dimensions();
	memsets();
	pinned();
	many();
	return tap_done();
}
