// SPDX-License-Identifier: Apache-2.0
/*
 * The driver API of the null GPU. Device memory is addresses that nothing lies behind, handles are numbers, whatever
 * is asked to be done has been done. Calls that are not here gen_null.py makes.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nullgpu.h"

#define API	__attribute__((visibility("default"))) CUresult CUDAAPI
#define MEMORY_BASE	0x302000000000ull
#define MEMORY_SIZE	(141ull << 30)
#define MEMORY_GRAIN	(2ull << 20)
#define FUNC_ATTRIBUTES	16

struct kernel {
	char *name;
	int attributes[FUNC_ATTRIBUTES];
	unsigned int nparams;
	struct null_param params[];
};

struct module {
	struct null_image image;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t next_address = MEMORY_BASE, next_handle = 0x1000;
static uint64_t used;
static __thread CUcontext current;

/* Does nothing, successfully; for everything whose result nobody reads. */
#define NOTHING(name, ...) \
	API name(__VA_ARGS__); \
	API name(__VA_ARGS__) { return CUDA_SUCCESS; }

void *null_handle(void)
{
	return (void *)(uintptr_t)(__atomic_add_fetch(&next_handle, 16, __ATOMIC_RELAXED));
}

/* --- what it is --- */

NOTHING(cuInit, unsigned int flags)
API cuDriverGetVersion(int *v) { *v = 13000; return CUDA_SUCCESS; }
API cuDeviceGetCount(int *n) { *n = 1; return CUDA_SUCCESS; }
API cuDeviceGet(CUdevice *d, int i) { *d = i; return i ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS; }

API cuDeviceGetName(char *name, int len, CUdevice dev)
{
	snprintf(name, len, "Null GPU %d.%d", null_capability() / 10, null_capability() % 10);
	return CUDA_SUCCESS;
}

API cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	memcpy(uuid->bytes, "xen-vgpu null\0\0\1", 16);
	return CUDA_SUCCESS;
}

API cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev) { return cuDeviceGetUuid(uuid, dev); }
API cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) { *bytes = MEMORY_SIZE; return CUDA_SUCCESS; }

API cuDeviceGetPCIBusId(char *id, int len, CUdevice dev)
{
	snprintf(id, len, "0000:01:00.0");
	return CUDA_SUCCESS;
}

API cuDeviceGetAttribute(int *value, CUdevice_attribute a, CUdevice dev)
{
	return null_attribute(a, value) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* All its multiprocessors, whoever asks: cuSOLVER 12.4 sets itself up for as many. */
static CUresult resource(CUdevResource *out, CUdevResourceType type)
{
	int n;

	if (type != CU_DEV_RESOURCE_TYPE_SM)
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	null_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &n);
	memset(out, 0, sizeof(*out));
	out->type = type;
	out->sm.smCount = n;
	return CUDA_SUCCESS;
}

API cuDeviceGetDevResource(CUdevice dev, CUdevResource *out, CUdevResourceType type) { return resource(out, type); }
API cuCtxGetDevResource(CUcontext ctx, CUdevResource *out, CUdevResourceType type) { return resource(out, type); }
API cuGreenCtxGetDevResource(CUgreenCtx ctx, CUdevResource *out, CUdevResourceType type) { return resource(out, type); }

/* --- contexts --- */

#define PRIMARY ((CUcontext)(uintptr_t)0x100)

API cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev) { *ctx = PRIMARY; return CUDA_SUCCESS; }
NOTHING(cuDevicePrimaryCtxRelease_v2, CUdevice dev)
NOTHING(cuDevicePrimaryCtxReset_v2, CUdevice dev)
NOTHING(cuDevicePrimaryCtxSetFlags_v2, CUdevice dev, unsigned int flags)
API cuCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice dev) { *ctx = current = null_handle(); return CUDA_SUCCESS; }
NOTHING(cuCtxDestroy_v2, CUcontext ctx)
API cuCtxSetCurrent(CUcontext ctx) { current = ctx; return CUDA_SUCCESS; }
API cuCtxGetCurrent(CUcontext *ctx) { *ctx = current; return CUDA_SUCCESS; }
API cuCtxPopCurrent_v2(CUcontext *ctx) { if (ctx) *ctx = current; current = NULL; return CUDA_SUCCESS; }
NOTHING(cuCtxPushCurrent_v2, CUcontext ctx)
NOTHING(cuCtxSynchronize, void)
NOTHING(cuCtxSetLimit, CUlimit limit, size_t value)
API cuCtxGetLimit(size_t *value, CUlimit limit) { *value = 0; return CUDA_SUCCESS; }

