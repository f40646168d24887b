// SPDX-License-Identifier: Apache-2.0
/* Instructions and forms that compilers rarely emit, written by hand: one kernel each, one thread's results. */

#include <math.h>

#include "harness.h"

#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"
#define DECL "{ .reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<32>; .reg .b64 %d<16>; .reg .f32 %f<16>; .reg .f64 %g<16>;\n"

/* A body that leaves its result in %r0 (or %d0 when wide), and what that must be. */
static void body(const char *name, const char *text, uint64_t want)
{
	char ptx[4096];
	struct ptx_module *m;
	uint64_t *o = dev(64 * 8);
	int ret, bad = 0;

	snprintf(ptx, sizeof(ptx),
		 HEAD ".visible .entry k(.param .u64 out)\n%s"
		 "ld.param.u64 %%d9, [out]; mov.u32 %%r20, %%tid.x; mul.wide.u32 %%d10, %%r20, 8; add.s64 %%d9, %%d9, %%d10;\n"
		 "mov.u64 %%d0, 0; mov.u32 %%r0, 0;\n%s\n"
		 "cvt.u64.u32 %%d11, %%r0; or.b64 %%d0, %%d0, %%d11; st.global.u64 [%%d9], %%d0; ret; }\n", DECL, text);
	m = load(name, ptx);
	if (!m)
		return;
	/* 40 threads: a whole warp and a part of one */
	ret = launch(m, "k", (struct launch_args){ { 1 }, { 40 } }, ARGS(P(o)));
	for (int i = 0; i < 40; i++)
		bad += o[i] != want;
	ok(!ret && !bad, "%s: %llx, want %llx (%d threads wrong, %d %s)", name, (unsigned long long)o[0],
	   (unsigned long long)want, bad, ret, fault_text);
	ptx_module_free(m);
}

static void test_rare(void)
{
	body("vshr with a sum", "mov.u32 %r1, 0x8000; mov.u32 %r2, 4; mov.u32 %r3, 7; vshr.u32.u32.u32.clamp.add %r0, %r1, %r2, %r3;",
	     0x807);
	body("vshr.clamp beyond the width", "mov.u32 %r1, -1; mov.u32 %r2, 33; vshr.u32.u32.u32.clamp %r0, %r1, %r2;", 0);
	body("vadd.sat", "mov.u32 %r1, -5; mov.u32 %r2, 3; vadd.u32.s32.s32.sat %r0, %r1, %r2;", 0);
	body("vmax with a minimum", "mov.u32 %r1, 5; mov.u32 %r2, 9; mov.u32 %r3, 7; vmax.s32.s32.s32.min %r0, %r1, %r2, %r3;", 7);
	body("a register in braces, a policy", "createpolicy.fractional.L2::evict_last.b64 %d1, 1.0; st.global.b64 [%d9], { %d1 };"
	     "mov.u32 %r1, 77; st.global.b32 [%d9], { %r1 }; ld.global.L2::cache_hint.b32 { %r0 }, [%d9 + 0], %d1;", 77);
}

static void test_bits(void)
{
	body("bfe.u32", "bfe.u32 %r0, 0xabcd1234, 8, 12;", 0xd12);
	body("bfe.s32", "bfe.s32 %r0, 0x0000f000, 12, 4;", 0xffffffff);
	body("bfe.s32 beyond the top", "bfe.s32 %r0, 0x80000000, 28, 16;", 0xfffffff8);
	body("bfe.u64", "bfe.u64 %d0, 0xabcd123456789abc, 20, 40;", 0xbcd1234567ull);
	body("bfi.b32", "bfi.b32 %r0, 0xff, 0x12345678, 8, 4;", 0x12345f78);
	body("bfi.b64", "bfi.b64 %d0, 0xff, 0, 60, 8;", 0xf000000000000000ull);
	body("bfind.u32", "bfind.u32 %r0, 0x00012345;", 16);
	body("bfind.s32", "bfind.s32 %r0, -2;", 0);
	body("bfind of zero", "bfind.u32 %r0, 0;", 0xffffffff);
	body("bfind.shiftamt", "bfind.shiftamt.u32 %r0, 0x00012345;", 15);
	body("cnot", "cnot.b32 %r0, 0; cnot.b32 %r1, 5; shl.b32 %r1, %r1, 1; or.b32 %r0, %r0, %r1;", 1);
	body("lop3", "lop3.b32 %r0, 0xf0f0f0f0, 0xcccccccc, 0xaaaaaaaa, 0x96;", 0xf0f0f0f0 ^ 0xcccccccc ^ 0xaaaaaaaa);
	body("shl beyond the width", "mov.u32 %r1, 40; shl.b32 %r0, 1, %r1;", 0);
	body("shr.s32 beyond the width", "mov.u32 %r1, 40; shr.s32 %r0, -8, %r1;", 0xffffffff);
	body("shf.l.clamp", "shf.l.clamp.b32 %r0, 0x12345678, 0x9abcdef0, 40;", 0x12345678);
	body("shf.r.wrap", "shf.r.wrap.b32 %r0, 0x12345678, 0x9abcdef0, 36;", 0x01234567);
	body("prmt", "prmt.b32 %r0, 0x83228100, 0x77665544, 0x7c82;", 0x77000022);
	body("prmt.f4e", "prmt.b32.f4e %r0, 0x33221100, 0x77665544, 1;", 0x44332211);
	body("prmt.b4e", "prmt.b32.b4e %r0, 0x33221100, 0x77665544, 1;", 0x66770011);
	body("prmt.rc16", "prmt.b32.rc16 %r0, 0x33221100, 0, 1;", 0x33223322);
	body("popc, clz of 64", "mov.u64 %d1, 0x00f0000000000001; popc.b64 %r0, %d1; clz.b64 %r1, %d1; mad.lo.u32 %r0, %r1, 100, %r0;", 805);
	body("not, xor, and of predicates",
	     "setp.eq.u32 %p1, 1, 1; setp.eq.u32 %p2, 1, 2; not.pred %p3, %p2; and.pred %p4, %p1, %p3; xor.pred %p5, %p1, %p4;"
	     "or.pred %p6, %p5, %p2; selp.u32 %r0, 1, 0, %p4; @!%p6 add.u32 %r0, %r0, 10;", 11);
}

