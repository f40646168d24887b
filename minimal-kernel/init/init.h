/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vgpu-init: PID 1 of a pod and the agent in it. One thread, one event loop; whatever may block is done in a child.
 *
 *	main.c		which of its roles it plays, and the pod's start
 *	boot.c		mounts, root, modules	    config.c	the kernel's command line and xenstore
 *	network.c	rtnetlink		    power.c	clean end
 *	loop.c		descriptors, timers, children that do a job
 *	conn.c		the connection to the host: frames in, frames out, calls
 *	request.c	requests that are answered at once
 *	process.c	the table of processes and their lives; stdio.c their streams
 *	spec.c		CREATE's attributes taken apart; spawn.c makes a process of them; rootfs.c, terminal.c, creds.c: its surroundings
 *	cgroup.c, devices.c, stats.c, file.c, dial.c
 */
#ifndef VGPU_INIT_H
#define VGPU_INIT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "codec.h"
#include "transport.h"

#define BUILD	"vgpu-init 1"

/* ---- loop.c */

struct source {
	int fd;			/* -1: none */
	uint32_t events;	/* EPOLLIN, EPOLLOUT; 0 while it is of no interest */
	void (*handle)(struct source *s, uint32_t events);
};

#define SOURCE(function)	{ .fd = -1, .handle = function }

struct timer {
	uint64_t due;		/* ns, CLOCK_MONOTONIC; 0: not set */
	void (*expired)(struct timer *t);
	struct timer *next;
};

void loop_init(void);
/* One round: at most one descriptor's event, timers that are due. Never waits when @busy. */
void loop_round(bool busy);
void source_watch(struct source *s, uint32_t events);
void source_close(struct source *s);
void timer_set(struct timer *t, uint64_t ns);
void timer_clear(struct timer *t);
uint64_t now_ns(void);
uint64_t wall_ns(void);

/* What went wrong, for a person: errno's number and a sentence. */
struct failure {
	int code;
	char text[512];
};

