// SPDX-License-Identifier: Apache-2.0
/* The ring by itself: wrapping at every place, lies of the peer, two threads. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "../internal.h"
#include "tap.h"

#define SIZE	4096

struct pair {
	struct idm_ring ring;
	unsigned char data[SIZE];
	struct idm_queue tx, rx;
};

static void reset(struct pair *p, uint32_t start)
{
	memset(p, 0, sizeof(*p));
	idm_queue_init(&p->tx, &p->ring, p->data, SIZE);
	idm_queue_init(&p->rx, &p->ring, p->data, SIZE);
	p->ring.prod = p->ring.cons = start;
	p->tx.pos = p->tx.told = p->tx.peer = start;
	p->rx.pos = p->rx.told = p->rx.peer = start;
}

static void put(struct pair *p, uint64_t seq, const void *payload, uint32_t len)
{
	struct idm_header h = { .magic = IDM_MAGIC, .version = IDM_VERSION, .type = 1, .src_zone = 5, .dst_zone = 0,
				.seq = seq, .payload_len = len };

	idm_queue_write(&p->tx, p->tx.pos, &h, sizeof(h));
	idm_queue_write(&p->tx, p->tx.pos + sizeof(h), payload, len);
	p->tx.pos += idm_message_size(len);
	idm_queue_publish(&p->tx);
}

static bool get(struct pair *p, uint64_t seq, const void *payload, uint32_t len)
{
	unsigned char buf[SIZE];
	struct idm_header h;
	int n = idm_queue_readable(&p->rx);

	if (n < (int)idm_message_size(len) || idm_queue_header(&p->rx, n, 5, 0, &h) || h.seq != seq ||
	    h.payload_len != len)
		return false;
	idm_queue_read(&p->rx, p->rx.pos + sizeof(h), buf, len);
	p->rx.pos += idm_message_size(len);
	idm_queue_release(&p->rx);
	return !memcmp(buf, payload, len);
}

static void wraps_everywhere(struct pair *p)
{
	static const uint32_t lens[] = { 0, 1, 15, 16, 17, 100, 1000, SIZE - 32 };
	unsigned char payload[SIZE];
	bool good = true;

	for (int i = 0; i < SIZE; i++)
		payload[i] = i * 7 + (i >> 8);
	for (uint32_t at = 0; at < SIZE; at += IDM_ALIGN)
		for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
			reset(p, at);
			put(p, at + 1, payload, lens[i]);
			good &= get(p, at + 1, payload, lens[i]);
			/* and across the end of the index itself */
			reset(p, 0u - SIZE + at);
			put(p, 1, payload, lens[i]);
			if (lens[i] + 96 < SIZE)
				put(p, 2, payload, 9);
			good &= get(p, 1, payload, lens[i]) && (lens[i] + 96 >= SIZE || get(p, 2, payload, 9));
		}
	ok(good, "a message survives at every start in the ring, also across its end");

	good = true;
	reset(p, 0xffffff00u);
	for (int i = 0; i < 1000; i++) {
		put(p, i + 1, payload, i % 900);
		good &= get(p, i + 1, payload, i % 900);
	}
	ok(good, "indices run through 2^32");
}

static void lies_are_seen(struct pair *p)
{
	struct idm_header h;
	unsigned char *raw = p->data;
	static const uint32_t bad[] = { 1, 8, 15, SIZE + 16, SIZE * 2, 0x80000000u, 0xfffffff0u };
	bool good = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		reset(p, 64);
		p->ring.prod = 64 + bad[i];
		good &= idm_queue_readable(&p->rx) == -1;
		reset(p, 64);
		p->ring.cons = 64 - bad[i];
		if (bad[i] == 0xfffffff0u)	/* ahead of the producer */
			p->ring.cons = 64 + 16;
		good &= idm_queue_room(&p->tx) == -1;
	}
	ok(good, "an index beyond the ring or off its grid is a fault");
	reset(p, 0);
	p->ring.prod = SIZE;
	ok(idm_queue_readable(&p->rx) == SIZE, "a full ring is none");

	reset(p, 0);
	put(p, 1, "x", 1);
	ok(idm_queue_header(&p->rx, 16, 5, 0, &h) == IDM_FAULT_LENGTH, "half a header is a fault");
	ok(idm_queue_header(&p->rx, 32, 5, 0, &h) == IDM_FAULT_LENGTH, "a payload that was not published is a fault");
	ok(!idm_queue_header(&p->rx, 48, 5, 0, &h), "the message itself is good");
	ok(idm_queue_header(&p->rx, 48, 6, 0, &h) == IDM_FAULT_SOURCE, "a forged source zone is a fault");
	ok(idm_queue_header(&p->rx, 48, 5, 1, &h) == IDM_FAULT_DESTINATION, "a wrong destination is a fault");
	raw[0] ^= 1;
	ok(idm_queue_header(&p->rx, 48, 5, 0, &h) == IDM_FAULT_MAGIC, "wrong magic is a fault");
	raw[0] ^= 1;
	raw[4] ^= 1;
	ok(idm_queue_header(&p->rx, 48, 5, 0, &h) == IDM_FAULT_VERSION, "wrong version is a fault");
	raw[4] ^= 1;
	memset(raw + 24, 0xff, 4);
	ok(idm_queue_header(&p->rx, SIZE, 5, 0, &h) == IDM_FAULT_LENGTH, "a length of 4 GiB is a fault");
}

/* Two threads over the same memory, without sleeping: what ThreadSanitizer is for. */
#define MESSAGES 200000

static void *produce(void *arg)
{
	struct pair *p = arg;
	unsigned char payload[256];

	for (uint32_t i = 0; i < MESSAGES; i++) {
		uint32_t len = i % 200;

		memset(payload, i, len);
		while (idm_queue_room(&p->tx) < (int)idm_message_size(len))
			sched_yield();
		put(p, i + 1, payload, len);
	}
	return NULL;
}

static void two_threads(struct pair *p)
{
	unsigned char buf[256];
	struct idm_header h;
	uint64_t next = 1;
	bool good = true;
	pthread_t t;

	reset(p, 0xffff0000u);
	pthread_create(&t, NULL, produce, p);
	while (good && next <= MESSAGES) {
		int n = idm_queue_readable(&p->rx);

		good = n >= 0;
		if (!n)
			sched_yield();
		while (good && n > 0) {
			good = !idm_queue_header(&p->rx, n, 5, 0, &h) && h.seq == next && h.payload_len == (next - 1) % 200;
			if (!good)
				break;
			idm_queue_read(&p->rx, p->rx.pos + sizeof(h), buf, h.payload_len);
			for (uint32_t i = 0; i < h.payload_len; i++)
				good &= buf[i] == (unsigned char)(next - 1);
			p->rx.pos += idm_message_size(h.payload_len);
			n -= idm_message_size(h.payload_len);
			next++;
		}
		idm_queue_release(&p->rx);
	}
	ok(good, "%d messages between two threads arrive whole and in order", MESSAGES);
	if (good)
		pthread_join(t, NULL);
}

int main(void)
{
	struct pair *p = malloc(sizeof(*p));

	wraps_everywhere(p);
	lies_are_seen(p);
	two_threads(p);
	free(p);
	return tap_done();
}
