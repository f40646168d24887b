// SPDX-License-Identifier: Apache-2.0
/*
 * Nodes of graphs: every kind is made, and changed, in the form of cuGraphAddNode. Parameters are copied now, as CUDA does;
 * what the message says can be wrong about them is said at once, by the worker's answer.
 */
#include <stdlib.h>
#include <string.h>

#include "callback.h"
#include "graph.h"
#include "launch.h"
#include "memory.h"
#include "shim_gen.h"

static void *token(uint64_t wire)
{
	return (void *)(uintptr_t)wire;
}

static bool context_token(CUcontext *ctx)
{
	struct object *o = *ctx ? object_get(*ctx, VGPU_H_CTX) : context_top(thread_self());

	*ctx = o ? token(o->wire) : NULL;
	return o;
}

static CUresult pack_kernel(struct node_message *m, CUDA_KERNEL_NODE_PARAMS_v3 *k)
{
	const struct object *f = object_function(k->func ? (void *)k->func : (void *)k->kern);
	const void *buffer = NULL;
	size_t bytes, given = 0;
	CUresult r;

	if (!f)
		return k->func || k->kern ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
	if (!context_token(&k->ctx))
		return CUDA_ERROR_INVALID_CONTEXT;
	bytes = f->kernel->param_bytes;
	if ((k->kernelParams && k->extra) || (!k->kernelParams && !k->extra && bytes))
		return CUDA_ERROR_INVALID_VALUE;
	if (k->extra) {
		r = launch_extra(k->extra, &buffer, &given);
		if (r != CUDA_SUCCESS)
			return r;
		if (given > bytes)
			bytes = given;
	}
	m->more = calloc(1, bytes + 8);
	if (!m->more)
		return CUDA_ERROR_OUT_OF_MEMORY;
	m->node.more = bytes;
	if (given)
		memcpy(m->more, buffer, given);
	for (uint32_t i = 0; !k->extra && i < f->kernel->nparams; i++)
		memcpy(m->more + f->kernel->params[i].offset, k->kernelParams[i], f->kernel->params[i].size);
	k->func = token(f->wire);
	k->kern = NULL;
	k->kernelParams = k->extra = NULL;
	return CUDA_SUCCESS;
}

static bool array_token(CUmemorytype type, CUarray *array)
{
	const struct object *o;

	if (type != CU_MEMORYTYPE_ARRAY) {
		*array = NULL;
		return true;
	}
	o = object_get(*array, VGPU_H_ARRAY);
	*array = o ? token(o->wire) : NULL;
	return o;
}

