// SPDX-License-Identifier: Apache-2.0
/* Asynchronous copies and the barriers they complete; the stack. */

#include <stdio.h>

#include "mem.h"
#include "translate.h"

static struct place shared_place(struct tr *t, unsigned int i, unsigned int size)
{
	const struct opd *o = op_at(t, i);

	/* the address may be generic when the register has 64 bits: the handlers take both */
	return place_of(t, o, o->kind == O_ADDR && o->base == O_SYM ? SP_SHARED : has(t, "shared") || has(t, "shared::cta") ?
		SP_SHARED : SP_NONE, size);
}

static struct insn *at_barrier(struct tr *t, const char *key, unsigned int i, uint32_t d, uint32_t b, uint32_t c)
{
	struct place p = shared_place(t, i, 8);
	struct insn *in = put_op(t, key, d, p.a, b, c);

	in->imm = p.imm;
	in->flags = p.flags;
	return in;
}

static void tr_wait(struct tr *t)
{
	bool parity = has(t, "parity");
	uint32_t b;

	need_ops(t, 3, 4);	/* a time limit may follow: the wait returns at once anyway */
	b = src(t, op_at(t, 2), parity ? T_B32 : T_B64);
	at_barrier(t, parity ? "mbarrier.test_wait.parity" : "mbarrier.test_wait", 1, dst(t, op_at(t, 0), T_PRED), b, 0);
}

static void tr_arrive(struct tr *t, bool drop)
{
	bool expect = has(t, "expect_tx");
	unsigned int i = op_at(t, 0)->kind == O_ADDR ? 0 : 1;
	uint32_t one = const_slot(t, 1, 4), none = const_slot(t, 0, 4), d = NO_SLOT, value;

	need_ops(t, i + 1, i + 2);
	if (i && op_at(t, 0)->kind != O_SINK)
		d = dst(t, op_at(t, 0), T_B64);
	value = t->s->nops > i + 1 ? src(t, op_at(t, i + 1), T_U32) : one;
	at_barrier(t, drop ? "mbarrier.arrive_drop" : "mbarrier.arrive", i, d, expect ? one : value, expect ? value : none);
}

static void tr_mbarrier(struct tr *t, struct mods *m)
{
	const char *what = t->s->nparts > 1 ? t->s->part[1] : "";

	if (!strcmp(what, "init")) {
		need_ops(t, 2, 2);
		at_barrier(t, "mbarrier.init", 0, 0, src(t, op_at(t, 1), T_U32), 0);
	} else if (!strcmp(what, "inval")) {
		need_ops(t, 1, 1);
		at_barrier(t, "mbarrier.inval", 0, 0, 0, 0);
	} else if (!strcmp(what, "test_wait") || !strcmp(what, "try_wait")) {
		tr_wait(t);
	} else if (!strcmp(what, "arrive") || !strcmp(what, "arrive_drop")) {
		tr_arrive(t, what[6] != 0);
	} else if (!strcmp(what, "expect_tx") || !strcmp(what, "complete_tx")) {
		need_ops(t, 2, 2);
		at_barrier(t, what[0] == 'e' ? "mbarrier.expect_tx" : "mbarrier.complete_tx", 0, 0,
			   src(t, op_at(t, 1), T_U32), 0);
	} else if (!strcmp(what, "pending_count")) {
		uint32_t b = src(t, op_at(t, 1), T_B64);

		put_op(t, "mbarrier.pending_count", dst(t, op_at(t, 0), T_B32), 0, b, 0);
	} else {
		t_error(t, "this form of mbarrier is not supported");
	}
}

static void small_copy(struct tr *t)
{
	bool hint = has(t, "L2::cache_hint");
	struct place to, from;
	struct insn *in;
	uint32_t size, n;

	need_ops(t, 3, 4 + hint);
	size = op_at(t, 2)->kind == O_INT ? op_at(t, 2)->imm : 0;
	if (size != 4 && size != 8 && size != 16)
		t_error(t, "cp.async copies 4, 8 or 16 bytes");
	to = place_of(t, op_at(t, 0), SP_SHARED, size);
	from = place_of(t, op_at(t, 1), SP_GLOBAL, size);
	struct copy *c = t_keep(t, sizeof(*c));

	*c = (struct copy){ .size = size, .to = to.imm, .from = from.imm, .to_flags = to.flags, .from_flags = from.flags };
	n = t->s->nops > 3u + hint ? src(t, op_at(t, 3), T_U32) : const_slot(t, size, 4);
	in = put_op(t, "cp.async", to.a, from.a, n, 0);
	in->ext = c;
}

