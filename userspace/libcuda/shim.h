/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim: a libcuda.so.1 whose GPU is elsewhere.
 *
 *	session.c	the session, threads, sending and what comes back	object.c	handles
 *	init.c		cuInit, versions, cuGetProcAddress			device.c	devices, from their snapshot
 *	context.c	contexts: a stack for each thread			range.c		which address is what
 *	memory.c	device memory						pinned.c	host memory in the arena
 *	copy.c box.c	copies, staging.c their arena chunks			memset.c	fills
 *	registered.c	copies that read and write registered memory in their turn
 *	array.c	texture.c tensor.c						arrays and what reads them
 *	module.c	modules, libraries, kernels; image.c their sizes	launch.c	launches
 *	board.c		what streams and events have reached
 *	visible.c	CUDA_VISIBLE_DEVICES				capability.c	what a device is not said to do
 *	stream.c event.c capture.c pointer.c pool.c occupancy.c			one subject each
 *	export_tables.c, integrity.c						what NVIDIA's runtime asks in private
 *
 * Generated from the call table: shim_gen.c (what needs no code), refused_gen.c, resolve_gen.c, names_gen.c.
 */
#ifndef VGPU_SHIM_H
#define VGPU_SHIM_H

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL	/* declares every form of every call */
#endif
#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cuda_wire.h"
#include "export.h"
#include "export_tables.h"
#include "libidm.h"
#include "object.h"
#include "refuse.h"

#define VGPU_DRIVER_VERSION	13000	/* whose API this is; what cuDriverGetVersion says */
#define CONTEXT_STACK		64	/* cuCtxPushCurrent depth per thread */

/** struct thread - what CUDA keeps per thread. Found through one thread-local pointer; used again after exit. */
struct thread {
	uint32_t number;	/* in every message */
	uint32_t per_thread;	/* > 0 inside a _ptds call: stream 0 is this thread's own */
	uint32_t depth;
	struct object *stack[CONTEXT_STACK];	/* current is stack[depth - 1] */
	uint64_t stack_wire[CONTEXT_STACK];	/* their handles: another thread may end a context, and its place comes again */
	int latched;		/* an asynchronous error that came with an answer that had to succeed; atomic: others take answers, too */
	CUstreamCaptureMode capture_mode;
	uint32_t own;		/* > 0: the program sees nothing of the answer, so an asynchronous error is for another one */
	bool in_callback;	/* runs a host function, which may not wait for the GPU */
	uint32_t posted, waited, refused;	/* counts for trace.c */
	struct object *touched;	/* the stream that the message now made is for */
	void *scratch;		/* VGPU_PARAM_BYTES_MAX bytes, once a launch needed them */
	struct thread *next;
};

/** struct device - the snapshot of one device (IDM_GPU_GET_PROPS), and its primary context. */
struct device {
	struct vgpu_props_reply props;
	struct object *primary;
	struct object *pool;	/* the default memory pool, once asked for */
};

/** struct shim - the process's session. */
struct shim {
	int state;		/* enum shim_state, atomic */
	struct idm_client *client;
	uint32_t ndevices;
	struct device *devices;
	bool sync;		/* VGPU_SYNC=1: every message is answered */
	const struct object *broken;	/* a kernel broke this context: every message is answered until it ends; atomic */
	bool launch_blocking;	/* CUDA_LAUNCH_BLOCKING=1: a launch returns when the kernel has ended */
	uint64_t inline_max;	/* bulk bytes that travel inside a message */
};
enum shim_state { SHIM_NEW, SHIM_READY, SHIM_ENDED, SHIM_FORKED, SHIM_UNLOADED };
extern struct shim shim;

/* session.c */
extern __thread struct thread *thread_current __attribute__((tls_model("initial-exec")));
struct thread *thread_new(void);

static inline struct thread *thread_self(void)
{
	struct thread *t = thread_current;

	return __builtin_expect(t != NULL, 1) ? t : thread_new();
}

