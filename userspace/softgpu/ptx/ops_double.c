// SPDX-License-Identifier: Apache-2.0
/* 64-bit floating point, and 16-bit formats, which are computed in wider ones and rounded once. */

#include "float.h"
#include "lane.h"

OP2(add_f64, f64, f64, f64, a[i] + b[i])
OP2(sub_f64, f64, f64, f64, a[i] - b[i])
OP2(mul_f64, f64, f64, f64, a[i] * b[i])
OP2(div_f64, f64, f64, f64, a[i] / b[i])
OP3(fma_f64, f64, f64, f64, f64, __builtin_fma(a[i], b[i], c[i]))
OP1(rcp_f64, f64, f64, 1.0 / a[i])
OP1(sqrt_f64, f64, f64, __builtin_sqrt(a[i]))
OP1(rsqrt_f64, f64, f64, 1.0 / __builtin_sqrt(a[i]))
OP1(abs_f64, u64, u64, a[i] & ~(1ull << 63))
OP1(neg_f64, u64, u64, a[i] ^ 1ull << 63)
OP2(copysign_f64, u64, u64, u64, (a[i] & 1ull << 63) | (b[i] & ~(1ull << 63)))

static inline f64 min1(f64 a, f64 b)
{
	f64 r = a < b ? a : b;

	r = a == b ? f64_from(f64_bits(a) | f64_bits(b)) : r;
	r = a != a ? b : r;
	return b != b ? a : r;
}

static inline f64 max1(f64 a, f64 b)
{
	f64 r = a > b ? a : b;

	r = a == b ? f64_from(f64_bits(a) & f64_bits(b)) : r;
	r = a != a ? b : r;
	return b != b ? a : r;
}

OP2(min_f64, f64, f64, f64, min1(a[i], b[i]))
OP2(max_f64, f64, f64, f64, max1(a[i], b[i]))

static inline f64 half_in(u16 h, bool bf)
{
	return bf ? bf16_to_f32(h) : f16_to_f32(h);
}

static inline u16 half_out(f64 v, bool bf, u32 flags)
{
	if (flags & F_SAT)
		v = v > 0 ? v < 1 ? v : 1 : 0;	/* no number becomes 0 */
	if ((flags & F_RELU) && v < 0)
		v = 0;
	return bf ? bf16_from(v, 0) : f16_from(v, 0);
}

static inline u16 half_flush(u16 h, u32 flags)
{
	return (flags & F_FTZ) && !(h & 0x7c00) ? h & 0x8000 : h;
}

/* a + b, rounded to odd: rounded once more, to 16 bits, it is as if it were exact. */
static inline f64 sum_odd(f64 a, f64 b)
{
	f64 s = a + b, t = s - a, rest = (a - (s - t)) + (b - t);
	u64 bits = f64_bits(s);

	/* what is no number has no rest that compares */
	if ((rest < 0 || rest > 0) && !(bits & 1))
		s = f64_from((rest > 0) == (s > 0) ? bits + 1 : bits - 1);
	return s;
}

enum { ADD, SUB, MUL, FMA, MIN, MAX, EX2, TANH };

static u16 half_op(int op, u16 x, u16 y, u16 z, bool bf, u32 flags)
{
	f64 a, b, c, r;

	if (!bf) {
		x = half_flush(x, flags);
		y = half_flush(y, flags);
		z = half_flush(z, flags);
	}
	a = half_in(x, bf);
	b = half_in(y, bf);
	c = half_in(z, bf);
	switch (op) {
	case ADD: r = a + b; break;
	case SUB: r = a - b; break;
	case MUL: r = a * b; break;
	case FMA: r = sum_odd(a * b, c); break;	/* the product is exact */
	case EX2: r = exp2(a); break;
	case TANH: r = tanh(a); break;
	default:
		if ((flags & F_NANP) && (a != a || b != b))
			return 0x7fff;
		if (flags & F_ABS) {
			r = op == MIN ? min1(fabs(a), fabs(b)) : max1(fabs(a), fabs(b));
			return half_out((x ^ y) & 0x8000 ? -r : r, bf, 0);
		}
		r = op == MIN ? min1(a, b) : max1(a, b);
	}
	return half_flush(half_out(r, bf, flags), bf ? 0 : flags);
}

