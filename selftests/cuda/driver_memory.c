// SPDX-License-Identifier: Apache-2.0
/* Memory in the driver API: memset of every width, 2D copies, pinned memory, ranges, attributes, events. */
#include <pthread.h>
#include <unistd.h>

#include "driver.h"

#define MANY	5000

static void memsets(CUstream stream)
{
	unsigned char host[4096];
	int wrong = 0;
	CUdeviceptr d;

	CU(cuMemAlloc(&d, sizeof(host)));
	CU(cuMemsetD8(d, 0xab, sizeof(host)));
	CU(cuMemsetD16(d + 1000, 0x1234, 100));
	CU(cuMemsetD32(d + 2000, 0xdeadbeef, 50));
	CU(cuMemsetD8Async(d + 3000, 1, 10, stream));
	CU(cuMemsetD16Async(d + 3010, 0x0202, 5, stream));
	CU(cuMemsetD32Async(d + 3020, 0x03030303, 5, stream));
	CU(cuMemsetD2D8(d + 3200, 32, 0x44, 8, 4));
	CU(cuMemsetD2D32(d + 3600, 64, 0x55555555, 3, 2));
	CU(cuStreamSynchronize(stream));
	CU(cuMemcpyDtoH(host, d, sizeof(host)));
	for (int i = 0; i < 4096; i++) {
		unsigned char want = 0xab;

		if (i >= 1000 && i < 1200)
			want = i % 2 ? 0x12 : 0x34;
		if (i >= 2000 && i < 2200)
			want = (unsigned char)(0xdeadbeef >> i % 4 * 8);
		if (i >= 3000 && i < 3010)
			want = 1;
		if (i >= 3010 && i < 3020)
			want = 2;
		if (i >= 3020 && i < 3040)
			want = 3;
		if (i >= 3200 && i < 3328 && (i - 3200) % 32 < 8)
			want = 0x44;
		if (i >= 3600 && i < 3728 && (i - 3600) % 64 < 12)
			want = 0x55;
		wrong += host[i] != want;
	}
	ok(!wrong, "memset of 8, 16 and 32 bits, in one and two dimensions, now and in a stream: %d wrong", wrong);
	GIVES(cuMemsetD32(d + 2, 0, 1), CUDA_ERROR_INVALID_VALUE, "32 bits at an address that is not aligned");
	GIVES(cuMemsetD8(d + 4000, 0, (size_t)1 << 40), CUDA_ERROR_INVALID_VALUE, "past the end");
	CU(cuMemFree(d));
}

static void copies_2d(void)
{
	unsigned char src[20][40], dst[20][50];
	CUDA_MEMCPY2D in = { .srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = src, .srcPitch = 40, .srcXInBytes = 5, .srcY = 3,
			     .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstPitch = 512, .dstXInBytes = 7, .dstY = 2,
			     .WidthInBytes = 21, .Height = 11 };
	CUDA_MEMCPY2D out = { .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcXInBytes = 7, .srcY = 2,
			      .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = dst, .dstPitch = 50, .dstXInBytes = 9, .dstY = 4,
			      .WidthInBytes = 21, .Height = 11 };
	int wrong = 0;
	CUdeviceptr d;
	size_t pitch;

	for (int y = 0; y < 20; y++)
		for (int x = 0; x < 40; x++)
			src[y][x] = (unsigned char)(y * 40 + x);
	memset(dst, 0xee, sizeof(dst));
	CU(cuMemAllocPitch(&d, &pitch, 64, 20, 4));
	in.dstDevice = out.srcDevice = d;
	in.dstPitch = out.srcPitch = pitch;
	CU(cuMemcpy2D(&in));
	CU(cuMemcpy2DUnaligned(&out));
	for (int y = 0; y < 20; y++) {
		for (int x = 0; x < 50; x++) {
			bool inside = y >= 4 && y < 15 && x >= 9 && x < 30;

			wrong += dst[y][x] != (inside ? src[y - 4 + 3][x - 9 + 5] : 0xee);
		}
	}
	ok(!wrong, "a window of a picture in and out: %d wrong", wrong);
	in.WidthInBytes = pitch;
	GIVES(cuMemcpy2D(&in), CUDA_ERROR_INVALID_VALUE, "a row wider than the pitch");
	CU(cuMemFree(d));
}

