// SPDX-License-Identifier: Apache-2.0
/*
 * What a process in a pod finds around it (its terminal, descriptors, home and directory), that its streams never stall, and
 * what it still says at the pod's end; as test_agent.c, without Xen. Needs root.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "codec.h"
#include "pod.h"
#include "tap.h"
#include "vgpuagent.h"

#define A(name)	VGPU_AGENT_A_##name

/* ---- Terminals */

static struct vgpu_agent_mount with_devpts[5] = {
	[4] = { .source = "devpts", .path = "/dev/pts", .type = "devpts", .data = "newinstance,ptmxmode=0666,mode=0620,gid=5" },
};

#define TERMINAL .mounts = with_devpts, .mount_count = 5, .tty = true, .rows = 11, .columns = 22

static void links(void)
{
	ok(sh("for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done", CONTAINER, .mounts = with_devpts, .mount_count = 5) == 0 &&
	   said("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"), "a container's /dev has the links that OCI wants");
	ok(sh("echo through >/dev/stdout; echo wrong >/dev/stderr; [ -e /dev/fd/0 ]", CONTAINER) == 0 && said("through") && strstr(errors, "wrong"), "and they lead to its streams");
}

static void terminals(void)
{
	struct vgpu_agent_spec s = { .name = "box", .args = (const char *[]){ "sleep", "1000", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN, CONTAINER,
				     .mounts = with_devpts, .mount_count = 5 };
	char path[128];

	ok(sh("tty; stty size; ls /dev/pts", CONTAINER, TERMINAL) == 0 && said("/dev/pts/0\r\n11 22\r\n0  ptmx\r\n"), "a container's terminal is one of its own devpts");
	ok(sh("[ /dev/console -ef $(tty) ] && echo said >/dev/console", CONTAINER, TERMINAL) == 0 && said("said"), "and its /dev/console is that terminal");
	ok(sh("[ /dev/console -ef $(tty) ]", CONTAINER, TERMINAL, .readonly_root = true) == 0, "also when its root is read-only");
	ok(sh("echo mine >$(tty) && echo mine too >/dev/stdout", CONTAINER, TERMINAL, .uid = 1234) == 0 && said("mine\r\nmine too"), "it belongs to the user");
	ok(sh("[ ! -c /dev/console ]", CONTAINER, .mounts = with_devpts, .mount_count = 5) == 0, "without a terminal nothing is bound there");

	ok(vgpu_agent_create(pod, &s, &e) > 0, "a container without a terminal runs");
	ok(sh("tty; stty size; [ -c $(tty) ]", .join = "box", .tty = true, .rows = 33, .columns = 44) == 0 && said("/dev/pts/0\r\n33 44\r\n"),
	   "a program with a terminal in it (exec) has one of the container's");
	ok(sh("[ ! /dev/console -ef $(tty) ]", .join = "box", .tty = true, .rows = 33, .columns = 44) == 0, "and is not its console");
	vgpu_agent_delete(pod, "box", VGPU_AGENT_F_KILL, NULL);

	/* What an image may have at these names. */
	ok(sh("stty size", CONTAINER, .tty = true, .rows = 11, .columns = 22) == 0 && said("11 22"), "a container without a devpts has a terminal all the same");
	snprintf(path, sizeof(path), "%s/dev/ptmx", root);
	unlink(path);
	ok(!mkfifo(path, 0666) && sh("stty size", CONTAINER, .tty = true, .rows = 11, .columns = 22) == 0 && said("11 22"), "nothing else is taken for a devpts");
	unlink(path);
	snprintf(path, sizeof(path), "%s/dev/console", root);
	unlink(path);
	ok(!symlink("/etc/passwd", path) && sh("true", CONTAINER, TERMINAL) == -1 && strstr(e.text, "/dev/console"), "a link at the place of /dev/console is refused");
	unlink(path);
}

/* ---- Joining a process whose first thread has ended: what is left of it has no namespaces that could be entered. */

static void *rest(void *unused)
{
	sleep(1000);
	return NULL;
}

static int leader_ends(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, rest, NULL))
		return 1;
	syscall(SYS_exit, 0);
	return 1;
}

