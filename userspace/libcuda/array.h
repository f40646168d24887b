/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays and mipmapped arrays as the shim knows them. */
#ifndef VGPU_ARRAY_H
#define VGPU_ARRAY_H

#include "shim.h"

/** Bytes of an array's element, 0 if @array is no array. */
size_t array_element(CUarray array);

/** Is that box (x and width in bytes) inside @array, which is one? */
bool array_holds(CUarray array, size_t x, size_t y, size_t z, size_t width, size_t height, size_t depth);

/** A context has ended: its arrays, textures and surfaces with it. */
void array_forget(const struct object *ctx);
void texture_forget(const struct object *ctx);

#endif
