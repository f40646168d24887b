/* SPDX-License-Identifier: Apache-2.0 */
/* The range map: what an address is. Thread-safe. Knows nothing of sessions, so it is tested alone. */
#ifndef VGPU_RANGE_H
#define VGPU_RANGE_H

#include <stdbool.h>
#include <stdint.h>

enum range_kind {
	RANGE_DEVICE,		/* cuMemAlloc and its kin: device memory */
	RANGE_GLOBAL,		/* a module's variable: device memory that can't be freed */
	RANGE_PINNED,		/* arena memory from cuMemHostAlloc: one address on both sides */
	RANGE_MANAGED,		/* arena memory from cuMemAllocManaged */
	RANGE_RESERVED,		/* cuMemAddressReserve: device memory where something is mapped */
	RANGE_GRAPH,		/* device memory that a graph has, until no graph names it any more */
	RANGE_REGISTERED,	/* the program's own memory, cuMemHostRegister: pageable to us, or mapped.c's */
	RANGE_ALIAS,		/* arena memory that is mapped in its place: the GPU's address of it */
	RANGE_HOST,		/* the same, where host memory is or was mapped: the arena's, which has another address there */
	RANGE_IMPORTED,		/* cuIpcOpenMemHandle: another process's device memory */
	RANGE_KINDS
};
#define RANGE_ON_DEVICE(kind)	((kind) == RANGE_DEVICE || (kind) == RANGE_GLOBAL || (kind) == RANGE_RESERVED || \
				 (kind) == RANGE_GRAPH || (kind) == RANGE_IMPORTED)
#define RANGE_IN_ARENA(kind)	((kind) == RANGE_PINNED || (kind) == RANGE_MANAGED)

struct range {
	uint64_t base, size;
	uint64_t alias;		/* RANGE_ALIAS: what was registered */
	enum range_kind kind;
	uint32_t flags;		/* as given to the call that made it */
	uint32_t device;
	uint64_t id;		/* unique for the process's life; set by range_insert() */
	void *ctx;		/* the context it belongs to */
	void *owner;		/* RANGE_GLOBAL: module or library */
};

/**
 * What RANGE_OUTLIVED is in the way has been freed.
 * @return 0, -EEXIST if it overlaps another range, -EINVAL if it wraps or is empty, -ENOMEM
 */
int range_insert(const struct range *r);

#define RANGE_SYNC	0x80000000u	/* in flags, of RANGE_DEVICE and RANGE_MANAGED: blocking copies wait */
#define RANGE_OUTLIVED	0x40000000u	/* of RANGE_GRAPH: it is gone, and the memory is freed like any other */
/** Set or clear bits of the flags of the range that starts at @base. */
void range_mark(uint64_t base, uint32_t flag, bool on);

/** The range that holds @addr. */
bool range_find(uint64_t addr, struct range *out);

/** The range that starts at @base, RANGE_RESERVED, is RANGE_HOST from now on. @return false if it was not */
bool range_becomes_host(uint64_t base);

/** The range that holds all of [addr, addr + len), or the first one, where reserved addresses go on where others end. */
bool range_covers(uint64_t addr, uint64_t len, struct range *out);

/** Remove the range that starts at @base and is of a kind in @kinds (bits 1 << kind). */
bool range_remove(uint64_t base, unsigned int kinds, struct range *out);

/** Remove all ranges of @owner. */
void range_remove_owned(const void *owner);

/** Remove all ranges of context @ctx but registered ones; @each (may be NULL) is told, under the map's lock. */
void range_remove_context(const void *ctx, void (*each)(const struct range *r));

/** An id that no range has or gets. */
uint64_t range_new_id(void);

/** Number of ranges, for tests. */
unsigned long range_count(void);

#endif
