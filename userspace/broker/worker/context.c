// SPDX-License-Identifier: Apache-2.0
/*
 * Contexts and streams. The client says with every call which context is current for its thread; cuCtxSetCurrent()
 * is called only when that changes.
 *
 * Streams are listed in their context as soon as something may be pending in them, and leave the list when the driver
 * says, without waiting, that nothing is. So the question before a blocking call costs a few cuStreamQuery(), and
 * nothing at all in a session that synchronises regularly.
 */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

struct wctx *context_new(uint64_t handle, CUcontext real, int device)
{
	struct wctx *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->handle = handle;
	c->real = real;
	c->root = c;
	c->device = device;
	c->refs = 1;
	c->legacy.ctx = c;
	c->legacy.real = CU_STREAM_LEGACY;
	pthread_mutex_init(&c->pool_lock, NULL);
	return c;
}

/* The pooled events went with the driver's context. */
void context_put(struct wctx *c)
{
	struct thread_stream *t, *next;

	if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (t = c->threads; t; t = next) {
		next = t->next;
		free(t);
	}
	pthread_mutex_destroy(&c->pool_lock);
	free(c);
}

void stream_mark(struct wstream *s)
{
	struct wctx *c = s->ctx;

	if (s->dirty)
		return;
	s->dirty = true;
	s->next = c->dirty;
	s->prev = &c->dirty;
	if (s->next)
		s->next->prev = &s->next;
	c->dirty = s;
}

void stream_unlist(struct wstream *s)
{
	if (!s->dirty)
		return;
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->dirty = false;
}

bool stream_idle(struct wstream *s)
{
	if (!s->dirty)
		return true;
	if (capture_active(s->real)) {
		stream_unlist(s);
		return true;
	}
	/* The legacy stream while a blocking one captures: to ask it anything would end that capture. */
	if (capture_forbids(s->real))
		return true;
	if (D.cuStreamQuery(s->real) == CUDA_ERROR_NOT_READY)
		return false;
	/* An error counts as idle: whatever asks next will be told of it. */
	stream_unlist(s);
	return true;
}

void context_visit(const struct wctx *c)
{
	if (c != worker.current)
		D.cuCtxSetCurrent(c->real);
}

void context_leave(const struct wctx *c)
{
	if (c != worker.current)
		D.cuCtxSetCurrent(worker.current ? worker.current->real : NULL);
}

static bool streams_idle(struct wctx *c, bool nonblocking_too)
{
	struct wstream *s, *next;
	bool idle = true;

	if (!c->dirty)
		return true;
	context_visit(c);
	for (s = c->dirty; s; s = next) {
		next = s->next;
		if (s->nonblocking && !nonblocking_too)
			continue;
		if (!stream_idle(s))
			idle = false;
	}
	context_leave(c);
	return idle;
}

static bool all_idle(struct wctx *c, bool nonblocking_too)
{
	bool idle = streams_idle(c, nonblocking_too);

	for (struct wctx *g = c->greens; g; g = g->sibling)
		idle = streams_idle(g, nonblocking_too) && idle;
	return idle;
}

bool legacy_idle(struct wctx *c)
{
	return all_idle(c, false);
}

bool context_idle(struct wctx *c)
{
	return all_idle(c, true);
}

struct wctx *context_find(struct worker *w, uint64_t h)
{
	struct handle *e;
	uint32_t index = VGPU_HANDLE_INDEX(h) - 1;
	struct wctx *c;

	if (index < w->ndevices && h == VGPU_PRIMARY_CTX(index))
		return w->primary[index];
	e = object_find(w, h, VGPU_H_CTX);
	c = e ? e->aux : NULL;
	return c && !c->dead ? c : NULL;
}

void context_set_none(struct worker *w)
{
	D.cuCtxSetCurrent(NULL);
	w->current = NULL;
	w->current_handle = 0;
}

CUresult context_borrow(struct worker *w, CUcontext *made)
{
	CUresult r;

	*made = NULL;
	if (w->current)
		return CUDA_SUCCESS;
	for (unsigned int i = 0; i < w->ndevices; i++)
		if (w->primary[i])
			return D.cuCtxSetCurrent(w->primary[i]->real);
	r = D.cuDevicePrimaryCtxRetain(made, w->ordinals[0]);
	if (r != CUDA_SUCCESS)
		return r;
	r = D.cuCtxSetCurrent(*made);
	if (r != CUDA_SUCCESS)
		D.cuDevicePrimaryCtxRelease(w->ordinals[0]);
	return r;
}

