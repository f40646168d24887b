/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_COPY_H
#define VGPU_COPY_H

#include "shim.h"

/* One-dimensional copies. @stream: wire handle; @async: in its order, else the call waits. */
CUresult copy_to_device(uint64_t dst, const void *src, size_t n, uint64_t stream, bool async);
CUresult copy_from_device(void *dst, uint64_t src, size_t n, uint64_t stream, bool async);
/* The same for managed.c itself: to the device in the stream's order, from the device at once. */
CUresult copy_to_plain(uint64_t dst, const void *src, size_t n, uint64_t stream);
CUresult copy_from_plain(void *dst, uint64_t src, size_t n, uint64_t stream);
/* Are these contexts, each NULL for the current one? */
CUresult copy_peers(CUcontext dst, CUcontext src);
CUresult copy_on_device(uint64_t dst, uint64_t src, size_t n, CUstream stream, bool async);

/** The program's handle of a stream. */
CUstream copy_stream(uint64_t stream);

CUresult copy_3d(const CUDA_MEMCPY3D *c, CUstream stream, bool async);

/** Wait for what was put into @stream so far: the order that host-to-host copies keep. */
CUresult copy_barrier(uint64_t stream);

/** Is @p an address of device memory that the host can't reach? */
bool copy_is_device(uint64_t p);

/**
 * Is an asynchronous copy in @stream, both sides of which the CPU reaches, done in its turn? Between pinned memory it
 * has been made when the call returns, as CUDA documents it, but for captures.
 */
bool copy_in_turn(uint64_t dst, uint64_t src, uint64_t stream);

#endif