static void test_integers(void)
{
	body("128-bit addition",
	     "add.cc.u32 %r1, 0xffffffff, 1; addc.cc.u32 %r2, 0xffffffff, 0; addc.u32 %r0, 5, 0;", 6);
	body("128-bit subtraction", "sub.cc.u32 %r1, 0, 1; subc.cc.u32 %r2, 0, 0; subc.u32 %r0, 9, 0;", 8);
	body("a subtraction that borrows nothing sets the carry", "sub.cc.u32 %r1, 5, 3; addc.u32 %r0, 0, 0; sub.cc.u32 %r1, 3, 5;"
	     "addc.u32 %r2, 0, 0; mad.lo.u32 %r0, %r2, 10, %r0;", 1);
	body("carries of 64 bits", "add.cc.u64 %d1, 0xffffffffffffffff, 1; addc.u64 %d0, 0, 0;", 1);
	body("mad.lo.cc, madc.hi",
	     "mad.lo.cc.u32 %r1, 0xffffffff, 0xffffffff, 0xffffffff; madc.hi.u32 %r0, 0xffffffff, 0xffffffff, 0;", 0xffffffff);
	body("mul24", "mul24.lo.u32 %r0, 0xff000003, 5;", 15);
	body("mad24.hi", "mad24.hi.u32 %r0, 0xffffff, 0xffffff, 1;", 0xfffffe01);
	body("mad.hi.s32", "mad.hi.s32 %r0, -4, 0x40000000, 5;", 4);
	body("mul.hi.s16", "mov.u16 %h1, -2; mul.hi.s16 %h2, %h1, 100; cvt.u32.u16 %r0, %h2;", 0xffff);
	body("mad.wide.s16", "mov.u16 %h1, -2; mad.wide.s16 %r0, %h1, 100, 7;", 0xffffff3f);
	body("add.sat", "add.sat.s32 %r0, 0x7fffffff, 5;", 0x7fffffff);
	body("sub.sat", "sub.sat.s32 %r0, 0x80000000, 5;", 0x80000000);
	body("sad.u64", "sad.u64 %d0, 5, 12, 100;", 107);
	body("division by zero", "mov.u32 %r1, 0; div.u32 %r0, 7, %r1;", 0xffffffff);
	body("the most negative by -1", "mov.u32 %r1, -1; div.s32 %r0, 0x80000000, %r1;", 0x80000000);
	body("rem.s32", "rem.s32 %r0, -7, 3;", 0xffffffff);
	body("16 bits", "mov.u16 %h1, 0xfffe; add.u16 %h2, %h1, 5; mul.lo.u16 %h3, %h2, %h1; cvt.u32.u16 %r0, %h3;", 0xfffa);
	body("min.s16", "mov.u16 %h1, -5; min.s16 %h2, %h1, 3; cvt.s32.s16 %r0, %h2;", 0xfffffffb);
	body("dp4a.s32.u32", "dp4a.s32.u32 %r0, 0xff020304, 0x01010101, 10;", 18);
	body("dp2a.hi", "dp2a.hi.u32.u32 %r0, 0x00020003, 0x05040000, 1;", 23);
}

