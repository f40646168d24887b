// SPDX-License-Identifier: Apache-2.0
/* Devices of pods, as /dev/vgpu-back tells of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "broker.h"
#include "linux/vgpu_back.h"

#define DEVICE_PATH "/dev/vgpu-back"
#define EVENT_TURNS 8	/* of eight events: pods that open and close without end must not hold up the rest */

static struct source back = { .fd = -1 };

static void configure(struct device *d, const struct vgpu_back_event *ev)
{
	device_configure(d, ev->memory, ev->weight, ev->sessions);
	log_clean(d->gpu, sizeof(d->gpu), (const char *)ev->gpu, sizeof(ev->gpu));
	if (!d->gpu[0])
		strcpy(d->gpu, "0");
}

static void device_added(const struct vgpu_back_event *ev)
{
	struct device *d = device_find(true, ev->zone, ev->device);
	bool again = d;

	if (!d)
		d = device_add(true, ev->zone, ev->device);
	if (!d) {
		log_line(LOG_ERROR, "zone %u: device %u: out of memory", ev->zone, ev->device);
		return;
	}
	configure(d, ev);
	device_log(d, LOG_INFO, "%s: gpu %s, memory %llu MiB%s, weight %u, sessions %u", again ? "configured" : "added",
		   d->gpu, (unsigned long long)(d->memory >> 20), d->memory ? "" : " (no quota)", d->weight,
		   d->max_sessions);
	event(again ? "device-configured" : "device-added", d, NULL, "gpu %s, memory %llu MiB%s, weight %u, sessions %u", d->gpu,
	      (unsigned long long)(d->memory >> 20), d->memory ? "" : " (no quota)", d->weight, d->max_sessions);
}

static void session_offered(const struct vgpu_back_event *ev)
{
	struct device *d = device_find(true, ev->zone, ev->device);
	struct vgpu_back_end no = { .session = ev->session };
	struct session *s;
	char why[256];

	if (!d) {
		snprintf((char *)no.reason, sizeof(no.reason), "the broker does not know this device");
		ioctl(back.fd, VGPU_BACK_IOC_REJECT, &no);
		return;
	}
	s = session_new(d, ev->session, why, sizeof(why));
	if (!s) {
		d->refused++;
		if (device_may_log(d, &d->bucket)) {
			device_log(d, LOG_WARNING, "session %u refused: %s", ev->session, why);
			event("session-refused", d, NULL, "session %u: %s", ev->session, why);
		}
		if (ev->accepted)
			return;
		snprintf((char *)no.reason, sizeof(no.reason), "%s", why);
		ioctl(back.fd, VGPU_BACK_IOC_REJECT, &no);
		return;
	}
	if (ev->accepted) {
		s->state = SESSION_RUNNING;
		s->foreign = !adopt_session(s);
		session_log(s, LOG_INFO, "goes on with the worker of an earlier broker%s", s->foreign ? ", which is not known" : "");
		event("session-adopted", d, s, "goes on with the worker of an earlier broker");
		return;
	}
	session_start(s);
}

static void session_closed(const struct vgpu_back_event *ev)
{
	struct session *s = session_find_xen(ev->session);

	if (!s)
		return;
	if (s->foreign || s->state == SESSION_WAITING) {
		session_over(s);
	} else if (s->worker) {
		/* The client is gone, so nothing it left in flight matters: the worker's death frees everything. */
		worker_kill(s->worker);
		s->state = SESSION_ENDING;
		s->client_gone = true;
	}
}

static void back_ready(struct source *src, uint32_t events)
{
	struct vgpu_back_event ev[8];
	int turns = EVENT_TURNS;
	ssize_t n = -1;
	size_t i;

	errno = EAGAIN;
	while (turns-- && (n = read(src->fd, ev, sizeof(ev))) > 0) {
		for (i = 0; i < n / sizeof(ev[0]); i++) {
			struct device *d;

			ev[i].gpu[sizeof(ev[i].gpu) - 1] = 0;
			switch (ev[i].type) {
			case VGPU_BACK_DEVICE_ADD:
				device_added(&ev[i]);
				break;
			case VGPU_BACK_DEVICE_REMOVE:
				d = device_find(true, ev[i].zone, ev[i].device);
				if (d) {
					device_log(d, LOG_INFO, "removed");
					event("device-removed", d, NULL, "its domain has gone, or it was detached");
					device_remove(d);
				}
				break;
			case VGPU_BACK_SESSION_OPEN:
				session_offered(&ev[i]);
				break;
			case VGPU_BACK_SESSION_CLOSE:
				session_closed(&ev[i]);
				break;
			default:
				log_line(LOG_WARNING, "%s: event of unknown type %u (a newer module?)", DEVICE_PATH,
					 ev[i].type);
			}
			if (src->fd < 0)
				return;
		}
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		log_line(LOG_ERROR, "%s: %s", DEVICE_PATH, n ? strerror(errno) : "end of file");
		unwatch(src);
		drain("the backend module has gone");
	}
}

int xen_open(void)
{
	int fd = open(DEVICE_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		int err = errno;

		log_line(LOG_ERROR, "%s: %s%s", DEVICE_PATH, strerror(err),
			 err == ENOENT ? " (load the module: modprobe vgpu-back)" :
			 err == EBUSY ? " (another broker is running)" : "");
		return -err;
	}
	if (watch(&back, fd, EPOLLIN, back_ready)) {
		close(fd);
		return -EIO;
	}
	log_line(LOG_INFO, "serving pods through %s", DEVICE_PATH);
	return 0;
}

void xen_stop(void)
{
	unwatch(&back);
}

int xen_accept(struct session *s)
{
	struct vgpu_back_accept accept = { .session = s->number };
	int fd = ioctl(back.fd, VGPU_BACK_IOC_ACCEPT, &accept);

	struct vgpu_back_info info;

	if (fd < 0)
		return -errno;
	s->fd = fd;
	if (ioctl(fd, VGPU_BACK_IOC_INFO, &info))
		return -errno;
	s->own_zone = info.own_zone;
	return 0;
}

void xen_refuse(struct session *s, const char *why)
{
	struct vgpu_back_end end = { .session = s->number };

	snprintf((char *)end.reason, sizeof(end.reason), "%s", why);
	if (s->fd >= 0)
		xen_end(s->fd, why);
	else if (back.fd >= 0)
		ioctl(back.fd, VGPU_BACK_IOC_REJECT, &end);
}

void xen_end(int fd, const char *why)
{
	struct vgpu_back_end end = { 0 };

	snprintf((char *)end.reason, sizeof(end.reason), "%s", why);
	ioctl(fd, VGPU_BACK_IOC_END, &end);
}
