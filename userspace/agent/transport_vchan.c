// SPDX-License-Identifier: Apache-2.0
/* The transport over libxenvchan: two rings of the host's memory, mapped by the pod. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libxenvchan.h>
#include <xenstore.h>

#include "transport.h"

struct vchan {
	struct transport t;
	struct libxenvchan *chan;
	struct xs_handle *xs;	/* host only */
	int domid;
	char node[128], generation[TRANSPORT_GENERATION_MAX];	/* host only: what it wrote, and where */
};

/*
 * Xen's libraries keep a list of their handles, under a lock, and a child of fork() that goes on with them, as libxenlight's
 * does to destroy a domain, waits for ever if another thread had it just then. So nothing is opened or closed here while
 * anything forks.
 */
static pthread_mutex_t handles = PTHREAD_MUTEX_INITIALIZER;

static void handles_lock(void)
{
	pthread_mutex_lock(&handles);
}

static void handles_unlock(void)
{
	pthread_mutex_unlock(&handles);
}

static void watch_forks(void)
{
	pthread_atfork(handles_lock, handles_unlock, handles_unlock);
}

static void handles_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	handles_lock();
}

static struct vchan *of(struct transport *t)
{
	return (struct vchan *)t;
}

static ssize_t vchan_read(struct transport *t, void *data, size_t len)
{
	struct libxenvchan *chan = of(t)->chan;
	int ready = libxenvchan_data_ready(chan);

	/* What was written before the other end closed is still read. */
	if (ready > 0)
		return libxenvchan_read(chan, data, len < (size_t)ready ? len : (size_t)ready);
	if (ready == 0 && libxenvchan_is_open(chan))
		return 0;
	errno = ECONNRESET;
	return -1;
}

static ssize_t vchan_write(struct transport *t, const void *data, size_t len)
{
	struct libxenvchan *chan = of(t)->chan;
	int space;

	if (!libxenvchan_is_open(chan)) {
		errno = ECONNRESET;
		return -1;
	}
	space = libxenvchan_buffer_space(chan);
	if (space <= 0)
		return space;
	return libxenvchan_write(chan, data, len < (size_t)space ? len : (size_t)space);
}

/* Event channels tell of changes, not of states: both are asked before every sleep, which also orders the next event. */
static bool vchan_ready(struct transport *t, bool want_read, bool want_write)
{
	struct libxenvchan *chan = of(t)->chan;

	return (want_read && libxenvchan_data_ready(chan) != 0) || (want_write && libxenvchan_buffer_space(chan) != 0) ||
	       !libxenvchan_is_open(chan);
}

static short vchan_events(struct transport *t, bool want_read, bool want_write)
{
	return POLLIN;
}

static void vchan_acknowledge(struct transport *t)
{
	struct pollfd pfd = { .fd = t->fd, .events = POLLIN };

	/* It blocks without an event, and a write since then may have taken it. */
	if (poll(&pfd, 1, 0) > 0)
		libxenvchan_wait(of(t)->chan);
}

/* A domain that was destroyed has not closed its end. It has its name from its beginning; domid, once it is built. */
static bool vchan_alive(struct transport *t)
{
	struct vchan *v = of(t);
	char path[64], *value;
	unsigned int len;

	if (!v->xs)
		return true;
	snprintf(path, sizeof(path), "/local/domain/%d/name", v->domid);
	value = xs_read(v->xs, XBT_NULL, path, &len);
	free(value);
	return value;
}

/* Another host may be there by now, with a channel of its own in the same place. */
static void remove_own(struct vchan *v)
{
	bool again = true;

	while (again) {
		xs_transaction_t t = xs_transaction_start(v->xs);
		char path[192], *there;
		unsigned int len;

		if (t == XBT_NULL)
			return;
		snprintf(path, sizeof(path), "%s/generation", v->node);
		there = xs_read(v->xs, t, path, &len);
		if (there && !strcmp(there, v->generation))
			xs_rm(v->xs, t, v->node);
		free(there);
		again = !xs_transaction_end(v->xs, t, false) && errno == EAGAIN;
	}
}

