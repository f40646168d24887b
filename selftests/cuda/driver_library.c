// SPDX-License-Identifier: Apache-2.0
/* cuLibrary*, cuKernel*, cuGetProcAddress: how newer programs load code and find functions. */
#include <pthread.h>

#include "driver.h"

static const char ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .global .align 8 .u64 total;\n"
	".visible .entry add_all(.param .u64 value)\n"
	"{\n"
	"	.reg .b64 %rd<3>;\n"
	"	ld.param.u64 %rd1, [value];\n"
	"	atom.global.add.u64 %rd2, [total], %rd1;\n"
	"	ret;\n"
	"}\n"
	".visible .entry sized(.param .align 8 .b8 s[24], .param .u8 c)\n"
	"{\n"
	"	ret;\n"
	"}\n";

static const char big_ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .global .align 8 .b8 big[8388608];\n";

static size_t available(void)
{
	size_t available, total;

	CU(cuMemGetInfo(&available, &total));
	return available;
}

/* Loaded with no context current; its variables count as soon as they are there. */
static void without_context(CUcontext ctx)
{
	size_t before = available(), taken;
	CUlibrary library;

	CU(cuCtxSetCurrent(NULL));
	CU(cuLibraryLoadData(&library, big_ptx, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuCtxSetCurrent(ctx));
	taken = before - available();
	if (ON_SOFTWARE())
		ok(taken >= 8 << 20, "a library that is loaded without a context counts: %zu bytes", taken);
	CU(cuLibraryUnload(library));
	if (ON_SOFTWARE())
		ok(available() == before, "until it is unloaded");
}

/*
 * One thread unloads libraries full of kernels while another one makes objects: what the kernels' handles were may be
 * theirs only when the unloading is on its way.
 */
#define KERNELS	400

static CUresult made_all;
static volatile bool over;

static void *make_events(void *ctx)
{
	CUresult r = cuCtxSetCurrent(ctx);
	CUevent e[64];

	while (r == CUDA_SUCCESS && !over) {
		for (int i = 0; i < 64 && r == CUDA_SUCCESS; i++)
			r = cuEventCreate(&e[i], CU_EVENT_DISABLE_TIMING);
		for (int i = 0; i < 64 && r == CUDA_SUCCESS; i++)
			r = cuEventDestroy(e[i]);
	}
	made_all = r;
	return NULL;
}

static void unloading(CUcontext ctx)
{
	char *text = malloc(KERNELS * 64 + 64), name[16];
	size_t at = sprintf(text, ".version 7.0\n.target sm_75\n.address_size 64\n");
	CUlibrary library;
	CUkernel kernel;
	pthread_t t;

	for (int i = 0; i < KERNELS; i++)
		at += sprintf(text + at, ".visible .entry k%d()\n{\n\tret;\n}\n", i);
	pthread_create(&t, NULL, make_events, ctx);
	for (int round = 0; round < (in_pod() ? 1 : 4); round++) {
		CU(cuLibraryLoadData(&library, text, NULL, NULL, 0, NULL, NULL, 0));
		for (int i = 0; i < KERNELS; i++) {
			sprintf(name, "k%d", i);
			CU(cuLibraryGetKernel(&kernel, library, name));
		}
		CU(cuLibraryUnload(library));
	}
	over = true;
	pthread_join(t, NULL);
	GIVES(made_all, CUDA_SUCCESS, "objects are made while libraries are unloaded");
	GIVES(cuCtxSynchronize(), CUDA_SUCCESS, "and all is well");
	free(text);
}

int main(void)
{
	unsigned long long value = 7, total = 0;
	void *params[] = { &value };
	CUdriverProcAddressQueryResult found;
	CUresult (*get_version)(int *) = NULL;
	size_t offset, size;
	CUdeviceptr global, none;
	CUlibrary library;
	CUfunction f, g;
	CUkernel kernel, sized;
	CUmodule module;
	CUcontext ctx;
	CUdevice dev;
	unsigned int count = 0;
	int driver = 0, threads;
	const char *name = NULL;

	ctx = primary_context(&dev);
	without_context(ctx);

	CU(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetKernel(&kernel, library, "add_all"));
	CU(cuLibraryGetKernel(&sized, library, "sized"));
	GIVES(cuLibraryGetKernel(&sized, library, "nothing"), CUDA_ERROR_NOT_FOUND, "a kernel that is not there");
	CU(cuLibraryGetKernel(&sized, library, "sized"));
	CU(cuLibraryGetKernelCount(&count, library));
	ok(count == 2, "%u kernels in the library", count);
	CU(cuKernelGetFunction(&f, kernel));
	CU(cuKernelGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, dev));
	ok(threads >= 256, "a kernel's attribute: up to %d threads", threads);
	CU(cuKernelGetName(&name, kernel));
	ok(name && !strcmp(name, "add_all"), "a kernel knows its name");
	CU(cuKernelGetParamInfo(sized, 0, &offset, &size));
	ok(offset == 0 && size == 24, "first parameter: %zu bytes at %zu", size, offset);
	CU(cuKernelGetParamInfo(sized, 1, &offset, &size));
	ok(offset == 24 && size == 1, "second parameter: %zu bytes at %zu", size, offset);
	GIVES(cuKernelGetParamInfo(sized, 2, &offset, &size), CUDA_ERROR_INVALID_VALUE, "a third parameter");

	CU(cuLaunchKernel((CUfunction)kernel, 10, 1, 1, 32, 1, 1, 0, NULL, params, NULL));
	CU(cuLaunchKernel(f, 1, 1, 1, 5, 1, 1, 0, NULL, params, NULL));
	GIVES(cuLibraryGetGlobal(&none, &size, library, "nothing"), CUDA_ERROR_NOT_FOUND, "a variable it has not");
	GIVES(cuLibraryGetManaged(&none, &size, library, "nothing"), CUDA_ERROR_NOT_FOUND, "a managed one");
	CU(cuLibraryGetGlobal(&global, &size, library, "total"));
	CU(cuMemcpyDtoH(&total, global, sizeof(total)));
	ok(size == 8 && total == 325 * 7, "launched by kernel and by function: %llu", total);
	CU(cuLibraryGetModule(&module, library));
	CU(cuModuleGetFunction(&g, module, "add_all"));
	CU(cuLaunchKernel(g, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH(&total, global, sizeof(total)));
	ok(total == 326 * 7, "launched by way of the library's module");
	CU(cuLibraryUnload(library));
	GIVES(cuLaunchKernel((CUfunction)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL), CUDA_ERROR_INVALID_HANDLE,
	      "a kernel of an unloaded library");
	OURS(cuLibraryUnload(library), CUDA_ERROR_INVALID_HANDLE, "unload a second time");

	CU(cuGetProcAddress("cuDriverGetVersion", (void **)&get_version, 13000, CU_GET_PROC_ADDRESS_DEFAULT, &found));
	ok(get_version && !get_version(&driver) && driver >= 13000 && found == CU_GET_PROC_ADDRESS_SUCCESS,
	   "cuGetProcAddress finds cuDriverGetVersion: %d", driver);
	ok(cuGetProcAddress("cuNoSuchThing", (void **)&get_version, 13000, CU_GET_PROC_ADDRESS_DEFAULT, &found) !=
		   CUDA_SUCCESS || found == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, "and does not find what is not there");
	unloading(ctx);
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
