// SPDX-License-Identifier: Apache-2.0
/* Every other request: put together, and its reply taken apart. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define A(name)	VGPU_AGENT_A_##name

/* A request with a process's name and, if not 0, flags. */
static void begin_named(struct request *r, uint16_t type, const char *name, uint32_t flags)
{
	request_begin(r, type);
	wire_string(&r->q, A(NAME), name);
	if (flags)
		wire_u32(&r->q, A(FLAGS), flags);
}

int agent_hello(struct vgpu_agent *a, int timeout_ms, struct vgpu_agent_error *e)
{
	struct vgpu_agent_info *info = &a->info;
	struct vgpu_agent_call *c;
	struct wire_reader in;
	struct wire_attr attr;
	const char *text;
	struct request r;

	request_begin(&r, VGPU_AGENT_HELLO);
	wire_u32(&r.q, A(MAGIC), VGPU_AGENT_MAGIC);
	wire_u32(&r.q, A(VERSION), VGPU_AGENT_VERSION);
	if (request_ask(a, &r, timeout_ms, &c, e))
		return -1;
	in = wire_reader(c->reply->data, c->reply->len);
	while (wire_next(&in, &attr) > 0)
		switch (attr.type) {
		case A(VERSION):
			wire_get_u32(&attr, &info->version);
			break;
		case A(BOOT_ID):
			wire_get_u64(&attr, &info->boot_id);
			break;
		case A(BUILD):
			if (wire_get_string(&attr, &text))
				copy_text(info->build, sizeof(info->build), text);
			break;
		case A(KERNEL):
			if (wire_get_string(&attr, &text))
				copy_text(info->kernel, sizeof(info->kernel), text);
			break;
		case A(TROUBLE):
			if (wire_get_string(&attr, &text) && info->trouble_count < VGPU_AGENT_TROUBLES)
				copy_text(info->troubles[info->trouble_count++], sizeof(info->troubles[0]), text);
			break;
		case A(PHASE): {
			struct wire_reader phase = wire_get_nest(&attr);

			if (info->phase_count == VGPU_AGENT_PHASES)
				break;
			while (wire_next(&phase, &attr) > 0)
				if (attr.type == A(LABEL) && wire_get_string(&attr, &text))
					copy_text(info->phases[info->phase_count].label, sizeof(info->phases[0].label), text);
				else if (attr.type == A(TIME_NS))
					wire_get_u64(&attr, &info->phases[info->phase_count].ns);
			info->phase_count++;
			break;
		}
		}
	vgpu_agent_call_free(c);
	if (info->version != VGPU_AGENT_VERSION)
		return set_error(e, EPROTONOSUPPORT, "the pod's agent speaks version %u of the protocol, this host %u", info->version,
				 VGPU_AGENT_VERSION);
	return 0;
}

/* ---- Processes */

int parse_exit(const struct wire_attr *nest, struct vgpu_agent_exit *exit)
{
	struct wire_reader r = wire_get_nest(nest);
	struct wire_attr a;
	bool code = false;
	int got;

	memset(exit, 0, sizeof(*exit));
	while ((got = wire_next(&r, &a)) > 0)
		switch (a.type) {
		case A(EXIT_CODE): code = wire_get_u32(&a, &exit->code); break;
		case A(EXIT_SIGNAL): wire_get_u32(&a, &exit->signal); break;
		case A(EXIT_TIME): wire_get_u64(&a, &exit->time_ns); break;
		case A(OOM): wire_get_u32(&a, &exit->oom); break;
		}
	return got || !code || exit->code > 255 || exit->signal > 64 ? -1 : 0;
}

int parse_reply_exit(struct vgpu_agent_call *c, struct vgpu_agent_exit *exit, struct vgpu_agent_error *e)
{
	struct wire_reader r = wire_reader(c->reply->data, c->reply->len);
	struct wire_attr a;

	while (wire_next(&r, &a) > 0)
		if (a.type == A(EXIT) && !parse_exit(&a, exit))
			return 0;
	return set_error(e, EPROTO, "the pod's agent did not say how the process ended");
}

struct vgpu_agent_call *vgpu_agent_attach(struct vgpu_agent *a, const char *name, uint32_t flags, struct vgpu_agent_error *e)
{
	struct request r;

	begin_named(&r, VGPU_AGENT_ATTACH, name, flags);
	return request_send(a, &r, e);
}

