// SPDX-License-Identifier: Apache-2.0
/*
 * The order of a function's basic blocks. Of parted lanes the ones earliest in the program run first, so the program
 * must be laid out such that where paths meet comes after all of them, and what follows a loop after the loop:
 * otherwise lanes that took a rare path, which compilers move to the end, would be left behind until the others have
 * finished. The order is a reverse postorder that visits the ways out of loops first.
 */

#include "translate.h"

#define MAX_BLOCKS	200000u
#define MAX_WORK	20000000u
#define NONE		0xffffffffu

struct graph {
	struct tr *t;
	uint32_t n;			/* blocks */
	uint32_t *start, *block_of;	/* first insn of a block (n + 1 of them); block of an insn */
	uint32_t *succ, *succ_at, *pred, *pred_at, nedges;
	uint32_t *loop, *parent, *header, nloops;	/* innermost loop of a block; of a loop */
	uint32_t work;
};

static bool ends(handler_fn *f)
{
	return f == ctl_bra || f == ctl_brx || f == ctl_ret || f == ctl_exit || f == ctl_trap;
}

static uint32_t label_at(struct tr *t, const struct fixup *f)
{
	struct sym *l = sym_find(t->p, f->label, f->scope);

	if (!l || l->kind != S_LABEL || l->fn != t->fn)
		ptx_error(t->p, f->line, 0, "branch to '%s', which is no label of '%s'", f->label, t->fn->name);
	return l->stmt;
}

static void find_blocks(struct graph *g)
{
	struct tr *t = g->t;
	uint8_t *leader = p_alloc(t->p, t->n + 1);

	leader[0] = 1;
	for (uint32_t i = 0; i < t->nfixups; i++)
		leader[label_at(t, &t->fixups[i])] = 1;
	for (uint32_t i = 0; i < t->n; i++) {
		if (ends(t->code[i].fn) || t->code[i].fn == ctl_brap)
			leader[i + 1] = 1;
		if (t->code[i].fn == ctl_brap && t->code[i].x)
			leader[t->code[i].imm] = 1;
	}
	g->block_of = p_alloc(t->p, (t->n + 1) * 4);
	for (uint32_t i = 0; i < t->n; i++)
		g->block_of[i] = (g->n += leader[i]) - 1;
	g->start = p_alloc(t->p, (g->n + 1) * 4);
	for (uint32_t i = t->n; i--;)
		g->start[g->block_of[i]] = i;
	g->start[g->n] = t->n;
}

/* Edges in the order in which they are to be visited: taken branches, then the fall through. */
static void each_edge(struct graph *g, void (*edge)(struct graph *, uint32_t, uint32_t))
{
	struct tr *t = g->t;

	for (uint32_t i = 0; i < t->nfixups; i++)
		edge(g, g->block_of[t->fixups[i].insn], g->block_of[label_at(t, &t->fixups[i])]);
	for (uint32_t b = 0; b < g->n; b++) {
		const struct insn *last = &t->code[g->start[b + 1] - 1];

		if (last->fn == ctl_brap && last->x)
			edge(g, b, g->block_of[last->imm]);
		if (!ends(last->fn) && b + 1 < g->n)
			edge(g, b, b + 1);
	}
}

static void count_edge(struct graph *g, uint32_t from, uint32_t to)
{
	g->succ_at[from + 1]++;
	g->pred_at[to + 1]++;
	g->nedges++;
}

static void add_edge(struct graph *g, uint32_t from, uint32_t to)
{
	g->succ[g->succ_at[from]++] = to;
	g->pred[g->pred_at[to]++] = from;
}

