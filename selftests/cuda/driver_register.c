// SPDX-License-Identifier: Apache-2.0
/* cuMemHostRegister: copies from and to the program's own memory that do not wait, and see what is there in their turn. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

#define WORDS	(1u << 19)
#define BYTES	(WORDS * 4u)

static CUstream stream, other;
static CUdeviceptr gate;

struct look {
	volatile uint32_t *at;
	uint32_t wanted;
	bool seen;
};

/* Waits, without the GPU, for what only another stream will bring. */
static void look(void *data)
{
	struct look *l = data;

	for (int i = 0; i < 5000 && *l->at != l->wanted; i++)
		usleep(1000);
	l->seen = *l->at == l->wanted;
}

static void close_gate(void)
{
	CU(cuMemsetD32(gate, getenv("VGPU_SYNC") ? 1 : 0, 1));	/* every call waits then, so that nobody could open it */
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
}

static void open_gate(void)
{
	CU(cuStreamWriteValue32(other, gate, 1, 0));
	CU(cuStreamSynchronize(stream));
}

static void add_one(void *data)
{
	uint32_t *p = data;

	for (unsigned int i = 0; i < WORDS; i++)
		p[i]++;
}

static unsigned int wrong(const uint32_t *p, uint32_t plus)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < WORDS; i++)
		n += p[i] != i * 3 + plus;
	return n;
}

/* What is written between the call and the copy's turn is what is copied, by whomever it is written. */
static void in_turn(CUdeviceptr d, uint32_t *host, uint32_t *back)
{
	CUDA_MEMCPY2D box = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = host, .srcPitch = 256,
			      .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = d, .dstPitch = 128, .WidthInBytes = 128,
			      .Height = 16 };
	CUDA_HOST_NODE_PARAMS h = { .fn = add_one, .userData = host };
	CUgraphNode node;
	CUgraphExec x;
	unsigned int n;
	CUgraph g;

	for (unsigned int bytes = 4096; bytes <= BYTES; bytes *= BYTES / 4096) {
		memset(host, 0, BYTES);
		close_gate();
		CU(cuMemcpyHtoDAsync(d, host, bytes, stream));
		if (!getenv("VGPU_SYNC"))
			for (unsigned int i = 0; i < WORDS; i++)
				host[i] = i * 3;
		open_gate();
		memset(back, 0xff, BYTES);
		CU(cuMemcpyDtoH(back, d, bytes));
		n = 0;
		for (unsigned int i = 0; i < bytes / 4; i++)
			n += back[i] != (getenv("VGPU_SYNC") ? 0 : i * 3);
		ok(!n, "%u bytes of a stream that stands still are read in their turn: %u words wrong", bytes, n);
	}

	memset(host, 0, BYTES);
	close_gate();
	CU(cuMemcpy2DAsync(&box, stream));
	for (unsigned int i = 0; !getenv("VGPU_SYNC") && i < WORDS; i++)
		host[i] = i;
	open_gate();
	CU(cuMemcpyDtoH(back, d, 16 * 128));
	n = 0;
	for (unsigned int i = 0; i < 16 * 32; i++)
		n += back[i] != (getenv("VGPU_SYNC") ? 0 : i / 32 * 64 + i % 32);
	ok(!n, "rows too: %u words wrong", n);
	box = (CUDA_MEMCPY2D){ .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .srcPitch = 128,
			       .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = back, .dstPitch = 256, .WidthInBytes = 128,
			       .Height = 16 };
	memset(back, 0, BYTES);
	close_gate();
	CU(cuMemcpy2DAsync(&box, stream));
	ok(getenv("VGPU_SYNC") || !back[1], "rows out of it do not wait");
	open_gate();
	n = 0;
	for (unsigned int i = 0; i < 16 * 64; i++)
		n += back[i] != (i % 64 >= 32 || getenv("VGPU_SYNC") ? 0 : i);
	ok(!n, "and are there in the end, with nothing between them touched: %u words wrong", n);

	/* A function that a graph holds. */
	for (unsigned int i = 0; i < WORDS; i++)
		host[i] = i * 3;
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddHostNode(&node, g, NULL, 0, &h));
	CU(cuGraphInstantiate(&x, g, 0));
	CU(cuGraphLaunch(x, stream));
	CU(cuMemcpyHtoDAsync(d, host, BYTES, stream));
	CU(cuMemcpyDtoHAsync(back, d, BYTES, stream));
	CU(cuStreamSynchronize(stream));
	n = wrong(back, 1);
	ok(!n, "a copy in sees what a graph's function before it wrote: %u wrong", n);
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
}

