// SPDX-License-Identifier: Apache-2.0
/*
 * What the worker charges for pools, against drivers that count memory which a stream is to free as kept at once, or
 * only when it has been freed; with the worker's other files in short.
 */
#include <stdlib.h>
#include <string.h>

#include "../worker/graph.h"
#include "tap.h"

#define MIB	(1ull << 20)
#define POOLS	4
#define BLOCKS	64

struct worker_driver worker_driver;
struct worker worker;

/* --- the driver --- */

/* @at_once: freed in a stream is no longer used, before it has been freed */
static bool at_once, fault;
static struct fake_pool {
	uint64_t used, kept, pending, threshold;
	bool gone, sticks;		/* nothing that it keeps can be trimmed, or serves; nor does it keep more */
} pools[POOLS];
static struct block {
	uint64_t at, size;
	struct fake_pool *pool;		/* NULL: none */
	bool pending;
} blocks[BLOCKS];
static unsigned int trims;
static uint64_t most;		/* of what was ever there, as the driver gives out memory of a pool */

static struct block *block_of(uint64_t at)
{
	struct block *b = blocks;

	while (b < blocks + BLOCKS && b->at != at)
		b++;
	return b < blocks + BLOCKS ? b : NULL;
}

static CUdeviceptr block_new(struct fake_pool *p, uint64_t size)
{
	static uint64_t next = 1ull << 40;
	struct block *b = block_of(0);

	if (!b)
		return 0;
	*b = (struct block){ .at = next, .size = size, .pool = p };
	next += 1ull << 30;
	return b->at;
}

/* All of them: memory of the process. */
static uint64_t held(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < POOLS; i++)
		sum += pools[i].gone ? 0 : pools[i].kept;
	for (int i = 0; i < BLOCKS; i++)
		sum += blocks[i].at ? blocks[i].size : 0;
	return sum;
}

static void let_go(struct block *b)
{
	struct fake_pool *p = b->pool;

	if (p) {
		*(b->pending && at_once ? &p->pending : &p->used) -= b->size;
		if (!p->gone && !p->sticks && p->used + p->pending + p->kept + b->size <= p->threshold)
			p->kept += b->size;
	}
	*b = (struct block){ 0 };
}

static CUresult fake_alloc(CUdeviceptr *out, size_t size)
{
	*out = fault ? 0 : block_new(NULL, size);
	return fault ? CUDA_ERROR_LAUNCH_FAILED : *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult fake_alloc_pool(CUdeviceptr *out, size_t size, CUmemoryPool pool, CUstream stream)
{
	struct fake_pool *p = (struct fake_pool *)pool;

	*out = fault ? 0 : block_new(p, size);
	if (!*out)
		return fault ? CUDA_ERROR_LAUNCH_FAILED : CUDA_ERROR_OUT_OF_MEMORY;
	p->used += size;
	if (!p->sticks)
		p->kept -= p->kept < size ? p->kept : size;
	most = held() > most ? held() : most;
	return CUDA_SUCCESS;
}

static CUresult fake_free(CUdeviceptr at)
{
	if (fault)
		return CUDA_ERROR_LAUNCH_FAILED;
	let_go(block_of(at));
	return CUDA_SUCCESS;
}

static CUresult fake_free_async(CUdeviceptr at, CUstream stream)
{
	struct block *b = block_of(at);

	if (fault)
		return CUDA_ERROR_LAUNCH_FAILED;
	b->pending = true;
	if (b->pool && at_once) {
		b->pool->used -= b->size;
		b->pool->pending += b->size;
	}
	return CUDA_SUCCESS;
}

/* The stream gets as far as that. */
static void complete(void)
{
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i].at && blocks[i].pending)
			let_go(&blocks[i]);
}

static CUresult fake_get(CUmemoryPool pool, CUmemPool_attribute what, void *value)
{
	const struct fake_pool *p = (struct fake_pool *)pool;
	uint64_t *v = value;

	if (fault)
		return CUDA_ERROR_LAUNCH_FAILED;
	*v = p->used + (what == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT ? p->kept + p->pending : 0);
	return CUDA_SUCCESS;
}

static CUresult fake_set(CUmemoryPool pool, CUmemPool_attribute what, void *value)
{
	((struct fake_pool *)pool)->threshold = *(uint64_t *)value;
	return CUDA_SUCCESS;
}

