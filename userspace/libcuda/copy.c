// SPDX-License-Identifier: Apache-2.0
/*
 * One-dimensional copies. Small ones travel inside the message, pinned memory is where the worker can reach it, and
 * everything else passes through staging chunks, several in flight, so that filling one overlaps emptying another.
 */
#include <errno.h>
#include <string.h>

#include "capture.h"
#include "copy.h"
#include "graph.h"
#include "managed.h"
#include "memory.h"
#include "registered.h"
#include "reserve.h"
#include "shim_gen.h"
#include "staging.h"
#include "stream_copy.h"

bool copy_is_device(uint64_t p)
{
	struct range r;

	/* Where device memory was, and is no more, there is never anything of the program's. */
	return range_find(p, &r) ? RANGE_ON_DEVICE(r.kind) : reserve_holds(p);
}

/* A blocking copy's chunks in flight, oldest first. */
struct window {
	struct slot *slot[SLOT_WINDOW];
	void *at[SLOT_WINDOW];		/* from the device: where the bytes go */
	size_t n[SLOT_WINDOW];
	unsigned int first, count;
	bool large;			/* the whole copy is larger than what caches hold */
};

static struct slot *window_pop(struct window *w, void **at, size_t *n)
{
	struct slot *s = w->slot[w->first];

	*at = w->at[w->first];
	*n = w->n[w->first];
	w->first = (w->first + 1) % SLOT_WINDOW;
	w->count--;
	return s;
}

static void window_push(struct window *w, struct slot *s, void *at, size_t n)
{
	unsigned int i = (w->first + w->count++) % SLOT_WINDOW;

	w->slot[i] = s;
	w->at[i] = at;
	w->n[i] = n;
}

/* Wait for the oldest chunk and, from the device, take its bytes. The chunk is the caller's. */
static struct slot *window_finish(struct window *w, CUresult *r)
{
	CUresult own;
	void *at;
	size_t n;
	struct slot *s = window_pop(w, &at, &n);

	own = staging_wait(s);
	if (own != CUDA_SUCCESS && *r == CUDA_SUCCESS)
		*r = own;
	if (*r == CUDA_SUCCESS && at && w->large)
		stream_copy(at, s->base, n);
	else if (*r == CUDA_SUCCESS && at)
		memcpy(at, s->base, n);
	return s;
}

/* A chunk for the next part: a free one, or the window's oldest when there is none or the window is full. */
static struct slot *window_chunk(struct window *w, uint64_t ctx, uint64_t stream, CUresult *r)
{
	struct slot *s = NULL;
	CUresult own;

	if (w->count < SLOT_WINDOW) {
		s = staging_get(!w->count, ctx, stream, &own);
		if (!s && own != CUDA_SUCCESS)
			*r = own;
	}
	if (!s && w->count)
		s = window_finish(w, r);
	return s;
}

static CUresult staged_to_device(struct vgpu_copy_h2d *rq, const char *src, size_t n)
{
	struct window w = { .count = 0 };
	CUresult r = CUDA_SUCCESS;

	while (n && r == CUDA_SUCCESS) {
		size_t part = n < SLOT_SIZE ? n : SLOT_SIZE;
		struct slot *s = window_chunk(&w, rq->call.ctx, rq->stream, &r);

		if (!s)
			break;
		if (r == CUDA_SUCCESS) {
			memcpy(s->base, src, part);
			rq->src = (struct vgpu_data){ s->offset, part };
			rq->call.reserved = rq->async ? VGPU_CALL_UNREAD : 0;
			r = staging_submit(s, rq->stream, VGPU_MSG_cuMemcpyHtoD_v2, rq, sizeof(*rq));
		}
		if (r != CUDA_SUCCESS)
			staging_put(s);
		else if (rq->async)
			staging_leave(s);
		else
			window_push(&w, s, NULL, 0);
		rq->dst += part;
		src += part;
		n -= part;
	}
	while (w.count)
		staging_put(window_finish(&w, &r));
	thread_self()->touched = NULL;
	if (rq->async)
		return staging_left(r);
	return r == CUDA_SUCCESS ? latched_take(thread_self()) : r;
}

