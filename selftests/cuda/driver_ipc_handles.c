// SPDX-License-Identifier: Apache-2.0
/* Shareable handles: physical memory and memory pools of another process, by descriptors over a UNIX socket. */
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "driver.h"
#include "peer.h"
#include "quota.h"

static const char ptx[] = PTX_HEAD PTX_COUNT("count");

#define FD CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
#define POOL_BYTES (1ul << 20)

static CUcontext ctx;
static CUfunction count;
static size_t granule;
static CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .requestedHandleTypes = FD,
				    .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } };
static CUmemAccessDesc both = { .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
				.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
static CUmemPoolProps pool_props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .handleTypes = FD,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 } };

static void cuda_start(void)
{
	CUmodule module;

	ctx = primary_context(NULL);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&count, module, "count"));
	CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
}

static void fill(CUdeviceptr d, size_t bytes, unsigned int from, CUstream s)
{
	void *params[] = { &d, &from };

	CU(cuLaunchKernel(count, bytes / 1024, 1, 1, 256, 1, 1, 0, s, params, NULL));
}

static bool counts(CUdeviceptr d, size_t bytes, unsigned int from)
{
	unsigned int *p = malloc(bytes);
	bool good = true;

	CU(cuMemcpyDtoH(p, d, bytes));
	for (unsigned int i = 0; i < bytes / 4 && good; i++)
		good = p[i] == from + i;
	free(p);
	return good;
}

static CUdeviceptr map(CUmemGenericAllocationHandle h, size_t bytes)
{
	CUdeviceptr va;

	CU(cuMemAddressReserve(&va, bytes, 0, 0, 0));
	CU(cuMemMap(va, bytes, 0, h, 0));
	CU(cuMemSetAccess(va, bytes, &both, 1));
	return va;
}

static void unmap(CUdeviceptr va, size_t bytes)
{
	CU(cuMemUnmap(va, bytes));
	CU(cuMemAddressFree(va, bytes));
}

/* --- physical memory ------------------------------------------------------------------------------------------------- */

static void physical_owner(int sock)
{
	CUmemGenericAllocationHandle h;
	CUdeviceptr va;
	int fd = -1;

	cuda_start();
	CU(cuMemCreate(&h, 2 * granule, &prop, 0));
	va = map(h, 2 * granule);
	fill(va, 2 * granule, 1000, NULL);
	CU(cuCtxSynchronize());
	CU(cuMemExportToShareableHandle(&fd, h, FD, 0));
	tell_fd(sock, fd, "m", 1);
	close(fd);
	await(sock);
	if (!counts(va, 2 * granule, 5000))
		bail("what the other process has written is not seen");
	/* Another descriptor for the same, then nothing of it is ours any more. */
	CU(cuMemExportToShareableHandle(&fd, h, FD, 0));
	tell_fd(sock, fd, "m", 1);
	close(fd);
	await(sock);
	unmap(va, 2 * granule);
	CU(cuMemRelease(h));
	CU(cuCtxSynchronize());
	step(sock);
	await(sock);
	step(sock);
}

static void physical(void)
{
	CUmemGenericAllocationHandle h, same, third;
	CUmemAllocationProp told;
	CUdeviceptr va, second;
	unsigned long long types = 0;
	pid_t pid;
	char c;
	int sock = peer_start(physical_owner, &pid), fd, copy;

	fd = hear_fd(sock, &c, 1);
	copy = dup(fd);
	CU(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd, FD));
	close(fd);
	CU(cuMemGetAllocationPropertiesFromHandle(&told, h));
	ok(told.type == CU_MEM_ALLOCATION_TYPE_PINNED && told.requestedHandleTypes == FD &&
	   told.location.type == CU_MEM_LOCATION_TYPE_DEVICE && told.location.id == 0, "its properties are known");
	va = map(h, 2 * granule);
	ok(counts(va, 2 * granule, 1000), "physical memory of another process holds what it wrote");
	CU(cuPointerGetAttribute(&types, CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES, va));
	ok(types == FD, "and may be handed on");
	CU(cuMemImportFromShareableHandle(&same, (void *)(intptr_t)copy, FD));
	close(copy);
	second = map(same, 2 * granule);
	fill(second, 2 * granule, 5000, NULL);
	ok(counts(va, 2 * granule, 5000), "imported twice, by a copy of the descriptor, it is the same memory");
	unmap(second, 2 * granule);
	CU(cuMemRelease(same));
	ok(counts(va, 2 * granule, 5000), "and stays when one import is released");
	step(sock);
	fd = hear_fd(sock, &c, 1);
	step(sock);
	await(sock);
	ok(counts(va, 2 * granule, 5000), "it stays when its owner has released it");
	if (!counts_apart())
		ok(free_memory() + 2 * granule <= baseline, "and counts: %zu of %zu bytes are free", free_memory(), baseline);
	CU(cuMemImportFromShareableHandle(&third, (void *)(intptr_t)fd, FD));
	CU(cuMemRelease(third));
	CU(cuMemRelease(h));
	ok(counts(va, 2 * granule, 5000), "mapped memory needs no handle");
	unmap(va, 2 * granule);
	step(sock);
	ok(peer_done(sock), "its owner saw all of it");
	if (!counts_apart())
		GIVES(cuMemImportFromShareableHandle(&third, (void *)(intptr_t)fd, FD), CUDA_ERROR_INVALID_VALUE,
		      "a descriptor of what nobody has any more");
	close(fd);
	ok(free_again(), "all memory is free again");
}

