// SPDX-License-Identifier: Apache-2.0
/* 32-bit floating point, rounded to nearest; ops_round.c has the other roundings and modifiers. */

#include "float.h"
#include "lane.h"

#define N(x) f32_nan(x)
#define Z(x) f32_flush(x)

#define BOTH2(op, EXPR, FEXPR)                                                          \
	OP2(op##_f32, f32, f32, f32, N(EXPR))                                           \
	OP2(op##_ftz_f32, f32, f32, f32, Z(N(FEXPR)))

BOTH2(add, a[i] + b[i], Z(a[i]) + Z(b[i]))
BOTH2(sub, a[i] - b[i], Z(a[i]) - Z(b[i]))
BOTH2(mul, a[i] * b[i], Z(a[i]) * Z(b[i]))
BOTH2(div, a[i] / b[i], Z(a[i]) / Z(b[i]))

#ifdef __FMA__
#define FMA(x, y, z) __builtin_fmaf(x, y, z)
#else
/*
 * Without the instruction: the product of two floats is exact in double, and rounding the sum to odd first makes the
 * second rounding harmless. The error of the sum (TwoSum) tells if it was inexact.
 */
static inline float soft_fma(float x, float y, float z)
{
	double p = (double)x * y, c = z, s = p + c, t = s - p, err = (p - (s - t)) + (c - t);
	uint64_t u = f64_bits(s);
	uint64_t fix = !(u & 1) & (err != 0) & ((u & 0x7ff0000000000000ull) != 0x7ff0000000000000ull);
	int64_t toward = ((err > 0) == !(u >> 63)) ? 1 : -1;

	return (float)f64_from(fix ? u + (uint64_t)toward : u);
}
#define FMA(x, y, z) soft_fma(x, y, z)
#endif

OP3(fma_f32, f32, f32, f32, f32, N(FMA(a[i], b[i], c[i])))
OP3(fma_ftz_f32, f32, f32, f32, f32, Z(N(FMA(Z(a[i]), Z(b[i]), Z(c[i])))))

/* Pairs of floats in 64-bit registers. */
#define PAIRED(name, EXPR)                                                              \
	HANDLER(name##_f32x2)                                                           \
	{                                                                               \
		const f32 *a = OPD(in->a), *b = OPD(in->b), *c = OPD(in->c);            \
		const bool ftz = in->flags & F_FTZ;                                     \
		f32 *d = OPD(in->d);                                                    \
		(void)c;                                                                \
		for (unsigned int k = 0; k < 2 * WARP; k++) {                           \
			f32 x = ftz ? Z(a[k]) : a[k], y = ftz ? Z(b[k]) : b[k];         \
			f32 r = (EXPR);                                                 \
			if (w->lm[k / 2])                                               \
				d[k] = ftz ? Z(N(r)) : N(r);                            \
		}                                                                       \
		return in + 1;                                                          \
	}
PAIRED(add, x + y)
PAIRED(sub, x - y)
PAIRED(mul, x * y)
PAIRED(fma, FMA(x, y, ftz ? Z(c[k]) : c[k]))

/* The one that is a number wins; -0 is less than +0. */
static inline float min1(float a, float b)
{
	float r = a < b ? a : b;

	r = a == b ? f32_from(f32_bits(a) | f32_bits(b)) : r;
	r = a != a ? b : r;
	return b != b ? N(a) : r;
}

static inline float max1(float a, float b)
{
	float r = a > b ? a : b;

	r = a == b ? f32_from(f32_bits(a) & f32_bits(b)) : r;
	r = a != a ? b : r;
	return b != b ? N(a) : r;
}

OP2(min_f32, f32, f32, f32, min1(a[i], b[i]))
OP2(max_f32, f32, f32, f32, max1(a[i], b[i]))

static inline float minmax(float a, float b, u32 flags, bool max)
{
	u32 sign = (f32_bits(a) ^ f32_bits(b)) & 0x80000000;
	float r;

	if (flags & F_FTZ) {
		a = Z(a);
		b = Z(b);
	}
	if ((flags & F_NANP) && (a != a || b != b))
		return f32_from(0x7fffffff);
	if (flags & F_ABS) {
		a = fabsf(a);
		b = fabsf(b);
	}
	r = max ? max1(a, b) : min1(a, b);
	return flags & F_XORSIGN && r == r ? f32_from(f32_bits(r) | sign) : r;
}

OP2(minx_f32, f32, f32, f32, minmax(a[i], b[i], in->flags, false))
OP2(maxx_f32, f32, f32, f32, minmax(a[i], b[i], in->flags, true))

OP1(abs_f32, u32, u32, a[i] & 0x7fffffff)
OP1(neg_f32, u32, u32, a[i] ^ 0x80000000)
OP1(abs_ftz_f32, f32, f32, f32_from(f32_bits(Z(a[i])) & 0x7fffffff))
OP1(neg_ftz_f32, f32, f32, f32_from(f32_bits(Z(a[i])) ^ 0x80000000))
OP1(ftz_f32, f32, f32, Z(a[i]))
OP2(copysign_f32, u32, u32, u32, (a[i] & 0x80000000) | (b[i] & 0x7fffffff))

/*
 * 2 to the x: the integer part goes into the exponent, in two steps so that subnormal results come out, and a
 * polynomial (Taylor in f ln 2, |f| <= 1/2) makes the rest. Good to a unit or two in the last place, as the hardware.
 */
static inline float exp2_1(float x)
{
	float n, f, p;
	s32 k, k1;

	x = x < -160.0f ? -160.0f : x;	/* a comparison with no number is false: it passes */
	x = x > 130.0f ? 130.0f : x;
	n = (x + 0x1.8p23f) - 0x1.8p23f;
	f = (x - n) * 0x1.62e43p-1f + (x - n) * -0x1.05c61p-29f;
	p = 1.0f / 5040;
	p = p * f + 1.0f / 720;
	p = p * f + 1.0f / 120;
	p = p * f + 1.0f / 24;
	p = p * f + 1.0f / 6;
	p = p * f + 0.5f;
	p = p * f * f + f;
	p = 1.0f + p;
	k = n == n ? (s32)n : 0;
	k1 = k >> 1;
	p *= f32_from((u32)(k1 + 127) << 23);
	return p * f32_from((u32)(k - k1 + 127) << 23);
}

/* Base-2 logarithm, in double so that it holds near 1; subnormal arguments are ordinary doubles. */
static inline float log2_1(float x)
{
	u64 u = f64_bits((f64)x);
	s32 e = (s32)(u >> 52) - 1023;
	f64 m = f64_from((u & 0xfffffffffffffull) | 0x3ff0000000000000ull), s, z, r;

	e += m > 1.4142135623730951;
	m = m > 1.4142135623730951 ? m * 0.5 : m;
	s = (m - 1) / (m + 1);
	z = s * s;
	r = 1.0 / 13;
	r = r * z + 1.0 / 11;
	r = r * z + 1.0 / 9;
	r = r * z + 1.0 / 7;
	r = r * z + 1.0 / 5;
	r = r * z + 1.0 / 3;
	r = r * z + 1;
	r = e + r * s * 2.8853900817779268;
	r = x == 0 ? -INFINITY : r;
	r = x == INFINITY ? INFINITY : r;
	return x < 0 || x != x ? f32_from(0x7fffffff) : (f32)r;
}

/* Each exists with .ftz, flushing before and after. */
#define UNARY(op, F)                                                                    \
	OP1(op##_f32, f32, f32, N(F(a[i])))                                             \
	OP1(op##_ftz_f32, f32, f32, Z(N(F(Z(a[i])))))

#define RCP(x) (1.0f / (x))
#define RSQRT(x) ((f32)(1.0 / __builtin_sqrt((f64)(x))))

UNARY(rcp, RCP)
UNARY(sqrt, __builtin_sqrtf)
UNARY(rsqrt, RSQRT)
UNARY(sin, sinf)
UNARY(cos, cosf)
UNARY(tanh, tanhf)
UNARY(ex2, exp2_1)
UNARY(lg2, log2_1)

#define EXPONENT(v) ((v) & 0x7f800000)
#define MANTISSA(v) ((v) & 0x7fffff)
#define TESTS(T, E, M, ALL)                                                             \
	PRED1(finite_##T, T, E(a[i]) != ALL)                                            \
	PRED1(infinite_##T, T, E(a[i]) == ALL && !M(a[i]))                              \
	PRED1(number_##T, T, !(E(a[i]) == ALL && M(a[i])))                              \
	PRED1(notanumber_##T, T, E(a[i]) == ALL && M(a[i]))                             \
	PRED1(normal_##T, T, E(a[i]) != ALL && E(a[i]))                                 \
	PRED1(subnormal_##T, T, !E(a[i]) && M(a[i]))
TESTS(u32, EXPONENT, MANTISSA, 0x7f800000)
#define EXPONENT64(v) ((v) & 0x7ff0000000000000ull)
#define MANTISSA64(v) ((v) & 0xfffffffffffffull)
TESTS(u64, EXPONENT64, MANTISSA64, 0x7ff0000000000000ull)

#define FTZ_PAIR(op) { #op ".f32", op##_f32 }, { #op ".ftz.f32", op##_ftz_f32 }
#define TEST_KEYS(T, N) { "testp.finite." N, finite_##T }, { "testp.infinite." N, infinite_##T }, \
	{ "testp.number." N, number_##T }, { "testp.notanumber." N, notanumber_##T }, \
	{ "testp.normal." N, normal_##T }, { "testp.subnormal." N, subnormal_##T }

const struct ptx_op OPS(float)[] = {
	FTZ_PAIR(add), FTZ_PAIR(sub), FTZ_PAIR(mul), FTZ_PAIR(div), FTZ_PAIR(fma), FTZ_PAIR(abs), FTZ_PAIR(neg),
	FTZ_PAIR(rcp), FTZ_PAIR(sqrt), FTZ_PAIR(rsqrt), FTZ_PAIR(sin), FTZ_PAIR(cos), FTZ_PAIR(tanh), FTZ_PAIR(ex2),
	FTZ_PAIR(lg2), { "min.f32", min_f32 }, { "max.f32", max_f32 }, { "minx.f32", minx_f32 },
	{ "maxx.f32", maxx_f32 }, { "ftz.f32", ftz_f32 }, { "copysign.f32", copysign_f32 },
	{ "add.f32x2", add_f32x2 }, { "sub.f32x2", sub_f32x2 }, { "mul.f32x2", mul_f32x2 }, { "fma.f32x2", fma_f32x2 },
	TEST_KEYS(u32, "f32"), TEST_KEYS(u64, "f64"), { NULL },
};
