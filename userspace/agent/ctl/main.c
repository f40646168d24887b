// SPDX-License-Identifier: Apache-2.0
/* vgpu-agentctl: which command, for which pod. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "ctl.h"

const char *address;
bool lost_signal;
static int connect_ms = 10000;

static const struct {
	const char *name, *arguments, *help;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", "[OPTIONS] PROGRAM [ARGS]", "run a program with this command's streams; exits as it does (run --help)", command_run },
	{ "create", "[OPTIONS] PROGRAM [ARGS]", "the same without running it yet, or (-b) without waiting", command_run },
	{ "exec", "NAME [OPTIONS] PROGRAM [ARGS]", "run a program within a running process's root and namespaces", command_run },
	{ "start", "NAME", "run what was created", command_start },
	{ "attach", "[-s] NAME", "take the streams of a process (-s: from whoever has them)", command_attach },
	{ "wait", "NAME [MS]", "until it ends; exits as it did", command_wait },
	{ "signal", "NAME SIGNAL [all]", "to the process, or to all it has started", command_signal },
	{ "delete", "NAME [kill]", "forget a process that has ended, or end it first", command_delete },
	{ "update", "NAME FILE=VALUE…", "change limits (cgroup v2)", command_update },
	{ "list", "", "processes", command_list },
	{ "stats", "[NAME]", "of a process or the pod", command_stats },
	{ "events", "", "processes that end or meet their memory limit, as it happens", command_events },
	{ "cp", "FROM TO", "a file; the pod's side is [NAME]:/PATH", command_copy },
	{ "dial", "[ADDRESS:]PORT", "a TCP connection within the pod, to this command's streams", command_dial },
	{ "mount", "SOURCE PATH TYPE OPTIONS […]", "in the pod, one or more, in order (\"-\": none)", command_mount },
	{ "unmount", "PATH", "", command_unmount },
	{ "network", "IFACE ADDRESS/PREFIX [GATEWAY]", "bring an interface up", command_network },
	{ "time", "[SECONDS]", "set the pod's clock, to this host's unless told otherwise", command_time },
	{ "info", "", "versions, phases of the start, what went wrong there", command_info },
	{ "shutdown", "[GRACE-MS] [reboot]", "SIGTERM, that time [10000], SIGKILL, power off", command_shutdown },
	{ "hub", "[--ready FILE] ADDRESS SOCKET", "share one pod's channel among many clients, at a UNIX socket", command_hub },
};

static const char *current;

static int usage(void)
{
	fprintf(stderr, "usage: vgpu-agentctl [-a ADDRESS] [-w MS] [-k] COMMAND …\n"
			"  -a  the pod: vchan:DOMID, /PATH of a hub's socket [VGPU_AGENT in the environment]\n"
			"  -w  wait so long for the pod's agent to answer [10000]\n"
			"  -k  when the pod is lost, die of SIGUSR2, so that no exit status is mistaken for its program's\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, "  %-9s %-32s %s\n", commands[i].name, commands[i].arguments, commands[i].help);
	return EXIT_USAGE;
}

int usage_of(const char *command)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, command))
			fprintf(stderr, "usage: vgpu-agentctl [-a ADDRESS] %s %s\n", command, commands[i].arguments);
	return EXIT_USAGE;
}

int failed(const char *what, const struct vgpu_agent_error *e)
{
	fprintf(stderr, "vgpu-agentctl: %s: %s: %s\n", address, what, e->text);
	if (lost_signal && (e->code == ECONNRESET || e->code == EPROTO || e->code == ENOENT || e->code == ECONNREFUSED) &&
	    strcmp(what, "run"))
		raise(SIGUSR2);
	return EXIT_FAILED;
}

struct vgpu_agent *open_pod(void)
{
	struct vgpu_agent_error e = { 0 };
	struct vgpu_agent *a;

	if (!address) {
		fprintf(stderr, "vgpu-agentctl: which pod? -a vchan:DOMID or the path of a hub's socket\n");
		exit(EXIT_USAGE);
	}
	a = vgpu_agent_open(address, connect_ms, &e);
	if (!a)
		exit(failed("no connection", &e));
	return a;
}

void add(const char ***list, const char *value)
{
	size_t count = 0;

	while (*list && (*list)[count])
		count++;
	*list = realloc(*list, (count + 2) * sizeof(**list));
	if (!*list) {
		perror("vgpu-agentctl");
		exit(EXIT_FAILED);
	}
	(*list)[count] = value;
	(*list)[count + 1] = NULL;
}

int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		len -= n;
	}
	return 0;
}

int signal_number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text && !*end)
		return n > 0 && n <= 64 ? n : -1;
	if (!strncasecmp(text, "SIG", 3))
		text += 3;
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i) && !strcasecmp(sigabbrev_np(i), text))
			return i;
	return -1;
}

int main(int argc, char **argv)
{
	int option;

	address = getenv("VGPU_AGENT");
	while ((option = getopt(argc, argv, "+a:w:k")) != -1)
		switch (option) {
		case 'a': address = optarg; break;
		case 'w': connect_ms = atoi(optarg); break;
		case 'k': lost_signal = true; break;
		default: return usage();
		}
	if (optind == argc)
		return usage();
	signal(SIGPIPE, SIG_IGN);
	current = argv[optind];
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, current)) {
			argc -= optind;
			argv += optind;
			optind = 1;
			return commands[i].run(argc, argv);
		}
	fprintf(stderr, "vgpu-agentctl: there is no command %s\n", current);
	return usage();
}
