// SPDX-License-Identifier: Apache-2.0
/* mma.sync, wmma, ldmatrix. */

#include <stdio.h>

#include "mma.h"
#include "translate.h"

static const struct {
	const char *name;
	uint8_t type, size;
} types[] = {
	{ "f16", MMA_F16, 2 }, { "bf16", MMA_BF16, 2 }, { "tf32", MMA_TF32, 4 }, { "f32", MMA_F32, 4 },
	{ "f64", MMA_F64, 8 }, { "s8", MMA_S8, 1 }, { "u8", MMA_U8, 1 }, { "s32", MMA_S32, 4 },
};

static _Noreturn void unsupported(struct tr *t)
{
	char buf[96];

	t_error(t, "unknown or unsupported instruction '%s'", opcode_text(t, buf));
}

static struct mma *new_mma(struct tr *t)
{
	struct mma *x = t_keep(t, sizeof(*x));

	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		x->size[types[i].type] = types[i].size;
	return x;
}

static bool mma_type(const char *name, uint8_t *type)
{
	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(types[i].name, name)) {
			*type = types[i].type;
			return true;
		}
	return false;
}

static bool shape_of(struct tr *t, unsigned int part, struct mma *x)
{
	char tail;

	return part < t->s->nparts && sscanf(t->s->part[part], "m%un%uk%u%c", &x->m, &x->n, &x->k, &tail) == 3 &&
	       x->m <= 32 && x->n <= 32 && x->k <= 32 && x->m >= 8 && x->n >= 8 && x->k >= 4;
}

static void registers(struct tr *t, const struct opd *o, uint32_t *slot, unsigned int n, uint8_t type, bool result)
{
	if (o->kind != O_VEC && n != 1)
		t_error(t, "a vector of %u registers expected", n);
	if (o->kind == O_VEC && o->nitems != n)
		t_error(t, "a vector of %u registers expected, not %u", n, o->nitems);
	for (unsigned int i = 0; i < n; i++) {
		const struct opd *e = o->kind == O_VEC ? &o->items[i] : o;
		enum ptx_type rt = type == MMA_F64 ? T_B64 : T_B32;

		slot[i] = result ? dst(t, e, rt) : src(t, e, rt);
	}
}

static unsigned int regs_for(const struct mma *x, uint8_t type, unsigned int elements)
{
	unsigned int per = 4 / x->size[type] ? 4 / x->size[type] : 1;

	return elements / WARP / per;
}

/* .satfinite stands in front of the types or behind them. */
static unsigned int types_end(const struct tr *t)
{
	return t->s->nparts - !strcmp(t->s->part[t->s->nparts - 1], "satfinite");
}

/* The last four parts are the types of d, a, b, c. */
static void last_types(struct tr *t, struct mma *x)
{
	unsigned int n = types_end(t);

	if (n < 6 || !mma_type(t->s->part[n - 4], &x->td) || !mma_type(t->s->part[n - 3], &x->ta) ||
	    !mma_type(t->s->part[n - 2], &x->tb) || !mma_type(t->s->part[n - 1], &x->tc))
		unsupported(t);
}

static void tr_mma(struct tr *t, struct mods *m)
{
	struct mma *x = new_mma(t);
	unsigned int i;

	/* mma.sync.aligned.shape.row.col{.satfinite}.d.a.b.c */
	if (!has(t, "sync") || !has(t, "row") || !has(t, "col") || !shape_of(t, 3, x))
		unsupported(t);
	for (i = 4; i + 4 < types_end(t); i++)
		if (strcmp(t->s->part[i], "row") && strcmp(t->s->part[i], "col") && strcmp(t->s->part[i], "satfinite"))
			unsupported(t);
	last_types(t, x);
	x->sat = has(t, "satfinite");
	if (x->sat && x->td != MMA_S32)
		unsupported(t);
	need_ops(t, 4, 4);
	if (!(x->m == 16 && x->n == 8 && x->ta != MMA_F64) && !(x->m == 8 && x->n == 8 && x->k == 4 && x->ta == MMA_F64))
		unsupported(t);
	/* one or two halves of k, each of four lanes' registers */
	if (x->m == 16 && x->k * x->size[x->ta] != 16 && x->k * x->size[x->ta] != 32)
		unsupported(t);
	if (x->size[x->ta] != x->size[x->tb] || x->ta == MMA_F32 || x->ta == MMA_S32 || x->size[x->tc] == 1 ||
	    x->size[x->td] == 1 || (x->td == MMA_F64) != (x->ta == MMA_F64) || (x->tc == MMA_F64) != (x->ta == MMA_F64))
		unsupported(t);
	registers(t, op_at(t, 1), x->a, regs_for(x, x->ta, x->m * x->k), x->ta, false);
	registers(t, op_at(t, 2), x->b, regs_for(x, x->tb, x->k * x->n), x->tb, false);
	registers(t, op_at(t, 3), x->c, regs_for(x, x->tc, x->m * x->n), x->tc, false);
	registers(t, op_at(t, 0), x->d, regs_for(x, x->td, x->m * x->n), x->td, true);
	put_op(t, "mma", 0, 0, 0, 0)->ext = x;
}

