// SPDX-License-Identifier: Apache-2.0
/* vgpuctl: domains with vgpu devices, on top of stock xl. The commands are told by usage(). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include <xenstore.h>

#include "vgpuctl.h"

#define DETACH_TIMEOUT_MS	10000
#define FRONTEND_TIMEOUT_MS	5000

static void usage(FILE *out)
{
	fputs("usage: vgpuctl COMMAND\n"
	      "\n"
	      "  create [-p] POD.cfg [key=value...]   make a domain with xl, attach its vgpu devices, start it (-p: leave it paused)\n"
	      "  check POD.cfg [key=value...]         only read the file and say which devices it asks for\n"
	      "  attach DOMAIN [ENTRY]                add a device to a running domain\n"
	      "  detach [--force] DOMAIN DEVICE       remove one, cleanly (--force: even if it is in use)\n"
	      "  list [--json]                        zones, devices and sessions (--json: as the broker knows them)\n"
	      "  stats                                the broker's counters\n"
	      "  daemon [--foreground]                remove what ended domains leave in xenstore ('create' starts it)\n"
	      "\n"
	      "In POD.cfg:  vgpu = [ \"gpu=0,memory=4096,weight=1,sessions=64\", ... ]\n"
	      "  gpu       indices or UUIDs, several joined by '+' (default 0)\n"
	      "  memory    quota in MiB (default 0: none)\n"
	      "  weight    share among zones, 1 to 10000 (default 1)\n"
	      "  sessions  most at a time, 1 to 1024 (default 64)\n"
	      "  backend   driver domain (default 0)\n"
	      "ENTRY is one such string. VGPU_RUN_DIR is where the broker runs (default /run/vgpu), VGPU_XL which xl to use.\n",
	      out);
}

int fail(const char *text)
{
	fprintf(stderr, "vgpuctl: %s\n", text);
	return 1;
}

static int check(int argc, char **argv)
{
	struct vgpuxl_config config;
	struct vgpuxl_error e;
	char *extra;
	int ret;

	if (argc < 2)
		return fail("check: which configuration? vgpuctl check POD.cfg");
	extra = join_lines(argv + 2, argc - 2);
	ret = vgpuxl_config_read(argv[1], extra, &config, &e);
	free(extra);
	if (ret)
		return fail(e.text);
	printf("%s: %u vgpu device%s\n", config.name[0] ? config.name : "(no name)", config.n, config.n == 1 ? "" : "s");
	for (unsigned int i = 0; i < config.n; i++) {
		const struct vgpuxl_entry *d = &config.entries[i];

		printf("  %u: gpu %s, memory %u MiB%s, weight %u, sessions %u, backend %s\n", i, d->gpu, d->memory,
		       d->memory ? "" : " (no quota)", d->weight, d->sessions, d->backend);
	}
	vgpuxl_config_free(&config);
	return 0;
}

static int attach(int argc, char **argv)
{
	struct vgpuxl_device device;
	struct vgpuxl_entry entry;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	uint32_t zone;
	int ret = 1;

	if (argc < 2 || argc > 3)
		return fail("attach: to which domain? vgpuctl attach DOMAIN [gpu=0,memory=4096]");
	if (vgpuxl_entry_parse(argc > 2 ? argv[2] : "", &entry, &e) || vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	ensure_daemon();
	if (vgpuxl_domain_find(xs, argv[1], &zone, &e) ||
	    (!strcmp(entry.backend, "0") && vgpuxl_backend_present(&e)) ||
	    vgpuxl_attach(xs, zone, &entry, &device, &e)) {
		fail(e.text);
	} else if (vgpuxl_wait_backend(xs, &device, BACKEND_TIMEOUT_MS, &e)) {
		vgpuxl_remove(xs, &device);
		fail(e.text);
	} else {
		ret = vgpuxl_wait_frontend(xs, &device, FRONTEND_TIMEOUT_MS, &e);
		if (ret == -ETIMEDOUT) {
			/* Paused, booting, or without the module yet: it may come. */
			fprintf(stderr, "vgpuctl: warning: %s\n", e.text);
			ret = 0;
		} else if (ret) {
			vgpuxl_remove(xs, &device);
			ret = fail(e.text);
		}
		if (!ret)
			printf("vgpu %u attached to domain %u\n", device.devid, zone);
	}
	xs_close(xs);
	return ret;
}