void context_give_back(struct worker *w, CUcontext made)
{
	if (w->current)
		return;
	context_set_none(w);
	if (made)
		D.cuDevicePrimaryCtxRelease(w->ordinals[0]);
}

int worker_enter(struct worker *w, const struct vgpu_call *call)
{
	struct wctx *c;

	if (__builtin_expect(hook_waiting(), 0))
		hook_reap(w);
	if (call->ctx == w->current_handle)
		return 0;
	if (!call->ctx) {
		context_set_none(w);
		return 0;
	}
	c = context_find(w, call->ctx);
	if (!c)
		return IDM_ERROR_INVALID_HANDLE;
	if (D.cuCtxSetCurrent(c->real) != CUDA_SUCCESS)
		return IDM_ERROR_INVALID_HANDLE;
	w->current = c;
	w->current_handle = call->ctx;
	return 0;
}

/* The default stream that this client thread has of its own: an ordinary blocking stream here. */
static struct wstream *thread_stream(struct wctx *c, uint32_t thread)
{
	struct thread_stream *t, **p;

	for (p = &c->threads; (t = *p); p = &t->next) {
		if (t->thread != thread)
			continue;
		/* The most recent one first: threads come and go, lists stay short where it matters. */
		*p = t->next;
		t->next = c->threads;
		c->threads = t;
		return &t->stream;
	}
	if (c->nthreads >= THREADS_MAX)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	if (D.cuStreamCreate(&t->stream.real, CU_STREAM_DEFAULT) != CUDA_SUCCESS) {
		free(t);
		return NULL;
	}
	t->thread = thread;
	t->stream.ctx = c;
	t->next = c->threads;
	c->threads = t;
	c->nthreads++;
	return &t->stream;
}

int stream_of(struct worker *w, const struct vgpu_call *call, uint64_t h, struct wstream **out)
{
	struct handle *e;

	if (h <= 2) {
		/* Green contexts have no default streams for threads. */
		if (!w->current || (h == 2 && w->current->root != w->current))
			return IDM_ERROR_INVALID_HANDLE;
		*out = h == 2 ? thread_stream(w->current, call->thread) : &w->current->legacy;
		return *out ? 0 : IDM_ERROR_OUT_OF_MEMORY;
	}
	e = object_find(w, h, VGPU_H_STREAM);
	if (!e)
		return IDM_ERROR_INVALID_HANDLE;
	*out = e->aux;
	return 0;
}

int worker_stream(struct worker *w, const struct vgpu_call *call, uint64_t h, void **out)
{
	struct wstream *s;
	int err = stream_of(w, call, h, &s);

	if (err)
		return err;
	stream_mark(s);
	*out = s->real;
	return 0;
}

int worker_device(struct worker *w, uint64_t device)
{
	return device < w->ndevices ? w->ordinals[device] : -1;
}

uint32_t device_number(struct worker *w, uint64_t device)
{
	return device < w->ndevices ? w->numbers[device] : UINT32_MAX;
}

uint32_t device_of_number(struct worker *w, uint32_t number)
{
	for (uint32_t i = 0; i < w->ndevices; i++)
		if (w->numbers[i] == number)
			return i;
	return UINT32_MAX;
}

static bool in_context(struct handle *e, void *arg)
{
	const struct wctx *c = arg;

	if (e->ctx != c->handle)
		return false;
	object_release_aux(e);
	return true;
}

static bool is_link_of(struct handle *e, void *arg)
{
	const struct wctx *c = arg;

	if (e->ctx != c->handle || VGPU_HANDLE_TYPE(e->value) != VGPU_H_LINK)
		return false;
	link_release(e, true);
	return true;
}

void context_settle(struct worker *w, struct wctx *c)
{
	fence_drain_frees(w);
	fence_settle(w, &c->refs, 1);
	for (struct wctx *g = c->greens; g; g = g->sibling)
		fence_settle(w, &g->refs, 1);
	handle_purge(&w->handles, is_link_of, c);
}

void context_add_green(struct wctx *root, struct wctx *c)
{
	c->root = root;
	c->sibling = root->greens;
	root->greens = c;
}

static bool stream_in(struct handle *e, void *arg)
{
	struct wstream *s = VGPU_HANDLE_TYPE(e->value) == VGPU_H_STREAM ? e->aux : NULL;

	if (!s || s->ctx != arg)
		return false;
	capture_stream_ends(&worker, s->real);
	stream_unlist(s);
	watch_end(s);
	D.cuStreamDestroy_v2(s->real);
	object_release_aux(e);
	return true;
}

