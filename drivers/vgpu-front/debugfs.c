// SPDX-License-Identifier: GPL-2.0-only
/* /sys/kernel/debug/vgpu-front/counters: what is held now, so that tests can see it return to 0, and what has been. */

#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "front.h"

DEFINE_PER_CPU(struct vgpu_counters, vgpu_counters);

static struct dentry *dir;

static const struct vgpu_counter counters[] = {
	VGPU_COUNTER(sessions),
	VGPU_COUNTER(pages_mapped),
	VGPU_COUNTER(pages_leaked),
	VGPU_COUNTER(event_channels),
	VGPU_COUNTER(connected),
	VGPU_COUNTER(sessions_opened),
	VGPU_COUNTER(sessions_lost),
	VGPU_COUNTER(requests),
	VGPU_COUNTER(responses),
	VGPU_COUNTER(notifications_sent),
	VGPU_COUNTER(notifications_received),
	VGPU_COUNTER(spurious_events),
	VGPU_COUNTER(protocol_errors),
};

static_assert(ARRAY_SIZE(counters) * sizeof(long) == sizeof(struct vgpu_counters));

static int counters_show(struct seq_file *m, void *unused)
{
	vgpu_counters_show(m, counters, ARRAY_SIZE(counters), &vgpu_counters);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

void vgpu_debugfs_init(void)
{
	dir = debugfs_create_dir("vgpu-front", NULL);
	debugfs_create_file("counters", 0400, dir, NULL, &counters_fops);
}

void vgpu_debugfs_exit(void)
{
	debugfs_remove(dir);
}
