// SPDX-License-Identifier: Apache-2.0
/*
 * Modules and libraries. Both are struct sg_library: PTX text, compiled once per context that uses it, because each
 * context has its own variables. A module belongs to one context; a library is compiled when it is loaded, so that
 * errors are told then, and that first instance goes to the first context that uses it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"

static struct sg_library *library_check(const void *h)
{
	return sg_object_check(&sg_library_table, h);
}

/* --- JIT options --------------------------------------------------------------------------------------------------- */

/* struct jit - the options that mean something here: where the logs go. */
struct jit {
	struct ptx_log error;
	char own[1024];
	char *info;
	size_t info_cap;
	void **error_size, **info_size;	/* option values to be told how much was written */
};

static CUresult jit_read(struct jit *j, unsigned int n, CUjit_option *options, void **values)
{
	memset(j, 0, sizeof(*j));
	if (n && (!options || !values))
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < n; i++) {
		switch (options[i]) {
		case CU_JIT_ERROR_LOG_BUFFER:
			j->error.text = values[i];
			break;
		case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
			j->error.cap = (size_t)(unsigned int)(uintptr_t)values[i];
			j->error_size = &values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER:
			j->info = values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
			j->info_cap = (size_t)(unsigned int)(uintptr_t)values[i];
			j->info_size = &values[i];
			break;
		default:
			break;		/* how to optimise: nothing here does */
		}
	}
	if (!j->error.text || !j->error.cap) {
		j->error = (struct ptx_log){ .text = j->own, .cap = sizeof(j->own) };
		j->error_size = NULL;
	}
	j->error.text[0] = 0;
	if (j->info && j->info_cap)
		j->info[0] = 0;
	return CUDA_SUCCESS;
}

static void jit_done(struct jit *j)
{
	if (j->error_size)
		*j->error_size = (void *)(uintptr_t)j->error.len;
	if (j->info_size)
		*j->info_size = NULL;
	if (j->error.text == j->own && j->own[0] && getenv("SOFTGPU_VERBOSE"))
		fprintf(stderr, "softgpu: %s\n", j->own);
}

/* --- loading ------------------------------------------------------------------------------------------------------- */

static void library_free(struct sg_library *lib)
{
	struct sg_kernel *k, *next;

	for (k = lib->kernels; k; k = next) {
		next = k->next;
		atomic_store(&k->object.live, 0);
		free((char *)k->info.name);
		free((void *)k->info.params);
		sg_object_put(&sg_kernel_table, k);
	}
	for (unsigned int i = 0; i < SG_INSTANCES; i++) {
		sg_pack_forget(&lib->instance[i]);
		if (lib->instance[i].ptx)
			ptx_module_free(lib->instance[i].ptx);
	}
	sg_managed_forget(lib);
	sg_texrefs_end(lib);
	free(lib->text);
	pthread_mutex_destroy(&lib->lock);
	sg_object_put(&sg_library_table, lib);
}

/* What an image without PTX is loaded as: its kernels come from the pack. */
static const char empty_module[] = ".version 8.0\n.target sm_90\n.address_size 64\n";

static CUresult load(const void *image, struct sg_ctx *c, bool module, struct jit *j, struct sg_library **out)
{
	struct sg_library *lib;
	CUresult e;

	if (!image)
		return CUDA_ERROR_INVALID_VALUE;
	lib = sg_object_new(&sg_library_table);
	if (!lib)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_init(&lib->lock, NULL);
	lib->module = module;
	e = sg_image_ptx(image, SIZE_MAX, &lib->text, &lib->len, &j->error);
	if (e == CUDA_ERROR_NO_BINARY_FOR_GPU && sg_pack_present()) {
		lib->packed = true;
		lib->text = strdup(empty_module);
		lib->len = strlen(empty_module);
		e = lib->text ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
		j->error.text[0] = 0;
		j->error.len = 0;
	}
	if (!e)
		e = (CUresult)ptx_module_load(lib->text, lib->len, &j->error, &lib->instance[0].ptx);
	jit_done(j);
	if (e) {
		lib->instance[0].ptx = NULL;
		library_free(lib);
		return e;
	}
	lib->instance[0].ctx = c;
	atomic_store(&lib->fast, c);
	atomic_store_explicit(&lib->object.live, sg_library_table.magic, memory_order_release);
	*out = lib;
	return CUDA_SUCCESS;
}

