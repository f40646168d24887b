// SPDX-License-Identifier: Apache-2.0
/* What is not arithmetic: memory of all kinds, calls, warps, barriers, atomics, printf, grids that wait for each other. */

#include <math.h>

#include "harness.h"

static const char source[] =
"#include <cstdio>\n#include <cassert>\n#include <cooperative_groups.h>\n#include <cuda_bf16.h>\n"
"namespace cg = cooperative_groups;\n"
"#define K extern \"C\" __global__ void\n"
"__constant__ int table[8] = { 3, 1, 4, 1, 5, 9, 2, 6 }; __device__ int counter = 7; __device__ int *pointer = &counter;\n"
"__managed__ int managed = 11; __device__ const char *words[2] = { \"one\", \"two\" };\n"
"K k_vars(int *o) { int i = threadIdx.x; o[i] = table[i & 7] + *pointer + managed; }\n"
"__device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }\n"
"K k_recursion(int *o) { o[threadIdx.x] = fib(threadIdx.x % 15); }\n"
"typedef int (*fn)(int); __device__ __noinline__ int twice(int x) { return 2 * x; } __device__ __noinline__ int square(int x) { return x * x; }\n"
"__device__ fn fns[3] = { twice, square, fib };\n"
"K k_indirect(int *o) { int i = threadIdx.x; o[i] = fns[i % 3](i % 12); }\n"
"struct big { int a[7]; double d; short s; }; K k_struct(big b, int *o, int k) { o[threadIdx.x] = b.a[(k + threadIdx.x) % 7] + (int)b.d + b.s; }\n"
"K k_local(int *o, int n) { int a[32]; for (int i = 0; i < 32; i++) a[(i * 7 + n) & 31] = i * (int)threadIdx.x; int s = 0; for (int i = 0; i < n; i++) s += a[(i * 5 + threadIdx.x) & 31] * (i + 1); o[blockIdx.x * blockDim.x + threadIdx.x] = s; }\n"
"K k_vec(const float4 *x, float4 *o, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) { float4 v = x[i]; o[i] = make_float4(v.w, v.z, v.y, v.x); } }\n"
"K k_vec_small(const uchar4 *x, short2 *o) { uchar4 v = x[threadIdx.x]; o[threadIdx.x] = make_short2(v.x - v.y, v.z * v.w); }\n"
"K k_dynamic(int *o) { extern __shared__ int s[]; __shared__ int t[4]; int i = threadIdx.x; if (i < 4) t[i] = i * 100; s[i] = i; s[i + blockDim.x] = -i; __syncthreads(); o[i] = s[blockDim.x - 1 - i] + s[blockDim.x + (i ^ 1)] + t[i & 3]; }\n"
"__device__ __noinline__ int sum_generic(const int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s += p[i]; return s; }\n"
"K k_generic(const int *g, int *o) { __shared__ int s[32]; int l[4]; s[threadIdx.x] = threadIdx.x; for (int i = 0; i < 4; i++) l[i] = threadIdx.x * i; __syncwarp(); int k = threadIdx.x % 3;\n"
"  o[threadIdx.x] = sum_generic(k == 0 ? g : k == 1 ? s : l, 4); }\n"
"K k_warp(unsigned *o) { unsigned i = threadIdx.x; unsigned v = i * 2654435761u; unsigned *r = o + i * 16;\n"
"  r[0] = __shfl_sync(~0u, v, i ^ 5); r[1] = __shfl_up_sync(~0u, v, 3); r[2] = __shfl_down_sync(~0u, v, 7, 16); r[3] = __shfl_xor_sync(~0u, v, 9);\n"
"  r[4] = __ballot_sync(~0u, i % 3 == 0); r[5] = __any_sync(~0u, i == 77); r[6] = __all_sync(~0u, i < 32); r[7] = __match_any_sync(~0u, i / 5);\n"
"  int p; r[8] = __match_all_sync(~0u, 42, &p) + p; r[9] = __activemask(); if (i & 1) r[10] = __activemask(); else r[10] = __ballot_sync(0x55555555, i < 8);\n"
"  if (i < 16) r[11] = __shfl_xor_sync(0xffff, v, 3); else r[11] = __shfl_xor_sync(0xffff0000, v, 5);\n"
"  r[12] = (unsigned)(__shfl_down_sync(~0u, (unsigned long long)v << 20, 1) >> 20); float f = __shfl_sync(~0u, (float)i, 31); r[13] = f; r[14] = __popc(__match_any_sync(~0u, (long long)i % 4)); r[15] = __syncthreads_count(i % 5 == 0); }\n"
"K k_votes(int *o) { int i = threadIdx.x; o[i] = __syncthreads_and(i < 1000) * 1 + __syncthreads_or(i == 50) * 2 + __syncthreads_count(i % 7 == 0) * 4; }\n"
"K k_diverge(int *o, int n) { int i = threadIdx.x, v = 0; for (int k = 0; k <= i % 13; k++) { if ((i + k) % 3 == 0) v += k; else if ((i + k) % 3 == 1) { for (int j = 0; j < k; j++) v += j ^ i; } else v ^= k; if (v > 500) break; }\n"
"  __syncwarp(); v += __shfl_sync(~0u, v, 0); o[blockIdx.x * blockDim.x + i] = v; }\n"
"__device__ int lock; K k_lock(int *c, int rounds) { for (int r = 0; r < rounds; r++) { bool done = false; while (!done) { if (atomicCAS(&lock, 0, 1) == 0) { int v = *(volatile int *)c; *(volatile int *)c = v + 1; __threadfence(); atomicExch(&lock, 0); done = true; } } } }\n"
"K k_spin(volatile int *f, int *o) { if (threadIdx.x == 0) { while (!f[0]) ; o[0] = 5; } else if (threadIdx.x == 40) { __threadfence(); f[0] = 1; } }\n"
"K k_atomics(int *i, unsigned *u, unsigned long long *l, float *f, double *d) { int t = blockIdx.x * blockDim.x + threadIdx.x; atomicAdd(i, t); atomicSub(i + 1, t); atomicMin(i + 2, -t); atomicMax(i + 3, t); atomicAnd(i + 4, ~(1 << t % 8)); atomicOr(i + 5, 1 << t % 31); atomicXor(i + 6, t); atomicExch(i + 7, t);\n"
"  atomicInc(u, 99); atomicDec(u + 1, 49); atomicMax(u + 2, (unsigned)t * 1000003u); atomicAdd(l, (unsigned long long)t << 20); atomicMax(l + 1, (unsigned long long)t << 40); atomicCAS(l + 2, 0ull, 77ull); atomicAdd(f, 0.5f); atomicAdd(d, 0.25); }\n"
"K k_shared_atomics(int *o) { __shared__ int s; __shared__ float f; __shared__ unsigned long long l; if (!threadIdx.x) { s = 0; f = 0; l = 0; } __syncthreads(); atomicAdd(&s, threadIdx.x); atomicAdd(&f, 1.0f); atomicMax(&l, (unsigned long long)threadIdx.x << 33); __syncthreads(); if (!threadIdx.x) { o[0] = s; o[1] = f; o[2] = l >> 33; } }\n"
"K k_printf(int n) { if (threadIdx.x < 2) printf(\"t%d n=%5d %-4s| %c %x %08X %u %ld %lld %llu %.3f %e %p %% %s\\n\", (int)threadIdx.x, n, words[threadIdx.x & 1], 'q', 255, 0xbeef, 4000000000u, -5L, -6LL, 7ULL, 1.5, 2.5f, (void *)16, \"end\"); }\n"
"K k_assert(int n) { assert(n == (int)threadIdx.x + 100); }\n"
"K k_grid(int *a, int *o, int n) { cg::grid_group g = cg::this_grid(); int i = blockIdx.x * blockDim.x + threadIdx.x; a[i] = i; g.sync(); int v = a[n - 1 - i]; g.sync(); a[i] = v * 2; g.sync(); o[i] = a[(i + 37) % n]; }\n"
"K k_groups(int *o) { cg::thread_block b = cg::this_thread_block(); cg::thread_block_tile<8> t = cg::tiled_partition<8>(b); int v = threadIdx.x; for (int k = t.size() / 2; k; k /= 2) v += t.shfl_down(v, k); cg::coalesced_group c = cg::coalesced_threads(); o[threadIdx.x] = v + 1000 * t.thread_rank() + c.size(); }\n"
"K k_clock(long long *o) { long long a = clock64(); o[0] = clock(); __nanosleep(500000); o[1] = clock64() - a; }\n"
"K k_dims(int *o) { int i = ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * blockDim.x * blockDim.y * blockDim.z + (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x; o[i] = blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * threadIdx.x + 10000 * threadIdx.y + 100000 * threadIdx.z; }\n"
"K k_oob(int *o, long long at) { o[at + threadIdx.x] = 1; }\n"
"K k_misaligned(char *o) { *(int *)(o + threadIdx.x) = 1; }\n"
"K k_shared_oob(int *o, int at) { __shared__ int s[8]; s[threadIdx.x] = 1; __syncthreads(); *o = s[at * 1000000 + threadIdx.x]; }\n"
"K k_trap(int n) { if (threadIdx.x == n) __trap(); }\n"
"K k_null(int *p) { *p = 1; }\n"
"K k_deep(int *o, int n) { o[threadIdx.x] = fib(n); }\n"
"__device__ __noinline__ int endless(int n) { volatile int a[64]; a[n & 63] = n; return endless(n + 1) + a[(n + 1) & 63]; } K k_overflow(int *o) { *o = endless(0); }\n"
"K k_exit_some(int *o) { if (threadIdx.x & 1) return; __syncthreads(); o[threadIdx.x] = __popc(__activemask()); }\n"
"K k_named(int *o) { __shared__ int s[2]; if (threadIdx.x < 32) { s[0] = 5; asm volatile(\"bar.arrive 1, 64;\"); } else { asm volatile(\"bar.sync 1, 64;\"); o[threadIdx.x - 32] = s[0]; } }\n"
"K k_asm(unsigned *o) { unsigned i = threadIdx.x, r; asm(\"{ .reg .pred p; setp.lt.u32 p, %1, 10; selp.u32 %0, 1, 2, p; @p add.u32 %0, %0, 5; @!p bra L1; add.u32 %0, %0, 100; L1: }\" : \"=r\"(r) : \"r\"(i)); o[i] = r;\n"
"  asm(\"{ .reg .pred p; setp.gt.u32 p, %1, 20; @p bra L1; mov.u32 %0, 3; bra L2; L1: mov.u32 %0, 4; L2: }\" : \"=r\"(r) : \"r\"(i)); o[i + 32] = r; asm(\"mov.u32 %0, %%laneid;\" : \"=r\"(r)); o[i + 64] = r; }\n"
"struct base { int z; __device__ base(int v) : z(v) {} virtual __device__ int get(int x) { return x + z; } }; struct derived : base { __device__ derived(int v) : base(v) {} __device__ int get(int x) override { return x * z; } };\n"
"K k_virtual(int *o) { base b(7); derived d(5); base *p = threadIdx.x & 1 ? &b : (base *)&d; o[threadIdx.x] = p->get(threadIdx.x); }\n"
"struct s20 { int a[20]; }; __device__ __noinline__ s20 make(int k) { s20 s; for (int i = 0; i < 20; i++) s.a[i] = i * k; return s; } __device__ __noinline__ int take(s20 s, int k) { return s.a[k] + s.a[3]; }\n"
"K k_by_value(int *o, int k) { o[threadIdx.x] = take(make(k), threadIdx.x & 15); }\n"
"__device__ __noinline__ int peek(const s20 *p, int k) { return p->a[k]; } K k_grid_constant(const __grid_constant__ s20 p, int *o) { o[threadIdx.x] = peek(&p, threadIdx.x % 20); }\n"
"K k_alloca(int n, int *o) { int k = n + threadIdx.x % 3, *p = (int *)alloca(k * 4); for (int i = 0; i < k; i++) p[i] = i * (int)threadIdx.x; int s = fib(5); for (int i = 0; i < k; i++) s += p[k - 1 - i] ^ i; o[threadIdx.x] = s; }\n"
"K k_half2(__half2 *h) { atomicAdd(h, __floats2half2_rn(1.0f, 0.5f)); }\n"
"#if __CUDA_ARCH__ >= 800\nK k_bf16(float *o) { __nv_bfloat162 v = __floats2bfloat162_rn(o[0], o[1]), r = __hfma2(v, v, v); o[2] = __low2float(r); o[3] = __high2float(r); __nv_bfloat16 m = __hmax(__low2bfloat16(v), __high2bfloat16(v)); o[4] = __bfloat162float(m); }\n"
"K k_redux(unsigned *o) { unsigned i = threadIdx.x; o[i] = __reduce_add_sync(~0u, i) + __reduce_max_sync(~0u, i ^ 3) * 1000 + __reduce_or_sync(~0u, i & 8) * 100000; }\n"
"K k_async(const int4 *g, int4 *o) { __shared__ int4 s[32]; unsigned a = (unsigned)__cvta_generic_to_shared(&s[threadIdx.x]); asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16;\" :: \"r\"(a), \"l\"(g + threadIdx.x)); asm volatile(\"cp.async.commit_group;\"); asm volatile(\"cp.async.wait_group 0;\"); __syncthreads(); o[threadIdx.x] = s[threadIdx.x ^ 1]; }\n#endif\n"
"#if __CUDA_ARCH__ >= 900\nK k_bulk(const int *g, int *o, int n) { __shared__ alignas(16) int s[256]; __shared__ unsigned long long bar; unsigned a = (unsigned)__cvta_generic_to_shared(s), m = (unsigned)__cvta_generic_to_shared(&bar), ok = 0;\n"
" if (threadIdx.x == 0) { asm volatile(\"mbarrier.init.shared::cta.b64 [%0], %1;\" :: \"r\"(m), \"r\"(blockDim.x)); } __syncthreads();\n"
" for (int round = 0; round < 3; round++) { if (threadIdx.x == 0) { asm volatile(\"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\" :: \"r\"(m), \"r\"(1024)); asm volatile(\"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\" :: \"r\"(a), \"l\"(g + round * 256), \"r\"(1024), \"r\"(m)); }\n"
" else asm volatile(\"{ .reg .b64 t; mbarrier.arrive.shared::cta.b64 t, [%0]; }\" :: \"r\"(m)); do asm volatile(\"{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }\" : \"=r\"(ok) : \"r\"(m), \"r\"(round & 1)); while (!ok);\n"
" for (int i = threadIdx.x; i < 256; i += blockDim.x) o[round * 256 + i] = s[255 - i]; __syncthreads(); } }\n#endif\n";

