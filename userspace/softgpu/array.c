// SPDX-License-Identifier: Apache-2.0
/* Creating, describing and destroying arrays. */
#include <string.h>

#include "array.h"

#define FLAGS	(CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP | CUDA_ARRAY3D_TEXTURE_GATHER | \
		 CUDA_ARRAY3D_DEPTH_TEXTURE | CUDA_ARRAY3D_COLOR_ATTACHMENT)
#define LATER	(CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_VIDEO_ENCODE_DECODE)

bool sg_format(CUarray_format f, unsigned int channels, enum texel_format *format, unsigned int *size,
	       unsigned int *real_channels)
{
	*real_channels = channels;
	switch (f) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_UNSIGNED_INT32:
		*format = TEXEL_UINT;
		*size = 1u << (f - CU_AD_FORMAT_UNSIGNED_INT8);
		break;
	case CU_AD_FORMAT_SIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT32:
		*format = TEXEL_SINT;
		*size = 1u << (f - CU_AD_FORMAT_SIGNED_INT8);
		break;
	case CU_AD_FORMAT_HALF:
	case CU_AD_FORMAT_FLOAT:
		*format = TEXEL_FLOAT;
		*size = f == CU_AD_FORMAT_HALF ? 2 : 4;
		break;
	default:
		/* The normalised ones carry their number of channels: 1, 2, 4 of 8 bits and then of 16. */
		if (f < CU_AD_FORMAT_UNORM_INT8X1 || f > CU_AD_FORMAT_SNORM_INT16X4)
			return false;
		*format = f < CU_AD_FORMAT_SNORM_INT8X1 ? TEXEL_UNORM : TEXEL_SNORM;
		*size = (f - CU_AD_FORMAT_UNORM_INT8X1) % 6 < 3 ? 1 : 2;
		*real_channels = 1u << (f - CU_AD_FORMAT_UNORM_INT8X1) % 3;
		return channels == *real_channels;
	}
	return channels == 1 || channels == 2 || channels == 4;
}

static bool at_most(const CUDA_ARRAY3D_DESCRIPTOR *d, size_t w, size_t h, size_t depth)
{
	return d->Width <= w && d->Height <= h && d->Depth <= depth;
}

static CUresult check(const CUDA_ARRAY3D_DESCRIPTOR *d, uint32_t *element)
{
	bool layered = d->Flags & CUDA_ARRAY3D_LAYERED, cube = d->Flags & CUDA_ARRAY3D_CUBEMAP, fits;
	enum texel_format format;
	unsigned int size, channels;

	if (d->Flags & LATER)
		return CUDA_ERROR_NOT_SUPPORTED;	/* as the device's attributes say */
	if (d->Flags & ~FLAGS || !d->Width)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sg_format(d->Format, d->NumChannels, &format, &size, &channels))
		return d->Format > CU_AD_FORMAT_FLOAT ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
	*element = size * channels;
	if (cube) {
		if (d->Width != d->Height || (layered ? !d->Depth || d->Depth % 6 : d->Depth != 6))
			return CUDA_ERROR_INVALID_VALUE;
		fits = at_most(d, 32768, 32768, layered ? 2046 : 6);
	} else if (layered) {
		if (!d->Depth)
			return CUDA_ERROR_INVALID_VALUE;
		fits = at_most(d, 32768, 32768, 2048);
	} else if (d->Depth) {
		if (!d->Height)
			return CUDA_ERROR_INVALID_VALUE;
		fits = at_most(d, 16384, 16384, 16384);
	} else {
		fits = at_most(d, 131072, d->Flags & CUDA_ARRAY3D_TEXTURE_GATHER ? 32768 : 65536, 0);
	}
	if (d->Flags & CUDA_ARRAY3D_TEXTURE_GATHER && (!d->Height || d->Depth))
		return CUDA_ERROR_INVALID_VALUE;
	return fits ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static size_t or_one(size_t n)
{
	return n ? n : 1;
}

static size_t bytes_of(const CUDA_ARRAY3D_DESCRIPTOR *d, uint32_t element)
{
	return or_one(d->Width) * element * or_one(d->Height) * or_one(d->Depth);
}

