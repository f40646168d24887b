// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual memory management. Reserved addresses cost nothing; physical memory is charged from cuMemCreate() until
 * neither handle nor mapping is left; what is mapped is memory that the client's copies may touch.
 *
 * Host memory is the client's arena, charged as that is. The driver cannot map it, but like all of the arena it can be
 * pinned, and then kernels reach it by the worker's own address of it. So when host memory is first mapped in a
 * reservation the driver has to let go of its addresses, and they are held here instead, for the arena's pages. From then
 * on that reservation is for host memory alone.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "worker.h"

#define RESERVATIONS_MAX	65536u
/* One part of an arena can be shown at many addresses, and page tables are no quota's. */
#define SHOWN_MAX		8192u
#define SHOWN_TIMES		16u

/* @host: the addresses are held here; @lost: nobody holds them any more */
struct reservation {
	uint64_t base, size;
	bool host, lost;
	struct reservation *next;
};

/* @physical: NULL of host memory, then @shown says where */
struct mapping {
	uint64_t base, size;
	struct physical *physical;
	struct shown shown;
	struct mapping *next;
};

static struct reservation *reservations;
static struct mapping *mappings;
static unsigned int nreservations, nshown;
static uint64_t shown_bytes;

/* One handle or mapping less. */
static void put(struct worker *w, struct physical *p)
{
	if (--p->refs)
		return;
	if (p->shared)
		ipc_forget(p->shared);
	else
		lease_uncharge(w, p->size);
	free(p);
}

struct physical *physical_new(CUmemGenericAllocationHandle real, uint64_t size, uint64_t shared)
{
	struct physical *p = malloc(sizeof(*p));

	if (p)
		*p = (struct physical){ .real = real, .size = size, .shared = shared };
	return p;
}

int physical_enter(struct worker *w, uint64_t h, struct physical *p)
{
	int err = worker_handle_add(w, h, VGPU_H_MEMALLOC, p);

	if (!err)
		object_find(w, h, VGPU_H_MEMALLOC)->ctx = 0;	/* it belongs to the session, not to a context */
	if (!err) {
		p->refs++;
		p->handles++;
	} else if (!p->handles) {
		D.cuMemRelease(p->real);
		p->refs++;
		put(w, p);
	}
	return err;
}

static CUmemAllocationProp prop_of(struct worker *w, const struct vgpu_vmm *q)
{
	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = q->handle_types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = worker_device(w, q->device) },
	};
}

static void done(struct worker *w, const struct idm_message *m, int err, CUresult r, uint64_t value)
{
	struct vgpu_vmm_reply rp = { value };

	worker_reply(w, &m->header, m->payload, err, r, &rp, sizeof(rp));
}

/* For what is posted and has nothing to say. */
static void over(struct worker *w, const struct idm_message *m, int err, CUresult r)
{
	worker_reply(w, &m->header, m->payload, err, r, NULL, 0);
}

/* Nothing here needs a context. */
static const struct vgpu_vmm *request(struct worker *w, const struct idm_message *m)
{
	return payload_is(w, m, sizeof(struct vgpu_vmm)) ? m->payload : NULL;
}

void worker_hand_vmm_granularity(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUmemAllocationProp prop;
	size_t value = 0;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;

	if (!q)
		return;
	prop = prop_of(w, q);
	if (D.cuMemGetAllocationGranularity)
		r = D.cuMemGetAllocationGranularity(&value, &prop, (CUmemAllocationGranularity_flags)q->flags);
	done(w, m, 0, r, value);
}

void worker_hand_vmm_reserve(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct reservation *n;
	CUdeviceptr base = 0;

	if (!q)
		return;
	n = nreservations < RESERVATIONS_MAX ? malloc(sizeof(*n)) : NULL;
	if (!n)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	else if (D.cuMemAddressReserve)
		r = D.cuMemAddressReserve(&base, q->size, q->offset, q->address, 0);
	if (r == CUDA_SUCCESS) {
		*n = (struct reservation){ .base = base, .size = q->size, .next = reservations };
		reservations = n;
		nreservations++;
	} else {
		free(n);
	}
	done(w, m, 0, r, base);
}

/* Does anything of [base, base + size) have a mapping? */
static struct mapping *first_in(uint64_t base, uint64_t size)
{
	struct mapping *n;

	for (n = mappings; n && (n->base >= base ? n->base - base >= size : base - n->base >= n->size); n = n->next)
		;
	return n;
}

/* The worker's addresses, held or lost. */
static CUresult let_go(struct reservation *n)
{
	if (first_in(n->base, n->size))
		return CUDA_ERROR_INVALID_VALUE;
	if (n->host)
		munmap((void *)n->base, n->size);
	return CUDA_SUCCESS;
}

