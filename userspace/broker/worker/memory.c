// SPDX-License-Identifier: Apache-2.0
/* Device memory: allocations within the quota, and memset. */
#include <errno.h>
#include <time.h>

#include "graph.h"

/* What an allocation costs of the quota: drivers hand memory out in units of this or more. */
#define CHARGE_UNIT 512ull
#define GONE_WAIT_MS 1000	/* for word from the driver that is on its way */

static bool charge_of(uint64_t size, uint64_t *charge)
{
	if (__builtin_add_overflow(size, CHARGE_UNIT - 1, charge))
		return false;
	*charge &= ~(CHARGE_UNIT - 1);
	return true;
}

bool address_ok(struct worker *w, uint64_t addr, uint64_t len)
{
	uint64_t base;
	char *arena;

	if (!len || range_covers(&w->ranges, addr, len))
		return true;
	/* Pinned host memory is arena, at one address on both sides. */
	arena = idm_server_arena(w->server, 0, 0);
	base = (uint64_t)(uintptr_t)arena;
	return base && addr >= base && idm_server_arena(w->server, addr - base, len);
}

bool worker_address(struct worker *w, uint64_t addr, uint64_t len)
{
	return address_ok(w, addr, len);
}

static bool refuse_address(struct worker *w, uint64_t addr, uint64_t len)
{
	if (address_ok(w, addr, len))
		return false;
	worker_complain(w, "address %#llx (%llu bytes) is not memory of this session", (unsigned long long)addr,
			(unsigned long long)len);
	return true;
}

/* --- memory that has outlived its graph ----------------------------------------------------------------------- */

/*
 * What is kept and not in use is not charged any more, so it must go. @return whether graphs may use memory: a driver that does
 * not say so may have some.
 */
bool memory_trim_graphs(struct worker *w)
{
	bool any = false;

	for (unsigned int i = 0; i < w->ndevices; i++) {
		uint64_t used = 0;

		if (w->had_context[i] && (!D.cuDeviceGraphMemTrim || !D.cuDeviceGetGraphMemAttribute ||
		    D.cuDeviceGraphMemTrim(w->ordinals[i]) != CUDA_SUCCESS ||
		    D.cuDeviceGetGraphMemAttribute(w->ordinals[i], CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used) != CUDA_SUCCESS || used))
			any = true;
	}
	return any;
}

static bool is_there(uint64_t addr)
{
	int mapped = 0;

	return D.cuPointerGetAttribute && D.cuPointerGetAttribute(&mapped, CU_POINTER_ATTRIBUTE_MAPPED, addr) == CUDA_SUCCESS &&
	       mapped;
}

bool memory_outlives(struct worker *w, uint64_t addr)
{
	struct range *r = range_find(&w->ranges, addr);

	if (!r || !is_there(addr))
		return false;
	r->kind = RANGE_OUTLIVED;
	return true;
}

/* Another graph may have freed it. @return true if one did */
static bool outlived_settle(struct worker *w)
{
	struct range *r = range_next(&w->ranges, 0, RANGE_OUTLIVED);
	bool used = r && memory_trim_graphs(w), any = false;
	uint64_t at, charged;

	for (; r; r = range_next(&w->ranges, at + 1, RANGE_OUTLIVED)) {
		at = r->base;
		if ((used && is_there(at)) || !range_remove(&w->ranges, at, &charged))
			continue;
		lease_uncharge(w, charged);
		any = true;
	}
	return any;
}

/* --- allocating ---------------------------------------------------------------------------------------------- */

/* What is being freed, or what pools keep, may be what is missing. */
bool memory_charge(struct worker *w, uint64_t bytes)
{
	pool_settle(w);
	if (lease_charge(w, bytes) || (park_or_drain(w, fence_freed) && lease_charge(w, bytes)))
		return true;
	if (park_taken)
		return false;
	if ((pool_release(w) && lease_charge(w, bytes)) || (outlived_settle(w) && lease_charge(w, bytes)))
		return true;
	lease_refused(w, bytes);
	return false;
}