static void half_dead(const char *self)
{
	struct vgpu_agent_spec s = { .name = "half", .args = (const char *[]){ self, "--leader-ends", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN,
				     .namespaces = CLONE_NEWUTS, .hostname = "inside" };
	int pid = vgpu_agent_create(pod, &s, &e), code;
	bool zombie = false;
	char script[64];

	snprintf(script, sizeof(script), "grep -q 'State:.Z' /proc/%d/status", pid);
	for (int i = 0; pid > 0 && !zombie && i < 200; i++) {
		usleep(20000);
		zombie = sh(script) == 0;
	}
	ok(zombie, "a process whose first thread has ended");
	code = sh("hostname", .join = "half");
	ok(code == -1 && e.code == ESRCH && strstr(e.text, "half") && strstr(e.text, "first thread"), "is not joined: not in the pod's own root instead, either (%d, %s)",
	   code, code == -1 ? e.text : output);
	vgpu_agent_delete(pod, "half", VGPU_AGENT_F_KILL, NULL);
}

/* ---- Home, directory, owners */

static void put_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	if (!file)
		return;
	fputs(text, file);
	fclose(file);
}

static void home(void)
{
	struct vgpu_agent_mount own[4];
	char passwd[128];

	snprintf(passwd, sizeof(passwd), "%s/passwd", folder);
	put_text(passwd, "root:x:0:0::/a/root:/bin/sh\nother:x:1000:1000::/a/home:/bin/sh\nnone:x:1001:1001:::/bin/sh\n");
	memcpy(own, mounts, sizeof(own));
	own[3].source = passwd;
	ok(sh("echo $HOME", CONTAINER, .mounts = own) == 0 && said("/a/root\n"), "HOME is the user's in the container's passwd");
	ok(sh("echo $HOME", CONTAINER, .mounts = own, .uid = 1000) == 0 && said("/a/home\n"), "by number");
	ok(sh("echo $HOME", CONTAINER, .mounts = own, .user = "other") == 0 && said("/a/home\n"), "or by name");
	ok(sh("echo =$HOME=", CONTAINER, .mounts = own, .uid = 4711) == 0 && said("=/=\n"), "/ of a user who is not there");
	ok(sh("echo =$HOME=", CONTAINER, .mounts = own, .uid = 1001) == 0 && said("=/=\n"), "or has none there");
	ok(sh("echo $HOME", CONTAINER, .mounts = own, .env = (const char *const[]){ "HOME=/given", "PATH=/bin:/usr/bin", NULL }) == 0 && said("/given\n"),
	   "unless the environment says otherwise");
	unlink(passwd);
	ok(!mkfifo(passwd, 0644) && sh("echo =$HOME=", CONTAINER, .mounts = own) == 0 && said("=/=\n"), "a passwd that is no file is not waited for");
	unlink(passwd);
}

static void user(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/private", folder);
	mkdir(path, 0700);
	ok(sh("/bin/pwd", .uid = 1234, .cwd = path) == 0 && said(path), "a directory that is closed to the user is entered all the same");
	rmdir(path);
	ok(sh("echo out >/proc/self/fd/1 && echo err >/proc/self/fd/2", .uid = 1234) == 0 && said("out") && strstr(errors, "err"),
	   "a user who is not root opens its own streams anew");
}