static CUresult fake_trim(CUmemoryPool pool, size_t keep)
{
	struct fake_pool *p = (struct fake_pool *)pool;
	uint64_t rest = keep > p->used + p->pending ? keep - p->used - p->pending : 0;

	if (fault)
		return CUDA_ERROR_LAUNCH_FAILED;
	trims++;
	if (!p->sticks)
		p->kept = p->kept < rest ? p->kept : rest;
	return CUDA_SUCCESS;
}

static CUresult fake_destroy(CUmemoryPool pool)
{
	if (fault)
		return CUDA_ERROR_LAUNCH_FAILED;
	((struct fake_pool *)pool)->gone = true;
	return CUDA_SUCCESS;
}

/* --- the worker in short --- */

static uint64_t quota, used;
static unsigned int refused;
static struct wait *waits;
static CUresult answer;
static uint64_t address;

bool lease_charge(struct worker *w, uint64_t bytes)
{
	if (bytes > quota - used)
		return false;
	used += bytes;
	return true;
}

void lease_refused(struct worker *w, uint64_t bytes) { refused++; }

void lease_uncharge(struct worker *w, uint64_t bytes)
{
	if (bytes > used)
		abort();
	used -= bytes;
}

uint64_t lease_free(struct worker *w) { return quota - used; }

void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len)
{
	if (idm_error)
		abort();
	answer = (CUresult)cu_result;
	if (len == sizeof(address))
		memcpy(&address, results, len);
}

struct wait *fence_stream(struct wstream *s, CUresult *r)
{
	*r = CUDA_SUCCESS;
	return calloc(1, sizeof(struct wait));
}

struct wait *fence_frees(struct wctx *c, CUresult *r) { return NULL; }

void fence_start(struct worker *w, struct wait *f)
{
	f->next = waits;
	waits = f;
	w->deferred_frees++;
}

/* The worker has noticed. */
static void notice(void)
{
	struct wait *f;

	while ((f = waits)) {
		waits = f->next;
		if (f->pooled)
			pool_freed(&worker, f->uncharge);
		else
			lease_uncharge(&worker, f->uncharge);
		worker.deferred_frees--;
		free(f);
	}
}

static unsigned int drains;

void fence_drain_frees(struct worker *w)
{
	drains++;
	if (!fault)
		complete();
	notice();
}

__thread bool park_taken;

bool fence_freed(uint64_t count) { return !worker.deferred_frees; }
bool fence_freed_due(uint64_t count) { return !worker.deferred_frees; }

bool park_or_drain(struct worker *w, bool (*over)(uint64_t count))
{
	if (over(0))
		return false;
	fence_drain_frees(w);
	return true;
}

int stream_of(struct worker *w, const struct vgpu_call *call, uint64_t h, struct wstream **out)
{
	static struct wstream s;

	*out = &s;
	return 0;
}

void *worker_handle(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return h <= POOLS ? &pools[h - 1] : NULL; }

void *worker_handle_del(struct worker *w, uint64_t h, enum vgpu_handle_type t)
{
	pool_forget(w, (CUmemoryPool)&pools[h - 1]);
	return NULL;
}

int worker_enter(struct worker *w, const struct vgpu_call *call) { return 0; }
int worker_stream(struct worker *w, const struct vgpu_call *call, uint64_t h, void **out) { *out = NULL; return 0; }
int worker_handle_free(struct worker *w, uint64_t h, enum vgpu_handle_type t) { return 0; }
int worker_handle_add(struct worker *w, uint64_t h, enum vgpu_handle_type t, void *obj) { return 0; }
int worker_device(struct worker *w, uint64_t device) { return 0; }
void worker_complain(struct worker *w, const char *fmt, ...) { }
bool capture_active(CUstream s) { return false; }
CUgraph capture_graph(CUstream s) { return NULL; }
void stream_mark(struct wstream *s) { }
bool context_idle(struct wctx *c) { return true; }
void ipc_object_gone(const void *object) { }
void ipc_unlist(uint64_t id) { }
void ipc_drop(uint64_t id) { }
bool ipc_one_of_many(uint64_t id) { return false; }
void *idm_server_arena(struct idm_server *s, uint64_t offset, uint64_t len) { return NULL; }
struct hook *hook_memory(uint64_t id, CUresult *r) { return NULL; }
void hook_refuse(struct worker *w, uint64_t id) { }
void hook_drop(struct hook *h) { }
void hook_reap(struct worker *w) { }
unsigned int hook_memories(void) { return 0; }
CUresult graph_note_memory(struct worker *w, CUgraph graph, CUdeviceptr addr, uint64_t size, uint64_t charge,
			   struct hook *h)
{
	return CUDA_ERROR_NOT_SUPPORTED;
}

