// SPDX-License-Identifier: Apache-2.0
/* Arithmetic, logic, comparisons. Keys name handlers: operation, rare modifiers, type without needless signs. */

#include <stdio.h>

#include "translate.h"

#define ROUNDED (F_RZ | F_RM | F_RP)

static enum ptx_type type_at(struct tr *t, const struct mods *m, unsigned int i)
{
	char buf[96];

	if (i >= m->nt)
		t_error(t, "'%s' lacks a type", opcode_text(t, buf));
	return m->t[i];
}

static unsigned int bits(enum ptx_type t)
{
	return type_size(t) * 8;
}

static void three(struct tr *t, const char *key, enum ptx_type dt, enum ptx_type at, enum ptx_type bt, uint32_t flags)
{
	uint32_t a, b;

	need_ops(t, 3, 3);
	a = src(t, op_at(t, 1), at);
	b = src(t, op_at(t, 2), bt);
	put_op(t, key, dst(t, op_at(t, 0), dt), a, b, 0)->flags = flags;
}

static void two(struct tr *t, const char *key, enum ptx_type dt, enum ptx_type at, uint32_t flags)
{
	uint32_t a;

	need_ops(t, 2, 2);
	a = src(t, op_at(t, 1), at);
	put_op(t, key, dst(t, op_at(t, 0), dt), a, 0, 0)->flags = flags;
}

static void four(struct tr *t, const char *key, enum ptx_type dt, enum ptx_type at, enum ptx_type bt, enum ptx_type ct,
		 uint32_t flags)
{
	uint32_t a, b, c;

	need_ops(t, 4, 4);
	a = src(t, op_at(t, 1), at);
	b = src(t, op_at(t, 2), bt);
	c = src(t, op_at(t, 3), ct);
	put_op(t, key, dst(t, op_at(t, 0), dt), a, b, c)->flags = flags;
}

/* "add" and a type to the key of a floating-point handler: fast for round-to-nearest, else the general one */
static const char *float_key(char *key, size_t n, const char *op, enum ptx_type type, uint32_t flags)
{
	if (type != T_F32 && type != T_F64)
		snprintf(key, n, "%s.%s", op, type_name(type));
	else if (flags & (ROUNDED | F_SAT | F_RELU))
		snprintf(key, n, "%sx.%s", op, type_name(type));
	else if ((flags & F_FTZ) && type == T_F32)
		snprintf(key, n, "%s.ftz.f32", op);
	else
		snprintf(key, n, "%s.%s", op, type_name(type));
	return key;
}

/* add.u16x2, min.s16x2, fma.rn.f32x2 and the like */
static bool packed(struct tr *t, const struct mods *m)
{
	const char *type = has(t, "s16x2") ? "s16x2" : has(t, "u16x2") ? "u16x2" : has(t, "f32x2") ? "f32x2" : NULL;
	enum ptx_type reg = type && type[0] == 'f' ? T_B64 : T_B32;
	char key[32];

	if (!type)
		return false;
	if (m->flags & ROUNDED)
		t_error(t, "packed arithmetic with directed rounding is not supported");
	KEY(key, "%s.%s", t->s->part[0], type);
	if (t->s->part[0][0] == 'f')
		four(t, key, reg, reg, reg, reg, m->flags);
	else
		three(t, key, reg, reg, reg, m->flags);
	return true;
}

static void tr_addsub(struct tr *t, struct mods *m)
{
	if (packed(t, m))
		return;

	enum ptx_type type = type_at(t, m, 0);
	const char *op = t->s->part[0];
	char key[48];

	if (is_float(type)) {
		float_key(key, sizeof(key), op, type, m->flags);
	} else if (m->flags & F_SAT) {
		KEY(key, "%s.sat.%s", op, type_name(type));
	} else {
		KEY(key, "%s%s.b%u", op, has(t, "cc") ? ".cc" : "", bits(type));
	}
	three(t, key, type, type, type, m->flags);
}

