/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a handler is written: one expression over a[i], b[i], c[i], applied to 32 lanes. With all lanes active the loop
 * becomes straight vector code; otherwise results are blended by the mask. Destination and source may be the same
 * register but never overlap otherwise, hence ivdep.
 *
 * Files that include this are compiled once per instruction set; OPS gives their tables distinct names.
 */
#ifndef SOFTGPU_PTX_LANE_H
#define SOFTGPU_PTX_LANE_H

/* Tables end in { NULL }; a macro compares any type with zero. */
#pragma GCC diagnostic ignored "-Wtype-limits"

#include "exec.h"

#ifndef OPS_SUFFIX
#define OPS_SUFFIX _base
#endif
#define OPS_CAT2(a, b) a##b
#define OPS_CAT(a, b) OPS_CAT2(a, b)
#define OPS(name) OPS_CAT(ptx_ops_##name, OPS_SUFFIX)

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;

#define HANDLER(name) static const struct insn *name(struct warp *w, const struct insn *in)
#define LANES _Pragma("GCC ivdep") for (unsigned int i = 0; i < WARP; i++)

#define BLEND(T, EXPR)                                                                  \
	do {                                                                            \
		if (__builtin_expect(w->mask == ALL_LANES, 1)) {                        \
			LANES d[i] = (EXPR);                                            \
		} else {                                                                \
			const s32 *lm = w->lm;                                          \
			LANES                                                           \
			{                                                               \
				T v_ = (EXPR);                                          \
				d[i] = lm[i] ? v_ : d[i];                               \
			}                                                               \
		}                                                                       \
		return in + 1;                                                          \
	} while (0)

/* one, two, three sources; the result's type first */
#define OP1(name, TD, TA, EXPR)                                                         \
	HANDLER(name)                                                                   \
	{                                                                               \
		TD *d = OPD(in->d);                                                     \
		const TA *a = OPD(in->a);                                               \
		BLEND(TD, EXPR);                                                        \
	}
#define OP2(name, TD, TA, TB, EXPR)                                                     \
	HANDLER(name)                                                                   \
	{                                                                               \
		TD *d = OPD(in->d);                                                     \
		const TA *a = OPD(in->a);                                               \
		const TB *b = OPD(in->b);                                               \
		BLEND(TD, EXPR);                                                        \
	}
#define OP3(name, TD, TA, TB, TC, EXPR)                                                 \
	HANDLER(name)                                                                   \
	{                                                                               \
		TD *d = OPD(in->d);                                                     \
		const TA *a = OPD(in->a);                                               \
		const TB *b = OPD(in->b);                                               \
		const TC *c = OPD(in->c);                                               \
		BLEND(TD, EXPR);                                                        \
	}

/* Predicate results: 32 lanes of -1 or 0 to one bit each. */
#if defined(__AVX2__)
#include <immintrin.h>
static inline u32 lane_bits(const s32 *t)
{
	u32 r = 0;

	for (int k = 0; k < 4; k++)
		r |= (u32)_mm256_movemask_ps(_mm256_load_ps((const float *)t + 8 * k)) << 8 * k;
	return r;
}
#else
#include <emmintrin.h>
static inline u32 lane_bits(const s32 *t)
{
	u32 r = 0;

	for (int k = 0; k < 8; k++)
		r |= (u32)_mm_movemask_ps(_mm_load_ps((const float *)t + 4 * k)) << 4 * k;
	return r;
}
#endif

static inline void set_pred(struct warp *w, const struct insn *in, u32 bits)
{
	u32 *d = OPD(in->d);

	*d = (*d & ~w->mask) | (bits & w->mask);
}

#define PRED2(name, T, EXPR)                                                            \
	HANDLER(name)                                                                   \
	{                                                                               \
		const T *a = OPD(in->a), *b = OPD(in->b);                               \
		s32 t[WARP] __attribute__((aligned(64)));                               \
		LANES t[i] = -(s32)(EXPR);                                              \
		set_pred(w, in, lane_bits(t));                                          \
		return in + 1;                                                          \
	}
#define PRED1(name, T, EXPR)                                                            \
	HANDLER(name)                                                                   \
	{                                                                               \
		const T *a = OPD(in->a);                                                \
		s32 t[WARP] __attribute__((aligned(64)));                               \
		LANES t[i] = -(s32)(EXPR);                                              \
		set_pred(w, in, lane_bits(t));                                          \
		return in + 1;                                                          \
	}

#endif /* SOFTGPU_PTX_LANE_H */
