/* SPDX-License-Identifier: Apache-2.0 */
/* What the PTX tests share: TAP, a heap, loading, launching, compiling CUDA C where nvcc is at hand. */
#ifndef SOFTGPU_PTX_TESTS_HARNESS_H
#define SOFTGPU_PTX_TESTS_HARNESS_H

/* Launches name only what they need. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../memory.h"
#include "../ptx.h"

/* TAP */
void ok(bool pass, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int done(void);

/* Device memory, zeroed; freed by nobody. */
void *dev(size_t bytes);

/* Load text that must load; NULL and a failed test otherwise. */
struct ptx_module *load(const char *name, const char *text);
/* Load text that must not load. @return the result; the log is in load_log */
int load_bad(const char *text, size_t len);
extern char load_log[1024];

/* CUDA C to PTX for compute_<arch>; NULL if there is no nvcc. Free it. */
char *nvcc(const char *source, const char *arch, const char *options);

/* Launch; every argument is 8 bytes: a pointer, or an integer or float in its low bytes. */
struct launch_args {
	uint32_t grid[3], block[3], shared;
	bool cooperative;
};
#define ARGS(...) (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8
#define P(p) ((uint64_t)(uintptr_t)(p))
int launch(struct ptx_module *m, const char *kernel, struct launch_args a, const uint64_t *args, unsigned int n);
extern char fault_text[256], printed[65536];

static inline uint64_t fbits(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

static inline uint64_t dbits(double f)
{
	uint64_t u;

	memcpy(&u, &f, 8);
	return u;
}

#endif /* SOFTGPU_PTX_TESTS_HARNESS_H */
