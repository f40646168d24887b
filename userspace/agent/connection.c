// SPDX-License-Identifier: Apache-2.0
/* The connection: one thread moves frames between the transport and the calls. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

#define ALIVE_MS	1000

void agent_wake(struct vgpu_agent *a)
{
	uint64_t one = 1;

	if (write(a->wake, &one, sizeof(one)) < 0)
		return;		/* it is awake already */
}

static void end_call(struct vgpu_agent_call *c, const struct vgpu_agent_error *why)
{
	if (c->ended)
		return;
	c->ended = true;
	c->error = *why;
	pthread_cond_broadcast(&c->changed);
}

void agent_die(struct vgpu_agent *a, int code, const char *format, ...)
{
	va_list args;

	if (a->dead)
		return;
	a->dead = true;
	a->why.code = code;
	va_start(args, format);
	vsnprintf(a->why.text, sizeof(a->why.text), format, args);
	va_end(args);
	for (struct vgpu_agent_call *c = a->calls; c; c = c->next)
		end_call(c, &a->why);
	pthread_cond_broadcast(&a->room);
}

static void free_payload(struct payload *p)
{
	while (p) {
		struct payload *next = p->next;

		free(p);
		p = next;
	}
}

void call_destroy(struct vgpu_agent_call *c)
{
	struct vgpu_agent_call **at = &c->agent->calls;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->agent->call_count--;
	free_payload(c->reply);
	free_payload(c->events);
	for (unsigned int i = 0; i < VGPU_AGENT_STREAMS; i++)
		wire_free(&c->streams[i].data);
	pthread_cond_destroy(&c->changed);
	pthread_cond_broadcast(&c->agent->room);
	free(c);
}

/* ---- Frames of the agent: nothing in them is believed. What is returned ends the connection. */

static const char *handle_frame(struct vgpu_agent *a, const struct vgpu_agent_frame *f, const uint8_t *payload)
{
	struct vgpu_agent_call *c = a->calls;
	const char *why;

	while (c && (c->id != f->call || (c->ended && !a->dead)))
		c = c->next;
	if (!c)
		return "a frame for a call that is not open";
	why = call_frame(c, f, payload);
	if (!why && c->ended && c->abandoned)
		call_destroy(c);
	return why;
}

static void handle_frames(struct vgpu_agent *a)
{
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why = NULL;
	int got = 0;

	while (!a->dead && (got = wire_next_frame(&a->in, WIRE_AGENT, &f, &payload, &why)) > 0) {
		why = handle_frame(a, &f, payload);
		if (why)
			break;
		wire_drop(&a->in, wire_size(&f));
	}
	if (why || got < 0)
		agent_die(a, EPROTO, "the pod's agent broke the protocol: %s", why);
}

static bool transfer(struct vgpu_agent *a)
{
	bool moved = false;
	void *space;
	ssize_t n;

	space = wire_space(&a->in, VGPU_AGENT_DATA_MAX);
	n = space ? a->transport->ops->read(a->transport, space, VGPU_AGENT_DATA_MAX) : -1;
	if (n > 0) {
		wire_added(&a->in, n);
		handle_frames(a);
		moved = true;
	}
	if (n < 0)
		agent_die(a, ECONNRESET, "the connection to the pod's agent was closed: the pod ended, or another host took over");
	while (!a->dead && a->out.len) {
		n = a->transport->ops->write(a->transport, a->out.data + a->out.start, a->out.len);
		if (n < 0)
			agent_die(a, ECONNRESET, "the connection to the pod's agent was closed");
		if (n <= 0)
			break;
		wire_drop(&a->out, n);
		pthread_cond_broadcast(&a->room);
		moved = true;
	}
	if (a->out.failed)
		agent_die(a, ENOMEM, "out of memory");
	return moved;
}

