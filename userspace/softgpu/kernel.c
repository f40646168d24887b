// SPDX-License-Identifier: Apache-2.0
/* Kernels and functions (one and the same here): lookup, attributes, parameters, occupancy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

static CUresult kernel_new(struct sg_library *lib, const char *kernel_name, const struct ptx_kernel *code,
			   struct sg_kernel **out)
{
	const struct ptx_kernel_info *info = ptx_kernel_info(code);
	struct sg_kernel *k = sg_object_new(&sg_kernel_table);
	size_t bytes = info->nparams * sizeof(info->params[0]);
	void *params = malloc(bytes ? bytes : 1);
	char *name = strdup(kernel_name);

	if (!k || !params || !name) {
		free(params);
		free(name);
		if (k)
			sg_object_put(&sg_kernel_table, k);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (bytes)
		memcpy(params, info->params, bytes);
	k->info = *info;
	k->info.name = name;
	k->info.params = params;
	k->library = lib;
	k->max_dynamic = info->static_shared < SG_SHARED_DEFAULT ? (int)(SG_SHARED_DEFAULT - info->static_shared) : 0;
	k->carveout = -1;
	k->next = lib->kernels;
	lib->kernels = k;
	atomic_store_explicit(&k->object.live, sg_kernel_table.magic, memory_order_release);
	*out = k;
	return CUDA_SUCCESS;
}

/* The code of @name, compiled now if nobody asked before. */
static CUresult find_code(struct sg_library *lib, struct sg_instance *in, const char *name,
			  const struct ptx_kernel **out)
{
	char text[512] = "";
	struct ptx_log log = { .text = text, .cap = sizeof(text) };
	CUresult e;

	*out = NULL;
	if (lib->packed)
		e = sg_pack_find(in, name, &log, out);
	else
		e = (CUresult)ptx_module_find(in->ptx, name, &log, out);
	if (e && e != CUDA_ERROR_NOT_FOUND && getenv("SOFTGPU_VERBOSE"))
		fprintf(stderr, "softgpu: kernel %s: %s\n", name,
			text[0] ? text : lib->packed ? "its image holds machine code only, and no PTX stands in for it" :
			"cannot be compiled");
	return e;
}

CUresult sg_kernel_get(struct sg_library *lib, const char *name, struct sg_kernel **out)
{
	const struct ptx_kernel *code = NULL;
	struct ptx_module *ptx;
	struct sg_kernel *k;
	unsigned int slot;
	CUresult e;

	pthread_mutex_lock(&lib->lock);
	for (k = lib->kernels; k; k = k->next) {
		if (!strcmp(k->info.name, name)) {
			*out = k;
			e = CUDA_SUCCESS;
			goto out;
		}
	}
	e = sg_library_any(lib, &ptx, &slot);
	if (!e)
		e = find_code(lib, &lib->instance[slot], name, &code);
	if (!e)
		e = kernel_new(lib, name, code, &k);
	if (e)
		goto out;
	atomic_store_explicit(&k->code[slot], code, memory_order_release);
	*out = k;
out:
	pthread_mutex_unlock(&lib->lock);
	return e;
}

CUresult sg_kernel_code_slow(struct sg_kernel *k, struct sg_ctx *c, const struct ptx_kernel **out)
{
	struct sg_library *lib = k->library;
	struct ptx_module *ptx;
	unsigned int slot;
	CUresult e;

	pthread_mutex_lock(&lib->lock);
	e = sg_library_instance(lib, c, &ptx, &slot);
	if (!e) {
		*out = atomic_load(&k->code[slot]);
		if (!*out) {
			e = find_code(lib, &lib->instance[slot], k->info.name, out);
			atomic_store_explicit(&k->code[slot], *out, memory_order_release);
		}
	}
	pthread_mutex_unlock(&lib->lock);
	return e;
}

static CUresult enter(const void *h, struct sg_kernel **k)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*k = sg_kernel_check(h);
	return *k ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* --- attributes ---------------------------------------------------------------------------------------------------- */

