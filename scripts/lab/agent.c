// SPDX-License-Identifier: Apache-2.0
/*
 * The lab's agent: runs programs for whoever is at the other end of its channel, any number side by side.
 *
 *	agent port PATH		dom0: a virtio-serial port, to the host
 *
 * In pods it is vgpu-init that does this (podexec).
 * The lab's operator owns host, dom0 and pods alike: this is no security boundary, and no part of the product.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "frames.h"

#define PROGRAMS_MAX	64
#define STDIN_HIGH	(4 << 20)

struct program {
	int used;
	uint32_t id;
	pid_t pid;
	int exited, status;
	int in, out, err;	/* -1 when closed; a terminal uses one descriptor for in and out */
	int in_ended;
	struct queue stdin_queue;
};

static struct program programs[PROGRAMS_MAX];
static int port = -1;
static struct queue inbox;

static void die(const char *what)
{
	fprintf(stderr, "lab agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Blocking: the other end always reads. */
static void channel_write(const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(port, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd pfd = { .fd = port, .events = POLLOUT };

			poll(&pfd, 1, 1000);
			continue;
		}
		if (n <= 0)
			die("the channel is closed");
		p += n;
		len -= n;
	}
}

static void send_frame(uint32_t id, uint32_t type, const void *data, uint32_t len)
{
	uint8_t buf[sizeof(struct frame) + FRAME_MAX];
	struct frame f = { .id = id, .type = type, .len = len };

	memcpy(buf, &f, sizeof(f));
	if (len)
		memcpy(buf + sizeof(f), data, len);
	channel_write(buf, sizeof(f) + len);
}

static void complain(uint32_t id, const char *what, const char *about)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "lab agent: %s: %s: %s\n", about, what, strerror(errno));
	uint32_t status = 127 << 8;

	send_frame(id, FRAME_STDERR, text, n);
	send_frame(id, FRAME_EXIT, &status, sizeof(status));
}

static struct program *program_find(uint32_t id)
{
	for (int i = 0; i < PROGRAMS_MAX; i++)
		if (programs[i].used && programs[i].id == id)
			return &programs[i];
	return NULL;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int open_terminal(uint32_t tty, int *slave)
{
	struct winsize ws = { .ws_row = tty >> 16, .ws_col = tty & 0xffff };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || grantpt(master) || unlockpt(master))
		return -1;
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return -1;
	ioctl(*slave, TIOCSWINSZ, &ws);
	return master;
}

static void program_start(uint32_t id, const uint8_t *data, size_t len)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 }, fail[2];
	struct program *p = NULL;
	struct frame_run run;
	char **argv, **envp, *s, *copy;
	int error = 0;

	if (len < sizeof(run) || data[len - 1])
		return;
	memcpy(&run, data, sizeof(run));
	copy = malloc(len);
	memcpy(copy, data, len);
	argv = calloc(run.argc + 1, sizeof(*argv));
	envp = calloc(run.envc + 1, sizeof(*envp));
	s = copy + sizeof(run);
	for (uint32_t i = 0; i < run.argc && s < copy + len; i++, s += strlen(s) + 1)
		argv[i] = s;
	for (uint32_t i = 0; i < run.envc && s < copy + len; i++, s += strlen(s) + 1)
		envp[i] = s;
	if (s >= copy + len || !run.argc)
		goto out_free;

	for (int i = 0; i < PROGRAMS_MAX && !p; i++)
		if (!programs[i].used)
			p = &programs[i];
	if (!p) {
		errno = EAGAIN;
		complain(id, "too many programs at a time", argv[0]);
		goto out_free;
	}
	if (run.tty) {
		in[1] = open_terminal(run.tty, &in[0]);
		out[1] = in[0];
		err[1] = in[0];
		if (in[1] < 0) {
			complain(id, "cannot open a terminal", argv[0]);
			goto out_free;
		}
	} else if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) {
		complain(id, "cannot make pipes", argv[0]);
		goto out_free;
	}
	if (pipe2(fail, O_CLOEXEC))
		die("pipe");

	memset(p, 0, sizeof(*p));
	p->pid = fork();
	if (!p->pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_DFL);
		setsid();
		if (run.tty)
			ioctl(in[0], TIOCSCTTY, 0);
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		for (char **e = envp; *e; e++)
			putenv(*e);
		if (chdir(s) && chdir("/"))
			_exit(127);
		execvp(argv[0], argv);
		error = errno;
		if (write(fail[1], &error, sizeof(error)) < 0)
			_exit(126);
		_exit(127);
	}
	close(fail[1]);
	close_fd(&in[0]);
	if (!run.tty) {
		close_fd(&out[1]);
		close_fd(&err[1]);
	}
	if (p->pid < 0 || read(fail[0], &error, sizeof(error)) == sizeof(error)) {
		if (p->pid > 0) {
			errno = error;
			waitpid(p->pid, NULL, 0);
		}
		complain(id, "cannot run", argv[0]);
		close_fd(&in[1]);
		close_fd(&out[0]);
		close_fd(&err[0]);
	} else {
		p->used = 1;
		p->id = id;
		p->in = in[1];
		p->out = run.tty ? dup(in[1]) : out[0];
		p->err = err[0];
		fcntl(p->in, F_SETFL, O_NONBLOCK);
		fcntl(p->out, F_SETFL, O_NONBLOCK);
		if (p->err >= 0)
			fcntl(p->err, F_SETFL, O_NONBLOCK);
	}
	close(fail[0]);
