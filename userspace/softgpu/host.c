// SPDX-License-Identifier: Apache-2.0
/* Pinned host memory: allocated or registered, known by address range. A kernel reaches it at its host address. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "softgpu.h"

#define HOST_PAGE	(1ul << SG_PAGE_SHIFT)

static struct sg_host_range *ranges;	/* sorted by base, disjoint */
static size_t nranges, cap;
static uint64_t next_id = 1ull << 48;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t generation = 1;

/* The last range this thread touched: kernels stay in one for long. */
static __thread struct {
	uint64_t generation, base, end;
} last __attribute__((tls_model("initial-exec")));

/* Index of the first range that ends behind @addr. */
static size_t lower(uint64_t addr)
{
	size_t lo = 0, hi = nranges;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (ranges[mid].base + ranges[mid].size > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Also one whose context has ended. */
static bool find(uint64_t addr, struct sg_host_range *out)
{
	bool found = false;
	size_t i;

	pthread_mutex_lock(&lock);
	i = lower(addr);
	if (i < nranges && ranges[i].base <= addr) {
		*out = ranges[i];
		found = true;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

bool sg_host_info(uint64_t addr, struct sg_host_range *out)
{
	return find(addr, out) && !out->ended;
}

bool sg_host_range(uint64_t addr, size_t len)
{
	struct sg_host_range r;

	/* A worker's arena is registered piece by piece as it grows. */
	while (sg_host_info(addr, &r)) {
		size_t here = r.size - (addr - r.base);

		if (len <= here)
			return true;
		addr += here;
		len -= here;
	}
	return false;
}

bool sg_host_ok(uint64_t addr, size_t len)
{
	struct sg_host_range r;
	uint64_t gen = atomic_load_explicit(&generation, memory_order_acquire);

	if (likely(last.generation == gen && addr >= last.base && addr < last.end))
		return len <= last.end - addr;
	if (!find(addr, &r))
		return false;
	last.generation = gen;
	last.base = r.base;
	last.end = r.base + r.size;
	return len <= last.end - addr;
}

/* What a context that has ended had registered may be registered anew: kernels that use it notice nothing of that. */
static CUresult add(struct sg_host_range r)
{
	CUresult e = CUDA_SUCCESS;
	size_t i, next;

	pthread_mutex_lock(&lock);
	i = lower(r.base);
	for (next = i; next < nranges && ranges[next].base < r.base + r.size; next++) {
		if (!ranges[next].ended || ranges[next].allocated) {
			e = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
			goto out;
		}
	}
	if (next == i && nranges == cap) {
		size_t n = cap ? cap * 2 : 64;
		void *p = realloc(ranges, n * sizeof(*ranges));

		if (!p) {
			e = CUDA_ERROR_OUT_OF_MEMORY;
			goto out;
		}
		ranges = p;
		cap = n;
	}
	memmove(&ranges[i + 1], &ranges[next], (nranges - next) * sizeof(*ranges));
	r.id = next_id++;
	ranges[i] = r;
	nranges += 1 - (next - i);
	atomic_fetch_add(&generation, 1);
out:
	pthread_mutex_unlock(&lock);
	return e;
}

/* Take the range that starts at @addr off the list. */
static bool take(uint64_t addr, bool allocated, struct sg_host_range *out)
{
	bool found = false;
	size_t i;

	pthread_mutex_lock(&lock);
	i = lower(addr);
	if (i < nranges && ranges[i].base == addr && ranges[i].allocated == allocated && !ranges[i].ended) {
		*out = ranges[i];
		memmove(&ranges[i], &ranges[i + 1], (nranges - i - 1) * sizeof(*ranges));
		nranges--;
		atomic_fetch_add(&generation, 1);
		found = true;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

/* Everything is done that was queued when the contexts numbered up to @number ended. */
static void drop(uint64_t number)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nranges;) {
		if (!ranges[i].ended || ranges[i].ended > number) {
			i++;
			continue;
		}
		if (sg_in_heap(ranges[i].base))
			sg_heap_access(ranges[i].base, ranges[i].size, false);
		if (ranges[i].allocated)
			munmap((void *)ranges[i].base, ranges[i].size);
		memmove(&ranges[i], &ranges[i + 1], (nranges - i - 1) * sizeof(*ranges));
		nranges--;
	}
	atomic_fetch_add(&generation, 1);
	pthread_mutex_unlock(&lock);
}

static void *wait_and_drop(void *number)
{
	sg_queue_sync_all();
	drop((uint64_t)(uintptr_t)number);
	return NULL;
}

/*
 * No call finds what the context had pinned any more. What is queued in others may use it still, and that is waited for
 * by another thread: the caller may be the one who brings about what they wait for.
 */
void sg_host_free_ctx(struct sg_ctx *ctx)
{
	static uint64_t ended;
	uint64_t number = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nranges; i++) {
		if (ranges[i].ctx != ctx || ranges[i].ended)
			continue;
		if (!number)
			number = ++ended;
		ranges[i].ended = number;
	}
	pthread_mutex_unlock(&lock);
	if (!number)
		return;
	/* Without a thread to be had it is waited for here. */
	if (sg_queue_all_idle() || !sg_thread_start(wait_and_drop, (void *)(uintptr_t)number))
		wait_and_drop((void *)(uintptr_t)number);
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int flags)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);
	void *p;

	if (!e)
		e = sg_capture_unsafe();
	if (e)
		return e;
	if (!pp || !bytesize || bytesize > SIZE_MAX / 2 ||
	    flags & ~(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED))
		return CUDA_ERROR_INVALID_VALUE;
	p = mmap(NULL, bytesize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	e = add((struct sg_host_range){ .base = (uint64_t)p, .size = bytesize, .allocated = true, .ctx = c,
					.flags = flags | CU_MEMHOSTALLOC_DEVICEMAP });
	if (e) {
		munmap(p, bytesize);
		return e;
	}
	*pp = p;
	return CUDA_SUCCESS;
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{
	return cuMemHostAlloc(pp, bytesize, 0);
}

CUresult cuMemFreeHost(void *p)
{
	struct sg_host_range r;
	CUresult e = sg_enter_end();

	if (!e)
		e = sg_capture_unsafe();
	if (e)
		return e;
	if (!sg_host_info((uint64_t)p, &r) || !r.allocated || r.base != (uint64_t)p)
		return CUDA_ERROR_INVALID_VALUE;
	sg_queue_sync_all();	/* any context may use it */
	if (!take((uint64_t)p, true, &r))
		return CUDA_ERROR_INVALID_VALUE;
	munmap(p, r.size);
	return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int flags)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);
	uint64_t addr = (uint64_t)p;

	if (e)
		return e;
	/* Where addresses were reserved and are no more, only whole pages, which what is in the heap is known by. */
	if (!p || !bytesize || addr + bytesize < addr ||
	    ((sg_in_heap(addr) || sg_in_heap(addr + bytesize - 1)) &&
	     ((addr | bytesize) & (HOST_PAGE - 1) || !sg_heap_hole(addr, bytesize))) ||
	    flags & ~(CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_READ_ONLY))
		return CUDA_ERROR_INVALID_VALUE;
	e = add((struct sg_host_range){ .base = addr, .size = bytesize, .ctx = c,
					.flags = flags | CU_MEMHOSTREGISTER_DEVICEMAP });
	if (!e && sg_in_heap(addr))
		sg_heap_access(addr, bytesize, true);
	return e;
}

CUresult cuMemHostRegister(void *p, size_t bytesize, unsigned int flags)
{
	return cuMemHostRegister_v2(p, bytesize, flags);
}

CUresult cuMemHostUnregister(void *p)
{
	struct sg_host_range r;
	CUresult e = sg_enter_end();

	if (!e)
		e = sg_capture_unsafe();
	if (e)
		return e;
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sg_host_info((uint64_t)p, &r) || r.allocated)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	if (r.base != (uint64_t)p)
		return CUDA_ERROR_INVALID_VALUE;
	sg_queue_sync_all();
	if (!take((uint64_t)p, false, &r))
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	if (sg_in_heap(r.base))
		sg_heap_access(r.base, r.size, false);
	return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int flags)
{
	struct sg_host_range r;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!pdptr || flags || !sg_host_info((uint64_t)p, &r))
		return CUDA_ERROR_INVALID_VALUE;
	*pdptr = (CUdeviceptr)p;
	return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *p)
{
	struct sg_host_range r;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!flags || !sg_host_info((uint64_t)p, &r) || !r.allocated)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = r.flags;
	return CUDA_SUCCESS;
}
