/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvgpuxl: pod domains and their vgpu devices, over libxenlight, libxlutil and libxenstore. No program is run but
 * the hotplug scripts of disks and networks, which libxenlight runs, and modprobe where vgpu-back is not loaded.
 *
 *	struct vgpuxl_config c = { .name = "pod1", .kernel = "/boot/vmlinuz-pod", .memory = 512, .vcpus = 2 };
 *	struct vgpuxl_entry gpu;
 *	struct vgpuxl_error e;
 *
 *	if (vgpuxl_entry_parse("gpu=0,memory=4096", &gpu, &e))
 *		errx(1, "%s", e.text);
 *	c.entries = &gpu;
 *	c.nentries = 1;
 *	if (vgpuxl_create(&c, 0, &domid, &e))
 *		errx(1, "%s", e.text);
 *	vgpuxl_wait(domid, -1, -1, &death, &e);
 *	vgpuxl_destroy(domid, &e);
 *
 * Functions return 0 or -errno; with an error the message in struct vgpuxl_error is complete: what was tried, on
 * what, why it failed and what to do.
 *
 * Threads: functions that take no xs_handle may be called from any number of threads; each has its own connections,
 * and nothing is kept between calls. An xs_handle is for one thread at a time. While a call runs, libxenlight handles
 * SIGCHLD and reaps only its own children; wait for yours by their process ids, not by that signal.
 *
 * Files: entry.c (one device's description), config.c (a domain's configuration file), store.c (access to xenstore),
 * device.c (attach, change and detach), list.c (what there is), reap.c (what dead domains leave behind), light.c
 * (access to libxenlight), plan.c (from a configuration to libxenlight's), domain.c (a domain's life), disk.c,
 * supervise.c (what follows when a domain ends).
 */
#ifndef VGPUXL_H
#define VGPUXL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

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

#define VGPUXL_SET_MEMORY	1u
#define VGPUXL_SET_WEIGHT	2u
#define VGPUXL_SET_SESSIONS	4u

/** Parse @text into @entry, defaults for what it does not say. -EINVAL names the key, the value and what is allowed. */
int vgpuxl_entry_parse(const char *text, struct vgpuxl_entry *entry, struct vgpuxl_error *e);

/**
 * The same for a change: memory, weight and sessions are what can change while a device lives. @which says, in
 * VGPUXL_SET_*, what @text mentions.
 */
int vgpuxl_change_parse(const char *text, struct vgpuxl_entry *entry, unsigned int *which, struct vgpuxl_error *e);

/** Write @entry as text that vgpuxl_entry_parse() reads back. */
void vgpuxl_entry_print(const struct vgpuxl_entry *entry, char *buf, unsigned int size);

/* --- config.c: a domain's configuration ------------------------------------------------------------------- */

enum vgpuxl_action {
	VGPUXL_ACTION_DEFAULT,		/* as xl: restart after a reboot, else destroy */
	VGPUXL_ACTION_DESTROY,
	VGPUXL_ACTION_RESTART,
	VGPUXL_ACTION_RESTART_RENAME,
	VGPUXL_ACTION_PRESERVE,
	VGPUXL_ACTION_COREDUMP_DESTROY,
	VGPUXL_ACTION_COREDUMP_RESTART,
};

/**
 * struct vgpuxl_config - a domain to be made; what is 0 or NULL takes the default
 * @name:	unique on the machine
 * @uuid:	text form; a random one by default
 * @type:	"pvh" (the default) or "pv"; a vgpu needs pvh
 * @kernel, @ramdisk, @cmdline: what it boots
 * @memory, @maxmem: MiB; @maxmem is @memory by default
 * @vcpus, @maxvcpus: 1 by default
 * @tsc_mode:	"native", "always_emulate", "native_paravirt", "default"
 * @max_grant_frames, @max_maptrack_frames: Xen's defaults
 * @on_poweroff, @on_reboot, @on_crash, @on_watchdog: what vgpuxl_supervise() does
 * @disks:	as xl-disk-configuration(5) has it: "format=raw,vdev=xvda,access=ro,target=/pod.img"
 * @vifs:	as xl-network-configuration(5): "mac=00:16:3e:00:00:01,bridge=xenbr0"; keys mac, bridge, ip, script,
 *		vifname, gatewaydev, rate, mtu, backend
 * @p9s:	"tag=share,security_model=none,path=/srv": a folder of dom0's, which the QEMU that libxenlight starts for the
 *		domain serves over 9p; security_model is none (the default), passthrough, mapped-xattr or mapped-file
 * @entries:	its vgpu devices
 * @unknown:	a key of the file that this library does not carry, or NULL. vgpuxl_create() refuses it by name.
 *
 * Strings belong to the caller, or, after vgpuxl_config_read(), to the configuration.
 */
struct vgpuxl_config {
	const char *name, *uuid, *type;
	const char *kernel, *ramdisk, *cmdline;
	uint32_t memory, maxmem;
	uint32_t vcpus, maxvcpus;
	const char *tsc_mode;
	uint32_t max_grant_frames, max_maptrack_frames;
	enum vgpuxl_action on_poweroff, on_reboot, on_crash, on_watchdog;
	const char **disks, **vifs, **p9s;
	unsigned int ndisks, nvifs, np9s;
	struct vgpuxl_entry *entries;
	unsigned int nentries;
	const char *unknown;
};

