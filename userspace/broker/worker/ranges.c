// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>

#include "ranges.h"

static uint32_t next_priority(struct range_map *m)
{
	/* xorshift: the shape of the tree must not be the client's choice, but need not be secret either */
	uint64_t x = m->seed ? m->seed : 0x9e3779b97f4a7c15ull ^ (uintptr_t)m;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	m->seed = x;
	return x >> 32;
}

/* All of @left lies below all of @right. */
static struct range *join(struct range *left, struct range *right)
{
	if (!left)
		return right;
	if (!right)
		return left;
	if (left->priority > right->priority) {
		left->right = join(left->right, right);
		return left;
	}
	right->left = join(left, right->left);
	return right;
}

static void split(struct range *t, uint64_t base, struct range **below, struct range **above)
{
	if (!t) {
		*below = *above = NULL;
	} else if (t->base < base) {
		split(t->right, base, &t->right, above);
		*below = t;
	} else {
		split(t->left, base, below, &t->left);
		*above = t;
	}
}

/* The last range that starts at or below @addr. */
static struct range *floor_of(const struct range_map *m, uint64_t addr)
{
	struct range *t = m->root, *best = NULL;

	while (t) {
		if (t->base <= addr) {
			best = t;
			t = t->right;
		} else {
			t = t->left;
		}
	}
	return best;
}

int range_add(struct range_map *m, uint64_t base, uint64_t size, enum range_kind kind, uint64_t owner,
	      uint64_t charged)
{
	struct range *r, *below, *above;
	uint64_t end;

	if (!size || __builtin_add_overflow(base, size, &end))
		return -EINVAL;
	/*
	 * The last one that starts before our end must end before our start. A library outlives a context's reset, its
	 * variables do not, and memory that has outlived its graph may be freed by another: one of these in the way of what the
	 * driver has just given out is gone.
	 */
	while ((r = floor_of(m, end - 1)) && r->base + r->size > base) {
		uint64_t charged_before;

		if ((r->kind != RANGE_GLOBAL && r->kind != RANGE_OUTLIVED) || !range_remove(m, r->base, &charged_before))
			return -EEXIST;
		m->displaced += charged_before;
	}
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct range){ .base = base, .size = size, .charged = charged, .owner = owner, .kind = kind,
			     .priority = next_priority(m) };
	split(m->root, base, &below, &above);
	m->root = join(join(below, r), above);
	m->count++;
	return 0;
}

struct range *range_find(const struct range_map *m, uint64_t addr)
{
	struct range *r = floor_of(m, addr);

	return r && addr - r->base < r->size ? r : NULL;
}

static struct range *next_in(struct range *t, uint64_t addr, enum range_kind kind)
{
	struct range *r;

	if (!t)
		return NULL;
	if (t->base >= addr) {
		r = next_in(t->left, addr, kind);
		if (r || t->kind == kind)
			return r ? r : t;
	}
	return next_in(t->right, addr, kind);
}

struct range *range_next(const struct range_map *m, uint64_t addr, enum range_kind kind)
{
	return next_in(m->root, addr, kind);
}

bool range_remove(struct range_map *m, uint64_t base, uint64_t *charged)
{
	struct range **p = &m->root, *r;

	while (*p && (*p)->base != base)
		p = base < (*p)->base ? &(*p)->left : &(*p)->right;
	r = *p;
	if (!r)
		return false;
	*charged = r->charged;
	*p = join(r->left, r->right);
	m->count--;
	free(r);
	return true;
}

bool range_covers(const struct range_map *m, uint64_t addr, uint64_t len)
{
	uint64_t end;

	if (__builtin_add_overflow(addr, len, &end))
		return false;
	if (!len)
		return range_find(m, addr);
	while (addr < end) {
		struct range *r = range_find(m, addr);

		if (!r)
			return false;
		addr = r->base + r->size;
	}
	return true;
}

static void remove_owner(struct range_map *m, struct range *t, uint64_t owner, struct range **keep, uint64_t *charged)
{
	struct range *left, *right;

	if (!t)
		return;
	left = t->left;
	right = t->right;
	remove_owner(m, left, owner, keep, charged);
	if (t->owner == owner) {
		*charged += t->charged;
		if (t->shared && m->gone)
			m->gone(t->shared);
		m->count--;
		free(t);
	} else {
		t->left = t->right = NULL;
		*keep = join(*keep, t);
	}
	remove_owner(m, right, owner, keep, charged);
}

uint64_t range_remove_owner(struct range_map *m, uint64_t owner)
{
	struct range *keep = NULL;
	uint64_t charged = 0;

	remove_owner(m, m->root, owner, &keep, &charged);
	m->root = keep;
	return charged;
}

static void free_all(struct range *t)
{
	if (!t)
		return;
	free_all(t->left);
	free_all(t->right);
	free(t);
}

void range_map_free(struct range_map *m)
{
	free_all(m->root);
	m->root = NULL;
	m->count = 0;
}
