// SPDX-License-Identifier: Apache-2.0
/* Two devices in one session: what they are to each other, copies between them; with one device, that there is no other. */
#define __CUDA_API_VERSION_INTERNAL
#include "driver.h"

static void alone(CUdevice dev)
{
	int can = 77;

	GIVES(cuDeviceCanAccessPeer(&can, dev, 99), CUDA_ERROR_INVALID_DEVICE, "a device that is none");
	CU(cuDeviceCanAccessPeer(&can, dev, dev));
	ok(!can, "a device is not its own peer");
	GIVES(cuDeviceGetP2PAttribute(&can, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, dev, dev), CUDA_ERROR_INVALID_DEVICE,
	      "a device and itself");
}

static void pair(CUdevice one, CUdevice two, CUcontext here, CUcontext there)
{
	CUatomicOperation ops[] = { CU_ATOMIC_OPERATION_INTEGER_ADD };
	CUDA_MEMCPY3D_PEER box = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcPitch = 64, .srcHeight = 2, .srcContext = here,
				   .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstPitch = 64, .dstHeight = 2, .dstContext = there,
				   .WidthInBytes = 64, .Height = 2, .Depth = 1 };
	unsigned int value[32], got[32] = { 0 }, atomics = 77;
	int can = 77, access = 77, rank = -1;
	CUmemoryPool pool;
	CUdeviceptr a, b;
	CUstream s;
	CUdevice on;
	CUresult r;

	CU(cuDeviceCanAccessPeer(&can, one, two));
	CU(cuDeviceGetP2PAttribute(&access, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, one, two));
	CU(cuDeviceGetP2PAttribute(&rank, CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK, one, two));
	ok(can == access && rank >= 0, "they can reach each other's memory: %d, rank %d", can, rank);
	GIVES(cuDeviceGetP2PAttribute(&access, (CUdevice_P2PAttribute)77, one, two), CUDA_ERROR_INVALID_VALUE, "an attribute that is none");
	r = cuDeviceGetP2PAtomicCapabilities(&atomics, ops, 1, one, two);
	ok(r == CUDA_SUCCESS && atomics != 77, "atomically: %s, %#x", cu_name(r), atomics);
	CU(cuCtxSetCurrent(here));
	CU(cuMemAlloc_v2(&a, 4096));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	if (can) {
		CU(cuCtxEnablePeerAccess(there, 0));
		GIVES(cuCtxEnablePeerAccess(there, 0), CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "access twice");
		GIVES(cuCtxEnablePeerAccess(there, 1), CUDA_ERROR_INVALID_VALUE, "access with flags");
	}
	CU(cuCtxSetCurrent(there));
	CU(cuMemAlloc_v2(&b, 4096));
	CU(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, b));
	ok(on == two, "memory is where its context is");
	CU(cuCtxSetCurrent(here));
	for (unsigned int i = 0; i < 32; i++)
		value[i] = i + 100;
	CU(cuMemcpyHtoD_v2(a, value, 128));
	CU(cuMemcpyPeer(b, there, a, here, 128));
	CU(cuMemcpyDtoH_v2(got, b, 128));
	ok(!memcmp(got, value, 128), "a copy from device to device");
	CU(cuMemcpyPeerAsync(b + 1024, there, b, there, 128, s));
	box.srcDevice = a;
	box.dstDevice = b + 2048;
	CU(cuMemcpy3DPeer(&box));
	CU(cuMemcpy3DPeerAsync(&box, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH_v2(got, b + 1024, 128));
	ok(!memcmp(got, value, 128), "in a stream");
	memset(got, 0, sizeof(got));
	CU(cuMemcpyDtoH_v2(got, b + 2048, 128));
	ok(!memcmp(got, value, 128), "and a box");
	CU(cuDeviceGetDefaultMemPool(&pool, one));
	if (can) {
		CUmemAccessDesc two_too = { .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = two },
					    .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
		CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;

		CU(cuMemPoolSetAccess(pool, &two_too, 1));
		CU(cuMemPoolGetAccess(&flags, pool, &two_too.location));
		ok(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "a pool can be shared: %d", flags);
		two_too.location.id = 99;
		ok(cuMemPoolSetAccess(pool, &two_too, 1) != CUDA_SUCCESS, "but not with no device");
		CU(cuCtxDisablePeerAccess(there));
		GIVES(cuCtxDisablePeerAccess(there), CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "no access any more");
	}
	GIVES(cuCtxEnablePeerAccess(here, 0), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "access to itself");
	CU(cuMemFree_v2(a));
	CU(cuMemFree_v2(b));
}