/** The asynchronous error that @t is to be told, once. */
static inline CUresult latched_take(struct thread *t)
{
	if (t->own || !__atomic_load_n(&t->latched, __ATOMIC_RELAXED))
		return CUDA_SUCCESS;
	return (CUresult)__atomic_exchange_n(&t->latched, 0, __ATOMIC_RELAXED);
}

/** What is asked and waited for in between is the shim's own business: errors stay for the program's calls. */
static inline void own_begin(void)
{
	thread_self()->own++;
}

static inline void own_end(void)
{
	thread_self()->own--;
}

/** The context that is current, which may be a green one: what calls are made in. */
static inline struct object *context_top(const struct thread *t)
{
	return t->depth ? t->stack[t->depth - 1] : NULL;
}

/** Has @t's current context ended? Then it is current still, and good for nothing. */
static inline bool context_ended(const struct thread *t)
{
	return t->stack[t->depth - 1]->wire != t->stack_wire[t->depth - 1];
}

/** The current context as far as what is made in it goes: of a green one the primary one. */
static inline struct object *context_current(const struct thread *t)
{
	struct object *top = context_top(t);

	return top && !context_ended(t) ? top->root : top;
}

/** Can work be done in context @ctx? Threads ask while others retain and release it. */
static inline bool context_active(const struct object *ctx)
{
	return __atomic_load_n(&ctx->active, __ATOMIC_RELAXED);
}

/** Open the session if there is none. @return CUDA_SUCCESS, or why there is no GPU; says so on stderr, once. */
CUresult session_open(void);

/** @return CUDA_SUCCESS if calls can be made, else the error every call has to return. */
CUresult session_check(void);

/** The session failed with @err (of libidm): remember, tell, @return the error for the program. */
CUresult session_failed(int err);

/** Fill in what starts every request. @return an error without a session, or without a context if @need_context. */
CUresult call_begin(struct vgpu_call *call, bool need_context);

/** The same for a call that ends @o, or asks of it: if no context is current it is sent for the object's. May be NULL. */
CUresult call_begin_end(struct vgpu_call *call, const struct object *o);

/** Send without an answer. */
CUresult call_post(uint16_t type, const void *rq, size_t len);
CUresult call_postv(uint16_t type, const struct iovec *iov, int n);

/** Send and wait; exactly @cap bytes of results must come back on success. */
CUresult call_reply(uint16_t type, const void *rq, size_t len, void *reply, size_t cap);

/** Send and wait; up to @cap bytes come back, *@len says how many. */
CUresult call_replyv(uint16_t type, const struct iovec *iov, int n, void *reply, size_t cap, size_t *len);

/**
 * What the response to a request means. @tells: an asynchronous error of earlier calls goes before success. Elsewhere
 * it must not: what has been made is there, and the program would never know its handle.
 */
CUresult call_result(struct thread *t, const struct idm_response *response, bool tells);

/**
 * @ctx has ended, and with it what failed in it and @t was not told of yet. @current: it was @t's current one. If
 * it was not, the error may be another context's: then only one that a broken context would tell again is forgotten.
 */
void latched_end(struct thread *t, const struct object *ctx, bool current);

/* fork.c */
void fork_init(void);

/* context.c */
struct object *context_primary(uint32_t device);
/** The green context @green as an ordinary one. */
CUresult context_of_green(CUcontext *out, struct object *green);
/** @green is about to end; it has ended, and was @ctx as an ordinary one, or NULL. */
void context_green_settle(struct object *green);
void context_green_gone(struct object *green, struct object *ctx);
CUresult context_init(void);
uint32_t context_device(const struct object *ctx);
uint64_t context_id(const struct object *ctx);
/** A number that no context has had. */
uint64_t context_next_id(void);
bool context_alive(const struct object *ctx);
/** cuCtxSynchronize() for the shim's own sake. */
CUresult context_settle(struct object *ctx);

