// SPDX-License-Identifier: Apache-2.0
/* Loading: parse, place variables, translate every function, and what a module tells about itself. */

#include <stdio.h>
#include <stdlib.h>

#include "lazy.h"
#include "translate.h"

#define MODULE_MEMORY	(2ull << 30)
#define MAX_STATIC_SHARED (228u << 10)
#define OUT_OF_MEMORY	2
#define NOT_FOUND	500

/* Variables of a unit are those of the module it belongs to. */
static bool place_as_parent(struct sym *s, struct ptx_module *m)
{
	uint64_t address;

	if (!m->parent || s->scope || !ptx_module_global(m->parent, s->name, &address, NULL))
		return false;
	s->address = address;
	s->placed = true;
	return true;
}

static void place_vars(struct parser *p, struct ptx_module *m)
{
	uint64_t total = 0, base;

	m->vars = arena_alloc(&m->arena, (p->nvars + 1) * sizeof(*m->vars));
	if (!m->vars)
		ptx_error(p, 0, OUT_OF_MEMORY, "not enough memory for this module");
	for (uint32_t i = 0; i < p->nvars; i++) {
		struct sym *s = p->vars[i];

		if (s->space == SP_SHARED || s->external || place_as_parent(s, m))
			continue;
		total = (total + s->align - 1) & ~(uint64_t)(s->align - 1);
		s->address = total;
		total += s->size ? s->size : 1;
		if (total > 1ull << 40)
			ptx_error(p, s->line, OUT_OF_MEMORY, "variables take more memory than there is");
	}
	if (!total)
		return;
	base = sg_heap_alloc(total, 65536);
	if (!base)
		ptx_error(p, 0, OUT_OF_MEMORY, "no device memory for %llu bytes of variables", (unsigned long long)total);
	m->heap = malloc(sizeof(*m->heap));
	if (!m->heap) {
		sg_heap_free(base);
		ptx_error(p, 0, OUT_OF_MEMORY, "not enough memory for this module");
	}
	m->heap[m->nheap++] = base;
	memset((void *)(uintptr_t)base, 0, total);
	for (uint32_t i = 0; i < p->nvars; i++) {
		struct sym *s = p->vars[i];
		struct ptx_var *v;
		size_t n = strlen(s->name) + 1;
		char *name;

		if (s->space == SP_SHARED || s->external || s->placed)
			continue;
		s->address += base;
		s->placed = true;
		if (s->data_len)
			memcpy((void *)(uintptr_t)s->address, s->data, s->data_len);
		if (s->scope)
			continue;
		name = arena_alloc(&m->arena, n);
		if (!name)
			ptx_error(p, 0, OUT_OF_MEMORY, "not enough memory for this module");
		memcpy(name, s->name, n);
		v = &m->vars[m->nvars++];
		*v = (struct ptx_var){ name, s->address, s->size, s->managed, s->opaque };
	}
}

static void init_addresses(struct parser *p, const struct ptx_module *m)
{
	for (uint32_t i = 0; i < p->nvars; i++)
		for (struct init *in = p->vars[i]->inits; in; in = in->next) {
			struct sym *s = sym_find(p, in->name, p->vars[i]->scope);
			uint64_t v;

			if (!p->vars[i]->placed || (m->parent && !p->vars[i]->scope))
				continue;
			if (s && s->kind == S_FUNC && s->fn->defined && !s->fn->entry)
				v = FUNC_ADDRESS(s->fn->index);
			else if (s && s->kind == S_VAR && s->placed && s->space != SP_SHARED)
				v = s->address;
			else if (s && s->kind == S_FUNC && s->fn->entry)
				v = 0;	/* a kernel's address serves only device-side launches */
			else
				ptx_error(p, in->line, 0, "'%s' has no address that '%s' could begin with", in->name,
					  p->vars[i]->name);
			v += in->add;
			if (in->mask)
				v >>= in->mask_shift;
			memcpy((void *)(uintptr_t)(p->vars[i]->address + in->at), &v,
			       in->width < sizeof(v) ? in->width : sizeof(v));
		}
}

struct reach {
	struct parser *p;
	uint8_t *seen;			/* by function index; 1: on the path, 2: done */
	uint32_t *chain;		/* local memory of a function and what it calls */
	bool shared, recursive, indirect;
	uint32_t depth;
};