/* --- calls --- */

#define CALL(name, ...)											\
	do {												\
		struct vgpu_rq_##name q_ = { __VA_ARGS__ };						\
		struct idm_message m_ = { .header.payload_len = sizeof(q_), .payload = &q_ };		\
		worker_hand_##name(&worker, &m_);							\
	} while (0)

static uint64_t alloc(int pool, uint64_t size)
{
	address = 0;
	CALL(cuMemAllocFromPoolAsync, .bytesize = size, .pool = (uint64_t)pool);
	return answer == CUDA_SUCCESS ? address : 0;
}

static uint64_t plain(uint64_t size)
{
	address = 0;
	CALL(cuMemAlloc_v2, .bytesize = size);
	return answer == CUDA_SUCCESS ? address : 0;
}

static void free_later(uint64_t at) { CALL(cuMemFreeAsync, .dptr = at); }
static void free_now(uint64_t at) { CALL(cuMemFree_v2, .dptr = at); }
static void keep(int pool, uint64_t bytes)
{
	CALL(cuMemPoolSetAttribute, .pool = (uint64_t)pool, .attr = CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, .value = bytes);
}

static void begin(uint64_t bytes)
{
	quota = bytes;
	trims = drains = refused = 0;
	most = 0;
	for (int i = 0; i < POOLS; i++)
		keep(i + 1, UINT64_MAX);
}

/* Everything is freed, and the pools are new ones. */
static void end(void)
{
	fault = false;
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i].at && !blocks[i].pending)
			free_later(blocks[i].at);
	fence_drain_frees(&worker);
	for (int i = 0; i < POOLS; i++)
		if (!pools[i].gone)
			CALL(cuMemPoolDestroy, .pool = (uint64_t)i + 1);
	memset(pools, 0, sizeof(pools));
	if (used || held())
		ok(false, "%llu bytes are charged, and %llu are there", (unsigned long long)used,
		   (unsigned long long)held());
}

static void faults(void)
{
	begin(64 * MIB);
	free_later(alloc(1, 48 * MIB));
	complete();
	notice();
	ok(used == 48 * MIB && held() == used, "what a pool keeps is charged");
	fault = true;
	CALL(cuMemPoolTrimTo, .pool = 1);
	ok(used == 48 * MIB, "and after a fault still, when the driver says nothing about it");
	ok(!alloc(1, MIB) && !plain(MIB) && used == 48 * MIB, "whatever is tried");
	CALL(cuMemPoolDestroy, .pool = 1);
	ok(used == 48 * MIB, "destroying it included");
	fault = false;
	CALL(cuMemPoolTrimTo, .pool = 1);
	ok(!used && !held(), "until it answers again");
	end();

	begin(64 * MIB);
	free_later(alloc(1, 32 * MIB));
	fault = true;
	notice();
	ok(used == 32 * MIB, "what a stream was to free when the fault came is charged, too");
	ok(!alloc(1, MIB) && used == 32 * MIB, "and goes on to be");
	end();
}

