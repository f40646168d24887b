// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "advice.h"

/* struct advice - what holds for a span; type CU_MEM_LOCATION_TYPE_INVALID: nothing was said. */
struct advice {
	bool read_mostly;
	CUmemLocation preferred, last;
	uint32_t accessed;		/* a bit for each device */
	bool accessed_host;
};

struct span {
	uint64_t base, end;
	struct advice advice;
	struct span *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct span *spans;		/* by address; what lies between them has no advice */

CUmemLocation advice_device(CUdevice device)
{
	if (device == CU_DEVICE_CPU)
		return (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_HOST };
	return (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device };
}

CUresult advice_old_error(CUresult r, CUdevice device, int devices)
{
	return r == CUDA_ERROR_INVALID_VALUE && (device < CU_DEVICE_CPU || device >= devices) ? CUDA_ERROR_INVALID_DEVICE : r;
}

CUresult advice_location(CUmemLocation where, int devices)
{
	switch (where.type) {
	case CU_MEM_LOCATION_TYPE_DEVICE:
		return where.id >= 0 && where.id < devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
	case CU_MEM_LOCATION_TYPE_HOST:
	case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
		return CUDA_SUCCESS;
	case CU_MEM_LOCATION_TYPE_HOST_NUMA:
		return where.id >= 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* A span boundary at @at, if a span lies across it. Under the lock. */
static bool cut(uint64_t at)
{
	for (struct span *s = spans; s && s->base < at; s = s->next) {
		struct span *n;

		if (s->end <= at)
			continue;
		n = malloc(sizeof(*n));
		if (!n)
			return false;
		*n = *s;
		n->base = s->end = at;
		s->next = n;
		return true;
	}
	return true;
}

/* Spans without a gap from @base to @end. Under the lock. */
static bool cover(uint64_t base, uint64_t end)
{
	struct span **p = &spans, *n;
	uint64_t at = base;

	if (!cut(base) || !cut(end))
		return false;
	while (*p && (*p)->base < base)
		p = &(*p)->next;
	while (at < end) {
		if (*p && (*p)->base == at) {
			at = (*p)->end;
			p = &(*p)->next;
			continue;
		}
		n = calloc(1, sizeof(*n));
		if (!n)
			return false;
		n->base = at;
		n->end = *p && (*p)->base < end ? (*p)->base : end;
		n->next = *p;
		at = n->end;
		*p = n;
		p = &n->next;
	}
	return true;
}

static void apply(struct advice *a, CUmem_advise advice, CUmemLocation where)
{
	bool on = advice == CU_MEM_ADVISE_SET_ACCESSED_BY;

	switch (advice) {
	case CU_MEM_ADVISE_SET_READ_MOSTLY:
	case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
		a->read_mostly = advice == CU_MEM_ADVISE_SET_READ_MOSTLY;
		break;
	case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
		a->preferred = where;
		break;
	case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
		memset(&a->preferred, 0, sizeof(a->preferred));
		break;
	default:
		if (where.type != CU_MEM_LOCATION_TYPE_DEVICE)
			a->accessed_host = on;
		else if (on)
			a->accessed |= 1u << where.id;
		else
			a->accessed &= ~(1u << where.id);
	}
}

CUresult advice_set(uint64_t base, uint64_t n, CUmem_advise advice, CUmemLocation where, int devices)
{
	CUresult r = CUDA_SUCCESS;

	if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
		return CUDA_ERROR_INVALID_VALUE;
	if (advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION || advice >= CU_MEM_ADVISE_SET_ACCESSED_BY)
		r = advice_location(where, devices);
	if (r != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!cover(base, base + n))
		r = CUDA_ERROR_OUT_OF_MEMORY;
	for (struct span *s = spans; s && r == CUDA_SUCCESS; s = s->next)
		if (s->base >= base && s->end <= base + n)
			apply(&s->advice, advice, where);
	pthread_mutex_unlock(&lock);
	return r;
}

CUresult advice_prefetched(uint64_t base, uint64_t n, CUmemLocation where, int devices)
{
	CUresult r = advice_location(where, devices);

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	if (!cover(base, base + n))
		r = CUDA_ERROR_OUT_OF_MEMORY;
	for (struct span *s = spans; s && r == CUDA_SUCCESS; s = s->next)
		if (s->base >= base && s->end <= base + n)
			s->advice.last = where;
	pthread_mutex_unlock(&lock);
	return r;
}

void advice_forget(uint64_t base, uint64_t n)
{
	struct span **p, *s;

	pthread_mutex_lock(&lock);
	for (p = &spans; (s = *p);) {
		if (s->base < base || s->end > base + n) {
			p = &s->next;
			continue;
		}
		*p = s->next;
		free(s);
	}
	pthread_mutex_unlock(&lock);
}

static CUmemLocation common(CUmemLocation a, CUmemLocation b)
{
	if (a.type == b.type && (a.type == CU_MEM_LOCATION_TYPE_HOST || a.id == b.id))
		return a;
	return (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_INVALID };
}

static void mix(struct advice *all, const struct advice *a, bool first)
{
	if (first) {
		*all = *a;
		return;
	}
	all->read_mostly &= a->read_mostly;
	all->accessed &= a->accessed;
	all->accessed_host &= a->accessed_host;
	all->preferred = common(all->preferred, a->preferred);
	all->last = common(all->last, a->last);
}

/* What holds for all of it. */
static struct advice holds(uint64_t base, uint64_t n)
{
	const struct advice none = { 0 };
	struct advice all = none;
	uint64_t at = base, end = base + n;
	struct span *s;

	pthread_mutex_lock(&lock);
	for (s = spans; at < end;) {
		while (s && s->end <= at)
			s = s->next;
		if (s && s->base <= at) {
			mix(&all, &s->advice, at == base);
			at = s->end;
		} else {
			mix(&all, &none, at == base);
			at = s && s->base < end ? s->base : end;
		}
	}
	pthread_mutex_unlock(&lock);
	return all;
}

static int device_of(CUmemLocation l)
{
	if (l.type == CU_MEM_LOCATION_TYPE_DEVICE)
		return l.id;
	return l.type == CU_MEM_LOCATION_TYPE_INVALID ? CU_DEVICE_INVALID : CU_DEVICE_CPU;
}

CUresult advice_get(void *data, size_t size, CUmem_range_attribute attribute, uint64_t base, uint64_t n)
{
	struct advice a;
	int *out = data;
	size_t i = 0;

	if (!data || !n || size < sizeof(int) || size % sizeof(int) ||
	    (attribute != CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY && size != sizeof(int)))
		return CUDA_ERROR_INVALID_VALUE;
	a = holds(base, n);
	switch (attribute) {
	case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
		*out = a.read_mostly;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
		*out = device_of(a.preferred);
		break;
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
		*out = device_of(a.last);
		break;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
		*out = a.preferred.type;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
		*out = a.preferred.id;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
		*out = a.last.type;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
		*out = a.last.id;
		break;
	case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
		for (int d = 0; d < 32 && i < size / sizeof(int); d++)
			if (a.accessed >> d & 1)
				out[i++] = d;
		if (a.accessed_host && i < size / sizeof(int))
			out[i++] = CU_DEVICE_CPU;
		while (i < size / sizeof(int))
			out[i++] = CU_DEVICE_INVALID;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}
