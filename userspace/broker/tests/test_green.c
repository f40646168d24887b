// SPDX-License-Identifier: Apache-2.0
/* Green contexts and a driver that has ended them by itself; with the worker's other files in short. */
#include <stdlib.h>

#include "../worker/worker.h"
#include "tap.h"

struct worker_driver worker_driver;

static struct wctx primary = { .root = &primary, .refs = 1 };
static struct worker w = { .ndevices = 1, .primary = { &primary } };
static struct handle slot;		/* of the only green context */
static CUresult says, answer;
static unsigned int released;		/* primary_released() when nobody had the primary context any more */
static struct wctx known;		/* the green context as an ordinary one */
static int forgotten;

static CUresult fake_create(CUgreenCtx *out, CUdevResourceDesc desc, CUdevice dev, unsigned int flags)
{
	*out = (CUgreenCtx)&w;
	return CUDA_SUCCESS;
}

static CUresult fake_destroy(CUgreenCtx green) { return says; }

/* --- in short --- */

int worker_enter(struct worker *w_, const struct vgpu_call *call) { return 0; }
int worker_handle_free(struct worker *w_, uint64_t h, enum vgpu_handle_type t) { return 0; }
void *worker_handle(struct worker *w_, uint64_t h, enum vgpu_handle_type t) { return &w; }
int worker_device(struct worker *w_, uint64_t device) { return 0; }
void primary_settle(struct worker *w_, unsigned int dev) { }
struct wctx *context_new(uint64_t handle, CUcontext real, int device) { return &known; }
void context_add_green(struct wctx *root, struct wctx *c) { c->root = root; }
void context_settle(struct worker *w_, struct wctx *c) { }
void context_set_none(struct worker *w_) { }
void capture_context_settle(struct worker *w_, const struct wctx *c) { }
void context_end_streams(struct worker *w_, struct wctx *c) { }
void context_forget_green(struct worker *w_, struct wctx *c) { forgotten++; }
struct handle *handle_add(struct handle_table *t, uint64_t value, enum vgpu_handle_type type, void *object) { return NULL; }

int worker_handle_add(struct worker *w_, uint64_t h, enum vgpu_handle_type t, void *obj)
{
	slot = (struct handle){ .value = h, .object = obj };
	return 0;
}

struct handle *object_find(struct worker *w_, uint64_t h, enum vgpu_handle_type t)
{
	return slot.value && slot.value == h ? &slot : NULL;
}

void *worker_handle_del(struct worker *w_, uint64_t h, enum vgpu_handle_type t)
{
	slot.value = 0;
	return slot.object;
}

void primary_released(struct worker *w_, unsigned int dev)
{
	released += !w.retained[dev] && !w.greens[dev];
}

void worker_reply(struct worker *w_, const struct idm_header *hdr, const struct vgpu_call *call, int idm_error,
		  int cu_result, const void *results, size_t len)
{
	if (idm_error && idm_error != IDM_ERROR_INVALID_HANDLE)
		abort();
	answer = idm_error ? CUDA_ERROR_INVALID_HANDLE : (CUresult)cu_result;
}

/* --- */

static void create(void)
{
	const struct vgpu_rq_cuGreenCtxCreate q = { .phCtx = 5, .desc = 6 };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	worker_hand_cuGreenCtxCreate(&w, &m);
}

static void destroy(CUresult driver_says)
{
	const struct vgpu_rq_cuGreenCtxDestroy q = { .hCtx = 5 };
	const struct idm_message m = { .header.payload_len = sizeof(q), .payload = &q };

	says = driver_says;
	worker_hand_cuGreenCtxDestroy(&w, &m);
}

int main(void)
{
	D.cuGreenCtxCreate = fake_create;
	D.cuGreenCtxDestroy = fake_destroy;
	create();
	ok(answer == CUDA_SUCCESS && w.greens[0] == 1, "a green context has the primary one");
	destroy(CUDA_ERROR_LAUNCH_FAILED);
	ok(answer == CUDA_ERROR_LAUNCH_FAILED && w.greens[0] == 1 && slot.value && !released && !forgotten,
	   "one that the driver does not destroy goes on to");
	destroy(CUDA_ERROR_CONTEXT_IS_DESTROYED);
	ok(answer == CUDA_SUCCESS && !w.greens[0] && released == 1 && forgotten == 1,
	   "one that has ended before does not: the primary context is free");
	destroy(CUDA_SUCCESS);
	ok(answer == CUDA_ERROR_INVALID_HANDLE && !w.greens[0], "and its handle is gone");
	return tap_done();
}
