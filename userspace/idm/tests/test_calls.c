// SPDX-License-Identifier: Apache-2.0
/* Client and worker in one process over the real local transport: calls, posts, order, sleeping and waking. */
#include <time.h>

#include "session.h"

/* Message types of the test's worker. */
enum {
	ECHO = IDM_CUDA_BASE,	/* reply with the payload */
	ADD,			/* posted: add the first word to a sum */
	SUM,			/* reply with the sum */
	FAIL,			/* posted: latch the first word as an error */
	HOLD,			/* keep; answered in reverse order by FLUSH */
	FLUSH,
	BIG,			/* reply with as many bytes as the first word says */
	PRINT,			/* text to the client, then a reply */
	NAP,			/* sleep as many ms as the first word says, then reply */
	MIX,			/* reply with a hash of the payload, or, posted, add it to the sum */
	TELL,			/* posted: send a callback message with the first word as its number */
	QUIT,
};

struct worker {
	struct test_broker *broker;
	struct idm_server *server;
	pthread_t thread;
	struct idm_stats stats;
	int end;
	char text[512];
};

static uint64_t mix(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = len;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct idm_server *s = broker_serve(w->broker, true);
	static unsigned char big[IDM_PAYLOAD_MAX];
	uint64_t sum = 0, held[64];
	struct idm_error e = { 0 };
	struct idm_response latch = { 0 };
	struct idm_message m;
	int nheld = 0, rc;

	w->server = s;
	for (;;) {
		rc = idm_server_recv(s, &m, -1, &e);
		if (rc <= 0)
			break;

		const uint64_t *word = m.payload;
		struct idm_response r = latch, none = { 0 };

		if (!(m.header.flags & IDM_FLAG_POSTED))
			latch = (struct idm_response){ 0 };
		switch (m.header.type) {
		case ECHO:
			rc = idm_server_reply(s, m.header.seq, &r, m.payload, m.header.payload_len);
			break;
		case ADD:
			sum += *word;
			break;
		case SUM:
			rc = idm_server_reply(s, m.header.seq, &r, &sum, sizeof(sum));
			break;
		case FAIL:
			if (!latch.latched) {
				latch.latched = *word;
				latch.latched_type = FAIL;
			}
			break;
		case HOLD:
			held[nheld++] = m.header.seq;
			break;
		case FLUSH:
			idm_server_reply(s, m.header.seq, &r, NULL, 0);
			while (nheld--)
				idm_server_reply(s, held[nheld], &none, &held[nheld], 8);
			nheld = 0;
			break;
		case BIG:
			memset(big, 0x5a, *word);
			rc = idm_server_reply(s, m.header.seq, &r, big, *word);
			break;
		case PRINT:
			idm_server_output(s, m.payload, m.header.payload_len);
			rc = idm_server_reply(s, m.header.seq, &r, NULL, 0);
			break;
		case NAP:
			nanosleep(&(struct timespec){ .tv_nsec = *word * 1000000 }, NULL);
			idm_server_reply(s, m.header.seq, &r, NULL, 0);
			break;
		case TELL:
			rc = idm_server_callback(s, *word, m.payload, 8);
			break;
		case MIX: {
			uint64_t h = mix(m.payload, m.header.payload_len);

			if (m.header.flags & IDM_FLAG_POSTED)
				sum += h;
			else
				rc = idm_server_reply(s, m.header.seq, &r, &h, sizeof(h));
			break;
		}
		case QUIT:
			idm_server_end(s, "the test wanted it so");
			goto out;
		}
		if (rc < 0)
			break;
	}
out:
	w->end = rc;
	snprintf(w->text, sizeof(w->text), "%s", e.text);
	idm_server_stats(s, &w->stats);
	idm_server_close(s);
	return NULL;
}

static char printed[8192];
static size_t printed_len;

static void on_output(const char *text, size_t len)
{
	memcpy(printed + printed_len, text, len);
	printed_len += len;
}

