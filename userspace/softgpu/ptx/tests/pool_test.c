// SPDX-License-Identifier: Apache-2.0
/* Launches from several threads at once, their ends and faults; a launch that is cancelled. */

#include <pthread.h>
#include <unistd.h>

#include "harness.h"

static const char text[] =
	".version 8.0\n.target sm_80\n.address_size 64\n"
	".entry count(.param .u64 out, .param .u32 n) { .reg .b64 %d<4>; .reg .b32 %r<8>; .reg .pred %p; ld.param.u64 %d1, [out]; ld.param.u32 %r1, [n];\n"
	"mov.u32 %r2, 0; L: add.u32 %r2, %r2, 1; setp.lt.u32 %p, %r2, %r1; @%p bra L; atom.global.add.u32 %r3, [%d1], %r2; ret; }\n"
	".entry forever() { .reg .pred %p; L: bra L; }\n"
	".entry meet(.param .u64 at) { .reg .b64 %d; .reg .b32 %r<4>; .reg .pred %p; ld.param.u64 %d, [at]; atom.global.add.u32 %r1, [%d], 1;\n"
	"L: ld.volatile.global.u32 %r2, [%d]; setp.lt.u32 %p, %r2, %nctaid.x; @%p bra L; ret; }\n"
	".entry fault(.param .u64 out) { .reg .b32 %r; .reg .pred %p; setp.eq.u32 %p, %ctaid.x, 77; @%p trap; ret; }\n";

static struct ptx_module *module;
static const struct ptx_kernel *kernel(const char *name)
{
	return ptx_module_kernel(module, name);
}

static void *many(void *arg)
{
	uint32_t *out = dev(64), bad = 0;

	for (uint32_t i = 1; i < 60; i++) {
		uint8_t params[16] = { 0 };
		uint32_t n = i * 7, grid = 1 + i * 5 % 200;
		struct ptx_launch l = { .grid = { grid, 1, 1 }, .block = { 50, 1, 1 }, .params = params };

		memcpy(params, &out, 8);
		memcpy(params + 8, &n, 4);
		*out = 0;
		bad += ptx_launch(kernel("count"), &l, NULL) != 0;
		bad += *out != grid * 50 * n;
	}
	return (void *)(uintptr_t)bad;
}

static int cancel;

static void *cancel_soon(void *arg)
{
	usleep(50000);
	cancel = 1;
	return NULL;
}

int main(void)
{
	struct ptx_launch l = { .grid = { 100, 1, 1 }, .block = { 64, 1, 1 } };
	uint8_t params[8] = { 0 };
	uintptr_t bad = 0;
	pthread_t t[4];
	char fault[256];
	int ret;

	ptx_set_threads(3);
	module = load("module", text);
	if (!module)
		return done();
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, many, NULL);
	for (int i = 0; i < 4; i++) {
		void *r;

		pthread_join(t[i], &r);
		bad += (uintptr_t)r;
	}
	ok(!bad, "launches from four threads at once: %lu wrong", (unsigned long)bad);
	l.params = params;
	ret = ptx_launch(kernel("fault"), &l, fault);
	ok(ret == 719 && strstr(fault, "block (77,0,0)"), "a fault in one of many blocks: %d %s", ret, fault);
	l.cancel = &cancel;
	pthread_create(&t[0], NULL, cancel_soon, NULL);
	ret = ptx_launch(kernel("forever"), &l, fault);
	pthread_join(t[0], NULL);
	ok(!ret, "an endless launch is cancelled: %d %s", ret, fault);
	ptx_set_threads(1);
	l = (struct ptx_launch){ .grid = { 50, 1, 1 }, .block = { 1, 1, 1 }, .params = params };
	uint32_t *at = dev(64);

	memcpy(params, &at, 8);
	ret = ptx_launch(kernel("meet"), &l, fault);
	ok(!ret && *at == 50, "50 blocks that wait for each other on one thread: %d %s", ret, fault);
	ok(!many(NULL), "one thread");
	ok(ptx_instructions() > 1000000, "instructions are counted: %llu", (unsigned long long)ptx_instructions());
	ptx_module_free(module);
	return done();
}
