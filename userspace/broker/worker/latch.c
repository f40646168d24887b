// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "latch.h"

#define MASK (LATCH_SLOTS - 1)

void latch_init(struct latch_table *t)
{
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
}

static uint32_t home(uint32_t thread)
{
	return thread * 2654435761u >> 22 & MASK;
}

/* @thread's slot, or the free one where it would be, or NULL: full. */
static struct latch *slot_of(struct latch_table *t, uint32_t thread)
{
	uint32_t i, at = home(thread);

	for (i = 0; i < LATCH_SLOTS; i++, at = (at + 1) & MASK)
		if (!t->slots[at].thread || t->slots[at].thread == thread)
			return &t->slots[at];
	return NULL;
}

void latch_set(struct latch_table *t, uint32_t thread, int32_t result, uint32_t type)
{
	struct latch *l;

	if (!thread)
		return;
	pthread_mutex_lock(&t->lock);
	l = slot_of(t, thread);
	if (l && !l->thread) {
		*l = (struct latch){ thread, result, type };
		__atomic_store_n(&t->used, t->used + 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&t->lock);
}

/* Linear probing without tombstones: what follows a freed slot moves up if its home allows. */
static void free_slot(struct latch_table *t, uint32_t hole)
{
	uint32_t at = hole;

	for (;;) {
		at = (at + 1) & MASK;
		if (!t->slots[at].thread || at == hole)
			break;
		if (((at - home(t->slots[at].thread)) & MASK) >= ((at - hole) & MASK)) {
			t->slots[hole] = t->slots[at];
			hole = at;
		}
	}
	t->slots[hole].thread = 0;
}

int32_t latch_take(struct latch_table *t, uint32_t thread, uint32_t *type)
{
	struct latch *l;
	int32_t result = 0;

	*type = 0;
	if (!thread || !__atomic_load_n(&t->used, __ATOMIC_ACQUIRE))
		return 0;
	pthread_mutex_lock(&t->lock);
	l = slot_of(t, thread);
	if (l && l->thread == thread) {
		result = l->result;
		*type = l->type;
		free_slot(t, l - t->slots);
		__atomic_store_n(&t->used, t->used - 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&t->lock);
	return result;
}
