// SPDX-License-Identifier: Apache-2.0
/*
 * The synchronize calls: answered on the spot where nothing is pending, waited for by the dispatching thread itself
 * where that holds nobody up, else a wait.
 */
#include <string.h>

#include "worker.h"

static void done(struct worker *w, const struct idm_message *m, int err, CUresult r)
{
	if (!err)
		output_forward(w);
	worker_reply(w, &m->header, m->payload, err, r, NULL, 0);
}

static void start(struct worker *w, const struct idm_message *m, struct wait *f)
{
	fence_for(f, m);
	f->output = true;
	fence_start(w, f);
}

/* For a wait in the dispatching thread: what the reply needs, since the message is gone from block_begin() on. */
struct caller {
	struct idm_header hdr;
	struct vgpu_call call;
};

static struct caller caller_of(const struct idm_message *m)
{
	struct caller c = { .hdr = m->header };

	memcpy(&c.call, m->payload, sizeof(c.call));
	return c;
}

static void waited(struct worker *w, const struct caller *c, CUresult r)
{
	output_forward(w);
	worker_reply(w, &c->hdr, &c->call, 0, r, NULL, 0);
}

void worker_hand_cuCtxSynchronize(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuCtxSynchronize *q = m->payload;
	struct caller caller;
	struct wait *f;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		return done(w, m, err, 0);
	if (!w->current || context_idle(w->current))
		return done(w, m, 0, D.cuCtxSynchronize());
	caller = caller_of(m);
	if (block_begin(w, w->current)) {
		r = D.cuCtxSynchronize();
		block_end();
		return waited(w, &caller, r);
	}
	f = fence_context(w->current, &r);
	if (!f)
		return done(w, m, 0, r);
	start(w, m, f);
}

void worker_hand_cuStreamSynchronize(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuStreamSynchronize *q = m->payload;
	struct caller caller;
	struct wstream *s;
	struct wait *f;
	CUstream real;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->hStream, &s);
	if (err)
		return done(w, m, err, 0);
	if (s == &s->ctx->legacy ? legacy_idle(s->ctx) : stream_idle(s))
		return done(w, m, 0, D.cuStreamSynchronize(s->real));
	caller = caller_of(m);
	real = s->real;
	__atomic_add_fetch(&s->waits, 1, __ATOMIC_RELAXED);	/* from here on it is not destroyed */
	if (block_begin(w, s->ctx)) {
		r = D.cuStreamSynchronize(real);
		fence_let_go(&s->waits);
		block_end();
		return waited(w, &caller, r);
	}
	__atomic_sub_fetch(&s->waits, 1, __ATOMIC_RELAXED);
	f = fence_stream(s, &r);
	if (!f)
		return done(w, m, 0, r);
	start(w, m, f);
}

void worker_hand_cuEventSynchronize(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuEventSynchronize *q = m->payload;
	struct caller caller;
	struct wevent *event;
	struct wctx *owner;
	struct handle *e;
	struct wait *f;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		return done(w, m, err, 0);
	e = object_find(w, q->hEvent, VGPU_H_EVENT);
	if (!e)
		return done(w, m, IDM_ERROR_INVALID_HANDLE, 0);
	r = D.cuEventQuery(e->object);
	if (r == CUDA_SUCCESS)
		return done(w, m, 0, D.cuEventSynchronize(e->object));	/* what was printed comes out by that alone */
	/* The event's own context, not the caller's: that is what must not go meanwhile. */
	owner = e->ctx ? context_find(w, e->ctx) : NULL;
	if (r != CUDA_ERROR_NOT_READY || !owner)
		return done(w, m, 0, r == CUDA_ERROR_NOT_READY ? D.cuEventSynchronize(e->object) : r);
	caller = caller_of(m);
	event = e->aux;
	__atomic_add_fetch(&event->refs, 1, __ATOMIC_RELAXED);
	if (block_begin(w, owner)) {
		r = D.cuEventSynchronize(event->real);
		event_put(event);
		block_end();
		return waited(w, &caller, r);
	}
	f = fence_event(owner, event);
	event_put(event);
	if (!f)
		return done(w, m, 0, CUDA_ERROR_OUT_OF_MEMORY);
	start(w, m, f);
}
