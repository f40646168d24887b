// SPDX-License-Identifier: Apache-2.0
/* A context's limits and preferences: most are remembered and change nothing here. */
#include "softgpu.h"

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	switch (limit) {
	case CU_LIMIT_MALLOC_HEAP_SIZE:
		pthread_mutex_lock(&c->lock);
		if (c->heap)
			e = CUDA_ERROR_INVALID_VALUE;	/* too late */
		else
			c->limits[limit] = value;
		pthread_mutex_unlock(&c->lock);
		return e;
	case CU_LIMIT_STACK_SIZE:
	case CU_LIMIT_PRINTF_FIFO_SIZE:
	case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
	case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
	case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
		c->limits[limit] = value;
		return CUDA_SUCCESS;
	case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
		return value ? CUDA_ERROR_UNSUPPORTED_LIMIT : CUDA_SUCCESS;
	default:
		return limit < CU_LIMIT_MAX ? CUDA_ERROR_UNSUPPORTED_LIMIT : CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!value || (unsigned int)limit >= CU_LIMIT_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	*value = c->limits[limit];
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *config)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	*config = c->cache;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	c->cache = config;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *config)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	*config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config)
{
	struct sg_ctx *c;

	return sg_enter(&c);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (least)
		*least = 0;
	if (greatest)
		*greatest = -5;
	return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void)
{
	struct sg_ctx *c;

	return sg_enter(&c);
}

/*
 * Peers: all devices share one memory, so what access was enabled for is remembered and not enforced.
 */
static struct sg_ctx *peer_check(struct sg_ctx *c, CUcontext peer, CUresult *e)
{
	struct sg_ctx *p = sg_object_check(&sg_ctx_table, peer);

	*e = !p || atomic_load(&p->fault) == CUDA_ERROR_CONTEXT_IS_DESTROYED ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
	if (!*e && p->device == c->device)
		*e = CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
	return p;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	struct sg_ctx *c, *p;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	p = peer_check(c, peer, &e);
	if (e)
		return e;
	pthread_mutex_lock(&c->lock);
	if (c->peers[p->device] == p->id)
		e = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
	c->peers[p->device] = p->id;
	pthread_mutex_unlock(&c->lock);
	return e;
}

CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
	struct sg_ctx *c, *p;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	p = peer_check(c, peer, &e);
	if (e)
		return e == CUDA_ERROR_PEER_ACCESS_UNSUPPORTED ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED : e;
	pthread_mutex_lock(&c->lock);
	if (c->peers[p->device] != p->id)
		e = CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
	c->peers[p->device] = 0;
	pthread_mutex_unlock(&c->lock);
	return e;
}
