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
static bool made, moved;		/* by us: the group; we are in OWN */

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

static int divide(int dir)
{
	int err = broker.worker_memory ? write_text(dir, "cgroup.subtree_control", "+memory") : 0;

	return err || !broker.worker_threads ? err : write_text(dir, "cgroup.subtree_control", "+pids");
}

/* Of workers that have ended: what is still in use cannot be removed. */
static void sweep(void)
{
	int fd = group < 0 ? -1 : openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (all && (e = readdir(all)))
		if (!strncmp(e->d_name, WORKER, strlen(WORKER)))
			unlinkat(group, e->d_name, AT_REMOVEDIR);
	if (all)
		closedir(all);
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
		moved = !err;
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
	int err;

	if (!broker.root || (!broker.worker_memory && !broker.worker_threads))
		return;
	err = own_folder(path, sizeof(path)) ? enter(path) : -ENOENT;
	if (!err) {
		sweep();
		return;
	}
	log_line(LOG_WARNING, "workers' host memory and threads have no limit of their own: %s%s%s",
		 *path ? path : "there is no cgroup v2", *path ? ": " : "",
		 !*path ? "" : err == -ENOENT ? "no controllers for memory and pids" :
		 err == -EBUSY ? "other processes are in the broker's cgroup, too" : strerror(-err));
	cgroup_close();
}

void cgroup_close(void)
{
	if (group < 0)
		return;
	sweep();
	if (moved) {
		write_text(group, "cgroup.subtree_control", "-memory");
		write_text(group, "cgroup.subtree_control", "-pids");
		if (!write_text(group, "cgroup.procs", "0"))
			unlinkat(group, OWN, AT_REMOVEDIR);
	}
	if (made) {
		int above = openat(group, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		unlinkat(above, "vgpu-broker", AT_REMOVEDIR);
		close(above);
	}
	close(group);
	group = -1;
	made = moved = false;
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
	if (!err && broker.worker_threads)
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
	if (group < 0 || !broker.worker_memory || max <= w->host_max)
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
