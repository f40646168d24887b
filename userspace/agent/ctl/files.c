// SPDX-License-Identifier: Apache-2.0
/* cp: a file into a pod or out of one. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"

/* "[NAME]:/PATH": *process is NULL for the pod's own root. False: a path of this host's. */
static bool in_pod(char *text, const char **process, const char **path)
{
	char *colon = strstr(text, ":/");

	if (!colon || memchr(text, '/', colon - text))
		return false;
	*colon = 0;
	*process = *text ? text : NULL;
	*path = colon + 1;
	return true;
}

#define NO_DIRECTORY "is a directory, and cp copies files: copy each, or pass an archive through `run tar`"

static int copy_in(const char *from, const char *process, const char *path)
{
	struct vgpu_agent_file file = { .type = VGPU_AGENT_FILE, .mode = 0644 };
	struct vgpu_agent_error e;
	struct stat st;
	int fd = strcmp(from, "-") ? open(from, O_RDONLY | O_CLOEXEC) : 0;

	if (fd < 0 || fstat(fd, &st)) {
		fprintf(stderr, "vgpu-agentctl: cannot open %s: %s\n", from, strerror(errno));
		return EXIT_FAILED;
	}
	if (S_ISREG(st.st_mode)) {
		file.mode = st.st_mode & 07777;
		file.mtime_ns = st.st_mtim.tv_sec * 1000000000ull + st.st_mtim.tv_nsec;
	}
	if (S_ISDIR(st.st_mode)) {
		fprintf(stderr, "vgpu-agentctl: %s " NO_DIRECTORY "\n", from);
		return EXIT_FAILED;
	}
	return vgpu_agent_put(open_pod(), process, path, &file, fd, &e) ? failed("cp", &e) : 0;
}

static int local_error(const char *path)
{
	fprintf(stderr, "vgpu-agentctl: cannot write %s: %s\n", path, strerror(errno));
	return EXIT_FAILED;
}

static int receive(struct vgpu_agent *pod, const char *process, const char *path, int fd, struct vgpu_agent_error *e)
{
	struct vgpu_agent_file file;

	if (vgpu_agent_get(pod, process, path, &file, fd, e))
		return -1;
	if (file.type != VGPU_AGENT_DIRECTORY)
		return file.mode & 0777;
	e->code = EISDIR;
	snprintf(e->text, sizeof(e->text), "%.200s " NO_DIRECTORY, path);
	return -1;
}

/* What a signal that ends this program has to take away first. */
static const char *volatile unfinished;

static void end_unfinished(int signal)
{
	if (unfinished)
		unlink(unfinished);
	raise(signal);	/* by its default (SA_RESETHAND), when this returns */
}

/* A name that only this file has, beside the one it is to get; no signal comes between the two lines that matter. */
static int open_temporary(char *template)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGTERM };
	struct sigaction action = { .sa_handler = end_unfinished, .sa_flags = SA_RESETHAND }, old;
	sigset_t set, before;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		sigaddset(&set, ends[i]);
		/* Who started this may want them ignored. */
		if (!sigaction(ends[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(ends[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &set, &before);
	fd = mkostemp(template, O_CLOEXEC);
	if (fd >= 0)
		unfinished = template;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return fd;
}

/* Whole or not at all: what is there stays until all has come. */
static int replace(const char *process, const char *path, const char *to)
{
	struct vgpu_agent *pod = open_pod();	/* ends this program if it cannot */
	struct vgpu_agent_error e;
	char *temporary = NULL;
	int fd, mode, result;

	if (asprintf(&temporary, "%s.XXXXXX", to) < 0)
		return local_error(to);
	fd = open_temporary(temporary);
	if (fd < 0) {
		result = local_error(to);
		goto out;
	}
	mode = receive(pod, process, path, fd, &e);
	/* Permissions, but no powers: what a pod calls set-user-ID is not that here. */
	if (mode >= 0 && !fchmod(fd, mode) && !close(fd) && !rename(temporary, to)) {
		unfinished = NULL;
		result = 0;
		goto out;
	}
	result = mode < 0 ? 0 : local_error(to);
	unlink(temporary);
	unfinished = NULL;
	if (mode < 0)
		result = failed("cp", &e);
out:
	free(temporary);
	return result;
}

static int copy_out(const char *process, const char *path, const char *to)
{
	struct vgpu_agent_error e;
	char *real = realpath(to, NULL);
	struct stat st = { .st_mode = S_IFREG };
	int fd, result;

	if (!strcmp(to, "-"))
		return receive(open_pod(), process, path, 1, &e) < 0 ? failed("cp", &e) : 0;
	if (real && !stat(real, &st) && S_ISDIR(st.st_mode)) {
		fprintf(stderr, "vgpu-agentctl: %s is a directory: name the file that is to be made in it\n", to);
		return EXIT_FAILED;
	}
	if (S_ISREG(st.st_mode)) {
		/* A link stays one. */
		result = replace(process, path, real ?: to);
	} else {
		fd = open(to, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			return local_error(to);
		result = receive(open_pod(), process, path, fd, &e) < 0 ? failed("cp", &e) : 0;
	}
	free(real);
	return result;
}

int command_copy(int argc, char **argv)
{
	const char *process, *path, *other_process, *other_path;
	bool from, to;

	if (argc != 3)
		return usage_of("cp");
	from = in_pod(argv[1], &process, &path);
	to = in_pod(argv[2], &other_process, &other_path);
	if (from == to)
		return usage_of("cp");
	return from ? copy_out(process, path, argv[2]) : copy_in(argv[1], other_process, other_path);
}
