// SPDX-License-Identifier: Apache-2.0
/* User objects: what a program wants to live as long as graphs that use it. */
#include <stdlib.h>

#include "graph.h"

struct sg_user {
	struct sg_object object;
	unsigned int count, own;	/* all references, and those that are the program's */
	CUhostFn destroy;
	void *data;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sg_user *check(CUuserObject h)
{
	return sg_object_check(&sg_user_table, h);
}

/* Drop @n references. The last one ends the object, whose function runs in whichever thread that is. */
static void drop(struct sg_user *u, unsigned int n)
{
	bool last, before;

	pthread_mutex_lock(&lock);
	u->count -= n;
	last = !u->count;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	atomic_store(&u->object.live, 0);
	before = sg_tls.in_callback;
	sg_tls.in_callback = true;
	u->destroy(u->data);
	sg_tls.in_callback = before;
	sg_object_put(&sg_user_table, u);
}

CUresult cuUserObjectCreate(CUuserObject *out, void *data, CUhostFn destroy, unsigned int count, unsigned int flags)
{
	struct sg_user *u;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!out || !destroy || !count || count > INT32_MAX || flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
		return CUDA_ERROR_INVALID_VALUE;
	u = sg_object_new(&sg_user_table);
	if (!u)
		return CUDA_ERROR_OUT_OF_MEMORY;
	u->count = u->own = count;
	u->destroy = destroy;
	u->data = data;
	atomic_store_explicit(&u->object.live, sg_user_table.magic, memory_order_release);
	*out = (CUuserObject)u;
	return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject h, unsigned int count)
{
	struct sg_user *u = check(h);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!u || !count || count > INT32_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	u->count += count;
	u->own += count;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

CUresult cuUserObjectRelease(CUuserObject h, unsigned int count)
{
	struct sg_user *u = check(h);

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!u || !count || count > INT32_MAX || count > u->own)
		return CUDA_ERROR_INVALID_VALUE;
	u->own -= count;
	drop(u, count);
	return CUDA_SUCCESS;
}

static struct sg_user_ref *reference(struct sg_graph *g, struct sg_user *u, bool make)
{
	struct sg_user_ref *r;

	for (r = g->users; r && r->user != u; r = r->next)
		;
	if (!r && make) {
		r = calloc(1, sizeof(*r));
		if (!r)
			return NULL;
		r->user = u;
		r->next = g->users;
		g->users = r;
	}
	return r;
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject h, unsigned int count, unsigned int flags)
{
	struct sg_graph *g = sg_graph_check(graph);
	struct sg_user *u = check(h);
	struct sg_user_ref *r;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!g || !u || !count || count > INT32_MAX || flags & ~(unsigned int)CU_GRAPH_USER_OBJECT_MOVE ||
	    (flags && count > u->own))
		return CUDA_ERROR_INVALID_VALUE;
	r = reference(g, u, true);
	if (!r)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&lock);
	r->count += count;
	if (flags)
		u->own -= count;
	else
		u->count += count;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject h, unsigned int count)
{
	struct sg_graph *g = sg_graph_check(graph);
	struct sg_user *u = check(h);
	struct sg_user_ref *r, **p;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	r = g && u ? reference(g, u, false) : NULL;
	if (!r || !count || count > r->count)
		return CUDA_ERROR_INVALID_VALUE;
	r->count -= count;
	if (!r->count) {
		for (p = &g->users; *p != r; p = &(*p)->next)
			;
		*p = r->next;
		free(r);
	}
	drop(u, count);
	return CUDA_SUCCESS;
}

bool sg_users_copy(struct sg_graph *to, const struct sg_graph *from)
{
	for (const struct sg_user_ref *r = from->users; r; r = r->next) {
		struct sg_user_ref *c = reference(to, r->user, true);

		if (!c)
			return false;
		pthread_mutex_lock(&lock);
		c->count++;
		r->user->count++;
		pthread_mutex_unlock(&lock);
	}
	return true;
}

void sg_users_drop(struct sg_graph *g)
{
	while (g->users) {
		struct sg_user_ref *r = g->users;

		g->users = r->next;
		if (r->count)
			drop(r->user, r->count);
		free(r);
	}
}
