// SPDX-License-Identifier: Apache-2.0
/* A process's standard streams, and the call that has them. Nothing is read from a process that the host has no room for. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "init.h"

static void in_event(struct source *s, uint32_t events);
static void out_event(struct source *s, uint32_t events);
static void err_event(struct source *s, uint32_t events);

/* What came from the child is looked at: in a container that it joined it is not alone. */
int stdio_terminal(struct process *p, int master, struct failure *f)
{
	int number;

	if (ioctl(master, TIOCGPTN, &number) || fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK)) {
		fail(f, "%s: what its child has opened is no terminal", p->name);
		close(master);
		return -1;
	}
	p->in.fd = master;
	p->out[1].fd = fcntl(master, F_DUPFD_CLOEXEC, 0);
	p->tty_slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->tty_slave < 0 || p->out[1].fd < 0)
		return fail(f, "%s: cannot open the terminal %d", p->name, number);
	return 0;
}

static int open_pipe(struct source *ours, int *child, bool input)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC))
		return -1;
	ours->fd = pair[input];
	*child = pair[!input];
	return fcntl(ours->fd, F_SETFL, O_NONBLOCK);
}

int stdio_open(struct process *p, int child[3], struct failure *f)
{
	child[0] = child[1] = child[2] = -1;
	p->in.handle = in_event;
	p->out[1].handle = out_event;
	p->out[2].handle = err_event;
	if (p->has_tty)
		return 0;	/* by the child, where it will have it */
	if (!p->spec->has_stdin) {
		child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (child[0] < 0)
			return fail(f, "%s: cannot open /dev/null", p->name);
	} else if (open_pipe(&p->in, &child[0], true)) {
		return fail(f, "%s: cannot make a pipe", p->name);
	}
	if (open_pipe(&p->out[1], &child[1], false) || open_pipe(&p->out[2], &child[2], false))
		return fail(f, "%s: cannot make a pipe", p->name);
	return 0;
}

void stdio_close(struct process *p)
{
	source_close(&p->in);
	source_close(&p->out[1]);
	source_close(&p->out[2]);
	if (p->tty_slave >= 0)
		close(p->tty_slave);
	p->tty_slave = -1;
}

/* Of a process that has ended and whose streams nobody has: what is empty and has no writer any more stays so. */
void stdio_close_empty(struct process *p)
{
	for (int i = 1; i < 3; i++) {
		struct pollfd pfd = { .fd = p->out[i].fd, .events = POLLIN };

		if (!p->has_tty && pfd.fd >= 0 && poll(&pfd, 1, 0) == 1 && pfd.revents == POLLHUP)
			source_close(&p->out[i]);
	}
}

static void out_interest(struct process *p, int stream)
{
	struct call *c = p->attached;

	if (p->out[stream].fd >= 0)
		source_watch(&p->out[stream], c && c->credit[stream] && conn_has_room() ? EPOLLIN : 0);
}

static void read_out(struct process *p, int stream)
{
	static uint8_t buf[VGPU_AGENT_DATA_MAX];
	struct source *s = &p->out[stream];
	struct call *c = p->attached;
	bool again = true;

	while (again && c && s->fd >= 0 && c->credit[stream] && conn_has_room()) {
		size_t len = c->credit[stream] < sizeof(buf) ? c->credit[stream] : sizeof(buf);
		ssize_t n = read(s->fd, buf, len);

		/* Of a process that has ended what is there is all there is, whoever still has the other end open. */
		again = p->state == VGPU_AGENT_EXITED;
		if (n > 0) {
			call_data(c, stream, buf, n);
		} else if (n == 0 || again || (errno != EAGAIN && errno != EINTR)) {
			if (n < 0 && errno == EINTR)
				continue;
			source_close(s);
			call_end_stream(c, stream);
		}
	}
	out_interest(p, stream);
}

bool stdio_drain(struct process *p)
{
	if (p->tty_slave >= 0) {
		close(p->tty_slave);
		p->tty_slave = -1;
	}
	read_out(p, 1);
	read_out(p, 2);
	return p->out[1].fd < 0 && p->out[2].fd < 0;
}