static void *run(void *arg)
{
	struct vgpu_agent *a = arg;
	struct transport *t = a->transport;
	uint64_t count;

	pthread_mutex_lock(&a->lock);
	while (!a->closing && !a->dead) {
		struct pollfd pfd[2] = {
			{ .fd = t->fd, .events = t->ops->events(t, true, a->out.len) },
			{ .fd = a->wake, .events = POLLIN },
		};
		bool busy = transfer(a) || t->ops->ready(t, true, a->out.len);
		int got;

		if (a->dead)
			break;
		pfd[0].events = t->ops->events(t, true, a->out.len);
		pthread_mutex_unlock(&a->lock);
		got = poll(pfd, 2, busy ? 0 : ALIVE_MS);
		if (got > 0 && pfd[0].revents)
			t->ops->acknowledge(t);
		if (got > 0 && pfd[1].revents && read(a->wake, &count, sizeof(count)) < 0)
			count = 0;
		pthread_mutex_lock(&a->lock);
		if (!got && !busy && !t->ops->alive(t))
			agent_die(a, ECONNRESET, "the pod's domain is gone");
	}
	agent_die(a, ECONNRESET, "the connection was closed by this side");
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* ---- Opening and closing */

static struct transport *open_transport(const char *address, struct vgpu_agent_error *e)
{
	struct transport *t = NULL;
	char *end;
	long number;

	errno = EINVAL;
	if (!strncmp(address, "vchan:", 6)) {
		number = strtol(address + 6, &end, 10);
		if (end != address + 6 && (!*end || *end == ':') && number > 0)
			t = transport_vchan_serve(number, *end ? end + 1 : NULL);
	} else if (!strncmp(address, "fd:", 3)) {
		t = transport_unix(atoi(address + 3));
	} else if (!strncmp(address, "unix:", 5) || address[0] == '/') {
		t = transport_unix_connect(address[0] == '/' ? address : address + 5);
	} else {
		set_error(e, EINVAL, "%.200s: not vchan:DOMID, unix:PATH or /PATH", address);
		return NULL;
	}
	if (!t)
		set_error(e, errno ?: EIO, "cannot open %.200s: %s", address, strerror(errno ?: EIO));
	return t;
}

struct vgpu_agent *vgpu_agent_open(const char *address, int timeout_ms, struct vgpu_agent_error *e)
{
	struct vgpu_agent *a = calloc(1, sizeof(*a));
	sigset_t all, before;
	int error;

	if (!a) {
		set_error(e, ENOMEM, "out of memory");
		return NULL;
	}
	a->timeout_ms = 30000;
	a->wake = -1;
	a->transport = open_transport(address, e);
	if (!a->transport)
		goto fail;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->room, NULL);
	a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* Signals are the program's: its own threads wait for them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = a->wake < 0 ? errno : pthread_create(&a->thread, NULL, run, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		set_error(e, error, "cannot start a thread: %s", strerror(error));
		goto fail;
	}
	if (agent_hello(a, timeout_ms, e)) {
		vgpu_agent_close(a);
		return NULL;
	}
	return a;
fail:
	transport_close(a->transport);
	if (a->wake >= 0)
		close(a->wake);
	free(a);
	return NULL;
}

void vgpu_agent_close(struct vgpu_agent *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->closing = true;
	agent_wake(a);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	while (a->calls)
		call_destroy(a->calls);
	transport_close(a->transport);
	close(a->wake);
	wire_free(&a->in);
	wire_free(&a->out);
	pthread_cond_destroy(&a->room);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

bool vgpu_agent_connected(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	bool dead;

	pthread_mutex_lock(&a->lock);
	dead = a->dead;
	if (dead && e)
		*e = a->why;
	pthread_mutex_unlock(&a->lock);
	return !dead;
}

void vgpu_agent_set_timeout(struct vgpu_agent *a, int timeout_ms)
{
	a->timeout_ms = timeout_ms;
}

const struct vgpu_agent_info *vgpu_agent_info(const struct vgpu_agent *a)
{
	return &a->info;
}
