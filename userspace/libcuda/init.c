// SPDX-License-Identifier: Apache-2.0
/* What works before there is a session, and cuInit. */
#include <string.h>

#include "resolve.h"
#include "shim.h"

VGPU_EXPORT CUresult CUDAAPI cuInit(unsigned int Flags)
{
	if (Flags)
		return CUDA_ERROR_INVALID_VALUE;
	return session_open();
}

VGPU_EXPORT CUresult CUDAAPI cuDriverGetVersion(int *driverVersion)
{
	if (!driverVersion)
		return CUDA_ERROR_INVALID_VALUE;
	*driverVersion = VGPU_DRIVER_VERSION;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
						 CUdriverProcAddressQueryResult *symbolStatus)
{
	CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;

	if (!symbol || !pfn || flags & ~(cuuint64_t)3)
		return CUDA_ERROR_INVALID_VALUE;
	switch (resolve(symbol, cudaVersion, !!(flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM), pfn)) {
	case RESOLVE_FOUND:
		break;
	case RESOLVE_UNKNOWN:
		status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
		break;
	case RESOLVE_TOO_OLD:
		status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
		break;
	}
	if (symbolStatus) {
		*symbolStatus = status;
		return CUDA_SUCCESS;
	}
	return status == CU_GET_PROC_ADDRESS_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

VGPU_EXPORT CUresult CUDAAPI cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
	return cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, NULL);
}

/* A profiler has nothing to attach to on this side; that it is not collecting is true. */
/* There is none to start, but who may ask is checked as the driver does. */
static CUresult profiler(void)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return context_current(thread_self()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuProfilerStart(void);
VGPU_EXPORT CUresult CUDAAPI cuProfilerStart(void)
{
	return profiler();
}

VGPU_EXPORT CUresult CUDAAPI cuProfilerStop(void);
VGPU_EXPORT CUresult CUDAAPI cuProfilerStop(void)
{
	return profiler();
}
