// SPDX-License-Identifier: Apache-2.0
/* How programs find the functions of this library, and what errors are called. Tables: userspace/cuda/cuda.tbl. */
#include "../libcuda/errors.h"
#include "../libcuda/resolve.h"
#include "softgpu.h"

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SUCCESS;

	if (!symbol || !pfn || flags & ~(cuuint64_t)3)
		return CUDA_ERROR_INVALID_VALUE;
	switch (resolve(symbol, version, !!(flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM), pfn)) {
	case RESOLVE_FOUND:
		break;
	case RESOLVE_UNKNOWN:
		found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
		break;
	case RESOLVE_TOO_OLD:
		found = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
		break;
	}
	if (status) {
		*status = found;
		return CUDA_SUCCESS;
	}
	return found == CU_GET_PROC_ADDRESS_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags)
{
	return cuGetProcAddress_v2(symbol, pfn, version, flags, NULL);
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
	const char *text;

	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	return error_text((int)error, name, &text) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
	const char *name;

	if (!text)
		return CUDA_ERROR_INVALID_VALUE;
	return error_text((int)error, &name, text) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* A profiler has nothing to attach to; that it is not collecting is true. */
__attribute__((visibility("default"))) CUresult cuProfilerStart(void);
__attribute__((visibility("default"))) CUresult cuProfilerStop(void);

CUresult cuProfilerStart(void)
{
	struct sg_ctx *c;

	return sg_enter(&c);
}

CUresult cuProfilerStop(void)
{
	struct sg_ctx *c;

	return sg_enter(&c);
}
