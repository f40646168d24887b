// SPDX-License-Identifier: Apache-2.0
/* Arrays and mipmapped arrays, charged to the quota by what they hold. */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

/* What drivers round an array's rows and its whole up to, near enough. */
#define ROW_UNIT	64ull
#define ARRAY_UNIT	512ull

/** struct warray - aux of an array or mipmap: what it holds of the quota. */
struct warray {
	uint64_t charged;
};

static unsigned int element_size(CUarray_format f, unsigned int channels)
{
	switch (f) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return channels;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2 * channels;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4 * channels;
	default:
		return 16;	/* none is larger; blocks and planes are smaller */
	}
}

static bool charge_of(const CUDA_ARRAY3D_DESCRIPTOR *d, uint64_t *charge)
{
	uint64_t size;

	/* Sparse and deferred ones get their memory by calls that are refused. */
	if (__builtin_mul_overflow((uint64_t)d->Width, (uint64_t)element_size(d->Format, d->NumChannels), &size) ||
	    __builtin_add_overflow(size, ROW_UNIT - 1, &size))
		return false;
	size &= ~(ROW_UNIT - 1);
	if (__builtin_mul_overflow(size, (uint64_t)(d->Height ? d->Height : 1), &size) ||
	    __builtin_mul_overflow(size, (uint64_t)(d->Depth ? d->Depth : 1), &size) ||
	    __builtin_add_overflow(size, ARRAY_UNIT - 1, &size))
		return false;
	*charge = size & ~(ARRAY_UNIT - 1);
	return true;
}

/* The handle has been found free and the object made: enter it. @return IDM_ERROR_* */
static int enter(struct worker *w, uint64_t handle, enum vgpu_handle_type type, void *object, uint64_t charge)
{
	struct warray *a = malloc(sizeof(*a));
	struct handle *e;
	int err = a ? worker_handle_add(w, handle, type, object) : IDM_ERROR_OUT_OF_MEMORY;

	if (err) {
		free(a);
		return err;
	}
	*a = (struct warray){ charge };
	e = object_find(w, handle, type);
	e->aux = a;
	return 0;
}

void array_release(struct handle *e)
{
	struct warray *a = e->aux;

	if (a)
		lease_uncharge(&worker, a->charged);
	free(a);
	e->aux = NULL;
}

static void create(struct worker *w, const struct idm_message *m, uint64_t handle, const CUDA_ARRAY3D_DESCRIPTOR *d,
		   bool three, bool mipmapped, unsigned int levels)
{
	enum vgpu_handle_type type = mipmapped ? VGPU_H_MIPMAP : VGPU_H_ARRAY;
	const struct vgpu_call *call = m->payload;
	CUDA_ARRAY_DESCRIPTOR flat = { d->Width, d->Height, d->Format, d->NumChannels };
	CUmipmappedArray mipmap = NULL;
	CUarray array = NULL;
	uint64_t bytes;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	int err = worker_enter(w, call);

	if (!err)
		err = worker_handle_free(w, handle, type);
	if (err)
		goto out;
	if (d->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING))
		goto out;
	r = CUDA_ERROR_INVALID_VALUE;
	if (!charge_of(d, &bytes))
		goto out;
	/* All levels together are less than twice the first in two dimensions and up, and twice in one. */
	if (mipmapped && levels > 1 && __builtin_mul_overflow(bytes, 2ull, &bytes))
		goto out;
	r = CUDA_ERROR_OUT_OF_MEMORY;
	if (!memory_charge(w, bytes))
		goto out;
	if (mipmapped)
		r = D.cuMipmappedArrayCreate ? D.cuMipmappedArrayCreate(&mipmap, d, levels) : CUDA_ERROR_NOT_SUPPORTED;
	else if (three)
		r = D.cuArray3DCreate_v2 ? D.cuArray3DCreate_v2(&array, d) : CUDA_ERROR_NOT_SUPPORTED;
	else
		r = D.cuArrayCreate_v2 ? D.cuArrayCreate_v2(&array, &flat) : CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS) {
		err = enter(w, handle, type, mipmapped ? (void *)mipmap : (void *)array, bytes);
		if (err && mipmapped)
			D.cuMipmappedArrayDestroy(mipmap);
		else if (err)
			D.cuArrayDestroy(array);
	}
	if (r != CUDA_SUCCESS || err)
		lease_uncharge(w, bytes);