static CUresult pack_copy(struct node_message *m, CUDA_MEMCPY_NODE_PARAMS *p)
{
	CUDA_MEMCPY3D *c = &p->copyParams;
	enum vgpu_hook kind;
	CUresult r;

	if (!context_token(&p->copyCtx))
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!c->WidthInBytes || !c->Height || !c->Depth || c->srcLOD || c->dstLOD)
		return CUDA_ERROR_INVALID_VALUE;
	/* Where there is one row or slice only, CUDA does not look at pitch and height. */
	if (!c->srcPitch && c->Height == 1)
		c->srcPitch = c->srcXInBytes + c->WidthInBytes;
	if (!c->dstPitch && c->Height == 1)
		c->dstPitch = c->dstXInBytes + c->WidthInBytes;
	if (!c->srcHeight && c->Depth == 1)
		c->srcHeight = c->srcY + c->Height;
	if (!c->dstHeight && c->Depth == 1)
		c->dstHeight = c->dstY + c->Height;
	r = pageable_replace(c, &m->pageable);
	if (r == CUDA_SUCCESS && m->pageable) {
		m->hook = pageable_hook(m->pageable, &kind);
		m->node.hook = kind;
		if (!m->hook) {
			pageable_free(m->pageable);
			m->pageable = NULL;
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	if (r == CUDA_SUCCESS && (!array_token(c->srcMemoryType, &c->srcArray) || !array_token(c->dstMemoryType, &c->dstArray)))
		return CUDA_ERROR_INVALID_HANDLE;
	return r;
}

static CUresult pack_host(struct node_message *m, CUDA_HOST_NODE_PARAMS_v2 *h)
{
	if (!h->fn)
		return CUDA_ERROR_INVALID_VALUE;
	m->hook = hook_new(&(struct hook){ .fn = h->fn, .data = h->userData });
	if (!m->hook)
		return CUDA_ERROR_OUT_OF_MEMORY;
	h->fn = token(hook_id(m->hook));
	h->userData = token(hook_ack(m->hook));
	return CUDA_SUCCESS;
}

static CUresult pack_list(struct node_message *m, const void *from, size_t bytes)
{
	if (bytes && !from)
		return CUDA_ERROR_INVALID_VALUE;
	m->more = malloc(bytes + 8);
	if (!m->more)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(m->more, from, bytes);
	m->node.more = bytes;
	return CUDA_SUCCESS;
}

/* struct graph_memory - memory that a graph has, until the worker says that none has it any more. */
struct graph_memory {
	uint64_t address;
};

static void memory_gone(void *data)
{
	struct graph_memory *g = data;

	range_remove(g->address, 1 << RANGE_GRAPH, NULL);
	free(g);
}

static void memory_stays(void *data)
{
	struct graph_memory *g = data;

	range_mark(g->address, RANGE_OUTLIVED, true);
	free(g);
}

struct hook *graph_memory_hook(void)
{
	struct graph_memory *g = calloc(1, sizeof(*g));
	struct hook *h = g ? hook_new(&(struct hook){ .data = g, .gone = memory_gone, .stays = memory_stays, .gone_data = g,
						      .ours = true }) : NULL;

	if (!h)
		free(g);
	return h;
}

CUresult graph_memory_note(struct hook *h, uint64_t address, uint64_t size)
{
	((struct graph_memory *)h->data)->address = address;
	return memory_note(address, size, RANGE_GRAPH, NULL);
}

CUresult node_pack(struct node_message *m, CUgraphNodeParams *given)
{
	CUgraphNodeParams p = *given;
	CUresult r = CUDA_SUCCESS;
	const struct object *o;

	memset(m, 0, sizeof(*m));
	switch ((int)p.type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		r = pack_kernel(m, &p.kernel);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		r = pack_copy(m, &p.memcpy);
		break;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		if (!context_token(&p.memset.ctx))
			r = CUDA_ERROR_INVALID_CONTEXT;
		break;
	case CU_GRAPH_NODE_TYPE_HOST:
		r = pack_host(m, &p.host);
		break;
	case CU_GRAPH_NODE_TYPE_EMPTY:
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		break;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		o = object_get(p.graph.graph, VGPU_H_GRAPH);
		p.graph.graph = o ? token(o->wire) : NULL;
		r = o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
		break;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		o = object_get(p.eventWait.event, VGPU_H_EVENT);
		if (o && p.type == CU_GRAPH_NODE_TYPE_EVENT_RECORD)
			((struct object *)p.eventWait.event)->event.in_graph = true;
		p.eventWait.event = o ? token(o->wire) : NULL;
		r = o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
		break;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		if (p.alloc.accessDescCount > VGPU_DEVICES_MAX)
			return CUDA_ERROR_INVALID_VALUE;
		r = pack_list(m, p.alloc.accessDescs, p.alloc.accessDescCount * sizeof(CUmemAccessDesc));
		p.alloc.accessDescs = NULL;
		if (r == CUDA_SUCCESS) {
			m->hook = graph_memory_hook();
			r = m->hook ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
			m->node.id = m->hook ? hook_id(m->hook) : 0;
		}
		break;
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		if (!p.memOp.count || p.memOp.count > VGPU_BATCH_MAX)
			return CUDA_ERROR_INVALID_VALUE;
		if (!context_token(&p.memOp.ctx))
			return CUDA_ERROR_INVALID_CONTEXT;
		r = pack_list(m, p.memOp.paramArray, p.memOp.count * sizeof(CUstreamBatchMemOpParams));
		p.memOp.paramArray = NULL;
		break;
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
		if (!context_token(&p.conditional.ctx))
			r = CUDA_ERROR_INVALID_CONTEXT;
		p.conditional.phGraph_out = NULL;
		break;
	case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
	case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
		return REFUSE("a graph node of an external semaphore", "external");
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	memcpy(m->node.params, &p, sizeof(p));
	m->given = given;
	if (r != CUDA_SUCCESS)
		node_message_discard(m);
	return r;
}

void node_message_discard(struct node_message *m)
{
	if (m->hook)
		hook_told(hook_id(m->hook), VGPU_TOLD_GONE);
	m->hook = NULL;
	node_message_free(m);
}

void node_message_free(struct node_message *m)
{
	free(m->more);
	m->more = NULL;
}

/* --- adding --------------------------------------------------------------------------------------------------------- */

static CUresult deps_ok(const struct object *g, const CUgraphNode *deps, size_t n)
{
	if (n && !deps)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n; i++) {
		const struct object *d = graph_node(deps[i]);

		if (!d || d->parent != g)
			return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

/* One message: @deps as handles. @reply: NULL if nobody waits for it */
static CUresult send(const struct object *g, struct object *node, const uint64_t *deps, const CUgraphEdgeData *edges,
		     size_t ndeps, const uint64_t *bodies, uint32_t nbodies, struct node_message *m,
		     struct vgpu_graph_node_reply *reply)
{
	struct vgpu_graph_node rq = { .graph = g->wire, .handle = node->wire, .ndeps = ndeps, .nbodies = nbodies,
				      .node = m->node };
	CUgraphEdgeData *plain = NULL;
	struct iovec iov[5];
	size_t got;
	CUresult r = call_begin(&rq.call, false);

	if (!edges)
		edges = plain = calloc(ndeps + 1, sizeof(*plain));
	if (!edges)
		return CUDA_ERROR_OUT_OF_MEMORY;
	iov[0] = (struct iovec){ &rq, sizeof(rq) };
	iov[1] = (struct iovec){ (void *)deps, ndeps * sizeof(*deps) };
	iov[2] = (struct iovec){ (void *)edges, ndeps * sizeof(*edges) };
	iov[3] = (struct iovec){ (void *)bodies, nbodies * sizeof(*bodies) };
	iov[4] = (struct iovec){ m->more, m->node.more };
	if (r == CUDA_SUCCESS)
		r = reply ? call_replyv(VGPU_MSG_cuGraphAddNode_v2, iov, 5, reply, sizeof(*reply), &got) :
			    call_postv(VGPU_MSG_cuGraphAddNode_v2, iov, 5);
	free(plain);
	return r;
}

/* The hidden half of a copy of pageable memory, before @copy or after it. */
static CUresult send_hidden(const struct object *g, struct object *hidden, const uint64_t *deps, const CUgraphEdgeData *edges,
			    size_t ndeps, const struct node_message *copy)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_HOST };
	struct node_message m = { .node.hook = copy->node.hook };
	struct vgpu_graph_node_reply reply;

	p.host.fn = token(hook_id(copy->hook));
	p.host.userData = token(hook_ack(copy->hook));
	memcpy(m.node.params, &p, sizeof(p));
	return send(g, hidden, deps, edges, ndeps, NULL, 0, &m, &reply);
}

static CUresult send_pageable(const struct object *g, struct object *node, const uint64_t *deps,
			      const CUgraphEdgeData *edges, size_t ndeps, struct node_message *m)
{
	struct object *hidden = object_new(VGPU_H_GRAPHNODE);
	struct vgpu_graph_node_reply reply;
	enum vgpu_hook kind = m->node.hook;
	CUresult r;

	if (!hidden)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (kind == VGPU_HOOK_BEFORE) {
		r = send_hidden(g, hidden, deps, edges, ndeps, m);
		m->node.hook = 0;
		if (r == CUDA_SUCCESS) {
			r = send(g, node, &hidden->wire, NULL, 1, NULL, 0, m, &reply);
			if (r != CUDA_SUCCESS)
				call_cuGraphDestroyNode((CUgraphNode)hidden);
		}
	} else {
		struct node_message copy = *m;

		copy.node.hook = 0;
		r = send(g, node, deps, edges, ndeps, NULL, 0, &copy, &reply);
		if (r != CUDA_SUCCESS)
			hook_told(hook_id(m->hook), VGPU_TOLD_GONE);
		else
			r = send_hidden(g, hidden, &node->wire, NULL, 1, m);
	}
	if (r != CUDA_SUCCESS) {
		object_delete(hidden);
		return r;
	}
	/* Only to be deleted with the graph. */
	graph_node_object(hidden->wire, (struct object *)g, CU_GRAPH_NODE_TYPE_HOST);
	return r;
}

static CUresult bodies_new(struct object *node, uint32_t n, uint64_t **handles)
{
	node->node.bodies = calloc(n, sizeof(*node->node.bodies));
	*handles = malloc(n * sizeof(**handles));
	if (!node->node.bodies || !*handles || !graph_fresh(*handles, n, VGPU_H_GRAPH))
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < n; i++)
		node->node.bodies[i] = (CUgraph)graph_child_object((*handles)[i], node);
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
					       const CUgraphEdgeData *dependencyData, size_t numDependencies,
					       CUgraphNodeParams *nodeParams)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH), *node, *child;
	struct vgpu_graph_node_reply reply = { 0 };
	uint64_t *deps = NULL, *bodies = NULL;
	uint32_t nbodies = 0;
	struct node_message m;
	bool waits;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!phGraphNode || !g || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	r = deps_ok(g, dependencies, numDependencies);
	if (r == CUDA_SUCCESS)
		r = node_pack(&m, nodeParams);
	if (r != CUDA_SUCCESS)
		return r;
	waits = dependencyData || !graph_node_certain(g, dependencies, numDependencies, nodeParams);
	node = object_new(VGPU_H_GRAPHNODE);
	deps = malloc((numDependencies + 1) * sizeof(*deps));
	if (!node || !deps)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; deps && i < numDependencies; i++)
		deps[i] = object_wire(dependencies[i]);
	if (r == CUDA_SUCCESS && nodeParams->type == CU_GRAPH_NODE_TYPE_CONDITIONAL) {
		nbodies = nodeParams->conditional.size;
		r = nbodies && nbodies <= VGPU_GRAPH_BODIES_MAX ? bodies_new(node, nbodies, &bodies) :
								  CUDA_ERROR_INVALID_VALUE;
	}
	if (r != CUDA_SUCCESS)
		node_message_discard(&m);
	else
		r = m.pageable ? send_pageable(g, node, deps, dependencyData, numDependencies, &m) :
		    send(g, node, deps, dependencyData, numDependencies, bodies, nbodies, &m, waits ? &reply : NULL);
	free(deps);
	free(bodies);
	if (r == CUDA_SUCCESS && nodeParams->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
		nodeParams->alloc.dptr = reply.address;
		r = graph_memory_note(m.hook, reply.address, nodeParams->alloc.bytesize);
	}
	node_message_free(&m);
	if (r != CUDA_SUCCESS) {
		if (node)
			graph_node_delete(node);
		return r;
	}
	graph_node_object(node->wire, g, nodeParams->type);
	graph_node_added(node, nodeParams);
	if (nodeParams->type == CU_GRAPH_NODE_TYPE_CONDITIONAL)
		nodeParams->conditional.phGraph_out = node->node.bodies;
	child = nodeParams->type == CU_GRAPH_NODE_TYPE_GRAPH &&
		nodeParams->graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE ?
		object_get(nodeParams->graph.graph, VGPU_H_GRAPH) : NULL;
	if (child)
		graph_child_object(child->wire, node);
	*phGraphNode = (CUgraphNode)node;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
					    size_t numDependencies, CUgraphNodeParams *nodeParams)
{
	return cuGraphAddNode_v2(phGraphNode, hGraph, dependencies, NULL, numDependencies, nodeParams);
}

