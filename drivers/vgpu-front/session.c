// SPDX-License-Identifier: GPL-2.0-only
/*
 * A session from the client's side: opening, the pages in the client's address space, and the ways in which it ends.
 *
 * Pages are put into the client on its first touch, not by mmap(), so that taking them out again has one point
 * after which none can come back (@revoked, under map_lock). A lost session's pages are replaced, not removed: the
 * client may be anywhere in its ring code, and finds a session that has ended where a signal would have killed it.
 */

#include <linux/mm.h>
#include <linux/pfn_t.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <xen/events.h>

#include "front.h"

/* Otherwise vmf_insert_mixed() would count what session_fault() must not. */
static_assert(IS_ENABLED(CONFIG_ARCH_HAS_PTE_SPECIAL));

/* Pages put into the client by one fault. */
#define FAULT_AROUND	512UL

#define RETRY_MIN	(HZ / 100 + 1)
#define RETRY_MAX	HZ

static void session_free(struct kref *ref)
{
	struct vgpu_session *s = container_of(ref, struct vgpu_session, ref);

	/* Only vgpu_session_lose() puts one under this lock, and the file's reference outlives that. */
	mutex_lock(&s->front->lock);
	list_del(&s->all);
	mutex_unlock(&s->front->lock);

	if (s->tombstone)
		put_page(s->tombstone);
	if (s->scratch)
		put_page(s->scratch);
	mmdrop(s->mm);
	vgpu_front_put(s->front);
	vgpu_count(sessions, -1);
	kfree(s);
}

static void session_put(struct vgpu_session *s)
{
	kref_put(&s->ref, session_free);
}

static int open_event_channel(struct vgpu_session *s, evtchn_port_t *port)
{
	struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = s->front->backend_zone };
	struct evtchn_close close;
	int err;

	err = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
	if (err)
		return err;
	err = bind_evtchn_to_irqhandler_lateeoi(alloc.port, vgpu_channel_interrupt, 0, "vgpu-session", &s->channel);
	if (err < 0) {
		close.port = alloc.port;
		HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
		return err;
	}
	vgpu_channel_opened(&s->channel, err);
	*port = alloc.port;
	return 0;
}

/* --- pages ---------------------------------------------------------------------------------------------------- */

static struct vgpu_extent *find_extent(struct vgpu_session *s, unsigned long pgoff)
{
	struct vgpu_extent *extent;

	list_for_each_entry(extent, &s->extents, node)
		if (pgoff >= extent->first && pgoff - extent->first < extent->nr)
			return extent;
	return NULL;
}

static vm_fault_t session_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct vgpu_session *s = vma->vm_private_data;
	unsigned long first, end, n;
	struct vgpu_extent *extent;
	struct page *page;
	vm_fault_t ret;
	int err;

	mutex_lock(&s->map_lock);
	if (s->revoked) {
		/*
		 * One page in any number of places, and a reference for each could be more than it can count. So there
		 * is none: the session, which has the page, outlives all of its file's mappings, and nobody else can
		 * get at it through them (vm_normal_page()).
		 */
		page = vmf->pgoff ? s->scratch : s->tombstone;
		ret = vmf_insert_mixed(vma, vmf->address & PAGE_MASK, page_to_pfn_t(page));
		goto out;
	}
	ret = VM_FAULT_SIGBUS;
	extent = find_extent(s, vmf->pgoff);
	if (!extent)
		goto out;

	first = max3(round_down(vmf->pgoff, FAULT_AROUND), extent->first, vma->vm_pgoff);
	end = min3(round_down(vmf->pgoff, FAULT_AROUND) + FAULT_AROUND, extent->first + extent->nr,
		   vma->vm_pgoff + vma_pages(vma));
	n = end - first;
	err = vm_insert_pages(vma, vma->vm_start + ((first - vma->vm_pgoff) << PAGE_SHIFT),
			      &extent->pages[first - extent->first], &n);
	if (err == -EBUSY)	/* some are there: at least the one wanted */
		err = vm_insert_page(vma, vmf->address & PAGE_MASK, extent->pages[vmf->pgoff - extent->first]);
	if (!err || err == -EBUSY)
		ret = VM_FAULT_NOPAGE;
	else if (err == -ENOMEM)
		ret = VM_FAULT_OOM;
out:
	mutex_unlock(&s->map_lock);
	return ret;
}