out:
	worker_reply(w, &m->header, call, err, r, NULL, 0);
}

void worker_hand_cuArrayCreate_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuArrayCreate_v2 *q = m->payload;
	CUDA_ARRAY3D_DESCRIPTOR d;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	d = (CUDA_ARRAY3D_DESCRIPTOR){ .Width = q->pAllocateArray.Width, .Height = q->pAllocateArray.Height,
				       .Format = q->pAllocateArray.Format, .NumChannels = q->pAllocateArray.NumChannels };
	create(w, m, q->pHandle, &d, false, false, 0);
}

void worker_hand_cuArray3DCreate_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuArray3DCreate_v2 *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		create(w, m, q->pHandle, &q->pAllocateArray, true, false, 0);
}

void worker_hand_cuMipmappedArrayCreate(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMipmappedArrayCreate *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		create(w, m, q->pHandle, &q->pMipmappedArrayDesc, true, true, q->numMipmapLevels);
}

/* A level or plane: an array that ends with another object and holds nothing itself. */
static void part(struct worker *w, const struct idm_message *m, uint64_t handle, uint64_t parent,
		 enum vgpu_handle_type type, unsigned int index)
{
	const struct vgpu_call *call = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUarray array = NULL;
	struct handle *e;
	void *whole;
	int err = worker_enter(w, call);

	if (!err)
		err = worker_handle_free(w, handle, VGPU_H_ARRAY);
	if (err)
		goto out;
	whole = worker_handle(w, parent, type);
	if (!whole) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	if (type == VGPU_H_MIPMAP && D.cuMipmappedArrayGetLevel)
		r = D.cuMipmappedArrayGetLevel(&array, whole, index);
	else if (type == VGPU_H_ARRAY && D.cuArrayGetPlane)
		r = D.cuArrayGetPlane(&array, whole, index);
	if (r == CUDA_SUCCESS) {
		err = worker_handle_add(w, handle, VGPU_H_ARRAY, array);
		e = err ? NULL : object_find(w, handle, VGPU_H_ARRAY);
		if (e)
			e->parent = parent;
	}
out:
	worker_reply(w, &m->header, call, err, r, NULL, 0);
}

void worker_hand_cuMipmappedArrayGetLevel(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMipmappedArrayGetLevel *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		part(w, m, q->pLevelArray, q->hMipmappedArray, VGPU_H_MIPMAP, q->level);
}

void worker_hand_cuArrayGetPlane(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuArrayGetPlane *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		part(w, m, q->pPlaneArray, q->hArray, VGPU_H_ARRAY, q->planeIdx);
}

static bool is_part_of(struct handle *e, void *arg)
{
	return VGPU_HANDLE_TYPE(e->value) == VGPU_H_ARRAY && e->parent == *(const uint64_t *)arg;
}

static void destroy(struct worker *w, const struct idm_message *m, uint64_t handle, enum vgpu_handle_type type)
{
	const struct vgpu_call *call = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct handle *e;
	int err = worker_enter(w, call);

	if (!err) {
		e = object_find(w, handle, type);
		if (!e) {
			err = IDM_ERROR_INVALID_HANDLE;
		} else if (e->parent) {
			r = CUDA_ERROR_INVALID_HANDLE;	/* it goes with the whole */
		} else {
			r = type == VGPU_H_MIPMAP ? D.cuMipmappedArrayDestroy(e->object) : D.cuArrayDestroy(e->object);
			if (r == CUDA_SUCCESS) {
				array_release(e);
				handle_remove(&w->handles, e);
				handle_purge(&w->handles, is_part_of, &handle);
			}
		}
	}
	worker_reply(w, &m->header, call, err, r, NULL, 0);
}

void worker_hand_cuArrayDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuArrayDestroy *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		destroy(w, m, q->hArray, VGPU_H_ARRAY);
}

void worker_hand_cuMipmappedArrayDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMipmappedArrayDestroy *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		destroy(w, m, q->hMipmappedArray, VGPU_H_MIPMAP);
}
