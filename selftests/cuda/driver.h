/* SPDX-License-Identifier: Apache-2.0 */
/* For programs of the driver API. */
#ifndef SELFTESTS_DRIVER_H
#define SELFTESTS_DRIVER_H

#include <cuda.h>

#include "native.h"
#include "tap.h"

static const char *cu_name(CUresult err) __attribute__((unused));
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

/* The kernel of tests that need one: add(where, value) adds to one word, by one thread. Behind a module's head. */
#define PTX_ADD								\
	".visible .entry add(.param .u64 where, .param .u32 value)\n"	\
	"{\n"								\
	"	.reg .b64 %rd<2>;\n"					\
	"	.reg .b32 %r<3>;\n"					\
	"	ld.param.u64 %rd1, [where];\n"				\
	"	ld.param.u32 %r1, [value];\n"				\
	"	ld.global.u32 %r2, [%rd1];\n"				\
	"	add.u32 %r2, %r2, %r1;\n"				\
	"	st.global.u32 [%rd1], %r2;\n"				\
	"	ret;\n"							\
	"}\n"

#endif /* SELFTESTS_DRIVER_H */
