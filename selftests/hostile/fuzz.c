// SPDX-License-Identifier: Apache-2.0
/*
 * Chance. Well-formed headers around payloads that are nearly right: every message type, fields with interesting
 * values. A session may end of it, also by its worker's death; others may not.
 */
#include <stdlib.h>
#include <unistd.h>

#include "hostile.h"

#define MESSAGES 200

static uint64_t interesting(struct raw *r, uint64_t memory)
{
	switch (rand() % 13) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return UINT64_MAX >> rand() % 64;
	case 3:
		return 1ull << rand() % 64;
	case 4:
		return VGPU_HANDLE(1, 1 + rand() % 8, rand() % MESSAGES);
	case 5:
		return VGPU_DATA_INLINE;
	case 6:
		return neighbour_memory() + rand() % 65536;
	case 7:
		return VGPU_PRIMARY_CTX(rand() % 3);
	case 8:
	case 9:
	case 10:
		return memory + rand() % 8192;
	default:
		return rand() % 4096;
	}
}

#define S(name) { VGPU_MSG_##name, sizeof(struct vgpu_rq_##name) }
#define T(name, type) { VGPU_MSG_##name, sizeof(struct type) }

static const struct shape {
	uint16_t type;
	uint16_t len;
} shapes[] = {
	S(cuDevicePrimaryCtxRetain), S(cuDevicePrimaryCtxRelease_v2), S(cuDevicePrimaryCtxReset_v2), S(cuCtxCreate_v2),
	S(cuCtxDestroy_v2), S(cuCtxSynchronize), S(cuCtxSetLimit), S(cuCtxGetLimit), S(cuModuleUnload),
	S(cuModuleGetFunctionCount), S(cuLibraryUnload), S(cuLibraryGetKernelCount), S(cuLibraryGetModule),
	S(cuKernelSetAttribute), S(cuMemGetInfo_v2), S(cuMemAlloc_v2), S(cuMemAllocPitch_v2), S(cuMemFree_v2),
	S(cuMemcpyDtoD_v2), S(cuMemcpyDtoDAsync_v2), S(cuMemsetD8_v2), S(cuMemsetD32_v2), S(cuMemsetD2D8_v2),
	S(cuMemsetD2D32_v2), S(cuMemsetD8Async), S(cuMemsetD16Async), S(cuMemsetD2D16Async), S(cuMemFreeAsync),
	S(cuMemAllocAsync), S(cuStreamCreate), S(cuStreamCreateWithPriority), S(cuStreamWaitEvent), S(cuStreamQuery),
	S(cuStreamSynchronize), S(cuStreamDestroy_v2), S(cuStreamCopyAttributes), S(cuStreamGetAttribute),
	S(cuStreamSetAttribute), S(cuStreamWriteValue32_v2), S(cuEventCreate), S(cuEventRecord),
	S(cuEventRecordWithFlags), S(cuEventQuery), S(cuEventSynchronize), S(cuEventDestroy_v2), S(cuEventElapsedTime),
	S(cuFuncSetAttribute), S(cuFuncSetCacheConfig), S(cuDeviceCanAccessPeer), S(cuCtxEnablePeerAccess),
	S(cuDeviceGetP2PAttribute), S(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags),
	S(cuArrayCreate_v2), S(cuArray3DCreate_v2), S(cuArray3DGetDescriptor_v2), S(cuArrayDestroy), S(cuMipmappedArrayCreate),
	S(cuMipmappedArrayGetLevel), S(cuTexRefSetArray), S(cuTexRefSetAddress_v2), S(cuTexRefSetAddress2D_v3),
	T(cuMemcpyHtoD_v2, vgpu_copy_h2d), T(cuMemcpyDtoH_v2, vgpu_copy_d2h), T(cuMemcpy2D_v2, vgpu_copy_box),
	T(cuTexObjectCreate, vgpu_tex_create),
	T(cuTexObjectDestroy, vgpu_tex_destroy), T(cuModuleGetTexRef, vgpu_get_texref), T(cuTensorMapEncodeTiled, vgpu_tensor_map),
	T(cuModuleLoadData, vgpu_load), T(cuModuleGetFunction, vgpu_get_kernel), T(cuModuleGetGlobal_v2, vgpu_get_global),
	T(cuLibraryGetManaged, vgpu_get_global), T(cuLaunchKernel, vgpu_launch),
	S(cuIpcGetMemHandle), S(cuIpcCloseMemHandle), S(cuIpcGetEventHandle), S(cuMemPoolExportPointer),
	T(cuIpcOpenMemHandle_v2, vgpu_ipc), T(cuIpcOpenEventHandle, vgpu_ipc), T(cuMemExportToShareableHandle, vgpu_ipc),
	T(cuMemImportFromShareableHandle, vgpu_ipc), T(cuMemPoolImportPointer, vgpu_ipc), T(cuMemCreate, vgpu_vmm),
	T(cuMemRelease, vgpu_vmm), T(cuMemAddressReserve, vgpu_vmm), T(cuMemAddressFree, vgpu_vmm), T(cuMemMap, vgpu_vmm),
	T(cuMemUnmap, vgpu_vmm), T(cuMemSetAccess, vgpu_vmm), T(cuMemPoolCreate, vgpu_pool_create),
	{ IDM_GPU_GET_INFO, sizeof(struct vgpu_call) }, { IDM_GPU_GET_PROPS, sizeof(struct vgpu_props_request) },
	{ IDM_GPU_GET_ZONE, sizeof(struct vgpu_zone_request) },
};

