// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-xl: stands in front of xl (scripts/xl-divert) and makes `xl create` honour vgpu=. Everything else is handed to
 * the real xl as it is.
 *
 * A configuration without vgpu= goes to the real xl too. For one with it, the real xl reads the file (a dry run, whose
 * output is libxenlight's own form of the domain), so that every key of xl.cfg means what it always means. libvgpuxl
 * then makes the domain, attaches its devices while it is paused, and follows it through its reboots.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vgpuctl.h"

#define OUTPUT_MAX (16u << 20)	/* a dry run's output is some KiB */

const char *self_name = "vgpu-xl";

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static int refuse(const char *text)
{
	fprintf(stderr, "vgpu-xl: %s\n", text);
	return 1;
}

/* --- the real xl -------------------------------------------------------------------------------------------------- */

/* Debian's xl is a script that looks for a program of its own name: under another one only a program proper works. */
static bool is_program(const char *path)
{
	char magic[4] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool elf;

	if (fd < 0)
		return false;
	elf = read(fd, magic, 4) == 4 && !memcmp(magic, "\177ELF", 4) && !access(path, X_OK);
	close(fd);
	return elf;
}

static bool xen_version(char *buf, size_t size)
{
	unsigned int major = 0, minor = 0;
	FILE *a = fopen("/sys/hypervisor/version/major", "re"), *b = fopen("/sys/hypervisor/version/minor", "re");
	bool ok = a && b && fscanf(a, "%u", &major) == 1 && fscanf(b, "%u", &minor) == 1;

	if (a)
		fclose(a);
	if (b)
		fclose(b);
	if (ok)
		snprintf(buf, size, "%u.%u", major, minor);
	return ok;
}

static const char *real_xl(void)
{
	static char path[PATH_MAX + 16];
	const char *set = getenv("VGPU_XL");
	char self[PATH_MAX], version[32];
	ssize_t n;

	if (set && *set)
		return set;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	snprintf(path, sizeof(path), "%s.distrib", self);
	if (is_program(path))
		return path;
	if (xen_version(version, sizeof(version))) {
		snprintf(path, sizeof(path), "/usr/lib/xen-%s/bin/xl", version);
		if (is_program(path))
			return path;
	}
	snprintf(path, sizeof(path), "%s.distrib", self);
	return path;
}

static int pass_on(char **argv)
{
	const char *xl = real_xl();

	argv[0] = (char *)"xl";
	execv(xl, argv);
	fprintf(stderr, "vgpu-xl: cannot run the real xl, %s: %s: reinstall xen-utils, or set VGPU_XL to its path\n", xl,
		strerror(errno));
	return 127;
}

/* Run the real xl, its output into *@out unless that is NULL. @return its exit status, -1 if it could not be run */
static int run_xl(char **args, char **out)
{
	int pipes[2] = { -1, -1 }, status;
	size_t len = 0;
	char buf[4096];
	ssize_t n;
	pid_t pid;
	FILE *mem;

	if (out && pipe2(pipes, O_CLOEXEC))
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid) {
		if (out)
			dup2(pipes[1], 1);
		_exit(pass_on(args));
	}
	if (out) {
		close(pipes[1]);
		mem = open_memstream(out, &len);
		while (mem && ((n = read(pipes[0], buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR))) {
			if (n > 0 && ftell(mem) < OUTPUT_MAX)
				fwrite(buf, 1, (size_t)n, mem);
		}
		close(pipes[0]);
		if (mem)
			fclose(mem);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* --- create ---------------------------------------------------------------------------------------------------------- */

struct request {
	int nglobals;			/* arguments before the command */
	char **globals;
	const char *file;
	char **words;			/* key=value */
	int nwords;
	bool dry, paused, console, alone, foreground, quiet, vnc, autopass, plain;
};

/* xl's own options of create. @return false: it has one that is not known here */
static bool parse(struct request *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "dryrun", no_argument, NULL, 'n' },	   { "quiet", no_argument, NULL, 'q' },
		{ "defconfig", required_argument, NULL, 'f' }, { "paused", no_argument, NULL, 'p' },
		{ "vncviewer", no_argument, NULL, 'V' },   { "vncviewer-autopass", no_argument, NULL, 'A' },
		{ "ignore-global-affinity-masks", no_argument, NULL, 'i' }, { 0 }
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "Fnqf:pcdeVAi", options, NULL)) != -1) {
		switch (c) {
		case 'F':
			r->foreground = true;
			break;
		case 'n':
			r->dry = true;
			break;
		case 'q':
			r->quiet = true;
			break;
		case 'f':
			r->file = optarg;
			break;
		case 'p':
			r->paused = true;
			break;
		case 'c':
			r->console = true;
			break;
		case 'd':
			break;
		case 'e':
			r->alone = true;
			break;
		case 'A':
			r->autopass = true;
			/* fall through */
		case 'V':
			r->vnc = true;
			break;
		case 'i':
			r->plain = true;
			break;
		default:
			return false;
		}
	}
	if (optind < argc && !strchr(argv[optind], '='))
		r->file = argv[optind++];
	r->words = argv + optind;
	r->nwords = argc - optind;
	return r->file;
}

