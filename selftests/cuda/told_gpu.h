/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The told GPU: the software GPU, but that one call at a time gives an error that only hardware, or another installation, would
 * give. So what the driver alone knows can be seen on its way to the program. Which call and which error it is told by
 * cuCtxSetLimit(TOLD_LIMIT, TOLD_VALUE(call, error)), a limit that changes nothing in the software GPU; 0 ends it.
 */
#ifndef SELFTESTS_TOLD_GPU_H
#define SELFTESTS_TOLD_GPU_H

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#define TOLD_LIMIT		CU_LIMIT_MAX_L2_FETCH_GRANULARITY
#define TOLD_VALUE(call, error)	((size_t)(call) << 16 | (size_t)(error))

#ifdef TOLD_GPU
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softgpu_share.h"

#define API	__attribute__((visibility("default")))

static size_t told;	/* atomic */

/* Its folder is beside this one's. Opened when this is loaded: later the worker opens no files. */
static void *softgpu;

static void __attribute__((constructor)) open_softgpu(void)
{
	char path[4096];
	Dl_info self;

	if (!dladdr((void *)&told, &self))
		abort();
	snprintf(path, sizeof(path), "%.*s/../softgpu/libsoftgpu.so", (int)(strrchr(self.dli_fname, '/') - self.dli_fname), self.dli_fname);
	softgpu = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!softgpu) {
		fprintf(stderr, "told GPU: %s\n", dlerror());
		abort();
	}
}

#define TOLD(name, number, params, args)								\
API CUresult CUDAAPI name params;									\
API CUresult CUDAAPI name params									\
{													\
	static CUresult (*real) params;									\
	size_t t = __atomic_load_n(&told, __ATOMIC_RELAXED);						\
													\
	if (number && t >> 16 == number)								\
		return (CUresult)(t & 0xffff);								\
	if (!real)											\
		real = (CUresult (*) params)dlsym(softgpu, #name);					\
	return real ? real args : CUDA_ERROR_NOT_SUPPORTED;						\
}

API CUresult CUDAAPI cuCtxSetLimit(CUlimit limit, size_t value)
{
	if (limit == TOLD_LIMIT) {
		__atomic_store_n(&told, value, __ATOMIC_RELAXED);
		return CUDA_SUCCESS;
	}
	return ((CUresult (*)(CUlimit, size_t))dlsym(softgpu, "cuCtxSetLimit"))(limit, value);
}

API void softgpu_share_host(const struct softgpu_share_host *h)
{
	((void (*)(const struct softgpu_share_host *))dlsym(softgpu, "softgpu_share_host"))(h);
}

API int softgpu_share_take(const void *name) { return ((int (*)(const void *))dlsym(softgpu, "softgpu_share_take"))(name); }

API void softgpu_share_offer(const void *name, int fd)
{
	((void (*)(const void *, int))dlsym(softgpu, "softgpu_share_offer"))(name, fd);
}
#endif /* TOLD_GPU */

#endif /* SELFTESTS_TOLD_GPU_H */
