/* SPDX-License-Identifier: Apache-2.0 */
/* The least of TAP: ok() and done_testing(). */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stdio.h>

static int tap_count, tap_failed;

static inline bool tap_ok(bool pass, const char *what, const char *file, int line)
{
	printf("%sok %d - %s\n", pass ? "" : "not ", ++tap_count, what);
	if (!pass) {
		printf("# failed at %s:%d\n", file, line);
		tap_failed++;
	}
	return pass;
}
#define ok(pass, what)	tap_ok(pass, what, __FILE__, __LINE__)

static inline int done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif
