// SPDX-License-Identifier: Apache-2.0
/* Occupancy: the driver computes it once for each kernel and shape; libraries ask before every launch. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"
#include "shim_gen.h"

enum question { BLOCKS, SHARED, POTENTIAL_CLUSTER, ACTIVE_CLUSTERS };

struct occupancy {
	struct occupancy *next;
	enum question question;
	uint32_t device;	/* of the context that it was asked in */
	uint64_t key[4];
	uint64_t answer;
};

#define REMEMBERED	256	/* answers a kernel; a program that asks for more asks for something new each time */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void occupancy_forget(struct kernel *k)
{
	struct occupancy *m;

	pthread_mutex_lock(&lock);
	m = k->memo;
	k->memo = NULL;
	k->nmemo = 0;
	pthread_mutex_unlock(&lock);
	while (m) {
		struct occupancy *next = m->next;

		free(m);
		m = next;
	}
}

static uint32_t current_device(void)
{
	const struct object *ctx = context_current(thread_self());

	return ctx ? context_device(ctx) : 0;
}

static bool recall(struct kernel *k, enum question q, const uint64_t key[4], uint64_t *answer)
{
	uint32_t device = current_device();
	struct occupancy *m;

	pthread_mutex_lock(&lock);
	for (m = k->memo; m; m = m->next)
		if (m->question == q && m->device == device && !memcmp(m->key, key, sizeof(m->key)))
			break;
	if (m)
		*answer = m->answer;
	pthread_mutex_unlock(&lock);
	return m != NULL;
}

static void remember(struct kernel *k, enum question q, const uint64_t key[4], uint64_t answer)
{
	struct occupancy *m = k->nmemo < REMEMBERED ? malloc(sizeof(*m)) : NULL;

	if (!m)
		return;
	*m = (struct occupancy){ .question = q, .device = current_device(), .answer = answer };
	memcpy(m->key, key, sizeof(m->key));
	pthread_mutex_lock(&lock);
	m->next = k->memo;
	k->memo = m;
	k->nmemo++;
	pthread_mutex_unlock(&lock);
}

static CUresult find(CUfunction f, struct kernel **k)
{
	struct object *o = object_function(f);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!o)
		return CUDA_ERROR_INVALID_HANDLE;
	*k = o->kernel;
	return CUDA_SUCCESS;
}

/* On the current context's device: a kernel is one for all devices. */
static CUresult blocks_of(CUfunction f, struct kernel *k, int threads, size_t shared, unsigned int flags, int *blocks)
{
	const struct object *ctx = context_current(thread_self());
	uint64_t key[4] = { threads, shared, flags, ctx ? context_device(ctx) : UINT32_MAX }, answer;
	CUresult r;

	if (recall(k, BLOCKS, key, &answer)) {
		*blocks = answer;
		return CUDA_SUCCESS;
	}
	r = call_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, f, threads, shared, flags);
	if (r == CUDA_SUCCESS)
		remember(k, BLOCKS, key, *blocks);
	return r;
}

bool occupancy_holds(const struct launch *l, struct kernel *k)
{
	const int *limits = shim.devices[context_device(context_current(thread_self()))].props.attributes;
	uint64_t grid = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
	int blocks, threads = l->block[0] * l->block[1] * l->block[2];

	if (!limits[CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH] ||
	    blocks_of(l->function, k, threads, l->shared, CU_OCCUPANCY_DEFAULT, &blocks) != CUDA_SUCCESS)
		return false;
	return blocks > 0 && grid <= (uint64_t)blocks * limits[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
}

VGPU_EXPORT CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks, CUfunction func,
										  int blockSize,
										  size_t dynamicSMemSize,
										  unsigned int flags)
{
	struct kernel *k;
	CUresult r = find(func, &k);

	if (r != CUDA_SUCCESS)
		return r;
	if (!numBlocks || blockSize <= 0 || flags & ~(unsigned int)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	return blocks_of(func, k, blockSize, dynamicSMemSize, flags, numBlocks);
}

VGPU_EXPORT CUresult CUDAAPI cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func,
									 int blockSize, size_t dynamicSMemSize)
{
	return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks, func, blockSize, dynamicSMemSize, 0);
}

VGPU_EXPORT CUresult CUDAAPI cuOccupancyAvailableDynamicSMemPerBlock(size_t *dynamicSmemSize, CUfunction func,
								     int numBlocks, int blockSize)
{
	uint64_t key[4] = { numBlocks, blockSize }, answer;
	struct kernel *k;
	CUresult r = find(func, &k);

	if (r != CUDA_SUCCESS)
		return r;
	key[2] = k->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES];
	if (!dynamicSmemSize)
		return CUDA_ERROR_INVALID_VALUE;
	if (recall(k, SHARED, key, &answer)) {
		*dynamicSmemSize = answer;
		return CUDA_SUCCESS;
	}
	r = call_cuOccupancyAvailableDynamicSMemPerBlock(dynamicSmemSize, func, numBlocks, blockSize);
	if (r == CUDA_SUCCESS)
		remember(k, SHARED, key, *dynamicSmemSize);
	return r;
}

