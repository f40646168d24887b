// SPDX-License-Identifier: Apache-2.0
#include "errors.h"
#include "shim.h"

VGPU_EXPORT CUresult CUDAAPI cuGetErrorName(CUresult error, const char **pStr)
{
	const char *text;

	if (!pStr)
		return CUDA_ERROR_INVALID_VALUE;
	return error_text(error, pStr, &text) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

VGPU_EXPORT CUresult CUDAAPI cuGetErrorString(CUresult error, const char **pStr)
{
	const char *name;

	if (!pStr)
		return CUDA_ERROR_INVALID_VALUE;
	return error_text(error, &name, pStr) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
