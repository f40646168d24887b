/* SPDX-License-Identifier: Apache-2.0 */
/* What other processes of the zone have, too. */
#ifndef VGPU_IPC_H
#define VGPU_IPC_H

#include "shim.h"

/** A descriptor that stands for object @wire, of @device, in any process it is passed to: CUDA_SUCCESS and *(int *)@out */
CUresult ipc_export(uint64_t wire, uint32_t device, void *out);

/** What the descriptor @shareable stands for becomes object @wire. */
CUresult ipc_import(uint64_t wire, void *shareable, struct vgpu_ipc_memory_reply *reply);

/** A context has ended, and what it had imported. */
void ipc_forget(const struct object *ctx);

#endif
