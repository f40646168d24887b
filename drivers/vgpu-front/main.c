// SPDX-License-Identifier: GPL-2.0-only
/* Load, unload, and the end of a device's life. */

#include <linux/module.h>
#include <linux/slab.h>
#include <xen/xen-ops.h>
#include <xen/xen.h>

#include "front.h"

struct workqueue_struct *vgpu_wq;

/*
 * Counts how often the domain was suspended, whether that succeeded or was cancelled. Changed only while nothing runs
 * that maps or unmaps grants: clients are frozen, and so is vgpu_wq.
 */
unsigned int vgpu_epoch;

static int resumed(struct notifier_block *nb, unsigned long action, void *data)
{
	vgpu_epoch++;
	return NOTIFY_DONE;
}

static struct notifier_block resume_notifier = { .notifier_call = resumed };

static void front_free(struct kref *ref)
{
	kfree(container_of(ref, struct vgpu_front, ref));
}

void vgpu_front_put(struct vgpu_front *front)
{
	kref_put(&front->ref, front_free);
}

static int __init vgpu_front_init(void)
{
	int err;

	if (!xen_domain())
		return -ENODEV;

	vgpu_wq = alloc_workqueue("vgpu-front", WQ_UNBOUND | WQ_FREEZABLE, 0);
	if (!vgpu_wq)
		return -ENOMEM;
	vgpu_debugfs_init();
	xen_resume_notifier_register(&resume_notifier);

	err = vgpu_xenbus_register();
	if (err)
		goto err_register;
	return 0;

err_register:
	xen_resume_notifier_unregister(&resume_notifier);
	vgpu_debugfs_exit();
	destroy_workqueue(vgpu_wq);
	return err;
}

/*
 * Mapped grants hold a reference on the module, so none are left when this runs; the workqueue may only be
 * returning from the function that dropped the last one.
 */
static void __exit vgpu_front_exit(void)
{
	vgpu_xenbus_unregister();
	xen_resume_notifier_unregister(&resume_notifier);
	vgpu_debugfs_exit();
	destroy_workqueue(vgpu_wq);
}

module_init(vgpu_front_init);
module_exit(vgpu_front_exit);

MODULE_DESCRIPTION("Xen paravirtual GPU frontend");
MODULE_AUTHOR("xen-vgpu");
MODULE_LICENSE("GPL");
MODULE_ALIAS("xen:vgpu");
