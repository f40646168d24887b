// SPDX-License-Identifier: Apache-2.0
/*
 * What all workers of a zone may have of the driver domain together. Each has limits of its own (cgroup.c), but a zone may have
 * many sessions, and whoever has taken over one worker can take over as many.
 *
 * Unless the administrator says otherwise that is what four workers may have, or one for each sixteen of the zone's sessions;
 * and it is never more than a share of what there is, so that whatever one zone does the others and the broker have the rest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"

#define WORKERS_LEAST		4u	/* a zone has as much as so many workers, */
#define SESSIONS_EACH		16u	/* or as one for each so many sessions */
#define MEMORY_SHARE		2u	/* but not more than one of so many parts of the machine's memory */
#define THREADS_SHARE		4u	/* and of its threads */
#define WORKER_BEGINS		8u	/* threads that a worker has when it begins to serve, about */
#define TELL_NS			10000000000ull	/* at most one line in this time says that threads were refused */
#define PATH			64

static struct zone *zones;

static struct zone *find(uint32_t number)
{
	struct zone *z;

	for (z = zones; z && z->number != number; z = z->next)
		;
	return z;
}

bool zone_known(uint32_t number)
{
	return find(number);
}

static void path_of(const struct zone *z, char *path, size_t cap)
{
	snprintf(path, cap, "zone-%u", z->number);
}

/* --- what it may have ------------------------------------------------------------------------------------------ */

static uint64_t number_of_kernel(const char *name, uint64_t otherwise)
{
	unsigned long long n;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/kernel/%s", name);
	f = fopen(path, "re");
	if (!f)
		return otherwise;
	if (fscanf(f, "%llu", &n) != 1)
		n = otherwise;
	fclose(f);
	return n;
}

