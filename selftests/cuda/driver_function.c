// SPDX-License-Identifier: Apache-2.0
/* Images from memory and from files, what is in them, what can be asked of functions and kernels and set; occupancy. */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <stddef.h>
#include <unistd.h>

#include "driver.h"

#define PTX	".version 7.0\n.target sm_75\n.address_size 64\n"

static char ptx[] = PTX
	".visible .entry add(.param .u64 where, .param .u32 a, .param .u16 b)\n"
	"{\n"
	"	.reg .b64 %rd<2>;\n"
	"	.reg .b32 %r<4>;\n"
	"	.reg .b16 %h<2>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.param.u32 %r1, [a];\n"
	"	ld.param.u16 %h1, [b];\n"
	"	cvt.u32.u16 %r2, %h1;\n"
	"	add.u32 %r3, %r1, %r2;\n"
	"	st.global.u32 [%rd1], %r3;\n"
	"	ret;\n"
	"}\n"
	".visible .entry second()\n.maxntid 64, 1, 1\n{\n	.shared .align 4 .b8 s[1024];\n	ret;\n}\n";

static CUdevice dev;
static CUcontext ctx;

static size_t dynamic_none(int block)
{
	(void)block;
	return 0;
}

static size_t dynamic_much(int block)
{
	return (size_t)block * 256;
}

/* A fatbin with this PTX in it, as nvcc makes them without compression. */
static void *fatbin(void)
{
	struct {
		uint32_t magic;
		uint16_t version, header;
		uint64_t size;
		struct {
			uint16_t kind, version;
			uint32_t header;
			uint64_t size;
			uint32_t compressed, options, ptx_version, arch, name[2];
			uint64_t flags, unused2, uncompressed;
			uint32_t option[4];
		} entry;
		char text[sizeof(ptx) + 8];
	} *f = calloc(1, sizeof(*f));
	size_t padded = (sizeof(ptx) + 7) & ~7ull;

	f->magic = 0xba55ed50;
	f->version = 1;
	f->header = 16;
	f->size = sizeof(f->entry) + padded;
	f->entry.kind = 1;
	f->entry.version = 0x101;
	f->entry.header = sizeof(f->entry);
	f->entry.size = padded;
	f->entry.options = offsetof(__typeof__(f->entry), option);
	f->entry.option[0] = sizeof(f->entry) - 8;
	f->entry.ptx_version = 7 << 16;
	f->entry.arch = 75;
	f->entry.flags = 0x11;
	memcpy(f->text, ptx, sizeof(ptx));
	return f;
}

/* The sum that kernel add of @module makes. */
static unsigned int sum(CUmodule module, unsigned int a, unsigned short b)
{
	unsigned int got = 0;
	CUfunction f;
	CUdeviceptr d;
	void *params[] = { &d, &a, &b };

	CU(cuModuleGetFunction(&f, module, "add"));
	CU(cuMemAlloc_v2(&d, 4));
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH_v2(&got, d, 4));
	CU(cuMemFree_v2(d));
	return got;
}

