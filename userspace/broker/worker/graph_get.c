// SPDX-License-Identifier: Apache-2.0
/* A node's parameters for the client: what is an object becomes its handle, what is memory stays what it is. */
#include <string.h>

#include "graph.h"

/* The handle of what the driver calls a kernel node's function: one of a module, or a kernel in some context. */
static uint64_t function_name(struct worker *w, const CUDA_KERNEL_NODE_PARAMS_v2 *k)
{
	uint64_t h = 0;
	CUfunction f;

	if (k->func)
		h = worker_handle_of(w, k->func, VGPU_H_FUNCTION);
	if (!h && k->func)
		h = worker_handle_of(w, k->func, VGPU_H_KERNEL);
	if (!h && k->kern)
		h = worker_handle_of(w, k->kern, VGPU_H_KERNEL);
	for (uint32_t i = 0; !h && k->func && D.cuKernelGetFunction && i < w->handles.cap; i++) {
		const struct handle *e = &w->handles.slots[i];

		if (VGPU_HANDLE_TYPE(e->value) == VGPU_H_KERNEL && D.cuKernelGetFunction(&f, e->object) == CUDA_SUCCESS &&
		    f == k->func)
			h = e->value;
	}
	return h;
}

static uint64_t context_name(struct worker *w, CUcontext real)
{
	unsigned int i;

	for (i = 0; i < w->ndevices; i++)
		if (w->primary[i] && w->primary[i]->real == real)
			return VGPU_PRIMARY_CTX(i);
	return worker_handle_of(w, real, VGPU_H_CTX);
}

/* What a node was made with as one buffer is told as one: NVIDIA's driver does, and so does the software GPU. */
static CUresult kernel_buffer(void *const *extra, unsigned char *more, uint32_t *bytes)
{
	const void *buffer = NULL;
	size_t size = 0;

	for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
		if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
			buffer = extra[1];
		else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
			size = *(const size_t *)extra[1];
		else
			return CUDA_ERROR_NOT_SUPPORTED;
	}
	if (!buffer || size > VGPU_PARAM_BYTES_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(more, buffer, size);
	*bytes = size;
	return CUDA_SUCCESS;
}

/* The parameters, packed as the kernel's layout says; the driver tells them one by one, or as they were handed over. */
static CUresult kernel(struct worker *w, CUgraphNode node, CUgraphNodeParams *p, unsigned char *more, uint32_t *bytes)
{
	CUDA_KERNEL_NODE_PARAMS_v2 k = { 0 };
	CUresult r = D.cuGraphKernelNodeGetParams_v2 ? D.cuGraphKernelNodeGetParams_v2(node, &k) : CUDA_ERROR_NOT_SUPPORTED;
	size_t offset, size;
	uint64_t h;

	if (r != CUDA_SUCCESS)
		return r;
	h = function_name(w, &k);
	if (!h)
		return CUDA_ERROR_NOT_SUPPORTED;	/* launched by no function of the client's */
	if (!k.kernelParams && k.extra) {
		r = kernel_buffer(k.extra, more, bytes);
		if (r != CUDA_SUCCESS)
			return r;
	}
	for (size_t i = 0; k.kernelParams; i++) {
		r = k.func ? D.cuFuncGetParamInfo(k.func, i, &offset, &size) : D.cuKernelGetParamInfo(k.kern, i, &offset, &size);
		if (r != CUDA_SUCCESS)
			break;
		if (offset > VGPU_PARAM_BYTES_MAX || size > VGPU_PARAM_BYTES_MAX - offset)
			return CUDA_ERROR_INVALID_VALUE;
		if (offset > *bytes)
			memset(more + *bytes, 0, offset - *bytes);
		memcpy(more + offset, k.kernelParams[i], size);
		*bytes = offset + size;
	}
	p->kernel = (CUDA_KERNEL_NODE_PARAMS_v3){
		.func = (CUfunction)(uintptr_t)h, .gridDimX = k.gridDimX, .gridDimY = k.gridDimY, .gridDimZ = k.gridDimZ,
		.blockDimX = k.blockDimX, .blockDimY = k.blockDimY, .blockDimZ = k.blockDimZ,
		.sharedMemBytes = k.sharedMemBytes, .ctx = (CUcontext)(uintptr_t)context_name(w, k.ctx),
	};
	return CUDA_SUCCESS;
}

static CUresult copy(struct worker *w, CUgraphNode node, CUDA_MEMCPY3D *c)
{
	CUresult r = D.cuGraphMemcpyNodeGetParams ? D.cuGraphMemcpyNodeGetParams(node, c) : CUDA_ERROR_NOT_SUPPORTED;

	if (r != CUDA_SUCCESS)
		return r;
	c->srcArray = (CUarray)(uintptr_t)(c->srcArray ? worker_handle_of(w, c->srcArray, VGPU_H_ARRAY) : 0);
	c->dstArray = (CUarray)(uintptr_t)(c->dstArray ? worker_handle_of(w, c->dstArray, VGPU_H_ARRAY) : 0);
	/* Host memory that a node names is arena, at one address on both sides. */
	if (c->srcMemoryType == CU_MEMORYTYPE_HOST && !address_ok(w, (uint64_t)(uintptr_t)c->srcHost, 1))
		c->srcHost = NULL;
	if (c->dstMemoryType == CU_MEMORYTYPE_HOST && !address_ok(w, (uint64_t)(uintptr_t)c->dstHost, 1))
		c->dstHost = NULL;
	return CUDA_SUCCESS;
}