static CUresult staged_from_device(struct vgpu_copy_d2h *rq, char *dst, size_t n)
{
	struct window w = { .large = n >= STREAM_COPY_MIN };
	CUresult r = CUDA_SUCCESS;

	while (n && r == CUDA_SUCCESS) {
		size_t part = n < SLOT_SIZE ? n : SLOT_SIZE;
		struct slot *s = window_chunk(&w, rq->call.ctx, rq->stream, &r);

		if (!s)
			break;
		if (r == CUDA_SUCCESS) {
			rq->dst = (struct vgpu_data){ s->offset, part };
			r = staging_submit(s, rq->stream, VGPU_MSG_cuMemcpyDtoH_v2, rq, sizeof(*rq));
		}
		if (r != CUDA_SUCCESS)
			staging_put(s);
		else
			window_push(&w, s, dst, part);
		rq->src += part;
		dst += part;
		n -= part;
	}
	while (w.count)
		staging_put(window_finish(&w, &r));
	thread_self()->touched = NULL;
	return r == CUDA_SUCCESS ? latched_take(thread_self()) : r;
}

CUstream copy_stream(uint64_t stream)
{
	return stream <= 2 ? (CUstream)(uintptr_t)stream : (CUstream)&objects[VGPU_HANDLE_INDEX(stream)];
}

/* Pageable memory in a stream that captures. */
static CUresult capture_linear(uint64_t dst, uint64_t src, size_t n, uint64_t stream)
{
	CUDA_MEMCPY3D c = { .srcMemoryType = CU_MEMORYTYPE_UNIFIED, .srcDevice = src, .srcPitch = n, .srcHeight = 1,
			    .dstMemoryType = CU_MEMORYTYPE_UNIFIED, .dstDevice = dst, .dstPitch = n, .dstHeight = 1,
			    .WidthInBytes = n, .Height = 1, .Depth = 1 };

	return pageable_capture(&c, copy_stream(stream));
}

static CUresult to_device(uint64_t dst, const void *src, size_t n, uint64_t stream, bool async)
{
	struct vgpu_copy_h2d rq = { .dst = dst, .stream = stream, .async = async };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { (void *)src, n } };
	CUresult r = call_begin(&rq.call, true);

	if (r != CUDA_SUCCESS || !n)
		return r;
	if (!src || !memory_on_device(dst, n) || copy_is_device((uintptr_t)src))
		return CUDA_ERROR_INVALID_VALUE;
	rq.src.size = n;
	if (memory_arena(src, n, &rq.src.offset))
		return async ? call_post(VGPU_MSG_cuMemcpyHtoD_v2, &rq, sizeof(rq)) :
			call_reply(VGPU_MSG_cuMemcpyHtoD_v2, &rq, sizeof(rq), NULL, 0);
	if (async && capture_active(stream))
		return capture_linear(dst, (uintptr_t)src, n, stream);
	/* What is registered is read in its turn; without room for that, when it has come. */
	if (async && registered_covers(src, n) && !registered_now(stream)) {
		struct buffered *b = registered_buffer(&(struct host_rows){ (void *)src, n, 1, n, 1, 1 }, &rq.src.offset);

		r = b ? registered_fill(stream, b) : copy_barrier(stream);
		if (r != CUDA_SUCCESS)
			return r;
		if (b)
			return registered_filled(stream, b, call_post(VGPU_MSG_cuMemcpyHtoD_v2, &rq, sizeof(rq)));
	}
	if (n <= shim.inline_max) {
		rq.src.offset = VGPU_DATA_INLINE;
		/* A blocking copy is answered: the legacy stream may be busy, and other streams must find it done. */
		return async ? call_postv(VGPU_MSG_cuMemcpyHtoD_v2, iov, 2) :
			call_replyv(VGPU_MSG_cuMemcpyHtoD_v2, iov, 2, NULL, 0, NULL);
	}
	return staged_to_device(&rq, src, n);
}

static CUresult from_device(void *dst, uint64_t src, size_t n, uint64_t stream, bool async)
{
	struct vgpu_copy_d2h rq = { .src = src, .stream = stream, .async = async };
	CUresult r = call_begin(&rq.call, true);

	if (r != CUDA_SUCCESS || !n)
		return r;
	if (!dst || !memory_on_device(src, n) || copy_is_device((uintptr_t)dst))
		return CUDA_ERROR_INVALID_VALUE;
	rq.dst.size = n;
	if (memory_arena(dst, n, &rq.dst.offset))
		return async ? call_post(VGPU_MSG_cuMemcpyDtoH_v2, &rq, sizeof(rq)) :
			call_reply(VGPU_MSG_cuMemcpyDtoH_v2, &rq, sizeof(rq), NULL, 0);
	if (async && capture_active(stream))
		return capture_linear((uintptr_t)dst, src, n, stream);
	if (async && registered_covers(dst, n)) {
		struct buffered *b = registered_buffer(&(struct host_rows){ dst, n, 1, n, 1, 1 }, &rq.dst.offset);

		if (b)
			return registered_land(stream, b, call_post(VGPU_MSG_cuMemcpyDtoH_v2, &rq, sizeof(rq)));
	}
	/* Pageable: the bytes have to be here when the call returns, in whatever stream they come. */
	if (n <= shim.inline_max && !async) {
		struct iovec iov = { &rq, sizeof(rq) };
		size_t got;

		rq.dst.offset = VGPU_DATA_INLINE;
		r = call_replyv(VGPU_MSG_cuMemcpyDtoH_v2, &iov, 1, dst, n, &got);
		if (r == CUDA_SUCCESS && got != n)
			return session_failed(-EPROTO);
		return r;
	}
	return staged_from_device(&rq, dst, n);
}