static void bulk_copy(struct tr *t)
{
	bool to_shared = !strncmp(t->s->part[3], "shared", 6), barrier = false;
	struct copy *c = t_keep(t, sizeof(*c));
	struct place to, from, bar = { 0 };
	struct insn *in;
	uint32_t n;

	need_ops(t, 3, 5);
	to = place_of(t, op_at(t, 0), to_shared ? SP_SHARED : SP_GLOBAL, 16);
	from = place_of(t, op_at(t, 1), to_shared ? SP_GLOBAL : SP_SHARED, 16);
	n = src(t, op_at(t, 2), T_U32);
	if (t->s->nops > 3 && op_at(t, 3)->kind == O_ADDR) {
		bar = place_of(t, op_at(t, 3), SP_SHARED, 8);
		barrier = true;
	}
	*c = (struct copy){ .to = to.imm, .from = from.imm, .to_flags = to.flags, .from_flags = from.flags,
			    .to_shared = to_shared, .barrier = barrier, .barrier_flags = bar.flags, .barrier_at = bar.imm };
	in = put_op(t, "cp.async.bulk", to.a, from.a, n, bar.a);
	in->ext = c;
}

static void tr_cp(struct tr *t, struct mods *m)
{
	char buf[96];

	if (!has(t, "async"))
		t_error(t, "unknown or unsupported instruction '%s'", opcode_text(t, buf));
	if (has(t, "commit_group") || has(t, "wait_group") || has(t, "wait_all") || has(t, "prefetch")) {
		put(t, ctl_nop);
	} else if (has(t, "mbarrier") && has(t, "arrive")) {
		need_ops(t, 1, 1);
		if (has(t, "noinc"))	/* else the arrival was added to the pending ones and taken away again */
			at_barrier(t, "mbarrier.arrive", 0, NO_SLOT, const_slot(t, 1, 4), const_slot(t, 0, 4));
		else
			put(t, ctl_nop);
	} else if (has(t, "bulk") && !has(t, "tensor") && !has(t, "add") && t->s->nparts > 4) {
		bulk_copy(t);
	} else if (!has(t, "bulk") && (has(t, "shared") || has(t, "shared::cta"))) {
		small_copy(t);
	} else {
		t_error(t, "unknown or unsupported instruction '%s'", opcode_text(t, buf));
	}
}

static void tr_alloca(struct tr *t, struct mods *m)
{
	uint64_t align = 16;
	struct insn *in;
	uint32_t a;

	need_ops(t, 2, 3);
	if (t->s->nops == 3 && op_at(t, 2)->kind == O_INT)
		align = op_at(t, 2)->imm;
	if (!align || align > 4096 || (align & (align - 1)))
		t_error(t, "alloca with an alignment of %llu", (unsigned long long)align);
	a = src(t, op_at(t, 1), T_U64);
	in = put_op(t, "alloca", dst(t, op_at(t, 0), T_U64), a, 0, 0);
	in->imm = align < 16 ? 16 : align;
}

static void tr_stacksave(struct tr *t, struct mods *m)
{
	need_ops(t, 1, 1);
	put_op(t, "stacksave", dst(t, op_at(t, 0), T_U64), 0, 0, 0);
}

static void tr_stackrestore(struct tr *t, struct mods *m)
{
	need_ops(t, 1, 1);
	put_op(t, "stackrestore", 0, src(t, op_at(t, 0), T_U64), 0, 0);
}

/* A cluster is one block: any rank's shared memory is one's own. */
static void tr_mapa(struct tr *t, struct mods *m)
{
	enum ptx_type type = m->nt ? m->t[0] : T_U64;
	uint32_t a;

	need_ops(t, 3, 3);
	a = src(t, op_at(t, 1), type);
	put_op(t, type_size(type) == 8 ? "mov.b64" : "mov.b32", dst(t, op_at(t, 0), type), a, 0, 0);
}

static void tr_getctarank(struct tr *t, struct mods *m)
{
	need_ops(t, 2, 2);
	put_op(t, "mov.b32", dst(t, op_at(t, 0), T_U32), const_slot(t, 0, 4), 0, 0);
}

const struct tr_op tr_async[] = {
	{ "mbarrier", tr_mbarrier }, { "cp", tr_cp }, { "alloca", tr_alloca }, { "stacksave", tr_stacksave },
	{ "stackrestore", tr_stackrestore }, { "mapa", tr_mapa }, { "getctarank", tr_getctarank }, { NULL },
};
