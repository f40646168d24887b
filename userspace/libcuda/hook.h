/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of the program's that graphs hold, and records of what ends with a graph. The worker tells of each call, and
 * once, when no graph holds it any more. They have numbers; addresses of the program do not travel.
 */
#ifndef VGPU_HOOK_H
#define VGPU_HOOK_H

#include "shim.h"

struct hook {
	CUhostFn fn;			/* each time; may be NULL */
	void *data;
	void (*gone)(void *gone_data);	/* at the end; may be NULL */
	void *gone_data;
	void (*stays)(void *gone_data);	/* in its place, if memory is there still that the hook is a record of */
	uint32_t *ack;			/* counts calls that have returned */
	uint32_t index;
	bool ours;			/* both functions are the shim's, and wait for nothing */
	struct hook *next_idle;
};

/** A copy of @what with a number. @return NULL without memory. It goes when the worker says so. */
struct hook *hook_new(const struct hook *what);
static inline uint64_t hook_id(const struct hook *h)
{
	return VGPU_HOOK_ID | h->index;
}
/** Where in the arena its word is. */
uint64_t hook_ack(const struct hook *h);

/** The hook with number @id, NULL if there is none. */
struct hook *hook_find(uint64_t id);

/** Whose functions are those of hook @id? Ours, if there is none. */
bool hook_ours(uint64_t id);

/** In the dispatcher, if they are ours, else in the program's thread. */
void hook_told(uint64_t id, uint32_t what);

/* callback.c */
/** A word of the arena that is never given back, 0 at first; NULL if there is none. */
uint32_t *callback_word(void);
/** Listen for callbacks from now on (@by 1), or for one reason less (-1). @return false if that can't be. */
bool callback_listen(int by);

#endif
