// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdlib.h>

#include "hook.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hook **hooks;		/* by index */
static bool *alive;
static uint32_t nhooks;
static struct hook *idle;

/* Under the lock. */
static struct hook *get(void)
{
	struct hook *h = idle, **all;
	bool *flags;

	if (h) {
		idle = h->next_idle;
		return h;
	}
	if (!(nhooks & (nhooks - 1))) {
		all = realloc(hooks, (nhooks ? 2 * nhooks : 1) * sizeof(*all));
		if (!all)
			return NULL;
		hooks = all;
		flags = realloc(alive, (nhooks ? 2 * nhooks : 1) * sizeof(*flags));
		if (!flags)
			return NULL;
		alive = flags;
	}
	h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->ack = callback_word();
	if (!h->ack) {
		free(h);
		return NULL;
	}
	h->index = nhooks;
	alive[nhooks] = false;
	hooks[nhooks++] = h;
	return h;
}

struct hook *hook_new(const struct hook *what)
{
	struct hook *h;

	if (!callback_listen(1))
		return NULL;
	pthread_mutex_lock(&lock);
	h = get();
	if (h) {
		h->fn = what->fn;
		h->data = what->data;
		h->gone = what->gone;
		h->stays = what->stays;
		h->gone_data = what->gone_data;
		h->ours = what->ours;
		alive[h->index] = true;
	}
	pthread_mutex_unlock(&lock);
	if (!h)
		callback_listen(-1);
	return h;
}

uint64_t hook_ack(const struct hook *h)
{
	return (char *)h->ack - (char *)idm_arena_base(shim.client);
}

struct hook *hook_find(uint64_t id)
{
	uint32_t i = id;
	struct hook *h = NULL;

	pthread_mutex_lock(&lock);
	if (id & VGPU_HOOK_ID && i < nhooks && alive[i])
		h = hooks[i];
	pthread_mutex_unlock(&lock);
	return h;
}

bool hook_ours(uint64_t id)
{
	const struct hook *h = hook_find(id);

	return !h || h->ours;
}

void hook_told(uint64_t id, uint32_t what)
{
	struct hook *h = hook_find(id);

	if (!h)
		return;
	if (what == VGPU_TOLD_RUN) {
		if (h->fn)
			h->fn(h->data);
		__atomic_fetch_add(h->ack, 1, __ATOMIC_RELEASE);
		return;
	}
	if (h->gone)
		(what == VGPU_TOLD_STAYS && h->stays ? h->stays : h->gone)(h->gone_data);
	pthread_mutex_lock(&lock);
	alive[h->index] = false;
	h->next_idle = idle;
	idle = h;
	pthread_mutex_unlock(&lock);
	callback_listen(-1);
}
