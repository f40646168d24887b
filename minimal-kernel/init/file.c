// SPDX-License-Identifier: Apache-2.0
/* PUT and GET: files in and out, below the pod's root or a process's. */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"

#define A(name)	VGPU_AGENT_A_##name

struct file {
	int fd, parent;
	char name[NAME_MAX + 1], temporary[64];
	uint32_t mode, uid, gid;
	uint64_t mtime;
	bool has_mtime;
};

/* A descriptor of the root that @process has, or of the pod's. */
static int root_of(const char *process, struct failure *f)
{
	struct process *p;
	char path[64] = "/";
	int fd;

	if (process) {
		p = process_find(process);
		if (!p || !p->pid_known || p->state == VGPU_AGENT_EXITED || p->state == VGPU_AGENT_CREATING)
			return refuse(f, ESRCH, "there is no process %s that has a root", process);
		snprintf(path, sizeof(path), "/proc/%d/root", p->pid);
	}
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fail(f, "cannot reach the root of %s", process ?: "the pod") : fd;
}

/* The directory that @path's last part is in; that part into @name. */
static int parent_of(int root, const char *path, bool make, char name[NAME_MAX + 1], struct failure *f)
{
	char copy[PATH_MAX], *slash;
	int fd;

	if (strlen(path) >= sizeof(copy))
		return refuse(f, ENAMETOOLONG, "the path is too long");
	strcpy(copy, path);
	slash = strrchr(copy, '/');
	snprintf(name, NAME_MAX + 1, "%s", slash + 1);
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return refuse(f, EINVAL, "%.200s: not a file's name", path);
	*slash = 0;
	if (*copy && make && make_directories(root, copy, 0755))
		return fail(f, "cannot make the directory %.200s", copy);
	fd = open_in_root(root, *copy ? copy : "/", O_PATH | O_DIRECTORY, 0);
	return fd < 0 ? fail(f, "cannot reach the directory %.200s", copy) : fd;
}

static void file_free(struct file *file)
{
	if (file->temporary[0])
		unlinkat(file->parent, file->temporary, 0);
	if (file->fd >= 0)
		close(file->fd);
	if (file->parent >= 0)
		close(file->parent);
	free(file);
}

/* ---- PUT */

static void put_finish(struct call *c)
{
	struct file *file = c->object;
	struct failure f;
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = file->mtime / 1000000000u, .tv_nsec = file->mtime % 1000000000u } };

	if (fchown(file->fd, file->uid, file->gid) || fchmod(file->fd, file->mode & 07777) ||
	    (file->has_mtime && futimens(file->fd, times)) || renameat(file->parent, file->temporary, file->parent, file->name)) {
		fail(&f, "cannot make the file %.200s", file->name);
		file_free(file);
		call_fail(c, &f);
		return;
	}
	file->temporary[0] = 0;
	file_free(file);
	call_reply(c);
}

static void put_input(struct call *c)
{
	struct file *file = c->object;
	struct failure f;

	while (c->input.len) {
		ssize_t n = write(file->fd, c->input.data + c->input.start, c->input.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			fail(&f, "cannot write the file %.200s", file->name);
			file_free(file);
			call_fail(c, &f);
			return;
		}
		wire_drop(&c->input, n);
		call_consumed(c, n);
	}
	if (c->ended[0])
		put_finish(c);
}

static void file_cancel(struct call *c, bool lost)
{
	file_free(c->object);
	if (!lost)
		call_failf(c, ECANCELED, "cancelled");
}

static const struct call_ops put_ops = { .input = put_input, .cancel = file_cancel };

