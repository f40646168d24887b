// SPDX-License-Identifier: Apache-2.0
/*
 * The per-thread default stream: each entry point that has a form for it, by its own name. What is work in a stream is
 * called while that stream captures, and must become a node of the capture, which the plain form may not; what waits is
 * called while another stream is held up, and must not wait for that one, which the plain form does.
 *
 * And what CUDA says of these streams: two threads' do not wait for each other; both wait for the legacy stream, and it
 * for them; streams made with CU_STREAM_NON_BLOCKING have no part in that.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define BYTES	4096

static CUcontext ctx;
static CUdevice dev;
static CUdeviceptr d, e, managed;
static CUfunction nothing;
static CUevent ev;
static CUmemoryPool pool;
static CUgraphExec exec;
static CUarray array, array2;
static unsigned char *host;
static const char *now = "nothing";

static const char ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry nothing()\n{\n	ret;\n}\n";

static void hangs(int sig)
{
	(void)sig;
	printf("not ok - %s does not come back\n", now);
	fflush(stdout);
	_exit(1);
}

/* --- holding a stream up --------------------------------------------------------------------------------------------- */

struct gate {
	int open, reached;
};

static void CUDA_CB wait_at(void *arg)
{
	struct gate *g = arg;

	__atomic_store_n(&g->reached, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&g->open, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void hold(struct gate *g, CUstream s)
{
	*g = (struct gate){ 0 };
	CU(cuLaunchHostFunc(s, wait_at, g));
	while (!__atomic_load_n(&g->reached, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void open_gate(struct gate *g)
{
	__atomic_store_n(&g->open, 1, __ATOMIC_RELEASE);
}

/* --- what is work in a stream ----------------------------------------------------------------------------------------- */

static void CUDA_CB host_function(void *arg)
{
	(void)arg;
}

static CUDA_MEMCPY2D rows(void)
{
	return (CUDA_MEMCPY2D){ .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .srcPitch = 64,
				.dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = e, .dstPitch = 64, .WidthInBytes = 32, .Height = 4 };
}

static CUDA_MEMCPY3D box(void)
{
	return (CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .srcPitch = 64, .srcHeight = 4,
				.dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = e, .dstPitch = 64, .dstHeight = 4,
				.WidthInBytes = 32, .Height = 2, .Depth = 2 };
}

static CUDA_MEMCPY3D_PEER peer(void)
{
	return (CUDA_MEMCPY3D_PEER){ .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = d, .srcPitch = 64, .srcHeight = 4,
				     .srcContext = ctx, .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = e, .dstPitch = 64,
				     .dstHeight = 4, .dstContext = ctx, .WidthInBytes = 32, .Height = 2, .Depth = 2 };
}

static CUlaunchConfig shape(void)
{
	return (CUlaunchConfig){ .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1 };
}

#define FORMS(X) \
	X(cuMemcpyAsync, (d, e, 64, NULL)) \
	X(cuMemcpyPeerAsync, (d, ctx, e, ctx, 64, NULL)) \
	X(cuMemcpyHtoDAsync_v2, (d, host, 64, NULL)) \
	X(cuMemcpyDtoHAsync_v2, (host, d, 64, NULL)) \
	X(cuMemcpyDtoDAsync_v2, (d, e, 64, NULL)) \
	X(cuMemcpyHtoAAsync_v2, (array, 0, host, 32, NULL)) \
	X(cuMemcpyAtoHAsync_v2, (host, array, 0, 32, NULL)) \
	X(cuMemcpy2DAsync_v2, ((CUDA_MEMCPY2D[]){ rows() }, NULL)) \
	X(cuMemcpy3DAsync_v2, ((CUDA_MEMCPY3D[]){ box() }, NULL)) \
	X(cuMemcpy3DPeerAsync, ((CUDA_MEMCPY3D_PEER[]){ peer() }, NULL)) \
	X(cuMemsetD8Async, (d, 1, 64, NULL)) \
	X(cuMemsetD16Async, (d, 1, 64, NULL)) \
	X(cuMemsetD32Async, (d, 1, 64, NULL)) \
	X(cuMemsetD2D8Async, (d, 64, 1, 32, 4, NULL)) \
	X(cuMemsetD2D16Async, (d, 64, 1, 16, 4, NULL)) \
	X(cuMemsetD2D32Async, (d, 64, 1, 8, 4, NULL)) \
	X(cuLaunchKernel, (nothing, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL)) \
	X(cuLaunchKernelEx, ((CUlaunchConfig[]){ shape() }, nothing, NULL, NULL)) \
	X(cuLaunchCooperativeKernel, (nothing, 1, 1, 1, 1, 1, 1, 0, NULL, NULL)) \
	X(cuLaunchHostFunc, (NULL, host_function, NULL)) \
	X(cuStreamBatchMemOp_v2, (NULL, 1, (CUstreamBatchMemOpParams[]){ { .writeValue = { CU_STREAM_MEM_OP_WRITE_VALUE_32, d } } }, 0)) \
	X(cuStreamBatchMemOp, (NULL, 1, (CUstreamBatchMemOpParams[]){ { .writeValue = { CU_STREAM_MEM_OP_WRITE_VALUE_32, d } } }, 0)) \
	X(cuStreamWriteValue32_v2, (NULL, d, 1, 0)) \
	X(cuStreamWriteValue64_v2, (NULL, d, 1, 0)) \
	X(cuStreamWaitValue32_v2, (NULL, d, 0, CU_STREAM_WAIT_VALUE_GEQ)) \
	X(cuStreamWaitValue64_v2, (NULL, d, 0, CU_STREAM_WAIT_VALUE_GEQ)) \
	X(cuStreamWriteValue32, (NULL, d, 1, 0)) \
	X(cuStreamWriteValue64, (NULL, d, 1, 0)) \
	X(cuStreamWaitValue32, (NULL, d, 0, CU_STREAM_WAIT_VALUE_GEQ)) \
	X(cuStreamWaitValue64, (NULL, d, 0, CU_STREAM_WAIT_VALUE_GEQ)) \
	X(cuMemAllocAsync, (&allocated, 4096, NULL)) \
	X(cuMemAllocFromPoolAsync, (&allocated, 4096, pool, NULL)) \
	X(cuMemcpyBatchAsync, (&d, &e, &size, 1, &how, &first, 1, NULL, NULL)) \
	X(cuMemcpyBatchAsync_v2, (&d, &e, &size, 1, &how, &first, 1, NULL))

/* The nodes of what this thread's stream captures; -1: it does not. */
static long captured(void)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	CUgraph g = NULL;
	cuuint64_t id;
	size_t n = 0;

	if (cuStreamGetCaptureInfo_v3(CU_STREAM_PER_THREAD, &status, &id, &g, NULL, NULL, NULL) != CUDA_SUCCESS ||
	    status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
		return -1;
	CU(cuGraphGetNodes(g, NULL, &n));
	return (long)n;
}

static void work(void)
{
	CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUdeviceptr allocated;
	size_t size = 64, first = 0;
	CUresult r, plain;
	CUgraph g;

#define FORM(name, arguments)										\
	now = #name "_ptsz";										\
	CU(cuStreamBeginCapture_v2_ptsz(NULL, CU_STREAM_CAPTURE_MODE_RELAXED));			\
	r = name##_ptsz arguments;									\
	long n_##name = captured();									\
	plain = name arguments;										\
	cuStreamEndCapture_ptsz(NULL, &g);								\
	/* NVIDIA's driver captures less than we do. */							\
	if (r == CUDA_ERROR_NOT_SUPPORTED || (on_driver() && r != CUDA_SUCCESS))			\
		printf("# " #name " is not supported in graphs\n");					\
	else												\
		ok(r == CUDA_SUCCESS && n_##name >= 1 && plain == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,	\
		   #name "_ptsz is of the thread's own stream: %s, %ld, %s", cu_name(r), n_##name, cu_name(plain)); \
	if (g)												\
		CU(cuGraphDestroy(g));

	FORMS(FORM)
#undef FORM
}

/* --- what waits ------------------------------------------------------------------------------------------------------ */

static void waits(void)
{
	CUDA_MEMCPY3D_PEER p3 = peer();
	CUDA_MEMCPY2D c2 = rows();
	CUDA_MEMCPY3D c3 = box();
	struct gate gate;
	CUstream blocking;

	CU(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
	hold(&gate, blocking);
#define FORM(name, arguments)	\
	now = #name;		\
	alarm(60);		\
	GIVES(name arguments, CUDA_SUCCESS, #name " does not wait for another stream");	\
	CU(cuStreamSynchronize_ptsz(NULL));	\
	alarm(0);
	FORM(cuMemcpy_ptds, (d, e, 64))
	FORM(cuMemcpyPeer_ptds, (d, ctx, e, ctx, 64))
	FORM(cuMemcpyHtoD_v2_ptds, (d, host, 64))
	FORM(cuMemcpyDtoH_v2_ptds, (host, d, 64))
	FORM(cuMemcpyDtoD_v2_ptds, (d, e, 64))
	FORM(cuMemcpyDtoA_v2_ptds, (array, 0, d, 32))
	FORM(cuMemcpyAtoD_v2_ptds, (d, array, 0, 32))
	FORM(cuMemcpyHtoA_v2_ptds, (array, 0, host, 32))
	FORM(cuMemcpyAtoH_v2_ptds, (host, array, 0, 32))
	FORM(cuMemcpyAtoA_v2_ptds, (array, 0, array2, 0, 32))
	FORM(cuMemcpy2D_v2_ptds, (&c2))
	FORM(cuMemcpy2DUnaligned_v2_ptds, (&c2))
	FORM(cuMemcpy3D_v2_ptds, (&c3))
	FORM(cuMemcpy3DPeer_ptds, (&p3))
	FORM(cuMemsetD8_v2_ptds, (d, 1, 64))
	FORM(cuMemsetD16_v2_ptds, (d, 1, 64))
	FORM(cuMemsetD32_v2_ptds, (d, 1, 64))
	FORM(cuMemsetD2D8_v2_ptds, (d, 64, 1, 32, 4))
	FORM(cuMemsetD2D16_v2_ptds, (d, 64, 1, 16, 4))
	FORM(cuMemsetD2D32_v2_ptds, (d, 64, 1, 8, 4))
	FORM(cuStreamSynchronize_ptsz, (NULL))
	FORM(cuEventRecord_ptsz, (ev, NULL))
	FORM(cuEventSynchronize, (ev))
	FORM(cuStreamQuery_ptsz, (NULL))
	FORM(cuMemAllocAsync_ptsz, (&managed, 4096, NULL))
	FORM(cuMemFreeAsync_ptsz, (managed, NULL))
	FORM(cuGraphUpload_ptsz, (exec, NULL))
	FORM(cuGraphLaunch_ptsz, (exec, NULL))
	FORM(cuStreamSynchronize_ptsz, (CU_STREAM_PER_THREAD))
#undef FORM
	/* What is in the legacy stream does wait for it. */
	CU(cuMemsetD8Async(d, 1, 64, NULL));
	CU(cuEventRecord(ev, NULL));
	usleep(20000);
	GIVES(cuEventQuery(ev), CUDA_ERROR_NOT_READY, "the legacy stream does");
	open_gate(&gate);
	CU(cuEventSynchronize(ev));
	CU(cuStreamDestroy_v2(blocking));
}

/* --- what they are ------------------------------------------------------------------------------------------------------ */

static void questions(void)
{
	CUmemcpyAttributes how = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUDA_MEMCPY3D_BATCH_OP op = { .src = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER, .op.ptr.ptr = d },
				      .dst = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER, .op.ptr.ptr = e },
				      .extent = { 16, 2, 1 }, .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	CUstreamAttrValue value = { .syncPolicy = CU_SYNC_POLICY_YIELD }, got = { .syncPolicy = 0 };
	CUDA_GRAPH_INSTANTIATE_PARAMS params = { .flags = 0 };
	CUmemLocation where = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev };
	unsigned long long id[3] = { 0 };
	unsigned int flags = 77;
	CUstreamCaptureStatus status;
	int priority = 77;
	size_t n = 0, size = BYTES, index = 0;
	cuuint64_t capture;
	CUdevice on = -1;
	CUgraphExec made;
	CUdeviceptr m;
	CUcontext in, in2;
	CUgreenCtx green;
	CUgraph g = NULL, g2;
	const CUgraphNode *nodes;
	const CUgraphEdgeData *edges;

	CU(cuStreamGetId_ptsz(NULL, &id[0]));
	CU(cuStreamGetId(CU_STREAM_PER_THREAD, &id[1]));
	CU(cuStreamGetId(NULL, &id[2]));
	ok(id[0] == id[1] && id[0] != id[2], "its number is not the legacy stream's");
	CU(cuStreamGetPriority_ptsz(NULL, &priority));
	CU(cuStreamGetFlags_ptsz(NULL, &flags));
	CU(cuStreamGetDevice_ptsz(NULL, &on));
	CU(cuStreamGetCtx_ptsz(NULL, &in));
	CU(cuStreamGetCtx_v2_ptsz(NULL, &in2, &green));
	ok(!priority && !flags && on == dev && in == ctx && in2 == ctx && !green, "priority, flags, device, context");
	CU(cuStreamSetAttribute_ptsz(NULL, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CU(cuStreamGetAttribute_ptsz(NULL, CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, &got));
	ok(got.syncPolicy == CU_SYNC_POLICY_YIELD, "attributes");
	CU(cuStreamCopyAttributes_ptsz(NULL, CU_STREAM_PER_THREAD));

	CU(cuEventRecordWithFlags_ptsz(ev, NULL, 0));
	CU(cuStreamWaitEvent_ptsz(NULL, ev, 0));
	CU(cuMemcpy3DBatchAsync_ptsz(1, &op, NULL, 0, NULL));
	OURS(cuMemcpy3DBatchAsync_v2_ptsz(1, &op, 0, NULL), CUDA_SUCCESS, "a batch of boxes in the thread's stream");
	CU(cuMemAllocManaged(&m, BYTES, CU_MEM_ATTACH_GLOBAL));
	CU(cuStreamAttachMemAsync_ptsz(NULL, m, 0, CU_MEM_ATTACH_SINGLE));
	CU(cuMemPrefetchAsync_ptsz(m, BYTES, dev, NULL));
	CU(cuMemPrefetchAsync_v2_ptsz(m, BYTES, where, 0, NULL));
	CU(cuMemPrefetchBatchAsync_ptsz(&m, &size, 1, &where, &index, 1, 0, NULL));
	CU(cuMemDiscardBatchAsync_ptsz(&m, &size, 1, 0, NULL));
	CU(cuMemDiscardAndPrefetchBatchAsync_ptsz(&m, &size, 1, &where, &index, 1, 0, NULL));
	CU(cuStreamSynchronize_ptsz(NULL));
	CU(cuMemFree_v2(m));
	(void)how;

	/* Capture of stream 0, and all that can be asked and told of it. */
	GIVES(cuStreamBeginCapture(NULL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
	CU(cuStreamBeginCapture_ptsz(NULL));
	CU(cuMemsetD8Async_ptsz(d, 1, 64, NULL));
	CU(cuStreamIsCapturing_ptsz(NULL, &status));
	ok(status == CU_STREAM_CAPTURE_STATUS_ACTIVE, "the thread's own can");
	status = CU_STREAM_CAPTURE_STATUS_NONE;
	CU(cuStreamGetCaptureInfo_ptsz(NULL, &status, &capture));
	ok(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && capture, "asked in the first form");
	CU(cuStreamGetCaptureInfo_v2_ptsz(NULL, &status, &capture, &g, &nodes, &n));
	ok(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && g && n == 1, "the second");
	CU(cuStreamGetCaptureInfo_v3_ptsz(NULL, &status, &capture, &g2, &nodes, &edges, &n));
	ok(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && g2 == g && n == 1, "and the third");
	CU(cuStreamUpdateCaptureDependencies_ptsz(NULL, NULL, 0, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	CU(cuStreamUpdateCaptureDependencies_v2_ptsz(NULL, NULL, NULL, 0, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	CU(cuMemsetD8Async_ptsz(d, 2, 64, NULL));
	CU(cuStreamEndCapture_ptsz(NULL, &g2));
	n = 0;
	CU(cuGraphGetRootNodes(g2, NULL, &n));
	ok(g2 == g && n == 2, "its dependencies can be set: %zu roots", n);
	CU(cuGraphInstantiateWithParams_ptsz(&made, g, &params));
	CU(cuGraphExecDestroy(made));
	CU(cuGraphDestroy(g));
	CU(cuGraphCreate(&g, 0));
	CU(cuStreamBeginCaptureToGraph_ptsz(NULL, g, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	CU(cuLaunchKernel_ptsz(nothing, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	CU(cuStreamEndCapture_ptsz(NULL, &g2));
	ok(g == g2, "a capture into a graph");
	CU(cuGraphDestroy(g));
}

static int called;

static void CUDA_CB callback(CUstream s, CUresult r, void *data)
{
	called += r == CUDA_SUCCESS && data == &called && (s == NULL || s == CU_STREAM_PER_THREAD);
}

/* --- threads ----------------------------------------------------------------------------------------------------------- */

struct other {
	pthread_barrier_t barrier;
	struct gate gate;
	bool busy, ended;
	CUevent done;
	unsigned long long id;
};

/* Its own stream 0 is held up all the while. */
static void *other_thread(void *arg)
{
	struct other *o = arg;

	CU(cuCtxSetCurrent(ctx));
	CU(cuStreamGetId_ptsz(NULL, &o->id));
	o->gate = (struct gate){ 0 };
	CU(cuLaunchHostFunc_ptsz(NULL, wait_at, &o->gate));
	while (!__atomic_load_n(&o->gate.reached, __ATOMIC_ACQUIRE))
		usleep(100);
	CU(cuEventRecord_ptsz(o->done, NULL));
	pthread_barrier_wait(&o->barrier);
	pthread_barrier_wait(&o->barrier);
	o->busy = cuStreamQuery_ptsz(NULL) == CUDA_ERROR_NOT_READY;
	pthread_barrier_wait(&o->barrier);
	CU(cuStreamSynchronize_ptsz(NULL));
	o->ended = true;
	return NULL;
}

static void threads(void)
{
	unsigned long long mine;
	unsigned int value = 0;
	struct other o = { .busy = false };
	CUstream apart;
	CUevent legacy, here;
	pthread_t t;

	pthread_barrier_init(&o.barrier, NULL, 2);
	CU(cuEventCreate(&o.done, CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&legacy, CU_EVENT_DISABLE_TIMING));
	CU(cuEventCreate(&here, CU_EVENT_DISABLE_TIMING));
	CU(cuStreamCreate(&apart, CU_STREAM_NON_BLOCKING));
	CU(cuStreamGetId_ptsz(NULL, &mine));
	pthread_create(&t, NULL, other_thread, &o);
	pthread_barrier_wait(&o.barrier);
	ok(o.id != mine, "each thread has a stream of its own");
	now = "a thread's own stream while another's is busy";
	alarm(60);
	CU(cuMemsetD32Async_ptsz(d, 5, 1, NULL));
	CU(cuMemcpyDtoH_v2_ptds(&value, d, 4));
	CU(cuStreamSynchronize(CU_STREAM_PER_THREAD));
	alarm(0);
	ok(value == 5 && cuEventQuery(o.done) == CUDA_ERROR_NOT_READY, "which does not wait for another thread's");
	pthread_barrier_wait(&o.barrier);

	/* The legacy stream waits for both; and what comes after it here waits for it. */
	CU(cuMemsetD32Async(d, 6, 1, CU_STREAM_LEGACY));
	CU(cuEventRecord(legacy, CU_STREAM_LEGACY));
	CU(cuMemsetD32Async(d + 4, 7, 1, CU_STREAM_PER_THREAD));
	CU(cuEventRecord(here, CU_STREAM_PER_THREAD));
	CU(cuMemsetD32Async(d + 8, 8, 1, apart));
	now = "a stream that is not blocking";
	alarm(60);
	CU(cuStreamSynchronize(apart));
	alarm(0);
	usleep(20000);
	GIVES(cuEventQuery(legacy), CUDA_ERROR_NOT_READY, "the legacy stream waits for all threads' own");
	GIVES(cuEventQuery(here), CUDA_ERROR_NOT_READY, "and they wait for it");
	CU(cuEventRecord_ptsz(ev, CU_STREAM_LEGACY));
	GIVES(cuEventQuery(ev), CUDA_ERROR_NOT_READY, "an event recorded in the legacy stream by its name is of that stream");
	pthread_barrier_wait(&o.barrier);
	open_gate(&o.gate);
	pthread_join(t, NULL);
	ok(o.busy && o.ended, "the other thread's stream was busy, and ended");
	CU(cuEventSynchronize(here));
	CU(cuEventSynchronize(legacy));
	CU(cuEventSynchronize(ev));
	ok(true, "then they all go on");
	CU(cuStreamDestroy_v2(apart));
	CU(cuEventDestroy_v2(o.done));
	CU(cuEventDestroy_v2(legacy));
	CU(cuEventDestroy_v2(here));
}

/* --- names --------------------------------------------------------------------------------------------------------------- */

static void names(void)
{
	typedef CUresult (CUDAAPI *id_fn)(CUstream s, unsigned long long *id);
	unsigned long long own, legacy, got;
	void *fn;

	CU(cuStreamGetId(CU_STREAM_PER_THREAD, &own));
	CU(cuStreamGetId(CU_STREAM_LEGACY, &legacy));
	CU(cuGetProcAddress_v2("cuStreamGetId", &fn, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL));
	CU(((id_fn)fn)(NULL, &got));
	ok(got == own && fn == (void *)cuStreamGetId_ptsz, "CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM gives the thread's own");
	CU(cuGetProcAddress_v2("cuStreamGetId", &fn, 13000, CU_GET_PROC_ADDRESS_LEGACY_STREAM, NULL));
	CU(((id_fn)fn)(NULL, &got));
	ok(got == legacy && fn == (void *)cuStreamGetId, "CU_GET_PROC_ADDRESS_LEGACY_STREAM the legacy one");
	CU(((id_fn)fn)(CU_STREAM_PER_THREAD, &got));
	ok(got == own, "which can still name the other");
	CU(cuGetProcAddress_v2("cuStreamGetId", &fn, 13000, CU_GET_PROC_ADDRESS_DEFAULT, NULL));
	ok(fn == (void *)cuStreamGetId, "and so does CU_GET_PROC_ADDRESS_DEFAULT");
	CU(cuGetProcAddress_v2("cuMemcpyHtoD", &fn, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL));
	ok(fn == (void *)cuMemcpyHtoD_v2_ptds, "what has no stream has such a form too");
}

int main(void)
{
	CUDA_ARRAY_DESCRIPTOR line = { .Width = 16, .Format = CU_AD_FORMAT_UNSIGNED_INT32, .NumChannels = 1 };
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED };
	CUmodule module;
	CUgraph g;
	CUgraphNode node;

	signal(SIGALRM, hangs);
	ctx = primary_context(&dev);
	CU(cuModuleLoadData(&module, ptx));
	CU(cuModuleGetFunction(&nothing, module, "nothing"));
	CU(cuMemAlloc_v2(&d, BYTES));
	CU(cuMemAlloc_v2(&e, BYTES));
	CU(cuMemHostAlloc((void **)&host, BYTES, 0));
	CU(cuEventCreate(&ev, CU_EVENT_DISABLE_TIMING));
	props.location = (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev };
	CU(cuMemPoolCreate(&pool, &props));
	CU(cuArrayCreate_v2(&array, &line));
	CU(cuArrayCreate_v2(&array2, &line));
	CU(cuGraphCreate(&g, 0));
	CU(cuGraphAddEmptyNode(&node, g, NULL, 0));
	CU(cuGraphInstantiateWithFlags(&exec, g, 0));

	names();
	work();
	questions();
	waits();
	CU(cuStreamAddCallback_ptsz(NULL, callback, &called, 0));
	CU(cuStreamSynchronize_ptsz(NULL));
	ok(called == 1, "a callback in it is called, with its name");
	threads();
	return tap_done();
}
