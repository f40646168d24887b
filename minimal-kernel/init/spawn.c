// SPDX-License-Identifier: Apache-2.0
/* In the child: from a fork of PID 1 to the program, with everything its specification asks for, or a sentence why not. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/close_range.h>
#include <unistd.h>

#include "init.h"

static int sync_fd;

static void tell(uint32_t type, pid_t pid, const struct failure *f)
{
	struct sync_message m = { .type = type, .pid = pid };

	if (f)
		m.failure = *f;
	if (send(sync_fd, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
		_exit(126);
}

static int send_terminal(int master, struct failure *f)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct sync_message m = { .type = SYNC_TERMINAL };
	struct iovec iov = { .iov_base = &m, .iov_len = sizeof(m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.head), &master, sizeof(master));
	return sendmsg(sync_fd, &msg, MSG_NOSIGNAL) == sizeof(m) ? 0 : fail(f, "cannot pass its terminal to the agent");
}

static void await(uint32_t type)
{
	struct sync_message m;
	ssize_t n;

	do
		n = recv(sync_fd, &m, sizeof(m), 0);
	while (n < 0 && errno == EINTR);
	/* Without the agent there is nobody to be a process for. */
	if (n != sizeof(m) || m.type != type)
		_exit(126);
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < 65; i++)
		if (i != SIGKILL && i != SIGSTOP)
			signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), result;

	if (fd < 0)
		return -1;
	result = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
	close(fd);
	return result;
}

static int enter_cgroup(int procs, const struct spawn *s, struct failure *f)
{
	return procs >= 0 && write(procs, "0", 1) != 1 ? fail(f, "cannot enter the cgroup %s", s->cgroup_procs) : 0;
}

static int pidfd_of(pid_t pid, struct failure *f)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? fail(f, "cannot reach process %d", pid) : fd;
}

/*
 * Only what differs is joined: the kernel refuses a mount namespace that is one's own while a descriptor shares it. A process
 * whose first thread has ended has no namespaces any more that could be seen, and must not pass for one that has the pod's.
 */
static int join_namespaces(const char *name, pid_t pid, struct failure *f)
{
	static const struct { int flag; const char *name; } kinds[] = {
		{ CLONE_NEWCGROUP, "cgroup" }, { CLONE_NEWIPC, "ipc" }, { CLONE_NEWUTS, "uts" }, { CLONE_NEWNET, "net" },
		{ CLONE_NEWPID, "pid" }, { CLONE_NEWNS, "mnt" },
	};
	int fd = pidfd_of(pid, f), flags = 0;

	if (fd < 0)
		return -1;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char theirs[64], ours[64];
		struct stat a, b;

		snprintf(theirs, sizeof(theirs), "/proc/%d/ns/%s", pid, kinds[i].name);
		snprintf(ours, sizeof(ours), "/proc/self/ns/%s", kinds[i].name);
		if (stat(ours, &b))
			continue;	/* this kernel has no such kind */
		if (stat(theirs, &a))
			return refuse(f, ESRCH, "cannot join %s (process %d): it has ended, or its first thread has, and with that "
				      "the way into its %s namespace; start it again", name, pid, kinds[i].name);
		if (a.st_ino != b.st_ino)
			flags |= kinds[i].flag;
	}
	if (flags && setns(fd, flags))
		return fail(f, "cannot join the namespaces of %s (process %d)", name, pid);
	close(fd);
	return flags;
}

/* A new PID namespace is for children: one more fork, whose child is the agent's own, not this one's. */
static void fork_into_namespace(void)
{
	pid_t pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	struct failure f;

	if (pid < 0) {
		fail(&f, "cannot fork into the PID namespace");
		tell(SYNC_FAILED, 0, &f);
		_exit(126);
	}
	if (pid) {
		tell(SYNC_PID, pid, NULL);
		_exit(0);
	}
}

/*
 * Namespaces and cgroup, then the PID as the agent sees it. @procs is the cgroup's file; a process that joins another enters
 * it later (set_up()), since what devices the other may use is no matter of its terminal's. A cgroup namespace of one's own is
 * made within the cgroup.
 */
static int enter(int procs, const struct spawn *s, struct failure *f)
{
	const struct spec *spec = s->spec;
	bool other_pids = spec->namespaces & CLONE_NEWPID;
	int joined, fd;

	if (!s->join_pid && enter_cgroup(procs, s, f))
		return -1;
	if (s->join_pid) {
		joined = join_namespaces(spec->join, s->join_pid, f);
		if (joined < 0)
			return -1;
		other_pids = joined & CLONE_NEWPID;
	}
	if (s->pid_of_pid) {
		fd = pidfd_of(s->pid_of_pid, f);
		if (fd < 0)
			return -1;
		if (setns(fd, CLONE_NEWPID))
			return fail(f, "cannot join the PID namespace of %s", spec->pid_of);
		close(fd);
		other_pids = true;
	}
	if (spec->namespaces && unshare(spec->namespaces))
		return fail(f, "cannot make namespaces (flags %#x)", spec->namespaces);
	if (other_pids)
		fork_into_namespace();
	else
		tell(SYNC_PID, getpid(), NULL);
	await(SYNC_GO);
	return 0;
}

