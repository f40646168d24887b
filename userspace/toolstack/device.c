// SPDX-License-Identifier: Apache-2.0
/*
 * Attach and detach: the xenstore nodes that uapi/xen/io/vgpuif.h describes.
 *
 * Both directories appear in one transaction, so that neither xenbus ever sees one without the other: a backend
 * whose frontend directory is missing is given up by Linux and never looked at again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/xenbus.h>
#include <xenstore.h>

#include "vgpuxl.h"

/* Linux puts a message of its own over that of a driver whose probe failed. */
#define HINT_REFUSED "(its kernel log says more; a PV domain cannot use a vgpu: set type=\"pvh\")"

#define UNHELD_TIMEOUT_MS 1000
#define DEVICES_MAX 64	/* per zone; keeps a search for a free number finite */

struct paths {
	char front[64];
	char back[64];
	/* Where the kernels' xenbus_dev_error() leaves its messages; outlives the device. */
	char front_error[80];
	char back_error[80];
};

static struct paths paths_of(const struct vgpuxl_device *d)
{
	struct paths p;

	snprintf(p.front, sizeof(p.front), "/local/domain/%u/device/vgpu/%u", d->zone, d->devid);
	snprintf(p.back, sizeof(p.back), "/local/domain/%u/backend/vgpu/%u/%u", d->backend, d->zone, d->devid);
	snprintf(p.front_error, sizeof(p.front_error), "/local/domain/%u/error/device/vgpu/%u", d->zone, d->devid);
	snprintf(p.back_error, sizeof(p.back_error), "/local/domain/%u/error/backend/vgpu/%u/%u", d->backend, d->zone,
		 d->devid);
	return p;
}

static bool put(struct xs_handle *xs, xs_transaction_t t, const char *dir, const char *key, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, key);
	return xs_write(xs, t, path, value, strlen(value));
}

static bool put_number(struct xs_handle *xs, xs_transaction_t t, const char *dir, const char *key, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return put(xs, t, dir, key, text);
}

/* Children inherit: set before they are written. */
static bool make_dir(struct xs_handle *xs, xs_transaction_t t, const char *path, uint32_t owner, uint32_t reader)
{
	struct xs_permissions perms[2] = {
		{ .id = owner, .perms = XS_PERM_NONE },
		{ .id = reader, .perms = XS_PERM_READ },
	};

	return xs_mkdir(xs, t, path) && xs_set_permissions(xs, t, path, perms, 2);
}

static bool write_nodes(struct xs_handle *xs, xs_transaction_t t, const struct vgpuxl_device *d,
			const struct vgpuxl_entry *entry)
{
	struct paths p = paths_of(d);

	xs_rm(xs, t, p.front_error);
	xs_rm(xs, t, p.back_error);
	return make_dir(xs, t, p.front, d->zone, d->backend) &&
	       put(xs, t, p.front, "backend", p.back) &&
	       put_number(xs, t, p.front, "backend-id", d->backend) &&
	       put_number(xs, t, p.front, "handle", d->devid) &&
	       put_number(xs, t, p.front, "state", XenbusStateInitialising) &&
	       make_dir(xs, t, p.back, d->backend, d->zone) &&
	       put(xs, t, p.back, "frontend", p.front) &&
	       put_number(xs, t, p.back, "frontend-id", d->zone) &&
	       put_number(xs, t, p.back, "handle", d->devid) &&
	       put(xs, t, p.back, "gpu", entry->gpu) &&
	       put_number(xs, t, p.back, "memory", entry->memory) &&
	       put_number(xs, t, p.back, "weight", entry->weight) &&
	       put_number(xs, t, p.back, "sessions", entry->sessions) &&
	       put_number(xs, t, p.back, "online", 1) &&
	       put_number(xs, t, p.back, "state", XenbusStateInitialising);
}

/* A number is free if neither side has a directory for it: a backend's may outlive the frontend's. */
static bool taken(struct xs_handle *xs, xs_transaction_t t, const struct vgpuxl_device *d)
{
	struct paths p = paths_of(d);
	const char *dirs[] = { p.front, p.back };

	for (int i = 0; i < 2; i++) {
		unsigned int n;
		char **entries = xs_directory(xs, t, dirs[i], &n);

		free(entries);
		if (entries)
			return true;
	}
	return false;
}

/*
 * A domain's home goes as a whole when it ends, and what is written there or about it afterwards nobody would take away. Read
 * in the transaction that writes: one that ends meanwhile makes that fail.
 */
