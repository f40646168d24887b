// SPDX-License-Identifier: Apache-2.0
/* Calls: what comes for them from the connection's thread, and the threads that wait for it. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define OUTPUT_HIGH	(256u << 10)	/* writers wait while so much is on its way to the agent */
#define CREDIT_AT	(VGPU_AGENT_WINDOW / 2)

int set_error(struct vgpu_agent_error *e, int code, const char *format, ...)
{
	va_list args;

	if (!e)
		return -1;
	e->code = code;
	va_start(args, format);
	vsnprintf(e->text, sizeof(e->text), format, args);
	va_end(args);
	return -1;
}

/* A character's bytes; 0: no UTF-8, or one that a terminal acts upon, as it does upon C1 (U+009B is ESC [). */
static size_t printable(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t value = len == 1 ? p[0] : p[0] & (0x7f >> len);
	static const uint32_t least[] = { 0, 0x20, 0xa0, 0x800, 0x10000 };

	if ((p[0] >= 0x80 && p[0] < 0xc0) || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	return value < least[len] || value == 0x7f || (value >= 0xd800 && value < 0xe000) || value > 0x10ffff ? 0 : len;
}

void copy_text(char *to, size_t size, const char *from)
{
	size_t at = 0;

	while (*from) {
		size_t len = printable(from);

		if (at + (len ?: 1) >= size)
			break;
		if (len)
			memcpy(to + at, from, len);
		else
			to[at] = '?';
		at += len ?: 1;
		from += len ?: 1;
	}
	to[at] = 0;
}

/* ---- What comes */

static void parse_error(struct vgpu_agent_call *c, const uint8_t *payload, size_t len)
{
	struct wire_reader r = wire_reader(payload, len);
	const char *text = "it did not say why";
	uint32_t code = EIO;
	struct wire_attr a;

	while (wire_next(&r, &a) > 0)
		if (a.type == VGPU_AGENT_A_CODE)
			wire_get_u32(&a, &code);
		else if (a.type == VGPU_AGENT_A_TEXT)
			wire_get_string(&a, &text);
	/* Success is not for an error to claim, and errno has its range. */
	c->error.code = code && code < 4096 ? (int)code : EIO;
	copy_text(c->error.text, sizeof(c->error.text), text);
}

static struct payload *keep(const uint8_t *data, size_t len)
{
	struct payload *p = malloc(sizeof(*p) + len);

	if (p) {
		p->next = NULL;
		p->len = len;
		if (len)
			memcpy(p->data, data, len);
	}
	return p;
}

/* The agent's next frame for this call. Nobody waits for an abandoned one: its bytes are counted and dropped. */
const char *call_frame(struct vgpu_agent_call *c, const struct vgpu_agent_frame *f, const uint8_t *payload)
{
	struct stream *s = &c->streams[f->stream];
	struct payload *p;
	uint32_t credit;

	switch (f->type) {
	case VGPU_AGENT_DATA:
		if (s->ended)
			return "data after a stream's end";
		if (f->length > s->allowed)
			return "data without credit";
		s->allowed -= f->length;
		if (c->abandoned)
			break;
		wire_put(&s->data, payload, f->length);
		if (s->data.failed)
			return "more than there is memory for";
		break;
	case VGPU_AGENT_END:
		if (s->ended)
			return "a stream's end after its end";
		s->ended = true;
		break;
	case VGPU_AGENT_CREDIT:
		memcpy(&credit, payload, sizeof(credit));
		if (!credit || credit > VGPU_AGENT_CREDIT_MAX || c->credit + credit > VGPU_AGENT_CREDIT_MAX)
			return "more credit than there may be";
		c->credit += credit;
		break;
	case VGPU_AGENT_EVENT:
		if (!c->events_due)
			return "an event on a call that has none, or no more";
		if (c->events_due != ANY_NUMBER)
			c->events_due--;
		if (c->abandoned)
			break;
		if (c->event_count == EVENTS_MAX)
			return "more events than anybody can have caused";
		p = keep(payload, f->length);
		if (!p)
			return "more than there is memory for";
		*c->events_end = p;
		c->events_end = &p->next;
		c->event_count++;
		break;
	case VGPU_AGENT_REPLY:
		c->reply = keep(payload, f->length);
		if (!c->reply)
			return "more than there is memory for";
		c->ended = true;
		break;
	case VGPU_AGENT_ERROR:
		parse_error(c, payload, f->length);
		c->ended = true;
		break;
	}
	pthread_cond_broadcast(&c->changed);
	return NULL;
}

/* ---- Waiting */

static struct timespec deadline(int timeout_ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += timeout_ms / 1000;
	t.tv_nsec += timeout_ms % 1000 * 1000000l;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

/* False when the time is over. */
static bool wait_on(pthread_cond_t *cond, struct vgpu_agent *a, int timeout_ms, const struct timespec *until)
{
	if (timeout_ms < 0)
		return !pthread_cond_wait(cond, &a->lock);
	return pthread_cond_clockwait(cond, &a->lock, CLOCK_MONOTONIC, until) != ETIMEDOUT;
}

/* ---- Requests */

void request_begin(struct request *r, uint16_t type)
{
	memset(r, 0, sizeof(*r));
	r->begun = wire_begin(&r->q, 0, type, 0);
}

static struct vgpu_agent_call *new_call(struct vgpu_agent *a, unsigned int events)
{
	struct vgpu_agent_call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->agent = a;
	do
		c->id = ++a->next_id;
	while (!c->id);
	pthread_cond_init(&c->changed, NULL);
	c->events_end = &c->events;
	c->events_due = events;
	c->credit = VGPU_AGENT_WINDOW;
	c->streams[1].allowed = c->streams[2].allowed = VGPU_AGENT_WINDOW;
	c->next = a->calls;
	a->calls = c;
	a->call_count++;
	return c;
}

struct vgpu_agent_call *request_send(struct vgpu_agent *a, struct request *r, struct vgpu_agent_error *e)
{
	struct timespec until = deadline(a->timeout_ms < 0 ? 0 : a->timeout_ms);
	struct vgpu_agent_call *c = NULL;

	wire_end(&r->q, r->begun);
	if (r->q.failed) {
		set_error(e, E2BIG, "the request is longer than the protocol allows (%u bytes), or there is no memory", VGPU_AGENT_REQUEST_MAX);
		wire_free(&r->q);
		return NULL;
	}
	pthread_mutex_lock(&a->lock);
	while (!a->dead && (a->out.len > OUTPUT_HIGH || a->call_count >= VGPU_AGENT_CALLS_MAX))
		if (!wait_on(&a->room, a, a->timeout_ms, &until))
			break;
	if (a->dead) {
		if (e)
			*e = a->why;
	} else if (a->out.len > OUTPUT_HIGH || a->call_count >= VGPU_AGENT_CALLS_MAX) {
		set_error(e, ETIMEDOUT, "the pod's agent does not take requests: %u calls are open", a->call_count);
	} else if (!(c = new_call(a, r->events))) {
		set_error(e, ENOMEM, "out of memory");
	} else {
		memcpy(r->q.data + r->q.start + offsetof(struct vgpu_agent_frame, call), &c->id, sizeof(c->id));
		wire_put(&a->out, r->q.data + r->q.start, r->q.len);
		agent_wake(a);
	}
	pthread_mutex_unlock(&a->lock);
	wire_free(&r->q);
	return c;
}

int call_wait_end(struct vgpu_agent_call *c, int timeout_ms, struct vgpu_agent_error *e)
{
	struct timespec until = deadline(timeout_ms < 0 ? 0 : timeout_ms);
	int result = 0;

	pthread_mutex_lock(&c->agent->lock);
	while (!c->ended && wait_on(&c->changed, c->agent, timeout_ms, &until))
		;
	if (!c->ended)
		result = set_error(e, ETIMEDOUT, "the pod's agent did not answer within %d ms", timeout_ms);
	else if (c->error.code) {
		result = -1;
		if (e)
			*e = c->error;
	}
	pthread_mutex_unlock(&c->agent->lock);
	return result;
}

int request_ask(struct vgpu_agent *a, struct request *r, int timeout_ms, struct vgpu_agent_call **call, struct vgpu_agent_error *e)
{
	*call = request_send(a, r, e);
	if (!*call)
		return -1;
	if (!call_wait_end(*call, timeout_ms, e))
		return 0;
	vgpu_agent_call_free(*call);
	*call = NULL;
	return -1;
}

int request_do(struct vgpu_agent *a, struct request *r, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c;

	if (request_ask(a, r, a->timeout_ms, &c, e))
		return -1;
	vgpu_agent_call_free(c);
	return 0;
}

struct payload *call_wait_event(struct vgpu_agent_call *c, int timeout_ms, struct vgpu_agent_error *e)
{
	struct timespec until = deadline(timeout_ms < 0 ? 0 : timeout_ms);
	struct payload *p = NULL;

	pthread_mutex_lock(&c->agent->lock);
	while (!c->events && !c->ended && wait_on(&c->changed, c->agent, timeout_ms, &until))
		;
	if (c->events) {
		p = c->events;
		c->events = p->next;
		if (!c->events)
			c->events_end = &c->events;
		c->event_count--;
		p->next = NULL;
	} else if (!c->ended) {
		set_error(e, ETIMEDOUT, "nothing came from the pod's agent within %d ms", timeout_ms);
	} else if (e) {
		*e = c->error;
	}
	pthread_mutex_unlock(&c->agent->lock);
	return p;
}

/* ---- Streams */

ssize_t vgpu_agent_read(struct vgpu_agent_call *c, int *stream, void *buf, size_t len, int timeout_ms, struct vgpu_agent_error *e)
{
	struct timespec until = deadline(timeout_ms < 0 ? 0 : timeout_ms);
	struct vgpu_agent *a = c->agent;
	ssize_t result = -1;

	pthread_mutex_lock(&a->lock);
	for (;;) {
		struct stream *s = c->streams[1].data.len ? &c->streams[1] : &c->streams[2];

		if (s->data.len) {
			size_t n = s->data.len < len ? s->data.len : len;
			uint64_t held;

			memcpy(buf, s->data.data + s->data.start, n);
			wire_drop(&s->data, n);
			*stream = s - c->streams;
			held = s->data.len;
			/* Given back in large pieces: one credit for every half of a window. */
			if (!s->ended && !c->ended && s->allowed + held <= VGPU_AGENT_WINDOW - CREDIT_AT) {
				uint32_t credit = VGPU_AGENT_WINDOW - s->allowed - held;

				s->allowed += credit;
				wire_credit(&a->out, c->id, *stream, credit);
				agent_wake(a);
			}
			result = n;
			break;
		}
		if (c->ended || (c->streams[1].ended && c->streams[2].ended)) {
			result = c->ended && c->error.code ? -1 : 0;
			if (result && e)
				*e = c->error;
			break;
		}
		if (!wait_on(&c->changed, a, timeout_ms, &until)) {
			set_error(e, ETIMEDOUT, "nothing came within %d ms", timeout_ms);
			break;
		}
	}
	pthread_mutex_unlock(&a->lock);
	return result;
}

ssize_t vgpu_agent_write(struct vgpu_agent_call *c, const void *buf, size_t len, int timeout_ms, struct vgpu_agent_error *e)
{
	struct timespec until = deadline(timeout_ms < 0 ? 0 : timeout_ms);
	struct vgpu_agent *a = c->agent;
	const uint8_t *p = buf;
	size_t left = len;
	int result = 0;

	pthread_mutex_lock(&a->lock);
	while (left && !result) {
		size_t n = left < VGPU_AGENT_DATA_MAX ? left : VGPU_AGENT_DATA_MAX;

		if (n > c->credit)
			n = c->credit;
		if (c->ended || c->input_closed) {
			result = set_error(e, EPIPE, c->ended ? "the call has ended" : "the input was closed");
		} else if (!n || a->out.len > OUTPUT_HIGH) {
			if (!wait_on(n ? &a->room : &c->changed, a, timeout_ms, &until))
				result = set_error(e, ETIMEDOUT, "the pod did not take its input within %d ms", timeout_ms);
		} else {
			wire_frame(&a->out, c->id, VGPU_AGENT_DATA, 0, p, n);
			c->credit -= n;
			agent_wake(a);
			p += n;
			left -= n;
		}
	}
	pthread_mutex_unlock(&a->lock);
	return result ? -1 : (ssize_t)len;
}

static int send_small(struct vgpu_agent_call *c, uint16_t type, const void *data, size_t len, struct vgpu_agent_error *e)
{
	int result = 0;

	pthread_mutex_lock(&c->agent->lock);
	if (c->ended) {
		result = set_error(e, EPIPE, "the call has ended");
	} else {
		wire_frame(&c->agent->out, c->id, type, 0, data, len);
		agent_wake(c->agent);
	}
	pthread_mutex_unlock(&c->agent->lock);
	return result;
}

int vgpu_agent_close_input(struct vgpu_agent_call *c, struct vgpu_agent_error *e)
{
	bool closed;

	pthread_mutex_lock(&c->agent->lock);
	closed = c->input_closed;
	c->input_closed = true;
	pthread_mutex_unlock(&c->agent->lock);
	return closed ? 0 : send_small(c, VGPU_AGENT_END, NULL, 0, e);
}

int vgpu_agent_resize(struct vgpu_agent_call *c, uint16_t rows, uint16_t columns, struct vgpu_agent_error *e)
{
	uint16_t size[2] = { rows, columns };

	return send_small(c, VGPU_AGENT_RESIZE, size, sizeof(size), e);
}

static bool has_ended(struct vgpu_agent_call *c)
{
	bool ended;

	pthread_mutex_lock(&c->agent->lock);
	ended = c->ended;
	pthread_mutex_unlock(&c->agent->lock);
	return ended;
}

int vgpu_agent_finish(struct vgpu_agent_call *c, struct vgpu_agent_exit *exit, int timeout_ms, struct vgpu_agent_error *e)
{
	struct timespec until = deadline(timeout_ms < 0 ? 0 : timeout_ms);
	struct vgpu_agent_error error = { 0 };
	char dropped[4096];
	int stream;

	/* The agent ends the call when its output was taken. */
	while (!has_ended(c)) {
		struct timespec now;
		int left = -1;
		ssize_t n;

		if (timeout_ms >= 0) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			left = (until.tv_sec - now.tv_sec) * 1000 + (until.tv_nsec - now.tv_nsec) / 1000000;
			if (left < 0)
				left = 0;
		}
		n = vgpu_agent_read(c, &stream, dropped, sizeof(dropped), left, &error);
		if (n > 0)
			continue;
		if (n < 0 && error.code == ETIMEDOUT)
			return set_error(e, ETIMEDOUT, "the process did not end within %d ms", timeout_ms);
		if (call_wait_end(c, left, e))
			return -1;
	}
	if (call_wait_end(c, 0, e))
		return -1;
	return exit ? parse_reply_exit(c, exit, e) : 0;
}

void vgpu_agent_call_free(struct vgpu_agent_call *c)
{
	struct vgpu_agent *a;

	if (!c)
		return;
	a = c->agent;
	pthread_mutex_lock(&a->lock);
	if (c->ended) {
		call_destroy(c);
	} else {
		c->abandoned = true;
		wire_frame(&a->out, c->id, VGPU_AGENT_CANCEL, 0, NULL, 0);
		agent_wake(a);
	}
	pthread_mutex_unlock(&a->lock);
}