/* For the program it is host memory as well, but what it holds is the device's business. */
static bool is_managed_variable(uint64_t p, size_t n)
{
	struct range r;

	return managed_variables && range_covers(p, n, &r) && r.kind == RANGE_GLOBAL && r.flags;
}

/* Of the stream, what @copy of in_pieces() needs. */
struct how {
	uint64_t stream;	/* its wire handle */
	CUstream s;
	bool async;
};

/* Host memory that is mapped by cuMemCreate() is one piece for each mapping, on either side, and has another address (vmm_home()). */
static inline __attribute__((always_inline)) CUresult
in_pieces(uint64_t dst, uint64_t src, size_t n, const struct how *h,
	  CUresult (*copy)(uint64_t dst, uint64_t src, size_t n, const struct how *h))
{
	size_t done = 0;
	CUresult r;

	do {
		uint64_t to = dst + done, from = src + done;
		size_t part = vmm_home(&from, n - done);

		part = part ? vmm_home(&to, part) : 0;
		if (n && !part)
			return CUDA_ERROR_INVALID_VALUE;
		r = copy(to, from, part, h);
		done += part;
	} while (done < n && r == CUDA_SUCCESS);
	return r;
}

static CUresult piece_to_device(uint64_t dst, uint64_t src, size_t n, const struct how *h)
{
	CUresult r;

	managed_before(h->stream);
	if (is_managed_variable(src, n))
		r = copy_on_device(dst, src, n, copy_stream(h->stream), h->async);
	else
		r = to_device(dst, (const void *)(uintptr_t)src, n, h->stream, h->async);
	if (!h->async)
		managed_after();
	return r;
}

CUresult copy_to_device(uint64_t dst, const void *src, size_t n, uint64_t stream, bool async)
{
	return in_pieces(dst, (uintptr_t)src, n, &(struct how){ .stream = stream, .async = async }, piece_to_device);
}

static CUresult piece_from_device(uint64_t dst, uint64_t src, size_t n, const struct how *h)
{
	CUresult r;

	managed_before(h->stream);
	if (is_managed_variable(dst, n))
		r = copy_on_device(dst, src, n, copy_stream(h->stream), h->async);
	else
		r = from_device((void *)(uintptr_t)dst, src, n, h->stream, h->async);
	if (!h->async)
		managed_after();
	return r;
}

CUresult copy_from_device(void *dst, uint64_t src, size_t n, uint64_t stream, bool async)
{
	return in_pieces((uintptr_t)dst, src, n, &(struct how){ .stream = stream, .async = async }, piece_from_device);
}

CUresult copy_to_plain(uint64_t dst, const void *src, size_t n, uint64_t stream)
{
	return to_device(dst, src, n, stream, true);
}

CUresult copy_from_plain(void *dst, uint64_t src, size_t n, uint64_t stream)
{
	return from_device(dst, src, n, stream, false);
}

/* cuPointerSetAttribute(CU_POINTER_ATTRIBUTE_SYNC_MEMOPS), or host memory that the device reaches */
static bool is_synchronous(uint64_t p)
{
	struct range r;

	return range_find(p, &r) && (!RANGE_ON_DEVICE(r.kind) || (r.kind == RANGE_DEVICE && r.flags & RANGE_SYNC));
}

static CUresult piece_on_device(uint64_t dst, uint64_t src, size_t n, const struct how *h)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS || !n)
		return r;
	if (!memory_on_device(dst, n) || !memory_on_device(src, n))
		return CUDA_ERROR_INVALID_VALUE;
	managed_before(stream_default(thread_self()));
	if (h->async)
		return call_cuMemcpyDtoDAsync_v2(dst, src, n, h->s);
	if (stream_default(thread_self()))
		r = call_cuMemcpyDtoDAsync_v2(dst, src, n, CU_STREAM_PER_THREAD);
	else
		r = call_cuMemcpyDtoD_v2(dst, src, n);
	return r == CUDA_SUCCESS && (is_synchronous(dst) || is_synchronous(src)) ? copy_barrier(stream_default(thread_self())) : r;
}

