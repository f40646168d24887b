// SPDX-License-Identifier: GPL-2.0-only
/*
 * A session from the lender's side. It has two users, the client (the frontend has it open) and the worker (its file
 * is open). Either may go first and at any moment. With the client go the grants of its memory, with both the pages.
 */

#include <linux/mm.h>
#include <linux/slab.h>
#include <xen/events.h>

#include "back.h"

static DEFINE_XARRAY_ALLOC1(sessions);	/* by number, those with a client; under vgpu_lock */
static u32 next_number;

static void session_free(struct kref *ref)
{
	struct vgpu_session *s = container_of(ref, struct vgpu_session, ref);

	vgpu_back_put(s->back);
	vgpu_count(sessions, -1);
	kfree(s);
}

void vgpu_session_put(struct vgpu_session *s)
{
	kref_put(&s->ref, session_free);
}

/* --- the end -------------------------------------------------------------------------------------------------- */

/* Write the reason into page 0, unless the worker has, and wake both sides. Called with vgpu_lock held. */
static void end_locked(struct vgpu_session *s, const char *reason)
{
	if (s->ended)
		return;
	s->ended = true;

	if (!READ_ONCE(s->page0->reason[0]))
		strscpy(s->page0->reason, reason, sizeof(s->page0->reason));
	smp_store_release(&s->page0->state, IDM_STATE_ENDED);	/* the reason is there before the state says so */

	vgpu_channel_end(&s->channel, true);
}

/*
 * The frontend has given the memory up: end the grants, also of a worker that is stuck. The pages are the worker's as
 * long as it is there; then it lets them go.
 */
static void return_memory(struct vgpu_session *s)
{
	struct vgpu_lent *lent, *next;

	mutex_lock(&s->lent_lock);
	s->page0 = NULL;
	list_for_each_entry_safe(lent, next, &s->lents, node) {
		if (!s->worker)
			list_del(&lent->node);
		vgpu_lent_give_back(lent, s->worker);
	}
	mutex_unlock(&s->lent_lock);
}

static void let_memory_go(struct vgpu_session *s)
{
	struct vgpu_lent *lent, *next;

	mutex_lock(&s->lent_lock);
	list_for_each_entry_safe(lent, next, &s->lents, node) {
		list_del(&lent->node);
		vgpu_lent_let_go(lent);
	}
	mutex_unlock(&s->lent_lock);
}

/* Both have gone. Called with vgpu_lock held. */
static void session_gone(struct vgpu_session *s)
{
	WRITE_ONCE(s->back->nr_held, s->back->nr_held - 1);
	wake_up_all(&s->back->zone->wq);
}

static void stop_timeout(struct vgpu_session *s)
{
	if (cancel_delayed_work(&s->timeout))
		vgpu_session_put(s);
}

/* Called with vgpu_lock held. Gives up the client's reference. */
static void client_gone(struct vgpu_session *s, const char *reason)
{
	struct vgpu_back *back = s->back;

	s->client = false;
	list_del_init(&s->node);
	back->nr_sessions--;
	xa_erase(&sessions, s->number);
	vgpu_zone_closing(back->zone, s->nr_pages);

	end_locked(s, reason);
	vgpu_channel_close(&s->channel);
	stop_timeout(s);
	vgpu_broker_session_close(s);
	return_memory(s);
	if (!s->worker)
		session_gone(s);
	vgpu_session_put(s);
}

/**
 * vgpu_session_close() - CLOSE came
 * @back:   device
 * @number: session
 *
 * Return: VGPUIF_*
 */
int vgpu_session_close(struct vgpu_back *back, u32 number)
{
	struct vgpu_session *s;

	mutex_lock(&vgpu_lock);
	s = xa_load(&sessions, number);
	if (s && s->back == back)
		client_gone(s, "the client closed the session");
	else
		s = NULL;
	mutex_unlock(&vgpu_lock);
	return s ? VGPUIF_OKAY : VGPUIF_NO_SESSION;
}

void vgpu_session_close_all(struct vgpu_back *back, const char *reason)
{
	struct vgpu_session *s, *next;

	mutex_lock(&vgpu_lock);
	list_for_each_entry_safe(s, next, &back->sessions, node)
		client_gone(s, reason);
	mutex_unlock(&vgpu_lock);
}

void vgpu_session_end(struct vgpu_session *s, const char *reason)
{
	mutex_lock(&vgpu_lock);
	end_locked(s, reason);
	mutex_unlock(&vgpu_lock);
}

/* The worker's file is closed, by it or by its death; none of its mappings is left. */
void vgpu_session_release(struct vgpu_session *s)
{
	mutex_lock(&vgpu_lock);
	s->worker = false;
	vgpu_count(sessions_accepted, -1);
	end_locked(s, "the worker that served the session has ended; the driver domain's vgpu-broker log says why");
	if (!s->client) {
		let_memory_go(s);
		session_gone(s);
	}
	vgpu_session_put(s);
	mutex_unlock(&vgpu_lock);
}

