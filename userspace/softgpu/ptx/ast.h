/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parser makes of PTX text: symbols, and functions as lists of statements. It lives in one arena that is
 * dropped when the module has been translated.
 *
 *	lex.c		tokens
 *	arena.c		memory, names, the symbol table
 *	parse.c		module level: targets, functions
 *	parse_var.c	variables, parameters, initialisers, constant expressions
 *	parse_body.c	statements and operands
 */
#ifndef SOFTGPU_PTX_AST_H
#define SOFTGPU_PTX_AST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptx.h"

/* Limits on what one text may ask for; far above what compilers emit. */
#define PTX_MAX_SCOPES	  (1u << 20)
#define PTX_MAX_DEPTH	  64		/* nested { } and expressions */
#define PTX_MAX_REGS	  (1u << 20)	/* per function */
#define PTX_MAX_OPERANDS  128
#define PTX_MAX_LISTS	  3
#define PTX_MAX_PARAMS	  4096		/* parameters of a function */
#define PTX_MAX_PARAM_BYTES 32764
#define PTX_MAX_PARTS	  12		/* opcode.a.b.c */
#define PTX_MAX_VEC	  8
#define PTX_MAX_SHARED	  (1u << 30)

struct arena_block;
struct arena {
	struct arena_block *blocks;
	size_t total, limit;
};
void *arena_alloc(struct arena *a, size_t size);	/* zeroed; NULL when memory is short */
void arena_free(struct arena *a);

enum ptx_type {
	T_NONE, T_PRED, T_B8, T_B16, T_B32, T_B64, T_B128, T_U8, T_U16, T_U32, T_U64, T_S8, T_S16, T_S32, T_S64,
	T_F16, T_F16X2, T_BF16, T_BF16X2, T_F32, T_F64,
};

enum ptx_space { SP_NONE, SP_REG, SP_GLOBAL, SP_CONST, SP_SHARED, SP_LOCAL, SP_PARAM };

enum sym_kind { S_REGS, S_VAR, S_FUNC, S_LABEL, S_TARGETS, S_PROTO };

struct init {			/* an address in an initialiser */
	struct init *next;
	uint64_t at;		/* byte offset in the variable */
	const char *name;
	int64_t add;
	uint8_t width, mask_shift;
	bool mask, generic;
	uint32_t line;
};

struct fn;

struct sym {
	const char *name;
	uint8_t kind, space, type;
	bool external, managed, opaque, dynamic;	/* dynamic: extern .shared x[] */
	bool weak;
	uint32_t align, line, scope;
	uint64_t size;
	/* registers */
	uint32_t first, count;		/* numbers; count 0: no <n>, a single register */
	/* variables */
	uint8_t *data;			/* initial contents or NULL */
	uint64_t data_len;
	struct init *inits;
	uint64_t address;		/* placed: device address or offset in its space */
	bool placed, referenced;
	/* labels, functions */
	struct fn *fn;
	uint32_t stmt;
	const char **targets;
	uint32_t ntargets;
	struct sym *next;
};

enum opd_kind { O_NONE, O_REG, O_INT, O_F32, O_F64, O_SYM, O_NAME, O_VEC, O_ADDR, O_SPECIAL, O_SINK, O_LIST };

struct opd {
	uint8_t kind;
	bool neg;			/* !p */
	uint8_t base;			/* O_ADDR: O_REG, O_SYM, O_INT or O_SPECIAL */
	uint8_t rtype;			/* O_REG: declared type */
	uint32_t reg;			/* O_REG (or address base): register number in the function */
	uint32_t special;
	int64_t imm;			/* value, float bits, or offset */
	struct sym *sym;
	const char *name;		/* O_NAME: label or function, found at translation */
	struct opd *items;		/* O_VEC, O_LIST; O_ADDR of a texture: its coordinates */
	uint32_t nitems;
	struct opd *second;		/* p|q */
};

struct stmt {
	const char *part[PTX_MAX_PARTS];	/* NULL part[0]: a label, in sym */
	uint8_t nparts;
	bool guarded, guard_neg;
	uint32_t guard;
	uint32_t line, scope;
	struct opd *ops;
	uint32_t nops;
	struct sym *label;
};