int vgpu_agent_wait(struct vgpu_agent *a, const char *name, struct vgpu_agent_exit *exit, int timeout_ms, struct vgpu_agent_error *e)
{
	struct vgpu_agent_exit ignored;
	struct vgpu_agent_call *c;
	struct request r;
	int result;

	begin_named(&r, VGPU_AGENT_WAIT, name, 0);
	if (request_ask(a, &r, timeout_ms, &c, e))
		return -1;
	result = parse_reply_exit(c, exit ?: &ignored, e);
	vgpu_agent_call_free(c);
	return result;
}

int vgpu_agent_signal(struct vgpu_agent *a, const char *name, int signal, uint32_t flags, struct vgpu_agent_error *e)
{
	struct request r;

	begin_named(&r, VGPU_AGENT_SIGNAL, name, flags);
	wire_u32(&r.q, A(SIGNAL), signal);
	return request_do(a, &r, e);
}

int vgpu_agent_delete(struct vgpu_agent *a, const char *name, uint32_t flags, struct vgpu_agent_error *e)
{
	struct request r;

	begin_named(&r, VGPU_AGENT_DELETE, name, flags);
	return request_do(a, &r, e);
}

int vgpu_agent_update(struct vgpu_agent *a, const char *name, const char *const *cgroup, struct vgpu_agent_error *e)
{
	struct request r;

	begin_named(&r, VGPU_AGENT_UPDATE, name, 0);
	for (; cgroup && *cgroup; cgroup++)
		wire_string(&r.q, A(CGROUP), *cgroup);
	return request_do(a, &r, e);
}

/* Room for one more of @size at the end of *list, zeroed. */
static void *grow(void **list, size_t count, size_t size)
{
	void *bigger = count & (count - 1) ? *list : realloc(*list, (count ? 2 * count : 1) * size);

	if (!bigger)
		return NULL;
	*list = bigger;
	return memset((char *)bigger + count * size, 0, size);
}

static void parse_process(const struct wire_attr *nest, struct vgpu_agent_process *p)
{
	struct wire_reader r = wire_get_nest(nest);
	struct wire_attr a;
	const char *text;
	uint32_t state;

	while (wire_next(&r, &a) > 0)
		switch (a.type) {
		case A(NAME):
			if (wire_get_string(&a, &text) && wire_name_ok(text))
				strcpy(p->name, text);
			break;
		case A(STATE):
			if (wire_get_u32(&a, &state) && state <= VGPU_AGENT_EXITED)
				p->state = state;
			break;
		case A(PID):
			wire_get_u32(&a, &p->pid);
			break;
		case A(START_TIME):
			wire_get_u64(&a, &p->start_ns);
			break;
		case A(EXIT):
			parse_exit(&a, &p->exit);
			break;
		}
}

int vgpu_agent_list(struct vgpu_agent *a, struct vgpu_agent_process **list, size_t *count, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c;
	struct wire_reader in;
	struct wire_attr attr;
	struct request r;

	*list = NULL;
	*count = 0;
	request_begin(&r, VGPU_AGENT_LIST);
	if (request_ask(a, &r, a->timeout_ms, &c, e))
		return -1;
	in = wire_reader(c->reply->data, c->reply->len);
	while (wire_next(&in, &attr) > 0) {
		struct vgpu_agent_process *p = attr.type == A(PROCESS) ? grow((void **)list, *count, sizeof(*p)) : NULL;

		if (!p)
			continue;
		parse_process(&attr, p);
		if (p->name[0] && p->state)
			++*count;
	}
	vgpu_agent_call_free(c);
	return 0;
}

/* ---- Events */

struct vgpu_agent_call *vgpu_agent_events(struct vgpu_agent *a, struct vgpu_agent_error *e)
{
	struct request r;

	request_begin(&r, VGPU_AGENT_EVENTS);
	r.events = ANY_NUMBER;
	return request_send(a, &r, e);
}

int vgpu_agent_next_event(struct vgpu_agent_call *c, struct vgpu_agent_event *event, int timeout_ms, struct vgpu_agent_error *e)
{
	struct payload *p = call_wait_event(c, timeout_ms, e);
	struct wire_reader r;
	struct wire_attr a;
	const char *text;

	if (!p)
		return -1;
	memset(event, 0, sizeof(*event));
	r = wire_reader(p->data, p->len);
	while (wire_next(&r, &a) > 0)
		if (a.type == A(NAME) && wire_get_string(&a, &text) && wire_name_ok(text))
			strcpy(event->name, text);
		else if (a.type == A(EXIT))
			event->ended = !parse_exit(&a, &event->exit);
		else if (a.type == A(OOM))
			wire_get_u32(&a, &event->exit.oom);
	free(p);
	return event->name[0] ? 0 : set_error(e, EPROTO, "the pod's agent sent an event about nothing");
}

/* ---- Statistics */

