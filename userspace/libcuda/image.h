/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_IMAGE_H
#define VGPU_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#define IMAGE_MAX	(1ull << 31)	/* nothing larger is an image */

enum image_kind { IMAGE_NONE, IMAGE_FATBIN, IMAGE_ELF, IMAGE_PTX, IMAGE_NEEDS_LINKER };

/** struct image - what a program handed over as code, without its wrapper. */
struct image {
	enum image_kind kind;
	const void *data;
	size_t size;
	bool parts;	/* it is linked from parts, which the wrapper has, too, and a driver could link for others */
};

/**
 * Find out what @code is and how long: nobody says. Wrapper (version 1 and 2), fatbin, ELF64 or PTX text.
 * @readable: bytes known to be readable at @code; SIZE_MAX if unknown. Nothing beyond is read.
 * @return IMAGE_NONE: no image; IMAGE_NEEDS_LINKER: separately compiled parts that were never linked
 */
enum image_kind image_measure(const void *code, size_t readable, struct image *out);

/** struct image_device - what a device runs: compute capability @major.@minor; @ptx_only: and no machine code. */
struct image_device {
	int major, minor;
	bool ptx_only;
};

/**
 * Is loading @image, which image_measure() found, a matter of course: does it name code for just this device? PTX that
 * a compiler of the driver's would have to read first is none, but where it is all that a device takes.
 */
bool image_for(const struct image *image, const struct image_device *device);

/**
 * May kernels of @image, which image_measure() found, print? Code that prints names the function that does it, if it is not
 * compressed. Of an image larger than IMAGE_PRINTS_MAX, as libraries have, the answer is no, without a look.
 */
bool image_may_print(const struct image *image);
#define IMAGE_PRINTS_MAX	(1ull << 20)

#endif
