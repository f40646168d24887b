// SPDX-License-Identifier: Apache-2.0
/*
 * Streams and events: what they say of themselves, values that they wait for and write, fills and copies in them. Also
 * built with per-thread default streams (driver_stream-ptds), where each stream 0 here is the thread's own.
 */
#include <pthread.h>

#include "driver.h"

#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define DEFAULT	CU_STREAM_PER_THREAD
#else
#define DEFAULT	CU_STREAM_LEGACY
#endif

static CUdevice dev;
static CUcontext ctx;

static void queries(CUstream s, CUstream low)
{
	unsigned long long a = 0, b = 0, c = 0;
	unsigned int flags = 77;
	CUgreenCtx green = (CUgreenCtx)&a;
	int priority = 77, least, most;
	CUdevice on = -1;
	CUcontext in;

	CU(cuCtxGetStreamPriorityRange(&least, &most));
	CU(cuStreamGetPriority(low, &priority));
	ok(priority == least, "a stream's priority: %d", priority);
	CU(cuStreamGetPriority(NULL, &priority));
	ok(priority == 0, "the default stream's: %d", priority);
	CU(cuStreamGetFlags(s, &flags));
	ok(flags == CU_STREAM_NON_BLOCKING, "a stream's flags: %u", flags);
	CU(cuStreamGetFlags(NULL, &flags));
	ok(flags == CU_STREAM_DEFAULT, "the default stream's: %u", flags);
	CU(cuStreamGetDevice(s, &on));
	ok(on == dev, "its device");
	CU(cuStreamGetId(s, &a));
	CU(cuStreamGetId(low, &b));
	ok(a != b, "streams have numbers of their own");
	CU(cuStreamGetId(NULL, &a));
	CU(cuStreamGetId(DEFAULT, &b));
	CU(cuStreamGetId(s, &c));
	ok(a == b && a != c, "the default stream has its own, whatever it is called");
	CU(cuStreamGetCtx(s, &in));
	ok(in == ctx, "its context");
	CU(cuStreamGetCtx_v2(NULL, &in, &green));
	ok(in == ctx && !green, "the default stream's, which is of no green context");
	GIVES(cuStreamCreate(&s, 0x80), CUDA_ERROR_INVALID_VALUE, "flags that are none");
	CU(cuStreamCreateWithPriority(&s, 0, least + 1000));
	CU(cuStreamGetPriority(s, &priority));
	ok(priority == least, "a priority out of range is brought into it: %d", priority);
	CU(cuStreamDestroy(s));
}

