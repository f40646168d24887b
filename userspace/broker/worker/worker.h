/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-worker: one process, one session.
 *
 *	main.c		start, dispatch loop, replies, the end
 *	sandbox.c	what the process gives up before it meets a client
 *	control.c	talking with the broker, and the lease on device memory
 *	context.c	contexts, current context, streams
 *	fence.c		waiting without holding up the other client threads
 *	block.c		waiting in the dispatching thread, where that holds nobody up
 *	park.c		calls that wait for memory which is being freed
 *	object.c	handles: hooks of the generated decoders, destroying
 *	info.c		what a device is
 *	memory.c	allocations, memset
 *	vmm.c		reserved addresses, physical memory, mappings
 *	pool.c		memory pools
 *	ipc.c ipc_calls.c	what sessions share with one another
 *	array.c		arrays
 *	texture.c	textures, surfaces, tensor maps
 *	copy.c		copies
 *	image.c		modules, libraries, their kernels and variables
 *	upload.c	images that come in parts
 *	stored.c	images that the broker keeps
 *	enumerate.c	what kernels there are in one
 *	link.c		the linker
 *	launch.c	launches
 *	graph.c		graphs (graph.h lists its files)	capture.c	stream capture
 *	callback.c	the client's host functions
 *	watch.c		the board that says which events are complete
 *	sync.c		synchronize calls
 *	output.c	what kernels print
 *	callback.c	host functions, which the client runs
 *	handles.c, ranges.c, latch.c	tables
 *
 * One thread at a time receives and dispatches: ring order is program order. Waiter threads only wait for events and
 * reply.
 */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "../proto.h"
#include "cuda_wire.h"
#include "handles.h"
#include "latch.h"
#include "libidm.h"
#include "ranges.h"
#include "worker_abi.h"
#include "worker_gen.h"

#define D worker_driver		/* D.cuMemAlloc_v2(...): the real one */

#define EVENT_POOL	64
#define THREADS_MAX	4096	/* client threads with a default stream of their own, per context */
/* Clients make the arena longer by 64 MiB, up to 1 TiB: 16384 pieces; and by a page where no more than that is lent. */
#define ARENA_PIECES	65536

/** struct wstream - a stream as far as waiting goes. In its context's list while something may be pending. */
struct wstream {
	CUstream real;
	struct wctx *ctx;
	bool nonblocking, dirty;
	int waits;			/* threads that wait for it in the driver; atomic */
	CUstream shadow;		/* watch.c; NULL until needed */
	struct wstream *next, **prev;
};

/**
 * struct wctx - a context. Lives until it is dead and no wait refers to it.
 * @handle: of a green one 0 until the client asks for it as an ordinary one
 * @root: whose all is that is made in it: itself, or the primary one of a green one
 * @greens, @sibling: a primary one's green ones
 */
struct wctx {
	uint64_t handle;
	struct wctx *root, *greens, *sibling;
	CUcontext real;
	int device;			/* the session's number of it */
	int refs;			/* atomic: the table, and each wait */
	bool dead;
	uint64_t limits[2];		/* quota that the client's own limits take: heap, printf buffer */
	uint64_t stuck;			/* quota of memory whose deferred free failed: back with the context; atomic */
	struct wstream legacy;
	CUstream behind_legacy;		/* fence.c; NULL until needed */
	struct wstream *dirty;
	struct thread_stream {
		uint32_t thread;
		struct wstream stream;
		struct thread_stream *next;
	} *threads;
	unsigned int nthreads;
	int frees;			/* fences for frees that are under way; atomic */
	pthread_mutex_t pool_lock;
	CUevent pool[EVENT_POOL];
	unsigned int npool;
};

/** struct wevent - aux of an event's handle: it may not be destroyed while somebody waits for it. */
struct wevent {
	CUevent real;
	int refs;			/* atomic: the handle, and each wait */
	uint64_t shared;		/* the broker's number of it, 0: nobody else has it */
};

#define IMAGE_MAX	(1ull << 30)
#define IMAGES_MAX	(2ull << 30)	/* of all that are loaded or come in */

