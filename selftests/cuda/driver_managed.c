// SPDX-License-Identifier: Apache-2.0
/* Managed memory: advice that can be asked for again, prefetching, discarding. What pointers say of themselves. */
#include "driver.h"

#define DEVICE(n) ((CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = (n) })
#define HOST ((CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_HOST })

static int ask(CUmem_range_attribute a, CUdeviceptr p, size_t n)
{
	int v = -99;

	CU(cuMemRangeGetAttribute(&v, sizeof(v), a, p, n));
	return v;
}

static void advice(CUstream stream)
{
	enum { SIZE = 1 << 20 };
	int by[3] = { 0 }, mostly = 0, last = 0;
	void *data[2] = { &mostly, &last };
	size_t sizes[2] = { 4, 4 }, lengths[2] = { 4096, 4096 }, first[2] = { 0, 1 };
	CUmem_range_attribute which[2] = { CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION };
	CUmemLocation places[2] = { DEVICE(0), HOST };
	CUdeviceptr p, plain, list[2];

	CU(cuMemAllocManaged(&p, SIZE, CU_MEM_ATTACH_GLOBAL));
	CU(cuMemAlloc(&plain, 4096));
	ok(!ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, SIZE) &&
	   ask(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, p, SIZE) == CU_DEVICE_INVALID &&
	   ask(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p, SIZE) == CU_DEVICE_INVALID, "at first nothing is advised");
	CU(cuMemAdvise(p, SIZE / 2, CU_MEM_ADVISE_SET_READ_MOSTLY, HOST));
	CU(cuMemAdvise(p + 4096, SIZE - 4096, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, DEVICE(0)));
	CU(cuMemAdvise(p, SIZE, CU_MEM_ADVISE_SET_ACCESSED_BY, HOST));
	CU(cuMemAdvise(p, SIZE, CU_MEM_ADVISE_SET_ACCESSED_BY, DEVICE(0)));
	ok(ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, SIZE / 2) && !ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, SIZE) &&
	   ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p + 100, 1), "advice holds for all of a range or for none of it");
	ok(ask(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, p + 4096, 8192) == 0 &&
	   ask(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE, p + 4096, 1) == CU_MEM_LOCATION_TYPE_DEVICE &&
	   ask(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, p, SIZE) == CU_DEVICE_INVALID, "and so does a place");
	CU(cuMemRangeGetAttribute(by, sizeof(by), CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, p, SIZE));
	ok(by[0] == 0 && by[1] == CU_DEVICE_CPU && by[2] == CU_DEVICE_INVALID, "who will access it: %d %d %d", by[0], by[1], by[2]);
	CU(cuMemAdvise(p, SIZE, CU_MEM_ADVISE_UNSET_ACCESSED_BY, HOST));
	CU(cuMemAdvise(p, SIZE, CU_MEM_ADVISE_UNSET_READ_MOSTLY, HOST));
	CU(cuMemRangeGetAttribute(by, sizeof(by), CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, p, SIZE));
	ok(by[0] == 0 && by[1] == CU_DEVICE_INVALID && !ask(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, 1), "advice is taken back");

	CU(cuMemPrefetchAsync(p, SIZE, DEVICE(0), 0, stream));
	ok(ask(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p, SIZE) == 0, "it was prefetched to the device last");
	list[0] = p;
	list[1] = p + 8192;
	CU(cuMemPrefetchBatchAsync(list, lengths, 2, places, first, 2, 0, stream));
	ok(ask(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p, 4096) == 0 &&
	   ask(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p + 8192, 4096) == CU_DEVICE_CPU, "a batch, each to its place");
	CU(cuMemDiscardBatchAsync(list, lengths, 2, 0, stream));
	CU(cuMemDiscardAndPrefetchBatchAsync(list, lengths, 2, places, first, 1, 0, stream));
	CU(cuMemRangeGetAttributes(data, sizes, which, 2, p, 4096));
	ok(!mostly && !last, "several answers at once");

	GIVES(cuMemAdvise(plain, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, HOST), CUDA_ERROR_INVALID_VALUE, "memory that is not managed");
	GIVES(cuMemAdvise(p, SIZE + 1, CU_MEM_ADVISE_SET_READ_MOSTLY, HOST), CUDA_ERROR_INVALID_VALUE, "more than there is");
	GIVES(cuMemAdvise(p, 0, CU_MEM_ADVISE_SET_READ_MOSTLY, HOST), CUDA_ERROR_INVALID_VALUE, "nothing");
	GIVES(cuMemAdvise(p, SIZE, (CUmem_advise)99, HOST), CUDA_ERROR_INVALID_VALUE, "unknown advice");
	GIVES(cuMemAdvise(p, SIZE, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, DEVICE(77)), CUDA_ERROR_INVALID_VALUE, "an unknown device");
	GIVES(cuMemPrefetchAsync(p, SIZE, DEVICE(0), 1, stream), CUDA_ERROR_INVALID_VALUE, "prefetching with flags");
	GIVES(cuMemRangeGetAttribute(&last, 3, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, SIZE), CUDA_ERROR_INVALID_VALUE, "three bytes");
	GIVES(cuMemRangeGetAttribute(NULL, 4, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, SIZE), CUDA_ERROR_INVALID_VALUE, "no place for it");
	list[1] = plain;
	GIVES(cuMemDiscardBatchAsync(list, lengths, 2, 0, stream), CUDA_ERROR_INVALID_VALUE, "a batch with other memory in it");
	CU(cuMemFree(p));
	GIVES(cuMemRangeGetAttribute(&last, 4, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p, 1), CUDA_ERROR_INVALID_VALUE, "memory that is gone");
	CU(cuMemFree(plain));
}

