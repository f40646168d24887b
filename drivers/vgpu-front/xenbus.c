// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device's life: probe, remove, and the handshake of uapi/xen/io/vgpuif.h.
 *
 * Everything here but the fault work runs on the one thread that serves all of xenbus, so nothing here waits for a
 * client or for the unmapping of memory.
 */

#include <linux/module.h>
#include <linux/slab.h>
#include <xen/interface/io/protocols.h>
#include <xen/xen.h>

#include "front.h"
#include "versions.h"

static void disconnect(struct vgpu_front *front, bool suspended)
{
	struct vgpu_session *s, *next;

	mutex_lock(&front->lock);
	if (front->connected)
		vgpu_count(connected, -1);
	WRITE_ONCE(front->connected, false);	/* wait_for_backend() looks without the lock */
	list_for_each_entry_safe(s, next, &front->sessions, node) {
		list_del_init(&s->node);
		vgpu_session_lose(s, suspended);
	}
	if (suspended)
		list_for_each_entry(s, &front->all_sessions, all)
			vgpu_session_leftovers(s);
	mutex_unlock(&front->lock);

	vgpu_control_disconnect(front);
}

static void fault_work(struct work_struct *work)
{
	struct vgpu_front *front = container_of(work, struct vgpu_front, fault_work);

	xenbus_dev_fatal(front->xendev, -EPROTO,
			 "the backend broke the control ring's protocol; this device stays closed");
	disconnect(front, false);
}

static int write_nodes(struct vgpu_front *front, evtchn_port_t port)
{
	struct xenbus_device *dev = front->xendev;
	struct xenbus_transaction xbt;
	const char *node;
	int err;

again:
	err = xenbus_transaction_start(&xbt);
	if (err) {
		xenbus_dev_fatal(dev, err, "starting a xenstore transaction");
		return err;
	}

	node = "version";
	err = xenbus_printf(xbt, dev->nodename, node, "%u", VGPUIF_VERSION);
	if (err)
		goto abort;
	node = "protocol";
	err = xenbus_printf(xbt, dev->nodename, node, "%s", XEN_IO_PROTO_ABI_NATIVE);
	if (err)
		goto abort;
	node = "ring-ref";
	err = xenbus_printf(xbt, dev->nodename, node, "%u", front->ring_ref);
	if (err)
		goto abort;
	node = "event-channel";
	err = xenbus_printf(xbt, dev->nodename, node, "%u", port);
	if (err)
		goto abort;

	err = xenbus_transaction_end(xbt, 0);
	if (err == -EAGAIN)
		goto again;
	if (err)
		xenbus_dev_fatal(dev, err, "ending a xenstore transaction");
	return err;

abort:
	xenbus_transaction_end(xbt, 1);
	xenbus_dev_fatal(dev, err, "writing %s", node);
	return err;
}

/* The whole list is looked at, however long: the end of a part of it might be the end of another number. */
static bool backend_speaks(struct xenbus_device *dev, u32 version)
{
	char *versions = xenbus_read(XBT_NIL, dev->otherend, "versions", NULL);
	bool speaks;

	if (IS_ERR(versions))
		return false;
	speaks = vgpu_version_listed(versions, version);
	kfree(versions);
	return speaks;
}

/* The backend is in InitWait: make a fresh ring and offer it. */
static void connect(struct vgpu_front *front)
{
	struct xenbus_device *dev = front->xendev;
	unsigned long long max_arena;
	evtchn_port_t port;
	unsigned int zone;
	int err;

	if (READ_ONCE(front->broken))
		return;
	if (!backend_speaks(dev, VGPUIF_VERSION)) {
		xenbus_dev_fatal(dev, -EPROTONOSUPPORT,
				 "the backend does not speak version 1: vgpu-front and vgpu-back must be of one release");
		return;
	}
	if (xenbus_scanf(XBT_NIL, dev->otherend, "max-arena", "%llu", &max_arena) != 1)
		max_arena = 0;
	/* The arena's end must be representable as a file offset, whatever the backend wrote. */
	max_arena = min_t(u64, max_arena, IDM_ARENA_SLOT_SIZE) & ~(u64)(IDM_PAGE_SIZE - 1);
	zone = xenbus_read_unsigned(dev->otherend, "frontend-id", 0);

	mutex_lock(&front->lock);
	WRITE_ONCE(front->max_arena, max_arena);	/* growing sessions look without the lock */
	front->zone = zone;
	front->backend_zone = dev->otherend_id;
	mutex_unlock(&front->lock);

	/* None is there, unless the store failed when one was to be offered. Each offer is a ring of its own. */
	vgpu_control_disconnect(front);
	if (READ_ONCE(front->broken))	/* by the ring that was just given up, and maybe is in the fault work's hands */
		return;
	err = vgpu_control_connect(front, &port);
	if (err)
		return;
	err = write_nodes(front, port);
	if (err) {
		vgpu_control_disconnect(front);
		return;
	}
	xenbus_switch_state(dev, XenbusStateInitialised);
}

static void connected(struct vgpu_front *front)
{
	mutex_lock(&front->lock);
	if (READ_ONCE(front->broken)) {	/* the fault work disconnects, or has done so */
		mutex_unlock(&front->lock);
		return;
	}
	if (!front->connected)
		vgpu_count(connected, 1);
	WRITE_ONCE(front->connected, true);
	mutex_unlock(&front->lock);
	xenbus_switch_state(front->xendev, XenbusStateConnected);
	wake_up_all(&front->connect_wq);
}

