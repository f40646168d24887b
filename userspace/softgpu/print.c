// SPDX-License-Identifier: Apache-2.0
/*
 * What kernels print. It is kept until the host learns that work is done, as CUDA does, and then written to standard
 * output; reports of failed assertions go to standard error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

#define BUFFER (1u << 20)	/* when full it is written at once; CUDA would overwrite the oldest text */

_Atomic uint32_t sg_print_pending;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *buffer;
static size_t used;

static void flush_locked(void)
{
	if (used) {
		fwrite(buffer, 1, used, stdout);
		fflush(stdout);
	}
	used = 0;
	atomic_store(&sg_print_pending, 0);
}

static bool is_assert(const char *text, size_t len)
{
	return len > 10 && memmem(text, len, "Assertion `", 11) && memmem(text, len, "failed", 6);
}

void sg_print(void *opaque, const char *text, size_t len)
{
	pthread_mutex_lock(&lock);
	if (is_assert(text, len)) {
		flush_locked();
		fwrite(text, 1, len, stderr);
		goto out;
	}
	if (!buffer)
		buffer = malloc(BUFFER);
	if (used + len > BUFFER)
		flush_locked();
	if (!buffer || len > BUFFER) {
		fwrite(text, 1, len, stdout);
		fflush(stdout);
	} else {
		memcpy(buffer + used, text, len);
		used += len;
		atomic_store_explicit(&sg_print_pending, 1, memory_order_release);
	}
out:
	pthread_mutex_unlock(&lock);
}

void sg_print_flush_slow(void)
{
	pthread_mutex_lock(&lock);
	flush_locked();
	pthread_mutex_unlock(&lock);
}
