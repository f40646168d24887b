// SPDX-License-Identifier: Apache-2.0
/*
 * Copies. Host sides are bytes of the message or of the arena, never an address that the client names.
 *
 * A synchronous copy with nothing pending before it is done on the spot. Otherwise it is queued on the legacy stream,
 * where it has to wait anyway, and answered when it is over.
 */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

static void answer(struct worker *w, const struct idm_message *m, int err, CUresult r)
{
	worker_reply(w, &m->header, m->payload, err, r, NULL, 0);
}

/* Reply (if one is wanted) when what is queued in @s by now is over; free @buffer then. A capture has no @buffer. */
static void answer_later(struct worker *w, const struct idm_message *m, struct wstream *s, void *buffer, size_t size,
			 bool send)
{
	struct wait *f;
	CUresult r;

	/* What a stream captures is not over before the graph is launched. */
	if (!buffer && capture_active(s->real))
		return answer(w, m, 0, CUDA_SUCCESS);
	f = fence_stream(s, &r);
	if (!f) {
		/* Without an event the wait is made here. The copy itself was queued. */
		r = D.cuStreamSynchronize(s->real);
		worker_reply(w, &m->header, m->payload, 0, r, send ? buffer : NULL, send ? size : 0);
		free(buffer);
		return;
	}
	f->buffer = buffer;
	f->size = size;
	f->send = send;
	fence_for(f, m);
	/* A posted copy without a buffer to free needs nothing more. */
	fence_start(w, f);
}

/* The four kinds of copy, piece by piece as the arena is pinned. @s: NULL for the synchronous ones */
static CUresult to_device(struct worker *w, uint64_t dst, const char *src, uint64_t len, struct wstream *s)
{
	CUresult r = CUDA_SUCCESS;
	uint64_t n;

	for (; len && r == CUDA_SUCCESS; dst += n, src += n, len -= n) {
		n = arena_piece(w, src, len);
		r = s ? D.cuMemcpyHtoDAsync_v2(dst, src, n, s->real) : D.cuMemcpyHtoD_v2(dst, src, n);
	}
	return r;
}

static CUresult to_host(struct worker *w, char *dst, uint64_t src, uint64_t len, struct wstream *s)
{
	CUresult r = CUDA_SUCCESS;
	uint64_t n;

	for (; len && r == CUDA_SUCCESS; dst += n, src += n, len -= n) {
		n = arena_piece(w, dst, len);
		r = s ? D.cuMemcpyDtoHAsync_v2(dst, src, n, s->real) : D.cuMemcpyDtoH_v2(dst, src, n);
	}
	return r;
}

static bool wants_reply(const struct idm_message *m)
{
	return !(m->header.flags & IDM_FLAG_POSTED);
}

void worker_hand_copy_h2d(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_copy_h2d *q = m->payload;
	bool in_message;
	const void *src;
	struct wstream *s;
	CUresult r;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	in_message = q->src.offset == VGPU_DATA_INLINE;
	if (!payload_ends(m, sizeof(*q), in_message ? q->src.size : 0)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	src = in_message ? (const void *)(q + 1) : idm_server_arena(w->server, q->src.offset, q->src.size);
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->async ? q->stream : q->stream == 2 ? 2 : 0, &s);
	if (err)
		return answer(w, m, err, 0);
	if (!src || !address_ok(w, q->dst, q->src.size)) {
		worker_complain(w, "a copy of %llu bytes to %#llx, which is not memory of this session",
				(unsigned long long)q->src.size, (unsigned long long)q->dst);
		return answer(w, m, 0, CUDA_ERROR_INVALID_VALUE);
	}
	if (!q->src.size)
		return answer(w, m, 0, CUDA_SUCCESS);

	if (s == &s->ctx->legacy && legacy_idle(s->ctx))
		return answer(w, m, 0, to_device(w, q->dst, src, q->src.size, NULL));

	if (in_message) {
		/* The message is gone with the next one; the copy may come later, from bytes of its own. */
		struct wait *f;
		void *copy;

		/* A graph would copy again, from bytes that are long gone. */
		if (capture_active(s->real))
			return answer(w, m, 0, CUDA_ERROR_NOT_SUPPORTED);
		copy = malloc(q->src.size);
		if (!copy)
			return answer(w, m, 0, CUDA_ERROR_OUT_OF_MEMORY);
		memcpy(copy, src, q->src.size);
		stream_mark(s);
		r = to_device(w, q->dst, copy, q->src.size, s);
		/* A blocking copy is answered when it is done: other streams must find it there. */
		if (r == CUDA_SUCCESS && !q->async && wants_reply(m))
			return answer_later(w, m, s, copy, q->src.size, false);
		answer(w, m, 0, r);
		f = r == CUDA_SUCCESS ? fence_stream(s, &r) : NULL;
		if (f) {
			f->buffer = copy;
			f->size = q->src.size;
			fence_start(w, f);
		} else {
			if (r == CUDA_SUCCESS)
				D.cuStreamSynchronize(s->real);
			free(copy);
		}
		return;
	}
	stream_mark(s);
	r = to_device(w, q->dst, src, q->src.size, s);
	if (r != CUDA_SUCCESS || !wants_reply(m))
		return answer(w, m, 0, r);
	answer_later(w, m, s, NULL, 0, false);
}

