// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-block: hotplug script of a disk, for machines without a shell that is up to Xen's own `block`, and for pods that
 * come and go by the hundred. Understands what that one does for phy: block devices, and files through loop devices.
 *
 *	disk = [ "format=raw,vdev=xvda,access=ro,script=vgpu-block,target=/pod.img" ]
 *
 * libxenlight runs it as `vgpu-block add` or `remove` with XENBUS_PATH, the backend's directory, in the environment.
 * Errors go to xenstore, where libxenlight looks for them (hotplug-error), and to standard error.
 *
 * libxenlight does not run `remove` for a backend that does not close within its 10 seconds, as one may not that was just
 * connecting when its domain was destroyed. So a loop device goes by itself when the last one closes it (autoclear), and that
 * is the backend driver: `add` holds it until the driver has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xenstore.h>

#define LOOP_TRIES	64	/* another one may take the free number first */
#define CLOSE_TRIES	100	/* of 50 ms, until the backend driver has let go of a loop device */
#define TAKE_TRIES	2000	/* of 5 ms, until the backend driver has opened it; it is one step of its watch's thread */

static struct xs_handle *xs;
static const char *dir;

static bool put(const char *key, const char *value)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, key);
	return xs_write(xs, XBT_NULL, path, value, strlen(value));
}

static char *get(const char *key)
{
	char path[300];
	unsigned int len;

	snprintf(path, sizeof(path), "%s/%s", dir, key);
	return xs_read(xs, XBT_NULL, path, &len);
}

static int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	put("hotplug-error", text);
	put("hotplug-status", "error");
	fprintf(stderr, "vgpu-block: %s: %s\n", dir, text);
	return 1;
}

/* A loop device for the file. @return its number or -errno; @held is an open descriptor of it */
static int loop_for(const char *file, bool write, const char **what, int *held)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd, ret = -EBUSY;
	struct loop_config config = { 0 };

	*what = "/dev/loop-control";
	if (control < 0)
		return -errno;
	*what = file;
	fd = open(file, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		close(control);
		return ret;
	}
	config.fd = (unsigned int)fd;
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (write ? 0 : LO_FLAGS_READ_ONLY);
	snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s", file);
	*what = "a loop device";
	for (int i = 0; i < LOOP_TRIES && ret < 0; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE), dev;
		char path[32];

		if (n < 0) {
			ret = -errno;
			break;
		}
		snprintf(path, sizeof(path), "/dev/loop%d", n);
		dev = open(path, O_RDWR | O_CLOEXEC);
		if (dev < 0) {
			ret = -errno;
			usleep(20000);	/* its node may be a moment away */
			continue;
		}
		ret = ioctl(dev, LOOP_CONFIGURE, &config) ? -errno : n;
		if (ret >= 0) {
			*held = dev;
			break;
		}
		close(dev);
		if (ret != -EBUSY)
			break;
	}
	close(fd);
	close(control);
	return ret;
}

/* Has Linux's blkback opened it? It makes this file then: vbd-7-51712 is the device ".../backend/vbd/7/51712". */
static bool taken(void)
{
	const char *devid = strrchr(dir, '/'), *zone = devid;
	char path[128];

	while (zone && zone > dir && zone[-1] != '/')
		zone--;
	if (!zone || zone == dir)
		return false;
	snprintf(path, sizeof(path), "/sys/bus/xen-backend/devices/vbd-%.*s-%s/physical_device", (int)(devid - zone), zone,
		 devid + 1);
	return !access(path, F_OK);
}

/* The disk is still wanted: its directory has not been removed meanwhile. */
static bool wanted(void)
{
	char *there = get("physical-device");

	free(there);
	return there;
}

/* Let go of the loop device when the backend driver has it. One of another kind gets it for good: `remove` will come. */
static void hand_over(int held)
{
	struct loop_info64 info;
	int i = 0;

	while (!taken() && wanted() && i++ < TAKE_TRIES)
		usleep(5000);
	if (i > TAKE_TRIES && wanted() && !ioctl(held, LOOP_GET_STATUS64, &info)) {
		info.lo_flags &= ~(uint32_t)LO_FLAGS_AUTOCLEAR;
		ioctl(held, LOOP_SET_STATUS64, &info);
	}
	close(held);
}

