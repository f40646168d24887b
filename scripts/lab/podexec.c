// SPDX-License-Identifier: Apache-2.0
/*
 * dom0's side of a pod's agent.
 *
 *	podexec hub NAME DOMID		serve /run/lab/NAME.sock for the pod until it goes away
 *	podexec run [-t ROWSxCOLS] [-e NAME=VALUE]… [-d DIR] NAME PROGRAM [ARGS…]
 *
 * `run` passes the standard streams and exits as the program did (128 + number if a signal ended it). It
 * kills itself with SIGUSR2 if the pod goes away meanwhile, so that no exit status is mistaken for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libxenvchan.h>

#include "frames.h"

#define CLIENTS_MAX	64
#define QUEUE_HIGH	(1 << 20)	/* stop reading from clients while so much waits for the pod */

struct client {
	int fd;			/* -1: free slot */
	uint32_t id;
	struct queue in, out;
	int finished;		/* close once @out is empty */
};

static struct client clients[CLIENTS_MAX];
static struct queue to_pod, from_pod;
static struct libxenvchan *vchan;
static int pod_ready;

static void die(const char *what, const char *about)
{
	fprintf(stderr, "podexec: %s: %s: %s\n", about, what, strerror(errno));
	exit(1);
}

static struct sockaddr_un address(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/run/lab/%s.sock", name);
	return sun;
}

static void client_drop(struct client *c)
{
	uint32_t sig = SIGKILL;

	if (!c->finished)
		queue_frame(&to_pod, c->id, FRAME_SIGNAL, &sig, sizeof(sig));
	close(c->fd);
	free(c->in.data);
	free(c->out.data);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static void client_accept(int listener)
{
	static uint32_t next_id;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].fd < 0) {
			clients[i].fd = fd;
			clients[i].id = ++next_id;
			return;
		}
	close(fd);
}

/* Frames of a client go to the pod under the client's id. */
static void client_read(struct client *c)
{
	uint8_t buf[FRAME_MAX];
	ssize_t n = read(c->fd, buf, sizeof(buf));
	struct frame f;
	const struct frame *frame;

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		client_drop(c);
		return;
	}
	if (n < 0)
		return;
	queue_put(&c->in, buf, n);
	while ((frame = queue_peek(&c->in, &f))) {
		queue_frame(&to_pod, c->id, f.type, frame + 1, f.len);
		queue_drop(&c->in, sizeof(f) + f.len);
	}
}

static void client_write(struct client *c)
{
	while (c->out.len) {
		ssize_t n = write(c->fd, c->out.data + c->out.start, c->out.len);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			client_drop(c);
			return;
		}
		queue_drop(&c->out, n);
	}
	if (c->finished)
		client_drop(c);
}

static void pod_frames(void)
{
	struct frame f;
	const struct frame *frame;

	while ((frame = queue_peek(&from_pod, &f))) {
		if (f.type == FRAME_HELLO)
			pod_ready = 1;
		for (int i = 0; i < CLIENTS_MAX; i++) {
			struct client *c = &clients[i];

			if (c->fd < 0 || c->id != f.id || c->finished)
				continue;
			queue_frame(&c->out, f.id, f.type, frame + 1, f.len);
			if (f.type == FRAME_EXIT)
				c->finished = 1;
			client_write(c);
		}
		queue_drop(&from_pod, sizeof(f) + f.len);
	}
}

static void pod_transfer(void)
{
	uint8_t buf[FRAME_MAX];

	while (libxenvchan_data_ready(vchan) > 0) {
		int n = libxenvchan_read(vchan, buf, sizeof(buf));

		if (n <= 0)
			break;
		queue_put(&from_pod, buf, n);
	}
	while (to_pod.len && libxenvchan_buffer_space(vchan) > 0) {
		size_t space = libxenvchan_buffer_space(vchan);
		int n = libxenvchan_write(vchan, to_pod.data + to_pod.start, to_pod.len < space ? to_pod.len : space);

		if (n <= 0)
			break;
		queue_drop(&to_pod, n);
	}
	pod_frames();
}

/* vchan's own notion of a closed peer does not cover a domain that was destroyed: the hypervisor's does. */
static int domain_alive(int domid)
{
	char path[64];

	snprintf(path, sizeof(path), "xenstore-exists /local/domain/%d/domid", domid);
	return system(path) == 0;
}