API cuCtxGetStreamPriorityRange(int *low, int *high)
{
	*low = 0;
	*high = -5;
	return CUDA_SUCCESS;
}

/* --- memory --- */

API cuMemAlloc_v2(CUdeviceptr *out, size_t size)
{
	CUresult r = CUDA_ERROR_OUT_OF_MEMORY;
	size_t n = (size + MEMORY_GRAIN - 1) & ~(MEMORY_GRAIN - 1);

	pthread_mutex_lock(&lock);
	if (size && size <= MEMORY_SIZE && next_address + n < MEMORY_BASE + 64 * MEMORY_SIZE) {
		*out = next_address;
		next_address += n;
		used += n;
		r = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/* As NVIDIA's driver does it: addresses of the process, where nothing is until something is mapped. */
API cuMemAddressReserve(CUdeviceptr *out, size_t size, size_t alignment, CUdeviceptr hint, unsigned long long flags)
{
	size_t align = alignment > MEMORY_GRAIN ? alignment : MEMORY_GRAIN;
	char *p, *at;

	if (!size || size % 4096 || align & (align - 1) || size > MEMORY_SIZE || align > MEMORY_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	p = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	at = (char *)(((uintptr_t)p + align - 1) & ~(align - 1));
	if (at != p)
		munmap(p, (size_t)(at - p));
	munmap(at + size, align - (size_t)(at - p));
	*out = (uintptr_t)at;
	return CUDA_SUCCESS;
}

API cuMemAddressFree(CUdeviceptr p, size_t size)
{
	return munmap((void *)p, size) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

API cuMemGetAllocationGranularity(size_t *granule, const CUmemAllocationProp *prop, CUmemAllocationGranularity_flags option)
{
	*granule = MEMORY_GRAIN;
	return CUDA_SUCCESS;
}

API cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned int element)
{
	*pitch = (width + 511) & ~(size_t)511;
	return cuMemAlloc_v2(out, *pitch * height);
}

API cuMemAllocAsync(CUdeviceptr *out, size_t size, CUstream s) { return cuMemAlloc_v2(out, size); }
NOTHING(cuMemFreeAsync, CUdeviceptr p, CUstream s)
NOTHING(cuMemFree_v2, CUdeviceptr p)

API cuMemGetInfo_v2(size_t *unused, size_t *total)
{
	*total = MEMORY_SIZE;
	*unused = MEMORY_SIZE > used ? MEMORY_SIZE - used : 0;
	return CUDA_SUCCESS;
}

NOTHING(cuMemHostRegister_v2, void *p, size_t size, unsigned int flags)
NOTHING(cuMemHostUnregister, void *p)

/* The ends of what is read are looked at, so that a wrong address is noticed. */
API cuMemcpyHtoD_v2(CUdeviceptr dst, const void *src, size_t n)
{
	static volatile unsigned char sink __attribute__((unused));

	if (n)
		sink = ((const unsigned char *)src)[0] ^ ((const unsigned char *)src)[n - 1];
	return CUDA_SUCCESS;
}

API cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *src, size_t n, CUstream s) { return cuMemcpyHtoD_v2(dst, src, n); }
NOTHING(cuMemcpyDtoD_v2, CUdeviceptr dst, CUdeviceptr src, size_t n)
NOTHING(cuMemcpyDtoDAsync_v2, CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s)
NOTHING(cuMemcpyAsync, CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s)
NOTHING(cuMemcpy, CUdeviceptr dst, CUdeviceptr src, size_t n)
NOTHING(cuMemcpy2D_v2, const CUDA_MEMCPY2D *c)
NOTHING(cuMemcpy2DUnaligned_v2, const CUDA_MEMCPY2D *c)
NOTHING(cuMemcpy2DAsync_v2, const CUDA_MEMCPY2D *c, CUstream s)
NOTHING(cuMemcpy3DAsync_v2, const CUDA_MEMCPY3D *c, CUstream s)
NOTHING(cuMemcpy3D_v2, const CUDA_MEMCPY3D *c)

API cuMemcpyDtoH_v2(void *dst, CUdeviceptr src, size_t n)
{
	memset(dst, 0, n);
	return CUDA_SUCCESS;
}

API cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr src, size_t n, CUstream s)
{
	return cuMemcpyDtoH_v2(dst, src, n);
}

NOTHING(cuMemsetD8_v2, CUdeviceptr p, unsigned char v, size_t n)
NOTHING(cuMemsetD16_v2, CUdeviceptr p, unsigned short v, size_t n)
NOTHING(cuMemsetD32_v2, CUdeviceptr p, unsigned int v, size_t n)
NOTHING(cuMemsetD8Async, CUdeviceptr p, unsigned char v, size_t n, CUstream s)
NOTHING(cuMemsetD16Async, CUdeviceptr p, unsigned short v, size_t n, CUstream s)
NOTHING(cuMemsetD32Async, CUdeviceptr p, unsigned int v, size_t n, CUstream s)
NOTHING(cuMemsetD2D8Async, CUdeviceptr p, size_t pitch, unsigned char v, size_t w, size_t h, CUstream s)
NOTHING(cuMemsetD2D16Async, CUdeviceptr p, size_t pitch, unsigned short v, size_t w, size_t h, CUstream s)
NOTHING(cuMemsetD2D32Async, CUdeviceptr p, size_t pitch, unsigned int v, size_t w, size_t h, CUstream s)

/* --- streams and events --- */

API cuStreamCreate(CUstream *s, unsigned int flags) { *s = null_handle(); return CUDA_SUCCESS; }
API cuStreamCreateWithPriority(CUstream *s, unsigned int flags, int p) { return cuStreamCreate(s, flags); }
API cuStreamGetFlags(CUstream s, unsigned int *flags) { *flags = CU_STREAM_NON_BLOCKING; return CUDA_SUCCESS; }
NOTHING(cuStreamDestroy_v2, CUstream s)
NOTHING(cuStreamQuery, CUstream s)
NOTHING(cuStreamSynchronize, CUstream s)
NOTHING(cuStreamWaitEvent, CUstream s, CUevent e, unsigned int flags)
NOTHING(cuStreamSetAttribute, CUstream s, CUstreamAttrID id, const CUstreamAttrValue *v)
NOTHING(cuStreamAttachMemAsync, CUstream s, CUdeviceptr p, size_t n, unsigned int flags)

/* Only host memory has something behind it: what is written there is read by whoever polls. */
static void write_value(CUdeviceptr p, uint64_t value, size_t size)
{
	if (p < MEMORY_BASE || p >= next_address)
		memcpy((void *)(uintptr_t)p, &value, size);
}

API cuStreamWriteValue32_v2(CUstream s, CUdeviceptr p, cuuint32_t v, unsigned int flags)
{
	write_value(p, v, sizeof(v));
	return CUDA_SUCCESS;
}

API cuStreamWriteValue64_v2(CUstream s, CUdeviceptr p, cuuint64_t v, unsigned int flags)
{
	write_value(p, v, sizeof(v));
	return CUDA_SUCCESS;
}

API cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus *status)
{
	*status = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

API cuEventCreate(CUevent *e, unsigned int flags) { *e = null_handle(); return CUDA_SUCCESS; }
NOTHING(cuEventDestroy_v2, CUevent e)
NOTHING(cuEventQuery, CUevent e)
NOTHING(cuEventRecord, CUevent e, CUstream s)
NOTHING(cuEventRecordWithFlags, CUevent e, CUstream s, unsigned int flags)
NOTHING(cuEventSynchronize, CUevent e)
API cuEventElapsedTime_v2(float *ms, CUevent a, CUevent b) { *ms = 0; return CUDA_SUCCESS; }

/* --- code --- */

API cuLibraryLoadData(CUlibrary *out, const void *code, CUjit_option *o, void **v, unsigned int n,
		      CUlibraryOption *lo, void **lv, unsigned int ln)
{
	struct module *m = calloc(1, sizeof(*m));

	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	null_image_open(&m->image, code);
	*out = (CUlibrary)m;
	return CUDA_SUCCESS;
}

API cuModuleLoadDataEx(CUmodule *out, const void *code, unsigned int n, CUjit_option *o, void **v)
{
	return cuLibraryLoadData((CUlibrary *)out, code, o, v, n, NULL, NULL, 0);
}

API cuLibraryUnload(CUlibrary l)
{
	null_image_close(&((struct module *)l)->image);
	free(l);
	return CUDA_SUCCESS;
}

API cuModuleUnload(CUmodule m) { return cuLibraryUnload((CUlibrary)m); }

API cuLibraryGetKernel(CUkernel *out, CUlibrary l, const char *name)
{
	struct null_param params[NULL_PARAMS];
	unsigned int n = null_params(&((struct module *)l)->image, name, params);
	struct kernel *k = calloc(1, sizeof(*k) + n * sizeof(params[0]));

	if (!k)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(k->params, params, n * sizeof(params[0]));
	k->nparams = n;
	k->name = strdup(name);
	if (!k->name)
		return CUDA_ERROR_OUT_OF_MEMORY;
	k->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = 1024;
	k->attributes[CU_FUNC_ATTRIBUTE_NUM_REGS] = 32;
	k->attributes[CU_FUNC_ATTRIBUTE_PTX_VERSION] = null_capability();
	k->attributes[CU_FUNC_ATTRIBUTE_BINARY_VERSION] = null_capability();
	k->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES] = 49152;
	k->attributes[CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT] = -1;
	*out = (CUkernel)k;
	return CUDA_SUCCESS;
}

