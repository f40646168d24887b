// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"

struct broker broker = {
	.run_dir = "/run/vgpu",
	.driver = "libcuda.so.1",
	.user = "nobody",
	.pool = 2,
	.worker_memory = WORKER_MEMORY_DEFAULT,
	.worker_threads = WORKER_THREADS_DEFAULT,
	.zone_memory = ZONE_DERIVED,
	.zone_threads = ZONE_DERIVED,
	.next_zone = LOCAL_ZONE_FIRST,
};

#define LOCALS_MAX	64
#define LATER_MAX	1024
#define RETRY_MIN_NS	100000000ull
#define WORKER_MEMORY_LEAST	64u	/* MiB; with less none would start */
#define WORKER_THREADS_LEAST	16u

static void *to_free[LATER_MAX];
static unsigned int nto_free;
static struct source signals = { .fd = -1 };

int watch(struct source *s, int fd, uint32_t events, void (*ready)(struct source *s, uint32_t events))
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	s->fd = fd;
	s->ready = ready;
	if (epoll_ctl(broker.epoll, EPOLL_CTL_ADD, fd, &ev)) {
		int err = errno;

		log_line(LOG_ERROR, "epoll: %s", strerror(err));
		s->fd = -1;
		return -err;
	}
	return 0;
}

void unwatch(struct source *s)
{
	if (s->fd < 0)
		return;
	epoll_ctl(broker.epoll, EPOLL_CTL_DEL, s->fd, NULL);
	close(s->fd);
	s->fd = -1;
}

void later(void *p)
{
	/* Better to leak in a turn with a thousand endings than to free under an event that is still to come. */
	if (nto_free < LATER_MAX)
		to_free[nto_free++] = p;
}

void drain(const char *why)
{
	struct session *s, *following;

	if (broker.draining)
		return;
	log_line(LOG_INFO, "shutting down: %s", why);
	broker.draining = true;
	broker.drain_ns = log_now_ns() + DRAIN_GRACE_NS;
	local_stop();
	pool_release_idle();
	/* Those that wait for a worker will get none. */
	for (s = broker.sessions; s; s = following) {
		following = s->next;
		if (s->state == SESSION_WAITING)
			session_end(s, "the broker is shutting down");
	}
}

static void signal_ready(struct source *src, uint32_t events)
{
	struct signalfd_siginfo si;

	while (read(src->fd, &si, sizeof(si)) == sizeof(si)) {
		if (broker.draining && (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT))
			broker.drain_ns = 0;	/* the second one: now */
		else
			drain(si.ssi_signo == SIGINT ? "interrupted" : "SIGTERM");
	}
}

static void usage(FILE *f)
{
	fprintf(f,
		"usage: vgpu-broker [OPTION]...\n"
		"Serve GPUs to pods and to programs of this machine.\n\n"
		"  --local NAME:KEY=VALUE,...  serve a device on DIR/vgpu-NAME.sock (NAME default: DIR/vgpu.sock);\n"
		"                              keys: gpu (index or UUID, joined by +), memory (MiB of quota), weight,\n"
		"                              sessions, arena (MiB of shared memory a session may have). May be repeated\n"
		"  --xen                       serve the pods' devices, through /dev/vgpu-back\n"
		"  --driver PATH               the CUDA driver library: NVIDIA's libcuda.so.1 (default) or libsoftgpu.so\n"
		"  --worker PATH               the worker program (default: vgpu-worker beside this program)\n"
		"  --user NAME|UID             whom workers run as (default nobody; only if the broker is root)\n"
		"  --pool N                    workers kept ready (default 2)\n"
		"  --worker-memory MIB         host memory that a worker may have (default 8192; 0: no limit)\n"
		"  --worker-threads N          threads that a worker may have (default 1024; 0: no limit)\n"
		"  --zone-memory MiB           host memory that all workers of a zone may have (default: what four may, half of\n"
		"                              this machine's at most; 0: no limit)\n"
		"  --zone-threads N            threads that they may have (default: what four may, a quarter of this machine's\n"
		"                              at most; 0: no limit)\n"
		"  --run-dir DIR               sockets are here (default /run/vgpu)\n"
		"  --foreground                accepted; the broker never detaches itself\n"
		"  --debug                     more log lines\n"
		"  --help                      this\n\n"
		"Workers get of the environment: CUDA_DEVICE_MAX_CONNECTIONS, SOFTGPU_*, VGPU_SPIN_US, VGPU_WORKER_STDERR.\n"
		"The manual: man vgpu-broker.\n");
}

