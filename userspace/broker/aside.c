// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aside.h"
#include "broker.h"

struct aside {
	struct source pidfd;
	struct aside *next;
	const void *owner;
	void (*done)(uint64_t id, bool good);
	uint64_t id;
};

static struct aside *all;

static void __attribute__((noreturn)) work_apart(int fd, bool (*work)(int fd, const void *arg), const void *arg)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(ASIDE_SECONDS);
	if (fd >= 0) {
		if (dup2(fd, 0) < 0 || syscall(SYS_close_range, 1, ~0u, 0))
			_exit(1);
		fd = 0;
	}
	_exit(!work(fd, arg));
}

static void ended(struct source *src, uint32_t events)
{
	struct aside *a = container_of(src, struct aside, pidfd), **p;
	siginfo_t si = { 0 };

	if (waitid(P_PIDFD, src->fd, &si, WEXITED | WNOHANG) || !si.si_pid)
		return;
	for (p = &all; *p != a; p = &(*p)->next)
		;
	*p = a->next;
	unwatch(&a->pidfd);
	if (a->done)
		a->done(a->id, si.si_code == CLD_EXITED && !si.si_status);
	later(a);
}

static bool too_many(const void *owner)
{
	unsigned int its = 0, n = 0;

	for (const struct aside *a = all; a; a = a->next) {
		n++;
		its += a->owner == owner;
	}
	return n >= ASIDE_MAX || its >= ASIDE_OWNER_MAX;
}

bool aside_run(const void *owner, int fd, bool (*work)(int fd, const void *arg), const void *arg,
	       void (*done)(uint64_t id, bool good), uint64_t id)
{
	struct aside *a = too_many(owner) ? NULL : calloc(1, sizeof(*a));
	int pidfd;
	pid_t pid;

	if (!a)
		return false;
	pid = fork();
	if (!pid)
		work_apart(fd, work, arg);
	if (pid < 0)
		goto fail;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || watch(&a->pidfd, pidfd, EPOLLIN, ended)) {
		if (pidfd >= 0)
			close(pidfd);
		kill(pid, SIGKILL);
		goto fail;	/* it stays a zombie, which is the least */
	}
	a->owner = owner;
	a->done = done;
	a->id = id;
	a->next = all;
	all = a;
	return true;
fail:
	free(a);
	return false;
}

/* --- closing --------------------------------------------------------------------------------------------------- */

static void *closer(void *arg)
{
	int from = (int)(intptr_t)arg, fd;

	while (read(from, &fd, sizeof(fd)) == sizeof(fd))
		close(fd);
	return NULL;
}

/* @return where the thread that closes reads; -1 if there is none */
static int closer_start(void)
{
	sigset_t every, before;
	pthread_t thread;
	int p[2], err;

	if (pipe2(p, O_CLOEXEC))
		return -1;
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	/* Signals are for the event loop. */
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before);
	err = pthread_create(&thread, NULL, closer, (void *)(intptr_t)p[0]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		close(p[0]);
		close(p[1]);
		return -1;
	}
	pthread_detach(thread);
	return p[1];
}

void aside_close(int fd)
{
	static int to = -1;

	if (to < 0)
		to = closer_start();
	if (to < 0 || write(to, &fd, sizeof(fd)) != sizeof(fd))
		close(fd);
}
