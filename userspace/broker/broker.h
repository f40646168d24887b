/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-broker: the supervisor. Everything hangs off one epoll loop in one thread; another one closes files (aside.c).
 *
 *	main.c		command line, event loop, signals, draining
 *	device.c	devices: quota, session limit
 *	session.c	a session's life: offered, waiting for a worker, running, ended
 *	pool.c		workers: spawned ahead, assigned once, watched by pidfd
 *	messages.c	what they say and are told
 *	local.c		devices of this machine, each a UNIX socket
 *	xen.c		devices of pods, through /dev/vgpu-back
 *	ipc.c		what a device's sessions share with one another
 *	images.c	code for the GPU that a device's clients have loaded
 *	aside.c		what may last, and must keep nobody else waiting
 *	adopt.c		workers of an earlier broker
 *	share.c		weights
 *	cgroup.c	host memory and threads of workers
 *	zone.c		and of all that one zone has
 *	control.c	what is asked: list, stats, set, watch, quit
 *	report.c	the answers to list and stats
 *	events.c	the answers to watch
 *	quota.c, log.c
 *
 * Objects are freed at the end of a loop turn (later()), since an event of the same turn may still point to them.
 */
#ifndef BROKER_H
#define BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "aside.h"
#include "images.h"
#include "ipc.h"
#include "libidm.h"
#include "log.h"
#include "proto.h"
#include "quota.h"

#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

#define LOCAL_ZONE_FIRST	0x10000u
#define LOCAL_OWN_ZONE		0u
#define LOCAL_ARENA_DEFAULT	(4096ull << 20)
#define SESSIONS_DEFAULT	64
#define WORKER_MEMORY_DEFAULT	(8192ull << 20)	/* a driver, its copies of images, and what libraries load */
#define WORKER_THREADS_DEFAULT	1024u		/* one each for the driver's processors, and those that wait */
#define ZONE_DERIVED		UINT64_MAX	/* what a zone may have is derived from what a worker may, and from what there is */
#define DRAIN_GRACE_NS		5000000000ull	/* SIGTERM: sessions may finish for this long */
#define KILL_GRACE_NS		1000000000ull	/* a worker told to end its session gets this long */
#define GONE_GRACE_NS		50000000ull	/* and one whose client has gone, this long to notice */

struct worker;
struct session;
struct zone;
struct adopt_record;

/** struct source - something epoll watches. */
struct source {
	int fd;
	void (*ready)(struct source *s, uint32_t events);
};

struct device {
	struct device *next;
	uint32_t zone, id;
	bool xen, removed;
	char name[64];			/* local: NAME of --local */
	char gpu[WORKER_GPU_MAX];
	uint64_t memory;		/* quota in bytes, 0: none */
	uint64_t arena_max;		/* local */
	uint32_t weight, max_sessions, nsessions, visitors;
	struct quota quota;
	struct log_bucket bucket;	/* for lines its clients cause by doing wrong */
	struct log_bucket chatter;	/* and just by coming and going */
	uint64_t started_ns;		/* when it last got a worker: devices take turns */
	struct source listener;		/* local */
	char path[108];
	uint64_t served, refused;
	/* Of sessions that are over. */
	uint64_t calls, launches, gpu_ns, quota_refusals, refused_calls;
	uint64_t violations;
	struct log_bucket refusals;
	struct image_cache images;
	struct ipc_registry ipc;
	unsigned int files;		/* descriptors kept for its clients: images, and what they share */
};

enum session_state { SESSION_WAITING, SESSION_RUNNING, SESSION_ENDING };

struct session {
	struct session *next;
	struct device *device;
	uint32_t number;
	enum session_state state;
	struct worker *worker;
	uint64_t start_ns, kill_ns;
	int fd;				/* local: memfd; Xen: session file. Kept to tell the client of an end */
	int conn;			/* local, waiting: the client's connection */
	struct source life;		/* local, running: hangs up when the client dies */
	uint32_t own_zone;		/* the driver domain's number, as messages name it */
	struct idm_local_request request;
	char reason[IDM_REASON_MAX];	/* why it ended, once known */
	bool client_gone;		/* no reason needs telling any more */
	bool foreign;			/* Xen: a worker of an earlier broker serves it */
	bool news;			/* it is told of new images */
};

