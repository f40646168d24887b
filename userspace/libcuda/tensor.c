// SPDX-License-Identifier: Apache-2.0
/* Tensor maps: 128 bytes whose meaning is the driver's own, so the worker's driver writes them. */
#include <string.h>

#include "shim.h"

static CUresult encode(CUtensorMap *map, struct vgpu_tensor_map *rq)
{
	struct vgpu_tensor_reply rp;
	CUresult r = call_begin(&rq->call, false);

	if (r != CUDA_SUCCESS)
		return r;
	r = call_reply(VGPU_MSG_cuTensorMapEncodeTiled, rq, sizeof(*rq), &rp, sizeof(rp));
	if (r == CUDA_SUCCESS)
		memcpy(map, rp.map, sizeof(*map));
	return r;
}

static CUresult start(struct vgpu_tensor_map *rq, const CUtensorMap *map, unsigned int rank, const cuuint64_t *dim,
		      const cuuint64_t *strides, const cuuint32_t *step)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!map || (uintptr_t)map % 64 || !rank || rank > 5 || !dim || (!strides && rank > 1) || !step)
		return CUDA_ERROR_INVALID_VALUE;
	rq->rank = rank;
	memcpy(rq->dim, dim, rank * sizeof(*dim));
	if (rank > 1)
		memcpy(rq->stride, strides, (rank - 1) * sizeof(*strides));
	memcpy(rq->step, step, rank * sizeof(*step));
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuTensorMapEncodeTiled(CUtensorMap *tensorMap, CUtensorMapDataType tensorDataType,
						    cuuint32_t tensorRank, void *globalAddress, const cuuint64_t *globalDim,
						    const cuuint64_t *globalStrides, const cuuint32_t *boxDim,
						    const cuuint32_t *elementStrides, CUtensorMapInterleave interleave,
						    CUtensorMapSwizzle swizzle, CUtensorMapL2promotion l2Promotion,
						    CUtensorMapFloatOOBfill oobFill)
{
	struct vgpu_tensor_map rq = {
		.kind = VGPU_TENSOR_TILED, .type = tensorDataType, .address = (uintptr_t)globalAddress,
		.interleave = interleave, .swizzle = swizzle, .promotion = l2Promotion, .fill = oobFill,
	};
	CUresult r = start(&rq, tensorMap, tensorRank, globalDim, globalStrides, elementStrides);

	if (r != CUDA_SUCCESS)
		return r;
	if (!boxDim)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(rq.box, boxDim, tensorRank * sizeof(*boxDim));
	return encode(tensorMap, &rq);
}

VGPU_EXPORT CUresult CUDAAPI cuTensorMapEncodeIm2col(CUtensorMap *tensorMap, CUtensorMapDataType tensorDataType,
						     cuuint32_t tensorRank, void *globalAddress, const cuuint64_t *globalDim,
						     const cuuint64_t *globalStrides, const int *pixelBoxLowerCorner,
						     const int *pixelBoxUpperCorner, cuuint32_t channelsPerPixel,
						     cuuint32_t pixelsPerColumn, const cuuint32_t *elementStrides,
						     CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
						     CUtensorMapL2promotion l2Promotion, CUtensorMapFloatOOBfill oobFill)
{
	struct vgpu_tensor_map rq = {
		.kind = VGPU_TENSOR_IM2COL, .type = tensorDataType, .address = (uintptr_t)globalAddress,
		.interleave = interleave, .swizzle = swizzle, .promotion = l2Promotion, .fill = oobFill,
		.channels = channelsPerPixel, .pixels = pixelsPerColumn,
	};
	CUresult r = start(&rq, tensorMap, tensorRank, globalDim, globalStrides, elementStrides);

	if (r != CUDA_SUCCESS)
		return r;
	if (tensorRank < 3 || !pixelBoxLowerCorner || !pixelBoxUpperCorner)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(rq.lower, pixelBoxLowerCorner, (tensorRank - 2) * sizeof(int));
	memcpy(rq.upper, pixelBoxUpperCorner, (tensorRank - 2) * sizeof(int));
	return encode(tensorMap, &rq);
}

VGPU_EXPORT CUresult CUDAAPI cuTensorMapEncodeIm2colWide(CUtensorMap *tensorMap, CUtensorMapDataType tensorDataType,
							 cuuint32_t tensorRank, void *globalAddress,
							 const cuuint64_t *globalDim, const cuuint64_t *globalStrides,
							 int pixelBoxLowerCornerWidth, int pixelBoxUpperCornerWidth,
							 cuuint32_t channelsPerPixel, cuuint32_t pixelsPerColumn,
							 const cuuint32_t *elementStrides, CUtensorMapInterleave interleave,
							 CUtensorMapIm2ColWideMode mode, CUtensorMapSwizzle swizzle,
							 CUtensorMapL2promotion l2Promotion, CUtensorMapFloatOOBfill oobFill)
{
	struct vgpu_tensor_map rq = {
		.kind = VGPU_TENSOR_IM2COL_WIDE, .type = tensorDataType, .address = (uintptr_t)globalAddress,
		.interleave = interleave, .swizzle = swizzle, .promotion = l2Promotion, .fill = oobFill, .mode = mode,
		.lower = { pixelBoxLowerCornerWidth }, .upper = { pixelBoxUpperCornerWidth },
		.channels = channelsPerPixel, .pixels = pixelsPerColumn,
	};
	CUresult r = start(&rq, tensorMap, tensorRank, globalDim, globalStrides, elementStrides);

	return r == CUDA_SUCCESS ? encode(tensorMap, &rq) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuTensorMapReplaceAddress(CUtensorMap *tensorMap, void *globalAddress)
{
	struct vgpu_tensor_map rq = { .kind = VGPU_TENSOR_ADDRESS, .address = (uintptr_t)globalAddress };
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!tensorMap || (uintptr_t)tensorMap % 64)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(rq.map, tensorMap, sizeof(rq.map));
	return encode(tensorMap, &rq);
}
