// SPDX-License-Identifier: Apache-2.0
/* Types, constant expressions, variables with their initialisers, parameters. */

#include <string.h>

#include "ast.h"

#define MAX_VAR_BYTES (1ull << 40)

static const struct {
	const char *name;
	uint8_t size;
} types[] = {
	[T_NONE] = { "", 0 },	   [T_PRED] = { "pred", 1 },  [T_B8] = { "b8", 1 },	  [T_B16] = { "b16", 2 },
	[T_B32] = { "b32", 4 },	   [T_B64] = { "b64", 8 },    [T_B128] = { "b128", 16 },  [T_U8] = { "u8", 1 },
	[T_U16] = { "u16", 2 },	   [T_U32] = { "u32", 4 },    [T_U64] = { "u64", 8 },	  [T_S8] = { "s8", 1 },
	[T_S16] = { "s16", 2 },	   [T_S32] = { "s32", 4 },    [T_S64] = { "s64", 8 },	  [T_F16] = { "f16", 2 },
	[T_F16X2] = { "f16x2", 4 }, [T_BF16] = { "bf16", 2 }, [T_BF16X2] = { "bf16x2", 4 }, [T_F32] = { "f32", 4 },
	[T_F64] = { "f64", 8 },
};

enum ptx_type type_of(const char *s, size_t len)
{
	for (unsigned int i = 1; i < sizeof(types) / sizeof(types[0]); i++)
		if (strlen(types[i].name) == len && !memcmp(types[i].name, s, len))
			return i;
	return T_NONE;
}

uint32_t type_size(enum ptx_type t)
{
	return types[t].size;
}

const char *type_name(enum ptx_type t)
{
	return types[t].name;
}

/* Constant expressions, by precedence climbing. */
static int precedence(struct parser *p)
{
	if (p->tok.kind != K_PUNCT)
		return 0;
	switch (p->tok.punct) {
	case '*': case '/': case '%': return 6;
	case '+': case '-': return 5;
	case 'L': case 'R': return 4;
	case '&': return 3;
	case '^': return 2;
	case '|': return 1;
	default: return 0;
	}
}

static int64_t expression(struct parser *p, int min);

static int64_t unary(struct parser *p)
{
	int64_t v;
	char buf[48];

	if (p->depth >= PTX_MAX_DEPTH)
		ptx_error(p, p->tok.line, 0, "expression nested more than %d deep", PTX_MAX_DEPTH);
	p->depth++;
	if (tok_take(p, '-')) {
		v = (int64_t)(0 - (uint64_t)unary(p));
	} else if (tok_take(p, '+')) {
		v = unary(p);
	} else if (tok_take(p, '~')) {
		v = ~unary(p);
	} else if (tok_take(p, '!')) {
		v = !unary(p);
	} else if (tok_take(p, '(')) {
		if (tok_dot(p, "s64") || tok_dot(p, "u64")) {
			lex_next(p);
			tok_expect(p, ')', "after a cast");
			v = unary(p);
		} else {
			v = expression(p, 1);
			tok_expect(p, ')', "after an expression");
		}
	} else if (p->tok.kind == K_INT) {
		v = (int64_t)p->tok.value;
		lex_next(p);
	} else {
		ptx_error(p, p->tok.line, 0, "constant expected, found %s", tok_text(p, buf));
	}
	p->depth--;
	return v;
}

static int64_t apply(struct parser *p, char op, int64_t a, int64_t b)
{
	uint64_t x = a, y = b;

	switch (op) {
	case '*': return x * y;
	case '+': return x + y;
	case '-': return x - y;
	case 'L': return x << (y & 63);
	case 'R': return x >> (y & 63);
	case '&': return x & y;
	case '^': return x ^ y;
	case '|': return x | y;
	default:
		if (!y)
			ptx_error(p, p->tok.line, 0, "division by zero in a constant");
		if (b == -1)
			return op == '/' ? (int64_t)(0 - x) : 0;
		return op == '/' ? a / b : a % b;
	}
}

static int64_t expression(struct parser *p, int min)
{
	int64_t v = unary(p);
	int prec;

	while ((prec = precedence(p)) >= min && prec) {
		char op = p->tok.punct;

		lex_next(p);
		v = apply(p, op, v, expression(p, prec + 1));
	}
	return v;
}

