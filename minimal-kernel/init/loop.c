// SPDX-License-Identifier: Apache-2.0
/* Descriptors, timers and children that do a job. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

static int epoll = -1;
static struct timer *timers;

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void loop_init(void)
{
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0) {
		perror("vgpu-init: epoll_create1");
		abort();
	}
}

/* Nothing is watched without interest: a descriptor whose other end has closed reports that whether asked or not. */
void source_watch(struct source *s, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = s };
	int op = !s->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	if (s->fd < 0 || events == s->events)
		return;
	if (!epoll_ctl(epoll, op, s->fd, &event))
		s->events = events;
}

void source_close(struct source *s)
{
	if (s->fd < 0)
		return;
	source_watch(s, 0);
	close(s->fd);
	s->fd = -1;
	s->events = 0;
}

void timer_clear(struct timer *t)
{
	for (struct timer **p = &timers; *p; p = &(*p)->next)
		if (*p == t) {
			*p = t->next;
			break;
		}
	t->due = 0;
}

void timer_set(struct timer *t, uint64_t ns)
{
	timer_clear(t);
	t->due = now_ns() + ns;
	t->next = timers;
	timers = t;
}

static int milliseconds_to_sleep(void)
{
	uint64_t now = now_ns(), first = UINT64_MAX;

	for (struct timer *t = timers; t; t = t->next)
		if (t->due < first)
			first = t->due;
	if (first == UINT64_MAX)
		return -1;
	if (first <= now)
		return 0;
	return first - now > 60000000000ull ? 60000 : (first - now + 999999) / 1000000;
}

/* One event at a time: what it handles may close any other source, whose own event must not be at hand then. */
void loop_round(bool busy)
{
	struct epoll_event event;
	uint64_t now;

	if (epoll_wait(epoll, &event, 1, busy ? 0 : milliseconds_to_sleep()) == 1) {
		struct source *s = event.data.ptr;

		s->handle(s, event.events);
	}
	if (!timers)
		return;
	now = now_ns();
	for (struct timer *t = timers; t; t = t->next)
		if (t->due <= now) {
			timer_clear(t);
			t->expired(t);
			break;
		}
}

int refuse(struct failure *f, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
	f->code = code;
	return -1;
}

int fail(struct failure *f, const char *format, ...)
{
	int error = errno ?: EIO;
	va_list args;
	size_t len;

	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
	len = strlen(f->text);
	snprintf(f->text + len, sizeof(f->text) - len, ": %s", strerror(error));
	f->code = error;
	return -1;
}

/* ---- Jobs */

struct job {
	struct source result;
	void (*done)(void *arg, const struct failure *f);
	void *arg;
};

static void job_ended(struct source *s, uint32_t events)
{
	struct job *job = (struct job *)s;
	struct failure f = { 0 };

	if (read(s->fd, &f, sizeof(f)) != sizeof(f))
		refuse(&f, EIO, "the child that was to do it died");
	f.text[sizeof(f.text) - 1] = 0;
	source_close(s);
	job->done(job->arg, &f);
	free(job);
}

int job_start(int (*work)(void *arg, struct failure *f), void (*done)(void *arg, const struct failure *f), void *arg)
{
	struct job *job = calloc(1, sizeof(*job));
	int pair[2];
	pid_t pid;

	if (!job || pipe2(pair, O_CLOEXEC)) {
		free(job);
		return -1;
	}
	pid = fork();
	if (pid < 0) {
		close(pair[0]);
		close(pair[1]);
		free(job);
		return -1;
	}
	if (!pid) {
		struct failure f = { 0 };
		sigset_t none;

		/* Or a process's end, and the end of its input, would be seen only when this job is done. */
		close_others(pair[1]);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (!work(arg, &f))
			f.code = 0;
		else if (!f.code)
			f.code = EIO;
		_exit(write(pair[1], &f, sizeof(f)) != sizeof(f));
	}
	close(pair[1]);
	job->result = (struct source){ .fd = pair[0], .handle = job_ended };
	job->done = done;
	job->arg = arg;
	source_watch(&job->result, EPOLLIN);
	return 0;
}
