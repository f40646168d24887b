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

#define COUNTER(name) { #name, offsetof(struct vgpu_counters, name) }
static const struct {
	const char *name;
	size_t offset;
} counters[] = {
	COUNTER(devices),
	COUNTER(sessions),
	COUNTER(sessions_accepted),
	COUNTER(pages_lent),
	COUNTER(pages_returning),
	COUNTER(grants),
	COUNTER(event_channels),
	COUNTER(events_queued),
	COUNTER(sessions_opened),
	COUNTER(sessions_refused),
	COUNTER(sessions_unanswered),
	COUNTER(requests),
	COUNTER(notifications_sent),
	COUNTER(notifications_received),
	COUNTER(spurious_events),
	COUNTER(protocol_errors),
	COUNTER(grants_abandoned),
};

static_assert(ARRAY_SIZE(counters) * sizeof(long) == sizeof(struct vgpu_counters));

static int counters_show(struct seq_file *m, void *unused)
{
	unsigned int i;
	int cpu;

	for (i = 0; i < ARRAY_SIZE(counters); i++) {
		long sum = 0;

		for_each_possible_cpu(cpu)
			sum += *(long *)((char *)per_cpu_ptr(&vgpu_counters, cpu) + counters[i].offset);
		seq_printf(m, "%s %ld\n", counters[i].name, sum);
	}
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
				   s->worker, s->ended, s->nr_pages, s->arena_size, (u32)atomic_read(&s->events),
				   s->sent);
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