/** struct refusals - a watch over threads that a cgroup's limit has refused. @seen: how many; @told_ns: when that was said last */
struct refusals {
	struct source source;
	uint64_t seen, told_ns;
};

enum worker_state { WORKER_STARTING, WORKER_IDLE, WORKER_BUSY, WORKER_GONE };

struct worker {
	struct worker *next;
	enum worker_state state;
	pid_t pid;
	struct source pidfd, control;
	const struct worker_stats *stats;
	int stats_fd;			/* until it is sealed: then nobody can punch holes into what is read here */
	struct session *session;
	struct quota_holder holder;
	uint64_t shared;		/* bytes charged in ipc.c that it answers for: each object's are one worker's */
	uint64_t private_max;		/* RLIMIT_DATA that it has, with the software GPU */
	uint64_t host_max;		/* memory.max of its cgroup */
	struct zone *zone;		/* whose cgroup has its cgroup; NULL: none has, it is on its own */
	struct refusals refusals;
	uint64_t start_ns;
	uint64_t cpu_ns;		/* processor time that it had used when it got its session */
	unsigned int may_hold;		/* first BROKER_QUOTAs under way: so many WORKER_HOLDS are right */
	bool adopted;			/* of an earlier broker: seen, charged and killed, but not spoken with */
	struct adopt_record *record;	/* what a later broker is to know */
};

struct broker {
	const char *run_dir, *driver, *user;
	char worker_path[4096], driver_path[4096];
	unsigned int pool;
	uint64_t worker_memory;		/* bytes of host memory for each, beside what its device has; 0: no limit */
	unsigned int worker_threads;	/* for each; 0: no limit */
	uint64_t zone_memory, zone_threads;	/* the same for all workers of a zone together, or ZONE_DERIVED */
	bool xen, draining, quit, root, soft;
	uid_t uid;
	gid_t gid;
	char empty_dir[128];
	int epoll;
	struct device *devices;
	struct session *sessions;
	struct worker *workers;
	uint32_t next_zone, next_session;
	uint64_t drain_ns, start_ns;
	/* Workers that cannot start (no driver library, say) must not be respawned in a tight loop. */
	unsigned int start_failures;
	uint64_t retry_ns;
	char start_failure[WORKER_TEXT_MAX];
	uint64_t sessions_served, workers_spawned;
	unsigned int files, files_max;	/* kept for all devices' clients, and how many may be */
};
extern struct broker broker;

/* No zone's images and shared objects may take all descriptors there are: sessions need some, and so do other zones. */
static inline bool files_left(const struct device *d)
{
	return d->files < broker.files_max / 2 && broker.files < broker.files_max;
}

static inline void files_count(struct device *d, int n)
{
	d->files += n;
	broker.files += n;
}

/* main.c */
int watch(struct source *s, int fd, uint32_t events, void (*ready)(struct source *s, uint32_t events));
void unwatch(struct source *s);		/* and close */
void later(void *p);			/* free at the end of this turn */
void drain(const char *why);

