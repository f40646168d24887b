// SPDX-License-Identifier: Apache-2.0
/*
 * Texture and surface references: variables of a module (.texref, .surfref) that are bound from outside. The variable
 * holds the name of an object which is made anew with every change.
 */
#include <stdlib.h>
#include <string.h>

#include "array.h"

struct sg_texref {
	struct sg_object object;
	struct sg_ctx *ctx;
	const void *library;	/* NULL: cuTexRefCreate()'s, of no module */
	uint64_t variable;	/* its device address */
	bool surface, bound;
	uint64_t name;
	CUarray_format format;
	int channels;
	CUDA_RESOURCE_DESC res;
	CUDA_TEXTURE_DESC tex;
};

_Static_assert(sizeof(struct sg_texref) <= 512, "sg_texref outgrew its slot");

CUresult sg_module_texture(const void *module, const char *name, uint64_t *address, const void **library);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_texref *check(const void *h, bool surface)
{
	struct sg_texref *r = sg_object_check(&sg_texref_table, h);

	return r && r->surface == surface ? r : NULL;
}

/* What the kernel finds from now on. A binding that makes no texture (yet) is none. */
static void renew(struct sg_texref *r)
{
	sg_queue_sync_ctx(r->ctx);
	if (r->name)
		sg_texture_drop(r->name, r->surface);
	r->name = 0;
	if (r->bound && sg_texture_make(r->ctx, &r->res, r->surface ? NULL : &r->tex, NULL, &r->name))
		r->name = 0;
	if (r->variable)
		memcpy((void *)r->variable, &r->name, sizeof(r->name));
}

static struct sg_texref *ref_new(struct sg_ctx *c, const void *library, uint64_t variable, bool surface)
{
	struct sg_texref *r = sg_object_new(&sg_texref_table);

	if (!r)
		return NULL;
	r->ctx = c;
	r->library = library;
	r->variable = variable;
	r->surface = surface;
	r->format = CU_AD_FORMAT_FLOAT;
	r->channels = 1;
	for (int i = 0; i < 3; i++)
		r->tex.addressMode[i] = CU_TR_ADDRESS_MODE_CLAMP;
	atomic_store_explicit(&r->object.live, sg_texref_table.magic, memory_order_release);
	return r;
}

static void ref_drop(struct sg_texref *r)
{
	if (r->name)
		sg_texture_drop(r->name, r->surface);
	atomic_store(&r->object.live, 0);
	sg_object_put(&sg_texref_table, r);
}

static struct sg_texref *slot(uint32_t i)
{
	return sg_object_check(&sg_texref_table, sg_texref_table.base + (size_t)i * sg_texref_table.size);
}

void sg_texrefs_end(const void *library)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < atomic_load(&sg_texref_table.used); i++) {
		struct sg_texref *r = slot(i);

		if (r && r->library == library)
			ref_drop(r);
	}
	pthread_mutex_unlock(&lock);
}

static CUresult get(const void *module, const char *name, bool surface, void **out)
{
	struct sg_texref *r = NULL;
	const void *library;
	uint64_t variable;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!out || !name)
		return CUDA_ERROR_INVALID_VALUE;
	e = sg_module_texture(module, name, &variable, &library);
	if (e)
		return e;
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < atomic_load(&sg_texref_table.used) && !r; i++) {
		r = slot(i);
		if (r && (r->variable != variable || r->surface != surface))
			r = NULL;
	}
	if (!r)
		r = ref_new(c, library, variable, surface);
	pthread_mutex_unlock(&lock);
	*out = r;
	return r ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuModuleGetTexRef(CUtexref *out, CUmodule module, const char *name)
{
	return get(module, name, false, (void **)out);
}

CUresult cuModuleGetSurfRef(CUsurfref *out, CUmodule module, const char *name)
{
	return get(module, name, true, (void **)out);
}

CUresult cuTexRefCreate(CUtexref *out)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUtexref)ref_new(c, NULL, 0, false);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult enter(const void *h, bool ok, struct sg_texref **r)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	*r = check(h, false);
	return *r && ok ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuTexRefDestroy(CUtexref h)
{
	struct sg_texref *r;
	CUresult e = enter(h, true, &r);

	if (e)
		return e;
	if (r->library)
		return CUDA_ERROR_INVALID_VALUE;	/* it goes with its module */
	ref_drop(r);
	return CUDA_SUCCESS;
}

/* --- what is bound ------------------------------------------------------------------------------------------------- */

