// SPDX-License-Identifier: Apache-2.0
/*
 * Texture and surface objects. A program holds the driver's own name of one, since it passes it to kernels; that name is
 * unique in its context only. What describes an object stays here. And references of modules.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "memory.h"
#include "module.h"
#include "shim_gen.h"

#define BUCKETS 256u

struct texture {
	uint64_t name;
	struct object *object;		/* VGPU_H_TEXOBJ or VGPU_H_SURFOBJ */
	bool has_view;
	CUDA_RESOURCE_DESC res;
	CUDA_TEXTURE_DESC tex;
	CUDA_RESOURCE_VIEW_DESC view;
	struct texture *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct texture *textures[BUCKETS];

static struct texture **bucket(uint64_t name)
{
	return &textures[(name * 0x9e3779b97f4a7c15ull) >> 56 & (BUCKETS - 1)];
}

/* Under the lock. */
static struct texture **find(uint64_t name, enum vgpu_handle_type type, const struct object *ctx)
{
	struct texture **p = bucket(name), *t;

	for (; (t = *p); p = &t->next)
		if (t->name == name && t->object->type == type && t->object->ctx == ctx)
			return p;
	return NULL;
}

static CUresult begin(struct vgpu_call *call)
{
	return call_begin(call, true);
}

static uint32_t bits(float f)
{
	return (uint32_t)float_bits(f);
}

