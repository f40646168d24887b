// SPDX-License-Identifier: Apache-2.0
/* Errors as sentences. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

int idm_error_set(struct idm_error *e, int err, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return -err;
	e->err = err;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return -err;
}

uint64_t idm_parse_size(const char *text)
{
	char *end;
	uint64_t v;
	unsigned int shift = 0;

	if (!text || *text < '0' || *text > '9')
		return 0;
	v = strtoull(text, &end, 0);
	switch (*end) {
	case 'k': case 'K':
		shift = 10;
		break;
	case 'm': case 'M':
		shift = 20;
		break;
	case 'g': case 'G':
		shift = 30;
		break;
	case '\0':
		return v;
	default:
		return 0;
	}
	if (end[1] || v > UINT64_MAX >> shift)
		return 0;
	return v << shift;
}