/* A process that waits for its start has nothing of the others: their input ends when their host ends it. */
static void descriptors(void)
{
	struct vgpu_agent_spec cat = { .name = "cat", .args = (const char *[]){ "cat", NULL }, .env = environment, .flags = VGPU_AGENT_F_DELETE };
	struct vgpu_agent_spec waits = { .name = "waits", .args = (const char *[]){ "true", NULL }, .env = environment };
	struct vgpu_agent_call *c = vgpu_agent_run(pod, &cat, &e);
	struct vgpu_agent_exit ended = { .code = 99 };
	int pid = vgpu_agent_create(pod, &waits, &e);
	char script[64];

	snprintf(script, sizeof(script), "ls /proc/%d/fd | wc -l", pid);
	ok(c && pid > 0 && !vgpu_agent_close_input(c, &e) && !vgpu_agent_finish(c, &ended, 5000, &e) && !ended.code, "an input ends although another process waits for its start");
	vgpu_agent_call_free(c);
	ok(sh(script) == 0 && said("4\n"), "which has its streams and its line to the agent, nothing else");
	vgpu_agent_delete(pod, "waits", VGPU_AGENT_F_KILL, NULL);
	/* Not the last command, which the shell would become. */
	ok(sh("ls /proc/$$/fd; true") == 0 && !strcmp(output, "0\n1\n2\n"), "a program has its streams and nothing else");
	ok(sh("ls /proc/$$/fd; true", CONTAINER) == 0 && !strcmp(output, "0\n1\n2\n"), "in a container as well");
}

static char in_tmp[96];

/* A job that takes its time, such as waiting for a disk, has nothing of them, either. */
static void *wait_for_disk(void *unused)
{
	struct vgpu_agent_error error;

	vgpu_agent_mount(pod, &(struct vgpu_agent_mount){ .source = "/dev/no-such-disk", .path = in_tmp, .type = "ext4" }, 1, &error);
	return NULL;
}

static void jobs(void)
{
	struct vgpu_agent_spec cat = { .name = "cat", .args = (const char *[]){ "cat", NULL }, .env = environment, .flags = VGPU_AGENT_F_DELETE };
	struct vgpu_agent_call *c = vgpu_agent_run(pod, &cat, &e);
	struct vgpu_agent_exit ended = { .code = 99 };
	pthread_t thread;

	snprintf(in_tmp, sizeof(in_tmp), "%s/disk", folder);
	pthread_create(&thread, NULL, wait_for_disk, NULL);
	usleep(300000);
	ok(c && !vgpu_agent_close_input(c, &e) && !vgpu_agent_finish(c, &ended, 5000, &e) && !ended.code, "an input ends although a disk is waited for");
	vgpu_agent_call_free(c);
	pthread_join(thread, NULL);
}

/* ---- An end that somebody does not want to hear of. */

static bool is_listed(const char *name)
{
	struct vgpu_agent_process *list = NULL;
	size_t count = 0;
	bool found = false;

	if (vgpu_agent_list(pod, &list, &count, &e))
		return false;
	for (size_t i = 0; i < count; i++)
		found |= !strcmp(list[i].name, name);
	free(list);
	return found;
}

static bool stays_listed(const char *name, bool listed)
{
	for (int i = 0; i < 100 && is_listed(name) != listed; i++)
		usleep(20000);
	return is_listed(name) == listed;
}