/* Memory is where it was made, whatever context is current; each is asked in the context of the other. */
static void ordinals(CUdevice one, CUdevice two, CUcontext here, CUcontext there)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = two } };
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = two } };
	CUmemGenericAllocationHandle physical;
	CUdeviceptr at, p;
	CUmemoryPool pool;
	CUdevice on = -1;
	CUstream s;
	size_t size;

	CU(cuCtxSetCurrent(here));
	CU(cuMemGetAllocationGranularity(&size, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CU(cuMemCreate(&physical, size, &prop, 0));
	CU(cuMemAddressReserve(&at, size, 0, 0, 0));
	CU(cuMemMap(at, size, 0, physical, 0));
	/* The software GPU by itself does not say. */
	if (!counts_apart()) {
		CU(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, at));
		ok(on == two, "what is mapped is where it was made: %d", on);
	}
	CU(cuMemUnmap(at, size));
	CU(cuMemRelease(physical));
	CU(cuMemAddressFree(at, size));

	CU(cuMemPoolCreate(&pool, &props));
	CU(cuCtxSetCurrent(there));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemAllocFromPoolAsync(&p, 4096, pool, s));
	CU(cuCtxSetCurrent(here));
	CU(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p));
	ok(on == two, "so is a pool's memory: %d", on);
	CU(cuCtxSetCurrent(there));
	CU(cuMemFreeAsync(p, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemPoolDestroy(pool));

	props.location.id = one;
	CU(cuMemPoolCreate(&pool, &props));
	CU(cuMemAllocFromPoolAsync(&p, 4096, pool, s));
	CU(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p));
	ok(on == one, "also when it was taken in another device's context: %d", on);
	CU(cuMemFreeAsync(p, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemPoolDestroy(pool));
	CU(cuStreamDestroy(s));
}

/* What a kernel is on each device: what is set for one is set for that one, and what it can do is asked of each. */
static void kernels(CUdevice one, CUdevice two, CUcontext here, CUcontext there)
{
	static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n" PTX_ADD;
	const CUfunction_attribute shared = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
	unsigned int by = 5, got[2] = { 0 };
	int before = 0, value = 0, blocks = 0;
	CUdeviceptr d[2];
	CUlibrary library;
	CUkernel kernel;

	CU(cuCtxSetCurrent(here));
	CU(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	CU(cuLibraryGetKernel(&kernel, library, "add"));
	CU(cuKernelGetAttribute(&before, shared, kernel, two));
	CU(cuKernelSetAttribute(shared, before / 2, kernel, one));
	CU(cuKernelGetAttribute(&value, shared, kernel, one));
	ok(value == before / 2, "an attribute that is set for one device: %d", value);
	/* The software GPU by itself keeps one for all. */
	if (!counts_apart()) {
		CU(cuKernelGetAttribute(&value, shared, kernel, two));
		ok(value == before, "is what it was on the other: %d", value);
	}
	for (int i = 0; i < 2; i++) {
		void *params[] = { &d[i], &by };

		CU(cuCtxSetCurrent(i ? there : here));
		CU(cuMemAlloc_v2(&d[i], 4));
		CU(cuMemsetD32_v2(d[i], i, 1));
		CU(cuLaunchKernel((CUfunction)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
		CU(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, (CUfunction)kernel, 64, 0));
		ok(blocks > 0, "blocks of it at a time: %d", blocks);
		CU(cuMemcpyDtoH_v2(&got[i], d[i], 4));
		CU(cuMemFree_v2(d[i]));
	}
	ok(got[0] == 5 && got[1] == 6, "it runs on both: %u, %u", got[0], got[1]);
	CU(cuLibraryUnload(library));
}

int main(void)
{
	CUcontext here, there;
	CUdevice one, two;
	int n = 0;

	CU(cuInit(0));
	CU(cuDeviceGetCount(&n));
	CU(cuDeviceGet(&one, 0));
	CU(cuDevicePrimaryCtxRetain(&here, one));
	CU(cuCtxSetCurrent(here));
	alone(one);
	printf("# %d devices\n", n);
	if (n < 2)
		return tap_done();
	CU(cuDeviceGet(&two, 1));
	CU(cuDevicePrimaryCtxRetain(&there, two));
	pair(one, two, here, there);
	ordinals(one, two, here, there);
	kernels(one, two, here, there);
	return tap_done();
}
