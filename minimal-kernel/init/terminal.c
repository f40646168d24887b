// SPDX-License-Identifier: Apache-2.0
/*
 * In the child: its terminal. It is of the devpts that the process itself has at /dev/pts, so that the name ttyname() finds is
 * one that is there; of the pod's where it has none. An image, or whoever runs in a container that is joined, may have put
 * anything at these names.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "init.h"

#define PTMX	makedev(5, 2)	/* the kernel's admin-guide/devices.txt */

static bool is_ptmx(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == PTMX;
}

/* -1, errno ENXIO: there is something else. Looked at before it is opened, which alone makes some devices act. */
static int open_ptmx(int dir, const char *path)
{
	int fd = openat(dir, path, O_PATH | O_CLOEXEC);
	bool right = fd >= 0 && is_ptmx(fd);

	if (fd < 0)
		return -1;
	close(fd);
	fd = right ? openat(dir, path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (fd >= 0 && !is_ptmx(fd)) {
		close(fd);
		right = false;
	}
	if (right)
		return fd;
	errno = ENXIO;
	return -1;
}

/* ENODEV: the device is there, and no devpts beside it. */
static bool has_none(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENXIO || error == ENODEV;
}

/* As OCI wants it: the console of a container with a terminal is that terminal. By descriptors: nothing is looked up twice. */
static int bind_console(int slave, struct failure *f)
{
	int console, tree, result = -1;
	struct stat st;

	/* Where there is no /dev, or none that can be written, there is no console. */
	if (mknod("/dev/console", S_IFREG | 0600, 0) && errno != EEXIST && errno != EROFS)
		return errno == ENOENT || errno == ENOTDIR ? 0 : fail(f, "cannot make /dev/console");
	console = open("/dev/console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (console < 0)
		return 0;
	if (fstat(console, &st) || S_ISLNK(st.st_mode)) {
		close(console);
		return refuse(f, EINVAL, "cannot bind its terminal to /dev/console: the image has a symbolic link there; mount a "
			      "tmpfs on /dev");
	}
	tree = open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree >= 0)
		result = move_mount(tree, "", console, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	if (result)
		fail(f, "cannot bind its terminal to /dev/console");
	if (tree >= 0)
		close(tree);
	close(console);
	return result;
}

/* @pod_dev is the pod's /dev. Makes it the session's terminal and the standard streams; returns its master. */
int terminal_open(const struct spec *s, int pod_dev, struct failure *f)
{
	struct winsize size = { .ws_row = s->tty >> 16, .ws_col = s->tty & 0xffff };
	int master = open_ptmx(AT_FDCWD, "/dev/ptmx"), slave, unlocked = 0;
	bool own = master >= 0;

	if (!own && has_none(errno))
		master = open_ptmx(pod_dev, "ptmx");
	if (master < 0)
		return fail(f, "cannot open a terminal (/dev/ptmx, the process's own or else the pod's)");
	slave = ioctl(master, TIOCSPTLCK, &unlocked) ? -1 : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || ioctl(slave, TIOCSWINSZ, &size) || ioctl(slave, TIOCSCTTY, 0)) {
		fail(f, "cannot make the terminal its own");
		goto out;
	}
	if (own && s->root && bind_console(slave, f))
		goto out;
	for (int i = 0; i < 3; i++)
		if (dup2(slave, i) < 0) {
			fail(f, "cannot pass the terminal");
			goto out;
		}
	close(slave);
	return master;
out:
	if (slave >= 0)
		close(slave);
	close(master);
	return -1;
}