static bool uses_shared(const struct fn *fn)
{
	for (uint32_t i = 0; i < fn->nshared_refs; i++)
		if (!fn->shared_refs[i]->dynamic)
			return true;
	for (uint32_t i = 0; i < fn->nlocals; i++)
		if (fn->locals[i]->space == SP_SHARED && !fn->locals[i]->dynamic && !fn->entry)
			return true;
	return false;
}

/* Follow the calls of @fn. @return the local memory of the deepest chain. */
static uint32_t follow(struct reach *r, struct fn *fn)
{
	uint32_t deepest = 0;

	if (uses_shared(fn))
		r->shared = true;
	if (r->depth > 200) {
		r->recursive = true;
		return 0;
	}
	r->depth++;
	for (uint32_t i = 0; i < fn->nstmts; i++) {
		struct stmt *s = &fn->stmts[i];
		uint32_t n;

		if (s->part[0] && !strcmp(s->part[0], "alloca"))
			r->recursive = true;	/* as much stack as without a known limit */
		if (!s->part[0] || strcmp(s->part[0], "call"))
			continue;
		for (uint32_t k = 0; k < s->nops; k++) {
			struct sym *callee;

			if (s->ops[k].kind == O_REG)
				r->indirect = true;
			callee = s->ops[k].kind == O_NAME ? sym_find(r->p, s->ops[k].name, 0) : NULL;
			if (!callee || callee->kind != S_FUNC || !callee->fn->defined || callee->fn->entry)
				continue;
			if (r->seen[callee->fn->index] == 1) {
				r->recursive = true;
				continue;
			}
			if (r->seen[callee->fn->index] == 2) {
				n = r->chain[callee->fn->index];
			} else {
				r->seen[callee->fn->index] = 1;
				n = r->chain[callee->fn->index] = follow(r, callee->fn);
				r->seen[callee->fn->index] = 2;
			}
			deepest = n > deepest ? n : deepest;
		}
	}
	r->depth--;
	return deepest + ((struct ptx_func *)fn->code)->local_bytes;
}

static void init_tr(struct tr *t, struct parser *p, struct ptx_module *m, struct fn *fn, uint32_t shared)
{
	memset(t, 0, sizeof(*t));
	t->p = p;
	t->m = m;
	t->fn = fn;
	t->shared = shared;
}

static void fill_kernel(struct parser *p, struct ptx_module *m, struct fn *fn, uint32_t shared, uint32_t const_bytes,
			struct reach *r)
{
	struct ptx_kernel *k = &m->kernels[m->nkernels++];
	struct ptx_func *f = fn->code;
	uint32_t stack = follow(r, fn), end = 0;

	k->fn = f;
	k->module = m;
	k->dynamic_align = 16;
	for (uint32_t i = 0; i < p->nvars; i++)
		if (p->vars[i]->space == SP_SHARED && p->vars[i]->dynamic && p->vars[i]->align > k->dynamic_align)
			k->dynamic_align = p->vars[i]->align;
	if (r->recursive || r->indirect)
		stack = stack > RECURSIVE_STACK ? stack : RECURSIVE_STACK;
	k->stack = (stack + 15) & ~15u;
	if (k->stack > 512u << 10)
		ptx_error(p, fn->line, 0, "'%s' needs %u bytes of local memory per thread: more than 512 KiB", fn->name,
			  k->stack);
	for (uint32_t i = 0; i < f->nargs; i++)
		end = f->args[i].offset + f->args[i].size;
	k->info = (struct ptx_kernel_info){
		.name = f->name,
		.nparams = f->nargs,
		.params = (const void *)f->args,
		.param_bytes = end,
		.static_shared = shared,
		.const_bytes = const_bytes,
		.local_bytes = stack,
		.registers = f->registers < 16 ? 16 : f->registers > 255 ? 255 : f->registers,
		.max_threads = fn->max_threads && fn->max_threads < 1024 ? fn->max_threads : 1024,
		.required = { fn->required[0], fn->required[1], fn->required[2] },
		.ptx_version = m->target,
		.binary_version = m->target,
	};
}

