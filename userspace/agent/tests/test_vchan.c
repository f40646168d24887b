// SPDX-License-Identifier: Apache-2.0
/* Two hosts of one pod, one after the other: what each writes to xenstore and takes away. On a xenstore of this file's own. */
#include <errno.h>
#include <libxenvchan.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#include "tap.h"
#include "transport.h"

#define NODES_MAX 32
#define NODE	  "/local/domain/7/data/vgpu-agent"

struct nodes {
	struct {
		char path[128], value[128];
	} node[NODES_MAX];
};

static struct nodes store, before;
static const char *writes_meanwhile;	/* another host's generation, in the middle of a transaction */
static int rings;

static const char *value_of(const char *path)
{
	for (int i = 0; i < NODES_MAX; i++)
		if (!strcmp(store.node[i].path, path))
			return store.node[i].value;
	return NULL;
}

static void put(const char *path, const char *value)
{
	int at = -1;

	for (int i = NODES_MAX - 1; i >= 0; i--)
		if (!store.node[i].path[0] || !strcmp(store.node[i].path, path))
			at = i;
	for (int i = 0; i < NODES_MAX; i++)
		if (!strcmp(store.node[i].path, path))
			at = i;
	snprintf(store.node[at].path, sizeof(store.node[at].path), "%s", path);
	snprintf(store.node[at].value, sizeof(store.node[at].value), "%s", value);
}

static atomic_bool slow, inside;

struct xs_handle *xs_open(unsigned long flags)
{
	inside = true;
	if (slow)
		usleep(300000);
	inside = false;
	return (struct xs_handle *)&store;
}

void xs_close(struct xs_handle *h)
{
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
	before = store;
	return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort)
{
	if (!writes_meanwhile)
		return true;
	store = before;
	put(NODE "/generation", writes_meanwhile);
	writes_meanwhile = NULL;
	errno = EAGAIN;
	return false;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
	const char *value = value_of(path);

	*len = value ? strlen(value) : 0;
	return value ? strdup(value) : NULL;
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
	put(path, data);
	return true;
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
	for (int i = 0; i < NODES_MAX; i++)
		if (!strncmp(store.node[i].path, path, strlen(path)))
			store.node[i].path[0] = 0;
	return true;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path, struct xs_permissions *perms, unsigned int count)
{
	return true;
}

struct libxenvchan *libxenvchan_server_init(struct xentoollog_logger *logger, int domain, const char *path, size_t left, size_t right)
{
	char ring[128], number[16];
	struct libxenvchan *c;

	snprintf(ring, sizeof(ring), "%s/ring-ref", path);
	snprintf(number, sizeof(number), "%d", ++rings);
	put(ring, number);
	c = calloc(1, sizeof(*c));
	c->xs_path = strdup(path);
	return c;
}

/* As the library does it. */
void libxenvchan_close(struct libxenvchan *c)
{
	if (c->xs_path)
		xs_rm(NULL, XBT_NULL, c->xs_path);
	free(c->xs_path);
	free(c);
}

int libxenvchan_fd_for_select(struct libxenvchan *c)
{
	return 0;
}

static void *serve(void *unused)
{
	return transport_vchan_serve(7, NULL);
}

/* A child of fork() must be able to open handles of Xen's libraries, which lock while they open one. */
static void forks(void)
{
	pthread_t thread;
	void *host = NULL;
	int status = -1;
	pid_t pid;

	slow = true;
	pthread_create(&thread, NULL, serve, NULL);
	while (!inside)
		usleep(1000);
	pid = fork();
	if (!pid)
		_exit(inside);
	waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && !WEXITSTATUS(status), "no process is forked while a host opens its channel");
	pthread_join(thread, &host);
	slow = false;
	transport_close(host);
	pid = fork();
	if (!pid) {
		host = transport_vchan_serve(7, NULL);
		_exit(!host);
	}
	waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && !WEXITSTATUS(status), "and one that was can open one");
}

static bool is(const char *key, const char *value)
{
	char path[128];
	const char *there;

	snprintf(path, sizeof(path), NODE "/%s", key);
	there = value_of(path);
	return value ? there && !strcmp(there, value) : !there;
}

int main(void)
{
	struct transport *first, *second;
	char generation[128];

	put("/local/domain/7/name", "pod");
	first = transport_vchan_serve(7, NULL);
	ok(first && value_of(NODE "/generation") && is("ring-ref", "1"), "a host offers the pod a channel");
	transport_close(first);
	ok(is("generation", NULL) && is("ring-ref", NULL), "and takes it away when it leaves");

	first = transport_vchan_serve(7, NULL);
	second = transport_vchan_serve(7, NULL);
	snprintf(generation, sizeof(generation), "%s", value_of(NODE "/generation"));
	transport_close(first);
	ok(is("generation", generation) && is("ring-ref", "3"), "one that leaves late leaves the channel of its successor alone");
	transport_close(second);
	ok(is("generation", NULL) && is("ring-ref", NULL), "which takes it away itself");

	first = transport_vchan_serve(7, NULL);
	writes_meanwhile = "another";
	transport_close(first);
	ok(!writes_meanwhile && is("generation", "another"), "also if that one comes in the same moment");
	forks();
	return tap_done();
}