/* The driver would keep the streams of a green context that has ended, for nobody. */
void context_end_streams(struct worker *w, struct wctx *c)
{
	if (c->dead)
		return;
	handle_purge(&w->handles, stream_in, c);
	if (c->behind_legacy)
		D.cuStreamDestroy_v2(c->behind_legacy);
	c->behind_legacy = NULL;
}

void context_forget_green(struct worker *w, struct wctx *c)
{
	struct wctx **p;

	if (!c->dead) {
		c->dead = true;
		capture_context_ends(w, c);
		for (p = &c->root->greens; *p != c; p = &(*p)->sibling)
			;
		*p = c->sibling;
	}
	if (c->handle)
		worker_handle_del(w, c->handle, VGPU_H_CTX);
	if (w->current == c)
		context_set_none(w);
	context_put(c);
}


void context_forget(struct worker *w, struct wctx *c)
{
	c->dead = true;
	c->dirty = NULL;
	capture_context_ends(w, c);
	/* Green ones end with it, whose streams go now. */
	for (struct wctx *g = c->greens; g; g = g->sibling) {
		g->dead = true;
		g->dirty = NULL;
		capture_context_ends(w, g);
		if (w->current == g)
			context_set_none(w);
	}
	c->greens = NULL;
	handle_purge(&w->handles, in_context, c);
	lease_uncharge(w, range_remove_owner(&w->ranges, c->handle));
	lease_uncharge(w, __atomic_exchange_n(&c->stuck, 0, __ATOMIC_RELAXED));
	lease_uncharge(w, c->limits[0] + c->limits[1]);
	c->limits[0] = c->limits[1] = 0;
	if (w->current == c)
		context_set_none(w);
	arena_unpinned(w, c);
	context_put(c);
}

/* --- messages ---------------------------------------------------------------------------------------------- */

static void enter_new(struct worker *w, struct wctx *c)
{
	w->current = c;
	w->current_handle = c->handle;
	arena_pin(w);
}

void worker_hand_cuDevicePrimaryCtxRetain(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuDevicePrimaryCtxRetain *q = m->payload;
	CUcontext real = NULL;
	CUresult r;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	r = q->dev < w->ndevices ? D.cuDevicePrimaryCtxRetain(&real, w->ordinals[q->dev]) : CUDA_ERROR_INVALID_DEVICE;
	if (r == CUDA_SUCCESS) {
		struct wctx *c = w->primary[q->dev];

		w->had_context[q->dev] = true;
		if (c && c->real != real) {
			context_forget(w, c);
			w->primary[q->dev] = c = NULL;
		}
		if (!c) {
			c = context_new(VGPU_PRIMARY_CTX(q->dev), real, q->dev);
			w->primary[q->dev] = c;
		}
		if (!c) {
			D.cuDevicePrimaryCtxRelease_v2(w->ordinals[q->dev]);
			r = CUDA_ERROR_OUT_OF_MEMORY;
		} else {
			w->retained[q->dev]++;
			if (D.cuCtxSetCurrent(real) == CUDA_SUCCESS)
				enter_new(w, c);
		}
	}
	worker_reply(w, &m->header, &q->call, 0, r, NULL, 0);
}

static void primary_gone(struct worker *w, unsigned int dev)
{
	struct wctx *c = w->primary[dev];

	w->primary[dev] = NULL;
	if (c)
		context_forget(w, c);
}

void primary_settle(struct worker *w, unsigned int dev)
{
	if (w->primary[dev])
		context_settle(w, w->primary[dev]);
}

void primary_released(struct worker *w, unsigned int dev)
{
	if (!w->retained[dev] && !w->greens[dev])
		primary_gone(w, dev);
}

/* The client's last one: it retains once, and again when it begins anew after a reset. */
void worker_hand_cuDevicePrimaryCtxRelease_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuDevicePrimaryCtxRelease_v2 *q = m->payload;
	CUresult r = CUDA_ERROR_INVALID_DEVICE;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	if (q->dev < w->ndevices && !w->retained[q->dev]) {
		r = CUDA_ERROR_INVALID_CONTEXT;
	} else if (q->dev < w->ndevices) {
		unsigned int dev = q->dev;

		if (!w->greens[dev]) {
			primary_settle(w, dev);
			if (w->primary[dev])
				capture_context_settle(w, w->primary[dev]);
		}
		for (r = CUDA_SUCCESS; w->retained[dev]; w->retained[dev]--) {
			CUresult one = D.cuDevicePrimaryCtxRelease_v2(w->ordinals[dev]);

			r = r == CUDA_SUCCESS ? one : r;
		}
		primary_released(w, dev);
	}
	output_forward(w);
	worker_reply(w, &m->header, &q->call, 0, r, NULL, 0);
}