static CUresult bind(struct sg_texref *r, const CUDA_RESOURCE_DESC *res)
{
	r->res = *res;
	r->bound = true;
	renew(r);
	return r->name || !r->variable ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static void unbind(struct sg_texref *r)
{
	r->bound = false;
	renew(r);
}

CUresult cuTexRefSetArray(CUtexref h, CUarray array, unsigned int flags)
{
	struct sg_array *a = sg_array_check(array);
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = array };
	struct sg_texref *r;
	CUresult e = enter(h, flags == CU_TRSA_OVERRIDE_FORMAT, &r);

	if (e)
		return e;
	if (!array) {
		unbind(r);
		return CUDA_SUCCESS;
	}
	if (!a)
		return CUDA_ERROR_INVALID_HANDLE;
	r->format = a->desc.Format;
	r->channels = (int)a->desc.NumChannels;
	return bind(r, &res);
}

CUresult cuTexRefSetMipmappedArray(CUtexref h, CUmipmappedArray mipmap, unsigned int flags)
{
	struct sg_mipmap *m = sg_object_check(&sg_mipmap_table, mipmap);
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_MIPMAPPED_ARRAY, .res.mipmap.hMipmappedArray = mipmap };
	struct sg_texref *r;
	CUresult e = enter(h, flags == CU_TRSA_OVERRIDE_FORMAT, &r);

	if (e)
		return e;
	if (!m)
		return CUDA_ERROR_INVALID_HANDLE;
	r->format = m->desc.Format;
	r->channels = (int)m->desc.NumChannels;
	return bind(r, &res);
}

CUresult cuTexRefSetAddress_v2(size_t *offset, CUtexref h, CUdeviceptr dptr, size_t bytes)
{
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_LINEAR };
	struct sg_texref *r;
	CUresult e = enter(h, true, &r);

	if (e)
		return e;
	if (!dptr) {
		unbind(r);
		return CUDA_SUCCESS;
	}
	if (dptr % 512 && !offset)
		return CUDA_ERROR_INVALID_VALUE;
	if (offset)
		*offset = dptr % 512;
	res.res.linear.devPtr = dptr & ~511ull;
	res.res.linear.format = r->format;
	res.res.linear.numChannels = (unsigned int)r->channels;
	res.res.linear.sizeInBytes = bytes + dptr % 512;
	return bind(r, &res);
}

static CUresult set_2d(CUtexref h, const CUDA_ARRAY_DESCRIPTOR *d, CUdeviceptr dptr, size_t pitch)
{
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_PITCH2D };
	struct sg_texref *r;
	CUresult e = enter(h, d, &r);

	if (e)
		return e;
	r->format = d->Format;
	r->channels = (int)d->NumChannels;
	res.res.pitch2D.devPtr = dptr;
	res.res.pitch2D.format = d->Format;
	res.res.pitch2D.numChannels = d->NumChannels;
	res.res.pitch2D.width = d->Width;
	res.res.pitch2D.height = d->Height;
	res.res.pitch2D.pitchInBytes = pitch;
	return bind(r, &res);
}

CUresult cuTexRefSetAddress2D_v2(CUtexref h, const CUDA_ARRAY_DESCRIPTOR *d, CUdeviceptr dptr, size_t pitch)
{
	return set_2d(h, d, dptr, pitch);
}

CUresult cuTexRefSetAddress2D_v3(CUtexref h, const CUDA_ARRAY_DESCRIPTOR *d, CUdeviceptr dptr, size_t pitch)
{
	return set_2d(h, d, dptr, pitch);
}

CUresult cuTexRefGetAddress_v2(CUdeviceptr *out, CUtexref h)
{
	struct sg_texref *r;
	CUresult e = enter(h, out, &r);

	if (e)
		return e;
	if (!r->bound || r->res.resType < CU_RESOURCE_TYPE_LINEAR)
		return CUDA_ERROR_INVALID_VALUE;
	*out = r->res.resType == CU_RESOURCE_TYPE_LINEAR ? r->res.res.linear.devPtr : r->res.res.pitch2D.devPtr;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetArray(CUarray *out, CUtexref h)
{
	struct sg_texref *r;
	CUresult e = enter(h, out, &r);

	if (e)
		return e;
	if (!r->bound || r->res.resType != CU_RESOURCE_TYPE_ARRAY)
		return CUDA_ERROR_INVALID_VALUE;
	*out = r->res.res.array.hArray;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetMipmappedArray(CUmipmappedArray *out, CUtexref h)
{
	struct sg_texref *r;
	CUresult e = enter(h, out, &r);

	if (e)
		return e;
	if (!r->bound || r->res.resType != CU_RESOURCE_TYPE_MIPMAPPED_ARRAY)
		return CUDA_ERROR_INVALID_VALUE;
	*out = r->res.res.mipmap.hMipmappedArray;
	return CUDA_SUCCESS;
}

CUresult cuSurfRefSetArray(CUsurfref h, CUarray array, unsigned int flags)
{
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = array };
	struct sg_texref *r = check(h, true);
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!r || flags)
		return CUDA_ERROR_INVALID_VALUE;
	return sg_array_check(array) ? bind(r, &res) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuSurfRefGetArray(CUarray *out, CUsurfref h)
{
	struct sg_texref *r = check(h, true);
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!out || !r || !r->bound)
		return CUDA_ERROR_INVALID_VALUE;
	*out = r->res.res.array.hArray;
	return CUDA_SUCCESS;
}

