// SPDX-License-Identifier: Apache-2.0
/* Launches: checked here, at once; queued with a copy of the parameters; run by execute.c. */
#include <string.h>

#include "both.h"
#include "softgpu.h"

#define HEAVY_THREADS	16384	/* work for long enough that waking a thread does not matter */

struct config {
	uint32_t grid[3], block[3];
	uint32_t shared;
	bool cooperative;
	CUstream stream;
	struct sg_event *events[2];	/* recorded behind the launch */
};

static CUresult check(const struct sg_kernel *k, const struct config *g)
{
	uint64_t threads = (uint64_t)g->block[0] * g->block[1] * g->block[2];
	uint64_t blocks;

	if (!g->grid[0] || !g->grid[1] || !g->grid[2] || g->grid[0] > 2147483647 || g->grid[1] > 65535 ||
	    g->grid[2] > 65535)
		return CUDA_ERROR_INVALID_VALUE;
	if (!threads || g->block[0] > 1024 || g->block[1] > 1024 || g->block[2] > 64 || threads > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	if (k->info.required[0] && (g->block[0] != k->info.required[0] ||
				    (k->info.required[1] && g->block[1] != k->info.required[1]) ||
				    (k->info.required[2] && g->block[2] != k->info.required[2])))
		return CUDA_ERROR_INVALID_VALUE;
	if (threads > k->info.max_threads)
		return CUDA_ERROR_INVALID_VALUE;
	if (g->shared > (uint32_t)k->max_dynamic)
		return CUDA_ERROR_INVALID_VALUE;
	if (k->info.static_shared > SG_SHARED_OPTIN)
		return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
	if (g->cooperative) {
		blocks = (uint64_t)g->grid[0] * g->grid[1];
		if (__builtin_mul_overflow(blocks, g->grid[2], &blocks) ||
		    blocks > (uint64_t)sg_occupancy(k, (unsigned int)threads, g->shared) * sg_cpus)
			return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
	}
	return CUDA_SUCCESS;
}

/* The buffer that `extra` describes. */
static CUresult extra_buffer(void **extra, const void **buffer, size_t *size)
{
	const size_t *psize = NULL;

	*buffer = NULL;
	for (unsigned int i = 0; extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
		if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
			*buffer = extra[i + 1];
		else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
			psize = extra[i + 1];
		else
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (!psize || (*psize && !*buffer))
		return CUDA_ERROR_INVALID_VALUE;
	*size = *psize;
	return CUDA_SUCCESS;
}

static void seq_end(struct sg_stream *s, struct sg_op *op, const struct config *g)
{
	sg_queue_end(s, op, (uint64_t)g->grid[0] * g->grid[1] * g->grid[2] * g->block[0] * g->block[1] * g->block[2] >=
				    HEAVY_THREADS);
	/* When all blocks have begun, or have let others begin: at the latest, when they are done. */
	for (int i = 0; i < 2; i++)
		if (g->events[i] && !sg_capturing(s))
			sg_event_record(g->events[i], s);
}

static CUresult launch(CUfunction f, const struct config *g, void **params, void **extra, bool ptds)
{
	struct sg_kernel *k = sg_kernel_check(f);
	const struct ptx_kernel *code;
	const void *buffer = NULL;
	struct sg_stream *s;
	struct sg_op *op;
	size_t size = 0;
	char *to;
	CUresult e = sg_stream_of(g->stream, ptds, &s);

	if (unlikely(e))
		return e;
	if (unlikely(!sg_tls.ctx))	/* whatever the stream is of */
		return CUDA_ERROR_INVALID_CONTEXT;
	if (unlikely(!k))
		return CUDA_ERROR_INVALID_HANDLE;
	e = check(k, g);
	if (unlikely(e))
		return e;
	if (extra) {
		if (params)
			return CUDA_ERROR_INVALID_VALUE;
		e = extra_buffer(extra, &buffer, &size);
		if (e)
			return e;
		if (size > k->info.param_bytes)
			size = k->info.param_bytes;
	} else if (!params && k->info.nparams) {
		return CUDA_ERROR_INVALID_VALUE;
	}
	e = sg_kernel_code(k, s->ctx, &code);
	if (unlikely(e))
		return e;

	op = sg_queue_begin(s, SG_OP_LAUNCH, k->info.param_bytes);
	op->u.launch.kernel = code;
	memcpy(op->u.launch.grid, g->grid, sizeof(g->grid));
	memcpy(op->u.launch.block, g->block, sizeof(g->block));
	op->u.launch.shared = g->shared;
	op->u.launch.cooperative = g->cooperative;
	op->u.launch.handle = k;
	to = (char *)(op + 1);
	if (extra) {
		if (size)
			memcpy(to, buffer, size);
		/* As NVIDIA's does, it takes a shorter one; there the rest is whatever it is. */
		memset(to + size, 0, k->info.param_bytes - size);
	} else if (params) {
		for (size_t i = 0; i < k->info.nparams; i++) {
			uint32_t n = k->info.params[i].size;
			char *p = to + k->info.params[i].offset;

			if (n == 8)
				memcpy(p, params[i], 8);
			else if (n == 4)
				memcpy(p, params[i], 4);
			else
				memcpy(p, params[i], n);
		}
	}
	seq_end(s, op, g);
	return CUDA_SUCCESS;
}

BOTH(cuLaunchKernel,
     (CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
      unsigned int bz, unsigned int shared, CUstream stream, void **params, void **extra),
     (f, gx, gy, gz, bx, by, bz, shared, stream, params, extra, ptds))
{
	struct config g = { .grid = { gx, gy, gz }, .block = { bx, by, bz }, .shared = shared, .stream = stream };

	return launch(f, &g, params, extra, ptds);
}

BOTH(cuLaunchCooperativeKernel,
     (CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
      unsigned int bz, unsigned int shared, CUstream stream, void **params),
     (f, gx, gy, gz, bx, by, bz, shared, stream, params, ptds))
{
	struct config g = { .grid = { gx, gy, gz }, .block = { bx, by, bz }, .shared = shared, .stream = stream,
			    .cooperative = true };

	return launch(f, &g, params, NULL, ptds);
}

static CUresult read_event(CUevent h, struct sg_event **out)
{
	struct sg_event *ev = sg_object_check(&sg_event_table, h);

	if (!ev)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!(ev->flags & CU_EVENT_DISABLE_TIMING))
		return CUDA_ERROR_NOT_SUPPORTED;
	*out = ev;
	return CUDA_SUCCESS;
}

static CUresult read_attribute(const CUlaunchAttribute *a, struct config *g)
{
	switch (a->id) {
	case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
		g->cooperative = a->value.cooperative;
		return CUDA_SUCCESS;
	case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
		if (a->value.clusterDim.x * a->value.clusterDim.y * a->value.clusterDim.z != 1)
			return CUDA_ERROR_NOT_SUPPORTED;
		return CUDA_SUCCESS;
	case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
		return read_event(a->value.programmaticEvent.event, &g->events[0]);
	case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
		return read_event(a->value.launchCompletionEvent.event, &g->events[1]);
	case CU_LAUNCH_ATTRIBUTE_IGNORE:	/* these are hints that change nothing here */
	case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
	case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
	case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
	case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
	case CU_LAUNCH_ATTRIBUTE_PRIORITY:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
	case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
	case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
	case CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING:
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

BOTH(cuLaunchKernelEx, (const CUlaunchConfig *config, CUfunction f, void **params, void **extra),
     (config, f, params, extra, ptds))
{
	struct config g;
	CUresult e;

	if (!config || (config->numAttrs && !config->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	g = (struct config){ .grid = { config->gridDimX, config->gridDimY, config->gridDimZ },
			     .block = { config->blockDimX, config->blockDimY, config->blockDimZ },
			     .shared = config->sharedMemBytes, .stream = config->hStream };
	for (unsigned int i = 0; i < config->numAttrs; i++) {
		e = read_attribute(&config->attrs[i], &g);
		if (e)
			return e;
	}
	return launch(f, &g, params, extra, ptds);
}
