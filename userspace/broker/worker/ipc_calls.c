// SPDX-License-Identifier: Apache-2.0
/* The calls by which sessions share memory and events: exporting, importing, closing. */
#include <stdlib.h>
#include <string.h>

#include "ipc.h"

/* --- memory ------------------------------------------------------------------------------------------------------------ */

/* The token of a range that is exported already. */
static bool known(const struct range *r, void *token)
{
	const struct share *s = r->shared ? share_find(r->shared) : NULL;

	if (s)
		share_token(s, token);
	return s;
}

/* What the driver made of the memory at @r goes out. */
static CUresult range_out(struct worker *w, struct range *r, enum ipc_kind kind, const void *handle, void *token)
{
	const struct wctx *c = r->owner ? context_find(w, r->owner) : context_root(w);
	CUresult e = give_out(w, kind, handle, file_of(handle), c ? (uint64_t)c->device : 0, r->size, r->charged, r->base,
			      &r->shared, token);

	if (e == CUDA_SUCCESS && r->kind == RANGE_ASYNC)
		pool_exported(r->charged);
	if (e == CUDA_SUCCESS)
		r->charged = 0;
	return e;
}

void worker_hand_cuIpcGetMemHandle(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuIpcGetMemHandle *q = m->payload;
	struct vgpu_rp_cuIpcGetMemHandle rp = { 0 };
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	CUipcMemHandle handle = { 0 };
	struct range *range;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	range = err ? NULL : range_find(&w->ranges, q->dptr);
	if (range && range->kind == RANGE_ALLOC) {
		r = CUDA_SUCCESS;
		if (!known(range, &rp.pHandle)) {
			r = D.cuIpcGetMemHandle ? D.cuIpcGetMemHandle(&handle, range->base) : CUDA_ERROR_NOT_SUPPORTED;
			if (r == CUDA_SUCCESS)
				r = range_out(w, range, IPC_MEMORY, &handle, &rp.pHandle);
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_cuMemPoolExportPointer(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemPoolExportPointer *q = m->payload;
	struct vgpu_rp_cuMemPoolExportPointer rp = { 0 };
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	CUmemPoolPtrExportData handle = { 0 };
	struct range *range;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	range = range_find(&w->ranges, q->ptr);
	if (range && range->kind == RANGE_ASYNC && range->base == q->ptr && !ipc_imported(range->shared)) {
		r = CUDA_SUCCESS;
		if (!known(range, &rp.shareData_out)) {
			r = D.cuMemPoolExportPointer ? D.cuMemPoolExportPointer(&handle, q->ptr) : CUDA_ERROR_NOT_SUPPORTED;
			if (r == CUDA_SUCCESS)
				r = range_out(w, range, IPC_POINTER, &handle, &rp.shareData_out);
		}
	}
	worker_reply(w, &m->header, &q->call, 0, r, &rp, sizeof(rp));
}

/* Memory that is open already is opened once more, in the same context; one's own is not. */
static CUresult open_again(struct worker *w, struct share *s, uint64_t owner, struct vgpu_ipc_memory_reply *rp)
{
	const struct range *range = s ? range_find(&w->ranges, s->at) : NULL;

	if (!s || s->own || !range || range->shared != s->id || range->owner != owner)
		return CUDA_ERROR_INVALID_CONTEXT;
	s->count++;
	rp->address = range->base;
	rp->size = range->size;
	return CUDA_SUCCESS;
}

/* The driver has mapped it, at @at. */
static CUresult opened(struct worker *w, const struct found *f, uint64_t at, enum range_kind kind, uint64_t owner)
{
	if (!share_new(f->id, f->what.kind, at, false))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (memory_range_add(w, at, f->what.size, kind, owner, 0)) {
		ipc_unlist(f->id);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	range_find(&w->ranges, at)->shared = f->id;
	return CUDA_SUCCESS;
}

/* How the driver maps what another session has given out, and lets go of it. */
struct mapping {
	enum ipc_kind kind;
	enum range_kind range;
	CUresult (*map)(CUdeviceptr *at, const void *handle, const struct vgpu_ipc *q, CUmemoryPool pool);
	CUresult (*unmap)(CUdeviceptr at);
};

static CUresult map_memory(CUdeviceptr *at, const void *data, const struct vgpu_ipc *q, CUmemoryPool pool)
{
	CUipcMemHandle handle;

	memcpy(&handle, data, sizeof(handle));
	return D.cuIpcOpenMemHandle_v2(at, handle, (unsigned int)q->flags);
}

static CUresult map_pointer(CUdeviceptr *at, const void *data, const struct vgpu_ipc *q, CUmemoryPool pool)
{
	CUmemPoolPtrExportData handle;

	memcpy(&handle, data, sizeof(handle));
	return D.cuMemPoolImportPointer(at, pool, &handle);
}

/* @owner: the context it is opened in, 0 for a pool's memory; @pool: NULL for a context's */
static CUresult bring_in(struct worker *w, const struct vgpu_ipc *q, const struct mapping *how, uint64_t owner, CUmemoryPool pool,
			 struct vgpu_ipc_memory_reply *rp)
{
	CUdeviceptr at = 0;
	struct found f;
	struct share *s;
	CUresult r;

	r = come_by(q->token, how->kind, &f);
	if (r != CUDA_SUCCESS)
		return r;
	rp->device = f.what.device;
	rp->size = f.what.size;
	s = share_find(f.id);
	if (s || f.own) {
		no_more(f.fd);
		lost(&f);
		return open_again(w, s, owner, rp);
	}
	offer(f.what.handle, f.fd);
	r = f.what.size && f.what.device < w->ndevices ? how->map(&at, f.what.handle, q, pool) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS) {
		r = opened(w, &f, at, how->range, owner);
		if (r != CUDA_SUCCESS)
			how->unmap(at);
	}
	if (r != CUDA_SUCCESS)
		lost(&f);
	rp->address = at;
	return r;
}

static CUresult open_memory(struct worker *w, const struct vgpu_ipc *q, struct vgpu_ipc_memory_reply *rp)
{
	const struct mapping how = { IPC_MEMORY, RANGE_IMPORT, map_memory, D.cuIpcCloseMemHandle };

	if (!w->current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!D.cuIpcOpenMemHandle_v2 || !D.cuIpcCloseMemHandle)
		return CUDA_ERROR_NOT_SUPPORTED;
	return bring_in(w, q, &how, context_owner(w), NULL, rp);
}

void worker_hand_ipc_open_memory(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_ipc *q = m->payload;
	struct vgpu_ipc_memory_reply rp = { 0 };
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		r = open_memory(w, q, &rp);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

static CUresult import_pointer(struct worker *w, const struct vgpu_ipc *q, CUmemoryPool pool, struct vgpu_ipc_memory_reply *rp)
{
	const struct mapping how = { IPC_POINTER, RANGE_ASYNC, map_pointer, D.cuMemFree_v2 };

	if (!D.cuMemPoolImportPointer)
		return CUDA_ERROR_NOT_SUPPORTED;
	return bring_in(w, q, &how, 0, pool, rp);
}

void worker_hand_ipc_import_pointer(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_ipc *q = m->payload;
	struct vgpu_ipc_memory_reply rp = { 0 };
	CUresult r = CUDA_SUCCESS;
	CUmemoryPool pool;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	pool = worker_handle(w, q->handle, VGPU_H_MEMPOOL);
	if (pool)
		r = import_pointer(w, q, pool, &rp);
	worker_reply(w, &m->header, &q->call, pool ? 0 : IDM_ERROR_INVALID_HANDLE, r, &rp, sizeof(rp));
}

/* As cuMemFree(): what is pending is not waited for by the client's other threads, but by the answer. */
void worker_hand_cuIpcCloseMemHandle(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuIpcCloseMemHandle *q = m->payload;
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct range *range, t;
	uint64_t charged;
	struct wait *f;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	range = err ? NULL : range_find(&w->ranges, q->dptr);
	if (!range || range->kind != RANGE_IMPORT || range->base != q->dptr)
		goto out;
	r = CUDA_SUCCESS;
	if (ipc_one_of_many(range->shared))
		goto out;
	t = *range;
	range_remove(&w->ranges, t.base, &charged);
	ipc_unlist(t.shared);
	f = w->current && !context_idle(context_root(w)) ? fence_context(context_root(w), &r) : NULL;
	if (f) {
		fence_for(f, m);
		f->free_addr = t.base;
		f->close = true;
		f->shared = t.shared;
		f->deferred_free = true;
		fence_start(w, f);
		return;
	}
	r = D.cuIpcCloseMemHandle(t.base);
	ipc_drop(t.shared);
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* --- events ------------------------------------------------------------------------------------------------------------ */

void worker_hand_cuIpcGetEventHandle(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuIpcGetEventHandle *q = m->payload;
	struct vgpu_rp_cuIpcGetEventHandle rp = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct share *s = NULL;
	struct wevent *event;
	CUipcEventHandle handle = { 0 };
	struct handle *e;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	e = err ? NULL : object_find(w, q->event, VGPU_H_EVENT);
	if (!e) {
		err = err ? err : IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	event = e->aux;
	s = event->shared ? share_find(event->shared) : NULL;
	if (s) {
		share_token(s, &rp.pHandle);
		r = CUDA_SUCCESS;
	} else if (event->shared) {
		r = CUDA_ERROR_INVALID_HANDLE;	/* another session's */
	} else if (D.cuIpcGetEventHandle) {
		r = D.cuIpcGetEventHandle(&handle, e->object);
		if (r == CUDA_SUCCESS)
			r = give_out(w, IPC_EVENT, &handle, file_of(&handle), 0, 0, 0, 0, &event->shared, &rp.pHandle);
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

static CUresult open_event(struct worker *w, const struct vgpu_ipc *q, int *err)
{
	CUipcEventHandle handle = { 0 };
	CUevent event = NULL;
	struct found f;
	CUresult r;

	if (!D.cuIpcOpenEventHandle)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (come_by(q->token, IPC_EVENT, &f) != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_HANDLE;
	if (f.own) {
		no_more(f.fd);
		return CUDA_ERROR_INVALID_CONTEXT;
	}
	memcpy(&handle, f.what.handle, sizeof(handle));
	offer(&handle, f.fd);
	r = D.cuIpcOpenEventHandle(&event, handle);
	if (r == CUDA_SUCCESS) {
		*err = worker_handle_add(w, q->handle, VGPU_H_EVENT, event);
		if (*err)
			D.cuEventDestroy_v2(event);
		else
			((struct wevent *)object_find(w, q->handle, VGPU_H_EVENT)->aux)->shared = f.id;
	}
	if (r != CUDA_SUCCESS || *err)
		lost(&f);
	return r;
}

void worker_hand_ipc_open_event(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_ipc *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, VGPU_H_EVENT);
	if (!err)
		r = open_event(w, q, &err);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* --- by descriptor ----------------------------------------------------------------------------------------------------- */

static CUresult export_pool(struct worker *w, CUmemoryPool pool, uint64_t device, void *token)
{
	const struct share *s = share_of_pool(pool);
	uint64_t id;
	int fd = -1;
	CUresult r;

	if (s && !s->own)
		return CUDA_ERROR_INVALID_VALUE;
	if (s) {
		share_token(s, token);
		return CUDA_SUCCESS;
	}
	if (!D.cuMemPoolExportToShareableHandle)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = D.cuMemPoolExportToShareableHandle(&fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	return r == CUDA_SUCCESS ? give_out(w, IPC_POOL, NULL, fd, device, 0, 0, (uintptr_t)pool, &id, token) : r;
}

static CUresult export_physical(struct worker *w, struct physical *p, uint64_t device, void *token)
{
	const struct share *s = p->shared ? share_find(p->shared) : NULL;	/* whoever has it may hand it on */
	int fd = -1;
	CUresult r;

	if (s) {
		share_token(s, token);
		return CUDA_SUCCESS;
	}
	if (!D.cuMemExportToShareableHandle)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = D.cuMemExportToShareableHandle(&fd, p->real, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	return r == CUDA_SUCCESS ? give_out(w, IPC_PHYSICAL, NULL, fd, device, p->size, p->size, (uintptr_t)p, &p->shared,
					    token) : r;
}

void worker_hand_ipc_export(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_ipc *q = m->payload;
	struct vgpu_ipc_token_reply rp = { 0 };
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	void *object;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	if (VGPU_HANDLE_TYPE(q->handle) == VGPU_H_MEMPOOL) {
		object = worker_handle(w, q->handle, VGPU_H_MEMPOOL);
		if (object)
			r = export_pool(w, object, q->flags, rp.token);
	} else {
		object = worker_handle(w, q->handle, VGPU_H_MEMALLOC);
		if (object)
			r = export_physical(w, object, q->flags, rp.token);
	}
	worker_reply(w, &m->header, &q->call, object ? 0 : IDM_ERROR_INVALID_HANDLE, r, &rp, sizeof(rp));
}

/* Every import of a pool is a pool. */
static CUresult import_pool(struct worker *w, const struct vgpu_ipc *q, struct vgpu_ipc_memory_reply *rp, int *err)
{
	CUmemoryPool pool = NULL;
	struct found f;
	CUresult r;

	if (!D.cuMemPoolImportFromShareableHandle)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = come_by(q->token, IPC_POOL, &f);
	if (r != CUDA_SUCCESS)
		return r;
	rp->device = f.what.device;
	r = f.own || f.fd < 0 || f.what.device >= w->ndevices ? CUDA_ERROR_INVALID_VALUE :
		D.cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)f.fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	no_more(f.fd);
	if (r == CUDA_SUCCESS) {
		*err = share_new(f.id, IPC_POOL, (uintptr_t)pool, false) ? 0 : IDM_ERROR_OUT_OF_MEMORY;
		if (!*err)
			*err = worker_handle_add(w, q->handle, VGPU_H_MEMPOOL, pool);
		if (!*err)
			return r;
		D.cuMemPoolDestroy(pool);
		if (share_find(f.id) && share_find(f.id)->at == (uintptr_t)pool)
			ipc_unlist(f.id);
	}
	lost(&f);
	return r;
}

/* What is here already gets another handle. */
static CUresult import_physical(struct worker *w, const struct vgpu_ipc *q, struct vgpu_ipc_memory_reply *rp, int *err)
{
	CUmemGenericAllocationHandle real = 0;
	struct physical *p;
	struct found f;
	struct share *s;
	CUresult r;

	if (!D.cuMemImportFromShareableHandle)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = come_by(q->token, IPC_PHYSICAL, &f);
	if (r != CUDA_SUCCESS)
		return r;
	rp->device = f.what.device;
	rp->size = f.what.size;
	s = share_find(f.id);
	if (s) {
		p = (struct physical *)(uintptr_t)s->at;
		/* Mapped, but the driver's handle has been given back. */
		if (!p->handles)
			r = f.fd < 0 ? CUDA_ERROR_INVALID_VALUE :
				D.cuMemImportFromShareableHandle(&p->real, (void *)(intptr_t)f.fd,
								 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
		no_more(f.fd);
		lost(&f);
		if (r == CUDA_SUCCESS)
			*err = physical_enter(w, q->handle, p);
		return r;
	}
	r = f.own || !f.what.size || f.fd < 0 || f.what.device >= w->ndevices ? CUDA_ERROR_INVALID_VALUE :
		D.cuMemImportFromShareableHandle(&real, (void *)(intptr_t)f.fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	no_more(f.fd);
	if (r != CUDA_SUCCESS) {
		lost(&f);
		return r;
	}
	p = physical_new(real, f.what.size, f.id);
	s = p ? share_new(f.id, IPC_PHYSICAL, (uintptr_t)p, false) : NULL;
	if (!s) {
		free(p);
		D.cuMemRelease(real);
		lost(&f);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	share_known_by(s, q->token);
	*err = physical_enter(w, q->handle, p);
	return r;
}

void worker_hand_ipc_import(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_ipc *q = m->payload;
	struct vgpu_ipc_memory_reply rp = { 0 };
	CUresult r = CUDA_SUCCESS;
	bool pool;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	pool = VGPU_HANDLE_TYPE(q->handle) == VGPU_H_MEMPOOL;
	err = worker_handle_free(w, q->handle, pool ? VGPU_H_MEMPOOL : VGPU_H_MEMALLOC);
	if (!err)
		r = pool ? import_pool(w, q, &rp, &err) : import_physical(w, q, &rp, &err);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
