// SPDX-License-Identifier: Apache-2.0
/*
 * Memory and events between processes. A handle is a token that the broker has made (wire.h); a descriptor is a memfd that
 * holds one, sealed, so that it can be passed on, inherited and copied like any other, and says the same to everybody.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"
#include "ipc.h"
#include "memory.h"
#include "reserve.h"
#include "shim_gen.h"

#define SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* struct import - memory that cuIpcOpenMemHandle() gave, @count times. */
struct import {
	uint64_t base;
	unsigned int count;
	const struct object *ctx;
	struct import *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct import *imports;

/* --- descriptors --- */

static int token_file(const uint8_t token[VGPU_IPC_BYTES])
{
	int fd = memfd_create("vgpu-ipc", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (write(fd, token, VGPU_IPC_BYTES) != VGPU_IPC_BYTES || fcntl(fd, F_ADD_SEALS, SEALS))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Whatever the program has for a descriptor: nothing but a sealed file of just that size is looked into. */
static bool token_of(int fd, uint8_t token[VGPU_IPC_BYTES])
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & SEALS) == SEALS && !fstat(fd, &st) && st.st_size == VGPU_IPC_BYTES &&
	       pread(fd, token, VGPU_IPC_BYTES, 0) == VGPU_IPC_BYTES;
}

CUresult ipc_export(uint64_t wire, uint32_t device, void *out)
{
	struct vgpu_ipc rq = { .handle = wire, .flags = device };
	struct vgpu_ipc_token_reply reply;
	CUresult r = call_begin(&rq.call, false);
	int fd;

	if (r == CUDA_SUCCESS)
		r = call_reply(VGPU_MSG_cuMemExportToShareableHandle, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r != CUDA_SUCCESS)
		return r;
	fd = token_file(reply.token);
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	*(int *)out = fd;
	return CUDA_SUCCESS;
}

CUresult ipc_import(uint64_t wire, void *shareable, struct vgpu_ipc_memory_reply *reply)
{
	struct vgpu_ipc rq = { .handle = wire };
	CUresult r = call_begin(&rq.call, false);

	if (r != CUDA_SUCCESS)
		return r;
	if (!token_of((int)(intptr_t)shareable, rq.token))
		return CUDA_ERROR_INVALID_VALUE;
	r = call_reply(VGPU_MSG_cuMemImportFromShareableHandle, &rq, sizeof(rq), reply, sizeof(*reply));
	if (r == CUDA_SUCCESS && reply->device >= shim.ndevices)
		return CUDA_ERROR_INVALID_VALUE;
	return r;
}

/* --- memory --- */

/* Under the lock. */
static struct import **import_at(uint64_t base)
{
	struct import **p;