static void test_compare(void)
{
	body("setp with two results", "setp.lt.s32 %p1|%p2, 1, 2; selp.u32 %r0, 1, 0, %p1; @%p2 add.u32 %r0, %r0, 10;", 1);
	body("setp.and", "setp.eq.u32 %p3, 1, 1; setp.lt.and.s32 %p1, 1, 2, %p3; setp.gt.or.s32 %p2, 1, 2, !%p3;"
	     "selp.u32 %r0, 1, 0, %p1; @%p2 add.u32 %r0, %r0, 10;", 1);
	body("unordered comparisons", "mov.f32 %f1, 0f7fc00000; setp.ltu.f32 %p1, %f1, 0f00000000; setp.lt.f32 %p2, %f1, 0f00000000;"
	     "setp.nan.f32 %p3, %f1, %f1; setp.num.f32 %p4, %f1, %f1; setp.ne.f32 %p5, %f1, %f1; setp.neu.f32 %p6, %f1, %f1;"
	     "selp.u32 %r0, 1, 0, %p1; @%p2 add.u32 %r0, %r0, 2; @%p3 add.u32 %r0, %r0, 4; @%p4 add.u32 %r0, %r0, 8;"
	     "@%p5 add.u32 %r0, %r0, 16; @%p6 add.u32 %r0, %r0, 32;", 1 + 4 + 32);
	body("setp.lo, setp.hs", "setp.lo.u32 %p1, 1, 0xffffffff; setp.hs.u32 %p2, 1, 2; selp.u32 %r0, 1, 0, %p1;"
	     "@%p2 add.u32 %r0, %r0, 2;", 1);
	body("set.u32", "set.lt.u32.s32 %r0, -1, 2;", 0xffffffff);
	body("set.f32", "set.lt.f32.s32 %f1, -1, 2; mov.b32 %r0, %f1;", 0x3f800000);
	body("slct", "slct.u32.s32 %r0, 5, 6, -1;", 6);
	body("slct.f32", "mov.f32 %f1, 0f3f800000; slct.u32.f32 %r0, 5, 6, %f1;", 5);
	body("testp", "mov.f32 %f1, 0f7f800000; testp.infinite.f32 %p1, %f1; testp.subnormal.f32 %p2, 0f00000001;"
	     "testp.normal.f32 %p3, %f1; selp.u32 %r0, 1, 0, %p1; @%p2 add.u32 %r0, %r0, 2; @%p3 add.u32 %r0, %r0, 4;", 3);
	body("subnormals flushed in a comparison", "setp.eq.ftz.f32 %p1, 0f00000001, 0f00000000; selp.u32 %r0, 1, 0, %p1;", 1);
	body("isspacep", ".shared .u32 s; .local .u32 l; cvta.shared.u64 %d1, s; mov.u64 %d2, l; cvta.local.u64 %d2, %d2;"
	     "isspacep.shared %p1, %d1; isspacep.local %p2, %d1; isspacep.global %p3, %d9; isspacep.local %p4, %d2;"
	     "selp.u32 %r0, 1, 0, %p1; @%p2 add.u32 %r0, %r0, 2; @%p3 add.u32 %r0, %r0, 4; @%p4 add.u32 %r0, %r0, 8;", 13);
}

static uint32_t f(float v)
{
	uint32_t u;

	memcpy(&u, &v, 4);
	return u;
}

