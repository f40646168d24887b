// SPDX-License-Identifier: Apache-2.0
/* Explicit nodes of graphs: kernels, copies, fills, and empty ones. */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "shim_gen.h"

struct buffer {
	struct vgpu_graph_node rq;
	unsigned char more[VGPU_GRAPH_DEPS_MAX * sizeof(uint64_t) + VGPU_PARAM_BYTES_MAX];
};

/* What every node has: graph, dependencies, a handle. @return NULL with *@r */
static struct buffer *begin(CUgraphNode *out, CUgraph graph, const CUgraphNode *deps, size_t n, const void *params,
			    struct object **node, CUresult *r)
{
	struct vgpu_call call;
	struct buffer *b;

	*r = call_begin(&call, true);
	if (*r != CUDA_SUCCESS)
		return NULL;
	*r = CUDA_ERROR_INVALID_VALUE;
	if (!out || !params || (n && !deps) || !object_get(graph, VGPU_H_GRAPH))
		return NULL;
	if (n > VGPU_GRAPH_DEPS_MAX) {
		*r = REFUSE("a graph node with more than 64 dependencies", "graphs");
		return NULL;
	}
	b = malloc(sizeof(*b));
	*r = CUDA_ERROR_OUT_OF_MEMORY;
	if (!b)
		return NULL;
	memset(&b->rq, 0, sizeof(b->rq));
	b->rq.call = call;
	b->rq.graph = object_wire(graph);
	b->rq.ndeps = n;
	for (size_t i = 0; i < n; i++) {
		const struct object *d = object_get(deps[i], VGPU_H_GRAPHNODE);

		if (!d || d->parent != (struct object *)graph) {
			free(b);
			*r = CUDA_ERROR_INVALID_VALUE;
			return NULL;
		}
		memcpy(b->more + i * sizeof(uint64_t), &d->wire, sizeof(uint64_t));
	}
	*node = object_new(VGPU_H_GRAPHNODE);
	if (!*node) {
		free(b);
		return NULL;
	}
	b->rq.node = (*node)->wire;
	*r = CUDA_SUCCESS;
	return b;
}

static CUresult end(struct buffer *b, CUgraph graph, struct object *node, CUresult r, CUgraphNode *out)
{
	struct object *g = (struct object *)graph;

	if (r == CUDA_SUCCESS)
		r = call_reply(VGPU_MSG_cuGraphAddKernelNode_v2, b,
			       sizeof(b->rq) + b->rq.ndeps * sizeof(uint64_t) + b->rq.param_bytes, NULL, 0);
	free(b);
	if (r != CUDA_SUCCESS) {
		object_delete(node);
		return r;
	}
	node->parent = g;
	node->sibling = g->children;
	g->children = node;
	*out = (CUgraphNode)node;
	return CUDA_SUCCESS;
}

/* Parameters as the kernel's layout says, or as they are. */
static CUresult pack(struct buffer *b, const struct kernel *k, void **params, void **extra)
{
	unsigned char *at = b->more + b->rq.ndeps * sizeof(uint64_t);
	const void *from = NULL;
	const size_t *size = NULL;

	if ((params && extra) || (!params && !extra && k->param_bytes))
		return CUDA_ERROR_INVALID_VALUE;
	if (!extra) {
		memset(at, 0, k->param_bytes);
		for (uint32_t i = 0; i < k->nparams; i++)
			memcpy(at + k->params[i].offset, params[i], k->params[i].size);
		b->rq.param_bytes = k->param_bytes;
		return CUDA_SUCCESS;
	}
	for (; extra[0] != CU_LAUNCH_PARAM_END; extra += 2) {
		if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
			from = extra[1];
		else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE)
			size = extra[1];
		else
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (!from || !size || *size > VGPU_PARAM_BYTES_MAX || *size < k->param_bytes)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(at, from, *size);
	b->rq.param_bytes = *size;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
						     const CUgraphNode *dependencies, size_t numDependencies,
						     const CUDA_KERNEL_NODE_PARAMS_v2 *p)
{
	struct object *node;
	CUresult r;
	struct buffer *b = begin(phGraphNode, hGraph, dependencies, numDependencies, p, &node, &r);
	const struct object *f;

	if (!b)
		return r;
	f = object_function(p->func ? (void *)p->func : (void *)p->kern);
	if (f) {
		b->rq.kind = VGPU_NODE_KERNEL;
		b->rq.function = f->wire;
		memcpy(b->rq.grid, (uint32_t[]){ p->gridDimX, p->gridDimY, p->gridDimZ }, sizeof(b->rq.grid));
		memcpy(b->rq.block, (uint32_t[]){ p->blockDimX, p->blockDimY, p->blockDimZ }, sizeof(b->rq.block));
		b->rq.shared = p->sharedMemBytes;
		r = pack(b, f->kernel, p->kernelParams, p->extra);
	} else {
		r = CUDA_ERROR_INVALID_HANDLE;
	}
	return end(b, hGraph, node, r, phGraphNode);
}

