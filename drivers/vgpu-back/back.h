/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vgpu-back: the driver domain's half of the paravirtual GPU. Functions are grouped by the file that has them.
 *
 * Objects: struct vgpu_zone is a pod domain and its quota of lent pages; struct vgpu_back one of its xenbus devices;
 * struct vgpu_session a session of that; struct vgpu_lent pages lent at one time, which live on their own until the
 * zone has given them back.
 *
 * Locks, in the order in which they nest: mmap_lock or vgpu_lock, vgpu_session.lent_lock, vgpu_channel.lock,
 * charge_lock of zone.c. vgpu_lock covers devices, sessions and the broker's events, and is never held over anything
 * that waits for a broker, a worker or a zone. None is taken in interrupts.
 */
#ifndef VGPU_BACK_H
#define VGPU_BACK_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <xen/grant_table.h>
#include <xen/xenbus.h>

#include <uapi/idm.h>
#include <uapi/linux/vgpu_back.h>
#include <uapi/xen/io/vgpuif.h>
#include "layout.h"

struct vgpu_counters {
	/* gauges: 0 when everything was given back */
	long devices;
	long sessions;
	long sessions_accepted;
	long pages_lent;
	long pages_returning;
	long grants;
	long event_channels;
	long events_queued;
	/* totals */
	long sessions_opened;
	long sessions_refused;
	long sessions_unanswered;
	long requests;
	long notifications_sent;
	long notifications_received;
	long spurious_events;
	long protocol_errors;
	long grants_abandoned;
};

DECLARE_PER_CPU(struct vgpu_counters, vgpu_counters);
#include "channel.h"

/* A pod that closes a session and opens the next may find the first one's worker or pages still on their way out. */
#define VGPU_RETURN_TIME	(2 * HZ)
/* How long a session waits for a broker to accept it; part of uapi/linux/vgpu_back.h. */
#define VGPU_ACCEPT_TIME	(10 * HZ)

/**
 * struct vgpu_zone - a pod domain
 * @ref:     held by its devices and by lent pages
 * @node:    of the list of all zones
 * @domid:   domain id, from xenbus
 * @charged: pages lent and not yet back
 * @live:    those of them that belong to sessions which the frontend has open; the others are on their way back
 * @wq:	     waits for pages to come back
 */
struct vgpu_zone {
	struct kref ref;
	struct list_head node;
	domid_t domid;
	unsigned long charged;
	unsigned long live;
	wait_queue_head_t wq;
};

/**
 * struct vgpu_lent - pages that were lent by one request
 * @node:     vgpu_session.lents
 * @all:      of the list of everything lent
 * @zone:     to whom
 * @nr:	      pages of the session
 * @nr_total: and with the directory pages, which come after them
 * @left:     grants not yet ended; from the front of the arrays
 * @held:     a worker may still use the pages
 * @ended:    all grants have, and only @held keeps the pages
 * @pages:    @nr_total
 * @refs:     their grants
 * @work:     tries to end them
 * @delay:    until its next attempt, in jiffies
 */
struct vgpu_lent {
	struct list_head node;
	struct list_head all;
	struct vgpu_zone *zone;
	unsigned int nr;
	unsigned int nr_total;
	unsigned int left;
	bool held;
	bool ended;
	struct page **pages;
	grant_ref_t *refs;
	struct delayed_work work;
	unsigned long delay;
};

/**
 * struct vgpu_event - something to tell the broker; embedded in what it is about
 * @node: of the queue, or empty
 * @rec:  as the broker reads it
 * @back: a reference held while queued, or NULL
 * @session: likewise
 */
struct vgpu_event {
	struct list_head node;
	struct vgpu_back_event rec;
	struct vgpu_back *back;
	struct vgpu_session *session;
};

/**
 * struct vgpu_back - one xenbus device
 * @ref:	held by xenbus, sessions and queued events
 * @node:	of the list of all devices
 * @xendev:	valid while sessions are listed and the ring is up
 * @zone:	whose device it is
 * @device:	its number
 * @own_zone:	this domain's id
 * @weight:	as in struct vgpu_back_event
 * @memory:	likewise
 * @max_sessions: likewise
 * @max_arena:	bytes, as told to the frontend
 * @gpu:	likewise
 * @broken:	the frontend broke the protocol: closed for good
 * @bad_offers:	control rings offered that could not be used
 * @stopping:	the control ring's thread should hurry
 * @ring_up:	the control ring is mapped
 * @ring:	control ring
 * @ring_ref:	its grant
 * @port:	the frontend's event channel
 * @irq:	ours
 * @thread:	serves the ring
 * @notified:	there may be requests
 * @ring_wq:	waits for @notified
 * @sessions:	that the frontend has open
 * @nr_sessions: how many
 * @nr_held:	and those that the frontend has closed and whose worker still is there
 * @told:	the broker has read its DEVICE_ADD
 * @add:	event
 * @remove:	event
 * @config:	watches the device's directory for what the toolstack changes
 */
struct vgpu_back {
	struct kref ref;
	struct list_head node;
	struct xenbus_device *xendev;
	struct vgpu_zone *zone;
	u32 device;
	u32 own_zone;
	u32 weight;
	u64 memory;
	u32 max_sessions;
	u64 max_arena;
	char gpu[VGPU_BACK_GPU_MAX];