static void prepare(struct parser *p, struct ptx_module *m)
{
	uint32_t nfuncs = 0, nkernels = 0;

	for (struct fn *fn = p->fns; fn; fn = fn->next) {
		struct ptx_func *f;
		struct tr t;
		char *name;
		size_t n = strlen(fn->name) + 1;

		if (!fn->defined)
			continue;
		init_tr(&t, p, m, fn, 0);
		f = fn->code = t_keep(&t, sizeof(*f));
		f->name = name = t_keep(&t, n);
		memcpy(name, fn->name, n);
		f->nargs = fn->nparams;
		f->nrets = fn->nrets;
		f->args = t_keep(&t, (fn->nparams + 1) * sizeof(*f->args));
		f->rets = t_keep(&t, (fn->nrets + 1) * sizeof(*f->rets));
		if (fn->entry)
			nkernels++;
		fn->index = nfuncs++;
	}
	m->kernels = arena_alloc(&m->arena, (nkernels + 1) * sizeof(*m->kernels));
	m->table = arena_alloc(&m->arena, sizeof(*m->table) + (nfuncs + 1) * sizeof(m->table->fn[0]));
	if (!m->kernels || !m->table)
		ptx_error(p, 0, OUT_OF_MEMORY, "not enough memory for this module");
	m->table->n = nfuncs;
	for (struct fn *fn = p->fns; fn; fn = fn->next)
		if (fn->defined && !fn->entry)
			m->table->fn[fn->index] = fn->code;
}

static void translate_all(struct parser *p, struct ptx_module *m)
{
	uint32_t shared = 0, const_bytes = 0, nfuncs = m->table->n;
	struct tr t;

	for (struct fn *fn = p->fns; fn; fn = fn->next)
		for (uint32_t i = 0; i < fn->nshared_refs; i++)
			fn->shared_refs[i]->referenced = true;
	for (uint32_t i = 0; i < p->nvars; i++) {
		struct sym *s = p->vars[i];

		if (s->space == SP_CONST)
			const_bytes += s->size;
		if (s->space != SP_SHARED || s->dynamic || (!s->referenced && m->parent))
			continue;
		uint64_t at = ((uint64_t)shared + s->align - 1) & ~(uint64_t)(s->align - 1);

		if (at + s->size > PTX_MAX_SHARED)
			ptx_error(p, s->line, 0, "'%s' does not fit shared memory", s->name);
		s->address = at;
		s->placed = true;
		shared = at + s->size;
	}
	for (struct fn *fn = p->fns; fn; fn = fn->next)
		if (fn->defined && !fn->entry) {
			init_tr(&t, p, m, fn, shared);
			translate(&t);
			shared = t.shared;
		}
	for (struct fn *fn = p->fns; fn; fn = fn->next) {
		struct reach r = { .p = p };
		uint32_t used;

		if (!fn->defined || !fn->entry)
			continue;
		/* what a kernel reaches decides where its own shared variables begin */
		r.seen = p_alloc(p, nfuncs + 1);
		r.chain = p_alloc(p, (nfuncs + 1) * sizeof(*r.chain));
		follow(&r, fn);
		init_tr(&t, p, m, fn, r.shared || r.indirect ? shared : 0);
		translate(&t);
		used = t.shared;
		if (used > MAX_STATIC_SHARED)
			ptx_error(p, fn->line, 0, "'%s' uses %u bytes of shared memory; there are %u", fn->name, used,
				  MAX_STATIC_SHARED);
		r = (struct reach){ .p = p, .chain = r.chain, .seen = memset(r.seen, 0, nfuncs + 1) };
		fill_kernel(p, m, fn, used, const_bytes, &r);
	}
}

/* Everything behind parsing. */
static void make(struct parser *p, struct ptx_module *m)
{
	m->version = p->version;
	m->target = p->target;
	place_vars(p, m);
	prepare(p, m);
	init_addresses(p, m);
	translate_all(p, m);
}

static void parser_init(struct parser *p, struct arena *arena, struct ptx_log *log)
{
	*p = (struct parser){ .arena = arena, .log = log };
	arena->limit = MODULE_MEMORY;
}

/* A function's address in a variable must be the same for every unit: such modules are made whole. */
static bool has_function_addresses(struct parser *p)
{
	for (uint32_t i = 0; i < p->nvars; i++)
		for (struct init *in = p->vars[i]->inits; in; in = in->next) {
			struct sym *s = sym_find(p, in->name, p->vars[i]->scope);

			if (!s || s->kind == S_FUNC)
				return true;
		}
	return false;
}

