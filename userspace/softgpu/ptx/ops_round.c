// SPDX-License-Identifier: Apache-2.0
/*
 * Floating point with directed rounding or .sat: the CPU's rounding mode is changed around the loop. Built with
 * -frounding-math, so that nothing moves across the change.
 */

#include <fenv.h>

#include "float.h"
#include "lane.h"

static int enter(u32 flags)
{
	int old = fegetround(), mode = flags & F_RZ ? FE_TOWARDZERO : flags & F_RM ? FE_DOWNWARD :
				       flags & F_RP ? FE_UPWARD : FE_TONEAREST;

	if (mode != old)
		fesetround(mode);
	return old;
}

/* noinline: operations stay between the two changes of mode */
#define ARITH(T, S)                                                                     \
	static __attribute__((noinline)) void add_lanes_##S(T *d, const T *a, const T *b, const T *c) { LANES d[i] = a[i] + b[i]; } \
	static __attribute__((noinline)) void sub_lanes_##S(T *d, const T *a, const T *b, const T *c) { LANES d[i] = a[i] - b[i]; } \
	static __attribute__((noinline)) void mul_lanes_##S(T *d, const T *a, const T *b, const T *c) { LANES d[i] = a[i] * b[i]; } \
	static __attribute__((noinline)) void div_lanes_##S(T *d, const T *a, const T *b, const T *c) { LANES d[i] = a[i] / b[i]; } \
	static __attribute__((noinline)) void rcp_lanes_##S(T *d, const T *a, const T *b, const T *c) { LANES d[i] = 1 / a[i]; }

ARITH(f32, f32)
ARITH(f64, f64)

static __attribute__((noinline)) void sqrt_lanes_f32(f32 *d, const f32 *a, const f32 *b, const f32 *c)
{
	LANES d[i] = __builtin_sqrtf(a[i]);
}

static __attribute__((noinline)) void sqrt_lanes_f64(f64 *d, const f64 *a, const f64 *b, const f64 *c)
{
	LANES d[i] = __builtin_sqrt(a[i]);
}

static __attribute__((noinline)) void fma_lanes_f32(f32 *d, const f32 *a, const f32 *b, const f32 *c)
{
	LANES d[i] = __builtin_fmaf(a[i], b[i], c[i]);
}

static __attribute__((noinline)) void fma_lanes_f64(f64 *d, const f64 *a, const f64 *b, const f64 *c)
{
	LANES d[i] = __builtin_fma(a[i], b[i], c[i]);
}

typedef void lanes32(f32 *, const f32 *, const f32 *, const f32 *);
typedef void lanes64(f64 *, const f64 *, const f64 *, const f64 *);

static const struct insn *run32(struct warp *w, const struct insn *in, unsigned int n, lanes32 *f)
{
	f32 *d = OPD(in->d);
	f32 x[3][WARP] __attribute__((aligned(64))), r[WARP] __attribute__((aligned(64)));
	const f32 *s[3] = { OPD(in->a), n > 1 ? OPD(in->b) : OPD(in->a), n > 2 ? OPD(in->c) : OPD(in->a) };
	u32 flags = in->flags;
	int old;

	if (flags & F_FTZ)
		for (unsigned int k = 0; k < n; k++) {
			LANES x[k][i] = f32_flush(s[k][i]);
			s[k] = x[k];
		}
	old = enter(flags);
	f(r, s[0], n > 1 ? s[1] : s[0], n > 2 ? s[2] : s[0]);
	fesetround(old);
	for (unsigned int i = 0; i < WARP; i++) {
		f32 v = f32_nan(r[i]);

		if (flags & F_FTZ)
			v = f32_flush(v);
		if (flags & F_SAT)
			v = v > 0 ? v < 1 ? v : 1 : 0;
		if (w->mask >> i & 1)
			d[i] = v;
	}
	return in + 1;
}

