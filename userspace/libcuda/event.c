// SPDX-License-Identifier: Apache-2.0
/*
 * Events: one that was seen complete, or was never recorded, needs no message to say so again. And once a program asks
 * about events, the GPU says of itself which are (board.h).
 */
#include "capture.h"
#include "managed.h"
#include "shim.h"
#include "shim_gen.h"

VGPU_EXPORT CUresult CUDAAPI cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
	struct object *o;
	CUresult r;

	if (Flags & ~(unsigned int)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS) ||
	    (Flags & CU_EVENT_INTERPROCESS && !(Flags & CU_EVENT_DISABLE_TIMING)))
		return CUDA_ERROR_INVALID_VALUE;
	r = call_cuEventCreate(phEvent, Flags);
	if (r != CUDA_SUCCESS)
		return r;
	o = (struct object *)*phEvent;
	o->ctx = context_current(thread_self());
	o->event.flags = Flags;
	o->event.shared = Flags & CU_EVENT_INTERPROCESS;
	return CUDA_SUCCESS;
}

#define UNASKED	16	/* recordings without a question after which an event is watched no more */

static uint32_t queries;	/* has the program ever asked whether an event is complete? */

static CUresult ask_own(CUevent e)
{
	CUresult r;

	own_begin();
	r = call_cuEventQuery(e);
	own_end();
	return r;
}

void event_recorded(struct object *o, CUstream stream)
{
	uint32_t recorded;
	uint64_t wire;

	if (__builtin_expect(o->event.shared, 0)) {
		/*
		 * Whom the program tells that it is recorded, its worker may be asked about it before ours has recorded it. While
		 * streams capture, everything is waited for anyway, and no event may be asked about.
		 */
		if (!shim.sync && !__atomic_load_n(&captures, __ATOMIC_RELAXED))
			ask_own((CUevent)o);
		return;
	}
	/* A program that asks is going to ask again: the answer shall be there already. */
	if (__atomic_load_n(&queries, __ATOMIC_RELAXED) && o->event.unasked < UNASKED &&
	    !__atomic_load_n(&captures, __ATOMIC_RELAXED) && stream_handle(stream, &wire)) {
		o->event.unasked++;
		recorded = __atomic_load_n(&o->event.recorded, __ATOMIC_RELAXED) + 1;
		board_watch(&o->event.mark, o->wire, wire);
		thread_self()->touched = NULL;
		__atomic_store_n(&o->event.marked, recorded, __ATOMIC_RELEASE);
	}
	__atomic_fetch_add(&o->event.recorded, 1, __ATOMIC_RELEASE);
}

void event_gone(struct object *o)
{
	if (o->type == VGPU_H_EVENT)
		board_release(&o->event.mark);
}

VGPU_EXPORT CUresult CUDAAPI cuEventRecord(CUevent hEvent, CUstream hStream)
{
	CUresult r = call_cuEventRecord(hEvent, hStream);

	if (r == CUDA_SUCCESS)
		event_recorded((struct object *)hEvent, hStream);
	return r;
}

/* What is external is so to a graph: without one there is no such thing. */
static bool capturing(CUstream s, CUevent e, CUresult *r)
{
	uint64_t wire = 0;

	*r = session_check();
	if (*r == CUDA_SUCCESS)
		*r = object_get(e, VGPU_H_EVENT) && stream_handle(s, &wire) ? CUDA_ERROR_ILLEGAL_STATE : CUDA_ERROR_INVALID_HANDLE;
	return *r == CUDA_ERROR_ILLEGAL_STATE && capture_active(wire);
}

