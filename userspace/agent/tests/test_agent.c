// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-init's agent half, in namespaces of its own on this machine, driven through libvgpuagent: what a host may ask of a
 * pod, without Xen. Needs root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "codec.h"
#include "pod.h"
#include "tap.h"
#include "vgpuagent.h"

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void basics(void)
{
	const char *cat[] = { "cat", NULL }, *missing[] = { "/does/not/exist", NULL };
	struct vgpu_agent_spec s = { .args = cat };

	ok(vgpu_agent_info(pod)->version == VGPU_AGENT_VERSION, "the agent says hello");
	ok(sh("echo out; echo err >&2; exit 42") == 42 && said("out") && strstr(errors, "err"), "output, errors and exit code come through");
	ok(run_spec(&s, "through the pod") == 0 && said("through the pod"), "input does");
	s = (struct vgpu_agent_spec){ .args = missing };
	ok(run_spec(&s, NULL) == -1 && e.code == ENOENT && strstr(e.text, "/does/not/exist"), "a program that is not there is named");
	ok(sh("kill -SEGV $$") == 128 + SIGSEGV, "the signal that ended it is seen");
	ok(sh("stty size; tty", .tty = true, .rows = 33, .columns = 99) == 0 && said("33 99") && said("/dev/pts/"), "a terminal of the size asked for");
	ok(sh("echo $X; pwd", .env = (const char *const[]){ "X=y z", "PATH=/bin:/usr/bin", NULL }, .cwd = "/usr") == 0 && said("y z\n/usr"),
	   "environment and directory");
	ok(sh("true", .name = "not/a/name") == -1 && e.code == EINVAL, "a name that is none is refused");
	ok(sh("cat; echo done", .no_stdin = true) == 0 && said("done"), "without input it is /dev/null");
}

static void terminal(void)
{
	/* The signal may interrupt a read, which fails then. */
	const char *args[] = { "sh", "-c", "trap 'stty size; again=1' WINCH; echo ready; "
			       "while read line || [ -n \"$again\" ]; do again=; echo got $line; done; echo end", NULL };
	struct vgpu_agent_spec s = { .name = "tty", .args = args, .env = environment, .tty = true, .rows = 24, .columns = 80, .flags = VGPU_AGENT_F_DELETE };
	struct vgpu_agent_call *c = vgpu_agent_run(pod, &s, &e);
	struct vgpu_agent_exit ended = { .code = 99 };
	char buf[1024], all[4096] = "";
	int stream;
	ssize_t n;

	ok(c, "a shell on a terminal");
	if (!c)
		return;
	while (!strstr(all, "ready") && (n = vgpu_agent_read(c, &stream, buf, sizeof(buf) - 1, 5000, &e)) > 0)
		strncat(all, buf, n);
	vgpu_agent_resize(c, 50, 132, &e);
	vgpu_agent_write(c, "hello\n", 6, 5000, &e);
	while (!strstr(all, "got hello") && (n = vgpu_agent_read(c, &stream, buf, sizeof(buf) - 1, 5000, &e)) > 0)
		strncat(all, buf, n);
	ok(strstr(all, "50 132"), "learns that its size has changed");
	ok(strstr(all, "got hello"), "and reads what is typed");
	ok(!vgpu_agent_close_input(c, &e) && !vgpu_agent_finish(c, &ended, 5000, &e) && ended.code == 0, "the end of the input ends it");
	vgpu_agent_call_free(c);
}

#define BULK	(100u << 20)

struct bulk {
	struct vgpu_agent_call *c;
	uint64_t sum;
};

static uint64_t sum_of(const uint8_t *p, size_t len, uint64_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum = sum * 31 + p[i];
	return sum;
}

static void *send_bulk(void *arg)
{
	static uint8_t buf[65536];
	struct bulk *b = arg;

	for (unsigned int i = 0; i < BULK / sizeof(buf); i++) {
		for (size_t j = 0; j < sizeof(buf); j += 4)
			memcpy(buf + j, &(uint32_t){ i * 2654435761u ^ j }, 4);
		b->sum = sum_of(buf, sizeof(buf), b->sum);
		if (vgpu_agent_write(b->c, buf, sizeof(buf), 30000, NULL) < 0)
			break;
	}
	vgpu_agent_close_input(b->c, NULL);
	return NULL;
}