/* More than its window: the rest is in the pipe when it ends. */
static void not_reading(void)
{
	struct vgpu_agent_spec s = { .name = "unread", .args = (const char *[]){ "sh", "-c", "head -c 100000 /dev/zero; exit 5", NULL }, .env = environment };
	struct vgpu_agent_exit ended = { 0 };
	struct vgpu_agent_call *c;
	size_t total = 0;
	char buf[65536];
	int stream;
	ssize_t n;

	c = vgpu_agent_run(pod, &s, &e);
	ok(c && !vgpu_agent_wait(pod, "unread", &ended, 5000, &e) && ended.code == 5, "who waits for a process is told of its end, though whoever has its streams does not read");
	ok(vgpu_agent_delete(pod, "unread", 0, &e) == -1 && e.code == EBUSY && strstr(e.text, "read") && is_listed("unread"), "it is not deleted before that one has all (%s)", e.text);
	while (c && (n = vgpu_agent_read(c, &stream, buf, sizeof(buf), 5000, &e)) > 0)
		total += n;
	ok(total == 100000 && !vgpu_agent_finish(c, &ended, 5000, &e) && ended.code == 5, "who is told after everything that it wrote");
	vgpu_agent_call_free(c);
	ok(!vgpu_agent_delete(pod, "unread", 0, &e) && !is_listed("unread"), "then it is");

	s.name = "stuck";
	c = vgpu_agent_run(pod, &s, &e);
	ok(c && !vgpu_agent_wait(pod, "stuck", &ended, 5000, &e) && !vgpu_agent_delete(pod, "stuck", VGPU_AGENT_F_KILL, &e) && !is_listed("stuck"),
	   "one who never reads does not keep it from whoever insists");
	ok(vgpu_agent_finish(c, &ended, 5000, &e) == -1 && e.code == ESTALE, "and is told (%s)", e.text);
	vgpu_agent_call_free(c);

	s.name = "left";
	s.flags = VGPU_AGENT_F_DELETE;
	c = vgpu_agent_run(pod, &s, &e);
	ok(c && !vgpu_agent_wait(pod, "left", &ended, 5000, &e) && ended.code == 5 && is_listed("left"), "one that is to be forgotten stays for whoever has its streams");
	vgpu_agent_call_free(c);
	ok(stays_listed("left", false), "and no longer, when that one leaves without having read");

	/* Somebody takes the streams between the order to delete and the end. */
	s = (struct vgpu_agent_spec){ .name = "doomed", .args = (const char *[]){ "sh", "-c", "head -c 100000 /dev/zero; sleep 1000", NULL }, .env = environment };
	c = vgpu_agent_run(pod, &s, &e);
	usleep(200000);
	ok(c && !vgpu_agent_delete(pod, "doomed", VGPU_AGENT_F_KILL, &e) && stays_listed("doomed", false), "a process is deleted although its streams are full");
	ok(vgpu_agent_finish(c, &ended, 5000, &e) && e.code == ESTALE, "which whoever had them is told");
	vgpu_agent_call_free(c);
}

/* ---- As many processes as there may be: the agent has descriptors for all, and gives back those of one that it could not make. */

static pid_t agent_pid(void)
{
	char path[64];
	FILE *file;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", daemon_pid, daemon_pid);
	file = fopen(path, "r");
	if (file && fscanf(file, "%d", &pid) != 1)
		pid = 0;
	if (file)
		fclose(file);
	return pid;
}

