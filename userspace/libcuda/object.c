// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "object.h"

/* Places that are free before the first comes again: until then its old handle is known to be no handle. */
#define REST	256

struct object *objects;
void (*object_gone)(struct object *o);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t fresh = VGPU_DEVICES_MAX + 1;	/* places from here up were never used */
static uint32_t first_free, last_free, nfree;	/* the place that is free longest comes first; 0: none */
static uint64_t random_state;

int objects_init(void)
{
	void *p;

	if (objects)
		return 0;
	if (getrandom(&random_state, sizeof(random_state), 0) != sizeof(random_state) || !random_state)
		random_state = 0x9e3779b97f4a7c15ull ^ (uintptr_t)&p;
	p = mmap(NULL, OBJECTS * sizeof(struct object), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	objects = p;
	return 0;
}

/* xorshift64*: generations need to differ from use to use; the worker's table compares the whole handle. */
static uint32_t generation(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1dull) >> 40;
}

void *object_new(enum vgpu_handle_type type)
{
	struct object *o = NULL;
	uint32_t index = 0;

	pthread_mutex_lock(&lock);
	if (nfree > REST || (nfree && fresh == OBJECTS)) {
		index = first_free;
		first_free = objects[index].next_free;
		nfree--;
	} else if (fresh < OBJECTS) {
		index = fresh++;
	}
	if (index) {
		o = &objects[index];
		memset(o, 0, sizeof(*o));
		o->wire = VGPU_HANDLE(generation(), type, index);
		__atomic_store_n(&o->type, type, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	return o;
}

void objects_each(enum vgpu_handle_type type, void (*fn)(struct object *o, void *arg), void *arg)
{
	uint32_t end;

	pthread_mutex_lock(&lock);
	end = fresh;
	pthread_mutex_unlock(&lock);
	for (uint32_t i = 1; i < end; i++)
		if (__atomic_load_n(&objects[i].type, __ATOMIC_ACQUIRE) == type)
			fn(&objects[i], arg);
}

void object_delete(void *p)
{
	struct object *o = p;

	if (object_gone)
		object_gone(o);
	pthread_mutex_lock(&lock);
	/* Others may be looking, to find that it is none of theirs. */
	__atomic_store_n(&o->type, VGPU_H_NONE, __ATOMIC_RELAXED);
	__atomic_store_n(&o->wire, 0, __ATOMIC_RELAXED);
	if (nfree++)
		objects[last_free].next_free = o - objects;
	else
		first_free = o - objects;
	last_free = o - objects;
	pthread_mutex_unlock(&lock);
}
