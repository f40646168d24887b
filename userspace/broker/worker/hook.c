// SPDX-License-Identifier: Apache-2.0
/*
 * The client's functions that graphs hold: called with every launch, and let go by the driver's own count of who still
 * has the graph, which is what its user objects are for. The client's user objects are made of the same.
 */
#include <stdlib.h>
#include <time.h>

#include "graph.h"

#define HOOKS_MAX	65536
#define ROOM_WAIT_MS	200	/* for objects whose end the driver has yet to tell, in a thread of its own */
#define NAP_FIRST_NS	20000
#define NAP_LONGEST_NS	1000000

struct hook {
	uint64_t id;
	const uint32_t *ack;	/* arena: the client's to write, and only compared here */
	uint32_t told;		/* calls so far; under the lock */
	enum vgpu_hook kind;
	CUdeviceptr memory;	/* not 0: a record of memory */
	CUuserObject object;
	pthread_mutex_t lock;
	struct hook *next;	/* of the gone, of the retired, or of an executable graph's */
	CUgraphNode node;	/* which node of an executable graph was given it */
	struct hook *older;	/* what that node had before, since it was last called */
};

/*
 * struct life - an executable graph's. What its nodes are given the driver does not count, but it does count the object that
 * its graph had for the moment in which it was made: that goes when the executable graph is gone and no launch is under way.
 */
struct life {
	CUgraphExec exec;
	struct hook *hooks;	/* of each node the newest */
	CUuserObject object;
	struct life *next;
};

static unsigned int hooks;	/* atomic */
static unsigned int memories;	/* of them, records of memory; atomic */
static struct hook *gone;	/* atomic: memory that the dispatching thread has yet to forget */
static struct hook *retired;	/* atomic: called no more, for the dispatching thread to drop; others may not ask the driver */
static struct life *lives;	/* the newest first; under their lock, as is what they hold */
static pthread_mutex_t lives_lock = PTHREAD_MUTEX_INITIALIZER;

static bool full(void)
{
	return __atomic_load_n(&hooks, __ATOMIC_RELAXED) >= HOOKS_MAX;
}

static struct hook *make(uint64_t id, CUresult *r)
{
	struct hook *h = NULL;