static void doomed_owner(int sock)
{
	CUmemGenericAllocationHandle h;
	int fd = -1;

	cuda_start();
	CU(cuMemCreate(&h, granule, &prop, 0));
	fill(map(h, granule), granule, 7, NULL);
	CU(cuCtxSynchronize());
	CU(cuMemExportToShareableHandle(&fd, h, FD, 0));
	tell_fd(sock, fd, "m", 1);
	await(sock);
}

static void death(void)
{
	CUmemGenericAllocationHandle h;
	CUdeviceptr va;
	pid_t pid;
	char c;
	int sock = peer_start(doomed_owner, &pid), fd;

	fd = hear_fd(sock, &c, 1);
	CU(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd, FD));
	close(fd);
	va = map(h, granule);
	kill(pid, SIGKILL);
	ok(recv(sock, &c, 1, 0) <= 0, "the owner is killed");
	close(sock);
	ok(counts(va, granule, 7), "its physical memory stays");
	if (!counts_apart())
		ok(free_memory() + granule <= baseline, "and counts");
	unmap(va, granule);
	CU(cuMemRelease(h));
	ok(free_again(), "all memory is free again");
}

/* --- what is no handle ------------------------------------------------------------------------------------------------- */

static void wrong(void)
{
	CUmemGenericAllocationHandle h, other;
	CUmemAllocationProp plain = prop;
	CUmemPoolProps plain_pool = pool_props;
	CUmemPoolPtrExportData data;
	CUmemoryPool pool, imported;
	char bytes[64] = "vgpu-ipc";
	CUdeviceptr p, q;
	CUstream stream;
	int fd, pipes[2], value = 0;

	CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 0));
	ok(value == 1, "memory can be exported as a descriptor");
	CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, 0));
	ok(value & FD, "memory pools, too");

	plain.requestedHandleTypes = 0;
	CU(cuMemCreate(&h, granule, &plain, 0));
	GIVES(cuMemExportToShareableHandle(&fd, h, FD, 0), CUDA_ERROR_INVALID_VALUE, "memory that was not made for it");
	CU(cuMemRelease(h));
	GIVES(cuMemExportToShareableHandle(&fd, h, FD, 0), CUDA_ERROR_INVALID_VALUE, "memory that is gone");
	CU(cuMemCreate(&h, granule, &prop, 0));
	GIVES(cuMemExportToShareableHandle(NULL, h, FD, 0), CUDA_ERROR_INVALID_VALUE, "nowhere to put the descriptor");
	GIVES(cuMemExportToShareableHandle(&fd, h, CU_MEM_HANDLE_TYPE_WIN32, 0), CUDA_ERROR_INVALID_VALUE, "another system's");
	GIVES(cuMemExportToShareableHandle(&fd, h, FD, 1), CUDA_ERROR_INVALID_VALUE, "flags");
	CU(cuMemExportToShareableHandle(&fd, h, FD, 0));
	GIVES(cuMemImportFromShareableHandle(NULL, (void *)(intptr_t)fd, FD), CUDA_ERROR_INVALID_VALUE, "nowhere to put it");
	GIVES(cuMemImportFromShareableHandle(&other, (void *)(intptr_t)fd, FD), CUDA_SUCCESS, "a process imports its own");
	CU(cuMemRelease(h));
	p = map(other, granule);
	fill(p, granule, 3, NULL);
	ok(counts(p, granule, 3), "which is memory, whichever handle is released");
	unmap(p, granule);
	GIVES(cuMemPoolImportFromShareableHandle(&imported, (void *)(intptr_t)fd, FD, 0), CUDA_ERROR_INVALID_VALUE,
	      "memory's descriptor as a pool's");
	p = map(other, granule);
	CU(cuMemRelease(other));
	fill(p, granule, 4, NULL);
	GIVES(cuMemImportFromShareableHandle(&other, (void *)(intptr_t)fd, FD), CUDA_SUCCESS, "what is mapped alone, without a handle");
	q = map(other, granule);
	ok(counts(q, granule, 4), "is to be had again");
	unmap(q, granule);
	unmap(p, granule);
	CU(cuMemRelease(other));
	close(fd);
	GIVES(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd, FD), CUDA_ERROR_INVALID_VALUE, "a closed descriptor");
	GIVES(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)-1, FD), CUDA_ERROR_INVALID_VALUE, "no descriptor");
	if (pipe(pipes))
		bail("pipe");
	GIVES(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)pipes[0], FD), CUDA_ERROR_INVALID_VALUE, "a pipe");
	close(pipes[0]);
	close(pipes[1]);
	fd = memfd_create("forged", MFD_ALLOW_SEALING);
	if (fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes))
		bail("memfd_create");
	GIVES(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd, FD), CUDA_ERROR_INVALID_VALUE, "a file of one's own");
	fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	GIVES(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd, FD), CUDA_ERROR_INVALID_VALUE, "also a sealed one");
	close(fd);
	fd = open("/dev/null", O_RDWR);
	GIVES(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)fd, FD), CUDA_ERROR_INVALID_VALUE, "/dev/null");
	close(fd);

	plain_pool.handleTypes = 0;
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemPoolCreate(&pool, &plain_pool));
	GIVES(cuMemPoolExportToShareableHandle(&fd, pool, FD, 0), CUDA_ERROR_INVALID_VALUE, "a pool that was not made for it");
	CU(cuMemAllocFromPoolAsync(&p, POOL_BYTES, pool, stream));
	GIVES(cuMemPoolExportPointer(&data, p), CUDA_ERROR_INVALID_VALUE, "a pointer of such a pool");
	GIVES(cuMemPoolImportPointer(&p, pool, &data), CUDA_ERROR_INVALID_VALUE, "an import into a pool that is not another's");
	CU(cuMemFreeAsync(p, stream));
	CU(cuStreamSynchronize(stream));
	CU(cuMemPoolDestroy(pool));
	CU(cuMemAlloc(&p, 4096));
	GIVES(cuMemPoolExportPointer(&data, p), CUDA_ERROR_INVALID_VALUE, "a pointer of no pool");
	CU(cuMemFree(p));
	CU(cuStreamDestroy(stream));
	ok(free_again(), "all memory is free again");
}