static char *join(char **words, int n)
{
	char *text = NULL;
	size_t len = 0;
	FILE *mem = open_memstream(&text, &len);

	for (int i = 0; mem && i < n; i++)
		fprintf(mem, "%s\n", words[i]);
	if (mem)
		fclose(mem);
	return text;
}

/* The object that begins at @p, ended by a NUL behind its closing brace; NULL if it has none. */
static char *object_at(char *p)
{
	char *start = p;
	bool quoted = false;
	int depth = 0;

	for (; p && *p; p++) {
		if (quoted) {
			if (*p == '\\' && p[1])
				p++;
			else if (*p == '"')
				quoted = false;
		} else if (*p == '"') {
			quoted = true;
		} else if (*p == '{') {
			depth++;
		} else if (*p == '}' && !--depth) {
			p[1] = '\0';
			return start;
		}
	}
	return NULL;
}

/* The domain's configuration in a dry run's output: the first object, or what `xl list -l` would have below "config". */
static char *config_of(char *output)
{
	char *object = output, *config;

	while (object && *object != '{') {
		object = strchr(object, '\n');
		if (object)
			object++;
	}
	object = object_at(object);
	config = object ? strstr(object, "\"config\":") : NULL;
	if (config)
		object = object_at(strchr(config, '{'));
	return object && strstr(object, "\"c_info\"") ? object : NULL;
}

static int read_by_xl(const struct request *r, const struct vgpuxl_config *config, struct vgpuxl_plan **plan)
{
	char **args = calloc((size_t)(r->nglobals + r->nwords + 8), sizeof(*args)), *output = NULL, *json;
	struct vgpuxl_error e;
	int n = 1, status;

	if (!args)
		return refuse("out of memory");
	for (int i = 0; i < r->nglobals; i++)
		args[n++] = r->globals[i];
	args[n++] = (char *)"create";
	args[n++] = (char *)"--dryrun";
	if (r->plain)
		args[n++] = (char *)"--ignore-global-affinity-masks";
	args[n++] = (char *)r->file;
	for (int i = 0; i < r->nwords; i++)
		args[n++] = r->words[i];
	status = run_xl(args, &output);
	free(args);
	if (status) {
		fprintf(stderr, "vgpu-xl: xl refuses %s (status %d), its message is above; nothing was made\n", r->file, status);
		free(output);
		return status > 0 ? status : 1;
	}
	json = config_of(output);
	if (!json) {
		fprintf(stderr, "vgpu-xl: what 'xl create --dryrun %s' says is not understood: is this vgpu-xl made for this xl? "
			"Use 'vgpuctl create %s'\n", r->file, r->file);
		free(output);
		return 1;
	}
	status = vgpuxl_plan_json(json, config->entries, config->nentries, plan, &e);
	free(output);
	return status ? refuse(e.text) : 0;
}

/* `xl console` or `xl vncviewer`, beside us. */
static pid_t beside(const char *command, const char *option, uint32_t domid)
{
	char id[16], *args[5] = { NULL, (char *)command };
	pid_t pid;
	int n = 2;

	snprintf(id, sizeof(id), "%u", domid);
	if (option)
		args[n++] = (char *)option;
	args[n] = id;
	fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(pass_on(args));
	return pid;
}

