// SPDX-License-Identifier: GPL-2.0-only
/* Load, unload, parameters. */

#include <linux/module.h>
#include <linux/slab.h>
#include <asm/xen/hypercall.h>
#include <xen/grant_table.h>
#include <xen/xen.h>

#include "back.h"

DEFINE_MUTEX(vgpu_lock);	/* devices, sessions, the broker's events */
LIST_HEAD(vgpu_devices);
struct workqueue_struct *vgpu_wq;

/* Xen's default of 64 grant frames lets a domain lend 128 MiB in all, to all zones together. */
static unsigned int zone_memory = 64;
module_param(zone_memory, uint, 0644);
MODULE_PARM_DESC(zone_memory, "MiB that may be lent to one zone for rings and arenas (default 64); Xen's gnttab_max_frames limits the sum over all zones to 2 MiB a frame");

/* Not to be changed while zones are there: each has been promised its part. */
static unsigned int zone_reserve = 4;
module_param(zone_reserve, uint, 0444);
MODULE_PARM_DESC(zone_reserve, "MiB that the other zones leave to each zone, and to the next two that come (default 4)");

static unsigned int all_memory;
module_param(all_memory, uint, 0644);
MODULE_PARM_DESC(all_memory, "MiB that may be lent to all zones together (default 0: what Xen's gnttab_max_frames allows)");

/* Grants that other drivers and programs of this domain may want. */
#define OTHERS_GRANTS	256
static unsigned long all_grants;

static unsigned int max_arena = 64;
module_param(max_arena, uint, 0644);
MODULE_PARM_DESC(max_arena, "MiB that one session's arena may grow to (default 64)");

unsigned int vgpu_max_sessions = 64;
module_param_named(max_sessions, vgpu_max_sessions, uint, 0644);
MODULE_PARM_DESC(max_sessions, "sessions that a device without the key `sessions` may have open (default 64)");

/* Bytes. The bound keeps a session's page count within 32 bits and its offsets within an arena slot. */
u64 vgpu_max_arena(void)
{
	return min_t(u64, (u64)READ_ONCE(max_arena) << 20, IDM_ARENA_SLOT_SIZE);
}

/* Pages. */
unsigned long vgpu_zone_limit(void)
{
	return (unsigned long)READ_ONCE(zone_memory) << (20 - PAGE_SHIFT);
}

unsigned long vgpu_zone_reserve(void)
{
	return (unsigned long)zone_reserve << (20 - PAGE_SHIFT);
}

unsigned long vgpu_all_limit(void)
{
	unsigned long limit = (unsigned long)READ_ONCE(all_memory) << (20 - PAGE_SHIFT);

	return limit ? min(limit, all_grants) : all_grants;
}

/* How many grants this domain can have, a page each. */
static unsigned long count_grants(void)
{
	struct gnttab_get_version ask = { .dom = DOMID_SELF };
	size_t size = sizeof(struct grant_entry_v1);

	if (!HYPERVISOR_grant_table_op(GNTTABOP_get_version, &ask, 1) && ask.version == 2)
		size = sizeof(union grant_entry_v2);
	return (unsigned long)gnttab_max_grant_frames() * (XEN_PAGE_SIZE / size) - OTHERS_GRANTS;
}

static void back_free(struct kref *ref)
{
	struct vgpu_back *back = container_of(ref, struct vgpu_back, ref);

	vgpu_zone_put(back->zone);
	kfree(back);
}

void vgpu_back_put(struct vgpu_back *back)
{
	kref_put(&back->ref, back_free);
}

static int __init vgpu_back_init(void)
{
	int err;

	if (!xen_domain())
		return -ENODEV;

	all_grants = count_grants();
	vgpu_wq = alloc_workqueue("vgpu-back", WQ_UNBOUND, 0);
	if (!vgpu_wq)
		return -ENOMEM;
	vgpu_debugfs_init();
	err = vgpu_broker_init();
	if (err)
		goto err_broker;
	err = vgpu_xenbus_register();
	if (err)
		goto err_xenbus;
	return 0;

err_xenbus:
	vgpu_broker_exit();
err_broker:
	vgpu_debugfs_exit();
	destroy_workqueue(vgpu_wq);
	return err;
}

static void __exit vgpu_back_exit(void)
{
	vgpu_xenbus_unregister();
	vgpu_broker_exit();
	vgpu_lent_exit();
	destroy_workqueue(vgpu_wq);
	vgpu_debugfs_exit();
}

module_init(vgpu_back_init);
module_exit(vgpu_back_exit);

MODULE_DESCRIPTION("Xen paravirtual GPU backend");
MODULE_AUTHOR("xen-vgpu");
MODULE_LICENSE("GPL");
MODULE_ALIAS("xen-backend:vgpu");
