// SPDX-License-Identifier: Apache-2.0
/* Host functions: run once each, in stream order, and while the program's own threads wait. */
#include <pthread.h>
#include <unistd.h>

#include "driver.h"

#define MANY	300

static const char ptx[] =
	".version 7.0\n"
	".target sm_75\n"
	".address_size 64\n"
	PTX_ADD;

struct look {
	volatile unsigned int *at;
	unsigned int seen;
	int calls;
	pthread_t thread;
	CUresult inside;
};

static CUstream stream;

static void look_and_double(void *data)
{
	struct look *l = data;

	l->seen = *l->at;
	*l->at *= 2;
	l->calls++;
	l->thread = pthread_self();
	/* NVIDIA's driver would wait for ever. */
	l->inside = on_driver() ? CUDA_ERROR_NOT_PERMITTED : cuStreamSynchronize(stream);
}

static int order[MANY], next_order;

static void note(void *data)
{
	order[next_order++] = (int)(intptr_t)data;
}

static void slow(void *data)
{
	usleep(30000);
	*(volatile int *)data = 1;
}

static CUresult told;
static CUstream told_stream;

static void CUDA_CB after(CUstream s, CUresult status, void *data)
{
	told = status;
	told_stream = s;
	*(volatile int *)data = 1;
}

/* A function in one stream that waits for a function in another, without the GPU. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int flag;

static void set_flag(void *data)
{
	pthread_mutex_lock(&lock);
	flag = data == NULL;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static void *waiter(void *ctx)
{
	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamSynchronize(stream));
	return NULL;
}

/*
 * Two threads fill streams that a function holds up with copies of ordinary memory, until a third one has made its own:
 * those must not wait for the others.
 */
#define HELD	(8 << 20)

static void hold(void *data)
{
	pthread_mutex_lock(&lock);
	while (!*(bool *)data)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static bool go_on;

static void *fill_held(void *arg)
{
	CUresult r = CUDA_SUCCESS;
	CUdeviceptr d = 0;
	CUstream s;
	char *from = calloc(1, HELD);

	if (!from || cuCtxSetCurrent(arg) != CUDA_SUCCESS || cuStreamCreate(&s, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS ||
	    cuMemAlloc(&d, HELD) != CUDA_SUCCESS)
		return arg;
	r = cuLaunchHostFunc(s, hold, &go_on);
	if (r == CUDA_SUCCESS)
		r = cuMemcpyHtoDAsync(d, from, HELD, s);
	if (r == CUDA_SUCCESS)
		r = cuStreamSynchronize(s);
	cuMemFree(d);
	cuStreamDestroy(s);
	free(from);
	return r == CUDA_SUCCESS ? NULL : arg;
}

static void held_up(CUcontext ctx)
{
	char *from = malloc(HELD), *to = calloc(1, HELD);
	void *failed[2];
	pthread_t t[2];
	CUdeviceptr d;
	CUstream s;

	/* There copies of pageable memory share what they go through. */
	if (native("copies of pageable memory in streams that are held up"))
		return;
	memset(from, 7, HELD);
	CU(cuMemAlloc(&d, HELD));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, fill_held, ctx);
	usleep(300000);
	CU(cuMemcpyHtoDAsync(d, from, HELD, s));
	CU(cuMemcpyDtoHAsync(to, d, HELD, s));
	CU(cuStreamSynchronize(s));
	ok(to[0] == 7 && to[HELD - 1] == 7, "copies in a stream do not wait for those in streams that are held up");
	pthread_mutex_lock(&lock);
	go_on = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], &failed[i]);
	ok(!failed[0] && !failed[1], "which are made then");
	CU(cuStreamDestroy(s));
	CU(cuMemFree(d));
	free(from);
	free(to);
}

/* --- what a function may not do --------------------------------------------------------------------------------------- */

/*
 * NVIDIA's documentation: a host function must make no CUDA calls, which may say CUDA_ERROR_NOT_PERMITTED. Here those do that
 * would wait, or that change what memory there is.
 */
#define REFUSED	14

static struct {
	CUdevice dev;
	CUmemoryPool pool;
	CUmemGenericAllocationHandle physical;
	CUdeviceptr reserved, mapped;
	size_t granule;
	void *plain;
	CUresult r[REFUSED];
	const char *name[REFUSED];
	int n;
} within;

#define WITHIN(call) do {				\
	within.name[within.n] = #call;			\
	within.r[within.n++] = (call);			\
} while (0)