struct fn {
	const char *name;
	bool entry, defined, noreturn, external, visible;
	uint32_t line, index;
	struct sym **params, **rets;
	uint32_t nparams, nrets;
	uint32_t max_threads, required[3];
	struct stmt *stmts;
	uint32_t nstmts, cstmts;
	uint8_t *reg_type;		/* per register number */
	uint32_t nregs, cregs;
	struct sym **locals;		/* .local and .param declared inside, and .shared of the body */
	uint32_t nlocals, clocals;
	struct sym **shared_refs;	/* module level .shared variables named in the body */
	uint32_t nshared_refs, cshared_refs;
	bool prints;
	void *code;			/* struct ptx_func, once translated */
	struct fn *next;
};

struct alias {			/* .alias name, target; */
	struct alias *next;
	const char *name, *target;
	uint32_t line;
};

enum tok_kind { K_EOF, K_ID, K_DOT, K_INT, K_F32, K_F64, K_STR, K_PUNCT };

struct tok {
	uint8_t kind;
	bool hex_float, is_unsigned;
	char punct;			/* K_PUNCT; '<' and '>' doubled are 'L' and 'R' */
	const char *s;
	uint32_t len, line;
	uint64_t value;			/* K_INT, float bits */
};

struct parser {
	struct arena *arena;
	const char *cur, *end;
	uint32_t line;
	struct tok tok;
	struct ptx_log *log;
	jmp_buf fail;
	int error;
	/* names */
	struct name **names;
	uint32_t nnames, names_cap;
	struct sym **table;
	uint32_t nsyms, table_cap;
	uint32_t *scope_parent;
	uint32_t nscopes, cscopes, scope;
	uint32_t depth, lists;
	/* results */
	uint32_t version, target;
	struct fn *fns, **fns_tail, *fn;
	struct alias *aliases;
	struct sym **vars;
	uint32_t nvars, cvars;
};

/* arena.c */
_Noreturn void ptx_error(struct parser *p, uint32_t line, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void *p_alloc(struct parser *p, size_t size);
void *p_grow(struct parser *p, void *array, uint32_t n, uint32_t *cap, size_t item);
const char *p_intern(struct parser *p, const char *s, size_t len);
struct sym *sym_add(struct parser *p, const char *name, uint32_t scope, enum sym_kind kind);
struct sym *sym_here(struct parser *p, const char *name, uint32_t scope);
struct sym *sym_find(struct parser *p, const char *name, uint32_t scope);
uint32_t scope_push(struct parser *p);
void scope_pop(struct parser *p);

/* lex.c */
void lex_next(struct parser *p);
void lex_skip_line(struct parser *p);
bool tok_is(struct parser *p, char punct);
bool tok_dot(struct parser *p, const char *word);
bool tok_take(struct parser *p, char punct);
void tok_expect(struct parser *p, char punct, const char *where);
const char *tok_name(struct parser *p, const char *what);
const char *tok_text(struct parser *p, char buf[48]);

/* parse_var.c */
enum ptx_type type_of(const char *s, size_t len);
uint32_t type_size(enum ptx_type t);
const char *type_name(enum ptx_type t);
int64_t parse_const(struct parser *p);
uint64_t parse_count(struct parser *p, const char *what, uint64_t max);
struct sym *parse_var(struct parser *p, enum ptx_space space, uint32_t scope, bool external, bool weak);
void parse_var_list(struct parser *p, enum ptx_space space, uint32_t scope, bool external, bool weak);
struct sym *parse_param(struct parser *p, uint32_t scope);

/* parse_body.c */
void parse_body(struct parser *p, struct fn *fn);
bool reg_find(struct parser *p, const char *name, uint32_t scope, uint32_t *number);

/* special.c: names of special registers */
#define SPECIAL_NONE 0xffffffffu
uint32_t special_find(const char *name);

/* parse.c: p->fail must be set */
void parse_module(struct parser *p);

#endif /* SOFTGPU_PTX_AST_H */
