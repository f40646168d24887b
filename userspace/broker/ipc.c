// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"
#include "ipc.h"
#include "softgpu_share.h"

/** struct ipc_holder - a worker that has an entry, @times; the exporter once. */
struct ipc_holder {
	struct worker *worker;
	unsigned int times;
};

/*
 * struct ipc_entry - @exporter: NULL once it has let go; then only who has it finds it (and physical memory, which lives
 * as long as anybody has it, everybody). @times: of all holders.
 */
struct ipc_entry {
	struct ipc_entry *next;
	struct device *device;
	uint64_t id, charge;
	struct worker_ipc what;
	int fd;
	struct worker *exporter;
	struct ipc_holder *holders;
	unsigned int nholders, cap, times;
	struct quota_holder quota;
};

static uint64_t next_id = 1;

static struct ipc_registry *registry(const struct worker *w)
{
	return &w->session->device->ipc;
}

static int holder_of(const struct ipc_entry *e, const struct worker *w)
{
	for (unsigned int i = 0; i < e->nholders; i++)
		if (e->holders[i].worker == w)
			return (int)i;
	return -1;
}

static bool add_holder(struct ipc_entry *e, struct worker *w)
{
	int index = holder_of(e, w);

	if (index >= 0) {
		e->holders[index].times++;
		e->times++;
		return true;
	}
	if (e->nholders == e->cap) {
		struct ipc_holder *more = realloc(e->holders, (e->cap + 4) * sizeof(e->holders[0]));

		if (!more)
			return false;
		e->holders = more;
		e->cap += 4;
	}
	e->holders[e->nholders++] = (struct ipc_holder){ w, 1 };
	e->times++;
	return true;
}

static void entry_free(struct ipc_entry *e)
{
	struct ipc_registry *r = &e->device->ipc;
	struct ipc_entry **p;

	for (p = &r->entries; *p != e; p = &(*p)->next)
		;
	*p = e->next;
	r->count--;
	quota_leave(&e->quota, log_now_ns());
	if (e->fd >= 0) {
		aside_close(e->fd);
		files_count(e->device, -1);
	}
	free(e->holders);
	free(e);
}

/* The software GPU's events know no death but by our word. */
static bool is_event(const struct ipc_entry *e)
{
	return broker.soft && e->what.kind == IPC_EVENT && e->fd >= 0;
}

static void tell_lost(const struct ipc_entry *e, pid_t dead)
{
	struct softgpu_shared_event *s;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, e->fd, 0);
	if (s == MAP_FAILED)
		return;
	if (__atomic_load_n(&s->recorder, __ATOMIC_RELAXED) == (uint32_t)dead)
		__atomic_store_n(&s->lost, (uint32_t)dead, __ATOMIC_RELAXED);
	munmap(s, sizeof(*s));
}

/* The holder at @index lets go of @e, @times. */
static void let_go(struct ipc_entry *e, unsigned int index, unsigned int times)
{
	struct worker *next;

	if (e->exporter == e->holders[index].worker)
		e->exporter = NULL;
	e->times -= times;
	e->holders[index].times -= times;
	if (e->holders[index].times)
		return;
	if (!index)
		e->holders[0].worker->shared -= e->charge;
	memmove(&e->holders[index], &e->holders[index + 1], (--e->nholders - index) * sizeof(e->holders[0]));
	next = e->nholders ? e->holders[0].worker : NULL;
	if (!next) {
		entry_free(e);
	} else if (!index) {
		next->shared += e->charge;	/* it answers for the charge from now on */
		adopt_write(next);
	}
}

static bool same_token(const uint8_t *a, const uint8_t *b)
{
	uint8_t differs = 0;

	/* In the same time wherever they differ. */
	for (unsigned int i = 0; i < IPC_TOKEN_BYTES; i++)
		differs |= a[i] ^ b[i];
	return !differs;
}

static void answer(struct worker *w, const struct ipc_entry *e, uint64_t flags, bool with_handle)
{
	struct worker_msg m = { .type = BROKER_IPC };

	if (e) {
		m.a = e->id;
		m.b = flags;
		m.u.ipc = e->what;
		if (!with_handle)
			memset(m.u.ipc.handle, 0, sizeof(m.u.ipc.handle));
	}
	worker_send(w, &m, e ? &e->fd : NULL, e && with_handle && e->fd >= 0);
}

/*
 * What other workers are to get: a file or a device node. One of the software GPU cannot shrink under them, and is charged for
 * as much as it holds: it stays when the worker, whose cgroup has its pages, is gone.
 */
static bool fit_to_pass(int fd, uint64_t size, uint64_t charge)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st))
		return false;
	if (!broker.soft)
		return S_ISCHR(st.st_mode) || S_ISREG(st.st_mode);
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && seals & F_SEAL_SHRINK && seals & F_SEAL_GROW && (uint64_t)st.st_size >= size &&
	       ((uint64_t)st.st_size <= IPC_FILE_FREE || (uint64_t)st.st_size - IPC_FILE_FREE <= charge) &&
	       (uint64_t)st.st_size >= sizeof(struct softgpu_shared_event);
}

