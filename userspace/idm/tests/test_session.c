// SPDX-License-Identifier: Apache-2.0
/* Sessions between two processes: the arena, death of either side, refusals, fork. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "session.h"

/* The worker process: echoes; MARK checks a byte of the arena at an address the client names. */
enum { ECHO = IDM_CUDA_BASE, MARK, STUCK, DIE };

struct mark {
	uint64_t address, offset, size;
};

static void worker(struct test_broker *b)
{
	struct idm_server *s = broker_serve(b, false);
	struct idm_error e;
	struct idm_message m;
	struct idm_response r = { 0 };
	int rc = 0;

	while (s && (rc = idm_server_recv(s, &m, -1, &e)) > 0) {
		const struct mark *k = m.payload;
		uint64_t good = 0;

		switch (m.header.type) {
		case ECHO:
			idm_server_reply(s, m.header.seq, &r, m.payload, m.header.payload_len);
			break;
		case MARK: {
			unsigned char *p = idm_server_arena(s, k->offset, k->size);

			good = (uint64_t)p == k->address && p[0] == 0x77 && p[k->size - 1] == 0x78;
			if (good)
				p[0] = 0x79;
			idm_server_reply(s, m.header.seq, &r, &good, sizeof(good));
			break;
		}
		case STUCK:
			pause();
			break;
		case DIE:
			kill(getpid(), SIGKILL);
		}
	}
	if (s && rc == -EPROTO)
		idm_server_end(s, e.text);
	idm_server_close(s);
	_exit(rc == -EPIPE ? 0 : 3);
}

static pid_t spawn(struct test_broker *b)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		worker(b);
	return pid;
}

static int64_t ms(void)
{
	return idm_now_ns() / 1000000;
}

