// SPDX-License-Identifier: Apache-2.0
/* The linker. Each input is sent when it is added, so that what is wrong with it is said then. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "jit.h"
#include "link.h"
#include "shim_gen.h"

#define LINK_NAME_MAX	255u

struct link {
	struct jit jit;
	uint32_t log_size;
	void *image;
	size_t size;
};

VGPU_EXPORT CUresult CUDAAPI cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues,
					     CUlinkState *stateOut)
{
	struct vgpu_link_create rq = { .log_size = 0 };
	CUresult r = call_begin(&rq.call, true);
	struct object *o;
	struct link *l;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stateOut || (numOptions && (!options || !optionValues)))
		return CUDA_ERROR_INVALID_VALUE;
	l = calloc(1, sizeof(*l));
	o = object_new(VGPU_H_LINK);
	if (!l || !o) {
		free(l);
		if (o)
			object_delete(o);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	jit_parse(&l->jit, numOptions, options, optionValues);
	l->log_size = jit_log_size(&l->jit);
	rq.handle = o->wire;
	rq.log_size = l->log_size;
	rq.max_registers = l->jit.max_registers;
	rq.opt_level = l->jit.opt_level;
	r = call_reply(VGPU_MSG_cuLinkCreate_v2, &rq, sizeof(rq), NULL, 0);
	if (r != CUDA_SUCCESS) {
		free(l);
		object_delete(o);
		return r;
	}
	o->link = l;
	o->ctx = context_current(thread_self());
	*stateOut = (CUlinkState)o;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuLinkCreate(unsigned int numOptions, CUjit_option *options, void **optionValues,
					  CUlinkState *stateOut)
{
	return cuLinkCreate_v2(numOptions, options, optionValues, stateOut);
}

/* Send, and put the logs that come back where the program wants them. @*size: of the image, once there is one */
static CUresult ask(struct link *l, uint16_t type, const struct iovec *iov, int n, uint64_t *size)
{
	size_t cap = sizeof(struct vgpu_link_reply) + 2 * (size_t)l->log_size, len = 0;
	struct vgpu_link_reply *reply = malloc(cap);
	CUresult r;

	if (!reply)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = call_replyv(type, iov, n, reply, cap, &len);
	if (len >= sizeof(*reply)) {
		jit_logs(&l->jit, (char *)(reply + 1), len - sizeof(*reply), reply->error_len, reply->info_len);
		if (size)
			*size = reply->size;
	}
	free(reply);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size,
					      const char *name, unsigned int numOptions, CUjit_option *options,
					      void **optionValues)
{
	struct object *o = object_get(state, VGPU_H_LINK);
	struct vgpu_link_add rq = { .type = type };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { (void *)name, 0 } };
	CUresult r = call_begin(&rq.call, true);
	struct image image;
	void *arena;

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!data || !size || (unsigned int)type >= CU_JIT_NUM_INPUT_TYPES)
		return CUDA_ERROR_INVALID_VALUE;
	if (type == CU_JIT_INPUT_FATBINARY && image_measure(data, size, &image) == IMAGE_FATBIN) {
		data = (void *)image.data;	/* a wrapper holds addresses */
		size = image.size;
	}
	arena = idm_arena_alloc(shim.client, size);
	if (!arena)
		return idm_client_ended(shim.client) ? session_failed(-EPIPE) : CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(arena, data, size);
	rq.link = o->wire;
	rq.data = (struct vgpu_data){ (char *)arena - (char *)idm_arena_base(shim.client), size };
	if (name)
		rq.name_len = iov[1].iov_len = strnlen(name, LINK_NAME_MAX);
	r = ask(o->link, VGPU_MSG_cuLinkAddData_v2, iov, 2, NULL);
	idm_arena_free(shim.client, arena);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuLinkAddData(CUlinkState state, CUjitInputType type, void *data, size_t size,
					   const char *name, unsigned int numOptions, CUjit_option *options,
					   void **optionValues)
{
	return cuLinkAddData_v2(state, type, data, size, name, numOptions, options, optionValues);
}

