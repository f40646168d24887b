// SPDX-License-Identifier: Apache-2.0
/* Parameters of nodes, as the worker knows them: captured nodes have some, too. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "shim_gen.h"

static void *object_at(const void *wire, enum vgpu_handle_type type)
{
	uint64_t h = (uintptr_t)wire;
	struct object *o = &objects[VGPU_HANDLE_INDEX(h) % OBJECTS];

	return h && o->wire == h && o->type == (uint32_t)type ? o : NULL;
}

static void *function_at(const void *wire)
{
	void *o = object_at(wire, VGPU_H_KERNEL);

	return o ? o : object_at(wire, VGPU_H_FUNCTION);
}

/* Pointers to a kernel's parameters, which stand behind them. */
static CUresult point(struct object *node, CUDA_KERNEL_NODE_PARAMS_v3 *k, const void *from, size_t bytes)
{
	const struct object *f = function_at(k->func);
	void **told;

	if (!f)
		return CUDA_ERROR_NOT_SUPPORTED;
	told = calloc(1, (f->kernel->nparams + 1) * sizeof(*told) + f->kernel->param_bytes + bytes);
	if (!told)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(told + f->kernel->nparams, from, bytes);
	for (uint32_t i = 0; i < f->kernel->nparams; i++)
		told[i] = (char *)(told + f->kernel->nparams) + f->kernel->params[i].offset;
	free(node->node.told);
	node->node.told = told;
	if (f->type == VGPU_H_KERNEL) {
		k->func = NULL;
		k->kern = (CUkernel)f;
	} else {
		k->func = (CUfunction)f;
	}
	k->kernelParams = f->kernel->nparams ? told : NULL;
	k->ctx = object_at(k->ctx, VGPU_H_CTX);
	return CUDA_SUCCESS;
}

static CUresult keep(struct object *node, const void *from, size_t bytes, void **told)
{
	void *copy = malloc(bytes + 1);

	if (!copy)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(copy, from, bytes);
	free(node->node.told);
	node->node.told = *told = copy;
	return CUDA_SUCCESS;
}

CUresult graph_get(CUgraphNode h, CUgraphNodeType type, CUgraphNodeParams *p)
{
	struct object *node = graph_node(h);
	struct vgpu_graph_get rq = { .handle = node ? node->wire : 0 };
	CUresult r = call_begin(&rq.call, false);
	struct iovec iov = { &rq, sizeof(rq) };
	const struct hook *hook;
	struct vgpu_node *v;
	const void *more;
	size_t got;
	void *told = NULL;

	if (r != CUDA_SUCCESS)
		return r;
	if (!node || node->node.type != (uint32_t)type)
		return CUDA_ERROR_INVALID_VALUE;
	v = malloc(sizeof(*v) + VGPU_PARAM_BYTES_MAX + 8);
	if (!v || (type == CU_GRAPH_NODE_TYPE_GRAPH && !graph_fresh(&rq.fresh, 1, VGPU_H_GRAPH))) {
		free(v);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	r = call_replyv(VGPU_MSG_cuGraphKernelNodeGetParams_v2, &iov, 1, v, sizeof(*v) + VGPU_PARAM_BYTES_MAX + 8, &got);
	if (r == CUDA_SUCCESS && (got < sizeof(*v) || v->more > got - sizeof(*v)))
		r = session_failed(-71);
	if (r != CUDA_SUCCESS)
		goto out;
	more = v + 1;
	memcpy(p, v->params, sizeof(*p));
	switch ((int)type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		r = point(node, &p->kernel, more, v->more);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		p->memcpy.copyParams.srcArray = object_at(p->memcpy.copyParams.srcArray, VGPU_H_ARRAY);
		p->memcpy.copyParams.dstArray = object_at(p->memcpy.copyParams.dstArray, VGPU_H_ARRAY);
		pageable_restore(&p->memcpy.copyParams);
		break;
	case CU_GRAPH_NODE_TYPE_HOST:
		hook = hook_find((uintptr_t)p->host.fn);
		p->host.fn = hook ? hook->fn : NULL;
		p->host.userData = hook ? hook->data : NULL;
		break;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		p->eventWait.event = object_at(p->eventWait.event, VGPU_H_EVENT);
		break;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		p->graph.graph = (CUgraph)graph_child_object((uintptr_t)p->graph.graph, node);
		break;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		r = keep(node, more, v->more, &told);
		p->alloc.accessDescs = v->more ? told : NULL;
		break;
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		r = keep(node, more, v->more, &told);
		p->memOp.paramArray = told;
		p->memOp.ctx = object_at(p->memOp.ctx, VGPU_H_CTX);
		break;
	}
out:
	if (rq.fresh)
		graph_fresh_done(&rq.fresh, 1);
	free(v);
	return r;
}
