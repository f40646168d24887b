// SPDX-License-Identifier: Apache-2.0
/*
 * Memory pools. What a pool keeps of freed memory when its release threshold allows that is memory nobody else can have:
 * it is charged, by what the driver says, whenever the question comes up.
 */
#include <stdlib.h>

#include "worker.h"

/** struct keeper - a pool whose threshold the client has raised. @charged: for what it keeps */
struct keeper {
	CUmemoryPool pool;
	uint64_t charged;
	struct keeper *next;
};

static struct keeper *keepers;

static uint64_t kept(CUmemoryPool pool)
{
	cuuint64_t reserved = 0, used = 0;

	if (!D.cuMemPoolGetAttribute ||
	    D.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS ||
	    D.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) != CUDA_SUCCESS)
		return 0;
	return reserved > used ? reserved - used : 0;
}

static void settle(struct worker *w, struct keeper *k)
{
	uint64_t now = kept(k->pool);

	if (now > k->charged && !lease_charge(w, now - k->charged)) {
		/* It may not keep what the session may not have. */
		if (D.cuMemPoolTrimTo)
			D.cuMemPoolTrimTo(k->pool, 0);
		now = kept(k->pool);
		if (now > k->charged)
			return;
	}
	if (now < k->charged)
		lease_uncharge(w, k->charged - now);
	k->charged = now;
}

void pool_settle(struct worker *w)
{
	for (struct keeper *k = keepers; k; k = k->next)
		settle(w, k);
}

bool pool_release(struct worker *w)
{
	if (!keepers || !D.cuMemPoolTrimTo)
		return false;
	for (struct keeper *k = keepers; k; k = k->next) {
		D.cuMemPoolTrimTo(k->pool, 0);
		settle(w, k);
	}
	return true;
}

void pool_forget(struct worker *w, CUmemoryPool pool)
{
	ipc_object_gone(pool);
	for (struct keeper **p = &keepers, *k; (k = *p); p = &k->next) {
		if (k->pool != pool)
			continue;
		*p = k->next;
		lease_uncharge(w, k->charged);
		free(k);
		return;
	}
}

/* The driver first: what it refuses to destroy (the default pool) keeps its handle, and what it holds its charge. */
void worker_hand_cuMemPoolDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemPoolDestroy *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *pool;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	pool = err ? NULL : worker_handle(w, q->pool, VGPU_H_MEMPOOL);
	if (!err && !pool)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && D.cuMemPoolDestroy)
		r = D.cuMemPoolDestroy(pool);
	if (!err && r == CUDA_SUCCESS)
		worker_handle_del(w, q->pool, VGPU_H_MEMPOOL);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuMemPoolTrimTo(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemPoolTrimTo *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *pool;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	pool = worker_handle(w, q->pool, VGPU_H_MEMPOOL);
	if (pool && D.cuMemPoolTrimTo)
		r = D.cuMemPoolTrimTo(pool, q->minBytesToKeep);
	pool_settle(w);
	worker_reply(w, &m->header, &q->call, pool ? 0 : IDM_ERROR_INVALID_HANDLE, r, NULL, 0);
}

void worker_hand_cuMemPoolSetAttribute(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemPoolSetAttribute *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct keeper *k;
	uint64_t value;
	void *pool;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	pool = worker_handle(w, q->pool, VGPU_H_MEMPOOL);
	value = q->value;
	for (k = keepers; k && k->pool != pool; k = k->next)
		;
	if (pool && q->attr == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD && value && !k) {
		k = calloc(1, sizeof(*k));
		if (!k) {
			worker_reply(w, &m->header, &q->call, 0, CUDA_ERROR_OUT_OF_MEMORY, NULL, 0);
			return;
		}
		k->pool = pool;
		k->next = keepers;
		keepers = k;
	}
	if (pool && D.cuMemPoolSetAttribute)
		r = D.cuMemPoolSetAttribute(pool, (CUmemPool_attribute)q->attr, &value);
	pool_settle(w);
	worker_reply(w, &m->header, &q->call, pool ? 0 : IDM_ERROR_INVALID_HANDLE, r, NULL, 0);
}

void worker_hand_pool_access(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUmemAccessDesc desc;
	void *pool;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	pool = worker_handle(w, q->handle, VGPU_H_MEMPOOL);
	desc = (CUmemAccessDesc){ .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = worker_device(w, q->device) },
				  .flags = (CUmemAccess_flags)q->flags };
	if (pool && D.cuMemPoolSetAccess)
		r = D.cuMemPoolSetAccess(pool, &desc, 1);
	worker_reply(w, &m->header, &q->call, pool ? 0 : IDM_ERROR_INVALID_HANDLE, r, NULL, 0);
}

void worker_hand_pool_create(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_pool_create *q = m->payload;
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED };
	CUmemoryPool pool = NULL;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_handle_free(w, q->handle, VGPU_H_MEMPOOL);
	if (!err && D.cuMemPoolCreate) {
		props.location = (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = worker_device(w, q->device) };
		props.maxSize = q->max_size;
		props.handleTypes = q->handle_types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
		r = D.cuMemPoolCreate(&pool, &props);
	}
	if (!err && r == CUDA_SUCCESS)
		err = worker_handle_add(w, q->handle, VGPU_H_MEMPOOL, pool);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

struct from_pool {
	CUmemoryPool pool;
	CUstream stream;
};

static CUresult alloc_from_pool(CUdeviceptr *out, uint64_t size, void *arg)
{
	const struct from_pool *a = arg;

	return D.cuMemAllocFromPoolAsync ? D.cuMemAllocFromPoolAsync(out, size, a->pool, a->stream) :
					   CUDA_ERROR_NOT_SUPPORTED;
}

void worker_hand_cuMemAllocFromPoolAsync(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemAllocFromPoolAsync *q = m->payload;
	struct vgpu_rp_cuMemAllocFromPoolAsync rp = { 0 };
	struct from_pool a;
	CUresult r = CUDA_SUCCESS;
	void *stream;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_stream(w, &q->call, q->hStream, &stream);
	if (!err) {
		a = (struct from_pool){ worker_handle(w, q->pool, VGPU_H_MEMPOOL), stream };
		if (!a.pool)
			err = IDM_ERROR_INVALID_HANDLE;
	}
	if (!err)
		r = capture_active(stream) ? CUDA_ERROR_NOT_SUPPORTED :
		    memory_allocate(w, q->bytesize, RANGE_ASYNC, alloc_from_pool, &a, &rp.dptr);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
