// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-front and vgpu-back when memory runs out: the first, the second, the third … allocation of an operation fails,
 * until it succeeds without having met a failure. So each error path is taken; it must give an ordinary error and leave
 * nothing behind. Runs as root in a pod; drivers-server must run in the driver domain. Skipped by kernels without fault
 * injection: scripts/debug-kernels has those that can.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client.h"
#include "faults.h"
#include "kselftest.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* More than any operation here has allocations. Each page of an arena is one. */
#define TRIES	400
#define ARENA	(64 * 1024ull)

static struct session control;	/* to talk with the server, and to read counters */
static int own_faults;

/* --- where an allocation fails ------------------------------------------------------------------------------------ */

/** struct side - @left: of what was armed, -1 on error */
struct side {
	const char *name;
	int (*arm)(unsigned int n);
	int (*left)(void);
};

static int front_arm(unsigned int n)
{
	return faults_arm(own_faults, n);
}

static int front_left(void)
{
	int left = faults_left(own_faults);

	return faults_arm(own_faults, 0) ? -1 : left;
}

static int back_arm(unsigned int n)
{
	return call(&control, OP_FAIL_NTH, n, 0, 0, NULL);
}

static int back_left(void)
{
	return call(&control, OP_FAIL_LEFT, 0, 0, 0, NULL) ? -1 : (int)answer(&control)->value;
}

static const struct side front = { "frontend", front_arm, front_left };
static const struct side back = { "backend", back_arm, back_left };

/* --- operations: prepare, arm for the n-th, act, see what is left, clean up; 0, -errno, or 1 if the test is broken -- */

static int op_file(const struct side *side, unsigned int n, int *left)
{
	int fd, err;

	if (side->arm(n))
		return 1;
	fd = open("/dev/vgpu", O_RDWR | O_CLOEXEC);
	err = fd < 0 ? -errno : 0;
	*left = side->left();
	if (fd >= 0)
		close(fd);
	return err;
}

static int op_session(const struct side *side, unsigned int n, int *left)
{
	struct vgpu_session_params p = {
		.request_size = RING_SIZE, .reply_size = RING_SIZE, .arena_size = ARENA, .timeout_ms = 30000,
	};
	int fd = open("/dev/vgpu", O_RDWR | O_CLOEXEC), err;

	if (fd < 0 || side->arm(n))
		return 1;
	err = ioctl(fd, VGPU_IOC_SESSION, &p) ? -errno : 0;
	*left = side->left();
	close(fd);
	return err;
}

static int op_grow(const struct side *side, unsigned int n, int *left)
{
	struct vgpu_grow grow = { .arena_size = 3 * ARENA };
	struct session s;
	int err;

	if (session_open(&s, ARENA, 30000) || side->arm(n))
		return 1;
	err = ioctl(s.fd, VGPU_IOC_GROW, &grow) ? -errno : 0;
	*left = side->left();
	session_close(&s);
	return err;
}

/* Page tables for a part that has none yet. */
static int op_touch(const struct side *side, unsigned int n, int *left)
{
	struct session s;
	int err;

	if (session_open(&s, 8 * MIB, 30000) || side->arm(n))
		return 1;
	err = madvise(s.arena, 8 * MIB, MADV_POPULATE_WRITE) ? -errno : 0;
	*left = side->left();
	session_close(&s);
	return err;
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static bool ordinary(int err)
{
	return err == -ENOMEM || err == -ENOSPC || err == -EIO;
}

static bool each_failure(int (*op)(const struct side *, unsigned int, int *), const struct side *side, const char *what)
{
	struct gauges before;
	int errors = 0;

	if (gauges_settle(&control, &before))
		return false;
	for (unsigned int n = 1; n < TRIES; n++) {
		int left = -1, err = op(side, n, &left);

		if (left < 0 || err > 0 || (err && !ordinary(err))) {
			ksft_print_msg("%s: failure %u in the %s: result %d (%s), left %d\n", what, n, side->name, err,
				       strerror(-err), left);
			return false;
		}
		errors += !!err;
		if (left > 0 && !err) {
			ksft_print_msg("%s: %u allocations in the %s, %d failures reach the caller\n", what, n - 1,
				       side->name, errors);
			return errors > 0 && gauges_return_to(&control, &before);
		}
	}
	ksft_print_msg("%s: does not succeed even without a failure\n", what);
	return false;
}

static bool opening_the_file(void)
{
	return each_failure(op_file, &front, "open");
}

static bool opening_a_session_here(void)
{
	return each_failure(op_session, &front, "session");
}

static bool opening_a_session_there(void)
{
	return each_failure(op_session, &back, "session");
}

static bool growing_an_arena_here(void)
{
	return each_failure(op_grow, &front, "grow");
}

static bool growing_an_arena_there(void)
{
	return each_failure(op_grow, &back, "grow");
}

static bool touching_an_arena(void)
{
	return each_failure(op_touch, &front, "touch");
}

/* The last one: the control session is lost by it. */
static bool probing_the_device(void)
{
	int errors = 0, left = 0, r;
	struct gauges before;
	struct session s;
	bool returned;

	if (gauges_settle(&control, &before))
		return false;
	for (unsigned int n = 1; n < TRIES; n++) {
		faults_write("/sys/bus/xen/drivers/vgpu/unbind", "vgpu-0");
		if (n == 1)
			session_close(&control);
		if (front_arm(n))
			return false;
		errors += !!faults_write("/sys/bus/xen/drivers/vgpu/bind", "vgpu-0");
		left = front_left();
		if (left > 0 && !access("/dev/vgpu", F_OK))
			break;
	}
	ksft_print_msg("probe: %d failures reach the caller\n", errors);
	if (left <= 0 || !errors)
		return false;
	r = session_open(&s, MIB, 60000);
	if (r) {
		ksft_print_msg("no session after it: %d\n", r);
		return false;
	}
	returned = gauges_return_to(&s, &before);
	session_close(&s);
	return returned;
}

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(void)
{
	tests_begin();
	ksft_set_plan(7);
	own_faults = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (faults_enable() || own_faults < 0)
		ksft_exit_skip("this kernel can't make allocations fail\n");
	/* What is done once in a kernel's life is done before: mapping grants needs address space, and keeps it. */
	if (session_open(&control, MIB, 60000) || !echo_works(&control) || back_arm(0))
		ksft_exit_fail_msg("no session, or the server can't make allocations fail\n");

	RUN(opening_the_file());
	RUN(opening_a_session_here());
	RUN(opening_a_session_there());
	RUN(growing_an_arena_here());
	RUN(growing_an_arena_there());
	RUN(touching_an_arena());
	RUN(probing_the_device());
	ksft_finished();
}