/* --- pools -------------------------------------------------------------------------------------------------------------- */

static void pool_owner(int sock)
{
	CUmemPoolPtrExportData data[2];
	CUmemoryPool pool, other;
	CUdeviceptr p[2], third;
	CUstream stream;
	int fd = -1;

	cuda_start();
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuMemPoolCreate(&pool, &pool_props));
	CU(cuMemPoolCreate(&other, &pool_props));
	CU(cuMemAllocFromPoolAsync(&p[0], POOL_BYTES, pool, stream));
	if (cuMemPoolExportPointer(&data[0], p[0]) != CUDA_ERROR_INVALID_VALUE)
		bail("a pointer of a pool that was not handed on can be");
	CU(cuMemFreeAsync(p[0], stream));
	CU(cuMemPoolExportToShareableHandle(&fd, other, FD, 0));
	close(fd);
	CU(cuMemPoolExportToShareableHandle(&fd, pool, FD, 0));
	for (int i = 0; i < 2; i++) {
		CU(cuMemAllocFromPoolAsync(&p[i], POOL_BYTES, pool, stream));
		fill(p[i], POOL_BYTES, 100 * i, stream);
		CU(cuMemPoolExportPointer(&data[i], p[i]));
	}
	CU(cuStreamSynchronize(stream));
	tell_fd(sock, fd, data, sizeof(data));
	close(fd);
	CU(cuMemAllocFromPoolAsync(&third, POOL_BYTES, other, stream));
	CU(cuMemPoolExportPointer(&data[0], third));
	tell(sock, data, sizeof(data[0]));
	await(sock);
	if (!counts(p[0], POOL_BYTES, 4000))
		bail("what the other process has written is not seen");
	CU(cuMemFreeAsync(p[0], stream));
	CU(cuMemFreeAsync(p[1], stream));
	CU(cuMemFreeAsync(third, stream));
	CU(cuStreamSynchronize(stream));
	step(sock);
	await(sock);
	CU(cuMemPoolDestroy(pool));
	CU(cuMemPoolDestroy(other));
	step(sock);
}

