// SPDX-License-Identifier: Apache-2.0
/*
 * Errors that only the driver knows of: of hardware, of an installation, of what a GPU has not. Each call is made while the
 * driver gives the error (told_gpu.h), for each error that cuda.h documents for it, and the program must hear that very error,
 * or another that the call gives by itself. With VGPU_SYNC=1, so that every call has an answer. And after each the session
 * works as before.
 *
 * Only for the told GPU. Whether an error was heard is counted here; selftests/cuda/exercised knows which have to be.
 */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include "peer.h"
#include "sweep.h"
#include "told_gen.h"
#include "told_gpu.h"

static const struct told {
	const char *name;
	unsigned int call;
	CUresult error;
} all[] = {
#define TOLD(name, call, error) { #name, call, error },
	ALL_TOLD
};

static CUdeviceptr mapped, reserved, of_pool;
static const CUmemPoolProps to_share = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
					 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
					 .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR };
static CUmemoryPool shared, imported;
/* Of another process. */
static struct {
	CUipcMemHandle memory;
	CUipcEventHandle event;
	CUmemPoolPtrExportData pointer;
} foreign;
static CUgraphNode allocation;
static CUdeviceptr of_graph;
static int descriptor;
static CUgraphNode nodes[4];	/* a kernel, an event recorded, one waited for, a batch */
static CUDA_KERNEL_NODE_PARAMS kernel;
static CUstreamBatchMemOpParams op;
static CUDA_BATCH_MEM_OP_NODE_PARAMS batch;
static size_t granule;
static char path[] = "/tmp/driver_told.XXXXXX";

static const struct entry *find(const char *name)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		if (!strcmp(entries[i].name, name))
			return &entries[i];
	return NULL;
}

/* What ends something, or makes another context current: what is needed for the next call is made anew. */
static bool ends(const char *name)
{
	static const char *const words[] = { "Destroy", "Unload", "Release", "Free", "Reset", "Detach", "Current", "Unmap", "CtxCreate" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(name, words[i]))
			return true;
	return false;
}

/* What the worker makes other calls of the driver for. */
static const struct {
	const char *entry;	/* or how its name begins */
	unsigned int call;
} vias[] = {
	{ "cuLaunch", TOLD_cuLaunchKernel },
	{ "cuLaunch", TOLD_cuLaunchKernelEx },
	{ "cuLaunchCooperativeKernel", TOLD_cuLaunchCooperativeKernel },
	{ "cuModuleLoad", TOLD_cuModuleLoadDataEx },
	{ "cuLibraryLoad", TOLD_cuLibraryLoadData },
	{ "cuLinkAdd", TOLD_cuLinkAddData },
	{ "cuGraphAdd", TOLD_cuGraphAddNode },
	{ "cuGraph", TOLD_cuGraphNodeSetParams },
	{ "cuMemAlloc", TOLD_cuMemAllocFromPoolAsync },
	{ "cuMemFreeAsync", TOLD_cuMemFreeAsync },
};

/* --- arguments ------------------------------------------------------------------------------------------------------ */

#define AT(type, i)	(*(type *)buffers[i])

