// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-front and vgpu-back from a pod's side: what an open session does, its memory and its notifications; how it ends
 * is in ending_test.c, what it gives back in giveback_test.c. Runs as root in a pod; drivers-server must run in the
 * driver domain.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "kselftest.h"

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

static bool storm_is_throttled(struct session *s)
{
	long before = front_counter("notifications_received"), came;

	if (call(s, OP_STORM, 5000, 0, 0, NULL))
		return false;
	came = front_counter("notifications_received") - before;
	ksft_print_msg("5000 notifications sent, %ld interrupts\n", came);
	return came > 0 && came < 2500 && echo_works(s);
}

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(void)
{
	struct session s;

	tests_begin();
	ksft_set_plan(14);
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
	ksft_finished();
}