static void pinned(CUstream stream)
{
	enum { SIZE = 300000 };
	unsigned char *p, *q;
	CUdeviceptr d, dp, base;
	unsigned int type = 0, flags = 0;
	size_t size;

	CU(cuMemHostAlloc((void **)&p, SIZE, CU_MEMHOSTALLOC_DEVICEMAP));
	CU(cuMemAllocHost((void **)&q, SIZE));
	CU(cuMemAlloc(&d, SIZE));
	for (int i = 0; i < SIZE; i++)
		p[i] = (unsigned char)(i * 7);
	memset(q, 0, SIZE);
	CU(cuMemcpyHtoDAsync(d, p, SIZE, stream));
	CU(cuMemcpyDtoHAsync(q, d, SIZE, stream));
	CU(cuStreamSynchronize(stream));
	ok(!memcmp(p, q, SIZE), "pinned memory there and back in a stream");
	CU(cuMemHostGetDevicePointer(&dp, p, 0));
	CU(cuMemHostGetFlags(&flags, p));
	ok(dp && flags & CU_MEMHOSTALLOC_DEVICEMAP, "pinned memory has a device address and its flags");
	memset(q, 0, SIZE);
	CU(cuMemcpy((CUdeviceptr)(uintptr_t)q, d, SIZE));
	ok(!memcmp(p, q, SIZE), "cuMemcpy tells host from device by the address");

	CU(cuMemGetAddressRange(&base, &size, d + 1234));
	ok(base == d && size == SIZE, "the range an address lies in");
	GIVES(cuMemGetAddressRange(&base, &size, 0x1000), CUDA_ERROR_NOT_FOUND, "the range of no address");
	CU(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, d + 1));
	ok(type == CU_MEMORYTYPE_DEVICE, "device memory is called so");
	CU(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)p));
	ok(type == CU_MEMORYTYPE_HOST, "pinned memory is called host memory");
	GIVES(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)&type),
	      CUDA_ERROR_INVALID_VALUE, "ordinary memory is unknown");
	CU(cuMemFreeHost(p));
	CU(cuMemFreeHost(q));
	GIVES(cuMemFreeHost(&type), CUDA_ERROR_INVALID_VALUE, "pinned memory that is none");
	CU(cuMemFree(d));
	GIVES(cuMemFree(d), CUDA_ERROR_INVALID_VALUE, "free a second time");
}

static CUcontext of_gate;
static CUdeviceptr gate;
static volatile bool opened;

static void *open_gate(void *unused)
{
	(void)unused;
	usleep(100000);
	opened = true;
	CU(cuCtxSetCurrent(of_gate));
	CU(cuMemsetD32(gate, 1, 1));
	return NULL;
}

/* Pinned memory is freed in any context, and when no other one uses it any more. */
static void freed_elsewhere(void)
{
	CUcontext other, here;
	pthread_t thread;
	CUdevice dev;
	CUstream s;
	CUdeviceptr d;
	void *p;

	if (native("memory freed while another context uses it") || getenv("VGPU_SYNC"))
		return;
	CU(cuCtxGetCurrent(&here));
	CU(cuCtxGetDevice(&dev));
	CU(cuCtxCreate(&of_gate, NULL, 0, dev));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemAlloc(&d, 65536));
	CU(cuMemsetD32(gate, 0, 1));
	CU(cuMemAllocHost(&p, 65536));
	CU(cuStreamWaitValue32(s, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
	CU(cuMemcpyDtoHAsync(p, d, 65536, s));
	CU(cuCtxCreate(&other, NULL, 0, dev));
	if (pthread_create(&thread, NULL, open_gate, NULL))
		bail("no thread");
	CU(cuMemFreeHost(p));
	ok(opened, "pinned memory that another context is about to use stays till then");
	pthread_join(thread, NULL);
	CU(cuCtxDestroy(other));
	CU(cuCtxDestroy(of_gate));
	CU(cuCtxSetCurrent(here));
}

/* Memory that cannot be freed yet, and is wanted: its stream waits for another thread. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open, late;
	CUcontext ctx;
} barrier = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void CUDA_CB behind_barrier(void *data)
{
	struct timespec end;

	(void)data;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	pthread_mutex_lock(&barrier.lock);
	while (!barrier.open && !barrier.late)
		barrier.late = pthread_cond_timedwait(&barrier.changed, &barrier.lock, &end);
	pthread_mutex_unlock(&barrier.lock);
}

static void open_barrier(void)
{
	pthread_mutex_lock(&barrier.lock);
	barrier.open = true;
	pthread_cond_broadcast(&barrier.changed);
	pthread_mutex_unlock(&barrier.lock);
}

/* Not before it has been answered: its questions must not wait behind the allocation. */
static void *open_later(void *arg)
{
	CUdeviceptr *word = arg;
	CUstream s;

	usleep(50000);
	CU(cuCtxSetCurrent(barrier.ctx));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuMemsetD32Async(*word, 1, 1, s));
	CU(cuStreamSynchronize(s));
	open_barrier();
	CU(cuStreamDestroy(s));
	return NULL;
}