/* Is there a function in what seemed to stand between functions? */
static bool has_functions(const struct parser *p)
{
	for (const struct fn *fn = p->fns; fn; fn = fn->next)
		if (fn->defined)
			return true;
	return false;
}

/* Only what stands between functions. @return 0, an error, or -1: make it whole. */
static int load_lazily(const char *text, size_t len, struct ptx_log *log, struct ptx_module *m)
{
	struct arena arena = { 0 };
	struct parser p;

	m->pieces = scan_pieces(&m->arena, text, len, &m->npieces);
	if (!m->pieces || !m->npieces || m->pieces[0].body)
		return -1;	/* the parser tells what is wrong with it, and where */
	parser_init(&p, &arena, log);
	if (setjmp(p.fail)) {
		arena_free(&arena);
		return p.error;
	}
	parse_begin(&p);
	for (uint32_t i = 0; i < m->npieces; i++)
		if (!m->pieces[i].body)
			parse_piece(&p, m->pieces[i].start, m->pieces[i].end, m->pieces[i].line);
	if (p.aliases || !p.version || has_functions(&p) || has_function_addresses(&p)) {
		arena_free(&arena);
		return -1;
	}
	parse_end(&p);
	m->version = p.version;
	m->target = p.target;
	place_vars(&p, m);
	init_addresses(&p, m);
	arena_free(&arena);
	return 0;
}

int ptx_module_load(const char *text, size_t len, struct ptx_log *log, struct ptx_module **out)
{
	struct arena arena = { 0 };
	struct ptx_module *m = calloc(1, sizeof(*m));
	struct parser p;
	int err;

	*out = NULL;
	if (log && log->text && log->cap)
		log->text[log->len < log->cap ? log->len : log->cap - 1] = 0;
	if (!m)
		return OUT_OF_MEMORY;
	m->arena.limit = MODULE_MEMORY;
	if (len >= LAZY_TEXT) {
		err = load_lazily(text, len, log, m);
		if (err > 0) {
			ptx_module_free(m);
			return err;
		}
		if (!err) {
			*out = m;
			return 0;
		}
		m->pieces = NULL;
		m->npieces = 0;
	}
	parser_init(&p, &arena, log);
	p.cur = text;
	p.end = text + len;
	if (setjmp(p.fail)) {
		arena_free(&arena);
		ptx_module_free(m);
		return p.error;
	}
	parse_module(&p);
	make(&p, m);
	arena_free(&arena);
	*out = m;
	return 0;
}

void ptx_module_free(struct ptx_module *m)
{
	if (!m)
		return;
	while (m->units) {
		struct ptx_module *unit = m->units;

		m->units = unit->next;
		ptx_module_free(unit);
	}
	for (size_t i = 0; i < m->nheap; i++)
		sg_heap_free(m->heap[i]);
	free(m->heap);
	arena_free(&m->arena);
	free(m);
}

/* Mark the functions that those already wanted name, until there are no more. */
static void want_named(struct ptx_module *m)
{
	bool more = true, all = false;

	while (more) {
		more = false;
		for (uint32_t i = 0; i < m->npieces; i++) {
			struct piece *from = &m->pieces[i];

			if (!from->body || !from->wanted)
				continue;
			all = all || scan_word(from->body, from->end, ".callprototype", 14) ||
			      scan_word(from->body, from->end, ".calltargets", 12);
			for (uint32_t k = 0; k < m->npieces; k++) {
				struct piece *f = &m->pieces[k];

				if (!f->body || f->entry || f->wanted)
					continue;
				f->wanted = all || scan_word(from->body, from->end, f->name, f->name_len);
				more = more || f->wanted;
			}
		}
	}
}

