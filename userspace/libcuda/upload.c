// SPDX-License-Identifier: Apache-2.0
/*
 * Images on their way to the worker: inside the message, through the arena, or only named, if another process of this
 * zone has sent the same before. Most have not been sent: so a guess is asked about first, and the whole image is only
 * read for its digest when that may save sending it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "upload.h"

static CUresult send_load(struct vgpu_load *rq, const struct iovec *iov, int n, const struct jit *j)
{
	size_t cap = sizeof(struct vgpu_load_reply) + 2 * (size_t)rq->log_size, len = 0;
	struct vgpu_load_reply head;
	char *reply = malloc(cap);
	CUresult r;

	if (!reply)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = call_replyv(VGPU_MSG_cuModuleLoadData, iov, n, reply, cap, &len);
	if (len >= sizeof(head)) {
		memcpy(&head, reply, sizeof(head));
		jit_logs(j, reply + sizeof(head), len - sizeof(head), head.error_len, head.info_len);
	}
	free(reply);
	return r;
}

static bool maybe_there(const struct image *image, uint64_t guess)
{
	struct vgpu_image_maybe rq = { .guess = guess, .size = image->size };
	struct vgpu_image_maybe_reply rp = { 0 };

	return call_begin(&rq.call, false) == CUDA_SUCCESS &&
	       call_reply(VGPU_MSG_image_maybe, &rq, sizeof(rq), &rp, sizeof(rp)) == CUDA_SUCCESS && rp.maybe;
}

/* @return false if it is not there after all */
static bool by_name(struct vgpu_load *rq, const struct image *image, const struct jit *j, CUresult *r)
{
	struct iovec iov = { rq, sizeof(*rq) };
	struct digest *d = digest_new();

	if (!d)
		return false;
	digest_add(d, image->data, image->size);
	digest_finish(d, rq->digest);
	rq->image = (struct vgpu_data){ VGPU_DATA_STORED, image->size };
	*r = send_load(rq, &iov, 1, j);
	return *r != CUDA_ERROR_FILE_NOT_FOUND;
}

CUresult upload(struct vgpu_load *rq, const struct image *image, const struct jit *j)
{
	struct iovec iov[2] = { { rq, sizeof(*rq) }, { (void *)image->data, image->size } };
	void *arena = NULL;
	CUresult r;

	if (image->size >= VGPU_STORED_LEAST) {
		rq->guess = digest_guess(image->data, image->size);
		if (maybe_there(image, rq->guess) && by_name(rq, image, j, &r))
			return r;
	}
	rq->image = (struct vgpu_data){ VGPU_DATA_INLINE, image->size };
	if (image->size > shim.inline_max) {
		arena = idm_arena_alloc(shim.client, image->size);
		if (!arena)
			return idm_client_ended(shim.client) ? session_failed(-EPIPE) : CUDA_ERROR_OUT_OF_MEMORY;
		memcpy(arena, image->data, image->size);
		rq->image.offset = (char *)arena - (char *)idm_arena_base(shim.client);
	}
	r = send_load(rq, iov, arena ? 1 : 2, j);
	if (arena)
		idm_arena_free(shim.client, arena);
	return r;
}
