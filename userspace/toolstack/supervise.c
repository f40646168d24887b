// SPDX-License-Identifier: Apache-2.0
/*
 * What follows when a domain ends, as `xl create` stays behind to see to.
 *
 * A domain that restarts is a new one: its number differs, and xl knows nothing of its vgpu devices. So what they
 * were last is read before the old domain goes, and attached to the new one while that is still paused.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <sys/stat.h>
#include <time.h>
#include <xenstore.h>

#include "light.h"

#define DUMP_DIR	"/var/lib/xen/dump"
#define RESTART_MS	2000	/* a domain that dies as it starts must not take the machine's time */

struct supervisor {
	struct vgpuxl_plan *plan;
	vgpuxl_log_fn *log;
	void *arg;
};

static void say(const struct supervisor *s, int priority, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say(const struct supervisor *s, int priority, const char *fmt, ...)
{
	char text[1200];
	va_list args;

	if (!s->log)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	s->log(s->arg, priority, text);
}

static libxl_action_on_shutdown action_for(const libxl_domain_config *d, enum vgpuxl_reason reason)
{
	switch (reason) {
	case VGPUXL_POWEROFF:
		return d->on_poweroff;
	case VGPUXL_REBOOT:
		return d->on_reboot;
	case VGPUXL_WATCHDOG:
		return d->on_watchdog;
	case VGPUXL_SUSPEND:
		return LIBXL_ACTION_ON_SHUTDOWN_PRESERVE;	/* whoever saved it decides */
	default:
		return d->on_crash;
	}
}

static void dump_core(const struct supervisor *s, uint32_t domid)
{
	char path[256], stamp[32];
	time_t now = time(NULL);
	struct vgpuxl_error e;
	struct light l;
	struct tm tm;
	int rc;

	mkdir(DUMP_DIR, 0700);
	strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", localtime_r(&now, &tm));
	snprintf(path, sizeof(path), DUMP_DIR "/%.100s-%s.core", vgpuxl_plan_name(s->plan), stamp);
	if (light_open(&l, &e)) {
		say(s, LOG_ERR, "no core of domain %u: %s", domid, e.text);
		return;
	}
	rc = libxl_domain_core_dump(l.ctx, domid, path, NULL);
	if (rc) {
		light_error(&l, &e, rc, "is there room?", "cannot write the core of domain %u to %s", domid, path);
		say(s, LOG_ERR, "%s", e.text);
	} else {
		say(s, LOG_INFO, "the core of domain %u is in %s", domid, path);
	}
	light_close(&l);
}

/* The domain's disks, networks and the rest as they are now, and its vgpu devices. What cannot be read stays as planned. */
static void take_over(struct supervisor *s, uint32_t domid)
{
	struct vgpuxl_entry *entries;
	libxl_domain_config now;
	struct vgpuxl_error e;
	struct xs_handle *xs;
	unsigned int n;
	struct light l;

	if (!light_open(&l, &e)) {
		libxl_domain_config_init(&now);
		if (libxl_retrieve_domain_configuration(l.ctx, domid, &now, NULL)) {
			say(s, LOG_WARNING, "domain %u restarts with the configuration that it had at first: %s", domid, l.text);
			libxl_domain_config_dispose(&now);
		} else {
			libxl_domain_config_dispose(&s->plan->d);
			s->plan->d = now;
		}
		light_close(&l);
	}
	if (vgpuxl_store_open(&xs, &e))
		return;
	if (!vgpuxl_zone_entries(xs, domid, &entries, &n, &e)) {
		free(s->plan->entries);
		s->plan->entries = entries;
		s->plan->n = n;
	}
	vgpuxl_store_close(xs);
}

static int rename_away(struct supervisor *s, uint32_t domid, struct vgpuxl_error *e)
{
	char suffix[16];
	libxl_uuid uuid;
	struct light l;
	int ret = light_open(&l, e), rc;

	if (ret)
		return ret;
	libxl_uuid_generate(&uuid);
	snprintf(suffix, sizeof(suffix), "-%u", domid);
	rc = libxl_domain_preserve(l.ctx, domid, &s->plan->d.c_info, suffix, uuid);
	if (rc)
		ret = light_error(&l, e, rc, NULL, "cannot rename domain %u, which is to be kept", domid);
	else
		libxl_uuid_generate(&s->plan->d.c_info.uuid);
	light_close(&l);
	return ret;
}

static int restart(struct supervisor *s, uint32_t *domid, bool keep, struct vgpuxl_error *e)
{
	uint32_t old = *domid;
	int ret;

	take_over(s, old);
	ret = keep ? rename_away(s, old, e) : vgpuxl_destroy(old, e);
	if (ret && ret != -ENOENT)
		return ret;
	ret = vgpuxl_create_plan(s->plan, domid, e);
	if (!ret)
		ret = vgpuxl_unpause(*domid, e);
	if (!ret)
		say(s, LOG_INFO, "domain %u (%s) follows domain %u, with %u vgpu device%s", *domid, vgpuxl_plan_name(s->plan), old,
		    s->plan->n, s->plan->n == 1 ? "" : "s");
	return ret;
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

static int cleanup(uint32_t domid, struct vgpuxl_error *e)
{
	struct xs_handle *xs;
	int ret = vgpuxl_store_open(&xs, e);

	if (ret)
		return ret;
	ret = vgpuxl_zone_cleanup(xs, domid, e);
	vgpuxl_store_close(xs);
	return ret;
}

int vgpuxl_supervise(struct vgpuxl_plan *plan, uint32_t *domid, int cancel, vgpuxl_log_fn *log, void *arg,
		     struct vgpuxl_error *e)
{
	struct supervisor s = { plan, log, arg };

	for (;;) {
		libxl_action_on_shutdown action;
		long long since = now_ms();
		enum vgpuxl_reason reason;
		int ret;

		ret = vgpuxl_wait(*domid, -1, cancel, &reason, e);
		if (ret)
			return ret;
		if (reason == VGPUXL_DESTROYED) {
			say(&s, LOG_INFO, "domain %u was destroyed", *domid);
			return cleanup(*domid, e);
		}
		action = action_for(&plan->d, reason);
		say(&s, LOG_INFO, "domain %u ended: %s; action: %s", *domid, vgpuxl_reason_name(reason),
		    libxl_action_on_shutdown_to_string(action));
		switch (action) {
		case LIBXL_ACTION_ON_SHUTDOWN_PRESERVE:
			return 0;
		case LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_RESTART:
			dump_core(&s, *domid);
			/* fall through */
		case LIBXL_ACTION_ON_SHUTDOWN_RESTART:
		case LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME:
			if (now_ms() - since < RESTART_MS)
				poll(NULL, 0, RESTART_MS);
			ret = restart(&s, domid, action == LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME, e);
			if (ret)
				return ret;
			break;
		case LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_DESTROY:
			dump_core(&s, *domid);
			/* fall through */
		default:
			ret = vgpuxl_destroy(*domid, e);
			return ret == -ENOENT ? 0 : ret;
		}
	}
}
