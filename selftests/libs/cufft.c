// SPDX-License-Identifier: Apache-2.0
/* cuFFT: plans in one, two and three dimensions. */
#include <cufft.h>

#include "libs.h"

int main(int argc, char **argv)
{
	long n = size_arg(argc, argv, 4);
	cudaStream_t stream;
	cufftHandle one, two, three;
	void *p = device_memory(1 << 24);

	GOOD(cudaStreamCreate(&stream));
	GOOD(cufftPlan1d(&one, 4096, CUFFT_C2C, 4));
	GOOD(cufftPlan2d(&two, 512, 512, CUFFT_R2C));
	GOOD(cufftPlan3d(&three, 64, 64, 64, CUFFT_Z2Z));
	GOOD(cufftSetStream(one, stream));
	GOOD(cufftSetStream(two, stream));
	GOOD(cufftSetStream(three, stream));
	for (long i = 0; i < n; i++) {
		QUIET(cufftExecC2C(one, p, p, CUFFT_FORWARD));
		QUIET(cufftExecR2C(two, p, p));
		QUIET(cufftExecZ2Z(three, p, p, CUFFT_INVERSE));
	}
	GOOD(cudaStreamSynchronize(stream));
	GOOD(cufftDestroy(one));
	GOOD(cufftDestroy(two));
	GOOD(cufftDestroy(three));
	return tap_done();
}
