// SPDX-License-Identifier: Apache-2.0
/*
 * Memory pools. What a pool keeps of freed memory is memory nobody else can have: it is charged, by what the driver
 * says, whenever the question comes up. The charge of what is freed goes to the pools first, so that none is given back
 * of memory that is still there.
 */
#include <pthread.h>
#include <stdlib.h>

#include "worker.h"

/** struct keeper - a pool that may keep something. */
struct keeper {
	CUmemoryPool pool;
	struct keeper *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* threads that wait for frees ask, too */
static struct keeper *keepers;
static uint64_t charged;		/* for what they keep, together */

static uint64_t kept(void)
{
	cuuint64_t reserved, used;
	uint64_t sum = 0;

	for (const struct keeper *k = keepers; k && D.cuMemPoolGetAttribute; k = k->next)
		if (D.cuMemPoolGetAttribute(k->pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) == CUDA_SUCCESS &&
		    D.cuMemPoolGetAttribute(k->pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) == CUDA_SUCCESS &&
		    reserved > used)
			sum += reserved - used;
	return sum;
}

static void trim(void)
{
	for (const struct keeper *k = keepers; k && D.cuMemPoolTrimTo; k = k->next)
		D.cuMemPoolTrimTo(k->pool, 0);
}

static void settle(struct worker *w)
{
	uint64_t now = kept();

	if (now > charged && !lease_charge(w, now - charged)) {
		/* They may not keep what the session may not have. */
		trim();
		now = kept();
		if (now > charged)
			return;
	}
	if (now < charged)
		lease_uncharge(w, charged - now);
	charged = now;
}

void pool_settle(struct worker *w)
{
	pthread_mutex_lock(&lock);
	if (keepers)
		settle(w);
	pthread_mutex_unlock(&lock);
}

void pool_freed(struct worker *w, uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	if (keepers) {
		charged += bytes;
		settle(w);
	} else {
		lease_uncharge(w, bytes);
	}
	pthread_mutex_unlock(&lock);
}

bool pool_release(struct worker *w)
{
	bool any;

	pthread_mutex_lock(&lock);
	any = keepers && D.cuMemPoolTrimTo;
	if (any) {
		trim();
		settle(w);
	}
	pthread_mutex_unlock(&lock);
	return any;
}

static bool note(CUmemoryPool pool)
{
	struct keeper *k;

	pthread_mutex_lock(&lock);
	for (k = keepers; k && k->pool != pool; k = k->next)
		;
	if (!k && (k = calloc(1, sizeof(*k)))) {
		*k = (struct keeper){ pool, keepers };
		keepers = k;
	}
	pthread_mutex_unlock(&lock);
	return k;
}

bool pool_note_default(struct worker *w)
{
	static bool noted;
	CUmemoryPool pool;

	for (unsigned int i = 0; !noted && i < w->ndevices && D.cuDeviceGetDefaultMemPool; i++)
		if (D.cuDeviceGetDefaultMemPool(&pool, w->ordinals[i]) == CUDA_SUCCESS && !note(pool))
			return false;
	noted = true;
	return true;
}

static void forget(CUmemoryPool pool)
{
	for (struct keeper **p = &keepers, *k; (k = *p); p = &k->next) {
		if (k->pool != pool)
			continue;
		*p = k->next;
		free(k);
		return;
	}
}

void pool_forget(struct worker *w, CUmemoryPool pool)
{
	ipc_object_gone(pool);
	pthread_mutex_lock(&lock);
	forget(pool);
	settle(w);
	pthread_mutex_unlock(&lock);
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
	if (!err && D.cuMemPoolDestroy) {
		/* What it keeps goes now, while it can be asked; and no other thread may ask once it is gone. */
		if (D.cuMemPoolTrimTo)
			D.cuMemPoolTrimTo(pool, 0);
		pthread_mutex_lock(&lock);
		r = D.cuMemPoolDestroy(pool);
		if (r == CUDA_SUCCESS)
			forget(pool);
		pthread_mutex_unlock(&lock);
	}
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
	uint64_t value;
	void *pool;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	pool = worker_handle(w, q->pool, VGPU_H_MEMPOOL);
	value = q->value;
	if (pool && !note(pool)) {
		worker_reply(w, &m->header, &q->call, 0, CUDA_ERROR_OUT_OF_MEMORY, NULL, 0);
		return;
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
		r = capture_active(stream) ? CUDA_ERROR_NOT_SUPPORTED : !note(a.pool) ? CUDA_ERROR_OUT_OF_MEMORY :
		    memory_allocate(w, q->bytesize, RANGE_ASYNC, alloc_from_pool, &a, &rp.dptr);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
