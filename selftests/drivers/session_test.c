// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-front and vgpu-back from a pod's side: sessions, their memory, their notifications, and every way in which
 * one can end. Runs as root in a pod; drivers-server must run in the driver domain.
 *
 * Usage: session_test [PATH-of-vgpu-front.ko]	with the module's path its unload and reload are tested too
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"

#include "client.h"

/* --- tests -------------------------------------------------------------------------------------------------------- */

static bool query_names_both_domains(void)
{
	struct vgpu_info info;
	double end = now() + 60;
	int fd = open("/dev/vgpu", O_RDWR), err;

	if (fd < 0)
		return false;
	do {
		err = ioctl(fd, VGPU_IOC_QUERY, &info);
	} while (!err && !info.connected && now() < end && !usleep(50000));
	close(fd);
	return !err && info.version == VGPU_API_VERSION && info.connected && info.zone && info.zone != info.backend_zone &&
	       info.max_arena >= MIB;
}

static int try_sizes(uint32_t request, uint32_t reply, uint64_t arena)
{
	struct vgpu_session_params p = { .request_size = request, .reply_size = reply, .arena_size = arena };
	int fd = open("/dev/vgpu", O_RDWR), err;

	err = ioctl(fd, VGPU_IOC_SESSION, &p) ? errno : 0;
	close(fd);
	return err;
}

static bool impossible_sizes_are_refused(void)
{
	return try_sizes(0, 4096, 0) == EINVAL && try_sizes(4096, 5000, 0) == EINVAL &&
	       try_sizes(2048, 4096, 0) == EINVAL && try_sizes(4096, 2 * MIB, 0) == EINVAL &&
	       try_sizes(4096, 4096, ~0ull) == EINVAL && try_sizes(4096, 4096, 1ull << 39) == EINVAL;
}

static bool nothing_works_without_a_session(void)
{
	struct vgpu_wait wait = { 0 };
	int fd = open("/dev/vgpu", O_RDWR);
	bool ok;

	ok = ioctl(fd, VGPU_IOC_KICK) == -1 && errno == EINVAL && ioctl(fd, VGPU_IOC_WAIT, &wait) == -1 &&
	     errno == EINVAL && mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED &&
	     ioctl(fd, _IO('V', 99)) == -1;
	close(fd);
	return ok;
}

static bool ping_pong(void)
{
	struct session s;
	double start;

	if (session_open(&s, 0, 30000))
		return false;
	start = now();
	for (uint32_t i = 0; i < 300; i++)
		if (call(&s, OP_ECHO, i, 0, 0, NULL) || answer(&s)->value != i + 1)
			return false;
	ksft_print_msg("300 round trips in %.3f s\n", now() - start);
	session_close(&s);
	return true;
}

static bool one_file_has_one_session(struct session *s)
{
	struct vgpu_session_params p = { .request_size = 4096, .reply_size = 4096 };

	return ioctl(s->fd, VGPU_IOC_SESSION, &p) == -1 && errno == EBUSY && echo_works(s);
}

static bool mappings_stay_inside(struct session *s)
{
	size_t all = s->p.arena_offset + s->p.arena_size;

	return mmap(NULL, all + 4096, PROT_READ, MAP_SHARED, s->fd, 0) == MAP_FAILED &&
	       mmap(NULL, 4096, PROT_READ, MAP_SHARED, s->fd, all) == MAP_FAILED &&
	       mmap(NULL, 4096, PROT_READ, MAP_SHARED, s->fd, -4096ul) == MAP_FAILED &&
	       mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, s->fd, 0) == MAP_FAILED &&
	       mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, s->fd, 0) == MAP_FAILED;
}

