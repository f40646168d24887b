// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "jit.h"

#define LOG_MAX	(16u * 1024)

void jit_parse(struct jit *j, unsigned int n, const CUjit_option *options, void **values)
{
	memset(j, 0, sizeof(*j));
	if (!options || !values)
		return;
	for (unsigned int i = 0; i < n; i++) {
		uintptr_t v = (uintptr_t)values[i];

		switch (options[i]) {
		case CU_JIT_ERROR_LOG_BUFFER:
			j->text[0] = values[i];
			break;
		case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
			j->cap[0] = (unsigned int)v;
			j->used[0] = &values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER:
			j->text[1] = values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
			j->cap[1] = (unsigned int)v;
			j->used[1] = &values[i];
			break;
		case CU_JIT_MAX_REGISTERS:
			j->max_registers = v;
			break;
		case CU_JIT_OPTIMIZATION_LEVEL:
			j->opt_level = v;
			break;
		default:	/* hints about how to compile */
			break;
		}
	}
}

uint32_t jit_log_size(const struct jit *j)
{
	size_t want = j->cap[0] > j->cap[1] ? j->cap[0] : j->cap[1];

	if (want > LOG_MAX)
		want = LOG_MAX;
	return want < shim.inline_max ? want : shim.inline_max;
}

void jit_logs(const struct jit *j, const char *logs, size_t len, size_t error_len, size_t info_len)
{
	size_t n[2] = { error_len, info_len }, at = 0;

	for (int i = 0; i < 2; i++) {
		if (n[i] > len - at)
			return;
		if (j->text[i] && j->cap[i]) {
			size_t keep = n[i] < j->cap[i] - 1 ? n[i] : j->cap[i] - 1;

			memcpy(j->text[i], logs + at, keep);
			j->text[i][keep] = '\0';
			if (j->used[i])
				*j->used[i] = (void *)(uintptr_t)keep;
		}
		at += n[i];
	}
}
