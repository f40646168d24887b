/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_LAUNCH_H
#define VGPU_LAUNCH_H

#include "shim.h"

/** struct launch - any launch, from whichever call. */
struct launch {
	CUfunction function;
	CUstream stream;
	uint32_t grid[3], block[3];
	uint32_t shared;
	uint32_t cooperative;
	const CUlaunchAttribute *attrs;
	uint32_t nattrs;
};

/** Send it. Parameters as an array of pointers (@params) or as a buffer (@extra). */
CUresult launch(const struct launch *l, void **params, void **extra);

/** Can device @device launch @k in this shape (grid, block, shared memory)? @return what the launch would */
CUresult launch_check(const struct launch *l, const struct kernel *k, uint32_t device);

/** The parameter buffer that an `extra` list describes. */
CUresult launch_extra(void **extra, const void **buffer, size_t *size);

void launch_of_config(struct launch *l, const CUlaunchConfig *c, CUfunction f);

#endif
