// SPDX-License-Identifier: GPL-2.0-only
/*
 * Zones and their quota: a page is charged before it is allocated and until its grant has really ended.
 *
 * What can be lent is shared by all zones, and each is promised a part of it that the others can't use: a zone that is
 * there, and the next RESERVED_FOR that come. All beyond these parts goes to whoever asks first.
 */

#include <linux/slab.h>

#include "back.h"

/* Zones that are yet to come and can count on their part. */
#define RESERVED_FOR	2

static LIST_HEAD(zones);
static DEFINE_MUTEX(zones_lock);

static DEFINE_SPINLOCK(charge_lock);	/* promised; charged and live of every zone */
/* The sum over all zones of what each has, or of its reserve where that is more. */
static unsigned long promised;

/* What counts against all zones' memory of a zone that has @charged pages. */
static unsigned long promise(unsigned long charged)
{
	return max(charged, vgpu_zone_reserve());
}

/* The zone of a domain, with a reference. One object for all its devices. */
struct vgpu_zone *vgpu_zone_get(domid_t domid)
{
	struct vgpu_zone *zone;
	bool full;

	mutex_lock(&zones_lock);
	list_for_each_entry(zone, &zones, node) {
		if (zone->domid == domid) {
			kref_get(&zone->ref);
			goto out;
		}
	}
	zone = kzalloc(sizeof(*zone), GFP_KERNEL);
	if (!zone)
		goto out;
	kref_init(&zone->ref);
	zone->domid = domid;
	init_waitqueue_head(&zone->wq);
	list_add(&zone->node, &zones);
	spin_lock(&charge_lock);
	promised += promise(0);
	full = promised > vgpu_all_limit();
	spin_unlock(&charge_lock);
	if (full)
		pr_warn("vgpu-back: zone %u: other zones have borrowed so much that less than zone_reserve= may be left for it; raise gnttab_max_frames= on Xen's command line\n",
			domid);
out:
	mutex_unlock(&zones_lock);
	return zone;
}

void vgpu_zone_ref(struct vgpu_zone *zone)
{
	kref_get(&zone->ref);
}

static void zone_free(struct kref *ref)
{
	struct vgpu_zone *zone = container_of(ref, struct vgpu_zone, ref);

	list_del(&zone->node);
	mutex_unlock(&zones_lock);
	spin_lock(&charge_lock);
	promised -= promise(0);
	spin_unlock(&charge_lock);
	kfree(zone);
}

void vgpu_zone_put(struct vgpu_zone *zone)
{
	kref_put_mutex(&zone->ref, zone_free, &zones_lock);
}

/* Would all zones together have too much if this one had @pages more? Not as long as it stays within its own part. */
static bool beyond_all(const struct vgpu_zone *zone, unsigned long pages)
{
	unsigned long more = promise(zone->charged + pages) - promise(zone->charged);
	unsigned long all = vgpu_all_limit(), kept = RESERVED_FOR * vgpu_zone_reserve();

	return more && (kept > all || promised > all - kept || more > all - kept - promised);
}

/* Charge, and say whether waiting can help if that failed. */
static int try_charge(struct vgpu_zone *zone, unsigned long pages, bool *hope)
{
	unsigned long limit = vgpu_zone_limit();
	int err = 0;

	spin_lock(&charge_lock);
	if (pages > limit || zone->charged > limit - pages)
		err = -ENOSPC;
	else if (beyond_all(zone, pages))
		err = -EDQUOT;
	*hope = pages <= limit && zone->live <= limit - pages && zone->charged > zone->live;
	if (!err) {
		promised += promise(zone->charged + pages) - promise(zone->charged);
		zone->charged += pages;
		zone->live += pages;
	}
	spin_unlock(&charge_lock);
	return err;
}

/**
 * vgpu_zone_charge() - charge pages to a zone
 * @zone:  zone
 * @pages: how many
 * @stop:  gives up waiting when it becomes true (and vgpu_zone.wq was woken)
 *
 * Waits a moment for pages of the zone's that are on their way back; called by the zone's own thread only.
 *
 * Return: 0, -ENOSPC (more than one zone may have) or -EDQUOT (more than all zones together may have); -EINTR (@stop).
 */
int vgpu_zone_charge(struct vgpu_zone *zone, unsigned long pages, const bool *stop)
{
	bool hope;
	int err;

	wait_event_timeout(zone->wq, !(err = try_charge(zone, pages, &hope)) || !hope || READ_ONCE(*stop),
			   VGPU_RETURN_TIME);
	return err && READ_ONCE(*stop) ? -EINTR : err;
}

/* Pages are back. Only those that vgpu_zone_closing() was told of before. */
void vgpu_zone_uncharge(struct vgpu_zone *zone, unsigned long pages)
{
	spin_lock(&charge_lock);
	promised -= promise(zone->charged) - promise(zone->charged - pages);
	zone->charged -= pages;
	spin_unlock(&charge_lock);
	wake_up_all(&zone->wq);
}

/* The frontend has closed what these pages were lent for. */
void vgpu_zone_closing(struct vgpu_zone *zone, unsigned long pages)
{
	spin_lock(&charge_lock);
	zone->live -= pages;
	spin_unlock(&charge_lock);
}
