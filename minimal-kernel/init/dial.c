// SPDX-License-Identifier: Apache-2.0
/* DIAL: a TCP connection from within the pod, for port forwarding. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init.h"

struct dial {
	struct source source;
	struct call *call;
	bool connected, write_blocked, write_closed;
};

static void dial_free(struct dial *d)
{
	source_close(&d->source);
	free(d);
}

static void interest(struct dial *d)
{
	struct call *c = d->call;
	uint32_t events = 0;

	if (!d->connected || d->write_blocked)
		events |= EPOLLOUT;
	if (d->connected && !c->ended[1] && c->credit[1] && conn_has_room())
		events |= EPOLLIN;
	source_watch(&d->source, events);
}

static void dial_failed(struct dial *d, const char *what)
{
	struct call *c = d->call;
	struct failure f;

	fail(&f, "%s", what);
	dial_free(d);
	call_fail(c, &f);
}

/* True when the call has ended. */
static bool finish(struct dial *d)
{
	struct call *c = d->call;

	if (!c->ended[1] || !d->write_closed)
		return false;
	dial_free(d);
	call_reply(c);
	return true;
}

static void write_out(struct dial *d)
{
	struct call *c = d->call;

	d->write_blocked = false;
	while (d->connected && c->input.len) {
		ssize_t n = send(d->source.fd, c->input.data + c->input.start, c->input.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			d->write_blocked = true;
			break;
		}
		if (n < 0) {
			/* The other side does not listen any more, but may still talk. */
			c->no_input = true;
			call_consumed(c, c->input.len);
			wire_free(&c->input);
			d->write_closed = true;
			break;
		}
		wire_drop(&c->input, n);
		call_consumed(c, n);
	}
	if (d->connected && c->ended[0] && !c->input.len && !d->write_closed) {
		shutdown(d->source.fd, SHUT_WR);
		d->write_closed = true;
	}
	if (!finish(d))
		interest(d);
}

static void read_in(struct dial *d)
{
	static uint8_t buf[VGPU_AGENT_DATA_MAX];
	struct call *c = d->call;
	ssize_t n = recv(d->source.fd, buf, c->credit[1] < sizeof(buf) ? c->credit[1] : sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		call_data(c, 1, buf, n);
	} else {
		call_end_stream(c, 1);
		/* Reset rather than closed: nothing that is written arrives either. */
		if (n < 0)
			d->write_closed = true;
	}
	if (!finish(d))
		interest(d);
}

static void connected(struct dial *d)
{
	int error = 0;
	socklen_t len = sizeof(error);
	size_t begun;

	getsockopt(d->source.fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		errno = error;
		dial_failed(d, "cannot connect");
		return;
	}
	d->connected = true;
	begun = wire_begin(&to_host, d->call->id, VGPU_AGENT_EVENT, 0);
	call_event_end(begun);
	write_out(d);
}

static void dial_event(struct source *s, uint32_t events)
{
	struct dial *d = (struct dial *)s;

	if (!d->connected)
		connected(d);
	else if (events & EPOLLOUT && d->write_blocked)
		write_out(d);
	else if (!d->call->ended[1] && d->call->credit[1] && conn_has_room())
		read_in(d);
	else
		interest(d);
}

static void dial_input(struct call *c)
{
	write_out(c->object);
}

static void dial_output(struct call *c)
{
	interest(c->object);
}

static void dial_cancel(struct call *c, bool lost)
{
	dial_free(c->object);
	if (!lost)
		call_failf(c, ECANCELED, "cancelled");
}

static const struct call_ops dial_ops = { .input = dial_input, .output = dial_output, .cancel = dial_cancel };

void dial_request(struct call *c, const struct request_attrs *a)
{
	const char *address = strcmp(a->address, "localhost") ? a->address : "127.0.0.1";
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(a->port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(a->port) };
	bool v6 = strchr(address, ':');
	struct dial *d;
	int one = 1;

	if (!a->port || a->port > 65535 || inet_pton(v6 ? AF_INET6 : AF_INET, address, v6 ? (void *)&in6.sin6_addr : &in.sin_addr) != 1) {
		call_failf(c, EINVAL, "%.100s port %u: not an address to connect to", a->address, a->port);
		return;
	}
	d = calloc(1, sizeof(*d));
	if (!d) {
		call_failf(c, ENOMEM, "out of memory");
		return;
	}
	d->call = c;
	d->source = (struct source){ .fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .handle = dial_event };
	call_keep(c, &dial_ops, d);
	if (d->source.fd < 0) {
		dial_failed(d, "cannot make a socket");
		return;
	}
	setsockopt(d->source.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(d->source.fd, v6 ? (void *)&in6 : &in, v6 ? sizeof(in6) : sizeof(in)) && errno != EINPROGRESS) {
		dial_failed(d, "cannot connect");
		return;
	}
	source_watch(&d->source, EPOLLOUT);
}
