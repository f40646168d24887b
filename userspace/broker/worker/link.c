// SPDX-License-Identifier: Apache-2.0
/* The linker: inputs arrive one by one, the image that comes out is fetched when it is complete. */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

#define LINK_LOG_MAX	(16u * 1024)
#define INPUT_MAX	(256ull << 20)
#define INPUTS_MAX	(1ull << 30)	/* of all links: the driver keeps them */
#define LINK_NAME_MAX	256u
#define LINKS_MAX	256u

#define OPTIONS_MAX	8

/*
 * struct link - aux of a link's handle. The driver writes into @logs, and how much it wrote into @values, until the link is
 * destroyed.
 */
struct link {
	CUlinkState state;
	void *values[OPTIONS_MAX];
	char *logs;		/* error log, info log */
	uint32_t log_size;	/* of each */
	const void *image;	/* the driver's, once complete */
	size_t size;
	uint64_t inputs;	/* bytes */
};

static unsigned int links;
static uint64_t inputs;

CUresult link_release(struct handle *e, bool driver)
{
	struct link *l = e->aux;
	CUresult r = CUDA_SUCCESS;

	if (driver)
		r = D.cuLinkDestroy ? D.cuLinkDestroy(l->state) : CUDA_ERROR_NOT_SUPPORTED;
	inputs -= l->inputs;
	links--;
	free(l->logs);
	free(l);
	e->aux = NULL;
	return r;
}

static struct link *find(struct worker *w, uint64_t h)
{
	struct handle *e = object_find(w, h, VGPU_H_LINK);

	return e ? e->aux : NULL;
}

/* The logs go with the answer, also when the call failed. */
static void answer(struct worker *w, const struct idm_message *m, const struct link *l, int err, CUresult r)
{
	struct vgpu_link_reply rp = { .size = l ? l->size : 0 };
	char *reply;

	if (l && l->log_size) {
		rp.error_len = strnlen(l->logs, l->log_size);
		rp.info_len = strnlen(l->logs + l->log_size, l->log_size);
	}
	reply = malloc(sizeof(rp) + rp.error_len + rp.info_len);
	if (reply) {
		memcpy(reply, &rp, sizeof(rp));
		if (rp.error_len)
			memcpy(reply + sizeof(rp), l->logs, rp.error_len);
		if (rp.info_len)
			memcpy(reply + sizeof(rp) + rp.error_len, l->logs + l->log_size, rp.info_len);
	}
	worker_reply_always(w, &m->header, m->payload, err, r, reply, reply ? sizeof(rp) + rp.error_len + rp.info_len : 0);
	free(reply);
}

void worker_hand_link_create(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_link_create *q = m->payload;
	CUjit_option ids[OPTIONS_MAX];
	struct link *l = NULL;
	struct handle *e;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	unsigned int n = 0;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, VGPU_H_LINK);
	if (err || !D.cuLinkCreate_v2)
		goto out;
	r = CUDA_ERROR_OUT_OF_MEMORY;
	l = links < LINKS_MAX ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		goto out;
	l->log_size = q->log_size < LINK_LOG_MAX ? q->log_size : LINK_LOG_MAX;
	if (l->log_size) {
		l->logs = calloc(2, l->log_size);
		if (!l->logs)
			goto out;
		ids[n] = CU_JIT_ERROR_LOG_BUFFER;
		l->values[n++] = l->logs;
		ids[n] = CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES;
		l->values[n++] = (void *)(uintptr_t)l->log_size;
		ids[n] = CU_JIT_INFO_LOG_BUFFER;
		l->values[n++] = l->logs + l->log_size;
		ids[n] = CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES;
		l->values[n++] = (void *)(uintptr_t)l->log_size;
	}
	if (q->max_registers) {
		ids[n] = CU_JIT_MAX_REGISTERS;
		l->values[n++] = (void *)(uintptr_t)q->max_registers;
	}
	if (q->opt_level) {
		ids[n] = CU_JIT_OPTIMIZATION_LEVEL;
		l->values[n++] = (void *)(uintptr_t)q->opt_level;
	}
	r = D.cuLinkCreate_v2(n, ids, l->values, &l->state);
	if (r == CUDA_SUCCESS) {
		err = worker_handle_add(w, q->handle, VGPU_H_LINK, l->state);
		e = err ? NULL : object_find(w, q->handle, VGPU_H_LINK);
		if (e) {
			e->aux = l;
			l = NULL;
			links++;
		}
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
	if (l) {
		free(l->logs);
		free(l);
	}
}

void worker_hand_link_add(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_link_add *q = m->payload;
	char name[LINK_NAME_MAX], *copy = NULL;
	struct link *l = NULL;
	CUresult r = CUDA_SUCCESS;
	const void *src;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (q->name_len >= LINK_NAME_MAX || !payload_ends(m, sizeof(*q), q->name_len)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	memcpy(name, q + 1, q->name_len);
	name[q->name_len] = '\0';
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	l = find(w, q->link);
	src = idm_server_arena(w->server, q->data.offset, q->data.size);
	if (!l || !src || q->data.size > INPUT_MAX) {
		err = l ? IDM_ERROR_INVALID_SIZE : IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	/* One copy, with zeros behind it: text may lack its own. */
	if (inputs + q->data.size <= INPUTS_MAX)
		copy = malloc(q->data.size + 16);
	if (!copy) {
		err = IDM_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	memcpy(copy, src, q->data.size);
	memset(copy + q->data.size, 0, 16);
	r = D.cuLinkAddData_v2 ? D.cuLinkAddData_v2(l->state, q->type, copy, q->data.size, name, 0, NULL, NULL) :
				 CUDA_ERROR_NOT_SUPPORTED;
	l->inputs += q->data.size;
	inputs += q->data.size;
out:
	answer(w, m, l, err, r);
	free(copy);
}

void worker_hand_link_complete(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_link_complete *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct link *l = NULL;
	void *image, *to;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	l = find(w, q->link);
	to = idm_server_arena(w->server, q->image.offset, q->image.size);
	if (!l || !to) {
		err = l ? IDM_ERROR_INVALID_SIZE : IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	r = CUDA_SUCCESS;
	if (!l->image) {
		r = D.cuLinkComplete ? D.cuLinkComplete(l->state, &image, &l->size) : CUDA_ERROR_NOT_SUPPORTED;
		if (r == CUDA_SUCCESS)
			l->image = image;
	}
	if (l->image)
		memcpy(to, l->image, q->image.size < l->size ? q->image.size : l->size);
out:
	answer(w, m, l, err, r);
}

void worker_hand_cuLinkDestroy(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuLinkDestroy *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct handle *e;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err) {
		e = object_find(w, q->state, VGPU_H_LINK);
		if (!e) {
			err = IDM_ERROR_INVALID_HANDLE;
		} else {
			r = link_release(e, true);
			handle_remove(&w->handles, e);
		}
	}
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
