// SPDX-License-Identifier: Apache-2.0
/*
 * Streams and events: what is queued runs in order, across streams only where events or the legacy default stream's
 * rules say so, and asynchronous means that the caller goes on meanwhile. A "gate" is a host function that holds a
 * stream until the test opens it.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../both.h"
#include "../softgpu.h"
#include "tap.h"

SG_EXPORT CUresult cuStreamSynchronize_ptsz(CUstream s);
SG_EXPORT CUresult cuLaunchHostFunc_ptsz(CUstream s, CUhostFn fn, void *data);
SG_EXPORT CUresult cuStreamGetId_ptsz(CUstream s, unsigned long long *id);

static CUdeviceptr memory;
static char *pinned;

struct gate {
	_Atomic int open, entered, passed;
};

static void hold(void *data)
{
	struct gate *g = data;

	atomic_store(&g->entered, 1);
	for (int i = 0; !atomic_load(&g->open) && i < 100000; i++)
		usleep(100);
	atomic_store(&g->passed, 1);
}

static void note(void *data)
{
	atomic_fetch_add((_Atomic int *)data, 1);
}

/* Long enough for anything that could run to have run. */
static void settle(void)
{
	usleep(20000);
}

static _Atomic int sequence;
static _Atomic int sequence_bad;

static void in_order(void *data)
{
	if (atomic_fetch_add(&sequence, 1) != (int)(intptr_t)data)
		atomic_store(&sequence_bad, 1);
}

static void order_in_stream(void)
{
	CUstream s;
	bool good = true;

	must(cuStreamCreate(&s, 0));
	for (int i = 0; i < 3000; i++) {
		must(cuLaunchHostFunc(s, in_order, (void *)(intptr_t)i));
		must(cuMemsetD32Async(memory, (unsigned int)i, 1000, s));
		must(cuMemcpyDtoHAsync_v2(pinned, memory + 400, 4, s));
		if (i % 100 == 99) {
			must(cuStreamSynchronize(s));
			good = good && *(int *)pinned == i && atomic_load(&sequence) == i + 1;
		}
	}
	ok(good && !sequence_bad, "9000 operations of three kinds run in order");
	must(cuStreamDestroy_v2(s));
}