API cuModuleGetFunction(CUfunction *out, CUmodule m, const char *name)
{
	return cuLibraryGetKernel((CUkernel *)out, (CUlibrary)m, name);
}

API cuKernelGetFunction(CUfunction *out, CUkernel k) { *out = (CUfunction)k; return CUDA_SUCCESS; }
API cuLibraryGetModule(CUmodule *out, CUlibrary l) { *out = (CUmodule)l; return CUDA_SUCCESS; }

API cuLibraryGetGlobal(CUdeviceptr *p, size_t *bytes, CUlibrary l, const char *name)
{
	*bytes = 4096;
	return cuMemAlloc_v2(p, *bytes);
}

API cuModuleGetGlobal_v2(CUdeviceptr *p, size_t *bytes, CUmodule m, const char *name)
{
	return cuLibraryGetGlobal(p, bytes, (CUlibrary)m, name);
}

API cuLibraryGetKernelCount(unsigned int *n, CUlibrary l)
{
	*n = null_kernels(&((struct module *)l)->image, NULL, NULL, 0);
	return CUDA_SUCCESS;
}

API cuModuleGetFunctionCount(unsigned int *n, CUmodule m) { return cuLibraryGetKernelCount(n, (CUlibrary)m); }

API cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int n, CUlibrary l)
{
	const char **names = calloc(n, sizeof(*names));
	size_t *lengths = calloc(n, sizeof(*lengths));
	CUresult r = names && lengths ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;

	n = r == CUDA_SUCCESS ? null_kernels(&((struct module *)l)->image, names, lengths, n) : 0;
	for (unsigned int i = 0; i < n && r == CUDA_SUCCESS; i++) {
		char *name = strndup(names[i], lengths[i]);

		r = name ? cuLibraryGetKernel(&kernels[i], l, name) : CUDA_ERROR_OUT_OF_MEMORY;
		free(name);
	}
	free(names);
	free(lengths);
	return r;
}

