// SPDX-License-Identifier: Apache-2.0
/* What a worker can still do once it is in its sandbox: each in a process of its own that enters it first. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../worker/worker.h"
#include "tap.h"

/* Outcomes of a child: the errno of what it tried, 0 if that worked, or this and the signal that ended it. */
#define KILLED 1000

static int tried(int ret)
{
	return ret < 0 ? errno : 0;
}

static int open_file(void)
{
	return tried(open("/etc/passwd", O_RDONLY));
}

static int open_socket(void)
{
	return tried(socket(AF_INET, SOCK_STREAM, 0));
}

static int unix_socket(void)
{
	return tried(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int run_program(void)
{
	char *argv[] = { "true", NULL };

	execve("/bin/true", argv, NULL);
	return errno;
}

static int fork_it(void)
{
	return tried(syscall(SYS_fork));
}

static int clone_process(void)
{
	return tried(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
}

static int trace_parent(void)
{
	return tried(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int kill_parent(void)
{
	return tried(kill(getppid(), 0));
}

static int become_root(void)
{
	return tried(syscall(SYS_setuid, 0));
}

static int make_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ?
	       errno : 0;
}

static int turn_into_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return tried(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int terminal_ioctl(void)
{
	return tried(syscall(SYS_ioctl, 0, 0x5412, "x"));	/* TIOCSTI */
}

static int pass_signals(void)
{
	return tried(fcntl(0, F_SETOWN, getppid()));
}

static int pass_signals_by_ioctl(void)
{
	int pid = getppid();

	return tried((int)syscall(SYS_ioctl, 0, FIOSETOWN, &pid));
}

/* A descriptor that has it not says so; that is the kernel's answer, not the filter's. */
static int device_ioctl(void)
{
	return tried((int)syscall(SYS_ioctl, 0, _IOWR('F', 200, int), NULL));
}

static int file_flags(void)
{
	return tried(fcntl(0, F_GETFL));
}

static int others_limits(void)
{
	struct rlimit rl;

	return tried(syscall(SYS_prlimit64, getppid(), RLIMIT_DATA, NULL, &rl));
}

static int copy_descriptor(void)
{
	return tried(dup(1));
}

static int make_file(void)
{
	return tried((int)syscall(SYS_memfd_create, "x", 0));
}

static int use_memory(void)
{
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return errno;
	memset(p, 1, 1 << 20);
	return tried(munmap(p, 1 << 20));
}

static int memory_file;		/* such as the broker gives out */

static int map(int flags)
{
	return mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0) == MAP_FAILED ? errno : 0;
}

static int share_memory(void)
{
	return map(MAP_SHARED);
}

static int growing_memory(void)
{
	return map(MAP_PRIVATE | MAP_GROWSDOWN);
}

static int map_file(void)
{
	return mmap(NULL, 4096, PROT_READ, MAP_SHARED, memory_file, 0) == MAP_FAILED ? errno : 0;
}

static int lower_limit(void)
{
	return -sandbox_limit_memory(1ull << 46);
}

static void *nothing(void *arg)
{
	return arg;
}

static int start_thread(void)
{
	pthread_t t;
	int ret = pthread_create(&t, NULL, nothing, NULL);

	return ret ? ret : pthread_join(t, NULL);
}

static int outcome(bool soft, int (*fn)(void))
{
	struct sandbox box = { .soft = soft };
	char what[64];
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(2);
		if (sandbox_drop(&box, what, sizeof(what)) || sandbox_filter(soft))
			_exit(255);
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void)
{
	static const struct {
		const char *what;
		int (*fn)(void);
		int soft, nvidia;	/* the outcome wanted; -1: not looked at */
	} cases[] = {
		{ "opening a file", open_file, EPERM, 0 },
		{ "a network socket", open_socket, EPERM, EPERM },
		{ "a UNIX socket", unix_socket, EPERM, EPERM },
		{ "running a program", run_program, KILLED + SIGSYS, KILLED + SIGSYS },
		{ "fork()", fork_it, KILLED + SIGSYS, KILLED + SIGSYS },
		{ "clone() of a process", clone_process, EPERM, EPERM },
		{ "ptrace()", trace_parent, KILLED + SIGSYS, KILLED + SIGSYS },
		{ "a signal to another process", kill_parent, EPERM, EPERM },
		{ "setuid(0)", become_root, KILLED + SIGSYS, KILLED + SIGSYS },
		{ "memory that is writable and code", make_code, EPERM, -1 },
		{ "turning data into code", turn_into_code, EPERM, -1 },
		{ "an ioctl of a terminal", terminal_ioctl, EPERM, -1 },
		{ "signals to another process by fcntl()", pass_signals, EPERM, EPERM },
		{ "signals to another process by ioctl()", pass_signals_by_ioctl, EPERM, EPERM },
		{ "an ioctl of a device", device_ioctl, EPERM, ENOTTY },
		{ "the flags of a descriptor", file_flags, EPERM, 0 },
		{ "another process's limits", others_limits, EPERM, EPERM },
		{ "a file of its own", make_file, EPERM, -1 },
		{ "a copy of a descriptor", copy_descriptor, 0, 0 },
		{ "memory", use_memory, 0, 0 },
		{ "memory that is shared, and no file's", share_memory, EPERM, -1 },
		{ "memory that grows by itself", growing_memory, EPERM, -1 },
		{ "memory of a file", map_file, 0, 0 },
		{ "lowering its own limit", lower_limit, 0, 0 },
		{ "a thread", start_thread, 0, 0 },
	};
	size_t i;
	int got;

	memory_file = memfd_create("test", 0);
	if (memory_file < 0 || ftruncate(memory_file, 4096))
		return 1;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		got = outcome(true, cases[i].fn);
		ok(got == cases[i].soft, "software GPU: %s: %s %d", cases[i].what, got >= KILLED ? "killed by" : "errno",
		   got % KILLED);
		if (cases[i].nvidia < 0)
			continue;
		got = outcome(false, cases[i].fn);
		ok(got == cases[i].nvidia, "NVIDIA: %s: %s %d", cases[i].what, got >= KILLED ? "killed by" : "errno",
		   got % KILLED);
	}
	return tap_done();
}
