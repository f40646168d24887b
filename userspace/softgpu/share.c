// SPDX-License-Identifier: Apache-2.0
/*
 * How other processes find memory: names and memfds (userspace/cuda/softgpu_share.h). With a host, descriptors come and go
 * through it; without one, a name leads to /proc/PID/fd, which is open to processes of the same user.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cuda/softgpu_share.h"
#include "share.h"

#define MAGIC	"softgpu\1"
#define TRAILER	4096	/* bytes */
#define EXPORT	__attribute__((visibility("default")))

/* struct share - something published, or (@offered) what an open is to find. @fd: -1 once it was taken */
struct share {
	struct sg_name name;
	bool offered;
	int fd;
	struct share *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct share *shares;
static const struct softgpu_share_host *host;

EXPORT void softgpu_share_host(const struct softgpu_share_host *h)
{
	host = h;
}

/* Under the lock. */
static struct share **find(const void *name, bool offered)
{
	struct share **p;

	for (p = &shares; *p && ((*p)->offered != offered || memcmp(&(*p)->name, name, sizeof((*p)->name))); p = &(*p)->next)
		;
	return p;
}

static int add(const void *name, int fd, bool offered)
{
	struct share *s = malloc(sizeof(*s));

	if (!s)
		return -1;
	memcpy(&s->name, name, sizeof(s->name));
	s->offered = offered;
	s->fd = fd;
	pthread_mutex_lock(&lock);
	s->next = shares;
	shares = s;
	pthread_mutex_unlock(&lock);
	return 0;
}

static int take_out(const void *name, bool offered)
{
	struct share **p, *s;
	int fd = -1;

	pthread_mutex_lock(&lock);
	p = find(name, offered);
	s = *p;
	if (s) {
		fd = s->fd;
		*p = s->next;
	}
	pthread_mutex_unlock(&lock);
	free(s);
	return fd;
}

EXPORT int softgpu_share_take(const void *name)
{
	struct share *s;
	int fd = -1;

	pthread_mutex_lock(&lock);
	s = *find(name, false);
	if (s) {
		fd = s->fd;
		s->fd = -1;
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

EXPORT void softgpu_share_offer(const void *name, int fd)
{
	int old = take_out(name, true);

	if (old >= 0)
		close(old);
	if (add(name, fd, true))
		close(fd);
}

static bool solid(int fd, uint64_t size)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < size)
		return false;
	/* With a host it is the host's word that counts: its sandbox lets nobody ask. */
	seals = host ? F_SEAL_SHRINK : fcntl(fd, F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_SHRINK;
}

/* Behind what is shared its name lies in the memfd, so that neither a guess nor another file will do. */
static bool write_trailer(int fd, const struct sg_name *name)
{
	/* Not with pwrite(): the sandbox limits the size of files that are written to. */
	void *page = mmap(NULL, TRAILER, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)name->size);

	if (page == MAP_FAILED)
		return false;
	memcpy(page, name, sizeof(*name));
	munmap(page, TRAILER);
	return true;
}

CUresult sg_share_new(enum sg_share_kind kind, uint64_t size, int device, const uint8_t *pool,
		      struct sg_name *name, int *fd)
{
	uint64_t bytes = size + TRAILER;
	struct stat st;

	*name = (struct sg_name){ .kind = kind, .size = size, .device = (uint32_t)device, .pid = (uint32_t)getpid() };
	memcpy(name->magic, MAGIC, sizeof(name->magic));
	if (getrandom(name->key, sizeof(name->key), 0) != sizeof(name->key))
		return CUDA_ERROR_OPERATING_SYSTEM;
	if (pool)
		memcpy(name->pool, pool, sizeof(name->pool));
	if (host) {
		*fd = host->memory(bytes);
	} else {
		*fd = memfd_create("softgpu-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (*fd >= 0 && (ftruncate(*fd, (off_t)bytes) ||
				 fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))) {
			close(*fd);
			*fd = -1;
		}
	}
	if (*fd < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (fstat(*fd, &st)) {
		close(*fd);
		return CUDA_ERROR_OPERATING_SYSTEM;
	}
	name->inode = st.st_ino;
	name->fd = *fd;
	if (write_trailer(*fd, name))
		return CUDA_SUCCESS;
	close(*fd);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

int sg_share_copy(int fd)
{
	return host ? dup(fd) : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

CUresult sg_share_publish(const struct sg_name *name, int fd)
{
	return add(name, fd, false) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

void sg_share_gone(const struct sg_name *name)
{
	int fd = take_out(name, false);

	if (fd >= 0)
		close(fd);
}

CUresult sg_share_find(const void *handle, enum sg_share_kind kind, struct sg_name *name, int *fd)
{
	struct sg_name there;
	struct stat st;
	char path[48];
	bool own;

	memcpy(name, handle, sizeof(*name));
	if (memcmp(name->magic, MAGIC, sizeof(name->magic)) || name->kind != kind || !name->size || name->size > SG_HEAP_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	if (host) {
		*fd = take_out(name, true);
	} else {
		pthread_mutex_lock(&lock);
		own = *find(name, false) != NULL;
		pthread_mutex_unlock(&lock);
		if (own)
			return CUDA_ERROR_INVALID_CONTEXT;
		snprintf(path, sizeof(path), "/proc/%u/fd/%d", name->pid, name->fd);
		*fd = open(path, O_RDWR | O_CLOEXEC);
		/* The number may be another file's by now. */
		if (*fd >= 0 && (fstat(*fd, &st) || st.st_ino != name->inode)) {
			close(*fd);
			*fd = -1;
		}
	}
	if (*fd < 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (sg_share_describe(*fd, kind, &there) && !memcmp(&there, name, sizeof(there)))
		return CUDA_SUCCESS;
	close(*fd);
	return CUDA_ERROR_INVALID_VALUE;
}

bool sg_share_describe(int fd, enum sg_share_kind kind, struct sg_name *name)
{
	struct stat st;

	if (!solid(fd, TRAILER) || fstat(fd, &st) ||
	    pread(fd, name, sizeof(*name), st.st_size - TRAILER) != (ssize_t)sizeof(*name))
		return false;
	return !memcmp(name->magic, MAGIC, sizeof(name->magic)) && name->kind == kind && name->size &&
	       name->size <= (uint64_t)st.st_size - TRAILER;
}