VGPU_EXPORT CUresult CUDAAPI cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags)
{
	CUresult r;

	if (flags & ~(unsigned int)CU_EVENT_RECORD_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags && !capturing(hStream, hEvent, &r))
		return r;
	r = call_cuEventRecordWithFlags(hEvent, hStream, flags);
	if (r == CUDA_SUCCESS && flags)
		((struct object *)hEvent)->event.in_graph = true;
	else if (r == CUDA_SUCCESS)
		event_recorded((struct object *)hEvent, hStream);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)
{
	CUresult r;

	if (Flags & ~(unsigned int)CU_EVENT_WAIT_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	return Flags && !capturing(hStream, hEvent, &r) ? r : call_cuStreamWaitEvent(hStream, hEvent, Flags);
}

/*
 * What kernels have printed comes out when the program waits for an event, says CUDA: the driver writes it then. So of a
 * program that may print, the wait goes there, though it is known to be over.
 */
static bool prints;

void kernels_may_print(void)
{
	__atomic_store_n(&prints, true, __ATOMIC_RELAXED);
}

bool kernels_print(void)
{
	return __atomic_load_n(&prints, __ATOMIC_RELAXED);
}

static CUresult known_complete(struct object *o, uint32_t recorded)
{
	board_heard();
	__atomic_store_n(&o->event.complete, recorded, __ATOMIC_RELAXED);
	managed_after();
	return CUDA_SUCCESS;
}

/* Ask, unless the last recording is known to be complete, or (@poll) was not a moment ago. */
static CUresult ask(CUevent hEvent, CUresult (*call)(CUevent), bool poll)
{
	struct object *o = object_get(hEvent, VGPU_H_EVENT);
	CUresult r = session_check();
	bool marked, known;
	uint32_t recorded;

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	__atomic_store_n(&queries, 1, __ATOMIC_RELAXED);
	o->event.unasked = 0;
	recorded = __atomic_load_n(&o->event.recorded, __ATOMIC_ACQUIRE);
	if (__builtin_expect(__atomic_load_n(&captures, __ATOMIC_RELAXED) != 0, 0)) {
		/* An event of a capture has no state to ask for, and others not while captures forbid it. */
		r = ask_own(hEvent);
		if (r == CUDA_ERROR_CAPTURED_EVENT)
			return r;
		r = capture_unsafe();
		if (r != CUDA_SUCCESS)
			return r;
	}
	if (__builtin_expect(o->event.shared, 0)) {
		r = call(hEvent);
		if (r == CUDA_SUCCESS) {
			board_heard();
			managed_after();
		}
		return r;
	}
	known = !o->event.in_graph && (poll || !kernels_print() ||
				       recorded == __atomic_load_n(&o->event.waited, __ATOMIC_RELAXED));
	if (known && recorded == __atomic_load_n(&o->event.complete, __ATOMIC_RELAXED))
		return CUDA_SUCCESS;
	marked = known && __atomic_load_n(&o->event.marked, __ATOMIC_ACQUIRE) == recorded;
	if (marked && board_reached(&o->event.mark))
		return known_complete(o, recorded);
	if (marked && poll && board_recent(&o->event.mark))
		return CUDA_ERROR_NOT_READY;
	r = call(hEvent);
	if (r == CUDA_SUCCESS && !poll)
		__atomic_store_n(&o->event.waited, recorded, __ATOMIC_RELAXED);
	if (r == CUDA_SUCCESS)
		return known_complete(o, recorded);
	if (r == CUDA_ERROR_NOT_READY)
		board_asked(&o->event.mark);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuEventQuery(CUevent hEvent)
{
	return ask(hEvent, call_cuEventQuery, true);
}

VGPU_EXPORT CUresult CUDAAPI cuEventSynchronize(CUevent hEvent)
{
	return ask(hEvent, call_cuEventSynchronize, false);
}

VGPU_EXPORT CUresult CUDAAPI cuEventDestroy_v2(CUevent hEvent)
{
	CUresult r = session_check();

	return r == CUDA_SUCCESS ? call_cuEventDestroy_v2(hEvent) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuEventDestroy(CUevent hEvent)
{
	return cuEventDestroy_v2(hEvent);
}