static CUdeviceptr allocate_large(size_t size, CUstream in_order_of)
{
	CUdeviceptr d;

	if (in_order_of)
		CU(cuMemAllocAsync(&d, size, in_order_of));
	else
		CU(cuMemAlloc(&d, size));
	return d;
}

static void freed_late(bool ordered)
{
	const char *how = ordered ? "in stream order" : "by cuMemFree()";
	size_t unused, now, total, size;
	CUdeviceptr d, word;
	CUstream held, other;
	pthread_t thread;

	if (native("memory wanted that cannot be freed yet"))
		return;
	CU(cuCtxGetCurrent(&barrier.ctx));
	CU(cuStreamCreate(&held, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&word, 4));
	CU(cuMemGetInfo(&unused, &total));
	size = unused / 5 * 3;
	d = allocate_large(size, ordered ? held : NULL);
	CU(cuStreamSynchronize(held));
	CU(cuMemGetInfo(&unused, &total));
	barrier.open = barrier.late = false;
	CU(cuLaunchHostFunc(held, behind_barrier, NULL));
	if (ordered) {
		CU(cuMemFreeAsync(d, held));
		CU(cuMemGetInfo(&now, &total));
		ok(!barrier.late && now < size, "asked what is free, nobody waits for a stream that is to free memory");
	}
	if (pthread_create(&thread, NULL, open_later, &word))
		bail("no thread");
	if (!ordered)
		CU(cuMemFree(d));
	d = allocate_large(size, ordered ? other : NULL);
	ok(d && !barrier.late, "memory freed %s serves an allocation, and another thread lets the stream go on", how);
	pthread_join(thread, NULL);
	if (ordered)
		CU(cuMemFreeAsync(d, other));
	else
		CU(cuMemFree(d));
	CU(cuMemFree(word));
	CU(cuStreamSynchronize(other));
	CU(cuStreamDestroy(held));
	CU(cuStreamDestroy(other));
}

/* Many such frees must not fill the stream that is held up, and what comes of them must not come into a graph. */
static void freed_in_masses(void)
{
	static CUdeviceptr many[MANY];
	CUdeviceptr word;
	CUstream held, captures;
	size_t before, after, total, nodes = 0;
	int n = in_pod() ? MANY / 10 : MANY;
	CUgraph g;

	if (native("thousands of frees while a stream is held up"))
		return;
	CU(cuStreamCreate(&held, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&captures, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&word, 4));
	CU(cuMemGetInfo(&before, &total));
	for (int i = 0; i < n; i++)
		CU(cuMemAlloc(&many[i], 4096));
	barrier.open = barrier.late = false;
	CU(cuLaunchHostFunc(held, behind_barrier, NULL));
	/* The software GPU by itself waits in the first. */
	if (counts_apart())
		open_barrier();
	for (int i = 0; i < n; i++)
		CU(cuMemFree(many[i]));
	CU(cuStreamBeginCapture(captures, CU_STREAM_CAPTURE_MODE_RELAXED));
	CU(cuMemsetD32Async(word, 1, 1, captures));
	open_barrier();
	CU(cuMemGetInfo(&after, &total));
	ok(!barrier.late && after == before, "%d frees are over when the stream goes on: %zu of %zu", n, after, before);
	GIVES(cuStreamEndCapture(captures, &g), CUDA_SUCCESS, "and a capture that began meanwhile knows nothing of them");
	CU(cuGraphGetNodes(g, NULL, &nodes));
	ok(nodes == 1, "its graph has %zu node", nodes);
	CU(cuGraphDestroy(g));
	CU(cuMemFree(word));
	CU(cuStreamDestroy(held));
	CU(cuStreamDestroy(captures));
}

