// SPDX-License-Identifier: Apache-2.0
/* Requests: their attributes taken apart, and the answers to those that need nothing but an answer. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>

#include "init.h"

#define A(name)	VGPU_AGENT_A_##name

static void *attr_place(struct request_attrs *a, uint16_t type)
{
	switch (type) {
	case A(NAME): return &a->name;
	case A(PATH): return &a->path;
	case A(TARGET): return &a->target;
	case A(ADDRESS): return &a->address;
	case A(FLAGS): return &a->flags;
	case A(SIGNAL): return &a->signal;
	case A(FILE_TYPE): return &a->file_type;
	case A(MODE): return &a->mode;
	case A(UID): return &a->uid;
	case A(GID): return &a->gid;
	case A(PORT): return &a->port;
	case A(TIMEOUT_MS): return &a->timeout_ms;
	case A(MAGIC): return &a->magic;
	case A(VERSION): return &a->version;
	case A(TIME_NS): return &a->time_ns;
	case A(MTIME): return &a->mtime;
	}
	return NULL;
}

static bool attr_value(struct request_attrs *a, const struct wire_attr *attr)
{
	void *place = attr_place(a, attr->type);

	switch (attr->type) {
	case A(NAME):
	case A(PATH):
	case A(TARGET):
	case A(ADDRESS):
		return wire_get_string(attr, place);
	case A(TIME_NS):
	case A(MTIME):
		return wire_get_u64(attr, place);
	default:
		return place && wire_get_u32(attr, place);
	}
}

/* @allowed ends with 0. */
int request_parse(struct request_attrs *a, const uint8_t *payload, size_t len, const uint16_t *allowed, struct failure *f)
{
	struct wire_reader r = wire_reader(payload, len);
	struct wire_attr attr;
	int got;

	memset(a, 0, sizeof(*a));
	while ((got = wire_next(&r, &attr)) > 0) {
		const uint16_t *known = allowed;

		while (*known && *known != attr.type)
			known++;
		if (!*known)
			return refuse(f, ENOTSUP, "this request has no attribute %u, or this agent does not know it", attr.type);
		if (a->seen & 1ull << (attr.type & 63))
			return refuse(f, EINVAL, "attribute %u twice", attr.type);
		a->seen |= 1ull << (attr.type & 63);
		if (!attr_value(a, &attr))
			return refuse(f, EINVAL, "attribute %u is not of its type", attr.type);
	}
	if (got < 0)
		return refuse(f, EINVAL, "malformed attributes");
	if (a->name && !wire_name_ok(a->name))
		return refuse(f, EINVAL, "not a name for a process");
	if (a->path && a->path[0] != '/')
		return refuse(f, EINVAL, "%.200s: not an absolute path", a->path);
	return 0;
}

static bool has(const struct request_attrs *a, uint16_t attr)
{
	return a->seen & 1ull << (attr & 63);
}

static void hello(struct call *c, const struct request_attrs *a)
{
	struct utsname name;
	size_t begun;

	if (a->magic != VGPU_AGENT_MAGIC || !a->version) {
		call_failf(c, EPROTO, "this is vgpu-init, which speaks the protocol of a pod's agent, version %u", VGPU_AGENT_VERSION);
		return;
	}
	uname(&name);
	begun = call_reply_begin(c);
	wire_u32(&to_host, A(VERSION), VGPU_AGENT_VERSION);
	wire_string(&to_host, A(BUILD), BUILD);
	wire_u64(&to_host, A(BOOT_ID), boot_id);
	wire_string(&to_host, A(KERNEL), name.release);
	boot_put_report();
	call_reply_end(c, begun);
}

static void signal_request(struct call *c, const struct request_attrs *a)
{
	struct process *p = process_find(a->name);
	struct failure f;

	if (!p)
		call_failf(c, ENOENT, "there is no process %s", a->name);
	else if (!a->signal || a->signal > 64)
		call_failf(c, EINVAL, "%u is no signal", a->signal);
	else if (process_signal(p, a->signal, a->flags & VGPU_AGENT_F_ALL, &f))
		call_fail(c, &f);
	else
		call_reply(c);
}

static void set_time(struct call *c, uint64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000u, .tv_nsec = ns % 1000000000u };
	struct failure f;

	if (clock_settime(CLOCK_REALTIME, &t)) {
		fail(&f, "cannot set the pod's clock");
		call_fail(c, &f);
		return;
	}
	call_reply(c);
}

static void update(struct call *c, const uint8_t *payload, size_t len)
{
	struct wire_reader r = wire_reader(payload, len);
	struct list settings = { 0 };
	struct wire_attr attr;
	const char *name = NULL, *value;
	struct process *p;
	struct failure f;
	int got;

	while ((got = wire_next(&r, &attr)) > 0) {
		if (attr.type == A(NAME) && !name && wire_get_string(&attr, &name))
			continue;
		if (attr.type != A(CGROUP) || !wire_get_string(&attr, &value))
			break;
		*(const char **)list_add(&settings, sizeof(value)) = value;
	}
	p = name ? process_find(name) : NULL;
	if (got)
		call_failf(c, EINVAL, "a malformed or unknown attribute");
	else if (!p)
		call_failf(c, ENOENT, "there is no process %.100s", name ?: "without a name");
	else if (!p->own_cgroup)
		call_failf(c, ENOTSUP, "process %s has no cgroup of its own", p->name);
	else if (cgroup_set(p->cgroup, &settings, &f))
		call_fail(c, &f);
	else
		call_reply(c);
	free(settings.items);
}

