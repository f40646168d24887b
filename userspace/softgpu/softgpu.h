/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the software GPU's driver half share.
 *
 * One rule per layer: api files (device.c, context.c, memory.c, copy.c, ...) check arguments and speak CUDA; queue.c
 * knows streams as queues of operations; heap.c and host.c know addresses; ptx/ knows instructions.
 *
 * cuda.h is read in its "internal" form, where every exported name is declared as it is (cuMemAlloc_v2 and the old
 * cuMemAlloc are two functions), because a driver library must answer to all of them.
 */
#ifndef SOFTGPU_H
#define SOFTGPU_H

#define __CUDA_API_VERSION_INTERNAL
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "memory.h"
#include "ptx/ptx.h"

#define SG_DRIVER_VERSION	13000
#define SG_CC_MAJOR		12
#define SG_CC_MINOR		0
#define SG_DEVICES_MAX		16
#define SG_SHARED_DEFAULT	49152	/* per block, without asking */
#define SG_SHARED_OPTIN		101376	/* per block, with cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES) */
#define SG_SHARED_SM		102400
#define SG_SHARED_RESERVED	1024
#define SG_THREADS_SM		1536
#define SG_BLOCKS_SM		24
#define SG_REGISTERS		65536
#define SG_MAX_PITCH		2147483647
#define SG_PITCH_ALIGN		512

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

static inline uint64_t sg_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* --- object.c: handles are addresses inside per-type tables, so that a wrong one is refused, not followed ------- */

/** struct sg_object - starts every object that has a handle. @live is the table's magic until it is destroyed. */
struct sg_object {
	_Atomic uint32_t live;
	_Atomic uint32_t refs;
	struct sg_object *next_free;
};

/** struct sg_table - objects of one type. @size is a power of two; slots are reused oldest first. */
struct sg_table {
	uint32_t magic, size, max, reuse_after;
	char *base;
	_Atomic uint32_t used;
	struct sg_object *free_head, *free_tail;
	void (*destroy)(void *object);	/* at the last sg_object_put(); may be NULL */
	pthread_mutex_t lock;
};

/** A zeroed object with one reference and not yet live; NULL if the table is full. */
void *sg_object_new(struct sg_table *t);
void sg_object_put(struct sg_table *t, void *object);

static inline void sg_object_get(void *object)
{
	atomic_fetch_add_explicit(&((struct sg_object *)object)->refs, 1, memory_order_relaxed);
}

/** The object behind handle @h, or NULL. */
static inline void *sg_object_check(const struct sg_table *t, const void *h)
{
	uint64_t off = (uint64_t)((const char *)h - t->base);

	if (unlikely(off >= (uint64_t)atomic_load_explicit(&t->used, memory_order_acquire) * t->size ||
		     (off & (t->size - 1))))
		return NULL;
	return atomic_load_explicit(&((struct sg_object *)h)->live, memory_order_acquire) == t->magic ? (void *)h : NULL;
}

/** graph_memory.c: if @addr belongs to a graph, give it back, with *@e the answer. */
bool sg_graph_memory_owns(CUdeviceptr addr, CUresult *e);
/** No graph names the memory at @addr any more, and it is there: now it is the caller's to free. @return false if not */
bool sg_graph_memory_outlived(CUdeviceptr addr);

extern struct sg_table sg_ctx_table, sg_stream_table, sg_event_table, sg_library_table, sg_kernel_table, sg_pool_table,
		       sg_green_table, sg_desc_table;
bool sg_tables_init(void);

/* --- device.c ---------------------------------------------------------------------------------------------------- */

extern int sg_devices;			/* 0 until cuInit succeeded */
extern uint64_t sg_device_memory;	/* bytes, each device */
extern unsigned int sg_cpus;

/* --- heap.c (beside memory.h) -------------------------------------------------------------------------------------- */

struct sg_ctx;