static int find_user(void)
{
	struct passwd *pw;
	char *end;
	unsigned long id;

	errno = 0;
	id = strtoul(broker.user, &end, 10);
	if (*broker.user && !*end && !errno && id < UINT_MAX) {
		broker.uid = broker.gid = id;
		pw = getpwuid(id);
		if (pw)
			broker.gid = pw->pw_gid;
	} else {
		pw = getpwnam(broker.user);
		if (!pw && !strcmp(broker.user, "nobody")) {
			/* A system without a user database, such as a small driver domain. */
			broker.uid = broker.gid = 65534;
			return 0;
		}
		if (!pw) {
			log_line(LOG_ERROR, "--user %s: no such user", broker.user);
			return -EINVAL;
		}
		broker.uid = pw->pw_uid;
		broker.gid = pw->pw_gid;
	}
	if (broker.root && !broker.uid) {
		log_line(LOG_ERROR, "--user %s: workers must not run as root", broker.user);
		return -EINVAL;
	}
	return 0;
}

static int find_programs(const char *worker)
{
	char self[PATH_MAX - 16], *slash;
	ssize_t n;

	if (worker) {
		if (!realpath(worker, broker.worker_path)) {
			log_line(LOG_ERROR, "--worker %s: %s", worker, strerror(errno));
			return -EINVAL;
		}
	} else {
		n = readlink("/proc/self/exe", self, sizeof(self) - 1);
		self[n > 0 ? n : 0] = '\0';
		slash = strrchr(self, '/');
		if (slash)
			*slash = '\0';
		snprintf(broker.worker_path, sizeof(broker.worker_path), "%s/vgpu-worker", self);
	}
	if (access(broker.worker_path, X_OK)) {
		log_line(LOG_ERROR, "%s: %s (tell the worker program's path with --worker)", broker.worker_path,
			 strerror(errno));
		return -EINVAL;
	}
	if (strchr(broker.driver, '/')) {
		if (!realpath(broker.driver, broker.driver_path)) {
			log_line(LOG_ERROR, "--driver %s: %s", broker.driver, strerror(errno));
			return -EINVAL;
		}
	} else {
		snprintf(broker.driver_path, sizeof(broker.driver_path), "%s", broker.driver);
	}
	slash = strrchr(broker.driver_path, '/');
	broker.soft = strstr(slash ? slash : broker.driver_path, "softgpu");
	return 0;
}

/* Five descriptors a session and those who knock: what is usual would not do for a handful of devices. */
static void allow_files(void)
{
	struct rlimit files = { 1024, 1024 }, more;
	unsigned long most = 0;
	FILE *f = broker.root ? fopen("/proc/sys/fs/nr_open", "re") : NULL;

	getrlimit(RLIMIT_NOFILE, &files);
	if (f && fscanf(f, "%lu", &most) != 1)
		most = 0;
	if (f)
		fclose(f);
	more.rlim_cur = more.rlim_max = most > files.rlim_max ? most : files.rlim_max;
	/* Without the privilege, root or not, what is allowed now is what there is. */
	if (setrlimit(RLIMIT_NOFILE, &more)) {
		more.rlim_cur = more.rlim_max = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &more))
			more = files;
	}
	/* Half of them are for sessions. */
	broker.files_max = more.rlim_cur / 2 < UINT_MAX ? more.rlim_cur / 2 : UINT_MAX;
}

static int prepare(void)
{
	sigset_t set;
	int fd;

	broker.root = geteuid() == 0;
	allow_files();
	broker.start_ns = log_now_ns();
	if (find_user())
		return -EINVAL;
	if (mkdir(broker.run_dir, 0755) && errno != EEXIST) {
		log_line(LOG_ERROR, "--run-dir %s: %s", broker.run_dir, strerror(errno));
		return -EINVAL;
	}
	if (broker.root) {
		/* An empty folder that workers take for the root of the file system. */
		snprintf(broker.empty_dir, sizeof(broker.empty_dir), "%.100s/empty", broker.run_dir);
		if (mkdir(broker.empty_dir, 0555) && errno != EEXIST) {
			log_line(LOG_ERROR, "%s: %s", broker.empty_dir, strerror(errno));
			return -EINVAL;
		}
		/* Neither broker nor workers need a network: path-named sockets work without one. */
		if (unshare(CLONE_NEWNET | CLONE_NEWIPC))
			log_line(LOG_WARNING, "workers share this machine's network namespace: %s", strerror(errno));
	} else {
		log_line(LOG_WARNING, "not run as root: workers run as this user too, separated by seccomp alone");
	}
	broker.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (broker.epoll < 0)
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : watch(&signals, fd, EPOLLIN, signal_ready);
}

/* What is due by time. @return milliseconds until it must be called again, -1 for never. */
static int tick(void)
{
	uint64_t now = log_now_ns(), next = session_tick(now), t = pool_tick(now);
	struct session *s, *following;
	struct device *d;

	next = t < next ? t : next;
	for (d = broker.devices; d; d = d->next) {
		t = quota_tick(&d->quota, now);
		next = t < next ? t : next;
	}
	if (broker.start_failures && !broker.draining) {
		if (now >= broker.retry_ns)
			pool_fill();
		t = broker.retry_ns > now ? broker.retry_ns - now : RETRY_MIN_NS;
		next = t < next ? t : next;
	}
	if (broker.draining) {
		if (now >= broker.drain_ns) {
			for (s = broker.sessions; s; s = following) {
				following = s->next;
				session_end(s, "the broker is shutting down");
			}
		}
		t = now < broker.drain_ns ? broker.drain_ns - now : RETRY_MIN_NS;
		next = t < next ? t : next;
	}
	if (next == UINT64_MAX)
		return -1;
	return next / 1000000 + 1;
}

