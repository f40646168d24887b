// SPDX-License-Identifier: Apache-2.0
/* All kernels of a module or library: the worker says what they are called, each is then looked up as by name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"
#include "shim_gen.h"

static CUresult ask(const struct object *parent, uint32_t first, char *reply, size_t room, size_t *len)
{
	struct vgpu_enumerate rq = { .parent = parent->wire, .first = first, .room = room };
	struct iovec iov = { &rq, sizeof(rq) };
	CUresult r = call_begin(&rq.call, false);

	return r == CUDA_SUCCESS ? call_replyv(VGPU_MSG_cuModuleEnumerateFunctions, &iov, 1, reply, room, len) : r;
}

static CUresult enumerate(struct object *parent, enum vgpu_handle_type type, void **out, unsigned int n)
{
	size_t room = idm_reply_max(shim.client), len = 0;
	struct vgpu_enumerate_reply *rp;
	CUresult r = CUDA_SUCCESS;
	unsigned int got = 0;
	char *reply;

	if (room > VGPU_ENUMERATE_MAX)
		room = VGPU_ENUMERATE_MAX;
	reply = malloc(room);
	if (!reply)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rp = (struct vgpu_enumerate_reply *)reply;
	while (r == CUDA_SUCCESS && got < n) {
		const char *name = (char *)(rp + 1), *end;

		r = ask(parent, got, reply, room, &len);
		if (r != CUDA_SUCCESS)
			break;
		if (len < sizeof(*rp) || rp->bytes != len - sizeof(*rp) || (rp->names && reply[len - 1])) {
			r = session_failed(-EPROTO);
			break;
		}
		end = reply + len;
		if (!rp->names)		/* there are no more */
			break;
		for (uint32_t i = 0; r == CUDA_SUCCESS && i < rp->names && got < n && name < end; i++) {
			r = module_kernel(parent, type, name, (struct object **)&out[got]);
			if (r == CUDA_SUCCESS)
				got++;
			name += strlen(name) + 1;
		}
	}
	free(reply);
	while (got < n)
		out[got++] = NULL;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleEnumerateFunctions(CUfunction *functions, unsigned int numFunctions, CUmodule mod)
{
	struct object *o = object_get(mod, VGPU_H_MODULE);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!functions || !numFunctions)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_ready(o);
	return r == CUDA_SUCCESS ? enumerate(o, VGPU_H_FUNCTION, (void **)functions, numFunctions) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int numKernels, CUlibrary lib)
{
	struct object *o = object_get(lib, VGPU_H_LIBRARY);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!kernels || !numKernels)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_ready(o);
	return r == CUDA_SUCCESS ? enumerate(o, VGPU_H_KERNEL, (void **)kernels, numKernels) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleGetFunctionCount(unsigned int *count, CUmodule mod)
{
	CUresult r = session_check();

	if (r == CUDA_SUCCESS && !count)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		r = module_ready(object_get(mod, VGPU_H_MODULE));
	return r == CUDA_SUCCESS ? call_cuModuleGetFunctionCount(count, mod) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryGetKernelCount(unsigned int *count, CUlibrary lib)
{
	CUresult r = session_check();

	if (r == CUDA_SUCCESS && !count)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		r = module_ready(object_get(lib, VGPU_H_LIBRARY));
	return r == CUDA_SUCCESS ? call_cuLibraryGetKernelCount(count, lib) : r;
}
