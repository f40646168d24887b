// SPDX-License-Identifier: Apache-2.0
/*
 * Launches: the hottest path. From the handle to the kernel's layout is one pointer; parameters are packed on the
 * stack, behind the header they travel with; nothing is allocated, looked up or waited for.
 */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "copy.h"
#include "launch.h"
#include "launch_attributes.h"
#include "managed.h"

#define ON_STACK	1024	/* bytes of attributes and parameters; more goes through the thread's scratch */

#define REGISTER_UNIT	256	/* a warp's registers are handed out in so many */

/* A block of @threads needs more registers than a block may have. */
static bool too_many_registers(const struct kernel *k, const int *limits, uint64_t threads)
{
	uint64_t warp = ((uint64_t)k->attributes[CU_FUNC_ATTRIBUTE_NUM_REGS] * 32 + REGISTER_UNIT - 1) / REGISTER_UNIT * REGISTER_UNIT;

	return (threads + 31) / 32 * warp > (uint64_t)limits[CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK];
}

/* What is wrong with the shape of a launch is said at once, as NVIDIA's driver 580 does: to the runtime as to others. */
CUresult launch_check(const struct launch *l, const struct kernel *k, uint32_t device)
{
	const int *limits = shim.devices[device].props.attributes;
	uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];

	for (int i = 0; i < 3; i++)
		if (!l->grid[i] || l->grid[i] > (uint32_t)limits[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i] ||
		    !l->block[i] || l->block[i] > (uint32_t)limits[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i])
			return CUDA_ERROR_INVALID_VALUE;
	if (threads > (uint32_t)limits[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK])
		return CUDA_ERROR_INVALID_VALUE;
	if (threads > (uint32_t)k->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK])
		return too_many_registers(k, limits, threads) ? CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES : CUDA_ERROR_INVALID_VALUE;
	if (l->shared > (uint32_t)k->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES])
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

