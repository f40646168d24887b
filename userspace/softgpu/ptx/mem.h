/* SPDX-License-Identifier: Apache-2.0 */
/* What memory instructions carry besides four operands. */
#ifndef SOFTGPU_PTX_MEM_H
#define SOFTGPU_PTX_MEM_H

#include <stdbool.h>
#include <stdint.h>

#define F_SHARED 8u

struct vec {			/* of a vector access, a pack or an unpack */
	uint32_t n;
	uint32_t slot[8];
	int64_t imm;
};

struct copy {			/* of cp.async */
	uint32_t size, to_flags, from_flags;
	int64_t to, from;
	bool to_shared, barrier;	/* cp.async.bulk */
	uint32_t barrier_flags;
	int64_t barrier_at;
};

#endif /* SOFTGPU_PTX_MEM_H */
