// SPDX-License-Identifier: Apache-2.0
/* Running programs: run, create, exec, attach, dial. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

static struct vgpu_agent_call *call;
static struct termios saved;
static bool raw;

/* ---- The streams */

static void *pump_input(void *unused)
{
	char buf[VGPU_AGENT_DATA_MAX];
	ssize_t n;

	while ((n = read(0, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || vgpu_agent_write(call, buf, n, -1, NULL) < 0)
			break;
	}
	vgpu_agent_close_input(call, NULL);
	return NULL;
}

static void *watch_size(void *unused)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	while (!sigwait(&set, &number)) {
		struct winsize size;

		if (!ioctl(0, TIOCGWINSZ, &size))
			vgpu_agent_resize(call, size.ws_row, size.ws_col, NULL);
	}
	return NULL;
}

static void restore(void)
{
	if (raw)
		tcsetattr(0, TCSANOW, &saved);
}

static void make_raw(void)
{
	struct termios t;

	if (tcgetattr(0, &saved))
		return;
	t = saved;
	cfmakeraw(&t);
	raw = !tcsetattr(0, TCSANOW, &t);
	atexit(restore);
}

/* Both ways until the call ends; then the exit status. @input: this command's own input goes there. */
static int stream(bool input, bool terminal, bool has_exit)
{
	struct vgpu_agent_exit ended = { 0 };
	struct vgpu_agent_error e = { 0 };
	char buf[VGPU_AGENT_DATA_MAX];
	pthread_t thread;
	int which;
	ssize_t n;

	if (terminal) {
		sigset_t set;

		make_raw();
		sigemptyset(&set);
		sigaddset(&set, SIGWINCH);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		pthread_create(&thread, NULL, watch_size, NULL);
	}
	if (!input)
		vgpu_agent_close_input(call, NULL);
	else
		pthread_create(&thread, NULL, pump_input, NULL);
	while ((n = vgpu_agent_read(call, &which, buf, sizeof(buf), -1, &e)) > 0)
		/* Nobody reads any more: the program still gets its chance to end. */
		write_all(which, buf, n);
	if (!n)
		n = vgpu_agent_finish(call, has_exit ? &ended : NULL, -1, &e);
	restore();
	raw = false;
	if (n < 0)
		return failed("the program's end was not seen", &e);
	if (ended.oom)
		fprintf(stderr, "vgpu-agentctl: the kernel killed %u time%s for want of memory within the limit\n", ended.oom, ended.oom > 1 ? "s" : "");
	return ended.code;
}

/* ---- What to run */

struct words {
	const char **args, **env, **cgroup, **masked, **readonly, **sysctls, **device_rules;
	struct vgpu_agent_mount mounts[64];
	struct vgpu_agent_rlimit rlimits[32];
	uint32_t groups[64];
	char name[64];
};

static uint64_t capabilities(const char *text)
{
	char *copy = strdup(text), *word, *rest;
	uint64_t set = 0, bit;

	for (word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		bit = vgpu_agent_capability(word);
		if (!bit && strcasecmp(word, "none")) {
			fprintf(stderr, "vgpu-agentctl: there is no capability %s\n", word);
			exit(EXIT_USAGE);
		}
		set |= bit;
	}
	free(copy);
	return set;
}

static uint32_t namespaces(const char *text)
{
	static const struct { const char *name; uint32_t flag; } kinds[] = {
		{ "mount", CLONE_NEWNS }, { "pid", CLONE_NEWPID }, { "uts", CLONE_NEWUTS }, { "ipc", CLONE_NEWIPC },
		{ "cgroup", CLONE_NEWCGROUP }, { "net", CLONE_NEWNET },
	};
	uint32_t flags = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strstr(text, kinds[i].name))
			flags |= kinds[i].flag;
	return flags;
}

