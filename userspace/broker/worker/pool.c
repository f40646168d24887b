// SPDX-License-Identifier: Apache-2.0
/*
 * Memory pools. What a pool keeps of freed memory is memory nobody else can have: it is charged, by what the driver
 * says, whenever the question comes up. The charge of what is freed goes to the pools first, so that none is given back
 * of memory that is still there; and what they keep serves the next allocation, whose charge is theirs as far as it
 * goes.
 *
 * Memory that a stream is to free is charged until that has happened, while the driver may count it as kept at once, or
 * not before it has happened. So kept is what it says to be unused, and no more than what pools have beyond all that is
 * charged as allocated: the two together are never less than what pools have.
 */
#include <pthread.h>
#include <stdlib.h>

#include "worker.h"

/** struct keeper - a pool that may keep something. @known: the driver has answered for it */
struct keeper {
	CUmemoryPool pool;
	bool known;
	struct keeper *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* threads that wait for frees ask, too */
static struct keeper *keepers;
static CUmemoryPool defaults[VGPU_DEVICES_MAX];	/* the dispatching thread's */
static uint64_t charged;		/* for what they keep, together */
static uint64_t lent;			/* charged for what is allocated, or being freed */
static uint64_t orphaned;		/* at most so much of it is in pools that have been destroyed */

static bool ask(const struct keeper *k, CUmemPool_attribute what, uint64_t *value)
{
	cuuint64_t v = 0;
	bool ok = D.cuMemPoolGetAttribute && D.cuMemPoolGetAttribute(k->pool, what, &v) == CUDA_SUCCESS;

	*value = v;
	return ok;
}

/* @return false if one that has answered does so no more: after a fault, whose process has its memory until it ends */
static bool kept(uint64_t *sum)
{
	uint64_t reserved, used, all = 0, unused = 0, allocated = lent - orphaned;
	bool answered = true;

	for (struct keeper *k = keepers; k; k = k->next) {
		if (ask(k, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) &&
		    ask(k, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used)) {
			k->known = true;
			all += reserved;
			unused += reserved > used ? reserved - used : 0;
		} else if (k->known) {
			answered = false;
		}
	}
	all = all > allocated ? all - allocated : 0;
	*sum = unused < all ? unused : all;
	return answered;
}

static void trim(void)
{
	for (const struct keeper *k = keepers; k && D.cuMemPoolTrimTo; k = k->next)
		D.cuMemPoolTrimTo(k->pool, 0);
}

/* @return bytes that they keep and that cannot be charged: the quota is used up, and trimmed they have been */
static uint64_t settle(struct worker *w)
{
	uint64_t now;
	bool answered = kept(&now);

	if (now > charged && !lease_charge(w, now - charged)) {
		/* They may not keep what the session may not have. */
		trim();
		answered = kept(&now);
		if (now > charged)
			return now - charged;
	}
	if (now < charged) {
		if (!answered)
			return 0;
		lease_uncharge(w, charged - now);
	}
	charged = now;
	return 0;
}

void pool_settle(struct worker *w)
{
	pthread_mutex_lock(&lock);
	if (keepers)
		settle(w);
	pthread_mutex_unlock(&lock);
}

static struct keeper *keeper_of(CUmemoryPool pool)
{
	struct keeper *k;

	for (k = keepers; k && k->pool != pool; k = k->next)
		;
	return k;
}

uint64_t pool_take(CUmemoryPool pool, uint64_t bytes)
{
	uint64_t reserved, used, taken = 0;
	const struct keeper *k;

	pthread_mutex_lock(&lock);
	k = charged ? keeper_of(pool) : NULL;
	if (k && ask(k, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) &&
	    ask(k, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) && reserved > used)
		taken = reserved - used < charged ? reserved - used : charged;
	taken = bytes < taken ? bytes : taken;
	charged -= taken;
	lent += taken;
	pthread_mutex_unlock(&lock);
	return taken;
}

void pool_lend(uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	lent += bytes;
	pthread_mutex_unlock(&lock);
}

/* Under the lock: of what is charged as allocated, @bytes are so no more. */
static void take_back(uint64_t bytes)
{
	lent -= bytes;
	orphaned = orphaned < lent ? orphaned : lent;
}

void pool_untake(uint64_t bytes, uint64_t taken)
{
	pthread_mutex_lock(&lock);
	take_back(bytes);
	charged += taken;
	pthread_mutex_unlock(&lock);
}

bool pool_taken(struct worker *w, uint64_t taken)
{
	uint64_t more;
	bool ok;

	pthread_mutex_lock(&lock);
	more = settle(w);
	/* It came from elsewhere. More than its own size is the driver's unit, which may be too large for the quota. */
	more = more < taken ? more : taken;
	ok = !more || lease_charge(w, more);
	if (ok)
		charged += more;
	pthread_mutex_unlock(&lock);
	return ok;
}

void pool_freed(struct worker *w, uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	take_back(bytes);
	charged += bytes;
	settle(w);
	pthread_mutex_unlock(&lock);
}

void pool_exported(uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	take_back(bytes);
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
	k = keeper_of(pool);
	if (!k && (k = calloc(1, sizeof(*k)))) {
		*k = (struct keeper){ .pool = pool, .next = keepers };
		keepers = k;
	}
	pthread_mutex_unlock(&lock);
	return k;
}

bool pool_note_default(struct worker *w)
{
	static bool noted;

	for (unsigned int i = 0; !noted && i < w->ndevices && D.cuDeviceGetDefaultMemPool; i++)
		if (D.cuDeviceGetDefaultMemPool(&defaults[i], w->ordinals[i]) == CUDA_SUCCESS && !note(defaults[i]))
			return false;
	noted = true;
	return true;
}

CUmemoryPool pool_default(unsigned int dev)
{
	return defaults[dev];
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

/* Under the lock. What is allocated of it stays until it is freed, and stays charged. */
static CUresult destroy(CUmemoryPool pool)
{
	const struct keeper *k = keeper_of(pool);
	uint64_t left = 0;
	CUresult r;

	if (k && !ask(k, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &left))
		left = lent;
	r = D.cuMemPoolDestroy(pool);
	if (r != CUDA_SUCCESS)
		return r;
	forget(pool);
	orphaned = left < lent - orphaned ? orphaned + left : lent;
	return r;
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
		r = destroy(pool);
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
		    memory_allocate_pooled(w, q->bytesize, a.pool, alloc_from_pool, &a, &rp.dptr);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
