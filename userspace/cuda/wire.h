/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads of the messages that carry CUDA calls, shared by shim and worker.
 *
 * Every request's payload starts with struct vgpu_call. Structures for calls that the table (cuda.tbl) fully
 * describes are generated into cuda_wire.h; this file holds what is common, and the payloads of calls written by
 * hand. All fields are little-endian, explicitly padded, multiples of 8 bytes. Strings are length + bytes.
 */
#ifndef VGPU_CUDA_WIRE_H
#define VGPU_CUDA_WIRE_H

#include <stdint.h>

#include "idm.h"

/*
 * Handles: gen << 40 | type << 32 | index. The client chooses them (so that creating an object needs no round
 * trip), the worker enters them into the session's table; a lookup compares the whole value. `gen` is 24 random
 * bits. Index 0 is never used. CUstream's special values 0, 1 (legacy) and 2 (per thread) travel as they are.
 * The handle of device d's primary context is VGPU_PRIMARY_CTX(d) in every session.
 */
enum vgpu_handle_type {
	VGPU_H_NONE, VGPU_H_CTX, VGPU_H_STREAM, VGPU_H_EVENT, VGPU_H_MODULE, VGPU_H_FUNCTION, VGPU_H_LIBRARY,
	VGPU_H_KERNEL, VGPU_H_MEMPOOL, VGPU_H_ARRAY, VGPU_H_MIPMAP, VGPU_H_TEXREF, VGPU_H_TEXOBJ, VGPU_H_SURFOBJ,
	VGPU_H_GRAPH, VGPU_H_GRAPHEXEC, VGPU_H_GRAPHNODE, VGPU_H_LINK, VGPU_H_MEMALLOC, VGPU_H_GREENCTX,
	VGPU_H_USEROBJ, VGPU_H_SURFREF, VGPU_H_RESDESC, VGPU_H_TYPES
};
#define VGPU_HANDLE(gen, type, index)	((uint64_t)(gen) << 40 | (uint64_t)(type) << 32 | (uint32_t)(index))
#define VGPU_HANDLE_TYPE(h)		((unsigned int)((h) >> 32 & 0xff))
#define VGPU_HANDLE_INDEX(h)		((uint32_t)(h))
#define VGPU_HANDLE_GEN(h)		((uint32_t)((h) >> 40))
#define VGPU_HANDLES_MAX		(1u << 20)	/* per session; index below this */
#define VGPU_PRIMARY_CTX(dev)		VGPU_HANDLE(0, VGPU_H_CTX, (dev) + 1)

#define VGPU_DEVICES_MAX	16
#define VGPU_ATTRIBUTES_MAX	160	/* CU_DEVICE_ATTRIBUTE_* up to this are in the device snapshot */
#define VGPU_FUNC_ATTRIBUTES	16	/* CU_FUNC_ATTRIBUTE_* 0 .. 15 */
#define VGPU_PARAMS_MAX		1024	/* kernel parameters that a layout describes */
#define VGPU_PARAM_BYTES_MAX	32764	/* CUDA 12.1 and later */

/**
 * struct vgpu_call - starts every request.
 * @ctx:    the calling thread's current context (handle), 0 for none
 * @thread: small number of the client thread, from 1: per-thread default stream, latched errors
 */
struct vgpu_call {
	uint64_t ctx;
	uint32_t thread;
	uint32_t reserved;	/* 0, but for what single messages have it for */
};
/* In `reserved` of a copy through the arena, a load or a part of an image: nobody looks at the answer in time. */
#define VGPU_CALL_UNREAD	1u

/* Where bulk data is: in the message, behind the fixed part, or in the arena. */
#define VGPU_DATA_INLINE	UINT64_MAX	/* struct vgpu_data.offset */
#define VGPU_DATA_STORED	(UINT64_MAX - 4)	/* of an image: the broker has it, see digest */
#define VGPU_DATA_UPLOADED	(UINT64_MAX - 8)	/* of an image: it has come in parts, see struct vgpu_image_part */
struct vgpu_data {
	uint64_t offset;	/* arena offset or one of the above */
	uint64_t size;		/* bytes */
};

