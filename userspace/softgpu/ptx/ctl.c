// SPDX-License-Identifier: Apache-2.0
/* Control flow: branches, calls, returns, barriers, and the calls that CUDA answers itself (printf, assert). */

#include <time.h>

#include "ctl.h"

#define SLEEP_LONGEST_NS	1000000u
#define NAP_NS			50000u

#define HANDLER(name) const struct insn *name(struct warp *w, const struct insn *in)

static const struct insn *jump(struct warp *w, const struct insn *next)
{
	w->start = next;
	if (__builtin_expect(w->budget < 0, 0))
		return warp_yield(w, next);
	if (w->nfrag)
		return warp_next(w, next);
	return next;
}

static uint32_t guard(struct warp *w, const struct insn *in)
{
	uint32_t p = *(uint32_t *)OPD(in->a);

	return in->flags & F_NEG ? ~p : p;
}

HANDLER(ctl_bra)
{
	warp_account(w, in);
	return jump(w, in->target);
}

HANDLER(ctl_brap)
{
	uint32_t taken = guard(w, in) & w->mask;

	warp_account(w, in);
	if (taken == w->mask)
		return jump(w, in->target);
	if (!taken)
		return jump(w, in + 1);
	warp_add(w, taken, in->target, w->frame, FR_RUN);
	w->mask &= ~taken;
	return w->budget < 0 ? warp_yield(w, in + 1) : warp_next(w, in + 1);
}

/* Before a label that is also reached by falling through: another fragment may wait there. */
HANDLER(ctl_join)
{
	if (!w->nfrag)
		return in + 1;
	warp_account(w, in);
	return warp_next(w, in + 1);
}

/* @p on an instruction that neither branches nor waits: the next one runs for some lanes. */
HANDLER(ctl_guard)
{
	uint32_t mask = w->mask, on = guard(w, in) & mask;

	if (on == mask)
		return in + 1;
	if (!on)
		return in + 2;
	warp_set_mask(w, on);
	in[1].fn(w, in + 1);
	warp_set_mask(w, mask);
	return in + 2;
}

HANDLER(ctl_nop)
{
	return in + 1;
}

/* brx.idx: lanes may go many ways; each round takes those that go where the first one goes. */
HANDLER(ctl_brx)
{
	const struct branch_table *t = in->ext;
	const uint32_t *index = OPD(in->a);
	unsigned int first = __builtin_ctz(w->mask);
	uint32_t same = 0;

	if (index[first] >= t->n)
		ptx_fault(w, in, first, FAULT_PC, "brx.idx: index %u of %u targets", index[first], t->n);
	for (unsigned int i = 0; i < WARP; i++)
		if ((w->mask >> i & 1) && index[i] == index[first])
			same |= 1u << i;
	warp_account(w, in);
	if (same == w->mask)
		return jump(w, t->target[index[first]]);
	warp_add(w, same, t->target[index[first]], w->frame, FR_RUN);
	w->mask &= ~same;
	return warp_next(w, in);
}

static void copy_params(uint32_t mask, uint8_t *to, uint32_t to_area, const uint8_t *from, uint32_t from_area,
			const struct slot *ts, const struct slot *fs, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		for (uint32_t m = mask; m; m &= m - 1) {
			unsigned int i = __builtin_ctz(m);

			memcpy(to + (size_t)i * to_area + ts[k].offset, from + (size_t)i * from_area + fs[k].offset,
			       ts[k].size);
		}
}

static const struct insn *enter(struct warp *w, const struct insn *in, const struct ptx_func *fn,
				const struct call *call)
{
	struct frame *f = frame_push(w, in, fn, call);

	copy_params(w->mask, f->area, fn->area, w->frame->area, w->frame->fn->area, fn->args, call->args, fn->nargs);
	w->frame = f;
	w->base[BASE_FRAME] = f->regs;
	w->base[BASE_CONST] = fn->consts;
	return jump(w, fn->code);
}

HANDLER(ctl_call)
{
	const struct call *c = in->ext;

	warp_account(w, in);
	return enter(w, in, c->callee, c);
}

static bool fits(const struct slot *a, uint32_t na, const struct slot *b, uint32_t nb)
{
	if (na != nb)
		return false;
	for (uint32_t i = 0; i < na; i++)
		if (a[i].size != b[i].size)
			return false;
	return true;
}

