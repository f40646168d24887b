// SPDX-License-Identifier: Apache-2.0
/* Devices and contexts: what they are, what is current in which thread, what can be set of them, in every form of the calls. */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <pthread.h>

#include "driver.h"

/* cudaProfiler.h, which not every toolkit has. */
CUresult CUDAAPI cuProfilerStart(void);
CUresult CUDAAPI cuProfilerStop(void);

static CUdevice dev;

static void devices(void)
{
	char id[32] = "", name[256] = "", luid[8], short_name[4] = "xxx";
	int major = 0, minor = 0, want[2], n = -1, threads, affinity = -1, version = 0;
	CUdevprop properties;
	unsigned int mask;
	CUuuid old, new;
	size_t total, width = 0;
	const char *text;
	CUcontext ctx;
	CUdevice same;

	GIVES(cuInit(1), CUDA_ERROR_INVALID_VALUE, "flags for cuInit");
	CU(cuDriverGetVersion(&version));
	ok(version >= 13000, "the driver is of CUDA 13 or later: %d", version);
	CU(cuDeviceGetName(name, sizeof(name), dev));
	CU(cuDeviceGetName(short_name, sizeof(short_name), dev));
	ok(strlen(name) > 3 && strlen(short_name) == 3 && !strncmp(name, short_name, 3), "a name is cut to the room there is: %s",
	   short_name);
	OURS(cuDeviceGetName(name, 0, dev), CUDA_ERROR_INVALID_VALUE, "no room for a name");
	CU(cuDeviceGetUuid(&old, dev));
	CU(cuDeviceGetUuid_v2(&new, dev));
	ok(!memcmp(&old, &new, sizeof(old)), "a UUID is the same in both forms");
	GIVES(cuDeviceGet(NULL, 0), CUDA_ERROR_INVALID_VALUE, "a device to nowhere");
	GIVES(cuDeviceGetLuid(luid, &mask, dev), CUDA_ERROR_NOT_SUPPORTED, "a LUID, which only Windows has");
	CU(cuDeviceComputeCapability(&major, &minor, dev));
	CU(cuDeviceGetAttribute(&want[0], CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, dev));
	CU(cuDeviceGetAttribute(&want[1], CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, dev));
	ok(major == want[0] && minor == want[1], "compute capability %d.%d by both ways", major, minor);
	CU(cuDeviceGetProperties(&properties, dev));
	CU(cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, dev));
	ok(properties.maxThreadsPerBlock == threads && properties.SIMDWidth == 32, "properties are attributes");
	GIVES(cuDeviceGetAttribute(&n, (CUdevice_attribute)0, dev), CUDA_ERROR_INVALID_VALUE, "attribute 0");
	GIVES(cuDeviceGetAttribute(&n, (CUdevice_attribute)9999, dev), CUDA_ERROR_INVALID_VALUE, "attribute 9999");
	CU(cuDeviceTotalMem_v2(&total, dev));
	ok(total >= 64 << 20, "memory: %zu MiB", total >> 20);
	CU(cuDeviceGetTexture1DLinearMaxWidth(&width, CU_AD_FORMAT_FLOAT, 1, dev));
	ok(width >= 1 << 16, "a linear texture has up to %zu texels", width);
	CU(cuDeviceGetPCIBusId(id, sizeof(id), dev));
	same = -1;
	CU(cuDeviceGetByPCIBusId(&same, id));
	ok(same == dev, "the device at %s is this one", id);
	GIVES(cuDeviceGetPCIBusId(id, 3, dev), CUDA_ERROR_INVALID_VALUE, "no room for an address");
	GIVES(cuDeviceGetByPCIBusId(&same, "no address"), CUDA_ERROR_INVALID_VALUE, "what is no address");
	GIVES(cuDeviceGetByPCIBusId(&same, "ffff:ff:1f.0"), CUDA_ERROR_INVALID_DEVICE, "the address of no device");
	CU(cuDeviceGetExecAffinitySupport(&affinity, CU_EXEC_AFFINITY_TYPE_SM_COUNT, dev));
	ok(affinity == 0 || affinity == 1, "execution affinity: %d", affinity);
	CU(cuGetErrorString(CUDA_ERROR_INVALID_HANDLE, &text));
	ok(!strcmp(text, "invalid resource handle"), "an error's text: %s", text);
	GIVES(cuGetErrorString((CUresult)123456, &text), CUDA_ERROR_INVALID_VALUE, "no error's text");
	ok(!text, "which is NULL then");
	GIVES(cuProfilerStart(), CUDA_ERROR_INVALID_CONTEXT, "profiling without a context");
	GIVES(cuProfilerStop(), CUDA_ERROR_INVALID_CONTEXT, "and its end");
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxPushCurrent_v2(ctx));
	GIVES(cuProfilerStart(), CUDA_SUCCESS, "with one");
	GIVES(cuProfilerStop(), CUDA_SUCCESS, "and its end");
	CU(cuCtxPopCurrent_v2(NULL));
	CU(cuDevicePrimaryCtxRelease(dev));
}