static const struct vm_operations_struct session_vm_ops = {
	.fault = session_fault,
};

int vgpu_session_mmap(struct vgpu_session *s, struct vm_area_struct *vma)
{
	unsigned long total, end;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;

	mutex_lock(&s->map_lock);
	total = (s->layout.arena_offset + s->arena_size) >> PAGE_SHIFT;
	mutex_unlock(&s->map_lock);
	if (check_add_overflow(vma->vm_pgoff, vma_pages(vma), &end) || end > total)
		return -EINVAL;

	vma->vm_flags |= VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP;
	vma->vm_flags &= ~VM_MAYEXEC;
	vma->vm_private_data = s;	/* the file, which the mapping holds, holds the session */
	vma->vm_ops = &session_vm_ops;
	return 0;
}

/* Take the pages out of the client, for good. Called with map_lock held. */
static void revoke(struct vgpu_session *s)
{
	struct idm_session *stone = page_address(s->tombstone);

	s->revoked = true;
	if (s->page0)
		memcpy(stone, s->page0, sizeof(*stone));
	if (stone->state != IDM_STATE_ENDED || !stone->reason[0]) {
		strscpy(stone->reason, s->suspended ?
			"the pod was suspended, to be saved or moved; GPU sessions do not move along" :
			"the connection to the driver domain was lost", sizeof(stone->reason));
		stone->state = IDM_STATE_ENDED;
	}
	stone->reason[IDM_REASON_MAX - 1] = '\0';

	vgpu_channel_watch(&s->channel, NULL);
	s->page0 = NULL;
	if (s->mapping)
		unmap_mapping_range(s->mapping, 0, 0, 1);
}

static void queue_session_work(struct vgpu_session *s, unsigned long delay)
{
	kref_get(&s->ref);
	if (!queue_delayed_work(vgpu_wq, &s->work, delay))
		session_put(s);
}

/* The session is over for this side: unmap everything. False if somebody still uses pages. */
static bool give_back(struct vgpu_session *s)
{
	struct vgpu_extent *extent, *next;
	bool busy;

	mutex_lock(&s->map_lock);
	if (!s->revoked)
		revoke(s);
	list_for_each_entry_safe(extent, next, &s->extents, node) {
		list_del(&extent->node);
		if (!vgpu_extent_unmap(extent))
			list_add_tail(&extent->node, &next->node);
	}
	busy = !list_empty(&s->extents);
	mutex_unlock(&s->map_lock);
	return !busy;
}

