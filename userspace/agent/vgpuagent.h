/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvgpuagent: what a host does in a pod, through the pod's agent.
 *
 *	struct vgpu_agent_error e;
 *	struct vgpu_agent *pod = vgpu_agent_open("vchan:7", 30000, &e);
 *	const char *args[] = { "nvidia-smi", "-L", NULL };
 *	struct vgpu_agent_spec spec = { .name = "smi", .args = args, .flags = VGPU_AGENT_F_DELETE };
 *	struct vgpu_agent_call *run = vgpu_agent_run(pod, &spec, &e);
 *	while ((n = vgpu_agent_read(run, &stream, buf, sizeof(buf), -1, &e)) > 0)
 *		write(stream, buf, n);
 *	vgpu_agent_finish(run, &ended, -1, &e);		// ended.code
 *	vgpu_agent_call_free(run);
 *
 * The agent is not believed: it runs in a domain that may be hostile. Every frame, length and number of it is checked and
 * everything it may make this side hold is bounded; when it breaks the protocol the connection is over, and every call on it
 * fails with EPROTO and the reason. A string of the agent's (error texts, names) is for showing, never for acting upon.
 *
 * Any thread may call anything at any time, but the calls of one struct vgpu_agent_call from at most one reader and one
 * writer at a time, and nothing may use it when it is freed. Functions return -1 or NULL on failure and say why in @e, which
 * may be NULL. Times are milliseconds, -1 waits for ever; ETIMEDOUT when they are over. After a failed request its effect is
 * unknown only if the code is ETIMEDOUT, ECONNRESET or EPROTO. A process may fork, and use libvgpuxl beside this.
 */
#ifndef VGPUAGENT_H
#define VGPUAGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vgpu_agent;
struct vgpu_agent_call;

struct vgpu_agent_error {
	int code;		/* errno */
	char text[640];		/* one sentence */
};

/* ---- The connection */

/*
 * "vchan:DOMID[:NODE]"	the pod of a domain; NODE below its home in xenstore [data/vgpu-agent]. One host at a time.
 * "unix:PATH" or "/PATH" a hub (vgpu-agentctl hub), which any number of clients may share; or an agent without Xen
 * "fd:N"		a connected stream socket, which becomes the library's
 * Waits until the agent answers: at most @timeout_ms.
 */
struct vgpu_agent *vgpu_agent_open(const char *address, int timeout_ms, struct vgpu_agent_error *e);
void vgpu_agent_close(struct vgpu_agent *a);
/* False when the connection is over; @e says why. */
bool vgpu_agent_connected(struct vgpu_agent *a, struct vgpu_agent_error *e);
/* Requests that are answered at once wait so long for that [30 s]. */
void vgpu_agent_set_timeout(struct vgpu_agent *a, int timeout_ms);

#define VGPU_AGENT_PHASES	16
#define VGPU_AGENT_TROUBLES	16

struct vgpu_agent_info {
	uint32_t version;
	uint64_t boot_id;	/* another one: the pod, or its agent, was started again */
	char build[64], kernel[64];
	unsigned int phase_count, trouble_count;
	struct {
		char label[32];
		uint64_t ns;	/* since the kernel started */
	} phases[VGPU_AGENT_PHASES];
	char troubles[VGPU_AGENT_TROUBLES][300];
};

const struct vgpu_agent_info *vgpu_agent_info(const struct vgpu_agent *a);

/* ---- Processes */

struct vgpu_agent_mount {
	const char *path, *source, *type, *data;	/* all but @path may be NULL */
	uint64_t flags, propagation;			/* MS_… */
	uint64_t recursive_set, recursive_clear;	/* MOUNT_ATTR_…, of it and all mounts below it */
};

struct vgpu_agent_rlimit {
	uint32_t resource;	/* RLIMIT_… */
	uint64_t soft, hard;
};

struct vgpu_agent_device {
	const char *path;
	uint32_t type, major, minor, mode, uid, gid;
};

