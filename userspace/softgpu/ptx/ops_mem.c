// SPDX-License-Identifier: Apache-2.0
/*
 * Loads and stores. An access is checked lane by lane; the two patterns that good kernels have, consecutive
 * addresses and one address for all, are recognised first and cost one check.
 */

#include "lane.h"
#include "mem.h"

#define INLINE static inline __attribute__((always_inline))
#define STEP(S) ((u64)(S))

/* The address of each lane. */
INLINE void addresses(struct warp *w, const struct insn *in, s64 imm, u64 *addr)
{
	if (in->flags & F_NOADDR) {
		LANES addr[i] = (u64)imm;
	} else if (in->flags & F_ADDR32) {
		const u32 *a = OPD(in->a);

		LANES addr[i] = (u32)(a[i] + (u32)imm);
	} else {
		const u64 *a = OPD(in->a);

		LANES addr[i] = a[i] + (u64)imm;
	}
}

enum pattern { SCATTERED, CONSECUTIVE, SAME };

INLINE enum pattern pattern_of(const struct warp *w, const u64 *addr, unsigned int size)
{
	u64 span = addr[WARP - 1] - addr[0], wrong = 0;

	if (w->mask != ALL_LANES)
		return SCATTERED;
	if (span == (WARP - 1) * STEP(size)) {
		LANES wrong |= (addr[i] - addr[0]) ^ (i * STEP(size));
		return wrong ? SCATTERED : CONSECUTIVE;
	}
	if (!span) {
		LANES wrong |= addr[i] ^ addr[0];
		return wrong ? SCATTERED : SAME;
	}
	return SCATTERED;
}

/* [addr, addr + size) lies in live device memory; size at most 1 KiB, so that two pages are all there is to ask. */
INLINE bool device_range(u64 addr, unsigned int size)
{
	u64 off = addr - SG_HEAP_BASE;

	return off < SG_HEAP_SIZE - 4096 && sg_heap_map[off >> SG_PAGE_SHIFT] &&
	       sg_heap_map[(off + size - 1) >> SG_PAGE_SHIFT];
}

/* An aligned access does not cross a page. */
INLINE bool device_one(u64 addr, unsigned int size)
{
	u64 off = addr - SG_HEAP_BASE;

	if (__builtin_expect(off < SG_HEAP_SIZE - 64, 1))
		return sg_heap_map[off >> SG_PAGE_SHIFT];
	return sg_mem_ok(addr, size);
}

INLINE void *resolve(struct warp *w, const struct insn *in, unsigned int i, u64 addr, unsigned int size, char space,
		     bool write)
{
	const char *what = write ? "store" : "load";
	void *p = NULL;

	if (__builtin_expect(addr & (size - 1), 0))
		fault_access(w, in, i, addr, size, what);
	if (space == 'd') {
		if (device_one(addr, size))
			p = (void *)(uintptr_t)addr;
	} else if (space == 's') {
		if (addr < w->block->shared_size && addr + size <= w->block->shared_size)
			p = w->block->shared + addr;
	} else if (space == 'l') {
		if (addr < w->block->stack && addr + size <= w->block->stack)
			p = w->local + (size_t)i * w->block->stack + addr;
	} else {
		p = generic_pointer(w, i, addr, size, write);
	}
	if (__builtin_expect(!p, 0))
		fault_access(w, in, i, addr, size, what);
	return p;
}

#define EACH_LANE(BODY)                                                                 \
	do {                                                                            \
		if (w->mask == ALL_LANES) {                                             \
			for (unsigned int i = 0; i < WARP; i++) {                       \
				BODY;                                                   \
			}                                                               \
		} else {                                                                \
			for (u32 m_ = w->mask; m_; m_ &= m_ - 1) {                      \
				unsigned int i = __builtin_ctz(m_);                     \
				BODY;                                                   \
			}                                                               \
		}                                                                       \
	} while (0)

