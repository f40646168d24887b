/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vgpu-front: the pod's half of the paravirtual GPU. Functions are grouped by the file that has them.
 *
 * Objects: struct vgpu_front is one xenbus device; struct vgpu_file one open of its character device, one client
 * process; struct vgpu_session that client's session; struct vgpu_extent a run of its pages, mapped from the backend.
 *
 * Locks, in the order in which they nest: vgpu_file.lock, mmap_lock or vgpu_front.lock, vgpu_session.map_lock,
 * vgpu_channel.lock. vgpu_front.ring_lock is the only one taken in interrupts.
 */
#ifndef VGPU_FRONT_H
#define VGPU_FRONT_H

#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/grant_table.h>
#include <xen/xenbus.h>

#include <uapi/idm.h>
#include <uapi/linux/vgpu.h>
#include <uapi/xen/io/vgpuif.h>
#include "layout.h"

struct vgpu_counters {
	/* gauges: 0 when everything was given back */
	long sessions;
	long pages_mapped;
	long pages_leaked;
	long event_channels;
	long connected;
	/* totals */
	long sessions_opened;
	long sessions_lost;
	long requests;
	long responses;
	long notifications_sent;
	long notifications_received;
	long spurious_events;
	long protocol_errors;
};

DECLARE_PER_CPU(struct vgpu_counters, vgpu_counters);
#include "channel.h"

/* Requests that may await their responses; fewer than the ring's 64 slots, so that it is never full. A power of two. */
#define VGPU_CALLS	32

/* Rings of connections before that backends may keep mapped, a grant each. With that many there are no more. */
#define VGPU_OLD_RINGS	32

struct vgpu_call;

/* A control ring of a connection before, as long as its backend has it mapped. */
struct vgpu_old_ring {
	void *page;
	grant_ref_t ref;
};

/**
 * struct vgpu_front - one xenbus device
 * @ref:	  held by xenbus, every open file and every session
 * @lock:	  xendev, zone, backend_zone, max_arena, connected, sessions, all_sessions
 * @xendev:	  NULL once removed
 * @misc:	  /dev/vgpu, or /dev/vgpu1 and up
 * @name:	  its name
 * @device:	  number of the xenbus device
 * @zone:	  this domain's id, as the backend knows it
 * @backend_zone: the backend's domain id
 * @max_arena:	  bytes, told by the backend
 * @connected:	  sessions can be opened
 * @connect_wq:   waits for @connected
 * @sessions:	  all that the backend knows of
 * @all_sessions: and those that it does not, or no longer
 * @ring_lock:	  all below
 * @ring_up:	  the control ring can be used
 * @broken:	  the backend broke the protocol: its events are no longer acknowledged
 * @ring:	  control ring
 * @ring_ref:	  its grant
 * @old_rings:	  of connections before, the first @nr_old_rings
 * @irq:	  its event channel
 * @connection:   counts the connections that have ended
 * @calls:	  by the lowest bits of the request's id
 * @ids:	  given out so far
 * @call_wq:	  waits for a free slot in @calls
 * @fault_work:   tells xenbus about @broken
 */
struct vgpu_front {
	struct kref ref;
	struct mutex lock;	/* xendev to all_sessions, but for misc, name, device */
	struct xenbus_device *xendev;
	struct miscdevice misc;
	char name[16];
	u32 device;
	u32 zone;
	u32 backend_zone;
	u64 max_arena;
	bool connected;
	wait_queue_head_t connect_wq;
	struct list_head sessions;
	struct list_head all_sessions;

	spinlock_t ring_lock;	/* all below */
	bool ring_up;
	bool broken;
	struct vgpuif_front_ring ring;
	grant_ref_t ring_ref;
	struct vgpu_old_ring old_rings[VGPU_OLD_RINGS];
	unsigned int nr_old_rings;
	unsigned int irq;
	u64 connection;
	struct vgpu_call *calls[VGPU_CALLS];
	u16 ids;
	wait_queue_head_t call_wq;
	struct work_struct fault_work;
};

/**
 * struct vgpu_file - one open of the character device
 * @front:   the device
 * @lock:    creation and growth of @session
 * @session: NULL until VGPU_IOC_SESSION succeeded, then fixed
 * @mapping: of this file alone, so that a lost session's pages can be taken out of its client only
 */
struct vgpu_file {
	struct vgpu_front *front;
	struct mutex lock;	/* creation and growth of the session */
	struct vgpu_session *session;
	struct address_space mapping;
};

