// SPDX-License-Identifier: Apache-2.0
/*
 * T: libidm alone. Client and a worker that does nothing, over the local transport, so that the transport's
 * share of every other figure is known.
 *
 * transport: also prints notifications and sleeps per call; last, with each side on a CPU of its own, what is added to a
 * call whose answer takes LATE_US.
 * transport COUNT: that many calls and nothing else, each side on a CPU of its own, to be counted by strace.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libidm.h"
#include "measure.h"

#define WARM	200
#define CALLS	5000
#define POSTS	10000
#define LATE_CALLS	2000
#define LATE_US	25	/* what a copy of 1 MiB may take on a GPU */
#define ARENA	(1ull << 30)

enum { NOTHING = IDM_CUDA_BASE, LATE };

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int serve(int listener)
{
	struct idm_server_params p = { .kind = IDM_SERVER_LOCAL, .zone = 1, .arena_size = ARENA };
	struct idm_local_request rq;
	struct idm_response r = { 0 };
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	struct idm_server *s;
	struct idm_message m;
	struct idm_error e;
	int fd, life_client, rc, apart = 0;

	poll(&pfd, 1, -1);
	fd = idm_local_accept(listener);
	pfd.fd = fd;
	poll(&pfd, 1, -1);
	if (idm_local_read(fd, &rq, &e) != 1)
		return 1;
	p.request_size = rq.request_size;
	p.reply_size = rq.reply_size;
	if (idm_local_create(&rq, ARENA, &p.fd, &p.life, &life_client, &e) || idm_server_open(&s, &p, &e)) {
		fprintf(stderr, "transport: %s\n", e.text);
		return 1;
	}
	idm_local_grant(fd, &rq, 1, 0, 1, ARENA, p.fd, life_client);
	close(fd);
	while ((rc = idm_server_recv(s, &m, -1, &e)) > 0) {
		double t = now_us();

		if (m.header.type == LATE && !apart++)
			pin(1);
		while (m.header.type == LATE && now_us() - t < LATE_US)
			;
		if (!(m.header.flags & IDM_FLAG_POSTED))
			idm_server_reply(s, m.header.seq, &r, NULL, 0);
	}
	idm_server_close(s);
	return rc == -EPIPE ? 0 : 1;
}

/* Several threads of one client, each with its own calls through the same rings. */
static void *many(void *arg)
{
	for (int i = 0; i < CALLS; i++) {
		struct idm_pending r = { 0 };
		char payload[64] = { 0 };
		struct iovec iov = { payload, sizeof(payload) };

		if (idm_call(arg, NOTHING, &iov, 1, &r))
			exit(1);
	}
	return NULL;
}

static double threads_rate(struct idm_client *c, int n)
{
	pthread_t t[8];
	double start = now_us();

	for (int i = 0; i < n; i++)
		pthread_create(&t[i], NULL, many, c);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	return n * (double)CALLS / (now_us() - start) * 1e6;
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/vgpu-transport-XXXXXX", path[64], transport[80];
	struct idm_client_params p = { .transport = transport };
	struct idm_stats a, b;
	static double us[CALLS];
	char payload[64] = { 0 };
	struct iovec iov = { payload, sizeof(payload) };
	struct idm_client *c;
	struct idm_error e;
	int listener, count = argc > 1 ? atoi(argv[1]) : 0;
	double t;
	pid_t pid;

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(transport, sizeof(transport), "local:%s", path);
	listener = idm_local_listen(path, &e);
	if (listener < 0) {
		fprintf(stderr, "transport: %s\n", e.text);
		return 1;
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (count)
			pin(1);
		_exit(serve(listener));
	}
	if (idm_client_open(&c, &p, &e)) {
		fprintf(stderr, "transport: %s\n", e.text);
		return 1;
	}
	unlink(path);
	rmdir(dir);

	for (int i = 0; i < (count ? count : WARM + CALLS); i++) {
		struct idm_pending r = { 0 };

		if (i == WARM)
			idm_client_stats(c, &a);
		t = now_us();
		if (idm_call(c, NOTHING, &iov, 1, &r))
			return 1;
		if (!count && i >= WARM)
			us[i - WARM] = now_us() - t;
	}
	if (!count) {
		double best = 0;

		idm_client_stats(c, &b);
		print_percentiles("call_us", us, CALLS);
		print_value("kicks_per_call", (double)(b.kicks - a.kicks) / CALLS);
		print_value("sleeps_per_call", (double)(b.slept - a.slept) / CALLS);
		for (int round = 0; round < 5; round++) {
			struct idm_pending r = { 0 };

			t = now_us();
			for (int i = 0; i < POSTS; i++)
				idm_post(c, NOTHING, &iov, 1);
			idm_call(c, NOTHING, &iov, 1, &r);
			t = now_us() - t;
			if (POSTS / t > best)
				best = POSTS / t;
		}
		idm_client_stats(c, &a);
		print_value("posts_per_s", best * 1e6);
		print_value("kicks_per_post", (double)(a.kicks - b.kicks) / (5 * POSTS));
		print_value("calls_per_s_1_thread", threads_rate(c, 1));
		print_value("calls_per_s_4_threads", threads_rate(c, 4));
		print_value("calls_per_s_8_threads", threads_rate(c, 8));
		t = now_us();
		for (int i = 0; i < 100000; i++)
			idm_arena_free(c, idm_arena_alloc(c, 65536));
		print_value("arena_pair_us", (now_us() - t) / 100000);
		pin(0);
		for (int i = 0; i < LATE_CALLS; i++) {
			struct idm_pending r = { 0 };

			t = now_us();
			if (idm_call(c, LATE, &iov, 1, &r))
				return 1;
			us[i] = now_us() - t - LATE_US;
		}
		print_percentiles("late_call_apart_us", us, LATE_CALLS);
	}
	idm_client_close(c);
	waitpid(pid, NULL, 0);
	return 0;
}
