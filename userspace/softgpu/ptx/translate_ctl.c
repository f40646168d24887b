// SPDX-License-Identifier: Apache-2.0
/* Branches, calls, returns, barriers, and operations of a whole warp. */

#include <stdio.h>

#include "translate.h"

static const char *label_of(struct tr *t, const struct opd *o)
{
	char buf[96];

	if (o->kind != O_NAME)
		t_error(t, "'%s' needs a label", opcode_text(t, buf));
	return o->name;
}

static void tr_bra(struct tr *t, struct mods *m)
{
	const char *label = label_of(t, op_at(t, 0));
	uint32_t guard = t->s->guarded ? reg_slot(t, t->s->guard) : 0;
	struct insn *in;

	need_ops(t, 1, 1);
	in = put(t, t->s->guarded ? ctl_brap : ctl_bra);
	in->a = guard;
	in->flags = t->s->guarded && t->s->guard_neg ? F_NEG : 0;
	fix_label(t, t->n - 1, label, NULL);
}

static void tr_brx(struct tr *t, struct mods *m)
{
	struct branch_table *table;
	struct sym *s;
	uint32_t a;

	need_ops(t, 2, 2);
	s = sym_find(t->p, label_of(t, op_at(t, 1)), t->s->scope);
	if (!s || s->kind != S_TARGETS)
		t_error(t, "brx.idx needs the name of .branchtargets");
	a = src(t, op_at(t, 0), T_U32);
	table = t_keep(t, sizeof(*table) + s->ntargets * sizeof(table->target[0]));
	table->n = s->ntargets;
	struct insn *in = put(t, ctl_brx);

	in->a = a;
	in->ext = table;
	for (uint32_t i = 0; i < s->ntargets; i++)
		fix_label(t, t->n - 1, s->targets[i], &table->target[i]);
}

static struct slot param_slot(struct tr *t, const struct opd *o)
{
	if (o->kind != O_SYM || o->sym->space != SP_PARAM || !o->sym->placed || o->imm)
		t_error(t, "a call passes variables of .param space");
	for (uint32_t i = 0; t->fn->entry && i < t->fn->nparams; i++)
		if (t->fn->params[i] == o->sym)
			t_error(t, "a kernel's own parameter cannot be passed on");
	return (struct slot){ o->sym->address, o->sym->size };
}

static struct slot *param_slots(struct tr *t, const struct opd *list, uint32_t *n)
{
	struct slot *s;

	*n = list ? list->nitems : 0;
	s = t_keep(t, *n * sizeof(*s) + 1);
	for (uint32_t i = 0; i < *n; i++)
		s[i] = param_slot(t, &list->items[i]);
	return s;
}

static bool call_builtin(struct tr *t, const char *name, const struct call *c)
{
	static const struct {
		const char *name;
		handler_fn *fn;
		uint8_t ret, nargs, size[5];	/* @ret: bytes that it may return */
		bool prints;
	} known[] = {
		{ "vprintf", ctl_vprintf, 4, 2, { 8, 8 }, true },
		{ "__assertfail", ctl_assertfail, 4, 5, { 8, 8, 4, 8, 8 }, true },
		{ "cudaGraphSetConditional", ctl_set_conditional, 4, 2, { 8, 4 }, false },
		{ "malloc", ctl_malloc, 8, 1, { 8 }, false },
		{ "free", ctl_free, 4, 1, { 8 }, false },
	};

	for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct builtin *b;

		if (strcmp(name, known[i].name))
			continue;
		if (c->nargs != known[i].nargs || c->nrets > 1 || (c->nrets && c->rets[0].size != known[i].ret))
			t_error(t, "'%s' called with other parameters than it has", name);
		b = t_keep(t, sizeof(*b));
		for (uint32_t k = 0; k < c->nargs; k++) {
			if (c->args[k].size != known[i].size[k])
				t_error(t, "'%s' called with other parameters than it has", name);
			b->arg[k] = c->args[k].offset;
		}
		b->has_ret = c->nrets;
		b->ret = c->nrets ? c->rets[0].offset : 0;
		put(t, known[i].fn)->ext = b;
		t->m->prints |= known[i].prints;
		return true;
	}
	return false;
}

static void check_call(struct tr *t, const struct fn *callee, const struct call *c)
{
	bool ok = c->nargs == callee->nparams && c->nrets == callee->nrets;

	for (uint32_t i = 0; ok && i < c->nargs; i++)
		ok = c->args[i].size == callee->params[i]->size;
	for (uint32_t i = 0; ok && i < c->nrets; i++)
		ok = c->rets[i].size == callee->rets[i]->size;
	if (!ok)
		t_error(t, "'%s' called with other parameters than it has", callee->name);
}

