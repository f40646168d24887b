/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where things lie in a session's memory. Frontend and backend compute it each for itself from the three sizes, and
 * never from shared memory. Free of kernel and Xen calls, so that it also compiles in userspace.
 */
#ifndef VGPU_LAYOUT_H
#define VGPU_LAYOUT_H

#include <linux/types.h>
#include <uapi/idm.h>
#include <uapi/xen/io/vgpuif.h>

/**
 * struct vgpu_layout - byte offsets in the session's memory, as in struct vgpu_session_params
 * @request_size:   bytes
 * @reply_size:	    bytes
 * @request_offset: page 0 lies before it
 * @reply_offset:   bytes
 * @arena_offset:   the end of the rings
 */
struct vgpu_layout {
	__u32 request_size;
	__u32 reply_size;
	__u64 request_offset;
	__u64 reply_offset;
	__u64 arena_offset;
};

static inline bool vgpu_ring_size_valid(__u32 size)
{
	return size >= IDM_RING_MIN && size <= IDM_RING_MAX && !(size & (size - 1));
}

/* The sizes are bounded before they are added, so no sum can overflow. */
static inline bool vgpu_layout_init(struct vgpu_layout *l, __u32 request_size, __u32 reply_size)
{
	if (!vgpu_ring_size_valid(request_size) || !vgpu_ring_size_valid(reply_size))
		return false;
	l->request_size = request_size;
	l->reply_size = reply_size;
	l->request_offset = IDM_PAGE_SIZE;
	l->reply_offset = l->request_offset + request_size;
	l->arena_offset = l->reply_offset + reply_size;
	return true;
}

static inline bool vgpu_arena_size_valid(__u64 size, __u64 max)
{
	return size <= max && !(size & (IDM_PAGE_SIZE - 1));
}

/* Directory pages that @nr references take. */
static inline __u32 vgpu_directory_pages(__u32 nr)
{
	return nr / VGPUIF_DIRECTORY_REFS + !!(nr % VGPUIF_DIRECTORY_REFS);
}

/* Is @d a valid directory page when @left references are still to come? */
static inline bool vgpu_directory_valid(const struct vgpuif_directory *d, __u32 left)
{
	return d->nr == (left < VGPUIF_DIRECTORY_REFS ? left : VGPUIF_DIRECTORY_REFS);
}

#endif /* VGPU_LAYOUT_H */