static struct idm_client *start(struct test_broker *b, struct worker *w, uint32_t ring)
{
	struct idm_client_params p = { .transport = b->transport, .request_size = ring, .reply_size = ring,
				       .table_hash = TEST_HASH, .on_output = on_output };
	struct idm_client *c = NULL;
	struct idm_error e;

	*w = (struct worker){ .broker = b };
	pthread_create(&w->thread, NULL, work, w);
	if (idm_client_open(&c, &p, &e)) {
		printf("Bail out! %s\n", e.text);
		exit(1);
	}
	return c;
}

static void stop(struct idm_client *c, struct worker *w)
{
	idm_client_close(c);
	pthread_join(w->thread, NULL);
}

static int call(struct idm_client *c, int type, const void *out, size_t len, void *in, size_t cap,
		struct idm_pending *p)
{
	struct iovec iov = { (void *)out, len };
	struct idm_pending mine, *q = p ? p : &mine;

	*q = (struct idm_pending){ .reply = in, .reply_cap = cap };
	return idm_call(c, type, &iov, 1, q);
}

static int post(struct idm_client *c, int type, uint64_t word)
{
	struct iovec iov = { &word, 8 };

	return idm_post(c, type, &iov, 1);
}

static void echoes(struct idm_client *c, size_t max)
{
	unsigned char *a = malloc(max), *b = malloc(max);
	struct idm_pending p;
	bool good = true;

	for (size_t len = 0; len <= max && good; len += len < 300 ? 1 : 97) {
		size_t cut = len / 3;
		struct iovec iov[3] = { { a, cut }, { a + cut, 0 }, { a + cut, len - cut } };

		for (size_t i = 0; i < len; i++)
			a[i] = len + i * 13;
		p = (struct idm_pending){ .reply = b, .reply_cap = max };
		good &= !idm_call(c, ECHO, iov, 3, &p) && p.reply_len == len && !memcmp(a, b, len);
	}
	ok(good, "payloads of 0 to %zu bytes come back as they were", max);
	free(a);
	free(b);
}

static void posts_and_errors(struct idm_client *c)
{
	uint64_t sum = 0, want = 0, word = 9;
	struct idm_pending p;
	bool good = true;

	for (uint64_t i = 1; i <= 5000; i++) {
		good &= !post(c, ADD, i);
		want += i;
	}
	good &= !call(c, SUM, NULL, 0, &sum, sizeof(sum), NULL);
	ok(good && sum == want, "5000 posted messages are all seen before the next reply");
	post(c, FAIL, 700);
	post(c, FAIL, 701);
	call(c, ECHO, &word, 8, &word, 8, &p);
	ok(p.response.latched == 700 && p.response.latched_type == FAIL, "the first posted failure surfaces on the next reply");
	call(c, ECHO, &word, 8, &word, 8, &p);
	ok(!p.response.latched, "and only there");
}

static void out_of_order(struct idm_client *c)
{
	struct idm_pending p[40] = { 0 };
	uint64_t got[40];
	bool good = true;

	for (int i = 0; i < 40; i++) {
		p[i].reply = &got[i];
		p[i].reply_cap = 8;
		good &= !idm_submit(c, HOLD, NULL, 0, &p[i]);
	}
	ok(good && !idm_test(c, &p[0]), "40 requests are out, none answered");
	good &= !call(c, FLUSH, NULL, 0, NULL, 0, NULL);
	for (int i = 0; i < 40; i++)
		good &= !idm_wait(c, &p[i]) && got[i] == p[i].seq && idm_test(c, &p[i]);
	ok(good, "answers in reverse order reach their requests");
}

static void limits(struct idm_client *c)
{
	uint64_t big = 4000, small[2];
	struct idm_pending p;
	char *buf = calloc(1, idm_payload_max(c) + 1);

	ok(call(c, ECHO, buf, idm_payload_max(c) + 1, NULL, 0, NULL) == -EMSGSIZE, "too long a request is refused at once");
	free(buf);
	ok(call(c, BIG, &big, 8, small, sizeof(small), NULL) == -EPROTO, "a reply longer than its room is -EPROTO");
	ok(!call(c, ECHO, &big, 8, small, sizeof(small), &p) && p.reply_len == 8 && small[0] == 4000,
	   "and the session goes on");
}

