// SPDX-License-Identifier: Apache-2.0
/* The kernels everybody writes first, as nvcc compiles them, against the CPU. */

#include <math.h>

#include "harness.h"
#include "kernels.h"

static float frand(void)
{
	return (float)rand() / RAND_MAX * 2 - 1;
}

static float *random_floats(int n)
{
	float *p = dev(n * 4);

	for (int i = 0; i < n; i++)
		p[i] = frand();
	return p;
}

static void test_vadd(struct ptx_module *m, const char *arch)
{
	int n = 10007, bad = 0, ret;
	float *a = random_floats(n), *b = random_floats(n), *c = dev(n * 4);

	ret = launch(m, "vadd", (struct launch_args){ { 40 }, { 256 } }, ARGS(P(a), P(b), P(c), n));
	for (int i = 0; i < n; i++)
		bad += c[i] != a[i] + b[i];
	ok(!ret && !bad, "compute_%s: vectorAdd (%d wrong, %d %s)", arch, bad, ret, fault_text);
	ret = launch(m, "vadd", (struct launch_args){ { 101 }, { 100 } }, ARGS(P(b), P(b), P(c), n));
	for (bad = 0, n = 0; n < 10007; n++)
		bad += c[n] != b[n] + b[n];
	ok(!ret && !bad, "compute_%s: vectorAdd in blocks of 100 (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

static void test_saxpy(struct ptx_module *m, const char *arch)
{
	int n = 5000, bad = 0, ret;
	float *x = random_floats(n), *y = random_floats(n), *want = malloc(n * 4);

	for (int i = 0; i < n; i++)
		want[i] = fmaf(2.5f, x[i], y[i]);
	ret = launch(m, "saxpy", (struct launch_args){ { 4 }, { 128 } }, ARGS(n, fbits(2.5f), P(x), P(y)));
	for (int i = 0; i < n; i++)
		bad += y[i] != want[i];
	ok(!ret && !bad, "compute_%s: saxpy (%d wrong, %d %s)", arch, bad, ret, fault_text);
	free(want);
}

static void test_matmul(struct ptx_module *m, const char *arch)
{
	int n = 64, bad = 0, ret;
	float *a = random_floats(n * n), *b = random_floats(n * n), *c = dev(n * n * 4);

	ret = launch(m, "matmul", (struct launch_args){ { n / 16, n / 16 }, { 16, 16 } }, ARGS(P(a), P(b), P(c), n));
	for (int y = 0; y < n; y++)
		for (int x = 0; x < n; x++) {
			float v = 0;

			for (int k = 0; k < n; k++)
				v = fmaf(a[y * n + k], b[k * n + x], v);
			bad += c[y * n + x] != v;
		}
	ok(!ret && !bad, "compute_%s: matmul (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

static void test_reduce(struct ptx_module *m, const char *arch)
{
	int n = 20000, ret;
	float *in = random_floats(n), *out = dev(4);
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += in[i];
	ret = launch(m, "reduce", (struct launch_args){ { 8 }, { 256 } }, ARGS(P(in), P(out), n));
	ok(!ret && fabs(*out - sum) < 1e-3, "compute_%s: reduction %g, not %g (%d %s)", arch, *out, sum, ret, fault_text);
}

static void test_histogram(struct ptx_module *m, const char *arch)
{
	unsigned int *bins = dev(1024), want[256] = { 0 };
	int n = 30000, bad = 0, ret;
	unsigned char *in = dev(n);

	for (int i = 0; i < n; i++)
		want[in[i] = rand() % 200]++;
	ret = launch(m, "histogram", (struct launch_args){ { 6 }, { 192 } }, ARGS(P(in), P(bins), n));
	for (int i = 0; i < 256; i++)
		bad += bins[i] != want[i];
	ok(!ret && !bad, "compute_%s: histogram (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

static void test_mandel(struct ptx_module *m, const char *arch)
{
	int w = 100, h = 60, off = 0, ret, *out = dev(w * h * 4);

	ret = launch(m, "mandel", (struct launch_args){ { 7, 8 }, { 16, 8 } }, ARGS(P(out), w, h, 200));
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++) {
			float cr = fmaf(1, 3.0f * x / w, -2.0f), ci = 3.0f * y / h - 1.5f, zr = 0, zi = 0;
			int k = 0;

			for (; k < 200 && fmaf(zr, zr, zi * zi) < 4.0f; k++) {
				float t = fmaf(zr, zr, -(zi * zi)) + cr;

				zi = fmaf(zr + zr, zi, ci);
				zr = t;
			}
			off += out[y * w + x] != k;
		}
	/* which products are fused is the compiler's choice, and chaos does the rest */
	ok(!ret && off < w * h / 50, "compute_%s: mandelbrot (%d differ, %d %s)", arch, off, ret, fault_text);
}

static void test_transpose(struct ptx_module *m, const char *arch)
{
	int w = 70, h = 45, bad = 0, ret;
	float *in = random_floats(w * h), *out = dev(w * h * 4);

	ret = launch(m, "transpose", (struct launch_args){ { 3, 2 }, { 32, 8 } }, ARGS(P(in), P(out), w, h));
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			bad += out[x * h + y] != in[y * w + x];
	ok(!ret && !bad, "compute_%s: transpose (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

static void test_softmax(struct ptx_module *m, const char *arch)
{
	int n = 300, rows = 3, bad = 0, ret;
	float *in = random_floats(n * rows), *out = dev(n * rows * 4);

	ret = launch(m, "softmax", (struct launch_args){ { rows }, { 256 } }, ARGS(P(in), P(out), n));
	for (int r = 0; r < rows; r++) {
		double sum = 0;

		for (int i = 0; i < n; i++)
			sum += exp(in[r * n + i]);
		for (int i = 0; i < n; i++)
			bad += fabs(out[r * n + i] - exp(in[r * n + i]) / sum) > 1e-6 * exp(in[r * n + i]) / sum * 5;
	}
	ok(!ret && !bad, "compute_%s: softmax (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

int main(void)
{
	static const char *const archs[] = { "75", "90", "120" };

	for (unsigned int i = 0; i < 3; i++) {
		char *text = nvcc(source, archs[i], "");
		struct ptx_module *m;

		if (!text) {
			skip("no nvcc");
			continue;
		}
		m = load(archs[i], text);
		free(text);
		if (!m)
			continue;
		test_vadd(m, archs[i]);
		test_saxpy(m, archs[i]);
		test_matmul(m, archs[i]);
		test_reduce(m, archs[i]);
		test_histogram(m, archs[i]);
		test_mandel(m, archs[i]);
		test_transpose(m, archs[i]);
		test_softmax(m, archs[i]);
		ptx_module_free(m);
	}
	return done();
}