/* Sets @f from errno, with what was attempted. Returns -1. */
int fail(struct failure *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with a code of the caller's and without errno's text. */
int refuse(struct failure *f, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Runs @work in a child of the same namespaces, so that nothing it waits for holds up the loop; @done gets its outcome
 * here (code 0: success). @arg is the caller's, and lives until @done. The child has none of this one's descriptors.
 */
int job_start(int (*work)(void *arg, struct failure *f), void (*done)(void *arg, const struct failure *f), void *arg);

/* ---- conn.c */

struct call;

/* What differs between the calls that stay open. All but @cancel may be NULL. */
struct call_ops {
	void (*input)(struct call *c);		/* c->input got more, or has ended */
	void (*output)(struct call *c);		/* there is credit and room again */
	void (*resize)(struct call *c, unsigned int rows, unsigned int columns);
	/* The host does not want it any more, or (@lost) is not there any more. Must end the call, except when @lost. */
	void (*cancel)(struct call *c, bool lost);
};

struct call {
	uint32_t id;			/* 0: free */
	uint16_t type;
	const struct call_ops *ops;
	void *object;
	uint64_t credit[VGPU_AGENT_STREAMS];	/* of streams 1 and 2: may still be sent; of 0: may still come */
	bool ended[VGPU_AGENT_STREAMS];
	struct wire_queue input;	/* stream 0, not yet consumed */
	bool no_input;			/* whatever still comes on stream 0 is dropped */
};

extern struct wire_queue to_host;

int conn_serve_unix(const char *path);
int conn_serve_fd(int fd);
void conn_serve_vchan(const char *node);
bool conn_has_room(void);
/* Between two rounds of the loop: moves bytes, handles frames. True: do not sleep. */
bool conn_pump(void);
/* Sends what is queued before the pod ends; at most so many ms. */
void conn_flush(int ms);

/* Opens stays: the call belongs to @object from now on and is ended with one of the functions below. */
void call_keep(struct call *c, const struct call_ops *ops, void *object);
void call_data(struct call *c, int stream, const void *data, size_t len);
void call_end_stream(struct call *c, int stream);
/* Tells the host that so many bytes of stream 0 were consumed. */
void call_consumed(struct call *c, size_t len);
/* A reply with attributes: between begin and end they are put into to_host. Ends the call. */
size_t call_reply_begin(struct call *c);
void call_reply_end(struct call *c, size_t begun);
void call_reply(struct call *c);
void call_event_end(size_t begun);
void call_fail(struct call *c, const struct failure *f);
void call_failf(struct call *c, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Iterates over open calls: NULL begins. */
struct call *call_next(struct call *c);

/* ---- Attributes into variables; request.c. Each refuses unknown, malformed and doubled ones. */
struct request_attrs {
	const char *name, *path, *target, *address, *hostname;
	uint32_t flags, signal, file_type, mode, uid, gid, port, timeout_ms, magic, version;
	uint64_t time_ns, mtime;
	uint64_t seen;		/* bit per attribute below 0x80, by attr & 63 (no two share one) */
};

void request_handle(struct call *c, const struct vgpu_agent_frame *frame, const uint8_t *payload);
int request_parse(struct request_attrs *a, const uint8_t *payload, size_t len, const uint16_t *allowed, struct failure *f);

/* ---- spec.c */

struct spec_mount {
	const char *path, *source, *type, *data;
	uint64_t flags, propagation;
	uint64_t recursive[2];	/* MOUNT_ATTR_… to set and to clear */
};

struct spec_device {
	const char *path;
	uint32_t type, major, minor, mode, uid, gid;
};

struct spec_rlimit {
	uint64_t resource, soft, hard;
};

struct spec_bpf {
	const uint8_t *code;
	size_t len;
};

struct list {
	size_t count, size;
	void *items;
};

#define LIST_ITEM(l, type, i)	(&((type *)(l)->items)[i])

/* All strings point into @payload, which is the specification's own. */
struct spec {
	uint8_t *payload;
	const char *name, *cwd, *user, *join, *root, *pid_of, *hostname;
	uint32_t flags, uid, gid, umask, tty, namespaces, seccomp_flags, stop_signal;
	int32_t oom_score_adj;
	bool has_tty, has_stdin, has_umask, has_capabilities, no_new_privs, has_oom_score, readonly_root;
	uint64_t capabilities[5];
	struct list args, env, groups, rlimits, seccomp, mounts, masked, readonly, sysctls, devices, cgroup, device_rules;
};

struct spec *spec_parse(const uint8_t *payload, size_t len, struct failure *f);
void spec_free(struct spec *s);
int spec_parse_mount(const struct wire_attr *nest, struct spec_mount *m, struct failure *f);
void *list_add(struct list *l, size_t size);

/* ---- process.c */

struct process {
	struct process *next;
	char name[VGPU_AGENT_NAME_MAX + 1];
	enum vgpu_agent_state state;
	struct spec *spec;		/* until it runs */
	pid_t pid;			/* of the process, or of the child that makes it */
	bool pid_known;
	bool has_tty, delete_after, kill_with_call, own_namespace;
	int stop_signal;
	struct source sync;		/* to the child, until it executes */
	struct call *creator;		/* waits for READY or for the execution */
	bool go;			/* execute as soon as it is ready */
	struct call *attached;
	struct source in, out[VGPU_AGENT_STREAMS];	/* out[1], out[2] */
	int tty_slave;			/* a terminal nobody has open loses what was written to it */
	char cgroup[256];		/* "" : none of its own and none joined */
	bool own_cgroup;
	uint64_t start_time, exit_time;
	int exit_status;		/* as wait() gave it */
	uint32_t oom;
	struct failure failure;		/* why it never ran */
};

struct process *process_find(const char *name);
struct process *process_all(void);
void process_create(struct call *c, struct spec *spec);
void process_start(struct call *c, const char *name);
void process_attach(struct call *c, const char *name, uint32_t flags);
void process_wait(struct call *c, const char *name);
void process_delete(struct call *c, const char *name, uint32_t flags);
void process_list(struct call *c);
int process_signal(struct process *p, int signal, bool all, struct failure *f);
void process_reap(void);
void process_put_exit(const struct process *p);
void process_oom(struct process *p, uint32_t count);
bool process_any_left(void);
void process_stop_all(bool kill);
void process_drained(struct process *p);
void process_abandon(struct process *p);

/* stdio.c */
int stdio_open(struct process *p, int child[3], struct failure *f);
/* The terminal that the child has opened: @master is this side's from now on. */
int stdio_terminal(struct process *p, int master, struct failure *f);
void stdio_attach(struct process *p, struct call *c);
void stdio_detach(struct process *p);
/* Reads what is there; true if the streams are at their end. */
bool stdio_drain(struct process *p);
void stdio_close(struct process *p);
void stdio_close_empty(struct process *p);
extern const struct call_ops stdio_call_ops;

/* ---- spawn.c, rootfs.c, terminal.c, creds.c: in the child */

/* SYNC_TERMINAL comes with a descriptor, the master's, and before SYNC_READY. */
enum sync_type { SYNC_PID = 1, SYNC_GO, SYNC_TERMINAL, SYNC_READY, SYNC_START, SYNC_FAILED };

struct sync_message {
	uint32_t type;
	int32_t pid;
	struct failure failure;
};

struct spawn {
	const struct spec *spec;
	int sync, stdio[3];
	bool has_tty;
	int join_pid, pid_of_pid;	/* 0: none */
	const char *cgroup_procs;	/* file, or NULL */
};

void spawn_child(const struct spawn *s) __attribute__((noreturn));
/* From 3 up. */
void close_others(int keep);

int rootfs_enter(const struct spec *s, struct failure *f);
/* Afterwards nothing can be made in it that should not be. */
int rootfs_seal(const struct spec *s, struct failure *f);
/* One mount below the directory @root (-1: the process's own root). */
int rootfs_mount(int root, const struct spec_mount *m, struct failure *f);
int open_in_root(int root, const char *path, int flags, int mode);
int make_directories(int root, const char *path, mode_t mode);

int terminal_open(const struct spec *s, int pod_dev, struct failure *f);

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[256];
	int group_count;
	char home[256];
};

int creds_look_up(const struct spec *s, struct identity *id, struct failure *f);
int creds_limits(const struct spec *s, struct failure *f);
int creds_drop(const struct spec *s, const struct identity *id, struct failure *f);

/* ---- cgroup.c */
extern char cgroup_root[128];	/* "": there is no cgroup v2 here */
void cgroup_setup(const char *root);
int cgroup_create(const char *name, char *path, size_t size, struct failure *f);
int cgroup_set(const char *path, const struct list *settings, struct failure *f);
int cgroup_kill(const char *path, int signal);
void cgroup_remove(const char *path);
uint32_t cgroup_oom_kills(const char *path);
/* devices.c: from now on it may use what these rules name, and nothing else. */
int devices_allow(const char *cgroup, const struct list *rules, struct failure *f);
void cgroup_watch_oom(struct process *p);

/* ---- Further requests */
void stats_request(struct call *c, const struct process *p);
void events_exit(const struct process *p);
void events_oom(const struct process *p);
extern const struct call_ops events_ops;
void file_put(struct call *c, const struct request_attrs *a);
void file_get(struct call *c, const struct request_attrs *a);
void dial_request(struct call *c, const struct request_attrs *a);
void mount_request(struct call *c, const uint8_t *payload, size_t len);
void unmount_request(struct call *c, const char *path);
void network_request(struct call *c, const uint8_t *payload, size_t len);
void shutdown_request(struct call *c, uint32_t timeout_ms, uint32_t flags);

/* ---- network.c: directly */
int network_loopback(struct failure *f);
int network_apply(const uint8_t *payload, size_t len, struct failure *f);

/* ---- boot.c, config.c, power.c */
struct config {
	char cmdline[4096];
	char *agent_node, *root, *overlay, *module, *hostname;
	bool debugfs, modules_open;
};

extern bool is_pid1;
void config_read(struct config *c);
/* A setting from the command line ("vgpu.KEY=") or, failing that, xenstore's vm-data/vgpu/KEY; NULL: neither. */
char *config_get(const struct config *c, const char *key);
void boot_mounts(struct config *c);
void boot_root(struct config *c);
void boot_modules(struct config *c);
void boot_network(struct config *c);
void boot_pulse(const struct config *c);
void phase_done(const char *label);
void trouble(const char *format, ...) __attribute__((format(printf, 1, 2)));
void boot_put_report(void);
extern uint64_t boot_id;
void power_signal(int signal);
void power_process_ended(void);

#endif /* VGPU_INIT_H */
