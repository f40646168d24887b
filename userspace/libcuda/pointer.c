// SPDX-License-Identifier: Apache-2.0
/* Pointer attributes: answered from the range map. */
#include <string.h>

#include "mapped.h"
#include "memory.h"

/* The pool that stream-ordered memory came from. */
static CUmemoryPool pool_of(const struct range *r)
{
	const struct object *o = object_get(r->owner, VGPU_H_MEMPOOL);

	return o ? (CUmemoryPool)o : NULL;
}

/* An attribute that is not known here, or that there is none of. */
static CUresult unknown(CUpointer_attribute a)
{
	return a > 0 && a <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE ? CUDA_ERROR_NOT_SUPPORTED :
									     CUDA_ERROR_INVALID_VALUE;
}

/* Is that attribute one of a mapping? Others are asked at each launch, and mappings can be thousands. */
static bool of_mapping(CUpointer_attribute a)
{
	return a == CU_POINTER_ATTRIBUTE_BUFFER_ID || a == CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID ||
	       a == CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR || a == CU_POINTER_ATTRIBUTE_MAPPING_SIZE ||
	       a == CU_POINTER_ATTRIBUTE_MAPPED || a == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL ||
	       a == CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES;
}

/* The range at @p, and for @n attributes what of it is mapped there: all, unless addresses were only reserved. @m->size 0: nothing */
static bool look(uint64_t p, const CUpointer_attribute *a, unsigned int n, struct range *r, struct vmm_mapped *m)
{
	bool asked = false;

	if (!range_find(p, r))
		return false;
	*m = (struct vmm_mapped){ r->base, r->size, r->id, r->id, r->device, 0 };
	for (unsigned int i = 0; (r->kind == RANGE_RESERVED || r->kind == RANGE_HOST) && i < n && !asked; i++)
		asked = of_mapping(a[i]);
	if (asked && !vmm_mapped(p, m))
		m->size = 0;
	return true;
}

/*
 * One attribute of memory @r at @p, with @m mapped there. @return CUDA_ERROR_INVALID_VALUE if that
 * memory has no such thing, CUDA_ERROR_NOT_SUPPORTED if it is not known here.
 */
static CUresult attribute(void *data, CUpointer_attribute a, uint64_t p, const struct range *r, const struct vmm_mapped *m)
{
	bool host = r->kind == RANGE_PINNED || r->kind == RANGE_REGISTERED || r->kind == RANGE_ALIAS || r->kind == RANGE_HOST;
	uint64_t arena;

	switch (a) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		*(CUcontext *)data = (CUcontext)r->ctx;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		*(unsigned int *)data = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		if (r->kind != RANGE_REGISTERED)
			*(CUdeviceptr *)data = p;
		else if (mapped_arena(p, 0, &arena))
			*(CUdeviceptr *)data = arena;
		else
			return CUDA_ERROR_INVALID_VALUE;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		if (RANGE_ON_DEVICE(r->kind) && !(r->kind == RANGE_GLOBAL && r->flags))
			return CUDA_ERROR_INVALID_VALUE;
		*(void **)data = (void *)(uintptr_t)(r->kind == RANGE_ALIAS ? r->alias + (p - r->base) : p);
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		if (!m->size)
			return CUDA_ERROR_INVALID_VALUE;
		*(unsigned long long *)data = a == CU_POINTER_ATTRIBUTE_BUFFER_ID ? m->id :
					      a == CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID ? m->block :
					      a == CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR ? m->base : m->size;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		*(unsigned int *)data = r->kind == RANGE_MANAGED || (r->kind == RANGE_GLOBAL && r->flags);
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)data = m->device;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
		*(CUdeviceptr *)data = r->base;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
		*(size_t *)data = r->size;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MAPPED:
		*(unsigned int *)data = m->size && (r->kind != RANGE_REGISTERED || mapped_arena(p, 0, &arena));
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
		*(unsigned int *)data = (r->kind == RANGE_DEVICE || r->kind == RANGE_MANAGED) && r->flags & RANGE_SYNC;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		*(unsigned int *)data = r->kind == RANGE_DEVICE && !pool_of(r);
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
		*(unsigned int *)data = 0;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		if (r->kind == RANGE_RESERVED || r->kind == RANGE_HOST)
			*(unsigned long long *)data = m->handle_types;
		else
			*(unsigned long long *)data = pool_of(r) && ((struct object *)pool_of(r))->pool.shareable ?
				CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : 0;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		*(unsigned int *)data = CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		*(CUmemoryPool *)data = r->kind == RANGE_DEVICE ? pool_of(r) : NULL;
		return CUDA_SUCCESS;
	default:
		return unknown(a);
	}
}

VGPU_EXPORT CUresult CUDAAPI cuPointerGetAttribute(void *data, CUpointer_attribute a, CUdeviceptr ptr)
{
	CUresult r = session_check();
	struct vmm_mapped m;
	struct range range;

	if (r != CUDA_SUCCESS)
		return r;
	if (!data || !look(ptr, &a, 1, &range, &m))
		return CUDA_ERROR_INVALID_VALUE;
	return attribute(data, a, ptr, &range, &m);
}

/* What an attribute says about memory CUDA does not know. */
static CUresult nothing(void *data, CUpointer_attribute a)
{
	switch (a) {
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)data = CU_DEVICE_INVALID;
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_CONTEXT:
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		memset(data, 0, 8);
		return CUDA_SUCCESS;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_MAPPED:
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
		memset(data, 0, 4);
		return CUDA_SUCCESS;
	default:
		return unknown(a);
	}
}

VGPU_EXPORT CUresult CUDAAPI cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute *attributes,
						    void **data, CUdeviceptr ptr)
{
	CUresult r = session_check();
	struct vmm_mapped m;
	struct range range;
	bool known;

	if (r != CUDA_SUCCESS)
		return r;
	if (!numAttributes || !attributes || !data)
		return CUDA_ERROR_INVALID_VALUE;
	known = look(ptr, attributes, numAttributes, &range, &m);
	for (unsigned int i = 0; i < numAttributes; i++) {
		if (!data[i])
			return CUDA_ERROR_INVALID_VALUE;
		r = known ? attribute(data[i], attributes[i], ptr, &range, &m) : CUDA_ERROR_INVALID_VALUE;
		if (r == CUDA_ERROR_INVALID_VALUE)
			r = nothing(data[i], attributes[i]);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

/* Blocking copies between device addresses need not wait; for such memory they do (copy.c). */
VGPU_EXPORT CUresult CUDAAPI cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr ptr)
{
	CUresult r = session_check();
	struct range range;

	if (r != CUDA_SUCCESS)
		return r;
	if (!value || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || !range_find(ptr, &range) ||
	    (range.kind != RANGE_DEVICE && range.kind != RANGE_MANAGED))
		return CUDA_ERROR_INVALID_VALUE;
	range_mark(range.base, RANGE_SYNC, *(const unsigned int *)value);
	return CUDA_SUCCESS;
}
