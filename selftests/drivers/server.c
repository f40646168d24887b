// SPDX-License-Identifier: Apache-2.0
/*
 * The drivers' test server, in place of vgpu-broker: accepts every session and serves each in a process of its own.
 *
 * Usage: drivers-server [--action SCRIPT]
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "idm.h"
#include "faults.h"
#include "linux/vgpu_back.h"
#include "session.h"

/* What a worker wants done with the next session: 0 accept, OP_IGNORE_NEXT, OP_REJECT_NEXT. */
struct order {
	uint32_t op;
	char reason[256];
};

static int orders[2];
static const char *action = "/lab/script/dom0-action";

struct worker {
	int fd;
	struct vgpu_back_info info;
	struct idm_session *page0;
	char *base;
	char *arena;
	size_t arena_mapped;
};

static void map_arena(struct worker *w)
{
	if (ioctl(w->fd, VGPU_BACK_IOC_INFO, &w->info))
		err(1, "INFO");
	if (w->arena)
		munmap(w->arena, w->arena_mapped);
	w->arena = NULL;
	w->arena_mapped = w->info.arena_size;
	if (!w->arena_mapped)
		return;
	w->arena = mmap(NULL, w->arena_mapped, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, w->info.arena_offset);
	if (w->arena == MAP_FAILED)
		err(1, "mapping %zu bytes of arena", w->arena_mapped);
}

/* Detached, so that it outlives this worker and the server. */
static void act(const char *what)
{
	if (fork())
		return;
	setsid();
	for (int i = 3; i < 64; i++)
		close(i);
	execl("/bin/sh", "sh", action, what, NULL);
	_exit(127);
}

