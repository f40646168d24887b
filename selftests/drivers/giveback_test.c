// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-front and vgpu-back from a pod's side: whatever becomes of a client, all that it held is given back, by either
 * module, and not before nobody uses it any more. Runs as root in a pod; drivers-server must run in the driver domain.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#include "client.h"
#include "kselftest.h"

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

/*
 * The client dies; a child of it keeps the file open for as long as this test looks, and the mapping too, which the
 * client gave it (MADV_DOFORK). The child may touch it afterwards, without a signal.
 */
static bool death_counts_although_a_child_holds_the_file(struct session *s, const struct gauges *before)
{
	int go[2], told[2], status;
	char byte = 'x';
	bool ok;
	pid_t pid;

	if (pipe(go) || pipe(told))
		return false;
	pid = fork();
	if (!pid) {
		struct session mine;

		if (session_open(&mine, MIB, 30000) || !echo_works(&mine) || madvise(mine.arena, MIB, MADV_DOFORK))
			_exit(1);
		memset(mine.arena, 5, MIB);
		if (!fork()) {
			close(go[1]);
			read(go[0], &byte, 1);
			memset(mine.arena, 6, MIB);
			_exit(write(told[1], &byte, 1) != 1);
		}
		_exit(0);
	}
	close(told[1]);
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
	ok = read(told[0], &byte, 1) == 1 && ok;	/* nothing: a signal ended the child */
	close(told[0]);
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

static pid_t opens_a_session(uint64_t arena)
{
	pid_t pid = fork();

	if (!pid) {
		struct session mine;

		_exit(session_open(&mine, arena, 30000) || !echo_works(&mine));
	}
	return pid;
}

static bool requests_reach(long count)
{
	for (double end = now() + 20; now() < end; usleep(1000))
		if (front_counter("requests") >= count)
			return true;
	return false;
}

/*
 * A client is killed while its OPEN waits in the backend, and another opens a session before the backend has come to
 * bind the first one's event channel: that must not be the second one's. Nothing but a page in a pipe keeps the OPEN
 * waiting, for two seconds at most. Returns 1 if it was refused before the page had come back: that shows nothing.
 */
static int open_killed_while_it_waits(void)
{
	uint64_t big = 33 * MIB;	/* zone_memory is less than two of them */
	int pipes[2], status;
	struct session x;
	struct iovec iov;
	pid_t killed, other;
	long before, served;
	char text[16];

	if (session_open(&x, big, 30000) || pipe(pipes))
		return -1;
	iov = (struct iovec) { x.arena, sizeof(text) };
	if (vmsplice(pipes[1], &iov, 1, 0) != sizeof(text))
		return -1;
	session_close(&x);

	before = front_counter("requests");
	killed = opens_a_session(big);
	if (!requests_reach(before + 1))
		return -1;
	kill(killed, SIGKILL);
	waitpid(killed, NULL, 0);
	other = opens_a_session(0);
	if (!requests_reach(before + 2))
		return -1;
	if (read(pipes[0], text, sizeof(text)) != sizeof(text))
		return -1;
	close(pipes[0]);
	close(pipes[1]);
	waitpid(other, &status, 0);

	/* Two OPENs, a CLOSE for each that was served. */
	served = front_counter("requests") - before - 2 - !status;
	return status ? -1 : !served;
}

static bool killed_open_keeps_its_event_channel(struct session *s, const struct gauges *before)
{
	int result = 1;

	for (int tries = 0; result == 1 && tries < 4; tries++) {
		result = open_killed_while_it_waits();
		if (!gauges_return_to(s, before))
			return false;
	}
	if (result == 1)
		ksft_print_msg("the killed client's OPEN was never served in time\n");
	return !result;
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

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(void)
{
	struct gauges before;
	struct session s;

	tests_begin();
	ksft_set_plan(7);

	/* What is held besides this one session must be the same after each of these. */
	if (session_open(&s, MIB, 30000) || gauges_settle(&s, &before))
		ksft_exit_fail_msg("no session to read counters with\n");
	RUN(killed_client_gives_back(&s, &before));
	RUN(death_counts_although_a_child_holds_the_file(&s, &before));
	RUN(mapping_survives_close(&s, &before));
	RUN(page_in_a_pipe_outlives_its_session(&s, &before));
	RUN(killed_open_keeps_its_event_channel(&s, &before));
	RUN(many_at_once(&s, &before));
	RUN(fifty_sessions_give_back(&s, &before));
	session_close(&s);
	ksft_finished();
}
