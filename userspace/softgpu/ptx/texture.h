/* SPDX-License-Identifier: Apache-2.0 */
/* Textures and surfaces as an instruction sees them, and how a texel is found: CUDA's guide, "Texture Fetching". */
#ifndef SOFTGPU_PTX_TEXTURE_H
#define SOFTGPU_PTX_TEXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXTURE_LEVELS 18	/* a mipmap of 131072 texels has as many */

enum texel_format { TEXEL_UINT, TEXEL_SINT, TEXEL_FLOAT, TEXEL_UNORM, TEXEL_SNORM };

struct texture_level {
	uint64_t base;			/* device address */
	uint64_t pitch, slice;		/* bytes from row to row, and from one slice or layer to the next */
	uint32_t size[3];		/* texels; unused dimensions are 1 */
};

/**
 * struct ptx_texture - a texture or surface object. The driver half makes them.
 * @size: bytes of a channel: 1, 2, 4
 * @linear: memory without dimensions: only fetches by index
 * @layers: of a layered one, else 1; six each for a cube
 */
struct ptx_texture {
	uint8_t format, channels, size;
	bool surface, linear, normalized, as_integer, filter, mip_filter, srgb;
	uint8_t address[3];		/* CUaddress_mode */
	float border[4], bias, min_detail, max_detail;
	uint32_t layers, nlevels;
	struct texture_level level[TEXTURE_LEVELS];
};

/** The object behind a handle that a kernel holds; NULL if there is none of that sort. Provided by the driver half. */
const struct ptx_texture *sg_texture_find(uint64_t handle, bool surface);

union texel {
	float f[4];
	uint32_t u[4];
};

enum texture_shape { SHAPE_1D, SHAPE_2D, SHAPE_3D, SHAPE_CUBE };

/* struct texture_query - one lane's request. @coord: floats, or (integers) whole numbers with @fetch */
struct texture_query {
	uint8_t shape;
	bool fetch, has_detail, has_gradient;
	int32_t index[3];
	float coord[3], detail, dx[3], dy[3];
	uint32_t layer;
};

/** Read: filtered, in the form that @t delivers. @return false if the memory behind @t is gone. */
bool texture_read(const struct ptx_texture *t, const struct texture_query *q, union texel *out);

/** Component @component of the four texels that a bilinear filter would use. */
bool texture_gather(const struct ptx_texture *t, const struct texture_query *q, unsigned int component, union texel *out);

#endif /* SOFTGPU_PTX_TEXTURE_H */
