/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program holds as CUstream, CUevent, CUmodule, ...: a pointer to a struct object.
 *
 * All objects lie in one array that is never unmapped, so any pointer can be checked without being followed, and
 * an object that is gone is still readable. An object's place in the array is the index in its wire handle.
 */
#ifndef VGPU_OBJECT_H
#define VGPU_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "board.h"
#include "wire.h"

struct kernel;
struct array;
typedef struct CUgraph_st *CUgraph;
struct context;
struct link;
struct load;

struct object {
	uint64_t wire;		/* the handle; 0 while free */
	uint32_t type;		/* enum vgpu_handle_type; VGPU_H_NONE while free */
	uint32_t next_free;
	struct object *ctx;	/* the context it was made in */
	struct object *parent;	/* function: module; kernel: library */
	struct object *children, *sibling;	/* module, library: what was looked up in it */
	union {
		struct {
			uint32_t flags;
			int32_t priority;
			uint32_t sent;		/* messages for it, counted once they are sent */
			uint32_t idle;		/* sent when it was last seen idle */
			struct object *green;	/* the green context it was made in, and ends with */
			bool origin;		/* a capture began here, and is not over */
			uint32_t joined;	/* of which time of captures it may have become a part: capture.c */
		} stream;
		struct {
			uint32_t flags;
			uint32_t recorded;	/* how often */
			uint32_t complete;	/* the recording that was seen complete; both 0: none */
			uint32_t waited;	/* the recording that the program has waited for; 0: none */
			bool in_graph;		/* a graph records it, whenever that is launched */
			bool shared;		/* other processes may record it, too */
			uint32_t unasked;	/* recordings since somebody asked */
			uint32_t marked;	/* the recording that @mark is of */
			struct board_mark mark;
		} event;
		struct {
			struct context *context;
			struct object *root;	/* whose all is that is made in it: itself, or the primary one of a green one */
			bool active;	/* work can be done in it: a primary context while it is retained; atomic */
		};
		struct link *link;
		struct array *array;		/* array.c: array and mipmapped array */
		struct {
			uint32_t device;
			uint32_t access;	/* a bit for each other device that has it */
			bool shareable, imported;
		} pool;
		struct {
			uint64_t size, id;	/* range_new_id() */
			uint32_t device, handles, mappings;
			uint32_t handle_types;	/* CUmemAllocationHandleType */
			uint32_t location;	/* CUmemLocationType; of the host, @device is the node */
			char *arena;		/* where it is then */
		} physical;
		struct kernel *kernel;		/* function and kernel */
		struct {
			uint32_t type;		/* CUgraphNodeType */
			CUgraph *bodies;	/* CONDITIONAL: malloc()ed */
			void *told;		/* what parameters last told point to; malloc()ed */
			uint64_t added;		/* when, of all nodes; 0: not known */
			uint64_t function, ctx;	/* KERNEL: what it was added with, handles; 0: not known any more */
		} node;
		struct {
			uint32_t device;
			uint64_t id;
			struct object *ctx;	/* it as an ordinary context, once asked for */
		} green;
		struct {
			uint64_t flags;
			bool memory;	/* it allocates memory */
			uint64_t graph;	/* what it was made of, handle; 0: it may be another one's by now */
			uint64_t last;	/* node.added of the last node at the time */
		} exec;
		struct {		/* module and library */
			struct object *module;	/* library: cuLibraryGetModule's answers, one for each context; by sibling */
			struct load *load;	/* nobody has waited for the worker's answer yet */
			uint32_t failed;	/* which was this CUresult */
		} library;
	};
};

#define OBJECTS	VGPU_HANDLES_MAX
extern struct object *objects;	/* OBJECTS of them; places 1 ... VGPU_DEVICES_MAX are the primary contexts */

/** Map the array. @return 0 or -errno. Once, from session_open(). */
int objects_init(void);

/** @return a new object with a wire handle of its own, NULL if there are too many. */
void *object_new(enum vgpu_handle_type type);

/** Called with every object that goes. */
extern void (*object_gone)(struct object *o);

/** Call @fn with every object of @type; it may delete that one. */
void objects_each(enum vgpu_handle_type type, void (*fn)(struct object *o, void *arg), void *arg);

/** Make @o's place free. */
void object_delete(void *o);

/** @return the object whose handle the worker named, NULL if there is none (any more). */
static inline void *object_by_handle(uint64_t wire)
{
	struct object *o = &objects[VGPU_HANDLE_INDEX(wire) % OBJECTS];

	return wire && __atomic_load_n(&o->wire, __ATOMIC_RELAXED) == wire ? o : NULL;
}

static inline uint64_t object_wire(const void *o)
{
	return ((const struct object *)o)->wire;
}

/** @return @p as an object of @type, NULL if it is none. */
static inline struct object *object_get(const void *p, enum vgpu_handle_type type)
{
	uintptr_t offset = (uintptr_t)p - (uintptr_t)objects;
	struct object *o = (struct object *)(uintptr_t)p;

	if (!objects || offset >= OBJECTS * sizeof(*o) || offset % sizeof(*o) || __atomic_load_n(&o->type, __ATOMIC_RELAXED) != type)
		return NULL;
	return o;
}

/** @return the wire handle of @p, 0 if it is no object of @type. */
static inline uint64_t object_handle(const void *p, enum vgpu_handle_type type)
{
	const struct object *o = object_get(p, type);

	return o ? o->wire : 0;
}

/** @return @p as a function or a kernel, NULL if it is neither. */
static inline struct object *object_function(const void *p)
{
	struct object *o = object_get(p, VGPU_H_KERNEL);

	return o ? o : object_get(p, VGPU_H_FUNCTION);
}

static inline uint64_t object_launchable(const void *p)
{
	const struct object *o = object_function(p);

	return o ? o->wire : 0;
}

#endif
