// SPDX-License-Identifier: Apache-2.0
/*
 * Barriers in shared memory (mbarrier) and the copies that complete them. A copy is done at once, so waiting for one
 * never lasts; all threads of a block run on one CPU thread, so nothing here needs to be atomic.
 *
 * A barrier's 64 bits: expected arrivals (20), pending arrivals (20), bytes still to come (signed, 22), phase (1).
 */

#include "ctl.h"
#include "lane.h"
#include "mem.h"

#define COUNT 0xfffffu

struct state {
	u32 expected, pending, phase;
	s32 bytes;
};

static struct state unpack(u64 v)
{
	return (struct state){ v & COUNT, v >> 20 & COUNT, v >> 62 & 1, (s32)((u32)(v >> 40) << 10) >> 10 };
}

static u64 pack(struct state s)
{
	if (!s.pending && !s.bytes) {	/* complete: the next phase begins */
		s.phase ^= 1;
		s.pending = s.expected;
	}
	return (u64)(s.expected & COUNT) | (u64)(s.pending & COUNT) << 20 | (u64)((u32)s.bytes & 0x3fffff) << 40 |
	       (u64)s.phase << 62;
}

static u8 *shared(struct warp *w, const struct insn *in, unsigned int i, u64 addr, unsigned int size, unsigned int align)
{
	if (addr - WIN_SHARED < WIN_SIZE)
		addr -= WIN_SHARED;
	if (addr & (align - 1))
		fault_access(w, in, i, addr, align, "shared access");
	if (size > w->block->shared_size || addr > w->block->shared_size - size)
		ptx_fault(w, in, i, FAULT_ADDRESS, "access of %u bytes at illegal shared address 0x%llx", size,
			  (unsigned long long)addr);
	return w->block->shared + addr;
}

static u64 lane_address(struct warp *w, u32 operand, u32 flags, s64 imm, unsigned int i)
{
	if (flags & F_NOADDR)
		return (u64)imm;
	return flags & F_ADDR32 ? (u32)((u32 *)OPD(operand))[i] + (u32)imm : ((u64 *)OPD(operand))[i] + (u64)imm;
}

static u64 *barrier_at(struct warp *w, const struct insn *in, unsigned int i)
{
	return (u64 *)shared(w, in, i, lane_address(w, in->a, in->flags, in->imm, i), 8, 8);
}

#define EACH(BODY)                                                                      \
	do {                                                                            \
		for (u32 m_ = w->mask; m_; m_ &= m_ - 1) {                              \
			unsigned int i = __builtin_ctz(m_);                             \
			u64 *bar = barrier_at(w, in, i);                                \
			BODY;                                                           \
		}                                                                       \
		return in + 1;                                                          \
	} while (0)

HANDLER(init)
{
	const u32 *n = OPD(in->b);

	EACH(*bar = (u64)(n[i] & COUNT) | (u64)(n[i] & COUNT) << 20);
}

HANDLER(inval)
{
	EACH(*bar = 0);
}

/* arrive, arrive.expect_tx, arrive_drop: b how many, c how many bytes more, d the state before */
static const struct insn *arrive(struct warp *w, const struct insn *in, bool drop)
{
	const u32 *n = OPD(in->b), *bytes = OPD(in->c);
	u64 *d = in->d == ~0u ? NULL : OPD(in->d);

	EACH(struct state s = unpack(*bar); u64 old = *bar; s.bytes += (s32)bytes[i];
	     s.pending = s.pending > n[i] ? s.pending - n[i] : 0; if (drop) s.expected -= s.expected > n[i] ? n[i] : s.expected;
	     *bar = pack(s); if (d) d[i] = old);
}

HANDLER(arrive_plain) { return arrive(w, in, false); }
HANDLER(arrive_drop) { return arrive(w, in, true); }

HANDLER(expect_tx)
{
	const u32 *bytes = OPD(in->b);

	EACH(struct state s = unpack(*bar); s.bytes += (s32)bytes[i]; *bar = pack(s));
}

HANDLER(complete_tx)
{
	const u32 *bytes = OPD(in->b);

	EACH(struct state s = unpack(*bar); s.bytes -= (s32)bytes[i]; *bar = pack(s));
}

HANDLER(test_wait)
{
	const u64 *state = OPD(in->b);
	u32 r = 0;

	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);

		r |= (u32)(((*barrier_at(w, in, i) ^ state[i]) >> 62) & 1) << i;
	}
	set_pred(w, in, r);
	return in + 1;
}

