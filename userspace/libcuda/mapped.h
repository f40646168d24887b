/* SPDX-License-Identifier: Apache-2.0 */
/* Registered memory that the GPU reaches: its pages are replaced by the arena's. */
#ifndef VGPU_MAPPED_H
#define VGPU_MAPPED_H

#include "memory.h"

/**
 * Put arena pages, with the same contents, where the program's pages of registered range @base are, so that @*device is
 * an address by which the GPU reaches the same bytes. Asked for again it is the same.
 * @return CUDA_ERROR_NOT_SUPPORTED where pages can't be replaced (said on stderr once), CUDA_ERROR_OUT_OF_MEMORY,
 *	   CUDA_ERROR_INVALID_VALUE if nothing is registered there
 */
CUresult mapped_device_address(uint64_t base, uint64_t *device);

/** Is [p, p + n) registered and mapped? Then the arena's address of the same bytes. */
bool mapped_arena(uint64_t p, uint64_t n, uint64_t *arena);

/** Nothing uses the range any more: ordinary pages come back, with what is in them. */
void mapped_drop(uint64_t base);

/* fork.c: a child gets pages of its own, as it would have without us. */
void mapped_fork_prepare(void);
void mapped_fork_parent(void);
void mapped_fork_child(void);

#endif
