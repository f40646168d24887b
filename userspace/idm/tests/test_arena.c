// SPDX-License-Identifier: Apache-2.0
/* The arena's allocator against a map of what it has handed out. */
#include <stdlib.h>
#include <time.h>

#include "../internal.h"
#include "tap.h"

#define UNIT	64
#define UNITS	(1 << 16)	/* 4 MiB */
#define PART	((uint64_t)UNITS * UNIT)	/* what there is at first, and what comes later */
#define LIVE	2000

struct piece {
	uint64_t off, size;
};

static unsigned char map[UNITS * 2];
static struct piece live[LIVE];

static uint64_t some_size(void)
{
	switch (rand() % 4) {
	case 0:
		return 1 + rand() % 200;
	case 1:
		return 1 + rand() % 4095;
	case 2:
		return 4096 * (1 + rand() % 8);
	default:
		return 4096 * (1 + rand() % 64);
	}
}

static void churn(unsigned int seed)
{
	struct idm_heap *h = idm_heap_new(PART);
	uint64_t room = idm_heap_room(h), size = PART;
	bool good = true, grown = false;
	int n = 0, full = 0;

	srand(seed);
	memset(map, 0, sizeof(map));
	for (int step = 0; step < 60000 && good; step++) {
		if (step == 30000) {
			grown = idm_heap_grow(h, size * 2);
			room += size;
			size *= 2;
		}
		if (n < LIVE && rand() % 100 < 55) {
			uint64_t want = some_size(), align = want >= 4096 ? 4096 : 64;
			uint64_t off = idm_heap_alloc(h, want, align), got, start;

			if (off == IDM_HEAP_NONE) {
				full++;
				continue;
			}
			want = (want + 63) / 64 * 64;
			good &= off % align == 0 && off + want <= size;
			good &= off + want <= PART || off >= PART;
			for (uint64_t u = off / UNIT; u < (off + want) / UNIT; u++) {
				good &= !map[u];
				map[u] = 1;
			}
			live[n++] = (struct piece){ off, want };
			good &= idm_heap_lookup(h, off + want - 1, &start, &got) && start == off && got == want;
		} else if (n) {
			int i = rand() % n;

			good &= idm_heap_free(h, live[i].off) == live[i].size;
			good &= idm_heap_free(h, live[i].off) == 0;
			memset(map + live[i].off / UNIT, 0, live[i].size / UNIT);
			live[i] = live[--n];
		}
		if (step % 500 == 0)
			good &= idm_heap_check(h);
	}
	good &= grown && idm_heap_check(h);
	while (n)
		good &= idm_heap_free(h, live[--n].off) > 0;
	good &= idm_heap_check(h) && idm_heap_room(h) == room;
	good &= idm_heap_alloc(h, size, 4096) == IDM_HEAP_NONE;
	good &= idm_heap_alloc(h, PART, 4096) == 0 && idm_heap_alloc(h, PART, 4096) == PART;
	ok(good, "seed %u: 60000 random steps, %d of them refused, nothing in two parts, and all comes back", seed, full);
	idm_heap_delete(h);
}

int main(void)
{
	struct idm_heap *h = idm_heap_new(1 << 20);
	uint64_t start, size, small, page;
	int n = 0;

	for (unsigned int seed = 1; seed <= 5; seed++)
		churn(seed);
	while (idm_heap_alloc(h, 4096, 4096) != IDM_HEAP_NONE)
		n++;
	ok(n == 256, "every page can be handed out (%d of 256)", n);
	ok(idm_heap_alloc(h, 1, 64) == IDM_HEAP_NONE, "exhaustion is said");
	ok(idm_heap_free(h, 4096 * 10) == 4096 && idm_heap_free(h, 4096 * 11) == 4096 &&
	   idm_heap_alloc(h, 8192, 4096) == 4096 * 10, "neighbours merge");
	ok(!idm_heap_free(h, 4096 * 10 + 64) && !idm_heap_free(h, 1ull << 40) && !idm_heap_free(h, 3),
	   "what was never handed out cannot be freed");
	ok(idm_heap_lookup(h, 4096 * 11 + 5, &start, &size) && start == 4096 * 10 && size == 8192,
	   "lookup finds the allocation around an address");
	ok(idm_heap_alloc(h, UINT64_MAX, 64) == IDM_HEAP_NONE && idm_heap_alloc(h, UINT64_MAX - 63, 4096) == IDM_HEAP_NONE &&
	   idm_heap_alloc(h, 0, 64) == IDM_HEAP_NONE, "absurd sizes are refused");
	idm_heap_delete(h);

	h = idm_heap_new(1 << 20);
	small = idm_heap_alloc(h, 100, 64);
	page = idm_heap_alloc(h, 4096, 4096);
	ok(page == 0 && small + 128 == 1 << 20, "small pieces and pages keep apart");
	idm_heap_delete(h);
	return tap_done();
}