static void make_calls(void *data)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = within.dev } };
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = prop.location };
	CUmemGenericAllocationHandle h;
	unsigned long long flags;
	CUmemoryPool pool;
	CUdeviceptr p;
	size_t n;
	int fd;

	(void)data;
	WITHIN(cuMemAddressReserve(&p, within.granule, 0, 0, 0));
	WITHIN(cuMemAddressFree(within.reserved, within.granule));
	WITHIN(cuMemCreate(&h, within.granule, &prop, 0));
	WITHIN(cuMemRelease(within.physical));
	WITHIN(cuMemMap(within.reserved, within.granule, 0, within.physical, 0));
	WITHIN(cuMemUnmap(within.mapped, within.granule));
	WITHIN(cuMemExportToShareableHandle(&fd, within.physical, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	WITHIN(cuMemImportFromShareableHandle(&h, (void *)(intptr_t)0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	WITHIN(cuMemGetAllocationGranularity(&n, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	WITHIN(cuMemGetAllocationPropertiesFromHandle(&prop, within.physical));
	WITHIN(cuMemRetainAllocationHandle(&h, (void *)(uintptr_t)within.mapped));
	WITHIN(cuMemGetAccess(&flags, &prop.location, within.mapped));
	WITHIN(cuMemPoolCreate(&pool, &props));
	WITHIN(cuMemHostRegister(within.plain, 4096, 0));
}

static void not_permitted(CUdevice dev)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev },
				     .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR };

	if (counts_apart() || native("what a host function may not do"))
		return;
	within.dev = dev;
	within.plain = aligned_alloc(4096, 4096);
	CU(cuMemGetAllocationGranularity(&within.granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CU(cuMemCreate(&within.physical, within.granule, &prop, 0));
	CU(cuMemAddressReserve(&within.reserved, within.granule, 0, 0, 0));
	CU(cuMemAddressReserve(&within.mapped, within.granule, 0, 0, 0));
	CU(cuMemMap(within.mapped, within.granule, 0, within.physical, 0));
	CU(cuLaunchHostFunc(stream, make_calls, NULL));
	CU(cuStreamSynchronize(stream));
	for (int i = 0; i < within.n; i++)
		ok(within.r[i] == CUDA_ERROR_NOT_PERMITTED, "%s in a host function: %s", within.name[i], cu_name(within.r[i]));
	CU(cuMemUnmap(within.mapped, within.granule));
	CU(cuMemAddressFree(within.mapped, within.granule));
	CU(cuMemAddressFree(within.reserved, within.granule));
	CU(cuMemRelease(within.physical));
	free(within.plain);
	ok(true, "and all is as it was");
}

int main(void)
{
	unsigned int *pinned, one = 1, n;
	volatile int done = 0;
	struct look l = { 0 };
	void *params[2];
	CUdeviceptr d;
	CUfunction add;
	CUmodule module;
	CUstream other;
	CUcontext ctx;
	CUdevice dev;
	pthread_t t[3];
	bool good = true;

	ctx = primary_context(&dev);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&add, module, "add"));
	CU(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&d, 4));
	CU(cuMemHostAlloc((void **)&pinned, 4096, 0));
	params[0] = &d;
	params[1] = &one;

	/* Kernel, copy out, function, copy in, kernel, copy out: each sees what the one before left. */
	CU(cuMemsetD32Async(d, 20, 1, stream));
	CU(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL));
	CU(cuMemcpyDtoHAsync(pinned, d, 4, stream));
	l.at = pinned;
	CU(cuLaunchHostFunc(stream, look_and_double, &l));
	CU(cuMemcpyHtoDAsync(d, pinned, 4, stream));
	CU(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL));
	CU(cuMemcpyDtoHAsync(pinned + 1, d, 4, stream));
	CU(cuStreamSynchronize(stream));
	ok(l.calls == 1 && l.seen == 21, "a host function sees what the stream did before it: %u", l.seen);
	ok(pinned[1] == 43, "and the stream goes on with what it left: %u", pinned[1]);
	ok(!pthread_equal(l.thread, pthread_self()), "it runs in a thread of its own");
	ok(l.inside == CUDA_ERROR_NOT_PERMITTED, "in which waiting for the GPU is not permitted: %s", cu_name(l.inside));

	for (int i = 0; i < MANY; i++)
		CU(cuLaunchHostFunc(stream, note, (void *)(intptr_t)i));
	CU(cuStreamSynchronize(stream));
	for (int i = 0; i < MANY; i++)
		good &= order[i] == i;
	ok(good && next_order == MANY, "%d functions run once each, in order", next_order);

	CU(cuLaunchHostFunc(stream, slow, (void *)&done));
	CU(cuMemsetD32Async(d, 0, 1, stream));
	for (int i = 0; i < 3000; i++)	/* more than a stream holds at a time */
		CU(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL));
	CU(cuMemcpyDtoHAsync(pinned, d, 4, stream));
	n = cuStreamQuery(stream);
	ok(n == CUDA_ERROR_NOT_READY || done, "while a function runs, the stream is busy");
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, waiter, ctx);
	CU(cuCtxSynchronize());
	ok(done && pinned[0] == 3000, "what is queued behind a slow function waits for it: %u", pinned[0]);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	ok(true, "threads that wait for the stream come back");

	done = 0;
	told = CUDA_ERROR_UNKNOWN;
	CU(cuStreamAddCallback(other, after, (void *)&done, 0));
	CU(cuStreamSynchronize(other));
	ok(done && told == CUDA_SUCCESS && told_stream == other, "a stream callback is told its stream and how it went");
	CU(cuLaunchHostFunc(NULL, set_flag, NULL));
	pthread_mutex_lock(&lock);
	while (!flag)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	ok(true, "a function runs although no thread waits for the GPU");

	held_up(ctx);
	not_permitted(dev);

	GIVES(cuLaunchHostFunc(stream, NULL, NULL), CUDA_ERROR_INVALID_VALUE, "no function");
	GIVES(cuStreamAddCallback(stream, after, NULL, 1), CUDA_ERROR_INVALID_VALUE, "flags, of which there are none");
	OURS(cuStreamAddCallback((CUstream)add, after, NULL, 0), CUDA_ERROR_INVALID_HANDLE, "a stream that is none");
	CU(cuStreamDestroy(other));
	OURS(cuLaunchHostFunc(other, note, NULL), CUDA_ERROR_INVALID_HANDLE, "a stream that is gone");

	done = 0;
	CU(cuLaunchHostFunc(stream, slow, (void *)&done));
	CU(cuDevicePrimaryCtxRelease(dev));
	ok(done, "a context does not end before its functions have run");
	return tap_done();
}
