/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the generated half of the worker (build/gen/worker_gen.c) and the half written by hand (broker/).
 *
 * Generated: one decoder for each call that the table fully describes, and the dispatch table over all messages.
 * By hand: the session, the handle table, contexts, and worker_hand_<name>() for the messages marked `hand:<name>`.
 *
 * A decoder checks the exact payload length, calls worker_enter(), resolves handles, calls the driver, enters or
 * removes handles, and calls worker_reply() exactly once, whatever happened. Decoders touch no state of their own:
 * those with VGPU_CALL_WAITS are made to be run in a waiter thread, on a private copy of the message.
 */
#ifndef VGPU_WORKER_ABI_H
#define VGPU_WORKER_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "idm.h"
#include "libidm.h"
#include "wire.h"

struct worker;

/* struct worker_call.flags */
#define VGPU_CALL_POSTED	0x1u	/* no reply: header.flags must have IDM_FLAG_POSTED, or a reply is sent too */
#define VGPU_CALL_WAITS		0x2u	/* may block for long: run the decoder in a waiter thread */
#define VGPU_CALL_HAND		0x4u	/* fn is worker_hand_<name>() */

/** struct worker_call - one message type. */
struct worker_call {
	uint16_t type;
	uint16_t flags;
	const char *name;	/* of the driver entry point, for logs */
	void (*fn)(struct worker *w, const struct idm_message *m);
};

/** @return what to do with messages of @type, NULL if there is no such message. Constant time. */
const struct worker_call *worker_call_find(uint16_t type);

/** Fill worker_driver (worker_gen.h) by dlsym(@dl, …); absent names stay NULL. @return how many were found. */
unsigned int worker_driver_load(void *dl);

/*
 * To be provided by the hand-written half.
 */

/**
 * Make the calling thread ready for a call: the context that @call->ctx names becomes current (0: none).
 * @return 0, or an IDM_ERROR_* (IDM_ERROR_INVALID_HANDLE) to reply with; the decoder then does nothing else.
 */
int worker_enter(struct worker *w, const struct vgpu_call *call);

/** @return the object named by @h if it is of type @t and alive, else NULL. Thread-safe. */
void *worker_handle(struct worker *w, uint64_t h, enum vgpu_handle_type t);

/** @return the driver's ordinal of the session's device @device, -1 (which no driver call accepts) if there is none. */
int worker_device(struct worker *w, uint64_t device);

/**
 * The CUstream that @h means for this client thread: 0 and 1 (legacy) as they are, 2 is the thread's own stream
 * (created at first use), everything else from the handle table.
 * @return 0 and *@out, or an IDM_ERROR_*
 */
int worker_stream(struct worker *w, const struct vgpu_call *call, uint64_t h, void **out);

/**
 * Would entering @h work? Asked before an object is created, so that nothing must be undone.
 * @return 0 or an IDM_ERROR_*: wrong type, index 0 or too large, slot in use
 */
int worker_handle_free(struct worker *w, uint64_t h, enum vgpu_handle_type t);

/** Enter @obj under the client's @h. @return 0 or an IDM_ERROR_* as worker_handle_free(). */
int worker_handle_add(struct worker *w, uint64_t h, enum vgpu_handle_type t, void *obj);

/** Take @h out. Called before the driver destroys the object. @return the object, NULL if there is none. */
void *worker_handle_del(struct worker *w, uint64_t h, enum vgpu_handle_type t);

/**
 * The handle under which @obj is known (for the few calls that return an object), 0 if it is not.
 */
uint64_t worker_handle_of(struct worker *w, void *obj, enum vgpu_handle_type t);

/** May the client's calls name [addr, addr + len) as device memory? */
bool worker_address(struct worker *w, uint64_t addr, uint64_t len);

/**
 * Answer @hdr, or, if it was posted, latch a failure for its thread.
 * @idm_error: IDM_ERROR_*; a non-zero @cu_result alone is turned into IDM_ERROR_CUDA_ERROR
 * @results, @len: what follows struct idm_response; sent only on success
 */
void worker_reply(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len);

#endif /* VGPU_WORKER_ABI_H */
