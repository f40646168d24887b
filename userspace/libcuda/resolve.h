/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RESOLVE_H
#define VGPU_RESOLVE_H

/** struct resolve_entry - one export as cuGetProcAddress knows it; sorted by name, version, per_thread. */
struct resolve_entry {
	const char *name;
	int version;
	int per_thread;	/* the _ptsz or _ptds form */
	void *fn;
};
extern const struct resolve_entry resolve_table[];
extern const unsigned int resolve_count;

enum resolve_result { RESOLVE_FOUND, RESOLVE_UNKNOWN, RESOLVE_TOO_OLD };

/**
 * The newest form of @name that is not newer than @version; with @per_thread its per-thread form where there is one.
 * @return RESOLVE_TOO_OLD if there are only newer forms
 */
enum resolve_result resolve(const char *name, int version, int per_thread, void **fn);

#endif
