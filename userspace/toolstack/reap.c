// SPDX-License-Identifier: Apache-2.0
/*
 * What dead domains leave behind.
 *
 * xl removes a domain's own nodes but does not know the kind `vgpu`, so the backend's directory stays, and
 * vgpu-back's device with it. A domain can end without any tool of ours being asked (a crash, `xl destroy`, its
 * own power-off), so one daemon watches xenstore's @releaseDomain and removes what belongs to nobody. Nor does xl know whom
 * a driver domain served: the pods' half of those devices is left, which nothing answers any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/xenbus.h>
#include <xenstore.h>

#include "vgpuxl.h"

#define LOCK_NAME "vgpuctl.lock"

/* A backend gets this long to close properly; then its directory goes anyway and xenbus tears the device down. */
#define GRACE_MS 5000
#define RECHECK_MS 200

static const char *run_dir(void)
{
	const char *dir = getenv("VGPU_RUN_DIR");

	return dir && *dir ? dir : "/run/vgpu";
}

int vgpuxl_daemon_lock(struct vgpuxl_error *e)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", run_dir(), LOCK_NAME);
	if (mkdir(run_dir(), 0755) && errno != EEXIST)
		return vgpuxl_error_set(e, errno, "cannot make %s: %s", run_dir(), strerror(errno));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return vgpuxl_error_set(e, errno, "cannot open %s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int err = errno;

		close(fd);
		return vgpuxl_error_set(e, err, "a daemon runs already (it holds %s)", path);
	}
	return fd;
}

struct sweep {
	long only;			/* this zone, or -1 for all */
	long long now, deadline;	/* ms; when the backend of the zone found dead first must have closed */
	bool waiting;
};

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

static int sweep_one(struct xs_handle *xs, const struct vgpuxl_device *d, void *arg)
{
	struct sweep *sweep = arg;
	char path[128];
	unsigned int n;
	char **root;
	long state;

	bool served = !d->backend || xs_is_domain_introduced(xs, d->backend);	/* nobody introduces dom0 to itself */

	if ((sweep->only >= 0 && d->zone != (uint32_t)sweep->only) || (served && xs_is_domain_introduced(xs, d->zone)))
		return 0;
	/* An error reads like a dead domain: only a working connection may call it dead. */
	root = xs_directory(xs, XBT_NULL, "/", &n);
	if (!root)
		return -EIO;
	free(root);

	snprintf(path, sizeof(path), "/local/domain/%u/backend/vgpu/%u/%u", d->backend, d->zone, d->devid);
	state = vgpuxl_read_long(xs, XenbusStateUnknown, "%s/state", path);
	if (served && state != XenbusStateClosed && state != XenbusStateUnknown && state != XenbusStateInitialising &&
	    sweep->now < sweep->deadline) {
		/* Tell a backend that it need not wait for another frontend. */
		if (vgpuxl_read_long(xs, 0, "%s/online", path)) {
			snprintf(path, sizeof(path), "/local/domain/%u/backend/vgpu/%u/%u/online", d->backend, d->zone,
				 d->devid);
			xs_write(xs, XBT_NULL, path, "0", 1);
		}
		sweep->waiting = true;
		return 0;
	}
	vgpuxl_remove(xs, d);
	if (served)
		syslog(LOG_INFO, "zone %u has gone: vgpu %u removed (backend in domain %u was %s)", d->zone, d->devid,
		       d->backend, vgpuxl_state_name(state));
	else
		syslog(LOG_WARNING, "driver domain %u has gone: vgpu %u of zone %u removed", d->backend, d->devid, d->zone);
	return 0;
}

/* xl has taken the driver domain's directories away, and what they held of pods' devices. */
static int sweep_stranded(struct xs_handle *xs, const struct vgpuxl_device *d, void *arg)
{
	vgpuxl_remove_stranded(xs, d);
	syslog(LOG_WARNING, "driver domain %u has gone: vgpu %u of zone %u removed", d->backend, d->devid, d->zone);
	return 0;
}

int vgpuxl_reap(volatile int *stop, struct vgpuxl_error *e)
{
	struct sweep sweep = { .only = -1 };
	struct xs_handle *xs;
	int ret;

	ret = vgpuxl_store_open(&xs, e);
	if (ret)
		return ret;
	if (!xs_watch(xs, "@releaseDomain", "release")) {
		ret = vgpuxl_error_set(e, errno, "cannot watch for ending domains in xenstore: %s", strerror(errno));
		vgpuxl_store_close(xs);
		return ret;
	}

	/* xenstore fires a new watch once at once: what died before we came is swept then. */
	while (!*stop) {
		struct pollfd pfd = { .fd = xs_fileno(xs), .events = POLLIN };
		char **event;
		int n;

		n = poll(&pfd, 1, sweep.waiting ? RECHECK_MS : -1);
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && pfd.revents & (POLLERR | POLLHUP | POLLNVAL)) {
			ret = vgpuxl_error_set(e, EPIPE, "xenstored closed the connection");
			break;
		}
		while ((event = xs_check_watch(xs)))
			free(event);
		sweep.now = now_ms();
		if (!sweep.waiting)
			sweep.deadline = sweep.now + GRACE_MS;
		sweep.waiting = false;
		vgpuxl_for_each(xs, sweep_one, &sweep);
		vgpuxl_for_each_stranded(xs, sweep_stranded, NULL);
	}
	vgpuxl_store_close(xs);
	return ret;
}

int vgpuxl_zone_cleanup(struct xs_handle *xs, uint32_t zone, struct vgpuxl_error *e)
{
	struct sweep sweep = { .only = zone, .deadline = now_ms() + GRACE_MS };
	int ret;

	do {
		sweep.now = now_ms();
		sweep.waiting = false;
		ret = vgpuxl_for_each(xs, sweep_one, &sweep);
		if (ret)
			return vgpuxl_error_set(e, -ret, "cannot clear up after domain %u: xenstore: %s", zone, strerror(-ret));
		if (sweep.waiting)
			poll(NULL, 0, 50);
	} while (sweep.waiting);
	return 0;
}
