// SPDX-License-Identifier: Apache-2.0
/* The broker's cgroup as its end leaves it, with whatever controllers this machine's cgroup v2 has. Needs root. */
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "../cgroup.c"
#undef PATH
#include "../zone.c"
#include "tap.h"

struct broker broker = { .root = true, .worker_memory = 1ull << 30, .worker_threads = 100 };
static char warning[512];

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(warning, sizeof(warning), fmt, ap);
	va_end(ap);
}

void session_log(struct session *s, enum log_level level, const char *fmt, ...) { }
void event(const char *name, const struct device *d, const struct session *s, const char *fmt, ...) { }
uint64_t log_now_ns(void) { return 1; }
int watch(struct source *s, int fd, uint32_t events, void (*ready)(struct source *s, uint32_t events)) { return -1; }
void unwatch(struct source *s) { }
void later(void *p) { free(p); }

/* --- a cgroup for it all --- */

static int root, unit;
static char unit_name[32];
static const char *first, *second;	/* controllers; @second may be one that there is not */
static char before[256];		/* what the root is divided by without us */

static int join(int dir, const char *where)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/cgroup.procs", where);
	return write_text(dir, name, "0");
}

static bool whole(void)
{
	char c;
	int fd = openat(unit, "cgroup.subtree_control", O_RDONLY | O_CLOEXEC);
	bool empty = fd >= 0 && read(fd, &c, 1) == 0;

	close(fd);
	return empty;
}

static bool has(const char *name) { return !faccessat(unit, name, F_OK, 0); }

static void read_names(const char *file, char *out, size_t cap)
{
	int fd = openat(root, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, out, cap - 1);

	out[n > 0 ? n : 0] = '\0';
	close(fd);
}

static bool lists(const char *names, const char *name)
{
	const char *at = strstr(names, name);

	return at && (at == names || at[-1] == ' ') && strchr(" \n", at[strlen(name)]);
}

/* Workers' cgroups have pids.max only if pids is what there is. @return why there is nothing to test with, or NULL */
static const char *prepare(void)
{
	static char names[256], line[2 * PATH_MAX];
	char mount[PATH_MAX];

	if (geteuid())
		return "not root";
	if (!find_line("/proc/self/mountinfo", " - cgroup2 ", line, sizeof(line)) ||
	    sscanf(line, "%*s %*s %*s / %4095s", mount) != 1)
		return "no cgroup v2";
	root = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	read_names("cgroup.controllers", names, sizeof(names));
	second = lists(names, "pids") ? "pids" : "no-such";
	first = lists(names, "memory") ? "memory" : strtok(names, " \n");
	if (!first)
		return "no controllers";
	if (!strcmp(first, "pids"))
		second = "no-such";
	read_names("cgroup.subtree_control", before, sizeof(before));
	memory.controller = first;
	threads.controller = second;
	memory.there = threads.there = true;
	if (divide(root) || !memory.there)
		return "cgroup v2 cannot be divided here";
	snprintf(unit_name, sizeof(unit_name), "vgpu-test-%d", getpid());
	if (mkdirat(root, unit_name, 0755))
		return "no cgroup can be made";
	unit = openat(root, unit_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return NULL;
}

/* A worker that @lives on, or one that has ended. */
static pid_t worker_new(bool lives)
{
	struct worker w = { .pid = fork(), .refusals.source.fd = -1 };

	if (!w.pid) {
		pause();
		_exit(0);
	}
	cgroup_worker_new(&w);
	if (!lives) {
		kill(w.pid, SIGKILL);
		waitpid(w.pid, NULL, 0);
		cgroup_worker_gone(&w);
	}
	return w.pid;
}

static void as_systemd_does(void)
{
	pid_t pid;

	mkdirat(unit, OWN, 0755);
	ok(!join(unit, OWN), "the broker begins in a part of its cgroup");
	cgroup_open();
	pid = worker_new(false);
	ok(!whole(), "which it divides");
	cgroup_close();
	ok(whole() && !join(unit, "."), "when it ends the cgroup is whole, and takes processes");

	join(unit, OWN);
	cgroup_open();
	pid = worker_new(true);
	cgroup_close();
	ok(!whole(), "while a worker lives on, which has its limits there, it stays divided");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cgroup_open();
	cgroup_close();
	ok(whole(), "and after the next one no more");
	join(root, ".");
	unlinkat(unit, OWN, AT_REMOVEDIR);
}

static void by_itself(void)
{
	ok(!join(unit, "."), "the broker begins in a cgroup of its own");
	cgroup_open();
	worker_new(false);
	ok(!whole() && has(OWN), "goes into a part of it, and divides it");
	cgroup_close();
	ok(whole() && !has(OWN) && !join(unit, "."), "and at its end it is as it was");
	join(root, ".");
}

static void one_of_two(void)
{
	warning[0] = '\0';
	threads.controller = "no-such";
	join(unit, ".");
	cgroup_open();
	ok(group >= 0 && !whole() && memory.there && !threads.there,
	   "without the one controller there is the other's limit");
	ok(strstr(warning, "no limit of threads:"), "and it is told what has none: %s", warning);
	worker_new(false);
	cgroup_close();
	ok(whole(), "the cgroup is whole again");
	threads.controller = first;
	memory.controller = "no-such";
	join(unit, ".");
	cgroup_open();
	ok(group >= 0 && !whole() && !memory.there && threads.there && strstr(warning, "no limit of host memory:"),
	   "the same the other way round");
	cgroup_close();
	threads.controller = "no-such";
	join(unit, ".");
	cgroup_open();
	ok(group < 0 && strstr(warning, "no limit of host memory and threads:"), "without either there is none");
	ok(whole() && !has(OWN), "and nothing of it stays");
	join(root, ".");
}

int main(void)
{
	const char *why = prepare();

	if (why) {
		printf("ok 1 # SKIP the broker's cgroup: %s\n1..1\n", why);
		return 0;
	}
	printf("# with %s and %s\n", first, second);
	as_systemd_does();
	by_itself();
	one_of_two();
	ok(!unlinkat(root, unit_name, AT_REMOVEDIR), "nothing is left");
	memory.controller = first;
	threads.controller = second;
	if (!lists(before, first))
		control(root, '-', &memory);
	if (!lists(before, second))
		control(root, '-', &threads);
	return tap_done();
}