/* What the types do not tell. @try: numbers, enumerations and flags are 1, or 0, or 2. */
static void complete(const struct entry *e, uint64_t *a, unsigned int try)
{
	static const unsigned int numbers[] = { 1, 0, 2 };
	static const CUmemAllocationProp physical = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
						      .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
						      .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR };
	const char *n = e->name;

	arguments(e, a);
	for (unsigned int i = 0; i < e->n; i++)
		if (strchr("bw", e->kinds[i]))
			a[i] = numbers[(try + 1) % 3];
		else if (e->kinds[i] == 'e')
			a[i] = numbers[try % 3];
		else if (e->kinds[i] == 's' && try)
			a[i] = OBJECT_BYTES;
		else if (e->kinds[i] == 'c')
			strcpy((char *)buffers[i], strstr(n, "Dot") || strstr(n, "Dump") ? "/dev/null" :
						   strstr(n, "File") || strstr(n, "Load") ? path : "nothing");
	if (!strcmp(n, "cuLaunchKernel")) {
		a[8] = 0;
		a[9] = a[10] = 0;
	} else if (!strcmp(n, "cuLaunchCooperativeKernel")) {
		a[7] = 0;
		a[9] = 0;
	} else if (!strcmp(n, "cuLaunchKernelEx")) {
		AT(CUlaunchConfig, 0) = (CUlaunchConfig){ .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
							  .blockDimZ = 1, .hStream = (CUstream)good.of['S'] };
		a[2] = a[3] = 0;
	} else if (!strcmp(n, "cuLaunchCooperativeKernelMultiDevice")) {
		AT(CUDA_LAUNCH_PARAMS, 0) = (CUDA_LAUNCH_PARAMS){ .function = (CUfunction)good.of['F'], .gridDimX = 1, .gridDimY = 1,
								  .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1,
								  .hStream = (CUstream)good.of['S'] };
		a[2] = 0;
	} else if (!strncmp(n, "cuModuleLoad", 12) && e->kinds[1] == 'p') {
		strcpy((char *)buffers[1], objects_ptx);
		if (e->n > 2)
			a[2] = 0;
	} else if (!strncmp(n, "cuLibraryLoad", 13)) {
		if (e->kinds[1] == 'p')
			strcpy((char *)buffers[1], objects_ptx);
		a[4] = a[7] = 0;
	} else if (!strncmp(n, "cuLinkCreate", 12)) {
		a[0] = 0;
	} else if (!strncmp(n, "cuLinkAddData", 13)) {
		strcpy((char *)buffers[2], objects_ptx);
		a[3] = sizeof(objects_ptx);
		a[5] = 0;
	} else if (!strncmp(n, "cuLinkAddFile", 13)) {
		a[3] = 0;
	} else if (!strcmp(n, "cuMemCreate") || !strcmp(n, "cuMemGetAllocationGranularity")) {
		unsigned int i = n[5] == 'C' ? 2 : 1;

		AT(CUmemAllocationProp, i) = (CUmemAllocationProp){ .type = CU_MEM_ALLOCATION_TYPE_PINNED,
								    .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	} else if (!strcmp(n, "cuMemPoolCreate")) {
		AT(CUmemPoolProps, 1) = (CUmemPoolProps){ .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
							  .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	} else if (!strcmp(n, "cuStreamBatchMemOp") || !strcmp(n, "cuStreamBatchMemOp_v2")) {
		AT(CUstreamBatchMemOpParams, 2).writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
		AT(CUstreamBatchMemOpParams, 2).writeValue.address = memory;
	} else if (!strcmp(n, "cuGraphAddHostNode")) {
		AT(CUDA_HOST_NODE_PARAMS, 4).fn = object_function;
		a[3] = 0;
	} else if (!strcmp(n, "cuGraphAddMemAllocNode")) {
		AT(CUDA_MEM_ALLOC_NODE_PARAMS, 4) = (CUDA_MEM_ALLOC_NODE_PARAMS){
			.poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } },
			.bytesize = 64 };
		a[3] = 0;
	} else if (!strcmp(n, "cuGraphAddMemFreeNode")) {
		AT(CUgraphNode, 2) = allocation;
		a[4] = of_graph;
	} else if (!strcmp(n, "cuGraphAddBatchMemOpNode")) {
		AT(CUDA_BATCH_MEM_OP_NODE_PARAMS, 4) = batch;
		a[3] = 0;
	} else if (!strcmp(n, "cuGraphBatchMemOpNodeSetParams")) {
		a[0] = (uintptr_t)nodes[3];
		AT(CUDA_BATCH_MEM_OP_NODE_PARAMS, 1) = batch;
	} else if (!strcmp(n, "cuGraphKernelNodeSetParams_v2")) {
		a[0] = (uintptr_t)nodes[0];
		AT(CUDA_KERNEL_NODE_PARAMS, 1) = kernel;
	} else if (!strcmp(n, "cuGraphEventRecordNodeSetEvent") || !strcmp(n, "cuGraphEventWaitNodeSetEvent")) {
		a[0] = (uintptr_t)nodes[n[12] == 'R' ? 1 : 2];
	} else if (!strcmp(n, "cuMemPoolExportToShareableHandle")) {
		CU(cuMemPoolCreate((CUmemoryPool *)&a[1], &to_share));	/* what was exported before the worker knows */
		a[2] = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
		a[3] = 0;
	} else if (!strcmp(n, "cuMemPoolImportFromShareableHandle")) {
		a[1] = descriptor;
		a[2] = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
		a[3] = 0;
	} else if (!strcmp(n, "cuMemPoolImportPointer")) {
		a[1] = (uintptr_t)imported;
		AT(CUmemPoolPtrExportData, 2) = foreign.pointer;
	} else if (!strcmp(n, "cuTensorMapEncodeIm2col")) {
		a[2] = 3;
	} else if (!strcmp(n, "cuKernelSetAttribute")) {
		a[0] = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
		a[1] = 1024;
	} else if (!strncmp(n, "cuIpcOpenMemHandle", 18)) {
		memcpy(&a[1], &foreign.memory, sizeof(foreign.memory));	/* by value */
	} else if (!strcmp(n, "cuIpcCloseMemHandle")) {
		CU(cuIpcOpenMemHandle_v2((CUdeviceptr *)&a[0], foreign.memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	} else if (!strcmp(n, "cuIpcOpenEventHandle")) {
		memcpy(&a[1], &foreign.event, sizeof(foreign.event));
	} else if (!strcmp(n, "cuMemPoolExportPointer")) {
		a[1] = of_pool;
	} else if (!strcmp(n, "cuMemExportToShareableHandle")) {
		CU(cuMemCreate((CUmemGenericAllocationHandle *)&a[1], granule, &physical, 0));
		a[2] = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
		a[3] = 0;
	} else if (!strcmp(n, "cuGraphAddNode") || !strcmp(n, "cuGraphAddNode_v2")) {
		AT(CUgraphNodeParams, e->n - 1) = (CUgraphNodeParams){ .type = CU_GRAPH_NODE_TYPE_MEMSET,
			.memset = { .dst = memory, .elementSize = 4, .width = 1, .height = 1 } };
		a[e->n - 2] = 0;
	} else if (!strncmp(n, "cuGraphAddEvent", 15)) {
		a[3] = 0;
	} else if (!strcmp(n, "cuDevSmResourceSplitByCount")) {
		CU(cuDeviceGetDevResource(good.device, (CUdevResource *)buffers[2], CU_DEV_RESOURCE_TYPE_SM));
	} else if (!strcmp(n, "cuDevResourceGenerateDesc")) {
		CU(cuDeviceGetDevResource(good.device, (CUdevResource *)buffers[1], CU_DEV_RESOURCE_TYPE_SM));
	} else if (!strcmp(n, "cuMemUnmap") || !strcmp(n, "cuMemAddressFree")) {
		a[0] = n[5] == 'U' ? mapped : reserved;
		a[1] = granule;
	} else if (!strcmp(n, "cuMemRetainAllocationHandle")) {
		a[1] = mapped;
	} else if (!strcmp(n, "cuMemMap")) {
		a[0] = reserved;
		a[1] = granule;
		a[2] = a[4] = 0;
	} else if (!strcmp(n, "cuMemAllocPitch_v2")) {
		a[2] = a[3] = 64;
		a[4] = 4;
	}
}

static void make(CUdevice dev)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev } };

	CUDA_MEM_ALLOC_NODE_PARAMS alloc = {
		.poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = prop.location }, .bytesize = 64 };
	int fd;

	CU(cuDevicePrimaryCtxRetain(&context, dev));
	CU(cuCtxSetCurrent(context));
	CU(cuMemAlloc_v2(&memory, OBJECT_BYTES));
	objects_make(&good, dev);
	CU(cuMemGetAllocationGranularity(&granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CU(cuMemAddressReserve(&reserved, granule, 0, 0, 0));
	CU(cuMemAddressReserve(&mapped, granule, 0, 0, 0));
	CU(cuMemMap(mapped, granule, 0, (CUmemGenericAllocationHandle)(uintptr_t)good.of['V'], 0));
	op.writeValue = (__typeof__(op.writeValue)){ .operation = CU_STREAM_MEM_OP_WRITE_VALUE_32, .address = memory };
	batch = (CUDA_BATCH_MEM_OP_NODE_PARAMS){ .ctx = context, .count = 1, .paramArray = &op };
	kernel = (CUDA_KERNEL_NODE_PARAMS){ .func = (CUfunction)good.of['F'], .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1,
					    .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1 };
	CU(cuGraphAddKernelNode_v2(&nodes[0], (CUgraph)good.of['G'], NULL, 0, &kernel));
	CU(cuGraphAddEventRecordNode(&nodes[1], (CUgraph)good.of['G'], NULL, 0, (CUevent)good.of['E']));
	CU(cuGraphAddEventWaitNode(&nodes[2], (CUgraph)good.of['G'], NULL, 0, (CUevent)good.of['E']));
	CU(cuGraphAddBatchMemOpNode(&nodes[3], (CUgraph)good.of['G'], NULL, 0, &batch));
	CU(cuGraphAddMemAllocNode(&allocation, (CUgraph)good.of['G'], NULL, 0, &alloc));
	of_graph = alloc.dptr;
	if (!shared) {
		CU(cuMemPoolCreate(&shared, &to_share));
		CU(cuMemPoolExportToShareableHandle(&fd, shared, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
		close(fd);
		CU(cuMemAllocFromPoolAsync(&of_pool, 64, shared, NULL));
		CU(cuMemPoolImportFromShareableHandle(&imported, (void *)(intptr_t)descriptor,
						      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	}
	CU(cuFuncSetBlockShape((CUfunction)good.of['F'], 1, 1, 1));
}

/* --- telling -------------------------------------------------------------------------------------------------------- */

/* Is @t->error heard, if it is the driver's answer to @call? */
static bool heard(const struct told *t, const struct entry *e, unsigned int call)
{
	uint64_t a[MOST];
	char text[160];
	CUresult r = CUDA_SUCCESS, after;

	snprintf(text, sizeof(text), "%s, when the driver says %s", t->name, cu_name(t->error));
	now = text;
	alarm(60);
	for (unsigned int try = 0; try < 3 && r != t->error; try++) {
		complete(e, a, try);
		CU(cuCtxSetLimit(TOLD_LIMIT, TOLD_VALUE(call, t->error)));
		r = e->call(a);
		if (ends(e->name))
			CU(cuCtxSetCurrent(context));
		CU(cuCtxSetLimit(TOLD_LIMIT, 0));
		if (ends(e->name))
			make(good.device);
		after = works();
		if (after != CUDA_SUCCESS)
			bail("%s: %s, and then %s", text, cu_name(r), cu_name(after));
	}
	alarm(0);
	now = "nothing";
	return r == t->error;
}

static bool heard_somehow(const struct told *t, const struct entry *e)
{
	if (heard(t, e, t->call))
		return true;
	for (size_t i = 0; i < sizeof(vias) / sizeof(vias[0]); i++)
		if (!strncmp(t->name, vias[i].entry, strlen(vias[i].entry)) && heard(t, e, vias[i].call))
			return true;
	return false;
}

/* What the shim knows from then on, and what has no arguments. */
static void asked_once(CUdevice dev)
{
	CUcontext own, primary;
	CUmemoryPool pool;

	CU(cuCtxCreate_v2(&own, 0, dev));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		CU(cuCtxSetLimit(TOLD_LIMIT, TOLD_VALUE(all[i].call, all[i].error)));
		if (!strcmp(all[i].name, "cuDevicePrimaryCtxRetain"))
			GIVES(cuDevicePrimaryCtxRetain(&primary, dev), all[i].error, "the primary context");
		else if (!strcmp(all[i].name, "cuDeviceGetDefaultMemPool"))
			GIVES(cuDeviceGetDefaultMemPool(&pool, dev), all[i].error, "the device's pool");
		else if (!strcmp(all[i].name, "cuCtxResetPersistingL2Cache"))
			GIVES(cuCtxResetPersistingL2Cache(), all[i].error, "cache lines that stay");
		CU(cuCtxSetLimit(TOLD_LIMIT, 0));
	}
	CU(cuCtxDestroy_v2(own));
}

/* The other process: memory, an event and a pool, which are there until it is told. */
static void exporter(int sock)
{
	CUdeviceptr p;
	CUevent event;

	primary_context(NULL);
	CU(cuMemAlloc_v2(&p, OBJECT_BYTES));
	CU(cuIpcGetMemHandle(&foreign.memory, p));
	CU(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS));
	CU(cuIpcGetEventHandle(&foreign.event, event));
	CU(cuMemPoolCreate(&shared, &to_share));
	CU(cuMemPoolExportToShareableHandle(&descriptor, shared, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	CU(cuMemAllocFromPoolAsync(&p, 64, shared, NULL));
	CU(cuStreamSynchronize(NULL));
	CU(cuMemPoolExportPointer(&foreign.pointer, p));
	tell_fd(sock, descriptor, &foreign, sizeof(foreign));
	await(sock);
	step(sock);
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	unsigned int n = 0, asked = 0;
	CUdevice dev;
	int fd, peer;
	pid_t pid;

	peers_init();
	peer = peer_start(exporter, &pid);
	descriptor = hear_fd(peer, &foreign, sizeof(foreign));
	sweep_begin();
	fd = mkstemp(path);
	if (fd < 0 || write(fd, objects_ptx, sizeof(objects_ptx)) != sizeof(objects_ptx))
		bail("%s: cannot be written", path);
	close(fd);
	CU(cuInit(0));
	CU(cuDeviceGet(&dev, 0));
	asked_once(dev);
	make(dev);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct entry *e = find(all[i].name);

		if (!e || strstr(all[i].name, "Capture") || (only && strcmp(only, all[i].name)))
			continue;
		asked++;
		if (heard_somehow(&all[i], e))
			n++;
		else if (only)
			printf("# %s: not %s\n", all[i].name, cu_name(all[i].error));
	}
	unlink(path);
	step(peer);
	ok(peer_done(peer), "the other process has noticed nothing");
	ok(asked && n > asked / (only ? 4 : 2), "of %u errors of the driver's the program hears %u, and the session goes on", asked, n);
	return tap_done();
}
