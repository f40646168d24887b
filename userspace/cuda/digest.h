/* SPDX-License-Identifier: Apache-2.0 */
/* What an image is called in a zone's cache: SHA-256 of its bytes, by OpenSSL. Used by shim and broker. */
#ifndef VGPU_DIGEST_H
#define VGPU_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES	32

struct digest;

struct digest *digest_new(void);
void digest_add(struct digest *d, const void *data, size_t len);
void digest_finish(struct digest *d, uint8_t out[DIGEST_BYTES]);	/* frees it */

/**
 * A number that different images hardly share, from a few samples: worth asking about before a digest is made of all
 * the bytes, and worth nothing as proof.
 */
uint64_t digest_guess(const void *data, size_t len);

#endif
