// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "../worker/latch.h"
#include "tap.h"

static struct latch_table t;

int main(void)
{
	static int want[20000];
	unsigned int i, n, bad = 0, held = 0;
	uint32_t type;

	latch_init(&t);
	ok(!latch_take(&t, 1, &type) && !type, "nothing failed");
	latch_set(&t, 1, 700, 0x20);
	latch_set(&t, 1, 1, 0x13);
	latch_set(&t, 2, 2, 0x1);
	ok(latch_take(&t, 1, &type) == 700 && type == 0x20, "the first failure of a thread wins");
	ok(!latch_take(&t, 1, &type), "and is told once");
	ok(latch_take(&t, 2, &type) == 2 && type == 1, "each thread has its own");
	latch_set(&t, 0, 5, 5);
	ok(!latch_take(&t, 0, &type) && !t.used, "thread 0 is no thread");

	srand(1);
	for (n = 0; n < 200000; n++) {
		uint32_t thread = 1 + rand() % 19999;

		if (rand() % 2) {
			latch_set(&t, thread, 1 + n % 999, thread);
			if (!want[thread] && held < LATCH_SLOTS) {
				want[thread] = 1 + n % 999;
				held++;
			}
		} else {
			bad += latch_take(&t, thread, &type) != want[thread];
			bad += want[thread] && type != thread;
			held -= !!want[thread];
			want[thread] = 0;
		}
	}
	ok(!bad && t.used == held, "200000 random steps agree with a plain array, also while it is full");
	for (i = 1; i < 20000; i++)
		bad += latch_take(&t, i, &type) != want[i];
	ok(!bad && !t.used, "and it empties");
	return tap_done();
}