static void images(void)
{
	char log[512] = "?", path[] = "/tmp/driver_function.XXXXXX";
	CUjit_option options[] = { CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_MAX_REGISTERS };
	void *values[] = { log, (void *)sizeof(log), (void *)32 };
	int fd = mkstemp(path);
	void *fat = fatbin();
	CUmoduleLoadingMode mode = (CUmoduleLoadingMode)77;
	CUmodule m;
	CUlibrary l;
	CUkernel k;

	if (fd < 0 || write(fd, ptx, sizeof(ptx) - 1) != (ssize_t)sizeof(ptx) - 1 || close(fd))
		bail("cannot write %s", path);
	CU(cuModuleLoad(&m, path));
	ok(sum(m, 40, 2) == 42, "a module from a file");
	CU(cuModuleUnload(m));
	GIVES(cuModuleLoad(&m, "/no such folder/file"), CUDA_ERROR_FILE_NOT_FOUND, "a file that is not there");
	CU(cuModuleLoadDataEx(&m, ptx, 3, options, values));
	ok(sum(m, 1, 2) == 3, "a module with options for the compiler");
	CU(cuModuleUnload(m));
	CU(cuModuleLoadFatBinary(&m, fat));
	ok(sum(m, 5, 6) == 11, "a module from a fatbin");
	CU(cuModuleUnload(m));
	GIVES(cuModuleLoadData(&m, "nothing that could be loaded"), CUDA_ERROR_INVALID_IMAGE, "an image that is none");
	GIVES(cuModuleLoadData(&m, PTX ".visible .entry bad()\n{\n	no.such.thing %r1;\n}\n"), CUDA_ERROR_INVALID_PTX, "PTX that is wrong");
	CU(cuLibraryLoadFromFile(&l, path, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetKernel(&k, l, "add"));
	GIVES(cuLibraryGetKernel(&k, l, "no such kernel"), CUDA_ERROR_NOT_FOUND, "a kernel that is not in it");
	CU(cuLibraryUnload(l));
	GIVES(cuLibraryLoadFromFile(&l, "/no such folder/file", NULL, NULL, 0, NULL, NULL, 0), CUDA_ERROR_FILE_NOT_FOUND,
	      "a library's file that is not there");
	CU(cuModuleGetLoadingMode(&mode));
	ok(mode == CU_MODULE_LAZY_LOADING || mode == CU_MODULE_EAGER_LOADING, "modules are loaded when they are needed: %d", mode);
	unlink(path);
	free(fat);
}

/* The old forms of the linker. */
static void linking(void)
{
	char path[] = "/tmp/driver_function.XXXXXX";
	int fd = mkstemp(path);
	CUlinkState link;
	CUmodule m;
	void *cubin;
	size_t size = 0;

	if (fd < 0 || write(fd, ptx, sizeof(ptx) - 1) != (ssize_t)sizeof(ptx) - 1 || close(fd))
		bail("cannot write %s", path);
	CU(cuLinkCreate(0, NULL, NULL, &link));
	CU(cuLinkAddData(link, CU_JIT_INPUT_PTX, ptx, sizeof(ptx), "memory", 0, NULL, NULL));
	CU(cuLinkComplete(link, &cubin, &size));
	CU(cuModuleLoadData(&m, cubin));
	ok(size && sum(m, 7, 8) == 15, "linked from memory, %zu bytes", size);
	CU(cuModuleUnload(m));
	CU(cuLinkDestroy(link));
	CU(cuLinkCreate(0, NULL, NULL, &link));
	CU(cuLinkAddFile(link, CU_JIT_INPUT_PTX, path, 0, NULL, NULL));
	CU(cuLinkComplete(link, &cubin, &size));
	CU(cuModuleLoadData(&m, cubin));
	ok(sum(m, 9, 8) == 17, "linked from a file");
	CU(cuModuleUnload(m));
	CU(cuLinkDestroy(link));
	unlink(path);
}

static void functions(void)
{
	size_t offset = 99, size = 99, size2 = 99;
	CUfunctionLoadingState state = (CUfunctionLoadingState)77;
	CUfunction f, second, list[4] = { NULL };
	unsigned int n = 0;
	const char *name;
	CUmodule m, of;
	int value = -1;

	CU(cuModuleLoadData(&m, ptx));
	CU(cuModuleGetFunction(&f, m, "add"));
	CU(cuModuleGetFunction(&second, m, "second"));
	CU(cuModuleGetFunctionCount(&n, m));
	CU(cuModuleEnumerateFunctions(list, 2, m));
	ok(n == 2 && ((list[0] == f && list[1] == second) || (list[1] == f && list[0] == second)), "both functions are listed");
	CU(cuModuleEnumerateFunctions(list + 2, 1, m));
	ok(list[2] && !list[3], "no more than there is room for");
	CU(cuFuncGetModule(&of, f));
	ok(of == m, "a function says where it is from");
	CU(cuFuncGetName(&name, second));
	ok(!strcmp(name, "second"), "and its name: %s", name);
	CU(cuFuncGetParamInfo(f, 2, &offset, &size));
	CU(cuFuncGetParamInfo(f, 1, &offset, &size2));
	ok(size == 2 && offset == 8 && size2 == 4, "and what parameters it takes");
	CU(cuFuncGetParamInfo(f, 0, &offset, NULL));
	GIVES(cuFuncGetParamInfo(f, 3, &offset, &size), CUDA_ERROR_INVALID_VALUE, "a fourth parameter");
	CU(cuFuncLoad(f));
	CU(cuFuncIsLoaded(&state, f));
	ok(state == CU_FUNCTION_LOADING_STATE_LOADED, "it can be loaded beforehand");
	CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, second));
	ok(value == 1024, "its shared memory: %d", value);
	CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, second));
	ok(value == 64, "its largest block: %d", value);
	GIVES(cuFuncGetAttribute(&value, (CUfunction_attribute)99, f), CUDA_ERROR_INVALID_VALUE, "an attribute there is none of");
	CU(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 40000));
	CU(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, f));
	ok(value == 40000, "dynamic shared memory can be asked for: %d", value);
	GIVES(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 30), CUDA_ERROR_INVALID_VALUE, "but not a GiB");
	GIVES(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_NUM_REGS, 5), CUDA_ERROR_INVALID_VALUE, "a fact cannot be set");
	CU(cuFuncSetCacheConfig(f, CU_FUNC_CACHE_PREFER_SHARED));
	CU(cuFuncSetSharedMemConfig(f, CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE));
	CU(cuFuncSetBlockShape(second, 1, 1, 1));
	CU(cuLaunch(second));
	CU(cuCtxSynchronize());
	ok(true, "a launch of a single block, as in the beginning");
	GIVES(cuLaunchKernel(second, 1, 1, 1, 65, 1, 1, 0, NULL, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "a block that is too large for it");
	GIVES(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "a launch without its parameters");
	CU(cuModuleUnload(m));
	GIVES(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, f), CUDA_ERROR_INVALID_HANDLE, "a function ends with its module");
}

