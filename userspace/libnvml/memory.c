// SPDX-License-Identifier: Apache-2.0
/* Memory as cuMemGetInfo tells it: the zone's quota and its use. Processes: the zone's own, which are its sessions. */
#include <stdlib.h>
#include <string.h>

#include "nvml.h"

#define SESSIONS_MAX	1024

static int usage(struct nvml_device *d, uint64_t *total, uint64_t *used)
{
	struct vgpu_zone_reply z;
	int r = nvml_check(d);

	if (!r)
		r = d ? nvml_zone(&z, NULL, 0) : NVML_ERROR_INVALID_ARGUMENT;
	if (r)
		return r;
	*total = d->props.total_mem;
	*used = z.used < *total ? z.used : *total;
	return NVML_SUCCESS;
}

NVML_API int nvmlDeviceGetMemoryInfo(struct nvml_device *d, struct nvml_memory *m);
NVML_API int nvmlDeviceGetMemoryInfo(struct nvml_device *d, struct nvml_memory *m)
{
	uint64_t total, used;
	int r = m ? usage(d, &total, &used) : NVML_ERROR_INVALID_ARGUMENT;

	if (!r)
		*m = (struct nvml_memory){ .total = total, .free = total - used, .used = used };
	return r;
}

NVML_API int nvmlDeviceGetMemoryInfo_v2(struct nvml_device *d, struct nvml_memory_v2 *m);
NVML_API int nvmlDeviceGetMemoryInfo_v2(struct nvml_device *d, struct nvml_memory_v2 *m)
{
	uint64_t total, used;
	int r;

	if (!m)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (m->version != NVML_VERSION(struct nvml_memory_v2, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	r = usage(d, &total, &used);
	if (!r) {
		m->total = total;
		m->reserved = 0;
		m->free = total - used;
		m->used = used;
	}
	return r;
}

/*
 * A session with nothing on the GPU (this library's own in another process, say) is no process here: as on a GPU, one is
 * listed once it has a context.
 */
int nvml_processes(struct nvml_device *d, unsigned int *count, void *out, size_t size,
		   void (*copy)(void *to, const struct vgpu_zone_session *s))
{
	struct vgpu_zone_session *list;
	struct vgpu_zone_reply z;
	unsigned int n = 0;
	int r = nvml_check(d);

	if (r)
		return r;
	if (!d || !count || (*count && !out))
		return NVML_ERROR_INVALID_ARGUMENT;
	list = calloc(SESSIONS_MAX, sizeof(*list));
	if (!list)
		return NVML_ERROR_MEMORY;
	r = nvml_zone(&z, list, SESSIONS_MAX);
	for (unsigned int i = 0; !r && i < z.count; i++) {
		if (!list[i].handles && !list[i].memory)
			continue;
		if (n < *count)
			copy((char *)out + n * size, &list[i]);
		n++;
	}
	free(list);
	if (r)
		return r;
	r = n > *count ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
	*count = n;
	return r;
}

static void copy_v1(void *to, const struct vgpu_zone_session *s)
{
	*(struct nvml_process_v1 *)to = (struct nvml_process_v1){ .pid = s->pid, .memory = s->memory };
}

static void copy_v2(void *to, const struct vgpu_zone_session *s)
{
	*(struct nvml_process *)to = (struct nvml_process){
		.pid = s->pid, .memory = s->memory,
		.gpu_instance = NVML_NO_INSTANCE, .compute_instance = NVML_NO_INSTANCE,
	};
}

NVML_API int nvmlDeviceGetComputeRunningProcesses(struct nvml_device *d, unsigned int *n, struct nvml_process_v1 *out);
NVML_API int nvmlDeviceGetComputeRunningProcesses(struct nvml_device *d, unsigned int *n, struct nvml_process_v1 *out)
{
	return nvml_processes(d, n, out, sizeof(*out), copy_v1);
}

NVML_API int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_device *d, unsigned int *n, struct nvml_process *out);
NVML_API int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_device *d, unsigned int *n, struct nvml_process *out)
{
	return nvml_processes(d, n, out, sizeof(*out), copy_v2);
}

NVML_API int nvmlDeviceGetComputeRunningProcesses_v3(struct nvml_device *d, unsigned int *n, struct nvml_process *out);
NVML_API int nvmlDeviceGetComputeRunningProcesses_v3(struct nvml_device *d, unsigned int *n, struct nvml_process *out)
{
	return nvml_processes(d, n, out, sizeof(*out), copy_v2);
}

/* No graphics and no multi-process service here: nobody uses them. */
#define NO_PROCESSES(name) \
	NVML_API int name(struct nvml_device *d, unsigned int *n, void *out); \
	NVML_API int name(struct nvml_device *d, unsigned int *n, void *out) \
	{ \
		int r = nvml_check(d); \
		if (!r && (!d || !n)) \
			r = NVML_ERROR_INVALID_ARGUMENT; \
		if (!r) \
			*n = 0; \
		return r; \
	}
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3)