/* The context loses its contents and can't be used, but stays retained, also in the driver. */
void worker_hand_cuDevicePrimaryCtxReset_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuDevicePrimaryCtxReset_v2 *q = m->payload;
	CUresult r = CUDA_ERROR_INVALID_DEVICE;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	if (q->dev < w->ndevices) {
		struct wctx *old = w->primary[q->dev];
		int device = q->dev;

		if (old)
			context_settle(w, old);
		/* With green ones the driver may refuse. */
		if (old && !w->greens[device])
			capture_context_settle(w, old);
		r = D.cuDevicePrimaryCtxReset_v2(w->ordinals[device]);
		if (r == CUDA_SUCCESS)
			primary_gone(w, device);
	}
	output_forward(w);
	worker_reply(w, &m->header, &q->call, 0, r, NULL, 0);
}

void worker_hand_cuCtxCreate_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuCtxCreate_v2 *q = m->payload;
	struct handle *e;
	struct wctx *c;
	CUcontext real;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_handle_free(w, q->pctx, VGPU_H_CTX);
	if (!err && VGPU_HANDLE_GEN(q->pctx) == 0)
		err = IDM_ERROR_INVALID_HANDLE;	/* could be mistaken for a primary one */
	if (err) {
		worker_reply(w, &m->header, &q->call, err, 0, NULL, 0);
		return;
	}
	r = q->dev < w->ndevices ? D.cuCtxCreate_v2(&real, q->flags, w->ordinals[q->dev]) : CUDA_ERROR_INVALID_DEVICE;
	if (r == CUDA_SUCCESS) {
		/* Keep the driver's stack of this thread one deep: the client's stacks are the shim's business. */
		CUcontext popped;

		D.cuCtxPopCurrent_v2(&popped);
		D.cuCtxSetCurrent(real);
		w->had_context[q->dev] = true;
		c = context_new(q->pctx, real, q->dev);
		e = c ? handle_add(&w->handles, q->pctx, VGPU_H_CTX, real) : NULL;
		if (!e) {
			free(c);
			D.cuCtxDestroy_v2(real);
			context_set_none(w);
			r = CUDA_ERROR_OUT_OF_MEMORY;
		} else {
			e->aux = c;
			enter_new(w, c);
		}
	}
	worker_reply(w, &m->header, &q->call, 0, r, NULL, 0);
}

void worker_hand_cuCtxDestroy_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuCtxDestroy_v2 *q = m->payload;
	struct handle *e;
	CUresult r = CUDA_SUCCESS;
	int err = 0;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	e = object_find(w, q->ctx, VGPU_H_CTX);
	if (e && ((struct wctx *)e->aux)->root != e->aux) {
		r = CUDA_ERROR_INVALID_CONTEXT;
	} else if (e) {
		struct wctx *c = e->aux;
		CUcontext real = c->real;

		handle_remove(&w->handles, e);
		context_settle(w, c);
		capture_context_settle(w, c);
		r = D.cuCtxDestroy_v2(real);
		context_forget(w, c);
		output_forward(w);
	} else {
		err = IDM_ERROR_INVALID_HANDLE;
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/*
 * The heap of malloc() in kernels and the buffer of printf() are device memory that the driver takes when the limit
 * says so. What a client wants above the defaults counts as its own.
 */
void worker_hand_cuCtxSetLimit(struct worker *w, const struct idm_message *m)
{
	static const uint64_t defaults[2] = { 8ull << 20, 1ull << 20 };
	const struct vgpu_rq_cuCtxSetLimit *q = m->payload;
	uint64_t charge, more, *charged = NULL;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	unsigned int which;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (err || !D.cuCtxSetLimit)
		goto out;
	which = q->limit == CU_LIMIT_PRINTF_FIFO_SIZE;
	if (w->current && (which || q->limit == CU_LIMIT_MALLOC_HEAP_SIZE))
		charged = &w->current->root->limits[which];
	charge = charged && q->value > defaults[which] ? q->value - defaults[which] : 0;
	more = charged && charge > *charged ? charge - *charged : 0;
	if (more && !memory_charge(w, more)) {
		r = CUDA_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	r = D.cuCtxSetLimit((CUlimit)q->limit, q->value);
	if (r != CUDA_SUCCESS) {
		lease_uncharge(w, more);
	} else if (charged) {
		lease_uncharge(w, *charged > charge ? *charged - charge : 0);
		*charged = charge;
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
