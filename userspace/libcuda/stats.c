// SPDX-License-Identifier: Apache-2.0
/* The one symbol that NVIDIA's library has not: what this process's calls have cost, for benchmarks. */
#include <errno.h>

#include "shim.h"

/**
 * vgpu_client_stats - counters of the session of this process.
 * @out: filled; `called` are round trips, `posted` messages without one
 * @return 0, or -ENOTCONN before cuInit
 */
__attribute__((visibility("default"))) int vgpu_client_stats(struct idm_stats *out);
int vgpu_client_stats(struct idm_stats *out)
{
	if (!out || !shim.client)
		return -ENOTCONN;
	idm_client_stats(shim.client, out);
	return 0;
}
