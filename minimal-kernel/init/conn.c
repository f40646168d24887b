// SPDX-License-Identifier: Apache-2.0
/*
 * The connection to the host: one at a time. What a host may make this side hold is bounded: one frame that has not fully
 * come, the input of each call up to its window, and answers until to_host is full, after which nothing more is read.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "init.h"

#define OUTPUT_HIGH	(256u << 10)
#define RECONNECT_NS	100000000ull	/* between two looks into xenstore for a host */
#define RECONNECT_FIRST_NS 10000000ull	/* while the pod starts, the host is on its way too */
#define ALIVE_NS	1000000000ull

struct wire_queue to_host;
static struct wire_queue from_host;
static struct transport *host;
static struct call calls[VGPU_AGENT_CALLS_MAX];
static bool hello_done, was_full;
static const char *vchan_node;
static char generation[TRANSPORT_GENERATION_MAX];

static void host_event(struct source *s, uint32_t events);
static void listener_event(struct source *s, uint32_t events);
static void look_for_host(struct timer *t);
static struct source host_source = SOURCE(host_event), listener = SOURCE(listener_event);
static struct timer look = { .expired = look_for_host };

/* ---- Being connected, and not */

static void host_found(struct transport *t)
{
	host = t;
	host_source.fd = t->fd;
	hello_done = false;
	source_watch(&listener, 0);
	source_watch(&host_source, EPOLLIN);
}

static void host_lost(const char *why)
{
	if (!host)
		return;
	if (why)
		fprintf(stderr, "vgpu-init: the host broke the protocol: %s; waiting for it to connect again\n", why);
	source_watch(&host_source, 0);
	host_source.fd = -1;
	transport_close(host);
	host = NULL;
	wire_free(&from_host);
	wire_free(&to_host);
	for (unsigned int i = 0; i < VGPU_AGENT_CALLS_MAX; i++) {
		struct call *c = &calls[i];

		if (!c->id)
			continue;
		if (c->ops)
			c->ops->cancel(c, true);
		wire_free(&c->input);
		memset(c, 0, sizeof(*c));
	}
	/* What the cancelled calls had to say. */
	wire_free(&to_host);
	source_watch(&listener, EPOLLIN);
	if (vchan_node)
		timer_set(&look, RECONNECT_NS);
	else if (listener.fd < 0)
		exit(0);	/* a test's socket pair */
}

static void host_event(struct source *s, uint32_t events)
{
	/* conn_pump() follows every round. */
	if (host)
		host->ops->acknowledge(host);
}

static void listener_event(struct source *s, uint32_t events)
{
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	struct transport *t = fd < 0 ? NULL : transport_unix(fd);

	if (t)
		host_found(t);
}

static void look_for_host(struct timer *t)
{
	struct transport *found = transport_vchan_connect(vchan_node, generation);

	if (found) {
		phase_done("host connected");
		host_found(found);
	} else {
		timer_set(&look, now_ns() < 10 * ALIVE_NS ? RECONNECT_FIRST_NS : RECONNECT_NS);
	}
}

int conn_serve_unix(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(sun.sun_path, path);
	unlink(path);
	listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener.fd < 0 || bind(listener.fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(listener.fd, 8))
		return -1;
	source_watch(&listener, EPOLLIN);
	return 0;
}

int conn_serve_fd(int fd)
{
	struct transport *t = transport_unix(fd);

	if (!t)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	host_found(t);
	return 0;
}

void conn_serve_vchan(const char *node)
{
	vchan_node = node ?: TRANSPORT_NODE;
	look_for_host(&look);
}

/* ---- Calls */

/* Whoever is refused is called again when there is room: room_again(). */
bool conn_has_room(void)
{
	bool room = to_host.len < OUTPUT_HIGH;

	was_full |= !room;
	return room;
}

static struct call *call_find(uint32_t id)
{
	for (unsigned int i = 0; i < VGPU_AGENT_CALLS_MAX; i++)
		if (calls[i].id == id)
			return &calls[i];
	return NULL;
}

struct call *call_next(struct call *c)
{
	for (c = c ? c + 1 : calls; c < calls + VGPU_AGENT_CALLS_MAX; c++)
		if (c->id)
			return c;
	return NULL;
}

static void call_free(struct call *c)
{
	wire_free(&c->input);
	memset(c, 0, sizeof(*c));
}

void call_keep(struct call *c, const struct call_ops *ops, void *object)
{
	c->ops = ops;
	c->object = object;
}

void call_data(struct call *c, int stream, const void *data, size_t len)
{
	wire_frame(&to_host, c->id, VGPU_AGENT_DATA, stream, data, len);
	c->credit[stream] -= len;
}

void call_end_stream(struct call *c, int stream)
{
	if (c->ended[stream])
		return;
	c->ended[stream] = true;
	wire_frame(&to_host, c->id, VGPU_AGENT_END, stream, NULL, 0);
}

void call_consumed(struct call *c, size_t len)
{
	if (!len || c->ended[0])
		return;
	c->credit[0] += len;
	wire_credit(&to_host, c->id, 0, len);
}

size_t call_reply_begin(struct call *c)
{
	return wire_begin(&to_host, c->id, VGPU_AGENT_REPLY, 0);
}

void call_reply_end(struct call *c, size_t begun)
{
	uint32_t id = c->id;

	if (to_host.len - begun > VGPU_AGENT_ANSWER_MAX || to_host.failed) {
		wire_abandon(&to_host, begun);
		wire_error(&to_host, id, E2BIG, "the answer is longer than a frame may be");
	} else {
		wire_end(&to_host, begun);
	}
	call_free(c);
}

