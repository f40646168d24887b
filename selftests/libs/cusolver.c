// SPDX-License-Identifier: Apache-2.0
/* cuSOLVER: LU, QR and Cholesky of a dense matrix. */
#include <cusolverDn.h>

#include "libs.h"

#define N 256

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	cusolverDnHandle_t h;
	cudaStream_t stream;
	int lu, qr, chol, *info;
	float *a, *tau, *work;

	GOOD(cusolverDnCreate(&h));
	GOOD(cudaStreamCreate(&stream));
	GOOD(cusolverDnSetStream(h, stream));
	a = device_memory(N * N * sizeof(*a));
	tau = device_memory(N * sizeof(*tau));
	info = device_memory(N * sizeof(*info));
	GOOD(cusolverDnSgetrf_bufferSize(h, N, N, a, N, &lu));
	GOOD(cusolverDnSgeqrf_bufferSize(h, N, N, a, N, &qr));
	GOOD(cusolverDnSpotrf_bufferSize(h, CUBLAS_FILL_MODE_LOWER, N, a, N, &chol));
	lu = lu > qr ? lu : qr;
	lu = lu > chol ? lu : chol;
	work = device_memory((lu + 64) * sizeof(*work));
	for (long i = 0; i < n; i++) {
		QUIET(cusolverDnSgetrf(h, N, N, a, N, work, NULL, info));
		QUIET(cusolverDnSgeqrf(h, N, N, a, N, tau, work, lu, info));
		QUIET(cusolverDnSpotrf(h, CUBLAS_FILL_MODE_LOWER, N, a, N, work, lu, info));
	}
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cusolverDnDestroy(h));
	return tap_done();
}