/* Payloads that are longer than the ring, one after the other and many at a time. */
static void long_payloads(struct idm_client *c)
{
	size_t max = idm_payload_max(c);
	unsigned char *buf = malloc(max);
	uint64_t sum = 0, before = 0, got = 0;
	bool good = true;

	for (size_t i = 0; i < max; i++)
		buf[i] = i * 31 + i / 251;
	for (size_t len = 1000; len <= max; len += 1009)
		good &= !call(c, MIX, buf, len, &got, sizeof(got), NULL) && got == mix(buf, len);
	ok(good && !call(c, MIX, buf, max, &got, sizeof(got), NULL) && got == mix(buf, max),
	   "payloads of up to %zu bytes arrive as they were", max);

	good = !call(c, SUM, NULL, 0, &before, sizeof(before), NULL);
	for (int i = 0; i < 500; i++) {
		struct iovec iov[2] = { { buf, max / 3 }, { buf + max / 3, i % 2 ? max - max / 3 : 17 } };

		buf[i] ^= i;	/* what was posted before must not change with it */
		good &= !idm_post(c, MIX, iov, 2);
		sum += mix(buf, max / 3 + iov[1].iov_len);
	}
	good &= !call(c, SUM, NULL, 0, &got, sizeof(got), NULL);
	ok(good && got - before == sum, "and so do 500 that are posted in a row");
	free(buf);
}

struct client_thread {
	struct idm_client *c;
	int id;
	bool good;
	pthread_t t;
};

/* Callbacks reach the listener: what comes before it listens, while it sleeps, and while others receive. */
static void *listen_to(void *arg)
{
	struct client_thread *ct = arg;

	ct->good = true;
	for (uint64_t i = 1; i <= 300 && ct->good; i++) {
		uint64_t word = 0;
		struct idm_pending p = { .reply = &word, .reply_cap = sizeof(word) };

		ct->good = !idm_listen(ct->c, &p) && p.seq == i && word == i && p.reply_len == sizeof(word);
	}
	return NULL;
}

