// SPDX-License-Identifier: Apache-2.0
/*
 * What the broker knows, for people and for programs. Workers count in pages of their own, whatever is asked here; an
 * answer only reads them.
 */
#include <stdio.h>
#include <string.h>

#include "broker.h"

static const char *state_name(const struct session *s)
{
	switch (s->state) {
	case SESSION_WAITING:
		return "waiting";
	case SESSION_RUNNING:
		return "running";
	default:
		return "ending";
	}
}

static void age(char *out, size_t cap, uint64_t ns)
{
	uint64_t sec = ns / 1000000000ull;

	if (sec < 60)
		snprintf(out, cap, "%llus", (unsigned long long)sec);
	else if (sec < 3600)
		snprintf(out, cap, "%llum%02llus", (unsigned long long)sec / 60, (unsigned long long)sec % 60);
	else
		snprintf(out, cap, "%lluh%02llum", (unsigned long long)sec / 3600,
			 (unsigned long long)sec / 60 % 60);
}

static void memory(char *out, size_t cap, uint64_t used, uint64_t quota)
{
	char total[32];

	if (quota)
		snprintf(total, sizeof(total), "%llu", (unsigned long long)(quota >> 20));
	else
		snprintf(total, sizeof(total), "-");
	snprintf(out, cap, "%.1f/%s MiB", (double)used / (1 << 20), total);
}

static void snapshot(const struct session *s, struct worker_stats *st)
{
	struct worker_stats raw;

	memset(st, 0, sizeof(*st));
	if (!s->worker)
		return;
	memcpy(&raw, s->worker->stats, sizeof(raw));
	*st = raw;
	if (s->device->memory && st->memory > s->worker->holder.leased)
		st->memory = s->worker->holder.leased;
	st->memory += s->worker->shared;
	log_clean(st->program, sizeof(st->program), raw.program, sizeof(raw.program));
	if (!s->device->xen)
		st->client_pid = s->request.pid;	/* the kernel's word instead of the client's */
}

const char *report_device(const struct device *d, char *buf, size_t cap)
{
	if (!d->xen)
		return d->name;
	snprintf(buf, cap, "%u", d->id);
	return buf;
}

void report_list(FILE *f)
{
	uint64_t now = log_now_ns();
	struct worker_stats st;
	struct device *d;
	struct session *s;
	char a[32], m[64], n[16];

	fprintf(f, "%-7s %-12s %-10s %6s %18s %9s %8s\n", "ZONE", "DEVICE", "GPU", "WEIGHT", "MEMORY", "SESSIONS",
		"SERVED");
	for (d = broker.devices; d; d = d->next) {
		memory(m, sizeof(m), device_used(d), d->memory);
		fprintf(f, "%-7u %-12s %-10s %6u %18s %5u/%-3u %8llu\n", d->zone, report_device(d, n, sizeof(n)), d->gpu,
			d->weight, m, d->nsessions, d->max_sessions, (unsigned long long)d->served);
	}
	fprintf(f, "\n%-7s %-12s %-8s %-8s %-8s %-18s %10s %18s %8s %7s\n", "ZONE", "DEVICE", "SESSION", "STATE",
		"WORKER", "PROGRAM", "CALLS", "MEMORY", "HANDLES", "AGE");
	for (s = broker.sessions; s; s = s->next) {
		snapshot(s, &st);
		memory(m, sizeof(m), st.memory, s->device->memory);
		age(a, sizeof(a), now - s->start_ns);
		fprintf(f, "%-7u %-12s %-8u %-8s %-8d %-18.18s %10llu %18s %8llu %7s\n", s->device->zone,
			report_device(s->device, n, sizeof(n)), s->number, state_name(s),
			s->worker ? s->worker->pid : 0, st.program[0] ? st.program : "-",
			(unsigned long long)st.calls, m, (unsigned long long)st.handles, a);
	}
}

/* Names are cleaned to printable ASCII before they come here: only these two need escaping. */
void report_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		fputc(*s, f);
	}
	fputc('"', f);
}

/* null where it is not known: only the software GPU's time is its worker's processor time. */
static void gpu_time(FILE *f, uint64_t ns)
{
	if (broker.soft)
		fprintf(f, ", \"gpu_ns\": %llu", (unsigned long long)ns);
	else
		fprintf(f, ", \"gpu_ns\": null");
}

static void known(FILE *f, const char *key, uint64_t n)
{
	if (n == UINT64_MAX)
		fprintf(f, ", \"%s\": null", key);
	else
		fprintf(f, ", \"%s\": %llu", key, (unsigned long long)n);
}

/* Of all the zone's devices; null where it is not known, or there is no limit. */
static void zone_json(FILE *f, const struct device *d)
{
	struct zone_use use;

	zone_use(d, &use);
	known(f, "host_memory_used", use.memory);
	known(f, "host_memory_max", use.memory_max);
	known(f, "threads_used", use.threads);
	known(f, "threads_max", use.threads_max);
}

