// SPDX-License-Identifier: Apache-2.0
/*
 * The table of processes. A process is made by a child that reports through a socket: its PID once it is in its namespaces,
 * READY when all around it is made; then it waits for START, and the socket's end says that the program is executed.
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

#define A(name)	VGPU_AGENT_A_##name

static struct process *processes;
static unsigned int process_count;

struct process *process_all(void)
{
	return processes;
}

struct process *process_find(const char *name)
{
	struct process *p = processes;

	while (p && strcmp(p->name, name))
		p = p->next;
	return p;
}

static void forget(struct process *p)
{
	struct process **at = &processes;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	process_count--;
	for (struct call *c = call_next(NULL); c; c = call_next(c))
		if (c->object == p && c->ops)
			call_failf(c, ENOENT, "process %s was deleted", p->name);
	source_close(&p->sync);
	stdio_close(p);
	if (p->own_cgroup)
		cgroup_remove(p->cgroup);
	if (p->spec)
		spec_free(p->spec);
	free(p);
}

void process_put_exit(const struct process *p)
{
	bool killed = WIFSIGNALED(p->exit_status);
	size_t nest = wire_nest(&to_host, A(EXIT));

	wire_u32(&to_host, A(EXIT_CODE), killed ? 128 + WTERMSIG(p->exit_status) : WEXITSTATUS(p->exit_status));
	wire_u32(&to_host, A(EXIT_SIGNAL), killed ? WTERMSIG(p->exit_status) : 0);
	wire_u64(&to_host, A(EXIT_TIME), p->exit_time);
	if (p->oom)
		wire_u32(&to_host, A(OOM), p->oom);
	wire_nest_end(&to_host, nest);
}

static void reply_exit(struct call *c, const struct process *p)
{
	size_t begun = call_reply_begin(c);

	process_put_exit(p);
	call_reply_end(c, begun);
}

static void reply_pid(struct call *c, const struct process *p)
{
	size_t begun = call_reply_begin(c);

	wire_u32(&to_host, A(PID), p->pid);
	call_reply_end(c, begun);
}

/* ---- Calls that wait for something of a process */

static void wait_cancel(struct call *c, bool lost)
{
	if (!lost)
		call_failf(c, ECANCELED, "cancelled");
}

static const struct call_ops wait_ops = { .cancel = wait_cancel };

/* The host that asked for the process does not wait for it any more. */
static void create_cancel(struct call *c, bool lost)
{
	struct process *p = c->object;

	if (p->creator == c)
		p->creator = NULL;
	if (p->attached == c)
		stdio_detach(p);
	c->object = NULL;
	if (c->type == VGPU_AGENT_CREATE && p->kill_with_call)
		process_abandon(p);
	if (!lost)
		call_failf(c, ECANCELED, "cancelled");
}

/* Nobody will ask for it any more. A child that has not reported yet ends by itself when its socket closes. */
void process_abandon(struct process *p)
{
	struct failure f;

	if (!p->pid_known || p->state == VGPU_AGENT_EXITED) {
		forget(p);
		return;
	}
	p->delete_after = true;
	process_signal(p, SIGKILL, true, &f);
}

/* Until it runs nothing is read from the streams' window: what comes is kept. */
static const struct call_ops create_ops = { .cancel = create_cancel };

void process_wait(struct call *c, const char *name)
{
	struct process *p = process_find(name);

	if (!p) {
		call_failf(c, ENOENT, "there is no process %s", name);
	} else if (p->state == VGPU_AGENT_EXITED) {
		reply_exit(c, p);
	} else {
		call_keep(c, &wait_ops, p);
	}
}

/* ---- The end of a process */

/* Whoever has its streams does not get the rest. */
static void end_attached(struct process *p)
{
	struct call *c = p->attached;

	if (!c)
		return;
	stdio_detach(p);
	if (p->creator == c)
		p->creator = NULL;
	call_failf(c, ESTALE, "process %s is deleted", p->name);
}

/*
 * Everybody who waits is told at once. Whoever holds the streams is when all output was sent, and that may be never: only
 * the process's place in the table waits for it.
 */
static void report_exit(struct process *p)
{
	struct call *attached = p->attached;
	bool deleted = false;

	for (struct call *c = call_next(NULL); c; c = call_next(c))
		if (c->object == p && c->ops == &wait_ops) {
			deleted |= c->type == VGPU_AGENT_DELETE;
			reply_exit(c, p);
		}
	if (attached && deleted) {
		end_attached(p);
	} else if (attached) {
		if (!stdio_drain(p))
			return;
		stdio_detach(p);
		reply_exit(attached, p);
	}
	if (p->delete_after)
		forget(p);
}

/* stdio.c calls when the last stream is at its end. */
void process_drained(struct process *p)
{
	if (p->state == VGPU_AGENT_EXITED)
		report_exit(p);
}

