// SPDX-License-Identifier: Apache-2.0
/* The outside of a module: version, target, variables, functions and their directives. */

#include <string.h>

#include "ast.h"
#include "lazy.h"

#define UNSUPPORTED_VERSION 222
#define NO_BINARY 209

static void parse_version(struct parser *p)
{
	uint64_t major, minor = 0;
	const char *s;
	char buf[48];

	lex_next(p);
	if (p->tok.kind != K_F64 && p->tok.kind != K_INT)
		ptx_error(p, p->tok.line, 0, "a number expected after .version, found %s", tok_text(p, buf));
	s = p->tok.s;
	for (major = 0; s < p->tok.s + p->tok.len && *s >= '0' && *s <= '9' && major < 1000; s++)
		major = major * 10 + (*s - '0');
	if (s < p->tok.s + p->tok.len && *s == '.')
		for (s++; s < p->tok.s + p->tok.len && *s >= '0' && *s <= '9' && minor < 1000; s++)
			minor = minor * 10 + (*s - '0');
	p->version = major * 10 + (minor < 10 ? minor : 9);
	if (major > 9 || major < 1)
		ptx_error(p, p->tok.line, UNSUPPORTED_VERSION, "PTX version %llu.%llu is newer than 9.x",
			  (unsigned long long)major, (unsigned long long)minor);
	lex_next(p);
}

static void parse_target(struct parser *p)
{
	do {
		const char *name;

		lex_next(p);
		name = tok_name(p, "a target");
		if (!strncmp(name, "sm_", 3)) {
			uint32_t sm = 0;

			for (name += 3; *name >= '0' && *name <= '9' && sm < 10000; name++)
				sm = sm * 10 + (*name - '0');
			if (sm > 120 || sm < 20)
				ptx_error(p, p->tok.line, NO_BINARY, "target sm_%u: the software GPU runs sm_20 to sm_120", sm);
			p->target = sm;
		}
	} while (tok_is(p, ','));
}

static void skip_braces(struct parser *p)
{
	uint32_t depth = 0;

	do {
		if (p->tok.kind == K_EOF)
			ptx_error(p, p->tok.line, 0, "the text ends inside { }");
		if (tok_is(p, '{'))
			depth++;
		else if (tok_is(p, '}'))
			depth--;
		lex_next(p);
	} while (depth);
}

static struct sym **parse_params(struct parser *p, uint32_t *count)
{
	struct sym **list = NULL;
	uint32_t cap = 0, n = 0;

	while (!tok_is(p, ')')) {
		if (n >= PTX_MAX_PARAMS)
			ptx_error(p, p->tok.line, 0, "more than %d parameters", PTX_MAX_PARAMS);
		list = p_grow(p, list, n, &cap, sizeof(*list));
		list[n++] = parse_param(p, p->scope);
		if (!tok_take(p, ','))
			break;
	}
	tok_expect(p, ')', "after parameters");
	*count = n;
	return list;
}

static uint32_t parse_dims(struct parser *p, uint32_t dim[3], const char *what)
{
	uint64_t product = 1;

	lex_next(p);
	dim[0] = dim[1] = dim[2] = 1;
	for (int i = 0; i < 3; i++) {
		dim[i] = parse_count(p, what, 1 << 20);
		product *= dim[i] ? dim[i] : 1;
		if (!tok_take(p, ','))
			break;
	}
	return product > 0xffffffff ? 0xffffffff : product;
}

