// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "resolve.h"

/* The first entry whose name is not less than @name. */
static unsigned int lower_bound(const char *name)
{
	unsigned int low = 0, high = resolve_count;

	while (low < high) {
		unsigned int mid = low + (high - low) / 2;

		if (strcmp(resolve_table[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

enum resolve_result resolve(const char *name, int version, int per_thread, void **fn)
{
	const struct resolve_entry *plain = NULL, *own = NULL;
	unsigned int i = lower_bound(name), first = i;

	for (; i < resolve_count && !strcmp(resolve_table[i].name, name); i++) {
		const struct resolve_entry *e = &resolve_table[i];

		if (e->version > version)
			continue;
		if (e->per_thread)
			own = e;
		else
			plain = e;
	}
	*fn = NULL;
	if (i == first)
		return RESOLVE_UNKNOWN;
	if (per_thread && own)
		plain = own;
	if (!plain)
		return RESOLVE_TOO_OLD;
	*fn = plain->fn;
	return RESOLVE_FOUND;
}
