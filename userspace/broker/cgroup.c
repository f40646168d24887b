// SPDX-License-Identifier: Apache-2.0
/*
 * A cgroup for each worker, in one of its zone, so that workers that have been taken over have neither all of the machine's
 * memory nor all of its threads. Resource limits count by process or by user, and workers have one user.
 *
 * It takes cgroup v2 and root, and the broker's own cgroup must be its to divide. A cgroup that is divided may hold no
 * process of its own, so the broker goes into a part of it, too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"

#define OWN	"broker"		/* where the broker itself is, and the name for systemd's DelegateSubgroup= */
#define WORKER	"worker-"
#define ZONE	"zone-"
#define PATH	64			/* of those that we make */

static int group = -1;			/* the cgroup that has all of them */
static bool made, moved, divided;	/* by us: the group; we are in OWN; the group is to be whole again */
static bool leftovers;			/* something could not be removed yet */

/* struct limit - what workers may have of something. @there: wanted, and its controller can be had */
struct limit {
	const char *controller, *what;
	bool there;
};
static struct limit memory = { "memory", "host memory", false }, threads = { "pids", "threads", false };

static int write_text(int dir, const char *file, const char *text)
{
	int fd = openat(dir, file, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* The line of @path that has @sign in it. */
static bool find_line(const char *path, const char *sign, char *line, int cap)
{
	FILE *f = fopen(path, "re");
	bool found = false;

	while (f && !found && fgets(line, cap, f))
		found = strstr(line, sign);
	if (f)
		fclose(f);
	return found;
}

/* The folder of the cgroup that we are in. */
static bool own_folder(char *out, size_t cap)
{
	char mount[PATH_MAX], path[PATH_MAX], line[2 * PATH_MAX];

	if (!find_line("/proc/self/mountinfo", " - cgroup2 ", line, sizeof(line)) ||
	    sscanf(line, "%*s %*s %*s / %4095s", mount) != 1)
		return false;
	if (!find_line("/proc/self/cgroup", "0::/", line, sizeof(line)) || sscanf(line, "0::%4095[^\n]", path) != 1)
		return false;
	return (size_t)snprintf(out, cap, "%s%s", mount, strcmp(path, "/") ? path : "") < cap;
}

static int control(int dir, char sign, const struct limit *l)
{
	char text[32];

	snprintf(text, sizeof(text), "%c%s", sign, l->controller);
	return write_text(dir, "cgroup.subtree_control", text);
}

/* One of the two limits is better than none. @return -errno if neither can be had */
static int divide(int dir)
{
	int err = 0, err2 = 0;

	if (memory.there)
		err = control(dir, '+', &memory);
	if (threads.there)
		err2 = control(dir, '+', &threads);
	memory.there = memory.there && !err;
	threads.there = threads.there && !err2;
	return memory.there || threads.there ? 0 : err ? err : err2;
}

static void make_whole(int dir)
{
	control(dir, '-', &memory);
	control(dir, '-', &threads);
}

/* A number behind @prefix, and nothing else. */
static bool numbered(const char *name, const char *prefix, unsigned long *n)
{
	size_t len = strlen(prefix);
	char *end;

	if (strncmp(name, prefix, len) || name[len] < '0' || name[len] > '9')
		return false;
	*n = strtoul(name + len, &end, 10);
	return !*end;
}

static bool lives(pid_t pid)
{
	const struct worker *w;

	for (w = broker.workers; w && w->pid != pid; w = w->next)
		;
	return w;
}

/*
 * Remove the cgroups in @dir, one of zones or, at the @top, of all, but for those that we know of and others' own. What is still in
 * use cannot be removed. @return are any left that we do not know of? *@known: are there others?
 */
static bool remove_unknown(int dir, bool top, bool *known)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), zone;
	DIR *all = fd < 0 ? NULL : fdopendir(fd);
	bool left = false;
	struct dirent *e;
	unsigned long n;

	if (fd >= 0 && !all)
		close(fd);
	while (all && (e = readdir(all))) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		if (numbered(e->d_name, WORKER, &n)) {
			if (lives((pid_t)n)) {
				*known = true;
				continue;
			}
		} else if (top && numbered(e->d_name, ZONE, &n)) {
			zone = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (zone >= 0) {
				left |= remove_unknown(zone, false, known);
				close(zone);
			}
			if (zone_known((uint32_t)n)) {
				*known = true;
				continue;
			}
		} else if (top) {
			continue;
		}
		left |= unlinkat(dir, e->d_name, AT_REMOVEDIR) && errno != ENOENT;
	}
	if (all)
		closedir(all);
	return left;
}

/* @return false if something is left */
static bool sweep(void)
{
	bool known = false;

	leftovers = group >= 0 && remove_unknown(group, true, &known);
	return group >= 0 && !leftovers && !known;
}

