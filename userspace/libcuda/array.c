// SPDX-License-Identifier: Apache-2.0
/* Arrays and mipmapped arrays: their descriptions are kept, so that mistakes are told at once. */
#include <pthread.h>
#include <stdlib.h>

#include "array.h"
#include "shim_gen.h"

/* struct array - behind an object of type VGPU_H_ARRAY or VGPU_H_MIPMAP. In the list of all of them. */
struct array {
	struct object *object;
	CUDA_ARRAY3D_DESCRIPTOR desc;
	unsigned int levels;
	struct object *whole;		/* it is a level or plane of that one */
	unsigned int index;
	struct array *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct array *arrays;

static struct array *array_of(const void *h, enum vgpu_handle_type type)
{
	struct object *o = object_get(h, type);

	return o ? o->array : NULL;
}

static size_t element(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
	switch (d->Format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return d->NumChannels;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2 * (size_t)d->NumChannels;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4 * (size_t)d->NumChannels;
	default:
		if (d->Format >= CU_AD_FORMAT_UNORM_INT8X1 && d->Format <= CU_AD_FORMAT_SNORM_INT16X4)
			return ((d->Format - CU_AD_FORMAT_UNORM_INT8X1) % 6 < 3 ? 1u : 2u)
			       << (d->Format - CU_AD_FORMAT_UNORM_INT8X1) % 3;
		return 1;	/* planes and compressed blocks: the driver knows better */
	}
}

size_t array_element(CUarray array)
{
	struct array *a = array_of(array, VGPU_H_ARRAY);

	return a ? element(&a->desc) : 0;
}

bool array_holds(CUarray array, size_t x, size_t y, size_t z, size_t width, size_t height, size_t depth)
{
	struct array *a = array_of(array, VGPU_H_ARRAY);
	size_t row, h, d;

	if (a->desc.Format > CU_AD_FORMAT_FLOAT)
		return true;
	row = a->desc.Width * element(&a->desc);
	h = a->desc.Height ? a->desc.Height : 1;
	d = a->desc.Depth ? a->desc.Depth : 1;
	return x <= row && width <= row - x && y <= h && height <= h - y && z <= d && depth <= d - z;
}

/* Attach the description to a new object. */
static CUresult note(struct object *o, const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels, struct object *whole,
		     unsigned int index)
{
	struct array *a = malloc(sizeof(*a));

	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*a = (struct array){ o, *d, levels, whole, index, NULL };
	o->ctx = context_current(thread_self());
	o->array = a;
	pthread_mutex_lock(&lock);
	a->next = arrays;
	arrays = a;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* Forget the object itself, the parts of it, or all of a context: whatever is given. */
static void forget(const struct object *object, const struct object *whole, const struct object *ctx)
{
	struct array **p, *a;

	pthread_mutex_lock(&lock);
	for (p = &arrays; (a = *p);) {
		if (a->object != object && (!whole || a->whole != whole) && (!ctx || a->object->ctx != ctx)) {
			p = &a->next;
			continue;
		}
		*p = a->next;
		object_delete(a->object);
		free(a);
	}
	pthread_mutex_unlock(&lock);
}

void array_forget(const struct object *ctx)
{
	forget(NULL, NULL, ctx);
}

VGPU_EXPORT CUresult CUDAAPI cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray)
{
	CUresult r = call_cuArray3DCreate_v2(pHandle, pAllocateArray);

	return r == CUDA_SUCCESS ? note((struct object *)*pHandle, pAllocateArray, 1, NULL, 0) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray)
{
	CUresult r = call_cuArrayCreate_v2(pHandle, pAllocateArray);
	CUDA_ARRAY3D_DESCRIPTOR d;

	if (r != CUDA_SUCCESS)
		return r;
	d = (CUDA_ARRAY3D_DESCRIPTOR){ .Width = pAllocateArray->Width, .Height = pAllocateArray->Height,
				       .Format = pAllocateArray->Format, .NumChannels = pAllocateArray->NumChannels };
	return note((struct object *)*pHandle, &d, 1, NULL, 0);
}

VGPU_EXPORT CUresult CUDAAPI cuMipmappedArrayCreate(CUmipmappedArray *pHandle,
						    const CUDA_ARRAY3D_DESCRIPTOR *pMipmappedArrayDesc,
						    unsigned int numMipmapLevels)
{
	CUresult r = call_cuMipmappedArrayCreate(pHandle, pMipmappedArrayDesc, numMipmapLevels);

	return r == CUDA_SUCCESS ? note((struct object *)*pHandle, pMipmappedArrayDesc, numMipmapLevels, NULL, 0) : r;
}

/* Asked for again a part is the same one. */
static struct object *known_part(const struct object *whole, unsigned int index)
{
	struct object *found = NULL;