static void asynchronous(void)
{
	struct gate g = { 0 };
	_Atomic int ran = 0;
	CUevent a, b;
	CUstream s;
	float ms;

	must(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	must(cuEventCreate(&a, 0));
	must(cuEventCreate(&b, 0));
	ok(cuEventQuery(a) == CUDA_SUCCESS, "an event never recorded has happened");
	ok(cuEventElapsedTime_v2(&ms, a, b) == CUDA_ERROR_INVALID_HANDLE, "but has no time");
	must(cuEventRecord(a, s));
	must(cuLaunchHostFunc(s, hold, &g));
	must(cuEventRecord(b, s));
	must(cuLaunchHostFunc(s, note, (void *)&ran));
	ok(cuStreamQuery(s) == CUDA_ERROR_NOT_READY, "a busy stream says so");
	ok(cuEventQuery(a) == CUDA_SUCCESS, "the event before it has happened");
	ok(cuEventQuery(b) == CUDA_ERROR_NOT_READY, "the one behind it has not");
	ok(cuEventElapsedTime_v2(&ms, a, b) == CUDA_ERROR_NOT_READY, "nor is their distance known");
	settle();
	ok(g.entered && !ran, "the stream runs by itself and stops at the gate");
	g.open = 1;
	must(cuEventSynchronize(b));
	must(cuEventElapsedTime_v2(&ms, a, b));
	ok(ms >= 19 && ms < 60000, "%.1f ms passed between the events", (double)ms);
	must(cuStreamSynchronize(s));
	ok(ran == 1, "synchronised: all is done");
	ok(cuStreamQuery(s) == CUDA_SUCCESS, "an idle stream says so");
	must(cuEventDestroy_v2(a));
	must(cuEventDestroy_v2(b));
	must(cuStreamDestroy_v2(s));
}

static void events_across(void)
{
	struct gate g = { 0 }, g2 = { 0 };
	_Atomic int ran = 0;
	CUstream a, b;
	CUevent ev;

	must(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
	must(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
	must(cuEventCreate(&ev, CU_EVENT_DISABLE_TIMING));
	must(cuLaunchHostFunc(a, hold, &g));
	must(cuEventRecord(ev, a));
	must(cuStreamWaitEvent(b, ev, 0));
	must(cuLaunchHostFunc(b, note, (void *)&ran));
	settle();
	ok(!ran && cuStreamQuery(b) == CUDA_ERROR_NOT_READY, "a stream waits for another's event");
	/* The wait is for the record that was there when it was made. */
	must(cuLaunchHostFunc(a, hold, &g2));
	must(cuEventRecord(ev, a));
	g.open = 1;
	must(cuStreamSynchronize(b));
	ok(ran == 1 && !g2.passed, "and not for a later record of it");
	ok(cuEventQuery(ev) == CUDA_ERROR_NOT_READY, "which the event itself now means");
	must(cuEventDestroy_v2(ev));
	must(cuStreamDestroy_v2(a));
	g2.open = 1;
	for (int i = 0; !g2.passed && i < 1000; i++)
		usleep(1000);
	ok(g2.passed, "a destroyed stream finishes its work");
	ok(cuStreamQuery(a) == CUDA_ERROR_INVALID_HANDLE, "its handle is gone");
	must(cuStreamDestroy_v2(b));
}

static void legacy(void)
{
	struct gate g = { 0 }, g2 = { 0 };
	_Atomic int in_legacy = 0, in_free = 0, behind = 0;
	CUstream blocking, other, unbound;

	must(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
	must(cuStreamCreate(&other, CU_STREAM_DEFAULT));
	must(cuStreamCreate(&unbound, CU_STREAM_NON_BLOCKING));
	must(cuLaunchHostFunc(blocking, hold, &g));
	must(cuLaunchHostFunc(NULL, note, (void *)&in_legacy));
	must(cuLaunchHostFunc(other, note, (void *)&behind));
	must(cuLaunchHostFunc(unbound, note, (void *)&in_free));
	must(cuStreamSynchronize(unbound));
	settle();
	ok(in_free == 1, "a non-blocking stream does not wait for the default stream");
	ok(!in_legacy, "the default stream waits for a blocking stream");
	ok(!behind, "a blocking stream waits for the default stream");
	ok(cuStreamQuery(NULL) == CUDA_ERROR_NOT_READY, "the default stream is busy");
	g.open = 1;
	must(cuStreamSynchronize(other));
	ok(in_legacy == 1 && behind == 1, "all of them run once the gate is open");

	must(cuLaunchHostFunc(unbound, hold, &g2));
	must(cuMemcpyDtoH_v2(pinned, memory, 64));
	ok(!g2.passed, "a synchronous copy does not wait for a non-blocking stream");
	g2.open = 1;
	must(cuCtxSynchronize());
	ok(g2.passed, "synchronising the context does");
	must(cuStreamDestroy_v2(blocking));
	must(cuStreamDestroy_v2(other));
	must(cuStreamDestroy_v2(unbound));
}

static void *opener(void *data)
{
	usleep(50000);
	atomic_store(&((struct gate *)data)->open, 1);
	return NULL;
}

static void full_ring(void)
{
	struct gate g = { 0 };
	_Atomic int ran = 0;
	pthread_t t;
	CUstream s;

	must(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	must(cuLaunchHostFunc(s, hold, &g));
	must(pthread_create(&t, NULL, opener, &g));
	for (int i = 0; i < 5000; i++)
		must(cuLaunchHostFunc(s, note, (void *)&ran));
	ok(g.passed, "a full queue makes the caller wait");
	must(cuStreamSynchronize(s));
	ok(ran == 5000, "and loses nothing");
	pthread_join(t, NULL);
	must(cuStreamDestroy_v2(s));
}

static void free_waits(void)
{
	struct gate g = { 0 };
	CUdeviceptr p;
	pthread_t t;
	CUstream s;

	must(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	must(cuMemAlloc_v2(&p, 1 << 20));
	must(cuLaunchHostFunc(s, hold, &g));
	must(cuMemsetD8Async(p, 1, 1 << 20, s));
	must(pthread_create(&t, NULL, opener, &g));
	must(cuMemFree_v2(p));
	ok(g.passed, "cuMemFree waits for what may use the memory");
	pthread_join(t, NULL);

	g = (struct gate){ 0 };
	must(cuLaunchHostFunc(s, hold, &g));
	must(cuMemAllocAsync(&p, 5000, s));
	must(cuMemsetD8Async(p, 1, 5000, s));
	must(cuMemFreeAsync(p, s));
	ok(!g.passed && sg_mem_ok(p, 4), "cuMemFreeAsync does not");
	g.open = 1;
	must(cuStreamSynchronize(s));
	ok(!sg_mem_ok(p, 4), "and frees in the stream's order");
	must(cuStreamDestroy_v2(s));
}

static void pageable(void)
{
	struct gate g = { 0 };
	char local[1000], back[1000];
	CUstream s;

	memset(local, 3, sizeof(local));
	must(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	must(cuMemsetD8_v2(memory, 1, sizeof(local)));
	must(cuLaunchHostFunc(s, hold, &g));
	must(cuMemcpyHtoDAsync_v2(memory, local, sizeof(local), s));
	memset(local, 4, sizeof(local));
	ok(!g.passed, "a small copy from the program's memory does not wait for the stream");
	must(cuMemcpyDtoH_v2(back, memory, sizeof(back)));
	ok(back[0] == 1, "nor does it overtake what is queued");
	g.open = 1;
	must(cuMemcpyDtoHAsync_v2(back, memory, sizeof(back), s));
	ok(back[0] == 3 && back[999] == 3, "it copies what was there at the call; one to the program's memory is waited for");
	must(cuStreamDestroy_v2(s));
}

SG_EXPORT CUresult cuStreamWaitValue32_v2(CUstream s, CUdeviceptr addr, cuuint32_t value, unsigned int flags);
SG_EXPORT CUresult cuStreamWriteValue32_v2(CUstream s, CUdeviceptr addr, cuuint32_t value, unsigned int flags);

static void values(void)
{
	_Atomic uint32_t *word = (_Atomic uint32_t *)pinned;
	_Atomic int ran = 0;
	CUstream a, b;

	must(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
	must(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
	atomic_store(word, 4);
	must(cuStreamWaitValue32_v2(a, (CUdeviceptr)pinned, 5, CU_STREAM_WAIT_VALUE_GEQ));
	must(cuLaunchHostFunc(a, note, (void *)&ran));
	settle();
	ok(!ran, "a stream waits for a value in memory");
	must(cuStreamWriteValue32_v2(b, (CUdeviceptr)pinned, 6, 0));
	must(cuStreamSynchronize(a));
	ok(ran == 1 && atomic_load(word) == 6, "and goes on when another stream has written it");
	ok(cuStreamWaitValue32_v2(a, (CUdeviceptr)pinned + 2, 5, 0) == CUDA_ERROR_INVALID_VALUE, "values are aligned");
	must(cuStreamDestroy_v2(a));
	must(cuStreamDestroy_v2(b));
}

static bool is_mapped(const void *p)
{
	unsigned char there;

	return !mincore((void *)p, 4096, &there);
}

/* What waits elsewhere may wait for who ends the context; what is queued there still finds its pinned memory. */
static void context_ends(void)
{
	static char registered[8192] __attribute__((aligned(4096)));
	_Atomic uint32_t *word = (_Atomic uint32_t *)pinned;
	uint64_t low = (uint64_t)registered;
	CUcontext other;
	char *allocated;
	unsigned int flags;
	CUstream s;

	must(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	must(cuCtxCreate_v2(&other, 0, 0));
	must(cuMemHostAlloc((void **)&allocated, 4096, CU_MEMHOSTALLOC_PORTABLE));
	must(cuMemHostRegister_v2(registered, sizeof(registered), CU_MEMHOSTREGISTER_PORTABLE));
	must(cuCtxPopCurrent_v2(NULL));
	atomic_store(word, 0);
	must(cuStreamWaitValue32_v2(s, (CUdeviceptr)pinned, 1, CU_STREAM_WAIT_VALUE_EQ));
	must(cuMemsetD8Async((CUdeviceptr)allocated, 3, 4096, s));
	must(cuCtxDestroy_v2(other));
	ok(cuStreamQuery(s) == CUDA_ERROR_NOT_READY, "a context ends while another one's stream waits");
	ok(cuMemHostGetFlags(&flags, allocated) == CUDA_ERROR_INVALID_VALUE &&
	   cuMemFreeHost(allocated) == CUDA_ERROR_INVALID_VALUE &&
	   cuMemsetD8Async((CUdeviceptr)allocated, 4, 4096, s) == CUDA_ERROR_INVALID_VALUE,
	   "with its pinned memory, for all calls");
	ok(is_mapped(allocated) && sg_mem_ok((uint64_t)allocated, 4) && sg_mem_ok(low, 4), "not for what is queued");
	must(cuMemHostRegister_v2(registered, 4096, 0));
	ok(cuMemHostRegister_v2(registered, 4096, 0) == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
	   "what it had registered can be anew");
	atomic_store(word, 1);
	must(cuStreamSynchronize(s));
	for (int i = 0; i < 5000 && is_mapped(allocated); i++)
		usleep(1000);
	ok(!is_mapped(allocated) && !sg_mem_ok((uint64_t)allocated, 4), "and then it is gone");
	ok(sg_mem_ok(low, 4) && !sg_mem_ok(low + 4096, 4), "all but what is registered anew");
	must(cuMemHostUnregister(registered));

	/* Nothing waits. */
	must(cuCtxCreate_v2(&other, 0, 0));
	must(cuMemHostAlloc((void **)&allocated, 4096, 0));
	must(cuCtxDestroy_v2(other));
	ok(!is_mapped(allocated), "at once, if nothing is queued");
	must(cuStreamDestroy_v2(s));
}

/* Contexts come and go while another thread waits for all of them. */
static void *frees(void *stop)
{
	CUcontext c;
	void *p;

	must(cuDevicePrimaryCtxRetain(&c, 0));
	must(cuCtxSetCurrent(c));
	while (!atomic_load((_Atomic int *)stop)) {
		must(cuMemHostAlloc(&p, 4096, 0));
		must(cuMemFreeHost(p));
	}
	must(cuDevicePrimaryCtxRelease_v2(0));
	return NULL;
}

static void contexts_come_and_go(void)
{
	_Atomic int stop = 0;
	CUdeviceptr d;
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		must(pthread_create(&t[i], NULL, frees, &stop));
	for (int i = 0; i < 300; i++) {
		CUcontext c;
		CUstream s;

		must(cuCtxCreate_v2(&c, 0, 0));
		must(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
		must(cuMemAlloc_v2(&d, 2 << 20));
		must(cuMemsetD8Async(d, 1, 1 << 20, s));
		must(cuMemsetD8Async(d + (1 << 20), 2, 1 << 20, NULL));
		must(cuCtxDestroy_v2(c));
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	ok(true, "300 contexts end while other threads wait for all there are");
}

static CUresult inside[3];

static void forbidden(void *data)
{
	inside[0] = cuStreamSynchronize(NULL);
	inside[1] = cuCtxSynchronize_v2(*(CUcontext *)data);
}

static void callback(CUstream s, CUresult status, void *data)
{
	inside[2] = status;
	*(CUstream *)data = s;
}

static void host_functions(void)
{
	CUstream s, got = NULL;
	CUcontext c;

	must(cuStreamCreate(&s, 0));
	must(cuCtxGetCurrent(&c));
	inside[2] = CUDA_ERROR_UNKNOWN;
	must(cuLaunchHostFunc(s, forbidden, &c));
	must(cuStreamAddCallback(s, callback, &got, 0));
	must(cuStreamSynchronize(s));
	ok(inside[0] != CUDA_SUCCESS && inside[1] == CUDA_ERROR_NOT_PERMITTED, "host functions may not synchronise");
	ok(got == s && inside[2] == CUDA_SUCCESS, "a callback is told its stream and that all is well");
	must(cuStreamDestroy_v2(s));
}

static void *own_streams(void *data)
{
	unsigned long long *id = data;
	CUcontext c;

	must(cuDevicePrimaryCtxRetain(&c, 0));
	must(cuCtxSetCurrent(c));
	must(cuStreamGetId_ptsz(NULL, id));
	must(cuStreamGetId(CU_STREAM_PER_THREAD, id + 1));
	must(cuDevicePrimaryCtxRelease_v2(0));
	return NULL;
}

static void per_thread(void)
{
	unsigned long long mine[2], theirs[2], null;
	pthread_t t;

	own_streams(mine);
	must(cuStreamGetId(NULL, &null));
	must(pthread_create(&t, NULL, own_streams, theirs));
	pthread_join(t, NULL);
	ok(mine[0] == mine[1] && theirs[0] == theirs[1] && mine[0] != theirs[0] && mine[0] != null,
	   "each thread has a default stream of its own");
}

/* Several threads, two streams that wait for each other's events over and over, and one both use. */
struct worker {
	CUstream own, other, shared;
	CUevent ev, other_ev;
	_Atomic int *count;
};

static void *crossing(void *data)
{
	struct worker *w = data;
	CUcontext c;

	must(cuDevicePrimaryCtxRetain(&c, 0));
	must(cuCtxSetCurrent(c));
	for (int i = 0; i < 2000; i++) {
		must(cuLaunchHostFunc(w->own, note, (void *)w->count));
		must(cuEventRecord(w->ev, w->own));
		must(cuStreamWaitEvent(w->other, w->ev, 0));
		must(cuMemsetD8Async(memory + 4096, 1, 4096, w->shared));
		if (i % 16 == 0)
			must(cuStreamSynchronize(w->own));
		if (i % 64 == 0)
			must(cuMemsetD8Async(memory + 8192, 1, 100, NULL));
	}
	must(cuStreamSynchronize(w->own));
	must(cuDevicePrimaryCtxRelease_v2(0));
	return NULL;
}

static void crossings(void)
{
	struct worker w[4];
	CUstream s[4], shared;
	_Atomic int count = 0;
	pthread_t t[4];

	must(cuStreamCreate(&shared, 0));
	for (int i = 0; i < 4; i++)
		must(cuStreamCreate(&s[i], i & 1));
	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){ .own = s[i], .other = s[(i + 1) % 4], .shared = shared, .count = &count };
		must(cuEventCreate(&w[i].ev, CU_EVENT_DISABLE_TIMING));
		must(pthread_create(&t[i], NULL, crossing, &w[i]));
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	must(cuCtxSynchronize());
	ok(count == 8000, "four threads whose streams wait for one another in a circle all finish");
	for (int i = 0; i < 4; i++) {
		must(cuEventDestroy_v2(w[i].ev));
		must(cuStreamDestroy_v2(s[i]));
	}
	must(cuStreamDestroy_v2(shared));
}

int main(void)
{
	CUcontext c;

	alarm(120);
	must(cuInit(0));
	must(cuDevicePrimaryCtxRetain(&c, 0));
	must(cuCtxSetCurrent(c));
	must(cuMemAlloc_v2(&memory, 1 << 20));
	must(cuMemHostAlloc((void **)&pinned, 4096, 0));
	order_in_stream();
	asynchronous();
	events_across();
	legacy();
	full_ring();
	free_waits();
	pageable();
	values();
	context_ends();
	contexts_come_and_go();
	host_functions();
	per_thread();
	crossings();
	must(cuMemFreeHost(pinned));
	must(cuMemFree_v2(memory));
	must(cuDevicePrimaryCtxRelease_v2(0));
	return tap_done();
}
