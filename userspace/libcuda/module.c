// SPDX-License-Identifier: Apache-2.0
/*
 * Modules and libraries: loading, and finding what is in them. A load that is as good as certain to succeed is not waited
 * for; if it fails all the same, that is the answer to the first use.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"
#include "image.h"
#include "jit.h"
#include "managed.h"
#include "memory.h"
#include "module.h"
#include "shim_gen.h"
#include "upload.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* children lists, loads under way */

/* --- loading --- */

/* Under the lock. */
static CUresult ready(struct object *o)
{
	if (o->library.load) {
		/* A host function may not wait for the GPU. */
		if (thread_self()->in_callback && !load_there(o->library.load))
			return CUDA_ERROR_NOT_PERMITTED;
		o->library.failed = load_answer(o->library.load);
		o->library.load = NULL;
	}
	return o->library.failed;
}

CUresult module_ready(struct object *o)
{
	CUresult r;

	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&lock);
	r = ready(o);
	pthread_mutex_unlock(&lock);
	return r;
}

/*
 * @r came of a request to the worker about @o. One wait for both: what @o's load came to is known by then, and goes before
 * what was asked of it. Under the lock.
 */
static CUresult after_load(struct object *o, CUresult r)
{
	CUresult load = ready(o);

	return load != CUDA_SUCCESS ? load : r;
}

/* Is it a matter of course, and is there nothing that the program is to read in the answer? */
static bool can_wait(const struct image *image, const struct jit *j)
{
	const struct object *ctx = context_current(thread_self());
	const struct vgpu_props_reply *props = &shim.devices[ctx ? context_device(ctx) : 0].props;
	const struct image_device device = {
		.major = props->attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR],
		.minor = props->attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR],
		.ptx_only = props->ptx_only,
	};

	return !shim.sync && !j->text[0] && !j->text[1] && !__atomic_load_n(&captures, __ATOMIC_RELAXED) &&
	       image_for(image, &device);
}

static CUresult unlinked(void)
{
	return REFUSE("loading separately compiled parts that are not linked for this GPU",
		      "compile for the device's own architecture, or without -rdc=true");
}

CUresult module_load(enum vgpu_handle_type type, const void *code, size_t readable, unsigned int noptions,
		     const CUjit_option *options, void **values, struct object **out)
{
	struct vgpu_load rq = { .log_size = 0 };
	CUresult r = call_begin(&rq.call, type == VGPU_H_MODULE);
	struct image image;
	struct object *o;
	struct jit j;

	if (r != CUDA_SUCCESS)
		return r;
	if (!out || !code)
		return CUDA_ERROR_INVALID_VALUE;
	switch (image_measure(code, readable, &image)) {
	case IMAGE_NONE:
		return CUDA_ERROR_INVALID_IMAGE;
	case IMAGE_NEEDS_LINKER:
		return unlinked();
	default:
		break;
	}
	if (!kernels_print() && image_may_print(&image))
		kernels_may_print();
	jit_parse(&j, noptions, options, values);
	rq.log_size = j.text[0] || j.text[1] ? jit_log_size(&j) : 0;
	rq.max_registers = j.max_registers;
	rq.opt_level = j.opt_level;
	o = object_new(type);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = o->wire;
	o->ctx = context_current(thread_self());
	r = upload(&rq, &image, &j, can_wait(&image, &j) ? &o->library.load : NULL);
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r == CUDA_ERROR_NO_BINARY_FOR_GPU && image.parts ? unlinked() : r;
	}
	*out = o;
	return CUDA_SUCCESS;
}