CUresult sg_library_instance(struct sg_library *lib, struct sg_ctx *c, struct ptx_module **out, unsigned int *slot)
{
	struct sg_instance *free_slot = NULL, *in = NULL;
	struct sg_ctx *current;
	char text[256] = "";
	struct ptx_log log = { .text = text, .cap = sizeof(text) };
	int err;

	for (unsigned int i = 0; i < SG_INSTANCES; i++) {
		struct sg_instance *p = &lib->instance[i];

		if (p->ptx && p->ctx == c) {
			in = p;
			break;
		}
		if (p->ptx && !p->ctx && !in)
			in = p;
		if (!p->ptx && !free_slot)
			free_slot = p;
	}
	if (!in) {
		if (lib->module)
			return CUDA_ERROR_INVALID_HANDLE;
		if (!free_slot)
			return CUDA_ERROR_OUT_OF_MEMORY;
		current = sg_ctx_swap(c);
		err = ptx_module_load(lib->text, lib->len, &log, &free_slot->ptx);
		sg_ctx_swap(current);
		if (err) {
			free_slot->ptx = NULL;
			return (CUresult)err;
		}
		in = free_slot;
	}
	in->ctx = c;
	*out = in->ptx;
	if (slot)
		*slot = (unsigned int)(in - lib->instance);
	/* The way without the lock serves slot 0 while it is the only one. */
	atomic_store(&lib->fast, lib->instance[0].ctx);
	for (unsigned int i = 1; i < SG_INSTANCES; i++)
		if (lib->instance[i].ptx)
			atomic_store(&lib->fast, NULL);
	return CUDA_SUCCESS;
}

CUresult sg_library_any(struct sg_library *lib, struct ptx_module **out, unsigned int *slot)
{
	struct sg_ctx *c = sg_tls.ctx;

	for (unsigned int i = 0; i < SG_INSTANCES; i++) {
		if (!lib->instance[i].ptx)
			continue;
		*out = lib->instance[i].ptx;
		if (slot)
			*slot = i;
		return CUDA_SUCCESS;
	}
	return sg_library_instance(lib, c && !atomic_load(&c->fault) ? c : NULL, out, slot);
}

void sg_modules_end_ctx(struct sg_ctx *c)
{
	uint32_t n = atomic_load(&sg_library_table.used);

	for (uint32_t i = 0; i < n; i++) {
		struct sg_library *lib = library_check(sg_library_table.base + (size_t)i * sg_library_table.size);

		if (!lib)
			continue;
		pthread_mutex_lock(&lib->lock);
		for (unsigned int s = 0; s < SG_INSTANCES; s++) {
			struct sg_instance *in = &lib->instance[s];

			if (in->ctx != c || !in->ptx)
				continue;
			if (atomic_load(&lib->fast) == c)
				atomic_store(&lib->fast, NULL);
			for (struct sg_kernel *k = lib->kernels; k; k = k->next)
				atomic_store(&k->code[s], NULL);
			sg_pack_forget(in);
			ptx_module_free(in->ptx);
			in->ptx = NULL;
			in->ctx = NULL;
		}
		pthread_mutex_unlock(&lib->lock);
		if (lib->module && !lib->instance[0].ptx) {
			atomic_store(&lib->object.live, 0);
			library_free(lib);
		}
	}
}

static CUresult unload(struct sg_library *lib)
{
	/* Kernels of it may still be queued. */
	for (unsigned int i = 0; i < SG_INSTANCES; i++)
		if (lib->instance[i].ptx && lib->instance[i].ctx)
			sg_queue_sync_ctx(lib->instance[i].ctx);
	sg_print_flush();
	atomic_store(&lib->object.live, 0);
	library_free(lib);
	return CUDA_SUCCESS;
}

