// SPDX-License-Identifier: Apache-2.0
/* See client.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "kselftest.h"

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

void tests_begin(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	ksft_print_header();
	if (access("/dev/vgpu", F_OK))
		ksft_exit_skip("no /dev/vgpu: run this in a pod with a vgpu device and vgpu-front loaded\n");
}

int session_open(struct session *s, uint64_t arena, uint32_t timeout_ms)
{
	memset(s, 0, sizeof(*s));
	s->fd = open("/dev/vgpu", O_RDWR | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	s->p = (struct vgpu_session_params) {
		.request_size = RING_SIZE, .reply_size = RING_SIZE, .arena_size = arena, .timeout_ms = timeout_ms,
	};
	if (ioctl(s->fd, VGPU_IOC_SESSION, &s->p)) {
		int e = errno;

		close(s->fd);
		return -e;
	}
	s->base = mmap(NULL, s->p.arena_offset, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	s->arena = arena ? mmap(NULL, s->p.arena_size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, s->p.arena_offset) :
		   NULL;
	if (s->base == MAP_FAILED || s->arena == MAP_FAILED)
		return -errno;
	s->page0 = (struct idm_session *)s->base;
	return 0;
}

void session_unmap(struct session *s)
{
	munmap(s->base, s->p.arena_offset);
	if (s->arena)
		munmap(s->arena, s->p.arena_size);
}

void session_close(struct session *s)
{
	session_unmap(s);
	close(s->fd);
}

void submit(struct session *s, const struct command *c)
{
	memcpy(s->base + s->p.request_offset, c, sizeof(*c));
	atomic_store((_Atomic uint32_t *)&s->page0->request.prod, ++s->sent);
	ioctl(s->fd, VGPU_IOC_KICK);
}

int complete(struct session *s)
{
	struct vgpu_wait wait = { .seen = s->seen, .timeout_ns = 60000000000ll };
	int err = 0;

	while (!err && atomic_load((_Atomic uint32_t *)&s->page0->reply.prod) != s->sent) {
		wait.seen = s->seen;
		if (ioctl(s->fd, VGPU_IOC_WAIT, &wait) && errno != EINTR)
			err = -errno;
		s->seen = wait.seen;
	}
	return err;
}

struct answer *answer(struct session *s)
{
	return (struct answer *)(s->base + s->p.reply_offset);
}

int call(struct session *s, enum op op, uint32_t value, uint64_t offset, uint64_t size, const char *text)
{
	struct command c = { .op = op, .value = value, .offset = offset, .size = size };
	int err;

	snprintf(c.text, sizeof(c.text), "%s", text ? text : "");
	submit(s, &c);
	err = complete(s);
	return err ? err : -answer(s)->err;
}

bool echo_works(struct session *s)
{
	return !call(s, OP_ECHO, 41, 0, 0, NULL) && answer(s)->value == 42;
}

int wait_for_end(struct session *s)
{
	struct vgpu_wait wait = { .seen = s->seen, .timeout_ns = 60000000000ll };

	for (;;) {
		if (ioctl(s->fd, VGPU_IOC_WAIT, &wait) && errno != EINTR)	/* EINTR: being frozen counts as a signal */
			return -errno;
	}
}

bool ended_with(struct session *s, const char *reason)
{
	int err = wait_for_end(s);
	bool ok = err == -EPIPE && s->page0->state == IDM_STATE_ENDED && strstr((char *)s->page0->reason, reason);

	if (!ok)
		ksft_print_msg("wait says %d, state %u, reason '%.255s'\n", err, s->page0->state, s->page0->reason);
	return ok && ioctl(s->fd, VGPU_IOC_KICK) == -1 && errno == EPIPE;
}

/* --- counters of either side -------------------------------------------------------------------------------------- */

static long counter_in(const char *text, const char *name)
{
	char key[64];
	const char *p;

	snprintf(key, sizeof(key), "%s ", name);
	for (p = text; p; p = strchr(p, '\n'), p = p ? p + 1 : p)
		if (!strncmp(p, key, strlen(key)))
			return atol(p + strlen(key));
	return -1;
}

long front_counter(const char *name)
{
	char text[TEXT_MAX] = "";
	int fd = open("/sys/kernel/debug/vgpu-front/counters", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	close(fd);
	return counter_in(text, name);
}

static const char * const front_gauges[] = { "sessions", "pages_mapped", "event_channels", "pages_leaked" };
static const char * const back_gauges[] = { "sessions", "sessions_accepted", "pages_lent", "pages_returning", "grants",
					    "event_channels", "events_queued" };
_Static_assert(sizeof(front_gauges) / sizeof(*front_gauges) == NR_FRONT_GAUGES, "front_gauges");
_Static_assert(sizeof(back_gauges) / sizeof(*back_gauges) == NR_BACK_GAUGES, "back_gauges");

int gauges_read(struct session *s, struct gauges *g)
{
	int err = call(s, OP_COUNTERS, 0, 0, 0, NULL);
	char text[TEXT_MAX];

	if (err)
		return err;
	memcpy(text, answer(s)->text, sizeof(text));
	text[TEXT_MAX - 1] = '\0';
	for (unsigned int i = 0; i < NR_FRONT_GAUGES; i++)
		g->front[i] = front_counter(front_gauges[i]);
	for (unsigned int i = 0; i < NR_BACK_GAUGES; i++)
		g->back[i] = counter_in(text, back_gauges[i]);
	return 0;
}

bool gauges_return_to(struct session *s, const struct gauges *before)
{
	double end = now() + 60;
	struct gauges g;

	do {
		if (gauges_read(s, &g))
			return false;
		if (!memcmp(&g, before, sizeof(g)))
			return true;
		usleep(100000);
	} while (now() < end);
	for (unsigned int i = 0; i < NR_FRONT_GAUGES; i++)
		if (g.front[i] != before->front[i])
			ksft_print_msg("front %s: %ld, was %ld\n", front_gauges[i], g.front[i], before->front[i]);
	for (unsigned int i = 0; i < NR_BACK_GAUGES; i++)
		if (g.back[i] != before->back[i])
			ksft_print_msg("back %s: %ld, was %ld\n", back_gauges[i], g.back[i], before->back[i]);
	return false;
}

int gauges_settle(struct session *s, struct gauges *g)
{
	struct gauges last;
	int err = gauges_read(s, g);

	for (int same = 0; !err && same < 10; same++) {
		last = *g;
		usleep(200000);
		err = gauges_read(s, g);
		if (memcmp(g, &last, sizeof(last)))
			same = -1;
	}
	return err;
}
