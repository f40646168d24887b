// SPDX-License-Identifier: Apache-2.0
/* The process's session, its threads, and the way every message goes. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "fault.h"
#include "logs.h"
#include "shim.h"
#include "shim_gen.h"
#include "staging.h"
#include "upload.h"
#include "visible.h"

struct shim shim;
__thread struct thread *thread_current __attribute__((tls_model("initial-exec")));

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t thread_lock = PTHREAD_MUTEX_INITIALIZER;
static struct thread *idle_threads;
static uint32_t threads;
static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

/* A thread has ended: its number, and the worker's stream that goes with it, serve the next one. */
static void thread_release(void *p)
{
	struct thread *t = p;

	thread_current = NULL;	/* a later destructor of the same thread that calls us is a new thread to us */
	pthread_mutex_lock(&thread_lock);
	t->next = idle_threads;
	idle_threads = t;
	pthread_mutex_unlock(&thread_lock);
}

static void thread_key_make(void)
{
	pthread_key_create(&thread_key, thread_release);
}

/* What failed for the thread that had the number before is not this one's to hear. */
static void number_again(const struct thread *t)
{
	struct vgpu_call rq = { .thread = t->number };
	struct iovec iov = { &rq, sizeof(rq) };

	if (__atomic_load_n(&shim.state, __ATOMIC_ACQUIRE) == SHIM_READY)
		idm_post(shim.client, VGPU_MSG_thread_new, &iov, 1);
}

struct thread *thread_new(void)
{
	bool posted = false;
	struct thread *t;

	pthread_once(&thread_once, thread_key_make);
	pthread_mutex_lock(&thread_lock);
	t = idle_threads;
	if (t) {
		void *scratch = t->scratch;
		uint32_t number = t->number;

		posted = t->posted;
		idle_threads = t->next;
		memset(t, 0, sizeof(*t));
		t->scratch = scratch;
		t->number = number;
	} else {
		t = calloc(1, sizeof(*t));
		if (!t)
			abort();
		t->number = ++threads;
	}
	pthread_mutex_unlock(&thread_lock);
	pthread_setspecific(thread_key, t);
	thread_current = t;
	if (posted)
		number_again(t);
	return t;
}

static CUresult load_device(uint32_t i)
{
	struct vgpu_props_request rq = { .call = { .thread = thread_self()->number }, .device = i };
	struct vgpu_props_reply *props = &shim.devices[i].props;
	CUresult r = call_reply(IDM_GPU_GET_PROPS, &rq, sizeof(rq), props, sizeof(*props));

	if (r != CUDA_SUCCESS)
		return r;
	props->name[sizeof(props->name) - 1] = '\0';
	props->pci_bus_id[sizeof(props->pci_bus_id) - 1] = '\0';
	if (props->nattributes > VGPU_ATTRIBUTES_MAX)
		props->nattributes = VGPU_ATTRIBUTES_MAX;
	/* Grids do not span devices, and no function has an address that both sides can call. */
	props->attributes[CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH] = 0;
	props->attributes[CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS] = 0;
	return CUDA_SUCCESS;
}

static CUresult load_devices(void)
{
	struct vgpu_call rq = { .thread = thread_self()->number };
	struct vgpu_info_reply info;
	CUresult r = call_reply(IDM_GPU_GET_INFO, &rq, sizeof(rq), &info, sizeof(info));

	if (r != CUDA_SUCCESS)
		return r;
	if (info.devices > VGPU_DEVICES_MAX)
		info.devices = VGPU_DEVICES_MAX;
	if (!info.devices)
		return CUDA_ERROR_NO_DEVICE;
	shim.devices = calloc(info.devices, sizeof(*shim.devices));
	if (!shim.devices)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < info.devices; i++) {
		r = load_device(i);
		if (r != CUDA_SUCCESS)
			return r;
	}
	shim.ndevices = info.devices;
	return CUDA_SUCCESS;
}