static enum ptx_type widened(struct tr *t, enum ptx_type type)
{
	switch (type) {
	case T_U16: return T_U32;
	case T_S16: return T_S32;
	case T_U32: return T_U64;
	case T_S32: return T_S64;
	default: t_error(t, ".wide does not go with .%s", type_name(type));
	}
}

/* mul, mad, madc, mul24, mad24, fma */
static void tr_mul(struct tr *t, struct mods *m)
{
	if (packed(t, m))
		return;

	enum ptx_type type = type_at(t, m, 0), dt = type;
	const char *op = t->s->part[0], *cc = has(t, "cc") ? ".cc" : "";
	bool mad = op[1] == 'a' || op[0] == 'f';
	char key[48];

	if (is_float(type)) {
		float_key(key, sizeof(key), mad ? "fma" : "mul", type, m->flags);
		if (mad)
			four(t, key, type, type, type, type, m->flags);
		else
			three(t, key, type, type, type, m->flags);
		return;
	}
	if (m->flags & F_SAT)
		t_error(t, ".sat on an integer multiplication is not supported");
	if (has(t, "wide")) {
		dt = widened(t, type);
		KEY(key, "%s.wide.%s", op, type_name(type));
	} else if (has(t, "hi")) {
		KEY(key, "%s.hi%s.%s", op, cc, type_name(type));
	} else if (op[3] == '2') {
		KEY(key, "%s.lo.%s", op, type_name(type));
	} else {
		KEY(key, "%s.lo%s.b%u", op, cc, bits(type));
	}
	if (mad)
		four(t, key, dt, type, type, dt, 0);
	else
		three(t, key, dt, type, type, 0);
}

static void tr_div(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	if (is_float(type))
		float_key(key, sizeof(key), "div", type, m->flags);
	else
		KEY(key, "%s.%s", t->s->part[0], type_name(type));
	three(t, key, type, type, type, m->flags);
}

static void tr_minmax(struct tr *t, struct mods *m)
{
	if (packed(t, m))
		return;

	enum ptx_type type = type_at(t, m, 0);
	const char *op = t->s->part[0];
	bool plain = !(m->flags & (F_FTZ | F_NANP | F_XORSIGN | F_ABS));
	char key[48];

	if (m->flags & F_RELU)
		t_error(t, ".relu is not supported on '%s'", op);
	KEY(key, "%s%s.%s", op, type == T_F32 && !plain ? "x" : "", type_name(type));
	if (t->s->nops == 4) {		/* of three values */
		uint32_t a = src(t, op_at(t, 1), type), b = src(t, op_at(t, 2), type), c = src(t, op_at(t, 3), type);
		uint32_t mid = new_slot(t, reg_size(type));

		put_op(t, key, mid, a, b, 0)->flags = m->flags;
		put_op(t, key, dst(t, op_at(t, 0), type), mid, c, 0)->flags = m->flags;
		return;
	}
	three(t, key, type, type, type, m->flags);
}

static void tr_absneg(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	if (is_float(type))
		KEY(key, "%s%s.%s", t->s->part[0], (m->flags & F_FTZ) && type == T_F32 ? ".ftz" : "", type_name(type));
	else
		KEY(key, "%s.s%u", t->s->part[0], bits(type));
	two(t, key, type, type, m->flags);
}

/* rcp, sqrt: rounded exactly; rsqrt, sin, cos, lg2, ex2, tanh: approximations */
static void tr_unary_float(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	const char *op = t->s->part[0];
	char key[48];

	two(t, float_key(key, sizeof(key), op, type, m->flags), type, type, m->flags);
}

/* popc, clz, bfind: the result has 32 bits whatever the operand */
static void tr_count(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	if (t->s->part[0][0] == 'b')
		KEY(key, "bfind%s.%s", has(t, "shiftamt") ? ".shiftamt" : "", type_name(type));
	else
		KEY(key, "%s.b%u", t->s->part[0], bits(type));
	two(t, key, T_U32, type, 0);
}

static void tr_brev(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	two(t, KEY(key, "brev.b%u", bits(type)), type, type, 0);
}

