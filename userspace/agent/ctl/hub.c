// SPDX-License-Identifier: Apache-2.0
/*
 * The hub: a pod's channel has one host, a host has many who want to do something in the pod. Clients speak the agent's own
 * protocol at a UNIX socket; calls get numbers of the hub's on the way to the pod and their own on the way back. The hub
 * forwards frames and credit alike, so what it holds is what clients and agent have allowed each other; it believes neither.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "codec.h"
#include "ctl.h"
#include "transport.h"

#define CLIENTS_MAX	64
#define TO_POD_HIGH	(1u << 20)	/* nothing more is read from clients while so much waits for the pod */
#define TO_CLIENT_MAX	(64u << 20)	/* a client that has been sent so much and reads nothing is dropped */
#define HELLO_SECONDS	600

struct client {
	int fd;			/* -1: free */
	struct wire_queue in, out;
};

struct link {
	uint32_t id;		/* the hub's; 0: free */
	uint32_t theirs;
	int client;		/* -1: gone; the pod has been told, its answer is awaited */
	bool hello;
};

static struct client clients[CLIENTS_MAX];
static struct link links[VGPU_AGENT_CALLS_MAX];
static struct wire_queue to_pod, from_pod;
static struct transport *pod;
static uint32_t last_id;
static bool pod_answered;

static struct link *link_of(uint32_t id)
{
	for (unsigned int i = 0; i < VGPU_AGENT_CALLS_MAX; i++)
		if (links[i].id == id)
			return &links[i];
	return NULL;
}

static struct link *link_of_client(int client, uint32_t theirs)
{
	for (unsigned int i = 0; i < VGPU_AGENT_CALLS_MAX; i++)
		if (links[i].id && links[i].client == client && links[i].theirs == theirs)
			return &links[i];
	return NULL;
}

static struct link *link_new(int client, uint32_t theirs)
{
	struct link *l = link_of(0);

	if (!l)
		return NULL;
	do
		last_id++;
	while (!last_id || link_of(last_id));
	*l = (struct link){ .id = last_id, .theirs = theirs, .client = client };
	return l;
}

static void client_drop(int number)
{
	struct client *c = &clients[number];

	for (unsigned int i = 0; i < VGPU_AGENT_CALLS_MAX; i++)
		if (links[i].id && links[i].client == number) {
			links[i].client = -1;
			wire_frame(&to_pod, links[i].id, VGPU_AGENT_CANCEL, 0, NULL, 0);
		}
	close(c->fd);
	wire_free(&c->in);
	wire_free(&c->out);
	c->fd = -1;
}

static void client_flush(int number)
{
	struct client *c = &clients[number];

	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out.start, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			client_drop(number);
			return;
		}
		wire_drop(&c->out, n);
	}
	if (c->out.len > TO_CLIENT_MAX || c->out.failed)
		client_drop(number);
}

/* Under the hub's number; the agent checks what it says. */
static void client_frames(int number)
{
	struct client *c = &clients[number];
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why;
	int got = 0;

	while (c->fd >= 0 && to_pod.len < TO_POD_HIGH && (got = wire_next_frame(&c->in, WIRE_HOST, &f, &payload, &why)) > 0) {
		struct link *l = link_of_client(number, f.call);

		if (f.type < VGPU_AGENT_REQUESTS_END) {
			if (l) {
				got = -1;
				break;
			}
			l = link_new(number, f.call);
			if (!l)
				wire_error(&c->out, f.call, EMFILE, "256 calls are open at this pod's hub, that is all there can be");
		}
		if (l)
			wire_frame(&to_pod, l->id, f.type, f.stream, payload, f.length);
		wire_drop(&c->in, wire_size(&f));
	}
	if (c->fd >= 0 && got < 0)
		client_drop(number);
}

static void client_read(int number)
{
	struct client *c = &clients[number];
	void *space = wire_space(&c->in, VGPU_AGENT_DATA_MAX);
	ssize_t n = space ? recv(c->fd, space, VGPU_AGENT_DATA_MAX, MSG_DONTWAIT) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_drop(number);
		return;
	}
	wire_added(&c->in, n);
	client_frames(number);
}

static void client_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (int i = 0; fd >= 0 && i < CLIENTS_MAX; i++)
		if (clients[i].fd < 0) {
			clients[i].fd = fd;
			return;
		}
	if (fd >= 0)
		close(fd);
}

/* The pod's frames, each to whoever opened its call. */
static const char *pod_frames(void)
{
	struct vgpu_agent_frame f;
	const uint8_t *payload;
	const char *why = NULL;
	int got;

	while ((got = wire_next_frame(&from_pod, WIRE_AGENT, &f, &payload, &why)) > 0) {
		struct link *l = link_of(f.call);

		if (!l)
			return "a frame for a call that is not open";
		pod_answered = true;
		if (l->client >= 0) {
			wire_frame(&clients[l->client].out, l->theirs, f.type, f.stream, payload, f.length);
			client_flush(l->client);
		}
		if (f.type == VGPU_AGENT_REPLY || f.type == VGPU_AGENT_ERROR)
			l->id = 0;
		wire_drop(&from_pod, wire_size(&f));
	}
	return got < 0 ? why : NULL;
}

