// SPDX-License-Identifier: Apache-2.0
/*
 * Memory pools. All memory comes from one heap; what a pool keeps of freed memory, up to its release threshold, is not
 * memory that is set aside, but counts as used for everybody else.
 */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "both.h"
#include "mempool.h"
#include "share.h"

#define SG_POOL_UNIT	(32ull << 20)	/* sizes of pools are multiples of it, as NVIDIA's are */

/*
 * struct sg_pool - @used and @kept bytes, under @lock; @access: a bit for each device but its own; @fd: of one that can be shared,
 * what it is known by, else -1; @key is half its name's, @imported: it is another process's
 */
struct sg_pool {
	struct sg_object object;
	int device;
	bool is_default, imported, shareable, exported;
	uint8_t reuse[4], key[8];
	int fd;
	uint32_t access;
	pthread_mutex_t lock;
	uint64_t threshold, max, used, used_high, kept, reserved_high;
};

_Static_assert(sizeof(struct sg_pool) <= 256, "sg_pool outgrew its slot");

static struct sg_pool *defaults[SG_DEVICES_MAX];
static struct sg_pool *current[SG_DEVICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_pool *pool_new(int device)
{
	struct sg_pool *p = sg_object_new(&sg_pool_table);

	if (!p)
		return NULL;
	p->device = device;
	p->fd = -1;
	pthread_mutex_init(&p->lock, NULL);
	memset(p->reuse, 1, sizeof(p->reuse));
	atomic_store_explicit(&p->object.live, sg_pool_table.magic, memory_order_release);
	return p;
}

static CUresult device_pool(CUmemoryPool *out, CUdevice dev, struct sg_pool **which)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (dev < 0 || dev >= sg_devices)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!defaults[dev]) {
		defaults[dev] = pool_new(dev);
		if (defaults[dev])
			defaults[dev]->is_default = true;
		current[dev] = defaults[dev];
	}
	*out = (CUmemoryPool)which[dev];
	pthread_mutex_unlock(&lock);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice dev)
{
	return device_pool(pool, dev, defaults);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	return device_pool(pool, dev, current);
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
	struct sg_pool *p = sg_object_check(&sg_pool_table, pool);
	CUmemoryPool old;
	CUresult e = device_pool(&old, dev, current);

	if (e)
		return e;
	if (!p || p->device != dev || p->imported)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	current[dev] = p;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* The same by location: a device's. Memory pools of the host there are not. */
static CUresult located(const CUmemLocation *location, CUmemAllocationType type, CUdevice *dev)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!location || (type != CU_MEM_ALLOCATION_TYPE_PINNED && type != CU_MEM_ALLOCATION_TYPE_MANAGED))
		return CUDA_ERROR_INVALID_VALUE;
	if (type == CU_MEM_ALLOCATION_TYPE_MANAGED)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_NOT_SUPPORTED;
	*dev = location->id;
	return CUDA_SUCCESS;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
	CUdevice dev;
	CUresult e = located(location, type, &dev);

	return e ? e : device_pool(pool, dev, defaults);
}

CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
	CUdevice dev;
	CUresult e = located(location, type, &dev);

	return e ? e : device_pool(pool, dev, current);
}

CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool)
{
	CUdevice dev;
	CUresult e = located(location, type, &dev);

	return e ? e : cuDeviceSetMemPool(dev, pool);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	struct sg_pool *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!pool || !props ||
	    (props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED && props->allocType != CU_MEM_ALLOCATION_TYPE_MANAGED))
		return CUDA_ERROR_INVALID_VALUE;
	if (props->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED || props->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
	    props->handleTypes & ~(unsigned int)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (props->location.id < 0 || props->location.id >= sg_devices)
		return CUDA_ERROR_INVALID_VALUE;
	p = pool_new(props->location.id);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p->max = (props->maxSize + SG_POOL_UNIT - 1) / SG_POOL_UNIT * SG_POOL_UNIT;
	if (props->handleTypes) {
		struct sg_name name;
		CUresult e = sg_share_new(SG_SHARE_POOL, 4096, p->device, NULL, &name, &p->fd);

		if (e) {
			atomic_store(&p->object.live, 0);
			sg_object_put(&sg_pool_table, p);
			return e;
		}
		p->shareable = true;
		memcpy(p->key, name.key, sizeof(p->key));
	}
	*pool = (CUmemoryPool)p;
	return CUDA_SUCCESS;
}

