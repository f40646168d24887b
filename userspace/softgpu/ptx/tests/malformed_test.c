// SPDX-License-Identifier: Apache-2.0
/*
 * Text that is not quite PTX: refused with a reason, or, where it is still PTX, run without harm. The sanitizers are
 * the judge. Cut at every token, words exchanged, bytes changed.
 */

#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include "harness.h"

static const char good[] =
	".version 8.0\n.target sm_80\n.address_size 64\n"
	".extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);\n"
	".global .align 4 .u32 v[4] = {1, 2, 3, 4}; .global .u64 pv = generic(v)+4; .const .f32 c = 0f3f800000;\n"
	".global .align 1 .b8 fmt[4] = {37, 100, 10, 0}; .extern .shared .align 16 .b8 dyn[]; .shared .u32 sh[64];\n"
	".func (.param .b32 r) f(.param .b32 x) { .reg .b32 %r<4>; .reg .pred %p; ld.param.b32 %r1, [x]; setp.gt.s32 %p, %r1, 3;\n"
	"@%p bra L; add.s32 %r1, %r1, 1; { .param .b32 a; st.param.b32 [a], %r1; .param .b32 b; call.uni (b), f, (a);\n"
	"ld.param.b32 %r1, [b]; } L: st.param.b32 [r], %r1; ret; }\n"
	".visible .entry k(.param .u64 out, .param .align 4 .b8 s[8]) .maxntid 64, 1, 1 {\n"
	".local .align 8 .b8 depot[16]; .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<12>; .reg .b64 %d<8>; .reg .f32 %f<4>;\n"
	"ld.param.u64 %d1, [out]; ld.param.v2.u32 {%r1, %r2}, [s]; mov.u32 %r3, %tid.x; mul.wide.u32 %d2, %r3, 4;\n"
	"add.s64 %d1, %d1, %d2; mov.u64 %d3, depot; cvta.local.u64 %d4, %d3; st.local.v2.u32 [%d3], {%r3, 7}; mov.u32 %r4, sh;\n"
	"mad.lo.s32 %r4, %r3, 4, %r4; st.shared.u32 [%r4], %r3; bar.sync 0; ld.shared.u32 %r5, [sh+8]; loop: setp.lt.and.u32 %p1|%p2, %r5, 9, !%p3;\n"
	"@%p1 add.u32 %r5, %r5, 1; @%p1 bra loop; shfl.sync.bfly.b32 %r6|%p3, %r5, 1, 31, -1; vote.sync.ballot.b32 %r7, %p3, 0xffffffff;\n"
	"atom.global.add.u32 %r8, [v+4], 1; red.shared.max.s32 [sh], %r8; ld.const.f32 %f1, [c]; fma.rm.ftz.f32 %f2, %f1, %f1, 0f40000000;\n"
	"cvt.rzi.s32.f32 %r9, %f2; mov.b64 {%r10, %r11}, %d1; prmt.b32 %r9, %r9, %r10, 0x3210; setp.eq.u32 %p2, %r3, 0; @%p2 bra P; bra.uni Q;\n"
	"P: { .param .b64 a0; mov.u64 %d5, fmt; cvta.global.u64 %d5, %d5; st.param.b64 [a0], %d5; .param .b64 a1; st.param.b64 [a1], %d4; .param .b32 q;\n"
	"call.uni (q), vprintf, (a0, a1); } Q: mov.u64 %d6, f; { .param .b32 a; st.param.b32 [a], 1; .param .b32 b; proto: .callprototype (.param .b32 _) _ (.param .b32 _);\n"
	"call (b), %d6, (a), proto; ld.param.b32 %r9, [b]; } ts: .branchtargets A, B; and.b32 %r1, %r3, 1; brx.idx %r1, ts; A: add.u32 %r9, %r9, 5; B:\n"
	"st.global.u32 [%d1], %r9; ret; }\n";

static int cancel;

static void on_alarm(int sig)
{
	cancel = 1;
}

static void swallow(void *opaque, const char *text, size_t len)
{
}

static uint32_t *out;
static unsigned int loaded, refused, silent;

