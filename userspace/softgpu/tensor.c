// SPDX-License-Identifier: Apache-2.0
/*
 * Tensor maps, in an encoding of our own: it is opaque, and made by the library whose device reads it. What is checked is
 * what CUDA's documentation asks of the arguments.
 */
#include <string.h>

#include "softgpu.h"

#define MAGIC 0x7067767874656e73ull

/* 128 bytes. */
struct map {
	uint64_t magic, address;
	uint64_t stride[4];		/* bytes, of dimensions 1 and up */
	uint32_t dim[5];		/* less one */
	uint16_t box[5];
	uint8_t step[5];
	uint8_t type, rank, kind, interleave, swizzle, promotion, fill, mode;
	int8_t lower[3], upper[3];
	uint16_t channels, pixels;
};

enum { TILED, IM2COL, IM2COL_WIDE };

_Static_assert(sizeof(struct map) <= sizeof(CUtensorMap), "a tensor map has 128 bytes");

static unsigned int bits_of(CUtensorMapDataType t)
{
	switch (t) {
	case CU_TENSOR_MAP_DATA_TYPE_UINT8:
		return 8;
	case CU_TENSOR_MAP_DATA_TYPE_UINT16:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
	case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
		return 16;
	case CU_TENSOR_MAP_DATA_TYPE_UINT32:
	case CU_TENSOR_MAP_DATA_TYPE_INT32:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ:
	case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32:
	case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ:
		return 32;
	case CU_TENSOR_MAP_DATA_TYPE_UINT64:
	case CU_TENSOR_MAP_DATA_TYPE_INT64:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
		return 64;
	default:
		return 0;	/* the packed ones of 4 and 6 bits, which no instruction here reads */
	}
}

/* What all kinds have in common. */
static CUresult start(struct map *m, CUtensorMap *out, CUtensorMapDataType type, uint32_t rank, const void *address,
		      const cuuint64_t *dim, const cuuint64_t *stride, const cuuint32_t *step, CUtensorMapInterleave interleave,
		      CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
	uint64_t align = interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || (uintptr_t)out % 64 || !rank || rank > 5 || !dim || (rank > 1 && !stride) || !step || !address ||
	    (uintptr_t)address % align || (unsigned int)interleave > CU_TENSOR_MAP_INTERLEAVE_32B ||
	    (unsigned int)swizzle > CU_TENSOR_MAP_SWIZZLE_128B || (unsigned int)promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B ||
	    (unsigned int)fill > CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA ||
	    (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE && rank < 3) ||
	    (interleave == CU_TENSOR_MAP_INTERLEAVE_32B && swizzle != CU_TENSOR_MAP_SWIZZLE_32B))
		return CUDA_ERROR_INVALID_VALUE;
	if (!bits_of(type))
		return (unsigned int)type > CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ ? CUDA_ERROR_NOT_SUPPORTED :
										    CUDA_ERROR_INVALID_VALUE;
	*m = (struct map){ .magic = MAGIC, .address = (uintptr_t)address, .type = (uint8_t)type, .rank = (uint8_t)rank,
			   .interleave = (uint8_t)interleave, .swizzle = (uint8_t)swizzle, .promotion = (uint8_t)promotion,
			   .fill = (uint8_t)fill };
	for (uint32_t i = 0; i < rank; i++) {
		if (!dim[i] || dim[i] > 1ull << 32 || !step[i] || step[i] > 8 ||
		    (i && (stride[i - 1] % align || stride[i - 1] >= 1ull << 40)))
			return CUDA_ERROR_INVALID_VALUE;
		m->dim[i] = (uint32_t)(dim[i] - 1);
		m->step[i] = (uint8_t)step[i];
		if (i)
			m->stride[i - 1] = stride[i - 1];
	}
	return CUDA_SUCCESS;
}

static CUresult done(const struct map *m, CUtensorMap *out)
{
	memset(out, 0, sizeof(*out));
	memcpy(out, m, sizeof(*m));
	return CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank, void *address,
				const cuuint64_t *dim, const cuuint64_t *stride, const cuuint32_t *box, const cuuint32_t *step,
				CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
				CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
	static const unsigned int widest[] = { 256 * 16, 32, 64, 128 };	/* bytes, by swizzle */
	struct map m;
	size_t inner;
	CUresult e = start(&m, out, type, rank, address, dim, stride, step, interleave, swizzle, promotion, fill);

	if (e)
		return e;
	if (!box)
		return CUDA_ERROR_INVALID_VALUE;
	for (uint32_t i = 0; i < rank; i++) {
		if (!box[i] || box[i] > 256)
			return CUDA_ERROR_INVALID_VALUE;
		m.box[i] = (uint16_t)box[i];
	}
	inner = (size_t)box[0] * bits_of(type) / 8;
	if (interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && (inner % 16 || (swizzle && inner > widest[swizzle])))
		return CUDA_ERROR_INVALID_VALUE;
	return done(&m, out);
}

static CUresult pixels(struct map *m, uint32_t channels, uint32_t column)
{
	if (!channels || channels > 256 || !column || column > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	m->channels = (uint16_t)channels;
	m->pixels = (uint16_t)column;
	return CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank, void *address,
				 const cuuint64_t *dim, const cuuint64_t *stride, const int *lower, const int *upper,
				 cuuint32_t channels, cuuint32_t column, const cuuint32_t *step,
				 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
				 CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
	struct map m;
	CUresult e = start(&m, out, type, rank, address, dim, stride, step, interleave, swizzle, promotion, fill);

	if (!e && (rank < 3 || !lower || !upper))
		e = CUDA_ERROR_INVALID_VALUE;
	if (!e)
		e = pixels(&m, channels, column);
	if (e)
		return e;
	m.kind = IM2COL;
	for (uint32_t i = 0; i < rank - 2; i++) {
		int limit = rank == 3 ? 32768 : rank == 4 ? 128 : 16;

		if (lower[i] < -limit || lower[i] >= limit || upper[i] < -limit || upper[i] >= limit)
			return CUDA_ERROR_INVALID_VALUE;
		m.lower[i] = (int8_t)lower[i];
		m.upper[i] = (int8_t)upper[i];
	}
	return done(&m, out);
}

CUresult cuTensorMapEncodeIm2colWide(CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank, void *address,
				     const cuuint64_t *dim, const cuuint64_t *stride, int lower, int upper,
				     cuuint32_t channels, cuuint32_t column, const cuuint32_t *step,
				     CUtensorMapInterleave interleave, CUtensorMapIm2ColWideMode mode,
				     CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
	struct map m;
	CUresult e = start(&m, out, type, rank, address, dim, stride, step, interleave, swizzle, promotion, fill);

	if (!e && (rank < 3 || (unsigned int)mode > CU_TENSOR_MAP_IM2COL_WIDE_MODE_W128 || lower < -128 || lower > 127 ||
		   upper < -128 || upper > 127))
		e = CUDA_ERROR_INVALID_VALUE;
	if (!e)
		e = pixels(&m, channels, column);
	if (e)
		return e;
	m.kind = IM2COL_WIDE;
	m.mode = (uint8_t)mode;
	m.lower[0] = (int8_t)lower;
	m.upper[0] = (int8_t)upper;
	return done(&m, out);
}

CUresult cuTensorMapReplaceAddress(CUtensorMap *map, void *address)
{
	struct map m;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!map || (uintptr_t)map % 64 || !address)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&m, map, sizeof(m));
	if (m.magic != MAGIC || (uintptr_t)address % (m.interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16))
		return CUDA_ERROR_INVALID_VALUE;
	m.address = (uintptr_t)address;
	return done(&m, map);
}