static void kernels(void)
{
	CUkernel k, second, list[2];
	unsigned int n = 0;
	size_t offset = 99, size = 99;
	const char *name;
	CUlibrary l, of;
	CUfunction f;
	CUmodule m;
	void *fn;
	int value = -1;

	CU(cuLibraryLoadData(&l, ptx, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetKernel(&k, l, "add"));
	CU(cuLibraryGetKernel(&second, l, "second"));
	CU(cuLibraryGetKernelCount(&n, l));
	CU(cuLibraryEnumerateKernels(list, 2, l));
	ok(n == 2 && ((list[0] == k && list[1] == second) || (list[1] == k && list[0] == second)), "both kernels are listed");
	CU(cuKernelGetLibrary(&of, k));
	ok(of == l, "a kernel says where it is from");
	CU(cuKernelGetName(&name, k));
	ok(!strcmp(name, "add"), "and its name: %s", name);
	CU(cuKernelGetParamInfo(k, 1, &offset, &size));
	ok(offset == 8 && size == 4, "and what parameters it takes");
	CU(cuCtxPushCurrent(ctx));
	CU(cuCtxSetCurrent(NULL));
	CU(cuCtxSetCurrent(NULL));
	GIVES(cuKernelGetParamInfo(k, 1, &offset, &size), CUDA_ERROR_INVALID_CONTEXT, "but not without a context");
	CU(cuCtxSetCurrent(ctx));
	GIVES(cuKernelGetName(&name, NULL), CUDA_ERROR_INVALID_VALUE, "the name of no kernel");
	GIVES(cuFuncGetName(&name, NULL), CUDA_ERROR_INVALID_VALUE, "or of no function");
	CU(cuKernelGetFunction(&f, k));
	CU(cuFuncGetName(&name, f));
	ok(!strcmp(name, "add"), "its function is of the same name");
	CU(cuLibraryGetModule(&m, l));
	ok(sum(m, 20, 1) == 21, "a library's module");
	GIVES(cuModuleUnload(m), CUDA_ERROR_NOT_PERMITTED, "which ends with the library");
	CU(cuKernelSetCacheConfig(k, CU_FUNC_CACHE_PREFER_L1, dev));
	CU(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 30000, k, dev));
	CU(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, k, dev));
	ok(value == 30000, "what was set is what is told: %d", value);
	ok(cuLibraryGetUnifiedFunction(&fn, l, "no such function") != CUDA_SUCCESS, "there is no function for both sides");
	CU(cuLibraryUnload(l));
	GIVES(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, k, dev), CUDA_ERROR_INVALID_HANDLE, "a kernel ends with its library");
	OURS(cuFuncGetName(&name, f), CUDA_ERROR_INVALID_HANDLE, "and so does its function");
}

