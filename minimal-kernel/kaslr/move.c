// SPDX-License-Identifier: Apache-2.0
/*
 * A kernel at a random place (KASLR). In Linux 6.1 it is the decompressor that moves a kernel, and PVH starts behind that; so
 * this is put in front of it (join) and runs first: 32 bits, no paging, nothing but the domain's memory.
 *
 * Physical and virtual address are moved by the same distance, since PVH's entry code takes the one from the other as they
 * were linked (pa(x) = x - __START_KERNEL_map).
 */
#include <stdbool.h>
#include <stddef.h>

#include "move.h"

#define START_KERNEL_MAP	0x80000000u	/* the lower half of it */
#define KERNEL_IMAGE_SIZE	(1u << 30)	/* mapped for the kernel from there on, with CONFIG_RANDOMIZE_BASE */

static void *at(uint64_t physical)
{
	return (void *)(uintptr_t)physical;
}

static uint32_t length(const char *text)
{
	uint32_t n = 0;

	while (text[n])
		n++;
	return n;
}

static bool has_word(const char *text, const char *word)
{
	for (uint32_t len = length(word); *text; text++) {
		uint32_t n = 0;

		while (n < len && text[n] == word[n])
			n++;
		if (n == len && (!text[n] || text[n] == ' '))
			return true;
		while (text[1] && *text != ' ')
			text++;
	}
	return false;
}

/* The end of the memory that the kernel lies in, as far as it may go there. */
static uint32_t memory_end(const struct moving *k, const struct hvm_start_info *info)
{
	const struct hvm_memmap_table_entry *m = at(info->memmap_paddr);

	if (info->version < 1)
		return 0;
	for (uint32_t i = 0; i < info->memmap_entries; i++) {
		uint64_t end = m[i].addr + m[i].size;

		if (m[i].type == XEN_HVM_MEMMAP_TYPE_RAM && m[i].addr <= k->start && end >= k->end)
			return end < KERNEL_IMAGE_SIZE ? (uint32_t)end : KERNEL_IMAGE_SIZE;
	}
	return 0;
}

static bool apart(uint64_t from, uint64_t to, uint64_t start, uint64_t size)
{
	return start + size <= from || start >= to;
}

/* Is there nothing from @from to @to that the toolstack has put there for the kernel? */
static bool is_free(const struct hvm_start_info *info, uint64_t from, uint64_t to)
{
	const struct hvm_modlist_entry *m = at(info->modlist_paddr);

	if (!apart(from, to, (uintptr_t)info, sizeof(*info)) ||
	    !apart(from, to, info->memmap_paddr, info->memmap_entries * (uint64_t)sizeof(struct hvm_memmap_table_entry)) ||
	    !apart(from, to, info->modlist_paddr, info->nr_modules * (uint64_t)sizeof(*m)))
		return false;
	if (info->cmdline_paddr && !apart(from, to, info->cmdline_paddr, length(at(info->cmdline_paddr)) + 1))
		return false;
	for (uint32_t i = 0; i < info->nr_modules; i++) {
		if (!apart(from, to, m[i].paddr, m[i].size))
			return false;
		if (m[i].cmdline_paddr && !apart(from, to, m[i].cmdline_paddr, length(at(m[i].cmdline_paddr)) + 1))
			return false;
	}
	return true;
}

/* The first place at or behind @distance; where it is now is always one. @end: the memory's */
static uint32_t next_place(const struct moving *k, const struct hvm_start_info *info, uint32_t distance, uint32_t end)
{
	for (; distance && end - k->end >= distance; distance += MOVE_STEP)
		if (is_free(info, k->start + (uint64_t)distance, k->end + (uint64_t)distance))
			return distance;
	return 0;
}

static uint32_t choose(const struct moving *k, const struct hvm_start_info *info)
{
	uint32_t end = memory_end(k, info), places = 1, distance = 0;

	if (!end || (info->cmdline_paddr && has_word(at(info->cmdline_paddr), "nokaslr")))
		return 0;
	while ((distance = next_place(k, info, distance + MOVE_STEP, end)))
		places++;
	for (uint32_t n = (uint64_t)k->random * places >> 32; n; n--)
		distance = next_place(k, info, distance + MOVE_STEP, end);
	return distance;
}

/* Upwards, over itself perhaps: the last words first. */
static void copy(uint32_t to, uint32_t from, uint32_t bytes)
{
	uint32_t *dst = (uint32_t *)at(to) + bytes / 4 - 1;
	const uint32_t *src = (const uint32_t *)at(from) + bytes / 4 - 1;
	size_t words = bytes / 4;

	__asm__ volatile("std; rep movsl; cld" : "+D"(dst), "+S"(src), "+c"(words) : : "memory", "cc");
}

typedef uint64_t __attribute__((aligned(1))) wide_t;
typedef uint32_t __attribute__((aligned(1))) narrow_t;

/* 64-bit places; 32-bit places that are relative to a per-CPU variable's fixed address, and change the other way; 32-bit places. */
static void relocate(const struct moving *k, uint32_t distance)
{
	enum { WIDE, INVERSE, NARROW } list = WIDE;

	for (const int32_t *r = k->relocs + 1; r < k->relocs_end; r++) {
		void *place = at((uint32_t)*r - START_KERNEL_MAP + distance);

		if (!*r)
			list++;
		else if (list == WIDE)
			*(wide_t *)place += distance;
		else
			*(narrow_t *)place += list == INVERSE ? -distance : distance;
	}
}

uint32_t move_kernel(const struct moving *k, const struct hvm_start_info *info)
{
	uint32_t distance = choose(k, info);

	if (distance) {
		copy(k->start + distance, k->start, k->end - k->start);
		relocate(k, distance);
	}
	return k->entry + distance;
}
