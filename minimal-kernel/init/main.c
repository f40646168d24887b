// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-init: PID 1 of a pod, and the agent its host talks to.
 *
 *	vgpu-init				as PID 1: starts the pod, serves its host over libxenvchan
 *	vgpu-init --socket PATH [--private]	only the agent, at a UNIX socket; --private: in namespaces of its own
 *	vgpu-init --fd N [--private]		the same at a socket that it inherits
 *	    --cgroup DIR			an own cgroup v2 directory for processes with limits
 *
 * Called poweroff or reboot it asks the pod's PID 1 for that; so the kernel can, when the toolstack asks it.
 */
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

#define DESCRIPTORS	(1u << 20)	/* as many as Linux allows unless it is told otherwise (fs.nr_open) */

bool is_pid1;

static void signal_event(struct source *s, uint32_t events)
{
	struct signalfd_siginfo info;

	if (read(s->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		process_reap();
	else
		power_signal(info.ssi_signo);
}

static struct source signals = SOURCE(signal_event);

static void take_signals(void)
{
	static const int wanted[] = { SIGCHLD, SIGTERM, SIGINT, SIGPWR, SIGUSR1, SIGUSR2 };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		sigaddset(&set, wanted[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	source_watch(&signals, EPOLLIN);
}

/* A process has up to six descriptors here, a call may have two: the kernel's 1,024 are too few for a full table. */
static void raise_descriptors(void)
{
	struct rlimit limit = { .rlim_cur = DESCRIPTORS, .rlim_max = DESCRIPTORS };

	if (!setrlimit(RLIMIT_NOFILE, &limit) || getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void __attribute__((noreturn)) serve(void)
{
	bool busy = false;

	for (;;) {
		loop_round(busy);
		busy = conn_pump();
	}
}

static void __attribute__((noreturn)) pod(void)
{
	struct config config = { 0 };

	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	phase_done("init");
	boot_mounts(&config);
	boot_pulse(&config);
	reboot(RB_DISABLE_CAD);
	boot_root(&config);
	boot_modules(&config);
	cgroup_setup("/sys/fs/cgroup");
	boot_network(&config);
	phase_done("agent");
	conn_serve_vchan(config.agent_node);
	serve();
}

/* As a pod has it, as far as an ordinary machine goes: own processes, own mounts, own names. */
static void enter_private(void)
{
	pid_t pid;
	int status;

	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)) {
		perror("vgpu-init: cannot make namespaces");
		exit(1);
	}
	pid = fork();
	if (pid) {
		signal(SIGTERM, SIG_IGN);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			exit(1);
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, NULL)) {
		perror("vgpu-init: cannot mount the namespace's own /proc");
		exit(1);
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: vgpu-init --socket PATH | --fd N [--private] [--cgroup DIR]\n"
			"       (without arguments it is a pod's first process and nothing else)\n");
	return 2;
}

/* Also as the kernel's static helper for user mode, which is told by its arguments what it stands for. */
static void ask_for_the_end(char **argv)
{
	const char *name = basename(argv[0]);

	if (getpid() == 1)
		return;
	if (!strcmp(name, "poweroff"))
		exit(kill(1, SIGPWR) ? 1 : 0);
	if (!strcmp(name, "reboot"))
		exit(kill(1, SIGINT) ? 1 : 0);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "fd", required_argument, NULL, 'f' },
		{ "private", no_argument, NULL, 'p' },
		{ "cgroup", required_argument, NULL, 'c' },
		{ 0 },
	};
	const char *socket = NULL, *cgroup = NULL;
	bool private = false;
	int fd = -1, option;

	ask_for_the_end(argv);
	is_pid1 = getpid() == 1 && argc < 2;
	/* The kernel passes words of its command line on; as PID 1 none of them is for us. */
	if (getpid() == 1 && (argc < 2 || argv[1][0] != '-' || !argv[1][1] || argv[1][1] != '-'))
		is_pid1 = true;
	while (!is_pid1 && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option) {
		case 's': socket = optarg; break;
		case 'f': fd = atoi(optarg); break;
		case 'p': private = true; break;
		case 'c': cgroup = optarg; break;
		default: return usage();
		}
	if (!is_pid1 && !socket == (fd < 0))
		return usage();
	if (private)
		enter_private();
	raise_descriptors();
	loop_init();
	take_signals();
	if (getrandom(&boot_id, sizeof(boot_id), 0) != sizeof(boot_id))
		boot_id = wall_ns();
	if (is_pid1)
		pod();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (cgroup)
		cgroup_setup(cgroup);
	if (socket ? conn_serve_unix(socket) : conn_serve_fd(fd)) {
		fprintf(stderr, "vgpu-init: cannot serve %s: %s\n", socket ?: "that descriptor", strerror(errno));
		return 1;
	}
	serve();
}