static void add_mount(struct vgpu_agent_spec *s, struct words *w, char *text)
{
	struct vgpu_agent_mount *m = &w->mounts[s->mount_count];
	char *part[4] = { NULL }, *data = malloc(4096);
	struct vgpu_agent_error e;

	for (int i = 0; i < 4 && text; i++)
		part[i] = strsep(&text, ":");
	if (s->mount_count == 64 || !part[1] || !data) {
		fprintf(stderr, "vgpu-agentctl: --mount SOURCE:PATH[:TYPE[:OPTIONS]]\n");
		exit(EXIT_USAGE);
	}
	m->source = *part[0] ? part[0] : NULL;
	m->path = part[1];
	m->type = part[2] && *part[2] ? part[2] : NULL;
	/* Without a type it is bound with all below it, unless the options say "bind". */
	if (m->source && !m->type)
		m->flags = MS_BIND | MS_REC;
	if (vgpu_agent_mount_options(part[3] ?: "", m, data, 4096, &e)) {
		fprintf(stderr, "vgpu-agentctl: --mount %s:%s: %s\n", part[0], part[1], e.text);
		exit(EXIT_USAGE);
	}
	s->mount_count++;
}

static void add_rlimit(struct vgpu_agent_spec *s, struct words *w, const char *text)
{
	static const char *const names[] = { "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
					     "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime" };
	struct vgpu_agent_rlimit *r = &w->rlimits[s->rlimit_count];
	unsigned long long soft, hard;
	char name[32];

	for (size_t i = 0; i < 16; i++)
		if (sscanf(text, "%31[a-z]=%llu:%llu", name, &soft, &hard) == 3 && !strcmp(name, names[i]) && s->rlimit_count < 32) {
			*r = (struct vgpu_agent_rlimit){ .resource = i, .soft = soft, .hard = hard };
			s->rlimit_count++;
			return;
		}
	fprintf(stderr, "vgpu-agentctl: --rlimit NAME=SOFT:HARD, for example nofile=1024:4096\n");
	exit(EXIT_USAGE);
}

static void load_seccomp(struct vgpu_agent_spec *s, const char *path)
{
	FILE *file = fopen(path, "re");
	struct vgpu_agent_error e;
	char *text = NULL;
	size_t size = 0;
	void *filter;

	if (!file || getdelim(&text, &size, 0, file) < 0) {
		fprintf(stderr, "vgpu-agentctl: cannot read %s: %s\n", path, strerror(errno));
		exit(EXIT_USAGE);
	}
	fclose(file);
	if (vgpu_agent_seccomp(text, &filter, &s->seccomp_len, &e)) {
		fprintf(stderr, "vgpu-agentctl: %s: %s\n", path, e.text);
		exit(EXIT_USAGE);
	}
	s->seccomp = filter;
	free(text);
}

enum { O_ROOT = 256, O_MOUNT, O_CAPS, O_NNP, O_RLIMIT, O_CGROUP, O_MASK, O_READONLY, O_RO_ROOT, O_SECCOMP, O_NS, O_HOSTNAME, O_SYSCTL,
       O_UMASK, O_PIDOF, O_GROUP, O_JOIN, O_AMBIENT, O_OOM, O_DEVICES, O_HELP };

static const struct option run_options[] = {
	{ "root", required_argument, NULL, O_ROOT }, { "mount", required_argument, NULL, O_MOUNT },
	{ "caps", required_argument, NULL, O_CAPS }, { "ambient", required_argument, NULL, O_AMBIENT },
	{ "no-new-privs", no_argument, NULL, O_NNP }, { "rlimit", required_argument, NULL, O_RLIMIT },
	{ "cgroup", required_argument, NULL, O_CGROUP }, { "mask", required_argument, NULL, O_MASK },
	{ "readonly", required_argument, NULL, O_READONLY }, { "readonly-root", no_argument, NULL, O_RO_ROOT },
	{ "seccomp", required_argument, NULL, O_SECCOMP }, { "namespaces", required_argument, NULL, O_NS },
	{ "hostname", required_argument, NULL, O_HOSTNAME }, { "sysctl", required_argument, NULL, O_SYSCTL },
	{ "umask", required_argument, NULL, O_UMASK }, { "pid-of", required_argument, NULL, O_PIDOF },
	{ "group", required_argument, NULL, O_GROUP }, { "join", required_argument, NULL, O_JOIN },
	{ "oom-score-adj", required_argument, NULL, O_OOM }, { "devices", required_argument, NULL, O_DEVICES },
	{ "help", no_argument, NULL, O_HELP }, { 0 },
};

