/* SPDX-License-Identifier: Apache-2.0 */
/* Access to libxenlight, one context for one call of ours; and what the files of libvgpuxl have in common. */
#ifndef LIGHT_H
#define LIGHT_H

#include <libxl.h>
#include <libxl_utils.h>
#include <libxlutil.h>

#include "vgpuxl.h"

/** struct light - a context, and the first error that libxenlight reported in it. */
struct light {
	xentoollog_logger logger;	/* first: libxenlight hands it back to us */
	libxl_ctx *ctx;
	char text[400];
};

int light_open(struct light *l, struct vgpuxl_error *e);
void light_close(struct light *l);

/** vgpuxl_error_set(), with libxenlight's own words behind a colon and @advice behind those. */
int light_error(struct light *l, struct vgpuxl_error *e, int rc, const char *advice, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/** What went wrong was a hotplug script's, which libxenlight runs when it has written the device. */
bool light_script_failed(const struct light *l);

/** struct vgpuxl_plan - plan.c makes it, domain.c creates domains from it. */
struct vgpuxl_plan {
	libxl_domain_config d;
	struct vgpuxl_entry *entries;
	unsigned int n;
};

/** Parse one disk or network; @what for messages. Dispose of the result also after an error. */
int light_parse_disk(struct light *l, const char *spec, libxl_device_disk *disk, struct vgpuxl_error *e);
int light_parse_vif(struct light *l, const char *spec, libxl_device_nic *nic, struct vgpuxl_error *e);

/** A domain that must exist. */
int light_info(struct light *l, uint32_t domid, libxl_dominfo *info, struct vgpuxl_error *e);

#endif /* LIGHT_H */