static void tr_bfe(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	four(t, KEY(key, "bfe.%s", type_name(type)), type, type, T_U32, T_U32, 0);
}

static void tr_bfi(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	struct insn *in;
	uint32_t a, b, c, e;
	char key[48];

	need_ops(t, 5, 5);
	a = src(t, op_at(t, 1), type);
	b = src(t, op_at(t, 2), type);
	c = src(t, op_at(t, 3), T_U32);
	e = src(t, op_at(t, 4), T_U32);
	in = put_op(t, KEY(key, "bfi.b%u", bits(type)), dst(t, op_at(t, 0), type), a, b, c);
	in->e = e;
}

static void tr_logic(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	const char *op = t->s->part[0];
	char key[48];

	if (type == T_PRED)
		KEY(key, "%s.pred", op);
	else
		KEY(key, "%s.b%u", op, bits(type));
	if (op[0] == 'n' || op[0] == 'c')
		two(t, key, type, type, 0);
	else
		three(t, key, type, type, type, 0);
}

static void tr_shift(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	if (t->s->part[0][2] == 'l')
		KEY(key, "shl.b%u", bits(type));
	else
		KEY(key, "shr.%c%u", is_signed(type) ? 's' : 'u', bits(type));
	three(t, key, type, type, T_U32, 0);
}

static void tr_shf(struct tr *t, struct mods *m)
{
	char key[48];

	KEY(key, "shf.%c.%s", has(t, "l") ? 'l' : 'r', has(t, "wrap") ? "wrap" : "clamp");
	four(t, key, T_B32, T_B32, T_B32, T_U32, 0);
}

static void tr_lop3(struct tr *t, struct mods *m)
{
	uint32_t a, b, c;
	struct insn *in;

	need_ops(t, 5, 5);
	if (op_at(t, 4)->kind != O_INT || has(t, "and") || has(t, "or"))
		t_error(t, "this form of lop3 is not supported");
	a = src(t, op_at(t, 1), T_B32);
	b = src(t, op_at(t, 2), T_B32);
	c = src(t, op_at(t, 3), T_B32);
	in = put_op(t, "lop3.b32", dst(t, op_at(t, 0), T_B32), a, b, c);
	in->imm = op_at(t, 4)->imm & 0xff;
}

static void tr_prmt(struct tr *t, struct mods *m)
{
	static const char *const modes[] = { "f4e", "b4e", "rc8", "ecl", "ecr", "rc16" };
	const char *key = "prmt.b32";
	char buf[48];

	for (unsigned int i = 0; i < 6; i++)
		if (has(t, modes[i]))
			key = KEY(buf, "prmt.%s", modes[i]);
	four(t, key, T_B32, T_B32, T_B32, T_B32, 0);
}

static void tr_sad(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	four(t, KEY(key, "sad.%s", type_name(type)), type, type, type, type, 0);
}

static void tr_dp(struct tr *t, struct mods *m)
{
	enum ptx_type at = type_at(t, m, 0), bt = type_at(t, m, 1);
	char key[48];

	KEY(key, "%s%s.%c.%c", t->s->part[0], has(t, "lo") ? ".lo" : has(t, "hi") ? ".hi" : "", is_signed(at) ? 's' : 'u',
	    is_signed(bt) ? 's' : 'u');
	four(t, key, T_B32, T_B32, T_B32, T_B32, 0);
}

static void tr_copysign(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	three(t, KEY(key, "copysign.%s", type_name(type)), type, type, type, 0);
}

static void tr_testp(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	if (t->s->nparts < 3)
		t_error(t, "testp without a property");
	two(t, KEY(key, "testp.%s.%s", t->s->part[1], type_name(type)), T_PRED, type, 0);
}

static void tr_selp(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	char key[48];

	four(t, KEY(key, "selp.b%u", bits(type)), type, type, type, T_PRED, 0);
}

