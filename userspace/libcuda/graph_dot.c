// SPDX-License-Identifier: Apache-2.0
/* cuGraphDebugDotPrint: the picture is drawn here, where the file is, from what the worker tells of the graph. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "graph.h"

static const char *const types[] = {
	"KERNEL", "MEMCPY", "MEMSET", "HOST", "GRAPH", "EMPTY", "WAIT_EVENT", "EVENT_RECORD", "EXT_SEMAS_SIGNAL",
	"EXT_SEMAS_WAIT", "MEM_ALLOC", "MEM_FREE", "BATCH_MEM_OP", "CONDITIONAL",
};

static CUresult parameters(FILE *f, CUgraphNode h, CUgraphNodeType type, unsigned int flags)
{
	CUgraphNodeParams p;
	CUresult r = graph_get(h, type, &p);

	if (r != CUDA_SUCCESS)
		return r;
	switch ((int)type) {
	case CU_GRAPH_NODE_TYPE_KERNEL: {
		const struct object *k = object_function(p.kernel.func ? (void *)p.kernel.func : (void *)p.kernel.kern);

		fprintf(f, "|%s", k ? k->kernel->name : "?");
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_PARAMS))
			fprintf(f, "|grid %u %u %u, block %u %u %u, %u bytes of shared memory", p.kernel.gridDimX,
				p.kernel.gridDimY, p.kernel.gridDimZ, p.kernel.blockDimX, p.kernel.blockDimY,
				p.kernel.blockDimZ, p.kernel.sharedMemBytes);
		break;
	}
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_MEMCPY_NODE_PARAMS))
			fprintf(f, "|%zu x %zu x %zu bytes", p.memcpy.copyParams.WidthInBytes, p.memcpy.copyParams.Height,
				p.memcpy.copyParams.Depth);
		break;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_MEMSET_NODE_PARAMS))
			fprintf(f, "|%#llx: %zu x %zu of %#x", p.memset.dst, p.memset.width, p.memset.height, p.memset.value);
		break;
	}
	return CUDA_SUCCESS;
}

static CUresult draw(FILE *f, struct object *g, unsigned int flags)
{
	struct vgpu_graph_entry *nodes, *edges = NULL;
	size_t nnodes, nedges;
	CUresult r = graph_list(VGPU_LIST_NODES, g, g, NULL, &nodes, &nnodes);

	if (r == CUDA_SUCCESS)
		r = graph_list(VGPU_LIST_EDGES, g, g, NULL, &edges, &nedges);
	if (r != CUDA_SUCCESS)
		return r;
	fprintf(f, "subgraph cluster_%u {\n\tlabel=\"graph_%u\"\n\tnode [shape=record]\n", VGPU_HANDLE_INDEX(g->wire),
		VGPU_HANDLE_INDEX(g->wire));
	for (size_t i = 0; r == CUDA_SUCCESS && i < nnodes; i++) {
		struct object *o = graph_node_object(nodes[i].node, g, nodes[i].type);

		if (!o || nodes[i].type >= sizeof(types) / sizeof(types[0]))
			continue;
		fprintf(f, "\t\"node_%u\" [label=\"{%zu|%s", VGPU_HANDLE_INDEX(o->wire), i, types[nodes[i].type]);
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_HANDLES))
			fprintf(f, "|handle %p", (void *)o);
		r = parameters(f, (CUgraphNode)o, nodes[i].type, flags);
		fprintf(f, "}\"]\n");
	}
	for (size_t i = 0; i < nedges; i++)
		fprintf(f, "\t\"node_%u\" -> \"node_%u\"\n", VGPU_HANDLE_INDEX(edges[i].node),
			VGPU_HANDLE_INDEX(edges[i].to));
	fprintf(f, "}\n");
	for (size_t i = 0; r == CUDA_SUCCESS && i < nnodes; i++) {
		struct object *o = graph_node_object(nodes[i].node, g, nodes[i].type);

		/* Child graphs have been asked for above, and bodies are known since they were made. */
		for (struct object *c = o ? o->children : NULL; r == CUDA_SUCCESS && c; c = c->sibling)
			if (c->type == VGPU_H_GRAPH)
				r = draw(f, c, flags);
	}
	free(nodes);
	free(edges);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuGraphDebugDotPrint(CUgraph hGraph, const char *path, unsigned int flags)
{
	struct object *g = object_get(hGraph, VGPU_H_GRAPH);
	CUresult r = session_check();
	bool bad;
	FILE *f;

	if (r != CUDA_SUCCESS)
		return r;
	if (!g || !path)
		return CUDA_ERROR_INVALID_VALUE;
	f = fopen(path, "we");
	if (!f)
		return CUDA_ERROR_OPERATING_SYSTEM;
	fprintf(f, "digraph dot {\n");
	r = draw(f, g, flags);
	fprintf(f, "}\n");
	bad = ferror(f);
	return fclose(f) || bad ? CUDA_ERROR_OPERATING_SYSTEM : r;
}
