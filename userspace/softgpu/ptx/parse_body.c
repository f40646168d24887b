// SPDX-License-Identifier: Apache-2.0
/* The inside of a function: declarations, labels, instructions and their operands. */

#include <stdlib.h>
#include <string.h>

#include "ast.h"

static void parse_operand(struct parser *p, struct opd *o);

/* "%r12" against `.reg .b32 %r<20>`, or a register declared by its whole name; innermost scope first. */
bool reg_find(struct parser *p, const char *name, uint32_t scope, uint32_t *number)
{
	size_t len = strlen(name), n = len;
	const char *prefix = NULL;
	uint64_t index = 0;

	while (n && name[n - 1] >= '0' && name[n - 1] <= '9' && len - n < 8)
		n--;
	if (n < len && n && (name[n] != '0' || n + 1 == len)) {
		prefix = p_intern(p, name, n);
		index = strtoull(name + n, NULL, 10);
	}
	for (;; scope = p->scope_parent[scope]) {
		struct sym *s = sym_here(p, name, scope);

		if (s && s->kind != S_REGS)
			return false;
		if (s && !s->count) {
			*number = s->first;
			return true;
		}
		s = prefix ? sym_here(p, prefix, scope) : NULL;
		if (s && s->kind == S_REGS && s->count && index < s->count) {
			*number = s->first + index;
			return true;
		}
		if (!scope)
			return false;
	}
}

static void parse_reg_decl(struct parser *p)
{
	struct fn *fn = p->fn;
	enum ptx_type type = T_NONE;
	char buf[48];

	while (p->tok.kind == K_DOT) {
		type = type_of(p->tok.s + 1, p->tok.len - 1);
		if (!type)
			ptx_error(p, p->tok.line, 0, "%s is not a type of register", tok_text(p, buf));
		lex_next(p);
	}
	if (!type)
		ptx_error(p, p->tok.line, 0, "a type expected after .reg");
	do {
		const char *name = tok_name(p, "the name of a register");
		uint64_t count = 0, n;
		struct sym *s;

		if (tok_take(p, '<')) {
			count = parse_count(p, "number of registers", PTX_MAX_REGS);
			tok_expect(p, '>', "after the number of registers");
			if (!count)
				continue;
		}
		n = count ? count : 1;
		if (sym_here(p, name, p->scope))
			ptx_error(p, p->tok.line, 0, "'%s' is declared twice", name);
		if (n > PTX_MAX_REGS - fn->nregs)
			ptx_error(p, p->tok.line, 0, "more than %u registers in one function", PTX_MAX_REGS);
		s = sym_add(p, name, p->scope, S_REGS);
		s->first = fn->nregs;
		s->count = count;
		s->type = type;
		if (fn->nregs + n > fn->cregs) {
			uint32_t cap = (fn->nregs + n) * 2;
			uint8_t *t = p_alloc(p, cap);

			if (fn->nregs)
				memcpy(t, fn->reg_type, fn->nregs);
			fn->reg_type = t;
			fn->cregs = cap;
		}
		memset(fn->reg_type + fn->nregs, type, n);
		fn->nregs += n;
	} while (tok_take(p, ','));
	tok_expect(p, ';', "after registers");
}

static void note_symbol(struct parser *p, struct sym *s)
{
	struct fn *fn = p->fn;

	if (s->space != SP_SHARED || s->scope)
		return;
	for (uint32_t i = 0; i < fn->nshared_refs; i++)
		if (fn->shared_refs[i] == s)
			return;
	fn->shared_refs = p_grow(p, fn->shared_refs, fn->nshared_refs, &fn->cshared_refs, sizeof(s));
	fn->shared_refs[fn->nshared_refs++] = s;
}