static void running(struct process *p);

static void exited(struct process *p, int status)
{
	/*
	 * Its socket may be open still: the child that made its PID namespace has told of it and not ended yet. It was executed
	 * if it was told to start, and what comes through the socket now means nothing any more.
	 */
	if (p->state == VGPU_AGENT_CREATED && p->go)
		running(p);
	source_close(&p->sync);
	p->state = VGPU_AGENT_EXITED;
	p->exit_status = status;
	p->exit_time = wall_ns();
	if (p->cgroup[0]) {
		uint32_t kills = cgroup_oom_kills(p->cgroup);

		if (p->own_cgroup) {
			/* Its end may be heard of before the inotify of cgroup.c. */
			if (kills != p->oom)
				process_oom(p, kills);
			/* What it left behind in its cgroup ends with it, unless it was only one of several there. */
			cgroup_kill(p->cgroup, SIGKILL);
		}
	}
	source_close(&p->in);
	if (!p->attached)
		stdio_close_empty(p);
	events_exit(p);
	power_process_ended();
	report_exit(p);
}

/* It never came to run its program: as if it had not been asked for. */
static void failed(struct process *p)
{
	struct call *c = p->creator;

	p->creator = NULL;
	if (p->attached)
		stdio_detach(p);
	if (c) {
		call_fail(c, &p->failure);
	}
	forget(p);
}

static struct process *by_pid(pid_t pid)
{
	struct process *p = processes;

	while (p && !(p->pid == pid && p->pid_known && p->state != VGPU_AGENT_EXITED))
		p = p->next;
	return p;
}

static bool sync_read(struct process *p);

void process_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct process *p = by_pid(pid);

		/* What it still said through the socket comes first, and may have been that it failed. */
		while (p && p->sync.fd >= 0 && sync_read(p))
			p = by_pid(pid);
		if (p && (p->state == VGPU_AGENT_RUNNING || p->state == VGPU_AGENT_CREATED))
			exited(p, status);
	}
}

/* ---- Making one */

static void running(struct process *p)
{
	struct call *c = p->creator;

	source_close(&p->sync);
	p->state = VGPU_AGENT_RUNNING;
	p->start_time = wall_ns();
	p->creator = NULL;
	spec_free(p->spec);
	p->spec = NULL;
	if (!c)
		return;
	if (c == p->attached) {
		size_t begun = wire_begin(&to_host, c->id, VGPU_AGENT_EVENT, 0);

		wire_u32(&to_host, A(PID), p->pid);
		call_event_end(begun);
		stdio_attach(p, c);
	} else {
		reply_pid(c, p);
	}
}

