// SPDX-License-Identifier: Apache-2.0
/* Registered memory that kernels reach: both sides see what either writes, whatever lies beside it stays, and so on. */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

/* p[i] = p[i] * 2 + 1 */
static const char ptx[] =
	".version 8.0\n.target sm_75\n.address_size 64\n"
	".visible .entry step(.param .u64 p, .param .u32 n)\n{\n"
	"	.reg .pred %p<2>;\n	.reg .b32 %r<8>;\n	.reg .b64 %rd<4>;\n"
	"	ld.param.u64 %rd1, [p];\n	ld.param.u32 %r1, [n];\n"
	"	mov.u32 %r2, %ctaid.x;\n	mov.u32 %r3, %ntid.x;\n	mov.u32 %r4, %tid.x;\n"
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n	setp.ge.u32 %p1, %r5, %r1;\n	@%p1 bra $end;\n"
	"	mul.wide.u32 %rd2, %r5, 4;\n	add.u64 %rd3, %rd1, %rd2;\n	ld.global.u32 %r6, [%rd3];\n"
	"	shl.b32 %r6, %r6, 1;\n	add.u32 %r6, %r6, 1;\n	st.global.u32 [%rd3], %r6;\n$end:\n	ret;\n}\n";

enum { N = 50000 };

static CUfunction step;

static void launch(CUdeviceptr p, unsigned int n)
{
	void *params[] = { &p, &n };

	CU(cuLaunchKernel(step, (n + 127) / 128, 1, 1, 128, 1, 1, 0, NULL, params, NULL));
	CU(cuCtxSynchronize());
}

static void shared_sight(uint32_t *p, const char *what, unsigned int flags)
{
	CUdeviceptr device, again;
	int wrong = 0, value = -1;
	CUdeviceptr mem;
	unsigned int mapped = 0;

	for (uint32_t i = 0; i < N; i++)
		p[i] = i;
	CU(cuMemHostRegister(p, N * 4, flags));
	CU(cuMemHostGetDevicePointer(&device, p, 0));
	CU(cuMemHostGetDevicePointer(&again, p + 100, 0));
	ok(again == device + 400, "%s: a device address for every byte", what);
	for (uint32_t i = 0; i < N; i++)
		wrong += p[i] != i;
	launch(device, N);
	for (uint32_t i = 0; i < N; i++)
		wrong += p[i] != i * 2 + 1;
	for (uint32_t i = 0; i < N; i++)
		p[i] = i + 7;
	launch(device, N);
	for (uint32_t i = 0; i < N; i++)
		wrong += p[i] != (i + 7) * 2 + 1;
	ok(!wrong, "%s: kernel and program see each other's values: %d wrong", what, wrong);

	CU(cuMemAlloc(&mem, N * 4));
	CU(cuMemcpyHtoDAsync(mem, p, N * 4, NULL));
	launch(mem, N);
	CU(cuMemcpyDtoHAsync(p, mem, N * 4, NULL));
	CU(cuCtxSynchronize());
	ok(p[10] == ((10 + 7) * 2 + 1) * 2 + 1, "%s: copies from and to it", what);
	CU(cuMemcpyDtoD(mem, device, 400));
	CU(cuMemFree(mem));
	CU(cuPointerGetAttribute(&again, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, (CUdeviceptr)(uintptr_t)(p + 3)));
	CU(cuPointerGetAttribute(&mapped, CU_POINTER_ATTRIBUTE_MAPPED, (CUdeviceptr)(uintptr_t)p));
	ok(again == device + 12 && mapped, "%s: its attributes say so", what);
	if (!fork()) {
		/* The child's memory is its own. */
		bool good = p[10] == 71;

		p[10] = 1;
		_exit(!good);
	}
	wait(&value);
	ok(!value && p[10] == 71, "%s: a child has pages of its own", what);
	CU(cuMemHostUnregister(p));
	ok(p[10] == 71 && p[N - 1] == ((N - 1 + 7) * 2 + 1) * 2 + 1, "%s: what is in it stays", what);
	GIVES(cuMemHostGetDevicePointer(&again, p, 0), CUDA_ERROR_INVALID_VALUE, "the address of what is not registered any more");
}

int main(void)
{
	unsigned char *block;
	uint32_t *whole, *odd;
	int wrong = 0, own = 0;
	CUdeviceptr device;
	CUmodule module;
	char stack[16384];
	void *shared;

	primary_context(NULL);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&step, module, "step"));
	whole = mmap(NULL, N * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	shared_sight(whole, "whole pages", CU_MEMHOSTREGISTER_DEVICEMAP);
	shared_sight(whole, "asked for later", 0);

	/* In the middle of the heap, with neighbours on its first and last page. */
	block = malloc(N * 4 + 20000);
	memset(block, 0x77, N * 4 + 20000);
	odd = (uint32_t *)(block + 10004);
	shared_sight(odd, "an odd place", CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_PORTABLE);
	for (int i = 0; i < 20000; i++)
		wrong += block[i < 10004 ? i : N * 4 + i] != 0x77;
	ok(!wrong, "its neighbours on the same pages are as they were: %d wrong", wrong);
	free(block);

	CU(cuDeviceGetAttribute(&own, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 0));
	shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (own) {
		printf("# here every page can be reached where it is\n");
	} else {
		GIVES(cuMemHostRegister(stack, sizeof(stack), CU_MEMHOSTREGISTER_DEVICEMAP), CUDA_ERROR_NOT_SUPPORTED,
		      "pages of the stack cannot be replaced");
		GIVES(cuMemHostRegister(shared, 65536, CU_MEMHOSTREGISTER_DEVICEMAP), CUDA_ERROR_NOT_SUPPORTED,
		      "nor those that other processes have");
		CU(cuMemHostRegister(shared, 65536, 0));
		GIVES(cuMemHostGetDevicePointer(&device, shared, 0), CUDA_ERROR_NOT_SUPPORTED, "also when it is asked for later");
		CU(cuMemHostUnregister(shared));
	}
	GIVES(cuMemHostRegister(NULL, 4096, 0), CUDA_ERROR_INVALID_VALUE, "nothing");
	GIVES(cuMemHostRegister(whole, 0, 0), CUDA_ERROR_INVALID_VALUE, "no bytes");
	GIVES(cuMemHostUnregister(whole), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "what is not registered");
	CU(cuMemHostRegister(whole, 8192, CU_MEMHOSTREGISTER_DEVICEMAP));
	GIVES(cuMemHostRegister((char *)whole + 4096, 8192, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "half of it again");
	CU(cuMemHostUnregister(whole));
	munmap(whole, N * 4);
	munmap(shared, 65536);
	CU(cuModuleUnload(module));
	CU(cuDevicePrimaryCtxRelease(0));
	return tap_done();
}