static void attempt(const char *text, size_t len)
{
	struct ptx_log log = { load_log, sizeof(load_log), 0 };
	struct itimerval timer = { { 0, 0 }, { 0, 3000 } };
	struct ptx_module *m;
	char *copy = malloc(len ? len : 1);	/* exactly as long, for the sanitizer */
	uint8_t params[4096] = { 0 };

	memcpy(copy, text, len);
	load_log[0] = 0;
	if (ptx_module_load(copy, len, &log, &m)) {
		refused++;
		if (strncmp(load_log, "line ", 5))
			silent++;
		free(copy);
		return;
	}
	free(copy);
	loaded++;
	memcpy(params, &out, 8);
	for (size_t i = 0; i < ptx_module_kernels(m); i++) {
		struct ptx_launch l = { .grid = { 2, 1, 1 }, .block = { 40, 1, 1 }, .params = params, .print = swallow, .cancel = &cancel };
		const struct ptx_kernel *k = ptx_module_kernel_at(m, i);

		if (ptx_kernel_info(k)->param_bytes > sizeof(params))
			continue;
		cancel = 0;
		setitimer(ITIMER_REAL, &timer, NULL);
		ptx_launch(k, &l, fault_text);
	}
	ptx_module_free(m);
}

/* Where tokens begin. */
static unsigned int tokens(unsigned int *at)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < sizeof(good) - 1; i++)
		if (good[i] != ' ' && (i == 0 || strchr(" .,;{}()[]<>|\n:%+@", good[i]) || strchr(" \n,;{}()[]<>|.:+@!", good[i - 1])))
			at[n++] = i;
	return n;
}

static void expect(const char *what, const char *text, int code, const char *reason)
{
	int ret = load_bad(text, strlen(text));

	ok(ret == code && strstr(load_log, reason) && !strncmp(load_log, "line ", 5), "%s: %d %.100s", what, ret,
	   strtok(load_log, "\n"));
}

#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n"

static void test_messages(void)
{
	expect("an empty text", "", 218, ".version");
	expect("a newer PTX", ".version 10.1\n.target sm_80\n", 222, "10.1");
	expect("a newer target", ".version 9.0\n.target sm_130\n", 209, "sm_130");
	expect("32-bit addresses", ".version 8.0\n.target sm_80\n.address_size 32\n", 218, "address_size");
	expect("an unknown instruction", HEAD ".entry k() { .reg .b32 %r<2>;\n wmma.load.a.sync %r1, %r1; }", 218, "line 5: unknown or unsupported instruction 'wmma.load.a.sync'");
	expect("an unknown modifier", HEAD ".entry k() { .reg .b32 %r<2>; add.weird.u32 %r1, %r1, %r1; }", 218, ".weird");
	expect("an undeclared register", HEAD ".entry k() { .reg .b32 %r<2>; add.u32 %r1, %r2, %r1; }", 218, "%r2");
	expect("a register of another size", HEAD ".entry k() { .reg .b32 %r<2>; add.u64 %r1, %r1, %r1; }", 218, ".b32");
	expect("a missing label", HEAD ".entry k() { bra L; }", 218, "'L'");
	expect("a label of another function", HEAD ".entry a() { L: ret; } .entry k() { bra L; }", 218, "'L'");
	expect("a missing function", HEAD ".extern .func other(.param .b64 x); .entry k() { .param .b64 p; call other, (p); ret; }", 218, "other");
	expect("malloc() of a size in 32 bits", HEAD ".extern .func malloc(.param .b32 x); .entry k() { .param .b32 p; call malloc, (p); ret; }", 218, "'malloc'");
	expect("free() of two", HEAD ".extern .func free(.param .b64 x, .param .b64 y); .entry k() { .param .b64 p; call free, (p, p); ret; }", 218, "'free'");
	expect("wrong parameters of a call", HEAD ".func f(.param .b32 x) { ret; } .entry k() { .param .b64 p; call f, (p); ret; }", 218, "'f'");
	expect("two declarations", HEAD ".global .u32 x; .global .u32 x;", 218, "declared twice");
	expect("too much shared memory", HEAD ".entry k() { .shared .b8 s[1000000]; ret; }", 218, "shared memory");
	expect("too much device memory", HEAD ".global .b8 x[1000000000000];", 2, "memory");
	expect("too many registers", HEAD ".entry k() { .reg .b32 %r<2000000000>; ret; }", 218, "registers");
	expect("a parameter read beyond its end", HEAD ".entry k(.param .u32 a) { .reg .b64 %d; ld.param.u64 %d, [a]; }", 218, "'a'");
	expect("a texture in shared memory", HEAD ".shared .texref t;", 218, "variable of the module");
	expect("an unterminated string", HEAD ".pragma \"abc\n;", 218, "string");
	expect("a strange byte", HEAD "\x01", 218, "0x01");
	expect("a store to constants", HEAD ".const .u32 c; .entry k() { .reg .b32 %r; st.const.u32 [c], %r; }", 218, "constant");
	expect("an undefined variable", HEAD ".extern .global .u32 c; .entry k() { .reg .b32 %r; ld.global.u32 %r, [c]; }", 218, "not defined");
	expect("a surface load of eight values", HEAD ".global .surfref s; .entry k() { .reg .b32 %r<9>; suld.b.1d.v8.b32.trap {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [s, {%r0}]; }", 218, "8 values");
	expect("a surface store of eight values", HEAD ".global .surfref s; .entry k() { .reg .b32 %r<9>; sust.b.1d.v8.b32.trap [s, {%r0}], {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}; }", 218, "8 values");
	expect("a surface load of 128 bits", HEAD ".global .surfref s; .entry k() { .reg .b32 %r<2>; .reg .b128 %q; suld.b.1d.b128.trap %q, [s, {%r0}]; }", 218, "not supported");
	expect("endless initial values", HEAD ".global .u32 c[2] = {1,2,3};", 218, "more initial values");
}

