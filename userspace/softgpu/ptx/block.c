// SPDX-License-Identifier: Apache-2.0
/* One block: its warps take turns until all have ended; barriers between them. */

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "ctl.h"

#define ROUND(x, a) (((x) + (a) - 1) & ~((size_t)(a) - 1))

void barrier_release(struct block *b, unsigned int id)
{
	struct barrier bar = b->barrier[id];

	for (uint32_t k = 0; k < b->nwarps; k++) {
		struct warp *w = &b->warps[k];

		for (uint32_t i = 0; i < w->nfrag; i++) {
			struct frag *f = &w->frags[i];

			if (f->state != FR_BARRIER || f->barrier != id)
				continue;
			barrier_result(w, f->pc - 1, f->frame, f->mask, &bar);
			f->state = FR_RUN;
			w->status = W_READY;
		}
	}
	b->barrier[id] = (struct barrier){ 0 };
}

/* Threads have ended: whoever waits for all threads may now be complete. */
void barrier_recheck(struct block *b)
{
	for (unsigned int i = 0; i < NBARRIERS; i++)
		if (b->barrier[i].arrived && !b->barrier[i].counted && b->barrier[i].arrived >= b->live)
			barrier_release(b, i);
}

/* Nothing can go on: let warp-wide operations proceed with the lanes that are there, or give up. */
static void unblock(struct block *b)
{
	struct warp *w;

	for (uint32_t k = 0; k < b->nwarps; k++) {
		w = &b->warps[k];
		for (uint32_t i = 0; i < w->nfrag; i++)
			if (w->frags[i].state == FR_SYNC) {
				w->frags[i].state = FR_RUN;
				w->force = true;
				w->status = W_READY;
				return;
			}
	}
	for (w = b->warps; !w->nfrag; w++)
		;
	ptx_fault(w, w->frags[0].pc - 1, __builtin_ctz(w->frags[0].mask), FAULT_TRAP,
		  "deadlock: barrier %u is waited for by %u threads and the others never come", w->frags[0].barrier,
		  b->barrier[w->frags[0].barrier].arrived);
}

/* @return true when the block has ended, false after @rounds turns of its warps */
static bool take_turns(struct block *b, unsigned int rounds)
{
	struct launch *l = b->launch;

	while (rounds--) {
		bool any = false, left = false;

		for (uint32_t k = 0; k < b->nwarps; k++) {
			struct warp *w = &b->warps[k];

			if (w->status == W_READY) {
				any = true;
				warp_run(w);
				if (__atomic_load_n(&l->stop, __ATOMIC_RELAXED))
					return true;
				if (l->request->cancel && *l->request->cancel) {
					__atomic_store_n(&l->stop, 1, __ATOMIC_SEQ_CST);
					return true;
				}
			}
			left |= w->status != W_DONE;
		}
		if (!left)
			return true;
		if (!any)
			unblock(b);
	}
	return false;
}

/* Run the block until it ends, by a fault too, or every warp has had @rounds turns. @return true when it has ended. */
bool block_run(struct block *b, unsigned int rounds)
{
	jmp_buf fault;

	b->fault = &fault;
	if (setjmp(fault))
		b->done = true;
	else
		b->done = take_turns(b, rounds);
	return b->done;
}

static void fill(uint8_t *area, unsigned int slot, uint32_t value)
{
	uint32_t *p = (uint32_t *)area + slot * WARP;

	for (unsigned int i = 0; i < WARP; i++)
		p[i] = value;
}

static void fill64(uint8_t *area, unsigned int slot, uint64_t value)
{
	uint64_t *p = (uint64_t *)(area + slot * WARP * 4);

	for (unsigned int i = 0; i < WARP; i++)
		p[i] = value;
}

static void init_warp(struct launch *l, struct warp *w)
{
	const uint32_t *dim = l->request->block;
	uint32_t *s = (uint32_t *)w->base[BASE_WARP];
	uint32_t first = w->index * WARP, n = l->nthreads - first, x, y, z;

	w->live = n >= WARP ? ALL_LANES : (1u << n) - 1;
	x = first % dim[0];
	y = first / dim[0] % dim[1];
	z = first / dim[0] / dim[1];
	for (unsigned int i = 0; i < WARP; i++) {
		s[SW_TID_X * WARP + i] = x;
		s[SW_TID_Y * WARP + i] = y;
		s[SW_TID_Z * WARP + i] = z;
		s[SW_WARPID * WARP + i] = w->index;
		if (++x == dim[0]) {
			x = 0;
			if (++y == dim[1]) {
				y = 0;
				z++;
			}
		}
	}
}

/* Dynamic shared memory is behind the static. */
static uint32_t dynamic_begins(const struct ptx_kernel *k)
{
	return ROUND(k->info.static_shared, k->dynamic_align);
}

static void init_special(struct launch *l, struct block *b)
{
	const struct ptx_launch *r = l->request;
	uint8_t *s = b->special;

	static const uint8_t masks[] = { SB_EQ, SB_LT, SB_LE, SB_GE, SB_GT };

	fill(s, SB_ZERO, 0);
	fill(s, SB_ONE, 1);
	for (unsigned int i = 0; i < WARP; i++) {
		const uint32_t v[] = { 1u << i, (1u << i) - 1, (2u << i) - 1, -(1u << i), -(2u << i) };

		((uint32_t *)s)[SB_LANEID * WARP + i] = i;
		for (unsigned int k = 0; k < 5; k++)
			((uint32_t *)s)[masks[k] * WARP + i] = v[k];
	}
	for (unsigned int i = 0; i < 3; i++) {
		fill(s, SB_NTID_X + i, r->block[i]);
		fill(s, SB_NCTAID_X + i, r->grid[i]);
	}
	fill(s, SB_NWARPID, l->nwarps);
	fill(s, SB_SMID, 0);
	fill(s, SB_NSMID, pool_threads());
	fill64(s, SB_GRIDID, l->grid_id);
	fill(s, SB_DYN_SIZE, r->dynamic_shared);
	fill(s, SB_TOTAL_SIZE, b->shared_size);
	fill(s, SB_ENVREG1, l->workspace >> 32);
	fill(s, SB_ENVREG2, (uint32_t)l->workspace);
	fill(s, SB_DYN_BASE, dynamic_begins(l->kernel));
}

