// SPDX-License-Identifier: Apache-2.0
/* A process's specification: CREATE's attributes, checked. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "init.h"

#define A(name)	VGPU_AGENT_A_##name
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET)
#define FLAGS	(VGPU_AGENT_F_RUN | VGPU_AGENT_F_ATTACH | VGPU_AGENT_F_DELETE | VGPU_AGENT_F_KILL)

void *list_add(struct list *l, size_t size)
{
	void *item;

	if (l->count == l->size) {
		l->size = l->size ? l->size * 2 : 16;
		l->items = realloc(l->items, l->size * size);
		if (!l->items)
			abort();	/* a few thousand pointers: the pod is beyond help */
	}
	item = (char *)l->items + l->count++ * size;
	memset(item, 0, size);
	return item;
}

void spec_free(struct spec *s)
{
	struct list *lists[] = { &s->args, &s->env, &s->groups, &s->rlimits, &s->seccomp, &s->mounts,
				 &s->masked, &s->readonly, &s->sysctls, &s->devices, &s->cgroup, &s->device_rules };

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		free(lists[i]->items);
	free(s->payload);
	free(s);
}

static bool add_string(struct list *l, const struct wire_attr *a)
{
	return wire_get_string(a, list_add(l, sizeof(const char *)));
}

static bool get_path(const struct wire_attr *a, const char **path)
{
	return wire_get_string(a, path) && (*path)[0] == '/';
}

static bool add_path(struct list *l, const struct wire_attr *a)
{
	return get_path(a, list_add(l, sizeof(const char *)));
}

static bool get_flag(const struct wire_attr *a, bool *value)
{
	uint32_t number;

	if (!wire_get_u32(a, &number) || number > 1)
		return false;
	*value = number;
	return true;
}

static bool get_fixed(const struct wire_attr *a, void *value, size_t size)
{
	if (a->length != size)
		return false;
	memcpy(value, a->value, size);
	return true;
}

int spec_parse_mount(const struct wire_attr *nest, struct spec_mount *m, struct failure *f)
{
	struct wire_reader r = wire_get_nest(nest);
	struct wire_attr a;
	int got;

	memset(m, 0, sizeof(*m));
	while ((got = wire_next(&r, &a)) > 0) {
		bool ok;

		switch (a.type) {
		case A(PATH): ok = get_path(&a, &m->path); break;
		case A(SOURCE): ok = wire_get_string(&a, &m->source); break;
		case A(FS_TYPE): ok = wire_get_string(&a, &m->type); break;
		case A(MOUNT_DATA): ok = wire_get_string(&a, &m->data); break;
		case A(MOUNT_FLAGS): ok = wire_get_u64(&a, &m->flags); break;
		case A(PROPAGATION): ok = wire_get_u64(&a, &m->propagation); break;
		case A(MOUNT_RECURSIVE): ok = get_fixed(&a, m->recursive, sizeof(m->recursive)); break;
		default: ok = false;
		}
		if (!ok)
			return refuse(f, EINVAL, "a mount's attribute %u is unknown or not of its type", a.type);
	}
	if (got < 0 || !m->path)
		return refuse(f, EINVAL, "a mount is malformed or has no path");
	/* Linux would drop it without a word, and with it what was to make the mount read-only. */
	if (m->flags & MS_BIND && m->data && *m->data)
		return refuse(f, EINVAL, "the bind mount on %.150s has options that there are not for one: %.150s", m->path,
			      m->data);
	return 0;
}

static bool add_device(struct list *l, const struct wire_attr *nest)
{
	struct spec_device *d = list_add(l, sizeof(*d));
	struct wire_reader r = wire_get_nest(nest);
	struct wire_attr a;
	int got;

	while ((got = wire_next(&r, &a)) > 0) {
		bool ok;

		switch (a.type) {
		case A(PATH): ok = get_path(&a, &d->path); break;
		case A(DEVICE_TYPE): ok = wire_get_u32(&a, &d->type); break;
		case A(MAJOR): ok = wire_get_u32(&a, &d->major); break;
		case A(MINOR): ok = wire_get_u32(&a, &d->minor); break;
		case A(MODE): ok = wire_get_u32(&a, &d->mode); break;
		case A(UID): ok = wire_get_u32(&a, &d->uid); break;
		case A(GID): ok = wire_get_u32(&a, &d->gid); break;
		default: ok = false;
		}
		if (!ok)
			return false;
	}
	return !got && d->path && (d->type == 'c' || d->type == 'b' || d->type == 'p');
}

