// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of pageable memory in graphs. They are made each time the graph runs: through an arena buffer, which a function
 * of ours, in a node that nobody is shown, fills before the copy or empties after it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "callback.h"
#include "copy.h"
#include "graph.h"
#include "memory.h"
#include "shim_gen.h"

struct pageable {
	CUDA_MEMCPY3D plain;	/* as the program gave it */
	char *buffer;
	bool to_device;
	struct pageable *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pageable *all;

bool pageable_not(uint64_t at)
{
	struct range r;

	return range_find(at, &r) && r.kind != RANGE_REGISTERED;
}

static uint64_t source(const CUDA_MEMCPY3D *c)
{
	return c->srcMemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)c->srcHost : c->srcDevice;
}

static uint64_t destination(const CUDA_MEMCPY3D *c)
{
	return c->dstMemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)c->dstHost : c->dstDevice;
}

static bool reachable(CUmemorytype type, uint64_t at)
{
	return type == CU_MEMORYTYPE_ARRAY || pageable_not(at);
}

static void move(void *data)
{
	const struct pageable *p = data;
	const CUDA_MEMCPY3D *c = &p->plain;
	size_t pitch = p->to_device ? c->srcPitch : c->dstPitch, rows = p->to_device ? c->srcHeight : c->dstHeight;
	size_t x = p->to_device ? c->srcXInBytes : c->dstXInBytes, y = p->to_device ? c->srcY : c->dstY;
	size_t z = p->to_device ? c->srcZ : c->dstZ;
	char *base = (char *)(uintptr_t)(p->to_device ? source(c) : destination(c)), *b = p->buffer;

	for (size_t k = 0; k < c->Depth; k++) {
		for (size_t j = 0; j < c->Height; j++, b += c->WidthInBytes) {
			char *row = base + ((z + k) * rows + y + j) * pitch + x;

			if (p->to_device)
				memcpy(b, row, c->WidthInBytes);
			else
				memcpy(row, b, c->WidthInBytes);
		}
	}
}

CUresult pageable_replace(CUDA_MEMCPY3D *c, struct pageable **out)
{
	bool src = reachable(c->srcMemoryType, source(c)), dst = reachable(c->dstMemoryType, destination(c));
	struct pageable *p;
	size_t bytes;

	*out = NULL;
	if (src && dst)
		return CUDA_SUCCESS;
	/* What a caller calls a device address must be one. */
	if ((!src && c->srcMemoryType == CU_MEMORYTYPE_DEVICE) || (!dst && c->dstMemoryType == CU_MEMORYTYPE_DEVICE) ||
	    (!src && !source(c)) || (!dst && !destination(c)))
		return CUDA_ERROR_INVALID_VALUE;
	if (!src && !dst)
		return REFUSE("a graph's copy from pageable to pageable memory", "copy it in a host function");
	if (__builtin_mul_overflow(c->WidthInBytes, c->Height, &bytes) || __builtin_mul_overflow(bytes, c->Depth, &bytes))
		return CUDA_ERROR_INVALID_VALUE;
	p = calloc(1, sizeof(*p));
	if (p)
		p->buffer = idm_arena_alloc(shim.client, bytes ? bytes : 1);
	/* Pinned memory to the copy that is made of it. */
	if (!p || !p->buffer || range_insert(&(struct range){ .base = (uintptr_t)p->buffer, .size = bytes ? bytes : 1,
							      .kind = RANGE_PINNED })) {
		if (p && p->buffer)
			idm_arena_free(shim.client, p->buffer);
		free(p);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	p->plain = *c;
	p->to_device = !src;
	if (!src) {
		c->srcMemoryType = CU_MEMORYTYPE_HOST;
		c->srcHost = p->buffer;
		c->srcXInBytes = c->srcY = c->srcZ = 0;
		c->srcPitch = c->WidthInBytes;
		c->srcHeight = c->Height;
	} else {
		c->dstMemoryType = CU_MEMORYTYPE_HOST;
		c->dstHost = p->buffer;
		c->dstXInBytes = c->dstY = c->dstZ = 0;
		c->dstPitch = c->WidthInBytes;
		c->dstHeight = c->Height;
	}
	pthread_mutex_lock(&lock);
	p->next = all;
	all = p;
	pthread_mutex_unlock(&lock);
	*out = p;
	return CUDA_SUCCESS;
}

void pageable_free(struct pageable *p)
{
	struct pageable **at;

	if (!p)
		return;
	pthread_mutex_lock(&lock);
	for (at = &all; *at != p; at = &(*at)->next)
		;
	*at = p->next;
	pthread_mutex_unlock(&lock);
	range_remove((uintptr_t)p->buffer, 1 << RANGE_PINNED, NULL);
	idm_arena_free(shim.client, p->buffer);
	free(p);
}

static void gone(void *data)
{
	pageable_free(data);
}

struct hook *pageable_hook(struct pageable *p, enum vgpu_hook *kind)
{
	*kind = p->to_device ? VGPU_HOOK_BEFORE : VGPU_HOOK_AFTER;
	return hook_new(&(struct hook){ .fn = move, .data = p, .gone = gone, .gone_data = p, .ours = true });
}

void pageable_restore(CUDA_MEMCPY3D *c)
{
	const void *src = c->srcMemoryType == CU_MEMORYTYPE_ARRAY ? NULL : (void *)(uintptr_t)source(c);
	const void *dst = c->dstMemoryType == CU_MEMORYTYPE_ARRAY ? NULL : (void *)(uintptr_t)destination(c);

	pthread_mutex_lock(&lock);
	for (const struct pageable *p = all; p; p = p->next) {
		if (p->buffer == src || p->buffer == dst) {
			*c = p->plain;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
}

CUresult pageable_capture(const CUDA_MEMCPY3D *c, CUstream stream)
{
	CUDA_MEMCPY3D staged = *c;
	enum vgpu_hook kind;
	struct pageable *p;
	struct hook *h;
	uint64_t wire;
	CUresult r;

	if (!stream_handle(stream, &wire))
		return CUDA_ERROR_INVALID_HANDLE;
	r = pageable_replace(&staged, &p);
	if (r != CUDA_SUCCESS)
		return r;
	h = p ? pageable_hook(p, &kind) : NULL;
	if (!h) {
		pageable_free(p);
		return p ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
	}
	if (kind == VGPU_HOOK_BEFORE)
		r = callback_capture(wire, h, kind);
	if (r == CUDA_SUCCESS)
		r = cuMemcpy3DAsync_v2(&staged, stream);
	if (kind == VGPU_HOOK_AFTER && r == CUDA_SUCCESS)
		r = callback_capture(wire, h, kind);
	return r;
}
