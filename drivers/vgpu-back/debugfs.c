// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/vgpu-back/: counters (what is lent now and what has happened, so that tests can see it return
 * to 0) and sessions (one line each).
 */

#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "back.h"

DEFINE_PER_CPU(struct vgpu_counters, vgpu_counters);

static struct dentry *dir;

static const struct vgpu_counter counters[] = {
	VGPU_COUNTER(devices),
	VGPU_COUNTER(sessions),
	VGPU_COUNTER(sessions_accepted),
	VGPU_COUNTER(pages_lent),
	VGPU_COUNTER(pages_returning),
	VGPU_COUNTER(grants),
	VGPU_COUNTER(event_channels),
	VGPU_COUNTER(events_queued),
	VGPU_COUNTER(sessions_opened),
	VGPU_COUNTER(sessions_refused),
	VGPU_COUNTER(sessions_unanswered),
	VGPU_COUNTER(requests),
	VGPU_COUNTER(notifications_sent),
	VGPU_COUNTER(notifications_received),
	VGPU_COUNTER(spurious_events),
	VGPU_COUNTER(protocol_errors),
	VGPU_COUNTER(grants_abandoned),
};

static_assert(ARRAY_SIZE(counters) * sizeof(long) == sizeof(struct vgpu_counters));

static int counters_show(struct seq_file *m, void *unused)
{
	vgpu_counters_show(m, counters, ARRAY_SIZE(counters), &vgpu_counters);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static int sessions_show(struct seq_file *m, void *unused)
{
	struct vgpu_session *s;
	struct vgpu_back *back;

	seq_puts(m, "session zone device worker ended pages arena received sent\n");
	mutex_lock(&vgpu_lock);
	list_for_each_entry(back, &vgpu_devices, node)
		list_for_each_entry(s, &back->sessions, node)
			seq_printf(m, "%u %u %u %d %d %lu %llu %u %llu\n", s->number, back->zone->domid, back->device,
				   s->worker, s->ended, s->nr_pages, s->arena_size,
				   (u32)atomic_read(&s->channel.events), s->channel.sent);
	mutex_unlock(&vgpu_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(sessions);

void vgpu_debugfs_init(void)
{
	dir = debugfs_create_dir("vgpu-back", NULL);
	debugfs_create_file("counters", 0400, dir, NULL, &counters_fops);
	debugfs_create_file("sessions", 0400, dir, NULL, &sessions_fops);
}

void vgpu_debugfs_exit(void)
{
	debugfs_remove(dir);
}