static void test_floats(void)
{
	body("add.sat", "add.sat.f32 %f1, 0f3f800000, 0f3f800000; mov.b32 %r0, %f1;", f(1));
	body("add.ftz", "add.ftz.f32 %f1, 0f00000001, 0f00000001; mov.b32 %r0, %f1;", 0);
	body("no flush without .ftz", "add.f32 %f1, 0f00000001, 0f00000001; mov.b32 %r0, %f1;", 2);
	body("fma.rm", "fma.rm.f32 %f1, 0f3f800001, 0f3f800001, 0f00000000; mov.b32 %r0, %f1;", 0x3f800002);
	body("fma.rp", "fma.rp.f32 %f1, 0f3f800001, 0f3f800001, 0f00000000; mov.b32 %r0, %f1;", 0x3f800003);
	body("NaN is canonical", "mov.f32 %f1, 0fffc12345; add.f32 %f1, %f1, 0f3f800000; mov.b32 %r0, %f1;", 0x7fffffff);
	body("min of NaN and a number", "min.f32 %f1, 0f7fc00000, 0f3f800000; mov.b32 %r0, %f1;", f(1));
	body("min.NaN", "min.NaN.f32 %f1, 0f7fc00000, 0f3f800000; mov.b32 %r0, %f1;", 0x7fffffff);
	body("max of zeros", "max.f32 %f1, 0f80000000, 0f00000000; mov.b32 %r0, %f1;", 0);
	body("max.xorsign.abs", "max.xorsign.abs.f32 %f1, 0fc0400000, 0f3f800000; mov.b32 %r0, %f1;", f(-3));
	body("rcp.approx.ftz", "rcp.approx.ftz.f32 %f1, 0f40800000; mov.b32 %r0, %f1;", f(0.25f));
	body("rcp of zero", "rcp.rn.f32 %f1, 0f80000000; mov.b32 %r0, %f1;", f(-INFINITY));
	body("ex2.approx", "ex2.approx.ftz.f32 %f1, 0f41200000; mov.b32 %r0, %f1;", f(1024));
	body("ex2 of a large number", "ex2.approx.f32 %f1, 0f43800000; mov.b32 %r0, %f1;", f(INFINITY));
	body("ex2 of a small number", "ex2.approx.f32 %f1, 0fc3110000; mov.b32 %r0, %f1;", f(0x1p-145f));
	body("lg2.approx", "lg2.approx.f32 %f1, 0f41000000; mov.b32 %r0, %f1;", f(3));
	body("lg2 of zero", "lg2.approx.f32 %f1, 0f00000000; mov.b32 %r0, %f1;", f(-INFINITY));
	body("cvt.rni.f32", "cvt.rni.f32.f32 %f1, 0f40200000; mov.b32 %r0, %f1;", f(2));
	body("cvt.sat.f32", "cvt.sat.f32.f32 %f1, 0fc0200000; mov.b32 %r0, %f1;", f(0));
	body("cvt.rmi.s32", "cvt.rmi.s32.f32 %r0, 0fc0200000;", (uint32_t)-3);
	body("cvt of NaN to s32", "cvt.rzi.s32.f32 %r0, 0f7fc00000;", 0);
	body("cvt clamps", "cvt.rzi.u8.f32 %h1, 0f44000000; cvt.u32.u16 %r0, %h1;", 255);
	body("cvt.sat.s8.s32", "cvt.sat.s8.s32 %h1, 300; cvt.u32.u16 %r0, %h1;", 127);
	body("cvt.sat.u8.s32", "cvt.sat.u8.s32 %r0, -300;", 0);
	body("cvt.u32.u8 of a wide register", "mov.u32 %r1, 0x1234ff; cvt.u32.u8 %r0, %r1;", 0xff);
	body("cvt.s32.s8 of a wide register", "mov.u32 %r1, 0x123480; cvt.s32.s8 %r0, %r1;", 0xffffff80);
	body("cvt.rp.f32.f64", "cvt.rp.f32.f64 %f1, 0d3ff0000000000001; mov.b32 %r0, %f1;", 0x3f800001);
	body("double to double", "cvt.rpi.f64.f64 %g1, 0d3ff0000000000001; mov.b64 %d0, %g1;", 0x4000000000000000);
	body("copysign", "copysign.f32 %f1, 0fbf800000, 0f40000000; mov.b32 %r0, %f1;", f(-2));
	body("sqrt.rz", "sqrt.rz.f32 %f1, 0f40000000; mov.b32 %r0, %f1;", 0x3fb504f3);
	body("div.full", "div.full.f32 %f1, 0f40c00000, 0f40000000; mov.b32 %r0, %f1;", f(3));
	body("fma.rz.f64", "fma.rz.f64 %g1, 0d3ff0000000000001, 0d3ff0000000000001, 0d0; mov.b64 %d0, %g1;", 0x3ff0000000000002);
	body("pairs of floats", "mov.b32 %r1, 0f40000000; mov.b32 %r2, 0f40400000; mov.b64 %d1, {%r1, %r2}; fma.rn.f32x2 %d0, %d1, %d1, %d1;",
	     0x4140000040c00000);
	body("decimal constants", "add.f32 %f1, 1.5, 2.25; mov.b32 %r0, %f1;", f(3.75f));
	body("half conversions", "cvt.rn.f16.f32 %h1, 0f3fc00000; cvt.f32.f16 %f1, %h1; mov.b32 %r0, %f1;", f(1.5f));
	body("half subnormal", "cvt.rn.f16.f32 %h1, 0f33c00000; cvt.u32.u16 %r0, %h1;", 2);
	body("half toward zero", "cvt.rz.f16.f32 %h1, 0f477fff00; cvt.u32.u16 %r0, %h1;", 0x7bff);
	body("bf16 pair", "cvt.rn.bf16x2.f32 %r0, 0f40000000, 0f3f800000;", 0x40003f80);
	body("f16x2 setp", "mov.b32 %r1, 0x3c004000; mov.b32 %r2, 0x40003c00; setp.lt.f16x2 %p1|%p2, %r1, %r2;"
	     "selp.u32 %r0, 1, 0, %p1; @%p2 add.u32 %r0, %r0, 2;", 2);
	body("fma.relu.f16", "mov.b16 %h1, 0xbc00; mov.b16 %h2, 0x4000; fma.rn.relu.f16 %h3, %h1, %h2, %h1; cvt.u32.u16 %r0, %h3;", 0);
}

