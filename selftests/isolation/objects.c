// SPDX-License-Identifier: Apache-2.0
/* What can be done with a handle of each kind, and the objects that not every program has. */
#include <stddef.h>

#include "isolation.h"

#define CALL_HERE	{ .ctx = VGPU_PRIMARY_CTX(0), .thread = 1 }
#define PIECE		(2ull << 20)

static const char refs_ptx[] =
	".version 7.0\n.target sm_75\n.address_size 64\n"
	".global .texref tex;\n"
	".global .surfref surf;\n"
	".visible .entry none()\n{\n	ret;\n}\n";

/* For a linker, which may not take what is a texture. */
static const char link_ptx[] = ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry none()\n{\n	ret;\n}\n";

const struct kind_info kinds[KINDS] = {
	[STREAM] = { "stream", VGPU_H_STREAM },
	[EVENT] = { "event", VGPU_H_EVENT },
	[MODULE] = { "module", VGPU_H_MODULE },
	[LIBRARY] = { "library", VGPU_H_LIBRARY },
	[FUNCTION] = { "function", VGPU_H_FUNCTION },
	[KERNEL] = { "kernel", VGPU_H_KERNEL },
	[CTX] = { "ctx", VGPU_H_CTX },
	[POOL] = { "pool", VGPU_H_MEMPOOL },
	[ARRAY] = { "array", VGPU_H_ARRAY },
	[MIPMAP] = { "mipmap", VGPU_H_MIPMAP },
	[TEXREF] = { "texref", VGPU_H_TEXREF },
	[SURFREF] = { "surfref", VGPU_H_SURFREF },
	[TEXOBJ] = { "texobj", VGPU_H_TEXOBJ },
	[SURFOBJ] = { "surfobj", VGPU_H_SURFOBJ },
	[GRAPH] = { "graph", VGPU_H_GRAPH },
	[GRAPHNODE] = { "graphnode", VGPU_H_GRAPHNODE },
	[GRAPHEXEC] = { "graphexec", VGPU_H_GRAPHEXEC },
	[LINK] = { "link", VGPU_H_LINK },
	[PHYSICAL] = { "physical", VGPU_H_MEMALLOC },
	[RESDESC] = { "resdesc", VGPU_H_RESDESC },
	[GREENCTX] = { "greenctx", VGPU_H_GREENCTX },
	[USEROBJ] = { "userobj", VGPU_H_USEROBJ },
};