int64_t parse_const(struct parser *p)
{
	return expression(p, 1);
}

uint64_t parse_count(struct parser *p, const char *what, uint64_t max)
{
	uint32_t line = p->tok.line;
	int64_t v = parse_const(p);

	if (v < 0 || (uint64_t)v > max)
		ptx_error(p, line, 0, "%s %lld is out of range (0 to %llu)", what, (long long)v,
			  (unsigned long long)max);
	return v;
}

static uint32_t parse_align(struct parser *p)
{
	uint64_t a;

	lex_next(p);
	if (p->tok.kind != K_INT)
		ptx_error(p, p->tok.line, 0, "a number expected after .align");
	a = p->tok.value;
	if (!a || a > 65536 || (a & (a - 1)))
		ptx_error(p, p->tok.line, 0, "alignment %llu is not a power of two", (unsigned long long)a);
	lex_next(p);
	return a;
}

static void parse_attribute(struct parser *p, bool *managed)
{
	lex_next(p);
	tok_expect(p, '(', "after .attribute");
	while (!tok_take(p, ')')) {
		if (p->tok.kind == K_EOF)
			ptx_error(p, p->tok.line, 0, "the text ends inside .attribute");
		if (tok_dot(p, "managed"))
			*managed = true;
		if (tok_is(p, '(')) {
			while (!tok_is(p, ')') && p->tok.kind != K_EOF)
				lex_next(p);
			if (p->tok.kind != K_EOF)
				lex_next(p);
			continue;
		}
		lex_next(p);
	}
}

struct writer {
	struct sym *v;
	uint32_t width;
	uint64_t at, cap;
};

static void put(struct parser *p, struct writer *w, uint64_t value)
{
	struct sym *v = w->v;

	if (w->at + w->width > w->cap) {
		if (v->size && w->at + w->width > v->size)
			ptx_error(p, p->tok.line, 0, "more initial values than '%s' has room for", v->name);
		uint64_t cap = w->cap ? w->cap * 2 : 64;
		uint8_t *d;

		if (v->size && cap > v->size)
			cap = v->size;
		d = p_alloc(p, cap);
		if (v->data)
			memcpy(d, v->data, w->at);
		v->data = d;
		w->cap = cap;
	}
	/* the upper half of a .b128 stays zero */
	memcpy(v->data + w->at, &value, w->width < sizeof(value) ? w->width : sizeof(value));
	w->at += w->width;
	v->data_len = w->at;
}

/* name, generic(name), 0xFF00(name), each with + or - a constant */
static void put_address(struct parser *p, struct writer *w, bool mask, uint64_t mask_bits)
{
	struct init *in = p_alloc(p, sizeof(*in));
	const char *name = mask ? NULL : tok_name(p, "the name of a variable");

	in->line = p->tok.line;
	in->width = w->width;
	in->at = w->at;
	in->mask = mask;
	if (mask) {
		if (!mask_bits || w->width != 1)
			ptx_error(p, in->line, 0, "a mask of an address needs one byte of it");
		in->mask_shift = __builtin_ctzll(mask_bits) & ~7;
		lex_next(p);	/* ( */
		name = tok_name(p, "the name of a variable");
	}
	if (!strcmp(name, "generic") && tok_take(p, '(')) {
		in->generic = true;
		name = tok_name(p, "the name of a variable");
		if (tok_is(p, '+') || tok_is(p, '-')) {
			bool minus = tok_is(p, '-');

			lex_next(p);
			in->add = (int64_t)(minus ? 0 - (uint64_t)unary(p) : (uint64_t)unary(p));
		}
		tok_expect(p, ')', "after generic(");
	}
	if (tok_is(p, '+') || tok_is(p, '-')) {
		bool minus = tok_is(p, '-');
		uint64_t add;

		lex_next(p);
		add = unary(p);
		in->add = (int64_t)((uint64_t)in->add + (minus ? 0 - add : add));
	}
	if (mask)
		tok_expect(p, ')', "after the address");
	in->name = name;
	in->next = w->v->inits;
	w->v->inits = in;
	put(p, w, 0);
}

