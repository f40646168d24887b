// SPDX-License-Identifier: Apache-2.0
/*
 * What happens, to those who asked to be told: a line of JSON each, over their control connection. A reader that does
 * not keep up is cut off; it can connect again, and the broker never waits for it or keeps lines for it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker.h"

#define WATCHERS_MAX 8

struct watcher {
	struct source source;
	struct watcher *next;
};

static struct watcher *watchers;
static unsigned int nwatchers;

static void leave(struct watcher *w)
{
	struct watcher **p;

	for (p = &watchers; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	unwatch(&w->source);
	nwatchers--;
	later(w);
}

/* It has nothing to say: it is leaving. */
static void ready(struct source *src, uint32_t events)
{
	struct watcher *w = container_of(src, struct watcher, source);
	char buf[64];

	if (events & (EPOLLHUP | EPOLLERR) || recv(src->fd, buf, sizeof(buf), MSG_DONTWAIT) == 0)
		leave(w);
}

int events_watch(int fd)
{
	struct watcher *w = nwatchers < WATCHERS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w || watch(&w->source, fd, EPOLLIN, ready)) {
		free(w);
		return -1;
	}
	w->next = watchers;
	watchers = w;
	nwatchers++;
	return 0;
}

void events_stop(void)
{
	while (watchers)
		leave(watchers);
}

void event(const char *name, const struct device *d, const struct session *s, const char *fmt, ...)
{
	struct watcher *w, *following;
	char text[800], clean[800], id[16], *line = NULL;
	struct timespec ts;
	size_t len = 0;
	va_list ap;
	FILE *f;

	if (!watchers)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_clean(clean, sizeof(clean), text, sizeof(text));
	clock_gettime(CLOCK_REALTIME, &ts);
	f = open_memstream(&line, &len);
	if (!f)
		return;
	fprintf(f, "{\"time_ms\": %llu, \"event\": \"%s\"", (unsigned long long)ts.tv_sec * 1000 +
		(unsigned long long)ts.tv_nsec / 1000000, name);
	if (d) {
		fprintf(f, ", \"zone\": %u, \"device\": ", d->zone);
		report_string(f, report_device(d, id, sizeof(id)));
	}
	if (s)
		fprintf(f, ", \"session\": %u", s->number);
	fprintf(f, ", \"text\": ");
	report_string(f, clean);
	fprintf(f, "}\n");
	fclose(f);
	for (w = watchers; w; w = following) {
		following = w->next;
		if (send(w->source.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len)
			leave(w);
	}
	free(line);
}
