/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second process for tests that need one. CUDA and fork() do not go together, so the processes are forked by a nursery
 * that is made before anything else and never touches CUDA.
 */
#ifndef SELFTESTS_PEER_H
#define SELFTESTS_PEER_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native.h"
#include "tap.h"

typedef void (*peer_fn)(int sock);

static int nursery = -1;

static void tell(int sock, const void *data, size_t size)
{
	if (send(sock, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		bail("the other process is not there");
}

static void hear(int sock, void *data, size_t size)
{
	if (recv(sock, data, size, MSG_WAITALL) != (ssize_t)size)
		bail("the other process has nothing to say");
}

/* One byte, to keep step. */
static void step(int sock)
{
	tell(sock, "!", 1);
}

static void await(int sock)
{
	char c;

	hear(sock, &c, 1);
}

static void tell_fd(int sock, int fd, const void *data, size_t size)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c = { .buf = { 0 } };
	struct iovec iov = { (void *)data, size };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&h);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &fd, sizeof(int));
	if (sendmsg(sock, &h, MSG_NOSIGNAL) != (ssize_t)size)
		bail("a descriptor cannot be sent");
}

static int hear_fd(int sock, void *data, size_t size) __attribute__((unused));
static int hear_fd(int sock, void *data, size_t size)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c;
	struct iovec iov = { data, size };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	struct cmsghdr *cm;
	int fd;

	if (recvmsg(sock, &h, 0) != (ssize_t)size)
		bail("no descriptor has come");
	cm = CMSG_FIRSTHDR(&h);
	if (!cm || cm->cmsg_type != SCM_RIGHTS)
		bail("a message without its descriptor");
	memcpy(&fd, CMSG_DATA(cm), sizeof(int));
	return fd;
}

static void nursery_main(int sock)
{
	peer_fn fn;
	pid_t pid;

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		union {
			char buf[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} c;
		struct iovec iov = { &fn, sizeof(fn) };
		struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf,
				    .msg_controllen = sizeof(c.buf) };
		int fd;

		if (recvmsg(sock, &h, 0) != (ssize_t)sizeof(fn))
			_exit(0);
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(int));
		pid = fork();
		if (!pid) {
			close(sock);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pid = getpid();
			tell(fd, &pid, sizeof(pid));
			fn(fd);
			exit(0);
		}
		close(fd);
	}
}

/* Before CUDA. */
static void peers_init(void)
{
	int pair[2];

	fflush(stdout);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		bail("socketpair");
	if (!fork()) {
		close(pair[0]);
		nursery_main(pair[1]);
	}
	close(pair[1]);
	nursery = pair[0];
}

/* Another process runs @fn with its end of a socket. @return ours */
static int peer_start(peer_fn fn, pid_t *pid)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		bail("socketpair");
	tell_fd(nursery, pair[1], &fn, sizeof(fn));
	close(pair[1]);
	hear(pair[0], pid, sizeof(*pid));
	return pair[0];
}

/* It says when it has done all it had to. */
static bool peer_done(int sock)
{
	char c = 0;
	bool good = recv(sock, &c, 1, MSG_WAITALL) == 1 && c == '!';

	close(sock);
	return good;
}

#endif /* SELFTESTS_PEER_H */