static int fib(int n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static const char *arch;

static void check(int ret, int bad, const char *what)
{
	ok(!ret && !bad, "compute_%s: %s (%d wrong, %d %s)", arch, what, bad, ret, fault_text);
}

#define RUN(kernel, threads, ...) launch(m, kernel, (struct launch_args){ { 1 }, { threads } }, ARGS(__VA_ARGS__))

static void test_memory(struct ptx_module *m)
{
	int *o = dev(1 << 16), bad = 0, ret;
	static const int table[] = { 3, 1, 4, 1, 5, 9, 2, 6 };
	float *x = dev(4096), *y = dev(4096);
	uint8_t *c = dev(512);
	int16_t *s = dev(512);
	uint64_t addr;
	size_t size;

	ret = RUN("k_vars", 64, P(o));
	for (int i = 0; i < 64; i++)
		bad += o[i] != table[i & 7] + 7 + 11;
	check(ret, bad, "variables, their initial values, addresses");
	ok(ptx_module_global(m, "managed", &addr, &size) && size == 4 && *(int *)addr == 11 &&
		   ptx_module_global_is_managed(m, "managed") && !ptx_module_global_is_managed(m, "counter") &&
		   !ptx_module_global(m, "nothing", &addr, &size),
	   "compute_%s: variables by name", arch);
	for (int i = bad = 0; i < 1000; i++)
		x[i] = i;
	ret = launch(m, "k_vec", (struct launch_args){ { 4 }, { 70 } }, ARGS(P(x), P(y), 250));
	for (int i = 0; i < 1000; i++)
		bad += y[i] != (i & ~3) + 3 - (i & 3);
	check(ret, bad, "vectors of four");
	for (int i = bad = 0; i < 128; i++)
		c[i] = i * 37;
	ret = RUN("k_vec_small", 32, P(c), P(s));
	for (int i = 0; i < 32; i++)
		bad += s[2 * i] != c[4 * i] - c[4 * i + 1] || s[2 * i + 1] != (int16_t)(c[4 * i + 2] * c[4 * i + 3]);
	check(ret, bad, "vectors of bytes");
	ret = launch(m, "k_local", (struct launch_args){ { 2 }, { 50 } }, ARGS(P(o), 20));
	for (int t = bad = 0; t < 100; t++) {
		int a[32], v = 0, id = t % 50;

		for (int i = 0; i < 32; i++)
			a[(i * 7 + 20) & 31] = i * id;
		for (int i = 0; i < 20; i++)
			v += a[(i * 5 + id) & 31] * (i + 1);
		bad += o[t] != v;
	}
	check(ret, bad, "local arrays");
	ret = launch(m, "k_dynamic", (struct launch_args){ { 1 }, { 96 }, 96 * 8 }, ARGS(P(o)));
	for (int i = bad = 0; i < 96; i++)
		bad += o[i] != 95 - i - (i ^ 1) + (i & 3) * 100;
	check(ret, bad, "dynamic shared memory beside static");
	for (int i = 0; i < 4; i++)
		((int *)x)[i] = i + 5;
	ret = RUN("k_generic", 32, P(x), P(o));
	for (int i = bad = 0; i < 32; i++)
		bad += o[i] != (i % 3 == 0 ? 26 : i % 3 == 1 ? 6 : 6 * i);
	check(ret, bad, "generic addresses of three spaces at once");
	ret = launch(m, "k_dims", (struct launch_args){ { 3, 2, 2 }, { 5, 3, 2 } }, ARGS(P(o)));
	for (int i = bad = 0; i < 360; i++) {
		int t = i % 30, b = i / 30;

		bad += o[i] != b % 3 + 10 * (b / 3 % 2) + 100 * (b / 6) + 1000 * (t % 5) + 10000 * (t / 5 % 3) +
				       100000 * (t / 15);
	}
	check(ret, bad, "three dimensions");
}

static void test_struct(struct ptx_module *m)
{
	struct {
		int a[7];
		double d;
		short s;
	} b = { { 1, 2, 3, 4, 5, 6, 7 }, 10.5, 100 };
	const struct ptx_kernel *k = ptx_module_kernel(m, "k_struct");
	const struct ptx_kernel_info *info = ptx_kernel_info(k);
	int *o = dev(256), bad = 0, ret, kk = 2;
	struct ptx_launch l = { .grid = { 1, 1, 1 }, .block = { 32, 1, 1 } };
	uint8_t params[128];

	memcpy(params + info->params[0].offset, &b, sizeof(b));
	memcpy(params + info->params[1].offset, &o, 8);
	memcpy(params + info->params[2].offset, &kk, 4);
	l.params = params;
	ret = ptx_launch(k, &l, fault_text);
	for (int i = 0; i < 32; i++)
		bad += o[i] != b.a[(2 + i) % 7] + 10 + 100;
	check(ret, bad, "structure as a parameter");
	ok(info->nparams == 3 && info->params[0].size == sizeof(b) && info->params[1].offset == sizeof(b) &&
		   info->params[2].offset == sizeof(b) + 8 && info->param_bytes == sizeof(b) + 12,
	   "compute_%s: layout of parameters", arch);
}

static void test_calls(struct ptx_module *m)
{
	int *o = dev(4096), bad = 0, ret = RUN("k_recursion", 64, P(o));

	for (int i = 0; i < 64; i++)
		bad += o[i] != fib(i % 15);
	check(ret, bad, "recursion");
	ret = RUN("k_indirect", 100, P(o));
	for (int i = bad = 0; i < 100; i++) {
		int x = i % 12;

		bad += o[i] != (i % 3 == 0 ? 2 * x : i % 3 == 1 ? x * x : fib(x));
	}
	check(ret, bad, "calls through pointers, a different one per lane");
	ret = RUN("k_overflow", 1, P(o));
	ok(ret == 719 || ret == 700, "compute_%s: endless recursion faults: %d %s", arch, ret, fault_text);
}

static uint32_t hash32(uint32_t i)
{
	return i * 2654435761u;
}

static void test_warp(struct ptx_module *m)
{
	uint32_t *o = dev(4096);
	int bad = 0, ret = RUN("k_warp", 32, P(o));

	for (uint32_t i = 0; i < 32; i++) {
		uint32_t *r = o + i * 16, same = 0, want[16] = { hash32(i ^ 5), hash32(i < 3 ? i : i - 3),
			hash32((i & 15) + 7 > 15 ? i : i + 7), hash32(i ^ 9), 0x49249249, 0, 1 };

		for (uint32_t k = 0; k < 32; k++)
			same |= (uint32_t)(k / 5 == i / 5) << k;
		want[7] = same;
		want[8] = 0u;			/* all lanes, and the predicate */
		want[9] = ~0u;
		want[10] = i & 1 ? 0xaaaaaaaa : 0x55;
		want[11] = hash32(i < 16 ? i ^ 3 : i ^ 5);
		want[12] = hash32(i < 31 ? i + 1 : i);
		want[13] = 31;
		want[14] = 8;
		want[15] = 7;
		for (int k = 0; k < 16; k++)
			if (r[k] != want[k]) {
				if (!bad++)
					printf("# lane %u, result %d: %x, not %x\n", i, k, r[k], want[k]);
			}
	}
	check(ret, bad, "shuffles, votes, matches");
	ret = RUN("k_votes", 200, P(o));
	for (int i = bad = 0; i < 200; i++)
		bad += o[i] != 1u + 2 + 29 * 4;
	check(ret, bad, "barriers with a vote");
	ret = launch(m, "k_diverge", (struct launch_args){ { 2 }, { 32 } }, ARGS(P(o), 0));
	int first = 0;

	for (int t = bad = 0; t < 64; t++) {
		int i = t % 32, v = 0;

		for (int k = 0; k <= i % 13; k++) {
			if ((i + k) % 3 == 0) {
				v += k;
			} else if ((i + k) % 3 == 1) {
				for (int j = 0; j < k; j++)
					v += j ^ i;
			} else {
				v ^= k;
			}
			if (v > 500)
				break;
		}
		first = i ? first : v;
		bad += (int)o[t] != v + first;
	}
	check(ret, bad, "parted lanes meet again");
	ret = RUN("k_groups", 64, P(o));
	for (int i = bad = 0; i < 64; i++)
		if (i % 8 == 0)
			bad += (int)o[i] != 8 * i + 28 + 32;
	check(ret, bad, "cooperative groups in a block");
}

static void test_sync(struct ptx_module *m)
{
	int *o = dev(1 << 16), bad = 0, ret, *c = dev(64);

	ret = launch(m, "k_lock", (struct launch_args){ { 6 }, { 48 } }, ARGS(P(c), 3));
	check(ret, *c != 6 * 48 * 3, "a lock that lanes of one warp fight for");
	ret = RUN("k_spin", 64, P(o), P(c));
	check(ret, c[0] != 5, "a thread that waits for another warp");
	ret = RUN("k_exit_some", 64, P(o));
	for (int i = 0; i < 64; i += 2)
		bad += (int)o[i] != 16;
	check(ret, bad, "a barrier after some threads have ended");
	memset(o, 0, 128);
	ret = RUN("k_named", 64, P(o));
	for (int i = bad = 0; i < 32; i++)
		bad += o[i] != 5;
	check(ret, bad, "named barriers: arrive and sync");
	ret = launch(m, "k_grid", (struct launch_args){ { 20 }, { 96 }, 0, true }, ARGS(P(o), P(o + 4096), 1920));
	for (int i = bad = 0; i < 1920; i++)
		bad += o[4096 + i] != 2 * (1919 - (i + 37) % 1920);
	check(ret, bad, "a barrier of the whole grid");
	int64_t *t = dev(64);

	ret = RUN("k_clock", 1, P(t));
	check(ret, t[1] < 500000, "clock, and a sleep");
}

static void test_atomics(struct ptx_module *m)
{
	int *i = dev(64), n = 20 * 130, ret, bad, want6 = 0;
	uint32_t *u = dev(64), max = 0;
	uint64_t *l = dev(64);
	double *d = dev(8);
	float *f = dev(4);

	i[4] = 255;
	for (int t = 0; t < n; t++) {
		want6 ^= t;
		max = (uint32_t)t * 1000003u > max ? (uint32_t)t * 1000003u : max;
	}
	ret = launch(m, "k_atomics", (struct launch_args){ { 20 }, { 130 } }, ARGS(P(i), P(u), P(l), P(f), P(d)));
	bad = (i[0] != n * (n - 1) / 2) + (i[1] != -n * (n - 1) / 2) + (i[2] != 1 - n) + (i[3] != n - 1) + (i[4] != 0) +
	      (i[5] != 0x7fffffff) + (i[6] != want6) + (i[7] < 0 || i[7] >= n) + (u[0] != (uint32_t)n % 100) +
	      (u[1] != (50u - n % 50) % 50) + (u[2] != max) + (l[0] != (uint64_t)n * (n - 1) / 2 << 20) +
	      (l[1] != (uint64_t)(n - 1) << 40) + (l[2] != 77) + (*f != n * 0.5f) + (*d != n * 0.25);
	check(ret, bad, "atomics across blocks");
	ret = RUN("k_shared_atomics", 100, P(i));
	check(ret, i[0] != 4950 || i[1] != 100 || i[2] != 99, "atomics in shared memory");
}

static void test_print(struct ptx_module *m)
{
	static const char want[] =
		"t0 n=   42 one | q ff 0000BEEF 4000000000 -5 -6 7 1.500 2.500000e+00 0x10 % end\n"
		"t1 n=   42 two | q ff 0000BEEF 4000000000 -5 -6 7 1.500 2.500000e+00 0x10 % end\n";
	int ret = RUN("k_printf", 40, 42);

	ok(!ret && !strcmp(printed, want), "compute_%s: printf", arch);
	if (strcmp(printed, want))
		printf("# %s", printed);
	ret = RUN("k_assert", 1, 100);
	ok(!ret && !printed[0], "compute_%s: assert that holds", arch);
	ret = RUN("k_assert", 2, 101);
	ok(ret == 710 && strstr(printed, "void k_assert(int): block: [0,0,0], thread: [0,0,0] Assertion `n == (int)threadIdx.x + 100` failed."),
	   "compute_%s: assert that fails: %d", arch, ret);
	ok(ptx_module_prints(m), "compute_%s: the module prints", arch);
}

static void expect(struct ptx_module *m, const char *kernel, unsigned int threads, int code, const char *in_text,
		   const uint64_t *args, unsigned int n)
{
	int ret = launch(m, kernel, (struct launch_args){ { 1 }, { threads } }, args, n);

	ok(ret == code && strstr(fault_text, kernel) && strstr(fault_text, in_text), "compute_%s: %s faults with %d: %d %s",
	   arch, kernel, code, ret, fault_text);
}

static void test_faults(struct ptx_module *m)
{
	int *o = dev(4096), ret;

	expect(m, "k_oob", 32, 700, "thread (0,0,0)", ARGS(P(o), 1ll << 30));
	expect(m, "k_oob", 32, 700, "illegal", ARGS(P(o), -(1ll << 40)));
	expect(m, "k_oob", 1024, 700, "illegal", ARGS(P(o), 600));
	expect(m, "k_misaligned", 2, 716, "thread (1,0,0)", ARGS(P(o)));
	expect(m, "k_shared_oob", 4, 700, "illegal", ARGS(P(o), 3));
	expect(m, "k_trap", 64, 719, "thread (33,0,0)", ARGS(33));
	expect(m, "k_null", 1, 700, "0x0", ARGS(0));
	ret = RUN("k_deep", 32, P(o), 12);
	check(ret, o[0] != 144, "a launch after faults");
	ret = launch(m, "k_null", (struct launch_args){ { 1 }, { 2048 } }, ARGS(P(o)));
	ok(ret == 1, "compute_%s: too many threads are refused: %d", arch, ret);
}

static void test_inline(struct ptx_module *m)
{
	uint32_t *o = dev(4096);
	int bad = 0, ret = RUN("k_asm", 32, P(o));

	for (uint32_t i = 0; i < 32; i++)
		bad += o[i] != (i < 10 ? 106 : 2) || o[i + 32] != (i > 20 ? 4 : 3) || o[i + 64] != i;
	check(ret, bad, "inline assembly with scopes and guards");
}

static void test_ampere(struct ptx_module *m)
{
	float *f = dev(64);
	uint32_t *o = dev(4096), *g = dev(4096);
	int bad, ret;

	f[0] = 1.5f;
	f[1] = -2;
	ret = RUN("k_bf16", 1, P(f));
	check(ret, f[2] != 3.75f || f[3] != 2 || f[4] != 1.5f, "bfloat16 pairs");
	ret = RUN("k_redux", 32, P(o));
	for (int i = bad = 0; i < 32; i++)
		bad += o[i] != 496u + 31000 + 800000;
	check(ret, bad, "redux");
	for (int i = bad = 0; i < 128; i++)
		g[i] = i;
	ret = RUN("k_async", 32, P(g), P(o));
	for (int i = 0; i < 128; i++)
		bad += o[i] != (uint32_t)(i ^ 4);
	check(ret, bad, "cp.async");
}

static void test_objects(struct ptx_module *m)
{
	int *o = dev(4096), bad = 0, ret = RUN("k_virtual", 64, P(o));
	uint16_t *h = dev(64);

	for (int i = 0; i < 64; i++)
		bad += o[i] != (i & 1 ? i + 7 : i * 5);
	check(ret, bad, "virtual functions");
	ret = RUN("k_by_value", 40, P(o), 3);
	for (int i = bad = 0; i < 40; i++)
		bad += o[i] != 3 * (i & 15) + 9;
	check(ret, bad, "structures passed and returned by value");
	ret = RUN("k_alloca", 40, 10, P(o));
	for (int t = bad = 0; t < 40; t++) {
		int k = 10 + t % 3, s = 5;

		for (int i = 0; i < k; i++)
			s += ((k - 1 - i) * t) ^ i;
		bad += o[t] != s;
	}
	check(ret, bad, "alloca");
	ret = launch(m, "k_half2", (struct launch_args){ { 4 }, { 100 } }, ARGS(P(h)));
	check(ret, h[0] != 0x5e40 || h[1] != 0x5a40, "atomics on packed halves");
}

static void test_hopper(struct ptx_module *m)
{
	int *g = dev(4096), *o = dev(4096), bad = 0, ret;

	for (int i = 0; i < 768; i++)
		g[i] = i;
	ret = RUN("k_bulk", 64, P(g), P(o), 0);
	for (int i = 0; i < 768; i++)
		bad += o[i] != (i | 255) - (i & 255);
	check(ret, bad, "bulk copies and the barriers they complete");
}

static void test_all(const char *which, const char *options, bool ampere)
{
	char *ptx = nvcc(source, which, options);
	struct ptx_module *m;

	arch = which;
	if (!ptx) {
		skip("no nvcc");
		return;
	}
	m = load(arch, ptx);
	if (!m)
		return;
	test_memory(m);
	test_struct(m);
	test_calls(m);
	test_warp(m);
	test_sync(m);
	test_atomics(m);
	test_print(m);
	test_faults(m);
	test_inline(m);
	test_objects(m);
	if (ampere)
		test_ampere(m);
	if (atoi(arch) >= 90)
		test_hopper(m);
	ptx_module_free(m);
	free(ptx);
}

int main(void)
{
	test_all("75", "", false);
	test_all("90", "", true);
	test_all("120", "-lineinfo", true);
	test_all("86", "-G", true);
	return done();
}
