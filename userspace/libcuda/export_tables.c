// SPDX-License-Identifier: Apache-2.0
/*
 * cuGetExportTable: the private tables that NVIDIA's runtime and libraries ask for. All of it is answered here;
 * some of it is asked before cuInit, and much of it before every call.
 *
 * A table is an array of functions, whose first word is its size in bytes (CONTEXT_LOCAL_STORAGE has none). Slots
 * that nobody is known to call say CUDA_ERROR_NOT_SUPPORTED, as does every slot of a table we don't know.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "export.h"
#include "export_tables.h"

#define SLOTS_UNKNOWN	128
#define SLOTS_CONTEXT	95

static CUresult unsupported(void)
{
	return CUDA_ERROR_NOT_SUPPORTED;
}

/* --- what the runtime calls: modules and primary contexts --- */

static CUresult runtime_load_module(CUmodule *module, const void *wrapper)
{
	return cuModuleLoadData(module, wrapper);
}

/* Which context is a device's primary one; it is not retained by asking. */
static CUresult runtime_primary(CUcontext *ctx, CUdevice dev)
{
	return ctx ? tables_primary(ctx, dev) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult runtime_load_module_ex(CUmodule *module, const void *wrapper, void *a, void *b, unsigned int c)
{
	return cuModuleLoadData(module, wrapper);
}

static CUresult runtime_load_fatbin(const void *fatbin, CUmodule *module, void *a, void *b, unsigned int c)
{
	return cuModuleLoadData(module, fatbin);
}

static CUresult runtime_load_compilers(void)
{
	return CUDA_SUCCESS;
}

static void *runtime_table[13] = {
	(void *)sizeof(runtime_table), runtime_load_module, runtime_primary, unsupported, unsupported, unsupported,
	runtime_load_module_ex, unsupported, runtime_load_fatbin, unsupported, unsupported, unsupported,
	runtime_load_compilers,
};

/* --- hooks for tools: two buffers that stay empty --- */

static void *hooks_a[1024], *hooks_b[14];

static void hooks_first(void **p, size_t *n)
{
	*p = hooks_a;
	*n = sizeof(hooks_a) / sizeof(hooks_a[0]);
}

static void hooks_second(void **p, size_t *n)
{
	*p = hooks_b;
	*n = sizeof(hooks_b) / sizeof(hooks_b[0]);
}

static void *hooks_table[7] = {
	(void *)sizeof(hooks_table), unsupported, hooks_first, unsupported, unsupported, unsupported, hooks_second,
};

static CUresult tls_context(CUcontext *ctx)
{
	return cuCtxGetCurrent(ctx);
}

static void *tls_table[4] = { (void *)sizeof(tls_table), unsupported, tls_context, unsupported };

/* --- context-local storage: where each copy of the runtime keeps its state; asked before nearly every call --- */

static pthread_mutex_t values_lock = PTHREAD_MUTEX_INITIALIZER;

struct context_value *values_take(struct context_value **list)
{
	struct context_value *v;

	pthread_mutex_lock(&values_lock);
	v = *list;
	*list = NULL;
	pthread_mutex_unlock(&values_lock);
	return v;
}

void values_end(CUcontext ctx, struct context_value *v)
{
	while (v) {
		struct context_value *next = v->next;

		if (v->destroy)
			v->destroy(ctx, v->key, v->value);
		free(v);
		v = next;
	}
}

static CUresult values_put(CUcontext ctx, const void *key, void *value,
			   void (*destroy)(CUcontext ctx, const void *key, void *value))
{
	struct context_value **values = tables_values(ctx), *v;

	if (!values)
		return CUDA_ERROR_INVALID_CONTEXT;
	v = malloc(sizeof(*v));
	if (!v)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*v = (struct context_value){ .key = key, .value = value, .destroy = destroy };
	pthread_mutex_lock(&values_lock);
	v->next = *values;
	*values = v;
	pthread_mutex_unlock(&values_lock);
	return CUDA_SUCCESS;
}

static CUresult values_delete(CUcontext ctx, const void *key)
{
	struct context_value **at = tables_values(ctx), *v = NULL;

	if (!at)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&values_lock);
	for (; *at; at = &(*at)->next) {
		if ((*at)->key != key)
			continue;
		v = *at;
		*at = v->next;
		break;
	}
	pthread_mutex_unlock(&values_lock);
	free(v);
	return v ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult values_get(void **value, CUcontext ctx, const void *key)
{
	struct context_value **values = tables_values(ctx), *v;
	CUresult r = CUDA_ERROR_INVALID_HANDLE;

	if (!values)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&values_lock);
	for (v = *values; v; v = v->next) {
		if (v->key != key)
			continue;
		*value = v->value;
		r = CUDA_SUCCESS;
		break;
	}
	pthread_mutex_unlock(&values_lock);
	return r;
}

static void *values_table[4] = { values_put, values_delete, values_get, unsupported };

/* --- context checks --- */

static CUresult checks_context(CUcontext ctx, unsigned int *result, const void **more)
{
	*result = 0;
	return CUDA_SUCCESS;
}

static CUresult checks_all(void)
{
	return CUDA_SUCCESS;
}

static void *checks_table[4] = { (void *)sizeof(checks_table), unsupported, checks_context, checks_all };

/* --- the integrity question (integrity.c) --- */

#ifdef VGPU_INTEGRITY
static void *integrity_table[3];

static CUresult integrity_check(uint32_t version, uint64_t seconds, uint8_t *result)
{
	struct integrity_device devices[INTEGRITY_DEVICES];
	struct integrity_input in = {
		.version = version, .pid = getpid(), .thread = (uint32_t)pthread_self(),
		.runtime_table = runtime_table, .integrity_table = integrity_table, .function = integrity_check,
		.seconds = seconds,
	};
	unsigned int n = tables_devices(devices);
	int driver = 0;

	cuDriverGetVersion(&driver);
	in.driver_version = (uint32_t)driver;
	integrity_answer(&in, devices, n, result);
	return CUDA_SUCCESS;
}