static void out_is_readable(struct process *p, int stream)
{
	read_out(p, stream);
	if (p->state == VGPU_AGENT_EXITED)
		process_drained(p);
}

static void out_event(struct source *s, uint32_t events)
{
	out_is_readable((struct process *)((char *)s - offsetof(struct process, out[1])), 1);
}

static void err_event(struct source *s, uint32_t events)
{
	out_is_readable((struct process *)((char *)s - offsetof(struct process, out[2])), 2);
}

/* ---- Input */

static void end_of_input(struct process *p)
{
	struct termios t;
	char eof;

	if (!p->has_tty) {
		source_close(&p->in);
		return;
	}
	/* A terminal cannot be half closed; a line discipline that edits lines knows a character for it. */
	if (p->in.fd >= 0 && !tcgetattr(p->in.fd, &t) && t.c_lflag & ICANON) {
		eof = t.c_cc[VEOF];
		if (write(p->in.fd, &eof, 1) < 0)
			source_watch(&p->in, 0);
	}
}

static void write_in(struct process *p)
{
	struct call *c = p->attached;

	if (!c)
		return;
	while (p->in.fd >= 0 && c->input.len) {
		ssize_t n = write(p->in.fd, c->input.data + c->input.start, c->input.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			source_watch(&p->in, EPOLLOUT);
			return;
		}
		if (n < 0) {
			source_close(&p->in);
			break;
		}
		wire_drop(&c->input, n);
		call_consumed(c, n);
	}
	if (p->in.fd < 0) {
		/* Nobody reads it any more: the host is not held up. */
		c->no_input = true;
		call_consumed(c, c->input.len);
		wire_free(&c->input);
		return;
	}
	source_watch(&p->in, 0);
	if (c->ended[0])
		end_of_input(p);
}

static void in_event(struct source *s, uint32_t events)
{
	write_in((struct process *)((char *)s - offsetof(struct process, in)));
}

/* ---- The call that has the streams */

static void stdio_input(struct call *c)
{
	write_in(c->object);
}

static void stdio_output(struct call *c)
{
	struct process *p = c->object;

	out_interest(p, 1);
	out_interest(p, 2);
	/* Without another event: what is left of a process that has ended. */
	if (p->state == VGPU_AGENT_EXITED)
		process_drained(p);
}

static void stdio_resize(struct call *c, unsigned int rows, unsigned int columns)
{
	struct process *p = c->object;
	struct winsize size = { .ws_row = rows, .ws_col = columns };

	if (p->has_tty && p->in.fd >= 0)
		ioctl(p->in.fd, TIOCSWINSZ, &size);
}

static void stdio_cancel(struct call *c, bool lost)
{
	struct process *p = c->object;

	stdio_detach(p);
	c->object = NULL;
	if (c->type == VGPU_AGENT_CREATE && p->kill_with_call)
		process_abandon(p);
	else if (p->state == VGPU_AGENT_EXITED && p->delete_after)
		process_abandon(p);
	if (!lost)
		call_failf(c, ECANCELED, "cancelled");
}

const struct call_ops stdio_call_ops = {
	.input = stdio_input,
	.output = stdio_output,
	.resize = stdio_resize,
	.cancel = stdio_cancel,
};

void stdio_attach(struct process *p, struct call *c)
{
	call_keep(c, &stdio_call_ops, p);
	p->attached = c;
	for (int i = 1; i < 3; i++)
		if (p->out[i].fd < 0)
			call_end_stream(c, i);
	out_interest(p, 1);
	out_interest(p, 2);
	write_in(p);
}

void stdio_detach(struct process *p)
{
	p->attached = NULL;
	out_interest(p, 1);
	out_interest(p, 2);
	if (p->in.fd >= 0)
		source_watch(&p->in, 0);
	if (p->state == VGPU_AGENT_EXITED)
		stdio_close_empty(p);
}
