// SPDX-License-Identifier: Apache-2.0
/* From coordinates to a texel. */
#include <math.h>
#include <string.h>

#include "../memory.h"
#include "texture.h"

enum { WRAP, CLAMP, MIRROR, BORDER };	/* CUaddress_mode */

static float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h >> 15) << 31, e = h >> 10 & 31, m = h & 1023, bits;
	float f;

	if (e == 31)
		bits = sign | 0x7f800000u | m << 13;
	else if (e)
		bits = sign | (e + 112) << 23 | m << 13;
	else
		return (sign ? -1.0f : 1.0f) * (float)m * 0x1p-24f;
	memcpy(&f, &bits, 4);
	return f;
}

static float from_srgb(float c)
{
	return c <= 0.04045f ? c / 12.92f : powf((c + 0.055f) / 1.055f, 2.4f);
}

/* Does a read deliver floats? */
static bool reads_float(const struct ptx_texture *t)
{
	if (t->format == TEXEL_FLOAT || t->format == TEXEL_UNORM || t->format == TEXEL_SNORM)
		return true;
	return !t->as_integer && t->size < 4;
}

static bool load(const struct ptx_texture *t, uint64_t at, union texel *out)
{
	bool real = reads_float(t);

	memset(out, 0, sizeof(*out));
	if (!sg_mem_ok(at, t->size * t->channels))
		return false;
	for (unsigned int i = 0; i < t->channels; i++) {
		const void *p = (const void *)(uintptr_t)(at + i * t->size);
		uint32_t u = 0;
		int32_t s;

		memcpy(&u, p, t->size);
		s = t->size == 1 ? (int8_t)u : t->size == 2 ? (int16_t)u : (int32_t)u;
		if (t->format == TEXEL_FLOAT) {
			if (t->size == 2)
				out->f[i] = half_to_float((uint16_t)u);
			else
				out->u[i] = u;
		} else if (!real) {
			out->u[i] = t->format == TEXEL_SINT ? (uint32_t)s : u;
		} else if (t->format == TEXEL_UINT || t->format == TEXEL_UNORM) {
			out->f[i] = (float)u / (t->size == 1 ? 255.0f : 65535.0f);
			if (t->srgb && i < 3)
				out->f[i] = from_srgb(out->f[i]);
		} else {
			float f = (float)s / (t->size == 1 ? 127.0f : 32767.0f);

			out->f[i] = f < -1.0f ? -1.0f : f;
		}
	}
	return true;
}

static void border(const struct ptx_texture *t, union texel *out)
{
	if (reads_float(t)) {
		memcpy(out->f, t->border, sizeof(out->f));
		return;
	}
	for (unsigned int i = 0; i < 4; i++)
		out->u[i] = (uint32_t)(int32_t)t->border[i];
}

/* Wrapping and mirroring are for normalised coordinates; for others they mean clamping. */
static unsigned int mode_of(const struct ptx_texture *t, unsigned int dim, bool normalized)
{
	unsigned int mode = t->address[dim];

	return !normalized && (mode == WRAP || mode == MIRROR) ? CLAMP : mode;
}

/* The texel that index @i stands for. @return false: outside, which border mode shows */
static bool resolve(int64_t *i, uint32_t n, unsigned int mode)
{
	if (*i >= 0 && *i < n)
		return true;
	switch (mode) {
	case BORDER:
		return false;
	case WRAP:
		*i %= n;
		if (*i < 0)
			*i += n;
		return true;
	default:
		*i = *i < 0 ? 0 : n - 1;
		return true;
	}
}

struct sampler {
	const struct ptx_texture *t;
	const struct texture_level *l;
	unsigned int dims, mode[3];
	uint32_t layer;
};

static bool texel_at(const struct sampler *s, const int64_t index[3], union texel *out)
{
	int64_t i[3] = { 0, 0, 0 };

	for (unsigned int d = 0; d < s->dims; d++) {
		i[d] = index[d];
		if (!resolve(&i[d], s->l->size[d], s->mode[d])) {
			border(s->t, out);
			return true;
		}
	}
	return load(s->t, s->l->base + (uint64_t)(i[2] + s->layer) * s->l->slice + (uint64_t)i[1] * s->l->pitch +
			(uint64_t)i[0] * s->t->size * s->t->channels, out);
}

