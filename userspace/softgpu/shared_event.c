// SPDX-License-Identifier: Apache-2.0
/*
 * Events of several processes: their state lies in a memfd (struct softgpu_shared_event). Recording takes a number, and
 * the event is complete when the newest number is. Other processes' words are believed for nothing but when to go on.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cuda/softgpu_share.h"
#include "share.h"

#define LOOK_NS	100000000l	/* how often somebody who sleeps looks whether it is still worth it */
#define PAGE	4096

struct sg_shared {
	struct softgpu_shared_event *state;
	struct sg_name name;
	bool published;
};

static CUresult map(struct sg_event *ev, const struct sg_name *name, int fd, bool own)
{
	struct sg_shared *x = calloc(1, sizeof(*x));
	void *page = x ? mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (page == MAP_FAILED) {
		free(x);
		return CUDA_ERROR_MAP_FAILED;
	}
	x->state = page;
	x->name = *name;
	x->published = own;
	ev->shared = x;
	return CUDA_SUCCESS;
}

CUresult sg_shared_event_new(struct sg_event *ev)
{
	struct sg_name name;
	CUresult e;
	int fd;

	e = sg_share_new(SG_SHARE_EVENT, PAGE, ev->ctx->device, NULL, &name, &fd);
	if (e)
		return e;
	e = map(ev, &name, fd, true);
	if (!e)
		e = sg_share_publish(&name, fd);
	if (e)
		close(fd);
	return e;
}

void sg_shared_event_free(struct sg_event *ev)
{
	struct sg_shared *x = ev->shared;

	if (!x)
		return;
	if (x->published)
		sg_share_gone(&x->name);
	munmap(x->state, PAGE);
	free(x);
	ev->shared = NULL;
}