static void session_timeout(struct work_struct *work)
{
	struct vgpu_session *s = container_of(to_delayed_work(work), struct vgpu_session, timeout);

	mutex_lock(&vgpu_lock);
	if (s->client && !s->worker && !s->ended) {
		vgpu_count(sessions_unanswered, 1);
		pr_warn_ratelimited("vgpu-back: zone %u: no broker took session %u; is vgpu-broker --xen running?\n",
				    s->back->zone->domid, s->number);
		end_locked(s, "no broker took the session: is vgpu-broker --xen running in the driver domain?");
	}
	vgpu_session_put(s);
	mutex_unlock(&vgpu_lock);
}

/* --- the beginning -------------------------------------------------------------------------------------------- */

/**
 * vgpu_session_accept() - the broker takes a session for a worker
 * @number: session
 *
 * Return: the session with a reference for its file, which vgpu_session_release() gives up; or an ERR_PTR.
 */
struct vgpu_session *vgpu_session_accept(u32 number)
{
	struct vgpu_session *s;

	mutex_lock(&vgpu_lock);
	s = xa_load(&sessions, number);
	if (!s) {
		s = ERR_PTR(-ENOENT);
	} else if (s->worker) {
		s = ERR_PTR(-EBUSY);
	} else if (s->ended) {
		s = ERR_PTR(-EPIPE);
	} else {
		s->worker = true;
		kref_get(&s->ref);
		stop_timeout(s);
		vgpu_count(sessions_accepted, 1);
	}
	mutex_unlock(&vgpu_lock);
	return s;
}

int vgpu_session_reject(u32 number, const char *reason)
{
	struct vgpu_session *s;
	int err = 0;

	mutex_lock(&vgpu_lock);
	s = xa_load(&sessions, number);
	if (!s) {
		err = -ENOENT;
	} else if (s->worker) {
		err = -EBUSY;
	} else {
		stop_timeout(s);
		end_locked(s, reason[0] ? reason : "the broker refused the session");
	}
	mutex_unlock(&vgpu_lock);
	return err;
}

static int refusal(struct vgpu_back *back, const char *what, int err)
{
	const char *why = "out of memory or grant references";

	vgpu_count(sessions_refused, 1);
	if (err == -EINTR)	/* nobody waits for the answer */
		return VGPUIF_ERROR;
	if (err == -ENOSPC)
		why = "the zone's lent memory is used up (module parameter zone_memory)";
	else if (err == -EDQUOT)
		why = "all zones' lent memory is used up (module parameter all_memory, Xen's gnttab_max_frames)";
	pr_info_ratelimited("vgpu-back: zone %u: %s refused: %s\n", back->zone->domid, what, why);
	return err == -ENOSPC ? VGPUIF_NO_SPACE : VGPUIF_NO_MEMORY;
}

/* Number the session and show it to everybody. */
static int publish(struct vgpu_session *s)
{
	struct vgpu_back *back = s->back;
	int err;

	mutex_lock(&vgpu_lock);
	err = xa_alloc_cyclic(&sessions, &s->number, s, XA_LIMIT(1, INT_MAX), &next_number, GFP_KERNEL);
	if (err >= 0) {
		err = 0;
		s->client = true;
		list_add_tail(&s->node, &back->sessions);
		back->nr_sessions++;
		WRITE_ONCE(back->nr_held, back->nr_held + 1);
		vgpu_broker_session_open(s);
		kref_get(&s->ref);
		queue_delayed_work(vgpu_wq, &s->timeout, VGPU_ACCEPT_TIME);
	}
	mutex_unlock(&vgpu_lock);
	return err;
}

/*
 * A session counts until its worker has gone too, or a pod could have any number of workers by closing quickly. What
 * the pod has open is changed by this thread only, or when it does not run; waiting for one of those can't help.
 */
static bool may_open(struct vgpu_back *back)
{
	if (back->nr_sessions >= READ_ONCE(back->max_sessions))
		return false;
	return wait_event_timeout(back->zone->wq, READ_ONCE(back->nr_held) < READ_ONCE(back->max_sessions) ||
				  READ_ONCE(back->stopping), VGPU_RETURN_TIME) && !READ_ONCE(back->stopping);
}

static struct vgpu_session *session_alloc(struct vgpu_back *back)
{
	struct vgpu_session *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return NULL;
	kref_init(&s->ref);
	kref_get(&back->ref);
	s->back = back;
	INIT_LIST_HEAD(&s->node);
	INIT_LIST_HEAD(&s->open.node);
	INIT_LIST_HEAD(&s->close.node);
	INIT_DELAYED_WORK(&s->timeout, session_timeout);
	mutex_init(&s->lent_lock);
	INIT_LIST_HEAD(&s->lents);
	vgpu_channel_init(&s->channel);
	vgpu_count(sessions, 1);
	return s;
}

