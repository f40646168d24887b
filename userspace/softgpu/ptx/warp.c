// SPDX-License-Identifier: Apache-2.0
/*
 * A warp's fragments: who runs next, who waits, who has met again. Call frames live here too, as fragments own them.
 */

#include <stdlib.h>

#include "exec.h"

void warp_set_mask(struct warp *w, uint32_t mask)
{
	w->mask = mask;
	for (unsigned int i = 0; i < WARP; i++)
		w->lm[i] = -(int32_t)(mask >> i & 1);
}

void warp_add(struct warp *w, uint32_t mask, const struct insn *pc, struct frame *f, enum frag_state state)
{
	/* Each fragment has a lane no other has, so 32 of them always suffice. */
	w->frags[w->nfrag++] = (struct frag){ .mask = mask, .state = state, .pc = pc, .frame = f };
}

static bool before(const struct frag *a, const struct frag *b)
{
	if (a->frame->depth != b->frame->depth)
		return a->frame->depth > b->frame->depth;
	return a->pc < b->pc;
}

static int best_fragment(struct warp *w, enum frag_state state, uint32_t avoid)
{
	int best = -1;

	for (uint32_t i = 0; i < w->nfrag; i++) {
		struct frag *f = &w->frags[i];

		if (f->state != state || (f->mask & avoid))
			continue;
		if (best < 0 || before(f, &w->frags[best]))
			best = i;
	}
	return best;
}

/* Choose a fragment, take in those that stand where it stands, make it current. NULL: none can run. */
const struct insn *warp_pick(struct warp *w)
{
	int best = -1;
	struct frag f;
	uint32_t mask;

	if (w->avoid) {
		best = best_fragment(w, FR_RUN, w->avoid);
		if (best < 0)
			w->avoid = 0;
	}
	if (best < 0)
		best = best_fragment(w, FR_RUN, 0);
	if (best < 0) {
		/*
		 * Lanes wait for each other at warp-wide operations that name lanes which never come. A GPU hangs or
		 * goes on with what is there; going on is the kinder of the two.
		 */
		bool barrier = false;

		for (uint32_t i = 0; i < w->nfrag; i++)
			barrier |= w->frags[i].state == FR_BARRIER;
		if (!barrier)
			best = best_fragment(w, FR_SYNC, 0);
		if (best < 0) {
			w->status = w->nfrag ? W_BLOCKED : W_DONE;
			w->mask = 0;
			return NULL;
		}
		w->force = true;
	}
	f = w->frags[best];
	w->frags[best] = w->frags[--w->nfrag];
	mask = f.mask;
	for (uint32_t i = 0; i < w->nfrag;) {
		struct frag *o = &w->frags[i];

		if (o->pc == f.pc && o->frame == f.frame && o->state != FR_BARRIER) {
			mask |= o->mask;
			*o = w->frags[--w->nfrag];
		} else {
			i++;
		}
	}
	if (mask & w->avoid)
		w->avoid = 0;
	warp_set_mask(w, mask);
	w->frame = f.frame;
	w->base[BASE_FRAME] = f.frame->regs;
	w->base[BASE_CONST] = f.frame->fn->consts;
	w->start = f.pc;
	return f.pc;
}

const struct insn *warp_next(struct warp *w, const struct insn *next)
{
	warp_add(w, w->mask, next, w->frame, FR_RUN);
	return warp_pick(w);
}

/* The slice is used up: let the block's other warps run, and then the warp's other fragments. */
const struct insn *warp_yield(struct warp *w, const struct insn *next)
{
	w->avoid = w->mask;
	warp_add(w, w->mask, next, w->frame, FR_RUN);
	w->mask = 0;
	w->status = W_READY;
	return NULL;
}

const struct insn *warp_wait(struct warp *w, const struct insn *pc, enum frag_state state, unsigned int barrier)
{
	warp_add(w, w->mask, pc, w->frame, state);
	w->frags[w->nfrag - 1].barrier = barrier;
	return warp_pick(w);
}

static bool waits_at(const struct warp *w, const struct frag *f, const struct insn *in)
{
	return f->state == FR_SYNC && f->pc == in && f->frame == w->frame;
}

/* The lanes that are at @in: the current ones and those that wait there. */
uint32_t warp_here(const struct warp *w, const struct insn *in)
{
	uint32_t here = w->mask;

	for (uint32_t i = 0; i < w->nfrag; i++)
		if (waits_at(w, &w->frags[i], in))
			here |= w->frags[i].mask;
	return here;
}