static const char *compare_key(struct tr *t, char *key, size_t n, const char *cmp, enum ptx_type type)
{
	static const char *const u[][2] = { { "lo", "lt" }, { "ls", "le" }, { "hi", "gt" }, { "hs", "ge" } };

	if (is_float(type)) {
		snprintf(key, n, "setp.%s.%s", cmp, type_name(type));
		return key;
	}
	for (unsigned int i = 0; i < 4; i++)
		if (!strcmp(cmp, u[i][0])) {
			snprintf(key, n, "setp.%s.u%u", u[i][1], bits(type));
			return key;
		}
	if (!strcmp(cmp, "eq") || !strcmp(cmp, "ne"))
		snprintf(key, n, "setp.%s.b%u", cmp, bits(type));
	else
		snprintf(key, n, "setp.%s.%c%u", cmp, is_signed(type) ? 's' : 'u', bits(type));
	return key;
}

/* One comparison into a fresh predicate; half: which half of a packed pair, or -1. */
static uint32_t compare(struct tr *t, struct mods *m, enum ptx_type type, int half)
{
	uint32_t a = src(t, op_at(t, 1), type), b = src(t, op_at(t, 2), type), p = new_slot(t, 0);
	char key[48];

	if (is_float(type) && type_size(type) <= 4 && type != T_F32) {
		uint32_t fa = new_slot(t, 4), fb = new_slot(t, 4);

		KEY(key, "cvt.f32.%s%s", type_name(type), half < 0 ? "" : half ? ".hi" : ".lo");
		put_op(t, key, fa, a, 0, 0);
		put_op(t, key, fb, b, 0, 0);
		a = fa;
		b = fb;
		type = T_F32;
	} else if (type == T_F32 && (m->flags & F_FTZ)) {
		uint32_t fa = new_slot(t, 4), fb = new_slot(t, 4);

		put_op(t, "ftz.f32", fa, a, 0, 0);
		put_op(t, "ftz.f32", fb, b, 0, 0);
		a = fa;
		b = fb;
	}
	put_op(t, compare_key(t, key, sizeof(key), t->s->part[1], type), p, a, b, 0);
	return p;
}

static const char *bool_op(struct tr *t)
{
	static const char *const ops[] = { "and", "or", "xor" };

	for (unsigned int i = 0; i < 3; i++)
		if (t->s->nparts > 2 && !strcmp(t->s->part[2], ops[i]))
			return ops[i];
	return NULL;
}

static void combine(struct tr *t, uint32_t d, uint32_t p, const char *op, const struct opd *c)
{
	char key[16];

	if (op)
		put_op(t, KEY(key, "%s.pred", op), d, p, src_pred(t, c), 0);
	else
		put_op(t, "mov.pred", d, p, 0, 0);
}

static void tr_setp(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0);
	const struct opd *d = op_at(t, 0), *q = d->second;
	const char *op = bool_op(t);
	bool packed = type == T_F16X2 || type == T_BF16X2;
	uint32_t p;

	need_ops(t, op ? 4 : 3, op ? 4 : 3);
	if (!op && !q && !packed && !(m->flags & F_FTZ) && type != T_F16 && type != T_BF16) {
		char key[48];

		compare_key(t, key, sizeof(key), t->s->part[1], type);
		three(t, key, T_PRED, type, type, 0);
		return;
	}
	p = compare(t, m, type, packed ? 0 : -1);
	if (packed) {
		uint32_t hi, first = new_slot(t, 0);	/* the third source may be where the first result goes */

		if (!q)
			t_error(t, "a packed comparison needs two predicates");
		hi = compare(t, m, type, 1);
		combine(t, first, p, op, op ? op_at(t, 3) : NULL);
		combine(t, dst(t, q, T_PRED), hi, op, op ? op_at(t, 3) : NULL);
		put_op(t, "mov.pred", dst(t, d, T_PRED), first, 0, 0);
		return;
	}
	if (q) {
		uint32_t not = new_slot(t, 0), first = new_slot(t, 0);

		put_op(t, "not.pred", not, p, 0, 0);
		combine(t, first, p, op, op ? op_at(t, 3) : NULL);
		combine(t, dst(t, q, T_PRED), not, op, op ? op_at(t, 3) : NULL);
		put_op(t, "mov.pred", dst(t, d, T_PRED), first, 0, 0);
		return;
	}
	combine(t, dst(t, d, T_PRED), p, op, op ? op_at(t, 3) : NULL);
}

