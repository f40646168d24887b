/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * vgpuif.h - the paravirtual GPU's device protocol: xenstore nodes and the control ring.
 *
 * A backend (driver domain) lends memory to a frontend (pod); rings and bulk memory of GPU sessions live in that
 * memory and are no business of this protocol (see idm.h). Here sessions are only opened, grown and closed.
 * Documentation/xenbus-protocol.rst tells the same with diagrams and reasons.
 *
 *
 * Xenstore: backend directory, /local/domain/<backend>/backend/vgpu/<frontend>/<device>
 *
 *   Written by the toolstack, besides frontend, frontend-id, online and state:
 *
 *   gpu		Values: strings joined by '+', default empty
 *		Which GPUs the device shows: indices, GPU UUIDs or MIG UUIDs. Passed to the broker as it is.
 *
 *   memory	Values: MiB, default 0 (no quota)
 *		Device memory that all sessions of this device may use together. Enforced by the broker.
 *
 *   weight	Values: 1 and up, default 1
 *		Share of the GPU among zones. Enforced by the broker.
 *
 *   sessions	Values: 1 and up, default: module parameter max_sessions
 *		Most sessions open at a time. Enforced by the backend.
 *
 *   memory, weight and sessions may be rewritten while the device lives, together in one transaction: the backend
 *   watches its directory. What is in use stays; what is asked for from then on is measured by the new values.
 *
 *   Written by the backend before InitWait:
 *
 *   versions	Values: numbers joined by ','
 *		Versions of this protocol the backend speaks: "1". A frontend looks for a number that is its own, whole.
 *
 *   max-arena	Values: bytes
 *		The largest arena a session may grow to.
 *
 *
 * Xenstore: frontend directory, /local/domain/<frontend>/device/vgpu/<device>
 *
 *   Written by the frontend before Initialised:
 *
 *   version		The chosen version: 1.
 *   protocol		XEN_IO_PROTO_ABI_*: the layout of the ring's structures. All fields are naturally
 *			aligned, so it is only checked.
 *   ring-ref		Grant reference of the control ring's only page.
 *   event-channel	The control ring's event channel, unbound, allocated for the backend.
 *
 *
 * State machine
 *
 *   Frontend				Backend
 *   Initialising			Initialising
 *					  writes versions, max-arena
 *					InitWait
 *   allocates the ring, writes its
 *   nodes
 *   Initialised
 *					  maps the ring
 *					Connected
 *   Connected
 *
 *   The backend maps the ring on Initialised only, never on Connected: a backend that was reloaded finds a
 *   frontend in Connected, whose ring belongs to the past. That frontend sees InitWait (or Closed before it), gives up
 *   its sessions, and starts again at Initialising.
 *
 *   Closing: whoever wants to go writes Closing or Closed; the other ends all sessions and follows with Closed.
 *   A backend whose frontend is Closed waits in Closed for Initialising while `online` is 1, and goes away otherwise.
 *   A backend that saw a protocol violation stays closed for good, as does one that was offered 32 control rings
 *   which it could not use.
 *
 *
 * Control ring
 *
 *   A standard Xen ring of one page, owned by the frontend. Each request gets exactly one response; responses may
 *   come in any order and repeat the request's id and operation. All padding must be zero.
 *
 *   OPEN	The backend lends page 0, both rings and the arena, binds the session's event channel, and answers with
 *	the session's number and a directory. No worker need have taken the session yet; if none does, the session
 *	ends, as it may at any later time, and page 0 says why (struct idm_session).
 *
 *   GROW	The backend lends the part of the arena that is missing to the total asked for, and answers with a
 *	directory of these new pages only.
 *
 *   CLOSE	The frontend has given up the session. It unmaps the pages before or after, as soon as it can; until
 *	then they count against its zone's quota.
 *
 * Directory
 *
 *   The pages lent by one response are listed, in the order of their file offsets (linux/vgpu.h), in a chain of
 *   directory pages, which are lent too, read-only, for the life of the session. The response's nr_pages is how many
 *   references the chain holds.
 *
 * Session event channel
 *
 *   Allocated unbound by the frontend for each session and bound by the backend on OPEN. A notification means
 *   "look at page 0 and the rings". The backend notifies once more when it has set page 0's state to
 *   IDM_STATE_ENDED. It is closed by either side at CLOSE or when the device disconnects.
 */
