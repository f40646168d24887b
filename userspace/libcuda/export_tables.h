/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What export_tables.c needs from the driver library it is part of: the shim (context.c), or the software GPU.
 * Everything else it asks through the public API.
 */
#ifndef VGPU_EXPORT_TABLES_H
#define VGPU_EXPORT_TABLES_H

#include <cuda.h>

#include "integrity.h"

#define INTEGRITY_DEVICES 16

/** struct context_value - context-local storage: what a copy of the runtime keeps for a context. */
struct context_value {
	struct context_value *next;
	const void *key;
	void *value;
	void (*destroy)(CUcontext ctx, const void *key, void *value);
};

/** @return what was in @list, which is empty then. */
struct context_value *values_take(struct context_value **list);

/** @values, taken from @ctx's list, end: in no lock, since what the runtime does then are calls like any other. */
void values_end(CUcontext ctx, struct context_value *values);

/** The list of @ctx (NULL or -1: the calling thread's current context); NULL if there is no such context. */
struct context_value **tables_values(CUcontext ctx);

/** The primary context of @dev, without retaining it. */
CUresult tables_primary(CUcontext *ctx, CUdevice dev);

/** What the devices are called, in ordinal order. @return their number */
unsigned int tables_devices(struct integrity_device devices[INTEGRITY_DEVICES]);

#endif
