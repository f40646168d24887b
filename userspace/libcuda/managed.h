/* SPDX-License-Identifier: Apache-2.0 */
/* __managed__ variables. */
#ifndef VGPU_MANAGED_H
#define VGPU_MANAGED_H

#include "shim.h"

extern unsigned int managed_variables;	/* how many are known; almost always none */

/** cuLibraryGetManaged */
CUresult managed_variable(struct object *library, const char *name, CUdeviceptr *dptr, size_t *bytes);

/** The library goes, and its variables with it. */
void managed_forget(const struct object *library);

void managed_push(uint64_t stream);
void managed_pull(void);

/** The device is about to do something in @stream (wire handle): let it see what the program wrote. */
static inline void managed_before(uint64_t stream)
{
	if (__builtin_expect(__atomic_load_n(&managed_variables, __ATOMIC_RELAXED) != 0, 0))
		managed_push(stream);
}

/** The program has waited for the device: let it see what the device wrote. */
static inline void managed_after(void)
{
	if (__builtin_expect(__atomic_load_n(&managed_variables, __ATOMIC_RELAXED) != 0, 0))
		managed_pull();
}

#endif