/* A float travels as its bits. */
static inline uint64_t float_bits(float f)
{
	union { float f; uint32_t u; } v = { f };

	return v.u;
}

static inline float float_of(uint64_t bits)
{
	union { uint32_t u; float f; } v = { (uint32_t)bits };

	return v.f;
}

/* IDM_HELLO (client.c/server.c of libidm answer it; no struct vgpu_call) */
struct vgpu_hello {
	uint64_t table_hash;
	uint64_t arena_base;	/* one of IDM_ARENA_SLOT(i) */
	uint32_t pid;
	uint32_t reserved;
	char program[64];	/* for logs; untrusted */
};

/* IDM_ARENA_GROWN */
struct vgpu_arena_grown {
	uint64_t arena_size;	/* total bytes now */
};

/* IDM_GPU_GET_INFO: struct vgpu_call alone -> */
struct vgpu_info_reply {
	int32_t driver_version;	/* cuDriverGetVersion of the library the worker loaded, at least 13000 */
	uint32_t devices;
	char driver[16];	/* version of the GPU's kernel driver, "" if unknown */
};

/*
 * @visible: from now on the session has these of its devices, in this order, and no others. Once, before anything is
 * made in any of them.
 */
struct vgpu_visible {
	struct vgpu_call call;
	uint32_t count;
	uint32_t device[VGPU_DEVICES_MAX];	/* numbers of before */
	uint32_t reserved;
};

/* @thread_new: struct vgpu_call alone. Its number was another thread's, which has ended. */

/* IDM_GPU_GET_PROPS: one device's snapshot */
struct vgpu_props_request {
	struct vgpu_call call;
	uint32_t device;
	uint32_t reserved;
};
struct vgpu_props_reply {
	char name[256];
	uint8_t uuid[16];
	uint64_t total_mem;	/* the quota, if there is one and it is smaller */
	char pci_bus_id[16];
	int32_t priority_low, priority_high;	/* cuCtxGetStreamPriorityRange */
	uint32_t nattributes;
	int32_t attributes[VGPU_ATTRIBUTES_MAX];	/* index = CUdevice_attribute */
	int32_t attribute_result[VGPU_ATTRIBUTES_MAX];	/* CUresult of each */
	uint32_t ptx_only;	/* it runs no machine code: the software GPU */
};

/* IDM_GPU_GET_ZONE: the device's memory and its sessions, as the broker counts them. Asked by the NVML shim. */
struct vgpu_zone_request {
	struct vgpu_call call;
	uint32_t first;		/* how many sessions to leave out */
	uint32_t reserved;
};
#define VGPU_ZONE_SESSIONS	24	/* in one reply */
struct vgpu_zone_reply {
	uint64_t limit;		/* bytes of device memory, 0: no quota */
	uint64_t used;		/* of it, by all sessions */
	uint32_t sessions;	/* there are; the asking one is not among them */
	uint32_t count;		/* in this reply */
	struct vgpu_zone_session {
		uint32_t pid;		/* as the client told it: in its own namespace, untrusted */
		uint32_t handles;	/* objects it has, contexts among them */
		uint64_t memory;	/* bytes of device memory it has */
	} session[VGPU_ZONE_SESSIONS];
};

/* When @event, last recorded in @stream, is complete, the GPU writes @ticket to @place, for the client's own eyes. */
struct vgpu_watch {
	struct vgpu_call call;
	uint64_t event, stream;
	uint64_t place;		/* arena offset of 8 bytes */
	uint64_t ticket;
};