static bool has_home(struct xs_handle *xs, xs_transaction_t t, uint32_t domid)
{
	char path[64];
	unsigned int len;
	void *name;

	/* Nothing need have named dom0, and it does not end. */
	if (!domid)
		return true;
	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	name = xs_read(xs, t, path, &len);
	free(name);
	return name;
}

int vgpuxl_attach(struct xs_handle *xs, uint32_t zone, const struct vgpuxl_entry *entry, struct vgpuxl_device *device,
		  struct vgpuxl_error *e)
{
	struct vgpuxl_device d = { .zone = zone };
	struct vgpuxl_error why;

	if (vgpuxl_domain_find(xs, entry->backend, &d.backend, &why))
		return vgpuxl_error_set(e, why.err, "cannot attach a vgpu to domain %u: its driver domain: %s", zone,
					why.text);
	if (d.backend == zone)
		return vgpuxl_error_set(e, EINVAL, "cannot attach a vgpu to domain %u: that is its driver domain", zone);

	for (;;) {
		xs_transaction_t t = xs_transaction_start(xs);

		if (t == XBT_NULL)
			break;
		if (!has_home(xs, t, zone)) {
			xs_transaction_end(xs, t, true);
			return vgpuxl_error_set(e, ENOENT, "cannot attach a vgpu to domain %u: it has just ended: see 'xl list'", zone);
		}
		if (!has_home(xs, t, d.backend)) {
			xs_transaction_end(xs, t, true);
			return vgpuxl_error_set(e, ENOENT, "cannot attach a vgpu to domain %u: its driver domain %u has just ended: "
						"see 'xl list'", zone, d.backend);
		}
		for (d.devid = 0; d.devid < DEVICES_MAX && taken(xs, t, &d); d.devid++)
			;
		if (d.devid == DEVICES_MAX) {
			xs_transaction_end(xs, t, true);
			return vgpuxl_error_set(e, ENOSPC, "cannot attach a vgpu to domain %u: it has %u already", zone,
						DEVICES_MAX);
		}
		if (!write_nodes(xs, t, &d, entry)) {
			int err = errno;

			xs_transaction_end(xs, t, true);
			errno = err;
			break;
		}
		if (xs_transaction_end(xs, t, false)) {
			*device = d;
			return 0;
		}
		if (errno != EAGAIN)
			break;
	}
	return vgpuxl_error_set(e, errno, "cannot attach a vgpu to domain %u: writing to xenstore: %s", zone,
				strerror(errno));
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

static long backend_state(struct xs_handle *xs, const struct vgpuxl_device *d)
{
	return vgpuxl_read_long(xs, XenbusStateUnknown, "%s/state", paths_of(d).back);
}

/* Wait until the backend's state satisfies @wanted; the last state seen comes back. */
static bool wait_state(struct xs_handle *xs, const struct vgpuxl_device *d, bool (*wanted)(long state),
		       unsigned int timeout_ms, long *state)
{
	long long end = now_ms() + timeout_ms;
	char path[128];
	bool ok;

	snprintf(path, sizeof(path), "%s/state", paths_of(d).back);
	xs_watch(xs, path, "state");
	for (;;) {
		struct pollfd pfd = { .fd = xs_fileno(xs), .events = POLLIN };
		long long left = end - now_ms();
		char **event;

		while ((event = xs_check_watch(xs)))
			free(event);
		*state = backend_state(xs, d);
		ok = wanted(*state);
		if (ok || left <= 0)
			break;
		/* The watch wakes us; the limit of a second only guards against a lost one. */
		poll(&pfd, 1, left < 1000 ? (int)left : 1000);
	}
	xs_unwatch(xs, path, "state");
	return ok;
}

static bool taken_by_backend(long state)
{
	return state >= XenbusStateInitWait;
}

static bool closed(long state)
{
	return state == XenbusStateClosed || state == XenbusStateUnknown;
}

static void backend_error(struct xs_handle *xs, const struct vgpuxl_device *d, char *buf, unsigned int size)
{
	vgpuxl_read(xs, XBT_NULL, buf, size, "%s/error", paths_of(d).back_error);
}

/* The pod's own words: printable, and not too many. */
static void frontend_error(struct xs_handle *xs, const struct vgpuxl_device *d, char *buf, unsigned int size)
{
	vgpuxl_read(xs, XBT_NULL, buf, size, "%s/error", paths_of(d).front_error);
	for (; *buf; buf++)
		if (*buf < ' ' || *buf > '~')
			*buf = '?';
}

int vgpuxl_wait_backend(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms,
			struct vgpuxl_error *e)
{
	char why[256];
	long state;

