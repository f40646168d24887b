// SPDX-License-Identifier: Apache-2.0
/*
 * The PTX interpreter's speed on one core, in millions of thread-instructions per second: arithmetic in
 * registers, streaming through memory, and a tiled matrix product with shared memory and barriers.
 */
#include "measure.h"
#include "memory.h"
#include "ptx/ptx.h"
#include "softgpu.h"

#define HEAD ".version 8.0\n.target sm_75\n.address_size 64\n"

/* out[i] = a chain of fused multiply-adds, integer mixing and selects */
static const char arithmetic[] = HEAD
	".visible .entry arithmetic(.param .u64 out, .param .u32 rounds)\n"
	"{\n"
	"	.reg .pred %p<3>;\n"
	"	.reg .b32 %r<12>;\n"
	"	.reg .f32 %f<6>;\n"
	"	.reg .b64 %rd<5>;\n"
	"	ld.param.u64 %rd1, [out];\n"
	"	ld.param.u32 %r1, [rounds];\n"
	"	mov.u32 %r2, %ctaid.x;\n"
	"	mov.u32 %r3, %ntid.x;\n"
	"	mov.u32 %r4, %tid.x;\n"
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n"
	"	cvt.rn.f32.u32 %f1, %r5;\n"
	"	mov.f32 %f2, 0f3F7FBE77;\n"
	"	mov.f32 %f3, 0f3F800000;\n"
	"	mov.u32 %r6, 0;\n"
	"	mov.u32 %r7, %r5;\n"
	"loop:\n"
	"	fma.rn.f32 %f1, %f1, %f2, %f3;\n"
	"	mul.f32 %f4, %f1, %f2;\n"
	"	add.f32 %f3, %f4, 0f3F800000;\n"
	"	shl.b32 %r8, %r7, 13;\n"
	"	xor.b32 %r7, %r7, %r8;\n"
	"	shr.u32 %r8, %r7, 17;\n"
	"	xor.b32 %r7, %r7, %r8;\n"
	"	mad.lo.s32 %r9, %r7, 5, %r6;\n"
	"	setp.gt.s32 %p1, %r9, 0;\n"
	"	selp.b32 %r7, %r9, %r7, %p1;\n"
	"	add.s32 %r6, %r6, 1;\n"
	"	setp.lt.u32 %p2, %r6, %r1;\n"
	"	@%p2 bra loop;\n"
	"	cvt.rn.f32.s32 %f5, %r7;\n"
	"	add.f32 %f1, %f1, %f5;\n"
	"	mul.wide.u32 %rd2, %r5, 4;\n"
	"	add.s64 %rd3, %rd1, %rd2;\n"
	"	st.global.f32 [%rd3], %f1;\n"
	"	ret;\n"
	"}\n";

/* y[i] = a * x[i] + y[i], again and again */
static const char stream[] = HEAD
	".visible .entry stream(.param .u64 x, .param .u64 y, .param .u32 rounds)\n"
	"{\n"
	"	.reg .pred %p<2>;\n"
	"	.reg .b32 %r<8>;\n"
	"	.reg .f32 %f<5>;\n"
	"	.reg .b64 %rd<8>;\n"
	"	ld.param.u64 %rd1, [x];\n"
	"	ld.param.u64 %rd2, [y];\n"
	"	ld.param.u32 %r1, [rounds];\n"
	"	cvta.to.global.u64 %rd3, %rd1;\n"
	"	cvta.to.global.u64 %rd4, %rd2;\n"
	"	mov.u32 %r2, %ctaid.x;\n"
	"	mov.u32 %r3, %ntid.x;\n"
	"	mov.u32 %r4, %tid.x;\n"
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n"
	"	mul.wide.s32 %rd5, %r5, 4;\n"
	"	add.s64 %rd6, %rd3, %rd5;\n"
	"	add.s64 %rd7, %rd4, %rd5;\n"
	"	mov.u32 %r6, 0;\n"
	"loop:\n"
	"	ld.global.f32 %f1, [%rd6];\n"
	"	ld.global.f32 %f2, [%rd7];\n"
	"	fma.rn.f32 %f3, %f1, 0f3F000000, %f2;\n"
	"	st.global.f32 [%rd7], %f3;\n"
	"	add.s32 %r6, %r6, 1;\n"
	"	setp.lt.u32 %p1, %r6, %r1;\n"
	"	@%p1 bra loop;\n"
	"	ret;\n"
	"}\n";