static int make(const struct request *r, struct vgpuxl_plan *plan)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct vgpuxl_error e, undo;
	pid_t console = -1;
	uint32_t domid;
	int ret;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	ensure_daemon();
	if (vgpuxl_create_plan(plan, &domid, &e))
		return refuse(e.text);
	if (!interrupted && r->console)
		console = beside("console", NULL, domid);
	ret = interrupted || r->paused ? 0 : vgpuxl_unpause(domid, &e);
	if (ret || interrupted) {
		if (ret)
			refuse(e.text);
		fprintf(stderr, "vgpu-xl: undoing: domain %u (%s) is destroyed\n", domid, vgpuxl_plan_name(plan));
		if (vgpuxl_destroy(domid, &undo))
			refuse(undo.text);
		return 1;
	}
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (!r->quiet)
		printf("domain %u (%s) has %u vgpu device%s\n", domid, vgpuxl_plan_name(plan), vgpuxl_plan_devices(plan),
		       vgpuxl_plan_devices(plan) == 1 ? "" : "s");
	if (r->vnc)
		beside("vncviewer", r->autopass ? "--autopass" : NULL, domid);
	if (!r->alone)
		ret = follow(plan, domid, r->foreground);
	if (console > 0)
		waitpid(console, NULL, 0);
	return ret;
}

/* Options that are not known here: the real xl may know them, but it would pass over vgpu= without a word. */
static int create_unknown(int argc, char **argv, char **all)
{
	struct vgpuxl_config config;
	struct vgpuxl_error e;
	uint32_t devices;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-' || strchr(argv[i], '=') || vgpuxl_config_read_devices(argv[i], NULL, &config, &e))
			continue;
		devices = config.nentries;
		vgpuxl_config_free(&config);
		if (!devices)
			continue;
		fprintf(stderr, "vgpu-xl: %s has vgpu=, and an option of this 'xl create' is none of -F -n -q -f -p -c -d -e -V -A "
			"-i: leave it out, or use 'vgpuctl create %s'; nothing was made\n", argv[i], argv[i]);
		return 1;
	}
	return pass_on(all);
}

static int create(struct request *r, int argc, char **argv, char **all)
{
	struct vgpuxl_config config;
	struct vgpuxl_plan *plan;
	struct vgpuxl_error e;
	char *extra;
	int ret;

	if (!parse(r, argc, argv))
		return create_unknown(argc, argv, all);
	extra = join(r->words, r->nwords);
	ret = vgpuxl_config_read_devices(r->file, extra, &config, &e);
	free(extra);
	if (ret)
		return refuse(e.text);
	if (!config.nentries || r->dry) {
		vgpuxl_config_free(&config);
		return pass_on(all);
	}
	ret = read_by_xl(r, &config, &plan);
	vgpuxl_config_free(&config);
	if (ret)
		return ret;
	ret = make(r, plan);
	vgpuxl_plan_free(plan);
	return ret;
}

/* xl vgpu-attach, -detach, -list: as the patched xl has them, done by vgpuctl. */
static int by_vgpuctl(const char *command, char **argv)
{
	argv[0] = (char *)command;
	argv[-1] = (char *)"vgpuctl";
	execvp("vgpuctl", argv - 1);
	fprintf(stderr, "vgpu-xl: cannot run vgpuctl: %s: install it where PATH leads\n", strerror(errno));
	return 127;
}

int main(int argc, char **argv)
{
	static const char *const device[][2] = {
		{ "vgpu-attach", "attach" }, { "vgpu-detach", "detach" }, { "vgpu-list", "list" }, { "vgpu-set", "set" },
	};
	char **all = calloc((size_t)argc + 1, sizeof(*all));
	struct request r = { 0 };
	int i = 1;

	if (!all)
		return refuse("out of memory");
	memcpy(all, argv, (size_t)argc * sizeof(*all));
	while (i < argc && argv[i][0] == '-') {
		for (const char *p = argv[i] + 1; *p; p++)
			r.dry |= *p == 'N';
		i++;
	}
	if (i >= argc)
		return pass_on(all);
	for (size_t k = 0; k < sizeof(device) / sizeof(*device); k++)
		if (!strcmp(argv[i], device[k][0]))
			return by_vgpuctl(device[k][1], argv + i);
	if (strcmp(argv[i], "create"))
		return pass_on(all);
	r.globals = argv + 1;
	r.nglobals = i - 1;
	return create(&r, argc - i, argv + i, all);
}