static uint64_t truth(enum ptx_type type)
{
	switch (type) {
	case T_F32: return 0x3f800000;
	case T_F16: case T_F16X2: return 0x3c00;
	case T_BF16: case T_BF16X2: return 0x3f80;
	default: return ~0ull;
	}
}

static void tr_set(struct tr *t, struct mods *m)
{
	enum ptx_type dt = type_at(t, m, 0), type = type_at(t, m, 1);
	bool packed = type == T_F16X2 || type == T_BF16X2;
	const char *op = bool_op(t);
	uint32_t p[2], part[2];
	char key[16];

	need_ops(t, op ? 4 : 3, op ? 4 : 3);
	for (int i = 0; i < (packed ? 2 : 1); i++) {
		uint32_t c = compare(t, m, type, packed ? i : -1);

		p[i] = new_slot(t, 0);
		combine(t, p[i], c, op, op ? op_at(t, 3) : NULL);
	}
	if (!packed) {
		unsigned int size = reg_size(dt);

		put_op(t, KEY(key, "selp.b%u", size * 8), dst(t, op_at(t, 0), dt), const_slot(t, truth(dt), size),
		       const_slot(t, 0, size), p[0]);
		return;
	}
	for (int i = 0; i < 2; i++) {
		part[i] = new_slot(t, 2);
		put_op(t, "selp.b16", part[i], const_slot(t, truth(dt), 2), const_slot(t, 0, 2), p[i]);
	}
	put_op(t, "pack.b32.b16", dst(t, op_at(t, 0), dt), part[0], part[1], 0);
}

static void tr_slct(struct tr *t, struct mods *m)
{
	enum ptx_type type = type_at(t, m, 0), ct = type_at(t, m, 1);
	uint32_t a, b, c, p = new_slot(t, 0);
	char key[16];

	need_ops(t, 4, 4);
	a = src(t, op_at(t, 1), type);
	b = src(t, op_at(t, 2), type);
	c = src(t, op_at(t, 3), ct);
	if (ct == T_F32 && (m->flags & F_FTZ)) {	/* -0 is not below 0 */
		uint32_t flushed = new_slot(t, 4);

		put_op(t, "ftz.f32", flushed, c, 0, 0);
		c = flushed;
	}
	put_op(t, ct == T_F32 ? "setp.ge.f32" : "setp.ge.s32", p, c, const_slot(t, 0, 4), 0);
	put_op(t, KEY(key, "selp.b%u", bits(type)), dst(t, op_at(t, 0), type), a, b, p);
}

static const char *cvt_name(enum ptx_type t, char buf[8])
{
	if (is_float(t) || is_signed(t))
		snprintf(buf, 8, "%s", type_name(t));
	else
		snprintf(buf, 8, "u%u", bits(t));
	return buf;
}

/* The source register may be wider than the type. */
static uint32_t src_narrow(struct tr *t, const struct opd *o, enum ptx_type type)
{
	unsigned int size = reg_size(type);
	uint32_t to;
	char key[32];

	if (o->kind != O_REG || o->rtype == T_PRED || reg_size(o->rtype) <= size)
		return src(t, o, type);
	to = new_slot(t, size);
	put_op(t, KEY(key, "cvt.u%u.u%u", size * 8, reg_size(o->rtype) * 8), to, reg_slot(t, o->reg), 0, 0);
	return to;
}

