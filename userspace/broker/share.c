// SPDX-License-Identifier: Apache-2.0
/*
 * A device's weight, where the GPU is made of processors: the share of them that its workers get when others want them
 * too. The kernel's scheduler gives a process 1.25 times as much per step of niceness; a device's weight is divided
 * among its sessions. A real GPU's time slices are its driver's, which knows no weights.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "broker.h"

#define STEP	1.25
#define NICE_MIN (-20)
#define NICE_MAX 19

static int niceness(double share)
{
	int nice = 0;

	for (; share >= STEP && nice > NICE_MIN; share /= STEP)
		nice--;
	for (; share <= 1 / STEP && nice < NICE_MAX; share *= STEP)
		nice++;
	return nice;
}

static void apply(pid_t pid, int nice)
{
	char path[40], text[16];
	struct dirent *e;
	DIR *tasks;
	int fd, len;

	/* Where the scheduler first shares among sessions of processes: a worker is one. */
	snprintf(path, sizeof(path), "/proc/%d/autogroup", pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		len = snprintf(text, sizeof(text), "%d", nice);
		if (write(fd, text, (size_t)len) < 0)
			log_line(LOG_DEBUG, "%s takes no niceness %d", path, nice);
		close(fd);
	}
	/* Its threads, each for itself; those to come inherit it. */
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (e = readdir(tasks)))
		if (e->d_name[0] != '.')
			setpriority(PRIO_PROCESS, (id_t)atoi(e->d_name), nice);
	if (tasks)
		closedir(tasks);
}

void share_apply(const struct device *d)
{
	unsigned int running = 0;
	struct worker *w;
	int nice;

	/* Without the right to favour anybody nobody is. */
	if (!broker.soft || !broker.root)
		return;
	for (w = broker.workers; w; w = w->next)
		running += w->session && w->session->device == d;
	if (!running)
		return;
	nice = niceness((double)d->weight / running);
	for (w = broker.workers; w; w = w->next)
		if (w->session && w->session->device == d)
			apply(w->pid, nice);
}