static int enter(const char *path)
{
	const char *name = strrchr(path, '/');
	char parent[PATH_MAX];
	int err;

	/* Somebody has put us where we would go. */
	if (name && !strcmp(name + 1, OWN)) {
		snprintf(parent, sizeof(parent), "%.*s", (int)(name - path), path);
		group = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		divided = group >= 0;
		return group < 0 ? -errno : divide(group);
	}
	group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0)
		return -errno;
	/* At the root there are others, and only there they may stay. */
	if (!faccessat(group, "cgroup.type", F_OK, 0)) {
		if (mkdirat(group, OWN, 0755) && errno != EEXIST)
			return -errno;
		err = write_text(group, OWN "/cgroup.procs", "0");
		moved = divided = !err;
		if (err)
			unlinkat(group, OWN, AT_REMOVEDIR);
		return err ? err : divide(group);
	}
	err = divide(group);
	if (err)
		return err;
	if (mkdirat(group, "vgpu-broker", 0755) && errno != EEXIST)
		return -errno;
	made = true;
	err = openat(group, "vgpu-broker", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (err < 0)
		return -errno;
	close(group);
	group = err;
	return divide(group);
}

void cgroup_open(void)
{
	char path[PATH_MAX] = "";
	bool m = broker.worker_memory || broker.zone_memory, t = broker.worker_threads || broker.zone_threads;
	int err;

	memory.there = m;
	threads.there = t;
	if (!broker.root || (!m && !t))
		return;
	err = own_folder(path, sizeof(path)) ? enter(path) : -ENOENT;
	if (err)
		memory.there = threads.there = false;
	m = m && !memory.there;
	t = t && !threads.there;
	if (m || t)
		log_line(LOG_WARNING, "workers have no limit of %s%s%s: %s%s%s", m ? memory.what : "",
			 m && t ? " and " : "", t ? threads.what : "",
			 *path ? path : "there is no cgroup v2", *path ? ": " : "",
			 !*path ? "" : !err || err == -ENOENT ? "no controller for that" :
			 err == -EBUSY ? "other processes are in the broker's cgroup, too" : strerror(-err));
	if (err)
		cgroup_close();
	else
		sweep();
}

void cgroup_close(void)
{
	if (group < 0)
		return;
	/*
	 * A cgroup that is divided takes no process, not even the next broker, which systemd begins in the unit's own
	 * before it goes where DelegateSubgroup= says. But a worker that lives on, of an earlier broker, would lose its
	 * limits.
	 */
	if (divided && sweep())
		make_whole(group);
	if (moved && !write_text(group, "cgroup.procs", "0"))
		unlinkat(group, OWN, AT_REMOVEDIR);
	if (made) {
		int above = openat(group, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		sweep();
		unlinkat(above, "vgpu-broker", AT_REMOVEDIR);
		close(above);
	}
	close(group);
	group = -1;
	made = moved = divided = false;
}

bool cgroup_there(void)
{
	return group >= 0;
}

bool cgroup_limits_memory(void)
{
	return memory.there;
}

bool cgroup_limits_threads(void)
{
	return threads.there;
}

int cgroup_make(const char *path)
{
	return mkdirat(group, path, 0755) ? -errno : 0;
}

void cgroup_remove(const char *path)
{
	if (unlinkat(group, path, AT_REMOVEDIR) && errno != ENOENT)
		leftovers = true;
}

int cgroup_divide(const char *path)
{
	int dir = openat(group, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = dir < 0 ? -errno : 0;

	if (!err && memory.there)
		err = control(dir, '+', &memory);
	if (!err && threads.there)
		err = control(dir, '+', &threads);
	if (dir >= 0)
		close(dir);
	return err;
}

int cgroup_write(const char *path, const char *file, const char *text)
{
	char name[2 * PATH];

	snprintf(name, sizeof(name), "%s/%s", path, file);
	return write_text(group, name, text);
}

int cgroup_write_limit(const char *path, const char *file, uint64_t limit)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	return cgroup_write(path, file, limit == UINT64_MAX ? "max" : text);
}

static bool number_in(const char *text, const char *key, uint64_t *n)
{
	size_t len = key ? strlen(key) : 0;
	char *end;

	while (key && (strncmp(text, key, len) || text[len] != ' ')) {
		text = strchr(text, '\n');
		if (!text)
			return false;
		text++;
	}
	text += len;
	text += *text == ' ';
	*n = UINT64_MAX;
	if (!strncmp(text, "max", 3))
		return true;
	*n = strtoull(text, &end, 10);
	return end != text;
}

static bool read_number(int dir, const char *name, const char *key, uint64_t *n)
{
	char text[512];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return false;
	text[got] = '\0';
	return number_in(text, key, n);
}

bool cgroup_read(const char *path, const char *file, const char *key, uint64_t *n)
{
	char name[2 * PATH];

	snprintf(name, sizeof(name), "%s/%s", path, file);
	return read_number(group, name, key, n);
}

uint64_t cgroup_least_above(const char *file, uint64_t most)
{
	int dir = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), above;
	uint64_t n;

	/* The root of them all has no limits, and no type. */
	while (dir >= 0 && !faccessat(dir, "cgroup.type", F_OK, 0)) {
		if (read_number(dir, file, NULL, &n) && n < most)
			most = n;
		above = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(dir);
		dir = above;
	}
	if (dir >= 0)
		close(dir);
	return most;
}

