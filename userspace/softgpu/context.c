// SPDX-License-Identifier: Apache-2.0
/* Contexts: one primary per device, created ones, and each thread's stack of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../libcuda/logs.h"
#include "array.h"

__thread struct sg_tls sg_tls __attribute__((tls_model("initial-exec")));

static struct sg_ctx *primaries[SG_DEVICES_MAX];
static _Atomic uint64_t next_id = 1;
static pthread_key_t thread_key;

bool sg_contexts_init(void);

static struct sg_ctx *ctx_check(CUcontext h)
{
	return sg_object_check(&sg_ctx_table, h);
}

static void activate(struct sg_ctx *c)
{
	static const size_t limits[SG_LIMITS] = {
		[CU_LIMIT_STACK_SIZE] = 1024,
		[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20,
		[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20,
		[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2,
		[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048,
		[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64,
	};

	memcpy(c->limits, limits, sizeof(limits));
	memset(c->peers, 0, sizeof(c->peers));
	c->cache = CU_FUNC_CACHE_PREFER_NONE;
	c->fault_text[0] = 0;
	c->id = atomic_fetch_add(&next_id, 1);
	atomic_store_explicit(&c->fault, 0, memory_order_release);
}

static struct sg_ctx *ctx_new(int device)
{
	struct sg_ctx *c = sg_object_new(&sg_ctx_table);

	if (!c)
		return NULL;
	c->root = c;
	c->device = device;
	pthread_mutex_init(&c->lock, NULL);
	atomic_store(&c->fault, CUDA_ERROR_CONTEXT_IS_DESTROYED);
	atomic_store_explicit(&c->object.live, sg_ctx_table.magic, memory_order_release);
	return c;
}

struct sg_ctx **sg_ctx_greens(struct sg_ctx *c)
{
	struct sg_ctx **list = NULL;
	size_t n = 0;

	pthread_mutex_lock(&c->lock);
	for (struct sg_ctx *g = c->greens; g; g = g->sibling)
		n++;
	if (n)
		list = calloc(n + 1, sizeof(*list));
	n = 0;
	for (struct sg_ctx *g = c->greens; list && g; g = g->sibling) {
		list[n++] = g;
		sg_object_get(g);
	}
	pthread_mutex_unlock(&c->lock);
	return list;
}

/* Its green ones have no streams any more, and are good for nothing. */
static void end_greens(struct sg_ctx *c)
{
	struct sg_ctx **list = sg_ctx_greens(c);

	for (struct sg_ctx **p = list; p && *p; p++) {
		atomic_store(&(*p)->fault, CUDA_ERROR_CONTEXT_IS_DESTROYED);
		sg_queue_end_ctx(*p);
		sg_object_put(&sg_ctx_table, *p);
	}
	free(list);
}

/* End all that lives in @c. Its fault stays CONTEXT_IS_DESTROYED. */
static void deactivate(struct sg_ctx *c)
{
	sg_queue_sync_ctx(c);
	sg_print_flush();
	atomic_store(&c->fault, CUDA_ERROR_CONTEXT_IS_DESTROYED);
	end_greens(c);
	sg_queue_end_ctx(c);
	sg_events_end_ctx(c);
	sg_modules_end_ctx(c);
	sg_textures_end_ctx(c);
	sg_arrays_end_ctx(c);
	sg_kernel_heap_end(c);
	sg_heap_free_ctx(c);
	sg_host_free_ctx(c);
}

/* A thread ends: its default streams go, its stack is freed. */
static void thread_end(void *unused)
{
	struct sg_stream *s = sg_tls.own, *next;

	for (; s; s = next) {
		next = s->next_own;
		if (atomic_load(&s->object.live) == sg_stream_table.magic)
			sg_stream_drop(s);
		sg_object_put(&sg_stream_table, s);
	}
	sg_tls.own = NULL;
	free(sg_tls.stack);
	sg_tls.stack = NULL;
	sg_tls.depth = sg_tls.cap = 0;
	sg_ctx_swap(NULL);
}

bool sg_contexts_init(void)
{
	if (pthread_key_create(&thread_key, thread_end))
		return false;
	for (int i = 0; i < sg_devices; i++) {
		primaries[i] = ctx_new(i);
		if (!primaries[i])
			return false;
		primaries[i]->primary = true;
	}
	return true;
}

void sg_thread_remember(void);
void sg_thread_remember(void)
{
	if (!pthread_getspecific(thread_key))
		pthread_setspecific(thread_key, &sg_tls);
}

struct sg_ctx *sg_primary(int device)
{
	return device >= 0 && device < sg_devices ? primaries[device] : NULL;
}