/*
 * A copy from the device that has to wait, made by the dispatching thread. @dst: NULL for one into the reply
 * @return false if this thread may not wait, and nothing has been done
 */
static bool wait_here(struct worker *w, const struct idm_message *m, struct wstream *s, char *dst)
{
	const struct vgpu_copy_d2h q = *(const struct vgpu_copy_d2h *)m->payload;	/* gone from block_begin() on */
	const struct idm_header hdr = m->header;
	char small[IDM_PAYLOAD_MAX];
	CUresult r;

	if (!block_begin(w, s->ctx))
		return false;
	r = to_host(w, dst ? dst : small, q.src, q.dst.size, NULL);
	block_end();
	output_forward(w);
	worker_reply(w, &hdr, &q.call, 0, r, dst ? NULL : small, dst ? 0 : q.dst.size);
	return true;
}

void worker_hand_copy_d2h(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_copy_d2h *q = m->payload;
	bool in_reply;
	struct wstream *s;
	void *dst;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	in_reply = q->dst.offset == VGPU_DATA_INLINE;
	if (in_reply && (!wants_reply(m) || q->dst.size > IDM_PAYLOAD_MAX - sizeof(struct idm_response))) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->async ? q->stream : q->stream == 2 ? 2 : 0, &s);
	if (err)
		return answer(w, m, err, 0);
	dst = in_reply ? NULL : idm_server_arena(w->server, q->dst.offset, q->dst.size);
	if ((!in_reply && !dst) || !address_ok(w, q->src, q->dst.size)) {
		worker_complain(w, "a copy of %llu bytes from %#llx, which is not memory of this session",
				(unsigned long long)q->dst.size, (unsigned long long)q->src);
		return answer(w, m, 0, CUDA_ERROR_INVALID_VALUE);
	}
	if (!q->dst.size)
		return answer(w, m, 0, CUDA_SUCCESS);

	if (s == &s->ctx->legacy && legacy_idle(s->ctx)) {
		char small[IDM_PAYLOAD_MAX];

		r = to_host(w, in_reply ? small : dst, q->src, q->dst.size, NULL);
		output_forward(w);
		worker_reply(w, &m->header, &q->call, 0, r, in_reply ? small : NULL, in_reply ? q->dst.size : 0);
		return;
	}
	if (s == &s->ctx->legacy && !q->async && wants_reply(m) && wait_here(w, m, s, dst))
		return;
	if (in_reply) {
		if (capture_active(s->real))
			return answer(w, m, 0, CUDA_ERROR_NOT_SUPPORTED);
		dst = malloc(q->dst.size);
		if (!dst)
			return answer(w, m, 0, CUDA_ERROR_OUT_OF_MEMORY);
	}
	stream_mark(s);
	r = to_host(w, dst, q->src, q->dst.size, s);
	if (r != CUDA_SUCCESS || !wants_reply(m)) {
		if (in_reply)
			free(dst);
		return answer(w, m, 0, r);
	}
	answer_later(w, m, s, in_reply ? dst : NULL, in_reply ? q->dst.size : 0, in_reply);
}

