// SPDX-License-Identifier: Apache-2.0
/* Texture fetches, surface accesses, and questions about both. */
#include <stdio.h>

#include "tex.h"
#include "texture.h"
#include "translate.h"

static const struct {
	const char *word;
	uint8_t shape, dims;
	bool layered;
} geometries[] = {
	{ "1d", SHAPE_1D, 1, false }, { "2d", SHAPE_2D, 2, false }, { "3d", SHAPE_3D, 3, false },
	{ "a1d", SHAPE_1D, 1, true }, { "a2d", SHAPE_2D, 2, true }, { "cube", SHAPE_CUBE, 3, false },
	{ "acube", SHAPE_CUBE, 3, true },
};

static struct tex *geometry(struct tr *t)
{
	struct tex *x = t_keep(t, sizeof(*x));
	char buf[96];

	for (unsigned int i = 0; i < sizeof(geometries) / sizeof(geometries[0]); i++) {
		if (!has(t, geometries[i].word))
			continue;
		x->shape = geometries[i].shape;
		x->dims = geometries[i].dims;
		x->layered = geometries[i].layered;
		return x;
	}
	t_error(t, "'%s' names no geometry that is known", opcode_text(t, buf));
}

/* The object: a handle in a register, or a variable of the module that holds one. */
static uint32_t object(struct tr *t, const struct opd *o)
{
	char buf[96];

	if (o->kind != O_ADDR || o->imm || (o->base != O_REG && o->base != O_SYM))
		t_error(t, "'%s' needs a texture or surface in [ ]", opcode_text(t, buf));
	if (o->base == O_REG) {
		if (type_size(o->rtype) != 8)
			t_error(t, "a handle has 64 bits");
		return reg_slot(t, o->reg);
	}
	if (!o->sym->opaque || !o->sym->placed)
		t_error(t, "'%s' is no texture or surface", o->sym->name);
	return const_slot(t, o->sym->address, 8);
}

/* [object, {layer, x, y, z}]: there may be more than the geometry needs. */
static uint32_t coordinates(struct tr *t, const struct opd *o, struct tex *x, enum ptx_type type)
{
	const struct opd *v = o->items;
	unsigned int first = x->layered;
	struct opd single;

	if (!o->nitems || !v)
		t_error(t, "coordinates expected behind the object");
	if (v->kind != O_VEC) {
		single = (struct opd){ .kind = O_VEC, .items = (struct opd *)v, .nitems = 1 };
		v = &single;
	}
	if (v->nitems < x->dims + first)
		t_error(t, "%u coordinates where %u are needed", v->nitems, x->dims + first);
	if (x->layered)
		x->layer = src(t, &v->items[0], T_U32);
	for (unsigned int i = 0; i < x->dims; i++)
		x->coord[i] = src(t, &v->items[first + i], type);
	return object(t, o);
}

static void values(struct tr *t, const struct opd *o, struct tex *x, unsigned int max, enum ptx_type type, bool from)
{
	const struct opd *items = o->kind == O_VEC ? o->items : o;
	unsigned int n = o->kind == O_VEC ? o->nitems : 1;

	if (max > sizeof(x->value) / sizeof(x->value[0]))
		t_error(t, "%u values are more than a texture or surface instruction has", max);
	if (n != max)
		t_error(t, "%u values where %u are needed", n, max);
	x->nvalues = n;
	for (unsigned int i = 0; i < n; i++)
		x->value[i] = items[i].kind == O_SINK ? NO_VALUE : from ? src(t, &items[i], type) : dst(t, &items[i], type);
}

static void gradient(struct tr *t, const struct opd *o, const struct tex *x, uint32_t out[3])
{
	const struct opd *items = o->kind == O_VEC ? o->items : o;

	if (o->kind == O_VEC && o->nitems < x->dims)
		t_error(t, "a gradient of %u components where %u are needed", o->nitems, x->dims);
	for (unsigned int i = 0; i < x->dims; i++)
		out[i] = src(t, &items[i], T_F32);
}

static void tr_texture(struct tr *t, struct mods *m)
{
	bool gather = t->s->part[0][1] == 'l', level = has(t, "level"), grad = has(t, "grad");
	struct tex *x = geometry(t);
	struct insn *in;
	uint32_t a;
	char buf[96];

	need_ops(t, 2 + level + 2 * grad, 2 + level + 2 * grad);
	if (m->nt != 2 || m->vec != 4 || type_size(m->t[0]) != 4 || (m->t[1] != T_F32 && m->t[1] != T_S32))
		t_error(t, "this form of '%s' is not supported", opcode_text(t, buf));
	x->fetch = m->t[1] == T_S32;
	if ((x->fetch && x->shape == SHAPE_CUBE) || (gather && (x->shape == SHAPE_1D || x->shape == SHAPE_3D)))
		t_error(t, "'%s' does not exist", opcode_text(t, buf));
	values(t, op_at(t, 0), x, 4, m->t[0], false);
	a = coordinates(t, op_at(t, 1), x, m->t[1]);
	if (level) {
		x->has_detail = true;
		x->detail = src(t, op_at(t, 2), m->t[1]);
	}
	if (grad) {
		x->has_gradient = true;
		gradient(t, op_at(t, 2), x, x->dx);
		gradient(t, op_at(t, 3), x, x->dy);
	}
	if (gather)
		x->component = has(t, "g") ? 1 : has(t, "b") ? 2 : has(t, "a") ? 3 : 0;
	in = put_op(t, gather ? "tld4" : "tex", 0, a, 0, 0);
	in->ext = x;
}