void sg_ctx_fault(struct sg_ctx *c, CUresult fault, const char *text)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&c->fault, &none, (int)fault))
		return;
	snprintf(c->fault_text, sizeof(c->fault_text), "%s", text);
	logs_add("a kernel failed: %s", text);
	if (text[0] && getenv("SOFTGPU_VERBOSE"))
		fprintf(stderr, "softgpu: %s\n", text);
}

/* --- the stack ----------------------------------------------------------------------------------------------------- */

static CUresult push(struct sg_ctx *c)
{
	if (sg_tls.depth == sg_tls.cap) {
		unsigned int cap = sg_tls.cap ? sg_tls.cap * 2 : 8;
		void *p = realloc(sg_tls.stack, cap * sizeof(*sg_tls.stack));

		if (!p)
			return CUDA_ERROR_OUT_OF_MEMORY;
		sg_tls.stack = p;
		sg_tls.cap = cap;
		sg_thread_remember();
	}
	sg_tls.stack[sg_tls.depth++] = c;
	sg_ctx_swap(c);
	return CUDA_SUCCESS;
}

static void pop(void)
{
	sg_tls.depth--;
	sg_ctx_swap(sg_tls.depth ? sg_tls.stack[sg_tls.depth - 1] : NULL);
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
	struct sg_ctx *c = ctx_check(ctx);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return c ? push(c) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxPushCurrent(CUcontext ctx)
{
	return cuCtxPushCurrent_v2(ctx);
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!sg_tls.depth)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (pctx)
		*pctx = (CUcontext)sg_tls.top;
	pop();
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *pctx)
{
	return cuCtxPopCurrent_v2(pctx);
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	struct sg_ctx *c;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!ctx) {
		if (sg_tls.depth)
			pop();
		return CUDA_SUCCESS;
	}
	c = ctx_check(ctx);
	if (!c)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!sg_tls.depth)
		return push(c);
	sg_tls.stack[sg_tls.depth - 1] = c;
	sg_ctx_swap(c);
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *pctx)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	*pctx = (CUcontext)sg_tls.top;
	return CUDA_SUCCESS;
}

/* --- primary contexts ---------------------------------------------------------------------------------------------- */

static CUresult primary_check(CUdevice dev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return dev >= 0 && dev < sg_devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult start(struct sg_ctx *c)
{
	struct sg_stream *s = sg_stream_new(c, 0, 0, false);

	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&c->lock);
	c->legacy = s;
	pthread_mutex_unlock(&c->lock);
	activate(c);
	return CUDA_SUCCESS;
}

static pthread_mutex_t primary_lock = PTHREAD_MUTEX_INITIALIZER;

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
	CUresult e = primary_check(dev);
	struct sg_ctx *c;

	if (e)
		return e;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	c = primaries[dev];
	pthread_mutex_lock(&primary_lock);
	if (!c->active)
		e = start(c);
	if (!e) {
		c->active = true;
		c->retained++;
	}
	pthread_mutex_unlock(&primary_lock);
	if (!e)
		*pctx = (CUcontext)c;
	return e;
}

/* Under the lock. */
static void end_primary(struct sg_ctx *c)
{
	if (c->active)
		deactivate(c);
	c->active = false;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	CUresult e = primary_check(dev);
	struct sg_ctx *c;
	bool last;

	if (e)
		return e;
	c = primaries[dev];
	pthread_mutex_lock(&primary_lock);
	last = c->retained == 1;
	pthread_mutex_unlock(&primary_lock);
	if (last)
		sg_values_drop(c);
	pthread_mutex_lock(&primary_lock);
	if (!c->retained)
		e = CUDA_ERROR_INVALID_CONTEXT;
	else if (!--c->retained)
		end_primary(c);
	pthread_mutex_unlock(&primary_lock);
	return e;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	return cuDevicePrimaryCtxRelease_v2(dev);
}

/* Who has retained it has still to release it. */
CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
	CUresult e = primary_check(dev);
	struct sg_ctx *c;

	if (e)
		return e;
	c = primaries[dev];
	sg_values_drop(c);
	pthread_mutex_lock(&primary_lock);
	end_primary(c);
	pthread_mutex_unlock(&primary_lock);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev)
{
	return cuDevicePrimaryCtxReset_v2(dev);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
	CUresult e = primary_check(dev);

	if (e)
		return e;
	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	primaries[dev]->flags = flags;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags)
{
	return cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	CUresult e = primary_check(dev);

	if (e)
		return e;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = primaries[dev]->flags;
	*active = primaries[dev]->active;
	return CUDA_SUCCESS;
}