int vgpu_agent_stats(struct vgpu_agent *a, const char *name, struct vgpu_agent_stat **list, size_t *count, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c;
	struct wire_reader in, one;
	struct wire_attr attr;
	const char *text;
	struct request r;

	*list = NULL;
	*count = 0;
	request_begin(&r, VGPU_AGENT_STATS);
	if (name)
		wire_string(&r.q, A(NAME), name);
	if (request_ask(a, &r, a->timeout_ms, &c, e))
		return -1;
	in = wire_reader(c->reply->data, c->reply->len);
	while (wire_next(&in, &attr) > 0) {
		struct vgpu_agent_stat *s = attr.type == A(STAT) ? grow((void **)list, *count, sizeof(*s)) : NULL;
		bool value = false;

		if (!s)
			continue;
		one = wire_get_nest(&attr);
		while (wire_next(&one, &attr) > 0)
			if (attr.type == A(LABEL) && wire_get_string(&attr, &text))
				copy_text(s->name, sizeof(s->name), text);
			else if (attr.type == A(VALUE))
				value = wire_get_u64(&attr, &s->value);
		if (value && s->name[0])
			++*count;
	}
	vgpu_agent_call_free(c);
	return 0;
}

/* ---- Files */

static int pump_in(struct vgpu_agent_call *c, int fd, int timeout_ms, struct vgpu_agent_error *e)
{
	char buf[VGPU_AGENT_DATA_MAX];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return set_error(e, errno, "cannot read what is to be copied: %s", strerror(errno));
		/* When it fails there, the end of the call says why. */
		if (vgpu_agent_write(c, buf, n, timeout_ms, e) < 0)
			return e && e->code == ETIMEDOUT ? -1 : 0;
	}
	vgpu_agent_close_input(c, NULL);
	return 0;
}

int vgpu_agent_put(struct vgpu_agent *a, const char *process, const char *path, const struct vgpu_agent_file *file, int fd, struct vgpu_agent_error *e)
{
	struct vgpu_agent_error local;
	struct vgpu_agent_call *c;
	struct request r;
	int result = 0;

	e = e ?: &local;
	request_begin(&r, VGPU_AGENT_PUT);
	wire_string(&r.q, A(PATH), path);
	if (process)
		wire_string(&r.q, A(NAME), process);
	wire_u32(&r.q, A(FILE_TYPE), file->type);
	wire_u32(&r.q, A(MODE), file->mode);
	wire_u32(&r.q, A(UID), file->uid);
	wire_u32(&r.q, A(GID), file->gid);
	if (file->mtime_ns)
		wire_u64(&r.q, A(MTIME), file->mtime_ns);
	if (file->target)
		wire_string(&r.q, A(TARGET), file->target);
	wire_u32(&r.q, A(FLAGS), VGPU_AGENT_F_PARENTS);
	c = request_send(a, &r, e);
	if (!c)
		return -1;
	if (file->type == VGPU_AGENT_FILE)
		result = pump_in(c, fd, a->timeout_ms, e);
	if (!result)
		result = call_wait_end(c, a->timeout_ms, e);
	vgpu_agent_call_free(c);
	return result;
}

static void parse_file(struct vgpu_agent_call *c, struct vgpu_agent_file *file)
{
	struct wire_reader r = wire_reader(c->reply->data, c->reply->len);
	struct wire_attr a;

	memset(file, 0, sizeof(*file));
	while (wire_next(&r, &a) > 0)
		switch (a.type) {
		case A(FILE_TYPE): wire_get_u32(&a, &file->type); break;
		case A(MODE): wire_get_u32(&a, &file->mode); break;
		case A(UID): wire_get_u32(&a, &file->uid); break;
		case A(GID): wire_get_u32(&a, &file->gid); break;
		case A(MTIME): wire_get_u64(&a, &file->mtime_ns); break;
		case A(SIZE): wire_get_u64(&a, &file->size); break;
		}
	file->mode &= 07777;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		data += n;
		len -= n;
	}
	return 0;
}

int vgpu_agent_get(struct vgpu_agent *a, const char *process, const char *path, struct vgpu_agent_file *file, int fd, struct vgpu_agent_error *e)
{
	struct vgpu_agent_file ignored;
	struct vgpu_agent_call *c;
	char buf[VGPU_AGENT_DATA_MAX];
	struct request r;
	int result = 0, stream;
	ssize_t n;

	request_begin(&r, VGPU_AGENT_GET);
	wire_string(&r.q, A(PATH), path);
	if (process)
		wire_string(&r.q, A(NAME), process);
	c = request_send(a, &r, e);
	if (!c)
		return -1;
	while (!result && (n = vgpu_agent_read(c, &stream, buf, sizeof(buf), a->timeout_ms, e)) != 0) {
		if (n < 0)
			result = -1;
		else if (write_all(fd, buf, n))
			result = set_error(e, errno, "cannot write what is copied: %s", strerror(errno));
	}
	if (!result)
		result = call_wait_end(c, a->timeout_ms, e);
	if (!result)
		parse_file(c, file ?: &ignored);
	vgpu_agent_call_free(c);
	return result;
}

