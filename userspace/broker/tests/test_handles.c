// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>

#include "../worker/handles.h"
#include "tap.h"

static bool child_of(struct handle *e, void *arg)
{
	return e->parent == *(uint64_t *)arg;
}

static bool any_value_but_the_right_one_is_refused(struct handle_table *t, uint64_t h)
{
	uint64_t i;

	for (i = 0; i < 64; i++) {
		uint64_t other = h ^ 1ull << i;
		int type;

		for (type = 0; type < 256; type++)
			if (handle_find(t, other, type))
				return false;
	}
	return true;
}

int main(void)
{
	struct handle_table t = { 0 };
	uint64_t a = VGPU_HANDLE(0x123456, VGPU_H_STREAM, 7), b = VGPU_HANDLE(0x123456, VGPU_H_EVENT, 8), h;
	unsigned int i, bad = 0;
	struct handle *e;
	int x;

	ok(!handle_find(&t, a, VGPU_H_STREAM), "an empty table knows nothing");
	ok(!handle_room(&t, a, VGPU_H_STREAM), "there is room");
	e = handle_add(&t, a, VGPU_H_STREAM, &x);
	ok(e && e->object == &x && handle_find(&t, a, VGPU_H_STREAM) == e, "what was entered is found");
	ok(!handle_find(&t, a, VGPU_H_EVENT), "not as another type");
	ok(any_value_but_the_right_one_is_refused(&t, a), "nor with any bit of it flipped, as any type");
	ok(!handle_find(&t, VGPU_HANDLE(0x123455, VGPU_H_STREAM, 7), VGPU_H_STREAM), "one generation off is unknown");
	ok(handle_room(&t, VGPU_HANDLE(1, VGPU_H_EVENT, 7), VGPU_H_EVENT) == -EEXIST, "an index in use is taken");
	ok(!handle_add(&t, VGPU_HANDLE(1, VGPU_H_EVENT, 7), VGPU_H_EVENT, &x), "and cannot be taken again");
	ok(handle_room(&t, VGPU_HANDLE(1, VGPU_H_EVENT, 0), VGPU_H_EVENT) == -EINVAL, "index 0 is no index");
	ok(handle_room(&t, VGPU_HANDLE(1, VGPU_H_EVENT, VGPU_HANDLES_MAX), VGPU_H_EVENT) == -EINVAL,
	   "nor is one beyond the limit");
	ok(handle_room(&t, b, VGPU_H_STREAM) == -EINVAL, "the type in the value must be the type");
	ok(handle_room(&t, VGPU_HANDLE(1, VGPU_H_TYPES, 9), VGPU_H_TYPES) == -EINVAL, "of the types there are");
	handle_remove(&t, handle_find(&t, a, VGPU_H_STREAM));
	ok(!handle_find(&t, a, VGPU_H_STREAM) && !t.used, "removed is removed");
	ok(handle_add(&t, VGPU_HANDLE(2, VGPU_H_STREAM, 7), VGPU_H_STREAM, &x) && !handle_find(&t, a, VGPU_H_STREAM),
	   "a stale handle does not come alive with its index");

	h = VGPU_HANDLE(5, VGPU_H_LIBRARY, 100);
	handle_add(&t, h, VGPU_H_LIBRARY, &x);
	for (i = 1; i <= 1000; i++) {
		e = handle_add(&t, VGPU_HANDLE(i, VGPU_H_KERNEL, 1000 + i), VGPU_H_KERNEL, &x);
		if (e)
			e->parent = i % 2 ? h : 0;
		bad += !e;
	}
	handle_purge(&t, child_of, &h);
	for (i = 1; i <= 1000; i++)
		bad += !!handle_find(&t, VGPU_HANDLE(i, VGPU_H_KERNEL, 1000 + i), VGPU_H_KERNEL) != !(i % 2);
	ok(!bad && t.used == 502, "a purge takes the children and nothing else");
	ok(handle_add(&t, VGPU_HANDLE(1, VGPU_H_EVENT, VGPU_HANDLES_MAX - 1), VGPU_H_EVENT, &x), "the last index works");
	handle_table_free(&t);
	return tap_done();
}