static void occupancy(void)
{
	CUlaunchAttribute cluster = { .id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = { 2, 1, 1 } };
	CUlaunchConfig config = { .gridDimX = 8, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 32, .blockDimY = 1, .blockDimZ = 1,
				  .attrs = &cluster, .numAttrs = 1 };
	int blocks = -1, grid = -1, block = -1, limited = -1, clusters = -1, biggest = -1, most, has;
	size_t room = 0;
	CUfunction f;
	CUmodule m;
	CUresult r;

	CU(cuModuleLoadData(&m, ptx));
	CU(cuModuleGetFunction(&f, m, "add"));
	CU(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 128, 0));
	ok(blocks > 0, "%d blocks of 128 threads on a multiprocessor", blocks);
	CU(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&limited, f, 128, 16384, CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE));
	ok(limited > 0 && limited <= blocks, "%d with 16 KiB each", limited);
	GIVES(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 0, 0), CUDA_ERROR_INVALID_VALUE, "blocks of nothing");
	CU(cuOccupancyMaxPotentialBlockSize(&grid, &block, f, dynamic_none, 0, 0));
	ok(grid > 0 && block >= 32 && block <= 1024, "grids of %d blocks of %d", grid, block);
	CU(cuOccupancyMaxPotentialBlockSizeWithFlags(&grid, &limited, f, dynamic_much, 0, 128, CU_OCCUPANCY_DEFAULT));
	ok(limited <= 128 && limited > 0, "blocks of at most 128: %d", limited);
	CU(cuOccupancyAvailableDynamicSMemPerBlock(&room, f, 1, 128));
	ok(room >= 16384 && room <= 49152, "a block that is alone has %zu bytes of shared memory", room);
	CU(cuDeviceGetAttribute(&most, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, dev));
	CU(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most));
	CU(cuOccupancyAvailableDynamicSMemPerBlock(&room, f, 1, 128));
	ok(room > 49152, "and %zu when it may have more", room);
	CU(cuDeviceGetAttribute(&has, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, dev));
	r = cuOccupancyMaxActiveClusters(&clusters, f, &config);
	ok(!has ? r != CUDA_SUCCESS : r == CUDA_SUCCESS && clusters > 0, "clusters of 2 blocks: %d, %s", clusters, cu_name(r));
	r = cuOccupancyMaxPotentialClusterSize(&biggest, f, &config);
	ok(!has ? r != CUDA_SUCCESS : r == CUDA_SUCCESS && biggest > 0, "clusters of up to %d blocks, %s", biggest, cu_name(r));
	CU(cuModuleUnload(m));
}

int main(void)
{
	ctx = primary_context(&dev);
	images();
	linking();
	functions();
	kernels();
	occupancy();
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	return tap_done();
}