static void bulk(void)
{
	static uint8_t buf[65536];
	const char *args[] = { "cat", NULL };
	struct vgpu_agent_spec s = { .name = "bulk", .args = args, .env = environment, .flags = VGPU_AGENT_F_DELETE };
	struct bulk b = { .c = vgpu_agent_run(pod, &s, &e) };
	struct vgpu_agent_exit ended = { .code = 99 };
	uint64_t sum = 0, total = 0;
	double begun = seconds();
	pthread_t thread;
	int stream;
	ssize_t n;

	if (!b.c) {
		ok(0, "cat is run");
		return;
	}
	pthread_create(&thread, NULL, send_bulk, &b);
	while ((n = vgpu_agent_read(b.c, &stream, buf, sizeof(buf), 30000, &e)) > 0) {
		sum = sum_of(buf, n, sum);
		total += n;
	}
	pthread_join(thread, NULL);
	ok(total == BULK && sum == b.sum && !vgpu_agent_finish(b.c, &ended, 5000, &e) && !ended.code, "100 MiB both ways, unchanged (%.1f s)", seconds() - begun);
	vgpu_agent_call_free(b.c);
}

/* Whoever does not read holds up himself and nobody else. */
static void slow_reader(void)
{
	const char *args[] = { "sh", "-c", "head -c 3000000 /dev/zero; echo finished >&2", NULL };
	struct vgpu_agent_spec s = { .name = "slow", .args = args, .env = environment, .flags = VGPU_AGENT_F_DELETE };
	struct vgpu_agent_call *c = vgpu_agent_run(pod, &s, &e);
	struct vgpu_agent_process *list;
	char buf[65536];
	size_t count, total = 0;
	bool running = false;
	int stream;
	ssize_t n;

	usleep(200000);
	if (!vgpu_agent_list(pod, &list, &count, &e)) {
		for (size_t i = 0; i < count; i++)
			running |= !strcmp(list[i].name, "slow") && list[i].state == VGPU_AGENT_RUNNING;
		free(list);
	}
	ok(c && running, "a program whose output nobody reads waits");
	ok(sh("echo quick") == 0 && said("quick"), "and others do not wait with it");
	while (c && (n = vgpu_agent_read(c, &stream, buf, sizeof(buf), 5000, &e)) > 0)
		total += stream == 1 ? n : 0;
	ok(total == 3000000, "when it is read nothing of it is missing");
	vgpu_agent_call_free(c);
}

static void many(void)
{
	const char *args[] = { "/bin/true", NULL };
	struct vgpu_agent_process *list;
	double begun = seconds();
	size_t count = 99;
	int good = 0;

	for (int i = 0; i < 1000; i++) {
		struct vgpu_agent_spec s = { .name = "many", .args = args };

		good += run_spec(&s, NULL) == 0;
	}
	ok(good == 1000, "1,000 programs, one after the other (%.1f s)", seconds() - begun);
	if (!vgpu_agent_list(pod, &list, &count, &e))
		free(list);
	ok(count == 0, "and the agent remembers none of them");
}

/* Processes of a PID namespace of their own that end at once: maybe before the child that made the namespace has. */
static void short_lives(void)
{
	const char *args[] = { "/bin/true", NULL };
	int good = 0;

	for (int i = 0; i < 100; i++) {
		struct vgpu_agent_spec s = { .name = "short", .args = args, .namespaces = CLONE_NEWPID };
		struct vgpu_agent_exit ended = { .code = 99 };

		if (vgpu_agent_create(pod, &s, &e) <= 0 || vgpu_agent_start(pod, "short", &e) <= 0 ||
		    vgpu_agent_wait(pod, "short", &ended, 10000, &e) || vgpu_agent_delete(pod, "short", 0, &e))
			break;
		good += ended.code == 0;
	}
	ok(good == 100, "100 short lives in PID namespaces of their own are all seen to their end (%s)", good == 100 ? "well" : e.text);
}

