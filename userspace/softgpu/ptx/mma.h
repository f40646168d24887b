/* SPDX-License-Identifier: Apache-2.0 */
/* What a matrix instruction carries. */
#ifndef SOFTGPU_PTX_MMA_H
#define SOFTGPU_PTX_MMA_H

#include <stdbool.h>
#include <stdint.h>

enum { MMA_F16, MMA_BF16, MMA_TF32, MMA_F32, MMA_F64, MMA_S8, MMA_U8, MMA_S32, MMA_TYPES };

struct mma {
	uint32_t m, n, k;			/* wmma.load and .store: rows, columns; ldmatrix: n matrices */
	uint8_t ta, tb, tc, td;
	bool wmma, row, shared, sat;		/* row: row by row; ldmatrix: not transposed */
	uint8_t size[MMA_TYPES];
	uint32_t a[8], b[8], c[8], d[8];	/* registers */
	uint32_t flags;				/* the address of a load or store */
	int64_t imm;
};

#endif /* SOFTGPU_PTX_MMA_H */
