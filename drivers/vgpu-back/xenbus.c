// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device's life: probe, remove, and the handshake of uapi/xen/io/vgpuif.h.
 *
 * All of it runs on the one thread that serves all of xenbus. Nothing here waits for a frontend, a broker or a
 * worker; what takes time (grants that a frontend does not give up) is left to lent.c.
 */

#include <linux/ctype.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <xen/interface/io/protocols.h>

#include "back.h"

/* Each offer that can't be used is told to the log, by xenbus as well; a frontend may not go on with it for ever. */
#define MAX_BAD_OFFERS	32

static void disconnect(struct vgpu_back *back, const char *reason)
{
	vgpu_control_disconnect(back);
	vgpu_session_close_all(back, reason);
}

/* What others wrote may be told to a log, and that shown on a terminal. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if (!isprint(*text))
			*text = '?';
}

/* Everything read here is the frontend's word. An error has been told to xenbus. */
static int take_offer(struct vgpu_back *back)
{
	struct xenbus_device *dev = back->xendev;
	char protocol[64] = XEN_IO_PROTO_ABI_NATIVE;
	unsigned int ref, port, version;
	int err;

	err = xenbus_gather(XBT_NIL, dev->otherend, "version", "%u", &version, "ring-ref", "%u", &ref,
			    "event-channel", "%u", &port, NULL);
	if (err) {
		xenbus_dev_fatal(dev, err, "reading version, ring-ref and event-channel from %s", dev->otherend);
		return err;
	}
	xenbus_scanf(XBT_NIL, dev->otherend, "protocol", "%63s", protocol);
	make_printable(protocol);
	if (version != VGPUIF_VERSION || strcmp(protocol, XEN_IO_PROTO_ABI_NATIVE)) {
		xenbus_dev_fatal(dev, -EPROTONOSUPPORT, "the frontend speaks version %u of %s, this is %u of %s",
				 version, protocol, VGPUIF_VERSION, XEN_IO_PROTO_ABI_NATIVE);
		return -EPROTONOSUPPORT;
	}

	/* The store may report one and the same offer twice; another one is a frontend that started anew. */
	if (dev->state == XenbusStateConnected && back->ring_up && ref == back->ring_ref && port == back->port)
		return 0;
	disconnect(back, "the pod's GPU device was set up anew");
	if (READ_ONCE(back->broken))	/* by the ring that was just given up */
		return 0;
	err = vgpu_control_connect(back, ref, port);
	if (!err)
		xenbus_switch_state(dev, XenbusStateConnected);
	return err;
}

static void connect(struct vgpu_back *back)
{
	if (!take_offer(back))
		return;
	disconnect(back, "the pod's GPU device was set up anew, and wrongly");
	if (++back->bad_offers < MAX_BAD_OFFERS)
		return;
	WRITE_ONCE(back->broken, true);
	xenbus_dev_error(back->xendev, -EPROTO,
			 "zone %u offered %u control rings that can't be used; its device %u is closed for good (detach and attach it to reset)",
			 back->zone->domid, back->bad_offers, back->device);
}

static void frontend_changed(struct xenbus_device *dev, enum xenbus_state state)
{
	struct vgpu_back *back = dev_get_drvdata(&dev->dev);

	switch (state) {
	case XenbusStateInitialising:
		disconnect(back, "the pod's GPU device was set up anew");
		/* Looked at when the ring's thread has gone, which may find it broken at the very end. */
		if (!READ_ONCE(back->broken))
			xenbus_switch_state(dev, XenbusStateInitWait);
		break;

	case XenbusStateInitialised:
		/* Not on Connected: that frontend's ring is one of before this module was loaded. */
		if (!READ_ONCE(back->broken))
			connect(back);
		break;

	case XenbusStateClosing:
		disconnect(back, "the pod's GPU device was closed");
		xenbus_switch_state(dev, XenbusStateClosing);
		break;

	case XenbusStateClosed:
		disconnect(back, "the pod's GPU device was closed");
		if (xenbus_dev_is_online(dev)) {
			/* In InitWait this is a frontend that has yet to see us; it will come to Initialising. */
			if (dev->state != XenbusStateInitWait)
				xenbus_switch_state(dev, XenbusStateClosed);
			break;
		}
		xenbus_switch_state(dev, XenbusStateClosed);
		fallthrough;
	case XenbusStateUnknown:
		device_unregister(&dev->dev);
		break;

	default:
		break;
	}
}

/* The toolstack's configuration, which only it and this domain can write. */
static void read_config(struct vgpu_back *back)
{
	struct xenbus_device *dev = back->xendev;
	char *gpu;

	back->weight = max(1U, xenbus_read_unsigned(dev->nodename, "weight", 1));
	back->memory = (u64)xenbus_read_unsigned(dev->nodename, "memory", 0) << 20;
	back->max_sessions = max(1U, xenbus_read_unsigned(dev->nodename, "sessions", READ_ONCE(vgpu_max_sessions)));
	back->own_zone = xenbus_read_unsigned("domid", "", 0);

	gpu = xenbus_read(XBT_NIL, dev->nodename, "gpu", NULL);
	if (IS_ERR(gpu))
		return;
	strscpy(back->gpu, gpu, sizeof(back->gpu));
	make_printable(back->gpu);
	kfree(gpu);
}

