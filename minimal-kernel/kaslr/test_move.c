// SPDX-License-Identifier: Apache-2.0
/* move.c in memory as a PVH domain finds it, at its true addresses. TAP. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "move.h"

#define MIB	(1ul << 20)
#define START	(16 * MIB)
#define END	(19 * MIB)		/* of the kernel */
#define MAPPED	(1100 * MIB)
#define ENTRY	(START + 0x123)
#define PLACES	600

static int count, failed;

static void ok(bool good, const char *what)
{
	failed += !good;
	printf("%sok %d - %s\n", good ? "" : "not ", ++count, what);
}

static void *at(uint64_t physical)
{
	return (void *)(uintptr_t)physical;
}

/* What the toolstack has put there. */
static struct domain {
	uint64_t info, memmap, modules, module[2], module_size, cmdline, memory;
	const char *words;
} usual = { 20 * MIB, 20 * MIB + 256, 20 * MIB + 512, { 21 * MIB, 22 * MIB }, 0x1800, 20 * MIB + 1024, 128 * MIB, "quiet panic=1" };

static const int32_t relocs[] = {
	0, (int32_t)0x81000100, (int32_t)0x812ffff0, 0, (int32_t)0x81000200, 0, (int32_t)0x81000300, (int32_t)0x81100304,
};

static uint32_t word(uint64_t from)
{
	return (uint32_t)from * 2654435761u;
}

static struct hvm_start_info *domain_make(const struct domain *d)
{
	struct hvm_start_info *info = at(d->info);
	struct hvm_memmap_table_entry *map = at(d->memmap);
	struct hvm_modlist_entry *modules = at(d->modules);

	for (uint64_t a = START; a < END; a += 4)
		*(uint32_t *)at(a) = word(a);
	*info = (struct hvm_start_info){ .magic = XEN_HVM_START_MAGIC_VALUE, .version = 1, .nr_modules = 2, .modlist_paddr = d->modules,
					 .cmdline_paddr = d->cmdline, .memmap_paddr = d->memmap, .memmap_entries = 3 };
	map[0] = (struct hvm_memmap_table_entry){ 0, 0xa0000, XEN_HVM_MEMMAP_TYPE_RAM, 0 };
	map[1] = (struct hvm_memmap_table_entry){ 0xfc000000, 0x10000, XEN_HVM_MEMMAP_TYPE_ACPI, 0 };
	map[2] = (struct hvm_memmap_table_entry){ MIB, d->memory - MIB, XEN_HVM_MEMMAP_TYPE_RAM, 0 };
	for (int i = 0; i < 2; i++) {
		modules[i] = (struct hvm_modlist_entry){ d->module[i], d->module_size, 0, 0 };
		memset(at(d->module[i]), 0x40 + i, d->module_size);
	}
	strcpy(at(d->cmdline), d->words);
	return info;
}

static bool modules_whole(const struct domain *d)
{
	for (int i = 0; i < 2; i++)
		for (uint64_t n = 0; n < d->module_size; n++)
			if (*(char *)at(d->module[i] + n) != 0x40 + i)
				return false;
	return true;
}

/* As it was, but for the places that relocs names. */
static bool kernel_whole(uint32_t distance)
{
	for (uint64_t a = START; a < END; a += 4) {
		uint32_t there = *(uint32_t *)at(a + distance), want = word(a);
		uint64_t first = a & ~7ul, wide = (uint64_t)word(first + 4) << 32 | word(first);

		if (a == START + 0x100 || a == END - 0x10)
			want = (uint32_t)(wide + distance);
		else if (a == START + 0x104 || a == END - 0xc)
			want = (uint32_t)((wide + distance) >> 32);
		else if (a == START + 0x200)
			want -= distance;
		else if (a == START + 0x300 || a == START + 0x100304)
			want += distance;
		if (there != want)
			return false;
	}
	return true;
}

/* Where it goes with this chance; UINT32_MAX if it is not what it should be there. */
static uint32_t move(const struct domain *d, uint32_t random)
{
	struct hvm_start_info *info = domain_make(d), before = *info;
	struct moving k = { START, END, ENTRY, relocs, relocs + sizeof(relocs) / sizeof(*relocs), random };
	uint32_t distance = move_kernel(&k, info) - ENTRY;

	if (distance % MOVE_STEP || END + distance > d->memory || END + distance > 1024 * MIB || !kernel_whole(distance) ||
	    !modules_whole(d) || memcmp(info, &before, sizeof(before)) || strcmp(at(d->cmdline), d->words))
		return UINT32_MAX;
	return distance;
}

/* Distances in MiB with evenly spread chances, each once; -1 if one was wrong or they do not come equally often. */
static int places(const struct domain *d, int tries, bool seen[PLACES])
{
	int times[PLACES] = { 0 }, n = 0, least = tries, most = 0;

	for (int i = 0; i < tries; i++) {
		uint32_t distance = move(d, (uint32_t)(((2ul * i + 1) << 31) / tries));

		if (distance == UINT32_MAX || distance / MOVE_STEP >= PLACES)
			return -1;
		times[distance / MOVE_STEP]++;
	}
	for (int i = 0; i < PLACES; i++) {
		seen[i] = times[i];
		if (!times[i])
			continue;
		n++;
		least = times[i] < least ? times[i] : least;
		most = times[i] > most ? times[i] : most;
	}
	return most - least > 1 ? -1 : n;
}

static bool stays(const struct domain *d)
{
	return !move(d, 0) && !move(d, 0x80000000) && !move(d, UINT32_MAX);
}

int main(void)
{
	struct domain d = usual;
	bool seen[PLACES];
	int n;

	if (mmap(at(START), MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0) != at(START)) {
		printf("Bail out! the addresses of a domain's memory are taken here\n");
		return 1;
	}
	/* What is put behind it fills 20 to 22 MiB + 0x1800: the kernel of 3 MiB fits where it is and from 24 MiB on, to 125. */
	n = places(&d, 156, seen);
	ok(n == 52, "128 MiB: 52 places, all equally often, and the kernel is whole in each");
	ok(seen[0] && !seen[1] && !seen[2] && !seen[3] && seen[4] && seen[54] && !seen[55], "none on what the toolstack put there, or outside of memory");
	d.module[1] = 60 * MIB + 0x1000;
	n = places(&d, 153, seen);
	ok(n == 51 && !seen[21] && !seen[22] && seen[23], "nor on a ramdisk in the middle");
	d = usual;
	d.memory = 1088 * MIB;
	n = places(&d, 500, seen);
	ok(n == 500 && seen[502] && !seen[503], "more than a gigabyte: within what the kernel's addresses allow");
	d = usual;
	d.info = 40 * MIB;
	ok(places(&d, 150, seen) == 50 && !seen[11] && !seen[12] && seen[13], "nor on what tells the kernel of its machine");

	d = usual;
	d.words = "quiet nokaslr panic=1";
	ok(stays(&d), "nokaslr");
	d.words = "nokaslr";
	ok(stays(&d), "nokaslr alone");
	d.words = "quiet nokaslr";
	ok(stays(&d), "nokaslr last");
	d.words = "nokaslrs xnokaslr nokasl  nokaslr=1";
	ok(places(&d, 52, seen) == 52, "words that only look like it");
	d.words = "";
	ok(places(&d, 52, seen) == 52, "no words at all");
	d = usual;
	d.memory = 23 * MIB;
	ok(stays(&d), "a pod without room");
	printf("1..%d\n# %s\n", count, failed ? "FAIL" : "PASS");
	return failed != 0;
}
