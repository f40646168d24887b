// SPDX-License-Identifier: Apache-2.0
/* Every vgpu device that xenstore knows of. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xenbus.h>
#include <xenstore.h>

#include "vgpuxl.h"

const char *vgpuxl_state_name(long state)
{
	static const char *const names[] = {
		[XenbusStateUnknown] = "gone",		    [XenbusStateInitialising] = "waiting",
		[XenbusStateInitWait] = "ready",	    [XenbusStateInitialised] = "connecting",
		[XenbusStateConnected] = "connected",	    [XenbusStateClosing] = "closing",
		[XenbusStateClosed] = "closed",		    [XenbusStateReconfiguring] = "reconfiguring",
		[XenbusStateReconfigured] = "reconfigured",
	};

	if (state < 0 || state >= (long)(sizeof(names) / sizeof(*names)))
		return "invalid";
	return names[state];
}

int vgpuxl_for_each(struct xs_handle *xs, int (*fn)(struct xs_handle *xs, const struct vgpuxl_device *device, void *arg),
		    void *arg)
{
	unsigned int nbackends, nzones, ndevices;
	char **backends, **zones, **devices, path[128];
	int ret = 0;

	backends = xs_directory(xs, XBT_NULL, "/local/domain", &nbackends);
	for (unsigned int b = 0; backends && b < nbackends && !ret; b++) {
		snprintf(path, sizeof(path), "/local/domain/%s/backend/vgpu", backends[b]);
		zones = xs_directory(xs, XBT_NULL, path, &nzones);
		for (unsigned int z = 0; zones && z < nzones && !ret; z++) {
			snprintf(path, sizeof(path), "/local/domain/%s/backend/vgpu/%s", backends[b], zones[z]);
			devices = xs_directory(xs, XBT_NULL, path, &ndevices);
			for (unsigned int d = 0; devices && d < ndevices && !ret; d++) {
				struct vgpuxl_device device = {
					.backend = (uint32_t)strtoul(backends[b], NULL, 10),
					.zone = (uint32_t)strtoul(zones[z], NULL, 10),
					.devid = (uint32_t)strtoul(devices[d], NULL, 10),
				};

				ret = fn(xs, &device, arg);
			}
			free(devices);
		}
		free(zones);
	}
	free(backends);
	return ret;
}

struct collection {
	uint32_t zone;
	struct vgpuxl_entry *entries;
	unsigned int n;
};

static int collect(struct xs_handle *xs, const struct vgpuxl_device *device, void *arg)
{
	struct collection *c = arg;
	struct vgpuxl_entry *more;
	struct vgpuxl_error e;

	if (device->zone != c->zone)
		return 0;
	more = realloc(c->entries, (c->n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	c->entries = more;
	c->n += !vgpuxl_device_read(xs, device, &more[c->n], &e);
	return 0;
}

int vgpuxl_zone_entries(struct xs_handle *xs, uint32_t zone, struct vgpuxl_entry **entries, unsigned int *n,
			struct vgpuxl_error *e)
{
	struct collection c = { .zone = zone };
	int ret = vgpuxl_for_each(xs, collect, &c);

	if (ret) {
		free(c.entries);
		return vgpuxl_error_set(e, -ret, "cannot read the devices of domain %u: %s", zone, strerror(-ret));
	}
	*entries = c.entries;
	*n = c.n;
	return 0;
}