static void session_work(struct work_struct *work)
{
	struct vgpu_session *s = container_of(to_delayed_work(work), struct vgpu_session, work);

	if (!give_back(s)) {
		s->delay = min(s->delay * 2, (unsigned long)RETRY_MAX);
		queue_session_work(s, s->delay);
	}
	session_put(s);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

/**
 * vgpu_session_lose() - the backend has gone
 * @s:	       session, just taken out of vgpu_front.sessions, whose reference is given up here
 * @suspended: or this domain is about to: give everything back at once, as works do not run
 */
void vgpu_session_lose(struct vgpu_session *s, bool suspended)
{
	s->suspended = suspended;
	vgpu_channel_end(&s->channel, false);
	vgpu_channel_close(&s->channel);
	vgpu_count(sessions_lost, 1);
	if (!suspended || !give_back(s))
		queue_session_work(s, 0);
	session_put(s);
}

/*
 * The domain is about to be suspended, and works do not run: what a session that is over still has goes back now,
 * unless somebody uses it. Called with vgpu_front.lock held, when none is in vgpu_front.sessions any more.
 */
void vgpu_session_leftovers(struct vgpu_session *s)
{
	bool some;

	mutex_lock(&s->map_lock);
	some = !list_empty(&s->extents);	/* otherwise it may still be on its way to be opened */
	mutex_unlock(&s->map_lock);
	if (some)
		give_back(s);
}

/**
 * vgpu_session_orphan() - the client has died, even if a child of it still holds the file
 * @s: session
 *
 * The backend is told at once, so that the worker goes, and gets its memory back as soon as it is unmapped here.
 */
void vgpu_session_orphan(struct vgpu_session *s)
{
	struct vgpu_front *front = s->front;
	bool listed;

	mutex_lock(&front->lock);
	listed = !list_empty(&s->node);
	list_del_init(&s->node);
	mutex_unlock(&front->lock);

	vgpu_channel_end(&s->channel, false);
	if (listed) {
		if (s->number)
			vgpu_control_close_session(s);
		session_put(s);
	}
	if (!s->unanswered)
		vgpu_channel_close(&s->channel);
	queue_session_work(s, 0);
}

static void answered_work(struct work_struct *work)
{
	struct vgpu_session *s = container_of(work, struct vgpu_session, answered);

	vgpu_channel_close(&s->channel);
	session_put(s);
}

/* The client was killed while its OPEN was on its way. Called by the client itself, which then releases the session. */
void vgpu_session_unanswered(struct vgpu_session *s)
{
	kref_get(&s->ref);
	s->unanswered = true;
}

/* And now it has been answered, or the connection has gone. Also called in interrupts; gives up the reference. */
void vgpu_session_answered(struct vgpu_session *s)
{
	queue_work(vgpu_wq, &s->answered);
}

/* The file goes, or the session was never finished. No mapping of the file exists any more. */
void vgpu_session_release(struct vgpu_session *s)
{
	mutex_lock(&s->map_lock);
	s->mapping = NULL;
	mutex_unlock(&s->map_lock);
	vgpu_session_orphan(s);
	session_put(s);
}

static int status_to_errno(const struct vgpu_session *s, const char *what, s32 status)
{
	switch (status) {
	case VGPUIF_OKAY:
		return 0;
	case VGPUIF_NO_SPACE:
		return -ENOSPC;
	case VGPUIF_NO_MEMORY:
		return -ENOMEM;
	case VGPUIF_NO_SESSION:
		return -EPIPE;
	default:
		pr_warn_ratelimited("vgpu-front: %s: %s was refused by domain %u with status %d; its log says why\n",
				    s->front->name, what, s->front->backend_zone, status);
		return -EIO;
	}
}

/* Map what a response lent and add it to the session's end, @have bytes from its start. */
static int add_extent(struct vgpu_session *s, const struct vgpuif_response *rsp, u64 have, u64 arena_size)
{
	struct vgpu_extent *extent;
	int err = 0;

	if (rsp->arena_size != arena_size ||
	    rsp->nr_pages != (s->layout.arena_offset + arena_size - have) >> PAGE_SHIFT) {
		pr_err_ratelimited("vgpu-front: %s: domain %u lent something else than it was asked for\n",
				   s->front->name, s->front->backend_zone);
		vgpu_count(protocol_errors, 1);
		return -EIO;
	}

	extent = vgpu_extent_map(s->front->backend_zone, rsp->directory, rsp->nr_pages, have >> PAGE_SHIFT);
	if (IS_ERR(extent))
		return PTR_ERR(extent);

	mutex_lock(&s->map_lock);
	list_add_tail(&extent->node, &s->extents);
	if (s->revoked) {
		queue_session_work(s, 0);	/* lost meanwhile: unmap this one too */
		err = -ECONNRESET;
	} else {
		s->arena_size = arena_size;
		if (!extent->first) {
			s->page0 = page_address(extent->pages[0]);
			vgpu_channel_watch(&s->channel, &s->page0->state);
		}
	}
	mutex_unlock(&s->map_lock);
	return err;
}

static struct vgpu_session *session_alloc(struct vgpu_file *file)
{
	struct vgpu_session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (!s)
		return NULL;
	kref_init(&s->ref);
	kref_get(&file->front->ref);
	s->front = file->front;
	INIT_LIST_HEAD(&s->node);
	mutex_init(&s->map_lock);
	INIT_LIST_HEAD(&s->extents);
	INIT_DELAYED_WORK(&s->work, session_work);
	INIT_WORK(&s->answered, answered_work);
	s->delay = RETRY_MIN;
	s->can_grow = true;
	s->mapping = &file->mapping;
	vgpu_channel_init(&s->channel);
	s->mm = current->mm;
	mmgrab(s->mm);
	s->owner = current->files;
	mutex_lock(&s->front->lock);
	list_add_tail(&s->all, &s->front->all_sessions);
	mutex_unlock(&s->front->lock);
	s->tombstone = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	s->scratch = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	vgpu_count(sessions, 1);
	if (!s->tombstone || !s->scratch) {
		session_put(s);
		return NULL;
	}
	return s;
}

static int wait_for_backend(struct vgpu_front *front, u32 timeout_ms)
{
	long left;

	left = wait_event_interruptible_timeout(front->connect_wq,
						READ_ONCE(front->connected) || !READ_ONCE(front->xendev),
						msecs_to_jiffies(timeout_ms));
	if (left < 0)
		return -EINTR;
	return READ_ONCE(front->connected) ? 0 : -ENODEV;
}

/**
 * vgpu_session_open() - VGPU_IOC_SESSION
 * @file:   that will own the session
 * @params: as from the client; results are filled in
 *
 * Return: the session with a reference for the file, or an ERR_PTR.
 */
struct vgpu_session *vgpu_session_open(struct vgpu_file *file, struct vgpu_session_params *params)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_OPEN };
	struct vgpu_front *front = file->front;
	struct vgpuif_response rsp;
	struct vgpu_layout layout;
	struct vgpu_session *s;
	evtchn_port_t port;
	u64 arena_size;
	int err;

	if (!vgpu_layout_init(&layout, params->request_size, params->reply_size) ||
	    params->arena_size > IDM_ARENA_SLOT_SIZE)
		return ERR_PTR(-EINVAL);
	arena_size = PAGE_ALIGN(params->arena_size);

	err = wait_for_backend(front, params->timeout_ms);
	if (err)
		return ERR_PTR(err);

	s = session_alloc(file);
	if (!s)
		return ERR_PTR(-ENOMEM);
	s->layout = layout;

	/* Listed before the request is sent, so that a backend that goes away meanwhile takes this session along. */
	mutex_lock(&front->lock);
	if (!front->connected)
		err = -ECONNRESET;
	else if (!vgpu_arena_size_valid(arena_size, front->max_arena))
		err = -EINVAL;
	else
		err = open_event_channel(s, &port);
	if (!err) {
		s->connection = vgpu_control_connection(front);
		kref_get(&s->ref);
		list_add_tail(&s->node, &front->sessions);
	}
	mutex_unlock(&front->lock);
	if (err)
		goto err;

	req.u.open.event_channel = port;
	req.u.open.request_size = layout.request_size;
	req.u.open.reply_size = layout.reply_size;
	req.u.open.arena_size = arena_size;
	err = vgpu_control_call(s, &req, &rsp);
	if (err)
		goto err;
	err = status_to_errno(s, "a session", rsp.status);
	if (err)
		goto err;
	s->number = rsp.session;
	err = add_extent(s, &rsp, 0, arena_size);
	if (err)
		goto err;

	vgpu_count(sessions_opened, 1);
	params->session = s->number;
	params->arena_size = s->arena_size;
	params->request_offset = layout.request_offset;
	params->reply_offset = layout.reply_offset;
	params->arena_offset = layout.arena_offset;
	return s;

