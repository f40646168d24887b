/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the lab speaks between host and dom0: "run this program there", as frames on a byte stream.
 *
 *	host  --virtio-serial-->  agent in dom0
 *
 * From dom0 on it is the product's own protocol (vgpu-agentctl, vgpu-init).
 *
 * Little endian, 12 bytes of header, then @len bytes. @id names one program of one connection. The same in
 * scripts/lab/remote.py.
 */
#ifndef LAB_FRAMES_H
#define LAB_FRAMES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MAX	32768	/* payload; keeps one stream from holding up the others for long */

enum frame_type {
	/* to the agent */
	FRAME_RUN = 1,		/* struct frame_run, then argv, environment and directory as NUL-terminated strings */
	FRAME_STDIN,		/* data */
	FRAME_STDIN_END,
	FRAME_SIGNAL,		/* uint32_t number, to the whole process group */
	/* from the agent */
	FRAME_STDOUT = 16,
	FRAME_STDERR,
	FRAME_EXIT,		/* uint32_t, as wait() gave it */
	FRAME_HELLO,		/* the agent is there */
};

struct frame {
	uint32_t id;
	uint32_t type;
	uint32_t len;
};

struct frame_run {
	uint32_t tty;		/* 0: three pipes; else rows << 16 | columns of a terminal */
	uint32_t argc;
	uint32_t envc;
};

/* A growing queue of bytes. */
struct queue {
	uint8_t *data;
	size_t start, len, size;
};

static inline void queue_put(struct queue *q, const void *data, size_t len)
{
	if (q->start + q->len + len > q->size) {
		if (q->len)
			memmove(q->data, q->data + q->start, q->len);
		q->start = 0;
		if (q->len + len > q->size) {
			q->size = (q->len + len) * 2;
			q->data = realloc(q->data, q->size);
			if (!q->data)
				abort();
		}
	}
	memcpy(q->data + q->start + q->len, data, len);
	q->len += len;
}

static inline void queue_drop(struct queue *q, size_t len)
{
	q->start += len;
	q->len -= len;
	if (!q->len)
		q->start = 0;
}

static inline void queue_frame(struct queue *q, uint32_t id, uint32_t type, const void *data, uint32_t len)
{
	struct frame f = { .id = id, .type = type, .len = len };

	queue_put(q, &f, sizeof(f));
	if (len)
		queue_put(q, data, len);
}

/* The next whole frame, or NULL. The caller drops sizeof(*f) + f->len bytes when done with it. */
static inline const struct frame *queue_peek(const struct queue *q, struct frame *f)
{
	if (q->len < sizeof(*f))
		return NULL;
	memcpy(f, q->data + q->start, sizeof(*f));
	return q->len - sizeof(*f) >= f->len ? (const struct frame *)(q->data + q->start) : NULL;
}

#endif /* LAB_FRAMES_H */
