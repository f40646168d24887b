// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"
#include "shim.h"
#include "trace.h"

#define TEXT_MAX	48	/* of a name or other text among the arguments */

bool tracing;
static FILE *file;

/* Before any call, and no call is a good place for it: many come before cuInit. */
static void __attribute__((constructor)) open_file(void)
{
	const char *path = getenv("VGPU_TRACE");

	if (!path || !*path)
		return;
	file = fopen(path, "ae");
	if (!file) {
		fprintf(stderr, "vgpu: VGPU_TRACE: cannot write %s: %m\n", path);
		return;
	}
	setvbuf(file, NULL, _IOLBF, 0);
	tracing = true;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void trace_begin(struct trace_call *t)
{
	const struct thread *self = thread_self();

	*t = (struct trace_call){ .posted = self->posted, .waited = self->waited, .refused = self->refused };
	t->start_ns = now_ns();
}

static void show(char *out, size_t room, char kind, uint64_t value)
{
	const char *text = (const char *)(uintptr_t)value;

	if (kind == 's' && text)
		snprintf(out, room, "\"%.*s\"", TEXT_MAX, text);
	else if (kind == 'd')
		snprintf(out, room, "%d", (int)value);
	else if (kind == 'u')
		snprintf(out, room, "%llu", (unsigned long long)value);
	else
		snprintf(out, room, "%#llx", (unsigned long long)value);
}

void trace_end(const struct trace_call *t, CUresult r, const char *name, const char *kinds, const uint64_t *arguments)
{
	uint64_t ns = now_ns() - t->start_ns;
	const struct thread *self = thread_self();
	uint32_t posted = self->posted - t->posted, waited = self->waited - t->waited;
	const char *how = self->refused != t->refused ? "refused" : waited ? "waited" : posted ? "posted" : "local";
	const char *result, *text;
	char line[1024], *at = line;

	if (!error_text(r, &result, &text))
		result = "?";
	line[0] = '\0';
	for (; *kinds; kinds++, arguments++) {
		char one[TEXT_MAX + 8];

		show(one, sizeof(one), *kinds, *arguments);
		if ((size_t)(line + sizeof(line) - at) < strlen(one) + 3)
			break;
		at += sprintf(at, "%s%s", at == line ? "" : ", ", one);
	}
	fprintf(file, "pid=%d thread=%u ns=%llu how=%s posted=%u waited=%u result=%s %s(%s)\n", getpid(), self->number,
		(unsigned long long)ns, how, posted, waited, result, name, line);
}