/* IDM_GPU_COPY_H2D and the asynchronous one: cuMemcpyHtoD[Async]_v2. Inline data follows. */
struct vgpu_copy_h2d {
	struct vgpu_call call;
	uint64_t dst;
	uint64_t stream;
	struct vgpu_data src;
	uint32_t async;		/* 1: in `stream`'s order; the reply, if wanted, comes when the source may be reused */
	uint32_t reserved;
};

/* IDM_GPU_COPY_D2H and the asynchronous one. Destination inline: the bytes follow struct idm_response. */
struct vgpu_copy_d2h {
	struct vgpu_call call;
	uint64_t src;
	uint64_t stream;
	struct vgpu_data dst;
	uint32_t async;		/* 1: in `stream`'s order, arena only; the reply, if wanted, when the data is there */
	uint32_t reserved;
};

/*
 * cuMemcpy2D, cuMemcpy3D and their kin: a box of bytes, rows and slices. Host sides are arena offsets, with x, y and z
 * already in them, as for device addresses; arrays have them apart.
 */
struct vgpu_box_side {
	uint32_t type;			/* CUmemorytype; HOST means an arena offset */
	uint32_t reserved;
	uint64_t at;			/* device address, arena offset, or handle of an array */
	uint64_t pitch, rows;		/* bytes from row to row, rows from slice to slice */
	uint64_t x, y, z;		/* arrays: bytes, rows, slices */
};
struct vgpu_copy_box {
	struct vgpu_call call;
	uint64_t stream;
	uint32_t async;
	uint32_t unaligned;		/* cuMemcpy2DUnaligned */
	struct vgpu_box_side src, dst;
	uint64_t width, height, depth;	/* bytes, rows, slices */
};

/* cuTexObjectCreate, cuSurfObjectCreate: CUDA's descriptors, the array by its handle */
struct vgpu_tex_create {
	struct vgpu_call call;
	uint64_t handle;		/* chosen by the client: VGPU_H_TEXOBJ or VGPU_H_SURFOBJ */
	uint32_t type;			/* CUresourcetype */
	uint32_t has_view;
	uint64_t at;			/* array, mipmapped array or device address */
	uint32_t format, channels;
	uint64_t width, height, pitch;	/* linear memory: width in bytes, the others 0 */
	uint32_t address[3], filter, flags, anisotropy, mip_filter;
	uint32_t bias, min_level, max_level, border[4];	/* floats */
	uint32_t view_format, first_level, last_level, first_layer, last_layer, reserved;
	uint64_t view_width, view_height, view_depth;
};
struct vgpu_tex_reply {
	uint64_t name;			/* the driver's, which kernels get */
};
struct vgpu_tex_destroy {
	struct vgpu_call call;
	uint64_t handle;
};

/* cuModuleGetTexRef, cuModuleGetSurfRef: name follows. The reply names the reference, an earlier one if it was asked for. */
struct vgpu_get_texref {
	struct vgpu_call call;
	uint64_t module;
	uint64_t handle;		/* chosen by the client: VGPU_H_TEXREF or VGPU_H_SURFREF */
	uint32_t name_len;
	uint32_t reserved;
};
struct vgpu_texref_reply {
	uint64_t handle;
};

/* cuTensorMapEncode… and cuTensorMapReplaceAddress */
enum vgpu_tensor_kind { VGPU_TENSOR_TILED, VGPU_TENSOR_IM2COL, VGPU_TENSOR_IM2COL_WIDE, VGPU_TENSOR_ADDRESS };
struct vgpu_tensor_map {
	struct vgpu_call call;
	uint32_t kind, type, rank, interleave, swizzle, promotion, fill, mode;
	uint64_t address;
	uint64_t dim[5], stride[5];
	uint32_t box[6], step[6];	/* five each, padded */
	int32_t lower[4], upper[4];	/* three each, padded */
	uint32_t channels, pixels;
	uint64_t map[16];		/* VGPU_TENSOR_ADDRESS: the one to change */
};
struct vgpu_tensor_reply {
	uint64_t map[16];
};

