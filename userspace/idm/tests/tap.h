/* SPDX-License-Identifier: Apache-2.0 */
/* TAP for libidm's tests: one program, one plan, non-zero exit if anything failed. */
#ifndef IDM_TESTS_TAP_H
#define IDM_TESTS_TAP_H

#include <stdbool.h>
#include <stdio.h>

static int tap_count, tap_failed;

#define ok(cond, ...)                                                                                                  \
	({                                                                                                             \
		bool ok_ = (cond);                                                                                     \
		printf("%sok %d - ", ok_ ? "" : "not ", ++tap_count);                                                  \
		printf(__VA_ARGS__);                                                                                   \
		printf("\n");                                                                                          \
		if (!ok_) {                                                                                            \
			tap_failed++;                                                                                  \
			printf("# failed: %s (%s:%d)\n", #cond, __FILE__, __LINE__);                                   \
		}                                                                                                      \
		fflush(stdout);                                                                                        \
		ok_;                                                                                                   \
	})

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	if (tap_failed)
		printf("# %d of %d failed\n", tap_failed, tap_count);
	return tap_failed ? 1 : 0;
}

#endif /* IDM_TESTS_TAP_H */
