/* SPDX-License-Identifier: Apache-2.0 */
/* What of a device's memory is free, for tests in which several processes hold it together. */
#ifndef SELFTESTS_QUOTA_H
#define SELFTESTS_QUOTA_H

#include <time.h>

#include "driver.h"

static size_t baseline;		/* free when nobody shares anything; the test takes it down */

static size_t free_memory(void)
{
	size_t unused, total;

	CU(cuMemGetInfo(&unused, &total));
	return unused;
}

/* Other processes' memory comes back when they have ended, not before our eyes. */
static bool free_again(void)
{
	if (on_driver())
		return true;	/* a whole GPU's memory is others' too */
	for (int i = 0; i < 3000; i++) {
		if (free_memory() == baseline)
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	printf("# %zu bytes are free, %zu were\n", free_memory(), baseline);
	return false;
}

#endif /* SELFTESTS_QUOTA_H */
