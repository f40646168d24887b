/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translated form and the machine that runs it.
 *
 * A function is an array of struct insn, each with the address of the handler for exactly its operation and types.
 * Registers are kept by register, not by thread: 32 lanes side by side, so that a handler is one loop over lanes
 * that the compiler turns into vector code. Predicates are one bit per lane. An operand names its place by an
 * offset from one of four bases: the frame's registers, the function's constants (also 32 lanes wide, so that no
 * handler needs a variant for constants), the warp's and the block's special registers.
 *
 * Lanes that have parted are fragments: a mask, a program counter, a call frame. One fragment runs at a time, the
 * deepest and then the one earliest in the program, so that parted lanes meet again; a fragment that reaches where
 * another one waits takes it in. A warp-wide operation waits until the lanes it names are there.
 *
 *	translate*.c	statements to insns
 *	ops_*.c		handlers of arithmetic, built once per instruction set (base, avx2)
 *	ctl.c		branches, calls, barriers	warp.c	fragments
 *	lanes.c		shuffles and votes		atom.c	atomics
 *	block.c		a block's warps, barriers	pool.c	threads
 *	launch.c	a grid				fault.c, print.c
 */
#ifndef SOFTGPU_PTX_EXEC_H
#define SOFTGPU_PTX_EXEC_H

/* Tables end in { NULL }. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../memory.h"
#include "ptx.h"

#define WARP		32
#define ALL_LANES	0xffffffffu

/* Address windows of the state spaces that are not device memory, for generic addresses. */
#define WIN_SHARED	0x290000000000ull
#define WIN_LOCAL	0x2a0000000000ull
#define WIN_PARAM	0x2b0000000000ull
#define WIN_FUNC	0x2c0000000000ull
#define WIN_SIZE	(1ull << 32)

#define FAULT_ADDRESS	700
#define FAULT_ASSERT	710
#define FAULT_MISALIGNED 716
#define FAULT_SPACE	717
#define FAULT_PC	718
#define FAULT_TRAP	719
#define FAULT_COOPERATIVE 720

#define SLICE		8192	/* instructions a warp runs before others get a turn */
#define SLICE_COOPERATIVE 512
#define TURNS_ALONE	2000	/* turns of a block's warps before another block runs beside it */
#define MAX_BESIDE	64	/* blocks that one thread runs by turns */
#define MAX_CALL_DEPTH	4096
#define MAX_FRAMES_BYTES (512ull << 20)
#define RECURSIVE_STACK	(64u << 10)	/* local memory per thread where calls nest without a known limit */

struct warp;
struct insn;
typedef const struct insn *handler_fn(struct warp *w, const struct insn *in);

struct insn {
	handler_fn *fn;
	uint32_t d, a, b, c;
	union {
		int64_t imm;
		const struct insn *target;
		const void *ext;
	};
	uint32_t e, flags, line, x;
};

#define BASE_FRAME	0u
#define BASE_CONST	1u
#define BASE_WARP	2u
#define BASE_BLOCK	3u
#define OPND(base, off)	((base) << 30 | (off))
#define OPD(o)		((void *)(w->base[(o) >> 30] + ((o) & 0x3fffffffu)))

/* insn.flags of the simple handlers */
#define F_NEG		1u	/* predicate negated */
#define F_ADDR32	2u	/* address register has 32 bits */
#define F_NOADDR	4u	/* no address register: imm is the address */
/* and of the arithmetic with rare modifiers */
#define F_RZ		0x10u
#define F_RM		0x20u
#define F_RP		0x40u
#define F_RNA		0x80u
#define F_RINT		0x100u
#define F_SAT		0x200u
#define F_FTZ		0x400u
#define F_NANP		0x800u	/* min.NaN */
#define F_ABS		0x1000u	/* .abs or .relu */
#define F_XORSIGN	0x2000u
#define F_RELU		0x4000u

struct slot {
	uint32_t offset, size;
};