static CUresult get_attribute(int *pi, CUfunction_attribute attrib, const void *h)
{
	struct sg_kernel *k;
	CUresult e = enter(h, &k);

	if (e)
		return e;
	if (!pi)
		return CUDA_ERROR_INVALID_VALUE;
	switch (attrib) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
		*pi = (int)k->info.max_threads;
		break;
	case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
		*pi = (int)k->info.static_shared;
		break;
	case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
		*pi = (int)k->info.const_bytes;
		break;
	case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
		*pi = (int)k->info.local_bytes;
		break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS:
		*pi = (int)(k->info.registers < 255 ? k->info.registers : 255);
		break;
	case CU_FUNC_ATTRIBUTE_PTX_VERSION:
		*pi = (int)k->info.ptx_version;
		break;
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
		*pi = SG_CC_MAJOR * 10 + SG_CC_MINOR;	/* compiled for this device, from whichever PTX */
		break;
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		*pi = k->max_dynamic;
		break;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		*pi = k->carveout;
		break;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
		*pi = k->nonportable_cluster;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		*pi = k->cluster_policy;
		break;
	case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
	case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
		*pi = 0;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

static CUresult set_attribute(CUfunction_attribute attrib, int value, const void *h)
{
	struct sg_kernel *k;
	CUresult e = enter(h, &k);

	if (e)
		return e;
	switch (attrib) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (value < 0 || (uint32_t)value + k->info.static_shared > SG_SHARED_OPTIN)
			return CUDA_ERROR_INVALID_VALUE;
		k->max_dynamic = value;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		if (value < -1 || value > 100)
			return CUDA_ERROR_INVALID_VALUE;
		k->carveout = value;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
		k->nonportable_cluster = !!value;
		return CUDA_SUCCESS;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		k->cluster_policy = value;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static bool device_ok(CUdevice dev)
{
	return dev >= 0 && dev < sg_devices;
}

CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction func)
{
	return get_attribute(pi, attrib, func);
}

CUresult cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev)
{
	return device_ok(dev) ? get_attribute(pi, attrib, kernel) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuFuncSetAttribute(CUfunction func, CUfunction_attribute attrib, int value)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	return e ? e : set_attribute(attrib, value, func);
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int value, CUkernel kernel, CUdevice dev)
{
	return device_ok(dev) ? set_attribute(attrib, value, kernel) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuFuncSetCacheConfig(CUfunction func, CUfunc_cache config)
{
	struct sg_kernel *k;

	return enter(func, &k);
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev)
{
	struct sg_kernel *k;

	return device_ok(dev) ? enter(kernel, &k) : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuFuncSetSharedMemConfig(CUfunction func, CUsharedconfig config)
{
	struct sg_kernel *k;

	return enter(func, &k);
}

/* --- names, parents, parameters ------------------------------------------------------------------------------------ */

static CUresult get_name(const char **name, const void *h)
{
	struct sg_kernel *k;
	CUresult e = enter(h, &k);

	if (e == CUDA_ERROR_INVALID_HANDLE && !h)
		return CUDA_ERROR_INVALID_VALUE;
	if (e)
		return e;
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	*name = k->info.name;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char **name, CUfunction func)
{
	return get_name(name, func);
}

CUresult cuKernelGetName(const char **name, CUkernel kernel)
{
	return get_name(name, kernel);
}

static CUresult param_info(const void *h, size_t i, size_t *offset, size_t *size)
{
	struct sg_kernel *k;
	CUresult e = enter(h, &k);

	if (e)
		return e;
	if (!offset || i >= k->info.nparams)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = k->info.params[i].offset;
	if (size)
		*size = k->info.params[i].size;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t i, size_t *offset, size_t *size)
{
	return param_info(func, i, offset, size);
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t i, size_t *offset, size_t *size)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	return param_info(kernel, i, offset, size);
}

CUresult cuKernelGetFunction(CUfunction *func, CUkernel kernel)
{
	const struct ptx_kernel *code;
	struct sg_kernel *k;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (!e)
		e = enter(kernel, &k);
	if (e)
		return e;
	if (!func)
		return CUDA_ERROR_INVALID_VALUE;
	e = sg_kernel_code(k, c, &code);
	if (!e)
		*func = (CUfunction)k;
	return e;
}

CUresult cuKernelGetLibrary(CUlibrary *library, CUkernel kernel)
{
	struct sg_kernel *k;
	CUresult e = enter(kernel, &k);

	if (e)
		return e;
	if (!library)
		return CUDA_ERROR_INVALID_VALUE;
	*library = (CUlibrary)k->library;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule *module, CUfunction func)
{
	struct sg_kernel *k;
	CUresult e = enter(func, &k);

	if (e)
		return e;
	if (!module)
		return CUDA_ERROR_INVALID_VALUE;
	*module = (CUmodule)k->library;
	return CUDA_SUCCESS;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction func)
{
	struct sg_kernel *k;
	CUresult e = enter(func, &k);

	if (e)
		return e;
	if (!state)
		return CUDA_ERROR_INVALID_VALUE;
	*state = CU_FUNCTION_LOADING_STATE_LOADED;
	return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction func)
{
	struct sg_kernel *k;

	return enter(func, &k);
}

/* --- occupancy ----------------------------------------------------------------------------------------------------- */

int sg_occupancy(const struct sg_kernel *k, unsigned int threads, size_t dynamic_shared)
{
	size_t shared = k->info.static_shared + dynamic_shared;
	unsigned int warps = (threads + 31) / 32, registers = k->info.registers, n = SG_BLOCKS_SM, by;

	if (!threads || threads > k->info.max_threads || (int64_t)dynamic_shared > k->max_dynamic)
		return 0;
	by = SG_THREADS_SM / (warps * 32);
	n = by < n ? by : n;
	if (shared) {
		by = (unsigned int)(SG_SHARED_SM / (((shared + 127) & ~127ul) + SG_SHARED_RESERVED));
		n = by < n ? by : n;
	}
	registers = ((registers > 255 ? 255 : registers < 16 ? 16 : registers) + 7) & ~7u;
	by = SG_REGISTERS / (registers * 32 * warps);
	/* The interpreter spills nothing: a block of a size that the kernel allows always fits. */
	by = by ? by : 1;
	return (int)(by < n ? by : n);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction func, int size, size_t dynamic,
							      unsigned int flags)
{
	struct sg_kernel *k;
	CUresult e = enter(func, &k);

	if (e)
		return e;
	if (!blocks || size <= 0 || flags & ~(unsigned int)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	*blocks = sg_occupancy(k, (unsigned int)size, dynamic);
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction func, int size, size_t dynamic)
{
	return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, func, size, dynamic, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction func, CUoccupancyB2DSize shared_of,
						   size_t dynamic, int limit, unsigned int flags)
{
	int best = 0, best_threads = 0, max, sms = (int)sg_cpus;
	struct sg_kernel *k;
	CUresult e = enter(func, &k);

	if (e)
		return e;
	if (!grid || !block || limit < 0 || flags & ~(unsigned int)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	max = (int)k->info.max_threads;
	if (limit && limit < max)
		max = limit;
	for (int size = max; size > 0; size = (size - 1) & ~31) {
		int n = sg_occupancy(k, (unsigned int)size, shared_of ? shared_of(size) : dynamic);

		if (n * size > best_threads) {
			best_threads = n * size;
			best = size;
			*grid = n * sms;
		}
	}
	if (!best)
		return CUDA_ERROR_INVALID_VALUE;
	*block = best;
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction func, CUoccupancyB2DSize shared_of,
					  size_t dynamic, int limit)
{
	return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, func, shared_of, dynamic, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *size, CUfunction func, int blocks, int block_size)
{
	struct sg_kernel *k;
	size_t each, most;
	CUresult e = enter(func, &k);

	if (e)
		return e;
	if (!size || blocks <= 0 || block_size <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	each = SG_SHARED_SM / (size_t)blocks;
	each = each > SG_SHARED_RESERVED ? (each - SG_SHARED_RESERVED) & ~127ul : 0;
	each = each > k->info.static_shared ? each - k->info.static_shared : 0;
	/* More only for a kernel that has been allowed more. */
	most = (size_t)k->max_dynamic + k->info.static_shared > SG_SHARED_DEFAULT ? SG_SHARED_OPTIN : SG_SHARED_DEFAULT;
	most -= k->info.static_shared;
	*size = each < most ? each : most;
	return CUDA_SUCCESS;
}

/* Clusters of more than one block do not exist here. */
CUresult cuOccupancyMaxPotentialClusterSize(int *size, CUfunction func, const CUlaunchConfig *config)
{
	struct sg_kernel *k;
	CUresult e = enter(func, &k);

	return e ? e : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuOccupancyMaxActiveClusters(int *n, CUfunction func, const CUlaunchConfig *config)
{
	struct sg_kernel *k;
	CUresult e = enter(func, &k);

	return e ? e : CUDA_ERROR_NOT_SUPPORTED;
}