static void address(struct tr *t, struct mma *x, const struct opd *o, struct mods *m, struct insn *in)
{
	struct place p = place_of(t, o, m->space, 1);

	in->a = p.a;
	x->flags = p.flags;
	x->imm = p.imm;
	x->shared = p.space == 's';
}

/* Registers of a wmma fragment: more than elements need with f16, where the hardware keeps each twice. */
static unsigned int fragment_regs(const struct mma *x, uint8_t type, unsigned int elements)
{
	return type == MMA_F16 && x->wmma ? 8 : regs_for(x, type, elements);
}

/* wmma.load.a.sync.aligned.layout.shape{.space}.type, wmma.store.d..., wmma.mma.sync.aligned.la.lb.shape.d.c or .d.a.b.c */
static void tr_wmma(struct tr *t, struct mods *m)
{
	const char *what = t->s->nparts > 2 ? t->s->part[1] : "", *which = t->s->nparts > 2 ? t->s->part[2] : "";
	struct mma *x = new_mma(t);
	unsigned int n = t->s->nparts, shape = 0, elements;
	bool load = !strcmp(what, "load"), store = !strcmp(what, "store");

	x->wmma = true;
	for (unsigned int i = 3; i < n && !shape; i++)
		if (shape_of(t, i, x))
			shape = i;
	if (!shape || x->m % 8 || x->n % 8 || (x->k != 8 && x->k != 16) || x->m * x->n != 256)
		unsupported(t);
	if (load || store) {
		struct insn scratch = { 0 };
		uint32_t stride;

		need_ops(t, 2, 3);
		if (!mma_type(t->s->part[n - 1], &x->td) || x->td == MMA_F64)
			unsupported(t);
		x->row = has(t, "row");
		if (!strcmp(which, "a"))
			x->n = x->k;
		else if (!strcmp(which, "b"))
			x->m = x->k;
		elements = x->m * x->n;
		if ((!strcmp(which, "c") || store) && x->td == MMA_F16)
			registers(t, op_at(t, store), x->d, 4, x->td, load);
		else
			registers(t, op_at(t, store), x->d, fragment_regs(x, x->td, elements), x->td, load);
		stride = t->s->nops > 2 ? src(t, op_at(t, 2), T_U32) :
			 const_slot(t, x->row ? x->n : x->m, 4);
		address(t, x, op_at(t, load), m, &scratch);
		put_op(t, load ? "wmma.load" : "wmma.store", 0, scratch.a, stride, 0)->ext = x;
		return;
	}
	if (strcmp(what, "mma"))
		unsupported(t);
	if (n - shape - 1 == 4) {
		last_types(t, x);
	} else if (n - shape - 1 == 2) {
		x->ta = x->tb = MMA_F16;
		if (!mma_type(t->s->part[n - 2], &x->td) || !mma_type(t->s->part[n - 1], &x->tc))
			unsupported(t);
	} else {
		unsupported(t);
	}
	need_ops(t, 4, 4);
	if (x->ta == MMA_F64 || x->ta == MMA_F32 || x->ta == MMA_S32 || x->size[x->ta] != x->size[x->tb] || x->td == MMA_F64 ||
	    x->tc == MMA_F64 || x->size[x->tc] == 1 || x->size[x->td] == 1)
		unsupported(t);
	elements = x->m * x->n;
	registers(t, op_at(t, 1), x->a, fragment_regs(x, x->ta, x->m * x->k), x->ta, false);
	registers(t, op_at(t, 2), x->b, fragment_regs(x, x->tb, x->k * x->n), x->tb, false);
	registers(t, op_at(t, 3), x->c, regs_for(x, x->tc, elements), x->tc, false);
	registers(t, op_at(t, 0), x->d, regs_for(x, x->td, elements), x->td, true);
	put_op(t, "mma", 0, 0, 0, 0)->ext = x;
}

/* Also with the number before the shape, as compilers before PTX 7.8 write it. */
static void tr_ldmatrix(struct tr *t, struct mods *m)
{
	bool store = t->s->part[0][0] == 's';
	struct mma *x = new_mma(t);
	struct insn scratch = { 0 };

	need_ops(t, 2, 2);
	if (t->s->nparts < 5 || !has(t, "m8n8") || strcmp(t->s->part[t->s->nparts - 1], "b16"))
		unsupported(t);
	x->n = has(t, "x4") ? 4 : has(t, "x2") ? 2 : 1;
	x->row = !has(t, "trans");
	registers(t, op_at(t, store), x->d, x->n, MMA_F32, !store);
	address(t, x, op_at(t, !store), m, &scratch);
	put_op(t, store ? "stmatrix" : "ldmatrix", 0, scratch.a, 0, 0)->ext = x;
}

const struct tr_op tr_mma_ops[] = {
	{ "mma", tr_mma, true }, { "wmma", tr_wmma, true }, { "ldmatrix", tr_ldmatrix, true },
	{ "stmatrix", tr_ldmatrix, true }, { NULL },
};