HANDLER(test_wait_parity)
{
	const u32 *parity = OPD(in->b);
	u32 r = 0;

	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);

		r |= (u32)((*barrier_at(w, in, i) >> 62 & 1) != (parity[i] & 1)) << i;
	}
	set_pred(w, in, r);
	return in + 1;
}

HANDLER(pending_count)
{
	const u64 *state = OPD(in->b);
	u32 *d = OPD(in->d);

	for (u32 m = w->mask; m; m &= m - 1)
		d[__builtin_ctz(m)] = state[__builtin_ctz(m)] >> 20 & COUNT;
	return in + 1;
}

/* cp.async.bulk: size in bytes in b, the barrier (if any) in c */
HANDLER(bulk)
{
	const struct copy *c = in->ext;
	const u32 *size = OPD(in->b);

	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);
		u64 to = lane_address(w, in->d, c->to_flags, c->to, i), from = lane_address(w, in->a, c->from_flags, c->from, i);
		u64 global = c->to_shared ? from : to;
		u8 *s = shared(w, in, i, c->to_shared ? to : from, size[i], 16);

		if (size[i] & 15)
			ptx_fault(w, in, i, FAULT_MISALIGNED, "bulk copy of %u bytes, which is no multiple of 16", size[i]);
		for (u32 k = 0; k < size[i]; k += 16) {
			void *g = generic_pointer(w, i, global + k, 16, !c->to_shared);

			if (!g || global & 15)
				fault_access(w, in, i, global + k, 16, "bulk copy");
			if (c->to_shared)
				memcpy(s + k, g, 16);
			else
				memcpy(g, s + k, 16);
		}
		if (c->barrier) {
			u64 *bar = (u64 *)shared(w, in, i, lane_address(w, in->c, c->barrier_flags, c->barrier_at, i), 8, 8);
			struct state st = unpack(*bar);

			st.bytes -= (s32)size[i];
			*bar = pack(st);
		}
	}
	return in + 1;
}

/* Memory taken from the thread's stack: the most that any lane asks for. */
HANDLER(stack_alloc)
{
	const u64 *size = OPD(in->a);
	u64 *d = OPD(in->d), most = 0, at;
	struct frame *f = w->frame;

	for (u32 m = w->mask; m; m &= m - 1)
		most = size[__builtin_ctz(m)] > most ? size[__builtin_ctz(m)] : most;
	at = ((u64)f->top + (u64)in->imm - 1) & ~((u64)in->imm - 1);
	if (most > w->block->stack || at + most > w->block->stack)
		ptx_fault(w, in, __builtin_ctz(w->mask), FAULT_TRAP, "stack overflow: alloca of %llu bytes",
			  (unsigned long long)most);
	f->top = (u32)(at + most + 15) & ~15u;
	for (u32 m = w->mask; m; m &= m - 1)
		d[__builtin_ctz(m)] = at;
	return in + 1;
}

HANDLER(stack_save)
{
	u64 *d = OPD(in->d);

	for (u32 m = w->mask; m; m &= m - 1)
		d[__builtin_ctz(m)] = w->frame->top;
	return in + 1;
}

HANDLER(stack_restore)
{
	const u64 *a = OPD(in->a);
	u32 low = w->frame->local_base + w->frame->fn->local_bytes;
	u64 at = a[__builtin_ctz(w->mask)];

	/* lanes that parted share the frame: only give back when all of them are here */
	if (w->mask == w->frame->live && at >= low && at <= w->frame->top)
		w->frame->top = (u32)at;
	return in + 1;
}

const struct ptx_op ptx_ops_async[] = {
	{ "mbarrier.init", init }, { "mbarrier.inval", inval }, { "mbarrier.arrive", arrive_plain },
	{ "mbarrier.arrive_drop", arrive_drop }, { "mbarrier.expect_tx", expect_tx },
	{ "mbarrier.complete_tx", complete_tx }, { "mbarrier.test_wait", test_wait },
	{ "mbarrier.test_wait.parity", test_wait_parity }, { "mbarrier.pending_count", pending_count },
	{ "cp.async.bulk", bulk }, { "alloca", stack_alloc }, { "stacksave", stack_save },
	{ "stackrestore", stack_restore }, { NULL },
};
