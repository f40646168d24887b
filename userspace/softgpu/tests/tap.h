/* SPDX-License-Identifier: Apache-2.0 */
/* TAP for the software GPU's tests. */
#ifndef SOFTGPU_TESTS_TAP_H
#define SOFTGPU_TESTS_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count, tap_failed;

#define ok(cond, ...)									\
	do {										\
		bool ok_ = (cond);							\
		printf("%sok %d - ", ok_ ? "" : "not ", ++tap_count);			\
		printf(__VA_ARGS__);							\
		printf(ok_ ? "\n" : " (line %d)\n", __LINE__);				\
		tap_failed += !ok_;							\
	} while (0)

/* For what a test needs in order to go on at all. */
#define must(call)									\
	do {										\
		int must_ = (int)(call);						\
		if (must_) {								\
			printf("Bail out! line %d: %s: %d\n", __LINE__, #call, must_);	\
			exit(1);							\
		}									\
	} while (0)

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif /* SOFTGPU_TESTS_TAP_H */