void cgroup_worker_path(const struct worker *w, char *path, size_t cap)
{
	if (w->zone)
		snprintf(path, cap, ZONE "%u/" WORKER "%d", w->zone->number, w->pid);
	else
		snprintf(path, cap, WORKER "%d", w->pid);
}

int cgroup_worker_move(struct worker *w)
{
	char path[PATH], text[24];
	int err;

	cgroup_worker_path(w, path, sizeof(path));
	/* Another process of that number has ended, and may have left its cgroup. */
	err = cgroup_make(path);
	if (err == -EEXIST)
		err = 0;
	if (!err && threads.there && broker.worker_threads)
		err = cgroup_write_limit(path, "pids.max", broker.worker_threads);
	snprintf(text, sizeof(text), "%d", w->pid);
	if (!err)
		err = cgroup_write(path, "cgroup.procs", text);
	if (err)
		unlinkat(group, path, AT_REMOVEDIR);
	return err;
}

void cgroup_worker_new(struct worker *w)
{
	static bool told;
	int err = group < 0 ? 0 : cgroup_worker_move(w);

	if (err && !told)
		log_line(LOG_WARNING, "worker %d has no cgroup of its own: %s", w->pid, strerror(-err));
	told |= err != 0;
}

void cgroup_worker_limit(struct worker *w)
{
	const struct device *d = w->session->device;
	uint64_t max = broker.worker_memory + (d->xen ? 0 : d->arena_max);
	char path[PATH];

	/* The software GPU's memory is the host's: its own, or files that are shared. */
	if (broker.soft)
		max += d->memory && d->memory < w->private_max ? d->memory : w->private_max;
	/* Never down: what it has already would be its end. */
	if (group < 0 || !memory.there || !broker.worker_memory || max <= w->host_max)
		return;
	cgroup_worker_path(w, path, sizeof(path));
	if (cgroup_write_limit(path, "memory.max", max))
		return;
	w->host_max = max;
	/* Nor is it to fill the swap space instead; where there is none there is no such file. */
	cgroup_write(path, "memory.swap.max", "0");
}

void cgroup_worker_gone(struct worker *w)
{
	char path[PATH];

	if (group < 0)
		return;
	unwatch(&w->refusals.source);
	cgroup_worker_path(w, path, sizeof(path));
	cgroup_remove(path);
	zone_leave(w);
	if (leftovers)
		sweep();
}

bool cgroup_why_killed(struct worker *w, char *why, size_t cap)
{
	uint64_t n = 0;
	char path[PATH];

	if (group < 0 || !memory.there)
		return false;
	cgroup_worker_path(w, path, sizeof(path));
	if (!cgroup_read(path, "memory.events", "oom_kill", &n) || !n)
		return false;
	if (cgroup_read(path, "memory.events.local", "oom", &n) && n)
		snprintf(why, cap, "its worker had all of the %llu MiB of host memory that it may have, and was killed "
			 "(vgpu-broker --worker-memory)", (unsigned long long)w->host_max >> 20);
	else if (w->zone && zone_ran_out(w->zone))
		snprintf(why, cap, "its worker was killed: those of zone %u had all of the %llu MiB of host memory that they may "
			 "have together (vgpu-broker --zone-memory)", w->zone->number,
			 (unsigned long long)w->zone->memory_max >> 20);
	else
		snprintf(why, cap, "its worker was killed: the driver domain has run out of memory");
	return true;
}

bool cgroup_refusals_watch(struct refusals *r, const char *path, void (*ready)(struct source *s, uint32_t events))
{
	char name[2 * PATH];
	int fd;

	r->source.fd = -1;
	if (!threads.there)
		return false;
	/* Newer kernels tell with it of the cgroup's own limit, older ones with the other of any that kept a thread out. */
	snprintf(name, sizeof(name), "%s/pids.events.local", path);
	fd = openat(group, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(name, sizeof(name), "%s/pids.events", path);
		fd = openat(group, name, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return false;
	if (watch(&r->source, fd, EPOLLPRI, ready)) {
		close(fd);
		return false;
	}
	/* Only what has been read once tells of changes. */
	cgroup_refused(r);
	return true;
}

bool cgroup_refused(struct refusals *r)
{
	uint64_t n, seen = r->seen;
	char text[128];
	ssize_t got = pread(r->source.fd, text, sizeof(text) - 1, 0);

	if (got <= 0) {
		unwatch(&r->source);
		return false;
	}
	text[got] = '\0';
	if (!number_in(text, "max", &n))
		return false;
	r->seen = n;
	return n > seen;
}