/* --- changing ------------------------------------------------------------------------------------------------------- */

/* The other half of a copy of pageable memory comes along. */
static CUresult pack_half(struct node_message *m)
{
	struct vgpu_node_half *half = malloc(sizeof(*half));

	if (!half) {
		node_message_discard(m);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*half = (struct vgpu_node_half){ hook_id(m->hook), hook_ack(m->hook) };
	m->more = (unsigned char *)half;
	m->node.more = sizeof(*half);
	return CUDA_SUCCESS;
}

static CUresult send_set(const struct object *exec, const struct object *node, const struct node_message *m, bool certain)
{
	struct vgpu_graph_set rq = { .exec = exec ? exec->wire : 0, .handle = node->wire, .node = m->node };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { m->more, m->node.more } };
	CUresult r = call_begin(&rq.call, false);

	if (r != CUDA_SUCCESS)
		return r;
	return certain ? call_postv(VGPU_MSG_cuGraphExecNodeSetParams, iov, 2) :
	       call_replyv(VGPU_MSG_cuGraphExecNodeSetParams, iov, 2, NULL, 0, NULL);
}

static CUresult set(const struct object *exec, struct object *node, CUgraphNodeParams *p)
{
	struct node_message m;
	CUresult r;

	r = node_pack(&m, p);
	if (r == CUDA_SUCCESS && m.pageable)
		r = pack_half(&m);
	if (r != CUDA_SUCCESS)
		return r;
	r = send_set(exec, node, &m, exec && graph_set_certain(exec, node, p));
	if (r == CUDA_ERROR_NOT_SUPPORTED && p->type == CU_GRAPH_NODE_TYPE_MEMCPY)
		REFUSE("a graph's copy that comes to be of pageable memory, or to be of none", "allocate it with cuMemHostAlloc");
	if (!exec)
		graph_node_changed(node);
	node_message_free(&m);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams *nodeParams)
{
	struct object *node = graph_node(hNode);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!node || !nodeParams || nodeParams->type != node->node.type)
		return CUDA_ERROR_INVALID_VALUE;
	return set(NULL, node, nodeParams);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
						      CUgraphNodeParams *nodeParams)
{
	struct object *exec = object_get(hGraphExec, VGPU_H_GRAPHEXEC), *node = graph_node(hNode);
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!exec || !node || !nodeParams || nodeParams->type != node->node.type)
		return CUDA_ERROR_INVALID_VALUE;
	return set(exec, node, nodeParams);
}
