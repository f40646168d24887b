/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MOVE_H
#define MOVE_H

#include <stdint.h>
#include <xen/arch-x86/hvm/start_info.h>

#define MOVE_STEP	(2u << 20)	/* bytes: the kernel is mapped by large pages */

/**
 * struct moving - a kernel in memory, by physical addresses
 * @start, @end:  all of it, with what is zero
 * @entry:        where PVH enters it
 * @relocs:       vmlinux.relocs, as the kernel's build makes it: three lists of 32-bit virtual addresses, each behind a zero
 * @relocs_end:   behind it
 * @random:       which of the places, evenly distributed over 32 bits
 */
struct moving {
	uint32_t start, end, entry;
	const int32_t *relocs, *relocs_end;
	uint32_t random;
};

/** move_kernel() - move it where chance wants it. Return: where to enter it now. */
uint32_t move_kernel(const struct moving *k, const struct hvm_start_info *info);

#endif /* MOVE_H */
