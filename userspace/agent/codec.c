// SPDX-License-Identifier: Apache-2.0
/* Frames and attributes: see codec.h. */
#include <stdlib.h>
#include <string.h>

#include "codec.h"

/* ---- Bytes */

void *wire_space(struct wire_queue *q, size_t len)
{
	if (q->failed)
		return NULL;
	if (q->start + q->len + len > q->size) {
		if (q->start && q->len)
			memmove(q->data, q->data + q->start, q->len);
		q->start = 0;
		if (q->len + len > q->size) {
			size_t size = (q->len + len) * 2 < 4096 ? 4096 : (q->len + len) * 2;
			uint8_t *data = realloc(q->data, size);

			if (!data) {
				q->failed = true;
				return NULL;
			}
			q->data = data;
			q->size = size;
		}
	}
	return q->data + q->start + q->len;
}

void wire_added(struct wire_queue *q, size_t len)
{
	q->len += len;
}

void wire_put(struct wire_queue *q, const void *data, size_t len)
{
	void *to = wire_space(q, len);

	if (!to)
		return;
	if (len)
		memcpy(to, data, len);
	q->len += len;
}

void wire_drop(struct wire_queue *q, size_t len)
{
	q->start += len;
	q->len -= len;
	if (q->len)
		return;
	q->start = 0;
	/* One large frame does not hold its memory for the life of a connection. */
	if (q->size > 4 * VGPU_AGENT_DATA_MAX) {
		free(q->data);
		q->data = NULL;
		q->size = 0;
	}
}

void wire_free(struct wire_queue *q)
{
	free(q->data);
	memset(q, 0, sizeof(*q));
}

/* ---- Writing */

/* Offsets count from the first byte of the queue, whose place in memory moves. */
size_t wire_begin(struct wire_queue *q, uint32_t call, uint16_t type, uint16_t stream)
{
	struct vgpu_agent_frame frame = { .call = call, .type = type, .stream = stream };
	size_t begun = q->len;

	wire_put(q, &frame, sizeof(frame));
	return begun;
}

void wire_end(struct wire_queue *q, size_t begun)
{
	size_t length = q->len - begun - sizeof(struct vgpu_agent_frame);
	uint32_t value = length;

	if (q->failed)
		return;
	if (length > VGPU_AGENT_REQUEST_MAX) {
		q->failed = true;
		return;
	}
	memcpy(q->data + q->start + begun + offsetof(struct vgpu_agent_frame, length), &value, sizeof(value));
}

void wire_abandon(struct wire_queue *q, size_t begun)
{
	q->len = begun;
	q->failed = false;
}

void wire_bytes(struct wire_queue *q, uint16_t type, const void *value, size_t len)
{
	struct vgpu_agent_attr attr = { .type = type, .length = len };

	if (len > VGPU_AGENT_REQUEST_MAX) {
		q->failed = true;
		return;
	}
	wire_put(q, &attr, sizeof(attr));
	wire_put(q, value, len);
}

void wire_u32(struct wire_queue *q, uint16_t attr, uint32_t value)
{
	wire_bytes(q, attr, &value, sizeof(value));
}

void wire_u64(struct wire_queue *q, uint16_t attr, uint64_t value)
{
	wire_bytes(q, attr, &value, sizeof(value));
}

void wire_string(struct wire_queue *q, uint16_t attr, const char *value)
{
	wire_bytes(q, attr, value, strlen(value) + 1);
}

size_t wire_nest(struct wire_queue *q, uint16_t type)
{
	struct vgpu_agent_attr attr = { .type = type };
	size_t begun = q->len;

	wire_put(q, &attr, sizeof(attr));
	return begun;
}

void wire_nest_end(struct wire_queue *q, size_t begun)
{
	uint32_t length = q->len - begun - sizeof(struct vgpu_agent_attr);

	if (!q->failed)
		memcpy(q->data + q->start + begun + offsetof(struct vgpu_agent_attr, length), &length, sizeof(length));
}

void wire_frame(struct wire_queue *q, uint32_t call, uint16_t type, uint16_t stream, const void *data, size_t len)
{
	size_t begun = wire_begin(q, call, type, stream);

	wire_put(q, data, len);
	wire_end(q, begun);
}

void wire_credit(struct wire_queue *q, uint32_t call, uint16_t stream, uint32_t bytes)
{
	wire_frame(q, call, VGPU_AGENT_CREDIT, stream, &bytes, sizeof(bytes));
}

void wire_error(struct wire_queue *q, uint32_t call, int code, const char *text)
{
	size_t begun = wire_begin(q, call, VGPU_AGENT_ERROR, 0);

	wire_u32(q, VGPU_AGENT_A_CODE, code);
	wire_string(q, VGPU_AGENT_A_TEXT, text);
	wire_end(q, begun);
}

