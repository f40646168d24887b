/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker's part of the cgroup tree, for cgroup.c and zone.c:
 *
 *	broker			the broker itself, where it had to go into a part of its cgroup
 *	worker-PID		a worker that has no session yet
 *	zone-N			all workers of a zone, N; made for its first one, gone with the last
 *	zone-N/worker-PID	one of them
 *
 * Paths here are from the top of that part. Functions give 0 or -errno.
 */
#ifndef BROKER_CGROUP_H
#define BROKER_CGROUP_H

#include "broker.h"

/** struct zone - a pod, or a device of this machine, while it has workers. Limits are as its cgroup has them, UINT64_MAX: none */
struct zone {
	struct zone *next;
	uint32_t number;
	unsigned int workers;
	uint64_t memory_max, threads_max;
	uint64_t private_max;		/* the most that a worker's software GPU has */
	uint64_t ooms;			/* how often its memory had run out before us */
	struct refusals refusals;
};

bool cgroup_there(void);
bool cgroup_limits_memory(void);

/** @return also -EEXIST */
int cgroup_make(const char *path);
void cgroup_remove(const char *path);	/* now, or when what is in it has ended */
/** Have the cgroups in @path limited, too. */
int cgroup_divide(const char *path);
int cgroup_write(const char *path, const char *file, const char *text);
int cgroup_write_limit(const char *path, const char *file, uint64_t limit);
/** The number that @file begins with, or with @key the one behind that; UINT64_MAX for "max". @return false: there is none */
bool cgroup_read(const char *path, const char *file, const char *key, uint64_t *n);
/** The least of @most and what any cgroup that ours is in says in @file. */
uint64_t cgroup_least_above(const char *file, uint64_t most);

void cgroup_worker_path(const struct worker *w, char *path, size_t cap);
/** To where cgroup_worker_path() says now. */
int cgroup_worker_move(struct worker *w);

/** @ready is called when threads may have been refused, and calls cgroup_refused(). @return false: there is nothing to watch */
bool cgroup_refusals_watch(struct refusals *r, const char *path, void (*ready)(struct source *s, uint32_t events));
/** Have more been refused than it has told of? It ends the watch if the cgroup has gone. */
bool cgroup_refused(struct refusals *r);

/* zone.c */
bool zone_known(uint32_t number);
/** Its workers' memory has run out since we know it. */
bool zone_ran_out(const struct zone *z);

#endif /* BROKER_CGROUP_H */