static CUresult host(CUgraphNode node, struct vgpu_node *v, CUgraphNodeParams *p)
{
	CUDA_HOST_NODE_PARAMS h = { 0 };
	const struct hook *hook;
	CUresult r = D.cuGraphHostNodeGetParams(node, &h);

	if (r != CUDA_SUCCESS)
		return r;
	hook = hook_of(h.fn, h.userData);
	if (!hook)
		return CUDA_ERROR_NOT_SUPPORTED;
	p->host.fn = (CUhostFn)(uintptr_t)hook_id(hook);
	v->hook = hook_kind(hook);
	return CUDA_SUCCESS;
}

static CUresult event(struct worker *w, CUgraphNode node, CUgraphNodeParams *p)
{
	CUevent ev = NULL;
	CUresult r = p->type == CU_GRAPH_NODE_TYPE_WAIT_EVENT ? D.cuGraphEventWaitNodeGetEvent(node, &ev) :
								 D.cuGraphEventRecordNodeGetEvent(node, &ev);

	p->eventWait.event = (CUevent)(uintptr_t)(ev ? worker_handle_of(w, ev, VGPU_H_EVENT) : 0);
	return r;
}

static CUresult batch(struct worker *w, CUgraphNode node, CUgraphNodeParams *p, unsigned char *more, uint32_t *bytes)
{
	CUDA_BATCH_MEM_OP_NODE_PARAMS b = { 0 };
	CUresult r = D.cuGraphBatchMemOpNodeGetParams ? D.cuGraphBatchMemOpNodeGetParams(node, &b) : CUDA_ERROR_NOT_SUPPORTED;

	if (r != CUDA_SUCCESS)
		return r;
	if (b.count > VGPU_BATCH_MAX)
		return CUDA_ERROR_NOT_SUPPORTED;
	*bytes = b.count * sizeof(*b.paramArray);
	memcpy(more, b.paramArray, *bytes);
	p->memOp.ctx = (CUcontext)(uintptr_t)context_name(w, b.ctx);
	p->memOp.count = b.count;
	p->memOp.flags = b.flags;
	return CUDA_SUCCESS;
}

static CUresult alloc(struct worker *w, CUgraphNode node, CUgraphNodeParams *p, unsigned char *more, uint32_t *bytes)
{
	CUDA_MEM_ALLOC_NODE_PARAMS a = { 0 };
	CUresult r = D.cuGraphMemAllocNodeGetParams ? D.cuGraphMemAllocNodeGetParams(node, &a) : CUDA_ERROR_NOT_SUPPORTED;
	unsigned int i;

	if (r != CUDA_SUCCESS)
		return r;
	if (a.accessDescCount > VGPU_DEVICES_MAX)
		return CUDA_ERROR_NOT_SUPPORTED;
	*bytes = a.accessDescCount * sizeof(*a.accessDescs);
	if (*bytes)
		memcpy(more, a.accessDescs, *bytes);
	memcpy(&p->alloc, &a, sizeof(a));
	p->alloc.accessDescs = NULL;
	for (i = 0; i < w->ndevices; i++)
		if (w->ordinals[i] == a.poolProps.location.id)
			p->alloc.poolProps.location.id = i;
	return CUDA_SUCCESS;
}

void worker_hand_graph_get(struct worker *w, const struct idm_message *m)
{
	static unsigned char buffer[sizeof(struct vgpu_node) + VGPU_PARAM_BYTES_MAX + 8];
	const struct vgpu_graph_get *q = m->payload;
	struct vgpu_node *v = (struct vgpu_node *)buffer;
	CUgraphNodeParams p = { 0 };
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUDA_MEMSET_NODE_PARAMS set;
	struct fresh f;
	CUgraph child;
	void *node;
	int err;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	err = worker_enter(w, &q->call);
	node = err ? NULL : worker_handle(w, q->handle, VGPU_H_GRAPHNODE);
	if (!err && !node)
		err = IDM_ERROR_INVALID_HANDLE;
	memset(v, 0, sizeof(*v));
	if (err || D.cuGraphNodeGetType(node, &p.type) != CUDA_SUCCESS)
		goto out;
	switch ((int)p.type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		r = kernel(w, node, &p, buffer + sizeof(*v), &v->more);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		r = copy(w, node, &p.memcpy.copyParams);
		break;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		r = D.cuGraphMemsetNodeGetParams(node, &set);
		if (r == CUDA_SUCCESS)
			memcpy(&p.memset, &set, sizeof(set));
		break;
	case CU_GRAPH_NODE_TYPE_HOST:
		r = host(node, v, &p);
		break;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		r = event(w, node, &p);
		break;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		r = D.cuGraphChildGraphNodeGetGraph(node, &child);
		f = (struct fresh){ .handles = &q->fresh, .n = q->fresh != 0 };
		if (r == CUDA_SUCCESS)
			p.graph.graph = (CUgraph)(uintptr_t)graph_name_graph(w, child, q->handle, &f);
		if (f.used)
			hook_copy_holds(q->handle, (uint64_t)(uintptr_t)p.graph.graph);
		break;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		r = alloc(w, node, &p, buffer + sizeof(*v), &v->more);
		break;
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		r = D.cuGraphMemFreeNodeGetParams(node, &p.free.dptr);
		break;
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		r = batch(w, node, &p, buffer + sizeof(*v), &v->more);
		break;
	default:
		r = CUDA_SUCCESS;	/* its type is all there is to tell */
	}
	memcpy(v->params, &p, sizeof(p));
out:
	worker_reply(w, &m->header, &q->call, err, r, v, sizeof(*v) + ((v->more + 7) & ~7u));
}
