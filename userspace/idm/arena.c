// SPDX-License-Identifier: Apache-2.0
/*
 * An allocator over offsets. What it hands out is shared memory that the other side may scribble on, so all its
 * records are private: a treap of blocks ordered by offset, each node knowing the largest free block below it.
 *
 * Pages (sizes of 4096 and up) come from the lowest place that fits, smaller pieces from the highest, so that
 * the pieces do not sit between the pages. Neighbouring free blocks are always merged, but not with what the arena had
 * before it grew: the worker pins each part by itself, and NVIDIA's driver takes no box that lies in two of them.
 */
#include <stdlib.h>

#include "internal.h"

#define GRAIN	64

struct block {
	uint64_t offset, size;
	uint64_t max_free;	/* largest free block in this subtree */
	struct block *left, *right;
	uint32_t priority;
	bool used;
	bool first;		/* of a part that came at once */
};

struct idm_heap {
	struct block *root;
	struct block *spare;	/* unused nodes, by ->right */
	uint64_t size, room;
	uint32_t seed;
};

static uint64_t max_free(const struct block *b)
{
	return b ? b->max_free : 0;
}

static void update(struct block *b)
{
	uint64_t m = b->used ? 0 : b->size;

	if (max_free(b->left) > m)
		m = b->left->max_free;
	if (max_free(b->right) > m)
		m = b->right->max_free;
	b->max_free = m;
}

static struct block *rotate_right(struct block *b)
{
	struct block *l = b->left;

	b->left = l->right;
	l->right = b;
	update(b);
	update(l);
	return l;
}

static struct block *rotate_left(struct block *b)
{
	struct block *r = b->right;

	b->right = r->left;
	r->left = b;
	update(b);
	update(r);
	return r;
}

static struct block *insert(struct block *at, struct block *b)
{
	if (!at) {
		update(b);
		return b;
	}
	if (b->offset < at->offset) {
		at->left = insert(at->left, b);
		if (at->left->priority > at->priority)
			return rotate_right(at);
	} else {
		at->right = insert(at->right, b);
		if (at->right->priority > at->priority)
			return rotate_left(at);
	}
	update(at);
	return at;
}

static struct block *take_out(struct block *at, uint64_t offset)
{
	if (offset == at->offset) {
		if (!at->left)
			return at->right;
		if (!at->right)
			return at->left;
		if (at->left->priority > at->right->priority) {
			struct block *top = rotate_right(at);

			top->right = take_out(at, offset);
			update(top);
			return top;
		}
		struct block *top = rotate_left(at);

		top->left = take_out(at, offset);
		update(top);
		return top;
	}
	if (offset < at->offset)
		at->left = take_out(at->left, offset);
	else
		at->right = take_out(at->right, offset);
	update(at);
	return at;
}

/* The sizes on the way from the root to @b have changed. */
static void refresh(struct block *at, const struct block *b)
{
	if (at != b)
		refresh(b->offset < at->offset ? at->left : at->right, b);
	update(at);
}

static struct block *node(struct idm_heap *h, uint64_t offset, uint64_t size, bool used)
{
	struct block *b = h->spare;

	if (b)
		h->spare = b->right;
	else
		b = malloc(sizeof(*b));
	if (!b)
		return NULL;
	h->seed = h->seed * 1664525u + 1013904223u;
	*b = (struct block){ .offset = offset, .size = size, .used = used, .priority = h->seed };
	return b;
}

static void drop(struct idm_heap *h, struct block *b)
{
	h->root = take_out(h->root, b->offset);
	b->right = h->spare;
	h->spare = b;
}

/* The last block that starts at or before @offset. */
static struct block *floor_block(const struct idm_heap *h, uint64_t offset)
{
	struct block *b = h->root, *best = NULL;

	while (b) {
		if (b->offset <= offset) {
			best = b;
			b = b->right;
		} else {
			b = b->left;
		}
	}
	return best;
}

static struct block *lowest(struct block *b, uint64_t size)
{
	for (;;) {
		if (max_free(b->left) >= size)
			b = b->left;
		else if (!b->used && b->size >= size)
			return b;
		else
			b = b->right;
	}
}

static struct block *highest(struct block *b, uint64_t size)
{
	for (;;) {
		if (max_free(b->right) >= size)
			b = b->right;
		else if (!b->used && b->size >= size)
			return b;
		else
			b = b->left;
	}
}

static uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static bool fits(const struct block *b, uint64_t size, uint64_t align)
{
	uint64_t skip = align_up(b->offset, align) - b->offset;

	return !b->used && skip <= b->size && b->size - skip >= size;
}

/* Last resort: any block in which an aligned place happens to be. */
static struct block *search(struct block *b, uint64_t size, uint64_t align)
{
	struct block *found;

