// SPDX-License-Identifier: Apache-2.0
/*
 * The client's board: words of its arena that the GPU writes when an event is complete, so that the client need not ask.
 * The board is the client's to look at and to spoil; nothing here reads it.
 *
 * The write is no work of the client's, and must not be seen in its stream (cuStreamQuery). So each stream that is
 * watched has a shadow, in which nothing happens but waiting for events and writing.
 */
#include "worker.h"

static CUstream shadow_of(struct wstream *s)
{
	if (!s->shadow && D.cuStreamCreate(&s->shadow, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS)
		s->shadow = NULL;
	return s->shadow;
}

void watch_end(struct wstream *s)
{
	if (s->shadow)
		D.cuStreamDestroy_v2(s->shadow);
	s->shadow = NULL;
}

/* Nobody is told of a failure: the client sees no word written, and asks. */
void worker_hand_watch(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_watch *q = m->payload;
	struct handle *event;
	struct wstream *s;
	CUstream shadow;
	void *place;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	place = q->place % sizeof(uint64_t) ? NULL : idm_server_arena(w->server, q->place, sizeof(uint64_t));
	if (!place || !D.cuStreamWriteValue64_v2 || !D.cuStreamWaitEvent || worker_enter(w, &q->call) || !w->current ||
	    stream_of(w, &q->call, q->stream, &s) || s->ctx->root != w->current->root || capture_active(s->real))
		goto out;
	event = object_find(w, q->event, VGPU_H_EVENT);
	shadow = event ? shadow_of(s) : NULL;
	if (shadow && D.cuStreamWaitEvent(shadow, event->object, 0) == CUDA_SUCCESS)
		D.cuStreamWriteValue64_v2(shadow, (CUdeviceptr)(uintptr_t)place, q->ticket, CU_STREAM_WRITE_VALUE_DEFAULT);
out:
	worker_reply(w, &m->header, &q->call, 0, 0, NULL, 0);
}
