// SPDX-License-Identifier: Apache-2.0
/*
 * Images on their way in. A large one comes in parts, each copied out of the arena once into a buffer of the worker's own,
 * while the client fills the next chunk: memory that has been used before, since new memory costs as much as the copy.
 *
 * When the driver has had it (it makes a copy of its own) a thread gives the buffer's contents to the broker. That costs
 * two copies' time and nobody waits for it; it yields to everything else.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "../images.h"
#include "../log.h"
#include "worker.h"

#define HUGE		(2ull << 20)
#define SMALL		(64ull << 10)
#define POOL_BYTES	(32ull << 20)	/* buffers kept for the next image */
#define BACKLOG_BYTES	(128ull << 20)	/* waiting for the broker; with more, loads wait */
#define QUIET_NS	20000000ull	/* images come in a row: their client is not to be disturbed */
#define NICE		10

struct image_buffer {
	struct image_buffer *next;
	uint64_t room, size, guess;
	unsigned char *at;
};

struct upload {
	uint64_t handle, size, at, began;
	uint64_t counted;		/* in `uploading` */
	struct image_buffer *buffer;	/* NULL: no memory; the load will say so */
};

static struct upload uploads[VGPU_UPLOADS];	/* size 0: none. The dispatching thread's */
static uint64_t begun, uploading;
static uint64_t last_part_ns;			/* atomic */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more, less, wanted;
	struct image_buffer *pool, *first, **end;
	uint64_t pooled, backlog;
	uint64_t ahead;			/* bytes of a buffer to make ready for the next image; 0: none */
	bool started, preparing;
} store = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .less = PTHREAD_COND_INITIALIZER,
	    .wanted = PTHREAD_COND_INITIALIZER,
	    .end = &store.first };

/* --- buffers ------------------------------------------------------------------------------------------------------- */

static void buffer_delete(struct image_buffer *b)
{
	munmap(b->at, b->room);
	free(b);
}

static struct image_buffer *buffer_fresh(uint64_t room, bool huge)
{
	struct image_buffer *b = malloc(sizeof(*b));

	if (!b)
		return NULL;
	b->room = room;
	b->at = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->at == MAP_FAILED) {
		free(b);
		return NULL;
	}
	if (huge)
		madvise(b->at, room, MADV_HUGEPAGE);
	return b;
}

static struct image_buffer *buffer_new(uint64_t size)
{
	uint64_t unit = size < HUGE / 2 ? SMALL : HUGE, room = (size + IMAGE_PAD + unit - 1) / unit * unit;
	struct image_buffer *b, **p;

	pthread_mutex_lock(&store.lock);
	for (p = &store.pool; (b = *p); p = &b->next) {
		if (b->room >= room && b->room / 4 <= room) {
			*p = b->next;
			store.pooled -= b->room;
			break;
		}
	}
	pthread_mutex_unlock(&store.lock);
	if (!b)
		b = buffer_fresh(room, unit == HUGE);
	if (!b)
		return NULL;
	b->size = size;
	b->guess = 0;
	return b;
}

/* The oldest of the pool make room, so that a run of large images does not find it full of small ones. */
static void buffer_put(struct image_buffer *b)
{
	struct image_buffer *out = NULL, **p;

	pthread_mutex_lock(&store.lock);
	b->next = store.pool;
	store.pool = b;
	store.pooled += b->room;
	while (store.pooled > POOL_BYTES) {
		for (p = &store.pool; (*p)->next; p = &(*p)->next)
			;
		store.pooled -= (*p)->room;
		(*p)->next = out;
		out = *p;
		*p = NULL;
	}
	pthread_mutex_unlock(&store.lock);
	while ((b = out)) {
		out = b->next;
		buffer_delete(b);
	}
}

/* Large images come in a row, of much the same size: the next one's memory is made while this one comes. */
static void *keep_preparing(void *arg)
{
	struct image_buffer *b;
	uint64_t room;

	for (;;) {
		pthread_mutex_lock(&store.lock);
		while (!store.ahead)
			pthread_cond_wait(&store.wanted, &store.lock);
		room = store.ahead;
		store.ahead = 0;
		for (b = store.pool; b && (b->room < room || b->room / 4 > room); b = b->next)
			;
		pthread_mutex_unlock(&store.lock);
		b = b ? NULL : buffer_fresh(room, true);
		if (!b)
			continue;
		/* In small steps: meanwhile the dispatching thread can map nothing. */
		for (uint64_t at = 0; at < room; at += HUGE)
			madvise(b->at + at, HUGE, MADV_POPULATE_WRITE);
		buffer_put(b);
	}
	return NULL;
}

static void prepare(uint64_t room)
{
	pthread_t t;

	pthread_mutex_lock(&store.lock);
	if (!store.preparing) {
		store.preparing = !pthread_create(&t, NULL, keep_preparing, NULL);
		if (store.preparing)
			pthread_detach(t);
	}
	store.ahead = room;
	pthread_cond_signal(&store.wanted);
	pthread_mutex_unlock(&store.lock);
}

/* --- to the broker ------------------------------------------------------------------------------------------------- */

/* Under the lock: until no more parts come, or too much waits. */
static void wait_for_quiet(void)
{
	uint64_t now, last;

	while (store.backlog <= BACKLOG_BYTES / 2) {
		now = log_now_ns();
		last = __atomic_load_n(&last_part_ns, __ATOMIC_RELAXED);
		if (now >= last + QUIET_NS)
			break;
		pthread_mutex_unlock(&store.lock);
		nanosleep(&(struct timespec){ .tv_nsec = last + QUIET_NS - now }, NULL);
		pthread_mutex_lock(&store.lock);
	}
}