static uint64_t memory_there(void)
{
	return cgroup_least_above("memory.max", (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}

static uint64_t threads_there(void)
{
	uint64_t threads = number_of_kernel("threads-max", UINT64_MAX), pids = number_of_kernel("pid_max", UINT64_MAX);

	return cgroup_least_above("pids.max", threads < pids ? threads : pids);
}

static uint64_t product(uint64_t n, uint64_t each)
{
	uint64_t all;

	/* 0: a worker has no limit, and its zone's share is what counts. */
	return !each || __builtin_mul_overflow(n, each, &all) ? UINT64_MAX : all;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/** What zone @z may have where there are @memory bytes and @threads. */
static void limits(const struct zone *z, uint64_t memory, uint64_t threads, uint64_t *memory_max, uint64_t *threads_max)
{
	uint64_t sessions = 0, device_memory = 0, workers;
	const struct device *d;

	for (d = broker.devices; d; d = d->next) {
		if (d->zone != z->number)
			continue;
		sessions += d->max_sessions;
		if (!d->xen)
			device_memory = sum(device_memory, d->arena_max);
		/* As for a worker (cgroup_worker_limit()); but a quota is for all of them. */
		if (broker.soft)
			device_memory = sum(device_memory, d->memory && d->memory < z->private_max ? d->memory : z->private_max);
	}
	workers = sessions / SESSIONS_EACH > WORKERS_LEAST ? sessions / SESSIONS_EACH : WORKERS_LEAST;
	if (!broker.zone_memory)
		*memory_max = UINT64_MAX;
	else if (broker.zone_memory != ZONE_DERIVED)
		*memory_max = sum(broker.zone_memory, device_memory);
	else
		*memory_max = least(sum(product(workers, broker.worker_memory), device_memory), memory / MEMORY_SHARE);
	if (!broker.zone_threads)
		*threads_max = UINT64_MAX;
	else if (broker.zone_threads != ZONE_DERIVED)
		*threads_max = broker.zone_threads;
	else
		*threads_max = least(product(workers, broker.worker_threads), threads / THREADS_SHARE);
}

/* @in_use: never down, since what its workers have already would be their end. */
static int apply(struct zone *z, bool in_use)
{
	uint64_t memory, threads;
	char path[PATH];
	int err = 0;

	path_of(z, path, sizeof(path));
	limits(z, memory_there(), threads_there(), &memory, &threads);
	if (cgroup_limits_memory() && !(in_use && memory <= z->memory_max)) {
		err = cgroup_write_limit(path, "memory.max", memory);
		if (err)
			return err;
		z->memory_max = memory;
		cgroup_write(path, "memory.swap.max", memory == UINT64_MAX ? "max" : "0");
	}
	if (cgroup_limits_threads() && !(in_use && threads <= z->threads_max)) {
		err = cgroup_write_limit(path, "pids.max", threads);
		if (!err)
			z->threads_max = threads;
	}
	return err;
}

void zone_configured(const struct device *d)
{
	struct zone *z = find(d->zone);

	if (z)
		apply(z, true);
}

/* --- what it has, and when that is all ------------------------------------------------------------------------- */

void zone_use(const struct device *d, struct zone_use *use)
{
	const struct zone *z = find(d->zone);
	char path[PATH];

	*use = (struct zone_use){ UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
	if (!z)
		return;
	path_of(z, path, sizeof(path));
	cgroup_read(path, "memory.current", NULL, &use->memory);
	cgroup_read(path, "pids.current", NULL, &use->threads);
	use->memory_max = z->memory_max;
	use->threads_max = z->threads_max;
}

bool zone_full(const struct device *d, char *why, size_t cap)
{
	const struct zone *z = find(d->zone);
	char path[PATH];
	uint64_t n;

	if (!z || z->threads_max == UINT64_MAX)
		return false;
	path_of(z, path, sizeof(path));
	if (!cgroup_read(path, "pids.current", NULL, &n) || n + WORKER_BEGINS <= z->threads_max)
		return false;
	snprintf(why, cap, "the workers of zone %u have %llu of the %llu threads that they may have together "
		 "(vgpu-broker --zone-threads)", z->number, (unsigned long long)n, (unsigned long long)z->threads_max);
	return true;
}

bool zone_ran_out(const struct zone *z)
{
	char path[PATH];
	uint64_t n;

	path_of(z, path, sizeof(path));
	return cgroup_read(path, "memory.events.local", "oom", &n) && n > z->ooms;
}

static bool to_tell(struct refusals *r)
{
	uint64_t now = log_now_ns();

	if (r->told_ns && now - r->told_ns < TELL_NS)
		return false;
	r->told_ns = now;
	return true;
}

static void tell(struct zone *z)
{
	const struct device *d;

	if (!to_tell(&z->refusals))
		return;
	for (d = broker.devices; d && d->zone != z->number; d = d->next)
		;
	log_line(LOG_WARNING, "zone %u: its workers have the %llu threads that they may have together, and get no more "
		 "(vgpu-broker --zone-threads, or fewer sessions for the zone)", z->number, (unsigned long long)z->threads_max);
	event("limit-reached", d, NULL, "the zone's workers have the %llu threads that they may have together",
	      (unsigned long long)z->threads_max);
}

static void refused_zone(struct source *src, uint32_t events)
{
	struct zone *z = container_of(src, struct zone, refusals.source);

	if (cgroup_refused(&z->refusals))
		tell(z);
}

static uint64_t left(const char *path)
{
	uint64_t max, now;

	if (!cgroup_read(path, "pids.max", NULL, &max) || !cgroup_read(path, "pids.current", NULL, &now) || max == UINT64_MAX)
		return UINT64_MAX;
	return now < max ? max - now : 0;
}

static void refused_worker(struct source *src, uint32_t events)
{
	struct worker *w = container_of(src, struct worker, refusals.source);
	char path[PATH], above[PATH];

	if (!cgroup_refused(&w->refusals) || !w->session || !w->zone)
		return;
	cgroup_worker_path(w, path, sizeof(path));
	path_of(w->zone, above, sizeof(above));
	if (left(above) < left(path)) {
		tell(w->zone);
	} else if (to_tell(&w->refusals)) {
		session_log(w->session, LOG_WARNING, "its worker has the %u threads that it may have, and gets no more "
			    "(vgpu-broker --worker-threads)", broker.worker_threads);
		event("limit-reached", w->session->device, w->session, "its worker has the %u threads that it may have",
		      broker.worker_threads);
	}
}

/* --- its life -------------------------------------------------------------------------------------------------- */

static void gone(struct zone *z)
{
	struct zone **p;
	char path[PATH];

	for (p = &zones; *p != z; p = &(*p)->next)
		;
	*p = z->next;
	unwatch(&z->refusals.source);
	path_of(z, path, sizeof(path));
	cgroup_remove(path);
	later(z);
}

/* One that is there has workers of an earlier broker, or what it has left; somebody else may have been at it, too. */
static int come(struct zone *z)
{
	uint64_t n = 0;
	char path[PATH];
	bool in_use;
	int err;

	path_of(z, path, sizeof(path));
	z->memory_max = z->threads_max = UINT64_MAX;
	err = cgroup_make(path);
	if (err && err != -EEXIST)
		return err;
	if (err)
		cgroup_write(path, "cgroup.freeze", "0");
	err = cgroup_divide(path);
	if (err)
		return err;
	in_use = cgroup_read(path, "cgroup.events", "populated", &n) && n;
	if (in_use) {
		cgroup_read(path, "memory.max", NULL, &z->memory_max);
		cgroup_read(path, "pids.max", NULL, &z->threads_max);
	}
	cgroup_read(path, "memory.events.local", "oom", &z->ooms);
	err = apply(z, in_use);
	if (!err)
		cgroup_refusals_watch(&z->refusals, path, refused_zone);
	return err;
}

static struct zone *get(uint32_t number, uint64_t private_max)
{
	static bool told;
	struct zone *z = find(number);
	int err = -ENOMEM;

	if (!z) {
		z = calloc(1, sizeof(*z));
		if (z) {
			*z = (struct zone){ .next = zones, .number = number, .private_max = private_max };
			z->refusals.source.fd = -1;
			zones = z;
			err = come(z);
		}
		if (err) {
			if (!told)
				log_line(LOG_WARNING, "zone %u: its workers have limits of their own only, and none together: "
					 "cgroup zone-%u: %s%s", number, number, strerror(-err),
					 err == -EBUSY ? " (there are processes in it that are not the broker's)" : "");
			told = true;
			if (z)
				gone(z);
			return NULL;
		}
	}
	if (private_max > z->private_max) {
		z->private_max = private_max;
		apply(z, true);
	}
	return z;
}

void zone_enter(struct worker *w)
{
	const struct device *d = w->session->device;
	char path[PATH], before[PATH];
	struct zone *z;
	uint64_t n;
	int err;

	if (!cgroup_there())
		return;
	if (w->adopted) {
		snprintf(path, sizeof(path), "zone-%u/worker-%d", d->zone, w->pid);
		if (!cgroup_read(path, "cgroup.events", "populated", &n))
			return;
	}
	cgroup_worker_path(w, before, sizeof(before));
	z = get(d->zone, w->private_max);
	if (!z)
		return;
	w->zone = z;
	z->workers++;
	err = w->adopted ? 0 : cgroup_worker_move(w);
	if (err) {
		/* Or it has just ended. */
		if (err != -ESRCH)
			log_line(LOG_WARNING, "zone %u: worker %d does not count for the zone's limits: %s", z->number, w->pid,
				 strerror(-err));
		zone_leave(w);
		return;
	}
	cgroup_worker_path(w, path, sizeof(path));
	if (strcmp(path, before) && !w->adopted)
		cgroup_remove(before);
	cgroup_refusals_watch(&w->refusals, path, refused_worker);
}

void zone_leave(struct worker *w)
{
	struct zone *z = w->zone;

	w->zone = NULL;
	if (z && !--z->workers)
		gone(z);
}