static bool waits_time_out_and_poll_tells(struct session *s)
{
	struct vgpu_wait wait = { .seen = s->seen, .timeout_ns = 20000000 };
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct command c = { .op = OP_ECHO };

	while (!ioctl(s->fd, VGPU_IOC_WAIT, &wait))
		;
	if (errno != ETIMEDOUT || poll(&p, 1, 20) != 0)
		return false;
	/* Twice by poll alone: it must also acknowledge, or the second notification never comes. */
	for (int i = 0; i < 2; i++) {
		submit(s, &c);
		if (poll(&p, 1, 20000) != 1 || p.revents != POLLIN)
			return false;
		if (ioctl(s->fd, VGPU_IOC_WAIT, &wait))
			return false;
		while (atomic_load((_Atomic uint32_t *)&s->page0->reply.prod) != s->sent)
			if (poll(&p, 1, 20000) == 1)
				ioctl(s->fd, VGPU_IOC_WAIT, &wait);
	}
	s->seen = wait.seen;
	return true;
}

/* Longer than Xen's timer can be set for at once. */
static bool long_wait_ends_in_time(struct session *s)
{
	struct vgpu_wait wait = { .seen = s->seen, .timeout_ns = 6000000000ll };
	double start = now();
	int err;

	while (!(err = ioctl(s->fd, VGPU_IOC_WAIT, &wait)))
		start = now();
	s->seen = wait.seen;
	return err && errno == ETIMEDOUT && now() - start >= 6;
}

static bool arena_carries_data_both_ways(struct session *s)
{
	pattern_fill(s->arena, 0, MIB, 1);
	return !call(s, OP_FILL, 1, 0, MIB, NULL) && pattern_check(s->arena, 0, MIB, 2);
}

static bool arena_grows_and_keeps_its_contents(struct session *s)
{
	struct vgpu_grow grow = { .arena_size = 6 * MIB + 5 };
	char *more;
	bool ok;

	if (ioctl(s->fd, VGPU_IOC_GROW, &grow) || grow.arena_size != 6 * MIB + 4096)
		return false;
	more = mmap(NULL, grow.arena_size - MIB, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, s->p.arena_offset + MIB);
	if (more == MAP_FAILED)
		return false;
	for (uint64_t i = 0; i < grow.arena_size - MIB; i += 8)
		if (*(uint64_t *)(more + i)) {
			ksft_print_msg("fresh memory is not zero at %llu\n", (unsigned long long)i);
			return false;
		}
	pattern_fill(more - MIB, MIB, 5 * MIB, 2);
	ok = !call(s, OP_MAP, 0, 0, 0, NULL) && answer(s)->value == 6 && !call(s, OP_FILL, 2, 0, 6 * MIB, NULL) &&
	     pattern_check(s->arena, 0, MIB, 3) && pattern_check(more - MIB, MIB, 5 * MIB, 3);
	munmap(more, grow.arena_size - MIB);

	grow.arena_size = 2 * MIB;	/* less than there is: tells what there is */
	return ok && !ioctl(s->fd, VGPU_IOC_GROW, &grow) && grow.arena_size == 6 * MIB + 4096;
}

static bool quota_refuses_and_the_session_goes_on(struct session *s)
{
	struct vgpu_grow grow = { .arena_size = 64 * MIB };	/* with the rings more than a zone may have */

	return ioctl(s->fd, VGPU_IOC_GROW, &grow) == -1 && errno == ENOSPC && echo_works(s);
}

static bool memory_is_zero_when_lent_again(void)
{
	struct session s;

	for (int round = 0; round < 3; round++) {
		if (session_open(&s, 4 * MIB, 30000))
			return false;
		for (uint64_t i = 0; i < 4 * MIB; i += 8)
			if (*(uint64_t *)(s.arena + i))
				return false;
		memset(s.arena, 0xa5, 4 * MIB);
		session_close(&s);
	}
	return true;
}

static bool worker_exit_is_told(void)
{
	struct command c = { .op = OP_EXIT };
	struct session s;
	bool ok;

	if (session_open(&s, MIB, 30000) || !echo_works(&s))
		return false;
	submit(&s, &c);
	ok = ended_with(&s, "worker");
	session_close(&s);
	return ok;
}

static bool worker_kill_is_told_and_wakes_poll(void)
{
	struct command c = { .op = OP_KILL };
	struct session s;
	struct pollfd p;
	bool ok;

	if (session_open(&s, MIB, 30000) || !echo_works(&s))
		return false;
	submit(&s, &c);
	p = (struct pollfd) { .fd = s.fd, .events = 0 };
	ok = poll(&p, 1, 60000) == 1 && (p.revents & POLLHUP) && ended_with(&s, "worker");
	session_close(&s);
	return ok;
}

