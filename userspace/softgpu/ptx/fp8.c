// SPDX-License-Identifier: Apache-2.0
/* The formats of 8 bits, in pairs, and TF32: conversions only, as on the hardware. */

#include "float.h"
#include "lane.h"

enum { E4M3, E5M2 };

/* The largest finite value stands for all beyond it (.satfinite, which these conversions always have). */
static u8 to_small(f64 v, int format, u32 flags)
{
	u16 r;
	u8 most = format == E4M3 ? 0x7e : 0x7b;

	if (v != v)
		return 0x7f;
	if ((flags & F_RELU) && v < 0)
		v = 0;
	r = format == E4M3 ? small_from(v, 4, -6, 8, 0x7f, 0x7f, 0) : small_from(v, 3, -14, 15, 0x7c, 0x7f, 0);
	return (r >> 8 & 0x80) | ((r & 0x7f) > most ? most : r & 0x7f);
}

static f32 from_small(u8 v, int format)
{
	u32 e = v >> 3 & 15, m = v & 7;
	f32 f;

	if (format == E5M2)
		return f16_to_f32((u16)v << 8);
	if ((v & 0x7f) == 0x7f)
		return f32_from(0x7fffffff);
	f = e ? (f32)(8 + m) * f32_from((e + 127 - 10) << 23) : (f32)m * 0x1p-9f;
	return v & 0x80 ? -f : f;
}

static u16 relu(u16 h, u32 flags)
{
	return (flags & F_RELU) && (h & 0x8000) && (h & 0x7fff) <= 0x7c00 ? 0 : h;
}

#define FORMAT(name, F)                                                                 \
	OP2(name##_f32, u16, f32, f32,                                                  \
	    (u16)(to_small(a[i], F, in->flags) << 8 | to_small(b[i], F, in->flags)))    \
	OP1(name##_f16x2, u16, u32,                                                     \
	    (u16)(to_small(f16_to_f32(a[i] >> 16), F, in->flags) << 8 |                 \
		  to_small(f16_to_f32((u16)a[i]), F, in->flags)))                       \
	OP1(f16x2_##name, u32, u16,                                                     \
	    (u32)relu(f16_from_f32(from_small(a[i] >> 8, F)), in->flags) << 16 |        \
		    relu(f16_from_f32(from_small((u8)a[i], F)), in->flags))
FORMAT(e4m3x2, E4M3)
FORMAT(e5m2x2, E5M2)

static u32 tf32(u32 v, bool away)
{
	if ((v & 0x7f800000) == 0x7f800000)
		return v;
	return (v + (away ? 0x1000 : 0xfff + (v >> 13 & 1))) & ~0x1fffu;
}

OP1(tf32_rna, u32, u32, tf32(a[i], true))
OP1(tf32_rn, u32, u32, tf32(a[i], false))

const struct ptx_op ptx_ops_fp8[] = {
	{ "cvt.e4m3x2.f32", e4m3x2_f32 }, { "cvt.e5m2x2.f32", e5m2x2_f32 }, { "cvt.e4m3x2.f16x2", e4m3x2_f16x2 },
	{ "cvt.e5m2x2.f16x2", e5m2x2_f16x2 }, { "cvt.f16x2.e4m3x2", f16x2_e4m3x2 }, { "cvt.f16x2.e5m2x2", f16x2_e5m2x2 },
	{ "cvt.rna.tf32", tf32_rna }, { "cvt.rn.tf32", tf32_rn }, { NULL },
};