/* Images: cuModuleLoadData*, cuLibraryLoadData. `handle` is chosen by the client. Inline image bytes follow. */
struct vgpu_load {
	struct vgpu_call call;
	uint64_t handle;	/* VGPU_H_MODULE or VGPU_H_LIBRARY: which of the two calls it is */
	struct vgpu_data image;	/* wrapper stripped: fatbin, ELF, or PTX text including its NUL */
	uint32_t log_size;	/* bytes of JIT error log wanted, at most 16 KiB */
	uint32_t max_registers, opt_level;	/* JIT options, 0: not given */
	uint32_t known;		/* so many guesses the client has heard of, see struct vgpu_image_news */
	uint64_t guess;		/* at what it is (digest_guess()); 0: it is not to be stored */
	uint8_t digest[32];	/* SHA-256 of an image that is stored; none such: CUDA_ERROR_FILE_NOT_FOUND */
};
/*
 * Guesses at images that the zone has sent, in the order in which the worker heard of them. What is not among them is
 * sent; what is gets a digest, since a guess proves nothing.
 */
#define VGPU_IMAGE_NEWS		60
struct vgpu_image_news {
	uint32_t heard;		/* with these the client has heard of so many */
	uint32_t count;
	uint64_t guess[VGPU_IMAGE_NEWS];
};
/* reply: struct vgpu_load_reply, then error_len bytes of error log, then info_len of info log */
struct vgpu_load_reply {
	uint32_t error_len, info_len;
	struct vgpu_image_news news;
};

/* What has the zone sent? Answered with struct vgpu_image_news; later news come with the answers to loads. */
struct vgpu_image_known {
	struct vgpu_call call;
	uint32_t known, reserved;
};

/* Images of this size and more come in parts, in order, each through a chunk of arena, and are stored. */
#define VGPU_STORED_LEAST	(64u << 10)
#define VGPU_UPLOADS		64u	/* under way at once in a session; the oldest is forgotten for one more */
struct vgpu_image_part {
	struct vgpu_call call;
	uint64_t handle;	/* of the load that will follow */
	uint64_t size, at;	/* of the image; where this part belongs. 0 begins anew */
	struct vgpu_data data;	/* arena */
};

/* cuLinkCreate */
struct vgpu_link_create {
	struct vgpu_call call;
	uint64_t handle;	/* chosen by the client */
	uint32_t log_size;	/* bytes of each log wanted, at most 16 KiB */
	uint32_t max_registers, opt_level, reserved;
};

/* cuLinkAddData, and cuLinkAddFile after the client has read the file. Name follows. */
struct vgpu_link_add {
	struct vgpu_call call;
	uint64_t link;
	struct vgpu_data data;	/* arena */
	uint32_t type;		/* CUjitInputType */
	uint32_t name_len;
};

/* cuLinkComplete: again for the image itself, once its size is known. @image: arena memory, or size 0 */
struct vgpu_link_complete {
	struct vgpu_call call;
	uint64_t link;
	struct vgpu_data image;
};
/* reply of the two above: then error_len bytes of error log, info_len of info log */
struct vgpu_link_reply {
	uint64_t size;		/* of the image, once complete */
	uint32_t error_len, info_len;
};

/* cuMemAddressReserve and all its kin. Each uses what it needs; the others are 0. */
struct vgpu_vmm {
	struct vgpu_call call;
	uint64_t handle;	/* of physical memory; chosen by the client */
	uint64_t address, size;
	uint64_t offset;	/* into the physical memory; alignment of a reservation */
	uint64_t flags;		/* CUmemAccess_flags, CUmemAllocationGranularity_flags, VGPU_VMM_… */
	uint32_t device;	/* where the memory is, or who may access it */
	uint32_t handle_types;	/* CUmemAllocationHandleType by which it may be exported */
};
/*
 * Host memory is arena memory, and the client's to allocate. cuMemMap: @offset is the arena's, and there is no @handle.
 * cuMemUnmap, answered: CUDA_ERROR_NOT_READY if something is under way that may use it, then the client asks again. With …_WAIT
 * it is tried all the same, and stays that answer until it has been done.
 */