#define SG_ALLOC_MANAGED	1u
#define SG_ALLOC_ASYNC		2u
#define SG_ALLOC_SYNC		8u	/* CU_POINTER_ATTRIBUTE_SYNC_MEMOPS */
#define SG_ALLOC_SHARED		16u	/* its pages are a memfd that other processes may have */
#define SG_ALLOC_IMPORTED	32u	/* and another process allocated them */
#define SG_ALLOC_FREEING	64u	/* a stream will free it */
#define SG_ALLOC_WRITTEN	4u	/* the owner writes without telling: always zero it before the next owner */

struct sg_allocation {
	uint64_t base;
	size_t size;
	uint64_t id;
	struct sg_ctx *ctx;
	void *pool;		/* struct sg_pool, of stream-ordered memory */
	bool reserved;		/* addresses, which something may be mapped to */
	unsigned int flags;
	int device;
};

bool sg_heap_init(int devices, uint64_t limit);
uint64_t sg_heap_alloc_on(int device, struct sg_ctx *ctx, size_t size, size_t align, unsigned int flags);
bool sg_heap_info(uint64_t addr, struct sg_allocation *a);
void sg_heap_usage(int device, uint64_t *free, uint64_t *total);

/** The allocation at @addr came from @pool, and when it is freed sg_pool_freed() says how much of it the pool keeps. */
void sg_heap_set_pool(uint64_t addr, void *pool);
uint64_t sg_pool_freed(void *pool, uint64_t bytes);

/** Bytes that count as used although nothing is in them. */
void sg_heap_hold(int device, int64_t bytes);
void sg_heap_set_sync(uint64_t addr, bool on);

/** The allocation that begins at @addr is freed later, by nobody else. @return its id, 0: there is none, or it is already */
uint64_t sg_heap_freeing(uint64_t addr);
/** Free the allocation at @addr if it is still the one that has this @id. */
void sg_heap_free_id(uint64_t addr, uint64_t id);

/** Is [addr, addr + len) inside one allocation? @write: note that it is no longer all zero. */
bool sg_heap_range(uint64_t addr, size_t len, bool write);

/**
 * Move the allocation at @addr to the memfd @fd, contents and all, whoever may be writing to it meanwhile. Once.
 * @return CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE: no such allocation, CUDA_ERROR_OUT_OF_MEMORY
 */
CUresult sg_heap_share(uint64_t addr, int fd);

/** move.c: the same for any pages of the heap. @return false if not all of them could be moved */
bool sg_move_to_file(void *at, size_t bytes, int fd);

/** Addresses at which @size bytes of @fd, of another process, are memory of @ctx; they do not count as used. 0: none */
uint64_t sg_heap_import(int device, struct sg_ctx *ctx, size_t size, int fd, unsigned int flags);

/** Around every kernel: it may write to any allocation. */
void sg_heap_kernel_begin(void);
void sg_heap_kernel_end(void);

/** Addresses without memory, at @hint if some begin there, @return 0 if there are not as many; and what vmm.c does with their pages. */
uint64_t sg_heap_reserve(size_t size, size_t align, uint64_t hint);
void sg_heap_unreserve(uint64_t addr);
/** Is all of it addresses that were reserved in one piece and are not any more? Memory of the program's own may be there. */
bool sg_heap_hole(uint64_t addr, size_t size);
void sg_heap_access(uint64_t addr, size_t size, bool allowed);
void sg_vmm_init(void);

/** What is mapped at a reserved address. @id: of the mapping, @block: of its memory; no allocation has one of those. */
struct sg_mapped {
	uint64_t base, size, id, block;
	unsigned long long handle_types;	/* how it can be exported */
	bool host;
};
bool sg_vmm_mapped(uint64_t addr, struct sg_mapped *out);

/** Free everything @ctx allocated. */
void sg_heap_free_ctx(struct sg_ctx *ctx);

/** Contexts of a copy between peers, each NULL for the current one. */
bool sg_peers(CUcontext dst, CUcontext src);

static inline bool sg_in_heap(uint64_t addr)
{
	return addr - SG_HEAP_BASE < SG_HEAP_SIZE;
}

/* --- host.c: pinned host memory ------------------------------------------------------------------------------------ */

