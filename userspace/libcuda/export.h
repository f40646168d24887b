/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_EXPORT_H
#define VGPU_EXPORT_H

/* The library is built with hidden visibility; this marks what programs see. */
#define VGPU_EXPORT	__attribute__((visibility("default")))

#endif