static bool both_ok(struct worker *w, uint64_t dst, uint64_t src, uint64_t len)
{
	if (address_ok(w, dst, len) && address_ok(w, src, len))
		return true;
	worker_complain(w, "a copy of %llu bytes from %#llx to %#llx, not both memory of this session",
			(unsigned long long)len, (unsigned long long)src, (unsigned long long)dst);
	return false;
}

/* Either side may be arena memory. */
static CUresult between(struct worker *w, uint64_t dst, uint64_t src, uint64_t len, CUstream stream)
{
	CUresult r = CUDA_SUCCESS;

	while (len && r == CUDA_SUCCESS) {
		uint64_t n = arena_piece(w, (void *)(uintptr_t)src, arena_piece(w, (void *)(uintptr_t)dst, len));

		r = D.cuMemcpyDtoDAsync_v2(dst, src, n, stream);
		dst += n;
		src += n;
		len -= n;
	}
	return r;
}

static void copy_d2d(struct worker *w, const struct idm_message *m, uint64_t dst, uint64_t src, uint64_t len,
		     uint64_t stream)
{
	const struct vgpu_call *call = m->payload;
	CUresult r = CUDA_SUCCESS;
	void *real;
	int err;

	err = worker_enter(w, call);
	if (!err)
		err = worker_stream(w, call, stream, &real);
	if (!err)
		r = both_ok(w, dst, src, len) ? between(w, dst, src, len, real) : CUDA_ERROR_INVALID_VALUE;
	answer(w, m, err, r);
}

void worker_hand_cuMemcpyDtoD_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemcpyDtoD_v2 *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		copy_d2d(w, m, q->dstDevice, q->srcDevice, q->ByteCount, 0);
}

void worker_hand_cuMemcpyDtoDAsync_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuMemcpyDtoDAsync_v2 *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		copy_d2d(w, m, q->dstDevice, q->srcDevice, q->ByteCount, q->hStream);
}

/* --- boxes --------------------------------------------------------------------------------------------------------- */

bool box_extent(const struct box_place *b, const struct box_size *s, uint64_t *first, uint64_t *bytes)
{
	uint64_t slice, n;

	if (!s->width || !s->height || !s->depth)
		return false;
	/* Pitch 0 too, and 0 rows: drivers take it for something else. */
	if ((s->height > 1 || s->depth > 1 || b->y || b->z) && (s->width > b->pitch || b->x > b->pitch - s->width))
		return false;
	if ((s->depth > 1 || b->z) && (s->height > b->rows || b->y > b->rows - s->height))
		return false;
	return !__builtin_mul_overflow(b->pitch, b->rows, &slice) && !__builtin_mul_overflow(slice, b->z, first) &&
	       !__builtin_mul_overflow(b->pitch, b->y, &n) && !__builtin_add_overflow(*first, n, first) &&
	       !__builtin_add_overflow(*first, b->x, first) && !__builtin_mul_overflow(slice, s->depth - 1, bytes) &&
	       !__builtin_mul_overflow(b->pitch, s->height - 1, &n) && !__builtin_add_overflow(*bytes, n, bytes) &&
	       !__builtin_add_overflow(*bytes, s->width, bytes);
}

/* What is no array has x, y and z in its address. */
static bool reach(const struct vgpu_box_side *b, const struct vgpu_copy_box *q, uint64_t *end)
{
	const struct box_place place = { .pitch = b->pitch, .rows = b->rows };
	const struct box_size size = { q->width, q->height, q->depth };
	uint64_t first;

	return !b->x && !b->y && !b->z && box_extent(&place, &size, &first, end);
}

struct box_side {
	CUmemorytype type;
	void *host;
	CUdeviceptr device;
	CUarray array;
};