static CUresult load_file(enum vgpu_handle_type type, const char *path, unsigned int n, const CUjit_option *options,
			  void **values, struct object **out)
{
	CUresult r = session_check();
	struct stat st;
	ssize_t got = 0;
	char *data;
	int fd;

	if (r != CUDA_SUCCESS)
		return r;
	if (!out || !path)
		return CUDA_ERROR_INVALID_VALUE;
	r = CUDA_ERROR_FILE_NOT_FOUND;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return r;
	if (!fstat(fd, &st) && st.st_size > 0 && (uint64_t)st.st_size < IMAGE_MAX) {
		size_t size = st.st_size;

		data = malloc(size + 1);
		if (!data) {
			close(fd);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
		for (size_t at = 0; at < size; at += got) {
			got = read(fd, data + at, size - at);
			if (got <= 0)
				break;
		}
		data[size] = '\0';
		r = got > 0 ? module_load(type, data, size + 1, n, options, values, out) : CUDA_ERROR_FILE_NOT_FOUND;
		free(data);
	}
	close(fd);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleLoad(CUmodule *module, const char *fname)
{
	return load_file(VGPU_H_MODULE, fname, 0, NULL, NULL, (struct object **)module);
}

VGPU_EXPORT CUresult CUDAAPI cuModuleLoadData(CUmodule *module, const void *image)
{
	return module_load(VGPU_H_MODULE, image, SIZE_MAX, 0, NULL, NULL, (struct object **)module);
}

VGPU_EXPORT CUresult CUDAAPI cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
						CUjit_option *options, void **optionValues)
{
	return module_load(VGPU_H_MODULE, image, SIZE_MAX, numOptions, options, optionValues,
			   (struct object **)module);
}

VGPU_EXPORT CUresult CUDAAPI cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin)
{
	return cuModuleLoadData(module, fatCubin);
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions,
					       void **jitOptionsValues, unsigned int numJitOptions,
					       CUlibraryOption *libraryOptions, void **libraryOptionValues,
					       unsigned int numLibraryOptions)
{
	/* The one library option there is says that the caller keeps the image; a copy is taken anyway. */
	return module_load(VGPU_H_LIBRARY, code, SIZE_MAX, numJitOptions, jitOptions, jitOptionsValues,
			   (struct object **)library);
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryLoadFromFile(CUlibrary *library, const char *fileName, CUjit_option *jitOptions,
						   void **jitOptionsValues, unsigned int numJitOptions,
						   CUlibraryOption *libraryOptions, void **libraryOptionValues,
						   unsigned int numLibraryOptions)
{
	return load_file(VGPU_H_LIBRARY, fileName, numJitOptions, jitOptions, jitOptionsValues,
			 (struct object **)library);
}

/* --- unloading --- */

static void kernel_free(struct kernel *k)
{
	if (!k)
		return;
	for (unsigned int i = 0; i < VGPU_DEVICES_MAX; i++)
		kernel_free(k->on[i]);
	occupancy_forget(k);
	free(k->params);
	free(k->name);
	free(k);
}

void module_adopt(struct object *module, struct object *o, struct object *ctx)
{
	pthread_mutex_lock(&lock);
	o->parent = module;
	o->ctx = ctx;
	o->sibling = module->children;
	module->children = o;
	pthread_mutex_unlock(&lock);
}

/* Nothing is in @parent any more. Its variables' addresses may be others' as soon as the worker knows. */
static struct object *take_children(struct object *parent)
{
	struct object *o;

	pthread_mutex_lock(&lock);
	o = parent->children;
	parent->children = NULL;
	pthread_mutex_unlock(&lock);
	managed_forget(parent);
	range_remove_owned(parent);
	return o;
}

/* When the worker has let go of them, or been told to: their places may come again. */
static void delete_children(struct object *o)
{
	while (o) {
		struct object *next = o->sibling;
		struct kernel *k = object_function(o) ? o->kernel : NULL;

		object_delete(o);
		if (k)
			kernel_free(k);
		o = next;
	}
}

/* The functions that a library's kernels had in @ctx. */
static void forget_functions(struct object *library, const struct object *ctx)
{
	struct object **p, *o;

	pthread_mutex_lock(&lock);
	for (p = &library->children; (o = *p);) {
		if (o->type == VGPU_H_KERNEL || o->ctx != ctx) {
			p = &o->sibling;
			continue;
		}
		*p = o->sibling;
		if (object_function(o))
			kernel_free(o->kernel);
		object_delete(o);
	}
	pthread_mutex_unlock(&lock);
}

static void end_library(struct object *o, void *ctx)
{
	struct object **p, *m;

	forget_functions(o, ctx);
	pthread_mutex_lock(&lock);
	for (p = &o->library.module; (m = *p);) {
		if (m->ctx == ctx)
			*p = m->sibling;	/* it goes with the modules */
		else
			p = &m->sibling;
	}
	pthread_mutex_unlock(&lock);
}

static void end_module(struct object *o, void *ctx)
{
	if (o->ctx != ctx)
		return;
	module_ready(o);
	delete_children(take_children(o));
	object_delete(o);
}

void module_forget(const struct object *ctx)
{
	objects_each(VGPU_H_LIBRARY, end_library, (void *)ctx);
	objects_each(VGPU_H_MODULE, end_module, (void *)ctx);
}

VGPU_EXPORT CUresult CUDAAPI cuModuleUnload(CUmodule hmod)
{
	struct object *o = object_get(hmod, VGPU_H_MODULE), *children;
	struct vgpu_call call;
	CUresult r = call_begin_end(&call, o);

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	if (o->parent)
		return CUDA_ERROR_NOT_PERMITTED;	/* a library's module ends with the library */
	r = module_ready(o);
	if (o->library.load)
		return r;
	children = take_children(o);
	if (r == CUDA_SUCCESS)
		r = call_cuModuleUnload(hmod);
	else
		object_delete(o);	/* the worker has none */
	delete_children(children);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryUnload(CUlibrary library)
{
	struct object *o = object_get(library, VGPU_H_LIBRARY), *modules, *m, *children;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	r = module_ready(o);
	if (o->library.load)
		return r;
	pthread_mutex_lock(&lock);
	modules = o->library.module;
	o->library.module = NULL;
	pthread_mutex_unlock(&lock);
	children = take_children(o);
	for (m = modules; m; m = m->sibling)
		m->children = take_children(m);
	if (r == CUDA_SUCCESS)
		r = call_cuLibraryUnload(library);
	else
		object_delete(o);
	delete_children(children);
	while ((m = modules)) {
		modules = m->sibling;
		delete_children(m->children);
		object_delete(m);
	}
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
	const char *s = getenv("CUDA_MODULE_LOADING");

	if (!mode)
		return CUDA_ERROR_INVALID_VALUE;
	*mode = s && !strcmp(s, "EAGER") ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryGetModule(CUmodule *pMod, CUlibrary library)
{
	struct object *o = object_get(library, VGPU_H_LIBRARY), *m;
	const struct object *ctx;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!pMod || !o)
		return pMod ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
	ctx = context_current(thread_self());
	pthread_mutex_lock(&lock);
	r = o->library.failed;
	for (m = o->library.module; m && m->ctx != ctx; m = m->sibling)
		;
	if (r == CUDA_SUCCESS && !m) {
		r = after_load(o, call_cuLibraryGetModule((CUmodule *)&m, library));
		if (r == CUDA_SUCCESS) {
			m->parent = o;
			m->sibling = o->library.module;
			o->library.module = m;
		}
	}
	if (r == CUDA_SUCCESS)
		*pMod = (CUmodule)m;
	pthread_mutex_unlock(&lock);
	return r;
}

/* --- kernels --- */

struct kernel *kernel_make(const char *name, const struct vgpu_kernel_reply *reply, size_t len)
{
	struct kernel *k;

	if (len < sizeof(*reply) || reply->nparams > VGPU_PARAMS_MAX ||
	    len != sizeof(*reply) + reply->nparams * sizeof(reply->params[0]) ||
	    reply->param_bytes > VGPU_PARAM_BYTES_MAX)
		return NULL;
	for (uint32_t i = 0; i < reply->nparams; i++)
		if (reply->params[i].offset > reply->param_bytes ||
		    reply->params[i].size > reply->param_bytes - reply->params[i].offset)
			return NULL;
	k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->name = strdup(name);
	k->params = calloc(reply->nparams + 1, sizeof(k->params[0]));
	if (!k->name || !k->params) {
		kernel_free(k);
		return NULL;
	}
	memcpy(k->attributes, reply->attributes, sizeof(k->attributes));
	memcpy(k->params, reply->params, reply->nparams * sizeof(k->params[0]));
	k->nparams = reply->nparams;
	k->param_bytes = reply->param_bytes;
	return k;
}

static CUresult fetch_kernel(struct object *parent, enum vgpu_handle_type type, const char *name, struct object **out)
{
	struct vgpu_get_kernel rq = { .parent = parent->wire, .name_len = strlen(name) };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { (void *)name, rq.name_len } };
	union {
		struct vgpu_kernel_reply reply;
		char room[sizeof(struct vgpu_kernel_reply) + VGPU_PARAMS_MAX * 8];
	} *u;
	CUresult r = call_begin(&rq.call, false);
	struct kernel *k;
	struct object *o;
	size_t len = 0;

	if (r == CUDA_SUCCESS)
		r = parent->library.failed;
	if (r != CUDA_SUCCESS)
		return r;
	u = malloc(sizeof(*u));
	o = object_new(type);
	if (!u || !o) {
		free(u);
		if (o)
			object_delete(o);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	rq.handle = o->wire;
	r = after_load(parent, call_replyv(VGPU_MSG_cuModuleGetFunction, iov, 2, u, sizeof(*u), &len));
	if (r == CUDA_SUCCESS) {
		k = kernel_make(name, &u->reply, len);
		if (k)
			k->device = rq.call.ctx ? context_device(context_current(thread_self())) : 0;
		/* The runtime tells its other threads of it. */
		__atomic_store_n(&o->kernel, k, __ATOMIC_RELEASE);
		if (!k)
			r = session_failed(-EPROTO);
	}
	free(u);
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r;
	}
	o->parent = parent;
	o->ctx = context_current(thread_self());
	o->sibling = parent->children;
	parent->children = o;
	*out = o;
	return CUDA_SUCCESS;
}

CUresult module_kernel(struct object *parent, enum vgpu_handle_type type, const char *name, struct object **out)
{
	CUresult r = session_check();
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!parent)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!out || !name || !*name || strlen(name) > VGPU_PARAM_BYTES_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	for (o = parent->children; o; o = o->sibling)
		if (o->type == type && !strcmp(o->kernel->name, name))
			break;
	if (o)
		*out = o;
	else
		r = fetch_kernel(parent, type, name, out);
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
	return module_kernel(object_get(hmod, VGPU_H_MODULE), VGPU_H_FUNCTION, name, (struct object **)hfunc);
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name)
{
	return module_kernel(object_get(library, VGPU_H_LIBRARY), VGPU_H_KERNEL, name, (struct object **)pKernel);
}