static CUresult pool_enter(CUmemoryPool pool, const void *arg, struct sg_pool **p)
{
	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	*p = sg_object_check(&sg_pool_table, pool);
	return *p && arg ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* --- what is used and what is kept --------------------------------------------------------------------------------- */

/* Under the pool's lock: keep no more than @most. @return what is let go */
static uint64_t let_go(struct sg_pool *p, uint64_t most)
{
	uint64_t n = p->kept > most ? p->kept - most : 0;

	p->kept -= n;
	return n;
}

static void trim(struct sg_pool *p, uint64_t total)
{
	uint64_t n;

	pthread_mutex_lock(&p->lock);
	n = let_go(p, total > p->used ? total - p->used : 0);
	pthread_mutex_unlock(&p->lock);
	sg_heap_hold(p->device, -(int64_t)n);
}

bool sg_pools_trim(void)
{
	uint32_t n = atomic_load(&sg_pool_table.used);
	bool any = false;

	for (uint32_t i = 0; i < n; i++) {
		struct sg_pool *p = sg_object_check(&sg_pool_table, sg_pool_table.base + (size_t)i * sg_pool_table.size);

		if (!p || !p->kept)
			continue;
		any = true;
		trim(p, 0);
	}
	return any;
}

uint64_t sg_pool_freed(void *pool, uint64_t bytes)
{
	struct sg_pool *p = pool;
	uint64_t keep = 0, total;

	pthread_mutex_lock(&p->lock);
	p->used -= bytes;
	total = p->used + p->kept;
	if (total < p->threshold && atomic_load(&p->object.live) == sg_pool_table.magic) {
		keep = p->threshold - total;
		if (keep > bytes)
			keep = bytes;
		p->kept += keep;
	}
	pthread_mutex_unlock(&p->lock);
	sg_object_put(&sg_pool_table, p);
	return keep;
}

CUresult sg_pool_alloc(struct sg_pool *p, struct sg_ctx *c, CUdeviceptr *dptr, size_t size)
{
	uint64_t bytes = (size + 4095) & ~4095ull, kept, at;
	bool fits;

	if (!dptr || !size || bytes < size || p->imported)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&p->lock);
	fits = !p->max || p->used + bytes <= p->max;
	kept = p->kept < bytes ? p->kept : bytes;
	if (fits) {
		p->kept -= kept;
		p->used += bytes;
	}
	pthread_mutex_unlock(&p->lock);
	if (!fits)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sg_heap_hold(p->device, -(int64_t)kept);
	at = sg_heap_alloc_on(p->device, c, size, 0, SG_ALLOC_ASYNC);
	if (!at) {
		trim(p, 0);	/* what it keeps may be what is missing */
		at = sg_heap_alloc_on(p->device, c, size, 0, SG_ALLOC_ASYNC);
	}
	pthread_mutex_lock(&p->lock);
	if (!at) {
		p->used -= bytes;
	} else {
		if (p->used > p->used_high)
			p->used_high = p->used;
		if (p->used + p->kept > p->reserved_high)
			p->reserved_high = p->used + p->kept;
	}
	pthread_mutex_unlock(&p->lock);
	if (!at)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sg_object_get(p);
	sg_heap_set_pool(at, p);
	*dptr = at;
	return CUDA_SUCCESS;
}

struct sg_pool *sg_pool_current(int device)
{
	CUmemoryPool pool;

	return device_pool(&pool, device, current) ? NULL : (struct sg_pool *)pool;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, pool, &p);

	if (e)
		return e;
	if (p->is_default)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (current[p->device] == p)
		current[p->device] = defaults[p->device];
	pthread_mutex_unlock(&lock);
	atomic_store(&p->object.live, 0);
	trim(p, 0);
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	sg_object_put(&sg_pool_table, p);
	return CUDA_SUCCESS;
}

/* --- pools of several processes ------------------------------------------------------------------------------------ */

const uint8_t *sg_pool_key(const struct sg_pool *p)
{
	return p->exported || p->imported ? p->key : NULL;
}

bool sg_pool_imported(const struct sg_pool *p)
{
	return p->imported;
}

