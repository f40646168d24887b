// SPDX-License-Identifier: Apache-2.0
/*
 * In the child, in its own mount namespace: the process's root and all that is mounted, hidden and made in it. The root's
 * contents are an image from anywhere, so every path in it is resolved by the kernel as if the root were "/".
 */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <unistd.h>

#include "init.h"

#define PROPAGATION (MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE)
/* What a remount of a bind mount can change; locked ones must be repeated. */
#define ATTRIBUTES (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME)

#define LINKS_MAX 40	/* on the way to what a link leads to, as the kernel has it */

/* While anything is renamed or mounted the kernel cannot tell that ".." stays in the root, and wants to be asked again. */
#define TRIES_MAX 1000

int open_in_root(int root, const char *path, int flags, int mode)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int base = root < 0 ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : root, fd, error, tries = 0;

	if (base < 0)
		return -1;
	do
		fd = syscall(SYS_openat2, base, path, &how, sizeof(how));
	while (fd < 0 && errno == EAGAIN && ++tries < TRIES_MAX);
	error = errno;
	if (root < 0)
		close(base);
	errno = error;
	return fd;
}

/*
 * Where a link leads that leads nowhere yet, as a path in the root: what it says is from anybody, and only ever resolved
 * there. @parent: the directory of @path.
 */
static int follow(int parent, const char *path, char target[PATH_MAX])
{
	const char *name = strrchr(path, '/') + 1;
	char says[PATH_MAX];
	ssize_t len = readlinkat(parent, name, says, sizeof(says) - 1);

	if (len < 0)
		return -1;
	says[len] = 0;
	len = snprintf(target, PATH_MAX, "%.*s%s", says[0] == '/' ? 0 : (int)(name - path), path, says);
	if (len < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

static int make_path(int root, const char *path, mode_t mode, int links);

/* @path is not there, its parent is; or it is a link to what is not there. */
static int make_directory(int root, char *path, mode_t mode, int links)
{
	char *name = strrchr(path, '/'), target[PATH_MAX];
	int parent, result;

	*name = 0;
	parent = open_in_root(root, *path ? path : "/", O_PATH | O_DIRECTORY, 0);
	*name = '/';
	if (parent < 0)
		return -1;
	result = mkdirat(parent, name + 1, mode);
	if (result && errno == EEXIST) {
		if (!follow(parent, path, target))
			result = make_path(root, target, mode, links + 1);
		else if (errno == EINVAL)
			result = 0;	/* somebody else made it just now */
	}
	close(parent);
	return result;
}

/* Component by component, each resolved in the root. */
static int make_path(int root, const char *path, mode_t mode, int links)
{
	char copy[PATH_MAX], *slash;

	if (links > LINKS_MAX || snprintf(copy, sizeof(copy), "%s/", path) >= (int)sizeof(copy)) {
		errno = links > LINKS_MAX ? ELOOP : ENAMETOOLONG;
		return -1;
	}
	for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int fd;

		*slash = 0;
		fd = open_in_root(root, copy, O_PATH, 0);
		if (fd >= 0)
			close(fd);
		else if (errno != ENOENT || make_directory(root, copy, mode, links))
			return -1;
		*slash = '/';
	}
	return 0;
}

/* mkdir -p. What a link in an image leads to is made as well: "/var/run" may be "/run", and that not be there. */
int make_directories(int root, const char *path, mode_t mode)
{
	return make_path(root, path, mode, 0);
}

static void fd_path(int fd, char path[32])
{
	snprintf(path, 32, "/proc/self/fd/%d", fd);
}

static int make_file(int root, const char *path, int links)
{
	char copy[PATH_MAX], target[PATH_MAX], *name;
	int parent, fd, result = 0;

	if (links > LINKS_MAX) {
		errno = ELOOP;
		return -1;
	}
	snprintf(copy, sizeof(copy), "%s", path);
	name = strrchr(copy, '/');
	*name = 0;
	if (*copy && make_directories(root, copy, 0755))
		return -1;
	parent = open_in_root(root, *copy ? copy : "/", O_PATH | O_DIRECTORY, 0);
	if (parent < 0)
		return -1;
	*name = '/';
	fd = openat(parent, name + 1, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
	else if (errno != EEXIST)
		result = -1;
	else if (!follow(parent, copy, target))
		result = make_file(root, target, links + 1);
	close(parent);
	return result;
}

/* The mount point, made if it is not there: a directory, or a file if that is what is to be bound. */
static int mount_point(int root, const char *path, bool file)
{
	int fd = open_in_root(root, path, O_PATH, 0);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (file ? make_file(root, path, 0) : make_directories(root, path, 0755))
		return -1;
	return open_in_root(root, path, O_PATH, 0);
}

/* overlayfs wants its upper and work directories to be there. */
static void make_overlay_directories(const char *data)
{
	char copy[4096], *word, *rest;

	snprintf(copy, sizeof(copy), "%s", data);
	for (word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
		if (!strncmp(word, "upperdir=", 9))
			make_directories(-1, word + 9, 0755);
		else if (!strncmp(word, "workdir=", 8))
			make_directories(-1, word + 8, 0755);
}

static bool source_is_file(const struct spec_mount *m)
{
	struct stat st;

	return m->flags & MS_BIND && m->source && !stat(m->source, &st) && !S_ISDIR(st.st_mode);
}

/* Flags of a bind mount come with a remount; those it was born with stay. */
static int remount(const char *target, uint64_t flags)
{
	struct statvfs st;
	uint64_t keep = 0;

	if (!statvfs(target, &st))
		keep = (st.f_flag & ST_NOSUID ? MS_NOSUID : 0) | (st.f_flag & ST_NODEV ? MS_NODEV : 0) |
		       (st.f_flag & ST_NOEXEC ? MS_NOEXEC : 0) | (st.f_flag & ST_RDONLY ? MS_RDONLY : 0);
	return mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | (flags & ATTRIBUTES) | keep, NULL);
}

/* What is to hold for the mounts below it, too; a remount reaches the topmost only. */
static int set_recursively(int fd, const struct spec_mount *m)
{
	struct mount_attr attr = { .attr_set = m->recursive[0], .attr_clr = m->recursive[1] };

	return mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr));
}

