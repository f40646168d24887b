// SPDX-License-Identifier: Apache-2.0
/* As much pinned memory as there may be, with hardly a page touched: the last of it is as good as the first. */
#include <stdint.h>
#include <unistd.h>

#include "driver.h"

static const char ptx[] = ".version 8.0\n.target sm_75\n.address_size 64\n" PTX_ADD;

enum {
	MIB = 1 << 20,
	SIZE = 16 * MIB,	/* four in each part that the arena grows by in the end */
	MOST = 1024,
	LAST = 24,		/* buffers that are looked at */
};

static uint32_t *buffers[MOST];

static void write_late(void *p)
{
	usleep(50000);
	*(uint32_t *)p = 0x600d;
}

static bool kernels_reach(CUfunction add, uint32_t *p)
{
	CUdeviceptr where;
	uint32_t value = 5;
	void *params[] = { &where, &value };

	CU(cuMemHostGetDevicePointer(&where, p, 0));
	*p = 37;
	return cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL) == CUDA_SUCCESS &&
	       cuCtxSynchronize() == CUDA_SUCCESS && *p == 42;
}

/* A copy that is queued before @p has what it is to copy. */
static bool copied_in_order(uint32_t *p)
{
	CUdeviceptr mem;
	uint32_t got = 0;
	CUstream s;

	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&mem, 4));
	*p = 0xbad;
	CU(cuLaunchHostFunc(s, write_late, p));
	CU(cuMemcpyHtoDAsync(mem, p, 4, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(&got, mem, 4));
	CU(cuMemFree(mem));
	CU(cuStreamDestroy(s));
	return got == 0x600d;
}

int main(void)
{
	int n = 0, reached = 0;
	CUmodule module;
	CUfunction add;
	CUresult r;

	primary_context(NULL);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	do
		r = cuMemHostAlloc((void **)&buffers[n], SIZE, 0);
	while (r == CUDA_SUCCESS && ++n < MOST);
	ok(n > LAST && (n == MOST || r == CUDA_ERROR_OUT_OF_MEMORY), "%d MiB of pinned memory", n * (SIZE / MIB));
	if (n <= LAST)
		bail("that is too little to look at");
	ok(copied_in_order(buffers[n - 1]), "copies from the last of it are made when it is their turn");
	for (int i = n - LAST; i < n; i++)
		reached += kernels_reach(add, buffers[i]);
	ok(reached == LAST, "kernels reach it: %d of the last %d buffers", reached, LAST);
	while (n--)
		CU(cuMemFreeHost(buffers[n]));
	CU(cuModuleUnload(module));
	CU(cuDevicePrimaryCtxRelease(0));
	return tap_done();
}
