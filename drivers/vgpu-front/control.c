// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control ring's client: a request is given a slot, its sender sleeps until the response has come.
 *
 * A sender that is killed leaves its call behind; the response's handler then owns it, and undoes an OPEN with a
 * CLOSE in the same slot. Until its response has come the session's event channel stays: its number would be another
 * channel's at once, and the backend has yet to bind what the OPEN names.
 *
 * Responses are believed as far as they fit a request that is on its way, and no further: an id names a slot and how
 * often ids were given out before, so that a second answer to an earlier request of the same slot fits none. What a
 * backend of before says goes to the ring of before, which is not looked at any more. And a request goes over the
 * connection of its session or nowhere: the next backend may have given the session's number to another.
 */

#include <linux/slab.h>
#include <xen/events.h>

#include "front.h"

/**
 * struct vgpu_call - a request on its way
 * @req:       as sent
 * @rsp:       as received
 * @error:     -ECONNRESET if there will be no response
 * @done:      @rsp or @error is valid
 * @abandoned: nobody waits: whoever takes it out of its slot frees it
 * @session:   of an abandoned OPEN, with a reference: whose event channel the backend has yet to bind
 */
struct vgpu_call {
	struct vgpuif_request req;
	struct vgpuif_response rsp;
	int error;
	struct completion done;
	bool abandoned;
	struct vgpu_session *session;
};

/* Ids wrap around and still name their slot. */
static_assert(!((U16_MAX + 1) % VGPU_CALLS));

static void push(struct vgpu_front *front, const struct vgpuif_request *req)
{
	int notify;

	*RING_GET_REQUEST(&front->ring, front->ring.req_prod_pvt) = *req;
	front->ring.req_prod_pvt++;
	RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front->ring, notify);
	vgpu_count(requests, 1);
	if (notify) {
		notify_remote_via_irq(front->irq);
		vgpu_count(notifications_sent, 1);
	}
}

/* The slot's number in the lowest bits, and above it what is different each time. Called with ring_lock held. */
static u16 next_id(struct vgpu_front *front, unsigned int slot)
{
	return front->ids++ * VGPU_CALLS + slot;
}

/* False if all slots are taken. Otherwise @err says whether the request of @s is on its way. */
static bool submit(struct vgpu_session *s, struct vgpu_call *call, int *err)
{
	struct vgpu_front *front = s->front;
	unsigned long flags;
	bool done = false;
	unsigned int i;

	spin_lock_irqsave(&front->ring_lock, flags);
	if (!front->ring_up || front->connection != s->connection) {
		*err = -ECONNRESET;
		done = true;
		goto out;
	}
	for (i = 0; i < VGPU_CALLS; i++) {
		if (front->calls[i])
			continue;
		front->calls[i] = call;
		call->req.id = next_id(front, i);
		push(front, &call->req);
		*err = 0;
		done = true;
		break;
	}
out:
	spin_unlock_irqrestore(&front->ring_lock, flags);
	return done;
}

static struct vgpu_call *call_alloc(const struct vgpuif_request *req, gfp_t gfp)
{
	struct vgpu_call *call = kzalloc(sizeof(*call), gfp);

	if (call) {
		call->req = *req;
		init_completion(&call->done);
	}
	return call;
}

/* The backend has answered an abandoned call, or never will. */
static void let_go(struct vgpu_call *call)
{
	if (call->session)
		vgpu_session_answered(call->session);
	call->session = NULL;
}

/* The connection that there is, or the next one. */
u64 vgpu_control_connection(struct vgpu_front *front)
{
	unsigned long flags;
	u64 connection;

	spin_lock_irqsave(&front->ring_lock, flags);
	connection = front->connection;
	spin_unlock_irqrestore(&front->ring_lock, flags);
	return connection;
}

/**
 * vgpu_control_call() - send a request and wait for its response
 * @s:   the session that it is about, over whose connection it goes
 * @req: the request; its id does not matter
 * @rsp: the response, whatever its status
 *
 * Return: 0; -ECONNRESET if that connection has ended; -EINTR if the caller was killed.
 */
int vgpu_control_call(struct vgpu_session *s, const struct vgpuif_request *req, struct vgpuif_response *rsp)
{
	struct vgpu_front *front = s->front;
	struct vgpu_call *call = call_alloc(req, GFP_KERNEL);
	unsigned long flags;
	int err;

	if (!call)
		return -ENOMEM;

	if (wait_event_killable(front->call_wq, submit(s, call, &err)))
		err = -EINTR;
	if (err)
		goto out;

	if (wait_for_completion_killable(&call->done)) {
		spin_lock_irqsave(&front->ring_lock, flags);
		call->abandoned = !completion_done(&call->done);
		if (call->abandoned) {
			if (req->op == VGPUIF_OP_OPEN) {
				vgpu_session_unanswered(s);
				call->session = s;
			}
			call = NULL;
		}
		spin_unlock_irqrestore(&front->ring_lock, flags);
		if (!call)
			return -EINTR;
	}
	err = call->error;
	*rsp = call->rsp;
out:
	kfree(call);
	return err;
}

