/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs in the worker.
 *
 *	graph.c		graphs, executable graphs, updating, ending	graph_node.c	nodes from the client's parameters
 *	graph_list.c	lists of nodes, edges, names for nodes		graph_get.c	parameters for the client
 *	capture.c	stream capture					hook.c		the client's functions in graphs
 */
#ifndef WORKER_GRAPH_H
#define WORKER_GRAPH_H

#include "worker.h"

/** struct fresh - handles that a message brought along for objects that have none. */
struct fresh {
	const uint64_t *handles;
	uint32_t n, used;
};

/** The handle of @node (@graph), of which @parent is the graph (node) that it ends with; 0 if there is none to be had. */
uint64_t graph_name_node(struct worker *w, CUgraphNode node, uint64_t parent, struct fresh *f);
uint64_t graph_name_graph(struct worker *w, CUgraph graph, uint64_t parent, struct fresh *f);

/** The same if it has one already, else 0. */
uint64_t graph_known(CUgraph graph);
uint64_t graph_node_known(CUgraphNode node);

/** Enter a node (graph) of which the client has chosen the handle. */
int graph_enter_node(struct worker *w, uint64_t handle, CUgraphNode node, uint64_t graph);
int graph_enter_graph(struct worker *w, uint64_t handle, CUgraph graph, uint64_t node);

/** Let go of all names in graph @handle (below node @handle), and of its own. */
void graph_forget(struct worker *w, uint64_t handle);
void graph_forget_node(struct worker *w, uint64_t handle);
/** Graph @graph now ends with node @node (handles both). */
void graph_moved(struct worker *w, uint64_t graph, uint64_t node);

/** The driver's nodes for @n handles. @after: they are what something comes after, else before. NULL: see *@err */
CUgraphNode *graph_nodes(struct worker *w, const uint64_t *handles, size_t n, bool after, int *err);

/** The visible node that hidden node @node belongs to, or @node. */
CUgraphNode graph_visible(CUgraphNode node);

/** The hidden node of @node, before or after it; NULL if it has none. */
CUgraphNode graph_hidden(CUgraphNode node, bool after);

/** The graph that @node (handle) is in, as a handle. */
uint64_t graph_of_node(struct worker *w, uint64_t handle);

/* graph_node.c */
struct hook;
/** Why @graph (handle) is not what the client takes it for, CUDA_SUCCESS if it is. */
CUresult graph_incomplete(struct worker *w, uint64_t graph);
/** Are the addresses in these memory operations the session's? */
bool graph_batch_ok(struct worker *w, const CUstreamBatchMemOpParams *ops, unsigned int n);
/** Memory that @graph allocates, by @h's record: the session's, and charged, until no graph names it. */
CUresult graph_note_memory(struct worker *w, CUgraph graph, CUdeviceptr addr, uint64_t size, uint64_t charge,
			   struct hook *h);

/* hook.c */
/** A function of the client's for graphs. @return NULL with *@r */
struct hook *hook_new(struct worker *w, uint64_t id, uint64_t ack, enum vgpu_hook kind, CUresult *r);
/** A record of memory that a graph is going to allocate. @return NULL with *@r */
struct hook *hook_memory(uint64_t id, CUresult *r);
/** The graph allocates at @addr: that is the session's, and charged, until no graph names it. On failure it is over now. */
CUresult hook_keep_memory(struct hook *h, CUgraph graph, CUdeviceptr addr);
/** How many of those there are. */
unsigned int hook_memories(void);
void hook_drop(struct hook *h);
/** Tell the client that nothing came of what it has number @id for. */
void hook_refuse(struct worker *w, uint64_t id);
/** The graph keeps it from now on. On failure it is dropped: so before a node that cannot be taken back has it. */
CUresult hook_keep(struct hook *h, CUgraph graph);
void hook_unkeep(struct hook *h, CUgraph graph);	/* nothing has come of the node */
/** @exec is about to be made of @graph: notice when it is gone. Then hook_exec_end(), with NULL if there is none. */
struct life;
CUresult hook_exec_begin(CUgraph graph, struct life **life);
void hook_exec_end(struct life *life, CUgraph graph, CUgraphExec exec);
/** No graph keeps it, but @exec uses it for @node, from the next launch on: until that is given another, or @exec is gone. */
void hook_leave(struct hook *h, CUgraphExec exec, CUgraphNode node);
/** What @graph holds of the client's user objects is not known any more, or anybody of @object (handles). */
void hook_forget_holds(uint64_t graph, uint64_t object);
/** Graph @to is a copy of @from; either may be a node, for the graph in it. */
void hook_copy_holds(uint64_t from, uint64_t to);
void CUDA_CB hook_run(void *hook);
/** If host function @fn(@data) is one of these: the number and word of the client's function. */
const struct hook *hook_of(CUhostFn fn, void *data);
uint64_t hook_id(const struct hook *h);
enum vgpu_hook hook_kind(const struct hook *h);

#endif /* WORKER_GRAPH_H */