static void vchan_close(struct transport *t)
{
	struct vchan *v = of(t);

	handles_begin();
	libxenvchan_close(v->chan);
	if (v->xs) {
		remove_own(v);
		xs_close(v->xs);
	}
	handles_unlock();
	free(v);
}

static const struct transport_ops vchan_ops = {
	.read = vchan_read,
	.write = vchan_write,
	.ready = vchan_ready,
	.events = vchan_events,
	.acknowledge = vchan_acknowledge,
	.alive = vchan_alive,
	.close = vchan_close,
};

struct transport *transport_vchan_serve(int domid, const char *node)
{
	struct vchan *v = calloc(1, sizeof(*v));
	char path[192];
	struct timespec now;
	struct xs_permissions perms[2] = {
		{ .id = 0, .perms = XS_PERM_NONE },
		{ .id = domid, .perms = XS_PERM_READ },
	};
	int error;

	if (!v)
		return NULL;
	v->t.ops = &vchan_ops;
	v->domid = domid;
	snprintf(v->node, sizeof(v->node), "/local/domain/%d/%s", domid, node ?: TRANSPORT_NODE);
	handles_begin();
	v->xs = xs_open(0);
	if (!v->xs || !vchan_alive(&v->t)) {
		error = v->xs ? ESRCH : errno;
		goto fail;
	}
	/* The generation first of all: what an earlier host left is not to be mapped any more. */
	xs_rm(v->xs, XBT_NULL, v->node);
	v->chan = libxenvchan_server_init(NULL, domid, v->node, TRANSPORT_RING, TRANSPORT_RING);
	if (!v->chan) {
		error = errno ?: EIO;
		goto fail;
	}
	/* The library would remove the node at the end without a look at whose it is by then: remove_own(). */
	free(v->chan->xs_path);
	v->chan->xs_path = NULL;
	v->chan->blocking = 0;
	v->chan->server_persist = 0;
	v->t.fd = libxenvchan_fd_for_select(v->chan);
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(path, sizeof(path), "%s/generation", v->node);
	snprintf(v->generation, sizeof(v->generation), "%d.%lx.%lx", getpid(), (long)now.tv_sec, now.tv_nsec);
	if (!xs_write(v->xs, XBT_NULL, path, v->generation, strlen(v->generation)) ||
	    !xs_set_permissions(v->xs, XBT_NULL, path, perms, 2)) {
		error = errno;
		goto fail;
	}
	handles_unlock();
	return &v->t;
fail:
	if (v->chan)
		libxenvchan_close(v->chan);
	if (v->xs)
		xs_close(v->xs);
	handles_unlock();
	free(v);
	errno = error;
	return NULL;
}

/* What the host wrote, into @value; false if there is nothing (any more). */
static bool read_generation(const char *node, char value[TRANSPORT_GENERATION_MAX])
{
	struct xs_handle *xs = xs_open(0);
	char path[192], *read;
	unsigned int len;
	bool found = false;

	if (!xs)
		return false;
	snprintf(path, sizeof(path), "%s/generation", node);
	read = xs_read(xs, XBT_NULL, path, &len);
	if (read && len && len < TRANSPORT_GENERATION_MAX) {
		memcpy(value, read, len);
		value[len] = 0;
		found = true;
	}
	free(read);
	xs_close(xs);
	return found;
}

struct transport *transport_vchan_connect(const char *node, char generation[TRANSPORT_GENERATION_MAX])
{
	char now[TRANSPORT_GENERATION_MAX];
	struct vchan *v;

	node = node ?: TRANSPORT_NODE;
	if (!read_generation(node, now) || !strcmp(now, generation)) {
		errno = EAGAIN;
		return NULL;
	}
	v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	v->t.ops = &vchan_ops;
	v->chan = libxenvchan_client_init(NULL, 0, node);
	if (!v->chan) {
		free(v);
		errno = EAGAIN;
		return NULL;
	}
	v->chan->blocking = 0;
	v->t.fd = libxenvchan_fd_for_select(v->chan);
	strcpy(generation, now);
	return &v->t;
}