VGPU_EXPORT CUresult CUDAAPI cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path,
					      unsigned int numOptions, CUjit_option *options, void **optionValues)
{
	CUresult r = session_check();
	struct stat st;
	char *data;
	int fd;

	if (r != CUDA_SUCCESS)
		return r;
	if (!object_get(state, VGPU_H_LINK))
		return CUDA_ERROR_INVALID_HANDLE;
	fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return path ? CUDA_ERROR_FILE_NOT_FOUND : CUDA_ERROR_INVALID_VALUE;
	r = CUDA_ERROR_FILE_NOT_FOUND;
	if (!fstat(fd, &st) && st.st_size > 0 && (uint64_t)st.st_size < IMAGE_MAX) {
		size_t size = st.st_size, at = 0;
		ssize_t got = 1;

		data = malloc(size + 1);
		while (data && at < size && got > 0) {
			got = read(fd, data + at, size - at);
			at += got > 0 ? got : 0;
		}
		if (!data) {
			r = CUDA_ERROR_OUT_OF_MEMORY;
		} else if (at == size) {
			data[size] = '\0';
			r = cuLinkAddData_v2(state, type, data, size + (type == CU_JIT_INPUT_PTX), path, numOptions, options,
					     optionValues);
		}
		free(data);
	}
	close(fd);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuLinkAddFile(CUlinkState state, CUjitInputType type, const char *path,
					   unsigned int numOptions, CUjit_option *options, void **optionValues)
{
	return cuLinkAddFile_v2(state, type, path, numOptions, options, optionValues);
}

VGPU_EXPORT CUresult CUDAAPI cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut)
{
	struct object *o = object_get(state, VGPU_H_LINK);
	struct vgpu_link_complete rq = { .link = 0 };
	struct iovec iov = { &rq, sizeof(rq) };
	CUresult r = call_begin(&rq.call, true);
	uint64_t size = 0;
	struct link *l;
	void *arena;

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!cubinOut)
		return CUDA_ERROR_INVALID_VALUE;
	l = o->link;
	rq.link = o->wire;
	if (!l->image) {
		r = ask(l, VGPU_MSG_cuLinkComplete, &iov, 1, &size);
		if (r != CUDA_SUCCESS)
			return r;
		arena = size && size < IMAGE_MAX ? idm_arena_alloc(shim.client, size) : NULL;
		if (!arena)
			return CUDA_ERROR_OUT_OF_MEMORY;
		rq.image = (struct vgpu_data){ (char *)arena - (char *)idm_arena_base(shim.client), size };
		r = ask(l, VGPU_MSG_cuLinkComplete, &iov, 1, &size);
		if (r == CUDA_SUCCESS && size == rq.image.size) {
			l->image = malloc(size);
			l->size = size;
		}
		if (l->image)
			memcpy(l->image, arena, size);
		idm_arena_free(shim.client, arena);
		if (!l->image)
			return r != CUDA_SUCCESS ? r : CUDA_ERROR_OUT_OF_MEMORY;
	}
	*cubinOut = l->image;
	if (sizeOut)
		*sizeOut = l->size;
	return CUDA_SUCCESS;
}

static void end_with(struct object *o, void *ctx)
{
	struct link *l = o->link;

	if (o->ctx != ctx)
		return;
	object_delete(o);
	free(l->image);
	free(l);
}

void link_forget(const struct object *ctx)
{
	objects_each(VGPU_H_LINK, end_with, (void *)ctx);
}

VGPU_EXPORT CUresult CUDAAPI cuLinkDestroy(CUlinkState state)
{
	struct object *o = object_get(state, VGPU_H_LINK);
	CUresult r = session_check();
	struct link *l;

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	l = o->link;
	r = call_cuLinkDestroy(state);
	/* Refused, it is there as before. */
	if (r != CUDA_SUCCESS)
		return r;
	free(l->image);
	free(l);
	return CUDA_SUCCESS;
}
