/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device addresses that belong to this session: allocations and module globals. Copies and frees of anything
 * else are refused here, since with unified addressing a driver may take a stray address for the worker's own
 * memory. A treap by address: disjoint ranges, logarithmic whatever order a client allocates in.
 */
#ifndef WORKER_RANGES_H
#define WORKER_RANGES_H

#include <stdbool.h>
#include <stdint.h>

enum range_kind { RANGE_ALLOC, RANGE_ASYNC, RANGE_GLOBAL, RANGE_MAPPED,
		  RANGE_GRAPH /* a graph's memory */, RANGE_OUTLIVED /* that of a graph that is gone */, RANGE_IMPORT /* another session's */ };

struct range {
	uint64_t base, size;
	uint64_t charged;	/* bytes of quota it holds */
	uint64_t shared;	/* the broker's number of it if other sessions may have it, too, else 0 */
	uint64_t owner;		/* handle of the context or module it ends with, 0: none */
	enum range_kind kind;
	uint32_t priority;
	struct range *left, *right;
};

struct range_map {
	struct range *root;
	uint64_t seed;
	void (*gone)(uint64_t shared);	/* told by range_remove_owner(); may be NULL */
	uint32_t count;
	uint64_t displaced;		/* charge of what range_add() has removed; the caller takes it */
};

/** @return 0, -EINVAL empty or wrapping, -EEXIST overlaps another, -ENOMEM */
int range_add(struct range_map *m, uint64_t base, uint64_t size, enum range_kind kind, uint64_t owner,
	      uint64_t charged);

/** @return the range that holds @addr, NULL if none does. */
struct range *range_find(const struct range_map *m, uint64_t addr);

/** @return the lowest range of @kind that starts at @addr or above, NULL if there is none. */
struct range *range_next(const struct range_map *m, uint64_t addr, enum range_kind kind);

/** Remove the range that starts at @base. @return its charge in *@charged and true, or false. */
bool range_remove(struct range_map *m, uint64_t base, uint64_t *charged);

/** Is all of [addr, addr + len) inside ranges (several, if they touch)? len 0: the address alone counts. */
bool range_covers(const struct range_map *m, uint64_t addr, uint64_t len);

/** Remove all with that owner. @return what they were charged together. */
uint64_t range_remove_owner(struct range_map *m, uint64_t owner);

void range_map_free(struct range_map *m);

#endif /* WORKER_RANGES_H */
