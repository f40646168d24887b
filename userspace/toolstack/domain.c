// SPDX-License-Identifier: Apache-2.0
/* A domain's life: made, run, waited for, destroyed. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenstore.h>

#include "handles.h"
#include "light.h"

#define BACKEND_TIMEOUT_MS	10000	/* probing takes milliseconds; the rest is for a driver domain that loads the module */
#define MEMORY_TRIES		50	/* of 100 ms: pages of a domain that has just ended come back a little later */

static int not_made(struct light *l, struct vgpuxl_error *e, int rc, const char *name, const char *what)
{
	return light_error(l, e, rc, "nothing was made", "cannot make domain \"%s\": %s", name, what);
}

static int check_memory(struct light *l, libxl_domain_config *d, struct vgpuxl_error *e)
{
	uint64_t need = 0, have = 0;

	for (int i = 0; i < MEMORY_TRIES; i++) {
		if (libxl_domain_need_memory(l->ctx, d, INVALID_DOMID, &need) || libxl_get_free_memory(l->ctx, &have))
			return 0;	/* creation itself will tell */
		if (need <= have)
			return 0;
		poll(NULL, 0, 100);
	}
	return vgpuxl_error_set(e, ENOMEM, "cannot make domain \"%s\": it needs %llu MiB and Xen has %llu MiB free: end other "
				"domains, take some from dom0 (xl mem-set 0 ...), or give it less memory", d->c_info.name,
				(unsigned long long)need >> 10, (unsigned long long)have >> 10);
}

static bool local_backend(const struct vgpuxl_plan *plan)
{
	for (unsigned int i = 0; i < plan->n; i++)
		if (!strcmp(plan->entries[i].backend, "0"))
			return true;
	return false;
}

static int attach_all(struct xs_handle *xs, const struct vgpuxl_plan *plan, uint32_t domid, struct vgpuxl_error *e)
{
	struct vgpuxl_device *devices = calloc(plan->n ? plan->n : 1, sizeof(*devices));
	unsigned int n = 0;
	int ret = devices ? 0 : vgpuxl_error_set(e, ENOMEM, "cannot attach devices: out of memory");

	for (; !ret && n < plan->n; n++)
		ret = vgpuxl_attach(xs, domid, &plan->entries[n], &devices[n], e);
	for (unsigned int i = 0; !ret && i < n; i++)
		ret = vgpuxl_wait_backend(xs, &devices[i], BACKEND_TIMEOUT_MS, e);
	free(devices);
	return ret;
}

/* Driver domains by name: known before anything is made. */
static int check_backends(struct xs_handle *xs, const struct vgpuxl_plan *plan, struct vgpuxl_error *e)
{
	struct vgpuxl_error why;
	uint32_t backend;

	for (unsigned int i = 0; i < plan->n; i++)
		if (vgpuxl_domain_find(xs, plan->entries[i].backend, &backend, &why))
			return vgpuxl_error_set(e, why.err, "cannot make domain \"%s\": the driver domain of its vgpu %u: %s",
						plan->d.c_info.name, i, why.text);
	return local_backend(plan) ? vgpuxl_backend_present(e) : 0;
}

int vgpuxl_create_plan(struct vgpuxl_plan *plan, uint32_t *domid, struct vgpuxl_error *e)
{
	const char *name = plan->d.c_info.name;
	struct vgpuxl_error undo;
	struct xs_handle *xs;
	struct light l;
	uint32_t id = INVALID_DOMID;
	int rc, ret;

	*domid = INVALID_DOMID;
	ret = light_open(&l, e);
	if (ret)
		return ret;
	ret = vgpuxl_store_open(&xs, e);
	if (ret) {
		light_close(&l);
		return ret;
	}
	if (!libxl_name_to_domid(l.ctx, name, &id)) {
		ret = vgpuxl_error_set(e, EEXIST, "cannot make domain \"%s\": domain %u has that name: destroy it (vgpuctl destroy "
				       "%s), or choose another", name, id, name);
		goto out;
	}
	l.text[0] = '\0';
	ret = check_backends(xs, plan, e);
	if (!ret)
		ret = check_memory(&l, &plan->d, e);
	if (ret)
		goto out;
	l.text[0] = '\0';
	handles_begin();
	rc = libxl_domain_create_new(l.ctx, &plan->d, &id, NULL, NULL);
	handles_end();
	if (rc) {
		ret = not_made(&l, e, rc, name, "libxenlight refuses");
		goto out;
	}
	ret = attach_all(xs, plan, id, e);
	if (ret)
		vgpuxl_destroy(id, &undo);
	else
		*domid = id;
out:
	vgpuxl_store_close(xs);
	light_close(&l);
	return ret;
}