/* The event in an attribute, if it is one of those that hold one. */
static CUevent *event_in(CUlaunchAttribute *a)
{
	if (a->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
		return &a->value.programmaticEvent.event;
	return a->id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT ? &a->value.launchCompletionEvent.event : NULL;
}

static CUresult check_attributes(const struct launch *l, bool *cooperative)
{
	if (l->nattrs > VGPU_LAUNCH_ATTRS_MAX || (l->nattrs && !l->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	for (uint32_t i = 0; i < l->nattrs; i++) {
		CUlaunchAttribute a = l->attrs[i];
		CUevent *event = event_in(&a);
		const struct object *o = event ? object_get(*event, VGPU_H_EVENT) : NULL;

		if (a.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE && a.value.cooperative)
			*cooperative = true;
		if (event && !o)
			return CUDA_ERROR_INVALID_HANDLE;
		/* Such an event is no point in a stream that could have a time. */
		if (event && !(o->event.flags & CU_EVENT_DISABLE_TIMING))
			return CUDA_ERROR_NOT_SUPPORTED;
		if (a.id == CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE)
			return REFUSE("graph nodes that kernels update", "the device's handle of a node has no meaning here");
		if (!event && !launch_attribute_is_plain(a.id))
			return REFUSE("an attribute of a launch that is not known", "it might hold a handle");
	}
	return CUDA_SUCCESS;
}

/*
 * A cooperative launch whose blocks all fit at once is like any other. Clusters, and other attributes, change what
 * fits, and in a part of a device there are fewer multiprocessors: there the driver decides.
 */
static bool certainly_fits(const struct launch *l, struct kernel *k, uint64_t stream)
{
	if (kernel_in_clusters(k) || (stream > 2 && objects[VGPU_HANDLE_INDEX(stream)].stream.green))
		return false;
	for (uint32_t i = 0; i < l->nattrs; i++)
		if (l->attrs[i].id != CU_LAUNCH_ATTRIBUTE_COOPERATIVE && l->attrs[i].id != CU_LAUNCH_ATTRIBUTE_IGNORE)
			return false;
	return occupancy_holds(l, k);
}

/* Events travel as handles. */
static void translate_attributes(CUlaunchAttribute *attrs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		CUevent *event = event_in(&attrs[i]);

		if (event)
			*event = (CUevent)(uintptr_t)object_wire(*event);
	}
}

/* The launch is on its way, and records its events, whenever it comes to that. */
static void attributes_sent(const CUlaunchAttribute *attrs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		CUlaunchAttribute a = attrs[i];
		CUevent *event = event_in(&a);

		if (event)
			event_recorded((struct object *)*event, NO_STREAM);
	}
}

/* The `extra` form: a list of ids and values that ends with CU_LAUNCH_PARAM_END. */
CUresult launch_extra(void **extra, const void **buffer, size_t *size)
{
	const size_t *length = NULL;

	*buffer = NULL;
	for (;; extra += 2) {
		if (extra[0] == CU_LAUNCH_PARAM_END)
			break;
		if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
			*buffer = extra[1];
		else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE)
			length = extra[1];
		else
			return CUDA_ERROR_INVALID_VALUE;
	}
	*size = length ? *length : 0;
	return *size > VGPU_PARAM_BYTES_MAX || (*size && !*buffer) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static void *scratch(struct thread *t)
{
	if (!t->scratch)
		t->scratch = malloc(sizeof(struct vgpu_launch) + VGPU_LAUNCH_ATTRS_MAX * sizeof(CUlaunchAttribute) +
				    VGPU_PARAM_BYTES_MAX);
	return t->scratch;
}

CUresult launch(const struct launch *l, void **params, void **extra)
{
	struct {
		struct vgpu_launch rq;
		unsigned char room[ON_STACK];
	} local;
	struct vgpu_launch *rq = &local.rq;
	const void *buffer = NULL;
	bool cooperative = l->cooperative, fits;
	struct object *o;
	struct vgpu_call call;
	struct iovec iov;
	size_t bytes, given = 0, attrs_bytes;
	unsigned char *at;
	uint32_t device;
	struct kernel *k;
	uint64_t stream;
	CUresult r;

	r = call_begin(&call, true);
	if (r != CUDA_SUCCESS)
		return r;
	o = object_function(l->function);
	if (!o || !stream_handle(l->stream, &stream))
		return CUDA_ERROR_INVALID_HANDLE;
	device = context_device(context_current(thread_current));
	k = kernel_on(o, device);
	r = launch_check(l, k, device);
	if (r == CUDA_SUCCESS && l->nattrs)
		r = check_attributes(l, &cooperative);
	if (r != CUDA_SUCCESS)
		return r;
	bytes = k->param_bytes;
	if (params && extra)
		return CUDA_ERROR_INVALID_VALUE;
	if (extra) {
		r = launch_extra(extra, &buffer, &given);
		if (r != CUDA_SUCCESS)
			return r;
		/* It may be shorter: NCCL gives as much of its 4 KiB as it uses. The driver must not read on behind it. */
		if (given > bytes)
			bytes = given;
	} else if (!params && bytes) {
		return CUDA_ERROR_INVALID_VALUE;
	}
	managed_before(stream);
	fits = cooperative && certainly_fits(l, k, stream);
	stream_touch(stream);	/* what was asked and sent meanwhile is not what the stream waits for now */
	attrs_bytes = l->nattrs * sizeof(CUlaunchAttribute);
	if (bytes + attrs_bytes > ON_STACK) {
		rq = scratch(thread_current);
		if (!rq)
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	rq->call = call;
	rq->function = o->wire;
	rq->stream = stream;
	memcpy(rq->grid, l->grid, sizeof(rq->grid));
	memcpy(rq->block, l->block, sizeof(rq->block));
	rq->shared = l->shared;
	rq->cooperative = l->cooperative;
	rq->nattrs = l->nattrs;
	rq->param_bytes = bytes;
	at = (unsigned char *)(rq + 1);
	if (attrs_bytes) {
		memcpy(at, l->attrs, attrs_bytes);
		translate_attributes((CUlaunchAttribute *)at, l->nattrs);
	}
	at += attrs_bytes;
	if (extra) {
		if (given)
			memcpy(at, buffer, given);
		memset(at + given, 0, bytes - given);
	} else {
		uint32_t end = 0;

		for (uint32_t i = 0; i < k->nparams; i++) {
			uint32_t offset = k->params[i].offset, size = k->params[i].size;

			if (offset > end)	/* no stack bytes between parameters */
				memset(at + end, 0, offset - end);
			memcpy(at + offset, params[i], size);
			end = offset + size;
		}
	}
	iov = (struct iovec){ rq, sizeof(*rq) + attrs_bytes + bytes };
	/* CUDA says at once if the blocks of a cooperative launch do not. */
	if (cooperative && !fits)
		r = call_replyv(VGPU_MSG_cuLaunchKernel, &iov, 1, NULL, 0, NULL);
	else
		r = call_postv(VGPU_MSG_cuLaunchKernel, &iov, 1);
	if (r == CUDA_SUCCESS && l->nattrs)
		attributes_sent(l->attrs, l->nattrs);
	/* Nothing can be waited for while streams capture, or in a host function. */
	if (__builtin_expect(shim.launch_blocking, 0) && r == CUDA_SUCCESS && !thread_current->in_callback &&
	    !__atomic_load_n(&captures, __ATOMIC_RELAXED))
		r = copy_barrier(stream);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
					    unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
					    unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
					    void **kernelParams, void **extra)
{
	struct launch l = { .function = f, .stream = hStream, .shared = sharedMemBytes,
			    .grid = { gridDimX, gridDimY, gridDimZ }, .block = { blockDimX, blockDimY, blockDimZ } };

	return launch(&l, kernelParams, extra);
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
						       unsigned int gridDimZ, unsigned int blockDimX,
						       unsigned int blockDimY, unsigned int blockDimZ,
						       unsigned int sharedMemBytes, CUstream hStream,
						       void **kernelParams)
{
	struct launch l = { .function = f, .stream = hStream, .shared = sharedMemBytes, .cooperative = 1,
			    .grid = { gridDimX, gridDimY, gridDimZ }, .block = { blockDimX, blockDimY, blockDimZ } };

	return launch(&l, kernelParams, NULL);
}

void launch_of_config(struct launch *l, const CUlaunchConfig *c, CUfunction f)
{
	*l = (struct launch){ .function = f, .stream = c->hStream, .shared = c->sharedMemBytes,
			      .grid = { c->gridDimX, c->gridDimY, c->gridDimZ },
			      .block = { c->blockDimX, c->blockDimY, c->blockDimZ },
			      .attrs = c->attrs, .nattrs = c->numAttrs };
}

VGPU_EXPORT CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams,
					      void **extra)
{
	struct launch l;

	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	launch_of_config(&l, config, f);
	return launch(&l, kernelParams, extra);
}
