// SPDX-License-Identifier: Apache-2.0
/* A function: places for registers and constants, operands, labels, and the walk over statements. */

#include <stdio.h>
#include <stdlib.h>

#include "translate.h"

void t_error(struct tr *t, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ptx_error(t->p, t->s ? t->s->line : t->fn->line, 0, "%s", text);
}

void *t_keep(struct tr *t, size_t size)
{
	void *m = arena_alloc(&t->m->arena, size);

	if (!m)
		ptx_error(t->p, t->s ? t->s->line : t->fn->line, 2, "not enough memory for this module");
	return m;
}

bool is_float(enum ptx_type t)
{
	return t >= T_F16;
}

bool is_signed(enum ptx_type t)
{
	return t >= T_S8 && t <= T_S64;
}

const char *opcode_text(struct tr *t, char buf[96])
{
	size_t n = 0;

	for (unsigned int i = 0; i < t->s->nparts && n < 90; i++)
		n += snprintf(buf + n, 96 - n, "%s%s", i ? "." : "", t->s->part[i]);
	return buf;
}

bool has(struct tr *t, const char *word)
{
	for (unsigned int i = 1; i < t->s->nparts; i++)
		if (!strcmp(t->s->part[i], word))
			return true;
	return false;
}

void need_ops(struct tr *t, unsigned int min, unsigned int max)
{
	char buf[96];

	if (t->s->nops < min || t->s->nops > max)
		t_error(t, "'%s' has %u operands", opcode_text(t, buf), t->s->nops);
}

const struct opd *op_at(struct tr *t, unsigned int i)
{
	char buf[96];

	if (i >= t->s->nops)
		t_error(t, "'%s' lacks an operand", opcode_text(t, buf));
	return &t->s->ops[i];
}

/* 8-bit values live in 16-bit registers. */
unsigned int reg_size(enum ptx_type type)
{
	unsigned int n = type_size(type);

	return type == T_PRED ? 0 : n == 1 ? 2 : n;
}

/* @size bytes per lane; 0: a predicate */
uint32_t new_slot(struct tr *t, unsigned int size)
{
	uint32_t at;

	if (!size) {
		if (t->pred_at == t->pred_end) {
			t->pred_at = t->frame;
			t->pred_end = t->frame += 64;
		}
		at = t->pred_at;
		t->pred_at += 4;
		return OPND(BASE_FRAME, at);
	}
	at = t->frame;
	t->frame += size * WARP;
	if (t->frame > MAX_FRAME_BYTES)
		t_error(t, "'%s' uses too many registers", t->fn->name);
	return OPND(BASE_FRAME, at);
}

uint32_t const_slot(struct tr *t, uint64_t value, unsigned int size)
{
	uint32_t h, at, bytes = size ? size * WARP : 64;
	uint64_t hash;

	if (size && size < 8)
		value &= (1ull << size * 8) - 1;
	if (t->const_count * 2 >= t->const_cap) {
		uint32_t cap = t->const_cap ? t->const_cap * 2 : 64, *old = t->const_hash;
		uint32_t old_cap = t->const_cap;

		t->const_hash = p_alloc(t->p, cap * 4);
		t->const_cap = cap;
		for (uint32_t i = 0; i < old_cap; i++) {
			if (!old[i])
				continue;
			uint64_t v;

			/* each constant carries its value and size in front of its lanes */
			memcpy(&v, t->consts + (old[i] & ~63u) - 64, 8);
			hash = (v + (old[i] & 63)) * 0x9e3779b97f4a7c15ull;
			for (h = hash >> 40; t->const_hash[h & (cap - 1)]; h++)
				;
			t->const_hash[h & (cap - 1)] = old[i];
		}
	}
	hash = (value + size) * 0x9e3779b97f4a7c15ull;
	for (h = hash >> 40; t->const_hash[h & (t->const_cap - 1)]; h++) {
		uint32_t e = t->const_hash[h & (t->const_cap - 1)];
		uint64_t v;

		memcpy(&v, t->consts + (e & ~63u) - 64, 8);
		if ((e & 63) == size && v == value)
			return OPND(BASE_CONST, e & ~63u);
	}
	if (t->nconsts + 64 + bytes > t->cconsts) {
		uint32_t cap = (t->nconsts + 64 + bytes) * 2;
		uint8_t *c;

		if (cap > MAX_CONST_BYTES)
			t_error(t, "'%s' uses too many constants", t->fn->name);
		c = p_alloc(t->p, cap);
		if (t->nconsts)
			memcpy(c, t->consts, t->nconsts);
		t->consts = c;
		t->cconsts = cap;
	}
	memcpy(t->consts + t->nconsts, &value, 8);
	at = t->nconsts + 64;
	for (unsigned int i = 0; i < WARP && size; i++)
		memcpy(t->consts + at + i * size, &value, size < 8 ? size : 8);
	if (!size) {
		uint32_t m = value ? ALL_LANES : 0;

		memcpy(t->consts + at, &m, 4);
	}
	t->nconsts = at + ((bytes + 63) & ~63u);
	t->const_hash[h & (t->const_cap - 1)] = at | size;
	t->const_count++;
	return OPND(BASE_CONST, at);
}

