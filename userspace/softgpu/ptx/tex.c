// SPDX-License-Identifier: Apache-2.0
/* Texture and surface instructions, a lane at a time. */
#include "ctl.h"
#include "lane.h"
#include "tex.h"
#include "texture.h"

/* Objects' names have the highest bit but one; a device address is that of a module's variable which holds a name. */
static const struct ptx_texture *find(struct warp *w, const struct insn *in, unsigned int i, bool surface)
{
	u64 h = ((u64 *)OPD(in->a))[i];
	const struct ptx_texture *t;

	if (h - SG_HEAP_BASE < SG_HEAP_SIZE && sg_mem_ok(h, 8) && !(h & 7))
		memcpy(&h, (void *)(uintptr_t)h, 8);
	t = sg_texture_find(h, surface);
	if (!t)
		ptx_fault(w, in, i, FAULT_ADDRESS, "0x%llx is no %s of this context", (unsigned long long)h,
			  surface ? "surface" : "texture");
	return t;
}

#define EACH(BODY)                                                                      \
	do {                                                                            \
		for (u32 m_ = w->mask; m_; m_ &= m_ - 1) {                              \
			unsigned int i = __builtin_ctz(m_);                             \
			BODY;                                                           \
		}                                                                       \
		return in + 1;                                                          \
	} while (0)

static void query_of(struct warp *w, const struct tex *x, unsigned int i, struct texture_query *q)
{
	*q = (struct texture_query){ .shape = x->shape, .fetch = x->fetch, .has_detail = x->has_detail,
				     .has_gradient = x->has_gradient };
	for (unsigned int d = 0; d < x->dims; d++) {
		if (x->fetch)
			q->index[d] = ((s32 *)OPD(x->coord[d]))[i];
		else
			q->coord[d] = ((float *)OPD(x->coord[d]))[i];
		if (x->has_gradient) {
			q->dx[d] = ((float *)OPD(x->dx[d]))[i];
			q->dy[d] = ((float *)OPD(x->dy[d]))[i];
		}
	}
	if (x->layered)
		q->layer = ((u32 *)OPD(x->layer))[i];
	if (x->has_detail && x->fetch)
		q->detail = (float)((s32 *)OPD(x->detail))[i];
	else if (x->has_detail)
		q->detail = ((float *)OPD(x->detail))[i];
}

static const struct insn *read_texture(struct warp *w, const struct insn *in, bool gather)
{
	const struct tex *x = in->ext;
	struct texture_query q;
	union texel v;

	EACH({
		const struct ptx_texture *t = find(w, in, i, false);

		query_of(w, x, i, &q);
		if (!(gather ? texture_gather(t, &q, x->component, &v) : texture_read(t, &q, &v)))
			ptx_fault(w, in, i, FAULT_ADDRESS, "a texture whose memory has been freed");
		for (unsigned int k = 0; k < 4; k++)
			if (x->value[k] != NO_VALUE)
				((u32 *)OPD(x->value[k]))[i] = v.u[k];
	});
}

HANDLER(tex) { return read_texture(w, in, false); }
HANDLER(tld4) { return read_texture(w, in, true); }

/* Where a surface access goes; NULL: outside, and the mode says zero. */
static u8 *surface_at(struct warp *w, const struct insn *in, const struct tex *x, unsigned int i)
{
	const struct ptx_texture *t = find(w, in, i, true);
	const struct texture_level *l = &t->level[0];
	u32 bytes = (u32)x->bytes * x->nvalues;
	s64 limit[4] = { (s64)l->size[0] * t->size * t->channels - bytes, (s64)l->size[1] - 1, (s64)l->size[2] - 1,
			 (s64)t->layers - 1 };
	s64 at[4] = { 0, 0, 0, 0 };
	u64 addr;

	for (unsigned int d = 0; d < x->dims; d++)
		at[d] = ((s32 *)OPD(x->coord[d]))[i];
	if (x->layered)
		at[3] = ((u32 *)OPD(x->layer))[i];
	if (at[0] & (bytes - 1))
		ptx_fault(w, in, i, FAULT_MISALIGNED, "surface access of %u bytes at byte %lld of a row", bytes,
			  (long long)at[0]);
	for (unsigned int d = 0; d < 4; d++) {
		if (at[d] >= 0 && at[d] <= limit[d])
			continue;
		if (x->mode == SURFACE_ZERO)
			return NULL;
		if (x->mode == SURFACE_TRAP || limit[d] < 0)
			ptx_fault(w, in, i, FAULT_TRAP, "surface access outside: coordinate %u is %lld, the limit %lld", d,
				  (long long)at[d], (long long)limit[d]);
		at[d] = at[d] < 0 ? 0 : limit[d];
	}
	addr = l->base + (u64)(at[2] + at[3]) * l->slice + (u64)at[1] * l->pitch + (u64)at[0];
	if (!sg_mem_ok(addr, bytes))
		ptx_fault(w, in, i, FAULT_ADDRESS, "a surface whose memory has been freed");
	return (u8 *)(uintptr_t)addr;
}