/* Names are protocol.h's, which says what each means. Lists of strings end with NULL; NULL is an empty list. */
struct vgpu_agent_spec {
	const char *name;
	uint32_t flags;
	const char *const *args, *const *env;
	const char *cwd, *user, *join, *root, *pid_of, *hostname;
	uint32_t uid, gid;
	const uint32_t *groups;
	size_t group_count;
	bool no_stdin, tty, no_new_privs, readonly_root;
	uint16_t rows, columns;
	int umask;		/* 0: default; else the mask | VGPU_AGENT_UMASK */
	bool set_capabilities;
	uint64_t bounding, effective, inheritable, permitted, ambient;
	bool set_oom_score_adj;
	int32_t oom_score_adj;
	uint32_t namespaces, stop_signal, seccomp_flags;
	const struct vgpu_agent_rlimit *rlimits;
	size_t rlimit_count;
	const struct vgpu_agent_mount *mounts;
	size_t mount_count;
	const struct vgpu_agent_device *devices;
	size_t device_count;
	const char *const *masked, *const *readonly, *const *sysctls, *const *cgroup, *const *device_rules;
	const void *seccomp;	/* struct sock_filter[], as vgpu_agent_seccomp() makes it */
	size_t seccomp_len;	/* bytes */
};

#define VGPU_AGENT_UMASK	0x10000

struct vgpu_agent_exit {
	uint32_t code;		/* 0 to 255; 128 + signal */
	uint32_t signal;	/* 0: it ended by itself */
	uint32_t oom;		/* times the kernel killed for want of memory within its limit */
	uint64_t time_ns;
};

struct vgpu_agent_process {
	char name[VGPU_AGENT_NAME_MAX + 1];
	enum vgpu_agent_state state;
	uint32_t pid;
	uint64_t start_ns;
	struct vgpu_agent_exit exit;	/* when @state is VGPU_AGENT_EXITED */
};

/* Made but not started, unless spec->flags has VGPU_AGENT_F_RUN. Returns its PID. */
int vgpu_agent_create(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, struct vgpu_agent_error *e);
int vgpu_agent_start(struct vgpu_agent *a, const char *name, struct vgpu_agent_error *e);
/* Create, attach and start in one; returns when the program is executed. */
struct vgpu_agent_call *vgpu_agent_run(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, struct vgpu_agent_error *e);
/* Created and attached, not yet started: nothing it writes is missed. */
struct vgpu_agent_call *vgpu_agent_create_attached(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, struct vgpu_agent_error *e);
/* flags: VGPU_AGENT_F_STEAL */
struct vgpu_agent_call *vgpu_agent_attach(struct vgpu_agent *a, const char *name, uint32_t flags, struct vgpu_agent_error *e);
int vgpu_agent_wait(struct vgpu_agent *a, const char *name, struct vgpu_agent_exit *exit, int timeout_ms, struct vgpu_agent_error *e);
/* flags: VGPU_AGENT_F_ALL */
int vgpu_agent_signal(struct vgpu_agent *a, const char *name, int signal, uint32_t flags, struct vgpu_agent_error *e);
/*
 * flags: VGPU_AGENT_F_KILL. Without it EBUSY while the process runs, and after vgpu_agent_wait() has told of its end as long
 * as whoever attached has not read all that it wrote: try again, or finish that call first. With it nothing is waited for.
 */
int vgpu_agent_delete(struct vgpu_agent *a, const char *name, uint32_t flags, struct vgpu_agent_error *e);
int vgpu_agent_update(struct vgpu_agent *a, const char *name, const char *const *cgroup, struct vgpu_agent_error *e);
/* *list is the caller's to free(). */
int vgpu_agent_list(struct vgpu_agent *a, struct vgpu_agent_process **list, size_t *count, struct vgpu_agent_error *e);

/* ---- Open calls: an attached process, a dialled connection */

/*
 * The next bytes of any stream: how many, and *stream (1 or 2). 0: all streams are at their end. Whoever does not read
 * holds up the process, not the connection.
 */
ssize_t vgpu_agent_read(struct vgpu_agent_call *c, int *stream, void *buf, size_t len, int timeout_ms, struct vgpu_agent_error *e);
/* All of @len, or -1. EPIPE: the call has ended. */
ssize_t vgpu_agent_write(struct vgpu_agent_call *c, const void *buf, size_t len, int timeout_ms, struct vgpu_agent_error *e);
int vgpu_agent_close_input(struct vgpu_agent_call *c, struct vgpu_agent_error *e);
int vgpu_agent_resize(struct vgpu_agent_call *c, uint16_t rows, uint16_t columns, struct vgpu_agent_error *e);
/* Waits for the end of the call; output that nobody reads is dropped. @exit may be NULL. */
int vgpu_agent_finish(struct vgpu_agent_call *c, struct vgpu_agent_exit *exit, int timeout_ms, struct vgpu_agent_error *e);
/* Cancels what has not ended: an attached process goes on without its host, unless it has VGPU_AGENT_F_KILL. */
void vgpu_agent_call_free(struct vgpu_agent_call *c);

