/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * IDM: inter-domain messaging, the contract between a client and its worker.
 *
 * A session is memory that the driver domain lends to one client process. It is laid out as
 *
 *	page 0		struct idm_session: ring indices, sleep flags, the reason a session ended
 *	request ring	messages from the client to the worker
 *	reply ring	messages from the worker to the client
 *	arena		bulk memory: staging for copies, and the client's pinned host memory
 *
 * Offsets and sizes are told once, at set-up, by the transport (linux/vgpu.h, linux/vgpu_back.h, or the local
 * transport's handshake). Both sides keep them in private memory: nothing in page 0 describes the layout.
 *
 * Rings carry messages of variable length. `prod` and `cons` count bytes, run freely and wrap at 2^32; the
 * position in the ring is the count modulo the ring's size, a power of two. A message starts on a multiple of
 * IDM_ALIGN, may wrap at the ring's end, and is struct idm_header followed by `payload_len` bytes.
 *
 * Nobody believes the other side. A consumer takes one copy of `prod`, checks prod - cons <= size, copies the
 * header out, checks it, copies the payload out, and uses only the copies. A violation ends the session.
 *
 * Sleeping. A side about to block ORs what it waits for into its own `sleeping`, issues a full barrier, looks
 * again, and only then blocks. A side that has made progress (published a message, freed ring space) issues a
 * full barrier, and if the matching bit of its peer is set, clears it atomically and, if it was the one who
 * cleared it, sends exactly one notification. While both sides are awake there is none.
 */
#ifndef _UAPI_IDM_H
#define _UAPI_IDM_H

#include <linux/types.h>

#define IDM_MAGIC	0x49444D00u	/* "IDM\0" */
#define IDM_VERSION	0x0100
#define IDM_ALIGN	16		/* every message starts on a multiple of this */
#define IDM_PAGE_SIZE	4096

/* The largest payload of one message. Bulk data travels through the arena (userspace/cuda/wire.h). */
#define IDM_PAYLOAD_MAX	(48 * 1024)

/* Ring sizes: powers of two. The lower bound holds one small message; tests use it to force wrapping. */
#define IDM_RING_MIN	4096
#define IDM_RING_MAX	(1024 * 1024)

/* Message types: the classic operations. Every other driver call has a number from IDM_CUDA_BASE up, from
 * the call table (userspace/cuda/cuda.tbl). Client and worker exchange a hash of the table in IDM_HELLO.
 */
#define IDM_GPU_ALLOC		0x0001
#define IDM_GPU_FREE		0x0002
#define IDM_GPU_COPY_H2D	0x0010
#define IDM_GPU_COPY_D2H	0x0011
#define IDM_GPU_COPY_D2D	0x0012
#define IDM_GPU_MEMSET		0x0013
#define IDM_GPU_LAUNCH_KERNEL	0x0020
#define IDM_GPU_SYNC		0x0021
#define IDM_GPU_GET_INFO	0x0030
#define IDM_GPU_GET_PROPS	0x0031
#define IDM_GPU_GET_ZONE	0x0032
#define IDM_HELLO		0x0040	/* first message of a session: version, table hash, arena address */
#define IDM_ARENA_GROWN		0x0041	/* the transport has lent more arena: map it */
#define IDM_RESPONSE_OK		0x00F0
#define IDM_RESPONSE_ERROR	0x00F1
#define IDM_OUTPUT		0x00F2	/* worker to client: text a kernel printed; `seq` 2: for stderr, else stdout */
#define IDM_CALLBACK		0x00F3	/* worker to client: a host function's turn has come; `seq` says which */
#define IDM_CUDA_BASE		0x1000

/* Error codes, below CUDA's own. IDM_ERROR_CUDA_ERROR has a CUresult beside it in struct idm_response. */
#define IDM_ERROR_NONE			0
#define IDM_ERROR_INVALID_MESSAGE	1
#define IDM_ERROR_INVALID_HANDLE	2
#define IDM_ERROR_PERMISSION_DENIED	3
#define IDM_ERROR_OUT_OF_MEMORY		4
#define IDM_ERROR_INVALID_SIZE		5
#define IDM_ERROR_TIMEOUT		6
#define IDM_ERROR_CONNECTION_LOST	7
#define IDM_ERROR_CUDA_ERROR		8

/* struct idm_header.flags */
#define IDM_FLAG_POSTED		0x1u	/* request: no reply is wanted; a failure is latched for the thread */
#define IDM_FLAG_ARENA	0x2u	/* request: the payload is a struct idm_elsewhere, and the real one is in the arena */

/**
 * struct idm_header - what every message starts with.
 * @magic:	 IDM_MAGIC
 * @version:	 IDM_VERSION
 * @type:	 IDM_* or a number of the call table
 * @src_zone:	 the sender's domain id; the worker compares it with what xenbus said and ends the session on a lie
 * @dst_zone:	 the receiver's domain id
 * @seq:	 chosen by the client, not 0; a reply repeats that of its request. Replies may overtake each other
 * @payload_len: bytes after this header, at most IDM_PAYLOAD_MAX
 * @flags:	 IDM_FLAG_*
 */
struct idm_header {
	__u32 magic;
	__u16 version;
	__u16 type;
	__u32 src_zone;
	__u32 dst_zone;
	__u64 seq;
	__u32 payload_len;
	__u32 flags;
};

/**
 * struct idm_elsewhere - where the payload of a request with IDM_FLAG_ARENA is: one that is too long for the ring.
 * @offset:   in the arena
 * @size:     bytes, at most IDM_PAYLOAD_MAX
 * @reserved: 0
 *
 * The worker copies it out, once, before it gives the message's room in the ring back; from then on the client may
 * use the arena for something else.
 */
struct idm_elsewhere {
	__u64 offset;
	__u32 size;
	__u32 reserved;
};

/**
 * struct idm_response - the start of every reply's payload; results of the call follow.
 * @error:	  IDM_ERROR_*
 * @cu_result:	  CUresult of the call
 * @latched:	  CUresult of the first posted call of the same client thread that failed since its last reply, else 0
 * @latched_type: that call's message type
 */
struct idm_response {
	__u32 error;
	__s32 cu_result;
	__s32 latched;
	__u32 latched_type;
};

/* struct idm_side.sleeping */
#define IDM_SLEEP_DATA	0x1u	/* waits for a message to arrive */
#define IDM_SLEEP_SPACE	0x2u	/* waits for room in the ring it writes */

/**
 * struct idm_side - one side's wake-up state, a cache line of its own.
 * @sleeping: IDM_SLEEP_*; set by its owner, cleared by whoever wakes it
 * @wake:     local transport: the futex word, incremented before each wake
 * @cpu:      CPU the owner last ran on plus 1, or 0 if that means nothing to the peer (another domain)
 */
struct idm_side {
	__u32 sleeping;
	__u32 wake;
	__u32 cpu;
	__u32 reserved[13];
};

/** struct idm_ring - free-running byte counts; each on a cache line of its own. */
struct idm_ring {
	__u32 prod;
	__u32 reserved0[15];
	__u32 cons;
	__u32 reserved1[15];
};

/* struct idm_session.state */
#define IDM_STATE_NEW		0	/* no worker yet */
#define IDM_STATE_RUNNING	1	/* a worker serves it */
#define IDM_STATE_ENDED		2	/* over; `reason` says why */

#define IDM_REASON_MAX	256

/**
 * struct idm_session - page 0 of a session.
 * @state:   IDM_STATE_*, written by the driver domain
 * @reason:  why the session ended, NUL-terminated UTF-8; valid once @state is IDM_STATE_ENDED
 * @client:  the client's wake-up state
 * @worker:  the worker's wake-up state
 * @request: client produces, worker consumes
 * @reply:   worker produces, client consumes
 */
struct idm_session {
	__u32 state;
	__u32 reserved0[15];
	struct idm_side client;
	struct idm_side worker;
	struct idm_ring request;
	struct idm_ring reply;
	__u8 reason[IDM_REASON_MAX];
	__u8 reserved1[IDM_PAGE_SIZE - 64 - 2 * 64 - 2 * 128 - IDM_REASON_MAX];
};

/*
 * Where the arena lives. Client and worker map it at the same virtual address, so that pinned host memory has
 * one address everywhere. The client proposes a slot in IDM_HELLO; if the worker has something there already it
 * says IDM_ERROR_INVALID_SIZE and the client proposes the next. A slot is far from where heaps, stacks, mmap()
 * and NVIDIA's driver put things.
 */
#define IDM_ARENA_SLOTS		8
#define IDM_ARENA_SLOT_SIZE	0x010000000000ull	/* 1 TiB */
#define IDM_ARENA_SLOT_BASE	0x200000000000ull
#define IDM_ARENA_SLOT(i)	(IDM_ARENA_SLOT_BASE + (i) * IDM_ARENA_SLOT_SIZE)

#ifdef __KERNEL__
static_assert(sizeof(struct idm_header) == 32);
static_assert(sizeof(struct idm_response) == 16);
static_assert(sizeof(struct idm_elsewhere) == 16);
static_assert(sizeof(struct idm_side) == 64);
static_assert(sizeof(struct idm_ring) == 128);
static_assert(sizeof(struct idm_session) == IDM_PAGE_SIZE);
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct idm_header) == 32, "idm_header");
_Static_assert(sizeof(struct idm_response) == 16, "idm_response");
_Static_assert(sizeof(struct idm_elsewhere) == 16, "idm_elsewhere");
_Static_assert(sizeof(struct idm_side) == 64, "idm_side");
_Static_assert(sizeof(struct idm_ring) == 128, "idm_ring");
_Static_assert(sizeof(struct idm_session) == IDM_PAGE_SIZE, "idm_session");
#endif

#endif /* _UAPI_IDM_H */