HANDLER(ctl_calli)
{
	const struct indirect *c = in->ext;
	const uint64_t *target = OPD(in->a);
	unsigned int first = __builtin_ctz(w->mask);
	uint64_t address = target[first], index = (address - WIN_FUNC) / FUNC_STEP - 1;
	const struct ptx_func *fn;
	uint32_t same = 0;

	if (address < WIN_FUNC + FUNC_STEP || address % FUNC_STEP || index >= c->table->n || !c->table->fn[index])
		ptx_fault(w, in, first, FAULT_PC, "call of address 0x%llx, which is no function of this module",
			  (unsigned long long)address);
	fn = c->table->fn[index];
	if (!fits(fn->args, fn->nargs, c->call.args, c->call.nargs) ||
	    !fits(fn->rets, fn->nrets, c->call.rets, c->call.nrets))
		ptx_fault(w, in, first, FAULT_PC, "call of '%s' with other parameters than it has", fn->name);
	for (unsigned int i = 0; i < WARP; i++)
		if ((w->mask >> i & 1) && target[i] == address)
			same |= 1u << i;
	warp_account(w, in);
	if (same != w->mask) {
		warp_add(w, w->mask & ~same, in, w->frame, FR_RUN);
		warp_set_mask(w, same);
	}
	return enter(w, in, fn, &c->call);
}

HANDLER(ctl_ret)
{
	struct frame *f = w->frame, *caller = f->caller;
	const struct insn *ret = f->ret;
	uint32_t mask = w->mask;

	warp_account(w, in);
	if (!caller)
		return warp_exit(w);
	copy_params(mask, caller->area, caller->fn->area, f->area, f->fn->area, f->call->rets, f->fn->rets,
		    f->fn->nrets);
	f->live &= ~mask;
	if (!f->live)
		frame_drop(w->block, f);
	w->frame = caller;
	w->base[BASE_FRAME] = caller->regs;
	w->base[BASE_CONST] = caller->fn->consts;
	return jump(w, ret);
}

HANDLER(ctl_exit)
{
	warp_account(w, in);
	return warp_exit(w);
}

HANDLER(ctl_trap)
{
	ptx_fault(w, in, __builtin_ctz(w->mask), FAULT_TRAP, "%s", in->flags ? "brkpt" : "trap");
}

static uint32_t first_of(struct warp *w, uint32_t opnd)
{
	return ((uint32_t *)OPD(opnd))[__builtin_ctz(w->mask)];
}

void barrier_result(struct warp *w, const struct insn *in, struct frame *f, uint32_t mask, const struct barrier *bar)
{
	void *d = f->regs + (in->d & 0x3fffffff);

	if (in->flags & BAR_POPC) {
		for (unsigned int i = 0; i < WARP; i++)
			if (mask >> i & 1)
				((uint32_t *)d)[i] = bar->ones;
	} else if (in->flags & (BAR_AND | BAR_OR)) {
		bool v = in->flags & BAR_AND ? !bar->zeros : bar->ones != 0;
		uint32_t *p = d;

		*p = v ? *p | mask : *p & ~mask;
	}
}

HANDLER(ctl_bar)
{
	struct block *b = w->block;
	uint32_t id = first_of(w, in->a), count = in->flags & BAR_COUNT ? first_of(w, in->b) : 0;
	uint32_t threads = __builtin_popcount(w->mask);
	struct barrier *bar;

	warp_account(w, in);
	if (id >= NBARRIERS)
		ptx_fault(w, in, __builtin_ctz(w->mask), FAULT_TRAP, "barrier %u: there are %d", id, NBARRIERS);
	bar = &b->barrier[id];
	if (in->flags & BAR_RED) {
		uint32_t p = *(uint32_t *)OPD(in->c);

		p = (in->flags & F_NEG ? ~p : p) & w->mask;
		bar->ones += __builtin_popcount(p);
		bar->zeros += __builtin_popcount(w->mask & ~p);
	}
	if (count && w->mask == w->live)
		threads = WARP;		/* counts are in whole warps, the last one included */
	bar->counted = count != 0;
	bar->expected = count;
	bar->arrived += threads;
	if (bar->arrived >= (count ? count : b->live)) {
		if (!(in->flags & BAR_ARRIVE))
			barrier_result(w, in, w->frame, w->mask, bar);
		barrier_release(b, id);
		return jump(w, in + 1);
	}
	if (in->flags & BAR_ARRIVE)
		return jump(w, in + 1);
	return warp_wait(w, in + 1, FR_BARRIER, id);
}

static uint64_t area_value(struct warp *w, unsigned int lane, uint32_t offset, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, w->frame->area + (size_t)lane * w->frame->fn->area + offset, size);
	return v;
}