/**
 * vgpu_control_close_session() - tell the backend that a session is over, without waiting for its answer
 * @s: the session
 *
 * Nothing to do if its connection has gone: the backend has then closed the session itself.
 */
void vgpu_control_close_session(struct vgpu_session *s)
{
	struct vgpuif_request req = { .op = VGPUIF_OP_CLOSE };
	struct vgpu_call *call;
	int err;

	/* Not in the initialiser, which might then leave the union's rest alone. */
	req.u.close.session = s->number;
	call = call_alloc(&req, GFP_KERNEL | __GFP_NOFAIL);
	call->abandoned = true;
	wait_event(s->front->call_wq, submit(s, call, &err));
	if (err)
		kfree(call);
}

/* Hand a response to its call. Called with ring_lock held. False if the backend lies. */
static bool complete_call(struct vgpu_front *front, const struct vgpuif_response *rsp)
{
	unsigned int slot = rsp->id % VGPU_CALLS;
	struct vgpu_call *call = front->calls[slot];

	if (!call || call->req.id != rsp->id || call->req.op != rsp->op || rsp->reserved)
		return false;
	vgpu_count(responses, 1);

	if (call->abandoned)
		let_go(call);
	if (call->abandoned && rsp->op == VGPUIF_OP_OPEN && rsp->status == VGPUIF_OKAY) {
		memset(&call->req.u, 0, sizeof(call->req.u));
		call->req.id = next_id(front, slot);
		call->req.op = VGPUIF_OP_CLOSE;
		call->req.u.close.session = rsp->session;
		push(front, &call->req);
		return true;
	}

	front->calls[slot] = NULL;
	if (call->abandoned) {
		kfree(call);
	} else {
		call->rsp = *rsp;
		complete(&call->done);
	}
	return true;
}

static irqreturn_t control_interrupt(int irq, void *dev_id)
{
	struct vgpu_front *front = dev_id;
	unsigned int eoi = XEN_EOI_FLAG_SPURIOUS;
	struct vgpuif_response rsp;
	unsigned long flags;
	RING_IDX i, prod;
	int more;

	vgpu_count(notifications_received, 1);
	spin_lock_irqsave(&front->ring_lock, flags);
	if (!front->ring_up) {
		spin_unlock_irqrestore(&front->ring_lock, flags);
		if (!READ_ONCE(front->broken))
			xen_irq_lateeoi(irq, eoi);
		return IRQ_HANDLED;
	}

	do {
		prod = READ_ONCE(front->ring.sring->rsp_prod);
		virt_rmb();	/* the responses that prod covers are read after prod */
		if (RING_RESPONSE_PROD_OVERFLOW(&front->ring, prod))
			goto broken;

		for (i = front->ring.rsp_cons; i != prod; i++) {
			eoi = 0;
			RING_COPY_RESPONSE(&front->ring, i, &rsp);
			front->ring.rsp_cons = i + 1;
			if (!complete_call(front, &rsp))
				goto broken;
		}
		RING_FINAL_CHECK_FOR_RESPONSES(&front->ring, more);
	} while (more);

	spin_unlock_irqrestore(&front->ring_lock, flags);
	wake_up_all(&front->call_wq);
	if (eoi)
		vgpu_count(spurious_events, 1);
	xen_irq_lateeoi(irq, eoi);
	return IRQ_HANDLED;

broken:
	/* Without an acknowledgment the backend can't raise this interrupt again. */
	front->ring_up = false;
	WRITE_ONCE(front->broken, true);
	spin_unlock_irqrestore(&front->ring_lock, flags);
	vgpu_count(protocol_errors, 1);
	queue_work(vgpu_wq, &front->fault_work);
	return IRQ_HANDLED;
}

/* Free those rings that have been unmapped by now. Called with ring_lock held. */
static void free_old_rings(struct vgpu_front *front)
{
	unsigned int i, left = 0;

	for (i = 0; i < front->nr_old_rings; i++) {
		if (gnttab_try_end_foreign_access(front->old_rings[i].ref))
			free_pages_exact(front->old_rings[i].page, XEN_PAGE_SIZE);
		else
			front->old_rings[left++] = front->old_rings[i];
	}
	front->nr_old_rings = left;
}