err:
	vgpu_session_release(s);
	return ERR_PTR(err);
}

/**
 * vgpu_session_grow() - VGPU_IOC_GROW
 * @s:		session; the caller keeps others from growing it at the same time
 * @arena_size: in: bytes wanted in total; out: bytes there are
 *
 * Return: 0 or -errno.
 */
int vgpu_session_grow(struct vgpu_session *s, u64 *arena_size)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_GROW };
	struct vgpuif_response rsp;
	u64 want;
	int err;

	if (vgpu_channel_over(&s->channel))
		return -EPIPE;
	if (*arena_size > IDM_ARENA_SLOT_SIZE)
		return -ENOSPC;
	want = PAGE_ALIGN(*arena_size);
	if (want > s->arena_size) {
		if (!vgpu_arena_size_valid(want, READ_ONCE(s->front->max_arena)) || !s->can_grow)
			return -ENOSPC;
		req.u.grow.session = s->number;
		req.u.grow.arena_size = want;
		err = vgpu_control_call(s, &req, &rsp);
		if (!err)
			err = status_to_errno(s, "a longer arena", rsp.status);
		else if (err == -EINTR)
			s->can_grow = false;	/* the backend may have lent pages that we know nothing of */
		else if (err == -ECONNRESET)
			err = -EPIPE;
		if (err)
			return err;
		err = add_extent(s, &rsp, s->layout.arena_offset + s->arena_size, want);
		if (err) {
			s->can_grow = false;
			return err == -ECONNRESET ? -EPIPE : err;
		}
	}
	*arena_size = s->arena_size;
	return 0;
}
