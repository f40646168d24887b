/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and events that other processes have, too. */
#ifndef SOFTGPU_SHARE_INTERNAL_H
#define SOFTGPU_SHARE_INTERNAL_H

#include "softgpu.h"

enum sg_share_kind { SG_SHARE_MEMORY = 1, SG_SHARE_EVENT, SG_SHARE_PHYSICAL, SG_SHARE_POOL, SG_SHARE_POINTER };

/**
 * struct sg_name - the 64 bytes by which another process finds what is shared.
 * @pid, @fd, @inode: where the memfd is open; nobody believes them without a look at the memfd itself
 * @key:  random; what tells one from another
 * @pool: of SG_SHARE_POINTER: half the key of the pool it is from
 */
struct sg_name {
	char magic[8];
	uint32_t kind, pid;
	uint64_t size, inode;
	int32_t fd;
	uint32_t device;
	uint8_t key[16];
	uint8_t pool[8];
};
_Static_assert(sizeof(struct sg_name) == 64, "a name is as long as CUDA's handles");

/**
 * A new memfd of @size bytes, pages, with a name. @pool: 8 bytes of SG_SHARE_POINTER, else NULL.
 * @return CUDA_SUCCESS and *@fd, which belongs to the caller
 */
CUresult sg_share_new(enum sg_share_kind kind, uint64_t size, int device, const uint8_t *pool, struct sg_name *name, int *fd);

/** Remember @name and @fd: whoever has the name finds the memfd, until sg_share_gone(). */
CUresult sg_share_publish(const struct sg_name *name, int fd);
void sg_share_gone(const struct sg_name *name);

/**
 * The memfd behind a name that another process published. @return CUDA_SUCCESS and *@fd, the caller's;
 * CUDA_ERROR_INVALID_CONTEXT: it is this process's own; CUDA_ERROR_INVALID_VALUE: there is none
 */
CUresult sg_share_find(const void *handle, enum sg_share_kind kind, struct sg_name *name, int *fd);

/** What a memfd that came as a descriptor says of itself. @return false if it is none of ours */
bool sg_share_describe(int fd, enum sg_share_kind kind, struct sg_name *name);

/** @return another descriptor for the same, -1 if there are too many */
int sg_share_copy(int fd);

/* ipc.c */
/** The heap has freed what was exported or imported at @base. */
void sg_ipc_freed(uint64_t base);
/** One import of @base less. @return false if there are more */
bool sg_ipc_last(uint64_t base);

/* shared_event.c */
struct sg_shared;
CUresult sg_shared_event_new(struct sg_event *ev);
void sg_shared_event_free(struct sg_event *ev);
CUresult sg_shared_event_record(struct sg_event *ev, struct sg_stream *s);
void sg_shared_event_reached(struct sg_event *ev, uint64_t number);
/** @return CUDA_SUCCESS: complete, CUDA_ERROR_NOT_READY, CUDA_ERROR_EXTERNAL_DEVICE: who was to complete it died */
CUresult sg_shared_event_query(struct sg_event *ev);
CUresult sg_shared_event_sync(struct sg_event *ev);
void sg_shared_event_wait(struct sg_event *ev, struct sg_stream *s);
void sg_shared_event_await(struct sg_stream *s, const struct sg_op *op);

#endif