static uint64_t some_memory(struct raw *r)
{
	struct vgpu_rq_cuMemAlloc_v2 q = { .call = RAW_CALL, .bytesize = 8192 };
	struct vgpu_rp_cuMemAlloc_v2 rp = { 0 };
	struct idm_response rs;

	return raw_call(r, VGPU_MSG_cuMemAlloc_v2, &q, sizeof(q), &rs, &rp, sizeof(rp)) == 1 ? rp.dptr : 0;
}

#define RESERVED	(4ull << 20)
static uint64_t reserved;

static void some_addresses(struct raw *r)
{
	struct vgpu_vmm q = { .call = RAW_CALL, .size = RESERVED };
	struct vgpu_vmm_reply rp = { 0 };
	struct idm_response rs;

	reserved = raw_call(r, VGPU_MSG_cuMemAddressReserve, &q, sizeof(q), &rs, &rp, sizeof(rp)) == 1 ? rp.value : 0;
}

/* Host memory, mapped and unmapped, and almost so. */
static void mapping(uint64_t *args)
{
	args[1] = reserved + ((uint64_t)(rand() % 64) << 12);
	args[2] = (uint64_t)(rand() % 8) << 12;
	args[3] = rand() % 4 ? (uint64_t)(rand() % 32) << 12 : args[3];
	args[4] = rand() % 4 ? VGPU_VMM_HOST : args[4];
	if (rand() % 16)
		return;
	args[1] = reserved;
	args[2] = RESERVED;
}

/* The shape of a token, with what comes. */
static void token(uint64_t *args)
{
	memcpy(args, "vgpu-ipc", 8);
	args[1] = rand() % 6;
	if (rand() % 4)
		args[6] = args[7] = 0;
}

