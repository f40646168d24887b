/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images (code for the GPU) that clients of a device have loaded, so that the next process of the same device need not
 * send them again. Never shared between devices, hence never between zones.
 *
 * An image lies in a memfd that its worker filled and that is sealed since: nobody can change it any more, and what it
 * is called is a digest that the broker itself made after that. A worker is never believed.
 *
 * What a device's images take is bounded (IMAGES_BYTES, IMAGES_MOST, files_left()), and so is what all take together.
 * An image counts until it has left the cache and every session that was given it has ended, since a worker cannot be made
 * to let go of a mapping.
 */
#ifndef BROKER_IMAGES_H
#define BROKER_IMAGES_H

#include <stdbool.h>
#include <stdint.h>

#define IMAGES_BYTES	(512ull << 20)	/* for each device */
#define IMAGES_MOST	2048u		/* for each device, each a descriptor */

/* Zero bytes must follow an image: whoever reads text counts on one. What its file is long, with them: */
#define IMAGE_PAD	16u
static inline uint64_t image_room(uint64_t size)
{
	return (size + IMAGE_PAD + 4095) & ~4095ull;
}

struct device;
struct session;
struct image_entry;

struct image_cache {
	struct image_entry *entries;
	uint64_t bytes;			/* that count */
	unsigned int count;
	uint64_t turn;			/* of making digests: devices take turns */
	uint64_t hits, stored;		/* images given out, images taken in */
};

/** Tell @s's worker the guesses at all images that are there, once; from now on it hears of each that comes. */
void images_tell(struct device *d, struct session *s);

/** @return the descriptor of a memfd with the image of this digest, -1 if there is none. It stays the cache's. */
int images_get(struct device *d, struct session *s, const uint8_t digest[32], uint64_t size);

/**
 * @return the descriptor of an empty memfd for @s to fill, -1 if it may not. One at a time for each session.
 * @sum: of all its bytes, by which the worker says that it is not another one with the same guess.
 */
int images_new(struct device *d, struct session *s, uint64_t guess, uint64_t size, uint64_t sum);

/** @s has filled the one it got last. */
void images_filled(struct device *d, struct session *s);

/** Drop the image that has not been used for longest of all devices' that nobody has. @return false if there is none */
bool images_spare(void);

/**
 * @d is to keep one descriptor more, of an image or of anything else: images that nobody has make room, its own, and
 * then those of whichever device. @return files_left()
 */
bool images_give_way(struct device *d);

void images_session_gone(struct device *d, struct session *s);
void images_device_gone(struct device *d);

/** Make digests, a little at a time. @return true if there is more to do. */
bool images_work(void);

#endif