struct sg_host_range {
	uint64_t base;
	size_t size;
	unsigned int flags;
	bool allocated;		/* by cuMemHostAlloc; else registered */
	struct sg_ctx *ctx;
	uint64_t id;
	uint64_t ended;		/* 0, or its context has: no call finds it, what was queued may use it */
};

bool sg_host_info(uint64_t addr, struct sg_host_range *out);
bool sg_host_range(uint64_t addr, size_t len);
void sg_host_free_ctx(struct sg_ctx *ctx);

/* --- context.c ----------------------------------------------------------------------------------------------------- */

#define SG_LIMITS 16

/**
 * struct sg_ctx - a context.
 * @fault: what every call in it answers: 0, the first fault of a kernel (sticky), CONTEXT_IS_DESTROYED when it is
 *	   destroyed or (a primary one) not retained
 * @lock:  streams, green ones, libraries, retain count
 * @root:  whose all is that is made in it: itself, or the primary one of a green one, which has but streams of its own
 */
struct sg_ctx {
	struct sg_object object;
	_Atomic int fault;
	struct sg_ctx *root, *greens, *sibling;
	struct sg_green *green;		/* this is it as an ordinary context */
	int device;
	bool primary;
	unsigned int flags, retained;
	bool active;			/* a primary one: retained since it was last reset */
	uint64_t id;
	pthread_mutex_t lock;
	struct sg_stream *legacy;
	struct sg_stream *streams;	/* all but the legacy one */
	_Atomic unsigned int nstreams;
	size_t limits[SG_LIMITS];
	uint64_t peers[SG_DEVICES_MAX];	/* ids of the contexts whose memory it may reach, by device */
	CUfunc_cache cache;
	struct context_value *values;	/* libcuda/export_tables.h */
	struct sg_kernel_heap *heap;	/* NULL until a kernel allocates; under @lock */
	char fault_text[256];
};

struct sg_tls {
	struct sg_ctx *top, *ctx;	/* of the stack, and its root */
	struct sg_ctx **stack;
	unsigned int depth, cap;
	struct sg_stream *own;		/* this thread's default streams, one per context */
	bool driver_thread, in_callback;
	CUstreamCaptureMode capture_mode;
};
extern __thread struct sg_tls sg_tls __attribute__((tls_model("initial-exec")));

/** The calling thread's context, fit for use. */
static inline CUresult sg_enter(struct sg_ctx **out)
{
	struct sg_ctx *c = sg_tls.ctx;
	int fault;

	if (unlikely(!sg_devices))
		return CUDA_ERROR_NOT_INITIALIZED;
	if (unlikely(!c))
		return CUDA_ERROR_INVALID_CONTEXT;
	fault = atomic_load_explicit(&c->fault, memory_order_relaxed);
	if (unlikely(sg_tls.top != c) && !fault)
		fault = atomic_load_explicit(&sg_tls.top->fault, memory_order_relaxed);
	*out = c;
	return (CUresult)fault;
}

/** @c becomes the current one, or none does. @return which was. */
static inline struct sg_ctx *sg_ctx_swap(struct sg_ctx *c)
{
	struct sg_ctx *before = sg_tls.top;

	sg_tls.top = c;
	sg_tls.ctx = c ? c->root : NULL;
	return before;
}

/** context.c: @c's green contexts, each with a reference. malloc()ed, NULL at the end; NULL if there is none. */
struct sg_ctx **sg_ctx_greens(struct sg_ctx *c);
/** A context for @green, of the primary one @root. @return NULL without memory */
struct sg_ctx *sg_ctx_new_green(struct sg_ctx *root, struct sg_green *green);
void sg_ctx_end_green(struct sg_ctx *c);

/** For calls that end something: no context need be current, but one that is must be fit for use. */
static inline CUresult sg_enter_end(void)
{
	struct sg_ctx *c;

	if (!sg_tls.ctx && sg_devices)
		return sg_tls.in_callback ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
	return sg_enter(&c);
}

/** tables.c: a context ends; what runtimes keep for it goes first. They may call back, so no lock is held. */
void sg_values_drop(struct sg_ctx *c);

struct sg_ctx *sg_primary(int device);
void sg_ctx_fault(struct sg_ctx *c, CUresult fault, const char *text);

