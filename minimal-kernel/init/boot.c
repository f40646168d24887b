// SPDX-License-Identifier: Apache-2.0
/*
 * The pod's start: file systems, a writable root over a read-only image, vgpu-front. Nothing here stops the start: what fails
 * is told to the console and to the host with its HELLO, who can do more about it than a pod that does not come up.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define PHASES_MAX	16
#define TROUBLES_MAX	16

static struct {
	char label[32];
	uint64_t ns;
} phases[PHASES_MAX];
static unsigned int phase_count, trouble_count;
static char troubles[TROUBLES_MAX][300];
uint64_t boot_id;

/* CLOCK_MONOTONIC starts with the kernel. */
void phase_done(const char *label)
{
	if (phase_count == PHASES_MAX)
		return;
	snprintf(phases[phase_count].label, sizeof(phases[0].label), "%s", label);
	phases[phase_count++].ns = now_ns();
}

void trouble(const char *format, ...)
{
	char text[sizeof(troubles[0])];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "vgpu-init: %s\n", text);
	if (trouble_count < TROUBLES_MAX)
		strcpy(troubles[trouble_count++], text);
}

void boot_put_report(void)
{
	for (unsigned int i = 0; i < phase_count; i++) {
		size_t nest = wire_nest(&to_host, VGPU_AGENT_A_PHASE);

		wire_string(&to_host, VGPU_AGENT_A_LABEL, phases[i].label);
		wire_u64(&to_host, VGPU_AGENT_A_TIME_NS, phases[i].ns);
		wire_nest_end(&to_host, nest);
	}
	for (unsigned int i = 0; i < trouble_count; i++)
		wire_string(&to_host, VGPU_AGENT_A_TROUBLE, troubles[i]);
}

/* Where the root is read-only the directory is there or is not; @needed says whether that is worth a word. */
static void mount_one(const char *type, const char *where, unsigned long flags, const char *data, bool needed)
{
	struct stat root, st;

	mkdir(where, 0755);
	/* The kernel has mounted devtmpfs itself, if it was told to. */
	if (!stat("/", &root) && !stat(where, &st) && st.st_dev != root.st_dev && !strcmp(where, "/dev"))
		return;
	if (mount(type, where, type, flags, data) && needed)
		trouble("cannot mount %s on %s: %s", type, where, strerror(errno));
}

void boot_mounts(struct config *c)
{
	const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	umask(022);
	mount_one("proc", "/proc", safe, NULL, true);
	mount_one("sysfs", "/sys", safe, NULL, true);
	mount_one("devtmpfs", "/dev", MS_NOSUID, "mode=0755", true);
	mount_one("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666", true);
	mount_one("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", true);
	mount_one("mqueue", "/dev/mqueue", safe, NULL, false);
	mount_one("cgroup2", "/sys/fs/cgroup", safe, NULL, true);
	mount_one("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755", true);
	mkdir("/run/vgpu", 0755);
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	phase_done("mounts");
	config_read(c);
	if (c->debugfs)
		mount("debugfs", "/sys/kernel/debug", "debugfs", safe, NULL);
}

static int wait_for_device(const char *path)
{
	for (int i = 0; i < 500 && access(path, F_OK); i++)
		usleep(10000);
	return access(path, F_OK);
}

/* The image is on a block device of its own; its type is found by trying. */
static int mount_image(const char *device, const char *where)
{
	static const char *const types[] = { "squashfs", "erofs", "ext4" };

	if (wait_for_device(device)) {
		trouble("the root image's device %s did not appear within 5 s", device);
		return -1;
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!mount(device, where, types[i], MS_RDONLY, NULL))
			return 0;
	trouble("the root image on %s is neither squashfs nor erofs nor ext4: %s", device, strerror(errno));
	return -1;
}

static void carry_over(const char *from, const char *below)
{
	char to[64];

	snprintf(to, sizeof(to), "%s%s", below, from);
	mkdir(to, 0755);
	if (mount(from, to, NULL, MS_MOVE, NULL))
		trouble("cannot move %s to the new root: %s", from, strerror(errno));
}

static int enter(const char *root)
{
	static const char *const kept[] = { "/proc", "/sys", "/dev", "/run" };

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		carry_over(kept[i], root);
	if (chdir(root) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) {
		trouble("cannot make %s the root: %s", root, strerror(errno));
		return -1;
	}
	return 0;
}

/*
 * What "/" is afterwards: tmpfs over the image that vgpu.root names, or over the read-only root the kernel mounted. An
 * initramfs is writable as it is; it is only covered by itself, because a root without a parent mount cannot be exchanged
 * for another, as containers do.
 */
void boot_root(struct config *c)
{
	struct statvfs st;
	char data[256];
	bool read_only = !statvfs("/", &st) && st.f_flag & ST_RDONLY;

	mkdir("/mnt", 0755);
	if (!c->root && !read_only) {
		if (mount("/", "/mnt", NULL, MS_BIND, NULL))
			trouble("cannot bind the root: %s", strerror(errno));
		else
			enter("/mnt");
		goto done;
	}
	snprintf(data, sizeof(data), "mode=0755%s%.64s", c->overlay ? ",size=" : "", c->overlay ?: "");
	if (mount("tmpfs", "/mnt", "tmpfs", 0, data)) {
		trouble("cannot mount a tmpfs (%s) on /mnt: %s", data, strerror(errno));
		goto done;
	}
	mkdir("/mnt/image", 0755);
	mkdir("/mnt/upper", 0755);
	mkdir("/mnt/work", 0755);
	mkdir("/mnt/root", 0755);
	if (c->root ? mount_image(c->root, "/mnt/image") : mount("/", "/mnt/image", NULL, MS_BIND, NULL)) {
		trouble("the root stays as the kernel made it");
		goto done;
	}
	if (mount("overlay", "/mnt/root", "overlay", 0, "lowerdir=/mnt/image,upperdir=/mnt/upper,workdir=/mnt/work")) {
		trouble("cannot mount the overlay that makes the root writable: %s", strerror(errno));
		goto done;
	}
	/* The image as it is, for roots that are stacked upon it. */
	mkdir("/run/vgpu/base", 0755);
	if (mount("/mnt/image", "/run/vgpu/base", NULL, MS_BIND, NULL))
		trouble("cannot show the image at /run/vgpu/base: %s", strerror(errno));
	enter("/mnt/root");
done:
	mkdir("/tmp", 0755);
	if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"))
		trouble("cannot mount /tmp: %s", strerror(errno));
	phase_done("root");
}

/* ---- vgpu-front */

static int load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), result;

	if (fd < 0)
		return -1;
	result = syscall(SYS_finit_module, fd, "", 0);
	if (result && errno == EEXIST)
		result = 0;
	if (result)
		trouble("cannot load %s: %s; the kernel's log says more", path, strerror(errno));
	close(fd);
	return result;
}

void boot_modules(struct config *c)
{
	struct utsname name;
	char path[256];
	int fd;

	uname(&name);
	snprintf(path, sizeof(path), "/lib/modules/%s/vgpu-front.ko", name.release);
	/* Where the driver is built in there is no file, and nothing to say. */
	if (c->module)
		load(c->module);
	else if (!access(path, F_OK))
		load(path);
	if (!c->modules_open) {
		fd = open("/proc/sys/kernel/modules_disabled", O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (write(fd, "1", 1) != 1)
				trouble("cannot lock the loading of modules: %s", strerror(errno));
			close(fd);
		}
	}
	phase_done("modules");
}
