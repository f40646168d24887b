// SPDX-License-Identifier: Apache-2.0
/* A process's specification put on the wire, and the calls that take one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define A(name)	VGPU_AGENT_A_##name

static void put_strings(struct wire_queue *q, uint16_t attr, const char *const *list)
{
	for (; list && *list; list++)
		wire_string(q, attr, *list);
}

static void put_string(struct wire_queue *q, uint16_t attr, const char *value)
{
	if (value)
		wire_string(q, attr, value);
}

static void put_number(struct wire_queue *q, uint16_t attr, uint32_t value)
{
	if (value)
		wire_u32(q, attr, value);
}

static void put_mount(struct wire_queue *q, const struct vgpu_agent_mount *m)
{
	size_t nest = wire_nest(q, A(MOUNT));

	wire_string(q, A(PATH), m->path);
	put_string(q, A(SOURCE), m->source);
	put_string(q, A(FS_TYPE), m->type);
	put_string(q, A(MOUNT_DATA), m->data);
	if (m->flags)
		wire_u64(q, A(MOUNT_FLAGS), m->flags);
	if (m->propagation)
		wire_u64(q, A(PROPAGATION), m->propagation);
	if (m->recursive_set || m->recursive_clear)
		wire_bytes(q, A(MOUNT_RECURSIVE), (uint64_t[]){ m->recursive_set, m->recursive_clear }, 16);
	wire_nest_end(q, nest);
}

static void put_device(struct wire_queue *q, const struct vgpu_agent_device *d)
{
	size_t nest = wire_nest(q, A(DEVICE));

	wire_string(q, A(PATH), d->path);
	wire_u32(q, A(DEVICE_TYPE), d->type);
	wire_u32(q, A(MAJOR), d->major);
	wire_u32(q, A(MINOR), d->minor);
	wire_u32(q, A(MODE), d->mode);
	wire_u32(q, A(UID), d->uid);
	wire_u32(q, A(GID), d->gid);
	wire_nest_end(q, nest);
}

static void put_credentials(struct wire_queue *q, const struct vgpu_agent_spec *s)
{
	put_string(q, A(USER), s->user);
	put_number(q, A(USER_ID), s->uid);
	put_number(q, A(GROUP_ID), s->gid);
	for (size_t i = 0; i < s->group_count; i++)
		wire_u32(q, A(EXTRA_GROUP), s->groups[i]);
	if (s->umask)
		wire_u32(q, A(UMASK), s->umask & 0777);
	if (s->set_capabilities) {
		uint64_t sets[5] = { s->bounding, s->effective, s->inheritable, s->permitted, s->ambient };

		wire_bytes(q, A(CAPABILITIES), sets, sizeof(sets));
	}
	put_number(q, A(NO_NEW_PRIVS), s->no_new_privs);
	for (size_t i = 0; i < s->rlimit_count; i++) {
		uint64_t limit[3] = { s->rlimits[i].resource, s->rlimits[i].soft, s->rlimits[i].hard };

		wire_bytes(q, A(RLIMIT), limit, sizeof(limit));
	}
	if (s->set_oom_score_adj)
		wire_bytes(q, A(OOM_SCORE_ADJ), &s->oom_score_adj, sizeof(s->oom_score_adj));
	if (s->seccomp_len)
		wire_bytes(q, A(SECCOMP), s->seccomp, s->seccomp_len);
	put_number(q, A(SECCOMP_FLAGS), s->seccomp_flags);
}

static void put_surroundings(struct wire_queue *q, const struct vgpu_agent_spec *s)
{
	put_string(q, A(JOIN), s->join);
	put_string(q, A(ROOT), s->root);
	put_number(q, A(READONLY_ROOT), s->readonly_root);
	put_number(q, A(NAMESPACES), s->namespaces);
	put_string(q, A(PID_OF), s->pid_of);
	put_string(q, A(HOSTNAME), s->hostname);
	for (size_t i = 0; i < s->mount_count; i++)
		put_mount(q, &s->mounts[i]);
	for (size_t i = 0; i < s->device_count; i++)
		put_device(q, &s->devices[i]);
	put_strings(q, A(MASKED_PATH), s->masked);
	put_strings(q, A(READONLY_PATH), s->readonly);
	put_strings(q, A(SYSCTL), s->sysctls);
	put_strings(q, A(CGROUP), s->cgroup);
	put_strings(q, A(DEVICE_RULE), s->device_rules);
}

static int put_spec(struct request *r, const struct vgpu_agent_spec *s, uint32_t flags, struct vgpu_agent_error *e)
{
	struct wire_queue *q = &r->q;

	request_begin(r, VGPU_AGENT_CREATE);
	if (!s->name || !wire_name_ok(s->name)) {
		wire_free(q);
		return set_error(e, EINVAL, "%.100s: not a process's name (letters, digits, \"._-\", no dot first, at most %u)",
				 s->name ?: "(none)", VGPU_AGENT_NAME_MAX);
	}
	wire_string(q, A(NAME), s->name);
	put_number(q, A(FLAGS), s->flags | flags);
	put_strings(q, A(ARG), s->args);
	put_strings(q, A(ENV), s->env);
	put_string(q, A(CWD), s->cwd);
	if (s->tty)
		wire_u32(q, A(TTY), (uint32_t)s->rows << 16 | s->columns);
	if (s->no_stdin)
		wire_u32(q, A(STDIN), 0);
	put_credentials(q, s);
	put_surroundings(q, s);
	put_number(q, A(STOP_SIGNAL), s->stop_signal);
	return 0;
}

static int reply_pid(const uint8_t *data, size_t len)
{
	struct wire_reader r = wire_reader(data, len);
	struct wire_attr a;
	uint32_t pid;

	while (wire_next(&r, &a) > 0)
		if (a.type == A(PID) && wire_get_u32(&a, &pid) && pid && pid <= INT32_MAX)
			return pid;
	return -1;
}

static int ask_pid(struct vgpu_agent *a, struct request *r, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c;
	int pid;

	if (request_ask(a, r, a->timeout_ms, &c, e))
		return -1;
	pid = reply_pid(c->reply->data, c->reply->len);
	vgpu_agent_call_free(c);
	return pid > 0 ? pid : set_error(e, EPROTO, "the pod's agent did not say which process it made");
}

int vgpu_agent_create(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, struct vgpu_agent_error *e)
{
	struct request r;

	return put_spec(&r, spec, 0, e) ? -1 : ask_pid(a, &r, e);
}

int vgpu_agent_start(struct vgpu_agent *a, const char *name, struct vgpu_agent_error *e)
{
	struct request r;

	request_begin(&r, VGPU_AGENT_START);
	wire_string(&r.q, A(NAME), name);
	return ask_pid(a, &r, e);
}

static struct vgpu_agent_call *create_with(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, uint32_t flags, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c;
	struct payload *started;
	struct request r;

	if (put_spec(&r, spec, flags, e))
		return NULL;
	r.events = 1;
	c = request_send(a, &r, e);
	if (!c)
		return NULL;
	/* That it runs is said before anything it writes; a failure is the call's end. */
	started = call_wait_event(c, a->timeout_ms, e);
	if (started) {
		free(started);
		return c;
	}
	if (e && !e->code)
		set_error(e, EPROTO, "the pod's agent ended the call without starting the process");
	vgpu_agent_call_free(c);
	return NULL;
}

struct vgpu_agent_call *vgpu_agent_run(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, struct vgpu_agent_error *e)
{
	return create_with(a, spec, VGPU_AGENT_F_RUN | VGPU_AGENT_F_ATTACH, e);
}

struct vgpu_agent_call *vgpu_agent_create_attached(struct vgpu_agent *a, const struct vgpu_agent_spec *spec, struct vgpu_agent_error *e)
{
	return create_with(a, spec, VGPU_AGENT_F_ATTACH, e);
}

int vgpu_agent_mount(struct vgpu_agent *a, const struct vgpu_agent_mount *mounts, size_t count, struct vgpu_agent_error *e)
{
	struct request r;

	request_begin(&r, VGPU_AGENT_MOUNT);
	for (size_t i = 0; i < count; i++)
		put_mount(&r.q, &mounts[i]);
	return request_do(a, &r, e);
}
