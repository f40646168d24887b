// SPDX-License-Identifier: Apache-2.0
/* A client that writes what it likes into its session: the worker says -EPROTO with a reason, and stays whole. */
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "../../cuda/wire.h"
#include "session.h"

struct raw {
	struct idm_server *s;
	struct idm_session *page;
	unsigned char *request, *reply;
	struct idm_queue tx;
	uint64_t arena;
	int life, slot;
};

#define RING 4096

static void raw_open(struct raw *r)
{
	struct idm_local_request rq = { .request_size = RING, .reply_size = RING };
	struct idm_server_params p = { .kind = IDM_SERVER_LOCAL, .zone = TEST_ZONE, .own_zone = TEST_OWN,
				       .arena_size = 1 << 20, .table_hash = TEST_HASH, .request_size = RING,
				       .reply_size = RING };
	struct idm_error e;
	char *base;

	memset(r, 0, sizeof(*r));
	if (idm_local_create(&rq, 1 << 20, &p.fd, &p.life, &r->life, &e)) {
		printf("Bail out! %s\n", e.text);
		exit(2);
	}
	base = mmap(NULL, 3 * RING, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	r->page = (struct idm_session *)base;
	r->request = (unsigned char *)base + RING;
	r->reply = (unsigned char *)base + 2 * RING;
	if (idm_server_open(&r->s, &p, &e)) {
		printf("Bail out! %s\n", e.text);
		exit(2);
	}
	idm_queue_init(&r->tx, &r->page->request, r->request, RING);
}

static void raw_close(struct raw *r)
{
	idm_server_close(r->s);
	munmap(r->page, 3 * RING);
	close(r->life);
}

static void send_raw(struct raw *r, struct idm_header h, const void *payload, uint32_t really)
{
	idm_queue_write(&r->tx, r->tx.pos, &h, sizeof(h));
	idm_queue_write(&r->tx, r->tx.pos + sizeof(h), payload, really);
	r->tx.pos += idm_message_size(really);
	idm_queue_publish(&r->tx);
}

static struct idm_header good_header(uint16_t type, uint32_t len)
{
	return (struct idm_header){ .magic = IDM_MAGIC, .version = IDM_VERSION, .type = type, .src_zone = TEST_ZONE,
				    .dst_zone = TEST_OWN, .seq = 1, .payload_len = len };
}

static void say_hello(struct raw *r)
{
	struct vgpu_hello h = { .table_hash = TEST_HASH, .arena_base = IDM_SLOT(0) };

	send_raw(r, good_header(IDM_HELLO, sizeof(h)), &h, sizeof(h));
}

static void expect(struct raw *r, const char *words, const char *what)
{
	struct idm_error e = { 0 };
	struct idm_message m;
	int rc;

	while ((rc = idm_server_recv(r->s, &m, 200, &e)) == 1)
		;
	ok(rc == -EPROTO && strstr(e.text, words), "%s: %s", what, e.text);
	raw_close(r);
}

static void elsewhere(uint64_t offset, uint32_t size, uint32_t len, const char *what)
{
	struct idm_elsewhere at = { .offset = offset, .size = size };
	struct idm_header h = good_header(IDM_CUDA_BASE, len);
	struct raw r;

	raw_open(&r);
	say_hello(&r);
	h.flags = IDM_FLAG_ARENA;
	send_raw(&r, h, &at, len);
	expect(&r, "of the arena", what);
}

static void headers(void)
{
	struct idm_header h;
	struct raw r;

	raw_open(&r);
	say_hello(&r);
	h = good_header(IDM_CUDA_BASE, 0);
	h.src_zone = 42;
	send_raw(&r, h, NULL, 0);
	expect(&r, "forged source zone 42", "a forged source zone");

	raw_open(&r);
	say_hello(&r);
	h = good_header(IDM_CUDA_BASE, 0);
	h.dst_zone = 9;
	send_raw(&r, h, NULL, 0);
	expect(&r, "for zone 9", "a wrong destination");

	raw_open(&r);
	h = good_header(IDM_HELLO, 0);
	h.magic = 0xdeadbeef;
	send_raw(&r, h, NULL, 0);
	expect(&r, "magic 0xdeadbeef", "wrong magic");

	raw_open(&r);
	h = good_header(IDM_HELLO, 0);
	h.version = 0x200;
	send_raw(&r, h, NULL, 0);
	expect(&r, "version 0x200", "wrong version");

	raw_open(&r);
	say_hello(&r);
	send_raw(&r, good_header(IDM_CUDA_BASE, 0xfffffff0), NULL, 0);
	expect(&r, "length", "a payload of 4 GiB");

	raw_open(&r);
	say_hello(&r);
	send_raw(&r, good_header(IDM_CUDA_BASE, 64), NULL, 0);
	expect(&r, "length", "a truncated message");

	elsewhere(TEST_ARENA - 64, 128, sizeof(struct idm_elsewhere), "a payload beyond the arena");
	elsewhere(UINT64_MAX - 8, 64, sizeof(struct idm_elsewhere), "a payload that wraps around");
	elsewhere(0, IDM_PAYLOAD_MAX + 1, sizeof(struct idm_elsewhere), "too long a payload in the arena");
	elsewhere(0, 64, 8, "half a place in the arena");

	raw_open(&r);
	send_raw(&r, good_header(IDM_CUDA_BASE, 0), NULL, 0);
	expect(&r, "before IDM_HELLO", "a call before hello");

	raw_open(&r);
	say_hello(&r);
	say_hello(&r);
	expect(&r, "twice", "a second hello");
}

static void indices(void)
{
	static const uint32_t bad[] = { 1, 31, RING + 16, 0x80000000u, 0xfffffff0u };
	struct raw r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		raw_open(&r);
		r.page->request.prod = bad[i];
		expect(&r, "ring index", "a producer index that cannot be");
	}
	/* The reply ring's consumer index is the client's as well. */
	raw_open(&r);
	say_hello(&r);
	r.page->reply.cons = 0x12345670;
	struct idm_response resp = { 0 };
	struct idm_error e;
	struct idm_message m;
	int rc = idm_server_recv(r.s, &m, 50, &e);

	for (int i = 0; i < 300 && rc >= 0; i++)
		rc = idm_server_reply(r.s, i, &resp, NULL, 0);
	ok(rc == -EPIPE, "a consumer index that cannot be ends the replies");
	raw_close(&r);
}