static int make_unit(struct ptx_module *m, struct piece *kernel, struct ptx_log *log, struct ptx_module **out)
{
	struct ptx_module *unit = calloc(1, sizeof(*unit));
	struct arena arena = { 0 };
	struct parser p;

	if (!unit)
		return OUT_OF_MEMORY;
	for (uint32_t i = 0; i < m->npieces; i++)
		m->pieces[i].wanted = !m->pieces[i].body || &m->pieces[i] == kernel;
	want_named(m);
	unit->arena.limit = MODULE_MEMORY;
	unit->parent = m;
	parser_init(&p, &arena, log);
	if (setjmp(p.fail)) {
		arena_free(&arena);
		ptx_module_free(unit);
		return p.error;
	}
	parse_begin(&p);
	for (uint32_t i = 0; i < m->npieces; i++)
		if (m->pieces[i].wanted)
			parse_piece(&p, m->pieces[i].start, m->pieces[i].end, m->pieces[i].line);
	parse_end(&p);
	make(&p, unit);
	/* what a first look takes for a kernel may be none to the parser */
	if (unit->nkernels != 1 || strlen(unit->kernels[0].info.name) != kernel->name_len ||
	    memcmp(unit->kernels[0].info.name, kernel->name, kernel->name_len))
		ptx_error(&p, kernel->line, 0, "no kernel '%.*s' here", (int)kernel->name_len, kernel->name);
	arena_free(&arena);
	unit->next = m->units;
	m->units = unit;
	m->prints |= unit->prints;
	*out = unit;
	return 0;
}

static const struct ptx_kernel *made(const struct ptx_module *m, const char *name)
{
	for (size_t i = 0; i < m->nkernels; i++)
		if (!strcmp(m->kernels[i].info.name, name))
			return &m->kernels[i];
	for (const struct ptx_module *unit = m->units; unit; unit = unit->next)
		if (!strcmp(unit->kernels[0].info.name, name))
			return &unit->kernels[0];
	return NULL;
}

int ptx_module_find(struct ptx_module *m, const char *name, struct ptx_log *log, const struct ptx_kernel **out)
{
	size_t len = strlen(name);
	struct ptx_module *unit;
	int err;

	*out = made(m, name);
	if (*out)
		return 0;
	for (uint32_t i = 0; i < m->npieces; i++) {
		struct piece *p = &m->pieces[i];

		if (!p->body || !p->entry || p->name_len != len || memcmp(p->name, name, len))
			continue;
		err = make_unit(m, p, log, &unit);
		if (!err)
			*out = &unit->kernels[0];
		return err;
	}
	return NOT_FOUND;
}

const struct ptx_kernel *ptx_module_kernel(const struct ptx_module *m, const char *name)
{
	return made(m, name);
}

size_t ptx_module_kernels(const struct ptx_module *m)
{
	size_t n = m->nkernels;

	for (uint32_t i = 0; i < m->npieces; i++)
		n += m->pieces[i].body && m->pieces[i].entry;
	return n;
}

const struct ptx_kernel *ptx_module_kernel_at(const struct ptx_module *m, size_t i)
{
	return i < m->nkernels ? &m->kernels[i] : NULL;
}

size_t ptx_module_kernel_name(const struct ptx_module *m, size_t i, const char **name)
{
	if (i < m->nkernels) {
		*name = m->kernels[i].info.name;
		return strlen(*name);
	}
	i -= m->nkernels;
	for (uint32_t k = 0; k < m->npieces; k++) {
		if (!m->pieces[k].body || !m->pieces[k].entry || i--)
			continue;
		*name = m->pieces[k].name;
		return m->pieces[k].name_len;
	}
	return 0;
}

static const struct ptx_var *find_var(const struct ptx_module *m, const char *name)
{
	for (size_t i = 0; i < m->nvars; i++)
		if (!strcmp(m->vars[i].name, name))
			return &m->vars[i];
	return NULL;
}

bool ptx_module_global(const struct ptx_module *m, const char *name, uint64_t *address, size_t *size)
{
	const struct ptx_var *v = find_var(m, name);

	if (!v)
		return false;
	if (address)
		*address = v->address;
	if (size)
		*size = v->size;
	return true;
}

bool ptx_module_global_is_managed(const struct ptx_module *m, const char *name)
{
	const struct ptx_var *v = find_var(m, name);

	return v && v->managed;
}

bool ptx_module_global_is_texture(const struct ptx_module *m, const char *name)
{
	const struct ptx_var *v = find_var(m, name);

	return v && v->opaque;
}

bool ptx_module_prints(const struct ptx_module *m)
{
	return m->prints;
}

const struct ptx_kernel_info *ptx_kernel_info(const struct ptx_kernel *k)
{
	return &k->info;
}