/* The worker leaves out the others, too: all numbers are those that the program knows. */
static CUresult choose_devices(void)
{
	struct vgpu_visible rq = { .call = { .thread = thread_self()->number } };
	struct device *chosen = calloc(VGPU_DEVICES_MAX, sizeof(*chosen));
	uint8_t uuids[VGPU_DEVICES_MAX][16];
	CUresult r;

	if (!chosen)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < shim.ndevices; i++)
		memcpy(uuids[i], shim.devices[i].props.uuid, sizeof(uuids[i]));
	rq.count = visible_devices(getenv("CUDA_VISIBLE_DEVICES"), uuids, shim.ndevices, rq.device);
	for (uint32_t i = 0; i < rq.count; i++)
		chosen[i] = shim.devices[rq.device[i]];
	r = rq.count ? call_reply(VGPU_MSG_visible, &rq, sizeof(rq), NULL, 0) : CUDA_ERROR_NO_DEVICE;
	if (r != CUDA_SUCCESS) {
		free(chosen);
		return r;
	}
	free(shim.devices);
	shim.devices = chosen;
	shim.ndevices = rq.count;
	return CUDA_SUCCESS;
}

static uint32_t ring_size(uint32_t fallback)
{
	const char *s = getenv("VGPU_RING_SIZE");
	unsigned long size = s ? strtoul(s, NULL, 0) : 0;

	if (size < IDM_RING_MIN || size > IDM_RING_MAX || size & (size - 1))
		return fallback;
	return size;
}

static CUresult open_locked(void)
{
	struct idm_client_params params = {
		.table_hash = VGPU_TABLE_HASH,
		.request_size = ring_size(256 * 1024),
		.reply_size = ring_size(64 * 1024),
	};
	const char *sync = getenv("VGPU_SYNC"), *blocking = getenv("CUDA_LAUNCH_BLOCKING");
	static bool told;
	struct idm_error e = { 0 };
	CUresult r;
	int err;

	shim.sync = sync && sync[0] == '1';
	shim.launch_blocking = blocking && blocking[0] == '1';
	/* An eighth of the smaller ring, so that several messages fit side by side. */
	shim.inline_max = params.reply_size / 8;
	err = objects_init();
	if (!err)
		err = idm_client_open(&shim.client, &params, &e);
	if (err) {
		if (!told)
			fprintf(stderr, "vgpu: no GPU: %s\n", e.text[0] ? e.text : strerror(-err));
		told = true;
		return err == -ENOENT || err == -ENODEV || err == -ENXIO || err == -ECONNREFUSED ?
			CUDA_ERROR_NO_DEVICE : CUDA_ERROR_SYSTEM_NOT_READY;
	}
	r = load_devices();
	if (r == CUDA_SUCCESS && getenv("CUDA_VISIBLE_DEVICES"))
		r = choose_devices();
	if (r == CUDA_SUCCESS)
		r = context_init();
	if (r != CUDA_SUCCESS) {
		idm_client_close(shim.client);
		shim.client = NULL;
		free(shim.devices);
		shim.devices = NULL;
		shim.ndevices = 0;
		return r;
	}
	staging_init();
	upload_init();
	object_gone = event_gone;
	fork_init();
	__atomic_store_n(&shim.state, SHIM_READY, __ATOMIC_RELEASE);
	return CUDA_SUCCESS;
}

CUresult session_open(void)
{
	CUresult r = CUDA_SUCCESS;

	if (__atomic_load_n(&shim.state, __ATOMIC_ACQUIRE) != SHIM_NEW)
		return session_check();
	pthread_mutex_lock(&open_lock);
	if (shim.state == SHIM_NEW)
		r = open_locked();
	else
		r = session_check();
	pthread_mutex_unlock(&open_lock);
	return r;
}