static void function_directives(struct parser *p, struct fn *fn)
{
	uint32_t dim[3];
	char buf[48];

	while (p->tok.kind == K_DOT || p->tok.kind == K_ID) {
		if (tok_dot(p, "maxntid")) {
			fn->max_threads = parse_dims(p, dim, ".maxntid");
		} else if (tok_dot(p, "reqntid")) {
			fn->max_threads = parse_dims(p, fn->required, ".reqntid");
		} else if (tok_dot(p, "reqnctapercluster")) {
			if (parse_dims(p, dim, ".reqnctapercluster") > 1)
				ptx_error(p, p->tok.line, 0, "'%s': clusters are not supported by the software GPU",
					  fn->name);
		} else if (tok_dot(p, "minnctapersm") || tok_dot(p, "maxnctapersm") || tok_dot(p, "maxnreg") ||
			   tok_dot(p, "maxclusterrank") || tok_dot(p, "abi_preserve") || tok_dot(p, "abi_preserve_control")) {
			lex_next(p);
			parse_const(p);
		} else if (tok_dot(p, "noreturn")) {
			fn->noreturn = true;
			lex_next(p);
		} else if (tok_dot(p, "unique") || tok_dot(p, "explicitcluster") || tok_dot(p, "blocksareclusters")) {
			lex_next(p);
		} else if (tok_dot(p, "pragma")) {
			while (!tok_is(p, ';') && p->tok.kind != K_EOF)
				lex_next(p);
			tok_expect(p, ';', "after .pragma");
		} else if (tok_dot(p, "loc") || tok_dot(p, "file")) {
			lex_skip_line(p);
			lex_next(p);
		} else {
			ptx_error(p, p->tok.line, 0, "directive %s is not known on a function", tok_text(p, buf));
		}
	}
}

/* `size` of every .param in the list must agree with an earlier declaration */
static void check_again(struct parser *p, const struct fn *fn, struct sym **rets, uint32_t nrets,
			struct sym **params, uint32_t nparams)
{
	bool same = nrets == fn->nrets && nparams == fn->nparams;

	for (uint32_t i = 0; same && i < nrets; i++)
		same = rets[i]->size == fn->rets[i]->size;
	for (uint32_t i = 0; same && i < nparams; i++)
		same = params[i]->size == fn->params[i]->size;
	if (!same)
		ptx_error(p, p->tok.line, 0, "'%s' was declared with other parameters at line %u", fn->name, fn->line);
}

static void parse_function(struct parser *p, bool entry, bool external, bool visible)
{
	struct sym **rets = NULL, **params = NULL, *s;
	uint32_t nrets = 0, nparams = 0, line = p->tok.line;
	const char *name;
	struct fn *fn;

	lex_next(p);
	scope_push(p);
	if (!entry && tok_take(p, '('))
		rets = parse_params(p, &nrets);
	name = tok_name(p, "the name of a function");
	if (tok_take(p, '('))
		params = parse_params(p, &nparams);
	s = sym_here(p, name, 0);
	if (s) {
		if (s->kind != S_FUNC || s->fn->entry != entry)
			ptx_error(p, line, 0, "'%s' is declared twice", name);
		fn = s->fn;
		check_again(p, fn, rets, nrets, params, nparams);
	} else {
		s = sym_add(p, name, 0, S_FUNC);
		fn = s->fn = p_alloc(p, sizeof(*fn));
		fn->name = name;
		fn->entry = entry;
		*p->fns_tail = fn;
		p->fns_tail = &fn->next;
	}
	fn->line = line;
	fn->external |= external;
	fn->visible |= visible;
	if (!fn->defined) {
		fn->params = params;
		fn->nparams = nparams;
		fn->rets = rets;
		fn->nrets = nrets;
	}
	function_directives(p, fn);
	if (tok_is(p, '{')) {
		if (fn->defined)
			ptx_error(p, line, 0, "'%s' is defined twice", name);
		fn->params = params;
		fn->rets = rets;
		fn->defined = true;
		lex_next(p);
		parse_body(p, fn);
	} else {
		tok_expect(p, ';', "after the declaration of a function");
	}
	scope_pop(p);
}

static void parse_alias(struct parser *p)
{
	struct alias *a = p_alloc(p, sizeof(*a));

	a->line = p->tok.line;
	lex_next(p);
	a->name = tok_name(p, "the name of a function");
	tok_expect(p, ',', "after the name of an alias");
	a->target = tok_name(p, "the name of a function");
	tok_expect(p, ';', "after .alias");
	a->next = p->aliases;
	p->aliases = a;
}