static void send_sync(struct process *p, uint32_t type)
{
	struct sync_message m = { .type = type };

	/* A child that is dead already is seen by its own side of the socket. */
	send(p->sync.fd, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void ready(struct process *p)
{
	struct call *c = p->creator;

	p->state = VGPU_AGENT_CREATED;
	if (p->go) {
		send_sync(p, SYNC_START);
		return;
	}
	if (!c)
		return;
	p->creator = NULL;
	if (c == p->attached) {
		size_t begun = wire_begin(&to_host, c->id, VGPU_AGENT_EVENT, 0);

		wire_u32(&to_host, A(PID), p->pid);
		call_event_end(begun);
		stdio_attach(p, c);
	} else {
		reply_pid(c, p);
	}
}

/* @fd: a descriptor that came with it, or -1. */
static ssize_t receive(int socket, struct sync_message *m, int *fd)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return n;
}

/* The terminal comes once, for a process that is to have one and before it is ready. */
static void take_terminal(struct process *p, int fd)
{
	if (fd < 0 || !p->has_tty || p->in.fd >= 0 || p->state != VGPU_AGENT_CREATING) {
		if (fd >= 0)
			close(fd);
		refuse(&p->failure, EPROTO, "%s: the child that was to become it sent a terminal that nobody asked for", p->name);
		failed(p);
	} else if (stdio_terminal(p, fd, &p->failure)) {
		failed(p);
	}
}

/* One message, or the socket's end, after which there is no socket (or no process) any more. False: there is nothing now. */
static bool sync_read(struct process *p)
{
	struct sync_message m;
	int fd;
	ssize_t n = receive(p->sync.fd, &m, &fd);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (fd >= 0 && (n != sizeof(m) || m.type != SYNC_TERMINAL))
		close(fd);
	if (n == sizeof(m)) {
		m.failure.text[sizeof(m.failure.text) - 1] = 0;
		switch (m.type) {
		case SYNC_PID:
			p->pid = m.pid;
			p->pid_known = true;
			send_sync(p, SYNC_GO);
			return true;
		case SYNC_TERMINAL:
			take_terminal(p, fd);
			return true;
		case SYNC_READY:
			ready(p);
			return true;
		case SYNC_FAILED:
			p->failure = m.failure;
			failed(p);
			return true;
		}
	}
	/* The end: the program is executed, or the child is dead. */
	if (p->state == VGPU_AGENT_CREATED && p->go) {
		running(p);
	} else if (p->state == VGPU_AGENT_CREATED) {
		source_close(&p->sync);	/* killed before its start: its death is reaped as any other's */
	} else {
		refuse(&p->failure, EIO, "%s: the child that was to become it died", p->name);
		failed(p);
	}
	return true;
}

static void sync_event(struct source *s, uint32_t events)
{
	sync_read((struct process *)((char *)s - offsetof(struct process, sync)));
}

/* Whoever gets a terminal may use terminals: its child opens it within these rules. */
static int allow_devices(struct process *p, struct failure *f)
{
	static const char *const terminals[] = { "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm" };
	struct list *rules = &p->spec->device_rules;

	if (!rules->count)
		return 0;
	for (size_t i = 0; p->has_tty && i < sizeof(terminals) / sizeof(terminals[0]); i++)
		*(const char **)list_add(rules, sizeof(terminals[0])) = terminals[i];
	return devices_allow(p->cgroup, rules, f);
}

static int place(struct process *p, struct spawn *s, char *procs, size_t size, struct failure *f)
{
	const struct spec *spec = p->spec;
	struct process *other;

	if (spec->join || spec->pid_of) {
		const char *name = spec->join ?: spec->pid_of;

		other = process_find(name);
		if (!other || (other->state != VGPU_AGENT_RUNNING && other->state != VGPU_AGENT_CREATED))
			return refuse(f, ESRCH, "%s: there is no running process %s to join", p->name, name);
		if (spec->join) {
			s->join_pid = other->pid;
			memcpy(p->cgroup, other->cgroup, sizeof(p->cgroup));
		} else {
			s->pid_of_pid = other->pid;
		}
	}
	if (spec->cgroup.count || spec->device_rules.count) {
		if (cgroup_create(p->name, p->cgroup, sizeof(p->cgroup), f))
			return -1;
		p->own_cgroup = true;
		if (cgroup_set(p->cgroup, &spec->cgroup, f) || allow_devices(p, f))
			return -1;
		cgroup_watch_oom(p);
	}
	if (p->cgroup[0]) {
		snprintf(procs, size, "%s/cgroup.procs", p->cgroup);
		s->cgroup_procs = procs;
	}
	return 0;
}

static int spawn(struct process *p, struct failure *f)
{
	struct spawn s = { .spec = p->spec, .has_tty = p->has_tty };
	char procs[300];
	int pair[2];

	if (place(p, &s, procs, sizeof(procs), f))
		return -1;
	if (stdio_open(p, s.stdio, f))
		goto out;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		fail(f, "%s: cannot make a socket pair", p->name);
		goto out;
	}
	s.sync = pair[1];
	p->pid = fork();
	if (!p->pid) {
		close(pair[0]);
		spawn_child(&s);
	}
	close(pair[1]);
	p->sync.fd = pair[0];
	if (p->pid < 0)
		fail(f, "%s: cannot fork", p->name);
	else
		source_watch(&p->sync, EPOLLIN);
out:
	for (int i = 0; i < 3; i++)
		if (s.stdio[i] >= 0 && (!i || s.stdio[i] != s.stdio[0]))
			close(s.stdio[i]);
	return p->pid > 0 ? 0 : -1;
}

void process_create(struct call *c, struct spec *spec)
{
	struct process *p;
	struct failure f = { 0 };

	if (process_find(spec->name)) {
		call_failf(c, EEXIST, "there is a process %s already", spec->name);
		spec_free(spec);
		return;
	}
	p = process_count < VGPU_AGENT_PROCESSES_MAX ? calloc(1, sizeof(*p)) : NULL;
	if (!p) {
		call_failf(c, EAGAIN, "%s: %u processes are there, that is all there can be; delete some that have ended", spec->name,
			   process_count);
		spec_free(spec);
		return;
	}
	strcpy(p->name, spec->name);
	p->state = VGPU_AGENT_CREATING;
	p->spec = spec;
	p->sync = (struct source)SOURCE(sync_event);
	p->in.fd = p->out[1].fd = p->out[2].fd = p->tty_slave = -1;
	p->has_tty = spec->has_tty;
	p->go = spec->flags & VGPU_AGENT_F_RUN;
	p->delete_after = spec->flags & VGPU_AGENT_F_DELETE;
	p->kill_with_call = spec->flags & VGPU_AGENT_F_KILL;
	p->own_namespace = spec->namespaces & CLONE_NEWPID;
	p->stop_signal = spec->stop_signal ?: SIGTERM;
	p->next = processes;
	processes = p;
	process_count++;
	if (spawn(p, &f)) {
		p->pid = 0;
		forget(p);
		call_fail(c, &f);
		return;
	}
	p->creator = c;
	call_keep(c, &create_ops, p);
	if (spec->flags & VGPU_AGENT_F_ATTACH)
		p->attached = c;
	else
		c->no_input = true;
}