/* The resource, checked as far as it can be here. */
static CUresult describe(struct vgpu_tex_create *rq, const CUDA_RESOURCE_DESC *d)
{
	rq->type = d->resType;
	if (d->flags)
		return CUDA_ERROR_INVALID_VALUE;
	switch (d->resType) {
	case CU_RESOURCE_TYPE_ARRAY:
		rq->at = object_handle(d->res.array.hArray, VGPU_H_ARRAY);
		return rq->at ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
	case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
		rq->at = object_handle(d->res.mipmap.hMipmappedArray, VGPU_H_MIPMAP);
		return rq->at ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
	case CU_RESOURCE_TYPE_LINEAR:
		rq->at = d->res.linear.devPtr;
		rq->format = d->res.linear.format;
		rq->channels = d->res.linear.numChannels;
		rq->width = d->res.linear.sizeInBytes;
		return memory_on_device(rq->at, rq->width) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_RESOURCE_TYPE_PITCH2D:
		rq->at = d->res.pitch2D.devPtr;
		rq->format = d->res.pitch2D.format;
		rq->channels = d->res.pitch2D.numChannels;
		rq->width = d->res.pitch2D.width;
		rq->height = d->res.pitch2D.height;
		rq->pitch = d->res.pitch2D.pitchInBytes;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult create(unsigned long long *out, enum vgpu_handle_type type, const CUDA_RESOURCE_DESC *res,
		       const CUDA_TEXTURE_DESC *tex, const CUDA_RESOURCE_VIEW_DESC *view)
{
	struct vgpu_tex_create rq = { .has_view = view != NULL };
	struct vgpu_tex_reply rp;
	CUresult r = begin(&rq.call);
	struct texture *t;

	if (r != CUDA_SUCCESS)
		return r;
	if (!out || !res || (type == VGPU_H_TEXOBJ && !tex) ||
	    (type == VGPU_H_SURFOBJ && res->resType != CU_RESOURCE_TYPE_ARRAY))
		return CUDA_ERROR_INVALID_VALUE;
	r = describe(&rq, res);
	if (r != CUDA_SUCCESS)
		return r;
	t = calloc(1, sizeof(*t));
	if (!t)
		return CUDA_ERROR_OUT_OF_MEMORY;
	t->res = *res;
	if (tex) {
		t->tex = *tex;
		for (unsigned int i = 0; i < 3; i++)
			rq.address[i] = tex->addressMode[i];
		for (unsigned int i = 0; i < 4; i++)
			rq.border[i] = bits(tex->borderColor[i]);
		rq.filter = tex->filterMode;
		rq.flags = tex->flags;
		rq.anisotropy = tex->maxAnisotropy;
		rq.mip_filter = tex->mipmapFilterMode;
		rq.bias = bits(tex->mipmapLevelBias);
		rq.min_level = bits(tex->minMipmapLevelClamp);
		rq.max_level = bits(tex->maxMipmapLevelClamp);
	}
	if (view) {
		t->has_view = true;
		t->view = *view;
		rq.view_format = view->format;
		rq.view_width = view->width;
		rq.view_height = view->height;
		rq.view_depth = view->depth;
		rq.first_level = view->firstMipmapLevel;
		rq.last_level = view->lastMipmapLevel;
		rq.first_layer = view->firstLayer;
		rq.last_layer = view->lastLayer;
	}
	t->object = object_new(type);
	if (!t->object) {
		free(t);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	rq.handle = t->object->wire;
	r = call_reply(VGPU_MSG_cuTexObjectCreate, &rq, sizeof(rq), &rp, sizeof(rp));
	if (r != CUDA_SUCCESS) {
		object_delete(t->object);
		free(t);
		return r;
	}
	t->name = rp.name;
	t->object->ctx = context_current(thread_self());
	pthread_mutex_lock(&lock);
	t->next = *bucket(t->name);
	*bucket(t->name) = t;
	pthread_mutex_unlock(&lock);
	*out = rp.name;
	return CUDA_SUCCESS;
}

static CUresult destroy(uint64_t name, enum vgpu_handle_type type)
{
	struct vgpu_tex_destroy rq;
	CUresult r = begin(&rq.call);
	struct texture **p, *t = NULL;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	p = find(name, type, context_current(thread_self()));
	if (p) {
		t = *p;
		*p = t->next;
	}
	pthread_mutex_unlock(&lock);
	if (!t)
		return CUDA_ERROR_INVALID_VALUE;
	rq.handle = t->object->wire;
	r = call_post(VGPU_MSG_cuTexObjectDestroy, &rq, sizeof(rq));
	object_delete(t->object);
	free(t);
	return r;
}

void texture_forget(const struct object *ctx)
{
	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < BUCKETS; i++) {
		struct texture **p = &textures[i], *t;

		while ((t = *p)) {
			if (t->object->ctx != ctx) {
				p = &t->next;
				continue;
			}
			*p = t->next;
			object_delete(t->object);
			free(t);
		}
	}
	pthread_mutex_unlock(&lock);
}

VGPU_EXPORT CUresult CUDAAPI cuTexObjectCreate(CUtexObject *pTexObject, const CUDA_RESOURCE_DESC *pResDesc,
					       const CUDA_TEXTURE_DESC *pTexDesc,
					       const CUDA_RESOURCE_VIEW_DESC *pResViewDesc)
{
	return create(pTexObject, VGPU_H_TEXOBJ, pResDesc, pTexDesc, pResViewDesc);
}

VGPU_EXPORT CUresult CUDAAPI cuSurfObjectCreate(CUsurfObject *pSurfObject, const CUDA_RESOURCE_DESC *pResDesc)
{
	return create(pSurfObject, VGPU_H_SURFOBJ, pResDesc, NULL, NULL);
}

VGPU_EXPORT CUresult CUDAAPI cuTexObjectDestroy(CUtexObject texObject)
{
	return destroy(texObject, VGPU_H_TEXOBJ);
}

VGPU_EXPORT CUresult CUDAAPI cuSurfObjectDestroy(CUsurfObject surfObject)
{
	return destroy(surfObject, VGPU_H_SURFOBJ);
}

/* A copy of what describes object @name. */
static CUresult lookup(uint64_t name, enum vgpu_handle_type type, const void *out, struct texture *copy)
{
	struct vgpu_call call;
	CUresult r = begin(&call);
	struct texture **p;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	p = out ? find(name, type, context_current(thread_self())) : NULL;
	if (p)
		*copy = **p;
	pthread_mutex_unlock(&lock);
	return p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

VGPU_EXPORT CUresult CUDAAPI cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUtexObject texObject)
{
	struct texture t;
	CUresult r = lookup(texObject, VGPU_H_TEXOBJ, pResDesc, &t);

	if (r == CUDA_SUCCESS)
		*pResDesc = t.res;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUsurfObject surfObject)
{
	struct texture t;
	CUresult r = lookup(surfObject, VGPU_H_SURFOBJ, pResDesc, &t);

	if (r == CUDA_SUCCESS)
		*pResDesc = t.res;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *pTexDesc, CUtexObject texObject)
{
	struct texture t;
	CUresult r = lookup(texObject, VGPU_H_TEXOBJ, pTexDesc, &t);

	if (r == CUDA_SUCCESS)
		*pTexDesc = t.tex;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *pResViewDesc, CUtexObject texObject)
{
	struct texture t;
	CUresult r = lookup(texObject, VGPU_H_TEXOBJ, pResViewDesc, &t);

	if (r != CUDA_SUCCESS)
		return r;
	if (!t.has_view)
		return CUDA_ERROR_INVALID_VALUE;
	*pResViewDesc = t.view;
	return CUDA_SUCCESS;
}

/* --- references --- */

static CUresult reference(void **out, enum vgpu_handle_type type, CUmodule module, const char *name)
{
	struct vgpu_get_texref rq = { .module = object_handle(module, VGPU_H_MODULE) };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { (void *)name, 0 } };
	struct vgpu_texref_reply rp;
	CUresult r = begin(&rq.call);
	struct object *o;
	size_t len = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (!out || !name)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_ready(object_get(module, VGPU_H_MODULE));
	if (r != CUDA_SUCCESS)
		return r;
	o = object_new(type);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = o->wire;
	iov[1].iov_len = rq.name_len = strlen(name);
	r = call_replyv(VGPU_MSG_cuModuleGetTexRef, iov, 2, &rp, sizeof(rp), &len);
	if (r == CUDA_SUCCESS && (len != sizeof(rp) || !object_by_handle(rp.handle)))
		r = CUDA_ERROR_UNKNOWN;
	if (r != CUDA_SUCCESS || rp.handle != o->wire) {
		object_delete(o);
		if (r == CUDA_SUCCESS)
			*out = object_by_handle(rp.handle);
		return r;
	}
	module_adopt((struct object *)module, o, context_current(thread_self()));
	*out = o;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleGetTexRef(CUtexref *pTexRef, CUmodule hmod, const char *name)
{
	return reference((void **)pTexRef, VGPU_H_TEXREF, hmod, name);
}

VGPU_EXPORT CUresult CUDAAPI cuModuleGetSurfRef(CUsurfref *pSurfRef, CUmodule hmod, const char *name)
{
	return reference((void **)pSurfRef, VGPU_H_SURFREF, hmod, name);
}

VGPU_EXPORT CUresult CUDAAPI cuTexRefSetAddress2D_v2(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR *desc, CUdeviceptr dptr,
						     size_t Pitch)
{
	return cuTexRefSetAddress2D_v3(hTexRef, desc, dptr, Pitch);
}

/* One of a module goes with its module. */
VGPU_EXPORT CUresult CUDAAPI cuTexRefDestroy(CUtexref hTexRef)
{
	struct object *o = object_get(hTexRef, VGPU_H_TEXREF);

	return o && o->parent ? CUDA_ERROR_INVALID_VALUE : call_cuTexRefDestroy(hTexRef);
}
