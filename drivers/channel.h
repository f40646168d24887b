/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A session's event channel as its user, client or worker, has it: notifications that are counted, waited for and
 * acknowledged late. The same for both modules, whose header has declared struct vgpu_counters before.
 */
#ifndef VGPU_CHANNEL_H
#define VGPU_CHANNEL_H

#include <linux/interrupt.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <xen/events.h>

#include <uapi/idm.h>
#include "counters.h"

/**
 * struct vgpu_channel
 * @lock:     @irq against those who use it, @over, @state; not taken in interrupts
 * @irq:      0 once closed
 * @over:     the session is, for this user
 * @state:    page 0's, which may say so too; NULL where the other side is not believed
 * @unacked:  a notification has come and was not acknowledged (late EOI)
 * @events:   notifications so far
 * @reported: value of @events told by the last vgpu_channel_wait()
 * @sent:     notifications sent
 * @wq:	      waits for @events and @over
 */
struct vgpu_channel {
	spinlock_t lock;	/* irq, over, state */
	unsigned int irq;
	bool over;
	const u32 *state;
	bool unacked;
	atomic_t events;
	u32 reported;
	u64 sent;
	wait_queue_head_t wq;
};

static inline void vgpu_channel_init(struct vgpu_channel *c)
{
	spin_lock_init(&c->lock);
	init_waitqueue_head(&c->wq);
}

/* Nothing is acknowledged here: that is done when the user has acted upon it (vgpu_channel_ack()). */
static inline irqreturn_t vgpu_channel_interrupt(int irq, void *dev_id)
{
	struct vgpu_channel *c = dev_id;

	vgpu_count(notifications_received, 1);
	WRITE_ONCE(c->unacked, true);
	smp_mb__before_atomic();	/* whoever sees the count sees that it wants acknowledging */
	atomic_inc(&c->events);
	wake_up_all(&c->wq);
	return IRQ_HANDLED;
}

/* @irq is vgpu_channel_interrupt()'s, with @c. */
static inline void vgpu_channel_opened(struct vgpu_channel *c, unsigned int irq)
{
	spin_lock(&c->lock);
	c->irq = irq;
	spin_unlock(&c->lock);
	vgpu_count(event_channels, 1);
}

/* May be called any number of times. The handler has returned for the last time when this returns. */
static inline void vgpu_channel_close(struct vgpu_channel *c)
{
	unsigned int irq;

	spin_lock(&c->lock);
	irq = c->irq;
	c->irq = 0;
	spin_unlock(&c->lock);
	if (irq) {
		unbind_from_irqhandler(irq, c);
		vgpu_count(event_channels, -1);
	}
}

/**
 * vgpu_channel_ack() - acknowledge notifications that the user has acted upon
 * @c:	  channel
 * @seen: the count that it has acted upon
 *
 * Until then the other side's further notifications stay pending in Xen: it can't make this domain busy with them.
 */
static inline void vgpu_channel_ack(struct vgpu_channel *c, u32 seen)
{
	if (!READ_ONCE(c->unacked) || (u32)atomic_read(&c->events) != seen)
		return;
	spin_lock(&c->lock);
	if (c->irq && xchg(&c->unacked, false))
		xen_irq_lateeoi(c->irq, 0);
	spin_unlock(&c->lock);
}

static inline bool vgpu_channel_over_locked(struct vgpu_channel *c)
{
	return c->over || (c->state && READ_ONCE(*c->state) == IDM_STATE_ENDED);
}

static inline bool vgpu_channel_over(struct vgpu_channel *c)
{
	bool over;

	spin_lock(&c->lock);
	over = vgpu_channel_over_locked(c);
	spin_unlock(&c->lock);
	return over;
}

/* Watch @state, or nothing any more: when this returns nobody looks at the one before. */
static inline void vgpu_channel_watch(struct vgpu_channel *c, const u32 *state)
{
	spin_lock(&c->lock);
	c->state = state;
	spin_unlock(&c->lock);
}

static inline void vgpu_channel_notify_locked(struct vgpu_channel *c)
{
	notify_remote_via_irq(c->irq);
	c->sent++;
	vgpu_count(notifications_sent, 1);
}

static inline int vgpu_channel_kick(struct vgpu_channel *c)
{
	int err = -EPIPE;

	spin_lock(&c->lock);
	if (c->irq && !vgpu_channel_over_locked(c)) {
		vgpu_channel_notify_locked(c);
		err = 0;
	}
	spin_unlock(&c->lock);
	return err;
}

/* The session is over: the user is woken and told, and if @tell is true the other side as well. */
static inline void vgpu_channel_end(struct vgpu_channel *c, bool tell)
{
	spin_lock(&c->lock);
	c->over = true;
	if (tell && c->irq)
		vgpu_channel_notify_locked(c);
	spin_unlock(&c->lock);
	wake_up_all(&c->wq);
}

static inline bool vgpu_channel_wait_done(struct vgpu_channel *c, u32 seen)
{
	return (u32)atomic_read(&c->events) != seen || vgpu_channel_over(c);
}

/**
 * vgpu_channel_wait() - struct vgpu_wait of uapi/linux/vgpu.h, or its equal in vgpu_back.h
 * @c:	     channel
 * @seen:    in: the count that the user has acted upon; out: the current one, also on failure
 * @flags:   0
 * @timeout: nanoseconds, negative: no limit
 *
 * Return: 0, -EPIPE (over), -ETIMEDOUT, -EINTR or -EINVAL. A signal does not restart it: the time limit is relative.
 */
static inline int vgpu_channel_wait(struct vgpu_channel *c, u32 *seen, u32 flags, s64 timeout)
{
	u32 before = *seen;
	int err;

	if (flags)
		return -EINVAL;

	vgpu_channel_ack(c, before);
	if (timeout < 0)
		err = wait_event_interruptible(c->wq, vgpu_channel_wait_done(c, before));
	else
		err = wait_event_interruptible_hrtimeout(c->wq, vgpu_channel_wait_done(c, before),
							 ns_to_ktime(timeout));

	*seen = atomic_read(&c->events);
	WRITE_ONCE(c->reported, *seen);
	if (vgpu_channel_over(c))
		return -EPIPE;
	if (*seen != before)
		return 0;
	return err == -ETIME ? -ETIMEDOUT : -EINTR;
}

static inline __poll_t vgpu_channel_poll(struct vgpu_channel *c, struct file *filp, poll_table *wait)
{
	__poll_t mask = 0;
	u32 reported;

	poll_wait(filp, &c->wq, wait);

	/* Whoever polls has acted upon what the last wait told; without this nothing more would come. */
	reported = READ_ONCE(c->reported);
	vgpu_channel_ack(c, reported);
	if ((u32)atomic_read(&c->events) != reported)
		mask |= EPOLLIN | EPOLLRDNORM;
	if (vgpu_channel_over(c))
		mask |= EPOLLHUP;
	return mask;
}

#endif /* VGPU_CHANNEL_H */