static bool worker_gives_its_reason(void)
{
	struct command c = { .op = OP_END, .text = "the moon is in the wrong phase" };
	struct session s;
	bool ok;

	if (session_open(&s, 0, 30000) || !echo_works(&s))
		return false;
	submit(&s, &c);
	ok = ended_with(&s, "wrong phase");
	session_close(&s);
	return ok;
}

static bool child_may_only_close(struct session *s)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct vgpu_wait wait = { .timeout_ns = 0 };
		bool ok = ioctl(s->fd, VGPU_IOC_KICK) == -1 && errno == EPERM &&
			  ioctl(s->fd, VGPU_IOC_WAIT, &wait) == -1 && errno == EPERM &&
			  mmap(NULL, 4096, PROT_READ, MAP_SHARED, s->fd, 0) == MAP_FAILED &&
			  msync(s->base, 4096, MS_ASYNC) == -1 && errno == ENOMEM;	/* not mapped here */

		close(s->fd);
		_exit(!ok);
	}
	return waitpid(pid, &status, 0) == pid && !status && echo_works(s);
}

/* The client dies; a child of it keeps the file open for as long as this test looks. */
static bool death_counts_although_a_child_holds_the_file(struct session *s, const struct gauges *before)
{
	int go[2], status;
	char byte;
	bool ok;
	pid_t pid;

	if (pipe(go))
		return false;
	pid = fork();
	if (!pid) {
		struct session mine;

		if (session_open(&mine, MIB, 30000) || !echo_works(&mine))
			_exit(1);
		if (!fork()) {
			close(go[1]);
			read(go[0], &byte, 1);
			_exit(0);
		}
		_exit(0);
	}
	ok = waitpid(pid, &status, 0) == pid && !status;
	for (double end = now() + 60; ok && now() < end; usleep(100000)) {
		struct gauges g;

		/* The frontend's session object stays with the file; all else must have gone. */
		if (gauges_read(s, &g))
			ok = false;
		if (!memcmp(g.back, before->back, sizeof(g.back)) && g.front[1] == before->front[1])
			break;
		if (now() > end - 0.2)
			ok = false;
	}
	close(go[0]);
	close(go[1]);
	return ok && gauges_return_to(s, before);
}

static bool killed_client_gives_back(struct session *s, const struct gauges *before)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		return false;
	pid = fork();
	if (!pid) {
		struct session mine;

		if (session_open(&mine, 4 * MIB, 30000) || !echo_works(&mine))
			_exit(1);
		memset(mine.arena, 1, 4 * MIB);
		write(ready[1], "x", 1);
		for (;;)
			call(&mine, OP_ECHO, 1, 0, 0, NULL);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		return false;
	close(ready[0]);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return gauges_return_to(s, before);
}

static bool fifty_sessions_give_back(struct session *s, const struct gauges *before)
{
	struct session mine;

	for (int i = 0; i < 50; i++) {
		int err = session_open(&mine, MIB, 30000);

		if (err) {
			ksft_print_msg("session %d: %s\n", i, strerror(-err));
			return false;
		}
		memset(mine.arena, i, MIB);
		/* Every third is closed before its worker can have started. */
		if (i % 3 && !echo_works(&mine))
			return false;
		session_close(&mine);
	}
	return gauges_return_to(s, before);
}

static bool many_at_once(struct session *s, const struct gauges *before)
{
	enum { N = 12 };
	struct session mine[N];
	bool ok = true;

	for (int i = 0; i < N; i++)
		if (session_open(&mine[i], MIB, 30000))
			return false;
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < N; i++)
			ok = ok && !call(&mine[i], OP_ECHO, i * 100 + round, 0, 0, NULL) &&
			     answer(&mine[i])->value == i * 100u + round + 1;
	for (int i = 0; i < N; i++)
		session_close(&mine[i]);
	return ok && gauges_return_to(s, before);
}

