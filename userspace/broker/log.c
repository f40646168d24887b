// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

enum log_level log_limit = LOG_INFO;

uint64_t log_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = { "error: ", "warning: ", "", "debug: " };
	char line[1024];
	va_list ap;
	int n, m;

	if (level > log_limit)
		return;
	n = snprintf(line, sizeof(line), "vgpu-broker: %s", names[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n += m;
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* One write, so that lines of several processes do not mix. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}

bool log_allowed(struct log_bucket *b, uint64_t now_ns, uint64_t *suppressed)
{
	if (!b->last_ns) {
		b->tokens = LOG_BURST;
	} else {
		b->tokens += (double)(now_ns - b->last_ns) / 1e9 * LOG_RATE;
		if (b->tokens > LOG_BURST)
			b->tokens = LOG_BURST;
	}
	b->last_ns = now_ns ? now_ns : 1;
	if (b->tokens < 1) {
		b->suppressed++;
		return false;
	}
	b->tokens -= 1;
	*suppressed = b->suppressed;
	b->suppressed = 0;
	return true;
}

void log_clean(char *out, unsigned int cap, const char *in, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < len && i + 1 < cap && in[i]; i++)
		out[i] = in[i] >= 0x20 && in[i] < 0x7f ? in[i] : '?';
	out[i] = '\0';
}
