// SPDX-License-Identifier: Apache-2.0
/*
 * Images on their way to the worker: inside the message, in parts through the arena, or only named, if another process of
 * this zone has sent the same before. The worker tells guesses at what has been sent when the session opens, and what is
 * new with each answer to a load: so nothing is asked on the way, and an image is read for its digest only when that may
 * save sending it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "staging.h"
#include "upload.h"

/* --- what the zone has sent --- */

#define KNOWN_SLOTS	16384u	/* more guesses than images fit into the broker's cache; 0: free */

static struct {
	pthread_mutex_t lock;
	struct idm_pending asked;
	struct vgpu_image_news first;
	bool waiting;
	uint32_t heard, n;
	uint64_t *slots;
} known = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Full, or without memory, it forgets: then images are sent that need not be. */
static void learn(const struct vgpu_image_news *news)
{
	uint32_t count = news->count < VGPU_IMAGE_NEWS ? news->count : VGPU_IMAGE_NEWS;

	if (news->heard <= known.heard || !count)
		return;
	known.heard = news->heard;
	if (!known.slots)
		known.slots = calloc(KNOWN_SLOTS, sizeof(*known.slots));
	if (!known.slots)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = news->guess[i] % KNOWN_SLOTS;

		while (known.slots[at] && known.slots[at] != news->guess[i])
			at = (at + 1) % KNOWN_SLOTS;
		if (!known.slots[at] && ++known.n > KNOWN_SLOTS / 4 * 3) {
			memset(known.slots, 0, KNOWN_SLOTS * sizeof(*known.slots));
			known.n = 0;
			return;
		}
		known.slots[at] = news->guess[i];
	}
}

void upload_init(void)
{
	struct vgpu_image_known rq = { .call.thread = thread_self()->number };
	struct iovec iov = { &rq, sizeof(rq) };

	known.asked = (struct idm_pending){ .reply = &known.first, .reply_cap = sizeof(known.first) };
	known.waiting = !idm_submit(shim.client, VGPU_MSG_image_known, &iov, 1, &known.asked);
}

/* The rest of a long list, which nobody has waited for yet. */
static bool ask_more(struct vgpu_image_news *news)
{
	struct vgpu_image_known rq = { .call.thread = thread_self()->number, .known = known.heard };

	return call_reply(VGPU_MSG_image_known, &rq, sizeof(rq), news, sizeof(*news)) == CUDA_SUCCESS;
}

struct load {
	struct idm_pending pending;
	struct thread *thread;		/* that loaded it */
	struct load *next, **at;	/* in `unheard`; NULL: not there */
	struct vgpu_load_reply reply;
};

static struct load *unheard;		/* whose answer nobody has looked at yet. Under known.lock */
static unsigned int unheard_loads;

static void heed(const struct vgpu_load_reply *reply)
{
	if (!known.waiting)
		learn(&reply->news);
}

static void hear(struct load *l)
{
	if (l->pending.reply_len == sizeof(l->reply))
		heed(&l->reply);
	unheard_loads--;
	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	l->at = NULL;
}

/* What has come since, without waiting. */
static void hear_all(void)
{
	struct load *l, *next;

	for (l = unheard; l; l = next) {
		next = l->next;
		if (idm_test(shim.client, &l->pending))
			hear(l);
	}
}

/* @heard: so much of what the worker knows has been looked at */
static bool maybe_there(uint64_t guess, uint32_t *heard)
{
	bool there = false;

	pthread_mutex_lock(&known.lock);
	if (known.waiting) {
		struct vgpu_image_news *news = &known.first;
		bool more = !idm_wait(shim.client, &known.asked) && known.asked.reply_len == sizeof(*news);

		known.waiting = false;
		while (more) {
			learn(news);
			more = news->count == VGPU_IMAGE_NEWS && ask_more(news) && news->count;
		}
	}
	hear_all();
	*heard = known.heard;
	for (uint32_t at = guess % KNOWN_SLOTS; known.slots && known.slots[at]; at = (at + 1) % KNOWN_SLOTS)
		if (known.slots[at] == guess) {
			there = true;
			break;
		}
	pthread_mutex_unlock(&known.lock);
	return there;
}

/* --- sending --- */

static CUresult submit_load(struct load **out, const struct iovec *iov, int n)
{
	struct load *l = malloc(sizeof(*l));
	int err;

	if (!l)
		return CUDA_ERROR_OUT_OF_MEMORY;
	l->pending = (struct idm_pending){ .reply = &l->reply, .reply_cap = sizeof(l->reply) };
	l->thread = thread_self();
	err = idm_submit(shim.client, VGPU_MSG_cuModuleLoadData, iov, n, &l->pending);
	if (err) {
		free(l);
		return session_failed(err);
	}
	l->thread->posted++;
	pthread_mutex_lock(&known.lock);
	l->next = unheard;
	l->at = &unheard;
	if (l->next)
		l->next->at = &l->next;
	unheard = l;
	unheard_loads++;
	pthread_mutex_unlock(&known.lock);
	*out = l;
	return CUDA_SUCCESS;
}