	for (p = &imports; *p && (*p)->base != base; p = &(*p)->next)
		;
	return p;
}

/* The worker has mapped it: note it as what it is. Under the lock. */
static CUresult note(const struct vgpu_ipc_memory_reply *m, struct object *ctx, uint32_t kind, void *owner)
{
	struct range r = { .base = m->address, .size = m->size, .kind = (enum range_kind)kind, .ctx = ctx, .owner = owner,
			   .device = m->device };

	if (reserve_addresses(m->address, m->size)) {
		fprintf(stderr, "vgpu: another process's memory cannot be opened: it would lie at %#llx, %llu bytes, where the "
			"program has memory of its own\n", (unsigned long long)m->address, (unsigned long long)m->size);
		return CUDA_ERROR_MAP_FAILED;
	}
	return range_insert(&r) ? CUDA_ERROR_MAP_FAILED : CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuIpcOpenMemHandle_v2(CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags)
{
	struct vgpu_ipc rq = { .flags = Flags };
	CUresult r = call_begin(&rq.call, true);
	struct vgpu_ipc_memory_reply reply;
	struct import *m;

	if (r == CUDA_SUCCESS)
		r = capture_unsafe();
	if (r != CUDA_SUCCESS)
		return r;
	if (!pdptr || Flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(rq.token, &handle, sizeof(rq.token));
	pthread_mutex_lock(&lock);
	r = call_reply(VGPU_MSG_cuIpcOpenMemHandle_v2, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r != CUDA_SUCCESS)
		goto out;
	m = *import_at(reply.address);
	if (m) {
		m->count++;
		*pdptr = reply.address;
		goto out;
	}
	m = malloc(sizeof(*m));
	r = m ? note(&reply, context_current(thread_self()), RANGE_IMPORTED, NULL) : CUDA_ERROR_OUT_OF_MEMORY;
	if (r != CUDA_SUCCESS) {
		free(m);
		call_cuIpcCloseMemHandle(reply.address);
		goto out;
	}
	*m = (struct import){ .base = reply.address, .count = 1, .ctx = context_current(thread_self()), .next = imports };
	imports = m;
	*pdptr = reply.address;
out:
	pthread_mutex_unlock(&lock);
	return r;
}

VGPU_EXPORT CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags)
{
	return cuIpcOpenMemHandle_v2(pdptr, handle, Flags);
}

VGPU_EXPORT CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr dptr)
{
	CUresult r = session_check();
	struct import **p, *m;

	if (r == CUDA_SUCCESS)
		r = capture_unsafe();
	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	p = import_at(dptr);
	m = *p;
	if (!m) {
		pthread_mutex_unlock(&lock);
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (!--m->count) {
		/* Out of the map first, as in cuMemFree(). */
		range_remove(dptr, 1 << RANGE_IMPORTED, NULL);
		*p = m->next;
		free(m);
	}
	pthread_mutex_unlock(&lock);
	/* Who opens it again meanwhile finds it closed, or open once more: the worker counts, too. */
	return call_cuIpcCloseMemHandle(dptr);
}

void ipc_forget(const struct object *ctx)
{
	struct import **p, *m;

	pthread_mutex_lock(&lock);
	for (p = &imports; (m = *p);) {
		if (m->ctx != ctx) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		free(m);
	}
	pthread_mutex_unlock(&lock);
}

/* It is freed like memory of the program's own pools; imported again while it is there, it is the same. */
VGPU_EXPORT CUresult CUDAAPI cuMemPoolImportPointer(CUdeviceptr *ptr_out, CUmemoryPool pool,
						    CUmemPoolPtrExportData *shareData)
{
	struct object *o = object_get(pool, VGPU_H_MEMPOOL);
	struct vgpu_ipc rq = { .flags = 0 };
	CUresult r = call_begin(&rq.call, false);
	struct vgpu_ipc_memory_reply reply;
	struct range range;

	if (r != CUDA_SUCCESS)
		return r;
	if (!ptr_out || !shareData || !o || !o->pool.imported)
		return CUDA_ERROR_INVALID_VALUE;
	rq.handle = o->wire;
	memcpy(rq.token, shareData, sizeof(rq.token));
	pthread_mutex_lock(&lock);
	r = call_reply(VGPU_MSG_cuMemPoolImportPointer, &rq, sizeof(rq), &reply, sizeof(reply));
	if (r == CUDA_SUCCESS && range_find(reply.address, &range) && range.base == reply.address && range.owner == o) {
		/* The worker has it twice now, we once: a free is a free. */
		call_cuMemFree_v2(reply.address);
	} else if (r == CUDA_SUCCESS) {
		r = note(&reply, context_primary(reply.device), RANGE_DEVICE, o);
		if (r != CUDA_SUCCESS)
			call_cuMemFree_v2(reply.address);
	}
	if (r == CUDA_SUCCESS)
		*ptr_out = reply.address;
	pthread_mutex_unlock(&lock);
	return r;
}

/* --- events --- */

VGPU_EXPORT CUresult CUDAAPI cuIpcOpenEventHandle(CUevent *phEvent, CUipcEventHandle handle)
{
	struct vgpu_ipc rq = { .flags = 0 };
	CUresult r = call_begin(&rq.call, true);
	struct object *o;

	if (r != CUDA_SUCCESS)
		return r;
	if (!phEvent)
		return CUDA_ERROR_INVALID_VALUE;
	o = object_new(VGPU_H_EVENT);
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	rq.handle = o->wire;
	memcpy(rq.token, &handle, sizeof(rq.token));
	r = call_reply(VGPU_MSG_cuIpcOpenEventHandle, &rq, sizeof(rq), NULL, 0);
	if (r != CUDA_SUCCESS) {
		object_delete(o);
		return r;
	}
	o->ctx = context_current(thread_self());
	o->event.flags = CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING;
	o->event.shared = true;
	*phEvent = (CUevent)o;
	return CUDA_SUCCESS;
}
