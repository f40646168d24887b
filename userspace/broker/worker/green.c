// SPDX-License-Identifier: Apache-2.0
/* Parts of devices, and green contexts made of them. What a part is only the driver can read: it stays here. */
#include <string.h>

#include "worker.h"

#define RESOURCES_MAX	4096

static CUdevResource resources[RESOURCES_MAX];	/* by number, from 1; nothing ends them but the session */
static uint64_t known;

static bool tell(struct vgpu_resource *out, const CUdevResource *r)
{
	memset(out, 0, sizeof(*out));
	out->type = r->type;
	if (r->type != CU_DEV_RESOURCE_TYPE_SM)
		return true;
	if (known >= RESOURCES_MAX)
		return false;
	resources[known++] = *r;
	out->id = known;
	out->sm_count = r->sm.smCount;
	out->sm_min = r->sm.minSmPartitionSize;
	out->sm_alignment = r->sm.smCoscheduledAlignment;
	return true;
}

void worker_hand_resource_get(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_resource_get *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct vgpu_resource rp = { 0 };
	CUdevResource got = { 0 };
	void *object = NULL;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err && q->handle) {
		object = worker_handle(w, q->handle, VGPU_HANDLE_TYPE(q->handle) == VGPU_H_CTX ? VGPU_H_CTX :
				       VGPU_H_GREENCTX);
		err = object ? 0 : IDM_ERROR_INVALID_HANDLE;
	}
	if (err || !D.cuDeviceGetDevResource || !D.cuCtxGetDevResource || !D.cuGreenCtxGetDevResource)
		goto out;
	if (!object)
		r = D.cuDeviceGetDevResource(worker_device(w, q->device), &got, q->type);
	else if (VGPU_HANDLE_TYPE(q->handle) == VGPU_H_CTX)
		r = D.cuCtxGetDevResource(object, &got, q->type);
	else
		r = D.cuGreenCtxGetDevResource(object, &got, q->type);
	if (r == CUDA_SUCCESS && !tell(&rp, &got))
		r = CUDA_ERROR_OUT_OF_MEMORY;