static void put_float(struct parser *p, struct writer *w, bool minus)
{
	bool single = p->tok.kind == K_F32;
	uint64_t bits = p->tok.value;
	double d;
	float f;

	if (single) {
		uint32_t b = bits;

		memcpy(&f, &b, 4);
		d = f;
	} else {
		memcpy(&d, &bits, 8);
		f = (float)d;
	}
	if (w->width == 4) {
		uint32_t b;

		f = minus ? -f : f;
		memcpy(&b, &f, 4);
		bits = b;
	} else {
		d = minus ? -d : d;
		memcpy(&bits, &d, 8);
	}
	lex_next(p);
	put(p, w, bits);
}

static void put_value(struct parser *p, struct writer *w)
{
	if (tok_take(p, '{')) {
		if (p->depth >= PTX_MAX_DEPTH)
			ptx_error(p, p->tok.line, 0, "initialiser nested more than %d deep", PTX_MAX_DEPTH);
		p->depth++;
		while (!tok_is(p, '}')) {
			put_value(p, w);
			if (!tok_take(p, ','))
				break;
		}
		p->depth--;
		tok_expect(p, '}', "after initial values");
		return;
	}
	if (p->tok.kind == K_ID) {
		put_address(p, w, false, 0);
		return;
	}
	if (p->tok.kind == K_INT) {
		struct parser save = *p;
		uint64_t bits = p->tok.value;

		lex_next(p);
		if (tok_is(p, '(')) {
			put_address(p, w, true, bits);
			return;
		}
		p->cur = save.cur;
		p->line = save.line;
		p->tok = save.tok;
	}
	bool minus = false;

	if (tok_is(p, '-')) {
		struct parser save = *p;

		lex_next(p);
		minus = p->tok.kind == K_F32 || p->tok.kind == K_F64;
		if (!minus) {
			p->cur = save.cur;
			p->line = save.line;
			p->tok = save.tok;
		}
	}
	if (p->tok.kind == K_F32 || p->tok.kind == K_F64)
		put_float(p, w, minus);
	else
		put(p, w, parse_const(p));
}

/* A texture, sampler or surface of the module: a variable that holds the name of an object. */
static bool opaque(struct parser *p)
{
	return tok_dot(p, "texref") || tok_dot(p, "samplerref") || tok_dot(p, "surfref");
}

/* Attributes, type and name; *lanes gets the .v2/.v4 multiplier. */
static struct sym *declarator(struct parser *p, uint32_t scope, enum ptx_space space, struct sym *like)
{
	bool managed = false, is_opaque = like && like->opaque;
	uint32_t align = 0, lanes = 1;
	enum ptx_type type = T_NONE;
	const char *name;
	struct sym *v;
	char buf[48];

	if (like) {
		managed = like->managed;
		align = like->align;
		type = like->type;
	}
	while (p->tok.kind == K_DOT) {
		if (opaque(p)) {
			if (space != SP_GLOBAL)
				ptx_error(p, p->tok.line, 0, "%s is supported as a variable of the module only",
					  tok_text(p, buf));
			type = T_U64;
			is_opaque = true;
			lex_next(p);
			continue;
		}
		if (tok_dot(p, "align")) {
			align = parse_align(p);
			continue;
		}
		if (tok_dot(p, "attribute")) {
			parse_attribute(p, &managed);
			continue;
		}
		if (tok_dot(p, "v2") || tok_dot(p, "v4")) {
			lanes = p->tok.s[2] - '0';
		} else if (type_of(p->tok.s + 1, p->tok.len - 1)) {
			type = type_of(p->tok.s + 1, p->tok.len - 1);
		} else if (space == SP_PARAM && (tok_dot(p, "ptr") || tok_dot(p, "global") || tok_dot(p, "const") ||
						 tok_dot(p, "shared") || tok_dot(p, "local") || tok_dot(p, "param"))) {
			/* .ptr .space .align: what the pointer points to, a hint; its alignment is not ours */
			bool ptr = tok_dot(p, "ptr");

			lex_next(p);
			if (ptr && p->tok.kind == K_DOT && !tok_dot(p, "align"))
				lex_next(p);
			if (tok_dot(p, "align"))
				parse_align(p);
			continue;
		} else {
			ptx_error(p, p->tok.line, 0, "%s is not a type or attribute of a variable", tok_text(p, buf));
		}
		lex_next(p);
	}
	if (type == T_NONE || type == T_PRED)
		ptx_error(p, p->tok.line, 0, "a type expected before %s", tok_text(p, buf));
	name = tok_name(p, "the name of a variable");
	v = sym_here(p, name, scope);
	if (v && strcmp(name, "_")) {
		if (v->kind != S_VAR || scope || !v->external)
			ptx_error(p, p->tok.line, 0, "'%s' is declared twice", name);
	} else {
		v = sym_add(p, name, scope, S_VAR);
	}
	v->space = space;
	v->type = type;
	v->managed |= managed;
	v->opaque |= is_opaque;
	v->align = align > type_size(type) * lanes ? align : align ? align : type_size(type) * lanes;
	v->size = (uint64_t)type_size(type) * lanes;
	return v;
}