/* --- queue.c: streams as queues ------------------------------------------------------------------------------------ */

enum sg_op_type {
	SG_OP_PAD, SG_OP_WAIT, SG_OP_EVENT, SG_OP_FREE, SG_OP_RELEASE,	/* done even in a faulted context */
	SG_OP_CALLBACK,						/* told the fault */
	SG_OP_LAUNCH, SG_OP_COPY, SG_OP_SET, SG_OP_HOST, SG_OP_WRITE, SG_OP_POLL, SG_OP_CALL, SG_OP_AWAIT
};

struct sg_copy2d {
	char *dst;
	const char *src;
	size_t dst_pitch, src_pitch, width, height;
	size_t dst_slice, src_slice, depth;	/* slice: bytes from one 2D slice to the next; depth 1: a 2D copy */
};

struct sg_set {
	char *dst;
	size_t pitch, width, height;	/* width in elements */
	uint32_t value, element;	/* bytes per element: 1, 2, 4 */
};

/** struct sg_op - one operation in a stream's ring. 64-byte aligned, `size` bytes including what follows it. */
struct sg_op {
	uint32_t size;
	uint32_t type;
	union {
		struct {
			struct sg_stream *stream;
			uint64_t seq;
		} wait;
		struct {
			struct sg_event *event;
			uint64_t generation;	/* of a shared one, and for SG_OP_AWAIT: the recording's number */
		} event;
		struct {
			uint64_t addr, id;
		} free;
		struct {
			const struct ptx_kernel *kernel;
			uint32_t grid[3], block[3];
			uint32_t shared;
			uint32_t cooperative;
			const void *handle;	/* what the program named */
				/* parameters follow the operation */
		} launch;
		struct sg_copy2d copy;
		struct sg_set set;
		struct {
			CUhostFn fn;
			CUstreamCallback callback;
			void *data;
			CUstream handle;
		} host;
		struct {
			uint64_t addr, value;
			uint32_t size;
			uint32_t condition;	/* SG_OP_POLL: CUstreamWaitValue_flags */
		} write;
		struct {
			void (*fn)(struct sg_stream *s, void *arg);	/* SG_OP_CALL, SG_OP_RELEASE */
			void *arg;
		} call;
	} u;
};

#define SG_RING_BYTES	(128u << 10)

struct sg_capture;

/**
 * struct sg_stream
 * Producers hold @lock and append at @tail; whoever owns @owner executes from @head: the stream's thread, or a thread
 * that waits for the stream and would otherwise only sleep. An operation is named by its sequence number: number n is
 * done when @completed >= n. References keep the structure while events and waits name it.
 */
struct sg_stream {
	struct sg_object object;
	struct sg_ctx *ctx;
	struct sg_ctx *home;		/* with whose legacy stream it keeps order: @ctx, or a green one of it */
	struct sg_stream *next;		/* in its home */
	struct sg_stream *next_own;	/* in its thread, for per-thread default streams */
	unsigned int flags;
	int priority;
	bool blocking;			/* takes part in the legacy stream's ordering */
	bool per_thread;
	uint64_t id;
	CUstreamAttrValue *kept;	/* attributes that change nothing here, by id; malloc()ed when one is set */
	char *ring;

	pthread_mutex_t lock __attribute__((aligned(64)));
	uint64_t tail;
	_Atomic uint64_t enqueued;
	struct sg_capture *_Atomic capture;	/* its operations are recorded instead */
	struct sg_tips *tips;		/* of its capture: what the next operation depends on */
	uint64_t legacy_waited;		/* newest operation of the legacy stream this one waits for already */
	uint64_t waited_by_legacy;	/* the other way round; under the legacy stream's lock */
	_Atomic bool has_thread;

	_Atomic uint64_t head __attribute__((aligned(64)));
	_Atomic uint64_t completed;
	_Atomic uint32_t owner;
	_Atomic uint32_t state;		/* of the thread: enum sg_thread_state, also what it sleeps on */
	_Atomic uint64_t wake_at;	/* the lowest operation somebody sleeps for */
	_Atomic uint32_t wakeups;	/* what they sleep on */
	_Atomic bool destroyed;
	pthread_mutex_t wake_lock;
};

