// SPDX-License-Identifier: Apache-2.0
/* What the host's library does not take from an agent: answers in an order that there cannot be. fuzz_host.c has the rest. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "codec.h"
#include "tap.h"
#include "vgpuagent.h"

#define A(name)	VGPU_AGENT_A_##name

/* What the agent says to every request but HELLO. */
struct script {
	unsigned int events;
	bool reply;
};

struct agent {
	int fd;
	struct script script;
};

static void answer(struct wire_queue *out, const struct vgpu_agent_frame *f, const struct script *script)
{
	size_t begun;

	if (f->type == VGPU_AGENT_HELLO) {
		begun = wire_begin(out, f->call, VGPU_AGENT_REPLY, 0);
		wire_u32(out, A(VERSION), VGPU_AGENT_VERSION);
		wire_end(out, begun);
		return;
	}
	for (unsigned int i = 0; i < script->events; i++) {
		begun = wire_begin(out, f->call, VGPU_AGENT_EVENT, 0);
		wire_string(out, A(NAME), "somebody");
		wire_u32(out, A(OOM), i + 1);
		wire_end(out, begun);
	}
	if (script->reply) {
		begun = wire_begin(out, f->call, VGPU_AGENT_REPLY, 0);
		wire_u32(out, A(PID), 7);
		wire_end(out, begun);
	}
}

static void *serve(void *arg)
{
	struct wire_queue in = { 0 }, out = { 0 };
	const struct agent *self = arg;
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why;
	ssize_t n;

	while ((n = recv(self->fd, wire_space(&in, 65536), 65536, 0)) > 0) {
		wire_added(&in, n);
		while (wire_next_frame(&in, WIRE_HOST, &f, &payload, &why) > 0) {
			if (f.type < VGPU_AGENT_REQUESTS_END)
				answer(&out, &f, &self->script);
			wire_drop(&in, wire_size(&f));
		}
		if (out.len && send(self->fd, out.data + out.start, out.len, MSG_NOSIGNAL) < 0)
			break;
		wire_drop(&out, out.len);
	}
	wire_free(&in);
	wire_free(&out);
	return NULL;
}

/* @use with an agent of that script; what it returned. @e: why the connection ended, code 0 if it did not. */
static int with(struct script script, int (*use)(struct vgpu_agent *a, struct vgpu_agent_error *e), struct vgpu_agent_error *e)
{
	struct vgpu_agent_error error = { 0 };
	struct agent self = { .script = script };
	int pair[2], result = -1;
	struct vgpu_agent *a;
	pthread_t thread;
	char address[32];

	memset(e, 0, sizeof(*e));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	self.fd = pair[1];
	pthread_create(&thread, NULL, serve, &self);
	snprintf(address, sizeof(address), "fd:%d", pair[0]);
	a = vgpu_agent_open(address, 5000, &error);
	if (a) {
		vgpu_agent_set_timeout(a, 5000);
		result = use(a, &error);
		/* Everything that it has said has come when this is answered, or the connection is over. */
		for (int i = 0; i < 300 && vgpu_agent_connected(a, e); i++)
			usleep(1000);
		vgpu_agent_close(a);
	}
	shutdown(pair[1], SHUT_RDWR);
	pthread_join(thread, NULL);
	close(pair[1]);
	return result;
}

static bool broke_the_protocol(const struct vgpu_agent_error *e)
{
	if (e->code == EPROTO && strstr(e->text, "event"))
		return true;
	printf("# %d %s\n", e->code, e->text);
	return false;
}

static int use_list(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	struct vgpu_agent_process *list = NULL;
	size_t count;
	int result = vgpu_agent_list(a, &list, &count, e);

	free(list);
	return result;
}

static const struct vgpu_agent_spec spec = { .name = "x", .args = (const char *const[]){ "y", NULL } };

static int use_create(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	return vgpu_agent_create(a, &spec, e) == 7 ? 0 : -1;
}

static int use_attach(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c = vgpu_agent_attach(a, "x", 0, e);
	int stream, result = c ? vgpu_agent_read(c, &stream, &(char){ 0 }, 1, 5000, e) : -1;

	vgpu_agent_call_free(c);
	return result;
}

static int use_run(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c = vgpu_agent_run(a, &spec, e);

	vgpu_agent_call_free(c);
	return c ? 0 : -1;
}

static int use_dial(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c = vgpu_agent_dial(a, "localhost", 1, 5000, e);

	vgpu_agent_call_free(c);
	return c ? 0 : -1;
}

static int use_events(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c = vgpu_agent_events(a, e);
	struct vgpu_agent_event event;
	int result = 0;

	for (unsigned int i = 0; c && !result && i < 100; i++)
		if (vgpu_agent_next_event(c, &event, 5000, e) || event.exit.oom != i + 1)
			result = -1;
	vgpu_agent_call_free(c);
	return c ? result : -1;
}

int main(void)
{
	struct script one = { .events = 1, .reply = true }, two = { .events = 2 }, many = { .events = 100 }, none = { .reply = true };
	struct vgpu_agent_error e;

	ok(!with(none, use_list, &e) && !e.code, "a request that is answered");
	ok(!with(none, use_create, &e) && !e.code, "as is a process's making");
	ok(with(one, use_list, &e) == -1 && broke_the_protocol(&e), "an event on a call that has none ends the connection");
	ok(with(one, use_create, &e) == -1 && broke_the_protocol(&e), "so does one about a process that nobody attached to");
	ok(with(one, use_attach, &e) == -1 && broke_the_protocol(&e), "or that somebody attached to when it ran");
	one.reply = false;
	ok(!with(one, use_run, &e) && !e.code, "that a process runs is said by an event");
	with(two, use_run, &e);
	ok(broke_the_protocol(&e), "and said once");
	ok(!with(one, use_dial, &e) && !e.code, "as that a connection is made");
	with(two, use_dial, &e);
	ok(broke_the_protocol(&e), "once as well");
	ok(!with(many, use_events, &e) && !e.code, "who listens to events gets as many as there are");
	return tap_done();
}
