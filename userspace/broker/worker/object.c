// SPDX-License-Identifier: Apache-2.0
/* Handles: the generated decoders' hooks, and what ends an object's life. */
#include <errno.h>
#include <stdlib.h>

#include "worker.h"

struct handle *object_find(struct worker *w, uint64_t h, enum vgpu_handle_type t)
{
	struct handle *e = handle_find(&w->handles, h, t);

	if (!e)
		worker_complain(w, "handle %#llx is none of this session's", (unsigned long long)h);
	return e;
}

void *worker_handle(struct worker *w, uint64_t h, enum vgpu_handle_type t)
{
	struct handle *e;
	uint32_t index = VGPU_HANDLE_INDEX(h) - 1;

	if (t == VGPU_H_CTX && index < w->ndevices && h == VGPU_PRIMARY_CTX(index))
		return w->primary[index] ? w->primary[index]->real : NULL;
	e = object_find(w, h, t);
	/* A green one may have ended with its primary one. */
	if (e && t == VGPU_H_CTX && ((const struct wctx *)e->aux)->dead)
		return NULL;
	return e ? e->object : NULL;
}

int worker_handle_free(struct worker *w, uint64_t h, enum vgpu_handle_type t)
{
	switch (handle_room(&w->handles, h, t)) {
	case 0:
		return 0;
	case -EEXIST:
		worker_violation(w, "it names a new object %#llx, whose place is taken", (unsigned long long)h);
		return IDM_ERROR_INVALID_HANDLE;
	case -EINVAL:
		worker_violation(w, "it names a new object %#llx, which is no handle of that type",
				 (unsigned long long)h);
		return IDM_ERROR_INVALID_HANDLE;
	default:
		return IDM_ERROR_OUT_OF_MEMORY;
	}
}

/* What the worker itself must know of an object. */
static void *make_aux(struct worker *w, enum vgpu_handle_type t, void *obj, bool *ok)
{
	struct wstream *s;
	struct wevent *e;
	unsigned int flags = 0;

	*ok = true;
	if (t == VGPU_H_STREAM) {
		s = calloc(1, sizeof(*s));
		*ok = s && w->current;
		if (!*ok) {
			free(s);
			return NULL;
		}
		s->real = obj;
		s->ctx = w->current;
		if (D.cuStreamGetFlags && D.cuStreamGetFlags(obj, &flags) == CUDA_SUCCESS)
			s->nonblocking = flags & CU_STREAM_NON_BLOCKING;
		return s;
	}
	if (t == VGPU_H_EVENT) {
		e = calloc(1, sizeof(*e));
		*ok = e;
		if (!e)
			return NULL;
		e->real = obj;
		e->refs = 1;
		return e;
	}
	return NULL;
}

int worker_handle_add(struct worker *w, uint64_t h, enum vgpu_handle_type t, void *obj)
{
	struct handle *e;
	void *aux;
	bool ok;

	aux = make_aux(w, t, obj, &ok);
	if (!ok)
		return IDM_ERROR_OUT_OF_MEMORY;
	e = handle_add(&w->handles, h, t, obj);
	if (!e) {
		free(aux);
		return IDM_ERROR_INVALID_HANDLE;
	}
	e->aux = aux;
	/* Libraries, kernels, pools and graphs outlive contexts; all else ends with its own. */
	if (t != VGPU_H_LIBRARY && t != VGPU_H_MEMPOOL && t != VGPU_H_KERNEL && t != VGPU_H_CTX &&
	    t != VGPU_H_GRAPH && t != VGPU_H_GRAPHNODE && t != VGPU_H_GRAPHEXEC && t != VGPU_H_USEROBJ &&
	    t != VGPU_H_GREENCTX && t != VGPU_H_RESDESC)
		e->ctx = context_owner(w);
	return 0;
}

void event_put(struct wevent *e)
{
	if (__atomic_sub_fetch(&e->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (e->real)
		D.cuEventDestroy_v2(e->real);
	ipc_drop(e->shared);
	free(e);
}

/* The table lets go of @e whose driver object is gone, or goes with its context or module. */
void object_release_aux(struct handle *e)
{
	struct wevent *event;
	struct image *image;

	switch (VGPU_HANDLE_TYPE(e->value)) {
	case VGPU_H_STREAM:
		free(e->aux);
		break;
	case VGPU_H_EVENT:
		event = e->aux;
		event->real = NULL;	/* the context destroyed it */
		ipc_unlist(event->shared);
		event_put(event);
		break;
	case VGPU_H_MEMPOOL:
		pool_forget(&worker, e->object);
		break;
	case VGPU_H_ARRAY:
	case VGPU_H_MIPMAP:
		array_release(e);
		break;
	case VGPU_H_LINK:
		if (e->aux)
			link_release(e, false);
		break;
	case VGPU_H_MODULE:
	case VGPU_H_LIBRARY:
		image = e->aux;
		if (image) {
			worker.image_bytes -= image->size;
			lease_uncharge(&worker, image->charged);
			image_free(image);
		}
		break;
	}
	e->aux = NULL;
}

void *worker_handle_del(struct worker *w, uint64_t h, enum vgpu_handle_type t)
{
	struct handle *e = object_find(w, h, t);
	void *object;

	if (!e)
		return NULL;
	object = e->object;
	object_release_aux(e);
	handle_remove(&w->handles, e);
	return object;
}

uint64_t worker_handle_of(struct worker *w, void *obj, enum vgpu_handle_type t)
{
	uint32_t i;

	for (i = 0; i < w->handles.cap; i++)
		if (w->handles.slots[i].object == obj && w->handles.slots[i].value &&
		    VGPU_HANDLE_TYPE(w->handles.slots[i].value) == t)
			return w->handles.slots[i].value;
	return 0;
}

void worker_hand_cuStreamDestroy_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuStreamDestroy_v2 *q = m->payload;
	struct handle *e;
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err) {
		e = object_find(w, q->hStream, VGPU_H_STREAM);
		if (!e) {
			err = IDM_ERROR_INVALID_HANDLE;
		} else {
			struct wstream *s = e->aux;

			capture_stream_ends(w, s->real);
			/* What is queued in it goes on: cuCtxSynchronize() waits for it, by the driver's own count. */
			stream_unlist(s);
			fence_settle(w, &s->waits, 0);
			watch_end(s);
			r = D.cuStreamDestroy_v2(s->real);
			free(s);
			handle_remove(&w->handles, e);
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuEventDestroy_v2(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuEventDestroy_v2 *q = m->payload;
	struct handle *e;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err) {
		e = object_find(w, q->hEvent, VGPU_H_EVENT);
		if (!e) {
			err = IDM_ERROR_INVALID_HANDLE;
		} else {
			ipc_unlist(((struct wevent *)e->aux)->shared);
			event_put(e->aux);
			handle_remove(&w->handles, e);
		}
	}
	worker_reply(w, &m->header, &q->call, err, 0, NULL, 0);
}
