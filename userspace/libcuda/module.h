/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_MODULE_H
#define VGPU_MODULE_H

#include "shim.h"

/** Load an image of unknown form as a module or a library (@type). */
CUresult module_load(enum vgpu_handle_type type, const void *code, size_t readable, unsigned int noptions,
		     const CUjit_option *options, void **values, struct object **out);

/**
 * Whoever uses @o, a module or library, for the first time hears of it if loading it failed after all.
 * @return CUDA_SUCCESS if @o is loaded, CUDA_ERROR_INVALID_HANDLE if it is NULL
 */
CUresult module_ready(struct object *o);

/** The kernel or function @name of a library or module, looked up once. */
CUresult module_kernel(struct object *parent, enum vgpu_handle_type type, const char *name, struct object **out);

/** What the worker's answer of @len bytes says about the kernel @name. @return NULL if it says nothing that can be. */
struct kernel *kernel_make(const char *name, const struct vgpu_kernel_reply *reply, size_t len);

/** Context @ctx has ended, and with it the modules in it and what was looked up there. Libraries and kernels live on. */
void module_forget(const struct object *ctx);

/** @o, which is no kernel, goes with @module, or before it with @ctx. */
void module_adopt(struct object *module, struct object *o, struct object *ctx);

#endif
