/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_LINK_H
#define VGPU_LINK_H

struct object;

/** Context @ctx has ended, and with it what is being linked in it. */
void link_forget(const struct object *ctx);

#endif