/**
 * struct vgpu_extent - pages of a session that one response lent
 * @node:    vgpu_session.extents
 * @first:   offset of the first in the session's file, in pages
 * @nr:      how many
 * @epoch:   value of vgpu_epoch when they were mapped
 * @mapped:  how many still are mapped; from the front of the arrays
 * @pages:   page structures without memory of their own, behind which the grants are mapped
 * @handles: what maps them
 */
struct vgpu_extent {
	struct list_head node;
	unsigned long first;
	unsigned int nr;
	unsigned int epoch;
	unsigned int mapped;
	struct page **pages;
	grant_handle_t *handles;
};

/**
 * struct vgpu_session
 * @ref:       held by the file, by vgpu_front.sessions, by @work while it is queued, and while @unanswered
 * @front:     the device
 * @node:      vgpu_front.sessions
 * @all:       vgpu_front.all_sessions
 * @number:    from the backend
 * @connection: over which it was opened: vgpu_front.connection when it was listed. @number means nothing to others
 * @layout:    offsets
 * @mm:	       the client's; whoever has another (a child after fork) may only close the file
 * @owner:     the client's table of files, to notice its death when a child keeps the file open
 * @map_lock:  @extents, @arena_size, @revoked, @page0
 * @extents:   in the order of their offsets, without gaps
 * @arena_size: bytes
 * @revoked:   pages must not be put into the client any more: @tombstone and @scratch go there instead
 * @page0:     NULL once unmapped
 * @can_grow:  false once a response to GROW has got lost; under vgpu_file.lock
 * @mapping:   of the file, valid until the file is released
 * @tombstone: stands in for page 0 of a lost session, and says that it has ended
 * @scratch:   stands in for all other pages
 * @work:      unmaps the grants, as soon as nobody uses the pages
 * @delay:     until its next attempt, in jiffies
 * @suspended: lost because the domain was about to be suspended
 * @unanswered: the client was killed in its OPEN, and @answered will close @channel
 * @answered:  the backend has bound @channel or never will
 * @channel:   the client's notifications
 */
struct vgpu_session {
	struct kref ref;
	struct vgpu_front *front;
	struct list_head node;
	struct list_head all;
	u32 number;
	u64 connection;
	struct vgpu_layout layout;
	struct mm_struct *mm;
	fl_owner_t owner;

	struct mutex map_lock;	/* extents, arena_size, revoked, page0 */
	struct list_head extents;
	u64 arena_size;
	bool revoked;
	struct idm_session *page0;
	bool can_grow;
	struct address_space *mapping;
	struct page *tombstone;
	struct page *scratch;

	struct delayed_work work;
	unsigned long delay;
	bool suspended;
	bool unanswered;
	struct work_struct answered;
	struct vgpu_channel channel;
};

/* main.c */
extern struct workqueue_struct *vgpu_wq;
extern unsigned int vgpu_epoch;
void vgpu_front_put(struct vgpu_front *front);

/* xenbus.c */
int vgpu_xenbus_register(void);
void vgpu_xenbus_unregister(void);

/* control.c: the control ring's client */
int vgpu_control_connect(struct vgpu_front *front, evtchn_port_t *port);
void vgpu_control_disconnect(struct vgpu_front *front);
void vgpu_control_exit(struct vgpu_front *front);
u64 vgpu_control_connection(struct vgpu_front *front);
int vgpu_control_call(struct vgpu_session *s, const struct vgpuif_request *req, struct vgpuif_response *rsp);
void vgpu_control_close_session(struct vgpu_session *s);

/* extent.c: granted pages */
struct vgpu_extent *vgpu_extent_map(u32 zone, grant_ref_t directory, unsigned int nr, unsigned long first);
bool vgpu_extent_unmap(struct vgpu_extent *extent);

/* session.c */
struct vgpu_session *vgpu_session_open(struct vgpu_file *file, struct vgpu_session_params *params);
void vgpu_session_release(struct vgpu_session *s);
void vgpu_session_lose(struct vgpu_session *s, bool suspended);
void vgpu_session_leftovers(struct vgpu_session *s);
void vgpu_session_orphan(struct vgpu_session *s);
void vgpu_session_unanswered(struct vgpu_session *s);
void vgpu_session_answered(struct vgpu_session *s);
int vgpu_session_grow(struct vgpu_session *s, u64 *arena_size);
int vgpu_session_mmap(struct vgpu_session *s, struct vm_area_struct *vma);

/* chardev.c */
int vgpu_chardev_add(struct vgpu_front *front);
void vgpu_chardev_remove(struct vgpu_front *front);

/* debugfs.c */
void vgpu_debugfs_init(void);
void vgpu_debugfs_exit(void);

#endif /* VGPU_FRONT_H */