/* What a zone's calls refuse, whatever the GPU can, devices do not say that they do. */
static void lacks(void)
{
	static const CUdevice_attribute all[] = {
		CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, CU_DEVICE_ATTRIBUTE_GENERIC_COMPRESSION_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_D3D12_CIG_SUPPORTED, CU_DEVICE_ATTRIBUTE_VULKAN_CIG_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_MEM_DECOMPRESS_ALGORITHM_MASK, CU_DEVICE_ATTRIBUTE_MEM_DECOMPRESS_MAXIMUM_LENGTH,
		CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED,
		CU_DEVICE_ATTRIBUTE_HOST_ALLOC_DMA_BUF_SUPPORTED,
	};

	if (on_driver())
		return;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int value = -1;

		CU(cuDeviceGetAttribute(&value, all[i], dev));
		ok(!value, "attribute %d is 0: %d", all[i], value);
	}
}

static void primary(void)
{
	unsigned int flags = 77;
	CUcontext ctx, again;
	int active = 77;

	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok(!flags && !active, "nobody has used the primary context yet");
	CU(cuDevicePrimaryCtxSetFlags(dev, CU_CTX_SCHED_BLOCKING_SYNC));
	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_BLOCKING_SYNC && !active, "its flags can be set before");
	CU(cuDevicePrimaryCtxSetFlags_v2(dev, 0));
	GIVES(cuDevicePrimaryCtxSetFlags_v2(dev, 0x10000), CUDA_ERROR_INVALID_VALUE, "flags that are none");
	GIVES(cuDevicePrimaryCtxRelease_v2(dev), CUDA_ERROR_INVALID_CONTEXT, "giving back what nobody has");
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuDevicePrimaryCtxRetain(&again, dev));
	ok(ctx == again, "it is one and the same");
	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok(active == 1, "and active now");
	CU(cuDevicePrimaryCtxRelease(dev));
	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok(active == 1, "until the last one");
	CU(cuDevicePrimaryCtxRelease(dev));
	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok(!active, "gives it back");
}

/* Contexts of the program's own, and the stack. */
static const char *small =
	".version 7.0\n.target sm_75\n.address_size 64\n.visible .global .align 4 .u32 number;\n"
	".visible .entry nothing()\n{\n	ret;\n}\n";

/* Libraries belong to the process, but what they are in a context that has ended cannot be told. */
static void in_ended(void)
{
	CUlibrary library;
	CUfunction f;
	CUmodule m;
	CUkernel k;
	CUdeviceptr p;
	size_t n;

	GIVES(cuLibraryLoadData(&library, small, NULL, NULL, 0, NULL, NULL, 0), CUDA_SUCCESS, "a library is loaded there");
	CU(cuLibraryGetKernel(&k, library, "nothing"));
	OURS(cuKernelGetFunction(&f, k), CUDA_ERROR_CONTEXT_IS_DESTROYED, "its kernel's function");
	OURS(cuLibraryGetModule(&m, library), CUDA_ERROR_CONTEXT_IS_DESTROYED, "its module");
	OURS(cuLibraryGetGlobal(&p, &n, library, "number"), CUDA_ERROR_CONTEXT_IS_DESTROYED, "its variable");
	CU(cuLibraryUnload(library));
}

/* A thread's stack has an end. */
static void deep(CUcontext ctx)
{
	CUresult r = CUDA_SUCCESS;
	int n = 0;

	while (n < 1000 && r == CUDA_SUCCESS) {
		r = cuCtxPushCurrent_v2(ctx);
		n += r == CUDA_SUCCESS;
	}
	ok(n == 1000 || r == CUDA_ERROR_INVALID_VALUE, "a context is current %d times: %s", n, cu_name(r));
	while (n--)
		CU(cuCtxPopCurrent_v2(NULL));
}

