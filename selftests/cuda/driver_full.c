// SPDX-License-Identifier: Apache-2.0
/*
 * A session that has as many objects as it may have: what would make one more says CUDA_ERROR_OUT_OF_MEMORY and leaves
 * nothing behind, all else works, and so does everything once some have gone.
 *
 * Not for NVIDIA's own library, which has more room.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <fcntl.h>

#include "objects.h"

#define MOST	(1u << 20)	/* VGPU_HANDLES_MAX */

static CUevent events[MOST];
static unsigned int nevents;

static void fill(void)
{
	CUresult r = CUDA_SUCCESS;

	while (nevents < MOST) {
		r = cuEventCreate(&events[nevents], CU_EVENT_DISABLE_TIMING);
		if (r != CUDA_SUCCESS)
			break;
		nevents++;
	}
	ok(r == CUDA_ERROR_OUT_OF_MEMORY, "cuEventCreate: %s after %u events", cu_name(r), nevents);
}

/* What says where the object went, and must not have been touched. */
#define FULL(call, out) do {									\
	memset(&(out), 0, sizeof(out));								\
	GIVES(call, CUDA_ERROR_OUT_OF_MEMORY, #call);						\
	ok(!(out), "and there is no object");							\
} while (0)

static const char *image_file(void)
{
	static char path[] = "/tmp/driver_full.XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, objects_ptx, sizeof(objects_ptx)) != sizeof(objects_ptx))
		bail("%s: cannot be written", path);
	close(fd);
	return path;
}

static void one_more(struct objects *o)
{
	CUDA_ARRAY_DESCRIPTOR flat = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	CUDA_ARRAY3D_DESCRIPTOR deep = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	CUmemPoolProps pool = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUmemAllocationProp physical = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
					 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = (CUarray)o->of['A'] };
	CUDA_TEXTURE_DESC texture = { .addressMode = { CU_TR_ADDRESS_MODE_CLAMP } };
	const char *file = image_file();
	CUmemGenericAllocationHandle v;
	CUgraphExec exec;
	CUstream stream;
	CUmodule module;
	CUlibrary library;
	CUlinkState link;
	CUmipmappedArray mip;
	CUarray array;
	CUgreenCtx green;
	CUmemoryPool p;
	CUuserObject user;
	CUtexObject tex;
	CUsurfObject surf;
	CUtexref ref;
	CUcontext ctx;
	CUgraphNode node;
	CUgraph graph;

	FULL(cuCtxCreate_v2(&ctx, 0, o->device), ctx);
	FULL(cuGreenCtxCreate(&green, (CUdevResourceDesc)o->of['D'], o->device, CU_GREEN_CTX_DEFAULT_STREAM), green);
	FULL(cuGreenCtxStreamCreate(&stream, (CUgreenCtx)o->of['R'], CU_STREAM_NON_BLOCKING, 0), stream);
	FULL(cuStreamCreate(&stream, 0), stream);
	FULL(cuStreamCreateWithPriority(&stream, 0, 0), stream);
	FULL(cuModuleLoad(&module, file), module);
	FULL(cuModuleLoadData(&module, objects_ptx), module);
	FULL(cuModuleLoadDataEx(&module, objects_ptx, 0, NULL, NULL), module);
	FULL(cuModuleLoadFatBinary(&module, objects_ptx), module);
	FULL(cuLibraryLoadData(&library, objects_ptx, NULL, NULL, 0, NULL, NULL, 0), library);
	FULL(cuLibraryLoadFromFile(&library, file, NULL, NULL, 0, NULL, NULL, 0), library);
	FULL(cuLinkCreate_v2(0, NULL, NULL, &link), link);
	FULL(cuArrayCreate_v2(&array, &flat), array);
	FULL(cuArray3DCreate_v2(&array, &deep), array);
	FULL(cuMipmappedArrayCreate(&mip, &deep, 2), mip);
	FULL(cuMemPoolCreate(&p, &pool), p);
	FULL(cuMemCreate(&v, OBJECT_BYTES, &physical, 0), v);
	FULL(cuTexRefCreate(&ref), ref);
	FULL(cuTexObjectCreate(&tex, &res, &texture, NULL), tex);
	FULL(cuSurfObjectCreate(&surf, &res), surf);
	FULL(cuUserObjectCreate(&user, NULL, object_function, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC), user);
	FULL(cuGraphCreate(&graph, 0), graph);
	FULL(cuGraphClone(&graph, (CUgraph)o->of['G']), graph);
	FULL(cuGraphAddEmptyNode(&node, (CUgraph)o->of['G'], NULL, 0), node);
	FULL(cuGraphInstantiateWithFlags(&exec, (CUgraph)o->of['G'], 0), exec);
	unlink(file);
}

static void works(CUdeviceptr memory)
{
	unsigned int back = 0;

	CU(cuMemsetD32_v2(memory, 7, 1));
	CU(cuMemcpyDtoH_v2(&back, memory, sizeof(back)));
	ok(back == 7, "memory is filled and read");
}

int main(void)
{
	struct objects few = { 0 }, again = { 0 };
	CUcontext context, current;
	CUdeviceptr memory;
	CUdevice dev;

	context = primary_context(&dev);
	CU(cuMemAlloc_v2(&memory, OBJECT_BYTES));
	objects_make(&few, dev);
	fill();
	one_more(&few);
	works(memory);
	CU(cuCtxGetCurrent(&current));
	ok(current == context, "the context that is current is as before");
	for (unsigned int i = 0; i < 1000; i++)
		CU(cuEventDestroy_v2(events[--nevents]));
	objects_make(&again, dev);
	ok(true, "some have gone, and one of every kind is made");
	works(memory);
	return tap_done();
}
