// SPDX-License-Identifier: Apache-2.0
/*
 * malloc() and free() of kernels. A context's heap is one allocation, made when a kernel first asks for memory, of the
 * size that CU_LIMIT_MALLOC_HEAP_SIZE says. What is in use of it stands outside, where kernels cannot write.
 */
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

#define UNIT	16u		/* bytes, and alignment */
#define ALIGN	(2ul << 20)

/** struct sg_kernel_heap - @used, @first: a bit for each unit; the second where an allocation begins */
struct sg_kernel_heap {
	uint64_t base;
	uint32_t units, next;
	uint64_t *used, *first;
};

static bool bit(const uint64_t *map, uint32_t i)
{
	return map[i / 64] >> (i % 64) & 1;
}

/* The first unit from @i on, before @end, that is in use, or is not. */
static uint32_t next_unit(const uint64_t *map, uint32_t i, uint32_t end, bool in_use)
{
	while (i < end) {
		uint64_t word = (in_use ? map[i / 64] : ~map[i / 64]) >> (i % 64);

		if (word) {
			i += (uint32_t)__builtin_ctzll(word);
			break;
		}
		i = (i / 64 + 1) * 64;
	}
	return i < end ? i : end;
}

static uint32_t find(const struct sg_kernel_heap *h, uint32_t from, uint32_t end, uint32_t n)
{
	while (from < end) {
		uint32_t start = next_unit(h->used, from, end, false);

		from = next_unit(h->used, start, end, true);
		if (from - start >= n)
			return start;
	}
	return UINT32_MAX;
}

static void set(uint64_t *map, uint32_t from, uint32_t n, bool on)
{
	for (uint32_t i = from, end = from + n; i < end;) {
		uint32_t count = 64 - i % 64 < end - i ? 64 - i % 64 : end - i;
		uint64_t bits = (count == 64 ? UINT64_MAX : (1ull << count) - 1) << (i % 64);

		map[i / 64] = on ? map[i / 64] | bits : map[i / 64] & ~bits;
		i += count;
	}
}

static struct sg_kernel_heap *heap_new(struct sg_ctx *c)
{
	size_t size = c->limits[CU_LIMIT_MALLOC_HEAP_SIZE] & ~(size_t)(UNIT - 1), words;
	struct sg_kernel_heap *h = calloc(1, sizeof(*h));

	if (!h || !size || size / UNIT >= UINT32_MAX)
		goto fail;
	h->units = (uint32_t)(size / UNIT);
	words = (h->units + 63) / 64;
	h->used = calloc(2 * words, sizeof(*h->used));
	if (!h->used)
		goto fail;
	h->first = h->used + words;
	h->base = sg_heap_alloc_on(c->device, c, size, ALIGN, SG_ALLOC_WRITTEN);
	if (!h->base)
		goto fail;
	/* Nobody shall take the first allocation for the heap, and free that. */
	set(h->used, 0, 1, true);
	return h;
fail:
	if (h)
		free(h->used);
	free(h);
	return NULL;
}

uint64_t sg_kernel_malloc(struct sg_ctx *c, uint64_t size)
{
	struct sg_kernel_heap *h;
	uint32_t n, at = UINT32_MAX;

	pthread_mutex_lock(&c->lock);
	if (!c->heap)
		c->heap = heap_new(c);
	h = c->heap;
	if (h && size && size <= (uint64_t)h->units * UNIT) {
		n = (uint32_t)((size + UNIT - 1) / UNIT);
		at = find(h, h->next, h->units, n);
		if (at == UINT32_MAX)
			at = find(h, 0, h->units, n);
	}
	if (at != UINT32_MAX) {
		set(h->used, at, n, true);
		set(h->first, at, 1, true);
		h->next = at + n;
	}
	pthread_mutex_unlock(&c->lock);
	return at != UINT32_MAX ? h->base + (uint64_t)at * UNIT : 0;
}

bool sg_kernel_free(struct sg_ctx *c, uint64_t addr)
{
	const struct sg_kernel_heap *h;
	uint32_t at, end;
	bool ok;

	if (!addr)
		return true;
	pthread_mutex_lock(&c->lock);
	h = c->heap;
	ok = h && addr % UNIT == 0 && addr - h->base < (uint64_t)h->units * UNIT;
	at = ok ? (uint32_t)((addr - h->base) / UNIT) : 0;
	ok = ok && bit(h->first, at);
	if (ok) {
		end = next_unit(h->first, at + 1, next_unit(h->used, at, h->units, false), true);
		set(h->first, at, 1, false);
		set(h->used, at, end - at, false);
	}
	pthread_mutex_unlock(&c->lock);
	return ok;
}

void sg_kernel_heap_end(struct sg_ctx *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->heap) {
		free(c->heap->used);
		free(c->heap);
	}
	c->heap = NULL;
	pthread_mutex_unlock(&c->lock);
}
