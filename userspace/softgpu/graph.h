/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs of the software GPU.
 *
 *	graph.c		graphs and nodes as objects, edges, copies		graph_query.c	what a program may ask
 *	graph_node.c	nodes made from parameters and back			graph_exec.c	executable graphs
 *	graph_update.c	changing executable graphs				graph_cond.c	conditional nodes
 *	graph_memory.c	memory that belongs to graphs				capture.c	streams recorded as graphs
 *	graph_dot.c	the picture						user_object.c	what programs hang on graphs
 *
 * A node that does one thing holds it as an operation of a stream (struct sg_op), ready to be queued. Executing a graph
 * means to queue its nodes in one stream, in an order that respects every edge: edges allow more to run at once than
 * that, and ask for no more.
 */
#ifndef SOFTGPU_GRAPH_H
#define SOFTGPU_GRAPH_H

#include "softgpu.h"

/** struct sg_edge - in the list of the node it leads to. */
struct sg_edge {
	struct sg_node *from;
	CUgraphEdgeData data;
};

/** struct sg_attrs - launch attributes of a kernel node, by id; bit of @set: given. */
#define SG_ATTRS 17
struct sg_attrs {
	uint32_t set;
	CUlaunchAttributeValue value[SG_ATTRS];
};

/**
 * struct sg_node
 * @origin: in a clone or an executable graph: the id of the node it is a copy of
 * @op:     KERNEL, MEMCPY, MEMSET, HOST: the operation, @bytes of it
 * @params: parameters as they are told; pointers in them are the node's own
 */
struct sg_node {
	struct sg_object object;
	struct sg_graph *graph;
	struct sg_node *next, **prev;
	uint64_t id, origin;
	CUgraphNodeType type;
	bool disabled;
	_Atomic uint32_t mark;		/* scratch of who walks the graph; launches and copies note its place there */
	struct sg_edge *in;
	size_t nedges, edges_cap;
	struct sg_op *op;
	size_t bytes;
	struct sg_attrs *attrs;
	void **pointers;		/* KERNEL: kernelParams as told */
	struct sg_graph *child;		/* GRAPH */
	struct sg_graph **bodies;	/* CONDITIONAL */
	struct sg_cond *cond;
	struct sg_graph_memory *memory;	/* MEM_ALLOC, MEM_FREE */
	CUgraphNodeParams params;
};

struct sg_user_ref {
	struct sg_user *user;
	unsigned int count;
	struct sg_user_ref *next;
};

/**
 * struct sg_graph
 * @owner:   the node whose child graph or body this is
 * @capture: a capture adds to it
 * @origin:  the graph it was cloned from
 */
struct sg_graph {
	struct sg_object object;
	struct sg_node *first, **last;
	size_t count;
	struct sg_node *owner;
	struct sg_graph *origin;
	struct sg_capture *capture;
	struct sg_user_ref *users;
	struct sg_cond *conds;		/* made for it */
	size_t memory_nodes;
	unsigned int instances;		/* executable graphs that hold its memory */
};

/** struct sg_exec - @order: all of @graph's nodes, so that every edge leads forward. Launches hold references to @graph. */
struct sg_exec {
	struct sg_object object;
	struct sg_graph *graph;
	struct sg_graph *source;	/* only to be compared, and for its count of instances */
	struct sg_node **order;
	cuuint64_t flags;
	bool memory;
	struct sg_stream *last;		/* where it was launched last, with a reference; the next launch is behind that one */
	uint64_t last_seq;
};

extern struct sg_table sg_graph_table, sg_node_table, sg_exec_table, sg_user_table;

/* graph.c */
static inline struct sg_graph *sg_graph_check(const void *h)
{
	return sg_object_check(&sg_graph_table, h);
}
static inline struct sg_node *sg_node_check(const void *h)
{
	return sg_object_check(&sg_node_table, h);
}
struct sg_graph *sg_graph_new(void);
void sg_graph_free(struct sg_graph *g);
struct sg_node *sg_node_new(CUgraphNodeType type);
void sg_node_free(struct sg_node *n);
void sg_node_append(struct sg_graph *g, struct sg_node *n);
bool sg_node_depend(struct sg_node *n, struct sg_node *on, const CUgraphEdgeData *data);
struct sg_edge *sg_node_edge(struct sg_node *n, const struct sg_node *from);