/* Every kind of use, and last those that end the object. */
const struct probe probes[] = {
	{ STREAM, VGPU_MSG_cuStreamQuery, false, 1, { H } },
	{ STREAM, VGPU_MSG_cuStreamSynchronize, false, 1, { H } },
	{ STREAM, VGPU_MSG_cuEventRecord, false, 2, { E, H } },
	{ STREAM, VGPU_MSG_cuStreamWaitEvent, false, 3, { H, E, 0 } },
	{ STREAM, VGPU_MSG_cuMemsetD8Async, false, 4, { M, 0x11, 16, H } },
	/* In this order: what the event stands for may be under way. */
	{ EVENT, VGPU_MSG_cuEventSynchronize, false, 1, { H } },
	{ EVENT, VGPU_MSG_cuEventQuery, false, 1, { H } },
	{ EVENT, VGPU_MSG_cuEventRecord, false, 2, { H, S } },
	{ EVENT, VGPU_MSG_cuStreamWaitEvent, false, 3, { S, H, 0 } },
	{ MODULE, VGPU_MSG_cuModuleGetFunctionCount, false, 1, { H } },
	{ LIBRARY, VGPU_MSG_cuLibraryGetKernelCount, false, 1, { H } },
	{ FUNCTION, VGPU_MSG_cuFuncSetCacheConfig, false, 2, { H, 0 } },
	{ KERNEL, VGPU_MSG_cuKernelSetCacheConfig, false, 3, { H, 0, 0 } },
	{ POOL, VGPU_MSG_cuMemPoolTrimTo, false, 2, { H, 0 } },
	{ POOL, VGPU_MSG_cuMemPoolGetAttribute, false, 2, { H, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD } },
	{ ARRAY, VGPU_MSG_cuArrayGetDescriptor_v2, false, 1, { H } },
	{ MIPMAP, VGPU_MSG_cuMipmappedArrayGetLevel, false, 3, { NEW_ARRAY, H, 0 } },
	{ TEXREF, VGPU_MSG_cuTexRefSetFlags, false, 2, { H, 0 } },
	{ TEXREF, VGPU_MSG_cuTexRefGetFlags, false, 1, { H } },
	{ SURFREF, VGPU_MSG_cuSurfRefGetArray, false, 1, { H } },
	{ GRAPH, VGPU_MSG_cuGraphClone, false, 2, { NEW_GRAPH, H } },
	{ GRAPHNODE, VGPU_MSG_cuGraphKernelNodeGetParams_v2, false, 2, { H, 0 } },
	{ GRAPHEXEC, VGPU_MSG_cuGraphUpload, false, 2, { H, S } },
	{ GRAPHEXEC, VGPU_MSG_cuGraphLaunch, false, 2, { H, S } },
	/* struct vgpu_link_add: no name, CU_JIT_INPUT_PTX */
	{ LINK, VGPU_MSG_cuLinkAddData_v2, false, 4, { H, TEXT, TEXT_SIZE, CU_JIT_INPUT_PTX } },
	/* struct vgpu_vmm */
	{ PHYSICAL, VGPU_MSG_cuMemMap, false, 6, { H, RESERVED, PIECE, 0, 0, 0 } },
	{ RESDESC, VGPU_MSG_cuGreenCtxCreate, false, 4, { NEW_GREENCTX, H, 0, CU_GREEN_CTX_DEFAULT_STREAM } },
	{ GREENCTX, VGPU_MSG_cuGreenCtxRecordEvent, false, 2, { H, E } },
	{ GREENCTX, VGPU_MSG_cuGreenCtxWaitEvent, false, 2, { H, E } },
	{ GREENCTX, VGPU_MSG_cuCtxFromGreenCtx, false, 2, { NEW_CTX, H } },
	{ USEROBJ, VGPU_MSG_cuUserObjectRetain, false, 2, { H, 1 } },
	{ STREAM, VGPU_MSG_cuStreamDestroy_v2, true, 1, { H } },
	{ EVENT, VGPU_MSG_cuEventDestroy_v2, true, 1, { H } },
	{ MODULE, VGPU_MSG_cuModuleUnload, true, 1, { H } },
	{ LIBRARY, VGPU_MSG_cuLibraryUnload, true, 1, { H } },
	{ CTX, VGPU_MSG_cuCtxDestroy_v2, true, 1, { H } },
	{ POOL, VGPU_MSG_cuMemPoolDestroy, true, 1, { H } },
	{ TEXREF, VGPU_MSG_cuTexRefDestroy, true, 1, { H } },
	{ TEXOBJ, VGPU_MSG_cuTexObjectDestroy, true, 1, { H } },
	{ SURFOBJ, VGPU_MSG_cuTexObjectDestroy, true, 1, { H } },
	{ ARRAY, VGPU_MSG_cuArrayDestroy, true, 1, { H } },
	{ MIPMAP, VGPU_MSG_cuMipmappedArrayDestroy, true, 1, { H } },
	{ GRAPHEXEC, VGPU_MSG_cuGraphExecDestroy, true, 1, { H } },
	{ GRAPHNODE, VGPU_MSG_cuGraphDestroyNode, true, 1, { H } },
	{ GRAPH, VGPU_MSG_cuGraphDestroy, true, 1, { H } },
	{ LINK, VGPU_MSG_cuLinkDestroy, true, 1, { H } },
	{ PHYSICAL, VGPU_MSG_cuMemRelease, true, 6, { H, 0, 0, 0, 0, 0 } },
	{ GREENCTX, VGPU_MSG_cuGreenCtxDestroy, true, 1, { H } },
	{ USEROBJ, VGPU_MSG_cuUserObjectRelease, true, 2, { H, 2 } },
};
const size_t nprobes = sizeof(probes) / sizeof(*probes);

static uint64_t word(const struct own *own, int64_t arg, uint64_t handle)
{
	static uint32_t fresh = 100000;	/* token.c begins at 1000 */

	switch (arg) {
	case H: return handle;
	case S: return own->handle[STREAM];
	case E: return own->handle[EVENT];
	case M: return own->memory;
	case RESERVED: return own->reserved;
	case TEXT: return own->text;
	case TEXT_SIZE: return own->text_size;
	case NEW_ARRAY: return VGPU_HANDLE(own->gen, VGPU_H_ARRAY, fresh++);
	case NEW_GRAPH: return VGPU_HANDLE(own->gen, VGPU_H_GRAPH, fresh++);
	case NEW_GREENCTX: return VGPU_HANDLE(own->gen, VGPU_H_GREENCTX, fresh++);
	case NEW_CTX: return VGPU_HANDLE(own->gen, VGPU_H_CTX, fresh++);
	default: return (uint64_t)arg;
	}
}

