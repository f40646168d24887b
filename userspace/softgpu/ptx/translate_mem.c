// SPDX-License-Identifier: Apache-2.0
/*
 * Moves, addresses, loads, stores, atomics. Keys of memory handlers carry the place: g generic, d device memory
 * (global and const), s shared, l local, p the kernel's parameters, a the frame's parameter area.
 */

#include <stdio.h>

#include "mem.h"
#include "translate.h"

static struct vec *make_vec(struct tr *t, unsigned int n)
{
	struct vec *v = t_keep(t, sizeof(*v));

	v->n = n;
	return v;
}

static bool find_function(struct tr *t, const char *name, uint64_t *address)
{
	struct sym *s = sym_find(t->p, name, 0);

	if (!s || s->kind != S_FUNC || s->fn->entry || !s->fn->defined)
		return false;
	*address = FUNC_ADDRESS(s->fn->index);
	return true;
}

static void tr_pack(struct tr *t, enum ptx_type type, const struct opd *v)
{
	unsigned int size = type_size(type) / v->nitems, rs = size == 1 ? 2 : size;
	struct vec *x = make_vec(t, v->nitems);
	struct insn *in;
	char key[32];

	if (size * v->nitems != type_size(type) || !size)
		t_error(t, "%u elements do not make up a .%s", v->nitems, type_name(type));
	KEY(key, "pack.b%u.b%u", type_size(type) * 8, size * 8);
	for (unsigned int i = 0; i < v->nitems; i++)
		x->slot[i] = src(t, &v->items[i], rs == 2 ? T_B16 : rs == 4 ? T_B32 : T_B64);
	in = put_op(t, key, dst(t, op_at(t, 0), type), x->slot[0], x->n > 1 ? x->slot[1] : 0, 0);
	in->ext = x;
}

static void tr_unpack(struct tr *t, enum ptx_type type, const struct opd *v)
{
	unsigned int size = type_size(type) / v->nitems, rs = size == 1 ? 2 : size;
	struct vec *x = make_vec(t, v->nitems);
	struct insn *in;
	char key[32];
	uint32_t a;

	if (size * v->nitems != type_size(type) || !size)
		t_error(t, "a .%s does not have %u elements", type_name(type), v->nitems);
	KEY(key, "unpack.b%u.b%u", type_size(type) * 8, size * 8);
	a = src(t, op_at(t, 1), type);
	for (unsigned int i = 0; i < v->nitems; i++) {
		const struct opd *o = &v->items[i];

		x->slot[i] = o->kind == O_SINK ? NO_SLOT : dst(t, o, rs == 2 ? T_B16 : rs == 4 ? T_B32 : T_B64);
	}
	in = put_op(t, key, 0, a, 0, 0);
	in->ext = x;
}

static void tr_mov(struct tr *t, struct mods *m)
{
	const struct opd *d = op_at(t, 0), *a = op_at(t, 1);
	enum ptx_type type = m->nt ? m->t[0] : T_NONE;
	uint64_t address;
	uint32_t from;
	char key[16];

	need_ops(t, 2, 2);
	if (!type)
		t_error(t, "mov without a type");
	if (d->kind == O_VEC) {
		tr_unpack(t, type, d);
		return;
	}
	if (a->kind == O_VEC) {
		tr_pack(t, type, a);
		return;
	}
	if (a->kind == O_NAME && find_function(t, a->name, &address)) {
		from = const_slot(t, address, reg_size(type));
	} else if (a->kind == O_SYM && a->sym->space == SP_LOCAL && type_size(type) >= 4) {
		uint32_t to = dst(t, d, type);
		struct insn *in = put(t, ctl_local_address);

		in->d = to;
		in->imm = a->sym->address + a->imm;
		in->x = type_size(type) == 8;
		return;
	} else {
		from = src(t, a, type);
	}
	if (type == T_PRED)
		put_op(t, "mov.pred", dst(t, d, type), from, 0, 0);
	else
		put_op(t, KEY(key, "mov.b%u", reg_size(type) * 8), dst(t, d, type), from, 0, 0);
}

