// SPDX-License-Identifier: Apache-2.0
/* Errors are told, at once where they can be; none does harm; a kernel's fault sticks to its context and no other. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../softgpu.h"
#include "tap.h"

static const char ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n"
	".visible .global .align 4 .u32 counter = 5;\n"
	".visible .entry store(.param .u64 p, .param .u32 v)\n"
	"{\n"
	"	.reg .b32 %r<2>;\n"
	"	.reg .b64 %rd<2>;\n"
	"	ld.param.u64 %rd1, [p];\n"
	"	ld.param.u32 %r1, [v];\n"
	"	st.u32 [%rd1], %r1;\n"
	"	ret;\n"
	"}\n"
	".visible .entry bounded()\n"
	".maxntid 64, 1, 1\n"
	"{\n"
	"	.shared .align 4 .b8 s[1024];\n"
	"	ret;\n"
	"}\n";

static void without_context(void)
{
	CUcontext c = (CUcontext)1;
	CUdeviceptr p;
	int n;

	ok(cuDeviceGetCount(&n) == CUDA_ERROR_NOT_INITIALIZED && cuMemAlloc_v2(&p, 1) == CUDA_ERROR_NOT_INITIALIZED &&
	   cuCtxGetCurrent(&c) == CUDA_ERROR_NOT_INITIALIZED, "nothing works before cuInit");
	ok(cuInit(1) == CUDA_ERROR_INVALID_VALUE, "cuInit knows no flags");
	must(cuInit(0));
	must(cuInit(0));
	ok(cuMemAlloc_v2(&p, 1) == CUDA_ERROR_INVALID_CONTEXT, "no memory without a context");
	must(cuDeviceGetCount(&n));
	ok(n == 2, "SOFTGPU_DEVICES=2");
	ok(cuDeviceGet(&n, 2) == CUDA_ERROR_INVALID_DEVICE && cuDeviceGet(&n, -1) == CUDA_ERROR_INVALID_DEVICE,
	   "unknown devices");
	ok(cuDevicePrimaryCtxRelease_v2(0) == CUDA_ERROR_INVALID_CONTEXT, "release of what nobody retains");
	ok(cuCtxSetCurrent((CUcontext)&n) == CUDA_ERROR_INVALID_CONTEXT, "a context that is none");
}

static void devices(void)
{
	CUuuid a, b;
	int ids[2], v, wrong = 0;

	must(cuDeviceGetUuid_v2(&a, 0));
	must(cuDeviceGetUuid_v2(&b, 1));
	must(cuDeviceGetAttribute(&ids[0], CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 0));
	must(cuDeviceGetAttribute(&ids[1], CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1));
	ok(memcmp(&a, &b, 16) && ids[0] != ids[1], "devices differ in UUID and PCI address");
	for (int i = 1; i < CU_DEVICE_ATTRIBUTE_MAX; i++)
		wrong += cuDeviceGetAttribute(&v, (CUdevice_attribute)i, 1) != CUDA_SUCCESS;
	ok(!wrong, "every attribute is answered");
	ok(cuDeviceGetAttribute(&v, (CUdevice_attribute)100000, 0) == CUDA_ERROR_INVALID_VALUE, "but no other");
}

static void handles(void)
{
	char junk[512] = "";
	CUstream s;
	CUevent ev;
	CUmodule m;
	CUfunction f;
	int v;

	must(cuStreamCreate(&s, 0));
	must(cuEventCreate(&ev, 0));
	must(cuModuleLoadData(&m, ptx));
	must(cuModuleGetFunction(&f, m, "store"));
	ok(cuStreamSynchronize((CUstream)junk) == CUDA_ERROR_INVALID_HANDLE &&
	   cuStreamSynchronize((CUstream)((char *)s + 8)) == CUDA_ERROR_INVALID_HANDLE &&
	   cuStreamSynchronize((CUstream)ev) == CUDA_ERROR_INVALID_HANDLE, "streams that are none");
	ok(cuEventQuery((CUevent)s) == CUDA_ERROR_INVALID_HANDLE && cuEventQuery(NULL) == CUDA_ERROR_INVALID_HANDLE,
	   "events that are none");
	ok(cuModuleUnload((CUmodule)f) == CUDA_ERROR_INVALID_HANDLE && cuModuleUnload(NULL) == CUDA_ERROR_INVALID_HANDLE &&
	   cuLibraryUnload((CUlibrary)m) == CUDA_ERROR_INVALID_HANDLE, "modules that are none");
	ok(cuFuncGetAttribute(&v, 0, (CUfunction)m) == CUDA_ERROR_INVALID_HANDLE, "functions that are none");
	must(cuStreamDestroy_v2(s));
	must(cuEventDestroy_v2(ev));
	must(cuModuleUnload(m));
	ok(cuStreamDestroy_v2(s) == CUDA_ERROR_INVALID_HANDLE && cuEventDestroy_v2(ev) == CUDA_ERROR_INVALID_HANDLE &&
	   cuModuleUnload(m) == CUDA_ERROR_INVALID_HANDLE && cuFuncGetAttribute(&v, 0, f) == CUDA_ERROR_INVALID_HANDLE,
	   "what is destroyed stays so");
}

static void launches(void)
{
	unsigned int value = 7, got = 0;
	CUdeviceptr d;
	void *params[] = { &d, &value }, *bad_extra[] = { (void *)99, NULL, CU_LAUNCH_PARAM_END };
	size_t size = 4, offset;
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, &d, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END };
	CUfunction f, bounded;
	CUmodule m;
	int v;

	must(cuMemAlloc_v2(&d, 4));
	must(cuModuleLoadData(&m, ptx));
	must(cuModuleGetFunction(&f, m, "store"));
	must(cuModuleGetFunction(&bounded, m, "bounded"));
	ok(cuLaunchKernel(f, 1, 1, 1, 1025, 1, 1, 0, NULL, params, NULL) == CUDA_ERROR_INVALID_VALUE &&
	   cuLaunchKernel(f, 0, 1, 1, 1, 1, 1, 0, NULL, params, NULL) == CUDA_ERROR_INVALID_VALUE &&
	   cuLaunchKernel(f, 1, 65536, 1, 1, 1, 1, 0, NULL, params, NULL) == CUDA_ERROR_INVALID_VALUE &&
	   cuLaunchKernel(f, 1, 1, 1, 1, 1, 65, 0, NULL, params, NULL) == CUDA_ERROR_INVALID_VALUE &&
	   cuLaunchKernel(f, 1, 1, 1, 0x80000000u, 2, 1, 0, NULL, params, NULL) == CUDA_ERROR_INVALID_VALUE,
	   "bad launch dimensions, at once");
	ok(cuLaunchKernel(bounded, 1, 1, 1, 65, 1, 1, 0, NULL, NULL, NULL) == CUDA_ERROR_INVALID_VALUE,
	   "more threads than the kernel is made for");
	ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 49153, NULL, params, NULL) == CUDA_ERROR_INVALID_VALUE &&
	   cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 101377) == CUDA_ERROR_INVALID_VALUE,
	   "more shared memory than there is");
	ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) == CUDA_ERROR_INVALID_VALUE &&
	   cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, extra) == CUDA_ERROR_INVALID_VALUE &&
	   cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, bad_extra) == CUDA_ERROR_INVALID_VALUE,
	   "no parameters, both kinds, nonsense");
	ok(cuLaunchCooperativeKernel(f, 100000, 1, 1, 1024, 1, 1, 0, NULL, params) == CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
	   "a cooperative grid that does not fit");
	must(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	must(cuMemcpyDtoH_v2(&got, d, 4));
	ok(got == 7, "and after all these a good launch works");

	must(cuFuncGetParamInfo(f, 1, &offset, &size));
	ok(offset == 8 && size == 4 && cuFuncGetParamInfo(f, 2, &offset, &size) == CUDA_ERROR_INVALID_VALUE,
	   "parameters are told");
	must(cuFuncGetAttribute(&v, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, bounded));
	ok(v == 1024, "static shared memory is told");
	must(cuModuleUnload(m));
	must(cuMemFree_v2(d));
}

static void images(void)
{
	static const char broken[] = ".version 7.0\n.target sm_75\n.address_size 64\n"
				     ".visible .entry f()\n{\n\tnonsense.u32 x;\n}\n";
	char log[256] = "", tiny[8];
	CUjit_option options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { log, (void *)sizeof(log) }, *small[] = { tiny, (void *)sizeof(tiny) };
	CUmodule m;
	CUlibrary l;

	ok(cuModuleLoadDataEx(&m, broken, 2, options, values) == CUDA_ERROR_INVALID_PTX && strstr(log, "6"),
	   "bad PTX, with its line: %s", log[0] ? "told" : "no log");
	ok((size_t)values[1] > 0 && (size_t)values[1] < sizeof(log), "the log's length comes back");
	memset(tiny, 1, sizeof(tiny));
	ok(cuModuleLoadDataEx(&m, broken, 2, options, small) == CUDA_ERROR_INVALID_PTX && memchr(tiny, 0, sizeof(tiny)),
	   "a log that is too small is cut");
	ok(cuModuleLoadData(&m, "no image at all") == CUDA_ERROR_INVALID_IMAGE, "no image");
	ok(cuModuleLoadData(&m, NULL) == CUDA_ERROR_INVALID_VALUE, "nothing");
	ok(cuModuleLoadDataEx(&m, ptx, 1, NULL, NULL) == CUDA_ERROR_INVALID_VALUE, "options without options");
	ok(cuLibraryLoadData(&l, broken, options, values, 2, NULL, NULL, 0) == CUDA_ERROR_INVALID_PTX, "a library likewise");
	ok(cuModuleLoad(&m, "/nonexistent") == CUDA_ERROR_FILE_NOT_FOUND, "no file");
}

/* One library in two contexts: each has its own variables. */
static void library_contexts(CUcontext first)
{
	unsigned int value = 77, got[2] = { 0 };
	CUdeviceptr g[2];
	CUcontext second;
	CUlibrary l;
	CUkernel k, again;
	size_t size;

	must(cuLibraryLoadData(&l, ptx, NULL, NULL, 0, NULL, NULL, 0));
	must(cuLibraryGetKernel(&k, l, "store"));
	must(cuLibraryGetKernel(&again, l, "store"));
	ok(k == again && cuLibraryGetKernel(&again, l, "nothing") == CUDA_ERROR_NOT_FOUND, "one handle for one kernel");
	must(cuLibraryGetGlobal(&g[0], &size, l, "counter"));
	must(cuCtxCreate_v2(&second, 0, 1));
	must(cuLibraryGetGlobal(&g[1], &size, l, "counter"));
	{
		void *params[] = { &g[1], &value };

		must(cuLaunchKernel((CUfunction)k, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	}
	must(cuMemcpyDtoH_v2(&got[1], g[1], 4));
	must(cuCtxSetCurrent(first));
	must(cuMemcpyDtoH_v2(&got[0], g[0], 4));
	ok(g[0] != g[1] && got[0] == 5 && got[1] == 77, "a library's variables are each context's own");
	must(cuCtxDestroy_v2(second));
	must(cuCtxSetCurrent(first));
	ok(cuMemcpyDtoH_v2(&got[1], g[1], 4) == CUDA_ERROR_INVALID_VALUE, "and end with it");
	must(cuLibraryUnload(l));
}

/* A library is there when all contexts have ended that it was in. */
static void library_without_contexts(CUcontext first)
{
	unsigned int value = 3, got = 0, count = 0;
	CUcontext only;
	CUdeviceptr d;
	CUlibrary l;
	CUkernel k;
	size_t size;

	must(cuCtxCreate_v2(&only, 0, 1));
	must(cuLibraryLoadData(&l, ptx, NULL, NULL, 0, NULL, NULL, 0));
	must(cuCtxDestroy_v2(only));
	must(cuCtxSetCurrent(NULL));
	ok(cuLibraryGetKernelCount(&count, l) == CUDA_SUCCESS && count, "its kernels are counted");
	ok(cuLibraryGetKernel(&k, l, "store") == CUDA_SUCCESS, "and found, without a context");
	must(cuCtxCreate_v2(&only, 0, 1));
	must(cuLibraryGetGlobal(&d, &size, l, "counter"));
	{
		void *params[] = { &d, &value };

		must(cuLaunchKernel((CUfunction)k, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	}
	must(cuMemcpyDtoH_v2(&got, d, 4));
	ok(got == 3, "and run in the next one");
	must(cuCtxDestroy_v2(only));
	must(cuCtxSetCurrent(first));
	must(cuLibraryUnload(l));
}

static void sticky(CUcontext good)
{
	unsigned int value = 1, got = 0;
	CUdeviceptr wild = 0x123456789000, d;
	void *params[] = { &wild, &value };
	CUcontext bad, current;
	CUstream s;
	CUfunction f;
	CUmodule m;

	must(cuCtxCreate_v2(&bad, 0, 0));
	must(cuStreamCreate(&s, 0));
	must(cuMemAlloc_v2(&d, 4));
	must(cuModuleLoadData(&m, ptx));
	must(cuModuleGetFunction(&f, m, "store"));
	ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, params, NULL) == CUDA_SUCCESS, "the launch itself");
	ok(cuStreamSynchronize(s) == CUDA_ERROR_ILLEGAL_ADDRESS, "a wild store is told at the next synchronisation");
	ok(cuMemAlloc_v2(&d, 4) == CUDA_ERROR_ILLEGAL_ADDRESS && cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS &&
	   cuMemcpyDtoH_v2(&got, d, 4) == CUDA_ERROR_ILLEGAL_ADDRESS && cuMemFree_v2(d) == CUDA_ERROR_ILLEGAL_ADDRESS &&
	   cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, params, NULL) == CUDA_ERROR_ILLEGAL_ADDRESS, "and by every call after it");
	must(cuCtxPushCurrent_v2(good));
	must(cuMemAlloc_v2(&d, 4));
	must(cuMemFree_v2(d));
	must(cuCtxPopCurrent_v2(&current));
	ok(current == good, "another context goes on");
	must(cuCtxDestroy_v2(bad));
	ok(cuStreamSynchronize(s) == CUDA_ERROR_INVALID_HANDLE, "the broken one is gone with all it had");
	must(cuCtxSetCurrent(good));
	/* A primary context is whole again after a reset. */
	must(cuModuleLoadData(&m, ptx));
	must(cuModuleGetFunction(&f, m, "store"));
	must(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	ok(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS, "the primary context broken too");
	must(cuDevicePrimaryCtxReset_v2(0));
	ok(cuMemAlloc_v2(&d, 4) == CUDA_ERROR_CONTEXT_IS_DESTROYED, "reset: it is gone");
	must(cuDevicePrimaryCtxRetain(&current, 0));
	ok(current == good && cuMemAlloc_v2(&d, 4) == CUDA_SUCCESS && cuCtxSynchronize() == CUDA_SUCCESS,
	   "and retained again it works");
}

static void forked(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		CUdeviceptr p;

		_exit(cuMemAlloc_v2(&p, 1) == CUDA_ERROR_NOT_INITIALIZED && cuInit(0) == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	ok(status == 0, "a forked child is told that it has no device");
}

int main(void)
{
	CUcontext c;

	alarm(60);
	setenv("SOFTGPU_DEVICES", "2", 1);
	without_context();
	must(cuDevicePrimaryCtxRetain(&c, 0));
	must(cuCtxSetCurrent(c));
	devices();
	handles();
	launches();
	images();
	library_contexts(c);
	library_without_contexts(c);
	sticky(c);
	forked();
	must(cuDevicePrimaryCtxRelease_v2(0));
	return tap_done();
}
