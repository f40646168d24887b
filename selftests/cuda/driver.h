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

/* With what most programs begin: the primary context of the first device, @dev (or NULL), which becomes current. */
static CUcontext primary_context(CUdevice *dev) __attribute__((unused));
static CUcontext primary_context(CUdevice *dev)
{
	CUcontext ctx;
	CUdevice d;

	CU(cuInit(0));
	CU(cuDeviceGet(&d, 0));
	CU(cuDevicePrimaryCtxRetain(&ctx, d));
	CU(cuCtxSetCurrent(ctx));
	if (dev)
		*dev = d;
	return ctx;
}

#define PTX_HEAD	".version 7.0\n.target sm_75\n.address_size 64\n"

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

/* A kernel for many threads, each with its word: %rd3 is where that is, %r5 its number, %r1 the value. @work is in %r6 and these. */
#define PTX_EACH(name, work)								\
	".visible .entry " name "(.param .u64 where, .param .u32 value)\n"		\
	"{\n"										\
	"	.reg .b64 %rd<4>;\n"							\
	"	.reg .b32 %r<7>;\n"							\
	"	ld.param.u64 %rd1, [where];\n"						\
	"	ld.param.u32 %r1, [value];\n"						\
	"	mov.u32 %r2, %ctaid.x;\n"						\
	"	mov.u32 %r3, %ntid.x;\n"						\
	"	mov.u32 %r4, %tid.x;\n"							\
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n"					\
	"	mul.wide.u32 %rd2, %r5, 4;\n"						\
	"	add.s64 %rd3, %rd1, %rd2;\n"						\
	work										\
	"	ret;\n"									\
	"}\n"

/* Its word becomes the value and its number; or that much more. */
#define PTX_COUNT(name)	PTX_EACH(name, "	add.u32 %r6, %r1, %r5;\n	st.global.u32 [%rd3], %r6;\n")
#define PTX_COUNT_UP(name)								\
	PTX_EACH(name, "	ld.global.u32 %r6, [%rd3];\n	add.u32 %r6, %r6, %r1;\n"	\
		       "	add.u32 %r6, %r6, %r5;\n	st.global.u32 [%rd3], %r6;\n")

#endif /* SELFTESTS_DRIVER_H */
