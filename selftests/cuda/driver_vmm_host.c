// SPDX-License-Identifier: Apache-2.0
/* Host memory by cuMemCreate(): mapped at addresses that were reserved, for host and kernels alike. */
#include "driver.h"

static const char ptx[] = PTX_HEAD PTX_COUNT_UP("count");

#define DEVICE	{ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 }
#define HOST	{ .type = CU_MEM_LOCATION_TYPE_HOST_NUMA, .id = 0 }

static CUfunction count;
static size_t granule;
static unsigned int words;	/* in one */
static CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = HOST };
static CUmemAllocationProp device_prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = DEVICE };
static const CUmemAccessDesc both[] = { { .location = DEVICE, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE },
					{ .location = HOST, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE } };

static void load(void)
{
	CUmodule module;

	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&count, module, "count"));
}

static void launch(CUdeviceptr d, unsigned int n, unsigned int value, CUstream stream)
{
	void *params[] = { &d, &value };

	CU(cuLaunchKernel(count, n / 256, 1, 1, 256, 1, 1, 0, stream, params, NULL));
}

static unsigned int *at(CUdeviceptr p)
{
	return (unsigned int *)(uintptr_t)p;
}

/* @n words that count up from @first? */
static bool counts(const unsigned int *p, unsigned int n, unsigned int first)
{
	for (unsigned int i = 0; i < n; i++)
		if (p[i] != first + i) {
			printf("# word %u of %u is %u instead of %u\n", i, n, p[i], first + i);
			return false;
		}
	return true;
}

static void map(CUdeviceptr va, CUmemGenericAllocationHandle h, size_t size)
{
	CU(cuMemMap(va, size, 0, h, 0));
	CU(cuMemSetAccess(va, size, both, 2));
}

/* Can the host read what is there? Asked in a way that does not kill. */
static bool readable(CUdeviceptr p)
{
	bool yes = false;
	int pipe_[2];

	if (!pipe(pipe_)) {
		yes = write(pipe_[1], at(p), 1) == 1;
		close(pipe_[0]);
		close(pipe_[1]);
	}
	return yes;
}

