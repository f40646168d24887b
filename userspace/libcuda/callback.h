/* SPDX-License-Identifier: Apache-2.0 */
/* Host functions in stream order: the program's in one thread of the shim's, our own in another, the dispatcher. */
#ifndef VGPU_CALLBACK_H
#define VGPU_CALLBACK_H

#include "hook.h"
#include "shim.h"

/** Call @fn(@data), which is ours and waits for nothing, in the order of @stream (wire handle). */
CUresult callback_own(uint64_t stream, CUhostFn fn, void *data);

/** Are there few enough functions for some more of ours? */
bool callback_room(void);

/** Put @h into the graph that @stream captures. It is the worker's to let go, whatever the answer. */
CUresult callback_capture(uint64_t stream, const struct hook *h, enum vgpu_hook kind);

/** May there be functions, of streams or of graphs, whose turn has not come, or that run? */
bool callback_pending(void);

#endif