static int run_usage(void)
{
	fprintf(stderr, "usage: vgpu-agentctl run|create|exec [OPTIONS] PROGRAM [ARGS]\n"
		"  -n NAME                its name in the pod [made up, and forgotten at its end]\n"
		"  -t ROWSxCOLUMNS, -T    a terminal of that size, or of this one's\n"
		"  -e NAME=VALUE, -d DIR  environment, working directory\n"
		"  -u USER[:GROUP]        names or numbers, looked up in its root\n"
		"  -i                     no input: /dev/null\n"
		"  -b                     in the background: its name is printed, its streams wait for `attach`\n"
		"  --root DIR, --readonly-root, --mount SOURCE:PATH[:TYPE[:OPTIONS]], --mask PATH, --readonly PATH\n"
		"  --caps NAME,…|all|none, --ambient NAME,…, --no-new-privs, --seccomp PROFILE.json, --rlimit NAME=SOFT:HARD\n"
		"  --cgroup FILE=VALUE    as cgroup v2 has them: memory.max=64M, pids.max=20, cpu.max=\"50000 100000\"\n"
		"  --devices \"c 1:3 rwm\"    these devices and no others\n"
		"  --namespaces mount,pid,uts,ipc,cgroup,net, --pid-of NAME, --hostname NAME, --sysctl NAME=VALUE\n"
		"  --umask OCTAL, --group GID, --oom-score-adj N, --join NAME\n");
	return EXIT_USAGE;
}

/* False: it was not an option of the long kind. */
static bool long_option(int option, struct vgpu_agent_spec *s, struct words *w)
{
	switch (option) {
	case O_ROOT: s->root = optarg; break;
	case O_MOUNT: add_mount(s, w, optarg); break;
	case O_CAPS:
		s->set_capabilities = true;
		s->bounding = s->effective = s->permitted = capabilities(optarg);
		break;
	case O_AMBIENT: s->ambient = s->inheritable = capabilities(optarg); break;
	case O_NNP: s->no_new_privs = true; break;
	case O_RLIMIT: add_rlimit(s, w, optarg); break;
	case O_CGROUP: add(&w->cgroup, optarg); break;
	case O_MASK: add(&w->masked, optarg); break;
	case O_READONLY: add(&w->readonly, optarg); break;
	case O_RO_ROOT: s->readonly_root = true; break;
	case O_SECCOMP: load_seccomp(s, optarg); break;
	case O_NS: s->namespaces = namespaces(optarg); break;
	case O_HOSTNAME: s->hostname = optarg; break;
	case O_DEVICES: add(&w->device_rules, optarg); break;
	case O_SYSCTL: add(&w->sysctls, optarg); break;
	case O_UMASK: s->umask = VGPU_AGENT_UMASK | strtol(optarg, NULL, 8); break;
	case O_PIDOF: s->pid_of = optarg; break;
	case O_GROUP:
		if (s->group_count < 64)
			w->groups[s->group_count++] = atoi(optarg);
		break;
	case O_JOIN: s->join = optarg; break;
	case O_OOM: s->set_oom_score_adj = true; s->oom_score_adj = atoi(optarg); break;
	default: return false;
	}
	return true;
}

static void terminal_size(struct vgpu_agent_spec *s)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	ioctl(0, TIOCGWINSZ, &size);
	s->tty = true;
	s->rows = size.ws_row;
	s->columns = size.ws_col;
}

