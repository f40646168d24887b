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
 * What one domain writes nobody else has, and what one reads nobody writes: as with Xen's `block`, whose lock is taken, so
 * that disks of either are seen by the other. A domain's own disks are its affair, and "w!" is for whoever knows better.
 *
 * libxenlight does not run `remove` for a backend that does not close within its 10 seconds, as one may not that was just
 * connecting when its domain was destroyed. So a loop device goes by itself when the last one closes it (autoclear), and that
 * is the backend driver: `add` holds it until the driver has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xenstore.h>

#define LOOP_TRIES	64	/* another one may take the free number first */
#define CLOSE_TRIES	100	/* of 50 ms, until the backend driver has let go of a loop device */
#define TAKE_TRIES	2000	/* of 5 ms, until the backend driver has opened it; it is one step of its watch's thread */

/* locking.sh's, for what it calls "block". */
#ifndef LOCK_DIR
#define LOCK_DIR	"/var/run/xen-hotplug"
#endif

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

/* ---- Who else has it */

/* What a disk is of: a block device, or the file that a loop device shows. */
struct disk {
	dev_t rdev;		/* 0: a file's, which has no loop device yet */
	bool file;
	uint64_t dev, inode;
};

/* Of the number that a backend has in xenstore, or a mount. */
static void disk_of(dev_t rdev, struct disk *d, char name[64])
{
	char path[64], link[256];
	struct loop_info64 info;
	ssize_t len;
	int fd;

	*d = (struct disk){ .rdev = rdev };
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(rdev), minor(rdev));
	snprintf(name, 64, "%u:%u", major(rdev), minor(rdev));
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return;
	link[len] = 0;
	snprintf(name, 64, "/dev/%.50s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
	fd = strncmp(name, "/dev/loop", 9) ? -1 : open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (!ioctl(fd, LOOP_GET_STATUS64, &info)) {
		d->file = true;
		d->dev = info.lo_device;
		d->inode = info.lo_inode;
	}
	close(fd);
}

static bool same_disk(const struct disk *a, const struct disk *b)
{
	return (a->rdev && a->rdev == b->rdev) || (a->file && b->file && a->dev == b->dev && a->inode == b->inode);
}

static char *read_of(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *read_of(const char *format, ...)
{
	char path[300];
	unsigned int len;
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	return xs_read(xs, XBT_NULL, path, &len);
}

/* Whose a domain's disks are: its own, or those of the domain that it is the device model of. NULL: it is gone. */
static char *machine_of(const char *domid)
{
	char *target = read_of("/local/domain/%s/target", domid);

	return read_of("/local/domain/%s/vm", target ? target : domid);
}

/* A backend that outlives its domain is as good as gone, here as in Xen's own script. */
static bool same_machine(const char *mine, const char *other)
{
	char *theirs = machine_of(other);

	return !theirs || (mine && !strcmp(mine, theirs));
}

/* Refuses if the backend @path of the domain @owner has the disk in a way that does not go with @write. */
static int check_backend(const char *path, const char *owner, const char *params, const struct disk *d, bool write)
{
	char *mode = read_of("%s/mode", path), *number, *frontend = get("frontend-id");
	unsigned int maj, min;
	struct disk other;
	char name[64];

	if (!write && !(mode && strchr(mode, 'w') && !strchr(mode, '!')))
		return 0;	/* two who read */
	number = read_of("%s/physical-device", path);
	if (!number || sscanf(number, "%x:%x", &maj, &min) != 2)
		return 0;
	disk_of(makedev(maj, min), &other, name);
	if (!same_disk(d, &other) || same_machine(frontend ? machine_of(frontend) : NULL, owner))
		return 0;
	return fail("%s %s is mounted %sin a guest domain (%s, as %s), and so cannot be mounted %snow: detach it there%s",
		    d->rdev ? "Device" : "File", params, write ? "" : "read-write ", owner, name,
		    write ? "" : "read-only ", write ? ", or give access=ro to both" : "");
}

/* 0: no other domain has it */
static int check_guests(const char *params, const struct disk *d, bool write)
{
	char base[300], path[400], **domains, **devices;
	unsigned int ndomains = 0, ndevices = 0;

	/* ".../backend/vbd" of ".../backend/vbd/7/51712" */
	snprintf(base, sizeof(base), "%s", dir);
	for (int i = 0; i < 2 && strrchr(base, '/'); i++)
		*strrchr(base, '/') = 0;
	domains = xs_directory(xs, XBT_NULL, base, &ndomains);
	for (unsigned int i = 0; domains && i < ndomains; i++) {
		snprintf(path, sizeof(path), "%s/%s", base, domains[i]);
		devices = xs_directory(xs, XBT_NULL, path, &ndevices);
		for (unsigned int j = 0; devices && j < ndevices; j++) {
			snprintf(path, sizeof(path), "%s/%s/%s", base, domains[i], devices[j]);
			if (check_backend(path, domains[i], params, d, write))
				return 1;
		}
	}
	return 0;
}

/* The same for what this domain has mounted. */
static int check_mounts(const char *params, const struct disk *d, bool write)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	struct disk other;
	struct stat st;
	char name[64];

	while (mounts && (m = getmntent(mounts))) {
		if (!write && hasmntopt(m, MNTOPT_RO))
			continue;
		if (m->mnt_fsname[0] != '/' || stat(m->mnt_fsname, &st) || !S_ISBLK(st.st_mode))
			continue;
		disk_of(st.st_rdev, &other, name);
		if (!same_disk(d, &other))
			continue;
		return fail("%s %s is mounted %sin the privileged domain (on %s), and so cannot be mounted %sby a guest: "
			    "unmount it first", d->rdev ? "Device" : "File", params, write ? "" : "read-write ", m->mnt_dir,
			    write ? "" : "read-only ");
	}
	if (mounts)
		endmntent(mounts);
	return 0;
}

