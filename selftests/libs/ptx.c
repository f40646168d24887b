// SPDX-License-Identifier: Apache-2.0
/* Kernels in PTX text: their names, and the layout of their parameters. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "nullgpu.h"

/* The name behind the next ".entry" at or after @at; what follows it in *@rest. */
static const char *next_entry(const char *at, size_t *len, const char **rest)
{
	const char *name = strstr(at, ".entry");

	if (!name)
		return NULL;
	for (name += 6; isspace((unsigned char)*name); name++)
		;
	for (*len = 0; isalnum((unsigned char)name[*len]) || strchr("_$%", name[*len] ? name[*len] : ' '); ++*len)
		;
	*rest = name + *len;
	return name;
}

unsigned int null_ptx_kernels(const char *text, const char **names, size_t *lengths, unsigned int most)
{
	const char *name, *rest = text;
	unsigned int n = 0;
	size_t len;

	while ((name = next_entry(rest, &len, &rest))) {
		if (names && n < most) {
			names[n] = name;
			lengths[n] = len;
		}
		n++;
	}
	return names && n > most ? most : n;
}

/* One ".param .align 8 .b8 name[16]": its size and alignment. */
static void one_param(const char *p, const char *end, uint32_t *size, uint32_t *align)
{
	uint32_t count = 1;

	*size = 8;
	*align = 0;
	for (; p < end; p++) {
		if (!strncmp(p, ".align ", 7))
			*align = strtoul(p + 7, NULL, 10);
		else if (*p == '.' && strchr("usbf", p[1]) && isdigit((unsigned char)p[2]))
			*size = strtoul(p + 2, NULL, 10) / 8;
		else if (*p == '[')
			count = strtoul(p + 1, NULL, 10);
	}
	if (!*align)
		*align = *size;
	*size *= count;
}

unsigned int null_ptx_params(const char *text, const char *kernel, struct null_param params[NULL_PARAMS])
{
	const char *name, *rest = text, *p, *end;
	uint32_t offset = 0, size, align;
	unsigned int n = 0;
	size_t len;

	do {
		name = next_entry(rest, &len, &rest);
		if (!name)
			return 0;
	} while (len != strlen(kernel) || strncmp(name, kernel, len));
	end = strchr(rest, ')');
	for (p = strchr(rest, '('); p && end && p < end && n < NULL_PARAMS; p = strchr(p + 1, ',')) {
		const char *stop = strchr(p + 1, ',');

		if (!stop || stop > end)
			stop = end;
		if (!memmem(p, stop - p, ".param", 6))
			break;
		one_param(p, stop, &size, &align);
		if (align)
			offset = (offset + align - 1) / align * align;
		params[n++] = (struct null_param){ offset, size };
		offset += size;
	}
	return n;
}
