// SPDX-License-Identifier: Apache-2.0
/* Products of matrices by a warp: wmma as nvcc compiles it, mma.sync and ldmatrix by hand. */

#include <math.h>

#include "harness.h"

static const char source[] =
"#include <mma.h>\n#include <cuda_fp16.h>\n#include <cuda_fp8.h>\nusing namespace nvcuda;\n#define K extern \"C\" __global__ void\n"
"K k_wmma(const float *a, const float *b, float *c) { __shared__ half sa[256], sb[256]; for (int i = threadIdx.x; i < 256; i += 32) { sa[i] = __float2half(a[i]); sb[i] = __float2half(b[i]); } __syncthreads();\n"
" wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa; wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> fb; wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;\n"
" wmma::fill_fragment(fc, 1.0f); wmma::load_matrix_sync(fa, sa, 16); wmma::load_matrix_sync(fb, sb, 16); wmma::mma_sync(fc, fa, fb, fc); for (int i = 0; i < fc.num_elements; i++) fc.x[i] *= 2.0f; wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major); }\n"
"K k_wmma_col(const half *a, const half *b, half *c) { wmma::fragment<wmma::matrix_a, 32, 8, 16, half, wmma::col_major> fa; wmma::fragment<wmma::matrix_b, 32, 8, 16, half, wmma::col_major> fb; wmma::fragment<wmma::accumulator, 32, 8, 16, half> fc;\n"
" wmma::fill_fragment(fc, __float2half(0.0f)); wmma::load_matrix_sync(fa, a, 32); wmma::load_matrix_sync(fb, b, 16); wmma::mma_sync(fc, fa, fb, fc); wmma::store_matrix_sync(c, fc, 8, wmma::mem_row_major); }\n"
"K k_wmma_s8(const signed char *a, const signed char *b, int *c) { wmma::fragment<wmma::matrix_a, 16, 16, 16, signed char, wmma::row_major> fa; wmma::fragment<wmma::matrix_b, 16, 16, 16, signed char, wmma::col_major> fb; wmma::fragment<wmma::accumulator, 16, 16, 16, int> fc;\n"
" wmma::fill_fragment(fc, 5); wmma::load_matrix_sync(fa, a, 16); wmma::load_matrix_sync(fb, b, 16); wmma::mma_sync(fc, fa, fb, fc); wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major); }\n"
"K k_fp8(const float *a, unsigned char *e4, unsigned char *e5, float *b) { int i = blockIdx.x * 256 + threadIdx.x; __nv_fp8_e4m3 x(a[i]); __nv_fp8_e5m2 y(a[i]); e4[i] = x.__x; e5[i] = y.__x; __nv_fp8_e4m3 z; z.__x = i; __nv_fp8_e5m2 v; v.__x = i; b[2 * i] = (float)z; b[2 * i + 1] = (float)v; }\n"
"#if __CUDA_ARCH__ >= 800\n"
"K k_mma(const half *a, const half *b, float *c) { __shared__ alignas(16) half sa[16 * 16], sb[16 * 8]; for (int i = threadIdx.x; i < 256; i += 32) sa[i] = a[i]; for (int i = threadIdx.x; i < 128; i += 32) sb[i] = b[i]; __syncthreads(); unsigned l = threadIdx.x, ra[4], rb[2]; float d[4] = { 0, 0, 0, 0 };\n"
" unsigned pa = (unsigned)__cvta_generic_to_shared(&sa[(l % 16) * 16 + l / 16 * 8]), pb = (unsigned)__cvta_generic_to_shared(&sb[(l % 16) * 8]);\n"
" asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\" : \"=r\"(ra[0]), \"=r\"(ra[1]), \"=r\"(ra[2]), \"=r\"(ra[3]) : \"r\"(pa));\n"
" asm volatile(\"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\" : \"=r\"(rb[0]), \"=r\"(rb[1]) : \"r\"(pb));\n"
" asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\" : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(ra[0]), \"r\"(ra[1]), \"r\"(ra[2]), \"r\"(ra[3]), \"r\"(rb[0]), \"r\"(rb[1]));\n"
" int r = l / 4, q = l % 4 * 2; c[r * 8 + q] = d[0]; c[r * 8 + q + 1] = d[1]; c[(r + 8) * 8 + q] = d[2]; c[(r + 8) * 8 + q + 1] = d[3]; }\n"
"K k_dmma(const double *a, const double *b, double *c) { wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fa; unsigned l = threadIdx.x; double d0 = 0, d1 = 0;\n"
" asm volatile(\"mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};\" : \"+d\"(d0), \"+d\"(d1) : \"d\"(a[l / 4 * 4 + l % 4]), \"d\"(b[l % 4 * 8 + l / 4])); c[l / 4 * 8 + l % 4 * 2] = d0; c[l / 4 * 8 + l % 4 * 2 + 1] = d1; }\n#endif\n";

static float value(int i)
{
	return (float)((i * 37 + 11) % 23 - 11) / 4;
}

/* Values are few bits wide: conversion to half by shifting will do. */
static uint16_t half(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return f == 0 ? 0 : (u >> 16 & 0x8000) | (uint16_t)(((u & 0x7fffffff) - 0x38000000) >> 13);
}

static float from_half(uint16_t h)
{
	uint32_t u = (uint32_t)(h & 0x8000) << 16 | (((uint32_t)(h & 0x7fff) << 13) + 0x38000000);
	float f;

	memcpy(&f, &u, 4);
	return h & 0x7fff ? f : 0;
}

#define WARP { 1 }, { 32 }

