/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are not carried: one clean refusal each, counted, named once. */
#ifndef VGPU_REFUSE_H
#define VGPU_REFUSE_H

#include "export.h"

struct refused_call {
	const char *name, *reason;
	unsigned int count;
};

/** Count, say once on stderr what was refused and why (VGPU_LOG=0 keeps quiet). @return CUDA_ERROR_NOT_SUPPORTED */
int refuse(struct refused_call *call);

extern struct refused_call *const refused_calls;
extern const unsigned int refused_count;

/** The same for a case of a call that is carried otherwise, e.g. one flag of it. */
#define REFUSE(name, reason) ({							\
	static struct refused_call refused_here = { name, reason, 0 };		\
	(CUresult)refuse(&refused_here);					\
})

#endif
