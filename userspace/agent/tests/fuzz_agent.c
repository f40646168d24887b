// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile host: mutated requests against the agent half of vgpu-init, with sanitizers, in a sandbox of namespaces and an
 * empty root, since what it is asked to do it does. It may refuse and it may hang up; it may not break.
 *
 *	fuzz_agent [SECONDS [SEED]]
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <unistd.h>

#include "init.h"
#include "mutate.h"
#include "tap.h"

#define A(name)	VGPU_AGENT_A_##name

bool is_pid1;

/* The leak checker stops its own process to look at it, which the first process of a namespace cannot be. */
const char *__asan_default_options(void) __attribute__((visibility("default"), used));
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* ---- Seeds: every request with every attribute once. */

static size_t begin(struct wire_queue *q, uint32_t call, uint16_t type)
{
	return wire_begin(q, call, type, 0);
}

static void seed_create(struct wire_queue *q, uint32_t call, bool container)
{
	size_t begun = begin(q, call, VGPU_AGENT_CREATE), nest;
	uint64_t numbers[5] = { 1, 2, 0, 2, 0 }, limit[3] = { 7, 64, 64 };
	uint8_t bpf[16] = { 0x06, 0, 0, 0, 0, 0, 0xff, 0x7f, 0x06, 0, 0, 0, 0, 0, 0xff, 0x7f };

	wire_string(q, A(NAME), chance(2) ? "a" : "b");
	wire_u32(q, A(FLAGS), chance(16));
	wire_string(q, A(ARG), "/bin/sh");
	wire_string(q, A(ARG), "-c");
	wire_string(q, A(ARG), "echo x; cat");
	wire_string(q, A(ENV), "A=B");
	wire_string(q, A(CWD), "/");
	if (chance(2))
		wire_u32(q, A(TTY), 24 << 16 | 80);
	wire_bytes(q, A(CAPABILITIES), numbers, sizeof(numbers));
	wire_bytes(q, A(RLIMIT), limit, sizeof(limit));
	wire_bytes(q, A(SECCOMP), bpf, sizeof(bpf));
	wire_u32(q, A(USER_ID), 1);
	wire_u32(q, A(EXTRA_GROUP), 5);
	wire_u32(q, A(STOP_SIGNAL), 15);
	if (!container) {
		if (chance(3) == 0)
			wire_string(q, A(JOIN), "a");
	} else {
		wire_string(q, A(ROOT), "/root");
		wire_u32(q, A(NAMESPACES), CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS);
		wire_string(q, A(HOSTNAME), "h");
		nest = wire_nest(q, A(MOUNT));
		wire_string(q, A(PATH), "/x/y");
		wire_string(q, A(SOURCE), "tmpfs");
		wire_string(q, A(FS_TYPE), "tmpfs");
		wire_string(q, A(MOUNT_DATA), "size=4k");
		wire_u64(q, A(MOUNT_FLAGS), MS_NODEV);
		wire_bytes(q, A(MOUNT_RECURSIVE), (uint64_t[]){ MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV }, 16);
		wire_nest_end(q, nest);
		nest = wire_nest(q, A(DEVICE));
		wire_string(q, A(PATH), "/dev/fifo");
		wire_u32(q, A(DEVICE_TYPE), 'p');
		wire_u32(q, A(MODE), 0600);
		wire_nest_end(q, nest);
		wire_string(q, A(MASKED_PATH), "/proc/bus");
		wire_string(q, A(READONLY_PATH), "/x");
	}
	wire_end(q, begun);
}

static void seed_named(struct wire_queue *q, uint32_t call, uint16_t type)
{
	size_t begun = begin(q, call, type);

	wire_string(q, A(NAME), chance(2) ? "a" : "b");
	if (type == VGPU_AGENT_SIGNAL)
		wire_u32(q, A(SIGNAL), 1 + chance(15));
	if (type == VGPU_AGENT_ATTACH || type == VGPU_AGENT_DELETE)
		wire_u32(q, A(FLAGS), chance(2) ? VGPU_AGENT_F_STEAL : VGPU_AGENT_F_KILL);
	if (type == VGPU_AGENT_UPDATE)
		wire_string(q, A(CGROUP), "memory.max=1M");
	wire_end(q, begun);
}

static void seed_file(struct wire_queue *q, uint32_t call, uint16_t type)
{
	size_t begun = begin(q, call, type);

	wire_string(q, A(PATH), chance(2) ? "/f/g" : "/f");
	if (type == VGPU_AGENT_PUT) {
		wire_u32(q, A(FILE_TYPE), 1 + chance(3));
		wire_u32(q, A(MODE), 0644);
		wire_string(q, A(TARGET), "t");
		wire_u32(q, A(FLAGS), VGPU_AGENT_F_PARENTS);
	}
	wire_end(q, begun);
}

