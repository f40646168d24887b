/* SPDX-License-Identifier: Apache-2.0 */
/* Memory pools, for those who allocate from them and free into them. */
#ifndef SOFTGPU_MEMPOOL_H
#define SOFTGPU_MEMPOOL_H

#include "softgpu.h"

struct sg_pool;

/** The pool that a device's allocations come from; NULL if there is no memory for it. */
struct sg_pool *sg_pool_current(int device);

CUresult sg_pool_alloc(struct sg_pool *p, struct sg_ctx *c, CUdeviceptr *dptr, size_t size);

/** The same for a stream: memory that its context is still to free may be waited for. */
CUresult sg_pool_alloc_ordered(struct sg_pool *p, struct sg_stream *s, CUdeviceptr *dptr, size_t size);

/** Have all pools keep nothing. @return true: some memory is free now that was not. */
bool sg_pools_trim(void);

/** 8 bytes by which other processes know a pool that can be shared; NULL: it cannot */
const uint8_t *sg_pool_key(const struct sg_pool *p);
bool sg_pool_imported(const struct sg_pool *p);

int sg_pool_device(const struct sg_pool *p);

#endif /* SOFTGPU_MEMPOOL_H */
