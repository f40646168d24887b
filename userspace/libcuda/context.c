// SPDX-License-Identifier: Apache-2.0
/* Contexts: which one is current is the shim's own business, a stack for each thread. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "managed.h"
#include "link.h"
#include "memory.h"
#include "module.h"
#include "shim.h"
#include "shim_gen.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct context primaries[VGPU_DEVICES_MAX];
static uint64_t next_id = 1;

CUresult context_init(void)
{
	for (uint32_t i = 0; i < shim.ndevices; i++) {
		struct object *o = &objects[i + 1];

		primaries[i] = (struct context){ .device = i, .id = next_id++, .primary = true,
						 .api_version = VGPU_DRIVER_VERSION };
		o->wire = VGPU_PRIMARY_CTX(i);
		o->context = &primaries[i];
		o->root = o;
		o->type = VGPU_H_CTX;
		shim.devices[i].primary = o;
	}
	return CUDA_SUCCESS;
}

struct object *context_primary(uint32_t device)
{
	return device < shim.ndevices ? shim.devices[device].primary : NULL;
}

uint32_t context_device(const struct object *ctx)
{
	/* One that has ended may still be current. */
	return ctx->type == VGPU_H_CTX ? ctx->context->device : 0;
}

uint64_t context_id(const struct object *ctx)
{
	return ctx->context->id;
}

bool context_alive(const struct object *ctx)
{
	return ctx->type == VGPU_H_CTX && context_active(ctx);
}

/* The context that @ctx means to a call: itself, or the current one for NULL. */
static CUresult context_of(CUcontext ctx, struct object **out)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!ctx) {
		*out = context_top(thread_self());
		if (*out && context_ended(thread_self()))
			return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	} else {
		*out = object_get(ctx, VGPU_H_CTX);
	}
	return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

static void end_stream(struct object *o, void *ctx)
{
	if (o->ctx != ctx)
		return;
	capture_stream_ends(o->wire);
	object_delete(o);
}

static void end_object(struct object *o, void *ctx)
{
	if (o->ctx == ctx)
		object_delete(o);
}

static void set_active(struct object *ctx, bool active)
{
	__atomic_store_n(&ctx->active, active, __ATOMIC_RELAXED);
}

/* Green contexts go with their primary one. */
static void end_green(struct object *o, void *ctx)
{
	if (o->root == ctx)
		set_active(o, false);
}

/* A context has ended, and with it what was made in it: its handles are none any more. */
static void context_gone(struct object *ctx)
{
	memory_forget(ctx);
	module_forget(ctx);
	link_forget(ctx);
	objects_each(VGPU_H_STREAM, end_stream, ctx);
	capture_context_ends(ctx);
	objects_each(VGPU_H_EVENT, end_object, ctx);
	objects_each(VGPU_H_TEXREF, end_object, ctx);
	objects_each(VGPU_H_CTX, end_green, ctx);
}

/*
 * A context is about to end, which takes until the work in it has. That is waited for here as the program itself would,
 * so that other threads' calls, which this work may need, are served meanwhile: when the worker lets the driver end it,
 * nothing is left to wait for. What this says of the work is said to nobody.
 */
static void settle(struct object *ctx)
{
	if (!thread_self()->in_callback)
		context_settle(ctx);
}

/* --- primary contexts --- */

