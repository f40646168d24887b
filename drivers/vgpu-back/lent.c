// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lending pages: allocate zeroed ones, grant them to a zone, list them in a directory; and get them back.
 *
 * A page is free again only when its grant has ended, and that is up to the zone: it has to unmap it, or to die. So
 * lent pages outlive sessions and devices; work of their own asks again and again, and the zone's quota stays
 * charged meanwhile. Nothing else waits for it. Nor does it wait for a worker, which keeps pages but no grants.
 */

#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <xen/grant_table.h>
#include <xen/page.h>

#include "back.h"

#define RETRY_MIN	(HZ / 100 + 1)
#define RETRY_MAX	HZ
/* How long unloading the module waits for zones to unmap. */
#define EXIT_TIME	(5 * HZ)
/* Grants reserved at a time. */
#define BATCH		512U

static LIST_HEAD(all_lents);
static DEFINE_SPINLOCK(all_lents_lock);		/* and held, ended of each */
static DECLARE_WAIT_QUEUE_HEAD(all_lents_wq);
static bool exiting;

static void lent_free(struct vgpu_lent *lent)
{
	unsigned int i;

	for (i = 0; lent->pages && i < lent->nr_total; i++)
		if (lent->pages[i])
			put_page(lent->pages[i]);
	vgpu_count(pages_lent, -(long)lent->nr_total);
	vgpu_zone_uncharge(lent->zone, lent->nr_total);
	vgpu_zone_put(lent->zone);
	kvfree(lent->pages);
	kvfree(lent->refs);
	kfree(lent);
}

/* End what can be ended. The one that could not is asked first the next time. */
static bool end_grants(struct vgpu_lent *lent)
{
	while (lent->left) {
		if (!gnttab_try_end_foreign_access(lent->refs[lent->left - 1]))
			return false;
		lent->left--;
		vgpu_count(grants, -1);
		if (!(lent->left % BATCH))
			cond_resched();
	}
	return true;
}

/*
 * The module goes. A zone that will not unmap does not keep it: the kernel's own list of grants to be ended takes
 * over, slowly, and frees the pages in the end.
 */
static void abandon_grants(struct vgpu_lent *lent)
{
	pr_warn("vgpu-back: zone %u still maps %u pages; they are freed when it unmaps them or dies\n",
		lent->zone->domid, lent->left);
	vgpu_count(grants_abandoned, lent->left);
	while (lent->left) {
		lent->left--;
		gnttab_end_foreign_access(lent->refs[lent->left], lent->pages[lent->left]);
		lent->pages[lent->left] = NULL;
	}
}

static void lent_work(struct work_struct *work)
{
	struct vgpu_lent *lent = container_of(to_delayed_work(work), struct vgpu_lent, work);
	bool held;

	if (!end_grants(lent) && READ_ONCE(exiting))
		abandon_grants(lent);
	if (lent->left) {
		lent->delay = min(lent->delay * 2, (unsigned long)RETRY_MAX);
		queue_delayed_work(vgpu_wq, &lent->work, lent->delay);
		return;
	}
	spin_lock(&all_lents_lock);
	held = lent->held;
	if (held)
		lent->ended = true;
	else
		list_del(&lent->all);
	spin_unlock(&all_lents_lock);
	if (held)
		return;
	vgpu_count(pages_returning, -(long)lent->nr_total);
	lent_free(lent);
	wake_up_all(&all_lents_wq);
}

/**
 * vgpu_lent_give_back() - start taking pages back
 * @lent: not to be used any more, unless @held; vgpu_zone_closing() has been told of its pages
 * @held: a worker still is there: end the grants, but leave the pages and their charge until vgpu_lent_let_go()
 *
 * Does not wait. Page tables of a worker may still hold the pages: they are freed when those are gone too.
 */
void vgpu_lent_give_back(struct vgpu_lent *lent, bool held)
{
	vgpu_count(pages_returning, lent->nr_total);
	spin_lock(&all_lents_lock);
	lent->held = held;
	list_add(&lent->all, &all_lents);
	spin_unlock(&all_lents_lock);
	queue_delayed_work(vgpu_wq, &lent->work, 0);
}

/* The worker has gone, too: @lent is not to be used any more. */
void vgpu_lent_let_go(struct vgpu_lent *lent)
{
	spin_lock(&all_lents_lock);
	lent->held = false;
	/* Otherwise its work has yet to run, and sees. */
	if (lent->ended)
		queue_delayed_work(vgpu_wq, &lent->work, 0);
	spin_unlock(&all_lents_lock);
}

static bool none_left(void)
{
	bool none;

	spin_lock(&all_lents_lock);
	none = list_empty(&all_lents);
	spin_unlock(&all_lents_lock);
	return none;
}