/*
 * The block size that keeps most threads of a multiprocessor busy, largest first; the program's function says how
 * much dynamic shared memory a block of a given size needs.
 */
VGPU_EXPORT CUresult CUDAAPI cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize, CUfunction func,
								       CUoccupancyB2DSize blockSizeToDynamicSMemSize,
								       size_t dynamicSMemSize, int blockSizeLimit,
								       unsigned int flags)
{
	const struct object *ctx = context_current(thread_self());
	int best_threads = 0, best_block = 0, best_blocks = 0, max, warp, limit;
	const int *limits;
	struct kernel *k;
	CUresult r = find(func, &k);

	if (r != CUDA_SUCCESS)
		return r;
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!minGridSize || !blockSize)
		return CUDA_ERROR_INVALID_VALUE;
	limits = shim.devices[context_device(ctx)].props.attributes;
	warp = limits[CU_DEVICE_ATTRIBUTE_WARP_SIZE] > 0 ? limits[CU_DEVICE_ATTRIBUTE_WARP_SIZE] : 32;
	max = limits[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
	limit = kernel_on(object_function(func), context_device(ctx))
			->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
	limit = limit < max ? limit : max;
	if (blockSizeLimit > 0 && blockSizeLimit < limit)
		limit = blockSizeLimit;
	for (int aligned = (limit + warp - 1) / warp * warp; aligned > 0; aligned -= warp) {
		int block = aligned < limit ? aligned : limit, blocks;
		size_t shared = blockSizeToDynamicSMemSize ? blockSizeToDynamicSMemSize(block) : dynamicSMemSize;

		r = cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, func, block, shared, flags);
		if (r != CUDA_SUCCESS)
			return r;
		if (blocks * block > best_threads) {
			best_threads = blocks * block;
			best_block = block;
			best_blocks = blocks;
		}
		if (best_threads >= limits[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR])
			break;
	}
	*minGridSize = best_blocks * limits[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
	*blockSize = best_block;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
							      CUoccupancyB2DSize blockSizeToDynamicSMemSize,
							      size_t dynamicSMemSize, int blockSizeLimit)
{
	return cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func, blockSizeToDynamicSMemSize,
							 dynamicSMemSize, blockSizeLimit, 0);
}

/* Clusters: the question is a launch configuration. */
static CUresult clusters(uint16_t type, enum question q, int *answer, CUfunction func, const CUlaunchConfig *config)
{
	struct vgpu_clusters_reply reply;
	struct vgpu_launch rq = { .nattrs = 0 };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { NULL, 0 } };
	uint64_t key[4] = { 0 }, known;
	struct kernel *k;
	CUresult r = find(func, &k);
	size_t len = 0;

	if (r == CUDA_SUCCESS)
		r = call_begin(&rq.call, true);
	if (r != CUDA_SUCCESS)
		return r;
	if (!answer || !config || config->numAttrs > VGPU_LAUNCH_ATTRS_MAX || (config->numAttrs && !config->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	rq.function = object_launchable(func);
	rq.grid[0] = config->gridDimX;
	rq.grid[1] = config->gridDimY;
	rq.grid[2] = config->gridDimZ;
	rq.block[0] = config->blockDimX;
	rq.block[1] = config->blockDimY;
	rq.block[2] = config->blockDimZ;
	rq.shared = config->sharedMemBytes;
	rq.nattrs = config->numAttrs;
	iov[1].iov_base = config->attrs;
	iov[1].iov_len = rq.nattrs * sizeof(CUlaunchAttribute);
	key[0] = (uint64_t)rq.grid[0] * rq.grid[1] * rq.grid[2];
	key[1] = (uint64_t)rq.block[0] << 40 | (uint64_t)rq.block[1] << 20 | rq.block[2];
	key[2] = rq.shared;
	for (uint32_t i = 0; i < rq.nattrs; i++)
		if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
			key[3] = (uint64_t)config->attrs[i].value.clusterDim.x << 40 |
				 (uint64_t)config->attrs[i].value.clusterDim.y << 20 |
				 config->attrs[i].value.clusterDim.z;
	if (recall(k, q, key, &known)) {
		*answer = known;
		return CUDA_SUCCESS;
	}
	r = call_replyv(type, iov, 2, &reply, sizeof(reply), &len);
	if (r != CUDA_SUCCESS)
		return r;
	if (len != sizeof(reply))
		return session_failed(-EPROTO);
	remember(k, q, key, reply.value);
	*answer = reply.value;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuOccupancyMaxPotentialClusterSize(int *clusterSize, CUfunction func,
								const CUlaunchConfig *config)
{
	return clusters(VGPU_MSG_cuOccupancyMaxPotentialClusterSize, POTENTIAL_CLUSTER, clusterSize, func, config);
}

VGPU_EXPORT CUresult CUDAAPI cuOccupancyMaxActiveClusters(int *numClusters, CUfunction func,
							  const CUlaunchConfig *config)
{
	return clusters(VGPU_MSG_cuOccupancyMaxActiveClusters, ACTIVE_CLUSTERS, numClusters, func, config);
}