static CUresult read_file(const char *name, char **out)
{
	FILE *f = fopen(name, "rbe");
	char *p = NULL;
	long size;

	if (!f)
		return CUDA_ERROR_FILE_NOT_FOUND;
	if (!fseek(f, 0, SEEK_END) && (size = ftell(f)) >= 0 && size < (long)SG_IMAGE_MAX && !fseek(f, 0, SEEK_SET)) {
		p = calloc(1, (size_t)size + 64);	/* zeros behind it: a text may lack its NUL */
		if (p && fread(p, 1, (size_t)size, f) != (size_t)size) {
			free(p);
			p = NULL;
		}
	}
	fclose(f);
	*out = p;
	return p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int n, CUjit_option *options, void **values)
{
	struct sg_library *lib;
	struct sg_ctx *c;
	struct jit j;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!module)
		return CUDA_ERROR_INVALID_VALUE;
	e = jit_read(&j, n, options, values);
	if (!e)
		e = load(image, c, true, &j, &lib);
	if (!e)
		*module = (CUmodule)lib;
	return e;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *image)
{
	return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CUresult cuModuleLoad(CUmodule *module, const char *name)
{
	struct sg_ctx *c;
	char *image;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!name || !module)
		return CUDA_ERROR_INVALID_VALUE;
	e = read_file(name, &image);
	if (e)
		return e;
	e = cuModuleLoadData(module, image);
	free(image);
	return e;
}

CUresult cuModuleUnload(CUmodule module)
{
	struct sg_library *lib = library_check(module);
	CUresult e = sg_enter_end();

	if (e)
		return e;
	if (!lib)
		return CUDA_ERROR_INVALID_HANDLE;
	return lib->module ? unload(lib) : CUDA_ERROR_NOT_PERMITTED;	/* it ends with its library */
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *options, void **values, unsigned int n,
			   CUlibraryOption *lib_options, void **lib_values, unsigned int lib_n)
{
	struct sg_library *lib;
	struct sg_ctx *c = sg_tls.ctx;
	struct jit j;
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!library || (lib_n && !lib_options))
		return CUDA_ERROR_INVALID_VALUE;
	/* A context that is not in use cannot own the variables. */
	if (c && atomic_load(&c->fault))
		c = NULL;
	e = jit_read(&j, n, options, values);
	if (!e)
		e = load(code, c, false, &j, &lib);
	if (!e)
		*library = (CUlibrary)lib;
	return e;
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *name, CUjit_option *options, void **values,
			       unsigned int n, CUlibraryOption *lib_options, void **lib_values, unsigned int lib_n)
{
	char *image;
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!name || !library)
		return CUDA_ERROR_INVALID_VALUE;
	e = read_file(name, &image);
	if (e)
		return e;
	e = cuLibraryLoadData(library, image, options, values, n, lib_options, lib_values, lib_n);
	free(image);
	return e;
}

CUresult cuLibraryUnload(CUlibrary library)
{
	struct sg_library *lib = library_check(library);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return lib && !lib->module ? unload(lib) : CUDA_ERROR_INVALID_HANDLE;
}

/* --- what is in them ----------------------------------------------------------------------------------------------- */

static CUresult library_enter(const void *h, struct sg_library **lib, struct sg_ctx **c)
{
	CUresult e = sg_enter(c);

	if (e)
		return e;
	*lib = library_check(h);
	return *lib ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult function(const void *h, const char *name, struct sg_kernel **out)
{
	struct sg_library *lib = library_check(h);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!lib)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!name || !out)
		return CUDA_ERROR_INVALID_VALUE;
	return sg_kernel_get(lib, name, out);
}

CUresult cuModuleGetFunction(CUfunction *func, CUmodule module, const char *name)
{
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	return e ? e : function(module, name, (struct sg_kernel **)func);
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name)
{
	return function(library, name, (struct sg_kernel **)kernel);
}

