/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory of the software GPU: one reserved range of addresses, far from everything else, so that an address
 * is device memory or not at a glance, and so that a pod can reserve the same range. Pages are mapped as
 * allocations need them. `sg_heap_map` has one byte per 4 KiB page of the range, non-zero while the page belongs
 * to a live allocation. Kernels may also touch registered host memory (cuMemHostAlloc, cuMemHostRegister).
 */
#ifndef SOFTGPU_MEMORY_H
#define SOFTGPU_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef SG_HEAP_BASE	/* ThreadSanitizer allows only low addresses */
#define SG_HEAP_BASE	0x300000000000ull
#endif
#define SG_HEAP_SIZE	(64ull << 30)
#define SG_PAGE_SHIFT	12

extern uint8_t *sg_heap_map;

/** Allocate device memory (256-byte aligned at least). @return 0 if @limit (cuDeviceTotalMem) would be passed. */
uint64_t sg_heap_alloc(size_t size, size_t align);

/** Free; @return size freed, 0 if @addr is not the start of an allocation. */
size_t sg_heap_free(uint64_t addr);

/** The allocation around @addr. */
bool sg_heap_lookup(uint64_t addr, uint64_t *base, size_t *size);

/** Slow path of sg_mem_ok(): registered host memory. */
bool sg_host_ok(uint64_t addr, size_t len);

/** May a kernel touch [addr, addr + len)? len is at most a vector access (32 bytes). */
static inline bool sg_mem_ok(uint64_t addr, unsigned int len)
{
	uint64_t off = addr - SG_HEAP_BASE;

	if (__builtin_expect(off < SG_HEAP_SIZE - 64, 1))
		return sg_heap_map[off >> SG_PAGE_SHIFT] && sg_heap_map[(off + len - 1) >> SG_PAGE_SHIFT];
	return sg_host_ok(addr, len);
}

#endif /* SOFTGPU_MEMORY_H */
