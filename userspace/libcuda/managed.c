// SPDX-License-Identifier: Apache-2.0
/*
 * __managed__ variables: host and device use them by the same address, where the driver has placed them. Pages of our
 * own lie there. As on every device whose CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS is 0 (which is what we say),
 * the program may touch them only while it has waited for the device, so it is enough to carry what the program
 * changed to the device before the next thing it does, and the device's value back when the program has waited.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "capture.h"
#include "copy.h"
#include "managed.h"
#include "memory.h"
#include "reserve.h"

#define PULL_STREAM	2	/* the thread's own, which waits for no other one but the legacy stream */

struct variable {
	uint64_t base, size;
	unsigned char *known;		/* the value that both sides have */
	unsigned char *fetched;
	const struct object *library;
	struct variable *next;
};

unsigned int managed_variables;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct variable *variables;
static bool used;			/* by the device, since the last time it was asked */

static CUresult ask(struct object *library, const char *name, void *contents, size_t size,
		    struct vgpu_global_reply *reply)
{
	struct vgpu_get_managed rq = { .parent = library->wire, .name_len = strlen(name) };
	struct iovec iov[2] = { { &rq, sizeof(rq) }, { (void *)name, rq.name_len } };
	CUresult r = call_begin(&rq.call, false);
	size_t len = 0;

	if (r != CUDA_SUCCESS)
		return r;
	if (contents)
		rq.contents = (struct vgpu_data){ (char *)contents - (char *)idm_arena_base(shim.client), size };
	r = call_replyv(VGPU_MSG_cuLibraryGetManaged, iov, 2, reply, sizeof(*reply), &len);
	return r == CUDA_SUCCESS && len != sizeof(*reply) ? session_failed(-EPROTO) : r;
}

/* Pages of ours at the variable's place, and what is in it. Under the lock. */
static CUresult place(struct variable *v, struct object *library, const char *name)
{
	struct range range = { .base = v->base, .size = v->size, .kind = RANGE_GLOBAL, .owner = library,
			       .flags = CU_MEM_ATTACH_GLOBAL };
	uint64_t first = v->base & ~(uint64_t)(IDM_PAGE_SIZE - 1);
	struct vgpu_global_reply again;
	void *contents;
	CUresult r;

	v->known = malloc(v->size);
	v->fetched = malloc(v->size);
	if (!v->known || !v->fetched || reserve_addresses(v->base, v->size) ||
	    mprotect((void *)first, v->base + v->size - first, PROT_READ | PROT_WRITE))
		return CUDA_ERROR_OUT_OF_MEMORY;
	contents = idm_arena_alloc(shim.client, v->size);
	if (!contents)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = ask(library, name, contents, v->size, &again);
	if (r == CUDA_SUCCESS && (again.address != v->base || again.size != v->size))
		r = CUDA_ERROR_UNKNOWN;
	if (r == CUDA_SUCCESS) {
		memcpy(v->known, contents, v->size);
		memcpy((void *)v->base, contents, v->size);
		if (range_insert(&range))
			r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	idm_arena_free(shim.client, contents);
	return r;
}

static void drop(struct variable *v)
{
	free(v->known);
	free(v->fetched);
	free(v);
}

CUresult managed_variable(struct object *library, const char *name, CUdeviceptr *dptr, size_t *bytes)
{
	struct vgpu_global_reply reply;
	CUresult r = ask(library, name, NULL, 0, &reply);
	struct variable *v;

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	for (v = variables; v && v->base != reply.address; v = v->next)
		;
	if (!v && reply.size) {
		v = calloc(1, sizeof(*v));
		if (v) {
			*v = (struct variable){ .base = reply.address, .size = reply.size, .library = library };
			r = place(v, library, name);
		} else {
			r = CUDA_ERROR_OUT_OF_MEMORY;
		}
		if (r == CUDA_SUCCESS) {
			v->next = variables;
			variables = v;
			__atomic_add_fetch(&managed_variables, 1, __ATOMIC_RELAXED);
		} else if (v) {
			drop(v);
		}
	}
	pthread_mutex_unlock(&lock);
	if (r != CUDA_SUCCESS)
		return r;
	if (dptr)
		*dptr = reply.address;
	if (bytes)
		*bytes = reply.size;
	return CUDA_SUCCESS;
}

void managed_forget(const struct object *library)
{
	struct variable **p, *v;

	pthread_mutex_lock(&lock);
	for (p = &variables; (v = *p);) {
		if (v->library != library) {
			p = &v->next;
			continue;
		}
		*p = v->next;
		__atomic_sub_fetch(&managed_variables, 1, __ATOMIC_RELAXED);
		drop(v);
	}
	pthread_mutex_unlock(&lock);
}

void managed_push(uint64_t stream)
{
	struct variable *v;

	/* What is captured runs when its graph is launched, which comes here again. Its nodes are the program's. */
	if (capture_active(stream))
		return;
	pthread_mutex_lock(&lock);
	for (v = variables; v; v = v->next) {
		if (!memcmp((void *)v->base, v->known, v->size))
			continue;
		memcpy(v->known, (void *)v->base, v->size);
		copy_to_plain(v->base, v->known, v->size, stream);
	}
	used = true;
	pthread_mutex_unlock(&lock);
}

void managed_pull(void)
{
	struct variable *v;

	/* While this stream captures nothing can be had in it: a later wait brings what the device wrote. */
	if (thread_self()->in_callback || capture_active(PULL_STREAM))
		return;
	pthread_mutex_lock(&lock);
	own_begin();
	for (v = used ? variables : NULL; v; v = v->next) {
		unsigned char *mine = (unsigned char *)v->base;

		if (copy_from_plain(v->fetched, v->base, v->size, PULL_STREAM) != CUDA_SUCCESS)
			continue;
		/* What the program has changed and the device not seen yet stays. */
		for (uint64_t i = 0; i < v->size; i++) {
			if (mine[i] == v->known[i])
				mine[i] = v->fetched[i];
			v->known[i] = v->fetched[i];
		}
	}
	own_end();
	used = false;
	pthread_mutex_unlock(&lock);
}
