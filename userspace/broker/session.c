// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"

struct session *session_new(struct device *d, uint32_t number, char *why, size_t cap)
{
	struct session *s, **end;

	if (broker.draining) {
		snprintf(why, cap, "the broker is shutting down");
		return NULL;
	}
	if (d->removed) {
		snprintf(why, cap, "the device is being removed");
		return NULL;
	}
	if (d->nsessions >= d->max_sessions) {
		snprintf(why, cap, "the device has %u sessions, its limit (raise `sessions` in its configuration)",
			 d->nsessions);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		snprintf(why, cap, "the broker is out of memory");
		return NULL;
	}
	s->device = d;
	s->number = number;
	s->fd = s->conn = s->life.fd = -1;
	s->start_ns = log_now_ns();
	for (end = &broker.sessions; *end; end = &(*end)->next)
		;
	*end = s;
	d->nsessions++;
	return s;
}

static void release(struct session *s)
{
	struct session **p;
	struct device *d = s->device;

	for (p = &broker.sessions; *p; p = &(*p)->next) {
		if (*p == s) {
			*p = s->next;
			break;
		}
	}
	if (s->fd >= 0)
		aside_close(s->fd);
	if (s->conn >= 0)
		close(s->conn);
	unwatch(&s->life);
	images_session_gone(d, s);
	d->nsessions--;
	if (d->removed)
		device_remove(d);
	later(s);
}

struct session *session_find_xen(uint32_t number)
{
	struct session *s;

	for (s = broker.sessions; s; s = s->next)
		if (s->device->xen && s->number == number)
			return s;
	return NULL;
}

void session_refuse(struct session *s, int err, const char *why)
{
	s->device->refused++;
	if (device_may_log(s->device, &s->device->bucket)) {
		session_log(s, LOG_WARNING, "refused: %s", why);
		event("session-refused", s->device, s, "%s", why);
	}
	if (s->device->xen)
		xen_refuse(s, why);
	else
		local_refuse(s, err, why);
	release(s);
}

/*
 * What a session of this device leaves is given back when its worker is dead. Who starts one program after another must
 * find the whole quota free, as on a GPU of his own: so a new session waits for those that are ending.
 */
static bool settling(struct device *d)
{
	struct session *s;

	for (s = broker.sessions; s; s = s->next) {
		if (s->device != d || !s->worker)
			continue;
		if (s->state == SESSION_ENDING || (s->state == SESSION_RUNNING && local_client_gone(s)))
			return true;
	}
	return false;
}

/* @return 0 or -errno; also once it has been done */
static int grant(struct session *s)
{
	int life = -1, ret;

	if (s->fd >= 0)
		return 0;
	do
		ret = s->device->xen ? xen_accept(s) : local_grant(s, &life);
	while (ret == -EMFILE && s->fd < 0 && images_spare());
	s->life.fd = life;	/* watched once a worker serves it */
	return ret;
}

void session_start(struct session *s)
{
	char full[256];
	struct worker *w;
	int ret;

	if (settling(s->device))
		return;
	if (zone_full(s->device, full, sizeof(full))) {
		session_refuse(s, EAGAIN, full);
		return;
	}
	/* One that was idle may die just now: then another has its turn. */
	while ((w = pool_take())) {
		ret = grant(s);
		if (ret == -ENOENT) {
			/* The client gave up meanwhile. */
			s->client_gone = true;
			session_over(s);
			break;
		}
		if (ret) {
			char why[128];

			snprintf(why, sizeof(why), "cannot set the session up: %s", strerror(-ret));
			session_refuse(s, -ret, why);
			break;
		}
		if (!worker_assign(w, s, s->life.fd)) {
			if (s->life.fd >= 0)
				local_watch_life(s, s->life.fd);
			break;
		}
	}
	/* A session waits for the worker being started, but not for one that cannot start. */
	if (!w && broker.start_failures >= 3) {
		char why[WORKER_TEXT_MAX + 64];

		snprintf(why, sizeof(why), "no worker can be started: %s", broker.start_failure);
		session_refuse(s, EIO, why);
		return;
	}
	pool_fill();
}

void session_start_waiting(void)
{
	struct session *s, *first;

	/* Devices take turns, so that one whose clients come by the dozen does not keep the others waiting. */
	for (;;) {
		if (!pool_take() && broker.start_failures < 3)
			return;
		first = NULL;
		for (s = broker.sessions; s; s = s->next) {
			if (s->state != SESSION_WAITING || s->foreign)
				continue;
			if (first && s->device->started_ns >= first->device->started_ns)
				continue;
			if (!settling(s->device))
				first = s;
		}
		if (!first)
			return;
		session_start(first);
	}
}

void session_end(struct session *s, const char *why)
{
	struct worker_msg m = { .type = BROKER_END };

	if (s->state == SESSION_WAITING && !s->foreign) {
		session_refuse(s, ECONNABORTED, why);
		return;
	}
	if (s->state != SESSION_RUNNING || !s->worker)
		return;
	s->state = SESSION_ENDING;
	s->kill_ns = log_now_ns() + KILL_GRACE_NS;
	if (!s->reason[0])
		snprintf(s->reason, sizeof(s->reason), "%s", why);
	snprintf(m.u.text, sizeof(m.u.text), "%s", why);
	if (worker_send(s->worker, &m, NULL, 0))
		worker_kill(s->worker);
}

void session_over(struct session *s)
{
	const char *why = s->reason[0] ? s->reason : NULL;
	uint64_t ms = (log_now_ns() - s->start_ns) / 1000000;

	if (s->foreign || s->state == SESSION_WAITING) {
		if (device_may_log(s->device, &s->device->chatter))
			session_log(s, LOG_INFO, s->foreign ? "ended (served by a worker of an earlier broker)" :
				    "the client left before a worker was ready");
		release(s);
		return;
	}
	if (s->fd >= 0 && why) {
		if (s->device->xen)
			xen_end(s->fd, why);
		else
			local_end(s, why);
	}
	if (device_may_log(s->device, why ? &s->device->bucket : &s->device->chatter)) {
		if (why)
			session_log(s, LOG_WARNING, "ended after %llu.%03llu s: %s", (unsigned long long)ms / 1000,
				    (unsigned long long)ms % 1000, why);
		else
			session_log(s, LOG_INFO, "closed after %llu.%03llu s", (unsigned long long)ms / 1000,
				    (unsigned long long)ms % 1000);
		event(why ? "session-ended" : "session-closed", s->device, s, "after %llu.%03llu s%s%s",
		      (unsigned long long)ms / 1000, (unsigned long long)ms % 1000, why ? ": " : "", why ? why : "");
	}
	release(s);
}

/* Kill the workers that do not end their session when told to. */
uint64_t session_tick(uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;
	struct session *s;

	for (s = broker.sessions; s; s = s->next) {
		if (s->state != SESSION_ENDING || !s->worker)
			continue;
		if (now_ns >= s->kill_ns)
			worker_kill(s->worker);
		else if (s->kill_ns - now_ns < next)
			next = s->kill_ns - now_ns;
	}
	return next;
}

void session_log(struct session *s, enum log_level level, const char *fmt, ...)
{
	char text[800];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_line(level, "zone %u: session %u: %s", s->device->zone, s->number, text);
}