static void stack(void)
{
	CUcontext a, b, c, got, none;
	unsigned long long ida = 0, idb = 0;
	unsigned int flags = 77, version = 0;
	CUdevice device = -1;
	CUdeviceptr p;
	int low, high;

	GIVES(cuCtxPopCurrent(&got), CUDA_ERROR_INVALID_CONTEXT, "nothing to take from the stack");
	GIVES(cuCtxPopCurrent_v2(&got), CUDA_ERROR_INVALID_CONTEXT, "by either form");
	GIVES(cuMemAlloc_v2(&p, 4), CUDA_ERROR_INVALID_CONTEXT, "memory without a context");
	GIVES(cuCtxGetDevice(&device), CUDA_ERROR_INVALID_CONTEXT, "the device of no context");
	GIVES(cuCtxGetFlags(&flags), CUDA_ERROR_INVALID_CONTEXT, "its flags");
	GIVES(cuCtxSetFlags(0), CUDA_ERROR_INVALID_CONTEXT, "setting them");
	GIVES(cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT, "waiting for it");
	GIVES(cuCtxGetStreamPriorityRange(&low, &high), CUDA_ERROR_INVALID_CONTEXT, "its priorities");
	GIVES(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_L1), CUDA_ERROR_INVALID_CONTEXT, "its cache");
	GIVES(cuCtxSetSharedMemConfig(CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE), CUDA_ERROR_INVALID_CONTEXT, "its shared memory");
	GIVES(cuCtxResetPersistingL2Cache(), CUDA_ERROR_INVALID_CONTEXT, "what it keeps");
	CU(cuCtxCreate(&a, 0, dev));
	CU(cuCtxCreate_v2(&b, CU_CTX_SCHED_SPIN, dev));
	CU(cuCtxCreate_v3(&c, NULL, 0, 0, dev));
	CU(cuCtxGetCurrent(&got));
	ok(got == c && a != b && b != c, "a new context is current");
	GIVES(cuCtxCreate_v2(&got, 0x10000, dev), CUDA_ERROR_INVALID_VALUE, "flags that are none");
	CU(cuCtxPopCurrent(&got));
	ok(got == c, "it can be taken from the stack");
	CU(cuCtxGetCurrent(&got));
	ok(got == b, "below it is the one before");
	CU(cuCtxGetFlags(&flags));
	ok((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_SPIN, "whose flags are as they were given: %u", flags);
	CU(cuCtxSetFlags(CU_CTX_SCHED_YIELD));
	CU(cuCtxGetFlags(&flags));
	ok((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_YIELD, "and can be set");
	GIVES(cuCtxSetFlags(0x10000), CUDA_ERROR_INVALID_VALUE, "but only to what there is");
	CU(cuCtxGetDevice(&device));
	ok(device == dev, "the context's device");
	CU(cuCtxGetId(a, &ida));
	CU(cuCtxGetId(NULL, &idb));
	ok(ida != idb, "contexts have numbers of their own");
	CU(cuCtxGetApiVersion(b, &version));
	ok(version >= 3020, "and a version, %u", version);
	CU(cuCtxGetStreamPriorityRange(&low, &high));
	ok(high <= low, "priorities from %d to %d", high, low);
	CU(cuCtxPushCurrent(c));
	CU(cuCtxPushCurrent_v2(a));
	CU(cuMemAlloc_v2(&p, 4096));
	CU(cuCtxDestroy(a));
	CU(cuCtxGetCurrent(&got));
	ok(got == c, "destroying the current one leaves the one below");
	GIVES(cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE, "its memory is gone with it");
	GIVES(cuCtxPushCurrent_v2(a), CUDA_ERROR_INVALID_CONTEXT, "and cannot be used again");
	/* b lies below c, and is destroyed there. */
	CU(cuCtxDestroy_v2(b));
	CU(cuCtxPopCurrent_v2(&got));
	GIVES(cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED, "one that was destroyed below the current one");
	GIVES(cuMemAlloc_v2(&p, 4), CUDA_ERROR_CONTEXT_IS_DESTROYED, "is current, and good for nothing");
	GIVES(cuCtxGetId(NULL, &ida), CUDA_ERROR_CONTEXT_IS_DESTROYED, "its number");
	in_ended();
	/* What takes its place is another one. */
	CU(cuCtxCreate_v2(&b, 0, dev));
	CU(cuCtxPopCurrent_v2(NULL));
	GIVES(cuMemAlloc_v2(&p, 4), CUDA_ERROR_CONTEXT_IS_DESTROYED, "also when there are new ones");
	CU(cuCtxDestroy_v2(b));
	CU(cuCtxPopCurrent_v2(&none));
	CU(cuCtxPopCurrent_v2(&none));	/* what was a */
	CU(cuCtxDestroy_v2(c));
	CU(cuCtxGetCurrent(&got));
	ok(!got, "nothing is current in the end");
}

static void settings(CUcontext ctx)
{
	static const CUlimit limits[] = { CU_LIMIT_STACK_SIZE, CU_LIMIT_PRINTF_FIFO_SIZE, CU_LIMIT_MALLOC_HEAP_SIZE };
	CUfunc_cache cache = (CUfunc_cache)77;
	CUsharedconfig banks = (CUsharedconfig)77;
	CUexecAffinityParam affinity;
	size_t value, got;
	CUresult r;

	for (int i = 0; i < 3; i++) {
		CU(cuCtxGetLimit(&value, limits[i]));
		CU(cuCtxSetLimit(limits[i], value + 1024));
		CU(cuCtxGetLimit(&got, limits[i]));
		ok(got >= value + 1024, "limit %d goes from %zu to %zu", limits[i], value, got);
		CU(cuCtxSetLimit(limits[i], value));
	}
	r = cuCtxGetLimit(&value, (CUlimit)99);
	ok(r == CUDA_ERROR_UNSUPPORTED_LIMIT || r == CUDA_ERROR_INVALID_VALUE, "a limit there is none of: %s", cu_name(r));
	r = cuCtxSetLimit((CUlimit)99, 1);
	ok(r == CUDA_ERROR_UNSUPPORTED_LIMIT || r == CUDA_ERROR_INVALID_VALUE, "setting it: %s", cu_name(r));
	CU(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_L1));
	CU(cuCtxGetCacheConfig(&cache));
	ok(cache == CU_FUNC_CACHE_PREFER_L1 || cache == CU_FUNC_CACHE_PREFER_NONE, "a preference for the cache: %d", cache);
	CU(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_NONE));
	CU(cuCtxGetSharedMemConfig(&banks));
	CU(cuCtxSetSharedMemConfig(CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE));
	ok(banks == CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE || banks == CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE, "banks of shared memory: %d", banks);
	CU(cuCtxResetPersistingL2Cache());
	r = cuCtxGetExecAffinity(&affinity, CU_EXEC_AFFINITY_TYPE_SM_COUNT);
	ok(r == CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY || (r == CUDA_SUCCESS && affinity.param.smCount.val), "multiprocessors of the context: %s",
	   cu_name(r));
	r = cuFlushGPUDirectRDMAWrites(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX, CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER);
	ok(r == CUDA_SUCCESS || r == CUDA_ERROR_NOT_SUPPORTED, "writes of other devices: %s", cu_name(r));
	CU(cuCtxSynchronize_v2(ctx));
}