/* There are no sessions any more. Each lent's work runs once a second or more often, and does what is left to do. */
void vgpu_lent_exit(void)
{
	wait_event_timeout(all_lents_wq, none_left(), EXIT_TIME);
	WRITE_ONCE(exiting, true);
	wait_event(all_lents_wq, none_left());
}

/* Write the chain of directory pages that lists the first @nr references. */
static void write_directory(struct vgpu_lent *lent)
{
	struct vgpuif_directory *d;
	unsigned int i, done = 0;

	for (i = lent->nr; i < lent->nr_total; i++) {
		d = page_address(lent->pages[i]);
		d->nr = min_t(unsigned int, lent->nr - done, VGPUIF_DIRECTORY_REFS);
		d->next = i + 1 < lent->nr_total ? lent->refs[i + 1] : 0;
		memcpy(d->refs, lent->refs + done, d->nr * sizeof(*d->refs));
		done += d->nr;
	}
}

static int reserve_refs(struct vgpu_lent *lent)
{
	unsigned int i = 0, n;
	grant_ref_t head;
	int err;

	while (i < lent->nr_total) {
		n = min(lent->nr_total - i, BATCH);
		err = gnttab_alloc_grant_references(n, &head);
		if (err) {
			while (i)
				gnttab_free_grant_reference(lent->refs[--i]);
			return err;
		}
		while (n--)
			lent->refs[i++] = gnttab_claim_grant_reference(&head);
	}
	return 0;
}

/* A pod's wish is no reason to kill a process of the driver domain, or to fill its log. */
#define GFP_LENT (GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* @stop: the zone or its device goes, and the one thread of all of xenbus waits for this one. */
static int alloc_pages_of(struct vgpu_lent *lent, const bool *stop)
{
	unsigned int i;

	for (i = 0; i < lent->nr_total; i++) {
		if (READ_ONCE(*stop))
			return -EINTR;
		lent->pages[i] = alloc_page(GFP_LENT | __GFP_ZERO);
		if (!lent->pages[i])
			return -ENOMEM;
		if (!(i % BATCH))
			cond_resched();
	}
	return 0;
}

/**
 * vgpu_lent_alloc() - lend pages
 * @zone: to whom
 * @nr:   how many, not 0
 * @stop: gives up when it becomes true, unless it has begun to grant
 *
 * All that can fail comes before the first grant: once a zone could have mapped a page, it might not give it back.
 *
 * Return: the pages with their directory, or -ENOSPC (quota of the zone), -EDQUOT (of all together), -ENOMEM (memory or
 * grant references), -EINTR (@stop) as ERR_PTR.
 */
struct vgpu_lent *vgpu_lent_alloc(struct vgpu_zone *zone, unsigned int nr, const bool *stop)
{
	struct vgpu_lent *lent;
	unsigned int i;
	int err;

	lent = kzalloc(sizeof(*lent), GFP_KERNEL);
	if (!lent)
		return ERR_PTR(-ENOMEM);
	lent->zone = zone;
	lent->nr = nr;
	lent->nr_total = nr + vgpu_directory_pages(nr);
	lent->delay = RETRY_MIN;
	INIT_DELAYED_WORK(&lent->work, lent_work);
	vgpu_zone_ref(zone);

	err = vgpu_zone_charge(zone, lent->nr_total, stop);
	if (err) {
		vgpu_zone_put(zone);
		kfree(lent);
		return ERR_PTR(err);
	}
	vgpu_count(pages_lent, lent->nr_total);

	lent->pages = kvcalloc(lent->nr_total, sizeof(*lent->pages), GFP_LENT);
	lent->refs = kvmalloc_array(lent->nr_total, sizeof(*lent->refs), GFP_LENT);
	err = -ENOMEM;
	if (!lent->pages || !lent->refs)
		goto err;
	err = alloc_pages_of(lent, stop);
	if (err)
		goto err;
	err = reserve_refs(lent);
	if (err) {
		pr_warn_ratelimited("vgpu-back: no grant references for %u pages to zone %u; raise gnttab_max_frames= on Xen's command line\n",
				    lent->nr_total, zone->domid);
		err = -ENOMEM;
		goto err;
	}
	write_directory(lent);

	for (i = 0; i < lent->nr_total; i++)
		gnttab_grant_foreign_access_ref(lent->refs[i], zone->domid, xen_page_to_gfn(lent->pages[i]),
						i >= nr);
	lent->left = lent->nr_total;
	vgpu_count(grants, lent->nr_total);
	return lent;

err:
	vgpu_zone_closing(zone, lent->nr_total);
	lent_free(lent);
	return ERR_PTR(err);
}