/* What the disk's configuration says. @return NULL if nothing */
static const char *target(void)
{
	const char *params = get("params");

	if (!params || !*params)
		return NULL;
	if (!strncmp(params, "aio:", 4) || !strncmp(params, "phy:", 4))
		params += 4;
	if (!strncmp(params, "file:", 5))
		params += 5;
	return params;
}

static int add(void)
{
	char *mode = get("mode"), *done = get("physical-device"), number[32], name[32];
	const char *params = target();
	bool write = mode && strchr(mode, 'w');
	struct stat st;
	int held = -1;
	dev_t dev;

	if (done)	/* the same event twice */
		return 0;
	if (!params)
		return fail("the disk has no target: write target=/path in its configuration");
	if (stat(params, &st))
		return fail("%s: %s: give an existing file or block device as target=", params, strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		dev = st.st_rdev;
	} else if (S_ISREG(st.st_mode)) {
		const char *what;
		int n = loop_for(params, write, &what, &held);

		if (n < 0)
			return fail("%s for %s: %s%s", what, params, strerror(-n),
				    n == -ENOENT ? " (is the module `loop` loaded?)" : "");
		snprintf(name, sizeof(name), "/dev/loop%d", n);
		if (stat(name, &st))
			return fail("%s: %s", name, strerror(errno));
		dev = st.st_rdev;
		if (!put("node", name))
			return fail("writing to xenstore: %s", strerror(errno));
	} else {
		return fail("%s is neither a file nor a block device", params);
	}
	snprintf(number, sizeof(number), "%x:%x", major(dev), minor(dev));
	if (!put("physical-device", number))
		return fail("writing to xenstore: %s", strerror(errno));
	if (held >= 0)
		hand_over(held);
	return put("hotplug-status", "connected") ? 0 : fail("writing to xenstore: %s", strerror(errno));
}

/* Does the loop device go by itself, or is it somebody else's by now? */
static bool not_ours(int fd)
{
	const char *params = target();
	struct loop_info64 info;
	struct stat st;

	if (ioctl(fd, LOOP_GET_STATUS64, &info))
		return errno == ENXIO;
	if (info.lo_flags & LO_FLAGS_AUTOCLEAR)
		return true;
	return params && !stat(params, &st) && (st.st_ino != info.lo_inode || st.st_dev != info.lo_device);
}

static int take_away(void)
{
	char *node = get("node");
	int fd, ret = -1, n = 0;

	if (!node || strncmp(node, "/dev/loop", 9))
		return 0;
	for (int i = 0; i < CLOSE_TRIES; i++) {
		fd = open(node, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return 0;
		/* While others have it open it goes by itself with the last of them. */
		ret = not_ours(fd) || !ioctl(fd, LOOP_CLR_FD, 0) ? 0 : -errno;
		close(fd);
		if (ret != -EBUSY)
			break;
		usleep(50000);
	}
	if (ret && ret != -ENXIO)
		return fail("%s is not given back: %s", node, strerror(-ret));
	if (sscanf(node, "/dev/loop%d", &n) == 1) {
		char path[300];

		snprintf(path, sizeof(path), "%s/node", dir);
		xs_rm(xs, XBT_NULL, path);
	}
	return 0;
}

int main(int argc, char **argv)
{
	dir = getenv("XENBUS_PATH");
	if (argc < 2 || !dir) {
		fprintf(stderr, "vgpu-block: is a hotplug script, run by libxenlight with XENBUS_PATH and `add` or `remove`\n");
		return 2;
	}
	xs = xs_open(0);
	if (!xs) {
		fprintf(stderr, "vgpu-block: cannot talk to xenstore: %s\n", strerror(errno));
		return 1;
	}
	if (!strcmp(argv[1], "add"))
		return add();
	if (!strcmp(argv[1], "remove"))
		return take_away();
	return 0;
}
