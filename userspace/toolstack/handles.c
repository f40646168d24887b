// SPDX-License-Identifier: Apache-2.0
/*
 * libxenlight destroys a domain in a child of fork() that goes on with the library: it opens a handle, which takes a lock of
 * libxentoolcore's, and locks a file. If another thread has that lock or that file just then, the child waits for ever, and
 * with it whoever waits for the child. So what forks, and what holds such things, is done by one thread at a time.
 *
 * libvgpuagent opens such handles in the same process and has no part in this lock: it sees to it by pthread_atfork() that
 * it does nothing of that while anything forks. A program that uses Xen's libraries by itself must do as much.
 */
#include <pthread.h>

#include "handles.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread unsigned int depth;

void handles_begin(void)
{
	if (!depth++)
		pthread_mutex_lock(&lock);
}

void handles_end(void)
{
	if (!--depth)
		pthread_mutex_unlock(&lock);
}