#define VGPU_VMM_HOST		(1ull << 32)
#define VGPU_VMM_HOST_WAIT	(1ull << 33)
struct vgpu_vmm_reply {
	uint64_t value;		/* address or granularity */
};

/* cuMemPoolCreate */
struct vgpu_pool_create {
	struct vgpu_call call;
	uint64_t handle;	/* chosen by the client */
	uint64_t max_size;
	uint32_t device;
	uint32_t handle_types;	/* as in struct vgpu_vmm */
};

/*
 * What processes of one zone share. What a program has for a CUipcMemHandle, CUipcEventHandle or CUmemPoolPtrExportData, and
 * in the memfd that stands for a descriptor, is a token: 64 bytes of which 32 are random. The broker alone knows what for.
 *
 * cuIpcOpenMemHandle, cuIpcOpenEventHandle, cuMem…FromShareableHandle, cuMemPoolImportPointer; without @token
 * cuMem…ToShareableHandle
 */
#define VGPU_IPC_BYTES	64
struct vgpu_ipc {
	struct vgpu_call call;
	uint64_t handle;	/* of the new object, chosen by the client; or what is exported, or the pool of a pointer */
	uint64_t flags;		/* as the call has them; of an export, the device */
	uint8_t token[VGPU_IPC_BYTES];
};
struct vgpu_ipc_memory_reply {
	uint64_t address, size;	/* 0 where there is none */
	uint32_t device;	/* whose memory or pool it is */
	uint32_t reserved;
};
struct vgpu_ipc_token_reply {
	uint8_t token[VGPU_IPC_BYTES];
};

/*
 * Graphs. What the program holds as CUgraph, CUgraphNode and so on is a handle as ever; nodes that the program has not made
 * itself (captured ones, clones') get theirs when it first asks for them, from handles that the question brings along.
 *
 * struct vgpu_node - a node's parameters: CUgraphNodeParams, in which handles stand for objects and device or arena
 * addresses for memory. @more bytes follow: a kernel's packed parameters, CUstreamBatchMemOpParams[], CUmemAccessDesc[].
 * HOST: fn is the number of the client's function, userData the arena offset of its word (struct vgpu_host_func).
 */
struct vgpu_node {
	uint64_t params[32];	/* CUgraphNodeParams */
	uint32_t more;
	uint32_t hook;		/* HOST: enum vgpu_hook. MEMCPY, changed: of struct vgpu_node_half, which follows; 0: nothing does */
	uint64_t id;		/* MEM_ALLOC: number of the client's record of the memory */
};

/*
 * Functions of the client's that graphs hold. They are called any number of times, with the word at their arena offset
 * counting how often they have returned, until VGPU_TOLD_GONE says that no graph holds them any more. A copy of pageable
 * memory is two nodes, of which one is hidden: the function that fills, or empties, the arena buffer of the other.
 */
#define VGPU_HOOK_ID	(1ull << 63)	/* in the numbers of callbacks */
enum vgpu_hook { VGPU_HOOK_PLAIN, VGPU_HOOK_BEFORE, VGPU_HOOK_AFTER };

/* The function and its word of a copy's other half. */
struct vgpu_node_half {
	uint64_t id, ack;
};

/* cuGraphAddNode_v2 and all its kin: then ndeps handles of nodes, ndeps CUgraphEdgeData, nbodies handles, node.more */
struct vgpu_graph_node {
	struct vgpu_call call;
	uint64_t graph;
	uint64_t handle;	/* of the new node, chosen by the client */
	uint32_t ndeps;
	uint32_t nbodies;	/* CONDITIONAL: handles for its graphs */
	struct vgpu_node node;
};
struct vgpu_graph_node_reply {
	uint64_t address;	/* MEM_ALLOC */
};
#define VGPU_GRAPH_BODIES_MAX	1024