static int take_stdio(const struct spawn *s, struct failure *f)
{
	for (int i = 0; i < 3; i++)
		if (s->stdio[i] >= 0 && dup2(s->stdio[i], i) < 0)
			return fail(f, "cannot pass the standard streams");
	return 0;
}

/* Process 1's descriptors end with exec only, and until then others would wait for their ends. */
void close_others(int keep)
{
	if (keep > 3)
		close_range(3, (unsigned int)keep - 1, 0);
	close_range((unsigned int)keep + 1, ~0u, 0);
}

/* Its pipes and its terminal are the user's: they are opened anew as /dev/stdout and by ttyname(). */
static void give_stdio(uid_t uid)
{
	struct stat st;

	for (int i = 0; i < 3; i++)
		if (!fstat(i, &st) && (S_ISFIFO(st.st_mode) || isatty(i)) && fchown(i, uid, (gid_t)-1))
			continue;	/* where that can't be, it is as it was */
}

static int set_sysctls(const struct spec *s, struct failure *f)
{
	for (size_t i = 0; i < s->sysctls.count; i++) {
		const char *setting = *LIST_ITEM(&s->sysctls, const char *, i), *value = strchr(setting, '=');
		char path[256];
		int len = value ? value - setting : 0;

		snprintf(path, sizeof(path), "/proc/sys/%.*s", len, setting);
		for (char *c = path + strlen("/proc/sys/"); *c; c++)
			if (*c == '.')
				*c = '/';
			else if (*c == '/')
				*c = '.';
		if (!value || !len || strstr(path, "..") || write_file(path, value + 1))
			return fail(f, "cannot set the sysctl %.200s", setting);
	}
	return 0;
}

/* The program's file: as execvp() would find it, with the process's own PATH. */
static int execute(const struct spec *s, const struct identity *id, struct failure *f)
{
	char **argv = calloc(s->args.count + 1, sizeof(*argv)), **env = calloc(s->env.count + 1, sizeof(*env)), *home;

	if (!argv || !env)
		return fail(f, "cannot pass its arguments");
	for (size_t i = 0; i < s->args.count; i++)
		argv[i] = *LIST_ITEM(&s->args, char *, i);
	for (size_t i = 0; i < s->env.count; i++)
		env[i] = *LIST_ITEM(&s->env, char *, i);
	environ = env;
	home = getenv("HOME");
	if (!home || !*home)
		setenv("HOME", id->home, 1);
	if (!getenv("PATH") && !strchr(argv[0], '/')) {
		setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
		execvp(argv[0], argv);
	}
	execvp(argv[0], argv);
	return fail(f, "cannot execute %.200s", argv[0]);
}

static int set_up(const struct spawn *s, struct failure *f)
{
	const struct spec *spec = s->spec;
	int dev = -1, procs = -1, master;
	struct identity id;
	bool there;

	/* Directories and devices made for it are as they are always made; its own mask comes with its limits. */
	umask(022);
	if (take_stdio(s, f))
		return -1;
	close_others(s->sync);
	/* What is the pod's and cannot be found from within other mounts. */
	if (s->has_tty)
		dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->cgroup_procs) {
		procs = open(s->cgroup_procs, O_WRONLY | O_CLOEXEC);
		if (procs < 0)
			return fail(f, "cannot open %s", s->cgroup_procs);
	}
	if (enter(procs, s, f))
		return -1;
	setsid();
	if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)))
		return fail(f, "cannot set the host name %.100s", spec->hostname);
	if (set_sysctls(spec, f))
		return -1;
	if (spec->namespaces & CLONE_NEWNS && rootfs_enter(spec, f))
		return -1;
	if (s->has_tty) {
		master = terminal_open(spec, dev, f);
		if (master < 0 || send_terminal(master, f))
			return -1;
	}
	if (s->join_pid && enter_cgroup(procs, s, f))
		return -1;
	/* The way out of its root: gone before anything of it runs. */
	close_others(s->sync);
	/* What cannot be made here is missed where it is entered. */
	if (spec->cwd && spec->root)
		make_directories(-1, spec->cwd, 0755);
	if (spec->namespaces & CLONE_NEWNS && rootfs_seal(spec, f))
		return -1;
	if (creds_look_up(spec, &id, f) || creds_limits(spec, f))
		return -1;
	give_stdio(id.uid);
	tell(SYNC_READY, 0, NULL);
	await(SYNC_START);
	/* As root, whom a directory of its own may be closed to the user; and as the user, where root is nobody (9p). */
	there = !chdir(spec->cwd ?: "/");
	if (creds_drop(spec, &id, f))
		return -1;
	if (!there && chdir(spec->cwd ?: "/"))
		return fail(f, "cannot change to the directory %.200s", spec->cwd);
	return execute(spec, &id, f);
}

void spawn_child(const struct spawn *s)
{
	struct failure f = { 0 };

	sync_fd = s->sync;
	reset_signals();
	set_up(s, &f);
	tell(SYNC_FAILED, 0, &f);
	_exit(127);
}