/* One connection, many threads: each has its own call and its own program. */
static void *run_some(void *arg)
{
	char name[32], script[32], buf[256], want[32];
	const char *args[] = { "sh", "-c", script, NULL };
	long number = (long)arg, good = 0;

	for (int i = 0; i < 20; i++) {
		struct vgpu_agent_spec s = { .name = name, .args = args, .env = environment, .flags = VGPU_AGENT_F_DELETE };
		struct vgpu_agent_exit ended = { 0 };
		struct vgpu_agent_call *c;
		int stream;
		ssize_t n;

		snprintf(name, sizeof(name), "t%ld", number);
		snprintf(script, sizeof(script), "echo %ld-%d; exit %ld", number, i, number);
		snprintf(want, sizeof(want), "%ld-%d\n", number, i);
		c = vgpu_agent_run(pod, &s, NULL);
		n = c ? vgpu_agent_read(c, &stream, buf, sizeof(buf) - 1, 20000, NULL) : -1;
		buf[n > 0 ? n : 0] = 0;
		good += c && !strcmp(buf, want) && !vgpu_agent_finish(c, &ended, 20000, NULL) && ended.code == number;
		vgpu_agent_call_free(c);
	}
	return (void *)good;
}

static void threads(void)
{
	pthread_t thread[8];
	long good = 0;

	for (long i = 0; i < 8; i++)
		pthread_create(&thread[i], NULL, run_some, (void *)i);
	for (int i = 0; i < 8; i++) {
		void *result;

		pthread_join(thread[i], &result);
		good += (long)result;
	}
	ok(good == 160, "8 threads share a connection, each with its own programs");
}

static void life(void)
{
	const char *args[] = { "sleep", "1000", NULL }, *seven[] = { "sh", "-c", "exit 7", NULL };
	struct vgpu_agent_spec s = { .name = "life", .args = args, .env = environment };
	struct vgpu_agent_exit ended;
	struct vgpu_agent_process *list;
	size_t count = 0;

	ok(vgpu_agent_create(pod, &s, &e) > 0, "a process is created");
	ok(!vgpu_agent_list(pod, &list, &count, &e) && count == 1 && list[0].state == VGPU_AGENT_CREATED, "and waits for its start");
	free(list);
	ok(vgpu_agent_create(pod, &s, &e) == -1 && e.code == EEXIST, "a second one of its name is refused");
	ok(vgpu_agent_start(pod, "life", &e) > 0, "it is started");
	ok(vgpu_agent_start(pod, "life", &e) == -1, "once only");
	ok(vgpu_agent_wait(pod, "life", &ended, 100, &e) == -1 && e.code == ETIMEDOUT, "waiting for it has its time limit");
	ok(vgpu_agent_delete(pod, "life", 0, &e) == -1 && e.code == EBUSY, "while it runs it is not deleted");
	ok(!vgpu_agent_signal(pod, "life", SIGTERM, 0, &e) && !vgpu_agent_wait(pod, "life", &ended, 5000, &e) && ended.signal == SIGTERM && ended.code == 143,
	   "a signal ends it");
	ok(!vgpu_agent_delete(pod, "life", 0, &e) && vgpu_agent_wait(pod, "life", &ended, 100, &e) == -1 && e.code == ENOENT, "then it is deleted and unknown");

	s = (struct vgpu_agent_spec){ .name = "again", .args = seven, .env = environment, .flags = VGPU_AGENT_F_RUN };
	ok(vgpu_agent_create(pod, &s, &e) > 0 && !vgpu_agent_wait(pod, "again", &ended, 5000, &e) && ended.code == 7, "in the background");
	vgpu_agent_close(pod);
	ok(connect_pod() && !vgpu_agent_wait(pod, "again", &ended, 5000, &e) && ended.code == 7, "a host that comes back finds its exit code");
	vgpu_agent_delete(pod, "again", 0, NULL);
}

