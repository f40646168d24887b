/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every entry point that works here, to be called with arguments that are right as far as their types tell: objects, memory,
 * a device; blank structures, and the number 1. From the call table, by gen_sweep.py.
 */
#ifndef SELFTESTS_SWEEP_H
#define SELFTESTS_SWEEP_H

#include <signal.h>
#include <unistd.h>

#include "objects.h"
#include "sweep_gen.h"

#define MOST	16	/* arguments */
#define BUFFER	65536u

static const struct entry {
	const char *name;
	CUresult (*call)(const uint64_t *a);
	unsigned int n;
	const char *kinds;
} entries[] = {
#define SWEEP(name, n, kinds) { #name, CALL_##name, n, kinds },
	SWEEPS
};

static struct objects good;
static unsigned char *buffers[MOST];
static CUdeviceptr memory;
static CUcontext context;
static const char *now = "nothing";	/* what is being done */

static void died(int sig)
{
	printf("not ok - %s: %s\n", now, sig == SIGALRM ? "it hangs" : "it crashes");
	fflush(stdout);
	_exit(1);
}

static void arguments(const struct entry *e, uint64_t *a)
{
	const CUmemLocation device = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = good.device };

	for (unsigned int i = 0; i < e->n; i++) {
		char k = e->kinds[i];

		memset(buffers[i], 0, BUFFER);
		if (k == 'd')
			a[i] = memory;
		else if (k == 'v')
			a[i] = good.device;
		else if (k == 'p')
			a[i] = (uintptr_t)buffers[i];
		else if (k == 'l')
			a[i] = (uintptr_t)memcpy(buffers[i], &device, sizeof(device));
		else if (k == 'c')
			a[i] = (uintptr_t)strcpy((char *)buffers[i], "/no/such");
		else if (k == 'f')
			a[i] = (uintptr_t)object_function;
		else if (strchr("-ebws", k))
			a[i] = 1;
		else
			a[i] = (uintptr_t)good.of[(int)k];
	}
}

/* The session works: a value goes out and comes back, and nothing of the wrong call is heard of later. */
static CUresult works(void)
{
	static unsigned int value;
	unsigned int back = 0;
	CUresult r;

	value++;
	CU(cuCtxSetCurrent(context));
	r = cuMemsetD32_v2(memory, value, 1);
	if (r == CUDA_SUCCESS)
		r = cuMemcpyDtoH_v2(&back, memory, sizeof(back));
	return r != CUDA_SUCCESS ? r : back == value ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

static void each(void (*fn)(const struct entry *e)) __attribute__((unused));
static void each(void (*fn)(const struct entry *e))
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		fn(&entries[i]);
}

/* Buffers for pointers, and a word about what crashes or hangs. */
static void sweep_begin(void)
{
	signal(SIGSEGV, died);
	signal(SIGBUS, died);
	signal(SIGABRT, died);
	signal(SIGALRM, died);
	for (unsigned int i = 0; i < MOST; i++)
		buffers[i] = malloc(BUFFER);
}

#endif /* SELFTESTS_SWEEP_H */
