// SPDX-License-Identifier: Apache-2.0
/* cgroup v2: one group per process that has limits of its own, below cgroup_root. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"

#define REMOVE_FIRST_NS	10000000ull
#define REMOVE_MAX_NS	2000000000ull
#define NAMES_MAX	16	/* groups that cannot be removed, of one process's name */

char cgroup_root[128];

static int put(const char *path, const char *file, const char *text)
{
	char name[512];
	int fd, result;

	snprintf(name, sizeof(name), "%s/%s", path, file);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	result = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
	close(fd);
	return result;
}

void cgroup_setup(const char *root)
{
	static const char *const controllers[] = { "+cpu", "+memory", "+pids", "+io", "+cpuset" };
	char path[256];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", root);
	if (access(path, W_OK))
		return;
	snprintf(cgroup_root, sizeof(cgroup_root), "%s", root);
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
		put(root, "cgroup.subtree_control", controllers[i]);	/* which there are is the kernel's configuration */
}

/* FILE=VALUE: a file of the group itself, and none that moves processes about. */
int cgroup_set(const char *path, const struct list *settings, struct failure *f)
{
	for (size_t i = 0; i < settings->count; i++) {
		const char *setting = *LIST_ITEM(settings, const char *, i), *value = strchr(setting, '=');
		char file[64];

		if (!value || value - setting >= (int)sizeof(file) || value == setting || memchr(setting, '/', value - setting) ||
		    !strncmp(setting, "cgroup.", 7))
			return refuse(f, EINVAL, "%.200s: not FILE=VALUE of a cgroup v2 controller", setting);
		snprintf(file, sizeof(file), "%.*s", (int)(value - setting), setting);
		/* A kernel without swap has no such file, and nothing that would have to be limited. */
		if (put(path, file, value + 1) && !(errno == ENOENT && !strcmp(file, "memory.swap.max")))
			return fail(f, "cannot set %.200s", setting);
	}
	return 0;
}

int cgroup_kill(const char *path, int signal)
{
	char name[512];
	FILE *file;
	int pid, sent = 0;

	if (signal == SIGKILL && !put(path, "cgroup.kill", "1"))
		return 0;
	snprintf(name, sizeof(name), "%s/cgroup.procs", path);
	file = fopen(name, "re");
	if (!file)
		return -1;
	while (fscanf(file, "%d", &pid) == 1)
		if (pid > 1 && !kill(pid, signal))
			sent++;
	fclose(file);
	errno = ESRCH;
	return sent ? 0 : -1;
}

/* Groups that the process made below its own go first. */
static int remove_tree(const char *path, int depth)
{
	DIR *dir = depth < 16 ? opendir(path) : NULL;
	struct dirent *entry;
	char name[512];

	while (dir && (entry = readdir(dir)))
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
		    snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) < (int)sizeof(name))
			remove_tree(name, depth + 1);
	if (dir)
		closedir(dir);
	return rmdir(path) && errno != ENOENT ? -1 : 0;
}

/* ---- Groups in which something is still dying are removed when it has. */

struct remainder {
	struct remainder *next;
	char path[];
};

static void remove_remainders(struct timer *t);
static struct remainder *remainders;
static struct timer again = { .expired = remove_remainders };
static uint64_t interval;

static void remove_remainders(struct timer *t)
{
	for (struct remainder **at = &remainders; *at;) {
		struct remainder *r = *at;

		if (remove_tree(r->path, 0)) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		free(r);
	}
	interval = interval < REMOVE_MAX_NS / 2 ? interval * 2 : REMOVE_MAX_NS;
	if (remainders)
		timer_set(&again, interval);
}

void cgroup_remove(const char *path)
{
	struct remainder *r;

	cgroup_kill(path, SIGKILL);
	if (!remove_tree(path, 0))
		return;
	r = malloc(sizeof(*r) + strlen(path) + 1);
	if (!r)
		return;
	strcpy(r->path, path);
	r->next = remainders;
	remainders = r;
	interval = REMOVE_FIRST_NS;
	timer_set(&again, interval);
}

/* One that is about to be made anew is not a remainder any more. */
static void forget_remainder(const char *path)
{
	for (struct remainder **at = &remainders; *at; at = &(*at)->next)
		if (!strcmp((*at)->path, path)) {
			struct remainder *r = *at;

			*at = r->next;
			free(r);
			return;
		}
}

/*
 * A group of that name that is there is an earlier process's, with its limits: it goes first. While something still dies
 * in it the new one has a name that no process can have.
 */
int cgroup_create(const char *name, char *path, size_t size, struct failure *f)
{
	if (!cgroup_root[0])
		return refuse(f, ENOTSUP, "%s: limits need cgroup v2, which this kernel or pod does not have", name);
	for (int i = 0; i < NAMES_MAX; i++) {
		if (i)
			snprintf(path, size, "%s/%s~%d", cgroup_root, name, i);
		else
			snprintf(path, size, "%s/%s", cgroup_root, name);
		if (!mkdir(path, 0755))
			return 0;
		if (errno != EEXIST) {
			fail(f, "cannot make the cgroup %s", path);
			path[0] = 0;
			return -1;
		}
		cgroup_kill(path, SIGKILL);
		if (!remove_tree(path, 0) && !mkdir(path, 0755)) {
			forget_remainder(path);
			return 0;
		}
	}
	path[0] = 0;
	return refuse(f, EBUSY, "%s: cannot make a cgroup: %d earlier ones of that name are still there, with processes that do "
		      "not die; use another name, or restart the pod", name, NAMES_MAX);
}

uint32_t cgroup_oom_kills(const char *path)
{
	char name[512], key[64];
	unsigned long value;
	uint32_t kills = 0;
	FILE *file;

	snprintf(name, sizeof(name), "%s/memory.events", path);
	file = fopen(name, "re");
	while (file && fscanf(file, "%63s %lu", key, &value) == 2)
		if (!strcmp(key, "oom_kill"))
			kills = value;
	if (file)
		fclose(file);
	return kills;
}

/* ---- The kernel tells when memory.events changes: one inotify for all groups. */

static void events_changed(struct source *s, uint32_t events);
static struct source inotify = SOURCE(events_changed);

static void events_changed(struct source *s, uint32_t events)
{
	char buf[4096];

	while (read(s->fd, buf, sizeof(buf)) > 0)
		;
	for (struct process *p = process_all(); p; p = p->next)
		if (p->own_cgroup && p->state != VGPU_AGENT_EXITED) {
			uint32_t kills = cgroup_oom_kills(p->cgroup);

			if (kills != p->oom)
				process_oom(p, kills);
		}
}

/* The watch goes with the group. */
void cgroup_watch_oom(struct process *p)
{
	char name[512];

	if (inotify.fd < 0) {
		inotify.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		source_watch(&inotify, EPOLLIN);
	}
	snprintf(name, sizeof(name), "%s/memory.events", p->cgroup);
	if (inotify.fd >= 0)
		inotify_add_watch(inotify.fd, name, IN_MODIFY);
}
