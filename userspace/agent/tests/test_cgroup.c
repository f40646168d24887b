// SPDX-License-Identifier: Apache-2.0
/* Whose cgroup a process gets, and what becomes of one that cannot be removed; as test_agent.c, without Xen. Needs root. */
#include <dirent.h>
#include <errno.h>
#include <sys/wait.h>

#include "pod.h"
#include "tap.h"
#include "vgpuagent.h"

/* One more than the agent looks into. */
#define TOO_DEEP 18

static char own[160];

static bool find_cgroups(void)
{
	char device[256], where[128], type[64], line[1024];
	FILE *file = fopen("/proc/self/mounts", "r");
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%255s %127s %63s", device, where, type) == 3 && !strcmp(type, "cgroup2");
	if (file)
		fclose(file);
	snprintf(own, sizeof(own), "%s/vgpu-agent-test.%d", where, getpid());
	return found && !mkdir(own, 0755);
}

static const char *group(const char *name)
{
	static char path[4][256];
	static unsigned int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[0]), "%s/%s", own, name);
	return path[turn];
}

/* Directories in it, in each other; or away with them again. */
static void nest(const char *name, int count, bool make)
{
	char path[512];
	int len;

	for (int depth = make ? 1 : count; make ? depth <= count : depth > 0; depth += make ? 1 : -1) {
		len = snprintf(path, sizeof(path), "%s", group(name));
		for (int i = 0; i < depth; i++)
			len += snprintf(path + len, sizeof(path) - len, "/d");
		if (make)
			mkdir(path, 0755);
		else
			rmdir(path);
	}
}

static bool is_there(const char *name)
{
	return !access(group(name), F_OK);
}

static bool goes(const char *name)
{
	for (int i = 0; i < 300 && is_there(name); i++)
		usleep(20000);
	return !is_there(name);
}

/* A limit of what this machine's cgroups may not have makes a cgroup all the same. */
#define LIMITED .cgroup = (const char *const[]){ "memory.swap.max=0", NULL }

static void reuse(void)
{
	struct vgpu_agent_spec s = { .name = "box", .args = (const char *[]){ "sleep", "1000", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN, LIMITED };

	ok(sh("cat /proc/self/cgroup; sleep 1000 & true", .name = "one", LIMITED) == 0 && said("/one\n"), "a process with limits has a cgroup of its name");
	ok(goes("one"), "which goes with it, and with what it left behind there");

	mkdir(group("old"), 0755);
	nest("old", 3, true);
	ok(sh("cat /proc/self/cgroup", .name = "old", LIMITED) == 0 && said("/old\n"), "one of that name that is there");
	ok(goes("old"), "is not used as it is, but made anew");

	ok(vgpu_agent_create(pod, &s, &e) > 0, "a process whose cgroup cannot be removed");
	nest("box", TOO_DEEP, true);
	ok(!vgpu_agent_delete(pod, "box", VGPU_AGENT_F_KILL, &e) && is_there("box"), "is deleted all the same");
	ok(sh("cat /proc/self/cgroup", .name = "box", LIMITED) == 0 && said("/box~1\n"), "the next of its name does not get that cgroup");
	ok(goes("box~1") && is_there("box"), "and ends as any other");
	nest("box", TOO_DEEP, false);
	ok(goes("box"), "when it can be removed it is");

	for (int i = 0; i < 16; i++) {
		char name[32];

		snprintf(name, sizeof(name), i ? "full~%d" : "full", i);
		mkdir(group(name), 0755);
		nest(name, TOO_DEEP, true);
	}
	ok(sh("true", .name = "full", LIMITED) == -1 && e.code == EBUSY && strstr(e.text, "full"), "where none can be removed it is refused (%s)", e.text);
	for (int i = 0; i < 16; i++) {
		char name[32];

		snprintf(name, sizeof(name), i ? "full~%d" : "full", i);
		nest(name, TOO_DEEP, false);
		rmdir(group(name));
	}
	ok(sh("true", .name = "full", LIMITED) == 0, "until they can");
}

int main(int argc, char **argv)
{
	if (geteuid() || !find_cgroups()) {
		printf("1..0 # SKIP needs root and a cgroup v2 that can be written to\n");
		return 0;
	}
	cgroup = own;
	if (!begin(argc > 1 ? argv[1] : NULL))
		return tap_failed;
	reuse();
	ok(!vgpu_agent_shutdown(pod, 20000, false, &e), "the pod ends");
	vgpu_agent_close(pod);
	waitpid(daemon_pid, NULL, 0);
	ok(!rmdir(own), "and nothing of it is left");
	remove_folder();
	return tap_done();
}