/* All lanes within shared memory and aligned? */
INLINE bool shared_ok(const struct warp *w, const u64 *addr, unsigned int size)
{
	u32 limit = w->block->shared_size < size ? 0 : w->block->shared_size - size + 1;
	u32 bad = 0;

	if (w->mask != ALL_LANES)
		return false;
	LANES bad |= (u32)addr[i] & (size - 1);
	LANES bad |= addr[i] >= limit;
	return !bad;
}

#define LOAD(SP, CH, MT, RT)                                                            \
	HANDLER(ld_##SP##_##MT##_##RT)                                                  \
	{                                                                               \
		RT *d = OPD(in->d);                                                     \
		u64 addr[WARP] __attribute__((aligned(64)));                            \
		addresses(w, in, in->imm, addr);                                        \
		if (CH == 's' && shared_ok(w, addr, sizeof(MT))) {                      \
			const u8 *base = w->block->shared;                              \
			for (unsigned int i = 0; i < WARP; i++)                         \
				d[i] = (RT) * (const MT *)(base + (u32)addr[i]);        \
			return in + 1;                                                  \
		}                                                                       \
		if (CH == 'd' || CH == 'g') {                                           \
			enum pattern p = pattern_of(w, addr, sizeof(MT));               \
			if (p == CONSECUTIVE && !(addr[0] & (sizeof(MT) - 1)) &&        \
			    device_range(addr[0], WARP * sizeof(MT))) {                 \
				const MT *a = (const MT *)(uintptr_t)addr[0];           \
				LANES d[i] = (RT)a[i];                                  \
				return in + 1;                                          \
			}                                                               \
			if (p == SAME) {                                                \
				RT v = (RT) * (const MT *)resolve(w, in, 0, addr[0], sizeof(MT), CH, false); \
				if (addr[0] - WIN_LOCAL >= WIN_SIZE) {                  \
					LANES d[i] = v;                                 \
					return in + 1;                                  \
				}                                                       \
			}                                                               \
		}                                                                       \
		EACH_LANE(d[i] = (RT) * (const MT *)resolve(w, in, i, addr[i], sizeof(MT), CH, false)); \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(ldv_##SP##_##MT##_##RT)                                                 \
	{                                                                               \
		const struct vec *v = in->ext;                                          \
		const u32 n = v->n;                                                     \
		u64 addr[WARP] __attribute__((aligned(64)));                            \
		RT *d[8];                                                               \
		for (u32 k = 0; k < n; k++)                                             \
			d[k] = OPD(v->slot[k]);                                         \
		addresses(w, in, v->imm, addr);                                         \
		EACH_LANE(const MT *a = resolve(w, in, i, addr[i], n * sizeof(MT), CH, false); \
			  for (u32 k = 0; k < n; k++) d[k][i] = (RT)a[k]);              \
		return in + 1;                                                          \
	}

/* Parameters: the kernel's are the same for every lane, a call's lie in the frame. */
#define LOAD_PARAM(MT, RT)                                                              \
	INLINE void param_##MT##_##RT(struct warp *w, RT *d, s64 at)                    \
	{                                                                               \
		MT m;                                                                   \
		memcpy(&m, w->block->params + at, sizeof(m));                           \
		RT v = (RT)m;                                                           \
		if (w->mask == ALL_LANES)                                               \
			LANES d[i] = v;                                                 \
		else                                                                    \
			LANES d[i] = w->lm[i] ? v : d[i];                               \
	}                                                                               \
	INLINE void area_##MT##_##RT(struct warp *w, RT *d, s64 at)                     \
	{                                                                               \
		const u8 *a = w->frame->area + at;                                      \
		const size_t step = w->frame->fn->area;                                 \
		MT m;                                                                   \
		EACH_LANE(memcpy(&m, a + i * step, sizeof(m)); d[i] = (RT)m);           \
	}                                                                               \
	HANDLER(ld_p_##MT##_##RT)                                                       \
	{                                                                               \
		param_##MT##_##RT(w, OPD(in->d), in->imm);                              \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(ld_a_##MT##_##RT)                                                       \
	{                                                                               \
		area_##MT##_##RT(w, OPD(in->d), in->imm);                               \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(ldv_p_##MT##_##RT)                                                      \
	{                                                                               \
		const struct vec *v = in->ext;                                          \
		for (u32 k = 0; k < v->n; k++)                                          \
			param_##MT##_##RT(w, OPD(v->slot[k]), v->imm + (s64)(k * sizeof(MT))); \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(ldv_a_##MT##_##RT)                                                      \
	{                                                                               \
		const struct vec *v = in->ext;                                          \
		for (u32 k = 0; k < v->n; k++)                                          \
			area_##MT##_##RT(w, OPD(v->slot[k]), v->imm + (s64)(k * sizeof(MT))); \
		return in + 1;                                                          \
	}

#define STORE(SP, CH, MT, RT)                                                           \
	HANDLER(st_##SP##_##MT##_##RT)                                                  \
	{                                                                               \
		const RT *b = OPD(in->b);                                               \
		u64 addr[WARP] __attribute__((aligned(64)));                            \
		addresses(w, in, in->imm, addr);                                        \
		if (CH == 's' && shared_ok(w, addr, sizeof(MT))) {                      \
			u8 *base = w->block->shared;                                    \
			for (unsigned int i = 0; i < WARP; i++)                         \
				*(MT *)(base + (u32)addr[i]) = (MT)b[i];                \
			return in + 1;                                                  \
		}                                                                       \
		if ((CH == 'd' || CH == 'g') && pattern_of(w, addr, sizeof(MT)) == CONSECUTIVE && \
		    !(addr[0] & (sizeof(MT) - 1)) && device_range(addr[0], WARP * sizeof(MT))) { \
			MT *a = (MT *)(uintptr_t)addr[0];                               \
			LANES a[i] = (MT)b[i];                                          \
			return in + 1;                                                  \
		}                                                                       \
		EACH_LANE(*(MT *)resolve(w, in, i, addr[i], sizeof(MT), CH, true) = (MT)b[i]); \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(stv_##SP##_##MT##_##RT)                                                 \
	{                                                                               \
		const struct vec *v = in->ext;                                          \
		const u32 n = v->n;                                                     \
		u64 addr[WARP] __attribute__((aligned(64)));                            \
		const RT *b[8];                                                         \
		for (u32 k = 0; k < n; k++)                                             \
			b[k] = OPD(v->slot[k]);                                         \
		addresses(w, in, v->imm, addr);                                         \
		EACH_LANE(MT *a = resolve(w, in, i, addr[i], n * sizeof(MT), CH, true); \
			  for (u32 k = 0; k < n; k++) a[k] = (MT)b[k][i]);              \
		return in + 1;                                                          \
	}

#define STORE_PARAM(MT, RT)                                                             \
	INLINE void put_area_##MT##_##RT(struct warp *w, const RT *b, s64 at)           \
	{                                                                               \
		u8 *a = w->frame->area + at;                                            \
		const size_t step = w->frame->fn->area;                                 \
		EACH_LANE(MT m = (MT)b[i]; memcpy(a + i * step, &m, sizeof(m)));        \
	}                                                                               \
	HANDLER(st_a_##MT##_##RT)                                                       \
	{                                                                               \
		put_area_##MT##_##RT(w, OPD(in->b), in->imm);                           \
		return in + 1;                                                          \
	}                                                                               \
	HANDLER(stv_a_##MT##_##RT)                                                      \
	{                                                                               \
		const struct vec *v = in->ext;                                          \
		for (u32 k = 0; k < v->n; k++)                                          \
			put_area_##MT##_##RT(w, OPD(v->slot[k]), v->imm + (s64)(k * sizeof(MT))); \
		return in + 1;                                                          \
	}

/* every kind of load: value in memory, register */
#define LOADS(F)                                                                        \
	F(u8, u16) F(u8, u32) F(u8, u64) F(s8, u16) F(s8, u32) F(s8, u64) F(u16, u16) F(u16, u32) F(u16, u64) \
	F(s16, u32) F(s16, u64) F(u32, u32) F(u32, u64) F(s32, u64) F(u64, u64)
#define STORES(F) F(u8, u16) F(u8, u32) F(u8, u64) F(u16, u16) F(u16, u32) F(u16, u64) F(u32, u32) F(u32, u64) F(u64, u64)

#define LOAD_D(MT, RT) LOAD(d, 'd', MT, RT)
#define LOAD_G(MT, RT) LOAD(g, 'g', MT, RT)
#define LOAD_S(MT, RT) LOAD(s, 's', MT, RT)
#define LOAD_L(MT, RT) LOAD(l, 'l', MT, RT)
LOADS(LOAD_D)
LOADS(LOAD_G)
LOADS(LOAD_S)
LOADS(LOAD_L)
LOADS(LOAD_PARAM)
#define STORE_D(MT, RT) STORE(d, 'd', MT, RT)
#define STORE_G(MT, RT) STORE(g, 'g', MT, RT)
#define STORE_S(MT, RT) STORE(s, 's', MT, RT)
#define STORE_L(MT, RT) STORE(l, 'l', MT, RT)
STORES(STORE_D)
STORES(STORE_G)
STORES(STORE_S)
STORES(STORE_L)
STORES(STORE_PARAM)

HANDLER(cp_async)
{
	const struct copy *c = in->ext;
	const u32 *n = OPD(in->b);

	for (u32 m = w->mask; m; m &= m - 1) {
		unsigned int i = __builtin_ctz(m);
		u64 to = (u64)c->to, from = (u64)c->from;
		u32 len = n[i] < c->size ? n[i] : c->size;
		u8 *d;

		if (!(c->to_flags & F_NOADDR))
			to = c->to_flags & F_ADDR32 ? (u32)(to + ((u32 *)OPD(in->d))[i]) : to + ((u64 *)OPD(in->d))[i];
		if (!(c->from_flags & F_NOADDR))
			from = c->from_flags & F_ADDR32 ? (u32)(from + ((u32 *)OPD(in->a))[i]) :
							   from + ((u64 *)OPD(in->a))[i];
		d = resolve(w, in, i, to, c->size, 's', true);
		memset(d, 0, c->size);
		if (len)
			memcpy(d, resolve(w, in, i, from, c->size, 'd', false), len);
	}
	return in + 1;
}

#define NAME_u16 "16"
#define NAME_u32 "32"
#define NAME_u64 "64"
#define BITS_u8 "8"
#define BITS_u16 "16"
#define BITS_u32 "32"
#define BITS_u64 "64"
#define KEYS_LD(SP, MT, RT) { "ld." #SP "." #MT "." NAME_##RT, ld_##SP##_##MT##_##RT }, \
	{ "ldv." #SP "." #MT "." NAME_##RT, ldv_##SP##_##MT##_##RT },
#define KEYS_ST(SP, MT, RT) { "st." #SP "." BITS_##MT "." NAME_##RT, st_##SP##_##MT##_##RT }, \
	{ "stv." #SP "." BITS_##MT "." NAME_##RT, stv_##SP##_##MT##_##RT },
#define LD_KEYS(MT, RT) KEYS_LD(d, MT, RT) KEYS_LD(g, MT, RT) KEYS_LD(s, MT, RT) KEYS_LD(l, MT, RT) KEYS_LD(p, MT, RT) \
	KEYS_LD(a, MT, RT)
#define ST_KEYS(MT, RT) KEYS_ST(d, MT, RT) KEYS_ST(g, MT, RT) KEYS_ST(s, MT, RT) KEYS_ST(l, MT, RT) KEYS_ST(a, MT, RT)

const struct ptx_op OPS(mem)[] = {
	LOADS(LD_KEYS) STORES(ST_KEYS) { "cp.async", cp_async }, { NULL },
};
