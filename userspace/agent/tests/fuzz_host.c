// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile agent: mutated answers to every call of libvgpuagent, with sanitizers. The library may fail, with a sentence and
 * in time; it may not break, wait for ever or hold more than it allows.
 *
 *	fuzz_host [SECONDS [SEED]]
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mutate.h"
#include "tap.h"
#include "vgpuagent.h"

#define A(name)	VGPU_AGENT_A_##name

static void put_exit(struct wire_queue *q)
{
	size_t nest = wire_nest(q, A(EXIT));

	wire_u32(q, A(EXIT_CODE), 3);
	wire_u32(q, A(EXIT_SIGNAL), 0);
	wire_u64(q, A(EXIT_TIME), 1);
	wire_u32(q, A(OOM), 1);
	wire_nest_end(q, nest);
}

static void put_attributes(struct wire_queue *q, uint16_t type)
{
	size_t nest;

	switch (type) {
	case VGPU_AGENT_HELLO:
		wire_u32(q, A(VERSION), VGPU_AGENT_VERSION);
		wire_string(q, A(BUILD), "fuzz");
		wire_u64(q, A(BOOT_ID), 1);
		nest = wire_nest(q, A(PHASE));
		wire_string(q, A(LABEL), "a phase with a label that is longer than it should be for anybody");
		wire_u64(q, A(TIME_NS), 1);
		wire_nest_end(q, nest);
		wire_string(q, A(TROUBLE), "\033[2Jtrouble");
		break;
	case VGPU_AGENT_LIST:
		for (uint32_t i = chance(20); i; i--) {
			nest = wire_nest(q, A(PROCESS));
			wire_string(q, A(NAME), "name");
			wire_u32(q, A(STATE), 1 + chance(4));
			wire_u32(q, A(PID), 1);
			put_exit(q);
			wire_nest_end(q, nest);
		}
		break;
	case VGPU_AGENT_STATS:
		for (uint32_t i = chance(20); i; i--) {
			nest = wire_nest(q, A(STAT));
			wire_string(q, A(LABEL), "memory.current");
			wire_u64(q, A(VALUE), 1);
			wire_nest_end(q, nest);
		}
		break;
	case VGPU_AGENT_GET:
		wire_u32(q, A(FILE_TYPE), 1);
		wire_u32(q, A(MODE), 07777);
		wire_u64(q, A(SIZE), -1);
		break;
	case VGPU_AGENT_START:
		wire_u32(q, A(PID), 1);
		break;
	case VGPU_AGENT_CREATE:
		wire_u32(q, A(PID), 1);
		put_exit(q);
		break;
	default:
		put_exit(q);
	}
}

/* What an agent might say to a request, in a good order, and then not quite. */
static void answer(struct wire_queue *out, const struct vgpu_agent_frame *f)
{
	static uint8_t data[VGPU_AGENT_DATA_MAX];
	struct wire_queue q = { 0 };
	size_t begun;

	if (f->type == VGPU_AGENT_CREATE || f->type == VGPU_AGENT_DIAL || f->type == VGPU_AGENT_EVENTS)
		for (uint32_t i = chance(3); i; i--) {
			begun = wire_begin(&q, f->call, VGPU_AGENT_EVENT, 0);
			wire_string(&q, A(NAME), "x");
			put_attributes(&q, VGPU_AGENT_CREATE);
			wire_end(&q, begun);
		}
	for (uint32_t i = chance(4); i && f->type != VGPU_AGENT_HELLO; i--)
		wire_frame(&q, f->call, VGPU_AGENT_DATA, 1 + chance(2), data, 1 + chance(chance(8) ? 100 : sizeof(data)));
	if (chance(3) == 0 && f->type != VGPU_AGENT_HELLO)
		wire_frame(&q, f->call, VGPU_AGENT_END, 1 + chance(2), NULL, 0);
	if (chance(4) == 0)
		wire_credit(&q, f->call, 0, chance(2) ? 1 + chance(1000) : nasty());
	if (chance(8) == 0) {
		wire_error(&q, f->call, nasty(), "no\n\033[31m");
	} else if (chance(10)) {
		begun = wire_begin(&q, f->call, VGPU_AGENT_REPLY, 0);
		put_attributes(&q, f->type);
		wire_end(&q, begun);
	}
	if (chance(f->type == VGPU_AGENT_HELLO ? 10 : 2) == 0)
		mutate(&q);
	wire_put(out, q.data ? q.data + q.start : NULL, q.len);
	wire_free(&q);
}

struct agent {
	int fd;
	uint64_t seed;
};

static void *agent(void *arg)
{
	const struct agent *self = arg;
	int fd = self->fd;
	struct wire_queue in = { 0 }, out = { 0 };
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why;
	ssize_t n;

	mutate_state = self->seed;
	for (;;) {
		void *space = wire_space(&in, 65536);

		n = recv(fd, space, 65536, 0);
		if (n <= 0)
			break;
		wire_added(&in, n);
		while (wire_next_frame(&in, WIRE_HOST, &f, &payload, &why) > 0) {
			if (f.type < VGPU_AGENT_REQUESTS_END)
				answer(&out, &f);
			else if (f.type == VGPU_AGENT_CANCEL && chance(2))
				wire_error(&out, f.call, 125, "cancelled");
			wire_drop(&in, wire_size(&f));
		}
		if (out.len && send(fd, out.data + out.start, out.len, MSG_NOSIGNAL) < 0)
			break;
		wire_drop(&out, out.len);
	}
	shutdown(fd, SHUT_RDWR);
	wire_free(&in);
	wire_free(&out);
	return NULL;
}

