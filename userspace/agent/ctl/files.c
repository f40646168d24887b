// SPDX-License-Identifier: Apache-2.0
/* cp: a file into a pod or out of one. */
#include <errno.h>
#include <fcntl.h>
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
		file.type = VGPU_AGENT_DIRECTORY;
		file.mode = st.st_mode & 07777;
	}
	return vgpu_agent_put(open_pod(), process, path, &file, fd, &e) ? failed("cp", &e) : 0;
}

static int copy_out(const char *process, const char *path, const char *to)
{
	struct vgpu_agent_file file;
	struct vgpu_agent_error e;
	int fd = strcmp(to, "-") ? open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : 1;

	if (fd < 0) {
		fprintf(stderr, "vgpu-agentctl: cannot open %s: %s\n", to, strerror(errno));
		return EXIT_FAILED;
	}
	if (vgpu_agent_get(open_pod(), process, path, &file, fd, &e))
		return failed("cp", &e);
	if (file.type == VGPU_AGENT_DIRECTORY) {
		fprintf(stderr, "vgpu-agentctl: %s is a directory\n", path);
		return EXIT_FAILED;
	}
	/* Permissions, but no powers: what a pod calls set-user-ID is not that here. */
	if (fd != 1 && fchmod(fd, file.mode & 0777)) {
		fprintf(stderr, "vgpu-agentctl: %s: %s\n", to, strerror(errno));
		return EXIT_FAILED;
	}
	return 0;
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