/* ---- The pod */

struct vgpu_agent_call *vgpu_agent_dial(struct vgpu_agent *a, const char *address, uint16_t port, int timeout_ms, struct vgpu_agent_error *e)
{
	struct vgpu_agent_error local = { 0 };
	struct vgpu_agent_call *c;
	struct payload *connected;
	struct request r;

	e = e ?: &local;
	e->code = 0;
	request_begin(&r, VGPU_AGENT_DIAL);
	r.events = 1;
	wire_string(&r.q, A(ADDRESS), address);
	wire_u32(&r.q, A(PORT), port);
	c = request_send(a, &r, e);
	if (!c)
		return NULL;
	connected = call_wait_event(c, timeout_ms, e);
	if (!connected) {
		if (!e->code)
			set_error(e, EPROTO, "the pod's agent ended the call without a connection");
		vgpu_agent_call_free(c);
		return NULL;
	}
	free(connected);
	pthread_mutex_lock(&a->lock);
	c->streams[2].ended = true;	/* a connection has one direction back */
	pthread_mutex_unlock(&a->lock);
	return c;
}

int vgpu_agent_set_time(struct vgpu_agent *a, uint64_t ns, struct vgpu_agent_error *e)
{
	struct request r;

	request_begin(&r, VGPU_AGENT_TIME);
	wire_u64(&r.q, A(TIME_NS), ns);
	return request_do(a, &r, e);
}

int vgpu_agent_unmount(struct vgpu_agent *a, const char *path, struct vgpu_agent_error *e)
{
	struct request r;

	request_begin(&r, VGPU_AGENT_UNMOUNT);
	wire_string(&r.q, A(PATH), path);
	return request_do(a, &r, e);
}

static void put_list(struct wire_queue *q, uint16_t attr, const char *const *list)
{
	for (; list && *list; list++)
		wire_string(q, attr, *list);
}

int vgpu_agent_set_network(struct vgpu_agent *a, const struct vgpu_agent_network *n, struct vgpu_agent_error *e)
{
	struct request r;

	request_begin(&r, VGPU_AGENT_NETWORK);
	if (n->hostname)
		wire_string(&r.q, A(HOSTNAME), n->hostname);
	for (size_t i = 0; i < n->interface_count; i++) {
		const struct vgpu_agent_interface *f = &n->interfaces[i];
		size_t nest = wire_nest(&r.q, A(INTERFACE));

		wire_string(&r.q, A(LABEL), f->name);
		if (f->mac)
			wire_string(&r.q, A(MAC), f->mac);
		if (f->mtu)
			wire_u32(&r.q, A(MTU), f->mtu);
		put_list(&r.q, A(NET_ADDRESS), f->addresses);
		wire_nest_end(&r.q, nest);
	}
	for (size_t i = 0; i < n->route_count; i++) {
		const struct vgpu_agent_route *t = &n->routes[i];
		size_t nest = wire_nest(&r.q, A(ROUTE));

		wire_string(&r.q, A(LABEL), t->interface);
		if (t->destination)
			wire_string(&r.q, A(NET_ADDRESS), t->destination);
		if (t->gateway)
			wire_string(&r.q, A(GATEWAY), t->gateway);
		wire_nest_end(&r.q, nest);
	}
	put_list(&r.q, A(NAMESERVER), n->nameservers);
	put_list(&r.q, A(SEARCH), n->search);
	put_list(&r.q, A(RESOLV_OPTION), n->options);
	return request_do(a, &r, e);
}

int vgpu_agent_shutdown(struct vgpu_agent *a, uint32_t grace_ms, bool reboot, struct vgpu_agent_error *e)
{
	struct vgpu_agent_call *c;
	struct request r;

	request_begin(&r, VGPU_AGENT_SHUTDOWN);
	wire_u32(&r.q, A(TIMEOUT_MS), grace_ms);
	if (reboot)
		wire_u32(&r.q, A(FLAGS), VGPU_AGENT_F_REBOOT);
	if (request_ask(a, &r, grace_ms + a->timeout_ms, &c, e))
		return -1;
	vgpu_agent_call_free(c);
	return 0;
}
