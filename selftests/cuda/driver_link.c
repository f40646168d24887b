// SPDX-License-Identifier: Apache-2.0
/* The linker: two texts that need each other, logs, and what is wrong said at the input it is wrong with. */
#include <unistd.h>

#include "driver.h"

static char caller[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".extern .func (.param .b32 r) triple(.param .b32 x);\n"
	".visible .entry go(.param .u64 where)\n"
	"{\n"
	"	.reg .b64 %rd<2>;\n"
	"	.reg .b32 %r<3>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.global.u32 %r1, [%rd1];\n"
	"	{\n"
	"	.param .b32 x;\n"
	"	.param .b32 r;\n"
	"	st.param.b32 [x], %r1;\n"
	"	call.uni (r), triple, (x);\n"
	"	ld.param.b32 %r2, [r];\n"
	"	}\n"
	"	st.global.u32 [%rd1], %r2;\n"
	"	ret;\n"
	"}\n";

static char callee[] =
	"// a comment before the header\n"
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .func (.param .b32 r) triple(.param .b32 x)\n"
	"{\n"
	"	.reg .b32 %r<3>;\n"
	"	ld.param.b32 %r1, [x];\n"
	"	mul.lo.s32 %r2, %r1, 3;\n"
	"	st.param.b32 [r], %r2;\n"
	"	ret;\n"
	"}\n";

static char wrong[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	".visible .entry bad()\n"
	"{\n"
	"	nonsense.u32 %r1;\n"
	"	ret;\n"
	"}\n";

int main(void)
{
	char error[2000] = "?", info[500] = "?", path[] = "/tmp/driver_link.XXXXXX";
	CUjit_option options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER,
				   CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { error, (void *)sizeof(error), info, (void *)sizeof(info) };
	unsigned int value = 14;
	CUlinkState link;
	CUdeviceptr d;
	CUfunction f;
	CUmodule module;
	CUcontext ctx;
	CUdevice dev;
	size_t size = 0;
	void *image = NULL, *params[] = { &d };
	CUresult r;
	int fd;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	GIVES(cuLinkCreate(0, NULL, NULL, &link), CUDA_ERROR_INVALID_CONTEXT, "a link without a context");
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));

	CU(cuLinkCreate(4, options, values, &link));
	CU(cuLinkAddData(link, CU_JIT_INPUT_PTX, caller, sizeof(caller), "caller", 0, NULL, NULL));
	fd = mkstemp(path);
	if (fd < 0 || write(fd, callee, sizeof(callee) - 1) != sizeof(callee) - 1)
		bail("cannot write %s", path);
	CU(cuLinkAddFile(link, CU_JIT_INPUT_PTX, path, 0, NULL, NULL));
	close(fd);
	unlink(path);
	CU(cuLinkComplete(link, &image, &size));
	ok(image && size > 100, "two inputs give an image of %zu bytes", size);
	CU(cuModuleLoadData(&module, image));
	CU(cuLinkDestroy(link));
	CU(cuModuleGetFunction(&f, module, "go"));
	CU(cuMemAlloc(&d, 4));
	CU(cuMemcpyHtoD(d, &value, 4));
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH(&value, d, 4));
	ok(value == 42, "the kernel of one calls the function of the other: %u", value);
	CU(cuModuleUnload(module));
	CU(cuMemFree(d));

	values[1] = (void *)sizeof(error);	/* they say how much was used now */
	values[3] = (void *)sizeof(info);
	CU(cuLinkCreate(4, options, values, &link));
	r = cuLinkAddData(link, CU_JIT_INPUT_PTX, wrong, sizeof(wrong), "wrong", 0, NULL, NULL);
	ok(r == CUDA_ERROR_INVALID_PTX && strlen(error) > 3, "a wrong input: %s: %.60s", cu_name(r), error);
	CU(cuLinkDestroy(link));

	values[1] = (void *)sizeof(error);
	values[3] = (void *)sizeof(info);
	CU(cuLinkCreate(4, options, values, &link));
	CU(cuLinkAddData(link, CU_JIT_INPUT_PTX, caller, sizeof(caller), "caller", 0, NULL, NULL));
	GIVES(cuLinkAddFile(link, CU_JIT_INPUT_PTX, "/nonexistent/x.ptx", 0, NULL, NULL), CUDA_ERROR_FILE_NOT_FOUND,
	      "a file that is not there");
	r = cuLinkComplete(link, &image, &size);
	ok(r != CUDA_SUCCESS && strstr(error, "triple"), "a function that nobody defines: %s: %.60s", cu_name(r), error);
	CU(cuLinkDestroy(link));
	OURS(cuLinkDestroy(link), CUDA_ERROR_INVALID_HANDLE, "destroy a second time");
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