	pthread_mutex_lock(&lock);
	for (struct array *a = arrays; a && !found; a = a->next)
		if (a->whole == whole && a->index == index)
			found = a->object;
	pthread_mutex_unlock(&lock);
	return found;
}

static size_t shrunk(size_t n, unsigned int level)
{
	return n && level < 64 && n >> level ? n >> level : n ? 1 : 0;
}

VGPU_EXPORT CUresult CUDAAPI cuMipmappedArrayGetLevel(CUarray *pLevelArray, CUmipmappedArray hMipmappedArray,
						      unsigned int level)
{
	struct array *m = array_of(hMipmappedArray, VGPU_H_MIPMAP);
	CUDA_ARRAY3D_DESCRIPTOR d;
	struct object *known;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!m)
		return CUDA_ERROR_INVALID_HANDLE;
	known = pLevelArray ? known_part(m->object, level) : NULL;
	if (known) {
		*pLevelArray = (CUarray)known;
		return CUDA_SUCCESS;
	}
	r = call_cuMipmappedArrayGetLevel(pLevelArray, hMipmappedArray, level);
	if (r != CUDA_SUCCESS)
		return r;
	d = m->desc;
	d.Width = shrunk(d.Width, level);
	d.Height = shrunk(d.Height, level);
	if (!(d.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)))
		d.Depth = shrunk(d.Depth, level);
	return note((struct object *)*pLevelArray, &d, 1, m->object, level);
}

VGPU_EXPORT CUresult CUDAAPI cuArrayGetPlane(CUarray *pPlaneArray, CUarray hArray, unsigned int planeIdx)
{
	struct array *a = array_of(hArray, VGPU_H_ARRAY);
	struct object *known = a && pPlaneArray ? known_part(a->object, planeIdx) : NULL;
	CUDA_ARRAY3D_DESCRIPTOR d;
	CUresult r;

	if (known) {
		*pPlaneArray = (CUarray)known;
		return CUDA_SUCCESS;
	}
	r = call_cuArrayGetPlane(pPlaneArray, hArray, planeIdx);
	if (r != CUDA_SUCCESS)
		return r;
	d = a->desc;
	return note((struct object *)*pPlaneArray, &d, 1, a->object, planeIdx);
}

/* Waited for: an array that the driver keeps is one for both sides still, and so are its parts. */
static CUresult destroy(void *h, enum vgpu_handle_type type)
{
	struct array *a = array_of(h, type);
	struct vgpu_call call;
	CUresult r = call_begin(&call, true);

	if (r != CUDA_SUCCESS)
		return r;
	if (!a || a->whole)
		return CUDA_ERROR_INVALID_HANDLE;
	r = type == VGPU_H_ARRAY ? call_cuArrayDestroy(h) : call_cuMipmappedArrayDestroy(h);
	if (r == CUDA_SUCCESS)
		forget(h, h, NULL);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuArrayDestroy(CUarray hArray)
{
	return destroy(hArray, VGPU_H_ARRAY);
}

VGPU_EXPORT CUresult CUDAAPI cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray)
{
	return destroy(hMipmappedArray, VGPU_H_MIPMAP);
}