	if (wait_state(xs, device, taken_by_backend, timeout_ms, &state)) {
		if (state < XenbusStateClosing)
			return 0;
		/* A frontend that refuses takes its backend along, perhaps before we look. */
		frontend_error(xs, device, why, sizeof(why));
		if (why[0])
			return vgpuxl_error_set(e, EIO, "vgpu %u of domain %u: the domain refused it: %s " HINT_REFUSED,
						device->devid, device->zone, why);
		backend_error(xs, device, why, sizeof(why));
		return vgpuxl_error_set(e, EIO, "vgpu %u of domain %u: the backend refused it: %s", device->devid,
					device->zone, why[0] ? why : "see the driver domain's kernel log (dmesg)");
	}
	return vgpuxl_error_set(e, ETIMEDOUT, "vgpu %u of domain %u: no backend took it within %u s (state %s): is "
				"vgpu-back loaded in domain %u? (modprobe vgpu-back; dmesg)", device->devid, device->zone,
				timeout_ms / 1000, vgpuxl_state_name(state), device->backend);
}

static bool connected(long state)
{
	return state >= XenbusStateConnected;
}

int vgpuxl_wait_frontend(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms,
			 struct vgpuxl_error *e)
{
	long long end = now_ms() + timeout_ms;
	char why[256];
	long state;

	do {
		if (wait_state(xs, device, connected, 200, &state) && state == XenbusStateConnected)
			return 0;
		frontend_error(xs, device, why, sizeof(why));
		if (why[0])
			return vgpuxl_error_set(e, EIO, "vgpu %u of domain %u: the domain refused it: %s " HINT_REFUSED,
						device->devid, device->zone, why);
		if (state > XenbusStateConnected)
			poll(NULL, 0, 100);
	} while (now_ms() < end);
	return vgpuxl_error_set(e, ETIMEDOUT, "vgpu %u of domain %u: nobody in the domain has taken it within %u s (state "
				"%s): is vgpu-front loaded there?", device->devid, device->zone, timeout_ms / 1000,
				vgpuxl_state_name(state));
}

/* The backend's directories, not the frontend's `backend-id`: the pod may write what it likes there. */
static bool backend_of(struct xs_handle *xs, xs_transaction_t t, struct vgpuxl_device *device)
{
	unsigned int n;
	char **all = xs_directory(xs, t, "/local/domain", &n);
	bool found = false;

	for (unsigned int i = 0; all && i < n && !found; i++) {
		struct vgpuxl_device d = { .zone = device->zone, .devid = device->devid, .backend = (uint32_t)atoi(all[i]) };
		char front[16];

		found = vgpuxl_read(xs, t, front, sizeof(front), "%s/frontend-id", paths_of(&d).back);
		if (found)
			*device = d;
	}
	free(all);
	return found;
}

/* Its driver domain has ended, and taken its own side of the device along. Then the pod's word has to do for which that was. */
static bool stranded(struct xs_handle *xs, xs_transaction_t t, struct vgpuxl_device *device)
{
	struct paths p = paths_of(device);
	char text[16];

	if (!vgpuxl_read(xs, t, text, sizeof(text), "%s/backend-id", p.front))
		return false;
	device->backend = (uint32_t)strtoul(text, NULL, 10);
	p = paths_of(device);
	return !vgpuxl_read(xs, t, text, sizeof(text), "%s/frontend-id", p.back) && !backend_of(xs, t, device);
}

int vgpuxl_device_find(struct xs_handle *xs, uint32_t zone, uint32_t devid, struct vgpuxl_device *device,
		       struct vgpuxl_error *e)
{
	struct vgpuxl_device d = { .zone = zone, .devid = devid };

	if (!backend_of(xs, XBT_NULL, &d) && !stranded(xs, XBT_NULL, &d))
		return vgpuxl_error_set(e, ENOENT, "domain %u has no vgpu %u: see 'vgpuctl list'", zone, devid);
	*device = d;
	return 0;
}

int vgpuxl_device_read(struct xs_handle *xs, const struct vgpuxl_device *device, struct vgpuxl_entry *entry,
		       struct vgpuxl_error *e)
{
	struct paths p = paths_of(device);

