/* SPDX-License-Identifier: Apache-2.0 */
/* Floating-point pieces: flushing, the one NaN of 32-bit results, 16-bit formats. */
#ifndef SOFTGPU_PTX_FLOAT_H
#define SOFTGPU_PTX_FLOAT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

static inline float f32_from(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

static inline uint64_t f64_bits(double f)
{
	uint64_t u;

	memcpy(&u, &f, 8);
	return u;
}

static inline double f64_from(uint64_t u)
{
	double f;

	memcpy(&f, &u, 8);
	return f;
}

/* Subnormal to zero of the same sign. */
static inline float f32_flush(float f)
{
	uint32_t u = f32_bits(f);

	return f32_from((u & 0x7f800000) ? u : u & 0x80000000);
}

/* 32-bit results that are no number are always this one. */
static inline float f32_nan(float f)
{
	return f == f ? f : f32_from(0x7fffffff);
}

static inline float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;

	if (e == 31)
		return f32_from(sign | 0x7f800000 | m << 13);
	if (!e) {
		float f = (float)m * 0x1p-24f;

		return sign ? -f : f;
	}
	return f32_from(sign | (e + 112) << 23 | m << 13);
}

static inline float bf16_to_f32(uint16_t h)
{
	return f32_from((uint32_t)h << 16);
}

/*
 * A double, exact or rounded far below 16-bit precision, to a small format: @p bits of significand with the hidden
 * one, exponents from @emin (of the smallest normal). @mode: 0 nearest even, 'z', 'm', 'p', 'a' (ties away).
 */
static inline uint16_t small_from(double v, unsigned int p, int emin, int emax, uint16_t inf, uint16_t nan, char mode)
{
	uint16_t sign = signbit(v) ? 0x8000 : 0, bits;
	double a = fabs(v), q, frac;
	int e;

	if (v != v)
		return nan;
	if (a == 0)
		return sign;
	if (!isinf(a)) {
		e = (int)(f64_bits(a) >> 52) - 1023;
		if (e < emin)
			e = emin;
		/* in units of the last place */
		q = ldexp(a, (int)p - 1 - e);
		frac = q - floor(q);
		q = floor(q);
		if (mode == 0 ? frac > 0.5 || (frac == 0.5 && fmod(q, 2) != 0) : mode == 'a' ? frac >= 0.5 :
		    mode == 'm' ? sign && frac > 0 : mode == 'p' ? !sign && frac > 0 : 0)
			q += 1;
		if (q >= ldexp(1, p)) {
			q /= 2;
			e++;
		}
		if (e <= emax) {
			bits = (uint16_t)q;
			if (bits & (1u << (p - 1)))
				bits = (bits & ((1u << (p - 1)) - 1)) | (uint16_t)((e - emin + 1) << (p - 1));
			return sign | bits;
		}
		if (mode == 'z' || (mode == 'm' && !sign) || (mode == 'p' && sign))
			return sign | (inf - 1);	/* the largest finite one */
	}
	return sign | inf;
}

static inline uint16_t f16_from(double v, char mode)
{
	return small_from(v, 11, -14, 15, 0x7c00, 0x7fff, mode);
}

static inline uint16_t bf16_from(double v, char mode)
{
	return small_from(v, 8, -126, 127, 0x7f80, 0x7fff, mode);
}

/*
 * A 64-bit integer as a double that is rounded to odd: rounded once more, to a small format, it is as if it were exact.
 * 64-bit integers have 11 bits more than a double; in those, all that counts is whether any is set.
 */
static inline double f64_odd(uint64_t v)
{
	return (double)(v >> 53 ? (v & ~0x7ffull) | (uint64_t)((v & 0x7ff) != 0) << 11 : v);
}

static inline double f64_odd_signed(int64_t v)
{
	return v < 0 ? -f64_odd(0 - (uint64_t)v) : f64_odd((uint64_t)v);
}

#define F64_ODD(T, v) ((T)-1 < 0 ? f64_odd_signed((int64_t)(T)(v)) : f64_odd((uint64_t)(T)(v)))

/* The common case, in integers. */
static inline uint16_t f16_from_f32(float f)
{
	uint32_t u = f32_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;

	if (a >= 0x7f800000)
		return a > 0x7f800000 ? 0x7fff : sign | 0x7c00;
	if (a >= 0x477ff000)
		return sign | 0x7c00;
	if (a >= 0x38800000)
		return sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
	/* subnormal: adding 1/2 leaves the rounded value in the low bits */
	return sign | (f32_bits(f32_from(a) + 0.5f) - 0x3f000000);
}

static inline uint16_t bf16_from_f32(float f)
{
	uint32_t u = f32_bits(f);

	if ((u & 0x7fffffff) > 0x7f800000)
		return 0x7fff;
	return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

#endif /* SOFTGPU_PTX_FLOAT_H */