uint32_t reg_slot(struct tr *t, uint32_t reg)
{
	if (t->slot[reg] == NO_SLOT) {
		t->slot[reg] = new_slot(t, reg_size(t->fn->reg_type[reg]));
		t->out->registers++;
	}
	return t->slot[reg];
}

static uint32_t float_const(struct tr *t, const struct opd *o, enum ptx_type type)
{
	unsigned int size = type_size(type);
	double d;
	float f;
	uint32_t b = (uint32_t)o->imm;

	if (size == 4) {
		if (o->kind == O_F64) {
			memcpy(&d, &o->imm, 8);
			f = (float)d;
			memcpy(&b, &f, 4);
		}
		return const_slot(t, b, 4);
	}
	if (size == 8) {
		uint64_t v = o->imm;

		if (o->kind == O_F32) {
			memcpy(&f, &b, 4);
			d = f;
			memcpy(&v, &d, 8);
		}
		return const_slot(t, v, 8);
	}
	t_error(t, "a floating-point constant where .%s is expected", type_name(type));
}

uint32_t special_src(struct tr *t, const struct opd *o, unsigned int size)
{
	const struct special *s = &ptx_specials[o->special];
	uint32_t at, wide = s->wide ? 8 : 4;

	if (s->kind == SK_TIME) {
		struct insn *in = put(t, ctl_time);

		at = new_slot(t, wide);
		in->d = at;
		in->flags = s->index;
		in->x = s->wide;
	} else {
		at = OPND(s->kind == SK_WARP ? BASE_WARP : BASE_BLOCK, s->index * WARP * 4u);
	}
	if (size == 0) {
		uint32_t p = new_slot(t, 0);

		put_op(t, "setp.ne.b32", p, at, const_slot(t, 0, 4), 0);
		return p;
	}
	if (size != wide) {
		uint32_t to = new_slot(t, size);
		char key[32];

		put_op(t, KEY(key, "cvt.u%u.u%u", size * 8, wide * 8), to, at, 0, 0);
		return to;
	}
	return at;
}

/* What the address of a variable is in its state space, or as a generic address. */
uint64_t sym_address(struct tr *t, const struct opd *o, bool generic)
{
	struct sym *s = o->sym;

	switch (s->space) {
	case SP_GLOBAL: case SP_CONST:
		if (!s->placed)
			t_error(t, "variable '%s' is declared but not defined", s->name);
		return s->address + o->imm;
	case SP_SHARED:
		return s->address + o->imm + (generic ? WIN_SHARED : 0);
	default:
		t_error(t, "the address of '%s' cannot be used here", s->name);
	}
}

static uint32_t sym_src(struct tr *t, const struct opd *o, unsigned int size)
{
	struct sym *s = o->sym;
	uint32_t to;

	if (s->space == SP_LOCAL) {
		struct insn *in = put(t, ctl_local_address);

		to = new_slot(t, size);
		in->d = to;
		in->imm = s->address + o->imm;
		in->x = size == 8;
		return to;
	}
	if (s->space == SP_SHARED && s->dynamic) {
		uint32_t base = OPND(BASE_BLOCK, SB_DYN_BASE * WARP * 4u);

		if (size == 8) {
			to = new_slot(t, 8);
			put_op(t, "cvt.u64.u32", to, base, 0, 0);
			base = to;
		}
		if (!o->imm)
			return base;
		to = new_slot(t, size);
		put_op(t, size == 8 ? "add.b64" : "add.b32", to, base, const_slot(t, o->imm, size), 0);
		return to;
	}
	if (s->space == SP_PARAM) {
		if (!t->fn->entry)
			t_error(t, "the address of parameter '%s' cannot be taken in a function", s->name);
		return const_slot(t, s->address + o->imm, size);
	}
	return const_slot(t, sym_address(t, o, false), size);
}

uint32_t src_pred(struct tr *t, const struct opd *o)
{
	if (o->kind == O_INT)
		return const_slot(t, o->imm != 0, 0);
	if (o->kind == O_SPECIAL)
		return special_src(t, o, 0);
	if (o->kind != O_REG || o->rtype != T_PRED)
		t_error(t, "a predicate expected");
	if (o->neg) {
		uint32_t to = new_slot(t, 0);

		put_op(t, "not.pred", to, reg_slot(t, o->reg), 0, 0);
		return to;
	}
	return reg_slot(t, o->reg);
}

