// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../worker/ranges.h"
#include "tap.h"

#define CELLS 512

/* Against a map that cannot be wrong: one byte per cell. */
static bool agrees_with_a_plain_array(unsigned int seed)
{
	struct range_map m = { 0 };
	unsigned char cell[CELLS] = { 0 };	/* number of the range, 0: none */
	unsigned int start[CELLS], next = 1, i, n;
	bool good = true;

	srand(seed);
	for (n = 0; n < 4000 && good; n++) {
		unsigned int at = rand() % CELLS, len = 1 + rand() % 12, used = 0, id = cell[at];
		uint64_t charged;

		if (at + len > CELLS)
			len = CELLS - at;
		for (i = at; i < at + len; i++)
			used |= cell[i];
		if (rand() % 2) {
			int ret = range_add(&m, 0x1000 + at, len, RANGE_ALLOC, 0, len);

			good = ret == (used ? -EEXIST : 0);
			if (!ret) {
				if (++next > 255)
					next = 2;
				/* Numbers are reused: wipe what an older one left. */
				memset(cell + at, next, len);
				start[at] = len;
			}
		} else if (id && range_find(&m, 0x1000 + at)->base == 0x1000 + at) {
			good = range_remove(&m, 0x1000 + at, &charged) && charged == start[at];
			memset(cell + at, 0, start[at]);
		} else {
			good = !range_remove(&m, 0x1000 + at, &charged);
		}
		for (i = 0; i < CELLS && good; i++)
			good = !!range_find(&m, 0x1000 + i) == !!cell[i];
		used = 1;
		for (i = at; i < at + len; i++)
			used &= !!cell[i];
		good = good && range_covers(&m, 0x1000 + at, len) == used;
	}
	range_map_free(&m);
	return good;
}

int main(void)
{
	struct range_map m = { 0 };
	uint64_t charged = 0;
	unsigned int i, bad = 0;

	ok(!range_add(&m, 0x1000, 0x100, RANGE_ALLOC, 1, 512), "a range is added");
	ok(range_covers(&m, 0x1000, 0x100) && range_covers(&m, 0x10ff, 1), "all of it is covered");
	ok(!range_covers(&m, 0xfff, 2) && !range_covers(&m, 0x10ff, 2), "not one byte more on either side");
	ok(!range_covers(&m, 0x1000, UINT64_MAX) && !range_covers(&m, UINT64_MAX, 2), "lengths that wrap are refused");
	ok(range_add(&m, UINT64_MAX - 10, 100, RANGE_ALLOC, 1, 0) == -EINVAL && range_add(&m, 5, 0, RANGE_ALLOC, 1, 0) ==
	   -EINVAL, "a range that wraps or is empty is refused");
	ok(range_add(&m, 0xf80, 0x81, RANGE_ALLOC, 1, 0) == -EEXIST && range_add(&m, 0x10ff, 1, RANGE_ALLOC, 1, 0) ==
	   -EEXIST && range_add(&m, 0x800, 0x1000, RANGE_ALLOC, 1, 0) == -EEXIST, "overlaps are refused");
	ok(!range_add(&m, 0x1100, 0x100, RANGE_ALLOC, 2, 512) && range_covers(&m, 0x1080, 0x100),
	   "ranges that touch are one to a copy");
	ok(!range_remove(&m, 0x1001, &charged), "only a start can be removed");
	ok(range_remove(&m, 0x1000, &charged) && charged == 512 && !range_find(&m, 0x1000), "and gives its charge back");
	ok(range_remove_owner(&m, 2) == 512 && !m.count, "what ends with its owner does");
	ok(!range_add(&m, 0x2000, 0x40, RANGE_GLOBAL, 3, 64) && !range_add(&m, 0x2000, 0x1000, RANGE_ALLOC, 1, 4096) &&
	   m.displaced == 64 && m.count == 1 && range_remove_owner(&m, 1) == 4096,
	   "a library's variable that was reset away makes room, and its charge is told");
	m.displaced = 0;
	ok(!range_add(&m, 0x9000, 0x100, RANGE_OUTLIVED, 0, 256) && !range_add(&m, 0x5000, 0x100, RANGE_ALLOC, 1, 256) &&
	   !range_add(&m, 0x3000, 0x100, RANGE_OUTLIVED, 0, 256) && range_next(&m, 0, RANGE_OUTLIVED)->base == 0x3000 &&
	   range_next(&m, 0x3001, RANGE_OUTLIVED)->base == 0x9000 && !range_next(&m, 0x9001, RANGE_OUTLIVED),
	   "ranges of a kind are found in order");
	ok(!range_add(&m, 0x2f80, 0x100, RANGE_ALLOC, 1, 256) && m.displaced == 256 &&
	   range_next(&m, 0, RANGE_OUTLIVED)->base == 0x9000 && range_add(&m, 0x5000, 0x10, RANGE_ALLOC, 1, 16) == -EEXIST,
	   "memory that has outlived its graph makes room, too");
	range_map_free(&m);
	m = (struct range_map){ 0 };

	for (i = 0; i < 100000; i++)
		bad += !!range_add(&m, 0x10000 + 256ull * i, 256, RANGE_ALLOC, i % 3, 1);
	ok(!bad && m.count == 100000, "a hundred thousand in ascending order");
	ok(range_remove_owner(&m, 1) == 33333 && !range_find(&m, 0x10000 + 256) && range_find(&m, 0x10000),
	   "a third of them ends with its owner");
	range_map_free(&m);
	for (i = 1; i <= 20; i++)
		bad += !agrees_with_a_plain_array(i);
	ok(!bad, "80000 random steps agree with a plain array");
	return tap_done();
}
