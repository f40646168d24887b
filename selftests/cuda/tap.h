/* SPDX-License-Identifier: Apache-2.0 */
/* Test Anything Protocol for the CUDA programs: ok() per promise, return tap_done() from main(). C and C++. */
#ifndef SELFTESTS_TAP_H
#define SELFTESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One count for all files of a program. */
__attribute__((weak)) int tap_tests, tap_failures;

static void ok(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3), unused));
static void ok(bool good, const char *fmt, ...)
{
	va_list args;

	tap_tests++;
	if (!good)
		tap_failures++;
	printf("%sok %d - ", good ? "" : "not ", tap_tests);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static int tap_done(void) __attribute__((unused));
static int tap_done(void)
{
	printf("1..%d\n# %s\n", tap_tests, tap_failures ? "FAIL" : "PASS");
	fflush(stdout);
	return tap_failures || !tap_tests;
}

static void bail(const char *fmt, ...) __attribute__((format(printf, 1, 2), unused, noreturn));
static void bail(const char *fmt, ...)
{
	va_list args;

	printf("Bail out! ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	exit(1);
}

/* The optional size argument: argv[1], else @otherwise. */
static long size_arg(int argc, char **argv, long otherwise) __attribute__((unused));
static long size_arg(int argc, char **argv, long otherwise)
{
	long n = argc > 1 ? strtol(argv[1], NULL, 0) : otherwise;

	if (n < 1 || n > 1 << 28)
		bail("the size must be between 1 and 2^28");
	return n;
}

#endif /* SELFTESTS_TAP_H */
