// SPDX-License-Identifier: Apache-2.0
/* A grid: checks, parameters, blocks handed to the pool, or all side by side if they wait for each other. */

#include <stdio.h>
#include <stdlib.h>

#include "exec.h"

#define INVALID_VALUE	1
#define OUT_OF_MEMORY	2
#define MAX_COOPERATIVE_BYTES (2ull << 30)

static uint64_t instructions, grids;

uint64_t ptx_instructions(void)
{
	return __atomic_load_n(&instructions, __ATOMIC_RELAXED);
}

static int refuse(char *fault, int code, const char *kernel, const char *why)
{
	if (fault)
		snprintf(fault, 256, "kernel %s: %s", kernel, why);
	return code;
}

static int run_cooperative(struct launch *l)
{
	uint64_t bytes = l->kernel->fn->frame_bytes + l->kernel->fn->area * WARP + sizeof(struct warp) +
			 (uint64_t)l->kernel->stack * WARP / 16;
	struct block **b;
	uint64_t left;
	int ret = 0;

	bytes = bytes * l->nwarps + l->request->dynamic_shared + l->kernel->info.static_shared +
		l->kernel->dynamic_align + 8192;
	if (l->nblocks > 65536 || bytes * l->nblocks > MAX_COOPERATIVE_BYTES)
		return refuse(l->fault, FAULT_COOPERATIVE, l->kernel->info.name,
			      "too many blocks for a cooperative launch");
	b = calloc(l->nblocks, sizeof(struct block *));
	if (!b)
		return OUT_OF_MEMORY;
	for (uint64_t i = 0; i < l->nblocks; i++) {
		b[i] = block_create(l);
		if (!b[i]) {
			ret = refuse(l->fault, FAULT_COOPERATIVE, l->kernel->info.name,
				     "no memory for all blocks of a cooperative launch");
			goto out;
		}
		block_begin(b[i], i);
	}
	do {
		left = 0;
		for (uint64_t i = 0; i < l->nblocks && !l->stop; i++)
			if (!b[i]->done && !block_run(b[i], 1))
				left++;
	} while (left && !l->stop);
out:
	for (uint64_t i = 0; i < l->nblocks && b[i]; i++)
		block_destroy(b[i]);
	free(b);
	return ret;
}

int ptx_launch(const struct ptx_kernel *k, const struct ptx_launch *r, char *fault)
{
	uint64_t threads = (uint64_t)r->block[0] * r->block[1] * r->block[2];
	struct launch l = { .kernel = k, .request = r, .fault = fault, .slice = SLICE };
	int ret = 0;

	if (fault)
		fault[0] = 0;
	if (!r->grid[0] || !r->grid[1] || !r->grid[2] || r->grid[1] > 65535 || r->grid[2] > 65535 ||
	    r->grid[0] > 0x7fffffff)
		return refuse(fault, INVALID_VALUE, k->info.name, "grid dimensions are out of range");
	if (!threads || r->block[0] > 1024 || r->block[1] > 1024 || r->block[2] > 1024 || threads > 1024)
		return refuse(fault, INVALID_VALUE, k->info.name, "block dimensions are out of range");
	if (r->dynamic_shared > 1u << 28)
		return refuse(fault, INVALID_VALUE, k->info.name, "dynamic shared memory is out of range");
	l.nthreads = threads;
	l.nwarps = (threads + WARP - 1) / WARP;
	l.nblocks = (uint64_t)r->grid[0] * r->grid[1] * r->grid[2];
	l.grid_id = __atomic_add_fetch(&grids, 1, __ATOMIC_RELAXED);
	l.params = calloc(1, k->info.param_bytes + 32);
	if (!l.params)
		return OUT_OF_MEMORY;
	if (k->info.param_bytes)
		memcpy(l.params, r->params, k->info.param_bytes);
	if (r->cooperative) {
		l.slice = SLICE_COOPERATIVE;
		l.workspace = sg_heap_alloc(4096, 256);
		if (!l.workspace) {
			free(l.params);
			return refuse(fault, OUT_OF_MEMORY, k->info.name, "no memory for the grid's barrier");
		}
		memset((void *)(uintptr_t)l.workspace, 0, 4096);
		ret = run_cooperative(&l);
		sg_heap_free(l.workspace);
	} else {
		pool_run(&l);
	}
	free(l.params);
	__atomic_fetch_add(&instructions, l.instructions, __ATOMIC_RELAXED);
	return ret ? ret : l.error;
}