/*
 * This side is done with the ring; its page is free when the backend is, too. The kernel's own list of grants to be
 * ended has no limit, and a backend that keeps what it has mapped and connects anew could use up the domain's grants.
 */
static void retire_ring(struct vgpu_front *front, void *page, grant_ref_t ref)
{
	unsigned long flags;

	spin_lock_irqsave(&front->ring_lock, flags);
	front->old_rings[front->nr_old_rings++] = (struct vgpu_old_ring) { page, ref };
	free_old_rings(front);
	spin_unlock_irqrestore(&front->ring_lock, flags);
}

/* There is one ring at a time, so what this says is still true when that is retired. */
static bool may_retire_one_more(struct vgpu_front *front)
{
	unsigned long flags;
	bool may;

	spin_lock_irqsave(&front->ring_lock, flags);
	free_old_rings(front);
	may = front->nr_old_rings < VGPU_OLD_RINGS;
	spin_unlock_irqrestore(&front->ring_lock, flags);
	return may;
}

/**
 * vgpu_control_connect() - make the ring and its event channel
 * @front: the device
 * @port:  out: to be told to the backend
 *
 * Return: 0 or -errno, which xenbus has been told.
 */
int vgpu_control_connect(struct vgpu_front *front, evtchn_port_t *port)
{
	struct xenbus_device *dev = front->xendev;
	unsigned long flags;
	void *page;
	int err;

	if (!may_retire_one_more(front)) {
		WRITE_ONCE(front->broken, true);
		xenbus_dev_fatal(dev, -EBUSY,
				 "domain %u still has %u control rings of before mapped; this device stays closed (detach and attach it to reset)",
				 dev->otherend_id, VGPU_OLD_RINGS);
		return -EBUSY;
	}
	err = xenbus_setup_ring(dev, GFP_KERNEL, &page, 1, &front->ring_ref);
	if (err) {
		xenbus_dev_fatal(dev, err, "allocating the control ring");
		return err;
	}
	spin_lock_irqsave(&front->ring_lock, flags);
	XEN_FRONT_RING_INIT(&front->ring, (struct vgpuif_sring *)page, XEN_PAGE_SIZE);
	spin_unlock_irqrestore(&front->ring_lock, flags);

	err = xenbus_alloc_evtchn(dev, port);
	if (err)
		goto err_ring;
	err = bind_evtchn_to_irqhandler_lateeoi(*port, control_interrupt, 0, "vgpu-front", front);
	if (err < 0) {
		xenbus_free_evtchn(dev, *port);
		xenbus_dev_fatal(dev, err, "binding the control ring's event channel");
		goto err_ring;
	}
	vgpu_count(event_channels, 1);

	spin_lock_irqsave(&front->ring_lock, flags);
	front->irq = err;
	front->ring_up = true;
	spin_unlock_irqrestore(&front->ring_lock, flags);
	return 0;

err_ring:
	front->ring.sring = NULL;
	retire_ring(front, page, front->ring_ref);
	front->ring_ref = INVALID_GRANT_REF;
	return err;
}

/* Fail all calls and give the ring back. Does nothing if there is none. */
void vgpu_control_disconnect(struct vgpu_front *front)
{
	struct vgpu_call *call;
	unsigned long flags;
	unsigned int i, irq;
	grant_ref_t ref;
	void *page;

	/* Whoever takes the ring out under the lock gives it back: xenbus and the fault work may both come here. */
	spin_lock_irqsave(&front->ring_lock, flags);
	front->ring_up = false;
	front->connection++;
	irq = front->irq;
	page = front->ring.sring;
	ref = front->ring_ref;
	front->irq = 0;
	front->ring.sring = NULL;
	front->ring_ref = INVALID_GRANT_REF;
	for (i = 0; i < VGPU_CALLS; i++) {
		call = front->calls[i];
		front->calls[i] = NULL;
		if (!call)
			continue;
		if (call->abandoned) {
			let_go(call);
			kfree(call);
		} else {
			call->error = -ECONNRESET;
			complete(&call->done);
		}
	}
	spin_unlock_irqrestore(&front->ring_lock, flags);
	wake_up_all(&front->call_wq);

	/* The handler has returned for the last time before the ring goes. */
	if (irq) {
		unbind_from_irqhandler(irq, front);
		vgpu_count(event_channels, -1);
	}
	if (page)
		retire_ring(front, page, ref);
}

/* The device goes. Rings that still are mapped are left to the kernel's own list, which frees them in the end. */
void vgpu_control_exit(struct vgpu_front *front)
{
	struct vgpu_old_ring *old;

	while (front->nr_old_rings) {
		old = &front->old_rings[--front->nr_old_rings];
		xenbus_teardown_ring(&old->page, 1, &old->ref);
	}
}