int vgpuxl_create(const struct vgpuxl_config *config, unsigned int flags, uint32_t *domid, struct vgpuxl_error *e)
{
	struct vgpuxl_plan *plan;
	struct vgpuxl_error undo;
	int ret;

	ret = vgpuxl_plan_config(config, &plan, e);
	if (ret)
		return ret;
	ret = vgpuxl_create_plan(plan, domid, e);
	vgpuxl_plan_free(plan);
	if (!ret && !(flags & VGPUXL_CREATE_PAUSED)) {
		ret = vgpuxl_unpause(*domid, e);
		if (ret)
			vgpuxl_destroy(*domid, &undo);
	}
	return ret;
}

/* One call of libxenlight for one domain. */
static int simple(uint32_t domid, int (*call)(libxl_ctx *, uint32_t, const libxl_asyncop_how *), const char *what,
		  struct vgpuxl_error *e)
{
	struct light l;
	int ret = light_open(&l, e), rc;

	if (ret)
		return ret;
	rc = call(l.ctx, domid, NULL);
	if (rc == ERROR_DOMAIN_NOTFOUND || (rc && libxl_domain_info(l.ctx, NULL, domid) == ERROR_DOMAIN_NOTFOUND))
		ret = vgpuxl_error_set(e, ENOENT, "cannot %s domain %u: there is no such domain: see 'xl list'", what, domid);
	else if (rc)
		ret = light_error(&l, e, rc, NULL, "cannot %s domain %u", what, domid);
	light_close(&l);
	return ret;
}

int vgpuxl_pause(uint32_t domid, struct vgpuxl_error *e)
{
	return simple(domid, libxl_domain_pause, "pause", e);
}

int vgpuxl_unpause(uint32_t domid, struct vgpuxl_error *e)
{
	return simple(domid, libxl_domain_unpause, "unpause", e);
}

int vgpuxl_shutdown(uint32_t domid, bool reboot, struct vgpuxl_error *e)
{
	return reboot ? simple(domid, libxl_domain_reboot, "reboot", e) : simple(domid, libxl_domain_shutdown, "shut down", e);
}

int vgpuxl_destroy(uint32_t domid, struct vgpuxl_error *e)
{
	struct vgpuxl_error other;
	struct xs_handle *xs;
	int ret;

	if (!domid)
		return vgpuxl_error_set(e, EINVAL, "domain 0 is the machine itself: it is not destroyed");
	handles_begin();
	ret = simple(domid, libxl_domain_destroy, "destroy", e);
	handles_end();
	/* What is left is cleared away also if somebody else was faster. */
	if ((!ret || ret == -ENOENT) && !vgpuxl_store_open(&xs, &other)) {
		vgpuxl_zone_cleanup(xs, domid, &other);
		vgpuxl_store_close(xs);
	}
	return ret;
}

/* --- waiting --------------------------------------------------------------------------------------------------- */

