// SPDX-License-Identifier: Apache-2.0
/* Memory pools: what they use and keep, and that what they keep counts; access; by location. Peers of a device alone. */
#include "driver.h"

static cuuint64_t ask(CUmemoryPool pool, CUmemPool_attribute a)
{
	cuuint64_t v = 0;

	CU(cuMemPoolGetAttribute(pool, a, &v));
	return v;
}

static size_t available(void)
{
	size_t available, total;

	CU(cuMemGetInfo(&available, &total));
	return available;
}

/* Memory that a stream is to free is nobody's to free any more. */
static void freed_once(CUstream stream)
{
	CUdeviceptr gate, p, q;
	unsigned int v = 0;

	if (native("memory freed again before it is") || getenv("VGPU_SYNC"))
		return;
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemsetD32(gate, 0, 1));
	CU(cuMemAllocAsync(&p, 4096, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuMemFreeAsync(p, stream));
	GIVES(cuMemFreeAsync(p, stream), CUDA_ERROR_INVALID_VALUE, "free in a stream what it is about to free");
	CU(cuMemsetD32(gate, 1, 1));
	CU(cuStreamSynchronize(stream));
	CU(cuMemAlloc(&q, 4096));
	CU(cuMemsetD32(q, 7, 1024));
	CU(cuMemcpyDtoH(&v, q, 4));
	ok(v == 7, "who gets it next keeps it");
	CU(cuMemFree(q));
	CU(cuMemFree(gate));
}