struct other {
	CUcontext ctx;
	pthread_barrier_t barrier;
	CUresult before, after, again;
};

static void *other_thread(void *arg)
{
	struct other *o = arg;
	CUdeviceptr p;
	CUcontext got;

	cuCtxGetCurrent(&got);
	o->before = got ? CUDA_ERROR_UNKNOWN : cuCtxSetCurrent(o->ctx);
	pthread_barrier_wait(&o->barrier);
	pthread_barrier_wait(&o->barrier);
	o->after = cuMemAlloc_v2(&p, 4096);
	cuCtxGetCurrent(&got);
	if (got != o->ctx)
		o->after = CUDA_ERROR_UNKNOWN;
	o->again = cuCtxSetCurrent(o->ctx);
	return NULL;
}

struct asked {
	CUevent begin, end;
	CUresult none, query, wait, elapsed;
};

static void *asking_thread(void *arg)
{
	struct asked *a = arg;
	CUcontext got;
	float ms;

	cuCtxGetCurrent(&got);
	a->none = got ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
	a->wait = cuEventSynchronize(a->end);
	a->query = cuEventQuery(a->end);
	a->elapsed = cuEventElapsedTime_v2(&ms, a->begin, a->end);
	cuCtxGetCurrent(&got);
	if (got)
		a->none = CUDA_ERROR_UNKNOWN;
	return NULL;
}

/* The runtime asks about events in threads that have no context, and has none made current for that. */
static void events_without(void)
{
	struct asked a;
	pthread_t t;

	CU(cuEventCreate(&a.begin, 0));
	CU(cuEventCreate(&a.end, 0));
	for (int i = 0; i < 3; i++) {
		CU(cuEventRecord(a.begin, NULL));
		CU(cuEventRecord(a.end, NULL));
		pthread_create(&t, NULL, asking_thread, &a);
		pthread_join(t, NULL);
		ok(a.none == CUDA_SUCCESS && a.wait == CUDA_SUCCESS && a.query == CUDA_SUCCESS && a.elapsed == CUDA_SUCCESS,
		   "without a current context a thread can wait for an event (%s), ask about it (%s), and for the time between two (%s)",
		   cu_name(a.wait), cu_name(a.query), cu_name(a.elapsed));
	}
	CU(cuEventDestroy_v2(a.begin));
	CU(cuEventDestroy_v2(a.end));
}

/* Each thread has its own; what one destroys another one loses. */
static void threads(void)
{
	struct other o;
	pthread_t t;

	CU(cuCtxCreate_v2(&o.ctx, 0, dev));
	pthread_barrier_init(&o.barrier, NULL, 2);
	pthread_create(&t, NULL, other_thread, &o);
	pthread_barrier_wait(&o.barrier);
	CU(cuCtxDestroy_v2(o.ctx));
	pthread_barrier_wait(&o.barrier);
	pthread_join(t, NULL);
	ok(o.before == CUDA_SUCCESS, "a new thread has no current context, and can have this one");
	ok(o.after == CUDA_ERROR_CONTEXT_IS_DESTROYED, "which another one destroyed: %s", cu_name(o.after));
	ok(o.again == CUDA_ERROR_INVALID_CONTEXT, "it cannot be made current again: %s", cu_name(o.again));
}

