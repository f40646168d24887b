/* SPDX-License-Identifier: Apache-2.0 */
/* Staging: arena chunks through which pageable memory is copied, shared by all threads. */
#ifndef VGPU_STAGING_H
#define VGPU_STAGING_H

#include "shim.h"

#define SLOT_SIZE	(256u * 1024)	/* stays in a core's own cache between the two copies */
#define SLOTS		16u		/* 4 MiB in flight */
#define SLOTS_KEPT	2u		/* taken from the first arena when the session opens */
#define SLOT_WINDOW	8u		/* of which one blocking copy holds at most so many */
#define SLOTS_LEFT	12u		/* and as many the asynchronous copies of one stream */
#define STAGING_NO_STREAM	UINT64_MAX

struct slot {
	void *base;
	uint64_t offset;		/* in the arena */
	struct idm_pending pending;	/* of the request that uses the chunk */
	struct thread *thread;		/* who sent it */
	uint64_t ctx, stream;		/* wire handles: where that is queued */
	bool extra;			/* beyond SLOTS */
	struct slot *next;
};

/** Put some chunks aside before pinned memory can use the quota up: then copies always work. */
void staging_init(void);

/**
 * Take a chunk for a copy in @stream of @ctx. @must: wait until there is one; else only if there is one at hand. What
 * is waited for is of the same stream: another one may be held up by something that this copy is to bring about.
 * @return NULL if there is none, or (with @must) if the session is over or its quota used up: see *@r
 */
struct slot *staging_get(bool must, uint64_t ctx, uint64_t stream, CUresult *r);

/** Give a chunk back that no request uses. */
void staging_put(struct slot *s);

/** Send a request that uses chunk @s, for @stream. */
CUresult staging_submit(struct slot *s, uint64_t stream, uint16_t type, const void *rq, size_t len);

/** Wait for the answer; the chunk stays the caller's. Of earlier calls it says nothing: other chunks may follow. */
CUresult staging_wait(struct slot *s);

/** Leave a chunk to its request: it comes back by itself. A failure shows on the thread's next answer. */
void staging_leave(struct slot *s);

/**
 * After the last chunk of a copy that was left. With VGPU_SYNC=1 it asks for a failure, which the worker tells with any
 * answer: of the chunks themselves that comes when the copy has been made, and the stream may be held up until then.
 */
CUresult staging_left(CUresult r);

#endif
