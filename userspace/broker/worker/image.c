// SPDX-License-Identifier: Apache-2.0
/*
 * Modules and libraries. The image is copied out of shared memory once (upload.c, stored.c), and its own idea of its length is
 * compared with what came, since the driver is given an address and believes the image.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

#define LOG_MAX		(16u * 1024)
#define NAME_MAX_	4096u

#define MAGIC_FATBIN	0xBA55ED50u
#define MAGIC_WRAPPER	0x466243B1u

/* struct of a fatbin's start, as everybody who reads them has found it */
struct fatbin_header {
	uint32_t magic;
	uint16_t version, header_size;
	uint64_t files_size;
};

static bool elf_fits(const unsigned char *p, uint64_t size)
{
	Elf64_Ehdr h;
	unsigned int i;

	if (size < sizeof(h))
		return false;
	memcpy(&h, p, sizeof(h));
	if (h.e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	if (h.e_shnum && (h.e_shentsize != sizeof(Elf64_Shdr) || h.e_shoff > size ||
			  (uint64_t)h.e_shnum * sizeof(Elf64_Shdr) > size - h.e_shoff))
		return false;
	if (h.e_phnum && (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > size ||
			  (uint64_t)h.e_phnum * sizeof(Elf64_Phdr) > size - h.e_phoff))
		return false;
	for (i = 0; i < h.e_shnum; i++) {
		Elf64_Shdr s;

		memcpy(&s, p + h.e_shoff + i * sizeof(s), sizeof(s));
		if (s.sh_type != SHT_NOBITS && (s.sh_offset > size || s.sh_size > size - s.sh_offset))
			return false;
	}
	return true;
}

/* @p has a zero byte behind its end. */
static bool image_fits(const unsigned char *p, uint64_t size)
{
	struct fatbin_header f;
	uint32_t magic;

	if (size < 4)
		return false;
	memcpy(&magic, p, sizeof(magic));
	if (magic == MAGIC_FATBIN) {
		if (size < sizeof(f))
			return false;
		memcpy(&f, p, sizeof(f));
		return f.header_size >= sizeof(f) && f.header_size <= size && f.files_size <= size - f.header_size;
	}
	/* A wrapper holds addresses of the client. It never gets this far honestly. */
	if (magic == MAGIC_WRAPPER)
		return false;
	if (!memcmp(p, ELFMAG, SELFMAG))
		return elf_fits(p, size);
	return true;	/* text, or nothing the driver knows */
}

struct options {
	CUjit_option ids[8];
	void *values[8];
	unsigned int n;
};

static void option(struct options *o, CUjit_option id, uintptr_t value)
{
	o->ids[o->n] = id;
	o->values[o->n++] = (void *)value;
}

/* What the driver put into a log buffer and how much of it is text. */
static uint32_t text_len(const char *log, uint32_t cap)
{
	return cap ? strnlen(log, cap) : 0;
}

/*
 * The device's free memory, where only this process uses the device: then what a module takes can be seen. Elsewhere its
 * variables are charged one by one, when the client asks where they are.
 */
static uint64_t free_memory(struct worker *w)
{
	size_t bytes = 0, total;
	CUcontext made;

	/* A library may be loaded with no context current. */
	if (!w->soft || context_borrow(w, &made) != CUDA_SUCCESS)
		return 0;
	if (D.cuMemGetInfo_v2(&bytes, &total) != CUDA_SUCCESS)
		bytes = 0;
	context_give_back(w, made);
	return bytes;
}

void worker_hand_load(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_load *q = m->payload;
	struct vgpu_load_reply rp = { 0 };
	char *logs = NULL, *reply;
	struct options o = { .n = 0 };
	struct image *image = NULL;
	enum vgpu_handle_type type;
	struct handle *e;
	bool in_message;
	void *object = NULL;
	uint64_t before, after;
	uint32_t log;
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	in_message = q->image.offset == VGPU_DATA_INLINE;
	if (!payload_ends(m, sizeof(*q), in_message ? q->image.size : 0)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	log = q->log_size < LOG_MAX ? q->log_size : LOG_MAX;
	type = VGPU_HANDLE_TYPE(q->handle) == VGPU_H_LIBRARY ? VGPU_H_LIBRARY : VGPU_H_MODULE;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, type);
	if (err)
		goto out;
	r = CUDA_ERROR_INVALID_IMAGE;
	if (q->image.size > IMAGE_MAX)
		goto out;

	r = CUDA_ERROR_OUT_OF_MEMORY;
	if (w->image_bytes + q->image.size > IMAGES_MAX)
		goto out;
	if (in_message) {
		image = image_private(q + 1, q->image.size);
	} else if (q->image.offset == VGPU_DATA_STORED) {
		image = image_stored(q->digest, q->image.size);
		r = CUDA_ERROR_FILE_NOT_FOUND;
	} else if (q->image.offset == VGPU_DATA_UPLOADED) {
		image = image_uploaded(q->handle, q->image.size);
	} else {
		r = CUDA_ERROR_INVALID_IMAGE;
	}
	if (!image)
		goto out;
	r = CUDA_ERROR_OUT_OF_MEMORY;
	if (!image_fits(image->data, image->size)) {
		r = CUDA_ERROR_INVALID_IMAGE;
		goto out;
	}
	if (log) {
		logs = calloc(2, log);
		if (!logs)
			goto out;
		option(&o, CU_JIT_ERROR_LOG_BUFFER, (uintptr_t)logs);
		option(&o, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, log);
		option(&o, CU_JIT_INFO_LOG_BUFFER, (uintptr_t)logs + log);
		option(&o, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, log);
	}
	if (q->max_registers)
		option(&o, CU_JIT_MAX_REGISTERS, q->max_registers);
	if (q->opt_level)
		option(&o, CU_JIT_OPTIMIZATION_LEVEL, q->opt_level);

	before = free_memory(w);
	if (type == VGPU_H_LIBRARY)
		r = D.cuLibraryLoadData((CUlibrary *)&object, image->data, o.ids, o.values, o.n, NULL, NULL, 0);
	else
		r = D.cuModuleLoadDataEx((CUmodule *)&object, image->data, o.n, o.ids, o.values);
	image_loaded(image, q->guess);
	if (r == CUDA_SUCCESS) {
		after = free_memory(w);
		image->charged = after < before ? before - after : 0;
		if (image->charged && !memory_charge(w, image->charged)) {
			image->charged = 0;
			r = CUDA_ERROR_OUT_OF_MEMORY;
			if (type == VGPU_H_LIBRARY)
				D.cuLibraryUnload(object);
			else
				D.cuModuleUnload(object);
		}
	}
	if (r == CUDA_SUCCESS) {
		err = worker_handle_add(w, q->handle, type, object);
		e = err ? NULL : object_find(w, q->handle, type);
		if (e) {
			e->aux = image;
			w->image_bytes += image->size;
			image = NULL;
		}
	}
out:
	if (logs) {
		rp.error_len = text_len(logs, log);
		rp.info_len = text_len(logs + log, log);
	}
	image_news_since(q->known, &rp.news);
	reply = malloc(sizeof(rp) + rp.error_len + rp.info_len);
	if (reply) {
		memcpy(reply, &rp, sizeof(rp));
		if (logs) {
			memcpy(reply + sizeof(rp), logs, rp.error_len);
			memcpy(reply + sizeof(rp) + rp.error_len, logs + log, rp.info_len);
		}
	}
	worker_reply_always(w, &m->header, &q->call, err, r, reply, reply ? sizeof(rp) + rp.error_len + rp.info_len : 0);
	free(reply);
	free(logs);
	if (image)
		lease_uncharge(w, image->charged);
	image_free(image);
}

/* --- the end of one ------------------------------------------------------------------------------------------------ */


/* What was got from a module or library ends with it, and so do the functions got from its kernels. */
static bool is_child(struct handle *e, void *arg)
{
	const uint64_t *parent = arg;

	if (!e->parent || e->parent != *parent)
		return false;
	object_release_aux(e);
	return true;
}

static void forget_children(struct worker *w, uint64_t parent)
{
	uint32_t i;

	if (VGPU_HANDLE_TYPE(parent) == VGPU_H_LIBRARY) {
		for (i = 0; i < w->handles.cap; i++) {
			struct handle *e = &w->handles.slots[i];

			if (!e->value || e->parent != parent)
				continue;
			if (VGPU_HANDLE_TYPE(e->value) == VGPU_H_KERNEL || VGPU_HANDLE_TYPE(e->value) == VGPU_H_MODULE) {
				uint64_t child = e->value;

				handle_purge(&w->handles, is_child, &child);
				lease_uncharge(w, range_remove_owner(&w->ranges, child));
			}
		}
	}
	handle_purge(&w->handles, is_child, &parent);
	lease_uncharge(w, range_remove_owner(&w->ranges, parent));
}

static void unload(struct worker *w, const struct idm_message *m, uint64_t h, enum vgpu_handle_type type)
{
	const struct vgpu_call *call = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct handle *e;
	int err;

	err = worker_enter(w, call);
	if (!err) {
		e = object_find(w, h, type);
		if (!e) {
			err = IDM_ERROR_INVALID_HANDLE;
		} else if (type == VGPU_H_MODULE && e->parent) {
			/* A library's module goes with the library. */
			r = CUDA_ERROR_NOT_PERMITTED;
		} else {
			void *object = e->object;

			forget_children(w, h);
			r = type == VGPU_H_LIBRARY ? D.cuLibraryUnload(object) : D.cuModuleUnload(object);
			object_release_aux(e);
			handle_remove(&w->handles, e);
		}
	}
	worker_reply(w, &m->header, call, err, r, NULL, 0);
}

void worker_hand_cuModuleUnload(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuModuleUnload *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		unload(w, m, q->hmod, VGPU_H_MODULE);
}

void worker_hand_cuLibraryUnload(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuLibraryUnload *q = m->payload;

	if (payload_is(w, m, sizeof(*q)))
		unload(w, m, q->library, VGPU_H_LIBRARY);
}

/* --- what is inside -------------------------------------------------------------------------------------------------- */

/* A name that follows a fixed part. @return in @name, NUL-terminated; false if the lengths do not agree. */
static bool name_of(struct worker *w, const struct idm_message *m, size_t fixed, uint32_t len, char *name)
{
	if (len >= NAME_MAX_ || !payload_ends(m, fixed, len)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return false;
	}
	memcpy(name, (const char *)m->payload + fixed, len);
	name[len] = '\0';
	return true;
}

static CUresult param_info(bool kernel, void *object, size_t i, size_t *offset, size_t *size)
{
	if (kernel)
		return D.cuKernelGetParamInfo ? D.cuKernelGetParamInfo(object, i, offset, size) : CUDA_ERROR_NOT_SUPPORTED;
	return D.cuFuncGetParamInfo ? D.cuFuncGetParamInfo(object, i, offset, size) : CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult tell(struct worker *w, bool kernel, void *object, struct vgpu_kernel_reply *rp)
{
	int dev = w->ordinals[w->current ? w->current->device : 0];
	size_t offset, size;
	CUresult r;
	int i;

	for (i = 0; i < VGPU_FUNC_ATTRIBUTES; i++) {
		r = kernel ? D.cuKernelGetAttribute(&rp->attributes[i], i, object, dev) :
			     D.cuFuncGetAttribute(&rp->attributes[i], i, object);
		/* The later ones a driver may not know; without the first there is no kernel to speak of. */
		if (r != CUDA_SUCCESS && i == 0)
			return r;
		if (r != CUDA_SUCCESS)
			rp->attributes[i] = 0;
	}
	while (rp->nparams < VGPU_PARAMS_MAX) {
		r = param_info(kernel, object, rp->nparams, &offset, &size);
		if (r == CUDA_ERROR_INVALID_VALUE)
			break;		/* that was the last */
		if (r != CUDA_SUCCESS)
			return r;
		rp->params[rp->nparams].offset = offset;
		rp->params[rp->nparams].size = size;
		rp->nparams++;
		rp->param_bytes = offset + size;
	}
	return CUDA_SUCCESS;
}

/* In a context: without one NVIDIA's driver tells a kernel's attributes, but not its parameters. */
static CUresult describe(struct worker *w, bool kernel, void *object, struct vgpu_kernel_reply *rp)
{
	CUcontext made;
	CUresult r = context_borrow(w, &made);

	if (r != CUDA_SUCCESS)
		return r;
	r = tell(w, kernel, object, rp);
	context_give_back(w, made);
	return r;
}

void worker_hand_get_kernel(struct worker *w, const struct idm_message *m)
{
	static _Alignas(8) char reply[sizeof(struct vgpu_kernel_reply) + VGPU_PARAMS_MAX * 8];
	struct vgpu_kernel_reply *rp = (struct vgpu_kernel_reply *)reply;
	const struct vgpu_get_kernel *q = m->payload;
	enum vgpu_handle_type parent_type, type;
	char name[NAME_MAX_];
	struct handle *parent, *e;
	void *object = NULL;
	CUresult r = CUDA_SUCCESS;
	int err;

	if (!payload_has(w, m, sizeof(*q)) || !name_of(w, m, sizeof(*q), q->name_len, name))
		return;
	memset(reply, 0, sizeof(*rp));
	parent_type = VGPU_HANDLE_TYPE(q->parent);
	type = parent_type == VGPU_H_LIBRARY ? VGPU_H_KERNEL : VGPU_H_FUNCTION;
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	if (parent_type != VGPU_H_MODULE && parent_type != VGPU_H_LIBRARY && parent_type != VGPU_H_KERNEL)
		parent_type = VGPU_H_MODULE;
	parent = object_find(w, q->parent, parent_type);
	if (!parent) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	object = parent->object;	/* the table may move when it grows */
	err = worker_handle_free(w, q->handle, type);
	if (err)
		goto out;
	if (parent_type == VGPU_H_LIBRARY)
		r = D.cuLibraryGetKernel((CUkernel *)&object, object, name);
	else if (parent_type == VGPU_H_KERNEL)
		r = D.cuKernelGetFunction((CUfunction *)&object, object);
	else
		r = D.cuModuleGetFunction((CUfunction *)&object, object, name);
	if (r == CUDA_SUCCESS)
		r = describe(w, type == VGPU_H_KERNEL, object, rp);
	if (r == CUDA_SUCCESS) {
		err = worker_handle_add(w, q->handle, type, object);
		e = err ? NULL : object_find(w, q->handle, type);
		if (e)
			e->parent = q->parent;
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, rp, sizeof(*rp) + rp->nparams * sizeof(rp->params[0]));
}

void worker_hand_cuLibraryGetModule(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuLibraryGetModule *q = m->payload;
	CUmodule module = NULL;
	CUresult r = CUDA_SUCCESS;
	struct handle *e;
	void *library;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->pMod, VGPU_H_MODULE);
	if (err)
		goto out;
	library = worker_handle(w, q->library, VGPU_H_LIBRARY);
	if (!library) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	r = D.cuLibraryGetModule ? D.cuLibraryGetModule(&module, library) : CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS) {
		err = worker_handle_add(w, q->pMod, VGPU_H_MODULE, module);
		e = err ? NULL : object_find(w, q->pMod, VGPU_H_MODULE);
		if (e)
			e->parent = q->library;
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* Asked for again it is there already. In several contexts a library's variable is several variables. */
static CUresult note_variable(struct worker *w, CUdeviceptr address, size_t size, uint64_t parent)
{
	struct handle *e = object_find(w, parent, VGPU_HANDLE_TYPE(parent));
	bool charged = e && e->aux && ((struct image *)e->aux)->charged;

	if (!size || range_covers(&w->ranges, address, size))
		return CUDA_SUCCESS;
	/* Charged already, if what its module takes could be seen when it was loaded. */
	if (!charged && !memory_charge(w, size))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (memory_range_add(w, address, size, RANGE_GLOBAL, parent, charged ? 0 : size)) {
		lease_uncharge(w, charged ? 0 : size);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return CUDA_SUCCESS;
}

void worker_hand_get_global(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_get_global *q = m->payload;
	struct vgpu_global_reply rp = { 0 };
	enum vgpu_handle_type type;
	CUdeviceptr address = 0;
	char name[NAME_MAX_];
	CUresult r = CUDA_SUCCESS;
	void *parent;
	size_t size = 0;
	int err;

	if (!payload_has(w, m, sizeof(*q)) || !name_of(w, m, sizeof(*q), q->name_len, name))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	type = VGPU_HANDLE_TYPE(q->parent) == VGPU_H_LIBRARY ? VGPU_H_LIBRARY : VGPU_H_MODULE;
	parent = worker_handle(w, q->parent, type);
	if (!parent) {
		err = IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	if (type == VGPU_H_LIBRARY)
		r = D.cuLibraryGetGlobal(&address, &size, parent, name);
	else
		r = D.cuModuleGetGlobal_v2(&address, &size, parent, name);
	if (r == CUDA_SUCCESS)
		r = note_variable(w, address, size, q->parent);
	rp.address = address;
	rp.size = size;
out:
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}

/* Managed memory is this process's own, too: its value can be read before there is a context to copy in. */
void worker_hand_get_managed(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_get_managed *q = m->payload;
	struct vgpu_global_reply rp = { 0 };
	CUdeviceptr address = 0;
	char name[NAME_MAX_];
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *parent, *contents;
	size_t size = 0;
	int err;

	if (!payload_has(w, m, sizeof(*q)) || !name_of(w, m, sizeof(*q), q->name_len, name))
		return;
	err = worker_enter(w, &q->call);
	if (err)
		goto out;
	parent = worker_handle(w, q->parent, VGPU_H_LIBRARY);
	contents = idm_server_arena(w->server, q->contents.offset, q->contents.size);
	if (!parent || !contents) {
		err = parent ? IDM_ERROR_INVALID_SIZE : IDM_ERROR_INVALID_HANDLE;
		goto out;
	}
	if (D.cuLibraryGetManaged)
		r = D.cuLibraryGetManaged(&address, &size, parent, name);
	if (r == CUDA_SUCCESS)
		r = note_variable(w, address, size, q->parent);
	if (r == CUDA_SUCCESS)
		memcpy(contents, (const void *)(uintptr_t)address, q->contents.size < size ? q->contents.size : size);
	rp.address = address;
	rp.size = size;
out:
	worker_reply(w, &m->header, &q->call, err, r, &rp, sizeof(rp));
}