static void find_edges(struct graph *g)
{
	struct parser *p = g->t->p;

	g->succ_at = p_alloc(p, (g->n + 2) * 4);
	g->pred_at = p_alloc(p, (g->n + 2) * 4);
	each_edge(g, count_edge);
	for (uint32_t b = 0; b < g->n; b++) {
		g->succ_at[b + 1] += g->succ_at[b];
		g->pred_at[b + 1] += g->pred_at[b];
	}
	g->succ = p_alloc(p, (g->nedges + 1) * 4);
	g->pred = p_alloc(p, (g->nedges + 1) * 4);
	each_edge(g, add_edge);
	/* adding moved each start to the next one's */
	memmove(g->succ_at + 1, g->succ_at, g->n * 4);
	memmove(g->pred_at + 1, g->pred_at, g->n * 4);
	g->succ_at[0] = g->pred_at[0] = 0;
}

/* How many loops around @from does the edge to @to leave? */
static uint32_t leaves(const struct graph *g, uint32_t from, uint32_t to)
{
	uint32_t n = 0;

	for (uint32_t l = g->loop[from]; l != NONE; l = g->parent[l], n++) {
		uint32_t k = g->loop[to];

		while (k != NONE && k != l && k < l)	/* an enclosing loop has the greater number */
			k = g->parent[k];
		if (k == l)
			break;
	}
	return n;
}

enum { NEW, OPEN, DONE };

struct visit {
	uint32_t block, next;
};

/*
 * Depth first from the entry. @post gets the blocks in the order in which they are finished; @latch, if not NULL, the
 * targets of edges that go back to an open block.
 */
static uint32_t depth_first(struct graph *g, uint32_t *post, uint8_t *is_header, bool by_exits)
{
	uint8_t *state = p_alloc(g->t->p, g->n);
	struct visit *stack = p_alloc(g->t->p, (g->n + 1) * sizeof(*stack));
	uint32_t depth = 0, n = 0;

	stack[depth++] = (struct visit){ 0, 0 };
	state[0] = OPEN;
	while (depth) {
		struct visit *v = &stack[depth - 1];
		uint32_t first = g->succ_at[v->block], count = g->succ_at[v->block + 1] - first, to;

		if (v->next == 0 && by_exits && count > 1)
			/* few successors, or those of brx, which all lie within: an insertion sort will do */
			for (uint32_t i = 1; i < count && count < 64; i++)
				for (uint32_t k = i; k && leaves(g, v->block, g->succ[first + k]) >
							      leaves(g, v->block, g->succ[first + k - 1]); k--) {
					to = g->succ[first + k];
					g->succ[first + k] = g->succ[first + k - 1];
					g->succ[first + k - 1] = to;
				}
		if (v->next == count) {
			state[v->block] = DONE;
			post[n++] = v->block;
			depth--;
			continue;
		}
		to = g->succ[first + v->next++];
		if (state[to] == OPEN && is_header)
			is_header[to] = 1;
		if (state[to] != NEW)
			continue;
		state[to] = OPEN;
		stack[depth++] = (struct visit){ to, 0 };
	}
	return n;
}

/* The natural loop of @h: what reaches an edge back to it without passing it. Inner loops were found before. */
static bool find_loop(struct graph *g, uint32_t h, const uint32_t *number, uint32_t *stack, uint32_t *seen)
{
	uint32_t depth = 0, l = g->nloops, body = 0;

	for (uint32_t i = g->pred_at[h]; i < g->pred_at[h + 1]; i++)
		if (number[g->pred[i]] != NONE && number[g->pred[i]] <= number[h] && seen[g->pred[i]] != l + 1) {
			seen[g->pred[i]] = l + 1;
			stack[depth++] = g->pred[i];
		}
	if (!depth)
		return true;
	g->parent[l] = NONE;
	g->header[l] = h;
	seen[h] = l + 1;
	while (body < depth) {
		uint32_t b = stack[body++];

		if (b == h)
			continue;
		if (!b)
			return true;	/* the entry: no loop that is entered by its header alone */
		for (uint32_t i = g->pred_at[b]; i < g->pred_at[b + 1]; i++) {
			uint32_t p = g->pred[i];

			if (++g->work > MAX_WORK)
				return false;
			if (number[p] == NONE || seen[p] == l + 1)
				continue;
			seen[p] = l + 1;
			stack[depth++] = p;
		}
	}
	stack[depth++] = h;
	for (uint32_t i = 0; i < depth; i++) {
		uint32_t *at = &g->loop[stack[i]];

		while (*at != NONE && *at != l)
			at = &g->parent[*at];
		*at = l;
	}
	g->nloops++;
	return true;
}