void sg_shared_event_reached(struct sg_event *ev, uint64_t number)
{
	struct softgpu_shared_event *s = ev->shared->state;
	uint64_t now = __atomic_load_n(&s->completed, __ATOMIC_RELAXED);

	while (now < number && !__atomic_compare_exchange_n(&s->completed, &now, number, false, __ATOMIC_SEQ_CST,
							    __ATOMIC_RELAXED))
		;
	__atomic_add_fetch(&s->word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &s->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* The number of a new recording, of which this process is the recorder. */
static uint64_t take_number(struct softgpu_shared_event *state)
{
	uint32_t me = (uint32_t)getpid(), gone = me;

	/* One of that number may have died before. */
	__atomic_compare_exchange_n(&state->lost, &gone, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	__atomic_store_n(&state->recorder, me, __ATOMIC_RELAXED);
	return __atomic_add_fetch(&state->recorded, 1, __ATOMIC_SEQ_CST);
}

CUresult sg_shared_event_record(struct sg_event *ev, struct sg_stream *s)
{
	struct softgpu_shared_event *state = ev->shared->state;
	struct sg_op *op;

	if (sg_queue_lock_idle(s)) {
		uint64_t number = take_number(state);

		sg_queue_unlock(s);
		sg_shared_event_reached(ev, number);
		return CUDA_SUCCESS;
	}
	op = sg_queue_begin(s, SG_OP_EVENT, 0);
	op->u.event.event = ev;
	op->u.event.generation = take_number(state);
	sg_object_get(ev);
	sg_queue_end(s, op, false);
	return CUDA_SUCCESS;
}

/* Is recording @number over, one way or the other? */
static CUresult state_of(const struct softgpu_shared_event *s, uint64_t number)
{
	uint32_t recorder;

	if (__atomic_load_n(&s->completed, __ATOMIC_SEQ_CST) >= number)
		return CUDA_SUCCESS;
	recorder = __atomic_load_n(&s->recorder, __ATOMIC_RELAXED);
	if (recorder && __atomic_load_n(&s->lost, __ATOMIC_RELAXED) == recorder)
		return CUDA_ERROR_EXTERNAL_DEVICE;
	return CUDA_ERROR_NOT_READY;
}

/* Nobody may tell that the other process has died: where it can be asked for, it is. In the sandbox it cannot. */
static void look(struct softgpu_shared_event *s)
{
	uint32_t recorder = __atomic_load_n(&s->recorder, __ATOMIC_RELAXED);

	if (recorder && kill((pid_t)recorder, 0) && errno == ESRCH)
		__atomic_store_n(&s->lost, recorder, __ATOMIC_RELAXED);
}

static CUresult sleep_for(struct sg_event *ev, uint64_t number, const struct sg_ctx *until_fault)
{
	const struct timespec nap = { .tv_nsec = LOOK_NS };
	struct softgpu_shared_event *s = ev->shared->state;

	for (;;) {
		uint32_t word = __atomic_load_n(&s->word, __ATOMIC_SEQ_CST);
		CUresult r = state_of(s, number);

		if (r != CUDA_ERROR_NOT_READY)
			return r;
		if (until_fault && atomic_load(&until_fault->fault))
			return CUDA_SUCCESS;
		if (syscall(SYS_futex, &s->word, FUTEX_WAIT, word, &nap, NULL, 0) && errno == ETIMEDOUT)
			look(s);
	}
}

CUresult sg_shared_event_query(struct sg_event *ev)
{
	const struct softgpu_shared_event *s = ev->shared->state;

	return state_of(s, __atomic_load_n(&s->recorded, __ATOMIC_SEQ_CST));
}

CUresult sg_shared_event_sync(struct sg_event *ev)
{
	return sleep_for(ev, __atomic_load_n(&ev->shared->state->recorded, __ATOMIC_SEQ_CST), NULL);
}

void sg_shared_event_wait(struct sg_event *ev, struct sg_stream *s)
{
	uint64_t number = __atomic_load_n(&ev->shared->state->recorded, __ATOMIC_SEQ_CST);
	struct sg_op *op;

	if (state_of(ev->shared->state, number) == CUDA_SUCCESS)
		return;
	op = sg_queue_begin(s, SG_OP_AWAIT, 0);
	op->u.event.event = ev;
	op->u.event.generation = number;
	sg_object_get(ev);
	sg_queue_end(s, op, false);
}

void sg_shared_event_await(struct sg_stream *s, const struct sg_op *op)
{
	struct sg_event *ev = op->u.event.event;
	CUresult r = atomic_load(&s->ctx->fault) ? CUDA_SUCCESS : sleep_for(ev, op->u.event.generation, s->ctx);

	sg_object_put(&sg_event_table, ev);
	if (r != CUDA_SUCCESS)
		sg_ctx_fault(s->ctx, r, "the process that was to record an event ended before it did");
}

/* --- the calls ------------------------------------------------------------------------------------------------------ */

CUresult cuIpcGetEventHandle(CUipcEventHandle *handle, CUevent event)
{
	struct sg_event *ev = sg_object_check(&sg_event_table, event);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	/* What another process made is not this one's to hand on. */
	if (!ev || !ev->shared || !ev->shared->published)
		return CUDA_ERROR_INVALID_HANDLE;
	memcpy(handle, &ev->shared->name, sizeof(*handle));
	return CUDA_SUCCESS;
}

CUresult cuIpcOpenEventHandle(CUevent *event, CUipcEventHandle handle)
{
	struct sg_name name;
	struct sg_event *ev;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);
	int fd;

	if (e)
		return e;
	if (!event)
		return CUDA_ERROR_INVALID_VALUE;
	e = sg_share_find(&handle, SG_SHARE_EVENT, &name, &fd);
	if (e)
		return e == CUDA_ERROR_INVALID_VALUE ? CUDA_ERROR_INVALID_HANDLE : e;
	ev = sg_object_new(&sg_event_table);
	e = ev ? map(ev, &name, fd, false) : CUDA_ERROR_OUT_OF_MEMORY;
	close(fd);
	if (e) {
		if (ev)
			sg_object_put(&sg_event_table, ev);
		return e;
	}
	ev->ctx = c;
	ev->flags = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
	pthread_mutex_init(&ev->lock, NULL);
	atomic_store_explicit(&ev->object.live, sg_event_table.magic, memory_order_release);
	*event = (CUevent)ev;
	return CUDA_SUCCESS;
}