out:
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_resource_split(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_resource_split *q = m->payload;
	CUdevResource groups[VGPU_RESOURCE_GROUPS] = { 0 }, remaining = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct vgpu_resource_split_reply rp;
	unsigned int n;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	memset(&rp, 0, sizeof(rp));
	err = worker_enter(w, &q->call);
	if (!err && (!q->id || q->id > known || q->groups > VGPU_RESOURCE_GROUPS))
		r = CUDA_ERROR_INVALID_VALUE;
	else if (!err && D.cuDevSmResourceSplitByCount) {
		n = q->groups;
		r = D.cuDevSmResourceSplitByCount(n ? groups : NULL, &n, &resources[q->id - 1], &remaining, q->flags,
						  q->minimum);
		rp.groups = n;
		for (unsigned int i = 0; r == CUDA_SUCCESS && i < n && i < q->groups; i++)
			if (!tell(&rp.group[i], &groups[i]))
				r = CUDA_ERROR_OUT_OF_MEMORY;
		if (r == CUDA_SUCCESS && !tell(&rp.remaining, &remaining))
			r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_resource_desc(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_resource_desc *q = m->payload;
	CUdevResource list[VGPU_RESOURCE_GROUPS];
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	CUdevResourceDesc desc;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, VGPU_H_RESDESC);
	if (err || !q->n || q->n > VGPU_RESOURCE_GROUPS)
		goto out;
	for (uint64_t i = 0; i < q->n; i++) {
		if (!q->ids[i] || q->ids[i] > known)
			goto out;
		list[i] = resources[q->ids[i] - 1];
	}
	r = D.cuDevResourceGenerateDesc ? D.cuDevResourceGenerateDesc(&desc, list, q->n) : CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		err = worker_handle_add(w, q->handle, VGPU_H_RESDESC, desc);
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* --- green contexts ----------------------------------------------------------------------------------------------- */

/* Without cuCtxFromGreenCtx() nothing but its own streams is ever used of it, and those are in the primary context, too. */
static struct wctx *known_as(struct wctx *root, CUgreenCtx green)
{
	CUcontext real = root->real;
	struct wctx *c;

	if (D.cuCtxFromGreenCtx && D.cuCtxFromGreenCtx(&real, green) != CUDA_SUCCESS)
		return NULL;
	c = context_new(0, real, root->device);
	if (c)
		context_add_green(root, c);
	return c;
}

void worker_hand_cuGreenCtxCreate(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGreenCtxCreate *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgreenCtx made = NULL;
	struct wctx *c = NULL;
	void *desc;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->phCtx, VGPU_H_GREENCTX);
	desc = err ? NULL : worker_handle(w, q->desc, VGPU_H_RESDESC);
	if (!err && !desc)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && D.cuGreenCtxCreate && D.cuGreenCtxDestroy)
		r = q->dev >= w->ndevices ? CUDA_ERROR_INVALID_DEVICE :
		    !w->primary[q->dev] ? CUDA_ERROR_INVALID_CONTEXT :
		    D.cuGreenCtxCreate(&made, desc, w->ordinals[q->dev], (unsigned int)q->flags);
	if (!err && r == CUDA_SUCCESS) {
		c = known_as(w->primary[q->dev], made);
		err = c ? worker_handle_add(w, q->phCtx, VGPU_H_GREENCTX, made) : IDM_ERROR_OUT_OF_MEMORY;
		if (err) {
			if (c)
				context_forget_green(w, c);
			D.cuGreenCtxDestroy(made);
		} else {
			struct handle *e = object_find(w, q->phCtx, VGPU_H_GREENCTX);

			e->refs = q->dev;
			e->aux = c;
			w->greens[q->dev]++;
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuGreenCtxDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGreenCtxDestroy *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct handle *e;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	e = err ? NULL : object_find(w, q->hCtx, VGPU_H_GREENCTX);
	if (!err && !e)
		err = IDM_ERROR_INVALID_HANDLE;
	if (e) {
		CUgreenCtx green = e->object;
		unsigned int dev = e->refs;
		struct wctx *c = e->aux;

		context_settle(w, c);
		if (!w->retained[dev] && w->greens[dev] == 1)
			primary_settle(w, dev);
		capture_context_settle(w, c);
		if (w->current == c)
			context_set_none(w);
		context_end_streams(w, c);
		r = D.cuGreenCtxDestroy(green);
		/* A reset of the primary context may have been its end: then it is gone, as was asked for. */
		if (r == CUDA_ERROR_CONTEXT_IS_DESTROYED)
			r = CUDA_SUCCESS;
		if (r == CUDA_SUCCESS) {
			context_forget_green(w, c);
			worker_handle_del(w, q->hCtx, VGPU_H_GREENCTX);
			w->greens[dev]--;
			primary_released(w, dev);
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* It as an ordinary context: the client's name for that. */
void worker_hand_cuCtxFromGreenCtx(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuCtxFromGreenCtx *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct handle *e, *name;
	struct wctx *c;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_handle_free(w, q->pContext, VGPU_H_CTX);
	if (!err && VGPU_HANDLE_GEN(q->pContext) == 0)
		err = IDM_ERROR_INVALID_HANDLE;	/* could be mistaken for a primary one */
	e = err ? NULL : object_find(w, q->hCtx, VGPU_H_GREENCTX);
	if (!err && !e)
		err = IDM_ERROR_INVALID_HANDLE;
	c = e ? e->aux : NULL;
	if (c && (c->dead || c->handle)) {
		r = c->dead ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_ERROR_INVALID_VALUE;
	} else if (c && D.cuCtxFromGreenCtx) {
		name = handle_add(&w->handles, q->pContext, VGPU_H_CTX, c->real);
		r = name ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
		if (name) {
			name->aux = c;
			c->handle = q->pContext;
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* Its streams are in it, and as everything that is made in it the primary context's. */
void worker_hand_cuGreenCtxStreamCreate(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGreenCtxStreamCreate *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUstream stream = NULL;
	struct wctx *c, *was;
	struct handle *e;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->phStream, VGPU_H_STREAM);
	e = err ? NULL : object_find(w, q->greenCtx, VGPU_H_GREENCTX);
	if (!err && !e)
		err = IDM_ERROR_INVALID_HANDLE;
	c = e ? e->aux : NULL;
	if (c && c->dead)
		r = CUDA_ERROR_CONTEXT_IS_DESTROYED;
	else if (c && D.cuGreenCtxStreamCreate)
		r = D.cuGreenCtxStreamCreate(&stream, e->object, (unsigned int)q->flags, (int)q->priority);
	if (!err && r == CUDA_SUCCESS) {
		was = w->current;
		w->current = c;
		err = worker_handle_add(w, q->phStream, VGPU_H_STREAM, stream);
		w->current = was;
		if (err)
			D.cuStreamDestroy_v2(stream);
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