static void misuse(CUmemoryPool pool, CUdeviceptr imported, const CUmemPoolPtrExportData *data,
		   CUmemPoolPtrExportData *foreign, CUstream stream)
{
	CUmemPoolPtrExportData bad = *data;
	CUdeviceptr p;

	bad.reserved[33] ^= 1;
	GIVES(cuMemPoolImportPointer(&p, pool, &bad), CUDA_ERROR_INVALID_VALUE, "data with a bit wrong");
	memset(&bad, 0, sizeof(bad));
	GIVES(cuMemPoolImportPointer(&p, pool, &bad), CUDA_ERROR_INVALID_VALUE, "data that is all zero");
	GIVES(cuMemPoolImportPointer(&p, pool, foreign), CUDA_ERROR_INVALID_VALUE, "a pointer of another pool");
	GIVES(cuMemAllocFromPoolAsync(&p, 4096, pool, stream), CUDA_ERROR_INVALID_VALUE, "nothing new comes from it");
	GIVES(cuDeviceSetMemPool(0, pool), CUDA_ERROR_INVALID_VALUE, "and it cannot be the device's");
	GIVES(cuMemPoolExportPointer(&bad, imported), CUDA_ERROR_INVALID_VALUE, "nor are its pointers ours to hand on");
	GIVES(cuIpcCloseMemHandle(imported), CUDA_ERROR_INVALID_VALUE, "its memory is freed, not closed");
}

/* What was freed in a stream goes when others get round to it, and may be had once more until then. */
static CUresult import_until_gone(CUmemoryPool pool, CUmemPoolPtrExportData *data)
{
	CUdeviceptr p;
	CUresult r = cuMemPoolImportPointer(&p, pool, data);

	for (int i = 0; r == CUDA_SUCCESS && i < 1000; i++) {
		CU(cuMemFree(p));
		usleep(10000);
		r = cuMemPoolImportPointer(&p, pool, data);
	}
	return r;
}

static void pools(void)
{
	CUmemPoolPtrExportData data[2], foreign;
	CUmemoryPool pool, of = NULL;
	CUdeviceptr p[2];
	CUstream stream;
	unsigned int word;
	pid_t pid;
	int sock = peer_start(pool_owner, &pid), fd;

	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	fd = hear_fd(sock, data, sizeof(data));
	hear(sock, &foreign, sizeof(foreign));
	CU(cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)fd, FD, 0));
	close(fd);
	for (int i = 0; i < 2; i++)
		CU(cuMemPoolImportPointer(&p[i], pool, &data[i]));
	ok(counts(p[0], POOL_BYTES, 0) && counts(p[1], POOL_BYTES, 100), "memory of another process's pool holds what it wrote");
	CU(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p[0]));
	ok(of == pool || counts_apart(), "it is the imported pool's");
	if (!native("what cannot be done with another process's pool"))
		misuse(pool, p[0], &data[0], &foreign, stream);
	fill(p[0], POOL_BYTES, 4000, stream);
	CU(cuStreamSynchronize(stream));
	step(sock);
	await(sock);
	ok(counts(p[0], POOL_BYTES, 4000), "what its owner has freed stays here");
	if (!counts_apart())
		ok(free_memory() + 2 * POOL_BYTES <= baseline, "and counts");
	CU(cuMemFreeAsync(p[0], stream));
	CU(cuMemFree(p[1]));
	CU(cuStreamSynchronize(stream));
	if (!native("memory that is freed")) {
		GIVES(cuMemcpyDtoH(&word, p[0], 4), CUDA_ERROR_INVALID_VALUE, "freed is freed");
		GIVES(import_until_gone(pool, &data[0]), CUDA_ERROR_INVALID_VALUE, "and not to be had again");
	}
	CU(cuMemPoolDestroy(pool));
	step(sock);
	ok(peer_done(sock), "its owner saw all of it");
	CU(cuStreamDestroy(stream));
	ok(free_again(), "all memory is free again");
}

int main(void)
{
	peers_init();
	cuda_start();
	baseline = free_memory();
	physical();
	death();
	pools();
	if (!native("descriptors that are none"))
		wrong();
	CU(cuDevicePrimaryCtxRelease(0));
	return tap_done();
}