struct ptx_func {
	const char *name;
	struct insn *code;
	uint32_t ninsns;
	uint32_t frame_bytes;
	uint32_t area;			/* bytes of parameters per lane */
	uint32_t local_bytes;		/* own local memory */
	uint8_t *consts;
	uint32_t const_bytes;
	struct slot *args, *rets;
	uint32_t nargs, nrets;
	uint32_t registers;
};

struct ptx_kernel {
	struct ptx_kernel_info info;
	struct ptx_func *fn;
	struct ptx_module *module;
	uint32_t stack;			/* local memory per thread */
	uint32_t dynamic_align;		/* of where dynamic shared memory begins */
};

struct call {
	const struct ptx_func *callee;	/* NULL: the address is in the insn's operand a */
	uint32_t nargs, nrets;
	struct slot *args, *rets;	/* in the caller's parameter area */
};

struct frame {
	struct frame *caller;
	const struct ptx_func *fn;
	const struct insn *ret;
	const struct call *call;
	uint32_t live, depth;
	uint32_t local_base, top;	/* its local memory: where it begins and, with what alloca took, ends */
	uint8_t *regs, *area;
	struct frame *prev, *next;	/* all of the block, for release after a fault */
	size_t bytes;
};

enum frag_state { FR_RUN, FR_BARRIER, FR_SYNC };

struct frag {
	uint32_t mask;
	uint8_t state, barrier;
	const struct insn *pc;
	struct frame *frame;
};

enum warp_status { W_READY, W_BLOCKED, W_DONE };

struct warp {
	uint32_t mask;			/* lanes that run now */
	uint32_t nfrag;			/* fragments besides */
	uint8_t *base[4];
	int32_t lm[WARP] __attribute__((aligned(64)));	/* the mask, -1 or 0 per lane */
	struct frame *frame;
	struct block *block;
	const struct insn *start;	/* first instruction not yet counted */
	uint64_t count;
	int64_t budget;
	uint32_t live, avoid, cc;
	bool force;
	enum warp_status status;
	uint8_t *local;
	uint32_t index;
	const struct insn *asleep;	/* nanosleep that lasts until @wake; NULL: none */
	uint64_t wake;
	struct frame root;
	struct frag frags[WARP];
};

struct barrier {
	uint32_t arrived, expected, ones, zeros;
	bool counted;
};

#define NBARRIERS 16

struct block {
	struct launch *launch;
	struct warp *warps;
	uint32_t nwarps, live;		/* live threads */
	uint32_t ctaid[3];
	uint8_t *shared, *special;
	uint32_t shared_size;
	const uint8_t *params;
	uint32_t param_bytes, stack;
	struct barrier barrier[NBARRIERS];
	struct frame *frames, *spare;
	size_t frames_bytes;
	bool yielded, done;
	jmp_buf *fault;
	uint8_t *memory;
	size_t memory_size;
};

struct launch {
	const struct ptx_kernel *kernel;
	const struct ptx_launch *request;
	uint32_t nthreads, nwarps;
	uint64_t nblocks;
	uint64_t next;			/* atomic: next block to run */
	int stop;			/* atomic: fault or cancel */
	int error;			/* atomic: first fault */
	char *fault;
	uint64_t grid_id, instructions;
	uint64_t workspace;		/* grid barrier of a cooperative launch */
	uint32_t slice;
	uint8_t *params;
	bool queued;			/* pool.c */
	struct launch *queue_next;
	uint32_t helpers;
};

/* special.c: what a special register's operand refers to */
enum special_kind { SK_WARP, SK_BLOCK, SK_TIME };
enum {
	SW_TID_X, SW_TID_Y, SW_TID_Z, SW_WARPID, SW_COUNT,
};
enum {
	SB_ZERO, SB_ONE, SB_NTID_X, SB_NTID_Y, SB_NTID_Z, SB_CTAID_X, SB_CTAID_Y, SB_CTAID_Z, SB_NCTAID_X, SB_NCTAID_Y,
	SB_NCTAID_Z, SB_NWARPID, SB_SMID, SB_NSMID, SB_GRIDID, SB_GRIDID_HI, SB_DYN_SIZE, SB_TOTAL_SIZE, SB_ENVREG1,
	SB_ENVREG2, SB_DYN_BASE, SB_LANEID, SB_EQ, SB_LE, SB_LT, SB_GE, SB_GT, SB_COUNT,
};
struct special {
	const char *name;
	uint8_t kind, index, wide;
};
extern const struct special ptx_specials[];

