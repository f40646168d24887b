/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the test in the pod and the test's server in the driver domain agree upon: one command at a time, in the
 * first bytes of the request ring, answered in the first bytes of the reply ring. Page 0's counts say whose turn it
 * is. This is not IDM: only the drivers are tested here.
 */
#ifndef SELFTESTS_DRIVERS_SESSION_H
#define SELFTESTS_DRIVERS_SESSION_H

#include <stdint.h>

#define RING_SIZE	16384
#define TEXT_MAX	3072

enum op {
	OP_ECHO = 1,	/* value: value + 1 */
	OP_FILL,	/* check that [offset, offset + size) of the arena has pattern value, write pattern value + 1 */
	OP_MAP,		/* map what the arena has grown to; value: its MiB */
	OP_EXIT,	/* the worker exits without an answer */
	OP_KILL,	/* the worker is killed without an answer */
	OP_END,		/* the worker ends the session, saying text */
	OP_END_WRONGLY,	/* the same with fields that are not 0 and must be; value: how many were let through */
	OP_STORM,	/* notify value times */
	OP_ACT,		/* run the dom0 action text, detached */
	OP_COUNTERS,	/* text: the backend's counters */
	OP_IGNORE_NEXT,	/* leave the next session that comes unanswered */
	OP_REJECT_NEXT,	/* reject the next session that comes, saying text */
	OP_FAIL_NTH,	/* the value-th allocation of the device's control ring thread fails; 0: none (faults.h) */
	OP_FAIL_LEFT,	/* value: what is left of that number; then none fails any more */
};

struct command {
	uint32_t op;
	uint32_t value;
	uint64_t offset;
	uint64_t size;
	char text[TEXT_MAX];
};

struct answer {
	int32_t err;
	uint32_t value;
	char text[TEXT_MAX];
};

/* A pattern that differs from page to page and from fill to fill. */
static inline uint32_t pattern(uint64_t offset, uint32_t value)
{
	return (uint32_t)(offset * 2654435761u) ^ (value * 0x9e3779b9u);
}

static inline int pattern_check(const void *arena, uint64_t offset, uint64_t size, uint32_t value)
{
	for (uint64_t i = offset; i < offset + size; i += 4)
		if (*(const volatile uint32_t *)((const char *)arena + i) != pattern(i, value))
			return 0;
	return 1;
}

static inline void pattern_fill(void *arena, uint64_t offset, uint64_t size, uint32_t value)
{
	for (uint64_t i = offset; i < offset + size; i += 4)
		*(volatile uint32_t *)((char *)arena + i) = pattern(i, value);
}

#endif
