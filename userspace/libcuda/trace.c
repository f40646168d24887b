// SPDX-License-Identifier: Apache-2.0
/* VGPU_TRACE=FILE: one line for each message. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"
#include "shim.h"
#include "shim_gen.h"

bool tracing;
static FILE *file;

void trace_init(void)
{
	const char *path = getenv("VGPU_TRACE");

	if (file || !path || !*path)
		return;
	file = fopen(path, "ae");
	if (!file) {
		fprintf(stderr, "vgpu: VGPU_TRACE: cannot write %s: %m\n", path);
		return;
	}
	setvbuf(file, NULL, _IOLBF, 0);
	tracing = true;
}

uint64_t trace_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void trace_message(uint16_t type, const char *how, CUresult r, uint64_t start_ns)
{
	const char *name, *text;

	if (!error_text(r, &name, &text))
		name = "?";
	fprintf(file, "pid=%d thread=%u call=%s type=%#06x %s result=%s ns=%llu\n", getpid(), thread_self()->number,
		call_name(type), type, how, name, (unsigned long long)(trace_now() - start_ns));
}

void trace_refused(const char *name, unsigned int count)
{
	fprintf(file, "pid=%d thread=%u call=%s refused count=%u\n", getpid(), thread_self()->number, name, count);
}
