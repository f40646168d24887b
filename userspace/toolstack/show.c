// SPDX-License-Identifier: Apache-2.0
/* vgpuctl list and stats: what xenstore knows, and what the broker knows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>

#include "vgpuctl.h"

#define BROKER_TIMEOUT_S 5

static const char *control_path(char *buf, size_t size)
{
	const char *dir = getenv("VGPU_RUN_DIR");

	snprintf(buf, size, "%s/control", dir && *dir ? dir : "/run/vgpu");
	return buf;
}

/* One line there, text back until it closes. @return 0, or -errno */
static int ask_broker(const char *line)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = BROKER_TIMEOUT_S };
	char buf[4096];
	ssize_t n;
	int fd, ret = 0;

	control_path(addr.sun_path, sizeof(addr.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) || send(fd, line, strlen(line), MSG_NOSIGNAL) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	if (n < 0)
		ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
	close(fd);
	return ret;
}

static int no_broker(int err)
{
	char path[108];

	control_path(path, sizeof(path));
	fprintf(stderr, "vgpuctl: no broker answers at %s: %s: start vgpu-broker --xen%s\n", path, strerror(err),
		err == EACCES ? ", or run this as root" : "");
	return 1;
}

struct table {
	unsigned int rows;
};

static int row(struct xs_handle *xs, const struct vgpuxl_device *d, void *arg)
{
	struct table *table = arg;
	char dir[64], name[64], gpu[VGPUXL_GPU_MAX], memory[24] = "-";
	long mib;

	if (!table->rows++)
		printf("%5s %-16s %6s %-12s %12s %7s %9s  %s\n", "ZONE", "NAME", "DEVICE", "GPU", "MEMORY/MiB", "WEIGHT",
		       "SESSIONS", "BACKEND");
	snprintf(dir, sizeof(dir), "/local/domain/%u/backend/vgpu/%u/%u", d->backend, d->zone, d->devid);
	if (!vgpuxl_read(xs, XBT_NULL, name, sizeof(name), "/local/domain/%u/name", d->zone))
		strcpy(name, "(has gone)");
	vgpuxl_read(xs, XBT_NULL, gpu, sizeof(gpu), "%s/gpu", dir);
	mib = vgpuxl_read_long(xs, 0, "%s/memory", dir);
	if (mib)
		snprintf(memory, sizeof(memory), "%ld", mib);
	printf("%5u %-16s %6u %-12s %12s %7ld %9ld  %s", d->zone, name, d->devid, gpu, memory,
	       vgpuxl_read_long(xs, 1, "%s/weight", dir), vgpuxl_read_long(xs, 0, "%s/sessions", dir),
	       vgpuxl_state_name(vgpuxl_read_long(xs, 0, "%s/state", dir)));
	if (d->backend)
		printf(" in domain %u", d->backend);
	putchar('\n');
	return 0;
}

int list_command(int argc, char **argv)
{
	struct table table = { 0 };
	struct vgpuxl_error e;
	struct xs_handle *xs;
	bool json = argc > 1 && !strcmp(argv[1], "--json"), xen;
	int ret;

	if (argc > 1 && !json)
		return fail("list: the only option is --json");
	xen = !json && !vgpuxl_store_open(&xs, &e);
	if (xen) {
		vgpuxl_for_each(xs, row, &table);
		puts(table.rows ? "" : "no vgpu devices in xenstore\n");
		xs_close(xs);
		fflush(stdout);
	}
	ret = ask_broker(json ? "list --json\n" : "list\n");
	if (ret && !xen && !json)
		fail(e.text);
	/* On a machine with Xen the devices are worth an answer of their own; without it only the broker knows any. */
	return ret ? (no_broker(-ret), !xen) : 0;
}

int stats_command(int argc, char **argv)
{
	int ret = ask_broker("stats\n");

	return ret ? no_broker(-ret) : 0;
}