/* What the kernel checks again; but a filter that cannot be one should be refused before anything was made. */
static bool add_seccomp(struct list *l, const struct wire_attr *a)
{
	struct spec_bpf *bpf = list_add(l, sizeof(*bpf));
	struct sock_filter last = { 0 };

	if (!a->length || a->length % sizeof(struct sock_filter) || a->length / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return false;
	bpf->code = a->value;
	bpf->len = a->length;
	for (size_t i = 0; i < a->length; i += sizeof(last)) {
		size_t left = (a->length - i) / sizeof(last) - 1;

		memcpy(&last, a->value + i, sizeof(last));
		if (BPF_CLASS(last.code) != BPF_JMP)
			continue;
		if (BPF_OP(last.code) == BPF_JA ? last.k >= left : last.jt >= left || last.jf >= left)
			return false;
	}
	return BPF_CLASS(last.code) == BPF_RET;
}

static bool attribute(struct spec *s, const struct wire_attr *a, struct failure *f)
{
	uint32_t number;

	switch (a->type) {
	case A(NAME): return wire_get_string(a, &s->name) && wire_name_ok(s->name);
	case A(FLAGS): return wire_get_u32(a, &s->flags) && !(s->flags & ~FLAGS);
	case A(ARG): return add_string(&s->args, a);
	case A(ENV): return add_string(&s->env, a);
	case A(CWD): return get_path(a, &s->cwd);
	case A(USER): return wire_get_string(a, &s->user);
	case A(USER_ID): return wire_get_u32(a, &s->uid) && s->uid != (uint32_t)-1;
	case A(GROUP_ID): return wire_get_u32(a, &s->gid) && s->gid != (uint32_t)-1;
	case A(EXTRA_GROUP): return wire_get_u32(a, list_add(&s->groups, sizeof(uint32_t)));
	case A(UMASK): s->has_umask = true; return wire_get_u32(a, &s->umask);
	case A(TTY): s->has_tty = true; return wire_get_u32(a, &s->tty);
	case A(STDIN): return get_flag(a, &s->has_stdin);
	case A(CAPABILITIES): s->has_capabilities = true; return get_fixed(a, s->capabilities, sizeof(s->capabilities));
	case A(NO_NEW_PRIVS): return get_flag(a, &s->no_new_privs);
	case A(RLIMIT): return get_fixed(a, list_add(&s->rlimits, sizeof(struct spec_rlimit)), sizeof(struct spec_rlimit));
	case A(OOM_SCORE_ADJ): s->has_oom_score = true; return get_fixed(a, &s->oom_score_adj, sizeof(s->oom_score_adj));
	case A(SECCOMP): return add_seccomp(&s->seccomp, a);
	case A(SECCOMP_FLAGS): return wire_get_u32(a, &s->seccomp_flags) && !(s->seccomp_flags & ~(SECCOMP_FILTER_FLAG_LOG |
				SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW));
	case A(JOIN): return wire_get_string(a, &s->join);
	case A(ROOT): return get_path(a, &s->root);
	case A(READONLY_ROOT): return get_flag(a, &s->readonly_root);
	case A(NAMESPACES): return wire_get_u32(a, &s->namespaces) && !(s->namespaces & ~NAMESPACES);
	case A(PID_OF): return wire_get_string(a, &s->pid_of);
	case A(HOSTNAME): return wire_get_string(a, &s->hostname);
	case A(MOUNT): return !spec_parse_mount(a, list_add(&s->mounts, sizeof(struct spec_mount)), f);
	case A(MASKED_PATH): return add_path(&s->masked, a);
	case A(READONLY_PATH): return add_path(&s->readonly, a);
	case A(SYSCTL): return add_string(&s->sysctls, a);
	case A(DEVICE): return add_device(&s->devices, a);
	case A(CGROUP): return add_string(&s->cgroup, a);
	case A(DEVICE_RULE): return add_string(&s->device_rules, a);
	case A(STOP_SIGNAL): return wire_get_u32(a, &s->stop_signal) && s->stop_signal && s->stop_signal <= 64;
	}
	number = a->type;
	refuse(f, ENOTSUP, "a process has no attribute %u, or this agent does not know it", number);
	return false;
}

/* Settings that contradict each other, or need one that is not there. */
static int check(struct spec *s, struct failure *f)
{
	if (!s->name)
		return refuse(f, EINVAL, "the process has no name");
	if (!s->args.count)
		return refuse(f, EINVAL, "%s: there is no program to run", s->name);
	if (s->join && (s->root || s->namespaces || s->pid_of || s->mounts.count || s->cgroup.count || s->masked.count ||
			s->readonly.count || s->readonly_root || s->devices.count || s->device_rules.count || s->hostname || s->sysctls.count))
		return refuse(f, EINVAL, "%s: a process that joins %s has that one's root, namespaces and limits, none of its own",
			      s->name, s->join);
	if (s->root)
		s->namespaces |= CLONE_NEWNS;
	if (!(s->namespaces & CLONE_NEWNS) && (s->mounts.count || s->masked.count || s->readonly.count || s->readonly_root))
		return refuse(f, EINVAL, "%s: mounts and hidden paths need a root or a mount namespace of its own", s->name);
	if (s->pid_of && s->namespaces & CLONE_NEWPID)
		return refuse(f, EINVAL, "%s: either %s's PID namespace or an own one", s->name, s->pid_of);
	if (s->hostname && !(s->namespaces & CLONE_NEWUTS))
		return refuse(f, EINVAL, "%s: a host name of its own needs a UTS namespace of its own", s->name);
	if (s->flags & VGPU_AGENT_F_KILL && !(s->flags & VGPU_AGENT_F_ATTACH))
		return refuse(f, EINVAL, "%s: to end with the call that attaches it, it must be attached", s->name);
	if (s->has_tty && !s->has_stdin)
		return refuse(f, EINVAL, "%s: a terminal has an input", s->name);
	return 0;
}

struct spec *spec_parse(const uint8_t *payload, size_t len, struct failure *f)
{
	struct spec *s = calloc(1, sizeof(*s));
	struct wire_reader r;
	struct wire_attr a;
	int got;

	if (s)
		s->payload = malloc(len ?: 1);
	if (!s || !s->payload) {
		free(s);
		errno = ENOMEM;
		fail(f, "cannot hold a specification of %zu bytes", len);
		return NULL;
	}
	s->has_stdin = true;
	memcpy(s->payload, payload, len);
	r = wire_reader(s->payload, len);
	f->code = 0;
	while ((got = wire_next(&r, &a)) > 0)
		if (!attribute(s, &a, f)) {
			if (!f->code)
				refuse(f, EINVAL, "%.100s: attribute %u has no value that it can have", s->name ?: "a process", a.type);
			spec_free(s);
			return NULL;
		}
	if (got < 0)
		refuse(f, EINVAL, "malformed attributes");
	if (got < 0 || check(s, f)) {
		spec_free(s);
		return NULL;
	}
	return s;
}
