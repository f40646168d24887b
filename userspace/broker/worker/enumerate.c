// SPDX-License-Identifier: Apache-2.0
/* The names of all kernels in a module or library; the client then looks up those it wants. */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

#define KERNELS_MAX	65536u

static CUresult kernels_of(void *parent, bool library, void ***out, unsigned int *n)
{
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;

	*n = 0;
	*out = NULL;
	if (library ? D.cuLibraryGetKernelCount && D.cuLibraryEnumerateKernels && D.cuKernelGetName :
		      D.cuModuleGetFunctionCount && D.cuModuleEnumerateFunctions && D.cuFuncGetName)
		r = library ? D.cuLibraryGetKernelCount(n, parent) : D.cuModuleGetFunctionCount(n, parent);
	if (r != CUDA_SUCCESS)
		return r;
	if (*n > KERNELS_MAX)
		*n = KERNELS_MAX;
	*out = calloc(*n + 1, sizeof(**out));
	if (!*out)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (library)
		return D.cuLibraryEnumerateKernels((CUkernel *)*out, *n, parent);
	return D.cuModuleEnumerateFunctions((CUfunction *)*out, *n, parent);
}

void worker_hand_enumerate(struct worker *w, const struct idm_message *m)
{
	static _Alignas(8) char reply[VGPU_ENUMERATE_MAX];
	struct vgpu_enumerate_reply *rp = (struct vgpu_enumerate_reply *)reply;
	const struct vgpu_enumerate *q = m->payload;
	size_t room, at = sizeof(*rp);
	CUresult r = CUDA_SUCCESS;
	void **kernels = NULL;
	unsigned int n, i;
	bool library;
	void *parent;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	memset(rp, 0, sizeof(*rp));
	room = q->room < sizeof(reply) ? q->room : sizeof(reply);
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	library = VGPU_HANDLE_TYPE(q->parent) == VGPU_H_LIBRARY;
	parent = worker_handle(w, q->parent, library ? VGPU_H_LIBRARY : VGPU_H_MODULE);
	if (!parent) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	r = kernels_of(parent, library, &kernels, &n);
	for (i = q->first; r == CUDA_SUCCESS && i < n; i++) {
		const char *name = NULL;
		size_t len;

		r = library ? D.cuKernelGetName(&name, kernels[i]) : D.cuFuncGetName(&name, kernels[i]);
		if (r != CUDA_SUCCESS || !name)
			break;
		len = strlen(name) + 1;
		if (at > room || len > room - at)
			break;
		memcpy(reply + at, name, len);
		at += len;
		rp->names++;
	}
	rp->bytes = at - sizeof(*rp);
out:
	worker_reply(w, &m->header, &q->call, err, r, reply, at);
	free(kernels);
}
