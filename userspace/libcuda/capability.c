// SPDX-License-Identifier: Apache-2.0
/*
 * What the path between program and GPU can't do, whatever the GPU can: a program that asks before it calls must not be
 * told of what is then refused.
 */
#include <cuda.h>
#include <stddef.h>

#include "capability.h"

/* What an attribute comes to: the bits of the GPU's value that remain. */
struct lack {
	int attribute, remains;
	const char *why;
};

static const struct lack lacks[] = {
#define LACKS(name, why)	{ CU_DEVICE_ATTRIBUTE_##name, 0, why }
	/* Pages that move between host and device, and the program's own pages under the GPU. */
	LACKS(CONCURRENT_MANAGED_ACCESS, "managed memory is pinned memory"),
	LACKS(DIRECT_MANAGED_MEM_ACCESS_FROM_HOST, "managed memory is pinned memory"),
	LACKS(PAGEABLE_MEMORY_ACCESS, "the GPU reaches what was allocated through CUDA"),
	LACKS(PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES, "the page tables are another domain's"),
	LACKS(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, "registered memory has an address of its own for the GPU"),
	/* Host memory by the calls for device memory. */
	LACKS(HOST_NUMA_MEMORY_POOLS_SUPPORTED, "cuMemPoolCreate() takes devices only"),
	LACKS(HOST_MEMORY_POOLS_SUPPORTED, "cuMemPoolCreate() takes devices only"),
	/* Handles that lead out of the zone, and devices that are not in it. */
	LACKS(HANDLE_TYPE_FABRIC_SUPPORTED, "memory is shared by descriptors, within a zone"),
	LACKS(HOST_NUMA_MULTINODE_IPC_SUPPORTED, "memory is shared by descriptors, within a zone"),
	LACKS(DMA_BUF_SUPPORTED, "cuMemGetHandleForAddressRange() is refused"),
	LACKS(HOST_ALLOC_DMA_BUF_SUPPORTED, "cuMemGetHandleForAddressRange() is refused"),
	LACKS(TIMELINE_SEMAPHORE_INTEROP_SUPPORTED, "cuImportExternalSemaphore() is refused"),
	LACKS(GPU_DIRECT_RDMA_SUPPORTED, "no network card of a zone reaches the GPU"),
	LACKS(GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, "no network card of a zone reaches the GPU"),
	LACKS(CAN_FLUSH_REMOTE_WRITES, "no other device of a zone writes to the GPU's memory"),
	LACKS(D3D12_CIG_SUPPORTED, "cuCtxCreate_v4() takes no parameters of graphics"),
	LACKS(VULKAN_CIG_SUPPORTED, "cuCtxCreate_v4() takes no parameters of graphics"),
	LACKS(MULTICAST_SUPPORTED, "cuMulticastCreate() and its kin are refused"),
	/* Other calls that are not carried, and what is left out of some. */
	LACKS(SPARSE_CUDA_ARRAY_SUPPORTED, "cuMemMapArrayAsync() is refused"),
	LACKS(DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED, "cuMemMapArrayAsync() is refused"),
	LACKS(GENERIC_COMPRESSION_SUPPORTED, "cuMemCreate() makes memory that is not compressed"),
	LACKS(MEM_DECOMPRESS_ALGORITHM_MASK, "cuMemBatchDecompressAsync() is refused"),
	LACKS(MEM_DECOMPRESS_MAXIMUM_LENGTH, "cuMemBatchDecompressAsync() is refused"),
#undef LACKS
	{ CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
	  "memory is shared by descriptors, within a zone" },
};

int capability(int attribute, int value)
{
	/* It is pinned memory, which every GPU reaches. */
	if (attribute == CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY)
		return 1;
	for (size_t i = 0; i < sizeof(lacks) / sizeof(lacks[0]); i++)
		if (lacks[i].attribute == attribute)
			return value & lacks[i].remains;
	return value;
}