static const struct insn *run64(struct warp *w, const struct insn *in, unsigned int n, lanes64 *f)
{
	f64 *d = OPD(in->d), r[WARP] __attribute__((aligned(64)));
	const f64 *a = OPD(in->a);
	int old = enter(in->flags);

	f(r, a, n > 1 ? OPD(in->b) : a, n > 2 ? OPD(in->c) : a);
	fesetround(old);
	for (unsigned int i = 0; i < WARP; i++)
		if (w->mask >> i & 1)
			d[i] = in->flags & F_SAT ? r[i] > 0 ? r[i] < 1 ? r[i] : 1 : 0 : r[i];
	return in + 1;
}

#define GENERAL(op, n)                                                                  \
	HANDLER(op##x_f32) { return run32(w, in, n, op##_lanes_f32); }                  \
	HANDLER(op##x_f64) { return run64(w, in, n, op##_lanes_f64); }

GENERAL(add, 2)
GENERAL(sub, 2)
GENERAL(mul, 2)
GENERAL(div, 2)
GENERAL(fma, 3)
GENERAL(rcp, 1)
GENERAL(sqrt, 1)

/* Conversions with rounding: from integers to floating point. */
#define INT_TO_FLOAT(D, S)                                                              \
	static __attribute__((noinline)) void lanes_##D##_##S(D *d, const S *a) { LANES d[i] = (D)a[i]; } \
	HANDLER(cvtx_##D##_##S)                                                         \
	{                                                                               \
		D *d = OPD(in->d), r[WARP];                                             \
		int old = enter(in->flags);                                             \
		lanes_##D##_##S(r, OPD(in->a));                                         \
		fesetround(old);                                                        \
		for (unsigned int i = 0; i < WARP; i++)                                 \
			if (w->mask >> i & 1)                                           \
				d[i] = in->flags & F_SAT ? r[i] > 0 ? r[i] < 1 ? r[i] : 1 : 0 : r[i]; \
		return in + 1;                                                          \
	}
#define FROM_ALL(D) INT_TO_FLOAT(D, u8_) INT_TO_FLOAT(D, s8_) INT_TO_FLOAT(D, u16) INT_TO_FLOAT(D, s16) \
	INT_TO_FLOAT(D, u32) INT_TO_FLOAT(D, s32) INT_TO_FLOAT(D, u64) INT_TO_FLOAT(D, s64)
typedef u16 u8_;	/* 8-bit values in 16-bit registers, already extended by whoever wrote them */
typedef s16 s8_;
FROM_ALL(f32)
FROM_ALL(f64)

static f64 round_int(f64 v, u32 flags)
{
	return flags & F_RZ ? trunc(v) : flags & F_RM ? floor(v) : flags & F_RP ? ceil(v) : nearbyint(v);
}

static char mode_of(u32 flags)
{
	return flags & F_RZ ? 'z' : flags & F_RM ? 'm' : flags & F_RP ? 'p' : flags & F_RNA ? 'a' : 0;
}

static f64 finish(f64 v, u32 flags)
{
	if (flags & F_SAT)
		v = v > 0 ? v < 1 ? v : 1 : 0;
	if ((flags & F_RELU) && !(v > 0) && v == v)
		v = 0;
	return v;
}

static f32 to_f32(f64 v, u32 flags)
{
	volatile f64 x = finish(v, flags);
	volatile f32 r;
	int old;

	if (flags & F_RINT)
		return (f32)round_int(x, flags);
	old = enter(flags);
	r = (f32)x;
	fesetround(old);
	return f32_nan(flags & F_FTZ ? f32_flush(r) : r);
}

/* Between floating-point formats; IN and OUT say how a lane is read and written. */
#define FLOAT_TO_FLOAT(name, TD, TS, IN, OUT)                                           \
	HANDLER(name)                                                                   \
	{                                                                               \
		TD *d = OPD(in->d);                                                     \
		const TS *a = OPD(in->a);                                               \
		const u32 flags = in->flags;                                            \
		for (u32 m = w->mask; m; m &= m - 1) {                                  \
			unsigned int i = __builtin_ctz(m);                              \
			f64 v = (IN);                                                   \
			d[i] = (OUT);                                                   \
		}                                                                       \
		return in + 1;                                                          \
	}
#define IN32 (flags & F_FTZ ? f32_flush(a[i]) : a[i])
#define SMALL(F) F(flags & F_RINT ? round_int(finish(v, flags), flags) : finish(v, flags), flags & F_RINT ? 0 : mode_of(flags))
#define DOUBLE (finish(flags & F_RINT ? round_int(v, flags) : v, flags))
FLOAT_TO_FLOAT(cvtx_f32_f32, f32, f32, IN32, to_f32(v, flags))
FLOAT_TO_FLOAT(cvtx_f32_f64, f32, f64, a[i], to_f32(v, flags))
FLOAT_TO_FLOAT(cvtx_f32_f16, f32, u16, f16_to_f32(a[i]), to_f32(v, flags))
FLOAT_TO_FLOAT(cvtx_f32_bf16, f32, u16, bf16_to_f32(a[i]), to_f32(v, flags))
FLOAT_TO_FLOAT(cvtx_f64_f64, f64, f64, a[i], DOUBLE)
FLOAT_TO_FLOAT(cvtx_f64_f32, f64, f32, IN32, DOUBLE)
FLOAT_TO_FLOAT(cvtx_f64_f16, f64, u16, f16_to_f32(a[i]), DOUBLE)
FLOAT_TO_FLOAT(cvtx_f64_bf16, f64, u16, bf16_to_f32(a[i]), DOUBLE)
FLOAT_TO_FLOAT(cvtx_f16_f32, u16, f32, IN32, SMALL(f16_from))
FLOAT_TO_FLOAT(cvtx_f16_f64, u16, f64, a[i], SMALL(f16_from))
FLOAT_TO_FLOAT(cvtx_f16_f16, u16, u16, f16_to_f32(a[i]), SMALL(f16_from))
FLOAT_TO_FLOAT(cvtx_bf16_f32, u16, f32, IN32, SMALL(bf16_from))
FLOAT_TO_FLOAT(cvtx_bf16_f64, u16, f64, a[i], SMALL(bf16_from))
FLOAT_TO_FLOAT(cvtx_bf16_bf16, u16, u16, bf16_to_f32(a[i]), SMALL(bf16_from))
FLOAT_TO_FLOAT(cvtx_bf16_f16, u16, u16, f16_to_f32(a[i]), SMALL(bf16_from))
FLOAT_TO_FLOAT(cvtx_f16_bf16, u16, u16, bf16_to_f32(a[i]), SMALL(f16_from))

/* And from integers to the small ones. */
#define INT_TO_SMALL(S, RS)                                                             \
	FLOAT_TO_FLOAT(cvtx_f16_##S, u16, RS, F64_ODD(S, a[i]), SMALL(f16_from))        \
	FLOAT_TO_FLOAT(cvtx_bf16_##S, u16, RS, F64_ODD(S, a[i]), SMALL(bf16_from))
INT_TO_SMALL(u8, u16)
INT_TO_SMALL(s8, s16)
INT_TO_SMALL(u16, u16)
INT_TO_SMALL(s16, s16)
INT_TO_SMALL(u32, u32)
INT_TO_SMALL(s32, s32)
INT_TO_SMALL(u64, u64)
INT_TO_SMALL(s64, s64)

/* Two floats to a packed pair. */
#define PAIR(name, F)                                                                   \
	HANDLER(name)                                                                   \
	{                                                                               \
		u32 *d = OPD(in->d);                                                    \
		const f32 *a = OPD(in->a), *b = OPD(in->b);                             \
		char mode = mode_of(in->flags);                                         \
		for (u32 m = w->mask; m; m &= m - 1) {                                  \
			unsigned int i = __builtin_ctz(m);                              \
			d[i] = (u32)F(finish(a[i], in->flags), mode) << 16 | F(finish(b[i], in->flags), mode); \
		}                                                                       \
		return in + 1;                                                          \
	}
PAIR(cvt_f16x2, f16_from)
PAIR(cvt_bf16x2, bf16_from)

/* Floating point to integer: rounded, then clamped. Not a number: 0, or the top bit with 64 bits on either side. */
#define FLOAT_TO_INT(D, T, LO, HI, HIV, S, TS, IN)                                      \
	HANDLER(cvtx_##D##_##S)                                                         \
	{                                                                               \
		T *d = OPD(in->d);                                                      \
		const TS *a = OPD(in->a);                                               \
		const u32 flags = in->flags;                                            \
		for (u32 m = w->mask; m; m &= m - 1) {                                  \
			unsigned int i = __builtin_ctz(m);                              \
			f64 v = (IN);                                                   \
			bool big = sizeof(T) == 8 || sizeof(TS) == 8;                   \
			if (v != v) {                                                   \
				d[i] = big ? (T)(1ull << (8 * sizeof(T) - 1)) : 0;      \
				continue;                                               \
			}                                                               \
			v = round_int(v, flags);                                        \
			d[i] = v <= (LO) ? (T)(LO) : v >= (HI) ? (T)(HIV) : (T)v;       \
		}                                                                       \
		return in + 1;                                                          \
	}
#define TO_INTS(S, TS, IN)                                                              \
	FLOAT_TO_INT(u8, u16, 0.0, 255.0, 255, S, TS, IN)                               \
	FLOAT_TO_INT(s8, s16, -128.0, 127.0, 127, S, TS, IN)                            \
	FLOAT_TO_INT(u16, u16, 0.0, 65535.0, 65535, S, TS, IN)                          \
	FLOAT_TO_INT(s16, s16, -32768.0, 32767.0, 32767, S, TS, IN)                     \
	FLOAT_TO_INT(u32, u32, 0.0, 4294967295.0, 4294967295u, S, TS, IN)               \
	FLOAT_TO_INT(s32, s32, -2147483648.0, 2147483647.0, 2147483647, S, TS, IN)      \
	FLOAT_TO_INT(u64, u64, 0.0, 0x1p64, ~0ull, S, TS, IN)                           \
	FLOAT_TO_INT(s64, s64, -0x1p63, 0x1p63, INT64_MAX, S, TS, IN)
TO_INTS(f32, f32, IN32)
TO_INTS(f64, f64, a[i])
TO_INTS(f16, u16, f16_to_f32(a[i]))
TO_INTS(bf16, u16, bf16_to_f32(a[i]))

#define G(op) { #op "x.f32", op##x_f32 }, { #op "x.f64", op##x_f64 }
#define X(D, S) { "cvtx." #D "." #S, cvtx_##D##_##S }
#define X_FROM(D) { "cvtx." #D ".u8", cvtx_##D##_u8_ }, { "cvtx." #D ".s8", cvtx_##D##_s8_ }, X(D, u16), X(D, s16), \
	X(D, u32), X(D, s32), X(D, u64), X(D, s64)
#define R(D, S) X(D, S), { "cvt.rzi." #D "." #S, cvtx_##D##_##S }, { "cvt.rni." #D "." #S, cvtx_##D##_##S }
#define R_TO(S) R(u8, S), R(s8, S), R(u16, S), R(s16, S), R(u32, S), R(s32, S), R(u64, S), R(s64, S)

#define S_FROM(D) X(D, u8), X(D, s8), X(D, u16), X(D, s16), X(D, u32), X(D, s32), X(D, u64), X(D, s64)

const struct ptx_op OPS(round)[] = {
	G(add), G(sub), G(mul), G(div), G(fma), G(rcp), G(sqrt), X_FROM(f32), X_FROM(f64), X(f32, f32), X(f32, f64),
	X(f32, f16), X(f32, bf16), X(f64, f64), X(f64, f32), X(f64, f16), X(f64, bf16), X(f16, f32), X(f16, f64),
	X(f16, f16), X(bf16, f32), X(bf16, f64), X(bf16, bf16), X(bf16, f16), X(f16, bf16),
	S_FROM(f16), S_FROM(bf16), R_TO(f32), R_TO(f64), R_TO(f16), R_TO(bf16),
	{ "cvt.f16x2.f32", cvt_f16x2 }, { "cvt.bf16x2.f32", cvt_bf16x2 },
	{ NULL },
};
