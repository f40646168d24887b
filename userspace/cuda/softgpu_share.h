/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the software GPU needs of a process that may make no files (the worker) to share memory with other processes.
 * NVIDIA's library has none of this: a program finds these functions with dlsym(), or does without.
 *
 * The software GPU shares by memfd: memory that is exported, the state of an interprocess event, and the name of a memory
 * pool lie in one each. A name is the 64 bytes of a CUipcMemHandle, CUipcEventHandle or CUmemPoolPtrExportData. Alone,
 * a name leads to the exporter's memfd by /proc; with a host, the name and the memfd travel side by side:
 *
 *	exporter	cuIpcGetMemHandle() gives a name		softgpu_share_take() the memfd that goes with it
 *	importer	softgpu_share_offer() of name and memfd		cuIpcOpenMemHandle() of that name
 *
 * For the calls that give and take a descriptor (cuMemExportToShareableHandle() and its kin) it is that descriptor, and
 * nothing of this is needed. Not thread-safe for one name: whoever takes and offers does one thing at a time.
 */
#ifndef SOFTGPU_SHARE_H
#define SOFTGPU_SHARE_H

#include <stdint.h>

#define SOFTGPU_NAME_BYTES	64

/**
 * struct softgpu_share_host
 * @memory: a new memfd of @bytes bytes, all zero, sealed against shrinking and growing; -1 if there is none to be had
 */
struct softgpu_share_host {
	int (*memory)(uint64_t bytes);
};

/** Before the first export or import: from now on no file is made or opened but by @host, which stays the caller's. */
void softgpu_share_host(const struct softgpu_share_host *host);

/** @return the memfd of what was exported under @name, the caller's from now on; -1 if it is none or was taken before */
int softgpu_share_take(const void *name);

/** The next open of @name finds @fd, which is the software GPU's from now on. */
void softgpu_share_offer(const void *name, int fd);

/**
 * struct softgpu_shared_event - an interprocess event's memfd. A recording that its process did not live to complete
 * is lost: whoever notices the death of process @recorder writes its number to @lost, and who waits is told.
 * @recorded:  how often the event was recorded, by all processes
 * @completed: the newest recording that is complete
 * @word:	 changes with @completed; a shared futex
 */
struct softgpu_shared_event {
	uint64_t recorded, completed;
	uint32_t word, recorder, lost, reserved;
};

#endif