	bool broken;
	unsigned int bad_offers;
	bool stopping;
	bool ring_up;
	struct vgpuif_back_ring ring;
	grant_ref_t ring_ref;
	evtchn_port_t port;
	int irq;
	struct task_struct *thread;
	bool notified;
	wait_queue_head_t ring_wq;

	struct list_head sessions;
	unsigned int nr_sessions;
	unsigned int nr_held;
	bool told;
	struct vgpu_event add;
	struct vgpu_event remove;
	struct xenbus_watch config;
};

/**
 * struct vgpu_session
 * @ref:	held by the frontend having it open, by the worker's file, by @timeout and by queued events
 * @back:	device
 * @node:	vgpu_back.sessions
 * @number:	unique
 * @layout:	offsets
 * @client:	the frontend has it open
 * @worker:	a worker has its file
 * @told:	the broker has read its SESSION_OPEN
 * @open:	event
 * @close:	event
 * @timeout:	nobody accepted it
 * @ended:	page 0 says so
 * @lent_lock:	@lents, @arena_size, @nr_pages
 * @lents:	its memory, in the order of offsets; empty once neither side needs it
 * @arena_size: bytes
 * @nr_pages:	charged to the zone for it
 * @page0:	valid until its memory is taken back
 * @channel:	the worker's notifications
 */
struct vgpu_session {
	struct kref ref;
	struct vgpu_back *back;
	struct list_head node;
	u32 number;
	struct vgpu_layout layout;

	bool client;
	bool worker;
	bool told;
	struct vgpu_event open;
	struct vgpu_event close;
	struct delayed_work timeout;
	bool ended;

	struct mutex lent_lock;	/* lents, arena_size, nr_pages */
	struct list_head lents;
	u64 arena_size;
	unsigned long nr_pages;
	struct idm_session *page0;

	struct vgpu_channel channel;
};

/* main.c */
extern struct mutex vgpu_lock;
extern struct list_head vgpu_devices;		/* under vgpu_lock */
extern struct workqueue_struct *vgpu_wq;
extern unsigned int vgpu_max_sessions;
u64 vgpu_max_arena(void);
unsigned long vgpu_zone_limit(void);
unsigned long vgpu_zone_reserve(void);
unsigned long vgpu_all_limit(void);
void vgpu_back_put(struct vgpu_back *back);

/* xenbus.c */
int vgpu_xenbus_register(void);
void vgpu_xenbus_unregister(void);

/* control.c: the control ring's server */
int vgpu_control_connect(struct vgpu_back *back, grant_ref_t ref, evtchn_port_t port);
void vgpu_control_disconnect(struct vgpu_back *back);

/* zone.c: quotas */
struct vgpu_zone *vgpu_zone_get(domid_t domid);
void vgpu_zone_ref(struct vgpu_zone *zone);
void vgpu_zone_put(struct vgpu_zone *zone);
int vgpu_zone_charge(struct vgpu_zone *zone, unsigned long pages, const bool *stop);
void vgpu_zone_uncharge(struct vgpu_zone *zone, unsigned long pages);
void vgpu_zone_closing(struct vgpu_zone *zone, unsigned long pages);

/* lent.c: pages on loan */
struct vgpu_lent *vgpu_lent_alloc(struct vgpu_zone *zone, unsigned int nr, const bool *stop);
void vgpu_lent_give_back(struct vgpu_lent *lent, bool held);
void vgpu_lent_let_go(struct vgpu_lent *lent);
void vgpu_lent_exit(void);

static inline grant_ref_t vgpu_lent_directory(const struct vgpu_lent *lent)
{
	return lent->refs[lent->nr];
}

/* session.c */
int vgpu_session_open(struct vgpu_back *back, const struct vgpuif_open *open, struct vgpuif_response *rsp);
int vgpu_session_grow(struct vgpu_back *back, const struct vgpuif_grow *grow, struct vgpuif_response *rsp);
int vgpu_session_close(struct vgpu_back *back, u32 number);
void vgpu_session_close_all(struct vgpu_back *back, const char *reason);
struct vgpu_session *vgpu_session_accept(u32 number);
int vgpu_session_reject(u32 number, const char *reason);
void vgpu_session_end(struct vgpu_session *s, const char *reason);
void vgpu_session_release(struct vgpu_session *s);
void vgpu_session_put(struct vgpu_session *s);

/* file.c: a session as the worker's file */
int vgpu_session_file(u32 number);

/* broker.c: /dev/vgpu-back and its events; called with vgpu_lock held */
int vgpu_broker_init(void);
void vgpu_broker_exit(void);
void vgpu_broker_device_add(struct vgpu_back *back);
void vgpu_broker_device_changed(struct vgpu_back *back);
void vgpu_broker_device_remove(struct vgpu_back *back);
void vgpu_broker_session_open(struct vgpu_session *s);
void vgpu_broker_session_close(struct vgpu_session *s);

/* debugfs.c */
void vgpu_debugfs_init(void);
void vgpu_debugfs_exit(void);

#endif /* VGPU_BACK_H */