/* A library's module belongs to a context: it goes with that, and another context has its own. */
static void libraries(void)
{
	static const char ptx[] =
		".version 7.0\n"
		".target sm_75\n"
		".address_size 64\n"
		PTX_ADD;
	unsigned int seven = 7, v = 0;
	CUmodule first, second, again;
	CUcontext a, b;
	CUlibrary library;
	CUfunction f;
	CUdeviceptr d;
	void *params[] = { &d, &seven };

	CU(cuCtxCreate_v2(&a, 0, dev));
	CU(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetModule(&first, library));
	CU(cuModuleGetFunction(&f, first, "add"));
	CU(cuCtxCreate_v2(&b, 0, dev));
	CU(cuLibraryGetModule(&second, library));
	CU(cuLibraryGetModule(&again, library));
	ok(second == again, "a library has one module in a context");
	CU(cuCtxDestroy_v2(a));
	GIVES(cuModuleGetFunction(&f, second, "add"), CUDA_SUCCESS, "another context's end does it no harm");
	CU(cuMemAlloc_v2(&d, 4));
	CU(cuMemsetD32_v2(d, 0, 1));
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	CU(cuMemcpyDtoH_v2(&v, d, 4));
	ok(v == 7, "its functions run: %u", v);
	CU(cuLibraryUnload(library));
	GIVES(cuModuleGetFunction(&f, second, "add"), CUDA_ERROR_INVALID_HANDLE, "it ends with the library");
	CU(cuCtxDestroy_v2(b));
}

/* Both sides agree on what a reset leaves: what is made after it ends with the context. */
static void reset_between(void)
{
	CUstream s[300];
	CUcontext ctx;

	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuDevicePrimaryCtxReset_v2(dev));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	for (int i = 0; i < 300; i++)
		CU(cuStreamCreate(&s[i], 0));
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	GIVES(cuCtxSynchronize(), CUDA_SUCCESS, "retained twice, reset, given back once, it is there");
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	GIVES(cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED, "given back twice it is not");
	for (int round = 0; round < (ON_SOFTWARE() ? 3 : 1); round++) {
		CU(cuDevicePrimaryCtxRetain(&ctx, dev));
		for (int i = 0; i < 300; i++)
			CU(cuStreamCreate(&s[i], 0));
		GIVES(cuCtxSynchronize(), CUDA_SUCCESS, "and again there is room for streams");
		CU(cuDevicePrimaryCtxReset_v2(dev));
		CU(cuDevicePrimaryCtxRelease_v2(dev));
	}
	CU(cuCtxSetCurrent(NULL));
}

/* A capture ends with its context, also that of a stream that never does, and forbids nothing any more. */
static void captures_end(void)
{
	CUcontext ctx;
	CUdeviceptr p;

	for (int own = 0; own < 2; own++) {
		CU(cuDevicePrimaryCtxRetain(&ctx, dev));
		CU(cuCtxSetCurrent(ctx));
		if (own)
			CU(cuCtxCreate_v2(&ctx, 0, dev));
		CU(cuStreamBeginCapture_v2(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_GLOBAL));
		CU(own ? cuCtxDestroy_v2(ctx) : cuDevicePrimaryCtxReset_v2(dev));
		CU(cuDevicePrimaryCtxRetain(&ctx, dev));
		CU(cuCtxSetCurrent(ctx));
		GIVES(cuMemAlloc_v2(&p, 4096), CUDA_SUCCESS,
		      own ? "and when it is destroyed" : "a capture ends when its context is reset");
		CU(cuStreamBeginCapture_v2(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_GLOBAL));
		GIVES(cuMemAlloc_v2(&p, 4096), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
		      "another capture forbids what it did");
		CU(cuDevicePrimaryCtxReset_v2(dev));
		CU(cuCtxSetCurrent(NULL));
		CU(cuDevicePrimaryCtxRelease_v2(dev));
		CU(cuDevicePrimaryCtxRelease_v2(dev));
	}
}

/* cuDevicePrimaryCtxReset, as cudaDeviceReset has it. */
static void reset(void)
{
	CUcontext ctx, again;
	unsigned int flags;
	CUdeviceptr p, q;
	CUstream s;
	CUevent e;
	int active;

	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuMemAlloc_v2(&p, 4096));
	CU(cuStreamCreate(&s, 0));
	CU(cuEventCreate(&e, 0));
	CU(cuEventRecord(e, s));
	CU(cuEventSynchronize(e));
	CU(cuDevicePrimaryCtxReset(dev));
	CU(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	ok(!active, "after a reset the primary context is not active");
	GIVES(cuMemAlloc_v2(&q, 4096), CUDA_ERROR_CONTEXT_IS_DESTROYED, "nothing can be had of it");
	GIVES(cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED, "nor waited for");
	CU(cuDevicePrimaryCtxRetain(&again, dev));
	ok(ctx == again, "begun anew it is the same one");
	CU(cuMemAlloc_v2(&q, 4096));
	CU(cuMemsetD8_v2(q, 1, 4096));
	CU(cuCtxSynchronize());
	ok(true, "and of use");
	CU(cuMemFree_v2(q));
	CU(cuDevicePrimaryCtxReset_v2(dev));
	CU(cuCtxSetCurrent(NULL));
	GIVES(cuDevicePrimaryCtxRelease_v2(dev), CUDA_SUCCESS, "who had it gives it back after the reset");
	GIVES(cuDevicePrimaryCtxRelease_v2(dev), CUDA_SUCCESS, "as often as it was retained");
	GIVES(cuDevicePrimaryCtxRelease_v2(dev), CUDA_ERROR_INVALID_CONTEXT, "and no more");
	reset_between();
}