CUresult cuMemPoolExportToShareableHandle(void *handle, CUmemoryPool pool, CUmemAllocationHandleType type,
					  unsigned long long flags)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, handle, &p);
	int fd;

	if (e)
		return e;
	if (flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !p->shareable)
		return CUDA_ERROR_INVALID_VALUE;
	fd = sg_share_copy(p->fd);
	if (fd < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*(int *)handle = fd;
	p->exported = true;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle, CUmemAllocationHandleType type,
					    unsigned long long flags)
{
	struct sg_name name;
	struct sg_pool *p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!pool || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    !sg_share_describe((int)(intptr_t)handle, SG_SHARE_POOL, &name) || name.device >= (uint32_t)sg_devices)
		return CUDA_ERROR_INVALID_VALUE;
	p = pool_new((int)name.device);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p->imported = true;
	memcpy(p->key, name.key, sizeof(p->key));
	*pool = (CUmemoryPool)p;
	return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, pool, &p);

	if (!e)
		trim(p, keep);
	return e;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, value, &p);

	if (e)
		return e;
	switch (attr) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		p->reuse[attr] = !!*(int *)value;
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		p->threshold = *(cuuint64_t *)value;
		trim(p, p->threshold);
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		if (*(cuuint64_t *)value)
			return CUDA_ERROR_INVALID_VALUE;
		pthread_mutex_lock(&p->lock);
		if (attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH)
			p->used_high = p->used;
		else
			p->reserved_high = p->used + p->kept;
		pthread_mutex_unlock(&p->lock);
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, value, &p);

	if (e)
		return e;
	pthread_mutex_lock(&p->lock);
	switch (attr) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		*(int *)value = p->reuse[attr];
		break;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		*(cuuint64_t *)value = p->threshold;
		break;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
		*(cuuint64_t *)value = p->used + p->kept;
		break;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
		*(cuuint64_t *)value = p->reserved_high;
		break;
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
		*(cuuint64_t *)value = p->used;
		break;
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		*(cuuint64_t *)value = p->used_high;
		break;
	default:
		e = CUDA_ERROR_INVALID_VALUE;
	}
	pthread_mutex_unlock(&p->lock);
	return e;
}

/* Memory is one for all devices here; what was said is remembered. A pool's own device cannot lose it. */
CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t n)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, map, &p);

	for (size_t i = 0; !e && i < n; i++) {
		const CUmemAccessDesc *m = &map[i];

		if (m->location.type != CU_MEM_LOCATION_TYPE_DEVICE || m->location.id < 0 || m->location.id >= sg_devices)
			e = CUDA_ERROR_INVALID_DEVICE;
		else if ((m->flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && m->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) ||
			 (m->location.id == p->device && !m->flags))
			e = CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t i = 0; !e && i < n; i++) {
		if (map[i].flags)
			p->access |= 1u << map[i].location.id;
		else
			p->access &= ~(1u << map[i].location.id);
	}
	return e;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location)
{
	struct sg_pool *p;
	CUresult e = pool_enter(pool, flags && location ? flags : NULL, &p);

	if (e)
		return e;
	if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || location->id < 0 || location->id >= sg_devices)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = location->id == p->device || p->access >> location->id & 1 ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE :
									       CU_MEM_ACCESS_FLAGS_PROT_NONE;
	return CUDA_SUCCESS;
}

BOTH(cuMemAllocFromPoolAsync, (CUdeviceptr *dptr, size_t size, CUmemoryPool pool, CUstream stream),
     (dptr, size, pool, stream, ptds))
{
	struct sg_pool *p;
	struct sg_stream *s;
	CUresult e = pool_enter(pool, dptr, &p);

	if (!e)
		e = sg_stream_of(stream, ptds, &s);
	if (e)
		return e;
	if (sg_capturing(s))
		return cuMemAllocAsync(dptr, size, (CUstream)s == (CUstream)s->home->legacy ? CU_STREAM_LEGACY :
				       s->per_thread ? CU_STREAM_PER_THREAD : (CUstream)s);
	return sg_pool_alloc_ordered(p, s, dptr, size);
}

CUresult sg_pool_alloc_ordered(struct sg_pool *p, struct sg_stream *s, CUdeviceptr *dptr, size_t size)
{
	CUresult e;

	if (dptr && !size) {
		*dptr = 0;
		return CUDA_SUCCESS;
	}
	e = sg_pool_alloc(p, s->ctx, dptr, size);
	if (e != CUDA_ERROR_OUT_OF_MEMORY)
		return e;
	/* What is queued may free some. */
	sg_queue_sync_ctx(s->ctx);
	return sg_pool_alloc(p, s->ctx, dptr, size);
}

int sg_pool_device(const struct sg_pool *p)
{
	return p->device;
}