static void *keep_storing(void *arg)
{
	struct image_buffer *b;

	/* This thread's alone. */
	sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 });
	setpriority(PRIO_PROCESS, 0, NICE);
	for (;;) {
		pthread_mutex_lock(&store.lock);
		while (!store.first)
			pthread_cond_wait(&store.more, &store.lock);
		wait_for_quiet();
		b = store.first;
		store.first = b->next;
		if (!store.first)
			store.end = &store.first;
		pthread_mutex_unlock(&store.lock);

		image_store(b->at, b->size, b->guess);

		pthread_mutex_lock(&store.lock);
		store.backlog -= b->room;
		pthread_cond_signal(&store.less);
		pthread_mutex_unlock(&store.lock);
		buffer_put(b);
	}
	return NULL;
}

/* The buffer is its own from here on. */
static void buffer_store(struct image_buffer *b)
{
	pthread_t t;

	pthread_mutex_lock(&store.lock);
	if (!store.started) {
		store.started = !pthread_create(&t, NULL, keep_storing, NULL);
		if (store.started)
			pthread_detach(t);
	}
	while (store.started && store.backlog && store.backlog + b->room > BACKLOG_BYTES)
		pthread_cond_wait(&store.less, &store.lock);
	if (!store.started) {
		pthread_mutex_unlock(&store.lock);
		buffer_put(b);
		return;
	}
	store.backlog += b->room;
	b->next = NULL;
	*store.end = b;
	store.end = &b->next;
	pthread_cond_signal(&store.more);
	pthread_mutex_unlock(&store.lock);
}

void image_loaded(struct image *image, uint64_t guess)
{
	struct image_buffer *b = image->buffer;

	if (!b)
		return;
	image->buffer = NULL;
	image->data = NULL;
	b->guess = guess;
	if (guess)
		buffer_store(b);
	else
		buffer_put(b);
}

void image_buffer_put(struct image_buffer *b)
{
	buffer_put(b);
}

/* --- from the client ----------------------------------------------------------------------------------------------- */

static struct upload *upload_find(uint64_t handle)
{
	unsigned int i;

	for (i = 0; i < VGPU_UPLOADS; i++)
		if (uploads[i].size && uploads[i].handle == handle)
			return &uploads[i];
	return NULL;
}

static void upload_forget(struct upload *u)
{
	if (u->buffer)
		buffer_put(u->buffer);
	uploading -= u->counted;
	*u = (struct upload){ .size = 0 };
}

static struct upload *upload_begin(struct worker *w, uint64_t handle, uint64_t size)
{
	struct upload *u = upload_find(handle);
	unsigned int i;

	for (i = 0; !u && i < VGPU_UPLOADS; i++)
		if (!uploads[i].size)
			u = &uploads[i];
	if (!u) {
		u = &uploads[0];
		for (i = 1; i < VGPU_UPLOADS; i++)
			if (uploads[i].began < u->began)
				u = &uploads[i];
	}
	if (u->size)
		upload_forget(u);
	*u = (struct upload){ .handle = handle, .size = size, .began = begun++ };
	if (w->image_bytes + uploading + size <= IMAGES_MAX)
		u->buffer = buffer_new(size);
	if (u->buffer && u->buffer->room >= HUGE && u->buffer->room <= POOL_BYTES / 2 &&
	    log_now_ns() - __atomic_load_n(&last_part_ns, __ATOMIC_RELAXED) < QUIET_NS)
		prepare(u->buffer->room);
	u->counted = u->buffer ? size : 0;
	uploading += u->counted;
	return u;
}

void worker_hand_image_part(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_image_part *q = m->payload;
	struct upload *u;
	const void *src;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	src = idm_server_arena(w->server, q->data.offset, q->data.size);
	u = src && !q->at && q->size && q->size <= IMAGE_MAX ? upload_begin(w, q->handle, q->size) : upload_find(q->handle);
	if (!src || !u || q->size != u->size || q->at != u->at || q->data.size > u->size - u->at) {
		worker_reply(w, &m->header, &q->call, IDM_ERROR_INVALID_SIZE, 0, NULL, 0);
		return;
	}
	__atomic_store_n(&last_part_ns, log_now_ns(), __ATOMIC_RELAXED);
	if (u->buffer)
		memcpy(u->buffer->at + u->at, src, q->data.size);
	u->at += q->data.size;
	worker_reply(w, &m->header, &q->call, 0, 0, NULL, 0);
}

struct image *image_uploaded(uint64_t handle, uint64_t size)
{
	struct upload *u = upload_find(handle);
	struct image *image = NULL;

	if (!u)
		return NULL;
	if (u->buffer && u->at == u->size && u->size == size)
		image = calloc(1, sizeof(*image));
	if (image) {
		image->buffer = u->buffer;
		image->data = u->buffer->at;
		image->size = size;
		memset(u->buffer->at + size, 0, IMAGE_PAD);
		u->buffer = NULL;
	}
	upload_forget(u);
	return image;
}

void image_uploads_forget(void)
{
	unsigned int i;

	for (i = 0; i < VGPU_UPLOADS; i++)
		if (uploads[i].size)
			upload_forget(&uploads[i]);
}
