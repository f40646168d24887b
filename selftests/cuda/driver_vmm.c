// SPDX-License-Identifier: Apache-2.0
/* Reserved addresses, physical memory and mappings; memory pools of the program's own. */
#include "driver.h"

static const char ptx[] = PTX_HEAD PTX_COUNT("fill");

static CUfunction fill;
static CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				    .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } };
static CUmemAccessDesc both = { .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
				.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };

/* @n words at @d that count up from @first? */
static bool counts(CUdeviceptr d, unsigned int n, unsigned int first)
{
	unsigned int *p = malloc(n * 4ul);
	bool good = true;

	CU(cuMemcpyDtoH(p, d, n * 4ul));
	for (unsigned int i = 0; i < n && good; i++)
		good = p[i] == first + i;
	free(p);
	return good;
}

static void launch(CUdeviceptr d, unsigned int n, unsigned int first)
{
	void *params[] = { &d, &first };

	CU(cuLaunchKernel(fill, n / 256, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
}

static void mappings(void)
{
	CUmemGenericAllocationHandle a, b, again;
	CUmemAllocationProp told;
	size_t granule = 0, before, during, after, total;
	unsigned long long flags = 0;
	unsigned int n, mark = 77, zero = 1;
	CUdeviceptr va = 0, other, base;

	CU(cuMemGetInfo(&before, &total));
	CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	ok(granule && !(granule & (granule - 1)), "memory comes in pieces of %zu bytes", granule);
	n = granule / 2;	/* words in two pieces */
	CU(cuMemAddressReserve(&va, 16 * granule, 0, 0, 0));
	CU(cuMemCreate(&a, granule, &prop, 0));
	CU(cuMemCreate(&b, granule, &prop, 0));
	CU(cuMemGetInfo(&during, &total));
	ok(before - during >= 2 * granule, "physical memory counts, addresses do not: %zu bytes", before - during);
	GIVES(cuMemMap(va + granule, 2 * granule, 0, a, 0), CUDA_ERROR_NOT_SUPPORTED, "more than there is of it");
	GIVES(cuMemMap(va + granule, granule, granule, a, 0), CUDA_ERROR_NOT_SUPPORTED, "a part that does not begin at its start");
	GIVES(cuMemMap(0x7000000000, granule, 0, a, 0), CUDA_ERROR_INVALID_VALUE, "a mapping where nothing is reserved");
	CU(cuMemMap(va, granule, 0, a, 0));
	CU(cuMemMap(va + granule, granule, 0, b, 0));
	GIVES(cuMemMap(va, granule, 0, b, 0), CUDA_ERROR_INVALID_VALUE, "a mapping where there is one");
	CU(cuMemSetAccess(va, 2 * granule, &both, 1));
	CU(cuMemGetAccess(&flags, &both.location, va + granule + 5));
	ok(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "access as it was set");
	launch(va, n, 1000);
	ok(counts(va, n, 1000), "a kernel and a copy go across two pieces");
	CU(cuMemGetAddressRange(&base, NULL, va + 100));
	ok(base == va, "the range an address lies in");

	/* The second piece moves, and keeps what is in it. */
	CU(cuMemUnmap(va + granule, granule));
	CU(cuMemMap(va + 8 * granule, granule, 0, b, 0));
	CU(cuMemSetAccess(va + 8 * granule, granule, &both, 1));
	ok(counts(va + 8 * granule, n / 2, 1000 + n / 2), "a piece mapped elsewhere has its contents");
	GIVES(cuMemcpyHtoD(va + granule, &mark, 4), CUDA_ERROR_INVALID_VALUE, "a copy to where nothing is any more");

	CU(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(va + 8 * granule)));
	CU(cuMemGetAllocationPropertiesFromHandle(&told, again));
	ok(again == b && told.location.id == 0 && told.type == CU_MEM_ALLOCATION_TYPE_PINNED, "a handle found by address");
	CU(cuMemRelease(again));
	CU(cuMemRelease(b));
	ok(counts(va + 8 * granule, n / 2, 1000 + n / 2), "memory without a handle lives as long as its mapping");
	GIVES(cuMemAddressFree(va, 16 * granule), CUDA_ERROR_INVALID_VALUE, "addresses that are in use");
	CU(cuMemUnmap(va + 8 * granule, granule));
	CU(cuMemUnmap(va, granule));
	CU(cuMemRelease(a));
	GIVES(cuMemRelease(a), CUDA_ERROR_INVALID_VALUE, "release a second time");

	/* What one had is not what the next one gets. */
	CU(cuMemCreate(&a, granule, &prop, 0));
	CU(cuMemMap(va + granule, granule, 0, a, 0));
	CU(cuMemSetAccess(va + granule, granule, &both, 1));
	CU(cuMemcpyDtoH(&zero, va + granule, 4));
	ok(zero == 0, "new memory holds nothing of old: %u", zero);
	CU(cuMemUnmap(va + granule, granule));
	CU(cuMemRelease(a));
	GIVES(cuMemCreate(&a, (total / granule + 1) * granule, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY, "more than there is");
	for (size_t align = granule; align <= 64 * granule; align *= 8) {
		CU(cuMemAddressReserve(&other, granule, align, 0, 0));
		ok(other % align == 0, "addresses aligned to %zu MiB", align >> 20);
		CU(cuMemAddressFree(other, granule));
	}
	CU(cuMemAddressReserve(&other, granule, 0, 0, 0));
	CU(cuMemAddressFree(other, granule));
	CU(cuMemAddressFree(va, 16 * granule));
	GIVES(cuMemUnmap(va, granule), CUDA_ERROR_INVALID_VALUE, "nothing to unmap");
	CU(cuMemGetInfo(&after, &total));
	ok(before == after || on_driver(), "all memory is free again: %zu of %zu bytes", after, before);
}

static unsigned long long told(CUpointer_attribute a, CUdeviceptr p)
{
	unsigned long long value = 0;

	CU(cuPointerGetAttribute(&value, a, p));
	return value;
}

/* Two mappings side by side and a hole behind them: each mapping is an allocation, whatever its addresses were reserved with. */
static void ranges(void)
{
	CUmemGenericAllocationHandle a, b;
	unsigned long long none = 77, *none_at = &none;
	CUdeviceptr va, base, hole;
	size_t granule, size;

	CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CU(cuMemAddressReserve(&va, 5 * granule, 0, 0, 0));
	CU(cuMemCreate(&a, granule, &prop, 0));
	CU(cuMemCreate(&b, 2 * granule, &prop, 0));
	CU(cuMemMap(va, granule, 0, a, 0));
	CU(cuMemMap(va + granule, 2 * granule, 0, b, 0));
	CU(cuMemSetAccess(va, 3 * granule, &both, 1));
	hole = va + 3 * granule + 100;
	for (int i = 0; i < 2; i++) {
		CUdeviceptr at = va + i * granule;

		CU(cuMemGetAddressRange(&base, &size, at + (i + 1) * granule - 1));
		ok(on_driver() || (base == at && size == (i + 1) * granule), "mapping %d: its own range: %#llx, %zu bytes", i,
		   base, size);
		ok(told(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, at) == va &&
		   told(CU_POINTER_ATTRIBUTE_RANGE_SIZE, at) == 5 * granule, "the addresses are all that were reserved");
		ok(on_driver() || (told(CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, at + 8) == at &&
				   told(CU_POINTER_ATTRIBUTE_MAPPING_SIZE, at + 8) == (i + 1) * granule),
		   "its attributes say the same");
		ok(on_driver() || told(CU_POINTER_ATTRIBUTE_BUFFER_ID, at) ==
				  told(CU_POINTER_ATTRIBUTE_BUFFER_ID, at + (i + 1) * granule - 1), "one number for all of it");
	}
	ok(on_driver() || (told(CU_POINTER_ATTRIBUTE_BUFFER_ID, va) != told(CU_POINTER_ATTRIBUTE_BUFFER_ID, va + granule) &&
			   told(CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, va) !=
			   told(CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, va + granule)), "each has its own");
	OURS(cuMemGetAddressRange(&base, &size, hole), CUDA_ERROR_NOT_FOUND, "the range of a hole");
	OURS(cuPointerGetAttribute(&none, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, hole), CUDA_ERROR_INVALID_VALUE, "its mapping");
	OURS(cuPointerGetAttribute(&none, CU_POINTER_ATTRIBUTE_BUFFER_ID, hole), CUDA_ERROR_INVALID_VALUE, "its number");
	OURS(cuPointerGetAttributes(1, (CUpointer_attribute[]){ CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR }, (void **)&none_at, hole),
	     CUDA_SUCCESS, "asked for several at once");
	ok(on_driver() || !none, "nothing: %#llx", none);

	/* The same memory once more, elsewhere. */
	CU(cuMemMap(va + 4 * granule, granule, 0, a, 0));
	CU(cuMemSetAccess(va + 4 * granule, granule, &both, 1));
	ok(on_driver() || (told(CU_POINTER_ATTRIBUTE_BUFFER_ID, va) != told(CU_POINTER_ATTRIBUTE_BUFFER_ID, va + 4 * granule) &&
			   told(CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, va) ==
			   told(CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, va + 4 * granule)), "mapped twice: two mappings of one memory");
	CU(cuMemUnmap(va + 4 * granule, granule));
	/* "The entire contiguous address range that was mapped to" (cuda.h): of one call, perhaps. */
	if (ON_SOFTWARE()) {
		CU(cuMemUnmap(va, 3 * granule));
	} else {
		CU(cuMemUnmap(va, granule));
		CU(cuMemUnmap(va + granule, 2 * granule));
	}
	OURS(cuMemGetAddressRange(&base, &size, va), CUDA_ERROR_NOT_FOUND, "no range when it is unmapped");
	CU(cuMemRelease(a));
	CU(cuMemRelease(b));
	CU(cuMemAddressFree(va, 5 * granule));
}

/* Devices that are none, the host, and what other systems and machines share. */
static void elsewhere(void)
{
	CUmemAllocationProp none = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 99 } }, foreign = prop;
	CUmemAccessDesc access = { .location = none.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
	CUmemLocation host = { .type = CU_MEM_LOCATION_TYPE_HOST };
	CUmemGenericAllocationHandle h, other;
	unsigned long long flags;
	CUmemoryPool pool;
	CUdeviceptr va, more;
	size_t granule, n;

	CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CU(cuMemCreate(&h, granule, &prop, 0));
	CU(cuMemAddressReserve(&va, granule, 0, 0, 0));
	CU(cuMemMap(va, granule, 0, h, 0));
	GIVES(cuMemCreate(&other, granule, &none, 0), CUDA_ERROR_INVALID_DEVICE, "memory of a device that is none");
	GIVES(cuMemSetAccess(va, granule, &access, 1), CUDA_ERROR_INVALID_DEVICE, "access of one");
	OURS(cuMemGetAccess(&flags, &none.location, va), CUDA_ERROR_INVALID_DEVICE, "asking for it");
	GIVES(cuMemGetDefaultMemPool(&pool, &none.location, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_ERROR_INVALID_DEVICE,
	      "its default pool");
	access.location = host;
	OURS(cuMemSetAccess(va, granule, &access, 1), CUDA_ERROR_NOT_SUPPORTED, "access of the host");
	OURS(cuMemGetAccess(&flags, &host, va), CUDA_ERROR_NOT_SUPPORTED, "asking for it");
	OURS(cuMemGetDefaultMemPool(&pool, &host, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_ERROR_NOT_SUPPORTED, "the host's pool");
	foreign.requestedHandleTypes = CU_MEM_HANDLE_TYPE_WIN32;
	OURS(cuMemCreate(&other, granule, &foreign, 0), CUDA_ERROR_NOT_SUPPORTED, "memory to share as on Windows");
	OURS(cuMemGetAllocationGranularity(&n, &foreign, CU_MEM_ALLOC_GRANULARITY_MINIMUM), CUDA_ERROR_NOT_SUPPORTED,
	     "its granularity");
	OURS(cuMemImportFromShareableHandle(&other, &n, CU_MEM_HANDLE_TYPE_WIN32), CUDA_ERROR_NOT_SUPPORTED, "what was shared so");
	OURS(cuMemImportFromShareableHandle(&other, &n, CU_MEM_HANDLE_TYPE_FABRIC), CUDA_ERROR_NOT_SUPPORTED, "or by a fabric");
	GIVES(cuMemAddressReserve(&more, 1ull << 56, 0, 0, 0), CUDA_ERROR_OUT_OF_MEMORY, "more addresses than there are");
	CU(cuMemUnmap(va, granule));
	CU(cuMemAddressFree(va, granule));
	CU(cuMemRelease(h));
}

static void pools(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } };
	CUmemoryPool pool, standard, now;
	CUmemAccess_flags access = 0;
	cuuint64_t threshold = 1 << 20, got = 0;
	CUdeviceptr a, b;
	CUstream stream;

	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuDeviceGetDefaultMemPool(&standard, 0));
	CU(cuMemPoolCreate(&pool, &props));
	ok(pool != standard, "a pool of our own");
	CU(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
	CU(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &got));
	ok(got == threshold, "its attribute");
	CU(cuMemPoolGetAccess(&access, pool, &props.location));
	ok(access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "its device may use it");
	CU(cuMemAllocFromPoolAsync(&a, 1 << 20, pool, stream));
	CU(cuDeviceSetMemPool(0, pool));
	CU(cuDeviceGetMemPool(&now, 0));
	ok(now == pool, "it becomes the device's");
	CU(cuMemAllocAsync(&b, 1 << 20, stream));
	CU(cuMemsetD32Async(a, 5, 1 << 18, stream));
	CU(cuMemcpyDtoDAsync(b, a, 1 << 20, stream));
	CU(cuMemFreeAsync(a, stream));
	CU(cuStreamSynchronize(stream));
	launch(b, 1 << 18, 9);
	ok(counts(b, 1 << 18, 9), "memory from it is memory");
	CU(cuMemFreeAsync(b, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemPoolTrimTo(pool, 0));
	CU(cuMemPoolDestroy(pool));
	CU(cuDeviceGetMemPool(&now, 0));
	ok(now == standard, "without it the device has its default pool again");
	GIVES(cuMemAllocFromPoolAsync(&a, 100, pool, stream), CUDA_ERROR_INVALID_VALUE, "a pool that is gone");
	GIVES(cuMemPoolDestroy(standard), CUDA_ERROR_INVALID_VALUE, "destroy the default pool");
	CU(cuStreamDestroy(stream));
}

int main(void)
{
	CUmodule module;
	CUdevice dev;
	int vmm = 0;

	primary_context(&dev);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&fill, module, "fill"));
	CU(cuDeviceGetAttribute(&vmm, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, dev));
	ok(vmm == 1, "the device has virtual memory management");
	mappings();
	ranges();
	elsewhere();
	pools();
	CU(cuDevicePrimaryCtxRelease(dev));
	return tap_done();
}
