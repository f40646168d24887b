// SPDX-License-Identifier: Apache-2.0
/*
 * cuLaunchHostFunc and cuStreamAddCallback. The worker says when a function's turn has come and holds the stream until
 * the word in the arena that belongs to it says that the function has returned. The dispatcher receives only while
 * there is a function to wait for, so that it costs other threads nothing when there is none.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "callback.h"
#include "capture.h"
#include "shim_gen.h"

#define WORDS	(IDM_PAGE_SIZE / sizeof(uint32_t))

/* struct record - a function under way. Its words lie in arena pages that are kept, as records are. */
struct record {
	uint32_t index, ticket;
	uint32_t *ack;
	CUhostFn fn;
	CUstreamCallback callback;
	CUstream stream;
	void *data;
	struct record *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static struct record **records;		/* all of them, by index */
static uint32_t nrecords;
static struct record *idle;
static uint32_t *words;
static unsigned int words_left, pending, listeners;
static bool started;

/* Under the lock. */
static uint32_t *word(void)
{
	if (!words_left) {
		words = idm_arena_alloc(shim.client, IDM_PAGE_SIZE);
		if (!words)
			return NULL;
		memset(words, 0, IDM_PAGE_SIZE);
		words_left = WORDS;
	}
	return &words[--words_left];
}

/* Under the lock. */
static struct record *record_get(void)
{
	struct record *r = idle, **all;

	if (r) {
		idle = r->next;
		return r;
	}
	if (!(nrecords & (nrecords - 1))) {
		all = realloc(records, (nrecords ? 2 * nrecords : 1) * sizeof(*all));
		if (!all)
			return NULL;
		records = all;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->index = nrecords;
	r->ack = word();
	if (!r->ack) {
		free(r);
		return NULL;
	}
	records[nrecords++] = r;
	return r;
}

static void record_put(struct record *r)
{
	r->next = idle;
	idle = r;
	__atomic_sub_fetch(&pending, 1, __ATOMIC_RELAXED);	/* read without the lock */
}

/* Of a ticket in an id, whose highest bit is VGPU_HOOK_ID. */
#define TICKET(n)	((n) & 0x7fffffffu)

static struct record *record_of(uint64_t id)
{
	struct record *r = NULL;

	pthread_mutex_lock(&lock);
	if ((uint32_t)id < nrecords && TICKET(records[(uint32_t)id]->ticket) == id >> 32)
		r = records[(uint32_t)id];
	pthread_mutex_unlock(&lock);
	return r;
}

static void *dispatch(void *arg)
{
	for (;;) {
		struct vgpu_callback told = { 0 };
		struct idm_pending p = { .reply = &told, .reply_cap = sizeof(told) };
		struct record *r;

		pthread_mutex_lock(&lock);
		while (!pending && !listeners)
			pthread_cond_wait(&some, &lock);
		pthread_mutex_unlock(&lock);
		if (idm_listen(shim.client, &p))
			return NULL;	/* the session is over: nothing has a turn any more */
		if (p.seq & VGPU_HOOK_ID) {
			thread_self()->in_callback = true;
			hook_told(p.seq, told.what);
			thread_self()->in_callback = false;
			continue;
		}
		r = record_of(p.seq);
		if (!r)
			continue;
		board_heard();
		thread_self()->in_callback = true;
		if (r->callback)
			r->callback(r->stream, told.result, r->data);
		else
			r->fn(r->data);
		thread_self()->in_callback = false;
		__atomic_store_n(r->ack, r->ticket, __ATOMIC_RELEASE);
		pthread_mutex_lock(&lock);
		record_put(r);
		pthread_mutex_unlock(&lock);
	}
}

/* Under the lock. */
static bool start(void)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;

	if (started)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	started = !pthread_create(&t, &attr, dispatch, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

uint32_t *callback_word(void)
{
	uint32_t *w;

	pthread_mutex_lock(&lock);
	w = word();
	pthread_mutex_unlock(&lock);
	return w;
}

bool callback_listen(int by)
{
	bool ok;

	pthread_mutex_lock(&lock);
	ok = by < 0 || start();
	if (ok)
		listeners += by;
	pthread_cond_signal(&some);
	pthread_mutex_unlock(&lock);
	return ok;
}

CUresult callback_capture(uint64_t stream, const struct hook *h, enum vgpu_hook kind)
{
	struct vgpu_host_func rq = { .stream = stream, .id = hook_id(h), .ack = hook_ack(h), .ticket = kind,
				     .always = VGPU_HOST_CAPTURED };
	CUresult r = call_begin(&rq.call, true);

	return r == CUDA_SUCCESS ? call_reply(VGPU_MSG_cuLaunchHostFunc, &rq, sizeof(rq), NULL, 0) : r;
}

/* A stream that captures takes functions for its graph. */
static CUresult capture(uint64_t stream, const struct record *what)
{
	struct hook *h;

	if (what->callback) {
		call_cuStreamQuery(what->stream);	/* which is the end of the capture, as CUDA has it */
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	h = hook_new(&(struct hook){ .fn = what->fn, .data = what->data });
	return h ? callback_capture(stream, h, VGPU_HOOK_PLAIN) : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult enqueue(uint64_t stream, const struct record *what)
{
	struct vgpu_host_func rq = { .stream = stream,
				     .always = what->callback ? VGPU_HOST_ALWAYS : VGPU_HOST_ONCE };
	CUresult res = call_begin(&rq.call, true);
	struct record *r;

	if (res != CUDA_SUCCESS)
		return res;
	if (thread_self()->in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	if (capture_active(stream))
		return capture(stream, what);
	pthread_mutex_lock(&lock);
	r = start() ? record_get() : NULL;
	if (r) {
		r->fn = what->fn;
		r->callback = what->callback;
		r->stream = what->stream;
		r->data = what->data;
		rq.ticket = ++r->ticket;
		rq.id = (uint64_t)TICKET(rq.ticket) << 32 | r->index;
		__atomic_add_fetch(&pending, 1, __ATOMIC_RELAXED);
		pthread_cond_signal(&some);
	}
	pthread_mutex_unlock(&lock);
	if (!r)
		return idm_client_ended(shim.client) ? session_failed(-EPIPE) : CUDA_ERROR_OUT_OF_MEMORY;
	rq.ack = (char *)r->ack - (char *)idm_arena_base(shim.client);
	res = call_post(VGPU_MSG_cuLaunchHostFunc, &rq, sizeof(rq));
	if (res != CUDA_SUCCESS) {
		pthread_mutex_lock(&lock);
		record_put(r);
		pthread_mutex_unlock(&lock);
	}
	return res;
}

CUresult callback_enqueue(uint64_t stream, CUhostFn fn, void *data)
{
	return enqueue(stream, &(struct record){ .fn = fn, .data = data });
}

bool callback_pending(void)
{
	return __atomic_load_n(&pending, __ATOMIC_RELAXED);
}

void callback_drain(CUcontext ctx)
{
	if (callback_pending())
		cuCtxSynchronize_v2(ctx);
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData)
{
	uint64_t stream;

	if (!fn)
		return session_check() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : session_check();
	if (!stream_handle(hStream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return callback_enqueue(stream, fn, userData);
}

VGPU_EXPORT CUresult CUDAAPI cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData,
						 unsigned int flags)
{
	struct record what = { .callback = callback, .stream = hStream, .data = userData };
	uint64_t stream;

	if (!callback || flags)
		return session_check() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : session_check();
	if (!stream_handle(hStream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return enqueue(stream, &what);
}
