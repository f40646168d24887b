// SPDX-License-Identifier: Apache-2.0
/* vgpuctl: pod domains and their vgpu devices. The commands are told by usage(). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenstore.h>

#include "vgpuctl.h"

const char *self_name = "vgpuctl";

static void usage(FILE *out)
{
	fputs("usage: vgpuctl COMMAND [--json] ...      every command but daemon and help answers in JSON if told to\n"
	      "\n"
	      "  create [-p] [-e] [-F] POD.cfg [key=value...]   make a domain with its vgpu devices and start it\n"
	      "                                   (-p: leave it paused, -e: do not follow it, -F: follow it here)\n"
	      "  check POD.cfg [key=value...]     only read the file and say what it asks for\n"
	      "  destroy DOMAIN                   end a domain now\n"
	      "  shutdown [-r] DOMAIN             ask it to power off (-r: to reboot)\n"
	      "  wait [--timeout S] DOMAIN        until it has ended, and say why\n"
	      "  attach DOMAIN [ENTRY...]         add a device to a running domain\n"
	      "  detach [--force] DOMAIN DEVICE   remove one, cleanly (--force: even if it is in use)\n"
	      "  set DOMAIN [DEVICE] CHANGE...    change quota, weight or sessions of a device that is in use\n"
	      "  disk-attach DOMAIN SPEC          add a disk: format=raw,vdev=xvdb,access=ro,target=/file\n"
	      "  disk-detach [--force] DOMAIN VDEV   remove one\n"
	      "  list [DOMAIN...]                 zones, devices and sessions\n"
	      "  show DOMAIN                      one zone, in every detail\n"
	      "  top [--once] [--batch] [-d S] [-n TIMES]   the same, alive: calls per second, memory, GPU time\n"
	      "  watch [-n EVENTS]                devices and sessions as they come and go, refusals, violations\n"
	      "  stats                            the broker's counters\n"
	      "  daemon [--foreground]            remove what ended domains leave in xenstore ('create' starts it)\n"
	      "  help                             this\n"
	      "\n"
	      "In POD.cfg:  vgpu = [ \"gpu=0,memory=4096,weight=1,sessions=64\", ... ]\n"
	      "  gpu       indices or UUIDs, several joined by '+' (default 0)\n"
	      "  memory    quota in MiB (default 0: none)\n"
	      "  weight    share among zones, 1 to 10000 (default 1)\n"
	      "  sessions  most at a time, 1 to 1024 (default 64)\n"
	      "  backend   driver domain (default 0)\n"
	      "ENTRY is one such string, CHANGE one with memory, weight or sessions. For set and show DOMAIN may be local:NAME,\n"
	      "a device that the broker serves on this machine. VGPU_RUN_DIR is where the broker runs (default /run/vgpu).\n"
	      "Exit status: 0, 1 if it failed, 2 for a command or option that there is not. The manual: man vgpuctl.\n",
	      out);
}

int fail(const char *text)
{
	fprintf(stderr, "vgpuctl: %s\n", text);
	return 1;
}

int json_only(int argc, char **argv, bool *json)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "+j", options, NULL)) != -1) {
		if (c != 'j')
			return -1;
		*json = true;
	}
	return optind;
}

int print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return 0;
}

struct json_object *put_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
	return o;
}

struct json_object *put_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
	return o;
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

static int daemon_command(int argc, char **argv)
{
	static const struct option options[] = { { "foreground", no_argument, NULL, 'f' }, { 0 } };
	bool foreground = false;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	int c, lock;

	while ((c = getopt_long(argc, argv, "+f", options, NULL)) != -1) {
		if (c != 'f')
			return 2;
		foreground = true;
	}
	if (optind < argc)
		return fail("daemon: the only option is --foreground");
	/* Tell here, not in a log, what a user can mend. */
	if (vgpuxl_store_open(&xs, &e))
		return fail(e.text);
	vgpuxl_store_close(xs);
	lock = vgpuxl_daemon_lock(&e);
	if (lock < 0)
		return fail(e.text);
	return daemon_serve(lock, foreground);
}

static int help_command(int argc, char **argv)
{
	usage(stdout);
	return 0;
}

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "create", create_command },
	{ "check", check_command },
	{ "destroy", destroy_command },
	{ "shutdown", shutdown_command },
	{ "wait", wait_command },
	{ "attach", attach_command },
	{ "detach", detach_command },
	{ "set", set_command },
	{ "disk-attach", disk_attach_command },
	{ "disk-detach", disk_detach_command },
	{ "list", list_command },
	{ "show", show_command },
	{ "top", top_command },
	{ "watch", watch_command },
	{ "stats", stats_command },
	{ "daemon", daemon_command },
	{ "help", help_command },
	{ "--help", help_command },
	{ "-h", help_command },
};

int main(int argc, char **argv)
{
	if (argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")))
		return help_command(argc, argv);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (argc > 1)
		fprintf(stderr, "vgpuctl: there is no command '%s'\n", argv[1]);
	usage(stderr);
	return 2;
}