static int64_t parse_offset(struct parser *p)
{
	int64_t v = 0;

	while (tok_is(p, '+') || tok_is(p, '-')) {
		bool minus = tok_is(p, '-');
		uint64_t n;

		lex_next(p);
		if (tok_is(p, '-')) {	/* %r1+-4 */
			lex_next(p);
			minus = !minus;
		}
		if (p->tok.kind != K_INT)
			ptx_error(p, p->tok.line, 0, "a constant expected in an address");
		n = p->tok.value;
		lex_next(p);
		v = (int64_t)((uint64_t)v + (minus ? 0 - n : n));
	}
	return v;
}

/* A word: register, special register, variable, or something known only at the end (label, function). */
static void parse_word(struct parser *p, struct opd *o)
{
	struct tok first = p->tok;
	const char *name = tok_name(p, "an operand");
	struct sym *s;

	if (!strcmp(name, "_")) {
		o->kind = O_SINK;
		return;
	}
	if (reg_find(p, name, p->scope, &o->reg)) {
		o->kind = O_REG;
		o->rtype = p->fn->reg_type[o->reg];
		if (p->tok.kind == K_DOT)
			ptx_error(p, p->tok.line, 0, "vector registers are not supported");
		return;
	}
	if (name[0] == '%' || !strcmp(name, "WARP_SZ")) {
		char full[64];

		if (!strcmp(name, "WARP_SZ")) {
			o->kind = O_INT;
			o->imm = 32;
			return;
		}
		if (p->tok.kind == K_DOT && first.len + p->tok.len < sizeof(full)) {
			memcpy(full, first.s, first.len);
			memcpy(full + first.len, p->tok.s, p->tok.len);
			full[first.len + p->tok.len] = 0;
			lex_next(p);
			name = p_intern(p, full, strlen(full));
		}
		o->special = special_find(name);
		if (o->special == SPECIAL_NONE)
			ptx_error(p, first.line, 0, "'%s' is neither a declared register nor a known special register",
				  name);
		o->kind = O_SPECIAL;
		return;
	}
	s = sym_find(p, name, p->scope);
	if (s && s->kind == S_VAR) {
		o->kind = O_SYM;
		o->sym = s;
		note_symbol(p, s);
		return;
	}
	o->kind = O_NAME;
	o->name = name;
}

static void parse_address(struct parser *p, struct opd *o)
{
	struct opd w = { 0 };

	if (p->tok.kind == K_INT || tok_is(p, '-')) {
		o->base = O_INT;
		o->imm = parse_const(p);
	} else {
		parse_word(p, &w);
		if (w.kind != O_REG && w.kind != O_SYM)
			ptx_error(p, p->tok.line, 0, "an address must be a register, a variable or a constant%s%s",
				  w.name ? ": unknown name " : "", w.name ? w.name : "");
		o->base = w.kind;
		o->reg = w.reg;
		o->rtype = w.rtype;
		o->sym = w.sym;
		o->imm = parse_offset(p);
	}
	o->kind = O_ADDR;
	if (tok_take(p, ',')) {
		if (p->lists >= PTX_MAX_LISTS)
			ptx_error(p, p->tok.line, 0, "operands nested more than %d deep", PTX_MAX_LISTS);
		p->lists++;
		o->items = p_alloc(p, sizeof(*o->items));
		parse_operand(p, o->items);
		o->nitems = 1;
		p->lists--;
	}
	tok_expect(p, ']', "after an address");
}

static void parse_items(struct parser *p, struct opd *o, char close)
{
	struct opd items[PTX_MAX_OPERANDS];
	uint32_t n = 0;

	if (p->lists >= PTX_MAX_LISTS)
		ptx_error(p, p->tok.line, 0, "operands nested more than %d deep", PTX_MAX_LISTS);
	p->lists++;
	while (!tok_is(p, close)) {
		if (n >= PTX_MAX_OPERANDS)
			ptx_error(p, p->tok.line, 0, "more than %d operands", PTX_MAX_OPERANDS);
		parse_operand(p, &items[n++]);
		if (!tok_take(p, ','))
			break;
	}
	p->lists--;
	tok_expect(p, close, "after operands");
	o->items = p_alloc(p, n * sizeof(*items) + 1);
	memcpy(o->items, items, n * sizeof(*items));
	o->nitems = n;
}

