// SPDX-License-Identifier: Apache-2.0

#include "harness.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

static int count, failed;
char load_log[1024], fault_text[256], printed[65536];
static size_t nprinted;

void ok(bool pass, const char *fmt, ...)
{
	va_list ap;

	printf("%s %d - ", pass ? "ok" : "not ok", ++count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	failed += !pass;
}

void skip(const char *fmt, ...)
{
	va_list ap;

	printf("ok %d # SKIP ", ++count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

int done(void)
{
	printf("1..%d\n", count);
	return failed != 0;
}

void *dev(size_t bytes)
{
	void *p = (void *)(uintptr_t)sg_heap_alloc(bytes, 256);

	if (!p) {
		printf("Bail out! no device memory\n");
		exit(1);
	}
	memset(p, 0, bytes);
	return p;
}

struct ptx_module *load(const char *name, const char *text)
{
	struct ptx_log log = { load_log, sizeof(load_log), 0 };
	struct ptx_module *m;
	int ret = ptx_module_load(text, strlen(text), &log, &m);

	if (ret) {
		ok(false, "%s loads: %d %s", name, ret, load_log);
		return NULL;
	}
	return m;
}

int load_bad(const char *text, size_t len)
{
	struct ptx_log log = { load_log, sizeof(load_log), 0 };
	struct ptx_module *m;
	int ret = ptx_module_load(text, len, &log, &m);

	ptx_module_free(m);
	return ret;
}

static void print(void *opaque, const char *text, size_t len)
{
	if (len > sizeof(printed) - 1 - nprinted)
		len = sizeof(printed) - 1 - nprinted;
	memcpy(printed + nprinted, text, len);
	nprinted += len;
	printed[nprinted] = 0;
}

int launch(struct ptx_module *m, const char *kernel, struct launch_args a, const uint64_t *args, unsigned int n)
{
	const struct ptx_kernel *k = NULL;
	const struct ptx_kernel_info *info;
	struct ptx_launch l = { 0 };
	uint8_t params[4096] = { 0 };

	nprinted = 0;
	printed[0] = 0;
	ptx_module_find(m, kernel, NULL, &k);
	if (!k) {
		snprintf(fault_text, sizeof(fault_text), "no kernel %s", kernel);
		return -1;
	}
	info = ptx_kernel_info(k);
	if (info->nparams != n) {
		snprintf(fault_text, sizeof(fault_text), "%s has %zu parameters, not %u", kernel, info->nparams, n);
		return -1;
	}
	for (unsigned int i = 0; i < n; i++)
		memcpy(params + info->params[i].offset, &args[i], info->params[i].size < 8 ? info->params[i].size : 8);
	for (int i = 0; i < 3; i++) {
		l.grid[i] = a.grid[i] ? a.grid[i] : 1;
		l.block[i] = a.block[i] ? a.block[i] : 1;
	}
	l.dynamic_shared = a.shared;
	l.cooperative = a.cooperative;
	l.params = params;
	l.print = print;
	return ptx_launch(k, &l, fault_text);
}

static char *read_all(const char *path)
{
	FILE *f = fopen(path, "r");
	char *s;
	long n;

	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	s = malloc(n + 1);
	if (s && fread(s, 1, n, f) == (size_t)n)
		s[n] = 0;
	fclose(f);
	return s;
}

/* Results are kept beside the test by name of their source, as compiling takes longer than running. */
char *nvcc(const char *source, const char *arch, const char *options)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *out = getenv("PTX_TEST_DIR");
	char dir[512], cmd[8192], src[1024], ptx[1024], *text;
	uint64_t h = 1469598103934665603ull;
	FILE *f;

	if (cache)
		snprintf(dir, sizeof(dir), "%s/xen-vgpu/cuda", cache);
	else
		snprintf(dir, sizeof(dir), "%s/.cache/xen-vgpu/cuda", home ? home : "");
	snprintf(src, sizeof(src), "%s/bin/nvcc", dir);
	if (access(src, X_OK))
		return NULL;
	for (const char *s = source; *s; s++)
		h = (h ^ (uint8_t)*s) * 1099511628211ull;
	for (const char *s = options; *s; s++)
		h = (h ^ (uint8_t)*s) * 1099511628211ull;
	if (!out)
		out = "build/tests/ptx";
	snprintf(cmd, sizeof(cmd), "mkdir -p %s", out);
	if (system(cmd))
		return NULL;
	snprintf(src, sizeof(src), "%s/%016llx.cu", out, (unsigned long long)h);
	snprintf(ptx, sizeof(ptx), "%s/%016llx.%s.ptx", out, (unsigned long long)h, arch);
	text = read_all(ptx);
	if (text)
		return text;
	f = fopen(src, "w");
	if (!f)
		return NULL;
	fputs(source, f);
	fclose(f);
	/* the environment of the tests (sanitizers) is none of the compiler's business */
	snprintf(cmd, sizeof(cmd),
		 "env -u LD_PRELOAD PATH=%s/bin:%s/nvvm/bin:$PATH nvcc -w -ptx -arch=compute_%s %s -o %s.tmp %s >&2 && mv %s.tmp %s",
		 dir, dir, arch, options, ptx, src, ptx, ptx);
	if (system(cmd)) {
		printf("# nvcc failed: %s\n", cmd);
		return NULL;
	}
	return read_all(ptx);
}