static void reconnect(void)
{
	const char *args[] = { "sh", "-c", "echo before; read line; echo after $line; exit 3", NULL };
	struct vgpu_agent_spec s = { .name = "stays", .args = args, .env = environment };
	struct vgpu_agent_call *c = vgpu_agent_run(pod, &s, &e);
	struct vgpu_agent_exit ended = { 0 };
	char buf[256] = "";
	int stream;

	ok(c && vgpu_agent_read(c, &stream, buf, sizeof(buf), 5000, &e) == 7, "a process talks to its host");
	vgpu_agent_close(pod);
	ok(connect_pod(), "who goes away and comes back");
	c = vgpu_agent_attach(pod, "stays", 0, &e);
	ok(c && vgpu_agent_write(c, "x\n", 2, 5000, &e) == 2, "attaches to it again");
	memset(buf, 0, sizeof(buf));
	ok(c && vgpu_agent_read(c, &stream, buf, sizeof(buf), 5000, &e) > 0 && !strcmp(buf, "after x\n"), "and goes on where it was");
	ok(c && !vgpu_agent_finish(c, &ended, 5000, &e) && ended.code == 3, "to its end");
	vgpu_agent_call_free(c);
	vgpu_agent_delete(pod, "stays", 0, NULL);

	/* KILL: whoever runs something for himself leaves nothing behind. */
	s = (struct vgpu_agent_spec){ .name = "mine", .args = (const char *[]){ "sleep", "1000", NULL }, .env = environment,
				      .flags = VGPU_AGENT_F_DELETE | VGPU_AGENT_F_KILL };
	c = vgpu_agent_run(pod, &s, &e);
	vgpu_agent_call_free(c);
	for (int i = 0; i < 100; i++) {
		struct vgpu_agent_process *list = NULL;
		size_t count = 99;

		if (!vgpu_agent_list(pod, &list, &count, &e))
			free(list);
		if (!count) {
			ok(1, "what was run for a call ends with it");
			return;
		}
		usleep(20000);
	}
	ok(0, "what was run for a call ends with it");
}

/* ---- What a specification asks for is so, as seen from inside. */

static uint64_t caps(const char *list)
{
	return vgpu_agent_capability(list);
}

static void identity(void)
{
	uint32_t groups[] = { 100, 2000 };
	uint64_t two = caps("CAP_NET_RAW") | caps("chown");
	struct vgpu_agent_rlimit nofile = { .resource = RLIMIT_NOFILE, .soft = 77, .hard = 99 };
	char want[128];

	ok(sh("id -u; id -g; id -G", .uid = 1234, .gid = 4321, .groups = groups, .group_count = 2) == 0 && said("1234\n4321\n4321 100 2000"), "user, group and additional groups");
	ok(sh("id -u; id -G", .user = "daemon") == 0 && said("1\n1"), "a user's name is looked up");
	ok(sh("id", .user = "nobodyatall") == -1 && strstr(e.text, "nobodyatall"), "one that is not there is named");
	snprintf(want, sizeof(want), "CapPrm:\t%016llx\nCapEff:\t%016llx\nCapBnd:\t%016llx", (unsigned long long)two, (unsigned long long)two, (unsigned long long)two);
	ok(sh("cat /proc/self/status", .set_capabilities = true, .bounding = two, .effective = two, .permitted = two) == 0 && said(want), "capabilities: these and no others");
	snprintf(want, sizeof(want), "CapAmb:\t%016llx", (unsigned long long)caps("net_raw"));
	ok(sh("cat /proc/self/status", .uid = 1000, .set_capabilities = true, .bounding = two, .effective = two, .permitted = two, .inheritable = caps("net_raw"), .ambient = caps("net_raw")) == 0 &&
	   said(want) && said("Uid:\t1000"), "an ambient one survives not being root");
	ok(sh("chown 1 /tmp/x", .set_capabilities = true) != 0, "without any root may not even change an owner");
	ok(sh("cat /proc/self/status", .no_new_privs = true) == 0 && said("NoNewPrivs:\t1"), "no_new_privs");
	ok(sh("ulimit -Sn; ulimit -Hn", .rlimits = &nofile, .rlimit_count = 1) == 0 && said("77\n99"), "resource limits");
	ok(sh("umask", .umask = VGPU_AGENT_UMASK | 0137) == 0 && said("0137"), "umask");
	ok(sh("cat /proc/self/oom_score_adj", .set_oom_score_adj = true, .oom_score_adj = 555) == 0 && said("555"), "OOM score");
}