struct image_buffer;

/** struct image - aux of a module or library. */
struct image {
	void *data;		/* NULL once the driver has made its copy, if it came in parts */
	struct image_buffer *buffer;	/* upload.c */
	uint64_t size;
	uint64_t mapped;	/* bytes, if it is no private copy: stored.c */
	uint64_t charged;		/* device memory that it takes */
};

struct wait;

struct worker {
	struct idm_server *server;
	struct worker_assign assign;
	struct worker_stats *stats;
	bool soft;
	bool ptx_only;				/* the devices run no machine code */
	char driver_version[16];		/* of the kernel driver, for people */

	unsigned int ndevices;
	int ordinals[VGPU_DEVICES_MAX];		/* the driver's numbers of the session's devices */
	uint32_t numbers[VGPU_DEVICES_MAX];	/* and the zone's, by which its sessions know them */
	bool chosen;				/* the client has said which of them it wants */
	struct wctx *primary[VGPU_DEVICES_MAX];
	bool had_context[VGPU_DEVICES_MAX];	/* of either kind, at some time */
	unsigned int retained[VGPU_DEVICES_MAX];	/* by the client, and by green contexts: drivers count both */
	unsigned int greens[VGPU_DEVICES_MAX];

	struct handle_table handles;
	struct range_map ranges;
	struct latch_table latches;

	/* The dispatching thread's current context, as the client names it. */
	uint64_t current_handle;
	struct wctx *current;
	struct {
		void *addr;
		uint64_t size;
		struct wctx *pinned;		/* in this context, with which that ends; NULL: not */
	} arena[ARENA_PIECES];			/* in order, without gaps; only what there is takes memory */
	unsigned int narena;
	struct shown *shown;

	char violation[256];			/* set: the session must end for this reason */

	/* block.c */
	uint32_t last_thread;			/* the client thread that spoke last */
	uint64_t switched_ns;			/* when it was another one before */

	/* fence.c */
	uint64_t poll_ns;			/* a wait is young for this long */
	struct wait *young;			/* waits that the dispatching thread polls itself */
	int deferred_frees;			/* atomic */
	uint64_t image_bytes;			/* copies of loaded images */
};

extern struct worker worker;