static int hub(const char *name, int domid)
{
	struct sockaddr_un sun = address(name);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char node[64], marker[128];
	int quiet = 0;

	for (int i = 0; i < CLIENTS_MAX; i++)
		clients[i].fd = -1;
	signal(SIGPIPE, SIG_IGN);
	snprintf(node, sizeof(node), "/local/domain/%d/data/lab", domid);
	vchan = libxenvchan_server_init(NULL, domid, node, 65536, 65536);
	if (!vchan)
		die("cannot open a channel", name);
	vchan->blocking = 0;
	unlink(sun.sun_path);
	if (bind(listener, (struct sockaddr *)&sun, sizeof(sun)) || listen(listener, CLIENTS_MAX))
		die("cannot listen", sun.sun_path);
	snprintf(marker, sizeof(marker), "/run/lab/%s.up", name);
	unlink(marker);

	for (;;) {
		struct pollfd pfd[2 + CLIENTS_MAX];
		int was_ready = pod_ready;

		pfd[0] = (struct pollfd){ .fd = libxenvchan_fd_for_select(vchan), .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (int i = 0; i < CLIENTS_MAX; i++) {
			struct client *c = &clients[i];

			pfd[2 + i] = (struct pollfd){ .fd = c->fd };
			pfd[2 + i].events = (to_pod.len < QUEUE_HIGH ? POLLIN : 0) | (c->out.len ? POLLOUT : 0);
		}
		quiet = poll(pfd, 2 + CLIENTS_MAX, 1000) == 0;
		if (pfd[0].revents)
			libxenvchan_wait(vchan);
		if (pfd[1].revents)
			client_accept(listener);
		for (int i = 0; i < CLIENTS_MAX; i++) {
			if (clients[i].fd >= 0 && pfd[2 + i].fd == clients[i].fd && pfd[2 + i].revents & POLLOUT)
				client_write(&clients[i]);
			if (clients[i].fd >= 0 && pfd[2 + i].fd == clients[i].fd &&
			    pfd[2 + i].revents & (POLLIN | POLLHUP | POLLERR))
				client_read(&clients[i]);
		}
		pod_transfer();
		if (pod_ready && !was_ready)
			close(open(marker, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		if ((pod_ready && !libxenvchan_is_open(vchan)) || (quiet && !domain_alive(domid)))
			break;
	}
	pod_transfer();
	for (int i = 0; i < CLIENTS_MAX; i++)
		if (clients[i].fd >= 0) {
			fcntl(clients[i].fd, F_SETFL, 0);
			if (!clients[i].finished)
				queue_frame(&clients[i].out, clients[i].id, FRAME_GONE, NULL, 0);
			clients[i].finished = 1;
			client_write(&clients[i]);
		}
	unlink(sun.sun_path);
	unlink(marker);
	return 0;
}

static void write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;		/* nobody reads any more: the program still gets its chance to end */
		p += n;
		len -= n;
	}
}

static int run(int argc, char **argv)
{
	struct frame_run head = { 0 };
	struct queue payload = { 0 }, out = { 0 }, in = { 0 };
	const char *dir = "/", *name;
	struct sockaddr_un sun;
	int fd, c, stdin_open = 1;
	unsigned int rows, cols;
	char *env[64];

	while ((c = getopt(argc, argv, "+t:e:d:")) != -1) {
		if (c == 't' && sscanf(optarg, "%ux%u", &rows, &cols) == 2)
			head.tty = rows << 16 | (cols & 0xffff);
		else if (c == 'e' && head.envc < 64)
			env[head.envc++] = optarg;
		else if (c == 'd')
			dir = optarg;
		else
			return 2;
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: podexec run [-t ROWSxCOLS] [-e NAME=VALUE] [-d DIR] NAME PROGRAM [ARGS]\n");
		return 2;
	}
	name = argv[optind++];
	head.argc = argc - optind;
	queue_put(&payload, &head, sizeof(head));
	for (; optind < argc; optind++)
		queue_put(&payload, argv[optind], strlen(argv[optind]) + 1);
	for (uint32_t i = 0; i < head.envc; i++)
		queue_put(&payload, env[i], strlen(env[i]) + 1);
	queue_put(&payload, dir, strlen(dir) + 1);

	sun = address(name);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		fprintf(stderr, "podexec: %s is not running\n", name);
		raise(SIGUSR2);
		return 255;
	}
	signal(SIGPIPE, SIG_IGN);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	queue_frame(&out, 0, FRAME_RUN, payload.data, payload.len);

	for (;;) {
		struct pollfd pfd[2] = {
			{ .fd = fd, .events = POLLIN | (out.len ? POLLOUT : 0) },
			{ .fd = stdin_open && !out.len ? 0 : -1, .events = POLLIN },
		};
		uint8_t buf[FRAME_MAX];
		const struct frame *frame;
		struct frame f;
		ssize_t n;

		poll(pfd, 2, -1);
		if (pfd[1].revents) {
			n = read(0, buf, sizeof(buf));
			if (n > 0) {
				queue_frame(&out, 0, FRAME_STDIN, buf, n);
			} else {
				queue_frame(&out, 0, FRAME_STDIN_END, NULL, 0);
				stdin_open = 0;
			}
		}
		if (out.len) {
			n = write(fd, out.data + out.start, out.len);
			if (n > 0)
				queue_drop(&out, n);
		}
		n = read(fd, buf, sizeof(buf));
		if (n > 0)
			queue_put(&in, buf, n);
		while ((frame = queue_peek(&in, &f))) {
			uint32_t status;

			if (f.type == FRAME_STDOUT || f.type == FRAME_STDERR) {
				write_all(f.type == FRAME_STDOUT ? 1 : 2, frame + 1, f.len);
			} else if (f.type == FRAME_EXIT) {
				memcpy(&status, frame + 1, sizeof(status));
				return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
			} else if (f.type == FRAME_GONE) {
				n = 0;
			}
			queue_drop(&in, sizeof(f) + f.len);
		}
		if (n == 0) {
			fprintf(stderr, "podexec: %s went away\n", name);
			raise(SIGUSR2);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "hub"))
		return hub(argv[2], atoi(argv[3]));
	if (argc > 2 && !strcmp(argv[1], "run"))
		return run(argc - 1, argv + 1);
	fprintf(stderr, "usage: podexec hub NAME DOMID | podexec run [OPTIONS] NAME PROGRAM [ARGS]\n");
	return 2;
}
