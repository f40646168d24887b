// SPDX-License-Identifier: Apache-2.0
/* What is known about a kernel since it was looked up, and the attributes a program can set. */
#include "shim.h"
#include "shim_gen.h"

static CUresult find(const void *p, bool kernel_only, struct object **out)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	*out = kernel_only ? object_get(p, VGPU_H_KERNEL) : object_function(p);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult get_attribute(int *pi, CUfunction_attribute attrib, const struct object *o)
{
	if (!pi || (uint32_t)attrib >= VGPU_FUNC_ATTRIBUTES)
		return CUDA_ERROR_INVALID_VALUE;
	*pi = o->kernel->attributes[attrib];
	return CUDA_SUCCESS;
}

/* Would the device take it? What it takes is set without a round trip. */
static CUresult check_attribute(const struct object *o, CUfunction_attribute attrib, int value)
{
	const struct object *ctx = context_current(thread_self());
	const int *limits = shim.devices[ctx ? context_device(ctx) : 0].props.attributes;

	switch ((int)attrib) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (value < 0 || value > limits[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN] -
		    o->kernel->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES])
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
	CUresult r = check_attribute(o, attrib, value);
	uint32_t *told;

	if (r != CUDA_SUCCESS)
		return r;
	told = &o->kernel->set_on[attrib];
	if (o->kernel->attributes[attrib] == value && (!*told || *told >> dev & 1))
		return r;
	if (o->type == VGPU_H_KERNEL)
		r = call_cuKernelSetAttribute(attrib, value, (CUkernel)o, dev);
	else
		r = call_cuFuncSetAttribute((CUfunction)o, attrib, value);
	if (r == CUDA_SUCCESS) {
		*told = o->kernel->attributes[attrib] == value ? *told | 1u << dev : 1u << dev;
		o->kernel->attributes[attrib] = value;
		occupancy_forget(o->kernel);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	return r == CUDA_SUCCESS ? get_attribute(pi, attrib, o) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev)
{
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r != CUDA_SUCCESS)
		return r;
	if (dev < 0 || (uint32_t)dev >= shim.ndevices)
		return CUDA_ERROR_INVALID_DEVICE;
	return get_attribute(pi, attrib, o);
}

VGPU_EXPORT CUresult CUDAAPI cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{
	const struct object *ctx = context_current(thread_self());
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	return r == CUDA_SUCCESS ? set_attribute(o, attrib, value, ctx ? context_device(ctx) : 0) : r;
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

	return r == CUDA_SUCCESS ? param_info(o, paramIndex, paramOffset, paramSize) : r;
}

VGPU_EXPORT CUresult CUDAAPI cuFuncGetName(const char **name, CUfunction hfunc)
{
	struct object *o;
	CUresult r = find(hfunc, false, &o);

	if (r != CUDA_SUCCESS || !name)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	*name = o->kernel->name;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuKernelGetName(const char **name, CUkernel hfunc)
{
	return cuFuncGetName(name, (CUfunction)hfunc);
}

/* A kernel serves as its own function: whatever takes a function's handle takes a kernel's. */
VGPU_EXPORT CUresult CUDAAPI cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel)
{
	struct object *o;
	CUresult r = find(kernel, true, &o);

	if (r != CUDA_SUCCESS || !pFunc)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
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
