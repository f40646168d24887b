/* SPDX-License-Identifier: Apache-2.0 */
/* For programs of the driver API. */
#ifndef SELFTESTS_DRIVER_H
#define SELFTESTS_DRIVER_H

#include <cuda.h>

#include "tap.h"

static const char *cu_name(CUresult err)
{
	const char *name = NULL;

	return cuGetErrorName(err, &name) == CUDA_SUCCESS && name ? name : "an unknown error";
}

/* A call that the test needs to succeed, but that it is not about. */
#define CU(call) do {									\
	CUresult err_ = (call);								\
	if (err_ != CUDA_SUCCESS)							\
		bail("%s:%d: %s: %s", __FILE__, __LINE__, #call, cu_name(err_));	\
} while (0)

/* A call that must give exactly this answer. */
#define GIVES(call, wanted, what) do {							\
	CUresult got_ = (call);								\
	ok(got_ == (wanted), "%s: %s", what, cu_name(wanted));				\
	if (got_ != (wanted))								\
		printf("# %s:%d: %s gave %s\n", __FILE__, __LINE__, #call, cu_name(got_));	\
} while (0)

#endif /* SELFTESTS_DRIVER_H */