/* A function of the program's may wait for a copy of another stream. */
static void beside(CUdeviceptr d, uint32_t *back)
{
	static uint32_t pageable[16];
	CUDA_MEMCPY3D out = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .dstMemoryType = CU_MEMORYTYPE_HOST,
			      .dstHost = pageable, .WidthInBytes = sizeof(pageable), .Height = 1, .Depth = 1 };
	struct look l = { .at = &back[7], .wanted = 77 };
	CUcontext ctx;
	CUgraphNode node;
	CUgraphExec x;
	CUgraph g;

	/*
	 * NVIDIA's driver calls the functions of all streams in one thread, and those copies end with a function of ours where
	 * the memory is no arena's.
	 */
	if (!ON_SOFTWARE() && !on_driver()) {
		printf("# a host function that waits for another stream's copy: not tested in a zone on this GPU\n");
		return;
	}
	back[7] = 0;
	CU(cuMemsetD32(d, 77, 16));
	CU(cuLaunchHostFunc(other, look, &l));
	CU(cuMemcpyDtoHAsync(back, d, 64, stream));
	CU(cuStreamSynchronize(other));
	CU(cuStreamSynchronize(stream));
	ok(l.seen, "a host function can wait for a copy of another stream");

	CU(cuCtxGetCurrent(&ctx));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddMemcpyNode(&node, g, NULL, 0, &out, ctx));
	CU(cuGraphInstantiate(&x, g, 0));
	l = (struct look){ .at = &pageable[7], .wanted = 77 };
	CU(cuLaunchHostFunc(other, look, &l));
	CU(cuGraphLaunch(x, stream));
	CU(cuStreamSynchronize(other));
	CU(cuStreamSynchronize(stream));
	ok(l.seen || on_driver(), "and for one of a graph's");
	CU(cuGraphExecDestroy(x));
	CU(cuGraphDestroy(g));
}

/* Memory that is not there, or ends in the middle. */
static void nowhere(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || munmap(p + page, page))
		bail("mmap");
	OURS(cuMemHostRegister(p + page, page, 0), CUDA_ERROR_INVALID_VALUE, "memory that is not there");
	OURS(cuMemHostRegister(p + 100, 2 * page, 0), CUDA_ERROR_INVALID_VALUE, "memory with a gap");
	GIVES(cuMemHostRegister(p + 100, page - 100, 0), CUDA_SUCCESS, "what ends before it");
	CU(cuMemHostUnregister(p + 100));
	munmap(p, 3 * page);
}

int main(void)
{
	uint32_t *host, *back;
	CUdeviceptr d;
	unsigned int n;
	CUdevice dev;

	primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&d, BYTES));
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemsetD32(gate, 0, 1));
	host = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	back = malloc(BYTES);
	if (host == MAP_FAILED || !back)
		bail("no memory");

	CU(cuMemHostRegister(host, BYTES, 0));
	GIVES(cuMemHostRegister(host, BYTES, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "register a second time");
	CU(cuMemHostRegister(back, BYTES, CU_MEMHOSTREGISTER_PORTABLE));
	for (unsigned int i = 0; i < WORDS; i++)
		host[i] = i * 3;
	CU(cuMemcpyHtoDAsync(d, host, BYTES, stream));
	CU(cuMemcpyDtoHAsync(back, d, BYTES, stream));
	CU(cuStreamSynchronize(stream));
	n = wrong(back, 0);
	ok(!n, "there and back: %u wrong", n);

	/* The stream stands still; the copy into our memory is asked for and must not hold us up. */
	memset(back, 0, BYTES);
	if (getenv("VGPU_SYNC"))	/* every call waits then, so that nobody could open the gate */
		CU(cuMemsetD32(gate, 1, 1));
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuMemcpyDtoHAsync(back, d, BYTES, stream));
	ok(getenv("VGPU_SYNC") || (cuStreamQuery(stream) == CUDA_ERROR_NOT_READY && !back[1]),
	   "a copy out of a stream that stands still does not wait");
	CU(cuStreamWriteValue32(other, gate, 1, 0));
	CU(cuStreamSynchronize(stream));
	n = wrong(back, 0);
	ok(!n, "and is done when the stream is: %u wrong", n);

	/* Copy out, let a function change it, copy in: in one go. */
	CU(cuMemcpyDtoHAsync(back, d, BYTES, stream));
	CU(cuLaunchHostFunc(stream, add_one, back));
	CU(cuMemcpyHtoDAsync(d, back, BYTES, stream));
	CU(cuLaunchHostFunc(stream, add_one, back));
	CU(cuMemcpyDtoHAsync(host, d, BYTES, stream));
	CU(cuStreamSynchronize(stream));
	n = wrong(host, 1);
	ok(!n, "a copy in sees what a function before it wrote: %u wrong", n);
	n = wrong(back, 2);
	ok(!n, "and not what one behind it writes: %u wrong", n);

	in_turn(d, host, back);
	beside(d, back);
	for (unsigned int i = 0; i < WORDS; i++)
		host[i] = i * 3 + 1;
	CU(cuMemcpyHtoDAsync(d, host, BYTES, stream));
	CU(cuMemcpyDtoHAsync(back, d, BYTES, stream));
	GIVES(cuMemHostUnregister(host + 8), CUDA_ERROR_INVALID_VALUE, "unregister from the middle on");
	CU(cuMemHostUnregister(back));
	CU(cuMemHostUnregister(host));
	n = wrong(back, 1);
	ok(!n, "a copy under way ends before its memory is unregistered: %u wrong", n);
	GIVES(cuMemHostUnregister(host), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "unregister a second time");
	if (!counts_apart())	/* which takes any address that is none of its own */
		nowhere();
	free(back);
	CU(cuMemFree(d));
	CU(cuMemFree(gate));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
