// SPDX-License-Identifier: Apache-2.0
/*
 * nvmlInternalGetExportTable: nvidia-smi asks for a table of private functions and calls some without looking whether
 * they are there. Each slot is a function that says it is not supported; nvidia-smi then leaves the line out, or
 * prints N/A.
 *
 * Processes it asks for by three of them only: of compute, of graphics, of the multi-process service. What they take was
 * found by watching nvidia-smi 535.261 call them and print what it got. Another version may have something else there, so
 * they answer only to a question that looks like that one's.
 */
#include <stdlib.h>
#include <string.h>

#include "nvml.h"

#define SLOTS		512
#define COMPUTE		212
#define GRAPHICS	213
#define MPS		214
/* What nvidia-smi says that it has room for: where it lists processes, and with --query-compute-apps. */
#define ROOM		500u
#define ROOM_QUERY	250u

/** struct process - one of them, as nvidia-smi reads it */
struct process {
	struct nvml_process public;
	uint64_t unknown;
	char name[4096];
};
_Static_assert(sizeof(struct process) == 4128 && offsetof(struct process, name) == 32, "as nvidia-smi has it");

static int refuse(void)
{
	return NVML_ERROR_NOT_SUPPORTED;
}

static void copy(void *to, const struct vgpu_zone_session *s)
{
	struct process *p = to;

	memset(p, 0, sizeof(*p));
	p->public = (struct nvml_process){ .pid = s->pid, .memory = s->memory, .gpu_instance = NVML_NO_INSTANCE,
					   .compute_instance = NVML_NO_INSTANCE };
	if (nvmlSystemGetProcessName(s->pid, p->name, sizeof(p->name)) != NVML_SUCCESS)
		strcpy(p->name, "-");
}

static bool is_the_question(const struct nvml_device *d, const unsigned int *count, const void *out)
{
	return d && count && out && (uintptr_t)count % sizeof(*count) == 0 && nvml_check(d) == NVML_SUCCESS &&
	       (*count == ROOM || *count == ROOM_QUERY);
}

static int compute(struct nvml_device *d, unsigned int *count, struct process *out)
{
	return is_the_question(d, count, out) ? nvml_processes(d, count, out, sizeof(*out), copy) : NVML_ERROR_NOT_SUPPORTED;
}

/* Nobody uses them. */
static int none(struct nvml_device *d, unsigned int *count, struct process *out)
{
	if (!is_the_question(d, count, out))
		return NVML_ERROR_NOT_SUPPORTED;
	*count = 0;
	return NVML_SUCCESS;
}

/* The first word is the table's size in bytes, by which callers tell what an older library lacks. */
static struct {
	size_t size;
	const void *slot[SLOTS];
} table;

static void fill(void)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		table.slot[i] = (const void *)refuse;
	table.slot[COMPUTE] = (const void *)compute;
	table.slot[GRAPHICS] = table.slot[MPS] = (const void *)none;
	table.size = sizeof(table);
}

NVML_API int nvmlInternalGetExportTable(const void **out, const unsigned char *uuid);
NVML_API int nvmlInternalGetExportTable(const void **out, const unsigned char *uuid)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (!out || !uuid)
		return NVML_ERROR_INVALID_ARGUMENT;
	pthread_once(&once, fill);
	*out = &table;
	return NVML_SUCCESS;
}
