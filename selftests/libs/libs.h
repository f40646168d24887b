/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the programs that use one of NVIDIA's libraries each, from its creation to its end. argv[1]: how often the steady
 * part runs; what one run of it costs is the difference between two numbers of them.
 */
#ifndef SELFTESTS_LIBS_H
#define SELFTESTS_LIBS_H

#include <cuda_runtime_api.h>
#include <unistd.h>

#include "../cuda/tap.h"

/* A call that has to work; every library's 0 is success. */
#define GOOD(call) do {									\
	int status_ = (int)(call);							\
	ok(status_ == 0, "%s", #call);							\
	if (status_)									\
		bail("%s:%d: %s gave %d", __FILE__, __LINE__, #call, status_);		\
} while (0)

/* The same inside a loop: silent unless it fails. */
#define QUIET(call) do {								\
	int status_ = (int)(call);							\
	if (status_)									\
		bail("%s:%d: %s gave %d", __FILE__, __LINE__, #call, status_);		\
} while (0)

static void *device_memory(size_t size) __attribute__((unused));
static void *device_memory(size_t size)
{
	void *p = NULL;

	QUIET(cudaMalloc(&p, size));
	return p;
}

#endif
