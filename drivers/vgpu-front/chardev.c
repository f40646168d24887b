// SPDX-License-Identifier: GPL-2.0-only
/* /dev/vgpu: uapi/linux/vgpu.h as file operations. What they do is in session.c. */

#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "front.h"

static const struct address_space_operations no_aops;

static int vgpu_open(struct inode *inode, struct file *filp)
{
	struct vgpu_front *front = container_of(filp->private_data, struct vgpu_front, misc);
	struct vgpu_file *file;

	file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);
	if (!file)
		return -ENOMEM;
	kref_get(&front->ref);
	file->front = front;
	mutex_init(&file->lock);

	/* All opens share one inode, and one session's pages must be taken out without touching the others'. */
	address_space_init_once(&file->mapping);
	file->mapping.host = inode;
	file->mapping.a_ops = &no_aops;
	mapping_set_gfp_mask(&file->mapping, GFP_KERNEL);
	filp->f_mapping = &file->mapping;
	filp->private_data = file;
	return nonseekable_open(inode, filp);
}

static int vgpu_release(struct inode *inode, struct file *filp)
{
	struct vgpu_file *file = filp->private_data;

	if (file->session)
		vgpu_session_release(file->session);
	vgpu_front_put(file->front);
	kfree(file);
	return 0;
}

/*
 * Runs at each close of a descriptor. The client's table of files closing while its memory is another or none
 * means that it exits or executes another program: the session is over, whatever children still hold the file.
 */
static int vgpu_flush(struct file *filp, fl_owner_t owner)
{
	struct vgpu_file *file = filp->private_data;
	struct vgpu_session *s = READ_ONCE(file->session);

	if (s && owner == s->owner && current->mm != s->mm)
		vgpu_session_orphan(s);
	return 0;
}

static long ioctl_query(struct vgpu_front *front, void __user *arg)
{
	struct vgpu_info info = {
		.version = VGPU_API_VERSION,
		.device = front->device,
	};

	mutex_lock(&front->lock);
	info.zone = front->zone;
	info.backend_zone = front->backend_zone;
	info.connected = front->connected;
	info.max_arena = front->max_arena;
	mutex_unlock(&front->lock);
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long ioctl_session(struct vgpu_file *file, void __user *arg)
{
	struct vgpu_session_params params;
	struct vgpu_session *s;
	long err = 0;

	if (copy_from_user(&params, arg, sizeof(params)))
		return -EFAULT;
	if (mutex_lock_interruptible(&file->lock))
		return -ERESTARTSYS;
	if (file->session) {
		err = -EBUSY;
		goto out;
	}
	s = vgpu_session_open(file, &params);
	if (IS_ERR(s)) {
		err = PTR_ERR(s);
		goto out;
	}
	if (copy_to_user(arg, &params, sizeof(params))) {
		vgpu_session_release(s);
		err = -EFAULT;
		goto out;
	}
	smp_store_release(&file->session, s);	/* pairs with session_of() */
out:
	mutex_unlock(&file->lock);
	return err;
}

static struct vgpu_session *session_of(struct vgpu_file *file)
{
	struct vgpu_session *s = smp_load_acquire(&file->session);	/* pairs with ioctl_session() */

	if (!s)
		return ERR_PTR(-EINVAL);
	if (current->mm != s->mm)
		return ERR_PTR(-EPERM);	/* a child after fork(): the session is its parent's */
	return s;
}

static long ioctl_grow(struct vgpu_file *file, struct vgpu_session *s, void __user *arg)
{
	struct vgpu_grow grow;
	long err;

	if (copy_from_user(&grow, arg, sizeof(grow)))
		return -EFAULT;
	if (mutex_lock_interruptible(&file->lock))
		return -ERESTARTSYS;
	err = vgpu_session_grow(s, &grow.arena_size);
	mutex_unlock(&file->lock);
	if (!err && copy_to_user(arg, &grow, sizeof(grow)))
		err = -EFAULT;
	return err;
}

static long ioctl_wait(struct vgpu_session *s, void __user *arg)
{
	struct vgpu_wait wait;
	long err;

	if (copy_from_user(&wait, arg, sizeof(wait)))
		return -EFAULT;
	err = vgpu_channel_wait(&s->channel, &wait.seen, wait.flags, wait.timeout_ns);
	return copy_to_user(arg, &wait, sizeof(wait)) ? -EFAULT : err;
}

static long vgpu_ioctl(struct file *filp, unsigned int cmd, unsigned long argument)
{
	struct vgpu_file *file = filp->private_data;
	void __user *arg = (void __user *)argument;
	struct vgpu_session *s;

	switch (cmd) {
	case VGPU_IOC_QUERY:
		return ioctl_query(file->front, arg);
	case VGPU_IOC_SESSION:
		return ioctl_session(file, arg);
	}

	s = session_of(file);
	if (IS_ERR(s))
		return PTR_ERR(s);
	switch (cmd) {
	case VGPU_IOC_GROW:
		return ioctl_grow(file, s, arg);
	case VGPU_IOC_KICK:
		return vgpu_channel_kick(&s->channel);
	case VGPU_IOC_WAIT:
		return ioctl_wait(s, arg);
	default:
		return -ENOTTY;
	}
}

static int vgpu_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct vgpu_session *s = session_of(filp->private_data);

	return IS_ERR(s) ? PTR_ERR(s) : vgpu_session_mmap(s, vma);
}

static __poll_t vgpu_poll(struct file *filp, poll_table *wait)
{
	struct vgpu_session *s = session_of(filp->private_data);

	return IS_ERR(s) ? EPOLLERR : vgpu_channel_poll(&s->channel, filp, wait);
}

static const struct file_operations vgpu_fops = {
	.owner = THIS_MODULE,
	.open = vgpu_open,
	.release = vgpu_release,
	.flush = vgpu_flush,
	.unlocked_ioctl = vgpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vgpu_mmap,
	.poll = vgpu_poll,
	.llseek = no_llseek,
};

int vgpu_chardev_add(struct vgpu_front *front)
{
	if (front->device)
		snprintf(front->name, sizeof(front->name), "vgpu%u", front->device);
	else
		strscpy(front->name, "vgpu", sizeof(front->name));
	front->misc.minor = MISC_DYNAMIC_MINOR;
	front->misc.name = front->name;
	front->misc.fops = &vgpu_fops;
	front->misc.mode = 0666;
	return misc_register(&front->misc);
}

/* After this nobody opens it; files that are open keep the device's memory. */
void vgpu_chardev_remove(struct vgpu_front *front)
{
	misc_deregister(&front->misc);
}
