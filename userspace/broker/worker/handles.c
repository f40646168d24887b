// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handles.h"

#define FIRST_CAP 64u

static int grow(struct handle_table *t, uint32_t index)
{
	uint32_t cap = t->cap ? t->cap : FIRST_CAP;
	struct handle *slots;

	while (cap <= index)
		cap *= 2;
	slots = realloc(t->slots, (size_t)cap * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + t->cap, 0, (size_t)(cap - t->cap) * sizeof(*slots));
	t->slots = slots;
	t->cap = cap;
	return 0;
}

int handle_room(struct handle_table *t, uint64_t h, enum vgpu_handle_type type)
{
	uint32_t index = VGPU_HANDLE_INDEX(h);

	if (VGPU_HANDLE_TYPE(h) != type || type <= VGPU_H_NONE || type >= VGPU_H_TYPES || !index ||
	    index >= VGPU_HANDLES_MAX)
		return -EINVAL;
	if (index < t->cap)
		return t->slots[index].value ? -EEXIST : 0;
	return grow(t, index);
}

struct handle *handle_add(struct handle_table *t, uint64_t h, enum vgpu_handle_type type, void *object)
{
	struct handle *e;

	if (handle_room(t, h, type))
		return NULL;
	e = &t->slots[VGPU_HANDLE_INDEX(h)];
	*e = (struct handle){ .value = h, .object = object };
	t->used++;
	return e;
}

struct handle *handle_find(const struct handle_table *t, uint64_t h, enum vgpu_handle_type type)
{
	uint32_t index = VGPU_HANDLE_INDEX(h);

	if (index >= t->cap || !h || t->slots[index].value != h || VGPU_HANDLE_TYPE(h) != type)
		return NULL;
	return &t->slots[index];
}

void handle_remove(struct handle_table *t, struct handle *e)
{
	memset(e, 0, sizeof(*e));
	t->used--;
}

void handle_purge(struct handle_table *t, bool (*match)(struct handle *e, void *arg), void *arg)
{
	uint32_t i;

	for (i = 0; i < t->cap; i++)
		if (t->slots[i].value && match(&t->slots[i], arg))
			handle_remove(t, &t->slots[i]);
}

void handle_table_free(struct handle_table *t)
{
	free(t->slots);
	memset(t, 0, sizeof(*t));
}