CUresult session_check(void)
{
	switch (__atomic_load_n(&shim.state, __ATOMIC_ACQUIRE)) {
	case SHIM_READY:
		return CUDA_SUCCESS;
	case SHIM_ENDED:
		return CUDA_ERROR_UNKNOWN;
	case SHIM_UNLOADED:
		return CUDA_ERROR_DEINITIALIZED;
	default:
		return CUDA_ERROR_NOT_INITIALIZED;
	}
}

/*
 * The process ends, and this library before those that it needs: what still calls then is told so, as NVIDIA's library does.
 * Nothing is ended here: the worker sees the process go.
 */
static void __attribute__((destructor)) unloaded(void)
{
	__atomic_store_n(&shim.state, SHIM_UNLOADED, __ATOMIC_RELEASE);
}

CUresult session_failed(int err)
{
	int ready = SHIM_READY;

	if (err == -EMSGSIZE || err == -EINVAL)
		return CUDA_ERROR_INVALID_VALUE;
	if (err == -ENOMEM)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (__atomic_compare_exchange_n(&shim.state, &ready, SHIM_ENDED, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		const char *why = idm_client_ended(shim.client);

		fprintf(stderr, "vgpu: session %u ended: %s\n", idm_client_session(shim.client),
			why ? why : strerror(-err));
		logs_add("session %u ended: %s", idm_client_session(shim.client), why ? why : strerror(-err));
	}
	return ready == SHIM_FORKED ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_UNKNOWN;
}

CUresult call_begin(struct vgpu_call *call, bool need_context)
{
	const struct object *ctx;
	struct thread *t;

	if (__builtin_expect(__atomic_load_n(&shim.state, __ATOMIC_ACQUIRE) != SHIM_READY, 0))
		return session_check();
	t = thread_self();
	ctx = context_top(t);
	if (need_context && !ctx)
		return t->in_callback ? CUDA_ERROR_NOT_PERMITTED : CUDA_ERROR_INVALID_CONTEXT;
	/* It is current, but nothing can be done in it: it has ended, or is a primary one that nobody retains. */
	if (ctx && __builtin_expect(context_ended(t) || !context_active(ctx), 0)) {
		if (need_context)
			return CUDA_ERROR_CONTEXT_IS_DESTROYED;
		ctx = NULL;
	}
	call->ctx = ctx ? ctx->wire : 0;
	call->thread = t->number;
	call->reserved = 0;
	return CUDA_SUCCESS;
}

CUresult call_begin_end(struct vgpu_call *call, const struct object *o)
{
	const struct object *ctx = o ? o->ctx : NULL;
	CUresult r = call_begin(call, context_current(thread_self()));

	if (r != CUDA_SUCCESS || call->ctx)
		return r;
	if (thread_self()->in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	if (ctx && context_alive(ctx))
		call->ctx = ctx->wire;
	return CUDA_SUCCESS;
}

void latched_end(struct thread *t, const struct object *ctx, bool current)
{
	int latched = __atomic_load_n(&t->latched, __ATOMIC_RELAXED);

	__atomic_compare_exchange_n(&shim.broken, &ctx, NULL, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	if (latched && (current || breaks_context(latched)))
		__atomic_compare_exchange_n(&t->latched, &latched, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

CUresult call_result(struct thread *t, const struct idm_response *response, bool tells)
{
	CUresult r = CUDA_SUCCESS;
	int latched = 0;

	capture_told(response->latched);
	/* Of several that nobody has heard of yet the first counts, as in the worker. */
	if (response->latched)
		__atomic_compare_exchange_n(&t->latched, &latched, response->latched, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
	switch (response->error) {
	case IDM_ERROR_NONE:
		break;
	case IDM_ERROR_CUDA_ERROR:
		r = response->cu_result ? (CUresult)response->cu_result : CUDA_ERROR_UNKNOWN;
		break;
	case IDM_ERROR_INVALID_HANDLE:
		r = CUDA_ERROR_INVALID_HANDLE;
		break;
	case IDM_ERROR_OUT_OF_MEMORY:
		r = CUDA_ERROR_OUT_OF_MEMORY;
		break;
	case IDM_ERROR_INVALID_SIZE:
		r = CUDA_ERROR_INVALID_VALUE;
		break;
	case IDM_ERROR_PERMISSION_DENIED:
		r = CUDA_ERROR_NOT_PERMITTED;
		break;
	case IDM_ERROR_TIMEOUT:
		r = CUDA_ERROR_TIMEOUT;
		break;
	default:
		r = CUDA_ERROR_UNKNOWN;
	}
	/*
	 * CUDA says so to whatever is asked of that context from now on: also to what needs no answer otherwise. It may be another
	 * one than the current, and then only more is waited for than need be.
	 */
	if (__builtin_expect(breaks_context(r) || breaks_context(response->latched), 0) && !t->own)
		__atomic_store_n(&shim.broken, context_current(t), __ATOMIC_RELAXED);
	latched = __atomic_load_n(&t->latched, __ATOMIC_RELAXED);
	if (!latched || thread_self()->own)
		return r;
	if (r == CUDA_SUCCESS && tells)
		r = latched_take(t);
	else if (latched == (int)r)	/* told now */
		__atomic_compare_exchange_n(&t->latched, &latched, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return r;
}

static CUresult wait_for(uint16_t type, const struct iovec *iov, int n, struct idm_pending *p, bool tells)
{
	CUresult r;
	int err;

	if (__builtin_expect(thread_self()->in_callback, 0))
		return CUDA_ERROR_NOT_PERMITTED;
	err = idm_call(shim.client, type, iov, n, p);
	if (err)
		return session_failed(err);
	r = call_result(thread_self(), &p->response, tells);
	capture_told(r);
	thread_self()->waited++;
	stream_sent(thread_self());
	board_heard();
	return r;
}

#define UNWANTED	64	/* bytes of results that come of a message which need not be answered, at most */

CUresult call_postv(uint16_t type, const struct iovec *iov, int n)
{
	bool sync = shim.sync || __atomic_load_n(&shim.broken, __ATOMIC_RELAXED);
	struct thread *t;
	int err;

	/* While streams capture, what is wrong with a call may be wrong with the capture: said at once. */
	if (__builtin_expect(sync || __atomic_load_n(&captures, __ATOMIC_RELAXED), 0) && !thread_self()->in_callback) {
		bool may = !__atomic_load_n(&captures, __ATOMIC_RELAXED) || capture_may_post(thread_self()->touched, type);

		if (sync || !may) {
			char unwanted[UNWANTED];
			struct idm_pending p = { .reply = unwanted, .reply_cap = sizeof(unwanted) };

			return wait_for(type, iov, n, &p, false);
		}
	}
	err = idm_post(shim.client, type, iov, n);
	if (__builtin_expect(err, 0))
		return session_failed(err);
	t = thread_self();
	t->posted++;
	stream_sent(t);
	return CUDA_SUCCESS;
}

CUresult call_post(uint16_t type, const void *rq, size_t len)
{
	struct iovec iov = { (void *)rq, len };

	return call_postv(type, &iov, 1);
}

CUresult call_replyv(uint16_t type, const struct iovec *iov, int n, void *reply, size_t cap, size_t *len)
{
	struct idm_pending p = { .reply = reply, .reply_cap = cap };
	CUresult r = wait_for(type, iov, n, &p, message_tells(type));

	if (len)
		*len = p.reply_len;
	return r;
}

CUresult call_reply(uint16_t type, const void *rq, size_t len, void *reply, size_t cap)
{
	struct iovec iov = { (void *)rq, len };
	size_t got = 0;
	CUresult r = call_replyv(type, &iov, 1, reply, cap, &got);

	if (r == CUDA_SUCCESS && got != cap)
		return session_failed(-EPROTO);
	return r;
}