/* A kernel that writes when it has counted long enough. */
static const char *late =
	".version 6.0\n.target sm_50\n.address_size 64\n"
	".visible .entry late(.param .u64 where, .param .u32 rounds)\n"
	"{\n"
	"	.reg .b64 %rd<2>;\n"
	"	.reg .b32 %r<4>;\n"
	"	.reg .pred %p<2>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.param.u32 %r1, [rounds];\n"
	"	mov.u32 %r2, 1;\n"
	"again:\n"
	"	mad.lo.u32 %r2, %r2, 1664525, 1013904223;\n"
	"	add.u32 %r1, %r1, -1;\n"
	"	setp.ne.u32 %p1, %r1, 0;\n"
	"	@%p1 bra again;\n"
	"	or.b32 %r2, %r2, 1;\n"
	"	st.global.u32 [%rd1], %r2;\n"
	"	ret;\n"
	"}\n";

/* A context ends when the work in it has: what was its pinned memory is written to no more. */
static void ends_with_its_work(bool primary)
{
	unsigned int rounds = 3000000, written = 0;
	CUcontext ctx, other;
	unsigned int *p, *q;
	CUmodule module;
	CUfunction f;
	void *args[] = { &p, &rounds };

	CU(cuCtxCreate_v2(&other, 0, dev));
	if (primary)
		CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	else
		CU(cuCtxCreate_v2(&ctx, 0, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuModuleLoadData(&module, late));
	CU(cuModuleGetFunction(&f, module, "late"));
	CU(cuMemHostAlloc((void **)&p, 4096, CU_MEMHOSTALLOC_DEVICEMAP));
	*p = 0;
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, args, NULL));
	CU(primary ? cuDevicePrimaryCtxRelease_v2(dev) : cuCtxDestroy_v2(ctx));
	CU(cuCtxSetCurrent(other));
	for (int i = 0; i < 16; i++) {
		CU(cuMemHostAlloc((void **)&q, 4096, 0));
		*q = 0;
		if (q == p)
			break;
	}
	usleep(500000);
	if (q == p)
		written = *(volatile unsigned int *)q;
	printf("# the same memory: %s\n", q == p ? "yes" : "no");
	ok(!written, "what was pinned memory of the %s context is written to no more", primary ? "primary" : "ended");
	CU(cuCtxDestroy_v2(other));
	CU(cuCtxSetCurrent(NULL));
}

/* Pinned memory is for all contexts: the end of one does nothing to what another one pins, uses or is about to use. */
static void pinned_for_all(bool under_way, bool primary)
{
	unsigned int *p, *last, rounds = 1;
	size_t size = 8 << 20;
	CUcontext a, b;
	CUdeviceptr gate;
	CUmodule module;
	CUfunction f;
	CUstream s;
	void *args[] = { &p, &rounds };

	if (under_way && getenv("VGPU_SYNC"))	/* every call waits then, so that nobody could open the gate */
		return;
	/* NVIDIA's driver may have the one context's end wait for what another does with memory that both have pinned. */
	if (under_way && !ON_SOFTWARE()) {
		printf("# a context that ends while another uses pinned memory: not tested on this GPU\n");
		return;
	}
	if (primary)
		CU(cuDevicePrimaryCtxRetain(&a, dev));
	else
		CU(cuCtxCreate_v2(&a, 0, dev));
	CU(cuCtxCreate_v2(&b, 0, dev));
	CU(cuModuleLoadData(&module, late));
	CU(cuModuleGetFunction(&f, module, "late"));
	CU(cuMemHostAlloc((void **)&p, 4096, 0));
	*p = 0;
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc_v2(&gate, 4));
	CU(cuMemsetD32_v2(gate, 0, 1));
	if (under_way) {
		CU(cuStreamWaitValue32_v2(s, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
		CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, args, NULL));
	}
	CU(primary ? cuDevicePrimaryCtxRelease_v2(dev) : cuCtxDestroy_v2(a));
	if (under_way)
		CU(cuMemsetD32_v2(gate, 1, 1));
	else
		CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, args, NULL));
	printf("# a %s context ends %s a kernel of another\n", primary ? "primary" : "created", under_way ? "during" : "before");
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "pinned memory is for kernels when another context has ended");
	ok(*p & 1, "which write to it");
	/* The one that ends is the one that was used last. */
	CU(cuCtxCreate_v2(&a, 0, dev));
	CU(cuCtxSynchronize());
	CU(cuCtxDestroy_v2(a));
	CU(cuMemHostAlloc((void **)&last, size, 0));
	p = last + size / sizeof(*last) - 1;
	*p = 0;
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, args, NULL));
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "what is pinned after that is for kernels as well");
	ok(*p & 1, "which write to its end");
	CU(cuMemFreeHost(last));
	CU(cuCtxDestroy_v2(b));
}

