// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that wait for memory which is being freed.
 *
 * The dispatching thread cannot wait for it: what a free comes after may be held up until another of the client's threads
 * has sent something. So the message is put by, and dispatched once more when something has been freed. Its thread sends
 * nothing meanwhile, since it waits for the reply.
 */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

#define PARKED_MAX	64	/* at a time. Those beyond are made to wait, with all the client's threads */

/** struct parked - @until: the frees that were begun when the call came; @over: how many frees were over when it was tried */
struct parked {
	struct idm_message message;
	uint64_t until, over;
	struct parked *next;
	_Alignas(16) unsigned char payload[];
};

/* All of it is the dispatching thread's. */
static struct {
	struct parked *head, **tail;
	unsigned int count;
	const struct idm_message *message;	/* what is dispatched, if it may be put by */
	struct parked *again;			/* and its copy, if it has been or is to be */
	uint64_t over;
} park = { .tail = &park.head };

__thread bool park_taken;

static bool may_wait(const struct idm_message *m)
{
	const struct vgpu_call *call = m->payload;

	/* With something in @reserved it is a capture's, which has its own order. */
	if (m->header.flags & IDM_FLAG_POSTED || call->reserved)
		return false;
	switch (m->header.type) {
	case VGPU_MSG_cuMemAlloc_v2:
	case VGPU_MSG_cuMemAllocPitch_v2:
	case VGPU_MSG_cuMemAllocAsync:
	case VGPU_MSG_cuMemAllocFromPoolAsync:
	case VGPU_MSG_cuMemCreate:
	case VGPU_MSG_cuMemGetInfo_v2:
		return true;
	default:
		return false;
	}
}

void park_begin(const struct idm_message *m)
{
	park.message = may_wait(m) ? m : NULL;
	park.over = fence_frees_over();
}

void park_end(void)
{
	struct parked *p = park.again;

	park.message = NULL;
	park.again = NULL;
	if (!p)
		return;
	if (!park_taken) {
		park.count--;
		free(p);
		return;
	}
	park_taken = false;
	p->over = park.over;
	p->next = NULL;
	*park.tail = p;
	park.tail = &p->next;
}

static bool take(void)
{
	const struct idm_message *m = park.message;
	struct parked *p;

	if (!park.again) {
		p = m && park.count < PARKED_MAX ? malloc(sizeof(*p) + m->header.payload_len) : NULL;
		if (!p)
			return false;
		p->message = (struct idm_message){ m->header, p->payload };
		memcpy(p->payload, m->payload, m->header.payload_len);
		p->until = fence_frees_begun();
		park.again = p;
		park.count++;
	}
	park_taken = true;
	return true;
}

bool park_or_drain(struct worker *w, bool (*over)(uint64_t count))
{
	if (over(park.again ? park.again->until : fence_frees_begun()))
		return fence_frees_over() != park.over;
	if (take())
		return false;
	fence_drain_frees(w);
	return true;
}

bool park_next(struct idm_message *m)
{
	uint64_t over;

	if (!park.head)
		return false;
	over = fence_frees_over();
	for (struct parked **p = &park.head, *q; (q = *p); p = &q->next) {
		if (q->over == over)
			continue;
		*p = q->next;
		if (!q->next)
			park.tail = p;
		park.again = q;
		*m = q->message;
		return true;
	}
	return false;
}

bool park_waiting(void)
{
	return park.head;
}
