// SPDX-License-Identifier: Apache-2.0
/*
 * cuLaunchHostFunc and cuStreamAddCallback. The worker says when a function's turn has come and holds the stream until
 * the word in the arena that belongs to it says that the function has returned. The dispatcher receives only while
 * there is a function to wait for, so that it costs other threads nothing when there is none.
 *
 * It calls our own functions itself. The program's run in a thread behind it, one after the other: each may wait for what
 * another stream does, and there a function of ours may be what is still missing.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "callback.h"
#include "capture.h"
#include "shim_gen.h"

#define WORDS	(IDM_PAGE_SIZE / sizeof(uint32_t))
#define OWN_MAX	32768	/* functions at a time with which ours are added: the worker takes twice as many */

/* struct record - a function under way. Its words lie in arena pages that are kept, as records are. */
struct record {
	uint32_t index, ticket;
	uint32_t *ack;
	CUhostFn fn;
	CUstreamCallback callback;
	CUstream stream;
	void *data;
	bool ours;
	struct record *next;
};

/* struct turn - a function of the program's whose turn has come. */
struct turn {
	uint64_t id;
	struct vgpu_callback told;
	struct turn *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER, due = PTHREAD_COND_INITIALIZER;
static struct turn *turns, **turns_end = &turns;
static struct record **records;		/* all of them, by index */
static uint32_t nrecords;
static struct record *idle;
static uint32_t *words;
static unsigned int words_left;
static unsigned int awaited;		/* functions whose turn has not come */
static unsigned int pending;		/* and those that run; written under the lock */
static unsigned int listeners;		/* written under the lock */
static bool started, program_started;

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

/* Something's turn has come: is it ours to do? */
static bool is_ours(uint64_t id)
{
	const struct record *r;

	if (id & VGPU_HOOK_ID)
		return hook_ours(id);
	r = record_of(id);
	if (!r)
		return true;
	pthread_mutex_lock(&lock);
	awaited--;
	pthread_mutex_unlock(&lock);
	return r->ours;
}

static void run(uint64_t id, const struct vgpu_callback *told)
{
	struct record *r = id & VGPU_HOOK_ID ? NULL : record_of(id);
	struct thread *t = thread_self();

	t->in_callback = true;
	if (id & VGPU_HOOK_ID) {
		hook_told(id, told->what);
	} else if (r) {
		board_heard();
		if (r->callback)
			r->callback(r->stream, told->result, r->data);
		else
			r->fn(r->data);
		__atomic_store_n(r->ack, r->ticket, __ATOMIC_RELEASE);
		pthread_mutex_lock(&lock);
		record_put(r);
		pthread_mutex_unlock(&lock);
	}
	t->in_callback = false;
}

static void *run_program(void *arg)
{
	struct turn *t;

	for (;;) {
		pthread_mutex_lock(&lock);
		while (!turns)
			pthread_cond_wait(&due, &lock);
		t = turns;
		turns = t->next;
		if (!turns)
			turns_end = &turns;
		pthread_mutex_unlock(&lock);
		run(t->id, &t->told);
		free(t);
	}
	return arg;
}

static bool spawn(void *(*fn)(void *arg))
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	bool ok;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ok = !pthread_create(&t, &attr, fn, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ok;
}

/* To the program's thread, in the order in which it was told. */
static void pass_on(uint64_t id, const struct vgpu_callback *told)
{
	struct turn *t;

	while (!(t = malloc(sizeof(*t))))
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	*t = (struct turn){ .id = id, .told = *told };
	pthread_mutex_lock(&lock);
	*turns_end = t;
	turns_end = &t->next;
	pthread_cond_signal(&due);
	pthread_mutex_unlock(&lock);
}

static void *dispatch(void *arg)
{
	for (;;) {
		struct vgpu_callback told = { 0 };
		struct idm_pending p = { .reply = &told, .reply_cap = sizeof(told) };

		pthread_mutex_lock(&lock);
		while (!awaited && !listeners)
			pthread_cond_wait(&some, &lock);
		pthread_mutex_unlock(&lock);
		if (idm_listen(shim.client, &p))
			return NULL;	/* the session is over: nothing has a turn any more */
		if (is_ours(p.seq))
			run(p.seq, &told);
		else
			pass_on(p.seq, &told);
	}
}

/* Both threads, before anything is asked for: what was accepted has to be called. Under the lock. */
static bool start(void)
{
	program_started = program_started || spawn(run_program);
	started = started || (program_started && spawn(dispatch));
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
		__atomic_add_fetch(&listeners, by, __ATOMIC_RELAXED);	/* read without the lock */
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
		own_begin();
		call_cuStreamQuery(what->stream);	/* which is the end of the capture, as CUDA has it */
		own_end();
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
		r->ours = what->ours;
		rq.ticket = ++r->ticket;
		rq.id = (uint64_t)TICKET(rq.ticket) << 32 | r->index;
		awaited++;
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
		awaited--;
		record_put(r);
		pthread_mutex_unlock(&lock);
	}
	return res;
}

CUresult callback_own(uint64_t stream, CUhostFn fn, void *data)
{
	return enqueue(stream, &(struct record){ .fn = fn, .data = data, .ours = true });
}

bool callback_room(void)
{
	return __atomic_load_n(&pending, __ATOMIC_RELAXED) < OWN_MAX;
}

bool callback_pending(void)
{
	return __atomic_load_n(&pending, __ATOMIC_RELAXED) || __atomic_load_n(&listeners, __ATOMIC_RELAXED);
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData)
{
	uint64_t stream;

	if (!fn)
		return session_check() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : session_check();
	if (!stream_handle(hStream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	return enqueue(stream, &(struct record){ .fn = fn, .data = userData });
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
