// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "logs.h"
#include "refuse.h"
#include "shim.h"

int refuse(struct refused_call *call)
{
	const char *log = getenv("VGPU_LOG");

	if (__atomic_fetch_add(&call->count, 1, __ATOMIC_RELAXED) == 0 && !(log && log[0] == '0'))
		fprintf(stderr, "vgpu: %s is not carried (%s): CUDA_ERROR_NOT_SUPPORTED\n", call->name, call->reason);
	logs_add("%s is not carried (%s): CUDA_ERROR_NOT_SUPPORTED", call->name, call->reason);
	thread_self()->refused++;
	return CUDA_ERROR_NOT_SUPPORTED;
}