/* What 16 bits hold is rounded once, in the direction asked for. */
static void test_rounding(void)
{
	body("cvt.rz.f16.u32", "mov.u32 %r1, 2051; cvt.rz.f16.u32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 0x6801);
	body("cvt.rn.f16.u32", "mov.u32 %r1, 2051; cvt.rn.f16.u32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 0x6802);
	body("cvt.rp.f16.s32", "mov.u32 %r1, -2051; cvt.rp.f16.s32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 0xe801);
	body("cvt.rm.f16.s32", "mov.u32 %r1, -2051; cvt.rm.f16.s32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 0xe802);
	body("cvt.rn.sat.f16.s32", "mov.u32 %r1, 5; cvt.rn.sat.f16.s32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 0x3c00);
	body("cvt.rz.bf16.u32", "mov.u32 %r1, 259; cvt.rz.bf16.u32 %h1, %r1; cvt.u32.u16 %r0, %h1;", 0x4381);
	body("cvt.rn.bf16.u64", "mov.u64 %d1, 0x8080000000000001; cvt.rn.bf16.u64 %h1, %d1; cvt.u32.u16 %r0, %h1;", 0x5f01);
	body("cvt.rn.bf16.s64", "mov.u64 %d1, -0x4040000000000001; cvt.rn.bf16.s64 %h1, %d1; cvt.u32.u16 %r0, %h1;", 0xde81);
	body("cvt.rp.bf16.u64", "mov.u64 %d1, 0x8000000000000001; cvt.rp.bf16.u64 %h1, %d1; cvt.u32.u16 %r0, %h1;", 0x5f01);
	/* products half-way between two bf16: what is added decides */
	body("fma.rn.bf16", "mov.b16 %h1, 0x4040; mov.b16 %h2, 0x3eae; mov.b16 %h3, 0x0080; fma.rn.bf16 %h4, %h1, %h2, %h3;"
	     "mov.b16 %h2, 0x3eb2; mov.b16 %h3, 0x8080; fma.rn.bf16 %h5, %h1, %h2, %h3; mov.b32 %r0, {%h4, %h5};", 0x3f853f83);
	body("slct.ftz", "mov.b32 %f1, 0f80000001; slct.ftz.u32.f32 %r0, 1, 2, %f1;", 1);
	body("slct", "mov.b32 %f1, 0f80000001; slct.u32.f32 %r0, 1, 2, %f1;", 2);
	body("no graph", "mov.u64 %d0, %current_graph_exec;", 0);
	body("setp of a pair", "mov.b32 %r1, 0x3c003c00; mov.b32 %r2, 0x40004000; setp.ne.u32 %p1, %r1, %r1;"
	     "setp.lt.xor.f16x2 %p1|%p2, %r1, %r2, %p1; selp.b32 %r0, 1, 0, %p2;", 1);
}

static void test_control(void)
{
	body("brx.idx", "and.b32 %r1, %tid.x, 3; ts: .branchtargets a, b, c, d; brx.idx %r1, ts; a: mov.u32 %r0, 3; bra e;"
	     "b: mov.u32 %r0, 2; bra e; c: mov.u32 %r0, 1; bra e; d: mov.u32 %r0, 0; e: add.u32 %r0, %r0, %r1;", 3);
	body("guarded exit path", "setp.eq.u32 %p1, 1, 2; @%p1 trap; @%p1 bra end; mov.u32 %r0, 7; end:", 7);
	body("guarded special register", "setp.eq.u32 %p1, 1, 1; @%p1 mov.u32 %r0, %ntid.x; @!%p1 mov.u32 %r0, %clock;", 40);
	body("WARP_SZ", "mov.u32 %r0, WARP_SZ;", 32);
	body("bar.red.popc", "setp.lt.u32 %p1, %tid.x, 33; bar.red.popc.u32 %r0, 0, %p1;", 33);
	body("bar.red.and, or", "setp.lt.u32 %p1, %tid.x, 33; bar.red.and.pred %p2, 0, %p1; bar.red.or.pred %p3, 1, !%p1;"
	     "selp.u32 %r0, 1, 0, %p2; @%p3 add.u32 %r0, %r0, 2;", 2);
	body("local memory by name", ".local .align 8 .b8 l[16]; st.local.u32 [l+4], 77; ld.local.u32 %r0, [l+4];", 77);
	body("local memory, generic", ".local .align 8 .b8 l[16]; st.u32 [l+4], 78; ld.local.u32 %r0, [l+4];", 78);
	body("shared memory by name", ".shared .align 8 .u64 s[2]; st.shared.u64 [s+8], 79; bar.sync 0; ld.shared.u64 %d0, [s+8];", 79);
	body("packing", "mov.b32 %r1, {0x1234, 0x5678}; mov.b32 {%h1, %h2}, %r1; mov.b64 %d1, {%r1, %r1}; mov.b64 {_, %r2}, %d1;"
	     "cvt.u32.u16 %r0, %h2; add.u32 %r0, %r0, %r2;", 0x5678 + 0x56781234);
	body("packing four", "mov.u16 %h1, 1; mov.u16 %h2, 2; mov.b64 %d0, {%h1, %h2, %h1, %h2};", 0x0002000100020001);
	body("registers of a scope", "mov.u32 %r1, 5; { .reg .b32 %r1, t; mov.u32 %r1, 6; mov.u32 t, %r1; mov.u32 %r0, t; } add.u32 %r0, %r0, %r1;", 11);
	body("elect", "elect.sync %r1|%p1, 0xffffffff; mov.u32 %r0, %r1;", 0);
}

static void test_module(void)
{
	static const char text[] = HEAD
		".global .align 4 .u32 a[4] = {1, 2, 3}; .global .u64 pa = a+4; .global .u64 pg = generic(a)+8;\n"
		".const .align 8 .b8 bytes[8] = {0xFF(a), 0xFF00(a), 0xFF0000(a), 0xFF000000(a), 0xFF00000000(a), 0xFF0000000000(a), 0, 0};\n"
		".global .f32 fl = 0f40000000; .global .f64 db[2] = {1.5, -0d4000000000000000}; .global .s8 neg = -1;\n"
		".global .u64 func[2] = {f, 0}; .extern .global .u32 later; .global .u32 later = 9;\n"
		".func (.param .b32 r) f(.param .b32 x) { .reg .b32 %r<2>; ld.param.b32 %r0, [x]; add.u32 %r0, %r0, 1; st.param.b32 [r], %r0; ret; }\n"
		".weak .entry k(.param .u64 .ptr .global .align 8 out, .param .align 8 .b8 st[12]) .reqntid 32, 1, 1 .minnctapersm 2\n"
		"{ .reg .b64 %d<9>; .reg .b32 %r<9>; ld.param.u64 %d1, [out]; ld.param.u32 %r1, [st+8]; ld.global.u64 %d2, [pa];\n"
		"ld.global.u32 %r2, [%d2]; ld.global.u64 %d3, [pg]; ld.u32 %r3, [%d3]; ld.const.u64 %d4, [bytes]; ld.u32 %r4, [%d4];\n"
		"ld.global.u32 %r5, [later]; add.u32 %r1, %r1, %r2; mad.lo.u32 %r1, %r3, 10, %r1; mad.lo.u32 %r1, %r4, 100, %r1; mad.lo.u32 %r1, %r5, 1000, %r1;\n"
		"{ .param .b32 p0; .param .b32 r0; st.param.b32 [p0], %r1; call.uni (r0), f, (p0); ld.param.b32 %r1, [r0]; } st.global.u32 [%d1], %r1; ret; }\n";
	struct ptx_module *m = load("module", text);
	const struct ptx_kernel_info *info;
	uint32_t *o = dev(64);
	uint64_t addr;
	size_t size;
	int ret;

	if (!m)
		return;
	info = ptx_kernel_info(ptx_module_kernel_at(m, 0));
	ok(ptx_module_kernels(m) == 1 && info->nparams == 2 && info->params[1].size == 12 && info->param_bytes == 20 &&
		   info->required[0] == 32 && info->max_threads == 32 && info->ptx_version == 80,
	   "what a kernel tells of itself");
	uint64_t args[2] = { P(o), 0 };
	struct ptx_launch l = { .grid = { 1, 1, 1 }, .block = { 1, 1, 1 } };
	uint8_t params[20] = { 0 };

	memcpy(params, args, 8);
	params[16] = 5;
	l.params = params;
	ret = ptx_launch(ptx_module_kernel(m, "k"), &l, fault_text);
	ok(!ret && *o == 5 + 2 + 30 + 100 + 9000 + 1, "initialisers: addresses, masks, functions (%u, %d %s)", *o, ret, fault_text);
	ok(ptx_module_global(m, "db", &addr, &size) && size == 16 && ((double *)addr)[0] == 1.5 && ((double *)addr)[1] == -2 &&
		   ptx_module_global(m, "neg", &addr, &size) && size == 1 && *(int8_t *)addr == -1 &&
		   ptx_module_global(m, "fl", &addr, &size) && *(float *)addr == 2,
	   "initialisers: numbers");
	ptx_module_free(m);
}

static void test_alias(void)
{
	struct ptx_module *m = load("alias", HEAD
		".func (.param .b32 r) g(.param .b32 x);\n"
		".func (.param .b32 r) f(.param .b32 x) { .reg .b32 %r; ld.param.b32 %r, [x]; add.u32 %r, %r, 41; st.param.b32 [r], %r; ret; }\n"
		".entry k(.param .u64 out) { .reg .b64 %d; .reg .b32 %r; ld.param.u64 %d, [out]; { .param .b32 a, b; st.param.b32 [a], 1;\n"
		"call (b), g, (a); ld.param.b32 %r, [b]; } st.global.u32 [%d], %r; ret; }\n.alias g, f;\n");
	uint32_t *o = dev(64);

	if (!m)
		return;
	ok(!launch(m, "k", (struct launch_args){ { 1 }, { 1 } }, ARGS(P(o))) && *o == 42, "an alias of a function");
	ptx_module_free(m);
}

/* Barriers that cannot complete end the launch with a reason instead of hanging. */
static void test_deadlock(void)
{
	struct ptx_module *m = load("deadlock", HEAD
		".entry k() { .reg .pred %p; setp.lt.u32 %p, %tid.x, 32; @%p bra A; bar.sync 1, 96; A: bar.sync 2, 96; ret; }\n"
		".entry s() { .reg .pred %p; .reg .b32 %r; setp.lt.u32 %p, %tid.x, 5; @%p bra A; bar.warp.sync -1; ret; A: shfl.sync.idx.b32 %r, %r, 0, 31, -1; ret; }\n");
	int ret;

	if (!m)
		return;
	ret = launch(m, "k", (struct launch_args){ { 1 }, { 64 } }, NULL, 0);
	ok(ret == 719 && strstr(fault_text, "deadlock"), "a deadlock is found: %d %s", ret, fault_text);
	ret = launch(m, "s", (struct launch_args){ { 1 }, { 32 } }, NULL, 0);
	ok(!ret, "lanes that never come do not hang a warp: %d %s", ret, fault_text);
	ptx_module_free(m);
}

/* A rare path that lies behind the end: the lanes that took it meet the others in the same turn of the loop. */
static void test_layout(void)
{
	struct ptx_module *m = load("layout", HEAD
		".entry k(.param .u64 out) { .reg .b64 %d<3>; .reg .b32 %r<9>; .reg .pred %p<4>; ld.param.u64 %d1, [out]; mov.u32 %r1, 0; mov.u32 %r3, 0;\n"
		"loop: and.b32 %r2, %r1, 31; setp.eq.u32 %p1, %r2, %tid.x; @%p1 bra rare;\n"
		"back: activemask.b32 %r4; popc.b32 %r4, %r4; add.u32 %r3, %r3, %r4; add.u32 %r1, %r1, 1; setp.lt.u32 %p2, %r1, 64; @%p2 bra loop;\n"
		"mul.wide.u32 %d2, %tid.x, 4; add.s64 %d1, %d1, %d2; st.global.u32 [%d1], %r3; ret;\n"
		"rare: add.u32 %r3, %r3, 1000; bra back; }\n");
	uint32_t *o = dev(256);
	int bad = 0, ret;

	if (!m)
		return;
	ret = launch(m, "k", (struct launch_args){ { 1 }, { 32 } }, ARGS(P(o)));
	for (int i = 0; i < 32; i++)
		bad += o[i] != 64 * 32 + 2000;
	ok(!ret && !bad, "lanes on a rare path meet the others again (%u, want %u)", o[0], 64 * 32 + 2000);
	ptx_module_free(m);
}

/* Whoever comes to a warp-wide operation later takes in those who wait there: no one else would, while others run. */
static void test_meeting(void)
{
	static const char *const ops[] = { "shfl.sync.idx.b32 %r4, %r3, 0, 31, 0xffff", "vote.sync.ballot.b32 %r4, 1, 0xffff",
					   "match.any.sync.b32 %r4, 5, 0xffff", "redux.sync.add.u32 %r4, %r3, 0xffff",
					   "bar.warp.sync 0xffff" };
	static const char before[] = HEAD ".visible .entry k(.param .u64 out)\n" DECL
		".shared .u32 flag; ld.param.u64 %d1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r9, 0;\n"
		"st.volatile.shared.u32 [flag], 0; bar.sync 0; setp.lt.u32 %p1, %r1, 16; @%p1 bra WORK;\n"
		"SPIN: ld.volatile.shared.u32 %r2, [flag]; setp.eq.u32 %p2, %r2, 0; @%p2 bra SPIN; bra DONE;\n"
		"WORK: setp.lt.u32 %p3, %r1, 8; @%p3 bra MEET;\n"
		"LOOP: add.u32 %r9, %r9, 1; setp.lt.u32 %p4, %r9, 20000; @%p4 bra LOOP;\n"
		"MEET: mov.u32 %r3, %r9; ";
	static const char behind[] = "st.volatile.shared.u32 [flag], 1;\n"
		"DONE: mul.wide.u32 %d2, %r1, 4; add.s64 %d2, %d1, %d2; st.global.u32 [%d2], 1; ret; }\n";
	char text[2048];

	for (unsigned int i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct ptx_module *m;
		uint32_t *o = dev(256);
		int ret;

		snprintf(text, sizeof(text), "%s%s; %s", before, ops[i], behind);
		m = load(ops[i], text);
		if (!m)
			continue;
		ret = launch(m, "k", (struct launch_args){ { 1 }, { 32 } }, ARGS(P(o)));
		ok(!ret && o[0] && o[31], "lanes that come to %.*s one after the other meet there", (int)strcspn(ops[i], " "),
		   ops[i]);
		ptx_module_free(m);
	}
}

/* Two halves that each name themselves, one of which waits for the other to go on. */
static void test_two_meetings(void)
{
	struct ptx_module *m = load("two meetings", HEAD ".visible .entry k(.param .u64 out)\n" DECL
		".shared .u32 flag; ld.param.u64 %d1, [out]; mov.u32 %r1, %tid.x;\n"
		"st.volatile.shared.u32 [flag], 0; bar.sync 0; mov.u32 %r5, 0xffff; setp.lt.u32 %p1, %r1, 16;\n"
		"@!%p1 mov.u32 %r5, 0xffff0000; setp.lt.u32 %p2, %r1, 24; @%p2 bra MEET;\n"
		"SPIN: ld.volatile.shared.u32 %r2, [flag]; setp.eq.u32 %p3, %r2, 0; @%p3 bra SPIN;\n"
		"MEET: vote.sync.ballot.b32 %r4, 1, %r5; st.volatile.shared.u32 [flag], 1;\n"
		"mul.wide.u32 %d2, %r1, 4; add.s64 %d2, %d1, %d2; st.global.u32 [%d2], %r4; ret; }\n");
	uint32_t *o = dev(256);
	int ret;

	if (!m)
		return;
	ret = launch(m, "k", (struct launch_args){ { 1 }, { 32 } }, ARGS(P(o)));
	ok(!ret && o[0] == 0xffff && o[16] == 0xffff0000 && o[31] == 0xffff0000,
	   "a half of a warp goes on while the other waits for the rest of itself: %x %x %x", o[0], o[16], o[31]);
	ptx_module_free(m);
}

static void test_wide_initialiser(void)
{
	struct ptx_module *m = load("128 bits", HEAD ".global .align 16 .b128 v[2] = { 5, 6 };\n");
	uint64_t at = 0, *p;
	size_t size;

	if (!m)
		return;
	ptx_module_global(m, "v", &at, &size);
	p = (uint64_t *)(uintptr_t)at;
	ok(size == 32 && p[0] == 5 && !p[1] && p[2] == 6 && !p[3], "initial values of 128 bits: %llx %llx %llx %llx",
	   (unsigned long long)p[0], (unsigned long long)p[1], (unsigned long long)p[2], (unsigned long long)p[3]);
	ptx_module_free(m);
}

static void test_dynamic_shared(void)
{
	struct ptx_module *m = load("dynamic shared memory", HEAD ".extern .shared .align 128 .b8 dyn[];\n"
		".visible .entry k(.param .u64 out)\n" DECL ".shared .u32 s; ld.param.u64 %d1, [out]; mov.u32 %r1, dyn;\n"
		"mov.u32 %r2, 7; st.shared.u32 [s], %r2; st.shared.u32 [dyn+252], %r1; st.global.u32 [%d1], %r1; ret; }\n");
	uint32_t *o = dev(64);
	int ret;

	if (!m)
		return;
	ret = launch(m, "k", (struct launch_args){ { 1 }, { 32 }, 256 }, ARGS(P(o)));
	ok(!ret && o[0] == 128, "dynamic shared memory begins as aligned as it says: at %u (%d %s)", o[0], ret, fault_text);
	ptx_module_free(m);
}

int main(void)
{
	test_alias();
	test_deadlock();
	test_layout();
	test_rare();
	test_bits();
	test_integers();
	test_compare();
	test_floats();
	test_control();
	test_module();
	test_meeting();
	test_two_meetings();
	test_wide_initialiser();
	test_dynamic_shared();
	test_rounding();
	return done();
}