/*
 * The toolstack has written to the device's directory, which no frontend can: new quota, weight or number of sessions.
 * A key that is missing belongs to a directory that is just being removed.
 */
static void config_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct vgpu_back *back = container_of(watch, struct vgpu_back, config);
	const char *dir = back->xendev->nodename;
	unsigned int weight, memory, sessions;

	if (xenbus_scanf(XBT_NIL, dir, "weight", "%u", &weight) != 1 ||
	    xenbus_scanf(XBT_NIL, dir, "memory", "%u", &memory) != 1 ||
	    xenbus_scanf(XBT_NIL, dir, "sessions", "%u", &sessions) != 1)
		return;
	weight = max(1U, weight);
	sessions = max(1U, sessions);

	mutex_lock(&vgpu_lock);
	if (weight != back->weight || sessions != back->max_sessions || (u64)memory << 20 != back->memory) {
		back->weight = weight;
		back->memory = (u64)memory << 20;
		WRITE_ONCE(back->max_sessions, sessions);	/* read by the ring's thread without the lock */
		vgpu_broker_device_changed(back);
	}
	mutex_unlock(&vgpu_lock);
}

static int vgpu_back_probe(struct xenbus_device *dev, const struct xenbus_device_id *id)
{
	const char *number = strrchr(dev->nodename, '/');
	struct vgpu_back *back;
	int err;

	back = kzalloc(sizeof(*back), GFP_KERNEL);
	if (!back)
		return -ENOMEM;
	back->zone = vgpu_zone_get(dev->otherend_id);
	if (!back->zone) {
		kfree(back);
		return -ENOMEM;
	}
	kref_init(&back->ref);
	init_waitqueue_head(&back->ring_wq);
	INIT_LIST_HEAD(&back->sessions);
	INIT_LIST_HEAD(&back->add.node);
	INIT_LIST_HEAD(&back->remove.node);
	back->xendev = dev;
	back->max_arena = vgpu_max_arena();
	err = number ? kstrtou32(number + 1, 10, &back->device) : -EINVAL;
	if (err) {
		xenbus_dev_fatal(dev, err, "the device's number is missing from its path");
		goto err_put;
	}
	read_config(back);
	dev_set_drvdata(&dev->dev, back);

	err = xenbus_printf(XBT_NIL, dev->nodename, "versions", "%u", VGPUIF_VERSION);
	if (!err)
		err = xenbus_printf(XBT_NIL, dev->nodename, "max-arena", "%llu", back->max_arena);
	if (err) {
		xenbus_dev_fatal(dev, err, "writing versions and max-arena");
		goto err_put;
	}

	mutex_lock(&vgpu_lock);
	list_add_tail(&back->node, &vgpu_devices);
	vgpu_broker_device_add(back);
	mutex_unlock(&vgpu_lock);
	vgpu_count(devices, 1);

	err = xenbus_watch_pathfmt(dev, &back->config, NULL, config_changed, "%s", dev->nodename);
	if (err)
		goto err_list;
	err = xenbus_switch_state(dev, XenbusStateInitWait);
	if (err)
		goto err_watch;
	return 0;

err_watch:
	unregister_xenbus_watch(&back->config);
	kfree(back->config.node);
err_list:
	mutex_lock(&vgpu_lock);
	list_del(&back->node);
	vgpu_broker_device_remove(back);
	mutex_unlock(&vgpu_lock);
	vgpu_count(devices, -1);
err_put:
	dev_set_drvdata(&dev->dev, NULL);
	vgpu_back_put(back);
	return err;
}

static void back_remove(struct xenbus_device *dev)
{
	struct vgpu_back *back = dev_get_drvdata(&dev->dev);

	unregister_xenbus_watch(&back->config);
	kfree(back->config.node);
	disconnect(back, "the GPU device was removed from the pod, or the driver domain's vgpu-back unloaded");

	mutex_lock(&vgpu_lock);
	list_del(&back->node);
	vgpu_broker_device_remove(back);
	mutex_unlock(&vgpu_lock);
	vgpu_count(devices, -1);

	/*
	 * allow_rebind leaves the state alone, for backends whose rings survive. Ours don't: the frontend must
	 * know, so that it takes its clients' pages away and starts again when a backend returns.
	 */
	xenbus_switch_state(dev, XenbusStateClosed);
	dev_set_drvdata(&dev->dev, NULL);
	vgpu_back_put(back);
}

#ifdef VGPU_XENBUS_REMOVE_RETURNS_INT
static int vgpu_back_remove(struct xenbus_device *dev)
{
	back_remove(dev);
	return 0;
}
#else
#define vgpu_back_remove back_remove
#endif

static const struct xenbus_device_id vgpu_back_ids[] = {
	{ "vgpu" },
	{ "" }
};

static struct xenbus_driver vgpu_back_driver = {
	.ids = vgpu_back_ids,
	.allow_rebind = true,
	.probe = vgpu_back_probe,
	.remove = vgpu_back_remove,
	.otherend_changed = frontend_changed,
};

int vgpu_xenbus_register(void)
{
	return xenbus_register_backend(&vgpu_back_driver);
}

void vgpu_xenbus_unregister(void)
{
	xenbus_unregister_driver(&vgpu_back_driver);
}