	*entry = (struct vgpuxl_entry){ 0 };
	if (!vgpuxl_read(xs, XBT_NULL, entry->gpu, sizeof(entry->gpu), "%s/gpu", p.back))
		return vgpuxl_error_set(e, ENOENT, "domain %u has no vgpu %u: see 'vgpuctl list'", device->zone, device->devid);
	entry->memory = (uint32_t)vgpuxl_read_long(xs, 0, "%s/memory", p.back);
	entry->weight = (uint32_t)vgpuxl_read_long(xs, 1, "%s/weight", p.back);
	entry->sessions = (uint32_t)vgpuxl_read_long(xs, VGPUXL_SESSIONS_DEFAULT, "%s/sessions", p.back);
	snprintf(entry->backend, sizeof(entry->backend), "%u", device->backend);
	return 0;
}

int vgpuxl_device_set(struct xs_handle *xs, const struct vgpuxl_device *device, const struct vgpuxl_entry *entry,
		      unsigned int which, struct vgpuxl_error *e)
{
	struct paths p = paths_of(device);

	for (;;) {
		xs_transaction_t t = xs_transaction_start(xs);
		unsigned int len;
		char *there;
		bool ok;

		if (t == XBT_NULL)
			break;
		/* Not into the directory of a device that has just gone. */
		there = xs_read(xs, t, p.back, &len);
		ok = there && (!(which & VGPUXL_SET_MEMORY) || put_number(xs, t, p.back, "memory", entry->memory)) &&
		     (!(which & VGPUXL_SET_WEIGHT) || put_number(xs, t, p.back, "weight", entry->weight)) &&
		     (!(which & VGPUXL_SET_SESSIONS) || put_number(xs, t, p.back, "sessions", entry->sessions));
		free(there);
		if (!ok) {
			int err = errno;

			xs_transaction_end(xs, t, true);
			errno = err;
			break;
		}
		if (xs_transaction_end(xs, t, false))
			return 0;
		if (errno != EAGAIN)
			break;
	}
	return vgpuxl_error_set(e, errno, "cannot change vgpu %u of domain %u: writing to xenstore: %s", device->devid,
				device->zone, strerror(errno));
}

static void remove_if_empty(struct xs_handle *xs, xs_transaction_t t, const char *path)
{
	unsigned int n;
	char **rest = xs_directory(xs, t, path, &n);

	if (rest && !n)
		xs_rm(xs, t, path);
	free(rest);
}

/* Only a device that is to go, and not one that another process has made in its place? */
enum which { ANY, IF_OFFLINE, IF_STRANDED };

static bool another(struct xs_handle *xs, xs_transaction_t t, const struct vgpuxl_device *device, enum which which)
{
	struct vgpuxl_device d = *device;
	char online[8];

	if (which == IF_STRANDED)
		return !stranded(xs, t, &d);
	return which == IF_OFFLINE && vgpuxl_read(xs, t, online, sizeof(online), "%s/online", paths_of(device).back) &&
	       strcmp(online, "0");
}

static void remove_nodes(struct xs_handle *xs, const struct vgpuxl_device *device, enum which which)
{
	struct paths p = paths_of(device);
	char parent[80];

	for (;;) {
		xs_transaction_t t = xs_transaction_start(xs);

		if (t == XBT_NULL)
			return;
		if (another(xs, t, device, which)) {
			xs_transaction_end(xs, t, true);
			return;
		}
		xs_rm(xs, t, p.front);
		xs_rm(xs, t, p.back);
		xs_rm(xs, t, p.front_error);
		xs_rm(xs, t, p.back_error);
		/* The zone's own directories go with its last device, on either side. */
		snprintf(parent, sizeof(parent), "/local/domain/%u/backend/vgpu/%u", device->backend, device->zone);
		remove_if_empty(xs, t, parent);
		snprintf(parent, sizeof(parent), "/local/domain/%u/error/backend/vgpu/%u", device->backend, device->zone);
		remove_if_empty(xs, t, parent);
		snprintf(parent, sizeof(parent), "/local/domain/%u/device/vgpu", device->zone);
		remove_if_empty(xs, t, parent);
		if (xs_transaction_end(xs, t, false) || errno != EAGAIN)
			return;
	}
}

void vgpuxl_remove(struct xs_handle *xs, const struct vgpuxl_device *device)
{
	remove_nodes(xs, device, ANY);
}

void vgpuxl_remove_stranded(struct xs_handle *xs, const struct vgpuxl_device *device)
{
	remove_nodes(xs, device, IF_STRANDED);
}

int vgpuxl_for_each_stranded(struct xs_handle *xs, int (*fn)(struct xs_handle *xs, const struct vgpuxl_device *device, void *arg),
			     void *arg)
{
	unsigned int nzones, ndevices;
	char **zones = xs_directory(xs, XBT_NULL, "/local/domain", &nzones), path[64];
	int ret = 0;

	for (unsigned int z = 0; zones && z < nzones && !ret; z++) {
		char **devices;

		snprintf(path, sizeof(path), "/local/domain/%s/device/vgpu", zones[z]);
		devices = xs_directory(xs, XBT_NULL, path, &ndevices);
		for (unsigned int i = 0; devices && i < ndevices && !ret; i++) {
			struct vgpuxl_device d = {
				.zone = (uint32_t)strtoul(zones[z], NULL, 10), .devid = (uint32_t)strtoul(devices[i], NULL, 10),
			};

			if (stranded(xs, XBT_NULL, &d))
				ret = fn(xs, &d, arg);
		}
		free(devices);
	}
	free(zones);
	return ret;
}

/*
 * Tell the backend that the device goes, and to close it unless it has. Another process may be doing the same: nothing is written
 * where nothing is any more. @state: the backend's before that. @return 0, or a negative error number
 */
static int ask_to_close(struct xs_handle *xs, const struct vgpuxl_device *device, long *state, struct vgpuxl_error *e)
{
	struct paths p = paths_of(device);
	char text[16];

	for (;;) {
		xs_transaction_t t = xs_transaction_start(xs);
		bool ok;

		if (t == XBT_NULL)
			break;
		*state = XenbusStateUnknown;
		ok = vgpuxl_read(xs, t, text, sizeof(text), "%s/state", p.back);
		if (ok) {
			*state = atol(text);
			ok = put_number(xs, t, p.back, "online", 0) &&
			     (*state == XenbusStateClosed || put_number(xs, t, p.back, "state", XenbusStateClosing));
			if (!ok) {
				int err = errno;

				xs_transaction_end(xs, t, true);
				errno = err;
				break;
			}
		}
		if (xs_transaction_end(xs, t, !ok))
			return 0;
		if (errno != EAGAIN)
			break;
	}
	return vgpuxl_error_set(e, errno, "cannot detach vgpu %u of domain %u: writing to xenstore: %s", device->devid, device->zone,
				strerror(errno));
}

/* By its own word. One that lies has its device taken away as with --force. */
static bool frontend_holds(struct xs_handle *xs, const struct vgpuxl_device *device)
{
	char text[16];
	long state = XenbusStateUnknown;

	if (vgpuxl_read(xs, XBT_NULL, text, sizeof(text), "%s/state", paths_of(device).front))
		state = atol(text);
	return state != XenbusStateUnknown && state != XenbusStateInitialising && state != XenbusStateClosed;
}

int vgpuxl_detach(struct xs_handle *xs, const struct vgpuxl_device *device, unsigned int timeout_ms, bool force,
		  struct vgpuxl_error *e)
{
	long state = backend_state(xs, device);
	struct vgpuxl_device there = *device;
	int ret;

