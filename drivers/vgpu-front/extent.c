// SPDX-License-Identifier: GPL-2.0-only
/*
 * Granted pages: read the backend's directory, map what it lists, unmap it when nobody uses the pages any more.
 *
 * For auto-translated guests only (PVH, HVM): a grant is mapped behind a page structure that has no memory of its
 * own, and from then on it is an ordinary page, for the kernel and for the client.
 */

#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <xen/grant_table.h>

#include "front.h"

/* One hypercall's worth: the operations fit on two pages, and the hypervisor checks for preemption in between. */
#define BATCH	128

union batch {
	struct gnttab_map_grant_ref map[BATCH];
	struct gnttab_unmap_grant_ref unmap[BATCH];
};

/* Unmap @n pages. Those that Xen won't unmap are lost for good: using them again would be worse. */
static void unmap_batch(union batch *batch, struct page **pages, grant_handle_t *handles, unsigned int n)
{
	unsigned int i;
	int err;

	for (i = 0; i < n; i++)
		gnttab_set_unmap_op(&batch->unmap[i], (phys_addr_t)pfn_to_kaddr(page_to_pfn(pages[i])),
				    GNTMAP_host_map, handles[i]);
	err = gnttab_unmap_refs(batch->unmap, NULL, pages, n);
	for (i = 0; i < n; i++) {
		handles[i] = INVALID_GRANT_HANDLE;
		if (!err && batch->unmap[i].status == GNTST_okay)
			continue;
		pr_err_ratelimited("vgpu-front: unmapping a grant failed (%d, status %d); its page is lost\n",
				   err, batch->unmap[i].status);
		vgpu_count(pages_leaked, 1);
		pages[i] = NULL;
	}
	vgpu_count(pages_mapped, -(long)n);
}

/*
 * Map @n grants of @zone behind @pages. On failure none stays mapped; a page that could not be unmapped again
 * is NULL.
 */
static int map_batch(union batch *batch, u32 zone, const u32 *refs, u32 flags, struct page **pages,
		     grant_handle_t *handles, unsigned int n)
{
	unsigned int i, good = 0;
	int err;

	for (i = 0; i < n; i++)
		gnttab_set_map_op(&batch->map[i], (phys_addr_t)pfn_to_kaddr(page_to_pfn(pages[i])), flags, refs[i],
				  zone);
	err = gnttab_map_refs(batch->map, NULL, pages, n);
	if (err)
		return err;

	for (i = 0; i < n; i++) {
		if (batch->map[i].status == GNTST_okay) {
			handles[i] = batch->map[i].handle;
			good++;
			continue;
		}
		pr_err_ratelimited("vgpu-front: mapping grant %u of domain %u failed: status %d%s\n", refs[i], zone,
				   batch->map[i].status, batch->map[i].status == GNTST_no_device_space ?
				   " (raise max_maptrack_frames for this domain)" : "");
		err = batch->map[i].status == GNTST_no_device_space ? -ENOSPC : -EIO;
		handles[i] = INVALID_GRANT_HANDLE;
	}
	vgpu_count(pages_mapped, good);
	if (!err)
		return 0;

	for (i = 0; i < n; i++)
		if (handles[i] != INVALID_GRANT_HANDLE)
			unmap_batch(batch, &pages[i], &handles[i], 1);
	return err;
}

static void free_pages_array(struct page **pages, unsigned int nr)
{
	unsigned int i, n = 0;

	/* Close the gaps of pages that were lost. */
	for (i = 0; i < nr; i++)
		if (pages[i])
			pages[n++] = pages[i];
	if (n)
		gnttab_free_pages(n, pages);
	kvfree(pages);
}

/* Copy one directory page out of the grant @ref. */
static int read_directory_page(union batch *batch, u32 zone, grant_ref_t ref, struct vgpuif_directory *copy)
{
	grant_handle_t handle;
	struct page *page;
	int err;

	err = gnttab_alloc_pages(1, &page);
	if (err)
		return err;
	err = map_batch(batch, zone, &ref, GNTMAP_host_map | GNTMAP_readonly, &page, &handle, 1);
	if (!err) {
		memcpy(copy, page_address(page), sizeof(*copy));
		unmap_batch(batch, &page, &handle, 1);
	}
	if (page)
		gnttab_free_pages(1, &page);
	return err;
}

