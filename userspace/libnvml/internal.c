// SPDX-License-Identifier: Apache-2.0
/*
 * nvmlInternalGetExportTable: nvidia-smi asks for a table of private functions and calls some without looking whether
 * they are there. Each slot is a function that says it is not supported; nvidia-smi then leaves the line out, or
 * prints N/A. So it lists no processes, which it asks for by such a slot only (nvmlDeviceGetComputeRunningProcesses tells).
 */
#include <stdlib.h>

#include "nvml.h"

#define SLOTS	512

static int refuse(void)
{
	return NVML_ERROR_NOT_SUPPORTED;
}

/* The first word is the table's size in bytes, by which callers tell what an older library lacks. */
static struct {
	size_t size;
	int (*slot[SLOTS])(void);
} table;

static void fill(void)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		table.slot[i] = refuse;
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