static unsigned int exported_by(const struct worker *w)
{
	unsigned int n = 0;

	for (const struct ipc_entry *e = registry(w)->entries; e; e = e->next)
		n += e->exporter == w;
	return n;
}

int ipc_export(struct worker *w, const struct worker_msg *m, int fd)
{
	struct ipc_registry *r = registry(w);
	struct device *d = w->session->device;
	uint64_t charge = m->a, leased = m->b;
	struct ipc_entry *e;

	if (!m->u.ipc.kind || m->u.ipc.kind >= IPC_KINDS || leased > charge || leased > w->holder.leased)
		return -EINVAL;
	/* With a quota all of it is leased, but while one is under way to a worker that had none. */
	if (d->memory && leased != charge && !w->may_hold)
		return -EINVAL;
	e = NULL;
	if (r->count < IPC_DEVICE_MAX && exported_by(w) < IPC_SESSION_MAX &&
	    (fd < 0 ? !broker.soft : fit_to_pass(fd, m->u.ipc.size, charge)))
		e = calloc(1, sizeof(*e));
	if (!e || getrandom(e->what.token, sizeof(e->what.token), 0) != sizeof(e->what.token) || !add_holder(e, w))
		goto refuse;
	e->fd = -1;
	if (fd >= 0) {
		e->fd = images_give_way(d) ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
		if (e->fd < 0)
			goto refuse;
		files_count(d, 1);
	}
	e->device = d;
	e->id = next_id++;
	e->charge = charge;
	e->exporter = w;
	e->what.kind = m->u.ipc.kind;
	e->what.device = m->u.ipc.device;
	e->what.size = m->u.ipc.size;
	memcpy(e->what.handle, m->u.ipc.handle, sizeof(e->what.handle));
	quota_join(&d->quota, &e->quota);
	e->quota.frozen = true;
	quota_move(&w->holder, &e->quota, leased);
	quota_adopt(&e->quota, charge - leased);
	e->next = r->entries;
	r->entries = e;
	r->count++;
	w->shared += charge;
	adopt_write(w);
	answer(w, e, 0, false);
	return 0;
refuse:
	if (e)
		free(e->holders);
	free(e);
	answer(w, NULL, 0, false);
	return 0;
}

int ipc_import(struct worker *w, const struct worker_msg *m)
{
	struct ipc_entry *e, *found = NULL;
	uint64_t flags = 0;

	/* All of them are looked at, whichever it is. */
	for (e = registry(w)->entries; e; e = e->next)
		if (same_token(e->what.token, m->u.ipc.token) && e->what.kind == m->u.ipc.kind)
			found = e;
	if (found && found->exporter == w) {
		flags = IPC_OWN;
	} else if (found) {
		bool known = found->exporter || found->what.kind == IPC_PHYSICAL || holder_of(found, w) >= 0;

		if (!known || found->times >= IPC_HOLDERS_MAX || !add_holder(found, w))
			found = NULL;
	}
	answer(w, found, flags, true);
	return 0;
}

int ipc_drop(struct worker *w, uint64_t id)
{
	struct ipc_entry *e;
	int index;

	for (e = registry(w)->entries; e && e->id != id; e = e->next)
		;
	index = e ? holder_of(e, w) : -1;
	if (index < 0)
		return -EINVAL;
	let_go(e, (unsigned int)index, 1);
	adopt_write(w);
	return 0;
}

/* A file for a worker that may make none. What it will hold is charged by now; the last page is for its name. */
int ipc_memory(struct worker *w, uint64_t bytes)
{
	struct worker_msg m = { .type = BROKER_IPC };
	int fd = -1;

	if (!bytes || bytes > IPC_FILE_MAX ||
	    (w->session->device->memory && bytes > w->holder.leased + IPC_FILE_FREE && !w->may_hold))
		return -EINVAL;
	if (broker.soft)
		fd = memfd_create("vgpu-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))) {
		close(fd);
		fd = -1;
	}
	m.a = fd >= 0;
	worker_send(w, &m, &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
	return 0;
}

static bool tell_all_lost(int fd, const void *worker)
{
	const struct worker *w = worker;

	for (const struct ipc_entry *e = registry(w)->entries; e; e = e->next)
		if (is_event(e) && holder_of(e, w) >= 0)
			tell_lost(e, w->pid);
	return true;
}

void ipc_worker_gone(struct worker *w)
{
	struct ipc_entry *e, *next;
	bool events = false;

	for (e = registry(w)->entries; e && !events; e = e->next)
		events = is_event(e) && holder_of(e, w) >= 0;
	/* Whoever has such a page can keep us waiting at it. */
	if (events)
		aside_run(w->session->device, -1, tell_all_lost, w, NULL, 0);
	for (e = registry(w)->entries; e; e = next) {
		int index = holder_of(e, w);

		next = e->next;
		if (index < 0)
			continue;
		let_go(e, (unsigned int)index, e->holders[index].times);
	}
}