int main(void)
{
	enum { MIB = 1 << 20 };
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } }, bad = props;
	CUmemAccessDesc access = { .location = props.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
	CUmemLocation here = props.location, host = { .type = CU_MEM_LOCATION_TYPE_HOST };
	CUmemoryPool pool, other, usual, current;
	CUmemAccess_flags flags;
	cuuint64_t keep = 16 * MIB, zero = 0, one = 1;
	CUdeviceptr p, q;
	CUstream stream;
	CUcontext ctx;
	size_t before;
	int can = 9, value;
	bool software;

	CU(cuInit(0));
	software = ON_SOFTWARE();	/* hardware's pools hold units of 32 MiB */
	CU(cuDevicePrimaryCtxRetain(&ctx, 0));
	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	if (ON_SOFTWARE()) {
		bad.maxSize = 2048;
		CU(cuMemPoolCreate(&pool, &bad));
		CU(cuMemAllocFromPoolAsync(&p, 64, pool, stream));
		GIVES(cuMemAllocFromPoolAsync(&q, 4096, pool, stream), CUDA_SUCCESS, "a pool that may be small is a unit large");
		CU(cuMemFreeAsync(p, stream));
		CU(cuMemFreeAsync(q, stream));
		CU(cuStreamSynchronize(stream));
		CU(cuMemPoolDestroy(pool));
		bad = props;
	}
	CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 0));
	bad.allocType = CU_MEM_ALLOCATION_TYPE_MANAGED;
	if (!value) {
		GIVES(cuMemPoolCreate(&pool, &bad), CUDA_ERROR_NOT_SUPPORTED, "a pool of managed memory here");
		GIVES(cuMemGetMemPool(&pool, &here, bad.allocType), CUDA_ERROR_NOT_SUPPORTED, "or the usual one");
	}
	bad = props;
	CU(cuMemPoolCreate(&pool, &props));
	before = available();
	CU(cuMemAllocFromPoolAsync(&p, 4 * MIB, pool, stream));
	ok(ask(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 4 * MIB && before - available() >= 4 * MIB, "what is used is counted");
	CU(cuMemFreeAsync(p, stream));
	CU(cuStreamSynchronize(stream));
	ok(!ask(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) && (available() == before || on_driver()), "a pool without a threshold keeps nothing");
	ok(ask(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 4 * MIB, "the most that was used is remembered");
	CU(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero));
	ok(!ask(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH), "until it is set to zero");
	GIVES(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &one), CUDA_ERROR_INVALID_VALUE, "to something else");
	GIVES(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &zero), CUDA_ERROR_INVALID_VALUE, "what is measured");

	CU(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
	CU(cuMemAllocFromPoolAsync(&p, 8 * MIB, pool, stream));
	CU(cuMemAllocFromPoolAsync(&q, 16 * MIB, pool, stream));
	CU(cuMemFreeAsync(p, stream));
	CU(cuMemFreeAsync(q, stream));
	CU(cuStreamSynchronize(stream));
	if (software)
		ok(ask(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 16 * MIB && !ask(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) &&
		   before - available() == 16 * MIB, "with one it keeps so much, and that counts as taken: %zu bytes", before - available());
	CU(cuMemAllocFromPoolAsync(&p, 8 * MIB, pool, stream));
	if (software)
		ok(before - available() == 16 * MIB, "the next allocation comes out of it");
	CU(cuMemFreeAsync(p, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemPoolTrimTo(pool, 4 * MIB));
	if (software)
		ok(ask(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 4 * MIB && before - available() == 4 * MIB, "it is trimmed");
	if (!on_driver()) {
		CU(cuMemAlloc(&q, before - MIB));
		ok(true, "what it keeps is had by those who need it");
		CU(cuMemFree(q));
	}

	CU(cuMemPoolGetAccess(&flags, pool, &here));
	ok(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE, "a pool's own device has access");
	CU(cuMemPoolSetAccess(pool, &access, 1));
	access.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
	OURS(cuMemPoolSetAccess(pool, &access, 1), CUDA_ERROR_INVALID_VALUE, "and cannot lose it");
	access.location.id = 55;
	GIVES(cuMemPoolSetAccess(pool, &access, 1), CUDA_ERROR_INVALID_DEVICE, "access of an unknown device");

	CU(cuMemGetDefaultMemPool(&usual, &here, CU_MEM_ALLOCATION_TYPE_PINNED));
	CU(cuDeviceGetDefaultMemPool(&other, 0));
	ok(usual == other, "a device's default pool by its location");
	CU(cuMemSetMemPool(&here, CU_MEM_ALLOCATION_TYPE_PINNED, pool));
	CU(cuMemGetMemPool(&current, &here, CU_MEM_ALLOCATION_TYPE_PINNED));
	ok(current == pool, "its current pool is the one that was set");
	CU(cuMemAllocAsync(&p, MIB, stream));
	ok(ask(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == MIB, "and the one that memory comes from");
	CU(cuMemFreeAsync(p, stream));
	OURS(cuMemGetMemPool(&current, &host, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_ERROR_NOT_SUPPORTED, "the host's pool");
	GIVES(cuMemGetMemPool(&current, NULL, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_ERROR_INVALID_VALUE, "a pool of nowhere");

	bad.location.id = 44;
	GIVES(cuMemPoolCreate(&other, &bad), CUDA_ERROR_INVALID_VALUE, "a pool on an unknown device");
	GIVES(cuMemPoolCreate(NULL, &props), CUDA_ERROR_INVALID_VALUE, "a pool to nowhere");
	GIVES(cuMemPoolDestroy(usual), CUDA_ERROR_INVALID_VALUE, "a default pool stays");
	CU(cuMemAllocFromPoolAsync(&p, MIB, usual, stream));
	ok(software ? ask(usual, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == MIB : p != 0, "and goes on to serve");
	CU(cuMemFreeAsync(p, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemPoolDestroy(pool));
	CU(cuDeviceGetMemPool(&current, 0));
	ok(current == usual, "without the pool the default one is current again");
	GIVES(cuMemPoolTrimTo(pool, 0), CUDA_ERROR_INVALID_VALUE, "a destroyed pool");
	ok(available() == before || on_driver(), "all memory is free again");

	CU(cuDeviceCanAccessPeer(&can, 0, 0));
	ok(!can, "a device is no peer of its own");
	GIVES(cuDeviceCanAccessPeer(&can, 0, 99), CUDA_ERROR_INVALID_DEVICE, "an unknown peer");
	GIVES(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 0), CUDA_ERROR_INVALID_DEVICE,
	      "what it shares with itself");
	GIVES(cuCtxEnablePeerAccess(ctx, 0), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "access to oneself");
	GIVES(cuCtxEnablePeerAccess(NULL, 0), CUDA_ERROR_INVALID_CONTEXT, "access to nobody");
	CU(cuMemAlloc(&p, 4096));
	CU(cuMemAlloc(&q, 4096));
	CU(cuMemsetD8(p, 0x3c, 4096));
	CU(cuMemcpyPeer(q, ctx, p, ctx, 4096));
	CU(cuMemcpyPeerAsync(p, ctx, q, ctx, 2048, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(&can, q + 100, 4));
	ok(can == 0x3c3c3c3c, "a copy between peers that are one");
	freed_once(stream);
	GIVES(cuMemcpyPeer(q, NULL, p, ctx, 4096), CUDA_SUCCESS, "no context is the current one");
	CU(cuStreamDestroy(stream));
	CU(cuDevicePrimaryCtxRelease(0));
	return tap_done();
}