static void handles(void)
{
	CUmemAllocationProp other = prop, told;
	CUmemGenericAllocationHandle h;
	size_t size = 0;
	int fd;

	CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CU(cuMemGetAllocationGranularity(&size, &device_prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	ok(granule && !(granule & (granule - 1)), "host memory comes in pieces of %zu bytes", granule);
	granule = granule > size ? granule : size;
	words = granule / 4;
	GIVES(cuMemCreate(&h, granule + 1, &prop, 0), CUDA_ERROR_INVALID_VALUE, "a piece and a byte");
	GIVES(cuMemCreate(&h, granule, &prop, 1), CUDA_ERROR_INVALID_VALUE, "flags that there are none of");
	other.type = CU_MEM_ALLOCATION_TYPE_INVALID;
	OURS(cuMemGetAllocationGranularity(&size, &other, CU_MEM_ALLOC_GRANULARITY_MINIMUM), CUDA_ERROR_INVALID_VALUE,
	     "of no kind of allocation");
	other.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	other.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
	GIVES(cuMemCreate(&h, granule, &other, 0), CUDA_ERROR_INVALID_VALUE, "memory of whatever node runs us");
	other.location.type = CU_MEM_LOCATION_TYPE_INVALID;
	GIVES(cuMemCreate(&h, granule, &other, 0), CUDA_ERROR_INVALID_VALUE, "memory of nowhere");
	other.location.type = CU_MEM_LOCATION_TYPE_HOST;
	other.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	OURS(cuMemCreate(&h, granule, &other, 0), CUDA_ERROR_INVALID_VALUE, "of the host, to be shared");
	other.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
	OURS(cuMemCreate(&h, granule, &other, 0), CUDA_ERROR_NOT_SUPPORTED, "of a node, to be shared");
	other.location.id = -1;
	OURS(cuMemCreate(&h, granule, &other, 0), CUDA_ERROR_INVALID_VALUE, "of a node that there is not");
	OURS(cuMemCreate(&h, granule << 30, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY, "more than there is");
	CU(cuMemCreate(&h, granule, &prop, 0));
	CU(cuMemGetAllocationPropertiesFromHandle(&told, h));
	ok(told.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA && told.location.id == 0 && !told.requestedHandleTypes &&
	   told.type == CU_MEM_ALLOCATION_TYPE_PINNED, "a handle says what it is");
	OURS(cuMemExportToShareableHandle(&fd, h, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0), CUDA_ERROR_INVALID_VALUE,
	     "a descriptor of it");
	CU(cuMemRelease(h));
	OURS(cuMemRelease(h), CUDA_ERROR_INVALID_VALUE, "release it again");
	other = prop;
	other.location.type = CU_MEM_LOCATION_TYPE_HOST;
	OURS(cuMemCreate(&h, granule, &other, 0), CUDA_SUCCESS, "memory of any node");
	if (!on_driver())
		CU(cuMemRelease(h));
}

static unsigned int told(CUpointer_attribute a, CUdeviceptr p)
{
	unsigned int value = 77;

	CU(cuPointerGetAttribute(&value, a, p));
	return value;
}

static void access_and_attributes(void)
{
	CUmemAccessDesc host = { .location = { .type = CU_MEM_LOCATION_TYPE_HOST }, .flags = CU_MEM_ACCESS_FLAGS_PROT_READ };
	CUmemGenericAllocationHandle h, again;
	unsigned long long flags = 77;
	CUdeviceptr va, other;
	size_t size;
	void *p;

	CU(cuMemAddressReserve(&va, 4 * granule, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	CU(cuMemMap(va + granule, granule, 0, h, 0));
	CU(cuMemGetAccess(&flags, &both[1].location, va + granule));
	ok(flags == CU_MEM_ACCESS_FLAGS_PROT_NONE, "the host has no access yet: %llu", flags);
	ok(counts_apart() || !readable(va + granule), "nor does it get at it");
	CU(cuMemSetAccess(va + granule, granule, both, 2));
	for (int i = 0; i < 2; i++) {
		CU(cuMemGetAccess(&flags, &both[i].location, va + granule + 100));
		ok(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "%s has access", i ? "the host" : "the device");
	}
	ok(readable(va + granule) && at(va + granule)[0] == 0 && at(va + 2 * granule)[-1] == 0, "new memory is zero");
	ok(told(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, va + granule + 8) == CU_MEMORYTYPE_HOST, "it is memory of the host");
	ok(told(CU_POINTER_ATTRIBUTE_IS_MANAGED, va + granule) == 0 && told(CU_POINTER_ATTRIBUTE_MAPPED, va + granule) == 1,
	   "which is mapped, and not managed");
	CU(cuPointerGetAttribute(&other, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, va + granule + 8));
	ok(other == va + granule + 8, "the device has it at the same address");
	OURS(cuPointerGetAttribute(&p, CU_POINTER_ATTRIBUTE_HOST_POINTER, va + granule + 8), CUDA_SUCCESS, "the host");
	ok(on_driver() || p == at(va + granule + 8), "as well: %p", p);
	OURS(cuPointerGetAttribute(&p, CU_POINTER_ATTRIBUTE_BUFFER_ID, va), CUDA_ERROR_INVALID_VALUE, "where nothing is mapped");
	OURS(cuMemGetAddressRange(&other, &size, va + granule + 8), CUDA_SUCCESS, "its range");
	ok(on_driver() || (other == va + granule && size == granule), "is the mapping");
	CU(cuMemRetainAllocationHandle(&again, at(va + granule + 8)));
	ok(again == h || on_driver(), "a handle found by address");
	CU(cuMemRelease(again));

	if (!counts_apart() && !on_driver()) {
		GIVES(cuMemHostRegister(at(va + granule), granule, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
		      "it is pinned already");
		CU(cuMemSetAccess(va + granule, granule, &host, 1));
		CU(cuMemGetAccess(&flags, &host.location, va + granule));
		ok(flags == CU_MEM_ACCESS_FLAGS_PROT_READ && readable(va + granule), "the host may read");
		host.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
		CU(cuMemSetAccess(va + granule, granule, &host, 1));
		CU(cuMemsetD32(va + granule, 5, words));
		ok(!readable(va + granule), "the host may not, and the device may");
		CU(cuMemSetAccess(va + granule, granule, both, 2));
		ok(at(va + granule)[0] == 5 && at(va + granule)[words - 1] == 5, "the host may again");
	}
	OURS(cuMemSetAccess(va, 2 * granule, both, 2), CUDA_ERROR_INVALID_VALUE, "access to what is not mapped");
	GIVES(cuMemAddressFree(va, 4 * granule), CUDA_ERROR_INVALID_VALUE, "addresses that are in use");
	CU(cuMemRelease(h));
	at(va + granule)[1] = 7;
	ok(at(va + granule)[1] == 7, "memory without a handle lives as long as its mapping");
	CU(cuMemUnmap(va + granule, granule));
	OURS(cuMemUnmap(va + granule, granule), CUDA_ERROR_INVALID_VALUE, "nothing to unmap");
	ok(counts_apart() || !readable(va + granule), "unmapped, it is out of the host's reach");
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va + granule, h, granule);
	ok(at(va + granule)[1] == 0, "what comes next holds nothing of it");
	CU(cuMemUnmap(va + granule, granule));
	CU(cuMemRelease(h));
	CU(cuMemAddressFree(va, 4 * granule));
}

/* A kernel, and the host; twice the same memory, and elsewhere later. */
static void kernels(void)
{
	CUmemGenericAllocationHandle h;
	CUdeviceptr va, two;

	CU(cuMemAddressReserve(&va, 2 * granule, 0, 0, 0));
	CU(cuMemAddressReserve(&two, 2 * granule, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va, h, granule);
	for (unsigned int i = 0; i < words; i++)
		at(va)[i] = 1000;
	launch(va, words, 7, NULL);
	CU(cuCtxSynchronize());
	ok(counts(at(va), words, 1007), "a kernel reads what the host wrote, and the host what the kernel wrote");
	map(two, h, granule);
	map(va + granule, h, granule);
	ok(counts(at(two), words, 1007) && counts(at(va + granule), words, 1007), "the same memory at three addresses");
	at(two)[0] = 2007;
	ok(at(va)[0] == 2007 && at(va + granule)[0] == 2007, "at once");
	at(va + granule)[0] = 1007;
	launch(two, words, 0, NULL);
	if (counts_apart() || on_driver())	/* no one else says that they wait for it */
		CU(cuCtxSynchronize());
	CU(cuMemUnmap(two, granule));
	ok(at(va)[0] == 1007 && at(va)[10] == 1007 + 20, "a kernel has done its work when the mapping goes");
	CU(cuMemUnmap(va, 2 * granule));
	map(two + granule, h, granule);
	ok(at(two + granule)[10] == 1007 + 20, "it is there with all mappings gone");
	launch(two + granule, words, 1, NULL);
	CU(cuCtxSynchronize());
	ok(at(two + granule)[10] == 1007 + 31, "and so for a kernel");
	CU(cuMemUnmap(two + granule, granule));
	CU(cuMemRelease(h));
	CU(cuMemAddressFree(two, 2 * granule));
	CU(cuMemAddressFree(va, 2 * granule));
}

static void CUDA_CB nap(void *done)
{
	usleep(400000);
	__atomic_store_n((int *)done, 1, __ATOMIC_SEQ_CST);
}

/* While a host function is on its way, which what unmaps must not be in the way of. */
static void unmapped_meanwhile(void)
{
	CUmemGenericAllocationHandle h;
	CUstream stream;
	CUdeviceptr va;
	int done = 0;

	if (on_driver() || counts_apart())
		return;
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemAddressReserve(&va, granule, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va, h, granule);
	CU(cuLaunchHostFunc(stream, nap, &done));
	launch(va, words, 0, stream);
	CU(cuMemUnmap(va, granule));
	ok(__atomic_load_n(&done, __ATOMIC_SEQ_CST), "what is queued is done when a mapping goes, host functions and all");
	CU(cuMemRelease(h));
	CU(cuMemAddressFree(va, granule));
	CU(cuStreamSynchronize(stream));
	CU(cuStreamDestroy(stream));
}

static void fill(unsigned int *p, unsigned int n, unsigned int first)
{
	for (unsigned int i = 0; i < n; i++)
		p[i] = first + i;
}

/* Mapping after mapping, which one copy goes across; at last into addresses that were reserved behind them. */
static void grows(void)
{
	CUmemGenericAllocationHandle h[4];
	unsigned int n = 4 * words, *plain = malloc(n * 4ul);
	CUdeviceptr va, more = 0, d, box = granule / 2 + 256;
	CUDA_MEMCPY2D c = { .WidthInBytes = granule / 4, .Height = 3 };
	CUstream stream;
	bool adjacent;

	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&d, n * 4ul));
	CU(cuMemAddressReserve(&va, 3 * granule, 0, 0, 0));
	CU(cuMemAddressReserve(&more, granule, 0, va + 3 * granule, 0));
	adjacent = more == va + 3 * granule;
	printf("# a hint where to reserve was %s\n", adjacent ? "taken" : "not taken");
	if (!adjacent)
		n = 3 * words;
	for (unsigned int i = 0; i < 4; i++) {
		CU(cuMemCreate(&h[i], granule, &prop, 0));
		map(i < 3 ? va + i * granule : more, h[i], granule);
	}
	fill(at(va), n, 100);
	CU(cuMemcpyHtoD(d, at(va), n * 4ul));
	CU(cuMemcpyDtoH(plain, d, n * 4ul));
	ok(counts(plain, n, 100), "a copy to the device, across mappings");
	memset(at(va), 0, n * 4ul);
	CU(cuMemcpyDtoH(at(va + 4), d, n * 4ul - 4));
	ok(counts(at(va + 4), n - 1, 100), "one from the device");
	fill(plain, n, 500);
	CU(cuMemcpyHtoD(d, plain, n * 4ul));
	CU(cuMemcpyDtoD(va, d, n * 4ul));
	CU(cuCtxSynchronize());
	ok(counts(at(va), n, 500), "one between device addresses, which these are, too");
	fill(plain, n, 700);
	CU(cuMemcpy(va, (uintptr_t)plain, n * 4ul));
	ok(counts(at(va), n, 700), "one of two host addresses");
	CU(cuMemcpyHtoD(va, plain, n * 4ul - 8));
	CU(cuMemcpy(d, va, n * 4ul));
	memset(plain, 0, n * 4ul);
	CU(cuMemcpyDtoH(plain, d, n * 4ul));
	ok(counts(plain, n, 700), "copies whichever way the addresses tell");

	if (!on_driver()) {
		CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL };
		CUdeviceptr src = va;
		size_t bytes = n * 4ul, first = 0;

		fill(at(va), n, 900);
		CU(cuMemcpyBatchAsync(&d, &src, &bytes, 1, &how, &first, 1, stream));
		at(va)[n - 1] = at(va)[0] = 0;
		CU(cuStreamSynchronize(stream));
		CU(cuMemcpyDtoH(plain, d, bytes));
		ok(counts(plain, n, 900), "a copy that reads before the call returns");
	}

	/* In the order of a stream: the copy has what the kernel has written. */
	memset(at(va), 0, n * 4ul);
	launch(va, n, 300, stream);
	CU(cuMemcpyHtoDAsync(d, at(va), n * 4ul, stream));
	CU(cuMemsetD32Async(va, 9, n, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(plain, d, n * 4ul));
	ok(counts(plain, n, 300), "a kernel, then a copy, in one stream");
	ok(at(va)[0] == 9 && at(va)[words] == 9 && at(va)[n - 1] == 9, "then a fill, across mappings");
	launch(d, n, 0, stream);
	CU(cuMemcpyDtoHAsync(at(va), d, n * 4ul, stream));
	CU(cuStreamSynchronize(stream));
	ok(at(va)[0] == 300 && at(va)[n - 1] == 300 + 2 * (n - 1), "a kernel, then a copy back");
	CU(cuMemsetD8(va + 100, 1, 2 * granule));
	ok(at(va)[24] != 0x01010101 && at(va)[25] == 0x01010101 && at(va)[2 * words + 24] == 0x01010101 &&
	   at(va)[2 * words + 25] != 0x01010101, "a fill of bytes has ends");

	/* Boxes in one mapping and in several. */
	for (int several = 0; several < 2; several++) {
		fill(at(va), 3 * words, 0);
		c.srcMemoryType = CU_MEMORYTYPE_HOST;
		c.srcHost = at(va + (several ? box : 256));
		c.srcPitch = granule / 4 + (several ? granule / 8 : 0);
		c.dstMemoryType = CU_MEMORYTYPE_DEVICE;
		c.dstDevice = d;
		c.dstPitch = granule / 4;
		CU(cuMemsetD8Async(d, 0, n * 4ul, stream));
		CU(cuMemcpy2DAsync(&c, stream));
		CU(cuStreamSynchronize(stream));
		CU(cuMemcpyDtoH(plain, d, n * 4ul));
		ok(counts(plain, words / 4, (several ? box : 256) / 4) &&
		   counts(plain + words / 2, words / 4, ((several ? box : 256) + 2 * c.srcPitch) / 4) && !plain[3 * words / 4],
		   "a box %s", several ? "that lies across mappings" : "in one mapping");
	}
	if (adjacent)
		CU(cuMemUnmap(va + 2 * granule, 2 * granule));	/* of two reservations */
	else
		CU(cuMemUnmap(va + 2 * granule, granule));
	OURS(cuMemcpyHtoD(d, at(va + granule), 2 * granule), CUDA_ERROR_INVALID_VALUE, "a copy of more than is there");
	CU(cuMemUnmap(va, 2 * granule));
	if (!adjacent)
		CU(cuMemUnmap(more, granule));
	OURS(cuMemcpyHtoD(d, at(va), 4), CUDA_ERROR_INVALID_VALUE, "a copy from where nothing is any more");
	OURS(cuMemsetD32(va, 0, 1), CUDA_ERROR_INVALID_VALUE, "a fill there");
	for (unsigned int i = 0; i < 4; i++)
		CU(cuMemRelease(h[i]));
	CU(cuMemAddressFree(more, granule));
	CU(cuMemAddressFree(va, 3 * granule));
	CU(cuMemFree(d));
	CU(cuStreamDestroy(stream));
	free(plain);
}

/* Here each reservation is for memory of the one kind or the other. */
static void kinds(void)
{
	CUmemGenericAllocationHandle host, device;
	CUdeviceptr va, two;

	if (on_driver() || counts_apart())
		return;
	CU(cuMemAddressReserve(&va, 4 * granule, 0, 0, 0));
	CU(cuMemAddressReserve(&two, 4 * granule, 0, 0, 0));
	CU(cuMemCreate(&host, granule, &prop, 0));
	CU(cuMemCreate(&device, granule, &device_prop, 0));
	CU(cuMemMap(va, granule, 0, device, 0));
	GIVES(cuMemMap(va + granule, granule, 0, host, 0), CUDA_ERROR_NOT_SUPPORTED, "host memory beside a device's");
	CU(cuMemSetAccess(va, granule, both, 1));
	GIVES(cuMemSetAccess(va, granule, &both[1], 1), CUDA_ERROR_INVALID_VALUE, "a node's access to a device's memory");
	map(two, host, granule);
	GIVES(cuMemMap(two + granule, granule, 0, device, 0), CUDA_ERROR_NOT_SUPPORTED, "a device's memory beside the host's");
	GIVES(cuMemMap(two, granule, 0, host, 0), CUDA_ERROR_INVALID_VALUE, "a mapping where there is one");
	GIVES(cuMemMap(two + granule, 2 * granule, 0, host, 0), CUDA_ERROR_NOT_SUPPORTED, "more than there is of it");
	CU(cuMemUnmap(two, granule));
	CU(cuMemUnmap(va, granule));
	map(va, host, granule);
	at(va)[0] = 4;
	ok(at(va)[0] == 4, "host memory where a device's was");
	CU(cuMemUnmap(va, granule));
	CU(cuMemRelease(host));
	CU(cuMemRelease(device));
	CU(cuMemAddressFree(va, 4 * granule));
	CU(cuMemAddressFree(two, 4 * granule));
	/* The addresses are the device's again. */
	CU(cuMemAddressReserve(&va, 4 * granule, 0, 0, 0));
	CU(cuMemCreate(&device, granule, &device_prop, 0));
	CU(cuMemMap(va, granule, 0, device, 0));
	CU(cuMemSetAccess(va, granule, both, 1));
	CU(cuMemsetD32(va, 3, words));
	CU(cuCtxSynchronize());
	CU(cuMemUnmap(va, granule));
	CU(cuMemRelease(device));
	CU(cuMemAddressFree(va, 4 * granule));
}

/* XGBoost reserves as much as the host has. */
static void huge(void)
{
	CUmemGenericAllocationHandle h;
	size_t size = 16ul << 30;
	CUdeviceptr va;

	CU(cuMemAddressReserve(&va, size, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va + size - granule, h, granule);
	fill(at(va + size - granule), words, 0);
	launch(va + size - granule, words, 0, NULL);
	CU(cuCtxSynchronize());
	ok(at(va + size)[-1] == 2 * (words - 1), "at the end of 16 GiB");
	CU(cuMemUnmap(va + size - granule, granule));
	CU(cuMemRelease(h));
	CU(cuMemAddressFree(va, size));
}

/* It is no context's. */
static void contexts(CUdevice dev)
{
	CUmemGenericAllocationHandle h;
	CUdeviceptr va;
	CUcontext ctx;

	if (on_driver())	/* which says nothing of it */
		return;
	CU(cuMemAddressReserve(&va, 2 * granule, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va, h, granule);
	fill(at(va), words, 0);
	CU(cuDevicePrimaryCtxReset(dev));
	ok(counts(at(va), words, 0), "it outlives its context");
	CU(cuDevicePrimaryCtxRelease(dev));
	map(va + granule, h, granule);	/* without any */
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	CU(cuCtxSetCurrent(ctx));
	load();
	launch(va, words, 0, NULL);
	launch(va + granule, words, 0, NULL);
	CU(cuCtxSynchronize());
	ok(at(va)[0] == 0 && at(va)[9] == 27 && at(va)[words - 1] == 3 * (words - 1), "the next one's kernels use it, wherever it is");
	CU(cuMemUnmap(va, 2 * granule));
	CU(cuMemRelease(h));
	CU(cuMemAddressFree(va, 2 * granule));
}

/* All that a session may have of it, which takes a zone that has little; some of it mapped, as often as may be. */
static void all(void)
{
	enum { MOST = 256, TIMES = 4096 };
	CUmemGenericAllocationHandle h[MOST];
	unsigned int n = 0, again = 0, times = 0;
	CUdeviceptr va;
	void *pinned;

	while (n < MOST && cuMemCreate(&h[n], granule, &prop, 0) == CUDA_SUCCESS)
		n++;
	ok(n > 4 && n < MOST, "host memory comes to an end: %u pieces", n);
	ok(cuMemHostAlloc(&pinned, granule, 0) == CUDA_ERROR_OUT_OF_MEMORY, "and with it pinned memory");
	CU(cuMemAddressReserve(&va, TIMES * granule, 0, 0, 0));
	for (unsigned int i = 0; i < 4; i++) {
		map(va + i * granule, h[i], granule);
		at(va + i * granule)[0] = i;
	}
	CU(cuMemcpyDtoD(va + granule + 4, va, granule));
	ok(at(va + granule)[1] == 0 && at(va)[0] == 0, "copies need none");
	while (times < TIMES - 4 && cuMemMap(va + (4 + times) * granule, granule, 0, h[0], 0) == CUDA_SUCCESS)
		times++;
	ok(times && times < TIMES - 4, "one piece is not mapped without end: %u times", times);
	CU(cuMemUnmap(va, (4 + times) * granule));
	for (unsigned int i = 0; i < n; i++)
		CU(cuMemRelease(h[i]));
	while (again < n && cuMemCreate(&h[again], granule, &prop, 0) == CUDA_SUCCESS)
		again++;
	ok(again == n, "released, it is there again: %u pieces", again);
	map(va, h[0], granule);
	ok(at(va)[0] == 0 && at(va)[1] == 0, "and can be mapped");
	CU(cuMemUnmap(va, granule));
	for (unsigned int i = 0; i < again; i++)
		CU(cuMemRelease(h[i]));
	CU(cuMemAddressFree(va, TIMES * granule));
}

/* On a GPU that computes nothing: what is the host's part. */
static void no_kernels(void)
{
	CUmemGenericAllocationHandle h;
	CUdeviceptr va, two;

	CU(cuMemAddressReserve(&va, 2 * granule, 0, 0, 0));
	CU(cuMemAddressReserve(&two, granule, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va, h, granule);
	map(va + granule, h, granule);
	map(two, h, granule);
	fill(at(va), words, 5);
	ok(counts(at(two), words, 5) && counts(at(va + granule), words, 5), "the same memory at three addresses");
	CU(cuMemUnmap(va, 2 * granule));
	CU(cuMemUnmap(two, granule));
	map(va, h, granule);
	ok(counts(at(va), words, 5), "which is there when it is mapped again");
	CU(cuMemUnmap(va, granule));
	CU(cuMemRelease(h));
	CU(cuMemAddressFree(two, granule));
	CU(cuMemAddressFree(va, 2 * granule));
}

/* Arguments: all; null, on the null GPU */
int main(int argc, char **argv)
{
	CUmemGenericAllocationHandle h;
	CUdeviceptr va;
	CUdevice dev;
	int vmm = 0;

	primary_context(&dev);
	CU(cuDeviceGetAttribute(&vmm, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, dev));
	if (!vmm && on_driver()) {
		printf("# the driver has no host memory by cuMemCreate()\n");
		return tap_done();
	}
	/* The null GPU says nothing of it. */
	ok(vmm == (argc < 2 || strcmp(argv[1], "null")), "the device says whether it has host memory by cuMemCreate(): %d", vmm);
	if (argc < 2 || strcmp(argv[1], "null"))
		load();
	handles();
	if (argc > 1 && !strcmp(argv[1], "null")) {
		no_kernels();
		kinds();
		return tap_done();
	}
	access_and_attributes();
	kernels();
	unmapped_meanwhile();
	grows();
	kinds();
	huge();
	contexts(dev);
	if (argc > 1 && !strcmp(argv[1], "all"))
		all();
	/* The end of the process finds it mapped. */
	CU(cuMemAddressReserve(&va, granule, 0, 0, 0));
	CU(cuMemCreate(&h, granule, &prop, 0));
	map(va, h, granule);
	launch(va, words, 0, NULL);
	return tap_done();
}
