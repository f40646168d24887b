// SPDX-License-Identifier: Apache-2.0
/* drivers/layout.h, the same source as in both modules: sizes that are let through, and what follows from them. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kselftest.h"
#include "drivers/layout.h"

static bool only_powers_of_two_in_range_are_ring_sizes(void)
{
	for (uint64_t size = 0; size <= 4 * IDM_RING_MAX; size++) {
		bool power = size && !(size & (size - 1));

		if (vgpu_ring_size_valid(size) != (power && size >= IDM_RING_MIN && size <= IDM_RING_MAX))
			return false;
	}
	return !vgpu_ring_size_valid(0x80000000u) && !vgpu_ring_size_valid(~0u);
}

static bool parts_follow_each_other(void)
{
	struct vgpu_layout l;

	for (uint32_t a = IDM_RING_MIN; a <= IDM_RING_MAX; a *= 2)
		for (uint32_t b = IDM_RING_MIN; b <= IDM_RING_MAX; b *= 2)
			if (!vgpu_layout_init(&l, a, b) || l.request_offset != IDM_PAGE_SIZE ||
			    l.reply_offset != IDM_PAGE_SIZE + (uint64_t)a ||
			    l.arena_offset != IDM_PAGE_SIZE + (uint64_t)a + b || l.arena_offset % IDM_PAGE_SIZE)
				return false;
	return !vgpu_layout_init(&l, 0, IDM_RING_MIN) && !vgpu_layout_init(&l, IDM_RING_MIN, IDM_RING_MAX + 1);
}

static bool arenas_are_whole_pages_within_the_limit(void)
{
	uint64_t max = 64ull << 20;

	return vgpu_arena_size_valid(0, max) && vgpu_arena_size_valid(4096, max) && vgpu_arena_size_valid(max, max) &&
	       !vgpu_arena_size_valid(max + 4096, max) && !vgpu_arena_size_valid(1, max) &&
	       !vgpu_arena_size_valid(~0ull, max) && !vgpu_arena_size_valid(~4095ull, max) &&
	       vgpu_arena_size_valid(0, 0) && !vgpu_arena_size_valid(4096, 0);
}

static bool directories_hold_what_they_must(void)
{
	/* From 1 page to a whole arena slot, around every multiple of a directory page. */
	for (uint64_t nr = 1; nr < 1u << 28; nr += nr < 5000 ? 1 : nr / 7) {
		uint64_t pages = vgpu_directory_pages(nr);

		if (pages * VGPUIF_DIRECTORY_REFS < nr || (pages - 1) * VGPUIF_DIRECTORY_REFS >= nr)
			return false;
	}
	return vgpu_directory_pages(0) == 0 && vgpu_directory_pages(~0u) == 4202513;
}

/* As the frontend walks it: the chain ends after the right number of pages, whatever the pages say. */
static bool directories_must_be_full_but_for_the_last(void)
{
	struct vgpuif_directory d;

	memset(&d, 0, sizeof(d));
	for (uint32_t left = 1; left < 3000; left++)
		for (uint32_t nr = 0; nr < 1100; nr++) {
			d.nr = nr;
			if (vgpu_directory_valid(&d, left) !=
			    (nr == (left < VGPUIF_DIRECTORY_REFS ? left : VGPUIF_DIRECTORY_REFS)))
				return false;
		}
	d.nr = ~0u;
	return !vgpu_directory_valid(&d, ~0u) && !vgpu_directory_valid(&d, 5);
}

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(void)
{
	ksft_print_header();
	ksft_set_plan(5);
	RUN(only_powers_of_two_in_range_are_ring_sizes());
	RUN(parts_follow_each_other());
	RUN(arenas_are_whole_pages_within_the_limit());
	RUN(directories_hold_what_they_must());
	RUN(directories_must_be_full_but_for_the_last());
	ksft_finished();
}