void sg_queue_init(void);

/* --- capture.c ----------------------------------------------------------------------------------------------------- */

/** The place for an operation of @bytes in a graph, and its end; as sg_queue_begin() and _end(), @s is locked. */
struct sg_op *sg_capture_begin(struct sg_stream *s, enum sg_op_type type, size_t bytes);
void sg_capture_end(struct sg_stream *s);

/** @s was used as a capturing stream must not be. */
void sg_capture_invalidate(struct sg_stream *s);

/** What a stream whose capture went wrong says to all that is asked of it, until the capture ends. */
CUresult sg_capture_check(struct sg_stream *s);

/** The same for the capture that an event was recorded in. */
void sg_capture_invalidate_id(uint64_t id);

/** The capture that @s takes part in, 0 for none. */
uint64_t sg_capture_id(struct sg_stream *s);

/** What @s has captured last, for an event to remember. free()d by sg_tips_free(). */
struct sg_tips;
struct sg_tips *sg_capture_tips(struct sg_stream *s);
void sg_tips_free(struct sg_tips *t);

/** @s waits for an event that was recorded in capture @id behind @tips: it takes part from now on. */
CUresult sg_capture_join(struct sg_stream *s, uint64_t id, const struct sg_tips *tips);

/** An event's record or wait that belongs to each launch of the graph instead. */
CUresult sg_capture_event(struct sg_stream *s, struct sg_event *ev, bool record);

/** The handle of @s is about to go. */
void sg_capture_stream_ends(struct sg_stream *s);

/** How many captures there are; asked first, since the answer is nearly always none. */
extern _Atomic unsigned int sg_captures;

/** May this thread make a call that is not safe while streams capture? If not, those captures are over. */
CUresult sg_capture_unsafe_slow(void);
static inline CUresult sg_capture_unsafe(void)
{
	return unlikely(atomic_load_explicit(&sg_captures, memory_order_relaxed)) ? sg_capture_unsafe_slow() : CUDA_SUCCESS;
}

/** May the legacy stream of @c (all of @c, with @sync) be used? */
CUresult sg_capture_legacy_slow(struct sg_ctx *c, bool sync, bool invalidate);
static inline CUresult sg_capture_legacy(struct sg_ctx *c, bool sync)
{
	return unlikely(atomic_load_explicit(&sg_captures, memory_order_relaxed)) ? sg_capture_legacy_slow(c, sync, true) :
										     CUDA_SUCCESS;
}

static inline bool sg_capturing(const struct sg_stream *s)
{
	return unlikely(atomic_load_explicit(&s->capture, memory_order_relaxed) != NULL);
}

/** A new stream of @c with a reference for its handle. */
struct sg_stream *sg_stream_new(struct sg_ctx *c, unsigned int flags, int priority, bool per_thread);

/** The handle is gone; what is queued still runs. */
void sg_stream_drop(struct sg_stream *s);

static inline bool sg_stream_idle(const struct sg_stream *s)
{
	return atomic_load_explicit(&s->completed, memory_order_acquire) ==
	       atomic_load_explicit(&s->enqueued, memory_order_acquire);
}

/**
 * Append an operation with @extra bytes behind it: begin (takes the lock, adds the waits that the legacy stream's rules
 * ask for), fill in, end (publishes, wakes the thread if needed). sg_queue_end() returns the operation's number.
 * @heavy: long enough for a wake-up not to matter.
 */
struct sg_op *sg_queue_begin(struct sg_stream *s, enum sg_op_type type, size_t extra);
uint64_t sg_queue_end(struct sg_stream *s, struct sg_op *op, bool heavy);

/**
 * If nothing is queued that an operation on @s would have to wait for, lock @s against new operations and return true:
 * the caller does it on the spot and calls sg_queue_unlock().
 */
bool sg_queue_lock_idle(struct sg_stream *s);
void sg_queue_unlock(struct sg_stream *s);