CUresult copy_on_device(uint64_t dst, uint64_t src, size_t n, CUstream stream, bool async)
{
	return in_pieces(dst, src, n, &(struct how){ .s = stream, .async = async }, piece_on_device);
}

CUresult copy_barrier(uint64_t stream)
{
	struct vgpu_rq_cuStreamSynchronize rq = { .hStream = stream };
	CUresult r = call_begin(&rq.call, true);

	return r == CUDA_SUCCESS ? call_reply(VGPU_MSG_cuStreamSynchronize, &rq, sizeof(rq), NULL, 0) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
	return copy_to_device(dstDevice, srcHost, ByteCount, stream_default(thread_self()), false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
	return copy_from_device(dstHost, srcDevice, ByteCount, stream_default(thread_self()), false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount)
{
	return copy_on_device(dstDevice, srcDevice, ByteCount, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount,
						  CUstream hStream)
{
	uint64_t stream;

	if (!stream_handle(hStream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return copy_to_device(dstDevice, srcHost, ByteCount, stream, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount,
						  CUstream hStream)
{
	uint64_t stream;

	if (!stream_handle(hStream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return copy_from_device(dstHost, srcDevice, ByteCount, stream, true);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
						  CUstream hStream)
{
	return copy_on_device(dstDevice, srcDevice, ByteCount, hStream, true);
}

static bool is_managed(uint64_t p)
{
	struct range r;

	return range_find(p, &r) && r.kind == RANGE_MANAGED;
}

bool copy_in_turn(uint64_t dst, uint64_t src, uint64_t stream)
{
	return is_managed(dst) || is_managed(src) || capture_active(stream);
}

/* Of what is host memory to the program: by the GPU, if it reaches both sides. */
static CUresult piece_on_host(uint64_t dst, uint64_t src, size_t n, const struct how *h)
{
	uint64_t base = (uintptr_t)idm_arena_base(shim.client), to, from;
	CUresult r;

	if (!dst || !src)
		return CUDA_ERROR_INVALID_VALUE;
	if (h->async && copy_in_turn(dst, src, h->stream)) {
		managed_before(h->stream);
		if (memory_arena((void *)(uintptr_t)dst, n, &to) && memory_arena((void *)(uintptr_t)src, n, &from))
			return call_cuMemcpyDtoDAsync_v2(base + to, base + from, n, h->s);
		if (capture_active(h->stream))
			return capture_linear(dst, src, n, h->stream);
	}
	r = copy_barrier(h->stream);
	if (r == CUDA_SUCCESS)
		memmove((void *)(uintptr_t)dst, (void *)(uintptr_t)src, n);
	return r;
}

static CUresult copy_host(uint64_t dst, uint64_t src, size_t n, CUstream s, uint64_t stream, bool async)
{
	return in_pieces(dst, src, n, &(struct how){ stream, s, async }, piece_on_host);
}

/* cuMemcpy says nothing about direction: the range map does. */
static CUresult copy_any(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream s, bool async)
{
	bool to = copy_is_device(dst), from = copy_is_device(src);
	CUresult r = session_check();
	uint64_t stream;

	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(s, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	if (to && from)
		return copy_on_device(dst, src, n, s, async);
	if (to)
		return copy_to_device(dst, (void *)(uintptr_t)src, n, stream, async);
	if (from)
		return copy_from_device((void *)(uintptr_t)dst, src, n, stream, async);
	if (!n)
		return async ? CUDA_SUCCESS : copy_barrier(stream);
	return copy_host(dst, src, n, s, stream, async);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
{
	return copy_any(dst, src, ByteCount, NULL, false);
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream)
{
	return copy_any(dst, src, ByteCount, hStream, true);
}

/* The contexts of a copy between peers, each NULL for the current one. */
CUresult copy_peers(CUcontext dst, CUcontext src)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	return (!dst || object_get(dst, VGPU_H_CTX)) && (!src || object_get(src, VGPU_H_CTX)) ? CUDA_SUCCESS :
											     CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
					  CUcontext srcContext, size_t ByteCount)
{
	CUresult r = copy_peers(dstContext, srcContext);

	return r == CUDA_SUCCESS ? copy_on_device(dstDevice, srcDevice, ByteCount, NULL, false) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
					       CUcontext srcContext, size_t ByteCount, CUstream hStream)
{
	CUresult r = copy_peers(dstContext, srcContext);

	return r == CUDA_SUCCESS ? copy_on_device(dstDevice, srcDevice, ByteCount, hStream, true) : r;
}