static void tr_call(struct tr *t, struct mods *m)
{
	const struct opd *rets = NULL, *args = NULL, *target;
	struct indirect *c = t_keep(t, sizeof(*c));
	unsigned int i = 0;
	struct insn *in;
	struct sym *s;

	if (op_at(t, i)->kind == O_LIST)
		rets = op_at(t, i++);
	target = op_at(t, i++);
	if (i < t->s->nops && t->s->ops[i].kind == O_LIST)
		args = op_at(t, i++);
	c->call.rets = param_slots(t, rets, &c->call.nrets);
	c->call.args = param_slots(t, args, &c->call.nargs);
	c->table = t->m->table;
	if (target->kind == O_REG) {
		uint32_t a = src(t, target, T_U64);

		if (i >= t->s->nops)
			t_error(t, "an indirect call needs a prototype");
		in = put(t, ctl_calli);
		in->a = a;
		in->ext = c;
		return;
	}
	if (target->kind != O_NAME)
		t_error(t, "call needs a function");
	if (call_builtin(t, target->name, &c->call))
		return;
	s = sym_find(t->p, target->name, 0);
	if (!s || s->kind != S_FUNC || s->fn->entry)
		t_error(t, "call of '%s', which is no function", target->name);
	if (!s->fn->defined)
		t_error(t, "call of '%s', which is not defined in this module and not provided by the software GPU",
			target->name);
	check_call(t, s->fn, &c->call);
	c->call.callee = s->fn->code;
	put(t, ctl_call)->ext = &c->call;
}

static void tr_ret(struct tr *t, struct mods *m)
{
	need_ops(t, 0, 0);
	put(t, ctl_ret);
}

static void tr_exit(struct tr *t, struct mods *m)
{
	need_ops(t, 0, 0);
	put(t, ctl_exit);
}

static void tr_trap(struct tr *t, struct mods *m)
{
	need_ops(t, 0, 0);
	put(t, ctl_trap)->flags = t->s->part[0][0] == 'b';
}

static void tr_fence(struct tr *t, struct mods *m)
{
	put(t, ctl_fence);
}

static void tr_nanosleep(struct tr *t, struct mods *m)
{
	uint32_t a;

	need_ops(t, 1, 1);
	a = src(t, op_at(t, 0), T_U32);
	put(t, ctl_nanosleep)->a = a;
}

static void warp_sync(struct tr *t)
{
	need_ops(t, 1, 1);
	put_op(t, "bar.warp.sync", 0, src(t, op_at(t, 0), T_U32), 0, 0);
}

/* bar and barrier: .sync, .arrive, .red, .warp.sync */
static void tr_bar(struct tr *t, struct mods *m)
{
	bool red = has(t, "red"), arrive = has(t, "arrive");
	uint32_t flags = arrive ? BAR_ARRIVE : 0, d = 0, a, b = 0, c = 0;
	unsigned int i = red, n = t->s->nops;
	const struct opd *p = NULL;
	struct insn *in;

	if (has(t, "warp")) {
		warp_sync(t);
		return;
	}
	if (has(t, "cluster")) {
		/* a cluster is one block here: its barrier is complete when all threads have arrived */
		if (arrive) {
			put(t, ctl_nop);
			return;
		}
		a = const_slot(t, NBARRIERS - 1, 4);
		put(t, ctl_bar)->a = a;
		return;
	}
	if (!red && !arrive && !has(t, "sync"))
		t_error(t, "unknown kind of barrier");
	if (red) {
		need_ops(t, 3, 4);
		p = op_at(t, n - 1);
		n--;
		flags |= has(t, "popc") ? BAR_POPC : has(t, "and") ? BAR_AND : BAR_OR;
		d = dst(t, op_at(t, 0), has(t, "popc") ? T_U32 : T_PRED);
		c = src_pred(t, p);
	} else {
		need_ops(t, 1, 2);
	}
	a = src(t, op_at(t, i), T_U32);
	if (n > i + 1) {
		b = src(t, op_at(t, i + 1), T_U32);
		flags |= BAR_COUNT;
	}
	in = put(t, ctl_bar);
	in->a = a;
	in->b = b;
	in->c = c;
	in->d = d;
	in->flags = flags;
}

static void tr_shfl(struct tr *t, struct mods *m)
{
	static const char *const modes[] = { "up", "down", "bfly", "idx" };
	bool sync = has(t, "sync");
	const struct opd *d = op_at(t, 0);
	uint32_t a, b, c, e, q, to;
	const char *mode = NULL;
	struct insn *in;
	char key[32];

	need_ops(t, 4 + sync, 4 + sync);
	for (unsigned int i = 0; i < 4; i++)
		if (has(t, modes[i]))
			mode = modes[i];
	if (!mode)
		t_error(t, "shfl without a mode");
	a = src(t, op_at(t, 1), T_B32);
	b = src(t, op_at(t, 2), T_U32);
	c = src(t, op_at(t, 3), T_U32);
	e = sync ? src(t, op_at(t, 4), T_U32) : 0;
	q = d->second ? dst(t, d->second, T_PRED) : new_slot(t, 0);
	to = dst(t, d, T_B32);
	in = put_op(t, KEY(key, "shfl.%s", mode), to, a, b, c);
	in->e = e;
	in->x = q;
	in->flags = sync;
}