struct context {
	uint32_t device;
	uint32_t flags;
	uint32_t api_version;
	uint32_t retained;	/* primary: cuDevicePrimaryCtxRetain minus Release */
	uint64_t id;
	bool primary;
	struct object *green;	/* it is this green context's */
	struct context_value *values;
};

/** The green context that is current for @t, or NULL. */
static inline struct object *context_green(const struct thread *t)
{
	const struct object *top = context_top(t);

	return top && !context_ended(t) ? top->context->green : NULL;
}

/* stream.c: what stream arguments mean */
static inline CUstream stream_per_thread(CUstream s)
{
	return s ? s : CU_STREAM_PER_THREAD;
}

static inline void per_thread_begin(void)
{
	thread_self()->per_thread++;
}

static inline void per_thread_end(void)
{
	thread_self()->per_thread--;
}

/** Stream 0 of this call: legacy, or the thread's own inside a _ptds call. */
static inline uint64_t stream_default(const struct thread *t)
{
	return t->per_thread ? 2 : 0;
}

static inline bool stream_handle(CUstream s, uint64_t *wire)
{
	if ((uintptr_t)s <= 2) {
		*wire = (uintptr_t)s;
		if (!s)
			*wire = stream_default(thread_self());
		/* Green contexts have a default stream, but none for each thread. */
		return *wire != 2 || !context_green(thread_self());
	}
	*wire = object_handle(s, VGPU_H_STREAM);
	if (!*wire)
		return false;
	thread_self()->touched = (struct object *)s;
	return true;
}

/** Is there a context that stream @s is of? Of the default ones it is the current one. */
CUresult stream_has_context(CUstream s);

/** The next message is for @stream (wire handle), too. */
static inline void stream_touch(uint64_t stream)
{
	thread_self()->touched = stream > 2 ? &objects[VGPU_HANDLE_INDEX(stream)] : NULL;
}

/** A message was sent: count it for the stream it was for. After it, so that whoever sees the count sees the message. */
static inline void stream_sent(struct thread *t)
{
	if (t->touched) {
		if (t->touched->type == VGPU_H_STREAM)
			__atomic_fetch_add(&t->touched->stream.sent, 1, __ATOMIC_RELEASE);
		t->touched = NULL;
	}
}

/* event.c */
/** @event was recorded in @stream, as the program names it, or in more than one (NO_STREAM). */
#define NO_STREAM	((CUstream)(intptr_t)-1)
void event_recorded(struct object *event, CUstream stream);
void event_gone(struct object *o);
/** An image is going to be loaded whose kernels may print. */
void kernels_may_print(void);
bool kernels_print(void);

/* module.c */
struct kernel {
	char *name;
	int attributes[VGPU_FUNC_ATTRIBUTES];
	uint32_t device;		/* where it is what is told here */
	struct kernel *on[VGPU_DEVICES_MAX];	/* a library's kernel: what it is on others, once asked for; atomic */
	uint32_t nparams, param_bytes;
	struct { uint32_t offset, size; } *params;
	struct occupancy *memo;		/* occupancy.c */
	unsigned int nmemo;
};
void occupancy_forget(struct kernel *k);

struct kernel *kernel_elsewhere(struct object *o, struct kernel *k, uint32_t device);

/**
 * What @o, a function or a kernel, is on @device. A library's kernel may be another one on each; a round trip tells,
 * once. If that cannot be known, for want of a context there, it is what it is elsewhere, as its own device says.
 */
static inline struct kernel *kernel_on(struct object *o, uint32_t device)
{
	struct kernel *k = __atomic_load_n(&o->kernel, __ATOMIC_ACQUIRE);

	if (__builtin_expect(k->device == device || o->type != VGPU_H_KERNEL, 1))
		return k;
	return kernel_elsewhere(o, k, device);
}

#endif