static void parse_operand(struct parser *p, struct opd *o)
{
	*o = (struct opd){ 0 };
	if (tok_take(p, '{')) {
		o->kind = O_VEC;
		parse_items(p, o, '}');
		if (o->nitems < 1 || o->nitems > PTX_MAX_VEC)
			ptx_error(p, p->tok.line, 0, "a vector of %u elements", o->nitems);
		return;
	}
	if (tok_take(p, '(')) {
		o->kind = O_LIST;
		parse_items(p, o, ')');
		return;
	}
	if (tok_take(p, '[')) {
		parse_address(p, o);
		return;
	}
	if (tok_take(p, '!')) {
		parse_word(p, o);
		o->neg = true;
		return;
	}
	if (p->tok.kind == K_F32 || p->tok.kind == K_F64) {
		o->kind = p->tok.kind == K_F32 ? O_F32 : O_F64;
		o->imm = p->tok.value;
		lex_next(p);
		return;
	}
	if (tok_is(p, '-')) {
		const char *cur = p->cur;
		struct tok tok = p->tok;
		uint32_t line = p->line;

		lex_next(p);
		if (p->tok.kind == K_F32 || p->tok.kind == K_F64) {
			o->kind = p->tok.kind == K_F32 ? O_F32 : O_F64;
			o->imm = (int64_t)(p->tok.value ^ (o->kind == O_F32 ? 1ull << 31 : 1ull << 63));
			lex_next(p);
			return;
		}
		p->cur = cur;
		p->tok = tok;
		p->line = line;
	}
	if (p->tok.kind != K_ID) {
		o->kind = O_INT;
		o->imm = parse_const(p);
		return;
	}
	parse_word(p, o);
	if (o->kind == O_SYM || o->kind == O_REG)
		o->imm = o->kind == O_SYM ? parse_offset(p) : 0;
	if (tok_take(p, '|')) {
		o->second = p_alloc(p, sizeof(*o));
		parse_word(p, o->second);
	}
}

static struct stmt *new_stmt(struct parser *p)
{
	struct fn *fn = p->fn;
	struct stmt *s;

	fn->stmts = p_grow(p, fn->stmts, fn->nstmts, &fn->cstmts, sizeof(*fn->stmts));
	s = &fn->stmts[fn->nstmts++];
	memset(s, 0, sizeof(*s));
	s->line = p->tok.line;
	s->scope = p->scope;
	return s;
}

static void parse_instruction(struct parser *p)
{
	struct stmt s = { .line = p->tok.line, .scope = p->scope };
	struct opd ops[16];
	uint32_t n = 0;
	char buf[48];

	if (tok_take(p, '@')) {
		struct opd g = { 0 };

		s.guarded = true;
		s.guard_neg = tok_take(p, '!');
		parse_word(p, &g);
		if (g.kind != O_REG || g.rtype != T_PRED)
			ptx_error(p, s.line, 0, "a predicate register expected after '@'");
		s.guard = g.reg;
	}
	s.line = p->tok.line;
	s.part[s.nparts++] = tok_name(p, "an instruction");
	while (p->tok.kind == K_DOT) {
		if (s.nparts >= PTX_MAX_PARTS)
			ptx_error(p, s.line, 0, "too many modifiers on '%s'", s.part[0]);
		s.part[s.nparts++] = p_intern(p, p->tok.s + 1, p->tok.len - 1);
		lex_next(p);
	}
	while (!tok_is(p, ';')) {
		if (n >= sizeof(ops) / sizeof(ops[0]))
			ptx_error(p, s.line, 0, "too many operands of '%s'", s.part[0]);
		parse_operand(p, &ops[n++]);
		/* call (ret), f, (args) and the like may leave the comma out after a list */
		if (!tok_take(p, ',') && !(ops[n - 1].kind == O_LIST && !tok_is(p, ';')))
			break;
	}
	if (!tok_is(p, ';'))
		ptx_error(p, p->tok.line, 0, "';' expected after '%s', found %s", s.part[0], tok_text(p, buf));
	lex_next(p);
	s.ops = p_alloc(p, n * sizeof(*ops) + 1);
	memcpy(s.ops, ops, n * sizeof(*ops));
	s.nops = n;
	*new_stmt(p) = s;
}

