/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two clients that speak to their workers in raw messages, below the shim, since what the shim refuses proves
 * nothing about the worker.
 *
 *	isolation victim	owns one object of every kind, tells their handles and addresses on stdout, and when a
 *				line comes on stdin checks that all of it is unharmed
 *	isolation attacker	reads the victim's list on stdin and tries everything with it; `isolation attacker neighbour`
 *				is in the victim's own zone, where its tokens are good
 *	isolation scavenger	looks for what the victim left behind in device memory and arena
 */
#ifndef ISOLATION_H
#define ISOLATION_H

#include "cuda_wire.h"
#include "libidm.h"

#include "../cuda/tap.h"

#define SECRET "the victim's own secret, 32 bytes"	/* 33 with the NUL, which is not written */
#define SECRET_LEN 32
#define VICTIM_BYTES (1 << 20)

#define KINDS_MAX 8
enum kind { STREAM, EVENT, MODULE, LIBRARY, FUNCTION, KERNEL, CTX, KINDS };
extern const struct kind_info {
	const char *name;
	enum vgpu_handle_type type;
} kinds[KINDS];

/* session.c */
extern struct idm_client *client;

/** struct own - the objects of this session, one of each kind, and its device memory. */
struct own {
	uint64_t handle[KINDS];
	uint64_t memory, memory_size;
	uint64_t counter;	/* address of the kernel's counter */
};

void session_open(void);

/**
 * Ask for a call whose arguments are @n 64-bit words, with @ctx as current context.
 * @return 0 done, 1 refused (an error reply), -1 the session has ended
 */
int ask(uint16_t type, uint64_t ctx, void *reply, size_t reply_size, int n, const uint64_t *args);

/** ask() with any payload behind struct vgpu_call. */
int ask_payload(uint16_t type, const void *payload, size_t size, const void *more, size_t more_size, void *reply,
		size_t reply_size);

/** Create one object of each kind with generation @gen and @bytes of device memory; bails out if that fails. */
void own_create(struct own *own, uint32_t gen, uint64_t bytes);

int launch(uint64_t ctx, uint64_t function, uint64_t stream);
int copy_in(uint64_t dst, const void *data, size_t size);
int copy_out(void *data, uint64_t src, size_t size);
int get_named(uint16_t type, uint64_t parent, uint64_t handle, const char *name, void *reply, size_t reply_size);

/* token.c */
#define TOKENS 5
struct token {
	bool there;
	uint8_t bytes[VGPU_IPC_BYTES];
};

/** Export one of each kind, @memory among them, and print their tokens. */
void tokens_tell(uint64_t memory, uint32_t gen);

/** A line of the victim's with a token? @t: TOKENS of them */
bool token_heard(const char *line, struct token *t);

/** @neighbour: in the victim's zone */
void tokens_try(const struct token *t, bool neighbour);

/* attacker.c */
int attacker(bool neighbour);
int scavenger(void);

#endif /* ISOLATION_H */
