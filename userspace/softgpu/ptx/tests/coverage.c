// SPDX-License-Identifier: Apache-2.0
/*
 * How much of other people's PTX compiles: build/tests/ptx-coverage FILE…
 *
 * A FILE is PTX text or a pack (scripts/torch-pack). Every kernel is compiled, none is run. Prints how many compile,
 * and why the others do not, by frequency.
 */
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../ptx.h"

#define REASONS 4096

static struct reason {
	char text[600];
	unsigned long n;
} reasons[REASONS];
static unsigned int nreasons;
static unsigned long kernels, compiled, modules, refused, slow;
static double slowest;

static void count(const char *log)
{
	const char *text = strstr(log, ": ");
	size_t len;

	text = text ? text + 2 : log;
	len = strcspn(text, "\n");
	len = len < sizeof(reasons[0].text) ? len : sizeof(reasons[0].text) - 1;
	for (unsigned int i = 0; i < nreasons; i++)
		if (!strncmp(reasons[i].text, text, len) && !reasons[i].text[len]) {
			reasons[i].n++;
			return;
		}
	if (nreasons < REASONS) {
		memcpy(reasons[nreasons].text, text, len);
		reasons[nreasons++].n = 1;
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void text(const char *p, size_t len)
{
	char buf[1024] = "";
	struct ptx_log log = { buf, sizeof(buf), 0 };
	struct ptx_module *m;
	double t = now();

	modules++;
	if (ptx_module_load(p, len, &log, &m)) {
		refused++;
		count(buf);
		return;
	}
	t = now() - t;
	slowest = t > slowest ? t : slowest;
	slow += t > 1;
	for (size_t i = 0; i < ptx_module_kernels(m); i++) {
		const struct ptx_kernel *k;
		const char *at;
		size_t n = ptx_module_kernel_name(m, i, &at);
		char *name = strndup(at, n);

		buf[0] = 0;
		log.len = 0;
		kernels++;
		if (ptx_module_find(m, name, &log, &k))
			count(buf);
		else
			compiled++;
		free(name);
	}
	ptx_module_free(m);
}

static char *read_all(const char *name, size_t *size)
{
	FILE *f = fopen(name, "rb");
	char *p = NULL;
	long n;

	if (f && !fseek(f, 0, SEEK_END) && (n = ftell(f)) >= 0 && !fseek(f, 0, SEEK_SET)) {
		p = malloc(n + 1);
		if (p && fread(p, 1, n, f) != (size_t)n) {
			free(p);
			p = NULL;
		}
		*size = n;
	}
	if (f)
		fclose(f);
	if (!p)
		fprintf(stderr, "ptx-coverage: %s cannot be read\n", name);
	return p;
}

/* The pack is one of ours, made on this machine: see pack.c for its form. */
static void whole_pack(const char *p)
{
	uint32_t members;
	uint64_t at;

	memcpy(&members, p + 8, 4);
	memcpy(&at, p + 16, 8);
	for (uint32_t i = 0; i < members; i++) {
		struct { uint64_t at; uint32_t packed, len; } m;
		char *t;

		memcpy(&m, p + at + i * sizeof(m), sizeof(m));
		t = malloc(m.len + 1);
		if (t && LZ4_decompress_safe(p + m.at, t, m.packed, m.len) == (int)m.len) {
			t[m.len] = 0;
			text(t, strnlen(t, m.len));
		}
		free(t);
	}
}

static int by_count(const void *a, const void *b)
{
	const struct reason *x = a, *y = b;

	return x->n < y->n ? 1 : x->n > y->n ? -1 : 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		size_t size;
		char *p = read_all(argv[i], &size);

		if (!p)
			return 1;
		if (size > 64 && !memcmp(p, "SGPTX01\n", 8))
			whole_pack(p);
		else
			text(p, strnlen(p, size));
		free(p);
	}
	setlinebuf(stdout);
	printf("%lu modules (%lu refused; slowest to load %.3f s), %lu kernels, %lu compile (%.2f %%)\n", modules, refused,
	       slowest, kernels, compiled, kernels ? 100.0 * compiled / kernels : 0);
	qsort(reasons, nreasons, sizeof(reasons[0]), by_count);
	for (unsigned int i = 0; i < nreasons; i++)
		printf("%7lu  %s\n", reasons[i].n, reasons[i].text);
	return 0;
}
