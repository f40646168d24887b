/* SPDX-License-Identifier: Apache-2.0 */
/* Copying out of a chunk into memory that is far larger than a cache. */
#ifndef VGPU_STREAM_COPY_H
#define VGPU_STREAM_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* From this total on the destination can't stay in a cache anyway; what the C library does by itself, too. */
#define STREAM_COPY_MIN	(1u << 20)

/**
 * memcpy() whose stores go past the caches. The C library does so for one large copy, but sees only chunks here;
 * ordinary stores would first read every line of the destination, half as much traffic again.
 */
static inline void stream_copy(void *dst, const void *src, size_t n)
{
#ifdef __SSE2__
	size_t head = -(uintptr_t)dst & 15;
	const char *s = src;
	char *d = dst;

	if (head > n)
		head = n;
	memcpy(d, s, head);
	d += head;
	s += head;
	n -= head;
	for (; n >= 64; n -= 64, d += 64, s += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)s), b = _mm_loadu_si128((const __m128i *)(s + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(s + 32)), e = _mm_loadu_si128((const __m128i *)(s + 48));

		_mm_stream_si128((__m128i *)d, a);
		_mm_stream_si128((__m128i *)(d + 16), b);
		_mm_stream_si128((__m128i *)(d + 32), c);
		_mm_stream_si128((__m128i *)(d + 48), e);
	}
	_mm_sfence();	/* the caller may tell another thread that the bytes are there */
	memcpy(d, s, n);
#else
	memcpy(dst, src, n);
#endif
}

#endif
