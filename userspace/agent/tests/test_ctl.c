// SPDX-License-Identifier: Apache-2.0
/* vgpu-agentctl: what a copy out of a pod leaves behind; as test_agent.c, without Xen. Needs root. */
#include <dirent.h>
#include <sys/wait.h>

#include "pod.h"
#include "tap.h"
#include "vgpuagent.h"

#define LARGE	(64ll << 30)	/* without a byte in it: the copy takes longer than the test does */

static char out[96];

/* Names in the folder that copies go to, the last one into @name. */
static int files(char name[256])
{
	struct dirent *entry;
	DIR *dir = opendir(out);
	int count = 0;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.') {
			snprintf(name, 256, "%s", entry->d_name);
			count++;
		}
	if (dir)
		closedir(dir);
	return count;
}

static pid_t copy(const char *address, const char *from, bool ignore)
{
	char to[128];
	pid_t pid;

	snprintf(to, sizeof(to), "%s/copy", out);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ignore)
			signal(SIGINT, SIG_IGN);
		execl("build/bin/vgpu-agentctl", "vgpu-agentctl", "-w", "500", "-a", address, "cp", from, to, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static bool begun(pid_t pid, char name[256])
{
	for (int i = 0; i < 500 && !files(name); i++)
		usleep(10000);
	return files(name) == 1 && strncmp(name, "copy.", 5) == 0 && !kill(pid, 0);
}

static void unreachable(void)
{
	char nowhere[128], name[256] = "";
	int status;

	snprintf(nowhere, sizeof(nowhere), "%s/nobody", folder);
	status = status_of(copy(nowhere, ":/etc/hostname", false));
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 125 && !files(name), "a pod that is not there leaves no file behind: %s", name);
}

static void ended(int by)
{
	char from[128], name[256] = "";
	int status;
	pid_t pid;

	snprintf(from, sizeof(from), ":%s/large", folder);
	pid = copy(sock, from, by != SIGINT);
	ok(begun(pid, name), "a copy is on its way as %s", name);
	if (by != SIGINT) {
		kill(pid, SIGINT);
		usleep(50000);
		ok(!kill(pid, 0) && files(name) == 1, "whoever started it may have it ignore signals");
	}
	kill(pid, by);
	status = status_of(pid);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == by && !files(name), "it ends by signal %d, and leaves no file behind", by);
}

static void whole(void)
{
	char command[256], name[256] = "";

	snprintf(command, sizeof(command), "cmp /etc/passwd %s/copy", out);
	ok(status_of(copy(sock, ":/etc/passwd", false)) == 0 && files(name) == 1 && system(command) == 0, "one that comes to its end is whole");
}

int main(int argc, char **argv)
{
	char large[96];

	if (!begin(argc > 1 ? argv[1] : NULL))
		return tap_failed;
	snprintf(out, sizeof(out), "%s/out", folder);
	snprintf(large, sizeof(large), "%s/large", folder);
	ok(!mkdir(out, 0755) && !close(creat(large, 0644)) && !truncate(large, LARGE), "a large file in a pod");
	vgpu_agent_close(pod);	/* the agent talks to one host at a time */
	unreachable();
	ended(SIGTERM);
	ended(SIGINT);
	ended(SIGHUP);
	whole();
	ok(connect_pod() && !vgpu_agent_shutdown(pod, 20000, false, &e), "the pod ends");
	vgpu_agent_close(pod);
	waitpid(daemon_pid, NULL, 0);
	remove_folder();
	return tap_done();
}
