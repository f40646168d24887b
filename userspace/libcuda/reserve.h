/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RESERVE_H
#define VGPU_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

/**
 * Keep [addr, addr + size) of this process free of host memory, so that a pointer is either device or host memory.
 * Works in granules of 2 MiB that stay reserved: giving the same addresses out again costs nothing.
 * @return 0, or -EEXIST if host memory lies there already, or another -errno
 */
int reserve_addresses(uint64_t addr, uint64_t size);

/** Does @addr lie where device memory is, or was? Whatever is there now, it is no memory of the program's. */
bool reserve_holds(uint64_t addr);

#endif