static int agent_descriptors(void)
{
	struct dirent *entry;
	char path[64];
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", agent_pid());
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

/* A moment after its last answer everything that belonged to it is closed. */
static bool has_descriptors(int count)
{
	for (int i = 0; i < 100 && agent_descriptors() != count; i++)
		usleep(20000);
	return agent_descriptors() == count;
}

static void enough_descriptors(void)
{
	struct vgpu_agent_spec s = { .name = "ended", .args = (const char *[]){ "true", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN };
	struct vgpu_agent_spec says = { .name = "says", .args = (const char *[]){ "echo", "kept", NULL }, .env = environment, .flags = VGPU_AGENT_F_RUN };
	struct rlimit before, few;
	struct vgpu_agent_exit ended;
	struct vgpu_agent_call *c;
	char buf[64] = "", want[64];
	int count, stream, refused = 0;

	/* Where nobody may raise it, this machine's own limit is that of both. */
	prlimit(agent_pid(), RLIMIT_NOFILE, NULL, &before);
	snprintf(want, sizeof(want), "1024\n%lu\n", before.rlim_max < 524288 ? (unsigned long)before.rlim_max : 524288ul);
	ok(sh("ulimit -Sn; ulimit -Hn") == 0 && said(want), "a program may have as many descriptors as programs expect");
	ok(before.rlim_cur == before.rlim_max && before.rlim_max > 4096, "and the agent as many as there may be");
	count = agent_descriptors();
	ok(vgpu_agent_create(pod, &s, &e) > 0 && !vgpu_agent_wait(pod, "ended", &ended, 5000, &e) && has_descriptors(count),
	   "a process that has ended with nothing to say needs none (%d, %d)", count, agent_descriptors());
	vgpu_agent_delete(pod, "ended", 0, NULL);
	ok(vgpu_agent_create(pod, &says, &e) > 0 && !vgpu_agent_wait(pod, "says", &ended, 5000, &e) && has_descriptors(count + 1), "what one still has to say is kept");
	c = vgpu_agent_attach(pod, "says", 0, &e);
	ok(c && vgpu_agent_read(c, &stream, buf, sizeof(buf) - 1, 5000, &e) == 5 && !strcmp(buf, "kept\n"), "for whoever attaches");
	vgpu_agent_call_free(c);
	vgpu_agent_delete(pod, "says", 0, NULL);

	/* From none at all to all that one needs. */
	for (int free = 0; free < 9; free++) {
		few = (struct rlimit){ .rlim_cur = count + free, .rlim_max = before.rlim_max };
		prlimit(agent_pid(), RLIMIT_NOFILE, &few, NULL);
		refused += sh("true") == -1 && e.code == EMFILE;
	}
	prlimit(agent_pid(), RLIMIT_NOFILE, &before, NULL);
	ok(refused >= 5 && has_descriptors(count), "what could not be made for want of descriptors leaves none behind (%d, %d of %d)", refused, agent_descriptors(), count);
	ok(sh("echo again") == 0 && said("again"), "and when there are some it works again");
}

/* ---- Signals of the host's program are its own. */

static bool blocks(const char *task, int signal)
{
	char path[300], line[128];
	unsigned long long mask = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "SigBlk: %llx", &mask);
	if (file)
		fclose(file);
	return mask & 1ull << (signal - 1);
}

static void signals(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	int others = 0, open = 0;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != getpid()) {
			others++;
			open += !blocks(entry->d_name, SIGWINCH) || !blocks(entry->d_name, SIGTERM) || !blocks(entry->d_name, SIGCHLD);
		}
	closedir(dir);
	ok(others && !open, "the library's thread takes no signal from the program's own");
}

/* A person at a terminal who makes the window larger. */
static void window(const char *ctl)
{
	const char *script = "trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.05; done";
	struct winsize size = { .ws_row = 20, .ws_col = 60 }, larger = { .ws_row = 50, .ws_col = 132 };
	char all[4096] = "";
	int master, status = 0;
	size_t used = 0;
	bool told = false;
	struct pollfd pfd = { .events = POLLIN };
	ssize_t n;
	pid_t pid;

	vgpu_agent_close(pod);
	pid = forkpty(&master, NULL, NULL, &size);
	pfd.fd = master;
	if (!pid) {
		execl(ctl, ctl, "-w", "5000", "-a", sock, "run", "-T", "sh", "-c", script, (char *)NULL);
		_exit(126);
	}
	/* It ends of itself, or hears of nothing. */
	while (used < sizeof(all) - 1 && poll(&pfd, 1, 10000) == 1 && (n = read(master, all + used, sizeof(all) - 1 - used)) > 0) {
		used += n;
		all[used] = 0;
		if (!told && strstr(all, "ready"))
			told = !ioctl(master, TIOCSWINSZ, &larger);
	}
	close(master);
	waitpid(pid, &status, 0);
	ok(strstr(all, "50 132") && WIFEXITED(status) && WEXITSTATUS(status) == 7, "a program run from a terminal hears of its new size (status %#x)", status);
	if (!strstr(all, "50 132"))
		printf("# %s\n", all);
	connect_pod();
}

/* ---- vgpu-agentctl cp */