static const uint16_t allowed_hello[] = { A(MAGIC), A(VERSION), 0 };
static const uint16_t allowed_name[] = { A(NAME), 0 };
static const uint16_t allowed_name_flags[] = { A(NAME), A(FLAGS), 0 };
static const uint16_t allowed_signal[] = { A(NAME), A(SIGNAL), A(FLAGS), 0 };
static const uint16_t allowed_none[] = { 0 };
static const uint16_t allowed_put[] = { A(PATH), A(NAME), A(FILE_TYPE), A(MODE), A(UID), A(GID), A(MTIME), A(TARGET), A(FLAGS), 0 };
static const uint16_t allowed_get[] = { A(PATH), A(NAME), 0 };
static const uint16_t allowed_dial[] = { A(ADDRESS), A(PORT), 0 };
static const uint16_t allowed_time[] = { A(TIME_NS), 0 };
static const uint16_t allowed_path[] = { A(PATH), 0 };
static const uint16_t allowed_shutdown[] = { A(TIMEOUT_MS), A(FLAGS), 0 };

/* What each request must have, beside what it may have. */
static const struct {
	const uint16_t *allowed;
	uint16_t needed[2];
} requests[VGPU_AGENT_REQUESTS_END] = {
	[VGPU_AGENT_HELLO] = { allowed_hello, { A(MAGIC), A(VERSION) } },
	[VGPU_AGENT_START] = { allowed_name, { A(NAME) } },
	[VGPU_AGENT_ATTACH] = { allowed_name_flags, { A(NAME) } },
	[VGPU_AGENT_WAIT] = { allowed_name, { A(NAME) } },
	[VGPU_AGENT_SIGNAL] = { allowed_signal, { A(NAME), A(SIGNAL) } },
	[VGPU_AGENT_LIST] = { allowed_none, { 0 } },
	[VGPU_AGENT_DELETE] = { allowed_name_flags, { A(NAME) } },
	[VGPU_AGENT_STATS] = { allowed_name, { 0 } },
	[VGPU_AGENT_EVENTS] = { allowed_none, { 0 } },
	[VGPU_AGENT_PUT] = { allowed_put, { A(PATH), A(FILE_TYPE) } },
	[VGPU_AGENT_GET] = { allowed_get, { A(PATH) } },
	[VGPU_AGENT_DIAL] = { allowed_dial, { A(ADDRESS), A(PORT) } },
	[VGPU_AGENT_TIME] = { allowed_time, { A(TIME_NS) } },
	[VGPU_AGENT_UNMOUNT] = { allowed_path, { A(PATH) } },
	[VGPU_AGENT_SHUTDOWN] = { allowed_shutdown, { 0 } },
};

static void create(struct call *c, const uint8_t *payload, size_t len)
{
	struct failure f = { 0 };
	struct spec *spec = spec_parse(payload, len, &f);

	if (spec)
		process_create(c, spec);
	else
		call_fail(c, &f);
}

static void stats(struct call *c, const struct request_attrs *a)
{
	struct process *p = a->name ? process_find(a->name) : NULL;

	if (a->name && !p)
		call_failf(c, ENOENT, "there is no process %s", a->name);
	else
		stats_request(c, p);
}

void request_handle(struct call *c, const struct vgpu_agent_frame *frame, const uint8_t *payload)
{
	struct request_attrs a;
	struct failure f;

	switch (frame->type) {
	case VGPU_AGENT_CREATE:
		create(c, payload, frame->length);
		return;
	case VGPU_AGENT_UPDATE:
		update(c, payload, frame->length);
		return;
	case VGPU_AGENT_MOUNT:
		mount_request(c, payload, frame->length);
		return;
	case VGPU_AGENT_NETWORK:
		network_request(c, payload, frame->length);
		return;
	}
	if (request_parse(&a, payload, frame->length, requests[frame->type].allowed, &f)) {
		call_fail(c, &f);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (requests[frame->type].needed[i] && !has(&a, requests[frame->type].needed[i])) {
			call_failf(c, EINVAL, "attribute %u is missing", requests[frame->type].needed[i]);
			return;
		}
	switch (frame->type) {
	case VGPU_AGENT_HELLO:
		hello(c, &a);
		break;
	case VGPU_AGENT_START:
		process_start(c, a.name);
		break;
	case VGPU_AGENT_ATTACH:
		process_attach(c, a.name, a.flags);
		break;
	case VGPU_AGENT_WAIT:
		process_wait(c, a.name);
		break;
	case VGPU_AGENT_SIGNAL:
		signal_request(c, &a);
		break;
	case VGPU_AGENT_LIST:
		process_list(c);
		break;
	case VGPU_AGENT_DELETE:
		process_delete(c, a.name, a.flags);
		break;
	case VGPU_AGENT_STATS:
		stats(c, &a);
		break;
	case VGPU_AGENT_EVENTS:
		call_keep(c, &events_ops, NULL);
		break;
	case VGPU_AGENT_PUT:
		file_put(c, &a);
		break;
	case VGPU_AGENT_GET:
		file_get(c, &a);
		break;
	case VGPU_AGENT_DIAL:
		dial_request(c, &a);
		break;
	case VGPU_AGENT_TIME:
		set_time(c, a.time_ns);
		break;
	case VGPU_AGENT_UNMOUNT:
		unmount_request(c, a.path);
		break;
	case VGPU_AGENT_SHUTDOWN:
		shutdown_request(c, a.timeout_ms, a.flags);
		break;
	}
}
