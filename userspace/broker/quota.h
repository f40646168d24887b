/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's memory quota, shared by its sessions.
 *
 * Workers lease budget in slabs, so that an allocation seldom needs the broker. When a lease cannot be met, the
 * siblings are asked to give back what they hold and do not use, and the request waits for their answers. So the
 * quota is exact: a request is refused only if what it needs is really in use.
 */
#ifndef BROKER_QUOTA_H
#define BROKER_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

/* A sibling that has not answered for this long (a stuck driver call) is counted as using all it holds. */
#define QUOTA_ANSWER_NS 1000000000ull

struct quota;

/** struct quota_holder - one session's share. */
struct quota_holder {
	struct quota *quota;
	struct quota_holder *next;
	uint64_t leased;
	bool waiting;			/* has a request queued */
	bool asked;			/* has been asked to give back and has not answered */
	bool frozen;			/* cannot be asked: a worker of an earlier broker */
	uint64_t min, want, order;	/* the queued request */
	uint64_t round;			/* number of the last request it was asked for */
};

/**
 * struct quota
 * @limit:   bytes, UINT64_MAX for none
 * @granted: tell @h that it may use @bytes more (0: refused)
 * @reclaim: ask @h to give back what it does not use
 */
struct quota {
	uint64_t limit, leased;
	uint64_t order, round, deadline_ns;
	struct quota_holder *holders;
	void (*granted)(struct quota_holder *h, uint64_t bytes);
	void (*reclaim)(struct quota_holder *h);
};

void quota_join(struct quota *q, struct quota_holder *h);

/** The holder is gone: all it had is free again. */
void quota_leave(struct quota_holder *h, uint64_t now_ns);

/** Ask for at least @min, gladly @want. @return 0, -EALREADY it has a request under way, -EINVAL min is 0 */
int quota_request(struct quota_holder *h, uint64_t min, uint64_t want, uint64_t now_ns);

/** @h gives back @bytes. @answer: because it was asked to. @return 0, -EINVAL it does not hold as much */
int quota_return(struct quota_holder *h, uint64_t bytes, bool answer, uint64_t now_ns);

/** @h turns out to hold @bytes more than it has a lease for. @return 0, -EINVAL they cannot be */
int quota_adopt(struct quota_holder *h, uint64_t bytes);

/** @bytes of @from's lease are @to's from now on; both are of one quota, and @from has as much. */
void quota_move(struct quota_holder *from, struct quota_holder *to, uint64_t bytes);

/** The limit is another one; what is out stays out. */
void quota_limit(struct quota *q, uint64_t limit, uint64_t now_ns);

/** Time has passed. @return nanoseconds until the next call is due, UINT64_MAX for never. */
uint64_t quota_tick(struct quota *q, uint64_t now_ns);

#endif /* BROKER_QUOTA_H */