static inline u32 pair_op(int op, u32 x, u32 y, u32 z, bool bf, u32 flags)
{
	return half_op(op, x, y, z, bf, flags) | (u32)half_op(op, x >> 16, y >> 16, z >> 16, bf, flags) << 16;
}

/* These are long: one lane at a time, and only lanes that are active. */
#define HALF(name, T, F, OP, BF, B, C)                                                  \
	HANDLER(name)                                                                   \
	{                                                                               \
		T *d = OPD(in->d);                                                      \
		const T *a = OPD(in->a), *b = OPD(in->b), *c = OPD(in->c);              \
		(void)b;                                                                \
		(void)c;                                                                \
		for (u32 m = w->mask; m; m &= m - 1) {                                  \
			unsigned int i = __builtin_ctz(m);                              \
			d[i] = F(OP, a[i], B, C, BF, in->flags);                        \
		}                                                                       \
		return in + 1;                                                          \
	}
#define HALVES(name, OP, B, C)                                                          \
	HALF(name##_f16, u16, half_op, OP, false, B, C)                                 \
	HALF(name##_bf16, u16, half_op, OP, true, B, C)                                 \
	HALF(name##_f16x2, u32, pair_op, OP, false, B, C)                               \
	HALF(name##_bf16x2, u32, pair_op, OP, true, B, C)

HALVES(add, ADD, b[i], 0)
HALVES(sub, SUB, b[i], 0)
HALVES(mul, MUL, b[i], 0)
HALVES(fma, FMA, b[i], c[i])
HALVES(min, MIN, b[i], 0)
HALVES(max, MAX, b[i], 0)
HALVES(ex2, EX2, 0, 0)
HALVES(tanh, TANH, 0, 0)
OP1(abs_f16, u16, u16, a[i] & 0x7fff)
OP1(neg_f16, u16, u16, a[i] ^ 0x8000)
OP1(abs_f16x2, u32, u32, a[i] & 0x7fff7fff)
OP1(neg_f16x2, u32, u32, a[i] ^ 0x80008000)

OP1(f16_lo, f32, u32, f16_to_f32((u16)a[i]))
OP1(f16_hi, f32, u32, f16_to_f32(a[i] >> 16))
OP1(bf16_lo, f32, u32, bf16_to_f32((u16)a[i]))
OP1(bf16_hi, f32, u32, bf16_to_f32(a[i] >> 16))

#define ALL_HALVES(op) { #op ".f16", op##_f16 }, { #op ".bf16", op##_bf16 }, { #op ".f16x2", op##_f16x2 }, \
	{ #op ".bf16x2", op##_bf16x2 }

const struct ptx_op OPS(double)[] = {
	{ "add.f64", add_f64 }, { "sub.f64", sub_f64 }, { "mul.f64", mul_f64 }, { "div.f64", div_f64 },
	{ "fma.f64", fma_f64 }, { "rcp.f64", rcp_f64 }, { "sqrt.f64", sqrt_f64 }, { "rsqrt.f64", rsqrt_f64 },
	{ "abs.f64", abs_f64 }, { "neg.f64", neg_f64 }, { "min.f64", min_f64 }, { "max.f64", max_f64 },
	{ "copysign.f64", copysign_f64 }, ALL_HALVES(add), ALL_HALVES(sub), ALL_HALVES(mul), ALL_HALVES(fma),
	ALL_HALVES(min), ALL_HALVES(max), ALL_HALVES(ex2), ALL_HALVES(tanh),
	{ "abs.f16", abs_f16 }, { "neg.f16", neg_f16 }, { "abs.f16x2", abs_f16x2 }, { "neg.f16x2", neg_f16x2 },
	{ "abs.bf16", abs_f16 }, { "neg.bf16", neg_f16 }, { "abs.bf16x2", abs_f16x2 }, { "neg.bf16x2", neg_f16x2 },
	{ "cvt.f32.f16x2.lo", f16_lo }, { "cvt.f32.f16x2.hi", f16_hi }, { "cvt.f32.bf16x2.lo", bf16_lo },
	{ "cvt.f32.bf16x2.hi", bf16_hi }, { NULL },
};
