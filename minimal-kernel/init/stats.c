// SPDX-License-Identifier: Apache-2.0
/* STATS and EVENTS: what the kernel's files say, under the kernel's names. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "init.h"

#define A(name)	VGPU_AGENT_A_##name

static void put(const char *label, uint64_t value)
{
	size_t nest = wire_nest(&to_host, A(STAT));

	wire_string(&to_host, A(LABEL), label);
	wire_u64(&to_host, A(VALUE), value);
	wire_nest_end(&to_host, nest);
}

static FILE *open_in(const char *folder, const char *file)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, file);
	return fopen(path, "re");
}

/* A file of one number; "max" is not reported. */
static void single(const char *folder, const char *name)
{
	FILE *file = open_in(folder, name);
	unsigned long long value;

	if (file && fscanf(file, "%llu", &value) == 1)
		put(name, value);
	if (file)
		fclose(file);
}

/* A file of "key value" lines, as PREFIX.key; "key: value kB" as well. */
static void keyed(const char *folder, const char *name, const char *prefix)
{
	FILE *file = open_in(folder, name);
	char line[256], key[64], unit[8], label[128];
	unsigned long long value;

	while (file && fgets(line, sizeof(line), file)) {
		int got = sscanf(line, "%63[^: ]%*[: ]%llu %7s", key, &value, unit);

		if (got < 2)
			continue;
		snprintf(label, sizeof(label), "%s.%s", prefix, key);
		put(label, got == 3 && !strcmp(unit, "kB") ? value * 1024 : value);
	}
	if (file)
		fclose(file);
}

/* "8:0 rbytes=1 wbytes=2 …", summed over the devices. */
static void io(const char *folder)
{
	static const char *const keys[] = { "rbytes", "wbytes", "rios", "wios" };
	uint64_t sums[4] = { 0 };
	FILE *file = open_in(folder, "io.stat");
	char line[512], label[32];

	while (file && fgets(line, sizeof(line), file))
		for (int i = 0; i < 4; i++) {
			char *at = strstr(line, keys[i]);

			if (at && at[strlen(keys[i])] == '=')
				sums[i] += strtoull(at + strlen(keys[i]) + 1, NULL, 10);
		}
	if (!file)
		return;
	fclose(file);
	for (int i = 0; i < 4; i++) {
		snprintf(label, sizeof(label), "io.%s", keys[i]);
		put(label, sums[i]);
	}
}

static void of_cgroup(const char *path)
{
	static const char *const singles[] = { "memory.current", "memory.peak", "memory.max", "memory.swap.current",
					       "pids.current", "pids.max" };

	for (size_t i = 0; i < sizeof(singles) / sizeof(singles[0]); i++)
		single(path, singles[i]);
	keyed(path, "cpu.stat", "cpu");
	keyed(path, "memory.stat", "memory.stat");
	keyed(path, "memory.events", "memory.events");
	io(path);
}

/* Without a cgroup of its own: what /proc knows of this process alone. */
static void of_process(pid_t pid)
{
	unsigned long user, system, pages;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	file = open_in(path, "stat");
	if (file && fscanf(file, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
		put("cpu.usage_usec", (user + system) * (1000000 / sysconf(_SC_CLK_TCK)));
	if (file)
		fclose(file);
	file = open_in(path, "statm");
	if (file && fscanf(file, "%*u %lu", &pages) == 1)
		put("memory.current", pages * sysconf(_SC_PAGESIZE));
	if (file)
		fclose(file);
}

static void file_system(const char *path)
{
	struct statvfs st;

	if (statvfs(path, &st))
		return;
	put("fs.size_bytes", (uint64_t)st.f_blocks * st.f_frsize);
	put("fs.used_bytes", (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize);
	put("fs.inodes_used", st.f_files - st.f_ffree);
}

static void network(void)
{
	FILE *file = fopen("/proc/net/dev", "re");
	char line[512], name[32], label[64];
	unsigned long long rx, rx_packets, tx, tx_packets;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %31[^:]: %llu %llu %*u %*u %*u %*u %*u %*u %llu %llu", name, &rx, &rx_packets, &tx, &tx_packets) != 5)
			continue;
		snprintf(label, sizeof(label), "net.%s.rx_bytes", name);
		put(label, rx);
		snprintf(label, sizeof(label), "net.%s.tx_bytes", name);
		put(label, tx);
		snprintf(label, sizeof(label), "net.%s.rx_packets", name);
		put(label, rx_packets);
		snprintf(label, sizeof(label), "net.%s.tx_packets", name);
		put(label, tx_packets);
	}
	if (file)
		fclose(file);
}

static void of_pod(void)
{
	unsigned long running, total;
	FILE *file;

	keyed("/proc", "meminfo", "meminfo");
	if (cgroup_root[0])
		keyed(cgroup_root, "cpu.stat", "cpu");
	file = fopen("/proc/loadavg", "re");
	if (file && fscanf(file, "%*f %*f %*f %lu/%lu", &running, &total) == 2) {
		put("threads.running", running);
		put("threads.total", total);
	}
	if (file)
		fclose(file);
	put("uptime_ns", now_ns());
	file_system("/");
	network();
}

void stats_request(struct call *c, const struct process *p)
{
	size_t begun = call_reply_begin(c);
	char root[64];

	put("time_ns", wall_ns());
	if (!p) {
		of_pod();
	} else {
		if (p->own_cgroup)
			of_cgroup(p->cgroup);
		else if (p->state == VGPU_AGENT_RUNNING)
			of_process(p->pid);
		if (p->state == VGPU_AGENT_RUNNING) {
			snprintf(root, sizeof(root), "/proc/%d/root", p->pid);
			file_system(root);
		}
	}
	call_reply_end(c, begun);
}

/* ---- EVENTS */

static void events_cancel(struct call *c, bool lost)
{
	if (!lost)
		call_reply(c);
}

const struct call_ops events_ops = { .cancel = events_cancel };

static void tell(const struct process *p, bool ended)
{
	for (struct call *c = call_next(NULL); c; c = call_next(c)) {
		size_t begun;

		if (c->ops != &events_ops)
			continue;
		begun = wire_begin(&to_host, c->id, VGPU_AGENT_EVENT, 0);
		wire_string(&to_host, A(NAME), p->name);
		if (ended)
			process_put_exit(p);
		else
			wire_u32(&to_host, A(OOM), p->oom);
		call_event_end(begun);
	}
}

void events_exit(const struct process *p)
{
	tell(p, true);
}

void events_oom(const struct process *p)
{
	tell(p, false);
}