/* A kernel that waits for the word to become other than 0, and not for ever. */
static const char *gate =
	".version 6.0\n.target sm_50\n.address_size 64\n"
	".visible .entry gate(.param .u64 where, .param .u32 rounds)\n"
	"{\n"
	"	.reg .b64 %rd<2>;\n"
	"	.reg .b32 %r<3>;\n"
	"	.reg .pred %p<3>;\n"
	"	ld.param.u64 %rd1, [where];\n"
	"	ld.param.u32 %r1, [rounds];\n"
	"again:\n"
	"	ld.volatile.global.u32 %r2, [%rd1];\n"
	"	setp.ne.u32 %p1, %r2, 0;\n"
	"	@%p1 bra out;\n"
	"	add.u32 %r1, %r1, -1;\n"
	"	setp.ne.u32 %p2, %r1, 0;\n"
	"	@%p2 bra again;\n"
	"out:\n"
	"	ret;\n"
	"}\n";

struct opener {
	CUcontext ctx;			/* another one */
	volatile unsigned int *word;	/* of the one that ends, and goes with it */
	volatile bool ended;
	bool in_time;
};

static void *opener(void *arg)
{
	struct opener *o = arg;
	CUdeviceptr p;

	usleep(50000);
	if (cuCtxSetCurrent(o->ctx) != CUDA_SUCCESS || cuMemAlloc_v2(&p, 4096) != CUDA_SUCCESS ||
	    cuMemFree_v2(p) != CUDA_SUCCESS)
		return NULL;
	o->in_time = !o->ended;
	if (o->in_time)
		*o->word = 1;
	return NULL;
}

enum end { DESTROY, RELEASE, RESET };

/* Until the work in a context that ends has ended, other threads' calls are served: it may need what they do. */
static void ends_beside_others(enum end how)
{
	static const char *const what[] = { "destroyed", "given back", "reset" };
	struct opener o = { .ended = false };
	unsigned int rounds = ON_SOFTWARE() ? 20000000 : 2000000;	/* each a microsecond, where that is a bus away */
	unsigned int *p;
	void *args[] = { &p, &rounds };
	CUmodule module;
	CUfunction f;
	CUcontext ctx;
	pthread_t t;

	CU(cuCtxCreate_v2(&o.ctx, 0, dev));
	if (how == DESTROY)
		CU(cuCtxCreate_v2(&ctx, 0, dev));
	else
		CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuModuleLoadData(&module, gate));
	CU(cuModuleGetFunction(&f, module, "gate"));
	CU(cuMemHostAlloc((void **)&p, 4096, CU_MEMHOSTALLOC_DEVICEMAP));
	*p = 0;
	o.word = p;
	CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, args, NULL));
	pthread_create(&t, NULL, opener, &o);
	if (how == DESTROY)
		CU(cuCtxDestroy_v2(ctx));
	else if (how == RELEASE)
		CU(cuDevicePrimaryCtxRelease_v2(dev));
	else
		CU(cuDevicePrimaryCtxReset_v2(dev));
	o.ended = true;
	pthread_join(t, NULL);
	ok(o.in_time, "while a context is %s another thread's calls are served", what[how]);
	if (how == RESET)
		CU(cuDevicePrimaryCtxRelease_v2(dev));
	CU(cuCtxSetCurrent(o.ctx));
	CU(cuCtxDestroy_v2(o.ctx));
	CU(cuCtxSetCurrent(NULL));
}

/* One thread gives the last back while another takes it: the one that has it has all of it. */
static void *retain_release(void *arg)
{
	unsigned int *bad = arg;

	/* A GPU's context takes half a second to make and to end. */
	for (int i = 0, n = ON_SOFTWARE() ? 200 : 3; i < n; i++) {
		CUcontext ctx;
		CUstream s;

		if (cuDevicePrimaryCtxRetain(&ctx, dev) != CUDA_SUCCESS) {
			++*bad;
			continue;
		}
		cuCtxSetCurrent(ctx);
		*bad += cuStreamCreate(&s, 0) != CUDA_SUCCESS || cuStreamSynchronize(s) != CUDA_SUCCESS;
		*bad += cuStreamDestroy_v2(s) != CUDA_SUCCESS;
		*bad += cuDevicePrimaryCtxRelease_v2(dev) != CUDA_SUCCESS;
		cuCtxSetCurrent(NULL);
	}
	return NULL;
}