void call_reply(struct call *c)
{
	call_reply_end(c, call_reply_begin(c));
}

void call_event_end(size_t begun)
{
	wire_end(&to_host, begun);
}

void call_fail(struct call *c, const struct failure *f)
{
	wire_error(&to_host, c->id, f->code ?: EIO, f->text);
	call_free(c);
}

void call_failf(struct call *c, int code, const char *format, ...)
{
	struct failure f = { .code = code };
	va_list args;

	va_start(args, format);
	vsnprintf(f.text, sizeof(f.text), format, args);
	va_end(args);
	call_fail(c, &f);
}

/* ---- Frames */

static const char *open_call(const struct vgpu_agent_frame *f, const uint8_t *payload)
{
	struct call *c;

	if (call_find(f->call))
		return "a request under the number of a call that is open";
	if (!hello_done && f->type != VGPU_AGENT_HELLO)
		return "a request before HELLO";
	c = call_find(0);
	if (!c) {
		wire_error(&to_host, f->call, EMFILE, "256 calls are open, that is all there can be");
		return NULL;
	}
	memset(c, 0, sizeof(*c));
	c->id = f->call;
	c->type = f->type;
	for (unsigned int i = 0; i < VGPU_AGENT_STREAMS; i++)
		c->credit[i] = VGPU_AGENT_WINDOW;
	request_handle(c, f, payload);
	if (f->type == VGPU_AGENT_HELLO)
		hello_done = true;
	return NULL;
}

static const char *call_frame(struct call *c, const struct vgpu_agent_frame *f, const uint8_t *payload)
{
	uint16_t size[2];
	uint32_t credit;

	switch (f->type) {
	case VGPU_AGENT_DATA:
		if (c->ended[0])
			return "data after the stream's end";
		if (f->length > c->credit[0])
			return "data without credit";
		c->credit[0] -= f->length;
		if (c->no_input) {
			call_consumed(c, f->length);
			return NULL;
		}
		wire_put(&c->input, payload, f->length);
		if (c->ops->input)
			c->ops->input(c);
		return NULL;
	case VGPU_AGENT_END:
		if (c->ended[0])
			return "a stream's end after its end";
		c->ended[0] = true;
		if (c->ops->input)
			c->ops->input(c);
		return NULL;
	case VGPU_AGENT_CREDIT:
		memcpy(&credit, payload, sizeof(credit));
		if (!credit || credit > VGPU_AGENT_CREDIT_MAX || c->credit[f->stream] + credit > VGPU_AGENT_CREDIT_MAX)
			return "more credit than there may be";
		c->credit[f->stream] += credit;
		if (c->ops->output)
			c->ops->output(c);
		return NULL;
	case VGPU_AGENT_RESIZE:
		memcpy(size, payload, sizeof(size));
		if (c->ops->resize)
			c->ops->resize(c, size[0], size[1]);
		return NULL;
	case VGPU_AGENT_CANCEL:
		c->ops->cancel(c, false);
		return NULL;
	}
	return "a frame that makes no sense";
}

static const char *handle_frame(const struct vgpu_agent_frame *f, const uint8_t *payload)
{
	struct call *c;

	if (f->type < VGPU_AGENT_REQUESTS_END)
		return open_call(f, payload);
	c = call_find(f->call);
	/* Sent before the host knew that the call had ended. */
	if (!c)
		return NULL;
	return call_frame(c, f, payload);
}

static bool handle_frames(void)
{
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why = NULL;
	bool any = false;
	int got = 0;

	while (host && conn_has_room() && (got = wire_next_frame(&from_host, WIRE_HOST, &f, &payload, &why)) > 0) {
		why = handle_frame(&f, payload);
		if (!host)
			return true;
		wire_drop(&from_host, wire_size(&f));
		any = true;
		if (why)
			break;
	}
	if (host && (why || got < 0))
		host_lost(why);
	return any;
}

static int flush(void)
{
	while (host && to_host.len) {
		ssize_t n = host->ops->write(host, to_host.data + to_host.start, to_host.len);

		if (n < 0)
			return -1;
		if (!n)
			break;
		wire_drop(&to_host, n);
	}
	return 0;
}

/* Streams that had to wait because to_host was full. */
static void room_again(void)
{
	if (!was_full || !conn_has_room())
		return;
	was_full = false;
	for (struct call *c = call_next(NULL); c; c = call_next(c))
		if (c->ops && c->ops->output)
			c->ops->output(c);
}

bool conn_pump(void)
{
	bool moved = false, again;
	ssize_t n;

	if (!host)
		return false;
	if (conn_has_room()) {
		void *space = wire_space(&from_host, VGPU_AGENT_DATA_MAX);

		n = space ? host->ops->read(host, space, VGPU_AGENT_DATA_MAX) : -1;
		if (n < 0) {
			host_lost(NULL);
			return false;
		}
		wire_added(&from_host, n);
		moved = n > 0;
	}
	moved |= handle_frames();
	if (!host)
		return false;
	if (to_host.failed || flush()) {
		host_lost(NULL);
		return false;
	}
	/* What was refused before flush(), frames of the host among it, has its turn. */
	again = was_full && conn_has_room();
	room_again();
	/* epoll and poll number these two alike. */
	source_watch(&host_source, host->ops->events(host, conn_has_room(), to_host.len));
	return moved || again || host->ops->ready(host, conn_has_room(), to_host.len);
}

void conn_flush(int ms)
{
	uint64_t end = now_ns() + ms * 1000000ull;

	while (host && to_host.len && now_ns() < end) {
		if (flush())
			return;
		usleep(1000);
	}
}