/* False when the pod is gone. */
static bool pod_transfer(bool *busy)
{
	const char *why;
	void *space = wire_space(&from_pod, VGPU_AGENT_DATA_MAX);
	ssize_t n = space ? pod->ops->read(pod, space, VGPU_AGENT_DATA_MAX) : -1;

	if (n < 0)
		return false;
	wire_added(&from_pod, n);
	why = pod_frames();
	if (why) {
		fprintf(stderr, "vgpu-agentctl hub: %s: the pod's agent broke the protocol: %s\n", address, why);
		return false;
	}
	*busy = n > 0;
	while (to_pod.len) {
		n = pod->ops->write(pod, to_pod.data + to_pod.start, to_pod.len);
		if (n < 0)
			return false;
		if (!n)
			break;
		wire_drop(&to_pod, n);
	}
	*busy |= pod->ops->ready(pod, true, to_pod.len);
	return true;
}

/* The hub says hello too: nobody need be there for that, and --ready tells that the pod is up. */
static void say_hello(void)
{
	struct link *l = link_new(-1, 0);
	size_t begun = wire_begin(&to_pod, l->id, VGPU_AGENT_HELLO, 0);

	wire_u32(&to_pod, VGPU_AGENT_A_MAGIC, VGPU_AGENT_MAGIC);
	wire_u32(&to_pod, VGPU_AGENT_A_VERSION, VGPU_AGENT_VERSION);
	wire_end(&to_pod, begun);
}

/*
 * A pod that reboots gets a hub of its own at the same names, perhaps before the old pod's hub has noticed the end: a name
 * is taken away only by the hub that made it.
 */
struct name {
	const char *path;
	dev_t dev;
	ino_t ino;	/* 0: not made */
};

static void name_made(struct name *n)
{
	struct stat st;

	if (!lstat(n->path, &st)) {
		n->dev = st.st_dev;
		n->ino = st.st_ino;
	}
}

static void name_remove(const struct name *n)
{
	struct stat st;

	if (n->ino && !lstat(n->path, &st) && st.st_dev == n->dev && st.st_ino == n->ino)
		unlink(n->path);
}

static int serve(int listener, struct name *ready)
{
	time_t started = time(NULL), checked = started;
	bool said = false;

	say_hello();
	for (;;) {
		struct pollfd pfd[2 + CLIENTS_MAX];
		bool busy = false;

		for (int i = 0; i < CLIENTS_MAX; i++)
			if (clients[i].fd >= 0)
				client_frames(i);
		if (!pod_transfer(&busy))
			return 0;
		if (pod_answered && !said) {
			said = true;
			if (ready->path) {
				close(open(ready->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
				name_made(ready);
			}
		}
		pfd[0] = (struct pollfd){ .fd = pod->fd, .events = pod->ops->events(pod, true, to_pod.len) };
		pfd[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (int i = 0; i < CLIENTS_MAX; i++)
			pfd[2 + i] = (struct pollfd){ .fd = clients[i].fd,
						      .events = (to_pod.len < TO_POD_HIGH ? POLLIN : 0) | (clients[i].out.len ? POLLOUT : 0) };
		if (poll(pfd, 2 + CLIENTS_MAX, busy ? 0 : 1000) < 0 && errno != EINTR)
			return EXIT_FAILED;
		if (pfd[0].revents)
			pod->ops->acknowledge(pod);
		for (int i = 0; i < CLIENTS_MAX; i++) {
			if (clients[i].fd >= 0 && clients[i].fd == pfd[2 + i].fd && pfd[2 + i].revents & POLLOUT)
				client_flush(i);
			if (clients[i].fd >= 0 && clients[i].fd == pfd[2 + i].fd && pfd[2 + i].revents & (POLLIN | POLLHUP | POLLERR))
				client_read(i);
		}
		if (pfd[1].revents)
			client_accept(listener);
		if (time(NULL) == checked)
			continue;
		checked = time(NULL);
		if (!pod->ops->alive(pod))
			return 0;
		if (!pod_answered && checked - started > HELLO_SECONDS) {
			fprintf(stderr, "vgpu-agentctl hub: %s: its agent did not answer within %d s\n", address, HELLO_SECONDS);
			return EXIT_FAILED;
		}
	}
}

static int listen_at(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(sun.sun_path))
		return -1;
	strcpy(sun.sun_path, path);
	unlink(path);
	umask(077);
	return bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(fd, CLIENTS_MAX) ? -1 : fd;
}

int command_hub(int argc, char **argv)
{
	struct name ready = { 0 }, listens_at = { 0 };
	const char *number;
	int listener, status;

	if (argc == 5 && !strcmp(argv[1], "--ready")) {
		ready.path = argv[2];
		argv += 2;
		argc -= 2;
		unlink(ready.path);
	}
	if (argc != 3)
		return usage_of("hub");
	address = argv[1];
	for (int i = 0; i < CLIENTS_MAX; i++)
		clients[i].fd = -1;
	number = strncmp(address, "vchan:", 6) ? address : address + 6;
	if (atoi(number) > 0 && strspn(number, "0123456789") == strlen(number))
		pod = transport_vchan_serve(atoi(number), NULL);
	else if (number != address)
		errno = EINVAL;
	else
		pod = transport_unix_connect(address);
	if (!pod) {
		fprintf(stderr, "vgpu-agentctl hub: cannot open %s: %s\n", address, strerror(errno));
		return EXIT_FAILED;
	}
	listener = listen_at(argv[2]);
	if (listener < 0) {
		fprintf(stderr, "vgpu-agentctl hub: cannot listen at %s: %s\n", argv[2], strerror(errno));
		transport_close(pod);
		return EXIT_FAILED;
	}
	listens_at.path = argv[2];
	name_made(&listens_at);
	status = serve(listener, &ready);
	/* Clients see their connection end, and say that the pod is gone. */
	name_remove(&listens_at);
	name_remove(&ready);
	transport_close(pod);
	return status;
}