static const char profile[] = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":["
	"{\"names\":[\"mkdir\",\"mkdirat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":95},"
	"{\"names\":[\"sethostname\"],\"action\":\"SCMP_ACT_KILL_PROCESS\"},"
	"{\"names\":[\"no_such_call\"],\"action\":\"SCMP_ACT_ERRNO\"},"
	"{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":1,\"value\":9,\"op\":\"SCMP_CMP_EQ\"}]}]}";

static void filters(void)
{
	uint8_t jump[16] = { 0x05, 0, 0, 0, 0xff, 0, 0, 0, 0x06, 0, 0, 0, 0, 0, 0, 0 };
	void *filter = NULL;
	size_t len = 0;

	ok(!vgpu_agent_seccomp(profile, &filter, &len, &e) && len, "a seccomp profile is compiled");
	ok(sh("mkdir /tmp/never 2>&1; true", .seccomp = filter, .seccomp_len = len) == 0 && said("not supported"), "what it forbids fails with its error");
	ok(sh("hostname nobody", .seccomp = filter, .seccomp_len = len) == 128 + SIGSYS, "or kills");
	ok(sh("sleep 100 & kill -0 $! && kill -9 $! || { kill -15 $!; echo spared; }", .seccomp = filter, .seccomp_len = len) == 0 && said("spared"), "by argument");
	ok(sh("grep Seccomp: /proc/self/status", .seccomp = filter, .seccomp_len = len, .no_new_privs = true, .uid = 1000) == 0 && said("Seccomp:\t2"),
	   "with no_new_privs for a user who may do nothing");
	free(filter);
	ok(sh("true", .seccomp = jump, .seccomp_len = sizeof(jump)) == -1 && e.code == EINVAL, "a filter that jumps out of itself is refused");
	ok(sh("true", .seccomp = jump, .seccomp_len = 7) == -1 && e.code == EINVAL, "as is one of a part of an instruction");
	ok(vgpu_agent_seccomp("{\"defaultAction\":\"SCMP_ACT_NOTHING\"}", &filter, &len, &e) == -1 && strstr(e.text, "SCMP_ACT_NOTHING"), "an action that there is not is named");
	ok(vgpu_agent_seccomp("[", &filter, &len, &e) == -1, "and what is no profile refused");
}

