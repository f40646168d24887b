// SPDX-License-Identifier: Apache-2.0
/*
 * DIR/control: a client sends one line, the broker answers with text until end of file.
 *
 *	list [--json]	zones, devices, sessions
 *	stats		counters of the broker
 *	quit		as SIGTERM
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker.h"

#define LINE_MAX_	256
#define ASKERS_MAX	32

struct asker {
	struct source source;
	char line[LINE_MAX_];
	size_t len;
	char *answer;
	size_t total, sent;
};

static struct source listener = { .fd = -1 };
static unsigned int askers;
static char path[128];

static void leave(struct asker *a)
{
	unwatch(&a->source);
	free(a->answer);
	askers--;
	later(a);
}

static const char *state_name(const struct session *s)
{
	switch (s->state) {
	case SESSION_WAITING:
		return "waiting";
	case SESSION_RUNNING:
		return "running";
	default:
		return "ending";
	}
}

static void age(char *out, size_t cap, uint64_t ns)
{
	uint64_t sec = ns / 1000000000ull;

	if (sec < 60)
		snprintf(out, cap, "%llus", (unsigned long long)sec);
	else if (sec < 3600)
		snprintf(out, cap, "%llum%02llus", (unsigned long long)sec / 60, (unsigned long long)sec % 60);
	else
		snprintf(out, cap, "%lluh%02llum", (unsigned long long)sec / 3600,
			 (unsigned long long)sec / 60 % 60);
}

static void memory(char *out, size_t cap, uint64_t used, uint64_t quota)
{
	char total[32];

	if (quota)
		snprintf(total, sizeof(total), "%llu", (unsigned long long)(quota >> 20));
	else
		snprintf(total, sizeof(total), "-");
	snprintf(out, cap, "%.1f/%s MiB", (double)used / (1 << 20), total);
}

static void snapshot(const struct session *s, struct worker_stats *st)
{
	struct worker_stats raw;

	memset(st, 0, sizeof(*st));
	if (!s->worker)
		return;
	memcpy(&raw, s->worker->stats, sizeof(raw));
	*st = raw;
	if (s->device->memory && st->memory > s->worker->holder.leased)
		st->memory = s->worker->holder.leased;
	log_clean(st->program, sizeof(st->program), raw.program, sizeof(raw.program));
	if (!s->device->xen)
		st->client_pid = s->request.pid;	/* the kernel's word instead of the client's */
}

static const char *device_name(const struct device *d, char *buf, size_t cap)
{
	if (!d->xen)
		return d->name;
	snprintf(buf, cap, "%u", d->id);
	return buf;
}

static void list(FILE *f)
{
	uint64_t now = log_now_ns();
	struct worker_stats st;
	struct device *d;
	struct session *s;
	char a[32], m[64], n[16];

	fprintf(f, "%-7s %-12s %-10s %6s %18s %9s %8s\n", "ZONE", "DEVICE", "GPU", "WEIGHT", "MEMORY", "SESSIONS",
		"SERVED");
	for (d = broker.devices; d; d = d->next) {
		memory(m, sizeof(m), device_used(d), d->memory);
		fprintf(f, "%-7u %-12s %-10s %6u %18s %5u/%-3u %8llu\n", d->zone, device_name(d, n, sizeof(n)), d->gpu,
			d->weight, m, d->nsessions, d->max_sessions, (unsigned long long)d->served);
	}
	fprintf(f, "\n%-7s %-12s %-8s %-8s %-8s %-18s %10s %18s %8s %7s\n", "ZONE", "DEVICE", "SESSION", "STATE",
		"WORKER", "PROGRAM", "CALLS", "MEMORY", "HANDLES", "AGE");
	for (s = broker.sessions; s; s = s->next) {
		snapshot(s, &st);
		memory(m, sizeof(m), st.memory, s->device->memory);
		age(a, sizeof(a), now - s->start_ns);
		fprintf(f, "%-7u %-12s %-8u %-8s %-8d %-18.18s %10llu %18s %8llu %7s\n", s->device->zone,
			device_name(s->device, n, sizeof(n)), s->number, state_name(s),
			s->worker ? s->worker->pid : 0, st.program[0] ? st.program : "-",
			(unsigned long long)st.calls, m, (unsigned long long)st.handles, a);
	}
}

/* Names are cleaned to printable ASCII before they come here: only these two need escaping. */
static void json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		fputc(*s, f);
	}
	fputc('"', f);
}

