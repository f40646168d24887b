/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between broker and worker: one SOCK_SEQPACKET message at a time over the worker's fd 3, and one shared page.
 *
 * The worker serves a client that may be hostile and may have taken it over. The broker therefore treats every
 * message and every word of the page as the client's: checked, bounded, and used for nothing but this session.
 */
#ifndef BROKER_PROTO_H
#define BROKER_PROTO_H

#include <stdint.h>

#include "idm.h"
#include "wire.h"

#define WORKER_FD_CONTROL	3	/* this protocol */
#define WORKER_FD_STATS		4	/* memfd of struct worker_stats */

#define WORKER_TEXT_MAX		512
#define WORKER_GPU_MAX		128
#define QUOTA_SLAB		(32ull << 20)	/* what a worker asks for at a time, if it may */

enum worker_msg_type {
	/* worker -> broker */
	WORKER_READY = 1,	/* driver loaded, sandboxed, waiting for a session */
	WORKER_FAILED,		/* text: why it cannot serve; it exits next */
	WORKER_LOG,		/* a: enum log_level; text */
	WORKER_ENDED,		/* text: why it ended the session ("" if the client just left); a: 1 if for a violation */
	WORKER_LEASE,		/* a: bytes needed, b: bytes welcome; answered by BROKER_LEASED */
	WORKER_RETURN,		/* a: bytes given back; b: 1 if it answers BROKER_RECLAIM */
	WORKER_MEMINFO,		/* answered by BROKER_MEMINFO */
	WORKER_ZONE,		/* a: sessions to leave out; answered by BROKER_ZONE */
	WORKER_HOLDS,		/* answers a BROKER_QUOTA before which there was none: a: bytes in use, but not leased */
	WORKER_REFUSED,		/* a: bytes that the client asked for and that the quota did not allow */

	/* broker -> worker */
	/* images.h; all but the last are answered by BROKER_IMAGE */
	WORKER_IMAGE_KNOWN,	/* the answer follows BROKER_NEWS of all that there is; later ones come unasked */
	WORKER_IMAGE_GET,	/* a: bytes; u.digest */
	WORKER_IMAGE_NEW,	/* a: bytes, b: a guess at what it is, u.digest: a sum; the memfd that comes is to be filled */
	WORKER_IMAGE_FILLED,	/* it is, and not mapped for writing any more */
	/* ipc.h; all but the last are answered by BROKER_IPC */
	WORKER_IPC_EXPORT,	/* a: bytes charged, b: of them from the lease, both the worker's no longer; u.ipc; fd */
	WORKER_IPC_IMPORT,	/* u.ipc: kind and token; it has it once more then */
	WORKER_IPC_MEMORY,	/* a: bytes of a memfd that the driver wants (softgpu_share.h) */
	WORKER_IPC_DROP,	/* a: number of what it has once less */

	BROKER_ASSIGN = 64,	/* u.assign; fds: session, and for a local one its life socket */
	BROKER_LEASED,		/* a: bytes granted, 0 if the quota is used up */
	BROKER_RECLAIM,		/* give back what is leased and not used */
	BROKER_MEMINFO,		/* a: bytes of the quota not used by any session of the device */
	BROKER_IMAGE,		/* a: 1 yes, 0 no; fd: the image, or where it goes */
	BROKER_NEWS,		/* u.news: guesses at images that are there */
	BROKER_END,		/* text: end the session for this reason */
	BROKER_ZONE,		/* u.zone */
	BROKER_IPC,		/* a: number, 0: refused; b: IPC_OWN; u.ipc; fd: what the driver made of it */
	BROKER_QUOTA,		/* a: the device's quota is this from now on (0: none); unused lease goes back */
};

/** struct worker_assign - the session a worker gets. */
struct worker_assign {
	uint32_t kind;		/* enum idm_server_kind */
	uint32_t zone, own_zone, device, session;
	uint32_t request_size, reply_size;	/* local only */
	uint64_t arena_size;			/* local only */
	uint64_t quota;				/* bytes of device memory of the whole device, 0: none */
	uint64_t data_limit;			/* RLIMIT_DATA to take on before the client is met, 0: none */
	char gpu[WORKER_GPU_MAX];		/* indices or UUIDs joined by '+' */
};

/* What sessions share. PHYSICAL: cuMemCreate(); POINTER: memory of a POOL */
enum ipc_kind { IPC_MEMORY = 1, IPC_EVENT, IPC_PHYSICAL, IPC_POOL, IPC_POINTER, IPC_KINDS };
#define IPC_TOKEN_BYTES	32
#define IPC_OWN		1u	/* it exported this itself, and has it no more often than before */

/** struct worker_ipc - something that is shared. @device: of the session's GPUs, by number */
struct worker_ipc {
	uint32_t kind;		/* enum ipc_kind */
	uint32_t device;
	uint64_t size;		/* bytes of memory */
	uint8_t token[IPC_TOKEN_BYTES];
	uint8_t handle[64];	/* the driver's */
};

struct worker_msg {
	uint32_t type;
	uint32_t reserved;
	uint64_t a, b;
	union {
		char text[WORKER_TEXT_MAX];
		uint8_t digest[32];
		struct worker_assign assign;
		struct vgpu_zone_reply zone;
		struct worker_ipc ipc;
		struct {
			uint64_t count, guess[VGPU_IMAGE_NEWS];
		} news;
	} u;
};

/** struct worker_stats - written by the worker, read by the broker for people to look at. */
struct worker_stats {
	uint64_t calls;		/* messages served */
	uint64_t launches;
	uint64_t refused;	/* calls with a bad handle, address or length */
	uint64_t memory;	/* device memory in use, bytes */
	uint64_t memory_peak;
	uint64_t handles;
	uint32_t client_pid;	/* as the client says */
	uint32_t reserved;
	char program[64];	/* as the client says */
	uint64_t quota_refusals;	/* allocations that the quota did not allow */
};

#endif /* BROKER_PROTO_H */