uint32_t src(struct tr *t, const struct opd *o, enum ptx_type type)
{
	unsigned int size = reg_size(type);
	char buf[96];

	if (type == T_PRED)
		return src_pred(t, o);
	switch (o->kind) {
	case O_REG:
		if (reg_size(o->rtype) != size)
			t_error(t, "a register of type .%s where '%s' expects .%s", type_name(o->rtype),
				opcode_text(t, buf), type_name(type));
		return reg_slot(t, o->reg);
	case O_INT:
		if (type == T_F32 || type == T_F64)
			t_error(t, "an integer constant where '%s' expects .%s", opcode_text(t, buf), type_name(type));
		return const_slot(t, o->imm, size);
	case O_F32: case O_F64:
		return float_const(t, o, type);
	case O_SPECIAL:
		return special_src(t, o, size);
	case O_SYM:
		if (size < 4)
			t_error(t, "an address does not fit .%s", type_name(type));
		return sym_src(t, o, size);
	case O_NAME:
		t_error(t, "unknown name '%s'", o->name);
	default:
		t_error(t, "'%s' does not take this kind of operand", opcode_text(t, buf));
	}
}

uint32_t dst(struct tr *t, const struct opd *o, enum ptx_type type)
{
	char buf[96];

	if (o->kind == O_SINK)
		return new_slot(t, reg_size(type));
	if (o->kind != O_REG || o->neg)
		t_error(t, "'%s' needs a register for its result%s%s", opcode_text(t, buf),
			o->kind == O_NAME ? ", not " : "", o->kind == O_NAME ? o->name : "");
	if (reg_size(o->rtype) != reg_size(type) || (o->rtype == T_PRED) != (type == T_PRED))
		t_error(t, "a register of type .%s for the .%s result of '%s'", type_name(o->rtype), type_name(type),
			opcode_text(t, buf));
	return reg_slot(t, o->reg);
}

struct insn *put(struct tr *t, handler_fn *fn)
{
	struct insn *in;

	t->code = p_grow(t->p, t->code, t->n, &t->cap, sizeof(*t->code));
	in = &t->code[t->n++];
	memset(in, 0, sizeof(*in));
	in->fn = fn;
	in->line = t->s ? t->s->line : t->fn->line;
	return in;
}

struct insn *put_op(struct tr *t, const char *key, uint32_t d, uint32_t a, uint32_t b, uint32_t c)
{
	handler_fn *fn = ptx_op_find(key);
	struct insn *in;
	char buf[96];

	if (!fn)
		t_error(t, "unknown or unsupported instruction '%s'", opcode_text(t, buf));
	in = put(t, fn);
	in->d = d;
	in->a = a;
	in->b = b;
	in->c = c;
	return in;
}

void fix_label(struct tr *t, uint32_t insn, const char *label, const struct insn **at)
{
	t->fixups = p_grow(t->p, t->fixups, t->nfixups, &t->cfixups, sizeof(*t->fixups));
	t->fixups[t->nfixups++] = (struct fixup){ insn, label, t->s->scope, t->s->line, at };
}

static const struct tr_op *find_op(const char *name)
{
	static const struct tr_op *const tables[] = { tr_arith, tr_mem, tr_ctl, tr_async, tr_simd, tr_mma_ops, tr_tex };

	for (unsigned int i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct tr_op *o = tables[i]; o->name; o++)
			if (!strcmp(o->name, name))
				return o;
	return NULL;
}

static void statement(struct tr *t)
{
	const struct stmt *s = t->s;
	const struct tr_op *op = find_op(s->part[0]);
	struct mods m;
	uint32_t at, guard;
	char buf[96];

	if (!op)
		t_error(t, "unknown or unsupported instruction '%s'", opcode_text(t, buf));
	m = mods_of(t);
	if (!s->guarded || !strcmp(s->part[0], "bra")) {
		op->fn(t, &m);
		return;
	}
	guard = reg_slot(t, s->guard);
	at = t->n;
	put(t, ctl_guard)->a = guard;
	op->fn(t, &m);
	t->code[at].flags = s->guard_neg ? F_NEG : 0;
	if (op->control || t->n != at + 2) {
		/* it may wait or end, or it became several: branch around it */
		t->code[at].fn = ctl_brap;
		t->code[at].flags ^= F_NEG;
		put(t, ctl_join);
		t->code[at].imm = t->n - 1;	/* insn index, made a pointer at the end */
		t->code[at].x = 1;
	}
}

