// SPDX-License-Identifier: Apache-2.0
/* Disks and networks of a running domain. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "light.h"

static int open_for(struct light *l, uint32_t domid, struct vgpuxl_error *e)
{
	libxl_dominfo info;
	int ret = light_open(l, e);

	if (ret)
		return ret;
	ret = light_info(l, domid, &info, e);
	libxl_dominfo_dispose(&info);
	l->text[0] = '\0';
	if (ret)
		light_close(l);
	return ret;
}

int vgpuxl_disk_attach(uint32_t domid, const char *spec, struct vgpuxl_error *e)
{
	libxl_device_disk disk;
	struct light l;
	int ret = open_for(&l, domid, e), rc;

	if (ret)
		return ret;
	ret = light_parse_disk(&l, spec, &disk, e);
	if (!ret) {
		rc = libxl_device_disk_add(l.ctx, domid, &disk, NULL);
		if (rc)
			ret = light_error(&l, e, rc, NULL, "cannot attach disk \"%s\" to domain %u", spec, domid);
		/* libxenlight leaves what it wrote of it, and the next try would find that it exists. */
		if (rc && light_script_failed(&l))
			libxl_device_disk_destroy(l.ctx, domid, &disk, NULL);
	}
	libxl_device_disk_dispose(&disk);
	light_close(&l);
	return ret;
}

int vgpuxl_disk_detach(uint32_t domid, const char *vdev, bool force, struct vgpuxl_error *e)
{
	libxl_device_disk disk;
	struct light l;
	int ret = open_for(&l, domid, e), rc;

	if (ret)
		return ret;
	libxl_device_disk_init(&disk);
	if (libxl_vdev_to_device_disk(l.ctx, domid, vdev, &disk)) {
		ret = vgpuxl_error_set(e, ENOENT, "domain %u has no disk %s: see 'xl block-list %u'", domid, vdev, domid);
	} else {
		rc = force ? libxl_device_disk_destroy(l.ctx, domid, &disk, NULL) :
			     libxl_device_disk_remove(l.ctx, domid, &disk, NULL);
		if (rc)
			ret = light_error(&l, e, rc, force ? NULL : "unmount it in the domain, or use force",
					  "cannot detach disk %s of domain %u", vdev, domid);
	}
	libxl_device_disk_dispose(&disk);
	light_close(&l);
	return ret;
}

int vgpuxl_vif_attach(uint32_t domid, const char *spec, struct vgpuxl_error *e)
{
	libxl_device_nic nic;
	struct light l;
	int ret = open_for(&l, domid, e), rc;

	if (ret)
		return ret;
	ret = light_parse_vif(&l, spec, &nic, e);
	if (!ret) {
		rc = libxl_device_nic_add(l.ctx, domid, &nic, NULL);
		if (rc)
			ret = light_error(&l, e, rc, NULL, "cannot attach network \"%s\" to domain %u", spec, domid);
	}
	libxl_device_nic_dispose(&nic);
	light_close(&l);
	return ret;
}

int vgpuxl_vif_detach(uint32_t domid, uint32_t devid, bool force, struct vgpuxl_error *e)
{
	libxl_device_nic nic;
	struct light l;
	int ret = open_for(&l, domid, e), rc;

	if (ret)
		return ret;
	libxl_device_nic_init(&nic);
	if (libxl_devid_to_device_nic(l.ctx, domid, (int)devid, &nic)) {
		ret = vgpuxl_error_set(e, ENOENT, "domain %u has no network %u: see 'xl network-list %u'", domid, devid, domid);
	} else {
		rc = force ? libxl_device_nic_destroy(l.ctx, domid, &nic, NULL) : libxl_device_nic_remove(l.ctx, domid, &nic, NULL);
		if (rc)
			ret = light_error(&l, e, rc, NULL, "cannot detach network %u of domain %u", devid, domid);
	}
	libxl_device_nic_dispose(&nic);
	light_close(&l);
	return ret;
}