static void seed_network(struct wire_queue *q, uint32_t call)
{
	size_t begun = begin(q, call, VGPU_AGENT_NETWORK), nest = wire_nest(q, A(INTERFACE));

	wire_string(q, A(LABEL), "lo");
	wire_u32(q, A(MTU), 1500);
	wire_string(q, A(NET_ADDRESS), "10.1.2.3/24");
	wire_nest_end(q, nest);
	nest = wire_nest(q, A(ROUTE));
	wire_string(q, A(LABEL), "lo");
	wire_string(q, A(NET_ADDRESS), "10.9.0.0/16");
	wire_string(q, A(GATEWAY), "10.1.2.4");
	wire_nest_end(q, nest);
	wire_string(q, A(NAMESERVER), "10.1.2.4");
	wire_string(q, A(SEARCH), "a.b");
	wire_end(q, begun);
}

static void seed_others(struct wire_queue *q, uint32_t call)
{
	size_t begun, nest;

	switch (chance(7)) {
	case 0:
		begun = begin(q, call, VGPU_AGENT_DIAL);
		wire_string(q, A(ADDRESS), chance(2) ? "127.0.0.1" : "::1");
		wire_u32(q, A(PORT), 7);
		wire_end(q, begun);
		break;
	case 1:
		begun = begin(q, call, VGPU_AGENT_MOUNT);
		nest = wire_nest(q, A(MOUNT));
		wire_string(q, A(PATH), "/m/n");
		wire_string(q, A(FS_TYPE), "tmpfs");
		wire_nest_end(q, nest);
		wire_end(q, begun);
		break;
	case 2:
		begun = begin(q, call, VGPU_AGENT_UNMOUNT);
		wire_string(q, A(PATH), "/m/n");
		wire_end(q, begun);
		break;
	case 3:
		wire_frame(q, call, VGPU_AGENT_LIST, 0, NULL, 0);
		break;
	case 4:
		wire_frame(q, call, VGPU_AGENT_EVENTS, 0, NULL, 0);
		break;
	case 5:
		wire_frame(q, call, VGPU_AGENT_STATS, 0, NULL, 0);
		break;
	case 6:
		seed_network(q, call);
		break;
	}
}

static void seed(struct wire_queue *q)
{
	static const uint16_t named[] = { VGPU_AGENT_START, VGPU_AGENT_ATTACH, VGPU_AGENT_WAIT, VGPU_AGENT_SIGNAL, VGPU_AGENT_DELETE,
					  VGPU_AGENT_UPDATE, VGPU_AGENT_STATS };
	uint16_t size[2] = { 10, 20 };
	uint32_t call = 2;

	for (uint32_t i = 1 + chance(8); i; i--)
		switch (chance(8)) {
		case 0: seed_create(q, call++, false); break;
		case 1: seed_create(q, call++, true); break;
		case 2:
		case 3: seed_named(q, call++, named[chance(sizeof(named) / sizeof(named[0]))]); break;
		case 4: seed_file(q, call++, chance(2) ? VGPU_AGENT_PUT : VGPU_AGENT_GET); break;
		case 5: seed_others(q, call++); break;
		case 6:
			wire_frame(q, 2 + chance(call), VGPU_AGENT_DATA, 0, "input\n", 6);
			if (chance(2))
				wire_frame(q, 2 + chance(call), VGPU_AGENT_END, 0, NULL, 0);
			break;
		case 7:
			if (chance(2))
				wire_credit(q, 2 + chance(call), 1 + chance(2), 1 + chance(100000));
			else
				wire_frame(q, 2 + chance(call), VGPU_AGENT_RESIZE, 0, size, sizeof(size));
			if (chance(3) == 0)
				wire_frame(q, 2 + chance(call), VGPU_AGENT_CANCEL, 0, NULL, 0);
			break;
		}
}

/* ---- The agent in its sandbox */

static void copy_file(const char *from, const char *to)
{
	char buf[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0755);
	ssize_t n;

	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			break;
	close(in);
	close(out);
}

static void enter_sandbox(void)
{
	static const int dropped[] = { CAP_SYS_TIME, CAP_SYS_BOOT, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_MKNOD, CAP_SYS_NICE };

	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)) {
		perror("unshare");
		exit(9);
	}
	if (fork()) {
		int status = 0;

		wait(&status);
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (mount("tmpfs", "/mnt", "tmpfs", 0, "size=64m") || mkdir("/mnt/bin", 0755) || mkdir("/mnt/proc", 0755) || mkdir("/mnt/root", 0755) || mkdir("/mnt/etc", 0755))
		exit(9);
	copy_file("/usr/bin/busybox", "/mnt/bin/sh");
	if (mount("proc", "/mnt/proc", "proc", 0, NULL) || mount("/mnt/proc/sys", "/mnt/proc/sys", NULL, MS_BIND, NULL) ||
	    mount(NULL, "/mnt/proc/sys", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL))
		exit(9);
	if (chdir("/mnt") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		exit(9);
	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
		prctl(PR_CAPBSET_DROP, dropped[i]);
	/* By way of an execution the others would stay: what this process itself has goes too. */
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &head, data);
	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
		data[dropped[i] / 32].effective &= ~(1u << dropped[i] % 32);
		data[dropped[i] / 32].permitted &= ~(1u << dropped[i] % 32);
	}
	syscall(SYS_capset, &head, data);
}

