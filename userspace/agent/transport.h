/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream to the other end: libxenvchan, or a UNIX socket. Nothing blocks.
 *
 * Wait with poll() on @fd for transport_events(), and not at all while transport_ready() says so; then read and write.
 */
#ifndef VGPU_AGENT_TRANSPORT_H
#define VGPU_AGENT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct transport;

struct transport_ops {
	/* Bytes moved, 0 if that is not possible now, -1 when the stream is at its end (errno says why). */
	ssize_t (*read)(struct transport *t, void *data, size_t len);
	ssize_t (*write)(struct transport *t, const void *data, size_t len);
	/* Is there what is wanted, something to read or room to write, that @fd would not tell of? */
	bool (*ready)(struct transport *t, bool want_read, bool want_write);
	short (*events)(struct transport *t, bool want_read, bool want_write);
	/* After poll() had something for @fd. */
	void (*acknowledge)(struct transport *t);
	/* Has the other end gone in a way the stream itself does not show? Asked about once a second. */
	bool (*alive)(struct transport *t);
	void (*close)(struct transport *t);
};

struct transport {
	const struct transport_ops *ops;
	int fd;
};

/* A connected stream socket, which becomes the transport's. NULL: no memory. */
struct transport *transport_unix(int fd);
/* Connects to a socket by its path. */
struct transport *transport_unix_connect(const char *path);

/*
 * libxenvchan. The host serves domain @domid under @node of that domain's home in xenstore (NULL: the usual one). The pod
 * connects to what its host serves there; NULL with EAGAIN means that no host does now. A host that comes back serves anew
 * under a new generation, which the pod keeps in @generation so that it never maps what an earlier host left behind.
 */
#define TRANSPORT_NODE	"data/vgpu-agent"
#define TRANSPORT_RING	(64 << 10)
#define TRANSPORT_GENERATION_MAX 32
struct transport *transport_vchan_serve(int domid, const char *node);
struct transport *transport_vchan_connect(const char *node, char generation[TRANSPORT_GENERATION_MAX]);

static inline void transport_close(struct transport *t)
{
	if (t)
		t->ops->close(t);
}

#endif /* VGPU_AGENT_TRANSPORT_H */
