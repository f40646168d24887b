/* SPDX-License-Identifier: Apache-2.0 */
/* Host functions in stream order. They run in one thread of the shim's own, the dispatcher. */
#ifndef VGPU_CALLBACK_H
#define VGPU_CALLBACK_H

#include "shim.h"

/** Call @fn(@data) in the order of @stream (wire handle). */
CUresult callback_enqueue(uint64_t stream, CUhostFn fn, void *data);

/** Are there functions whose turn has not come, or that run? */
bool callback_pending(void);

/** Before context @ctx ends: let the functions in it have their turn. */
void callback_drain(CUcontext ctx);

#endif
