// SPDX-License-Identifier: Apache-2.0
/*
 * A driver domain that keeps what a pod's frontend granted it: maps the control ring of the pod's device 0, too, makes
 * vgpu-back connect anew, and again. The frontend must not go on with that for ever: a grant is used up each time.
 *
 * Usage: ring_keeper ZONE	in the driver domain, with vgpu-back; it keeps the rings until it ends
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xengnttab.h>
#include <xenstore.h>

#define LIMIT	32	/* VGPU_OLD_RINGS of vgpu-front/front.h */

enum { CONNECTED = 4, CLOSED = 6 };

static struct xs_handle *xs;
static int zone;

static int node(const char *name)
{
	char path[80], *text;
	unsigned int len;
	int value;

	snprintf(path, sizeof(path), "/local/domain/%d/device/vgpu/0/%s", zone, name);
	text = xs_read(xs, XBT_NULL, path, &len);
	value = text ? atoi(text) : -1;
	free(text);
	return value;
}

static bool front_reaches(int state, int seconds)
{
	for (int i = 0; i < seconds * 100; i++, usleep(10000))
		if (node("state") == state)
			return true;
	return false;
}

static void back(const char *what)
{
	char path[80], device[32];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/xen-backend/drivers/vgpu/%s", what);
	snprintf(device, sizeof(device), "vgpu-%d-0", zone);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, device, strlen(device)) < 0)
		perror(what);
	close(fd);
}

int main(int argc, char **argv)
{
	xengnttab_handle *gnttab = xengnttab_open(NULL, 0);
	int n;

	xs = xs_open(0);
	zone = argc > 1 ? atoi(argv[1]) : 0;
	if (!xs || !gnttab || !zone) {
		fprintf(stderr, "usage: ring_keeper ZONE, in a driver domain with gntdev\n");
		return 2;
	}
	for (n = 0; n < LIMIT + 8 && front_reaches(CONNECTED, n < LIMIT ? 20 : 3); n++) {
		if (!xengnttab_map_grant_ref(gnttab, zone, node("ring-ref"), PROT_READ)) {
			perror("mapping the control ring");
			return 2;
		}
		back("unbind");
		if (!front_reaches(CLOSED, 20))
			return 2;
		back("bind");
	}
	printf("# %d rings were kept, then the frontend is in state %d\n", n, node("state"));
	return n != LIMIT || node("state") != CLOSED;
}