static void test_nesting(void)
{
	static char text[200000];
	size_t n = sprintf(text, HEAD ".entry k() { ");

	for (int i = 0; i < 90000; i++)
		text[n++] = '{';
	ok(load_bad(text, n) == 218, "deep nesting of blocks");
	n = sprintf(text, HEAD ".global .u32 x = ");
	for (int i = 0; i < 90000; i++)
		text[n++] = i & 1 ? '(' : '-';
	ok(load_bad(text, n) == 218, "deep nesting of expressions");
	n = sprintf(text, HEAD ".global .u32 x = ");
	for (int i = 0; i < 90000; i++)
		text[n++] = '{';
	ok(load_bad(text, n) == 218, "deep nesting of initial values");
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static unsigned int at[4000];
	unsigned int n = tokens(at), done_ = 0, seed = argc > 1 ? atoi(argv[1]) : 1;
	double limit = argc > 2 ? atof(argv[2]) : 6, start;
	static char text[sizeof(good) * 2];

	signal(SIGALRM, on_alarm);
	out = dev(4096);
	attempt(good, sizeof(good) - 1);
	ok(loaded == 1, "the text that is then broken loads: %s", load_log);
	test_messages();
	test_nesting();

	for (unsigned int i = 0; i < n; i++)
		attempt(good, at[i]);
	ok(!silent, "cut at each of %u tokens: each refusal says why (%u refused, %u ran)", n, refused, loaded);
	loaded = refused = 0;
	srand(seed);
	for (start = now(); now() - start < limit; done_++) {
		size_t len = sizeof(good) - 1;

		memcpy(text, good, sizeof(good));
		for (int k = rand() % 3; k >= 0; k--) {
			unsigned int a = rand() % (n - 1), b = rand() % (n - 1);
			unsigned int la = at[a + 1] - at[a], lb = at[b + 1] - at[b];

			switch (rand() % 4) {
			case 0:		/* a byte */
				text[rand() % len] = " .,;{}()[]<>|\n:%+@!-0123456789abcdefrsux\377"[rand() % 41];
				break;
			case 1:		/* a word lost */
				if (at[a] + la <= len) {
					memmove(text + at[a], text + at[a] + la, len - at[a] - la);
					len -= la;
				}
				break;
			case 2:		/* a word from elsewhere put in */
				if (at[a] <= len && len + lb < sizeof(text)) {
					memmove(text + at[a] + lb, text + at[a], len - at[a]);
					memcpy(text + at[a], good + at[b], lb);
					len += lb;
				}
				break;
			default:	/* a word written over another */
				if (at[a] + lb <= len)
					memcpy(text + at[a], good + at[b], lb);
			}
		}
		attempt(text, len);
	}
	ok(refused && loaded && !silent, "%u mutations from seed %u: %u refused, %u ran", done_, seed, refused, loaded);
	return done();
}
