/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session's handle table: exact 64-bit values, chosen by the client, to driver objects. A lookup compares the
 * whole value, so that a handle of another session, type or generation is nothing here and reaches no driver.
 * Used by the dispatching thread alone.
 */
#ifndef WORKER_HANDLES_H
#define WORKER_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

/**
 * struct handle
 * @value:  the handle, 0: free
 * @object: the driver's
 * @aux:    the worker's own record of it, by type; may be NULL
 * @ctx:    handle of the context it ends with, 0: none
 * @parent: handle of the module, library or kernel it ends with, 0: none
 * @failed: of a graph: CUresult of the first node that was to be added, had no answer, and is not there
 */
struct handle {
	uint64_t value;
	void *object, *aux;
	uint64_t ctx, parent;
	uint32_t failed;
	uint32_t refs;		/* of a user object, the client's own; of a green context, its device by number */
};

struct handle_table {
	struct handle *slots;
	uint32_t cap, used;
};

/** Could @h of type @t be entered? @return 0, -EINVAL wrong type or index, -EEXIST, -ENOMEM */
int handle_room(struct handle_table *t, uint64_t h, enum vgpu_handle_type type);

/** Enter it (handle_room() must have been asked). @return its slot, NULL as handle_room() says. */
struct handle *handle_add(struct handle_table *t, uint64_t h, enum vgpu_handle_type type, void *object);

/** @return the slot of @h if it is alive and of type @type, else NULL. */
struct handle *handle_find(const struct handle_table *t, uint64_t h, enum vgpu_handle_type type);

void handle_remove(struct handle_table *t, struct handle *e);

/** Remove all that @match says yes to; @match releases what hangs on them. Slots do not move meanwhile. */
void handle_purge(struct handle_table *t, bool (*match)(struct handle *e, void *arg), void *arg);

void handle_table_free(struct handle_table *t);

#endif /* WORKER_HANDLES_H */
