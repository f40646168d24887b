// SPDX-License-Identifier: Apache-2.0
/* A treap: a binary search tree over the bases that is also a heap over random priorities. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "range.h"

struct node {
	struct range range;
	uint32_t priority;
	struct node *left, *right;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *root, *spare;
static unsigned long count;
static uint64_t next_id = 1;
static uint32_t random_state = 2463534242u;

static uint32_t priority(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

/* All bases below @base go left, the others right. */
static void split(struct node *t, uint64_t base, struct node **left, struct node **right)
{
	if (!t) {
		*left = *right = NULL;
	} else if (t->range.base < base) {
		split(t->right, base, &t->right, right);
		*left = t;
	} else {
		split(t->left, base, left, &t->left);
		*right = t;
	}
}

static struct node *merge(struct node *left, struct node *right)
{
	if (!left)
		return right;
	if (!right)
		return left;
	if (left->priority > right->priority) {
		left->right = merge(left->right, right);
		return left;
	}
	right->left = merge(left, right->left);
	return right;
}

/* The last range that starts at or below @addr. */
static struct node *at_or_below(uint64_t addr)
{
	struct node *t = root, *best = NULL;

	while (t) {
		if (t->range.base <= addr) {
			best = t;
			t = t->right;
		} else {
			t = t->left;
		}
	}
	return best;
}

static struct node *holder(uint64_t addr)
{
	struct node *n = at_or_below(addr);

	return n && addr - n->range.base < n->range.size ? n : NULL;
}

/* Under the lock. */
static void unlink_node(struct node *n)
{
	struct node **at = &root;

	while (*at != n)
		at = n->range.base < (*at)->range.base ? &(*at)->left : &(*at)->right;
	*at = merge(n->left, n->right);
	n->left = spare;
	spare = n;
	count--;
}

int range_insert(const struct range *r)
{
	struct node *n, *left, *right, *below;
	int err = 0;

	if (!r->size || r->base + r->size - 1 < r->base)
		return -EINVAL;
	pthread_mutex_lock(&lock);
	/* Whatever overlaps either holds our first byte or starts inside us; the last start below our end tells. */
	while ((below = at_or_below(r->base + r->size - 1)) &&
	       (below->range.base >= r->base || r->base - below->range.base < below->range.size)) {
		if (below->range.kind != RANGE_GRAPH || !(below->range.flags & RANGE_OUTLIVED)) {
			err = -EEXIST;
			goto out;
		}
		unlink_node(below);
	}
	n = spare;
	if (n)
		spare = n->left;
	else
		n = malloc(sizeof(*n));
	if (!n) {
		err = -ENOMEM;
		goto out;
	}
	*n = (struct node){ .range = *r, .priority = priority() };
	n->range.id = next_id++;
	split(root, r->base, &left, &right);
	root = merge(merge(left, n), right);
	count++;
out:
	pthread_mutex_unlock(&lock);
	return err;
}

static bool is_reserved(const struct node *n)
{
	return n && (n->range.kind == RANGE_RESERVED || n->range.kind == RANGE_HOST);
}

bool range_covers(uint64_t addr, uint64_t len, struct range *out)
{
	struct node *n, *first;
	uint64_t here;
	bool ok;

	pthread_mutex_lock(&lock);
	first = n = holder(addr);
	here = n ? n->range.size - (addr - n->range.base) : 0;
	while (is_reserved(n) && len > here) {
		len -= here;
		n = holder(n->range.base + n->range.size);
		here = is_reserved(n) ? n->range.size : 0;
	}
	ok = n && len <= here;
	if (ok && out)
		*out = first->range;
	pthread_mutex_unlock(&lock);
	return ok;
}

void range_mark(uint64_t base, uint32_t flag, bool on)
{
	struct node *n;

	pthread_mutex_lock(&lock);
	n = holder(base);
	if (n && n->range.base == base)
		n->range.flags = on ? n->range.flags | flag : n->range.flags & ~flag;
	pthread_mutex_unlock(&lock);
}

bool range_becomes_host(uint64_t base)
{
	struct node *n;
	bool ok;

	pthread_mutex_lock(&lock);
	n = holder(base);
	ok = n && n->range.base == base && n->range.kind == RANGE_RESERVED;
	if (ok)
		n->range.kind = RANGE_HOST;
	pthread_mutex_unlock(&lock);
	return ok;
}

bool range_find(uint64_t addr, struct range *out)
{
	return range_covers(addr, 0, out);
}

bool range_remove(uint64_t base, unsigned int kinds, struct range *out)
{
	struct node *n;
	bool ok;

	pthread_mutex_lock(&lock);
	n = at_or_below(base);
	ok = n && n->range.base == base && kinds >> n->range.kind & 1;
	if (ok) {
		if (out)
			*out = n->range;
		unlink_node(n);
	}
	pthread_mutex_unlock(&lock);
	return ok;
}

/* What stays of @t. Ranges of @owner, or of context @ctx, go. */
static struct node *sift(struct node *t, const void *owner, const void *ctx, void (*each)(const struct range *r))
{
	struct node *left, *right;

	if (!t)
		return NULL;
	left = sift(t->left, owner, ctx, each);
	right = sift(t->right, owner, ctx, each);
	if ((owner && t->range.owner == owner) ||
	    (ctx && t->range.ctx == ctx && t->range.kind != RANGE_REGISTERED && t->range.kind != RANGE_ALIAS)) {
		if (each)
			each(&t->range);
		t->left = spare;
		spare = t;
		count--;
		return merge(left, right);
	}
	t->left = left;
	t->right = right;
	return t;
}

void range_remove_owned(const void *owner)
{
	pthread_mutex_lock(&lock);
	root = sift(root, owner, NULL, NULL);
	pthread_mutex_unlock(&lock);
}

void range_remove_context(const void *ctx, void (*each)(const struct range *r))
{
	pthread_mutex_lock(&lock);
	root = sift(root, NULL, ctx, each);
	pthread_mutex_unlock(&lock);
}

uint64_t range_new_id(void)
{
	uint64_t id;

	pthread_mutex_lock(&lock);
	id = next_id++;
	pthread_mutex_unlock(&lock);
	return id;
}

unsigned long range_count(void)
{
	return count;
}
