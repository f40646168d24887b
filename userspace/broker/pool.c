// SPDX-License-Identifier: Apache-2.0
/*
 * Workers. A few wait with the driver library loaded and initialised; a session takes one and uses it up. A worker
 * serves one session in its life: what the driver or the client left in its memory dies with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker.h"

#define START_TIMEOUT_NS	60000000000ull
#define RETRY_NS		2000000000ull
/* A worker with the software GPU may map this much more while it serves: code images, stacks, bookkeeping. */
#define SOFT_DATA_MORE		(1536ull << 20)
#define STARTS_MAX		8	/* workers that start at a time, whoever asks for how many */
#define ENV_MAX			16
#define OOM_SCORE		"500"	/* of 1000 */

/* The worker's environment is empty but for these. */
static bool env_passes(const char *var)
{
	static const char *const names[] = { "SOFTGPU_", "CUDA_DEVICE_MAX_CONNECTIONS=", "VGPU_SPIN_US=", "VGPU_WORKER_" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(var, names[i], strlen(names[i])))
			return true;
	return false;
}

/* When the driver domain runs out of memory workers are to go, and not what it lives on. */
static void go_first(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, OOM_SCORE, strlen(OOM_SCORE)) < 0)
		log_line(LOG_DEBUG, "worker %d: oom_score_adj: %s", getpid(), strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void __attribute__((noreturn)) become_worker(int control, int stats)
{
	char uid[16], gid[16], *argv[16], *env[ENV_MAX + 2], **v;
	unsigned int n = 0, k = 0;
	sigset_t none;
	struct rlimit any = { RLIM_INFINITY, RLIM_INFINITY };
	int null;

	/* All zones' workers are one user: its processes are nobody's measure where each worker has a limit of its own. */
	if (broker.root && cgroup_limits_threads())
		setrlimit(RLIMIT_NPROC, &any);
	go_first();
	/* Out of the way first: the wanted numbers may be taken by the other one. */
	control = fcntl(control, F_DUPFD, 10);
	stats = fcntl(stats, F_DUPFD, 10);
	null = open("/dev/null", O_RDWR);
	if (control < 0 || stats < 0 || null < 0)
		_exit(127);
	dup2(null, 0);
	dup2(null, 1);
	if (!getenv("VGPU_WORKER_STDERR"))
		dup2(null, 2);
	if (dup2(control, WORKER_FD_CONTROL) < 0 || dup2(stats, WORKER_FD_STATS) < 0)
		_exit(127);
	if (syscall(SYS_close_range, WORKER_FD_STATS + 1, ~0u, 0))
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();

	snprintf(uid, sizeof(uid), "%u", broker.uid);
	snprintf(gid, sizeof(gid), "%u", broker.gid);
	argv[n++] = "vgpu-worker";
	argv[n++] = "--driver";
	argv[n++] = broker.driver_path;
	argv[n++] = "--profile";
	argv[n++] = broker.soft ? "soft" : "nvidia";
	if (broker.root) {
		argv[n++] = "--uid";
		argv[n++] = uid;
		argv[n++] = "--gid";
		argv[n++] = gid;
		argv[n++] = "--empty";
		argv[n++] = broker.empty_dir;
	}
	argv[n] = NULL;
	for (v = environ; *v && k < ENV_MAX; v++)
		if (env_passes(*v))
			env[k++] = *v;
	/*
	 * NVIDIA's driver puts device memory where mmap() would put it, and its addresses are the client's too. From the bottom
	 * up they lie where a client has nothing (worker/place.c does the rest); from the top down, amid its libraries.
	 */
	if (!broker.soft)
		personality(PER_LINUX | ADDR_COMPAT_LAYOUT);
	/* Code that one client's worker has compiled must not be found by another's. */
	env[k++] = "CUDA_CACHE_DISABLE=1";
	env[k] = NULL;
	execve(broker.worker_path, argv, env);
	_exit(126);
}

bool pool_seal_stats(struct worker *w)
{
	bool good = !fcntl(w->stats_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);

	close(w->stats_fd);
	w->stats_fd = -1;
	return good;
}

static void release(struct worker *w)
{
	struct worker **p;

	for (p = &broker.workers; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	adopt_forget(w);
	quota_leave(&w->holder, log_now_ns());
	unwatch(&w->pidfd);
	unwatch(&w->control);
	cgroup_worker_gone(w);
	munmap((void *)w->stats, sizeof(*w->stats));
	if (w->stats_fd >= 0)
		close(w->stats_fd);
	later(w);
}

static void describe(const siginfo_t *si, char *out, size_t cap)
{
	if (si->si_code == CLD_EXITED && si->si_status == 126)
		snprintf(out, cap, "%.200s cannot be executed", broker.worker_path);
	else if (si->si_code == CLD_EXITED)
		snprintf(out, cap, "its worker exited with status %d", si->si_status);
	else if (si->si_status == SIGSYS)
		snprintf(out, cap, "its worker made a forbidden system call and was killed");
	else if (si->si_status == SIGKILL)
		snprintf(out, cap, "its worker was killed");
	else
		snprintf(out, cap, "its worker crashed: signal %d (%s)", si->si_status, strsignal(si->si_status));
}

static uint64_t cpu_of(const struct rusage *r)
{
	return (uint64_t)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000000000ull +
	       (uint64_t)(r->ru_utime.tv_usec + r->ru_stime.tv_usec) * 1000ull;
}

static uint64_t cpu_now(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t worker_cpu_ns(const struct worker *w)
{
	uint64_t now = cpu_now(w->pid);

	return now > w->cpu_ns ? now - w->cpu_ns : 0;
}

static void worker_died(struct source *src, uint32_t events)
{
	struct worker *w = container_of(src, struct worker, pidfd);
	struct session *s = w->session;
	enum worker_state state = w->state;
	siginfo_t si = { 0 };
	static struct log_bucket idle_deaths;
	uint64_t suppressed;
	struct rusage used = { 0 };
	char why[256];

	if (w->adopted) {
		/* Not our child: only that it has ended can be seen. */
		snprintf(why, sizeof(why), "its worker, of an earlier broker, ended");
		si.si_code = CLD_EXITED;
	} else {
		if (syscall(SYS_waitid, P_PIDFD, src->fd, &si, WEXITED | WNOHANG, &used) || !si.si_pid)
			return;
		if (w->control.fd >= 0)
			worker_listen(w);
		if (si.si_code == CLD_EXITED || si.si_status != SIGKILL || !cgroup_why_killed(w, why, sizeof(why)))
			describe(&si, why, sizeof(why));
	}
	if (s)
		ipc_worker_gone(w);
	w->session = NULL;
	if (s) {
		share_apply(s->device);
		device_account(s->device, w, cpu_of(&used) > w->cpu_ns ? cpu_of(&used) - w->cpu_ns : 0);
		s->worker = NULL;
		if (!s->reason[0] && (si.si_code != CLD_EXITED || si.si_status) && !s->client_gone)
			snprintf(s->reason, sizeof(s->reason), "%s", why);
		session_over(s);
	}
	release(w);
	if (state == WORKER_STARTING && !broker.draining) {
		broker.start_failures++;
		broker.retry_ns = log_now_ns() + RETRY_NS;
		if (!broker.start_failure[0])
			snprintf(broker.start_failure, sizeof(broker.start_failure), "%s", why);
		if (broker.start_failures <= 3)
			log_line(LOG_ERROR, "a worker could not start: %s", broker.start_failure);
		if (broker.start_failures == 3)
			log_line(LOG_ERROR, "sessions are refused until a worker starts (tried again every %llu s)",
				 RETRY_NS / 1000000000ull);
		session_start_waiting();
	} else if (state == WORKER_IDLE && !broker.draining && log_allowed(&idle_deaths, log_now_ns(), &suppressed)) {
		log_line(LOG_WARNING, "one of the idle workers is gone: %s", why);
	}
	if (s)
		session_start_waiting();
	pool_fill();
}

static int spawn_once(void)
{
	struct worker *w = calloc(1, sizeof(*w));
	int pair[2] = { -1, -1 }, memfd = -1, pidfd = -1, err;
	pid_t pid;

	if (!w)
		return -ENOMEM;
	w->pidfd.fd = w->control.fd = w->stats_fd = w->refusals.source.fd = -1;
	memfd = memfd_create("vgpu-worker-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0 || ftruncate(memfd, 4096) ||
	    fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		goto fail;
	w->stats = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memfd, 0);
	if (w->stats == MAP_FAILED)
		goto fail;
	pid = fork();
	if (pid < 0)
		goto fail;
	if (!pid)
		become_worker(pair[1], memfd);
	close(pair[1]);
	pair[1] = -1;
	w->pid = pid;
	w->start_ns = log_now_ns();
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || watch(&w->pidfd, pidfd, EPOLLIN, worker_died) ||
	    watch(&w->control, pair[0], EPOLLIN, worker_speaks)) {
		err = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		errno = err;
		goto fail;
	}
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	cgroup_worker_new(w);
	w->stats_fd = memfd;
	w->next = broker.workers;
	broker.workers = w;
	broker.workers_spawned++;
	return 0;
fail:
	err = errno;
	unwatch(&w->pidfd);
	unwatch(&w->control);
	if (pair[0] >= 0)
		close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	if (memfd >= 0)
		close(memfd);
	if (w->stats && w->stats != MAP_FAILED)
		munmap((void *)w->stats, 4096);
	free(w);
	return -err;
}

static int spawn(void)
{
	int ret;

	do
		ret = spawn_once();
	while (ret == -EMFILE && images_spare());
	if (ret)
		log_line(LOG_ERROR, "cannot start a worker: %s", strerror(-ret));
	return ret;
}

/* As many as the pool holds, and one for every session that waits. */
void pool_fill(void)
{
	unsigned int have = 0, starting = 0, need = broker.pool;
	struct session *s;
	struct worker *w;

	if (broker.draining)
		return;
	for (w = broker.workers; w; w = w->next) {
		have += w->state == WORKER_STARTING || w->state == WORKER_IDLE;
		starting += w->state == WORKER_STARTING;
	}
	for (s = broker.sessions; s; s = s->next)
		need += s->state == SESSION_WAITING && !s->foreign;
	if (!need)
		need = 1;
	if (broker.start_failures) {
		if (log_now_ns() < broker.retry_ns)
			return;
		need = 1;
	}
	for (; have < need && starting < STARTS_MAX; have++, starting++) {
		if (spawn()) {
			broker.start_failures++;
			broker.retry_ns = log_now_ns() + RETRY_NS;
			return;
		}
	}
}

/* Its death may be behind other events in the queue. */
static bool dead(const struct worker *w)
{
	struct pollfd p = { .fd = w->pidfd.fd, .events = POLLIN };

	return w->control.fd < 0 || poll(&p, 1, 0) > 0;
}

struct worker *pool_take(void)
{
	struct worker *w, *oldest = NULL;

	for (w = broker.workers; w; w = w->next)
		if (w->state == WORKER_IDLE && !dead(w))
			oldest = w;
	return oldest;
}

/* The software GPU has reserved its device memory by now: what counts is what is mapped from here on. */
static uint64_t data_limit(pid_t pid)
{
	unsigned long long data = 0;
	char path[32];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%*u %*u %*u %*u %*u %llu", &data) != 1)
		data = 0;
	fclose(f);
	return data ? data * sysconf(_SC_PAGESIZE) + SOFT_DATA_MORE : 0;
}

int worker_assign(struct worker *w, struct session *s, int life)
{
	struct worker_msg m = { .type = BROKER_ASSIGN };
	struct worker_assign *a = &m.u.assign;
	struct device *d = s->device;
	int fds[2] = { s->fd, life };

	a->kind = d->xen ? IDM_SERVER_XEN : IDM_SERVER_LOCAL;
	a->zone = d->zone;
	a->own_zone = s->own_zone;
	a->device = d->id;
	a->session = s->number;
	if (!d->xen) {
		a->request_size = s->request.request_size;
		a->reply_size = s->request.reply_size;
		a->arena_size = d->arena_max;
	}
	a->quota = d->memory;
	memcpy(a->gpu, d->gpu, sizeof(a->gpu));

	if (broker.soft)
		w->private_max = a->data_limit = data_limit(w->pid);

	w->state = WORKER_BUSY;
	w->session = s;
	zone_enter(w);
	cgroup_worker_limit(w);
	quota_join(&d->quota, &w->holder);
	w->cpu_ns = cpu_now(w->pid);
	adopt_write(w);
	if (worker_send(w, &m, fds, life >= 0 ? 2 : 1)) {
		/* The device may be gone before the worker is. */
		quota_leave(&w->holder, log_now_ns());
		adopt_forget(w);
		w->session = NULL;
		worker_kill(w);
		w->state = WORKER_GONE;
		return -EPIPE;
	}
	s->worker = w;
	s->state = SESSION_RUNNING;
	share_apply(d);
	d->started_ns = log_now_ns();
	d->served++;
	broker.sessions_served++;
	if (device_may_log(d, &d->chatter))
		session_log(s, LOG_INFO, "opened%s%s, worker %d", d->xen ? "" : " on device ", d->xen ? "" : d->name, w->pid);
	event("session-opened", d, s, "worker %d", w->pid);
	return 0;
}

void worker_watch_adopted(struct worker *w, int pidfd)
{
	w->adopted = true;
	w->state = WORKER_BUSY;
	w->control.fd = w->stats_fd = w->refusals.source.fd = -1;
	if (watch(&w->pidfd, pidfd, EPOLLIN, worker_died))
		w->pidfd.fd = -1;
	w->next = broker.workers;
	broker.workers = w;
}

void worker_kill(struct worker *w)
{
	if (w->state == WORKER_GONE || w->pidfd.fd < 0)
		return;
	syscall(SYS_pidfd_send_signal, w->pidfd.fd, SIGKILL, NULL, 0);
}

/* A driver that hangs while a worker starts must not keep its place in the pool, and all sessions waiting. */
uint64_t pool_tick(uint64_t now_ns)
{
	uint64_t next = UINT64_MAX, due;
	struct worker *w;

	for (w = broker.workers; w; w = w->next) {
		if (w->state != WORKER_STARTING)
			continue;
		due = w->start_ns + START_TIMEOUT_NS;
		if (now_ns < due) {
			next = due - now_ns < next ? due - now_ns : next;
			continue;
		}
		snprintf(broker.start_failure, sizeof(broker.start_failure),
			 "the driver library %.200s did not come up within %llu s", broker.driver_path,
			 START_TIMEOUT_NS / 1000000000ull);
		worker_kill(w);
		next = RETRY_NS < next ? RETRY_NS : next;
	}
	return next;
}

/* Idle workers leave when their control socket closes. */
void pool_release_idle(void)
{
	struct worker *w;

	for (w = broker.workers; w; w = w->next)
		if (w->state == WORKER_IDLE || w->state == WORKER_STARTING)
			unwatch(&w->control);
}
