/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers the translator names directly, as their operands need more than four slots. */
#ifndef SOFTGPU_PTX_CTL_H
#define SOFTGPU_PTX_CTL_H

#include "exec.h"

handler_fn ctl_bra, ctl_brap, ctl_join, ctl_guard, ctl_brx, ctl_call, ctl_calli, ctl_ret, ctl_exit, ctl_trap;
handler_fn ctl_bar, ctl_vprintf, ctl_assertfail, ctl_set_conditional, ctl_malloc, ctl_free;
handler_fn ctl_nanosleep, ctl_time, ctl_fence, ctl_nop, ctl_local_address;

/* ctl_bar: a barrier id, b count (0: none), c predicate, d destination; flags: */
#define BAR_ARRIVE	0x10u
#define BAR_POPC	0x20u
#define BAR_AND		0x40u
#define BAR_OR		0x80u
#define BAR_COUNT	0x100u
#define BAR_RED		(BAR_POPC | BAR_AND | BAR_OR)

struct branch_table {
	uint32_t n;
	const struct insn *target[];
};

/* vprintf, __assertfail, malloc, …: where in the caller's area the arguments lie */
struct builtin {
	uint32_t arg[5], ret;
	bool has_ret;
};

/* ctl_calli needs to know the module's functions */
struct func_table {
	uint32_t n;
	struct ptx_func *fn[];
};
struct indirect {
	struct call call;
	const struct func_table *table;
};
#define FUNC_STEP 16u
#define FUNC_ADDRESS(index) (WIN_FUNC + FUNC_STEP * ((index) + 1ull))

void barrier_result(struct warp *w, const struct insn *in, struct frame *f, uint32_t mask, const struct barrier *bar);

/* lanes.c, atom.c, async.c, simd.c, mma.c, fp8.c, tex.c */
extern const struct ptx_op ptx_ops_lanes[], ptx_ops_atom[], ptx_ops_async[], ptx_ops_simd[], ptx_ops_mma[], ptx_ops_fp8[];
extern const struct ptx_op ptx_ops_tex[];

#endif /* SOFTGPU_PTX_CTL_H */