static void tr_vote(struct tr *t, struct mods *m)
{
	static const char *const modes[] = { "ballot", "all", "any", "uni" };
	bool sync = has(t, "sync");
	uint32_t a, e;
	struct insn *in;
	char key[32];

	need_ops(t, 2 + sync, 2 + sync);
	a = src_pred(t, op_at(t, 1));
	e = sync ? src(t, op_at(t, 2), T_U32) : 0;
	for (unsigned int i = 0; i < 4; i++)
		if (has(t, modes[i])) {
			uint32_t d = dst(t, op_at(t, 0), i ? T_PRED : T_B32);

			in = put_op(t, KEY(key, "vote.%s", modes[i]), d, a, 0, 0);
			in->e = e;
			in->flags = sync;
			return;
		}
	t_error(t, "vote without a mode");
}

static void tr_match(struct tr *t, struct mods *m)
{
	bool all = has(t, "all");
	const struct opd *d = op_at(t, 0);
	uint32_t a, e, q;
	struct insn *in;
	char key[32];

	need_ops(t, 3, 3);
	if (m->nt != 1)
		t_error(t, "match without a type");
	a = src(t, op_at(t, 1), m->t[0]);
	e = src(t, op_at(t, 2), T_U32);
	q = d->second ? dst(t, d->second, T_PRED) : new_slot(t, 0);
	in = put_op(t, KEY(key, "match.%s.b%u", all ? "all" : "any", type_size(m->t[0]) * 8), dst(t, d, T_B32), a, 0, 0);
	in->e = e;
	in->x = q;
	in->flags = 1;
}

static void tr_redux(struct tr *t, struct mods *m)
{
	static const char *const ops[] = { "add", "min", "max", "and", "or", "xor" };
	uint32_t a, e;
	struct insn *in;
	char key[32];

	need_ops(t, 3, 3);
	if (m->nt != 1)
		t_error(t, "redux without a type");
	a = src(t, op_at(t, 1), m->t[0]);
	e = src(t, op_at(t, 2), T_U32);
	for (unsigned int i = 0; i < 6; i++)
		if (has(t, ops[i])) {
			const char *type = i == 1 || i == 2 ? type_name(m->t[0]) : "b32";

			in = put_op(t, KEY(key, "redux.%s.%s", ops[i], type), dst(t, op_at(t, 0), m->t[0]), a, 0, 0);
			in->e = e;
			in->flags = 1;
			return;
		}
	t_error(t, "redux without an operation");
}

static void tr_activemask(struct tr *t, struct mods *m)
{
	need_ops(t, 1, 1);
	put_op(t, "activemask", dst(t, op_at(t, 0), T_B32), 0, 0, 0);
}

static void tr_nothing(struct tr *t, struct mods *m)
{
	put(t, ctl_nop);
}

static void tr_elect(struct tr *t, struct mods *m)
{
	const struct opd *d = op_at(t, 0);
	struct insn *in;
	uint32_t e, q;

	need_ops(t, 2, 2);
	e = src(t, op_at(t, 1), T_U32);
	if (!d->second)
		t_error(t, "elect.sync needs a predicate");
	q = dst(t, d->second, T_PRED);
	in = put_op(t, "elect", dst(t, d, T_B32), 0, 0, 0);
	in->e = e;
	in->x = q;
	in->flags = 1;
}

const struct tr_op tr_ctl[] = {
	{ "bra", tr_bra, true }, { "brx", tr_brx, true }, { "call", tr_call, true }, { "ret", tr_ret, true },
	{ "exit", tr_exit, true }, { "trap", tr_trap, true }, { "brkpt", tr_trap, true }, { "membar", tr_fence },
	{ "fence", tr_fence }, { "nanosleep", tr_nanosleep, true }, { "bar", tr_bar, true }, { "barrier", tr_bar, true },
	{ "shfl", tr_shfl, true }, { "vote", tr_vote, true }, { "match", tr_match, true }, { "redux", tr_redux, true },
	{ "activemask", tr_activemask, true }, { "elect", tr_elect, true }, { "pmevent", tr_nothing },
	{ "griddepcontrol", tr_nothing }, { "setmaxnreg", tr_nothing }, { NULL },
};
