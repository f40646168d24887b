// SPDX-License-Identifier: Apache-2.0
/*
 * Images that the broker keeps for this device (images.h there). What comes from there is read-only memory that other
 * clients of the same device have filled, and is checked like the client's own; what goes there is filled here once, and
 * from then on read-only here too.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../images.h"
#include "worker.h"

/* Private: a shared mapping of a file that was opened for writing would keep it from being sealed. */
static void *map_readable(int fd, uint64_t size)
{
	void *p = mmap(NULL, image_room(size), PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct image *image_stored(const uint8_t digest[32], uint64_t size)
{
	struct image *image;
	int fd;

	if (control_image(WORKER_IMAGE_GET, size, 0, digest, &fd) != 1 || fd < 0)
		return NULL;
	image = calloc(1, sizeof(*image));
	if (image) {
		image->data = map_readable(fd, size);
		image->size = size;
		image->mapped = image_room(size);
		if (!image->data) {
			free(image);
			image = NULL;
		}
	}
	close(fd);
	return image;
}

/* Quick, and no more than that: the broker makes a digest. */
static uint64_t sum_of(const unsigned char *p, uint64_t size)
{
	uint64_t sum = size, i, v;

	for (i = 0; i + 8 <= size; i += 8) {
		memcpy(&v, p + i, sizeof(v));
		sum = (sum ^ v) * 0x9e3779b97f4a7c15ull;
		sum ^= sum >> 32;
	}
	for (; i < size; i++)
		sum = (sum ^ p[i]) * 0x9e3779b97f4a7c15ull;
	return sum;
}

void image_store(const void *src, uint64_t size, uint64_t guess)
{
	uint64_t sum[4] = { sum_of(src, size) };
	void *to;
	int fd;

	if (size < VGPU_STORED_LEAST || control_image(WORKER_IMAGE_NEW, size, guess, (uint8_t *)sum, &fd) != 1 || fd < 0)
		return;
	to = mmap(NULL, image_room(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (to == MAP_FAILED)
		return;
	memcpy(to, src, size);
	munmap(to, image_room(size));
	control_tell(WORKER_IMAGE_FILLED, 0, 0, NULL);
}

struct image *image_private(const void *src, uint64_t size)
{
	struct image *image = calloc(1, sizeof(*image));

	if (!image)
		return NULL;
	image->data = malloc(size + IMAGE_PAD);
	if (!image->data) {
		free(image);
		return NULL;
	}
	memcpy(image->data, src, size);
	memset((char *)image->data + size, 0, IMAGE_PAD);
	image->size = size;
	return image;
}

void image_free(struct image *image)
{
	if (!image)
		return;
	if (image->buffer)
		image_buffer_put(image->buffer);
	else if (image->mapped)
		munmap(image->data, image->mapped);
	else
		free(image->data);
	free(image);
}

/* --- what the zone has sent ---------------------------------------------------------------------------------------- */

/* In the order in which the broker told. When it is full the first half goes, and with it goes only the saving. */
#define NEWS_MAX	4096u
static struct {
	pthread_mutex_t lock;
	uint64_t guess[NEWS_MAX];
	uint32_t n, gone;
} news = { .lock = PTHREAD_MUTEX_INITIALIZER };

void image_news(const uint64_t *guess, uint64_t count)
{
	uint64_t i;

	pthread_mutex_lock(&news.lock);
	for (i = 0; i < count; i++) {
		if (news.n == NEWS_MAX) {
			memmove(news.guess, news.guess + NEWS_MAX / 2, NEWS_MAX / 2 * sizeof(news.guess[0]));
			news.n -= NEWS_MAX / 2;
			news.gone += NEWS_MAX / 2;
		}
		news.guess[news.n++] = guess[i];
	}
	pthread_mutex_unlock(&news.lock);
}

void image_news_since(uint32_t known, struct vgpu_image_news *out)
{
	uint32_t from;

	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&news.lock);
	from = known > news.gone ? known - news.gone : 0;
	from = from < news.n ? from : news.n;
	out->count = news.n - from < VGPU_IMAGE_NEWS ? news.n - from : VGPU_IMAGE_NEWS;
	memcpy(out->guess, news.guess + from, out->count * sizeof(out->guess[0]));
	out->heard = news.gone + from + out->count;
	pthread_mutex_unlock(&news.lock);
}

void worker_hand_image_known(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_image_known *q = m->payload;
	struct vgpu_image_news rp;
	static bool told;
	int fd;

	if (!payload_is(w, m, sizeof(*q)))
		return;
	/* The broker's answer follows all that it knows; from then on it tells of itself. */
	if (!told)
		control_image(WORKER_IMAGE_KNOWN, 0, 0, NULL, &fd);
	told = true;
	image_news_since(q->known, &rp);
	worker_reply(w, &m->header, &q->call, 0, 0, &rp, sizeof(rp));
}
