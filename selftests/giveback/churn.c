// SPDX-License-Identifier: Apache-2.0
/*
 * Sessions opened and closed one after another, each in a process of its own with objects of every kind, device
 * memory and a grown arena, ending in turn: by closing, by exit, by exit with everything still there, by SIGKILL.
 *
 *	churn N
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../isolation/isolation.h"

static void one(int i)
{
	char page[4096];
	struct own own;
	char *arena;

	memset(page, i, sizeof(page));
	session_open();
	own_create(&own, 0x1000 + (uint32_t)i, 4 << 20);
	arena = idm_arena_alloc(client, 3 << 20);
	if (!arena)
		bail("session %d: the arena does not grow", i);
	memset(arena, i, 3 << 20);
	for (int k = 0; k < 8; k++)
		if (copy_in(own.memory + k * sizeof(page), page, sizeof(page)) ||
		    launch(VGPU_PRIMARY_CTX(0), own.handle[FUNCTION], own.handle[STREAM]))
			bail("session %d: refused", i);
	switch (i % 4) {
	case 0:
		idm_arena_free(client, arena);
		idm_client_close(client);
		_exit(0);
	case 1:
		exit(0);
	case 2:
		_exit(0);
	default:
		raise(SIGKILL);
	}
}

int main(int argc, char **argv)
{
	int n = (int)size_arg(argc, argv, 50), good = 0;

	for (int i = 0; i < n; i++) {
		int status;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (!pid)
			one(i);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			bail("cannot start a process");
		good += i % 4 == 3 ? WIFSIGNALED(status) : WIFEXITED(status) && !WEXITSTATUS(status);
	}
	ok(good == n, "%d of %d sessions opened, used and left", good, n);
	return tap_done();
}
