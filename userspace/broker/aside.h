/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client, or a worker that it has taken over, can make last: it is done where nobody else waits for it.
 *
 * A page of memory that somebody punches holes into can be waited for without end, a file that many work on has a lock with a
 * long queue, and who closes a file last frees what it holds.
 */
#ifndef BROKER_ASIDE_H
#define BROKER_ASIDE_H

#include <stdbool.h>
#include <stdint.h>

/**
 * Do @work in a process of its own, which has this one's memory as it is now and, unless @fd is -1, no other descriptor.
 * @owner: whose clients are to blame; each may have ASIDE_OWNER_MAX under way
 * @done:  called in the event loop with @id and what @work returned, false if it did not end in time; may be NULL
 * @return false if nothing was begun, and @done will not be called
 */
bool aside_run(const void *owner, int fd, bool (*work)(int fd, const void *arg), const void *arg,
	       void (*done)(uint64_t id, bool good), uint64_t id);

#define ASIDE_OWNER_MAX	64u
#define ASIDE_MAX	256u
#define ASIDE_SECONDS	2u	/* of its own; in the kernel it can be kept for longer */

/** Close @fd, soon. */
void aside_close(int fd);

#endif
