// SPDX-License-Identifier: Apache-2.0
/* The driver API with a kernel written in PTX: load it as text, launch it in every way there is. */
#include "driver.h"

static const char ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .global .align 4 .u32 offset = 1000;\n"
	"// x[i] = x[i] * factor + offset, for i < n\n"
	".visible .entry scale(.param .u64 x, .param .u32 factor, .param .u32 n)\n"
	"{\n"
	"	.reg .pred %p;\n"
	"	.reg .b32 %r<10>;\n"
	"	.reg .b64 %rd<5>;\n"
	"	ld.param.u64 %rd1, [x];\n"
	"	ld.param.u32 %r1, [factor];\n"
	"	ld.param.u32 %r2, [n];\n"
	"	mov.u32 %r3, %ctaid.x;\n"
	"	mov.u32 %r4, %ntid.x;\n"
	"	mov.u32 %r5, %tid.x;\n"
	"	mad.lo.s32 %r6, %r3, %r4, %r5;\n"
	"	setp.ge.u32 %p, %r6, %r2;\n"
	"	@%p bra done;\n"
	"	cvta.to.global.u64 %rd2, %rd1;\n"
	"	mul.wide.u32 %rd3, %r6, 4;\n"
	"	add.s64 %rd4, %rd2, %rd3;\n"
	"	ld.global.u32 %r7, [%rd4];\n"
	"	ld.global.u32 %r8, [offset];\n"
	"	mad.lo.s32 %r9, %r7, %r1, %r8;\n"
	"	st.global.u32 [%rd4], %r9;\n"
	"done:\n"
	"	ret;\n"
	"}\n";

#define N 1000

static CUdeviceptr data;
static unsigned int expect[N];

/* What a launch with this factor and offset must have made of the data. */
static void check(const char *how, unsigned int factor, unsigned int offset)
{
	unsigned int got[N], wrong = 0;

	CU(cuMemcpyDtoH(got, data, sizeof(got)));
	for (unsigned int i = 0; i < N; i++) {
		expect[i] = expect[i] * factor + offset;
		wrong += got[i] != expect[i];
	}
	ok(!wrong, "%s: %u of %d wrong", how, wrong, N);
}

static void launches(CUfunction f, CUstream stream)
{
	unsigned int factor = 3, n = N;
	void *params[] = { &data, &factor, &n };
	struct {
		CUdeviceptr x;
		unsigned int factor, n;
	} packed = { data, 5, N };
	size_t size = sizeof(packed);
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END };
	CUlaunchAttribute attribute = { .id = CU_LAUNCH_ATTRIBUTE_PRIORITY };
	CUlaunchConfig config = { .gridDimX = 8, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 128, .blockDimY = 1,
				  .blockDimZ = 1, .hStream = stream, .attrs = &attribute, .numAttrs = 1 };

	CU(cuLaunchKernel(f, 8, 1, 1, 128, 1, 1, 0, stream, params, NULL));
	CU(cuStreamSynchronize(stream));
	check("parameters by array", 3, 1000);
	CU(cuLaunchKernel(f, 4, 1, 1, 256, 1, 1, 0, stream, NULL, extra));
	CU(cuStreamSynchronize(stream));
	check("parameters by buffer", 5, 1000);
	factor = 7;
	CU(cuLaunchKernelEx(&config, f, params, NULL));
	CU(cuStreamSynchronize(stream));
	check("cuLaunchKernelEx", 7, 1000);

	GIVES(cuLaunchKernel(f, 1, 1, 1, 2000, 1, 1, 0, stream, params, NULL), CUDA_ERROR_INVALID_VALUE,
	      "too many threads in a block, at once");
	GIVES(cuLaunchKernel(f, 0, 1, 1, 32, 1, 1, 0, stream, params, NULL), CUDA_ERROR_INVALID_VALUE, "no blocks, at once");
	GIVES(cuLaunchKernel(NULL, 1, 1, 1, 32, 1, 1, 0, stream, params, NULL), CUDA_ERROR_INVALID_HANDLE,
	      "no function, at once");
	CU(cuLaunchKernel(f, 8, 1, 1, 128, 1, 1, 0, stream, params, NULL));
	CU(cuStreamSynchronize(stream));
	check("after refused launches", 7, 1000);
}

static void bad_ptx(void)
{
	static const char broken[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry f()\n{\n\tthis is not PTX;\n}\n";
	char log[1024] = "";
	CUjit_option options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { log, (void *)sizeof(log) };
	CUdeviceptr p;
	CUmodule module;
	CUfunction f;
	size_t bytes;

	GIVES(cuModuleLoadDataEx(&module, broken, 2, options, values), CUDA_ERROR_INVALID_PTX, "PTX with an error");
	ok(strstr(log, "6"), "the log names the line");
	printf("# log: %.*s\n", (int)strcspn(log, "\n"), log);
	CU(cuModuleLoadData(&module, ptx));
	GIVES(cuModuleGetFunction(&f, module, "nothing"), CUDA_ERROR_NOT_FOUND, "a function that is not there");
	GIVES(cuModuleGetGlobal(&p, &bytes, module, "nothing"), CUDA_ERROR_NOT_FOUND, "a variable that is not there");
	CU(cuModuleUnload(module));
}

int main(void)
{
	unsigned int host[N], thousand = 2000;
	int driver, devices, value, blocks;
	CUdeviceptr global;
	CUmodule module;
	CUcontext ctx, current;
	CUstream stream;
	CUfunction f;
	CUdevice dev;
	char name[256];
	size_t size;

	CU(cuInit(0));
	CU(cuDriverGetVersion(&driver));
	CU(cuDeviceGetCount(&devices));
	CU(cuDeviceGet(&dev, 0));
	CU(cuDeviceGetName(name, sizeof(name), dev));
	CU(cuDeviceTotalMem(&size, dev));
	printf("# driver API %d on %s (%d device(s)), %zu MiB\n", driver, name, devices, size >> 20);

	CU(cuCtxCreate(&ctx, NULL, 0, dev));
	CU(cuCtxGetCurrent(&current));
	ok(current == ctx, "a new context is current");
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&f, module, "scale"));
	CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
	ok(value >= 256, "the kernel takes up to %d threads in a block", value);
	CU(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 128, 0));
	ok(blocks >= 1, "%d blocks of 128 threads fit a multiprocessor", blocks);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&data, sizeof(host)));
	for (unsigned int i = 0; i < N; i++)
		expect[i] = host[i] = i * i;
	CU(cuMemcpyHtoD(data, host, sizeof(host)));
	launches(f, stream);

	CU(cuModuleGetGlobal(&global, &size, module, "offset"));
	ok(size == 4, "a global variable of %zu bytes", size);
	CU(cuMemcpyHtoD(global, &thousand, sizeof(thousand)));
	{
		unsigned int factor = 1, n = N;
		void *params[] = { &data, &factor, &n };

		CU(cuLaunchKernel(f, 8, 1, 1, 128, 1, 1, 0, NULL, params, NULL));
		CU(cuCtxSynchronize());
		check("a changed global variable, the default stream", 1, 2000);
	}
	bad_ptx();
	CU(cuMemFree(data));
	CU(cuStreamDestroy(stream));
	CU(cuModuleUnload(module));
	CU(cuCtxDestroy(ctx));
	return tap_done();
}
