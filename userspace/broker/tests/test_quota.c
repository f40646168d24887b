// SPDX-License-Identifier: Apache-2.0
/* Leases against a model of workers: each uses so much, and gives back what it does not use when asked. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../quota.h"
#include "tap.h"

#define MIB	(1ull << 20)
#define SLAB	(32 * MIB)
#define N	6

static struct quota q;
static struct model {
	struct quota_holder h;
	uint64_t used, leased;
	int answers;
	uint64_t granted;
	bool asked, stuck;
} w[N];

static struct model *of(struct quota_holder *h)
{
	return (struct model *)((char *)h - offsetof(struct model, h));
}

static void granted(struct quota_holder *h, uint64_t bytes)
{
	of(h)->answers++;
	of(h)->granted = bytes;
	of(h)->leased += bytes;
}

static void reclaim(struct quota_holder *h)
{
	of(h)->asked = true;
}

/* What a worker does when it reads BROKER_RECLAIM. */
static void deliver(uint64_t now)
{
	int i;

	for (i = 0; i < N; i++) {
		uint64_t spare;

		if (!w[i].asked || w[i].stuck)
			continue;
		w[i].asked = false;
		spare = w[i].leased > w[i].used ? w[i].leased - w[i].used : 0;
		w[i].leased -= spare;
		quota_return(&w[i].h, spare, true, now);
	}
}

static bool take(int i, uint64_t bytes, uint64_t now)
{
	uint64_t need;

	w[i].used += bytes;
	while (w[i].used > w[i].leased) {
		need = w[i].used - w[i].leased;
		w[i].answers = 0;
		quota_request(&w[i].h, need, need < SLAB ? SLAB : need, now);
		while (!w[i].answers) {
			deliver(now);
			now += QUOTA_ANSWER_NS / 2;
			quota_tick(&q, now);
		}
		if (!w[i].granted) {
			w[i].used -= bytes;
			return false;
		}
	}
	return true;
}

static void reset(uint64_t limit)
{
	int i;

	memset(&q, 0, sizeof(q));
	memset(w, 0, sizeof(w));
	q.limit = limit;
	q.granted = granted;
	q.reclaim = reclaim;
	for (i = 0; i < N; i++)
		quota_join(&q, &w[i].h);
}

static uint64_t sum_used(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < N; i++)
		sum += w[i].used;
	return sum;
}

static bool random_steps_are_exact(unsigned int seed)
{
	bool good = true;
	int n;

	srand(seed);
	reset(256 * MIB);
	for (n = 0; n < 3000 && good; n++) {
		int i = rand() % N;
		uint64_t bytes = (1 + rand() % 40) * MIB / (1 + rand() % 8);

		if (rand() % 5 < 3) {
			uint64_t before = sum_used();
			bool got = take(i, bytes, n * 1000ull);

			/* Granted if and only if it really fits. */
			good = got == (before + bytes <= q.limit);
		} else if (w[i].used) {
			w[i].used -= w[i].used < bytes ? w[i].used : bytes;
		}
		good = good && q.leased <= q.limit && sum_used() <= q.limit;
	}
	return good;
}

int main(void)
{
	unsigned int i, bad = 0;
	uint64_t now = 1;

	reset(64 * MIB);
	ok(take(0, MIB, now) && w[0].leased == SLAB, "a small allocation leases a slab");
	ok(take(1, MIB, now) && w[1].leased == SLAB, "and so does a sibling's");
	ok(take(2, 62 * MIB, now) && w[0].leased == MIB && w[1].leased == MIB, "unused leases are taken back when needed");
	ok(!take(3, 1, now), "not a byte more than the quota");
	w[2].used = 0;
	ok(take(3, 62 * MIB, now) && !w[2].leased, "what is freed can be had by another");
	ok(!take(0, 1, now), "and then is gone again");

	reset(64 * MIB);
	take(0, MIB, now);
	w[0].stuck = true;
	w[1].answers = 0;
	quota_request(&w[1].h, 64 * MIB, 64 * MIB, now);
	ok(!w[1].answers, "a request waits for siblings to answer");
	ok(quota_request(&w[1].h, 1, 1, now) == -EALREADY, "one request at a time");
	quota_tick(&q, now + QUOTA_ANSWER_NS - 1);
	ok(!w[1].answers, "as long as they may take");
	quota_tick(&q, now + QUOTA_ANSWER_NS);
	ok(w[1].answers == 1 && !w[1].granted, "one that does not answer is counted as using all it holds");
	quota_request(&w[1].h, 64 * MIB, 64 * MIB, now + 2 * QUOTA_ANSWER_NS);
	quota_leave(&w[0].h, now + 2 * QUOTA_ANSWER_NS);
	ok(w[1].answers == 2 && w[1].granted == 64 * MIB, "its death frees what it held, and serves who waits");
	ok(quota_return(&w[1].h, 65 * MIB, false, now) == -EINVAL, "nobody gives back more than it holds");
	ok(quota_request(&w[2].h, 0, 5, now) == -EINVAL, "nor asks for nothing");

	reset(64 * MIB);
	take(0, 48 * MIB, now);
	quota_limit(&q, 32 * MIB, now);
	ok(!take(1, 1, now) && !take(0, 32 * MIB, now), "a limit lowered below what is out grants nothing");
	w[0].used = 0;
	ok(take(1, 32 * MIB, now) && !take(2, 1, now), "until enough has come back");

	reset(64 * MIB);
	ok(!quota_adopt(&w[0].h, 100 * MIB) && q.leased == 100 * MIB && !take(1, 1, now), "what is found to be held counts, quota or not");
	ok(quota_adopt(&w[1].h, UINT64_MAX) == -EINVAL && q.leased == 100 * MIB, "but not more than there are bytes");
	ok(!quota_return(&w[0].h, 90 * MIB, false, now) && q.leased == 10 * MIB, "and comes back as any other");
	w[0].h.frozen = true;
	w[2].answers = 0;
	ok(!quota_request(&w[2].h, 64 * MIB, 64 * MIB, now) && w[2].answers == 1 && !w[2].granted,
	   "one that cannot be asked is not waited for");

	reset(UINT64_MAX);
	ok(take(0, 1ull << 50, now), "without a quota everything is granted");

	for (i = 1; i <= 20; i++)
		bad += !random_steps_are_exact(i);
	ok(!bad, "60000 random steps: granted if and only if it fits");
	return tap_done();
}