API cuModuleEnumerateFunctions(CUfunction *functions, unsigned int n, CUmodule m)
{
	return cuLibraryEnumerateKernels((CUkernel *)functions, n, (CUlibrary)m);
}

API cuKernelGetName(const char **name, CUkernel k) { *name = ((struct kernel *)k)->name; return CUDA_SUCCESS; }
API cuFuncGetName(const char **name, CUfunction f) { return cuKernelGetName(name, (CUkernel)f); }

API cuFuncGetAttribute(int *value, CUfunction_attribute a, CUfunction f)
{
	if ((unsigned int)a >= FUNC_ATTRIBUTES)
		return CUDA_ERROR_INVALID_VALUE;
	*value = ((struct kernel *)f)->attributes[a];
	return CUDA_SUCCESS;
}

API cuKernelGetAttribute(int *value, CUfunction_attribute a, CUkernel k, CUdevice dev)
{
	return cuFuncGetAttribute(value, a, (CUfunction)k);
}

API cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int value)
{
	if ((unsigned int)a >= FUNC_ATTRIBUTES)
		return CUDA_ERROR_INVALID_VALUE;
	((struct kernel *)f)->attributes[a] = value;
	return CUDA_SUCCESS;
}

API cuKernelSetAttribute(CUfunction_attribute a, int value, CUkernel k, CUdevice dev)
{
	return cuFuncSetAttribute((CUfunction)k, a, value);
}