static void skip_statement(struct parser *p)
{
	while (!tok_is(p, ';')) {
		if (p->tok.kind == K_EOF)
			ptx_error(p, p->tok.line, 0, "the text ends inside a statement");
		lex_next(p);
	}
	lex_next(p);
}

/* name: label, .branchtargets or .callprototype; false if it is none of them (then nothing was consumed). */
static bool parse_label(struct parser *p)
{
	struct tok tok = p->tok;
	const char *cur = p->cur, *name;
	uint32_t line = p->line;
	struct sym *s;

	name = tok_name(p, "a label or instruction");
	if (!tok_is(p, ':')) {
		p->tok = tok;
		p->cur = cur;
		p->line = line;
		return false;
	}
	lex_next(p);
	if (sym_here(p, name, p->scope))
		ptx_error(p, tok.line, 0, "label '%s' is declared twice", name);
	s = sym_add(p, name, p->scope, S_LABEL);
	s->fn = p->fn;
	if (tok_dot(p, "branchtargets")) {
		uint32_t cap = 0;

		s->kind = S_TARGETS;
		lex_next(p);
		do {
			s->targets = p_grow(p, s->targets, s->ntargets, &cap, sizeof(*s->targets));
			s->targets[s->ntargets++] = tok_name(p, "a label");
		} while (tok_take(p, ','));
		tok_expect(p, ';', "after .branchtargets");
	} else if (tok_dot(p, "callprototype") || tok_dot(p, "calltargets")) {
		s->kind = S_PROTO;
		skip_statement(p);
	} else {
		new_stmt(p)->label = s;
	}
	return true;
}

static void parse_directive(struct parser *p)
{
	char buf[48];

	if (tok_dot(p, "loc") || tok_dot(p, "file")) {
		lex_skip_line(p);
		lex_next(p);
	} else if (tok_dot(p, "reg")) {
		lex_next(p);
		parse_reg_decl(p);
	} else if (tok_dot(p, "local")) {
		lex_next(p);
		parse_var_list(p, SP_LOCAL, p->scope, false, false);
	} else if (tok_dot(p, "shared")) {
		lex_next(p);
		parse_var_list(p, SP_SHARED, p->scope, false, false);
	} else if (tok_dot(p, "param")) {
		lex_next(p);
		parse_var_list(p, SP_PARAM, p->scope, false, false);
	} else if (tok_dot(p, "global") || tok_dot(p, "const")) {
		enum ptx_space sp = tok_dot(p, "global") ? SP_GLOBAL : SP_CONST;

		lex_next(p);
		parse_var_list(p, sp, p->scope, false, false);
	} else if (tok_dot(p, "pragma")) {
		skip_statement(p);
	} else {
		ptx_error(p, p->tok.line, 0, "directive %s is not known inside a function", tok_text(p, buf));
	}
}

void parse_body(struct parser *p, struct fn *fn)
{
	uint32_t level = 0;
	char buf[48];

	p->fn = fn;
	for (;;) {
		if (tok_is(p, '{')) {
			scope_push(p);
			lex_next(p);
			level++;
		} else if (tok_is(p, '}')) {
			lex_next(p);
			if (!level--)
				break;
			scope_pop(p);
		} else if (tok_is(p, ';')) {
			lex_next(p);
		} else if (p->tok.kind == K_DOT) {
			parse_directive(p);
		} else if (tok_is(p, '@') || p->tok.kind == K_ID) {
			if (tok_is(p, '@') || !parse_label(p))
				parse_instruction(p);
		} else {
			ptx_error(p, p->tok.line, 0, "an instruction expected in '%s', found %s", fn->name,
				  tok_text(p, buf));
		}
	}
	p->fn = NULL;
}
