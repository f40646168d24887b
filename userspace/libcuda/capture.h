/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CAPTURE_H
#define VGPU_CAPTURE_H

#include "shim.h"

extern unsigned int captures;	/* under way */

/**
 * While streams capture: may the message @type for @stream (NULL: none, or a default stream) be posted all the same? What
 * is wrong with a call that has to do with captures is said at once, by its answer.
 */
bool capture_may_post(const struct object *stream, uint16_t type);

/** An answer: if it says that something is wrong with a capture, nothing is taken for granted until captures are over. */
void capture_told_slow(CUresult r);
static inline void capture_told(CUresult r)
{
	if (__builtin_expect(r >= CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED && r <= CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, 0))
		capture_told_slow(r);
}

/** Does @stream (wire handle) capture? Costs a round trip only while some stream does. */
bool capture_asks(uint64_t stream);
static inline bool capture_active(uint64_t stream)
{
	return __builtin_expect(__atomic_load_n(&captures, __ATOMIC_RELAXED) != 0, 0) && capture_asks(stream);
}

/**
 * May this thread make a call that is not safe while streams capture (cuThreadExchangeStreamCaptureMode)? If not, the
 * captures that forbid it are over, and the call's answer is CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.
 */
CUresult capture_unsafe_slow(void);
static inline CUresult capture_unsafe(void)
{
	return __builtin_expect(__atomic_load_n(&captures, __ATOMIC_RELAXED) != 0, 0) ? capture_unsafe_slow() : CUDA_SUCCESS;
}

/** May @ctx be waited for? Not while a stream of it captures, which is then over. */
CUresult capture_wait_slow(const struct object *ctx);
static inline CUresult capture_wait(const struct object *ctx)
{
	return __builtin_expect(__atomic_load_n(&captures, __ATOMIC_RELAXED) != 0, 0) ? capture_wait_slow(ctx) : CUDA_SUCCESS;
}

/** Does a stream of @ctx capture? Then nothing can be waited for in it, but a relaxed thread may go on all the same. */
bool capture_in_slow(const struct object *ctx);
static inline bool capture_in(const struct object *ctx)
{
	return __builtin_expect(__atomic_load_n(&captures, __ATOMIC_RELAXED) != 0, 0) && capture_in_slow(ctx);
}

/** @stream's handle is about to go. */
void capture_stream_ends(uint64_t stream);

/** @ctx has ended, and its streams: the default ones, which have no handle, capture no more either. */
void capture_context_ends(const struct object *ctx);

#endif
