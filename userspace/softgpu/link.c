// SPDX-License-Identifier: Apache-2.0
/*
 * The linker. All inputs are PTX here, so linking is putting texts together: the first one's header counts for all.
 * What comes out is PTX again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softgpu.h"

#define LINK_MAGIC	0x6b6e694cu

struct CUlinkState_st {
	uint32_t magic;
	struct CUlinkState_st *next;
	struct ptx_log log;
	char own[1024];
	void **log_used;
	char *text;
	size_t len;
	bool complete;
};

static CUlinkState states;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool known(CUlinkState state)
{
	CUlinkState s;

	pthread_mutex_lock(&lock);
	for (s = states; s && s != state; s = s->next)
		;
	pthread_mutex_unlock(&lock);
	return s;
}

CUresult cuLinkCreate_v2(unsigned int n, CUjit_option *options, void **values, CUlinkState *out)
{
	struct sg_ctx *c;
	CUlinkState s;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!out || (n && (!options || !values)))
		return CUDA_ERROR_INVALID_VALUE;
	s = calloc(1, sizeof(*s));
	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	s->magic = LINK_MAGIC;
	for (unsigned int i = 0; i < n; i++) {
		if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
			s->log.text = values[i];
		if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
			s->log.cap = (unsigned int)(uintptr_t)values[i];
			s->log_used = &values[i];
		}
	}
	if (!s->log.text || !s->log.cap) {
		s->log = (struct ptx_log){ .text = s->own, .cap = sizeof(s->own) };
		s->log_used = NULL;
	}
	s->log.text[0] = 0;
	pthread_mutex_lock(&lock);
	s->next = states;
	states = s;
	pthread_mutex_unlock(&lock);
	*out = s;
	return CUDA_SUCCESS;
}

CUresult cuLinkCreate(unsigned int n, CUjit_option *options, void **values, CUlinkState *out)
{
	return cuLinkCreate_v2(n, options, values, out);
}

/* Overwrite the directives that may stand only once, at the beginning of a text. */
static void blank_header(char *text)
{
	static const char *const directives[] = { ".version", ".target", ".address_size" };

	for (char *p = text; *p; p++) {
		if (!strncmp(p, "//", 2)) {
			p += strcspn(p, "\n");
		} else if (!strncmp(p, "/*", 2)) {
			char *end = strstr(p + 2, "*/");

			p = end ? end + 1 : p + strlen(p) - 1;
		} else if (!strchr(" \t\r\n", *p)) {
			size_t i = 0;

			while (i < 3 && strncmp(p, directives[i], strlen(directives[i])))
				i++;
			if (i == 3)
				return;
			while (*p && *p != '\n')
				*p++ = ' ';
		}
		if (!*p)
			return;
	}
}

CUresult cuLinkAddData_v2(CUlinkState s, CUjitInputType type, void *data, size_t size, const char *name, unsigned int n,
			  CUjit_option *options, void **values)
{
	struct ptx_module *check;
	char *text, *all;
	struct sg_ctx *c;
	size_t len;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!known(s))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!data || !size || s->complete)
		return CUDA_ERROR_INVALID_VALUE;
	if (type != CU_JIT_INPUT_PTX && type != CU_JIT_INPUT_FATBINARY)
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	e = sg_image_ptx(data, size, &text, &len, &s->log);
	if (e)
		return e;
	/* A text that is wrong by itself is refused by name; one that lacks what others define is not wrong. */
	e = (CUresult)ptx_module_load(text, len, &s->log, &check);
	if (!e)
		ptx_module_free(check);
	if (e == CUDA_ERROR_UNSUPPORTED_PTX_VERSION || (e == CUDA_ERROR_INVALID_PTX && !strstr(text, ".extern"))) {
		free(text);
		goto out;
	}
	s->log.text[0] = 0;
	s->log.len = 0;
	e = CUDA_ERROR_OUT_OF_MEMORY;
	if (s->text)
		blank_header(text);
	all = realloc(s->text, s->len + len + 2);
	if (all) {
		memcpy(all + s->len, text, len);
		s->text = all;
		s->len += len;
		s->text[s->len++] = '\n';
		s->text[s->len] = 0;
		e = CUDA_SUCCESS;
	}
	free(text);
out:
	if (s->log_used)
		*s->log_used = (void *)(uintptr_t)s->log.len;
	return e;
}

CUresult cuLinkAddData(CUlinkState s, CUjitInputType type, void *data, size_t size, const char *name, unsigned int n,
		       CUjit_option *options, void **values)
{
	return cuLinkAddData_v2(s, type, data, size, name, n, options, values);
}

CUresult cuLinkAddFile_v2(CUlinkState s, CUjitInputType type, const char *path, unsigned int n, CUjit_option *options,
			  void **values)
{
	FILE *f = path ? fopen(path, "rbe") : NULL;
	CUresult e = CUDA_ERROR_FILE_NOT_FOUND;
	char *p = NULL;
	long size;

	if (!f)
		return path ? e : CUDA_ERROR_INVALID_VALUE;
	if (!fseek(f, 0, SEEK_END) && (size = ftell(f)) > 0 && size < (long)SG_IMAGE_MAX && !fseek(f, 0, SEEK_SET)) {
		p = calloc(1, (size_t)size + 64);
		if (p && fread(p, 1, (size_t)size, f) == (size_t)size)
			e = cuLinkAddData_v2(s, type, p, (size_t)size + 1, path, n, options, values);
	}
	free(p);
	fclose(f);
	return e;
}

CUresult cuLinkAddFile(CUlinkState s, CUjitInputType type, const char *path, unsigned int n, CUjit_option *options,
		       void **values)
{
	return cuLinkAddFile_v2(s, type, path, n, options, values);
}

CUresult cuLinkComplete(CUlinkState s, void **image, size_t *size)
{
	struct ptx_module *check;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!known(s))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!image || !s->text)
		return CUDA_ERROR_INVALID_VALUE;
	if (!s->complete) {
		e = (CUresult)ptx_module_load(s->text, s->len, &s->log, &check);
		if (s->log_used)
			*s->log_used = (void *)(uintptr_t)s->log.len;
		if (e)
			return e;
		ptx_module_free(check);
		s->complete = true;
	}
	*image = s->text;
	if (size)
		*size = s->len + 1;
	return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState s)
{
	CUlinkState *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!known(s))
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&lock);
	for (p = &states; *p != s; p = &(*p)->next)
		;
	*p = s->next;
	pthread_mutex_unlock(&lock);
	free(s->text);
	free(s);
	return CUDA_SUCCESS;
}