static struct sg_array *array_new(struct sg_ctx *c, const CUDA_ARRAY3D_DESCRIPTOR *d, uint32_t element, uint64_t base,
				  struct sg_mipmap *mipmap)
{
	struct sg_array *a = sg_object_new(&sg_array_table);

	if (!a)
		return NULL;
	a->ctx = c;
	a->desc = *d;
	a->base = base;
	a->element = element;
	a->pitch = d->Width * element;
	a->slice = a->pitch * or_one(d->Height);
	a->mipmap = mipmap;
	atomic_store_explicit(&a->object.live, sg_array_table.magic, memory_order_release);
	return a;
}

static void array_free(struct sg_array *a)
{
	atomic_store(&a->object.live, 0);
	if (!a->mipmap)
		sg_heap_free(a->base);
	sg_object_put(&sg_array_table, a);
}

void sg_array_level(const struct sg_array *a, struct texture_level *l)
{
	bool layers = a->desc.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);

	*l = (struct texture_level){ .base = a->base, .pitch = a->pitch, .slice = a->slice,
				     .size = { (uint32_t)a->desc.Width, (uint32_t)or_one(a->desc.Height),
					       layers ? 1 : (uint32_t)or_one(a->desc.Depth) } };
}

CUresult cuArray3DCreate_v2(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	struct sg_array *a;
	struct sg_ctx *c;
	uint32_t element;
	uint64_t base;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!out || !desc)
		return CUDA_ERROR_INVALID_VALUE;
	e = check(desc, &element);
	if (e)
		return e;
	/* No context: it is no allocation that cuMemFree() may touch. */
	base = sg_heap_alloc_on(c->device, NULL, bytes_of(desc, element), 512, SG_ALLOC_WRITTEN);
	if (!base)
		return CUDA_ERROR_OUT_OF_MEMORY;
	a = array_new(c, desc, element, base, NULL);
	if (!a) {
		sg_heap_free(base);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*out = (CUarray)a;
	return CUDA_SUCCESS;
}

CUresult cuArrayCreate_v2(CUarray *out, const CUDA_ARRAY_DESCRIPTOR *desc)
{
	CUDA_ARRAY3D_DESCRIPTOR d;

	if (!desc)
		return sg_devices ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_INITIALIZED;
	d = (CUDA_ARRAY3D_DESCRIPTOR){ .Width = desc->Width, .Height = desc->Height, .Format = desc->Format,
				       .NumChannels = desc->NumChannels };
	return cuArray3DCreate_v2(out, &d);
}

static CUresult enter(const void *h, const void *arg, struct sg_array **a)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	*a = sg_array_check(h);
	if (!*a)
		return CUDA_ERROR_INVALID_HANDLE;
	return arg ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *desc, CUarray array)
{
	struct sg_array *a;
	CUresult e = enter(array, desc, &a);

	if (!e)
		*desc = a->desc;
	return e;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *desc, CUarray array)
{
	struct sg_array *a;
	CUresult e = enter(array, desc, &a);

	if (!e)
		*desc = (CUDA_ARRAY_DESCRIPTOR){ a->desc.Width, a->desc.Height, a->desc.Format, a->desc.NumChannels };
	return e;
}

CUresult cuArrayDestroy(CUarray array)
{
	struct sg_array *a;
	CUresult e = enter(array, array, &a);

	if (e)
		return e;
	if (a->mipmap)
		return CUDA_ERROR_INVALID_HANDLE;
	sg_queue_sync_ctx(a->ctx);
	array_free(a);
	return CUDA_SUCCESS;
}

/* None has several planes, none is sparse or waits for its memory. */
CUresult cuArrayGetPlane(CUarray *plane, CUarray array, unsigned int index)
{
	struct sg_array *a;
	CUresult e = enter(array, plane, &a);

	return e ? e : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *p, CUarray array)
{
	struct sg_array *a;
	CUresult e = enter(array, p, &a);

	return e ? e : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *r, CUarray array, CUdevice device)
{
	struct sg_array *a;
	CUresult e = enter(array, r, &a);

	return e ? e : CUDA_ERROR_INVALID_VALUE;
}

/* --- mipmaps ------------------------------------------------------------------------------------------------------- */

static size_t half(size_t n)
{
	return n > 1 ? n / 2 : n;
}

