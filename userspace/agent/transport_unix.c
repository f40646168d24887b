// SPDX-License-Identifier: Apache-2.0
/* The transport over a UNIX socket: tests without Xen, and clients of a hub. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport.h"

static ssize_t result(ssize_t n)
{
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n;
}

static ssize_t unix_read(struct transport *t, void *data, size_t len)
{
	ssize_t n = recv(t->fd, data, len, MSG_DONTWAIT);

	if (!n) {
		errno = ECONNRESET;
		return -1;
	}
	return result(n);
}

static ssize_t unix_write(struct transport *t, const void *data, size_t len)
{
	return result(send(t->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static bool unix_ready(struct transport *t, bool want_read, bool want_write)
{
	return false;
}

static short unix_events(struct transport *t, bool want_read, bool want_write)
{
	return (want_read ? POLLIN : 0) | (want_write ? POLLOUT : 0);
}

static void unix_acknowledge(struct transport *t)
{
}

static bool unix_alive(struct transport *t)
{
	return true;
}

static void unix_close(struct transport *t)
{
	close(t->fd);
	free(t);
}

static const struct transport_ops unix_ops = {
	.read = unix_read,
	.write = unix_write,
	.ready = unix_ready,
	.events = unix_events,
	.acknowledge = unix_acknowledge,
	.alive = unix_alive,
	.close = unix_close,
};

struct transport *transport_unix(int fd)
{
	struct transport *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ops = &unix_ops;
	t->fd = fd;
	return t;
}

struct transport *transport_unix_connect(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct transport *t;
	int fd, error;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	if (!connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		t = transport_unix(fd);
		if (t)
			return t;
	}
	error = errno;
	close(fd);
	errno = error;
	return NULL;
}