static unsigned long calls, failures, silent;

/* Every failure comes with a sentence. */
static bool good(int result, struct vgpu_agent_error *e)
{
	calls++;
	if (result < 0) {
		failures++;
		if (!e->code || !e->text[0])
			silent++;
	}
	memset(e, 0, sizeof(*e));
	return result >= 0;
}

static void use_call(struct vgpu_agent_call *c)
{
	struct vgpu_agent_error e = { 0 };
	struct vgpu_agent_exit ended;
	char buf[8192] = { 0 };
	int stream;
	ssize_t n;

	if (chance(2))
		good(vgpu_agent_write(c, buf, chance(sizeof(buf)), 20, &e) < 0 ? -1 : 0, &e);
	if (chance(2))
		vgpu_agent_resize(c, 1, 2, NULL);
	for (uint32_t i = chance(20); i; i--) {
		n = vgpu_agent_read(c, &stream, buf, 1 + chance(sizeof(buf)), 20, &e);
		if (n <= 0) {
			good(n, &e);
			break;
		}
	}
	if (chance(2))
		good(vgpu_agent_finish(c, &ended, 20, &e), &e);
	vgpu_agent_call_free(c);
}

static void use(struct vgpu_agent *a)
{
	struct vgpu_agent_spec spec = { .name = "x", .args = (const char *const[]){ "y", NULL } };
	struct vgpu_agent_error e = { 0 };
	struct vgpu_agent_process *processes;
	struct vgpu_agent_stat *stats;
	struct vgpu_agent_event event;
	struct vgpu_agent_exit ended;
	struct vgpu_agent_call *c = NULL;
	struct vgpu_agent_file file;
	size_t count;
	int fd;

	for (uint32_t i = 1 + chance(6); i; i--)
		switch (chance(9)) {
		case 0:
			if (good(vgpu_agent_list(a, &processes, &count, &e), &e)) {
				for (size_t j = 0; j < count; j++)
					failures += strlen(processes[j].name) > VGPU_AGENT_NAME_MAX;
				free(processes);
			}
			break;
		case 1:
			if (good(vgpu_agent_stats(a, NULL, &stats, &count, &e), &e))
				free(stats);
			break;
		case 2:
			c = vgpu_agent_run(a, &spec, &e);
			if (good(c ? 0 : -1, &e))
				use_call(c);
			break;
		case 3:
			good(vgpu_agent_wait(a, "x", &ended, 50, &e), &e);
			break;
		case 4:
			fd = open("/dev/null", O_WRONLY);
			good(vgpu_agent_get(a, NULL, "/f", &file, fd, &e), &e);
			close(fd);
			break;
		case 5:
			c = vgpu_agent_events(a, &e);
			if (!good(c ? 0 : -1, &e))
				break;
			if (vgpu_agent_next_event(c, &event, 20, &e) < 0)
				memset(&e, 0, sizeof(e));
			vgpu_agent_call_free(c);
			break;
		case 6:
			c = vgpu_agent_dial(a, "1.2.3.4", 5, 50, &e);
			if (good(c ? 0 : -1, &e))
				use_call(c);
			break;
		case 7:
			good(vgpu_agent_start(a, "x", &e), &e);
			break;
		case 8:
			c = vgpu_agent_attach(a, "x", 0, &e);
			if (good(c ? 0 : -1, &e))
				use_call(c);
			break;
		}
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 5, end = mutate_clock() + seconds, longest = 0;
	unsigned long rounds = 0;
	struct rusage usage;

	mutate_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	for (; mutate_clock() < end; rounds++) {
		struct vgpu_agent_error e = { 0 };
		double begun = mutate_clock();
		struct vgpu_agent *a;
		pthread_t thread;
		char address[32];
		struct agent self;
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			return 1;
		self = (struct agent){ .fd = pair[1], .seed = mutate_state + rounds };
		pthread_create(&thread, NULL, agent, &self);
		snprintf(address, sizeof(address), "fd:%d", pair[0]);
		a = vgpu_agent_open(address, 100, &e);
		if (good(a ? 0 : -1, &e)) {
			vgpu_agent_set_timeout(a, 50);
			use(a);
			vgpu_agent_close(a);
		}
		pthread_join(thread, NULL);
		close(pair[1]);
		if (mutate_clock() - begun > longest)
			longest = mutate_clock() - begun;
	}
	getrusage(RUSAGE_SELF, &usage);
	ok(rounds > 0, "%lu conversations with a hostile agent, %lu calls, %lu of them failed", rounds, calls, failures);
	ok(!silent, "every failure came with a sentence");
	ok(longest < 10, "none took longer than its time limits allow (%.1f s)", longest);
	ok(usage.ru_maxrss < 512 << 10, "and little memory was held (%ld MiB with the sanitizer's)", usage.ru_maxrss >> 10);
	return tap_done();
}
