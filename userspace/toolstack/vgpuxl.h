/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvgpuxl: what stock xl leaves out. It reads `vgpu=` from a domain's configuration, writes and removes the
 * xenstore nodes that make a vgpu frontend and backend meet, and notices when a domain has gone.
 *
 * Files: entry.c (one device's description), config.c (a domain's configuration file), store.c (access to
 * xenstore), device.c (attach and detach), list.c (what there is), reap.c (what dead domains leave behind).
 *
 * Functions return 0 or -errno; with an error the message in struct vgpuxl_error is complete: what was tried, on
 * what, why it failed and what to do. Nothing here is thread-safe: one context, one thread.
 */
#ifndef VGPUXL_H
#define VGPUXL_H

#include <stdbool.h>
#include <stdint.h>

struct vgpuxl_error {
	int err;
	char text[1024];
};

/** Set @e and return -err. */
int vgpuxl_error_set(struct vgpuxl_error *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* --- entry.c: "gpu=0,memory=4096,weight=1,sessions=64" ---------------------------------------------------- */

#define VGPUXL_GPU_MAX		128	/* with the NUL; VGPU_BACK_GPU_MAX of linux/vgpu_back.h */
#define VGPUXL_MEMORY_MAX	(16u << 20)	/* MiB: 16 TiB */
#define VGPUXL_WEIGHT_MAX	10000u
#define VGPUXL_SESSIONS_MAX	1024u
#define VGPUXL_SESSIONS_DEFAULT	64u

/**
 * struct vgpuxl_entry - one vgpu device as somebody wrote it down
 * @gpu:      indices or UUIDs joined by '+'
 * @memory:   quota of device memory in MiB, 0 for none
 * @weight:   share of the GPU among zones
 * @sessions: most sessions at a time
 * @backend:  driver domain, name or number; "0" is dom0
 */
struct vgpuxl_entry {
	char gpu[VGPUXL_GPU_MAX];
	uint32_t memory;
	uint32_t weight;
	uint32_t sessions;
	char backend[64];
};

/** Parse @text into @entry, defaults for what it does not say. -EINVAL names the key, the value and what is allowed. */
int vgpuxl_entry_parse(const char *text, struct vgpuxl_entry *entry, struct vgpuxl_error *e);

/* --- config.c: a domain's configuration file -------------------------------------------------------------- */

struct vgpuxl_config {
	char name[128];
	char type[16];
	unsigned int n;
	struct vgpuxl_entry *entries;
};

/**
 * Read @path as xl would, followed by the lines of @extra (as `xl create FILE key=value` does; may be NULL).
 * A file without vgpu= gives n = 0. Free with vgpuxl_config_free().
 */
int vgpuxl_config_read(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e);
void vgpuxl_config_free(struct vgpuxl_config *config);

/* --- store.c: xenstore ------------------------------------------------------------------------------------ */

struct xs_handle;

/** Connect to xenstore; needs root in dom0. */
int vgpuxl_store_open(struct xs_handle **xs, struct vgpuxl_error *e);

/** Find a domain by name or number; -ENOENT if there is none. */
int vgpuxl_domain_find(struct xs_handle *xs, const char *name, uint32_t *domid, struct vgpuxl_error *e);

/** Read one node into @buf; false (and an empty string) if there is none or it does not fit. @t as in xenstore.h. */
bool vgpuxl_read(struct xs_handle *xs, uint32_t t, char *buf, unsigned int size, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/** Read one node as a number; @otherwise if there is none. */
long vgpuxl_read_long(struct xs_handle *xs, long otherwise, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* --- device.c --------------------------------------------------------------------------------------------- */

/**
 * struct vgpuxl_device - where a device is in xenstore
 * @zone:    domain of the frontend
 * @backend: domain of the backend
 * @devid:   number within the zone
 */
struct vgpuxl_device {
	uint32_t zone;
	uint32_t backend;
	uint32_t devid;
};

/** Write both directories, in one transaction. The device gets the zone's first free number, told in @device. */
int vgpuxl_attach(struct xs_handle *xs, uint32_t zone, const struct vgpuxl_entry *entry, struct vgpuxl_device *device,
		  struct vgpuxl_error *e);

/** Wait until the backend has taken the device (InitWait or later). -ETIMEDOUT says what is probably missing. */
int vgpuxl_wait_backend(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms,
			struct vgpuxl_error *e);

/** Wait until the pod has connected. -EIO: it refused, in its own words; -ETIMEDOUT: it has not looked at it yet. */
int vgpuxl_wait_frontend(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms,
			 struct vgpuxl_error *e);

/** Find a device of a zone. */
int vgpuxl_device_find(struct xs_handle *xs, uint32_t zone, uint32_t devid, struct vgpuxl_device *device,
		       struct vgpuxl_error *e);

/**
 * Hot-unplug: ask the backend to close, wait until it has, remove both directories.
 * With @force they are removed even if it does not close in time.
 */
int vgpuxl_detach(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms, bool force,
		  struct vgpuxl_error *e);

/** Remove both directories and ask nobody: for a domain that never ran. */
void vgpuxl_remove(struct xs_handle *xs, const struct vgpuxl_device *device);

/** Is vgpu-back loaded here? Tries to load it; -ENODEV says how to. Only meaningful for backends in this domain. */
int vgpuxl_backend_present(struct vgpuxl_error *e);

/* --- list.c ----------------------------------------------------------------------------------------------- */

/** Call @fn for every vgpu backend directory, also those of domains that have gone. Stops when it returns non-zero. */
int vgpuxl_for_each(struct xs_handle *xs, int (*fn)(struct xs_handle *xs, const struct vgpuxl_device *device, void *arg),
		    void *arg);

/** The English name of a XenbusState. */
const char *vgpuxl_state_name(long state);

/* --- reap.c ----------------------------------------------------------------------------------------------- */

/**
 * Take the lock that only one daemon holds. @return its file descriptor, -EWOULDBLOCK if a daemon runs already,
 * another -errno with @e set. The lock goes with the descriptor, also across fork().
 */
int vgpuxl_daemon_lock(struct vgpuxl_error *e);

/** Remove backend directories of domains that have gone, whenever one goes. Returns when *@stop is set or on error. */
int vgpuxl_reap(volatile int *stop, struct vgpuxl_error *e);

#endif /* VGPUXL_H */
