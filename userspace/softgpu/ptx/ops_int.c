// SPDX-License-Identifier: Apache-2.0
/* Integer arithmetic. */

#include "lane.h"

OP2(add_b16, u16, u16, u16, a[i] + b[i])
OP2(add_b32, u32, u32, u32, a[i] + b[i])
OP2(add_b64, u64, u64, u64, a[i] + b[i])
OP2(sub_b16, u16, u16, u16, a[i] - b[i])
OP2(sub_b32, u32, u32, u32, a[i] - b[i])
OP2(sub_b64, u64, u64, u64, a[i] - b[i])
OP2(mul_lo_b16, u16, u16, u16, (u16)((u32)a[i] * b[i]))
OP2(mul_lo_b32, u32, u32, u32, a[i] * b[i])
OP2(mul_lo_b64, u64, u64, u64, a[i] * b[i])
OP2(mul_hi_u16, u16, u16, u16, (u16)((u32)a[i] * b[i] >> 16))
OP2(mul_hi_s16, s16, s16, s16, (s16)((s32)a[i] * b[i] >> 16))
OP2(mul_hi_u32, u32, u32, u32, (u32)((u64)a[i] * b[i] >> 32))
OP2(mul_hi_s32, s32, s32, s32, (s32)((s64)a[i] * b[i] >> 32))
OP2(mul_hi_u64, u64, u64, u64, (u64)((unsigned __int128)a[i] * b[i] >> 64))
OP2(mul_hi_s64, s64, s64, s64, (s64)((__int128)a[i] * b[i] >> 64))
OP2(mul_wide_u16, u32, u16, u16, (u32)a[i] * b[i])
OP2(mul_wide_s16, s32, s16, s16, (s32)a[i] * b[i])
OP2(mul_wide_u32, u64, u32, u32, (u64)a[i] * b[i])
OP2(mul_wide_s32, s64, s32, s32, (s64)a[i] * b[i])
OP3(mad_lo_b16, u16, u16, u16, u16, (u16)((u32)a[i] * b[i] + c[i]))
OP3(mad_lo_b32, u32, u32, u32, u32, a[i] * b[i] + c[i])
OP3(mad_lo_b64, u64, u64, u64, u64, a[i] * b[i] + c[i])
OP3(mad_hi_u16, u16, u16, u16, u16, (u16)(((u32)a[i] * b[i] >> 16) + c[i]))
OP3(mad_hi_s16, u16, s16, s16, u16, (u16)(((s32)a[i] * b[i] >> 16) + c[i]))
OP3(mad_hi_u32, u32, u32, u32, u32, (u32)((u64)a[i] * b[i] >> 32) + c[i])
OP3(mad_hi_s32, u32, s32, s32, u32, (u32)((s64)a[i] * b[i] >> 32) + c[i])
OP3(mad_hi_u64, u64, u64, u64, u64, (u64)((unsigned __int128)a[i] * b[i] >> 64) + c[i])
OP3(mad_hi_s64, u64, s64, s64, u64, (u64)((__int128)a[i] * b[i] >> 64) + c[i])
OP3(mad_wide_u16, u32, u16, u16, u32, (u32)a[i] * b[i] + c[i])
OP3(mad_wide_s16, u32, s16, s16, u32, (u32)((s32)a[i] * b[i]) + c[i])
OP3(mad_wide_u32, u64, u32, u32, u64, (u64)a[i] * b[i] + c[i])
OP3(mad_wide_s32, u64, s32, s32, u64, (u64)((s64)a[i] * b[i]) + c[i])

static inline s32 low24(u32 v)
{
	return (s32)(v << 8) >> 8;
}

#define U24(v) ((u64)((v) & 0xffffff))
OP2(mul24_lo_u32, u32, u32, u32, (u32)(U24(a[i]) * U24(b[i])))
OP2(mul24_hi_u32, u32, u32, u32, (u32)(U24(a[i]) * U24(b[i]) >> 16))
OP2(mul24_lo_s32, u32, u32, u32, (u32)((s64)low24(a[i]) * low24(b[i])))
OP2(mul24_hi_s32, u32, u32, u32, (u32)((s64)low24(a[i]) * low24(b[i]) >> 16))
OP3(mad24_lo_u32, u32, u32, u32, u32, (u32)(U24(a[i]) * U24(b[i])) + c[i])
OP3(mad24_hi_u32, u32, u32, u32, u32, (u32)(U24(a[i]) * U24(b[i]) >> 16) + c[i])
OP3(mad24_lo_s32, u32, u32, u32, u32, (u32)((s64)low24(a[i]) * low24(b[i])) + c[i])
OP3(mad24_hi_s32, u32, u32, u32, u32, (u32)((s64)low24(a[i]) * low24(b[i]) >> 16) + c[i])

