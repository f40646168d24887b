// SPDX-License-Identifier: Apache-2.0
/* Everything that is one request: processes' lives, figures, mounts, time, the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl.h"

static struct vgpu_agent_error e;

static int done(int result, const char *what)
{
	return result < 0 ? failed(what, &e) : 0;
}

int command_info(int argc, char **argv)
{
	const struct vgpu_agent_info *info = vgpu_agent_info(open_pod());
	uint64_t before = 0;

	printf("agent\t%s, protocol version %u\nkernel\t%s\nboot\t%016llx\n", info->build, info->version, info->kernel,
	       (unsigned long long)info->boot_id);
	for (unsigned int i = 0; i < info->phase_count; i++) {
		printf("phase\t%-14s %10.3f ms  %+.3f\n", info->phases[i].label, info->phases[i].ns / 1e6, (info->phases[i].ns - before) / 1e6);
		before = info->phases[i].ns;
	}
	for (unsigned int i = 0; i < info->trouble_count; i++)
		printf("trouble\t%s\n", info->troubles[i]);
	return 0;
}

int command_list(int argc, char **argv)
{
	static const char *const states[] = { "?", "creating", "created", "running", "exited" };
	struct vgpu_agent_process *list;
	size_t count;

	if (vgpu_agent_list(open_pod(), &list, &count, &e))
		return failed("list", &e);
	printf("%-40s %-9s %6s %s\n", "NAME", "STATE", "PID", "EXIT");
	for (size_t i = 0; i < count; i++) {
		printf("%-40s %-9s %6u", list[i].name, states[list[i].state], list[i].pid);
		if (list[i].state == VGPU_AGENT_EXITED)
			printf(" %u%s", list[i].exit.code, list[i].exit.oom ? " OOM" : "");
		printf("\n");
	}
	free(list);
	return 0;
}

int command_start(int argc, char **argv)
{
	return argc != 2 ? usage_of("start") : done(vgpu_agent_start(open_pod(), argv[1], &e), "start");
}

int command_wait(int argc, char **argv)
{
	struct vgpu_agent_exit ended;

	if (argc != 2 && argc != 3)
		return usage_of("wait");
	if (vgpu_agent_wait(open_pod(), argv[1], &ended, argc == 3 ? atoi(argv[2]) : -1, &e))
		return failed("wait", &e);
	if (ended.oom)
		fprintf(stderr, "vgpu-agentctl: the kernel killed %u time(s) for want of memory within the limit\n", ended.oom);
	return ended.code;
}

int command_signal(int argc, char **argv)
{
	int number = argc > 2 ? signal_number(argv[2]) : -1;

	if (argc < 3 || argc > 4 || number < 0)
		return usage_of("signal");
	return done(vgpu_agent_signal(open_pod(), argv[1], number, argc == 4 ? VGPU_AGENT_F_ALL : 0, &e), "signal");
}

int command_delete(int argc, char **argv)
{
	if (argc != 2 && argc != 3)
		return usage_of("delete");
	return done(vgpu_agent_delete(open_pod(), argv[1], argc == 3 ? VGPU_AGENT_F_KILL : 0, &e), "delete");
}

int command_update(int argc, char **argv)
{
	if (argc < 3)
		return usage_of("update");
	return done(vgpu_agent_update(open_pod(), argv[1], (const char *const *)argv + 2, &e), "update");
}

int command_stats(int argc, char **argv)
{
	struct vgpu_agent_stat *list;
	size_t count;

	if (vgpu_agent_stats(open_pod(), argc > 1 ? argv[1] : NULL, &list, &count, &e))
		return failed("stats", &e);
	for (size_t i = 0; i < count; i++)
		printf("%s %llu\n", list[i].name, (unsigned long long)list[i].value);
	free(list);
	return 0;
}

int command_events(int argc, char **argv)
{
	struct vgpu_agent_call *c = vgpu_agent_events(open_pod(), &e);
	struct vgpu_agent_event event;

	if (!c)
		return failed("events", &e);
	setlinebuf(stdout);
	while (!vgpu_agent_next_event(c, &event, -1, &e))
		if (event.ended)
			printf("exit %s %u%s\n", event.name, event.exit.code, event.exit.oom ? " oom" : "");
		else
			printf("oom %s %u\n", event.name, event.exit.oom);
	return failed("events", &e);
}

int command_mount(int argc, char **argv)
{
	struct vgpu_agent_mount mounts[32] = { 0 };
	size_t count = 0;

	if (argc < 5 || (argc - 1) % 4 || argc > 32 * 4)
		return usage_of("mount");
	for (int i = 1; i < argc; i += 4, count++) {
		struct vgpu_agent_mount *m = &mounts[count];
		char *data = malloc(4096);

		m->source = strcmp(argv[i], "-") ? argv[i] : NULL;
		m->path = argv[i + 1];
		m->type = strcmp(argv[i + 2], "-") ? argv[i + 2] : NULL;
		if (!data || vgpu_agent_mount_options(strcmp(argv[i + 3], "-") ? argv[i + 3] : "", m, data, 4096, &e))
			return failed("mount", &e);
	}
	return done(vgpu_agent_mount(open_pod(), mounts, count, &e), "mount");
}

int command_unmount(int argc, char **argv)
{
	return argc != 2 ? usage_of("unmount") : done(vgpu_agent_unmount(open_pod(), argv[1], &e), "unmount");
}

int command_time(int argc, char **argv)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return done(vgpu_agent_set_time(open_pod(), argc > 1 ? strtoull(argv[1], NULL, 10) * 1000000000u :
					now.tv_sec * 1000000000ull + now.tv_nsec, &e), "time");
}

int command_network(int argc, char **argv)
{
	const char *addresses[] = { argc > 2 ? argv[2] : NULL, NULL };
	struct vgpu_agent_interface interface = { .name = argc > 1 ? argv[1] : NULL, .addresses = addresses };
	struct vgpu_agent_route route = { .interface = interface.name, .gateway = argc > 3 ? argv[3] : NULL };
	struct vgpu_agent_network n = { .interfaces = &interface, .interface_count = 1, .routes = &route, .route_count = argc > 3 };

	return argc < 3 ? usage_of("network") : done(vgpu_agent_set_network(open_pod(), &n, &e), "network");
}

int command_shutdown(int argc, char **argv)
{
	bool reboot = argc > 1 && !strcmp(argv[argc - 1], "reboot");
	int grace = argc > 1 + reboot ? atoi(argv[1]) : 10000;

	return done(vgpu_agent_shutdown(open_pod(), grace, reboot, &e), "shutdown");
}
