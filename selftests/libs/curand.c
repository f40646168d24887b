// SPDX-License-Identifier: Apache-2.0
/* cuRAND: the generators that PyTorch and others use. */
#include <curand.h>

#include "libs.h"

int main(int argc, char **argv)
{
	static const curandRngType_t types[] = { CURAND_RNG_PSEUDO_PHILOX4_32_10, CURAND_RNG_PSEUDO_XORWOW,
						 CURAND_RNG_PSEUDO_MRG32K3A };
	long n = size_arg(argc, argv, 4);
	float *p = device_memory(1 << 20);
	curandGenerator_t g;
	cudaStream_t stream;

	GOOD(cudaStreamCreate(&stream));
	for (unsigned int t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
		GOOD(curandCreateGenerator(&g, types[t]));
		GOOD(curandSetStream(g, stream));
		GOOD(curandSetPseudoRandomGeneratorSeed(g, 1234));
		for (long i = 0; i < n; i++) {
			QUIET(curandGenerateUniform(g, p, 4096));
			QUIET(curandGenerateNormal(g, p, 4096, 0, 1));
		}
		GOOD(curandDestroyGenerator(g));
	}
	GOOD(cudaStreamSynchronize(stream));
	return tap_done();
}
