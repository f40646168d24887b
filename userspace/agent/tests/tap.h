/* SPDX-License-Identifier: Apache-2.0 */
/* The little of TAP that these tests need. */
#ifndef AGENT_TAP_H
#define AGENT_TAP_H

#include <stdio.h>

static int tap_count, tap_failed;

#define ok(cond, ...) \
	do { \
		int ok_ = !!(cond); \
		tap_failed += !ok_; \
		printf("%sok %d - ", ok_ ? "" : "not ", ++tap_count); \
		printf(__VA_ARGS__); \
		printf(ok_ ? "\n" : "\n# %s:%d: %s\n", __FILE__, __LINE__, #cond); \
		fflush(stdout); \
	} while (0)

#define tap_done() (printf("1..%d\n", tap_count), tap_failed != 0)

#endif /* AGENT_TAP_H */