/** Wait until operation @seq of @s is done; helps with the work. */
void sg_queue_wait(struct sg_stream *s, uint64_t seq);

/** See that @s's thread is at work if there is any. */
void sg_queue_nudge(struct sg_stream *s);

/** Wait for all a synchronous operation on @s has to wait for. */
void sg_queue_sync(struct sg_stream *s);

/** Is all that sg_queue_sync() would wait for done? */
bool sg_queue_done(struct sg_stream *s);

/** Wait for everything in @c. */
void sg_queue_sync_ctx(struct sg_ctx *c);

/** And in all contexts. */
void sg_queue_sync_all(void);

/** Would sg_queue_sync_all() wait for nothing? */
bool sg_queue_all_idle(void);

/** A thread of the driver's, which takes none of the program's signals and ends by itself. */
bool sg_thread_start(void *(*thread)(void *arg), void *arg);

/** After sg_queue_sync_ctx(): end the streams of a context that goes away. */
void sg_queue_end_ctx(struct sg_ctx *c);

/* --- managed.c: __managed__ variables ------------------------------------------------------------------------------ */

bool sg_managed_variable(uint64_t addr);
bool sg_managed_note(uint64_t base, uint64_t size, const void *library);
void sg_managed_forget(const void *library);

/* --- execute.c: what operations do ------------------------------------------------------------------------------- */

void sg_execute(struct sg_stream *s, struct sg_op *op);
void sg_do_copy(const struct sg_copy2d *c);
void sg_do_set(const struct sg_set *set);

/* --- stream.c, event.c ------------------------------------------------------------------------------------------- */

/**
 * struct sg_event
 * @stream, @seq: the newest record: done when operation @seq of @stream is. @time is that operation's clock.
 */
struct sg_event {
	struct sg_object object;
	struct sg_ctx *ctx;
	unsigned int flags;
	pthread_mutex_t lock;
	struct sg_stream *stream;
	uint64_t seq;
	uint64_t generation;
	uint64_t capture;	/* recorded in this capture last, 0: in a stream */
	struct sg_tips *tips;
	_Atomic uint64_t time;
	struct sg_shared *shared;	/* shared_event.c; stream and seq mean nothing then */
};

void sg_events_init(void);

/** Destroy the events of a context that goes away. */
void sg_events_end_ctx(struct sg_ctx *c);

/** The stream behind handle @h; @ptds: 0 is the calling thread's default stream. */
CUresult sg_stream_of(CUstream h, bool ptds, struct sg_stream **out);
/** The same for questions, which the legacy stream answers also while others capture. */
CUresult sg_stream_ask(CUstream h, bool ptds, struct sg_stream **out);

/** Record @ev in @s, or let @s wait for it; as the calls of that name. */
CUresult sg_event_record(struct sg_event *ev, struct sg_stream *s);
void sg_event_wait(struct sg_event *ev, struct sg_stream *s);

/* --- kernel_heap.c: malloc() and free() of kernels ------------------------------------------------------------------ */

/** @return the address of @size bytes on @c's heap, 16-aligned, or 0 */
uint64_t sg_kernel_malloc(struct sg_ctx *c, uint64_t size);
/** @return false if it is not what sg_kernel_malloc() returned, or has been freed */
bool sg_kernel_free(struct sg_ctx *c, uint64_t addr);
/** Forget the heap; its memory goes with the context's. */
void sg_kernel_heap_end(struct sg_ctx *c);

/* --- print.c: what kernels print ----------------------------------------------------------------------------------- */

void sg_print(void *opaque, const char *text, size_t len);
void sg_print_flush_slow(void);
extern _Atomic uint32_t sg_print_pending;

/** At every point where the host learns that work is done. */
static inline void sg_print_flush(void)
{
	if (unlikely(atomic_load_explicit(&sg_print_pending, memory_order_acquire)))
		sg_print_flush_slow();
}

/* --- fatbin.c ------------------------------------------------------------------------------------------------------ */

#define SG_IMAGE_MAX	(256u << 20)	/* decompressed PTX text; beyond it an image is refused */