static void list_json(FILE *f)
{
	uint64_t now = log_now_ns();
	struct worker_stats st;
	struct device *d;
	struct session *s;
	const char *sep = "";
	char n[16];

	fprintf(f, "{\"devices\": [");
	for (d = broker.devices; d; d = d->next, sep = ", ") {
		fprintf(f, "%s{\"zone\": %u, \"device\": ", sep, d->zone);
		json_string(f, device_name(d, n, sizeof(n)));
		fprintf(f, ", \"transport\": \"%s\", \"gpu\": ", d->xen ? "xen" : "local");
		json_string(f, d->gpu);
		fprintf(f, ", \"weight\": %u, \"memory_used\": %llu, \"memory_quota\": %llu, \"sessions\": %u, "
			"\"sessions_max\": %u, \"served\": %llu, \"refused\": %llu}", d->weight,
			(unsigned long long)device_used(d), (unsigned long long)d->memory, d->nsessions,
			d->max_sessions, (unsigned long long)d->served, (unsigned long long)d->refused);
	}
	fprintf(f, "], \"sessions\": [");
	for (s = broker.sessions, sep = ""; s; s = s->next, sep = ", ") {
		snapshot(s, &st);
		fprintf(f, "%s{\"zone\": %u, \"device\": ", sep, s->device->zone);
		json_string(f, device_name(s->device, n, sizeof(n)));
		fprintf(f, ", \"session\": %u, \"state\": \"%s\", \"worker\": %d, \"client\": %u, \"program\": ", s->number,
			state_name(s), s->worker ? s->worker->pid : 0, st.client_pid);
		json_string(f, st.program);
		fprintf(f, ", \"calls\": %llu, \"launches\": %llu, \"refused\": %llu, \"memory_used\": %llu, "
			"\"memory_peak\": %llu, \"handles\": %llu, \"age_ms\": %llu}", (unsigned long long)st.calls,
			(unsigned long long)st.launches, (unsigned long long)st.refused, (unsigned long long)st.memory,
			(unsigned long long)st.memory_peak, (unsigned long long)st.handles,
			(unsigned long long)(now - s->start_ns) / 1000000);
	}
	fprintf(f, "]}\n");
}

static void stats(FILE *f)
{
	unsigned int idle = 0, starting = 0, busy = 0, devices = 0, sessions = 0;
	struct worker *w;
	struct device *d;
	struct session *s;

	for (w = broker.workers; w; w = w->next) {
		idle += w->state == WORKER_IDLE;
		starting += w->state == WORKER_STARTING;
		busy += w->state == WORKER_BUSY;
	}
	for (d = broker.devices; d; d = d->next)
		devices++;
	for (s = broker.sessions; s; s = s->next)
		sessions++;
	fprintf(f, "driver %s\nprofile %s\nuptime_ms %llu\ndevices %u\nsessions %u\nsessions_served %llu\n"
		"workers_idle %u\nworkers_starting %u\nworkers_busy %u\nworkers_spawned %llu\nstart_failures %u\n",
		broker.driver_path, broker.soft ? "soft" : "nvidia",
		(unsigned long long)(log_now_ns() - broker.start_ns) / 1000000, devices, sessions,
		(unsigned long long)broker.sessions_served, idle, starting, busy,
		(unsigned long long)broker.workers_spawned, broker.start_failures);
}

static void answer(struct asker *a)
{
	FILE *f = open_memstream(&a->answer, &a->total);

	if (!f)
		return;
	if (!strcmp(a->line, "list")) {
		list(f);
	} else if (!strcmp(a->line, "list --json")) {
		list_json(f);
	} else if (!strcmp(a->line, "stats")) {
		stats(f);
	} else if (!strcmp(a->line, "quit")) {
		fprintf(f, "draining\n");
		drain("asked to quit");
	} else {
		fprintf(f, "unknown command; there are: list, list --json, stats, quit\n");
	}
	fclose(f);
}

static void asker_ready(struct source *src, uint32_t events)
{
	struct asker *a = container_of(src, struct asker, source);
	char *eol;
	ssize_t n;

	if (!a->answer) {
		n = recv(src->fd, a->line + a->len, sizeof(a->line) - 1 - a->len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0)
			a->len += n;
		a->line[a->len] = '\0';
		eol = strpbrk(a->line, "\r\n");
		if (eol)
			*eol = '\0';
		else if (n > 0 && a->len < sizeof(a->line) - 1)
			return;
		else if (!a->len || n < 0)
			return leave(a);
		answer(a);
		if (!a->answer)
			return leave(a);
	}
	while (a->sent < a->total) {
		n = send(src->fd, a->answer + a->sent, a->total - a->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			struct epoll_event ev = { .events = EPOLLOUT, .data.ptr = src };

			epoll_ctl(broker.epoll, EPOLL_CTL_MOD, src->fd, &ev);
			return;
		}
		if (n <= 0)
			break;
		a->sent += n;
	}
	leave(a);
}

static void listener_ready(struct source *src, uint32_t events)
{
	struct asker *a;
	int fd;

	while ((fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		a = askers < ASKERS_MAX ? calloc(1, sizeof(*a)) : NULL;
		if (!a || watch(&a->source, fd, EPOLLIN, asker_ready)) {
			close(fd);
			free(a);
			continue;
		}
		askers++;
	}
}

int control_listen(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	snprintf(path, sizeof(path), "%.100s/control", broker.run_dir);
	memcpy(sa.sun_path, path, strlen(path) + 1 < sizeof(sa.sun_path) ? strlen(path) + 1 : sizeof(sa.sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* A live broker answers; what a dead one left behind does not. */
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || errno == EAGAIN) {
		log_line(LOG_ERROR, "%s: another broker serves this folder (stop it, or choose another --run-dir)", path);
		close(fd);
		return -EADDRINUSE;
	}
	close(fd);
	unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || chmod(path, 0600) || listen(fd, 16) ||
	    watch(&listener, fd, EPOLLIN, listener_ready)) {
		int err = errno;

		log_line(LOG_ERROR, "%s: %s", path, strerror(err));
		close(fd);
		return -err;
	}
	return 0;
}

void control_stop(void)
{
	if (listener.fd < 0)
		return;
	unwatch(&listener);
	unlink(path);
}
