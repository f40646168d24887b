/* SPDX-License-Identifier: Apache-2.0 */
/* The client's state, shared by client.c (messages) and session.c (opening, arena, closing). */
#ifndef IDM_CLIENT_H
#define IDM_CLIENT_H

#include "internal.h"

#define IDM_BUCKETS	64
#define IDM_CARRIED	8	/* payloads under way through the arena */

/** struct idm_told - an IDM_CALLBACK message. */
struct idm_told {
	struct idm_told *next;
	uint64_t id;
	size_t len;
	unsigned char data[IDM_CALLBACK_MAX];
};

struct idm_client {
	struct idm_layout layout;
	struct idm_session *page;
	struct idm_link link;
	void (*on_output)(const char *text, size_t len);

	/* Sending, under `send`. */
	struct idm_lock send __attribute__((aligned(64)));
	struct idm_queue tx;
	uint64_t seq;
	uint64_t posted, called;
	struct {
		void *at;		/* arena memory of a payload that was too long for the ring, */
		uint32_t end;		/* free again when the worker has come this far */
	} carried[IDM_CARRIED];		/* oldest first */
	unsigned int ncarried;

	/* Receiving: `role` is 1 while a thread is the receiver; it owns `rx`, `buckets` and `text`. */
	uint32_t role __attribute__((aligned(64)));
	int32_t sleepers;			/* threads asleep on their request */
	struct idm_pending *incoming;		/* sent, not in `buckets` yet: pushed by senders */
	struct idm_queue rx;
	struct idm_pending *buckets[IDM_BUCKETS];
	char *text;
	struct idm_lock told_lock;
	struct idm_told *told, **told_end;	/* callbacks that nobody listened for yet, oldest first */

	/* The end. */
	struct idm_lock end __attribute__((aligned(64)));
	uint32_t ended;
	int64_t deadline;	/* CLOCK_MONOTONIC, ns: no wait lasts longer; 0 once a worker has said hello */
	char reason[IDM_REASON_MAX];

	/* The arena: `heap` under `heap_lock`; growth, which sends messages, under `grow_lock`. */
	struct idm_lock heap_lock, grow_lock;
	struct idm_heap *heap;
	char *arena;
	uint64_t arena_size;
	uint64_t grown;
};

#endif /* IDM_CLIENT_H */
