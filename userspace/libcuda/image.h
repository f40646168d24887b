/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_IMAGE_H
#define VGPU_IMAGE_H

#include <stddef.h>

#define IMAGE_MAX	(1ull << 31)	/* nothing larger is an image */

enum image_kind { IMAGE_NONE, IMAGE_FATBIN, IMAGE_ELF, IMAGE_PTX, IMAGE_NEEDS_LINKER };

/** struct image - what a program handed over as code, without its wrapper. */
struct image {
	enum image_kind kind;
	const void *data;
	size_t size;
};

/**
 * Find out what @code is and how long: nobody says. Wrapper (version 1 and 2), fatbin, ELF64 or PTX text.
 * @readable: bytes known to be readable at @code; SIZE_MAX if unknown. Nothing beyond is read.
 * @return IMAGE_NONE: no image; IMAGE_NEEDS_LINKER: separately compiled parts that were never linked
 */
enum image_kind image_measure(const void *code, size_t readable, struct image *out);

#endif
