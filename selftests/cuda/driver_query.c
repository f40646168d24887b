// SPDX-License-Identifier: Apache-2.0
/*
 * Asking whether work is done: right answers at any time, from several threads, and (what VGPU_TRACE shows, see
 * selftests/run-local) without a round trip once it is.
 */
#include <pthread.h>
#include <time.h>

#include "driver.h"

#define BYTES	(8u << 20)
#define TRACED	(1u << 20)
#define BETWEEN	(12u << 10)	/* more than what travels in a message */
#define EVENTS	2000	/* more than the shim has room to watch */

static CUcontext ctx;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static bool poll_event(CUevent e)
{
	double end = now() + 20;
	CUresult r;

	do
		r = cuEventQuery(e);
	while (r == CUDA_ERROR_NOT_READY && now() < end);
	return r == CUDA_SUCCESS;
}

static bool poll_stream(CUstream s)
{
	double end = now() + 20;
	CUresult r;

	do
		r = cuStreamQuery(s);
	while (r == CUDA_ERROR_NOT_READY && now() < end);
	return r == CUDA_SUCCESS;
}

/* A fill, a copy back into pinned memory, an event: when the event is said to be done, the bytes must be there. */
static bool round_trips(CUstream s, unsigned int seed, bool alone)
{
	unsigned char *host;
	CUdeviceptr dev;
	bool good = true;
	CUevent e;

	CU(cuMemAlloc(&dev, BYTES));
	CU(cuMemHostAlloc((void **)&host, BYTES, 0));
	CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	for (unsigned int i = 0; i < 40 && good; i++) {
		unsigned char value = seed + i;

		memset(host, ~value, BYTES);
		CU(cuMemsetD8Async(dev, value, BYTES, s));
		CU(cuMemcpyDtoHAsync(host, dev, BYTES, s));
		CU(cuEventRecord(e, s));
		good = i & 1 ? poll_event(e) : poll_stream(s);
		good = good && host[0] == value && host[BYTES / 2] == value && host[BYTES - 1] == value;
		/* What another thread frees meanwhile is a moment's work for all streams. */
		good = good && cuEventQuery(e) == CUDA_SUCCESS && (alone ? cuStreamQuery(s) == CUDA_SUCCESS : poll_stream(s));
	}
	CU(cuEventDestroy(e));
	CU(cuMemFreeHost(host));
	CU(cuMemFree(dev));
	return good;
}

static void *thread(void *arg)
{
	unsigned int number = (unsigned int)(uintptr_t)arg;
	CUstream s;
	bool good;

	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	good = round_trips(s, number * 40, false);
	CU(cuStreamDestroy(s));
	return (void *)(uintptr_t)good;
}