	/* A backend that never took the device will not answer either. */
	if (state != XenbusStateInitialising && state != XenbusStateUnknown) {
		bool held = frontend_holds(xs, device);

		ret = ask_to_close(xs, device, &state, e);
		if (ret)
			return ret;
		/* Where nobody holds it, nobody may be there to answer. */
		if (!held && timeout_ms > UNHELD_TIMEOUT_MS)
			timeout_ms = UNHELD_TIMEOUT_MS;
		if (!closed(state) && !wait_state(xs, device, closed, timeout_ms, &state) && held && !force)
			return vgpuxl_error_set(e, ETIMEDOUT, "vgpu %u of domain %u did not close within %u s (state %s): "
						"a program in the domain may still hold it; stop that, or use --force",
						device->devid, device->zone, timeout_ms / 1000, vgpuxl_state_name(state));
	}
	remove_nodes(xs, device, stranded(xs, XBT_NULL, &there) ? IF_STRANDED : state != XenbusStateInitialising ? IF_OFFLINE : ANY);
	return 0;
}

static bool driver_bound(void)
{
	return !access("/sys/bus/xen-backend/drivers/vgpu", F_OK);
}

int vgpuxl_backend_present(struct vgpuxl_error *e)
{
	pid_t pid;
	int status;

	if (driver_bound())
		return 0;
	pid = fork();
	if (!pid) {
		execlp("modprobe", "modprobe", "-q", "vgpu-back", (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (driver_bound())
		return 0;
	return vgpuxl_error_set(e, ENODEV, "the backend driver is not loaded in this domain: modprobe vgpu-back (or insmod "
				"vgpu-back.ko), then start vgpu-broker --xen");
}