void worker_hand_vmm_unreserve(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct reservation **p, *n;

	if (!q)
		return;
	for (p = &reservations; (n = *p) && (n->base != q->address || n->size != q->size); p = &n->next)
		;
	if (n && (n->host || n->lost))
		r = let_go(n);
	else if (n)
		r = D.cuMemAddressFree(n->base, n->size);
	if (r == CUDA_SUCCESS) {
		*p = n->next;
		free(n);
		nreservations--;
	}
	over(w, m, 0, r);
}

void worker_hand_vmm_create(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	struct physical *p = NULL;
	CUmemAllocationProp prop;
	CUresult r = CUDA_ERROR_OUT_OF_MEMORY;
	int err;

	if (!q)
		return;
	err = worker_handle_free(w, q->handle, VGPU_H_MEMALLOC);
	if (err)
		goto out;
	if (!D.cuMemCreate || !q->size) {
		r = q->size ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
		goto out;
	}
	if (!memory_charge(w, q->size))
		goto out;
	p = physical_new(0, q->size, 0);
	if (p) {
		prop = prop_of(w, q);
		prop.allocFlags.compressionType = 0;
		r = D.cuMemCreate(&p->real, q->size, &prop, 0);
	}
	if (r == CUDA_SUCCESS) {
		err = physical_enter(w, q->handle, p);
	} else {
		lease_uncharge(w, q->size);
		free(p);
	}
out:
	done(w, m, err, r, 0);
}

void worker_hand_vmm_release(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_SUCCESS;
	struct physical *p;
	struct handle *e;

	if (!q)
		return;
	e = object_find(w, q->handle, VGPU_H_MEMALLOC);
	if (e) {
		p = e->object;
		if (p->handles == 1)
			r = D.cuMemRelease(p->real);
		if (r == CUDA_SUCCESS) {
			p->handles--;
			handle_remove(&w->handles, e);
			put(w, p);
		}
	}
	over(w, m, e ? 0 : IDM_ERROR_INVALID_HANDLE, r);
}

static struct reservation *reservation(uint64_t base, uint64_t size)
{
	struct reservation *n;

	for (n = reservations; n; n = n->next)
		if (base >= n->base && base - n->base <= n->size && size <= n->size - (base - n->base))
			return n;
	return NULL;
}

/* With the driver. */
static bool reserved(uint64_t base, uint64_t size)
{
	const struct reservation *n = reservation(base, size);

	return n && !n->host && !n->lost;
}

/* Does [base, base + size) cut no mapping in two? Half of one cannot be given back. */
static bool whole_mappings(uint64_t base, uint64_t size)
{
	const struct mapping *n;

	for (n = mappings; n; n = n->next)
		if ((n->base < base && base - n->base < n->size) ||
		    (n->base >= base && n->base - base < size && n->size > size - (n->base - base)))
			return false;
	return true;
}

/* The driver's addresses become ours. If it keeps them all the same, it may have them back. */
static CUresult hold(struct worker *w, struct reservation *n)
{
	CUdeviceptr back = 0;
	CUresult r;

	if (n->host)
		return CUDA_SUCCESS;
	if (n->lost || first_in(n->base, n->size))
		return CUDA_ERROR_NOT_SUPPORTED;
	r = D.cuMemAddressFree(n->base, n->size);
	if (r != CUDA_SUCCESS)
		return r;
	n->host = arena_hold((void *)n->base, n->size);
	if (n->host)
		return CUDA_SUCCESS;
	r = D.cuMemAddressReserve(&back, n->size, 0, n->base, 0);
	if (r == CUDA_SUCCESS && back != n->base)
		D.cuMemAddressFree(back, n->size);
	n->lost = r != CUDA_SUCCESS || back != n->base;
	worker_complain(w, "host memory cannot be mapped at %#llx: the driver keeps addresses that it was given back",
			(unsigned long long)n->base);
	return CUDA_ERROR_NOT_SUPPORTED;
}

/* All that the client can have got by allocating. */
static uint64_t arena_bytes(const struct worker *w)
{
	const char *end = w->narena ? (char *)w->arena[w->narena - 1].addr + w->arena[w->narena - 1].size : NULL;

	return end ? (uint64_t)(end - (char *)w->arena[0].addr) : 0;
}

