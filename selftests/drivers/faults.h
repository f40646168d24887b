/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations that fail, in kernels that can make them fail (Documentation/fault-injection/ of Linux): the n-th of a
 * task, through its file fail-nth.
 */
#ifndef SELFTESTS_DRIVERS_FAULTS_H
#define SELFTESTS_DRIVERS_FAULTS_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline int faults_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* Allocations of every kind, without a stack trace for each. -1 if this kernel can't. */
static inline int faults_enable(void)
{
	return faults_write("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") ||
	       faults_write("/sys/kernel/debug/failslab/verbose", "0") ||
	       faults_write("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N") ||
	       faults_write("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N") ||
	       faults_write("/sys/kernel/debug/fail_page_alloc/min-order", "0") ||
	       faults_write("/sys/kernel/debug/fail_page_alloc/verbose", "0") ? -1 : 0;
}

/* The @n-th allocation of the task from now on fails, 0: none. @fd is its fail-nth. */
static inline int faults_arm(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	return pwrite(fd, text, len, 0) == len ? 0 : -1;
}

/* What is left of faults_arm()'s number: 0 if the failure has come. */
static inline int faults_left(int fd)
{
	char text[16] = "";

	return pread(fd, text, sizeof(text) - 1, 0) <= 0 ? -1 : atoi(text);
}

#endif