out_free:
	free(argv);
	free(envp);
	free(copy);
}

static void forward_output(struct program *p, int *fd, uint32_t type)
{
	uint8_t buf[FRAME_MAX];
	ssize_t n;

	if (*fd < 0)
		return;
	n = read(*fd, buf, sizeof(buf));
	if (n > 0)
		send_frame(p->id, type, buf, n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(fd);
}

static void forward_input(struct program *p)
{
	while (p->in >= 0 && p->stdin_queue.len) {
		ssize_t n = write(p->in, p->stdin_queue.data + p->stdin_queue.start, p->stdin_queue.len);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			close_fd(&p->in);
			break;
		}
		queue_drop(&p->stdin_queue, n);
	}
	if (p->in_ended)
		close_fd(&p->in);
}

/* The program is dead: whatever it left in its pipes is sent, then its status. Grandchildren do not delay that. */
static void program_finish(struct program *p)
{
	uint32_t status = p->status;

	for (int i = 0; i < 2; i++) {
		int *fd = i ? &p->err : &p->out;
		struct pollfd pfd = { .fd = *fd, .events = POLLIN };

		while (*fd >= 0 && poll(&pfd, 1, 0) > 0)
			forward_output(p, fd, i ? FRAME_STDERR : FRAME_STDOUT);
		close_fd(fd);
	}
	close_fd(&p->in);
	send_frame(p->id, FRAME_EXIT, &status, sizeof(status));
	free(p->stdin_queue.data);
	memset(p, 0, sizeof(*p));
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < PROGRAMS_MAX; i++)
			if (programs[i].used && programs[i].pid == pid) {
				programs[i].status = status;
				program_finish(&programs[i]);
			}
}

static void handle_inbox(void)
{
	struct frame f;
	const struct frame *frame;

	while ((frame = queue_peek(&inbox, &f))) {
		const uint8_t *data = (const uint8_t *)(frame + 1);
		struct program *p = program_find(f.id);

		switch (f.type) {
		case FRAME_RUN:
			program_start(f.id, data, f.len);
			break;
		case FRAME_STDIN:
			if (p && p->in >= 0) {
				queue_put(&p->stdin_queue, data, f.len);
				forward_input(p);
			}
			break;
		case FRAME_STDIN_END:
			if (p) {
				p->in_ended = 1;
				forward_input(p);
			}
			break;
		case FRAME_SIGNAL:
			if (p && f.len == sizeof(uint32_t)) {
				uint32_t sig;

				memcpy(&sig, data, sizeof(sig));
				kill(-p->pid, sig);
			}
			break;
		}
		queue_drop(&inbox, sizeof(f) + f.len);
	}
}

/* A program that does not read its input holds up the channel's other programs rather than filling the memory. */
static int stdin_full(void)
{
	for (int i = 0; i < PROGRAMS_MAX; i++)
		if (programs[i].used && programs[i].stdin_queue.len > STDIN_HIGH)
			return 1;
	return 0;
}

static void read_channel(void)
{
	uint8_t buf[FRAME_MAX];
	ssize_t n = read(port, buf, sizeof(buf));

	if (n > 0)
		queue_put(&inbox, buf, n);
	else if (n == 0)
		usleep(20000);	/* nobody is connected at the host's end: virtio-serial reads 0 bytes then */
}

int main(int argc, char **argv)
{
	sigset_t set;
	int sigfd;

	if (argc != 3 || strcmp(argv[1], "port")) {
		fprintf(stderr, "usage: agent port PATH\n");
		return 2;
	}
	port = open(argv[2], O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (port < 0)
		die(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	send_frame(0, FRAME_HELLO, NULL, 0);

	for (;;) {
		struct pollfd pfd[2 + 3 * PROGRAMS_MAX];
		int n = 2;

		pfd[0] = (struct pollfd){ .fd = stdin_full() ? -1 : port, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = sigfd, .events = POLLIN };
		for (int i = 0; i < PROGRAMS_MAX; i++) {
			struct program *p = &programs[i];

			if (!p->used)
				continue;
			pfd[n++] = (struct pollfd){ .fd = p->out, .events = POLLIN };
			pfd[n++] = (struct pollfd){ .fd = p->err, .events = POLLIN };
			pfd[n++] = (struct pollfd){ .fd = p->stdin_queue.len ? p->in : -1, .events = POLLOUT };
		}
		if (poll(pfd, n, -1) < 0 && errno != EINTR)
			die("poll");
		for (int i = 0; i < PROGRAMS_MAX; i++) {
			struct program *p = &programs[i];

			if (!p->used)
				continue;
			forward_output(p, &p->out, FRAME_STDOUT);
			forward_output(p, &p->err, FRAME_STDERR);
			forward_input(p);
		}
		if (pfd[1].revents) {
			struct signalfd_siginfo info;

			while (read(sigfd, &info, sizeof(info)) > 0)
				;
			reap();
		}
		if (pfd[0].revents) {
			/* A host that hung up: POLLHUP for ever; read_channel() sleeps then. */
			read_channel();
			handle_inbox();
		}
	}
}