static bool find_loops(struct graph *g)
{
	struct parser *p = g->t->p;
	uint8_t *is_header = p_alloc(p, g->n);
	uint32_t *post = p_alloc(p, g->n * 4 + 4), *number = p_alloc(p, g->n * 4 + 4);
	uint32_t *stack = p_alloc(p, (g->n + 2) * 4), *seen = p_alloc(p, g->n * 4 + 4);
	uint32_t n = depth_first(g, post, is_header, false);

	g->loop = p_alloc(p, g->n * 4 + 4);
	g->parent = p_alloc(p, g->n * 4 + 4);
	g->header = p_alloc(p, g->n * 4 + 4);
	memset(g->loop, 0xff, g->n * 4);
	memset(number, 0xff, g->n * 4);
	for (uint32_t i = 0; i < n; i++)
		number[post[i]] = i;
	/* inner headers are finished before outer ones */
	for (uint32_t i = 0; i < n; i++)
		if (is_header[post[i]] && !find_loop(g, post[i], number, stack, seen))
			return false;
	return true;
}

static void move_code(struct graph *g, const uint32_t *order)
{
	struct tr *t = g->t;
	struct insn *old = t->code;
	uint32_t old_n = t->n, *moved = p_alloc(t->p, (old_n + 1) * 4);

	t->code = NULL;
	t->n = t->cap = 0;
	for (uint32_t k = 0; k < g->n; k++) {
		uint32_t b = order[k], last = g->start[b + 1] - 1;

		for (uint32_t i = g->start[b]; i <= last; i++) {
			t->code = p_grow(t->p, t->code, t->n, &t->cap, sizeof(*t->code));
			moved[i] = t->n;
			t->code[t->n++] = old[i];
		}
		if (!ends(old[last].fn) && b + 1 < g->n && (k + 1 == g->n || order[k + 1] != b + 1)) {
			t->code = p_grow(t->p, t->code, t->n, &t->cap, sizeof(*t->code));
			t->code[t->n] = (struct insn){ .fn = ctl_bra, .x = 1, .imm = g->start[b + 1], .line = old[last].line };
			t->n++;
		}
	}
	for (uint32_t i = 0; i < t->n; i++)
		if ((t->code[i].fn == ctl_brap || t->code[i].fn == ctl_bra) && t->code[i].x)
			t->code[i].imm = moved[t->code[i].imm];
	for (uint32_t i = 0; i < t->nfixups; i++)
		t->fixups[i].insn = moved[t->fixups[i].insn];
	for (uint32_t i = 0; i < t->fn->nstmts; i++)
		if (t->fn->stmts[i].label)
			t->fn->stmts[i].label->stmt = moved[t->fn->stmts[i].label->stmt];
}

void order_blocks(struct tr *t)
{
	struct graph g = { .t = t };
	uint32_t *post, *order, n, k = 0;
	uint8_t *placed;

	find_blocks(&g);
	if (g.n < 3 || g.n > MAX_BLOCKS)
		return;
	find_edges(&g);
	if (!find_loops(&g))
		return;
	post = p_alloc(t->p, g.n * 4);
	order = p_alloc(t->p, g.n * 4);
	placed = p_alloc(t->p, g.n);
	n = depth_first(&g, post, NULL, true);
	while (n--) {
		order[k++] = post[n];
		placed[post[n]] = 1;
	}
	for (uint32_t b = 0; b < g.n; b++)
		if (!placed[b])
			order[k++] = b;
	for (k = 0; k < g.n && order[k] == k; k++)
		;
	if (k < g.n)
		move_code(&g, order);
}
