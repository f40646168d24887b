/* SPDX-License-Identifier: Apache-2.0 */
/* What texture and surface instructions carry besides four operands. */
#ifndef SOFTGPU_PTX_TEX_H
#define SOFTGPU_PTX_TEX_H

#include <stdbool.h>
#include <stdint.h>

enum surface_mode { SURFACE_TRAP, SURFACE_CLAMP, SURFACE_ZERO };
enum surface_op { SURFACE_ADD, SURFACE_MIN, SURFACE_MAX, SURFACE_AND, SURFACE_OR };
enum texture_asks {
	ASKS_WIDTH, ASKS_HEIGHT, ASKS_DEPTH, ASKS_TYPE, ASKS_ORDER, ASKS_NORMALIZED, ASKS_LAYERS, ASKS_LEVELS, ASKS_SAMPLES,
	ASKS_LAYOUT,
};

/**
 * struct tex - the handle is the instruction's operand a.
 * @value: destinations, or what is stored; NO_VALUE: not wanted
 * @coord: without the layer, which is in @layer
 * @bytes: of one value of a surface access; a register has 2 for 1
 */
#define NO_VALUE 0xffffffffu
struct tex {
	uint8_t shape, dims, component, mode, op, asks, bytes, nvalues;
	bool layered, fetch, has_detail, has_gradient, is_signed;
	uint32_t value[4], coord[3], layer, detail, dx[3], dy[3];
};

#endif /* SOFTGPU_PTX_TEX_H */