/* Division by zero gives all ones, as on the hardware; the most negative number by -1 gives itself. */
#define DIVISION(T, U)                                                                  \
	static inline T div1_##T(T a, T b)                                              \
	{                                                                               \
		if (b == 0)                                                             \
			return (T)-1;                                                   \
		if ((T)-1 < 0 && b == (T)-1)                                            \
			return (T)(0 - (U)a);                                           \
		return a / b;                                                           \
	}                                                                               \
	static inline T rem1_##T(T a, T b)                                              \
	{                                                                               \
		if (b == 0)                                                             \
			return a;                                                       \
		if ((T)-1 < 0 && b == (T)-1)                                            \
			return 0;                                                       \
		return a % b;                                                           \
	}                                                                               \
	OP2(div_##T, T, T, T, div1_##T(a[i], b[i]))                                     \
	OP2(rem_##T, T, T, T, rem1_##T(a[i], b[i]))                                     \
	OP2(min_##T, T, T, T, a[i] < b[i] ? a[i] : b[i])                                \
	OP2(max_##T, T, T, T, a[i] > b[i] ? a[i] : b[i])                                \
	OP3(sad_##T, U, T, T, U, c[i] + (a[i] < b[i] ? (U)((U)b[i] - (U)a[i]) : (U)((U)a[i] - (U)b[i])))

DIVISION(u16, u16)
DIVISION(s16, u16)
DIVISION(u32, u32)
DIVISION(s32, u32)
DIVISION(u64, u64)
DIVISION(s64, u64)

OP1(neg_s16, u16, u16, (u16)-a[i])
OP1(neg_s32, u32, u32, -a[i])
OP1(neg_s64, u64, u64, -a[i])
OP1(abs_s16, u16, s16, (u16)(a[i] < 0 ? -a[i] : a[i]))
OP1(abs_s32, u32, s32, a[i] < 0 ? 0 - (u32)a[i] : (u32)a[i])
OP1(abs_s64, u64, s64, a[i] < 0 ? 0 - (u64)a[i] : (u64)a[i])

static inline s32 saturate(s64 v)
{
	return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v;
}

OP2(add_sat_s32, s32, s32, s32, saturate((s64)a[i] + b[i]))
OP2(sub_sat_s32, s32, s32, s32, saturate((s64)a[i] - b[i]))

/*
 * Extended precision. w->cc holds the carry of each lane; x is the exact sum or difference in 128 bits. A subtraction
 * is the addition of the complement: its carry is set when nothing was borrowed, and NVIDIA's own division of 128-bit
 * numbers reads it that way with addc.
 */
#define CARRY_OP(name, T, SETS, USES, SUM, OUT)                                         \
	HANDLER(name)                                                                   \
	{                                                                               \
		T *d = OPD(in->d);                                                      \
		const T *a = OPD(in->a), *b = OPD(in->b), *c = OPD(in->c);              \
		u32 cc = w->cc;                                                         \
		(void)c;                                                                \
		for (u32 m = w->mask; m; m &= m - 1) {                                  \
			unsigned int i = __builtin_ctz(m);                              \
			unsigned __int128 cin = (USES) ? cc >> i & 1 : 0, x = (SUM);    \
			(void)cin;                                                      \
			d[i] = (T)x;                                                    \
			if (SETS)                                                       \
				cc = (cc & ~(1u << i)) | (u32)(OUT) << i;               \
		}                                                                       \
		w->cc = cc;                                                             \
		return in + 1;                                                          \
	}
#define W128 unsigned __int128
#define TOP(T) ((x >> (8 * sizeof(T))) & 1)
#define CARRIES(T, S)                                                                   \
	CARRY_OP(add_cc_##T, T, 1, 0, (W128)a[i] + b[i], TOP(T))                        \
	CARRY_OP(addc_##T, T, 0, 1, (W128)a[i] + b[i] + cin, 0)                         \
	CARRY_OP(addc_cc_##T, T, 1, 1, (W128)a[i] + b[i] + cin, TOP(T))                 \
	CARRY_OP(sub_cc_##T, T, 1, 0, (W128)a[i] - b[i], !TOP(T))                        \
	CARRY_OP(subc_##T, T, 0, 1, (W128)a[i] - b[i] - !cin, 0)                         \
	CARRY_OP(subc_cc_##T, T, 1, 1, (W128)a[i] - b[i] - !cin, !TOP(T))                 \
	CARRY_OP(mad_lo_cc_##T, T, 1, 0, (W128)(T)(a[i] * b[i]) + c[i], TOP(T))         \
	CARRY_OP(madc_lo_##T, T, 0, 1, (W128)(T)(a[i] * b[i]) + c[i] + cin, 0)          \
	CARRY_OP(madc_lo_cc_##T, T, 1, 1, (W128)(T)(a[i] * b[i]) + c[i] + cin, TOP(T))
#define HI(T, S) ((W128)(T)(S)((T)(((S)a[i] * (S)b[i]) >> (8 * sizeof(T)))))
#define CARRIES_HI(T, ST, S)                                                            \
	CARRY_OP(mad_hi_cc_##ST, T, 1, 0, HI(T, S) + c[i], TOP(T))                      \
	CARRY_OP(madc_hi_##ST, T, 0, 1, HI(T, S) + c[i] + cin, 0)                       \
	CARRY_OP(madc_hi_cc_##ST, T, 1, 1, HI(T, S) + c[i] + cin, TOP(T))

CARRIES(u32, u64)
CARRIES(u64, W128)
CARRIES_HI(u32, u32, u64)
CARRIES_HI(u64, u64, W128)
#undef HI
#define HI(T, S) ((W128)(T)(((__int128)(S)a[i] * (S)b[i]) >> (8 * sizeof(T))))
CARRIES_HI(u32, s32, s32)
CARRIES_HI(u64, s64, s64)

#define PER_TYPE(op) { #op ".u16", op##_u16 }, { #op ".s16", op##_s16 }, { #op ".u32", op##_u32 }, \
	{ #op ".s32", op##_s32 }, { #op ".u64", op##_u64 }, { #op ".s64", op##_s64 }
#define PER_BITS(key, op) { key ".b16", op##_b16 }, { key ".b32", op##_b32 }, { key ".b64", op##_b64 }
#define CARRY_KEYS(key, op) { key ".b32", op##_u32 }, { key ".b64", op##_u64 }
#define HI_KEYS(key, op) { key ".u32", op##_u32 }, { key ".u64", op##_u64 }, { key ".s32", op##_s32 }, \
	{ key ".s64", op##_s64 }
#define HI_ALL(key, op) { key ".u16", op##_u16 }, { key ".s16", op##_s16 }, HI_KEYS(key, op)
#define WIDE(key, op) { key ".u16", op##_u16 }, { key ".s16", op##_s16 }, { key ".u32", op##_u32 }, { key ".s32", op##_s32 }

const struct ptx_op OPS(int)[] = {
	PER_BITS("add", add), PER_BITS("sub", sub), PER_BITS("mul.lo", mul_lo), PER_BITS("mad.lo", mad_lo),
	HI_ALL("mul.hi", mul_hi), HI_ALL("mad.hi", mad_hi), WIDE("mul.wide", mul_wide), WIDE("mad.wide", mad_wide),
	{ "mul24.lo.u32", mul24_lo_u32 }, { "mul24.hi.u32", mul24_hi_u32 }, { "mul24.lo.s32", mul24_lo_s32 },
	{ "mul24.hi.s32", mul24_hi_s32 }, { "mad24.lo.u32", mad24_lo_u32 }, { "mad24.hi.u32", mad24_hi_u32 },
	{ "mad24.lo.s32", mad24_lo_s32 }, { "mad24.hi.s32", mad24_hi_s32 },
	PER_TYPE(div), PER_TYPE(rem), PER_TYPE(min), PER_TYPE(max), PER_TYPE(sad),
	{ "neg.s16", neg_s16 }, { "neg.s32", neg_s32 }, { "neg.s64", neg_s64 },
	{ "abs.s16", abs_s16 }, { "abs.s32", abs_s32 }, { "abs.s64", abs_s64 },
	{ "add.sat.s32", add_sat_s32 }, { "sub.sat.s32", sub_sat_s32 },
	CARRY_KEYS("add.cc", add_cc), CARRY_KEYS("addc", addc), CARRY_KEYS("addc.cc", addc_cc),
	CARRY_KEYS("sub.cc", sub_cc), CARRY_KEYS("subc", subc), CARRY_KEYS("subc.cc", subc_cc),
	CARRY_KEYS("mad.lo.cc", mad_lo_cc), CARRY_KEYS("madc.lo", madc_lo), CARRY_KEYS("madc.lo.cc", madc_lo_cc),
	HI_KEYS("mad.hi.cc", mad_hi_cc), HI_KEYS("madc.hi", madc_hi), HI_KEYS("madc.hi.cc", madc_hi_cc),
	{ NULL },
};
