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

/** Was @k made for clusters of blocks? */
static inline bool kernel_in_clusters(const struct kernel *k)
{
	return k->attributes[CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET] ||
	       k->attributes[CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH];
}

/**
 * Do all of its blocks fit on the current context's device at once, by the rule that CUDA documents for cooperative
 * launches? Asks the worker the first time. @return false also in doubt. (occupancy.c)
 */
bool occupancy_holds(const struct launch *l, struct kernel *k);

/** The parameter buffer that an `extra` list describes. */
CUresult launch_extra(void **extra, const void **buffer, size_t *size);

void launch_of_config(struct launch *l, const CUlaunchConfig *c, CUfunction f);

#endif