/* c = a * b, n a multiple of 16, blocks of 16 x 16 */
static const char matrix[] = HEAD
	".visible .entry matrix(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)\n"
	"{\n"
	"	.reg .pred %p<3>;\n"
	"	.reg .b32 %r<32>;\n"
	"	.reg .f32 %f<8>;\n"
	"	.reg .b64 %rd<16>;\n"
	"	.shared .align 4 .b8 as[1024];\n"
	"	.shared .align 4 .b8 bs[1024];\n"
	"	ld.param.u64 %rd1, [a];\n"
	"	ld.param.u64 %rd2, [b];\n"
	"	ld.param.u64 %rd3, [c];\n"
	"	ld.param.u32 %r1, [n];\n"
	"	mov.u32 %r2, %tid.x;\n"
	"	mov.u32 %r3, %tid.y;\n"
	"	mov.u32 %r4, %ctaid.x;\n"
	"	mov.u32 %r5, %ctaid.y;\n"
	"	shl.b32 %r6, %r5, 4;\n"
	"	add.s32 %r6, %r6, %r3;\n"		/* row */
	"	shl.b32 %r7, %r4, 4;\n"
	"	add.s32 %r7, %r7, %r2;\n"		/* column */
	"	shl.b32 %r8, %r3, 6;\n"
	"	shl.b32 %r9, %r2, 2;\n"
	"	mov.u32 %r10, as;\n"
	"	mov.u32 %r11, bs;\n"
	"	add.s32 %r12, %r10, %r8;\n"		/* row of as */
	"	add.s32 %r13, %r12, %r9;\n"		/* own element of as */
	"	add.s32 %r14, %r11, %r9;\n"		/* column of bs */
	"	add.s32 %r15, %r14, %r8;\n"		/* own element of bs */
	"	mov.f32 %f1, 0f00000000;\n"
	"	mov.u32 %r16, 0;\n"
	"tile:\n"
	"	mad.lo.s32 %r17, %r6, %r1, %r16;\n"
	"	add.s32 %r17, %r17, %r2;\n"
	"	mul.wide.s32 %rd4, %r17, 4;\n"
	"	add.s64 %rd5, %rd1, %rd4;\n"
	"	ld.global.f32 %f2, [%rd5];\n"
	"	st.shared.f32 [%r13], %f2;\n"
	"	add.s32 %r18, %r16, %r3;\n"
	"	mad.lo.s32 %r18, %r18, %r1, %r7;\n"
	"	mul.wide.s32 %rd6, %r18, 4;\n"
	"	add.s64 %rd7, %rd2, %rd6;\n"
	"	ld.global.f32 %f3, [%rd7];\n"
	"	st.shared.f32 [%r15], %f3;\n"
	"	bar.sync 0;\n"
	"	mov.u32 %r19, %r12;\n"
	"	mov.u32 %r20, %r14;\n"
	"	mov.u32 %r21, 0;\n"
	"inner:\n"
	"	ld.shared.f32 %f4, [%r19];\n"
	"	ld.shared.f32 %f5, [%r20];\n"
	"	fma.rn.f32 %f1, %f4, %f5, %f1;\n"
	"	ld.shared.f32 %f4, [%r19+4];\n"
	"	ld.shared.f32 %f5, [%r20+64];\n"
	"	fma.rn.f32 %f1, %f4, %f5, %f1;\n"
	"	add.s32 %r19, %r19, 8;\n"
	"	add.s32 %r20, %r20, 128;\n"
	"	add.s32 %r21, %r21, 2;\n"
	"	setp.lt.u32 %p1, %r21, 16;\n"
	"	@%p1 bra inner;\n"
	"	bar.sync 0;\n"
	"	add.s32 %r16, %r16, 16;\n"
	"	setp.lt.u32 %p2, %r16, %r1;\n"
	"	@%p2 bra tile;\n"
	"	mad.lo.s32 %r22, %r6, %r1, %r7;\n"
	"	mul.wide.s32 %rd8, %r22, 4;\n"
	"	add.s64 %rd9, %rd3, %rd8;\n"
	"	st.global.f32 [%rd9], %f1;\n"
	"	ret;\n"
	"}\n";