static void attributes(CUstream s, CUstream other)
{
	CUstreamAttrValue value = { .syncPolicy = CU_SYNC_POLICY_BLOCKING_SYNC }, got = { .syncPolicy = 0 };

	CU(cuStreamSetAttribute(s, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CU(cuStreamGetAttribute(s, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &got));
	ok(got.syncPolicy == CU_SYNC_POLICY_BLOCKING_SYNC, "an attribute is what it was set to: %d", got.syncPolicy);
	CU(cuStreamCopyAttributes(other, s));
	got.syncPolicy = 0;
	CU(cuStreamGetAttribute(other, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &got));
	ok(got.syncPolicy == CU_SYNC_POLICY_BLOCKING_SYNC, "and can be copied: %d", got.syncPolicy);
}

/* Values in device memory and in pinned memory, which the program sees change. */
static void values(CUstream s, CUstream other)
{
	CUstreamBatchMemOpParams ops[2] = { { 0 } };
	unsigned long long got[3] = { 0 };
	CUdeviceptr d, h;
	unsigned int *host;
	CUevent e, timed[2];
	float ms;

	CU(cuMemAlloc(&d, 4096));
	CU(cuMemHostAlloc((void **)&host, 4096, CU_MEMHOSTALLOC_DEVICEMAP));
	CU(cuMemHostGetDevicePointer(&h, host, 0));
	memset(host, 0, 4096);
	CU(cuMemsetD8(d, 0, 4096));
	CU(cuCtxSynchronize());

	CU(cuStreamWriteValue32(s, d, 5, CU_STREAM_WRITE_VALUE_DEFAULT));
	CU(cuStreamWriteValue64(s, d + 8, 0x123456789abcdefull, CU_STREAM_WRITE_VALUE_DEFAULT));
	CU(cuStreamWaitValue32(s, d, 5, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuStreamWaitValue64(s, d + 8, 0x123456789abcdeeull, CU_STREAM_WAIT_VALUE_GEQ));
	CU(cuStreamWaitValue64(s, d + 8, 0xff, CU_STREAM_WAIT_VALUE_AND));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(got, d, 16));
	ok(got[0] == 5 && got[1] == 0x123456789abcdefull, "values are written, and waited for");

	/* One stream waits for what another one writes, and later for what the program writes. */
	CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	for (int i = 0; i < 2; i++)
		CU(cuEventCreate(&timed[i], 0));
	CU(cuEventRecord(timed[0], s));
	CU(cuStreamWaitValue32(s, d + 16, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuMemsetD32Async(d + 20, 7, 1, s));
	CU(cuEventRecord(e, s));
	CU(cuEventRecord(timed[1], s));
	GIVES(cuEventQuery(e), CUDA_ERROR_NOT_READY, "while the value is not there");
	GIVES(cuEventElapsedTime(&ms, timed[0], timed[1]), CUDA_ERROR_NOT_READY, "there is no time until then");
	GIVES(cuEventElapsedTime(&ms, timed[1], timed[0]), CUDA_ERROR_NOT_READY, "nor from then");
	CU(cuStreamWriteValue32(other, d + 16, 1, 0));
	CU(cuEventSynchronize(e));
	ok(true, "another stream writes it, and the first goes on");
	CU(cuEventSynchronize(timed[1]));
	CU(cuEventElapsedTime(&ms, timed[0], timed[1]));
	ok(ms >= 0, "and there is a time: %g ms", ms);
	for (int i = 0; i < 2; i++)
		CU(cuEventDestroy(timed[i]));
	CU(cuStreamWaitValue32(s, h, 3, CU_STREAM_WAIT_VALUE_GEQ));
	CU(cuEventRecord(e, s));
	GIVES(cuEventQuery(e), CUDA_ERROR_NOT_READY, "while the program has not written it");
	__atomic_store_n(host, 3, __ATOMIC_RELEASE);
	CU(cuEventSynchronize(e));
	ok(true, "it has");
	CU(cuStreamWriteValue32(s, h + 4, 9, 0));
	CU(cuStreamSynchronize(s));
	ok(host[1] == 9, "a value written into the program's memory: %u", host[1]);

	ops[0].operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
	ops[0].writeValue.address = d + 32;
	ops[0].writeValue.value64 = 11;
	ops[1].operation = CU_STREAM_MEM_OP_WAIT_VALUE_64;
	ops[1].waitValue.address = d + 32;
	ops[1].waitValue.value64 = 11;
	CU(cuStreamBatchMemOp(s, 2, ops, 0));
	CU(cuStreamSynchronize(s));
	GIVES(cuStreamWriteValue64(s, d + 4, 1, 0), CUDA_ERROR_INVALID_VALUE, "64 bits where only 32 may lie");
	GIVES(cuStreamWaitValue32(s, d, 1, 0x100), CUDA_ERROR_INVALID_VALUE, "flags that are none");
	GIVES(cuStreamWriteValue32(s, d + (64 << 20), 1, 0), CUDA_ERROR_INVALID_VALUE, "where nothing is");
	ops[1].waitValue.address = d + 36;
	GIVES(cuStreamBatchMemOp(s, 2, ops, 0), CUDA_ERROR_INVALID_VALUE, "the second of two");
	ops[0].operation = (CUstreamBatchMemOpType)99;
	GIVES(cuStreamBatchMemOp(s, 1, ops, 0), CUDA_ERROR_INVALID_VALUE, "an operation that is none");
	CU(cuEventDestroy(e));
	CU(cuMemFreeHost(host));
	CU(cuMemFree(d));
}

/* Rows of every width, in the stream and with the program waiting. */
static void fills(CUstream s)
{
	static unsigned char got[8 * 256], want[8 * 256];
	CUdeviceptr d;
	size_t pitch;

	CU(cuMemAllocPitch(&d, &pitch, 200, 8, 4));
	CU(cuMemsetD2D8(d, pitch, 1, 200, 8));
	CU(cuMemsetD2D16(d, pitch, 0x0203, 40, 7));
	CU(cuMemsetD2D32(d, pitch, 0x04050607, 10, 6));
	CU(cuCtxSynchronize());		/* these are over when they are, as far as other streams know */
	CU(cuMemsetD2D8Async(d, pitch, 8, 20, 5, s));
	CU(cuMemsetD2D16Async(d, pitch, 0x090a, 5, 4, s));
	CU(cuMemsetD2D32Async(d, pitch, 0x0b0c0d0e, 1, 3, s));
	CU(cuStreamSynchronize(s));
	for (int y = 0; y < 8; y++) {
		unsigned char *row = want + y * 200;

		memset(row, 1, 200);
		for (int x = 0; x < 40 && y < 7; x++)
			memcpy(row + 2 * x, (const unsigned short[]){ 0x0203 }, 2);
		for (int x = 0; x < 10 && y < 6; x++)
			memcpy(row + 4 * x, (const unsigned int[]){ 0x04050607 }, 4);
		if (y < 5)
			memset(row, 8, 20);
		for (int x = 0; x < 5 && y < 4; x++)
			memcpy(row + 2 * x, (const unsigned short[]){ 0x090a }, 2);
		if (y < 3)
			memcpy(row, (const unsigned int[]){ 0x0b0c0d0e }, 4);
		CU(cuMemcpyDtoH(got + y * 200, d + y * pitch, 200));
	}
	ok(!memcmp(got, want, 1600), "rows of bytes, halves and words");
	GIVES(cuMemsetD2D16(d, pitch + 1, 0, 4, 2), CUDA_ERROR_INVALID_VALUE, "a pitch of no whole halves");
	GIVES(cuMemsetD2D32(d + 2, pitch, 0, 4, 2), CUDA_ERROR_INVALID_VALUE, "words at an odd place");
	GIVES(cuMemsetD2D8Async(d, pitch, 0, pitch + 1, 2, s), CUDA_ERROR_INVALID_VALUE, "rows wider than the pitch");
	GIVES(cuMemsetD2D8Async(d, pitch, 0, 200, 1 << 20, s), CUDA_ERROR_INVALID_VALUE, "more rows than there are");
	CU(cuMemFree(d));
}

/* Copies whose direction the addresses say. */
static void copies(CUstream s)
{
	CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	unsigned int from[256], to[256] = { 0 }, wrong = 0;
	CUdeviceptr d, e, dsts[2], srcs[2];
	size_t sizes[2] = { 512, 512 }, first = 0;

	for (unsigned int i = 0; i < 256; i++)
		from[i] = i * 3;
	CU(cuMemAlloc(&d, 4096));
	CU(cuMemAlloc(&e, 4096));
	CU(cuMemcpyAsync(d, (CUdeviceptr)(uintptr_t)from, sizeof(from), s));
	CU(cuMemcpyAsync(e, d, sizeof(from), s));
	CU(cuMemcpyAsync((CUdeviceptr)(uintptr_t)to, e, sizeof(to), s));
	CU(cuStreamSynchronize(s));
	for (unsigned int i = 0; i < 256; i++)
		wrong += to[i] != i * 3;
	ok(!wrong, "in, across and out again: %u wrong", wrong);
	GIVES(cuMemcpyAsync(d, e, 1 << 30, s), CUDA_ERROR_INVALID_VALUE, "more than there is");
	GIVES(cuMemcpyAsync(0, e, 16, s), CUDA_ERROR_INVALID_VALUE, "to nowhere");
	memset(to, 0, sizeof(to));
	dsts[0] = d;
	srcs[0] = (CUdeviceptr)(uintptr_t)(from + 128);
	dsts[1] = (CUdeviceptr)(uintptr_t)to;
	srcs[1] = d;
	OURS(cuMemcpyBatchAsync(dsts, srcs, sizes, 2, &how, &first, 1, s), CUDA_SUCCESS, "two copies by one call");
	CU(cuStreamSynchronize(s));
	if (!on_driver())
		ok(to[0] == 128 * 3 && to[127] == 255 * 3, "are both made");
	CU(cuMemcpyPeer(e, ctx, d, ctx, 512));
	CU(cuMemcpyPeerAsync(d + 512, ctx, e, ctx, 512, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyDtoH(to + 128, d + 512, 512));
	if (!on_driver())
		ok(to[128] == 128 * 3 && to[255] == 255 * 3, "from context to context");
	CU(cuMemcpyDtoD(d, e, 256));
	CU(cuMemFree(e));
	OURS(cuMemcpyAsync((CUdeviceptr)(uintptr_t)to, e, 16, s), CUDA_ERROR_INVALID_VALUE, "from memory that was freed");
	OURS(cuMemcpy(e, (CUdeviceptr)(uintptr_t)to, 16), CUDA_ERROR_INVALID_VALUE, "and to it");
	CU(cuMemFree(d));
}

static void managed(CUstream s)
{
	CUdeviceptr m, plain;
	int value;

	CU(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, dev));
	if (!value)
		return;
	CU(cuMemAllocManaged(&m, 8192, CU_MEM_ATTACH_GLOBAL));
	CU(cuMemAlloc(&plain, 8192));
	CU(cuStreamAttachMemAsync(s, m, 0, CU_MEM_ATTACH_SINGLE));
	CU(cuStreamSynchronize(s));
	*(volatile int *)(uintptr_t)m = 5;
	CU(cuStreamAttachMemAsync(s, m, 8192, CU_MEM_ATTACH_GLOBAL));
	CU(cuMemsetD32Async(m + 4, 6, 1, s));
	CU(cuStreamSynchronize(s));
	ok(((volatile int *)(uintptr_t)m)[0] == 5 && ((volatile int *)(uintptr_t)m)[1] == 6, "managed memory attached to a stream and back");
	GIVES(cuStreamAttachMemAsync(s, m, 8192, 99), CUDA_ERROR_INVALID_VALUE, "flags that are none");
	GIVES(cuStreamAttachMemAsync(s, m, 100, CU_MEM_ATTACH_GLOBAL), CUDA_ERROR_INVALID_VALUE, "a part");
	GIVES(cuStreamAttachMemAsync(s, plain, 0, CU_MEM_ATTACH_GLOBAL), CUDA_ERROR_INVALID_VALUE, "memory that is not managed");
	CU(cuMemFree(plain));
	CU(cuMemFree(m));
}

static void events(CUstream s)
{
	CUevent a, b, untimed;
	float ms = -1;

	CU(cuEventCreate(&a, 0));
	CU(cuEventCreate(&b, CU_EVENT_BLOCKING_SYNC));
	CU(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
	GIVES(cuEventCreate(&b, 0x100), CUDA_ERROR_INVALID_VALUE, "flags that are none");
	GIVES(cuEventElapsedTime(&ms, a, b), CUDA_ERROR_INVALID_HANDLE, "time between what never was");
	CU(cuEventRecord(a, s));
	CU(cuEventRecordWithFlags(b, s, CU_EVENT_RECORD_DEFAULT));
	CU(cuEventRecord(untimed, s));
	CU(cuEventSynchronize(b));
	CU(cuEventElapsedTime(&ms, a, b));
	ok(ms >= 0 && ms < 60000, "between two events: %g ms", ms);
	CU(cuEventSynchronize(untimed));
	GIVES(cuEventElapsedTime(&ms, a, untimed), CUDA_ERROR_INVALID_HANDLE, "time of an event without");
	GIVES(cuEventRecordWithFlags(a, s, CU_EVENT_RECORD_EXTERNAL), CUDA_ERROR_ILLEGAL_STATE, "external, and no capture");
	GIVES(cuStreamWaitEvent(s, a, 0x10), CUDA_ERROR_INVALID_VALUE, "flags for a wait");
	CU(cuStreamWaitEvent(s, a, 0));
	CU(cuStreamSynchronize(s));
	CU(cuEventDestroy(a));
	CU(cuEventDestroy(b));
	CU(cuEventDestroy(untimed));
	OURS(cuEventQuery(a), CUDA_ERROR_INVALID_HANDLE, "an event that is destroyed");
}

static void *waits_for_all(void *arg)
{
	(void)arg;
	CU(cuCtxSetCurrent(ctx));
	CU(cuCtxSynchronize());
	return NULL;
}

/* Who waits for all streams makes none wait for another. */
static void no_barrier(void)
{
	CUstream held, free, opener;
	CUdeviceptr gates, word;
	pthread_t t;
	CUresult r;

	if (getenv("VGPU_SYNC"))	/* every call waits then, so that nobody could open the gates */
		return;
	CU(cuMemAlloc(&gates, 8));
	CU(cuMemAlloc(&word, 4));
	CU(cuMemsetD32(gates, 0, 2));
	CU(cuCtxSynchronize());
	CU(cuStreamCreate(&opener, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&held, CU_STREAM_DEFAULT));
	CU(cuStreamCreate(&free, CU_STREAM_DEFAULT));
	CU(cuStreamWaitValue32(CU_STREAM_LEGACY, gates, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuStreamWaitValue32(held, gates + 4, 1, CU_STREAM_WAIT_VALUE_EQ));
	pthread_create(&t, NULL, waits_for_all, NULL);
	usleep(50000);
	CU(cuMemsetD32Async(word, 5, 1, free));
	CU(cuStreamWriteValue32(opener, gates, 1, 0));
	for (int i = 0; (r = cuStreamQuery(free)) == CUDA_ERROR_NOT_READY && i < 5000; i++)
		usleep(1000);
	ok(r == CUDA_SUCCESS, "a blocking stream goes on while another is held and a thread waits for all: %s", cu_name(r));
	CU(cuStreamWriteValue32(opener, gates + 4, 1, 0));
	pthread_join(t, NULL);
	CU(cuStreamSynchronize(free));
	CU(cuStreamDestroy(held));
	CU(cuStreamDestroy(free));
	CU(cuStreamDestroy(opener));
	CU(cuMemFree(word));
	CU(cuMemFree(gates));
}

int main(void)
{
	CUstream s, low, own = NULL;
	int least, most;

	ctx = primary_context(&dev);
	CU(cuCtxGetStreamPriorityRange(&least, &most));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreateWithPriority(&low, CU_STREAM_NON_BLOCKING, least));
	queries(s, low);
	attributes(s, low);
	values(s, low);
	/* And all of it in the default stream. */
	for (CUstream t = s;; t = own) {
		fills(t);
		copies(t);
		events(t);
		if (t == own)
			break;
	}
	managed(s);
	CU(cuStreamDestroy(s));
	CU(cuStreamDestroy(low));
	no_barrier();
	return tap_done();
}