static uint64_t window(enum ptx_space s)
{
	switch (s) {
	case SP_SHARED: return WIN_SHARED;
	case SP_LOCAL: return WIN_LOCAL;
	case SP_PARAM: return WIN_PARAM;
	default: return 0;
	}
}

static void tr_cvta(struct tr *t, struct mods *m)
{
	uint64_t w = window(m->space);
	uint32_t a, d;

	need_ops(t, 2, 2);
	if (m->nt != 1 || type_size(m->t[0]) != 8)
		t_error(t, "only cvta of 64-bit addresses is supported");
	a = src(t, op_at(t, 1), T_U64);
	d = dst(t, op_at(t, 0), T_U64);
	if (!w)
		put_op(t, "mov.b64", d, a, 0, 0);
	else
		put_op(t, has(t, "to") ? "sub.b64" : "add.b64", d, a, const_slot(t, w, 8), 0);
}

static void tr_isspacep(struct tr *t, struct mods *m)
{
	struct insn *in;
	uint32_t a;

	need_ops(t, 2, 2);
	a = src(t, op_at(t, 1), T_U64);
	in = put_op(t, "isspacep", dst(t, op_at(t, 0), T_PRED), a, 0, 0);
	in->imm = window(m->space);
	in->flags = m->space == SP_CONST;
}

static bool kernel_param(struct tr *t, const struct sym *s)
{
	for (uint32_t i = 0; t->fn->entry && i < t->fn->nparams; i++)
		if (t->fn->params[i] == s)
			return true;
	return false;
}

static struct place param_place(struct tr *t, const struct opd *o, unsigned int size)
{
	struct place p = { .imm = o->imm, .flags = F_NOADDR };
	uint32_t limit;

	if (o->base == O_REG) {
		uint32_t to = new_slot(t, 8), reg = reg_slot(t, o->reg);

		if (!t->fn->entry || type_size(o->rtype) != 8)
			t_error(t, "a parameter's address in a register is not supported here");
		put_op(t, "add.b64", to, reg, const_slot(t, WIN_PARAM, 8), 0);
		return (struct place){ 'g', to, 0, o->imm };
	}
	if (o->base != O_SYM || o->sym->space != SP_PARAM)
		t_error(t, "no parameter");
	p.space = kernel_param(t, o->sym) ? 'p' : 'a';
	limit = o->sym->size;
	if (o->imm < 0 || (uint64_t)o->imm + size > limit)
		t_error(t, "access at byte %lld of '%s', which has %u", (long long)o->imm, o->sym->name, limit);
	p.imm += o->sym->address;
	return p;
}

/* Where [operand] is in @space. @size: bytes accessed, for the checks that can be made now. */
struct place place_of(struct tr *t, const struct opd *o, enum ptx_space space, unsigned int size)
{
	struct place p = { .imm = o->imm };
	char buf[96];

	if (o->kind != O_ADDR || o->nitems)
		t_error(t, "'%s' needs an address in [ ]", opcode_text(t, buf));
	switch (space) {
	case SP_PARAM:
		return param_place(t, o, size);
	case SP_GLOBAL: case SP_CONST:
		p.space = 'd';
		break;
	case SP_SHARED:
		p.space = 's';
		break;
	case SP_LOCAL:
		p.space = 'l';
		break;
	default:
		p.space = 'g';
	}
	if (o->base == O_REG) {
		unsigned int n = type_size(o->rtype);

		if (is_float(o->rtype) || (n != 4 && n != 8))
			t_error(t, "a register of type .%s cannot hold an address", type_name(o->rtype));
		p.a = reg_slot(t, o->reg);
		p.flags = n == 4 ? F_ADDR32 : 0;
	} else if (o->base == O_INT) {
		p.flags = F_NOADDR;
	} else if (o->sym->space == SP_LOCAL) {
		struct insn *in = put(t, ctl_local_address);
		struct opd whole = *o;

		if (space != SP_LOCAL && space != SP_NONE)
			t_error(t, "'%s' is local", whole.sym->name);
		in->d = p.a = new_slot(t, 8);
		in->imm = o->sym->address;
		in->x = space == SP_NONE ? 2 : 1;
	} else if (o->sym->space == SP_SHARED && o->sym->dynamic) {
		if (space != SP_SHARED)
			t_error(t, "'%s' is shared", o->sym->name);
		p.a = OPND(BASE_BLOCK, SB_DYN_BASE * WARP * 4u);
		p.flags = F_ADDR32;
	} else {
		struct opd s = { .kind = O_SYM, .sym = o->sym, .imm = o->imm };

		if ((o->sym->space == SP_SHARED) != (space == SP_SHARED) && space != SP_NONE)
			t_error(t, "'%s' is not in this state space", o->sym->name);
		p.flags = F_NOADDR;
		p.imm = (int64_t)sym_address(t, &s, space == SP_NONE);
	}
	return p;
}