/* A coordinate in texels. */
static float scaled(float c, uint32_t n, unsigned int mode, bool normalized)
{
	if (!(c == c) || isinf(c))
		c = 0;
	if (!normalized)
		return c;
	if (mode == WRAP) {
		c -= floorf(c);
	} else if (mode == MIRROR) {
		float whole = floorf(c);

		c = fmodf(whole, 2.0f) == 0.0f ? c - whole : 1.0f - (c - whole);
	}
	return c * (float)n;
}

static int64_t whole(float f)
{
	f = floorf(f);
	return f < -0x1p40f ? -(1ll << 40) : f > 0x1p40f ? 1ll << 40 : (int64_t)f;
}

/* Filter weights have 8 bits of fraction. */
static float weight(float a)
{
	return floorf(a * 256.0f + 0.5f) / 256.0f;
}

static bool sample(const struct sampler *s, const float x[3], union texel *out)
{
	int64_t first[3] = { 0, 0, 0 }, at[3];
	float a[3] = { 0, 0, 0 };
	union texel v;

	if (!s->t->filter) {
		for (unsigned int d = 0; d < s->dims; d++)
			first[d] = whole(x[d]);
		return texel_at(s, first, out);
	}
	for (unsigned int d = 0; d < s->dims; d++) {
		first[d] = whole(x[d] - 0.5f);
		a[d] = weight(x[d] - 0.5f - (float)first[d]);
	}
	memset(out, 0, sizeof(*out));
	for (unsigned int corner = 0; corner < 1u << s->dims; corner++) {
		float f = 1;

		for (unsigned int d = 0; d < s->dims; d++) {
			bool second = corner >> d & 1;

			at[d] = first[d] + second;
			f *= second ? a[d] : 1.0f - a[d];
		}
		if (f == 0.0f)
			continue;
		if (!texel_at(s, at, &v))
			return false;
		for (unsigned int i = 0; i < 4; i++)
			out->f[i] += f * v.f[i];
	}
	/* A line is filtered as the lowest of many rows, at height 0: one half is what lies below it (seen on an H200). */
	if (s->dims == 1 && s->mode[1] == BORDER) {
		border(s->t, &v);
		for (unsigned int i = 0; i < 4; i++)
			out->f[i] = (out->f[i] + v.f[i]) / 2;
	}
	return true;
}

/* The face that a direction meets, and where. */
static unsigned int face_of(const float c[3], float out[2])
{
	float x = fabsf(c[0]), y = fabsf(c[1]), z = fabsf(c[2]), m, s, t;
	unsigned int face;

	if (x >= y && x >= z) {
		face = c[0] < 0;
		m = x;
		s = c[0] < 0 ? c[2] : -c[2];
		t = -c[1];
	} else if (y >= z) {
		face = 2 + (c[1] < 0);
		m = y;
		s = c[0];
		t = c[1] < 0 ? -c[2] : c[2];
	} else {
		face = 4 + (c[2] < 0);
		m = z;
		s = c[2] < 0 ? -c[0] : c[0];
		t = -c[1];
	}
	out[0] = m ? (s / m + 1) / 2 : 0.5f;
	out[1] = m ? (t / m + 1) / 2 : 0.5f;
	return face;
}

static void setup(const struct ptx_texture *t, const struct texture_query *q, struct sampler *s, float coord[3],
		  bool *normalized)
{
	uint32_t layer = q->layer;

	memcpy(coord, q->coord, 3 * sizeof(float));
	*normalized = t->normalized;
	s->t = t;
	s->dims = q->shape == SHAPE_1D ? 1 : q->shape == SHAPE_3D ? 3 : 2;
	if (q->shape == SHAPE_CUBE) {
		layer = layer * 6 + face_of(q->coord, coord);
		*normalized = true;
	}
	s->layer = q->shape == SHAPE_3D ? 0 : layer < t->layers ? layer : t->layers - 1;
	for (unsigned int d = 0; d < 3; d++)
		s->mode[d] = q->shape == SHAPE_CUBE ? CLAMP : mode_of(t, d, *normalized);
}

