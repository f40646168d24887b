// SPDX-License-Identifier: Apache-2.0
/*
 * Memory between processes: cuIpc…MemHandle, and pointers of shareable pools. An allocation becomes a memfd when it is
 * first exported (move.c), so that another process gets those pages and no others; the memfd lives as long as anybody
 * has it mapped.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mempool.h"
#include "share.h"

/* struct shared - an allocation that was exported, or (@refs > 0) imported so many times. @base: where it is here */
struct shared {
	struct sg_name name;
	uint64_t base;
	unsigned int refs;
	struct sg_ctx *ctx;
	struct shared *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* the heap's may be held around it, but not within it */
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;		/* one export or import at a time; outermost */
static struct shared *list;

/* Under the lock. */
static struct shared *by_base(uint64_t base)
{
	struct shared *s;

	for (s = list; s && s->base != base; s = s->next)
		;
	return s;
}

static CUresult note(const struct sg_name *name, uint64_t base, unsigned int refs, struct sg_ctx *ctx)
{
	struct shared *s = malloc(sizeof(*s));

	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&lock);
	*s = (struct shared){ *name, base, refs, ctx, list };
	list = s;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

void sg_ipc_freed(uint64_t base)
{
	struct shared **p, *s;

	pthread_mutex_lock(&lock);
	for (p = &list; *p && (*p)->base != base; p = &(*p)->next)
		;
	s = *p;
	if (s)
		*p = s->next;
	pthread_mutex_unlock(&lock);
	if (s && !s->refs)
		sg_share_gone(&s->name);
	free(s);
}

/* --- exporting ------------------------------------------------------------------------------------------------------ */

static bool exported(uint64_t base, struct sg_name *name)
{
	struct shared *s;

	pthread_mutex_lock(&lock);
	s = by_base(base);
	if (s)
		*name = s->name;
	pthread_mutex_unlock(&lock);
	return s;
}

static CUresult export_memory(const struct sg_allocation *a, enum sg_share_kind kind, const uint8_t *pool,
			      struct sg_name *name)
{
	CUresult e;
	int fd;

	/* Pages and all: the last one may be half the allocation's only, but is nobody else's. */
	e = sg_share_new(kind, (a->size + 4095) & ~4095ull, a->device, pool, name, &fd);
	if (e)
		return e;
	e = sg_heap_share(a->base, fd);
	if (!e)
		e = note(name, a->base, 0, a->ctx);
	if (!e) {
		e = sg_share_publish(name, fd);
		if (!e)
			return CUDA_SUCCESS;
		sg_ipc_freed(a->base);
	}
	close(fd);
	return e;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr dptr)
{
	struct sg_allocation a;
	struct sg_name name;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	/* Only what cuMemAlloc() gave: no variables, no pools' memory, no mappings, nothing of other processes. */
	if (!handle || !sg_heap_info(dptr, &a) || !a.ctx || a.reserved ||
	    a.flags & (SG_ALLOC_MANAGED | SG_ALLOC_ASYNC | SG_ALLOC_IMPORTED))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&one);
	if (!exported(a.base, &name))
		e = export_memory(&a, SG_SHARE_MEMORY, NULL, &name);
	pthread_mutex_unlock(&one);
	if (!e)
		memcpy(handle, &name, sizeof(name));
	return e;
}

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *data, CUdeviceptr dptr)
{
	struct sg_allocation a;
	struct sg_name name;
	const uint8_t *key;
	CUresult e = CUDA_SUCCESS;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!data || !sg_heap_info(dptr, &a) || a.base != dptr || !a.pool || a.flags & SG_ALLOC_IMPORTED)
		return CUDA_ERROR_INVALID_VALUE;
	key = sg_pool_key(a.pool);
	if (!key)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&one);
	if (!exported(a.base, &name))
		e = export_memory(&a, SG_SHARE_POINTER, key, &name);
	pthread_mutex_unlock(&one);
	if (!e)
		memcpy(data, &name, sizeof(name));
	return e;
}

/* --- importing ------------------------------------------------------------------------------------------------------ */

/* Imported already? Then once more. Memory is for one context of a process. */
static bool again(const struct sg_name *name, struct sg_ctx *c, CUdeviceptr *dptr, CUresult *e)
{
	struct shared *s;

	pthread_mutex_lock(&lock);
	for (s = list; s && (!s->refs || memcmp(&s->name, name, sizeof(*name))); s = s->next)
		;
	*e = s && s->ctx != c ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
	if (s && !*e) {
		s->refs++;
		*dptr = s->base;
	}
	pthread_mutex_unlock(&lock);
	return s;
}

static CUresult import(const void *handle, enum sg_share_kind kind, const uint8_t *pool, struct sg_ctx *c,
		       CUdeviceptr *dptr)
{
	struct sg_name name;
	uint64_t at;
	CUresult e;
	int fd;

	memcpy(&name, handle, sizeof(name));
	if (name.kind != (uint32_t)kind || (pool && memcmp(name.pool, pool, sizeof(name.pool))))
		return CUDA_ERROR_INVALID_VALUE;
	if (again(&name, c, dptr, &e))
		return e;
	e = sg_share_find(handle, kind, &name, &fd);
	if (e)
		return e;
	at = name.device < (uint32_t)sg_devices ?
		sg_heap_import((int)name.device, c, name.size, fd, pool ? SG_ALLOC_ASYNC : 0) : 0;
	close(fd);
	if (!at)
		return CUDA_ERROR_MAP_FAILED;
	e = note(&name, at, 1, c);
	if (e)
		sg_heap_free(at);
	else
		*dptr = at;
	return e;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *dptr, CUipcMemHandle handle, unsigned int flags)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!dptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&one);
	e = import(&handle, SG_SHARE_MEMORY, NULL, c, dptr);
	pthread_mutex_unlock(&one);
	return e;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *dptr, CUipcMemHandle handle, unsigned int flags)
{
	return cuIpcOpenMemHandle_v2(dptr, handle, flags);
}

CUresult cuMemPoolImportPointer(CUdeviceptr *dptr, CUmemoryPool pool, CUmemPoolPtrExportData *data)
{
	struct sg_pool *p = sg_object_check(&sg_pool_table, pool);
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!dptr || !data || !p || !sg_pool_imported(p))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&one);
	e = import(data, SG_SHARE_POINTER, sg_pool_key(p), sg_primary(sg_pool_device(p)), dptr);
	pthread_mutex_unlock(&one);
	return e;
}

/* One import less. @return false if @base is imported still. */
bool sg_ipc_last(uint64_t base)
{
	struct shared *s;
	bool last;

	pthread_mutex_lock(&lock);
	s = by_base(base);
	last = !s || s->refs <= 1;
	if (!last)
		s->refs--;
	pthread_mutex_unlock(&lock);
	return last;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr dptr)
{
	struct sg_allocation a;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!sg_heap_info(dptr, &a) || a.base != dptr || !(a.flags & SG_ALLOC_IMPORTED) || a.flags & SG_ALLOC_ASYNC)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sg_ipc_last(dptr))
		return CUDA_SUCCESS;
	sg_queue_sync_ctx(a.ctx);
	return sg_heap_free(dptr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
