/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First failure of a posted call, per client thread, until that thread's next reply carries it. A bounded table:
 * when it is full of threads with a failure that they never asked for, further threads' failures are dropped.
 */
#ifndef WORKER_LATCH_H
#define WORKER_LATCH_H

#include <pthread.h>
#include <stdint.h>

#define LATCH_SLOTS 1024	/* a power of two */

struct latch_table {
	pthread_mutex_t lock;
	uint32_t used;		/* read without the lock: the common case is none at all */
	struct latch {
		uint32_t thread;	/* 0: free */
		int32_t result;
		uint32_t type;
	} slots[LATCH_SLOTS];
};

void latch_init(struct latch_table *t);
void latch_set(struct latch_table *t, uint32_t thread, int32_t result, uint32_t type);

/** Take @thread's failure out. @return its CUresult, 0 if there is none. */
int32_t latch_take(struct latch_table *t, uint32_t thread, uint32_t *type);

#endif /* WORKER_LATCH_H */
