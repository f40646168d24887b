/* SPDX-License-Identifier: Apache-2.0 */
/* Catch what goes to stdout and stderr meanwhile: what kernels print arrives there. */
#ifndef SELFTESTS_CAPTURE_H
#define SELFTESTS_CAPTURE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"

static int capture_saved[2], capture_file;

static void capture_begin(void)
{
	fflush(NULL);
	capture_file = memfd_create("captured", 0);
	if (capture_file < 0)
		bail("memfd_create failed");
	for (int i = 0; i < 2; i++) {
		capture_saved[i] = dup(i + 1);
		dup2(capture_file, i + 1);
	}
}

/* @return the text's length; it is cut at @size - 1 */
static size_t capture_end(char *buf, size_t size)
{
	ssize_t n;

	fflush(NULL);
	for (int i = 0; i < 2; i++) {
		dup2(capture_saved[i], i + 1);
		close(capture_saved[i]);
	}
	n = pread(capture_file, buf, size - 1, 0);
	close(capture_file);
	if (n < 0)
		n = 0;
	buf[n] = '\0';
	return (size_t)n;
}

#endif /* SELFTESTS_CAPTURE_H */