static void chld_event(struct source *s, uint32_t events)
{
	struct signalfd_siginfo info;

	if (read(s->fd, &info, sizeof(info)) == sizeof(info))
		process_reap();
}

static void __attribute__((noreturn)) agent(void)
{
	static struct source chld = SOURCE(chld_event);
	bool busy = false;
	sigset_t set;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	loop_init();
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	chld.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	source_watch(&chld, EPOLLIN);
	/* What it has to say about its hosts is as long as the run. */
	if (!getenv("FUZZ_VERBOSE"))
		fclose(stderr);
	if (conn_serve_unix("/sock"))
		exit(9);
	for (;;) {
		loop_round(busy);
		busy = conn_pump();
	}
}

/* ---- The fuzzer, in the same sandbox */

static pid_t agent_pid;

static void start_agent(void)
{
	unlink("/sock");
	agent_pid = fork();
	if (!agent_pid)
		agent();
	for (int i = 0; i < 1000 && access("/sock", F_OK); i++)
		usleep(1000);
}

/* -1: it broke; 0: it ended as it was asked to; 1: it serves. */
static int agent_state(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == agent_pid) {
			agent_pid = 0;
			if (!WIFEXITED(status) || WEXITSTATUS(status))
				printf("# the agent's status: %#x\n", status);
			return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
		}
	return 1;
}

static void converse(int fd, const struct wire_queue *q)
{
	struct timeval limit = { .tv_usec = 4000 };
	char buf[65536];
	size_t sent = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (sent < q->len) {
		/* Cut where it likes: nothing may depend on how a stream is cut. */
		size_t len = 1 + chance(q->len - sent);
		ssize_t n = send(fd, q->data + q->start + sent, len, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		sent += n;
	}
	if (chance(2))
		shutdown(fd, SHUT_WR);
	if (chance(4))
		while (recv(fd, buf, sizeof(buf), 0) > 0)
			;
}

static bool round_of_fuzzing(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "/sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct wire_queue q = { 0 }, hello = { 0 };
	size_t begun = begin(&hello, 1, VGPU_AGENT_HELLO);

	wire_u32(&hello, A(MAGIC), VGPU_AGENT_MAGIC);
	wire_u32(&hello, A(VERSION), VGPU_AGENT_VERSION);
	wire_end(&hello, begun);
	seed(&q);
	if (chance(5))
		mutate(&q);
	if (chance(50))
		wire_put(&hello, q.data + q.start, q.len);
	else
		mutate(&hello);
	if (!connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		converse(fd, &hello);
	close(fd);
	wire_free(&q);
	wire_free(&hello);
	return true;
}

static int fuzz(double seconds)
{
	double end = mutate_clock() + seconds;
	unsigned long rounds = 0, ended = 0;
	int state = 1;

	enter_sandbox();
	start_agent();
	while (mutate_clock() < end && state >= 0) {
		round_of_fuzzing();
		rounds++;
		state = agent_state();
		if (!state) {
			ended++;
			start_agent();
		}
	}
	/* Whatever it has been through: a good host is served. */
	if (state >= 0) {
		struct vgpu_agent_frame f;
		struct wire_queue q = { 0 }, in = { 0 };
		struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "/sock" };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		struct timeval limit = { .tv_sec = 10 };
		size_t begun = begin(&q, 1, VGPU_AGENT_HELLO);
		const uint8_t *payload;
		const char *why;
		char buf[4096];
		ssize_t n = 0;

		wire_u32(&q, A(MAGIC), VGPU_AGENT_MAGIC);
		wire_u32(&q, A(VERSION), VGPU_AGENT_VERSION);
		wire_end(&q, begun);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (!connect(fd, (struct sockaddr *)&sun, sizeof(sun)) && send(fd, q.data, q.len, 0) > 0)
			n = recv(fd, buf, sizeof(buf), 0);
		wire_put(&in, buf, n > 0 ? n : 0);
		ok(wire_next_frame(&in, WIRE_AGENT, &f, &payload, &why) == 1 && f.type == VGPU_AGENT_REPLY, "after %lu mutated conversations (and %lu orderly ends) the agent serves a good host",
		   rounds, ended);
		wire_free(&q);
		wire_free(&in);
		if (agent_state() < 0)
			state = -1;
	}
	ok(state >= 0, "it never broke");
	return tap_done();
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 5;

	mutate_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	if (geteuid()) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	return fuzz(seconds);
}