/**
 * Read @path as xl would, followed by the lines of @extra (as `xl create FILE key=value` does; may be NULL).
 * A file without vgpu= gives nentries = 0. Free with vgpuxl_config_free().
 */
int vgpuxl_config_read(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e);

/** The same, but only the name and the vgpu devices: for files whose other keys somebody else reads. */
int vgpuxl_config_read_devices(const char *path, const char *extra, struct vgpuxl_config *config, struct vgpuxl_error *e);
void vgpuxl_config_free(struct vgpuxl_config *config);

/* --- plan.c: what a domain is made from, again and again --------------------------------------------------- */

struct vgpuxl_plan;

/** Check everything that can be checked before a domain is made. @plan keeps nothing of @config. */
int vgpuxl_plan_config(const struct vgpuxl_config *config, struct vgpuxl_plan **plan, struct vgpuxl_error *e);

/** From libxenlight's own form, as `xl create --dryrun` prints it below "config", and @n devices. */
int vgpuxl_plan_json(const char *json, const struct vgpuxl_entry *entries, unsigned int n, struct vgpuxl_plan **plan,
		     struct vgpuxl_error *e);
void vgpuxl_plan_free(struct vgpuxl_plan *plan);
const char *vgpuxl_plan_name(const struct vgpuxl_plan *plan);
unsigned int vgpuxl_plan_devices(const struct vgpuxl_plan *plan);

/* --- domain.c: a domain's life ----------------------------------------------------------------------------- */

#define VGPUXL_CREATE_PAUSED	1u	/* leave it paused */

/** Make a domain with its devices, and let it run. An error means that nothing is left of it. */
int vgpuxl_create(const struct vgpuxl_config *config, unsigned int flags, uint32_t *domid, struct vgpuxl_error *e);

/** The same from a plan. The domain is paused; its devices are attached and their backends have taken them. */
int vgpuxl_create_plan(struct vgpuxl_plan *plan, uint32_t *domid, struct vgpuxl_error *e);

int vgpuxl_pause(uint32_t domid, struct vgpuxl_error *e);
int vgpuxl_unpause(uint32_t domid, struct vgpuxl_error *e);

/** Ask the domain to power off or reboot; it may take its time or not listen at all: vgpuxl_wait() tells. */
int vgpuxl_shutdown(uint32_t domid, bool reboot, struct vgpuxl_error *e);

/** End it now and remove all it leaves, its vgpu backends included. -ENOENT: there is no such domain. */
int vgpuxl_destroy(uint32_t domid, struct vgpuxl_error *e);

enum vgpuxl_reason {
	VGPUXL_POWEROFF,
	VGPUXL_REBOOT,
	VGPUXL_SUSPEND,
	VGPUXL_CRASH,
	VGPUXL_WATCHDOG,
	VGPUXL_SOFT_RESET,
	VGPUXL_DESTROYED,	/* somebody destroyed it: there is no domain any more */
};

/** Names of the above: "poweroff", "reboot", ... */
const char *vgpuxl_reason_name(enum vgpuxl_reason reason);

/**
 * Wait until the domain has ended. It still exists then, and its devices too, unless the reason is
 * VGPUXL_DESTROYED: vgpuxl_destroy() it. @timeout_ms: -1 for ever (-ETIMEDOUT). @cancel: a descriptor that ends the
 * wait when it becomes readable (-ECANCELED), or -1.
 */
int vgpuxl_wait(uint32_t domid, int timeout_ms, int cancel, enum vgpuxl_reason *reason, struct vgpuxl_error *e);

/** struct vgpuxl_domain - one line of vgpuxl_list_domains(). @reason: only if @ended. */
struct vgpuxl_domain {
	uint32_t domid;
	char name[128];
	uint64_t memory_kib, cpu_ns;
	uint32_t vcpus, devices;	/* devices: of kind vgpu */
	bool running, paused, ended;
	enum vgpuxl_reason reason;
};

/** All domains but dom0. Free @domains. */
int vgpuxl_list_domains(struct vgpuxl_domain **domains, unsigned int *n, struct vgpuxl_error *e);

/* --- disk.c: hot-plug of disks and networks ----------------------------------------------------------------- */

/** @spec as in struct vgpuxl_config. Returns when the backend has the disk. */
int vgpuxl_disk_attach(uint32_t domid, const char *spec, struct vgpuxl_error *e);

/** @vdev: "xvdb". With @force it goes even if the domain does not let go of it. */
int vgpuxl_disk_detach(uint32_t domid, const char *vdev, bool force, struct vgpuxl_error *e);
int vgpuxl_vif_attach(uint32_t domid, const char *spec, struct vgpuxl_error *e);
int vgpuxl_vif_detach(uint32_t domid, uint32_t devid, bool force, struct vgpuxl_error *e);

/* --- supervise.c -------------------------------------------------------------------------------------------- */