static bool mapping_survives_close(struct session *s, const struct gauges *before)
{
	struct session mine;
	bool ok;

	if (session_open(&mine, MIB, 30000) || !echo_works(&mine))
		return false;
	close(mine.fd);
	memset(mine.arena, 7, MIB);	/* must not raise a signal */
	ok = mine.arena[MIB - 1] == 7 && mine.page0->state != IDM_STATE_ENDED;
	session_unmap(&mine);
	return ok && gauges_return_to(s, before);
}

/* A page of the arena is in a pipe when the session closes: the grant must stay mapped until it has left the pipe. */
static bool page_in_a_pipe_outlives_its_session(struct session *s, const struct gauges *before)
{
	struct session mine;
	struct iovec iov;
	char text[16];
	int pipes[2];

	if (session_open(&mine, MIB, 30000) || pipe(pipes))
		return false;
	strcpy(mine.arena, "still here");
	iov = (struct iovec) { mine.arena, sizeof(text) };
	if (vmsplice(pipes[1], &iov, 1, 0) != sizeof(text))
		return false;
	session_close(&mine);
	usleep(300000);
	if (read(pipes[0], text, sizeof(text)) != sizeof(text) || strcmp(text, "still here"))
		return false;
	close(pipes[0]);
	close(pipes[1]);
	return gauges_return_to(s, before);
}

static bool storm_is_throttled(struct session *s)
{
	long before = front_counter("notifications_received"), came;

	if (call(s, OP_STORM, 5000, 0, 0, NULL))
		return false;
	came = front_counter("notifications_received") - before;
	ksft_print_msg("5000 notifications sent, %ld interrupts\n", came);
	return came > 0 && came < 2500 && echo_works(s);
}

static bool module_stays_while_in_use(void)
{
	struct session s;
	bool ok;

	if (session_open(&s, 0, 30000))
		return false;
	ok = syscall(SYS_delete_module, "vgpu_front", O_NONBLOCK) == -1 && (errno == EAGAIN || errno == EBUSY);
	session_close(&s);
	return ok;
}

/* Open @s after telling the server, through a session of its own, what to do with it. */
static bool open_after(struct session *s, enum op order, const char *text)
{
	struct session other;
	bool ok;

	if (session_open(&other, 0, 60000))
		return false;
	ok = !call(&other, order, 0, 0, 0, text);
	session_close(&other);
	return ok && !session_open(s, 0, 60000);
}

/* Workers die with the server: sessions through it work again once it is back. */
static bool works_again(double seconds)
{
	struct session s;
	bool ok = false;

	for (double end = now() + seconds; !ok && now() < end; usleep(200000)) {
		if (session_open(&s, MIB, 60000))
			continue;
		ok = echo_works(&s);
		session_close(&s);
	}
	return ok;
}

static bool unanswered_session_ends_with_a_reason(void)
{
	double start = now();
	struct session s;
	bool ok;

	if (!open_after(&s, OP_IGNORE_NEXT, NULL))
		return false;
	ok = ended_with(&s, "no broker took the session");
	ksft_print_msg("ended after %.1f s\n", now() - start);
	ok = ok && now() - start >= 9.9;
	session_close(&s);
	return works_again(60) && ok;
}

static bool rejected_session_tells_the_reason(void)
{
	struct session s;
	bool ok;

	if (!open_after(&s, OP_REJECT_NEXT, "no GPU for you today"))
		return false;
	ok = ended_with(&s, "no GPU for you today");
	session_close(&s);
	return works_again(60) && ok;
}

/* Ask the driver domain for @what while there is a session that will be lost by it. */
static bool lost_by(const char *what, struct session *s)
{
	if (session_open(s, MIB, 60000) || !echo_works(s))
		return false;
	memset(s->arena, 9, MIB);
	if (call(s, OP_ACT, 0, 0, 0, what))
		return false;
	return wait_for_end(s) == -EPIPE;
}

static bool touchable_when_lost(struct session *s)
{
	/* By now the pages have been replaced; the client must read and write without a signal. */
	usleep(2000000);
	memset(s->arena, 3, MIB);
	return s->page0->state == IDM_STATE_ENDED && s->page0->reason[0] && s->arena[MIB - 1] == 3;
}