static void payloads(void)
{
	struct vgpu_hello h = { .table_hash = TEST_HASH, .arena_base = 0x400000 };
	struct vgpu_arena_grown g = { 0 };
	struct raw r;

	raw_open(&r);
	send_raw(&r, good_header(IDM_HELLO, sizeof(h)), &h, sizeof(h));
	expect(&r, "cannot be at 0x400000", "an arena address of the client's choice");
	raw_open(&r);
	send_raw(&r, good_header(IDM_HELLO, 8), &h, 8);
	expect(&r, "malformed", "half a hello");

	static const uint64_t sizes[] = { 1, 4095, (1 << 20) + 4096, UINT64_MAX, UINT64_MAX - 4095 };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		raw_open(&r);
		say_hello(&r);
		g.arena_size = sizes[i];
		send_raw(&r, good_header(IDM_ARENA_GROWN, sizeof(g)), &g, sizeof(g));
		expect(&r, "arena of", "an arena size that cannot be");
	}

	raw_open(&r);
	say_hello(&r);
	g.arena_size = 65536;
	send_raw(&r, good_header(IDM_ARENA_GROWN, sizeof(g)), &g, sizeof(g));
	struct idm_error e;
	struct idm_message m;
	idm_server_recv(r.s, &m, 50, &e);
	ok(idm_server_arena(r.s, 0, 65536) && idm_server_arena(r.s, 65535, 1) && idm_server_arena(r.s, 65536, 0) &&
	   !idm_server_arena(r.s, 1, 65536) && !idm_server_arena(r.s, UINT64_MAX, 2) &&
	   !idm_server_arena(r.s, 4096, UINT64_MAX - 100) && !idm_server_arena(r.s, 65537, 0),
	   "arena ranges are checked without overflow");
	raw_close(&r);
}

/* Random bytes, random indices, while the worker is at work: it must only ever say -EPROTO. */
static void storm(void)
{
	struct idm_response resp = { 0 };
	int rejected = 0, odd = 0;

	srand(7);
	for (int round = 0; round < 400; round++) {
		struct idm_error e = { 0 };
		struct idm_message m;
		struct raw r;
		int rc = 0;

		raw_open(&r);
		say_hello(&r);
		for (int i = 0; i < 50; i++) {
			for (int k = rand() % 64; k; k--)
				r.request[rand() % RING] = rand();
			if (rand() % 4 == 0)
				r.page->request.prod += rand() % 3 ? 16 * (rand() % 40) : rand();
			else
				send_raw(&r, good_header(rand() % 0x1100, rand() % 128), r.request, 128);
			rc = idm_server_recv(r.s, &m, 0, &e);
			if (rc < 0)
				break;
			if (rc == 1)
				idm_server_reply(r.s, m.header.seq, &resp, NULL, 0);
			r.page->reply.cons = r.page->reply.prod;
		}
		rejected += rc == -EPROTO;
		odd += rc == -EPROTO && !e.text[0];
		raw_close(&r);
	}
	ok(rejected > 300 && !odd, "%d of 400 storms of random bytes end with a reason, none with harm", rejected);
}

int main(void)
{
	headers();
	indices();
	payloads();
	storm();
	return tap_done();
}