static void test_wmma(struct ptx_module *m, const char *arch)
{
	float *a = dev(1024), *b = dev(1024), *c = dev(1024);
	uint16_t *ha = dev(2048), *hb = dev(2048), *hc = dev(2048);
	int8_t *sa = dev(256), *sb = dev(256);
	int *sc = dev(1024), bad = 0, ret;

	for (int i = 0; i < 256; i++) {
		a[i] = value(i);
		b[i] = value(i * 7 + 3);
		sa[i] = i * 5;
		sb[i] = i * 11 + 1;
	}
	ret = launch(m, "k_wmma", (struct launch_args){ WARP }, ARGS(P(a), P(b), P(c)));
	for (int i = 0; i < 256; i++) {
		float v = 1;

		for (int k = 0; k < 16; k++)
			v += a[i / 16 * 16 + k] * b[k * 16 + i % 16];
		bad += c[i] != v * 2;
	}
	ok(!ret && !bad, "compute_%s: wmma of halves into floats (%d wrong, %d %s)", arch, bad, ret, fault_text);
	for (int i = 0; i < 512; i++) {
		ha[i] = half(value(i));
		hb[i] = half(value(i * 5 + 1));
	}
	ret = launch(m, "k_wmma_col", (struct launch_args){ WARP }, ARGS(P(ha), P(hb), P(hc)));
	for (int i = bad = 0; i < 256; i++) {
		float v = 0;

		for (int k = 0; k < 16; k++)
			v += from_half(ha[k * 32 + i / 8]) * from_half(hb[i % 8 * 16 + k]);
		bad += fabsf(from_half(hc[i]) - v) > 0.07f;
	}
	ok(!ret && !bad, "compute_%s: wmma by columns, 32x8 (%d wrong, %d %s)", arch, bad, ret, fault_text);
	ret = launch(m, "k_wmma_s8", (struct launch_args){ WARP }, ARGS(P(sa), P(sb), P(sc)));
	for (int i = bad = 0; i < 256; i++) {
		int v = 5;

		for (int k = 0; k < 16; k++)
			v += sa[i / 16 * 16 + k] * sb[i % 16 * 16 + k];
		bad += sc[i] != v;
	}
	ok(!ret && !bad, "compute_%s: wmma of bytes (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

static void test_mma(struct ptx_module *m, const char *arch)
{
	uint16_t *a = dev(512), *b = dev(256);
	float *c = dev(512);
	double *da = dev(256), *db = dev(256), *dc = dev(512);
	int bad = 0, ret;

	for (int i = 0; i < 256; i++)
		a[i] = half(value(i));
	for (int i = 0; i < 128; i++)
		b[i] = half(value(i * 3 + 2));
	ret = launch(m, "k_mma", (struct launch_args){ WARP }, ARGS(P(a), P(b), P(c)));
	for (int i = 0; i < 128; i++) {
		float v = 0;

		for (int k = 0; k < 16; k++)
			v += from_half(a[i / 8 * 16 + k]) * from_half(b[k * 8 + i % 8]);
		bad += c[i] != v;
	}
	ok(!ret && !bad, "compute_%s: ldmatrix and mma.sync (%d wrong, %d %s)", arch, bad, ret, fault_text);
	for (int i = 0; i < 32; i++) {
		da[i] = value(i) / 3;
		db[i] = value(i + 9) / 7;
	}
	ret = launch(m, "k_dmma", (struct launch_args){ WARP }, ARGS(P(da), P(db), P(dc)));
	for (int i = bad = 0; i < 64; i++) {
		double v = 0;

		for (int k = 0; k < 4; k++)
			v += da[i / 8 * 4 + k] * db[k * 8 + i % 8];
		bad += fabs(dc[i] - v) > 1e-14;
	}
	ok(!ret && !bad, "compute_%s: mma.sync of doubles (%d wrong, %d %s)", arch, bad, ret, fault_text);
}

/* Before compute_89 the header computes these with integers; afterwards instructions do: they must agree. */
static void test_fp8(struct ptx_module *m, const char *arch)
{
	static uint8_t first[2][65536];
	static float first_back[2 * 65536];
	uint8_t *e4 = dev(65536), *e5 = dev(65536);
	float *a = dev(4 * 65536), *b = dev(8 * 65536);
	int bad = 0, ret;

	for (uint32_t i = 0; i < 65536; i++) {
		uint32_t u = i << 16 | (i * 40503u & 0xffff & -(i & 1));

		memcpy(&a[i], &u, 4);
	}
	ret = launch(m, "k_fp8", (struct launch_args){ { 256 }, { 256 } }, ARGS(P(a), P(e4), P(e5), P(b)));
	if (!strcmp(arch, "75")) {
		memcpy(first[0], e4, 65536);
		memcpy(first[1], e5, 65536);
		memcpy(first_back, b, sizeof(first_back));
	}
	for (int i = 0; i < 65536; i++) {
		bool same = e4[i] == first[0][i] && e5[i] == first[1][i];

		for (int k = 2 * i; k < 2 * i + 2; k++)
			same &= b[k] == first_back[k] || (b[k] != b[k] && first_back[k] != first_back[k]);
		if (!same && !bad++)
			printf("# %g: %02x %02x, before %02x %02x; %02x: %g %g, before %g %g\n", a[i], e4[i], e5[i], first[0][i],
			       first[1][i], i & 255, b[2 * i], b[2 * i + 1], first_back[2 * i], first_back[2 * i + 1]);
	}
	ok(!ret && !bad, "compute_%s: floats of 8 bits (%d differ, %d %s)", arch, bad, ret, fault_text);
}

int main(void)
{
	static const char *const archs[] = { "75", "80", "120" };

	for (int i = 0; i < 3; i++) {
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
		test_wmma(m, archs[i]);
		test_fp8(m, archs[i]);
		if (i)
			test_mma(m, archs[i]);
		ptx_module_free(m);
	}
	return done();
}
