// SPDX-License-Identifier: Apache-2.0
/*
 * Much of everything through one connection to a pod's agent.
 *
 *	agent-soak ADDRESS execs N	N programs, one after the other, each exit code checked
 *	agent-soak ADDRESS bulk MIB	so much through a program's input and output, each byte checked
 *	agent-soak ADDRESS garbage N	N connections that send noise, each of which must be hung up on
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpuagent.h"

static struct vgpu_agent_error e;
static const char *const environment[] = { "PATH=/bin", NULL };

static int complain(const char *what)
{
	fprintf(stderr, "agent-soak: %s: %s\n", what, e.text);
	return 1;
}

static int execs(struct vgpu_agent *pod, int count)
{
	for (int i = 0; i < count; i++) {
		char code[16], script[32];
		const char *args[] = { "sh", "-c", script, NULL };
		struct vgpu_agent_spec s = { .name = "soak", .args = args, .env = environment, .flags = VGPU_AGENT_F_DELETE };
		struct vgpu_agent_exit ended;
		struct vgpu_agent_call *c;

		snprintf(script, sizeof(script), "exit %d", i % 256);
		snprintf(code, sizeof(code), "exec %d", i);
		c = vgpu_agent_run(pod, &s, &e);
		if (!c)
			return complain(code);
		if (vgpu_agent_finish(c, &ended, 60000, &e))
			return complain(code);
		vgpu_agent_call_free(c);
		if (ended.code != (uint32_t)i % 256 || ended.signal) {
			fprintf(stderr, "agent-soak: exec %d ended with %u\n", i, ended.code);
			return 1;
		}
	}
	return 0;
}

struct sender {
	struct vgpu_agent_call *c;
	size_t total;
};

static uint8_t byte_at(size_t at)
{
	return at * 2654435761u >> 13 ^ at >> 20;
}

static void *send_all(void *arg)
{
	struct sender *s = arg;
	uint8_t buf[32768];

	for (size_t at = 0; at < s->total; at += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = byte_at(at + i);
		if (vgpu_agent_write(s->c, buf, sizeof(buf), 120000, NULL) < 0)
			break;
	}
	vgpu_agent_close_input(s->c, NULL);
	return NULL;
}

static int bulk(struct vgpu_agent *pod, size_t mib)
{
	const char *args[] = { "cat", NULL };
	struct vgpu_agent_spec spec = { .name = "bulk", .args = args, .env = environment, .flags = VGPU_AGENT_F_DELETE };
	struct sender s = { .c = vgpu_agent_run(pod, &spec, &e), .total = mib << 20 };
	struct vgpu_agent_exit ended = { 0 };
	uint8_t buf[65536];
	pthread_t thread;
	size_t at = 0;
	int stream;
	ssize_t n;

	if (!s.c)
		return complain("cat");
	pthread_create(&thread, NULL, send_all, &s);
	while ((n = vgpu_agent_read(s.c, &stream, buf, sizeof(buf), 120000, &e)) > 0)
		for (ssize_t i = 0; i < n; i++, at++)
			if (buf[i] != byte_at(at)) {
				fprintf(stderr, "agent-soak: byte %zu is not what was sent\n", at);
				return 1;
			}
	pthread_join(thread, NULL);
	if (n < 0 || vgpu_agent_finish(s.c, &ended, 60000, &e))
		return complain("bulk");
	if (at != s.total || ended.code) {
		fprintf(stderr, "agent-soak: %zu of %zu bytes came back, exit code %u\n", at, s.total, ended.code);
		return 1;
	}
	return 0;
}

/* Until the other side hangs up. @return 0 if it does within ten seconds */
static int hung_up_on(int fd, unsigned int seed)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t noise[4096], buf[4096];
	ssize_t n;

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = rand_r(&seed) >> 8;
	/* Fewer bytes are taken if it hangs up before the end. */
	if (send(fd, noise, sizeof(noise), MSG_NOSIGNAL) <= 0)
		return 1;
	do {
		if (poll(&p, 1, 10000) != 1)
			return 1;
		n = read(fd, buf, sizeof(buf));
	} while (n > 0);
	return 0;
}

static int garbage(const char *path, int count)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	for (int i = 0; i < count; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
			perror(path);
			return 1;
		}
		if (hung_up_on(fd, i)) {
			fprintf(stderr, "agent-soak: connection %d that sends noise stays open\n", i);
			return 1;
		}
		close(fd);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct vgpu_agent *pod;
	int count;

	if (argc != 4) {
		fprintf(stderr, "usage: agent-soak ADDRESS execs|bulk|garbage COUNT\n");
		return 2;
	}
	count = atoi(argv[3]);
	if (!strcmp(argv[2], "garbage"))
		return garbage(argv[1], count);
	pod = vgpu_agent_open(argv[1], 60000, &e);
	if (!pod)
		return complain(argv[1]);
	return !strcmp(argv[2], "execs") ? execs(pod, count) : bulk(pod, count);
}