/* The same for @pool's memory. What it keeps, and what it gets back by waiting, serves first, and then must go. */
static bool charge_pooled(struct worker *w, CUmemoryPool pool, uint64_t bytes, uint64_t *taken)
{
	bool ok;

	*taken = pool_take(pool, bytes);
	ok = *taken == bytes || lease_charge(w, bytes - *taken);
	if (!ok) {
		pool_untake(*taken, *taken);
		park_or_drain(w, fence_freed);
		if (park_taken)
			return false;
		*taken = pool_take(pool, bytes);
		ok = *taken == bytes || memory_charge(w, bytes - *taken);
	}
	if (ok)
		pool_lend(bytes - *taken);
	else
		pool_untake(*taken, *taken);
	return ok;
}

/*
 * The driver has given out memory that a graph had, and word that the graph has it no more is still on its way: a user
 * object's end comes in a thread of the driver's.
 */
int memory_range_add(struct worker *w, uint64_t base, uint64_t size, enum range_kind kind, uint64_t owner, uint64_t charge)
{
	int rc = range_add(&w->ranges, base, size, kind, owner, charge);

	for (int i = 0; rc == -EEXIST && hook_memories() && i < GONE_WAIT_MS; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		hook_reap(w);
		rc = range_add(&w->ranges, base, size, kind, owner, charge);
	}
	lease_uncharge(w, w->ranges.displaced);
	w->ranges.displaced = 0;
	return rc;
}

/* What is being freed may be what the driver lacks. */
static CUresult had(struct worker *w, uint64_t size, alloc_fn fn, void *arg, CUdeviceptr *out)
{
	CUresult r = fn(out, size, arg);

	if (r == CUDA_ERROR_OUT_OF_MEMORY && park_or_drain(w, fence_freed))
		r = fn(out, size, arg);
	return r;
}

