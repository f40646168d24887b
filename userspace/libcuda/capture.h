/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CAPTURE_H
#define VGPU_CAPTURE_H

#include "shim.h"

extern unsigned int captures;	/* under way */

/** Does @stream (wire handle) capture? Costs a round trip only while some stream does. */
bool capture_asks(uint64_t stream);
static inline bool capture_active(uint64_t stream)
{
	return __builtin_expect(__atomic_load_n(&captures, __ATOMIC_RELAXED) != 0, 0) && capture_asks(stream);
}

#endif
