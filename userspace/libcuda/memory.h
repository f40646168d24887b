/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_MEMORY_H
#define VGPU_MEMORY_H

#include "range.h"
#include "shim.h"

/** Note memory at a device address. @return CUDA_SUCCESS, or CUDA_ERROR_OUT_OF_MEMORY if the address can't be used */
CUresult memory_note(uint64_t addr, uint64_t size, enum range_kind kind, void *owner);

/** Stream-ordered memory, from @pool or (NULL) from the device's default one; @from: which that is. */
CUresult memory_from_pool(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUmemoryPool from, CUstream stream);

/** Is [addr, addr + len) memory that a device can reach by this address? */
static inline bool memory_on_device(uint64_t addr, uint64_t len)
{
	struct range r;

	return range_covers(addr, len, &r) && r.kind != RANGE_REGISTERED;
}

/* struct vmm_mapped - one mapping, and the memory that is mapped there. */
struct vmm_mapped {
	uint64_t base, size;
	uint64_t id;		/* unique among those of ranges; another one for each mapping */
	uint64_t block;		/* the memory's */
	uint32_t device;
	uint32_t handle_types;	/* CUmemAllocationHandleType by which it can be exported */
};

extern unsigned int vmm_hosts;	/* ranges of RANGE_HOST; atomic, almost always 0 */
size_t vmm_home_slow(uint64_t *p, size_t n);
/**
 * Host memory that is mapped at a reserved address is the arena's elsewhere, pinned memory to any copy. If *@p is such an
 * address, it becomes that one. @return how many of @n bytes are there in one piece; 0: nothing is mapped at *@p.
 */
static inline size_t vmm_home(uint64_t *p, size_t n)
{
	return __builtin_expect(__atomic_load_n(&vmm_hosts, __ATOMIC_RELAXED) != 0, 0) ? vmm_home_slow(p, n) : n;
}

/** What is mapped at that reserved address? @return false, and *@out as it was: nothing (vmm.c) */
bool vmm_mapped(uint64_t addr, struct vmm_mapped *out);

/** A context has ended, and all memory with it. */
void memory_forget(const struct object *ctx);

/** Free the arena memory at @base if it is of a kind in @kinds (bits 1 << kind). On failure it stays. (pinned.c) */
CUresult pinned_free(uint64_t base, unsigned int kinds);
/** What was freed of @ctx's and could not be waited for goes now. */
void pinned_forget(const struct object *ctx);

/** If [p, p + len) is arena memory: its arena offset. */
bool memory_arena(const void *p, uint64_t len, uint64_t *offset);

#endif