/* Copies out of pageable memory travel by themselves: they count all the same, and no error is lost on their way. */
static void pageable(void)
{
	size_t bytes = 256u << 10;
	char *from = calloc(1, bytes);
	CUstreamAttrValue value = { 0 };
	CUdeviceptr gate, to;
	CUstream s, t, opener;
	CUevent event;
	CUresult r;

	CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
	if (!from)
		bail("out of memory");
	CU(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	CU(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
	CU(cuMemAlloc(&gate, 4));
	CU(cuMemAlloc(&to, bytes));
	CU(cuMemsetD32(gate, 0, 1));
	CU(cuStreamSynchronize(s));
	ok(poll_stream(s), "idle");
	CU(cuStreamWaitValue32(s, gate, 1, CU_STREAM_WAIT_VALUE_GEQ));
	ok(cuStreamQuery(s) == CUDA_ERROR_NOT_READY, "a stream waits for a value");
	CU(cuStreamWriteValue32(t, gate, 1, 0));
	CU(cuStreamSynchronize(s));
	ok(poll_stream(s), "idle again");
	CU(cuMemsetD32(gate, 0, 1));
	CU(cuStreamWaitValue32(t, gate, 1, CU_STREAM_WAIT_VALUE_GEQ));
	CU(cuEventRecord(event, t));
	CU(cuStreamWaitEvent(s, event, 0));
	CU(cuMemcpyHtoDAsync(to, from, bytes, s));
	GIVES(cuStreamQuery(s), CUDA_ERROR_NOT_READY, "behind a closed gate a copy of pageable memory is not done");
	CU(cuMemsetD32Async(gate, 1, 1, s));	/* not before */
	GIVES(cuStreamQuery(s), CUDA_ERROR_NOT_READY, "nor is what comes after it");
	CU(cuStreamCreate(&opener, CU_STREAM_NON_BLOCKING));
	CU(cuStreamWriteValue32(opener, gate, 1, 0));
	CU(cuStreamSynchronize(s));
	ok(poll_stream(s), "when the gate has been opened it is");

	r = cuStreamSetAttribute(s, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &value);
	if (r == CUDA_SUCCESS) {
		CU(cuMemcpyHtoDAsync(to, from, bytes, s));
		r = cuStreamSynchronize(s);
	}
	ok(r != CUDA_SUCCESS, "an error before such a copy is told by the next synchronisation: %s", cu_name(r));
	GIVES(cuStreamSynchronize(s), CUDA_SUCCESS, "and once only");
	CU(cuMemFree(gate));
	CU(cuMemFree(to));
	free(from);
}

/* run-local looks for them in the trace: what was sent and not waited for, and what was. */
static void traced(CUstream s)
{
	char *host = calloc(1, TRACED);
	CUdeviceptr p;

	if (!host)
		bail("out of memory");
	CU(cuMemAlloc(&p, TRACED));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyHtoDAsync(p, host, TRACED, s));
	CU(cuStreamSynchronize(s));
	CU(cuMemcpyHtoD(p, host, TRACED));
	CU(cuMemcpyDtoH(host, p, TRACED));
	CU(cuMemFree(p));
	free(host);
}

/* A blocking copy waits for what other streams had before it: then the program knows, and so must who is asked. */
static void copies_between(CUstream blocking)
{
	static char host[BETWEEN];
	unsigned int late = 0;
	CUdeviceptr p;
	CUevent e;

	CU(cuMemAlloc(&p, BYTES));
	CU(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	for (int i = 0; i < 1000; i++) {
		CU(cuMemsetD8Async(p, i, (i % 16 + 1) * (128 << 10), blocking));
		CU(cuEventRecord(e, blocking));
		cuEventQuery(e);
		CU(cuMemcpyHtoD(p, host, sizeof(host)));
		late += cuEventQuery(e) != CUDA_SUCCESS;
	}
	ok(!late, "after a blocking copy nobody hears that what it waited for is not ready: %u of 1000", late);
	CU(cuEventDestroy(e));
	CU(cuMemFree(p));
}

int main(int argc, char **argv)
{
	static CUevent events[EVENTS];
	pthread_t threads[4];
	bool all = true;
	CUstream s, t;
	CUdeviceptr p;
	CUevent e;

	ctx = primary_context(NULL);
	CU(cuStreamCreate(&s, 0));
	CU(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
	CU(cuEventCreate(&e, 0));
	CU(cuMemAlloc(&p, BYTES));

	GIVES(cuStreamQuery(s), CUDA_SUCCESS, "a stream that was never used is idle");
	GIVES(cuEventQuery(e), CUDA_SUCCESS, "an event that was never recorded is complete");
	ok(round_trips(s, 1, true), "in a stream, what an event says is done is done");
	ok(round_trips(NULL, 2, true), "in the default stream too");
	ok(round_trips(CU_STREAM_PER_THREAD, 3, true), "and in the thread's own");

	/* What one stream waits for of another. */
	for (int i = 0; i < 100 && all; i++) {
		CU(cuMemsetD8Async(p, i, BYTES, t));
		CU(cuEventRecord(e, t));
		CU(cuStreamWaitEvent(s, e, 0));
		CU(cuMemsetD8Async(p, i, 4096, s));
		all = poll_stream(s) && cuEventQuery(e) == CUDA_SUCCESS && cuStreamQuery(t) == CUDA_SUCCESS;
	}
	ok(all, "a stream that waited for an event is idle no sooner than the event is complete");

	/* Recorded anew, an event is not complete because it once was. */
	CU(cuStreamSynchronize(s));
	CU(cuStreamSynchronize(t));
	all = true;
	for (int i = 0; i < 50; i++) {
		CU(cuEventRecord(e, t));
		CU(cuStreamSynchronize(t));
		all = all && cuEventQuery(e) == CUDA_SUCCESS && cuStreamQuery(t) == CUDA_SUCCESS;
	}
	ok(all, "after a synchronisation nobody hears that something is not ready");

	all = true;
	for (int i = 0; i < EVENTS; i++) {
		CU(cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING));
		CU(cuEventRecord(events[i], i & 1 ? s : t));
	}
	for (int i = 0; i < EVENTS; i++)
		all = all && poll_event(events[i]);
	ok(all, "%d events at a time", EVENTS);
	for (int i = 0; i < EVENTS; i++)
		CU(cuEventDestroy(events[i]));

	all = true;
	for (unsigned int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, thread, (void *)(uintptr_t)i);
	for (unsigned int i = 0; i < 4; i++) {
		void *good;

		pthread_join(threads[i], &good);
		all = all && good;
	}
	ok(all, "four threads, each with a stream of its own");

	/* Through the shim alone: the driver itself may wait for such a copy. */
	if (!on_driver() && !counts_apart())
		pageable();
	copies_between(s);
	traced(t);

	/* The part that run-local counts: everything is done, and each question is asked a hundred times. */
	CU(cuEventRecord(e, s));
	ok(poll_event(e) && poll_stream(s), "done");
	all = true;
	for (int i = 0; i < 100; i++)
		all = all && cuEventQuery(e) == CUDA_SUCCESS && cuStreamQuery(s) == CUDA_SUCCESS;
	ok(all, "a hundred questions about what is done");
	(void)argc;
	(void)argv;
	return tap_done();
}
