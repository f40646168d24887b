/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays and mipmapped arrays: memory with dimensions, laid out row by row. */
#ifndef SOFTGPU_ARRAY_H
#define SOFTGPU_ARRAY_H

#include "ptx/texture.h"
#include "softgpu.h"

/**
 * struct sg_array - a CUarray. One that is a level of a mipmap ends with it. Textures hold no reference: as on a GPU,
 * using one after its array is the program's mistake, and shows it memory of its own process at worst.
 */
struct sg_array {
	struct sg_object object;
	struct sg_ctx *ctx;
	CUDA_ARRAY3D_DESCRIPTOR desc;
	uint64_t base;
	size_t pitch, slice;
	uint32_t element;	/* bytes */
	struct sg_mipmap *mipmap;
};

struct sg_mipmap {
	struct sg_object object;
	struct sg_ctx *ctx;
	CUDA_ARRAY3D_DESCRIPTOR desc;
	uint64_t base;
	unsigned int nlevels;
	struct sg_array *level[TEXTURE_LEVELS];
};

extern struct sg_table sg_array_table, sg_mipmap_table, sg_texture_table, sg_texref_table;

/** A format as textures see it. @return false if there is no such format, or none of @channels channels. */
bool sg_format(CUarray_format f, unsigned int channels, enum texel_format *format, unsigned int *size,
	       unsigned int *real_channels);

static inline struct sg_array *sg_array_check(const void *h)
{
	return sg_object_check(&sg_array_table, h);
}

/** Level @l of @t, or its only one, is @a. */
void sg_array_level(const struct sg_array *a, struct texture_level *l);

/** Make and drop a texture or surface object; its name. @view may be NULL, @tex NULL for a surface. */
CUresult sg_texture_make(struct sg_ctx *c, const CUDA_RESOURCE_DESC *res, const CUDA_TEXTURE_DESC *tex,
			 const CUDA_RESOURCE_VIEW_DESC *view, uint64_t *name);
bool sg_texture_drop(uint64_t name, bool surface);

/** A context ends. */
void sg_arrays_end_ctx(struct sg_ctx *c);
void sg_textures_end_ctx(struct sg_ctx *c);
void sg_texrefs_end(const void *library);

#endif /* SOFTGPU_ARRAY_H */
