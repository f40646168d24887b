// SPDX-License-Identifier: Apache-2.0
/* cuBLASLt: matrix products in half and single precision, as PyTorch calls it. */
#include <cublasLt.h>

#include "libs.h"

#define N 1024
#define WORKSPACE (32u << 20)

struct product {
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t layout;
	cublasLtMatmulHeuristicResult_t found;
};

static void prepare(cublasLtHandle_t h, struct product *p, cudaDataType_t type)
{
	cublasOperation_t t = CUBLAS_OP_T;
	cublasLtMatmulPreference_t wanted;
	size_t workspace = WORKSPACE;
	int n = 0;

	GOOD(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	GOOD(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof(t)));
	GOOD(cublasLtMatrixLayoutCreate(&p->layout, type, N, N, N));
	GOOD(cublasLtMatmulPreferenceCreate(&wanted));
	GOOD(cublasLtMatmulPreferenceSetAttribute(wanted, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
						  sizeof(workspace)));
	GOOD(cublasLtMatmulAlgoGetHeuristic(h, p->desc, p->layout, p->layout, p->layout, p->layout, wanted, 1, &p->found,
					    &n));
	ok(n == 1, "an algorithm is found");
	GOOD(cublasLtMatmulPreferenceDestroy(wanted));
}

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	const float one = 1, zero = 0;
	struct product half, single;
	cublasLtHandle_t h;
	cudaStream_t stream;
	void *a, *b, *c, *workspace;

	GOOD(cublasLtCreate(&h));
	GOOD(cudaStreamCreate(&stream));
	a = device_memory(N * N * 4);
	b = device_memory(N * N * 4);
	c = device_memory(N * N * 4);
	workspace = device_memory(WORKSPACE);
	prepare(h, &half, CUDA_R_16F);
	prepare(h, &single, CUDA_R_32F);
	for (long i = 0; i < n; i++) {
		QUIET(cublasLtMatmul(h, half.desc, &one, a, half.layout, b, half.layout, &zero, c, half.layout, c,
				     half.layout, &half.found.algo, workspace, WORKSPACE, stream));
		QUIET(cublasLtMatmul(h, single.desc, &one, a, single.layout, b, single.layout, &zero, c, single.layout, c,
				     single.layout, &single.found.algo, workspace, WORKSPACE, stream));
	}
	ok(1, "%ld products in two precisions", 2 * n);
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cublasLtDestroy(h));
	return tap_done();
}