/* --- variables --- */

static CUresult get_global(uint16_t type, struct object *parent, const char *name, CUdeviceptr *dptr, size_t *bytes)
{
	struct vgpu_get_global rq = { .reserved = 0 };
	struct vgpu_global_reply reply;
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { (void *)name, 0 } };
	CUresult r = call_begin(&rq.call, true);
	size_t len = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (!parent)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!name || (!dptr && !bytes) || strlen(name) > VGPU_PARAM_BYTES_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	rq.parent = parent->wire;
	rq.name_len = iov[1].iov_len = strlen(name);
	pthread_mutex_lock(&lock);
	r = parent->library.failed;
	if (r == CUDA_SUCCESS)
		r = after_load(parent, call_replyv(type, iov, 2, &reply, sizeof(reply), &len));
	if (r == CUDA_SUCCESS && len != sizeof(reply))
		r = session_failed(-EPROTO);
	/* Under the lock: another thread may ask for the same, or unload it. */
	if (r == CUDA_SUCCESS && reply.size)
		r = memory_note(reply.address, reply.size, RANGE_GLOBAL, parent);
	pthread_mutex_unlock(&lock);
	if (r != CUDA_SUCCESS)
		return r;
	if (dptr)
		*dptr = reply.address;
	if (bytes)
		*bytes = reply.size;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name)
{
	return get_global(VGPU_MSG_cuModuleGetGlobal_v2, object_get(hmod, VGPU_H_MODULE), name, dptr, bytes);
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
	return get_global(VGPU_MSG_cuModuleGetGlobal_v2, object_get(library, VGPU_H_LIBRARY), name, dptr, bytes);
}

VGPU_EXPORT CUresult CUDAAPI cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
	struct object *o = object_get(library, VGPU_H_LIBRARY);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!name || (!dptr && !bytes) || strlen(name) > VGPU_PARAM_BYTES_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_ready(o);
	return r == CUDA_SUCCESS ? managed_variable(o, name, dptr, bytes) : r;
}

/* CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS is 0: there is none. */
VGPU_EXPORT CUresult CUDAAPI cuLibraryGetUnifiedFunction(void **fptr, CUlibrary library, const char *symbol)
{
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!fptr || !symbol)
		return CUDA_ERROR_INVALID_VALUE;
	return object_get(library, VGPU_H_LIBRARY) ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_HANDLE;
}
