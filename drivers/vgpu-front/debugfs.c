// SPDX-License-Identifier: GPL-2.0-only
/* /sys/kernel/debug/vgpu-front/counters: what is held now, so that tests can see it return to 0, and what has been. */

#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "front.h"

DEFINE_PER_CPU(struct vgpu_counters, vgpu_counters);

static struct dentry *dir;

#define COUNTER(name) { #name, offsetof(struct vgpu_counters, name) }
static const struct {
	const char *name;
	size_t offset;
} counters[] = {
	COUNTER(sessions),
	COUNTER(pages_mapped),
	COUNTER(pages_leaked),
	COUNTER(event_channels),
	COUNTER(connected),
	COUNTER(sessions_opened),
	COUNTER(sessions_lost),
	COUNTER(requests),
	COUNTER(responses),
	COUNTER(notifications_sent),
	COUNTER(notifications_received),
	COUNTER(spurious_events),
	COUNTER(protocol_errors),
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

void vgpu_debugfs_init(void)
{
	dir = debugfs_create_dir("vgpu-front", NULL);
	debugfs_create_file("counters", 0400, dir, NULL, &counters_fops);
}

void vgpu_debugfs_exit(void)
{
	debugfs_remove(dir);
}