/* cuGraphNodeSetParams (@exec 0), cuGraphExecNodeSetParams: then node.more */
struct vgpu_graph_set {
	struct vgpu_call call;
	uint64_t exec;
	uint64_t handle;
	struct vgpu_node node;
};

/* The parameters of a node. @fresh: for the graph of a child graph node, if it has no handle yet. -> struct vgpu_node */
struct vgpu_graph_get {
	struct vgpu_call call;
	uint64_t handle;
	uint64_t fresh;
};

/*
 * Lists of nodes: part of the answer, from number @first on, at most @room entries. @room handles follow, for nodes that
 * have none yet; those that stay unused are the client's to use again.
 */
enum vgpu_graph_list {
	VGPU_LIST_NODES, VGPU_LIST_ROOTS, VGPU_LIST_EDGES,	/* of graph @handle */
	VGPU_LIST_BEFORE, VGPU_LIST_AFTER,			/* of node @handle */
	VGPU_LIST_IN_CLONE,					/* of graph @handle: the copy of @node */
};
struct vgpu_graph_list_request {
	struct vgpu_call call;
	uint64_t handle;
	uint64_t node;
	uint64_t first;
	uint32_t what;
	uint32_t room;
};
struct vgpu_graph_entry {
	uint64_t node;		/* EDGES: where it begins */
	uint64_t to;		/* EDGES: where it ends */
	uint8_t edge[8];	/* CUgraphEdgeData */
	uint32_t type;		/* CUgraphNodeType of @node */
	uint32_t to_type;
};
struct vgpu_graph_list_reply {
	uint64_t total;
	struct vgpu_graph_entry entries[];
};
#define VGPU_GRAPH_ROOM_MAX	512

/* cuGraphAddDependencies, cuGraphRemoveDependencies: then n handles, n handles, n CUgraphEdgeData */
struct vgpu_graph_edges {
	struct vgpu_call call;
	uint64_t graph;
	uint32_t n;
	uint32_t remove;
};

/* cuGraphInstantiateWithParams. @fresh: for the node that is to blame. The answer comes whether it worked or not. */
struct vgpu_graph_instantiate {
	struct vgpu_call call;
	uint64_t graph;
	uint64_t exec;		/* chosen by the client */
	uint64_t flags;
	uint64_t stream;
	uint64_t fresh;
};
struct vgpu_graph_instantiate_reply {
	uint64_t node;		/* to blame, 0: none */
	uint32_t result;	/* CUgraphInstantiateResult */
	uint32_t type;
	uint64_t memory;	/* it allocates memory: whether a launch can, only its answer tells */
};

/* cuGraphExecUpdate; also answered in both cases */
struct vgpu_graph_update {
	struct vgpu_call call;
	uint64_t exec, graph;
	uint64_t fresh[2];
};
struct vgpu_graph_update_reply {
	uint64_t node, from;	/* to blame, 0: none */
	uint32_t result;	/* CUgraphExecUpdateResult */
	uint32_t type, from_type;
	uint32_t reserved;
};

/* cuStreamBeginCaptureToGraph: then ndeps handles, ndeps CUgraphEdgeData */
struct vgpu_capture_begin {
	struct vgpu_call call;
	uint64_t stream;
	uint64_t graph;
	uint32_t ndeps;
	uint32_t reserved;
};

/* cuStreamEndCapture. @fresh: for the graph, if it has no handle yet */
struct vgpu_capture_end {
	struct vgpu_call call;
	uint64_t stream;
	uint64_t fresh;
};
struct vgpu_capture_end_reply {
	uint64_t graph;		/* 0: the capture had been to no avail */
};