/* Of the lanes that are at @in, go on with @mask; the others wait. */
void warp_regroup(struct warp *w, const struct insn *in, uint32_t mask)
{
	uint32_t here = w->mask;

	if (in > w->start)
		warp_account(w, in - 1);
	w->start = in;
	for (uint32_t i = 0; i < w->nfrag;) {
		if (waits_at(w, &w->frags[i], in)) {
			here |= w->frags[i].mask;
			w->frags[i] = w->frags[--w->nfrag];
		} else {
			i++;
		}
	}
	if (here & ~mask)
		warp_add(w, here & ~mask, in, w->frame, FR_SYNC);
	warp_set_mask(w, mask);
}

/* The current lanes end. */
const struct insn *warp_exit(struct warp *w)
{
	struct block *b = w->block;

	for (struct frame *f = w->frame, *caller; f; f = caller) {
		caller = f->caller;
		f->live &= ~w->mask;
		if (!f->live && f != &w->root)
			frame_drop(b, f);
	}
	b->live -= __builtin_popcount(w->mask);
	w->live &= ~w->mask;
	for (uint32_t i = 0; i < w->nfrag; i++)
		if (w->frags[i].state == FR_SYNC)
			w->frags[i].state = FR_RUN;
	barrier_recheck(b);
	return warp_pick(w);
}

static void frame_unlink(struct block *b, struct frame *f)
{
	if (f->prev)
		f->prev->next = f->next;
	else
		b->frames = f->next;
	if (f->next)
		f->next->prev = f->prev;
}

void frame_drop(struct block *b, struct frame *f)
{
	frame_unlink(b, f);
	f->next = b->spare;
	b->spare = f;
}

#define HEADER ((sizeof(struct frame) + 63) & ~(size_t)63)

/* A frame for the current lanes calling @fn from @in. */
struct frame *frame_push(struct warp *w, const struct insn *in, const struct ptx_func *fn, const struct call *call)
{
	size_t bytes = HEADER + fn->frame_bytes + (size_t)fn->area * WARP;
	uint32_t local = w->frame->top;
	struct block *b = w->block;
	struct frame *f, **at;

	if (w->frame->depth >= MAX_CALL_DEPTH || local + fn->local_bytes > b->stack)
		ptx_fault(w, in, 0, FAULT_TRAP, "stack overflow in the call of '%s' at depth %u", fn->name,
			  w->frame->depth);
	for (at = &b->spare; (f = *at); at = &f->next)
		if (f->bytes == bytes)
			break;
	if (f) {
		*at = f->next;
	} else {
		if (b->frames_bytes + bytes > MAX_FRAMES_BYTES)
			ptx_fault(w, in, 0, FAULT_TRAP, "stack overflow: call frames take %zu MiB",
				  b->frames_bytes >> 20);
		f = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
		if (!f)
			ptx_fault(w, in, 0, FAULT_TRAP, "no memory for a call frame");
		memset(f, 0, bytes);
		f->bytes = bytes;
		b->frames_bytes += bytes;
	}
	f->regs = (uint8_t *)f + HEADER;
	f->area = f->regs + fn->frame_bytes;
	f->caller = w->frame;
	f->fn = fn;
	f->call = call;
	f->ret = in + 1;
	f->live = w->mask;
	f->depth = w->frame->depth + 1;
	f->local_base = local;
	f->top = local + fn->local_bytes;
	f->prev = NULL;
	f->next = b->frames;
	if (b->frames)
		b->frames->prev = f;
	b->frames = f;
	return f;
}

void warp_start(struct warp *w)
{
	w->nfrag = 0;
	w->mask = 0;
	w->avoid = 0;
	w->cc = 0;
	w->force = false;
	w->asleep = NULL;
	w->status = W_READY;
	w->root.live = w->live;
	w->root.top = w->root.fn->local_bytes;
	warp_add(w, w->live, w->root.fn->code, &w->root, FR_RUN);
}

/* Run until the slice is used up, every fragment waits at a barrier, or all lanes have ended. */
void warp_run(struct warp *w)
{
	const struct insn *in;

	w->budget = w->block->launch->slice;
	in = warp_pick(w);
	while (in)
		in = in->fn(w, in);
}