/* From the look at who has it until it is said who has it. Xen's scripts remove the file at the end. @return -1: none */
static int lock(void)
{
	static const char path[] = LOCK_DIR "/block";
	struct stat ours, there;

	if (mkdir(LOCK_DIR, 0755) && errno != EEXIST)
		return -1;
	for (;;) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || flock(fd, LOCK_EX))
			return -1;
		if (!fstat(fd, &ours) && !stat(path, &there) && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
			return fd;
		close(fd);
	}
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

/* Under the lock: nobody else may have it, and then others see that we do. @held: see loop_for() */
static int take(const char *params, const struct stat *target, const char *mode, int *held)
{
	bool write = mode && strchr(mode, 'w');
	struct disk d = { 0 };
	dev_t dev = target->st_rdev;
	char name[64], number[32];
	struct stat st;

	if (S_ISBLK(target->st_mode))
		disk_of(dev, &d, name);
	else
		d = (struct disk){ .file = true, .dev = target->st_dev, .inode = target->st_ino };
	if (!(mode && strchr(mode, '!')) && (check_mounts(params, &d, write) || check_guests(params, &d, write)))
		return 1;
	if (S_ISREG(target->st_mode)) {
		const char *what;
		int n = loop_for(params, write, &what, held);

		if (n < 0)
			return fail("%s for %s: %s%s", what, params, strerror(-n),
				    n == -ENOENT ? " (is the module `loop` loaded?)" : "");
		snprintf(name, sizeof(name), "/dev/loop%d", n);
		if (stat(name, &st))
			return fail("%s: %s", name, strerror(errno));
		dev = st.st_rdev;
		if (!put("node", name))
			return fail("writing to xenstore: %s", strerror(errno));
	}
	snprintf(number, sizeof(number), "%x:%x", major(dev), minor(dev));
	return put("physical-device", number) ? 0 : fail("writing to xenstore: %s", strerror(errno));
}

static int add(void)
{
	char *mode = get("mode"), *done = get("physical-device");
	const char *params = target();
	int held = -1, locked, ret;
	struct stat st;

	if (done)	/* the same event twice */
		return 0;
	if (!params)
		return fail("the disk has no target: write target=/path in its configuration");
	if (stat(params, &st))
		return fail("%s: %s: give an existing file or block device as target=", params, strerror(errno));
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return fail("%s is neither a file nor a block device", params);
	locked = lock();
	if (locked < 0)
		return fail("%s: cannot lock " LOCK_DIR "/block, without which another domain may take it, too: %s", params,
			    strerror(errno));
	ret = take(params, &st, mode, &held);
	close(locked);
	if (ret)
		return ret;
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
