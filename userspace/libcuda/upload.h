/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_UPLOAD_H
#define VGPU_UPLOAD_H

#include "image.h"
#include "jit.h"
#include "shim.h"

/** When the session opens: ask what the zone has sent. Nobody waits for the answer until it is needed. */
void upload_init(void);

/** struct load - one whose answer nobody has waited for. */
struct load;

/**
 * Have the worker load @image as @rq says; by name, if the broker has it already. The JIT's logs go to @j.
 * @later: NULL, or where a load may go whose answer can wait: load_answer()
 */
CUresult upload(struct vgpu_load *rq, const struct image *image, const struct jit *j, struct load **later);

/** Has the answer come? Does not wait. */
bool load_there(struct load *l);

/** What has come of it. @l is gone. */
CUresult load_answer(struct load *l);

#endif
