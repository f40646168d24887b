// SPDX-License-Identifier: Apache-2.0
/* The session's arena as the GPU sees it: pieces of pinned host memory. */
#include <errno.h>

#include "fault.h"
#include "worker.h"

/*
 * The first @n pieces of the arena are pinned for the GPU, so that copies from and to it are asynchronous and kernels can
 * reach the client's pinned memory. That takes a context, which there is not yet when the first part is mapped. A context
 * that is broken, and uses nothing any more, leaves them to the next one.
 */
static CUresult pin(struct worker *w, unsigned int n)
{
	if (!w->current || !D.cuMemHostRegister_v2)
		return CUDA_SUCCESS;
	for (unsigned int i = 0; i < n; i++) {
		CUresult r;

		if (w->arena[i].pinned)
			continue;
		r = D.cuMemHostRegister_v2(w->arena[i].addr, w->arena[i].size,
					   CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
		if (breaks_context(r))
			return CUDA_SUCCESS;
		if (r != CUDA_SUCCESS && r != CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED) {
			worker_complain(w, "%llu KiB of arena cannot be pinned: CUresult %d",
					(unsigned long long)(w->arena[i].size >> 10), r);
			return r;
		}
		w->arena[i].pinned = w->current->root;
	}
	return CUDA_SUCCESS;
}

static bool any_context(struct handle *e, void *arg)
{
	struct wctx **found = arg;

	struct wctx *c = VGPU_HANDLE_TYPE(e->value) == VGPU_H_CTX ? e->aux : NULL;

	if (c && c == c->root)
		*found = c;
	return false;
}

/* Also when no context is current: in any but @ended. If there is none the next one does it. */
static CUresult pin_anywhere(struct worker *w, unsigned int n, const struct wctx *ended)
{
	struct wctx *c = NULL;
	CUresult r;

	if (w->current)
		return pin(w, n);
	for (unsigned int i = 0; !c && i < w->ndevices; i++)
		if (w->primary[i] != ended)
			c = w->primary[i];
	if (!c)
		handle_purge(&w->handles, any_context, &c);
	if (!c)
		return CUDA_SUCCESS;
	r = D.cuCtxSetCurrent(c->real);
	if (r == CUDA_SUCCESS) {
		w->current = c;
		r = pin(w, n);
	}
	context_set_none(w);
	return breaks_context(r) ? CUDA_SUCCESS : r;
}

void arena_pin(struct worker *w)
{
	pin(w, w->narena);
}

void arena_unpinned(struct worker *w, const struct wctx *ended)
{
	bool any = false;

	for (unsigned int i = 0; i < w->narena; i++) {
		if (w->arena[i].pinned != ended)
			continue;
		w->arena[i].pinned = NULL;
		any = true;
	}
	if (any)
		pin_anywhere(w, w->narena, ended);
}

uint64_t arena_piece(struct worker *w, const void *at, uint64_t len)
{
	/* A copy that is waited for in the driver asks too, while another thread dispatches and may add to it (block.c). */
	unsigned int lo = 0, hi = __atomic_load_n(&w->narena, __ATOMIC_ACQUIRE);

	while (!w->soft && lo < hi) {
		unsigned int i = lo + (hi - lo) / 2;
		const char *end = (char *)w->arena[i].addr + w->arena[i].size;

		if ((const char *)at < (char *)w->arena[i].addr)
			hi = i;
		else if ((const char *)at >= end)
			lo = i + 1;
		else
			return len < (uint64_t)(end - (const char *)at) ? len : (uint64_t)(end - (const char *)at);
	}
	return len;
}

static bool any_pinned(const struct worker *w)
{
	for (unsigned int i = 0; i < w->narena; i++)
		if (w->arena[i].pinned)
			return true;
	return false;
}

int arena_mapped(void *opaque, void *addr, uint64_t size)
{
	struct worker *w = opaque;
	unsigned int n = w->narena;

	if (!size)
		return 0;
	if (n == ARENA_PIECES)
		return -ENOMEM;
	w->arena[n].addr = addr;
	w->arena[n].size = size;
	w->arena[n].pinned = NULL;
	/* Where nothing can be pinned, copies are slower and right; where something can, all must be, for kernels reach it. */
	if (pin_anywhere(w, n + 1, NULL) != CUDA_SUCCESS && any_pinned(w))
		return -ENOMEM;
	__atomic_store_n(&w->narena, n + 1, __ATOMIC_RELEASE);
	return 0;
}
