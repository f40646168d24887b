// SPDX-License-Identifier: Apache-2.0
/* Devices of this machine: one UNIX socket each, one connection per session. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker.h"

#define VISITORS_MAX	64
#define ACCEPTS_MAX	16	/* in one turn: who connects without end must not hold up the other devices */

/* A connection that has not said what it wants yet. */
struct visitor {
	struct visitor *next;		/* oldest first */
	struct source source;
	struct device *device;
};

static struct visitor *visitors;

static void visitor_leave(struct visitor *v)
{
	struct visitor **p;

	for (p = &visitors; *p; p = &(*p)->next) {
		if (*p == v) {
			*p = v->next;
			break;
		}
	}
	unwatch(&v->source);
	v->device->visitors--;
	later(v);
}

static int parse_number(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	return *text && !*end && !errno && *text != '-' ? 0 : -EINVAL;
}

/* NAME:key=value,... */
int local_parse(const char *spec)
{
	char text[512], *name = text, *keys, *key, *save = NULL;
	struct device *d;
	uint64_t n;

	if (strlen(spec) >= sizeof(text)) {
		log_line(LOG_ERROR, "--local %.40s…: longer than %zu characters", spec, sizeof(text) - 1);
		return -EINVAL;
	}
	strcpy(text, spec);
	keys = strchr(text, ':');
	if (keys)
		*keys++ = '\0';
	if (!*name || strlen(name) >= sizeof(d->name) || strpbrk(name, "/ .")) {
		log_line(LOG_ERROR, "--local %s: the name must be 1 to %zu characters without '/', '.' and blanks", spec,
			 sizeof(d->name) - 1);
		return -EINVAL;
	}
	for (d = broker.devices; d; d = d->next) {
		if (!d->xen && !strcmp(d->name, name)) {
			log_line(LOG_ERROR, "--local %s: there are two of that name", spec);
			return -EINVAL;
		}
	}
	d = device_add(false, broker.next_zone++, 0);
	if (!d)
		return -ENOMEM;
	strcpy(d->name, name);
	for (key = keys ? strtok_r(keys, ",", &save) : NULL; key; key = strtok_r(NULL, ",", &save)) {
		char *value = strchr(key, '=');

		if (value)
			*value++ = '\0';
		if (value && !strcmp(key, "gpu") && strlen(value) < sizeof(d->gpu) && *value) {
			strcpy(d->gpu, value);
		} else if (value && !strcmp(key, "memory") && !parse_number(value, &n) && n < 1ull << 40) {
			d->memory = n << 20;
			d->quota.limit = n ? d->memory : UINT64_MAX;
		} else if (value && !strcmp(key, "weight") && !parse_number(value, &n) && n && n <= 10000) {
			d->weight = n;
		} else if (value && !strcmp(key, "sessions") && !parse_number(value, &n) && n && n <= 65536) {
			d->max_sessions = n;
		} else if (value && !strcmp(key, "arena") && !parse_number(value, &n) && n && n < 1ull << 20) {
			d->arena_max = n << 20;
		} else {
			log_line(LOG_ERROR,
				 "--local %s: '%s%s%s' is not one of gpu=INDEX-or-UUID[+…], memory=MiB, weight=N, "
				 "sessions=N, arena=MiB", spec, key, value ? "=" : "", value ? value : "");
			return -EINVAL;
		}
	}
	if (!strcmp(d->name, "default"))
		snprintf(d->path, sizeof(d->path), "%.80s/vgpu.sock", broker.run_dir);
	else
		snprintf(d->path, sizeof(d->path), "%.40s/vgpu-%s.sock", broker.run_dir, d->name);
	return 0;
}

static void visitor_ready(struct source *src, uint32_t events)
{
	struct visitor *v = container_of(src, struct visitor, source);
	struct device *d = v->device;
	struct idm_local_request rq;
	struct idm_error e = { 0 };
	struct session *s;
	char why[256];
	int ret, fd;

	ret = idm_local_read(src->fd, &rq, &e);
	if (!ret && !(events & (EPOLLHUP | EPOLLERR)))
		return;
	if (ret != 1) {
		if (ret < 0 && ret != -EPIPE && device_may_log(d, &d->bucket))
			device_log(d, LOG_WARNING, "a client was turned away: %s", e.text);
		visitor_leave(v);
		return;
	}
	fd = fcntl(src->fd, F_DUPFD_CLOEXEC, 0);
	visitor_leave(v);
	if (fd < 0)
		return;
	s = session_new(d, ++broker.next_session, why, sizeof(why));
	if (!s) {
		d->refused++;
		if (device_may_log(d, &d->bucket)) {
			device_log(d, LOG_WARNING, "session refused: %s", why);
			event("session-refused", d, NULL, "%s", why);
		}
		idm_local_refuse(fd, EAGAIN, why);
		close(fd);
		return;
	}
	s->conn = fd;
	s->request = rq;
	session_start(s);
}

