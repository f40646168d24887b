// SPDX-License-Identifier: Apache-2.0
/* Large modules: kernels are compiled when they are asked for, and what is wrong in one is no other's misfortune. */

#include "harness.h"
#include "../lazy.h"

#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"
#define KERNELS 600

static char *text;
static size_t len, cap;

static void add(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void add(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	len += vsnprintf(text + len, cap - len, fmt, ap);
	va_end(ap);
}

/* Kernels k0..kn that add their number to a variable and leave the sum in *out; @odd goes in front of number 7. */
static struct ptx_module *make(const char *top, const char *odd)
{
	len = 0;
	add(HEAD ".global .align 4 .u32 sum = 1000;\n.shared .align 4 .b8 scratch[64];\n%s"
	    ".func (.param .b32 r) twice(.param .b32 a)\n{ .reg .b32 %%x; ld.param.b32 %%x, [a]; add.u32 %%x, %%x, %%x;\n"
	    "st.param.b32 [r], %%x; ret; }\n", top);
	for (int i = 0; i < KERNELS; i++) {
		if (i == 7)
			add("%s", odd);
		add("// a } in a comment and \"one in a string\"\n.visible .entry k%d(.param .u64 out)\n"
		    ".maxntid 32, 1, 1\n{\n"
		    "\t.reg .b32 %%r<8>; .reg .b64 %%d<4>; .pragma \"} unroll {\";\n", i);
		add("\tld.param.u64 %%d1, [out]; mov.u32 %%r1, %d; atom.global.add.u32 %%r2, [sum], %%r1;\n"
		    "\tadd.u32 %%r3, %%r2, %%r1; st.shared.u32 [scratch], %%r3; ld.shared.u32 %%r4, [scratch];\n"
		    "\t{ .param .b32 p0; .param .b32 p1; st.param.b32 [p0], %%r4; call (p1), twice, (p0);\n"
		    "\tld.param.b32 %%r5, [p1]; }\n"
		    "\tst.global.u32 [%%d1], %%r5; ret; /* } */\n}\n", i);
	}
	add("\n%*s\n", (int)LAZY_TEXT, "");
	return load("a large module", text);
}

static int32_t run_one(struct ptx_module *m, const char *name)
{
	int32_t *o = dev(64);
	int ret = launch(m, name, (struct launch_args){ { 1 }, { 1 } }, ARGS(P(o)));

	return ret ? -ret : o[0];
}

static void test_some(void)
{
	struct ptx_module *m = make("", "");
	const char *name;
	size_t size, n;
	uint64_t address;

	ok(ptx_module_kernels(m) == KERNELS && !ptx_module_kernel(m, "k3"), "%zu kernels, none compiled by loading",
	   ptx_module_kernels(m));
	n = ptx_module_kernel_name(m, 599, &name);
	ok(n == 4 && !memcmp(name, "k599", 4), "they have names");
	ok(run_one(m, "k3") == 2006 && run_one(m, "k599") == 2 * 1602, "two of them run, and share a variable");
	ok(ptx_module_kernel(m, "k3") && !ptx_module_kernel(m, "k4"), "only what was asked for is compiled");
	ok(ptx_module_global(m, "sum", &address, &size) && size == 4 && *(uint32_t *)(uintptr_t)address == 1602,
	   "the variable is where the module says");
	ok(run_one(m, "nothing") == 1, "a name that is not there");
	ptx_module_free(m);
}

static void test_bad_kernel(void)
{
	static const char odd[] = ".visible .entry odd()\n{\n\t.reg .b32 %r<4>;\n\tfrobnicate.u32 %r1, %r2;\n\tret;\n}\n";
	static const char worse[] = ".visible .entry odd()\n{\n\t.reg .b32 %r<4>;\n\tadd.u32 %r1 %r2;\n\tret;\n}\n";
	const struct ptx_kernel *k;
	char buf[256] = "";
	struct ptx_log log = { buf, sizeof(buf), 0 };
	struct ptx_module *m = make("", odd);
	unsigned int line = 0;
	int err = ptx_module_find(m, "odd", &log, &k), newlines = 1;

	sscanf(buf, "line %u", &line);
	for (const char *p = text; p < strstr(text, "frobnicate"); p++)
		newlines += *p == '\n';
	ok(err == 218 && strstr(buf, "frobnicate") && line == (unsigned int)newlines,
	   "a kernel with an unknown instruction: %d %.*s", err, (int)strcspn(buf, "\n"), buf);
	ok(run_one(m, "k8") == 2016, "the others run");
	ptx_module_free(m);
	m = make("", worse);
	buf[0] = 0;
	log.len = 0;
	err = ptx_module_find(m, "odd", &log, &k);
	ok(err == 218 && strstr(buf, "line"), "a kernel with bad syntax: %.*s", (int)strcspn(buf, "\n"), buf);
	ok(run_one(m, "k6") == 2012, "the others run");
	ptx_module_free(m);
}

static void test_strange_texts(void)
{
	struct ptx_module *m = make("", ".section .entry odd { .b32 1 }\n");

	ok(run_one(m, "odd") == 1 && run_one(m, "k3") == 2006, "a section called as if it were a kernel is none");
	ptx_module_free(m);
	m = make("", ".address_size 64 .visible .entry odd(.param .u64 out) { ret; }\n");
	ok(run_one(m, "odd") == 0 && run_one(m, "k3") == 2006, "a kernel on a line that begins as another thing");
	ptx_module_free(m);
}

static void test_bad_module(void)
{
	struct ptx_module *m = make("", "");
	size_t whole = len;

	ptx_module_free(m);
	for (size_t cut = 1; cut < 5; cut++)
		ok(load_bad(text, strlen(text) - LAZY_TEXT - 10 * cut) == 218 || whole < LAZY_TEXT,
		   "a text that ends in the middle of a function is refused when it is loaded: %.60s", load_log);
	text[strlen(HEAD) + 3] = '!';
	ok(load_bad(text, strlen(text)) == 218, "so is one with a bad variable: %.60s", load_log);
}

static void test_function_addresses(void)
{
	struct ptx_module *m = make(".func (.param .b32 r) twice(.param .b32 a);\n.global .u64 table[1] = { twice };\n", "");

	ok(m && ptx_module_kernel(m, "k3"), "functions in a table: the module is compiled as a whole");
	ok(run_one(m, "k3") == 2006, "and runs");
	ptx_module_free(m);
}

static void test_stmatrix(void)
{
	struct ptx_module *m = load("stmatrix", ".version 8.0\n.target sm_90\n.address_size 64\n"
		".visible .entry k(.param .u64 out) { .reg .b32 %r<9>; .reg .b64 %d<4>; .shared .align 16 .b8 s[512];\n"
		"ld.param.u64 %d1, [out]; mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 4; mov.u32 %r3, s; add.u32 %r3, %r3, %r2;\n"
		"mul.lo.u32 %r4, %r1, 0x20002; add.u32 %r4, %r4, 0x10000;\n"
		"stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r3], {%r4}; bar.sync 0;\n"
		"ldmatrix.sync.aligned.x1.m8n8.shared.b16 {%r5}, [%r3];\n"
		"ldmatrix.sync.aligned.x1.trans.m8n8.shared.b16 {%r6}, [%r3];\n"
		"mul.wide.u32 %d2, %r1, 8; add.s64 %d1, %d1, %d2; st.global.v2.u32 [%d1], {%r5, %r6}; ret; }\n");
	uint32_t *o = dev(512);
	int ret = launch(m, "k", (struct launch_args){ { 1 }, { 32 } }, ARGS(P(o))), bad = 0;

	/* element (r, c) of the matrix is 8 r + c */
	for (uint32_t i = 0; i < 32; i++) {
		uint32_t r = i / 4, c = 2 * (i % 4);

		bad += o[2 * i] != (2 * i | (2 * i + 1) << 16);
		bad += o[2 * i + 1] != ((8 * c + r) | (8 * (c + 1) + r) << 16);
	}
	ok(!ret && !bad, "stmatrix, and ldmatrix as older compilers write it: %d wrong", bad);
	ptx_module_free(m);
}

static void test_satfinite(void)
{
	struct ptx_module *m = load("satfinite", ".version 8.0\n.target sm_90\n.address_size 64\n"
		".visible .entry k(.param .u64 out) { .reg .b32 %r<9>; .reg .b64 %d<4>;\n"
		"ld.param.u64 %d1, [out]; mov.u32 %r1, 0x01010101; mov.u32 %r2, 0x7ffffff0;\n"
		"mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32.satfinite {%r3, %r4, %r5, %r6}, {%r1, %r1, %r1, %r1}, {%r1, %r1},"
		" {%r2, %r2, %r2, %r1};\n"
		"st.global.v2.u32 [%d1], {%r3, %r6}; ret; }\n");
	uint32_t *o = dev(64);
	int ret = launch(m, "k", (struct launch_args){ { 1 }, { 32 } }, ARGS(P(o)));

	ok(!ret && o[0] == 0x7fffffff && o[1] == 0x01010101 + 32, "a product of bytes that saturates: %x %x", o[0], o[1]);
	ptx_module_free(m);
}

int main(void)
{
	cap = 2 << 20;
	text = malloc(cap);
	if (!text)
		return 1;
	test_some();
	test_bad_kernel();
	test_strange_texts();
	test_bad_module();
	test_function_addresses();
	test_stmatrix();
	test_satfinite();
	free(text);
	return done();
}
