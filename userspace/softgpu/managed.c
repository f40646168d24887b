// SPDX-License-Identifier: Apache-2.0
/*
 * Managed memory: here device memory is in the program's reach anyway, so there is nothing to migrate and advice
 * changes nothing. What is checked is whether the range is managed.
 */
#include <stdlib.h>

#include "both.h"
#include "softgpu.h"

/* struct variable - a __managed__ variable that a program has asked for. Device memory like others, by another name. */
struct variable {
	uint64_t base, size;
	const void *library;
	struct variable *next;
};

static struct variable *variables;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool sg_managed_variable(uint64_t addr)
{
	struct variable *v;

	pthread_mutex_lock(&lock);
	for (v = variables; v && addr - v->base >= v->size; v = v->next)
		;
	pthread_mutex_unlock(&lock);
	return v;
}

bool sg_managed_note(uint64_t base, uint64_t size, const void *library)
{
	struct variable *v;

	if (sg_managed_variable(base))
		return true;
	v = malloc(sizeof(*v));
	if (!v)
		return false;
	pthread_mutex_lock(&lock);
	*v = (struct variable){ base, size, library, variables };
	variables = v;
	pthread_mutex_unlock(&lock);
	return true;
}

void sg_managed_forget(const void *library)
{
	struct variable **p, *v;

	pthread_mutex_lock(&lock);
	for (p = &variables; (v = *p);) {
		if (v->library != library) {
			p = &v->next;
			continue;
		}
		*p = v->next;
		free(v);
	}
	pthread_mutex_unlock(&lock);
}

static CUresult managed(CUdeviceptr ptr, size_t n)
{
	struct sg_allocation a;
	struct sg_ctx *c;
	CUresult e = sg_enter(&c);

	if (e)
		return e;
	if (!n || !sg_heap_range(ptr, n, false) || !sg_heap_info(ptr, &a) || !(a.flags & SG_ALLOC_MANAGED))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult cuMemAdvise(CUdeviceptr ptr, size_t n, CUmem_advise advice, CUdevice device)
{
	return managed(ptr, n);
}

CUresult cuMemAdvise_v2(CUdeviceptr ptr, size_t n, CUmem_advise advice, CUmemLocation location)
{
	return managed(ptr, n);
}

BOTH(cuMemPrefetchAsync, (CUdeviceptr ptr, size_t n, CUdevice dev, CUstream stream), (ptr, n, dev, stream, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	return e ? e : managed(ptr, n);
}

BOTH(cuMemPrefetchAsync_v2,
     (CUdeviceptr ptr, size_t n, CUmemLocation location, unsigned int flags, CUstream stream),
     (ptr, n, location, flags, stream, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	if (!e && flags)
		e = CUDA_ERROR_INVALID_VALUE;
	return e ? e : managed(ptr, n);
}

BOTH(cuStreamAttachMemAsync, (CUstream stream, CUdeviceptr ptr, size_t n, unsigned int flags),
     (stream, ptr, n, flags, ptds))
{
	struct sg_stream *s;
	CUresult e = sg_stream_of(stream, ptds, &s);

	return e ? e : managed(ptr, n ? n : 1);
}
