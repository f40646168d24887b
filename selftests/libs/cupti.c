// SPDX-License-Identifier: Apache-2.0
/* CUPTI, NVIDIA's profiling interface: there is none here, and it is told so by errors that a profiler survives. */
#include <cupti.h>

#include "libs.h"

static void CUPTIAPI callback(void *user, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *data)
{
}

static void CUPTIAPI give(uint8_t **buffer, size_t *size, size_t *records)
{
	*size = 65536;
	*buffer = malloc(*size);
	*records = 0;
}

static void CUPTIAPI take(CUcontext ctx, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
	free(buffer);
}

int main(int argc, char **argv)
{
	CUpti_SubscriberHandle subscriber = NULL;
	const char *text = "";
	CUptiResult r;
	void *p = NULL;

	r = cuptiSubscribe(&subscriber, callback, NULL);
	cuptiGetResultString(r, &text);
	ok(r != CUPTI_SUCCESS, "cuptiSubscribe: %s", text);
	cuptiActivityRegisterCallbacks(give, take);
	r = cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
	cuptiGetResultString(r, &text);
	ok(r != CUPTI_SUCCESS, "cuptiActivityEnable: %s", text);
	cuptiActivityFlushAll(1);
	ok(cudaMalloc(&p, 4096) == cudaSuccess, "after that CUDA works");
	r = cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
	ok(r != CUPTI_SUCCESS, "cuptiActivityEnable with a context fails too");
	ok(cudaFree(p) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess, "and CUDA still works");
	cuptiFinalize();
	return tap_done();
}
