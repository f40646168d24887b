// SPDX-License-Identifier: Apache-2.0
/*
 * Deprecated calls, in terms of those that took their place: launches whose parameters are set one by one, contexts that
 * are counted, cooperative launches on several devices. Shared by the shim and the software GPU.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"

#define PARAM_BYTES	4096	/* what launches of that time could pass */

/** struct setup - what has been set for the next cuLaunch of a function. */
struct setup {
	CUfunction function;
	int block[3];
	unsigned int shared;
	size_t size;
	unsigned char params[PARAM_BYTES];
	struct setup *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct setup *setups;

/* Locked, unless NULL with *@r. */
static struct setup *setup_of(CUfunction f, CUresult *r)
{
	struct setup *s;
	int registers;

	*r = cuFuncGetAttribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, f);
	if (*r != CUDA_SUCCESS)
		return NULL;
	pthread_mutex_lock(&lock);
	for (s = setups; s && s->function != f; s = s->next)
		;
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s) {
		pthread_mutex_unlock(&lock);
		*r = CUDA_ERROR_OUT_OF_MEMORY;
		return NULL;
	}
	s->function = f;
	s->next = setups;
	setups = s;
	return s;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z)
{
	CUresult r;
	struct setup *s = setup_of(hfunc, &r);

	if (!s)
		return r;
	if (x < 1 || y < 1 || z < 1)
		r = CUDA_ERROR_INVALID_VALUE;
	else
		memcpy(s->block, (int[]){ x, y, z }, sizeof(s->block));
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncSetSharedSize(CUfunction hfunc, unsigned int bytes)
{
	CUresult r;
	struct setup *s = setup_of(hfunc, &r);

	if (!s)
		return r;
	s->shared = bytes;
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuParamSetSize(CUfunction hfunc, unsigned int numbytes)
{
	CUresult r;
	struct setup *s = setup_of(hfunc, &r);

	if (!s)
		return r;
	if (numbytes > PARAM_BYTES)
		r = CUDA_ERROR_INVALID_VALUE;
	else
		s->size = numbytes;
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuParamSetv(CUfunction hfunc, int offset, void *ptr, unsigned int numbytes)
{
	CUresult r;
	struct setup *s = setup_of(hfunc, &r);

	if (!s)
		return r;
	if (offset < 0 || (numbytes && !ptr) || numbytes > PARAM_BYTES || (unsigned int)offset > PARAM_BYTES - numbytes)
		r = CUDA_ERROR_INVALID_VALUE;
	else if (numbytes)
		memcpy(s->params + offset, ptr, numbytes);
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuParamSeti(CUfunction hfunc, int offset, unsigned int value)
{
	return cuParamSetv(hfunc, offset, &value, sizeof(value));
}

VGPU_EXPORT CUresult CUDAAPI cuParamSetf(CUfunction hfunc, int offset, float value)
{
	return cuParamSetv(hfunc, offset, &value, sizeof(value));
}

/* A texture reference belongs to its module, whichever function uses it: there is nothing to set. */
VGPU_EXPORT CUresult CUDAAPI cuParamSetTexRef(CUfunction hfunc, int texunit, CUtexref hTexRef)
{
	unsigned int flags;
	int registers;
	CUresult r = cuFuncGetAttribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, hfunc);

	if (r == CUDA_SUCCESS && texunit != CU_PARAM_TR_DEFAULT)
		r = CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? cuTexRefGetFlags(&flags, hTexRef) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream)
{
	struct setup now, *s;
	CUresult r;
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, now.params, CU_LAUNCH_PARAM_BUFFER_SIZE, &now.size,
			  CU_LAUNCH_PARAM_END };

	s = setup_of(f, &r);
	if (!s)
		return r;
	now = *s;
	pthread_mutex_unlock(&lock);
	if (grid_width < 1 || grid_height < 1 || !now.block[0])
		return CUDA_ERROR_INVALID_VALUE;
	return cuLaunchKernel(f, grid_width, grid_height, 1, now.block[0], now.block[1], now.block[2], now.shared, hStream,
			      NULL, now.size ? extra : NULL);
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchGrid(CUfunction f, int grid_width, int grid_height)
{
	return cuLaunchGridAsync(f, grid_width, grid_height, NULL);
}

VGPU_EXPORT CUresult CUDAAPI cuLaunch(CUfunction f)
{
	return cuLaunchGridAsync(f, 1, 1, NULL);
}

/* --- contexts that are counted -------------------------------------------------------------------------------------- */

struct count {
	CUcontext ctx;
	unsigned int n;		/* cuCtxAttach minus cuCtxDetach */
	struct count *next;
};
static struct count *counts;

VGPU_EXPORT CUresult CUDAAPI cuCtxAttach(CUcontext *pctx, unsigned int flags)
{
	CUcontext ctx;
	struct count *c;
	CUresult r = cuCtxGetCurrent(&ctx);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pctx || flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&lock);
	for (c = counts; c && c->ctx != ctx; c = c->next)
		;
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (c) {
			c->ctx = ctx;
			c->next = counts;
			counts = c;
		}
	}
	if (c)
		c->n++;
	pthread_mutex_unlock(&lock);
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pctx = ctx;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxDetach(CUcontext ctx)
{
	struct count *c, **p;
	CUcontext current;
	bool attached;
	CUresult r = cuCtxGetCurrent(&current);

	if (r != CUDA_SUCCESS)
		return r;
	if (!ctx || ctx != current)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&lock);
	for (p = &counts; (c = *p) && c->ctx != ctx; p = &c->next)
		;
	attached = c;
	if (c && !--c->n) {
		*p = c->next;
		free(c);
	}
	pthread_mutex_unlock(&lock);
	/* The last count is the one it was created with. */
	return attached ? CUDA_SUCCESS : cuCtxDestroy_v2(ctx);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxCreate(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	return cuCtxCreate_v2(pctx, flags, dev);
}

/* --- cooperative launches on several devices ------------------------------------------------------------------------ */

VGPU_EXPORT CUresult CUDAAPI cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned int numDevices,
								  unsigned int flags)
{
	int devices;
	CUresult r = cuDeviceGetCount(&devices);

	if (r != CUDA_SUCCESS)
		return r;
	if (!list || !numDevices || numDevices > (unsigned int)devices ||
	    flags & ~(unsigned int)(CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_PRE_LAUNCH_SYNC |
				    CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_POST_LAUNCH_SYNC) ||
	    (uintptr_t)list->hStream <= 2)	/* default streams can't be used */
		return CUDA_ERROR_INVALID_VALUE;
	/* CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH is 0: grids do not span devices. */
	if (numDevices > 1)
		return CUDA_ERROR_NOT_SUPPORTED;
	return cuLaunchCooperativeKernel(list->function, list->gridDimX, list->gridDimY, list->gridDimZ, list->blockDimX,
					 list->blockDimY, list->blockDimZ, list->sharedMemBytes, list->hStream,
					 list->kernelParams);
}