#ifndef _UAPI_XEN_IO_VGPUIF_H
#define _UAPI_XEN_IO_VGPUIF_H

#include <linux/types.h>

#define VGPUIF_VERSION		1

/* struct vgpuif_request.op */
#define VGPUIF_OP_OPEN		1
#define VGPUIF_OP_GROW		2
#define VGPUIF_OP_CLOSE		3

/* struct vgpuif_response.status */
#define VGPUIF_OKAY		0
#define VGPUIF_ERROR		(-1)	/* anything else; the driver domain's log says what */
#define VGPUIF_NO_SPACE		(-2)	/* the zone's quota of sessions or lent pages is used up */
#define VGPUIF_NO_MEMORY	(-3)	/* the driver domain is out of memory or grant references */
#define VGPUIF_NO_SESSION	(-4)	/* no session of this number, or it is over */
#define VGPUIF_BAD_EVTCHN	(-5)	/* the session's event channel could not be bound */

/**
 * struct vgpuif_open
 * @event_channel: the session's, unbound, allocated for the backend's domain
 * @request_size:  bytes, power of two, IDM_RING_MIN .. IDM_RING_MAX
 * @reply_size:    likewise
 * @reserved:	   0
 * @arena_size:	   bytes, multiple of 4096, at most max-arena
 */
struct vgpuif_open {
	__u32 event_channel;
	__u32 request_size;
	__u32 reply_size;
	__u32 reserved;
	__u64 arena_size;
};

/**
 * struct vgpuif_grow
 * @session:    from the response to OPEN
 * @reserved:   0
 * @arena_size: total bytes wanted, multiple of 4096, at most max-arena
 */
struct vgpuif_grow {
	__u32 session;
	__u32 reserved;
	__u64 arena_size;
};

/**
 * struct vgpuif_close
 * @session:  from the response to OPEN
 * @reserved: 0
 */
struct vgpuif_close {
	__u32 session;
	__u32 reserved;
};

/**
 * struct vgpuif_request
 * @id:	      chosen by the frontend, repeated in the response
 * @op:	      VGPUIF_OP_*
 * @reserved: 0
 */
struct vgpuif_request {
	__u16 id;
	__u16 op;
	__u32 reserved;
	union {
		struct vgpuif_open open;
		struct vgpuif_grow grow;
		struct vgpuif_close close;
		__u8 raw[24];
	} u;
};

/**
 * struct vgpuif_response
 * @id:	        the request's
 * @op:	        the request's
 * @status:     VGPUIF_OKAY or another of its kind; all that follows is 0 if not VGPUIF_OKAY
 * @session:    OPEN: the session's number
 * @directory:  OPEN, GROW: grant reference of the first directory page
 * @nr_pages:   OPEN, GROW: references in the directory; GROW: 0 if the arena was that long already
 * @reserved:   0
 * @arena_size: OPEN, GROW: total bytes of arena lent
 */
struct vgpuif_response {
	__u16 id;
	__u16 op;
	__s32 status;
	__u32 session;
	__u32 directory;
	__u32 nr_pages;
	__u32 reserved;
	__u64 arena_size;
};

#define VGPUIF_DIRECTORY_REFS	1022

/**
 * struct vgpuif_directory - one page of a directory
 * @next: grant reference of the next page; meaningless in the last
 * @nr:   references in this page, 1 .. VGPUIF_DIRECTORY_REFS; all pages but the last are full
 * @refs: grant references, one for each page of 4096 bytes
 */
struct vgpuif_directory {
	__u32 next;
	__u32 nr;
	__u32 refs[VGPUIF_DIRECTORY_REFS];
};

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <xen/interface/io/ring.h>

DEFINE_RING_TYPES(vgpuif, struct vgpuif_request, struct vgpuif_response);

static_assert(sizeof(struct vgpuif_request) == 32);
static_assert(sizeof(struct vgpuif_response) == 32);
static_assert(sizeof(struct vgpuif_directory) == 4096);
#endif

#endif /* _UAPI_XEN_IO_VGPUIF_H */