static void listener_ready(struct source *src, uint32_t events)
{
	struct device *d = container_of(src, struct device, listener);
	struct visitor *v, **end;
	int fd, turns = ACCEPTS_MAX;

	while (turns-- && (fd = idm_local_accept(src->fd)) >= 0) {
		/* Connections that say nothing must not pile up, nor keep others out: the oldest has to go. */
		for (v = visitors; d->visitors >= VISITORS_MAX && v; v = v->next) {
			if (v->device == d) {
				visitor_leave(v);
				break;
			}
		}
		v = calloc(1, sizeof(*v));
		if (!v) {
			close(fd);
			continue;
		}
		v->device = d;
		d->visitors++;
		if (watch(&v->source, fd, EPOLLIN, visitor_ready)) {
			d->visitors--;
			close(fd);
			free(v);
			continue;
		}
		for (end = &visitors; *end; end = &(*end)->next)
			;
		*end = v;
	}
	/* What cannot be accepted for want of a descriptor stays readable: make room, or this would spin. */
	if (turns >= 0 && (fd == -EMFILE || fd == -ENFILE) && !images_spare()) {
		if (device_may_log(d, &d->bucket))
			device_log(d, LOG_ERROR, "a client cannot be accepted: %s (raise the broker's LimitNOFILE)",
				   strerror(-fd));
		if (visitors)
			visitor_leave(visitors);
		else
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

int local_listen_all(void)
{
	struct device *d;

	for (d = broker.devices; d; d = d->next) {
		struct idm_error e = { 0 };
		int fd;

		if (d->xen)
			continue;
		fd = idm_local_listen(d->path, &e);
		if (fd < 0) {
			log_line(LOG_ERROR, "%s", e.text);
			return fd;
		}
		/* Who may connect is decided by the folder it is in; the socket itself is for all. */
		if (chmod(d->path, 0666))
			log_line(LOG_WARNING, "%s: chmod: %s", d->path, strerror(errno));
		if (watch(&d->listener, fd, EPOLLIN, listener_ready))
			return -EIO;
		device_log(d, LOG_INFO, "serving %s: gpu %s, memory %llu MiB%s", d->path, d->gpu,
			   (unsigned long long)(d->memory >> 20), d->memory ? "" : " (no quota)");
	}
	return 0;
}

void local_stop(void)
{
	struct device *d;

	for (d = broker.devices; d; d = d->next) {
		if (d->xen || d->listener.fd < 0)
			continue;
		unwatch(&d->listener);
		unlink(d->path);
	}
}

int local_grant(struct session *s, int *life)
{
	struct device *d = s->device;
	struct idm_error e = { 0 };
	int life_client, ret;

	ret = idm_local_create(&s->request, d->arena_max, &s->fd, life, &life_client, &e);
	if (ret) {
		if (device_may_log(d, &d->bucket))
			session_log(s, LOG_ERROR, "%s", e.text);
		return ret;
	}
	ret = idm_local_grant(s->conn, &s->request, d->zone, LOCAL_OWN_ZONE, s->number, d->arena_max, s->fd,
			      life_client);
	close(s->conn);
	s->conn = -1;
	return ret ? -ENOENT : 0;
}

/*
 * The client has died or closed. Its worker notices too, unless it is stuck in the driver; the session's end is known
 * from the worker's death either way.
 */
static void life_ready(struct source *src, uint32_t events)
{
	struct session *s = container_of(src, struct session, life);

	unwatch(src);
	if (s->state != SESSION_RUNNING)
		return;
	s->state = SESSION_ENDING;
	s->kill_ns = log_now_ns() + GONE_GRACE_NS;
	s->client_gone = true;
}

/* Asked ahead of the event, which may be behind others in the queue. */
bool local_client_gone(struct session *s)
{
	struct pollfd p = { .fd = s->life.fd, .events = POLLRDHUP };

	if (s->life.fd >= 0 && poll(&p, 1, 0) == 1)
		life_ready(&s->life, EPOLLRDHUP);
	return s->client_gone;
}

void local_watch_life(struct session *s, int life)
{
	if (watch(&s->life, life, EPOLLRDHUP, life_ready))
		close(life);
}

void local_refuse(struct session *s, int err, const char *why)
{
	if (s->conn >= 0)
		idm_local_refuse(s->conn, err, why);
	else
		local_end(s, why);
}

static bool end(int memfd, const void *why)
{
	idm_local_end(memfd, why);
	return true;
}

/* The page is the client's. Where this cannot be done, it is told by its socket alone, without a reason. */
void local_end(struct session *s, const char *why)
{
	if (s->fd >= 0)
		aside_run(s->device, s->fd, end, why, NULL, 0);
}