static CUresult primary_of(CUdevice dev, struct context **c)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	*c = &primaries[dev];
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
	struct vgpu_rq_cuDevicePrimaryCtxRetain rq;
	struct context *c;
	CUresult r = primary_of(dev, &c);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	/* Retained it may be and not active: a reset leaves whoever has it to give it back. */
	if (!context_active(shim.devices[dev].primary)) {
		rq = (struct vgpu_rq_cuDevicePrimaryCtxRetain){ .call = { .thread = thread_self()->number },
								.dev = dev };
		r = call_reply(VGPU_MSG_cuDevicePrimaryCtxRetain, &rq, sizeof(rq), NULL, 0);
	}
	if (r == CUDA_SUCCESS) {
		__atomic_store_n(&c->retained, c->retained + 1, __ATOMIC_RELAXED);
		set_active(shim.devices[dev].primary, true);
		*pctx = (CUcontext)shim.devices[dev].primary;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/*
 * The last one. It is answered, as a context's end always is, when the work in it has ended: its pinned memory may be
 * somebody else's next. Under the lock, so that who retains it meanwhile finds nothing of before.
 */
static CUresult release(CUdevice dev)
{
	struct vgpu_rq_cuDevicePrimaryCtxRelease_v2 rq = { .call = { .thread = thread_self()->number }, .dev = dev };
	CUresult r;

	set_active(shim.devices[dev].primary, false);
	r = call_reply(VGPU_MSG_cuDevicePrimaryCtxRelease_v2, &rq, sizeof(rq), NULL, 0);
	context_gone(shim.devices[dev].primary);
	latched_end(thread_self(), shim.devices[dev].primary, context_current(thread_self()) == shim.devices[dev].primary);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	struct context_value *values = NULL;
	struct context *c;
	CUresult r = primary_of(dev, &c);

	if (r != CUDA_SUCCESS)
		return r;
	if (__atomic_load_n(&c->retained, __ATOMIC_RELAXED) == 1)
		settle(shim.devices[dev].primary);
	pthread_mutex_lock(&lock);
	if (!c->retained) {
		r = CUDA_ERROR_INVALID_CONTEXT;
	} else if (c->retained > 1) {
		__atomic_store_n(&c->retained, c->retained - 1, __ATOMIC_RELAXED);
	} else if (thread_self()->in_callback) {
		r = CUDA_ERROR_NOT_PERMITTED;
	} else {
		__atomic_store_n(&c->retained, 0, __ATOMIC_RELAXED);
		r = release(dev);
		values = values_take(&c->values);
	}
	pthread_mutex_unlock(&lock);
	values_end((CUcontext)shim.devices[dev].primary, values);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice dev)
{
	return cuDevicePrimaryCtxRelease_v2(dev);
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
	struct context_value *values = NULL;
	struct context *c;
	CUresult r = primary_of(dev, &c);

	if (r != CUDA_SUCCESS)
		return r;
	settle(shim.devices[dev].primary);
	pthread_mutex_lock(&lock);
	r = call_cuDevicePrimaryCtxReset_v2(dev);
	if (r == CUDA_SUCCESS) {
		set_active(shim.devices[dev].primary, false);
		context_gone(shim.devices[dev].primary);
		latched_end(thread_self(), shim.devices[dev].primary, context_current(thread_self()) == shim.devices[dev].primary);
		values = values_take(&c->values);
	}
	pthread_mutex_unlock(&lock);
	values_end((CUcontext)shim.devices[dev].primary, values);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxReset(CUdevice dev)
{
	return cuDevicePrimaryCtxReset_v2(dev);
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
	struct context *c;
	CUresult r = primary_of(dev, &c);

	if (r != CUDA_SUCCESS)
		return r;
	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	c->flags = flags;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags)
{
	return cuDevicePrimaryCtxSetFlags_v2(dev, flags);
}

VGPU_EXPORT CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	struct context *c;
	CUresult r = primary_of(dev, &c);

	if (r != CUDA_SUCCESS)
		return r;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = c->flags;
	*active = context_active(shim.devices[dev].primary);
	return CUDA_SUCCESS;
}

/* --- the stack --- */

static CUresult push(struct object *ctx)
{
	struct thread *t = thread_self();

	if (t->depth == CONTEXT_STACK)
		return CUDA_ERROR_INVALID_VALUE;
	t->stack_wire[t->depth] = ctx->wire;
	t->stack[t->depth++] = ctx;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxPushCurrent_v2(CUcontext ctx)
{
	struct object *o;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	o = object_get(ctx, VGPU_H_CTX);
	return o ? push(o) : CUDA_ERROR_INVALID_CONTEXT;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxPushCurrent(CUcontext ctx)
{
	return cuCtxPushCurrent_v2(ctx);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxPopCurrent_v2(CUcontext *pctx)
{
	CUresult r = session_check();
	struct thread *t;

	if (r != CUDA_SUCCESS)
		return r;
	t = thread_self();
	if (!t->depth)
		return CUDA_ERROR_INVALID_CONTEXT;
	t->depth--;
	if (pctx)
		*pctx = (CUcontext)t->stack[t->depth];
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxPopCurrent(CUcontext *pctx)
{
	return cuCtxPopCurrent_v2(pctx);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxSetCurrent(CUcontext ctx)
{
	CUresult r = session_check();
	struct object *o;
	struct thread *t;

	if (r != CUDA_SUCCESS)
		return r;
	t = thread_self();
	if (!ctx) {
		if (t->depth)
			t->depth--;
		return CUDA_SUCCESS;
	}
	o = object_get(ctx, VGPU_H_CTX);
	if (!o)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!t->depth)
		return push(o);
	t->stack_wire[t->depth - 1] = o->wire;
	t->stack[t->depth - 1] = o;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetCurrent(CUcontext *pctx)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	*pctx = (CUcontext)context_top(thread_self());
	return CUDA_SUCCESS;
}

/* --- contexts that programs make --- */

VGPU_EXPORT CUresult CUDAAPI cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	struct context *c, *primary;
	CUresult r = primary_of(dev, &primary);
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = call_cuCtxCreate_v2(pctx, flags, dev);
	if (r != CUDA_SUCCESS) {
		free(c);
		return r;
	}
	o = (struct object *)*pctx;
	*c = (struct context){ .device = dev, .flags = flags, .api_version = VGPU_DRIVER_VERSION,
			       .id = context_next_id() };
	o->context = c;
	o->root = o;
	o->active = true;
	return push(o);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams,
					    unsigned int flags, CUdevice dev)
{
	struct context *primary;
	CUresult r = primary_of(dev, &primary);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pctx || !paramsArray != !numParams)
		return CUDA_ERROR_INVALID_VALUE;
	if (paramsArray)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;	/* as wherever NVIDIA's MPS does not run */
	return cuCtxCreate_v2(pctx, flags, dev);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags,
					    CUdevice dev)
{
	struct context *primary;
	CUresult r = primary_of(dev, &primary);

	if (r != CUDA_SUCCESS)
		return r;
	if (ctxCreateParams && ctxCreateParams->cigParams)
		return REFUSE("cuCtxCreate for work beside that of graphics", "graphics");
	return cuCtxCreate_v3(pctx, ctxCreateParams ? ctxCreateParams->execAffinityParams : NULL,
			      ctxCreateParams ? ctxCreateParams->numExecAffinityParams : 0, flags, dev);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxDestroy_v2(CUcontext ctx)
{
	struct vgpu_rq_cuCtxDestroy_v2 rq = { 0 };
	struct object *o;
	struct context *c;
	struct thread *t;
	bool current;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	o = object_get(ctx, VGPU_H_CTX);
	if (!o || o->context->primary || o->context->green)
		return CUDA_ERROR_INVALID_CONTEXT;
	t = thread_self();
	if (t->in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	settle(o);
	c = o->context;
	values_end(ctx, values_take(&c->values));
	current = context_current(t) == o;
	if (current)
		t->depth--;
	rq.call.thread = t->number;
	rq.ctx = o->wire;
	/* Whatever the driver says of the work that was in it, the worker has let go of it then. */
	r = call_reply(VGPU_MSG_cuCtxDestroy_v2, &rq, sizeof(rq), NULL, 0);
	context_gone(o);
	latched_end(t, o, current);
	object_delete(o);
	free(c);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxDestroy(CUcontext ctx)
{
	return cuCtxDestroy_v2(ctx);
}

/* --- green contexts as ordinary ones --- */

CUresult context_of_green(CUcontext *out, struct object *green)
{
	static pthread_mutex_t converting = PTHREAD_MUTEX_INITIALIZER;
	struct context *c;
	CUresult r = CUDA_SUCCESS;
	CUcontext made;

	pthread_mutex_lock(&converting);
	if (!green->green.ctx) {
		c = calloc(1, sizeof(*c));
		r = c ? call_cuCtxFromGreenCtx(&made, (CUgreenCtx)green) : CUDA_ERROR_OUT_OF_MEMORY;
		if (r != CUDA_SUCCESS) {
			free(c);
		} else {
			struct object *o = (struct object *)made;

			*c = (struct context){ .device = green->green.device, .id = green->green.id, .green = green,
					       .api_version = VGPU_DRIVER_VERSION };
			o->context = c;
			o->root = context_primary(green->green.device);
			set_active(o, true);
			green->green.ctx = o;
		}
	}
	if (r == CUDA_SUCCESS)
		*out = (CUcontext)green->green.ctx;
	pthread_mutex_unlock(&converting);
	return r;
}

void context_green_settle(struct object *green)
{
	if (green->green.ctx)
		settle(green->green.ctx);
}

static void end_stream_of(struct object *o, void *green)
{
	if (o->stream.green != green)
		return;
	capture_stream_ends(o->wire);
	object_delete(o);
}

/* All else that was made in it is the primary context's, and stays. */
void context_green_gone(struct object *green, struct object *o)
{
	struct context *c = o ? o->context : NULL;

	objects_each(VGPU_H_STREAM, end_stream_of, green);
	if (!o)
		return;
	values_end((CUcontext)o, values_take(&c->values));
	object_delete(o);
	free(c);
}

uint64_t context_next_id(void)
{
	return __atomic_fetch_add(&next_id, 1, __ATOMIC_RELAXED);
}

/* --- asking and telling --- */

VGPU_EXPORT CUresult CUDAAPI cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx)
{
	struct object *o;
	CUresult r = context_of(ctx, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = o->context->device;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetDevice(CUdevice *device)
{
	return cuCtxGetDevice_v2(device, NULL);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetFlags(unsigned int *flags)
{
	struct object *o;
	CUresult r = context_of(NULL, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = o->root->context->flags;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxSetFlags(unsigned int flags)
{
	struct object *o;
	CUresult r = context_of(NULL, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	o->root->context->flags = flags;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetId(CUcontext ctx, unsigned long long *ctxId)
{
	struct object *o;
	CUresult r = context_of(ctx, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (!ctxId)
		return CUDA_ERROR_INVALID_VALUE;
	*ctxId = o->context->id;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
	struct object *o;
	CUresult r = context_of(ctx, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = o->context->api_version;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
	struct object *o;
	CUresult r = context_of(NULL, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (leastPriority)
		*leastPriority = shim.devices[o->context->device].props.priority_low;
	if (greatestPriority)
		*greatestPriority = shim.devices[o->context->device].props.priority_high;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxGetLimit(size_t *pvalue, CUlimit limit)
{
	struct object *o;
	CUresult r = context_of(NULL, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pvalue)
		return CUDA_ERROR_INVALID_VALUE;
	/* Compute in graphics: there is none. cuBLAS takes any other answer as a reason to give up. */
	if (limit == CU_LIMIT_SHMEM_SIZE || limit == CU_LIMIT_CIG_ENABLED) {
		*pvalue = 0;
		return CUDA_SUCCESS;
	}
	return call_cuCtxGetLimit(pvalue, limit);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxSynchronize_v2(CUcontext ctx)
{
	struct vgpu_rq_cuCtxSynchronize rq;
	struct object *o;
	CUresult r = context_of(ctx, &o);

	if (r == CUDA_SUCCESS && !context_alive(o))
		r = CUDA_ERROR_CONTEXT_IS_DESTROYED;
	if (r == CUDA_SUCCESS)
		r = call_begin(&rq.call, false);
	if (r == CUDA_SUCCESS)
		r = capture_wait(o);
	if (r != CUDA_SUCCESS)
		return r;
	rq.call.ctx = o->wire;
	r = call_reply(VGPU_MSG_cuCtxSynchronize, &rq, sizeof(rq), NULL, 0);
	managed_after();
	return r;
}

CUresult context_settle(struct object *ctx)
{
	CUresult r;

	own_begin();
	r = cuCtxSynchronize_v2((CUcontext)ctx);
	own_end();
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuCtxSynchronize(void)
{
	return cuCtxSynchronize_v2(NULL);
}

VGPU_EXPORT CUresult CUDAAPI cuCtxRecordEvent(CUcontext hCtx, CUevent hEvent)
{
	CUresult r = call_cuCtxRecordEvent(hCtx, hEvent);

	if (r == CUDA_SUCCESS)
		event_recorded((struct object *)hEvent, NO_STREAM);
	return r;
}
