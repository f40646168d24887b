/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A module's counters, a set for each CPU, and how debugfs shows them. Either module's header declares its own struct
 * vgpu_counters, of nothing but longs.
 */
#ifndef VGPU_COUNTERS_H
#define VGPU_COUNTERS_H

#include <linux/cpumask.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>

#define vgpu_count(name, n) this_cpu_add(vgpu_counters.name, (n))

/**
 * struct vgpu_counter - where a counter is
 * @name:   as it is shown
 * @offset: in struct vgpu_counters
 */
struct vgpu_counter {
	const char *name;
	size_t offset;
};

#define VGPU_COUNTER(name) { #name, offsetof(struct vgpu_counters, name) }

/* A line for each of @nr counters: its name and its sum over all CPUs, of which the sets at @set are. */
static inline void vgpu_counters_show(struct seq_file *m, const struct vgpu_counter *counter, unsigned int nr,
				      void __percpu *set)
{
	unsigned int i;
	int cpu;

	for (i = 0; i < nr; i++) {
		long sum = 0;

		for_each_possible_cpu(cpu)
			sum += *(long *)(per_cpu_ptr(set, cpu) + counter[i].offset);
		seq_printf(m, "%s %ld\n", counter[i].name, sum);
	}
}

#endif /* VGPU_COUNTERS_H */