void process_start(struct call *c, const char *name)
{
	struct process *p = process_find(name);

	if (!p) {
		call_failf(c, ENOENT, "there is no process %s", name);
	} else if (p->state != VGPU_AGENT_CREATED || p->go) {
		call_failf(c, EALREADY, "process %s was started before", name);
	} else {
		p->go = true;
		p->creator = c;
		call_keep(c, &create_ops, p);
		c->no_input = true;
		send_sync(p, SYNC_START);
	}
}

/* ---- What else is done to processes */

void process_attach(struct call *c, const char *name, uint32_t flags)
{
	struct process *p = process_find(name);

	if (!p) {
		call_failf(c, ENOENT, "there is no process %s", name);
		return;
	}
	if (p->state == VGPU_AGENT_CREATING) {
		call_failf(c, EAGAIN, "process %s is still being made", name);
		return;
	}
	if (p->attached) {
		struct call *other = p->attached;

		if (!(flags & VGPU_AGENT_F_STEAL)) {
			call_failf(c, EBUSY, "the streams of process %s are attached to another call", name);
			return;
		}
		if (p->creator == other)
			p->creator = NULL;
		stdio_detach(p);
		call_failf(other, ESTALE, "another call has taken over the streams of process %s", name);
	}
	p->attached = c;
	stdio_attach(p, c);
	if (p->state == VGPU_AGENT_EXITED)
		report_exit(p);
}

int process_signal(struct process *p, int signal, bool all, struct failure *f)
{
	int result;

	if (p->state == VGPU_AGENT_EXITED || !p->pid_known)
		return refuse(f, ESRCH, p->pid_known ? "process %s has ended" : "process %s is still being made", p->name);
	if (all && p->own_cgroup)
		result = cgroup_kill(p->cgroup, signal);
	else
		result = kill(all ? -p->pid : p->pid, signal);
	if (result && all && errno == ESRCH)
		result = kill(p->pid, signal);
	return result ? fail(f, "cannot send signal %d to process %s", signal, p->name) : 0;
}

void process_delete(struct call *c, const char *name, uint32_t flags)
{
	struct process *p = process_find(name);
	struct failure f;

	if (!p) {
		call_failf(c, ENOENT, "there is no process %s", name);
	} else if (p->state == VGPU_AGENT_EXITED && p->attached && !(flags & VGPU_AGENT_F_KILL)) {
		/* Who waits for it heard of its end before who has its streams has read all. How long that takes is that one's. */
		call_failf(c, EBUSY, "process %s has ended, and what it wrote is still being read", name);
	} else if (p->state == VGPU_AGENT_EXITED) {
		end_attached(p);
		forget(p);
		call_reply(c);
	} else if (!(flags & VGPU_AGENT_F_KILL)) {
		call_failf(c, EBUSY, "process %s has not ended", name);
	} else if (process_signal(p, SIGKILL, true, &f)) {
		call_fail(c, &f);
	} else {
		end_attached(p);
		p->delete_after = true;
		call_keep(c, &wait_ops, p);
	}
}

void process_list(struct call *c)
{
	size_t begun = call_reply_begin(c);

	for (struct process *p = processes; p; p = p->next) {
		size_t nest = wire_nest(&to_host, A(PROCESS));

		wire_string(&to_host, A(NAME), p->name);
		wire_u32(&to_host, A(STATE), p->state);
		wire_u32(&to_host, A(PID), p->state == VGPU_AGENT_EXITED ? 0 : p->pid);
		wire_u64(&to_host, A(START_TIME), p->start_time);
		if (p->state == VGPU_AGENT_EXITED)
			process_put_exit(p);
		wire_nest_end(&to_host, nest);
	}
	call_reply_end(c, begun);
}

void process_oom(struct process *p, uint32_t count)
{
	p->oom = count;
	events_oom(p);
}

bool process_any_left(void)
{
	for (struct process *p = processes; p; p = p->next)
		if (p->state != VGPU_AGENT_EXITED)
			return true;
	return false;
}

void process_stop_all(bool now)
{
	struct failure f;

	for (struct process *p = processes; p; p = p->next)
		if (p->state == VGPU_AGENT_CREATED && p->pid_known)
			kill(p->pid, SIGKILL);
		else if (p->state != VGPU_AGENT_EXITED)
			process_signal(p, now ? SIGKILL : p->stop_signal, now, &f);
}
