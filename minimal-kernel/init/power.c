// SPDX-License-Identifier: Apache-2.0
/*
 * The pod's end. Whoever asks for it (the host through the channel, the toolstack through the kernel, somebody inside with a
 * signal): processes get their stop signal, a time to end, SIGKILL; then file systems are written and unmounted.
 */
#include <mntent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

#define GRACE_MS	10000u	/* when nobody said how long */
#define KILLED_MS	2000u	/* what is not gone so long after SIGKILL hangs in the kernel */
#define GRACE_MAX_MS	3600000u

static void time_is_up(struct timer *t);
static struct timer timer = { .expired = time_is_up };
static struct call *asked;
static bool ending, killed, reboot_after;

static void forget_call(struct call *c, bool lost)
{
	/* There is no way back: only the answer is not wanted any more. */
	asked = NULL;
	if (!lost)
		call_failf(c, ECANCELED, "cancelled; the pod ends all the same");
}

static const struct call_ops shutdown_ops = { .cancel = forget_call };

/* What somebody still has open is at least written and closed on the disk. */
static void unmount(const char *point)
{
	if (!strcmp(point, "/") || !strncmp(point, "/proc", 5) || !strncmp(point, "/dev", 4))
		return;
	if (umount2(point, UMOUNT_NOFOLLOW) && errno == EBUSY)
		mount(NULL, point, NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

/* The newest first: it may lie on another. */
static void unmount_all(void)
{
	FILE *file = setmntent("/proc/self/mounts", "re");
	struct list points = { 0 };
	struct mntent *m;

	while (file && (m = getmntent(file)))
		*(char **)list_add(&points, sizeof(char *)) = strdup(m->mnt_dir);
	if (file)
		endmntent(file);
	while (points.count--) {
		const char *point = *LIST_ITEM(&points, char *, points.count);

		if (point)
			unmount(point);
	}
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

/* A process lets go of its files some time after it was killed, and of the mounts of its namespace. */
static void wait_for_all(void)
{
	uint64_t end = now_ns() + KILLED_MS * 1000000ull;
	pid_t pid;

	do {
		pid = waitpid(-1, NULL, WNOHANG);
		if (!pid)
			usleep(5000);
	} while ((pid >= 0 || errno == EINTR) && now_ns() < end);
}

static void end(void)
{
	if (asked) {
		struct call *c = asked;

		asked = NULL;
		call_reply(c);
	}
	/* The last output, and what became of the last process. */
	conn_flush(500);
	if (!is_pid1)
		exit(0);
	/* What nobody told us of: daemons that were left behind. */
	kill(-1, SIGKILL);
	wait_for_all();
	sync();
	unmount_all();
	sync();
	reboot(reboot_after ? RB_AUTOBOOT : RB_POWER_OFF);
	fprintf(stderr, "vgpu-init: cannot switch the pod off: %s\n", strerror(errno));
	for (;;)
		pause();
}

static void time_is_up(struct timer *t)
{
	if (killed || !process_any_left())
		end();
	killed = true;
	process_stop_all(true);
	timer_set(&timer, KILLED_MS * 1000000ull);
}

static void begin(uint32_t ms)
{
	ending = true;
	process_stop_all(false);
	timer_set(&timer, process_any_left() ? ms * 1000000ull : 1);
}

/* process.c tells of every death: nothing is waited for longer than it takes. */
void power_process_ended(void)
{
	if (ending && !process_any_left())
		timer_set(&timer, 1);
}

void shutdown_request(struct call *c, uint32_t timeout_ms, uint32_t flags)
{
	if (asked) {
		call_failf(c, EALREADY, "the pod ends already");
		return;
	}
	if (flags & ~VGPU_AGENT_F_REBOOT || timeout_ms > GRACE_MAX_MS) {
		call_failf(c, EINVAL, "unknown flags, or more than an hour to wait");
		return;
	}
	asked = c;
	call_keep(c, &shutdown_ops, NULL);
	reboot_after = flags & VGPU_AGENT_F_REBOOT;
	begin(timeout_ms);
}

/* SIGPWR, SIGUSR1 and SIGUSR2: off; SIGINT and SIGTERM: restart. As busybox and the kernel's Ctrl-Alt-Del send them to PID 1. */
void power_signal(int signal)
{
	if (!is_pid1)
		exit(0);
	if (ending)
		return;
	reboot_after = signal == SIGINT || signal == SIGTERM;
	begin(GRACE_MS);
}