/* --- how it is read ------------------------------------------------------------------------------------------------ */

#define SET(name, params, ok, action)					\
CUresult cuTexRefSet##name params					\
{									\
	struct sg_texref *r;						\
	CUresult e = enter(h, ok, &r);					\
									\
	if (e)								\
		return e;						\
	action;								\
	renew(r);							\
	return CUDA_SUCCESS;						\
}

#define GET(name, params, ok, action)					\
CUresult cuTexRefGet##name params					\
{									\
	struct sg_texref *r;						\
	CUresult e = enter(h, ok, &r);					\
									\
	if (e)								\
		return e;						\
	action;								\
	return CUDA_SUCCESS;						\
}

static bool is_format(CUarray_format format, int channels)
{
	enum texel_format texel;
	unsigned int size, real;

	return channels > 0 && sg_format(format, channels, &texel, &size, &real);
}

SET(Format, (CUtexref h, CUarray_format format, int channels), is_format(format, channels),
    (r->format = format, r->channels = channels))
SET(AddressMode, (CUtexref h, int dim, CUaddress_mode mode), dim >= 0 && dim < 3 && mode <= CU_TR_ADDRESS_MODE_BORDER,
    r->tex.addressMode[dim] = mode)
SET(FilterMode, (CUtexref h, CUfilter_mode mode), mode <= CU_TR_FILTER_MODE_LINEAR, r->tex.filterMode = mode)
SET(MipmapFilterMode, (CUtexref h, CUfilter_mode mode), mode <= CU_TR_FILTER_MODE_LINEAR, r->tex.mipmapFilterMode = mode)
SET(MipmapLevelBias, (CUtexref h, float bias), true, r->tex.mipmapLevelBias = bias)
SET(MipmapLevelClamp, (CUtexref h, float min, float max), min <= max,
    (r->tex.minMipmapLevelClamp = min, r->tex.maxMipmapLevelClamp = max))
SET(MaxAnisotropy, (CUtexref h, unsigned int most), most <= 16, r->tex.maxAnisotropy = most)
SET(BorderColor, (CUtexref h, float *color), color, memcpy(r->tex.borderColor, color, sizeof(r->tex.borderColor)))
SET(Flags, (CUtexref h, unsigned int flags),
    !(flags & ~(CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_SRGB |
		CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION)), r->tex.flags = flags)

GET(AddressMode, (CUaddress_mode *mode, CUtexref h, int dim), mode && dim >= 0 && dim < 3, *mode = r->tex.addressMode[dim])
GET(FilterMode, (CUfilter_mode *mode, CUtexref h), mode, *mode = r->tex.filterMode)
GET(Format, (CUarray_format *format, int *channels, CUtexref h), format && channels,
    (*format = r->format, *channels = r->channels))
GET(MipmapFilterMode, (CUfilter_mode *mode, CUtexref h), mode, *mode = r->tex.mipmapFilterMode)
GET(MipmapLevelBias, (float *bias, CUtexref h), bias, *bias = r->tex.mipmapLevelBias)
GET(MipmapLevelClamp, (float *min, float *max, CUtexref h), min && max,
    (*min = r->tex.minMipmapLevelClamp, *max = r->tex.maxMipmapLevelClamp))
GET(MaxAnisotropy, (int *most, CUtexref h), most, *most = (int)r->tex.maxAnisotropy)
GET(BorderColor, (float *color, CUtexref h), color, memcpy(color, r->tex.borderColor, sizeof(r->tex.borderColor)))
GET(Flags, (unsigned int *flags, CUtexref h), flags, *flags = r->tex.flags)
