/* SPDX-License-Identifier: Apache-2.0 */
/* A fixed sequence of mutations: a failure comes again with the same seed. */
#ifndef AGENT_MUTATE_H
#define AGENT_MUTATE_H

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "codec.h"

static _Thread_local uint64_t mutate_state = 1;

static inline uint32_t chance(uint32_t n)
{
	mutate_state = mutate_state * 6364136223846793005ull + 1442695040888963407ull;
	return (mutate_state >> 33) % n;
}

static inline double mutate_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Values that have broken parsers before. */
static inline uint32_t nasty(void)
{
	static const uint32_t values[] = { 0, 1, 2, 3, 7, 8, 12, 0x7f, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x100000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff };

	return values[chance(sizeof(values) / sizeof(values[0]))];
}

/* Bytes are changed, lengths are, a piece is cut out or said twice. */
static inline void mutate(struct wire_queue *q)
{
	for (uint32_t i = 1 + chance(4); i && q->len; i--) {
		uint8_t *data = q->data + q->start;
		uint32_t at = chance(q->len), len, value = nasty();

		switch (chance(6)) {
		case 0:
			data[at] ^= 1 << chance(8);
			break;
		case 1:
			data[at] = nasty();
			break;
		case 2:
		case 3:
			at &= ~3u;
			if (at + 4 <= q->len)
				memcpy(data + at, &value, 4);
			break;
		case 4:
			len = 1 + chance(32);
			if (at + len < q->len) {
				memmove(data + at, data + at + len, q->len - at - len);
				q->len -= len;
			}
			break;
		case 5:
			len = 1 + chance(64);
			if (at + len <= q->len) {
				uint8_t copy[64];

				memcpy(copy, data + at, len);
				wire_put(q, copy, len);
			}
			break;
		}
	}
}

#endif /* AGENT_MUTATE_H */
