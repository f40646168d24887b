// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual memory management. Reserved addresses cost nothing; physical memory is charged from cuMemCreate() until
 * neither handle nor mapping is left; what is mapped is memory that the client's copies may touch.
 */
#include <stdlib.h>

#include "worker.h"

#define RESERVATIONS_MAX	65536u

struct reservation {
	uint64_t base, size;
	struct reservation *next;
};

struct mapping {
	uint64_t base, size;
	struct physical *physical;
	struct mapping *next;
};

static struct reservation *reservations;
static struct mapping *mappings;
static unsigned int nreservations;

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
		*n = (struct reservation){ base, q->size, reservations };
		reservations = n;
		nreservations++;
	} else {
		free(n);
	}
	done(w, m, 0, r, base);
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
	if (n)
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

static bool reserved(uint64_t base, uint64_t size)
{
	const struct reservation *n;

	for (n = reservations; n; n = n->next)
		if (base >= n->base && base - n->base <= n->size && size <= n->size - (base - n->base))
			return true;
	return false;
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

void worker_hand_vmm_map(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_vmm *q = request(w, m);
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct physical *p;
	struct mapping *n;

	if (!q)
		return;
	p = worker_handle(w, q->handle, VGPU_H_MEMALLOC);
	n = malloc(sizeof(*n));
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
		*n = (struct mapping){ q->address, q->size, p, mappings };
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
