// SPDX-License-Identifier: Apache-2.0
/* cuSPARSE: a sparse matrix times a vector, and times a matrix. */
#include <cusparse.h>

#include "libs.h"

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	const float one = 1, zero = 0;
	size_t size = 0, size_mm = 0;
	cusparseHandle_t h;
	cusparseSpMatDescr_t a;
	cusparseDnVecDescr_t x, y;
	cusparseDnMatDescr_t b, c;
	cudaStream_t stream;
	char *p, *buffer;

	GOOD(cusparseCreate(&h));
	GOOD(cudaStreamCreate(&stream));
	GOOD(cusparseSetStream(h, stream));
	p = device_memory(1 << 22);
	GOOD(cusparseCreateCsr(&a, 1024, 1024, 4096, p, p + 65536, p + 131072, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I,
			       CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F));
	GOOD(cusparseCreateDnVec(&x, 1024, p + 262144, CUDA_R_32F));
	GOOD(cusparseCreateDnVec(&y, 1024, p + 524288, CUDA_R_32F));
	GOOD(cusparseCreateDnMat(&b, 1024, 16, 1024, p + 1048576, CUDA_R_32F, CUSPARSE_ORDER_COL));
	GOOD(cusparseCreateDnMat(&c, 1024, 16, 1024, p + 2097152, CUDA_R_32F, CUSPARSE_ORDER_COL));
	GOOD(cusparseSpMV_bufferSize(h, CUSPARSE_OPERATION_NON_TRANSPOSE, &one, a, x, &zero, y, CUDA_R_32F,
				     CUSPARSE_SPMV_ALG_DEFAULT, &size));
	GOOD(cusparseSpMM_bufferSize(h, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE, &one, a, b,
				     &zero, c, CUDA_R_32F, CUSPARSE_SPMM_ALG_DEFAULT, &size_mm));
	buffer = device_memory((size > size_mm ? size : size_mm) + 16);
	for (long i = 0; i < n; i++) {
		QUIET(cusparseSpMV(h, CUSPARSE_OPERATION_NON_TRANSPOSE, &one, a, x, &zero, y, CUDA_R_32F,
				   CUSPARSE_SPMV_ALG_DEFAULT, buffer));
		QUIET(cusparseSpMM(h, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE, &one, a, b, &zero,
				   c, CUDA_R_32F, CUSPARSE_SPMM_ALG_DEFAULT, buffer));
	}
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cusparseDestroy(h));
	return tap_done();
}
