/* SPDX-License-Identifier: Apache-2.0 */
/* The pod's end of session.h: a session of /dev/vgpu, calls through it, and the counters of both drivers. */
#ifndef SELFTESTS_DRIVERS_CLIENT_H
#define SELFTESTS_DRIVERS_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "idm.h"
#include "linux/vgpu.h"
#include "session.h"

#define MIB	(1024 * 1024ull)

/** struct session - @seen: notifications acted upon; @sent: commands sent */
struct session {
	int fd;
	struct vgpu_session_params p;
	struct idm_session *page0;
	char *base;
	char *arena;
	uint32_t seen;
	uint32_t sent;
};

#define NR_FRONT_GAUGES	4
#define NR_BACK_GAUGES	7

/** struct gauges - what is held now; the second of the frontend's is the pages it has mapped */
struct gauges {
	long front[NR_FRONT_GAUGES];
	long back[NR_BACK_GAUGES];
};

/* TAP's head. Without a device the whole program is skipped. The plan is for the caller to set: kselftest.h counts by source file. */
void tests_begin(void);

/* Seconds since whenever. */
double now(void);

/* 0 or -errno. An arena of @arena bytes is mapped, none if 0. */
int session_open(struct session *s, uint64_t arena, uint32_t timeout_ms);
void session_unmap(struct session *s);
void session_close(struct session *s);

/* Send a command; wait for its answer: 0, -EPIPE, or -ETIMEDOUT after a minute. */
void submit(struct session *s, const struct command *c);
int complete(struct session *s);
struct answer *answer(struct session *s);

/* Both; the error may also be the answer's. */
int call(struct session *s, enum op op, uint32_t value, uint64_t offset, uint64_t size, const char *text);
bool echo_works(struct session *s);

/* Wait until the session is over: -EPIPE. The second also wants @reason in page 0. */
int wait_for_end(struct session *s);
bool ended_with(struct session *s, const char *reason);

/* Counters; the backend's are read through @s, which itself counts in them. */
long front_counter(const char *name);
int gauges_read(struct session *s, struct gauges *g);

/* As gauges_read(), once nothing has changed for two seconds: what was there before is on its way back. */
int gauges_settle(struct session *s, struct gauges *g);

/* Giving back is not instant: waits up to a minute, then says what is different. */
bool gauges_return_to(struct session *s, const struct gauges *before);

#endif
