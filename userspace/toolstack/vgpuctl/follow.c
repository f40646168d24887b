// SPDX-License-Identifier: Apache-2.0
/* The processes that stay behind: one for each domain, and one for the machine. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "vgpuctl.h"

#define LOG_DIR "/var/log/xen"

static volatile int stop;
static FILE *log_file;

static void on_stop(int sig)
{
	stop = 1;
}

/* @return 0 in the child, which has let go of everything, the child's process id in the parent, or -1 */
static pid_t detach_process(int keep)
{
	pid_t pid;
	int null;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	setsid();
	/* Not a child of whoever waits for us. */
	if (fork())
		_exit(0);
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	/* Whoever waits for our end of a pipe must not wait for the one that stays behind. */
	for (int fd = 3; fd < 256; fd++)
		if (fd != keep)
			close(fd);
	if (chdir("/"))
		_exit(1);
	return 0;
}

/* --- the reaper of what dead domains leave ---------------------------------------------------------------------- */

int daemon_serve(int lock, bool foreground)
{
	struct sigaction sa = { .sa_handler = on_stop };
	struct vgpuxl_error e;

	if (!foreground) {
		pid_t pid = detach_process(lock);

		if (pid) {
			if (pid > 0)
				waitpid(pid, NULL, 0);
			return pid < 0;
		}
	}
	openlog(self_name, foreground ? LOG_PERROR : LOG_PID, LOG_DAEMON);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (vgpuxl_reap(&stop, &e)) {
		syslog(LOG_ERR, "%s", e.text);
		if (!foreground)
			_exit(1);
		return 1;
	}
	if (!foreground)
		_exit(0);
	return 0;
}

void ensure_daemon(void)
{
	struct vgpuxl_error e;
	int lock = vgpuxl_daemon_lock(&e);

	if (lock >= 0) {
		daemon_serve(lock, false);
		close(lock);
	} else if (lock != -EWOULDBLOCK) {
		fprintf(stderr, "%s: warning: nobody will clear up when the domain ends: %s\n", self_name, e.text);
	}
}

/* --- the follower of one domain ----------------------------------------------------------------------------------- */

static void log_line(void *arg, int priority, const char *text)
{
	time_t now = time(NULL);
	char stamp[32];
	struct tm tm;

	if (!log_file) {
		syslog(priority, "%s", text);
		return;
	}
	strftime(stamp, sizeof(stamp), "%F %T", localtime_r(&now, &tm));
	fprintf(log_file, "%s %s\n", stamp, text);
	fflush(log_file);
}

static int ended[2];	/* a pipe */

static void on_end(int number)
{
	int err = errno;

	/* It is full when it has been said often enough. */
	(void)!write(ended[1], "", 1);
	errno = err;
}

static void on_hangup(int number)
{
}

static int supervise(struct vgpuxl_plan *plan, uint32_t domid)
{
	/* Handlers, and nothing blocked or ignored: a device model that it starts would have that, too. */
	struct sigaction end = { .sa_handler = on_end, .sa_flags = SA_RESTART };
	struct sigaction hangup = { .sa_handler = on_hangup, .sa_flags = SA_RESTART };
	struct vgpuxl_error e = { 0 };
	int ret;

	if (pipe2(ended, O_CLOEXEC | O_NONBLOCK))
		ended[0] = ended[1] = -1;
	/* Ended by hand, it leaves the domain as it is. */
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGHUP, &hangup, NULL);
	signal(SIGPIPE, SIG_IGN);
	ret = vgpuxl_supervise(plan, &domid, ended[0], log_line, NULL, &e);
	if (ret && ret != -ECANCELED)
		log_line(NULL, LOG_ERR, e.text);
	return ret && ret != -ECANCELED;
}

int follow(struct vgpuxl_plan *plan, uint32_t domid, bool foreground)
{
	char path[256];
	pid_t pid;

	if (foreground) {
		log_file = stdout;
		return supervise(plan, domid);
	}
	pid = detach_process(-1);
	if (pid) {
		if (pid < 0)
			fprintf(stderr, "%s: warning: nobody will restart domain %u after a reboot: cannot start a process: %s\n",
				self_name, domid, strerror(errno));
		else
			waitpid(pid, NULL, 0);
		return 0;
	}
	prctl(PR_SET_NAME, "vgpu-follow");
	snprintf(path, sizeof(path), LOG_DIR "/vgpu-%.100s.log", vgpuxl_plan_name(plan));
	log_file = fopen(path, "ae");
	if (!log_file)
		openlog("vgpu-follow", LOG_PID, LOG_DAEMON);
	_exit(supervise(plan, domid));
}
