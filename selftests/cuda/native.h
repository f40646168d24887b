/* SPDX-License-Identifier: Apache-2.0 */
/* What a test runs on: our shim, the software GPU by itself, or NVIDIA's driver. */
#ifndef SELFTESTS_NATIVE_H
#define SELFTESTS_NATIVE_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Our software GPU without a broker: each process counts its memory alone. */
static bool counts_apart(void) __attribute__((unused));
static bool counts_apart(void)
{
	void *dl = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);

	return dl && dlsym(dl, "softgpu_share_host");
}

/* NVIDIA's driver without us: what it says to nonsense is its own business, and often nothing at all. */
static bool on_driver(void) __attribute__((unused));
static bool on_driver(void)
{
	static int known = -1;

	if (known < 0)
		known = !counts_apart() && !getenv("VGPU_TRANSPORT") && access("/dev/vgpu", F_OK);
	return known;
}

/* In a pod, which may be emulated: what is only more of the same is done less often. */
static bool in_pod(void) __attribute__((unused));
static bool in_pod(void)
{
	return !access("/dev/vgpu", F_OK);
}

/* The GPU at the end of it is our software: what it does to the byte that hardware does in units of its own. */
#define ON_SOFTWARE() ({							\
	CUdevice dev_;								\
	char name_[128] = "";							\
										\
	cuDeviceGet(&dev_, 0) == CUDA_SUCCESS && cuDeviceGetName(name_, sizeof(name_), dev_) == CUDA_SUCCESS &&	\
		strstr(name_, "software GPU");					\
})

static bool native(const char *what) __attribute__((unused));
static bool native(const char *what)
{
	if (!on_driver())
		return false;
	printf("# %s: not tested on the driver itself\n", what);
	return true;
}

/*
 * GIVES() for what NVIDIA's driver takes without looking, or dies of: handles that are none any more, a second destroy, a
 * pointer to nowhere. Answered by us; not tried on the driver itself.
 */
#define OURS(call, wanted, what) do {	\
	if (!on_driver())		\
		GIVES(call, wanted, what);	\
} while (0)

#endif /* SELFTESTS_NATIVE_H */