static void *integrity_table[3] = { (void *)sizeof(integrity_table), integrity_check, unsupported };
#endif

/* --- contexts as the math libraries ask for them, before every operation --- */

static CUresult context_number(CUcontext ctx, unsigned long long *id)
{
	if (!id)
		return CUDA_ERROR_INVALID_CONTEXT;
	return cuCtxGetId(ctx == (CUcontext)(intptr_t)-1 ? NULL : ctx, id);
}

/* An opaque object that stands for a stream, and its number: any stable answer serves. */
static CUresult context_stream_object(CUcontext ctx, CUstream stream, void **object)
{
	unsigned long long id;

	if (stream == (CUstream)(intptr_t)-1 || cuStreamGetId(stream, &id))
		return CUDA_ERROR_INVALID_HANDLE;
	*object = (uintptr_t)stream > 2 ? (void *)stream : (void *)&hooks_a[(uintptr_t)stream];
	return CUDA_SUCCESS;
}

static CUresult context_object_number(CUcontext ctx, void *object, unsigned long long *id)
{
	*id = 0;
	return CUDA_SUCCESS;
}

static void *context_table[SLOTS_CONTEXT] = {
	[0] = (void *)sizeof(context_table), [1 ... SLOTS_CONTEXT - 1] = unsupported,
};

/* --- modules as cuFFT asks for them: it looks for the one kernel in a module by having all named --- */

/* The answer is how many there were. */
static uint64_t module_functions(CUcontext ctx, CUmodule module,
				 void (*each)(void *arg, CUfunction function, CUmodule module), void *arg)
{
	CUfunction *functions = NULL;
	unsigned int n = 0, told = 0;

	if (each && cuModuleGetFunctionCount(&n, module) == CUDA_SUCCESS && n)
		functions = calloc(n, sizeof(CUfunction));
	if (functions && cuModuleEnumerateFunctions(functions, n, module) == CUDA_SUCCESS)
		for (; told < n; told++)
			each(arg, functions[told], module);
	free(functions);
	return told;
}

static void *module_table[SLOTS_UNKNOWN] = {
	[0] = (void *)sizeof(module_table), [1 ... 6] = unsupported, [7] = module_functions,
	[8 ... SLOTS_UNKNOWN - 1] = unsupported,
};

static void *unknown_table[SLOTS_UNKNOWN] = {
	[0] = (void *)sizeof(unknown_table), [1 ... SLOTS_UNKNOWN - 1] = unsupported,
};

/*
 * CUPTI 13.2 (PyTorch 2.15 brings it) asks slot 67 which of its own functions to use, whatever it is asked, and calls
 * itself without end when that fails; where the table ends before that slot, it uses those that it has.
 */
static void *tools_table[67] = {
	[0] = (void *)sizeof(tools_table), [1 ... 66] = unsupported,
};

static const struct {
	unsigned char id[16];
	void **table;
} tables[] = {
	/* Runtimes before 13.2 take its absence for the ordinary way; it must be absent. */
	{ "\xf8\xcf\xf9\x51\x21\x46\x8b\x4e\xb9\xe2\xfb\x46\x9e\x7c\x0d\xd9", NULL },
	{ "\x6b\xd5\xfb\x6c\x5b\xf4\xe7\x4a\x89\x87\xd9\x39\x12\xfd\x9d\xf9", runtime_table },
	{ "\xa0\x94\x79\x8c\x2e\x74\x2e\x74\x93\xf2\x08\x00\x20\x0c\x0a\x66", hooks_table },
	{ "\x42\xd8\x5a\x81\x23\xf6\xcb\x47\x82\x98\xf6\xe7\x8a\x3a\xec\xdc", tls_table },
	{ "\xc6\x93\x33\x6e\x11\x21\xdf\x11\xa8\xc3\x68\xf3\x55\xd8\x95\x93", values_table },
	{ "\x26\x3e\x88\x60\x7c\xd2\x61\x43\x92\xf6\xbb\xd5\x00\x6d\xfa\x7e", checks_table },
#ifdef VGPU_INTEGRITY
	{ "\xd4\x08\x20\x55\xbd\xe6\x70\x4b\x8d\x34\xba\x12\x3c\x66\xe1\xf2", integrity_table },
#else
	{ "\xd4\x08\x20\x55\xbd\xe6\x70\x4b\x8d\x34\xba\x12\x3c\x66\xe1\xf2", NULL },
#endif
	{ "\x21\x31\x8c\x60\x97\x14\x32\x48\x8c\xa6\x41\xff\x73\x24\xc8\xf2", context_table },
	{ "\x6e\x16\x3f\xbe\xb9\x58\x44\x4d\x83\x5c\xe1\x82\xaf\xf1\x99\x1e", module_table },
	{ "\x7c\xb6\x3f\x9b\x9c\xa4\x8e\x42\xa4\x84\xbe\xb6\x6e\x6a\xed\x7f", tools_table },
};

static void fill_once(void)
{
	context_table[4] = context_number;
	context_table[39] = context_object_number;
	context_table[51] = context_stream_object;
}

VGPU_EXPORT CUresult CUDAAPI cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (!ppExportTable || !pExportTableId)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_once(&once, fill_once);
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (memcmp(tables[i].id, pExportTableId, sizeof(tables[i].id)))
			continue;
		*ppExportTable = tables[i].table;
		return tables[i].table ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
	}
	*ppExportTable = unknown_table;
	return CUDA_SUCCESS;
}
