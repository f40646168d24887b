/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PTX: parse, translate, run. The software GPU's half that knows instructions and nothing of streams or handles.
 *
 * A module is compiled once from PTX text into an internal form and then only read, so any number of threads may
 * launch from it. A launch runs to its end on the calling thread and the helpers of a pool, a block at a time per
 * thread, a warp at a time within a block.
 */
#ifndef SOFTGPU_PTX_H
#define SOFTGPU_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx_module;
struct ptx_kernel;

/** struct ptx_log - a JIT log, NUL-terminated, cut when full. "line N: what is wrong" */
struct ptx_log {
	char *text;
	size_t cap, len;
};

/**
 * Compile PTX text (@len bytes without the NUL). .global and .const variables are placed with sg_heap_alloc() and
 * initialised (addresses of other variables and generic() included).
 *
 * A large text is only divided into its functions here, and must stay until ptx_module_free(); each kernel is compiled
 * when ptx_module_find() first asks for it, which then tells what is wrong in it.
 * @return 0; CUDA_ERROR_INVALID_PTX (218), CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222), CUDA_ERROR_NO_BINARY_FOR_GPU
 * (209, .target above sm_120), CUDA_ERROR_OUT_OF_MEMORY (2), each with @log.
 */
int ptx_module_load(const char *text, size_t len, struct ptx_log *log, struct ptx_module **out);
void ptx_module_free(struct ptx_module *m);

/**
 * A kernel by name, compiled now if it is not yet. The caller lets one thread at a time in.
 * @return 0; CUDA_ERROR_NOT_FOUND (500); what ptx_module_load() returns.
 */
int ptx_module_find(struct ptx_module *m, const char *name, struct ptx_log *log, const struct ptx_kernel **out);

/** A kernel that is compiled already, else NULL. */
const struct ptx_kernel *ptx_module_kernel(const struct ptx_module *m, const char *name);
const struct ptx_kernel *ptx_module_kernel_at(const struct ptx_module *m, size_t i);

/** How many kernels there are, compiled or not. */
size_t ptx_module_kernels(const struct ptx_module *m);
/** The name of kernel @i, not NUL-terminated. @return its length, 0 if there is no such kernel. */
size_t ptx_module_kernel_name(const struct ptx_module *m, size_t i, const char **name);

/** A .global/.const variable. @return false if there is none. */
bool ptx_module_global(const struct ptx_module *m, const char *name, uint64_t *address, size_t *size);
bool ptx_module_global_is_managed(const struct ptx_module *m, const char *name);
/** A .texref or .surfref: 8 bytes that hold the name of a texture or surface object. */
bool ptx_module_global_is_texture(const struct ptx_module *m, const char *name);

/** What cudaGraphSetConditional() in a kernel calls; NULL: nothing. */
extern void (*ptx_set_conditional)(uint64_t handle, uint32_t value);

/** True if some kernel may print (vprintf) or assert. */
bool ptx_module_prints(const struct ptx_module *m);

/** struct ptx_kernel_info - what cuFuncGetAttribute and cuFuncGetParamInfo tell. */
struct ptx_kernel_info {
	const char *name;
	size_t nparams;
	const struct { uint32_t offset, size; } *params;
	uint32_t param_bytes;
	uint32_t static_shared, const_bytes, local_bytes, registers;
	uint32_t max_threads;		/* .maxntid product, else 1024 */
	uint32_t required[3];		/* .reqntid, else 0 */
	uint32_t ptx_version, binary_version;	/* e.g. 75, 120 */
};
const struct ptx_kernel_info *ptx_kernel_info(const struct ptx_kernel *k);

/**
 * struct ptx_launch
 * @params: packed parameters, at least param_bytes
 * @print:  gets text from printf (one call per printf, already formatted) and assert
 * @allocate, @release: malloc(), which gives 0 if there is no memory, and free(), false if there is nothing to free. In
 *	    any thread, and NULL if there is no heap
 * @cancel: if not NULL and it becomes non-zero the launch stops early
 */
struct ptx_launch {
	uint32_t grid[3], block[3];
	uint32_t dynamic_shared;
	bool cooperative;
	const void *params;
	void (*print)(void *opaque, const char *text, size_t len);
	uint64_t (*allocate)(void *opaque, uint64_t size);
	bool (*release)(void *opaque, uint64_t addr);
	void *opaque;			/* for these three */
	const volatile int *cancel;
};

/**
 * Run a kernel. @return 0 or the CUresult of the first fault: 700 illegal address, 716 misaligned address,
 * 717 invalid address space, 718 invalid pc, 719 launch failed (trap), 710 assert, 720 cooperative too large.
 * @fault (may be NULL, 256 bytes) gets a sentence: kernel, block, thread, PTX line, address.
 */
int ptx_launch(const struct ptx_kernel *k, const struct ptx_launch *l, char *fault);

/** How many threads launches use at most: default the number of online CPUs ($SOFTGPU_THREADS). */
void ptx_set_threads(unsigned int n);

/** Thread-instructions executed by this process so far, for the benchmark. */
uint64_t ptx_instructions(void);

#endif /* SOFTGPU_PTX_H */