int command_run(int argc, char **argv)
{
	static struct words w;
	struct vgpu_agent_spec s = { .args = NULL };
	struct vgpu_agent_error e = { 0 };
	bool background = false, only_create = !strcmp(argv[0], "create"), ours = false, terminal = false;
	unsigned int rows, columns;
	struct vgpu_agent *a;
	struct timespec now;
	int option;

	if (!strcmp(argv[0], "exec")) {
		if (argc < 2)
			return usage_of("exec");
		s.join = argv[1];
		argv++;
		argc--;
	}
	while ((option = getopt_long(argc, argv, "+n:t:Te:d:u:ib", run_options, NULL)) != -1)
		switch (option) {
		case 'n': s.name = optarg; break;
		case 'T': terminal_size(&s); terminal = true; break;
		case 'e': add(&w.env, optarg); break;
		case 'd': s.cwd = optarg; break;
		case 'u': s.user = optarg; break;
		case 'i': s.no_stdin = true; break;
		case 'b': background = true; break;
		case 't':
			if (sscanf(optarg, "%ux%u", &rows, &columns) != 2)
				return run_usage();
			s.tty = true;
			s.rows = rows;
			s.columns = columns;
			break;
		default:
			if (!long_option(option, &s, &w))
				return run_usage();
		}
	if (optind == argc)
		return run_usage();
	for (; optind < argc; optind++)
		add(&w.args, argv[optind]);
	if (!s.name) {
		clock_gettime(CLOCK_REALTIME, &now);
		snprintf(w.name, sizeof(w.name), "run-%d-%lx%lx", getpid(), (long)now.tv_sec, now.tv_nsec);
		s.name = w.name;
		ours = !background && !only_create;
	}
	s.args = w.args;
	s.env = w.env;
	s.cgroup = w.cgroup;
	s.masked = w.masked;
	s.readonly = w.readonly;
	s.sysctls = w.sysctls;
	s.device_rules = w.device_rules;
	s.mounts = w.mounts;
	s.rlimits = w.rlimits;
	s.groups = w.groups;

	a = open_pod();
	if (background || only_create) {
		s.flags = background ? VGPU_AGENT_F_RUN : 0;
		if (vgpu_agent_create(a, &s, &e) < 0)
			return failed("run", &e) == EXIT_FAILED && e.code == ENOENT ? 127 : EXIT_FAILED;
		printf("%s\n", s.name);
		vgpu_agent_close(a);
		return 0;
	}
	s.flags = ours ? VGPU_AGENT_F_DELETE | VGPU_AGENT_F_KILL : 0;
	call = vgpu_agent_run(a, &s, &e);
	if (!call) {
		if (e.code == ECONNRESET || e.code == EPROTO)
			return failed("the pod is lost", &e);
		/* As a shell would: 127 not there, 126 there and not to be run. */
		failed("run", &e);
		return e.code == ENOENT ? 127 : e.code == EACCES || e.code == ENOEXEC ? 126 : EXIT_FAILED;
	}
	return stream(!s.no_stdin, terminal, true);
}

int command_attach(int argc, char **argv)
{
	bool steal = argc > 1 && !strcmp(argv[1], "-s");
	struct vgpu_agent_error e = { 0 };

	if (argc != 2 + steal)
		return usage_of("attach");
	call = vgpu_agent_attach(open_pod(), argv[1 + steal], steal ? VGPU_AGENT_F_STEAL : 0, &e);
	return call ? stream(true, false, true) : failed("attach", &e);
}

int command_dial(int argc, char **argv)
{
	struct vgpu_agent_error e = { 0 };
	const char *where = "localhost";
	char *port;

	if (argc != 2)
		return usage_of("dial");
	port = strrchr(argv[1], ':');
	if (port) {
		*port++ = 0;
		where = argv[1];
	} else {
		port = argv[1];
	}
	call = vgpu_agent_dial(open_pod(), where, atoi(port), 10000, &e);
	return call ? stream(true, false, false) : failed("dial", &e);
}
