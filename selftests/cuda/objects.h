/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One object of every kind that the driver API knows, by the letters of gen_sweep.py. For programs that see every form
 * of every call (__CUDA_API_VERSION_INTERNAL).
 */
#ifndef SELFTESTS_OBJECTS_H
#define SELFTESTS_OBJECTS_H

#include "driver.h"

#define KINDS		"CSEMFLKPAITUXYGHNJVROD"
#define OBJECT_BYTES	(1u << 21)	/* of the physical memory, at least; and of the device memory */

/* A kernel without parameters, so that a launch reads nothing of what it is given; and what modules have besides. */
static const char objects_ptx[] =
	".version 8.0\n.target sm_75\n.address_size 64\n"
	".global .texref picture;\n.global .surfref canvas;\n"
	".visible .global .align 8 .u64 variable;\n"
	".visible .entry nothing()\n{\n	ret;\n}\n";

struct objects {
	void *of[128];		/* by letter */
	CUmodule reference;	/* whose surface reference that is */
	CUdevice device;
};

static void CUDA_CB object_function(void *data)
{
	(void)data;
}

static inline CUarray objects_array(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_UNSIGNED_INT32, .NumChannels = 1,
				      .Flags = CUDA_ARRAY3D_SURFACE_LDST };
	CUarray a;

	CU(cuArray3DCreate_v2(&a, &d));
	return a;
}

/* A new object of @kind in the current context, with the help of what @o has already. */
static inline void *object_make(struct objects *o, char kind)
{
	CUDA_ARRAY3D_DESCRIPTOR mip = { .Width = 8, .Height = 8, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1 };
	CUDA_RESOURCE_DESC res = { .resType = CU_RESOURCE_TYPE_ARRAY, .res.array.hArray = (CUarray)o->of['A'] };
	CUmemPoolProps pool = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = o->device } };
	CUmemAllocationProp physical = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
					 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = o->device } };
	CUDA_TEXTURE_DESC texture = { .addressMode = { CU_TR_ADDRESS_MODE_CLAMP } };
	CUgraphNode empty;
	CUdevResource all;
	CUgraph graph;
	CUcontext ctx;
	void *p = NULL;

	switch (kind) {
	case 'C':
		CU(cuCtxCreate_v2((CUcontext *)&p, 0, o->device));
		CU(cuCtxPopCurrent_v2(&ctx));
		break;
	case 'S': CU(cuStreamCreate((CUstream *)&p, CU_STREAM_NON_BLOCKING)); break;
	case 'E': CU(cuEventCreate((CUevent *)&p, CU_EVENT_DISABLE_TIMING)); break;
	case 'M': CU(cuModuleLoadData((CUmodule *)&p, objects_ptx)); break;
	case 'F': CU(cuModuleGetFunction((CUfunction *)&p, (CUmodule)o->of['M'], "nothing")); break;
	case 'L': CU(cuLibraryLoadData((CUlibrary *)&p, objects_ptx, NULL, NULL, 0, NULL, NULL, 0)); break;
	case 'K': CU(cuLibraryGetKernel((CUkernel *)&p, (CUlibrary)o->of['L'], "nothing")); break;
	case 'P': CU(cuMemPoolCreate((CUmemoryPool *)&p, &pool)); break;
	case 'A': p = objects_array(); break;
	case 'I': CU(cuMipmappedArrayCreate((CUmipmappedArray *)&p, &mip, 2)); break;
	case 'T': CU(cuTexRefCreate((CUtexref *)&p)); break;
	case 'U': CU(cuModuleGetSurfRef((CUsurfref *)&p, (CUmodule)o->of['M'], "canvas")); break;
	case 'X': CU(cuTexObjectCreate((CUtexObject *)&p, &res, &texture, NULL)); break;
	case 'Y': CU(cuSurfObjectCreate((CUsurfObject *)&p, &res)); break;
	case 'G': CU(cuGraphCreate((CUgraph *)&p, 0)); break;
	case 'H':
		CU(cuGraphCreate(&graph, 0));
		CU(cuGraphAddEmptyNode(&empty, graph, NULL, 0));
		CU(cuGraphInstantiateWithFlags((CUgraphExec *)&p, graph, 0));
		CU(cuGraphDestroy(graph));
		break;
	case 'N': CU(cuGraphAddEmptyNode((CUgraphNode *)&p, (CUgraph)o->of['G'], NULL, 0)); break;
	case 'J': CU(cuLinkCreate_v2(0, NULL, NULL, (CUlinkState *)&p)); break;
	case 'V': CU(cuMemCreate((CUmemGenericAllocationHandle *)&p, OBJECT_BYTES, &physical, 0)); break;
	case 'R':
	case 'D':
		CU(cuDeviceGetDevResource(o->device, &all, CU_DEV_RESOURCE_TYPE_SM));
		CU(cuDevResourceGenerateDesc((CUdevResourceDesc *)&p, &all, 1));
		if (kind == 'R')
			CU(cuGreenCtxCreate((CUgreenCtx *)&p, (CUdevResourceDesc)p, o->device, CU_GREEN_CTX_DEFAULT_STREAM));
		break;
	case 'O':
		CU(cuUserObjectCreate((CUuserObject *)&p, NULL, object_function, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
		break;
	}
	return p;
}

/* End @p, an object of @kind. @return false: such an object has no end of its own */
static inline bool object_end(char kind, void *p)
{
	CUresult r = CUDA_SUCCESS;

	switch (kind) {
	case 'C': r = cuCtxDestroy_v2((CUcontext)p); break;
	case 'S': r = cuStreamDestroy_v2((CUstream)p); break;
	case 'E': r = cuEventDestroy_v2((CUevent)p); break;
	case 'M': r = cuModuleUnload((CUmodule)p); break;
	case 'L': r = cuLibraryUnload((CUlibrary)p); break;
	case 'P': r = cuMemPoolDestroy((CUmemoryPool)p); break;
	case 'A': r = cuArrayDestroy((CUarray)p); break;
	case 'I': r = cuMipmappedArrayDestroy((CUmipmappedArray)p); break;
	case 'T': r = cuTexRefDestroy((CUtexref)p); break;
	case 'X': r = cuTexObjectDestroy((CUtexObject)(uintptr_t)p); break;
	case 'Y': r = cuSurfObjectDestroy((CUsurfObject)(uintptr_t)p); break;
	case 'G': r = cuGraphDestroy((CUgraph)p); break;
	case 'H': r = cuGraphExecDestroy((CUgraphExec)p); break;
	case 'N': r = cuGraphDestroyNode((CUgraphNode)p); break;
	case 'J': r = cuLinkDestroy((CUlinkState)p); break;
	case 'V': r = cuMemRelease((CUmemGenericAllocationHandle)(uintptr_t)p); break;
	case 'R': r = cuGreenCtxDestroy((CUgreenCtx)p); break;
	case 'O': r = cuUserObjectRelease((CUuserObject)p, 1); break;
	default: return false;
	}
	if (r != CUDA_SUCCESS)
		bail("an object of kind %c does not end: %s", kind, cu_name(r));
	return true;
}

/* One of each. */
static inline void objects_make(struct objects *o, CUdevice device)
{
	o->device = device;
	for (const char *k = KINDS; *k; k++)
		o->of[(int)*k] = object_make(o, *k);
}

#endif /* SELFTESTS_OBJECTS_H */