static void dimensions(struct parser *p, struct sym *v)
{
	bool any = false, open = false;

	while (tok_take(p, '[')) {
		if (tok_take(p, ']')) {
			if (any)
				ptx_error(p, p->tok.line, 0, "only the first dimension of '%s' may be left out", v->name);
			open = any = true;
			continue;
		}
		uint64_t n = parse_count(p, "dimension", MAX_VAR_BYTES);

		if (__builtin_mul_overflow(v->size, n, &v->size) || v->size > MAX_VAR_BYTES)
			ptx_error(p, p->tok.line, 0, "'%s' is larger than any memory", v->name);
		any = true;
		tok_expect(p, ']', "after a dimension");
	}
	if (open) {
		v->dynamic = true;
		v->size = 0;
	}
}

static struct sym *finish_var(struct parser *p, struct sym *v, bool external, bool weak)
{
	dimensions(p, v);
	v->weak |= weak;
	v->external = external;
	if (tok_take(p, '=')) {
		struct writer w = { .v = v, .width = type_size(v->type) };

		if (v->space != SP_GLOBAL && v->space != SP_CONST)
			ptx_error(p, p->tok.line, 0, "'%s' cannot have an initial value in its state space", v->name);
		put_value(p, &w);
		if (!v->size)
			v->size = w.at;
		v->dynamic = false;
		v->external = false;
	}
	if (v->dynamic && v->space != SP_SHARED && v->space != SP_PARAM && !external)
		ptx_error(p, v->line, 0, "'%s' has no size", v->name);
	return v;
}

struct sym *parse_var(struct parser *p, enum ptx_space space, uint32_t scope, bool external, bool weak)
{
	return finish_var(p, declarator(p, scope, space, NULL), external, weak);
}

void parse_var_list(struct parser *p, enum ptx_space space, uint32_t scope, bool external, bool weak)
{
	struct sym *v = NULL;

	/* each is also listed where its space is laid out: module variables or the function's locals */
	do {
		v = finish_var(p, declarator(p, scope, space, v), external, weak);
		if (p->fn) {
			p->fn->locals = p_grow(p, p->fn->locals, p->fn->nlocals, &p->fn->clocals, sizeof(v));
			p->fn->locals[p->fn->nlocals++] = v;
		}
		if (!p->fn || space == SP_GLOBAL || space == SP_CONST) {
			bool seen = false;

			if (v->referenced)
				seen = true;
			v->referenced = true;
			if (!seen) {
				p->vars = p_grow(p, p->vars, p->nvars, &p->cvars, sizeof(v));
				p->vars[p->nvars++] = v;
			}
		}
	} while (tok_take(p, ','));
	tok_expect(p, ';', "after a variable");
}

/* After `.param`: one formal parameter. `.reg .b32 x` formals come here too, with the space set by the caller. */
struct sym *parse_param(struct parser *p, uint32_t scope)
{
	enum ptx_space space = SP_PARAM;
	struct sym *v;

	if (tok_dot(p, "reg"))
		ptx_error(p, p->tok.line, 0, "parameters in registers are not supported: use .param");
	if (!tok_dot(p, "param"))
		ptx_error(p, p->tok.line, 0, ".param expected");
	lex_next(p);
	v = parse_var(p, space, scope, false, false);
	if (v->size > PTX_MAX_PARAM_BYTES)
		ptx_error(p, p->tok.line, 0, "parameter '%s' is larger than %u bytes", v->name, PTX_MAX_PARAM_BYTES);
	return v;
}
