// SPDX-License-Identifier: Apache-2.0
/*
 * A call that is not waited for has failed. What is asked or waited for next says so, and nothing else does: what a
 * call has made is the program's, and what it gives back is given back.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <pthread.h>

#include "driver.h"

#define AGAIN	600	/* more than the places of handles that rest before they come again */
#define BROKEN_BYTES	(1u << 20)	/* more than what travels in a message */

static CUstream stream;
static CUcontext primary;

/* It fails at once, or when something else is answered: streams have no such attribute. @return does it? */
static bool fails(void)
{
	CUstreamAttrValue v = { .cooperative = 0 };

	return cuStreamSetAttribute(stream, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &v) == CUDA_SUCCESS;
}

static void told(bool late, const char *who)
{
	CUresult r = cuStreamQuery(NULL);

	ok((r != CUDA_SUCCESS) == late, "%s says nothing of it, who asks is told: %s", who, cu_name(r));
	r = cuStreamQuery(NULL);
	ok(r == CUDA_SUCCESS, "once");
}

/* What makes something, and @destroy takes it. */
#define MAKES(type, create, destroy) do {		\
	bool late_ = fails();				\
	type made = NULL;				\
							\
	GIVES(create, CUDA_SUCCESS, #create);		\
	told(late_, #create);				\
	ok(made != NULL, "it is there");		\
	GIVES(destroy, CUDA_SUCCESS, #destroy);		\
} while (0)

static void objects(CUdevice dev)
{
	CUDA_ARRAY_DESCRIPTOR flat = { .Width = 16, .Height = 16, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	CUDA_ARRAY3D_DESCRIPTOR deep = { .Width = 16, .Height = 16, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev } };
	CUmemoryPool usual = NULL;
	CUcontext top = NULL, same;
	CUgraph graph;
	bool late;

	CU(cuGraphCreate(&graph, 0));
	MAKES(CUarray, cuArrayCreate_v2(&made, &flat), cuArrayDestroy(made));
	MAKES(CUarray, cuArray3DCreate_v2(&made, &deep), cuArrayDestroy(made));
	MAKES(CUmipmappedArray, cuMipmappedArrayCreate(&made, &deep, 2), cuMipmappedArrayDestroy(made));
	MAKES(CUmemoryPool, cuMemPoolCreate(&made, &props), cuMemPoolDestroy(made));
	MAKES(CUlinkState, cuLinkCreate_v2(0, NULL, NULL, &made), cuLinkDestroy(made));
	MAKES(CUgraph, cuGraphClone(&made, graph), cuGraphDestroy(made));
	MAKES(CUstream, cuStreamCreate(&made, 0), cuStreamDestroy_v2(made));
	MAKES(CUevent, cuEventCreate(&made, 0), cuEventDestroy_v2(made));
	MAKES(CUtexref, cuTexRefCreate(&made), cuTexRefDestroy(made));

	late = fails();
	GIVES(cuDeviceGetDefaultMemPool(&usual, dev), CUDA_SUCCESS, "the default pool");
	told(late, "asking for it");
	late = fails();
	GIVES(cuGraphDestroy(graph), CUDA_SUCCESS, "a graph is destroyed");
	told(late, "that");
	late = fails();
	GIVES(cuDevicePrimaryCtxRetain(&same, dev), CUDA_SUCCESS, "the primary context is retained once more");
	told(late, "that");
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	late = fails();
	GIVES(cuCtxCreate_v2(&top, 0, dev), CUDA_SUCCESS, "a context is made");
	CU(cuCtxSetCurrent(primary));
	told(late, "that");
	CU(cuCtxDestroy_v2(top));
	CU(cuCtxSetCurrent(primary));
}

static void captured(void)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUgraph graph = NULL;
	CUevent event = NULL;
	bool late = fails();

	CU(cuThreadExchangeStreamCaptureMode(&mode));
	GIVES(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_SUCCESS, "a capture begins");
	GIVES(cuEventCreate(&event, 0), CUDA_SUCCESS, "an event is made meanwhile");
	GIVES(cuStreamEndCapture(stream, &graph), CUDA_SUCCESS, "it ends");
	told(late, "all that");
	CU(cuThreadExchangeStreamCaptureMode(&mode));
	CU(cuEventDestroy_v2(event));
	CU(cuGraphDestroy(graph));
}

/* What the shim waits for by itself is not what the program is told of. */
static void memory(void)
{
	static char plain[4096];
	void *pinned;
	bool late;

	CU(cuMemHostAlloc(&pinned, 4096, 0));
	late = fails();
	GIVES(cuMemFreeHost(pinned), CUDA_SUCCESS, "pinned memory is freed");
	told(late, "that");
	OURS(cuMemFreeHost(pinned), CUDA_ERROR_INVALID_VALUE, "it has gone");
	CU(cuMemHostRegister_v2(plain, sizeof(plain), CU_MEMHOSTREGISTER_DEVICEMAP));
	late = fails();
	GIVES(cuMemHostUnregister(plain), CUDA_SUCCESS, "memory is registered no more");
	told(late, "that");
}

static void copies(void)
{
	static char big[3 << 20];
	char small[64] = "";
	CUdeviceptr d;
	bool late;

	CU(cuMemAlloc_v2(&d, sizeof(big)));
	late = fails();
	ok((cuMemcpyHtoD_v2(d, small, sizeof(small)) != CUDA_SUCCESS) == late, "a copy that is waited for says it, too");
	fails();
	ok((cuMemcpyDtoH_v2(small, d, sizeof(small)) != CUDA_SUCCESS) == late, "back");
	memset(big, 1, sizeof(big));
	fails();
	ok((cuMemcpyHtoD_v2(d, big, sizeof(big)) != CUDA_SUCCESS) == late, "a large one");
	memset(big, 0, sizeof(big));
	CU(cuMemcpyDtoH_v2(big, d, sizeof(big)));
	ok(big[0] == 1 && big[sizeof(big) - 1] == 1, "which is whole all the same");
	CU(cuMemFree_v2(d));
}

static void *leaves_it(void *arg)
{
	CUresult *r = arg;

	*r = cuCtxSetCurrent(primary);
	fails();
	return NULL;
}

static void *asks(void *arg)
{
	CUresult *r = arg;

	*r = cuCtxSetCurrent(primary);
	if (*r == CUDA_SUCCESS)
		*r = cuStreamQuery(NULL);
	return NULL;
}

static void threads(void)
{
	CUresult r = CUDA_SUCCESS;
	unsigned int bad = 0;
	pthread_t t;

	for (int i = 0; i < 8; i++) {
		pthread_create(&t, NULL, leaves_it, &r);
		pthread_join(t, NULL);
		pthread_create(&t, NULL, asks, &r);
		pthread_join(t, NULL);
		bad += r != CUDA_SUCCESS;
	}
	ok(!bad, "a thread hears nothing of what failed in one that has ended: %u of 8 did", bad);
}

/* Objects whose places come again: each was given back, or is the program's. */
static void again(void)
{
	CUDA_ARRAY_DESCRIPTOR flat = { .Width = 16, .Height = 16, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	unsigned int bad = 0;

	for (int i = 0; i < AGAIN; i++) {
		CUarray array;

		fails();
		bad += cuArrayCreate_v2(&array, &flat) != CUDA_SUCCESS || cuArrayDestroy(array) != CUDA_SUCCESS;
	}
	cuStreamQuery(NULL);
	ok(!bad, "%d arrays after failures, %u bad", AGAIN, bad);
	GIVES(cuCtxSynchronize(), CUDA_SUCCESS, "the session goes on");
}

static const char ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n" PTX_ADD;

/* A context of its own, current, that a kernel breaks; in it memory and a stream. */
static CUcontext broken(CUdevice dev, CUdeviceptr *d, CUstream *s)
{
	CUdeviceptr nowhere = 64;
	unsigned int one = 1;
	void *args[] = { &nowhere, &one };
	CUmodule module;
	CUfunction add;
	CUcontext ctx;

	CU(cuCtxCreate_v2(&ctx, 0, dev));
	CU(cuMemAlloc_v2(d, BROKEN_BYTES));
	CU(cuStreamCreate(s, CU_STREAM_NON_BLOCKING));
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, *s, args, NULL);
	GIVES(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS, "a kernel breaks its context");
	return ctx;
}

static void well(CUdevice dev, const char *what)
{
	unsigned int in = 5, out = 0;
	CUdeviceptr d;
	CUcontext ctx;

	CU(cuCtxCreate_v2(&ctx, 0, dev));
	CU(cuMemAlloc_v2(&d, 4));
	GIVES(cuMemcpyHtoD_v2(d, &in, 4), CUDA_SUCCESS, what);
	CU(cuMemcpyDtoH_v2(&out, d, 4));
	ok(out == in, "and works");
	CU(cuMemFree_v2(d));
	CU(cuCtxDestroy_v2(ctx));
}

struct left {
	CUcontext ctx;
	CUdeviceptr d;
	CUstream s;
	CUresult r, copy;
};

static void *leaves_copy(void *arg)
{
	static char big[BROKEN_BYTES];
	struct left *l = arg;

	l->r = cuCtxSetCurrent(l->ctx);
	l->copy = cuMemcpyHtoDAsync_v2(l->d, big, sizeof(big), l->s);
	return NULL;
}

/* A thread's one call is a copy that nobody waits for. */
static void threads_copy(CUdevice dev)
{
	struct left l;
	pthread_t t;

	l.ctx = broken(dev, &l.d, &l.s);
	pthread_create(&t, NULL, leaves_copy, &l);
	pthread_join(t, NULL);
	ok(!getenv("VGPU_SYNC") || l.copy == CUDA_ERROR_ILLEGAL_ADDRESS,
	   "a large copy in it, which says so itself if every call waits: %s", cu_name(l.copy));
	pthread_create(&t, NULL, asks, &l.r);
	pthread_join(t, NULL);
	GIVES(l.r, CUDA_SUCCESS, "nor of a copy that was left to itself there");
	cuCtxDestroy_v2(l.ctx);
}

/* What failed in a context ends with it. What failed before, in another, is told there. */
static void with_its_context(CUdevice dev)
{
	CUdeviceptr d;
	CUstream s;
	CUcontext ctx;
	CUresult r;
	bool late;

	ctx = broken(dev, &d, &s);
	cuMemFree_v2(d);
	cuCtxDestroy_v2(ctx);
	well(dev, "a context after one that was broken hears nothing of it");
	ctx = broken(dev, &d, &s);
	cuMemFree_v2(d);
	CU(cuCtxSetCurrent(primary));
	cuCtxDestroy_v2(ctx);
	well(dev, "nor when another was current at its end");

	CU(cuCtxSetCurrent(primary));
	late = fails();
	ctx = broken(dev, &d, &s);
	cuMemFree_v2(d);
	cuMemAlloc_v2(&d, 4);	/* answered, with the context's error and the one that was left */
	CU(cuCtxSetCurrent(primary));
	cuCtxDestroy_v2(ctx);
	CU(cuCtxSetCurrent(primary));
	r = cuStreamQuery(NULL);
	ok((r != CUDA_SUCCESS && r != CUDA_ERROR_ILLEGAL_ADDRESS) == late,
	   "the first of two errors is told, that of the context which is there: %s", cu_name(r));
	GIVES(cuStreamQuery(NULL), CUDA_SUCCESS, "once");
}

int main(void)
{
	CUdevice dev;

	primary = primary_context(&dev);
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	objects(dev);
	captured();
	memory();
	copies();
	threads();
	/*
	 * A GPU's fault leaves the process in a state in which "any further CUDA work will return the same error" (cuda.h), whatever
	 * its context: who makes another one there is not promised anything.
	 */
	if (ON_SOFTWARE()) {
		threads_copy(dev);
		with_its_context(dev);
	}
	again();
	CU(cuDevicePrimaryCtxRelease_v2(dev));
	return tap_done();
}
