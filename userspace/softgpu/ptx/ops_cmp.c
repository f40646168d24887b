// SPDX-License-Identifier: Apache-2.0
/* Comparisons, selection, moves, packing. */

#include "lane.h"
#include "mem.h"

#define ORDERED(T)                                                                      \
	PRED2(lt_##T, T, a[i] < b[i])                                                   \
	PRED2(le_##T, T, a[i] <= b[i])                                                  \
	PRED2(gt_##T, T, a[i] > b[i])                                                   \
	PRED2(ge_##T, T, a[i] >= b[i])
#define EQUAL(T)                                                                        \
	PRED2(eq_##T, T, a[i] == b[i])                                                  \
	PRED2(ne_##T, T, a[i] != b[i])

ORDERED(u16) ORDERED(s16) ORDERED(u32) ORDERED(s32) ORDERED(u64) ORDERED(s64)
EQUAL(u16) EQUAL(u32) EQUAL(u64)

#define FLOATS(T)                                                                       \
	ORDERED(T)                                                                      \
	PRED2(eq_##T, T, a[i] == b[i])                                                  \
	PRED2(ne_##T, T, (a[i] < b[i]) | (a[i] > b[i]))                                 \
	PRED2(equ_##T, T, !((a[i] < b[i]) | (a[i] > b[i])))                             \
	PRED2(neu_##T, T, !(a[i] == b[i]))                                              \
	PRED2(ltu_##T, T, !(a[i] >= b[i]))                                              \
	PRED2(leu_##T, T, !(a[i] > b[i]))                                               \
	PRED2(gtu_##T, T, !(a[i] <= b[i]))                                              \
	PRED2(geu_##T, T, !(a[i] < b[i]))                                               \
	PRED2(num_##T, T, (a[i] == a[i]) & (b[i] == b[i]))                              \
	PRED2(nan_##T, T, (a[i] != a[i]) | (b[i] != b[i]))

FLOATS(f32)
FLOATS(f64)

static const u32 bit[WARP] __attribute__((aligned(64))) = {
	1u << 0, 1u << 1, 1u << 2, 1u << 3, 1u << 4, 1u << 5, 1u << 6, 1u << 7, 1u << 8, 1u << 9, 1u << 10,
	1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20,
	1u << 21, 1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31,
};

#define SELP(T)                                                                         \
	HANDLER(selp_##T)                                                               \
	{                                                                               \
		T *d = OPD(in->d);                                                      \
		const T *a = OPD(in->a), *b = OPD(in->b);                               \
		const u32 p = *(u32 *)OPD(in->c);                                       \
		BLEND(T, (p & bit[i]) ? a[i] : b[i]);                                   \
	}
SELP(u16)
SELP(u32)
SELP(u64)

OP1(mov_b16, u16, u16, a[i])
OP1(mov_b32, u32, u32, a[i])
OP1(mov_b64, u64, u64, a[i])
HANDLER(mov_b128)
{
	const u64 *a = OPD(in->a);
	u64 *d = OPD(in->d);

	for (unsigned int i = 0; i < WARP; i++)
		if (w->mask >> i & 1) {
			d[2 * i] = a[2 * i];
			d[2 * i + 1] = a[2 * i + 1];
		}
	return in + 1;
}

OP2(pack_b64_b32, u64, u32, u32, (u64)b[i] << 32 | a[i])
OP2(pack_b32_b16, u32, u16, u16, (u32)b[i] << 16 | a[i])

static void pack(struct warp *w, const struct insn *in, unsigned int size)
{
	const struct vec *v = in->ext;
	unsigned int whole = size * v->n, in_reg = size == 1 ? 2 : size;
	u8 *d = OPD(in->d);

	for (u32 k = 0; k < v->n; k++) {
		const u8 *a = OPD(v->slot[k]);

		for (u32 m = w->mask; m; m &= m - 1) {
			unsigned int i = __builtin_ctz(m);
			u8 tmp[8];

			memcpy(tmp, a + i * in_reg, size);
			memcpy(d + i * whole + k * size, tmp, size);
		}
	}
}

static void unpack(struct warp *w, const struct insn *in, unsigned int size)
{
	const struct vec *v = in->ext;
	unsigned int whole = size * v->n, in_reg = size == 1 ? 2 : size;
	const u8 *a = OPD(in->a);
	u8 copy[16 * WARP];

	memcpy(copy, a, whole * WARP);	/* an element may be the source itself */
	for (u32 k = 0; k < v->n; k++) {
		u8 *d = v->slot[k] == ~0u ? NULL : OPD(v->slot[k]);

		for (u32 m = w->mask; d && m; m &= m - 1) {
			unsigned int i = __builtin_ctz(m);
			u64 x = 0;

			memcpy(&x, copy + i * whole + k * size, size);
			memcpy(d + i * in_reg, &x, in_reg);
		}
	}
}

#define PACKING(size)                                                                   \
	HANDLER(pack_##size)                                                            \
	{                                                                               \
		pack(w, in, size);                                                      \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(unpack_##size)                                                          \
	{                                                                               \
		unpack(w, in, size);                                                    \
		return in + 1;                                                          \
	}
PACKING(1)
PACKING(2)
PACKING(4)
PACKING(8)

HANDLER(unpack_b64_b32)
{
	const struct vec *v = in->ext;
	const u64 *a = OPD(in->a);

	if (w->mask != ALL_LANES)
		return unpack_4(w, in);
	for (unsigned int k = 0; k < 2; k++) {
		u32 *d = v->slot[k] == ~0u ? NULL : OPD(v->slot[k]);

		if (d)
			LANES d[i] = (u32)(a[i] >> (k * 32));
	}
	return in + 1;
}

HANDLER(isspacep)
{
	const u64 *a = OPD(in->a);
	u64 base = in->imm;
	u32 r = 0;

	for (unsigned int i = 0; i < WARP; i++) {
		bool windowed = a[i] - WIN_SHARED < 3 * (WIN_LOCAL - WIN_SHARED);
		bool yes = in->flags ? false : base ? a[i] - base < WIN_SIZE : !windowed;

		r |= (u32)yes << i;
	}
	set_pred(w, in, r);
	return in + 1;
}

#define CMP(op, T, N) { "setp." #op "." N, op##_##T }
#define CMP_ORDERED(T) CMP(lt, T, #T), CMP(le, T, #T), CMP(gt, T, #T), CMP(ge, T, #T)
#define CMP_FLOAT(T) CMP_ORDERED(T), CMP(eq, T, #T), CMP(ne, T, #T), CMP(equ, T, #T), CMP(neu, T, #T), CMP(ltu, T, #T), \
	CMP(leu, T, #T), CMP(gtu, T, #T), CMP(geu, T, #T), CMP(num, T, #T), CMP(nan, T, #T)

const struct ptx_op OPS(cmp)[] = {
	CMP_ORDERED(u16), CMP_ORDERED(s16), CMP_ORDERED(u32), CMP_ORDERED(s32), CMP_ORDERED(u64), CMP_ORDERED(s64),
	CMP(eq, u16, "b16"), CMP(ne, u16, "b16"), CMP(eq, u32, "b32"), CMP(ne, u32, "b32"), CMP(eq, u64, "b64"),
	CMP(ne, u64, "b64"), CMP_FLOAT(f32), CMP_FLOAT(f64),
	{ "selp.b16", selp_u16 }, { "selp.b32", selp_u32 }, { "selp.b64", selp_u64 },
	{ "mov.b16", mov_b16 }, { "mov.b32", mov_b32 }, { "mov.b64", mov_b64 }, { "mov.b128", mov_b128 },
	{ "pack.b64.b32", pack_b64_b32 }, { "pack.b32.b16", pack_b32_b16 }, { "pack.b64.b16", pack_2 },
	{ "pack.b64.b8", pack_1 }, { "pack.b32.b8", pack_1 }, { "pack.b16.b8", pack_1 }, { "pack.b128.b64", pack_8 },
	{ "pack.b128.b32", pack_4 }, { "unpack.b64.b32", unpack_b64_b32 }, { "unpack.b32.b16", unpack_2 },
	{ "unpack.b64.b16", unpack_2 }, { "unpack.b64.b8", unpack_1 }, { "unpack.b32.b8", unpack_1 },
	{ "unpack.b16.b8", unpack_1 }, { "unpack.b128.b64", unpack_8 }, { "unpack.b128.b32", unpack_4 },
	{ "isspacep", isspacep }, { NULL },
};
