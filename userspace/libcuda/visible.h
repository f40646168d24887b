/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_VISIBLE_H
#define VGPU_VISIBLE_H

#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

/**
 * Which devices a program sees, and in what order: CUDA_VISIBLE_DEVICES, which NVIDIA's driver library reads itself.
 * @list: its value, NULL for all; @uuids: of the @n devices that there are; @out: room for VGPU_DEVICES_MAX numbers
 * @return how many it sees
 */
uint32_t visible_devices(const char *list, const uint8_t (*uuids)[16], uint32_t n, uint32_t *out);

#endif
