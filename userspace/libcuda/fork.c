// SPDX-License-Identifier: Apache-2.0
/*
 * fork(): the session is the parent's. The child inherits the mappings, but must not touch the rings, wake the
 * worker, or end the session; every call in it says CUDA_ERROR_NOT_INITIALIZED, as NVIDIA's library does.
 */
#include <pthread.h>

#include "mapped.h"

static void in_child(void)
{
	mapped_fork_child();
	if (!shim.client)
		return;
	__atomic_store_n(&shim.state, SHIM_FORKED, __ATOMIC_RELEASE);
	idm_client_abandon(shim.client);
	shim.client = NULL;
}

void fork_init(void)
{
	pthread_atfork(mapped_fork_prepare, mapped_fork_parent, in_child);
}
