/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames and attributes, built and taken apart: the same code at both ends. x86-64 only, so host order is wire order.
 * Nothing here trusts a length: a reader never looks past its end, a writer refuses what its limit does not allow.
 */
#ifndef VGPU_AGENT_CODEC_H
#define VGPU_AGENT_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "protocol.h"

/* A growing queue of bytes. @failed is sticky: no memory, or more than the frame may hold. Zeroed is empty. */
struct wire_queue {
	uint8_t *data;
	size_t start, len, size;
	bool failed;
};

void wire_put(struct wire_queue *q, const void *data, size_t len);
void wire_drop(struct wire_queue *q, size_t len);
void wire_free(struct wire_queue *q);
/* Room for @len more bytes at the returned place (NULL: no memory); wire_added() then says how many came. */
void *wire_space(struct wire_queue *q, size_t len);
void wire_added(struct wire_queue *q, size_t len);

/* ---- Writing. A frame is begun, filled with attributes or bytes, ended; both return values are for the end. */
size_t wire_begin(struct wire_queue *q, uint32_t call, uint16_t type, uint16_t stream);
void wire_end(struct wire_queue *q, size_t begun);
/* Takes a begun frame back, whatever has failed meanwhile. */
void wire_abandon(struct wire_queue *q, size_t begun);

void wire_u32(struct wire_queue *q, uint16_t attr, uint32_t value);
void wire_u64(struct wire_queue *q, uint16_t attr, uint64_t value);
void wire_string(struct wire_queue *q, uint16_t attr, const char *value);
void wire_bytes(struct wire_queue *q, uint16_t attr, const void *value, size_t len);
size_t wire_nest(struct wire_queue *q, uint16_t attr);
void wire_nest_end(struct wire_queue *q, size_t begun);

/* Whole frames without attributes. */
void wire_frame(struct wire_queue *q, uint32_t call, uint16_t type, uint16_t stream, const void *data, size_t len);
void wire_credit(struct wire_queue *q, uint32_t call, uint16_t stream, uint32_t bytes);
void wire_error(struct wire_queue *q, uint32_t call, int code, const char *text);

/* ---- Reading. */

/* Who sent what is being read; each may send other types, and other lengths of them. */
enum wire_sender { WIRE_HOST, WIRE_AGENT };

/*
 * The next whole frame of @q: 1 and @frame with its payload, which is valid until wire_drop(q, wire_size(frame));
 * 0 if more bytes are needed; -1 if this is no frame that @sender may send (@why says it; the connection is over).
 */
int wire_next_frame(struct wire_queue *q, enum wire_sender sender, struct vgpu_agent_frame *frame, const uint8_t **payload,
		    const char **why);
static inline size_t wire_size(const struct vgpu_agent_frame *frame)
{
	return sizeof(*frame) + frame->length;
}

struct wire_reader {
	const uint8_t *at, *end;
};

struct wire_attr {
	uint16_t type;
	uint32_t length;
	const uint8_t *value;
};

struct wire_reader wire_reader(const void *data, size_t len);
/* 1 and the next attribute, 0 at the end, -1 when malformed. */
int wire_next(struct wire_reader *r, struct wire_attr *a);

/* The value in its type; false if it is not of that type. Strings point into the payload. */
bool wire_get_u32(const struct wire_attr *a, uint32_t *value);
bool wire_get_u64(const struct wire_attr *a, uint64_t *value);
bool wire_get_string(const struct wire_attr *a, const char **value);
struct wire_reader wire_get_nest(const struct wire_attr *a);

/* May this be a process's name? It becomes a file's. */
bool wire_name_ok(const char *name);

#endif /* VGPU_AGENT_CODEC_H */