/* All its sessions, those that are over too. */
static void device_json(FILE *f, const struct device *d)
{
	uint64_t calls = d->calls, launches = d->launches, gpu = d->gpu_ns, quota = d->quota_refusals, bad = d->refused_calls;
	unsigned int waiting = 0;
	const struct session *s;
	struct worker_stats st;
	char n[16];

	for (s = broker.sessions; s; s = s->next) {
		if (s->device != d)
			continue;
		waiting += s->state == SESSION_WAITING;
		snapshot(s, &st);
		calls += st.calls;
		launches += st.launches;
		quota += st.quota_refusals;
		bad += st.refused;
		gpu += s->worker && broker.soft ? worker_cpu_ns(s->worker) : 0;
	}
	fprintf(f, "{\"zone\": %u, \"device\": ", d->zone);
	report_string(f, report_device(d, n, sizeof(n)));
	fprintf(f, ", \"transport\": \"%s\", \"gpu\": ", d->xen ? "xen" : "local");
	report_string(f, d->gpu);
	fprintf(f, ", \"weight\": %u, \"memory_used\": %llu, \"memory_quota\": %llu, \"sessions\": %u, \"sessions_max\": %u, "
		"\"waiting\": %u, \"served\": %llu, \"refused\": %llu, \"calls\": %llu, \"launches\": %llu, "
		"\"quota_refusals\": %llu, \"refused_calls\": %llu, \"violations\": %llu, \"images_bytes\": %llu, "
		"\"images_stored\": %llu, \"images_hits\": %llu", d->weight,
		(unsigned long long)device_used(d), (unsigned long long)d->memory, d->nsessions, d->max_sessions, waiting,
		(unsigned long long)d->served, (unsigned long long)d->refused, (unsigned long long)calls,
		(unsigned long long)launches, (unsigned long long)quota, (unsigned long long)bad,
		(unsigned long long)d->violations, (unsigned long long)d->images.bytes,
		(unsigned long long)d->images.stored, (unsigned long long)d->images.hits);
	zone_json(f, d);
	gpu_time(f, gpu);
	fprintf(f, "}");
}

static void session_json(FILE *f, const struct session *s, uint64_t now)
{
	struct worker_stats st;
	char n[16];

	snapshot(s, &st);
	fprintf(f, "{\"zone\": %u, \"device\": ", s->device->zone);
	report_string(f, report_device(s->device, n, sizeof(n)));
	fprintf(f, ", \"session\": %u, \"state\": \"%s\", \"worker\": %d, \"client\": %u, \"program\": ", s->number,
		state_name(s), s->worker ? s->worker->pid : 0, st.client_pid);
	report_string(f, st.program);
	fprintf(f, ", \"calls\": %llu, \"launches\": %llu, \"refused\": %llu, \"quota_refusals\": %llu, \"memory_used\": %llu, "
		"\"memory_peak\": %llu, \"handles\": %llu, \"age_ms\": %llu, \"adopted\": %s", (unsigned long long)st.calls,
		(unsigned long long)st.launches, (unsigned long long)st.refused, (unsigned long long)st.quota_refusals,
		(unsigned long long)st.memory, (unsigned long long)st.memory_peak, (unsigned long long)st.handles,
		(unsigned long long)(now - s->start_ns) / 1000000,
		s->foreign || (s->worker && s->worker->adopted) ? "true" : "false");
	gpu_time(f, s->worker ? worker_cpu_ns(s->worker) : 0);
	fprintf(f, "}");
}

void report_json(FILE *f)
{
	uint64_t now = log_now_ns();
	const char *sep = "";
	struct session *s;
	struct device *d;

	fprintf(f, "{\"devices\": [");
	for (d = broker.devices; d; d = d->next, sep = ", ") {
		fputs(sep, f);
		device_json(f, d);
	}
	fprintf(f, "], \"sessions\": [");
	for (s = broker.sessions, sep = ""; s; s = s->next, sep = ", ") {
		fputs(sep, f);
		session_json(f, s, now);
	}
	fprintf(f, "]}\n");
}

void report_stats(FILE *f)
{
	unsigned int idle = 0, starting = 0, busy = 0, devices = 0, sessions = 0;
	struct worker *w;
	struct device *d;
	struct session *s;

	for (w = broker.workers; w; w = w->next) {
		idle += w->state == WORKER_IDLE;
		starting += w->state == WORKER_STARTING;
		busy += w->state == WORKER_BUSY;
	}
	for (d = broker.devices; d; d = d->next)
		devices++;
	for (s = broker.sessions; s; s = s->next)
		sessions++;
	fprintf(f, "driver %s\nprofile %s\nuptime_ms %llu\ndevices %u\nsessions %u\nsessions_served %llu\n"
		"workers_idle %u\nworkers_starting %u\nworkers_busy %u\nworkers_spawned %llu\nstart_failures %u\n",
		broker.driver_path, broker.soft ? "soft" : "nvidia",
		(unsigned long long)(log_now_ns() - broker.start_ns) / 1000000, devices, sessions,
		(unsigned long long)broker.sessions_served, idle, starting, busy,
		(unsigned long long)broker.workers_spawned, broker.start_failures);
}