/* device.c */
struct device *device_add(bool xen, uint32_t zone, uint32_t id);
struct device *device_find(bool xen, uint32_t zone, uint32_t id);
void device_remove(struct device *d);
/** Change what can change while there are sessions; the workers learn of a new quota at once. @memory: bytes, 0: none */
void device_configure(struct device *d, uint64_t memory, uint32_t weight, uint32_t max_sessions);
/** The session's counters go into its device's. @gpu_ns: what its worker used */
void device_account(struct device *d, const struct worker *w, uint64_t gpu_ns);
uint64_t device_used(const struct device *d);
/** The device's memory and its sessions for one of them, @asking, which is not listed; @first are left out. */
void device_describe(const struct device *d, const struct session *asking, uint64_t first, struct vgpu_zone_reply *z);
void device_log(struct device *d, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/** May a line be written that clients of @d can cause? @b: one of its buckets. Says how many were not, first. */
bool device_may_log(struct device *d, struct log_bucket *b);

/* session.c */
/** @return NULL and *@why a text if the device takes no more sessions. */
struct session *session_new(struct device *d, uint32_t number, char *why, size_t cap);
struct session *session_find_xen(uint32_t number);
void session_start(struct session *s);			/* get a worker, now or when one is ready */
void session_start_waiting(void);
void session_refuse(struct session *s, int err, const char *why);
void session_end(struct session *s, const char *why);	/* tell the worker; kill it if it does not obey */
void session_over(struct session *s);			/* worker gone: tell the client, free */
uint64_t session_tick(uint64_t now_ns);
void session_log(struct session *s, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* pool.c */
void pool_fill(void);
struct worker *pool_take(void);
bool pool_seal_stats(struct worker *w);	/* the worker has mapped them */
int worker_assign(struct worker *w, struct session *s, int life);
void worker_kill(struct worker *w);
void pool_release_idle(void);
/** Processor time of a live worker since it got its session: with the software GPU, its GPU time. */
uint64_t worker_cpu_ns(const struct worker *w);
void worker_watch_adopted(struct worker *w, int pidfd);
uint64_t pool_tick(uint64_t now_ns);

/* messages.c */
int worker_send(struct worker *w, const struct worker_msg *m, const int *fds, int nfds);
void worker_listen(struct worker *w);			/* take what it has said by now */
void worker_speaks(struct source *control, uint32_t events);

/* local.c */
int local_parse(const char *spec);
int local_listen_all(void);
void local_stop(void);
int local_grant(struct session *s, int *life);
void local_watch_life(struct session *s, int life);
bool local_client_gone(struct session *s);
void local_refuse(struct session *s, int err, const char *why);
void local_end(struct session *s, const char *why);	/* tell the client */

/* xen.c */
int xen_open(void);
void xen_stop(void);
int xen_accept(struct session *s);	/* also learns @s->own_zone */
void xen_refuse(struct session *s, const char *why);
void xen_end(int fd, const char *why);

/* adopt.c */
void adopt_open(void);				/* read what the broker before us wrote; begin anew */
bool adopt_session(struct session *s);		/* find the worker that serves it */
void adopt_write(struct worker *w);		/* @w has a session, or its lease has changed */
void adopt_forget(struct worker *w);

/* share.c */
void share_apply(const struct device *d);	/* its weight or its sessions have changed */

/* cgroup.c, zone.c: nothing happens where there are no cgroups */
void cgroup_open(void);
void cgroup_close(void);
void cgroup_worker_new(struct worker *w);
void cgroup_worker_limit(struct worker *w);	/* by its device: before it has a client, and when the quota changes */
void cgroup_worker_gone(struct worker *w);
bool cgroup_limits_threads(void);
/** @w has been killed: was that for want of memory? Then @why says of whose, for its client and the log. */
bool cgroup_why_killed(struct worker *w, char *why, size_t cap);

/** Put @w, which has a session now, among its zone's. An adopted one is counted where it is. */
void zone_enter(struct worker *w);
void zone_leave(struct worker *w);
/** The device is new, or what it may have has changed. */
void zone_configured(const struct device *d);
/** Has its zone too few threads left for another worker? Then @why says so. */
bool zone_full(const struct device *d, char *why, size_t cap);

/** struct zone_use - what a zone's workers have of the driver domain, and may have, together; UINT64_MAX: no limit, or not known */
struct zone_use {
	uint64_t memory, memory_max;	/* bytes */
	uint64_t threads, threads_max;
};
void zone_use(const struct device *d, struct zone_use *use);

/* control.c */
int control_listen(void);
void control_stop(void);

/* report.c */
void report_list(FILE *f);
void report_json(FILE *f);
void report_stats(FILE *f);
void report_string(FILE *f, const char *s);	/* quoted for JSON */
const char *report_device(const struct device *d, char *buf, size_t cap);

/* events.c */
/** Take the connection over; it gets a line of JSON for every event. */
int events_watch(int fd);
void events_stop(void);
/** @d, @s: whom it concerns, or NULL. Costs nothing while nobody watches. */
void event(const char *name, const struct device *d, const struct session *s, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif /* BROKER_H */
