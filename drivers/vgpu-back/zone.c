// SPDX-License-Identifier: GPL-2.0-only
/* Zones and their quota: a page is charged before it is allocated and until its grant has really ended. */

#include <linux/slab.h>

#include "back.h"

static LIST_HEAD(zones);
static DEFINE_MUTEX(zones_lock);

/* The zone of a domain, with a reference. One object for all its devices. */
struct vgpu_zone *vgpu_zone_get(domid_t domid)
{
	struct vgpu_zone *zone;

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
	spin_lock_init(&zone->lock);
	init_waitqueue_head(&zone->wq);
	list_add(&zone->node, &zones);
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
	kfree(zone);
}

void vgpu_zone_put(struct vgpu_zone *zone)
{
	kref_put_mutex(&zone->ref, zone_free, &zones_lock);
}

/* Charge, and say whether waiting can help if that failed. */
static bool try_charge(struct vgpu_zone *zone, unsigned long pages, bool *hope)
{
	unsigned long limit = vgpu_zone_limit();
	bool done;

	spin_lock(&zone->lock);
	done = pages <= limit && zone->charged <= limit - pages;
	if (done) {
		zone->charged += pages;
		zone->live += pages;
	}
	*hope = pages <= limit && zone->live <= limit - pages && zone->charged > zone->live;
	spin_unlock(&zone->lock);
	return done;
}

/**
 * vgpu_zone_charge() - charge pages to a zone
 * @zone:  zone
 * @pages: how many
 * @stop:  gives up waiting when it becomes true (and vgpu_zone.wq was woken)
 *
 * Waits a moment for pages that are on their way back; called by the zone's own thread only.
 *
 * Return: true if done.
 */
bool vgpu_zone_charge(struct vgpu_zone *zone, unsigned long pages, const bool *stop)
{
	bool hope, done = false;

	wait_event_timeout(zone->wq, (done = try_charge(zone, pages, &hope)) || !hope || READ_ONCE(*stop),
			   VGPU_RETURN_TIME);
	return done;
}

/* Pages are back. Only those that vgpu_zone_closing() was told of before. */
void vgpu_zone_uncharge(struct vgpu_zone *zone, unsigned long pages)
{
	spin_lock(&zone->lock);
	zone->charged -= pages;
	spin_unlock(&zone->lock);
	wake_up_all(&zone->wq);
}

/* The frontend has closed what these pages were lent for. */
void vgpu_zone_closing(struct vgpu_zone *zone, unsigned long pages)
{
	spin_lock(&zone->lock);
	zone->live -= pages;
	spin_unlock(&zone->lock);
}
