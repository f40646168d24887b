/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that keeps to no rule, over a session's bare memory, and a neighbour that keeps to all of them. After every
 * attack the attacker's session has ended with a reason that names it, or the call has been refused; and the neighbour
 * still computes.
 *
 * Files: raw.c (a session without libidm's client), neighbour.c, rings.c (what stands in the rings), calls.c (what
 * stands in well-formed messages), shown.c (host memory that is mapped), fuzz.c (chance).
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cuda_wire.h"
#include "internal.h"

/** struct raw - one session, seen as memory. */
struct raw {
	struct idm_layout l;
	struct idm_session *page;
	unsigned char *request, *reply;
	uint32_t prod, cons;	/* own counts: of the request ring written, of the reply ring read */
	uint64_t seq, received;	/* of the newest request, and of the newest reply */
};

bool raw_open(struct raw *r, bool hello);
void raw_close(struct raw *r);

struct idm_header raw_header(struct raw *r, uint16_t type, uint32_t flags, uint32_t len);

/** Write bytes at the producer's place, wherever that is in the ring, and go on behind them. Nothing is checked. */
void raw_write(struct raw *r, const void *data, size_t len);
void raw_align(struct raw *r);

/** Let the worker see what was written, and wake it. */
void raw_publish(struct raw *r);

/** A whole message, published. */
void raw_send(struct raw *r, uint16_t type, uint32_t flags, const void *payload, size_t len);

/** The next reply. @return 1; 0 none within @ms; -1 the session is over */
int raw_receive(struct raw *r, struct idm_response *out, void *results, size_t cap, int ms);

int raw_receive_seq(struct raw *r, struct idm_response *out, uint64_t *seq);

/** Send and receive. @return as raw_receive() */
int raw_call(struct raw *r, uint16_t type, const void *payload, size_t len, struct idm_response *out, void *results,
	     size_t cap);

/** Wait for the end, and for a reason that contains @word. */
bool raw_ended(struct raw *r, const char *word);
const char *raw_reason(struct raw *r);

/** Retain the primary context of device 0. */
bool raw_context(struct raw *r);
#define RAW_CALL { .ctx = VGPU_PRIMARY_CTX(0), .thread = 1 }

/** A call's result, CUDA's or what latched, sent with an answer wanted so that a refusal is seen at once. @return -1: no answer */
int raw_result(struct raw *r, uint16_t type, const void *q, size_t len);

/** The arena as the transport lent it; without this the local one has none yet, and every offset is outside. */
bool raw_use_arena(struct raw *r);

/** Device memory. @return its address or 0 */
uint64_t raw_alloc(struct raw *r, uint64_t size);

/** A handle that the attacker has chosen for an object of its own. */
#define MINE(type, index) VGPU_HANDLE(0x51, VGPU_H_##type, index)

/* neighbour.c */
bool neighbour_open(void);
bool neighbour_well(void);
/** Its handles and address, for attackers who have learnt them. */
uint64_t neighbour_stream(void), neighbour_event(void), neighbour_memory(void);

/* hostile.c: one attack, with its outcome and the neighbour's health. */
void report(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void attack_rings(void);
void attack_calls(void);
void attack_shown(void);
void attack_by_chance(unsigned int sessions);

#endif /* HOSTILE_H */