/* Memory of blocks that have ended, kept for the next launch: mapping it anew costs more than small kernels. */
#define KEEP		4
#define KEEP_AT_MOST	(64u << 20)

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	uint8_t *memory;
	size_t size;
} kept[KEEP];

static uint8_t *take_memory(size_t *size)
{
	uint8_t *m = NULL;

	pthread_mutex_lock(&kept_lock);
	for (unsigned int i = 0; i < KEEP; i++)
		if (kept[i].memory && kept[i].size >= *size) {
			m = kept[i].memory;
			*size = kept[i].size;
			kept[i].memory = NULL;
			break;
		}
	pthread_mutex_unlock(&kept_lock);
	if (m)
		return m;
	m = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return m == MAP_FAILED ? NULL : m;
}

static void give_memory(uint8_t *m, size_t size)
{
	if (size <= KEEP_AT_MOST) {
		unsigned int worst = 0;

		/* into a free place, else in place of the smallest */
		pthread_mutex_lock(&kept_lock);
		for (unsigned int i = 1; i < KEEP; i++)
			if (kept[worst].memory && (!kept[i].memory || kept[i].size < kept[worst].size))
				worst = i;
		if (!kept[worst].memory || kept[worst].size < size) {
			uint8_t *old = kept[worst].memory;
			size_t old_size = kept[worst].size;

			kept[worst].memory = m;
			kept[worst].size = size;
			m = old;
			size = old_size;
		}
		pthread_mutex_unlock(&kept_lock);
	}
	if (m)
		munmap(m, size);
}

struct block *block_create(struct launch *l)
{
	const struct ptx_func *fn = l->kernel->fn;
	uint32_t stack = l->kernel->stack;
	size_t shared = ROUND((size_t)dynamic_begins(l->kernel) + l->request->dynamic_shared, 64) + 64;
	size_t frame = ROUND(fn->frame_bytes, 64) + ROUND((size_t)fn->area * WARP, 64);
	size_t per_warp = frame + ROUND(SW_COUNT * WARP * 4, 64) + ROUND((size_t)stack * WARP, 64);
	size_t head = ROUND(sizeof(struct block), 64) + ROUND(l->nwarps * sizeof(struct warp), 64);
	size_t size = ROUND(head + shared + SB_COUNT * WARP * 4 + per_warp * l->nwarps, 4096);
	uint8_t *m = take_memory(&size), *at;
	struct block *b = (struct block *)m;

	if (!m)
		return NULL;
	memset(b, 0, head);
	b->memory = m;
	b->memory_size = size;
	b->launch = l;
	b->nwarps = l->nwarps;
	b->warps = (struct warp *)(m + ROUND(sizeof(*b), 64));
	at = m + head;
	b->shared = at;
	b->shared_size = dynamic_begins(l->kernel) + l->request->dynamic_shared;
	at += shared;
	b->special = at;
	at += SB_COUNT * WARP * 4;
	b->params = l->params;
	b->param_bytes = l->kernel->info.param_bytes;
	b->stack = stack;
	init_special(l, b);
	for (uint32_t k = 0; k < b->nwarps; k++) {
		struct warp *w = &b->warps[k];

		w->block = b;
		w->index = k;
		w->root.fn = fn;
		w->root.regs = at;
		w->root.area = at + ROUND(fn->frame_bytes, 64);
		at += frame;
		w->base[BASE_WARP] = at;
		w->base[BASE_BLOCK] = b->special;
		at += ROUND(SW_COUNT * WARP * 4, 64);
		w->local = at;
		at += ROUND((size_t)stack * WARP, 64);
		init_warp(l, w);
	}
	return b;
}

void block_begin(struct block *b, uint64_t index)
{
	struct launch *l = b->launch;
	const uint32_t *grid = l->request->grid;

	b->ctaid[0] = index % grid[0];
	b->ctaid[1] = index / grid[0] % grid[1];
	b->ctaid[2] = index / grid[0] / grid[1];
	for (unsigned int i = 0; i < 3; i++)
		fill(b->special, SB_CTAID_X + i, b->ctaid[i]);
	b->live = l->nthreads;
	b->done = false;
	memset(b->barrier, 0, sizeof(b->barrier));
	for (uint32_t k = 0; k < b->nwarps; k++) {
		uint32_t n = l->nthreads - k * WARP;

		b->warps[k].live = n >= WARP ? ALL_LANES : (1u << n) - 1;
		warp_start(&b->warps[k]);
	}
}

void block_destroy(struct block *b)
{
	struct launch *l = b->launch;
	uint64_t n = 0;

	for (uint32_t k = 0; k < b->nwarps; k++)
		n += b->warps[k].count;
	__atomic_fetch_add(&l->instructions, n, __ATOMIC_RELAXED);
	for (struct frame *f = b->frames, *next; f; f = next) {
		next = f->next;
		free(f);
	}
	for (struct frame *f = b->spare, *next; f; f = next) {
		next = f->next;
		free(f);
	}
	give_memory(b->memory, b->memory_size);
}