static void finish(struct insn *in, const struct place *p)
{
	in->a = p->a;
	in->imm = p->imm;
	in->flags = p->flags;
}

static unsigned int check_access(struct tr *t, struct mods *m)
{
	char buf[96];

	if (m->nt != 1 || m->t[0] == T_PRED)
		t_error(t, "'%s' needs one type", opcode_text(t, buf));
	if (has(t, "L2::cache_hint"))
		need_ops(t, 3, 3);
	else
		need_ops(t, 2, 2);
	return type_size(m->t[0]) * (m->vec ? m->vec : 1);
}

static unsigned int value_size(struct tr *t, const struct opd *o, enum ptx_type type)
{
	unsigned int size = reg_size(type);

	if (o->kind != O_REG)
		return size;
	if (o->rtype == T_PRED || reg_size(o->rtype) < size)
		t_error(t, "a register of type .%s is too small for .%s", type_name(o->rtype), type_name(type));
	return reg_size(o->rtype);
}

/* { %r1 } without .v is a register; compilers that write inline assembly put it so. */
static const struct opd *lone(const struct opd *o, const struct mods *m)
{
	return !m->vec && o->kind == O_VEC && o->nitems == 1 ? &o->items[0] : o;
}

static void tr_ld(struct tr *t, struct mods *m)
{
	unsigned int total = check_access(t, m), size, n = m->vec ? m->vec : 1;
	const struct opd *d = lone(op_at(t, 0), m);
	enum ptx_type type = m->t[0];
	struct place p = place_of(t, op_at(t, 1), m->space, total);
	struct vec *v = NULL;
	struct insn *in;
	char key[48];

	if (m->vec) {
		if (d->kind != O_VEC || d->nitems != n || total > 32)
			t_error(t, "a vector of %u elements expected", n);
		v = make_vec(t, n);
	}
	size = 0;
	for (unsigned int i = 0; i < n; i++) {
		const struct opd *o = v ? &d->items[i] : d;
		unsigned int s = o->kind == O_SINK && size ? size : value_size(t, o, type);

		if (o->kind != O_REG && o->kind != O_SINK)
			t_error(t, "a load needs a register");
		if (size && s != size)
			t_error(t, "registers of different sizes in a vector");
		size = s;
		if (v)
			v->slot[i] = o->kind == O_SINK ? new_slot(t, s) : reg_slot(t, o->reg);
	}
	KEY(key, "ld%s.%c.%c%u.%u", v ? "v" : "", p.space, is_signed(type) && type_size(type) < size ? 's' : 'u',
	    type_size(type) * 8, size * 8);
	in = put_op(t, key, v ? 0 : d->kind == O_SINK ? new_slot(t, size) : reg_slot(t, d->reg), 0, 0, 0);
	finish(in, &p);
	if (v) {
		v->imm = in->imm;
		in->ext = v;
	}
}