static void events(CUstream stream)
{
	CUevent a, b;
	float ms = -1;

	CU(cuEventCreate(&a, CU_EVENT_DEFAULT));
	CU(cuEventCreate(&b, CU_EVENT_BLOCKING_SYNC));
	CU(cuEventRecord(a, stream));
	CU(cuEventRecord(b, stream));
	CU(cuStreamWaitEvent(NULL, b, 0));
	CU(cuEventSynchronize(b));
	GIVES(cuEventQuery(a), CUDA_SUCCESS, "an event that has happened");
	CU(cuEventElapsedTime(&ms, a, b));
	ok(ms >= 0 && ms < 600000, "%.4f ms between two events", ms);
	CU(cuEventDestroy(a));
	CU(cuEventDestroy(b));
	OURS(cuEventQuery(a), CUDA_ERROR_INVALID_HANDLE, "a destroyed event");
}

/* A fill without a stream waits where the host can look: pinned and managed memory. */
static void host_fills(void)
{
	size_t n = 16u << 20;
	unsigned char *pinned;
	CUdeviceptr managed;

	CU(cuMemHostAlloc((void **)&pinned, n, 0));
	memset(pinned, 1, n);
	CU(cuMemsetD8((CUdeviceptr)pinned, 7, n));
	ok(((volatile unsigned char *)pinned)[n - 1] == 7, "a fill of pinned memory is there when the call returns");
	CU(cuMemFreeHost(pinned));
	CU(cuMemAllocManaged(&managed, n, CU_MEM_ATTACH_GLOBAL));
	memset((void *)managed, 1, n);
	CU(cuMemsetD8(managed, 7, n));
	ok(((volatile unsigned char *)managed)[n - 1] == 7, "and one of managed memory");
	CU(cuMemFree(managed));
}

int main(void)
{
	CUcontext ctx, other, popped;
	size_t before, after, total;
	CUdeviceptr d;
	CUstream stream;
	CUdevice dev;

	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	CU(cuDevicePrimaryCtxRetain(&ctx, dev));
	GIVES(cuMemAlloc(&d, 100), CUDA_ERROR_INVALID_CONTEXT, "allocation without a context");
	CU(cuCtxPushCurrent(ctx));
	CU(cuCtxPopCurrent(&popped));
	CU(cuCtxGetCurrent(&other));
	ok(popped == ctx && !other, "a context is pushed and popped");
	CU(cuCtxSetCurrent(ctx));
	CU(cuMemAlloc(&d, 100));
	CU(cuCtxSetCurrent(NULL));
	GIVES(cuMemFree(d), CUDA_SUCCESS, "memory can be freed without one");
	CU(cuCtxGetCurrent(&other));
	ok(!other, "and none is current after it");
	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
	CU(cuMemGetInfo(&before, &total));
	memsets(stream);
	copies_2d();
	pinned(stream);
	freed_elsewhere();
	events(stream);
	host_fills();
	freed_late(false);
	freed_late(true);
	freed_in_masses();
	CU(cuMemGetInfo(&after, &total));
	ok(before == after || on_driver(), "all memory is free again: %zu of %zu bytes", after, before);
	GIVES(cuMemAlloc(&d, 0), CUDA_ERROR_INVALID_VALUE, "no bytes");
	OURS(cuMemAlloc(&d, after + 1), CUDA_ERROR_OUT_OF_MEMORY, "a byte too many");
	GIVES(cuMemAllocPitch(&d, &before, 1 << 20, 1 << 20, 4), CUDA_ERROR_OUT_OF_MEMORY, "a plane of a TiB");
	GIVES(cuDeviceGet(&dev, 99), CUDA_ERROR_INVALID_DEVICE, "an unknown device");
	CU(cuStreamDestroy(stream));
	OURS(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE, "a destroyed stream");
	CU(cuDevicePrimaryCtxRelease(0));
	return tap_done();
}