int probe_run(const struct own *own, const struct probe *p, uint64_t handle)
{
	uint64_t args[6];

	for (int i = 0; i < p->n; i++)
		args[i] = word(own, p->args[i], handle);
	return ask(p->type, VGPU_PRIMARY_CTX(0), NULL, 0, p->n, args);
}

static bool on_software(void)
{
	const struct vgpu_props_request q = { .call = CALL_HERE };
	struct vgpu_props_reply props;

	return !ask_payload(IDM_GPU_GET_PROPS, &q, sizeof(q), NULL, 0, &props, sizeof(props)) && props.ptx_only;
}

void probes_work(const struct own *own, bool ends)
{
	bool all = on_software();
	int n = 0;

	for (size_t i = 0; i < nprobes; i++) {
		const struct probe *p = &probes[i];

		if (p->ends != ends || !own->handle[p->kind])
			continue;
		switch (probe_run(own, p, own->handle[p->kind])) {
		case 0:
			n++;
			break;
		case 1:
			/* Another driver may not do it: a second green context of the same parts, say. */
			if (!all) {
				printf("# the driver refuses probe %zu (message %#x) of a %s\n", i, p->type, kinds[p->kind].name);
				break;
			}
			__attribute__((fallthrough));
		default:
			ok(false, "probe %zu (message %#x) works with one's own %s", i, p->type, kinds[p->kind].name);
		}
	}
	ok(n > (all ? 0 : 10), ends ? "one's own objects can be destroyed in %d ways" : "%d probes work with one's own handles", n);
}

/* --- objects -------------------------------------------------------------------------------------------------------- */

static void made(struct own *own, enum kind kind, int ret)
{
	if (ret < 0)
		bail("making a %s ends the session", kinds[kind].name);
	if (ret) {
		printf("# the driver makes no %s\n", kinds[kind].name);
		own->handle[kind] = 0;
	}
}

static void make_textures(struct own *own)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0), module = VGPU_HANDLE(own->gen, VGPU_H_MODULE, 400);
	const CUDA_ARRAY3D_DESCRIPTOR plane = { .Width = 16, .Height = 16, .Format = CU_AD_FORMAT_UNSIGNED_INT8, .NumChannels = 4,
						.Flags = CUDA_ARRAY3D_SURFACE_LDST };
	struct vgpu_rq_cuArray3DCreate_v2 array = { .call = CALL_HERE, .pHandle = own->handle[ARRAY], .pAllocateArray = plane };
	struct vgpu_rq_cuMipmappedArrayCreate mipmap = { .call = CALL_HERE, .pHandle = own->handle[MIPMAP],
							 .pMipmappedArrayDesc = plane, .numMipmapLevels = 2 };
	struct vgpu_tex_create tex = { .call = CALL_HERE, .handle = own->handle[TEXOBJ], .type = CU_RESOURCE_TYPE_ARRAY,
				       .at = own->handle[ARRAY] };
	struct vgpu_load load = { .call = CALL_HERE, .handle = module, .image = { VGPU_DATA_INLINE, sizeof(refs_ptx) } };
	struct vgpu_get_texref ref = { .call = CALL_HERE, .module = module, .handle = own->handle[SURFREF], .name_len = 4 };
	char text[(sizeof(refs_ptx) + 7) & ~7] = "";

	made(own, ARRAY, ask_payload(VGPU_MSG_cuArray3DCreate_v2, &array, sizeof(array), NULL, 0, NULL, 0));
	made(own, MIPMAP, ask_payload(VGPU_MSG_cuMipmappedArrayCreate, &mipmap, sizeof(mipmap), NULL, 0, NULL, 0));
	made(own, TEXOBJ, ask_payload(VGPU_MSG_cuTexObjectCreate, &tex, sizeof(tex), NULL, 0, NULL, 0));
	tex.handle = own->handle[SURFOBJ];
	made(own, SURFOBJ, ask_payload(VGPU_MSG_cuTexObjectCreate, &tex, sizeof(tex), NULL, 0, NULL, 0));
	made(own, TEXREF, ask(VGPU_MSG_cuTexRefCreate, ctx, NULL, 0, 1, &own->handle[TEXREF]));
	memcpy(text, refs_ptx, sizeof(refs_ptx));
	if (ask_payload(VGPU_MSG_cuModuleLoadData, &load, sizeof(load), text, sizeof(text), NULL, 0) ||
	    ask_payload(VGPU_MSG_cuModuleGetTexRef, &ref, sizeof(ref), "surf\0\0\0", 8, NULL, 0) ||
	    ask(VGPU_MSG_cuSurfRefSetArray, ctx, NULL, 0, 3, (uint64_t[]){ own->handle[SURFREF], own->handle[ARRAY], 0 }))
		made(own, SURFREF, 1);
}