static bool falls_through(struct tr *t)
{
	handler_fn *last = t->n ? t->code[t->n - 1].fn : NULL;

	return last && last != ctl_bra && last != ctl_brap && last != ctl_ret && last != ctl_exit && last != ctl_brx &&
	       last != ctl_join;
}

static void place_locals(struct tr *t)
{
	uint32_t local = 0, area = 0;
	struct fn *fn = t->fn;

	for (uint32_t i = 0; i < fn->nrets + fn->nparams; i++) {
		struct sym *s = i < fn->nrets ? fn->rets[i] : fn->params[i - fn->nrets];
		struct slot *slot;

		if (s->dynamic)
			t_error(t, "'%s' takes a variable number of parameters, which is not supported", fn->name);
		area = (area + s->align - 1) & ~(s->align - 1);
		s->address = area;
		s->placed = true;
		slot = i < fn->nrets ? &t->out->rets[i] : &t->out->args[i - fn->nrets];
		slot->offset = area;
		slot->size = s->size;
		area += s->size;
		if (area > (fn->entry ? PTX_MAX_PARAM_BYTES : 1u << 20))
			t_error(t, "the parameters of '%s' take more than %u bytes", fn->name,
				fn->entry ? PTX_MAX_PARAM_BYTES : 1u << 20);
	}
	if (fn->entry)
		area = 0;	/* a kernel's parameters are in the launch, not in the frame */
	for (uint32_t i = 0; i < fn->nlocals; i++) {
		struct sym *s = fn->locals[i];
		uint32_t *at = s->space == SP_LOCAL ? &local : s->space == SP_PARAM ? &area : NULL;

		if (s->space == SP_SHARED && !s->dynamic) {
			uint64_t a = ((uint64_t)t->shared + s->align - 1) & ~(uint64_t)(s->align - 1);

			if (a + s->size > PTX_MAX_SHARED)
				t_error(t, "'%s' does not fit shared memory", s->name);
			s->address = a;
			t->shared = a + s->size;
			s->placed = true;
		}
		if (!at)
			continue;
		if (s->size > 1u << 24 || *at > 1u << 24)
			t_error(t, "'%s' is too large", s->name);
		*at = (*at + s->align - 1) & ~(s->align - 1);
		s->address = *at;
		s->placed = true;
		*at += s->size;
	}
	if (area > 1u << 20)
		t_error(t, "the parameters of calls in '%s' take more than 1 MiB", fn->name);
	t->out->area = (area + 15) & ~15u;
	t->out->local_bytes = (local + 15) & ~15u;
}

static void resolve(struct tr *t)
{
	for (uint32_t i = 0; i < t->out->ninsns; i++)
		if ((t->out->code[i].fn == ctl_brap || t->out->code[i].fn == ctl_bra) && t->out->code[i].x)
			t->out->code[i].target = t->out->code + t->out->code[i].imm;
	for (uint32_t i = 0; i < t->nfixups; i++) {
		struct fixup *f = &t->fixups[i];
		struct sym *l = sym_find(t->p, f->label, f->scope);

		if (!l || l->kind != S_LABEL || l->fn != t->fn)
			ptx_error(t->p, f->line, 0, "branch to '%s', which is no label of '%s'", f->label, t->fn->name);
		if (f->at)
			*f->at = t->out->code + l->stmt;
		else
			t->out->code[f->insn].target = t->out->code + l->stmt;
	}
}

/* t->fn to its insns, in the ptx_func made beforehand so that calls can refer to it. */
struct ptx_func *translate(struct tr *t)
{
	struct fn *fn = t->fn;
	struct ptx_func *out = t->out = fn->code;

	t->slot = p_alloc(t->p, (fn->nregs + 1) * sizeof(*t->slot));
	memset(t->slot, 0xff, fn->nregs * sizeof(*t->slot));
	place_locals(t);
	for (uint32_t i = 0; i < fn->nstmts; i++) {
		t->s = &fn->stmts[i];
		if (t->s->label) {
			if (falls_through(t))
				put(t, ctl_join);
			/* a join in front of a label belongs to it: whoever jumps there meets whoever waits */
			t->s->label->stmt = t->n;
			continue;
		}
		statement(t);
	}
	t->s = NULL;
	put(t, ctl_ret);
	order_blocks(t);
	out->ninsns = t->n;
	out->code = t_keep(t, (size_t)t->n * sizeof(*out->code));
	memcpy(out->code, t->code, (size_t)t->n * sizeof(*out->code));
	out->frame_bytes = (t->frame + 63) & ~63u;
	out->const_bytes = t->nconsts;
	out->consts = (uint8_t *)(((uintptr_t)t_keep(t, t->nconsts + 128) + 63) & ~(uintptr_t)63);
	if (t->nconsts)
		memcpy(out->consts, t->consts, t->nconsts);
	resolve(t);
	return out;
}