static void callbacks(struct idm_client *c)
{
	struct client_thread ct = { .c = c };
	bool good = true;
	uint64_t sum;

	for (uint64_t i = 1; i <= 100; i++)
		good &= !post(c, TELL, i);
	good &= !call(c, SUM, NULL, 0, &sum, sizeof(sum), NULL);
	pthread_create(&ct.t, NULL, listen_to, &ct);
	for (uint64_t i = 101; i <= 300; i++) {
		good &= !post(c, TELL, i);
		if (i % 3 == 0)
			good &= !call(c, SUM, NULL, 0, &sum, sizeof(sum), NULL);
		if (i % 50 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	pthread_join(ct.t, NULL);
	ok(good && ct.good, "300 callbacks reach the listener in order");
}

/* Many threads through tiny rings. */
static void *hammer(void *arg)
{
	struct client_thread *ct = arg;
	unsigned char out[600], in[600];
	unsigned int r = ct->id * 7919;

	ct->good = true;
	for (int i = 0; i < 1500 && ct->good; i++) {
		struct idm_pending p[3] = { 0 };
		size_t len;

		r = r * 1103515245 + 12345;
		len = 8 + (r >> 16) % 590;
		memset(out, ct->id * 16 + i, len);
		switch (i % 5) {
		case 0:
			ct->good &= !post(ct->c, ADD, 1);
			break;
		case 1:	/* several in flight */
			for (int k = 0; k < 3; k++) {
				struct iovec iov = { out, len };

				p[k].reply = in;
				p[k].reply_cap = sizeof(in);
				ct->good &= !idm_submit(ct->c, ECHO, &iov, 1, &p[k]);
			}
			for (int k = 2; k >= 0; k--)
				ct->good &= !idm_wait(ct->c, &p[k]) && p[k].reply_len == len;
			break;
		case 2: {	/* longer than the ring, or not */
			unsigned char large[6000];
			uint64_t h;

			memset(large, r >> 8, sizeof(large));
			ct->good &= !call(ct->c, MIX, large, len * 10, &h, sizeof(h), NULL) && h == mix(large, len * 10);
			break;
		}
		default:
			ct->good &= !call(ct->c, ECHO, out, len, in, sizeof(in), &p[0]) && p[0].reply_len == len &&
				    !memcmp(in, out, len);
		}
	}
	return NULL;
}

static void many_threads(struct idm_client *c, int n)
{
	struct client_thread ct[16];
	uint64_t sum = 0, before = 0;
	bool good = true;

	call(c, SUM, NULL, 0, &before, 8, NULL);
	for (int i = 0; i < n; i++) {
		ct[i] = (struct client_thread){ .c = c, .id = i };
		pthread_create(&ct[i].t, NULL, hammer, &ct[i]);
	}
	for (int i = 0; i < n; i++) {
		pthread_join(ct[i].t, NULL);
		good &= ct[i].good;
	}
	call(c, SUM, NULL, 0, &sum, 8, NULL);
	ok(good && sum - before == (uint64_t)n * 300, "%d threads, 1500 steps each: every answer reaches its caller", n);
}

/* More requests in flight than both rings hold, and nobody waiting meanwhile. */
static void both_rings_full(struct idm_client *c)
{
	static struct idm_pending p[400];
	static unsigned char in[400][200];
	unsigned char out[200];
	struct iovec iov = { out, sizeof(out) };
	bool good = true;

	for (int i = 0; i < 400; i++) {
		memset(out, i, sizeof(out));
		p[i] = (struct idm_pending){ .reply = in[i], .reply_cap = 200 };
		good &= !idm_submit(c, ECHO, &iov, 1, &p[i]);
	}
	for (int i = 0; i < 400; i++)
		good &= !idm_wait(c, &p[i]) && in[i][199] == (unsigned char)i;
	ok(good, "400 requests in flight through rings of 4 KiB do not lock up");
}

static void output(struct idm_client *c)
{
	char text[1000];
	bool good = true;

	printed_len = 0;
	for (int i = 0; i < 5; i++) {
		memset(text, 'a' + i, sizeof(text));
		good &= !call(c, PRINT, text, sizeof(text), NULL, 0, NULL);
	}
	for (int i = 0; i < 5; i++)
		good &= printed[i * 1000] == 'a' + i && printed[i * 1000 + 999] == 'a' + i;
	ok(good && printed_len == 5000, "text from the worker comes before the reply that follows it");
}

static void one_kick_per_sleep(struct test_broker *b)
{
	struct idm_stats c0, c1;
	struct worker w;
	struct idm_client *c;
	uint64_t word = 30;

	setenv("VGPU_SPIN_US", "0", 1);
	c = start(b, &w, 65536);
	idm_client_stats(c, &c0);
	for (int i = 0; i < 10; i++)
		call(c, NAP, &word, 8, NULL, 0, NULL);	/* both sides sleep in each, if the machine lets them run */
	idm_client_stats(c, &c1);
	stop(c, &w);
	ok(c1.kicks - c0.kicks <= 10 && c1.slept - c0.slept >= 5, "10 slow calls: %d kicks, %d sleeps of the client",
	   (int)(c1.kicks - c0.kicks), (int)(c1.slept - c0.slept));
	ok(w.stats.kicks >= 5 && w.stats.kicks <= w.stats.called + w.stats.grown + 1, "the worker kicked once per reply (%d for %d)",
	   (int)w.stats.kicks, (int)(w.stats.called + w.stats.grown + 1));
	unsetenv("VGPU_SPIN_US");
}

/* Many threads have made progress, one peer sleeps: it gets one notification. */
static void *waker(void *arg)
{
	struct idm_link *l = arg;

	for (int i = 0; i < 1000; i++)
		idm_link_wake_slow(l, IDM_SLEEP_DATA);
	return NULL;
}

static void one_kick_from_many(void)
{
	static struct idm_side self, peer;
	struct idm_link l = { 0 };
	pthread_t t[4];

	idm_link_init(&l, &self, &peer, true);
	peer.sleeping = IDM_SLEEP_DATA | IDM_SLEEP_SPACE;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, waker, &l);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ok(l.kicks == 1 && peer.wake == 1 && peer.sleeping == IDM_SLEEP_SPACE,
	   "a sleeper gets one notification, whoever sends it, and for what it waits for (%d)", (int)l.kicks);
}

/* Answers that come soon make a client spin for longer, unless that does not help. */
static void spins_as_it_pays(void)
{
	static struct idm_side self, peer;
	struct idm_link client = { 0 }, worker = { 0 }, told = { 0 };
	struct idm_spin *s = &client.spin[0];
	bool grew, kept, back;

	idm_link_init(&client, &self, &peer, true);
	idm_link_init(&worker, &peer, &self, false);
	ok(s->now == client.spin_least && client.spin_most == 10 * client.spin_least && worker.spin_most == worker.spin_least,
	   "a client may spin ten times as long as a worker");
	idm_link_learn(&client, 0, client.spin_most + 1);
	kept = s->now == client.spin_least;
	idm_link_learn(&client, 0, client.spin_most / 2);
	grew = s->now > client.spin_most / 2 && s->now < client.spin_most && client.spin[1].now == client.spin_least;
	idm_link_learn(&client, 0, client.spin_most);
	ok(kept && grew && s->now == client.spin_most, "it does where answers come within that time, and as long as they take");
	idm_link_learn(&client, 0, client.spin_most);
	back = s->now == client.spin_least;
	for (int i = 0; i < 64; i++)
		idm_link_learn(&client, 0, client.spin_most);
	kept = s->now == client.spin_least;
	idm_link_learn(&client, 0, client.spin_most);
	ok(back && kept && s->now == client.spin_most, "what does not help twice is left alone for a while");
	setenv("VGPU_SPIN_US", "20", 1);
	idm_link_init(&told, &self, &peer, true);
	ok(told.spin_least && told.spin_most == told.spin_least, "VGPU_SPIN_US is the time, and the only one");
	setenv("VGPU_SPIN_US", "2x", 1);
	idm_link_init(&told, &self, &peer, true);
	unsetenv("VGPU_SPIN_US");
	ok(told.spin_most == 10 * told.spin_least, "if it is a number");
}

static void ended_by_worker(struct test_broker *b)
{
	struct worker w;
	struct idm_client *c = start(b, &w, 4096);
	struct idm_pending p;
	int rc = call(c, QUIT, NULL, 0, NULL, 0, &p);

	ok(rc == -EPIPE && idm_client_ended(c) && strstr(idm_client_ended(c), "the test wanted it so"),
	   "a session that the worker ends says why");
	ok(post(c, ADD, 1) == -EPIPE && call(c, SUM, NULL, 0, NULL, 0, NULL) == -EPIPE, "and everything after that is -EPIPE");
	stop(c, &w);
}

int main(void)
{
	struct test_broker b;
	struct worker w;
	struct idm_client *c;

	broker_start(&b);
	c = start(&b, &w, 256 * 1024);
	echoes(c, 40000);
	posts_and_errors(c);
	out_of_order(c);
	callbacks(c);
	limits(c);
	long_payloads(c);
	output(c);
	many_threads(c, 4);
	stop(c, &w);
	ok(w.end == -EPIPE, "the worker notices that the client has gone");

	c = start(&b, &w, 4096);
	echoes(c, idm_reply_max(c));
	posts_and_errors(c);
	limits(c);
	long_payloads(c);
	out_of_order(c);
	callbacks(c);
	both_rings_full(c);
	output(c);
	many_threads(c, 8);
	stop(c, &w);
	one_kick_per_sleep(&b);
	one_kick_from_many();
	spins_as_it_pays();
	ended_by_worker(&b);
	broker_stop(&b);
	return tap_done();
}