static int detach(int argc, char **argv)
{
	static const struct option options[] = { { "force", no_argument, NULL, 'f' }, { 0 } };
	struct vgpuxl_device device;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	bool force = false;
	char *end = NULL;
	uint32_t zone;
	long devid;
	int c, ret = 1;

	while ((c = getopt_long(argc, argv, "f", options, NULL)) != -1) {
		if (c != 'f')
			return 2;
		force = true;
	}
	if (argc - optind != 2)
		return fail("detach: which device? vgpuctl detach DOMAIN DEVICE (see 'vgpuctl list')");
	devid = strtol(argv[optind + 1], &end, 10);
	if (!argv[optind + 1][0] || *end || devid < 0 || devid > 65535)
		return fail("detach: the device is given by its number, see 'vgpuctl list'");
	if (vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	if (vgpuxl_domain_find(xs, argv[optind], &zone, &e) ||
	    vgpuxl_device_find(xs, zone, (uint32_t)devid, &device, &e) ||
	    vgpuxl_detach(xs, &device, DETACH_TIMEOUT_MS, force, &e)) {
		fail(e.text);
	} else {
		printf("vgpu %u detached from domain %u\n", device.devid, zone);
		ret = 0;
	}
	xs_close(xs);
	return ret;
}

static volatile int stop;

static void on_stop(int sig)
{
	stop = 1;
}

static int serve(void)
{
	struct sigaction sa = { .sa_handler = on_stop };
	struct vgpuxl_error e;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!vgpuxl_reap(&stop, &e))
		return 0;
	syslog(LOG_ERR, "%s", e.text);
	return 1;
}

/* The rest of a daemon's start: the caller holds the lock, the child inherits it. */
static void spawn_daemon(int lock)
{
	int null;

	fflush(NULL);
	if (fork())
		return;
	setsid();
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	/* Whoever waits for our end of a pipe must not wait for the daemon. */
	for (int fd = 3; fd < 256; fd++)
		if (fd != lock)
			close(fd);
	if (chdir("/"))
		_exit(1);
	openlog("vgpuctl", LOG_PID, LOG_DAEMON);
	_exit(serve());
}

void ensure_daemon(void)
{
	struct vgpuxl_error e;
	int lock = vgpuxl_daemon_lock(&e);

	if (lock >= 0) {
		spawn_daemon(lock);
		close(lock);
	} else if (lock != -EWOULDBLOCK) {
		fprintf(stderr, "vgpuctl: warning: nobody will clear up when the domain ends: %s\n", e.text);
	}
}

static int daemon_command(int argc, char **argv)
{
	bool foreground = argc > 1 && (!strcmp(argv[1], "--foreground") || !strcmp(argv[1], "-f"));
	struct vgpuxl_error e;
	struct xs_handle *xs;
	int lock;

	if (argc > 1 && !foreground)
		return fail("daemon: the only option is --foreground");
	/* Tell here, not in a log, what a user can mend. */
	if (vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	xs_close(xs);
	lock = vgpuxl_daemon_lock(&e);
	if (lock < 0)
		return fail(e.text);
	if (!foreground) {
		spawn_daemon(lock);
		return 0;
	}
	openlog("vgpuctl", LOG_PERROR, LOG_DAEMON);
	return serve();
}

char *join_lines(char **lines, int n)
{
	size_t len = 1;
	char *all, *p;

	for (int i = 0; i < n; i++)
		len += strlen(lines[i]) + 1;
	all = p = malloc(len);
	if (!all)
		abort();
	*p = '\0';
	for (int i = 0; i < n; i++)
		p += sprintf(p, "%s\n", lines[i]);
	return all;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {
		{ "create", create_command },
		{ "check", check },
		{ "attach", attach },
		{ "detach", detach },
		{ "list", list_command },
		{ "stats", stats_command },
		{ "daemon", daemon_command },
	};

	if (argc > 1 && (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		usage(stdout);
		return 0;
	}
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (argc > 1)
		fprintf(stderr, "vgpuctl: there is no command '%s'\n", argv[1]);
	usage(stderr);
	return 2;
}