const char *vgpuxl_reason_name(enum vgpuxl_reason reason)
{
	static const char *const names[] = {
		[VGPUXL_POWEROFF] = "poweroff", [VGPUXL_REBOOT] = "reboot", [VGPUXL_SUSPEND] = "suspend",
		[VGPUXL_CRASH] = "crash", [VGPUXL_WATCHDOG] = "watchdog", [VGPUXL_SOFT_RESET] = "soft reset",
		[VGPUXL_DESTROYED] = "destroyed",
	};

	return reason < sizeof(names) / sizeof(*names) ? names[reason] : "unknown";
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

static enum vgpuxl_reason reason_of(libxl_shutdown_reason r)
{
	switch (r) {
	case LIBXL_SHUTDOWN_REASON_POWEROFF:
		return VGPUXL_POWEROFF;
	case LIBXL_SHUTDOWN_REASON_REBOOT:
		return VGPUXL_REBOOT;
	case LIBXL_SHUTDOWN_REASON_SUSPEND:
		return VGPUXL_SUSPEND;
	case LIBXL_SHUTDOWN_REASON_WATCHDOG:
		return VGPUXL_WATCHDOG;
	case LIBXL_SHUTDOWN_REASON_SOFT_RESET:
		return VGPUXL_SOFT_RESET;
	default:
		return VGPUXL_CRASH;
	}
}

/* @return 1 if it has ended, 0 if it has not, or an error */
static int ended(struct light *l, uint32_t domid, enum vgpuxl_reason *reason, struct vgpuxl_error *e)
{
	libxl_dominfo info;
	int ret = light_info(l, domid, &info, e);

	if (ret == -ENOENT) {
		*reason = VGPUXL_DESTROYED;
		ret = 1;
	} else if (!ret && info.dying) {
		*reason = VGPUXL_DESTROYED;
		ret = 1;
	} else if (!ret && info.shutdown) {
		*reason = reason_of(info.shutdown_reason);
		ret = 1;
	}
	libxl_dominfo_dispose(&info);
	return ret;
}

int vgpuxl_wait(uint32_t domid, int timeout_ms, int cancel, enum vgpuxl_reason *reason, struct vgpuxl_error *e)
{
	long long end = now_ms() + timeout_ms;
	struct xs_handle *xs;
	struct light l;
	int ret;

	ret = vgpuxl_store_open(&xs, e);
	if (ret)
		return ret;
	ret = light_open(&l, e);
	if (ret)
		goto out_xs;
	/* Fires whenever a domain ends in whatever way, and once at first. */
	if (!xs_watch(xs, "@releaseDomain", "ended")) {
		ret = vgpuxl_error_set(e, errno, "cannot wait for domain %u: watching for ending domains: %s", domid,
				       strerror(errno));
		goto out;
	}
	for (;;) {
		struct pollfd pfd[2] = { { .fd = xs_fileno(xs), .events = POLLIN }, { .fd = cancel, .events = POLLIN } };
		long long left = end - now_ms();
		char **event;

		while ((event = xs_check_watch(xs)))
			free(event);
		ret = ended(&l, domid, reason, e);
		if (ret)
			break;
		if (timeout_ms >= 0 && left <= 0) {
			ret = vgpuxl_error_set(e, ETIMEDOUT, "domain %u has not ended within %d ms", domid, timeout_ms);
			break;
		}
		/* A watch wakes us; the minute only guards against a lost one. */
		if (poll(pfd, cancel < 0 ? 1 : 2, timeout_ms >= 0 && left < 60000 ? (int)left : 60000) < 0 && errno != EINTR) {
			ret = vgpuxl_error_set(e, errno, "cannot wait for domain %u: %s", domid, strerror(errno));
			break;
		}
		if (pfd[0].revents & (POLLERR | POLLHUP | POLLNVAL)) {
			ret = vgpuxl_error_set(e, EPIPE, "cannot wait for domain %u: xenstored closed the connection", domid);
			break;
		}
		if (cancel >= 0 && pfd[1].revents) {
			ret = vgpuxl_error_set(e, ECANCELED, "waiting for domain %u was called off", domid);
			break;
		}
	}
	if (ret > 0)
		ret = 0;
out:
	light_close(&l);
out_xs:
	vgpuxl_store_close(xs);
	return ret;
}

/* --- listing --------------------------------------------------------------------------------------------------- */

static int count_device(struct xs_handle *xs, const struct vgpuxl_device *d, void *arg)
{
	struct {
		struct vgpuxl_domain *domains;
		unsigned int n;
	} *all = arg;

	for (unsigned int i = 0; i < all->n; i++)
		if (all->domains[i].domid == d->zone)
			all->domains[i].devices++;
	return 0;
}

int vgpuxl_list_domains(struct vgpuxl_domain **domains, unsigned int *n, struct vgpuxl_error *e)
{
	struct {
		struct vgpuxl_domain *domains;
		unsigned int n;
	} all = { 0 };
	struct xs_handle *xs;
	libxl_dominfo *info;
	struct light l;
	int found = 0, ret;

	ret = vgpuxl_store_open(&xs, e);
	if (ret)
		return ret;
	ret = light_open(&l, e);
	if (ret) {
		vgpuxl_store_close(xs);
		return ret;
	}
	info = libxl_list_domain(l.ctx, &found);
	all.domains = calloc(found > 0 ? found : 1, sizeof(*all.domains));
	if (!info || !all.domains)
		ret = light_error(&l, e, ERROR_FAIL, NULL, "cannot list the domains");
	for (int i = 0; !ret && i < found; i++) {
		struct vgpuxl_domain *d = &all.domains[all.n];

		if (!info[i].domid || info[i].dying)
			continue;
		*d = (struct vgpuxl_domain){
			.domid = info[i].domid,
			.memory_kib = info[i].current_memkb,
			.cpu_ns = info[i].cpu_time,
			.vcpus = info[i].vcpu_online,
			.running = info[i].running || info[i].blocked,
			.paused = info[i].paused,
			.ended = info[i].shutdown,
			.reason = reason_of(info[i].shutdown_reason),
		};
		vgpuxl_read(xs, XBT_NULL, d->name, sizeof(d->name), "/local/domain/%u/name", d->domid);
		all.n++;
	}
	if (info)
		libxl_dominfo_list_free(info, found);
	if (!ret)
		vgpuxl_for_each(xs, count_device, &all);
	light_close(&l);
	vgpuxl_store_close(xs);
	if (ret) {
		free(all.domains);
		return ret;
	}
	*domains = all.domains;
	*n = all.n;
	return 0;
}
