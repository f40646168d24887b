// SPDX-License-Identifier: GPL-2.0-only
/* A session as the worker's file: uapi/linux/vgpu_back.h, "On a session file". */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/uaccess.h>

#include "back.h"

static int file_release(struct inode *inode, struct file *filp)
{
	/* None, if it could not be accepted. */
	if (filp->private_data)
		vgpu_session_release(filp->private_data);
	return 0;
}

static long ioctl_info(struct vgpu_session *s, void __user *arg)
{
	struct vgpu_back_info info = {
		.zone = s->back->zone->domid,
		.device = s->back->device,
		.session = s->number,
		.own_zone = s->back->own_zone,
		.request_size = s->layout.request_size,
		.reply_size = s->layout.reply_size,
		.request_offset = s->layout.request_offset,
		.reply_offset = s->layout.reply_offset,
		.arena_offset = s->layout.arena_offset,
	};

	mutex_lock(&s->lent_lock);
	info.arena_size = s->arena_size;
	mutex_unlock(&s->lent_lock);
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long ioctl_wait(struct vgpu_session *s, void __user *arg)
{
	struct vgpu_back_wait wait;
	long err;

	if (copy_from_user(&wait, arg, sizeof(wait)))
		return -EFAULT;
	err = vgpu_channel_wait(&s->channel, &wait.seen, wait.flags, wait.timeout_ns);
	return copy_to_user(arg, &wait, sizeof(wait)) ? -EFAULT : err;
}

static long ioctl_end(struct vgpu_session *s, void __user *arg)
{
	struct vgpu_back_end end;

	if (copy_from_user(&end, arg, sizeof(end)))
		return -EFAULT;
	if (end.session || end.reserved)
		return -EINVAL;
	end.reason[sizeof(end.reason) - 1] = '\0';
	vgpu_session_end(s, end.reason[0] ? (char *)end.reason : "the worker ended the session");
	return 0;
}

static long file_ioctl(struct file *filp, unsigned int cmd, unsigned long argument)
{
	struct vgpu_session *s = filp->private_data;
	void __user *arg = (void __user *)argument;

	switch (cmd) {
	case VGPU_BACK_IOC_INFO:
		return ioctl_info(s, arg);
	case VGPU_BACK_IOC_KICK:
		return vgpu_channel_kick(&s->channel);
	case VGPU_BACK_IOC_WAIT:
		return ioctl_wait(s, arg);
	case VGPU_BACK_IOC_END:
		return ioctl_end(s, arg);
	default:
		return -ENOTTY;
	}
}

static __poll_t file_poll(struct file *filp, poll_table *wait)
{
	struct vgpu_session *s = filp->private_data;

	return vgpu_channel_poll(&s->channel, filp, wait);
}

/* The part of @lent, which starts at page @first of the file, that @vma covers. */
static int insert_lent(struct vm_area_struct *vma, struct vgpu_lent *lent, unsigned long first)
{
	unsigned long start = max(first, vma->vm_pgoff);
	unsigned long end = min(first + lent->nr, vma->vm_pgoff + vma_pages(vma));
	unsigned long n;

	if (start >= end)
		return 0;
	n = end - start;
	return vm_insert_pages(vma, vma->vm_start + ((start - vma->vm_pgoff) << PAGE_SHIFT),
			       lent->pages + (start - first), &n);
}

/* The pages are this domain's own: whatever becomes of the session, the worker may touch them until munmap(). */
static int file_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct vgpu_session *s = filp->private_data;
	unsigned long first = 0, end, total;
	struct vgpu_lent *lent;
	int err = 0;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;

	mutex_lock(&s->lent_lock);
	total = (s->layout.arena_offset + s->arena_size) >> PAGE_SHIFT;
	if (check_add_overflow(vma->vm_pgoff, vma_pages(vma), &end) || end > total) {
		err = -EINVAL;
		goto out;
	}
	vma->vm_flags |= VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP;
	vma->vm_flags &= ~VM_MAYEXEC;
	list_for_each_entry(lent, &s->lents, node) {
		err = insert_lent(vma, lent, first);
		if (err)
			break;
		first += lent->nr;
	}
out:
	mutex_unlock(&s->lent_lock);
	return err;
}

static const struct file_operations session_fops = {
	.owner = THIS_MODULE,
	.release = file_release,
	.unlocked_ioctl = file_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = file_mmap,
	.poll = file_poll,
	.llseek = noop_llseek,
};

/**
 * vgpu_session_file() - accept a session and make the worker's file
 * @number: session
 *
 * Without room for the file the session is as it was, and may be accepted later: all that can fail comes before.
 *
 * Return: a file descriptor or -errno.
 */
int vgpu_session_file(u32 number)
{
	int fd = get_unused_fd_flags(O_CLOEXEC);
	struct vgpu_session *s;
	struct file *filp;

	if (fd < 0)
		return fd;
	filp = anon_inode_getfile("[vgpu-session]", &session_fops, NULL, O_RDWR);
	if (IS_ERR(filp)) {
		put_unused_fd(fd);
		return PTR_ERR(filp);
	}
	s = vgpu_session_accept(number);
	if (IS_ERR(s)) {
		fput(filp);
		put_unused_fd(fd);
		return PTR_ERR(s);
	}
	filp->private_data = s;
	fd_install(fd, filp);
	return fd;
}
