/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and percentiles for the benchmark programs. Each prints lines of "name value"; bench.py does the rest. */
#ifndef VGPU_BENCH_MEASURE_H
#define VGPU_BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline void print_value(const char *name, double v)
{
	printf("%s %.6g\n", name, v);
	fflush(stdout);
}

/* Sorts @v. */
static inline void print_percentiles(const char *name, double *v, int n)
{
	char full[64];

	qsort(v, n, sizeof(*v), by_value);
	snprintf(full, sizeof(full), "%s.p50", name);
	print_value(full, v[n / 2]);
	snprintf(full, sizeof(full), "%s.p99", name);
	print_value(full, v[n * 99 / 100]);
}

#endif /* VGPU_BENCH_MEASURE_H */
