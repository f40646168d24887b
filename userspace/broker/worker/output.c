// SPDX-License-Identifier: Apache-2.0
/*
 * What kernels print. Drivers write it to the process's standard output (failed assertions: standard error) when the
 * host learns that work is done. The worker's are buffers in memory, whose text goes to the client ahead of the reply
 * that tells of the end.
 *
 * The C library's stdout is a stream of our own, so that looking for text costs no system call. A driver that writes to
 * file descriptor 1 itself finds a memory file there; that is looked at only with such a driver.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker.h"

#define BUFFER_MAX	(1u << 20)	/* as CUDA's own default; more in one go is cut */

static struct buffer {
	pthread_mutex_t lock;
	char *text;
	size_t len, cap;
	bool cut;
} out = { .lock = PTHREAD_MUTEX_INITIALIZER }, err = { .lock = PTHREAD_MUTEX_INITIALIZER };

static ssize_t collect(void *cookie, const char *text, size_t len)
{
	struct buffer *b = cookie;
	size_t take = len, cap;
	char *p;

	pthread_mutex_lock(&b->lock);
	if (take > BUFFER_MAX - b->len) {
		take = BUFFER_MAX - b->len;
		b->cut = true;
	}
	if (b->len + take > b->cap) {
		cap = b->cap ? b->cap : 4096;
		while (cap < b->len + take)
			cap *= 2;
		p = realloc(b->text, cap);
		if (p) {
			b->text = p;
			b->cap = cap;
		} else {
			take = 0;
		}
	}
	if (take)
		memcpy(b->text + b->len, text, take);
	__atomic_store_n(&b->len, b->len + take, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&b->lock);
	return len;
}

static FILE *stream_into(struct buffer *b)
{
	FILE *f = fopencookie(b, "w", (cookie_io_functions_t){ .write = collect });

	if (f)
		setvbuf(f, NULL, _IONBF, 0);
	return f;
}

int output_init(void)
{
	FILE *o = stream_into(&out), *e = stream_into(&err);
	int fd;

	if (!o || !e)
		return -ENOMEM;
	stdout = o;
	/* For people who look for a fault in the worker itself, standard error may stay what it is. */
	if (!getenv("VGPU_WORKER_STDERR"))
		stderr = e;
	fd = memfd_create("vgpu-output", MFD_CLOEXEC);
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
		return -errno;
	close(fd);
	return 0;
}

static void from_file(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char text[4096];
	struct stat st;
	off_t at = 0;
	ssize_t n;

	if (fstat(STDOUT_FILENO, &st) || !st.st_size)
		return;
	pthread_mutex_lock(&lock);
	while ((n = pread(STDOUT_FILENO, text, sizeof(text), at)) > 0) {
		collect(&out, text, n);
		at += n;
	}
	if (ftruncate(STDOUT_FILENO, 0) == 0)
		lseek(STDOUT_FILENO, 0, SEEK_SET);
	pthread_mutex_unlock(&lock);
}

static void forward(struct worker *w, struct buffer *b, int (*send)(struct idm_server *s, const char *t, size_t n))
{
	static const char cut[] = "\n(more output than the buffer holds was printed at a time; the rest is lost)\n";
	size_t len;
	char *text;
	bool more;

	if (!__atomic_load_n(&b->len, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&b->lock);
	text = b->text;
	len = b->len;
	more = b->cut;
	b->text = NULL;
	b->cap = 0;
	__atomic_store_n(&b->len, 0, __ATOMIC_RELEASE);
	b->cut = false;
	pthread_mutex_unlock(&b->lock);
	send(w->server, text, len);
	if (more)
		send(w->server, cut, sizeof(cut) - 1);
	free(text);
}

void output_forward(struct worker *w)
{
	if (!w->soft)
		from_file();
	forward(w, &out, idm_server_output);
	forward(w, &err, idm_server_errors);
}
