/* SPDX-License-Identifier: Apache-2.0 */
/* For programs of the CUDA runtime API. */
#ifndef SELFTESTS_RUNTIME_H
#define SELFTESTS_RUNTIME_H

#include <cuda_runtime.h>

#include "native.h"
#include "tap.h"

/* A call that the test needs to succeed, but that it is not about. */
#define CUDA(call) do {									\
	cudaError_t err_ = (call);							\
	if (err_ != cudaSuccess)							\
		bail("%s:%d: %s: %s (%s)", __FILE__, __LINE__, #call,			\
		     cudaGetErrorName(err_), cudaGetErrorString(err_));			\
} while (0)

/* A call that must give exactly this answer. */
#define GIVES(call, wanted, what) do {							\
	cudaError_t got_ = (call);							\
	ok(got_ == (wanted), "%s: %s", what, cudaGetErrorName(wanted));			\
	if (got_ != (wanted))								\
		printf("# %s:%d: %s gave %s\n", __FILE__, __LINE__, #call,		\
		       cudaGetErrorName(got_));						\
} while (0)

static void show_device(const char *what) __attribute__((unused));
static void show_device(const char *what)
{
	cudaDeviceProp prop;
	int device;

	CUDA(cudaGetDevice(&device));
	CUDA(cudaGetDeviceProperties(&prop, device));
	printf("# %s on %s, compute capability %d.%d, %zu MiB\n", what, prop.name, prop.major, prop.minor,
	       prop.totalGlobalMem >> 20);
	fflush(stdout);
}

/* Numbers that are the same on every machine. */
static unsigned int noise(unsigned int *state) __attribute__((unused));
static unsigned int noise(unsigned int *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

#endif /* SELFTESTS_RUNTIME_H */