static void races(void)
{
	unsigned int bad[3] = { 0 };
	pthread_t t[3];

	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, retain_release, &bad[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	ok(!bad[0] && !bad[1] && !bad[2], "three threads take the primary context and give it back: %u, %u, %u bad", bad[0],
	   bad[1], bad[2]);
}

static void resolving(void)
{
	void *old = NULL, *new = NULL;
	CUdriverProcAddressQueryResult status;

	CU(cuGetProcAddress("cuMemAlloc", &old, 13000, 0));
	CU(cuGetProcAddress_v2("cuMemAlloc", &new, 13000, 0, &status));
	ok(old && old == new && status == CU_GET_PROC_ADDRESS_SUCCESS, "both forms of cuGetProcAddress find the same");
	GIVES(cuGetProcAddress("cuNoSuchCall", &old, 13000, 0), CUDA_ERROR_NOT_FOUND, "what is not there");
	ok(!old, "has no address");
}

/* As languages with finalizers do it: what a context has is destroyed while none is current. */
static void ended_without_one(void)
{
	static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry nothing()\n{\n	ret;\n}\n";
	CUcontext ctx;
	CUgraphExec exec;
	CUlinkState link;
	CUmodule module;
	CUstream stream;
	CUevent event;
	CUgraph graph;
	CUdeviceptr d;
	void *host;

	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuLinkCreate_v2(0, NULL, NULL, &link));
	CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
	CU(cuEventCreate(&event, CU_EVENT_DEFAULT));
	CU(cuGraphCreate(&graph, 0));
	CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
	CU(cuMemAlloc_v2(&d, 4096));
	CU(cuMemAllocHost_v2(&host, 4096));
	CU(cuMemsetD8Async(d, 1, 4096, stream));
	CU(cuEventRecord(event, stream));
	CU(cuCtxSetCurrent(NULL));
	GIVES(cuGraphExecDestroy(exec), CUDA_SUCCESS, "an executable graph ends without a context");
	GIVES(cuGraphDestroy(graph), CUDA_SUCCESS, "so does a graph");
	GIVES(cuLinkDestroy(link), CUDA_SUCCESS, "a linker");
	GIVES(cuEventDestroy_v2(event), CUDA_SUCCESS, "an event");
	GIVES(cuStreamDestroy_v2(stream), CUDA_SUCCESS, "a stream");
	GIVES(cuModuleUnload(module), CUDA_SUCCESS, "a module");
	GIVES(cuMemFreeHost(host), CUDA_SUCCESS, "pinned memory");
	GIVES(cuMemFree_v2(d), CUDA_SUCCESS, "and a device's");
	OURS(cuStreamDestroy_v2(stream), CUDA_ERROR_INVALID_HANDLE, "once");
	OURS(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE, "each");
	CU(cuDevicePrimaryCtxRelease_v2(dev));
}

/* What this GPU, or this driver, has not. */
static void lacking(void)
{
	CUctxCigParam cig = { .sharedDataType = CIG_DATA_TYPE_D3D12_COMMAND_QUEUE };
	CUctxCreateParams params = { .cigParams = &cig };
	CUcontext ctx;

	OURS(cuCtxCreate_v4(&ctx, &params, 0, dev), CUDA_ERROR_NOT_SUPPORTED, "a context for work beside that of graphics");
	if (ON_SOFTWARE()) {
		GIVES(cuCtxSetLimit(CU_LIMIT_PERSISTING_L2_CACHE_SIZE, 4096), CUDA_ERROR_UNSUPPORTED_LIMIT, "a cache that it has not");
		GIVES(cuCtxSetLimit(CU_LIMIT_SHMEM_SIZE, 4096), CUDA_ERROR_UNSUPPORTED_LIMIT, "a limit that it has not");
	}
	if (!on_driver() && !counts_apart())
		GIVES(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 1ull << 40), CUDA_ERROR_OUT_OF_MEMORY, "a heap larger than the quota");
}

int main(void)
{
	CUcontext ctx;

	GIVES(cuCtxGetCurrent(&ctx), CUDA_ERROR_NOT_INITIALIZED, "before cuInit");
	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	devices();
	lacks();
	primary();
	stack();
	CU(cuCtxCreate_v4(&ctx, NULL, 0, dev));
	settings(ctx);
	deep(ctx);
	lacking();
	events_without();
	CU(cuCtxDestroy_v2(ctx));
	threads();
	libraries();
	ends_with_its_work(false);
	ends_with_its_work(true);
	for (int i = 0; i < 4; i++)
		pinned_for_all(i & 1, i & 2);
	for (enum end how = DESTROY; how <= RESET; how++)
		ends_beside_others(how);
	races();
	reset();
	captures_end();
	ended_without_one();
	resolving();
	return tap_done();
}
