// SPDX-License-Identifier: Apache-2.0
/* Handles: any value a program may hand in is an object of the right type, or is refused without being followed. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../object.h"
#include "../stream_copy.h"
#include "tap.h"

#define MANY	5000

static void lookups(void)
{
	struct object *o, *again;
	char *inside;
	uint64_t wire;
	bool refused = true;
	int soon;

	ok(!object_get((void *)0x1234, VGPU_H_STREAM), "before there are objects nothing is one");
	ok(!objects_init() && !objects_init(), "the array is made once");
	o = object_new(VGPU_H_STREAM);
	wire = o->wire;
	ok(object_get(o, VGPU_H_STREAM) == o, "a new object is found");
	ok(!object_get(o, VGPU_H_EVENT), "but not as another type");
	ok(VGPU_HANDLE_TYPE(wire) == VGPU_H_STREAM && VGPU_HANDLE_INDEX(wire) == (uint32_t)(o - objects),
	   "its wire handle says type and place");
	ok(o - objects > VGPU_DEVICES_MAX, "the first places are the primary contexts'");
	inside = (char *)o;
	ok(!object_get(inside + 1, VGPU_H_STREAM) && !object_get(inside + 8, VGPU_H_STREAM), "an address inside it is none");
	ok(!object_get(NULL, VGPU_H_STREAM) && !object_get((void *)-1, VGPU_H_STREAM) &&
	   !object_get(objects - 1, VGPU_H_STREAM) && !object_get(objects + OBJECTS, VGPU_H_STREAM),
	   "nor is any address outside the array");
	object_delete(o);
	ok(!object_get(o, VGPU_H_STREAM) && !object_handle(o, VGPU_H_STREAM), "an object that is gone is none");
	ok(!object_get(&objects[OBJECTS - 1], VGPU_H_NONE + 1), "nor is a place that was never used");
	for (soon = 0; soon < 10000; soon++) {
		again = object_new(VGPU_H_STREAM);
		object_delete(again);
		if (again == o)
			break;
	}
	ok(soon > 100 && again == o && again->wire != wire, "its place comes again, but not soon, and under another handle");
	srandom(3);
	for (int i = 0; i < 100000; i++) {
		uint64_t value = (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ random();

		refused = refused && !object_function((void *)value);
	}
	ok(refused, "100000 random values are refused");
}

static void *churn(void *arg)
{
	struct object *mine[50];
	bool *good = arg;

	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 50; i++) {
			mine[i] = object_new(VGPU_H_EVENT);
			mine[i]->parent = arg;
		}
		for (int i = 0; i < 50; i++) {
			*good = *good && mine[i]->parent == arg && object_get(mine[i], VGPU_H_EVENT);
			object_delete(mine[i]);
		}
	}
	return NULL;
}

static void threads(void)
{
	bool good[4] = { true, true, true, true };
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, churn, &good[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ok(good[0] && good[1] && good[2] && good[3], "four threads never share a place");
}

static void copies(void)
{
	static char from[MANY], to[MANY + 64], want[MANY + 64];
	bool same = true;

	for (int i = 0; i < MANY; i++)
		from[i] = i * 13;
	for (int i = 0; i < 2000; i++) {
		size_t n = random() % (MANY - 64), src = random() % 64, dst = random() % 64;

		memset(to, i, sizeof(to));
		memset(want, i, sizeof(want));
		memcpy(want + dst, from + src, n);
		stream_copy(to + dst, from + src, n);
		same = same && !memcmp(to, want, sizeof(to));
	}
	ok(same, "stream_copy() copies what memcpy() does, whatever the alignment");
}

int main(void)
{
	lookups();
	threads();
	copies();
	return done_testing();
}
