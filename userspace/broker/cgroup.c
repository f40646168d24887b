// SPDX-License-Identifier: Apache-2.0
/*
 * A cgroup for each worker, so that one that has been taken over has neither all of the machine's memory nor all of its
 * threads. Resource limits count by process or by user, and workers have one user.
 *
 * It takes cgroup v2 and root, and the broker's own cgroup must be its to divide. A cgroup that is divided may hold no
 * process of its own, so the broker goes into a part of it, too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"

#define OWN	"broker"		/* where the broker itself is, and the name for systemd's DelegateSubgroup= */
#define WORKER	"worker-"

static int group = -1;			/* the cgroup that has all of them */
static bool made, moved, divided;	/* by us: the group; we are in OWN; the group is to be whole again */

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

/* Of workers that have ended: what is still in use cannot be removed. @return false if something is left */
static bool sweep(void)
{
	int fd = group < 0 ? -1 : openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = fd < 0 ? NULL : fdopendir(fd);
	bool clean = true;
	struct dirent *e;

	while (all && (e = readdir(all)))
		if (!strncmp(e->d_name, WORKER, strlen(WORKER)) && unlinkat(group, e->d_name, AT_REMOVEDIR))
			clean = false;
	if (all)
		closedir(all);
	return clean;
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
	bool m = broker.worker_memory, t = broker.worker_threads;
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

bool cgroup_limits_threads(void)
{
	return threads.there;
}

void cgroup_worker_new(struct worker *w)
{
	static bool told;
	char name[32], text[24];
	int dir = -1, err = 0;

	if (group < 0)
		return;
	/* Another process of that number has ended, and may have left its cgroup. */
	snprintf(name, sizeof(name), WORKER "%d", w->pid);
	if (mkdirat(group, name, 0755) && errno != EEXIST)
		err = -errno;
	else if ((dir = openat(group, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		err = -errno;
	snprintf(text, sizeof(text), "%u", broker.worker_threads);
	if (!err && threads.there)
		err = write_text(dir, "pids.max", text);
	snprintf(text, sizeof(text), "%d", w->pid);
	if (!err)
		err = write_text(dir, "cgroup.procs", text);
	if (dir >= 0)
		close(dir);
	if (err && !told)
		log_line(LOG_WARNING, "worker %d has no cgroup of its own: %s", w->pid, strerror(-err));
	told |= err != 0;
}

void cgroup_worker_limit(struct worker *w)
{
	const struct device *d = w->session->device;
	uint64_t max = broker.worker_memory + (d->xen ? 0 : d->arena_max);
	char name[64], text[24];

	/* The software GPU's memory is the host's: its own, or files that are shared. */
	if (broker.soft)
		max += d->memory && d->memory < w->private_max ? d->memory : w->private_max;
	/* Never down: what it has already would be its end. */
	if (group < 0 || !memory.there || max <= w->host_max)
		return;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)max);
	snprintf(name, sizeof(name), WORKER "%d/memory.max", w->pid);
	if (write_text(group, name, text))
		return;
	w->host_max = max;
	/* Nor is it to fill the swap space instead; where there is none there is no such file. */
	snprintf(name, sizeof(name), WORKER "%d/memory.swap.max", w->pid);
	write_text(group, name, "0");
}

void cgroup_worker_gone(void)
{
	sweep();
}
