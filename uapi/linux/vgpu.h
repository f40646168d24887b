/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * /dev/vgpu: a pod's side of the paravirtual GPU, served by vgpu-front.
 *
 * One open file is one session: one client process, one worker process in the driver domain.
 *
 *	fd = open("/dev/vgpu", O_RDWR | O_CLOEXEC);
 *	ioctl(fd, VGPU_IOC_QUERY, &info);		what this device is
 *	ioctl(fd, VGPU_IOC_SESSION, &session);		parameters in, offsets out
 *	mmap(NULL, session.arena_offset, ..., MAP_SHARED, fd, 0);			page 0 and the rings
 *	mmap(slot, session.arena_size, ..., MAP_SHARED, fd, session.arena_offset);	the arena
 *	...
 *	close(fd);					the worker is killed, everything is given back
 *
 * What the memory holds is said in idm.h. A mapping keeps the session's memory until munmap(), also past close().
 * The memory is the driver domain's. When that or the device goes away, vgpu-front puts ordinary pages in its place and
 * page 0 says IDM_STATE_ENDED with the reason: the client may be anywhere in its ring code, and no signal is raised.
 *
 * poll(): EPOLLIN when a notification has come since the last VGPU_IOC_WAIT, EPOLLHUP when the session is over.
 * A session does not survive fork(): the child may only close the file.
 */
#ifndef _UAPI_LINUX_VGPU_H
#define _UAPI_LINUX_VGPU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VGPU_API_VERSION	1

/**
 * struct vgpu_info - VGPU_IOC_QUERY
 * @version:	    out: VGPU_API_VERSION
 * @zone:	    out: this domain's id, the source zone of its messages
 * @backend_zone:   out: the driver domain's id
 * @device:	    out: xenbus device number
 * @connected:	    out: 1 if a backend is connected now
 * @max_arena:	    out: largest arena in bytes that a session may grow to
 */
struct vgpu_info {
	__u32 version;
	__u32 zone;
	__u32 backend_zone;
	__u32 device;
	__u32 connected;
	__u32 reserved;
	__u64 max_arena;
};

/**
 * struct vgpu_session_params - VGPU_IOC_SESSION
 * @request_size:   in: bytes, power of two, IDM_RING_MIN .. IDM_RING_MAX
 * @reply_size:	    in: likewise
 * @arena_size:	    in: bytes wanted at first (rounded up to pages); out: bytes lent
 * @timeout_ms:	    in: how long to wait for a backend that is not there (0: do not wait)
 * @session:	    out: the session's number, as logs and vgpuctl show it
 * @request_offset: out: file offset of the request ring (page 0 is at offset 0)
 * @reply_offset:   out: file offset of the reply ring
 * @arena_offset:   out: file offset of the arena, the end of the rings
 *
 * Success does not say that a broker has taken the session. One that is rejected, or that none takes within 10 seconds,
 * ends: page 0 has the reason, VGPU_IOC_WAIT and _KICK fail with EPIPE.
 *
 * Errors: ENODEV no backend within the time limit; ENOSPC the zone's session or memory quota is used up;
 * EINVAL a size out of range; EBUSY this file has a session already; ECONNRESET the backend went away meanwhile.
 */
struct vgpu_session_params {
	__u32 request_size;
	__u32 reply_size;
	__u64 arena_size;
	__u32 timeout_ms;
	__u32 session;
	__u64 request_offset;
	__u64 reply_offset;
	__u64 arena_offset;
};

/**
 * struct vgpu_grow - VGPU_IOC_GROW: ask for a longer arena.
 * @arena_size: in: total bytes wanted; out: total bytes lent, at least that
 *
 * The new part starts where the old one ended, in the file as well as in memory: map it there, then send
 * IDM_ARENA_GROWN. Errors: ENOSPC the quota is used up (the session goes on as it was), EPIPE the session is over.
 */
struct vgpu_grow {
	__u64 arena_size;
};

/**
 * struct vgpu_wait - VGPU_IOC_WAIT: sleep until notified.
 * @seen:	in: value of @events that the caller has acted upon (0 at first); out: the current one
 * @flags:	must be 0
 * @timeout_ns: in: longest sleep, negative for no limit
 *
 * Returns 0 at once if the count of notifications is not @seen. Errors: ETIMEDOUT, EINTR, EPIPE the session is over.
 */
struct vgpu_wait {
	__u32 seen;
	__u32 flags;
	__s64 timeout_ns;
};

#define VGPU_IOC_QUERY	 _IOR('V', 0x00, struct vgpu_info)
#define VGPU_IOC_SESSION _IOWR('V', 0x01, struct vgpu_session_params)
#define VGPU_IOC_GROW	 _IOWR('V', 0x02, struct vgpu_grow)
#define VGPU_IOC_KICK	 _IO('V', 0x03)	/* notify the worker; EPIPE the session is over */
#define VGPU_IOC_WAIT	 _IOWR('V', 0x04, struct vgpu_wait)

#endif /* _UAPI_LINUX_VGPU_H */