/* @return exit status, -1 if it did not end within @limit ms */
static int reap(pid_t pid, int limit)
{
	int64_t end = ms() + limit;
	int status;

	while (ms() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

static struct idm_client *dial(struct test_broker *b, uint64_t hash, struct idm_error *e)
{
	struct idm_client_params p = { .transport = b->transport, .table_hash = hash, .timeout_ms = 3000 };
	struct idm_client *c = NULL;

	memset(e, 0, sizeof(*e));
	idm_client_open(&c, &p, e);
	return c;
}

static int call(struct idm_client *c, int type, const void *out, size_t len, void *in, size_t cap)
{
	struct iovec iov = { (void *)out, len };
	struct idm_pending p = { .reply = in, .reply_cap = cap };

	return idm_call(c, type, &iov, 1, &p);
}

static bool mark(struct idm_client *c, unsigned char *p, uint64_t size)
{
	struct mark k = { .address = (uint64_t)p, .offset = p - (unsigned char *)idm_arena_base(c), .size = size };
	uint64_t good = 0;

	p[0] = 0x77;
	p[size - 1] = 0x78;
	return !call(c, MARK, &k, sizeof(k), &good, sizeof(good)) && good && p[0] == 0x79;
}

static void arena(struct test_broker *b)
{
	unsigned char *small, *big, *huge, *in_the_way;
	struct idm_client *c;
	struct idm_error e;
	struct idm_stats st;
	void *base;
	uint64_t size;
	pid_t pid;

	/* Slot 0 is taken in the client, slot 1 in the worker. */
	in_the_way = mmap((void *)IDM_SLOT(1), 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	pid = spawn(b);
	munmap(in_the_way, 4096);
	mmap((void *)IDM_SLOT(0), 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	c = dial(b, TEST_HASH, &e);
	munmap((void *)IDM_SLOT(0), 4096);
	if (!ok(c, "a session is opened %s", e.text))
		exit(1);
	ok(idm_arena_base(c) == (void *)IDM_SLOT(2), "both sides agree on an address that is free in both");
	ok(idm_client_zone(c) == TEST_ZONE && idm_client_session(c) == 7, "zone and session are as the broker said");
	ok(idm_arena_size(c) == 1 << 20, "the arena begins with 1 MiB");
	small = idm_arena_alloc(c, 100);
	big = idm_arena_alloc(c, 900000);
	ok(small && big && mark(c, small, 100) && mark(c, big, 900000), "arena memory has one address and one content");
	huge = idm_arena_alloc(c, 20 << 20);
	idm_client_stats(c, &st);
	ok(huge && idm_arena_size(c) >= 21 << 20 && st.grown == 1 && mark(c, huge, 20 << 20), "it grows when it must (%d MiB)",
	   (int)(idm_arena_size(c) >> 20));
	ok(!idm_arena_alloc(c, TEST_ARENA) && idm_arena_alloc(c, 4096), "beyond the limit is NULL, and does no harm");
	ok(idm_arena_lookup(c, huge + 12345, &base, &size) && base == huge && size == 20 << 20 &&
	   !idm_arena_lookup(c, &size, &base, &size), "an address inside is found, one outside is not");
	ok(idm_arena_free(c, huge) == 20 << 20 && !idm_arena_free(c, huge) && !idm_arena_free(c, small + 64),
	   "freed once and only once");
	idm_client_close(c);
	ok(reap(pid, 2000) == 0, "the worker ends when the client closes");
}

static void deaths(struct test_broker *b)
{
	struct idm_client *c;
	struct idm_error e;
	int64_t start;
	uint64_t word = 1;
	pid_t pid, child;

	pid = spawn(b);
	c = dial(b, TEST_HASH, &e);
	start = ms();
	ok(call(c, DIE, NULL, 0, NULL, 0) == -EPIPE && ms() - start < 1500, "a killed worker is an error within %d ms",
	   (int)(ms() - start));
	ok(idm_client_ended(c) && strstr(idm_client_ended(c), "died"), "that says so");
	reap(pid, 1000);
	idm_client_close(c);

	/* Killed while the client only posts. */
	pid = spawn(b);
	c = dial(b, TEST_HASH, &e);
	kill(pid, SIGKILL);
	reap(pid, 1000);
	start = ms();
	struct iovec iov = { &word, 8 };
	while (!idm_post(c, ECHO, &iov, 1) && ms() - start < 5000)
		;
	ok(ms() - start < 3000, "a client that only posts notices too (%d ms)", (int)(ms() - start));
	idm_client_close(c);

	/* A client that is killed while its worker sleeps. */
	pid = spawn(b);
	fflush(stdout);
	child = fork();
	if (!child) {
		c = dial(b, TEST_HASH, &e);
		call(c, ECHO, &word, 8, &word, 8);
		kill(getpid(), SIGKILL);
	}
	reap(child, 3000);
	ok(reap(pid, 2000) == 0, "a worker asleep notices that its client was killed");

	/* The broker ends the session of a worker that hangs. */
	pid = spawn(b);
	c = dial(b, TEST_HASH, &e);
	child = fork();
	if (!child) {
		/* abandoning in a forked child leaves the session alone */
		idm_client_abandon(c);
		_exit(0);
	}
	ok(reap(child, 2000) == 0 && !call(c, ECHO, &word, 8, &word, 8), "a forked child that abandons the session does no harm");
	child = fork();
	if (!child) {
		idm_client_abandon(c);
		nanosleep(&(struct timespec){ .tv_sec = 20 }, NULL);
		_exit(0);
	}
	idm_client_close(c);
	ok(reap(pid, 2000) == 0, "nor does it keep the session alive");
	kill(child, SIGKILL);
	reap(child, 1000);
}

static void ended_by_broker(struct test_broker *b)
{
	struct idm_local_request rq;
	struct idm_client *c;
	struct idm_error e;
	int memfd, life, life_client, fd;
	pid_t pid, ender;
	int64_t start;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct idm_server_params p = { .kind = IDM_SERVER_LOCAL, .zone = TEST_ZONE, .own_zone = TEST_OWN,
					       .arena_size = TEST_ARENA, .table_hash = TEST_HASH };
		struct idm_server *s;
		struct idm_message m;

		fd = broker_request(b, &rq);
		idm_local_create(&rq, TEST_ARENA, &memfd, &life, &life_client, &e);
		idm_local_grant(fd, &rq, TEST_ZONE, TEST_OWN, 7, TEST_ARENA, memfd, life_client);
		ender = fork();
		if (!ender) {
			nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
			idm_local_end(memfd, "the quota's owner changed its mind");
			_exit(0);
		}
		p.fd = memfd;
		p.life = life;
		p.request_size = rq.request_size;
		p.reply_size = rq.reply_size;
		if (idm_server_open(&s, &p, &e))
			_exit(4);
		while (idm_server_recv(s, &m, -1, &e) > 0)
			;
		idm_server_close(s);
		_exit(0);
	}
	c = dial(b, TEST_HASH, &e);
	start = ms();
	ok(c && call(c, STUCK, NULL, 0, NULL, 0) == -EPIPE && strstr(idm_client_ended(c), "changed its mind") &&
	   ms() - start < 1500, "what the broker writes reaches a waiting client at once");
	idm_client_close(c);
	reap(pid, 2000);
}

static void refusals(struct test_broker *b)
{
	struct idm_local_request rq;
	struct idm_client *c;
	struct idm_error e;
	pid_t pid;

	pid = spawn(b);
	c = dial(b, 1, &e);
	ok(!c && strstr(e.text, "different builds"), "a client of another build is refused: %s", e.text);
	reap(pid, 2000);

	fflush(stdout);
	pid = fork();
	if (!pid) {
		int fd = broker_request(b, &rq);

		idm_local_refuse(fd, ENOSPC, "all 4 sessions are in use");
		_exit(0);
	}
	c = dial(b, TEST_HASH, &e);
	ok(!c && e.err == ENOSPC && strstr(e.text, "all 4 sessions"), "a refusal reaches the user: %s", e.text);
	reap(pid, 2000);

	struct idm_client_params p = { .transport = "local:/nonexistent/vgpu.sock", .timeout_ms = 100 };
	ok(idm_client_open(&c, &p, &e) == -ENOENT && strstr(e.text, "start vgpu-broker"), "no broker: %s", e.text);
	p.transport = "carrier-pigeon:x";
	ok(idm_client_open(&c, &p, &e) == -EINVAL, "%s", e.text);
	p.transport = "xen:/dev/null";
	ok(idm_client_open(&c, &p, &e) < 0, "%s", e.text);
}

/* Granted, but no worker ever says a word. */
static void silent_worker(struct test_broker *b)
{
	struct idm_client_params p = { .transport = b->transport, .timeout_ms = 300 };
	struct idm_local_request rq;
	struct idm_client *c;
	struct idm_error e;
	int64_t start;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		int memfd, life, life_client, fd = broker_request(b, &rq);

		idm_local_create(&rq, TEST_ARENA, &memfd, &life, &life_client, &e);
		idm_local_grant(fd, &rq, 1, 0, 7, TEST_ARENA, memfd, life_client);
		pause();
	}
	start = ms();
	ok(idm_client_open(&c, &p, &e) < 0 && ms() - start < 2000, "a worker that never comes: %s", e.text);
	kill(pid, SIGKILL);
	reap(pid, 1000);
}

static void handshake_garbage(struct test_broker *b)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct idm_local_request rq;
	struct idm_error e;
	unsigned char junk[100];
	bool good = true;

	strcpy(a.sun_path, b->path);
	srand(1);
	for (int i = 0; i < 300; i++) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0), srv, rc;
		size_t len = rand() % sizeof(junk);
		uint32_t head[2] = { 0x4c4d4449u, 1 };

		for (size_t k = 0; k < sizeof(junk); k++)
			junk[k] = rand();
		if (i % 3 == 0) {	/* a good head, the right length, random sizes */
			memcpy(junk, head, sizeof(head));
			len = 24;
		}
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)))
			exit(2);
		srv = idm_local_accept(b->listener);
		good &= idm_local_read(srv, &rq, &e) == 0;
		if (i % 7 && len) {
			if (send(fd, junk, len, 0) < 0)
				exit(2);
		}
		else
			shutdown(fd, SHUT_RDWR);
		rc = idm_local_read(srv, &rq, &e);
		good &= rc < 0;
		close(fd);
		good &= idm_local_refuse(srv, -rc, e.text) <= 0;
		close(srv);
	}
	ok(good, "300 requests of garbage are refused with a reason");
}

int main(void)
{
	struct test_broker b;

	signal(SIGPIPE, SIG_IGN);
	broker_start(&b);
	arena(&b);
	deaths(&b);
	ended_by_broker(&b);
	refusals(&b);
	silent_worker(&b);
	handshake_garbage(&b);
	broker_stop(&b);
	return tap_done();
}
