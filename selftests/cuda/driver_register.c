// SPDX-License-Identifier: Apache-2.0
/* cuMemHostRegister: copies from and to the program's own memory that do not wait, and see what is there in their turn. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "driver.h"

#define WORDS	(1u << 19)
#define BYTES	(WORDS * 4u)

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

int main(void)
{
	uint32_t *host, *back;
	CUstream stream, other;
	CUdeviceptr d, gate;
	unsigned int n;
	CUcontext ctx;
	CUdevice dev;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
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

	CU(cuMemcpyDtoHAsync(back, d, BYTES, stream));
	CU(cuMemHostUnregister(back));
	CU(cuMemHostUnregister(host));
	n = wrong(back, 1);
	ok(!n, "a copy under way ends before its memory is unregistered: %u wrong", n);
	GIVES(cuMemHostUnregister(host), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "unregister a second time");
	free(back);
	CU(cuMemFree(d));
	CU(cuMemFree(gate));
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
