// SPDX-License-Identifier: Apache-2.0
/* Ring indices and copies. Everything in struct idm_ring and behind q->data may change at any time. */
#include "ring.h"

/* The compiler must not fetch from shared memory again what has been copied out of it. */
#define idm_copied() __asm__ __volatile__("" ::: "memory")

void idm_queue_init(struct idm_queue *q, struct idm_ring *ring, void *data, __u32 size)
{
	q->ring = ring;
	q->data = data;
	q->size = size;
	q->pos = 0;
	q->told = 0;
	q->peer = 0;
}

int idm_queue_readable(struct idm_queue *q)
{
	/* Acquire: the bytes before the index are read after it. Partner: idm_queue_publish(). */
	__u32 prod = idm_load_acquire(&q->ring->prod);
	__u32 n = prod - q->pos;

	if (n > q->size || n % IDM_ALIGN)
		return -1;
	q->peer = prod;
	return (int)n;
}

int idm_queue_room(struct idm_queue *q)
{
	/* Acquire: bytes are overwritten only after the consumer said it has them. Partner: idm_queue_release(). */
	__u32 cons = idm_load_acquire(&q->ring->cons);
	__u32 used = q->pos - cons;

	if (used > q->size || used % IDM_ALIGN)
		return -1;
	q->peer = cons;
	return (int)(q->size - used);
}

void idm_queue_read(const struct idm_queue *q, __u32 at, void *to, __u32 len)
{
	__u32 off = at & (q->size - 1);
	__u32 first = q->size - off < len ? q->size - off : len;

	if (!len)
		return;
	memcpy(to, q->data + off, first);
	if (first < len)
		memcpy((unsigned char *)to + first, q->data, len - first);
	idm_copied();
}

void idm_queue_write(struct idm_queue *q, __u32 at, const void *from, __u32 len)
{
	__u32 off = at & (q->size - 1);
	__u32 first = q->size - off < len ? q->size - off : len;

	if (!len)
		return;
	memcpy(q->data + off, from, first);
	if (first < len)
		memcpy(q->data, (const unsigned char *)from + first, len - first);
}

enum idm_fault idm_queue_header(const struct idm_queue *q, __u32 readable, __u32 src, __u32 dst,
				struct idm_header *h)
{
	if (readable < sizeof(*h))
		return IDM_FAULT_LENGTH;
	idm_queue_read(q, q->pos, h, sizeof(*h));
	if (h->magic != IDM_MAGIC)
		return IDM_FAULT_MAGIC;
	if (h->version != IDM_VERSION)
		return IDM_FAULT_VERSION;
	if (h->payload_len > IDM_PAYLOAD_MAX || idm_message_size(h->payload_len) > readable)
		return IDM_FAULT_LENGTH;
	if (h->src_zone != src)
		return IDM_FAULT_SOURCE;
	if (h->dst_zone != dst)
		return IDM_FAULT_DESTINATION;
	return IDM_FAULT_NONE;
}
