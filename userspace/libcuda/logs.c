// SPDX-License-Identifier: Apache-2.0
/*
 * The driver's log of errors, and notifications. Shared by the shim and the software GPU, which both say in it what a
 * CUresult has no room for: what is not supported and why, what a kernel did wrong.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "export.h"
#include "logs.h"

#define LINES		100
#define LINE_BYTES	256	/* LINES of them: the most that CUDA's keeps */
#define TRUNCATED	"[older messages have been lost]\n"

struct CUlogsCallbackEntry_st {
	CUlogsCallback fn;
	void *data;
	struct CUlogsCallbackEntry_st *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char lines[LINES][LINE_BYTES];
static unsigned int written;		/* lines so far; an iterator is such a number */
static struct CUlogsCallbackEntry_st *callbacks;

void logs_add(const char *fmt, ...)
{
	struct CUlogsCallbackEntry_st *list[16];
	unsigned int n = 0;
	struct timespec now;
	char line[LINE_BYTES];
	struct tm tm;
	va_list args;
	int at;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	at = snprintf(line, sizeof(line), "[%02d:%02d:%02d.%03ld][%d][CUDA][E] ", tm.tm_hour, tm.tm_min, tm.tm_sec,
		      now.tv_nsec / 1000000, (int)getpid());
	va_start(args, fmt);
	vsnprintf(line + at, sizeof(line) - at, fmt, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	memcpy(lines[written++ % LINES], line, sizeof(line));
	for (struct CUlogsCallbackEntry_st *c = callbacks; c && n < 16; c = c->next)
		list[n++] = c;
	pthread_mutex_unlock(&lock);
	for (unsigned int i = 0; i < n; i++)
		list[i]->fn(list[i]->data, CU_LOG_LEVEL_ERROR, line, strlen(line));
}

VGPU_EXPORT CUresult CUDAAPI cuLogsRegisterCallback(CUlogsCallback callbackFunc, void *userData,
						    CUlogsCallbackHandle *callback_out)
{
	struct CUlogsCallbackEntry_st *c;

	if (!callbackFunc)
		return CUDA_ERROR_INVALID_VALUE;
	c = malloc(sizeof(*c));
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*c = (struct CUlogsCallbackEntry_st){ .fn = callbackFunc, .data = userData };
	pthread_mutex_lock(&lock);
	c->next = callbacks;
	callbacks = c;
	pthread_mutex_unlock(&lock);
	if (callback_out)
		*callback_out = c;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuLogsUnregisterCallback(CUlogsCallbackHandle callback)
{
	struct CUlogsCallbackEntry_st **p;
	bool found;

	pthread_mutex_lock(&lock);
	for (p = &callbacks; *p && *p != callback; p = &(*p)->next)
		;
	found = *p;
	if (found)
		*p = callback->next;
	pthread_mutex_unlock(&lock);
	/* Not freed: a message may be on its way to it. There are few. */
	return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

VGPU_EXPORT CUresult CUDAAPI cuLogsCurrent(CUlogIterator *iterator_out, unsigned int flags)
{
	if (!iterator_out || flags)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	*iterator_out = written;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* The lines from @from on that are still there and, newest last, fit into @room bytes. Under the lock. */
static unsigned int first_of(unsigned int from, size_t room, bool *lost)
{
	unsigned int oldest = written > LINES ? written - LINES : 0, first = written;
	size_t bytes = 0;

	*lost = from < oldest;
	if (*lost)
		from = oldest;
	while (first > from) {
		size_t n = strlen(lines[(first - 1) % LINES]) + 1;

		if (bytes + n > room) {
			*lost = true;
			break;
		}
		bytes += n;
		first--;
	}
	return first;
}

VGPU_EXPORT CUresult CUDAAPI cuLogsDumpToMemory(CUlogIterator *iterator, char *buffer, size_t *size, unsigned int flags)
{
	unsigned int from = iterator ? *iterator : 0, i;
	size_t room, at = 0;
	bool lost;

	if (!buffer || !size || !*size || flags)
		return CUDA_ERROR_INVALID_VALUE;
	room = *size - 1;
	pthread_mutex_lock(&lock);
	i = first_of(from, room, &lost);
	if (lost && room >= sizeof(TRUNCATED) - 1) {
		bool again;

		i = first_of(from, room - (sizeof(TRUNCATED) - 1), &again);
		memcpy(buffer, TRUNCATED, sizeof(TRUNCATED) - 1);
		at = sizeof(TRUNCATED) - 1;
	}
	lost = i == written && from != written;		/* not even one has room */
	for (; i < written; i++) {
		size_t n = strlen(lines[i % LINES]);

		memcpy(buffer + at, lines[i % LINES], n);
		buffer[at + n] = '\n';
		at += n + 1;
	}
	if (!lost && iterator)
		*iterator = written;
	pthread_mutex_unlock(&lock);
	*size = lost ? 0 : at;
	buffer[*size] = '\0';
	return lost ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuLogsDumpToFile(CUlogIterator *iterator, const char *pathToFile, unsigned int flags)
{
	static char text[LINES * LINE_BYTES + sizeof(TRUNCATED)];
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	size_t size = sizeof(text);
	CUresult r;
	FILE *f;

	if (!pathToFile || flags)
		return CUDA_ERROR_INVALID_VALUE;
	f = fopen(pathToFile, "we");
	if (!f)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&one);
	r = cuLogsDumpToMemory(iterator, text, &size, flags);
	if (r == CUDA_SUCCESS && fwrite(text, 1, size, f) != size)
		r = CUDA_ERROR_OPERATING_SYSTEM;
	pthread_mutex_unlock(&one);
	return fclose(f) && r == CUDA_SUCCESS ? CUDA_ERROR_OPERATING_SYSTEM : r;
}

/* --- notifications -------------------------------------------------------------------------------------------------- */

/*
 * The one there is says that a process uses more than its budget of device memory. Here an allocation beyond the budget
 * fails, so that it has no occasion; who registers is remembered, and hears nothing.
 */
struct CUasyncCallbackEntry_st {
	CUdevice device;
	struct CUasyncCallbackEntry_st *next;
};
static struct CUasyncCallbackEntry_st *notifications;

static CUresult device_ok(CUdevice device)
{
	int n;
	CUresult r = cuDeviceGetCount(&n);

	return r != CUDA_SUCCESS ? r : device < 0 || device >= n ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceRegisterAsyncNotification(CUdevice device, CUasyncCallback callbackFunc, void *userData,
							       CUasyncCallbackHandle *callback)
{
	struct CUasyncCallbackEntry_st *c;
	CUresult r = device_ok(device);

	if (r != CUDA_SUCCESS || !callbackFunc || !callback)
		return r != CUDA_SUCCESS ? r : CUDA_ERROR_INVALID_VALUE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	c->device = device;
	pthread_mutex_lock(&lock);
	c->next = notifications;
	notifications = c;
	pthread_mutex_unlock(&lock);
	*callback = c;
	return CUDA_SUCCESS;
}

VGPU_EXPORT CUresult CUDAAPI cuDeviceUnregisterAsyncNotification(CUdevice device, CUasyncCallbackHandle callback)
{
	struct CUasyncCallbackEntry_st *c, **p;
	CUresult r = device_ok(device);

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&lock);
	for (p = &notifications; (c = *p) && c != callback; p = &c->next)
		;
	if (c && c->device == device)
		*p = c->next;
	else
		c = NULL;
	pthread_mutex_unlock(&lock);
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;
	free(c);
	return CUDA_SUCCESS;
}
