// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stddef.h>

#include "quota.h"

static struct quota_holder *first_waiting(struct quota *q)
{
	struct quota_holder *h, *first = NULL;

	for (h = q->holders; h; h = h->next)
		if (h->waiting && (!first || h->order < first->order))
			first = h;
	return first;
}

static void answer(struct quota_holder *h, uint64_t bytes)
{
	h->waiting = false;
	h->leased += bytes;
	h->quota->leased += bytes;
	h->quota->granted(h, bytes);
}

/* Serve the queue in order: a request behind the first never overtakes it, or a big one would starve. */
static void serve(struct quota *q, uint64_t now_ns)
{
	struct quota_holder *h, *o;

	while ((h = first_waiting(q))) {
		/* The limit may have been lowered below what is out. */
		uint64_t free = q->leased < q->limit ? q->limit - q->leased : 0;
		bool outstanding = false;

		if (h->min <= free) {
			uint64_t spare = 0;

			/* Whoever is served from a quota that others wait for gets no more than it needs. */
			if (h->want > h->min && h->round != h->order)
				spare = (h->want < free ? h->want : free) - h->min;
			answer(h, h->min + spare);
			continue;
		}
		if (h->round != h->order) {
			h->round = h->order;
			for (o = q->holders; o; o = o->next) {
				if (o == h || !o->leased || o->asked || o->frozen)
					continue;
				o->asked = true;
				q->reclaim(o);
			}
			q->deadline_ns = now_ns + QUOTA_ANSWER_NS;
		}
		for (o = q->holders; o; o = o->next)
			outstanding |= o->asked && o != h;
		if (outstanding && now_ns < q->deadline_ns)
			return;
		answer(h, 0);
	}
}

void quota_join(struct quota *q, struct quota_holder *h)
{
	*h = (struct quota_holder){ .quota = q, .next = q->holders };
	q->holders = h;
}

void quota_leave(struct quota_holder *h, uint64_t now_ns)
{
	struct quota *q = h->quota;
	struct quota_holder **p;

	if (!q)
		return;
	for (p = &q->holders; *p; p = &(*p)->next) {
		if (*p == h) {
			*p = h->next;
			break;
		}
	}
	q->leased -= h->leased;
	h->quota = NULL;
	serve(q, now_ns);
}

int quota_request(struct quota_holder *h, uint64_t min, uint64_t want, uint64_t now_ns)
{
	if (!min)
		return -EINVAL;
	if (h->waiting)
		return -EALREADY;
	h->waiting = true;
	h->min = min;
	h->want = want > min ? want : min;
	h->order = ++h->quota->order;
	serve(h->quota, now_ns);
	return 0;
}

int quota_return(struct quota_holder *h, uint64_t bytes, bool answer_to_reclaim, uint64_t now_ns)
{
	if (bytes > h->leased)
		return -EINVAL;
	h->leased -= bytes;
	h->quota->leased -= bytes;
	if (answer_to_reclaim)
		h->asked = false;
	serve(h->quota, now_ns);
	return 0;
}

int quota_adopt(struct quota_holder *h, uint64_t bytes)
{
	uint64_t all;

	if (__builtin_add_overflow(h->quota->leased, bytes, &all))
		return -EINVAL;
	h->quota->leased = all;
	h->leased += bytes;	/* is part of the sum */
	return 0;
}

void quota_move(struct quota_holder *from, struct quota_holder *to, uint64_t bytes)
{
	from->leased -= bytes;
	to->leased += bytes;
}

void quota_limit(struct quota *q, uint64_t limit, uint64_t now_ns)
{
	q->limit = limit;
	serve(q, now_ns);
}

uint64_t quota_tick(struct quota *q, uint64_t now_ns)
{
	serve(q, now_ns);
	if (!first_waiting(q))
		return UINT64_MAX;
	return q->deadline_ns > now_ns ? q->deadline_ns - now_ns : 0;
}