/* ---- Reading */

/* Some words each; a host keeps many until they are fetched. */
#define EVENT_MAX	4096u

/* The longest payload that @sender may send in a frame of this type, and the shortest; false: it may not send it at all. */
static bool frame_limits(enum wire_sender sender, uint16_t type, uint32_t *min, uint32_t *max)
{
	*min = 0;
	*max = 0;
	switch (type) {
	case VGPU_AGENT_DATA:
		*min = 1;
		*max = VGPU_AGENT_DATA_MAX;
		return true;
	case VGPU_AGENT_END:
		return true;
	case VGPU_AGENT_CREDIT:
		*min = *max = sizeof(uint32_t);
		return true;
	case VGPU_AGENT_RESIZE:
		*min = *max = 2 * sizeof(uint16_t);
		return sender == WIRE_HOST;
	case VGPU_AGENT_CANCEL:
		return sender == WIRE_HOST;
	case VGPU_AGENT_EVENT:
		*max = EVENT_MAX;
		return sender == WIRE_AGENT;
	case VGPU_AGENT_REPLY:
	case VGPU_AGENT_ERROR:
		*max = VGPU_AGENT_ANSWER_MAX;
		return sender == WIRE_AGENT;
	default:
		*max = VGPU_AGENT_REQUEST_MAX;
		return sender == WIRE_HOST && type && type < VGPU_AGENT_REQUESTS_END;
	}
}

/* Streams 1 and 2 carry data from the agent, stream 0 to it; credit goes the other way. */
static bool stream_ok(enum wire_sender sender, const struct vgpu_agent_frame *f)
{
	bool towards_pod = (sender == WIRE_HOST) != (f->type == VGPU_AGENT_CREDIT);

	switch (f->type) {
	case VGPU_AGENT_DATA:
	case VGPU_AGENT_END:
	case VGPU_AGENT_CREDIT:
		return towards_pod ? f->stream == 0 : f->stream == 1 || f->stream == 2;
	default:
		return f->stream == 0;
	}
}

int wire_next_frame(struct wire_queue *q, enum wire_sender sender, struct vgpu_agent_frame *frame, const uint8_t **payload,
		    const char **why)
{
	uint32_t min, max;

	if (q->failed) {
		*why = "out of memory";
		return -1;
	}
	if (q->len < sizeof(*frame))
		return 0;
	memcpy(frame, q->data + q->start, sizeof(*frame));
	if (!frame_limits(sender, frame->type, &min, &max)) {
		*why = "a frame of a type that it may not send";
		return -1;
	}
	if (frame->length < min || frame->length > max) {
		*why = "a frame of a length that its type does not have";
		return -1;
	}
	if (!frame->call || !stream_ok(sender, frame)) {
		*why = "a frame for a call or stream that there cannot be";
		return -1;
	}
	if (q->len - sizeof(*frame) < frame->length)
		return 0;
	*payload = q->data + q->start + sizeof(*frame);
	return 1;
}

struct wire_reader wire_reader(const void *data, size_t len)
{
	return (struct wire_reader){ .at = data, .end = (const uint8_t *)data + len };
}

int wire_next(struct wire_reader *r, struct wire_attr *a)
{
	struct vgpu_agent_attr attr;

	if (r->at == r->end)
		return 0;
	if ((size_t)(r->end - r->at) < sizeof(attr))
		return -1;
	memcpy(&attr, r->at, sizeof(attr));
	if (attr.zero || attr.length > (size_t)(r->end - r->at) - sizeof(attr))
		return -1;
	a->type = attr.type;
	a->length = attr.length;
	a->value = r->at + sizeof(attr);
	r->at = a->value + attr.length;
	return 1;
}

bool wire_get_u32(const struct wire_attr *a, uint32_t *value)
{
	if (a->length != sizeof(*value))
		return false;
	memcpy(value, a->value, sizeof(*value));
	return true;
}

bool wire_get_u64(const struct wire_attr *a, uint64_t *value)
{
	if (a->length != sizeof(*value))
		return false;
	memcpy(value, a->value, sizeof(*value));
	return true;
}

bool wire_get_string(const struct wire_attr *a, const char **value)
{
	if (!a->length || memchr(a->value, 0, a->length) != a->value + a->length - 1)
		return false;
	*value = (const char *)a->value;
	return true;
}

struct wire_reader wire_get_nest(const struct wire_attr *a)
{
	return wire_reader(a->value, a->length);
}

bool wire_name_ok(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > VGPU_AGENT_NAME_MAX || name[0] == '.')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}
