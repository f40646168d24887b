/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From statements to insns.
 *
 *	translate.c		a function: registers, constants, operands, labels
 *	translate_mods.c	the parts of an opcode
 *	cfg.c			the order of its basic blocks
 *	translate_arith.c	arithmetic, logic, comparisons, conversions
 *	translate_mem.c		moves, addresses, loads, stores, atomics
 *	translate_ctl.c		branches, calls, barriers, shuffles
 *	translate_async.c	asynchronous copies and their barriers, the stack
 *	translate_simd.c	packed and other rare integer arithmetic
 *	translate_mma.c		products of matrices
 *	translate_tex.c		textures and surfaces
 */
#ifndef SOFTGPU_PTX_TRANSLATE_H
#define SOFTGPU_PTX_TRANSLATE_H

/* Tables end in { NULL }. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#include "ast.h"
#include "ctl.h"

#define MAX_FRAME_BYTES	(32u << 20)
#define MAX_CONST_BYTES	(32u << 20)
#define NO_SLOT		0xffffffffu

struct ptx_module {
	struct ptx_kernel *kernels;
	size_t nkernels;
	struct ptx_var {
		const char *name;
		uint64_t address;
		size_t size;
		bool managed, opaque;
	} *vars;
	size_t nvars;
	uint64_t *heap;			/* allocations to free */
	size_t nheap;
	struct func_table *table;
	struct arena arena;		/* everything that lives as long as the module */
	uint32_t version, target;
	bool prints;
	/* lazy.h */
	struct piece *pieces;
	uint32_t npieces;
	struct ptx_module *parent, *units, *next;
};

struct fixup {
	uint32_t insn;
	const char *label;
	uint32_t scope, line;
	const struct insn **at;		/* in a branch table, else insn's target */
};

struct tr {
	struct parser *p;
	struct ptx_module *m;
	struct fn *fn;
	struct ptx_func *out;
	const struct stmt *s;		/* the statement at hand */
	struct insn *code;
	uint32_t n, cap;
	uint32_t *slot;			/* register number to frame offset */
	uint32_t frame, pred_at, pred_end;
	uint8_t *consts;
	uint32_t nconsts, cconsts;	/* bytes */
	uint32_t *const_hash, const_cap, const_count;
	struct fixup *fixups;
	uint32_t nfixups, cfixups;
	uint32_t shared;		/* bytes of static shared memory used so far */
};

struct mods {
	enum ptx_type t[4];
	unsigned int nt;
	uint32_t flags;
	enum ptx_space space;
	unsigned int vec;
};

/* translate.c */
_Noreturn void t_error(struct tr *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void *t_keep(struct tr *t, size_t size);
struct ptx_func *translate(struct tr *t);
bool has(struct tr *t, const char *word);
const char *opcode_text(struct tr *t, char buf[96]);
void need_ops(struct tr *t, unsigned int min, unsigned int max);
const struct opd *op_at(struct tr *t, unsigned int i);
uint32_t new_slot(struct tr *t, unsigned int size);
uint32_t const_slot(struct tr *t, uint64_t value, unsigned int size);
uint32_t reg_slot(struct tr *t, uint32_t reg);
unsigned int reg_size(enum ptx_type type);
uint32_t src(struct tr *t, const struct opd *o, enum ptx_type type);
uint32_t src_pred(struct tr *t, const struct opd *o);
uint32_t dst(struct tr *t, const struct opd *o, enum ptx_type type);
uint32_t special_src(struct tr *t, const struct opd *o, unsigned int size);
uint64_t sym_address(struct tr *t, const struct opd *o, bool generic);
struct insn *put(struct tr *t, handler_fn *fn);
struct insn *put_op(struct tr *t, const char *key, uint32_t d, uint32_t a, uint32_t b, uint32_t c);
void fix_label(struct tr *t, uint32_t insn, const char *label, const struct insn **at);

/* translate_mods.c */
struct mods mods_of(struct tr *t);

/* cfg.c */
void order_blocks(struct tr *t);

/* translate_mem.c */
struct place {
	char space;
	uint32_t a, flags;
	int64_t imm;
};
struct place place_of(struct tr *t, const struct opd *o, enum ptx_space space, unsigned int size);

/* translate_simd.c */
bool cvt_small(struct tr *t, const struct mods *m);

bool is_float(enum ptx_type t);
bool is_signed(enum ptx_type t);

#define KEY(buf, ...) (snprintf(buf, sizeof(buf), __VA_ARGS__), buf)

/* by opcode */
typedef void tr_fn(struct tr *t, struct mods *m);
struct tr_op {
	const char *name;
	tr_fn *fn;
	bool control;			/* a guard becomes a branch around it */
};
extern const struct tr_op tr_arith[], tr_mem[], tr_ctl[], tr_async[], tr_simd[], tr_mma_ops[], tr_tex[];

#endif /* SOFTGPU_PTX_TRANSLATE_H */