/* cuStreamGetCaptureInfo with its graph and dependencies: then @room handles, as for lists */
struct vgpu_capture_info {
	struct vgpu_call call;
	uint64_t stream;
	uint64_t fresh;		/* for the graph */
	uint32_t room;
	uint32_t reserved;
};
struct vgpu_capture_info_reply {
	uint64_t id;
	uint64_t graph;		/* 0: not active */
	uint64_t total;		/* dependencies; min(total, room) entries follow */
	uint32_t status;
	uint32_t reserved;
	struct vgpu_graph_entry entries[];
};

/* cuStreamUpdateCaptureDependencies: then n handles, n CUgraphEdgeData */
struct vgpu_capture_update {
	struct vgpu_call call;
	uint64_t stream;
	uint32_t n;
	uint32_t flags;
};

/* cuUserObjectCreate. @id: the client's function, called once, with VGPU_TOLD_GONE */
struct vgpu_user_object {
	struct vgpu_call call;
	uint64_t handle;
	uint64_t id;
	uint32_t count;
	uint32_t flags;
};

/* cuStreamBatchMemOp: count CUstreamBatchMemOpParams (48 bytes each) follow */
struct vgpu_batch {
	struct vgpu_call call;
	uint64_t stream;
	uint32_t count;
	uint32_t flags;
};
#define VGPU_BATCH_MAX	256

/*
 * Parts of a device (CUdevResource) hold what only the driver knows: it stays in the worker, under a number, and the
 * client has what programs may read of it.
 */
struct vgpu_resource {
	uint64_t id;
	uint32_t type;		/* CUdevResourceType */
	uint32_t sm_count, sm_min, sm_alignment;
};
/* cuDeviceGetDevResource (@handle 0), cuCtxGetDevResource, cuGreenCtxGetDevResource -> struct vgpu_resource */
struct vgpu_resource_get {
	struct vgpu_call call;
	uint64_t handle;
	uint32_t device;
	uint32_t type;
};
/* cuDevSmResourceSplitByCount. @groups 0: how many could there be? */
#define VGPU_RESOURCE_GROUPS	64
struct vgpu_resource_split {
	struct vgpu_call call;
	uint64_t id;
	uint32_t groups;
	uint32_t flags;
	uint32_t minimum;
	uint32_t reserved;
};
struct vgpu_resource_split_reply {
	uint64_t groups;
	struct vgpu_resource remaining;
	struct vgpu_resource group[VGPU_RESOURCE_GROUPS];
};
/* cuDevResourceGenerateDesc */
struct vgpu_resource_desc {
	struct vgpu_call call;
	uint64_t handle;	/* chosen by the client */
	uint64_t n;
	uint64_t ids[VGPU_RESOURCE_GROUPS];
};

/* cuDeviceGetHostAtomicCapabilities (@peer VGPU_ATOMICS_HOST), cuDeviceGetP2PAtomicCapabilities: uint32_t operations[] */
#define VGPU_ATOMICS_HOST	UINT32_MAX
#define VGPU_ATOMICS_MAX	64
struct vgpu_atomics {
	struct vgpu_call call;
	uint32_t device, peer;
	uint32_t count;
	uint32_t reserved;
	uint32_t operations[VGPU_ATOMICS_MAX];
};
struct vgpu_atomics_reply {
	uint32_t capabilities[VGPU_ATOMICS_MAX];
};

/* cuModuleGetFunction, cuLibraryGetKernel, cuKernelGetFunction: one reply tells all there is to know. Name follows. */
struct vgpu_get_kernel {
	struct vgpu_call call;
	uint64_t parent;	/* module, library or kernel */
	uint64_t handle;	/* chosen by the client: function or kernel */
	uint32_t name_len;	/* bytes behind this, no NUL; 0 for cuKernelGetFunction */
	uint32_t reserved;
};
struct vgpu_kernel_reply {
	int32_t attributes[VGPU_FUNC_ATTRIBUTES];
	uint32_t nparams;
	uint32_t param_bytes;		/* end of the last one */
	/* nparams times: */
	struct { uint32_t offset, size; } params[];
};

