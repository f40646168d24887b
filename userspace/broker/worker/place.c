// SPDX-License-Identifier: Apache-2.0
/*
 * Where this process maps what it has yet to map: from PLACE on, where clients have nothing. Their programs and heaps lie
 * at 0x55..., their libraries and mappings below 0x7fff..., our arena at 0x2000..., and with the old layout of address
 * spaces (ulimit -s unlimited) their mappings begin at a third, 0x2aaa....
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "worker.h"

#define PLACE	0x400000000000ull
#define SPREAD	(1ull << 43)	/* it begins somewhere in so much, and has as much at least */
#define UNIT	(2ull << 20)
#define PAGE	4096ull

/*
 * The broker has told the kernel to search from the bottom up (ADDR_COMPAT_LAYOUT). All that is free below the place goes to
 * one mapping that nothing can be done with, which costs no memory.
 */
int place_mappings(void)
{
	char *lowest = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t from = (uint64_t)(uintptr_t)lowest, random = 0, place;

	if (lowest == MAP_FAILED)
		return -errno;
	munmap(lowest, PAGE);
	if (from >= PLACE)
		return -ERANGE;		/* the search is from the top down after all */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	place = PLACE + random % (SPREAD / UNIT) * UNIT;
	return mmap(NULL, place - from, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED ? -errno : 0;
}