static bool finished(void)
{
	struct session *s;

	if (!broker.draining || broker.workers)
		return false;
	/* Sessions of an earlier broker's workers go on without us. */
	for (s = broker.sessions; s; s = s->next)
		if (!s->foreign)
			return false;
	return true;
}

static void run(void)
{
	struct epoll_event ev[32];
	int i, n, ms;

	while (!finished()) {
		ms = tick();
		n = epoll_wait(broker.epoll, ev, 32, images_work() ? 0 : ms);
		if (n < 0 && errno != EINTR) {
			log_line(LOG_ERROR, "epoll_wait: %s", strerror(errno));
			return;
		}
		for (i = 0; i < n; i++) {
			struct source *s = ev[i].data.ptr;

			if (s->fd >= 0)
				s->ready(s, ev[i].events);
		}
		while (nto_free)
			free(to_free[--nto_free]);
	}
}

static bool number(const char *text, uint64_t most, uint64_t *out)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	*out = n;
	return *text >= '0' && *text <= '9' && !*end && !errno && n <= most;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "run-dir", required_argument, NULL, 'r' }, { "driver", required_argument, NULL, 'd' },
		{ "local", required_argument, NULL, 'l' },   { "xen", no_argument, NULL, 'x' },
		{ "worker", required_argument, NULL, 'w' },  { "user", required_argument, NULL, 'u' },
		{ "pool", required_argument, NULL, 'p' },    { "foreground", no_argument, NULL, 'f' },
		{ "debug", no_argument, NULL, 'D' },	     { "help", no_argument, NULL, 'h' },
		{ "worker-memory", required_argument, NULL, 'm' }, { "worker-threads", required_argument, NULL, 't' },
		{ "zone-memory", required_argument, NULL, 'M' },   { "zone-threads", required_argument, NULL, 'T' },
		{ 0 }
	};
	const char *locals[LOCALS_MAX], *worker = NULL;
	unsigned int nlocals = 0, i;
	uint64_t n;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'r':
			broker.run_dir = optarg;
			break;
		case 'd':
			broker.driver = optarg;
			break;
		case 'l':
			if (nlocals == LOCALS_MAX) {
				log_line(LOG_ERROR, "more than %d --local", LOCALS_MAX);
				return 2;
			}
			locals[nlocals++] = optarg;
			break;
		case 'x':
			broker.xen = true;
			break;
		case 'w':
			worker = optarg;
			break;
		case 'u':
			broker.user = optarg;
			break;
		case 'p':
			broker.pool = strtoul(optarg, NULL, 10);
			if (broker.pool > 64) {
				log_line(LOG_ERROR, "--pool %s: at most 64", optarg);
				return 2;
			}
			break;
		case 'm':
		case 'M':
			if (!number(optarg, UINT64_MAX >> 21, &n) || (n && n < WORKER_MEMORY_LEAST)) {
				log_line(LOG_ERROR, "--%s-memory %s: MiB, %u at least, or 0", c == 'm' ? "worker" : "zone",
					 optarg, WORKER_MEMORY_LEAST);
				return 2;
			}
			*(c == 'm' ? &broker.worker_memory : &broker.zone_memory) = n << 20;
			break;
		case 't':
		case 'T':
			if (!number(optarg, 1 << 20, &n) || (n && n < WORKER_THREADS_LEAST)) {
				log_line(LOG_ERROR, "--%s-threads %s: a number, %u at least, or 0", c == 't' ? "worker" : "zone",
					 optarg, WORKER_THREADS_LEAST);
				return 2;
			}
			if (c == 't')
				broker.worker_threads = n;
			else
				broker.zone_threads = n;
			break;
		case 'f':
			break;
		case 'D':
			log_limit = LOG_DEBUG;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc || (!nlocals && !broker.xen)) {
		log_line(LOG_ERROR, "%s", optind < argc ? "too many arguments" : "nothing to serve: --xen or --local NAME");
		usage(stderr);
		return 2;
	}
	if (strlen(broker.run_dir) > 64) {
		log_line(LOG_ERROR, "--run-dir %s: longer than 64 characters (socket paths are short)", broker.run_dir);
		return 2;
	}
	for (i = 0; i < nlocals; i++)
		if (local_parse(locals[i]))
			return 2;
	if (find_programs(worker) || prepare() || control_listen())
		return 1;
	if (broker.xen)
		adopt_open();
	if (broker.xen && xen_open())
		return 1;
	if (local_listen_all())
		return 1;
	cgroup_open();
	pool_fill();
	run();
	events_stop();
	control_stop();
	xen_stop();
	cgroup_close();
	log_line(LOG_INFO, "bye");
	return 0;
}