/* ops: handlers by key, e.g. "add.f32" */
struct ptx_op {
	const char *key;
	handler_fn *fn;
};
handler_fn *ptx_op_find(const char *key);

/* warp.c */
void warp_set_mask(struct warp *w, uint32_t mask);
void warp_add(struct warp *w, uint32_t mask, const struct insn *pc, struct frame *f, enum frag_state state);
const struct insn *warp_pick(struct warp *w);
const struct insn *warp_next(struct warp *w, const struct insn *next);
const struct insn *warp_yield(struct warp *w, const struct insn *next);
const struct insn *warp_wait(struct warp *w, const struct insn *pc, enum frag_state state, unsigned int barrier);
uint32_t warp_here(const struct warp *w, const struct insn *in);
void warp_regroup(struct warp *w, const struct insn *in, uint32_t mask);
const struct insn *warp_exit(struct warp *w);
void warp_start(struct warp *w);
void warp_run(struct warp *w);
struct frame *frame_push(struct warp *w, const struct insn *in, const struct ptx_func *fn, const struct call *call);
void frame_drop(struct block *b, struct frame *f);

static inline void warp_account(struct warp *w, const struct insn *in)
{
	int64_t n = in + 1 - w->start;

	w->count += (uint64_t)n * __builtin_popcount(w->mask);
	w->budget -= n;
}

/* block.c */
void barrier_release(struct block *b, unsigned int id);
void barrier_recheck(struct block *b);
bool block_run(struct block *b, unsigned int rounds);
struct block *block_create(struct launch *l);
void block_begin(struct block *b, uint64_t index);
void block_destroy(struct block *b);

/* pool.c */
void pool_run(struct launch *l);
unsigned int pool_threads(void);

/* print.c */
void print_format(struct warp *w, const struct insn *in, unsigned int lane, uint64_t format, uint64_t args);
void print_assert(struct warp *w, const struct insn *in, unsigned int lane, uint64_t message, uint64_t file,
		  uint32_t line, uint64_t function);

/* fault.c */
_Noreturn void ptx_fault(struct warp *w, const struct insn *in, unsigned int lane, int code, const char *fmt, ...)
	__attribute__((format(printf, 5, 6), cold));
_Noreturn void fault_access(struct warp *w, const struct insn *in, unsigned int lane, uint64_t addr, unsigned int size,
			    const char *what) __attribute__((cold));

/* Where a generic address points, for [addr, addr + size); NULL if a kernel may not touch it. */
static inline void *generic_pointer(struct warp *w, unsigned int lane, uint64_t addr, unsigned int size, bool write)
{
	struct block *b = w->block;

	if (__builtin_expect(addr - SG_HEAP_BASE < SG_HEAP_SIZE, 1))
		return sg_mem_ok(addr, size) ? (void *)(uintptr_t)addr : NULL;
	if (addr - WIN_SHARED < WIN_SIZE) {
		uint64_t off = addr - WIN_SHARED;

		return off + size <= b->shared_size ? b->shared + off : NULL;
	}
	if (addr - WIN_LOCAL < WIN_SIZE) {
		uint64_t off = addr - WIN_LOCAL;

		return off + size <= b->stack ? w->local + (size_t)lane * b->stack + off : NULL;
	}
	if (addr - WIN_PARAM < WIN_SIZE) {
		uint64_t off = addr - WIN_PARAM;

		return !write && off + size <= b->param_bytes ? (void *)(b->params + off) : NULL;
	}
	return sg_mem_ok(addr, size) ? (void *)(uintptr_t)addr : NULL;
}

#endif /* SOFTGPU_PTX_EXEC_H */
