// SPDX-License-Identifier: Apache-2.0
/* Conversions without rare modifiers. An 8-bit value lies in a 16-bit register, of which only the low half counts. */

#include "float.h"
#include "lane.h"

/* name of the type, register, value type */
#define I2I(D, RD, S, RS) OP1(cvt_##D##_##S, RD, RS, (RD)(D)(S)a[i])
#define TO_ALL(S, RS)                                                                   \
	I2I(u8, u16, S, RS) I2I(s8, s16, S, RS) I2I(u16, u16, S, RS) I2I(s16, s16, S, RS) \
	I2I(u32, u32, S, RS) I2I(s32, s32, S, RS) I2I(u64, u64, S, RS) I2I(s64, s64, S, RS) \
	OP1(cvt_f32_##S, f32, RS, (f32)(S)a[i])                                         \
	OP1(cvt_f64_##S, f64, RS, (f64)(S)a[i])                                         \
	OP1(cvt_f16_##S, u16, RS, f16_from((f64)(S)a[i], 0))                            \
	OP1(cvt_bf16_##S, u16, RS, bf16_from(F64_ODD(S, a[i]), 0))

TO_ALL(u8, u16)
TO_ALL(s8, s16)
TO_ALL(u16, u16)
TO_ALL(s16, s16)
TO_ALL(u32, u32)
TO_ALL(s32, s32)
TO_ALL(u64, u64)
TO_ALL(s64, s64)

/* .sat between integers */
static inline s64 clamp(s64 v, s64 lo, s64 hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

#define SAT_S(D, RD, LO, HI, S, RS) OP1(sat_##D##_##S, RD, RS, (RD)clamp((S)a[i], LO, HI))
#define SAT_U(D, RD, LO, HI, S, RS)                                                     \
	OP1(sat_##D##_##S, RD, RS, (u64)(S)a[i] > (u64)(HI) ? (RD)(HI) : (RD)(S)a[i])
#define SAT_FROM(M, S, RS)                                                              \
	M(u8, u16, 0, 255, S, RS) M(s8, s16, -128, 127, S, RS) M(u16, u16, 0, 65535, S, RS) \
	M(s16, s16, -32768, 32767, S, RS) M(u32, u32, 0, 4294967295ll, S, RS)           \
	M(s32, s32, -2147483648ll, 2147483647ll, S, RS) M(s64, s64, INT64_MIN, INT64_MAX, S, RS)
SAT_FROM(SAT_S, s8, s16)
SAT_FROM(SAT_S, s16, s16)
SAT_FROM(SAT_S, s32, s32)
SAT_FROM(SAT_S, s64, s64)
SAT_FROM(SAT_U, u8, u16)
SAT_FROM(SAT_U, u16, u16)
SAT_FROM(SAT_U, u32, u32)
SAT_FROM(SAT_U, u64, u64)
#define SAT_U64(S, RS) OP1(sat_u64_##S, u64, RS, (s64)(S)a[i] < 0 ? 0 : (u64)(S)a[i])
SAT_U64(s8, s16) SAT_U64(s16, s16) SAT_U64(s32, s32) SAT_U64(s64, s64)

/* To integer with truncation or to nearest: the frequent ones. */
static inline s32 to_s32(f32 v)
{
	s32 r = (s32)(v < -0x1p31f ? -0x1p31f : v > 0x1.fffffep30f ? 0 : v);

	r = v >= 0x1p31f ? INT32_MAX : r;
	return v == v ? r : 0;
}

static inline f32 nearest32(f32 v)
{
	f32 m = f32_from((f32_bits(v) & 0x80000000) | 0x4b000000), r = (v + m) - m;

	return f32_from(f32_bits(v) & 0x7fffffff) < 0x1p23f ? r : v;
}

OP1(rzi_s32_f32, s32, f32, to_s32(a[i]))
OP1(rni_s32_f32, s32, f32, to_s32(nearest32(a[i])))
OP1(rzi_u32_f32, u32, f32, a[i] > 0 ? a[i] >= 0x1p32f ? 0xffffffffu : (u32)(s64)a[i] : 0)

OP1(f64_f32, f64, f32, (f64)a[i])
OP1(f32_f64, f32, f64, f32_nan((f32)a[i]))
OP1(f32_f32, f32, f32, a[i])
OP1(f64_f64, f64, f64, a[i])
OP1(f32_f16, f32, u16, f16_to_f32(a[i]))
OP1(f64_f16, f64, u16, (f64)f16_to_f32(a[i]))
OP1(f16_f32, u16, f32, f16_from_f32(a[i]))
OP1(f16_f16, u16, u16, a[i])
OP1(f32_bf16, f32, u16, bf16_to_f32(a[i]))
OP1(f64_bf16, f64, u16, (f64)bf16_to_f32(a[i]))
OP1(bf16_f32, u16, f32, bf16_from_f32(a[i]))
OP1(f16_f64, u16, f64, f16_from(a[i], 0))
OP1(bf16_f64, u16, f64, bf16_from(a[i], 0))
OP1(bf16_f16, u16, u16, bf16_from_f32(f16_to_f32(a[i])))
OP1(f16_bf16, u16, u16, f16_from_f32(bf16_to_f32(a[i])))

#define C(D, S) { "cvt." #D "." #S, cvt_##D##_##S }
#define C_ALL(S) C(u8, S), C(s8, S), C(u16, S), C(s16, S), C(u32, S), C(s32, S), C(u64, S), C(s64, S), C(f32, S), C(f64, S), \
	C(f16, S), C(bf16, S)
#define T(D, S) { "cvt.sat." #D "." #S, sat_##D##_##S }
#define T_ALL(S) T(u8, S), T(s8, S), T(u16, S), T(s16, S), T(u32, S), T(s32, S), T(s64, S)
#define F(D, S) { "cvt." #D "." #S, D##_##S }

/* In front of the table of ops_round.c, so that these are found first. */
const struct ptx_op OPS(cvt)[] = {
	C_ALL(u8), C_ALL(s8), C_ALL(u16), C_ALL(s16), C_ALL(u32), C_ALL(s32), C_ALL(u64), C_ALL(s64), T_ALL(u8), T_ALL(s8),
	T_ALL(u16), T_ALL(s16), T_ALL(u32), T_ALL(s32), T_ALL(u64), T_ALL(s64), T(u64, s8), T(u64, s16), T(u64, s32),
	T(u64, s64), { "cvt.rzi.s32.f32", rzi_s32_f32 }, { "cvt.rni.s32.f32", rni_s32_f32 },
	{ "cvt.rzi.u32.f32", rzi_u32_f32 }, F(f64, f32), F(f32, f64), F(f32, f32), F(f64, f64), F(f32, f16), F(f64, f16),
	F(f16, f32), F(f16, f16), F(f32, bf16), F(f64, bf16), F(bf16, f32), F(f16, f64), F(bf16, f64), F(bf16, f16),
	F(f16, bf16), { NULL },
};