	*r = CUDA_ERROR_OUT_OF_MEMORY;
	for (int i = 0; full() && i < ROOM_WAIT_MS; i++) {
		hook_reap(&worker);
		if (full())
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	if (full())
		return NULL;
	h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	__atomic_add_fetch(&hooks, 1, __ATOMIC_RELAXED);
	h->id = id;
	pthread_mutex_init(&h->lock, NULL);
	*r = CUDA_SUCCESS;
	return h;
}

static void end(struct hook *h)
{
	__atomic_sub_fetch(&hooks, 1, __ATOMIC_RELAXED);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static void push(struct hook **list, struct hook *h)
{
	h->next = __atomic_load_n(list, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(list, &h->next, h, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

/* @h and all that are older. */
static void retire(struct hook *h)
{
	while (h) {
		struct hook *older = h->older;

		h->older = NULL;
		push(&retired, h);
		h = older;
	}
}

/* The driver's count has come to nothing, in whichever thread. */
static void CUDA_CB over(void *data)
{
	struct vgpu_callback c = { .what = VGPU_TOLD_GONE };
	struct hook *h = data;

	if (h->memory) {
		push(&gone, h);
		return;
	}
	idm_server_callback(worker.server, h->id, &c, sizeof(c));
	end(h);
}

void hook_reap(struct worker *w)
{
	struct vgpu_callback c = { .what = VGPU_TOLD_GONE };
	struct hook *h = __atomic_exchange_n(&retired, NULL, __ATOMIC_ACQUIRE);
	uint64_t charged;
	bool used;

	while (h) {
		struct hook *next = h->next;

		hook_drop(h);
		h = next;
	}
	h = __atomic_exchange_n(&gone, NULL, __ATOMIC_ACQUIRE);
	used = h && memory_trim_graphs(w);
	while (h) {
		struct hook *next = h->next;

		c.what = used && memory_outlives(w, h->memory) ? VGPU_TOLD_STAYS : VGPU_TOLD_GONE;
		if (c.what == VGPU_TOLD_GONE && range_remove(&w->ranges, h->memory, &charged))
			lease_uncharge(w, charged);
		idm_server_callback(w->server, h->id, &c, sizeof(c));
		__atomic_sub_fetch(&memories, 1, __ATOMIC_RELAXED);
		end(h);
		h = next;
	}
}

unsigned int hook_memories(void)
{
	return __atomic_load_n(&memories, __ATOMIC_RELAXED);
}

bool hook_waiting(void)
{
	return __atomic_load_n(&gone, __ATOMIC_RELAXED) || __atomic_load_n(&retired, __ATOMIC_RELAXED);
}

static bool object(struct hook *h, unsigned int count, unsigned int flags, CUresult *r)
{
	*r = D.cuUserObjectCreate && D.cuGraphRetainUserObject ?
	     D.cuUserObjectCreate(&h->object, h, over, count, flags) : CUDA_ERROR_NOT_SUPPORTED;
	return *r == CUDA_SUCCESS;
}

struct hook *hook_new(struct worker *w, uint64_t id, uint64_t ack, enum vgpu_hook kind, CUresult *r)
{
	const uint32_t *word = idm_server_arena(w->server, ack, sizeof(uint32_t));
	struct hook *h;

	*r = CUDA_ERROR_INVALID_VALUE;
	if (!word || ack % sizeof(uint32_t) || kind > VGPU_HOOK_AFTER)
		return NULL;
	h = make(id, r);
	if (!h)
		return NULL;
	h->ack = word;
	h->told = __atomic_load_n(word, __ATOMIC_RELAXED);
	h->kind = kind;
	if (object(h, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC, r))
		return h;
	end(h);
	return NULL;
}

struct hook *hook_memory(uint64_t id, CUresult *r)
{
	struct hook *h = make(id, r);

	if (h && !object(h, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC, r)) {
		end(h);
		return NULL;
	}
	return h;
}

CUresult hook_keep_memory(struct hook *h, CUgraph graph, CUdeviceptr addr)
{
	h->memory = addr;
	__atomic_add_fetch(&memories, 1, __ATOMIC_RELAXED);
	return hook_keep(h, graph);
}

void hook_refuse(struct worker *w, uint64_t id)
{
	struct vgpu_callback c = { .what = VGPU_TOLD_GONE };

	idm_server_callback(w->server, id, &c, sizeof(c));
}

void hook_drop(struct hook *h)
{
	D.cuUserObjectRelease(h->object, 1);
}

CUresult hook_keep(struct hook *h, CUgraph graph)
{
	CUresult r = D.cuGraphRetainUserObject(graph, h->object, 1, CU_GRAPH_USER_OBJECT_MOVE);

	if (r != CUDA_SUCCESS)
		hook_drop(h);
	return r;
}

void hook_unkeep(struct hook *h, CUgraph graph)
{
	if (D.cuGraphReleaseUserObject)
		D.cuGraphReleaseUserObject(graph, h->object, 1);
}

static void CUDA_CB life_over(void *data)
{
	struct life *l = data, **p;
	struct hook *h, *next;

	pthread_mutex_lock(&lives_lock);
	for (p = &lives; *p && *p != l; p = &(*p)->next)
		;
	if (*p)
		*p = l->next;
	for (h = l->hooks; h; h = next) {
		next = h->next;
		retire(h);
	}
	pthread_mutex_unlock(&lives_lock);
	free(l);
}

CUresult hook_exec_begin(CUgraph graph, struct life **out)
{
	struct life *l;
	CUresult r;

	*out = NULL;
	/* Without a function anywhere there is none in the graph. */
	if (!__atomic_load_n(&hooks, __ATOMIC_RELAXED) || !D.cuGraphReleaseUserObject)
		return CUDA_SUCCESS;
	l = calloc(1, sizeof(*l));
	if (!l)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = D.cuUserObjectCreate(&l->object, l, life_over, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
	if (r != CUDA_SUCCESS) {
		free(l);
		return r;
	}
	r = D.cuGraphRetainUserObject(graph, l->object, 1, CU_GRAPH_USER_OBJECT_MOVE);
	if (r != CUDA_SUCCESS) {
		D.cuUserObjectRelease(l->object, 1);
		return r;
	}
	*out = l;
	return CUDA_SUCCESS;
}

void hook_exec_end(struct life *l, CUgraph graph, CUgraphExec exec)
{
	if (!l)
		return;
	if (exec) {
		pthread_mutex_lock(&lives_lock);
		l->exec = exec;
		l->next = lives;
		lives = l;
		pthread_mutex_unlock(&lives_lock);
	}
	D.cuGraphReleaseUserObject(graph, l->object, 1);
}

void hook_leave(struct hook *h, CUgraphExec exec, CUgraphNode node)
{
	struct hook **p;
	struct life *l;

	pthread_mutex_lock(&lives_lock);
	/* A newer one may have an older one's place in memory. */
	for (l = lives; l && l->exec != exec; l = l->next)
		;
	if (l) {
		for (p = &l->hooks; *p && (*p)->node != node; p = &(*p)->next)
			;
		h->node = node;
		h->older = *p;
		h->next = *p ? (*p)->next : NULL;
		*p = h;
	}
	pthread_mutex_unlock(&lives_lock);
}

static bool returned(const struct hook *h, uint32_t ticket)
{
	return (int32_t)(__atomic_load_n(h->ack, __ATOMIC_ACQUIRE) - ticket) >= 0;
}

void CUDA_CB hook_run(void *data)
{
	struct vgpu_callback c = { .what = VGPU_TOLD_RUN };
	struct hook *h = data;
	long nap = NAP_FIRST_NS;
	uint32_t ticket;
	int err;

	output_forward(&worker);
	/* Launches of an executable graph come one after the other: none is left that could call what its node had before. */
	pthread_mutex_lock(&lives_lock);
	retire(h->older);
	h->older = NULL;
	pthread_mutex_unlock(&lives_lock);
	/* Calls are answered in the order in which they are made, also when two graphs hold the same function. */
	pthread_mutex_lock(&h->lock);
	ticket = ++h->told;
	err = idm_server_callback(worker.server, h->id, &c, sizeof(c));
	pthread_mutex_unlock(&h->lock);
	while (!err && !returned(h, ticket)) {
		nanosleep(&(struct timespec){ .tv_nsec = nap }, NULL);
		nap = nap < NAP_LONGEST_NS ? nap * 2 : nap;
	}
}

const struct hook *hook_of(CUhostFn fn, void *data)
{
	return fn == hook_run ? data : NULL;
}

uint64_t hook_id(const struct hook *h)
{
	return h->id;
}

enum vgpu_hook hook_kind(const struct hook *h)
{
	return h->kind;
}

/* --- the client's user objects -------------------------------------------------------------------------------------- */

/* struct hold - references that the client has given a graph, by their handles: while there is one, the object lives. */
struct hold {
	uint64_t graph, object;
	uint32_t count;
	struct hold *next;
};
static struct hold *holds;

static struct hold **hold_find(uint64_t graph, uint64_t object)
{
	struct hold **p;

	for (p = &holds; *p && ((*p)->graph != graph || (*p)->object != object); p = &(*p)->next)
		;
	return p;
}

/* @return false without memory, or if it would be more than can be counted */
static bool hold_add(uint64_t graph, uint64_t object, uint64_t count)
{
	struct hold *h = *hold_find(graph, object);

	if (count > INT32_MAX - (h ? h->count : 0))
		return false;
	if (!h) {
		h = calloc(1, sizeof(*h));
		if (!h)
			return false;
		*h = (struct hold){ graph, object, 0, holds };
		holds = h;
	}
	h->count += count;
	return true;
}

static void hold_drop(struct hold **p, uint64_t count)
{
	struct hold *h = *p;

	h->count -= count;
	if (h->count)
		return;
	*p = h->next;
	free(h);
}

void hook_forget_holds(uint64_t graph, uint64_t object)
{
	struct hold **p = &holds;

	while (*p) {
		if ((*p)->graph == graph || (*p)->object == object)
			hold_drop(p, (*p)->count);
		else
			p = &(*p)->next;
	}
}

void hook_copy_holds(uint64_t from, uint64_t to)
{
	/* However often @from holds an object, a copy is only known to hold it. New ones are before the first. */
	for (const struct hold *h = holds; h; h = h->next)
		if (h->graph == from)
			hold_add(to, h->object, 1);
}

void worker_hand_user_object(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_user_object *q = m->payload;
	CUresult r = CUDA_SUCCESS;
	struct hook *h;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	if (!err)
		err = worker_handle_free(w, q->handle, VGPU_H_USEROBJ);
	if (err)
		goto out;
	h = make(q->id, &r);
	if (h && object(h, q->count, q->flags, &r)) {
		err = worker_handle_add(w, q->handle, VGPU_H_USEROBJ, h->object);
		if (!err)
			object_find(w, q->handle, VGPU_H_USEROBJ)->refs = q->count;
	} else if (h) {
		end(h);
	}
out:
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/*
 * The object may be gone once the client has let go of it, and nobody tells until the client's function has run. So nothing
 * is done with one of which the client has no reference. @needs: how many it must have
 */
static struct handle *referenced(struct worker *w, const struct vgpu_call *call, uint64_t handle, uint64_t needs, int *err,
				 CUresult *r)
{
	struct handle *e;

	*r = CUDA_ERROR_INVALID_VALUE;
	*err = worker_enter(w, call);
	e = *err ? NULL : object_find(w, handle, VGPU_H_USEROBJ);
	if (!*err && !e)
		*err = IDM_ERROR_INVALID_HANDLE;
	return e && needs && needs <= e->refs ? e : NULL;
}

void worker_hand_cuUserObjectRetain(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuUserObjectRetain *q = m->payload;
	struct handle *e;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	e = referenced(w, &q->call, q->object, 1, &err, &r);
	if (e && q->count && q->count <= INT32_MAX - e->refs)
		r = D.cuUserObjectRetain(e->object, q->count);
	if (!err && r == CUDA_SUCCESS)
		e->refs += q->count;
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuUserObjectRelease(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuUserObjectRelease *q = m->payload;
	struct handle *e;
	CUresult r;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	e = referenced(w, &q->call, q->object, q->count, &err, &r);
	if (e)
		r = D.cuUserObjectRelease(e->object, q->count);
	if (!err && r == CUDA_SUCCESS)
		e->refs -= q->count;
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

void worker_hand_cuGraphRetainUserObject(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphRetainUserObject *q = m->payload;
	struct handle *e;
	void *graph;
	CUresult r;
	bool move;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	move = q->flags & CU_GRAPH_USER_OBJECT_MOVE;
	e = referenced(w, &q->call, q->object, move ? q->count : 1, &err, &r);
	graph = err ? NULL : worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!err && !graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err && e && !hold_add(q->graph, q->object, q->count)) {
		r = CUDA_ERROR_OUT_OF_MEMORY;
	} else if (!err && e) {
		r = D.cuGraphRetainUserObject(graph, e->object, q->count, q->flags);
		if (r != CUDA_SUCCESS)
			hold_drop(hold_find(q->graph, q->object), q->count);
	}
	if (!err && r == CUDA_SUCCESS && move)
		e->refs -= q->count;
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* As referenced(), but by the graph. */
void worker_hand_cuGraphReleaseUserObject(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_rq_cuGraphReleaseUserObject *q = m->payload;
	CUresult r = CUDA_ERROR_INVALID_VALUE;
	struct handle *e;
	struct hold **p;
	void *graph;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	graph = err ? NULL : worker_handle(w, q->graph, VGPU_H_GRAPH);
	e = err || !graph ? NULL : object_find(w, q->object, VGPU_H_USEROBJ);
	if (!err && !e)
		err = IDM_ERROR_INVALID_HANDLE;
	p = hold_find(q->graph, q->object);
	if (!err && *p && q->count && q->count <= (*p)->count && D.cuGraphReleaseUserObject)
		r = D.cuGraphReleaseUserObject(graph, e->object, q->count);
	if (!err && r == CUDA_SUCCESS)
		hold_drop(p, q->count);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* The client's function has been told that its object is gone. */
void worker_hand_user_object_gone(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_user_object *q = m->payload;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	worker_handle_del(w, q->handle, VGPU_H_USEROBJ);
	hook_forget_holds(0, q->handle);
	worker_reply(w, &m->header, &q->call, 0, 0, NULL, 0);
}
