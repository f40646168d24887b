// SPDX-License-Identifier: Apache-2.0
/*
 * Host memory that the GPU can reach. It is arena memory: client, worker and GPU know it by one address, and a copy
 * to or from it moves no byte more than the DMA does.
 *
 * Registered memory (cuMemHostRegister) stays the program's own; copies from and to it go through the arena, with host
 * functions of ours, so that nobody has to wait (registered.c). When a kernel is to reach it, its pages are replaced by the
 * arena's (mapped.c).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "advice.h"
#include "callback.h"
#include "capture.h"
#include "copy.h"
#include "mapped.h"
#include "memory.h"
#include "registered.h"

#define HOST_ALLOC_FLAGS	(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define ADDRESSES		(1ull << 56)	/* a program's, with five levels of page tables */
#define HOST_REGISTER_FLAGS	(CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | \
				 CU_MEMHOSTREGISTER_READ_ONLY)

static CUresult arena_alloc(void **pp, size_t size, enum range_kind kind, unsigned int flags)
{
	struct object *ctx = context_current(thread_self());
	struct range r = { .size = size, .kind = kind, .flags = flags, .ctx = ctx };
	CUresult res = session_check();
	void *p;

	if (res == CUDA_SUCCESS)
		res = capture_unsafe();
	if (res != CUDA_SUCCESS)
		return res;
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (context_ended(thread_self()))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	if (!pp || !size)
		return CUDA_ERROR_INVALID_VALUE;
	p = idm_arena_alloc(shim.client, size);
	if (!p)
		return idm_client_ended(shim.client) ? session_failed(-EPIPE) : CUDA_ERROR_OUT_OF_MEMORY;
	r.base = (uintptr_t)p;
	r.device = context_device(ctx);
	if (range_insert(&r)) {
		idm_arena_free(shim.client, p);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*pp = p;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
	if (Flags & ~(unsigned int)HOST_ALLOC_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	return arena_alloc(pp, bytesize, RANGE_PINNED, Flags);
}

VGPU_EXPORT CUresult CUDAAPI cuMemAllocHost_v2(void **pp, size_t bytesize)
{
	return arena_alloc(pp, bytesize, RANGE_PINNED, 0);
}

VGPU_EXPORT CUresult CUDAAPI cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{
	void *p = NULL;
	CUresult r;

	if (!dptr || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
		return CUDA_ERROR_INVALID_VALUE;
	r = arena_alloc(&p, bytesize, RANGE_MANAGED, flags);
	if (r == CUDA_SUCCESS)
		*dptr = (uintptr_t)p;
	return r;
}

/* Memory that was freed while a stream of its context captured, when nothing can be waited for. */
struct unwaited {
	void *p;
	const struct object *ctx;
	struct unwaited *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct unwaited *unwaited;

void pinned_forget(const struct object *ctx)
{
	struct unwaited **at = &unwaited, *u;

	pthread_mutex_lock(&lock);
	while ((u = *at)) {
		if (u->ctx != ctx) {
			at = &u->next;
			continue;
		}
		*at = u->next;
		idm_arena_free(shim.client, u->p);
		free(u);
	}
	pthread_mutex_unlock(&lock);
}

/* A copy may be under way, and what is given back must not change afterwards. If that can't be waited for, all stays. */
CUresult pinned_free(uint64_t base, unsigned int kinds)
{
	struct unwaited *u = NULL;
	CUresult r = CUDA_SUCCESS;
	struct range old;

	if (!range_find(base, &old) || old.base != base || !(kinds & 1u << old.kind))
		return CUDA_ERROR_INVALID_VALUE;
	if (capture_in(old.ctx)) {
		u = malloc(sizeof(*u));
		r = u ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	} else {
		r = context_settle(old.ctx);
	}
	if (r != CUDA_SUCCESS)
		return r;
	if (!range_remove(base, kinds, &old)) {
		free(u);
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (old.kind == RANGE_MANAGED)
		advice_forget(old.base, old.size);
	if (!u) {
		idm_arena_free(shim.client, (void *)(uintptr_t)base);
		pinned_forget(old.ctx);
		return CUDA_SUCCESS;
	}
	*u = (struct unwaited){ (void *)(uintptr_t)base, old.ctx, NULL };
	pthread_mutex_lock(&lock);
	u->next = unwaited;
	unwaited = u;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemFreeHost(void *p)
{
	CUresult r = session_check();

	if (r == CUDA_SUCCESS)
		r = capture_unsafe();
	return r != CUDA_SUCCESS || !p ? r : pinned_free((uintptr_t)p, 1 << RANGE_PINNED);
}

VGPU_EXPORT CUresult CUDAAPI cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags)
{
	CUresult r = session_check();
	struct range range;
	uint64_t device;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pdptr || Flags || !range_find((uintptr_t)p, &range))
		return CUDA_ERROR_INVALID_VALUE;
	if (!context_top(thread_self()))
		return CUDA_ERROR_INVALID_CONTEXT;
	if (range.kind == RANGE_REGISTERED) {
		r = mapped_device_address(range.base, &device);
		if (r == CUDA_SUCCESS)
			*pdptr = device + ((uintptr_t)p - range.base);
		return r;
	}
	if (range.kind != RANGE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	*pdptr = (uintptr_t)p;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuMemHostGetFlags(unsigned int *pFlags, void *p)
{
	CUresult r = session_check();
	struct range range;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pFlags || !range_find((uintptr_t)p, &range) || range.kind != RANGE_PINNED)
		return CUDA_ERROR_INVALID_VALUE;
	if (!context_top(thread_self()))
		return CUDA_ERROR_INVALID_CONTEXT;
	*pFlags = range.flags;
	return CUDA_SUCCESS;
}

/* Is all of it the program's memory? NVIDIA's driver pins its pages, which cannot be where there are none. */
static bool mapped_memory(const void *p, size_t size)
{
	uintptr_t first = (uintptr_t)p & ~(uintptr_t)(IDM_PAGE_SIZE - 1);

	return !msync((void *)first, (uintptr_t)p + size - first, MS_ASYNC);	/* nothing but looks at the mappings */
}

VGPU_EXPORT CUresult CUDAAPI cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
	struct range r = { .base = (uintptr_t)p, .size = bytesize, .kind = RANGE_REGISTERED, .flags = Flags };
	CUresult res = session_check();
	struct object *ctx;
	uint64_t device;

	if (res != CUDA_SUCCESS)
		return res;
	if (!p || !bytesize || bytesize > ADDRESSES || (uintptr_t)p > ADDRESSES - bytesize ||
	    copy_is_device((uintptr_t)p))
		return CUDA_ERROR_INVALID_VALUE;
	if (Flags & ~(unsigned int)(HOST_REGISTER_FLAGS | CU_MEMHOSTREGISTER_IOMEMORY))
		return CUDA_ERROR_INVALID_VALUE;
	if (Flags & CU_MEMHOSTREGISTER_IOMEMORY)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (thread_self()->in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	ctx = context_current(thread_self());
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!mapped_memory(p, bytesize))
		return CUDA_ERROR_INVALID_VALUE;
	r.ctx = ctx;
	r.device = context_device(ctx);
	if (range_insert(&r))
		return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	if (Flags & CU_MEMHOSTREGISTER_DEVICEMAP)
		res = mapped_device_address(r.base, &device);
	if (res != CUDA_SUCCESS)
		range_remove(r.base, 1 << RANGE_REGISTERED, NULL);
	return res;
}

VGPU_EXPORT CUresult CUDAAPI cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags)
{
	return cuMemHostRegister_v2(p, bytesize, Flags);
}

VGPU_EXPORT CUresult CUDAAPI cuMemHostUnregister(void *p)
{
	CUresult r = session_check();
	struct range old;
	uint64_t arena;
	bool mapped;

	if (r == CUDA_SUCCESS)
		r = capture_unsafe();
	if (r != CUDA_SUCCESS)
		return r;
	if (!range_find((uintptr_t)p, &old) || old.kind != RANGE_REGISTERED)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	if (old.base != (uintptr_t)p)
		return CUDA_ERROR_INVALID_VALUE;
	/* Copies of it may be under way, and the program may free it now: not before they can be waited for. */
	mapped = mapped_arena(old.base, old.size, &arena);
	if (capture_in(old.ctx))
		r = mapped || registered_busy() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
	else if (mapped || callback_pending())
		r = context_settle(old.ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!range_remove(old.base, 1 << RANGE_REGISTERED, &old))
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	mapped_drop(old.base);
	return CUDA_SUCCESS;
}