/** Are @deps distinct nodes of @g, and @edges such that they may have? */
CUresult sg_deps_ok(struct sg_graph *g, const CUgraphNode *deps, const CUgraphEdgeData *edges, size_t n);

/** A copy with all nodes. @executable: memory nodes are allowed, and shared with @from. */
struct sg_graph *sg_graph_copy(struct sg_graph *from, bool executable);

/** Its nodes in an order in which every edge leads forward, malloc()ed. NULL: no memory, or (@bad set) a cycle. */
struct sg_node **sg_graph_order(struct sg_graph *g, struct sg_node **bad);

/** The node of @g that is a copy of @original, also one in its child graphs. */
struct sg_node *sg_graph_find(struct sg_graph *g, const struct sg_node *original);

void sg_copy_op(struct sg_op *to, const struct sg_op *from, size_t bytes);

/* graph_node.c */
/** Make @n what @p says; n->type is set already. */
CUresult sg_node_set(struct sg_node *n, CUgraphNodeParams *p, struct sg_graph *g);
/** Take what @from holds, and give @from what @n held. */
void sg_node_swap(struct sg_node *n, struct sg_node *from);
/** After a capture has made n->op: the parameters that say the same. */
void sg_node_describe(struct sg_node *n);
bool sg_node_clone_params(struct sg_node *to, const struct sg_node *from);
void sg_attrs_set(struct sg_node *n, CUlaunchAttributeID id, const CUlaunchAttributeValue *value);

/* graph_exec.c */
CUresult sg_exec_check(CUgraphExec h, struct sg_exec **out);
/** Do now, on this thread, what a conditional node's body says. */
void sg_graph_run(struct sg_stream *s, struct sg_graph *g);

/* graph_cond.c */
CUresult sg_cond_node(struct sg_node *n, const CUDA_CONDITIONAL_NODE_PARAMS *p, const struct sg_graph *g);
void sg_cond_execute(struct sg_stream *s, void *node);
void sg_cond_reset(struct sg_stream *s, void *graph);
void sg_cond_forget(struct sg_graph *g);
bool sg_cond_unused(const struct sg_graph *g);
/** cudaGraphSetConditional() in a kernel. */
void sg_cond_set(uint64_t handle, uint32_t value);

/* graph_memory.c */
CUresult sg_graph_memory_new(size_t size, int device, struct sg_graph_memory **out, CUdeviceptr *dptr);
void sg_graph_memory_get(struct sg_graph_memory *m);
void sg_graph_memory_put(struct sg_graph_memory *m);
/** The graph memory at @addr with a reference, or NULL. */
struct sg_graph_memory *sg_graph_memory_find(CUdeviceptr addr);
/** A launch: the memory is had (given back). @return false if it is already. @again: had already is fine */
bool sg_graph_memory_take(struct sg_graph_memory *m, bool again);
bool sg_graph_memory_give(struct sg_graph_memory *m);

/* user_object.c */
struct sg_user;
bool sg_users_copy(struct sg_graph *to, const struct sg_graph *from);
void sg_users_drop(struct sg_graph *g);

/* capture.c */
/** @s captures: what it did so far becomes dependencies of @n, which @n then stands for. */
CUresult sg_capture_node(struct sg_stream *s, struct sg_node *n);

/** A capture of exactly one operation, for nodes made from parameters. */
struct sg_recording {
	struct sg_stream *stream;
	struct sg_capture *capture;
};
CUresult sg_record_begin(struct sg_recording *r);
/** @return the node, NULL if not exactly one operation was recorded. */
struct sg_node *sg_record_end(struct sg_recording *r);

#endif /* SOFTGPU_GRAPH_H */
