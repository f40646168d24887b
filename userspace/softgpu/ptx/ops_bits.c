// SPDX-License-Identifier: Apache-2.0
/* Bits: logic, shifts, fields, permutations, predicates, dot products of bytes. */

#include "lane.h"

#define LOGIC(T, N)                                                                     \
	OP2(and_##N, T, T, T, a[i] & b[i])                                              \
	OP2(or_##N, T, T, T, a[i] | b[i])                                               \
	OP2(xor_##N, T, T, T, a[i] ^ b[i])                                              \
	OP1(not_##N, T, T, (T)~a[i])                                                    \
	OP1(cnot_##N, T, T, a[i] == 0)                                                  \
	OP2(shl_##N, T, T, u32, b[i] < 8 * sizeof(T) ? (T)((u64)a[i] << (b[i] & 63)) : 0) \
	OP2(shr_u_##N, T, T, u32, b[i] < 8 * sizeof(T) ? (T)(a[i] >> (b[i] & (8 * sizeof(T) - 1))) : 0)

LOGIC(u16, b16)
LOGIC(u32, b32)
LOGIC(u64, b64)
OP2(shr_s16, s16, s16, u32, a[i] >> (b[i] < 15 ? b[i] : 15))
OP2(shr_s32, s32, s32, u32, a[i] >> (b[i] < 31 ? b[i] : 31))
OP2(shr_s64, s64, s64, u32, a[i] >> (b[i] < 63 ? b[i] : 63))

static inline u32 shf_l(u32 lo, u32 hi, u32 n)
{
	return (u32)(((u64)hi << 32 | lo) << n >> 32);
}

static inline u32 shf_r(u32 lo, u32 hi, u32 n)
{
	return (u32)(((u64)hi << 32 | lo) >> n);
}

OP3(shf_l_wrap, u32, u32, u32, u32, shf_l(a[i], b[i], c[i] & 31))
OP3(shf_r_wrap, u32, u32, u32, u32, shf_r(a[i], b[i], c[i] & 31))
OP3(shf_l_clamp, u32, u32, u32, u32, shf_l(a[i], b[i], c[i] < 32 ? c[i] : 32))
OP3(shf_r_clamp, u32, u32, u32, u32, shf_r(a[i], b[i], c[i] < 32 ? c[i] : 32))

HANDLER(lop3)
{
	u32 *d = OPD(in->d);
	const u32 *a = OPD(in->a), *b = OPD(in->b), *c = OPD(in->c);
	u32 k[8];

	for (unsigned int n = 0; n < 8; n++)
		k[n] = in->imm >> n & 1 ? ALL_LANES : 0;
	BLEND(u32, (~a[i] & ~b[i] & ~c[i] & k[0]) | (~a[i] & ~b[i] & c[i] & k[1]) | (~a[i] & b[i] & ~c[i] & k[2]) |
		   (~a[i] & b[i] & c[i] & k[3]) | (a[i] & ~b[i] & ~c[i] & k[4]) | (a[i] & ~b[i] & c[i] & k[5]) |
		   (a[i] & b[i] & ~c[i] & k[6]) | (a[i] & b[i] & c[i] & k[7]));
}

OP1(popc_b32, u32, u32, (u32)__builtin_popcount(a[i]))
OP1(popc_b64, u32, u64, (u32)__builtin_popcountll(a[i]))
OP1(clz_b32, u32, u32, a[i] ? (u32)__builtin_clz(a[i]) : 32)
OP1(clz_b64, u32, u64, a[i] ? (u32)__builtin_clzll(a[i]) : 64)

static inline u32 reverse32(u32 v)
{
	v = (v >> 1 & 0x55555555) | (v & 0x55555555) << 1;
	v = (v >> 2 & 0x33333333) | (v & 0x33333333) << 2;
	v = (v >> 4 & 0x0f0f0f0f) | (v & 0x0f0f0f0f) << 4;
	return __builtin_bswap32(v);
}

OP1(brev_b32, u32, u32, reverse32(a[i]))
OP1(brev_b64, u64, u64, (u64)reverse32((u32)a[i]) << 32 | reverse32((u32)(a[i] >> 32)))

static inline u32 bfind_u(u64 v, u32 width, bool shift)
{
	u32 n;

	if (!v)
		return ~0u;
	n = 63 - __builtin_clzll(v);
	return shift ? width - 1 - n : n;
}

OP1(bfind_u32, u32, u32, bfind_u(a[i], 32, false))
OP1(bfind_s32, u32, s32, bfind_u((u32)(a[i] < 0 ? ~a[i] : a[i]), 32, false))
OP1(bfind_u64, u32, u64, bfind_u(a[i], 64, false))
OP1(bfind_s64, u32, s64, bfind_u((u64)(a[i] < 0 ? ~a[i] : a[i]), 64, false))
OP1(bfind_sh_u32, u32, u32, bfind_u(a[i], 32, true))
OP1(bfind_sh_s32, u32, s32, bfind_u((u32)(a[i] < 0 ? ~a[i] : a[i]), 32, true))
OP1(bfind_sh_u64, u32, u64, bfind_u(a[i], 64, true))
OP1(bfind_sh_s64, u32, s64, bfind_u((u64)(a[i] < 0 ? ~a[i] : a[i]), 64, true))

/* Position and length are bytes; the sign bit of a field that begins or ends outside is the value's own. */
static inline u64 extract(u64 v, u32 pos, u32 len, u32 width, bool sign)
{
	u64 field, ones;
	u32 at;

	pos &= 0xff;
	len &= 0xff;
	field = pos < width ? v >> pos : 0;
	ones = len < 64 ? (1ull << len) - 1 : ~0ull;
	at = pos + len - 1 < width - 1 ? pos + len - 1 : width - 1;
	if (!len)
		return 0;
	field &= ones;
	if (sign && (v >> at & 1)) {
		u32 have = pos < width ? width - pos : 0;

		field |= ~(have < len ? (have < 64 ? (1ull << have) - 1 : ~0ull) : ones);
	}
	return field;
}

static inline u64 insert(u64 from, u64 into, u32 pos, u32 len, u32 width)
{
	u64 ones;

	pos &= 0xff;
	len &= 0xff;
	if (pos >= width || !len)
		return into;
	ones = (len < 64 ? (1ull << len) - 1 : ~0ull) << pos;
	return (into & ~ones) | (from << pos & ones);
}

OP3(bfe_u32, u32, u32, u32, u32, (u32)extract(a[i], b[i], c[i], 32, false))
OP3(bfe_s32, u32, u32, u32, u32, (u32)extract(a[i], b[i], c[i], 32, true))
OP3(bfe_u64, u64, u64, u32, u32, extract(a[i], b[i], c[i], 64, false))
OP3(bfe_s64, u64, u64, u32, u32, extract(a[i], b[i], c[i], 64, true))

#define BFI(T, N, W)                                                                    \
	HANDLER(bfi_##N)                                                                \
	{                                                                               \
		T *d = OPD(in->d);                                                      \
		const T *a = OPD(in->a), *b = OPD(in->b);                               \
		const u32 *c = OPD(in->c), *e = OPD(in->e);                             \
		BLEND(T, (T)insert(a[i], b[i], c[i], e[i], W));                         \
	}
BFI(u32, b32, 32)
BFI(u64, b64, 64)

static inline u32 pick_byte(u64 v, u32 sel)
{
	u32 byte = v >> ((sel & 7) * 8) & 0xff;

	return sel & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
}

static inline u32 permute(u32 a, u32 b, u32 s)
{
	u64 v = (u64)b << 32 | a;

	return pick_byte(v, s) | pick_byte(v, s >> 4) << 8 | pick_byte(v, s >> 8) << 16 | pick_byte(v, s >> 12) << 24;
}

/* The named modes are rows of four selectors, indexed by the low bits of c. */
static const u16 mode_f4e[] = { 0x3210, 0x4321, 0x5432, 0x6543 }, mode_b4e[] = { 0x5670, 0x6701, 0x7012, 0x0123 },
		 mode_rc8[] = { 0x0000, 0x1111, 0x2222, 0x3333 }, mode_ecl[] = { 0x3210, 0x3211, 0x3222, 0x3333 },
		 mode_ecr[] = { 0x0000, 0x1110, 0x2210, 0x3210 }, mode_rc16[] = { 0x1010, 0x3232, 0x1010, 0x3232 };

OP3(prmt, u32, u32, u32, u32, permute(a[i], b[i], c[i]))
OP3(prmt_f4e, u32, u32, u32, u32, permute(a[i], b[i], mode_f4e[c[i] & 3]))
OP3(prmt_b4e, u32, u32, u32, u32, permute(a[i], b[i], mode_b4e[c[i] & 3]))
OP3(prmt_rc8, u32, u32, u32, u32, permute(a[i], b[i], mode_rc8[c[i] & 3]))
OP3(prmt_ecl, u32, u32, u32, u32, permute(a[i], b[i], mode_ecl[c[i] & 3]))
OP3(prmt_ecr, u32, u32, u32, u32, permute(a[i], b[i], mode_ecr[c[i] & 3]))
OP3(prmt_rc16, u32, u32, u32, u32, permute(a[i], b[i], mode_rc16[c[i] & 3]))

#define PRED_OP(name, EXPR)                                                             \
	HANDLER(name)                                                                   \
	{                                                                               \
		u32 a = *(u32 *)OPD(in->a), b = *(u32 *)OPD(in->b);                     \
		(void)b;                                                                \
		set_pred(w, in, EXPR);                                                  \
		return in + 1;                                                          \
	}
PRED_OP(mov_pred, a)
PRED_OP(not_pred, ~a)
PRED_OP(and_pred, a & b)
PRED_OP(or_pred, a | b)
PRED_OP(xor_pred, a ^ b)

#define DP4(name, TA, TB)                                                               \
	OP3(name, u32, u32, u32, u32,                                                   \
	    (u32)((s32)(TA)a[i] * (TB)b[i] + (s32)(TA)(a[i] >> 8) * (TB)(b[i] >> 8) +   \
		  (s32)(TA)(a[i] >> 16) * (TB)(b[i] >> 16) + (s32)(TA)(a[i] >> 24) * (TB)(b[i] >> 24)) + c[i])
DP4(dp4a_ss, s8, s8)
DP4(dp4a_su, s8, u8)
DP4(dp4a_us, u8, s8)
DP4(dp4a_uu, u8, u8)

#define DP2(name, TA, TB, SH)                                                           \
	OP3(name, u32, u32, u32, u32,                                                   \
	    (u32)((s64)(TA)a[i] * (TB)(b[i] >> SH) + (s64)(TA)(a[i] >> 16) * (TB)(b[i] >> (SH + 8))) + c[i])
DP2(dp2a_lo_ss, s16, s8, 0)
DP2(dp2a_lo_su, s16, u8, 0)
DP2(dp2a_lo_us, u16, s8, 0)
DP2(dp2a_lo_uu, u16, u8, 0)
DP2(dp2a_hi_ss, s16, s8, 16)
DP2(dp2a_hi_su, s16, u8, 16)
DP2(dp2a_hi_us, u16, s8, 16)
DP2(dp2a_hi_uu, u16, u8, 16)

#define PER_BITS(key, op) { key ".b16", op##_b16 }, { key ".b32", op##_b32 }, { key ".b64", op##_b64 }

const struct ptx_op OPS(bits)[] = {
	PER_BITS("and", and), PER_BITS("or", or), PER_BITS("xor", xor), PER_BITS("not", not), PER_BITS("cnot", cnot),
	PER_BITS("shl", shl), { "shr.u16", shr_u_b16 }, { "shr.u32", shr_u_b32 }, { "shr.u64", shr_u_b64 },
	{ "shr.s16", shr_s16 }, { "shr.s32", shr_s32 }, { "shr.s64", shr_s64 },
	{ "shf.l.wrap", shf_l_wrap }, { "shf.r.wrap", shf_r_wrap }, { "shf.l.clamp", shf_l_clamp },
	{ "shf.r.clamp", shf_r_clamp }, { "lop3.b32", lop3 }, { "popc.b32", popc_b32 }, { "popc.b64", popc_b64 },
	{ "clz.b32", clz_b32 }, { "clz.b64", clz_b64 }, { "brev.b32", brev_b32 }, { "brev.b64", brev_b64 },
	{ "bfind.u32", bfind_u32 }, { "bfind.s32", bfind_s32 }, { "bfind.u64", bfind_u64 }, { "bfind.s64", bfind_s64 },
	{ "bfind.shiftamt.u32", bfind_sh_u32 }, { "bfind.shiftamt.s32", bfind_sh_s32 },
	{ "bfind.shiftamt.u64", bfind_sh_u64 }, { "bfind.shiftamt.s64", bfind_sh_s64 },
	{ "bfe.u32", bfe_u32 }, { "bfe.s32", bfe_s32 }, { "bfe.u64", bfe_u64 }, { "bfe.s64", bfe_s64 },
	{ "bfi.b32", bfi_b32 }, { "bfi.b64", bfi_b64 }, { "prmt.b32", prmt }, { "prmt.f4e", prmt_f4e },
	{ "prmt.b4e", prmt_b4e }, { "prmt.rc8", prmt_rc8 }, { "prmt.ecl", prmt_ecl }, { "prmt.ecr", prmt_ecr },
	{ "prmt.rc16", prmt_rc16 }, { "mov.pred", mov_pred }, { "not.pred", not_pred }, { "and.pred", and_pred },
	{ "or.pred", or_pred }, { "xor.pred", xor_pred },
	{ "dp4a.s.s", dp4a_ss }, { "dp4a.s.u", dp4a_su }, { "dp4a.u.s", dp4a_us }, { "dp4a.u.u", dp4a_uu },
	{ "dp2a.lo.s.s", dp2a_lo_ss }, { "dp2a.lo.s.u", dp2a_lo_su }, { "dp2a.lo.u.s", dp2a_lo_us },
	{ "dp2a.lo.u.u", dp2a_lo_uu }, { "dp2a.hi.s.s", dp2a_hi_ss }, { "dp2a.hi.s.u", dp2a_hi_su },
	{ "dp2a.hi.u.s", dp2a_hi_us }, { "dp2a.hi.u.u", dp2a_hi_uu }, { NULL },
};