static void containers(void)
{
	struct vgpu_agent_spec s = { .name = "box", .args = (const char *[]){ "sleep", "1000", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN, CONTAINER };
	char path[128];

	if (!make_root())
		return;
	snprintf(path, sizeof(path), "%s/trap", root);
	if (symlink("/etc", path))	/* an absolute link in an image leads into the image, not out of it */
		return;
	ok(sh("echo $$; hostname; ls / | tr '\\n' ' '", CONTAINER) == 0 && said("1\ninside\n") && said("bin dev etc lib lib64 proc sbin tmp trap usr"),
	   "a container is process 1 of its own, with its own name and root");
	ok(sh("ls -A /proc/bus | wc -l; echo 1 >/proc/sys/kernel/panic", CONTAINER) != 0 && said("0\n") && strstr(errors, "Read-only"),
	   "masked paths are empty, read-only ones read-only");
	ok(sh("touch /usr/x", CONTAINER) != 0 && strstr(errors, "Read-only"), "a read-only mount is that");
	ok(sh("touch /ok /tmp/ok && ls /ok", CONTAINER) == 0, "its root can be written");
	ok(sh("touch /no 2>&1; touch /tmp/yes", CONTAINER, .readonly_root = true) == 0 && said("Read-only"), "unless it shall not be");
	ok(sh("pwd", CONTAINER, .cwd = "/made/on/demand") == 0 && said("/made/on/demand"), "its directory is made");
	ok(sh("mount -t tmpfs x /mnt", CONTAINER, .set_capabilities = true) != 0, "without capabilities it mounts nothing");
	ok(sh("ls -ld /etc/evil; cat /proc/1/mounts | grep evil", CONTAINER, .name = "linked",
	      .mounts = (const struct vgpu_agent_mount[]){ mounts[0], mounts[1], { .source = "tmpfs", .path = "/trap/evil", .type = "tmpfs" } }, .mount_count = 3) == 0 &&
	   said("/etc/evil") && access("/etc/evil", F_OK), "a symbolic link of the image does not lead a mount outside");

	ok(vgpu_agent_create(pod, &s, &e) > 0, "a container runs");
	ok(sh("hostname; ls /usr/bin >/dev/null && readlink /proc/1/exe", .join = "box") == 0 && said("inside") && said("sleep"), "exec: in its root and its namespaces");
	ok(sh("kill -9 1; sleep 0.2; readlink /proc/1/exe", .pid_of = "box", .namespaces = CLONE_NEWNS, .mounts = &mounts[1], .mount_count = 1) == 0 && said("sleep"),
	   "a debugger's view: its processes, without its root");
	ok(!vgpu_agent_delete(pod, "box", VGPU_AGENT_F_KILL, &e), "it is ended and deleted in one");
	ok(sh("true", .join = "box") == -1 && strstr(e.text, "box"), "then nobody can join it");
	ok(sh("true", .cgroup = (const char *const[]){ "memory.max=64M", NULL }) == -1, "a limit that cannot be set here is an error");
	ok(sh("true", .device_rules = (const char *const[]){ "c 1:3 rwm", NULL }) == -1, "nor is a rule for devices forgotten");
	ok(sh("true", .root = "/does/not/exist") == -1 && strstr(e.text, "/does/not/exist"), "a root that is not there is named");
	ok(sh("true", .mounts = mounts, .mount_count = 1) == -1 && e.code == EINVAL, "mounts without a namespace of one's own are refused");
}

static void files(void)
{
	struct vgpu_agent_file f = { .type = VGPU_AGENT_FILE, .mode = 0640, .uid = 5, .gid = 6, .mtime_ns = 1000000000ull * 1234567 }, got;
	char from[96], to[96], path[128], command[256];
	int in, out;

	snprintf(from, sizeof(from), "%s/from", folder);
	snprintf(to, sizeof(to), "%s/to", folder);
	snprintf(path, sizeof(path), "%s/a/b/file", folder);
	snprintf(command, sizeof(command), "head -c 5000000 /dev/urandom >%s", from);
	if (system(command))
		return;
	in = open(from, O_RDONLY);
	out = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
	ok(!vgpu_agent_put(pod, NULL, path, &f, in, &e), "a file is copied in, with the folders it needs");
	ok(!vgpu_agent_get(pod, NULL, path, &got, out, &e) && got.mode == 0640 && got.uid == 5 && got.gid == 6 && got.size == 5000000 && got.mtime_ns == f.mtime_ns,
	   "and out again, with all that belongs to it");
	snprintf(command, sizeof(command), "cmp %s %s", from, to);
	ok(!system(command), "unchanged");
	ok(vgpu_agent_get(pod, NULL, "/does/not/exist", &got, out, &e) == -1 && e.code == ENOENT, "one that is not there is an error");
	ok(vgpu_agent_get(pod, NULL, "/dev/zero", &got, out, &e) == -1 && e.code == EINVAL, "a device is refused");
	f = (struct vgpu_agent_file){ .type = VGPU_AGENT_SYMLINK, .target = "one" };
	snprintf(path, sizeof(path), "%s/..data", folder);
	vgpu_agent_put(pod, NULL, path, &f, -1, &e);
	f.target = "two";
	ok(!vgpu_agent_put(pod, NULL, path, &f, -1, &e) && readlink(path, command, sizeof(command)) == 3 && !memcmp(command, "two", 3), "a symbolic link is exchanged");
	f = (struct vgpu_agent_file){ .type = VGPU_AGENT_DIRECTORY, .mode = 0711 };
	snprintf(path, sizeof(path), "%s/dir", folder);
	ok(!vgpu_agent_put(pod, NULL, path, &f, -1, &e) && !access(path, X_OK), "a directory is made");
	close(in);
	close(out);
}

static void *echo_once(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);
	char buf[4096];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(fd, buf, n) != n)
			break;
	close(fd);
	return NULL;
}