static int copy(const char *from, const char *to)
{
	char command[600];
	int status;

	vgpu_agent_close(pod);
	snprintf(command, sizeof(command), "build/bin/vgpu-agentctl -w 5000 -a %s cp %s %s >%s/said 2>&1", sock, from, to, folder);
	status = system(command);
	connect_pod();
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool holds(const char *path, const char *text)
{
	char buf[4096] = "";
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(buf, 1, sizeof(buf) - 1, file) : 0;

	if (file)
		fclose(file);
	return n && strstr(buf, text);
}

static void copies(void)
{
	char to[96], from[96], link[96], said_[96], temporary[160];
	struct stat st;

	snprintf(to, sizeof(to), "%s/to", folder);
	snprintf(from, sizeof(from), ":%s/from", folder);
	snprintf(link, sizeof(link), "%s/link", folder);
	snprintf(said_, sizeof(said_), "%s/said", folder);
	put_text(to, "precious");
	ok(copy(from, to) == 125 && holds(to, "precious"), "a copy that fails leaves the file that was there");
	ok(copy(":/usr", to) == 125 && holds(to, "precious") && holds(said_, "/usr is a directory"), "a directory is not copied, and that is said");
	put_text(from + 1, "new");
	chmod(from + 1, 04750);
	ok(!symlink(to, link) && copy(from, link) == 0 && holds(to, "new") && !lstat(link, &st) && S_ISLNK(st.st_mode), "one that succeeds replaces what a link leads to");
	ok(!stat(to, &st) && (st.st_mode & 07777) == 0750, "with its permissions, but no powers");
	ok(copy(from, folder) == 125 && holds(said_, "name the file"), "nor is a directory taken for a file");
	ok(copy(folder, ":/tmp/never") == 125 && holds(said_, "is a directory") && access("/tmp/never", F_OK), "on the way in, either");
	ok(copy(from, "/dev/null") == 0 && !stat("/dev/null", &st) && S_ISCHR(st.st_mode), "a device stays one");
	snprintf(temporary, sizeof(temporary), "ls %s/to.* %s/link.* /dev/null.* 2>/dev/null", folder, folder);
	ok(system(temporary), "and no temporary file is left");
	unlink(to);
	unlink(from + 1);
	unlink(link);
}

/* ---- A host of our own, who reads when it likes. */

static int raw_connect(struct wire_queue *out)
{
	struct timeval limit = { .tv_sec = 5 };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t begun;

	strcpy(sun.sun_path, sock);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return -1;
	begun = wire_begin(out, 1, VGPU_AGENT_HELLO, 0);
	wire_u32(out, A(MAGIC), VGPU_AGENT_MAGIC);
	wire_u32(out, A(VERSION), VGPU_AGENT_VERSION);
	wire_end(out, begun);
	return fd;
}

static void raw_run(struct wire_queue *out, uint32_t call, const char *script)
{
	size_t begun = wire_begin(out, call, VGPU_AGENT_CREATE, 0);
	char name[16];

	snprintf(name, sizeof(name), "raw%u", call);
	wire_string(out, A(NAME), name);
	wire_u32(out, A(FLAGS), VGPU_AGENT_F_RUN | VGPU_AGENT_F_ATTACH | VGPU_AGENT_F_DELETE);
	wire_string(out, A(ARG), "sh");
	wire_string(out, A(ARG), "-c");
	wire_string(out, A(ARG), script);
	wire_string(out, A(ENV), environment[0]);
	wire_end(out, begun);
}

static bool raw_send(int fd, struct wire_queue *out)
{
	bool sent = send(fd, out->data + out->start, out->len, MSG_NOSIGNAL) == (ssize_t)out->len;

	wire_free(out);
	return sent;
}

struct seen {
	uint64_t bytes;
	unsigned int replies, errors, events;
};

/* Reads what is there (and waits for something). False: nothing came in time, or the connection is over. */
static bool raw_read(int fd, struct wire_queue *in, struct seen *seen)
{
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why;
	ssize_t n = recv(fd, wire_space(in, 1 << 20), 1 << 20, 0);

	if (n <= 0)
		return false;
	wire_added(in, n);
	while (wire_next_frame(in, WIRE_AGENT, &f, &payload, &why) > 0) {
		seen->bytes += f.type == VGPU_AGENT_DATA ? f.length : 0;
		seen->replies += f.type == VGPU_AGENT_REPLY && f.call > 1;
		seen->errors += f.type == VGPU_AGENT_ERROR;
		seen->events += f.type == VGPU_AGENT_EVENT;
		wire_drop(in, wire_size(&f));
	}
	return true;
}

/*
 * Whoever had to wait because the way to the host was full goes on when it is not, also when that was over in the same moment.
 * Each process has written twice a window and ended: one window came, the other waits in its pipe. Then all may go on at once,
 * and four windows are as much as the agent keeps for a host, and a little more than it can send at once.
 */
static void back_pressure(void)
{
	enum { CALLS = 4, BYTES = 2 * VGPU_AGENT_WINDOW };
	struct wire_queue out = { 0 }, in = { 0 };
	struct seen seen = { 0 };
	bool alive = true;
	int fd;

	vgpu_agent_close(pod);
	fd = raw_connect(&out);
	for (uint32_t call = 2; call < 2 + CALLS; call++)
		raw_run(&out, call, "head -c 131072 /dev/zero");
	raw_send(fd, &out);
	while (alive && seen.bytes < CALLS * BYTES / 2)
		alive = raw_read(fd, &in, &seen);
	usleep(500000);
	for (uint32_t call = 2; call < 2 + CALLS; call++)
		wire_credit(&out, call, 1, 2 * VGPU_AGENT_WINDOW);
	raw_send(fd, &out);
	while (alive && seen.replies < CALLS)
		alive = raw_read(fd, &in, &seen);
	ok(alive && seen.bytes == CALLS * BYTES, "%u processes that had to wait for their host all send the rest (%llu bytes, %u ends)", CALLS,
	   (unsigned long long)seen.bytes, seen.replies);
	close(fd);
	wire_free(&in);
	connect_pod();
}

/* The pod ends though nobody waits for its end any more: what its processes say then is sent. */
static void last_words(void)
{
	struct wire_queue out = { 0 }, in = { 0 };
	struct seen seen = { 0 };
	int fd, status = -1;
	size_t begun;

	vgpu_agent_close(pod);
	fd = raw_connect(&out);
	raw_run(&out, 2, "trap 'sleep 0.3; head -c 60000 /dev/zero; exit 3' TERM; while :; do sleep 0.05; done");
	raw_send(fd, &out);
	while (!seen.events && raw_read(fd, &in, &seen))
		;
	usleep(200000);
	begun = wire_begin(&out, 3, VGPU_AGENT_SHUTDOWN, 0);
	wire_u32(&out, A(TIMEOUT_MS), 10000);
	wire_end(&out, begun);
	wire_frame(&out, 3, VGPU_AGENT_CANCEL, 0, NULL, 0);
	raw_send(fd, &out);
	while (raw_read(fd, &in, &seen))
		;
	ok(seen.errors == 1 && seen.bytes == 60000 && seen.replies == 1, "at the pod's end the last output comes, and how the last process ended (%llu bytes, %u replies)",
	   (unsigned long long)seen.bytes, seen.replies);
	close(fd);
	wire_free(&in);
	ok(waitpid(daemon_pid, &status, 0) == daemon_pid && WIFEXITED(status) && !WEXITSTATUS(status), "and the agent ends cleanly");
}

int main(int argc, char **argv)
{
	char *self;

	if (argc > 1 && !strcmp(argv[1], "--leader-ends"))
		return leader_ends();
	self = realpath("/proc/self/exe", NULL);
	if (!begin(argc > 1 ? argv[1] : NULL))
		return tap_failed;
	memcpy(with_devpts, mounts, sizeof(mounts));
	ok(make_root(), "a container's root");
	links();
	terminals();
	half_dead(self);
	home();
	user();
	descriptors();
	jobs();
	not_reading();
	enough_descriptors();
	signals();
	window("build/bin/vgpu-agentctl");
	copies();
	back_pressure();
	last_words();
	remove_folder();
	free(self);
	return tap_done();
}
