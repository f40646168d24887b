// SPDX-License-Identifier: Apache-2.0
/*
 * Workers of an earlier broker. One that was killed leaves its workers running, each with its session's file. What the
 * next broker must know of them to see them, to charge what they hold and to end them stands in DIR/workers, a table
 * that every broker writes while it lives.
 *
 * Their control sockets have died with the broker. So their leases are what they were: no more, unless they return.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker.h"

#define RECORDS	4096

/** struct adopt_record - one worker with a session. @pid: 0 for a free record. @ticks: when it started, as /proc has it */
struct adopt_record {
	uint32_t pid, session, zone, device;
	uint64_t ticks, leased, start_ns, cpu_ns;
};

static struct adopt_record *table;	/* shared with the file */
static struct adopt_record *before;	/* what was in it when we began */

static uint64_t start_ticks(pid_t pid)
{
	unsigned long long ticks = 0;
	char path[32], line[1024], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	/* Field 22, counted from behind the name, which may have anything in it. */
	if (fgets(line, sizeof(line), f) && (p = strrchr(line, ')')) &&
	    sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks) != 1)
		ticks = 0;
	fclose(f);
	return ticks;
}

void adopt_open(void)
{
	const size_t size = RECORDS * sizeof(*table);
	char path[128];
	void *map;
	int fd;

	snprintf(path, sizeof(path), "%.100s/workers", broker.run_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchmod(fd, 0600) || ftruncate(fd, (off_t)size)) {
		log_line(LOG_WARNING, "%s: %s: if this broker is killed, the next one will not know its workers", path,
			 strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return;
	table = map;
	before = malloc(size);
	if (before)
		memcpy(before, table, size);
	memset(table, 0, size);
}

void adopt_write(struct worker *w)
{
	struct adopt_record *r = w->record;
	struct session *s = w->session;
	uint64_t leased;

	if (!table || !s || !s->device->xen)
		return;
	/* What it shares is there as long as it lives, though charged elsewhere (ipc.h). */
	leased = w->holder.leased + w->shared;
	for (unsigned int i = 0; !r && i < RECORDS; i++)
		if (!table[i].pid)
			r = &table[i];
	if (!r)
		return;
	if (!w->record) {
		*r = (struct adopt_record){
			.session = s->number, .zone = s->device->zone, .device = s->device->id,
			.ticks = start_ticks(w->pid), .start_ns = s->start_ns, .cpu_ns = w->cpu_ns, .leased = leased,
		};
		w->record = r;
		__atomic_store_n(&r->pid, (uint32_t)w->pid, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&r->leased, leased, __ATOMIC_RELEASE);
}

void adopt_forget(struct worker *w)
{
	if (w->record)
		w->record->pid = 0;
	w->record = NULL;
}

static bool fits(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && seals & F_SEAL_SHRINK && seals & F_SEAL_FUTURE_WRITE && !fstat(fd, &st) && st.st_size >= (off_t)sizeof(struct worker_stats);
}

/* The page of counters that the worker shares with a broker that is gone; an empty one if it is not to be had. */
static const struct worker_stats *map_stats(pid_t pid)
{
	char path[80], line[512];
	void *map = MAP_FAILED;
	FILE *f;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "memfd:vgpu-worker-stats"))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/map_files/%.*s", pid, (int)strcspn(line, " "), line);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		/* The name proves nothing, the worker may have made it: what could shrink under us, or get holes, is not taken. */
		if (fd >= 0 && fits(fd))
			map = mmap(NULL, sizeof(struct worker_stats), PROT_READ, MAP_SHARED, fd, 0);
		if (fd >= 0)
			close(fd);
		break;
	}
	if (f)
		fclose(f);
	if (map == MAP_FAILED)
		map = mmap(NULL, sizeof(struct worker_stats), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return map == MAP_FAILED ? NULL : map;
}

static struct adopt_record *find(const struct session *s)
{
	for (unsigned int i = 0; before && i < RECORDS; i++) {
		struct adopt_record *r = &before[i];

		if (r->pid && r->session == s->number && r->zone == s->device->zone && r->device == s->device->id)
			return r;
	}
	return NULL;
}

bool adopt_session(struct session *s)
{
	struct adopt_record *r = find(s);
	struct worker *w;
	int pidfd;

	if (!r)
		return false;
	pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	/* The number may be another process's by now; not any more once there is a descriptor. */
	if (pidfd < 0 || !r->ticks || start_ticks((pid_t)r->pid) != r->ticks) {
		if (pidfd >= 0)
			close(pidfd);
		return false;
	}
	w = calloc(1, sizeof(*w));
	if (w)
		w->stats = map_stats((pid_t)r->pid);
	if (!w || !w->stats) {
		free(w);
		close(pidfd);
		return false;
	}
	w->pid = (pid_t)r->pid;
	w->cpu_ns = r->cpu_ns;
	w->start_ns = s->start_ns = r->start_ns;
	worker_watch_adopted(w, pidfd);
	w->session = s;
	s->worker = w;
	zone_enter(w);
	quota_join(&s->device->quota, &w->holder);
	w->holder.frozen = true;
	quota_adopt(&w->holder, r->leased);
	adopt_write(w);
	r->pid = 0;
	return true;
}
