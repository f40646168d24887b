// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control ring's server: a thread for each device, woken by its interrupt.
 *
 * A frontend that breaks the protocol loses its device for good: its event is never acknowledged again, so it can't
 * even cause interrupts. Requests that are well-formed but can't be served are refused, which costs it nothing.
 */

#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <xen/events.h>

#include "back.h"

/* Serve one request; a negative result is a protocol violation, told in @why. */
static int serve(struct vgpu_back *back, const struct vgpuif_request *req, struct vgpuif_response *rsp,
		 const char **why)
{
	size_t used;

	memset(rsp, 0, sizeof(*rsp));	/* no stack contents in shared memory */
	rsp->id = req->id;
	rsp->op = req->op;

	switch (req->op) {
	case VGPUIF_OP_OPEN:
		used = sizeof(req->u.open);
		break;
	case VGPUIF_OP_GROW:
		used = sizeof(req->u.grow);
		break;
	case VGPUIF_OP_CLOSE:
		used = sizeof(req->u.close);
		break;
	default:
		*why = "an unknown operation";
		return -EPROTO;
	}
	if (req->reserved || memchr_inv(req->u.raw + used, 0, sizeof(req->u.raw) - used)) {
		*why = "padding that is not zero";
		return -EPROTO;
	}

	switch (req->op) {
	case VGPUIF_OP_OPEN:
		*why = "a session of impossible size";
		rsp->status = vgpu_session_open(back, &req->u.open, rsp);
		break;
	case VGPUIF_OP_GROW:
		*why = "an arena of impossible size";
		rsp->status = vgpu_session_grow(back, &req->u.grow, rsp);
		break;
	default:
		*why = "a malformed close";
		rsp->status = req->u.close.reserved ? -EPROTO : vgpu_session_close(back, req->u.close.session);
		break;
	}
	return rsp->status == -EPROTO ? -EPROTO : 0;
}

static void respond(struct vgpu_back *back, const struct vgpuif_response *rsp)
{
	int notify;

	*RING_GET_RESPONSE(&back->ring, back->ring.rsp_prod_pvt) = *rsp;
	back->ring.rsp_prod_pvt++;
	RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back->ring, notify);
	if (notify) {
		notify_remote_via_irq(back->irq);
		vgpu_count(notifications_sent, 1);
	}
}

static irqreturn_t control_interrupt(int irq, void *dev_id)
{
	struct vgpu_back *back = dev_id;

	vgpu_count(notifications_received, 1);
	WRITE_ONCE(back->notified, true);
	wake_up(&back->ring_wq);
	return IRQ_HANDLED;
}

/* What one notification is about. Acknowledged only here and at the end, so that no other comes meanwhile. */
static void serve_ring(struct vgpu_back *back)
{
	unsigned int eoi = XEN_EOI_FLAG_SPURIOUS;
	struct vgpuif_response rsp;
	struct vgpuif_request req;
	const char *why;
	RING_IDX prod;
	int more;

	do {
		prod = READ_ONCE(back->ring.sring->req_prod);
		virt_rmb();	/* the requests that prod covers are read after prod */
		if (RING_REQUEST_PROD_OVERFLOW(&back->ring, prod)) {
			why = "an impossible producer index";
			goto broken;
		}
		while (back->ring.req_cons != prod) {
			if (READ_ONCE(back->stopping))
				return;
			RING_COPY_REQUEST(&back->ring, back->ring.req_cons, &req);
			back->ring.req_cons++;
			eoi = 0;
			vgpu_count(requests, 1);
			if (serve(back, &req, &rsp, &why))
				goto broken;
			respond(back, &rsp);
			cond_resched();
		}
		RING_FINAL_CHECK_FOR_REQUESTS(&back->ring, more);
	} while (more);

	if (eoi)
		vgpu_count(spurious_events, 1);
	/* For a spurious event it asks which processor this is, and means the answer to last. */
	preempt_disable();
	xen_irq_lateeoi(back->irq, eoi);
	preempt_enable();
	return;

broken:
	WRITE_ONCE(back->broken, true);
	vgpu_count(protocol_errors, 1);
	xenbus_dev_fatal(back->xendev, -EPROTO,
			 "zone %u sent %s on the control ring; its device %u is closed for good (detach and attach it to reset)",
			 back->zone->domid, why, back->device);
	vgpu_session_close_all(back, "the pod's kernel broke the protocol of its GPU device");
}

static int control_thread(void *data)
{
	struct vgpu_back *back = data;

	for (;;) {
		wait_event_interruptible(back->ring_wq, xchg(&back->notified, false) || kthread_should_stop());
		if (kthread_should_stop())
			return 0;
		serve_ring(back);
	}
}

/**
 * vgpu_control_connect() - map the frontend's ring and start serving it
 * @back: device without a ring
 * @ref:  grant of the ring's page
 * @port: event channel
 *
 * Return: 0 or -errno, which xenbus has been told.
 */
int vgpu_control_connect(struct vgpu_back *back, grant_ref_t ref, evtchn_port_t port)
{
	struct xenbus_device *dev = back->xendev;
	void *page;
	int err;

	err = xenbus_map_ring_valloc(dev, &ref, 1, &page);
	if (err) {
		xenbus_dev_fatal(dev, err, "mapping the control ring, grant %u", ref);
		return err;
	}
	BACK_RING_INIT(&back->ring, (struct vgpuif_sring *)page, XEN_PAGE_SIZE);
	back->ring_ref = ref;
	back->port = port;
	back->notified = false;
	WRITE_ONCE(back->stopping, false);

	/* An ordinary thread: one of the interrupt's own would run ahead of all else, as often as the zone likes. */
	back->thread = kthread_create(control_thread, back, "vgpu-%u-%u", back->zone->domid, back->device);
	if (IS_ERR(back->thread)) {
		err = PTR_ERR(back->thread);
		xenbus_dev_fatal(dev, err, "making the control ring's thread");
		goto err_ring;
	}
	err = bind_interdomain_evtchn_to_irqhandler_lateeoi(dev, port, control_interrupt, 0, "vgpu-back", back);
	if (err < 0) {
		xenbus_dev_fatal(dev, err, "binding the control ring's event channel %u", port);
		goto err_thread;
	}
	back->irq = err;
	back->ring_up = true;
	vgpu_count(event_channels, 1);
	wake_up_process(back->thread);
	return 0;

err_thread:
	kthread_stop(back->thread);
err_ring:
	back->thread = NULL;
	xenbus_unmap_ring_vfree(dev, page);
	back->ring.sring = NULL;
	return err;
}

/* Stop serving. Does nothing if there is no ring; may be called any number of times. */
void vgpu_control_disconnect(struct vgpu_back *back)
{
	if (!back->ring_up)
		return;
	back->ring_up = false;
	WRITE_ONCE(back->stopping, true);
	wake_up_all(&back->zone->wq);

	/* The thread first: it acknowledges, and the number of an interrupt that is unbound may soon be another's. */
	kthread_stop(back->thread);
	back->thread = NULL;
	unbind_from_irqhandler(back->irq, back);
	vgpu_count(event_channels, -1);
	xenbus_unmap_ring_vfree(back->xendev, back->ring.sring);
	back->ring.sring = NULL;
}
