// SPDX-License-Identifier: Apache-2.0
/*
 * The pod's end, in namespaces of its own with a root of its own: what is mounted last, and what processes still write to, is
 * clean on the disk afterwards. Needs root and loop devices.
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <unistd.h>

static void __attribute__((noreturn)) ended(void);

/* Never this machine. */
#define reboot(how)	ended()
#include "power.c"
#undef reboot

#include "tap.h"

bool is_pid1 = true;

static char folder[] = "/tmp/agent-power.XXXXXX";
static int image_fd;

/* The superblock of ext2 says whether it was unmounted. Asked at once: what has its own mounts unmounts them by its end alone. */
static void ended(void)
{
	uint16_t state = 0;

	_exit(pread(image_fd, &state, sizeof(state), 1024 + 58) != sizeof(state) ? 8 : state == 1 ? 0 : 9);
}

static bool make_mount(const char *path, const char *device, const char *type)
{
	return !mkdir(path, 0755) && !mount(device, path, type, 0, NULL);
}

/* Only what is mounted here can be unmounted, or made read-only. */
static bool own_root(dev_t disk)
{
	return !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) && !mount("tmpfs", folder, "tmpfs", 0, NULL) && !chdir(folder) &&
	       make_mount("proc", "proc", "proc") && !mknod("disk", S_IFBLK | 0600, disk) && !syscall(SYS_pivot_root, ".", ".") &&
	       !umount2(".", MNT_DETACH) && !chdir("/");
}

/* Somebody who writes until he is killed. */
static void write_on(void)
{
	static char buf[65536];
	int fd;

	if (fork())
		return;
	setsid();
	fd = open("/last/file", O_CREAT | O_WRONLY, 0644);
	for (off_t at = 0;; at = (at + sizeof(buf)) % (1 << 20))
		if (pwrite(fd, buf, sizeof(buf), at) < 0)
			_exit(1);
}

static void __attribute__((noreturn)) pod(dev_t disk, bool busy)
{
	char name[64];

	if (getpid() != 1 || !own_root(disk))
		_exit(1);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), i ? "/m%d" : "/with a blank", i);
		if (!make_mount(name, "tmpfs", "tmpfs"))
			_exit(2);
	}
	if (!make_mount("/last", "/disk", "ext2"))
		_exit(3);
	write_on();
	usleep(200000);
	/* Not even the end of all others ends this. */
	if (busy && open("/last", O_RDONLY | O_DIRECTORY) < 0)
		_exit(4);
	end();
	_exit(5);
}

static int run_pod(dev_t disk, bool busy)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		if (unshare(CLONE_NEWNS | CLONE_NEWPID))
			_exit(6);
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pod(disk, busy);
		}
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 7);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Until the end this has the image open as well. */
static int attach_loop(const char *image, dev_t *disk)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number = ioctl(control, LOOP_CTL_GET_FREE), loop;
	struct stat st = { 0 };
	char path[32];

	snprintf(path, sizeof(path), "/dev/loop%d", number);
	loop = open(path, O_RDWR | O_CLOEXEC);
	image_fd = open(image, O_RDWR | O_CLOEXEC);
	if (ioctl(loop, LOOP_SET_FD, image_fd) || fstat(loop, &st))
		return -1;
	close(control);
	*disk = st.st_rdev;
	return loop;
}

int main(void)
{
	char image[64], command[256];
	dev_t disk;
	int loop;

	if (geteuid() || access("/dev/loop-control", R_OK | W_OK)) {
		printf("1..0 # SKIP needs root and loop devices\n");
		return 0;
	}
	if (!mkdtemp(folder))
		return 1;
	snprintf(image, sizeof(image), "%s.image", folder);
	snprintf(command, sizeof(command), "truncate -s 8M %s && mkfs.ext2 -q -F %s", image, image);
	loop = system(command) ? -1 : attach_loop(image, &disk);
	ok(loop >= 0, "a disk");
	if (loop >= 0) {
		int code = run_pod(disk, false);

		ok(!code, "the pod ends with its last mount of 102, to which somebody wrote, unmounted (%d)", code);
		code = run_pod(disk, true);
		ok(!code, "or read-only, where that cannot be (%d)", code);
		ioctl(loop, LOOP_CLR_FD, 0);
		close(loop);
	}
	unlink(image);
	rmdir(folder);
	return tap_done();
}