static void run(const char *text, const char *kernel, const struct ptx_launch *l)
{
	char logbuf[512] = "", fault[256] = "", name[64];
	struct ptx_log log = { .text = logbuf, .cap = sizeof(logbuf) };
	const struct ptx_kernel *k;
	struct ptx_module *m;
	uint64_t count;
	double t;
	int rc;

	rc = ptx_module_load(text, strlen(text), &log, &m);
	if (rc) {
		fprintf(stderr, "ptx: %s: error %d: %s\n", kernel, rc, logbuf);
		exit(1);
	}
	k = ptx_module_kernel(m, kernel);
	count = ptx_instructions();
	t = now_us();
	rc = ptx_launch(k, l, fault);
	t = now_us() - t;
	count = ptx_instructions() - count;
	if (rc) {
		fprintf(stderr, "ptx: %s: error %d: %s\n", kernel, rc, fault);
		exit(1);
	}
	ptx_module_free(m);
	snprintf(name, sizeof(name), "ptx_%s_Minstr_s", kernel);
	print_value(name, count / t);
}

int main(void)
{
	enum { N = 256 };
	struct { uint64_t out; uint32_t rounds; } arith = { .rounds = 2000 };
	struct { uint64_t x, y; uint32_t rounds; } str = { .rounds = 400 };
	struct { uint64_t a, b, c; uint32_t n; } mat = { .n = N };
	struct ptx_launch l = { .grid = { 32, 1, 1 }, .block = { 128, 1, 1 } };
	float *a, *b, *c;

	if (!sg_heap_init(1, 64 << 20)) {
		fprintf(stderr, "ptx: no room for the heap\n");
		return 1;
	}
	ptx_set_threads(1);
	arith.out = sg_heap_alloc(1 << 20, 256);
	l.params = &arith;
	run(arithmetic, "arithmetic", &l);

	str.x = sg_heap_alloc(4 << 20, 256);
	str.y = sg_heap_alloc(4 << 20, 256);
	memset((void *)str.x, 0, 4 << 20);
	memset((void *)str.y, 0, 4 << 20);
	l.grid[0] = 128;
	l.params = &str;
	run(stream, "stream", &l);

	mat.a = sg_heap_alloc(N * N * 4, 256);
	mat.b = sg_heap_alloc(N * N * 4, 256);
	mat.c = sg_heap_alloc(N * N * 4, 256);
	a = (float *)mat.a;
	b = (float *)mat.b;
	c = (float *)mat.c;
	for (int i = 0; i < N * N; i++) {
		a[i] = i % 7;
		b[i] = i % 5;
	}
	l = (struct ptx_launch){ .grid = { N / 16, N / 16, 1 }, .block = { 16, 16, 1 }, .params = &mat };
	run(matrix, "matrix", &l);
	for (int i = 0; i < N * N; i += 997) {
		float want = 0;

		for (int k = 0; k < N; k++)
			want += a[i / N * N + k] * b[k * N + i % N];
		if (c[i] != want) {
			fprintf(stderr, "ptx: matrix: element %d is %g, not %g\n", i, c[i], want);
			return 1;
		}
	}
	return 0;
}
