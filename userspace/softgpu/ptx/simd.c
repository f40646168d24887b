// SPDX-License-Identifier: Apache-2.0
/* Packed 8- and 16-bit integers in 32-bit registers, bit masks, sign extension from any width. */

#include "lane.h"

/* in->x: 2 or 4 elements; in->flags: signs of d, a, b, saturation, sum into c */
#define V_D 1u
#define V_A 2u
#define V_B 4u
#define V_SAT 8u
#define V_ADD 16u

enum { ADD, SUB, AVRG, ABSDIFF, MIN, MAX };

static s32 element(u32 v, unsigned int k, unsigned int width, bool sign)
{
	u32 x = v << (32 - width * (k + 1));

	return sign ? (s32)x >> (32 - width) : (s32)(x >> (32 - width));
}

static u32 packed(int op, u32 a, u32 b, u32 c, unsigned int n, u32 flags)
{
	unsigned int width = 32 / n;
	u32 r = 0, sum = c;

	for (unsigned int k = 0; k < n; k++) {
		s32 x = element(a, k, width, flags & V_A), y = element(b, k, width, flags & V_B), v;
		s32 lo = flags & V_D ? -(1 << (width - 1)) : 0, hi = flags & V_D ? (1 << (width - 1)) - 1 : (s32)((1u << width) - 1);

		switch (op) {
		case ADD: v = x + y; break;
		case SUB: v = x - y; break;
		case AVRG: v = (x + y + (x + y >= 0)) >> 1; break;
		case ABSDIFF: v = x > y ? x - y : y - x; break;
		case MIN: v = x < y ? x : y; break;
		default: v = x > y ? x : y;
		}
		if (flags & V_SAT)
			v = v < lo ? lo : v > hi ? hi : v;
		sum += (u32)v;
		r |= ((u32)v & (u32)((1ull << width) - 1)) << width * k;
	}
	return flags & V_ADD ? sum : r;
}

#define PACKED(name, OP) OP3(name, u32, u32, u32, u32, packed(OP, a[i], b[i], c[i], in->x, in->flags))
PACKED(vadd, ADD)
PACKED(vsub, SUB)
PACKED(vavrg, AVRG)
PACKED(vabsdiff, ABSDIFF)
PACKED(vmin, MIN)
PACKED(vmax, MAX)

/*
 * The scalar forms: 33 bits of result, brought to the type of d, then a second operation with c.
 * in->flags as above, in->x: the second operation
 */
enum { V_NONE, V_PLUS, V_MIN, V_MAX };
#define V_CLAMP 32u

enum { SHL = MAX + 1, SHR };

static u32 video(int op, u32 a, u32 b, u32 c, u32 flags, u32 second)
{
	s64 x = flags & V_A ? (s64)(s32)a : (s64)a, y = flags & V_B ? (s64)(s32)b : (s64)b, v, z;
	s64 lo = flags & V_D ? -0x80000000ll : 0, hi = flags & V_D ? 0x7fffffffll : 0xffffffffll;
	u32 n = flags & V_CLAMP ? b > 32 ? 32 : b : b & 31;

	switch (op) {
	case ADD: v = x + y; break;
	case SUB: v = x - y; break;
	case ABSDIFF: v = x > y ? x - y : y - x; break;
	case MIN: v = x < y ? x : y; break;
	case MAX: v = x > y ? x : y; break;
	case SHL: v = (s64)((u64)x << n); break;
	default: v = x >> n;
	}
	if (flags & V_SAT)
		v = v < lo ? lo : v > hi ? hi : v;
	v = flags & V_D ? (s64)(s32)v : (s64)(u32)v;
	z = flags & V_D ? (s64)(s32)c : (s64)c;
	switch (second) {
	case V_PLUS: return (u32)(v + z);
	case V_MIN: return (u32)(v < z ? v : z);
	case V_MAX: return (u32)(v > z ? v : z);
	default: return (u32)v;
	}
}

#define VIDEO(name, OP) OP3(name, u32, u32, u32, u32, video(OP, a[i], b[i], c[i], in->flags, in->x))
VIDEO(video_add, ADD)
VIDEO(video_sub, SUB)
VIDEO(video_absdiff, ABSDIFF)
VIDEO(video_min, MIN)
VIDEO(video_max, MAX)
VIDEO(video_shl, SHL)
VIDEO(video_shr, SHR)

OP2(add_x2, u32, u32, u32, packed(ADD, a[i], b[i], 0, 2, 0))
OP2(sub_x2, u32, u32, u32, packed(SUB, a[i], b[i], 0, 2, 0))
OP2(min_s16x2, u32, u32, u32, packed(MIN, a[i], b[i], 0, 2, V_A | V_B))
OP2(max_s16x2, u32, u32, u32, packed(MAX, a[i], b[i], 0, 2, V_A | V_B))
OP2(min_u16x2, u32, u32, u32, packed(MIN, a[i], b[i], 0, 2, 0))
OP2(max_u16x2, u32, u32, u32, packed(MAX, a[i], b[i], 0, 2, 0))

static u32 mask_of(u32 pos, u32 len, bool clamp)
{
	if (!clamp) {
		pos &= 31;
		len &= 31;
	}
	if (pos >= 32 || !len)
		return 0;
	return (len >= 32 ? ~0u : (1u << len) - 1) << pos;
}

OP2(bmsk_clamp, u32, u32, u32, mask_of(a[i], b[i], true))
OP2(bmsk_wrap, u32, u32, u32, mask_of(a[i], b[i], false))

static u32 extend(u32 v, u32 n, bool clamp, bool sign)
{
	n = clamp ? n < 32 ? n : 32 : n & 31;
	if (!n)
		return 0;
	return sign ? (u32)((s32)(v << (32 - n)) >> (32 - n)) : v << (32 - n) >> (32 - n);
}

OP2(szext_clamp_u32, u32, u32, u32, extend(a[i], b[i], true, false))
OP2(szext_clamp_s32, u32, u32, u32, extend(a[i], b[i], true, true))
OP2(szext_wrap_u32, u32, u32, u32, extend(a[i], b[i], false, false))
OP2(szext_wrap_s32, u32, u32, u32, extend(a[i], b[i], false, true))

const struct ptx_op ptx_ops_simd[] = {
	{ "vadd", vadd }, { "vsub", vsub }, { "vavrg", vavrg }, { "vabsdiff", vabsdiff }, { "vmin", vmin }, { "vmax", vmax },
	{ "video.vadd", video_add }, { "video.vsub", video_sub }, { "video.vabsdiff", video_absdiff },
	{ "video.vmin", video_min }, { "video.vmax", video_max }, { "video.vshl", video_shl }, { "video.vshr", video_shr },
	{ "add.s16x2", add_x2 }, { "add.u16x2", add_x2 }, { "sub.s16x2", sub_x2 }, { "sub.u16x2", sub_x2 },
	{ "min.s16x2", min_s16x2 }, { "max.s16x2", max_s16x2 }, { "min.u16x2", min_u16x2 }, { "max.u16x2", max_u16x2 },
	{ "bmsk.clamp", bmsk_clamp }, { "bmsk.wrap", bmsk_wrap }, { "szext.clamp.u32", szext_clamp_u32 },
	{ "szext.clamp.s32", szext_clamp_s32 }, { "szext.wrap.u32", szext_wrap_u32 },
	{ "szext.wrap.s32", szext_wrap_s32 }, { NULL },
};
