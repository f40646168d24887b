// SPDX-License-Identifier: Apache-2.0
/*
 * Products of small matrices by a whole warp. mma.sync and ldmatrix spread a matrix over lanes as the PTX manual
 * draws it; wmma leaves that open, and here a lane simply holds consecutive elements. Sums are kept in float (or
 * s32, or double), as the hardware does at least.
 */

#include "ctl.h"
#include "float.h"
#include "lane.h"
#include "mma.h"

#define MAX_SIDE 32

struct matrix {
	f64 e[MAX_SIDE * MAX_SIDE];
};

static f64 get(const struct mma *x, const u32 *slots, struct warp *w, u8 type, unsigned int lane, unsigned int k)
{
	unsigned int per = 4 / x->size[type] ? 4 / x->size[type] : 1;
	const u8 *reg = OPD(slots[k / per]);
	u32 v;

	if (type == MMA_F64)
		return f64_from(((const u64 *)reg)[lane]);
	v = ((const u32 *)reg)[lane];
	switch (type) {
	case MMA_F16: return f16_to_f32((u16)(v >> 16 * (k & 1)));
	case MMA_BF16: return bf16_to_f32((u16)(v >> 16 * (k & 1)));
	case MMA_S8: return (s8)(v >> 8 * (k & 3));
	case MMA_U8: return (u8)(v >> 8 * (k & 3));
	case MMA_S32: return (s32)v;
	case MMA_TF32: return f32_from(v & 0xffffe000);
	default: return f32_from(v);
	}
}

static void set(struct warp *w, const u32 *slots, u8 type, unsigned int lane, unsigned int k, f64 v)
{
	switch (type) {
	case MMA_F64:
		((u64 *)OPD(slots[k]))[lane] = f64_bits(v);
		break;
	case MMA_F16: {
		u32 *r = (u32 *)OPD(slots[k / 2]) + lane, h = f16_from(v, 0);

		*r = k & 1 ? (*r & 0xffff) | h << 16 : (*r & 0xffff0000) | h;
		break;
	}
	case MMA_S32:
		((u32 *)OPD(slots[k]))[lane] = (u32)(s64)v;
		break;
	default:
		((u32 *)OPD(slots[k]))[lane] = f32_bits((f32)v);
	}
}

/* mma.sync: where element @k of a lane lies. */
static void place_a(const struct mma *x, unsigned int lane, unsigned int k, unsigned int *row, unsigned int *col)
{
	unsigned int per = 4 / x->size[x->ta] ? 4 / x->size[x->ta] : 1, reg = k / per, g = lane >> 2, t = lane & 3;

	if (x->m == 8) {	/* m8n8k4 of doubles */
		*row = g;
		*col = t;
		return;
	}
	*row = g + 8 * (reg & 1);
	*col = t * per + k % per + 4 * per * (reg >> 1);
}

static void place_b(const struct mma *x, unsigned int lane, unsigned int k, unsigned int *row, unsigned int *col)
{
	unsigned int per = 4 / x->size[x->tb] ? 4 / x->size[x->tb] : 1;

	*row = (lane & 3) * per + k % per + 4 * per * (k / per);
	*col = lane >> 2;
}

static void place_c(const struct mma *x, unsigned int lane, unsigned int k, unsigned int *row, unsigned int *col)
{
	*row = (lane >> 2) + 8 * (k >> 1);
	*col = (lane & 3) * 2 + (k & 1);
}

typedef void place_fn(const struct mma *x, unsigned int lane, unsigned int k, unsigned int *row, unsigned int *col);

static void load(struct warp *w, const struct mma *x, struct matrix *m, const u32 *slots, u8 type, unsigned int rows,
		 unsigned int cols, place_fn *place)
{
	unsigned int each = rows * cols / WARP, r, c;

	for (unsigned int lane = 0; lane < WARP; lane++)
		for (unsigned int k = 0; k < each; k++) {
			if (x->wmma) {
				r = (lane * each + k) / cols;
				c = (lane * each + k) % cols;
			} else {
				place(x, lane, k, &r, &c);
			}
			m->e[r * MAX_SIDE + c] = get(x, slots, w, type, lane, k);
		}
}

/* Every lane that lives takes part. */
static bool parted(struct warp *w, const struct insn *in)
{
	if (w->mask != w->live && !w->force) {
		if (warp_here(w, in) != w->live)
			return true;
		warp_regroup(w, in, w->live);
	}
	w->force = false;
	return false;
}

HANDLER(multiply)
{
	const struct mma *x = in->ext;
	struct matrix a, b, c;
	unsigned int each = x->m * x->n / WARP, r, col;
	f64 v;

	if (parted(w, in))
		return warp_wait(w, in, FR_SYNC, 0);
	load(w, x, &a, x->a, x->ta, x->m, x->k, place_a);
	load(w, x, &b, x->b, x->tb, x->k, x->n, place_b);
	load(w, x, &c, x->c, x->tc, x->m, x->n, place_c);
	for (unsigned int i = 0; i < x->m; i++)
		for (unsigned int j = 0; j < x->n; j++) {
			f64 sum = c.e[i * MAX_SIDE + j];

			/* the products of 16-bit numbers are exact in float; double holds their sum */
			for (unsigned int k = 0; k < x->k; k++)
				sum += a.e[i * MAX_SIDE + k] * b.e[k * MAX_SIDE + j];
			c.e[i * MAX_SIDE + j] = sum;
		}
	for (unsigned int lane = 0; lane < WARP; lane++)
		for (unsigned int k = 0; k < each; k++) {
			if (!(w->mask >> lane & 1))
				continue;
			if (x->wmma) {
				r = (lane * each + k) / x->n;
				col = (lane * each + k) % x->n;
			} else {
				place_c(x, lane, k, &r, &col);
			}
			v = c.e[r * MAX_SIDE + col];
			if (x->sat)
				v = v < -2147483648.0 ? -2147483648.0 : v > 2147483647.0 ? 2147483647.0 : v;
			set(w, x->d, x->td, lane, k, v);
		}
	return in + 1;
}