/**
 * PTX text in an image: fatbin wrapper, fatbin, or text. ELF has none.
 * @size: bytes at @image, or SIZE_MAX when only the image itself tells (it came by pointer)
 * @text: malloc()ed, NUL-terminated
 * @return CUDA_SUCCESS, CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_OUT_OF_MEMORY
 */
CUresult sg_image_ptx(const void *image, size_t size, char **text, size_t *len, struct ptx_log *log);

/* --- module.c, kernel.c ------------------------------------------------------------------------------------------- */

#define SG_INSTANCES	8	/* contexts that use one library at a time */

/** struct sg_instance - a library's code and variables in one context. @ctx NULL: compiled, no context uses it yet. */
struct sg_instance {
	struct sg_ctx *ctx;
	struct ptx_module *ptx;		/* NULL: free slot */
	struct sg_part {		/* modules of a pack, if the image has no PTX */
		struct sg_part *next;
		struct ptx_module *ptx;
		uint32_t member;
	} *parts;
};

/* pack.c: PTX that stands in for machine code. Callers of the last two hold the library's lock. */
void sg_pack_init(void);
bool sg_pack_present(void);
CUresult sg_pack_find(struct sg_instance *in, const char *name, struct ptx_log *log, const struct ptx_kernel **out);
void sg_pack_forget(struct sg_instance *in);

/**
 * struct sg_library - a CUlibrary, or a CUmodule (whose one instance belongs to the context it was loaded in).
 * @fast: the context of instance 0 if that is the only one: looked at without the lock
 */
struct sg_library {
	struct sg_object object;
	bool module, packed;		/* packed: machine code only; kernels come from the pack */
	char *text;
	size_t len;
	pthread_mutex_t lock;
	struct sg_instance instance[SG_INSTANCES];
	struct sg_ctx *_Atomic fast;
	struct sg_kernel *kernels;
};

/** struct sg_kernel - a CUfunction or a CUkernel. @code: in each instance of its library, NULL until used there. */
struct sg_kernel {
	struct sg_object object;
	struct sg_library *library;
	struct sg_kernel *next;
	struct ptx_kernel_info info;	/* a copy, name and params too */
	const struct ptx_kernel *_Atomic code[SG_INSTANCES];
	_Atomic int max_dynamic;	/* dynamic shared memory it may be launched with */
	_Atomic int carveout, nonportable_cluster, cluster_policy;
};

/** The kernel's code in context @c, which is made an instance of its library if it has none. */
CUresult sg_kernel_code_slow(struct sg_kernel *k, struct sg_ctx *c, const struct ptx_kernel **out);

static inline CUresult sg_kernel_code(struct sg_kernel *k, struct sg_ctx *c, const struct ptx_kernel **out)
{
	if (likely(atomic_load_explicit(&k->library->fast, memory_order_acquire) == c)) {
		*out = atomic_load_explicit(&k->code[0], memory_order_acquire);
		if (likely(*out))
			return CUDA_SUCCESS;
	}
	return sg_kernel_code_slow(k, c, out);
}

static inline struct sg_kernel *sg_kernel_check(const void *h)
{
	return sg_object_check(&sg_kernel_table, h);
}

/** The kernel @name of @lib as a handle: one per name. */
CUresult sg_kernel_get(struct sg_library *lib, const char *name, struct sg_kernel **out);

/** An instance's module in context @c, made if needed. Caller holds lib->lock. @slot may be NULL. */
CUresult sg_library_instance(struct sg_library *lib, struct sg_ctx *c, struct ptx_module **out, unsigned int *slot);

/**
 * The same where any instance will do. A library whose contexts have all ended has none: one is made, in the current
 * context if there is one.
 */
CUresult sg_library_any(struct sg_library *lib, struct ptx_module **out, unsigned int *slot);

/** Unload the modules of a context that goes away, and the libraries' instances in it. */
void sg_modules_end_ctx(struct sg_ctx *c);

/** Blocks of @k that fit a multiprocessor; 0 if none does. */
int sg_occupancy(const struct sg_kernel *k, unsigned int threads, size_t dynamic_shared);

#endif /* SOFTGPU_H */
