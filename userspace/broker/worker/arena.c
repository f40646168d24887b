// SPDX-License-Identifier: Apache-2.0
/* The session's arena as the GPU sees it: pieces of pinned host memory. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fault.h"
#include "worker.h"

/* *@pinned: in which context it is, and then will be */
static CUresult pin_piece(struct worker *w, void *addr, uint64_t size, struct wctx **pinned)
{
	CUresult r;

	if (*pinned)
		return CUDA_SUCCESS;
	r = D.cuMemHostRegister_v2(addr, size, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
	if (r == CUDA_SUCCESS || r == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED)
		*pinned = w->current->root;
	else if (!breaks_context(r))
		worker_complain(w, "%llu KiB of arena cannot be pinned: CUresult %d", (unsigned long long)(size >> 10), r);
	return *pinned ? CUDA_SUCCESS : r;
}

static int leaving(const struct shown *s)
{
	return __atomic_load_n(&s->leaving, __ATOMIC_ACQUIRE);
}

/*
 * The first @n pieces of the arena are pinned for the GPU, so that copies from and to it are asynchronous and kernels can
 * reach the client's pinned memory. That takes a context, which there is not yet when the first part is mapped. A context
 * that is broken, and uses nothing any more, leaves them to the next one. So is what of it is mapped elsewhere (vmm.c).
 */
static CUresult pin(struct worker *w, unsigned int n)
{
	CUresult r = CUDA_SUCCESS;

	if (!w->current || !D.cuMemHostRegister_v2)
		return CUDA_SUCCESS;
	for (unsigned int i = 0; i < n && r == CUDA_SUCCESS; i++)
		r = pin_piece(w, w->arena[i].addr, w->arena[i].size, &w->arena[i].pinned);
	for (struct shown *s = w->shown; s && r == CUDA_SUCCESS; s = s->next)
		if (!leaving(s))
			r = pin_piece(w, s->at, s->size, &s->pinned);
	return breaks_context(r) ? CUDA_SUCCESS : r;
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
	for (struct shown *s = w->shown; s; s = s->next) {
		if (s->pinned != ended)
			continue;
		s->pinned = NULL;
		any |= !leaving(s);
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

/* Held again. */
static void hide(const struct shown *s)
{
	mmap(s->at, s->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

/* Off the list, too. */
static void unlist(struct worker *w, struct shown *s)
{
	struct shown **p;

	for (p = &w->shown; *p != s; p = &(*p)->next)
		;
	*p = s->next;
	hide(s);
}

int arena_show(struct worker *w, uint64_t offset, struct shown *s)
{
	if (idm_server_show(w->server, offset, s->size, s->at))
		return -ENOMEM;
	s->pinned = NULL;
	s->next = w->shown;
	w->shown = s;
	if (pin_anywhere(w, w->narena, NULL) == CUDA_SUCCESS || s->pinned || !any_pinned(w))
		return 0;
	unlist(w, s);
	return -ENOMEM;
}

bool arena_hold(void *at, uint64_t size)
{
	void *got = mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (got != MAP_FAILED && got != at)	/* a kernel before 4.17 */
		munmap(got, size);
	return got == at;
}

#define LEAVE_MOST	4

static int leavers;			/* threads; atomic */

struct leave {
	struct shown *s;
	struct wctx *ctx;
};

static void *leave(void *arg)
{
	struct leave l = *(struct leave *)arg;
	CUresult r;

	free(arg);
	r = D.cuCtxSetCurrent(l.ctx->real);
	if (r == CUDA_SUCCESS) {
		r = D.cuMemHostUnregister(l.s->at);
		D.cuCtxSetCurrent(NULL);
	}
	l.s->result = r;
	/* From here on it is the dispatching thread's again, and may be gone. */
	__atomic_store_n(&l.s->leaving, SHOWN_LEFT, __ATOMIC_RELEASE);
	__atomic_sub_fetch(&leavers, 1, __ATOMIC_RELAXED);
	context_put(l.ctx);
	fence_let_go(NULL);
	return NULL;
}

/* Whoever ends the context waits for that. Without a thread it stays as it is, until somebody asks again. */
static void leave_apart(struct shown *s)
{
	struct leave *l = NULL;
	pthread_t t;

	if (__atomic_load_n(&leavers, __ATOMIC_RELAXED) < LEAVE_MOST)
		l = malloc(sizeof(*l));
	if (!l)
		return;
	*l = (struct leave){ s, s->pinned };
	__atomic_add_fetch(&l->ctx->refs, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&leavers, 1, __ATOMIC_RELAXED);
	s->leaving = SHOWN_LEAVES;
	if (!pthread_create(&t, NULL, leave, l)) {
		pthread_detach(t);
		return;
	}
	s->leaving = SHOWN;
	__atomic_sub_fetch(&leavers, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&l->ctx->refs, 1, __ATOMIC_RELAXED);
	free(l);
}

CUresult arena_unshow(struct worker *w, struct shown *s, bool apart)
{
	CUresult r = CUDA_SUCCESS;
	CUcontext made;

	if (leaving(s) == SHOWN_LEAVES)
		return CUDA_ERROR_NOT_READY;
	if (leaving(s) == SHOWN_LEFT) {
		/* Unless its context has ended meanwhile. */
		r = s->pinned ? s->result : CUDA_SUCCESS;
		s->leaving = SHOWN;
	} else if (s->pinned && D.cuMemHostUnregister && apart) {
		leave_apart(s);
		return CUDA_ERROR_NOT_READY;
	} else if (s->pinned && D.cuMemHostUnregister) {
		r = context_borrow(w, &made);
		if (r == CUDA_SUCCESS) {
			r = D.cuMemHostUnregister(s->at);
			context_give_back(w, made);
		}
	}
	/* With a context that is broken its pages are in use by nobody; if they are pinned for good, nothing may take their place. */
	if (r != CUDA_SUCCESS && !breaks_context(r))
		return r;
	unlist(w, s);
	return CUDA_SUCCESS;
}