static void backend_changed(struct xenbus_device *dev, enum xenbus_state state)
{
	struct vgpu_front *front = dev_get_drvdata(&dev->dev);

	switch (state) {
	case XenbusStateInitWait:
		if (dev->state == XenbusStateInitialised && READ_ONCE(front->ring_up))
			break;	/* our nodes are written, the backend has yet to look at them */
		/* Connected, closed, or no ring any more: that was with the backend before this one. */
		if (dev->state != XenbusStateInitialising) {
			disconnect(front, false);
			if (READ_ONCE(front->broken))
				break;
			xenbus_switch_state(dev, XenbusStateInitialising);
		}
		connect(front);
		break;

	case XenbusStateConnected:
		if (dev->state == XenbusStateInitialised)
			connected(front);
		break;

	case XenbusStateClosed:
		/* From an earlier life: the backend sees our Initialising and will come to InitWait. */
		if (dev->state == XenbusStateInitialising)
			break;
		fallthrough;
	case XenbusStateClosing:
		if (dev->state == XenbusStateClosed)
			break;
		disconnect(front, false);
		xenbus_frontend_closed(dev);
		break;

	case XenbusStateUnknown:
		/* Its directory has gone. Should it come back, InitWait is what we see next, and our offer is void. */
		disconnect(front, false);
		if (dev->state == XenbusStateInitialised)
			xenbus_switch_state(dev, XenbusStateInitialising);
		break;

	default:
		break;
	}
}

static int vgpu_front_probe(struct xenbus_device *dev, const struct xenbus_device_id *id)
{
	const char *number = strrchr(dev->nodename, '/');
	struct vgpu_front *front;
	int err;

	if (xen_pv_domain()) {
		xenbus_dev_fatal(dev, -EOPNOTSUPP,
				 "vgpu needs a PVH or HVM guest and this is a PV one: set type=\"pvh\" in its configuration");
		return -EOPNOTSUPP;
	}

	front = kzalloc(sizeof(*front), GFP_KERNEL);
	if (!front)
		return -ENOMEM;
	kref_init(&front->ref);
	mutex_init(&front->lock);
	INIT_LIST_HEAD(&front->sessions);
	INIT_LIST_HEAD(&front->all_sessions);
	init_waitqueue_head(&front->connect_wq);
	spin_lock_init(&front->ring_lock);
	init_waitqueue_head(&front->call_wq);
	INIT_WORK(&front->fault_work, fault_work);
	front->ring_ref = INVALID_GRANT_REF;
	front->xendev = dev;
	front->backend_zone = dev->otherend_id;

	err = number ? kstrtou32(number + 1, 10, &front->device) : -EINVAL;
	if (err) {
		xenbus_dev_fatal(dev, err, "the device's number is missing from its path");
		goto err_free;
	}
	dev_set_drvdata(&dev->dev, front);

	err = vgpu_chardev_add(front);
	if (err) {
		xenbus_dev_fatal(dev, err, "making /dev/%s", front->name);
		goto err_free;
	}

	/* After a module reload the store still has the state in which the last one left. */
	err = xenbus_switch_state(dev, XenbusStateInitialising);
	if (err)
		goto err_chardev;
	return 0;

err_chardev:
	vgpu_chardev_remove(front);
err_free:
	dev_set_drvdata(&dev->dev, NULL);
	vgpu_front_put(front);
	return err;
}

static void front_remove(struct xenbus_device *dev)
{
	struct vgpu_front *front = dev_get_drvdata(&dev->dev);

	vgpu_chardev_remove(front);
	disconnect(front, false);
	cancel_work_sync(&front->fault_work);
	vgpu_control_exit(front);

	mutex_lock(&front->lock);
	WRITE_ONCE(front->xendev, NULL);
	mutex_unlock(&front->lock);
	wake_up_all(&front->connect_wq);
	dev_set_drvdata(&dev->dev, NULL);
	vgpu_front_put(front);
}

#ifdef VGPU_XENBUS_REMOVE_RETURNS_INT
static int vgpu_front_remove(struct xenbus_device *dev)
{
	front_remove(dev);
	return 0;
}
#else
#define vgpu_front_remove front_remove
#endif

/*
 * The domain is to be suspended, and nobody says whether it will go on here or be saved or moved. Nothing of a session
 * may be in what is saved: the pages are the driver domain's, and handles and event channels are Xen's of now. So all
 * is given back while it can be. Back at the start, the frontend connects anew with whatever backend comes to
 * InitWait; without one it stays there, and .resume would not even be called.
 */
static int vgpu_front_suspend(struct xenbus_device *dev)
{
	disconnect(dev_get_drvdata(&dev->dev), true);
	if (dev->state == XenbusStateInitialised || dev->state == XenbusStateConnected)
		xenbus_switch_state(dev, XenbusStateInitialising);
	return 0;
}

static const struct xenbus_device_id vgpu_front_ids[] = {
	{ "vgpu" },
	{ "" }
};

static struct xenbus_driver vgpu_front_driver = {
	.ids = vgpu_front_ids,
	.not_essential = true,
	.probe = vgpu_front_probe,
	.remove = vgpu_front_remove,
	.suspend = vgpu_front_suspend,
	.otherend_changed = backend_changed,
};

int vgpu_xenbus_register(void)
{
	return xenbus_register_frontend(&vgpu_front_driver);
}

void vgpu_xenbus_unregister(void)
{
	xenbus_unregister_driver(&vgpu_front_driver);
}
