// SPDX-License-Identifier: Apache-2.0
/*
 * Atomics. Blocks run on several threads, so these are the host's atomics; a floating-point one is a loop around
 * compare-and-exchange.
 */

#include "ctl.h"
#include "float.h"
#include "lane.h"
#include "mem.h"

static inline __attribute__((always_inline)) void *target(struct warp *w, const struct insn *in, unsigned int i,
							  unsigned int size)
{
	u64 addr = (u64)in->imm;
	void *p;

	if (!(in->flags & F_NOADDR))
		addr = in->flags & F_ADDR32 ? (u32)(addr + ((u32 *)OPD(in->a))[i]) : addr + ((u64 *)OPD(in->a))[i];
	if (addr & (size - 1))
		fault_access(w, in, i, addr, size, "atomic");
	if (in->flags & F_SHARED)
		p = addr < w->block->shared_size && addr + size <= w->block->shared_size ? w->block->shared + addr : NULL;
	else
		p = generic_pointer(w, i, addr, size, true);
	if (!p)
		fault_access(w, in, i, addr, size, "atomic");
	return p;
}

#define NO_DEST 0xffffffffu

/* OLD: what the lane gets, from p, x = b[i] and y = c[i] */
#define ATOM(name, T, OLD)                                                              \
	HANDLER(name)                                                                   \
	{                                                                               \
		const T *b = OPD(in->b), *c = OPD(in->c);                               \
		T *d = in->d == NO_DEST ? NULL : OPD(in->d);                            \
		for (u32 m = w->mask; m; m &= m - 1) {                                  \
			unsigned int i = __builtin_ctz(m);                              \
			T *p = target(w, in, i, sizeof(T));                             \
			T x = b[i], y = c[i], old;                                      \
			(void)y;                                                        \
			old = (OLD);                                                    \
			if (d)                                                          \
				d[i] = old;                                             \
		}                                                                       \
		return in + 1;                                                          \
	}

#define SEQ __ATOMIC_SEQ_CST

/* NEW: from v, the value found, and x */
#define LOOP(name, T, NEW)                                                              \
	static inline T name##_1(T *p, T x)                                             \
	{                                                                               \
		T v = __atomic_load_n(p, __ATOMIC_RELAXED), n;                          \
		do                                                                      \
			n = (T)(NEW);                                                   \
		while (!__atomic_compare_exchange_n(p, &v, n, true, SEQ, SEQ));         \
		return v;                                                               \
	}                                                                               \
	ATOM(name, T, name##_1(p, x))

static inline u16 add_f16(u16 a, u16 b)
{
	return f16_from((f64)f16_to_f32(a) + f16_to_f32(b), 0);
}

static inline u16 add_bf16(u16 a, u16 b)
{
	return bf16_from((f64)bf16_to_f32(a) + bf16_to_f32(b), 0);
}

static inline u16 cas16(u16 *p, u16 x, u16 y)
{
	__atomic_compare_exchange_n(p, &x, y, false, SEQ, SEQ);
	return x;
}

static inline u32 cas32(u32 *p, u32 x, u32 y)
{
	__atomic_compare_exchange_n(p, &x, y, false, SEQ, SEQ);
	return x;
}

static inline u64 cas64(u64 *p, u64 x, u64 y)
{
	__atomic_compare_exchange_n(p, &x, y, false, SEQ, SEQ);
	return x;
}

ATOM(add_b32, u32, __atomic_fetch_add(p, x, SEQ))
ATOM(add_b64, u64, __atomic_fetch_add(p, x, SEQ))
ATOM(exch_b16, u16, __atomic_exchange_n(p, x, SEQ))
ATOM(exch_b32, u32, __atomic_exchange_n(p, x, SEQ))
ATOM(exch_b64, u64, __atomic_exchange_n(p, x, SEQ))
ATOM(cas_b16, u16, cas16(p, x, y))
ATOM(cas_b32, u32, cas32(p, x, y))
ATOM(cas_b64, u64, cas64(p, x, y))
ATOM(and_b32, u32, __atomic_fetch_and(p, x, SEQ))
ATOM(and_b64, u64, __atomic_fetch_and(p, x, SEQ))
ATOM(or_b32, u32, __atomic_fetch_or(p, x, SEQ))
ATOM(or_b64, u64, __atomic_fetch_or(p, x, SEQ))
ATOM(xor_b32, u32, __atomic_fetch_xor(p, x, SEQ))
ATOM(xor_b64, u64, __atomic_fetch_xor(p, x, SEQ))
LOOP(add_atom_f32, u32, f32_bits(f32_nan(f32_from(v) + f32_from(x))))
LOOP(add_atom_f64, u64, f64_bits(f64_from(v) + f64_from(x)))
LOOP(add_atom_f16, u16, add_f16(v, x))
LOOP(add_atom_bf16, u16, add_bf16(v, x))
LOOP(add_atom_f16x2, u32, (u32)add_f16(v >> 16, x >> 16) << 16 | add_f16((u16)v, (u16)x))
LOOP(add_atom_bf16x2, u32, (u32)add_bf16(v >> 16, x >> 16) << 16 | add_bf16((u16)v, (u16)x))
LOOP(inc_b32, u32, v >= x ? 0 : v + 1)
LOOP(dec_b32, u32, v == 0 || v > x ? x : v - 1)
LOOP(min_u32, u32, x < v ? x : v)
LOOP(max_u32, u32, x > v ? x : v)
LOOP(min_s32, s32, x < v ? x : v)
LOOP(max_s32, s32, x > v ? x : v)
LOOP(min_u64, u64, x < v ? x : v)
LOOP(max_u64, u64, x > v ? x : v)
LOOP(min_s64, s64, x < v ? x : v)
LOOP(max_s64, s64, x > v ? x : v)

const struct ptx_op ptx_ops_atom[] = {
	{ "atom.add.b32", add_b32 }, { "atom.add.b64", add_b64 }, { "atom.add.f32", add_atom_f32 },
	{ "atom.add.f64", add_atom_f64 }, { "atom.add.f16", add_atom_f16 }, { "atom.add.bf16", add_atom_bf16 },
	{ "atom.add.f16x2", add_atom_f16x2 }, { "atom.add.bf16x2", add_atom_bf16x2 }, { "atom.exch.b16", exch_b16 },
	{ "atom.exch.b32", exch_b32 }, { "atom.exch.b64", exch_b64 }, { "atom.cas.b16", cas_b16 },
	{ "atom.cas.b32", cas_b32 }, { "atom.cas.b64", cas_b64 }, { "atom.and.b32", and_b32 }, { "atom.and.b64", and_b64 },
	{ "atom.or.b32", or_b32 }, { "atom.or.b64", or_b64 }, { "atom.xor.b32", xor_b32 }, { "atom.xor.b64", xor_b64 },
	{ "atom.inc.b32", inc_b32 }, { "atom.dec.b32", dec_b32 }, { "atom.min.u32", min_u32 }, { "atom.max.u32", max_u32 },
	{ "atom.min.s32", min_s32 }, { "atom.max.s32", max_s32 }, { "atom.min.u64", min_u64 }, { "atom.max.u64", max_u64 },
	{ "atom.min.s64", min_s64 }, { "atom.max.s64", max_s64 }, { NULL },
};