bool load_there(struct load *l)
{
	return idm_test(shim.client, &l->pending);
}

CUresult load_answer(struct load *l)
{
	bool there = load_there(l);
	int err = idm_wait(shim.client, &l->pending);
	CUresult r;

	if (!there)
		thread_self()->waited++;
	board_heard();
	pthread_mutex_lock(&known.lock);
	if (l->at)
		hear(l);
	pthread_mutex_unlock(&known.lock);
	r = err ? session_failed(err) : call_result(l->thread, &l->pending.response, false);
	free(l);
	return r;
}

static CUresult send_load(struct vgpu_load *rq, const struct iovec *iov, int n, const struct jit *j)
{
	size_t cap = sizeof(struct vgpu_load_reply) + 2 * (size_t)rq->log_size, len = 0;
	struct vgpu_load_reply head;
	char *reply = malloc(cap);
	CUresult r;

	if (!reply)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = call_replyv(VGPU_MSG_cuModuleLoadData, iov, n, reply, cap, &len);
	if (len >= sizeof(head)) {
		memcpy(&head, reply, sizeof(head));
		pthread_mutex_lock(&known.lock);
		heed(&head);
		pthread_mutex_unlock(&known.lock);
		jit_logs(j, reply + sizeof(head), len - sizeof(head), head.error_len, head.info_len);
	}
	free(reply);
	return r;
}

/* @return false if it is not there after all */
static bool by_name(struct vgpu_load *rq, const struct image *image, const struct jit *j, CUresult *r)
{
	struct iovec iov = { rq, sizeof(*rq) };
	struct digest *d = digest_new();

	if (!d)
		return false;
	digest_add(d, image->data, image->size);
	digest_finish(d, rq->digest);
	rq->image = (struct vgpu_data){ VGPU_DATA_STORED, image->size };
	*r = send_load(rq, &iov, 1, j);
	return *r != CUDA_ERROR_FILE_NOT_FOUND;
}

/* In parts, so that the worker empties one chunk while the next is filled. A failure shows when it is loaded. */
static CUresult send_parts(const struct vgpu_load *rq, const struct image *image)
{
	struct vgpu_image_part part = { .call = rq->call, .handle = rq->handle, .size = image->size };
	CUresult r;

	part.call.reserved = VGPU_CALL_UNREAD;

	while (part.at < image->size) {
		struct slot *s = staging_get(true, 0, STAGING_NO_STREAM, &r);

		if (!s)
			return r;
		part.data = (struct vgpu_data){ s->offset, image->size - part.at };
		if (part.data.size > SLOT_SIZE)
			part.data.size = SLOT_SIZE;
		memcpy(s->base, (const char *)image->data + part.at, part.data.size);
		r = staging_submit(s, STAGING_NO_STREAM, VGPU_MSG_image_part, &part, sizeof(part));
		if (r != CUDA_SUCCESS) {
			staging_put(s);
			return r;
		}
		staging_leave(s);
		part.at += part.data.size;
	}
	return CUDA_SUCCESS;
}

/* Answers that nobody takes may not fill the ring: then the worker would stand still. */
static bool many_unheard(void)
{
	bool many;

	pthread_mutex_lock(&known.lock);
	many = unheard_loads >= idm_reply_max(shim.client) / sizeof(struct vgpu_load_reply) / 4;
	if (many) {
		hear_all();
		many = unheard_loads >= idm_reply_max(shim.client) / sizeof(struct vgpu_load_reply) / 4;
	}
	pthread_mutex_unlock(&known.lock);
	return many;
}

CUresult upload(struct vgpu_load *rq, const struct image *image, const struct jit *j, struct load **later)
{
	struct iovec iov[2] = { { rq, sizeof(*rq) }, { (void *)image->data, image->size } };
	int n = 2;
	CUresult r;

	if (thread_self()->in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	rq->image = (struct vgpu_data){ VGPU_DATA_INLINE, image->size };
	if (image->size >= VGPU_STORED_LEAST) {
		rq->guess = digest_guess(image->data, image->size);
		if (maybe_there(rq->guess, &rq->known) && by_name(rq, image, j, &r))
			return r;
	}
	if (image->size >= VGPU_STORED_LEAST || image->size > shim.inline_max) {
		r = send_parts(rq, image);
		if (r != CUDA_SUCCESS)
			return r;
		rq->image = (struct vgpu_data){ VGPU_DATA_UPLOADED, image->size };
		n = 1;
	}
	if (!later || many_unheard())
		return send_load(rq, iov, n, j);
	rq->call.reserved = VGPU_CALL_UNREAD;
	return submit_load(later, iov, n);
}
