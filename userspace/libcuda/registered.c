// SPDX-License-Identifier: Apache-2.0
/*
 * Registered memory stays the program's own, so a copy from or to it goes through an arena buffer. A function of ours in
 * the stream's order fills the buffer before the copy, or empties it behind: so the copy sees what is there in its turn,
 * and nobody waits.
 */
#include <stdlib.h>
#include <string.h>

#include "callback.h"
#include "capture.h"
#include "memory.h"
#include "registered.h"

struct buffered {
	struct host_rows rows;
	char *buffer;
};

static unsigned int buffers;	/* atomic */

bool registered_busy(void)
{
	return __atomic_load_n(&buffers, __ATOMIC_ACQUIRE);
}

bool registered_covers(const void *p, size_t n)
{
	uint64_t offset;
	struct range r;

	return range_covers((uintptr_t)p, n, &r) && r.kind == RANGE_REGISTERED && !memory_arena(p, n, &offset);
}

bool registered_now(uint64_t stream)
{
	const struct object *o = stream > 2 ? &objects[VGPU_HANDLE_INDEX(stream)] : NULL;

	/* A blocking stream may have to wait for the legacy one. */
	return o && o->stream.flags & CU_STREAM_NON_BLOCKING &&
	       __atomic_load_n(&o->stream.sent, __ATOMIC_ACQUIRE) == __atomic_load_n(&o->stream.idle, __ATOMIC_RELAXED);
}

struct buffered *registered_buffer(const struct host_rows *rows, uint64_t *offset)
{
	struct buffered *b = callback_room() ? malloc(sizeof(*b)) : NULL;

	if (!b)
		return NULL;
	*b = (struct buffered){ *rows, idm_arena_alloc(shim.client, rows->width * rows->height * rows->depth) };
	if (!b->buffer) {
		free(b);
		return NULL;
	}
	__atomic_add_fetch(&buffers, 1, __ATOMIC_RELAXED);
	*offset = b->buffer - (char *)idm_arena_base(shim.client);
	return b;
}

static void drop(void *data)
{
	struct buffered *b = data;

	idm_arena_free(shim.client, b->buffer);
	free(b);
	__atomic_sub_fetch(&buffers, 1, __ATOMIC_RELEASE);
}

static void move(const struct buffered *b, bool fill)
{
	const struct host_rows *r = &b->rows;
	char *packed = b->buffer;

	for (size_t z = 0; z < r->depth; z++) {
		for (size_t y = 0; y < r->height; y++, packed += r->width) {
			char *row = r->at + (z * r->rows + y) * r->pitch;

			if (fill)
				memcpy(packed, row, r->width);
			else
				memcpy(row, packed, r->width);
		}
	}
}

static void fill(void *data)
{
	move(data, true);
}

static void land(void *data)
{
	move(data, false);
	drop(data);
}

/* Several messages for one call: each counts for the stream. */
static CUresult enqueue(uint64_t stream, CUhostFn fn, struct buffered *b)
{
	CUresult r;

	stream_touch(stream);
	r = callback_own(stream, fn, b);
	stream_touch(stream);
	return r;
}

CUresult registered_fill(uint64_t stream, struct buffered *b)
{
	CUresult r = enqueue(stream, fill, b);

	if (r != CUDA_SUCCESS)
		drop(b);
	return r;
}

/* After a failure the buffer is kept: the copy, or the function before it, may be under way. */
CUresult registered_filled(uint64_t stream, struct buffered *b, CUresult copy)
{
	CUresult r = copy == CUDA_SUCCESS ? enqueue(stream, drop, b) : copy;

	thread_self()->touched = NULL;
	return r;
}

CUresult registered_land(uint64_t stream, struct buffered *b, CUresult copy)
{
	CUresult r = copy == CUDA_SUCCESS ? enqueue(stream, land, b) : copy;

	thread_self()->touched = NULL;
	return r;
}
