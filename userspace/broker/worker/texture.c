// SPDX-License-Identifier: Apache-2.0
/*
 * Texture and surface objects, references, tensor maps. An object's name is the driver's own, since kernels get it among
 * their parameters, where nobody can translate it; calls name an object by a handle, so that the driver never sees a name
 * that is none.
 */
#include <string.h>

#include "worker.h"

#define NAME_MAX_ 4096u

static CUresult resource(struct worker *w, const struct vgpu_tex_create *q, CUDA_RESOURCE_DESC *d, int *err)
{
	uint64_t bytes = 0;
	void *object = NULL;

	*d = (CUDA_RESOURCE_DESC){ .resType = (CUresourcetype)q->type };
	switch (q->type) {
	case CU_RESOURCE_TYPE_ARRAY:
	case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
		object = worker_handle(w, q->at, q->type == CU_RESOURCE_TYPE_ARRAY ? VGPU_H_ARRAY : VGPU_H_MIPMAP);
		if (!object)
			*err = IDM_ERROR_INVALID_HANDLE;
		if (q->type == CU_RESOURCE_TYPE_ARRAY)
			d->res.array.hArray = object;
		else
			d->res.mipmap.hMipmappedArray = object;
		return CUDA_SUCCESS;
	case CU_RESOURCE_TYPE_LINEAR:
		d->res.linear.devPtr = q->at;
		d->res.linear.format = (CUarray_format)q->format;
		d->res.linear.numChannels = q->channels;
		d->res.linear.sizeInBytes = q->width;
		bytes = q->width;
		break;
	case CU_RESOURCE_TYPE_PITCH2D:
		d->res.pitch2D.devPtr = q->at;
		d->res.pitch2D.format = (CUarray_format)q->format;
		d->res.pitch2D.numChannels = q->channels;
		d->res.pitch2D.width = q->width;
		d->res.pitch2D.height = q->height;
		d->res.pitch2D.pitchInBytes = q->pitch;
		/* The last row may end before its pitch does: what counts is its elements, of 16 bytes at most. */
		if (!q->height || __builtin_mul_overflow(q->pitch, q->height - 1, &bytes) ||
		    __builtin_add_overflow(bytes, q->width, &bytes))
			return CUDA_ERROR_INVALID_VALUE;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return address_ok(w, q->at, bytes ? bytes : 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult make(const struct vgpu_tex_create *q, bool surface, const CUDA_RESOURCE_DESC *res,
		     unsigned long long *name)
{
	CUDA_TEXTURE_DESC tex = {
		.filterMode = (CUfilter_mode)q->filter, .flags = q->flags, .maxAnisotropy = q->anisotropy,
		.mipmapFilterMode = (CUfilter_mode)q->mip_filter, .mipmapLevelBias = float_of(q->bias),
		.minMipmapLevelClamp = float_of(q->min_level), .maxMipmapLevelClamp = float_of(q->max_level),
	};
	CUDA_RESOURCE_VIEW_DESC view = {
		.format = (CUresourceViewFormat)q->view_format, .width = q->view_width, .height = q->view_height,
		.depth = q->view_depth, .firstMipmapLevel = q->first_level, .lastMipmapLevel = q->last_level,
		.firstLayer = q->first_layer, .lastLayer = q->last_layer,
	};

	if (surface)
		return D.cuSurfObjectCreate ? D.cuSurfObjectCreate(name, res) : CUDA_ERROR_NOT_SUPPORTED;
	for (unsigned int i = 0; i < 3; i++)
		tex.addressMode[i] = (CUaddress_mode)q->address[i];
	for (unsigned int i = 0; i < 4; i++)
		tex.borderColor[i] = float_of(q->border[i]);
	return D.cuTexObjectCreate ? D.cuTexObjectCreate(name, res, &tex, q->has_view ? &view : NULL) :
				     CUDA_ERROR_NOT_SUPPORTED;
}

void worker_hand_tex_create(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_tex_create *q = m->payload;
	enum vgpu_handle_type type;
	struct vgpu_tex_reply rp = { 0 };
	unsigned long long name = 0;
	CUDA_RESOURCE_DESC res;
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	type = VGPU_HANDLE_TYPE(q->handle) == VGPU_H_SURFOBJ ? VGPU_H_SURFOBJ : VGPU_H_TEXOBJ;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, type);
	if (!err)
		r = resource(w, q, &res, &err);
	if (!err && r == CUDA_SUCCESS)
		r = make(q, type == VGPU_H_SURFOBJ, &res, &name);
	if (!err && r == CUDA_SUCCESS)
		err = worker_handle_add(w, q->handle, type, (void *)(uintptr_t)name);
	rp.name = name;
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_tex_destroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_tex_destroy *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	unsigned long long name;
	struct handle *e;
	bool surface;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	surface = VGPU_HANDLE_TYPE(q->handle) == VGPU_H_SURFOBJ;
	err = worker_enter(w, &q->call);
	if (!err) {
		e = object_find(w, q->handle, surface ? VGPU_H_SURFOBJ : VGPU_H_TEXOBJ);
		if (e) {
			name = (uintptr_t)e->object;
			r = surface ? D.cuSurfObjectDestroy(name) : D.cuTexObjectDestroy(name);
			handle_remove(&w->handles, e);
		} else {
			err = IDM_ERROR_INVALID_HANDLE;
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* --- references ----------------------------------------------------------------------------------------------------- */

void worker_hand_get_texref(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_get_texref *q = m->payload;
	struct vgpu_texref_reply rp = { 0 };
	enum vgpu_handle_type type;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	char name[NAME_MAX_];
	void *module, *ref = NULL;
	struct handle *e;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (q->name_len >= NAME_MAX_ || !payload_ends(m, sizeof(*q), q->name_len)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	memcpy(name, q + 1, q->name_len);
	name[q->name_len] = '\0';
	type = VGPU_HANDLE_TYPE(q->handle) == VGPU_H_SURFREF ? VGPU_H_SURFREF : VGPU_H_TEXREF;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, type);
	if (err)
		goto out;
	module = worker_handle(w, q->module, VGPU_H_MODULE);
	if (!module) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	if (type == VGPU_H_TEXREF && D.cuModuleGetTexRef)
		r = D.cuModuleGetTexRef((CUtexref *)&ref, module, name);
	else if (type == VGPU_H_SURFREF && D.cuModuleGetSurfRef)
		r = D.cuModuleGetSurfRef((CUsurfref *)&ref, module, name);
	if (r != CUDA_SUCCESS)
		goto out;
	rp.handle = worker_handle_of(w, ref, type);
	if (rp.handle)
		goto out;
	rp.handle = q->handle;
	err = worker_handle_add(w, q->handle, type, ref);
	e = err ? NULL : object_find(w, q->handle, type);
	if (e)
		e->parent = q->module;
out:
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

void worker_hand_cuTexRefSetAddress2D_v3(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuTexRefSetAddress2D_v3 *q = m->payload;
	CUDA_ARRAY_DESCRIPTOR d;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	uint64_t bytes;
	void *ref;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	ref = err ? NULL : worker_handle(w, q->hTexRef, VGPU_H_TEXREF);
	if (!err && !ref)
		err = IDM_ERROR_INVALID_HANDLE;
	d = q->desc;
	if (err || !D.cuTexRefSetAddress2D_v3)
		goto out;
	if (!d.Height || __builtin_mul_overflow(q->Pitch, (uint64_t)d.Height - 1, &bytes) ||
	    __builtin_add_overflow(bytes, (uint64_t)d.Width, &bytes) || !address_ok(w, q->dptr, bytes))
		r = CUDA_ERROR_INVALID_VALUE;
	else
		r = D.cuTexRefSetAddress2D_v3(ref, &d, q->dptr, q->Pitch);
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* --- tensor maps ---------------------------------------------------------------------------------------------------- */

static CUresult encode(const struct vgpu_tensor_map *q, CUtensorMap *map)
{
	CUtensorMapDataType type = (CUtensorMapDataType)q->type;
	CUtensorMapInterleave interleave = (CUtensorMapInterleave)q->interleave;
	CUtensorMapSwizzle swizzle = (CUtensorMapSwizzle)q->swizzle;
	CUtensorMapL2promotion promotion = (CUtensorMapL2promotion)q->promotion;
	CUtensorMapFloatOOBfill fill = (CUtensorMapFloatOOBfill)q->fill;
	void *address = (void *)(uintptr_t)q->address;	/* encoded, never followed */

	/* The driver reads as many numbers as the rank says. */
	if (q->kind != VGPU_TENSOR_ADDRESS && (!q->rank || q->rank > 5))
		return CUDA_ERROR_INVALID_VALUE;
	switch (q->kind) {
	case VGPU_TENSOR_TILED:
		return D.cuTensorMapEncodeTiled ? D.cuTensorMapEncodeTiled(map, type, q->rank, address, q->dim, q->stride, q->box,
									   q->step, interleave, swizzle, promotion, fill) :
						  CUDA_ERROR_NOT_SUPPORTED;
	case VGPU_TENSOR_IM2COL:
		return D.cuTensorMapEncodeIm2col ? D.cuTensorMapEncodeIm2col(map, type, q->rank, address, q->dim, q->stride,
									     q->lower, q->upper, q->channels, q->pixels,
									     q->step, interleave, swizzle, promotion, fill) :
						   CUDA_ERROR_NOT_SUPPORTED;
	case VGPU_TENSOR_IM2COL_WIDE:
		return D.cuTensorMapEncodeIm2colWide ?
			D.cuTensorMapEncodeIm2colWide(map, type, q->rank, address, q->dim, q->stride, q->lower[0], q->upper[0],
						      q->channels, q->pixels, q->step, interleave,
						      (CUtensorMapIm2ColWideMode)q->mode, swizzle, promotion, fill) :
			CUDA_ERROR_NOT_SUPPORTED;
	case VGPU_TENSOR_ADDRESS:
		memcpy(map, q->map, sizeof(*map));
		return D.cuTensorMapReplaceAddress ? D.cuTensorMapReplaceAddress(map, address) : CUDA_ERROR_NOT_SUPPORTED;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

void worker_hand_tensor_map(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_tensor_map *q = m->payload;
	struct vgpu_tensor_reply rp = { { 0 } };
	CUtensorMap map = { 0 };
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		r = encode(q, &map);
	memcpy(rp.map, &map, sizeof(map));
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