static void counters(char *text)
{
	int fd = open("/sys/kernel/debug/vgpu-back/counters", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, TEXT_MAX - 1);

	text[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		close(fd);
}

/* fail-nth of the kernel thread that serves the control ring of this session's device, or -1. */
static int thread_faults(const struct vgpu_back_info *info)
{
	char want[32], path[288], comm[32];
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int result = -1;

	snprintf(want, sizeof(want), "vgpu-%u-%u\n", info->zone, info->device);
	while (proc && result < 0 && (entry = readdir(proc))) {
		int fd;
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n = read(fd, comm, sizeof(comm) - 1);
		close(fd);
		comm[n < 0 ? 0 : n] = '\0';
		snprintf(path, sizeof(path), "/proc/%s/fail-nth", entry->d_name);
		if (!strcmp(comm, want))
			result = open(path, O_RDWR | O_CLOEXEC);
	}
	if (proc)
		closedir(proc);
	return result;
}

static int fail_nth(const struct vgpu_back_info *info, unsigned int n, uint32_t *left)
{
	int fd = thread_faults(info), err = 0;

	if (fd < 0 || faults_enable())
		err = ENOSYS;
	else if (left && (int)(*left = faults_left(fd)) < 0)
		err = EIO;
	else if (faults_arm(fd, n))
		err = EIO;
	if (fd >= 0)
		close(fd);
	return err;
}

/* How many ways of ending a session are let through that the uapi does not allow. */
static int end_wrongly(int fd)
{
	struct vgpu_back_end wrong[] = { { .reserved = 1 }, { .session = 1 } };
	int n = 0;

	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		n += !ioctl(fd, VGPU_BACK_IOC_END, &wrong[i]) || errno != EINVAL;
	return n;
}

static void execute(struct worker *w, const struct command *c, struct answer *a)
{
	struct vgpu_back_end end = { 0 };
	struct order order = { 0 };

	a->err = 0;
	a->value = 0;
	a->text[0] = '\0';
	switch (c->op) {
	case OP_ECHO:
		a->value = c->value + 1;
		break;
	case OP_FILL:
		if (!w->arena || c->offset + c->size > w->arena_mapped) {
			a->err = ERANGE;
		} else if (!pattern_check(w->arena, c->offset, c->size, c->value)) {
			a->err = EILSEQ;
		} else {
			pattern_fill(w->arena, c->offset, c->size, c->value + 1);
		}
		break;
	case OP_MAP:
		map_arena(w);
		a->value = w->arena_mapped >> 20;
		break;
	case OP_EXIT:
		exit(0);
	case OP_KILL:
		kill(getpid(), SIGKILL);
		break;
	case OP_END:
		snprintf((char *)end.reason, sizeof(end.reason), "%.255s", c->text);
		ioctl(w->fd, VGPU_BACK_IOC_END, &end);
		exit(0);
	case OP_END_WRONGLY:
		a->value = end_wrongly(w->fd);
		break;
	case OP_STORM:
		for (uint32_t i = 0; i < c->value; i++)
			ioctl(w->fd, VGPU_BACK_IOC_KICK);
		break;
	case OP_ACT:
		act(c->text);
		break;
	case OP_COUNTERS:
		counters(a->text);
		break;
	case OP_IGNORE_NEXT:
	case OP_REJECT_NEXT:
		order.op = c->op;
		snprintf(order.reason, sizeof(order.reason), "%.255s", c->text);
		if (write(orders[1], &order, sizeof(order)) != sizeof(order))
			a->err = EIO;
		break;
	case OP_FAIL_NTH:
		a->err = fail_nth(&w->info, c->value, NULL);
		break;
	case OP_FAIL_LEFT:
		a->err = fail_nth(&w->info, 0, &a->value);
		break;
	default:
		a->err = EINVAL;
	}
}

static void serve(int fd)
{
	struct worker w = { .fd = fd };
	struct vgpu_back_wait wait = { .timeout_ns = -1 };
	struct command command;
	uint32_t done = 0;

	if (ioctl(fd, VGPU_BACK_IOC_INFO, &w.info))
		err(1, "INFO");
	w.base = mmap(NULL, w.info.arena_offset, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (w.base == MAP_FAILED)
		err(1, "mapping the rings of session %u", w.info.session);
	w.page0 = (struct idm_session *)w.base;
	map_arena(&w);

	for (;;) {
		uint32_t prod = atomic_load((_Atomic uint32_t *)&w.page0->request.prod);

		if (prod == done) {
			if (ioctl(fd, VGPU_BACK_IOC_WAIT, &wait) && errno != EINTR)
				exit(errno == EPIPE ? 0 : 1);
			continue;
		}
		done = prod;
		memcpy(&command, w.base + w.info.request_offset, sizeof(command));
		command.text[TEXT_MAX - 1] = '\0';
		execute(&w, &command, (struct answer *)(w.base + w.info.reply_offset));
		atomic_store((_Atomic uint32_t *)&w.page0->reply.prod, done);
		ioctl(fd, VGPU_BACK_IOC_KICK);
	}
}

static void reject(int fd, uint32_t session, const char *reason)
{
	struct vgpu_back_end end = { .session = session };

	memcpy(end.reason, reason, sizeof(end.reason));
	if (ioctl(fd, VGPU_BACK_IOC_REJECT, &end))
		warn("REJECT %u", session);
}

static void accept_session(int fd, uint32_t number)
{
	struct vgpu_back_accept accept = { .session = number };
	struct vgpu_back_end wrong = { .session = number, .reserved = 1 };
	struct rlimit files, none;
	int session;

	/* If this were let through, the session would be over before it began, and with it every test. */
	if (!ioctl(fd, VGPU_BACK_IOC_REJECT, &wrong) || errno != EINVAL)
		warnx("REJECT %u was let through with a reserved field that is not 0", number);
	/* The same if an ACCEPT were the session's end that finds no descriptor to spare. */
	if (getrlimit(RLIMIT_NOFILE, &files))
		err(1, "RLIMIT_NOFILE");
	none = (struct rlimit){ 0, files.rlim_max };
	setrlimit(RLIMIT_NOFILE, &none);
	if (ioctl(fd, VGPU_BACK_IOC_ACCEPT, &accept) >= 0 || errno != EMFILE)
		warnx("ACCEPT %u: without a descriptor to spare", number);
	setrlimit(RLIMIT_NOFILE, &files);
	session = ioctl(fd, VGPU_BACK_IOC_ACCEPT, &accept);
	if (session < 0) {
		warn("ACCEPT %u", number);
		return;
	}
	if (!fork()) {
		close(fd);
		signal(SIGCHLD, SIG_DFL);
		serve(session);
	}
	close(session);
}

int main(int argc, char **argv)
{
	struct order order = { 0 };
	struct vgpu_back_event event;
	int fd;

	if (argc == 3 && !strcmp(argv[1], "--action"))
		action = argv[2];
	else if (argc != 1)
		errx(2, "usage: drivers-server [--action SCRIPT]");
	signal(SIGCHLD, SIG_IGN);
	/* The one before may have been killed just now. */
	for (int tries = 0; (fd = open("/dev/vgpu-back", O_RDWR | O_CLOEXEC)) < 0 && errno == EBUSY && tries < 200; tries++)
		usleep(100000);
	if (fd < 0)
		err(1, "/dev/vgpu-back");
	if (pipe2(orders, O_NONBLOCK | O_CLOEXEC))
		err(1, "pipe");

	while (read(fd, &event, sizeof(event)) == sizeof(event)) {
		printf("server: event %u zone %u device %u session %u accepted %u memory %llu gpu '%s'\n", event.type,
		       event.zone, event.device, event.session, event.accepted, (unsigned long long)event.memory,
		       event.gpu);
		fflush(stdout);
		if (event.type != VGPU_BACK_SESSION_OPEN || event.accepted)
			continue;
		/* An order was written before its client opened this session. */
		if (read(orders[0], &order, sizeof(order)) != sizeof(order))
			order.op = 0;
		if (order.op == OP_REJECT_NEXT)
			reject(fd, event.session, order.reason);
		else if (order.op != OP_IGNORE_NEXT)
			accept_session(fd, event.session);
	}
	err(1, "reading events");
}