static void dialling(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int listener = socket(AF_INET, SOCK_STREAM, 0), stream;
	struct vgpu_agent_call *c;
	pthread_t thread;
	char buf[64] = "";

	if (bind(listener, (struct sockaddr *)&in, len) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&in, &len))
		return;
	pthread_create(&thread, NULL, echo_once, &listener);
	c = vgpu_agent_dial(pod, "localhost", ntohs(in.sin_port), 5000, &e);
	ok(c && vgpu_agent_write(c, "ping", 4, 5000, &e) == 4 && vgpu_agent_read(c, &stream, buf, sizeof(buf), 5000, &e) == 4 && !strcmp(buf, "ping"), "a TCP connection from within");
	ok(c && !vgpu_agent_close_input(c, &e) && vgpu_agent_read(c, &stream, buf, sizeof(buf), 5000, &e) == 0 && !vgpu_agent_finish(c, NULL, 5000, &e), "closed from one end, then the other");
	vgpu_agent_call_free(c);
	pthread_join(thread, NULL);
	close(listener);
	ok(!vgpu_agent_dial(pod, "127.0.0.1", 1, 5000, &e) && e.code == ECONNREFUSED, "where nobody listens it is refused");
	ok(!vgpu_agent_dial(pod, "no.such.name", 1, 5000, &e) && e.code == EINVAL, "names are not looked up");
}

static void figures(void)
{
	struct vgpu_agent_spec s = { .name = "ev", .args = (const char *[]){ "sh", "-c", "exit 9", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN };
	struct vgpu_agent_call *c = vgpu_agent_events(pod, &e);
	struct vgpu_agent_event event;
	struct vgpu_agent_stat *list;
	bool memory = false;
	size_t count = 0;

	ok(vgpu_agent_create(pod, &s, &e) > 0 && c && !vgpu_agent_next_event(c, &event, 5000, &e) && !strcmp(event.name, "ev") && event.ended && event.exit.code == 9,
	   "an event tells of a process's end");
	vgpu_agent_call_free(c);
	vgpu_agent_delete(pod, "ev", 0, NULL);
	if (!vgpu_agent_stats(pod, NULL, &list, &count, &e)) {
		for (size_t i = 0; i < count; i++)
			memory |= !strcmp(list[i].name, "meminfo.MemTotal") && list[i].value > 1 << 20;
		free(list);
	}
	ok(memory, "the pod's figures (%zu of them)", count);
	ok(vgpu_agent_stats(pod, "nobody", &list, &count, &e) == -1 && e.code == ENOENT, "those of a process that is not there are an error");
	ok(vgpu_agent_set_network(pod, &(struct vgpu_agent_network){ .hostname = "renamed" }, &e) == 0 && sh("hostname") == 0 && said("renamed"), "the pod's name is set");
	ok(vgpu_agent_set_network(pod, &(struct vgpu_agent_network){ .interfaces = &(struct vgpu_agent_interface){ .name = "nosuch0" }, .interface_count = 1 }, &e) == -1 &&
	   strstr(e.text, "nosuch0"), "an interface that is not there is named");
}

/* ---- A host that breaks the rules loses its connection, and what runs goes on. */

static bool hostile(const void *bytes, size_t len, bool hello)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct wire_queue q = { 0 };
	struct timeval limit = { .tv_sec = 5 };
	char buf[4096];
	ssize_t n;

	strcpy(sun.sun_path, sock);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return false;
	if (hello) {
		size_t begun = wire_begin(&q, 1, VGPU_AGENT_HELLO, 0);

		wire_u32(&q, VGPU_AGENT_A_MAGIC, VGPU_AGENT_MAGIC);
		wire_u32(&q, VGPU_AGENT_A_VERSION, VGPU_AGENT_VERSION);
		wire_end(&q, begun);
	}
	wire_put(&q, bytes, len);
	if (send(fd, q.data, q.len, MSG_NOSIGNAL) < 0)
		n = 0;
	else
		while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
			;
	wire_free(&q);
	n = n < 0 && errno == ECONNRESET ? 0 : n;
	close(fd);
	return n == 0;
}

