/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VGPU_TRACE=FILE: one line for each call of the program's, written by the exports in trace_gen.c:
 *
 *	pid=71 thread=1 ns=412 how=posted posted=1 waited=0 result=CUDA_SUCCESS cuEventRecord(0x7f..., 0x7f...)
 *
 * how: local (nothing was sent), posted (sent, not waited for), waited (one round trip or more), refused.
 * scripts/trace-summary adds them up.
 */
#ifndef VGPU_TRACE_H
#define VGPU_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include <cuda.h>

extern bool tracing;

struct trace_call {
	uint64_t start_ns;
	uint32_t posted, waited, refused;	/* the thread's counts before */
};

void trace_begin(struct trace_call *t);

/** @kinds: a letter for each argument: s text, d and u numbers, p the rest; @arguments: their first 8 bytes */
void trace_end(const struct trace_call *t, CUresult r, const char *name, const char *kinds, const uint64_t *arguments);

#define TRACE_ARGUMENT(x) ({								\
	__typeof__(x) value_ = (x);							\
	uint64_t bits_ = 0;								\
	memcpy(&bits_, &value_, sizeof(value_) < sizeof(bits_) ? sizeof(value_) : sizeof(bits_)); \
	bits_;										\
})

#endif