NOTHING(cuFuncSetCacheConfig, CUfunction f, CUfunc_cache c)
NOTHING(cuKernelSetCacheConfig, CUkernel k, CUfunc_cache c, CUdevice dev)

API cuKernelGetParamInfo(CUkernel kernel, size_t i, size_t *offset, size_t *size)
{
	const struct kernel *k = (const struct kernel *)kernel;

	if (i >= k->nparams)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = k->params[i].offset;
	if (size)
		*size = k->params[i].size;
	return CUDA_SUCCESS;
}

API cuFuncGetParamInfo(CUfunction f, size_t i, size_t *offset, size_t *size)
{
	return cuKernelGetParamInfo((CUkernel)f, i, offset, size);
}

NOTHING(cuLaunchKernel, CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
	unsigned int bz, unsigned int shared, CUstream s, void **params, void **extra)
API cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra)
{
	for (unsigned int i = 0; i < c->numAttrs; i++) {
		unsigned int x = c->attrs[i].value.clusterDim.x, y = c->attrs[i].value.clusterDim.y, z = c->attrs[i].value.clusterDim.z;

		if (c->attrs[i].id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
			continue;
		if (!x || !y || !z || c->gridDimX % x || c->gridDimY % y || c->gridDimZ % z || (unsigned long)x * y * z > 8)
			return CUDA_ERROR_INVALID_CLUSTER_SIZE;
	}
	return CUDA_SUCCESS;
}

NOTHING(cuLaunchHostFunc, CUstream s, CUhostFn fn, void *data)

API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, CUfunction f, int block, size_t shared,
							 unsigned int flags)
{
	int all, threads, most;

	null_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, &all);
	null_attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, &threads);
	null_attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, &most);
	*n = threads / (block > 0 ? block : 1);
	if (shared + 1024 > (size_t)all / (*n ? *n : 1))
		*n = all / (int)(shared + 1024);
	if (*n > most)
		*n = most;
	return CUDA_SUCCESS;
}

API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, CUfunction f, int block, size_t shared)
{
	return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n, f, block, shared, 0);
}

API cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction f, int blocks, int size)
{
	int most;

	null_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &most);
	*bytes = most / (blocks > 0 ? blocks : 1);
	return CUDA_SUCCESS;
}

API cuOccupancyMaxActiveClusters(int *n, CUfunction f, const CUlaunchConfig *c) { *n = 16; return CUDA_SUCCESS; }
API cuOccupancyMaxPotentialClusterSize(int *n, CUfunction f, const CUlaunchConfig *c) { *n = 8; return CUDA_SUCCESS; }