static bool hostile_frame(uint32_t length, uint32_t call, uint16_t type, uint16_t stream, bool hello)
{
	static uint8_t bytes[sizeof(struct vgpu_agent_frame) + VGPU_AGENT_DATA_MAX];
	struct vgpu_agent_frame f = { .length = length, .call = call, .type = type, .stream = stream };

	memcpy(bytes, &f, sizeof(f));
	return hostile(bytes, sizeof(f) + (length < VGPU_AGENT_DATA_MAX ? length : 0), hello);
}

static void hostile_hosts(void)
{
	struct vgpu_agent_spec s = { .name = "bystander", .args = (const char *[]){ "sleep", "1000", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN };
	struct vgpu_agent_exit ended;

	ok(vgpu_agent_create(pod, &s, &e) > 0, "a bystander runs");
	vgpu_agent_close(pod);
	ok(hostile("GET / HTTP/1.1\r\n\r\n", 18, false), "who does not speak the protocol is cut off");
	ok(hostile_frame(0, 1, VGPU_AGENT_LIST, 0, false), "who asks before saying hello is");
	ok(hostile_frame(UINT32_MAX, 2, VGPU_AGENT_CREATE, 0, true), "who announces four gigabytes is");
	ok(hostile_frame(0, 2, VGPU_AGENT_REPLY, 0, true), "who answers what nobody asked is");
	ok(hostile_frame(0, 0, VGPU_AGENT_LIST, 0, true), "who uses call 0 is");
	ok(hostile_frame(4, 2, VGPU_AGENT_DATA, 2, true), "who writes to a stream that is not his is");
	ok(connect_pod() && vgpu_agent_signal(pod, "bystander", SIGKILL, 0, &e) == 0 && !vgpu_agent_wait(pod, "bystander", &ended, 5000, &e) && ended.signal == SIGKILL,
	   "after all that the bystander still runs, and the agent serves");
	vgpu_agent_delete(pod, "bystander", 0, NULL);
}

static void the_end(void)
{
	struct vgpu_agent_spec s = { .name = "polite", .args = (const char *[]){ "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done", NULL },
				     .env = environment, .flags = VGPU_AGENT_F_RUN };
	double begun = seconds();
	int status = -1;

	ok(vgpu_agent_create(pod, &s, &e) > 0, "a process that ends when told");
	usleep(200000);
	ok(!vgpu_agent_shutdown(pod, 20000, false, &e) && seconds() - begun < 10, "the pod ends as soon as it has (%.1f s)", seconds() - begun);
	vgpu_agent_close(pod);
	ok(waitpid(daemon_pid, &status, 0) == daemon_pid && WIFEXITED(status) && !WEXITSTATUS(status), "and the agent cleanly (nothing that a sanitizer minds)");
}

int main(int argc, char **argv)
{
	if (!begin(argc > 1 ? argv[1] : NULL))
		return tap_failed;
	basics();
	terminal();
	bulk();
	slow_reader();
	many();
	short_lives();
	threads();
	life();
	reconnect();
	identity();
	filters();
	containers();
	files();
	dialling();
	figures();
	hostile_hosts();
	the_end();
	remove_folder();
	return tap_done();
}
