// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vgpu-back: tells one broker of devices and sessions, and gives it sessions as files.
 *
 * The queue of events can't be grown by a zone: events are embedded in what they are about, and a session that is
 * closed before the broker has read of its opening is never mentioned.
 */

#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "back.h"

/* All under vgpu_lock. */
static LIST_HEAD(queue);
static bool broker_open;

static DECLARE_WAIT_QUEUE_HEAD(queue_wq);

static void queue_event(struct vgpu_event *e, u32 type, struct vgpu_back *back, struct vgpu_session *s)
{
	if (!broker_open || !list_empty(&e->node))
		return;

	memset(&e->rec, 0, sizeof(e->rec));
	e->rec.type = type;
	e->rec.zone = back->zone->domid;
	e->rec.device = back->device;
	e->rec.session = s ? s->number : 0;
	e->rec.weight = back->weight;
	e->rec.memory = back->memory;
	e->rec.sessions = back->max_sessions;
	memcpy(e->rec.gpu, back->gpu, sizeof(e->rec.gpu));

	kref_get(&back->ref);
	e->back = back;
	e->session = s;
	if (s)
		kref_get(&s->ref);
	list_add_tail(&e->node, &queue);
	vgpu_count(events_queued, 1);
	wake_up_all(&queue_wq);
}

/* Take @e off the queue; it and what it is about may be gone afterwards. */
static void drop_event(struct vgpu_event *e)
{
	struct vgpu_back *back = e->back;
	struct vgpu_session *s = e->session;

	list_del_init(&e->node);
	vgpu_count(events_queued, -1);
	if (s)
		vgpu_session_put(s);
	vgpu_back_put(back);
}

void vgpu_broker_device_add(struct vgpu_back *back)
{
	queue_event(&back->add, VGPU_BACK_DEVICE_ADD, back, NULL);
}

/* Told as the device was told at first. What is still in the queue is brought up to date there. */
void vgpu_broker_device_changed(struct vgpu_back *back)
{
	struct vgpu_back_event *rec = &back->add.rec;

	if (list_empty(&back->add.node)) {
		queue_event(&back->add, VGPU_BACK_DEVICE_ADD, back, NULL);
		return;
	}
	rec->weight = back->weight;
	rec->memory = back->memory;
	rec->sessions = back->max_sessions;
}

void vgpu_broker_device_remove(struct vgpu_back *back)
{
	if (!list_empty(&back->add.node))
		drop_event(&back->add);
	if (back->told)
		queue_event(&back->remove, VGPU_BACK_DEVICE_REMOVE, back, NULL);
}

void vgpu_broker_session_open(struct vgpu_session *s)
{
	queue_event(&s->open, VGPU_BACK_SESSION_OPEN, s->back, s);
}

void vgpu_broker_session_close(struct vgpu_session *s)
{
	if (!list_empty(&s->open.node))
		drop_event(&s->open);
	else if (s->told)
		queue_event(&s->close, VGPU_BACK_SESSION_CLOSE, s->back, s);
}

static int vgpu_back_open(struct inode *inode, struct file *filp)
{
	struct vgpu_session *s;
	struct vgpu_back *back;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;

	mutex_lock(&vgpu_lock);
	if (broker_open) {
		mutex_unlock(&vgpu_lock);
		return -EBUSY;
	}
	broker_open = true;
	list_for_each_entry(back, &vgpu_devices, node)
		vgpu_broker_device_add(back);
	list_for_each_entry(back, &vgpu_devices, node)
		list_for_each_entry(s, &back->sessions, node)
			if (!s->ended)
				vgpu_broker_session_open(s);
	mutex_unlock(&vgpu_lock);
	return nonseekable_open(inode, filp);
}

/* Sessions go on: their workers have files of their own. The next broker is told everything anew. */
static int vgpu_back_release(struct inode *inode, struct file *filp)
{
	struct vgpu_session *s;
	struct vgpu_back *back;

	mutex_lock(&vgpu_lock);
	broker_open = false;
	while (!list_empty(&queue))
		drop_event(list_first_entry(&queue, struct vgpu_event, node));
	list_for_each_entry(back, &vgpu_devices, node) {
		back->told = false;
		list_for_each_entry(s, &back->sessions, node)
			s->told = false;
	}
	mutex_unlock(&vgpu_lock);
	return 0;
}

/* The next event, off the queue. False if there is none. */
static bool next_event(struct vgpu_back_event *rec)
{
	struct vgpu_event *e;

	mutex_lock(&vgpu_lock);
	e = list_first_entry_or_null(&queue, struct vgpu_event, node);
	if (e) {
		*rec = e->rec;
		if (rec->type == VGPU_BACK_DEVICE_ADD)
			e->back->told = true;
		if (rec->type == VGPU_BACK_SESSION_OPEN) {
			e->session->told = true;
			rec->accepted = e->session->worker;
		}
		drop_event(e);
	}
	mutex_unlock(&vgpu_lock);
	return e;
}

static bool have_event(void)
{
	return !list_empty_careful(&queue);
}

static ssize_t vgpu_back_read(struct file *filp, char __user *buf, size_t count, loff_t *pos)
{
	struct vgpu_back_event rec;
	size_t done = 0;

	if (count < sizeof(rec))
		return -EINVAL;
	while (count - done >= sizeof(rec)) {
		if (!next_event(&rec)) {
			if (done)
				break;
			if (filp->f_flags & O_NONBLOCK)
				return -EAGAIN;
			if (wait_event_interruptible(queue_wq, have_event()))
				return -ERESTARTSYS;
			continue;
		}
		if (copy_to_user(buf + done, &rec, sizeof(rec)))
			return done ?: -EFAULT;
		done += sizeof(rec);
	}
	return done;
}

static __poll_t vgpu_back_poll(struct file *filp, poll_table *wait)
{
	poll_wait(filp, &queue_wq, wait);
	return have_event() ? EPOLLIN | EPOLLRDNORM : 0;
}

static long ioctl_accept(void __user *arg)
{
	struct vgpu_back_accept accept;

	if (copy_from_user(&accept, arg, sizeof(accept)))
		return -EFAULT;
	if (accept.reserved)
		return -EINVAL;
	return vgpu_session_file(accept.session);
}

static long ioctl_reject(void __user *arg)
{
	struct vgpu_back_end end;

	if (copy_from_user(&end, arg, sizeof(end)))
		return -EFAULT;
	if (end.reserved)
		return -EINVAL;
	end.reason[sizeof(end.reason) - 1] = '\0';
	return vgpu_session_reject(end.session, (char *)end.reason);
}

static long vgpu_back_ioctl(struct file *filp, unsigned int cmd, unsigned long argument)
{
	void __user *arg = (void __user *)argument;

	switch (cmd) {
	case VGPU_BACK_IOC_ACCEPT:
		return ioctl_accept(arg);
	case VGPU_BACK_IOC_REJECT:
		return ioctl_reject(arg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations vgpu_back_fops = {
	.owner = THIS_MODULE,
	.open = vgpu_back_open,
	.release = vgpu_back_release,
	.read = vgpu_back_read,
	.poll = vgpu_back_poll,
	.unlocked_ioctl = vgpu_back_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = no_llseek,
};

static struct miscdevice vgpu_back_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vgpu-back",
	.fops = &vgpu_back_fops,
	.mode = 0600,
};

int vgpu_broker_init(void)
{
	return misc_register(&vgpu_back_misc);
}

void vgpu_broker_exit(void)
{
	misc_deregister(&vgpu_back_misc);
}