static u8 *pointer(struct warp *w, const struct insn *in, const struct mma *x, unsigned int lane, u64 offset, u32 size,
		   bool write)
{
	u64 addr = x->flags & F_NOADDR ? (u64)x->imm : x->flags & F_ADDR32 ?
		   (u64)(u32)(((u32 *)OPD(in->a))[lane] + (u32)x->imm) : ((u64 *)OPD(in->a))[lane] + (u64)x->imm;
	void *p;

	if (x->shared)
		addr += WIN_SHARED;
	addr += offset;
	if (addr & (size - 1))
		fault_access(w, in, lane, addr, size, "matrix access");
	p = generic_pointer(w, lane, addr, size, write);
	if (!p)
		fault_access(w, in, lane, addr, size, "matrix access");
	return p;
}

/* Bytes from the start of a matrix in memory to element (r, c). */
static u64 offset_of(const struct mma *x, u32 stride, unsigned int r, unsigned int c, u32 size)
{
	return (x->row ? (u64)r * stride + c : (u64)c * stride + r) * size;
}

HANDLER(wmma_load)
{
	const struct mma *x = in->ext;
	unsigned int rows = x->m, cols = x->n, each = rows * cols / WARP;
	u32 size = x->size[x->td], per = 4 / size;

	if (parted(w, in))
		return warp_wait(w, in, FR_SYNC, 0);
	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int lane = __builtin_ctz(m);
		u32 stride = ((u32 *)OPD(in->b))[lane];

		for (unsigned int k = 0; k < each; k++) {
			unsigned int e = lane * each + k;
			const u8 *p = pointer(w, in, x, lane, offset_of(x, stride, e / cols, e % cols, size), size, false);
			u32 v = 0, *d = (u32 *)OPD(x->d[k / per]) + lane, shift = 8 * size * (k % per);

			memcpy(&v, p, size);
			*d = size == 4 ? v : (*d & ~(((1u << 8 * size) - 1) << shift)) | v << shift;
		}
	}
	return in + 1;
}

HANDLER(wmma_store)
{
	const struct mma *x = in->ext;
	unsigned int rows = x->m, cols = x->n, each = rows * cols / WARP;
	u32 size = x->size[x->td], per = 4 / size;

	if (parted(w, in))
		return warp_wait(w, in, FR_SYNC, 0);
	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int lane = __builtin_ctz(m);
		u32 stride = ((u32 *)OPD(in->b))[lane];

		for (unsigned int k = 0; k < each; k++) {
			unsigned int e = lane * each + k;
			u32 v = ((u32 *)OPD(x->d[k / per]))[lane] >> 8 * size * (k % per);

			memcpy(pointer(w, in, x, lane, offset_of(x, stride, e / cols, e % cols, size), size, true), &v, size);
		}
	}
	return in + 1;
}

/* Rows of 8 16-bit elements; lanes 8 j to 8 j + 7 hold the addresses of matrix j's rows. */
HANDLER(ldmatrix)
{
	const struct mma *x = in->ext;
	u16 e[4][8][8];

	if (parted(w, in))
		return warp_wait(w, in, FR_SYNC, 0);
	for (unsigned int j = 0; j < x->n; j++)
		for (unsigned int r = 0; r < 8; r++)
			memcpy(e[j][r], pointer(w, in, x, j * 8 + r, 0, 16, false), 16);
	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int lane = __builtin_ctz(m), g = lane >> 2, t = 2 * (lane & 3);

		for (unsigned int j = 0; j < x->n; j++)
			((u32 *)OPD(x->d[j]))[lane] = x->row ? e[j][g][t] | (u32)e[j][g][t + 1] << 16 :
							       e[j][t][g] | (u32)e[j][t + 1][g] << 16;
	}
	return in + 1;
}

HANDLER(stmatrix)
{
	const struct mma *x = in->ext;
	u16 e[4][8][8];

	if (parted(w, in))
		return warp_wait(w, in, FR_SYNC, 0);
	for (unsigned int lane = 0; lane < WARP; lane++) {
		unsigned int g = lane >> 2, t = 2 * (lane & 3);

		for (unsigned int j = 0; j < x->n; j++) {
			u32 v = ((u32 *)OPD(x->d[j]))[lane];

			*(x->row ? &e[j][g][t] : &e[j][t][g]) = (u16)v;
			*(x->row ? &e[j][g][t + 1] : &e[j][t + 1][g]) = (u16)(v >> 16);
		}
	}
	for (unsigned int j = 0; j < x->n; j++)
		for (unsigned int r = 0; r < 8; r++)
			memcpy(pointer(w, in, x, j * 8 + r, 0, 16, true), e[j][r], 16);
	return in + 1;
}

const struct ptx_op ptx_ops_mma[] = {
	{ "mma", multiply }, { "wmma.load", wmma_load }, { "wmma.store", wmma_store }, { "ldmatrix", ldmatrix },
	{ "stmatrix", stmatrix }, { NULL },
};