/* main.c */
void worker_serve(struct worker *w);	/* returns when block_replaced() */
void worker_violation(struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void worker_complain(struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** worker_reply() with results also when the call failed. */
void worker_reply_always(struct worker *w, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
			 int cu_result, const void *results, size_t len);

/* sandbox.c */
struct sandbox {
	bool soft, drop;
	unsigned int uid, gid;
	const char *empty;		/* folder to take as root, or NULL */
};
/** User, limits, root folder. @return 0 or -errno, with what failed in @what. */
int sandbox_drop(const struct sandbox *s, char *what, size_t cap);
/** System calls. @return 0 or -errno */
int sandbox_filter(bool soft);
/** place.c: what is mapped from here on lies where clients have nothing. @return 0 or -errno */
int place_mappings(void);
/** Private memory at most. There is no way back up. */
int sandbox_limit_memory(uint64_t bytes);

/* control.c */
int control_wait_assign(struct worker *w, int *fd, int *life);
int control_start(struct worker *w);
void control_tell(uint32_t type, uint64_t a, uint64_t b, const char *text);
/** Without a word to anybody if there is not enough: lease_refused() says so if nothing helps. */
bool lease_charge(struct worker *w, uint64_t bytes);
void lease_refused(struct worker *w, uint64_t bytes);
void lease_uncharge(struct worker *w, uint64_t bytes);
/** The device's quota, 0 for none. It may change at any time. */
static inline uint64_t lease_quota(struct worker *w)
{
	return __atomic_load_n(&w->assign.quota, __ATOMIC_RELAXED);
}
/** Bytes of the device's quota that no session uses. */
uint64_t lease_free(struct worker *w);

/** The sessions of the device, as the broker knows them. @return false if there is no broker any more. */
bool lease_zone(uint64_t first, struct vgpu_zone_reply *out);

/* context.c */
/** The current context as far as what is made in it goes, and its handle. */
static inline struct wctx *context_root(const struct worker *w)
{
	return w->current ? w->current->root : NULL;
}
static inline uint64_t context_owner(const struct worker *w)
{
	return w->current ? w->current->root->handle : 0;
}
/** Between the two @c is the driver's current context, whose default stream is meant by CU_STREAM_LEGACY. Not nested. */
void context_visit(const struct wctx *c);
void context_leave(const struct wctx *c);
struct wctx *context_new(uint64_t handle, CUcontext real, int device);
void context_put(struct wctx *c);
struct wctx *context_find(struct worker *w, uint64_t h);
/** Before the driver's context goes: wait for the threads that are in the driver with it, or will be. */
void context_settle(struct worker *w, struct wctx *c);
/** What the zone's sessions call the session's @device, and back. @return UINT32_MAX if there is none */
uint32_t device_number(struct worker *w, uint64_t device);
uint32_t device_of_number(struct worker *w, uint32_t number);
/** The context is gone for the client: everything that ends with it leaves the tables. */
void context_forget(struct worker *w, struct wctx *c);
/** A green context @c is @root's from the first on. It ends with the others, before and after its end in the driver. */
void context_add_green(struct wctx *root, struct wctx *c);
void context_end_streams(struct worker *w, struct wctx *c);
void context_forget_green(struct worker *w, struct wctx *c);
/** The last references to the primary context of device @dev are about to go; some have gone, perhaps the last. */
void primary_settle(struct worker *w, unsigned int dev);
void primary_released(struct worker *w, unsigned int dev);
void context_set_none(struct worker *w);
/*
 * Some context is current for the driver until context_give_back(), also where the caller has none: one of the session's, or
 * one *@made for it, else NULL.
 */
CUresult context_borrow(struct worker *w, CUcontext *made);
void context_give_back(struct worker *w, CUcontext made);
void stream_mark(struct wstream *s);
void stream_unlist(struct wstream *s);
/** The stream behind @h for hand-written decoders; marks nothing. @return 0 or IDM_ERROR_* */
int stream_of(struct worker *w, const struct vgpu_call *call, uint64_t h, struct wstream **out);
/** Nothing pending, as far as the driver tells without waiting? */
bool stream_idle(struct wstream *s);
bool legacy_idle(struct wctx *c);	/* all that an operation on the legacy stream would wait for */
bool context_idle(struct wctx *c);
/** Pin in the current context, which is new, what is not pinned yet. */
void arena_pin(struct worker *w);
/*
 * Parts of the arena at other addresses, too: host memory that the client maps (vmm.c). struct shown is the caller's.
 * arena_hold() keeps addresses free for that. @return false if something is there
 * @leaving: SHOWN_LEAVES while a thread waits in the driver to unpin it, then SHOWN_LEFT with @result; atomic
 * arena_show(): [@offset, @offset + @s->size), whole pages, at @s->at, which is held, pinned like the arena itself.
 *	@return 0 or -ENOMEM; idm_server_arena() has said that it is there
 * arena_unshow(): held again. The driver waits for what is queued: the caller has made sure that there is nothing, or else
 *	does it @apart, in a thread of its own, and asks again on CUDA_ERROR_NOT_READY.
 *	@return why the driver does not let go of it: then it stays
 */
enum { SHOWN, SHOWN_LEAVES, SHOWN_LEFT };
struct shown {
	void *at;
	uint64_t size;
	struct wctx *pinned;
	int leaving;
	CUresult result;
	struct shown *next;
};
bool arena_hold(void *at, uint64_t size);
int arena_show(struct worker *w, uint64_t offset, struct shown *s);
CUresult arena_unshow(struct worker *w, struct shown *s, bool apart);

/** What was pinned in @ended is not any more, but other contexts may be using it, or do so with the next call. */
void arena_unpinned(struct worker *w, const struct wctx *ended);
/** Bytes from @at on, at most @len, that are pinned in one piece: no single copy may cross such a border. */
uint64_t arena_piece(struct worker *w, const void *at, uint64_t len);
/** There is more arena, pinned from now on if there is a context, else from the first one on. @return 0 or -ENOMEM */
int arena_mapped(void *opaque, void *addr, uint64_t size);

/** Ask the broker about an image. @return BROKER_IMAGE's a, with its descriptor in *@fd (-1: none) */
uint64_t control_image(uint32_t type, uint64_t a, uint64_t b, const uint8_t *digest, int *fd);

/**
 * Ask the broker about what sessions share: WORKER_IPC_…, @fd with it (-1: nothing). *@m becomes its answer, with what came
 * along in *@answer_fd. @return false if it refuses, or there is none
 */
bool control_ipc(struct worker_msg *m, int fd, int *answer_fd);
/** The same of WORKER_IPC_EXPORT: @charge bytes charged here are the broker's to account for, if it agrees. */
bool control_export(struct worker *w, struct worker_msg *m, int fd, uint64_t charge);

/* stored.c */
/** The broker names images that the zone has sent. */
void image_news(const uint64_t *guess, uint64_t count);
/** What came after the first @known, for the client. */
void image_news_since(uint32_t known, struct vgpu_image_news *out);

/* upload.c */
struct image *image_uploaded(uint64_t handle, uint64_t size);	/* NULL: it has not all come, or there is no memory */
/** The driver has seen @image: what came in parts goes to the broker, if @guess is not 0, and is the image's no more. */
void image_loaded(struct image *image, uint64_t guess);
void image_buffer_put(struct image_buffer *b);
void image_uploads_forget(void);

/* stored.c: NULL if it cannot be had */
struct image *image_stored(const uint8_t digest[32], uint64_t size);
/** Copy an image to the broker. Any thread; one at a time. */
void image_store(const void *src, uint64_t size, uint64_t guess);
struct image *image_private(const void *src, uint64_t size);
void image_free(struct image *image);

/* graph.c */
bool capture_active(CUstream s);	/* it must not be asked anything then */
bool capture_forbids(CUstream s);	/* nor this: what it waits for captures */
CUgraph capture_graph(CUstream s);	/* NULL if it does not capture */
void capture_stream_ends(struct worker *w, CUstream s);
void capture_context_ends(struct worker *w, const struct wctx *c);
/** End what is captured in @c, and in green contexts of it, which the driver is to end next. */
void capture_context_settle(struct worker *w, const struct wctx *c);

/* hook.c */
/** Let go of memory that no graph has any more. */
void hook_reap(struct worker *w);
bool hook_waiting(void);

/* object.c */
struct handle *object_find(struct worker *w, uint64_t h, enum vgpu_handle_type t);
void object_release_aux(struct handle *e);
void event_put(struct wevent *e);

/* watch.c */
void watch_end(struct wstream *s);	/* the stream is about to be destroyed */

/* pool.c */
/** Charge what pools keep of freed memory. */
void pool_settle(struct worker *w);
/**
 * @bytes of @pool's memory are about to be allocated. @return how many of them are charged already, for what it keeps;
 * when the others are charged, too, pool_lend() follows. pool_untake() if nothing comes of it, of @bytes by then.
 */
uint64_t pool_take(CUmemoryPool pool, uint64_t bytes);
void pool_lend(uint64_t others);
void pool_untake(uint64_t bytes, uint64_t taken);
/** The driver has allocated them. @return false if it took them from elsewhere, which is more than may be charged */
bool pool_taken(struct worker *w, uint64_t taken);
/** The driver has freed a pool's memory, charged @bytes: the pool may keep it. Any thread. */
void pool_freed(struct worker *w, uint64_t bytes);
/** The broker accounts for @bytes of a pool's memory from now on. */
void pool_exported(uint64_t bytes);
/** The devices' own pools may keep something from now on. @return false without memory */
bool pool_note_default(struct worker *w);
CUmemoryPool pool_default(unsigned int dev);	/* then that of session's device @dev; NULL: the driver has none */
/** Have them keep nothing. @return false if none did */
bool pool_release(struct worker *w);
void pool_forget(struct worker *w, CUmemoryPool pool);

/* vmm.c */
/** struct physical - aux of a handle, and what mappings refer to. @shared: as in struct wevent; then the broker charges it */
struct physical {
	CUmemGenericAllocationHandle real;
	uint64_t size, shared;
	unsigned int refs;	/* handles and mappings */
	unsigned int handles;
};
/** Memory of another session. @return NULL without memory */
struct physical *physical_new(CUmemGenericAllocationHandle real, uint64_t size, uint64_t shared);
/** One more handle to @p, which goes if that fails and it has no other. @return 0 or IDM_ERROR_* */
int physical_enter(struct worker *w, uint64_t h, struct physical *p);

/* ipc.c; the numbers are the broker's, and 0 is none */
void ipc_init(void *dl);
/** The client cannot name it any more. Dispatching thread only. */
void ipc_unlist(uint64_t id);
/** The session has it once less. In any thread; may be the last word about it. */
void ipc_drop(uint64_t id);
void ipc_forget(uint64_t id);	/* both */
/** A pool is gone. */
void ipc_object_gone(const void *object);
/** Is it another session's? */
bool ipc_imported(uint64_t id);
/** Memory that is open more than once is now open once less. @return false if it is not */
bool ipc_one_of_many(uint64_t id);

/* copy.c */
/** struct box_place - where a box lies in pitched memory: bytes, rows, slices into it. @rows: from slice to slice */
struct box_place {
	uint64_t pitch, rows, x, y, z;
};
struct box_size {
	uint64_t width, height, depth;
};
/**
 * *@first: its first byte, from the start of the memory. *@bytes: from there to its last, included.
 * @return false if that wraps, if it is empty, or if pitch or rows would have it overlap itself
 */
bool box_extent(const struct box_place *b, const struct box_size *s, uint64_t *first, uint64_t *bytes);

/* array.c: the table lets go of an array or mipmap */
void array_release(struct handle *e);

/* link.c */
/** The table lets go of a link. @driver: its context is still there, and so is the driver's part */
CUresult link_release(struct handle *e, bool driver);

/* fence.c */
/**
 * struct wait - something that follows when events have happened.
 * @hdr, @call: whom to reply to, if @reply
 * @user:	the event waited for is the client's own
 * @buffer:	@size bytes, freed afterwards; sent as the results if @send
 * @free_addr:	device memory to free then (@close: another session's); @uncharge: bytes of quota to return, @shared: for
 *		ipc_drop(); @pooled: it is a pool's
 */
struct wait {
	struct wait *next;
	struct idm_header hdr;
	struct vgpu_call call;
	bool reply, send, output;
	struct wctx *ctx;
	struct wevent *user;
	void *buffer;
	size_t size;
	uint64_t free_addr, uncharge, shared;
	bool deferred_free, close, pooled;
	TAILQ_ENTRY(wait) frees;	/* if @deferred_free */
	uint64_t number;
	bool put_by, frees_context;	/* fence_frees() */
	struct wait *followers;		/* over when this is */
	uint64_t since_ns;
	unsigned int done, nevents;
	CUevent events[];
};
/** A wait for all that is pending on the given streams. @return NULL with the CUresult of what failed in *@r. */
struct wait *fence_stream(struct wstream *s, CUresult *r);
struct wait *fence_context(struct wctx *c, CUresult *r);
/** The same for a free, which may come to wait for more than that: see fence.c. */
struct wait *fence_frees(struct wctx *c, CUresult *r);
struct wait *fence_event(struct wctx *c, struct wevent *e);
void fence_for(struct wait *f, const struct idm_message *m);	/* reply to @m when it is over */
void fence_start(struct worker *w, struct wait *f);
/** Poll what is young. @return milliseconds to sleep at most for the next message: 0 or -1. */
int fence_poll(struct worker *w);
/** Start what fence_frees() has put by, where that can be now. @return true if some is left, to be asked about again soon */
bool fence_start_frees(struct worker *w);
/** Wait until others have let go of *@count down to @to. They do so with fence_let_go(), and context_put() before it. */
void fence_settle(struct worker *w, int *count, int to);
void fence_let_go(int *count);	/* NULL: has been done */
/** Wait until no free is deferred any more, so that quota and driver know of all of them. */
void fence_drain_frees(struct worker *w);
/** How many frees have been deferred so far, and how many of them are over. */
uint64_t fence_frees_begun(void);
uint64_t fence_frees_over(void);
/** Are the first @count over? All of them, or those that a client may know to be: it waits in cuMemFree(), or has since. */
bool fence_freed(uint64_t count);
bool fence_freed_due(uint64_t count);

/* park.c */
/** Around the dispatching of @m. */
void park_begin(const struct idm_message *m);
void park_end(void);
/**
 * The call that is dispatched lacks memory, and those frees may serve that were deferred before it came and are not @over.
 * @return true if some have become so, and it is worth to try again. If not, the call may have been put by: it is to be
 * given up as if there were no memory, its worker_reply() comes to nothing, and it will be dispatched once more.
 */
bool park_or_drain(struct worker *w, bool (*over)(uint64_t count));
extern __thread bool park_taken;	/* it has been put by */
/** A call to be dispatched once more, until park_end(). */
bool park_next(struct idm_message *m);
bool park_waiting(void);		/* park_next() is to be asked again soon */

/* block.c */
void block_heard(struct worker *w, uint32_t thread);
/**
 * May the dispatching thread wait in the driver itself? If so, block_end() must follow. Between the two, and if it says
 * false also afterwards, the message is gone, other messages are dispatched, and nothing may be touched but by
 * worker_reply() and output_forward(). @c, whose work is waited for, stays until block_end().
 */
bool block_begin(struct worker *w, struct wctx *c);
bool block_end(void);
bool block_replaced(void);	/* this thread dispatches no more */
void block_serve(struct worker *w);

/* output.c */
int output_init(void);
void output_forward(struct worker *w);

/* memory.c */
typedef CUresult (*alloc_fn)(CUdeviceptr *out, uint64_t size, void *arg);
/** Charge, let @fn allocate, note the range. */
CUresult memory_allocate(struct worker *w, uint64_t size, alloc_fn fn, void *arg, CUdeviceptr *out);
/** The same from @pool, which is no context's. */
CUresult memory_allocate_pooled(struct worker *w, uint64_t size, CUmemoryPool pool, alloc_fn fn, void *arg,
				CUdeviceptr *out);
/** lease_charge(), after waiting for what is being freed if it must be. */
bool memory_charge(struct worker *w, uint64_t bytes);
/** May the client's copies touch [addr, addr + len)? Its allocations and its part of the arena. */
bool address_ok(struct worker *w, uint64_t addr, uint64_t len);
/**
 * No graph has the memory at @addr any more. A launch that nobody has given it back after still does: then it is freed like
 * any other, or by another graph, which is found out when memory is scarce. @return true if so
 */
bool memory_outlives(struct worker *w, uint64_t addr);
/** First of all, for all: let the driver give back what graphs do not use. @return true if something is in use, of whichever */
bool memory_trim_graphs(struct worker *w);
/** range_add() of what the driver has just given out. */
int memory_range_add(struct worker *w, uint64_t base, uint64_t size, enum range_kind kind, uint64_t owner, uint64_t charge);

/** The fixed part of a payload, or a violation. For decoders by hand with variable length. */
static inline bool payload_has(struct worker *w, const struct idm_message *m, size_t len)
{
	if (m->header.payload_len >= len)
		return true;
	worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
	return false;
}
static inline bool payload_is(struct worker *w, const struct idm_message *m, size_t len)
{
	if (m->header.payload_len == len)
		return true;
	worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
	return false;
}


/* Is @m exactly @fixed bytes and @more, with or without padding to a multiple of 8? */
static inline bool payload_ends(const struct idm_message *m, uint64_t fixed, uint64_t more)
{
	uint64_t len = m->header.payload_len - fixed;

	/* In this order nothing can overflow, whatever the client says @more is. */
	return more <= len && (len == more || (len - more < 8 && len % 8 == 0));
}

static inline void stat_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

#endif /* WORKER_H */
