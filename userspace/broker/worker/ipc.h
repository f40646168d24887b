/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions share: between ipc.c, which speaks with the broker, and ipc_calls.c, which serves the calls. */
#ifndef WORKER_IPC_H
#define WORKER_IPC_H

#include "worker.h"

/**
 * struct share - something that this session has exported (@own), or imported: memory and pools. @id: the broker's number;
 * @at: address of memory, or the object; @count: how often memory is open. The dispatching thread's alone.
 */
struct share {
	uint64_t id, at;
	uint32_t kind;
	unsigned int count;
	bool own;
	uint8_t token[IPC_TOKEN_BYTES];
	struct share *next;
};

struct share *share_find(uint64_t id);
/** That of a pool; NULL if nobody else has it. */
struct share *share_of_pool(const void *pool);
struct share *share_new(uint64_t id, enum ipc_kind kind, uint64_t at, bool own);

/** The client's 64 bytes for @s. */
void share_token(const struct share *s, void *out);
/** @s is handed on by who has imported it: its token is that of @token, the client's. */
void share_known_by(struct share *s, const void *token);

/**
 * Have the broker keep the driver's handle. @fd: what it made of it, or -1; it is closed. @charge: bytes that the session
 * has been charged, the broker's from now on.
 */
CUresult give_out(struct worker *w, enum ipc_kind kind, const void *handle, int fd, uint64_t device, uint64_t size,
		  uint64_t charge, uint64_t at, uint64_t *id, void *token);

/** struct found - what another session has given out. The session has it once more, unless it is its @own. */
struct found {
	uint64_t id;
	bool own;
	struct worker_ipc what;
	int fd;
};

/** @return CUDA_SUCCESS, and then lost() or something that ends in ipc_drop() must follow; CUDA_ERROR_INVALID_VALUE */
CUresult come_by(const void *token, enum ipc_kind kind, struct found *f);
void lost(const struct found *f);

/* For drivers whose handles are bytes alone; the software GPU's go with a file. */
int file_of(const void *handle);
void offer(const void *handle, int fd);
void no_more(int fd);

#endif