static CUDA_ARRAY3D_DESCRIPTOR smaller(CUDA_ARRAY3D_DESCRIPTOR d)
{
	d.Width = half(d.Width);
	d.Height = half(d.Height);
	if (!(d.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)))
		d.Depth = half(d.Depth);
	return d;
}

static void mipmap_free(struct sg_mipmap *m)
{
	atomic_store(&m->object.live, 0);
	for (unsigned int i = 0; i < m->nlevels; i++)
		if (m->level[i])
			array_free(m->level[i]);
	sg_heap_free(m->base);
	sg_object_put(&sg_mipmap_table, m);
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned int levels)
{
	CUDA_ARRAY3D_DESCRIPTOR d;
	struct sg_mipmap *m;
	struct sg_ctx *c;
	size_t bytes = 0, at = 0, most;
	unsigned int max = 1;
	uint32_t element;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!out || !desc)
		return CUDA_ERROR_INVALID_VALUE;
	e = check(desc, &element);
	if (e)
		return e;
	most = desc->Width > desc->Height ? desc->Width : desc->Height;
	if (!(desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) && desc->Depth > most)
		most = desc->Depth;
	while (most >>= 1)
		max++;
	levels = levels < 1 ? 1 : levels > max ? max : levels;
	d = *desc;
	for (unsigned int i = 0; i < levels; i++, d = smaller(d))
		bytes += (bytes_of(&d, element) + 511) & ~(size_t)511;
	m = sg_object_new(&sg_mipmap_table);
	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	m->ctx = c;
	m->desc = *desc;
	m->base = sg_heap_alloc_on(c->device, NULL, bytes, 512, SG_ALLOC_WRITTEN);
	if (!m->base) {
		sg_object_put(&sg_mipmap_table, m);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	d = *desc;
	for (; m->nlevels < levels; m->nlevels++, d = smaller(d)) {
		m->level[m->nlevels] = array_new(c, &d, element, m->base + at, m);
		if (!m->level[m->nlevels]) {
			mipmap_free(m);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
		at += (bytes_of(&d, element) + 511) & ~(size_t)511;
	}
	atomic_store_explicit(&m->object.live, sg_mipmap_table.magic, memory_order_release);
	*out = (CUmipmappedArray)m;
	return CUDA_SUCCESS;
}

static CUresult enter_mipmap(const void *h, const void *arg, struct sg_mipmap **m)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	*m = sg_object_check(&sg_mipmap_table, h);
	if (!*m)
		return CUDA_ERROR_INVALID_HANDLE;
	return arg ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMipmappedArrayGetLevel(CUarray *out, CUmipmappedArray mipmap, unsigned int level)
{
	struct sg_mipmap *m;
	CUresult e = enter_mipmap(mipmap, out, &m);

	if (e)
		return e;
	if (level >= m->nlevels)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUarray)m->level[level];
	return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray mipmap)
{
	struct sg_mipmap *m;
	CUresult e = enter_mipmap(mipmap, mipmap, &m);

	if (e)
		return e;
	sg_queue_sync_ctx(m->ctx);
	mipmap_free(m);
	return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *p, CUmipmappedArray mipmap)
{
	struct sg_mipmap *m;
	CUresult e = enter_mipmap(mipmap, p, &m);

	return e ? e : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *r, CUmipmappedArray mipmap, CUdevice device)
{
	struct sg_mipmap *m;
	CUresult e = enter_mipmap(mipmap, r, &m);

	return e ? e : CUDA_ERROR_INVALID_VALUE;
}

void sg_arrays_end_ctx(struct sg_ctx *c)
{
	uint32_t n = atomic_load(&sg_mipmap_table.used);

	for (uint32_t i = 0; i < n; i++) {
		struct sg_mipmap *m = sg_object_check(&sg_mipmap_table, sg_mipmap_table.base + (size_t)i * sg_mipmap_table.size);

		if (m && m->ctx == c)
			mipmap_free(m);
	}
	n = atomic_load(&sg_array_table.used);
	for (uint32_t i = 0; i < n; i++) {
		struct sg_array *a = sg_array_check(sg_array_table.base + (size_t)i * sg_array_table.size);

		if (a && a->ctx == c && !a->mipmap)
			array_free(a);
	}
}
