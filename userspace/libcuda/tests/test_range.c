// SPDX-License-Identifier: Apache-2.0
/* The range map against a plain array that is searched from end to end, and the reserving of addresses. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../range.h"
#include "../reserve.h"
#include "tap.h"

#define MODEL	300

static struct range model[MODEL];
static unsigned int n;

static const struct range *model_find(uint64_t addr)
{
	for (unsigned int i = 0; i < n; i++)
		if (addr >= model[i].base && addr - model[i].base < model[i].size)
			return &model[i];
	return NULL;
}

static bool model_overlaps(uint64_t base, uint64_t size)
{
	for (unsigned int i = 0; i < n; i++)
		if (base < model[i].base + model[i].size && model[i].base < base + size)
			return true;
	return false;
}

/* Whichever byte is looked at: one range has all, or they are reserved addresses all of them. */
static bool model_covers(uint64_t addr, uint64_t len)
{
	const struct range *first = model_find(addr), *r;

	if (!first || addr + len <= first->base + first->size)
		return first;
	for (uint64_t at = addr; at < addr + len; at++) {
		r = model_find(at);
		if (!r || (r->kind != RANGE_RESERVED && r->kind != RANGE_HOST))
			return false;
	}
	return true;
}

static bool same(uint64_t addr)
{
	const struct range *want = model_find(addr);
	struct range got;

	return range_find(addr, &got) ? want && want->base == got.base && want->size == got.size : !want;
}

static void random_operations(void)
{
	bool inserted = true, removed = true, found = true, covered = true;

	srandom(1);
	for (int i = 0; i < 40000; i++) {
		struct range r = { .base = 0x1000 + random() % 4000, .size = 1 + random() % 40, .kind = random() % RANGE_KINDS };
		uint64_t addr = 0x1000 + random() % 4100;

		if (random() % 2 && n < MODEL) {
			int want = model_overlaps(r.base, r.size) ? -EEXIST : 0;

			inserted = inserted && range_insert(&r) == want;
			if (!want)
				model[n++] = r;
		} else if (n) {
			unsigned int victim = random() % n, kinds = random() % (1 << RANGE_KINDS);
			bool want = kinds >> model[victim].kind & 1;

			removed = removed && range_remove(model[victim].base, kinds, NULL) == want;
			if (want)
				model[victim] = model[--n];
			removed = removed && !range_remove(addr, ~0u, NULL) == !(model_find(addr) && model_find(addr)->base == addr);
			for (unsigned int j = 0; j < n; j++)
				if (model[j].base == addr)
					model[j] = model[--n];
		}
		found = found && same(addr);
		r.size = random() % 50;
		covered = covered && range_covers(addr, r.size, NULL) == model_covers(addr, r.size);
	}
	ok(inserted, "a range goes in unless it overlaps another");
	ok(removed, "a range comes out by its start and kind");
	ok(found, "an address is found in the range that holds it");
	ok(covered, "a stretch is covered if one range holds all of it, or reserved addresses do");
	ok(range_count() == n, "the count is right");
	while (n)
		range_remove(model[--n].base, ~0u, NULL);
	ok(range_count() == 0, "empty at the end");
}

static void edges(void)
{
	struct range r = { .base = UINT64_MAX - 9, .size = 10 }, got;

	ok(range_insert(&r) == 0, "a range may end at the last address");
	ok(range_find(UINT64_MAX, &got) && got.size == 10, "and holds it");
	ok(!range_covers(UINT64_MAX, 2, NULL), "a stretch that wraps is not covered");
	ok(!range_covers(UINT64_MAX - 9, UINT64_MAX, NULL), "nor one of all addresses");
	r.size = 11;
	ok(range_insert(&r) == -EINVAL, "a range that wraps is refused");
	r.size = 0;
	ok(range_insert(&r) == -EINVAL, "an empty range is refused");
	range_remove(UINT64_MAX - 9, ~0u, NULL);
}

static void ownership(void)
{
	int a, b;
	bool right = true;

	for (uint64_t i = 0; i < 100; i++) {
		struct range r = { .base = 100 * (i + 1), .size = 100, .owner = i % 3 ? (void *)&a : (void *)&b };

		range_insert(&r);
	}
	range_remove_owned(&a);
	for (uint64_t i = 0; i < 100; i++)
		right = right && range_find(100 * (i + 1) + 50, NULL) == !(i % 3);
	ok(right, "an owner's ranges go with it, and no others");
	range_remove_owned(&b);
	ok(range_count() == 0, "all gone");
	for (uint64_t i = 0; i < 100; i++) {
		struct range r = { .base = 100 * (i + 1), .size = 100, .kind = i % 5 == 4 ? RANGE_REGISTERED : RANGE_DEVICE, .ctx = i % 2 ? &a : &b };

		range_insert(&r);
	}
	range_remove_context(&a, NULL);
	ok(range_count() == 60, "a context's ranges go with it, but for registered ones");
	range_remove_context(&b, NULL);
	ok(range_count() == 20, "and those of another one");
	for (uint64_t i = 0; i < 100; i++)
		range_remove(100 * (i + 1), ~0u, NULL);
}

static void reservations(void)
{
	const uint64_t base = 0x310000000000ull, mib = 1 << 20;
	void *p;

	ok(!reserve_addresses(base + 5 * mib, 3 * mib), "addresses can be reserved");
	ok(!reserve_addresses(base + 5 * mib, 3 * mib), "and reserved again");
	ok(!reserve_addresses(base, 64 * mib), "around what is reserved too");
	p = mmap((void *)base, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ok(p == MAP_FAILED && errno == EEXIST, "host memory can't come to lie there");
	p = mmap((void *)(base + 100 * mib), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ok(p != MAP_FAILED && reserve_addresses(base + 99 * mib, 4 * mib) == -EEXIST, "host memory in the way is told");
	ok(reserve_addresses(UINT64_MAX, 2) == -EINVAL, "a stretch that wraps is refused");
	ok(!reserve_addresses(1ull << 50, mib), "addresses that no process has need no reserving");
}

int main(void)
{
	random_operations();
	edges();
	ownership();
	reservations();
	return done_testing();
}