static bool survives(const char *what, struct gauges *before)
{
	struct session s, g;
	bool ok;

	if (!lost_by(what, &s))
		return false;
	ok = touchable_when_lost(&s);
	ksft_print_msg("reason: %.200s\n", s.page0->reason);
	session_close(&s);
	if (!ok || !works_again(90) || session_open(&g, MIB, 60000))
		return false;
	ok = gauges_return_to(&g, before);
	session_close(&g);
	return ok;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), n = fd < 0 ? -1 : (int)write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n;
}

static bool front_reloads(const char *module)
{
	struct session s;
	int fd, err;
	bool ok;

	if (session_open(&s, MIB, 30000) || !echo_works(&s))
		return false;
	memset(s.arena, 1, MIB);
	if (write_file("/sys/bus/xen/drivers/vgpu/unbind", "vgpu-0") < 0)
		return false;
	ok = wait_for_end(&s) == -EPIPE && touchable_when_lost(&s) && access("/dev/vgpu", F_OK);
	session_close(&s);
	for (int i = 0; i < 100; i++) {
		err = syscall(SYS_delete_module, "vgpu_front", O_NONBLOCK);
		if (!err)
			break;
		usleep(100000);
	}
	if (err)
		ksft_print_msg("rmmod: %s\n", strerror(errno));
	fd = open(module, O_RDONLY);
	if (syscall(SYS_finit_module, fd, "", 0))
		return false;
	close(fd);
	for (int i = 0; i < 100 && access("/dev/vgpu", F_OK); i++)
		usleep(100000);
	return ok && !err && works_again(60);
}

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(int argc, char **argv)
{
	struct gauges before;
	struct session s;
	const char *module = argc > 1 ? argv[1] : NULL;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	ksft_print_header();
	if (access("/dev/vgpu", F_OK))
		ksft_exit_skip("no /dev/vgpu: run this in a pod with a vgpu device and vgpu-front loaded\n");
	ksft_set_plan(module ? 30 : 29);

	RUN(query_names_both_domains());
	RUN(impossible_sizes_are_refused());
	RUN(nothing_works_without_a_session());
	RUN(ping_pong());
	if (session_open(&s, MIB, 30000))
		ksft_exit_fail_msg("no session: %s\n", strerror(errno));
	RUN(one_file_has_one_session(&s));
	RUN(mappings_stay_inside(&s));
	RUN(waits_time_out_and_poll_tells(&s));
	RUN(long_wait_ends_in_time(&s));
	RUN(arena_carries_data_both_ways(&s));
	RUN(arena_grows_and_keeps_its_contents(&s));
	RUN(quota_refuses_and_the_session_goes_on(&s));
	RUN(child_may_only_close(&s));
	RUN(storm_is_throttled(&s));
	session_close(&s);
	RUN(memory_is_zero_when_lent_again());
	RUN(worker_exit_is_told());
	RUN(worker_kill_is_told_and_wakes_poll());
	RUN(worker_gives_its_reason());
	RUN(module_stays_while_in_use());

	/* What is held besides this one session must be the same after each of these. */
	usleep(2000000);
	if (session_open(&s, MIB, 30000) || gauges_read(&s, &before))
		ksft_exit_fail_msg("no session to read counters with\n");
	RUN(killed_client_gives_back(&s, &before));
	RUN(death_counts_although_a_child_holds_the_file(&s, &before));
	RUN(mapping_survives_close(&s, &before));
	RUN(page_in_a_pipe_outlives_its_session(&s, &before));
	RUN(many_at_once(&s, &before));
	RUN(fifty_sessions_give_back(&s, &before));
	session_close(&s);

	RUN(rejected_session_tells_the_reason());
	RUN(unanswered_session_ends_with_a_reason());
	RUN(survives("restart-server", &before));
	RUN(survives("reload-back", &before));
	RUN(survives("detach-attach", &before));
	if (module)
		RUN(front_reloads(module));
	ksft_finished();
}
