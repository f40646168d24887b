// SPDX-License-Identifier: Apache-2.0
/* What is known about a kernel since it was looked up, and the attributes a program can set. */
#include <pthread.h>
#include <stdlib.h>

#include "module.h"
#include "shim.h"
#include "shim_gen.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* kernels on other devices */

/* The context of @device to ask in: the current one, or the primary one. */
static struct object *context_on(uint32_t device)
{
	const struct thread *t = thread_self();
	struct object *ctx = context_current(t);

	if (ctx && (context_ended(t) || context_device(ctx) != device))
		ctx = NULL;
	if (!ctx)
		ctx = context_primary(device);
	return ctx && context_alive(ctx) ? ctx : NULL;
}

/* Under the lock. As the function that kernel @o is there, which ends with the context and which nobody is shown. */
static struct kernel *fetch(struct object *o, struct object *ctx)
{
	struct vgpu_get_kernel rq = { .call = { .ctx = ctx->wire, .thread = thread_self()->number },
				      .parent = o->wire };
	struct object *touched = thread_self()->touched, *f = object_new(VGPU_H_FUNCTION);
	union {
		struct vgpu_kernel_reply reply;
		char room[sizeof(struct vgpu_kernel_reply) + VGPU_PARAMS_MAX * 8];
	} *u = malloc(sizeof(*u));
	struct iovec iov = { &rq, sizeof(rq) };
	struct kernel *k = NULL;
	size_t len = 0;

	if (u && f) {
		rq.handle = f->wire;
		own_begin();
		thread_self()->touched = NULL;
		if (call_replyv(VGPU_MSG_cuModuleGetFunction, &iov, 1, u, sizeof(*u), &len) == CUDA_SUCCESS)
			k = kernel_make(o->kernel->name, &u->reply, len);
		thread_self()->touched = touched;
		own_end();
	}
	free(u);
	if (k) {
		k->device = context_device(ctx);
		module_adopt(o->parent, f, ctx);
	} else if (f) {
		object_delete(f);
	}
	return k;
}

struct kernel *kernel_elsewhere(struct object *o, struct kernel *k, uint32_t device)
{
	struct kernel *there = __atomic_load_n(&k->on[device], __ATOMIC_ACQUIRE);
	struct object *ctx = there ? NULL : context_on(device);

	if (!ctx || thread_self()->in_callback)
		return there ? there : k;
	pthread_mutex_lock(&lock);
	there = k->on[device];
	if (!there) {
		there = fetch(o, ctx);
		__atomic_store_n(&k->on[device], there, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	return there ? there : k;
}

static CUresult find(const void *p, bool kernel_only, struct object **out)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	*out = kernel_only ? object_get(p, VGPU_H_KERNEL) : object_function(p);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUdevice current_device(void)
{
	const struct object *ctx = context_current(thread_self());

	return ctx ? context_device(ctx) : 0;
}

static CUresult get_attribute(int *pi, CUfunction_attribute attrib, struct object *o, CUdevice dev)
{
	if (!pi || (uint32_t)attrib >= VGPU_FUNC_ATTRIBUTES)
		return CUDA_ERROR_INVALID_VALUE;
	*pi = kernel_on(o, dev)->attributes[attrib];
	return CUDA_SUCCESS;
}

/* Would the device take it? What it takes is set without a round trip. */
static CUresult check_attribute(const struct kernel *k, CUfunction_attribute attrib, int value, CUdevice dev)
{
	const int *limits = shim.devices[dev].props.attributes;

	switch ((int)attrib) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (value < 0 || value > limits[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN] -
		    k->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES])
			return CUDA_ERROR_INVALID_VALUE;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		return value < -1 || value > 100 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		return value < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	default:	/* the others are facts */
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult set_attribute(struct object *o, CUfunction_attribute attrib, int value, CUdevice dev)
{
	struct kernel *k = kernel_on(o, dev);
	CUresult r = check_attribute(k, attrib, value, dev);
	bool known = o->type != VGPU_H_KERNEL || k->device == (uint32_t)dev;

	if (r != CUDA_SUCCESS || (known && k->attributes[attrib] == value))
		return r;
	if (o->type == VGPU_H_KERNEL)
		r = call_cuKernelSetAttribute(attrib, value, (CUkernel)o, dev);
	else
		r = call_cuFuncSetAttribute((CUfunction)o, attrib, value);
	if (r == CUDA_SUCCESS) {
		if (known)
			k->attributes[attrib] = value;
		occupancy_forget(o->kernel);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	return r == CUDA_SUCCESS ? get_attribute(pi, attrib, o, current_device()) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev)
{
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	return get_attribute(pi, attrib, o, dev);
}

VGPU_EXPORT CUresult CUDAAPI cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	return r == CUDA_SUCCESS ? set_attribute(o, attrib, value, current_device()) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev)
{
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	return set_attribute(o, attrib, val, dev);
}

static CUresult param_info(const struct object *o, size_t i, size_t *offset, size_t *size)
{
	if (!offset || i >= o->kernel->nparams)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = o->kernel->params[i].offset;
	if (size)
		*size = o->kernel->params[i].size;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset,
						size_t *paramSize)
{
	struct object *o;
	CUresult r = find(func, false, &o);

	return r == CUDA_SUCCESS ? param_info(o, paramIndex, paramOffset, paramSize) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t *paramOffset,
						  size_t *paramSize)
{
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r == CUDA_SUCCESS && !context_top(thread_self()))
		return CUDA_ERROR_INVALID_CONTEXT;
	return r == CUDA_SUCCESS ? param_info(o, paramIndex, paramOffset, paramSize) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncGetName(const char **name, CUfunction hfunc)
{
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	if (r == CUDA_ERROR_INVALID_HANDLE && !hfunc)
		return CUDA_ERROR_INVALID_VALUE;
	if (r != CUDA_SUCCESS || !name)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*name = o->kernel->name;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelGetName(const char **name, CUkernel hfunc)
{
	return cuFuncGetName(name, (CUfunction)hfunc);
}

/* A kernel serves as its own function in every context: whatever takes a function's handle takes a kernel's. */
VGPU_EXPORT CUresult CUDAAPI cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel)
{
	const struct thread *t = thread_self();
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r != CUDA_SUCCESS || !pFunc)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	if (!context_top(t))
		return CUDA_ERROR_INVALID_CONTEXT;
	if (context_ended(t) || !context_alive(context_top(t)))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	*pFunc = (CUfunction)o;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelGetLibrary(CUlibrary *pLib, CUkernel kernel)
{
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r != CUDA_SUCCESS || !pLib)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*pLib = (CUlibrary)o->parent;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncGetModule(CUmodule *hmod, CUfunction hfunc)
{
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	if (r != CUDA_SUCCESS || !hmod)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	if (o->type == VGPU_H_KERNEL)
		return cuLibraryGetModule(hmod, (CUlibrary)o->parent);
	*hmod = (CUmodule)o->parent;
	return CUDA_SUCCESS;
}

/* Looking a kernel up has loaded it. */
VGPU_EXPORT CUresult CUDAAPI cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function)
{
	struct object *o;
	CUresult r = find(function, false, &o);

	if (r != CUDA_SUCCESS || !state)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*state = CU_FUNCTION_LOADING_STATE_LOADED;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncLoad(CUfunction function)
{
	struct object *o;

	return find(function, false, &o);
}