typedef void vgpuxl_log_fn(void *arg, int priority, const char *text);	/* priority as in syslog.h */

/**
 * Follow a domain made from @plan through all its lives: when it ends do as on_poweroff, on_reboot, on_crash and
 * on_watchdog say. A domain made anew gets the disks and networks that it had last, and its vgpu devices as they were
 * last configured, before it runs. Returns 0 when there is nothing left to follow, -ECANCELED when @cancel (or -1)
 * becomes readable, which leaves the domain alone. @domid tells the present one throughout.
 */
int vgpuxl_supervise(struct vgpuxl_plan *plan, uint32_t *domid, int cancel, vgpuxl_log_fn *log, void *arg,
		     struct vgpuxl_error *e);

/* --- store.c: xenstore ------------------------------------------------------------------------------------ */

struct xs_handle;

/** Connect to xenstore; needs root in dom0. Close with vgpuxl_store_close(). */
int vgpuxl_store_open(struct xs_handle **xs, struct vgpuxl_error *e);
void vgpuxl_store_close(struct xs_handle *xs);

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

/**
 * Write both directories, in one transaction. The device gets the zone's first free number, told in @device. -ENOENT: the
 * domain or its driver domain has ended, and nothing was written.
 */
int vgpuxl_attach(struct xs_handle *xs, uint32_t zone, const struct vgpuxl_entry *entry, struct vgpuxl_device *device,
		  struct vgpuxl_error *e);

/** Wait until the backend has taken the device (InitWait or later). -ETIMEDOUT says what is probably missing. */
int vgpuxl_wait_backend(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms,
			struct vgpuxl_error *e);

/** Wait until the pod has connected. -EIO: it refused, in its own words; -ETIMEDOUT: it has not looked at it yet. */
int vgpuxl_wait_frontend(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms,
			 struct vgpuxl_error *e);

/** Find a device of a zone, also one that is all that is left of a driver domain which has ended. */
int vgpuxl_device_find(struct xs_handle *xs, uint32_t zone, uint32_t devid, struct vgpuxl_device *device,
		       struct vgpuxl_error *e);

/** How a device is configured now. */
int vgpuxl_device_read(struct xs_handle *xs, const struct vgpuxl_device *device, struct vgpuxl_entry *entry,
		       struct vgpuxl_error *e);

/**
 * Change what @which names (VGPUXL_SET_*) to what @entry says. The broker follows at once: what is allocated stays,
 * what is asked for from then on is measured by the new quota.
 */
int vgpuxl_device_set(struct xs_handle *xs, const struct vgpuxl_device *device, const struct vgpuxl_entry *entry,
		      unsigned int which, struct vgpuxl_error *e);

/**
 * Hot-unplug: ask the backend to close, wait until it has, remove both directories.
 * With @force they are removed even if it does not close in time.
 */
int vgpuxl_detach(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms, bool force,
		  struct vgpuxl_error *e);

/** Remove both directories and ask nobody: for a domain that never ran. */
void vgpuxl_remove(struct xs_handle *xs, const struct vgpuxl_device *device);

/** Call @fn for every device that only the pod has still, since its driver domain has ended. Stops when it returns non-zero. */
int vgpuxl_for_each_stranded(struct xs_handle *xs, int (*fn)(struct xs_handle *xs, const struct vgpuxl_device *device, void *arg),
			     void *arg);

/** Remove such a device; one that has been made in its place stays. */
void vgpuxl_remove_stranded(struct xs_handle *xs, const struct vgpuxl_device *device);

/** Is vgpu-back loaded here? Tries to load it; -ENODEV says how to. Only meaningful for backends in this domain. */
int vgpuxl_backend_present(struct vgpuxl_error *e);

/* --- list.c ----------------------------------------------------------------------------------------------- */

/** Call @fn for every vgpu backend directory, also those of domains that have gone. Stops when it returns non-zero. */
int vgpuxl_for_each(struct xs_handle *xs, int (*fn)(struct xs_handle *xs, const struct vgpuxl_device *device, void *arg),
		    void *arg);

/** The devices of one zone as they are configured, to be attached again. Free @entries. */
int vgpuxl_zone_entries(struct xs_handle *xs, uint32_t zone, struct vgpuxl_entry **entries, unsigned int *n,
			struct vgpuxl_error *e);

/** The English name of a XenbusState. */
const char *vgpuxl_state_name(long state);

/* --- reap.c ----------------------------------------------------------------------------------------------- */

/**
 * Take the lock that only one daemon holds. @return its file descriptor, -EWOULDBLOCK if a daemon runs already,
 * another -errno with @e set. The lock goes with the descriptor, also across fork().
 */
int vgpuxl_daemon_lock(struct vgpuxl_error *e);

/** Remove what domains that have gone leave behind, pods and driver domains, whenever one goes. Returns when *@stop is set or on error. */
int vgpuxl_reap(volatile int *stop, struct vgpuxl_error *e);

/** Remove what one zone that has gone leaves behind; backends get a few seconds to close properly. */
int vgpuxl_zone_cleanup(struct xs_handle *xs, uint32_t zone, struct vgpuxl_error *e);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* VGPUXL_H */