/* A connection to ADDRESS:PORT as the pod sees it; stream 1 is what comes from there. */
struct vgpu_agent_call *vgpu_agent_dial(struct vgpu_agent *a, const char *address, uint16_t port, int timeout_ms, struct vgpu_agent_error *e);

struct vgpu_agent_event {
	char name[VGPU_AGENT_NAME_MAX + 1];
	bool ended;		/* then @exit; else it met its memory limit */
	struct vgpu_agent_exit exit;
};

struct vgpu_agent_call *vgpu_agent_events(struct vgpu_agent *a, struct vgpu_agent_error *e);
int vgpu_agent_next_event(struct vgpu_agent_call *c, struct vgpu_agent_event *event, int timeout_ms, struct vgpu_agent_error *e);

/* ---- The pod */

struct vgpu_agent_stat {
	char name[64];
	uint64_t value;
};

/* @name: a process, or NULL for the whole pod. *list is the caller's to free(). */
int vgpu_agent_stats(struct vgpu_agent *a, const char *name, struct vgpu_agent_stat **list, size_t *count, struct vgpu_agent_error *e);

struct vgpu_agent_file {
	uint32_t type;		/* enum vgpu_agent_file_type */
	uint32_t mode, uid, gid;
	uint64_t mtime_ns;	/* putting: 0 is now */
	uint64_t size;		/* getting */
	const char *target;	/* putting a symbolic link */
};

/* @process: the root that @path is below; NULL: the pod's. @fd: the contents of a file, else -1. Parents are made. */
int vgpu_agent_put(struct vgpu_agent *a, const char *process, const char *path, const struct vgpu_agent_file *file, int fd, struct vgpu_agent_error *e);
/* A file's contents go to @fd, a directory's do not. */
int vgpu_agent_get(struct vgpu_agent *a, const char *process, const char *path, struct vgpu_agent_file *file, int fd, struct vgpu_agent_error *e);

struct vgpu_agent_interface {
	const char *name, *mac;
	uint32_t mtu;
	const char *const *addresses;	/* ADDRESS/PREFIX */
};

struct vgpu_agent_route {
	const char *interface, *destination, *gateway;	/* no destination: the default route */
};

struct vgpu_agent_network {
	const char *hostname;
	const struct vgpu_agent_interface *interfaces;
	size_t interface_count;
	const struct vgpu_agent_route *routes;
	size_t route_count;
	const char *const *nameservers, *const *search, *const *options;
};

int vgpu_agent_set_network(struct vgpu_agent *a, const struct vgpu_agent_network *n, struct vgpu_agent_error *e);
/* In the order given, in the pod itself; mount points are made, devices of disks that were just plugged in are waited for. */
int vgpu_agent_mount(struct vgpu_agent *a, const struct vgpu_agent_mount *mounts, size_t count, struct vgpu_agent_error *e);
int vgpu_agent_unmount(struct vgpu_agent *a, const char *path, struct vgpu_agent_error *e);
int vgpu_agent_set_time(struct vgpu_agent *a, uint64_t ns, struct vgpu_agent_error *e);
/* Returns when every process has ended; the pod is switched off (or restarted) right after. */
int vgpu_agent_shutdown(struct vgpu_agent *a, uint32_t grace_ms, bool reboot, struct vgpu_agent_error *e);

/* ---- Helpers: text as people and OCI write it */

/*
 * "ro,nosuid,rbind,size=1m" into flags, propagation and what is left for the file system (in @data, of @size). A bind mount
 * has no file system of its own: whatever is left is refused there. "rro", "rnosuid" … are for all mounts below as well.
 */
int vgpu_agent_mount_options(const char *options, struct vgpu_agent_mount *m, char *data, size_t size, struct vgpu_agent_error *e);
/* "CAP_NET_RAW" or "net_raw" into its bit; 0: there is none of that name. "all": every one there is. */
uint64_t vgpu_agent_capability(const char *name);
/* A seccomp profile in the OCI runtime specification's JSON ("linux.seccomp") into BPF. *filter is the caller's to free(). */
int vgpu_agent_seccomp(const char *json, void **filter, size_t *len, struct vgpu_agent_error *e);

#ifdef __cplusplus
}
#endif

#endif /* VGPUAGENT_H */