static void tr_cvt(struct tr *t, struct mods *m)
{
	if (cvt_small(t, m))
		return;

	enum ptx_type dt = type_at(t, m, 0), st = type_at(t, m, 1);
	const struct opd *d = op_at(t, 0);
	uint32_t a, to, flags = m->flags;
	char key[48], dn[8], sn[8];

	if (dt == T_F16X2 || dt == T_BF16X2) {	/* two values into the halves, the first above */
		if (st != T_F32)
			t_error(t, "this conversion to .%s is not supported", type_name(dt));
		three(t, KEY(key, "cvt.%s.f32", type_name(dt)), dt, st, st, flags);
		return;
	}
	need_ops(t, 2, 2);
	if (is_float(dt) && !is_float(st) && (flags & F_RINT))
		t_error(t, "integer rounding does not go with a .%s result", type_name(dt));
	if (dt == T_B128 || st == T_B128 || dt == T_PRED || st == T_PRED || st == T_F16X2 || st == T_BF16X2)
		t_error(t, "this conversion is not supported");
	a = src_narrow(t, op_at(t, 1), st);
	to = d->kind == O_REG && reg_size(d->rtype) > reg_size(dt) && d->rtype != T_PRED ? new_slot(t, reg_size(dt)) :
											      dst(t, d, dt);
	cvt_name(dt, dn);
	cvt_name(st, sn);
	if (is_float(dt) && !is_float(st))
		KEY(key, "cvt%s.%s.%s", flags & (ROUNDED | F_SAT) ? "x" : "", dn, sn);
	else if (!is_float(dt) && is_float(st))
		KEY(key, "cvt%s.%s.%s", (flags & ROUNDED) == F_RZ && !(flags & F_FTZ) ? ".rzi" :
		    !(flags & ROUNDED) && !(flags & F_FTZ) ? ".rni" : "x", dn, sn);
	else if (is_float(dt))
		KEY(key, "cvt%s.%s.%s", flags & (ROUNDED | F_SAT | F_FTZ | F_RINT | F_RELU | F_RNA) ? "x" : "", dn, sn);
	else
		KEY(key, "cvt%s.%s.%s", flags & F_SAT ? ".sat" : "", dn, sn);
	put_op(t, key, to, a, 0, 0)->flags = flags;
	if (d->kind == O_REG && reg_size(d->rtype) > reg_size(dt)) {
		char sign = is_signed(dt) ? 's' : 'u';

		KEY(key, "cvt.%c%u.%c%u", sign, reg_size(d->rtype) * 8, sign, reg_size(dt) * 8);
		put_op(t, key, reg_slot(t, d->reg), to, 0, 0);
	}
}

const struct tr_op tr_arith[] = {
	{ "add", tr_addsub }, { "sub", tr_addsub }, { "addc", tr_addsub }, { "subc", tr_addsub },
	{ "mul", tr_mul }, { "mad", tr_mul }, { "madc", tr_mul }, { "mul24", tr_mul }, { "mad24", tr_mul },
	{ "fma", tr_mul }, { "div", tr_div }, { "rem", tr_div }, { "min", tr_minmax }, { "max", tr_minmax },
	{ "abs", tr_absneg }, { "neg", tr_absneg }, { "rcp", tr_unary_float }, { "sqrt", tr_unary_float },
	{ "rsqrt", tr_unary_float }, { "sin", tr_unary_float }, { "cos", tr_unary_float }, { "lg2", tr_unary_float },
	{ "ex2", tr_unary_float }, { "tanh", tr_unary_float }, { "popc", tr_count }, { "clz", tr_count },
	{ "bfind", tr_count }, { "brev", tr_brev }, { "bfe", tr_bfe }, { "bfi", tr_bfi }, { "and", tr_logic },
	{ "or", tr_logic }, { "xor", tr_logic }, { "not", tr_logic }, { "cnot", tr_logic }, { "shl", tr_shift },
	{ "shr", tr_shift }, { "shf", tr_shf }, { "lop3", tr_lop3 }, { "prmt", tr_prmt }, { "sad", tr_sad },
	{ "dp4a", tr_dp }, { "dp2a", tr_dp }, { "copysign", tr_copysign }, { "testp", tr_testp }, { "selp", tr_selp },
	{ "setp", tr_setp }, { "set", tr_set }, { "slct", tr_slct }, { "cvt", tr_cvt }, { NULL },
};
