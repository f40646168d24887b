/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_COPY_ATTRIBUTES_H
#define VGPU_COPY_ATTRIBUTES_H

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL	/* as everywhere else */
#endif
#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>

/** What copies by the batch may say of when a source is read (@order), and of how they are done (@flags). */
static inline bool copy_order_ok(CUmemcpySrcAccessOrder order, unsigned int flags)
{
	return order >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM && order <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY &&
	       !(flags & ~(unsigned int)CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE);
}

/** Each of the @n attributes is for the copies from its index on, up to the next one's; there are @count copies. */
static inline bool copy_attributes_ok(const CUmemcpyAttributes *attrs, const size_t *indices, size_t n, size_t count)
{
	if (!attrs || !indices || !n || n > count || indices[0])
		return false;
	for (size_t i = 0; i < n; i++)
		if (!copy_order_ok(attrs[i].srcAccessOrder, attrs[i].flags) || indices[i] >= count ||
		    (i && indices[i] <= indices[i - 1]))
			return false;
	return true;
}

#endif