static void once(void)
{
	uint64_t p;

	begin(64 * MIB);
	p = alloc(1, 40 * MIB);
	free_later(p);
	pool_settle(&worker);
	ok(used == 40 * MIB, "while a stream is to free memory it is charged once");
	ok(plain(16 * MIB) && !drains && !trims, "the rest of the quota can be had, without waiting");
	complete();
	pool_settle(&worker);
	ok(used == 56 * MIB, "when it has been freed, and that is not known yet, it is so, too");
	notice();
	ok(used == 56 * MIB && held() == used && pools[0].kept == 40 * MIB, "and the same when it is known");
	p = alloc(1, 40 * MIB);
	ok(p && !trims && !refused && used == 56 * MIB, "what a pool keeps serves where the quota would not");
	free_later(p);
	p = alloc(1, 40 * MIB);
	ok(p && drains == 1 && !trims && !refused, "and so does what it gets back by waiting");
	free_later(p);
	complete();
	notice();
	p = alloc(2, 36 * MIB);
	ok(p && trims && !refused && used == 52 * MIB && held() == used,
	   "for another pool it is let go, and nothing is refused");
	ok(most <= quota, "and it is let go before");
	ok(!alloc(3, 16 * MIB) && refused == 1 && used == 52 * MIB, "what is more than the quota is");
	end();

	begin(64 * MIB);
	free_later(alloc(1, 16 * MIB));
	alloc(2, 32 * MIB);
	complete();
	notice();
	p = alloc(1, 24 * MIB);
	ok(p && used == 56 * MIB && held() == used, "what is kept serves in part");
	end();

	begin(64 * MIB);
	free_later(alloc(1, 40 * MIB));
	complete();
	notice();
	pools[0].sticks = true;
	ok(!alloc(1, 36 * MIB) && refused == 1, "what cannot serve, and cannot be let go, is not had twice");
	ok(!alloc(2, 36 * MIB) && refused == 2, "nor for another pool");
	ok(used == 40 * MIB && held() == used, "and nothing of that is left");
	pools[0].sticks = false;
	end();
}

static void destroyed(void)
{
	uint64_t p;

	begin(64 * MIB);
	p = alloc(1, 24 * MIB);
	free_later(alloc(2, 24 * MIB));
	complete();
	notice();
	CALL(cuMemPoolDestroy, .pool = 1);
	pool_settle(&worker);
	ok(used == 48 * MIB && held() == used,
	   "memory of a pool that was destroyed stays charged, and what another keeps");
	free_now(p);
	ok(used == 24 * MIB && held() == used, "until it is freed");
	end();
}

/* In any order: never less is charged than is there, and no more once all is known. */
static void any_order(void)
{
	unsigned int less = 0, more = 0, over = 0;

	for (unsigned int seed = 1; seed <= 200; seed++) {
		begin(96 * MIB);
		srandom(seed);
		for (int step = 0; step < 200; step++) {
			struct block *b = &blocks[random() % BLOCKS];
			int pool = 1 + (int)(random() % POOLS);

			switch (random() % 10) {
			case 0: case 1: case 2:
				if (!pools[pool - 1].gone)
					alloc(pool, (1 + (uint64_t)random() % 32) * MIB);
				break;
			case 3:
				plain((1 + (uint64_t)random() % 16) * MIB);
				break;
			case 4: case 5:
				if (b->at && !b->pending)
					free_later(b->at);
				break;
			case 6:
				if (b->at && !b->pending)
					free_now(b->at);
				break;
			case 7:
				complete();
				break;
			case 8:
				complete();
				notice();
				pool_settle(&worker);
				more += used > held();
				break;
			case 9:
				if (!pools[pool - 1].gone && random() % 8)
					keep(pool, (uint64_t)random() % 64 * MIB);
				else if (!pools[pool - 1].gone)
					CALL(cuMemPoolDestroy, .pool = (uint64_t)pool);
				break;
			}
			less += used < held();
		}
		over += most > quota;
		end();
	}
	ok(!over || at_once, "there is never more than the quota, not even for a moment (%u times)", over);
	ok(!less, "never is less charged than is there (%u times)", less);
	ok(!more, "nor more once all is known (%u times)", more);
}

int main(void)
{
	D.cuMemAlloc_v2 = fake_alloc;
	D.cuMemFree_v2 = fake_free;
	D.cuMemFreeAsync = fake_free_async;
	D.cuMemAllocFromPoolAsync = fake_alloc_pool;
	D.cuMemPoolGetAttribute = fake_get;
	D.cuMemPoolSetAttribute = fake_set;
	D.cuMemPoolTrimTo = fake_trim;
	D.cuMemPoolDestroy = fake_destroy;
	for (int i = 0; i < 2; i++) {
		at_once = i;
		printf("# freed in a stream counts as kept %s\n", at_once ? "at once" : "when it has been freed");
		faults();
		once();
		destroyed();
		any_order();
	}
	return tap_done();
}
