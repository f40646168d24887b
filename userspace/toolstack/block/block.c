// SPDX-License-Identifier: Apache-2.0
/*
 * vgpu-block: hotplug script of a disk, for machines without a shell that is up to Xen's own `block`, and for pods that
 * come and go by the hundred. Understands what that one does for phy: block devices, and files through loop devices.
 *
 *	disk = [ "format=raw,vdev=xvda,access=ro,script=vgpu-block,target=/pod.img" ]
 *
 * libxenlight runs it as `vgpu-block add` or `remove` with XENBUS_PATH, the backend's directory, in the environment.
 * Errors go to xenstore, where libxenlight looks for them (hotplug-error), and to standard error.
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

/* A loop device for the file. @return its number or -errno */
static int loop_for(const char *file, bool write, const char **what)
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
	config.info.lo_flags = write ? 0 : LO_FLAGS_READ_ONLY;
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
		close(dev);
		if (ret < 0 && ret != -EBUSY)
			break;
	}
	close(fd);
	close(control);
	return ret;
}

static int add(void)
{
	char *params = get("params"), *mode = get("mode"), *done = get("physical-device"), number[32], name[32];
	bool write = mode && strchr(mode, 'w');
	struct stat st;
	dev_t dev;

	if (done)	/* the same event twice */
		return 0;
	if (!params || !*params)
		return fail("the disk has no target: write target=/path in its configuration");
	if (!strncmp(params, "aio:", 4) || !strncmp(params, "phy:", 4))
		params += 4;
	if (!strncmp(params, "file:", 5))
		params += 5;
	if (stat(params, &st))
		return fail("%s: %s: give an existing file or block device as target=", params, strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		dev = st.st_rdev;
	} else if (S_ISREG(st.st_mode)) {
		const char *what;
		int n = loop_for(params, write, &what);

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
	if (!put("physical-device", number) || !put("hotplug-status", "connected"))
		return fail("writing to xenstore: %s", strerror(errno));
	return 0;
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
		ret = ioctl(fd, LOOP_CLR_FD, 0) ? -errno : 0;
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
