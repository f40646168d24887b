// SPDX-License-Identifier: Apache-2.0
/* The broker's control socket: one line there, text back until it closes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vgpuctl.h"

#define BROKER_TIMEOUT_S 5

static const char *control_path(char *buf, size_t size)
{
	const char *dir = getenv("VGPU_RUN_DIR");

	snprintf(buf, size, "%s/control", dir && *dir ? dir : "/run/vgpu");
	return buf;
}

int broker_ask(const char *line)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = BROKER_TIMEOUT_S };
	int fd, err;

	control_path(addr.sun_path, sizeof(addr.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
	    send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

int broker_text(const char *line, char **text)
{
	size_t len = 0;
	int fd = broker_ask(line), ret = 0;
	char buf[4096];
	ssize_t n;
	FILE *mem;

	if (fd < 0)
		return fd;
	mem = open_memstream(text, &len);
	if (!mem) {
		close(fd);
		return -ENOMEM;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, mem);
	if (n < 0)
		ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
	close(fd);
	fclose(mem);
	if (ret)
		free(*text);
	return ret;
}

struct json_object *broker_json(const char *line, int *err)
{
	struct json_object *o;
	char *text;
	int ret = broker_text(line, &text);

	*err = -ret;
	if (ret)
		return NULL;
	o = json_tokener_parse(text);
	if (!o)
		*err = EPROTO;
	free(text);
	return o;
}

int no_broker(int err)
{
	char path[108];

	control_path(path, sizeof(path));
	fprintf(stderr, "vgpuctl: no broker answers at %s: %s: start vgpu-broker --xen%s\n", path, strerror(err),
		err == EACCES ? ", or run this as root" : err == EPROTO ? " of the same version" : "");
	return 1;
}

int stats_command(int argc, char **argv)
{
	struct json_object *o = NULL;
	char *text, *rest, *line;
	bool json = false;
	int ret;

	if (json_only(argc, argv, &json) < 0)
		return 2;
	ret = broker_text("stats\n", &text);
	if (ret)
		return no_broker(-ret);
	if (!json) {
		fputs(text, stdout);
		free(text);
		return 0;
	}
	o = json_object_new_object();
	for (rest = text; (line = strsep(&rest, "\n"));) {
		char *value = strchr(line, ' '), *end;
		uint64_t number;

		if (!value)
			continue;
		*value++ = '\0';
		number = strtoull(value, &end, 10);
		if (*end)
			put_string(o, line, value);
		else
			put_number(o, line, number);
	}
	free(text);
	return print_json(o);
}