int rootfs_mount(int root, const struct spec_mount *m, struct failure *f)
{
	uint64_t flags = m->flags & ~(uint64_t)PROPAGATION;
	char target[32];
	int fd;

	if (m->type && !strcmp(m->type, "overlay") && m->data)
		make_overlay_directories(m->data);
	fd = mount_point(root, m->path, source_is_file(m));
	if (fd < 0)
		return fail(f, "cannot make the mount point %.200s", m->path);
	fd_path(fd, target);
	if (mount(m->source ?: "none", target, m->type, flags & MS_BIND ? flags & (MS_BIND | MS_REC) : flags, m->data)) {
		fail(f, "cannot mount %.150s (%.30s) on %.150s", m->source ?: "", m->type ?: "bind", m->path);
		close(fd);
		return -1;
	}
	close(fd);
	if (!(flags & MS_BIND && flags & ATTRIBUTES) && !m->propagation && !m->recursive[0] && !m->recursive[1])
		return 0;
	/* Resolved again: what was opened lies below the mount now. */
	fd = open_in_root(root, m->path, O_PATH, 0);
	if (fd < 0)
		return fail(f, "cannot find the mount on %.200s", m->path);
	fd_path(fd, target);
	if (flags & MS_BIND && flags & ATTRIBUTES && remount(target, flags)) {
		fail(f, "cannot set the flags of the mount on %.200s", m->path);
		close(fd);
		return -1;
	}
	if ((m->recursive[0] || m->recursive[1]) && set_recursively(fd, m)) {
		fail(f, "cannot set the recursive flags of the mount on %.200s", m->path);
		close(fd);
		return -1;
	}
	if (m->propagation && mount(NULL, target, NULL, m->propagation, NULL)) {
		fail(f, "cannot set the propagation of the mount on %.200s", m->path);
		close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

/* Nothing but the device asked for, whoever made it: its name in an image may be a link, or any file. */
static int set_device(int parent, const char *name, const struct spec_device *d, mode_t type, struct failure *f)
{
	int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), result = 0;
	char path[32];
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		result = fail(f, "cannot open the device %.200s", d->path);
	} else if ((st.st_mode & S_IFMT) != type || (type != S_IFIFO && st.st_rdev != makedev(d->major, d->minor))) {
		result = refuse(f, EEXIST, "cannot make the device %.200s: the image has something else there; remove it, or "
				"mount a tmpfs on its directory", d->path);
	} else {
		fd_path(fd, path);
		if (((st.st_uid != d->uid || st.st_gid != d->gid) && fchownat(fd, "", d->uid, d->gid, AT_EMPTY_PATH)) ||
		    ((st.st_mode & 07777) != (d->mode & 07777) && chmod(path, d->mode & 07777)))
			result = fail(f, "cannot set owner and mode of the device %.200s", d->path);
	}
	if (fd >= 0)
		close(fd);
	return result;
}