/* One side of a box, checked. The bounds of an array are the driver's to check. */
static CUresult side(struct worker *w, const struct vgpu_copy_box *q, const struct vgpu_box_side *b, struct box_side *out)
{
	uint64_t end;

	out->type = b->type;
	if (b->type == CU_MEMORYTYPE_ARRAY) {
		out->array = worker_handle(w, b->at, VGPU_H_ARRAY);
		return out->array ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
	}
	if (!reach(b, q, &end))
		return CUDA_ERROR_INVALID_VALUE;
	switch (b->type) {
	case CU_MEMORYTYPE_HOST:
		out->host = idm_server_arena(w->server, b->at, end);
		return out->host ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_MEMORYTYPE_DEVICE:
	case CU_MEMORYTYPE_UNIFIED:
		out->device = b->at;
		if (address_ok(w, b->at, end))
			return CUDA_SUCCESS;
		worker_complain(w, "a copy of a box that touches %#llx (%llu bytes), which is not memory of this session",
				(unsigned long long)b->at, (unsigned long long)end);
		return CUDA_ERROR_INVALID_VALUE;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static bool flat(const struct vgpu_copy_box *q, const struct box_side *src, const struct box_side *dst)
{
	return q->depth == 1 && !src->array && !dst->array;
}

static CUresult copy_flat(const struct vgpu_copy_box *q, const struct box_side *src, const struct box_side *dst,
			  const CUstream *stream)
{
	CUDA_MEMCPY2D c = {
		.srcMemoryType = src->type, .srcHost = src->host, .srcDevice = src->device, .srcPitch = q->src.pitch,
		.dstMemoryType = dst->type, .dstHost = dst->host, .dstDevice = dst->device, .dstPitch = q->dst.pitch,
		.WidthInBytes = q->width, .Height = q->height,
	};

	if (stream)
		return D.cuMemcpy2DAsync_v2(&c, *stream);
	return q->unaligned ? D.cuMemcpy2DUnaligned_v2(&c) : D.cuMemcpy2D_v2(&c);
}

static CUresult copy_deep(const struct vgpu_copy_box *q, const struct box_side *src, const struct box_side *dst,
			  const CUstream *stream)
{
	CUDA_MEMCPY3D c = {
		.srcMemoryType = src->type, .srcHost = src->host, .srcDevice = src->device, .srcArray = src->array,
		.srcPitch = q->src.pitch, .srcHeight = q->src.rows, .srcXInBytes = q->src.x, .srcY = q->src.y,
		.srcZ = q->src.z, .dstMemoryType = dst->type, .dstHost = dst->host, .dstDevice = dst->device,
		.dstArray = dst->array, .dstPitch = q->dst.pitch, .dstHeight = q->dst.rows, .dstXInBytes = q->dst.x,
		.dstY = q->dst.y, .dstZ = q->dst.z, .WidthInBytes = q->width, .Height = q->height, .Depth = q->depth,
	};

	if (stream)
		return D.cuMemcpy3DAsync_v2 ? D.cuMemcpy3DAsync_v2(&c, *stream) : CUDA_ERROR_NOT_SUPPORTED;
	return D.cuMemcpy3D_v2 ? D.cuMemcpy3D_v2(&c) : CUDA_ERROR_NOT_SUPPORTED;
}

void worker_hand_copy_box(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_copy_box *q = m->payload;
	struct box_side src = { 0 }, dst = { 0 };
	struct wstream *s;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->async ? q->stream : q->stream == 2 ? 2 : 0, &s);
	if (err)
		return answer(w, m, err, 0);
	if (!q->width || !q->height || !q->depth)
		return answer(w, m, 0, CUDA_SUCCESS);
	r = side(w, q, &q->src, &src);
	if (r == CUDA_SUCCESS)
		r = side(w, q, &q->dst, &dst);
	if (r != CUDA_SUCCESS)
		return answer(w, m, 0, r);
	if (s == &s->ctx->legacy && legacy_idle(s->ctx)) {
		r = flat(q, &src, &dst) ? copy_flat(q, &src, &dst, NULL) : copy_deep(q, &src, &dst, NULL);
		return answer(w, m, 0, r);
	}
	stream_mark(s);
	r = flat(q, &src, &dst) ? copy_flat(q, &src, &dst, &s->real) : copy_deep(q, &src, &dst, &s->real);
	if (r != CUDA_SUCCESS || !wants_reply(m))
		return answer(w, m, 0, r);
	answer_later(w, m, s, NULL, 0, false);
}