static int put_begin(struct call *c, const struct request_attrs *a, struct failure *f)
{
	static unsigned int number;
	struct file *file = calloc(1, sizeof(*file));
	int root = file ? root_of(a->name, f) : -1, result = -1;

	if (!file)
		return refuse(f, ENOMEM, "out of memory");
	file->fd = file->parent = -1;
	if (root < 0)
		goto out;
	file->parent = parent_of(root, a->path, a->flags & VGPU_AGENT_F_PARENTS, file->name, f);
	close(root);
	if (file->parent < 0)
		goto out;
	file->mode = a->mode;
	file->uid = a->uid;
	file->gid = a->gid;
	file->mtime = a->mtime;
	file->has_mtime = a->seen & 1ull << (A(MTIME) & 63);
	snprintf(file->temporary, sizeof(file->temporary), ".vgpu-put.%d.%u", getpid(), ++number);
	switch (a->file_type) {
	case VGPU_AGENT_FILE:
		file->fd = openat(file->parent, file->temporary, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
		if (file->fd < 0) {
			file->temporary[0] = 0;
			fail(f, "cannot make a file beside %.200s", a->path);
			goto out;
		}
		call_keep(c, &put_ops, file);
		return 0;
	case VGPU_AGENT_DIRECTORY:
		file->temporary[0] = 0;
		result = mkdirat(file->parent, file->name, 0700);
		if (result && errno == EEXIST)
			result = 0;
		file->fd = result ? -1 : openat(file->parent, file->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (result || file->fd < 0 || fchown(file->fd, a->uid, a->gid) || fchmod(file->fd, a->mode & 07777))
			result = fail(f, "cannot make the directory %.200s", a->path);
		break;
	case VGPU_AGENT_SYMLINK:
		/* Replaced in one step, as a ConfigMap's "..data" has to be. */
		result = a->target ? symlinkat(a->target, file->parent, file->temporary) : -1;
		if (!a->target) {
			file->temporary[0] = 0;
			refuse(f, EINVAL, "the symbolic link %.200s has no target", a->path);
		} else if (result || fchownat(file->parent, file->temporary, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) ||
			   renameat(file->parent, file->temporary, file->parent, file->name)) {
			result = fail(f, "cannot make the symbolic link %.200s", a->path);
		} else {
			file->temporary[0] = 0;
		}
		break;
	default:
		file->temporary[0] = 0;
		refuse(f, EINVAL, "%u is no type of file", a->file_type);
	}
	if (!result)
		call_reply(c);
out:
	file_free(file);
	return result;
}

void file_put(struct call *c, const struct request_attrs *a)
{
	struct failure f = { 0 };

	if (put_begin(c, a, &f))
		call_fail(c, &f);
}

/* ---- GET */

static void put_stat(const struct stat *st)
{
	wire_u32(&to_host, A(FILE_TYPE), S_ISDIR(st->st_mode) ? VGPU_AGENT_DIRECTORY : VGPU_AGENT_FILE);
	wire_u32(&to_host, A(MODE), st->st_mode & 07777);
	wire_u64(&to_host, A(SIZE), st->st_size);
	wire_u32(&to_host, A(UID), st->st_uid);
	wire_u32(&to_host, A(GID), st->st_gid);
	wire_u64(&to_host, A(MTIME), st->st_mtim.tv_sec * 1000000000ull + st->st_mtim.tv_nsec);
}

static void get_finish(struct call *c)
{
	struct file *file = c->object;
	struct stat st = { 0 };
	size_t begun;

	fstat(file->fd, &st);
	call_end_stream(c, 1);
	begun = call_reply_begin(c);
	put_stat(&st);
	call_reply_end(c, begun);
	file_free(file);
}

static void get_output(struct call *c)
{
	static uint8_t buf[VGPU_AGENT_DATA_MAX];
	struct file *file = c->object;
	struct failure f;

	while (c->credit[1] && conn_has_room()) {
		ssize_t n = read(file->fd, buf, c->credit[1] < sizeof(buf) ? c->credit[1] : sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail(&f, "cannot read the file %.200s", file->name);
			file_free(file);
			call_fail(c, &f);
			return;
		}
		if (!n) {
			get_finish(c);
			return;
		}
		call_data(c, 1, buf, n);
	}
}

static const struct call_ops get_ops = { .output = get_output, .cancel = file_cancel };

void file_get(struct call *c, const struct request_attrs *a)
{
	struct file *file = calloc(1, sizeof(*file));
	struct failure f = { 0 };
	struct stat st;
	int root = file ? root_of(a->name, &f) : refuse(&f, ENOMEM, "out of memory");

	if (root < 0) {
		free(file);
		call_fail(c, &f);
		return;
	}
	file->parent = -1;
	snprintf(file->name, sizeof(file->name), "%s", a->path);
	/* Never waits: a FIFO or a device somebody put there is refused. */
	file->fd = open_in_root(root, a->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	close(root);
	if (file->fd < 0 || fstat(file->fd, &st)) {
		fail(&f, "cannot open %.200s", a->path);
	} else if (S_ISDIR(st.st_mode)) {
		size_t begun = call_reply_begin(c);

		put_stat(&st);
		call_reply_end(c, begun);
		file_free(file);
		return;
	} else if (!S_ISREG(st.st_mode)) {
		refuse(&f, EINVAL, "%.200s is neither a file nor a directory", a->path);
	} else {
		call_keep(c, &get_ops, file);
		c->no_input = true;
		get_output(c);
		return;
	}
	file_free(file);
	call_fail(c, &f);
}