/* Collect @nr references into @refs; every page is copied once and the copy checked. */
static int read_directory(union batch *batch, u32 zone, grant_ref_t directory, u32 *refs, unsigned int nr)
{
	struct vgpuif_directory *copy;
	unsigned int done = 0;
	int err = 0;

	copy = kmalloc(sizeof(*copy), GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	while (done < nr) {
		err = read_directory_page(batch, zone, directory, copy);
		if (err)
			break;
		if (!vgpu_directory_valid(copy, nr - done)) {
			pr_err_ratelimited("vgpu-front: domain %u sent a malformed directory\n", zone);
			vgpu_count(protocol_errors, 1);
			err = -EPROTO;
			break;
		}
		memcpy(refs + done, copy->refs, copy->nr * sizeof(*refs));
		done += copy->nr;
		directory = copy->next;
	}
	kfree(copy);
	return err;
}

/**
 * vgpu_extent_map() - map the pages that a directory lists
 * @zone:      the backend
 * @directory: grant of its first page
 * @nr:        how many references it must hold
 * @first:     where they lie in the session's file, in pages
 *
 * Return: the extent, or an ERR_PTR.
 */
struct vgpu_extent *vgpu_extent_map(u32 zone, grant_ref_t directory, unsigned int nr, unsigned long first)
{
	struct vgpu_extent *extent;
	unsigned int i, n;
	union batch *batch;
	u32 *refs;
	int err = -ENOMEM;

	extent = kzalloc(sizeof(*extent), GFP_KERNEL_ACCOUNT);
	batch = kmalloc(sizeof(*batch), GFP_KERNEL);
	refs = kvmalloc_array(nr, sizeof(*refs), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!extent || !batch || !refs)
		goto err_alloc;
	extent->epoch = vgpu_epoch;
	extent->first = first;
	extent->nr = nr;
	extent->pages = kvcalloc(nr, sizeof(*extent->pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	extent->handles = kvmalloc_array(nr, sizeof(*extent->handles), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!extent->pages || !extent->handles)
		goto err_alloc;

	err = read_directory(batch, zone, directory, refs, nr);
	if (err)
		goto err_alloc;
	err = gnttab_alloc_pages(nr, extent->pages);
	if (err)
		goto err_alloc;

	for (i = 0; i < nr; i += n) {
		n = min_t(unsigned int, nr - i, BATCH);
		err = map_batch(batch, zone, refs + i, GNTMAP_host_map, extent->pages + i, extent->handles + i, n);
		if (err)
			goto err_map;
		extent->mapped += n;
		cond_resched();
	}
	__module_get(THIS_MODULE);	/* dropped by vgpu_extent_unmap() */
	kvfree(refs);
	kfree(batch);
	return extent;

err_map:
	/* Nobody has seen the pages yet, so they can be unmapped at once. */
	for (i = 0; i < extent->mapped; i += n) {
		n = min_t(unsigned int, extent->mapped - i, BATCH);
		unmap_batch(batch, extent->pages + i, extent->handles + i, n);
	}
	free_pages_array(extent->pages, nr);
	extent->pages = NULL;
err_alloc:
	if (extent) {
		kvfree(extent->pages);
		kvfree(extent->handles);
	}
	kfree(extent);
	kvfree(refs);
	kfree(batch);
	return ERR_PTR(err);
}

/* The last step: the extent is gone, and with it its reference on the module. */
static void extent_free(struct vgpu_extent *extent)
{
	free_pages_array(extent->pages, extent->nr);
	kvfree(extent->handles);
	kfree(extent);
	module_put(THIS_MODULE);
}

/*
 * The domain was suspended while somebody used the pages, and maybe runs in another Xen, where their handles could be
 * those of other grants; in the same one they still are mapped. So nobody gets these pages again.
 */
static void extent_abandon(struct vgpu_extent *extent)
{
	pr_warn("vgpu-front: %u pages of a session were in use when the domain was suspended; they are lost\n",
		extent->mapped);
	vgpu_count(pages_leaked, extent->mapped);
	vgpu_count(pages_mapped, -(long)extent->mapped);
	memset(extent->pages, 0, extent->mapped * sizeof(*extent->pages));
	extent_free(extent);
}

/**
 * vgpu_extent_unmap() - give pages back that no page table holds any more
 * @extent: freed if true is returned
 *
 * A page can still be in use by I/O or a pipe: unmapping the grant under it would make that read and write nowhere.
 *
 * Return: false if pages are in use: try again later.
 */
bool vgpu_extent_unmap(struct vgpu_extent *extent)
{
	unsigned int n, start, i;
	union batch *batch;

	if (extent->epoch != vgpu_epoch) {
		extent_abandon(extent);
		return true;
	}
	batch = kmalloc(sizeof(*batch), GFP_KERNEL);
	if (!batch)
		return false;
	while (extent->mapped) {
		n = min_t(unsigned int, extent->mapped, BATCH);
		start = extent->mapped - n;
		for (i = start; i < extent->mapped; i++)
			if (page_count(extent->pages[i]) > 1)
				goto busy;
		unmap_batch(batch, extent->pages + start, extent->handles + start, n);
		extent->mapped = start;
		cond_resched();
	}
	kfree(batch);
	extent_free(extent);
	return true;

busy:
	kfree(batch);
	return false;
}