static CUresult noted(struct worker *w, CUdeviceptr at, uint64_t size, enum range_kind kind, uint64_t owner,
		      uint64_t charge)
{
	if (!memory_range_add(w, at, size, kind, owner, charge))
		return CUDA_SUCCESS;
	D.cuMemFree_v2(at);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult memory_allocate(struct worker *w, uint64_t size, alloc_fn fn, void *arg, CUdeviceptr *out)
{
	uint64_t charge;
	CUresult r;

	if (!size)
		return CUDA_ERROR_INVALID_VALUE;
	if (!charge_of(size, &charge) || !memory_charge(w, charge))
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = had(w, size, fn, arg, out);
	if (r == CUDA_SUCCESS)
		r = noted(w, *out, size, RANGE_ALLOC, context_owner(w), charge);
	if (r != CUDA_SUCCESS)
		lease_uncharge(w, charge);
	return r;
}

CUresult memory_allocate_pooled(struct worker *w, uint64_t size, CUmemoryPool pool, alloc_fn fn, void *arg,
				CUdeviceptr *out)
{
	uint64_t charge, taken;
	CUresult r;

	if (!size)
		return CUDA_ERROR_INVALID_VALUE;
	if (!charge_of(size, &charge) || !charge_pooled(w, pool, charge, &taken))
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = had(w, size, fn, arg, out);
	if (r != CUDA_SUCCESS) {
		pool_untake(charge, taken);
		lease_uncharge(w, charge - taken);
		pool_settle(w);	/* it may have let go of what pools kept */
		return r;
	}
	if (!pool_taken(w, taken)) {
		D.cuMemFree_v2(*out);
		lease_refused(w, charge);
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r == CUDA_SUCCESS)
		r = noted(w, *out, size, RANGE_ASYNC, 0, charge);
	if (r != CUDA_SUCCESS)
		pool_freed(w, charge);
	return r;
}

static CUresult alloc_plain(CUdeviceptr *out, uint64_t size, void *arg)
{
	return D.cuMemAlloc_v2(out, size);
}

void worker_hand_cuMemAlloc_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemAlloc_v2 *q = m->payload;
	struct vgpu_rp_cuMemAlloc_v2 rp = { 0 };
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		r = memory_allocate(w, q->bytesize, alloc_plain, NULL, &rp.dptr);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

struct pitch_args {
	uint64_t width, height, element;
	size_t pitch;
};

static CUresult alloc_pitch(CUdeviceptr *out, uint64_t size, void *arg)
{
	struct pitch_args *p = arg;
	CUresult r = D.cuMemAllocPitch_v2(out, &p->pitch, p->width, p->height, p->element);

	/* The driver chose a pitch that needs more than was charged and noted: not to be had within the quota. */
	if (r == CUDA_SUCCESS && (uint64_t)p->pitch > size / p->height) {
		D.cuMemFree_v2(*out);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return r;
}

#define PITCH_MOST 512ull	/* the largest alignment of a pitch that drivers use */

void worker_hand_cuMemAllocPitch_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemAllocPitch_v2 *q = m->payload;
	struct vgpu_rp_cuMemAllocPitch_v2 rp = { 0 };
	struct pitch_args p = { 0 };
	CUresult r = CUDA_SUCCESS;
	uint64_t size;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	p = (struct pitch_args){ .width = q->WidthInBytes, .height = q->Height, .element = q->ElementSizeBytes };
	err = worker_enter(w, &q->call);
	if (!err) {
		if (!p.width || !p.height || p.element > 16)
			r = CUDA_ERROR_INVALID_VALUE;
		else if (__builtin_add_overflow(p.width, PITCH_MOST - 1, &size) ||
			 __builtin_mul_overflow(size & ~(PITCH_MOST - 1), p.height, &size))
			r = CUDA_ERROR_OUT_OF_MEMORY;
		else
			r = memory_allocate(w, size, alloc_pitch, &p, &rp.dptr);
		rp.pPitch = p.pitch;
	}
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

static CUresult alloc_async(CUdeviceptr *out, uint64_t size, void *arg)
{
	return D.cuMemAllocAsync ? D.cuMemAllocAsync(out, size, arg) : CUDA_ERROR_NOT_SUPPORTED;
}

/* In a stream that captures it is the graph's; the number of the client's record of it came with the call. */
static CUresult capture_allocate(struct worker *w, const struct vgpu_rq_cuMemAllocAsync *q, CUstream stream,
				 CUdeviceptr *out)
{
	CUgraph graph = capture_graph(stream);
	uint64_t id = VGPU_HOOK_ID | (q->call.reserved - 1), charge;
	CUresult r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	/* Before the node is there: nobody could take it out of the capture again. */
	struct hook *h = graph ? hook_memory(id, &r) : NULL;

	if (!h) {
		hook_refuse(w, id);
		return r;
	}
	if (!charge_of(q->bytesize, &charge) || !memory_charge(w, charge)) {
		hook_drop(h);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	r = alloc_async(out, q->bytesize, stream);
	if (r == CUDA_SUCCESS)
		return graph_note_memory(w, graph, *out, q->bytesize, charge, h);
	lease_uncharge(w, charge);
	hook_drop(h);
	return r;
}

void worker_hand_cuMemAllocAsync(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemAllocAsync *q = m->payload;
	struct vgpu_rp_cuMemAllocAsync rp = { 0 };
	CUresult r = CUDA_SUCCESS;
	void *stream;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_stream(w, &q->call, q->hStream, &stream);
	if (!err && q->call.reserved && capture_active(stream))
		r = capture_allocate(w, q, stream, &rp.dptr);
	else if (!err)
		r = capture_active(stream) ? CUDA_ERROR_NOT_SUPPORTED :
		    !pool_note_default(w) ? CUDA_ERROR_OUT_OF_MEMORY :
		    memory_allocate_pooled(w, q->bytesize, pool_default(w->current ? w->current->device : 0),
					   alloc_async, stream, &rp.dptr);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

/* --- freeing -------------------------------------------------------------------------------------------------- */

static bool of_graph(struct worker *w, uint64_t addr)
{
	const struct range *r = range_find(&w->ranges, addr);

	return r && r->kind == RANGE_GRAPH && r->base == addr;
}

static bool take_range(struct worker *w, uint64_t addr, struct range *out)
{
	struct range *r = range_find(&w->ranges, addr);
	uint64_t charged;

	if (!r || r->base != addr || (r->kind >= RANGE_GLOBAL && r->kind != RANGE_OUTLIVED))
		return !refuse_address(w, addr, UINT64_MAX);
	*out = *r;
	ipc_unlist(r->shared);
	return range_remove(&w->ranges, addr, &charged);
}

/* The driver has freed it, or says that it has not: then it still counts, and is still there. */
static void freed(struct worker *w, const struct range *t, CUresult r)
{
	if (r == CUDA_SUCCESS) {
		if (t->kind == RANGE_ASYNC)
			pool_freed(w, t->charged);
		else
			lease_uncharge(w, t->charged);
		ipc_drop(t->shared);
	} else if (!range_add(&w->ranges, t->base, t->size, t->kind, t->owner, t->charged)) {
		range_find(&w->ranges, t->base)->shared = t->shared;
	}
}

/* Another session's memory, imported more than once, loses one import. */
static bool one_of_many(struct worker *w, uint64_t addr)
{
	const struct range *r = range_find(&w->ranges, addr);

	return r && r->base == addr && r->kind == RANGE_ASYNC && ipc_one_of_many(r->shared);
}

/*
 * cuMemFree() waits for what is pending. If there is something, the memory leaves the session's ranges now and
 * the driver frees it when its turn comes, so that the client's other threads go on.
 */
void worker_hand_cuMemFree_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemFree_v2 *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct range t;
	struct wait *f;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (err || !q->dptr)
		goto out;
	if (of_graph(w, q->dptr)) {
		r = D.cuMemFree_v2(q->dptr);
		goto out;
	}
	if (one_of_many(w, q->dptr))
		goto out;
	if (!take_range(w, q->dptr, &t)) {
		r = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	if (w->current && !context_idle(context_root(w))) {
		f = fence_frees(context_root(w), &r);
		if (f) {
			f->free_addr = q->dptr;
			f->uncharge = t.charged;
			f->pooled = t.kind == RANGE_ASYNC;
			f->shared = t.shared;
			f->deferred_free = true;
			fence_start(w, f);
			r = CUDA_SUCCESS;
			goto out;
		}
	}
	r = D.cuMemFree_v2(q->dptr);
	freed(w, &t, r);
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuMemFreeAsync(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemFreeAsync *q = m->payload;
	CUresult r = CUDA_SUCCESS, r2;
	struct wstream *s;
	struct range t;
	struct wait *f;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->hStream, &s);
	if (err || !q->dptr)
		goto out;
	/* What a graph has stays its own; in a capture a node is all that comes of it. */
	if (of_graph(w, q->dptr) || capture_active(s->real)) {
		r = refuse_address(w, q->dptr, 1) ? CUDA_ERROR_INVALID_VALUE :
		    D.cuMemFreeAsync ? D.cuMemFreeAsync(q->dptr, s->real) : CUDA_ERROR_NOT_SUPPORTED;
		goto out;
	}
	if (one_of_many(w, q->dptr))
		goto out;
	if (!take_range(w, q->dptr, &t)) {
		r = CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	stream_mark(s);
	r = D.cuMemFreeAsync ? D.cuMemFreeAsync(q->dptr, s->real) : CUDA_ERROR_NOT_SUPPORTED;
	f = r == CUDA_SUCCESS ? fence_stream(s, &r2) : NULL;
	if (f) {
		f->uncharge = t.charged;
		f->pooled = t.kind == RANGE_ASYNC;
		f->shared = t.shared;
		f->deferred_free = true;
		fence_start(w, f);
	} else {
		freed(w, &t, r);
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuMemGetInfo_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemGetInfo_v2 *q = m->payload;
	struct vgpu_rp_cuMemGetInfo_v2 rp = { 0 };
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err) {
		park_or_drain(w, fence_freed_due);
		pool_settle(w);
		r = D.cuMemGetInfo_v2(&rp.free, &rp.total);
		if (r == CUDA_SUCCESS && lease_quota(w)) {
			uint64_t left = lease_free(w), quota = lease_quota(w);

			if (quota && rp.total > quota)
				rp.total = quota;
			if (rp.free > left)
				rp.free = left;
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

/* --- memset ----------------------------------------------------------------------------------------------------- */

/* The synchronous ones take the legacy stream; with something pending there they are queued like the others. */
static int memset_stream(struct worker *w, const struct vgpu_call *call, uint64_t h, void **stream)
{
	int err = worker_enter(w, call);

	return err ? err : worker_stream(w, call, h, stream);
}

static bool extent(uint64_t pitch, uint64_t width, uint64_t height, uint64_t element, uint64_t *bytes)
{
	uint64_t row, rows;

	if (__builtin_mul_overflow(width, element, &row))
		return false;
	if (!height || !row) {
		*bytes = 0;
		return true;
	}
	if (height > 1 && row > pitch)
		return false;
	return !__builtin_mul_overflow(pitch, height - 1, &rows) && !__builtin_add_overflow(rows, row, bytes);
}

#define MEMSET(name, real, value, element, stream_handle)						\
void worker_hand_##name(struct worker *w, const struct idm_message *m)					\
{													\
	const struct vgpu_rq_##name *q = m->payload;							\
	CUresult r = CUDA_SUCCESS;									\
	uint64_t bytes;											\
	void *stream;											\
	int err;											\
													\
	if (!payload_is(w, m, sizeof(*q)))								\
		return;											\
	err = memset_stream(w, &q->call, stream_handle, &stream);					\
	if (!err) {											\
		if (__builtin_mul_overflow(q->N, (uint64_t)(element), &bytes) ||			\
		    refuse_address(w, q->dstDevice, bytes))						\
			r = CUDA_ERROR_INVALID_VALUE;							\
		else											\
			r = D.real(q->dstDevice, q->value, q->N, stream);				\
	}												\
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);						\
}

#define MEMSET_2D(name, real, value, element, stream_handle)						\
void worker_hand_##name(struct worker *w, const struct idm_message *m)					\
{													\
	const struct vgpu_rq_##name *q = m->payload;							\
	CUresult r = CUDA_SUCCESS;									\
	uint64_t bytes;											\
	void *stream;											\
	int err;											\
													\
	if (!payload_is(w, m, sizeof(*q)))								\
		return;											\
	err = memset_stream(w, &q->call, stream_handle, &stream);					\
	if (!err) {											\
		if (!extent(q->dstPitch, q->Width, q->Height, element, &bytes) ||			\
		    refuse_address(w, q->dstDevice, bytes))						\
			r = CUDA_ERROR_INVALID_VALUE;							\
		else											\
			r = D.real(q->dstDevice, q->dstPitch, q->value, q->Width, q->Height, stream);	\
	}												\
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);						\
}

MEMSET(cuMemsetD8_v2, cuMemsetD8Async, uc, 1, 0)
MEMSET(cuMemsetD16_v2, cuMemsetD16Async, us, 2, 0)
MEMSET(cuMemsetD32_v2, cuMemsetD32Async, ui, 4, 0)
MEMSET(cuMemsetD8Async, cuMemsetD8Async, uc, 1, q->hStream)
MEMSET(cuMemsetD16Async, cuMemsetD16Async, us, 2, q->hStream)
MEMSET(cuMemsetD32Async, cuMemsetD32Async, ui, 4, q->hStream)
MEMSET_2D(cuMemsetD2D8_v2, cuMemsetD2D8Async, uc, 1, 0)
MEMSET_2D(cuMemsetD2D16_v2, cuMemsetD2D16Async, us, 2, 0)
MEMSET_2D(cuMemsetD2D32_v2, cuMemsetD2D32Async, ui, 4, 0)
MEMSET_2D(cuMemsetD2D8Async, cuMemsetD2D8Async, uc, 1, q->hStream)
MEMSET_2D(cuMemsetD2D16Async, cuMemsetD2D16Async, us, 2, q->hStream)
MEMSET_2D(cuMemsetD2D32Async, cuMemsetD2D32Async, ui, 4, q->hStream)

/* --- stream memory operations ------------------------------------------------------------------------------------- */

#define STREAM_VALUE(name, bytes)									\
void worker_hand_##name(struct worker *w, const struct idm_message *m)					\
{													\
	const struct vgpu_rq_##name *q = m->payload;							\
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;								\
	void *stream;											\
	int err;											\
													\
	if (!payload_is(w, m, sizeof(*q)))								\
		return;											\
	err = memset_stream(w, &q->call, q->stream, &stream);						\
	if (!err && D.name)										\
		r = refuse_address(w, q->addr, bytes) ? CUDA_ERROR_INVALID_VALUE :			\
		    D.name(stream, q->addr, q->value, q->flags);					\
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);						\
}

STREAM_VALUE(cuStreamWaitValue32_v2, 4)
STREAM_VALUE(cuStreamWaitValue64_v2, 8)
STREAM_VALUE(cuStreamWriteValue32_v2, 4)
STREAM_VALUE(cuStreamWriteValue64_v2, 8)
