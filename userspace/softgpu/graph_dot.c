// SPDX-License-Identifier: Apache-2.0
/* cuGraphDebugDotPrint: a graph as a picture, in the language of Graphviz. */
#include <stdio.h>

#include "graph.h"

static const char *const types[] = {
	"KERNEL", "MEMCPY", "MEMSET", "HOST", "GRAPH", "EMPTY", "WAIT_EVENT", "EVENT_RECORD", "EXT_SEMAS_SIGNAL",
	"EXT_SEMAS_WAIT", "MEM_ALLOC", "MEM_FREE", "BATCH_MEM_OP", "CONDITIONAL",
};

static void node(FILE *f, const struct sg_node *n, unsigned int id, unsigned int flags)
{
	bool all = flags & CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE;

	fprintf(f, "\t\"graph_%p_node_%u\" [label=\"{%u|%s", (void *)n->graph, id, id, types[n->type]);
	if (all || flags & CU_GRAPH_DEBUG_DOT_FLAGS_HANDLES)
		fprintf(f, "|handle %p", (void *)n);
	if (n->type == CU_GRAPH_NODE_TYPE_KERNEL) {
		const struct sg_kernel *k = n->op->u.launch.handle;

		fprintf(f, "|%s", k->info.name);
		if (all || flags & CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_PARAMS)
			fprintf(f, "|grid %u %u %u, block %u %u %u, %u bytes of shared memory",
				n->params.kernel.gridDimX, n->params.kernel.gridDimY, n->params.kernel.gridDimZ,
				n->params.kernel.blockDimX, n->params.kernel.blockDimY, n->params.kernel.blockDimZ,
				n->params.kernel.sharedMemBytes);
	}
	if (n->type == CU_GRAPH_NODE_TYPE_MEMCPY && (all || flags & CU_GRAPH_DEBUG_DOT_FLAGS_MEMCPY_NODE_PARAMS))
		fprintf(f, "|%zu x %zu x %zu", n->params.memcpy.copyParams.WidthInBytes,
			n->params.memcpy.copyParams.Height, n->params.memcpy.copyParams.Depth);
	if (n->type == CU_GRAPH_NODE_TYPE_MEMSET && (all || flags & CU_GRAPH_DEBUG_DOT_FLAGS_MEMSET_NODE_PARAMS))
		fprintf(f, "|%#llx: %zu x %zu of %#x", n->params.memset.dst, n->params.memset.width,
			n->params.memset.height, n->params.memset.value);
	fprintf(f, "}\"]\n");
}

static void graph(FILE *f, struct sg_graph *g, unsigned int flags)
{
	struct sg_node *n;
	uint32_t i = 0;

	fprintf(f, "subgraph cluster_%p {\n\tlabel=\"graph_%p\"\n\tnode [shape=record]\n", (void *)g, (void *)g);
	for (n = g->first; n; n = n->next) {
		n->mark = i++;
		node(f, n, n->mark, flags);
	}
	for (n = g->first; n; n = n->next)
		for (size_t k = 0; k < n->nedges; k++)
			fprintf(f, "\t\"graph_%p_node_%u\" -> \"graph_%p_node_%u\"\n", (void *)g, n->in[k].from->mark,
				(void *)g, n->mark);
	fprintf(f, "}\n");
	for (n = g->first; n; n = n->next) {
		if (n->child)
			graph(f, n->child, flags);
		for (unsigned int b = 0; n->bodies && b < n->params.conditional.size; b++)
			graph(f, n->bodies[b], flags);
	}
}

CUresult cuGraphDebugDotPrint(CUgraph h, const char *path, unsigned int flags)
{
	struct sg_graph *g = sg_graph_check(h);
	FILE *f;
	bool bad;

	if (!sg_devices)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!g || !path)
		return CUDA_ERROR_INVALID_VALUE;
	f = fopen(path, "we");
	if (!f)
		return CUDA_ERROR_OPERATING_SYSTEM;
	fprintf(f, "digraph dot {\n");
	graph(f, g, flags);
	fprintf(f, "}\n");
	bad = ferror(f);
	return fclose(f) || bad ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
}
