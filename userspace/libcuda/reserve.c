// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "reserve.h"

#define GRANULE_SHIFT	21
#define ADDRESS_BITS	47	/* what a process can map; a device address above needs no reserving */
#define GRANULES	(1ull << (ADDRESS_BITS - GRANULE_SHIFT))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *taken;	/* a bit for each granule; sparse */

static bool is_taken(uint64_t g)
{
	return taken[g >> 3] >> (g & 7) & 1;
}

static int take(uint64_t first, uint64_t n)
{
	void *at = (void *)(first << GRANULE_SHIFT);
	void *p = mmap(at, n << GRANULE_SHIFT, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	if (p != at) {	/* a kernel before 4.17 takes the flag for a hint */
		munmap(p, n << GRANULE_SHIFT);
		return -EEXIST;
	}
	for (uint64_t g = first; g < first + n; g++)
		__atomic_fetch_or(&taken[g >> 3], 1 << (g & 7), __ATOMIC_RELAXED);
	return 0;
}

bool reserve_holds(uint64_t addr)
{
	uint64_t g = addr >> GRANULE_SHIFT;
	const uint8_t *bits = __atomic_load_n(&taken, __ATOMIC_ACQUIRE);

	return bits && g < GRANULES && __atomic_load_n(&bits[g >> 3], __ATOMIC_RELAXED) >> (g & 7) & 1;
}

int reserve_addresses(uint64_t addr, uint64_t size)
{
	uint64_t first = addr >> GRANULE_SHIFT, last = (addr + size - 1) >> GRANULE_SHIFT;
	int err = 0;

	if (!size || addr + size - 1 < addr)
		return -EINVAL;
	if (last >= GRANULES)
		return 0;
	pthread_mutex_lock(&lock);
	if (!taken) {
		void *p = mmap(NULL, GRANULES / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			       -1, 0);

		if (p == MAP_FAILED)
			err = -errno;
		else
			__atomic_store_n(&taken, p, __ATOMIC_RELEASE);
	}
	for (uint64_t g = first; !err && g <= last; g++) {
		uint64_t n = 0;

		while (g + n <= last && !is_taken(g + n))
			n++;
		if (n)
			err = take(g, n);
		g += n;
	}
	pthread_mutex_unlock(&lock);
	return err;
}
