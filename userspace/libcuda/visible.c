// SPDX-License-Identifier: Apache-2.0
/*
 * CUDA_VISIBLE_DEVICES. Documented: indices, or UUIDs of which the beginning is enough; what follows an entry that
 * names no device counts no more. Not documented, but what PyTorch has found NVIDIA's library to do
 * (torch/cuda/__init__.py): a number may be followed by anything, all entries are of the kind of the first, and a list
 * that names a device twice names none.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "visible.h"

#define NONE	UINT32_MAX
#define UUID	"GPU-"		/* MIG-... names parts of GPUs, which are no devices here */

/* The device whose UUID begins with the @len characters at @text, if it is the only one. */
static uint32_t by_uuid(const char *text, size_t len, const uint8_t (*uuids)[16], uint32_t n)
{
	uint32_t found = NONE;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *u = uuids[i];
		char name[48];

		snprintf(name, sizeof(name), UUID "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
			 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
		if (len > strlen(name) || strncmp(name, text, len))
			continue;
		if (found != NONE)
			return NONE;
		found = i;
	}
	return found;
}

/* strtoul() of its own skips white space and takes signs, too, and what comes of "-1" is no device. */
static uint32_t by_index(const char *text, uint32_t n)
{
	unsigned long index;
	char *end;

	index = strtoul(text, &end, 10);
	return end == text || index >= n ? NONE : index;
}

static size_t length(const char *text)
{
	size_t len = strcspn(text, ",");

	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	return len;
}

uint32_t visible_devices(const char *list, const uint8_t (*uuids)[16], uint32_t n, uint32_t *out)
{
	bool named = list && !strncmp(list + strspn(list, " \t"), UUID, strlen(UUID));
	uint32_t count = 0;

	if (n > VGPU_DEVICES_MAX)
		n = VGPU_DEVICES_MAX;
	for (; !list && count < n; count++)
		out[count] = count;
	while (list) {
		uint32_t device = NONE;

		list += strspn(list, " \t");
		if (!named)
			device = by_index(list, n);
		else if (!strncmp(list, UUID, strlen(UUID)))
			device = by_uuid(list, length(list), uuids, n);
		if (device == NONE)
			break;
		for (uint32_t i = 0; i < count; i++)
			if (out[i] == device)
				return 0;
		out[count++] = device;
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
	return count;
}