/**
 * vgpu_session_open() - OPEN came
 * @back: device
 * @open: checked copy of the request
 * @rsp:  filled in on success
 *
 * Return: VGPUIF_*, or -EPROTO for sizes no honest frontend sends.
 */
int vgpu_session_open(struct vgpu_back *back, const struct vgpuif_open *open, struct vgpuif_response *rsp)
{
	struct vgpu_layout layout;
	struct vgpu_session *s;
	struct vgpu_lent *lent;
	int err, status;

	if (open->reserved || !vgpu_layout_init(&layout, open->request_size, open->reply_size) ||
	    !vgpu_arena_size_valid(open->arena_size, back->max_arena))
		return -EPROTO;

	if (!may_open(back)) {
		vgpu_count(sessions_refused, 1);
		pr_info_ratelimited("vgpu-back: zone %u: session refused: device %u has %u sessions already (key `sessions`)\n",
				    back->zone->domid, back->device, READ_ONCE(back->nr_held));
		return VGPUIF_NO_SPACE;
	}

	s = session_alloc(back);
	if (!s)
		return refusal(back, "session", -ENOMEM);
	s->layout = layout;
	s->arena_size = open->arena_size;

	lent = vgpu_lent_alloc(back->zone, (layout.arena_offset + open->arena_size) >> PAGE_SHIFT, &back->stopping);
	if (IS_ERR(lent)) {
		status = refusal(back, "session", PTR_ERR(lent));
		goto err_put;
	}
	list_add(&lent->node, &s->lents);
	s->nr_pages = lent->nr_total;
	s->page0 = page_address(lent->pages[0]);

	err = bind_interdomain_evtchn_to_irqhandler_lateeoi(back->xendev, open->event_channel, vgpu_channel_interrupt,
							    0, "vgpu-session", &s->channel);
	if (err < 0) {
		pr_warn_ratelimited("vgpu-back: zone %u: session refused: its event channel %u can't be bound (%d)\n",
				    back->zone->domid, open->event_channel, err);
		vgpu_count(sessions_refused, 1);
		status = VGPUIF_BAD_EVTCHN;
		goto err_lent;
	}
	vgpu_channel_opened(&s->channel, err);

	if (publish(s)) {
		status = refusal(back, "session", -ENOMEM);
		goto err_evtchn;
	}
	/* It can't go before this thread sees to it, so it and its pages still are there. */
	rsp->session = s->number;
	rsp->directory = vgpu_lent_directory(lent);
	rsp->nr_pages = lent->nr;
	rsp->arena_size = s->arena_size;
	vgpu_count(sessions_opened, 1);
	return VGPUIF_OKAY;

err_evtchn:
	vgpu_channel_close(&s->channel);
err_lent:
	vgpu_zone_closing(back->zone, s->nr_pages);
	return_memory(s);
err_put:
	vgpu_session_put(s);
	return status;
}

/**
 * vgpu_session_grow() - GROW came
 * @back: device
 * @grow: checked copy of the request
 * @rsp:  filled in on success
 *
 * Return: VGPUIF_*, or -EPROTO for sizes no honest frontend sends.
 */
int vgpu_session_grow(struct vgpu_back *back, const struct vgpuif_grow *grow, struct vgpuif_response *rsp)
{
	struct vgpu_session *s;
	struct vgpu_lent *lent;
	int status = VGPUIF_OKAY;

	if (grow->reserved || !vgpu_arena_size_valid(grow->arena_size, back->max_arena))
		return -EPROTO;

	mutex_lock(&vgpu_lock);
	s = xa_load(&sessions, grow->session);
	if (s && s->back == back && !s->ended)
		kref_get(&s->ref);
	else
		s = NULL;
	mutex_unlock(&vgpu_lock);
	if (!s)
		return VGPUIF_NO_SESSION;

	/* Only this thread changes the size, and only this thread or its end takes the client away. */
	if (grow->arena_size > s->arena_size) {
		lent = vgpu_lent_alloc(back->zone, (grow->arena_size - s->arena_size) >> PAGE_SHIFT, &back->stopping);
		if (IS_ERR(lent)) {
			status = refusal(back, "longer arena", PTR_ERR(lent));
			goto out;
		}
		mutex_lock(&s->lent_lock);
		list_add_tail(&lent->node, &s->lents);
		s->nr_pages += lent->nr_total;
		s->arena_size = grow->arena_size;
		mutex_unlock(&s->lent_lock);
		rsp->directory = vgpu_lent_directory(lent);
		rsp->nr_pages = lent->nr;
	}
	rsp->arena_size = s->arena_size;
out:
	vgpu_session_put(s);
	return status;
}