static struct tex *surface(struct tr *t, struct mods *m)
{
	struct tex *x = geometry(t);
	char buf[96];

	if (!has(t, "b") || m->nt != 1 || x->shape == SHAPE_CUBE || !type_size(m->t[0]) || type_size(m->t[0]) > 8)
		t_error(t, "this form of '%s' is not supported", opcode_text(t, buf));
	x->mode = has(t, "clamp") ? SURFACE_CLAMP : has(t, "zero") ? SURFACE_ZERO : SURFACE_TRAP;
	x->bytes = (uint8_t)type_size(m->t[0]);
	return x;
}

static enum ptx_type bits(unsigned int bytes)
{
	return bytes == 1 ? T_B8 : bytes == 2 ? T_B16 : bytes == 4 ? T_B32 : T_B64;
}

static void tr_suld(struct tr *t, struct mods *m)
{
	struct tex *x = surface(t, m);
	struct insn *in;
	uint32_t a;

	need_ops(t, 2, 2);
	values(t, op_at(t, 0), x, m->vec ? m->vec : 1, bits(x->bytes), false);
	a = coordinates(t, op_at(t, 1), x, T_S32);
	in = put_op(t, "suld", 0, a, 0, 0);
	in->ext = x;
}

static void tr_sust(struct tr *t, struct mods *m)
{
	struct tex *x = surface(t, m);
	struct insn *in;
	uint32_t a;

	need_ops(t, 2, 2);
	values(t, op_at(t, 1), x, m->vec ? m->vec : 1, bits(x->bytes), true);
	a = coordinates(t, op_at(t, 0), x, T_S32);
	in = put_op(t, "sust", 0, a, 0, 0);
	in->ext = x;
}

static void tr_sured(struct tr *t, struct mods *m)
{
	static const char *const ops[] = { "add", "min", "max", "and", "or" };
	struct tex *x = surface(t, m);
	struct insn *in;
	uint32_t a;
	char buf[96];

	need_ops(t, 2, 2);
	for (x->op = 0; x->op < 5 && !has(t, ops[x->op]); x->op++)
		;
	if (x->op == 5 || x->bytes < 4)
		t_error(t, "this form of '%s' is not supported", opcode_text(t, buf));
	x->is_signed = is_signed(m->t[0]);
	values(t, op_at(t, 1), x, 1, m->t[0], true);
	a = coordinates(t, op_at(t, 0), x, T_S32);
	in = put_op(t, "sured", 0, a, 0, 0);
	in->ext = x;
}

static void tr_query(struct tr *t, struct mods *m)
{
	static const struct {
		const char *word;
		uint8_t asks;
	} all[] = {
		{ "width", ASKS_WIDTH }, { "height", ASKS_HEIGHT }, { "depth", ASKS_DEPTH },
		{ "channel_data_type", ASKS_TYPE }, { "channel_order", ASKS_ORDER },
		{ "normalized_coords", ASKS_NORMALIZED }, { "array_size", ASKS_LAYERS },
		{ "num_mipmap_levels", ASKS_LEVELS }, { "num_samples", ASKS_SAMPLES }, { "memory_layout", ASKS_LAYOUT },
	};
	struct tex *x = t_keep(t, sizeof(*x));
	bool level = has(t, "level");
	struct insn *in;
	unsigned int i;
	uint32_t a;
	char buf[96];

	need_ops(t, 2 + level, 2 + level);
	for (i = 0; i < sizeof(all) / sizeof(all[0]) && !has(t, all[i].word); i++)
		;
	if (i == sizeof(all) / sizeof(all[0]) || m->nt != 1 || type_size(m->t[0]) != 4)
		t_error(t, "this form of '%s' is not supported", opcode_text(t, buf));
	x->asks = all[i].asks;
	values(t, op_at(t, 0), x, 1, T_B32, false);
	a = object(t, op_at(t, 1));
	if (level) {
		x->has_detail = true;
		x->detail = src(t, op_at(t, 2), T_B32);
	}
	in = put_op(t, t->s->part[0][0] == 's' ? "suq" : "txq", 0, a, 0, 0);
	in->ext = x;
}

const struct tr_op tr_tex[] = {
	{ "tex", tr_texture }, { "tld4", tr_texture }, { "txq", tr_query }, { "suq", tr_query }, { "suld", tr_suld },
	{ "sust", tr_sust }, { "sured", tr_sured }, { NULL },
};
