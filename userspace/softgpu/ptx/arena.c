// SPDX-License-Identifier: Apache-2.0
/* The parser's memory, its names (each spelled once, so compared by pointer) and its symbols by (name, scope). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ast.h"

#define BLOCK	65536u
#define INVALID_PTX 218
#define OUT_OF_MEMORY 2

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	_Alignas(16) uint8_t data[];
};

struct name {
	struct name *next;
	uint32_t hash, len;
	char s[];
};

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_block *b = a->blocks;
	void *ret;

	if (size > a->limit - a->total)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	if (!b || b->cap - b->used < size) {
		size_t cap = size > BLOCK ? size : BLOCK;

		b = calloc(1, sizeof(*b) + cap);
		if (!b)
			return NULL;
		b->cap = cap;
		if (a->blocks && size > BLOCK) {	/* keep filling the current one */
			b->next = a->blocks->next;
			a->blocks->next = b;
		} else {
			b->next = a->blocks;
			a->blocks = b;
		}
	}
	ret = b->data + b->used;
	b->used += size;
	a->total += size;
	if (a->total > a->limit)
		a->total = a->limit;
	return ret;
}

void arena_free(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *b = a->blocks;

		a->blocks = b->next;
		free(b);
	}
	a->total = 0;
}

void ptx_error(struct parser *p, uint32_t line, int code, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->log && p->log->text && p->log->len < p->log->cap) {
		int n = snprintf(p->log->text + p->log->len, p->log->cap - p->log->len, "line %u: %s\n", line, text);

		if (n > 0)
			p->log->len += (size_t)n < p->log->cap - p->log->len ? (size_t)n : p->log->cap - p->log->len - 1;
	}
	p->error = code ? code : INVALID_PTX;
	longjmp(p->fail, 1);
}

void *p_alloc(struct parser *p, size_t size)
{
	void *m = arena_alloc(p->arena, size);

	if (!m)
		ptx_error(p, p->line, OUT_OF_MEMORY, "not enough memory for this module");
	return m;
}

void *p_grow(struct parser *p, void *array, uint32_t n, uint32_t *cap, size_t item)
{
	void *bigger;

	if (n < *cap)
		return array;
	*cap = *cap ? *cap * 2 : 8;
	bigger = p_alloc(p, *cap * item);
	if (n)
		memcpy(bigger, array, n * item);
	return bigger;
}

static uint32_t hash_bytes(const char *s, size_t len)
{
	uint32_t h = 2166136261u;

	while (len--)
		h = (h ^ (uint8_t)*s++) * 16777619u;
	return h;
}

const char *p_intern(struct parser *p, const char *s, size_t len)
{
	uint32_t h = hash_bytes(s, len);
	struct name *n;

	if (p->names_cap)
		for (n = p->names[h & (p->names_cap - 1)]; n; n = n->next)
			if (n->hash == h && n->len == len && !memcmp(n->s, s, len))
				return n->s;
	if (p->nnames >= p->names_cap) {
		uint32_t cap = p->names_cap ? p->names_cap * 2 : 256;
		struct name **t = p_alloc(p, cap * sizeof(*t));

		for (uint32_t i = 0; i < p->names_cap; i++)
			while ((n = p->names[i])) {
				p->names[i] = n->next;
				n->next = t[n->hash & (cap - 1)];
				t[n->hash & (cap - 1)] = n;
			}
		p->names = t;
		p->names_cap = cap;
	}
	n = p_alloc(p, sizeof(*n) + len + 1);
	n->hash = h;
	n->len = len;
	memcpy(n->s, s, len);
	n->next = p->names[h & (p->names_cap - 1)];
	p->names[h & (p->names_cap - 1)] = n;
	p->nnames++;
	return n->s;
}

static uint32_t sym_hash(const char *name, uint32_t scope)
{
	uint64_t h = ((uintptr_t)name >> 4) * 0x9e3779b97f4a7c15ull + scope * 0xc2b2ae3d27d4eb4full;

	return h ^ h >> 32;
}

struct sym *sym_here(struct parser *p, const char *name, uint32_t scope)
{
	if (p->table_cap)
		for (struct sym *s = p->table[sym_hash(name, scope) & (p->table_cap - 1)]; s; s = s->next)
			if (s->name == name && s->scope == scope)
				return s;
	return NULL;
}

struct sym *sym_find(struct parser *p, const char *name, uint32_t scope)
{
	for (;; scope = p->scope_parent[scope]) {
		struct sym *s = sym_here(p, name, scope);

		if (s || !scope)
			return s;
	}
}

struct sym *sym_add(struct parser *p, const char *name, uint32_t scope, enum sym_kind kind)
{
	struct sym *s;
	uint32_t h;

	if (p->nsyms >= p->table_cap) {
		uint32_t cap = p->table_cap ? p->table_cap * 2 : 256;
		struct sym **t = p_alloc(p, cap * sizeof(*t));

		for (uint32_t i = 0; i < p->table_cap; i++)
			while ((s = p->table[i])) {
				p->table[i] = s->next;
				h = sym_hash(s->name, s->scope) & (cap - 1);
				s->next = t[h];
				t[h] = s;
			}
		p->table = t;
		p->table_cap = cap;
	}
	s = p_alloc(p, sizeof(*s));
	s->name = name;
	s->scope = scope;
	s->kind = kind;
	s->line = p->tok.line;
	h = sym_hash(name, scope) & (p->table_cap - 1);
	s->next = p->table[h];
	p->table[h] = s;
	p->nsyms++;
	return s;
}

uint32_t scope_push(struct parser *p)
{
	if (p->depth >= PTX_MAX_DEPTH)
		ptx_error(p, p->tok.line, 0, "blocks nested more than %d deep", PTX_MAX_DEPTH);
	if (p->nscopes >= PTX_MAX_SCOPES)
		ptx_error(p, p->tok.line, 0, "more than %u blocks", PTX_MAX_SCOPES);
	p->scope_parent = p_grow(p, p->scope_parent, p->nscopes, &p->cscopes, sizeof(*p->scope_parent));
	p->scope_parent[p->nscopes] = p->scope;
	p->scope = p->nscopes++;
	p->depth++;
	return p->scope;
}

void scope_pop(struct parser *p)
{
	p->scope = p->scope_parent[p->scope];
	p->depth--;
}