/* --- created contexts ---------------------------------------------------------------------------------------------- */

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	CUresult e = primary_check(dev);
	struct sg_ctx *c;

	if (e)
		return e;
	if (!pctx || flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	c = ctx_new(dev);
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	c->flags = flags;
	e = start(c);
	if (!e)
		e = push(c);
	if (e) {
		atomic_store(&c->object.live, 0);
		sg_object_put(&sg_ctx_table, c);
		return e;
	}
	*pctx = (CUcontext)c;
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *params, int n, unsigned int flags, CUdevice dev)
{
	return n ? CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY : cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *params, unsigned int flags, CUdevice dev)
{
	if (params && (params->numExecAffinityParams || params->cigParams))
		return CUDA_ERROR_NOT_SUPPORTED;
	return cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	struct sg_ctx *c = ctx_check(ctx);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!c || c->primary || c->green)
		return CUDA_ERROR_INVALID_CONTEXT;
	sg_values_drop(c);
	deactivate(c);
	atomic_store(&c->object.live, 0);
	if (sg_tls.top == c)
		pop();
	sg_object_put(&sg_ctx_table, c);
	return CUDA_SUCCESS;
}

CUresult cuCtxDestroy(CUcontext ctx)
{
	return cuCtxDestroy_v2(ctx);
}

/* --- green contexts as ordinary ones ------------------------------------------------------------------------------- */

struct sg_ctx *sg_ctx_new_green(struct sg_ctx *root, struct sg_green *green)
{
	struct sg_ctx *c = ctx_new(root->device);

	if (!c)
		return NULL;
	c->root = root;
	c->green = green;
	if (start(c)) {
		atomic_store(&c->object.live, 0);
		sg_object_put(&sg_ctx_table, c);
		return NULL;
	}
	pthread_mutex_lock(&root->lock);
	c->sibling = root->greens;
	root->greens = c;
	pthread_mutex_unlock(&root->lock);
	return c;
}

void sg_ctx_end_green(struct sg_ctx *c)
{
	struct sg_ctx **p;

	sg_values_drop(c);
	sg_queue_sync_ctx(c);
	sg_print_flush();
	atomic_store(&c->fault, CUDA_ERROR_CONTEXT_IS_DESTROYED);
	sg_queue_end_ctx(c);
	pthread_mutex_lock(&c->root->lock);
	for (p = &c->root->greens; *p && *p != c; p = &(*p)->sibling)
		;
	if (*p)
		*p = c->sibling;
	pthread_mutex_unlock(&c->root->lock);
	atomic_store(&c->object.live, 0);
	sg_object_put(&sg_ctx_table, c);
}

/* --- questions ----------------------------------------------------------------------------------------------------- */

/* @ctx, or the current context for NULL. A sticky fault is told. */
static CUresult ctx_of(CUcontext ctx, struct sg_ctx **out)
{
	CUresult e;

	if (!ctx) {
		e = sg_enter(out);
		*out = sg_tls.top;
		return e;
	}
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*out = ctx_check(ctx);
	if (!*out)
		return CUDA_ERROR_INVALID_CONTEXT;
	e = (CUresult)atomic_load(&(*out)->fault);
	return e ? e : (CUresult)atomic_load(&(*out)->root->fault);
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx)
{
	struct sg_ctx *c = NULL;
	CUresult e = ctx_of(ctx, &c);

	if (!c)
		return e;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = c->device;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	return cuCtxGetDevice_v2(device, NULL);
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = c->flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	c->flags = flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *id)
{
	struct sg_ctx *c = NULL;
	CUresult e = ctx_of(ctx, &c);

	if (!c || e == CUDA_ERROR_CONTEXT_IS_DESTROYED)
		return e;
	if (!id)
		return CUDA_ERROR_INVALID_VALUE;
	*id = c->id;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
	struct sg_ctx *c = NULL;
	CUresult e = ctx_of(ctx, &c);

	if (!c)
		return e;
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = 3020;
	return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize_v2(CUcontext ctx)
{
	struct sg_ctx *c;
	CUresult e = ctx_of(ctx, &c);

	if (e)
		return e;
	if (sg_tls.in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	e = sg_capture_legacy(c, true);
	if (e)
		return e;
	sg_queue_sync_ctx(c);
	sg_print_flush();
	return (CUresult)atomic_load(&c->root->fault);
}

CUresult cuCtxSynchronize(void)
{
	return cuCtxSynchronize_v2(NULL);
}