/* cuModuleEnumerateFunctions, cuLibraryEnumerateKernels: the names from number @first on, as many as fit into @room */
struct vgpu_enumerate {
	struct vgpu_call call;
	uint64_t parent;	/* module or library */
	uint32_t first;
	uint32_t room;		/* bytes of the reply */
};
/* reply: then @bytes of @names names, each with its NUL */
struct vgpu_enumerate_reply {
	uint32_t names, bytes;
};
#define VGPU_ENUMERATE_MAX	16384	/* bytes of one reply */

/* IDM_GPU_LAUNCH_KERNEL: every kind of launch. nattrs CUlaunchAttribute (72 bytes each), then param_bytes follow. */
struct vgpu_launch {
	struct vgpu_call call;
	uint64_t function;	/* VGPU_H_FUNCTION or VGPU_H_KERNEL */
	uint64_t stream;
	uint32_t grid[3];
	uint32_t block[3];
	uint32_t shared;	/* dynamic shared memory, bytes */
	uint32_t cooperative;
	uint32_t nattrs;
	uint32_t param_bytes;
};
#define VGPU_LAUNCH_ATTRS_MAX	16

/*
 * cuLaunchHostFunc, cuStreamAddCallback. The worker sends IDM_CALLBACK with number @id and struct vgpu_callback when the
 * function's turn has come, and the stream goes on once the 32-bit word at @ack, counting up, has reached @ticket.
 * It is no message, since the thread that takes messages may itself be waiting for that stream.
 */
enum vgpu_host_kind {
	VGPU_HOST_ONCE,		/* cuLaunchHostFunc */
	VGPU_HOST_ALWAYS,	/* cuStreamAddCallback: called after errors too */
	VGPU_HOST_CAPTURED,	/* in a stream that captures: @id is a hook's, @ticket its enum vgpu_hook */
};
struct vgpu_host_func {
	struct vgpu_call call;
	uint64_t stream;
	uint64_t id;
	uint64_t ack;		/* arena offset */
	uint32_t ticket;
	uint32_t always;	/* enum vgpu_host_kind */
};
struct vgpu_callback {
	int32_t result;		/* CUresult of the stream */
	uint32_t what;
};
/* STAYS: no graph has the memory any more, but it is there until it is freed. */
enum vgpu_told { VGPU_TOLD_RUN, VGPU_TOLD_GONE, VGPU_TOLD_STAYS };

/* cuOccupancyMaxPotentialClusterSize, cuOccupancyMaxActiveClusters: struct vgpu_launch and its attributes, no params */
struct vgpu_clusters_reply {
	int32_t value;
	uint32_t reserved;
};

/* cuLibraryGetManaged: name follows. @contents: arena memory for as much of its present value as it holds, or size 0 */
struct vgpu_get_managed {
	struct vgpu_call call;
	uint64_t parent;
	struct vgpu_data contents;
	uint32_t name_len;
	uint32_t reserved;
};

/* cuModuleGetGlobal, cuLibraryGetGlobal: name follows */
struct vgpu_get_global {
	struct vgpu_call call;
	uint64_t parent;
	uint32_t name_len;
	uint32_t reserved;
};
struct vgpu_global_reply {
	uint64_t address;
	uint64_t size;
};

_Static_assert(sizeof(struct vgpu_call) == 16, "vgpu_call");
_Static_assert(sizeof(struct vgpu_zone_reply) == 24 + 16 * VGPU_ZONE_SESSIONS, "vgpu_zone_reply");
_Static_assert(sizeof(struct vgpu_launch) == 72, "vgpu_launch");
_Static_assert(sizeof(struct vgpu_graph_node) % 8 == 0, "vgpu_graph_node");
_Static_assert(sizeof(struct vgpu_props_reply) % 8 == 0, "vgpu_props_reply");

#endif /* VGPU_CUDA_WIRE_H */