HANDLER(ctl_vprintf)
{
	const struct builtin *c = in->ext;

	for (uint32_t m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);
		uint32_t one = 1;

		print_format(w, in, i, area_value(w, i, c->arg[0], 8), area_value(w, i, c->arg[1], 8));
		if (c->has_ret)
			memcpy(w->frame->area + (size_t)i * w->frame->fn->area + c->ret, &one, 4);
	}
	return in + 1;
}

HANDLER(ctl_assertfail)
{
	const struct builtin *c = in->ext;
	unsigned int first = __builtin_ctz(w->mask);

	for (uint32_t m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);

		print_assert(w, in, i, area_value(w, i, c->arg[0], 8), area_value(w, i, c->arg[1], 8),
			     area_value(w, i, c->arg[2], 4), area_value(w, i, c->arg[3], 8));
	}
	ptx_fault(w, in, first, FAULT_ASSERT, "assertion failed");
}

HANDLER(ctl_malloc)
{
	const struct ptx_launch *l = w->block->launch->request;
	const struct builtin *c = in->ext;

	for (uint32_t m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);
		uint64_t at = l->allocate ? l->allocate(l->opaque, area_value(w, i, c->arg[0], 8)) : 0;

		if (c->has_ret)
			memcpy(w->frame->area + (size_t)i * w->frame->fn->area + c->ret, &at, 8);
	}
	return in + 1;
}

HANDLER(ctl_free)
{
	const struct ptx_launch *l = w->block->launch->request;
	const struct builtin *c = in->ext;

	for (uint32_t m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);
		uint64_t at = area_value(w, i, c->arg[0], 8);

		if (at && (!l->release || !l->release(l->opaque, at)))
			ptx_fault(w, in, i, FAULT_TRAP, "free() of %#llx, which malloc() did not give, or which has been freed",
				  (unsigned long long)at);
	}
	return in + 1;
}

void (*ptx_set_conditional)(uint64_t handle, uint32_t value);

HANDLER(ctl_set_conditional)
{
	const struct builtin *c = in->ext;

	for (uint32_t m = w->mask; m && ptx_set_conditional; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);

		ptx_set_conditional(area_value(w, i, c->arg[0], 8), area_value(w, i, c->arg[1], 4));
	}
	return in + 1;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* As long as the lane that sleeps longest, a millisecond at most. Other warps run meanwhile; a thread with none has a nap. */
HANDLER(ctl_nanosleep)
{
	const uint32_t *ns = OPD(in->a);
	uint64_t now = now_ns(CLOCK_MONOTONIC);
	uint32_t longest = 0;

	if (w->asleep != in) {
		for (unsigned int i = 0; i < WARP; i++)
			if (w->mask >> i & 1 && ns[i] > longest)
				longest = ns[i];
		w->asleep = in;
		w->wake = now + (longest < SLEEP_LONGEST_NS ? longest : SLEEP_LONGEST_NS);
	}
	if (now < w->wake) {
		warp_account(w, in - 1);
		if (w->wake - now > NAP_NS)
			nanosleep(&(struct timespec){ .tv_nsec = NAP_NS }, NULL);
		return warp_yield(w, in);
	}
	w->asleep = NULL;
	warp_account(w, in);
	w->start = in + 1;
	return warp_yield(w, in + 1);
}

HANDLER(ctl_fence)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return in + 1;
}

HANDLER(ctl_time)
{
	uint64_t v = now_ns(in->flags & 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC);

	if (in->x) {
		uint64_t *d = OPD(in->d);

		for (unsigned int i = 0; i < WARP; i++)
			d[i] = w->mask >> i & 1 ? v : d[i];
	} else {
		uint32_t *d = OPD(in->d), lo = in->flags & 1 ? v >> 32 : v;

		for (unsigned int i = 0; i < WARP; i++)
			d[i] = w->mask >> i & 1 ? lo : d[i];
	}
	return in + 1;
}

/* The address of a .local variable: where the frame's part of the thread's local memory begins is known only now. */
HANDLER(ctl_local_address)
{
	uint64_t v = w->frame->local_base + (uint64_t)in->imm + (in->x == 2 ? WIN_LOCAL : 0);

	if (in->x) {
		uint64_t *d = OPD(in->d);

		for (unsigned int i = 0; i < WARP; i++)
			d[i] = w->mask >> i & 1 ? v : d[i];
	} else {
		uint32_t *d = OPD(in->d);

		for (unsigned int i = 0; i < WARP; i++)
			d[i] = w->mask >> i & 1 ? (uint32_t)v : d[i];
	}
	return in + 1;
}