static void make_graphs(struct own *own)
{
	const uint64_t ctx = VGPU_PRIMARY_CTX(0);
	struct vgpu_graph_node node = { .call = CALL_HERE, .graph = own->handle[GRAPH], .handle = own->handle[GRAPHNODE],
					.node.params = { CU_GRAPH_NODE_TYPE_EMPTY } };
	struct vgpu_graph_instantiate exec = { .call = CALL_HERE, .graph = own->handle[GRAPH], .exec = own->handle[GRAPHEXEC] };
	struct vgpu_user_object object = { .call = CALL_HERE, .handle = own->handle[USEROBJ], .id = VGPU_HOOK_ID | 1, .count = 1,
					   .flags = CU_USER_OBJECT_NO_DESTRUCTOR_SYNC };

	made(own, GRAPH, ask(VGPU_MSG_cuGraphCreate, ctx, NULL, 0, 2, (uint64_t[]){ own->handle[GRAPH], 0 }));
	made(own, GRAPHNODE, ask_payload(VGPU_MSG_cuGraphAddNode_v2, &node, sizeof(node), NULL, 0, NULL, 0));
	made(own, GRAPHEXEC, ask_payload(VGPU_MSG_cuGraphInstantiateWithParams, &exec, sizeof(exec), NULL, 0, NULL, 0));
	made(own, USEROBJ, ask_payload(VGPU_MSG_cuUserObjectCreate, &object, sizeof(object), NULL, 0, NULL, 0));
}

static void make_memory(struct own *own)
{
	struct vgpu_pool_create pool = { .call = CALL_HERE, .handle = own->handle[POOL] };
	struct vgpu_vmm reserve = { .call = CALL_HERE, .size = PIECE };
	struct vgpu_vmm create = { .call = CALL_HERE, .handle = own->handle[PHYSICAL], .size = PIECE };
	struct vgpu_vmm_reply at;

	made(own, POOL, ask_payload(VGPU_MSG_cuMemPoolCreate, &pool, sizeof(pool), NULL, 0, NULL, 0));
	made(own, PHYSICAL, ask_payload(VGPU_MSG_cuMemCreate, &create, sizeof(create), NULL, 0, NULL, 0));
	if (ask_payload(VGPU_MSG_cuMemAddressReserve, &reserve, sizeof(reserve), NULL, 0, &at, sizeof(at)))
		bail("cannot reserve address space");
	own->reserved = at.value;
}

static void make_link(struct own *own)
{
	struct vgpu_link_create link = { .call = CALL_HERE, .handle = own->handle[LINK] };
	char *text = idm_arena_alloc(client, sizeof(link_ptx));

	if (!text)
		bail("cannot allocate arena");
	memcpy(text, link_ptx, sizeof(link_ptx));
	own->text = (uint64_t)(text - (char *)idm_arena_base(client));
	own->text_size = sizeof(link_ptx);
	made(own, LINK, ask_payload(VGPU_MSG_cuLinkCreate_v2, &link, sizeof(link), NULL, 0, NULL, 0));
}

static void make_green(struct own *own)
{
	struct vgpu_resource_get get = { .call = CALL_HERE, .type = CU_DEV_RESOURCE_TYPE_SM };
	struct vgpu_resource_desc desc = { .call = CALL_HERE, .handle = own->handle[RESDESC], .n = 1 };
	struct vgpu_resource r;

	if (ask_payload(VGPU_MSG_cuDeviceGetDevResource, &get, sizeof(get), NULL, 0, &r, sizeof(r))) {
		made(own, RESDESC, 1);
		made(own, GREENCTX, 1);
		return;
	}
	desc.ids[0] = r.id;
	made(own, RESDESC, ask_payload(VGPU_MSG_cuDevResourceGenerateDesc, &desc, sizeof(desc), NULL, 0, NULL, 0));
	made(own, GREENCTX, ask(VGPU_MSG_cuGreenCtxCreate, VGPU_PRIMARY_CTX(0), NULL, 0, 4,
				(uint64_t[]){ own->handle[GREENCTX], own->handle[RESDESC], 0, CU_GREEN_CTX_DEFAULT_STREAM }));
}

void objects_create(struct own *own)
{
	make_memory(own);
	make_textures(own);
	make_graphs(own);
	make_link(own);
	make_green(own);
}
