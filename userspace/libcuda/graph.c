// SPDX-License-Identifier: Apache-2.0
/* Graphs as objects, executable graphs, and what programs hang on them. */
#include <stdlib.h>

#include "capture.h"
#include "graph.h"
#include "managed.h"
#include "shim_gen.h"

/* The session is there, and the handles are what they should be. */
static CUresult ready(bool ok)
{
	CUresult r = session_check();

	return r != CUDA_SUCCESS ? r : ok ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool is(const void *h, enum vgpu_handle_type type)
{
	return object_get(h, type);
}

/* For calls that need nothing but valid handles. */
#define CHECKED(ok, call) do {						\
	CUresult r_ = ready(ok);					\
	return r_ != CUDA_SUCCESS ? r_ : (call);			\
} while (0)

VGPU_EXPORT CUresult CUDAAPI cuGraphCreate(CUgraph *phGraph, unsigned int flags)
{
	CHECKED(phGraph && !flags, call_cuGraphCreate(phGraph, flags));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphClone(CUgraph *phGraphClone, CUgraph originalGraph)
{
	CHECKED(phGraphClone && is(originalGraph, VGPU_H_GRAPH), call_cuGraphClone(phGraphClone, originalGraph));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphDestroy(CUgraph hGraph)
{
	const struct object *g = object_get(hGraph, VGPU_H_GRAPH);
	struct vgpu_rq_cuGraphDestroy rq;
	CUresult r = ready(g);

	if (r == CUDA_SUCCESS)
		r = call_begin_end(&rq.call, g);
	if (r != CUDA_SUCCESS)
		return r;
	rq.hGraph = g->wire;
	/* Only a graph that is being captured, or is part of a node, may not end. */
	if (!g->parent && !__atomic_load_n(&captures, __ATOMIC_RELAXED) && !thread_self()->in_callback)
		r = call_post(VGPU_MSG_cuGraphDestroy, &rq, sizeof(rq));
	else
		r = call_reply(VGPU_MSG_cuGraphDestroy, &rq, sizeof(rq), NULL, 0);
	if (r == CUDA_SUCCESS)
		graph_objects_delete((struct object *)hGraph);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphDestroyNode(CUgraphNode hNode)
{
	CUresult r = ready(graph_node(hNode));

	if (r == CUDA_SUCCESS)
		r = call_cuGraphDestroyNode(hNode);
	if (r == CUDA_SUCCESS)
		graph_node_delete((struct object *)hNode);
	return r;
}

/* --- executable graphs ---------------------------------------------------------------------------------------------- */

static CUresult instantiate(CUgraphExec *out, CUgraph hGraph, CUDA_GRAPH_INSTANTIATE_PARAMS *p)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH), *exec;
	struct vgpu_graph_instantiate rq = { .flags = p->flags };
	struct vgpu_graph_instantiate_reply reply = { .result = CUDA_GRAPH_INSTANTIATE_ERROR };
	CUresult r = call_begin(&rq.call, false);
	struct iovec iov = { &rq, sizeof(rq) };
	uint64_t last = graph_last_added();
	size_t len;

	p->hErrNode_out = NULL;
	p->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
	if (r != CUDA_SUCCESS)
		return r;
	if (!out || !g)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)
		return REFUSE("graphs that kernels launch", "an executable graph's handle has no meaning to a kernel");
	if (!stream_handle(p->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD ? p->hUploadStream : NULL, &rq.stream))
		return CUDA_ERROR_INVALID_HANDLE;
	exec = object_new(VGPU_H_GRAPHEXEC);
	if (!exec || !graph_fresh(&rq.fresh, 1, VGPU_H_GRAPHNODE)) {
		if (exec)
			object_delete(exec);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	rq.graph = g->wire;
	rq.exec = exec->wire;
	r = call_replyv(VGPU_MSG_cuGraphInstantiateWithParams, &iov, 1, &reply, sizeof(reply), &len);
	if (reply.node)
		p->hErrNode_out = (CUgraphNode)graph_node_object(reply.node, g, reply.type);
	graph_fresh_done(&rq.fresh, 1);
	p->result_out = reply.result;
	if (r != CUDA_SUCCESS) {
		object_delete(exec);
		return r;
	}
	exec->exec.flags = p->flags & ~(cuuint64_t)CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
	exec->exec.memory = reply.memory;
	graph_exec_made(exec, g, last);
	*out = (CUgraphExec)exec;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags)
{
	CUDA_GRAPH_INSTANTIATE_PARAMS p = { .flags = flags };

	/* Uploading takes a stream, which this form has no place for. */
	if (flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD)
		return ready(false);
	return instantiate(phGraphExec, hGraph, &p);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode,
						   char *logBuffer, size_t bufferSize)
{
	CUDA_GRAPH_INSTANTIATE_PARAMS p = { .flags = 0 };
	CUresult r;

	if (logBuffer && bufferSize)
		logBuffer[0] = '\0';
	r = instantiate(phGraphExec, hGraph, &p);
	if (phErrorNode)
		*phErrorNode = p.hErrNode_out;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode,
						char *logBuffer, size_t bufferSize)
{
	return cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
							  CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
	return instantiateParams ? instantiate(phGraphExec, hGraph, instantiateParams) : ready(false);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecGetFlags(CUgraphExec hGraphExec, cuuint64_t *flags)
{
	const struct object *exec = object_get(hGraphExec, VGPU_H_GRAPHEXEC);
	CUresult r = ready(exec && flags);

	if (r == CUDA_SUCCESS)
		*flags = exec->exec.flags;
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec hGraphExec)
{
	CHECKED(is(hGraphExec, VGPU_H_GRAPHEXEC), call_cuGraphExecDestroy(hGraphExec));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream)
{
	CHECKED(is(hGraphExec, VGPU_H_GRAPHEXEC), call_cuGraphUpload(hGraphExec, hStream));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
{
	const struct object *exec = object_get(hGraphExec, VGPU_H_GRAPHEXEC);
	struct vgpu_rq_cuGraphLaunch rq;
	CUresult r = ready(exec);

	if (r == CUDA_SUCCESS)
		r = call_begin(&rq.call, true);
	if (r != CUDA_SUCCESS)
		return r;
	if (!stream_handle(hStream, &rq.hStream))
		return CUDA_ERROR_INVALID_HANDLE;
	managed_before(rq.hStream);
	if (!exec->exec.memory)
		return call_cuGraphLaunch(hGraphExec, hStream);
	rq.hGraph = exec->wire;
	return call_reply(VGPU_MSG_cuGraphLaunch, &rq, sizeof(rq), NULL, 0);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
						  CUgraphExecUpdateResultInfo *resultInfo)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH), *exec = object_get(hGraphExec, VGPU_H_GRAPHEXEC);
	struct vgpu_graph_update rq = { .exec = exec ? exec->wire : 0, .graph = g ? g->wire : 0 };
	struct vgpu_graph_update_reply reply = { .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	CUresult r = call_begin(&rq.call, false);
	struct iovec iov = { &rq, sizeof(rq) };
	size_t len = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (!rq.exec || !rq.graph || !resultInfo)
		return CUDA_ERROR_INVALID_VALUE;
	if (!graph_fresh(rq.fresh, 2, VGPU_H_GRAPHNODE))
		return CUDA_ERROR_OUT_OF_MEMORY;
	exec->exec.graph = 0;
	r = call_replyv(VGPU_MSG_cuGraphExecUpdate_v2, &iov, 1, &reply, sizeof(reply), &len);
	*resultInfo = (CUgraphExecUpdateResultInfo){ .result = (CUgraphExecUpdateResult)reply.result };
	if (reply.node)
		resultInfo->errorNode = (CUgraphNode)graph_node_object(reply.node, g, reply.type);
	if (reply.from)
		resultInfo->errorFromNode = (CUgraphNode)graph_node_object(reply.from, g, reply.from_type);
	graph_fresh_done(rq.fresh, 2);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode *hErrorNode_out,
					       CUgraphExecUpdateResult *updateResult_out)
{
	CUgraphExecUpdateResultInfo info = { .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	CUresult r = updateResult_out ? cuGraphExecUpdate_v2(hGraphExec, hGraph, &info) : ready(false);

	if (hErrorNode_out)
		*hErrorNode_out = info.errorNode;
	if (updateResult_out)
		*updateResult_out = info.result;
	return r;
}

static bool can_be_disabled(const struct object *node)
{
	return node->node.type == CU_GRAPH_NODE_TYPE_KERNEL || node->node.type == CU_GRAPH_NODE_TYPE_MEMCPY ||
	       node->node.type == CU_GRAPH_NODE_TYPE_MEMSET;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned int isEnabled)
{
	const struct object *node = graph_node(hNode);

	CHECKED(is(hGraphExec, VGPU_H_GRAPHEXEC) && node && can_be_disabled(node),
		call_cuGraphNodeSetEnabled(hGraphExec, hNode, isEnabled));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphNodeGetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned int *isEnabled)
{
	const struct object *node = graph_node(hNode);

	CHECKED(is(hGraphExec, VGPU_H_GRAPHEXEC) && node && can_be_disabled(node) && isEnabled,
		call_cuGraphNodeGetEnabled(hGraphExec, hNode, isEnabled));
}

/* --- attributes of kernel nodes ------------------------------------------------------------------------------------- */

static CUresult is_node(CUgraphNode h)
{
	CUresult r = session_check();

	return r != CUDA_SUCCESS || graph_node(h) ? r : CUDA_ERROR_INVALID_HANDLE;
}

static bool is_kernel(CUgraphNode h)
{
	const struct object *node = graph_node(h);

	return node && node->node.type == CU_GRAPH_NODE_TYPE_KERNEL;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphKernelNodeCopyAttributes(CUgraphNode dst, CUgraphNode src)
{
	if (is_kernel(dst))
		graph_node_changed((struct object *)dst);
	CHECKED(is_kernel(dst) && is_kernel(src), call_cuGraphKernelNodeCopyAttributes(dst, src));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphKernelNodeGetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
							   CUkernelNodeAttrValue *value_out)
{
	CUresult r = is_node(hNode);

	if (r != CUDA_SUCCESS)
		return r;
	CHECKED(is_kernel(hNode) && value_out, call_cuGraphKernelNodeGetAttribute(hNode, attr, value_out));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphKernelNodeSetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
							   const CUkernelNodeAttrValue *value)
{
	CUresult r = is_node(hNode);

	if (r != CUDA_SUCCESS)
		return r;
	if (attr == CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE)
		return REFUSE("graph nodes that kernels update", "the device's handle of a node has no meaning here");
	if (is_kernel(hNode))
		graph_node_changed((struct object *)hNode);
	CHECKED(is_kernel(hNode) && value, call_cuGraphKernelNodeSetAttribute(hNode, attr, value));
}

/* --- user objects --------------------------------------------------------------------------------------------------- */

struct user {
	CUhostFn destroy;
	void *data;
	struct object *object;
};

/* No graph and nobody else has it: the program's function is called, and the handle is free. */
static void user_gone(void *data)
{
	struct vgpu_user_object rq = { 0 };
	struct user *u = data;

	thread_self()->in_callback = true;
	u->destroy(u->data);
	thread_self()->in_callback = false;
	rq.call.thread = thread_self()->number;
	rq.handle = u->object->wire;
	call_post(VGPU_MSG_user_object_gone, &rq, sizeof(rq));
	object_delete(u->object);
	free(u);
}

VGPU_EXPORT CUresult CUDAAPI cuUserObjectCreate(CUuserObject *object_out, void *ptr, CUhostFn destroy,
						unsigned int initialRefcount, unsigned int flags)
{
	struct vgpu_user_object rq = { .count = initialRefcount, .flags = flags };
	CUresult r = call_begin(&rq.call, false);
	struct hook *h = NULL;
	struct user *u;

	if (r != CUDA_SUCCESS)
		return r;
	if (!object_out || !destroy || !initialRefcount || initialRefcount > INT32_MAX ||
	    flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
		return CUDA_ERROR_INVALID_VALUE;
	u = calloc(1, sizeof(*u));
	if (u) {
		*u = (struct user){ destroy, ptr, object_new(VGPU_H_USEROBJ) };
		h = u->object ? hook_new(&(struct hook){ .gone = user_gone, .gone_data = u }) : NULL;
	}
	if (!h) {
		if (u && u->object)
			object_delete(u->object);
		free(u);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	rq.handle = u->object->wire;
	rq.id = hook_id(h);
	r = call_reply(VGPU_MSG_cuUserObjectCreate, &rq, sizeof(rq), NULL, 0);
	if (r != CUDA_SUCCESS) {
		h->gone = NULL;	/* the worker says that the hook goes, but there was no object */
		hook_told(hook_id(h), VGPU_TOLD_GONE);
		object_delete(u->object);
		free(u);
		return r;
	}
	*object_out = (CUuserObject)u->object;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuUserObjectRetain(CUuserObject object, unsigned int count)
{
	CHECKED(is(object, VGPU_H_USEROBJ) && count, call_cuUserObjectRetain(object, count));
}

VGPU_EXPORT CUresult CUDAAPI cuUserObjectRelease(CUuserObject object, unsigned int count)
{
	CHECKED(is(object, VGPU_H_USEROBJ) && count, call_cuUserObjectRelease(object, count));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count,
						     unsigned int flags)
{
	CHECKED(is(graph, VGPU_H_GRAPH) && is(object, VGPU_H_USEROBJ) && count,
		call_cuGraphRetainUserObject(graph, object, count, flags));
}

VGPU_EXPORT CUresult CUDAAPI cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count)
{
	CHECKED(is(graph, VGPU_H_GRAPH) && is(object, VGPU_H_USEROBJ) && count,
		call_cuGraphReleaseUserObject(graph, object, count));
}

/* --- conditions, and memory of graphs ------------------------------------------------------------------------------- */

VGPU_EXPORT CUresult CUDAAPI cuGraphConditionalHandleCreate(CUgraphConditionalHandle *pHandle_out, CUgraph hGraph,
							    CUcontext ctx, unsigned int defaultLaunchValue,
							    unsigned int flags)
{
	CHECKED(pHandle_out && is(hGraph, VGPU_H_GRAPH) && (!ctx || is(ctx, VGPU_H_CTX)),
		call_cuGraphConditionalHandleCreate(pHandle_out, hGraph, ctx, defaultLaunchValue, flags));
}

static CUresult device(CUdevice dev, bool ok)
{
	CUresult r = session_check();

	if (r == CUDA_SUCCESS && (dev < 0 || (uint32_t)dev >= shim.ndevices))
		return CUDA_ERROR_INVALID_DEVICE;
	return r != CUDA_SUCCESS ? r : ok ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGraphMemTrim(CUdevice dev)
{
	CUresult r = device(dev, true);

	return r != CUDA_SUCCESS ? r : call_cuDeviceGraphMemTrim(dev);
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceGetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	CUresult r = device(dev, value);

	return r != CUDA_SUCCESS ? r : call_cuDeviceGetGraphMemAttribute(dev, attr, value);
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceSetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	CUresult r = device(dev, value);

	return r != CUDA_SUCCESS ? r : call_cuDeviceSetGraphMemAttribute(dev, attr, value);
}