static CUresult map_host(struct worker *w, const struct vgpu_vmm *q, struct mapping *n)
{
	struct reservation *res = reservation(q->address, q->size);
	uint64_t arena = (uintptr_t)idm_server_arena(w->server, q->offset, q->size);
	CUresult r;

	if (!res || !arena || !q->size || (q->address | q->size | q->offset) & (IDM_PAGE_SIZE - 1) ||
	    first_in(q->address, q->size))
		return CUDA_ERROR_INVALID_VALUE;
	if (nshown >= SHOWN_MAX || shown_bytes + q->size > SHOWN_TIMES * arena_bytes(w))
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = hold(w, res);
	if (r != CUDA_SUCCESS)
		return r;
	*n = (struct mapping){ .base = q->address, .size = q->size,
			       .shown = { .at = (void *)q->address, .size = q->size } };
	if (arena_show(w, q->offset, &n->shown))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (memory_range_add(w, q->address, q->size, RANGE_MAPPED, 0, 0)) {
		arena_unshow(w, &n->shown, false);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	n->next = mappings;
	mappings = n;
	nshown++;
	shown_bytes += q->size;
	return CUDA_SUCCESS;
}

static bool busy_context(struct handle *e, void *busy)
{
	struct wctx *c = VGPU_HANDLE_TYPE(e->value) == VGPU_H_CTX ? e->aux : NULL;

	if (c && !c->dead && c == c->root && !context_idle(c))
		*(bool *)busy = true;
	return false;
}

/* May anything that the client has queued use its memory yet? */
static bool all_idle(struct worker *w)
{
	bool busy = false;

	for (unsigned int i = 0; i < w->ndevices; i++)
		if (w->primary[i] && !context_idle(w->primary[i]))
			busy = true;
	handle_purge(&w->handles, busy_context, &busy);
	return !busy;
}

/* One mapping, all of it. To unpin it the driver waits for what is queued; the dispatching thread must not have to. */
static CUresult unmap_host(struct worker *w, const struct vgpu_vmm *q)
{
	struct mapping **at, *n;
	uint64_t charged;
	CUresult r;
	bool busy;

	for (at = &mappings; (n = *at) && (n->physical || n->base != q->address || n->size != q->size); at = &n->next)
		;
	if (!n)
		return CUDA_ERROR_INVALID_VALUE;
	busy = n->shown.pinned && !__atomic_load_n(&n->shown.leaving, __ATOMIC_RELAXED) && !all_idle(w);
	if (busy && !(q->flags & VGPU_VMM_HOST_WAIT))
		return CUDA_ERROR_NOT_READY;
	r = arena_unshow(w, &n->shown, busy);
	if (r != CUDA_SUCCESS)
		return r;
	*at = n->next;
	range_remove(&w->ranges, n->base, &charged);
	nshown--;
	shown_bytes -= n->size;
	free(n);
	return CUDA_SUCCESS;
}

void worker_hand_vmm_map(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct physical *p;
	struct mapping *n;

	if (!q)
		return;
	n = malloc(sizeof(*n));
	if (n && q->flags & VGPU_VMM_HOST) {
		r = map_host(w, q, n);
		if (r != CUDA_SUCCESS)
			free(n);
		done(w, m, 0, r, 0);
		return;
	}
	p = worker_handle(w, q->handle, VGPU_H_MEMALLOC);
	if (!p || !n) {
		free(n);
		done(w, m, p ? IDM_ERROR_OUT_OF_MEMORY : IDM_ERROR_INVALID_HANDLE, 0, 0);
		return;
	}
	if (reserved(q->address, q->size))
		r = D.cuMemMap(q->address, q->size, q->offset, p->real, 0);
	if (r == CUDA_SUCCESS && memory_range_add(w, q->address, q->size, RANGE_MAPPED, 0, 0)) {
		D.cuMemUnmap(q->address, q->size);
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r == CUDA_SUCCESS) {
		*n = (struct mapping){ .base = q->address, .size = q->size, .physical = p, .next = mappings };
		mappings = n;
		p->refs++;
	} else {
		free(n);
	}
	done(w, m, 0, r, 0);
}

void worker_hand_vmm_unmap(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct mapping **at, *n;
	uint64_t charged;

	if (!q)
		return;
	if (q->flags & VGPU_VMM_HOST)
		return over(w, m, 0, unmap_host(w, q));
	if (reserved(q->address, q->size) && whole_mappings(q->address, q->size))
		r = D.cuMemUnmap(q->address, q->size);
	for (at = &mappings; r == CUDA_SUCCESS && (n = *at);) {
		if (n->base < q->address || n->base - q->address >= q->size) {
			at = &n->next;
			continue;
		}
		*at = n->next;
		range_remove(&w->ranges, n->base, &charged);
		put(w, n->physical);
		free(n);
	}
	over(w, m, 0, r);
}

void worker_hand_vmm_access(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	CUmemAccessDesc desc;

	if (!q)
		return;
	desc = (CUmemAccessDesc){ .location = prop_of(w, q).location, .flags = (CUmemAccess_flags)q->flags };
	if (reserved(q->address, q->size))
		r = D.cuMemSetAccess(q->address, q->size, &desc, 1);
	over(w, m, 0, r);
}