/* An address that the worker knows by the same number. */
static CUresult side(CUmemorytype type, const void *host, CUdeviceptr device, CUarray array, size_t x, size_t y, size_t z,
		     size_t pitch, size_t height, uint64_t *at)
{
	struct range range;

	if (array || type == CU_MEMORYTYPE_ARRAY)
		return REFUSE("a graph's copy of an array", "arrays");
	*at = (type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : device) + x + y * pitch + z * pitch * height;
	if (!range_find(*at, &range) || range.kind == RANGE_REGISTERED)
		return REFUSE("a copy of pageable memory in a graph", "allocate it with cuMemHostAlloc");
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
						  const CUgraphNode *dependencies, size_t numDependencies,
						  const CUDA_MEMCPY3D *c, CUcontext ctx)
{
	struct object *node;
	CUresult r;
	struct buffer *b = begin(phGraphNode, hGraph, dependencies, numDependencies, c, &node, &r);

	if (!b)
		return r;
	b->rq.kind = VGPU_NODE_COPY;
	r = side(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcArray, c->srcXInBytes, c->srcY, c->srcZ, c->srcPitch,
		 c->srcHeight, &b->rq.src);
	if (r == CUDA_SUCCESS)
		r = side(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstArray, c->dstXInBytes, c->dstY, c->dstZ,
			 c->dstPitch, c->dstHeight, &b->rq.dst);
	b->rq.src_pitch = c->srcPitch ? c->srcPitch : c->WidthInBytes;
	b->rq.dst_pitch = c->dstPitch ? c->dstPitch : c->WidthInBytes;
	b->rq.src_height = c->srcHeight ? c->srcHeight : c->Height;
	b->rq.dst_height = c->dstHeight ? c->dstHeight : c->Height;
	b->rq.width = c->WidthInBytes;
	b->rq.height = c->Height;
	b->rq.depth = c->Depth;
	return end(b, hGraph, node, r, phGraphNode);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph,
						  const CUgraphNode *dependencies, size_t numDependencies,
						  const CUDA_MEMSET_NODE_PARAMS *p, CUcontext ctx)
{
	struct object *node;
	CUresult r;
	struct buffer *b = begin(phGraphNode, hGraph, dependencies, numDependencies, p, &node, &r);

	if (!b)
		return r;
	b->rq.kind = VGPU_NODE_SET;
	b->rq.dst = p->dst;
	b->rq.dst_pitch = p->pitch;
	b->rq.width = p->width;
	b->rq.height = p->height;
	b->rq.value = p->value;
	b->rq.element = p->elementSize;
	return end(b, hGraph, node, r, phGraphNode);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphAddEmptyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
						 const CUgraphNode *dependencies, size_t numDependencies)
{
	struct object *node;
	CUresult r;
	struct buffer *b = begin(phGraphNode, hGraph, dependencies, numDependencies, phGraphNode, &node, &r);

	if (!b)
		return r;
	b->rq.kind = VGPU_NODE_EMPTY;
	return end(b, hGraph, node, r, phGraphNode);
}

VGPU_EXPORT CUresult CUDAAPI cuGraphDestroy(CUgraph hGraph)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH), *node;
	CUresult r = session_check();

	if (r != CUDA_SUCCESS)
		return r;
	if (!g)
		return CUDA_ERROR_INVALID_VALUE;
	node = g->children;
	r = call_cuGraphDestroy(hGraph);
	while (node) {
		struct object *next = node->sibling;

		object_delete(node);
		node = next;
	}
	return r;
}
