/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs in the shim.
 *
 *	graph.c		graphs, executable ones, user objects		graph_node.c	nodes made and changed
 *	graph_list.c	nodes as the worker tells of them, edges	graph_get.c	parameters of nodes
 *	graph_pageable.c copies of memory that only the program has	graph_dot.c	the picture
 *	graph_certain.c	nodes that need no answer				capture.c	captures
 */
#ifndef VGPU_GRAPH_H
#define VGPU_GRAPH_H

#include "hook.h"
#include "shim.h"

/** struct node_message - parameters on their way, with room for what follows them. */
struct node_message {
	struct vgpu_node node;
	unsigned char *more;		/* node.more bytes */
	struct pageable *pageable;	/* MEMCPY: what the arena buffer in it stands for */
	struct hook *hook;
	CUgraphNodeParams *given;
};

/** Make a message's part of @p. On failure nothing is left; else node_message_free(). */
CUresult node_pack(struct node_message *m, CUgraphNodeParams *p);
void node_message_free(struct node_message *m);
/** The same for one that was not sent: what it was to bring along goes, too. */
void node_message_discard(struct node_message *m);

/** A node (graph) of the worker's: its object, entered below @graph (@node) if it is new. NULL if @h is none of ours. */
struct object *graph_node_object(uint64_t h, struct object *graph, uint32_t type);
struct object *graph_child_object(uint64_t h, struct object *node);

/**
 * Will the driver take such a node, below @deps, as far as can be told here? Edges without data.
 * @p: as the program gave it; node_pack() has been content with it
 */
bool graph_node_certain(const struct object *graph, const CUgraphNode *deps, size_t ndeps, const CUgraphNodeParams *p);

/** A node was added with @p: what is known of it now, and was when graphs were instantiated. */
void graph_node_added(struct object *node, const CUgraphNodeParams *p);
/** @exec has been made of @graph, which had the nodes up to @last (graph_last_added()). */
void graph_exec_made(struct object *exec, const struct object *graph, uint64_t last);
uint64_t graph_last_added(void);
/** Something else of it has changed than graph_set_certain() asks about. */
static inline void graph_node_changed(struct object *node)
{
	node->node.function = 0;
}

/** Will the driver take such parameters for @node in @exec? @p: as for graph_node_certain() */
bool graph_set_certain(const struct object *exec, const struct object *node, const CUgraphNodeParams *p);

/** Handles to send along for objects that have none: @n of them; and back, those that found no use. */
bool graph_fresh(uint64_t *handles, size_t n, enum vgpu_handle_type type);
void graph_fresh_done(const uint64_t *handles, size_t n);

/** All nodes of some list. @entries is malloc()ed. */
CUresult graph_list(uint32_t what, struct object *of, struct object *graph, const struct object *node,
		    struct vgpu_graph_entry **entries, size_t *n);

/** @graph's (@node's) objects go, and those below. */
void graph_objects_delete(struct object *graph);
void graph_node_delete(struct object *node);

static inline struct object *graph_node(CUgraphNode h)
{
	return object_get(h, VGPU_H_GRAPHNODE);
}

/** Parameters of @node, which is of type @type; pointers in them last until the node changes. */
CUresult graph_get(CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams *p);

/** A record of memory that a graph is about to have; then, where it is. It goes when the worker says so. */
struct hook *graph_memory_hook(void);
CUresult graph_memory_note(struct hook *h, uint64_t address, uint64_t size);

/* graph_pageable.c */
struct pageable;

/** Is one side of the copy memory that the worker can't reach? If so it gets an arena buffer instead. */
CUresult pageable_replace(CUDA_MEMCPY3D *c, struct pageable **out);
/** The function that fills the buffer, or empties it: before the copy, or after it. It owns @p from now on. */
struct hook *pageable_hook(struct pageable *p, enum vgpu_hook *kind);
void pageable_free(struct pageable *p);
/** If @c copies an arena buffer of that kind: put the program's own memory back. */
void pageable_restore(CUDA_MEMCPY3D *c);
/** A copy in a stream that captures. */
CUresult pageable_capture(const CUDA_MEMCPY3D *c, CUstream stream);

/** Is [at, at + len) memory that the worker knows by the same address? */
bool pageable_not(uint64_t at);

#endif
