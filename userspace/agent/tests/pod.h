/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-init's agent half, in namespaces of its own on this machine: started, connected to, and programs run through it.
 */
#ifndef AGENT_TEST_POD_H
#define AGENT_TEST_POD_H

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"
#include "vgpuagent.h"

static char folder[] = "/tmp/agent-test.XXXXXX", sock[64];
static const char *init, *cgroup;	/* @cgroup: where the agent makes cgroups, or NULL */
static pid_t daemon_pid;
static struct vgpu_agent *pod;
static struct vgpu_agent_error e;
static const char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };

static void start_daemon(void)
{
	daemon_pid = fork();
	if (!daemon_pid) {
		/* The leak checker stops its own process to look at it, which the first process of a namespace cannot be. */
		setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(init, init, "--socket", sock, "--private", cgroup ? "--cgroup" : NULL, cgroup, (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && access(sock, F_OK); i++)
		usleep(10000);
}

static bool connect_pod(void)
{
	for (int i = 0; i < 100; i++) {
		pod = vgpu_agent_open(sock, 10000, &e);
		if (pod)
			return true;
		usleep(20000);
	}
	printf("# %s\n", e.text);
	return false;
}

static char output[65536], errors[4096];

/* Runs it to its end; its exit code (-1: it was not run, @e says why), its output in @output. */
static int run_spec(struct vgpu_agent_spec *s, const char *input)
{
	struct vgpu_agent_exit ended;
	struct vgpu_agent_call *c;
	size_t used[3] = { 0 };
	char buf[4096];
	int stream;
	ssize_t n;

	s->name = s->name ?: "test";
	s->flags |= VGPU_AGENT_F_DELETE | VGPU_AGENT_F_KILL;
	s->env = s->env ?: environment;
	output[0] = errors[0] = 0;
	c = vgpu_agent_run(pod, s, &e);
	if (!c)
		return -1;
	if (input)
		vgpu_agent_write(c, input, strlen(input), 5000, &e);
	vgpu_agent_close_input(c, NULL);
	while ((n = vgpu_agent_read(c, &stream, buf, sizeof(buf), 30000, &e)) > 0) {
		char *to = stream == 1 ? output : errors;
		size_t size = stream == 1 ? sizeof(output) : sizeof(errors);

		if (used[stream] + n < size) {
			memcpy(to + used[stream], buf, n);
			used[stream] += n;
			to[used[stream]] = 0;
		}
	}
	if (n < 0 || vgpu_agent_finish(c, &ended, 30000, &e)) {
		vgpu_agent_call_free(c);
		return -1;
	}
	vgpu_agent_call_free(c);
	return ended.code;
}

static int __attribute__((unused)) sh_with(struct vgpu_agent_spec s, const char *script)
{
	const char *args[] = { "sh", "-c", script, NULL };

	s.args = args;
	return run_spec(&s, NULL);
}

#define sh(script, ...) sh_with((struct vgpu_agent_spec){ __VA_ARGS__ }, script)

static bool __attribute__((unused)) said(const char *words)
{
	if (strstr(output, words))
		return true;
	printf("# output: %.500s\n# errors: %.300s\n# %.300s\n", output, errors, e.text);
	return false;
}

/* A container's root: this machine's /usr, read-only, with the usual mounts. */
static char root[96];
static struct vgpu_agent_mount mounts[] __attribute__((unused)) = {
	{ .source = "/usr", .path = "/usr", .flags = MS_BIND | MS_REC | MS_RDONLY },
	{ .source = "proc", .path = "/proc", .type = "proc", .flags = MS_NOSUID | MS_NOEXEC | MS_NODEV },
	{ .source = "tmpfs", .path = "/tmp", .type = "tmpfs", .data = "size=1m,mode=1777" },
	{ .source = "/etc/passwd", .path = "/etc/passwd", .flags = MS_BIND },
};
static const char *const hidden[] = { "/proc/kcore", "/proc/bus", NULL };
static const char *const frozen[] = { "/proc/sys", NULL };
#define ALL_NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
#define CONTAINER .root = root, .mounts = mounts, .mount_count = 4, .masked = hidden, .readonly = frozen, .namespaces = ALL_NAMESPACES, .hostname = "inside", \
	.devices = (const struct vgpu_agent_device[]){ { "/dev/null", 'c', 1, 3, 0666, 0, 0 } }, .device_count = 1

static bool __attribute__((unused)) make_root(void)
{
	static const char *const links[] = { "bin", "lib", "lib64", "sbin" };
	char path[128], target[32];

	snprintf(root, sizeof(root), "%s/root", folder);
	mkdir(root, 0755);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%s", root, links[i]);
		snprintf(target, sizeof(target), "usr/%s", links[i]);
		if (symlink(target, path))
			return false;
	}
	return true;
}

/* False: it cannot be tested here, or (a failure) could not begin. */
static bool begin(const char *program)
{
	if (geteuid()) {
		printf("1..0 # SKIP needs root\n");
		return false;
	}
	init = program ?: "build/tests/vgpu-init-asan";
	tap_failed = !mkdtemp(folder);
	if (tap_failed)
		return false;
	snprintf(sock, sizeof(sock), "%s/sock", folder);
	start_daemon();
	if (connect_pod())
		return true;
	printf("Bail out! no connection: %s\n", e.text);
	kill(daemon_pid, SIGKILL);
	tap_failed = 1;
	return false;
}

static void remove_folder(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", folder);
	if (system(command))
		printf("# %s is left\n", folder);
}

#endif /* AGENT_TEST_POD_H */