static CUresult global(const void *h, const char *name, CUdeviceptr *dptr, size_t *bytes)
{
	struct ptx_module *ptx;
	struct sg_library *lib;
	struct sg_ctx *c;
	uint64_t address;
	size_t size;
	CUresult e = library_enter(h, &lib, &c);

	if (e)
		return e;
	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lib->lock);
	e = sg_library_instance(lib, c, &ptx, NULL);
	if (!e && !ptx_module_global(ptx, name, &address, &size))
		e = CUDA_ERROR_NOT_FOUND;
	pthread_mutex_unlock(&lib->lock);
	if (e)
		return e;
	if (dptr)
		*dptr = address;
	if (bytes)
		*bytes = size;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule module, const char *name)
{
	return global(module, name, dptr, bytes);
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
	return global(library, name, dptr, bytes);
}

/* texref.c: the variable that is a texture or surface reference. */
CUresult sg_module_texture(const void *module, const char *name, uint64_t *address, const void **library);

CUresult sg_module_texture(const void *module, const char *name, uint64_t *address, const void **library)
{
	struct ptx_module *ptx;
	struct sg_library *lib;
	struct sg_ctx *c;
	CUresult e = library_enter(module, &lib, &c);

	if (e)
		return e;
	pthread_mutex_lock(&lib->lock);
	e = sg_library_instance(lib, c, &ptx, NULL);
	if (!e && (!ptx_module_global_is_texture(ptx, name) || !ptx_module_global(ptx, name, address, NULL)))
		e = CUDA_ERROR_NOT_FOUND;
	pthread_mutex_unlock(&lib->lock);
	*library = lib;
	return e;
}

/* The runtime asks when a program starts, before there is a context: they are the library's, not a context's. */
CUresult cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
	struct sg_library *lib = library_check(library);
	struct ptx_module *ptx;
	uint64_t address;
	size_t size;
	CUresult e;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!lib)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lib->lock);
	e = sg_library_any(lib, &ptx, NULL);
	if (!e && (!ptx_module_global_is_managed(ptx, name) || !ptx_module_global(ptx, name, &address, &size)))
		e = CUDA_ERROR_NOT_FOUND;
	pthread_mutex_unlock(&lib->lock);
	if (e)
		return e;
	if (!sg_managed_note(address, size, lib))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (dptr)
		*dptr = address;
	if (bytes)
		*bytes = size;
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library)
{
	struct ptx_module *ptx;
	struct sg_library *lib;
	struct sg_ctx *c;
	CUresult e = library_enter(library, &lib, &c);

	if (e)
		return e;
	if (!module)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lib->lock);
	e = sg_library_instance(lib, c, &ptx, NULL);
	pthread_mutex_unlock(&lib->lock);
	if (!e)
		*module = (CUmodule)lib;
	return e;
}

static CUresult enumerate(const void *h, unsigned int *count, struct sg_kernel **out, unsigned int max)
{
	struct sg_library *lib = library_check(h);
	struct ptx_module *ptx;
	CUresult e;
	size_t n;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!lib)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!count && !out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lib->lock);
	e = sg_library_any(lib, &ptx, NULL);
	pthread_mutex_unlock(&lib->lock);
	if (e)
		return e;
	n = ptx_module_kernels(ptx);
	if (count)
		*count = (unsigned int)n;
	for (unsigned int i = 0; out && i < max && i < n && !e; i++) {
		const char *at;
		size_t len = ptx_module_kernel_name(ptx, i, &at);
		char *name = strndup(at, len);

		e = name ? sg_kernel_get(lib, name, &out[i]) : CUDA_ERROR_OUT_OF_MEMORY;
		free(name);
	}
	return e;
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule module)
{
	return enumerate(module, count, NULL, 0);
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary library)
{
	return enumerate(library, count, NULL, 0);
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int n, CUmodule module)
{
	return enumerate(module, NULL, (struct sg_kernel **)functions, n);
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int n, CUlibrary library)
{
	return enumerate(library, NULL, (struct sg_kernel **)kernels, n);
}
