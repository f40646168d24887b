// SPDX-License-Identifier: Apache-2.0
/* cuBLAS: levels 1 to 3, and half precision. */
#include <cublas_v2.h>

#include "libs.h"

#define N 512

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	const float one = 1, zero = 0;
	cublasHandle_t h;
	cudaStream_t stream;
	float *a, *b, *c, dot, *pointers[2];
	float **batch;

	GOOD(cublasCreate(&h));
	GOOD(cudaStreamCreate(&stream));
	GOOD(cublasSetStream(h, stream));
	a = device_memory(N * N * sizeof(*a));
	b = device_memory(N * N * sizeof(*b));
	c = device_memory(N * N * sizeof(*c));
	batch = device_memory(sizeof(pointers));
	pointers[0] = a;
	pointers[1] = b;
	GOOD(cublasSaxpy(h, N, &one, a, 1, b, 1));
	GOOD(cublasSdot(h, N, a, 1, b, 1, &dot));
	GOOD(cublasSnrm2(h, N, a, 1, &dot));
	GOOD(cublasSgemv(h, CUBLAS_OP_N, N, N, &one, a, N, b, 1, &zero, c, 1));
	GOOD(cublasSgemm(h, CUBLAS_OP_N, CUBLAS_OP_T, N, N, N, &one, a, N, b, N, &zero, c, N));
	GOOD(cublasStrsm(h, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, 64, 64, &one, a,
			 N, b, N));
	GOOD(cublasGemmEx(h, CUBLAS_OP_N, CUBLAS_OP_N, N, N, N, &one, a, CUDA_R_16F, N, b, CUDA_R_16F, N, &zero, c,
			  CUDA_R_16F, N, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	GOOD(cublasGemmEx(h, CUBLAS_OP_N, CUBLAS_OP_N, N, N, N, &one, a, CUDA_R_16BF, N, b, CUDA_R_16BF, N, &zero, c,
			  CUDA_R_32F, N, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	GOOD(cublasSgemmStridedBatched(h, CUBLAS_OP_N, CUBLAS_OP_N, 64, 64, 64, &one, a, 64, 4096, b, 64, 4096, &zero, c,
				       64, 4096, 8));
	GOOD(cudaMemcpy(batch, pointers, sizeof(pointers), cudaMemcpyHostToDevice));
	GOOD(cublasSgemmBatched(h, CUBLAS_OP_N, CUBLAS_OP_N, 64, 64, 64, &one, (const float *const *)batch, 64,
				(const float *const *)batch, 64, &zero, batch, 64, 2));
	for (long i = 0; i < n; i++) {
		QUIET(cublasSaxpy(h, N, &one, a, 1, b, 1));
		QUIET(cublasSgemv(h, CUBLAS_OP_N, N, N, &one, a, N, b, 1, &zero, c, 1));
		QUIET(cublasSgemm(h, CUBLAS_OP_N, CUBLAS_OP_T, N, N, N, &one, a, N, b, N, &zero, c, N));
		QUIET(cublasGemmEx(h, CUBLAS_OP_N, CUBLAS_OP_N, N, N, N, &one, a, CUDA_R_16F, N, b, CUDA_R_16F, N, &zero, c,
				   CUDA_R_16F, N, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	}
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cublasDestroy(h));
	GOOD(cudaStreamDestroy(stream));
	return tap_done();
}
