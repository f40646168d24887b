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

bool image_maybe_stored(uint64_t guess, uint64_t size)
{
	int fd;

	return control_image(WORKER_IMAGE_MAYBE, size, guess, NULL, &fd) == 1;
}

struct image *image_store(const void *src, uint64_t size, uint64_t guess)
{
	struct image *image;
	void *to;
	int fd;

	if (!guess || size < VGPU_STORED_LEAST || control_image(WORKER_IMAGE_NEW, size, guess, NULL, &fd) != 1 || fd < 0)
		return NULL;
	image = calloc(1, sizeof(*image));
	to = image ? mmap(NULL, image_room(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) : MAP_FAILED;
	if (to != MAP_FAILED) {
		memcpy(to, src, size);
		munmap(to, image_room(size));
		image->data = map_readable(fd, size);
	}
	close(fd);
	if (!image || !image->data) {
		free(image);
		return NULL;
	}
	image->size = size;
	image->mapped = image_room(size);
	control_tell(WORKER_IMAGE_FILLED, 0, 0, NULL);
	return image;
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
	if (image->mapped)
		munmap(image->data, image->mapped);
	else
		free(image->data);
	free(image);
}

void worker_hand_image_maybe(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_image_maybe *q = m->payload;
	struct vgpu_image_maybe_reply rp = { 0 };

	if (!payload_is(w, m, sizeof(*q)))
		return;
	rp.maybe = image_maybe_stored(q->guess, q->size);
	worker_reply(w, &m->header, &q->call, 0, 0, &rp, sizeof(rp));
}
