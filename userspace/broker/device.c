// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker.h"

static void granted(struct quota_holder *h, uint64_t bytes)
{
	struct worker *w = container_of(h, struct worker, holder);
	struct worker_msg m = { .type = BROKER_LEASED, .a = bytes };

	/* First: what has been granted must be known to whoever comes after us. */
	adopt_write(w);
	worker_send(w, &m, NULL, 0);
}

static void reclaim(struct quota_holder *h)
{
	struct worker *w = container_of(h, struct worker, holder);
	struct worker_msg m = { .type = BROKER_RECLAIM };

	worker_send(w, &m, NULL, 0);
}

struct device *device_add(bool xen, uint32_t zone, uint32_t id)
{
	struct device *d = calloc(1, sizeof(*d)), **end;

	if (!d)
		return NULL;
	d->xen = xen;
	d->zone = zone;
	d->id = id;
	d->weight = 1;
	d->max_sessions = SESSIONS_DEFAULT;
	d->arena_max = LOCAL_ARENA_DEFAULT;
	d->listener.fd = -1;
	strcpy(d->gpu, "0");
	d->quota.limit = UINT64_MAX;
	d->quota.granted = granted;
	d->quota.reclaim = reclaim;
	for (end = &broker.devices; *end; end = &(*end)->next)
		;
	*end = d;
	return d;
}

struct device *device_find(bool xen, uint32_t zone, uint32_t id)
{
	struct device *d;

	for (d = broker.devices; d; d = d->next)
		if (d->xen == xen && d->zone == zone && d->id == id && !d->removed)
			return d;
	return NULL;
}

/* Removed at once if nothing uses it, else when its last session is over. */
void device_remove(struct device *d)
{
	struct device **p;

	d->removed = true;
	if (d->nsessions)
		return;
	for (p = &broker.devices; *p; p = &(*p)->next) {
		if (*p == d) {
			*p = d->next;
			break;
		}
	}
	unwatch(&d->listener);
	images_device_gone(d);
	later(d);
}

/* The worker's word about its own use counts only as far as it has a lease for it; and what it shares is its use, too. */
static uint64_t worker_used(const struct device *d, const struct worker *w)
{
	uint64_t used = __atomic_load_n(&w->stats->memory, __ATOMIC_RELAXED);

	return (d->memory && used > w->holder.leased ? w->holder.leased : used) + w->shared;
}

uint64_t device_used(const struct device *d)
{
	const struct worker *w;
	uint64_t sum = 0;

	for (w = broker.workers; w; w = w->next)
		if (w->session && w->session->device == d)
			sum += worker_used(d, w);
	return sum;
}

void device_describe(const struct device *d, const struct session *asking, uint64_t first, struct vgpu_zone_reply *z)
{
	const struct worker *w;

	*z = (struct vgpu_zone_reply){ .limit = d->memory, .used = device_used(d) };
	for (w = broker.workers; w; w = w->next) {
		if (!w->session || w->session->device != d || w->session == asking)
			continue;
		if (z->sessions++ < first || z->count == VGPU_ZONE_SESSIONS)
			continue;
		z->session[z->count++] = (struct vgpu_zone_session){
			.pid = __atomic_load_n(&w->stats->client_pid, __ATOMIC_RELAXED),
			.handles = __atomic_load_n(&w->stats->handles, __ATOMIC_RELAXED),
			.memory = worker_used(d, w),
		};
	}
}

void device_configure(struct device *d, uint64_t memory, uint32_t weight, uint32_t max_sessions)
{
	struct worker_msg m = { .type = BROKER_QUOTA, .a = memory };
	bool first = !d->memory && memory, changed = d->memory != memory;
	struct worker *w;

	d->memory = memory;
	d->weight = weight ? weight : 1;
	d->max_sessions = max_sessions ? max_sessions : SESSIONS_DEFAULT;
	share_apply(d);
	zone_configured(d);
	if (!changed)
		return;
	for (w = broker.workers; w; w = w->next) {
		if (!w->session || w->session->device != d || w->adopted)
			continue;
		w->may_hold += first;
		cgroup_worker_limit(w);
		worker_send(w, &m, NULL, 0);
	}
	quota_limit(&d->quota, memory ? memory : UINT64_MAX, log_now_ns());
}

void device_account(struct device *d, const struct worker *w, uint64_t gpu_ns)
{
	d->calls += w->stats->calls;
	d->launches += w->stats->launches;
	d->quota_refusals += w->stats->quota_refusals;
	d->refused_calls += w->stats->refused;
	d->gpu_ns += gpu_ns;
}

bool device_may_log(struct device *d, struct log_bucket *b)
{
	uint64_t suppressed;

	if (!log_allowed(b, log_now_ns(), &suppressed))
		return false;
	if (suppressed)
		device_log(d, LOG_WARNING, "%llu lines were not written (too many at a time)",
			   (unsigned long long)suppressed);
	return true;
}

void device_log(struct device *d, enum log_level level, const char *fmt, ...)
{
	char text[800];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (d->xen)
		log_line(level, "zone %u: device %u: %s", d->zone, d->id, text);
	else
		log_line(level, "zone %u: device %s: %s", d->zone, d->name, text);
}
