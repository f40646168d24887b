// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-front and vgpu-back from a pod's side: every way in which a session can end that is not the client's own doing,
 * and that its client is told of it and goes on. Runs as root in a pod; drivers-server must run in the driver domain.
 *
 * Usage: ending_test [PATH-of-vgpu-front.ko]	with the module's path its unload and reload are tested too
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "client.h"
#include "kselftest.h"

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

/* Such a call is refused as a whole: the session goes on. */
static bool end_with_reserved_fields_is_refused(void)
{
	struct session s;
	bool ok;

	if (session_open(&s, 0, 30000))
		return false;
	ok = !call(&s, OP_END_WRONGLY, 0, 0, 0, NULL) && !answer(&s)->value && echo_works(&s);
	session_close(&s);
	return ok;
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

/* Nobody gets a reference on a page that stands in for a lost one: it is there too often for all to be counted. */
static bool stands_in_uncounted(char *page)
{
	struct iovec iov = { page, 16 };
	int pipes[2];
	bool ok;

	if (pipe(pipes))
		return false;
	ok = vmsplice(pipes[1], &iov, 1, 0) < 0;
	close(pipes[0]);
	close(pipes[1]);
	if (!ok)
		ksft_print_msg("a page that stands in for a lost one can be put into a pipe\n");
	return ok;
}

/* @replaced: the pages are, as the connection is lost and not the worker alone */
static bool survives(const char *what, bool replaced, struct gauges *before)
{
	struct session s, g;
	bool ok;

	if (!lost_by(what, &s))
		return false;
	ok = touchable_when_lost(&s) && (!replaced || (stands_in_uncounted(s.arena) && stands_in_uncounted(s.base)));
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
	const char *module = argc > 1 ? argv[1] : NULL;
	struct gauges before;
	struct session s;

	tests_begin();
	ksft_set_plan(module ? 12 : 11);

	if (session_open(&s, MIB, 30000) || gauges_settle(&s, &before))
		ksft_exit_fail_msg("no session to read counters with\n");
	session_close(&s);
	RUN(worker_exit_is_told());
	RUN(worker_kill_is_told_and_wakes_poll());
	RUN(worker_gives_its_reason());
	RUN(end_with_reserved_fields_is_refused());
	RUN(module_stays_while_in_use());
	RUN(rejected_session_tells_the_reason());
	RUN(unanswered_session_ends_with_a_reason());
	RUN(survives("restart-server", false, &before));
	RUN(survives("reload-back", true, &before));
	RUN(survives("detach-attach", true, &before));
	RUN(survives("suspend", true, &before));
	if (module)
		RUN(front_reloads(module));
	ksft_finished();
}
