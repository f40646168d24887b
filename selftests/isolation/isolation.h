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

/* Every kind of handle that there is (enum vgpu_handle_type). From POOL on, a driver may have none: then there is none to try. */
enum kind {
	STREAM, EVENT, MODULE, LIBRARY, FUNCTION, KERNEL, CTX,
	POOL, ARRAY, MIPMAP, TEXREF, SURFREF, TEXOBJ, SURFOBJ, GRAPH, GRAPHNODE, GRAPHEXEC, LINK, PHYSICAL, RESDESC, GREENCTX,
	USEROBJ, KINDS
};
_Static_assert(KINDS == VGPU_H_TYPES - 1, "a kind of handle is not tried");
extern const struct kind_info {
	const char *name;
	enum vgpu_handle_type type;
} kinds[KINDS];

/* session.c */
extern struct idm_client *client;

/** struct own - the objects of this session, one of each kind, and its device memory. */
struct own {
	uint32_t gen;
	uint64_t handle[KINDS];	/* 0: this driver has no such thing */
	uint64_t memory, memory_size;
	uint64_t counter;	/* address of the kernel's counter */
	uint64_t reserved;	/* address space for physical memory */
	uint64_t text;		/* arena offset of text_size bytes of PTX */
	uint64_t text_size;
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

/* objects.c */

/** The kinds from POOL on, for own_create(). */
void objects_create(struct own *own);

/* Arguments of a probe: H is where the handle under test goes, S, E and M are one's own objects, N… a new one's handle. */
enum { H = -1, S = -2, E = -3, M = -4, RESERVED = -5, TEXT = -6, TEXT_SIZE = -7, NEW_ARRAY = -8, NEW_GRAPH = -9, NEW_GREENCTX = -10, NEW_CTX = -11 };

/** struct probe - one use of a handle; it must work with one's own. @ends: it is the object's end */
struct probe {
	enum kind kind;
	uint16_t type;
	bool ends;
	int n;
	int64_t args[6];
};
extern const struct probe probes[];
extern const size_t nprobes;

/** @return as ask() */
int probe_run(const struct own *own, const struct probe *p, uint64_t handle);

/** All probes that do (not) end the object, each with one's own. */
void probes_work(const struct own *own, bool ends);

/* session.c */
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
