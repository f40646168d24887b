// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that graphs allocate. Its address is fixed when the node is made; here so is the memory, which lasts as long
 * as a graph, executable or not, names it, or a launch had it and nobody has given it back. That is only noted: what has
 * been given back counts as used until it is trimmed.
 */
#include <stdlib.h>

#include "graph.h"

struct sg_graph_memory {
	CUdeviceptr addr;
	size_t size;
	int device;
	bool had, counted;	/* @counted: as used */
	unsigned int refs;	/* of graphs */
	struct sg_graph_memory *next;
};

static struct sg_graph_memory *all;
static struct { uint64_t used, used_high, reserved, reserved_high; } usage[SG_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

CUresult sg_graph_memory_new(size_t size, int device, struct sg_graph_memory **out, CUdeviceptr *dptr)
{
	struct sg_graph_memory *m = calloc(1, sizeof(*m));

	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	m->addr = sg_heap_alloc_on(device, NULL, size, 0, SG_ALLOC_ASYNC);
	if (!m->addr) {
		free(m);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	m->size = size;
	m->device = device;
	m->refs = 1;
	pthread_mutex_lock(&lock);
	m->next = all;
	all = m;
	usage[device].reserved += size;
	if (usage[device].reserved > usage[device].reserved_high)
		usage[device].reserved_high = usage[device].reserved;
	pthread_mutex_unlock(&lock);
	*out = m;
	*dptr = m->addr;
	return CUDA_SUCCESS;
}

void sg_graph_memory_get(struct sg_graph_memory *m)
{
	pthread_mutex_lock(&lock);
	m->refs++;
	pthread_mutex_unlock(&lock);
}

/* Under the lock. */
static void unlist(struct sg_graph_memory *m)
{
	struct sg_graph_memory **p;

	for (p = &all; *p != m; p = &(*p)->next)
		;
	*p = m->next;
	usage[m->device].reserved -= m->size;
	if (m->counted)
		usage[m->device].used -= m->size;
}

void sg_graph_memory_put(struct sg_graph_memory *m)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = !--m->refs && !m->had;
	if (last)
		unlist(m);
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	sg_heap_free(m->addr);
	free(m);
}

struct sg_graph_memory *sg_graph_memory_find(CUdeviceptr addr)
{
	struct sg_graph_memory *m;

	pthread_mutex_lock(&lock);
	for (m = all; m && m->addr != addr; m = m->next)
		;
	if (m)
		m->refs++;
	pthread_mutex_unlock(&lock);
	return m;
}

/* Under the lock. */
static void note(struct sg_graph_memory *m, bool had)
{
	m->had = had;
	if (!had || m->counted)
		return;
	m->counted = true;
	usage[m->device].used += m->size;
	if (usage[m->device].used > usage[m->device].used_high)
		usage[m->device].used_high = usage[m->device].used;
}

bool sg_graph_memory_take(struct sg_graph_memory *m, bool again)
{
	bool ok;

	pthread_mutex_lock(&lock);
	ok = again || !m->had;
	if (ok)
		note(m, true);
	pthread_mutex_unlock(&lock);
	return ok;
}

bool sg_graph_memory_give(struct sg_graph_memory *m)
{
	bool ok;

	pthread_mutex_lock(&lock);
	ok = m->had;
	note(m, false);
	pthread_mutex_unlock(&lock);
	return ok;
}

bool sg_graph_memory_owns(CUdeviceptr addr, CUresult *e)
{
	struct sg_graph_memory *m = sg_graph_memory_find(addr);

	if (!m)
		return false;
	pthread_mutex_lock(&lock);
	if (m->refs == 1) {		/* this one */
		m->refs = 0;
		pthread_mutex_unlock(&lock);
		return false;
	}
	pthread_mutex_unlock(&lock);
	*e = sg_graph_memory_give(m) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	sg_graph_memory_put(m);
	return true;
}

bool sg_graph_memory_outlived(CUdeviceptr addr)
{
	struct sg_graph_memory *m;

	pthread_mutex_lock(&lock);
	for (m = all; m && m->addr != addr; m = m->next)
		;
	if (m)
		unlist(m);
	pthread_mutex_unlock(&lock);
	free(m);
	return m;
}

static CUresult device(CUdevice dev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	return dev < 0 || dev >= sg_devices ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice dev)
{
	CUresult e = device(dev);

	pthread_mutex_lock(&lock);
	for (struct sg_graph_memory *m = all; m && !e; m = m->next) {
		if (m->device != dev || m->had || !m->counted)
			continue;
		m->counted = false;
		usage[dev].used -= m->size;
	}
	pthread_mutex_unlock(&lock);
	return e;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	CUresult e = device(dev);

	if (e || !value)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	switch (attr) {
	case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
		*(cuuint64_t *)value = usage[dev].used;
		break;
	case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
		*(cuuint64_t *)value = usage[dev].used_high;
		break;
	case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
		*(cuuint64_t *)value = usage[dev].reserved;
		break;
	case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
		*(cuuint64_t *)value = usage[dev].reserved_high;
		break;
	default:
		e = CUDA_ERROR_INVALID_VALUE;
	}
	pthread_mutex_unlock(&lock);
	return e;
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	CUresult e = device(dev);

	/* High-water marks can be put back to where things are now; nothing else can be set. */
	if (e || !value || *(cuuint64_t *)value)
		return e ? e : CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
		usage[dev].used_high = usage[dev].used;
	else if (attr == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
		usage[dev].reserved_high = usage[dev].reserved;
	else
		e = CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&lock);
	return e;
}
