/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * /dev/vgpu-back: the driver domain's side, served by vgpu-back, for one broker at a time.
 *
 *	fd = open("/dev/vgpu-back", O_RDWR | O_CLOEXEC);	EBUSY: another broker has it; needs CAP_SYS_ADMIN
 *	read(fd, &event, sizeof(event));			devices and sessions as they come and go
 *	accept.session = event.session;
 *	sfd = ioctl(fd, VGPU_BACK_IOC_ACCEPT, &accept);		the session as a file, to be given to a worker
 *
 * A broker that opens the file is first told of everything that is there: VGPU_BACK_DEVICE_ADD for each device,
 * then VGPU_BACK_SESSION_OPEN for each session; @accepted says that a worker of an earlier broker has it.
 *
 * The session file: mmap() as in linux/vgpu.h (same offsets), poll() likewise, and the ioctls VGPU_BACK_IOC_INFO,
 * _KICK, _WAIT, _END. Its last close ends the session: the client gets an error at its next call.
 */
#ifndef _UAPI_LINUX_VGPU_BACK_H
#define _UAPI_LINUX_VGPU_BACK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VGPU_BACK_API_VERSION	1

/* struct vgpu_back_event.type */
#define VGPU_BACK_DEVICE_ADD	1	/* @zone, @device, and the configuration; again when that has changed */
#define VGPU_BACK_DEVICE_REMOVE	2	/* @zone, @device; its sessions have been reported closed before */
#define VGPU_BACK_SESSION_OPEN	3	/* @zone, @device, @session: accept or reject it within 10 seconds */
#define VGPU_BACK_SESSION_CLOSE	4	/* @session: the client closed, died, or lost its domain */

#define VGPU_BACK_GPU_MAX	128

/**
 * struct vgpu_back_event - one record of read(); records are never split.
 * @type:	VGPU_BACK_*
 * @zone:	domain id of the pod, from xenbus
 * @device:	xenbus device number within the zone
 * @session:	session number, unique until the module is unloaded; 0 for device events
 * @accepted:	VGPU_BACK_SESSION_OPEN: 1 if the session was accepted before and its file is still open
 * @weight:	share of the GPU among zones (configuration key `weight`, default 1)
 * @memory:	device memory quota in bytes (key `memory`, given there in MiB; 0: no quota)
 * @sessions:	most sessions at a time (key `sessions`)
 * @gpu:	key `gpu`: indices or UUIDs joined by '+', NUL-terminated
 */
struct vgpu_back_event {
	__u32 type;
	__u32 zone;
	__u32 device;
	__u32 session;
	__u32 accepted;
	__u32 weight;
	__u64 memory;
	__u32 sessions;
	__u32 reserved;
	__u8 gpu[VGPU_BACK_GPU_MAX];
};

/**
 * struct vgpu_back_accept - VGPU_BACK_IOC_ACCEPT; the ioctl returns the new file descriptor (O_CLOEXEC).
 * @session:  the session
 * @reserved: 0
 *
 * Errors: EINVAL a field is not 0 that must be; ENOENT there is no such session, EBUSY a worker has it, EPIPE it has
 * ended; EMFILE, ENFILE, ENOMEM no file can be made: the session may be accepted later.
 */
struct vgpu_back_accept {
	__u32 session;
	__u32 reserved;
};

/**
 * struct vgpu_back_end - VGPU_BACK_IOC_END on a session file, VGPU_BACK_IOC_REJECT on /dev/vgpu-back.
 * @session:  REJECT: the session; END: 0
 * @reserved: 0
 * @reason:   told to the client, NUL-terminated (idm.h, IDM_REASON_MAX)
 *
 * Errors: EINVAL a field is not 0 that must be; REJECT: ENOENT there is no such session, EBUSY a worker has it.
 */
struct vgpu_back_end {
	__u32 session;
	__u32 reserved;
	__u8 reason[256];
};

/**
 * struct vgpu_back_info - VGPU_BACK_IOC_INFO on a session file: the layout, as in struct vgpu_session_params.
 * @zone, @device, @session: whose it is
 * @own_zone:	the driver domain's id, the destination zone of the client's messages
 * @arena_size: bytes lent so far; grows
 */
struct vgpu_back_info {
	__u32 zone;
	__u32 device;
	__u32 session;
	__u32 own_zone;
	__u32 request_size;
	__u32 reply_size;
	__u64 request_offset;
	__u64 reply_offset;
	__u64 arena_offset;
	__u64 arena_size;
};

/** struct vgpu_back_wait - VGPU_BACK_IOC_WAIT: exactly struct vgpu_wait of linux/vgpu.h. */
struct vgpu_back_wait {
	__u32 seen;
	__u32 flags;
	__s64 timeout_ns;
};

#define VGPU_BACK_IOC_ACCEPT _IOW('W', 0x00, struct vgpu_back_accept)
#define VGPU_BACK_IOC_REJECT _IOW('W', 0x01, struct vgpu_back_end)
/* On a session file: */
#define VGPU_BACK_IOC_INFO   _IOR('W', 0x10, struct vgpu_back_info)
#define VGPU_BACK_IOC_KICK   _IO('W', 0x11)
#define VGPU_BACK_IOC_WAIT   _IOWR('W', 0x12, struct vgpu_back_wait)
#define VGPU_BACK_IOC_END    _IOW('W', 0x13, struct vgpu_back_end)

#endif /* _UAPI_LINUX_VGPU_BACK_H */
