// SPDX-License-Identifier: Apache-2.0
/* Sets of events: there are none that a pod could hear of, so a set stays empty and waiting ends by the clock. */
#include <stdlib.h>
#include <time.h>

#include "nvml.h"

struct nvml_event_set { unsigned int magic; };
#define SET_MAGIC 0x73657473u

NVML_API int nvmlEventSetCreate(struct nvml_event_set **set);
NVML_API int nvmlEventSetCreate(struct nvml_event_set **set)
{
	int r = nvml_check(NULL);

	if (r)
		return r;
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	*set = malloc(sizeof(**set));
	if (!*set)
		return NVML_ERROR_MEMORY;
	(*set)->magic = SET_MAGIC;
	return NVML_SUCCESS;
}

NVML_API int nvmlEventSetFree(struct nvml_event_set *set);
NVML_API int nvmlEventSetFree(struct nvml_event_set *set)
{
	if (nvml_check(NULL))
		return NVML_ERROR_UNINITIALIZED;
	if (!set || set->magic != SET_MAGIC)
		return NVML_ERROR_INVALID_ARGUMENT;
	set->magic = 0;
	free(set);
	return NVML_SUCCESS;
}

static int wait_for(struct nvml_event_set *set, unsigned int timeout_ms)
{
	struct timespec t = { .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000l };

	if (nvml_check(NULL))
		return NVML_ERROR_UNINITIALIZED;
	if (!set || set->magic != SET_MAGIC)
		return NVML_ERROR_INVALID_ARGUMENT;
	nanosleep(&t, NULL);
	return NVML_ERROR_TIMEOUT;
}

NVML_API int nvmlEventSetWait(struct nvml_event_set *set, void *data, unsigned int timeout_ms);
NVML_API int nvmlEventSetWait(struct nvml_event_set *set, void *data, unsigned int timeout_ms)
{
	return wait_for(set, timeout_ms);
}

NVML_API int nvmlEventSetWait_v2(struct nvml_event_set *set, void *data, unsigned int timeout_ms);
NVML_API int nvmlEventSetWait_v2(struct nvml_event_set *set, void *data, unsigned int timeout_ms)
{
	return wait_for(set, timeout_ms);
}

NVML_API int nvmlDeviceGetSupportedEventTypes(struct nvml_device *d, unsigned long long *types);
NVML_API int nvmlDeviceGetSupportedEventTypes(struct nvml_device *d, unsigned long long *types)
{
	int r = nvml_check(d);

	if (!r && (!d || !types))
		r = NVML_ERROR_INVALID_ARGUMENT;
	if (!r)
		*types = 0;
	return r;
}