static bool sample_level(struct sampler *s, unsigned int level, const float coord[3], bool normalized, union texel *out)
{
	float x[3] = { 0, 0, 0 };

	s->l = &s->t->level[level];
	for (unsigned int d = 0; d < s->dims; d++)
		x[d] = scaled(coord[d], s->l->size[d], s->mode[d], normalized);
	return sample(s, x, out);
}

static float length(const struct texture_level *l, const float g[3], unsigned int dims, bool normalized)
{
	float sum = 0;

	for (unsigned int d = 0; d < dims; d++) {
		float v = g[d] * (normalized ? (float)l->size[d] : 1.0f);

		sum += v * v;
	}
	return sqrtf(sum);
}

bool texture_read(const struct ptx_texture *t, const struct texture_query *q, union texel *out)
{
	union texel upper;
	struct sampler s;
	float coord[3], detail = 0, a;
	unsigned int level;
	bool normalized;

	if (t->linear) {
		int64_t i = q->fetch ? q->index[0] : whole(q->coord[0]);

		if (i < 0 || i >= t->level[0].size[0]) {
			memset(out, 0, sizeof(*out));
			return true;
		}
		return load(t, t->level[0].base + (uint64_t)i * t->size * t->channels, out);
	}
	setup(t, q, &s, coord, &normalized);
	if (q->fetch) {
		int64_t at[3] = { q->index[0], q->index[1], q->index[2] };

		level = q->has_detail && q->detail > 0 ? (unsigned int)q->detail : 0;
		s.l = &t->level[level < t->nlevels ? level : t->nlevels - 1];
		return texel_at(&s, at, out);
	}
	if (t->nlevels > 1) {
		if (q->has_detail) {
			detail = q->detail;
		} else if (q->has_gradient) {
			float x = length(&t->level[0], q->dx, s.dims, normalized);
			float y = length(&t->level[0], q->dy, s.dims, normalized);

			x = x > y ? x : y;
			detail = x > 0 ? log2f(x) : 0;
		}
		detail += t->bias;
		detail = detail < t->min_detail ? t->min_detail : detail > t->max_detail ? t->max_detail : detail;
		detail = !(detail > 0) ? 0 : detail > (float)(t->nlevels - 1) ? (float)(t->nlevels - 1) : detail;
	}
	if (!t->mip_filter)
		return sample_level(&s, (unsigned int)(detail + 0.5f), coord, normalized, out);
	level = (unsigned int)detail;
	a = weight(detail - (float)level);
	if (!sample_level(&s, level, coord, normalized, out))
		return false;
	if (a == 0.0f || level + 1 >= t->nlevels)
		return true;
	if (!sample_level(&s, level + 1, coord, normalized, &upper))
		return false;
	for (unsigned int i = 0; i < 4; i++)
		out->f[i] = (1.0f - a) * out->f[i] + a * upper.f[i];
	return true;
}

bool texture_gather(const struct ptx_texture *t, const struct texture_query *q, unsigned int component, union texel *out)
{
	static const uint8_t order[4][2] = { { 0, 1 }, { 1, 1 }, { 1, 0 }, { 0, 0 } };
	int64_t first[3] = { 0, 0, 0 }, at[3] = { 0, 0, 0 };
	struct sampler s;
	union texel v;
	float coord[3];
	bool normalized;

	setup(t, q, &s, coord, &normalized);
	s.l = &t->level[0];
	for (unsigned int d = 0; d < 2; d++)
		first[d] = whole(scaled(coord[d], s.l->size[d], s.mode[d], normalized) - 0.5f);
	for (unsigned int k = 0; k < 4; k++) {
		at[0] = first[0] + order[k][0];
		at[1] = first[1] + order[k][1];
		if (!texel_at(&s, at, &v))
			return false;
		out->u[k] = v.u[component];
	}
	return true;
}
