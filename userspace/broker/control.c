// SPDX-License-Identifier: Apache-2.0
/*
 * DIR/control: a client sends one line, the broker answers with text until end of file.
 *
 *	list [--json]	zones, devices, sessions
 *	stats		counters of the broker
 *	set NAME KEY=VALUE...	change a device of this machine: memory (MiB), weight, sessions; answers "ok"
 *	watch		a line of JSON for every event, until the client closes
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

/* "NAME memory=MiB weight=N sessions=N": a device of this machine. Pods' devices are configured in xenstore. */
static void set(FILE *f, char *text)
{
	char *save = NULL, *name = strtok_r(text, " ", &save), *word;
	unsigned long long memory, weight, sessions;
	struct device *d;

	for (d = broker.devices; d; d = d->next)
		if (!d->xen && name && !strcmp(d->name, name) && !d->removed)
			break;
	if (!d) {
		fprintf(f, "there is no device local:%s: see 'vgpuctl list'\n", name ? name : "");
		return;
	}
	memory = d->memory >> 20;
	weight = d->weight;
	sessions = d->max_sessions;
	while ((word = strtok_r(NULL, " ", &save))) {
		if (sscanf(word, "memory=%llu", &memory) != 1 && sscanf(word, "weight=%llu", &weight) != 1 &&
		    sscanf(word, "sessions=%llu", &sessions) != 1) {
			fprintf(f, "%s is not memory=MiB, weight=N or sessions=N\n", word);
			return;
		}
	}
	if (memory >= 1ull << 40 || !weight || weight > 10000 || !sessions || sessions > 65536) {
		fprintf(f, "out of range: memory in MiB, weight 1 to 10000, sessions 1 to 65536\n");
		return;
	}
	device_configure(d, memory << 20, (uint32_t)weight, (uint32_t)sessions);
	device_log(d, LOG_INFO, "configured: memory %llu MiB, weight %llu, sessions %llu", memory, weight, sessions);
	event("device-configured", d, NULL, "gpu %s, memory %llu MiB%s, weight %llu, sessions %llu", d->gpu, memory,
	      memory ? "" : " (no quota)", weight, sessions);
	fprintf(f, "ok\n");
}

static void answer(struct asker *a)
{
	FILE *f = open_memstream(&a->answer, &a->total);

	if (!f)
		return;
	if (!strcmp(a->line, "list")) {
		report_list(f);
	} else if (!strcmp(a->line, "list --json")) {
		report_json(f);
	} else if (!strcmp(a->line, "stats")) {
		report_stats(f);
	} else if (!strncmp(a->line, "set ", 4)) {
		set(f, a->line + 4);
	} else if (!strcmp(a->line, "quit")) {
		fprintf(f, "draining\n");
		drain("asked to quit");
	} else {
		fprintf(f, "unknown command; there are: list, list --json, stats, set, watch, quit\n");
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
		if (!strcmp(a->line, "watch")) {
			int fd = fcntl(src->fd, F_DUPFD_CLOEXEC, 3);

			if (fd >= 0 && events_watch(fd))
				close(fd);
			return leave(a);
		}
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