/* Names for new objects and lengths that are fine, else no session would live long. */
static void name_it(uint16_t type, uint64_t *args, uint32_t index)
{
	switch (type) {
	case VGPU_MSG_cuIpcOpenEventHandle:
		args[0] = VGPU_HANDLE(1, VGPU_H_EVENT, index);
		token(args + 2);
		break;
	case VGPU_MSG_cuMemImportFromShareableHandle:
		args[0] = VGPU_HANDLE(1, index % 2 ? VGPU_H_MEMALLOC : VGPU_H_MEMPOOL, index);
		/* fall through */
	case VGPU_MSG_cuIpcOpenMemHandle_v2:
	case VGPU_MSG_cuMemPoolImportPointer:
		token(args + 2);
		break;
	case VGPU_MSG_cuMemCreate:
		args[0] = VGPU_HANDLE(1, VGPU_H_MEMALLOC, index);
		args[2] = rand() % 4 << 21;
		args[5] = (uint64_t)(rand() % 3) << 32;
		break;
	case VGPU_MSG_cuMemMap:
	case VGPU_MSG_cuMemUnmap:
	case VGPU_MSG_cuMemSetAccess:
	case VGPU_MSG_cuMemAddressFree:
		mapping(args);
		break;
	case VGPU_MSG_cuMemAddressReserve:
		args[1] = 0;
		args[2] = (uint64_t)(rand() % 4) << 21;
		args[3] = rand() % 4 ? 0 : args[3];
		break;
	case VGPU_MSG_cuMemPoolCreate:
		args[0] = VGPU_HANDLE(1, VGPU_H_MEMPOOL, index);
		args[2] = (uint64_t)(rand() % 3) << 32;
		break;
	case VGPU_MSG_cuStreamCreate:
	case VGPU_MSG_cuStreamCreateWithPriority:
		args[0] = VGPU_HANDLE(1, VGPU_H_STREAM, index);
		break;
	case VGPU_MSG_cuEventCreate:
		args[0] = VGPU_HANDLE(1, VGPU_H_EVENT, index);
		break;
	case VGPU_MSG_cuCtxCreate_v2:
		args[0] = VGPU_HANDLE(1, VGPU_H_CTX, index);
		break;
	case VGPU_MSG_cuModuleLoadData:
		args[1] %= 65536;
		/* fall through */
	case VGPU_MSG_cuLibraryGetModule:
		args[0] = VGPU_HANDLE(1, VGPU_H_MODULE, index);
		break;
	case VGPU_MSG_cuModuleGetFunction:
		args[1] = VGPU_HANDLE(1, VGPU_H_FUNCTION, index);
		args[2] = 0;
		break;
	case VGPU_MSG_cuModuleGetGlobal_v2:
	case VGPU_MSG_cuLibraryGetManaged:
		args[1] = 0;
		break;
	case VGPU_MSG_cuLaunchKernel:
		args[6] = 0;
		break;
	case VGPU_MSG_cuMemcpyHtoD_v2:
		if (args[2] == VGPU_DATA_INLINE)
			args[3] = 0;
		break;
	case VGPU_MSG_cuMemcpyDtoH_v2:
		if (args[2] == VGPU_DATA_INLINE)
			args[3] %= 16384;
		break;
	}
}

/** @return false if the session could not be opened. */
static bool one_session(unsigned int *ended, unsigned int *sent)
{
	struct idm_response rs;
	uint64_t memory;
	struct raw r;
	int i;

	if (!raw_open(&r, true))
		return false;
	memory = raw_context(&r) ? some_memory(&r) : 0;
	some_addresses(&r);
	for (i = 0; i < MESSAGES; i++) {
		struct { struct vgpu_call call; uint64_t args[30]; } q = { .call = RAW_CALL };
		const struct shape *s = &shapes[rand() % (sizeof(shapes) / sizeof(shapes[0]))];
		uint16_t type = rand() % 1024 ? s->type : rand();
		size_t len = rand() % 1024 ? s->len : rand() % sizeof(q), k;
		int rc;

		for (k = 0; k < 30; k++)
			q.args[k] = interesting(&r, memory);
		if (rand() % 512)
			name_it(type, q.args, 1 + i);
		if (rand() % 16 == 0)
			q.call.ctx = interesting(&r, memory);
		++*sent;
		rc = raw_call(&r, type, &q, len, &rs, NULL, 0);
		if (rc < 0) {
			if (++*ended <= 8)
				printf("# ended: %s\n", raw_reason(&r));
			break;
		}
		/* A wait for an event that never comes is a wait. */
		if (!rc)
			break;
	}
	raw_close(&r);
	return true;
}

void attack_by_chance(unsigned int sessions)
{
	unsigned int i, ended = 0, sent = 0;
	bool good = true;

	srand(20261120);
	for (i = 0; i < sessions && good; i++) {
		good = one_session(&ended, &sent) && (i % 8 != 7 || neighbour_well());
	}
	printf("# %u of %u sessions were ended for what they sent; %u messages\n", ended, sessions, sent);
	report(good, "%u sessions of up to %d messages by chance", sessions, MESSAGES);
}
