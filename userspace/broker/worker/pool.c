// SPDX-License-Identifier: Apache-2.0
/* Memory pools of the client's own. */
#include "worker.h"

void worker_hand_pool_create(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_pool_create *q = m->payload;
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED };
	CUmemoryPool pool = NULL;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_handle_free(w, q->handle, VGPU_H_MEMPOOL);
	if (!err && D.cuMemPoolCreate) {
		props.location = (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = worker_device(w, q->device) };
		props.maxSize = q->max_size;
		r = D.cuMemPoolCreate(&pool, &props);
	}
	if (!err && r == CUDA_SUCCESS)
		err = worker_handle_add(w, q->handle, VGPU_H_MEMPOOL, pool);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

struct from_pool {
	CUmemoryPool pool;
	CUstream stream;
};

static CUresult alloc_from_pool(CUdeviceptr *out, uint64_t size, void *arg)
{
	const struct from_pool *a = arg;

	return D.cuMemAllocFromPoolAsync ? D.cuMemAllocFromPoolAsync(out, size, a->pool, a->stream) :
					   CUDA_ERROR_NOT_SUPPORTED;
}

void worker_hand_cuMemAllocFromPoolAsync(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemAllocFromPoolAsync *q = m->payload;
	struct vgpu_rp_cuMemAllocFromPoolAsync rp = { 0 };
	struct from_pool a;
	CUresult r = CUDA_SUCCESS;
	void *stream;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_stream(w, &q->call, q->hStream, &stream);
	if (!err) {
		a = (struct from_pool){ worker_handle(w, q->pool, VGPU_H_MEMPOOL), stream };
		if (!a.pool)
			err = IDM_ERROR_INVALID_HANDLE;
	}
	if (!err)
		r = capture_active(stream) ? CUDA_ERROR_NOT_SUPPORTED :
		    memory_allocate(w, q->bytesize, RANGE_ASYNC, alloc_from_pool, &a, &rp.dptr);
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