	if (max_free(b) < size)
		return NULL;
	found = search(b->left, size, align);
	if (!found && fits(b, size, align))
		found = b;
	return found ? found : search(b->right, size, align);
}

uint64_t idm_heap_alloc(struct idm_heap *h, uint64_t size, uint64_t align)
{
	struct block *b, *before = NULL, *after = NULL;
	uint64_t start, end;

	if (!size || size > h->size)
		return IDM_HEAP_NONE;
	size = align_up(size, GRAIN);
	if (max_free(h->root) < size)
		return IDM_HEAP_NONE;
	if (align <= GRAIN) {
		b = highest(h->root, size);
		start = b->offset + b->size - size;
	} else {
		b = lowest(h->root, size);
		if (!fits(b, size, align)) {
			uint64_t sure = size + align - GRAIN;

			b = max_free(h->root) >= sure ? lowest(h->root, sure) : search(h->root, size, align);
		}
		if (!b)
			return IDM_HEAP_NONE;
		start = align_up(b->offset, align);
	}
	end = b->offset + b->size;

	/* The block shrinks to what was asked for; what is left on either side becomes a block of its own. */
	if (start > b->offset) {
		after = node(h, start, size, true);
		if (!after)
			return IDM_HEAP_NONE;
	}
	if (start + size < end) {
		before = node(h, start + size, end - start - size, false);
		if (!before) {
			if (after) {
				after->right = h->spare;
				h->spare = after;
			}
			return IDM_HEAP_NONE;
		}
	}
	if (after) {
		b->size = start - b->offset;
		refresh(h->root, b);
		h->root = insert(h->root, after);
	} else {
		b->size = size;
		b->used = true;
		refresh(h->root, b);
	}
	if (before)
		h->root = insert(h->root, before);
	h->room -= size;
	return start;
}

uint64_t idm_heap_free(struct idm_heap *h, uint64_t offset)
{
	struct block *b = floor_block(h, offset), *other;
	uint64_t size;

	if (!b || b->offset != offset || !b->used)
		return 0;
	size = b->size;
	h->room += size;
	b->used = false;
	other = floor_block(h, offset + size);
	if (other && other->offset == offset + size && !other->used && !other->first) {
		b->size += other->size;
		drop(h, other);
	}
	other = b->first ? NULL : floor_block(h, offset - 1);
	if (other && !other->used) {
		other->size += b->size;
		drop(h, b);
		b = other;
	}
	refresh(h->root, b);
	return size;
}

bool idm_heap_lookup(const struct idm_heap *h, uint64_t offset, uint64_t *start, uint64_t *size)
{
	const struct block *b = floor_block(h, offset);

	if (!b || !b->used || offset - b->offset >= b->size)
		return false;
	*start = b->offset;
	*size = b->size;
	return true;
}

bool idm_heap_grow(struct idm_heap *h, uint64_t size)
{
	struct block *b;

	if (size <= h->size)
		return size == h->size;
	b = node(h, h->size, size - h->size, false);
	if (!b)
		return false;
	b->first = true;
	h->root = insert(h->root, b);
	h->room += size - h->size;
	h->size = size;
	return true;
}

struct idm_heap *idm_heap_new(uint64_t size)
{
	struct idm_heap *h = calloc(1, sizeof(*h));

	if (h && !idm_heap_grow(h, size / GRAIN * GRAIN)) {
		free(h);
		return NULL;
	}
	return h;
}

static void delete_tree(struct block *b)
{
	if (!b)
		return;
	delete_tree(b->left);
	delete_tree(b->right);
	free(b);
}

void idm_heap_delete(struct idm_heap *h)
{
	if (!h)
		return;
	delete_tree(h->root);
	while (h->spare) {
		struct block *b = h->spare;

		h->spare = b->right;
		free(b);
	}
	free(h);
}

uint64_t idm_heap_room(const struct idm_heap *h)
{
	return h->room;
}

struct check {
	uint64_t at, room;
	bool last_free, ok;
};

static void check_tree(const struct block *b, struct check *c)
{
	uint64_t m = b ? (b->used ? 0 : b->size) : 0;

	if (!b)
		return;
	check_tree(b->left, c);
	if (b->offset != c->at || !b->size || b->size % GRAIN || (!b->used && c->last_free && !b->first))
		c->ok = false;
	c->at = b->offset + b->size;
	c->last_free = !b->used;
	c->room += b->used ? 0 : b->size;
	check_tree(b->right, c);
	m = max_free(b->left) > m ? max_free(b->left) : m;
	m = max_free(b->right) > m ? max_free(b->right) : m;
	if (m != b->max_free || (b->left && b->left->priority > b->priority) ||
	    (b->right && b->right->priority > b->priority))
		c->ok = false;
}

bool idm_heap_check(const struct idm_heap *h)
{
	struct check c = { .ok = true };

	check_tree(h->root, &c);
	return c.ok && c.at == h->size && c.room == h->room;
}
