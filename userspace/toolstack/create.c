// SPDX-License-Identifier: Apache-2.0
/* vgpuctl create: stock xl makes the domain paused, the devices are attached, then it runs. Or nothing has happened. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#include "vgpuctl.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static const char *xl_name(void)
{
	const char *xl = getenv("VGPU_XL");

	return xl && *xl ? xl : "xl";
}

/* @return xl's exit status, or -1 */
static int run_xl(char **args)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid) {
		args[0] = (char *)xl_name();
		execvp(args[0], args);
		fprintf(stderr, "vgpuctl: cannot run %s: %s: install xen-utils, or set VGPU_XL\n", args[0], strerror(errno));
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int check_type(const struct vgpuxl_config *config, const char *path)
{
	if (!strcmp(config->type, "pvh") || !strcmp(config->type, "hvm"))
		return 0;
	fprintf(stderr, "vgpuctl: %s asks for a vgpu in a %s domain; vgpu-front needs memory that Xen translates: set "
		"type=\"pvh\"\n", path, !config->type[0] || !strcmp(config->type, "pv") ? "PV (xl's default)" : config->type);
	return -1;
}

static bool needs_local_backend(const struct vgpuxl_config *config)
{
	for (unsigned int i = 0; i < config->n; i++)
		if (!strcmp(config->entries[i].backend, "0"))
			return true;
	return false;
}

struct pod {
	struct xs_handle *xs;
	const char *path;
	struct vgpuxl_config config;
	uint32_t zone;
	bool made;
	struct vgpuxl_device *devices;
	unsigned int attached;
};

static int make_domain(struct pod *pod, char **extra, int n)
{
	char **args = calloc((size_t)n + 5, sizeof(*args));
	struct vgpuxl_error e;
	int status, i = 1;

	if (!args)
		return fail("out of memory");
	args[i++] = "create";
	args[i++] = "-p";
	args[i++] = (char *)pod->path;
	for (int k = 0; k < n; k++)
		args[i++] = extra[k];
	status = run_xl(args);
	free(args);
	if (status) {
		fprintf(stderr, "vgpuctl: '%s create -p %s' failed with status %d, its message is above; nothing was made\n",
			xl_name(), pod->path, status);
		return -1;
	}
	if (vgpuxl_domain_find(pod->xs, pod->config.name, &pod->zone, &e)) {
		fprintf(stderr, "vgpuctl: xl has made the domain, but it cannot be found: %s\n", e.text);
		return -1;
	}
	pod->made = true;
	return 0;
}

static int attach_all(struct pod *pod)
{
	struct vgpuxl_error e;

	pod->devices = calloc(pod->config.n ? pod->config.n : 1, sizeof(*pod->devices));
	if (!pod->devices)
		return fail("out of memory");
	for (unsigned int i = 0; i < pod->config.n && !interrupted; i++) {
		if (vgpuxl_attach(pod->xs, pod->zone, &pod->config.entries[i], &pod->devices[i], &e))
			return fail(e.text);
		pod->attached++;
	}
	for (unsigned int i = 0; i < pod->attached && !interrupted; i++)
		if (vgpuxl_wait_backend(pod->xs, &pod->devices[i], BACKEND_TIMEOUT_MS, &e))
			return fail(e.text);
	return 0;
}

static int unpause(struct pod *pod)
{
	char id[16], *args[] = { NULL, "unpause", id, NULL };

	snprintf(id, sizeof(id), "%u", pod->zone);
	if (run_xl(args))
		return fail("'xl unpause' failed, its message is above");
	return 0;
}

static void undo(struct pod *pod)
{
	char id[16], *args[] = { NULL, "destroy", id, NULL };

	snprintf(id, sizeof(id), "%u", pod->zone);
	fprintf(stderr, "vgpuctl: undoing: domain %u (%s) is destroyed\n", pod->zone, pod->config.name);
	if (run_xl(args))
		fprintf(stderr, "vgpuctl: 'xl destroy %u' failed as well: destroy it by hand\n", pod->zone);
	for (unsigned int i = 0; i < pod->attached; i++)
		vgpuxl_remove(pod->xs, &pod->devices[i]);
}

int create_command(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct pod pod = { 0 };
	struct vgpuxl_error e;
	bool paused = false;
	char *extra;
	int c, ret;

	while ((c = getopt(argc, argv, "+p")) != -1) {
		if (c != 'p')
			return 2;
		paused = true;
	}
	if (optind >= argc)
		return fail("create: which configuration? vgpuctl create POD.cfg");
	pod.path = argv[optind];
	extra = join_lines(argv + optind + 1, argc - optind - 1);
	ret = vgpuxl_config_read(pod.path, extra, &pod.config, &e);
	free(extra);
	if (ret)
		return fail(e.text);

	ret = 1;
	if (!pod.config.name[0]) {
		fprintf(stderr, "vgpuctl: %s has no name=: give the domain one\n", pod.path);
		goto out_config;
	}
	if (pod.config.n && check_type(&pod.config, pod.path))
		goto out_config;
	if (vgpuxl_store_open(&pod.xs, &e)) {
		fail(e.text);
		goto out_config;
	}
	if (needs_local_backend(&pod.config) && vgpuxl_backend_present(&e)) {
		fail(e.text);
		goto out;
	}
	if (pod.config.n)
		ensure_daemon();

	/* From here on an interrupted step ends, then everything is undone. */
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	if (!make_domain(&pod, argv + optind + 1, argc - optind - 1) && !interrupted && !attach_all(&pod) &&
	    !interrupted && (paused || !unpause(&pod)))
		ret = 0;
	if (ret && pod.made)
		undo(&pod);
	else if (!ret)
		printf("domain %u (%s) has %u vgpu device%s%s\n", pod.zone, pod.config.name, pod.attached,
		       pod.attached == 1 ? "" : "s", paused ? " and is paused" : "");
	free(pod.devices);
out:
	xs_close(pod.xs);
out_config:
	vgpuxl_config_free(&pod.config);
	return ret;
}