static void put_value(struct warp *w, const struct tex *x, unsigned int k, unsigned int i, const u8 *p)
{
	if (x->value[k] == NO_VALUE)
		return;
	if (x->bytes == 1)
		((u16 *)OPD(x->value[k]))[i] = p ? p[0] : 0;
	else if (x->bytes == 2)
		((u16 *)OPD(x->value[k]))[i] = p ? *(const u16 *)p : 0;
	else if (x->bytes == 4)
		((u32 *)OPD(x->value[k]))[i] = p ? *(const u32 *)p : 0;
	else
		((u64 *)OPD(x->value[k]))[i] = p ? *(const u64 *)p : 0;
}

HANDLER(suld)
{
	const struct tex *x = in->ext;

	EACH({
		const u8 *p = surface_at(w, in, x, i);

		for (unsigned int k = 0; k < x->nvalues; k++)
			put_value(w, x, k, i, p ? p + k * x->bytes : NULL);
	});
}

HANDLER(sust)
{
	const struct tex *x = in->ext;

	EACH({
		u8 *p = surface_at(w, in, x, i);

		for (unsigned int k = 0; p && k < x->nvalues; k++) {
			if (x->bytes == 1)
				p[k] = (u8)((u16 *)OPD(x->value[k]))[i];
			else if (x->bytes == 2)
				((u16 *)p)[k] = ((u16 *)OPD(x->value[k]))[i];
			else if (x->bytes == 4)
				((u32 *)p)[k] = ((u32 *)OPD(x->value[k]))[i];
			else
				((u64 *)p)[k] = ((u64 *)OPD(x->value[k]))[i];
		}
	});
}

#define REDUCE(U, S)                                                                    \
	do {                                                                            \
		U v = ((U *)OPD(x->value[0]))[i], old = __atomic_load_n((U *)p, __ATOMIC_RELAXED), new; \
		do {                                                                    \
			switch (x->op) {                                                \
			case SURFACE_ADD: new = old + v; break;                         \
			case SURFACE_AND: new = old & v; break;                         \
			case SURFACE_OR: new = old | v; break;                          \
			case SURFACE_MIN:                                               \
				new = (x->is_signed ? (S)v < (S)old : v < old) ? v : old; \
				break;                                                  \
			default:                                                        \
				new = (x->is_signed ? (S)v > (S)old : v > old) ? v : old; \
			}                                                               \
		} while (!__atomic_compare_exchange_n((U *)p, &old, new, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)); \
	} while (0)

HANDLER(sured)
{
	const struct tex *x = in->ext;

	EACH({
		u8 *p = surface_at(w, in, x, i);

		if (p && x->bytes == 4)
			REDUCE(u32, s32);
		else if (p)
			REDUCE(u64, s64);
	});
}

/* Types and orders by the numbers that OpenCL gave them. */
static u32 answer(const struct ptx_texture *t, const struct tex *x, u32 level)
{
	const struct texture_level *l = &t->level[level < t->nlevels ? level : t->nlevels - 1];
	static const u32 first[] = { [TEXEL_UINT] = 0x10da, [TEXEL_SINT] = 0x10d7, [TEXEL_UNORM] = 0x10d2,
				     [TEXEL_SNORM] = 0x10d0 };

	switch (x->asks) {
	case ASKS_WIDTH: return l->size[0];
	case ASKS_HEIGHT: return l->size[1];
	case ASKS_DEPTH: return l->size[2];
	case ASKS_TYPE:
		if (t->format == TEXEL_FLOAT)
			return t->size == 2 ? 0x10dd : 0x10de;
		return first[t->format] + (t->size == 1 ? 0 : t->size == 2 ? 1 : 2);
	case ASKS_ORDER: return t->channels == 1 ? 0x10b0 : t->channels == 2 ? 0x10b2 : 0x10b5;
	case ASKS_NORMALIZED: return t->normalized;
	case ASKS_LAYERS: return t->layers;
	case ASKS_LEVELS: return t->nlevels;
	case ASKS_SAMPLES: return 1;
	default: return t->linear;
	}
}

static const struct insn *ask(struct warp *w, const struct insn *in, bool surface)
{
	const struct tex *x = in->ext;

	EACH({
		const struct ptx_texture *t = find(w, in, i, surface);
		u32 v = answer(t, x, x->has_detail ? ((u32 *)OPD(x->detail))[i] : 0);

		if (x->value[0] != NO_VALUE)
			((u32 *)OPD(x->value[0]))[i] = v;
	});
}

HANDLER(txq) { return ask(w, in, false); }
HANDLER(suq) { return ask(w, in, true); }

const struct ptx_op ptx_ops_tex[] = {
	{ "tex", tex }, { "tld4", tld4 }, { "txq", txq }, { "suq", suq }, { "suld", suld }, { "sust", sust },
	{ "sured", sured }, { NULL },
};
