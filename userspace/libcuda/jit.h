/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the compiler and the linker, as far as they mean something here. */
#ifndef VGPU_JIT_H
#define VGPU_JIT_H

#include "shim.h"

/** struct jit - where the program wants the compiler's words. */
struct jit {
	char *text[2];		/* error log, info log */
	size_t cap[2];
	void **used[2];		/* option values that tell the length */
	uint32_t max_registers, opt_level;
};

void jit_parse(struct jit *j, unsigned int n, const CUjit_option *options, void **values);

/** Bytes of log to ask the worker for. */
uint32_t jit_log_size(const struct jit *j);

/** Copy logs that came in a reply, @error_len and then @info_len of @len bytes, to where the program wants them. */
void jit_logs(const struct jit *j, const char *logs, size_t len, size_t error_len, size_t info_len);

#endif