static void pointers(CUstream stream)
{
	unsigned int on = 1, got = 9, type;
	CUdeviceptr p, q, start;
	CUmemoryPool pool = NULL, usual;
	size_t size = 0;
	void *host;

	CU(cuMemAlloc(&p, 10000));
	CU(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
	CU(cuPointerGetAttribute(&got, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p + 5));
	ok(got == 1, "SYNC_MEMOPS is what it was set to");
	on = 0;
	CU(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
	CU(cuPointerGetAttribute(&got, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
	ok(got == 0, "and again");
	on = 1;
	CU(cuMemAllocManaged(&q, 4096, CU_MEM_ATTACH_GLOBAL));
	OURS(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, q), CUDA_SUCCESS, "of managed memory, too");
	if (!on_driver()) {	/* not seen there yet */
		CU(cuPointerGetAttribute(&got, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, q));
		ok(got == 1, "which tells it");
	}
	CU(cuMemFree(q));
	GIVES(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p), CUDA_ERROR_INVALID_VALUE, "another cannot be set");
	GIVES(cuPointerSetAttribute(NULL, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p), CUDA_ERROR_INVALID_VALUE, "to nothing");
	CU(cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, p + 77));
	CU(cuPointerGetAttribute(&size, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, p + 77));
	ok(start <= p && start + size >= p + 10000, "where a mapping begins, and how long it is");
	CU(cuMemAllocAsync(&q, 4096, stream));
	CU(cuDeviceGetDefaultMemPool(&usual, 0));
	CU(cuPointerGetAttribute(&pool, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, q));
	ok(pool == usual, "stream-ordered memory knows its pool");
	CU(cuPointerGetAttribute(&pool, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p));
	ok(!pool, "other memory has none");
	CU(cuMemFreeAsync(q, stream));
	CU(cuMemHostAlloc(&host, 4096, 0));
	CU(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)host));
	CU(cuPointerGetAttribute(&got, CU_POINTER_ATTRIBUTE_MAPPED, (CUdeviceptr)(uintptr_t)host));
	ok(type == CU_MEMORYTYPE_HOST && got, "pinned memory is mapped host memory");
	CU(cuMemFreeHost(host));
	CU(cuMemFree(p));
	GIVES(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p), CUDA_ERROR_INVALID_VALUE, "freed memory");
}

struct held {
	volatile bool go;
	bool in_time;
};

/* Until the program has gone on, or for 5 s. */
static void hold(void *data)
{
	struct held *h = data;

	for (int i = 0; i < 5000 && !h->go; i++)
		usleep(1000);
	h->in_time = h->go;
}

/* A copy from managed to managed memory has its turn in the stream, and the program goes on. */
static void copies(CUstream stream)
{
	CUDA_MEMCPY3D box = { .srcMemoryType = CU_MEMORYTYPE_UNIFIED, .srcPitch = 64, .srcHeight = 4,
			      .dstMemoryType = CU_MEMORYTYPE_UNIFIED, .dstPitch = 64, .dstHeight = 4,
			      .WidthInBytes = 32, .Height = 4, .Depth = 1 };
	struct held h = { .go = getenv("VGPU_SYNC") };	/* then every call waits for its answer */
	unsigned char *got;
	CUdeviceptr p, q;

	CU(cuMemAllocManaged(&p, 8192, CU_MEM_ATTACH_GLOBAL));
	CU(cuMemAllocManaged(&q, 8192, CU_MEM_ATTACH_GLOBAL));
	got = (unsigned char *)q;
	memset((void *)p, 3, 8192);
	memset(got, 0, 8192);
	box.srcDevice = p;
	box.dstDevice = q + 4096;
	CU(cuLaunchHostFunc(stream, hold, &h));
	GIVES(cuMemcpyAsync(q, p, 4096, stream), CUDA_SUCCESS, "a copy from managed to managed memory");
	GIVES(cuMemcpy3DAsync(&box, stream), CUDA_SUCCESS, "a box");
	h.go = true;
	CU(cuStreamSynchronize(stream));
	/* Both are memory that the host may reach, too: the driver itself may wait. */
	ok(h.in_time || on_driver(), "the program goes on meanwhile");
	ok(got[0] == 3 && got[4095] == 3 && got[4096] == 3 && got[4096 + 3 * 64 + 31] == 3 && !got[4096 + 32],
	   "they are made");
	CU(cuMemFree(p));
	CU(cuMemFree(q));
}

int main(void)
{
	CUstream stream;

	primary_context(NULL);
	CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
	advice(stream);
	pointers(stream);
	copies(stream);
	CU(cuStreamDestroy(stream));
	CU(cuDevicePrimaryCtxRelease(0));
	return tap_done();
}