static void resolve_aliases(struct parser *p)
{
	for (struct alias *a = p->aliases; a; a = a->next) {
		struct sym *s = sym_here(p, a->name, 0), *t = sym_here(p, a->target, 0);

		if (!s || !t || s->kind != S_FUNC || t->kind != S_FUNC || s->fn->defined || !t->fn->defined ||
		    s->fn->entry != t->fn->entry)
			ptx_error(p, a->line, 0, "'%s' cannot be an alias of '%s'", a->name, a->target);
		s->fn = t->fn;
	}
}

static bool parse_linkage(struct parser *p, bool *external, bool *weak, bool *visible)
{
	if (tok_dot(p, "extern"))
		*external = true;
	else if (tok_dot(p, "weak") || tok_dot(p, "common"))
		*weak = true;
	else if (tok_dot(p, "visible"))
		*visible = true;
	else
		return false;
	lex_next(p);
	return true;
}

static void parse_top(struct parser *p)
{
	bool external = false, weak = false, visible = false;
	enum ptx_space space = SP_NONE;
	char buf[48];

	while (parse_linkage(p, &external, &weak, &visible))
		;
	if (tok_dot(p, "entry") || tok_dot(p, "func")) {
		parse_function(p, tok_dot(p, "entry"), external, visible || weak);
		return;
	}
	if (tok_dot(p, "global"))
		space = SP_GLOBAL;
	else if (tok_dot(p, "const"))
		space = SP_CONST;
	else if (tok_dot(p, "shared"))
		space = SP_SHARED;
	if (space) {
		lex_next(p);
		parse_var_list(p, space, 0, external, weak);
		return;
	}
	if (tok_dot(p, "loc") || tok_dot(p, "file")) {
		lex_skip_line(p);
		lex_next(p);
	} else if (tok_dot(p, "section")) {
		while (!tok_is(p, '{') && p->tok.kind != K_EOF)
			lex_next(p);
		skip_braces(p);
	} else if (tok_dot(p, "alias")) {
		parse_alias(p);
	} else if (tok_dot(p, "pragma")) {
		while (!tok_is(p, ';') && p->tok.kind != K_EOF)
			lex_next(p);
		tok_expect(p, ';', "after .pragma");
	} else if (tok_dot(p, "version")) {
		parse_version(p);
	} else if (tok_dot(p, "target")) {
		parse_target(p);
	} else if (tok_dot(p, "address_size")) {
		lex_next(p);
		if (parse_const(p) != 64)
			ptx_error(p, p->tok.line, 0, "only .address_size 64 is supported");
	} else if (tok_is(p, '@')) {		/* @@DWARF lines of old compilers */
		lex_skip_line(p);
		lex_next(p);
	} else if (!tok_take(p, ';')) {
		ptx_error(p, p->tok.line, 0, "a variable or function expected, found %s", tok_text(p, buf));
	}
}

void parse_begin(struct parser *p)
{
	p->line = 1;
	p->fns_tail = &p->fns;
	scope_push(p);		/* scope 0: the module */
	p->depth = 0;
}

void parse_end(struct parser *p)
{
	if (!p->target)
		ptx_error(p, p->line, 0, "no .target given");
	resolve_aliases(p);
}

void parse_piece(struct parser *p, const char *start, const char *end, uint32_t line)
{
	p->cur = start;
	p->end = end;
	p->line = line;
	lex_next(p);
	while (p->tok.kind != K_EOF)
		parse_top(p);
}

void parse_module(struct parser *p)
{
	parse_begin(p);
	lex_next(p);
	if (!tok_dot(p, "version"))
		ptx_error(p, p->tok.line, 0, "PTX text must begin with .version");
	parse_version(p);
	while (p->tok.kind != K_EOF)
		parse_top(p);
	parse_end(p);
}
