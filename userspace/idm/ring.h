/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of a session: indices and copies over shared memory, and nothing else. No waiting, no system calls,
 * no transport: the same source builds in userspace, in the kernel and under a fuzzer.
 *
 * A queue belongs to one side. Its own index, and the last plausible value of the peer's, are kept here in private
 * memory; what stands in struct idm_ring is only how the two sides tell each other.
 */
#ifndef IDM_RING_H
#define IDM_RING_H

#ifdef __KERNEL__
#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/string.h>
#else
#include <string.h>
#endif

#include "idm.h"

#ifdef __KERNEL__
#define idm_load_acquire(p)	smp_load_acquire(p)
/* Publish, then order everything after it behind it: see idm_queue_publish(). */
#define idm_store_full(p, v)	smp_store_mb(*(p), v)
#else
#define idm_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define idm_store_full(p, v)	((void)__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST))
#endif

/**
 * struct idm_queue - one side's view of one ring.
 * @ring: the shared indices
 * @data: the shared bytes
 * @size: of @data, a power of two
 * @pos:  own index: bytes written by a producer, bytes read by a consumer
 * @told: value of @pos that the peer has been told
 * @peer: last value of the peer's index that passed the checks
 */
struct idm_queue {
	struct idm_ring *ring;
	unsigned char *data;
	__u32 size;
	__u32 pos;
	__u32 told;
	__u32 peer;
};

/* What can be wrong with what the peer wrote. */
enum idm_fault {
	IDM_FAULT_NONE,
	IDM_FAULT_INDEX,	/* an index outside the ring, or not a multiple of IDM_ALIGN */
	IDM_FAULT_MAGIC,
	IDM_FAULT_VERSION,
	IDM_FAULT_LENGTH,	/* payload above IDM_PAYLOAD_MAX, or beyond what was published */
	IDM_FAULT_SOURCE,	/* a forged source zone */
	IDM_FAULT_DESTINATION,
};

/** Bytes that a message with @len bytes of payload takes in the ring. @len is at most IDM_PAYLOAD_MAX. */
static inline __u32 idm_message_size(__u32 len)
{
	return (sizeof(struct idm_header) + len + IDM_ALIGN - 1) & ~(__u32)(IDM_ALIGN - 1);
}

void idm_queue_init(struct idm_queue *q, struct idm_ring *ring, void *data, __u32 size);

/** Consumer: look at the producer's index. @return bytes readable, or -1: the index is a lie. */
int idm_queue_readable(struct idm_queue *q);

/** Producer: look at the consumer's index. @return bytes of room, or -1: the index is a lie. */
int idm_queue_room(struct idm_queue *q);

/** Copy @len bytes out of or into the ring at index @at; the caller has checked that they are there. */
void idm_queue_read(const struct idm_queue *q, __u32 at, void *to, __u32 len);
void idm_queue_write(struct idm_queue *q, __u32 at, const void *from, __u32 len);

/**
 * Copy the header at @q->pos out and check it. @readable: what idm_queue_readable() said, not 0.
 * @src, @dst: the only zones accepted.
 */
enum idm_fault idm_queue_header(const struct idm_queue *q, __u32 readable, __u32 src, __u32 dst,
				struct idm_header *h);

/*
 * Tell the peer @q->pos. The full barrier in here is the first half of the sleeping protocol of idm.h: the index
 * must be visible before the caller looks at the peer's `sleeping`. Its partner is in wait.c, where a side sets
 * `sleeping` before it looks at the index for the last time.
 */
static inline void idm_queue_publish(struct idm_queue *q)
{
	q->told = q->pos;
	idm_store_full(&q->ring->prod, q->pos);
}

static inline void idm_queue_release(struct idm_queue *q)
{
	q->told = q->pos;
	idm_store_full(&q->ring->cons, q->pos);
}

#endif /* IDM_RING_H */