static void tr_st(struct tr *t, struct mods *m)
{
	unsigned int total = check_access(t, m), size, n = m->vec ? m->vec : 1;
	const struct opd *a = lone(op_at(t, 1), m);
	enum ptx_type type = m->t[0];
	struct place p = place_of(t, op_at(t, 0), m->space, total);
	struct vec *v = make_vec(t, n);
	struct insn *in;
	char key[48];

	if (m->space == SP_CONST || p.space == 'p')
		t_error(t, "a store to constant memory");
	if (m->vec && (a->kind != O_VEC || a->nitems != n || total > 32))
		t_error(t, "a vector of %u elements expected", n);
	size = 0;
	for (unsigned int i = 0; i < n; i++) {
		const struct opd *o = m->vec ? &a->items[i] : a;

		if (o->kind == O_REG && value_size(t, o, type) > size)
			size = value_size(t, o, type);
	}
	if (!size)
		size = reg_size(type);
	for (unsigned int i = 0; i < n; i++) {
		const struct opd *o = m->vec ? &a->items[i] : a;

		if (o->kind == O_REG) {
			if (value_size(t, o, type) != size)
				t_error(t, "registers of different sizes in a vector");
			v->slot[i] = reg_slot(t, o->reg);
		} else if (o->kind == O_F32 || o->kind == O_F64 || size == reg_size(type)) {
			v->slot[i] = src(t, o, (o->kind == O_INT && type == T_F32) ? T_B32 : type);
		} else {
			v->slot[i] = src(t, o, size == 2 ? T_B16 : size == 4 ? T_B32 : T_B64);
		}
	}
	KEY(key, "st%s.%c.%u.%u", m->vec ? "v" : "", p.space, type_size(type) * 8, size * 8);
	in = put_op(t, key, 0, 0, v->slot[0], 0);
	finish(in, &p);
	if (m->vec) {
		v->imm = in->imm;
		in->ext = v;
	}
}

static const char *atom_op(struct tr *t)
{
	static const char *const ops[] = { "add", "exch", "cas", "min", "max", "inc", "dec", "and", "or", "xor" };

	for (unsigned int k = 0; k < sizeof(ops) / sizeof(ops[0]); k++)
		if (has(t, ops[k]))
			return ops[k];
	t_error(t, "an atomic operation expected");
}

static void tr_atom(struct tr *t, struct mods *m)
{
	bool red = t->s->part[0][0] == 'r';
	const char *op = atom_op(t);
	enum ptx_type type = m->nt == 1 ? m->t[0] : T_NONE, kt = type;
	unsigned int at = red ? 0 : 1, cas = !strcmp(op, "cas"), extra = has(t, "L2::cache_hint");
	struct place p;
	struct insn *in;
	uint32_t d, b, c = 0;
	char key[48], tn[16];

	if (!type || m->vec)
		t_error(t, "this form of '%s' is not supported", t->s->part[0]);
	need_ops(t, at + 2 + cas + extra, at + 2 + cas + extra);
	p = place_of(t, op_at(t, at), m->space, type_size(type));
	if (p.space != 'd' && p.space != 'g' && p.space != 's')
		t_error(t, "an atomic operation on this state space");
	b = src(t, op_at(t, at + 1), type);
	if (cas)
		c = src(t, op_at(t, at + 2), type);
	d = red ? NO_SLOT : op_at(t, 0)->kind == O_SINK ? NO_SLOT : dst(t, op_at(t, 0), type);
	if (is_float(kt) || ((op[0] == 'm') && kt))
		KEY(tn, "%s", type_name(kt));
	else
		KEY(tn, "b%u", type_size(kt) * 8);
	in = put_op(t, KEY(key, "atom.%s.%s", op, tn), d, 0, b, c);
	finish(in, &p);
	if (p.space == 's')
		in->flags |= F_SHARED;
}

static void tr_nothing(struct tr *t, struct mods *m)
{
	put(t, ctl_nop);
}

/* There is no cache to advise: any value is a policy. */
static void tr_policy(struct tr *t, struct mods *m)
{
	need_ops(t, 1, 4);
	put_op(t, "mov.b64", dst(t, op_at(t, 0), T_B64), const_slot(t, 0, 8), 0, 0);
}

const struct tr_op tr_mem[] = {
	{ "mov", tr_mov }, { "cvta", tr_cvta }, { "isspacep", tr_isspacep }, { "ld", tr_ld }, { "ldu", tr_ld },
	{ "st", tr_st }, { "atom", tr_atom }, { "red", tr_atom }, { "prefetch", tr_nothing },
	{ "prefetchu", tr_nothing }, { "discard", tr_nothing }, { "createpolicy", tr_policy }, { "applypriority", tr_nothing }, { NULL },
};
