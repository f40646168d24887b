/* SPDX-License-Identifier: Apache-2.0 */
/* One line per event, to stderr: "vgpu-broker: warning: zone 7: session 3: what happened". */
#ifndef BROKER_LOG_H
#define BROKER_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

extern enum log_level log_limit;	/* what is more detailed than this is not written */

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** struct log_bucket - lets LOG_BURST lines through at once and LOG_RATE a second; for lines a client can cause. */
#define LOG_BURST 100
#define LOG_RATE  10
struct log_bucket {
	uint64_t last_ns;
	double tokens;
	uint64_t suppressed;
};

/** @return may a line be written now? *@suppressed: how many were not, since the last one that was. */
bool log_allowed(struct log_bucket *b, uint64_t now_ns, uint64_t *suppressed);

/** Copy @in to @out, with everything that could fool a terminal or a log reader replaced by '?'. */
void log_clean(char *out, unsigned int cap, const char *in, unsigned int len);

uint64_t log_now_ns(void);

#endif /* BROKER_LOG_H */