static int make_device(int root, const struct spec_device *d, struct failure *f)
{
	char copy[PATH_MAX], *name;
	mode_t type = d->type == 'c' ? S_IFCHR : d->type == 'b' ? S_IFBLK : S_IFIFO;
	int parent, result;

	snprintf(copy, sizeof(copy), "%s", d->path);
	name = strrchr(copy, '/');
	*name = 0;
	if (*copy && make_directories(root, copy, 0755))
		return fail(f, "cannot make the directory of %.200s", d->path);
	parent = open_in_root(root, *copy ? copy : "/", O_PATH | O_DIRECTORY, 0);
	if (parent < 0)
		return fail(f, "cannot find the directory of %.200s", d->path);
	if (mknodat(parent, name + 1, type | (d->mode & 07777), makedev(d->major, d->minor)) && errno != EEXIST)
		result = fail(f, "cannot make the device %.200s", d->path);
	else
		result = set_device(parent, name + 1, d, type, f);
	close(parent);
	return result;
}

/*
 * What OCI's runtime specification wants in every container's /dev, beside the devices that it names. Not in the pod's own,
 * if that is what was mounted there, and not where nothing can be written.
 */
static int make_links(int root, struct failure *f)
{
	static const struct { const char *name, *target; } links[] = {
		{ "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
		{ "stderr", "/proc/self/fd/2" },
	};
	struct stat pods, own;
	struct statfs fs;
	int dev, pts, result = 0;

	if (make_directories(root, "/dev", 0755) && errno != EROFS)
		return fail(f, "cannot make the directory /dev");
	dev = open_in_root(root, "/dev", O_PATH | O_DIRECTORY, 0);
	if (dev < 0)
		return errno == ENOENT ? 0 : fail(f, "cannot open the directory /dev");
	if (!fstat(dev, &own) && !stat("/dev", &pods) && own.st_dev == pods.st_dev && own.st_ino == pods.st_ino)
		goto out;
	for (size_t i = 0; !result && i < sizeof(links) / sizeof(links[0]); i++)
		if (symlinkat(links[i].target, dev, links[i].name) && errno != EEXIST && errno != EROFS)
			result = fail(f, "cannot make the link /dev/%s", links[i].name);
	/* A terminal's place in a devpts is beside the ptmx that made it. */
	pts = open_in_root(root, "/dev/pts", O_PATH | O_DIRECTORY, 0);
	if (!result && pts >= 0 && !fstatfs(pts, &fs) && fs.f_type == DEVPTS_SUPER_MAGIC &&
	    ((unlinkat(dev, "ptmx", 0) && errno != ENOENT && errno != EROFS) ||
	     (symlinkat("pts/ptmx", dev, "ptmx") && errno != EEXIST && errno != EROFS)))
		result = fail(f, "cannot make the link /dev/ptmx");
	if (pts >= 0)
		close(pts);
out:
	close(dev);
	return result;
}

static int hide(const char *path, struct failure *f)
{
	struct stat st;
	int result;

	if (stat(path, &st))
		return 0;	/* what is not there needs no hiding */
	if (S_ISDIR(st.st_mode))
		result = mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0k");
	else
		result = mount("/dev/null", path, NULL, MS_BIND, NULL);
	return result ? fail(f, "cannot hide %.200s", path) : 0;
}

static int protect(const char *path, struct failure *f)
{
	struct stat st;

	if (stat(path, &st))
		return 0;
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) || remount(path, MS_RDONLY))
		return fail(f, "cannot make %.200s read-only", path);
	return 0;
}

/*
 * The root becomes "/" and nothing outside stays reachable. A kernel's first root (initramfs) cannot be exchanged, only
 * covered; main.c sees to it that nothing here lives on that.
 */
static int change_root(const char *root, struct failure *f)
{
	if (chdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return fail(f, "cannot make %.200s the root", root);
	return 0;
}

int rootfs_enter(const struct spec *s, struct failure *f)
{
	int root = -1;

	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fail(f, "cannot keep its mounts to itself");
	if (s->root) {
		if (mount(s->root, s->root, NULL, MS_BIND | MS_REC, NULL))
			return fail(f, "cannot use %.200s as root", s->root);
		root = open(s->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return fail(f, "cannot open the root %.200s", s->root);
	}
	for (size_t i = 0; i < s->mounts.count; i++)
		if (rootfs_mount(root, LIST_ITEM(&s->mounts, struct spec_mount, i), f))
			return -1;
	for (size_t i = 0; i < s->devices.count; i++)
		if (make_device(root, LIST_ITEM(&s->devices, struct spec_device, i), f))
			return -1;
	if (root >= 0) {
		if (make_links(root, f))
			return -1;
		close(root);
		if (change_root(s->root, f))
			return -1;
	}
	return 0;
}

int rootfs_seal(const struct spec *s, struct failure *f)
{
	if (s->readonly_root && remount("/", MS_RDONLY))
		return fail(f, "cannot make the root read-only");
	for (size_t i = 0; i < s->readonly.count; i++)
		if (protect(*LIST_ITEM(&s->readonly, const char *, i), f))
			return -1;
	for (size_t i = 0; i < s->masked.count; i++)
		if (hide(*LIST_ITEM(&s->masked, const char *, i), f))
			return -1;
	return 0;
}
